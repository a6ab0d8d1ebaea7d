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

# fmt: off
GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
))
# fmt: on


class Expression:
    """A name (str), a number (float), or a row of the table with operands; str() prints it.

    Operators apply the rows, leaving out what changes nothing (1 * x, x + 0, x ** 1) and computing with numbers.

    >>> x = Expression("x")
    >>> print((x + 1) * x, -(x * 2.0), x**2 / 3)
    (x + 1) · x -x · 2 x^2 / 3
    """

    __slots__ = ("head", "operands")

    def __init__(self, head: str | float | Primitive, operands: tuple[Expression, ...] = ()) -> None:
        self.head = head if isinstance(head, str | Primitive) else float(head)  # NumPy's numbers would warn
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
    def binds(self) -> int:
        """How tightly the printed form holds together; see primitives.SUM ... ATOM."""
        if isinstance(self.head, Primitive):
            return self.head.binds
        if isinstance(self.head, float):
            text = number_text(self.head)
            return SUM if text.startswith("-") else PRODUCT if "e" in text else ATOM
        return ATOM

    def render(self, latex: bool) -> str:
        """The printed form in plain text or in LaTeX, with brackets where they must be."""
        if isinstance(self.head, str):
            return latex_name(self.head) if latex else self.head
        if isinstance(self.head, float):
            return latex_number(self.head) if latex else number_text(self.head)
        row = self.head
        template, needs = (row.latex, row.latex_needs) if latex else (row.text, row.needs)
        texts: list[str] = []
        for place, operand, need in zip(("<a>", "<b>"), self.operands, needs, strict=False):
            text = operand.render(latex)
            # A sign may open a sum or a product, but never follow another operation.
            opens = template.startswith(place)
            signed = operand.head is neg or isinstance(operand.head, float)
            binds = max(operand.binds, PRODUCT) if opens and signed else operand.binds
            bare = binds >= need and (opens or need == SUM or not text.startswith("-"))
            texts.append(text if bare else rf"\left({text}\right)" if latex else f"({text})")
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


def local_formula(child: Value, position: int, symbol: Callable[[Value], Expression]) -> Expression:
    """d(child)/d(parent) in symbols for the edge at `position`, by the row's rule run on the nodes' symbols.

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
    rule = (row.da, row.db)[position]
    assert rule is not None
    result = rule(symbol(child), *letters)
    return result if isinstance(result, Expression) else Expression(float(result))


def operation(node: Value) -> str | None:
    """How the operation that made a node is called, with its constant: "tanh", "+", "^3"; None for a leaf.

    What is not written behind or between its operands is called by its row's name.

    >>> x = Value(2.0)
    >>> operation(x.tanh()), operation(x * x), operation(x**2), operation(1 - x), operation(x)
    ('tanh', '·', '²', '1 -', None)
    """
    row = node.op
    if row is None:
        return None
    if "(" in row.text or not row.text.startswith("<a>"):
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
        return rf"\mathrm{{{escaped(name)}}}"
    base, hat, layer, lower, bracket = match.groups()
    symbol = base if len(base) == 1 else rf"\{base}" if base in GREEK else rf"\mathrm{{{base}}}"
    index = (lower or bracket or "").replace("_", ",")
    return (
        (rf"\hat{{{symbol}}}" if hat else symbol)
        + (f"^{{({layer})}}" if layer and index else f"_{{{layer}}}" if layer else "")
        + (f"_{{{index}}}" if index else "")
    )


def escaped(text: str) -> str:
    r"""text with what LaTeX's mathematics would take as a command written as a sign.

    >>> print(escaped("a_b^2"))
    a\_b{\wedge}2
    """
    signs = {"\\": r"{\backslash}", "^": r"{\wedge}", "~": r"{\sim}"}
    return re.sub(r"[\\^~_%&#$ {}]", lambda sign: signs.get(sign[0], "\\" + sign[0]), text)


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its first `count` positional arguments; x1, x2, ... where it does not tell.

    >>> argument_names(lambda u, v: u, 2), argument_names(max, 2)
    (['u', 'v'], ['x1', 'x2'])
    """
    import inspect  # slow to import, and only needed here

    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # built-in functions may not tell
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return names[:count] if len(names) >= count else [f"x{number}" for number in range(1, count + 1)]
