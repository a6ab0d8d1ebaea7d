"""Tensor: an array that remembers how it was made, and the backward pass over its graph.

The array magnification of Value: the same table of elementwise operations (primitives.TABLE), with broadcasting
undone in the local derivatives, and the structural operations of operations.py. NumPy's own functions record when
they meet a Tensor, so code written for arrays differentiates as it stands.

Every node has a number, counted upwards as nodes are made: parents have smaller numbers than their children, so
the order of the backward pass is the order of the numbers. Nodes point to their operands only and hold no closures:
dropping the output frees the arrays by reference counting.
"""

from __future__ import annotations

import itertools
import numbers
import operator
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from autodiff import operations, value
from autodiff.operations import Operation, unbroadcast
from autodiff.primitives import (
    COMPARISONS,
    COMPOSITES,
    ON_NEW_ROW,
    SPECIAL,
    TABLE,
    TESTS,
    UFUNCS,
    Primitive,
    absolute,
    add,
    clip,
    div,
    floor_divide,
    mod,
    mul,
    neg,
    power,
    sub,
)
from autodiff.sweeps import Patch, pulled
from autodiff.value import REAL, Label, Value, checked_name

_numbers = itertools.count(1)
_new = object.__new__

# The C library gives the free top of its heap back to the system, and a training step that drops its graph pays for
# fresh pages in the next one: a third of its time for small networks. glibc lets twice as much lie as the largest
# block that was ever freed, so one block of 8 MiB, never touched, is freed here; elsewhere it does nothing.
del [np.empty(1 << 23, np.uint8)][0]

LOGIC: tuple[np.ufunc, ...] = (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
BY_DATA = COMPARISONS.union(TESTS, LOGIC)  # answered as plain arrays
KEEP_INTEGERS = frozenset((add, sub, mul))  # rows whose rules do not divide by an operand

# NumPy function -> what it does on Tensors; filled by array_functions.py and linear_algebra.py
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}

IN_PLACE = frozenset((np.copyto, np.put, np.place, np.putmask, np.put_along_axis, np.fill_diagonal))


class MixedNodes(TypeError):
    """A Value met a Tensor: the two magnifications of a graph do not mix."""


