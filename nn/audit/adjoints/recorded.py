"""The recorded numbers of a graph with their rounding: how far each may be off what exact arithmetic would give.

First order, and running: the error of a node follows from those of its operands, by the operation itself on absolute
values where it is linear, and by moving the operands by their errors where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from autodiff.primitives import Primitive

# Operations that move numbers and round none.
MOVING = (
    operations.reshape, operations.transpose, operations.broadcast_to, operations.index, operations.concatenate,
    operations.where, operations.astype,
)  # fmt: skip


TRIES = 15_000  # mistakes that are held against the claims of a graph, after which only the likeliest are


class Recorded:
    """data: {node: its numbers}, error: {node: how far each may be off}; nodes come with the output first.

    eps, tiny: the relative and the absolute rounding of the lowest precision that takes part.
    """

    def __init__(self, nodes: Sequence[Any], eps: float, tiny: float) -> None:
        self.eps, self.tiny = eps, tiny
        self.tries = TRIES  # what is left of them
        self.unlike = set[Any]()  # what was found to be no softmax and no normalisation
        self.data = {node: floats(node.data) for node in nodes}
        self.error: dict[Any, Any] = {}
        self._locals: dict[tuple[Any, int], Any] = {}
        for node in reversed(nodes):
            self.error[node] = self._error(node)

    def operands(self, node: Any) -> tuple[list[Any], list[Any]]:
        """The numbers that the operation was applied to, and how far each may be off."""
        values, errors = [], []
        for x in node.operands:
            if is_edge(x, node):
                values.append(self.data[x])
                errors.append(self.error[x])
            else:
                values.append(floats(x))
                errors.append(self._given(values[-1], np.asarray(x).dtype))
        return values, errors

    def local(self, node: Any, i: int) -> Any:
        """The local derivative of an elementwise operation with respect to operand i."""
        found = self._locals.get((node, i))
        if found is None:
            found = self._locals[node, i] = local_rules(node)[i](self.data[node], *self.operands(node)[0])
        return found

    def _given(self, value: Any, dtype: Any) -> Any:
        """Of a leaf or a constant: exact, but where the claims are of a precision that does not have the number."""
        if self.eps <= (np.finfo(dtype).eps if dtype.kind == "f" else 2.3e-16):
            return np.zeros_like(value)
        lower = np.float32 if self.eps <= np.finfo(np.float32).eps else np.float16
        return np.where(value.astype(lower) == value, 0.0, self.eps * np.abs(value))  # 3.0 as an exponent stays 3.0

    def _error(self, node: Any) -> Any:
        y = self.data[node]
        if node.op is None:
            return self._given(y, np.asarray(node.data).dtype)
        values, errors = self.operands(node)
        if is_elementwise(node):
            return self._elementwise(node, values, errors)
        try:
            if node.op.linear == "all":
                return floats(node.op.forward(*errors, **node.parameters))
            if node.op.linear == "each":
                return self._multilinear(node, values, errors)
            if node.op in (operations.max_, operations.min_):
                return np.maximum.reduce(errors[0], **node.parameters)
            return self._moved_about(node, values, errors)
        except Exception:  # a rule of somebody's own, which may not take what it was not made for
            return 256 * self.eps * (np.abs(y) + np.max(np.abs(y), initial=0.0))

    def _elementwise(self, node: Any, values: Sequence[Any], errors: Sequence[Any]) -> Any:
        y = self.data[node]
        found = 4 * self.eps * np.abs(y)
        for i, error in enumerate(errors):
            if error.any():
                ends = [forward(node)(*moved(values, i, s * error)) for s in (-1.0, 1.0)]
                found = found + np.maximum(*(np.abs(end - y) for end in ends))
        return found

    def _multilinear(self, node: Any, values: Sequence[Any], errors: Sequence[Any]) -> Any:
        op, sizes = node.op, [np.abs(x) for x in values]
        rounding = 0.0 if op in MOVING else (_terms(node, values, self.data[node]) + 2) * self.eps
        found = rounding * op.forward(*sizes, **node.parameters)
        for i, error in enumerate(errors):
            found = found + op.forward(*sizes[:i], error, *sizes[i + 1 :], **node.parameters)
        return floats(found)

    def _moved_about(self, node: Any, values: Sequence[Any], errors: Sequence[Any]) -> Any:
        y = self.data[node]
        spread = 4 * self.eps * np.abs(y)
        for signs in signed(errors):
            about = [x + s for x, s in zip(values, signs, strict=True)]
            spread = np.maximum(spread, np.abs(node.op.forward(*about, **node.parameters) - y))
        return 4 * spread + 64 * self.eps * np.max(np.abs(y), initial=0.0)


def floats(x: Any) -> Any:
    """The numbers as an array of float64."""
    return np.asarray(x, np.float64)


def is_edge(operand: Any, node: Any) -> bool:
    """Whether an operand of a node is a node, and no constant."""
    return type(operand) is type(node)


def is_elementwise(node: Any) -> bool:
    """Whether its operation is a row of the table."""
    return isinstance(node.op, Primitive)


def forward(node: Any) -> Any:
    """The elementwise operation of a node, on arrays; a constant of a Value's node is an operand like any other."""
    return node.op.source.array


def local_rules(node: Any) -> list[Any]:
    """Its local derivatives, one for each operand."""
    row = node.op.source
    return [row.da] if row.db is None else [row.da, row.db]


def moved(values: Sequence[Any], i: int, step: Any) -> list[Any]:
    """The values with number i moved by a step."""
    return [x + step if j == i else x for j, x in enumerate(values)]


def signed(errors: Sequence[Any]) -> Iterator[list[Any]]:
    """The errors with signs at random, a few times."""
    generator = np.random.default_rng(0)
    for _ in range(4):
        yield [error * generator.choice((-1.0, 1.0), np.shape(error)) for error in errors]


def _terms(node: Any, values: Sequence[Any], y: Any) -> int:
    """How many terms an element of y is the sum of."""
    op = node.op
    shape: tuple[int, ...] = values[0].shape
    if op is operations.matmul:
        return shape[-1]
    if op is operations.sum_:
        return max(1, int(values[0].size) // max(1, int(y.size)))
    if op is operations.cumsum:
        return shape[int(node.parameters["axis"])]
    if op is operations.einsum:
        sizes = {
            letter: length
            for labels, x in zip(node.parameters["labels"], values, strict=True)
            for letter, length in zip(labels, x.shape, strict=True)
        }
        return max(1, math.prod(map(int, sizes.values())) // max(1, int(y.size)))
    return 1
