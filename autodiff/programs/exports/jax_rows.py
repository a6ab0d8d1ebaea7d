"""The rows of the table for JAX: each a function whose derivatives, to any order, are the table's own rules.

JAX would differentiate a kernel by what it is made of, and choose other slopes at corners: at a tie, at a kink, at the
ends of a domain. XLA on a CPU takes subnormal numbers for zero, and so do these.

Kernels take the module jax.numpy as their first argument: JAX is imported when somebody asks for a row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from autodiff.kernels import SELU_ALPHA, SELU_SCALE, SLOPE_SERIES, SQRT_HALF
from autodiff.primitives import TABLE, Primitive, add, alias, mul, neg, sub
from autodiff.programs.instructions import Symbol

COMPARISONS = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}


def compare(name: str, a: Any, b: Any) -> Any:
    """1.0 where the comparison holds, else 0.0; without slope."""
    import jax.numpy as jnp

    holds = jnp.signbit(a) if name == "signbit" else getattr(jnp, COMPARISONS[name])(a, b)
    return holds.astype(jnp.float64)


def _step(jnp: Any, a: Any) -> Any:
    return jnp.where(jnp.isnan(a), a, jnp.where(a > 0.0, 1.0, 0.0))


def _exceeds(jnp: Any, a: Any, b: Any) -> Any:
    return jnp.where(jnp.isnan(a) | jnp.isnan(b), jnp.nan, jnp.where(a > b, 1.0, jnp.where(a == b, 0.5, 0.0)))


def _mod(jnp: Any, a: Any, b: Any) -> Any:
    r = jnp.fmod(a, b)  # exact, with the sign of a
    r = jnp.where((r != 0.0) & ((r < 0.0) != (b < 0.0)), r + b, r)
    return jnp.where(r == 0.0, jnp.copysign(0.0, b), r)


def _floor_divide(jnp: Any, a: Any, b: Any) -> Any:
    opposite = (a < 0.0) != (b < 0.0)
    beyond = jnp.isinf(b) & jnp.isfinite(a)
    whole = jnp.where(beyond, jnp.where(opposite & (a != 0.0), -1.0, 0.0), jnp.round((a - _mod(jnp, a, b)) / b))
    return jnp.where(b == 0.0, a / b, jnp.where(whole == 0.0, jnp.copysign(0.0, a / b), whole))


def _sigmoid(jnp: Any, a: Any) -> Any:
    e = jnp.exp(-jnp.abs(a))
    return jnp.where(a < 0.0, e, 1.0) / (1.0 + e)


def _softplus(jnp: Any, a: Any) -> Any:
    return jnp.maximum(a, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(a)))


def _silu(jnp: Any, a: Any) -> Any:
    low = jnp.clip(a, -2000.0, -700.0)
    root = jnp.exp(0.5 * low)  # exp(a) is 0 where a * exp(a) is not yet
    return jnp.where(a < -700.0, low * root * root, jnp.maximum(a, -700.0) * _sigmoid(jnp, jnp.maximum(a, -700.0)))


def _gelu(jnp: Any, a: Any) -> Any:
    a = jnp.maximum(a, -100.0)
    return 0.5 * a * _erfc(jnp, -a * SQRT_HALF)


def _elu(jnp: Any, a: Any) -> Any:
    return jnp.where(a > 0.0, a, jnp.expm1(jnp.minimum(a, 0.0)))


def _selu(jnp: Any, a: Any) -> Any:
    return SELU_SCALE * jnp.where(a > 0.0, a, SELU_ALPHA * jnp.expm1(jnp.minimum(a, 0.0)))


def _sinpi(jnp: Any, a: Any) -> Any:
    x = a - 2.0 * jnp.round(0.5 * a)  # exact
    return jnp.sin(math.pi * jnp.where(jnp.abs(x) <= 0.5, x, jnp.copysign(1.0, x) - x))


def _cospi(jnp: Any, a: Any) -> Any:
    x = jnp.abs(a - 2.0 * jnp.round(0.5 * a))
    return jnp.where(x < 0.25, jnp.cos(math.pi * x), jnp.sin(math.pi * (0.5 - x)))


def _sinc(jnp: Any, a: Any) -> Any:
    near = jnp.abs(a) <= 1e-9
    return jnp.where(near, 1.0 + 0.0 * a, _sinpi(jnp, a) / math.pi / jnp.where(near, 1.0, a))


def _sinc_slope(jnp: Any, a: Any) -> Any:
    near = jnp.abs(a) <= 0.5
    square = jnp.where(near, a * a, 0.0)
    total = jnp.zeros_like(a)
    for coefficient in SLOPE_SERIES:
        total = total * square + coefficient
    return jnp.where(near, a * total, (_cospi(jnp, a) - _sinc(jnp, a)) / jnp.where(near, 1.0, a))


def _cbrt(jnp: Any, a: Any) -> Any:
    y = jnp.cbrt(a)
    return jnp.where((a == 0.0) | jnp.isinf(a), a, y)


def _erf(jnp: Any, a: Any) -> Any:
    from jax.lax import erf

    return erf(a)


def _erfc(jnp: Any, a: Any) -> Any:
    from jax.lax import erfc

    return erfc(a)


# Rows that jax.numpy has under a name of its own, and those that it has under theirs
NAMES = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative", "pow": "power"} | {
    name: name for name in (
        "sign", "floor", "ceil", "round", "abs", "sqrt", "hypot", "exp", "expm1", "exp2", "log", "log1p", "log2",
        "log10", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "arcsinh",
        "arccosh", "arctanh", "logaddexp", "maximum", "minimum",
    )
}  # fmt: skip
KERNELS: dict[str, Callable[..., Any]] = {
    "step": _step, "exceeds": _exceeds, "floordiv": _floor_divide, "alias": lambda jnp, a: a, "mod": _mod,
    "reciprocal": lambda jnp, a: 1.0 / a, "square": lambda jnp, a: a * a, "cbrt": _cbrt, "sinc_slope": _sinc_slope,
    "sinc": _sinc, "sigmoid": _sigmoid, "softplus": _softplus, "logsigmoid": lambda jnp, a: -_softplus(jnp, -a),
    "relu": lambda jnp, a: jnp.maximum(a, 0.0), "leaky_relu": lambda jnp, a: jnp.where(a > 0.0, a, 0.01 * a),
    "elu": _elu, "selu": _selu, "erfc": _erfc, "erf": _erf, "gelu": _gelu, "silu": _silu,
}  # fmt: skip
OWN = {TABLE[name]: name for name in (*NAMES, *KERNELS)}
AS_THEY_ARE = frozenset((alias, add, sub, mul, neg))  # JAX's derivatives of them are the table's


class Traced(Symbol):
    """A number or array of JAX's in a rule of the table."""

    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x

    @staticmethod
    def apply_primitive(row: Primitive, *operands: Any) -> Traced:
        """The row, by its function for JAX."""
        return Traced(jax_row(row)(*(_number(x) for x in operands)))

    def _compared(self, name: str, other: Any) -> Traced:
        return Traced(compare(name, self.x, _number(other)))


