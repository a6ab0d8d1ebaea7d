"""Arrays of Values: NumPy code written for floats runs on them and records every scalar operation.

A plain object array would do most of that, but np.maximum(0, z) compares its elements and picks one, so that the
operation vanishes from the graph, and np.exp wants every element to have a method. `Scalars` is an ndarray
subclass whose universal functions go through the table instead.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from autodiff import value
from autodiff.primitives import COMPARISONS, COMPOSITES, SPECIAL, TESTS, UFUNCS, Primitive, clip
from autodiff.value import Value, as_number, checked_name

# Universal functions that NumPy runs on objects through the operators of Value, and that can raise no warning there.
OPERATORS = frozenset((np.add, np.subtract, np.multiply, np.negative, np.positive, np.absolute, np.matmul))
BY_ORDER = frozenset((np.sort, np.argsort, np.median, np.partition, np.argpartition, np.unique))
# NumPy computes these in compiled code, or with tricks that numbers of no dtype do not survive; Tensors have them all.
ON_TENSORS_ONLY = frozenset(
    (
        np.quantile, np.percentile, np.cov, np.corrcoef, np.interp, np.linalg.det, np.linalg.slogdet, np.linalg.inv,
        np.linalg.solve, np.linalg.cholesky, np.linalg.eigh, np.linalg.eigvalsh, np.linalg.svd, np.linalg.pinv,
        np.linalg.lstsq, np.linalg.qr,
    )
)  # fmt: skip

ON_ARRAY: list[Callable[[], None]] = []  # called where a Value meets an array; a transform may start again instead


class _Refusal(threading.local):
    """Why `ufunc_on_nodes` refused, inside the NumPy function that runs in this thread now."""

    message = ""


_refusal = _Refusal()


class Scalars(np.ndarray):
    """An array whose elements are Values (or plain numbers, where nothing was recorded); see `scalars`."""

    @property
    def data(self) -> Any:
        """The elements' data, a float array of the same shape, read-only: assign to write, W.data = W.data - step.

        (W -= step would make new nodes of the elements instead of moving them.)
        """
        if value.watcher is not None:
            value.watcher("data", self, None, None)
        return _read_only(_floats(self, lambda element: element.data))

    @data.setter
    def data(self, numbers: Any) -> None:
        if value.watcher is not None:
            value.watcher("writing data", self, None, None)
        _write(self, "data", numbers)

    @property
    def grad(self) -> Any:
        """The elements' adjoints, a float array, read-only; 0 where no backward pass has been. Assign to write."""
        if value.watcher is not None:
            value.watcher("grad", self, None, None)
        return _read_only(_floats(self, lambda element: element.grad))

    @grad.setter
    def grad(self, numbers: Any) -> None:
        _write(self, "grad", numbers)

    def round(self, decimals: Any = 0, out: Any = None) -> Any:
        """Every element to so many decimals, as round(node, decimals)."""
        return _loop(lambda element: round(element, decimals), [self], out)

    def backward(self) -> None:
        """Value.backward of the one element; ValueError where there are more, or none."""
        if self.size != 1:
            raise ValueError(
                f"backward starts from one number, and this array has the shape {self.shape}; take np.sum(array) "
                "or one of its elements"
            )
        self.item().backward()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return ufunc_on_nodes(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function in BY_ORDER and value.watcher is not None:
            _watch(np.isnan, args[0])
        if function in BY_ORDER and np.isnan(_floats(args[0], lambda element: element.data)).any():
            raise TypeError(f"np.{function.__name__} orders nodes by comparing them, and nan has no place in an order")
        if function in ON_TENSORS_ONLY:
            name = f"{function.__module__.replace('numpy', 'np', 1)}.{function.__name__}"
            raise TypeError(
                f"{name} does not run on arrays of Values; it does on a Tensor, which is one node for the whole array"
            )
        if function is np.nan_to_num:
            raise TypeError("np.nan_to_num would leave nodes as they are; use np.where(np.isnan(array), 0.0, array)")
        outer, _refusal.message = _refusal.message, ""
        try:
            result = super().__array_function__(function, types, args, options)
            # NumPy catches the TypeError of a method and tries again on a plain array, where the graph ends.
            if _refusal.message:
                raise TypeError(_refusal.message)
        except TypeError as error:
            raise TypeError(_refusal.message or str(error)) from None
        finally:
            _refusal.message = outer
        return _as_scalars(result)

    @staticmethod
    def apply_primitive(row: Primitive, *operands: Any) -> Any:
        """What a row of the table does with these operands, at least one of which is an array of nodes."""
        return elementwise(row, operands)


def scalars(array: Any, name: str | None = None) -> Scalars:
    """An array of leaves with these numbers; elements that are Values already are kept.

    array: anything NumPy makes an array of real numbers or Values of. With a name, each new leaf is called
    name[i,j] after its index, counted from 0.

    >>> W = scalars([[1.0, 2.0]], name="W")
    >>> loss = np.sum(np.maximum(0, np.array([[3.0]]) @ W) ** 2)
    >>> loss.backward()
    >>> W.grad
    array([[18., 36.]])
    >>> W[0, 1].name
    'W[0,1]'
    """
    if name is not None:
        checked_name(name)
    plain = _plain(array) if isinstance(array, (np.ndarray, Value)) else np.asarray(array)
    if plain.dtype.kind not in "fiubO":
        raise TypeError(f"scalars takes real numbers, got an array of {plain.dtype}")
    result = np.empty(plain.shape, dtype=object)
    for index in np.ndindex(plain.shape):
        element = plain[index]
        if not isinstance(element, Value):
            label = None if name is None else name + (f"[{','.join(map(str, index))}]" if index else "")
            element = Value(as_number(element, "scalars"), label)
        result[index] = element
    return result.view(Scalars)


def elementwise(row: Primitive, operands: Sequence[Any]) -> Any:
    """row over arrays of nodes and numbers, broadcast together as NumPy does."""
    return _loop(row, operands)


def ufunc_on_nodes(ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What NumPy's universal function does where one of its inputs is a Value or an array of them.

    Raises TypeError, naming the function, where the table has no row for it.
    """
    if any(type(x) is Value for x in inputs) and any(isinstance(x, np.ndarray) and x.dtype != object for x in inputs):
        meets_array()
    if ufunc in COMPOSITES and method == "__call__" and not options:
        return COMPOSITES[ufunc](*inputs)
    by_data = ufunc in COMPARISONS or ufunc in TESTS
    row: Callable[..., Any] | None = clip if ufunc.__name__ == "clip" else UFUNCS.get(ufunc)
    row = row or SPECIAL.get(ufunc.__name__)
    if ufunc in OPERATORS:
        row = None  # NumPy's own loop is faster
    elif not (by_data or row or ufunc is np.conjugate):
        known = sorted({other.__name__ for other in (*OPERATORS, *UFUNCS, *COMPOSITES)})
        _refuse(
            f"np.{ufunc.__name__} cannot be applied to nodes: the table has no row for it. Write it with "
            f"{', '.join(known)}; or make a row with autodiff.primitive; or take .data to leave the graph"
        )
    out = options.get("out", ())
    if method == "at":
        out, by_data = inputs[:1], False
    for target in out:
        if target is not None and target.dtype != object and not by_data:
            _refuse(
                f"np.{ufunc.__name__} into an array of {target.dtype} would drop the gradient; "
                "give it no out=, or an array made by scalars"
            )
    plain: list[Any] = [_plain(x) for x in inputs]
    if ufunc in TESTS:
        if value.watcher is not None:
            _watch(ufunc, plain[0])
        plain = [_floats(x, lambda element: element.data) for x in plain]
    elif method == "__call__" and row is not None:
        return _loop(row, plain, out[0] if out else None, options.get("where", True))
    function = np.positive if ufunc is np.conjugate else ufunc  # real numbers are their own conjugates
    if row is not None:
        # identity=None: its reductions may run over several axes, like those of np.maximum
        function = np.frompyfunc(row, ufunc.nin, 1, identity=None)
    given = {**options, "out": tuple(map(_plain, out))} if "out" in options else options
    with np.errstate(all="ignore"):  # NumPy would report what the processor noticed meanwhile
        result = getattr(function, method)(*plain, **given)
    return out[0] if "out" in options else _as_scalars(result)


def _watch(test: np.ufunc, array: Any) -> None:
    """Tells the watcher of a test of every node: the comparison that it comes down to."""
    watcher: Any = value.watcher
    for node in np.asarray(_plain(array), dtype=object).flat:
        if isinstance(node, Value):
            outcome = bool(test(node.data))
            if test is np.isnan:
                watcher("ne", node, node, outcome)
            elif test is np.signbit:
                watcher("signbit", node, 0.0, outcome)
            else:
                watcher("eq" if test is np.isinf else "lt", abs(node), math.inf, outcome)


def meets_array() -> None:
    """Tells those who want to know that a Value is treated as an array of no dimensions."""
    for tell in ON_ARRAY:
        tell()


def function_on_nodes(function: Callable[..., Any], args: Any, options: Any) -> Any:
    """What a NumPy function does where one of its arguments is a Value: the same as for an array of no dimensions."""
    meets_array()

    def boxed(x: Any) -> Any:
        if isinstance(x, Value):
            return scalars(x)
        return type(x)(map(boxed, x)) if type(x) in (list, tuple) else x

    result = function(*map(boxed, args), **{key: boxed(x) for key, x in options.items()})
    return result.item() if isinstance(result, Scalars) and result.ndim == 0 else result


def _loop(function: Callable[..., Any], operands: Sequence[Any], out: Any = None, where: Any = True) -> Any:
    """function element by element, broadcast; not by np.frompyfunc, which adds warnings of its own."""
    arrays = [np.asarray(_plain(x), dtype=object) for x in operands]
    if where is not True:
        if out is None:
            _refuse("where= without out= would leave holes in an array of nodes; use np.where(condition, x, y)")
        mask = np.broadcast_to(where, out.shape)
        arrays = [np.broadcast_to(array, out.shape)[mask] for array in arrays]
        out.view(np.ndarray)[mask] = _loop(function, arrays)
        return out
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    values = (function(*each) for each in np.broadcast(*arrays))
    result = np.fromiter(values, dtype=object, count=math.prod(shape)).reshape(shape)
    if out is not None:
        out.view(np.ndarray)[...] = result
        return out
    return result.view(Scalars) if shape else result.item()


def _refuse(message: str) -> NoReturn:
    _refusal.message = message
    raise TypeError(message)


def _plain(x: Any) -> Any:
    """x as a base-class array, so that NumPy's own loops run on it; a Value becomes an array of no dimensions."""
    if type(x) is Value:
        boxed = np.empty((), dtype=object)
        boxed[()] = x
        return boxed
    return x.view(np.ndarray) if isinstance(x, np.ndarray) else x


def _as_scalars(result: Any) -> Any:
    if type(result) is Scalars and result.dtype == object:
        return result  # the very array, where it is an out=
    if isinstance(result, np.ndarray):
        return result.view(Scalars if result.dtype == object else np.ndarray)
    if isinstance(result, (tuple, list)):
        return type(result)(map(_as_scalars, result))
    return result


def _floats(array: Any, part: Callable[[Value], float]) -> Any:
    plain = np.asarray(_plain(array), dtype=object)
    result = np.empty(plain.shape)
    for index in np.ndindex(plain.shape):
        element: Any = plain[index]
        result[index] = part(element) if isinstance(element, Value) else element
    return result


def _read_only(array: Any) -> Any:
    array.flags.writeable = False  # a write would be lost: the numbers live in the nodes
    return array


def _write(array: Scalars, slot: str, numbers: Any) -> None:
    numbers = np.broadcast_to(np.asarray(numbers, dtype=float), array.shape)
    for node in array.flat:
        if not isinstance(node, Value):
            raise TypeError(f"an element of this array is the plain number {node!r}, which has no {slot} to write")
    for node, number in zip(array.flat, numbers.flat, strict=True):
        setattr(node, slot, float(number))
