"""What each edge of a node adds to the adjoints of its operands, with a bound on the rounding: the same rules on sizes.

An elementwise operation multiplies the upstream with its local derivative; the others are asked for their own pull.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from autodiff.operations import unbroadcast
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.recorded import Recorded, floats, forward, is_edge, is_elementwise, local_rules, moved, signed
from nn.audit.rules import SAFETY

Edges = Sequence[tuple[int, Any]]  # (position, parent)
Contributions = list[tuple[int, Any, Adjoint]]  # (position, parent, what the edge adds)
Pull = Callable[..., list[Any]]  # (upstream, operands, output=the recorded one) -> what each edge adds

PRODUCTS = (operations.matmul, operations.einsum)
# Derivatives that many write with the output y round as a number of this size does: 1 - y * y as 1.
FORMS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.ones_like, "softplus": np.ones_like, "sigmoid": lambda y: y, "erf": np.ones_like,
}  # fmt: skip


def pulled(recorded: Recorded, node: Any, g: Adjoint) -> Contributions:
    """[(position, parent, contribution), ...] of a node's edges, given its adjoint g."""
    values, errors = recorded.operands(node)
    edges = [(i, x) for i, x in enumerate(node.operands) if is_edge(x, node)]
    if is_elementwise(node):
        if np.shape(g.value) != np.shape(node.data):
            whole = np.broadcast_shapes(np.shape(g.value), np.shape(node.data))
            g = Adjoint(*(np.broadcast_to(part, whole) for part in (g.value, g.bound, g.size)))
        return [(i, x, _chained(recorded, node, i, g, values, errors)) for i, x in edges]
    if np.shape(g.value) != np.shape(node.data):
        if node.op is operations.sum_ and _broadcasts(g.value, values[0].shape):
            [(i, x)] = edges
            return [(i, x, Adjoint(*(np.broadcast_to(part, values[0].shape) for part in (g.value, g.bound, g.size))))]
        g = in_shape(g, np.shape(node.data))
    pull = _pull(node, recorded.data[node], edges)
    if node.op.linear is not None:
        return _linear(recorded, node, edges, pull, g, values, errors)
    if node.op in (operations.max_, operations.min_):
        return _extreme(recorded, node, edges, pull, g, values, errors)
    return _moved_about(recorded, node, edges, pull, g, values, errors)


def passed(recorded: Recorded, node: Any, g: Any) -> list[tuple[int, Any, Any]]:
    """[(position, parent, contribution), ...] of a node's edges without bounds, given the numbers g of its adjoint."""
    edges = [(i, x) for i, x in enumerate(node.operands) if is_edge(x, node)]
    if is_elementwise(node):
        return [(i, x, to_operand(g * recorded.local(node, i), np.shape(x.data))) for i, x in edges]
    found = _pull(node, recorded.data[node], edges)(g, recorded.operands(node)[0])
    return [(i, x, part) for (i, x), part in zip(edges, found, strict=True)]


def in_shape(g: Adjoint, shape: tuple[int, ...]) -> Adjoint:
    """An adjoint in another shape than its node's, as the operations that ask for this shape would have it."""
    parts = (np.broadcast_to(part, np.broadcast_shapes(np.shape(part), shape)) for part in (g.value, g.bound, g.size))
    return Adjoint(*(unbroadcast(part, shape) for part in parts))


