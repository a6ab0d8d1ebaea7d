"""Value: a float that remembers how it was made, and the backward pass over its graph.

Glossary: a node's *parents* are the operands it was made from, its *children* the nodes made from it. An *edge*
is a (parent, local derivative) pair of a node. The *adjoint* of a node, its grad, is d(output)/d(node): the sum
over its child edges of upstream * local derivative, which is the total derivative.

Nodes point to their parents only and hold no closures, so that dropping the output frees the graph by reference
counting. Nothing here recurses: a chain of a million operations is fine. A graph belongs to one thread.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from autodiff.primitives import (
    ON_NEW_ROW,
    TABLE,
    Primitive,
    absolute,
    add,
    ceil,
    clip,
    div,
    floor,
    floor_divide,
    mod,
    mul,
    neg,
    power,
    rint,
    step,
    sub,
)

# The grad of a node that no backward pass has reached: a zero like any other, told apart by identity, so that
# `p.data -= 0.1 * p.grad` works on it and a picture can still show a dash.
NO_GRAD = float("0")

REAL = (float, int, numbers.Real, np.bool_)  # float and int first: the abstract class is slow to ask
# One float for all nodes that fold the same small whole number, not one each. 0 stays out: -0.0 would find it.
WHOLE = {n: float(n) for n in (*range(-16, 0), *range(1, 257))}


ADD_CONSTANT, MUL_CONSTANT = add.folded["right"], mul.folded["right"]  # the rows of x + 2.0 and x * 2.0


class Label(NamedTuple):
    """What a person calls a node: its name, and the scope that was open when it was made."""

    name: str | None
    scope: tuple[str, ...]


unnamed: Label | None = None  # the label of nodes made now; all unnamed nodes of one scope share it

# While a program is recorded: told of every decision made on a node's number, as (comparison, a, b, outcome), and of
# every number that leaves the graph, as (how, node, None, None). None at all other times.
watcher: Callable[[str, Any, Any, Any], None] | None = None


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Nodes made inside belong to the scope `name`; scopes nest, and hold for all threads.

    >>> with scope("layer 1"):
    ...     h = Value(2.0) * 3.0
    >>> h.scope
    ('layer 1',)
    """
    global unnamed
    outer = unnamed
    unnamed = Label(None, (outer.scope if outer else ()) + (checked_name(name),))
    try:
        yield
    finally:
        unnamed = outer


