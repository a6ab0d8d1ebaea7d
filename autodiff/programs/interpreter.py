"""A tape run as it stands, entry by entry: for long graphs in which nothing repeats, which take long to compile.

The numbers, the warnings and the order of operations are those of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from autodiff.primitives import Primitive, add, mul
from autodiff.programs.instructions import COMPARISONS
from autodiff.programs.recording import DATA, LEAF, Tape

PIECE = 100_000  # entries whose operands are lists of Python's numbers at one time

Entries = Iterator[tuple[int, int, int, int, float]]


class Interpreted:
    """Value and gradient of a tape as a function of its inputs, without any code made for it."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.kernels = [None if row is None else _kernel(row) for row in tape.rows]

    def run(self, numbers: Any, data: Any, gradient: bool, checked: bool) -> tuple[float, Any] | None:
        """(value, gradient if asked for); None where a guard does not hold."""
        if checked and not self.holds(numbers, data):
            return None
        return self.value_and_grad(numbers, data) if gradient else (self.value(numbers, data), None)

    def value(self, numbers: Any, data: Any) -> float:
        """The number of the first output."""
        return self._forward(numbers, data)[int(self.tape.outputs[0])]

    def holds(self, numbers: Any, data: Any) -> bool:
        """Whether every guard does, in silence: what another branch warns of is nobody's business."""
        guards = self.tape.guards
        if not guards:
            return True
        with np.errstate(all="ignore"):
            values = self._forward(numbers, data)
        return all(
            bool(COMPARISONS[kind](values[i], c if j is None else values[j])) == outcome
            for kind, i, j, c, outcome in guards
        )

    def value_and_grad(self, numbers: Any, data: Any) -> tuple[float, Any]:
        """(value, gradient (p, 1))."""
        tape = self.tape
        values = self._forward(numbers, data)
        output = int(tape.outputs[0])
        grads = [0.0] * len(values)
        grads[output] = 1.0
        rows: Any = tape.rows
        for i, k, x, y, c in self._entries(output + 1, backwards=True):  # what comes later is only compared
            if k <= DATA:
                continue
            row = rows[k]
            upstream = grads[i]
            if row is mul:
                grads[x] += upstream * values[y]
                grads[y] += upstream * values[x]
            elif row is add:
                grads[x] += upstream
                grads[y] += upstream
            elif row.two_nodes:
                operands = values[i], values[x], values[y]
                grads[x] += upstream * _local(row, row.da, *operands)
                grads[y] += upstream * _local(row, row.db, *operands)
            elif row.constant is None:
                grads[x] += upstream * _local(row, row.da, values[i], values[x])
            else:
                grads[x] += upstream * _local(row, row.da, values[i], values[x], c)
        return values[output], np.array([grads[i] if i >= 0 else 0.0 for i in tape.inputs.tolist()]).reshape(-1, 1)

    def _forward(self, numbers: Any, data: Any) -> list[float]:
        tape, kernels = self.tape, self.kernels
        two = tape.two_nodes().tolist()
        values: list[float] = [0.0] * len(tape)
        for places, column in ((tape.inputs, numbers), (tape.data, data)):
            if len(places):
                for i, number in zip(places.tolist(), column.ravel().tolist(), strict=True):
                    if i >= 0:
                        values[i] = number
        rows: Any = tape.rows
        for i, k, x, y, c in self._entries(len(tape)):
            if k > DATA:
                second = values[y] if two[k] else c
                try:
                    values[i] = kernels[k](values[x], second)  # type: ignore[misc]
                except (ArithmeticError, ValueError):
                    row = rows[k]
                    operands = (values[x],) if row.arity == 1 else (values[x], second)
                    values[i] = row.on_floats(*(operands[::-1] if row.constant == "left" else operands))
            elif k == LEAF:
                values[i] = c
        return values

    def _entries(self, stop: int, backwards: bool = False) -> Entries:
        tape = self.tape
        starts = range(0, stop, PIECE)
        for start in reversed(starts) if backwards else starts:
            piece = slice(start, min(start + PIECE, stop))
            columns = [np.arange(piece.start, piece.stop), tape.code[piece], tape.a[piece], tape.b[piece]]
            lists: list[list[Any]] = [column.tolist() for column in (*columns, tape.constant[piece])]
            if backwards:
                for entries in lists:
                    entries.reverse()
            yield from zip(*lists, strict=True)


def _kernel(row: Primitive) -> Callable[[float, float], float]:
    """The row's kernel for floats, of its node or nodes and its constant."""
    forward = row.forward
    if row.arity == 1:
        return lambda a, _: forward(a)
    if row.constant == "left":
        return lambda a, c: forward(c, a)
    return forward


def _local(row: Primitive, rule: Any, *operands: float) -> float:
    try:
        return rule(*operands)  # type: ignore[no-any-return]
    except (ArithmeticError, ValueError):
        return row.local(rule, *operands)
