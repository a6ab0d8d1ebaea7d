"""What may stand in the place of an operand or of an upstream: every array of the graph, the nearest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import operations
from nn.audit.adjoints.recorded import MOVING, floats, forward, is_edge, is_elementwise
from nn.audit.adjoints.sweep import Sweep

MOST = 120  # arrays that are tried in one place
MOVES = 3  # operations that move numbers, between an operand and what stands in the place of it
ENDS = {"first": 0, "last": -1}


@dataclass(frozen=True)
class Stand:
    """An array with what it is called; node: the node it is the value of. instead: what it takes the place of."""

    called: str
    value: Any
    node: Any = None
    instead: str | None = None


class Pool:
    """The nodes of a graph and the arrays that it was given."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.number = {node: k for k, node in enumerate(sweep.nodes)}
        self.arrays: list[tuple[Any, int]] = []  # given ones, and where they stand
        seen = set[int]()
        for node in sweep.nodes:
            for x in node.operands if node.op is not None else ():
                if not is_edge(x, node) and np.ndim(x) and np.asarray(x).dtype.kind in "fiub" and id(x) not in seen:
                    seen.add(id(x))
                    self.arrays.append((x, self.number[node]))

    def has(self, x: Any) -> bool:
        """Whether something is a node of the graph, and no array that was given."""
        return type(x) is type(self.sweep.output)

    def near(self, place: Any) -> list[Stand]:
        """The values of the nodes, those with a name first, and of each kind the nearest to the place."""
        here, sweep = self.number[place], self.sweep
        nodes = sorted(sweep.nodes, key=lambda node: (not node.name, abs(self.number[node] - here)))
        found = [Stand(sweep.called(node), sweep.recorded.data[node], node) for node in nodes[:MOST]]
        given = sorted(self.arrays, key=lambda array: abs(array[1] - here))
        return found + [Stand(given_array(x), floats(x)) for x, _ in given[:MOST]]

    def of_shape(self, shape: tuple[int, ...], place: Any, original: Any) -> Iterator[Stand]:
        """Those of a shape that stand near a place; original: what belongs there, which tells how others are moved."""
        near = self.near(place)
        yield from (stand for stand in near if np.shape(stand.value) == shape)
        yield from self._moved(near, original)
        yield from self._rebuilt(near, original)
        yield from _ends(near, shape)
        for stand in near:  # of a gate, what it keeps back
            if np.shape(stand.value) == shape and ((stand.value >= 0) & (stand.value <= 1)).all():
                yield Stand(f"1 - {stand.called}", 1.0 - stand.value)

    def _moved(self, near: list[Stand], original: Any) -> Iterator[Stand]:
        """Others, reshaped, transposed or picked from as the original is."""
        moves: list[Any] = []
        while self.has(original) and original.op in MOVING and len(moves) < MOVES:
            if not is_edge(original.operands[0], original) or original.op.linear != "each":
                break
            moves.append(original)
            original = original.operands[0]
            shape = np.shape(original.data)
            for stand in near if shape else ():
                if np.shape(stand.value) == shape and stand.node is not original:
                    value = stand.value
                    for move in reversed(moves):
                        value = move.op.forward(value, **move.parameters)
                    yield Stand(f"{stand.called}, moved about in the same way", value, stand.node)

    def _rebuilt(self, near: list[Stand], original: Any) -> Iterator[Stand]:
        """What belongs there, made with another operand, or with the other sign."""
        if not self.has(original) or not is_elementwise(original):
            return
        values, _ = self.sweep.recorded.operands(original)
        called = short(self.sweep.called(original))
        if original.op.name in ("add", "sub"):
            sign = -1.0 if original.op.name == "add" else 1.0
            yield Stand(f"{called} with the other sign", values[0] + sign * values[1])
        for k, x in enumerate(original.operands):
            shape = np.shape(values[k])
            belongs = short(self.sweep.called(x)) if self.has(x) else given_array(x)
            if not shape and np.ndim(original.data):
                continue  # a number that was given
            if not is_edge(x, original) and original.op.name in ("add", "sub"):
                alone = values[1] if k == 0 else values[0]
                yield Stand(f"{called} without {belongs}", alone if k or original.op.name == "add" else -alone)
            elif original.op.name == "sub" and k == 0:
                yield Stand(f"{called} without {belongs}", -values[1])
            for stand in near:
                if np.shape(stand.value) == shape and stand.node is not x:
                    about = [stand.value if j == k else value for j, value in enumerate(values)]
                    yield Stand(stand.called, forward(original)(*about), stand.node, f"{belongs} in {called}")


def _ends(near: list[Stand], shape: tuple[int, ...]) -> Iterator[Stand]:
    """The first and the last along an axis of arrays that have one more."""
    for stand in near:
        given = np.shape(stand.value)
        if len(given) != len(shape) + 1:
            continue
        for axis, n in enumerate(given):
            if n > 1 and given[:axis] + given[axis + 1 :] == shape:
                for which, k in ENDS.items():
                    called = f"the {which} element of {stand.called} along axis {axis}"
                    yield Stand(called, np.take(stand.value, k, axis=axis))


def short(called: str) -> str:
    """A node without where it leads to."""
    return called.split(" on the way to ")[0]


def given_array(x: Any) -> str:
    """An array that is no node, in words."""
    return f"the array given with the shape {np.shape(x)}"


def known_as(sweep: Sweep, node: Any) -> str:
    """A node by its name, or by that of the sum that it is a term of and whose adjoint is its own."""
    x = node
    while not x.name and len(sweep.children[x]) == 1:
        child, _ = sweep.children[x][0]
        is_term = getattr(child.op, "name", "") == "add" or child.op is operations.reshape
        if not is_term or np.shape(child.data) != np.shape(x.data):
            break
        x = child
    return sweep.called(x if x.name else node)
