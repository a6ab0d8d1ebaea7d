"""Forward kernels of the rows for compiled code, one number at a time: what neither Python's math nor a formula has.

They are those of autodiff/kernels.py without exceptions: where a kernel there raises, one here answers inf or nan, and
leaves the processor's flag for it, which the caller asks for. Functions whose name begins with fast_ have no branch and
call nothing, so that the compiler makes vector code of them; they hold where `fast_..._holds` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from autodiff.kernels import SELU_ALPHA, SELU_SCALE, SLOPE_SERIES, SQRT_HALF

SERIES = tuple(SLOPE_SERIES)

# of the C library
clear_flags = types.ExternalFunction("feclearexcept", types.int32(types.int32))
raised_flags = types.ExternalFunction("fetestexcept", types.int32(types.int32))
c_cbrt = types.ExternalFunction("cbrt", types.float64(types.float64))
c_exp2 = types.ExternalFunction("exp2", types.float64(types.float64))
c_fmod = types.ExternalFunction("fmod", types.float64(types.float64, types.float64))
c_remainder = types.ExternalFunction("remainder", types.float64(types.float64, types.float64))

row = njit(error_model="numpy", inline="never")


@row
def cbrt(a: Any) -> Any:
    """As autodiff.kernels.cbrt."""
    if a == 0.0 or a - a != 0.0:
        return a
    fraction, exponent = math.frexp(a)
    x = math.ldexp(fraction, exponent % 3)
    y = c_cbrt(x)
    return math.ldexp(y - (y * y * y - x) / (3.0 * y * y), exponent // 3)


@row
def sigmoid(a: Any) -> Any:
    """1 / (1 + exp(-a)) without overflow."""
    e = math.exp(-abs(a))
    return (1.0 if a >= 0.0 else e) / (1.0 + e)


@row
def softplus(a: Any) -> Any:
    """log(1 + exp(a)) without overflow or cancellation."""
    return (0.0 if a < 0.0 else a) + math.log1p(math.exp(-abs(a)))


@row
def logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)) without overflow; nan, with its flag, for two equal infinities: the caller asks NumPy."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


@row
def floordiv(a: Any, b: Any) -> Any:
    """floor(a / b) by the remainder, which is exact; a / b where b is 0, and nan for an infinite a, as NumPy's."""
    if b == 0.0:
        return a / b
    rest = c_fmod(a, b)
    quotient = (a - rest) / b - (1.0 if rest != 0.0 and (b < 0.0) != (rest < 0.0) else 0.0)
    below = np.floor(quotient)
    if quotient == 0.0:
        return math.copysign(0.0, a / b)
    return below + (1.0 if quotient - below > 0.5 else 0.0)


@row
def elu(a: Any) -> Any:
    """a for a > 0, else exp(a) - 1."""
    return a if a > 0.0 else math.expm1(a)


@row
def selu(a: Any) -> Any:
    """As autodiff.kernels.selu."""
    return SELU_SCALE * (a if a > 0.0 else SELU_ALPHA * math.expm1(a))


@row
def gelu(a: Any) -> Any:
    """As autodiff.kernels.gelu."""
    a = -100.0 if a < -100.0 else a
    return 0.5 * a * math.erfc(-a * SQRT_HALF)


@row
def silu(a: Any) -> Any:
    """As autodiff.kernels.silu."""
    if a >= -700.0:
        return a * sigmoid(a)
    a = -2000.0 if a < -2000.0 else a
    root = math.exp(0.5 * a)
    return a * root * root


@row
def sinpi(a: Any) -> Any:
    """sin(pi a), with exact zeros."""
    x = c_remainder(a, 2.0)
    return math.sin(math.pi * (x if abs(x) <= 0.5 else math.copysign(1.0, x) - x))


@row
def cospi(a: Any) -> Any:
    """cos(pi a), with exact zeros."""
    x = abs(c_remainder(a, 2.0))
    return math.cos(math.pi * x) if x < 0.25 else math.sin(math.pi * (0.5 - x))


@row
def sinc(a: Any) -> Any:
    """As autodiff.kernels.sinc."""
    return sinpi(a) / math.pi / a if abs(a) > 1e-9 else 1.0 + 0.0 * a


