"""Wrong rules above a claim: at one edge, at every edge of one operation, in an adjoint, or in the sum over samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import operations
from nn.audit.adjoints.mistake import Mistake, Place, Rule, Total
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


def changes(region: Region) -> Iterator[Mistake]:
    """The mistakes that are made above a claim, the nearest first."""
    own, further = region.own_edges(), region.further_edges()
    nearest = [*own, *further[:NEAR]] if region.target.whole else []
    yield from _at_one_edge(region, nearest)
    yield from _everywhere(region, [*own, *further])
    yield from _strangers(region, nearest)
    yield from _skipped(region)
    yield from _samples(region)
    yield from _turned(region)


def _placed(region: Region, child: Any) -> str:
    where = region.sweep.called(child)
    return f", on the way to {where}" if child.name else f", in {where}"


@dataclass
class _Known:
    """The wrong rule of one edge that these words name; what it yields for one upstream is known."""

    region: Region
    child: Any
    i: int
    words: str
    g: Any = None
    value: Any = None

    def __call__(self, g: Any, part: Any) -> Any:
        if g is self.g:
            return self.value
        every = wrong_rules(self.region.sweep.recorded, self.child, self.i, g)
        return next((value for _, words, value in every if words == self.words), None)


def _at_one_edge(region: Region, edges: Sequence[Edge]) -> Iterator[Mistake]:
    sweep = region.sweep
    for child, i, x in edges:
        g = sweep.used[child].value
        for kind, words, value in wrong_rules(sweep.recorded, child, i, g):
            if np.shape(value) == np.shape(x.data) and np.isfinite(value).all():
                rule = _Known(region, child, i, words, g, value)
                yield Mistake(kind, words, _placed(region, child), edges={(child, i): rule})


def _everywhere(region: Region, edges: Sequence[Edge]) -> Iterator[Mistake]:
    """The same mistake at every edge of one operation: in each step of a recurrent cell, in each element."""
    sweep = region.sweep
    alike: dict[tuple[Any, int], list[Any]] = {}
    for child, i, _ in edges:
        alike.setdefault((child.op, i), []).append(child)
    left = PULLS
    for (op, i), children in sorted(alike.items(), key=lambda group: len(group[1][0].operands)):
        if (len(children) < 2 and region.target.whole) or op.name in ("add", "sub", "neg"):
            continue  # tried already; or nothing but a factor
        first = children[0]
        where = f", in all {len(children)} places" if len(children) > 1 else f", in {sweep.called(first)}"
        for kind, words, _ in list(wrong_rules(sweep.recorded, first, i, sweep.used[first].value)):
            left -= len(edges)
            if left < 0:
                return
            rules: dict[Place, Rule] = {(child, i): _Known(region, child, i, words) for child in children}
            yield Mistake(kind, words, where, edges=rules)


def _strangers(region: Region, edges: Sequence[Edge]) -> Iterator[Mistake]:
    """A matrix product with the adjoint of a node made from it in the place of its own."""
    sweep = region.sweep
    for child, i, _ in edges:
        if child.op is not operations.matmul:
            continue
        g, (values, _) = sweep.used[child].value, sweep.recorded.operands(child)
        if any(value.ndim != 2 for value in values):
            continue
        for further, _ in sweep.children[child]:
            stranger = sweep.used[further].value
            if stranger.shape == g.shape:
                words = f"the derivative with respect to {sweep.called(further)} stands in the place of its own"
                value = beside(stranger, values[1 - i], i)
                yield Mistake(
                    "operand",
                    words,
                    _placed(region, child),
                    edges={(child, i): _put(value)},
                    rule="the adjoint of another node",
                )


def _skipped(region: Region) -> Iterator[Mistake]:
    """The adjoint of a node that was made from this one in several steps, handed on as it came."""
    sweep, tried = region.sweep, 0
    for node in (*region.nodes, *region.between()[:NEAR]) if region.target.whole else ():
        seen, pending = set[Any](), [node]
        for x in pending:
            for child, _ in sweep.children[x]:
                if child in seen or np.shape(child.data) != np.shape(node.data) or not np.ndim(node.data):
                    continue
                seen.add(child)
                if child in region.inside:
                    pending.append(child)
                tried += x is not node
                if x is not node and tried < NEAR:
                    called = f"the derivative with respect to {sweep.called(child)}"
                    it = "it" if node in region.members else f"the derivative with respect to {sweep.called(node)}"
                    rules: dict[Any, Total] = {node: _put(sweep.used[child].value)}
                    yield Mistake("operand", f"{it} is {called} as it came", totals=rules, rule="as it came")


def _put(value: Any) -> Any:
    return lambda *right: value


def _samples(region: Region) -> Iterator[Mistake]:
    """Some samples only: of everything that was made from the node at once, or of its own rows."""
    sweep = region.sweep
    for node in (*region.nodes, *region.between()[:NEAR]) if region.target.whole else ():
        own = node in region.members
        where = "" if own else f", in the derivative with respect to {sweep.called(node)}"
        for words, keep in SAMPLES.items():
            edges: dict[Place, Rule] = {}
            for child, i in sweep.children[node] if own else ():
                g = sweep.used[child].value
                if g.ndim and len(g) > 1:
                    edges[child, i] = _masked(region, child, i, _mask(g, keep))
            if edges:
                yield Mistake("batch-sum", words, where, edges=edges, rule=words)
            if np.ndim(node.data) and len(node.data) > 1:  # a row per sample here too
                yield Mistake("batch-sum", words, where, totals={node: _times(_mask(node.data, keep))}, rule=words)


def _mask(array: Any, keep: slice) -> Any:
    mask = np.zeros((len(array), *(1,) * (np.ndim(array) - 1)))
    mask[keep] = 1.0
    return mask


def _masked(region: Region, child: Any, i: int, mask: Any) -> Rule:
    return lambda g, part: region.sweep.right_parts(child, g * mask)[i]


def _times(mask: Any) -> Total:
    return lambda adjoint: mask * adjoint


def _turned(region: Region) -> Iterator[Mistake]:
    """An adjoint that nobody claimed is transposed."""
    for node in region.between()[:NEAR]:
        shape = np.shape(node.data)
        if len(shape) >= 2 and shape[-1] == shape[-2] > 1:
            words = f"the derivative with respect to {region.sweep.called(node)} is transposed"
            yield Mistake(
                "transposed", words, totals={node: lambda adjoint: np.swapaxes(adjoint, -1, -2)}, rule="turned"
            )