class Tensor:
    """An array node: `data`, and after `output.backward()` its `grad` = d(output)/d(node), of the same shape.

    array: real numbers of any shape. float32 (and float16, longdouble) stays; integers and bools become float64.
    The memory is shared with the array that is given, as np.asarray does: do not write into it before the backward
    pass. Comparisons are by data, element by element, and give plain arrays; the hash is by identity. A node does not
    change: `t += 1` names a new node t, and `t[0] = 1` raises. Raises TypeError for anything but real numbers.

    >>> W = Tensor([[1.0, 2.0]], name="W")
    >>> loss = np.sum(np.maximum(0, np.array([[3.0]]) @ W) ** 2)
    >>> loss.backward()
    >>> W.grad
    array([[18., 36.]])
    """

    __slots__ = ("__weakref__", "_grad", "_label", "data", "number", "op", "operands", "parameters", "parents")

    data: np.ndarray[Any, Any]
    op: Primitive | Operation | None  # None for a leaf
    operands: tuple[Any, ...]  # Tensors and constants, in order
    parents: tuple[Tensor, ...]  # the operands that are nodes, in order; `x * x` has the parent x twice
    parameters: Mapping[str, Any]  # of a structural operation: axis, shape, ...

    def __init_subclass__(cls) -> None:
        raise TypeError("Tensor is final; for a new operation use autodiff.primitive, custom_jvp or custom_vjp")

    def __init__(self, array: Any, name: str | None = None) -> None:
        self.data = real_array(array)
        self._grad: Any = None
        self.op, self.operands, self.parents, self.parameters = None, (), (), NONE
        self.number = next(_numbers)
        self._label = value.unnamed
        if name is not None:
            self.name = name

    # --- the graph ---

    @property
    def name(self) -> str | None:
        """The node's name, or None; assign to rename."""
        return self._label.name if self._label else None

    @name.setter
    def name(self, name: str | None) -> None:
        self._label = Label(None if name is None else checked_name(name), self.scope)

    @property
    def scope(self) -> tuple[str, ...]:
        """The names of the scopes that were open when the node was made, outermost first."""
        return self._label.scope if self._label else ()

    @property
    def grad(self) -> Any:
        """d(output)/d(node), of the shape of data; zeros (read-only) where no backward pass has been."""
        return np.broadcast_to(np.zeros((), self.data.dtype), self.data.shape) if self._grad is None else self._grad

    @grad.setter
    def grad(self, array: Any) -> None:
        if array is value.NO_GRAD or array is None:
            self._grad = None
            return
        array = np.asarray(array)
        if array.dtype.kind not in "fiub" or np.broadcast_shapes(array.shape, self.shape) != self.shape:
            raise ValueError(f"grad has the shape {self.shape} of its node, got {array.dtype} {array.shape}")
        self._grad = np.broadcast_to(array, self.shape).astype(self.dtype)

    @property
    def has_grad(self) -> bool:
        """Whether a backward pass has reached the node."""
        return self._grad is not None

    def pull(
        self, upstream: Any, needed: Collection[Tensor] | None = None, recording: bool = False, free: bool = False
    ) -> list[tuple[Tensor, Any]]:
        """[(parent, contribution), ...]: what each edge adds to its parent's adjoint, given this node's.

        needed: only these parents. recording: contributions are nodes, so that they can be differentiated again.
        free: nobody else needs the array upstream, and it may be overwritten.
        """
        op, operands = self.op, self.operands
        try:
            if type(op) is not Primitive:
                return self._pull_through(op, upstream, needed, recording)  # type: ignore[arg-type]
            a = operands[0]
            if len(operands) == 1:
                local = op.da(self, a) if recording else op.da(self.data, a.data)
                return [(a, _chained(upstream, local, a.data, free))]
            b = operands[1]
            to_a = type(a) is Tensor and (needed is None or a in needed)
            to_b = type(b) is Tensor and (needed is None or b in needed)
            y: Any = self
            of_a, of_b = a, b
            if not recording:
                y = self.data
                of_a, of_b = a.data if type(a) is Tensor else a, b.data if type(b) is Tensor else b
            if not to_b:
                return [(a, _chained(upstream, op.da(y, of_a, of_b), a.data, free))] if to_a else []
            if not to_a:
                return [(b, _chained(upstream, op.db(y, of_a, of_b), b.data, free))]
            to_the_first = _chained(upstream, op.da(y, of_a, of_b), a.data, False)
            free = free and to_the_first is not upstream
            return [(a, to_the_first), (b, _chained(upstream, op.db(y, of_a, of_b), b.data, free))]
        except FloatingPointError as error:
            raise FloatingPointError(f"the derivative of {self._described()}: {error}") from None

    def _pull_through(
        self, op: Operation, upstream: Any, needed: Collection[Tensor] | None, recording: bool
    ) -> list[tuple[Tensor, Any]]:
        """`pull` for a structural operation, by its own rules."""
        y: Any = self if recording else self.data
        given = self.operands if recording else [x.data if type(x) is Tensor else x for x in self.operands]
        found: list[tuple[Tensor, Any]] = []
        together: Any = None  # the contributions to all operands, from a rule that gives them in one call
        for position, parent in enumerate(self.operands):
            if type(parent) is not Tensor or (needed is not None and parent not in needed):
                continue
            like = parent.data
            if op is operations.index and type(y) is not Tensor and type(upstream) is not Tensor:
                found.append((parent, Patch(self.parameters["key"], upstream, like.shape, operations.add_at)))
                continue
            if op.at_once:
                together = together or op.pull_all(upstream, y, given, self.parameters)  # type: ignore[attr-defined]
                contribution = together[position]
            else:
                if type(op.pulls) is list:
                    contribution = op.pulls[position](upstream, y, *given, **self.parameters)
                else:
                    contribution = op.pull(position, upstream, y, given, self.parameters)
                if contribution is None:  # a rule's word that nothing depends on this operand
                    continue
            found.append(
                (parent, contribution if contribution.dtype == like.dtype else contribution.astype(like.dtype))
            )
        return found

    def push(self, tangents: Mapping[Tensor, Any], recording: bool = False) -> Any:
        """The tangent of this node from those of its parents; None where none of them has one."""
        op, operands = self.op, self.operands
        moving = [tangents.get(x) if type(x) is Tensor else None for x in operands]
        if all(t is None for t in moving):
            return None
        y: Any = self if recording else self.data
        given = operands if recording else tuple(x.data if type(x) is Tensor else x for x in operands)
        try:
            if type(op) is Primitive:
                total: Any = None
                for position, t in enumerate(moving):
                    if t is not None:
                        local = (op.db if position else op.da)(y, *given)
                        part = t if type(local) is float and local == 1.0 else t * local
                        total = part if total is None else total + part
            else:
                total = op.push(moving, y, given, self.parameters)  # type: ignore[union-attr]
        except FloatingPointError as error:
            raise FloatingPointError(f"the derivative of {self._described()}: {error}") from None
        if total is None:
            return None
        if total.shape != self.data.shape:
            total = np.broadcast_to(total, self.data.shape)
        return total if total.dtype == self.data.dtype else total.astype(self.data.dtype)

    def edges(self) -> list[tuple[Tensor, LinearMap]]:
        """[(parent, d(self)/d(parent)), ...]: one pair per operand that is a node, in order."""
        return [(x, LinearMap(self, i)) for i, x in enumerate(self.operands) if type(x) is Tensor]

    def backward(self) -> None:
        """Adds d(self)/d(leaf) to the grad of every leaf, and sets the grad of every node in between.

        self holds one number. A second call accumulates at the leaves and computes the adjoints in between afresh.
        If a rule raises, every grad is left as it was.

        >>> x = Tensor([1.0, 2.0])
        >>> np.sum(x**3).backward()
        >>> x.grad
        array([ 3., 12.])
        """
        if self.data.size != 1:
            raise ValueError(
                f"backward starts from one number, and {self!r} has the shape {self.shape}; take np.sum(node) or one "
                "of its elements, or autodiff.vjp for an upstream of your own"
            )
        found = pulled(order(self), {self: np.ones(self.shape, self.dtype)}, keep=True)
        for node in found:  # before any grad changes: a sum may overflow, and raise
            if node.op is None and node._grad is not None:
                found[node] = node._grad + found[node]
        for node, adjoint in found.items():
            node._grad = np.asarray(adjoint)

    def _described(self) -> str:
        named = " and ".join(repr(parent.name) for parent in self.parents if parent.name)
        operation = self.op.name if self.op is not None else "a leaf"
        return f"{operation} of shape {self.shape}" + (f" (node {named})" if named else "")

    # --- what kind of array it is ---

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """As of an array."""
        return self.data.size

    @property
    def dtype(self) -> Any:
        """As of an array."""
        return self.data.dtype

    @property
    def T(self) -> Tensor:
        """The transpose: all axes in reverse."""
        return self.transpose()  # type: ignore[no-any-return]

    @property
    def mT(self) -> Tensor:
        """The transposes of a stack of matrices."""
        return self.swapaxes(-1, -2)  # type: ignore[no-any-return]

    @property
    def real(self) -> Tensor:
        """The node itself."""
        return self

    @property
    def imag(self) -> Any:
        """Zeros: a node holds real numbers."""
        return np.zeros(self.shape, self.dtype)

    @property
    def flat(self) -> Iterator[Tensor]:
        """The elements, as nodes of no dimensions."""
        return iter(self.reshape(-1))

    def __len__(self) -> int:
        if not self.data.ndim:
            raise TypeError("a node of no dimensions has no len()")
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.data.ndim:
            raise TypeError("a node of no dimensions cannot be iterated over")
        return (self[i] for i in range(len(self.data)))

    # --- operators ---

    def __add__(self, other: Any) -> Any:
        return _operator(add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _operator(add, other, self)

    def __sub__(self, other: Any) -> Any:
        return _operator(sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _operator(sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return _operator(mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _operator(mul, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _operator(div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _operator(div, other, self)

    def __pow__(self, other: Any) -> Any:
        return _operator(power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _operator(power, other, self)

    def __mod__(self, other: Any) -> Any:
        return _operator(mod, self, other)

    def __rmod__(self, other: Any) -> Any:
        return _operator(mod, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _operator(floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _operator(floor_divide, other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __iadd__(self, other: Any) -> Any:
        return _in_place(self, "+=") + other

    def __isub__(self, other: Any) -> Any:
        return _in_place(self, "-=") - other

    def __imul__(self, other: Any) -> Any:
        return _in_place(self, "*=") * other

    def __itruediv__(self, other: Any) -> Any:
        return _in_place(self, "/=") / other

    def __ipow__(self, other: Any) -> Any:
        return _in_place(self, "**=") ** other

    def __matmul__(self, other: Any) -> Any:
        return matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return matmul(other, self)

    def __neg__(self) -> Tensor:
        return elementwise(neg, self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return elementwise(absolute, self)

    def __round__(self, digits: int | None = None) -> Any:
        return np.round(self, digits or 0)

    def __floor__(self) -> Any:
        return np.floor(self)

    def __ceil__(self) -> Any:
        return np.ceil(self)

    def __getitem__(self, key: Any) -> Tensor:
        if watcher is not None and watcher.holds(key):
            return watcher.picked(self, key)  # type: ignore[no-any-return]
        return apply(operations.index, (self,), {"key": checked_key(key, self)})  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, new: Any) -> NoReturn:
        raise TypeError(
            "a node cannot be changed in place: what was computed from it would no longer be true. Make a new array "
            "with np.where, np.concatenate, np.sort, ...; collect rows in a list and np.stack them"
        )

    # --- comparisons, by data ---

    def __eq__(self, other: object) -> Any:
        return _compare(np.equal, self, other)

    def __ne__(self, other: object) -> Any:
        return _compare(np.not_equal, self, other)

    def __lt__(self, other: Any) -> Any:
        return _compare(np.less, self, other)

    def __le__(self, other: Any) -> Any:
        return _compare(np.less_equal, self, other)

    def __gt__(self, other: Any) -> Any:
        return _compare(np.greater, self, other)

    def __ge__(self, other: Any) -> Any:
        return _compare(np.greater_equal, self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"an array node of shape {self.shape} is neither true nor false; ask np.any(...) or np.all(...) of a "
                "comparison, or choose element by element with np.where(condition, a, b)"
            )
        return bool(self.data if watcher is None else by_data(np.not_equal, (self, 0.0)))

    # --- out of the graph ---

    def item(self, *index: Any) -> float:
        """One element of data as a plain float: detaches on purpose."""
        return float(self.data.item(*index))

    def tolist(self) -> Any:
        """The elements as nodes of no dimensions, in nested lists."""
        return [part.tolist() for part in self] if self.ndim else self

    def __float__(self) -> float:
        raise TypeError(
            f"{self!r} cannot become a plain float: its gradient would be lost without a word. "
            "To keep the gradient use NumPy's functions (np.exp, not math.exp); collect nodes in a list and np.stack "
            "them, rather than writing them into an array; to drop it on purpose use .item() or .data"
        )

    def __int__(self) -> int:
        return int(self.__float__())  # raises

    __complex__ = __float__

    def __index__(self) -> int:
        raise TypeError(f"{self!r} is no index; use int(node.item()), which drops the gradient on purpose")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """An object array of the elements, as nodes of no dimensions: nothing is lost, and np.stack undoes it.

        To integers and bools it goes by data: that changes by jumps only, and its derivative is 0.
        """
        if dtype is not None and np.dtype(dtype).kind in "iub":
            return self.data.astype(dtype)
        if dtype is not None and np.dtype(dtype) != object:
            raise TypeError(
                f"{self!r} cannot become an array of {np.dtype(dtype)}: its gradient would be lost without a word. "
                "Leave the conversion out; put nodes together with np.stack(list), not np.array(list); collect rows in "
                "a list and np.stack them, rather than writing into an array. To drop the gradient on purpose use .data"
            )
        if self.size > 1000:
            warnings.warn(
                f"a node of shape {self.shape} is taken apart into {self.size} nodes, which is slow: write X @ W or "
                "np.dot(X, W) for X.dot(W), leave out np.asarray(node), and np.stack(rows) for np.array(rows)",
                stacklevel=2,
            )
        array = np.empty(self.shape, dtype=object)
        for at in np.ndindex(self.shape):
            array[at] = self[at] if at else self
        return array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        row = UFUNCS.get(ufunc)
        if method == "__call__" and not options:
            if row is not None:
                return elementwise(row, *inputs)
            if ufunc is np.matmul and all(type(x) is Tensor or type(x) is np.ndarray for x in inputs):
                return matmul(*inputs)
        return ufunc_on_tensors(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        ours = FUNCTIONS.get(function)
        if ours is None:
            raise TypeError(
                f"{full_name(function)} cannot be applied to array nodes: "
                + (
                    "it changes an array in place. Make a new one with np.where, np.concatenate or np.stack"
                    if function in IN_PLACE
                    else "there is no rule for it. Write it with those that have one (sum, einsum, where, take, "
                    "cumsum, sort, linalg.solve, ...: autodiff.tensor.FUNCTIONS lists them), give it a rule with "
                    "autodiff.custom_jvp, or take .data to leave the graph"
                )
            )
        return ours(*args, **options)

    def __format__(self, spec: str) -> str:
        return format(self.data.item() if spec and self.size == 1 else self.data, spec) if spec else str(self)

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        data = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=20)
        kind = "" if self.dtype == float else f", dtype={self.dtype}"
        return f"Tensor({data}{kind}{name})"

    def fill(self, *args: Any, **options: Any) -> NoReturn:
        """Refused, as all that changes an array in place: fill, partition, put, resize, setfield, sort."""
        self.__setitem__(None, None)

    partition = put = resize = setfield = sort = fill

    @staticmethod
    def raise_mixed(operation: str) -> NoReturn:
        """MixedNodes: what a Value does when it meets a Tensor."""
        raise_mixed(operation)

    @staticmethod
    def apply_primitive(row: Primitive, a: Any, b: Any = None) -> Any:
        """What a row of the table does with these operands, at least one of which is a Tensor."""
        return elementwise(row, a, b)

    @staticmethod
    def apply_operation(op: Operation, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """What a structural operation does with these operands, at least one of which is a Tensor."""
        return apply(op, operands, parameters)

    if TYPE_CHECKING:  # the methods added below and in array_functions.py: t.exp(), t.sum(), ...

        def __getattr__(self, name: str) -> Callable[..., Any]: ...


# --- recording ------------------------------------------------------------------------------------------------


def recorded(
    data: Any,
    op: Primitive | Operation,
    operands: tuple[Any, ...],
    parents: tuple[Tensor, ...],
    parameters: Mapping[str, Any],
) -> Tensor:
    """The node that an operation made."""
    made = _new(Tensor)
    made.data = data if type(data) is np.ndarray else np.asarray(data)
    made._grad = None
    made.op = op
    made.operands = operands
    made.parents = parents
    made.parameters = parameters
    made.number = next(_numbers)
    made._label = value.unnamed
    return made


NONE: Mapping[str, Any] = {}
watcher: Any = None  # while a function is recorded for replay: what answers by data, for the numbers may change


def elementwise(row: Primitive, a: Any, b: Any = None) -> Tensor:
    """The node row(a) or row(a, b), broadcast; at least one operand is a Tensor, the other may be numbers.

    Raises MixedNodes (a TypeError) for a Value or an array of them, TypeError for what is no real number.
    """
    try:
        kernel = row.array
        if row.arity == 1:
            data = kernel(a.data)
            if type(kernel) is not np.ufunc and data.dtype != a.data.dtype:
                data = data.astype(a.data.dtype)  # kernels of our own compute in float64
            return recorded(data, row, (a,), (a,), NONE)
        if type(a) is Tensor:
            if type(b) is Tensor:
                return recorded(_narrowed(row, kernel(a.data, b.data), a.data, b.data), row, (a, b), (a, b), NONE)
            if type(b) is float and type(kernel) is np.ufunc and not row.becomes:
                return recorded(kernel(a.data, b), row, (a, b), (a,), NONE)
        elif type(a) is float and type(kernel) is np.ufunc and not row.becomes:
            return recorded(kernel(a, b.data), row, (a, b), (b,), NONE)
        on_the_left = type(a) is Tensor
        constant = checked_constant(b if on_the_left else a, row)
        if row.becomes:
            special = _special(row, "right" if on_the_left else "left", constant, a if on_the_left else b)
            if special is not None:
                return elementwise(special, a if on_the_left else b)
        if type(constant) is Tensor:
            return elementwise(row, a, constant) if on_the_left else elementwise(row, constant, b)
        if row not in KEEP_INTEGERS or row is mul:  # the others' rules do not ask for it
            constant = kept(constant)
        of_a, of_b = (a.data, constant) if on_the_left else (constant, b.data)
        operands = (a, constant) if on_the_left else (constant, b)
        return recorded(_narrowed(row, kernel(of_a, of_b), of_a, of_b), row, operands, (a if on_the_left else b,), NONE)
    except FloatingPointError as error:
        named = " and ".join(repr(x.name) for x in (a, b) if type(x) is Tensor and x.name)
        _tell_watcher()
        raise FloatingPointError(f"{row.name}: {error}" + (f" (node {named})" if named else "")) from None
    except Exception:
        _tell_watcher()
        raise


def _tell_watcher() -> None:
    """While a function is recorded: it may catch what is raised for some numbers, and not for others."""
    if watcher is not None:
        watcher.failure()


def _special(row: Primitive, side: str, constant: Any, other: Tensor) -> Primitive | None:
    """What the row is where that operand is this constant: maximum(zeros, t) is relu, as maximum(0, t) is."""
    if type(constant) is float:
        return row.becomes.get((side, constant))
    for (place, number), special in row.becomes.items():
        if place == side and type(constant) is np.ndarray and constant.size and (constant == number).all():
            grows = np.broadcast_shapes(constant.shape, other.shape) != other.shape
            return None if grows or np.result_type(constant, other.dtype) != other.dtype else special
    return None


def _narrowed(row: Primitive, data: Any, *operands: Any) -> Any:
    """data in the precision of the operands: kernels of our own compute in float64."""
    if type(row.array) is np.ufunc:
        return data
    kind = np.result_type(*(x if isinstance(x, np.ndarray) else 0.0 for x in operands))
    return data if kind == data.dtype or kind.kind != "f" else data.astype(kind)


def apply(op: Operation, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """The node of a structural operation; operands that are no Tensors are constants; of constants alone, an array."""
    operands = tuple([x if type(x) is Tensor else checked_constant(x, op) for x in operands])
    if op.linear != "all":  # its rules do not ask for the constants
        operands = tuple([x if type(x) is Tensor else kept(x) for x in operands])
    parents = tuple([x for x in operands if type(x) is Tensor])
    try:
        data = op.forward(*[x.data if type(x) is Tensor else x for x in operands], **parameters)
    except FloatingPointError as error:
        _tell_watcher()
        raise FloatingPointError(f"{op.name}: {error}") from None
    except Exception:
        _tell_watcher()
        raise
    return recorded(data, op, operands, parents, parameters) if parents else data


def _chained(upstream: Any, local: Any, like: Any, free: bool) -> Any:
    """upstream times an elementwise local derivative, with the shape and precision of the operand's data.

    free: nobody else needs the array upstream. Then the product takes its place, for fresh memory costs more than it.
    """
    if type(local) is float:
        if local == 1.0:
            contribution = upstream
        else:
            contribution = np.multiply(upstream, local, upstream) if free else upstream * local
    elif free and type(local) is np.ndarray and local.shape == upstream.shape and local.dtype is upstream.dtype:
        contribution = np.multiply(upstream, local, upstream)
    else:
        contribution = upstream * local
    if contribution.shape != like.shape:
        contribution = unbroadcast(contribution, like.shape)
    if contribution.dtype is like.dtype or contribution.dtype == like.dtype:
        return contribution
    return contribution.astype(like.dtype)


def matmul(a: Any, b: Any) -> Any:
    """a @ b, where one of them at least is a Tensor."""
    for x in (a, b):
        if type(x) is not Tensor and not isinstance(x, (np.ndarray, list, tuple, Value)):
            return NotImplemented
    if type(a) is Tensor and type(b) is Tensor:
        return recorded(np.matmul(a.data, b.data), operations.matmul, (a, b), (a, b), NONE)
    return apply(operations.matmul, (a, b), NONE)


def real_array(array: Any) -> np.ndarray[Any, Any]:
    """array as an array of floats, in its own precision; TypeError if it holds anything but real numbers."""
    if type(array) is np.ndarray and array.dtype.kind == "f":
        return array
    if isinstance(array, (Tensor, Value)):
        raise TypeError(f"Tensor takes numbers, got the node {array!r}; use .data, or stop_gradient(node)")
    if isinstance(array, np.ndarray):
        array = plain_array(array, "Tensor")
    try:
        plain = np.asarray(array)
    except ValueError:
        raise TypeError("Tensor takes an array of real numbers, got nested lists whose lengths differ") from None
    if plain.dtype.kind == "f":
        return plain
    if plain.dtype.kind in "iub":
        return plain.astype(float)
    hint = ""
    if plain.dtype == object and any(isinstance(x, (Value, Tensor)) for x in plain.flat):
        hint = "; its elements are nodes: np.stack puts Tensors together, autodiff.scalars keeps Values"
    elif plain.dtype.kind == "c":
        hint = "; a graph holds real numbers only: make nodes of its .real and .imag"
    raise TypeError(f"Tensor takes an array of real numbers, got {type(array).__name__} of {plain.dtype}{hint}")


def checked_constant(x: Any, op: Primitive | Operation) -> Any:
    """x as a float or a plain array of real numbers, an operand beside a Tensor."""
    if type(x) is float:
        return x
    if type(x) is not np.ndarray:
        if isinstance(x, np.generic):
            x = np.asarray(x)
        elif isinstance(x, REAL):
            return float(x)
        elif isinstance(x, Value):
            raise_mixed(op.name)
        elif isinstance(x, (list, tuple)):
            x = np.asarray(x)
        elif watcher is not None and hasattr(x, "as_node"):
            return x.as_node(op)
        elif not isinstance(x, np.ndarray):
            raise TypeError(f"{op.name} takes arrays of real numbers and nodes, got {type(x).__name__} {x!r}")
        else:
            x = plain_array(x, op.name)
    kind = x.dtype.kind
    if kind == "f" or (kind in "iub" and op in KEEP_INTEGERS):
        return x
    if kind in "iub":  # the floats that NumPy would choose: a mask does not widen float32
        return x.astype(np.result_type(x.dtype, np.float16))
    if kind == "O":
        if _holds_values(x):
            raise_mixed(op.name)
        if any(type(element) is Tensor for element in x.flat):
            return restacked(x)
    hint = "; a graph holds real numbers only" if kind == "c" else ""
    raise TypeError(f"{op.name} takes real numbers, got an array of {x.dtype}{hint}")


def kept(constant: Any) -> Any:
    """A constant as a node keeps it: a copy of a small array, which its owner may write into before the sweep."""
    if type(constant) is np.ndarray and constant.nbytes < SHARED and constant.flags.writeable:
        return constant.copy()
    return constant


SHARED = 1 << 16  # bytes; constants of this size and more are shared with their owner, not copied


def plain_array(x: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    """An array of a subclass as one of the base class, no copy; TypeError where that changes its meaning."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{where} takes arrays without masks, for a rule could not follow the mask; fill it with "
            "array.filled(0.0), and choose with np.where(mask, ..., ...)"
        )
    if isinstance(x, np.matrix):
        raise TypeError(
            f"{where} takes arrays, got a np.matrix, whose * is a matrix product; use np.asarray(matrix), @"
        )
    return x.view(np.ndarray)


ON_MIXED: list[Callable[[], None]] = []  # called before MixedNodes is raised; a transform may start again instead


def raise_mixed(operation: str) -> NoReturn:
    """MixedNodes, saying what to do."""
    for tell in ON_MIXED:
        tell()
    raise MixedNodes(
        f"{operation} of a Tensor and a Value: an array node and a scalar node do not mix in one graph. Make both "
        "Tensors (Tensor(3.0) has no dimensions), or both Values (autodiff.scalars(array))"
    )


def restacked(array: Any) -> Any:
    """The Tensor whose elements are those of an object array: Tensors of no dimensions, and numbers."""
    parts = [x if type(x) is Tensor else Tensor(x) for x in array.flat]
    if not parts:
        return Tensor(np.zeros(array.shape))
    if any(part.ndim for part in parts):
        raise TypeError("an object array of array nodes is restacked where its elements have no dimensions")
    flat = apply(operations.concatenate, [part.reshape(1) for part in parts], {"axis": 0})
    return flat.reshape(array.shape)


def checked_key(key: Any, a: Tensor) -> Any:
    """An index into a, as NumPy takes it; lists become arrays, and arrays are copied: they may change later."""

    def one(k: Any) -> Any:
        if type(k) is Tensor or isinstance(k, Value):
            raise TypeError(
                f"a node is no index: {k!r} changes without jumps and an index cannot; use .data.astype(int) to drop "
                "its gradient on purpose"
            )
        if isinstance(k, (list, range)):
            return np.asarray(k, dtype=None if len(k) else int)
        return k.copy() if isinstance(k, np.ndarray) and k.flags.writeable else k

    return tuple(one(k) for k in key) if type(key) is tuple else one(key)


def _in_place(t: Tensor, sign: str) -> Tensor:
    """t, where `t += x` may stand for `t = t + x`; TypeError where NumPy would change another array as well."""
    views: Any = (operations.reshape, operations.transpose, operations.broadcast_to)
    if t.op is operations.index:
        key = t.parameters["key"]
        viewed = operations.picks_once(key) and not isinstance(key, np.ndarray)  # a mask makes a copy
    else:
        viewed = t.op in views
    if viewed and t.ndim:
        raise TypeError(
            f"{sign} on a view: NumPy would change the array that this one is a part or another shape of, and a node "
            f"does not change. Write t = t {sign[:-1]} x, and np.stack or np.concatenate the parts where the whole is "
            "needed"
        )
    if t.op is None and t.has_grad:
        raise TypeError(
            f"{sign} on a leaf makes a new node of it, and the parameter stays where it is; move it by "
            f"W.data = W.data {sign[:-1]} step"
        )
    return t


def _operator(row: Primitive, a: Any, b: Any) -> Any:
    """elementwise(row, a, b); NotImplemented where Python should ask the other operand."""
    other = b if type(a) is Tensor else a
    if type(other) is Tensor or isinstance(
        other, (float, int, np.ndarray, np.generic, Value, numbers.Real, list, tuple)
    ):
        return elementwise(row, a, b)
    if other is None or isinstance(other, (str, bytes, complex, dict)):
        raise TypeError(f"{row.name} takes arrays of real numbers and nodes, got {type(other).__name__} {other!r}")
    return NotImplemented


def _compare(comparison: np.ufunc, a: Tensor, b: Any) -> Any:
    if b is None or isinstance(b, (str, bytes)):
        return NotImplemented
    return by_data(comparison, (a, b))


def by_data(ufunc: np.ufunc, inputs: Sequence[Any], method: str = "__call__", **options: Any) -> Any:
    """ufunc of the data of its inputs: a plain array."""
    _refuse_values(ufunc, inputs)
    if watcher is not None:
        return watcher.asked(getattr(ufunc, method), inputs, options)
    return getattr(ufunc, method)(*map(plain, inputs), **options)


def _refuse_values(ufunc: np.ufunc, inputs: Sequence[Any]) -> None:
    for x in inputs:
        if isinstance(x, Value) or (isinstance(x, np.ndarray) and x.dtype == object and _holds_values(x)):
            raise_mixed(ufunc.__name__)


def _holds_values(array: Any) -> bool:
    return any(isinstance(x, Value) for x in array.flat)


def plain(x: Any) -> Any:
    """x with its nodes replaced by their data, in lists and tuples too."""
    if type(x) is Tensor:
        return x.data
    return type(x)(map(plain, x)) if type(x) in (list, tuple) else x


def full_name(function: Any) -> str:
    """np.linalg.inv and the like."""
    module = str(getattr(function, "__module__", "numpy")).replace("numpy", "np", 1)
    return f"{module}.{getattr(function, '__name__', function)}"


# --- NumPy's universal functions ------------------------------------------------------------------------------


def ufunc_on_tensors(ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What NumPy's universal function does where one of its inputs is a Tensor.

    Raises TypeError, naming the function, where there is no rule for it or its result would lose the gradient.
    """
    if method == "__call__" and not options:
        return _called(ufunc, inputs)
    if ufunc in BY_DATA:
        return by_data(ufunc, inputs, method, **options)
    options = {key: x for key, x in options.items() if key not in ("casting", "subok", "order")}
    if any(target is not None for target in options.pop("out", None) or ()):
        raise TypeError(
            f"np.{ufunc.__name__} into an existing array would drop the gradient; give it no out=, write "
            "x = x + node instead of x += node, and start sums from 0.0"
        )
    if method in ("reduce", "accumulate", "reduceat"):
        return REDUCTIONS[method](ufunc, *inputs, **options)
    if method == "at":
        raise TypeError(
            f"np.{ufunc.__name__}.at would change an array in place; sum segments with np.bincount(labels, weights), "
            "and put elements in new places with np.where or np.concatenate"
        )
    if options.pop("where", True) is not True:
        raise TypeError(
            f"np.{ufunc.__name__} with where= would leave holes in the result; use np.where(condition, x, y)"
        )
    dtype = options.pop("dtype", None)
    if dtype is not None:  # NumPy converts the operands, and computes in that precision
        inputs = [x.astype(float_dtype(dtype)) if isinstance(x, (Tensor, np.ndarray)) else x for x in inputs]
    if method == "outer":
        a, b = (x if type(x) is Tensor else np.asarray(x) for x in inputs)
        inputs = (a.reshape(a.shape + (1,) * b.ndim), b)
    if options and ufunc not in PRODUCTS:
        raise TypeError(f"np.{ufunc.__name__} of array nodes takes no {' and no '.join(options)}")
    return _called(ufunc, inputs, **options)


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """dtype, if it is one of floats; TypeError if not."""
    kind: np.dtype[Any] = np.dtype(dtype)
    if kind.kind != "f":
        raise TypeError(f"an array node holds floats, not {kind}; take .data to leave the graph")
    return kind


def _called(ufunc: np.ufunc, inputs: Sequence[Any], **options: Any) -> Any:
    row = UFUNCS.get(ufunc)
    if row is not None:
        return elementwise(row, *inputs)
    if ufunc in BY_DATA:
        return by_data(ufunc, inputs)
    if ufunc in PRODUCTS:
        return PRODUCTS[ufunc](*inputs, **options)
    if ufunc in (np.positive, np.conjugate):
        return inputs[0]
    if ufunc is np.float_power:  # which computes in float64 at least
        inputs = [x.astype(np.result_type(x.dtype, float)) if hasattr(x, "dtype") else x for x in inputs]
    composite = COMPOSITES.get(ufunc)
    if composite is not None:
        _refuse_values(ufunc, inputs)
        return composite(*inputs)
    if ufunc.__name__ == "clip":
        return clip(*inputs)
    if ufunc.__name__ in SPECIAL:
        return SPECIAL[ufunc.__name__](*inputs)
    raise TypeError(
        f"np.{ufunc.__name__} cannot be applied to array nodes: the table has no row for it. Write it with "
        f"{', '.join(sorted({known.__name__ for known in (*UFUNCS, *COMPOSITES)}))}; or make a row with "
        "autodiff.primitive; or take .data to leave the graph"
    )


# Filled by array_functions.py: the universal functions that are products of matrices and vectors; and what the methods
# reduce, accumulate and reduceat of any of them do on Tensors.
PRODUCTS: dict[np.ufunc, Callable[..., Any]] = {np.matmul: matmul}
REDUCTIONS: dict[str, Callable[..., Any]] = {}


# --- the order of a graph --------------------------------------------------------------------------------------


NUMBER = operator.attrgetter("number")


def order(*outputs: Tensor, since: int = 0) -> list[Tensor]:
    """Every ancestor of the outputs and they themselves, each after all of its children: by falling numbers.

    since: leave out nodes with smaller numbers, which were made earlier.
    """
    found = set(outputs)
    add_to, pending = found.add, list(found)
    keep = pending.append
    for each in pending:
        for parent in each.parents:
            if parent not in found and parent.number >= since:
                add_to(parent)
                keep(parent)
    pending.sort(key=NUMBER, reverse=True)
    return pending


# --- methods --------------------------------------------------------------------------------------------------


def _add_method(row: Primitive) -> None:
    """Every row is also a method, of its first operand: t.exp(), t.relu(), t.hypot(u)."""

    def method(self: Tensor, *other: Any) -> Any:
        return row(self, *other)

    if not hasattr(Tensor, row.name):
        method.__name__ = row.name
        method.__qualname__ = f"Tensor.{row.name}"
        method.__doc__ = f"{row.name}(self{', other' if row.arity == 2 else ''}), element by element: y = {row.formula}"
        setattr(Tensor, row.name, method)


for _row in TABLE.values():
    _add_method(_row)
ON_NEW_ROW.append(_add_method)


# --- edges ----------------------------------------------------------------------------------------------------


class LinearMap:
    """The local derivative on one edge between arrays: d(child)/d(parent), through one operand alone.

    It takes a tangent of the parent to what it adds to the child's (push), and an upstream of the child to its
    contribution to the parent's adjoint (pull). Rules are asked as they stand: nothing is stored.

    >>> X, W = Tensor(np.ones((5, 3)), name="X"), Tensor(np.ones((3, 2)), name="W")
    >>> [(parent.name, local) for parent, local in (X @ W).edges()]
    [('X', ∂matmul/∂X (5×3 → 5×2)), ('W', ∂matmul/∂W (3×2 → 5×2))]
    """

    __slots__ = ("child", "operand", "parent")

    def __init__(self, child: Tensor, operand: int) -> None:
        self.child, self.operand = child, operand
        self.parent: Tensor = child.operands[operand]

    @property
    def shape(self) -> tuple[int, int]:
        """(child.size, parent.size): the shape of `matrix`."""
        return self.child.size, self.parent.size

    def pull(self, upstream: Any) -> Any:
        """The contribution to the parent's adjoint of an upstream (of the child's shape)."""
        given = fitting(upstream, self.child, "upstream")
        for _, contribution in self._alone().pull(given):
            if type(contribution) is Patch:
                return contribution.added_to(None, True)
            return np.array(contribution)  # it may be the upstream itself, or a view of it
        return np.zeros(self.parent.shape, self.parent.dtype)

    def push(self, tangent: Any) -> Any:
        """What a tangent of the parent (of its shape) adds to the child's."""
        moved = self._alone().push({self.parent: fitting(tangent, self.parent, "tangent")})
        return np.zeros(self.child.shape, self.child.dtype) if moved is None else np.array(moved)

    def matrix(self) -> Any:
        """The map as a dense matrix: row i is the gradient of the child's i-th element, counted in C order.

        Raises ValueError where it would have more than ten million entries.

        >>> x = Tensor([1.0, 2.0])
        >>> [(_, local)] = (x**2).edges()
        >>> local.matrix()
        array([[2., 0.],
               [0., 4.]])
        """
        return dense(self, self.child.dtype)

    def _alone(self) -> Tensor:
        """The child with all other operands as constants: in x * x the two edges are told apart by that."""
        child, i = self.child, self.operand
        operands = tuple(x.data if type(x) is Tensor and k != i else x for k, x in enumerate(child.operands))
        return recorded(child.data, child.op, operands, (self.parent,), child.parameters)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        below = self.parent.name or operations.LETTERS[self.operand % len(operations.LETTERS)]
        sizes = " → ".join("×".join(map(str, x.shape)) or "number" for x in (self.parent, self.child))
        return f"∂{self.child.op.name if self.child.op else ''}/∂{below} ({sizes})"


MOST_ENTRIES = 10_000_000  # of a matrix that is made


def dense(local: Any, dtype: Any) -> Any:
    """The matrix of a linear map that has shape, child, parent, pull and push: by its rows, or columns if fewer."""
    rows, columns = local.shape
    if rows * columns > MOST_ENTRIES:
        raise ValueError(f"{local!r} as a matrix has {rows} x {columns} entries; use its pull and push instead")
    if rows > columns:
        try:
            pushes = [np.reshape(local.push(unit.reshape(local.parent.shape)), -1) for unit in np.eye(columns)]
            return np.array(pushes, dtype).reshape((columns, rows)).T
        except operations.NoForwardRule:
            pass
    pulls = [np.reshape(local.pull(unit.reshape(local.child.shape)), -1) for unit in np.eye(rows)]
    return np.array(pulls, dtype).reshape((rows, columns))


def fitting(array: Any, like: Tensor, what: str) -> Any:
    """The array in the dtype of a node; ValueError if it has not its shape. what: what the array is, in a word."""
    array = np.asarray(array, like.dtype)
    if array.shape != like.shape:
        raise ValueError(f"the {what} has the shape {like.shape} of its node, got {array.shape}")
    return array
