"""Every row of the table against oracles from outside: mpmath, the complex step, NumPy.

Glossary: a *point* is the tuple of a row's operands as floats; *exact* numbers are mpmath's, far beyond float
precision; an error is counted in *ulps*, units in the last place of the exact number; the *condition number* of
a function at a point says by how much relative errors of the operands come out magnified.

The checks are plain functions of a row, so that a new row is tested by existing, and so that the last section
can plant errors and see them found.
"""

from __future__ import annotations

import ast
import cmath
import functools
import inspect
import itertools
import math
import pickle
import random
import re
import struct
import sys
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.primitives as primitives_module
from autodiff.notation import formula
from autodiff.primitives import TABLE, UFUNCS, Primitive, primitive
from autodiff.scalars import Scalars, scalars
from autodiff.value import Value

ROWS = list(TABLE.values())
ONE = [row for row in ROWS if row.arity == 1]
TWO = [row for row in ROWS if row.arity == 2]


def each(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


# --- points -------------------------------------------------------------------------------------------------

SIZES = [
    5e-324, 1e-300, 1e-160, 1e-17, 1e-8, 0.1, 0.5, 1.0, 2.0, 3.0, 19.0, 37.0, 40.0, 100.0, 300.0, 700.0, 709.0,
    745.0, 1e5, 1e8, 1e154, 1e300,
]  # fmt: skip
NUMBERS = [0.0, -0.0, *SIZES, *(-size for size in SIZES)]
CORNERS = [0.0, -0.0, math.inf, -math.inf, math.nan]


# Into the domain of rows that mean nothing on half of the line or more; the others take any number.
INSIDE = {name: lambda a: a if abs(a) < 1.0 else 0.5 / a for name in ("arcsin", "arccos", "arctanh")}
INSIDE["arccosh"] = lambda a: abs(a) if abs(a) > 1.0 else 1.0 + abs(a)
# Where forms cancel, overflow or branch: ends of domains, zeros, poles, and where kernels change their form.
HARD = {
    "arcsin": [1.0, 1.0 - 2.0**-53, 1e-8 - 1.0, -1.0],
    "arccos": [1.0, 1.0 - 2.0**-53, 1e-8 - 1.0, -1.0],
    "arctanh": [1.0 - 2.0**-53, 1e-8 - 1.0],
    "arccosh": [1.0, 1.0 + 2.0**-52, 1.0 + 1e-8],
    "log": [1.0 - 2.0**-53, 1.0 + 2.0**-52],
    "log1p": [2.0**-53 - 1.0, 1e-8 - 1.0],
    "sin": [math.pi, -1e22],
    "cos": [math.pi / 2, 1e22],
    "tan": [math.pi / 2, 11.0 * math.pi / 2, 1e22],
    "arctan": [1.5e154, 1e155, 1.7e308],
    "sinc": [0.5, 1.0 + 2.0**-52, -1.0 + 2.0**-53, 2.5, 1e15 + 0.125, 1e-9, 2e-9, 3e-308],
    "sinc_slope": [0.5, 0.50001, -0.49999, 1.0 + 2.0**-52, 1.4302966531242027, 1e15 + 0.125, 1e-8, 2e-8, 3e-308],
    "floor": [0.5, -0.5, 1.0 - 2.0**-53, 2.0**52 - 0.5],
    "ceil": [0.5, -0.5, 1.0 + 2.0**-52, 2.0**52 - 0.5],
    "round": [0.5, 0.5 - 2.0**-54, 1.5, 2.5, -3.5, 2.0**52 - 0.5],
    "gelu": [-0.7517915246935645, -1.0, -5.0, -12.0, -26.0, -38.0],
    "silu": [-1.2784645427610738, -36.5, -37.5, -708.5, -730.0],
    "erfc": [5.0, 26.0, 27.0],
    "cbrt": [-8.0, -(2.0**-1022)],
    "reciprocal": [2.0**1023, 2.0**-1023, -(2.0**-1024)],
    "tanh": [22.0, 354.0, 373.0],
    "sinh": [710.4, 711.0],
    "cosh": [710.4, 711.0],
    "expm1": [math.log(2.0), -math.log(2.0), 709.7, -38.0],
}


def inside(row, *point):
    """The point, moved into the row's domain."""
    return tuple(INSIDE.get(row.name, float)(x) for x in point)


def random_numbers(count, seed):
    """Half of them of the size of weights, half of every size a float can have."""
    rng = random.Random(seed)
    ordinary = [rng.gauss(0.0, 3.0) for _ in range(count // 2)]
    return ordinary + [rng.choice((-1, 1)) * 10.0 ** rng.uniform(-320, 305) for _ in range(count - count // 2)]


@functools.cache
def points(row):
    """Finite points: all numbers, or a seeded sample of the pairs with every diagonal and every 1 or 0 in it."""
    numbers = NUMBERS + random_numbers(40, seed=1)
    if row.arity == 1:
        return [inside(row, a) for a in numbers] + [(a,) for a in HARD.get(row.name, ())]
    rng = random.Random(2)
    pairs = [(a, s * a) for a in NUMBERS for s in (1.0, -1.0)]
    pairs += [pair for a in (-1.0, 0.0, 0.5, 1.0, 3.0) for b in NUMBERS for pair in ((a, b), (b, a))]
    return pairs + rng.sample(list(itertools.product(numbers, numbers)), 150)


# --- the oracle ---------------------------------------------------------------------------------------------

# Enough digits for 1e300 + 1e-400 to lose nothing, and for log(1 + exp(-745)).
DIGITS = 800
# The error functions are dear, and no square of a small operand is added to 1 in them: exp(-745), the step from 0 of
# 1e-400, or one of 1e-40 there, and the digits of a float need no more.
FEWER_DIGITS = {"erf(a)": 500, "erfc(a)": 500, "a * erfc(-a / sqrt(2)) / 2": 500}
# Relative, to 1 for larger operands (sin(1e300) has the period 6); squared, it is far below an ulp of a float. Divided
# by 7, so that 1e154 + step is no integer, for which a negative number would have a power.
with mpmath.workdps(DIGITS):
    STEP = mpmath.mpf(10) ** -40 / 7
    STEP_AT_ZERO = mpmath.mpf(10) ** -400  # absolute; what it leaves of a**3 is far below the smallest float
    SMALL_NUDGE = mpmath.mpf(10) ** -12
    SMALL = mpmath.mpf(10) ** -10
    SECOND_STEP, SECOND_STEP_AT_ZERO = mpmath.mpf(10) ** -30, mpmath.mpf(10) ** -20
TOP = mpmath.ldexp(1, 1024)  # where floats end: inf stands for every number from here on
# A difference quotient says nothing of a function that jumps: its derivative by hand, None on a jump.
ON_A_STEP = "0 if a / b != floor(a / b) else None"
DERIVATIVES = {
    "floor": ["0 if a != floor(a) else None"],
    "ceil": ["0 if a != floor(a) else None"],
    "round": ["0 if a != floor(a) + 0.5 else None"],
    "floordiv": [ON_A_STEP, ON_A_STEP],
    "mod": [ON_A_STEP.replace("0", "1"), ON_A_STEP.replace("0", "-floor(a / b)")],
}
SYMMETRIC = {"add", "mul", "maximum", "minimum", "hypot", "logaddexp"}  # the formulas, whatever the kernels do
MPMATH = {name: getattr(mpmath, name) for name in dir(mpmath) if not name.startswith("_")}
ORACLE = MPMATH | {"abs": abs, "max": max, "min": min}


@pytest.fixture(autouse=True)
def precision():
    with mpmath.workdps(DIGITS):
        yield


def exact(row, *point):
    """row.formula in mpmath at a point of any precision; None where it is not a finite real number."""
    if row.name == "arctan2" and 0.0 in point:
        return mpmath.mpf(float(np.arctan2(*map(float, point))))  # mpmath's zeros have no sign; NumPy's have
    return _exact(row.formula, *in_order(row, point))


def exact_derivative(row, position, *point):
    """The derivative of row.formula in the operand at `position`; None outside the domain, at kinks and jumps."""
    if in_order(row, point) != point:
        position, point = 1 - position, point[::-1]
    if row.name in DERIVATIVES:
        return _exact(DERIVATIVES[row.name][position], *point)
    return _exact_derivative(row.formula, position, *point)


def in_order(row, point):
    """The point, or its mirror image where it comes to the same: what is dear is computed once for both."""
    return tuple(sorted(point)) if row.name in SYMMETRIC else point


def condition(row, function, *point):
    """Condition number, at least 1, of function(row, *point), as a function of all operands.

    It is how far the function moves, relative to itself, when its operands move by a relative tiny amount; but a
    subnormal operand by its distance to the next float, in epsilons: it has no digits beyond that, and quotients
    such as a / b may have lost as many.
    """
    point = tuple(map(mpmath.mpf, point))
    here = function(row, *point)
    if not here:
        return 1.0
    total = mpmath.mpf(0)
    for i, x in enumerate(point):
        subnormal = 0 < abs(x) < sys.float_info.min
        nudge, unit = (ulp(x), sys.float_info.epsilon) if subnormal else (x * SMALL_NUDGE, SMALL_NUDGE)
        there = function(row, *(p + nudge * (i == j) for j, p in enumerate(point)))
        if there is not None:
            total += abs(there - here) / abs(here) / unit
    return max(1.0, float(total))


@functools.cache
def compiled(formula, arity):
    return eval(f"lambda {', '.join('ab'[:arity])}: {formula}", dict(ORACLE))


def evaluated(formula, *point):
    try:
        with mpmath.workdps(FEWER_DIGITS.get(formula, DIGITS)):
            y = compiled(formula, len(point))(*map(mpmath.mpf, point))
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    if y is None or isinstance(y, mpmath.mpc) or not mpmath.isfinite(y):
        return None
    return mpmath.mpf(y)


_exact = functools.cache(evaluated)


@functools.cache
def _exact_derivative(formula, position, *point):
    # A central difference; its error, the square of STEP, and the digits it loses, those of STEP, do not matter.
    x = mpmath.mpf(point[position])
    step = min(abs(x), 1) * STEP or STEP_AT_ZERO
    here = _exact(formula, *point)
    if here is None:
        return None
    above, below = (
        evaluated(formula, *(x + shift if i == position else p for i, p in enumerate(point))) for shift in (step, -step)
    )
    if above is None or below is None:
        return None
    largest = max(abs(above), abs(here), abs(below))
    if max(abs(above - here), abs(here - below)) > SMALL * (largest if here else 1):
        return None  # a jump
    right, left = (above - here) / step, (here - below) / step
    if abs(right - left) > SMALL * max(abs(right), abs(left)) and abs(right - left) > STEP_AT_ZERO:
        return None  # a kink
    if not x:
        nearer = evaluated(formula, *(step / 1000 if i == position else p for i, p in enumerate(point)))
        if abs(right) > 1 and abs(nearer - here) / step * 1000 > 2 * abs(right):
            return None  # a vertical tangent
    return (right + left) / 2


def ulp(number):
    """The distance of neighbouring floats around an exact number; for tiny ones, the smallest float."""
    exponent = int(mpmath.frexp(abs(number))[1]) if number else -2000
    return mpmath.ldexp(1, min(max(exponent, -1021), 1024) - 53)


def ulps(found, expected):
    """|found - expected| in ulps of expected; inf counts as the first number too large for a float."""
    found = float(found)
    if math.isnan(found):
        return math.inf
    clamped = max(-TOP, min(TOP, expected))
    found_exactly = math.copysign(1, found) * TOP if math.isinf(found) else mpmath.mpf(found)
    unit = ulp(clamped) if abs(clamped) < TOP else ulp(TOP / 2)
    return float(abs(found_exactly - clamped) / unit)


# --- the checks: the worst error of a row, with its point ------------------------------------------------------

NOTHING = (0.0, None)
# The design promises 4 ulps times the condition number. Each library function errs by less than 1, each operation
# by 1/2, and no kernel has more than four of them in a row. Condition numbers come from the exact function, so
# that a form that cancels is not excused by its own cancellation.
PROMISE = 4.0


def forward_on_floats(row, point):
    return row.on_floats(*point)


def forward_on_arrays(row, point):
    return row.array(*(np.array([x]) for x in point)).item()


def forward_on_nodes(row, point):
    return row(*map(Value, point)).data


def forward_folded_right(row, point):
    return row(Value(point[0]), *point[1:]).data


def forward_folded_left(row, point):
    return row(*point[:-1], Value(point[-1])).data


FORWARDS = [forward_on_floats, forward_on_arrays, forward_on_nodes, forward_folded_right, forward_folded_left]


# These forwards compose what floats can round between: a * erfc(-a / sqrt(2)), where a rounding of the argument of
# erfc is magnified by a**2, and max(a, b) + log1p(...), which is 0 where a and b are not. So they are held to the
# design's promise, 4 ulps times the condition number; all others to 4 ulps, whatever their condition.
# The slope of sinc is a difference with zeros at no special place.
BY_CONDITION = {"gelu", "logaddexp", "sinc_slope"}


def forward_error(row, target=forward_on_floats, points_of=points, until=math.inf):
    """(worst error in ulps, its point) of a forward kernel over the row's domain; the first one beyond `until`."""
    worst = NOTHING
    with np.errstate(all="ignore"):
        for point in points_of(row):
            expected = exact(row, *point)
            if expected is None:
                continue
            error = ulps(target(row, point), expected)
            if error > PROMISE and row.name in BY_CONDITION:  # the condition number is dear, and at least 1
                error /= condition(row, exact, *point)
            worst = max(worst, (error, point), key=lambda pair: pair[0])
            if error > until:
                break
    return worst


def rule_on_floats(row, position, point):
    rule = (row.da, row.db)[position]
    return row.local(rule, row.on_floats(*point), *point)


def rule_on_arrays(row, position, point):
    arrays = [np.array([x]) for x in point]
    rule = (row.da, row.db)[position]
    return np.broadcast_to(rule(row.array(*arrays), *arrays), 1).item()


def rule_on_nodes(row, position, point):
    nodes = list(map(Value, point))
    return plain((row.da, row.db)[position](row(*nodes), *nodes))


def rule_of_edge(row, position, point):
    return row(*map(Value, point)).edges()[position][1]


def rule_of_folded_edge(row, position, point):
    mixed = [Value(x) if i == position else x for i, x in enumerate(point)]
    [(_, local)] = row(*mixed).edges()
    return local


def rule_by_backward(row, position, point):
    nodes = list(map(Value, point))
    row(*nodes).backward()
    return nodes[position].grad


RULES = [rule_on_floats, rule_on_arrays, rule_on_nodes, rule_of_edge, rule_of_folded_edge, rule_by_backward]


def plain(x):
    return x.data if isinstance(x, Value) else x


def small_exponent(row, position, point):
    """Where pow's rule for a meets its own test below: b - 1 is rounded there, and a**(b - 1) may overflow."""
    return row.name == "pow" and position == 0 and 0.0 < abs(point[1]) < 0.5


def overflowing_hypotenuse(row, position, point):
    """Where the hypotenuse overflows, the slopes of arctan2, below 6e-309, are 0: its row says so."""
    return row.name == "arctan2" and math.isinf(math.hypot(*point))


def left_out(row, position, point):
    return small_exponent(row, position, point) or overflowing_hypotenuse(row, position, point)


# As these rows say, their rules are good to ulps of the larger term of a difference, not to ulps of the difference.
LARGER_TERM = {"sinc_slope": "pi * pi * sincpi(a)", "gelu": "a * exp(-a * a / 2) / sqrt(2 * pi)"}


def rule_error(row, position, target=rule_on_floats, points_of=points, skip=left_out, until=math.inf):
    """(worst error, its point) of a local derivative where it exists, in ulps times its condition number there.

    The first one beyond `until`: an error was planted and is found, or was not.
    """
    worst = NOTHING
    with np.errstate(all="ignore"):
        for point in points_of(row):
            if skip(row, position, point):
                continue
            expected = exact_derivative(row, position, *point)
            if expected is None:
                continue
            error = ulps(target(row, position, point), expected)
            if error > PROMISE and row.name in LARGER_TERM:
                larger = max(abs(expected), abs(_exact(LARGER_TERM[row.name], *map(mpmath.mpf, point))))
                error *= float(abs(expected) / larger)
            if error > PROMISE:  # the condition number is dear, and at least 1
                error /= condition(row, lambda row, *x: exact_derivative(row, position, *x), *point)
            worst = max(worst, (error, point), key=lambda pair: pair[0])
            if error > until:
                break
    return worst


@pytest.mark.parametrize("target", FORWARDS, ids=lambda target: target.__name__)
@each(ROWS)
def test_forward_is_exact_to_4_ulps(row, target):
    if row.arity == 1 and target in (forward_folded_left, forward_folded_right):
        target = forward_on_nodes
    sample = points if target in (forward_on_floats, forward_on_arrays) else some_points
    error, point = forward_error(row, target, sample)
    assert error <= PROMISE, f"{row.name}{point} is wrong by {error:.3g} ulps"


@pytest.mark.parametrize("position", [0, 1])
@each(ROWS)
def test_local_derivative_is_exact_to_4_ulps_times_its_condition(row, position):
    if position < row.arity:
        error, point = rule_error(row, position)
        assert error <= PROMISE, f"the derivative {position} of {row.name}{point} is wrong by {error:.3g} ulps"


def some_points(row):
    return points(row)[::5]


@pytest.mark.parametrize("target", RULES[1:], ids=lambda target: target.__name__)
@each(ROWS)
def test_local_derivatives_agree_on_every_target(row, target):
    for position in range(row.arity):
        error, point = rule_error(row, position, target, some_points)
        assert error <= PROMISE, f"the derivative {position} of {row.name}{point} is wrong by {error:.3g} ulps"


@each(ROWS)
def test_rules_on_floats_nodes_and_edges_are_one_computation(row):
    with np.errstate(all="ignore"):
        for point in some_points(row) + list(itertools.product(CORNERS, repeat=row.arity)):
            for position in range(row.arity):
                on_floats = rule_on_floats(row, position, point)
                for target in (rule_on_nodes, rule_of_edge):
                    # float.hex tells -0.0 from 0.0 and calls every nan nan
                    assert float(target(row, position, point)).hex() == on_floats.hex(), (target, point)


@pytest.mark.parametrize(
    "point",
    [(1e-300, -1e-8), (1e300, 1e-8), (1e-300, 1e-17), (1e-17, -0.1), (1e5, 0.1), (5e-324, 1e-17), (5e-324, -1e-160),
     (-2.0, 2.0**53 + 2.0), (-0.5, -(2.0**53)), (-4.7e-215, -3.7e20), (-1.0, 2.0**54)],
    ids=str,
)  # fmt: skip
def test_power_keeps_its_accuracy_where_an_exponent_minus_one_is_rounded(point):
    row = TABLE["pow"]
    error, _ = rule_error(row, 0, points_of=lambda row: [point], skip=lambda *_: False)
    # b - 1 has lost up to half an ulp of 1, which log(a) <= 745 then magnifies; a**(b - 1) may overflow where
    # b * a**(b - 1) does not.
    assert error <= PROMISE, f"d/da a**b at {point} is wrong by {error:.3g} ulps"


# --- a fuzz: points that nobody chose ---------------------------------------------------------------------------


def of_bits(bits):
    return struct.unpack("d", struct.pack("Q", bits))[0]


ANY_FLOAT = st.integers(0, 2**64 - 1).map(of_bits).filter(math.isfinite)  # every size equally often
FLOATS = st.one_of(
    st.floats(-50.0, 50.0), st.floats(allow_nan=False, allow_infinity=False), ANY_FLOAT, st.sampled_from(NUMBERS)
)


@functools.cache
def drawn(strategy):
    """30 pairs of numbers, drawn once: Hypothesis, derandomized, would draw the same ones for every row."""
    found = []

    @settings(deadline=None, derandomize=True, database=None, max_examples=30)
    @given(st.tuples(strategy, strategy))
    def draw(pair):
        found.append(pair)

    draw()
    return found


@each(ROWS)
def test_random_points(row):
    def sample(row):
        return [inside(row, *pair[: row.arity]) for pair in drawn(FLOATS)]

    for target in (forward_on_floats, forward_on_arrays):
        error, point = forward_error(row, target, sample)
        assert error <= PROMISE, f"{row.name}{point} by {target.__name__} is wrong by {error:.3g} ulps"
    for position in range(row.arity):
        for target in (rule_on_floats, rule_on_arrays):
            error, point = rule_error(row, position, target, sample)
            assert error <= PROMISE, (
                f"derivative {position} of {row.name}{point} by {target.__name__}: {error:.3g} ulps"
            )


ANYTHING = st.one_of(st.sampled_from(CORNERS), FLOATS)


@each(ROWS)
def test_random_points_with_inf_and_nan_are_the_same_on_floats_arrays_and_nodes(row):
    for point in (pair[: row.arity] for pair in drawn(ANYTHING)):
        if numpy_departs_from_ieee(row, point):
            continue
        with np.errstate(all="ignore"):
            y = row.on_floats(*point)
            assert float(row(*map(Value, point)).data).hex() == y.hex(), point
            on_arrays = forward_on_arrays(row, point)
            # two libraries' kernels, each good to 4 ulps times a condition number that test_random_points looks at
            if not math.isfinite(y):
                assert np.array_equal(on_arrays, y, equal_nan=True), point
            for position in range(row.arity):
                local = rule_on_floats(row, position, point)
                assert rule_of_edge(row, position, point).hex() == local.hex(), point
                assert rule_of_folded_edge(row, position, point).hex() == local.hex() or row.becomes, point


@each(ROWS)
def test_oracle_has_an_answer_for_most_points(row):
    answers = [exact(row, *point) is not None for point in points(row)]
    # log, sqrt and pow have no real value on half of the line, and less for negative powers of zero
    assert sum(answers) >= 0.4 * len(answers)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "sqrt", "neg", "abs", "square"])
def test_arithmetic_agrees_with_numpy_bit_by_bit(name):
    row = TABLE[name]
    numbers = NUMBERS + random_numbers(60, seed=3) + CORNERS
    ufunc = row.array
    assert isinstance(ufunc, np.ufunc)
    with np.errstate(all="ignore"):
        for point in itertools.product(numbers, repeat=row.arity):
            expected = float(ufunc(*map(np.float64, point)))
            for found in (row.on_floats(*point), row(*map(Value, point)).data):
                if math.isnan(expected):  # the sign of a nan has no meaning
                    assert math.isnan(found), (name, point)
                else:
                    assert struct.pack("d", found) == struct.pack("d", expected), (name, point, found, expected)


# --- a second oracle: the complex step (Squire and Trapp, 1998) ------------------------------------------------

COMPLEX = {name: getattr(cmath, name) for name in dir(cmath) if not name.startswith("_")} | {"__builtins__": {}}
COMPLEX |= {name: getattr(mpmath, name) for name in ("expm1", "log1p", "erf", "erfc", "sincpi")}  # cmath lacks them
SMOOTH_POINTS = [0.3, 0.7, 1.0, 1.9, 2.5]


def complex_step(row, position, *point):
    """Im f(x + ih) / h: no difference is taken, so h can be far below rounding; None if f is not analytic here."""
    h = 1e-200
    shifted = [complex(x, h if i == position else 0.0) for i, x in enumerate(point)]
    try:
        y = eval(row.formula, dict(COMPLEX), dict(zip("ab", shifted, strict=False)))
    except (NameError, TypeError):  # max, abs, sign, a > 0 have no meaning for complex numbers
        return None
    return float(y.imag / h)


@each(ROWS)
def test_local_derivatives_agree_with_the_complex_step(row):
    for point in itertools.product(SMOOTH_POINTS, repeat=row.arity):
        point = inside(row, *point)
        for position in range(row.arity):
            expected = complex_step(row, position, *point)
            if expected is not None:
                # a handful of operations of 1 ulp, their condition numbers below 10 at these points
                assert rule_on_floats(row, position, point) == pytest.approx(expected, rel=1e-14, abs=1e-15)


def analytic(row):
    return complex_step(row, 0, *inside(row, *[0.5] * row.arity)) is not None


def test_complex_step_covers_the_smooth_rows():
    smooth = {row.name for row in ROWS if analytic(row)}
    # Formulas with a comparison, abs, max, floor or a part of a complex number are not analytic where it matters.
    assert {row.name for row in ROWS} - smooth == {
        "sign", "step", "exceeds", "floor", "ceil", "round", "floordiv", "mod", "abs", "relu", "leaky_relu",
        "maximum", "minimum", "elu", "selu", "cbrt", "arctan2", "sinc_slope",
    }  # fmt: skip


# --- second order --------------------------------------------------------------------------------------------


def second_derivative_by_nodes(row, first, second, point):
    """d/d(operand `second`) of the local derivative `first`: the rule run on nodes, then backward."""
    nodes = list(map(Value, point))
    local = (row.da, row.db)[first](row(*nodes), *nodes)
    if not isinstance(local, Value):
        return 0.0  # a rule may answer a constant
    local.backward()
    return nodes[second].grad


def exact_second_derivative(row, first, second, *point):
    point = [mpmath.mpf(x) for x in point]
    step = abs(point[second]) * SECOND_STEP or SECOND_STEP_AT_ZERO
    moved = [[p + s * (i == second) for i, p in enumerate(point)] for s in (step, -step)]
    above, below = (exact_derivative(row, first, *p) for p in moved)
    return None if above is None or below is None else (above - below) / (2 * step)


def second_order_error(row, points_of):
    """(worst error, its point): relative to the sizes of the first and second derivative, whichever is larger."""
    worst = NOTHING
    with np.errstate(all="ignore"):
        for point in points_of(row):
            for first, second in itertools.product(range(row.arity), repeat=2):
                expected = exact_second_derivative(row, first, second, *point)
                here = exact_derivative(row, first, *point)
                if expected is None or here is None:
                    continue
                found = second_derivative_by_nodes(row, first, second, point)
                size = max(abs(expected), abs(here), mpmath.mpf("1e-300"))
                if row.name == "arctan2":  # depends on a / b only: what cancels is of the size of here / hypot(a, b)
                    size = max(size, abs(here) / mpmath.hypot(*point))
                error = float(abs(mpmath.mpf(found) - expected) / size) if math.isfinite(found) else math.inf
                worst = max(worst, (error, point), key=lambda pair: pair[0])
    return worst


def second_order_points(row):
    numbers = [0.0, 1e-8, 0.3, -0.3, 1.0, -1.5, 2.0, 5.0, -20.0, 40.0]
    everywhere = {inside(row, *point) for point in itertools.product(numbers, repeat=row.arity)}
    # the exponent 0 has a test of its own, and so has the third derivative of sinc near 0
    return [
        point
        for point in sorted(everywhere)
        if not (row.name == "pow" and point[1] == 0.0) and not (row.name == "sinc_slope" and 0.0 < abs(point[0]) < 0.1)
    ]


@each(ROWS)
def test_second_derivatives_by_running_rules_on_nodes(row):
    error, point = second_order_error(row, second_order_points)
    # The second derivative is a sum of products that may cancel (tanh'' at 0), each of the size of the first
    # derivative or of the second, and each good to the 4 ulps of its factors times condition numbers up to 40.
    assert error <= 4 * 40 * 3 * sys.float_info.epsilon, f"second derivative of {row.name}{point}: {error:.3g}"


@pytest.mark.parametrize("a", [5e-324, 1e-300, 1e-12, 5e-9, 1.1e-8, 1e-7, 1e-5, 1e-3, 0.05])
def test_third_derivative_of_sinc_near_0_is_as_good_as_the_row_says(a):
    for point in (a, -a):
        found = second_derivative_by_nodes(TABLE["sinc_slope"], 0, 0, (point,))
        exactly = exact_second_derivative(TABLE["sinc_slope"], 0, 0, point)
        assert float(abs(found - exactly)) <= 1e-6


def test_slopes_of_hypot_are_smooth_on_the_axes():
    # d^3 hypot / da db^2 = a (2 b^2 - a^2) / hypot^5, which is -1 / 9 at (3, 0); sin(arctan2(a, |b|)), which is
    # as accurate in its first two derivatives, says 0
    a, b = Value(3.0), Value(0.0)
    y = TABLE["hypot"](a, b)
    third = derivative_node(derivative_node(derivative_node(y, a), b), b)
    assert plain(third) == pytest.approx(-1.0 / 9.0, rel=1e-15)


@pytest.mark.parametrize("a", [0.5, 1.0, 40.0, 1e-300, 1e300])
def test_mixed_derivative_of_power_at_exponent_zero(a):
    # d/db (b * a**(b - 1)) = a**(b - 1) * (1 + b * log(a)), which is 1 / a at b = 0, in either order
    expected = pytest.approx(1.0 / a, rel=1e-15, abs=0.0)
    assert second_derivative_by_nodes(TABLE["pow"], 1, 0, (a, 0.0)) == expected
    assert second_derivative_by_nodes(TABLE["pow"], 0, 1, (a, 0.0)) == expected


def test_second_derivatives_are_looked_at_where_they_are_hard():
    for name in ("tanh", "sigmoid", "softplus"):
        assert exact_second_derivative(TABLE[name], 0, 0, 0.0) is not None
    assert second_derivative_by_nodes(TABLE["tanh"], 0, 0, (0.0,)) == 0.0
    assert second_derivative_by_nodes(TABLE["sigmoid"], 0, 0, (0.0,)) == 0.0
    assert second_derivative_by_nodes(TABLE["softplus"], 0, 0, (0.0,)) == 0.25


@pytest.mark.parametrize("order", range(5))
def test_higher_derivatives_of_tanh_at_zero(order):
    # tanh x = x - x**3/3 + 2 x**5/15 - ...
    x = Value(0.0)
    y = TABLE["tanh"](x)
    derivative = y
    for _ in range(order):
        derivative = derivative_node(derivative, x)
    assert plain(derivative) == pytest.approx([0.0, 1.0, 0.0, -2.0, 0.0][order], abs=1e-14)


def derivative_node(output, x):
    """d(output)/dx as a node, by walking edges forward with the rules run on nodes: five lines of an oracle."""
    if not isinstance(output, Value) or output.op is None:
        return 1.0 if output is x else 0.0
    row = output.op
    data = [output.a] if row.arity == 1 else [output.a, output.b]
    rules = [row.da] if row.db is None else [row.da, row.db]
    return sum(rule(output, *data) * derivative_node(node, x) for rule, node in zip(rules, data, strict=False))


# --- rules on arrays -----------------------------------------------------------------------------------------


@each(TWO)
def test_rules_broadcast(row):
    a, b = np.array([[0.3], [1.7]]), np.array([0.5, 1.1, 2.0])
    y = row.array(a, b)
    for position, rule in enumerate((row.da, row.db)):
        local = np.broadcast_to(rule(y, a, b), y.shape)  # a rule may answer a constant
        for i, j in np.ndindex(y.shape):
            expected = rule_on_floats(row, position, (a[i, 0], b[j]))
            # two libraries' kernels, each good to 1 ulp
            assert local[i, j] == pytest.approx(expected, rel=4 * sys.float_info.epsilon, abs=0.0)


@each(ONE)
def test_rules_on_matrices(row):
    a = np.array([inside(row, 0.3, 1.7), inside(row, 2.5, 0.01)])
    y = row.array(a)
    local = np.broadcast_to(row.da(y, a), a.shape)
    for index in np.ndindex(a.shape):
        assert local[index] == pytest.approx(
            rule_on_floats(row, 0, (a[index],)), rel=4 * sys.float_info.epsilon, abs=0.0
        )


@each(ROWS)
def test_calling_a_row(row):
    point = inside(row, 0.5, 1.25)[: row.arity]
    on_floats = row(*point)
    assert type(on_floats) is float
    assert float(row(*map(np.float64, point))) == pytest.approx(on_floats, rel=4 * sys.float_info.epsilon, abs=0.0)
    assert type(row(*map(Value, point))) is Value
    assert row(*map(Value, point)).op is row
    array = row(*(np.full((2, 3), x) for x in point))
    assert type(array) is np.ndarray
    assert array.shape == (2, 3)
    assert array.dtype == float
    nodes = row(*(scalars([x, x]) for x in point))
    assert type(nodes) is Scalars
    assert all(type(node) is Value and node.op is row for node in nodes)
    lists = row(*([x, x] for x in point))
    np.testing.assert_allclose(np.asarray(lists, dtype=float), on_floats, rtol=4 * sys.float_info.epsilon)
    with pytest.raises(TypeError, match=rf"{row.name} takes {row.arity} operand"):
        row(*point, 1.0)
    with pytest.raises(TypeError, match=rf"{row.name} takes {row.arity} operand"):
        row()


@pytest.mark.parametrize(
    "bad", ["1", 1j, None, {}, np.array(["a"]), np.array([1j]), object()], ids=lambda bad: type(bad).__name__
)
@each(ROWS)
def test_rows_refuse_what_is_no_real_number(row, bad):
    for operands in [(bad,)] if row.arity == 1 else [(bad, 1.0), (1.0, bad)]:
        with pytest.raises(TypeError, match=f"{row.name} takes real numbers"):
            row(*operands)


@each(ONE)
def test_rows_are_methods(row):
    name = {"neg": "__neg__", "abs": "__abs__"}.get(row.name, row.name)
    (a,) = inside(row, 0.5)
    y = getattr(Value(a), name)()
    assert y.data == row.on_floats(a)
    assert y.op is row


@each(ROWS)
def test_rows_survive_pickling(row):
    assert pickle.loads(pickle.dumps(row)) is row
    for folded in row.folded.values():
        assert pickle.loads(pickle.dumps(folded)) is folded
    assert set(row.folded) == (set() if row.arity == 1 else {"left", "right"})
    assert row.name in repr(row)
    assert row.formula in row.__doc__


# --- corners -------------------------------------------------------------------------------------------------

# a * a overflows as silently as a product of floats does; so do + and -. inf - inf is nan as silently.
SILENT = {"add", "sub", "mul"}


def corner_points(row):
    return list(itertools.product([*CORNERS, 1.0, -2.0, 0.5] if row.arity == 2 else CORNERS, repeat=row.arity))


def numpy_departs_from_ieee(row, point):
    # IEEE 754 says pow(-inf, 1/2) = inf; NumPy hands the exponent 1/2 to sqrt, which says nan. IEEE 754 says that
    # pow(0, -inf) = inf is no division by zero; the C library under NumPy says it is.
    return row.name == "pow" and point in ((-math.inf, 0.5), (0.0, -math.inf))


def outcome(function, *operands):
    """(result, the set of kinds of warnings: "divide by zero", "invalid value", "overflow")."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*operands)
    assert all(issubclass(warning.category, RuntimeWarning) for warning in caught)
    return result, {str(warning.message).split(" encountered")[0] for warning in caught}


@each(ROWS)
def test_corners_agree_with_numpy(row):
    wrong = []
    for point in corner_points(row):
        if numpy_departs_from_ieee(row, point):
            continue
        expected, warned = outcome(row.array, *map(np.array, point))
        if row.name in SILENT:
            warned = set()
        for target in (forward_on_floats, forward_on_nodes):
            found, found_warned = outcome(target, row, point)
            # == for floats, but nan equals nan; a sign of zero is not promised but for + - * / sqrt
            if not np.array_equal(found, expected, equal_nan=True) or found_warned != warned:
                wrong.append((target.__name__, point, (found, found_warned), (float(expected), warned)))
    assert not wrong


def test_power_follows_ieee_where_numpy_does_not():
    assert (Value(-math.inf) ** 0.5).data == math.inf
    assert (Value(-math.inf) ** Value(0.5)).data == math.inf
    assert (Value(0.0) ** -math.inf).data == math.inf


@pytest.mark.parametrize(
    ("name", "point", "kind"),
    [
        ("div", (1.0, 0.0), "divide by zero"),
        ("div", (-1.0, -0.0), "divide by zero"),
        ("div", (0.0, 0.0), "invalid value"),
        ("log", (0.0,), "divide by zero"),
        ("log", (-0.0,), "divide by zero"),
        ("log", (-1.0,), "invalid value"),
        ("log", (-math.inf,), "invalid value"),
        ("exp", (1000.0,), "overflow"),
        ("sqrt", (-1.0,), "invalid value"),
        ("sqrt", (-math.inf,), "invalid value"),
        ("pow", (0.0, -1.0), "divide by zero"),
        ("pow", (-8.0, 1.0 / 3.0), "invalid value"),
        ("pow", (1e200, 2.5), "overflow"),
    ],
    ids=str,
)
class TestNonFinite:
    """Where mathematics has no finite answer: NumPy's, NumPy's warning, and whatever np.errstate asks for."""

    def test_warns_as_numpy(self, name, point, kind):
        row = TABLE[name]
        expected, warned = outcome(row.array, *map(np.float64, point))
        assert warned == {kind}
        for target in (forward_on_floats, forward_on_nodes, forward_folded_left, forward_folded_right):
            if row.arity == 2 or target in (forward_on_floats, forward_on_nodes):
                with pytest.warns(RuntimeWarning, match=kind) as record:
                    found = target(row, point)
                assert len(record) == 1
                assert np.array_equal(found, expected, equal_nan=True)

    def test_raises_if_told_to(self, name, point, kind):
        row = TABLE[name]
        called = re.escape(f"{name}({', '.join(map(repr, point))})") + f".*{kind}"
        with np.errstate(all="raise"):
            with pytest.raises(FloatingPointError, match=called):
                row.on_floats(*point)
            nodes = [Value(x, name=f"operand {i}") for i, x in enumerate(point)]
            with pytest.raises(FloatingPointError, match=called + ".*'operand 0'"):
                row(*nodes)
            if row.arity == 2:
                with pytest.raises(FloatingPointError, match=called + ".*'operand 1'"):
                    row(*nodes)
                with pytest.raises(FloatingPointError, match=called + ".*'operand 1'"):
                    row(point[0], nodes[1])

    def test_is_silent_if_told_to(self, name, point, kind):
        with np.errstate(all="ignore"):
            assert not math.isfinite(forward_on_nodes(TABLE[name], point))  # a warning would be an error


@pytest.mark.parametrize("name", sorted(SILENT))
def test_sums_and_products_overflow_silently(name):
    row = TABLE[name]
    point = {"sub": (1.7e308, -1.7e308)}.get(name, (1.7e308, 1.7e308))[: row.arity]
    with np.errstate(all="raise"):
        assert row(*map(Value, point)).data == math.inf


@pytest.mark.parametrize("a", [-1000.0, -745.0, 0.0, 745.0, 1000.0, 1e300, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(
    "name",
    ["sigmoid", "tanh", "softplus", "logsigmoid", "relu", "leaky_relu", "elu", "selu", "abs", "sign", "step", "arctan",
     "arcsinh"],
)  # fmt: skip
def test_saturating_rows_never_warn(name, a):
    row = TABLE[name]
    for target in (forward_on_floats, forward_on_arrays, forward_on_nodes):
        target(row, (a,))
    for target in RULES:
        target(row, 0, (a,))


@pytest.mark.parametrize("a", [-1000.0, -745.0, 0.0, 745.0, 1000.0, 1e100, -1e100, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", ["erf", "erfc", "gelu", "silu"])
def test_rows_with_gaussians_warn_only_where_they_say(name, a):
    row = TABLE[name]
    for target in (forward_on_floats, forward_on_arrays, forward_on_nodes):
        target(row, (a,))
    if name in ("erf", "erfc") or math.isfinite(a):  # inf * 0 is what NumPy warns of
        for target in RULES:
            target(row, 0, (a,))


@each(ROWS)
def test_nan_propagates(row):
    for position in range(row.arity):
        point = [2.5] * row.arity
        point[position] = math.nan
        with np.errstate(invalid="ignore" if row.name == "logaddexp" else "warn"):  # NumPy's own warns of nan
            assert math.isnan(forward_on_floats(row, point))
            assert math.isnan(forward_on_nodes(row, point))
            assert math.isnan(forward_on_arrays(row, point))
            for target in RULES if depends_on_operand(row, position) else []:
                assert math.isnan(target(row, position, tuple(point))), (row.name, position, target)


def depends_on_operand(row, position):
    """Whether the local derivative in an operand changes with that operand, as d(a * b)/da = b does not."""
    others = (1.3, 2.9)
    with np.errstate(all="ignore"):
        locals_ = {
            rule_on_floats(row, position, tuple(a if i == position else others[i] for i in range(row.arity)))
            for a in (0.7, 2.4, -0.7)
        }
    return len(locals_) > 1


# --- kernels of Python on arrays -------------------------------------------------------------------------------


def raises_much(a):
    """What a student may write, with every way to fail."""
    return 1.0 / a if a < 1.0 else math.log(a - 2.0) if a < 3.0 else math.exp(a)


@pytest.fixture
def careless(new_row):
    return new_row("careless", raises_much, lambda y, a: 1.0 / a, formula="1 / a")


@pytest.mark.parametrize(
    ("a", "expected", "kind"),
    [(0.0, math.inf, "divide by zero"), (-0.0, -math.inf, "divide by zero"), (1.5, math.nan, "invalid value"),
     (1000.0, math.inf, "overflow")],
)  # fmt: skip
def test_python_functions_on_arrays_answer_as_ieee(careless, a, expected, kind):
    for call in (careless, careless.on_floats, lambda a: careless(np.array([a]))[0], lambda a: careless(Value(a)).data):
        with pytest.warns(RuntimeWarning, match=kind) as record:
            assert np.array_equal(call(a), expected, equal_nan=True)
        assert len(record) == 1
        with np.errstate(all="ignore"):
            assert np.array_equal(call(a), expected, equal_nan=True)
        with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=kind):
            call(a)
    name = {"divide by zero": "divide", "invalid value": "invalid", "overflow": "over"}[kind]
    with np.errstate(all="raise", **{name: "ignore"}):
        careless(np.array([a]))


def test_python_functions_on_arrays_keep_shapes(careless):
    assert type(careless.array(0.5)) is np.float64
    assert careless(np.empty((0, 3))).shape == (0, 3)
    assert careless(np.full((2, 1, 3), 0.5)).shape == (2, 1, 3)
    assert careless(np.array([0.5], dtype=np.float32)).dtype == float
    np.testing.assert_array_equal(careless(np.array([[4, 5]])), np.exp([[4.0, 5.0]]))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(careless([0.5, 0.0, 1.5]), [2.0, math.inf, math.nan])


def test_python_functions_of_two_operands_broadcast(new_row):
    row = new_row("ratio", lambda a, b: a / b, lambda y, a, b: 1.0 / b, lambda y, a, b: -y / b, formula="a / b")
    np.testing.assert_array_equal(row(np.array([[1.0], [2.0]]), np.array([1.0, 4.0])), [[1.0, 0.25], [2.0, 0.5]])
    with pytest.raises(ValueError, match="mismatch"):
        row(np.ones(2), np.ones(3))


def test_a_rule_that_raises_is_nan(new_row):
    row = new_row("rooted", lambda a: a, lambda y, a: math.sqrt(a), formula="a")
    with pytest.warns(RuntimeWarning, match="invalid value encountered in rooted"):
        assert math.isnan(row.local(row.da, -1.0, -1.0))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=r"derivative of rooted\(-1.0\)"):
        row.local(row.da, -1.0, -1.0)


@each(ROWS)
def test_integers_are_floats(row):
    integers = [np.array([2, 3]), np.array([3, 2])][: row.arity]
    with np.errstate(all="ignore"):
        expected = row(*(array.astype(float) for array in integers))
        assert row(*integers).dtype == float
        np.testing.assert_array_equal(row(*integers), expected)


# --- documented conventions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize(
    ("name", "local"), [("relu", 0.0), ("leaky_relu", 0.01), ("abs", 0.0), ("sign", 0.0), ("step", 0.0)]
)
def test_convention_at_zero(name, local, zero):
    for target in RULES:
        assert target(TABLE[name], 0, (zero,)) == local


@pytest.mark.parametrize(
    ("name", "point", "locals_"),
    [
        ("sqrt", (0.0,), [math.inf]),
        ("cbrt", (0.0,), [math.inf]),
        ("cbrt", (-0.0,), [math.inf]),
        ("log", (0.0,), [math.inf]),
        ("log1p", (-1.0,), [math.inf]),
        ("arcsin", (1.0,), [math.inf]),
        ("arccos", (-1.0,), [-math.inf]),
        ("arctanh", (-1.0,), [math.inf]),
        ("arccosh", (1.0,), [math.inf]),
        ("reciprocal", (0.0,), [-math.inf]),
        ("hypot", (0.0, 0.0), [0.0, 0.0]),
        ("hypot", (-0.0, 0.0), [0.0, 0.0]),
        ("hypot", (0.0, -3.0), [0.0, -1.0]),
        ("hypot", (1.7e308, 1.7e308), [math.sqrt(0.5), math.sqrt(0.5)]),
        ("hypot", (5e-324, 5e-324), [math.sqrt(0.5), math.sqrt(0.5)]),
        ("arctan2", (0.0, 0.0), [math.nan, math.nan]),
        ("arctan2", (0.0, -2.0), [-0.5, 0.0]),
        ("arctan2", (1.7e308, 1.7e308), [0.0, 0.0]),
        ("elu", (0.0,), [1.0]),
        ("selu", (0.0,), [1.0507009873554805 * 1.6732632423543772]),
        ("gelu", (math.inf,), [math.nan]),
        ("gelu", (-math.inf,), [math.nan]),
        ("silu", (math.inf,), [math.nan]),
        ("silu", (-math.inf,), [0.0]),
        ("sinc", (0.0,), [0.0]),
        ("sinc", (1.0,), [-1.0]),
        ("sinc", (math.inf,), [math.nan]),
        ("sinc_slope", (0.0,), [-(math.pi**2) / 3.0]),
        ("logaddexp", (math.inf, math.inf), [math.nan, math.nan]),
        ("logaddexp", (-math.inf, 1.0), [0.0, 1.0]),
        ("floor", (2.0,), [0.0]),
        ("round", (0.5,), [0.0]),
        ("floordiv", (6.0, 3.0), [0.0, 0.0]),
        ("mod", (6.0, 3.0), [1.0, -2.0]),
        ("mod", (-1.0, 3.0), [1.0, 1.0]),
        ("mod", (1.0, -3.0), [1.0, 1.0]),
        ("mod", (1.7e308, -1.5e308), [1.0, 2.0]),
        ("mod", (5.0, math.inf), [1.0, 0.0]),
        ("minimum", (2.0, 2.0), [0.5, 0.5]),
    ],
    ids=str,
)
def test_slopes_at_corners_are_those_that_the_rows_say(name, point, locals_):
    row = TABLE[name]
    with np.errstate(all="ignore"):
        for position, expected in enumerate(locals_):
            for target in RULES:
                assert target(row, position, point) == pytest.approx(expected, rel=1e-15, abs=0.0, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "point", "expected"),
    [
        ("mod", (5.5, -3.0), -0.5),
        ("mod", (-5.5, 3.0), 0.5),
        ("mod", (-1e-300, 1.0), 1.0),
        ("mod", (-5.0, math.inf), math.inf),
        ("floordiv", (-5.0, math.inf), -1.0),
        ("floordiv", (7.0, -2.0), -4.0),
        ("round", (0.5,), 0.0),
        ("round", (-1.5,), -2.0),
        ("gelu", (-math.inf,), 0.0),
        ("silu", (-math.inf,), 0.0),
        ("silu", (-745.2,), -1.724e-321),
        ("logsigmoid", (-1e300,), -1e300),
        ("elu", (-math.inf,), -1.0),
        ("hypot", (math.inf, math.nan), math.inf),
        ("logaddexp", (-math.inf, -math.inf), -math.inf),
        ("reciprocal", (-0.0,), -math.inf),
    ],
    ids=str,
)
def test_corners_of_forwards(name, point, expected):
    with np.errstate(all="ignore"):
        for target in FORWARDS if len(point) == 2 else FORWARDS[:3]:
            assert target(TABLE[name], point) == pytest.approx(expected, rel=1e-2, abs=0.0)


@pytest.mark.parametrize("a", [1.0, -1.0, 2.0, -37.0, 1e8, 1e300])
def test_sinc_is_exactly_0_at_integers(a):
    for target in FORWARDS[:3]:
        assert target(TABLE["sinc"], (a,)) == 0.0
    for target in RULES:  # cos(pi a) / a
        assert target(TABLE["sinc"], 0, (a,)) == (-1.0) ** (a % 2.0) / a


@pytest.mark.parametrize("name", ["floor", "ceil", "round"])
@pytest.mark.parametrize("a", [0.0, -0.0, 0.4, -0.4, 0.9, -0.9, -1.0])
def test_rounding_keeps_the_sign_of_zero(name, a):
    row = TABLE[name]
    for target in FORWARDS[:3]:
        assert math.copysign(1.0, target(row, (a,))) == math.copysign(1.0, a)


@pytest.mark.parametrize("tie", [-1.5, 0.0, 3.0, 1e300])
def test_tie_of_maximum_gives_half_to_each(tie):
    row = TABLE["maximum"]
    for position in (0, 1):
        for target in (rule_on_floats, rule_on_arrays, rule_on_nodes, rule_of_edge, rule_by_backward):
            assert target(row, position, (tie, tie)) == 0.5
    x = Value(tie)
    row(x, x).backward()
    assert x.grad == 1.0


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, np.float64(0), np.int64(0), False])
@pytest.mark.parametrize("data", [-1.0, -0.0, 0.0, 2.0])
def test_maximum_with_zero_is_relu(data, zero):
    for call in (lambda x: TABLE["maximum"](zero, x), lambda x: TABLE["maximum"](x, zero)):
        x = Value(data)
        y = call(x)
        assert y.op is TABLE["relu"]
        assert y.parents == (x,)
        assert y.data == max(data, 0.0)
        y.backward()
        assert x.grad == float(data > 0.0)


@pytest.mark.parametrize("a", [0.0, -0.0, 1e-300, 0.5, -3.0, 1e300, math.inf, -math.inf])
def test_power_zero_is_constant(a):
    x = Value(a)
    y = x**0
    assert y.data == 1.0
    y.backward()
    assert x.grad == 0.0
    with np.errstate(all="ignore"):
        assert rule_on_floats(TABLE["pow"], 0, (a, 0.0)) == 0.0
        assert rule_on_arrays(TABLE["pow"], 0, (a, 0.0)) == 0.0


@pytest.mark.parametrize("b", [1e-300, 0.5, 1.0, 2.0, 3.5, 1e5])
def test_zero_to_a_power_has_derivative_zero_in_the_exponent(b):
    with np.errstate(all="ignore"):  # the derivative in the base is infinite below 1
        for target in RULES:
            assert target(TABLE["pow"], 1, (0.0, b)) == 0.0


@pytest.mark.parametrize(
    ("b", "first", "second", "third"),
    [(1.0, 1.0, 0.0, 0.0), (2.0, 0.0, 2.0, 0.0), (3.0, 0.0, 0.0, 6.0), (4.0, 0.0, 0.0, 0.0)],
)
def test_derivatives_of_powers_at_zero(b, first, second, third):
    derivative = x = Value(0.0)
    derivative = x**b
    for expected in (first, second, third):
        derivative = derivative_node(derivative, x)
        assert plain(derivative) == expected


# --- how rules are written -----------------------------------------------------------------------------------


@functools.cache
def rules_in_source():
    """[(row name, lambda or def)]: the rules of every primitive(...) call at the top level of the module."""
    tree = ast.parse(inspect.getsource(primitives_module))
    functions = {statement.name: statement for statement in tree.body if isinstance(statement, ast.FunctionDef)}
    found = []
    for statement in tree.body:
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Call) and getattr(value.func, "id", None) == "primitive":
            name = value.args[0].value
            found += [(name, functions.get(getattr(argument, "id", ""), argument)) for argument in value.args[2:]]
    return found


def faults_of_rule(tree):
    """What a rule may not contain: branches, libraries that know floats only, integers."""
    faults = []
    for part in ast.walk(tree):
        if isinstance(part, (ast.IfExp, ast.BoolOp, ast.NamedExpr, ast.Attribute)):
            faults.append(type(part).__name__)
        if isinstance(part, ast.Name) and part.id in ("math", "np", "numpy", "abs", "max", "min", "float"):
            faults.append(part.id)
        if isinstance(part, ast.Constant) and type(part.value) is not float:
            faults.append(f"the constant {part.value!r}")
        if isinstance(part, ast.Call):
            name = getattr(part.func, "id", "")
            named_rules = [rule.name for _, rule in rules_in_source() if isinstance(rule, ast.FunctionDef)]
            if not isinstance(getattr(primitives_module, name, None), Primitive) and name not in named_rules:
                faults.append("a call of what is neither a row of the table nor one of its rules")
    return faults


@pytest.mark.parametrize(("name", "rule"), rules_in_source(), ids=[name for name, _ in rules_in_source()])
def test_rules_run_on_everything(name, rule):
    assert isinstance(rule, (ast.Lambda, ast.FunctionDef))
    assert [argument.arg for argument in rule.args.args] == ["y", "a", "b"][: TABLE[name].arity + 1]
    # A rule that needs a name for a part of it is a def: a docstring, assignments, a return.
    for part in [rule.body] if isinstance(rule, ast.Lambda) else rule.body[1:]:
        assert isinstance(part, (ast.expr, ast.Assign, ast.Return))
        assert faults_of_rule(part) == []


def test_every_rule_was_looked_at():
    assert len(rules_in_source()) == sum(row.arity for row in ROWS)


@pytest.mark.parametrize(
    "rule",
    ["lambda y, a: 1.0 if a > 0.0 else 0.0", "lambda y, a: math.exp(a)", "lambda y, a: np.exp(a)",
     "lambda y, a: 2 * a", "lambda y, a: a and y", "lambda y, a: abs(a)", "lambda y, a: a.exp()"],
)  # fmt: skip
def test_faults_of_rules_are_found(rule):
    assert faults_of_rule(ast.parse(rule).body[0].value.body)


# --- printing ------------------------------------------------------------------------------------------------


@each(ROWS)
def test_rows_print(row):
    p, q = Value(0.5, name="p"), Value(1.25, name="q")
    operands = (p, q)[: row.arity]
    inner = tuple(node + 3.0 for node in operands)  # sums: the operands that need brackets most
    with np.errstate(all="ignore"):  # 3.5 has no arcsine, but the formula prints
        made = [row(*operands), row(*inner)]
    if row.arity == 2:
        made += [row(p, 1.25), row(0.5, q)]
    for y in made:
        for text in (str(formula(y)), formula(y).latex()):
            assert "<" not in text.replace(" < ", "")
            assert "<a>" not in text
            assert "<b>" not in text
            assert "p" in text or "q" in text
    for template in (row.text, row.latex):
        assert template.count("<a>") == 1
        assert template.count("<b>") == row.arity - 1
    assert row.latex.count("{") == row.latex.count("}")
    assert len(row.needs) == len(row.latex_needs) == row.arity


# --- new rows ------------------------------------------------------------------------------------------------


@pytest.fixture
def new_row():
    """primitive(...), undone after the test."""
    rows, ufuncs = dict(TABLE), dict(UFUNCS)
    yield primitive
    for now, before in ((TABLE, rows), (UFUNCS, ufuncs)):
        now.clear()
        now.update(before)


def test_new_row_works_everywhere(new_row):
    sine = new_row("sine", math.sin, lambda y, a: cosine(a), array=np.sin, formula="sin(a)")
    cosine = new_row("cosine", math.cos, lambda y, a: -sine(a), array=np.cos, formula="cos(a)")
    for row in (sine, cosine):
        assert forward_error(row, points_of=lambda row: [(0.0,), (0.5,), (-2.0,), (3.0,), (1e-300,)])[0] <= PROMISE
        assert rule_error(row, 0)[0] <= PROMISE
        assert second_order_error(row, second_order_points)[0] <= 1e-13
        assert complex_step(row, 0, 0.5) == pytest.approx(row.da(row(0.5), 0.5), rel=1e-15)
    x = Value(0.5, name="x")
    y = np.sin(x * x)
    y.backward()
    assert x.grad == pytest.approx(math.cos(0.25), rel=1e-15)  # 2 * x = 1
    W = scalars([[0.1, 0.2]])
    assert np.sin(W)[0, 1].op is sine
    np.testing.assert_array_equal(sine(np.array([0.1, 0.2])), np.sin([0.1, 0.2]))
    assert str(formula(y)) == "sine(x · x)"
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert math.isnan(sine(Value(math.inf)).data)  # math.sin raises, np.sin answers


def test_new_row_of_two_operands(new_row):
    row = new_row(
        "length", math.hypot, lambda y, a, b: a / y, lambda y, a, b: b / y, array=np.hypot,
        formula="sqrt(a * a + b * b)", text="length(<a>, <b>)",
    )  # fmt: skip
    assert forward_error(row)[0] <= PROMISE
    for position in (0, 1):
        for target in RULES:
            assert rule_error(row, position, target, second_order_points)[0] <= PROMISE
    a, b = Value(3.0), Value(4.0)
    y = np.hypot(a, b) + np.hypot(a, 4.0) + np.hypot(3.0, b)
    y.backward()
    assert (y.data, a.grad, b.grad) == (15.0, 1.2, 1.6)


def test_new_row_without_a_numpy_kernel(new_row):
    row = new_row("cube", lambda a: a * a * a, lambda y, a: 3.0 * a * a, formula="a ** 3")
    np.testing.assert_array_equal(row(np.array([[1.0, 2.0]])), [[1.0, 8.0]])
    assert rule_error(row, 0)[0] <= PROMISE
    assert second_order_error(row, second_order_points)[0] <= 1e-14
    assert str(formula(row(Value(1.0, name="x")))) == "cube(x)"
    assert row.latex == r"\operatorname{cube}\left(<a>\right)"


def test_new_row_is_gone_after_the_test():
    assert not {"sine", "cosine", "length", "cube"} & set(TABLE)
    assert UFUNCS[np.sin] is TABLE["sin"]


def test_taken_name(new_row):
    before = dict(TABLE)
    with pytest.raises(ValueError, match=r"row 'exp' already.*another name"):
        new_row("exp", math.exp, lambda y, a: y)
    assert before == TABLE


@pytest.mark.parametrize("rules", [(), (lambda *_: 0.0,) * 3], ids=len)
def test_wrong_number_of_rules(new_row, rules):
    with pytest.raises(ValueError, match=rf"row 'wrong': one rule per operand.*got {len(rules)}"):
        new_row("wrong", math.exp, *rules)
    assert "wrong" not in TABLE


# --- planted errors: the checks above must find them -----------------------------------------------------------


def planted(name, forward=None, da=None, db=None, array=None):
    """A copy of a row, outside the table, with a part replaced."""
    row = TABLE[name]
    rules = [da or row.da] if row.arity == 1 else [da or row.da, db or row.db]
    return Primitive(
        name, forward or row.forward, array or row.array, rules,
        formula=row.formula, text=row.text, latex=row.latex, binds=row.binds, needs=row.needs,
    )  # fmt: skip


@each(ROWS)
def test_planted_factor_and_sign_are_found(row):
    for position, rule in enumerate((row.da, row.db)[: row.arity]):
        somewhere = itertools.product((0.7, 1.9), repeat=row.arity)
        if all(rule_on_floats(row, position, inside(row, *point)) == 0.0 for point in somewhere):
            continue  # 2 * 0 = 0
        for factor in (2.0, -1.0, 0.0, 1.0 + 1e-13):
            wrong = planted(row.name, **{("da", "db")[position]: lambda *x, r=rule, f=factor: f * r(*x)})
            assert rule_error(wrong, position, points_of=some_points, until=PROMISE)[0] > PROMISE


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sigmoid", lambda y, a: y * (1.0 - y)),
        ("tanh", lambda y, a: 1.0 - y * y),
        ("softplus", lambda y, a: 1.0 - TABLE["sigmoid"](-a)),
        ("tanh", lambda y, a: 4.0 * TABLE["sigmoid"](2.0 * a) * (1.0 - TABLE["sigmoid"](2.0 * a))),
        ("sigmoid", lambda y, a: TABLE["exp"](-a) * y * y),  # inf * 0 for a < -709
        ("log", lambda y, a: TABLE["exp"](-y)),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_planted_cancelling_forms_are_found(name, wrong):
    error, point = rule_error(planted(name, da=wrong), 0, until=PROMISE)
    assert error > PROMISE, point


def test_other_right_forms_are_not_refused():
    assert rule_error(planted("sqrt", da=lambda y, a: 0.5 * y / a), 0)[0] <= PROMISE
    assert rule_error(planted("log", da=lambda y, a: a**-1.0), 0)[0] <= PROMISE
    over_cosh = planted("tanh", da=lambda y, a: 4.0 / TABLE["square"](TABLE["exp"](a) + TABLE["exp"](-a)))
    assert rule_error(over_cosh, 0)[0] <= PROMISE


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("exp", lambda a: math.exp(a) * (1.0 + 1e-14)),
        ("sigmoid", lambda a: 0.5 * (1.0 + math.tanh(0.5 * a))),  # 0 from -37 on
        ("softplus", lambda a: math.log(1.0 + math.exp(min(a, 700.0)))),  # 0 from -37 on, and 700 from 700 on
        ("tanh", lambda a: 1.0 - 2.0 / (1.0 + math.exp(min(2.0 * a, 700.0)))),  # cancels at 0
        ("relu", lambda a: abs(a)),
        ("add", lambda a, b: a - b),
        ("pow", lambda a, b: math.exp(b * math.log(a)) if a > 0.0 else math.pow(a, b)),
        ("maximum", lambda a, b: min(a, b)),
    ],
)
def test_planted_wrong_forwards_are_found(name, wrong):
    assert forward_error(planted(name, forward=wrong), until=PROMISE)[0] > PROMISE
    vectorized = np.vectorize(lambda *x: planted(name, forward=wrong).on_floats(*x), otypes=[float])
    assert forward_error(planted(name, array=vectorized), forward_on_arrays, until=PROMISE)[0] > PROMISE


def test_planted_error_of_second_order_is_found():
    # right at every point, but constant where the table's rule is a function
    frozen = planted("exp", da=lambda y, a: plain(y))
    assert rule_error(frozen, 0)[0] <= PROMISE
    assert second_order_error(frozen, second_order_points)[0] > 1e-3


def test_ulps_are_counted_right():
    assert ulps(1.0 + sys.float_info.epsilon, mpmath.mpf(1)) == 1.0
    assert ulps(0.0, mpmath.mpf(5e-324)) == 1.0
    assert ulps(math.inf, mpmath.mpf(2) ** 2000) == 0.0
    assert ulps(-math.inf, mpmath.mpf(2) ** 2000) > 1e15
    assert ulps(math.inf, mpmath.mpf(sys.float_info.max)) == 1.0
    assert ulps(math.nan, mpmath.mpf(1)) == math.inf
