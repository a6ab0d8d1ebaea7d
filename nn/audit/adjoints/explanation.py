"""The mistake behind one wrong claim: the first of the known ones that yields its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.changes import changes
from nn.audit.adjoints.factors import carrying, factors
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.shares import Candidate, mistaken, shares
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import Target
from nn.audit.report import Cause

SURE = ("non-finite", "zero", "unexplained")  # kinds beside which nothing else is looked for


def explained(sweep: Sweep, target: Target, right: Adjoint) -> Cause:
    """The Cause; of several mistakes that yield the same numbers the second is mentioned."""
    region, claim = Region(sweep, target), target.claim
    eps, tiny = sweep.recorded.eps, sweep.recorded.tiny
    found: list[Candidate] = []
    for candidate in _candidates(region, right.value):
        kind, _, _, value = candidate
        if value is not None and not right.is_mistaken_for(value, claim, eps, tiny):
            continue
        if not found or kind != found[0][0]:
            found.append(candidate)
        if len(found) > 1 or kind in SURE:
            break
    kind, words, factor, _ = found[0]
    if len(found) > 1 and found[1][0] != "unexplained" and kind not in SURE:
        words += f" (or: {found[1][1]}; other shapes would tell)"
    worst = right.worst(claim, tiny)
    return Cause(
        target.name, None, (), kind, words, factor, None, _formula(region), None, worst,
        float(claim[worst]), float(right.value[worst]), f"{target.name}: {kind}",
    )  # fmt: skip


def _formula(region: Region) -> str:
    """The sum over the children that the right value is."""
    sweep, name = region.sweep, region.target.name
    if not region.target.whole:
        return f"d{name}[...] = the sum over the children of each element"
    children = list(dict.fromkeys(child for child, _ in sweep.children[region.nodes[0]]))
    parts = [f"what comes through {sweep.called(child)}" for child in children[:4]]
    more = ["..."] if len(children) > 4 else []
    return f"d{name} = " + (" + ".join([*parts, *more]) or "1")


def _candidates(region: Region, right: Any) -> Iterator[Candidate]:
    """Every mistake known, the likeliest first, and in the end that none is known; without a value where it is sure."""
    claim = region.target.claim
    if (~np.isfinite(claim) & np.isfinite(right)).any():
        yield "non-finite", "it is nan or infinite where the right value is finite", None, None
    if not claim.any():
        yield "zero", "it is zero throughout", None, None
    named = factors(region)
    for number, factor in named.items():
        yield "factor", f"it {carrying(factor)}", factor[0], number * right
    if claim.ndim >= 2 and claim.shape[-1] == claim.shape[-2]:
        yield "transposed", "it is transposed", None, np.swapaxes(right, -1, -2)
    through = list(shares(region))
    yield from mistaken(right, through, named)
    for kind, words, delta in changes(region, right):
        yield kind, words, None, right + delta
    if claim.size > 1:
        yield from _fitted(claim, right, through)
    yield "unexplained", "it is wrong given the claims before it, in a way not known here", None, None


def _fitted(claim: Any, right: Any, through: list[tuple[str, Any]]) -> Iterator[Candidate]:
    """The mistakes with a number of their own, which the claim tells."""
    ratio = _ratio(right, claim)
    if ratio is not None:
        yield "factor", f"it carries a factor {ratio:.6g}", f"{ratio:.6g}", ratio * right
    for words, share in through:
        ratio = _ratio(share, claim - right + share)
        if ratio is not None:
            value = right + (ratio - 1) * share
            yield "factor", f"what comes through {words} carries a factor {ratio:.6g}", f"{ratio:.6g}", value
    if np.isfinite(right).all():
        rest = (claim - right).flat[0]
        yield "extra-term", f"a constant {rest:.6g} is added", None, right + rest


def _ratio(value: Any, total: Any) -> float | None:
    """The number that total is times the value, by least squares over what is finite; None for none."""
    finite = np.isfinite(value) & np.isfinite(total)
    found = fitted.coefficients([value[finite]], total[finite])
    return float(found[0]) if found is not None and found[0] else None
