"""Another array in the place of an operand or of the upstream: h_t for h_{t-1}, a gate for what it was made from.

Any array of the graph is tried in the place of any other that it could be taken for, the nearest first. Thousands of
them are looked at, so what they would make of a claim is only seen along a few directions before one is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.adjoints.changes import placed
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.pool import Pool, Stand, given_array, known_as, short
from nn.audit.adjoints.pullbacks import PRODUCTS, to_operand
from nn.audit.adjoints.recorded import forward, is_edge, is_elementwise, local_rules
from nn.audit.adjoints.region import Edge, Region

EDGES = 40  # at which others are tried
LINEAR = ("add", "sub", "neg")  # whose derivatives depend on no operand
# Derivatives that are written with the output y, with another array c in one of its places.
OF_OUTPUT: dict[str, Sequence[Callable[[Any, Any], Any]]] = {
    "tanh": (lambda y, c: 1 - c * c, lambda y, c: 1 - y * c),
    "sigmoid": (lambda y, c: c * (1 - c), lambda y, c: c * (1 - y), lambda y, c: y * (1 - c)),
    "exp": (lambda y, c: c,),
    "sqrt": (lambda y, c: 0.5 / c,),
}
RULE = "another operand"
UPSTREAM = "the adjoint of another node"


@dataclass
class Local:
    """The rule of an edge with one of the arrays it is made of left open: slot j of the operands, or the output."""

    region: Region
    child: Any
    i: int

    def __post_init__(self) -> None:
        self.recorded = self.region.sweep.recorded
        self.values, _ = self.recorded.operands(self.child)
        self.shape: tuple[int, ...] = np.shape(self.child.operands[self.i].data)

    def slots(self) -> list[int]:
        """The operands that the rule depends on; -1, -2, ... for the output in one of the places it has in it."""
        child, op = self.child, self.child.op
        if op in PRODUCTS:
            return [j for j in range(len(self.values)) if j != self.i]
        if not is_elementwise(child) or op.name in LINEAR:
            return []
        own = [j for j in range(len(self.values)) if not (op.name == "mul" and j == self.i)]
        if op.name == "pow" and self.i == 0:
            return [*own, -1]
        return [*own, *(-1 - k for k in range(len(OF_OUTPUT.get(op.name, ()))))]

    def original(self, j: int) -> Any:
        """The array that belongs in a slot."""
        return self.child if j < 0 else self.child.operands[j]

    def original_shape(self, j: int) -> tuple[int, ...]:
        """Its shape."""
        return np.shape(self.child.data) if j < 0 else np.shape(self.values[j])

    def with_(self, j: int, value: Any, g: Any) -> Any:
        """What the edge adds for an upstream g, with a value in slot j."""
        child, values = self.child, list(self.values)
        if j >= 0:
            values[j] = value
        if child.op in PRODUCTS:
            return child.op.pull(self.i, g, self.recorded.data[child], values, child.parameters)
        if j < 0 and child.op.name == "pow":  # p y^((p - 1) / p)
            exponent = values[1]
            return to_operand(g * exponent * value ** ((exponent - 1) / exponent), self.shape)
        if j < 0:
            return to_operand(g * OF_OUTPUT[child.op.name][-1 - j](self.recorded.data[child], value), self.shape)
        slope = local_rules(child)[self.i](forward(child)(*values), *values)
        return to_operand(g * slope, self.shape)


def stand_ins(region: Region, pool: Pool) -> Iterator[Mistake]:
    """The mistakes at one edge, the nearest first."""
    if not region.target.whole:
        return
    edges = [*region.own_edges(), *region.further_edges()[:EDGES]]
    before = region.before()
    for edge in edges:
        yield from _upstreams(region, pool, edge, before)
        yield from _values(region, pool, edge)
        yield from _weighted(region, pool, edge)
    yield from _derivatives_of_others(region, edges)


def _values(region: Region, pool: Pool, edge: Edge) -> Iterator[Mistake]:
    child, i, x = edge
    g, right = region.sweep.used[child].value, region.sweep.contribution(child, i)
    local = Local(region, child, i)
    is_square = child.op.name == "mul" and child.operands[0] is child.operands[1] and i == 0
    for j in local.slots():
        original = local.original(j)
        if j >= 0 and not np.size(original) > 1 and not is_edge(original, child):
            continue  # a number that was given: any other is a factor
        belongs = called(region, pool, original)
        for stand in pool.of_shape(local.original_shape(j), child, original):
            if stand.node is original or (j >= 0 and stand.node is None and stand.value is original):
                continue
            value = local.with_(j, stand.value, g)
            if not np.isfinite(value).all():
                continue
            instead = stand.instead or belongs
            words, where = f"{stand.called} stands in the place of {instead}", placed(region, child)
            rules, adds = {(child, i): _rule(local, j, stand, g, value)}, [(x, value - right)]
            yield Mistake(
                "operand", words, where, edges=rules, rule=RULE, adds=adds, found=stand.called, belongs=instead
            )
            if is_square and j == 1:  # in both of its places, as the derivative of a square is written
                both = {(child, k): _rule(local, j, stand, g, value) for k in (0, 1)}
                yield Mistake(
                    "operand", words, where, edges=both, rule=RULE, adds=[*adds, *adds], found=stand.called,
                    belongs=instead,
                )  # fmt: skip


def called(region: Region, pool: Pool, original: Any) -> str:
    """What belongs in a place, in words."""
    return short(region.sweep.called(original)) if pool.has(original) else given_array(original)


def _rule(local: Local, j: int, stand: Stand, known: Any, value: Any) -> Any:
    return lambda g, part: value if g is known else local.with_(j, stand.value, g)


def _upstreams(region: Region, pool: Pool, edge: Edge, before: set[Any]) -> Iterator[Mistake]:
    sweep, (child, i, x) = region.sweep, edge
    g, right = sweep.used[child].value, sweep.contribution(child, i)
    if not g.ndim and sweep.recorded.data[child].ndim:
        return
    here = pool.number[child]
    belongs = known_as(sweep, child)
    others = [node for node in sweep.nodes if node not in before and sweep.used[node].value.shape == g.shape]
    seen = [g]
    for node in sorted(others, key=lambda node: (not node.name, abs(pool.number[node] - here)))[: 2 * EDGES]:
        other = sweep.used[node].value
        if not np.isfinite(other).all() or any(np.array_equal(other, known) for known in seen[-8:]):
            continue
        seen.append(other)
        if known_as(sweep, node) == belongs:
            continue  # its own, but for a mistake supposed before
        value = sweep.right_parts(child, other)[i]
        found = f"the derivative with respect to {known_as(sweep, node)}"
        words = f"{found} stands in the place of that with respect to {belongs}"
        yield Mistake(
            "operand", words, placed(region, child) if child.name or x.name else "",
            edges={(child, i): _for_upstream(region, child, i, other)}, rule=UPSTREAM, adds=[(x, value - right)],
            found=found, belongs=f"the derivative with respect to {belongs}",
        )  # fmt: skip


def _for_upstream(region: Region, child: Any, i: int, other: Any) -> Any:
    return lambda g, part: region.sweep.right_parts(child, other)[i]


def _derivatives_of_others(region: Region, edges: Sequence[Edge]) -> Iterator[Mistake]:
    """What is right for a node that the claim's was made from, as in a short form that joins two steps."""
    sweep, [node] = region.sweep, region.nodes
    handed = sweep.expected[node].value
    x = node
    while x.op is not None and is_elementwise(x) and np.shape(x.data) == handed.shape:
        parts = sweep.right_parts(x, handed)
        below = [i for i in parts if np.shape(parts[i]) == handed.shape]
        if len(parts) != 1 or not below:
            return
        x, handed = x.operands[below[0]], parts[below[0]]
        if not x.name:
            continue
        called = f"the derivative with respect to {sweep.called(x)}"
        yield Mistake(
            "operand", f"it is {called}, which is made from it", totals={node: _fixed(handed)}, rule="a step ahead",
            adds=[(node, handed - sweep.expected[node].value)], found=called,
        )  # fmt: skip


