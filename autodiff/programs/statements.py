"""How each instruction is written down in Python: over floats where a slot is one number, else over NumPy arrays.

The fast form leaves warnings to the careful one: the fast form runs where NumPy raises instead of warning, and float
kernels raise at corners anyway; what raises runs again in the careful form, in which + - * and sums are silent, as they
are on nodes, and every other row warns as its kernels do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.primitives import Primitive, absolute, add, div, mul, neg, reciprocal, relu, square, step, sub
from autodiff.programs.instructions import COMPARISONS, LANES, Builder
from autodiff.programs.recording import distinct

INLINE: dict[Any, str] = {
    add: "{} + {}", sub: "{} - {}", mul: "{} * {}", neg: "-{}", absolute: "abs({})",
    relu: "0.0 if {0} <= 0.0 else {0}", step: "1.0 if {0} > 0.0 else 0.0 if {0} <= 0.0 else {0}",
    "lt": "1.0 if {} < {} else 0.0", "le": "1.0 if {} <= {} else 0.0", "gt": "1.0 if {} > {} else 0.0",
    "ge": "1.0 if {} >= {} else 0.0", "eq": "1.0 if {} == {} else 0.0", "ne": "1.0 if {} != {} else 0.0",
    "signbit": "1.0 if copysign(1.0, {}) < 0.0 else 0.0",
}  # fmt: skip
# Python's own arithmetic is silent where it answers inf or nan: the fast form asks afterwards.
CHECKED: dict[Any, str] = {div: "{} / {}", square: "{0} * {0}", reciprocal: "1.0 / {}"}
SILENT = frozenset((add, sub, mul, neg))
IN_ONE_NUMBER = (1, 1)


class Writer:
    """Writes the statements of a builder's instructions, with the objects they name in `namespace`.

    `statement(slot, out)` is the text that defines v<slot>; out names a buffer for it, where `takes_buffer` says that
    it can use one.
    """

    def __init__(self, builder: Builder, careful: bool) -> None:
        self.builder, self.careful = builder, careful
        self.namespace: dict[str, Any] = {"np": np, "inf": float("inf"), "nan": float("nan"), "silent": _silent}
        self.namespace["copysign"] = math.copysign
        self._named: dict[Any, str] = {}
        self._kernels: dict[Primitive, Any] = {}
        self._flipped: dict[int, Any] = {}  # data, transposed once
        self._writers: dict[str, Callable[[int, str | None], str]] = {
            "row": self._row, "sum": self._sum, "dot": self._dot, "matmul": self._matmul, "rows": self._rows,
            "addrows": self._addrows, "take": self._take, "assemble": self._assemble, "expand": self._expand,
            "reshape": self._reshape,
        }  # fmt: skip

    # --- what the slots are called, and what they are ---

    def name(self, slot: int) -> str:
        """The expression for a slot: its variable, or the number itself."""
        kind = self.builder.kinds[slot]
        if kind == "number":
            c = self.builder.extras[slot]
            return repr(c) if c >= 0.0 else f"({c!r})" if c == c else "nan"
        if kind == "data":
            return self.constant(self.builder.extras[slot])
        if kind == "input":
            return f"x{self.builder.extras[slot]}"
        if kind == "lane":
            return f"lane{self.builder.extras[slot]}"
        if kind == "count":
            return "n"
        return f"v{slot}"

    def is_source(self, slot: int) -> bool:
        """Whether the slot has its name from the start."""
        return self.builder.kinds[slot] in ("number", "data", "input", "lane", "count")

    def constant(self, thing: Any) -> str:
        """The name of an object of the namespace."""
        key = id(thing)
        if key not in self._named:
            self._named[key] = name = f"k{len(self._named)}"
            self.namespace[name] = thing
        return self._named[key]

    def is_float(self, slot: int) -> bool:
        """Whether the slot is a Python float rather than an array."""
        return self.builder.shapes[slot] == IN_ONE_NUMBER and self.builder.kinds[slot] not in ("input", "lane")

    def _float(self, slot: int) -> str:
        return self.name(slot) if self.is_float(slot) else f"{self.name(slot)}.item()"

    def is_view(self, slot: int) -> bool:
        """Whether the slot shares the memory of its operand."""
        kind, extra = self.builder.kinds[slot], self.builder.extras[slot]
        if self.is_float(slot):
            return False
        if kind in ("rows", "take"):
            return _slice(extra.ravel()) is not None
        return kind in ("reshape", "expand")

    def takes_buffer(self, slot: int) -> bool:
        """Whether the statement can write into a given array."""
        if self.is_float(slot):
            return False
        kind, extra = self.builder.kinds[slot], self.builder.extras[slot]
        if kind == "row":
            return isinstance(extra, str) or isinstance(extra.array, np.ufunc)
        return kind == "matmul"

    def statement(self, slot: int, out: str | None) -> str:
        """The text that defines the slot."""
        expression = self._writers[self.builder.kinds[slot]](slot, out)
        if self.careful and not self.is_float(slot) and self._is_silent(slot):
            return f"with silent(): {self.name(slot)} = {expression}"
        return f"{self.name(slot)} = {expression}"

    def _is_silent(self, slot: int) -> bool:
        kind = self.builder.kinds[slot]
        return kind in ("sum", "dot", "matmul", "addrows") or (kind == "row" and self.builder.extras[slot] in SILENT)

    def check(self, slots: list[int]) -> str | None:
        """A statement of the fast form that raises where Python's arithmetic left the finite numbers in silence."""
        names = [
            self.name(slot) for slot in slots
            if self.builder.kinds[slot] == "row" and self.builder.extras[slot] in CHECKED and self.is_float(slot)
        ]  # fmt: skip
        if not names or self.careful:
            return None
        total = " + ".join(f"{name} - {name}" for name in names)
        return f"if {total} != 0.0: raise ArithmeticError"

    # --- the kinds ---

    def _row(self, slot: int, out: str | None) -> str:
        row: Any = self.builder.extras[slot]
        args = [self.name(x) for x in self.builder.args[slot]]
        if self.is_float(slot):
            args = [self._float(x) for x in self.builder.args[slot]]
            if row in INLINE:
                return INLINE[row].format(*args)
            if row in CHECKED and not self.careful:
                return CHECKED[row].format(*args)
            assert isinstance(row, Primitive)
            return f"{self.constant(row.on_floats if self.careful else row.forward)}({', '.join(args)})"
        if isinstance(row, str):
            function = self.constant(COMPARISONS[row])
            return (
                f"{function}({', '.join(args)}, out={out})" if out else f"{function}({', '.join(args)}).astype(float)"
            )
        if isinstance(row.array, np.ufunc):
            return f"{self.constant(row.array)}({', '.join(args)}{', out=' + out if out else ''})"
        return f"{self.constant(self._kernel(row))}({', '.join(args)})"

    def _kernel(self, row: Primitive) -> Any:
        """The row's kernel for arrays, whose result is an array of its own."""
        return self._kernels.setdefault(row, _fresh(row.array))

    def _sum(self, slot: int, out: str | None) -> str:
        [x] = self.builder.args[slot]
        if self.is_float(slot):
            return f"float({self.name(x)}.sum())"
        return f"{self.name(x)}.sum({self.builder.extras[slot]}, keepdims=True)"

    def _dot(self, slot: int, out: str | None) -> str:
        a, b = map(self.name, self.builder.args[slot])
        if self.is_float(slot):
            return f"float(np.vdot({a}, {b}))"
        return f"np.einsum('ij,ij->i', {a}, {b}).reshape(-1, 1)"

    def _matmul(self, slot: int, out: str | None) -> str:
        a, b = self.builder.args[slot]
        if self.is_float(slot):
            return f"float(np.vdot({self.name(a)}, {self.name(b)}))"
        ta, tb = self.builder.extras[slot]
        texts = []
        for x, transposed in ((a, ta), (b, tb)):
            if transposed and self.builder.kinds[x] == "data":
                texts.append(self.constant(self._transposed(x)))
            else:
                texts.append(self.name(x) + (".T" if transposed else ""))
        return f"np.dot({', '.join(texts)}{', ' + out if out else ''})"

    def _transposed(self, slot: int) -> Any:
        return self._flipped.setdefault(slot, self.builder.extras[slot].T)

    def _rows(self, slot: int, out: str | None) -> str:
        [x] = self.builder.args[slot]
        R = self.builder.extras[slot]
        if self.is_float(slot):
            return f"{self.name(x)}.item({int(R[0])})"
        cut = _slice(R)
        if cut is not None:
            return f"{self.name(x)}[{cut}]"
        return f"{self.name(x)}.take({self.constant(R)}, 0)"

    def _addrows(self, slot: int, out: str | None) -> str:
        [x] = self.builder.args[slot]
        R, (k, w) = self.builder.extras[slot], self.builder.shapes[slot]
        width = "-1" if w == LANES else str(w)
        if self.is_float(x):
            return f"{self.constant(_row_adder(R, k))}(np.full((1, 1), {self.name(x)}))"
        t = len(R) // k
        if t * k == len(R) and (np.repeat(np.arange(k), t) == R).all():
            return f"{self.name(x)}.reshape({k}, {t}, {width}).sum(1)"
        return f"{self.constant(_row_adder(R, k))}({self.name(x)})"

    def _take(self, slot: int, out: str | None) -> str:
        [x] = self.builder.args[slot]
        P = self.builder.extras[slot]
        if self.is_float(slot):
            if self.builder.kinds[x] == "input":
                return f"{self.name(x)}f[{int(P[0, 0])}]"
            return f"{self.name(x)}.item({int(P[0, 0])})"
        cut = _slice(P.ravel())
        if cut is not None:
            return f"{self.name(x)}.reshape(-1)[{cut}].reshape({P.shape[0]}, {P.shape[1]})"
        return f"{self.name(x)}.take({self.constant(P)})"

    def _assemble(self, slot: int, out: str | None) -> str:
        args, extra = self.builder.args[slot], self.builder.extras[slot]
        k, w = self.builder.shapes[slot]
        numbers = [j for j, x in enumerate(args) if self.is_float(x)]
        arrays = [j for j, x in enumerate(args) if not self.is_float(x)]
        texts = [f"{self.name(args[j])}.reshape(-1)" for j in arrays]
        if numbers:
            texts.append("np.array((" + "".join(f"{self.name(args[j])}, " for j in numbers) + "))")
        P = np.concatenate([extra[j].ravel() for j in arrays + numbers])
        parts = f"np.concatenate(({', '.join(texts)}))" if len(texts) > 1 else texts[0]
        size = k * w
        if len(P) == size and len(distinct(P)) == size:
            inverse = np.empty(size, np.intp)
            inverse[P] = np.arange(size)
            return f"{parts}.take({self.constant(inverse.reshape(k, w))})"
        return f"np.bincount({self.constant(P)}, {parts}, {size}).reshape({k}, {w})"

    def _expand(self, slot: int, out: str | None) -> str:
        [x] = self.builder.args[slot]
        k, w = self.builder.shapes[slot]
        return f"np.broadcast_to({self.name(x)}, ({k}, {'n' if w == LANES else w}))"

    def _reshape(self, slot: int, out: str | None) -> str:
        [x] = self.builder.args[slot]
        k, w = self.builder.shapes[slot]
        return f"{self.name(x)}.item()" if self.is_float(slot) else f"{self.name(x)}.reshape({k}, {w})"


def _slice(R: Any) -> str | None:
    """R as start:stop:step, if it is one."""
    if len(R) == 1:
        return f"{int(R[0])}:{int(R[0]) + 1}"
    step = int(R[1] - R[0])
    if step > 0 and (np.diff(R) == step).all():
        return f"{int(R[0])}:{int(R[-1]) + 1}" + (f":{step}" if step > 1 else "")
    return None


def _silent() -> Any:
    return np.errstate(over="ignore", invalid="ignore")


def _fresh(kernel: Callable[..., Any]) -> Callable[..., Any]:
    def fresh(*operands: Any) -> Any:
        y = np.asarray(kernel(*operands), dtype=float)
        return y if y.base is None and not any(y is x for x in operands) else np.array(y)

    return fresh


def _row_adder(R: Any, k: int) -> Callable[[Any], Any]:
    """The function that adds rows of equal R, in any order."""
    in_order = np.argsort(R, kind="stable")
    ascending = R[in_order]
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    present = ascending[starts]

    def added(a: Any) -> Any:
        sums = np.add.reduceat(a.take(in_order, 0), starts, axis=0)
        if len(present) == k:
            return sums
        y = np.zeros((k, a.shape[1]))
        y[present] = sums
        return y

    return added
