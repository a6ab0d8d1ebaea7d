"""The table: every elementary operation once, with its forward, its local derivatives and how it prints.

Glossary: a, b are the operands of an operation and y is its result; da and db are the *local derivatives*
dy/da and dy/db. A *rule* is a function of (y, a) or (y, a, b) that returns one of them.

A rule uses only + - * / ** and functions of this table, so the same rule runs on floats (gradients), on nodes
(higher derivatives), on arrays, and on symbols (formulas). A *forward* is a kernel for one target: one for
floats, which may raise where mathematics has no answer, and one for NumPy, which follows IEEE 754. Where the
float kernel raises, NumPy's answers instead, with NumPy's warning.

Conventions at corners: relu'(0) = 0 and leaky_relu'(0) = 0.01, the slope below 0; |a|'(0) = 0; a tie of maximum
gives one half to each side; a ** 0 is the constant 1 with the derivative 0 everywhere.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# Binding strengths: an operand is printed in brackets when it binds less tightly than its place needs.
SUM, PRODUCT, POWER, ATOM = 1, 2, 3, 4

Rule = Callable[..., Any]


class Primitive:
    """One row of the table; called, it works on floats, arrays and nodes alike.

    >>> exp(0.0)
    1.0
    >>> maximum(np.array([-1.0, 2.0]), 0.0)
    array([0., 2.])
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., float],
        array: Callable[..., Any],
        rules: Sequence[Rule],
        *,
        formula: str,
        text: str,
        latex: str,
        binds: int,
        needs: Sequence[int],
        latex_needs: Sequence[int] | None = None,
        becomes: Mapping[tuple[str, float], Primitive] | None = None,
        constant: str | None = None,
        source: Primitive | None = None,
    ) -> None:
        self.name = name
        self.forward = forward
        self.array = array
        self.da = rules[0]
        self.db = rules[1] if len(rules) == 2 else None
        self.formula = formula
        self.text, self.latex = text, latex
        self.binds, self.needs, self.latex_needs = binds, tuple(needs), tuple(latex_needs or needs)
        self.becomes = dict(becomes or {})
        self.constant = constant  # "left" or "right": that operand is a number, kept in the node
        self.source = source or self
        self.folded: dict[str, Primitive] = {}  # what is left of the row when that side is a constant
        self.__doc__ = f"{name}: y = {formula}"

    @property
    def arity(self) -> int:
        """The number of operands, folded constants included."""
        return len(self.needs)

    def __repr__(self) -> str:
        folded = f", constant={self.constant!r}" if self.constant else ""
        return f"Primitive({self.name!r}{folded})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _row, (self.name, self.constant)  # a pickled node finds its row again by name

    def __call__(self, *operands: Any) -> Any:
        """y for floats, arrays (elementwise, broadcast) or nodes; a node among the operands records."""
        if len(operands) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} operand(s), got {len(operands)}")
        if all(type(operand) is float for operand in operands):
            return self.on_floats(*operands)
        for operand in operands:
            apply = getattr(type(operand), "apply_primitive", None)
            if apply is not None:
                return apply(self, *operands)
        for operand in operands:
            # NumPy would order complex numbers and compare strings; a derivative exists for neither.
            if np.asarray(operand).dtype.kind not in "fiub":
                raise TypeError(
                    f"{self.name} takes real numbers, arrays of them or nodes, got {type(operand).__name__} "
                    f"({np.asarray(operand).dtype}); make nodes of an object array with scalars(array)"
                )
        return self.array(*operands)

    def on_floats(self, *numbers: float) -> float:
        """y for floats: the float kernel's answer or, where it has none, NumPy's (inf or nan, with its warning).

        Raises FloatingPointError, naming the operation and its operands, where np.errstate asks for it.
        """
        try:
            return self.forward(*numbers)
        except (ArithmeticError, ValueError):
            return self._by_numpy(self.array, f"{self.name}{numbers_in_brackets(numbers)}", *numbers)

    def local(self, rule: Rule, y: float, *operands: float) -> float:
        """dy/d(operand) by one of the row's rules, on floats; corners as in `on_floats`."""
        try:
            return float(rule(y, *operands))
        except (ArithmeticError, ValueError):
            where = f"the derivative of {self.name}{numbers_in_brackets(operands)}"
            return self._by_numpy(rule, where, y, *operands)

    @staticmethod
    def _by_numpy(function: Callable[..., Any], where: str, *numbers: float) -> float:
        try:
            return float(function(*map(np.float64, numbers)))
        except FloatingPointError as error:
            raise FloatingPointError(f"{where}: {error}") from None


def numbers_in_brackets(numbers: Sequence[float]) -> str:
    """(1.0, 2.0) without the trailing comma of a tuple of one."""
    return "(" + ", ".join(repr(float(number)) for number in numbers) + ")"


TABLE: dict[str, Primitive] = {}  # name -> row
ON_NEW_ROW: list[Callable[[Primitive], None]] = []  # called with every row that is added from then on
UFUNCS: dict[np.ufunc, Primitive] = {}  # NumPy's universal function -> row


def _row(name: str, constant: str | None) -> Primitive:
    return TABLE[name].folded[constant] if constant else TABLE[name]