def _broadcasts(array: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(np.shape(array), shape) == shape
    except ValueError:
        return False


def to_operand(array: Any, shape: tuple[int, ...]) -> Any:
    """An elementwise contribution, summed or repeated to the shape of its operand."""
    return unbroadcast(np.asarray(array), shape) if np.shape(array) != shape else np.asarray(array)


def _chained(
    recorded: Recorded, node: Any, i: int, g: Adjoint, values: Sequence[Any], errors: Sequence[Any]
) -> Adjoint:
    """The upstream times the local derivative."""
    eps, tiny = recorded.eps, recorded.tiny
    rule, y, shape = local_rules(node)[i], recorded.data[node], values[i].shape
    local = floats(rule(y, *values))
    if shape == y.shape != np.shape(g.value):
        shape = np.shape(g.value)  # one of another shape is carried on as it is
    form = FORMS.get(node.op.name)
    spread = 8 * eps * np.abs(local) + (4 * eps * form(y) if form else 0.0)
    for j, error in enumerate(errors):
        on_edge = is_edge(node.operands[j], node)
        if on_edge or error.any():
            step = SAFETY * error + tiny * on_edge  # over a kink, on both sides
            for s in (-1.0, 1.0):
                about = moved(values, j, s * step)
                spread = np.maximum(spread, np.abs(rule(forward(node)(*about), *about) - local))
    value = to_operand(g.value * local, shape)
    size = to_operand(np.abs(g.value * local), shape)
    off = g.bound * np.abs(local) + np.where(g.value == 0, 0.0, np.abs(g.value) * spread) + tiny * g.size
    terms = max(1, y.size // max(1, math.prod(shape)))
    return Adjoint(value, to_operand(off, shape) + (terms + 2) * eps * size, size)


def _pull(node: Any, y: Any, edges: Edges) -> Pull:
    """The pull of a structural operation, at the edges."""
    op, parameters = node.op, node.parameters

    def pull(upstream: Any, operands: Sequence[Any], out: Any = y) -> list[Any]:
        if op.at_once:
            every = op.pull_all(upstream, out, operands, parameters)
            found = [every[i] for i, _ in edges]
        else:
            found = [op.pull(i, upstream, out, operands, parameters) for i, _ in edges]
        return [np.zeros(x.shape) if c is None else floats(c) for c, (_, x) in zip(found, edges, strict=True)]

    return pull


def _linear(
    recorded: Recorded, node: Any, edges: Edges, pull: Pull, g: Adjoint, values: Sequence[Any], errors: Sequence[Any]
) -> Contributions:
    """Of an operation that is linear in each operand: the bound is the pull of the bound, on absolute values."""
    sizes = [np.abs(x) for x in values]
    contributions, size, bound = pull(g.value, values), pull(np.abs(g.value), sizes), pull(g.bound, sizes)
    if node.op in PRODUCTS:
        for j, error in enumerate(errors):
            if error.any():
                off = pull(np.abs(g.value), [*sizes[:j], error, *sizes[j + 1 :]])
                # through an operand itself the pull does not go
                bound = [b + o * (i != j) for b, o, (i, _) in zip(bound, off, edges, strict=True)]
    return [
        (i, x, Adjoint(c, b + (_terms(node, recorded.data[node], x) + 2) * recorded.eps * s, s))
        for (i, x), c, b, s in zip(edges, contributions, bound, size, strict=True)
    ]


def _terms(node: Any, y: Any, operand: Any) -> int:
    """How many terms an element of a contribution is the sum of."""
    if node.op in (*PRODUCTS, operations.cumsum):
        return max(y.shape, default=1)
    if node.op is operations.index and not operations.picks_once(node.parameters["key"]):
        return int(y.size)  # an element may be picked so many times
    return max(1, int(y.size) // max(1, int(operand.size)))


def _extreme(
    recorded: Recorded, node: Any, edges: Edges, pull: Pull, g: Adjoint, values: Sequence[Any], errors: Sequence[Any]
) -> Contributions:
    """Of max and min: where another element comes as close as rounding, it may take the upstream."""
    y, parameters = recorded.data[node], node.parameters
    [(i, x)], [c] = edges, pull(g.value, values)
    bound = pull(g.bound + 4 * recorded.eps * np.abs(g.value), values)[0]
    whole, off, size = (
        operations.expanded(z, x.shape, **parameters) for z in (y, recorded.error[node], np.abs(g.value))
    )
    near = np.abs(values[0] - whole) <= SAFETY * (errors[0] + off)
    ties = np.add.reduce(near, axis=parameters["axis"], keepdims=True) > 1
    return [(i, x, Adjoint(c, bound + near * ties * size, np.abs(c)))]


def _moved_about(
    recorded: Recorded, node: Any, edges: Edges, pull: Pull, g: Adjoint, values: Sequence[Any], errors: Sequence[Any]
) -> Contributions:
    """Of any other operation: everything it is given is moved by its error."""
    contributions = pull(g.value, values)
    spread = [np.zeros(c.shape) for c in contributions]
    try:
        for upstream, *signs in signed([g.bound, *errors]):
            about, out = list(values), recorded.data[node]
            if not node.op.at_once:
                about = [x + s for x, s in zip(values, signs, strict=True)]
                out = node.op.forward(*about, **node.parameters)
            again = pull(g.value + upstream, about, out)
            spread = [np.maximum(s, np.abs(a - c)) for s, a, c in zip(spread, again, contributions, strict=True)]
    except Exception:  # a rule of somebody's own, which may not take what it was not made for
        pass
    return [
        (i, x, Adjoint(c, 4 * s + 256 * recorded.eps * np.max(np.abs(c), initial=0.0), np.abs(c)))
        for (i, x), c, s in zip(edges, contributions, spread, strict=True)
    ]
