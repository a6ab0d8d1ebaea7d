"""What comes through each child, and a claim in which one of these shares is missing, alone, or carries a factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nn.audit.adjoints.factors import Named, carrying
from nn.audit.adjoints.region import Region

EDGES = 400  # edges between a wrong claim and the claims before it that are tried
CHILDREN = 16  # of each element of an array of Values

Share = tuple[str, Any]  # (through what, what it adds to the claim)
Candidate = tuple[str, str, str | None, Any]  # kind, words, factor, value


def shares(region: Region) -> Iterator[Share]:
    """Per child, per edge where a child has several, and per edge further up."""
    if not region.target.whole:
        yield from _shares_of_elements(region)
        return
    sweep, [node] = region.sweep, region.nodes
    positions: dict[Any, list[int]] = {}
    for child, i in sweep.children[node]:
        positions.setdefault(child, []).append(i)
    for child, places in positions.items():
        parts = [region.through(child, i) for i in places]
        yield f"the child {sweep.called(child)}", np.asarray(sum(parts))
        for i, part in zip(places, parts, strict=True):
            if len(places) > 1:
                yield f"operand {i + 1} of the child {sweep.called(child)}", part
    for child, i, x in region.further_edges()[:EDGES]:
        yield f"the child {sweep.called(child)} of {sweep.called(x)}", region.through(child, i)


def _shares_of_elements(region: Region) -> Iterator[Share]:
    """Of an array of Values: the first child of every element together, the second, ..."""
    children = [region.sweep.children[node] for node in region.nodes]
    for slot in range(min(max(map(len, children)), CHILDREN)):
        # an element with fewer children has no such share
        there = [edges[slot] if slot < len(edges) else None for edges in children]
        parts = [np.zeros(()) if edge is None else region.sweep.contribution(*edge) for edge in there]
        first = next(edge[0] for edge in there if edge is not None)
        words = f"child {slot + 1} of each element, such as {region.sweep.called(first)}"
        yield words, region.target.stacked(parts)


def mistaken(right: Any, found: Sequence[Share], factors: Named) -> Iterator[Candidate]:
    """What a claim would be with one share missing, alone, or with a factor that has a name."""
    for words, share in found:
        yield "child-sum", f"what comes through {words} is missing", None, right - share
    if len(found) > 1:
        for words, share in found:
            yield "child-sum", f"only what comes through {words} is there", None, share
    for words, share in found:
        for number, factor in factors.items():
            yield "factor", f"what comes through {words} {carrying(factor)}", factor[0], right + (number - 1) * share
