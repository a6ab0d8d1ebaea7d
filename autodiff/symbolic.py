"""The derivative of a formula, as a formula: the rules of the graph, run on expressions from the output down.

The same sweep as backward, the same rules, with symbols in place of numbers. Nodes with a name stand as their names,
as they do in formulas; all others are written out.
"""

from __future__ import annotations

from typing import Any

from autodiff import operations
from autodiff.graph import checked_node, order
from autodiff.notation import Expression, formula, local_formula
from autodiff.primitives import Primitive
from autodiff.pulls import broadcast, pull_formula
from autodiff.sweeps import dependent
from autodiff.tensor import Tensor
from autodiff.value import Value

Symbols = dict[Any, Expression]
# What takes an array full of a number to one full of the same number, pulled back
KEEP_FILLED: Any = (operations.sum_, operations.reshape, operations.transpose)


def derivative_formula(output: Any, wrt: Any, *, by_name: bool = False) -> Expression:
    """d(output)/d(wrt) as an expression in the names of the nodes: summed over all paths, simplified where it is easy.

    0 where output does not depend on wrt. Of array nodes the matrix equation, for an output of one number. by_name: the
    output may stand in it by its own name, as h in dh/dx = 1 - h² for h = tanh(x). Raises TypeError for what is not a
    node, ValueError for an output that holds more than one number.

    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> h = (w * x).exp()
    >>> h.name = "h"
    >>> print(derivative_formula(h * h + w, w))
    1 + 2 · h · h · x
    >>> print(derivative_formula(h, w), derivative_formula(h, w, by_name=True))
    exp(w · x) · x h · x

    >>> import numpy as np
    >>> X, v = Tensor(np.ones((5, 3)), name="X"), Tensor(np.ones(3), name="v")
    >>> print(derivative_formula(np.sum(np.exp(X @ v) * 2.0), v))
    X.T @ (2 · exp(X @ v))
    """
    output = checked_node(output, "derivative_formula(output, ...)")
    wrt = checked_node(wrt, "derivative_formula(..., wrt)")
    if output.size != 1:
        raise ValueError(
            f"derivative_formula is that of one number, and the output has the shape {output.shape}; take "
            "np.sum(output) or one of its elements"
        )
    nodes = order(output)
    symbols: Symbols = {}
    for node in reversed(nodes):
        named = node.name and (by_name or node is not output)
        symbols[node] = Expression(node.name) if named else formula(node, depth=1, label=symbols.get)
    upstream = {output: Expression(1.0)}
    between = dependent(nodes, {wrt: None}) if type(output) is type(wrt) else {}
    for node in nodes:
        if node is wrt or node not in between:
            continue
        pull = _pull if isinstance(node, Value) else _array_pull
        parts: Symbols = {}  # those of one node first, so that x * x adds 2 · x to whatever there is
        for parent, part in pull(node, upstream.pop(node), symbols):
            if parent in between:
                parts[parent] = _sum(parts[parent], part) if parent in parts else part
        for parent, part in parts.items():
            upstream[parent] = _sum(upstream[parent], part) if parent in upstream else part
    return _filled(upstream.get(wrt, Expression(0.0)), wrt.shape)


def _pull(node: Value, above: Expression, symbols: Symbols) -> list[tuple[Any, Expression]]:
    """[(parent, its contribution)] of a scalar node."""
    return [
        (parent, above * local_formula(node, position, symbols.__getitem__))
        for position, parent in enumerate(node.parents)
    ]


def _array_pull(node: Tensor, above: Expression, symbols: Symbols) -> list[tuple[Any, Expression]]:
    """[(parent, its contribution)] of an array node. A number stands for an array full of it as long as it can."""
    found = []
    for parent, local in node.edges():
        if isinstance(above.head, float) and node.op in KEEP_FILLED:
            found.append((parent, above))
            continue
        alone = isinstance(node.op, Primitive) and parent.shape == node.shape  # NumPy's product repeats the number
        upstream = above if alone else _filled(above, node.shape)
        found.append((parent, pull_formula(local, upstream, symbols.__getitem__).formula))
    return found


def _filled(expression: Expression, shape: tuple[int, ...]) -> Expression:
    """A number that stands for an array full of it, as the array."""
    number = isinstance(expression.head, float) and shape and expression.head != 0.0
    return Expression(broadcast(shape), (expression,)) if number else expression


def _sum(a: Expression, b: Expression) -> Expression:
    """a + b, as 2 · a if they are the same at sight, as the terms of x * x are; no operand is looked into."""
    alike = a is b or (a.head == b.head and list(map(id, a.operands)) == list(map(id, b.operands)))
    return 2.0 * a if alike else a + b
