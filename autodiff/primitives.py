"""The table: every elementary operation once, with its forward, its local derivatives and how it prints.

Glossary: a, b are the operands of an operation and y is its result; da and db are the *local derivatives*
dy/da and dy/db. A *rule* is a function of (y, a) or (y, a, b) that returns one of them.

A rule uses only + - * / ** and functions of this table, so the same rule runs on floats (gradients), on nodes
(higher derivatives), on arrays, and on symbols (formulas). A *forward* is a kernel for one target: one for floats,
which may raise where mathematics has no answer, and one for NumPy, which follows IEEE 754. Where the float kernel
raises, NumPy's answers instead, with NumPy's warning. Kernels that no library has stand in kernels.py.

Conventions at corners: relu'(0) = 0 and leaky_relu'(0) = 0.01, the slope below 0; |a|'(0) = 0; a tie of maximum or
minimum gives one half to each side; hypot is flat at the origin; a ** 0 is the constant 1 with the derivative 0
everywhere; at a jump (floor, sign, mod) the derivative is that on either side.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import kernels as k
from autodiff.kernels import SELU_ALPHA, SELU_SCALE, SQRT_HALF

LOG_2, LOG_10, PI = math.log(2.0), math.log(10.0), math.pi
SQRT_PI, SQRT_2_PI = math.sqrt(math.pi), math.sqrt(2.0 * math.pi)

# Binding strengths: an operand is printed in brackets when it binds less tightly than its place needs.
SUM, PRODUCT, POWER, ATOM = 1, 2, 3, 4

Rule = Callable[..., Any]


class Primitive:
    """One row of the table; called, it works on floats, arrays and nodes alike.

    Where one operand of two is a constant, the row is *folded*: its node has one parent a and keeps the constant c.
        x - 3   is the row sub.folded["right"]: a = x, c = 3, and its local derivative is da(y, x, 3)
        3 - x   is the row sub.folded["left"]:  a = x, c = 3, and its local derivative is db(y, 3, x)
        x ** 2  is another row altogether: power.becomes["right", 2.0] is square

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
        self.da: Rule = rules[0]
        self.db: Any = rules[1] if len(rules) == 2 else None  # a Rule, or None
        self.formula = formula
        self.text, self.latex = text, latex
        self.binds, self.needs, self.latex_needs = binds, tuple(needs), tuple(latex_needs or needs)
        self.becomes = dict(becomes or {})
        self.constant = constant  # "left" or "right": that operand is a number, kept in the node
        self.source = source or self
        self.arity = len(self.needs)  # the number of operands, folded constants included
        self.two_nodes = len(rules) == 2  # both operands are nodes; otherwise there is one, and perhaps a constant
        self.folded: dict[str, Primitive] = {}  # what is left of the row when that side is a constant
        self.__doc__ = f"{name}: y = {formula}"

    def __repr__(self) -> str:
        folded = f", constant={self.constant!r}" if self.constant else ""
        return f"Primitive({self.name!r}{folded})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _row, (self.name, self.constant)  # a pickled node finds its row again by name

    def __call__(self, *operands: Any) -> Any:
        """y for floats, arrays (elementwise, broadcast) or nodes; a node among the operands records."""
        if len(operands) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} operand(s), got {len(operands)}")
        if type(operands[0]) is float and type(operands[-1]) is float:  # the first of one or two, and the last
            try:
                return self.forward(*operands)  # `on_floats` without a second call: rules come here in every backward
            except (ArithmeticError, ValueError):
                return self.on_floats(*operands)
        if type(operands[0]) is np.ndarray and len(operands) == 1 and operands[0].dtype.kind == "f":
            return self.array(operands[0])
        for operand in operands:
            apply = getattr(type(operand), "apply_primitive", None)
            if apply is not None:
                return apply(self, *operands)
        numbers = []
        for operand in operands:
            if type(operand) is float or (type(operand) is np.ndarray and operand.dtype.kind == "f"):
                numbers.append(operand)
                continue
            array = np.asarray(operand)
            # NumPy would order complex numbers and compare strings; a derivative exists for neither.
            if array.dtype.kind not in "fiub":
                raise TypeError(
                    f"{self.name} takes real numbers, arrays of them or nodes, got {type(operand).__name__} "
                    f"({array.dtype}); make nodes of an object array with scalars(array)"
                )
            # Integers become floats: the reciprocal of the integer 2 is 0 to NumPy, and 2 ** -1 an error.
            numbers.append(operand if array.dtype.kind == "f" else array.astype(float))
        return self.array(*numbers)

    def on_floats(self, *numbers: float) -> float:
        """y for floats: the float kernel's answer or, where it has none, NumPy's (inf or nan, with its warning).

        Raises FloatingPointError, naming the operation and its operands, where np.errstate asks for it.
        """
        try:
            return self.forward(*numbers)
        except (ArithmeticError, ValueError):
            return self._by_ieee(self.array, f"{self.name}{numbers_in_brackets(numbers)}", *numbers)

    def local(self, rule: Rule, y: float, *operands: float) -> float:
        """dy/d(operand) by one of the row's rules, on floats; corners as in `on_floats`."""
        try:
            return float(rule(y, *operands))
        except (ArithmeticError, ValueError):
            where = f"the derivative of {self.name}{numbers_in_brackets(operands)}"
            return self._by_ieee(rule, where, y, *operands)

    def _by_ieee(self, function: Callable[..., Any], where: str, *numbers: float) -> float:
        try:
            return k.ieee_answer(function, self.name, *numbers)
        except FloatingPointError as error:
            raise FloatingPointError(f"{where}: {error}") from None