class Value:
    """A scalar node: `data`, and after `output.backward()` its `grad` = d(output)/d(node).

    data: a real number (int, float, NumPy scalar), kept as a float. Comparisons are by data, the hash is by
    identity. Raises TypeError for anything else.

    >>> x = Value(3.0, name="x")
    >>> y = x * x + 2.0 * x
    >>> y.backward()
    >>> y.data, x.grad
    (15.0, 8.0)
    """

    __slots__ = ("a", "b", "data", "grad", "label", "op", "uses")

    def __init_subclass__(cls) -> None:
        raise TypeError("Value is final; for a new operation make a row with autodiff.primitive")

    dtype, ndim, shape, size = np.dtype(object), 0, (), 1  # what NumPy's functions ask of the result of one

    data: float
    grad: float
    op: Primitive | None  # the row that made it; None for a leaf
    a: Any  # the first parent; None for a leaf
    b: Any  # the second parent; or the folded constant; or None
    label: Label | None
    uses: int  # 0, but while `order` counts

    def __init__(self, data: Any, name: str | None = None, _op: Any = None, _a: Any = None, _b: Any = None) -> None:
        self.data = data
        self.grad = NO_GRAD
        self.op = _op
        self.a = _a
        self.b = _b
        self.label = unnamed
        self.uses = 0
        if _op is None:
            if type(data) is not float:
                self.data = as_number(data, "Value")
            if name is not None:
                self.name = name

    # --- the graph ---

    @property
    def name(self) -> str | None:
        """The node's name, or None; assign to rename."""
        return self.label.name if self.label else None

    @name.setter
    def name(self, name: str | None) -> None:
        self.label = Label(None if name is None else checked_name(name), self.scope)

    @property
    def scope(self) -> tuple[str, ...]:
        """The names of the scopes that were open when the node was made, outermost first."""
        return self.label.scope if self.label else ()

    @property
    def operands(self) -> tuple[Value | float, ...]:
        """What the operation was applied to, in order: nodes and folded constants; () for a leaf."""
        if self.op is None:
            return ()
        if self.op.arity == 1:
            return (self.a,)
        return (self.b, self.a) if self.op.constant == "left" else (self.a, self.b)

    @property
    def parents(self) -> tuple[Value, ...]:
        """The operands that are nodes, in order; `x * x` has the parent x twice."""
        op = self.op
        if op is None:
            return ()
        return (self.a, self.b) if op.two_nodes else (self.a,)

    def edges(self) -> list[tuple[Value, float]]:
        """[(parent, d(self)/d(parent)), ...]: one pair per operand that is a node, in order.

        >>> x = Value(3.0, name="x")
        >>> [(parent.name, local) for parent, local in (x * x).edges()]
        [('x', 3.0), ('x', 3.0)]
        """
        if watcher is not None:
            watcher("edges()", self, None, None)
        if self.op is None:
            return []
        op, a, b = self.op, self.a, self.b
        try:
            if b is None:
                return [(a, op.local(op.da, self.data, a.data))]
            if not op.two_nodes:
                return [(a, op.local(op.da, self.data, a.data, b))]
            data = self.data, a.data, b.data
            return [(a, op.local(op.da, *data)), (b, op.local(op.db, *data))]
        except FloatingPointError as error:
            raise _naming(error, a, b) from None

    def pull(
        self, upstream: Any, needed: Collection[Value] | None = None, recording: bool = False, free: bool = False
    ) -> list[tuple[Value, Any]]:
        """[(parent, contribution), ...]: what each edge adds to its parent's adjoint, upstream times local.

        needed: only these parents. recording: the local derivatives are nodes, to be differentiated again. free
        matters to arrays only: see Tensor.pull.
        """
        return [
            (parent, upstream * local)
            for parent, local in (self.local_nodes() if recording else self.edges())
            if needed is None or parent in needed
        ]

    def push(self, tangents: Mapping[Value, Any], recording: bool = False) -> Any:
        """The tangent of this node from those of its parents: the total differential; None where none has one."""
        op = self.op
        if op is None:
            return None
        of_a, of_b = tangents.get(self.a), tangents.get(self.b) if op.two_nodes else None
        if of_a is None and of_b is None:
            return None
        edges = self.local_nodes() if recording else self.edges()
        parts = [t * local for t, (_, local) in zip((of_a, of_b), edges, strict=False) if t is not None]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def local_nodes(self) -> list[tuple[Value, Any]]:
        """`edges`, with every local derivative as a node made by the same rule: higher derivatives go through it."""
        if self.op is None:
            return []
        op, a, b = self.op, self.a, self.b
        if op.two_nodes:
            return [(a, op.da(self, a, b)), (b, op.db(self, a, b))]
        return [(a, op.da(self, a) if b is None else op.da(self, a, b))]

    def backward(self) -> None:
        """Adds d(self)/d(leaf) to the grad of every leaf, and sets the grad of every node in between.

        A second call accumulates at the leaves, as in torch and micrograd, and computes the adjoints in between
        afresh. If a rule raises, every grad is left as it was.

        >>> x = Value(2.0)
        >>> y = x**3
        >>> y.backward()
        >>> y.backward()
        >>> x.grad, y.grad
        (24.0, 1.0)
        """
        if watcher is not None:
            watcher("backward()", self, None, None)
        nodes = order(self)
        before = [node.grad for node in nodes]
        try:
            if any(before):  # nothing to clear in a fresh graph, whose grads are all 0
                for node in nodes:
                    if node.op is not None:
                        node.grad = 0.0
            self.grad += 1.0
            for node in nodes:
                op = node.op
                upstream = node.grad
                a = node.a
                b = node.b
                # The two commonest rows are written out; all others go by their rules.
                if op is mul:
                    a.grad += upstream * b.data
                    b.grad += upstream * a.data
                elif op is add:
                    a.grad += upstream
                    b.grad += upstream
                elif op is None:
                    continue
                # Floats raise at a corner such as 1 / 0; `edges` then asks IEEE arithmetic.
                elif op.two_nodes:
                    try:
                        da, db = op.da(node.data, a.data, b.data), op.db(node.data, a.data, b.data)
                    except (ArithmeticError, ValueError):
                        (_, da), (_, db) = node.edges()
                    a.grad += upstream * da
                    b.grad += upstream * db
                else:
                    try:
                        da = op.da(node.data, a.data) if b is None else op.da(node.data, a.data, b)
                    except (ArithmeticError, ValueError):
                        [(_, da)] = node.edges()
                    a.grad += upstream * da
        except BaseException:
            for node, grad in zip(nodes, before, strict=True):
                node.grad = grad
            raise

    # --- operators ---

    def __add__(self, other: Any) -> Any:
        if type(other) is Value:
            return Value(self.data + other.data, None, add, self, other)
        if type(other) is float:
            return Value(self.data + other, None, ADD_CONSTANT, self, other)
        return _operator(add, self, other)

    def __mul__(self, other: Any) -> Any:
        if type(other) is Value:
            return Value(self.data * other.data, None, mul, self, other)
        if type(other) is float:
            return Value(self.data * other, None, MUL_CONSTANT, self, other)
        return _operator(mul, self, other)

    def __radd__(self, other: Any) -> Any:
        return _operator(add, other, self)

    def __rmul__(self, other: Any) -> Any:
        return _operator(mul, other, self)

    def __sub__(self, other: Any) -> Any:
        return _operator(sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _operator(sub, other, self)

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

    def __neg__(self) -> Value:
        return record(neg, self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return record(absolute, self)

    def __round__(self, digits: int | None = None) -> Value:
        """The nearest multiple of 10**-digits, to even at a half; its derivative is 0."""
        digits = operator.index(digits or 0)
        scale = 10.0 ** min(abs(digits), 308)  # there is no larger one among floats
        if digits == 0:
            return record(rint, self)
        if digits < 0:
            return record(mul, record(rint, self / scale), scale)
        size: Any = abs(self.data) if watcher is None else abs(self)
        if digits > 308 or not size * scale < 2.0**52:  # from there on every number is whole; inf and nan too
            return record(add, record(mul, record(step, self), 0.0), self.data)
        return record(div, record(rint, self * scale), scale)

    def rint(self) -> Value:
        """round(self): what np.round asks of the elements of an array."""
        return record(rint, self)

    def __floor__(self) -> Value:
        return record(floor, self)

    def __ceil__(self) -> Value:
        return record(ceil, self)

    def clip(self, min: Any = None, max: Any = None) -> Any:
        """The node between two bounds, which may be None; see autodiff.clip."""
        return clip(self, min, max)

    # --- comparisons, by data ---

    def __eq__(self, other: object) -> Any:
        return _compare(operator.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return _compare(operator.ne, self, other)

    def __lt__(self, other: Any) -> Any:
        return _compare(operator.lt, self, other)

    def __le__(self, other: Any) -> Any:
        return _compare(operator.le, self, other)

    def __gt__(self, other: Any) -> Any:
        return _compare(operator.gt, self, other)

    def __ge__(self, other: Any) -> Any:
        return _compare(operator.ge, self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self != 0.0)

    # --- out of the graph ---

    def item(self) -> float:
        """data as a plain float: detaches on purpose."""
        if watcher is not None:
            watcher("item()", self, None, None)
        return float(self.data)

    def __float__(self) -> float:
        raise TypeError(
            f"{self!r} cannot become a plain float: its gradient would be lost without a word. "
            "To keep the gradient use the functions of autodiff (autodiff.exp, not math.exp) and arrays made by "
            "autodiff.scalars; to drop it on purpose use .item()"
        )

    def __int__(self) -> int:
        return int(self.__float__())  # raises

    # --- copies and files: see copies.py ---

    def __getstate__(self) -> tuple[Any, ...]:
        if watcher is not None:
            watcher("a copy", self, None, None)
        grad = None if self.grad is NO_GRAD else self.grad  # its identity would not survive a file
        return self.data, grad, self.op, self.a, self.b, self.label

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.data, grad, self.op, self.a, self.b, self.label = state
        self.grad = NO_GRAD if grad is None else grad
        self.uses = 0

    def __copy__(self) -> Value:
        twin = Value.__new__(Value)
        twin.__setstate__(self.__getstate__())
        return twin

    def __format__(self, spec: str) -> str:
        if watcher is not None:
            watcher("a text", self, None, None)
        return format(self.data, spec) if spec else repr(self)

    def __str__(self) -> str:
        if watcher is not None:
            watcher("a text", self, None, None)
        return repr(self)

    def __repr__(self) -> str:
        if watcher is not None:
            watcher("repr", self, None, None)
        name = f", name={self.name!r}" if self.name else ""
        grad = "" if self.grad is NO_GRAD else f", grad={self.grad!r}"
        return f"Value({self.data!r}{grad}{name})"

    # --- NumPy on the other side ---

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        from autodiff.scalars import ufunc_on_nodes

        return ufunc_on_nodes(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        from autodiff.scalars import function_on_nodes

        return function_on_nodes(function, args, options)

    def conjugate(self) -> Value:
        """The node itself: a real number is its own conjugate."""
        return self

    @staticmethod
    def apply_primitive(row: Primitive, a: Any, b: Any = None) -> Any:
        """What a row of the table does with these operands, at least one of which is a Value."""
        if (type(a) is Value or not isinstance(a, (np.ndarray, list))) and (
            b is None or type(b) is Value or not isinstance(b, (np.ndarray, list))
        ):
            return record(row, a, b)
        from autodiff.scalars import elementwise

        return elementwise(row, (a, b))

    if TYPE_CHECKING:  # the methods that the table adds below: v.exp(), v.relu(), ...

        def __getattr__(self, name: str) -> Callable[..., Value]: ...


def order(*outputs: Value) -> list[Value]:
    """[output, ..., leaves]: every ancestor of the outputs once, each after all of its children (Kahn, 1962).

    Read backwards, it is the order in which one would write the computation down: operands first, left to right.
    """
    found: list[Value] = []
    ready: list[Value] = []
    pop, push, keep = ready.pop, ready.append, found.append
    try:
        for output in outputs:  # each has one child more than it has, until all are counted
            if not output.uses:
                push(output)
            output.uses += 1
        while ready:  # counts the children of every ancestor; depth first, for neighbours lie close in memory
            node = pop()
            op = node.op
            if op is None:
                continue
            a = node.a
            uses = a.uses
            if not uses:
                push(a)
            a.uses = uses + 1
            if op.two_nodes:
                b = node.b
                uses = b.uses
                if not uses:
                    push(b)
                b.uses = uses + 1
        for output in outputs:
            output.uses -= 1
            if not output.uses:
                push(output)
        while ready:  # each node becomes ready once, when its last child has been kept
            node = pop()
            keep(node)
            op = node.op
            if op is None:
                continue
            a = node.a
            a.uses = uses = a.uses - 1
            if not uses:
                push(a)
            if op.two_nodes:
                b = node.b
                b.uses = uses = b.uses - 1
                if not uses:
                    push(b)
    except BaseException:  # an interrupt must not leave a count behind
        touched = dict.fromkeys(outputs)
        pending = list(touched)
        for node in pending:
            node.uses = 0
            for parent in node.parents:
                if parent not in touched:
                    touched[parent] = None
                    pending.append(parent)
        raise
    return found


def record(row: Primitive, a: Any, b: Any = None) -> Value:
    """The node row(a) or row(a, b); at least one operand is a Value, a constant one is folded into the node.

    Raises TypeError for an operand that is neither a Value nor a real number, FloatingPointError (naming the
    operation, its operands and their nodes) where NumPy's error state asks for it.
    """
    constant_side = None
    if (type(a) is not Value or type(b) is not Value) and row.arity == 2:
        constant_side = "right" if type(a) is Value else "left"
        node, constant = (a, as_number(b, row.name)) if type(a) is Value else (b, as_number(a, row.name))
        if row.becomes and (constant_side, constant) in row.becomes:
            return record(row.becomes[constant_side, constant], node)
    try:
        if row.arity == 1:
            return Value(row.on_floats(a.data), None, row, a)
        if constant_side is None:
            return Value(row.on_floats(a.data, b.data), None, row, a, b)
        data = (a.data, constant) if constant_side == "right" else (constant, b.data)
        return Value(row.on_floats(*data), None, row.folded[constant_side], node, constant)
    except FloatingPointError as error:
        raise _naming(error, a, b) from None


def _naming(error: FloatingPointError, *operands: Any) -> FloatingPointError:
    names = [repr(node.name) for node in operands if isinstance(node, Value) and node.name]
    return FloatingPointError(f"{error} (node {' and '.join(names)})") if names else error


def as_number(data: Any, where: str) -> float:
    """data as a float; TypeError, saying what came and what to do, if it is not a real number."""
    if type(data) is float:
        return data
    if isinstance(data, REAL):
        try:
            return WHOLE.get(data) or float(data)
        except OverflowError:
            raise OverflowError(f"{where}: the integer {str(data)[:20]}... is too large for a float") from None
    if hasattr(type(data), "raise_mixed"):
        type(data).raise_mixed(where)
    if isinstance(data, Value):
        raise TypeError(f"{where} takes a number, got the node {data!r}; use .item() or stop_gradient(node)")
    way_out = ""
    if isinstance(data, (np.ndarray, list, tuple)):
        shape = f" of shape {data.shape}" if isinstance(data, np.ndarray) else ""
        raise TypeError(
            f"{where} takes one real number, got {type(data).__name__}{shape}; "
            "for an array of nodes use autodiff.scalars(array)"
        )
    if isinstance(data, str):
        way_out = "; convert it with float(...) first"
    elif isinstance(data, (complex, np.complexfloating)):
        way_out = "; a graph holds real numbers only: make nodes of its .real and .imag"
    raise TypeError(f"{where} takes a real number, got {type(data).__name__} {data!r}{way_out}")


def _operator(row: Primitive, a: Any, b: Any) -> Any:
    """record(row, a, b); NotImplemented where Python should ask the other operand, as for arrays."""
    other = b if type(a) is Value else a
    if type(other) is Value or isinstance(other, REAL):
        return record(row, a, b)
    if other is None or isinstance(other, (str, bytes, complex, list, tuple, dict)):
        as_number(other, row.name)  # raises, and says what to do
    return NotImplemented


def _compare(comparison: Callable[[Any, Any], Any], a: Value, b: Any) -> Any:
    if type(b) is Value:
        outcome = bool(comparison(a.data, b.data))
    elif isinstance(b, REAL):
        outcome = bool(comparison(a.data, b))
    else:
        return NotImplemented
    if watcher is not None:
        watcher(comparison.__name__, a, b, outcome)
    return outcome


def checked_name(name: Any) -> str:
    """name, if it is a string; TypeError if not."""
    if not isinstance(name, str):
        raise TypeError(f"a name is a string, got {type(name).__name__} {name!r}")
    return name


def _add_method(row: Primitive) -> None:
    """Every row is also a method, of its first operand: v.exp(), v.relu(), v.hypot(w).

    NumPy calls the method of that name where it runs a universal function on a plain array of objects.
    """

    def method(self: Value, *other: Any) -> Any:
        return row(self, *other)

    if not hasattr(Value, row.name):
        method.__name__ = row.name
        method.__qualname__ = f"Value.{row.name}"
        method.__doc__ = f"{row.name}(self{', other' if row.arity == 2 else ''}): y = {row.formula}"
        setattr(Value, row.name, method)


for _row in TABLE.values():
    _add_method(_row)
ON_NEW_ROW.append(_add_method)
