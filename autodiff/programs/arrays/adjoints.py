"""The reverse and the forward sweep over a graph of arrays: rules run on Symbols, and add the derivatives to it.

The order of the sweeps and of every sum is that of sweeps.py, so that the numbers are those of the graph itself. The
rules of most structural operations run on Symbols; those that look at numbers (the extrema, linear algebra, a rule of
the user's own) are entries of their own, `Pulled` and `Pushed`, and run on arrays at every replay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import operations, sweeps, tensor
from autodiff.operations import Operation
from autodiff.primitives import Primitive
from autodiff.programs.arrays.graph import Graph, Symbol, index_by, patch, question, row_sum, scatter_by, where_by
from autodiff.tensor import Tensor

# operations whose rules run on Symbols
SYMBOLIC = frozenset((
    operations.reshape, operations.transpose, operations.broadcast_to, operations.astype, operations.index,
    operations.scatter, operations.concatenate, operations.sum_, operations.cumsum, operations.matmul,
    operations.einsum, where_by, index_by, scatter_by, row_sum, patch,
))  # fmt: skip


class Pulled:
    """What an operation's pull gives to one operand: an operation on (g, y, *operands)."""

    linear = None

    def __init__(self, op: Operation, position: int) -> None:
        self.op, self.position = op, position
        self.name = f"pull of {op.name}"

    def forward(self, g: Any, y: Any, *operands: Any, **parameters: Any) -> Any:
        """The contribution; zeros where the rule has none."""
        if self.op.at_once and hasattr(self.op, "fwd"):  # what it kept is of the call that was recorded
            call = copy.copy(parameters["call"])
            call.residuals = self.op._forward(call, operands)[1]  # type: ignore[attr-defined]
            parameters = {"call": call}
        found = self.op.pull(self.position, g, y, operands, parameters)
        like = operands[self.position]
        return np.zeros(like.shape, like.dtype) if found is None else found

    def push(self, tangents: Sequence[Any], y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """The rate of change of the contribution: the rule is run on nodes."""
        g, _, *rest = operands
        nodes = [Tensor(x) if isinstance(x, np.ndarray) else x for x in (g, *rest)]
        result = tensor.apply(self.op, nodes[1:], parameters)
        found = self.op.pull(self.position, nodes[0], result, nodes[1:], parameters)
        moving = [tangents[0], *tangents[2:]]  # the result moves with its operands
        return _moved(found, nodes, moving, rest[self.position])


class Pushed:
    """What an operation's push gives: an operation on (*tangents that move, y, *operands)."""

    linear = None

    def __init__(self, op: Operation, moving: tuple[bool, ...]) -> None:
        self.op, self.moving = op, moving
        self.name = f"push of {op.name}"

    def forward(self, *given: Any, **parameters: Any) -> Any:
        """The tangent of the result."""
        count = sum(self.moving)
        tangents = iter(given[:count])
        y, *operands = given[count:]
        found = self.op.push([next(tangents) if moves else None for moves in self.moving], y, operands, parameters)
        return np.zeros(y.shape, y.dtype) if found is None else found

    def pull(self, position: int, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """Not needed: derivatives of tangents are taken forwards."""
        raise AssertionError("a program differentiates forwards over backwards")


def _moved(found: Any, nodes: Sequence[Any], moving: Sequence[Any], like: Any) -> Any:
    seeds = {x: t for x, t in zip(nodes, moving, strict=True) if type(x) is Tensor and t is not None}
    if type(found) is Tensor:
        tangents = sweeps.pushed(tensor.order(found), seeds)
        if found in tangents:
            return tangents[found]
    return np.zeros(like.shape, like.dtype)


def depends(graph: Graph, wrt: Sequence[Symbol]) -> list[bool]:
    """Which entries depend on those, by operations that have derivatives."""
    found = [False] * len(graph.entries)
    for x in wrt:
        found[x.number] = True
    for i, entry in enumerate(graph.entries):
        if not found[i] and entry.op is not question and entry.dtype.kind == "f":
            found[i] = any(type(x) is Symbol and found[x.number] for x in entry.args)
    return found


# --- backwards ----------------------------------------------------------------------------------------------------


def reverse(graph: Graph, output: Symbol, wrt: Sequence[Symbol]) -> list[Any]:
    """The gradients of an output of one number by some inputs, as Symbols or constants; None where there is none."""
    moving = depends(graph, wrt)
    adjoints: dict[int, Any] = {output.number: np.ones(output.shape, output.dtype)}
    stops = {x.number for x in wrt}
    for i in range(output.number, -1, -1):
        if i not in adjoints or i in stops or not moving[i]:
            continue
        g = adjoints.pop(i)
        entry = graph.entries[i]
        for position, operand in enumerate(entry.args):
            if type(operand) is not Symbol or not moving[operand.number]:
                continue
            present = adjoints.get(operand.number)
            contribution = _contribution(graph, i, position, g, present)
            if contribution is not None:
                adjoints[operand.number] = contribution
    return [adjoints.get(x.number) for x in wrt]


def _contribution(graph: Graph, i: int, position: int, g: Any, present: Any) -> Any:
    """The adjoint of an operand with what this entry adds to it; None where it adds nothing."""
    entry = graph.entries[i]
    y, op, operand = Symbol(graph, i), entry.op, entry.args[position]
    if isinstance(op, Primitive):
        local = (op.db if position else op.da)(y, *entry.args)
        found = _chained(g, local, operand)
    elif op is operations.index and present is not None and type(present) is Symbol:
        return graph.operation(patch, (present, g), entry.parameters)
    else:
        found = _pulled(graph, op, position, g, y, entry.args, entry.parameters)
        if found is None:
            return None
        found = _as(found, operand.dtype)
    return found if present is None else present + found


def _pulled(graph: Graph, op: Any, position: int, g: Any, y: Symbol, args: Any, parameters: Any) -> Any:
    operand = args[position]
    if op in (operations.max_, operations.min_):
        axis, keepdims = parameters["axis"], parameters["keepdims"]
        return operations.expanded(g, operand.shape, axis, keepdims) * _shares(y, operand, axis, keepdims)
    if op in SYMBOLIC:
        return op.pull(position, g, y, args, parameters)
    return graph.emit(Pulled(op, position), (g, y, *args), parameters, operand.shape, operand.dtype)


def _shares(y: Any, a: Any, axis: Any, keepdims: bool) -> Any:
    """operations.shares without a look at the numbers: where the extremum is nan, so is the slope."""
    chosen = a == operations.expanded(y, a.shape, axis, keepdims)
    count = np.add.reduce(chosen, axis=axis, keepdims=True).astype(a.dtype)
    return chosen / np.where(count == 0.0, np.nan, count)


def _as(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def _chained(g: Any, local: Any, like: Any) -> Any:
    """g times a local derivative, with the shape and precision of the operand; as Tensor.pull has it."""
    product = g if type(local) is float and local == 1.0 else g * local
    return _as(_unbroadcast(product, like.shape), like.dtype)


def _unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    is_long = type(g) is Symbol and g.ndim == 2 and len(g) > 64 and g.shape != shape
    if is_long and shape in ((1, g.shape[1]), (g.shape[1],)):
        return g.graph.operation(row_sum, (g,), {}).reshape(shape)
    return operations.unbroadcast(g, shape)


# --- forwards -----------------------------------------------------------------------------------------------------


def forward(graph: Graph, outputs: Sequence[Any], tangents: Mapping[int, Any]) -> list[Any]:
    """The tangents of the outputs, from {number of an input: its tangent}; None where an output does not move."""
    moving: dict[int, Any] = dict(tangents)
    last = max((y.number for y in outputs if type(y) is Symbol), default=-1)
    needed = _needed(graph, outputs)
    for i in range(last + 1):
        if i in moving or not needed[i]:
            continue
        entry = graph.entries[i]
        if entry.op is None or entry.op is question or entry.dtype.kind != "f":
            continue
        along = [moving.get(x.number) if type(x) is Symbol else None for x in entry.args]
        if any(t is not None for t in along):
            tangent = _tangent(graph, Symbol(graph, i), along)
            if tangent is not None:
                if tangent.shape != entry.shape:
                    tangent = np.broadcast_to(tangent, entry.shape)
                moving[i] = _as(tangent, entry.dtype)
    return [moving.get(y.number) if type(y) is Symbol else None for y in outputs]


def _any(given: Sequence[Any]) -> bool:
    return any(type(x) is Symbol for x in given)


def _needed(graph: Graph, outputs: Sequence[Any]) -> list[bool]:
    needed = [False] * len(graph.entries)
    pending = [y.number for y in outputs if type(y) is Symbol]
    while pending:
        i = pending.pop()
        if not needed[i]:
            needed[i] = True
            pending += [x.number for x in graph.entries[i].args if type(x) is Symbol]
    return needed


def _tangent(graph: Graph, y: Symbol, along: Sequence[Any]) -> Any:
    entry = y.entry
    op: Any = entry.op
    total: Any = None
    if isinstance(op, Primitive):
        for position, t in enumerate(along):
            if t is not None:
                local = (op.db if position else op.da)(y, *entry.args)
                part = t if type(local) is float and local == 1.0 else t * local
                total = part if total is None else total + part
        return total
    if op in (operations.max_, operations.min_):
        axis, keepdims = entry.parameters["axis"], entry.parameters["keepdims"]
        [t], [a] = along, entry.args
        return np.add.reduce(t * _shares(y, a, axis, keepdims), axis=axis, keepdims=keepdims)
    if op is where_by:
        condition, a, b = entry.args
        tangents = [np.zeros(np.shape(x), y.dtype) if t is None else t for x, t in zip((a, b), along[1:], strict=True)]
        return np.where(condition, *tangents)
    if op in SYMBOLIC and op.linear == "all":
        filled = [np.zeros(np.shape(x), x.dtype) if t is None else t for t, x in zip(along, entry.args, strict=True)]
        return graph.operation(op, filled, entry.parameters)
    if op in SYMBOLIC and op.linear == "each":
        for position, t in enumerate(along):
            if t is not None:
                given = (*entry.args[:position], t, *entry.args[position + 1 :])
                part = (
                    graph.operation(op, given, entry.parameters)
                    if _any(given)
                    else op.forward(*given, **entry.parameters)
                )
                total = part if total is None else total + part
        return total
    if op in SYMBOLIC:
        return op.push(along, y, entry.args, entry.parameters)
    moves = tuple(t is not None for t in along)
    given = (*(t for t in along if t is not None), y, *entry.args)
    return graph.emit(Pushed(op, moves), given, entry.parameters, entry.shape, entry.dtype)
