"""Entries of a graph to statements: calls of NumPy that write into arrays, views of these, and what allocates.

Glossary: a *slot* is an array while a program runs; its *root* is the slot whose memory it has. A statement either
    fills     its target's memory, by out= or its like: a ufunc, a reduction, a product, a copy
    views     it: reshape, transpose, an index of slices; no numbers move
    binds     it to what NumPy returns, for functions without out=: fancy indices, linear algebra, an einsum of three
    guards    asks whether an answer is what it was when the program was recorded
A kernel of the table that is no ufunc is run on slots, which write down the ufuncs it consists of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from autodiff.primitives import TABLE, Primitive
from autodiff.programs.arrays.graph import (
    SHAPE,
    Graph,
    Symbol,
    in_order,
    index_by,
    patch,
    placed,
    question,
    row_dtype,
    row_sum,
    scatter_by,
    ufunc_dtype,
    where_by,
)

CONTIGUOUS = object()
FILLS, VIEWS, BINDS, GUARDS = "fills", "views", "binds", "guards"


class Slot:
    """An array while a program runs; kernels see it as an array."""

    __slots__ = ("_layout", "dtype", "number", "root", "roots", "shape", "statements")

    def __init__(self, statements: Statements, number: int, shape: tuple[int, ...], dtype: Any, root: Slot | None):
        self.statements, self.number, self.shape, self.dtype = statements, number, shape, np.dtype(dtype)
        self.root: Slot = self if root is None else root
        self.roots: frozenset[int] = frozenset((number,)) if root is None else root.roots  # whose memory it may have
        self._layout: Any = None

    @property
    def layout(self) -> Any:
        """An array of its strides without memory to speak of; None where these are known at the call only."""
        if self._layout is CONTIGUOUS:  # made when somebody asks, for few do
            self._layout = _prototype(self.shape, self.dtype)
        return self._layout

    @layout.setter
    def layout(self, layout: Any) -> None:
        self._layout = layout

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """As of an array."""
        return int(np.prod(self.shape))

    def __bool__(self) -> bool:
        raise TypeError("a slot holds no numbers yet")

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("a slot holds no numbers yet")

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Any:
        if key == ():
            return self
        raise TypeError("a kernel works element by element")

    def astype(self, dtype: Any) -> Any:
        """As of an array."""
        return self if self.dtype == np.dtype(dtype) else self.statements.copied(self, dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or ufunc.nout != 1 or ufunc.signature is not None:
            raise TypeError(f"np.{ufunc.__name__}.{method} is not written down")
        return self.statements.ufunc(ufunc, inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.where and len(args) == 3 and not options:
            return self.statements.where(*args)
        if function is np.clip and len(args) == 3 and not options:
            return np.minimum(np.maximum(args[0], args[1]), args[2])
        if function in (np.shape, np.ndim, np.size):
            return getattr(self, function.__name__)
        raise TypeError(f"np.{function.__name__} is not written down")


def _operator(name: str, ufunc: Any) -> None:
    def method(self: Slot, other: Any) -> Any:
        return ufunc(self, other)

    def reflected(self: Slot, other: Any) -> Any:
        return ufunc(other, self)

    setattr(Slot, f"__{name}__", method)
    if name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Slot, f"__r{name}__", reflected)


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "and": np.bitwise_and,
    "or": np.bitwise_or, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    _operator(_name, _ufunc)
for _name, _unary in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
    setattr(Slot, f"__{_name}__", lambda self, _unary=_unary: _unary(self))


def _step(a: Any) -> Any:
    """kernels.step_array."""
    text = "{copy}({out}, {1}); {any}({0}, None) and {copy}({out}, {2}, where={0})"  # to ask first takes less time
    args = [np.isnan(a), np.greater(a, 0.0), a]
    return a.statements.fill(text, args, (a.shape, a.dtype), copy=np.copyto, any=np.logical_or.reduce)


# kernels that look at numbers, or convert their operand, written so that they do not
KERNELS: dict[str, Callable[..., Any]] = {
    "step": _step,
    "leaky_relu": lambda a: np.where(np.greater(a, 0), a, 0.01 * a),
}


class Statement:
    """One line of the program: how it is written, with {0}, {1}, ... for the operands and {out} for the target."""

    __slots__ = ("args", "errors", "in_place", "kind", "target", "text", "things")

    def __init__(
        self,
        kind: str,
        target: Slot | None,
        text: str,
        args: Sequence[Any],
        in_place: Sequence[int] = (),
        **things: Any,
    ) -> None:
        self.kind, self.target, self.text, self.args, self.things = kind, target, text, list(args), things
        self.in_place = in_place  # operands whose memory the target may take over
        self.errors: dict[str, str] = {}  # what np.errstate asks for

    def slots(self) -> list[Slot]:
        """The operands that are slots."""
        return [x for x in self.args if type(x) is Slot]


class Statements:
    """The statements of some entries of a graph."""

    def __init__(self, graph: Graph, outputs: Sequence[Any], guards: Sequence[tuple[Symbol, Any]] = ()) -> None:
        self.graph = graph
        self.list: list[Statement] = []
        self.slots: list[Slot] = []
        self.inputs: dict[int, Slot] = {}
        self.of_entry: dict[int, Any] = {}
        self.known: dict[Any, Slot] = {}
        by_entry: dict[int, list[Any]] = {}
        for symbol, expected in guards:
            by_entry.setdefault(symbol.number, []).append(expected)
        for i in _needed(graph, [*outputs, *(symbol for symbol, _ in guards)]):
            before = len(self.list)
            self.of_entry[i] = self._lowered(i)
            for statement in self.list[before:] if i in graph.errors else ():
                statement.errors = graph.errors[i]
            for expected in by_entry.get(i, ()):
                self._guard(self.of_entry[i], expected)
        self.outputs = [self.of_entry[y.number] if type(y) is Symbol else y for y in outputs]

    # --- slots and statements ---

    def slot(self, shape: tuple[int, ...], dtype: Any, root: Slot | None = None) -> Slot:
        """A new slot."""
        made = Slot(self, len(self.slots), shape, dtype, root)
        self.slots.append(made)
        return made

    def fill(
        self,
        text: str,
        args: Sequence[Any],
        of: tuple[tuple[int, ...], Any],
        in_place: Sequence[int] = (),
        **things: Any,
    ) -> Slot:
        """A statement that writes into memory of its own."""
        target = self.slot(*of)
        target.layout = CONTIGUOUS
        self.list.append(Statement(FILLS, target, text, args, in_place, **things))
        return target

    def view(self, text: str, a: Any, of: tuple[tuple[int, ...], Any], layout: Any, **things: Any) -> Slot:
        """A statement that makes a view of a slot."""
        target = self.slot(*of, a.root if type(a) is Slot else None)
        target.layout = layout
        self.list.append(Statement(VIEWS, target, text, [a], **things))
        return target

    def bind(self, text: str, args: Sequence[Any], of: tuple[tuple[int, ...], Any], **things: Any) -> Slot:
        """A statement that takes the array that NumPy returns."""
        target = self.slot(*of)
        for x in args:  # NumPy may return a view of an operand
            if type(x) is Slot:
                target.roots |= x.roots
        self.list.append(Statement(BINDS, target, text, args, **things))
        return target

    def ufunc(self, ufunc: Any, operands: Sequence[Any]) -> Any:
        """ufunc(*operands), each a slot, an array or a number."""
        if not any(type(x) is Slot for x in operands):
            return ufunc(*operands)
        key = (
            ufunc,
            *(
                (Slot, x.number) if type(x) is Slot else (type(x), repr(x)) if np.ndim(x) == 0 else (id(x),)
                for x in operands
            ),
        )
        if key in self.known:
            return self.known[key]
        shape = np.broadcast_shapes(*(np.shape(x) for x in operands))
        places = ", ".join(f"{{{i}}}" for i in range(len(operands)))
        out = "out={out}" if ufunc in (np.maximum, np.minimum) else "{out}"  # NumPy asks for the keyword there
        found = self.fill(
            f"{{f}}({places}, {out})", operands, (shape, ufunc_dtype(ufunc, operands)), range(len(operands)), f=ufunc
        )
        self.known[key] = found
        return found

    def where(self, condition: Any, a: Any, b: Any) -> Slot:
        """np.where(condition, a, b)."""
        shape = np.broadcast_shapes(*map(np.shape, (condition, a, b)))
        dtype = np.result_type(*(x.dtype if hasattr(x, "dtype") else x for x in (a, b)))
        return self.fill(
            "{copy}({out}, {2}); {copy}({out}, {1}, where={0})", [condition, a, b], (shape, dtype), (2,), copy=np.copyto
        )

    def copied(self, a: Any, dtype: Any) -> Slot:
        """A copy in another precision."""
        return self.fill("{copy}({out}, {0}, 'unsafe')", [a], (np.shape(a), np.dtype(dtype)), copy=np.copyto)

    def reshaped(self, a: Any, shape: tuple[int, ...]) -> Any:
        """A view where memory allows it, else a copy."""
        if type(a) is not Slot:
            return a.reshape(shape)
        if a.shape == shape:
            return a
        if a.layout is None:
            return self.view("{0}.reshape({shape})", a, (shape, a.dtype), None, shape=shape)
        if a.layout.flags.c_contiguous:
            return self.view("{0}.reshape({shape})", a, (shape, a.dtype), _prototype(shape, a.dtype), shape=shape)
        flat = self.fill("{copy}({out}, {0})", [a], (a.shape, a.dtype), copy=np.copyto)
        return self.reshaped(flat, shape)

    def _guard(self, answer: Any, expected: Any) -> None:
        if expected is SHAPE:  # asked already, where the answer came
            return
        if np.ndim(expected) == 0:
            test = "if {0}.item() != {expected}: return None"
        else:
            test = "if not {same}({0}, {expected}): return None"
        self.list.append(Statement(GUARDS, None, test, [answer], expected=expected, same=np.array_equal))

    # --- entries ---

    def _lowered(self, i: int) -> Any:
        entry = self.graph.entries[i]
        op: Any = entry.op
        args = [self.of_entry[x.number] if type(x) is Symbol else x for x in entry.args]
        if op is None:
            made = self.inputs[entry.parameters["input"]] = self.slot(entry.shape, entry.dtype)
            return made
        if isinstance(op, Primitive):
            found = self._row(op, args, entry)
        elif op in LOWERED:
            found = LOWERED[op](self, args, entry)
        elif op is question:
            found = self._question(args, entry)
        else:
            found = self._called(op, args, entry)
        if type(found) is Slot:
            assert (found.shape, found.dtype) == (entry.shape, entry.dtype), (op, found.shape, found.dtype, entry)
        return found

    def _row(self, row: Primitive, args: list[Any], entry: Any) -> Any:
        if row is TABLE["alias"]:
            return args[0]
        raw = row_dtype(row, args)
        found = self._kernel(row, args, entry.shape, raw)
        return found if raw == entry.dtype else self.copied(found, entry.dtype)  # as tensor.elementwise narrows it

    def _kernel(self, row: Primitive, args: list[Any], shape: tuple[int, ...], dtype: Any) -> Any:
        kernel = KERNELS.get(row.name, row.array)
        if isinstance(kernel, np.ufunc):
            return self.ufunc(kernel, args)
        so_far = len(self.list), len(self.slots)
        try:
            found = kernel(*args)
        except Exception:  # it does more than ufuncs can
            del self.list[so_far[0] :], self.slots[so_far[1] :]
            self.known = {key: slot for key, slot in self.known.items() if slot.number < so_far[1]}
            found = None
        if type(found) is Slot and found.shape == shape and found.dtype == dtype:
            return found
        places = ", ".join(f"{{{i}}}" for i in range(len(args)))
        return self.bind(f"{{array}}({{f}}({places}))", args, (shape, dtype), f=row.array, array=np.asarray)

    def _question(self, args: list[Any], entry: Any) -> Any:
        parameters = entry.parameters
        function, plain = parameters["function"], in_order(parameters["args"], len(args))
        if isinstance(function, np.ufunc) and plain and not parameters["options"] and function.nout == 1:
            return self.ufunc(function, args)
        found = self.bind("{asked}({arguments})", args, (entry.shape, entry.dtype), asked=_asking(parameters))
        test = "if {0}.shape != {shape} or {0}.dtype != {dtype}: return None"
        self.list.append(Statement(GUARDS, None, test, [found], shape=entry.shape, dtype=entry.dtype))
        return found

    def _called(self, op: Any, args: list[Any], entry: Any) -> Slot:
        """An operation that NumPy has no out= for."""
        forward, parameters = op.forward, dict(entry.parameters)

        def call(*operands: Any) -> Any:
            found = np.asarray(forward(*operands, **parameters))
            return found if found.dtype == entry.dtype else found.astype(entry.dtype)

        made = self.bind("{call}({arguments})", args, (entry.shape, entry.dtype), call=call)
        if getattr(op, "at_once", False):  # a function of the user's may return another shape for other numbers
            test = "if {0}.shape != {shape}: return None"
            self.list.append(Statement(GUARDS, None, test, [made], shape=entry.shape))
        return made


def _asking(parameters: Any) -> Callable[..., Any]:
    function, args, options, item = (parameters[name] for name in ("function", "args", "options", "item"))

    def asked(*operands: Any) -> Any:
        answer = function(*placed(args, operands), **placed(options, operands))
        return np.asarray(answer if item is None else answer[item])

    return asked


def _prototype(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array with the strides of one of this shape, and no memory to speak of."""
    strides = []
    step = np.dtype(dtype).itemsize
    for n in shape[::-1]:
        strides.append(step)
        step *= max(n, 1)
    return np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides[::-1], writeable=False)


