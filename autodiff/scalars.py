"""Arrays of Values: NumPy code written for floats runs on them and records every scalar operation.

A plain object array would do most of that, but np.maximum(0, z) compares its elements and picks one, so that the
operation vanishes from the graph, and np.exp wants every element to have a method. `Scalars` is an ndarray
subclass whose universal functions go through the table instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from autodiff.primitives import UFUNCS, Primitive
from autodiff.value import Value, as_number

# Universal functions that NumPy itself runs on objects through the operators of Value.
OPERATORS = frozenset(
    (np.add, np.subtract, np.multiply, np.true_divide, np.power, np.negative, np.positive, np.absolute, np.matmul)
)
# Those that answer by data alone and so belong to no gradient.
BY_DATA = frozenset(
    (
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
        np.isnan, np.isinf, np.isfinite, np.signbit,
    )
)  # fmt: skip

_refusal: TypeError | None = None  # the last refusal of `ufunc_on_nodes` inside the NumPy function that runs now


class Scalars(np.ndarray):
    """An array whose elements are Values (or plain numbers, where nothing was recorded); see `scalars`."""

    @property
    def data(self) -> Any:
        """The elements' data, a float array of the same shape."""
        return _floats(self, lambda element: element.data)

    @property
    def grad(self) -> Any:
        """The elements' adjoints, a float array of the same shape; 0 where no backward pass has been."""
        return _floats(self, lambda element: element.grad)

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
        global _refusal
        outer, _refusal = _refusal, None
        try:
            result = super().__array_function__(function, types, args, options)
            # NumPy catches the TypeError of a method and tries again on a plain array, where the graph ends.
            if _refusal is not None:
                raise _refusal
        finally:
            _refusal = outer
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


def stop_gradient(x: Any) -> Any:
    """A new leaf with the data of x, cut off from its graph; arrays element by element, a number as it is.

    >>> v = Value(2.0)
    >>> y = v * stop_gradient(v)
    >>> y.backward()
    >>> v.grad
    2.0
    """
    if isinstance(x, Value):
        return Value(x.data, x.name)
    if isinstance(x, np.ndarray) and x.dtype == object:
        return _as_scalars(np.frompyfunc(stop_gradient, 1, 1)(_plain(x)))
    return x


def elementwise(row: Primitive, operands: Sequence[Any]) -> Any:
    """row over arrays of nodes and numbers, broadcast together as NumPy does."""
    return _as_scalars(np.frompyfunc(row, len(operands), 1)(*map(_plain, operands)))


def ufunc_on_nodes(ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What NumPy's universal function does where one of its inputs is a Value or an array of them.

    Raises TypeError, naming the function, where the table has no row for it.
    """
    options = dict(options)
    out = options.pop("out", None)
    plain = [_plain(x) for x in inputs]
    if ufunc in OPERATORS:
        function = ufunc
    elif ufunc in BY_DATA:
        function, plain = ufunc, [_floats(x, lambda element: element.data) for x in plain]
    elif ufunc in UFUNCS:
        # identity=None: its reductions may run over several axes, like those of np.maximum
        function = np.frompyfunc(UFUNCS[ufunc], ufunc.nin, 1, identity=None)
    elif ufunc is np.conjugate:
        function = np.positive  # real numbers are their own conjugates
    else:
        _refuse(
            f"np.{ufunc.__name__} cannot be applied to nodes: the table has no row for it. Write it with "
            f"{', '.join(sorted({known.__name__ for known in (*OPERATORS, *UFUNCS)}))}; or make a row with "
            "autodiff.primitive; or take .data to leave the graph"
        )
    result = getattr(function, method)(*plain, **options)
    if out is not None:
        target = out[0]
        if target.dtype != object:
            _refuse(
                f"np.{ufunc.__name__}(..., out=array of {target.dtype}) would drop the gradient; "
                "give it no out=, or an array made by scalars"
            )
        target.view(np.ndarray)[...] = result
        return target
    return _as_scalars(result)


def _refuse(message: str) -> NoReturn:
    global _refusal
    _refusal = TypeError(message)
    raise _refusal


def _plain(x: Any) -> Any:
    """x as a base-class array, so that NumPy's own loops run on it; a Value becomes an array of no dimensions."""
    if type(x) is Value:
        boxed = np.empty((), dtype=object)
        boxed[()] = x
        return boxed
    return x.view(np.ndarray) if isinstance(x, np.ndarray) else x


def _as_scalars(result: Any) -> Any:
    if isinstance(result, np.ndarray) and result.dtype == object:
        return result.view(Scalars)
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