def _fixed(value: Any) -> Any:
    return lambda adjoint: value


def _weighted(region: Region, pool: Pool, edge: Edge) -> Iterator[Mistake]:
    """A sum's upstream, multiplied with a value that has nothing to do with it."""
    child, i, x = edge
    if getattr(child.op, "name", "") not in LINEAR:
        return
    g, right = region.sweep.used[child].value, region.sweep.contribution(child, i)
    for stand in pool.near(child):
        if np.shape(stand.value) == g.shape and g.ndim:
            value = region.sweep.right_parts(child, g * stand.value)[i]
            if np.isfinite(value).all():
                yield Mistake(
                    "operand", f"it is multiplied with {stand.called}, which is no factor of it", placed(region, child),
                    edges={(child, i): _with_weight(region, child, i, stand.value)}, rule="a factor too many",
                    adds=[(x, value - right)], found=stand.called,
                )  # fmt: skip


def _with_weight(region: Region, child: Any, i: int, weight: Any) -> Any:
    return lambda g, part: region.sweep.right_parts(child, g * weight)[i]


def multiplied(region: Region, pool: Pool) -> Iterator[Mistake]:
    """The mistakes that an adjoint lacks one factor, or has it once too often: the value of a node."""
    if not region.target.whole:
        return
    for node in [*region.nodes, *region.between()[:EDGES]]:
        right = region.sweep.expected[node].value
        if right.size < 2:
            continue
        where = "" if node in region.members else f", in the derivative with respect to {region.sweep.called(node)}"
        for stand in pool.near(node):
            if stand.node is None or not _broadcasts(stand.value, right.shape) or np.ptp(stand.value) == 0.0:
                continue
            for words, total in (
                (f"the factor {stand.called} is missing", _divided(stand.value)),
                (f"it is multiplied by {stand.called} once too often", _times(stand.value)),
            ):
                added = total(right) - right
                if np.isfinite(added).all():
                    yield Mistake(
                        "operand", words, where, totals={node: total}, rule="a factor", found=stand.called,
                        adds=[(node, added)],
                    )  # fmt: skip


def _broadcasts(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(np.shape(value), shape) == shape
    except ValueError:
        return False


def _divided(value: Any) -> Any:
    return lambda adjoint: adjoint / value


def _times(value: Any) -> Any:
    return lambda adjoint: adjoint * value