def _number(x: Any) -> Any:
    import jax.numpy as jnp

    return x.x if isinstance(x, Traced) else jnp.asarray(x, dtype=jnp.float64)


@functools.cache
def jax_row(row: Primitive) -> Callable[..., Any]:
    """The row as a function of JAX arrays that broadcast; NotImplementedError where it is a user's own."""
    if row not in OWN:
        raise NotImplementedError(
            f"the row {row.name!r} is not the table's own, and its kernel is Python of yours, which JAX cannot trace: "
            "write it with rows of the table"
        )
    import jax
    import jax.numpy as jnp

    name = OWN[row]
    forward = getattr(jnp, NAMES[name]) if name in NAMES else functools.partial(KERNELS[name], jnp)
    if row in AS_THEY_ARE:
        return forward

    def with_rules(*xs: Any) -> Any:
        return forward(*xs)

    function: Any = jax.custom_jvp(with_rules)

    def rule(primals: Any, tangents: Any) -> Any:
        y = function(*primals)
        total = None
        for tangent, slope_of in zip(tangents, (row.da, row.db), strict=False):
            if isinstance(tangent, jax.custom_derivatives.SymbolicZero):
                continue  # what does not move is not multiplied by a slope, which may be inf
            slope = slope_of(Traced(y), *map(Traced, primals))
            part = tangent * (slope.x if isinstance(slope, Traced) else slope)
            total = part if total is None else total + part
        return y, jnp.zeros_like(y) if total is None else total

    function.defjvp(rule, symbolic_zeros=True)
    if row.arity == 1:
        return function  # type: ignore[no-any-return]
    return lambda a, b: function(*jnp.broadcast_arrays(a, b))
