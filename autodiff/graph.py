"""Graph: what lies below an output, as ordered nodes and edges with names, and the adjoints over it.

For scalar nodes (Value) and array nodes (Tensor) alike: on an edge between Values the local derivative is a number,
between Tensors a linear map. Everything here reads the graph and changes nothing in it: neither a grad nor a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import grouping, tensor, value
from autodiff.collapse import Collapsed
from autodiff.notation import Expression, Node, formula, operation
from autodiff.pictured import Pictured
from autodiff.sweeps import pulled, pushed
from autodiff.tensor import Tensor
from autodiff.value import NO_GRAD, Value


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """One use of a parent by a child, with the local derivative d(child)/d(parent) of that use alone."""

    parent: Any  # a Value or a Tensor, and so is the child
    child: Any
    local: Any  # a float between Values; a tensor.LinearMap between Tensors: its pull, push and matrix()
    position: int  # which parent of the child it is: x * x has an edge at 0 and one at 1


class Graph(Pictured):
    """The nodes and edges below an output.

    nodes: every ancestor of output and output itself, parents before children. edges: by child in that order, then
    by operand; two for x * x. The local derivatives are those of the moment the Graph is made: draw it before a
    training step changes the data of the leaves. parameters: which leaves pictures show as such, a list of nodes or
    something with parameters(), as a network; where it is not given, those made inside a scope, as nn's are, and those
    called like one (w1_21, W, b2_3, theta).

    >>> x = Value(3.0, name="x")
    >>> y = x * x + 1.0
    >>> y.name = "y"
    >>> g = Graph(y)
    >>> [g.label(node) for node in g.nodes]
    ['x', 'x · x', 'y']
    >>> [(g.label(e.parent), g.label(e.child), e.local) for e in g.edges]
    [('x', 'x · x', 3.0), ('x', 'x · x', 3.0), ('x · x', 'y', 1.0)]

    >>> X, W = Tensor(np.ones((5, 3)), name="X"), Tensor(np.ones((3, 2)), name="W")
    >>> for edge in Graph(np.sum(X @ W)).edges:
    ...     print(edge.local)
    ∂matmul/∂X (5×3 → 5×2)
    ∂matmul/∂W (3×2 → 5×2)
    ∂sum/∂a (5×2 → number)
    """

    def __init__(self, output: Any, parameters: Any = None) -> None:
        self.output = checked_node(output, "Graph")
        chosen = parameters.parameters() if hasattr(parameters, "parameters") else parameters
        if isinstance(chosen, Node) or not isinstance(chosen, Iterable | None):
            chosen = [chosen]
        where = "Graph(..., parameters), or each one of them,"
        self._parameters = None if chosen is None else dict.fromkeys(checked_node(leaf, where) for leaf in chosen)
        self.nodes: tuple[Any, ...] = tuple(reversed(order(self.output)))
        self.edges: tuple[Edge, ...] = tuple(
            Edge(parent, node, local, position)
            for node in self.nodes
            for position, (parent, local) in enumerate(node.edges())
        )
        self._members = dict.fromkeys(self.nodes)
        self._symbols: dict[Any, Expression] | None = None

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"Graph({self.label(self.output)}: {len(self.nodes)} nodes, {len(self.edges)} edges)"

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and node in self._members  # a dict asks for identity first, not for data

    @property
    def leaves(self) -> tuple[Any, ...]:
        """The nodes nothing was computed for: inputs and parameters, in order."""
        return tuple(node for node in self.nodes if node.op is None)

    def named(self, name: str) -> Any:
        """The node of that name; KeyError, saying which names there are, if none or several have it."""
        found = [node for node in self.nodes if node.name == name]
        if len(found) != 1:
            names = ", ".join(sorted({node.name for node in self.nodes if node.name})) or "none"
            raise KeyError(f"{len(found)} nodes are named {name!r}; names in this graph: {names}")
        return found[0]

    def scopes(self) -> dict[tuple[str, ...], list[Any]]:
        """{scope: its nodes, in order}: () for nodes made outside of any; nested scopes have keys of their own."""
        members: dict[tuple[str, ...], list[Any]] = {}
        for node in self.nodes:
            members.setdefault(node.scope, []).append(node)
        return members

    def children(self) -> dict[Any, list[Edge]]:
        """{node: the edges to its children, in order}; an empty list at the output."""
        children: dict[Any, list[Edge]] = {node: [] for node in self.nodes}
        for edge in self.edges:
            children[edge.parent].append(edge)
        return children

    def symbol(self, node: Any) -> Expression:
        """How formulas call a node: by its name, by its formula in names if that is short, or v and its number.

        Two nodes without a name never have the same symbol, nor that of a named one.
        """
        symbols = self._symbols
        if symbols is None:
            symbols = self._symbols = self._all_symbols()
        if node not in symbols:
            raise KeyError(f"{node!r} is no node of this graph, which holds the {len(self)} ancestors of its output")
        return symbols[node]

    def _all_symbols(self) -> dict[Any, Expression]:
        names = {node.name for node in self.nodes if node.name}
        letter = "v" if not any(re.fullmatch(r"v\d+", name) for name in names) else "node"
        symbols, holders = {}, dict.fromkeys(names, 2)
        shown: dict[int, str] = {}  # {number of a node that its formula stands for: that formula}
        for number, node in enumerate(self.nodes):
            symbol = Expression(node.name or f"{letter}{number}")
            if not node.name and node.op is not None and all(parent.name for parent in node.parents):
                short = formula(node)
                text = str(short)
                if len(text) <= MAX_LABEL:
                    symbol, shown[number] = short, text
                    holders[text] = holders.get(text, 0) + 1
            symbols[node] = symbol
        for number, text in shown.items():
            if holders[text] > 1:
                symbols[self.nodes[number]] = Expression(f"{letter}{number}")
        return symbols

    def label(self, node: Any) -> str:
        """`symbol` as plain text."""
        return str(self.symbol(node))

    def operation(self, node: Any) -> str | None:
        """How the operation that made a node is called, with its constant: "tanh", "+", "^3"; None for a leaf."""
        return operation(node)

    def has_grad(self, node: Any) -> bool:
        """Whether a backward pass has reached the node; before that its grad of 0 means nothing."""
        return node.has_grad if type(node) is Tensor else node.grad is not NO_GRAD

    def is_parameter(self, node: Any) -> bool:
        """Whether a leaf is a parameter rather than an input: see the `parameters` of the graph."""
        return grouping.is_parameter(node) if self._parameters is None else node in self._parameters

    def contribution(self, edge: Edge) -> Any:
        """Upstream times local: what the edge adds to its parent's grad, from the stored grad of its child.

        None where no backward pass has reached the child.
        """
        if not self.has_grad(edge.child):
            return None
        grad = edge.child.grad
        return grad * edge.local if isinstance(edge.local, float) else edge.local.pull(grad)

    def collapse(self, to: Any = None, parameters: bool = False) -> Collapsed:
        """The graph drawn coarser: its boxes are nodes and Groups, its edges total derivatives through their bodies.

        to: None takes "neurons", or "names" where nothing was made in a scope. "names" keeps the nodes with a name and
        the output; a list of nodes keeps these and the output; "neurons" and "layers" make groups by the scopes the
        nodes were made in, an int by that many scopes from outside; "matrices" makes the groups W, b, z and a of every
        layer. Parameters belong to the group that uses them, but with parameters=True they stay boxes of their own.

        >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
        >>> with value.scope("layer 1"):
        ...     h = (w * x).tanh()
        >>> collapsed = Graph((h - 1.0) ** 2).collapse("layers")
        >>> [collapsed.label(node) for node in collapsed.nodes]
        ['x', 'layer 1', 'output']
        >>> collapsed.nodes[1].members == (w, h.parents[0], h)
        True
        """
        if to is None:
            to = "neurons" if any(node.scope for node in self.nodes) else "names"
        return Collapsed(self, to, parameters)


MAX_LABEL = 24  # characters; a longer formula does not fit its box in a picture


def order(*outputs: Any) -> list[Any]:
    """[output, ..., leaves]: every ancestor of the outputs once, each after all of its children; nodes of one kind."""
    return tensor.order(*outputs) if type(outputs[0]) is Tensor else value.order(*outputs)


def adjoints(output: Any) -> dict[Any, Any]:
    """{node: d(output)/d(node)} for every node below output, output first; touches no grad.

    Floats for Values; for Tensors arrays, each of the shape of its node. Raises ValueError for an output that holds
    more than one number.

    >>> x = Value(3.0)
    >>> adjoints(x * x)[x]
    6.0
    >>> X = Tensor([1.0, 2.0])
    >>> adjoints(np.sum(X * X))[X]
    array([2., 4.])
    """
    output = checked_node(output, "adjoints")
    if output.size != 1:
        raise ValueError(
            f"adjoints are those of one number, and the output has the shape {output.shape}; take np.sum(output) or "
            "one of its elements, or autodiff.vjp for an upstream of your own"
        )
    nodes = order(output)
    if isinstance(output, Value):
        if value.watcher is not None:
            value.watcher("adjoints", output, None, None)
        found = pulled(nodes, {output: 1.0}, keep=True)
        return {node: found[node] for node in nodes}
    found = pulled(nodes, {output: np.ones(output.shape, output.dtype)}, keep=True)
    return {node: np.asarray(found[node]) if node in found else np.zeros(node.shape, node.dtype) for node in nodes}


def tangents(output: Any, seed: Any, stops: Iterable[Any] = (), direction: Any = None) -> dict[Any, Any]:
    """{node: d(node)/d(seed)} for every node from seed to output, along paths that end at the first of `stops`.

    Forward mode over the same edges: what a stop receives is kept there and handed no further. direction: the
    tangent of the seed, 1 where none is given; a Tensor of more than one number needs one, of its shape.

    >>> X = Tensor([1.0, 2.0])
    >>> y = np.sum(X * X)
    >>> tangents(y, X, direction=np.array([0.0, 1.0]))[y]
    array(4.)
    """
    output, seed = checked_node(output, "tangents(output, ...)"), checked_node(seed, "tangents(..., seed)")
    if direction is None:
        if seed.size != 1:
            raise ValueError(
                f"tangents from a node of shape {seed.shape} need a direction=, an array of that shape: which way it "
                "moves"
            )
        direction = 1.0
    elif np.shape(direction) != seed.shape:
        raise ValueError(f"tangents: the direction has the shape {seed.shape} of its node, got {np.shape(direction)}")
    if type(output) is not type(seed):  # no path leads from one kind to the other
        return {seed: direction}
    nodes, ends = order(output), dict.fromkeys(stops)  # a dict finds nodes by identity
    if isinstance(seed, Value):
        if value.watcher is not None:
            value.watcher("tangents", seed, None, None)
        return pushed(nodes, {seed: float(direction)}, ends)
    start = np.broadcast_to(np.asarray(direction, seed.dtype), seed.shape)
    return {node: np.asarray(tangent) for node, tangent in pushed(nodes, {seed: start}, ends).items()}


def checked_node(node: Any, where: str) -> Any:
    """node, or the one element of an array of nodes, if it is a node; TypeError, saying what to do, if not."""
    if isinstance(node, np.ndarray) and node.dtype == object and node.size == 1:
        node = node.item()
    if isinstance(node, Node):
        if value.watcher is not None and isinstance(node, Value):
            value.watcher(where, node, None, None)  # its numbers will be looked at
        return node
    hint = ""
    if isinstance(node, (float, int)):
        hint = "; a plain number remembers nothing: was it computed with .item() or .data?"
    elif isinstance(node, np.ndarray) and node.dtype != object:
        hint = f" of shape {node.shape}; a plain array remembers nothing: was it computed with .data?"
    elif hasattr(node, "shape"):
        hint = f" of shape {node.shape}; take one of its elements, or their sum"
    raise TypeError(f"{where} takes a node (Value or Tensor), got {type(node).__name__}{hint}")


def checked_value(node: Any, where: str) -> Value:
    """node, if it is a scalar one; TypeError, saying what there is for arrays, if it is an array node or none."""
    node = checked_node(node, where)
    if isinstance(node, Value):
        return node
    raise TypeError(
        f"{where} takes a scalar node (Value), got a Tensor of shape {node.shape}. For array nodes there are "
        "Graph(output) with its edges' linear maps, adjoints(output), first_nonfinite(f, ...) and why_zero(output, "
        "node); or run the same code on autodiff.scalars(array), where every number is a node of its own"
    )
