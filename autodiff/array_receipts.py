"""The receipt of an array node: a sum of matrix equations, dL/dW = X.T @ dL/dz, with their shapes and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.graph import order
from autodiff.names import latex_number, number_text
from autodiff.notation import Expression
from autodiff.pulls import Pull, back_through, pull_formula, shape_text
from autodiff.receipts import SHOWN, Receipt, aligned, derivative, shortened
from autodiff.sweeps import pulled, pushed
from autodiff.tensor import LinearMap, Tensor, fitting

FEW = 24  # numbers of an array that are printed; of more, their norm and the largest


class PathsMap(LinearMap):
    """d(child)/d(parent) over all paths between two array nodes that meet none of the nodes `others`.

    A linear map as that of one edge is; pull and push are sweeps over what lies between.
    """

    __slots__ = ("others",)

    def __init__(self, child: Tensor, parent: Tensor, others: Collection[Tensor] = ()) -> None:
        self.child, self.parent = child, parent
        self.others = tuple(node for node in others if node is not child and node is not parent)

    def pull(self, upstream: Any) -> Any:
        """The contribution to the parent's adjoint of an upstream (of the child's shape)."""
        given = fitting(upstream, self.child, "upstream")
        if self.child is self.parent:
            return given.copy()
        found = pulled(order(self.child), {self.child: given}, inputs=(self.parent, *self.others))
        contribution = found.get(self.parent)
        return np.zeros(self.parent.shape, self.parent.dtype) if contribution is None else np.asarray(contribution)

    def push(self, tangent: Any) -> Any:
        """What a tangent of the parent (of its shape) adds to the child's."""
        given = fitting(tangent, self.parent, "tangent")
        moved = pushed(order(self.child), {self.parent: given}, dict.fromkeys(self.others)).get(self.child)
        return np.zeros(self.child.shape, self.child.dtype) if moved is None else np.array(moved)

    def __repr__(self) -> str:
        names = self.child.name or "child", self.parent.name or "parent"
        return f"∂{names[0]}/∂{names[1]} ({shape_text(self.parent.shape)} → {shape_text(self.child.shape)})"


@dataclass(frozen=True, slots=True, eq=False)
class ArrayTerm:
    """What one child edge, or one node on the way, adds to the adjoint of an array node.

    contribution = local.pull(upstream), of the shape of that node; upstream is of the shape of the child.
    """

    child: Tensor
    upstream: Any
    local: LinearMap
    contribution: Any
    symbols: Callable[[Any], Expression]  # what formulas call a node

    @property
    def symbol(self) -> Expression:
        """The child, as formulas call it."""
        return self.symbols(self.child)

    @property
    def label(self) -> str:
        """The child in plain text."""
        return str(self.symbol)

    def pull(self, output: Expression) -> Pull:
        """The contribution in symbols, and its shapes; output: what formulas call the output."""
        upstream = derivative(output, self.symbol)
        local = self.local
        if not isinstance(local, PathsMap):
            return pull_formula(local, upstream, self.symbols)
        shapes = f"{shape_text(self.child.shape)} → {shape_text(local.parent.shape)}"
        if local.child is local.parent:
            return Pull(upstream, shapes)
        between = derivative(self.symbol, self.symbols(local.parent))
        return Pull(back_through(str(between), upstream, self.symbol, self.symbols(local.parent)), shapes)


