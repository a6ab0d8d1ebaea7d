"""The structural operations: what moves, sums and multiplies whole arrays, each with its two rules, once.

Glossary: y is the result of an operation on its operands. *pull* takes the adjoint of y to the contribution of one
operand (reverse mode); *push* takes the tangents of the operands to the tangent of y (forward mode). An operation
that is linear needs no push of its own: it is its own derivative.

A rule is written in NumPy's functions, so the same rule runs on arrays (gradients) and on array nodes (higher
derivatives). Elementwise operations are rows of primitives.TABLE and are not repeated here.

    pull(g, y, *operands, **parameters) -> the contribution to one operand; of the operand's shape
    push(t, y, *operands, **parameters) -> what a tangent t of one operand adds to the tangent of y

Notation in the rules: g is the adjoint of y, t a tangent, a, b the operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Rule = Callable[..., Any]


class NoForwardRule(TypeError):
    """Forward mode met an operation that has a reverse rule only."""


class Operation:
    """A structural operation with its rules.

    linear: "each" if y is linear in every operand for itself, as a product is; "all" if it is linear in all of them
    together, as a concatenation is. Then the push is the operation itself. Otherwise pushes has a rule per operand.
    pulls has a rule per operand, or is one function that takes the operand's position first.
    """

    __slots__ = ("forward", "linear", "name", "pulls", "pushes")
    at_once = False  # whether pull_all gives the contributions to all operands, as a rule of the user's does

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        pulls: Sequence[Rule] | Rule,
        linear: str | None = None,
        pushes: Sequence[Rule] | None = None,
    ) -> None:
        self.name, self.forward, self.pulls, self.linear, self.pushes = name, forward, pulls, linear, pushes
        if (linear is None) == (pushes is None):
            raise ValueError(f"operation {name!r}: it is linear or it has pushes, and not both")

    def __repr__(self) -> str:
        return f"Operation({self.name!r})"

    def pull(self, position: int, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """The contribution of y's adjoint g to the operand at that position."""
        if callable(self.pulls):
            return self.pulls(position, g, y, *operands, **parameters)
        return self.pulls[position](g, y, *operands, **parameters)

    def push(self, tangents: Sequence[Any], y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """The tangent of y: one tangent per operand, None where it is zero."""
        if self.linear == "all":
            filled = [np.zeros_like(x) if t is None else t for t, x in zip(tangents, operands, strict=True)]
            return self.forward(*filled, **parameters)
        total = None
        for position, t in enumerate(tangents):
            if t is None:
                continue
            if self.pushes is not None:
                part = self.pushes[position](t, y, *operands, **parameters)
            else:
                part = self.forward(*operands[:position], t, *operands[position + 1 :], **parameters)
            total = part if total is None else total + part
        return total


# --- what the rules share -------------------------------------------------------------------------------------


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """The sum of g over the axes along which an operand of this shape was repeated.

    >>> unbroadcast(np.ones((5, 3)), (1, 3))
    array([[5., 5., 5.]])
    """
    if g.shape == shape:
        return g
    if g.ndim == 2 and shape in ((1, g.shape[1]), (g.shape[1],)):  # a bias of a batch
        if type(g) is np.ndarray and len(g) > 64:
            return np.ones(len(g), g.dtype).dot(g).reshape(shape)  # NumPy's sum takes 5 times as long
        column_sums: Any = np.add.reduce(g, axis=0)
        return column_sums.reshape(shape)
    extra = g.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1))
    if axes:
        g = np.add.reduce(g, axis=axes, keepdims=True)
    return g if g.shape == shape else g.reshape(shape)


def expanded(g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """g, the adjoint of a reduction over axis, with the reduced axes of an operand of this shape put back as 1."""
    if keepdims:
        return g
    return g.reshape(tuple(1 if axis is None or i in axis else n for i, n in enumerate(shape)))


def axes_of(axis: Any, ndim: int) -> tuple[int, ...] | None:
    """NumPy's axis argument as a tuple of axes from 0; None for all of them."""
    if axis is None:
        return None
    return tuple(np.lib.array_utils.normalize_axis_tuple(axis, ndim))


# --- shapes ---------------------------------------------------------------------------------------------------

reshape = Operation(
    "reshape", lambda a, shape: a.reshape(shape), [lambda g, y, a, shape: g.reshape(a.shape)], linear="each"
)
transpose = Operation(
    "transpose",
    lambda a, axes: a.transpose(axes),
    [lambda g, y, a, axes: g.transpose(tuple(np.argsort(axes).tolist()))],
    linear="each",
)
broadcast_to = Operation(
    "broadcast_to",
    lambda a, shape: np.broadcast_to(a, shape),
    [lambda g, y, a, shape: unbroadcast(g, a.shape)],
    linear="each",
)
astype = Operation(
    "astype", lambda a, dtype: a.astype(dtype), [lambda g, y, a, dtype: g.astype(a.dtype)], linear="each"
)


def picks_once(key: Any) -> bool:
    """Whether an index cannot pick an element twice: integers, slices, None, ... and masks."""
    if isinstance(key, np.ndarray):
        return bool(key.dtype == bool)
    parts = key if type(key) is tuple else (key,)
    return all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)


