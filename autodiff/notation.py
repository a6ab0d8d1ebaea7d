"""Formulas: the expression of a node, its local derivatives in symbols, in plain text and in LaTeX.

An `Expression` is a name, a number, or a row of the table applied to expressions. The rules of the table run on
expressions as they run on floats, so that a local derivative in symbols is the very rule that computes it. The
structural operations of arrays have no row: a `Form` says how each prints, with its axes, shapes and indices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.primitives import ATOM, POWER, PRODUCT, SUM, Primitive, absolute, add, div, mul, neg, power, sub
from autodiff.tensor import Tensor
from autodiff.value import Value

Node = Value | Tensor

# fmt: off
GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Form:
    """How something that is no row of the table prints: a structural operation, or an array by its shape.

    text, latex: with <0>, <1>, ... for the operands. binds: how tightly the printed form holds together; needs: how
    tightly each operand must; both as in the table, and again for LaTeX where it differs.
    """

    text: str
    latex: str
    binds: float = ATOM
    needs: Sequence[float] = ()
    latex_binds: float = ATOM
    latex_needs: Sequence[float] = ()
    short: str = ""  # what the operation is called where its operands are not shown; "" for text without them


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

    def _binds(self, latex: bool) -> float:
        if isinstance(self.head, Form):
            return self.head.latex_binds if latex else self.head.binds
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
        letters = [str(i) for i in range(len(self.operands))] if isinstance(row, Form) else ["a", "b"]
        texts: list[str] = []
        for place, operand, need in zip((f"<{letter}>" for letter in letters), self.operands, needs, strict=False):
            text = operand.render(latex)
            # A sign may open a sum or a product, but never follow another operation.
            opens = template.startswith(place)
            signed = operand.head is neg or isinstance(operand.head, float)
            binds = operand._binds(latex)
            binds = max(binds, PRODUCT) if opens and signed else binds
            bare = binds >= need and (opens or need == SUM or not text.startswith("-"))
            texts.append(text if bare else rf"\left({text}\right)" if latex else f"({text})")
        return re.sub(r"<([ab]|\d+)>", lambda place: texts[letters.index(place[1])], template)

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
    node: Node | float, depth: int = 8, label: Callable[[Any], str | None] = lambda node: node.name, top: bool = True
) -> Expression:
    """The expression of a node down to its labelled ancestors, at most `depth` operations deep.

    `label` names a node, or answers None to look below it. The node itself is expanded even if it has a name,
    unless top is False. Leaves without a label stand as their numbers, arrays as their shapes; what lies deeper than
    `depth` as "…".

    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> print(formula((w * x + 1.0).tanh()))
    tanh(w · x + 1)
    >>> X, W = Tensor(np.ones((5, 3)), name="X"), Tensor(np.ones((3, 2)), name="W")
    >>> print(formula(np.tanh(X @ W + np.ones(2))[0, :].sum() * 2.0))
    sum(tanh(X @ W + [2])[0, :]) · 2
    """
    if not isinstance(node, Node):
        return constant(node)
    if node.op is None or not top:
        name = label(node)
        if name is not None:
            return Expression(name)
        if node.op is None:
            return constant(node.data)
    if depth == 0:
        return Expression("…")
    operands = node.operands
    head: Primitive | Form
    if isinstance(node.op, Primitive):
        head = node.op.source
    else:
        operands = operands if len(operands) <= MANY else (*operands[:SHOWN], None, operands[-1])
        head = form(node, len(operands))
    parts = (Expression("…") if x is None else formula(x, depth - 1, label, top=False) for x in operands)
    return Expression(head, tuple(parts))


def constant(x: Any) -> Expression:
    """A number as it is, an array as its shape: [5×3].

    >>> print(constant(0.5), constant(np.ones((5, 3))), constant(np.array(2.0)))
    0.5 [5×3] 2
    """
    if np.ndim(x) == 0:
        return Expression(float(x))
    lengths = np.shape(x)
    return Expression(Form(f"[{'×'.join(map(str, lengths))}]", rf"\left[{times(lengths)}\right]"))


MANY, SHOWN = 6, 3  # operands of a concatenation; of more than MANY the first ones and the last are printed
# Closer together than a product by a sign, where LaTeX writes nothing between the factors
JUXTAPOSED = 0.5 * (PRODUCT + POWER)


def form(node: Tensor, count: int) -> Form:
    """How the structural operation that made a node prints, with `count` operands."""
    assert node.op is not None
    name, given = node.op.name, node.parameters
    bare = (SUM,) * count
    tight = (ATOM,) * count
    if name == "matmul":
        return Form("<0> @ <1>", "<0> <1>", JUXTAPOSED, (PRODUCT, POWER), JUXTAPOSED, (JUXTAPOSED, POWER))
    if name == "transpose":
        n = len(given["axes"])
        if n > 1 and given["axes"] == tuple(range(n))[::-1]:
            return Form("<0>.T", r"{<0>}^{\top}", ATOM, tight, POWER, tight)
        if given["axes"] == (*range(n - 2), n - 1, n - 2):
            return Form("<0>.mT", r"{<0>}^{\top}", ATOM, tight, POWER, tight)
    if name == "index":
        return Form(
            f"<0>[{key_text(given['key'])}]", f"{{<0>}}_{{{key_latex(given['key'])}}}", ATOM, tight, ATOM, tight
        )
    if name == "reshape":
        text = f"<0>.reshape({listed(given['shape']) or '()'})"
        return Form(text, called(name, count, times(given["shape"])), ATOM, tight, ATOM, bare)
    if name == "where":  # the condition is no operand: it is no node
        condition = given["condition"]
        shown = bool(condition) if np.ndim(condition) == 0 else constant(condition)
        text, latex = f"where({shown}, <0>, <1>)", called(name, count, times(np.shape(condition)))
        return Form(text, latex, ATOM, bare, ATOM, bare, name)
    if name == "einsum":
        labels, out = ",".join(given["labels"]), given["out"]
        text, latex = (
            f"einsum('{labels}->{out}', {places(count)})",
            called(name, count, rf"\mathrm{{{labels} \to {out}}}"),
        )
        return Form(text, latex, ATOM, bare, ATOM, bare, f"einsum('{labels}->{out}')")
    options = [f"{key}={shown}" for key, x in given.items() for shown in [parameter(x)] if shown is not None]
    operands = f"[{places(count)}]" if name == "concatenate" else places(count)
    axis = given.get("axis")
    below = listed(axis) if isinstance(axis, tuple) else "" if axis is None else str(axis)
    if not below and isinstance(given.get("shape"), tuple):
        below = times(given["shape"])
    text, short = (f"{name}({', '.join(part for part in parts if part)})" for parts in ((operands, *options), options))
    return Form(text, called(name, count, below), ATOM, bare, ATOM, bare, short if options else name)


def places(count: int) -> str:
    """<0>, <1>, ...: where the operands go."""
    return ", ".join(f"<{i}>" for i in range(count))


def called(name: str, count: int, below: str = "") -> str:
    """A function with its operands in LaTeX, with an index where it has one."""
    known = name in ("max", "min", "det")
    head = rf"\{name}" if known else rf"\operatorname{{{escaped(name)}}}"
    return head + (f"_{{{below}}}" if below else "") + rf"\left({places(count)}\right)"


def listed(x: Any) -> str:
    """(0, 2) as 0, 2; an axis or a length alone as itself."""
    return ", ".join(map(str, x)) if isinstance(x, tuple) else str(x)


def times(shape: Sequence[int]) -> str:
    r"""(5, 3) as 5 \times 3."""
    return r" \times ".join(map(str, shape))


def parameter(x: Any) -> str | None:
    """A parameter of an operation as text; None where it is its default, or too long to print."""
    if x is None or x is False:
        return None
    if isinstance(x, np.dtype):
        return str(x)
    if isinstance(x, tuple) and len(x) == 1 and isinstance(x[0], int):
        return str(x[0])  # axis=(0,)
    if isinstance(x, (bool, int, float, str, tuple, slice, np.integer)):
        text = repr(x)
        return text if len(text) <= 24 else None
    return None


def key_text(key: Any) -> str:
    """An index as one writes it: 0, 1:, ..., None; an array of integers by its elements if it has few.

    >>> key_text((0, slice(1, None), slice(None, None, -1), Ellipsis, None, np.array([0, 2])))
    '0, 1:, ::-1, ..., None, [0, 2]'
    >>> key_text(np.array([True, False, True])), key_text(np.arange(100))
    ('mask of 2', '100 indices')
    """
    if type(key) is tuple:
        return ", ".join(map(key_text, key)) or "()"
    if isinstance(key, slice):
        start, stop, step = ("" if x is None else str(x) for x in (key.start, key.stop, key.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if key is Ellipsis:
        return "..."
    if isinstance(key, np.ndarray) and key.ndim:
        if key.dtype == bool:
            return f"mask of {int(key.sum())}"
        return str(key.tolist()) if key.size <= MANY else f"{key.size} indices"
    return str(key)


def key_latex(key: Any) -> str:
    """key_text with its words upright."""
    text = key_text(key).replace("...", r"\ldots").replace("[", r"\left[").replace("]", r"\right]")
    return re.sub(
        r"(?<!\\)\b(?:None|(?:mask of )?\d+ indices|mask of \d+)", lambda words: rf"\text{{{words[0]}}}", text
    )


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
