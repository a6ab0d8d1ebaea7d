"""What NumPy's functions do on Tensors: a name for each, an operation with rules for few.

Three ways lead to a rule. A function is an operation of operations.py (sum, matmul, concatenate, ...); or it is
written with those (mean, var, stack, tensordot, ...; array_compositions.py has more of them); or it only rearranges
elements (roll, tile, pad, ...), and then NumPy itself, run on the elements' numbers, says where each comes from.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import operations, tensor
from autodiff.operations import axes_of
from autodiff.primitives import TABLE, clip, maximum, minimum, rint, sinc, sqrt, square
from autodiff.tensor import (
    FUNCTIONS,
    PRODUCTS,
    REDUCTIONS,
    Tensor,
    apply,
    float_dtype,
    full_name,
    plain,
    plain_array,
    restacked,
)
from autodiff.value import Value

Function = Callable[..., Any]


def array_like(x: Any) -> Any:
    """x as something with the methods of an array: Tensors stay, object arrays and lists of them are stacked."""
    if type(x) is Tensor:
        return x
    if tensor.watcher is not None and hasattr(x, "as_node"):
        return x.as_node(None)
    array = plain_array(x, "a function of array nodes") if isinstance(x, np.ndarray) else np.asarray(x)
    if array.dtype == object and any(type(element) is Tensor for element in array.flat):
        return restacked(array)
    return array


def on(*functions: Any) -> Callable[[Function], Function]:
    """Registers what these NumPy functions do on Tensors; out= is refused for all of them."""

    def register(ours: Function) -> Function:
        kinds = inspect.signature(ours).parameters
        by_keyword = "out" not in kinds or kinds["out"].kind is inspect.Parameter.KEYWORD_ONLY
        place = math.inf if by_keyword else list(kinds).index("out")

        @functools.wraps(ours)
        def checked(*args: Any, **options: Any) -> Any:
            if not options and len(args) == 1:
                return ours(*args)
            if options.pop("out", None) is not None or (len(args) > place and args[int(place)] is not None):
                raise TypeError(
                    f"{full_name(functions[0])} into an existing array would drop the gradient; give it no out="
                )
            return ours(*args, **{key: x for key, x in options.items() if x is not np._NoValue})

        for function in functions:
            FUNCTIONS[function] = checked
        return ours

    return register


def by_numbers(function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """function of the data: plain arrays, or while a function is recorded for replay what stands for them."""
    if tensor.watcher is not None:
        return tensor.watcher.asked(function, args, options)
    return function(*map(plain, args), **{key: plain(x) for key, x in options.items()})


_function: Any

# --- by data alone: their results are no real numbers, or change by jumps only ------------------------------------

for _function in (
    np.shape, np.ndim, np.size, np.argmax, np.argmin, np.argsort, np.argwhere, np.nonzero, np.flatnonzero,
    np.count_nonzero, np.any, np.all, np.isclose, np.allclose, np.array_equal, np.array_equiv, np.searchsorted,
    np.digitize, np.lexsort, np.argpartition, np.isposinf, np.isneginf, np.isreal, np.iscomplex, np.isrealobj,
    np.iscomplexobj, np.result_type, np.can_cast, np.min_scalar_type, np.zeros_like, np.ones_like, np.empty_like,
    np.array_repr, np.array_str, np.array2string, np.shares_memory, np.may_share_memory, np.common_type,
    np.nanargmax, np.nanargmin, np.isin, np.angle, np.linalg.matrix_rank, np.diag_indices_from, np.tril_indices_from,
    np.triu_indices_from, np.einsum_path,
):  # fmt: skip

    def _by_data(*args: Any, _function: Any = _function, **options: Any) -> Any:
        return by_numbers(_function, args, options)

    FUNCTIONS[_function] = _by_data


# --- rearrangements: every element of the result is an element of the first argument, or 0 -------------------------


def gather(x: Tensor, source: Any) -> Tensor:
    """The array whose elements are those of x with these numbers, counted from 1 in C order; 0 stands for a 0."""
    flat = x.reshape(-1)
    if source.size and not source.all():
        if not x.size:
            return Tensor(np.zeros(source.shape, x.dtype))
        return np.where(source > 0, flat[np.maximum(source - 1, 0)], 0.0)  # type: ignore[return-value]
    return flat[source - 1]  # type: ignore[no-any-return]


def numbered(x: Any, first: int = 1) -> Any:
    """An array of x's shape with the numbers first, first + 1, ... in C order."""
    return np.arange(first, first + x.size).reshape(x.shape)


