"""Tape: a recorded scalar graph in flat arrays, one entry per node, operands first.

Glossary: a node's *code* says which row of the table made it; `a` and `b` are the numbers of its operands on the tape;
`constant` is the number folded into it, or the data of a leaf that is no input. 22 bytes per operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.primitives import Primitive
from autodiff.value import Value

# the codes of constant leaves, of inputs, and of inputs that are data; rows of the table follow
LEAF, INPUT, DATA = 0, 1, 2
MOST_ROWS = 15_000  # on a tape: what is compared doubles them, and codes have 16 bits


class Tape:
    """A graph in arrays: entry i was made by row rows[code[i]] from the entries a[i], b[i] and constant[i] < i.

    inputs[j] is the number of the j-th input on the tape, -1 where the output does not depend on it; data[j] that of
    the j-th input by which nobody differentiates. outputs: the numbers of the nodes asked for. names: {number: name} of
    the named nodes. guards: [(comparison, number of a, number of b or None, constant b, outcome)].
    """

    __slots__ = ("a", "b", "code", "constant", "data", "guards", "inputs", "names", "outputs", "rows")

    def __init__(
        self,
        rows: Sequence[Primitive | None],
        code: Any,
        a: Any,
        b: Any,
        constant: Any,
        inputs: Any,
        data: Any,
        outputs: Any,
        names: dict[int, str],
        guards: Sequence[Any] = (),
    ) -> None:
        self.rows, self.code, self.a, self.b, self.constant = tuple(rows), code, a, b, constant
        self.inputs, self.data, self.outputs, self.names, self.guards = inputs, data, outputs, names, list(guards)

    def __len__(self) -> int:
        return len(self.code)

    @property
    def nbytes(self) -> int:
        """The bytes that its arrays take."""
        arrays = (self.code, self.a, self.b, self.constant, self.inputs, self.data, self.outputs)
        return sum(int(array.nbytes) for array in arrays)

    def check(self) -> None:
        """ValueError unless every entry is made by a row from entries before it, as on a tape that was recorded."""
        size, code, places = len(self), self.code, (self.inputs, self.data, self.outputs)
        whole = all(array.ndim == 1 and array.dtype.kind == "i" for array in (code, self.a, self.b, *places))
        shapes = [self.a.shape, self.b.shape, self.constant.shape]
        if not whole or self.constant.dtype != float or shapes != [(size,)] * 3:
            raise ValueError("not a tape: its arrays do not fit together")
        if not all(
            k in (LEAF, INPUT, DATA) or (DATA < k < len(self.rows) and self.rows[k]) for k in set(code.tolist())
        ):
            raise ValueError("not a tape: an entry has no row")
        for operands, which in ((self.a, code > DATA), (self.b, self.two_nodes()[code])):
            if not ((operands >= 0) & (operands < np.arange(size)))[which].all():
                raise ValueError("not a tape: an entry is made of entries that come after it")
        compared = [number for _, x, y, _, _ in self.guards for number in (x, y) if number is not None]
        if len(self.outputs) == 0 or not all(0 <= number < size for number in [*self.outputs.tolist(), *compared]):
            raise ValueError("not a tape: an output is not on it")
        for kind, numbers in ((INPUT, self.inputs), (DATA, self.data)):
            if not np.array_equal(np.sort(numbers[numbers != -1]), np.flatnonzero(code == kind)):
                raise ValueError("not a tape: its inputs are not those that it names")

    def two_nodes(self) -> Any:
        """Per code, whether both operands are nodes."""
        return np.array([row is not None and row.two_nodes for row in self.rows])


class _Codes(dict[Any, int]):
    """{row: its code}, numbered as they come."""

    def __missing__(self, row: Any) -> int:
        if len(self) == MOST_ROWS:
            raise ValueError(f"a program holds at most {MOST_ROWS} different rows")
        self[row] = code = len(self) + DATA + 1
        return code


def taped(
    outputs: Sequence[Value],
    inputs: Sequence[Value],
    data: Sequence[Value] = (),
    decisions: Sequence[Any] = (),
    recorded: list[Value] | None = None,
) -> Tape:
    """The tape of the inputs, and of what lies below the outputs, up to the inputs, whatever these were made of.

    decisions: comparisons (see guards.py) whose nodes are on it too, as guards. recorded: a list to which the nodes are
    appended, in their order on the tape.

    First the inputs, the data and the constant leaves, then the operations: depth first, operands before what is made
    of them, left to right. The nodes carry their numbers in `uses` for that time, operations upwards from 1 and leaves
    downwards from -1, which is faster than a dict and takes no memory.
    """
    ground: list[Any] = [*inputs, *data]
    given, number = len(ground), 0
    operations: list[Any] = []  # and of each:
    made_by, first, second, folded, labelled = list[Any](), list[int](), list[int](), list[Any](), list[Any]()
    pending: list[Any] = [None]  # the operations that wait for their operands
    compared = [node for decision in decisions for node in (decision.a, decision.b) if type(node) is Value]
    ends: list[Any] = [*outputs, *compared]
    try:
        for node in ground:
            number -= 1
            node.uses = number
        number = 0
        for node in ends:
            if node.uses:
                continue
            while True:  # not `while node`: Python 3.11 would run its first thousand rounds at half the speed
                op = node.op
                if op is None:
                    ground.append(node)
                    node.uses = -len(ground)
                else:
                    at = node.a.uses
                    if not at:
                        pending.append(node)
                        node = node.a
                        continue
                    if op.two_nodes:
                        also = node.b.uses
                        if not also:
                            pending.append(node)
                            node = node.b
                            continue
                        second.append(also)
                    else:
                        folded.append(node.b)
                    first.append(at)
                    made_by.append(op)
                    if node.label is not None:
                        labelled.append(node)
                    operations.append(node)
                    number += 1
                    node.uses = number
                node = pending.pop()
                if node is None:
                    break
            pending.append(None)
        base = len(ground)

        def placed(uses: Sequence[int]) -> Any:
            """The numbers on the tape of nodes that carry these."""
            numbers = np.array(uses, np.int32)
            return np.where(numbers > 0, numbers + (base - 1), ~numbers)

        ends_at = placed([node.uses for node in ends])
        labelled += [node for node in ground if node.label is not None]
        names_at = placed([node.uses for node in labelled if node.label.name is not None]).tolist()
    finally:
        for nodes in (ground, operations):
            for node in nodes:
                node.uses = 0
    names = dict(zip(names_at, (node.label.name for node in labelled if node.label.name is not None), strict=True))
    size = base + len(operations)
    code = np.full(size, LEAF, np.int16)
    code[: len(inputs)], code[len(inputs) : given] = INPUT, DATA
    codes = _Codes()
    code[base:] = list(map(codes.__getitem__, made_by))
    rows: list[Primitive | None] = [None] * (DATA + 1) + list(codes)
    a, b, constant = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size)
    a[base:] = placed(first)
    b[np.array([row is not None and row.two_nodes for row in rows])[code]] = placed(second)
    constant[given:base] = [leaf.data for leaf in ground[given:]]
    constant[np.array([row is not None and row.constant is not None for row in rows])[code]] = [
        number for number in folded if number is not None
    ]
    if recorded is not None:
        recorded += ground
        recorded += operations
    asked_for = ends_at[: len(outputs)]
    if compared:  # what is only compared is no lane of the rest: 0 times its infinite slopes would be nan
        only_compared = code[max(int(asked_for.max()) + 1, base) :]
        only_compared += len(rows) - DATA - 1
        rows += rows[DATA + 1 :]
    rest = iter(ends_at[len(outputs) :].tolist())
    guards = [
        (kind, next(rest), next(rest), 0.0, outcome)
        if type(y) is Value
        else (kind, next(rest), None, float(y), outcome)
        for kind, _, y, outcome in decisions
    ]
    places = np.arange(given, dtype=np.int32)
    return Tape(rows, code, a, b, constant, places[: len(inputs)], places[len(inputs) :], asked_for, names, guards)


def distinct(numbers: Any) -> Any:
    """The different numbers of an array, ascending: np.unique, without the 10 ms of numpy.ma that its first call loads.

    >>> distinct(np.array([3, 1, 3]))
    array([1, 3])
    """
    ascending = np.sort(numbers)
    return ascending[np.concatenate([[True], ascending[1:] != ascending[:-1]])] if len(ascending) else ascending
