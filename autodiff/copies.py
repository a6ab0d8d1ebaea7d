"""Copies of graphs, and files: pickle and copy.deepcopy without recursion along the graph.

Both would walk from a node to its parents by recursion, which a long chain does not survive. So a node hands its
ancestors over first, parents before children: each then finds its parents done.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from copy import copy
from typing import Any

from autodiff.value import Value, order

_handed: set[int] = set()  # ids of nodes that are on their way to a file, ancestors first


class _AllHanded:
    """Stands behind a node's ancestors on their way: those that had been handed over earlier were not asked again."""

    def __init__(self, nodes: Sequence[Value] = ()) -> None:
        self.nodes = nodes

    def __reduce__(self) -> tuple[Any, ...]:
        self.__del__()
        return _AllHanded, ()

    def __del__(self) -> None:  # also where the file could not be written
        _handed.difference_update(map(id, self.nodes))


def for_a_file(node: Value) -> tuple[Any, ...]:
    """What pickle stores of a node: its ancestors, unless they went before it, and its state."""
    ancestors: tuple[Any, ...] = ()
    if id(node) in _handed:
        _handed.discard(id(node))
    elif node.op is not None:
        nodes = order(node)[:0:-1]
        _handed.update(map(id, nodes))
        ancestors = (*nodes, _AllHanded(nodes))
    return _restored, (), (ancestors, node.__getstate__()), None, None, _set_state


def _restored() -> Value:
    return Value.__new__(Value)


def _set_state(node: Value, state: tuple[Any, Any]) -> None:
    node.__setstate__(state[1])


def deep_copy(node: Value, memo: dict[int, Any]) -> Value:
    """The copy of a node with its whole graph; what memo has been copied before is not copied again."""
    pending = [node]
    while pending:
        nearest = pending[-1]
        missing = [parent for parent in nearest.parents if id(parent) not in memo]
        if missing:
            pending += missing
            continue
        pending.pop()
        if id(nearest) not in memo:
            memo[id(nearest)] = twin = copy(nearest)
            twin.a, twin.b = (memo[id(x)] if isinstance(x, Value) else x for x in (nearest.a, nearest.b))
    result: Value = memo[id(node)]
    return result


copyreg.pickle(Value, for_a_file)
Value.__deepcopy__ = deep_copy  # type: ignore[attr-defined]