def primitive(
    name: str,
    forward: Callable[..., float],
    *rules: Rule,
    array: Callable[..., Any] | None = None,
    formula: str | None = None,
    text: str | None = None,
    latex: str | None = None,
    binds: int = ATOM,
    needs: Sequence[int] | None = None,
    latex_needs: Sequence[int] | None = None,
    becomes: Mapping[tuple[str, float], Primitive] | None = None,
) -> Primitive:
    """A new row of the table, of one or two operands: one rule for each.

    forward   y from floats; it may raise ArithmeticError or ValueError where `array` answers inf or nan
    array     the same on NumPy arrays (default: forward, element by element); a ufunc is also recognised when
              it is called on nodes: np.exp(node)
    formula   y in words of mpmath and of a, b: what tests hold the row against (default: name(a))
    text      how it prints, with <a> and <b> for the operands; latex the same in LaTeX
    binds     how tightly the printed form holds together; needs: how tightly each operand must
              (latex_needs where LaTeX differs: a fraction needs no brackets)
    becomes   {(side, constant): row}: what a two-operand row is when the operand on that side is that constant

    Raises ValueError for a name that is taken or a number of rules that is not 1 or 2.

    >>> cube = primitive("cube", lambda a: a * a * a, lambda y, a: 3.0 * a * a, formula="a ** 3")
    >>> cube(2.0), cube.da(8.0, 2.0)
    (8.0, 12.0)
    >>> del TABLE["cube"]
    """
    if name in TABLE:
        raise ValueError(f"the table has a row {name!r} already ({TABLE[name].__doc__}); choose another name")
    if len(rules) not in (1, 2):
        raise ValueError(f"row {name!r}: one rule per operand, for one or two operands, got {len(rules)}")
    letters = ("a", "b")[: len(rules)]
    places = ", ".join(f"<{letter}>" for letter in letters)
    upright = name.replace("_", r"\_")
    array = array or np.vectorize(forward, otypes=[float])
    fields: dict[str, Any] = {
        "formula": formula or f"{name}({', '.join(letters)})",
        "text": text or f"{name}({places})",
        "latex": latex or rf"\operatorname{{{upright}}}\left({places}\right)",
        "binds": binds,
        "needs": needs or [SUM] * len(rules),
        "latex_needs": latex_needs,
        "becomes": becomes,
    }
    row = Primitive(name, forward, array, rules, **fields)
    if len(rules) == 2:
        da, db = rules
        # A folded row's rule is called as da(y, a, c): a is the node's data, c the constant.
        kept = {"right": da, "left": lambda y, a, c: db(y, c, a)}
        row.folded = {
            side: Primitive(name, forward, array, [rule], **fields, constant=side, source=row)
            for side, rule in kept.items()
        }
    TABLE[name] = row
    if isinstance(array, np.ufunc):
        UFUNCS[array] = row
    for tell in ON_NEW_ROW:
        tell(row)
    return row


# --- kernels that no library has ------------------------------------------------------------------------------


def _sigmoid(a: float) -> float:
    if a >= 0.0:
        return 1.0 / (1.0 + math.exp(-a))
    e = math.exp(a)  # nan comes here too and passes through
    return e / (1.0 + e)


def _sigmoid_array(a: Any) -> Any:
    e = np.exp(-np.abs(a))  # never overflows
    return np.where(np.less(a, 0), e, 1.0) / (1.0 + e)


def _relu(a: float) -> float:
    return 0.0 if a <= 0.0 else a  # nan must pass through: nan <= 0 is False


def _softplus(a: float) -> float:
    return max(a, 0.0) + math.log1p(math.exp(-abs(a)))  # max(nan, 0.0) is nan


def _maximum(a: float, b: float) -> float:
    return a if a >= b or a != a else b


def _sign(a: float) -> float:
    return 1.0 if a > 0.0 else -1.0 if a < 0.0 else a  # 0 and nan are their own signs


def _step(a: float) -> float:
    return 1.0 if a > 0.0 else 0.0 if a <= 0.0 else a  # nan


