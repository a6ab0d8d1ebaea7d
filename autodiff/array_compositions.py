"""What more of NumPy's functions do on Tensors, each written in a few lines of those that array_functions.py has.

Where a choice depends on the order of the elements (median, interp, unique, ...), it is made by data, and the
derivative is that of the elements chosen.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.array_functions import array_like, by_numbers, on, one_axis
from autodiff.operations import axes_of, scattered
from autodiff.tensor import FUNCTIONS, Tensor, float_dtype, plain

# --- averages and order statistics --------------------------------------------------------------------------------


@on(np.average)
def _average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    x = array_like(a)
    if weights is None:
        total = np.mean(x, axis=axis, keepdims=keepdims)
        return (total, np.full(total.shape, x.size / max(total.size, 1))) if returned else total
    w = array_like(weights)
    if w.shape != x.shape:
        axes = axes_of(axis, x.ndim)
        if axes is None:
            raise TypeError(f"average: axis says along which axis of {x.shape} the weights of shape {w.shape} lie")
        if w.shape != tuple(x.shape[i] for i in axes):
            raise ValueError(f"average: weights of shape {w.shape} do not fit axis {axis} of {x.shape}")
        w = np.transpose(w, tuple(int(i) for i in np.argsort(axes)))
        w = np.broadcast_to(w.reshape(tuple(n if i in axes else 1 for i, n in enumerate(x.shape))), x.shape)
    scale = np.sum(w, axis=axis, keepdims=keepdims)
    if not np.all(scale):
        raise ZeroDivisionError("average: the weights add up to 0")
    total = np.sum(x * w, axis=axis, keepdims=keepdims) / scale
    return (total, scale) if returned else total


def _in_front(x: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """(x with the reduced axes in front, and as one; the shape of the result with these axes kept)."""
    axes = axes_of(axis, x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    flat = np.transpose(x, (*axes, *rest)).reshape((math.prod(x.shape[i] for i in axes), *(x.shape[i] for i in rest)))
    return flat, tuple(1 if i in axes else n for i, n in enumerate(x.shape))


def _unless_nan(y: Any, rows: Any) -> Any:
    """y, a statistic of sorted rows, but nan where one of them is: nan sorts last."""
    bad = np.isnan(rows).any(axis=0)
    return np.where(bad, rows[-1], y) if bad.any() else y


@on(np.median)
def _median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    rows, kept = _in_front(array_like(a), axis)
    rows, n = np.sort(rows, axis=0), len(rows)
    middle = _unless_nan(np.mean(rows[(n - 1) // 2 : n // 2 + 1], axis=0), rows)
    return middle.reshape(kept) if keepdims else middle


@on(np.quantile)
def _quantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: bool = False, *, weights: Any = None, interpolation: Any = None,
) -> Any:  # fmt: skip
    if weights is not None or type(q) is Tensor:
        raise TypeError("np.quantile of array nodes takes no weights, and numbers as q, not nodes")
    rows, kept = _in_front(array_like(a), axis)
    rows = np.sort(rows, axis=0)
    # The same quantile of 0, 1, 2, ... says between which two of the sorted elements it lies, and where.
    place = np.quantile(np.arange(float(len(rows))), q, method=method)  # type: ignore[call-overload]
    below = np.floor(place).astype(int)
    kind = np.result_type(rows.dtype, float(q) if np.ndim(q) == 0 else np.asarray(q))
    share = (place - below).astype(kind).reshape(below.shape + (1,) * (rows.ndim - 1))
    low, high = rows[below], rows[np.minimum(below + 1, len(rows) - 1)]
    y = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    y = _unless_nan(y, rows)
    return y.reshape(below.shape + kept) if keepdims else y


@on(np.percentile)
def _percentile(a: Any, q: Any, *args: Any, **options: Any) -> Any:
    return FUNCTIONS[np.quantile](a, q if type(q) is Tensor else np.true_divide(q, 100.0), *args, **options)


def _skips_nan(ours: Any, function: Any) -> None:
    def without(a: Any, axis: Any = None, *args: Any, where: Any = True, **options: Any) -> Any:
        mask = ~np.isnan(array_like(a))
        return FUNCTIONS[function](a, axis, *args, where=mask if where is True else mask & where, **options)

    on(ours)(without)


for _ours, _function in (
    (np.nansum, np.sum),
    (np.nanmean, np.mean),
    (np.nanprod, np.prod),
    (np.nanvar, np.var),
    (np.nanstd, np.std),
):
    _skips_nan(_ours, _function)


@on(np.nancumsum)
def _nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return np.cumsum(np.where(np.isnan(a), 0.0, a), axis=axis, dtype=dtype)


@on(np.nancumprod)
def _nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return np.cumprod(np.where(np.isnan(a), 1.0, a), axis=axis, dtype=dtype)


def _column_by_column(numpy: Any, function: Callable[..., Any], a: Any, axis: Any, keepdims: bool) -> Any:
    """function of every column without its nan; a column of nothing else stays as it is."""
    if not np.size(a):
        return numpy(plain(a), axis=axis, keepdims=keepdims)
    rows, kept = _in_front(array_like(a), axis)
    columns = [rows[(slice(None), *at)] for at in np.ndindex(rows.shape[1:])]
    found = []
    for column in columns:
        good = ~np.isnan(column)
        found.append(function(column[good] if good.any() else column))
    y = np.stack(found, axis=-1)
    return y.reshape(y.shape[:-1] + (kept if keepdims else rows.shape[1:]))


@on(np.nanmedian)
def _nanmedian(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    return _column_by_column(np.nanmedian, FUNCTIONS[np.median], a, axis, bool(keepdims))


@on(np.nanquantile)
def _nanquantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, *, weights: Any = None, interpolation: Any = None,
) -> Any:  # fmt: skip
    return _column_by_column(
        functools.partial(np.nanquantile, q=q, method=method),
        functools.partial(_quantile, q=q, method=method, weights=weights),
        a,
        axis,
        bool(keepdims),
    )


@on(np.nanpercentile)
def _nanpercentile(a: Any, q: Any, *args: Any, **options: Any) -> Any:
    return FUNCTIONS[np.nanquantile](a, q if type(q) is Tensor else np.true_divide(q, 100.0), *args, **options)


@on(np.cov)
def _cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Any:  # fmt: skip
    def variables_in_rows(z: Any) -> Any:
        z = in_float64(z) if dtype is None else array_like(z).astype(float_dtype(dtype))
        if z.ndim > 2:
            raise ValueError(f"cov takes variables in the rows of a matrix, got the shape {z.shape}")
        return np.atleast_2d(z) if rowvar or z.ndim < 2 else np.transpose(z)

    x = variables_in_rows(m)
    if y is not None:
        x = np.concatenate([x, variables_in_rows(y)])
    ddof = (0 if bias else 1) if ddof is None else ddof
    parts = [in_float64(w) for w in (fweights, aweights) if w is not None]
    w = parts[0] * parts[1] if len(parts) == 2 else parts[0] if parts else None
    if w is None:
        free: Any = float(x.shape[1] - ddof)
    else:
        free = np.sum(w) - ddof * (1.0 if aweights is None else np.sum(w * array_like(aweights)) / np.sum(w))
    if free <= 0.0:
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=5)
        free = 0.0 * free
    x = x - np.average(x, axis=1, weights=w).reshape((-1, 1))
    return np.squeeze(np.matmul(x, np.transpose(x if w is None else x * w)) / free)


@on(np.corrcoef)
def _corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = _cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    spread = np.sqrt(np.diag(c))
    c = c / spread.reshape((-1, 1)) / spread
    return np.where(np.abs(c) > 1.0, np.sign(c), c)  # by rounding only


@on(np.unique)
def _unique(
    ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
    axis: int | None = None, *, equal_nan: bool = True, sorted: bool = True,
) -> Any:  # fmt: skip
    """The first element of each value: the others that equal it receive no gradient."""
    x = array_like(ar)
    _, first, *rest = by_numbers(
        np.unique, (x,),
        {"return_index": True, "return_inverse": return_inverse, "return_counts": return_counts, "axis": axis,
         "equal_nan": equal_nan},
    )  # fmt: skip
    values = x.reshape((x.size,))[first] if axis is None else np.take(x, first, axis=axis)
    found = (values, *([first] if return_index else []), *rest)
    return found if len(found) > 1 else values


@on(np.bincount)
def _bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """The weights summed by label: labels are integers, as without nodes."""
    counts = np.bincount(plain(x), minlength=minlength)
    weights = in_float64(weights)
    if weights.shape != np.shape(x):
        raise ValueError(f"bincount takes a weight for every label, got {weights.shape} and {np.shape(x)}")
    return scattered(weights, np.asarray(x, dtype=int), counts.shape)


# --- differences and sequences ------------------------------------------------------------------------------------


@on(np.diff)
def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"diff: the order n is at least 0, got {n}")
    x = array_like(a)
    if not x.ndim:
        raise ValueError("diff takes an array of one dimension at least")
    if n == 0:
        return x
    axis, edge = one_axis(axis, x.ndim), list(x.shape)
    edge[axis] = 1
    ends = [array_like(end) if end is None or np.ndim(end) else np.broadcast_to(end, edge) for end in (prepend, append)]
    parts = [part for part, given in ((ends[0], prepend), (x, x), (ends[1], append)) if given is not None]
    x = np.moveaxis(np.concatenate(parts, axis=axis) if len(parts) > 1 else x, axis, 0)
    for _ in range(n):
        x = x[1:] - x[:-1]
    return np.moveaxis(x, 0, axis)


@on(np.ediff1d)
def _ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    x = array_like(ary)
    parts = [to_begin, np.diff(np.ravel(x)), to_end]
    return np.concatenate([np.ravel(array_like(part)) for part in parts if part is not None], dtype=x.dtype)


@on(np.gradient)
def _gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """NumPy's own, read off: along an axis each result is a combination of three neighbours, whatever the spacing."""
    x = array_like(f)
    axes = axes_of(axis, x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError(f"np.gradient takes no spacing, one, or one per axis ({len(axes)}), got {len(varargs)}")
    if any(type(spacing) is Tensor for spacing in varargs):
        raise TypeError("np.gradient takes numbers as spacing, not nodes")
    numpy: Any = np.gradient
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    found = []
    for along, spacing in zip(axes, spacings, strict=True):
        rows = np.moveaxis(x, along, 0)
        n = len(rows)
        first = np.clip(np.arange(n) - 1, 0, max(n - 3, 0))  # of the three neighbours
        total: Any = 0.0
        for k in range(3):
            # Of three neighbours one has a number that leaves k when divided by 3: a comb tells its coefficient.
            comb = (np.arange(n) % 3 == k).astype(rows.dtype)
            coefficient = numpy(comb, spacing, edge_order=edge_order).reshape((n,) + (1,) * (x.ndim - 1))
            neighbour = rows[np.minimum(first + (k - first) % 3, n - 1)]
            total = total + np.where(coefficient != 0.0, coefficient * neighbour, 0.0)  # 0 * inf would be nan
        found.append(np.moveaxis(total, 0, along))
    return found[0] if len(found) == 1 else tuple(found)


def in_float64(x: Any) -> Any:
    """x in float64 at least, where NumPy's own function computes in it."""
    x = array_like(x)
    return x.astype(np.result_type(x.dtype, float))


def _floats(*given: Any) -> Any:
    """Broadcast together, in one precision; Python's own numbers do not widen float32."""
    numbers = [x if isinstance(x, (int, float)) else array_like(x) for x in given]
    kind = np.result_type(np.float16, *(getattr(x, "dtype", x) for x in numbers))
    return np.broadcast_arrays(*(array_like(x).astype(kind) for x in numbers))


@on(np.linspace)
def _linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    start, stop = _floats(start, stop)
    gaps = num - 1 if endpoint else num
    places = np.arange(num).reshape((num,) + (1,) * start.ndim).astype(np.result_type(start.dtype, stop.dtype))
    step = (stop - start) / gaps if gaps else math.nan * (stop - start)
    line = places * step + start if gaps else places * (stop - start) + start
    if endpoint and num > 1:
        line = np.concatenate([line[:-1], np.expand_dims(stop, 0)])
    line = np.moveaxis(line, 0, axis)
    line = line if dtype is None else line.astype(float_dtype(dtype))
    return (line, step) if retstep else line


@on(np.logspace)
def _logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop, base = _floats(start, stop, base)
    y = np.power(np.expand_dims(base, axis), _linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else y.astype(float_dtype(dtype))


@on(np.geomspace)
def _geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    start, stop = _floats(in_float64(start), in_float64(stop))
    if np.any(plain(start) * plain(stop) <= 0.0):
        raise ValueError("geomspace goes from one number to another of the same sign, and neither is 0")
    exponents = _linspace(np.log10(np.abs(start)), np.log10(np.abs(stop)), num, endpoint)
    y = np.sign(start) * 10.0**exponents
    ends = [np.expand_dims(x, 0) for x in (start, stop)]
    if num > 1 and endpoint:
        y = np.concatenate([ends[0], y[1:-1], ends[1]])
    elif num > 0:
        y = np.concatenate([ends[0], y[1:]])
    y = np.moveaxis(y, 0, axis)
    return y if dtype is None else y.astype(float_dtype(dtype))


@on(np.trapezoid)
def _trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = np.moveaxis(array_like(y), axis, -1)
    if x is None:
        step = dx
    else:
        x = array_like(x)
        step = np.diff(x) if x.ndim == 1 else np.diff(np.moveaxis(x, axis, -1))
    return np.sum(step * (y[..., 1:] + y[..., :-1]) / 2.0, axis=-1)


@on(np.interp)
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear in x, in fp and in xp; at a point of xp the slope is that to its right."""
    x, xp, fp = in_float64(x), in_float64(xp), in_float64(fp)
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ValueError(
            f"interp takes points xp and fp of one dimension and one length, got {xp.shape} and {fp.shape}"
        )
    if period is not None:
        if not period:
            raise ValueError("interp: the period is not 0")
        period, left, right = abs(period), None, None
        x, xp = x % period, xp % period
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order]
        xp, fp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period]), np.concatenate([fp[-1:], fp, fp[:1]])
    below, above = np.less(x, xp[0]), np.greater(x, xp[-1])
    outside = below | above
    ends = fp[0] if left is None else left, fp[-1] if right is None else right
    if xp.size == 1:
        inner = np.broadcast_to(fp[0], x.shape)
    else:
        i = np.clip(np.searchsorted(xp, x, side="right") - 1, 0, xp.size - 2)
        x = np.where(outside, xp[0], x)  # there the ends are chosen, and nothing is multiplied by inf
        inner = (fp[i + 1] - fp[i]) / (xp[i + 1] - xp[i]) * (x - xp[i]) + fp[i]
    return np.where(below, ends[0], np.where(above, ends[1], inner))


@on(np.convolve)
def _convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    a, v = np.atleast_1d(array_like(a)), np.atleast_1d(array_like(v))
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ValueError(f"a convolution takes two sequences that are not empty, got {a.shape} and {v.shape}")
    if v.size > a.size:
        a, v = v, a
    n, m = a.size, v.size
    spans = {"full": (0, n + m - 1), "same": (m - m // 2 - 1, n + m - m // 2 - 1), "valid": (m - 1, n)}
    if mode not in spans:
        raise ValueError(f"a convolution has the mode 'full', 'same' or 'valid', got {mode!r}")
    places = np.arange(*spans[mode])[:, None] - np.arange(m)  # of a, beside each element of v
    inside = (places >= 0) & (places < n)
    return np.sum(np.where(inside, a[np.clip(places, 0, n - 1)], 0.0) * np.where(inside, v, 0.0), axis=1)


@on(np.correlate)
def _correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    a, v = np.atleast_1d(array_like(a)), np.atleast_1d(array_like(v))
    return _convolve(a, v[::-1], mode) if a.size >= v.size else _convolve(v, a[::-1], mode)[::-1]


@on(np.polyval)
def _polyval(p: Any, x: Any) -> Any:
    x = array_like(x)
    y: Any = np.zeros(x.shape, x.dtype)
    for coefficient in array_like(p):
        y = y * x + coefficient
    return y


@on(np.vander)
def _vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    x = array_like(x)
    if x.ndim != 1:
        raise ValueError(f"vander takes one dimension, got {x.ndim}")
    x = x.astype(np.promote_types(x.dtype, int))
    powers = [np.ones(x.shape, x.dtype)]
    for _ in range(1, x.size if N is None else N):
        powers.append(powers[-1] * x)
    powers = powers[: x.size if N is None else N]
    if len(powers) < 2:
        return np.ones((x.size, len(powers)), x.dtype)
    return np.stack(powers if increasing else powers[::-1], axis=1)


@on(np.unwrap)
def _unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2.0 * math.pi) -> Any:
    x = array_like(p)
    unwrapped = np.unwrap(x.data, discont, axis, period=period)
    bounded = ~np.isinf(x.data)
    periods = np.where(bounded, unwrapped - np.where(bounded, x.data, 0.0), np.where(np.isnan(unwrapped), np.nan, 0.0))
    return x + periods.astype(unwrapped.dtype)  # whole periods, by data


# --- functions of functions ---------------------------------------------------------------------------------------


@on(np.apply_along_axis)
def _apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    x = np.moveaxis(array_like(arr), axis, -1)
    axis = axis % x.ndim
    found = [array_like(func1d(x[at], *args, **kwargs)) for at in np.ndindex(x.shape[:-1])]
    if not found:
        raise ValueError("apply_along_axis has nothing to apply the function to: a dimension is 0")
    y = np.stack(found).reshape(x.shape[:-1] + found[0].shape)
    places = tuple(range(axis, axis + found[0].ndim))
    return np.moveaxis(y, tuple(range(x.ndim - 1, y.ndim)), places)


@on(np.piecewise)
def _piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """Each function sees the elements that its condition chooses, and no others."""
    x = array_like(x)
    conditions = (
        [np.broadcast_to(np.asarray(plain(c), dtype=bool), x.shape) for c in condlist]
        if isinstance(condlist, (list, tuple)) and np.ndim(condlist[0]) == x.ndim and x.ndim
        else [np.broadcast_to(np.asarray(plain(condlist), dtype=bool), x.shape)]
    )
    if len(funclist) == len(conditions) + 1:
        conditions.append(~np.any(conditions, axis=0))
    if len(funclist) != len(conditions):
        raise ValueError(f"piecewise takes a function for every condition, got {len(funclist)} and {len(conditions)}")
    y: Any = np.zeros(x.shape, x.dtype)
    for condition, function in zip(conditions, funclist, strict=True):
        part = function(x[condition], *args, **kw) if callable(function) else function
        part = np.broadcast_to(array_like(part).astype(x.dtype), (int(condition.sum()),))
        y = np.where(condition, scattered(part, condition, x.shape), y)
    return y
