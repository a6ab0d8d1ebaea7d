"""The mistakes behind one wrong claim: those of the known ones that yield its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.blocks import in_blocks, in_blocks_with
from nn.audit.adjoints.changes import changes
from nn.audit.adjoints.factors import Factor, Factors
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.places import in_every_place
from nn.audit.adjoints.pool import Pool
from nn.audit.adjoints.probe import Probe
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.shares import Gap, mistaken, odd, ratio, shares
from nn.audit.adjoints.stand_ins import multiplied, stand_ins

MOST = 30  # explanations of one claim that are carried on
BLIND = 20  # tries that one is worth that needs a sweep to be seen
FEW = 3  # numbers that a free one is fitted to say nothing
UNKNOWN = "it is wrong given the claims before it, in a way not known here"


def explanations(region: Region, claim: Any, right: Adjoint, likely: bool = False) -> list[Mistake]:
    """Those that yield the claim, the likeliest first; empty where none is known. likely: only those with a name."""
    if (~np.isfinite(claim) & np.isfinite(right.value)).any():
        return [Mistake("non-finite", "it is nan or infinite where the right value is finite")]
    members = set(region.nodes)
    sight, found = Sight(region, claim, right), list[Mistake]()
    for stage in (known,) if likely else (known, strange, free):
        for mistake in stage(region, claim, right.value, sight.gap):
            if sight.is_meant(mistake):
                found.append(mistake)
                if len(found) == MOST:
                    break
        # one that is made further up may be another one there, and other claims tell
        if any(mistake.changed <= members for mistake in found) or (found and stage is strange):
            break
    return found


class Sight:
    """A wrong claim, and whether a mistake yields it: first along a few directions, then in every element."""

    def __init__(self, region: Region, claim: Any, right: Adjoint) -> None:
        self.region, self.claim, self.right = region, claim, right
        probe = Probe(region)
        ends, sizes = np.abs(probe.directions[0]), np.abs(claim) + np.abs(right.value)
        slack = probe.slack * float((ends * sizes).sum()) + 512.0 * float((ends * right.bound).sum())
        self.gap = Gap(probe, probe.along(claim - right.value), slack)

    def is_meant(self, mistake: Mistake) -> bool:
        """Whether the claim is what the mistake makes of it."""
        recorded, gap = self.region.sweep.recorded, self.gap
        recorded.tries -= 1
        seen = gap.probe.sees(mistake.adds) if mistake.adds else None
        if seen is None and mistake.adds:
            recorded.tries -= BLIND
        if seen is not None and np.isfinite(gap.slack):
            added, size = seen
            if not np.abs(added - gap.along).max() <= gap.slack + gap.probe.slack * size:
                return False
        value = self.region.after(mistake) if mistake.value is None else mistake.value
        return value is not None and self.right.is_mistaken_for(value, self.claim, recorded.eps, recorded.tiny)


def known(region: Region, claim: Any, right: Any, gap: Gap | None = None) -> Iterator[Mistake]:
    """The mistakes with a name, the likeliest first."""
    if not claim.any():
        yield Mistake("zero", "it is zero throughout", value=claim, at=_operations(region))
    named, own = Factors(region), ratio(right, claim)
    factor = None if own is None else named.near(own)
    if factor is not None:
        yield _carrying(region, factor, right)
    if claim.ndim >= 2 and claim.shape[-1] == claim.shape[-2]:
        yield Mistake("transposed", "it is transposed", value=np.swapaxes(right, -1, -2))
    yield from mistaken(claim, right, shares(region, gap), named)
    yield from in_blocks(region)
    yield from changes(region)


def strange(region: Region, claim: Any, right: Any, gap: Gap | None = None) -> Iterator[Mistake]:
    """Those that put another array of the graph in the place of the right one."""
    if region.sweep.recorded.tries < 0:
        return
    pool = Pool(region.sweep)
    yield from stand_ins(region, pool)
    yield from in_blocks_with(region, pool)
    yield from in_every_place(region, pool)
    yield from multiplied(region, pool)


def free(region: Region, claim: Any, right: Any, gap: Gap | None = None) -> Iterator[Mistake]:
    """Those with a number of their own, where the claim has numbers enough to tell that it is one."""
    if claim.size < FEW or np.ptp(claim) <= 1e-12 * np.abs(claim).max():
        return
    own = ratio(right, claim)
    if own:
        yield _carrying(region, Factor(own, f"{own:.6g}", ""), right)
    yield from odd(claim, right, shares(region, gap))
    if np.isfinite(right).all():
        rest = (claim - right).flat[0]
        yield Mistake("extra-term", f"a constant {rest:.6g} is added", value=right + rest, rule="a constant")
        if region.target.whole and region.nodes[0].op is None:
            yield from _decay(region, claim, right)


def _decay(region: Region, claim: Any, right: Any) -> Iterator[Mistake]:
    """The value of the node itself is added, as weight decay is."""
    value = region.sweep.recorded.data[region.nodes[0]]
    number = ratio(value, claim - right)
    if number:
        words = f"{number:.6g} times its own value is added, as by weight decay"
        yield Mistake("extra-term", words, "", f"{number:.6g}", value=right + number * value, rule="its own value")


def _carrying(region: Region, factor: Factor, right: Any) -> Mistake:
    return Mistake(
        "factor", f"it {factor.carried}", "", factor.text, value=factor.number * right, at=_operations(region)
    )


def _operations(region: Region) -> Any:
    """What was made from the claim's node, as far as it makes one kind of it."""
    return tuple((child.op, i) for child, i in region.sweep.children[region.nodes[0]])