def _needed(graph: Graph, outputs: Sequence[Any]) -> list[int]:
    needed: set[int] = set()
    pending = [y.number for y in outputs if type(y) is Symbol]
    while pending:
        i = pending.pop()
        if i not in needed:
            needed.add(i)
            pending += [x.number for x in graph.entries[i].args if type(x) is Symbol]
    return sorted(needed)


# --- structural operations ----------------------------------------------------------------------------------------


def _reduced(ufunc: Any) -> Callable[..., Any]:
    def lowered(self: Statements, args: list[Any], entry: Any) -> Any:
        return self.fill(
            "{f}({0}, {axis}, None, {out}, {keepdims})", args, (entry.shape, entry.dtype), f=ufunc.reduce,
            axis=entry.parameters["axis"], keepdims=bool(entry.parameters["keepdims"]),
        )  # fmt: skip

    return lowered


def _matmul(self: Statements, args: list[Any], entry: Any) -> Any:
    if 0 in entry.shape or any(0 in np.shape(x) for x in args):
        return self.bind("{f}({0}, {1})", args, (entry.shape, entry.dtype), f=lambda a, b: np.asarray(np.matmul(a, b)))
    return self.fill("{f}({0}, {1}, {out})", args, (entry.shape, entry.dtype), f=np.matmul)


