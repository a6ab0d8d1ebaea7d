"""Forward kernels that neither Python's math nor NumPy has: on floats, and with _array on NumPy arrays.

A float kernel may raise ArithmeticError or ValueError where the answer is inf or nan; the array kernel is then asked,
which follows IEEE 754 and gives NumPy's warnings. Branches belong here, never into a rule of the table.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

# Klambauer et al., Self-normalizing neural networks, 2017, arXiv:1706.02515, equation 14 and its text
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
SQRT_HALF = math.sqrt(0.5)


def finite_only(function: Callable[..., float]) -> Callable[..., float]:
    """function, which then raises where its result is inf or nan, so that NumPy decides which deserves a warning."""

    def kernel(*operands: float) -> float:
        y = function(*operands)
        if y - y != 0.0:
            raise ArithmeticError
        return y

    return kernel


def each(function: Callable[..., float], name: str | None = None) -> Callable[..., Any]:
    """The float kernel on arrays, element by element and broadcast, for what NumPy has no kernel of its own.

    It answers as NumPy's do: inf or nan with a RuntimeWarning that names it where function raises, FloatingPointError
    where np.errstate asks for it; a number where every operand is one; and nothing for nothing.
    """
    name = name or function.__name__

    def array_kernel(*operands: Any) -> Any:
        arrays = np.broadcast_arrays(*(np.asarray(operand, dtype=float) for operand in operands))
        y = [answer(function, name, *numbers) for numbers in zip(*(array.flat for array in arrays), strict=True)]
        return np.array(y, dtype=float).reshape(arrays[0].shape)[()]

    return array_kernel


def answer(function: Callable[..., float], name: str, *numbers: float) -> float:
    """function of floats, or where it raises, what IEEE 754 answers instead."""
    try:
        return float(function(*map(float, numbers)))
    except (ArithmeticError, ValueError):
        return ieee_answer(function, name, *numbers)


def ieee_answer(function: Callable[..., float], name: str, *numbers: float) -> float:
    """function of NumPy's floats, whose division and power answer inf or nan, with a warning, where Python's raise.

    Where it raises all the same: nan for a ValueError, inf for an OverflowError (which does not tell the sign of
    what was too large), with the warning that NumPy gives, FloatingPointError where np.errstate asks for it.
    """
    try:
        return float(function(*map(np.float64, numbers)))
    except FloatingPointError:  # np.errstate asked for it
        raise
    except OverflowError:
        return _warned(math.inf, "over", f"overflow encountered in {name}")
    except ZeroDivisionError:
        return _warned(math.nan, "divide", f"divide by zero encountered in {name}")
    except (ArithmeticError, ValueError):
        return _warned(math.nan, "invalid", f"invalid value encountered in {name}")


# What NumPy hands to the function of np.seterrcall
NUMPY_FLAGS = {"divide": ("divide by zero", 1), "over": ("overflow", 2), "invalid": ("invalid value", 8)}


def _warned(y: float, kind: str, message: str) -> float:
    """y, after a warning, an exception or nothing, as np.errstate asks for errors of this kind."""
    wanted: str = np.geterr()[kind]  # type: ignore[literal-required]
    if wanted == "raise":
        raise FloatingPointError(message)
    if wanted == "warn":
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    elif wanted == "print":
        print(f"Warning: {message}")
    elif wanted in ("call", "log"):
        handler: Any = np.geterrcall()
        if wanted == "call":
            handler(*NUMPY_FLAGS[kind])
        else:
            handler.write(f"Warning: {message}\n")
    return y


def whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """floor, ceil or round, as a float with the sign of a: ceil(-0.5) is -0.0, as in NumPy."""
    return lambda a: math.copysign(function(a), a)


def cbrt(a: float) -> float:
    """The cube root to 1 ulp: that of the C library, which may err by 3, and a step of Newton's method."""
    if a == 0.0 or a - a != 0.0:
        return a  # 0, inf and nan are their own
    fraction, exponent = math.frexp(a)
    x = math.ldexp(fraction, exponent % 3)  # between 1/2 and 4, where nothing overflows
    y = math.cbrt(x)
    return math.ldexp(y - (y * y * y - x) / (3.0 * y * y), exponent // 3)


def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a)) without overflow."""
    if a >= 0.0:
        return 1.0 / (1.0 + math.exp(-a))
    e = math.exp(a)  # nan comes here too and passes through
    return e / (1.0 + e)


def sigmoid_array(a: Any) -> Any:
    """`sigmoid` on arrays."""
    e = np.exp(-np.abs(a))  # never overflows
    return np.where(np.less(a, 0), e, 1.0) / (1.0 + e)


def relu(a: float) -> float:
    """max(a, 0)."""
    return 0.0 if a <= 0.0 else a  # nan must pass through: nan <= 0 is False


def softplus(a: float) -> float:
    """log(1 + exp(a)) without overflow or cancellation."""
    return max(a, 0.0) + math.log1p(math.exp(-abs(a)))  # max(nan, 0.0) is nan


def softplus_array(a: Any) -> Any:
    """`softplus` on arrays; np.logaddexp(a, 0) would warn of nan."""
    return np.maximum(a, 0.0) + np.log1p(np.exp(-np.abs(a)))


def logaddexp(a: float, b: float) -> float:
    """log(exp(a) + exp(b)) without overflow; raises at inf and nan, where NumPy decides."""
    gap = abs(a - b)
    if gap - gap != 0.0:
        raise ArithmeticError
    return max(a, b) + math.log1p(math.exp(-gap))


def maximum(a: float, b: float) -> float:
    """The larger one, nan if either is."""
    return a if a >= b or a != a else b


def minimum(a: float, b: float) -> float:
    """The smaller one, nan if either is."""
    return a if a <= b or a != a else b


def sign(a: float) -> float:
    """-1, 0 or 1; nan for nan."""
    return 1.0 if a > 0.0 else -1.0 if a < 0.0 else a + 0.0  # nan + 0 is nan, and -0 + 0 is 0


def step(a: float) -> float:
    """1 for a > 0, else 0; nan for nan."""
    return 1.0 if a > 0.0 else 0.0 if a <= 0.0 else a


def step_array(a: Any) -> Any:
    """`step` on arrays: np.heaviside(a, 0.0), at a tenth of its time."""
    y = np.greater(a, 0).astype(getattr(a, "dtype", float))
    unordered = np.isnan(a)
    return np.where(unordered, a, y)[()] if np.logical_or.reduce(unordered, axis=None) else y


def exceeds(a: float, b: float) -> float:
    """1 for a > b, 1/2 for a == b, else 0; nan if either is."""
    return 1.0 if a > b else 0.5 if a == b else 0.0 if a < b else math.nan


def exceeds_array(a: Any, b: Any) -> Any:
    """`exceeds` on arrays."""
    ordered = np.greater(a, b) + 0.5 * np.equal(a, b)
    return np.where(np.isnan(a) | np.isnan(b), np.nan, ordered)


def elu(a: float) -> float:
    """a for a > 0, else exp(a) - 1."""
    return a if a > 0.0 else math.expm1(a)


def elu_array(a: Any) -> Any:
    """`elu` on arrays."""
    return np.where(np.greater(a, 0), a, np.expm1(np.minimum(a, 0.0)))


def selu(a: float) -> float:
    """SELU_SCALE * a for a > 0, else SELU_SCALE * SELU_ALPHA * (exp(a) - 1)."""
    return SELU_SCALE * (a if a > 0.0 else SELU_ALPHA * math.expm1(a))


def selu_array(a: Any) -> Any:
    """`selu` on arrays."""
    return SELU_SCALE * np.where(np.greater(a, 0), a, SELU_ALPHA * np.expm1(np.minimum(a, 0.0)))


def gelu(a: float) -> float:
    """a times the normal distribution function of a; 0 at -inf, its limit."""
    a = max(a, -100.0)  # 0 long before; max(nan, -100.0) is nan
    return 0.5 * a * math.erfc(-a * SQRT_HALF)


def silu(a: float) -> float:
    """a * sigmoid(a); 0 at -inf, its limit."""
    if a >= -700.0:
        return a * sigmoid(a)
    a = max(a, -2000.0)  # 0 long before; max(nan, -2000.0) is nan
    root = math.exp(0.5 * a)  # exp(a) is subnormal where a * exp(a) is not yet
    return a * root * root


def silu_array(a: Any) -> Any:
    """`silu` on arrays."""
    low = np.clip(a, -2000.0, -700.0)
    root = np.exp(0.5 * low)
    return np.where(np.less(a, -700.0), low * root * root, np.maximum(a, -700.0) * sigmoid_array(a))


# pi * a would lose digits. The remainder is exact, and so are the differences from 1 and 1/2 on which the zeros lie.
def sinpi(a: float) -> float:
    """sin(pi a), with exact zeros; raises ValueError at inf."""
    x = math.remainder(a, 2.0)
    return math.sin(math.pi * (x if abs(x) <= 0.5 else math.copysign(1.0, x) - x))


def cospi(a: float) -> float:
    """cos(pi a), with exact zeros; raises ValueError at inf."""
    x = abs(math.remainder(a, 2.0))
    return math.cos(math.pi * x) if x < 0.25 else math.sin(math.pi * (0.5 - x))


def sinc(a: float) -> float:
    """sin(pi a) / (pi a), 1 at 0."""
    # pi a is coarse where it is subnormal
    return sinpi(a) / math.pi / a if abs(a) > 1e-9 else 1.0 + 0.0 * a


# sinc a = sum of (-1)^k (pi a)^2k / (2k+1)! over k: the coefficients of its derivative / a, the smallest first
SLOPE_SERIES = [(-1.0) ** k * 2.0 * k * math.pi ** (2 * k) / math.factorial(2 * k + 1) for k in range(11, 0, -1)]


def sinc_slope(a: float) -> float:
    """The derivative of sinc: (cos(pi a) - sinc(a)) / a, by its series where that would cancel."""
    if abs(a) > 0.5:
        return (cospi(a) - sinc(a)) / a
    total = 0.0
    for coefficient in SLOPE_SERIES:  # what is left out is below 1e-18
        total = total * (a * a) + coefficient
    return a * total
