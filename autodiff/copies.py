"""Copies of graphs, and files: pickle and copy.deepcopy without recursion along the graph.

Both would walk from a node to its parents by recursion, which a long chain does not survive. So a node hands its
ancestors over first, parents before children: each then finds its parents done. Array nodes get new numbers in that
order, so that parents have smaller numbers than their children again, among nodes that were there before.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Any

import numpy as np

from autodiff import tensor, value
from autodiff.operations import Operation
from autodiff.tensor import Tensor
from autodiff.value import Value

_handed: set[int] = set()  # ids of nodes that are on their way to a file, ancestors first


class _AllHanded:
    """Stands behind a node's ancestors on their way: those that had been handed over earlier were not asked again."""

    def __init__(self, nodes: Sequence[Any] = ()) -> None:
        self.nodes = nodes

    def __reduce__(self) -> tuple[Any, ...]:
        self.__del__()
        return _AllHanded, ()

    def __del__(self) -> None:  # also where the file could not be written
        _handed.difference_update(map(id, self.nodes))


def for_a_file(node: Any) -> tuple[Any, ...]:
    """What pickle stores of a node: its ancestors, unless they went before it, and its state."""
    ancestors: tuple[Any, ...] = ()
    if id(node) in _handed:
        _handed.discard(id(node))
    elif node.op is not None:
        nodes = (tensor.order if type(node) is Tensor else value.order)(node)[:0:-1]
        _handed.update(map(id, nodes))
        ancestors = (*nodes, _AllHanded(nodes))
    if type(node) is Tensor:
        return _restored_tensor, (), (ancestors, _state(node)), None, None, _set_tensor
    return _restored, (), (ancestors, node.__getstate__()), None, None, _set_state


def _restored() -> Value:
    return Value.__new__(Value)


def _set_state(node: Value, state: tuple[Any, Any]) -> None:
    node.__setstate__(state[1])


# --- array nodes ----------------------------------------------------------------------------------------------


def _state(node: Tensor) -> tuple[Any, ...]:
    return node.data, node._grad, node.op, node.operands, dict(node.parameters), node._label


def _restored_tensor() -> Tensor:
    return Tensor.__new__(Tensor)


def _set_tensor(node: Tensor, state: tuple[Any, Any]) -> None:
    """Fills a node, and numbers it: its ancestors have been filled before."""
    data, node._grad, node.op, node.operands, parameters, node._label = state[1]
    node.data = data if type(data) is np.ndarray else np.asarray(data)
    node.parents = tuple([x for x in node.operands if type(x) is Tensor])
    node.parameters = parameters or tensor.NONE
    node.number = next(tensor._numbers)


def shallow_copy(node: Tensor) -> Tensor:
    """Another node with the same data, grad, label and operands, made now."""
    twin = _restored_tensor()
    _set_tensor(twin, ((), _state(node)))
    return twin


def operation_for_a_file(op: Operation) -> tuple[Any, ...]:
    """What pickle stores of a structural operation: where to find it; its rules are functions and stay at home."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("autodiff.") and type(op) is Operation:
            for name, thing in list(vars(module).items()):
                if thing is op:
                    return _operation, (module_name, name)
    raise pickle.PicklingError(
        f"{op!r} is an operation of your own, and what it made cannot go into a file: store the data of the leaves, "
        "and make the graph again by calling the function"
    )


def _operation(module_name: str, name: str) -> Operation:
    __import__(module_name)
    found: Operation = getattr(sys.modules[module_name], name)
    return found


# --- deep copies ----------------------------------------------------------------------------------------------


def deep_copy(node: Any, memo: dict[int, Any]) -> Any:
    """The copy of a node with its whole graph; what memo has been copied before is not copied again."""
    pending, copied = [node], []
    while pending:
        nearest = pending[-1]
        missing = [parent for parent in nearest.parents if id(parent) not in memo]
        if missing:
            pending += missing
            continue
        pending.pop()
        if id(nearest) not in memo:
            memo[id(nearest)] = twin = copy(nearest)
            copied.append(nearest)
            if type(nearest) is Tensor:
                twin.data = deepcopy(nearest.data, memo)
                twin._grad = deepcopy(nearest._grad, memo)
                twin.operands = tuple([_copied(x, memo) for x in nearest.operands])
                twin.parents = tuple([x for x in twin.operands if type(x) is Tensor])
            else:
                twin.a, twin.b = (memo[id(x)] if isinstance(x, Value) else x for x in (nearest.a, nearest.b))
    if type(node) is Tensor:  # sums are formed in the order of the numbers: in the copy as in the original
        numbers = sorted(memo[id(x)].number for x in copied)
        for x, number in zip(sorted(copied, key=lambda x: x.number), numbers, strict=True):
            memo[id(x)].number = number
    return memo[id(node)]


def _copied(operand: Any, memo: dict[int, Any]) -> Any:
    return memo[id(operand)] if type(operand) is Tensor else deepcopy(operand, memo)


copyreg.pickle(Value, for_a_file)
copyreg.pickle(Tensor, for_a_file)
Operation.__reduce__ = operation_for_a_file  # type: ignore[method-assign,assignment]
Operation.__copy__ = lambda op: op  # type: ignore[attr-defined] # as functions are: there is nothing to copy
Operation.__deepcopy__ = lambda op, memo: op  # type: ignore[attr-defined]
Value.__deepcopy__ = deep_copy  # type: ignore[attr-defined]
Tensor.__deepcopy__ = deep_copy  # type: ignore[attr-defined]
Tensor.__copy__ = shallow_copy  # type: ignore[attr-defined]