def _transpose(self: Statements, args: list[Any], entry: Any) -> Any:
    [a], axes = args, tuple(entry.parameters["axes"])
    layout = None if type(a) is not Slot or a.layout is None else a.layout.transpose(axes)
    return self.view("{0}.transpose({axes})", a, (entry.shape, entry.dtype), layout, axes=axes)


def _broadcast(self: Statements, args: list[Any], entry: Any) -> Any:
    [a] = args
    layout = None if type(a) is not Slot or a.layout is None else np.broadcast_to(a.layout, entry.shape)
    return self.view("{f}({0}, {shape})", a, (entry.shape, entry.dtype), layout, f=np.broadcast_to, shape=entry.shape)


def _index(self: Statements, args: list[Any], entry: Any) -> Any:
    [a], key = args, entry.parameters["key"]
    parts = key if type(key) is tuple else (key,)
    simple = all(
        part is None or part is Ellipsis or (isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool))
        for part in parts
    )
    if simple and entry.shape != () and type(a) is Slot:
        layout = None if a.layout is None else a.layout[key]
        return self.view("{0}[{key}]", a, (entry.shape, entry.dtype), layout, key=key)
    if simple and type(a) is Slot:  # one element, as an array that is a view
        longer = (*parts, Ellipsis) if Ellipsis not in parts else parts
        layout = None if a.layout is None else a.layout[longer]
        return self.view("{0}[{key}]", a, (entry.shape, entry.dtype), layout, key=longer)
    return self.bind("{array}({0}[{key}])", args, (entry.shape, entry.dtype), key=key, array=np.asarray)