@row
def sinc_slope(a: Any) -> Any:
    """As autodiff.kernels.sinc_slope."""
    if abs(a) > 0.5:
        return (cospi(a) - sinc(a)) / a
    total = 0.0
    for coefficient in SERIES:
        total = total * (a * a) + coefficient
    return a * total


# --- what an instruction other than a row does: k rows of n lanes; e and t say more, see lanes.py ---

vector = njit(error_model="numpy")
free_order = njit(error_model="numpy", fastmath={"contract", "reassoc"})  # sums may be taken in any order
U = np.uint64  # places that are never negative, as NumPy's may be, make the shorter code


@vector
def copy(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d = a, written out."""
    for r in range(k):
        _copied(m, n, d + r * ds, a + r * ar, al)


@vector
def _copied(m, n, d, a, al):
    D, A = U(d), U(a)
    if al:
        for lane in range(U(n)):
            m[D + lane] = m[A + lane]
    else:
        x = m[A]
        for lane in range(U(n)):
            m[D + lane] = x


@vector
def _added(m, n, d, a, al):
    D, A = U(d), U(a)
    if al:
        for lane in range(U(n)):
            m[D + lane] += m[A + lane]
    else:
        x = m[A]
        for lane in range(U(n)):
            m[D + lane] += x


@vector
def _zero(m, n, d):
    D = U(d)
    for lane in range(U(n)):
        m[D + lane] = 0.0


@vector
def take(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d.flat[i] = a.flat[idx[e + i]]."""
    for i in range(k * n):
        m[d + i] = m[a + idx[e + i]]


@vector
def rows(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[r] = a[idx[e + r]]."""
    for r in range(k):
        _copied(m, n, d + r * ds, a + idx[e + r] * ar, al)


@vector
def addrows(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[idx[e + r]] += a[r] for the t rows of a, from d = 0."""
    for r in range(k):
        _zero(m, n, d + r * ds)
    for r in range(t):
        _added(m, n, d + idx[e + r] * ds, a + r * ar, al)


@vector
def fill(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d = 0."""
    _zero(m, k * n, d)


@vector
def scatter(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d.flat[idx[e + i]] += a.flat[i]."""
    i = e
    for r in range(k):
        for lane in range(n):
            m[d + idx[i]] += m[a + r * ar + lane * al]
            i += 1


@vector
def sum_rows(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[0] = the sum of the t rows of a."""
    _copied(m, n, d, a, al)
    for r in range(1, t):
        _added(m, n, d, a + r * ar, al)


@free_order
def _sum(m, n, a):
    total, A = 0.0, U(a)
    for lane in range(U(n)):
        total += m[A + lane]
    return total


@free_order
def _dot(m, n, a, b):
    total, A, B = 0.0, U(a), U(b)
    for lane in range(U(n)):
        total += m[A + lane] * m[B + lane]
    return total


@vector
def sum_lanes(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[r] += the sum over the lanes of a[r]."""
    for r in range(k):
        m[d + r] += _sum(m, n, a + r * ar) if al else n * m[a + r * ar]


@vector
def dot(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[r] += the sum over the lanes of a[r] b[r]."""
    for r in range(k):
        p, q = a + r * ar, b + r * br
        if al and bl:
            m[d + r] += _dot(m, n, p, q)
        elif al:
            m[d + r] += _sum(m, n, p) * m[q]
        elif bl:
            m[d + r] += _sum(m, n, q) * m[p]
        else:
            m[d + r] += n * (m[p] * m[q])


@free_order
def _plus_four(m, n, d, c0, c1, c2, c3, b, br):
    D, B, S = U(d), U(b), U(br)
    for lane in range(U(n)):
        m[D + lane] += (c0 * m[B + lane] + c1 * m[B + S + lane]) + (
            c2 * m[B + S + S + lane] + c3 * m[B + S + S + S + lane]
        )


@free_order
def _plus_one(m, n, d, c, b):
    D, B = U(d), U(b)
    for lane in range(U(n)):
        m[D + lane] += c * m[B + lane]


@vector
def matmul(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[r] = the sum over j < t of a[r, j] b[j]; a in steps of ar and al, the lanes of b next to each other."""
    for r in range(k):
        _zero(m, n, d + r * ds)
        c, j = a + r * ar, 0
        while j + 4 <= t:
            _plus_four(m, n, d + r * ds, m[c], m[c + al], m[c + 2 * al], m[c + 3 * al], b + j * br, br)
            c += 4 * al
            j += 4
        while j < t:
            _plus_one(m, n, d + r * ds, m[c], b + j * br)
            c += al
            j += 1


@vector
def matmul_t(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[r, j] += the sum over the lanes of a[r] b[j], for j < t."""
    for r in range(k):
        for j in range(t):
            m[d + r * ds + j] += _dot(m, n, a + r * ar, b + j * br)


@vector
def matmul_any(m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t):
    """d[r, lane] = the sum over j < t of a[r, j] b[j, lane], whatever their steps."""
    for r in range(k):
        for lane in range(n):
            total = 0.0
            for j in range(t):
                total += m[a + r * ar + j * al] * m[b + j * br + lane * bl]
            m[d + r * ds + lane] = total


# --- without branches ---


@intrinsic
def bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float as a whole number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def of_bits(typing_context: Any, i: Any) -> Any:
    """The float with these bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # their sum is log 2; HIGH ends in zeros
ROUNDING = 6755399441055744.0  # 1.5 * 2**52: added to a number, it leaves the nearest whole number in the last bits
ONE = 0x3FF0000000000000  # the bits of 1.0
ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
TAYLOR = tuple(1.0 / math.factorial(k) for k in range(13, 1, -1))  # of exp; for |r| < 0.35 the rest is below 1e-17
ATANH = tuple(2.0 / (2 * k + 1) for k in range(10, 0, -1))  # log(1 + f) = 2 atanh(f / (2 + f))


@vector
def within(m: Any, a: Any, n: Any, limit: Any) -> Any:
    """Whether |x| < limit for n numbers from place a on; False where one is nan."""
    bad, A = 0, U(a)
    for lane in range(U(n)):
        bad += 0 if abs(m[A + lane]) < limit else 1
    return bad == 0


@vector
def exp_holds(m: Any, a: Any, n: Any) -> Any:
    """Whether fast_exp is good for all of them."""
    return within(m, a, n, 708.0)


@vector
def fast_expm1_parts(x: Any) -> Any:
    """(2**n, exp(r) - 1) of x = n log 2 + r, |r| < 0.35."""
    shifted = x * LOG2_E + ROUNDING
    n = shifted - ROUNDING
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    total = 0.0
    for coefficient in TAYLOR:
        total = total * r + coefficient
    return of_bits((bits(shifted) << 52) + ONE), r + r * r * total


@vector
def fast_exp(x: Any) -> Any:
    """exp(x) to an ulp."""
    power, part = fast_expm1_parts(x)
    return power + power * part


@vector
def tanh_holds(m: Any, a: Any, n: Any) -> Any:
    """Whether fast_tanh is good for all of them."""
    return within(m, a, n, 350.0)


@vector
def fast_tanh(x: Any) -> Any:
    """tanh(x) to 3 ulps, as -m / (2 + m) with m = exp(-2 |x|) - 1."""
    power, part = fast_expm1_parts(-2.0 * abs(x))
    m = power * part + (power - 1.0)
    return math.copysign(m / (2.0 + m), x)


@vector
def log_holds(m: Any, a: Any, n: Any) -> Any:
    """Whether fast_log is good for all of them: normal numbers above 0."""
    bad, A = 0, U(a)
    for lane in range(U(n)):
        bad += 0 if 3e-308 < m[A + lane] < 1e308 else 1
    return bad == 0


@vector
def fast_log(x: Any) -> Any:
    """log(x) to an ulp: x = 2**n (1 + f), and with s = f / (2 + f) log(1 + f) = 2 atanh(s) = f - f²/2 + s (f²/2 + R).

    The arrangement, in which f is exact and all else is small beside it, is that of Sun's fdlibm, e_log.c.
    """
    n = (bits(x) - ROOT_HALF) >> 52
    f = of_bits(bits(x) - (n << 52)) - 1.0
    s = f / (2.0 + f)
    z, half = s * s, 0.5 * f * f
    total = 0.0
    for coefficient in ATANH:
        total = total * z + coefficient
    k = float(n)
    return k * LN2_HIGH - ((half - (s * (half + z * total) + k * LN2_LOW)) - f)