def _rearranges(function: Any, argument: str) -> None:
    signature = inspect.signature(function)

    def ours(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options)
        x = array_like(given.arguments.pop(argument))
        for name, other in given.arguments.items():
            if type(other) is Tensor or (isinstance(other, (list, tuple)) and any(type(k) is Tensor for k in other)):
                raise TypeError(
                    f"{full_name(function)}: {name} says where elements go and takes integers, which change by jumps; "
                    "it got a node. Use .data.astype(int) to drop its gradient on purpose"
                )
        given.arguments[argument] = numbered(x)
        found = function(*given.args, **given.kwargs)
        if isinstance(found, (list, tuple)):
            return type(found)([gather(x, source) for source in found])
        return gather(x, found)

    ours.__signature__ = signature  # type: ignore[attr-defined]
    on(function)(ours)


for _argument, _functions in {
    "a": (np.repeat, np.diagonal, np.resize, np.take),
    "v": (np.diag, np.diagflat),
    "A": (np.tile,),
    "x": (np.linalg.diagonal, np.lib.stride_tricks.sliding_window_view),
    "arr": (np.delete, np.take_along_axis, np.extract),
}.items():
    for _function in _functions:
        _rearranges(_function, _argument)


def _splits(function: Any, of: int | None = None) -> None:
    """Parts along an axis are slices, which copy nothing; of: the axis, where it is no argument."""

    def ours(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
        x = array_like(ary)
        given = (indices_or_sections,) if of is not None else (indices_or_sections, axis)
        function(np.broadcast_to(0, x.shape), *given)  # checks the arguments
        along = one_axis(axis if of is None else min(of, x.ndim - 1), x.ndim)
        parts = np.array_split(np.arange(x.shape[along]), indices_or_sections)
        whole = (slice(None),) * along
        return [x[(*whole, slice(part[0], part[-1] + 1) if part.size else slice(0, 0))] for part in parts]

    if of is not None:
        ours.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    on(function)(ours)


for _function, _of in ((np.array_split, None), (np.split, None), (np.hsplit, 1), (np.vsplit, 0), (np.dsplit, 2)):
    _splits(_function, _of)


def _triangle(function: Any) -> None:
    def ours(m: Any, k: int = 0) -> Any:
        x = array_like(m)
        return np.where(function(np.ones(x.shape[-2:], dtype=bool), k), x, 0.0)

    on(function)(ours)


for _function in (np.tril, np.triu):
    _triangle(_function)


@on(np.compress)
def _compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    x = array_like(a)
    return gather(x, np.compress(plain(condition), numbered(x), axis))


@on(np.insert)
def _insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    x, new = array_like(arr), array_like(values)
    source = np.insert(numbered(x, 0), obj, numbered(new, x.size), axis)
    return np.concatenate([x.reshape(-1), new.reshape(-1).astype(x.dtype if type(x) is Tensor else new.dtype)])[source]


@on(np.roll)
def _roll(a: Any, shift: Any, axis: Any = None) -> Any:
    x = array_like(a)
    if axis is None:
        return _roll(x.reshape(-1), shift, 0).reshape(x.shape)
    moves = dict.fromkeys(range(x.ndim), 0)
    for along, by in np.broadcast(axis, whole(shift, "np.roll: shift")):
        moves[one_axis(int(along), x.ndim)] += int(by)
    for along, by in moves.items():
        n = x.shape[along]
        if n and by % n:
            before = (slice(None),) * along
            x = np.concatenate([x[(*before, slice(-by % n, None))], x[(*before, slice(None, -by % n))]], axis=along)
    return TABLE["alias"](x)


@on(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    x = array_like(array)
    if (
        mode not in ("constant", "edge", "reflect", "symmetric", "wrap")
        or options.get("reflect_type", "even") != "even"
    ):
        raise TypeError(f"np.pad with mode {mode!r} cannot be applied to array nodes: there is no rule for it")
    if type(options.get("constant_values")) is Tensor:
        raise TypeError("np.pad takes numbers as constant_values, not nodes; use np.concatenate")
    if mode != "constant":
        return gather(x, np.pad(numbered(x), pad_width, mode, **options))
    places = np.pad(np.ones(x.shape, bool), pad_width, constant_values=False)  # NumPy checks the widths, and says where
    around = np.pad(np.zeros(x.shape, x.dtype), pad_width, **options)
    widths = [np.flatnonzero(places.any(axis=tuple(j for j in range(x.ndim) if j != i))) for i in range(x.ndim)]
    if not x.size:
        return Tensor(around)
    for along in range(x.ndim):  # what lies before and after along this axis, with the axes so far padded already
        start, stop = int(widths[along][0]), int(widths[along][-1]) + 1
        rest = tuple(
            slice(None) if i < along else slice(int(widths[i][0]), int(widths[i][-1]) + 1) for i in range(x.ndim)
        )
        before = around[(*rest[:along], slice(0, start), *rest[along + 1 :])]
        after = around[(*rest[:along], slice(stop, None), *rest[along + 1 :])]
        x = np.concatenate([before, x, after], axis=along)
    return TABLE["alias"](x)


@on(np.flip)
def _flip(m: Any, axis: Any = None) -> Any:
    x = array_like(m)
    axes = axes_of(axis, x.ndim)
    return x[tuple(slice(None, None, -1) if axes is None or i in axes else slice(None) for i in range(x.ndim))]


on(np.fliplr)(lambda m: np.flip(array_like(m), 1))
on(np.flipud)(lambda m: np.flip(array_like(m), 0))


@on(np.rot90)
def _rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    x = array_like(m)
    np.rot90(np.broadcast_to(0, x.shape), k, axes)  # checks the arguments
    first, second = axes
    if k % 4 == 2:
        return np.flip(x, (first, second))
    x = np.flip(x, second) if k % 4 == 1 else x
    x = np.swapaxes(x, first, second) if k % 2 else x
    return np.flip(x, second) if k % 4 == 3 else x


# --- shapes -------------------------------------------------------------------------------------------------------


@on(np.reshape)
def _reshape(a: Any, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    x = array_like(a)
    shape = newshape if shape is None else shape
    shape = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if order == "F" or (order == "A" and _data(x).flags.fnc):
        return _transpose(_reshape(_transpose(x), shape[::-1]))
    if order not in ("C", "A"):
        raise ValueError(f"np.reshape takes order 'C', 'F' or 'A', got {order!r}")
    if any(n < 0 for n in shape):
        shape = np.broadcast_to(False, x.shape).reshape(shape).shape
    return apply(operations.reshape, (x,), {"shape": shape})


def _data(x: Any) -> Any:
    return x.data if type(x) is Tensor else x


@on(np.ravel)
def _ravel(a: Any, order: str = "C") -> Any:
    x = array_like(a)
    if order == "K":  # as the elements lie in memory
        strides = _data(x).strides
        x, order = _transpose(x, sorted(range(x.ndim), key=lambda i: -abs(strides[i]))), "C"
    return _reshape(x, (x.size,), order)


@on(np.transpose, np.permute_dims)
def _transpose(a: Any, axes: Any = None) -> Any:
    x = array_like(a)
    axes = tuple(range(x.ndim))[::-1] if axes is None else axes_of(tuple(axes), x.ndim)
    if sorted(axes or ()) != list(range(x.ndim)):
        raise ValueError(f"transpose of an array of {x.ndim} axes takes each of them once, got {axes}")
    return apply(operations.transpose, (x,), {"axes": axes})


def _moves_axes(function: Any) -> None:
    def ours(a: Any, *args: Any, **options: Any) -> Any:
        x = array_like(a)
        probe = np.broadcast_to(0, range(x.ndim))  # an array of the shape (0, 1, 2, ...) tells which axis goes where
        return _transpose(x, function(probe, *args, **options).shape)

    ours.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    on(function)(ours)


for _function in (np.swapaxes, np.moveaxis, np.rollaxis):
    _moves_axes(_function)


@on(np.matrix_transpose, np.linalg.matrix_transpose)
def _matrix_transpose(x: Any, /) -> Any:
    return array_like(x).swapaxes(-1, -2)


@on(np.squeeze)
def _squeeze(a: Any, axis: Any = None) -> Any:
    x = array_like(a)
    return x.reshape(np.squeeze(np.broadcast_to(0, x.shape), axis).shape)


@on(np.expand_dims)
def _expand_dims(a: Any, axis: Any) -> Any:
    x = array_like(a)
    return x.reshape(np.expand_dims(np.broadcast_to(0, x.shape), axis).shape)


def _at_least(function: Any) -> None:
    def ours(*arys: Any) -> Any:
        nodes = [array_like(x) for x in arys]
        found = [x.reshape(function(np.broadcast_to(0, x.shape)).shape) for x in nodes]
        return found[0] if len(found) == 1 else tuple(found)

    on(function)(ours)


for _function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    _at_least(_function)


@on(np.broadcast_to)
def _broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    return apply(operations.broadcast_to, (array_like(array),), {"shape": shape})


@on(np.broadcast_arrays)
def _broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    nodes = [array_like(x) for x in args]
    shape = np.broadcast_shapes(*(x.shape for x in nodes))
    return tuple(np.broadcast_to(x, shape) for x in nodes)


@on(np.meshgrid)
def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    nodes = [array_like(x).reshape(-1) for x in xi]
    places = [np.arange(x.size) for x in nodes]
    like = np.meshgrid(*places, sparse=sparse, indexing=indexing)  # type: ignore[call-overload]
    return type(like)([x[grid] for x, grid in zip(nodes, like, strict=True)])


@on(np.concatenate)
def _concatenate(
    arrays: Any, /, axis: int | None = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Any:
    nodes = [array_like(x) for x in arrays]
    if axis is None:
        nodes, axis = [x.reshape(-1) for x in nodes], 0
    if not nodes or not nodes[0].ndim:
        raise ValueError(
            "concatenate takes one array at least, of one dimension at least; np.stack puts numbers together"
        )
    joined = apply(operations.concatenate, nodes, {"axis": one_axis(axis, nodes[0].ndim)})
    return _cast(joined, dtype)


def _cast(x: Any, dtype: Any) -> Any:
    return x if dtype is None else x.astype(float_dtype(dtype))


@on(np.stack)
def _stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    nodes = [array_like(x) for x in arrays]
    if len({x.shape for x in nodes}) != 1:
        raise ValueError(f"stack takes arrays of one shape, got {[x.shape for x in nodes]}")
    axis = one_axis(axis, nodes[0].ndim + 1)
    return np.concatenate([np.expand_dims(x, axis) for x in nodes], axis=axis, dtype=dtype)


@on(np.vstack)
def _vstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    return np.concatenate([np.atleast_2d(array_like(x)) for x in tup], axis=0, dtype=dtype)


@on(np.hstack)
def _hstack(tup: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    nodes = [np.atleast_1d(array_like(x)) for x in tup]
    return np.concatenate(nodes, axis=0 if nodes and nodes[0].ndim == 1 else 1, dtype=dtype)


@on(np.dstack)
def _dstack(tup: Any) -> Any:
    return np.concatenate([np.atleast_3d(array_like(x)) for x in tup], axis=2)


@on(np.column_stack)
def _column_stack(tup: Any) -> Any:
    nodes = [array_like(x) for x in tup]
    return np.concatenate([x if x.ndim > 1 else x.reshape((x.size, 1)) for x in nodes], axis=1)


@on(np.unstack)
def _unstack(x: Any, /, *, axis: int = 0) -> Any:
    return tuple(np.moveaxis(array_like(x), axis, 0))


@on(np.append)
def _append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([array_like(arr), array_like(values)], axis=axis)


@on(np.block)
def _block(arrays: Any) -> Any:
    levels = _depth(arrays)
    return _joined(arrays, levels, max(levels, _dimensions(arrays)))


def _depth(x: Any) -> int:
    return 1 + max(map(_depth, x)) if isinstance(x, list) else 0


def _dimensions(x: Any) -> int:
    return max(map(_dimensions, x)) if isinstance(x, list) else int(array_like(x).ndim)


def _joined(x: Any, level: int, ndim: int) -> Any:
    if isinstance(x, list):
        return np.concatenate([_joined(part, level - 1, ndim) for part in x], axis=-level)
    x = array_like(x)
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)


@on(np.copy)
def _copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return TABLE["alias"](a)


@on(np.full_like)
def _full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *,
    device: Any = None,
) -> Any:  # fmt: skip
    a, filler = _data(a), array_like(fill_value)
    if type(filler) is not Tensor:
        return np.full_like(a, fill_value, dtype, order, subok, shape)  # type: ignore[call-overload]
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    return np.broadcast_to(filler.astype(float_dtype(dtype)), a.shape if shape is None else shape)


@on(np.astype)
def _astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None, **options: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return x if dtype == x.dtype else apply(operations.astype, (x,), {"dtype": dtype})  # like astype(copy=False)
    if dtype.kind in "iub":  # piecewise constant: the derivative is 0 wherever there is one
        return by_numbers(np.astype, (x, dtype), {})
    raise TypeError(f"an array node becomes an array of floats, or a plain one of integers or bools, not of {dtype}")


# --- reductions ---------------------------------------------------------------------------------------------------


def _masked(x: Any, where: Any, filler: float) -> Any:
    return x if where is True else np.where(np.broadcast_to(plain(where), x.shape), x, filler)


def one_axis(axis: Any, ndim: int) -> int:
    """An axis argument that may be no tuple, as an axis from 0."""
    return int(np.lib.array_utils.normalize_axis_index(operator.index(axis), ndim))


def whole(x: Any, what: str) -> Any:
    """x, which says where elements go, as an array of integers; TypeError for a node or anything else."""
    if type(x) is Tensor or np.asarray(x).dtype.kind not in "iub":
        raise TypeError(
            f"{what} says where elements go and takes integers, got {x!r:.60}; for a node use .data.astype(int), which "
            "drops its gradient on purpose"
        )
    return np.asarray(x)


def _reduced(operation: Any, x: Any, axis: Any, keepdims: Any) -> Any:
    if not x.ndim and axis in (0, -1):
        axis = None  # NumPy lets a number be reduced along an axis that it has not
    return apply(operation, (x,), {"axis": axes_of(axis, x.ndim), "keepdims": bool(keepdims)})


@on(np.sum)
def _sum(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    x = _cast(_masked(array_like(a), where, 0.0), dtype)
    total = _reduced(operations.sum_, x, axis, keepdims)
    return total if initial is None else total + initial


def _count(x: Any, axis: Any, where: Any) -> Any:
    """How many elements a reduction takes together: an int, or an array of the reduced shape (kept dims) by where."""
    if where is not True:
        mask = np.broadcast_to(plain(where), x.shape).astype(bool)
        return np.sum(mask, axis=axes_of(axis, x.ndim), keepdims=True, dtype=x.dtype)
    axes = axes_of(axis, x.ndim)
    return math.prod(x.shape if axes is None else (x.shape[i] for i in axes))


@on(np.mean)
def _mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    x = array_like(a)
    if dtype is None and x.dtype == np.float16:  # NumPy adds it up in float32: sums of many would overflow
        return _mean(x, axis, np.float32, keepdims=keepdims, where=where).astype(np.float16)
    x = _cast(x, dtype)
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
    x = _masked(_cast(array_like(a), dtype), where, 0.0)  # a nan that is left out is multiplied by nothing
    ddof = ddof if correction is None else correction
    middle = np.mean(x, axis=axis, keepdims=True, where=where) if mean is None else mean
    total = np.sum(square(x - middle), axis=axis, keepdims=True, where=where)
    free = np.maximum(_count(x, axis, where) - ddof, 0)
    return _kept(total / (free if np.ndim(free) else float(free)), x, axis, keepdims)


@on(np.std)
def _std(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False, *,
    where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    x = array_like(a)
    given = {"where": where, "mean": mean, "correction": correction}
    spread = np.var(x, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims, **given)
    # The deviation of one number is 0, however it moves, and so is its slope: it stays as var has it, 0 or nan.
    count = _count(x, axis, where)
    single = count == 1 if where is True else _kept(count, x, axis, keepdims) == 1
    if mean is not None or not np.any(single):
        return sqrt(spread)
    return spread if np.all(single) else np.where(single, spread, sqrt(np.where(single, 1.0, spread)))


@on(np.prod)
def _prod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:  # fmt: skip
    x = _cast(_masked(array_like(a), where, 1.0), dtype)
    total = _reduced(operations.prod, x, axis, keepdims)
    return total if initial is None else total * initial


def _extremum(operation: Any, pick: Any, worst: float) -> Function:
    def ours(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        x = array_like(a)
        if where is not True and initial is None:
            raise ValueError(f"{operation.name} with where= needs initial=, for places where nothing is chosen")
        if initial is not None and not _count(x, axis, True):
            return _sum(x, axis, keepdims=keepdims) + initial
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
    x = _cast(array_like(a), dtype)
    if axis is None or (not x.ndim and axis in (0, -1)):
        x, axis = x.reshape((x.size,)), 0
    return apply(operations.cumsum, (x,), {"axis": one_axis(axis, x.ndim)})


@on(np.cumprod)
def _cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    x = _cast(array_like(a), dtype)
    if axis is None or (not x.ndim and axis in (0, -1)):
        x, axis = x.reshape((x.size,)), 0
    return apply(operations.cumprod, (x,), {"axis": one_axis(axis, x.ndim)})


@on(np.trace)
def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@on(np.cumulative_sum)
def _cumulative_sum(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Any:
    return _cumulative(_cumsum, np.zeros, x, axis, dtype, include_initial)


@on(np.cumulative_prod)
def _cumulative_prod(
    x: Any, /, *, axis: int | None = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Any:
    return _cumulative(_cumprod, np.ones, x, axis, dtype, include_initial)


def _cumulative(function: Function, start: Any, a: Any, axis: Any, dtype: Any, include_initial: bool) -> Any:
    x = array_like(a)
    if axis is None:
        if x.ndim > 1:
            raise ValueError(f"a cumulative sum or product of {x.ndim} axes needs axis=")
        axis = 0
    y = function(x, axis, dtype)
    if not include_initial:
        return y
    shape = list(y.shape)
    shape[axis] = 1
    return np.concatenate([start(shape, y.dtype), y], axis=axis)


def _nan_extremum(function: Any, worst: float) -> None:
    def ours(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        x = array_like(a)
        bad = np.isnan(x)
        if where is not True or initial is not None:
            mask = ~bad & np.broadcast_to(where, x.shape)
            return FUNCTIONS[function](
                x, axis, keepdims=keepdims, initial=worst if initial is None else initial, where=mask
            )
        dead = np.all(bad, axis=axis, keepdims=True)
        if dead.any():
            warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=4)
        # A slice of nothing but nan stays as it is: its extremum is nan, and so is the slope.
        return FUNCTIONS[function](np.where(bad & ~dead, worst, x), axis, keepdims=keepdims)

    on({np.max: np.nanmax, np.min: np.nanmin}[function])(ours)


_nan_extremum(np.max, -math.inf)
_nan_extremum(np.min, math.inf)


# --- order --------------------------------------------------------------------------------------------------------


def _arranged(x: Any, order: Any, axis: int) -> Any:
    return np.take_along_axis(x, order, axis)


@on(np.sort)
def _sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    x = array_like(a)
    if axis is None:
        x, axis = x.reshape((x.size,)), 0
    return _arranged(x, np.argsort(x, axis=axis, kind="stable"), axis)


@on(np.partition)
def _partition(a: Any, kth: Any, axis: int | None = -1, kind: Any = "introselect", order: Any = None) -> Any:
    x = array_like(a)
    if axis is None:
        x, axis = x.reshape((x.size,)), 0
    return _arranged(x, np.argpartition(x, kth, axis=axis), axis)


# --- choices ------------------------------------------------------------------------------------------------------


@on(np.where)
def _where(condition: Any, *choices: Any) -> Any:
    if tensor.watcher is not None and type(condition) is Tensor:
        return np.where(np.not_equal(condition, 0.0), *choices)
    condition = np.asarray(plain(condition))
    if not choices:
        return np.where(condition)
    if len(choices) != 2:
        raise ValueError("np.where takes a condition alone, or a condition and two arrays to choose from")
    a, b = choices
    # Python's own numbers do not widen float32
    a, b = (
        float(z) if type(z) in (int, bool) else z if isinstance(z, (float, Value)) else array_like(z) for z in (a, b)
    )
    return apply(operations.where, (a, b), {"condition": condition.astype(bool)})


@on(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    return clip(array_like(a), low, high)


@on(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ValueError(f"select takes a choice for every condition, got {len(condlist)} and {len(choicelist)}")
    watched = tensor.watcher is not None
    conditions = [x if watched and hasattr(x, "as_node") else np.asarray(plain(x)) for x in condlist]
    if any(condition.dtype != bool for condition in conditions):
        raise TypeError("select takes conditions that are arrays of bools")
    result: Any = default
    for condition, choice in zip(conditions[::-1], choicelist[::-1], strict=True):
        result = (np.where if watched and hasattr(condition, "as_node") else _where)(condition, choice, result)
    return result


@on(np.choose)
def _choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    every: Any = range(len(choices))
    which = np.choose(plain(a), every, mode=mode)  # type: ignore[call-overload]  # checked, or brought into range
    return _select([which == i for i in range(len(choices))], list(choices))


@on(np.nan_to_num)
def _nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = array_like(x)
    limits = np.finfo(x.dtype)
    high, low = float(limits.max if posinf is None else posinf), float(limits.min if neginf is None else neginf)
    x = np.where(np.isnan(x), float(nan), x)
    return np.where(np.isposinf(x), high, np.where(np.isneginf(x), low, x))


# --- elementwise functions of NumPy that are no universal functions -------------------------------------------------


@on(np.round, np.around)
def _round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    a = array_like(a)
    if not decimals:
        return rint(a)
    scale = 10.0 ** abs(decimals)
    return rint(a * scale) / scale if decimals > 0 else rint(a / scale) * scale


on(np.fix)(lambda x, out=None: np.trunc(array_like(x)))
on(np.sinc)(lambda x: sinc(array_like(x)))
on(np.real)(lambda val: array_like(val))
on(np.real_if_close)(lambda a, tol=100: array_like(a))
on(np.imag)(lambda val: np.zeros(array_like(val).shape, array_like(val).dtype))


# --- products -----------------------------------------------------------------------------------------------------


@on(np.dot)
def _dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = array_like(a), array_like(b)
    if not a.ndim or not b.ndim:
        return a * b
    if b.ndim == 1 or (a.ndim <= 2 and b.ndim == 2):
        return apply(operations.matmul, (a, b), {})
    return np.tensordot(a, b, axes=((-1,), (-2,)))


@on(np.vdot)
def _vdot(a: Any, b: Any, /) -> Any:
    a, b = array_like(a), array_like(b)
    return np.dot(a.reshape((a.size,)), b.reshape((b.size,)))


@on(np.inner)
def _inner(a: Any, b: Any, /) -> Any:
    a, b = array_like(a), array_like(b)
    return np.tensordot(a, b, axes=((-1,), (-1,))) if a.ndim and b.ndim else a * b


@on(np.outer, np.linalg.outer)
def _outer(a: Any, b: Any, out: Any = None) -> Any:
    a, b = array_like(a), array_like(b)
    return a.reshape((a.size, 1)) * b.reshape((1, b.size))


@on(np.linalg.vecdot)
def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1, **options: Any) -> Any:
    a, b = (np.moveaxis(array_like(x), axis, -1) for x in (x1, x2))
    if options or a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"vecdot takes vectors of one length along one axis, got {a.shape} and {b.shape} {options or ''}"
        )
    return np.matmul(a.reshape((*a.shape[:-1], 1, a.shape[-1])), b.reshape((*b.shape, 1)))[..., 0, 0]


@on(np.linalg.matmul)
def _matmul(x1: Any, x2: Any, /, **options: Any) -> Any:
    if options:
        raise TypeError(
            f"matmul of array nodes takes no {' and no '.join(options)}; use np.swapaxes before and after it"
        )
    return apply(operations.matmul, (array_like(x1), array_like(x2)), {})


def _matvec(x1: Any, x2: Any, /) -> Any:
    return np.matmul(array_like(x1), np.expand_dims(array_like(x2), -1))[..., 0]


def _vecmat(x1: Any, x2: Any, /) -> Any:
    return np.matmul(np.expand_dims(array_like(x1), -2), array_like(x2))[..., 0, :]


PRODUCTS.update({np.matmul: _matmul, np.vecdot: _vecdot})
for _name, _product in (("matvec", _matvec), ("vecmat", _vecmat)):  # new in NumPy 2.2
    if hasattr(np, _name):
        PRODUCTS[getattr(np, _name)] = _product


@on(np.tensordot, np.linalg.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = array_like(a), array_like(b)
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
    a, b = array_like(a), array_like(b)
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
    a, b = np.moveaxis(array_like(a), axisa, -1), np.moveaxis(array_like(b), axisb, -1)
    if (a.shape[-1], b.shape[-1]) != (3, 3):
        raise ValueError(f"cross takes vectors of three components, got {a.shape[-1]} and {b.shape[-1]}")
    parts = [a[..., (i + 1) % 3] * b[..., (i + 2) % 3] - a[..., (i + 2) % 3] * b[..., (i + 1) % 3] for i in range(3)]
    return np.stack(parts, axis=axisc)


@on(np.einsum)
def _einsum(
    *operands: Any, out: Any = None, optimize: Any = None, dtype: Any = None, order: Any = None, casting: Any = None
) -> Any:
    args = operands
    if not isinstance(args[0], str):  # operand, labels, operand, labels, ..., and perhaps the labels of the result
        *pairs, last = (*args, None) if len(args) % 2 == 0 else args
        texts = [
            "".join("..." if k is Ellipsis else operations.LETTERS[k] for k in labels)
            for labels in (*pairs[1::2], *([last] if last is not None else []))
        ]
        subscripts = ",".join(texts[: len(pairs) // 2]) + ("->" + texts[-1] if last is not None else "")
        args = (subscripts, *pairs[::2])
    nodes = [_cast(array_like(x), dtype) for x in args[1:]]
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
    hidden = [
        ndim - len(term.replace("...", "")) if "..." in term else 0 for term, ndim in zip(terms, ndims, strict=True)
    ]
    letters = "".join(spare[: max(hidden)])  # the last axes of ... are shared
    full = tuple(term.replace("...", letters[len(letters) - k :]) for term, k in zip(terms, hidden, strict=True))
    for term, ndim in zip(full, ndims, strict=True):
        if len(term) != ndim:
            raise ValueError(f"einsum {subscripts!r}: an operand of {ndim} axes has the labels {term!r}")
    if arrow:
        out = out.replace("...", letters)
    else:
        every = "".join(terms).replace("...", "")
        out = letters + "".join(sorted(k for k in set(every) if every.count(k) == 1))
    return full, out


# --- reductions of universal functions, and methods ---------------------------------------------------------------

_REDUCE = {np.add: _sum, np.multiply: _prod, np.maximum: _max, np.minimum: _min}
_ACCUMULATE = {np.add: _cumsum, np.multiply: _cumprod}


def _reduce(ufunc: np.ufunc, array: Any, axis: Any = 0, keepdims: bool = False, **options: Any) -> Any:
    x = array_like(array)
    if ufunc in _REDUCE:
        return _REDUCE[ufunc](x, axis=axis, keepdims=keepdims, **options)
    x = _cast(x, options.pop("dtype", None))
    y = ufunc.reduce(x.data, axis=axis, keepdims=keepdims)  # checks the arguments, too
    axes = tuple(range(x.ndim)) if axis is None or not x.ndim else axes_of(axis, x.ndim) or ()
    if options:
        raise TypeError(f"np.{ufunc.__name__}.reduce of array nodes takes no {' and no '.join(options)}")
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    count = math.prod(x.shape[i] for i in axes)
    if not count:
        return y  # of nothing: a constant
    rows = _transpose(x, (*axes, *rest)).reshape((count, *(x.shape[i] for i in rest)))
    return functools.reduce(ufunc, rows).reshape(y.shape)


def _accumulate(ufunc: np.ufunc, array: Any, axis: Any = 0, **options: Any) -> Any:
    x = array_like(array)
    if ufunc in _ACCUMULATE:
        return _ACCUMULATE[ufunc](x, axis=axis, **options)
    x = _cast(x, options.pop("dtype", None))
    rows = [*np.moveaxis(x, one_axis(axis, x.ndim), 0)]
    for i in range(1, len(rows)):
        rows[i] = ufunc(rows[i - 1], rows[i])
    return np.stack(rows, axis=axis) if rows else x


def _reduceat(ufunc: np.ufunc, array: Any, indices: Any, axis: int = 0, **options: Any) -> Any:
    x = np.moveaxis(_cast(array_like(array), options.pop("dtype", None)), axis, 0)
    starts = [int(i) for i in indices]
    ufunc.reduceat(np.empty(len(x)), starts)  # checks the indices
    parts = [
        _reduce(ufunc, x[start:stop]) if stop > start else x[start]
        for start, stop in zip(starts, [*starts[1:], len(x)], strict=True)
    ]
    return np.stack(parts, axis=axis)


REDUCTIONS.update(reduce=_reduce, accumulate=_accumulate, reduceat=_reduceat)


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
    np.any, np.all, np.clip, np.searchsorted, np.copy,
):  # fmt: skip
    _method(_function.__name__, _function)
_method("flatten", np.ravel)
_method("choose", np.choose)
_method("conj", np.real)
_method("conjugate", np.real)


def _reshape_method(self: Tensor, *shape: Any, **options: Any) -> Any:
    """np.reshape(self, shape), the shape in one tuple or spread out."""
    return _reshape(self, shape[0] if len(shape) == 1 else shape, **options)


def _transpose_method(self: Tensor, *axes: Any) -> Any:
    """np.transpose(self, axes), the axes in one tuple or spread out."""
    return _transpose(self, (axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes) or None)


def _astype_method(
    self: Tensor, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    """In another precision, as a node; to integers and bools by data, as a plain array: their derivative is 0."""
    return _astype(self, dtype)


def _compress_method(self: Tensor, condition: Any, axis: Any = None, out: Any = None) -> Any:
    """np.compress(condition, self, axis)."""
    return np.compress(condition, self, axis, out)


for _ours in (_reshape_method, _transpose_method, _astype_method, _compress_method):
    setattr(Tensor, _ours.__name__.removeprefix("_").removesuffix("_method"), _ours)
