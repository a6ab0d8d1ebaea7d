"""Tape: a recorded scalar graph in flat arrays, one entry per node, operands first.

Glossary: a node's *code* says which row of the table made it; `a` and `b` are the numbers of its operands on the tape;
`constant` is the number folded into it, or the data of a leaf that is no input. 18 bytes per operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.primitives import Primitive
from autodiff.value import Value, order

# the codes of constant leaves, of inputs, and of inputs that are data; rows of the table follow
LEAF, INPUT, DATA = 0, 1, 2


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
    """The tape of what lies below the outputs, up to the inputs, which are leaves of it whatever made them.

    decisions: comparisons (see guards.py) whose nodes are on it too, as guards. leaves: a list to which the constant
    leaves are appended, with their numbers.

    The nodes carry their numbers in `uses` for that time, which is faster than a dict and takes no memory.
    """
    compared = [node for decision in decisions for node in (decision.a, decision.b) if type(node) is Value]
    nodes = order(*outputs, *compared)
    interior = {node: None for node in (*inputs, *data) if node.op is not None}
    if interior:
        nodes = _up_to(nodes, (*outputs, *compared), interior)
    nodes.reverse()
    size = len(nodes)
    codes = _Codes({None: LEAF})
    code_of: list[int] = []
    first: list[int] = []
    names: dict[int, str] = {}
    keep_code, keep_first, usual = code_of.append, first.append, None
    number = 0
    try:
        for node in nodes:
            number += 1
            node.uses = number  # from 1: 0 is what a node has that is not on the tape
            op = node.op
            keep_code(codes[op])
            keep_first(1 if op is None else node.a.uses)
            label = node.label
            if label is not usual:  # most nodes share the one that has no name
                if label is None or label.name is None:
                    usual = label
                else:
                    names[number - 1] = label.name
        code = np.array(code_of, np.int16)
        rows: list[Primitive | None] = [None] * (DATA + 1) + list(codes)[1:]
        two = np.flatnonzero(np.array([row is not None and row.two_nodes for row in rows])[code])
        folded = np.flatnonzero(np.array([row is not None and row.constant is not None for row in rows])[code])
        a, b, constant = np.array(first, np.int32), np.zeros(size, np.int32), np.zeros(size)
        b[two] = [nodes[i].b.uses for i in two.tolist()]
        places = np.array([node.uses for node in inputs], np.int32) - 1
        data_places = np.array([node.uses for node in data], np.int32) - 1
        ends = np.array([node.uses for node in outputs], np.int32) - 1
        guards = [
            (kind, x.uses - 1, y.uses - 1, 0.0, outcome)
            if type(y) is Value
            else (kind, x.uses - 1, None, float(y), outcome)
            for kind, x, y, outcome in decisions
        ]
    finally:
        for node in nodes:
            node.uses = 0
    if len(codes) > 30000:
        raise ValueError("a program holds at most 30000 different rows")
    a -= 1
    b[two] -= 1
    constant[folded] = [nodes[i].b for i in folded.tolist()]
    code[places[places >= 0]] = INPUT
    code[data_places[data_places >= 0]] = DATA
    constants = np.flatnonzero(code == LEAF).tolist()
    constant[constants] = [nodes[i].data for i in constants]
    if leaves is not None:
        leaves += [(i, nodes[i]) for i in constants]
    a[code <= DATA] = 0
    b[code <= DATA] = 0
    return Tape(rows, code, a, b, constant, places, data_places, ends, names, guards)


def _up_to(nodes: list[Value], outputs: Sequence[Value], stops: dict[Any, None]) -> list[Value]:
    """The nodes, each after its children, that are reached without passing through one of the stops."""
    reached = dict.fromkeys(outputs)
    found = []
    for node in nodes:
        if node in reached:
            found.append(node)
            if node not in stops:
                reached.update(dict.fromkeys(node.parents))
    return found