def _exceeds(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0 if a < b else math.nan


def _exceeds_array(a: Any, b: Any) -> Any:
    ordered = np.greater(a, b) + 0.5 * np.equal(a, b)
    return np.where(np.isnan(a) | np.isnan(b), np.nan, ordered)


def _divide(a: float, b: float) -> float:
    y = a / b
    if y - y != 0.0:
        raise ArithmeticError  # inf or nan: NumPy knows which operands deserve a warning
    return y


def _power_slope(y: Any, a: Any, b: Any) -> Any:
    """d(a**b)/da = b * a**(b - 1), but as b * a**b / a for |b| < 1/2, and so for the constant power b = 0.

    There b - 1 has lost digits of b, which a logarithm of a far from 0 would magnify.
    """
    divided = (b > -0.5) * (b < 0.5) * (1.0 - (a == 0.0) * (b != 0.0))
    return b * power(a, b - (1.0 - divided)) / (a + (a == 0.0)) ** divided


# fmt: off
# --- the table ------------------------------------------------------------------------------------------------

# Piecewise constant rows, which rules below are written with. Their derivative is 0 wherever it exists.
sign = primitive("sign", _sign, lambda y, a: 0.0, array=np.sign)
step = primitive(
    "step", _step, lambda y, a: 0.0, array=lambda a: np.heaviside(a, 0.0),
    formula="1 if a > 0 else 0", text="[<a> > 0]", latex=r"\left[<a> > 0\right]",
)
exceeds = primitive(
    "exceeds", _exceeds, lambda y, a, b: 0.0, lambda y, a, b: 0.0, array=_exceeds_array,
    formula="1 if a > b else 0.5 if a == b else 0", text="[<a> > <b>]", latex=r"\left[<a> > <b>\right]",
)

add = primitive(
    "add", operator.add, lambda y, a, b: 1.0, lambda y, a, b: 1.0,
    array=np.add, formula="a + b", text="<a> + <b>", latex="<a> + <b>", binds=SUM, needs=(SUM, PRODUCT),
)
sub = primitive(
    "sub", operator.sub, lambda y, a, b: 1.0, lambda y, a, b: -1.0,
    array=np.subtract, formula="a - b", text="<a> - <b>", latex="<a> - <b>", binds=SUM, needs=(SUM, PRODUCT),
)
mul = primitive(
    "mul", operator.mul, lambda y, a, b: b, lambda y, a, b: a,
    array=np.multiply, formula="a * b", text="<a> · <b>", latex=r"<a> \cdot <b>",
    binds=PRODUCT, needs=(PRODUCT, POWER),
)
div = primitive(
    "div", _divide, lambda y, a, b: 1.0 / b, lambda y, a, b: -y / b,
    array=np.true_divide, formula="a / b", text="<a> / <b>", latex=r"\frac{<a>}{<b>}",
    binds=PRODUCT, needs=(PRODUCT, POWER), latex_needs=(SUM, SUM),
)
neg = primitive(
    "neg", operator.neg, lambda y, a: -1.0,
    array=np.negative, formula="-a", text="-<a>", latex="-<a>", binds=SUM, needs=(PRODUCT,),
)
absolute = primitive(
    "abs", abs, lambda y, a: sign(a),
    array=np.absolute, text="|<a>|", latex=r"\left|<a>\right|", needs=(SUM,),
)
exp = primitive("exp", math.exp, lambda y, a: y, array=np.exp, latex=r"\exp\left(<a>\right)")
log = primitive("log", math.log, lambda y, a: 1.0 / a, array=np.log, latex=r"\log\left(<a>\right)")
square = primitive(
    "square", lambda a: a * a, lambda y, a: 2.0 * a,
    array=np.square, formula="a * a", text="<a>²", latex="{<a>}^{2}", binds=POWER, needs=(ATOM,),
)
sqrt = primitive("sqrt", math.sqrt, lambda y, a: 0.5 / y, array=np.sqrt, text="√(<a>)", latex=r"\sqrt{<a>}")
power: Primitive = primitive(
    "pow", math.pow, _power_slope, lambda y, a, b: y * log(a + (y == 0.0)),  # 0 ** b is flat in b > 0
    array=np.power, formula="a ** b", text="<a>^<b>", latex="{<a>}^{<b>}",
    binds=POWER, needs=(ATOM, ATOM), latex_needs=(ATOM, SUM), becomes={("right", 2.0): square},
)
sigmoid: Primitive = primitive(
    "sigmoid", _sigmoid, lambda y, a: y * sigmoid(-a),  # y * (1 - y) would cancel for large a
    array=_sigmoid_array, formula="1 / (1 + exp(-a))", text="σ(<a>)", latex=r"\sigma\left(<a>\right)",
)
# 1 - y*y would cancel for large |a|; this form, 1/cosh(a)**2 in two factors, is smooth to any order.
tanh = primitive(
    "tanh", math.tanh, lambda y, a: 4.0 * sigmoid(2.0 * a) * sigmoid(-2.0 * a),
    array=np.tanh, latex=r"\tanh\left(<a>\right)",
)
relu = primitive("relu", _relu, lambda y, a: step(a), array=lambda a: np.maximum(a, 0.0), formula="max(a, 0)")
leaky_relu = primitive(
    "leaky_relu", lambda a: 0.01 * a if a <= 0.0 else a, lambda y, a: 0.01 + 0.99 * step(a),
    array=lambda a: np.where(np.greater(a, 0), a, 0.01 * np.asarray(a)), formula="max(a, 0.01 * a)",
)
softplus = primitive(
    "softplus", _softplus, lambda y, a: sigmoid(a),
    # np.logaddexp(a, 0) would warn of nan
    array=lambda a: np.maximum(a, 0.0) + np.log1p(np.exp(-np.abs(a))), formula="log(1 + exp(a))",
)
maximum = primitive(
    "maximum", _maximum, lambda y, a, b: exceeds(a, b), lambda y, a, b: exceeds(b, a),
    array=np.maximum, formula="max(a, b)", text="max(<a>, <b>)", latex=r"\max\left(<a>, <b>\right)",
    becomes={("left", 0.0): relu, ("right", 0.0): relu},
)
