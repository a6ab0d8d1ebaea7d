"""Formulas: the expression of a node, its local derivatives in symbols, in plain text and in LaTeX.

An `Expression` is a name, a number, or a row of the table applied to expressions. The rules of the table run on
expressions as they run on floats, so that a local derivative in symbols is the very rule that computes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from autodiff.primitives import ATOM, PRODUCT, SUM, Primitive, absolute, add, div, mul, neg, power, sub
from autodiff.value import Value

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega".split()
)


class Expression:
    """A name (str), a number (float), or a row of the table with operands; str() prints it.

    Operators apply the rows, leaving out what changes nothing (1 * x, x + 0, x ** 1) and computing with numbers.

    >>> x = Expression("x")
    >>> print((x + 1) * x, -(x * 2.0), x**2 / 3)
    (x + 1) · x -x · 2 x^2 / 3
    """

    __slots__ = ("head", "operands")

    def __init__(self, head: str | float | Primitive, operands: tuple[Expression, ...] = ()) -> None:
        self.head = head
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
            return Expression(row.on_floats(*numbers))
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
        if row in (sub, power, div) and heads[1] == (0.0 if row is sub else 1.0):
            return parts[0]
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

    @property
    def binds(self) -> int:
        """How tightly the printed form holds together; see primitives.SUM ... ATOM."""
        if isinstance(self.head, Primitive):
            return self.head.binds
        return SUM if self.leads_with_minus else ATOM

    @property
    def leads_with_minus(self) -> bool:
        """Whether it prints with a minus in front, which needs no brackets at the start of a product."""
        return self.head is neg or (isinstance(self.head, float) and str(self.head).startswith("-"))

    def render(self, latex: bool) -> str:
        """The printed form in plain text or in LaTeX, with brackets where they must be."""
        if isinstance(self.head, str):
            return latex_name(self.head) if latex else self.head
        if isinstance(self.head, float):
            return latex_number(self.head) if latex else number_text(self.head)
        row = self.head
        template, needs = (row.latex, row.latex_needs) if latex else (row.text, row.needs)
        texts: list[str] = []
        for operand, need in zip(self.operands, needs, strict=True):
            leading = not texts and need == PRODUCT and template.startswith("<a>")
            bare = operand.binds >= need or (leading and operand.leads_with_minus)
            texts.append(operand.render(latex) if bare else f"({operand.render(latex)})")
        return re.sub("<([ab])>", lambda place: texts["ab".index(place[1])], template)

    def __str__(self) -> str:
        return self.render(latex=False)

    def __repr__(self) -> str:
        return f"Expression({str(self)!r})"

    def latex(self) -> str:
        r"""The formula in LaTeX.

        >>> w, h = Expression("w3_21"), Expression("h_12")
        >>> print((w * h / 2).latex())
        \frac{w^{(3)}_{21} \cdot h_{12}}{2}
        """
        return self.render(latex=True)


def formula(
    node: Value | float, depth: int = 8, label: Callable[[Value], str | None] = lambda node: node.name, top: bool = True
) -> Expression:
    """The expression of a node down to its labelled ancestors, at most `depth` operations deep.

    `label` names a node, or answers None to look below it. The node itself is expanded even if it has a name,
    unless top is False. Leaves without a label stand as their numbers; what lies deeper than `depth` as "…".

    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> print(formula((w * x + 1.0).tanh()))
    tanh(w · x + 1)
    """
    if not isinstance(node, Value):
        return Expression(float(node))
    if node.op is None or not top:
        name = label(node)
        if name is not None or node.op is None:
            return Expression(node.data if name is None else name)
    if depth == 0:
        return Expression("…")
    operands = (formula(operand, depth - 1, label, top=False) for operand in node.operands)
    return Expression(node.op.source, tuple(operands))


def local_formula(child: Value, position: int, label: Callable[[Value], str]) -> Expression:
    """d(child)/d(parent) in symbols for the edge at `position`, by the row's rule run on the nodes' labels.

    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> print(local_formula(w * x, 0, label=lambda node: node.name or "y"))
    x
    """
    row = child.op
    assert row is not None
    letters = [
        Expression(label(operand)) if isinstance(operand, Value) else Expression(operand)
        for operand in ((child.a, child.b) if row.arity == 2 else (child.a,))
    ]
    rule = (row.da, row.db)[position]
    assert rule is not None
    result = rule(Expression(label(child)), *letters)
    return result if isinstance(result, Expression) else Expression(float(result))


def operation(node: Value) -> str | None:
    """How the operation that made a node is called, with its constant: "tanh", "+", "^2"; None for a leaf.

    >>> x = Value(2.0)
    >>> operation(x.tanh()), operation(x * x), operation(x**2), operation(1 - x), operation(x)
    ('tanh', '·', '^2', '1 -', None)
    """
    row = node.op
    if row is None:
        return None
    if row.arity == 1 or "(" in row.text or "[" in row.text:
        return row.name
    places = {"<a>": "", "<b>": ""}
    if row.constant:
        places["<b>" if row.constant == "right" else "<a>"] = number_text(node.b)
    return re.sub("<[ab]>", lambda place: places[place[0]], row.text).strip()


def number_text(number: float, digits: int = 6) -> str:
    """A number for people: at most `digits` significant digits, whole numbers without a point.

    >>> number_text(2.0), number_text(-0.1234567), number_text(1e-9), number_text(float("nan"))
    ('2', '-0.123457', '1e-09', 'nan')
    """
    return f"{number:.{digits}g}"


def latex_number(number: float) -> str:
    r"""number_text in LaTeX: 10 to a power, infinity.

    >>> latex_number(1e-9), latex_number(float("-inf"))
    ('10^{-9}', '-\\infty')
    """
    mantissa, _, exponent = number_text(number).partition("e")
    if exponent:
        power_of_ten = f"10^{{{int(exponent)}}}"
        return {"1": power_of_ten, "-1": f"-{power_of_ten}"}.get(mantissa, rf"{mantissa} \cdot {power_of_ten}")
    return mantissa.replace("inf", r"\infty").replace("nan", r"\mathrm{nan}")


def latex_name(name: str) -> str:
    r"""A name as an indexed symbol: w1_21 is w^(1)_21, yhat_2 is y hat with index 2, W[0,1] has the index 0,1.

    >>> latex_name("w1_21"), latex_name("yhat_2"), latex_name("W[0,1]"), latex_name("eta")
    ('w^{(1)}_{21}', '\\hat{y}_{2}', 'W_{0,1}', '\\eta')
    """
    match = re.fullmatch(r"([A-Za-z]+?)(hat)?(\d*)(?:_([\w,]+)|\[([\w, ]+)\])?", name)
    if not match:
        return r"\mathrm{" + re.sub(r"([_%&#$ {}])", r"\\\1", name.replace("\\", r"\backslash ")) + "}"
    base, hat, layer, lower, bracket = match.groups()
    symbol = base if len(base) == 1 else rf"\{base}" if base in GREEK else rf"\mathrm{{{base}}}"
    index = (lower or bracket or "").replace("_", ",")
    return (
        (rf"\hat{{{symbol}}}" if hat else symbol)
        + (f"^{{({layer})}}" if layer and index else f"_{{{layer}}}" if layer else "")
        + (f"_{{{index}}}" if index else "")
    )