def _index_by(self: Statements, args: list[Any], entry: Any) -> Any:
    key = entry.parameters["key"]

    def picked(a: Any, *parts: Any) -> Any:
        return np.asarray(a[placed(key, parts)])

    found = self.bind("{f}({arguments})", args, (entry.shape, entry.dtype), f=picked)
    test = "if {0}.shape != {shape}: return None"  # as many as were picked when it was recorded
    self.list.append(Statement(GUARDS, None, test, [found], shape=entry.shape))
    return found


def _scatter(self: Statements, args: list[Any], entry: Any) -> Any:
    key = entry.parameters["key"]

    def put(out: Any, g: Any, *parts: Any) -> None:
        out[...] = 0.0
        operations.add_at(out, placed(key, parts) if parts else key, g)

    return self.fill("{put}({out}, {arguments})", args, (entry.shape, entry.dtype), put=put)


def _patch(self: Statements, args: list[Any], entry: Any) -> Any:
    key = entry.parameters["key"]

    def add(out: Any, a: Any, values: Any) -> None:
        if a is not out:
            np.copyto(out, a)
        operations.add_at(out, key, values)

    return self.fill("{add}({out}, {0}, {1})", args, (entry.shape, entry.dtype), (0,), add=add)


def _concatenate(self: Statements, args: list[Any], entry: Any) -> Any:
    places = ", ".join(f"{{{i}}}" for i in range(len(args)))
    return self.fill(
        f"{{f}}(({places},), {{axis}}, {{out}})", args, (entry.shape, entry.dtype), f=np.concatenate,
        axis=entry.parameters["axis"],
    )  # fmt: skip


