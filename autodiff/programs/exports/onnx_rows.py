"""The rows of the table in operators of ONNX that have kernels for float64 in onnxruntime.

For float64, onnxruntime's CPU kernels lack Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh, Erf, Softplus, Elu,
Selu and LeakyRelu, and ONNX has no expm1, log1p, cbrt, hypot or sign bit at all: these are composed of what there is,
as functions of the model, good to 1e-14 of the result, the tangent near its poles to 1e-13. An arc tangent starts from
that of float32, and one step with sine and cosine in float64 makes its error 1e-21.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from autodiff.kernels import SELU_ALPHA, SELU_SCALE, SLOPE_SERIES, SQRT_HALF
from autodiff.primitives import LOG_2, LOG_10, PI, SQRT_PI, TABLE, Primitive

# What ONNX has under a name of its own
NATIVE: dict[Primitive, str] = {
    TABLE[name]: operator
    for name, operator in {
        "alias": "Identity", "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "abs": "Abs",
        "floor": "Floor", "ceil": "Ceil", "round": "Round", "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "sin": "Sin",
        "cos": "Cos", "tanh": "Tanh", "pow": "Pow", "reciprocal": "Reciprocal",
    }.items()
}  # fmt: skip

# Chebyshev coefficients of (1 + 2a) exp(a^2) erfc(a) in t = (a - 3.75) / (a + 3.75), a >= 0, computed to 40 digits
# from 60 values; what is left out is below 3e-18.
ERFC = (
    1.1775789345674017, -0.004590054580646478, -0.08424913336651792, 0.05920993999819189, -0.026658668435305753,
    0.009074997670705265, -0.002413163540417608, 0.0004907758365258086, -6.916973302501207e-05, 4.13902798607301e-06,
    7.74038306619849e-07, -2.1886401049234397e-07, 1.076499946567091e-08, 4.521959811218287e-09,
    -7.754400208831351e-10, -6.318088340886684e-11, 2.86879501093067e-11, 1.9455868545777347e-13,
    -9.65469674843344e-13, 3.25254814814874e-14, 3.3478119482868056e-14, -1.864562880419313e-15,
    -1.2507950530688648e-15, 7.418235256624044e-17, 5.068148904796111e-17,
)  # fmt: skip


class Term:
    """A tensor of a model that is being written; operators on it write nodes.

    emit: (operator, names of its inputs, attributes) -> the name of its output; constant: number -> its name.
    """

    __slots__ = ("constant", "emit", "name")

    def __init__(self, emit: Callable[..., str], constant: Callable[[float], str], name: str) -> None:
        self.emit, self.constant, self.name = emit, constant, name

    def op(self, operator: str, *others: Any, **attributes: Any) -> Term:
        """The operator of this and the others."""
        names = [other.name if isinstance(other, Term) else self.constant(other) for other in others]
        return Term(self.emit, self.constant, self.emit(operator, [self.name, *names], **attributes))

    def __add__(self, other: Any) -> Term:
        return self.op("Add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Term:
        return self.op("Sub", other)

    def __rsub__(self, other: float) -> Term:
        return self.like(other) - self

    def __mul__(self, other: Any) -> Term:
        return self.op("Mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Term:
        return self.op("Div", other)

    def __rtruediv__(self, other: float) -> Term:
        return self.like(other) / self

    def __neg__(self) -> Term:
        return self.op("Neg")

    def __abs__(self) -> Term:
        return self.op("Abs")

    def __lt__(self, other: Any) -> Term:
        return self.op("Less", other)

    def __le__(self, other: Any) -> Term:
        return self.op("LessOrEqual", other)

    def __gt__(self, other: Any) -> Term:
        return self.op("Greater", other)

    def __ge__(self, other: Any) -> Term:
        return self.op("GreaterOrEqual", other)

    def __and__(self, other: Term) -> Term:
        return self.op("And", other)

    def __or__(self, other: Term) -> Term:
        return self.op("Or", other)

    def equals(self, other: Any) -> Term:
        """Whether it is equal."""
        return self.op("Equal", other)

    def like(self, number: float) -> Term:
        """A number as a term."""
        return Term(self.emit, self.constant, self.constant(number))

    def where(self, a: Any, b: Any) -> Term:
        """a where this holds, else b."""
        return self.op("Where", a, b)

    def is_nan(self) -> Term:
        """Whether it is nan."""
        return self.op("IsNaN")

    def is_inf(self) -> Term:
        """Whether it is inf or -inf."""
        return self.op("IsInf")

    def in_float32(self) -> Term:
        """Rounded to float32."""
        return self.op("Cast", to=FLOAT)

    def in_float64(self) -> Term:
        """As float64; 1.0 and 0.0 for true and false."""
        return self.op("Cast", to=DOUBLE)


FLOAT, DOUBLE = 1, 11  # TensorProto's numbers for them


def _exp(a: Term) -> Term:
    return a.op("Exp")


def _log(a: Term) -> Term:
    return a.op("Log")


def _sqrt(a: Term) -> Term:
    return a.op("Sqrt")


def _sin(a: Term) -> Term:
    return a.op("Sin")


def _cos(a: Term) -> Term:
    return a.op("Cos")


def sign_bit(a: Term) -> Term:
    """Whether a is negative, -0.0 included."""
    return (a < 0.0) | (a.equals(0.0) & ((1.0 / a) < 0.0))


def _with_sign(y: Term, a: Term) -> Term:
    """|y| with the sign of a, for a of no consequence at 0."""
    return (a < 0.0).where(-y, y)


def _expm1(a: Term) -> Term:
    # (u - 1) / log u: the errors of u = exp(a) cancel (W. Kahan)
    u = _exp(a)
    w = u - 1.0
    return (abs(a) > 40.0).where(w, u.equals(1.0).where(a, w * a / _log(u)))


def _log1p(a: Term) -> Term:
    u = a + 1.0
    d = u - 1.0
    return (a > 1e16).where(_log(u), d.equals(0.0).where(a, _log(u) * a / d))


def _cbrt(a: Term) -> Term:
    x = abs(a)
    y = x.op("Pow", 1.0 / 3.0)
    better = y - (y - x / (y * y)) / 3.0
    return (a.equals(0.0) | a.is_inf()).where(a, _with_sign(better, a))


def _hypot(a: Term, b: Term) -> Term:
    x, y = abs(a), abs(b)
    more = x > y
    large, small = more.where(x, y), more.where(y, x)
    ratio = small / large
    found = (large + small).equals(0.0).where(large, large * _sqrt(ratio * ratio + 1.0))
    return (a.is_inf() | b.is_inf()).where(math.inf, found)


def _sinh(a: Term) -> Term:
    x = abs(a)
    e, h = _expm1(x), _exp(0.5 * x)
    return _with_sign((x < 20.0).where(0.5 * (e + e / (e + 1.0)), 0.5 * h * h), a)


def _cosh(a: Term) -> Term:
    h = _exp(0.5 * abs(a))
    return 0.5 * h * h + 0.5 / (h * h)


def _arctan(a: Term) -> Term:
    y = a.in_float32().op("Atan").in_float64()
    s, c = _sin(y), _cos(y)
    return a.is_inf().where(_with_sign(a.like(0.5 * PI), a), y + (a * c - s) / (c + a * s))


def _arctan2(a: Term, b: Term) -> Term:
    steep = (a.is_inf() & b.is_inf()).where(0.25 * PI, _arctan(abs(a) / abs(b)))
    angle = (a.equals(0.0) & b.equals(0.0)).where(0.0, steep)
    angle = sign_bit(b).where(PI - angle, angle)
    return sign_bit(a).where(-angle, angle)


def _arcsinh(a: Term) -> Term:
    x = abs(a)
    y = _log1p(x + x * x / (_sqrt(x * x + 1.0) + 1.0))
    return _with_sign((x > 1e8).where(_log(x) + LOG_2, y), a)


def _arccosh(a: Term) -> Term:
    t = a - 1.0
    return (a > 1e8).where(_log(a) + LOG_2, _log1p(t + _sqrt(t) * _sqrt(a + 1.0)))


def _arctanh(a: Term) -> Term:
    x = abs(a)
    return _with_sign(0.5 * _log1p(2.0 * x / (1.0 - x)), a)


def _mod(a: Term, b: Term) -> Term:
    r = a.op("Mod", b, fmod=1)
    opposite = ((r < 0.0) & (b > 0.0)) | ((r > 0.0) & (b < 0.0))
    return opposite.where(r + b, r)


def _floor_divide(a: Term, b: Term) -> Term:
    opposite = ((a < 0.0) & (b > 0.0)) | ((a > 0.0) & (b < 0.0))
    beyond = b.is_inf() & (abs(a) < math.inf)
    whole = beyond.where(opposite.where(-1.0, a.like(0.0)), ((a - _mod(a, b)) / b).op("Round"))
    return b.equals(0.0).where(a / b, whole)


def _positive(a: Term) -> Term:
    return (a <= 0.0).where(0.0, a)


def _negative(a: Term) -> Term:
    return (a >= 0.0).where(0.0, a)


def _step(a: Term) -> Term:
    return (a > 0.0).where(1.0, (a <= 0.0).where(0.0, a))


def _exceeds(a: Term, b: Term) -> Term:
    return (a > b).where(1.0, (a < b).where(0.0, a.equals(b).where(0.5, a.like(math.nan))))


def _maximum(a: Term, b: Term) -> Term:
    return ((a >= b) | a.is_nan()).where(a, b)


def _minimum(a: Term, b: Term) -> Term:
    return ((a <= b) | a.is_nan()).where(a, b)


def _sigmoid(a: Term) -> Term:
    e = _exp(-abs(a))
    return (a < 0.0).where(e, 1.0) / (e + 1.0)


def _softplus(a: Term) -> Term:
    return _positive(a) + _log1p(_exp(-abs(a)))


def _logaddexp(a: Term, b: Term) -> Term:
    larger = (a > b).where(a, b)
    return a.equals(b).where(a + LOG_2, larger + _log1p(_exp(-abs(a - b))))


def _silu(a: Term) -> Term:
    low = (a < -2000.0).where(-2000.0, a)
    root = _exp(0.5 * low)  # exp(a) is subnormal where a * exp(a) is not yet
    return (a < -700.0).where(low * root * root, low * _sigmoid(low))


def _erfc_of_positive(a: Term) -> Term:
    a = (a > 30.0).where(30.0, a)
    t = 2.0 * (a - 3.75) / (a + 3.75)
    b, after = a.like(ERFC[-1]), a.like(0.0)
    for coefficient in ERFC[-2:0:-1]:
        b, after = t * b - after + coefficient, b
    series = 0.5 * t * b - after + ERFC[0]
    head = a.in_float32().in_float64()  # its square is exact
    return series / (2.0 * a + 1.0) * _exp(-(head * head)) * _exp((head - a) * (head + a))


def _erfc(a: Term) -> Term:
    y = _erfc_of_positive(abs(a))
    return (a < 0.0).where(2.0 - y, y)


def _erf(a: Term) -> Term:
    small = (abs(a) < 1.0).where(a, 0.0)
    square, total = small * small, a.like(0.0)
    for n in range(18, -1, -1):
        total = total * square + (-1.0) ** n * 2.0 / (SQRT_PI * math.factorial(n) * (2 * n + 1))
    return (abs(a) < 1.0).where(small * total, _with_sign(1.0 - _erfc_of_positive(abs(a)), a))


def _gelu(a: Term) -> Term:
    a = (a < -100.0).where(-100.0, a)
    return 0.5 * a * _erfc(-SQRT_HALF * a)


def _half_turns(a: Term) -> Term:
    return a - 2.0 * (0.5 * a).op("Round")  # exact


def _sinpi(a: Term) -> Term:
    x = _half_turns(a)
    return _sin(PI * (abs(x) <= 0.5).where(x, x.op("Sign") - x))


def _cospi(a: Term) -> Term:
    x = abs(_half_turns(a))
    return (x < 0.25).where(_cos(PI * x), _sin(PI * (0.5 - x)))


def _sinc(a: Term) -> Term:
    near = abs(a) <= 1e-9
    return near.where(1.0, _sinpi(a) / PI / near.where(1.0, a))


def _sinc_slope(a: Term) -> Term:
    near = abs(a) <= 0.5
    square, total = near.where(a * a, 0.0), a.like(0.0)
    for coefficient in SLOPE_SERIES:
        total = total * square + coefficient
    return near.where(a * total, (_cospi(a) - _sinc(a)) / near.where(1.0, a))


_BY_NAME: dict[str, Callable[..., Term]] = {
    "sign": lambda a: a.is_nan().where(a, a.op("Sign")), "step": _step, "exceeds": _exceeds, "mod": _mod,
    "floordiv": _floor_divide, "square": lambda a: a * a, "cbrt": _cbrt, "hypot": _hypot, "expm1": _expm1,
    "exp2": lambda a: a.like(2.0).op("Pow", a), "log1p": _log1p, "log2": lambda a: _log(a) / LOG_2,
    "log10": lambda a: _log(a) / LOG_10, "tan": lambda a: _sin(a) / _cos(a),
    "arcsin": lambda a: _arctan(a / _sqrt((1.0 - a) * (1.0 + a))),
    "arccos": lambda a: 2.0 * _arctan(_sqrt((1.0 - a) / (1.0 + a))), "arctan": _arctan, "arctan2": _arctan2,
    "sinh": _sinh, "cosh": _cosh, "arcsinh": _arcsinh, "arccosh": _arccosh, "arctanh": _arctanh,
    "sinc_slope": _sinc_slope, "sinc": _sinc, "sigmoid": _sigmoid, "softplus": _softplus,
    "logsigmoid": lambda a: -_softplus(-a), "logaddexp": _logaddexp, "relu": _positive,
    "leaky_relu": lambda a: (a > 0.0).where(a, 0.01 * a), "maximum": _maximum, "minimum": _minimum,
    "elu": lambda a: (a > 0.0).where(a, _expm1(_negative(a))),
    "selu": lambda a: SELU_SCALE * (a > 0.0).where(a, SELU_ALPHA * _expm1(_negative(a))),
    "erfc": _erfc, "erf": _erf, "gelu": _gelu, "silu": _silu,
}  # fmt: skip
COMPOSED = {TABLE[name]: function for name, function in _BY_NAME.items()}
