"""Why is this gradient zero? The edges that block it, each with its reason.

The walk goes from a node towards the output through what carries no gradient. It follows masks, which say for every
node which of its elements depend on the elements in question and have no gradient themselves, so that each edge is
looked at once, however many paths there are: local derivatives and adjoints tell the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from autodiff import operations
from autodiff.graph import adjoints, checked_node, order
from autodiff.notation import Node, formula, number_text
from autodiff.operations import Operation, expanded, unbroadcast
from autodiff.primitives import Primitive
from autodiff.tensor import LinearMap, Tensor
from autodiff.value import Value

Index = tuple[int, ...]
FLAT = 1e-3  # a local derivative this small, at the step where a gradient vanishes, is the reason; else it fades slowly

# What a row of the table does where its derivative is 0 or tiny, and in which words
CONSTANT = dict.fromkeys(("sign", "step", "exceeds", "floor", "ceil", "round", "floordiv"), "piecewise constant")
OFF = {"relu": "off"}
SATURATED = dict.fromkeys(
    (
        "sigmoid", "tanh", "softplus", "logsigmoid", "logaddexp", "exp", "exp2", "expm1", "elu", "selu", "silu", "gelu",
        "erf", "erfc", "arctan",
    ),
    "saturated",
)  # fmt: skip
BOUNDED = dict.fromkeys(("maximum", "minimum"), "bounded")
FACTORS = dict.fromkeys(("mul", "div", "matmul", "einsum", "prod"), "multiplied by zero")
KINDS = {
    **CONSTANT,
    **OFF,
    **SATURATED,
    **BOUNDED,
    **FACTORS,
    "where": "unchosen",
    "max": "unchosen",
    "min": "unchosen",
}
KINDS["index"] = "unused"


@dataclass(frozen=True, slots=True, eq=False)
class Reason:
    """One edge at which a gradient ends, and why; str() is its message.

    kind: "off" (relu), "saturated", "bounded" (maximum, minimum, clip), "unchosen" (where, max, min), "multiplied by
    zero", "unused" (an index that picks other elements), "piecewise constant", "flat" (any other derivative of 0),
    "detached" (no path at all), "downstream" (nor here: it was made from the output), "cancel" (contributions that sum
    to 0) or "fades" (a product of many small steps).

    node: whose operation blocks; for "cancel" the node where the contributions meet, for "detached" what stands in the
    graph instead, or the output. parent: from which the edge leads to the node. count: how many elements are blocked
    there, of `size`; index: the first of them, in the node (in the parent, for "unused" and "cancel").
    """

    kind: str
    node: Any
    parent: Any
    count: int = 1
    size: int = 1
    index: Index = ()
    numbers: tuple[float, ...] = ()  # the operands there and the local derivative; contributions of a sum

    @property
    def message(self) -> str:
        """What blocks, where, and with which numbers."""
        return _message(self)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, eq=False)
class ZeroGradient:
    """Why a gradient is zero: reasons, nearest to the node first; none where it is not zero. str() prints them.

    gradient: d(output)/d(wrt), a float or an array. count: how many of its elements (of those asked for, `size` of
    them) are zero, or not larger than `below`; largest: the largest of these, without its sign.
    """

    output: Any
    wrt: Any
    gradient: Any
    below: float
    count: int
    size: int
    largest: float
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        name = self.wrt.name or "the node"
        zero = f"tiny, {number_text(self.largest)} at most" if self.largest else "zero"
        if not self.count:
            largest = number_text(float(np.max(np.abs(self.gradient), initial=0.0)))
            return f"the gradient by {name} is not zero: {'up to ' if np.size(self.gradient) > 1 else ''}{largest}"
        counted = f" at {self.count} of {self.size} elements" if np.ndim(self.gradient) else ""
        lines = [f"the gradient by {name} is {zero}{counted}:"]
        lines += [f"  {reason}" for reason in self.reasons[:SHOWN]]
        rest = Counter(reason.kind for reason in self.reasons[SHOWN:])
        if rest:
            lines.append("  and " + ", ".join(f"{number} more {kind}" for kind, number in rest.items()))
        return "\n".join(lines)


SHOWN = 12


def why_zero(output: Any, wrt: Any, index: Any = None, below: float = 1e-8) -> ZeroGradient:
    """Why d(output)/d(wrt) is zero or tiny: the edges between wrt and output that block it, each with its reason.

    output: a node of one number; wrt: a node, Value or Tensor. index: of a Tensor only the elements that it picks are
    asked about; None for all whose gradient is zero. below: an adjoint not larger than this counts as zero. Every edge
    is looked at once. An edge that blocks is listed even where the gradient ends further on as well: it comes back on a
    path when all that is listed on it is mended. Changes nothing in the graph.

    >>> x = Value(-1.5, name="x")
    >>> print(why_zero(3.0 * x.relu() + 1.0, x))
    the gradient by x is zero:
      relu(x) is off: x = -1.5 is not above 0
    >>> X = Tensor([[1.0, -2.0], [-3.0, -4.0]], name="X")
    >>> print(why_zero(np.sum(np.maximum(0, X)), X))
    the gradient by X is zero at 3 of 4 elements:
      relu(X) is off at 3 of 4 elements, the first at [0, 1]: X = -2 is not above 0
    """
    output, wrt = checked_node(output, "why_zero(output, ...)"), checked_node(wrt, "why_zero(..., wrt)")
    if not below >= 0.0:
        raise ValueError(f"why_zero: below is a number from 0 on, got {below!r}")
    with np.errstate(all="ignore"):
        adjoint = adjoints(output)
        gradient = adjoint.get(wrt, 0.0 if isinstance(wrt, Value) else np.zeros(wrt.shape, wrt.dtype))
        asked = np.zeros(wrt.shape, bool)
        asked[() if index is None else index] = True
        zero = asked & (np.abs(gradient) <= below)
        count, size = int(zero.sum()), int(asked.sum())
        reasons: Iterable[Reason] = ()
        if wrt not in adjoint:
            reasons = _detached(output, wrt)
        elif count:
            walk = _Scalars(adjoint, below) if isinstance(wrt, Value) else _Arrays(adjoint, below)
            reasons = walk.reasons(wrt, zero)
    largest = float(np.max(np.abs(gradient), initial=0.0, where=zero))
    return ZeroGradient(output, wrt, gradient, below, count, size, largest, tuple(reasons))


# --- no path at all -----------------------------------------------------------------------------------------------


def _detached(output: Any, wrt: Any) -> list[Reason]:
    """Where the node was cut off: a leaf, or a constant, that has its name or its numbers."""
    found = []
    if type(output) is type(wrt) and any(node is output for node in order(wrt)):
        return [Reason("downstream", output, wrt)]
    for node in reversed(order(output)):
        if node.op is None and type(node) is type(wrt):
            if (node.name and node.name == wrt.name) or _same(node.data, wrt.data):
                found.append(Reason("detached", node, wrt, node.size, node.size))
        elif node.op is not None:
            found += [
                Reason("detached", node, wrt, wrt.size, wrt.size)
                for x in node.operands
                if not isinstance(x, Node) and _same(x, wrt.data)
            ]
    return found or [Reason("detached", output, wrt)]


def _same(x: Any, data: Any) -> bool:
    """Whether numbers are so many, or so odd, that they are the same by descent and not by chance."""
    if np.shape(x) != np.shape(data) or not np.array_equal(x, data):
        return False
    if isinstance(x, np.ndarray) and isinstance(data, np.ndarray) and np.may_share_memory(x, data):
        return True
    numbers = np.asarray(data).reshape(-1)
    return bool(np.any(numbers != np.round(numbers)) or np.any(numbers != numbers[:1]))


# --- the walk over scalar nodes -----------------------------------------------------------------------------------


class _Walk:
    def __init__(self, adjoint: dict[Any, Any], below: float) -> None:
        self.adjoint, self.below = adjoint, below
        self.nodes = list(adjoint)[::-1]  # parents before children
        self.fading: Reason | None = None


class _Scalars(_Walk):
    def reasons(self, wrt: Value, zero: Any) -> Iterable[Reason]:
        adjoint, below = self.adjoint, self.below
        without: dict[Value, list[tuple[Value, float]]] = {wrt: []}  # and the contributions that are not zero
        found: list[Reason] = []
        for node in self.nodes:
            if node.op is None or node is wrt or not any(parent in without for parent in node.parents):
                continue
            upstream = adjoint[node]
            for parent, local in node.edges():
                if parent not in without:
                    continue
                contribution = upstream * local
                if not abs(contribution) <= below:
                    without[parent].append((node, contribution))
                elif abs(upstream) > below:
                    if abs(local) <= FLAT:
                        found.append(_scalar_reason(node, parent, local))
                    elif self.fading is None:
                        self.fading = Reason("fades", node, parent, numbers=(upstream, local))
                elif abs(local) <= below:
                    found.append(_scalar_reason(node, parent, local))
            if abs(upstream) <= below:
                without[node] = []
        for parent, contributions in without.items():
            if contributions:
                numbers = tuple(number for _, number in contributions)
                found.append(Reason("cancel", parent, parent, numbers=numbers))
        return [*found, self.fading] if self.fading else found


def _scalar_reason(node: Value, parent: Value, local: float) -> Reason:
    numbers = tuple(float(x.data if isinstance(x, Value) else x) for x in node.operands)
    assert node.op is not None
    return Reason(KINDS.get(node.op.name, "flat"), node, parent, numbers=(*numbers, local))


# --- the walk over array nodes ------------------------------------------------------------------------------------


class _Edge(NamedTuple):
    """What one edge does, element by element: all arrays of one shape, the child's or the parent's."""

    local: Any  # local derivatives; None for an operation that only moves or sums elements
    upstream: Any
    mask: Any  # which elements are in question
    absolute: Any  # of the parent's shape: the sum of |contribution|
    onward: Any  # of the child's shape: which of its elements depend on those in question


class _Arrays(_Walk):
    def reasons(self, wrt: Tensor, zero: Any) -> Iterable[Reason]:
        adjoint, below = self.adjoint, self.below
        masks: dict[Tensor, Any] = {wrt: zero}
        absolute: dict[Tensor, Any] = {}
        found: list[Reason] = []
        for node in self.nodes:
            if node.op is None or node is wrt:
                continue
            onward: Any = None
            for position, parent in enumerate(node.operands):
                if type(parent) is not Tensor or parent not in masks:
                    continue
                mask = masks[parent]
                if mask.any():
                    edge = self.edge(node, position, parent, mask)
                    found += self.blocked(node, position, parent, mask, edge)
                    absolute[parent] = absolute.get(parent, 0.0) + edge.absolute
                    onward = edge.onward if onward is None else onward | edge.onward
            if onward is not None:
                masks[node] = onward & (np.abs(adjoint[node]) <= below)
        for parent, total in absolute.items():
            mask = masks[parent] & (total > below) & (np.abs(adjoint[parent]) <= 0.5 * total)
            if mask.any():
                index = _first(mask)
                found.append(
                    Reason("cancel", parent, parent, int(mask.sum()), parent.size, index, (float(total[index]),))
                )
        return [*found, self.fading] if self.fading else found

    def edge(self, node: Tensor, position: int, parent: Tensor, mask: Any) -> _Edge:
        op, upstream = node.op, np.asarray(self.adjoint[node])
        data = [x.data if type(x) is Tensor else x for x in node.operands]
        size = np.abs(upstream)
        if isinstance(op, Primitive):
            local = np.broadcast_to((op.db if position else op.da)(node.data, *data), node.shape)
            wide = np.broadcast_to(mask, node.shape)
            return _Edge(local, upstream, wide, unbroadcast(size * np.abs(local), parent.shape), wide)
        assert op is not None
        given: Any = node.parameters
        if op is operations.where:
            chosen = np.broadcast_to(given["condition"], node.shape)
            chosen = chosen if position == 0 else ~chosen
            wide = np.broadcast_to(mask, node.shape)
            return _Edge(
                chosen * 1.0, upstream, wide, unbroadcast(np.where(chosen, size, 0.0), parent.shape), wide & chosen
            )
        if op is operations.index:
            picked = LinearMap(node, position).pull(np.ones(node.shape)) > 0
            onward = np.asarray(mask)[given["key"]]
            return _Edge(picked * 1.0, mask * 0.0, mask, LinearMap(node, position).pull(size), onward)
        if op in (operations.max_, operations.min_, operations.prod):
            above = expanded(upstream, parent.shape, given["axis"], given["keepdims"])
            if op is operations.prod:
                local = operations.products_of_others(parent.data, given["axis"])
            else:
                local = operations.shares(node.data, parent.data, given["axis"], given["keepdims"])
            above = np.broadcast_to(above, parent.shape)
            onward = mask if op is operations.prod else mask & (local != 0.0)
            onward = np.logical_or.reduce(onward, axis=given["axis"], keepdims=given["keepdims"])
            return _Edge(local, above, mask, np.abs(above * local), onward)
        if op in (operations.matmul, operations.einsum):
            others = [np.abs(x) if i != position else x for i, x in enumerate(data)]
            ones = [np.ones(np.shape(x)) if i != position else mask * 1.0 for i, x in enumerate(data)]
            onward = op.forward(*ones, **given) > 0
            return _Edge(None, upstream, mask, _pulled(op, position, size, others, given), onward)
        if op in MOVES:
            moved = [mask * 1.0 if i == position else np.zeros(np.shape(x)) for i, x in enumerate(data)]
            options = {**given, "dtype": np.dtype(float)} if op is operations.astype else given
            return _Edge(None, upstream, mask, LinearMap(node, position).pull(size), op.forward(*moved, **options) > 0)
        # Of any other operation no more is known than the contributions: which elements go into which is not.
        return _Edge(None, upstream, mask, np.abs(LinearMap(node, position).pull(upstream)), np.ones(node.shape, bool))

    def blocked(self, node: Tensor, position: int, parent: Tensor, mask: Any, edge: _Edge) -> list[Reason]:
        """The reasons on one edge: where its local derivatives are 0, or tiny where the gradient comes to its end."""
        op, below = node.op, self.below
        assert op is not None
        kind = KINDS.get(op.name, "flat")
        if edge.local is not None:
            size, live = np.abs(edge.local), np.abs(edge.upstream) > below
            ends = edge.mask & live & (size * np.abs(edge.upstream) <= below)
            stops = (ends & (size <= FLAT)) | (edge.mask & ~live & (size <= below))
            self.fades(node, parent, ends & (size > FLAT), edge)
            if not stops.any():
                return []
            index = _first(stops)
            numbers = (*_numbers(node, parent, op, index), float(edge.local[index]))
            return [Reason(kind, node, parent, int(stops.sum()), stops.size, index, numbers)]
        given: Any = node.parameters
        if op in (operations.matmul, operations.einsum):
            data = [x.data if type(x) is Tensor else x for x in node.operands]
            live = (np.abs(edge.upstream) > below) * 1.0
            ones = [np.ones(np.shape(x)) for x in data]
            factors = [(np.abs(x) > below) * 1.0 for x in data]
            terms = _pulled(op, position, live, ones, given)  # how many an element has whose upstream is alive
            alive = _pulled(op, position, live, factors, given)  # ... and whose factor is not 0
            ever = _pulled(op, position, np.ones(node.shape), factors, given)  # whose factor is not 0 at all
            stops = mask & ((terms > alive + 0.5) | (ever < 0.5)) & (edge.absolute <= below)
            faded = mask & (alive > 0.5) & (edge.absolute <= below)
        elif op in MOVES:
            return []
        else:
            alive = np.max(np.abs(edge.upstream), initial=0.0) > below
            stops, faded = mask & (edge.absolute <= below) & alive, np.zeros(mask.shape, bool)
        self.fades(node, parent, faded, edge)
        if not stops.any():
            return []
        return [Reason(kind, node, parent, int(stops.sum()), stops.size, _first(stops))]

    def fades(self, node: Tensor, parent: Tensor, faded: Any, edge: _Edge) -> None:
        if self.fading is None and faded.any():
            index = _first(faded)
            known = edge.local is not None
            numbers = (float(edge.upstream[index]), float(edge.local[index])) if known else ()
            self.fading = Reason("fades", node, parent, int(faded.sum()), faded.size, index, numbers)


# Operations whose local derivatives are 0 and 1 by position alone
MOVES = (
    operations.reshape, operations.transpose, operations.broadcast_to, operations.astype, operations.concatenate,
    operations.sum_, operations.cumsum, operations.scatter,
)  # fmt: skip


def _pulled(op: Operation, position: int, upstream: Any, operands: Any, parameters: Any) -> Any:
    """The contribution to one operand of a product of these factors."""
    operands = [np.asarray(x, float) for x in operands]
    return np.asarray(op.pull(position, upstream, None, operands, parameters))


def _first(mask: Any) -> Index:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), np.shape(mask)))


def _numbers(node: Tensor, parent: Tensor, op: Any, index: Index) -> tuple[float, ...]:
    """The operands of an elementwise operation at that element; else the element of the parent."""
    if isinstance(op, Primitive):
        data = [x.data if type(x) is Tensor else x for x in node.operands]
        return tuple(float(np.broadcast_to(x, node.shape)[index]) for x in data)
    shape = node.shape if op is operations.where else parent.shape
    return (float(np.broadcast_to(parent.data, shape)[index]),)


# --- words --------------------------------------------------------------------------------------------------------


def _message(reason: Reason) -> str:
    kind, node, parent, numbers = reason.kind, reason.node, reason.parent, reason.numbers
    name = _label(parent)
    if kind == "downstream":
        return f"the output does not depend on {name}: {name} was made from the output"
    if kind == "detached":
        return _detached_message(reason, name)
    first = f", the first at {list(reason.index)}" if reason.index and reason.count < reason.size else ""
    at = f" at {reason.count} of {reason.size} elements{first}" if reason.size > 1 else ""
    if kind == "cancel":
        if isinstance(node, Value):
            shown = " + ".join(f"({number_text(x)})" if x < 0.0 else number_text(x) for x in numbers[:SHOWN])
            dots = f" + ... ({len(numbers)} of them)" if len(numbers) > SHOWN else ""
            return f"the contributions to {name} cancel: {shown}{dots}"
        return f"the contributions to {name} cancel{at}: without their signs they add up to {number_text(numbers[0])}"
    subject = _label(node)
    if kind == "fades":
        step = f": {number_text(numbers[0])} comes to {subject}, times {number_text(numbers[1])}" if numbers else ""
        return f"the gradient fades step by step, and no single one blocks it{step}{at}"
    if kind == "unused":
        return f"{subject} does not pick {reason.count} of {reason.size} elements of {name}{first}"
    if kind == "unchosen":
        if node.op.name == "where":
            return f"{subject} does not choose {name}{at}"
        return f"{subject} does not take {reason.count} of {reason.size} elements of {name}{first}"
    if kind == "piecewise constant":
        return f"{subject} is piecewise constant{at}: its derivative is 0"
    if not isinstance(node.op, Primitive):
        if kind == "multiplied by zero":
            return f"{subject} multiplies {name} by zeros{at}"
        return f"the derivative of {subject} by {name} is 0{at}"
    position = next(i for i, x in enumerate(node.operands) if x is parent)
    own, local = number_text(numbers[position]), number_text(numbers[-1])
    other = number_text(numbers[1 - position]) if len(numbers) == 3 else ""
    if kind == "off":
        return f"{subject} is off{at}: {name} = {own} is not above 0"
    if kind == "bounded":
        relation = "at most" if node.op.name == "maximum" else "at least"
        return f"{subject} is bounded{at}: {name} = {own} is {relation} {other}, which is chosen"
    if kind == "multiplied by zero" and node.op.name == "mul":
        return f"{subject} multiplies {name} by {other}{at}"
    if kind == "multiplied by zero":
        return f"{subject} divides {name} by {other}{at}" if position == 0 else f"{subject} divides {other}{at}"
    if kind == "saturated":
        return f"{subject} is saturated{at}: at {name} = {own} its derivative is {local}"
    return f"{subject} is flat{at}: at {name} = {own} its derivative is {local}"


def _detached_message(reason: Reason, name: str) -> str:
    node, wrt = reason.node, reason.parent
    namesake = bool(node.name) and node.name == wrt.name
    if node.op is None and (namesake or _same(node.data, wrt.data)):
        alike = "of that name" if namesake else "with its numbers"
        cut = f"a leaf {alike} stands in its place, cut off by stop_gradient or .data"
        return f"the output does not depend on {name}: {cut}"
    if any(not isinstance(x, Node) and _same(x, wrt.data) for x in node.operands):
        return f"{_label(node)} has the numbers of {name} as a constant: .data or .item() took them out of the graph"
    return (
        f"the output does not depend on {name}: no path leads there. stop_gradient, .data, .item(), a comparison, and "
        "what an if or a where of numbers did not choose, leave none"
    )


def _label(node: Any) -> str:
    """A node's name, or its formula if that is short, or its operation."""
    if node.name:
        return str(node.name)
    text = str(formula(node, depth=3, top=False))
    return text if len(text) <= LONGEST or node.op is None else f"{node.op.name}(…)"


LONGEST = 40  # characters of a formula in a message
