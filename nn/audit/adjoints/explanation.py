"""The mistakes behind one wrong claim: those of the known ones that yield its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.changes import changes
from nn.audit.adjoints.factors import Factor, Factors
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.shares import mistaken, odd, ratio, shares

MOST = 30  # explanations of one claim that are carried on
UNKNOWN = "it is wrong given the claims before it, in a way not known here"


def explanations(region: Region, claim: Any, right: Adjoint) -> list[Mistake]:
    """Those that yield the claim, the likeliest first; empty where none is known."""
    eps, tiny = region.sweep.recorded.eps, region.sweep.recorded.tiny
    if (~np.isfinite(claim) & np.isfinite(right.value)).any():
        return [Mistake("non-finite", "it is nan or infinite where the right value is finite")]
    found: list[Mistake] = []
    for mistake in known(region, claim, right.value):
        value = region.after(mistake) if mistake.value is None else mistake.value
        if value is not None and right.is_mistaken_for(value, claim, eps, tiny):
            found.append(mistake)
            if len(found) == MOST:
                break
    return found


def known(region: Region, claim: Any, right: Any) -> Iterator[Mistake]:
    """Every mistake known, the likeliest first."""
    if not claim.any():
        yield Mistake("zero", "it is zero throughout", value=claim, at=_operations(region))
    named, own = Factors(region), ratio(right, claim)
    factor = None if own is None else named.near(own)
    if factor is not None:
        yield _carrying(region, factor, right)
    if claim.ndim >= 2 and claim.shape[-1] == claim.shape[-2]:
        yield Mistake("transposed", "it is transposed", value=np.swapaxes(right, -1, -2))
    through = shares(region)
    yield from mistaken(claim, right, through, named)
    yield from changes(region)
    if claim.size > 1:
        if own:
            yield _carrying(region, Factor(own, f"{own:.6g}", ""), right)
        yield from odd(claim, right, through)
        if np.isfinite(right).all():
            rest = (claim - right).flat[0]
            yield Mistake("extra-term", f"a constant {rest:.6g} is added", value=right + rest, rule="a constant")


def _carrying(region: Region, factor: Factor, right: Any) -> Mistake:
    return Mistake(
        "factor", f"it {factor.carried}", "", factor.text, value=factor.number * right, at=_operations(region)
    )


def _operations(region: Region) -> Any:
    """What was made from the claim's node, as far as it makes one kind of it."""
    return tuple((child.op, i) for child, i in region.sweep.children[region.nodes[0]])