def add_at(array: Any, key: Any, g: Any) -> None:
    """array[key] += g in place, where an element that key picks twice receives both."""
    if picks_once(key):
        array[key] += g
    else:
        np.add.at(array, key, g)


def _scattered(a: Any, key: Any, shape: tuple[int, ...]) -> Any:
    array = np.zeros(shape, dtype=a.dtype)
    add_at(array, key, a)
    return array


def scattered(a: Any, key: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of this shape with a added at [key]; an array or a node."""
    record = getattr(type(a), "apply_operation", None)
    return _scattered(a, key, shape) if record is None else record(scatter, (a,), {"key": key, "shape": shape})


index = Operation(
    "index",
    lambda a, key: a[key],
    [lambda g, y, a, key: scattered(g, key, a.shape)],
    linear="each",
)
scatter = Operation(  # zeros with a added where key points: the transpose of an index
    "scatter",
    _scattered,
    [lambda g, y, a, key, shape: g[key]],
    pushes=[lambda t, y, a, key, shape: scattered(t, key, shape)],  # t may be a node, and _scattered takes arrays
)


def _concatenate_pull(position: int, g: Any, y: Any, *arrays: Any, axis: int) -> Any:
    start = sum(array.shape[axis] for array in arrays[:position])
    key = (slice(None),) * axis + (slice(start, start + arrays[position].shape[axis]),)
    return g[key]


concatenate = Operation(
    "concatenate", lambda *arrays, axis: np.concatenate(arrays, axis), _concatenate_pull, linear="all"
)
where = Operation(  # what was not chosen receives exactly 0: nothing is multiplied by 0
    "where",
    lambda a, b, condition: np.where(condition, a, b),
    [
        lambda g, y, a, b, condition: unbroadcast(np.where(condition, g, 0.0), np.shape(a)),
        lambda g, y, a, b, condition: unbroadcast(np.where(condition, 0.0, g), np.shape(b)),
    ],
    linear="all",
)


# --- reductions -----------------------------------------------------------------------------------------------
# axis is None or a tuple of axes from 0


def repeated(g: Any, shape: tuple[int, ...]) -> Any:
    """np.broadcast_to; small arrays are written out, which takes less time than the view."""
    if isinstance(g, (np.ndarray, np.generic)) and math.prod(shape) <= 4096:
        array = np.empty(shape, g.dtype)
        array[...] = g
        return array
    return np.broadcast_to(g, shape)


def _sum_pull(g: Any, y: Any, a: Any, axis: Any, keepdims: bool) -> Any:
    return repeated(g if axis is None and g.ndim == 0 else expanded(g, a.shape, axis, keepdims), a.shape)


sum_ = Operation(
    "sum", lambda a, axis, keepdims: np.add.reduce(a, axis=axis, keepdims=keepdims), [_sum_pull], linear="each"
)
cumsum = Operation(
    "cumsum",
    lambda a, axis: np.cumsum(a, axis=axis),
    [lambda g, y, a, axis: np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis)],
    linear="each",
)


def shares(y: Any, a: Any, axis: Any, keepdims: bool) -> Any:
    """How the extremum y of a depends on each element: 1 for the one that it is, 1/k for each of k ties; else 0."""
    a = a if type(a) is np.ndarray else a.data
    y = y if isinstance(y, (np.ndarray, np.generic)) else y.data
    chosen = a == expanded(y, a.shape, axis, keepdims)
    count = np.add.reduce(chosen, axis=axis, keepdims=True).astype(a.dtype)
    if count.size and not count.all():  # the extremum is nan: so is the slope, without a warning
        count = np.where(count == 0, np.nan, count)
    return chosen / count


def _extremum(name: str, ufunc: np.ufunc) -> Operation:
    return Operation(
        name,
        lambda a, axis, keepdims: ufunc.reduce(a, axis=axis, keepdims=keepdims),
        [lambda g, y, a, axis, keepdims: expanded(g, a.shape, axis, keepdims) * shares(y, a, axis, keepdims)],
        pushes=[
            lambda t, y, a, axis, keepdims: np.add.reduce(
                t * shares(y, a, axis, keepdims), axis=axis, keepdims=keepdims
            )
        ],
    )


max_, min_ = _extremum("max", np.maximum), _extremum("min", np.minimum)


def products_of_others(a: Any, axis: Any) -> Any:
    """For every element of a, the product of all others along the axes; no division, so zeros do no harm.

    Up a tree of products, and down again: what stands beside a node is multiplied to what came from above.
    """
    axes = tuple(range(a.ndim)) if axis is None else axis
    order = (*axes, *(i for i in range(a.ndim) if i not in axes))  # the axes of the product first, and as one
    first = a.transpose(order)
    levels = [first.reshape((math.prod(first.shape[: len(axes)]), *first.shape[len(axes) :]))]
    while len(levels[-1]) > 1:
        level = levels[-1]
        n = len(level)
        pairs = level[0 : n - n % 2 : 2] * level[1:n:2]
        levels.append(np.concatenate([pairs, level[n - 1 :]]) if n % 2 else pairs)
    others = np.ones(levels[-1].shape, dtype=a.dtype)
    for level in levels[-2::-1]:
        n = len(level)
        above = others[: n // 2]
        woven = np.stack([above * level[1:n:2], above * level[0 : n - n % 2 : 2]], axis=1)
        woven = woven.reshape((n - n % 2, *level.shape[1:]))
        others = np.concatenate([woven, others[n // 2 :]]) if n % 2 else woven
    return others.reshape(first.shape).transpose(tuple(np.argsort(order).tolist()))


prod = Operation(
    "prod",
    lambda a, axis, keepdims: np.multiply.reduce(a, axis=axis, keepdims=keepdims),
    [lambda g, y, a, axis, keepdims: expanded(g, a.shape, axis, keepdims) * products_of_others(a, axis)],
    pushes=[
        lambda t, y, a, axis, keepdims: np.add.reduce(t * products_of_others(a, axis), axis=axis, keepdims=keepdims)
    ],
)


def _cumprod_pull(g: Any, y: Any, a: Any, axis: int) -> Any:
    """By the recurrence y_j = y_(j-1) a_j, backwards: no division, so zeros do no harm."""
    g, y, a = g.swapaxes(0, axis), y.swapaxes(0, axis), a.swapaxes(0, axis)
    parts: list[Any] = []
    total: Any = 0.0  # the adjoint of y_j, through all that follows
    for j in reversed(range(len(a))):
        total = g[j] + (total * a[j + 1] if parts else 0.0)
        parts.append(total * y[j - 1] if j else total)
    return np.stack(parts[::-1]).swapaxes(0, axis) if parts else g


def _cumprod_push(t: Any, y: Any, a: Any, axis: int) -> Any:
    t, y, a = t.swapaxes(0, axis), y.swapaxes(0, axis), a.swapaxes(0, axis)
    parts: list[Any] = []
    for j in range(len(a)):
        parts.append(parts[-1] * a[j] + y[j - 1] * t[j] if parts else t[j])
    return np.stack(parts).swapaxes(0, axis) if parts else t


cumprod = Operation("cumprod", lambda a, axis: np.cumprod(a, axis=axis), [_cumprod_pull], pushes=[_cumprod_push])


# --- products -------------------------------------------------------------------------------------------------


def _matmul_pull_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return unbroadcast(g.reshape((*g.shape, 1)) * b, a.shape)
    if a.ndim == 1:
        return unbroadcast(np.matmul(b, g.reshape((*g.shape, 1)))[..., 0], a.shape)
    return unbroadcast(np.matmul(g, b.swapaxes(-1, -2)), a.shape)


def _matmul_pull_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        if b.ndim == 1:
            return g * a
        return unbroadcast(a.reshape((-1, 1)) * g.reshape((*g.shape[:-1], 1, g.shape[-1])), b.shape)
    if b.ndim == 1:
        return unbroadcast(np.matmul(a.swapaxes(-1, -2), g.reshape((*g.shape, 1)))[..., 0], b.shape)
    return unbroadcast(np.matmul(a.swapaxes(-1, -2), g), b.shape)


matmul = Operation("matmul", np.matmul, [_matmul_pull_a, _matmul_pull_b], linear="each")


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _einsum_pull(position: int, g: Any, y: Any, *operands: Any, labels: tuple[str, ...], out: str) -> Any:
    """einsum of g and the other operands, to the labels of this one.

    A label that stands twice in it is a diagonal: its second place is filled by an identity matrix. A label that
    only it has was summed over: g is the same all along it.
    """
    own, shape = labels[position], operands[position].shape
    inputs = [(out, g), *((labels[i], x) for i, x in enumerate(operands) if i != position)]
    spare = iter(letter for letter in LETTERS if letter not in out + "".join(labels))
    sizes: dict[str, int] = {}
    for text, x in zip(labels, operands, strict=True):
        for letter, n in zip(text, x.shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, n)) if 0 not in (n, sizes.get(letter, n)) else 0
    target = ""
    for letter in own:
        if letter in target:
            twin = next(spare)
            inputs.append((letter + twin, np.eye(sizes[letter], dtype=g.dtype)))
            letter = twin
        target += letter
    known = "".join(text for text, _ in inputs)
    kept = "".join(letter for letter in target if letter in known)
    found = np.einsum(",".join(text for text, _ in inputs) + "->" + kept, *(x for _, x in inputs), optimize=True)
    full = tuple(sizes[own[i]] for i in range(len(own)))
    if kept != target:
        rest = iter(found.shape)
        found = found.reshape(tuple(next(rest) if letter in known else 1 for letter in target))
    if found.shape != full:  # a label that all others have with the size 1, too
        found = np.broadcast_to(found, full)
    return unbroadcast(found, shape)


einsum = Operation(
    "einsum",
    lambda *operands, labels, out: np.einsum(",".join(labels) + "->" + out, *operands, optimize=len(operands) > 1),
    _einsum_pull,
    linear="each",
)