class ArrayReceipt(Receipt):
    """The receipt of an array node: one matrix equation per term; their numbers where they are few."""

    __slots__ = ()

    @property
    def total(self) -> Any:
        """The sum of the contributions, an array of the shape of wrt: its adjoint; ones for the output itself."""
        if self.wrt is self.output:
            return np.ones(self.wrt.shape, self.wrt.dtype)
        total = np.zeros(self.wrt.shape, self.wrt.dtype)
        for term in self.terms:
            total = total + term.contribution
        return np.asarray(total)

    def __str__(self) -> str:
        output, _ = self.symbols
        if self.wrt is self.output:
            return f"{self.name} = 1: the output itself"
        terms = shortened(self.terms, None)
        pulls = [None if term is None else term.pull(output) for term in terms]
        several = len(terms) > 1
        equation = " + ".join("..." if pull is None else _bracketed(str(pull.formula), pull, several) for pull in pulls)
        shapes = f": {shape_text(self.wrt.shape)}" if several or pulls[0] is None else f": {pulls[0].shapes}"
        lines = [f"{self.name} = {equation}{shapes}"]
        width = max(len("sum"), *(len(term.label) for term in terms if term is not None))
        for term, pull in zip(terms, pulls, strict=True):
            if term is None or pull is None:
                lines.append(f"  {'...':{width}}  ({len(self.terms) - SHOWN} more)")
                continue
            head = f"  {term.label:{width}}  "
            blank = " " * len(head)
            if several:
                lines.append(f"{head}{pull}")
                head = blank
            lines += _hung(f"{head}upstream      ", array_text(term.upstream))
            lines += _hung(f"{blank}contribution  ", array_text(term.contribution))
        if several:
            lines += _hung(f"  {'sum':{width}}                ", array_text(self.total))
        return "\n".join(lines)

    def latex(self) -> str:
        r"""The sum of matrix equations, and under it their numbers where they are few.

        >>> from autodiff.explain import total_derivative
        >>> X, w = Tensor([[1.0, 2.0]], name="X"), Tensor([[0.5], [0.25]], name="w_1")
        >>> z = X @ w
        >>> z.name = "z"
        >>> print(total_derivative(np.sum(z), w).latex())
        \begin{aligned}
        \frac{\partial f}{\partial w_{1}} &= {X}^{\top} \frac{\partial f}{\partial z} \\
        &= \begin{bmatrix} 1 \\ 2 \end{bmatrix}
        \end{aligned}
        """
        left = self.name.latex()
        if self.wrt is self.output:
            return f"{left} = 1"
        terms = shortened(self.terms, None)
        several = len(terms) > 1
        symbols = []
        for term in terms:
            pull = None if term is None else term.pull(self.symbols[0])
            symbols.append(r"\cdots" if pull is None else _bracketed(pull.formula.latex(), pull, several, latex=True))
        lines = [f"{left} &= {' + '.join(symbols)}"]
        if self.wrt.size <= FEW and self.wrt.ndim <= 2:
            figures = [r"\cdots" if term is None else matrix_latex(term.contribution) for term in terms]
            figures = [*([" + ".join(figures)] if several else []), matrix_latex(self.total)]
            lines.append(f"&= {' = '.join(figures)}")
        return aligned(*lines) if len(lines) > 1 else lines[0].replace("&=", "=")


def _bracketed(text: str, pull: Pull, several: bool, latex: bool = False) -> str:
    """A term of a sum: in brackets where it is a sum itself, or ends in words."""
    if not several or (pull.formula.latex_binds if latex else pull.formula.binds) > 1:
        return text
    return rf"\left({text}\right)" if latex else f"({text})"


def _hung(head: str, lines: list[str]) -> list[str]:
    """The lines behind a head, each under the first."""
    return [(head if not number else " " * len(head)) + line for number, line in enumerate(lines)]


def array_text(array: Any) -> list[str]:
    """An array in lines: its numbers where they are few, else its shape, norm and the largest with its index.

    >>> print(*array_text(np.array([[1.0, -0.25], [10.0, 2.5]])), sep=chr(10))
    [[ 1  -0.25]
     [10    2.5]]
    >>> array_text(np.arange(100.0).reshape(20, 5))
    ['20×5: norm 573.018, largest 99 at [19, 4]']
    """
    array = np.asarray(array)
    if array.ndim == 0:
        return [number_text(float(array))]
    if array.size > FEW:
        return [f"{shape_text(array.shape)}: {_summary(array)}"]
    if array.ndim > 2 or not array.size:
        formatter: Any = {"float_kind": number_text}
        return np.array2string(array, formatter=formatter).splitlines()
    rows = [[number_text(float(x)) for x in row] for row in np.atleast_2d(array)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = ["[" + "  ".join(x.rjust(w) for x, w in zip(row, widths, strict=True)) + "]" for row in rows]
    if array.ndim == 1:
        return texts
    return [("[" if not i else " ") + text + ("]" if i == len(texts) - 1 else "") for i, text in enumerate(texts)]


def _summary(array: Any) -> str:
    finite = np.isfinite(array)
    if not finite.all():
        first = np.unravel_index(int(np.argmin(finite)), array.shape)
        where = ", ".join(map(str, map(int, first)))
        return f"{int(finite.size - finite.sum())} of {array.size} numbers are nan or inf, the first at [{where}]"
    largest = np.unravel_index(int(np.argmax(np.abs(array))), array.shape)
    scale = float(np.abs(array[largest]))
    norm = scale * math.sqrt(float(np.sum((array / scale) ** 2, dtype=float))) if scale else 0.0  # no overflow
    where = ", ".join(map(str, map(int, largest)))
    return f"norm {number_text(norm)}, largest {number_text(float(array[largest]))} at [{where}]"


def matrix_latex(array: Any) -> str:
    r"""A matrix, or a vector as one row, in LaTeX.

    >>> print(matrix_latex(np.array([[1.0, -2.0]])))
    \begin{bmatrix} 1 & -2 \end{bmatrix}
    """
    array = np.asarray(array)
    if array.ndim == 0:
        return latex_number(float(array))
    rows = (" & ".join(latex_number(float(x)) for x in row) for row in np.atleast_2d(array))
    return r"\begin{bmatrix} " + r" \\ ".join(rows) + r" \end{bmatrix}"
