"""What NumPy's functions do on Tensors: a name for each, an operation with rules for few.

Three ways lead to a rule. A function is an operation of operations.py (sum, matmul, concatenate, ...); or it is
written with those (mean, var, stack, tensordot, ...); or it only rearranges elements (roll, tile, pad, ...), and
then NumPy itself, run on the elements' numbers, says where each comes from.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from autodiff.operations import axes_of
from autodiff.primitives import (
    TABLE,
    absolute,
    clip,
    maximum,
    minimum,
    power,
    rint,
    sinc,
    sqrt,
    square,
)
from autodiff.tensor import (
    FUNCTIONS,
    REDUCTIONS,
    Tensor,
    apply,
    full_name,
    plain,
    restacked,
)
from autodiff.value import Value

Function = Callable[..., Any]


def node(x: Any) -> Any:
    """x as something with the methods of an array: Tensors stay, object arrays and lists of them are stacked."""
    if type(x) is Tensor:
        return x
    array = np.asarray(x)
    if array.dtype == object and any(type(element) is Tensor for element in array.flat):
        return restacked(array)
    return array


def on(*functions: Any) -> Callable[[Function], Function]:
    """Registers what these NumPy functions do on Tensors; out= is refused for all of them."""

    def register(ours: Function) -> Function:
        @functools.wraps(ours)
        def checked(*args: Any, **options: Any) -> Any:
            if options.pop("out", None) is not None:
                raise TypeError(
                    f"{full_name(functions[0])} into an existing array would drop the gradient; give it no out="
                )
            return ours(*args, **{key: x for key, x in options.items() if x is not np._NoValue})

        for function in functions:
            FUNCTIONS[function] = checked
        return ours

    return register


# --- by data alone: their results are no real numbers, or change by jumps only ------------------------------------

for _function in (
    np.shape, np.ndim, np.size, np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero,
    np.count_nonzero, np.any, np.all, np.isclose, np.allclose, np.array_equal, np.array_equiv, np.searchsorted,
    np.digitize, np.lexsort, np.argpartition, np.isposinf, np.isneginf, np.isreal, np.iscomplex, np.isrealobj,
    np.iscomplexobj, np.result_type, np.can_cast, np.zeros_like, np.ones_like, np.empty_like, np.full_like,
    np.array_repr, np.array_str, np.array2string, np.shares_memory, np.may_share_memory, np.common_type,
    np.nanargmax, np.nanargmin, np.isin, np.linalg.matrix_rank,
):  # fmt: skip

    def _by_data(*args: Any, _function: Any = _function, **options: Any) -> Any:
        return _function(*map(plain, args), **{key: plain(x) for key, x in options.items()})

    FUNCTIONS[_function] = _by_data


# --- rearrangements: every element of the result is an element of the first argument, or 0 -------------------------


def gather(x: Tensor, source: Any) -> Tensor:
    """The array whose elements are those of x with these numbers, counted from 1 in C order; 0 stands for a 0."""
    flat = x.reshape(-1)
    if source.size and not source.all():
        if not x.size:
            return Tensor(np.zeros(source.shape, x.dtype))
        return np.where(source > 0, flat[np.maximum(source - 1, 0)], 0.0)  # type: ignore[return-value]
    return flat[source - 1]


def _rearranges(function: Any, position: int = 0) -> None:
    def ours(*args: Any, **options: Any) -> Any:
        x = node(args[position])
        numbers = np.arange(1, x.size + 1).reshape(x.shape)
        found = function(*args[:position], numbers, *args[position + 1 :], **options)
        if isinstance(found, (list, tuple)):
            return type(found)([gather(x, source) for source in found])
        return gather(x, found)

    on(function)(ours)


for _function in (
    np.fliplr, np.flipud, np.rot90, np.roll, np.tile, np.repeat, np.diag, np.diagflat, np.diagonal, np.tril, np.triu,
    np.resize, np.take, np.delete, np.array_split, np.split, np.hsplit, np.vsplit, np.dsplit, np.take_along_axis,
    np.linalg.diagonal,
):  # fmt: skip
    _rearranges(_function)
for _function in (np.compress, np.extract):
    _rearranges(_function, position=1)


@on(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    x = node(array)
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap") or options.get("reflect_type", "even") != "even":
        raise TypeError(f"np.pad with mode {mode!r} cannot be applied to array nodes: there is no rule for it")
    constants = options.pop("constant_values", 0)
    source = np.pad(np.arange(1, x.size + 1).reshape(x.shape), pad_width, mode, **options)
    result = gather(x, source)
    if mode == "constant" and np.any(constants):
        result = result + np.pad(np.zeros(x.shape, x.dtype), pad_width, mode, constant_values=constants)
    return result


@on(np.flip)
def _flip(m: Any, axis: Any = None) -> Any:
    x = node(m)
    axes = axes_of(axis, x.ndim)
    return x[tuple(slice(None, None, -1) if axes is None or i in axes else slice(None) for i in range(x.ndim))]


# --- shapes -------------------------------------------------------------------------------------------------------


@on(np.reshape)
def _reshape(a: Any, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    x = node(a)
    shape = newshape if shape is None else shape
    shape = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if order == "F":
        return x.T.reshape(shape[::-1]).T
    if order not in ("C", "A"):
        raise TypeError(f"np.reshape of an array node takes order 'C' or 'F', got {order!r}")
    shape = np.empty(x.shape, dtype=bool).reshape(shape).shape if -1 in shape else shape
    return apply(operations.reshape, (x,), {"shape": shape})


@on(np.ravel)
def _ravel(a: Any, order: str = "C") -> Any:
    return _reshape(a, (-1,) if np.size(a) else (0,), order="C" if order in ("K", "A") else order)


@on(np.transpose, np.permute_dims)
def _transpose(a: Any, axes: Any = None) -> Any:
    x = node(a)
    axes = tuple(range(x.ndim))[::-1] if axes is None else axes_of(tuple(axes), x.ndim)
    if sorted(axes or ()) != list(range(x.ndim)):
        raise ValueError(f"transpose of an array of {x.ndim} axes takes each of them once, got {axes}")
    return apply(operations.transpose, (x,), {"axes": axes})


@on(np.swapaxes)
def _swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    x = node(a)
    return _transpose(x, _moved(x, np.swapaxes, axis1, axis2))


def _moved(x: Any, function: Any, *args: Any) -> tuple[int, ...]:
    """Which axis of x is where after function(x, *args), which moves axes only: told by the lengths 0, 1, 2, ..."""
    probe = np.lib.stride_tricks.as_strided(np.zeros(()), tuple(range(x.ndim)), (0,) * x.ndim)
    return tuple(function(probe, *args).shape)


@on(np.moveaxis)
def _moveaxis(a: Any, source: Any, destination: Any) -> Any:
    x = node(a)
    return _transpose(x, _moved(x, np.moveaxis, source, destination))


@on(np.rollaxis)
def _rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    x = node(a)
    return _transpose(x, _moved(x, np.rollaxis, axis, start))


@on(np.matrix_transpose, np.linalg.matrix_transpose)
def _matrix_transpose(x: Any, /) -> Any:
    return node(x).swapaxes(-1, -2)


@on(np.squeeze)
def _squeeze(a: Any, axis: Any = None) -> Any:
    x = node(a)
    return x.reshape(np.squeeze(np.broadcast_to(np.zeros(()), x.shape), axis).shape)


@on(np.expand_dims)
def _expand_dims(a: Any, axis: Any) -> Any:
    x = node(a)
    return x.reshape(np.expand_dims(np.broadcast_to(np.zeros(()), x.shape), axis).shape)


def _at_least(function: Any) -> None:
    def ours(*arrays: Any) -> Any:
        nodes = [node(x) for x in arrays]
        found = [x.reshape(function(np.broadcast_to(np.zeros(()), x.shape)).shape) for x in nodes]
        return found[0] if len(found) == 1 else tuple(found)

    on(function)(ours)


for _function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    _at_least(_function)


@on(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    return apply(operations.broadcast_to, (node(array),), {"shape": shape})


@on(np.broadcast_arrays)
def _broadcast_arrays(*arrays: Any, subok: bool = False) -> Any:
    nodes = [node(x) for x in arrays]
    shape = np.broadcast_shapes(*(x.shape for x in nodes))
    return tuple(np.broadcast_to(x, shape) for x in nodes)


@on(np.meshgrid)
def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    nodes = [node(x).reshape(-1) for x in xi]
    like = np.meshgrid(*(np.arange(x.size) for x in nodes), sparse=sparse, indexing=indexing)
    return type(like)([x[places] for x, places in zip(nodes, like, strict=True)])


@on(np.concatenate)
def _concatenate(arrays: Any, axis: int | None = 0, *, dtype: Any = None, casting: Any = None) -> Any:
    nodes = [node(x) for x in arrays]
    if axis is None:
        nodes, axis = [x.reshape(-1) for x in nodes], 0
    if not nodes or not nodes[0].ndim:
        raise ValueError("concatenate takes one array at least, of one dimension at least; np.stack puts numbers together")
    axes = axes_of(axis, nodes[0].ndim)
    joined = apply(operations.concatenate, nodes, {"axis": axes[0] if axes else 0})
    return joined if dtype is None else joined.astype(dtype)


@on(np.stack)
def _stack(arrays: Any, axis: int = 0, *, dtype: Any = None, casting: Any = None) -> Any:
    nodes = [node(x) for x in arrays]
    if len({x.shape for x in nodes}) != 1:
        raise ValueError(f"stack takes arrays of one shape, got {[x.shape for x in nodes]}")
    return np.concatenate([np.expand_dims(x, axis) for x in nodes], axis=axis, dtype=dtype)


def _stacks(function: Any, at_least: Any, axis: int | None) -> None:
    def ours(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
        nodes = [at_least(node(x)) for x in tup]
        along = axis if axis is not None else (0 if nodes[0].ndim == 1 else 1)
        return np.concatenate(nodes, axis=along, dtype=dtype)

    on(function)(ours)


_stacks(np.vstack, np.atleast_2d, 0)
_stacks(np.hstack, np.atleast_1d, None)
_stacks(np.dstack, np.atleast_3d, 2)
_stacks(np.column_stack, lambda x: x if x.ndim > 1 else x.reshape((-1, 1)), 1)


@on(np.append)
def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([node(arr), node(values)], axis=axis)


@on(np.block)
def _block(arrays: Any) -> Any:
    def depth(x: Any) -> int:
        return 1 + max(map(depth, x)) if isinstance(x, list) else 0

    def ndim(x: Any) -> int:
        return max(map(ndim, x)) if isinstance(x, list) else node(x).ndim  # type: ignore[no-any-return]

    levels = depth(arrays)
    total = max(levels, ndim(arrays))

    def joined(x: Any, level: int) -> Any:
        if isinstance(x, list):
            return np.concatenate([joined(part, level - 1) for part in x], axis=-level)
        x = node(x)
        return x.reshape((1,) * (total - x.ndim) + x.shape)

    return joined(arrays, levels)


@on(np.copy)
def _copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return TABLE["alias"](a)


@on(np.astype)
def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None, **options: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return x if dtype == x.dtype else apply(operations.astype, (x,), {"dtype": dtype})
    if dtype.kind in "iub":  # piecewise constant: the derivative is 0 wherever there is one
        return x.data.astype(dtype)
    raise TypeError(f"an array node becomes an array of floats, or a plain one of integers or bools, not of {dtype}")


# --- reductions ---------------------------------------------------------------------------------------------------


def _masked(x: Any, where: Any, filler: float) -> Any:
    return x if where is True else np.where(where, x, filler)


def _reduced(operation: Any, x: Any, axis: Any, keepdims: Any) -> Any:
    return apply(operation, (x,), {"axis": axes_of(axis, x.ndim), "keepdims": bool(keepdims)})


@on(np.sum)
def _sum(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    x = _masked(node(a), where, 0.0)
    x = x if dtype is None else x.astype(dtype)
    total = _reduced(operations.sum_, x, axis, keepdims)
    return total if initial is None else total + initial


def _count(x: Any, axis: Any, where: Any) -> Any:
    """How many elements a reduction takes together: an int, or an array of the reduced shape (kept dims) by where."""
    if where is not True:
        return np.sum(np.broadcast_to(where, x.shape), axis=axes_of(axis, x.ndim), keepdims=True)
    axes = axes_of(axis, x.ndim)
    return math.prod(x.shape if axes is None else (x.shape[i] for i in axes))


@on(np.mean)
def _mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    x = node(a)
    x = x if dtype is None else x.astype(dtype)
    total = np.sum(x, axis=axis, keepdims=True, where=where)
    return _kept(total / _count(x, axis, where), x, axis, keepdims)


def _kept(y: Any, x: Any, axis: Any, keepdims: Any) -> Any:
    """y, a reduction of x with its axes kept, as keepdims asks for it."""
    if keepdims:
        return y
    axes = axes_of(axis, x.ndim)
    return y.reshape(tuple(n for i, n in enumerate(x.shape) if axes is not None and i not in axes))


@on(np.var)
def _var(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    x = node(a)
    x = x if dtype is None else x.astype(dtype)
    ddof = ddof if correction is None else correction
    middle = np.mean(x, axis=axis, keepdims=True, where=where) if mean is None else mean
    total = np.sum(square(x - middle), axis=axis, keepdims=True, where=where)
    return _kept(total / np.maximum(_count(x, axis, where) - ddof, 0), x, axis, keepdims)


@on(np.std)
def _std(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, **options: Any) -> Any:
    x = node(a)
    spread = np.var(x, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims, **options)
    if options.get("where", True) is True and _count(x, axis, True) == 1:
        return spread  # the deviation of one number is 0, however it moves, and so is its slope; nan where var is
    return sqrt(spread)


@on(np.prod)
def _prod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    x = _masked(node(a), where, 1.0)
    x = x if dtype is None else x.astype(dtype)
    axes = axes_of(axis, x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    flat = np.transpose(x, (*axes, *rest)).reshape((math.prod(x.shape[i] for i in axes), *(x.shape[i] for i in rest)))
    total = apply(operations.prod, (flat,), {"axis": 0, "keepdims": False})
    if keepdims:
        total = total.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return total if initial is None else total * initial


def _extremum(operation: Any, pick: Any, worst: float) -> Function:
    def ours(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        x = node(a)
        if where is not True and initial is None:
            raise ValueError(f"{operation.name} with where= needs initial=, for places where nothing is chosen")
        empty = not _count(x, axis, True)
        if empty and initial is not None:
            shape = np.sum(np.zeros(x.shape), axis=axis, keepdims=bool(keepdims)).shape
            return Tensor(np.full(shape, initial, x.dtype))
        best = _reduced(operation, _masked(x, where, worst), axis, keepdims)
        return best if initial is None else pick(best, initial)

    return ours


_max = on(np.max, np.amax)(_extremum(operations.max_, maximum, -math.inf))
_min = on(np.min, np.amin)(_extremum(operations.min_, minimum, math.inf))


@on(np.ptp)
def _ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


@on(np.cumsum)
def _cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    x = node(a)
    x = x if dtype is None else x.astype(dtype)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axes = axes_of(axis, x.ndim)
    return apply(operations.cumsum, (x,), {"axis": axes[0] if axes else 0})


@on(np.cumprod)
def _cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    # Products over windows of 1, 2, 4, ...: no division, so zeros do no harm to the derivatives.
    x = node(a)
    x = x if dtype is None else x.astype(dtype)
    if axis is None:
        x, axis = x.reshape(-1), 0
    y, step = np.moveaxis(x, axis, 0), 1
    while step < len(y):
        y, step = np.concatenate([y[:step], y[step:] * y[:-step]]), 2 * step
    return np.moveaxis(y, 0, axis)


@on(np.average)
def _average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = node(a)
    if weights is None:
        total = np.mean(x, axis=axis, keepdims=keepdims)
        return (total, Tensor(np.full(total.shape, float(_count(x, axis, True))))) if returned else total
    w = node(weights)
    if w.shape != x.shape:
        axes = axes_of(axis, x.ndim)
        if axes is None or w.shape != tuple(x.shape[i] for i in axes):
            raise ValueError(f"average: weights of shape {w.shape} fit neither the array {x.shape} nor axis {axis}")
        w = np.transpose(w, tuple(int(i) for i in np.argsort(axes)))
        w = np.broadcast_to(w.reshape(tuple(n if i in axes else 1 for i, n in enumerate(x.shape))), x.shape)
    scale = np.sum(w, axis=axis, keepdims=keepdims)
    total = np.sum(x * w, axis=axis, keepdims=keepdims) / scale
    return (total, scale) if returned else total


@on(np.trace, np.linalg.trace)
def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


# --- order --------------------------------------------------------------------------------------------------------


def _arranged(x: Any, order: Any, axis: int) -> Any:
    return np.take_along_axis(x, order, axis)


@on(np.sort)
def _sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x = node(a)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return _arranged(x, np.argsort(x.data, axis=axis, kind="stable"), axis)


@on(np.partition)
def _partition(a: Any, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None) -> Any:
    x = node(a)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return _arranged(x, np.argpartition(x.data, kth, axis=axis), axis)


@on(np.median)
def _median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    x = node(a)
    axes = axes_of(axis, x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    n = math.prod(x.shape[i] for i in axes)
    flat = np.sort(np.transpose(x, (*axes, *rest)).reshape((n, *(x.shape[i] for i in rest))), axis=0)
    middle = np.mean(flat[(n - 1) // 2 : n // 2 + 1], axis=0)
    bad = np.isnan(flat.data).any(axis=0)
    if bad.any():  # as in NumPy, and nan sorts last
        middle = np.where(bad, flat[-1], middle)
    return middle.reshape(tuple(1 if i in axes else k for i, k in enumerate(x.shape))) if keepdims else middle


# --- choices ------------------------------------------------------------------------------------------------------


@on(np.where)
def _where(condition: Any, *choices: Any, x: Any = None, y: Any = None) -> Any:
    condition = np.asarray(plain(condition))
    if not choices and x is None:
        return np.where(condition)
    a, b = choices if len(choices) == 2 else (x, y)
    a, b = (z if type(z) in (Tensor, float) or isinstance(z, Value) else node(z) for z in (a, b))
    return apply(operations.where, (a, b), {"condition": condition.astype(bool)})


@on(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None, **options: Any) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    return clip(node(a), low, high)


@on(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    result: Any = default
    for condition, choice in list(zip(condlist, choicelist, strict=True))[::-1]:
        result = FUNCTIONS[np.where](condition, choice, result)
    return result


@on(np.choose)
def _choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    which = plain(a)
    return np.select([which == i for i in range(len(choices))], [node(choice) for choice in choices])


@on(np.nan_to_num)
def _nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = node(x)
    limits = np.finfo(x.dtype)
    high, low = float(limits.max if posinf is None else posinf), float(limits.min if neginf is None else neginf)
    x = np.where(np.isnan(x), float(nan), x)
    return np.where(np.isposinf(x), high, np.where(np.isneginf(x), low, x))


def _skips_nan(ours: Any, function: Any) -> None:
    def without(a: Any, axis: Any = None, **options: Any) -> Any:
        return function(node(a), axis=axis, where=~np.isnan(node(a)), **options)

    on(ours)(without)


for _function, _plain in ((np.nansum, np.sum), (np.nanmean, np.mean), (np.nanprod, np.prod), (np.nanvar, np.var), (np.nanstd, np.std)):
    _skips_nan(_function, _plain)
on(np.nanmax)(lambda a, axis=None, **options: np.max(a, axis=axis, initial=-np.inf, where=~np.isnan(node(a)), **options))
on(np.nanmin)(lambda a, axis=None, **options: np.min(a, axis=axis, initial=np.inf, where=~np.isnan(node(a)), **options))


# --- elementwise functions of NumPy that are no universal functions -------------------------------------------------


@on(np.round, np.around)
def _round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    if not decimals:
        return rint(a)
    scale = 10.0 ** abs(decimals)
    return rint(a * scale) / scale if decimals > 0 else rint(a / scale) * scale


on(np.fix)(lambda x, out=None: np.trunc(x))
on(np.sinc)(lambda x: sinc(x))
on(np.real, np.real_if_close)(lambda val, tol=100: node(val))
on(np.imag)(lambda val: np.zeros(node(val).shape, node(val).dtype))
on(np.angle)(lambda z, deg=False: np.where(node(z) >= 0, 0.0, 180.0 if deg else math.pi) * (1.0 + 0.0 * node(z)))


# --- products -----------------------------------------------------------------------------------------------------


@on(np.dot)
def _dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = node(a), node(b)
    if not a.ndim or not b.ndim:
        return a * b
    if b.ndim == 1 or (a.ndim <= 2 and b.ndim == 2):
        return apply(operations.matmul, (a, b), {})
    return np.tensordot(a, b, axes=((-1,), (-2,)))


@on(np.vdot)
def _vdot(a: Any, b: Any, /) -> Any:
    return np.dot(node(a).reshape(-1), node(b).reshape(-1))


@on(np.inner)
def _inner(a: Any, b: Any, /) -> Any:
    a, b = node(a), node(b)
    return np.tensordot(a, b, axes=((-1,), (-1,))) if a.ndim and b.ndim else a * b


@on(np.outer, np.linalg.outer)
def _outer(a: Any, b: Any, out: Any = None) -> Any:
    return node(a).reshape((-1, 1)) * node(b).reshape((1, -1))


@on(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = node(a), node(b)
    if isinstance(axes, Iterable):
        of_a, of_b = axes
    else:
        of_a, of_b = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    of_a, of_b = axes_of(_listed(of_a), a.ndim) or (), axes_of(_listed(of_b), b.ndim) or ()
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ValueError(f"tensordot: the axes {of_a} of {a.shape} and {of_b} of {b.shape} differ in length")
    free_a, free_b = ([i for i in range(x.ndim) if i not in used] for x, used in ((a, of_a), (b, of_b)))
    n = math.prod(a.shape[i] for i in of_a)
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    left = a.transpose((*free_a, *of_a)).reshape((math.prod(rows), n))
    right = b.transpose((*of_b, *free_b)).reshape((n, math.prod(columns)))
    return apply(operations.matmul, (left, right), {}).reshape((*rows, *columns))


def _listed(axes: Any) -> tuple[int, ...]:
    return tuple(axes) if isinstance(axes, Iterable) else (axes,)


@on(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = node(a), node(b)
    n = max(a.ndim, b.ndim)
    a, b = (x.reshape((1,) * (n - x.ndim) + x.shape) for x in (a, b))
    pairs = a.reshape(tuple(k for size in a.shape for k in (size, 1))) * b.reshape(
        tuple(k for size in b.shape for k in (1, size))
    )
    return pairs.reshape(tuple(p * q for p, q in zip(a.shape, b.shape, strict=True)))


@on(np.cross, np.linalg.cross)
def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(node(a), axisa, -1), np.moveaxis(node(b), axisb, -1)
    if (a.shape[-1], b.shape[-1]) != (3, 3):
        raise ValueError(f"cross takes vectors of three components, got {a.shape[-1]} and {b.shape[-1]}")
    parts = [a[..., (i + 1) % 3] * b[..., (i + 2) % 3] - a[..., (i + 2) % 3] * b[..., (i + 1) % 3] for i in range(3)]
    return np.stack(parts, axis=axisc)


@on(np.einsum)
def _einsum(*args: Any, optimize: Any = None, dtype: Any = None, order: Any = None, casting: Any = None) -> Any:
    if not isinstance(args[0], str):  # operand, labels, operand, labels, ..., and perhaps the labels of the result
        *pairs, last = (*args, None) if len(args) % 2 == 0 else args
        texts = [
            "".join("..." if k is Ellipsis else operations.LETTERS[k] for k in labels)
            for labels in (*pairs[1::2], *([last] if last is not None else []))
        ]
        subscripts = ",".join(texts[: len(pairs) // 2]) + ("->" + texts[-1] if last is not None else "")
        args = (subscripts, *pairs[::2])
    nodes = [node(x) for x in args[1:]]
    labels, out = explicit_labels(args[0], [x.ndim for x in nodes])
    return apply(operations.einsum, nodes, {"labels": labels, "out": out})


def explicit_labels(subscripts: str, ndims: Sequence[int]) -> tuple[tuple[str, ...], str]:
    """(labels of each operand, labels of the result), with a letter for every axis that ... stands for.

    >>> explicit_labels("...ij,jk", [3, 2])
    (('aij', 'jk'), 'aik')
    """
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum {subscripts!r} has {len(terms)} terms for {len(ndims)} operands")
    spare = [letter for letter in operations.LETTERS if letter not in text]
    hidden = [ndim - len(term.replace("...", "")) if "..." in term else 0 for term, ndim in zip(terms, ndims, strict=True)]
    letters = "".join(spare[: max(hidden)])  # the last axes of ... are shared
    full = tuple(
        term.replace("...", letters[len(letters) - k :]) for term, k in zip(terms, hidden, strict=True)
    )
    for term, ndim in zip(full, ndims, strict=True):
        if len(term) != ndim:
            raise ValueError(f"einsum {subscripts!r}: an operand of {ndim} axes has the labels {term!r}")
    if arrow:
        out = out.replace("...", letters)
    else:
        every = "".join(terms).replace("...", "")
        out = letters + "".join(sorted(k for k in set(every) if every.count(k) == 1))
    return full, out


# --- differences and sequences ------------------------------------------------------------------------------------


@on(np.diff)
def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    x = np.moveaxis(node(a), axis, 0)
    ends = [None if end is None else np.moveaxis(_end(end, node(a), axis), axis, 0) for end in (prepend, append)]
    if any(end is not None for end in ends):
        parts = [part for part in (ends[0], x, ends[1]) if part is not None]
        x = np.concatenate(parts)
    for _ in range(n):
        x = x[1:] - x[:-1]
    return np.moveaxis(x, 0, axis)


def _end(end: Any, x: Any, axis: int) -> Any:
    end = node(end)
    if end.ndim:
        return end
    shape = list(x.shape)
    shape[axis] = 1
    return np.broadcast_to(end, tuple(shape))


@on(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    parts = [to_begin, np.diff(node(ary).reshape(-1)), to_end]
    return np.concatenate([node(part).reshape(-1) for part in parts if part is not None])


@on(np.gradient)
def _gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """NumPy's own, read off its matrix: along an axis it is linear in f, whatever the spacing."""
    x = node(f)
    axes = axes_of(axis, x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError(f"np.gradient takes no spacing, one, or one per axis ({len(axes)}), got {len(varargs)}")
    if any(type(spacing) is Tensor for spacing in varargs):
        raise TypeError("np.gradient takes numbers as spacing, not nodes")
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    found = []
    for along, spacing in zip(axes, spacings, strict=True):
        matrix = np.gradient(np.eye(x.shape[along]), spacing, axis=0, edge_order=edge_order)
        moved = np.tensordot(matrix.astype(x.dtype), x, axes=((1,), (along,)))
        found.append(np.moveaxis(moved, 0, along))
    return found[0] if len(found) == 1 else tuple(found)


@on(np.linspace)
def _linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    start, stop = np.broadcast_arrays(node(start), node(stop))
    share = np.linspace(0.0, 1.0, num, endpoint).reshape((-1,) + (1,) * start.ndim)
    line = np.moveaxis(start * (1.0 - share) + stop * share, 0, axis)
    gaps = num - 1 if endpoint else num
    return (line, (stop - start) / gaps if gaps else np.nan) if retstep else line


@on(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = np.moveaxis(node(y), axis, -1)
    if x is None:
        step = dx
    else:
        x = node(x)
        step = np.diff(x) if x.ndim == 1 else np.diff(np.moveaxis(x, axis, -1))
    return np.sum(step * (y[..., 1:] + y[..., :-1]), axis=-1) / 2.0


@on(np.polyval)
def _polyval(p: Any, x: Any) -> Any:
    y: Any = 0.0
    for coefficient in node(p):
        y = y * x + coefficient
    return y


# --- reductions of universal functions, and methods ---------------------------------------------------------------

REDUCTIONS["reduce"].update({np.add: _sum, np.multiply: _prod, np.maximum: _max, np.minimum: _min})
REDUCTIONS["accumulate"].update({np.add: _cumsum, np.multiply: _cumprod})
for _ufunc, _reduce in ((np.logical_and, np.all), (np.logical_or, np.any)):
    REDUCTIONS["reduce"][_ufunc] = _reduce


def _method(name: str, function: Any) -> None:
    ours = FUNCTIONS[function]

    def method(self: Tensor, *args: Any, **options: Any) -> Any:
        return ours(self, *args, **options)

    method.__name__, method.__qualname__ = name, f"Tensor.{name}"
    method.__doc__ = f"{full_name(function)}(self, ...)."
    setattr(Tensor, name, method)


for _function in (
    np.sum, np.mean, np.var, np.std, np.prod, np.max, np.min, np.cumsum, np.cumprod, np.trace, np.dot, np.ravel,
    np.swapaxes, np.squeeze, np.repeat, np.take, np.diagonal, np.round, np.argmax, np.argmin, np.argsort, np.nonzero,
    np.any, np.all, np.clip, np.searchsorted, np.copy, np.astype, np.ptp,
):  # fmt: skip
    _method(_function.__name__, _function)
_method("flatten", np.ravel)
_method("conj", np.real)
_method("conjugate", np.real)


def _reshape_method(self: Tensor, *shape: Any, **options: Any) -> Any:
    """np.reshape(self, shape), the shape in one tuple or spread out."""
    return _reshape(self, shape[0] if len(shape) == 1 else shape, **options)


def _transpose_method(self: Tensor, *axes: Any) -> Any:
    """np.transpose(self, axes), the axes in one tuple or spread out."""
    return _transpose(self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None)


def _sort_method(self: Tensor, *args: Any, **options: Any) -> Any:
    """Refused: it would sort in place."""
    raise TypeError("node.sort() would sort in place; use np.sort(node)")


Tensor.reshape = _reshape_method  # type: ignore[method-assign,assignment]
Tensor.transpose = _transpose_method  # type: ignore[method-assign,assignment]
Tensor.sort = _sort_method  # type: ignore[method-assign,assignment]
_ = (absolute, power)
