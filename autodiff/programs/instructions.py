"""Instructions: a small array language, into which lanes are written, and a builder that shares what occurs twice.

Every slot is a matrix of k rows and w lanes, and slots of one row or one lane broadcast, as in NumPy. A width of LANES
is that of a batch, known only when the program runs. The kinds:

    number ()      of extra c            data ()       of extra: an array          input ()     of extra: which one
    lane ()        of extra: the rows of the batch                                 count ()     the width of the batch
    row (a[, b])   of extra: a row of the table, or the name of a comparison       expand (a)   to its shape
    rows (a)       of extra R: a[R]                                                addrows (a)  of extra R: y[R] += a
    take (a)       of extra P: a.flat[P]        assemble (a, b, ...)  of extra (P, Q, ...): y.flat[P] += a, ...
    sum (a)        over extra: 0 rows, 1 lanes  dot (a, b)     of the rows of a and b, one by one
    matmul (a, b)  of extra: whether a, and b, are transposed
    reshape (a)    to its shape

The set is closed under differentiation: rows and addrows, take and assemble, sum and expand are one another's
derivative, and so is matmul its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.primitives import Primitive, absolute, add, alias, div, mul, neg, power, sub

LANES = -1
Shape = tuple[int, int]
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "signbit": lambda a, _, **options: np.signbit(a, **options),
}  # fmt: skip


class Symbol:
    """What rules of the table may be run on, so that it writes down what they do: operators, rows and comparisons."""

    __slots__ = ()

    @staticmethod
    def apply_primitive(row: Primitive, *operands: Any) -> Any:
        """What a row of the table does with symbols and floats."""
        raise NotImplementedError

    def _compared(self, name: str, other: Any) -> Any:
        """1.0 where the comparison of that name holds, else 0.0."""
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return self.apply_primitive(add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self.apply_primitive(add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self.apply_primitive(sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.apply_primitive(sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self.apply_primitive(mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.apply_primitive(mul, other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.apply_primitive(div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.apply_primitive(div, other, self)

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, (int, float)) and ("right", float(other)) in power.becomes:
            return self.apply_primitive(power.becomes["right", float(other)], self)
        return self.apply_primitive(power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.apply_primitive(power, other, self)

    def __neg__(self) -> Any:
        return self.apply_primitive(neg, self)

    def __abs__(self) -> Any:
        return self.apply_primitive(absolute, self)

    def __lt__(self, other: Any) -> Any:
        return self._compared("lt", other)

    def __le__(self, other: Any) -> Any:
        return self._compared("le", other)

    def __gt__(self, other: Any) -> Any:
        return self._compared("gt", other)

    def __ge__(self, other: Any) -> Any:
        return self._compared("ge", other)

    def __eq__(self, other: object) -> Any:
        return self._compared("eq", other)

    def __ne__(self, other: object) -> Any:
        return self._compared("ne", other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(
            "a local derivative branches on a number, and a program has none yet: write the rule with + - * / ** and "
            "the table's functions, and put branches into the row's forward"
        )


class Slot(Symbol):
    """A symbol for what an instruction computes; operators and rows applied to it emit further instructions."""

    __slots__ = ("builder", "number")

    def __init__(self, builder: Builder, number: int) -> None:
        self.builder, self.number = builder, number

    @staticmethod
    def apply_primitive(row: Primitive, *operands: Any) -> Slot:
        """What a row of the table does with slots and floats."""
        builder = next(x.builder for x in operands if isinstance(x, Slot))
        return Slot(builder, builder.row(row, *(builder.slot(x) for x in operands)))

    def _compared(self, name: str, other: Any) -> Slot:
        return Slot(self.builder, self.builder.compare(name, self.number, self.builder.slot(other)))


class Builder:
    """Emits instructions, each once: the same kind of the same slots is the same slot."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.args: list[tuple[int, ...]] = []
        self.extras: list[Any] = []
        self.shapes: list[Shape] = []
        self._known: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self.kinds)

    def emit(self, kind: str, args: tuple[int, ...], extra: Any, shape: Shape) -> int:
        """The slot of this instruction, an old one if there is one."""
        key = kind, args, _key(extra), shape
        slot = self._known.setdefault(key, len(self.kinds))
        if slot == len(self.kinds):
            self.kinds.append(kind)
            self.args.append(args)
            self.extras.append(extra)
            self.shapes.append(shape)
        return slot

    def slot(self, x: Any) -> int:
        """The slot of a number or a Slot."""
        if isinstance(x, Slot):
            return x.number
        return self.emit("number", (), float(x), (1, 1))

    def symbol(self, slot: int) -> Any:
        """What rules work with: a float for a number, a Slot for all else."""
        return self.extras[slot] if self.kinds[slot] == "number" else Slot(self, slot)

    def is_number(self, slot: int, value: float) -> bool:
        """Whether the slot holds this very number, -0.0 being another one than 0.0."""
        c = self.extras[slot]
        return self.kinds[slot] == "number" and c == value and math.copysign(1.0, c) == math.copysign(1.0, value)

    # --- elementwise ---

    def row(self, row: Primitive, *args: int) -> int:
        """A row of the table over slots, broadcast; what is exact is simplified."""
        one = args[0]
        if row is mul:
            for this, other in (args, args[::-1]):
                if self.is_number(this, 1.0):
                    return other
                if self.is_number(this, -1.0):
                    return self.row(neg, other)
        elif row is alias:
            return one
        elif row is neg:
            if self.kinds[one] == "row" and self.extras[one] is neg:
                return self.args[one][0]
        elif row is absolute:
            if self.kinds[one] == "row" and self.extras[one] is neg:
                args = self.args[one]
        elif row is div and self.is_number(args[1], 1.0):
            return one
        elif row is add or row is sub:
            last = args[1]
            if self.kinds[last] == "row" and self.extras[last] is neg:
                row, args = (sub if row is add else add), (one, self.args[last][0])
        if row in _EXACT and all(self.kinds[x] in ("number", "data") for x in args):
            with np.errstate(over="ignore", invalid="ignore"):  # as on nodes
                return self.data(np.atleast_2d(row.array(*(self.extras[x] for x in args))))
        if all(self.kinds[x] == "number" for x in args):
            try:
                y = row.forward(*(self.extras[x] for x in args))
            except (ArithmeticError, ValueError):
                pass  # what it warns of, it warns of when it runs
            else:
                return self.slot(y)
        return self.emit("row", args, row, self.broadcast(*args))

    def compare(self, name: str, a: int, b: int) -> int:
        """1 where the comparison holds, else 0."""
        return self.emit("row", (a, b), name, self.broadcast(a, b))

    def broadcast(self, *args: int) -> Shape:
        """The common shape of the slots."""
        k = w = 1
        for x in args:
            shape = self.shapes[x]
            k, w = (shape[0] if k == 1 else k), (shape[1] if w == 1 else w)
        return k, w

    def add(self, a: int | None, b: int) -> int:
        """a + b, or b where there is no a yet."""
        return b if a is None else self.row(add, a, b)

    # --- sources ---

    def data(self, array: Any) -> int:
        """The slot of constants (k, w): a number, a column or a row where they are alike, rows once each."""
        bits = np.ascontiguousarray(array, dtype=float).view(np.int64)
        if (bits == bits[0, 0]).all():
            return self.slot(float(array[0, 0]))
        if array.shape[1] > 1 and (bits == bits[:, :1]).all():
            array, bits = array[:, :1], bits[:, :1]
        if array.shape[0] > 1 and array.shape[1] > 1:
            seen: dict[bytes, int] = {}
            which = [seen.setdefault(row.tobytes(), len(seen)) for row in bits]
            if len(seen) < len(which):
                firsts = [which.index(n) for n in range(len(seen))]
                return self.rows(self.data(array[firsts]), np.array(which))
        return self.emit("data", (), np.ascontiguousarray(array), (array.shape[0], array.shape[1]))

    # --- moving elements ---

    def rows(self, a: int, R: Any) -> int:
        """a[R]."""
        k, w = self.shapes[a]
        if k == 1 or (len(R) == k and _is_range(R)):
            return a
        return self.emit("rows", (a,), R, (len(R), w))

    def take(self, a: int, P: Any) -> int:
        """a.flat[P] for P (k, w); the shape of a holds no LANES."""
        k, w = self.shapes[a]
        if (k, w) == (1, 1):
            return a
        if P.shape == (k, w) and _is_range(P.ravel()):
            return a
        if P.size == k * w and _is_range(P.ravel()):
            return self.reshape(a, P.shape)
        return self.emit("take", (a,), P, P.shape)

    def reshape(self, a: int, shape: Shape) -> int:
        """The same elements, row by row, in another shape."""
        if self.shapes[a] == shape:
            return a
        if self.kinds[a] == "reshape":
            return self.reshape(self.args[a][0], shape)
        return self.emit("reshape", (a,), None, shape)

    def expand(self, a: int, shape: Shape) -> int:
        """a, written out to this shape."""
        return a if self.shapes[a] == shape else self.emit("expand", (a,), None, shape)

    def addrows(self, a: int, R: Any, k: int) -> int:
        """y[R] += a, of k rows."""
        a = self.expand(a, (len(R), self.shapes[a][1]))
        if len(R) == k and _is_range(R):
            return a
        if k == 1:
            return self.sum(a, 0)
        return self.emit("addrows", (a,), R, (k, self.shapes[a][1]))

    def assemble(self, parts: Sequence[tuple[Any, int]], shape: Shape) -> int:
        """y.flat[P] += a for all (P, a)."""
        if len(parts) == 1 and parts[0][0].size == shape[0] * shape[1] and _is_range(parts[0][0].ravel()):
            return self.reshape(parts[0][1], shape)
        return self.emit("assemble", tuple(a for _, a in parts), tuple(P for P, _ in parts), shape)

    # --- sums ---

    def sum(self, a: int, axis: int) -> int:
        """The sum over rows (0) or lanes (1); of a product as a product of matrices."""
        k, w = self.shapes[a]
        if (k, w)[axis] == 1:
            return a
        shape = (1, w) if axis == 0 else (k, 1)
        if self.kinds[a] == "row" and self.extras[a] is neg:
            return self.row(neg, self.sum(self.args[a][0], axis))
        if self.kinds[a] == "row" and self.extras[a] is mul:
            u, v = self.args[a]
            for x, y in ((u, v), (v, u)):
                if self.shapes[y] == (k, w):
                    if axis == 1 and self.shapes[x] == (1, w):
                        return self.matmul(y, x, False, True)
                    if axis == 0 and self.shapes[x] == (k, 1):
                        return self.matmul(x, y, True, False)
            if axis == 1 and self.shapes[u] == self.shapes[v]:
                return self.emit("dot", (u, v), None, shape)
        return self.emit("sum", (a,), axis, shape)

    def matmul(self, a: int, b: int, ta: bool = False, tb: bool = False) -> int:
        """The product of matrices, of the transposed ones where ta, tb say so."""
        k = self.shapes[a][1 if ta else 0]
        w = self.shapes[b][0 if tb else 1]
        inner = self.shapes[a][0 if ta else 1]
        if inner == 1:  # of a column and a row
            x = self.reshape(a, (k, 1)) if LANES not in self.shapes[a] else a
            y = self.reshape(b, (1, w)) if LANES not in self.shapes[b] else b
            return self.row(mul, x, y)
        return self.emit("matmul", (a, b), (ta, tb), (k, w))

    def reduced(self, a: int, logical: Shape, target: Shape) -> int:
        """The sum of a, broadcast to the logical shape, over the axes where the target has one element."""
        for axis in (1, 0):
            if target[axis] == 1 and logical[axis] != 1:
                if self.shapes[a][axis] != 1:
                    a = self.sum(a, axis)
                else:
                    n = logical[axis]
                    a = self.row(mul, a, self.emit("count", (), None, (1, 1)) if n == LANES else self.slot(n))
        return a

    def needed(self, outputs: Sequence[int]) -> list[int]:
        """The slots that the outputs depend on, in order."""
        wanted = bytearray(len(self.kinds))
        for slot in outputs:
            wanted[slot] = 1
        for slot in range(len(self.kinds) - 1, -1, -1):
            if wanted[slot]:
                for x in self.args[slot]:
                    wanted[x] = 1
        return [slot for slot in range(len(self.kinds)) if wanted[slot]]


_EXACT = frozenset((add, sub, mul, neg))  # computed once, where the operands are constants: they never warn


def _is_range(P: Any) -> bool:
    return bool(P[0] == 0 and P[-1] == len(P) - 1 and (len(P) < 3 or (np.arange(len(P)) == P).all()))


def _key(extra: Any) -> Any:
    if isinstance(extra, np.ndarray):
        return extra.shape, extra.dtype.str, extra.tobytes()
    if type(extra) is float:
        return extra.hex() if extra == 0.0 else repr(extra)
    if type(extra) is tuple:
        return tuple(map(_key, extra))
    return extra
