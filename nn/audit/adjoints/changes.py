"""What a mistake at one edge, at every edge of one operation, or in the sum over the samples makes of a claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.region import Edge, Region
from nn.audit.adjoints.wrong_rules import beside, wrong_rules

PULLS = 40_000  # contributions that are worked out for rules that are wrong wherever an operation stands
NEAR = 60  # edges beyond the claim's own at which other rules are tried one by one
SAMPLES: dict[str, Any] = {
    "only the first sample is there": slice(0, 1),
    "only the last sample is there": slice(-1, None),
    "the first sample is left out": slice(1, None),
    "the last sample is left out": slice(None, -1),
}

Change = tuple[str, str, Any]  # kind, words, what the mistake adds to the right value


def changes(region: Region, right: Any) -> Iterator[Change]:
    """The mistakes that are made above a claim, the nearest first."""
    own, further = region.own_edges(), region.further_edges()
    nearest = [*own, *further[:NEAR]] if region.target.whole else []
    yield from _at_one_edge(region, nearest)
    yield from _everywhere(region, [*own, *further], right)
    yield from _strangers(region, nearest)
    if region.target.whole:
        yield from _samples(region, right)


def _placed(region: Region, words: str, child: Any) -> str:
    where = region.sweep.called(child)
    return f"{words}, on the way to {where}" if child.name else f"{words}, in {where}"


def _at_one_edge(region: Region, edges: Sequence[Edge]) -> Iterator[Change]:
    sweep = region.sweep
    for child, i, x in edges:
        contribution = sweep.contribution(child, i)
        for kind, words, value in wrong_rules(sweep.recorded, child, i, sweep.used[child].value):
            if np.shape(value) == contribution.shape and np.isfinite(value).all():
                yield kind, _placed(region, words, child), region.down({x: value - contribution})


def _everywhere(region: Region, edges: Sequence[Edge], right: Any) -> Iterator[Change]:
    """The same mistake at every edge of one operation: in each step of a recurrent cell, in each element."""
    sweep = region.sweep
    alike: dict[tuple[Any, int], list[Any]] = {}
    for child, i, _ in edges:
        alike.setdefault((child.op, i), []).append(child)
    left = PULLS
    for (op, i), children in sorted(alike.items(), key=lambda group: len(group[1][0].operands)):
        if (len(children) < 2 and region.target.whole) or op.name in ("add", "sub", "neg"):
            continue  # tried already; or nothing but a factor
        rules = [rule[:2] for rule in wrong_rules(sweep.recorded, children[0], i, sweep.used[children[0]].value)]
        where = f"all {len(children)} places" if len(children) > 1 else sweep.called(children[0])
        for kind, words in rules:
            left -= len(edges)
            if left < 0:
                return

            def rule(child: Any, i: int, g: Adjoint, words: str = words) -> Any:
                every = wrong_rules(sweep.recorded, child, i, g.value)
                return next((value for _, text, value in every if text == words), None)

            found = region.swept(rule, op, i)
            if found is not None:
                yield kind, f"{words}, in {where}", found - right


def _strangers(region: Region, edges: Sequence[Edge]) -> Iterator[Change]:
    """A matrix product with the adjoint of a node made from it in the place of its own."""
    sweep = region.sweep
    for child, i, x in edges:
        if child.op is not operations.matmul:
            continue
        g, (values, _) = sweep.used[child].value, sweep.recorded.operands(child)
        if any(value.ndim != 2 for value in values):
            continue
        for further, _ in sweep.children[child]:
            stranger = sweep.used[further].value
            if stranger.shape == g.shape:
                words = f"the derivative with respect to {sweep.called(further)} stands in the place of its own"
                apart = beside(stranger, values[1 - i], i) - beside(g, values[1 - i], i)
                yield "operand", _placed(region, words, child), region.down({x: apart})


def _samples(region: Region, right: Any) -> Iterator[Change]:
    """Some samples only: of everything that was made from the node at once, or of its own rows."""
    sweep, [node] = region.sweep, region.nodes
    for words, keep in SAMPLES.items():
        delta, masked = np.zeros(np.shape(node.data)), False
        for child, i in sweep.children[node]:
            g = sweep.used[child]
            if g.value.ndim and len(g.value) > 1:
                mask = np.zeros((len(g.value), *(1,) * (g.value.ndim - 1)))
                mask[keep] = 1.0
                delta = delta + sweep.contribution(child, i, Adjoint(g.value * (mask - 1), g.bound, g.size))
                masked = True
        if masked:
            yield "batch-sum", words, delta
        if delta.ndim and len(delta) > 1:  # a row per sample here too
            rows = np.array(right)
            rows[keep] = 0.0
            yield "batch-sum", words, -rows
