"""What comes through each child, and a claim in which one of these shares is missing, alone, or carries a factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.adjoints.factors import NEAR, Factor, Factors
from nn.audit.adjoints.mistake import Mistake, Place
from nn.audit.adjoints.probe import Probe
from nn.audit.adjoints.region import Region

EDGES = 400  # edges between a wrong claim and the claims before it that are tried
ALONE = "a share alone"  # the rule of the mistake that nothing else is there
CHILDREN = 16  # of each element of an array of Values


@dataclass(frozen=True)
class Gap:
    """What a claim is off along the directions of a probe, and how far that may be rounding."""

    probe: Probe
    along: Any
    slack: float


@dataclass(eq=False)
class Share:
    """What comes through some edges, or from a node's adjoint as a whole, and what it adds to the claim."""

    words: str
    edges: Sequence[Place] = ()
    node: Any = None
    value: Any = None
    rivals: Sequence[Place] = ()  # the other edges of the same node
    alone: Sequence[tuple[Any, Any]] = ()  # what is added to the adjoints without these

    def times(self, number: float, kind: str, words: str, factor: str | None = None) -> Mistake:
        """The mistake that it carries a factor."""
        if self.node is not None:
            return Mistake(kind, words, "", factor, totals={self.node: lambda adjoint: number * adjoint})
        return Mistake(
            kind, words, "", factor, dict.fromkeys(self.edges, lambda g, part: number * part), rule="a share"
        )


def shares(region: Region, gap: Gap | None = None) -> list[Share]:
    """Those that add something to the claim, the nearest first; gap: only those that may make up for it."""
    found, right, sweep = [], region.right, region.sweep
    for share in _elements(region) if not region.target.whole else _nodes(region):
        share.alone = [(child.operands[i], -sweep.contribution(child, i)) for child, i in share.rivals]
        if gap is not None and not _may_be_off(region, share, gap):
            if share.rivals:
                found.append(share)
            continue
        without = region.after(share.times(0.0, "child-sum", ""))
        if without is not None:
            share.value = right - without
            if share.value.any():
                found.append(share)
    return found


def _may_be_off(region: Region, share: Share, gap: Gap) -> bool:
    """Whether some multiple of a share makes up for the gap."""
    sweep = region.sweep
    if share.node is not None:
        adds = [(share.node, sweep.expected[share.node].value)]
    elif len(share.edges) > 1:
        return True  # one may lie above another
    else:
        adds = [(child.operands[i], sweep.contribution(child, i)) for child, i in share.edges]
    sight = gap.probe.sees(adds)
    if sight is None or not np.isfinite(sight[0]).all() or not np.isfinite(gap.slack):
        return True
    seen, size = sight
    number = float(gap.along @ seen / (seen @ seen)) if seen.any() else 0.0
    within = gap.slack + gap.probe.slack * size * (1.0 + abs(number))
    return bool(np.abs(gap.along - number * seen).max() <= within)


def _nodes(region: Region) -> Iterator[Share]:
    """Per child, per edge where a child has several, per edge further up, and per node that has several edges."""
    sweep, [node] = region.sweep, region.nodes
    yield from _of_node(region, node, "")
    yield from _output(region)
    edges = 0
    for x in region.between():
        edges += len(sweep.children[x])
        if edges > EDGES:
            return
        yield from _of_node(region, x, f" of {sweep.called(x)}")
        if len(sweep.children[x]) > 1:
            yield Share(f"the derivative with respect to {sweep.called(x)}", node=x)
    yield from _alike(region)


def _of_node(region: Region, x: Any, of: str) -> Iterator[Share]:
    every, called = region.sweep.children[x], region.sweep.called
    for child in dict.fromkeys(child for child, _ in every):
        places = [place for place in every if place[0] is child]
        others = [place for place in every if place[0] is not child]
        yield Share(f"what comes through the child {called(child)}{of}", places, rivals=others)
        for _, i in places if len(places) > 1 else ():
            words = f"what comes through operand {i + 1} of the child {called(child)}{of}"
            yield Share(
                words, [(child, i)], rivals=[place for place in every if place[0] is not child or place[1] != i]
            )


def _alike(region: Region) -> Iterator[Share]:
    """All edges of one operation."""
    groups: dict[tuple[Any, int], list[Place]] = {}
    for child, i, _ in [*region.own_edges(), *region.further_edges()]:
        groups.setdefault((child.op, i), []).append((child, i))
    for (op, i), places in groups.items():
        if len(places) > 1:
            yield Share(f"what comes through operand {i + 1} of each {op.name} ({len(places)} places)", places)


def _elements(region: Region) -> Iterator[Share]:
    """Of an array of Values: the first child of every element together, the second, ..."""
    children = [region.sweep.children[node] for node in region.nodes]
    for slot in range(min(max(map(len, children)), CHILDREN)):
        there = [edges[slot] for edges in children if slot < len(edges)]
        words = f"child {slot + 1} of each element, such as {region.sweep.called(there[0][0])}"
        yield Share(f"what comes through {words}", there)
    yield from _alike(region)
    yield from _output(region)


def _output(region: Region) -> Iterator[Share]:
    """All that comes from the output, where a factor of the whole is."""
    output = region.sweep.output
    if output in region.inside and output not in region.members and output not in region.cleared:
        yield Share(f"the derivative with respect to {region.sweep.called(output)}", node=output)


def mistaken(claim: Any, right: Any, found: Sequence[Share], named: Factors) -> Iterator[Mistake]:
    """The mistakes that a share is missing, alone, or carries a factor that has a name."""
    ratios = [_carried(share, claim, right) for share in found]
    for share, number in zip(found, ratios, strict=True):
        if number is not None and abs(number) < NEAR:
            yield share.times(0.0, "child-sum", f"{share.words} is missing")
    for share in found:
        if share.rivals:
            edges = dict.fromkeys(share.rivals, lambda g, part: 0.0 * part)
            yield Mistake("child-sum", f"only {share.words} is there", edges=edges, rule=ALONE, adds=share.alone)
    for share, number in zip(found, ratios, strict=True):
        factor = None if number is None else named.near(number)
        if factor is not None:
            yield share.times(factor.number, "factor", f"{share.words} {factor.carried}", factor.text)


def odd(claim: Any, right: Any, found: Sequence[Share]) -> Iterator[Mistake]:
    """The mistakes that a share carries a factor without a name."""
    for share in found:
        number = _carried(share, claim, right)
        if number:
            factor = Factor(number, f"{number:.6g}", "")
            yield share.times(number, "factor", f"{share.words} {factor.carried}", factor.text)


def _carried(share: Share, claim: Any, right: Any) -> float | None:
    """The factor on a share by which the claim is off; None for a share that cannot make up for it."""
    return None if share.value is None else ratio(share.value, claim - right + share.value)


def _number(share: Share, claim: Any, right: Any) -> float | None:
    """The factor that a share carries in a claim; None for none."""
    return None if share.value is None else ratio(share.value, claim - right + share.value)


def ratio(value: Any, total: Any) -> float | None:
    """The number that total is times the value, by least squares over what is finite; None for none."""
    finite = np.isfinite(value) & np.isfinite(total)
    found = fitted.coefficients([value[finite]], total[finite])
    return None if found is None else float(found[0])