def numbers_in_brackets(numbers: Sequence[float]) -> str:
    """(1.0, 2.0) without the trailing comma of a tuple of one."""
    return "(" + ", ".join(repr(float(number)) for number in numbers) + ")"


TABLE: dict[str, Primitive] = {}  # name -> row
ON_NEW_ROW: list[Callable[[Primitive], None]] = []  # called with every row that is added from then on
UFUNCS: dict[np.ufunc, Primitive] = {}  # NumPy's universal function -> row


def _arguments_fit(function: Any, count: int) -> bool:
    """Whether a Python function can be called with so many arguments; True for what does not tell."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & 0x04:  # *args
        return True
    return bool(code.co_argcount - len(function.__defaults__ or ()) <= count <= code.co_argcount)


def _row(name: str, constant: str | None) -> Primitive:
    if name not in TABLE:
        raise KeyError(f"the table has no row {name!r}: define that primitive before reading what was made with it")
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
    array     the same on NumPy arrays (default: forward, element by element, with nan for its ValueError and inf
              for its OverflowError, each with NumPy's warning); a ufunc is also recognised when it is called on
              nodes: np.exp(node)
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
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a row's name is an identifier such as 'cube', got {name!r}")
    if name in TABLE:
        raise ValueError(f"the table has a row {name!r} already ({TABLE[name].__doc__}); choose another name")
    if len(rules) not in (1, 2):
        raise ValueError(f"row {name!r}: one rule per operand, for one or two operands, got {len(rules)}")
    letters = ("a", "b")[: len(rules)]
    takes = f"(y, {', '.join(letters)})"
    for function, what in ((forward, "forward"), *((rule, "rule") for rule in rules)):
        expected = len(rules) + (what == "rule")
        if not callable(function):
            raise TypeError(f"row {name!r}: the {what} is a function, got {function!r}")
        if not _arguments_fit(function, expected):
            wanted = takes if what == "rule" else takes.replace("y, ", "")
            came = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
            raise TypeError(f"row {name!r}: its {what} takes {wanted}, got one that takes ({came})")
    if needs is not None and len(needs) != len(rules):
        raise ValueError(f"row {name!r}: needs has one entry per operand, {len(rules)}, got {tuple(needs)}")
    places = ", ".join(f"<{letter}>" for letter in letters)
    upright = name.replace("_", r"\_")
    array = array or k.each(forward, name)
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


def _power_slope(y: Any, a: Any, b: Any) -> Any:
    """d(a**b)/da = b * a**(b - 1), but as b * a**b / a for |b| < 1/2, and so for the constant power b = 0.

    There b - 1 has lost digits of b, which a logarithm of a far from 0 would magnify. From 2**53 = 9.007e15 on it is
    b itself, and even like b, so that powers of a negative a would have the wrong sign.
    """
    rounds = (b > -0.5) * (b < 0.5) + (b < -9e15) + (b > 9e15)
    pole = (a == 0.0) * (b != 0.0)  # there 0**b / 0 is nan, and 0**(b - 1) is right
    divide = rounds * (1.0 - pole)  # 1: as b * a**b / a;  0: as b * a**(b - 1)
    return b * power(a, b - (1.0 - divide)) / (a + (a == 0.0)) ** divide


def _hypot_slope(y: Any, a: Any, b: Any) -> Any:
    """d hypot(a, b)/da = a / hypot(a, b), 0 at the origin; of scaled operands where y overflows or is subnormal."""
    scale = 1.0 - 0.75 * (y > 1e307) + 1e30 * (y < 1e-290)
    return scale * a / (hypot(scale * a, scale * b) + (y == 0.0))


def _sinc_curvature(y: Any, a: Any) -> Any:
    """d(sinc'(a))/da = -pi^2 sinc(a) - 2 y / a, where y / a = -pi^2 / 3 to the last digit for |a| < 1e-8.

    Its error is some ulps of the larger term, which is up to 3 times the result near 0, and more near its zeros.
    Its own derivatives, the third of sinc and higher, lose digits near 0: the third is good to 1e-6 only.
    """
    near = (a > -1e-8) * (a < 1e-8)
    return -(PI * PI) * sinc(a) - 2.0 * (y * (1.0 - near) - near * (PI * PI / 3.0)) / (a * (1.0 - near) + near)


# fmt: off
# --- piecewise constant: their derivative is 0 wherever it exists, and 0 at a jump ------------------------------

sign = primitive("sign", k.sign, lambda y, a: 0.0, array=np.sign)  # 0 at 0
step = primitive(  # 0 at 0
    "step", k.step, lambda y, a: 0.0, array=k.step_array,
    formula="1 if a > 0 else 0", text="[<a> > 0]", latex=r"\left[<a> > 0\right]",
)
exceeds = primitive(  # 1/2 at a tie
    "exceeds", k.exceeds, lambda y, a, b: 0.0, lambda y, a, b: 0.0, array=k.exceeds_array,
    formula="1 if a > b else 0.5 if a == b else 0", text="[<a> > <b>]", latex=r"\left[<a> > <b>\right]",
)
floor = primitive(
    "floor", k.whole(math.floor), lambda y, a: 0.0, array=np.floor,
    text="⌊<a>⌋", latex=r"\left\lfloor <a>\right\rfloor",
)
ceil = primitive(
    "ceil", k.whole(math.ceil), lambda y, a: 0.0, array=np.ceil,
    text="⌈<a>⌉", latex=r"\left\lceil <a>\right\rceil",
)
rint = primitive("round", k.whole(round), lambda y, a: 0.0, array=np.rint, formula="nint(a)")  # at a half, to even
floor_divide = primitive(  # as Python's //; by 0 and at inf as NumPy's
    "floordiv", k.finite_only(operator.floordiv), lambda y, a, b: 0.0, lambda y, a, b: 0.0,
    array=np.floor_divide, formula="floor(a / b)", text="⌊<a> / <b>⌋",
    latex=r"\left\lfloor \frac{<a>}{<b>}\right\rfloor", needs=(PRODUCT, POWER), latex_needs=(SUM, SUM),
)

# --- arithmetic -----------------------------------------------------------------------------------------------

alias = primitive(  # another node for the same number: a function is differentiated by it, and by it alone
    "alias", lambda a: a, lambda y, a: 1.0, array=lambda a: a, formula="a",
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
    "div", k.finite_only(operator.truediv), lambda y, a, b: 1.0 / b, lambda y, a, b: -y / b,
    array=np.true_divide, formula="a / b", text="<a> / <b>", latex=r"\frac{<a>}{<b>}",
    binds=PRODUCT, needs=(PRODUCT, POWER), latex_needs=(SUM, SUM),
)
# The sign is that of b, as with Python's %; by 0 and at inf as NumPy. At a jump the slope in b is that of the piece
# that y lies on: y / b - a / b is -floor(a / b), but for its rounding.
mod = primitive(
    "mod", k.finite_only(operator.mod), lambda y, a, b: 1.0, lambda y, a, b: rint(y / b - a / b),
    array=np.remainder, formula="a - b * floor(a / b)", text="<a> mod <b>", latex=r"<a> \bmod <b>",
    binds=SUM, needs=(POWER, POWER),  # readers do not agree how tightly mod binds
)
neg = primitive(
    "neg", operator.neg, lambda y, a: -1.0,
    array=np.negative, formula="-a", text="-<a>", latex="-<a>", binds=SUM, needs=(PRODUCT,),
)
absolute = primitive(  # slope 0 at 0
    "abs", abs, lambda y, a: sign(a), array=np.absolute, text="|<a>|", latex=r"\left|<a>\right|",
)
reciprocal = primitive(
    "reciprocal", k.finite_only(lambda a: 1.0 / a), lambda y, a: -y * y,
    array=np.reciprocal, formula="1 / a", text="1 / <a>", latex=r"\frac{1}{<a>}",
    binds=PRODUCT, needs=(POWER,), latex_needs=(SUM,),
)
square = primitive(
    "square", k.finite_only(lambda a: a * a), lambda y, a: 2.0 * a,
    array=np.square, formula="a * a", text="<a>²", latex="{<a>}^{2}", binds=POWER, needs=(ATOM,),
)
sqrt = primitive(  # slope inf at 0
    "sqrt", math.sqrt, lambda y, a: 0.5 / y, array=np.sqrt, text="√(<a>)", latex=r"\sqrt{<a>}",
)
cbrt = primitive(  # slope inf at 0
    "cbrt", k.cbrt, lambda y, a: 1.0 / (3.0 * y * y),
    array=np.cbrt, formula="sign(a) * cbrt(abs(a))", text="∛(<a>)", latex=r"\sqrt[3]{<a>}",
)
hypot: Primitive = primitive(  # flat at the origin, a subgradient of the cone
    "hypot", k.finite_only(math.hypot), _hypot_slope, lambda y, a, b: _hypot_slope(y, b, a),
    array=np.hypot, formula="sqrt(a * a + b * b)", text="√(<a>² + <b>²)", latex=r"\sqrt{{<a>}^{2} + {<b>}^{2}}",
    needs=(ATOM, ATOM),
)

# --- powers, exponentials, logarithms -------------------------------------------------------------------------

exp = primitive("exp", math.exp, lambda y, a: y, array=np.exp, latex=r"\exp\left(<a>\right)")
expm1 = primitive("expm1", math.expm1, lambda y, a: exp(a), array=np.expm1)  # exp(a) - 1; y + 1 would cancel
exp2 = primitive(
    "exp2", math.exp2, lambda y, a: LOG_2 * y, array=np.exp2, formula="2 ** a", latex="2^{<a>}", binds=POWER,
)
# The logarithms are -inf at the end of their domain, their slopes inf.
log = primitive("log", math.log, lambda y, a: 1.0 / a, array=np.log, latex=r"\log\left(<a>\right)")
log1p = primitive("log1p", math.log1p, lambda y, a: 1.0 / (1.0 + a), array=np.log1p)  # log(1 + a)
log2 = primitive(
    "log2", math.log2, lambda y, a: (1.0 / LOG_2) / a, array=np.log2, formula="log(a, 2)",
    latex=r"\log_{2}\left(<a>\right)",
)
log10 = primitive(
    "log10", math.log10, lambda y, a: (1.0 / LOG_10) / a, array=np.log10, latex=r"\log_{10}\left(<a>\right)",
)
power: Primitive = primitive(  # a ** 0 is flat in a everywhere, 0 ** b in b > 0
    "pow", math.pow, _power_slope, lambda y, a, b: y * log(a + (y == 0.0)),
    array=np.power, formula="a ** b", text="<a>^<b>", latex="{<a>}^{<b>}",
    binds=POWER, needs=(ATOM, ATOM), latex_needs=(ATOM, SUM), becomes={("right", 2.0): square},
)

# --- circular and hyperbolic functions: nan outside their domain, slopes inf at its ends ------------------------

sin: Primitive = primitive("sin", math.sin, lambda y, a: cos(a), array=np.sin, latex=r"\sin\left(<a>\right)")
cos: Primitive = primitive("cos", math.cos, lambda y, a: -sin(a), array=np.cos, latex=r"\cos\left(<a>\right)")
tan = primitive("tan", math.tan, lambda y, a: 1.0 + y * y, array=np.tan, latex=r"\tan\left(<a>\right)")
arcsin = primitive(  # 1 - a*a would cancel near 1
    "arcsin", math.asin, lambda y, a: 1.0 / sqrt((1.0 - a) * (1.0 + a)), array=np.arcsin, formula="asin(a)",
)
arccos = primitive(
    "arccos", math.acos, lambda y, a: -1.0 / sqrt((1.0 - a) * (1.0 + a)), array=np.arccos, formula="acos(a)",
)
arctan = primitive(  # 1 / (1 + a*a) would underflow early
    "arctan", math.atan, lambda y, a: 1.0 / hypot(1.0, a) / hypot(1.0, a), array=np.arctan, formula="atan(a)",
)
# Twice by the hypotenuse: a*a + b*b would overflow. Where that does too, the slopes, below 6e-309, are 0. At the
# origin, where there are none, nan.
arctan2 = primitive(
    "arctan2", math.atan2,
    lambda y, a, b: b / hypot(a, b) / hypot(a, b), lambda y, a, b: -a / hypot(a, b) / hypot(a, b),
    array=np.arctan2, formula="atan2(a, b)",
)
sinh: Primitive = primitive("sinh", math.sinh, lambda y, a: cosh(a), array=np.sinh)
cosh: Primitive = primitive("cosh", math.cosh, lambda y, a: sinh(a), array=np.cosh)
# 1 - y*y would cancel for large |a|; this form, 1/cosh(a)**2 in two factors, is smooth to any order.
tanh: Primitive = primitive(
    "tanh", math.tanh, lambda y, a: 4.0 * sigmoid(2.0 * a) * sigmoid(-2.0 * a),
    array=np.tanh, latex=r"\tanh\left(<a>\right)",
)
arcsinh = primitive("arcsinh", math.asinh, lambda y, a: 1.0 / hypot(1.0, a), array=np.arcsinh, formula="asinh(a)")
arccosh = primitive(
    "arccosh", math.acosh, lambda y, a: 1.0 / (sqrt(a - 1.0) * sqrt(a + 1.0)), array=np.arccosh, formula="acosh(a)",
)
arctanh = primitive(  # itself inf at its ends
    "arctanh", math.atanh, lambda y, a: 1.0 / ((1.0 - a) * (1.0 + a)), array=np.arctanh, formula="atanh(a)",
)
sinc_slope: Primitive = primitive(  # nan at inf, as sinc
    "sinc_slope", k.sinc_slope, _sinc_curvature,
    array=k.each(k.sinc_slope), formula="-pi * im(hyp1f1(2, 3, j * pi * a)) / 2", text="sinc'(<a>)",
    latex=r"\operatorname{sinc}'\left(<a>\right)",
)
sinc: Primitive = primitive(  # sin(pi a) / (pi a), as in NumPy: 1 at 0, nan at inf; its slope would cancel near 0
    "sinc", k.sinc, lambda y, a: sinc_slope(a), array=k.each(k.sinc), formula="sincpi(a)",
)

# --- activations ----------------------------------------------------------------------------------------------

sigmoid: Primitive = primitive(
    "sigmoid", k.sigmoid, lambda y, a: y * sigmoid(-a),  # y * (1 - y) would cancel for large a
    array=k.sigmoid_array, formula="1 / (1 + exp(-a))", text="σ(<a>)", latex=r"\sigma\left(<a>\right)",
)
softplus = primitive(
    "softplus", k.softplus, lambda y, a: sigmoid(a), array=k.softplus_array, formula="log(1 + exp(a))",
)
logsigmoid = primitive(
    "logsigmoid", lambda a: -k.softplus(-a), lambda y, a: sigmoid(-a),
    array=lambda a: -k.softplus_array(np.negative(a)), formula="-log(1 + exp(-a))",
)
logaddexp = primitive(  # of nan NumPy's warns, so this one does; no slope between two equal infinities: nan
    "logaddexp", k.logaddexp, lambda y, a, b: sigmoid(a - b), lambda y, a, b: sigmoid(b - a),
    array=np.logaddexp, formula="log(exp(a) + exp(b))",
)
relu = primitive(  # slope 0 at 0
    "relu", k.relu, lambda y, a: step(a), array=lambda a: np.maximum(a, 0.0), formula="max(a, 0)",
)
leaky_relu = primitive(  # slope 0.01 at 0
    "leaky_relu", lambda a: 0.01 * a if a <= 0.0 else a, lambda y, a: 0.01 + 0.99 * step(a),
    array=lambda a: np.where(np.greater(a, 0), a, 0.01 * np.asarray(a)), formula="max(a, 0.01 * a)",
)
maximum = primitive(  # slopes 1/2 at a tie, but max(a, 0) is relu
    "maximum", k.maximum, lambda y, a, b: exceeds(a, b), lambda y, a, b: exceeds(b, a),
    array=np.maximum, formula="max(a, b)", text="max(<a>, <b>)", latex=r"\max\left(<a>, <b>\right)",
    becomes={("left", 0.0): relu, ("right", 0.0): relu},
)
minimum = primitive(  # slopes 1/2 at a tie
    "minimum", k.minimum, lambda y, a, b: exceeds(b, a), lambda y, a, b: exceeds(a, b),
    array=np.minimum, formula="min(a, b)", text="min(<a>, <b>)", latex=r"\min\left(<a>, <b>\right)",
)
elu = primitive(
    "elu", k.elu, lambda y, a: exp(minimum(a, 0.0)), array=k.elu_array, formula="a if a > 0 else expm1(a)",
)
selu = primitive(  # at 0 the slope below it
    "selu", k.selu, lambda y, a: SELU_SCALE * (step(a) + SELU_ALPHA * exp(minimum(a, 0.0)) * (1.0 - step(a))),
    array=k.selu_array, formula=f"{SELU_SCALE!r} * (a if a > 0 else {SELU_ALPHA!r} * expm1(a))",
)
erfc: Primitive = primitive(
    "erfc", math.erfc, lambda y, a: (-2.0 / SQRT_PI) * exp(-a * a), array=k.each(math.erfc),
)
erf = primitive("erf", math.erf, lambda y, a: (2.0 / SQRT_PI) * exp(-a * a), array=k.each(math.erf))
# The slope is the normal distribution's function, and a times its density: good to ulps of the larger of them. It is
# nan at inf and -inf (inf * 0).
gelu = primitive(
    "gelu", k.gelu, lambda y, a: 0.5 * erfc(-SQRT_HALF * a) + a * exp(-0.5 * a * a) / SQRT_2_PI,
    array=k.each(k.gelu), formula="a * erfc(-a / sqrt(2)) / 2",
)
silu = primitive(  # a * sigmoid(a); its slope is 0 at -inf, but nan at inf (inf * 0)
    "silu", k.silu, lambda y, a: sigmoid(a) + y * sigmoid(-a), array=k.silu_array, formula="a / (1 + exp(-a))",
)
# fmt: on


# --- choices, written with the rows ---------------------------------------------------------------------------


def clip(a: Any, low: Any = None, high: Any = None) -> Any:
    """min(max(a, low), high), as np.clip: a bound may be None; where they cross, high wins.

    At a bound the slope is that of minimum and maximum: 1/2, but relu's 0 at a lower bound of 0.

    >>> clip(3.0, -1.0, 1.0)
    1.0
    """
    a = a if low is None else maximum(a, low)
    return a if high is None else minimum(a, high)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; only what is chosen is in the graph.

    The gradient of what was not chosen is 0, even where its value is nan: nothing is multiplied by 0.

    >>> where(True, 2.0, 3.0), where(np.array([True, False]), 2.0, 3.0)
    (2.0, array([2., 3.]))
    """
    if np.ndim(condition) == np.ndim(a) == np.ndim(b) == 0:
        return a if condition else b
    return np.where(condition, a, b)


# --- NumPy's universal functions that are no rows, written with the rows ----------------------------------------


def _without_nan(extremum: Primitive) -> Callable[[Any, Any], Any]:
    """The other operand stands in for a nan: so nothing is multiplied by nan, and a tie gives it two halves."""
    return lambda a, b: extremum(where(np.isnan(a), b, a), where(np.isnan(b), a, b))


def _sign_bit(a: Any) -> Any:
    """-1 where a has the sign bit, as -0.0 has, and 1 elsewhere: a number of no slope, which does not widen float32."""
    bit = np.signbit(a)
    return np.where(bit, np.int8(-1), np.int8(1)) if np.ndim(bit) else (-1.0 if bit else 1.0)


def _trunc(a: Any) -> Any:
    return _sign_bit(a) * floor(_sign_bit(a) * a)


def _fmod(a: Any, b: Any) -> Any:  # of |a| and |b| it is mod, to the last digit; by signs, since |a|' is 0 at 0
    return _sign_bit(a) * mod(_sign_bit(a) * a, _sign_bit(b) * b)


# answered by the numbers alone: their results are no real numbers, or change by jumps only
COMPARISONS = frozenset((np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal))
TESTS = frozenset((np.isnan, np.isinf, np.isfinite, np.signbit))

COMPOSITES: dict[np.ufunc, Callable[..., Any]] = {
    np.fabs: absolute,
    np.deg2rad: lambda a: a * (PI / 180.0),
    np.radians: lambda a: a * (PI / 180.0),
    np.rad2deg: lambda a: a * (180.0 / PI),
    np.degrees: lambda a: a * (180.0 / PI),
    np.float_power: power,
    np.logaddexp2: lambda a, b: logaddexp(a * LOG_2, b * LOG_2) / LOG_2,
    np.fmax: _without_nan(maximum),
    np.fmin: _without_nan(minimum),
    np.heaviside: lambda a, b: where(np.equal(a, 0.0), b, step(a)),
    np.copysign: lambda a, b: absolute(a) * _sign_bit(b),
    np.trunc: _trunc,
    np.fmod: _fmod,
    np.divmod: lambda a, b: (floor_divide(a, b), mod(a, b)),
}

# SciPy's universal functions (scipy.special), by name: they come to us only where SciPy is there
SPECIAL: dict[str, Primitive] = {"expit": sigmoid, "log_expit": logsigmoid, "erf": erf, "erfc": erfc}
