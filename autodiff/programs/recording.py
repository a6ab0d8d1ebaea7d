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


class Tape:
    """A graph in arrays: entry i was made by row rows[code[i]] from the entries a[i], b[i] and constant[i] < i.

    inputs[j] is the number of the j-th input on the tape, -1 where the output does not depend on it; data[j] that of
    the j-th input by which nobody differentiates. outputs: the numbers of the nodes asked for. names: {number: name} of
    the named nodes. guards: [(comparison, number of a, number of b or None, constant b, outcome)]. level: how many
    operations lie below a node at most, or None where nobody counted.
    """

    __slots__ = ("a", "b", "code", "constant", "data", "guards", "inputs", "level", "names", "outputs", "rows")

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
        level: Any = None,
    ) -> None:
        self.rows, self.code, self.a, self.b, self.constant = tuple(rows), code, a, b, constant
        self.inputs, self.data, self.outputs, self.names, self.guards = inputs, data, outputs, names, list(guards)
        self.level = level

    def __len__(self) -> int:
        return len(self.code)

    @property
    def nbytes(self) -> int:
        """The bytes that its arrays take."""
        arrays = (self.code, self.a, self.b, self.constant, self.inputs, self.data, self.outputs, self.level)
        return sum(int(array.nbytes) for array in arrays if array is not None)

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
        self[row] = code = len(self) + DATA  # None, of a leaf, is 0
        return code


def taped(
    outputs: Sequence[Value],
    inputs: Sequence[Value],
    data: Sequence[Value] = (),
    decisions: Sequence[Any] = (),
    leaves: list[tuple[int, Value]] | None = None,
) -> Tape:
    """The tape of the inputs, and of what lies below the outputs, up to the inputs, whatever these were made of.

    decisions: comparisons (see guards.py) whose nodes are on it too, as guards. leaves: a list to which the constant
    leaves are appended, with their numbers.

    Depth first, operands before what is made of them, left to right. The nodes carry their numbers in `uses` for that
    time, counted from 1, which is faster than a dict and takes no memory.
    """
    codes = _Codes({None: LEAF})
    nodes: list[Value] = [*inputs, *data]
    code_of = [INPUT] * len(inputs) + [DATA] * len(data)
    first, second, levels = [1] * len(nodes), list[int](), [0] * (len(nodes) + 1)  # levels[number]
    names: dict[int, str] = {}
    keep, keep_code, keep_first, keep_second = nodes.append, code_of.append, first.append, second.append
    keep_level, usual, number = levels.append, None, len(nodes)
    compared = [node for decision in decisions for node in (decision.a, decision.b) if type(node) is Value]
    pending = [*outputs, *compared][::-1]
    push, pop = pending.append, pending.pop
    try:
        for number, leaf in enumerate(nodes, 1):
            leaf.uses = number
        node: Any = None
        while True:  # not `while pending`: Python 3.11 would run its first thousand rounds at half the speed
            if node is None:
                if not pending:
                    break
                node = pop()
                if node.uses:
                    node = None
                    continue
            op = node.op
            if op is None:
                keep_first(1)
                keep_level(0)
            else:
                at = node.a.uses
                if op.two_nodes:
                    also = node.b.uses
                    if not at:
                        push(node)
                        if not also:
                            push(node.b)
                        node = node.a
                        continue
                    if not also:
                        push(node)
                        node = node.b
                        continue
                    keep_second(also)
                    level = levels[at]
                    keep_level((level if level > levels[also] else levels[also]) + 1)
                elif at:
                    keep_level(levels[at] + 1)
                else:
                    push(node)
                    node = node.a
                    continue
                keep_first(at)
            number += 1
            node.uses = number
            keep(node)
            keep_code(codes[op])
            label = node.label
            if label is not usual:  # most nodes share the one that has no name
                if label is None or label.name is None:
                    usual = label
                else:
                    names[number - 1] = label.name
            node = None
        places = np.array([leaf.uses for leaf in inputs], np.int32) - 1
        ends = np.array([end.uses for end in outputs], np.int32) - 1
        guards = [
            (kind, x.uses - 1, y.uses - 1, 0.0, outcome)
            if type(y) is Value
            else (kind, x.uses - 1, None, float(y), outcome)
            for kind, x, y, outcome in decisions
        ]
    finally:
        for made in nodes:
            made.uses = 0
    if len(codes) > 15000:
        raise ValueError("a program holds at most 15000 different rows")
    names |= {i: leaf.label.name for i, leaf in enumerate([*inputs, *data]) if leaf.label and leaf.label.name}
    code = np.array(code_of, np.int16)
    rows: list[Primitive | None] = [None] * (DATA + 1) + list(codes)[1:]
    if compared:  # what is only compared is no lane of the rest: 0 times its infinite slopes would be nan
        only_compared = code[int(ends.max()) + 1 :]
        only_compared[only_compared > DATA] += len(rows) - DATA - 1
        rows += rows[DATA + 1 :]
    two = np.flatnonzero(np.array([row is not None and row.two_nodes for row in rows])[code])
    folded = np.flatnonzero(np.array([row is not None and row.constant is not None for row in rows])[code]).tolist()
    constants = np.flatnonzero(code == LEAF).tolist()
    b, constant = np.zeros(len(nodes), np.int32), np.zeros(len(nodes))
    b[two] = np.array(second, np.int32) - 1
    constant[folded] = [nodes[i].b for i in folded]
    constant[constants] = [nodes[i].data for i in constants]
    if leaves is not None:
        leaves += [(i, nodes[i]) for i in constants]
    a, level_of = np.array(first, np.int32) - 1, np.array(levels[1:], np.int32)
    data_places = np.arange(len(inputs), len(inputs) + len(data), dtype=np.int32)
    return Tape(rows, code, a, b, constant, places, data_places, ends, names, guards, level_of)


def distinct(numbers: Any) -> Any:
    """The different numbers of an array, ascending: np.unique, without the 10 ms of numpy.ma that its first call loads.

    >>> distinct(np.array([3, 1, 3]))
    array([1, 3])
    """
    ascending = np.sort(numbers)
    return ascending[np.concatenate([[True], ascending[1:] != ascending[:-1]])] if len(ascending) else ascending
