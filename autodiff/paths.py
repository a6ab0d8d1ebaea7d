"""Paths: the gradient of a node path by path, counted, listed, or the heaviest of them.

Every path from a node to the output multiplies the local derivatives along it; the sum over all paths is the adjoint.
There may be far more paths than nodes, so what asks for all of them has a limit, and the others never walk them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.graph import Edge, Graph, checked_node, checked_value
from autodiff.names import counted
from autodiff.value import Value


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One way from a node to the output: its nodes, the local derivatives along it, and their product."""

    nodes: tuple[Value, ...]
    locals: tuple[float, ...]

    @property
    def product(self) -> float:
        """What this path alone adds to the adjoint."""
        return math.prod(self.locals, start=1.0)


def count_paths(output: Any, wrt: Any) -> int:
    """The number of paths from wrt to output, counted edge by edge without walking them; exact. Any kind of node.

    >>> x = Value(1.0)
    >>> y = x
    >>> for _ in range(100):
    ...     y = y + y
    >>> count_paths(y, x) == 2**100
    True
    """
    graph = Graph(checked_node(output, "count_paths(output, ...)"))
    return _counts(graph, checked_node(wrt, "count_paths(..., wrt)")).get(graph.output, 0)


def _counts(graph: Graph, wrt: Any) -> dict[Any, int]:
    count = {wrt: 1}
    for edge in graph.edges:
        if edge.parent in count and edge.child is not wrt:
            count[edge.child] = count.get(edge.child, 0) + count[edge.parent]
    return count


def paths(output: Value, wrt: Value, limit: int = 10_000) -> list[Path]:
    """Every path from wrt to output; their products sum to d(output)/d(wrt).

    Two edges between the same nodes, as in x * x, are two paths. A node that output does not depend on has none;
    the output itself has one, of no edges. Raises ValueError, naming the number, beyond `limit` paths.

    >>> x = Value(3.0, name="x")
    >>> [path.product for path in paths(x * x + x, x)]
    [1.0, 3.0, 3.0]
    """
    output, wrt = checked_value(output, "paths(output, ...)"), checked_value(wrt, "paths(..., wrt)")
    graph = Graph(output)
    count = _counts(graph, wrt)
    total = count.get(output, 0)
    if total > limit:
        raise ValueError(
            f"{counted(total)} paths lead from {wrt.name or 'the node'} to {graph.label(output)}, more than "
            f"limit={limit}; raise the limit, ask for a node nearer to the output or for heaviest_paths, or use "
            "count_paths and total_derivative"
        )
    into: dict[Value, list[Edge]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        into[edge.child].append(edge)
    found: list[Path] = []
    # Walked from the output down, only along nodes that wrt leads to, so that no step is in vain. A trail is a
    # linked list (edge, rest of the trail): paths share their ends.
    open_ends: list[tuple[Value, Any]] = [(output, None)] if total else []
    for node, trail in open_ends:  # the list grows while it is read
        if node is wrt:
            edges = []
            while trail is not None:
                edge, trail = trail
                edges.append(edge)
            found.append(Path((wrt, *(edge.child for edge in edges)), tuple(edge.local for edge in edges)))
            continue
        open_ends.extend((edge.parent, (edge, trail)) for edge in into[node] if edge.parent in count)
    return found


def heaviest_paths(output: Value, wrt: Value, k: int = 5) -> list[Path]:
    """The k paths from wrt to output with the largest |product|, heaviest first; all of them if there are fewer.

    Found without walking all paths: of the ways that lead to a node only the k heaviest can be part of them. Of
    paths of equal weight the first found are kept. Products neither underflow nor overflow in the comparison. A path
    of weight nan comes first; where local derivatives are inf or nan, others may be missed.

    Raises ValueError for a k that is not 1 or more.

    >>> x = Value(3.0, name="x")
    >>> y = x * x + 2.0 * x + x
    >>> [path.product for path in heaviest_paths(y, x, k=3)]
    [3.0, 3.0, 2.0]
    """
    output = checked_value(output, "heaviest_paths(output, ...)")
    wrt = checked_value(wrt, "heaviest_paths(..., wrt)")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"heaviest_paths: k is how many paths are wanted, 1 or more, got {k!r}")
    graph = Graph(output)
    # {node: its k heaviest ways from wrt}: (weight, (last edge, the way before it)); ways share their beginnings
    best: dict[Value, list[tuple[Weight, Any]]] = {wrt: [(ONE, None)]}
    into: list[tuple[Weight, Any]] = []
    for number, edge in enumerate(graph.edges):
        if edge.parent in best and edge.child is not wrt:
            weight = scaled(abs(edge.local))
            into += [(times(before, weight), (edge, way)) for before, way in best[edge.parent]]
        last = number + 1 == len(graph.edges) or graph.edges[number + 1].child is not edge.child
        if last and into:  # the edges into a child stand together
            into.sort(key=lambda candidate: candidate[0], reverse=True)
            best[edge.child] = into[:k]
            into = []
    found = []
    for _, way in best.get(output, ()):
        edges = []
        while way is not None:
            edge, way = way
            edges.append(edge)
        edges.reverse()
        found.append(Path((wrt, *(edge.child for edge in edges)), tuple(edge.local for edge in edges)))
    return found


Weight = tuple[float, float]  # (exponent of two, mantissa from 1/2 to 1): compared as numbers of any size
ONE: Weight = (1, 0.5)


def scaled(number: float) -> Weight:
    """A number >= 0 as a weight; inf is heavier than all numbers, and nan heaviest.

    >>> scaled(6.0), scaled(0.0) < scaled(5e-324) < scaled(math.inf) < scaled(math.nan)
    ((3, 0.75), True)
    """
    if number == 0.0:
        return (-math.inf, 0.0)
    if not math.isfinite(number):
        return (math.inf, 1.0 if number == math.inf else 2.0)
    mantissa, exponent = math.frexp(number)
    return (exponent, mantissa)


def times(a: Weight, b: Weight) -> Weight:
    """The weight of the product; 0 * inf is nan."""
    exponent = a[0] + b[0]
    if math.isnan(exponent):
        return (math.inf, 2.0)
    if math.isinf(exponent):
        return (exponent, max(a[1], b[1]) if exponent > 0.0 else 0.0)  # the mantissas of numbers are below 1
    mantissa, carried = math.frexp(a[1] * b[1])
    return (exponent + carried, mantissa)
