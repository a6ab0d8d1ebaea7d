"""Receipts: the gradient of a node itemised edge by edge, or through chosen nodes further down.

The total derivative of f(t(x), u(x), v(x)) is df/dx = f_t dt/dx + f_u du/dx + f_v dv/dx: one term for each way
in which x enters. For arrays it is the same sum of matrix equations. Nothing here needs a backward pass or writes a
grad.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autodiff.array_receipts import ArrayReceipt, ArrayTerm, PathsMap
from autodiff.graph import Edge, Graph, adjoints, checked_node, tangents
from autodiff.notation import Expression, Node, local_formula
from autodiff.operations import index, reshape, transpose
from autodiff.receipts import Receipt, ScalarReceipt, Term, shortened
from autodiff.tensor import Tensor
from autodiff.value import Value


def total_derivative(output: Any, wrt: Any, through: Iterable[Any] | Any = None) -> Receipt:
    """The receipt of d(output)/d(wrt) = sum over child edges of d(output)/d(child) * d(child)/d(wrt).

    A child that uses wrt twice, as in x * x, has two terms. With `through`, the terms are those nodes instead:
    the local derivative is then d(node)/d(wrt) over all paths in between that meet none of the other nodes.

    For array nodes the output holds one number, and a local derivative is a linear map: the contribution is the
    upstream pulled through it, an array of the shape of wrt.

    Raises TypeError for what is not a node, and ValueError if the output does not depend on wrt, if a path from wrt to
    output avoids every node of `through` (the message names the path), or if wrt is a part of an array node of this
    graph.

    >>> x = Value(3.0, name="x")
    >>> f = (x * x) * x.tanh()
    >>> receipt = total_derivative(f, x)
    >>> [(term.label, round(term.contribution, 6)) for term in receipt.terms]
    [('x · x', 2.985164), ('x · x', 2.985164), ('tanh(x)', 0.088794)]

    >>> X, W = Tensor([[1.0, 2.0], [3.0, 4.0]], name="X"), Tensor([[0.5], [-0.5]], name="W")
    >>> z = X @ W
    >>> z.name = "z"
    >>> print(total_derivative(np.sum(z), W))
    df/dW = X.T @ df/dz: (2×2)(2×1) → 2×1
      z    upstream      [[1]
                          [1]]
           contribution  [[4]
                          [6]]
    """
    output = checked_node(output, "total_derivative(output, ...)")
    wrt = checked_node(wrt, "total_derivative(..., wrt)")
    if type(output) is not type(wrt):
        raise TypeError(
            f"total_derivative: the output is a {type(output).__name__} and wrt a {type(wrt).__name__}, and a graph "
            "holds nodes of one kind; ask for a node that the output was computed from"
        )
    graph = Graph(output)
    kind = ScalarReceipt if isinstance(output, Value) else ArrayReceipt
    if wrt not in graph:
        _refuse_a_part(graph, wrt)
        name = wrt.name or repr(wrt)
        raise ValueError(
            f"total_derivative: {_output_symbol(graph)} does not depend on {name}: no path leads from there to the "
            "output, so the derivative is 0 and has no terms. Was a copy of it used? why_zero(output, node) says more"
        )
    adjoint = adjoints(output)
    terms: list[Any]
    if through is None:
        terms = [_edge_term(graph, edge, adjoint) for edge in graph.edges if edge.parent is wrt]
    else:
        terms = _terms_through(graph, wrt, _chosen(graph, through), adjoint)
    return kind(output, wrt, terms, (_output_symbol(graph), graph.symbol(wrt)))


def _edge_term(graph: Graph, edge: Edge, adjoint: dict[Any, Any]) -> Term | ArrayTerm:
    child, upstream = edge.child, adjoint[edge.child]
    if isinstance(child, Value):
        return Term(child, upstream, edge.local, graph.symbol(child), local_formula(child, edge.position, graph.symbol))
    return ArrayTerm(child, upstream, edge.local, edge.local.pull(upstream), graph.symbol)


def _chosen(graph: Graph, through: Any) -> dict[Any, None]:
    """The nodes of `through`, each once; a single node, a list or an array of them."""
    nodes = [through] if isinstance(through, Node) else through.flat if isinstance(through, np.ndarray) else through
    if not isinstance(nodes, Iterable):
        nodes = [nodes]  # refused below
    stops = dict.fromkeys(checked_node(node, "total_derivative(..., through)") for node in nodes)
    for node in stops:
        if node not in graph:
            raise ValueError(f"through: {node!r} is not below the output {graph.label(graph.output)}")
    return stops


def _terms_through(graph: Graph, wrt: Any, stops: dict[Any, None], adjoint: dict[Any, Any]) -> list[Any]:
    came_from = _reached(graph, wrt, stops)
    if graph.output not in stops and (graph.output in came_from or graph.output is wrt):
        path = [graph.output]
        while path[-1] is not wrt:
            path.append(came_from[path[-1]])
        names = shortened([graph.label(node) for node in reversed(path)], "...")
        raise ValueError(
            f"through: the chosen nodes do not cut every path from {names[0]} to {names[-1]}; {' -> '.join(names)} "
            "avoids them all. Add one of its nodes"
        )
    kept = [node for node in stops if node in came_from or node is wrt]
    if isinstance(wrt, Value):
        tangent = tangents(graph.output, wrt, stops)
        return [Term(node, adjoint[node], tangent[node], graph.symbol(node), None) for node in kept]
    terms = []
    for node in kept:
        local = PathsMap(node, wrt, stops)
        terms.append(ArrayTerm(node, adjoint[node], local, local.pull(adjoint[node]), graph.symbol))
    return terms


def _reached(graph: Graph, wrt: Any, stops: dict[Any, None]) -> dict[Any, Any]:
    """{node: the parent it is reached from} for all that wrt leads to on paths that end at the first stop."""
    came_from: dict[Any, Any] = {}
    if wrt in stops:
        return came_from
    for edge in graph.edges:
        parent_open = edge.parent is wrt or (edge.parent in came_from and edge.parent not in stops)
        if parent_open and edge.child not in came_from:
            came_from[edge.child] = edge.parent
    return came_from


def _refuse_a_part(graph: Graph, wrt: Any) -> None:
    """ValueError for W[0, 1] or W.T of an array node W of the graph, made only to ask for it."""
    whole = wrt
    while type(whole) is Tensor and whole.op in (index, reshape, transpose):
        whole = whole.parents[0]
    if whole is not wrt and whole in graph:
        name = graph.label(whole)
        raise ValueError(
            f"total_derivative: {wrt!r} is a part of {name} and a node of its own, which the output was not computed "
            f"from. A receipt is that of a whole array node: take total_derivative(output, {name}) and the same part "
            "of its .total; for a receipt of every single number run the same code on autodiff.scalars(array)"
        )


def _output_symbol(graph: Graph) -> Expression:
    unnamed = graph.output.name is None and graph.output.op is not None
    taken = any(node.name == "f" for node in graph.nodes)
    return Expression("f") if unnamed and not taken else graph.symbol(graph.output)
