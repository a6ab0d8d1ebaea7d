"""Formulas: the expression of a node, its local derivatives in symbols, in plain text, LaTeX and MathML.

An `Expression` is a name, a number, or a row of the table applied to expressions. The rules of the table run on
expressions as they run on floats, so that a local derivative in symbols is the very rule that computes it, unless
people know it in another form (textbook.py). The structural operations of arrays have no row: a `Form` says how each
prints (forms.py). Brackets are set in one place, for plain text and LaTeX alike, and MathML is made from the LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.forms import MANY, SHOWN, Form, form, of_shape
from autodiff.mathml import mathml
from autodiff.names import argument_names as argument_names  # here and below: others ask notation for them
from autodiff.names import counted, latex_name, latex_number
from autodiff.names import number_text as number_text
from autodiff.primitives import ATOM, PRODUCT, SUM, Primitive, absolute, add, div, mul, neg, power, sub
from autodiff.tensor import Tensor
from autodiff.textbook import printed_rule
from autodiff.value import Value

Node = Value | Tensor

LARGEST = 1_000_000  # parts of an expression that is printed; a shared part counts where it stands


class Expression:
    """A name (str), a number (float), or a row of the table (or a `Form`) with operands; str() prints it.

    Operators apply the rows, leaving out what changes nothing (1 * x, x + 0, x ** 1) and computing with numbers.

    >>> x = Expression("x")
    >>> print((x + 1) * x, -(x * 2.0), x**2 / 3)
    (x + 1) · x -x · 2 x^2 / 3
    """

    __slots__ = ("head", "operands")

    def __init__(self, head: str | float | Primitive | Form, operands: tuple[Expression, ...] = ()) -> None:
        self.head = head if isinstance(head, str | Primitive | Form) else float(head)  # NumPy's numbers would warn
        self.operands = operands

    @staticmethod
    def apply_primitive(row: Primitive, *operands: Any) -> Expression:
        """row applied to expressions and numbers, at least one of them an expression."""
        parts = tuple(
            operand if isinstance(operand, Expression) else Expression(float(operand)) for operand in operands
        )
        heads = [part.head for part in parts]
        numbers = [head for head in heads if isinstance(head, float)]
        if len(numbers) == len(heads):
            try:
                return Expression(row.forward(*numbers))
            except (ArithmeticError, ValueError):
                return Expression(row, parts)  # log(0) stays log(0), and warns nobody
        if row is mul:
            if 0.0 in numbers:
                return Expression(0.0)
            for number, other in ((heads[0], parts[1]), (heads[1], parts[0])):
                if number == 1.0:
                    return other
                if number == -1.0:
                    return -other
        if row is add and 0.0 in numbers:
            return parts[heads[0] == 0.0]
        if row is div and heads[0] == 0.0:
            return Expression(0.0)
        if row in (sub, power, div) and heads[1] == (0.0 if row is sub else 1.0):
            return parts[0]
        if row is power and heads[1] == 0.0:
            return Expression(1.0)
        return Expression(row, parts)

    def __add__(self, other: Any) -> Expression:
        return self.apply_primitive(add, self, other)

    def __radd__(self, other: Any) -> Expression:
        return self.apply_primitive(add, other, self)

    def __sub__(self, other: Any) -> Expression:
        return self.apply_primitive(sub, self, other)

    def __rsub__(self, other: Any) -> Expression:
        return self.apply_primitive(sub, other, self)

    def __mul__(self, other: Any) -> Expression:
        return self.apply_primitive(mul, self, other)

    def __rmul__(self, other: Any) -> Expression:
        return self.apply_primitive(mul, other, self)

    def __truediv__(self, other: Any) -> Expression:
        return self.apply_primitive(div, self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return self.apply_primitive(div, other, self)

    def __pow__(self, other: Any) -> Expression:
        return self.apply_primitive(power, self, other)

    def __rpow__(self, other: Any) -> Expression:
        return self.apply_primitive(power, other, self)

    def __neg__(self) -> Expression:
        return self.apply_primitive(neg, self)

    def __abs__(self) -> Expression:
        return self.apply_primitive(absolute, self)

    def __lt__(self, other: float) -> bool:
        """By number; a name is like most numbers: it is neither small nor equal to anything."""
        return isinstance(self.head, float) and self.head < other

    def __gt__(self, other: float) -> bool:
        return isinstance(self.head, float) and self.head > other

    @property
    def binds(self) -> float:
        """How tightly the printed form holds together in plain text; see primitives.SUM ... ATOM."""
        return self._binds(latex=False)

    @property
    def latex_binds(self) -> float:
        """The same in LaTeX, where a fraction or a power may hold what plain text puts in brackets."""
        return self._binds(latex=True)

    def _binds(self, latex: bool) -> float:
        if isinstance(self.head, Form):
            return self.head.latex_binds if latex else self.head.binds
        if isinstance(self.head, Primitive):
            return self.head.binds
        if isinstance(self.head, float):
            text = number_text(self.head)
            return SUM if text.startswith("-") else PRODUCT if "e" in text else ATOM
        return ATOM

    def parts(self) -> list[Expression]:
        """Every expression in this one, each once and after its operands; this one is the last."""
        return parts_of(self)

    def render(self, latex: bool) -> str:
        """The printed form in plain text or in LaTeX, with brackets where they must be.

        Raises ValueError for what would fill books: a formula that repeats what it is made of at every step.
        """
        parts = self.parts()
        count: dict[int, int] = {}
        for part in parts:
            count[id(part)] = 1 + sum(count[id(operand)] for operand in part.operands)
        if count[id(self)] > LARGEST:
            raise ValueError(
                f"the formula has {counted(count[id(self)])} parts, too many to print; give nodes in between a name, "
                "at which it ends, or ask for less depth"
            )
        # What is printed is put together at the end, so that a long chain is not copied at every step: each part is
        # a list of strings and of parts. Only whether it opens with a sign must be known before.
        printed: dict[int, list[str | int]] = {}
        signed: dict[int, bool] = {}
        for part in parts:
            pieces = printed[id(part)] = part._pieces(latex, signed)
            first = pieces[0] if pieces else ""
            signed[id(part)] = signed[first] if isinstance(first, int) else first.startswith("-")
        found: list[str] = []
        rest: list[str | int] = [id(self)]
        while rest:
            piece = rest.pop()
            if isinstance(piece, int):
                rest.extend(reversed(printed[piece]))
            else:
                found.append(piece)
        return "".join(found)

    def _pieces(self, latex: bool, signed: dict[int, bool]) -> list[str | int]:
        """The printed form as strings and the ids of operands; signed: {id of an operand: it opens with a minus}."""
        if isinstance(self.head, str):
            return [latex_name(self.head) if latex else self.head]
        if isinstance(self.head, float):
            return [latex_number(self.head) if latex else number_text(self.head)]
        row = self.head
        template, needs = (row.latex, row.latex_needs) if latex else (row.text, row.needs)
        letters = [str(i) for i in range(len(self.operands))] if isinstance(row, Form) else ["a", "b"]
        left, right = (r"\left(", r"\right)") if latex else ("(", ")")
        shown: dict[str, list[str | int]] = {}
        for letter, operand, need in zip(letters, self.operands, needs, strict=False):
            # A sign may open a sum or a product, but never follow another operation.
            opens = template.startswith(f"<{letter}>")
            can_open = operand.head is neg or isinstance(operand.head, float)
            binds = operand._binds(latex)
            binds = max(binds, PRODUCT) if opens and can_open else binds
            bare = binds >= need and (opens or need == SUM or not signed[id(operand)])
            shown[letter] = [id(operand)] if bare else [left, id(operand), right]
        pieces: list[str | int] = []
        for number, text in enumerate(re.split(r"<([ab]|\d+)>", template)):  # every second one is a place
            if number % 2:
                pieces += shown[text]
            elif text:
                pieces.append(text)
        return pieces

    def __str__(self) -> str:
        return self.render(latex=False)

    def __repr__(self) -> str:
        try:
            return f"Expression({str(self)!r})"
        except ValueError:  # too large; a repr must not raise
            return "Expression(too large to print)"

    def latex(self) -> str:
        r"""The formula in LaTeX.

        >>> w, h = Expression("w3_21"), Expression("h_12")
        >>> print((w * h / 2).latex())
        \frac{w^{(3)}_{21} \cdot h_{12}}{2}
        """
        return self.render(latex=True)

    def mathml(self) -> str:
        """The formula in MathML, for a web page.

        >>> print((Expression("w_21") / 2).mathml())
        <math display="block"><mfrac><msub><mi>w</mi><mn>21</mn></msub><mn>2</mn></mfrac></math>
        """
        return mathml(self.latex())

    def _repr_latex_(self) -> str | None:
        """For notebooks; None, which they take for nothing, where there is nothing to show."""
        try:
            return rf"$\displaystyle {self.latex()}$"
        except ValueError:
            return None


def parts_of(*expressions: Expression) -> list[Expression]:
    """Every expression in these, each once and after its operands."""
    found: list[Expression] = []
    known: set[int] = set()
    pending = list(reversed(expressions))
    while pending:
        part = pending[-1]
        if id(part) in known:
            pending.pop()
            continue
        missing = [operand for operand in part.operands if id(operand) not in known]
        if missing:
            pending.extend(reversed(missing))
        else:
            known.add(id(part))
            found.append(pending.pop())
    return found


def formula(
    node: Node | float,
    depth: int = 8,
    label: Callable[[Any], Expression | str | None] = lambda node: node.name,
    top: bool = True,
    printed: Callable[[Tensor, int], Form] = form,
) -> Expression:
    """The expression of a node down to its labelled ancestors, at most `depth` operations deep.

    `label` names a node, or answers None to look below it. The node itself is expanded even if it has a name,
    unless top is False. Leaves without a label stand as their numbers, arrays as their shapes; what lies deeper than
    `depth` as "…". printed: how the structural operation that made an array node prints, with so many operands.

    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> print(formula((w * x + 1.0).tanh()))
    tanh(w · x + 1)
    >>> X, W = Tensor(np.ones((5, 3)), name="X"), Tensor(np.ones((3, 2)), name="W")
    >>> print(formula(np.tanh(X @ W + np.ones(2))[0, :].sum() * 2.0))
    sum(tanh(X @ W + [2])[0, :]) · 2
    """
    made: dict[tuple[int, int], Expression] = {}  # {(id of a node, depth left): its expression}
    dots = Expression("…")
    pending: list[tuple[Any, int]] = [(node, depth)]
    while pending:
        at, left = pending[-1]
        key = (id(at), left)
        if key in made:
            pending.pop()
            continue
        simple = constant(at) if not isinstance(at, Node) else None
        if simple is None and (at.op is None or not top or len(pending) > 1):
            name = label(at)
            simple = Expression(name) if isinstance(name, str) else name
        if simple is None and at.op is None:
            simple = constant(at.data)
        if simple is None and left == 0:
            simple = dots
        if simple is not None:
            made[key] = simple
            pending.pop()
            continue
        operands = at.operands
        head: Primitive | Form
        if isinstance(at.op, Primitive):
            head = at.op.source
        else:
            operands = operands if len(operands) <= MANY else (*operands[:SHOWN], None, operands[-1])
            head = printed(at, len(operands))
        missing = [(x, left - 1) for x in operands if x is not None and (id(x), left - 1) not in made]
        if missing:
            pending.extend(missing)
            continue
        made[key] = Expression(head, tuple(dots if x is None else made[id(x), left - 1] for x in operands))
        pending.pop()
    return made[id(node), depth]


def constant(x: Any) -> Expression:
    """A number as it is, an array as its shape: [5×3].

    >>> print(constant(0.5), constant(np.ones((5, 3))), constant(np.array(2.0)))
    0.5 [5×3] 2
    """
    return Expression(float(x)) if np.ndim(x) == 0 else Expression(of_shape(np.shape(x)))


def local_formula(child: Value, position: int, symbol: Callable[[Value], Expression]) -> Expression:
    """d(child)/d(parent) in symbols for the edge at `position`, by the row's rule run on the nodes' symbols.

    The rule as it is printed: see textbook.py.

    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> print(local_formula(w * x, 0, symbol=lambda node: Expression(node.name or "y")))
    x
    """
    row = child.op
    assert row is not None
    letters = [
        symbol(operand) if isinstance(operand, Value) else Expression(operand)
        for operand in ((child.a, child.b) if row.arity == 2 else (child.a,))
    ]
    result = printed_rule(row, position)(symbol(child), *letters)
    return result if isinstance(result, Expression) else Expression(float(result))


def operation(node: Node) -> str | None:
    """How the operation that made a node is called, with its constant: "tanh", "+", "^3"; None for a leaf.

    What is not written behind or between its operands is called by its row's name.

    >>> x = Value(2.0)
    >>> operation(x.tanh()), operation(x * x), operation(x**2), operation(1 - x), operation(x)
    ('tanh', '·', '²', '1 -', None)
    >>> X = Tensor(np.ones((5, 3)))
    >>> operation(X @ X.T), operation(X * 2.0), operation(X + np.ones(3)), operation(X[0]), operation(X.sum(axis=1))
    ('@', '· 2', '+ [3]', '[0]', 'sum(axis=1)')
    """
    row = node.op
    if row is None:
        return None
    if isinstance(node, Value) or isinstance(row, Primitive):
        if "(" in row.text or not row.text.startswith("<a>"):  # type: ignore[union-attr]
            return row.name
        template, letters = row.text, "ab"  # type: ignore[union-attr]
    else:
        shape = form(node, len(node.operands))
        if shape.short:
            return shape.short
        template, letters = shape.text, "01"
    texts = ["" if isinstance(x, Node) else str(constant(x)) for x in node.operands]
    return re.sub("<([ab01])>", lambda place: texts[letters.index(place[1])], template).strip()
