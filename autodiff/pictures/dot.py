"""A graph as Graphviz source; and what all pictures share: the graph they read, and the texts they show.

Nodes compare by their data, so here as everywhere they are told apart by identity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from autodiff.tensor import Tensor

if TYPE_CHECKING:
    import graphviz

__all__ = ["DASH", "Drawable", "gradient", "heading", "number", "scalar_nodes", "to_dot", "to_graphviz"]

DASH = "\N{EN DASH}"  # stands for a gradient that no backward pass has computed: 0 would be a claim


class Drawable(Protocol):
    """A graph that can be drawn.

    nodes: ancestors first, the output last, each with .data .grad .name. edges: each with .parent .child,
    .local = d(child)/d(parent) through one operand, and .position, which operand it is. label: a short text;
    operation: as it is printed, None for a leaf; has_grad: whether a backward pass has reached the node.
    """

    @property
    def nodes(self) -> Sequence[Any]: ...
    @property
    def edges(self) -> Sequence[Any]: ...
    def label(self, node: Any, /) -> str: ...
    def operation(self, node: Any, /) -> str | None: ...
    def has_grad(self, node: Any, /) -> bool: ...


def scalar_nodes(graph: Drawable) -> list[Any]:
    """The nodes of a graph that can be drawn; TypeError, saying what there is for arrays, for one of array nodes."""
    nodes = list(graph.nodes)
    if nodes and type(nodes[-1]) is Tensor:
        raise TypeError(
            "pictures show scalar nodes (Value), and this is a graph of array nodes (Tensor). For those there are "
            "Graph(output) with its nodes, labels and linear maps, adjoints(output) and first_nonfinite(f, ...); "
            "or draw the graph of the same code on autodiff.scalars(array), where every number is a node of its own"
        )
    return nodes


def number(x: float) -> str:
    """x with 4 significant digits, whole numbers below a million in full, and a real minus sign.

    >>> [number(x) for x in (0.51234, -2.0, 150000, 1e-9, -12345.6, float("nan"), float("-inf"))]
    ['0.5123', '−2', '150000', '1e−9', '−1.235e4', 'nan', '−inf']
    """
    x = float(x)
    text = f"{x:.0f}" if math.isfinite(x) and x == round(x) and abs(x) < 1e6 else f"{x:.4g}"
    mantissa, e, exponent = text.partition("e")
    return (mantissa + (f"e{int(exponent)}" if e else "")).replace("-", "\N{MINUS SIGN}")


def heading(graph: Drawable, node: Any) -> tuple[str, str]:
    """The node's label and its operation, "" for a leaf and where the label is a formula that shows it."""
    label, operation = str(graph.label(node)), graph.operation(node)
    if operation is None or (not node.name and operation in label):
        return label, ""
    return label, operation


def gradient(graph: Drawable, node: Any) -> str:
    """The node's gradient as text, a dash before any backward pass has reached it."""
    return number(node.grad) if graph.has_grad(node) else DASH


def to_dot(graph: Drawable) -> str:
    """Graphviz source: a record (name, value, grad) per node, an arrow with its local derivative per edge.

    Nodes are called n0, n1, ... in the graph's order, so equal graphs give equal text.

    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> for line in to_dot(Graph(x * x)).splitlines()[4:]:
    ...     print(line.strip())
    n0 [label="x|value 3|grad –", style="filled,rounded", fillcolor="#e6f1fb", color="#0b63a5"];
    n1 [label="x · x|value 9|grad –", fillcolor="#fff3e0", color="#c2410c", penwidth=2];
    n0 -> n1 [label=" 3 "];
    n0 -> n1 [label=" 3 "];
    }
    """
    index = {id(node): i for i, node in enumerate(scalar_nodes(graph))}
    lines = [
        "digraph chainrule {",
        "  rankdir=LR;",
        '  node [shape=record, style="filled", fillcolor="#ffffff", color="#374151", fontname="monospace"];',
        '  edge [color="#4b5563", fontname="monospace", fontsize=11];',
    ]
    for i, node in enumerate(graph.nodes):
        head = " = ".join(filter(None, heading(graph, node)))
        fields = (head, f"value {number(node.data)}", f"grad {gradient(graph, node)}")
        look = ""
        if i == len(graph.nodes) - 1:
            look = ', fillcolor="#fff3e0", color="#c2410c", penwidth=2'
        elif graph.operation(node) is None:
            look = ', style="filled,rounded", fillcolor="#e6f1fb", color="#0b63a5"'
        lines.append(f'  n{i} [label="{"|".join(_field(text) for text in fields)}"{look}];')
    for edge in graph.edges:
        ends = f"n{index[id(edge.parent)]} -> n{index[id(edge.child)]}"
        lines.append(f'  {ends} [label=" {number(edge.local)} "];')
    return "\n".join([*lines, "}", ""])


def to_graphviz(graph: Drawable) -> graphviz.Source:
    """The same as a graphviz.Source: notebooks show it, `.render(format="pdf")` writes it, with `dot`."""
    import graphviz  # not needed for anything else, so not at import time

    return graphviz.Source(to_dot(graph))


def _field(text: str) -> str:
    """Text as a field of a quoted record label, where \\ " { } | < > & and spaces mean something else."""
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text).replace("&", "&amp;")
    return re.sub(r'[\\"{}|<>]|^ | (?= |$)', r"\\\g<0>", kept).replace("\n", r"\n")
