"""Graphs of Tensors as graphs of arrays that a program runs: what is read at every call, and what is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from autodiff.primitives import Primitive
from autodiff.programs.arrays.graph import Graph, Symbol, question, where_by
from autodiff.tensor import NUMBER, Tensor


class Recorded:
    """A graph of Tensors as a Graph: its inputs in order, its outputs, and the guards."""

    def __init__(
        self, graph: Graph, inputs: list[Symbol], outputs: list[Any], guards: list[tuple[Symbol, Any]]
    ) -> None:
        self.graph, self.inputs, self.outputs, self.guards = graph, inputs, outputs, guards


def graph_of(
    outputs: Sequence[Any],
    inputs: Sequence[Tensor],
    guards: Sequence[tuple[Tensor, Any]] = (),
    captured: Sequence[Tensor] = (),
    since: int = 0,
    errors: Mapping[Tensor, dict[str, str]] | None = None,
) -> Recorded:
    """The graph of Tensors as entries; what does not depend on an input is a constant.

    inputs, then captured: the nodes whose arrays a call brings. since: nodes that are older are constants too. errors:
    what np.errstate asked for where a node was made, if other than outside of the function.
    """
    graph = Graph()
    found: dict[Tensor, Any] = {}
    symbols = []
    for i, node in enumerate([*inputs, *captured]):
        symbol = found[node] = graph.input(i, node.shape, node.data.dtype, node.name)
        symbols.append(symbol)
    wanted = [y for y in outputs if type(y) is Tensor] + [answer for answer, _ in guards]
    for node in _order(wanted, found, since):
        found[node] = own(node.data) if node.number < since else _entry(graph, node, found)
        if errors and node in errors and type(found[node]) is Symbol:
            graph.errors[found[node].number] = errors[node]
    return Recorded(
        graph,
        symbols,
        [found[y] if type(y) is Tensor else y for y in outputs],
        [(found[answer], expected) for answer, expected in guards if type(found[answer]) is Symbol],
    )


def older(outputs: Sequence[Any], inputs: Sequence[Tensor], since: int) -> list[Tensor]:
    """The nodes that the outputs depend on and whose arrays are read at every call.

    They were made before the recording, or in it: f may have kept a parameter that it made when it was first needed.
    """
    stops = dict.fromkeys(inputs)
    nodes = _order([y for y in outputs if type(y) is Tensor], stops, since)
    return [node for node in nodes if node.number < since or node.op is None]


def _order(outputs: Sequence[Tensor], stops: Mapping[Tensor, Any], since: int) -> list[Tensor]:
    """Every ancestor of the outputs down to the stops, operands first."""
    seen = {y for y in outputs if y not in stops}
    pending = list(seen)
    for node in pending:
        if node.number < since:
            continue
        for parent in node.parents:
            if parent not in seen and parent not in stops:
                seen.add(parent)
                pending.append(parent)
    return sorted(pending, key=NUMBER)


def _entry(graph: Graph, node: Tensor, found: Mapping[Tensor, Any]) -> Any:
    """The node as a Symbol, or as its array where it depends on no input."""
    if not any(type(x) is Tensor and type(found.get(x)) is Symbol for x in node.operands):
        return own(node.data)
    args = tuple(found[x] if type(x) is Tensor else own(x) for x in node.operands)
    op: Any = node.op
    shape, dtype = node.data.shape, node.data.dtype
    if isinstance(op, Primitive):
        made = graph.append(op, args, {}, shape, dtype)
    elif op is operations.where:
        condition = np.array(node.parameters["condition"])
        made = graph.append(where_by, (condition, *args), {}, shape, dtype)
    elif op is operations.reshape or op is operations.broadcast_to:
        made = graph.append(op, args, {"shape": shape}, shape, dtype)
    elif op is question:
        made = graph.emit(op, args, node.parameters, shape, dtype)
    else:
        made = graph.append(op, args, node.parameters, shape, dtype)
    if node.name:
        graph.names[made.number] = node.name
    return made


def own(x: Any) -> Any:
    """A constant as a program keeps it: nobody else writes into it. What was broadcast stays so, without memory."""
    if type(x) is not np.ndarray or not (x.flags.writeable or x.base is not None):
        return x
    once = x[tuple(slice(0, 1) if step == 0 else slice(None) for step in x.strides)]
    return np.array(x) if once.shape == x.shape else np.broadcast_to(np.array(once), x.shape)
