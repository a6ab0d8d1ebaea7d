"""Wrong rules above a claim: at one edge, at every edge of one operation, in an adjoint, or in the sum over samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.adjoints.mistake import Mistake, Place, Rule, Total
from nn.audit.adjoints.region import Edge, Region
from nn.audit.adjoints.wrong_rules import wrong_rules

PULLS = 40_000  # contributions that are worked out for rules that are wrong wherever an operation stands
NEAR = 60  # edges beyond the claim's own at which other rules are tried one by one
MOST_AXES = 3  # axes of which only a part may be kept
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
    yield from _skipped(region)
    yield from _samples(region)
    yield from _turned(region)


def placed(region: Region, child: Any) -> str:
    """Where an edge is, in words."""
    where = region.sweep.called(child)
    return f", on the way to {where}" if child.name else f", in {where}"


@dataclass
class _Known:
    """The wrong rule of one edge that these words name; what it yields for one upstream is known."""

    region: Region
    child: Any
    i: int
    words: str
    g: Any
    value: Any

    def __call__(self, g: Any, part: Any) -> Any:
        if g is self.g:
            return self.value
        every = wrong_rules(self.region.sweep.recorded, self.child, self.i, g)
        return next((value for _, words, value in every if words == self.words), None)


def _at_one_edge(region: Region, edges: Sequence[Edge]) -> Iterator[Mistake]:
    sweep = region.sweep
    for child, i, x in edges:
        g = sweep.used[child].value
        right = sweep.contribution(child, i)
        is_square = child.op.name == "mul" and child.operands[0] is child.operands[1] and i == 0
        if is_square:
            yield Mistake(
                "operand",
                "the local derivative of the square is missing",
                placed(region, child),
                edges={(child, 0): _whole, (child, 1): _nothing},
                adds=[(x, g - 2.0 * right)],
            )
        for kind, words, value in wrong_rules(sweep.recorded, child, i, g):
            if np.shape(value) == np.shape(x.data) and np.isfinite(value).all():
                kind, factor = _or_factor(kind, value, right)
                rules: dict[Place, Rule] = {(child, i): _Known(region, child, i, words, g, value)}
                where, adds = placed(region, child), [(x, value - right)]
                yield Mistake(kind, words, where, factor, edges=rules, adds=adds)
                if is_square:  # a product with itself is differentiated at once
                    rules = {**rules, (child, 1): rules[child, i]}
                    yield Mistake(kind, words, where, factor, edges=rules, adds=[*adds, *adds])


def _whole(g: Any, part: Any) -> Any:
    return g


def _nothing(g: Any, part: Any) -> Any:
    return 0.0 * part


def _or_factor(kind: str, value: Any, right: Any) -> tuple[str, str | None]:
    """The kind of a wrong rule, and its factor where all that it does is to multiply the right one with a number."""
    if np.size(value) < 2 or kind != "operand" or not right.any():
        return kind, None
    first = np.argmax(np.abs(right))
    number = float(value.flat[first] / right.flat[first])
    if number in (0.0, 1.0) or not np.allclose(value, number * right, rtol=1e-12, atol=0.0):
        return kind, None
    return "factor", f"{number:.6g}"


def _everywhere(region: Region, edges: Sequence[Edge]) -> Iterator[Mistake]:
    """The same mistake at every edge of one operation: in each step of a recurrent cell, in each element."""
    sweep = region.sweep
    alike: dict[tuple[Any, int], list[Edge]] = {}
    for edge in edges:
        alike.setdefault((edge[0].op, edge[1]), []).append(edge)
    left = PULLS
    for (op, i), group in sorted(alike.items(), key=lambda group: len(group[1][0][0].operands)):
        if (len(group) < 2 and region.target.whole) or op.name in ("add", "sub", "neg"):
            continue  # tried already; or nothing but a factor
        left -= len(group)
        if left < 0:
            return
        first = group[0][0]
        where = f", in all {len(group)} places" if len(group) > 1 else f", in {sweep.called(first)}"
        upstreams = [sweep.used[child].value for child, _, _ in group]
        every = [
            {words: (kind, value) for kind, words, value in wrong_rules(sweep.recorded, child, i, g)}
            for (child, _, _), g in zip(group, upstreams, strict=True)
        ]
        rights = [sweep.contribution(child, i) for child, _, _ in group]
        in_series = region.in_series(group)
        for words, (kind, _) in every[0].items():
            values = [rules.get(words, (kind, None))[1] for rules in every]
            if any(np.shape(v) != np.shape(x.data) or v is None for v, (_, _, x) in zip(values, group, strict=True)):
                continue
            rules: dict[Place, Rule] = {
                (child, i): _Known(region, child, i, words, g, value)
                for (child, _, _), g, value in zip(group, upstreams, values, strict=True)
            }
            adds = [(x, value - right) for (_, _, x), value, right in zip(group, values, rights, strict=True)]
            yield Mistake(kind, words, where, edges=rules, adds=[] if in_series else adds)


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
                    value = sweep.used[child].value
                    rules: dict[Any, Total] = {node: put(value)}
                    yield Mistake(
                        "operand",
                        f"{it} is {called} as it came",
                        totals=rules,
                        rule="as it came",
                        adds=[(node, value - sweep.expected[node].value)],
                    )


def put(value: Any) -> Any:
    """The rule or total that is this value, whatever is right."""
    return lambda *right: value


def _samples(region: Region) -> Iterator[Mistake]:
    """Some samples only: of everything that was made from the node at once, or of its own rows."""
    sweep = region.sweep
    for node in (*region.nodes, *region.between()[:NEAR]) if region.target.whole else ():
        own = node in region.members
        where = "" if own else f", in the derivative with respect to {sweep.called(node)}"
        right = sweep.expected[node].value
        for words, keep in SAMPLES.items():
            for axis in range(MOST_AXES if own else 0):
                yield from _masked(region, node, words, keep, axis)
            if np.ndim(node.data) and len(node.data) > 1:  # a row per sample here too
                mask = _mask(node.data, keep, 0)
                yield Mistake(
                    "batch-sum",
                    words,
                    where,
                    totals={node: _times(mask)},
                    rule=words,
                    adds=[(node, (mask - 1.0) * right)],
                )


def _masked(region: Region, node: Any, words: str, keep: slice, axis: int) -> Iterator[Mistake]:
    """Everything that was made from a node, where an axis of it is kept in part."""
    sweep = region.sweep
    edges: dict[Place, Rule] = {}
    added = np.zeros(np.shape(node.data))
    for child, i in sweep.children[node]:
        g = sweep.used[child].value
        if g.ndim > axis and g.shape[axis] > 1:
            mask = _mask(g, keep, axis)
            edges[child, i] = _of_masked(region, child, i, mask)
            added = added + edges[child, i](g, None) - sweep.contribution(child, i)
    if edges:
        words = words.replace("sample", f"element along axis {axis}") if axis else words
        yield Mistake("batch-sum", words, "", edges=edges, rule=words, adds=[(node, added)])


def _mask(array: Any, keep: slice, axis: int) -> Any:
    mask = np.zeros([n if k == axis else 1 for k, n in enumerate(np.shape(array))])
    mask[(*(slice(None),) * axis, keep)] = 1.0
    return mask


def _of_masked(region: Region, child: Any, i: int, mask: Any) -> Rule:
    return lambda g, part: region.sweep.right_parts(child, g * mask)[i]


def _times(mask: Any) -> Total:
    return lambda adjoint: mask * adjoint


def _turned(region: Region) -> Iterator[Mistake]:
    """An adjoint that nobody claimed is transposed."""
    for node in region.between()[:NEAR]:
        shape = np.shape(node.data)
        if len(shape) >= 2 and shape[-1] == shape[-2] > 1:
            words = f"the derivative with respect to {region.sweep.called(node)} is transposed"
            right = region.sweep.expected[node].value
            yield Mistake(
                "transposed",
                words,
                totals={node: lambda adjoint: np.swapaxes(adjoint, -1, -2)},
                rule="turned",
                adds=[(node, np.swapaxes(right, -1, -2) - right)],
            )