def _cumsum(self: Statements, args: list[Any], entry: Any) -> Any:
    return self.fill(
        "{f}({0}, {axis}, None, {out})", args, (entry.shape, entry.dtype), f=np.cumsum, axis=entry.parameters["axis"]
    )


def _cumprod(self: Statements, args: list[Any], entry: Any) -> Any:
    return self.fill(
        "{f}({0}, {axis}, None, {out})", args, (entry.shape, entry.dtype), f=np.cumprod, axis=entry.parameters["axis"]
    )


def _row_sum(self: Statements, args: list[Any], entry: Any) -> Any:
    ones = np.ones(args[0].shape[0], entry.dtype)
    return self.fill("{f}({ones}, {0}, {out})", args, (entry.shape, entry.dtype), f=np.dot, ones=ones)


LOWERED: dict[Any, Callable[..., Any]] = {
    operations.reshape: lambda self, args, entry: self.reshaped(args[0], tuple(entry.shape)),
    operations.transpose: _transpose,
    operations.broadcast_to: _broadcast,
    operations.astype: lambda self, args, entry: self.copied(args[0], entry.dtype),
    operations.index: _index,
    operations.scatter: _scatter,
    operations.concatenate: _concatenate,
    operations.sum_: _reduced(np.add),
    operations.prod: _reduced(np.multiply),
    operations.max_: _reduced(np.maximum),
    operations.min_: _reduced(np.minimum),
    operations.cumsum: _cumsum,
    operations.cumprod: _cumprod,
    operations.matmul: _matmul,
    where_by: lambda self, args, entry: self.where(*args),
    index_by: _index_by,
    scatter_by: _scatter,
    patch: _patch,
    row_sum: _row_sum,
}
