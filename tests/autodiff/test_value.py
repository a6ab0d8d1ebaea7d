"""The scalar node: operators, the backward pass, what it costs, and that nothing is lost without a word.

Glossary: the *magnitude* of a node is the sum, over all paths from it to the output, of the absolute product of
local derivatives: what its adjoint would be if nothing cancelled. Rounding errors of an adjoint are in proportion
to it, not to the adjoint.
"""

from __future__ import annotations

import abc
import cmath
import copy
import gc
import itertools
import linecache
import math
import operator
import pickle
import random
import re
import sys
import tracemalloc
import warnings
from decimal import Decimal
from fractions import Fraction

import autograd
import autograd.numpy as anp
import micrograd.engine
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodiff import stop_gradient
from autodiff.primitives import TABLE, UFUNCS, primitive
from autodiff.scalars import Scalars
from autodiff.value import NO_GRAD, Value, order, scope

ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow}


def of_arithmetic(argument="apply"):
    return pytest.mark.parametrize(argument, ARITHMETIC.values(), ids=ARITHMETIC.keys())


# --- the first test of all ----------------------------------------------------------------------------------------


def test_sums_of_sums():
    a = Value(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert (c.data, a.grad, b.grad, c.grad) == (4.0, 4.0, 2.0, 1.0)


def test_square_by_a_product():
    x = Value(3.0)
    y = x * x
    y.backward()
    assert (y.data, x.grad) == (9.0, 6.0)
    assert y.parents == (x, x)
    assert y.edges() == [(x, 3.0), (x, 3.0)]


def test_backward_twice_accumulates_at_leaves_only():
    x = Value(2.0)
    y = x**3
    y.backward()
    assert (x.grad, y.grad) == (12.0, 1.0)
    y.backward()
    assert (x.grad, y.grad) == (24.0, 1.0)


def test_adjoints_in_between_are_afresh():
    x = Value(2.0)
    h = x * x
    g = h * h
    y = g + h
    for times in (1, 2, 3):
        y.backward()
        assert (g.grad, h.grad, y.grad) == (1.0, 9.0, 1.0)
        assert x.grad == times * 36.0


def test_two_outputs_of_one_graph():
    x = Value(3.0)
    h = x * x
    first, second = h * 2.0, h * 5.0
    first.backward()
    assert (x.grad, h.grad) == (12.0, 2.0)
    second.backward()
    assert (x.grad, h.grad) == (12.0 + 30.0, 5.0)
    assert (first.grad, second.grad) == (1.0, 1.0)


def test_an_output_inside_the_graph_of_another():
    x = Value(3.0)
    h = x * x
    y = h * 2.0
    y.backward()
    h.backward()
    assert (x.grad, h.grad, y.grad) == (12.0 + 6.0, 1.0, 1.0)


def test_backward_of_a_leaf():
    x = Value(3.0)
    x.backward()
    x.backward()
    assert x.grad == 2.0


def test_diamond():
    x = Value(2.0)
    left, right = x * 3.0, x * x
    y = left * right + left
    y.backward()
    assert (left.grad, right.grad) == (5.0, 6.0)
    assert x.grad == 5.0 * 3.0 + 6.0 * 4.0


def test_a_diamond_of_diamonds_has_too_many_paths_to_walk():
    y = x = Value(1.0)
    for _ in range(500):
        y = y + y
    y.backward()
    assert x.grad == 2.0**500


def test_a_long_edge_waits_for_the_long_way_round():
    x = Value(2.0)
    y = h = x * 1.0
    for _ in range(50):
        y = y * 1.0 + 1.0
    y = y * h  # h is a parent of the last node and of the first
    y.backward()
    assert h.grad == 2.0 + (2.0 + 50.0)
    assert x.grad == h.grad


def test_constants_need_no_gradient():
    x = Value(2.0)
    y = 3.0 * x + 1.0
    assert len(order(y)) == 3
    y.backward()
    assert x.grad == 3.0


# --- order ----------------------------------------------------------------------------------------------------


def test_order_has_every_ancestor_once_after_its_children():
    rng = random.Random(0)
    nodes = [Value(rng.random()) for _ in range(5)]
    for _ in range(300):
        nodes.append(rng.choice((operator.add, operator.mul))(rng.choice(nodes[-40:]), rng.choice(nodes[-40:])))
    found = order(nodes[-1])
    place = {node: i for i, node in enumerate(found)}
    assert len(place) == len(found)
    assert found[0] is nodes[-1]
    for node in found:
        for parent in node.parents:
            assert place[parent] > place[node]
    assert not uses(found)


def uses(nodes):
    return sum(node.uses for node in nodes)


# --- operators --------------------------------------------------------------------------------------------------

NUMBERS = [
    3, 2.5, 0.5, True, np.float64(1.5), np.float32(0.5), np.float16(0.5), np.int64(3), np.int8(2), np.uint8(2),
    np.bool_(True), Fraction(3, 2),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{type(number).__name__}({number})")
@of_arithmetic()
def test_operators_with_numbers_on_either_side(apply, number):
    x = 1.75
    for function in (lambda v: apply(v, number), lambda v: apply(number, v)):
        v = Value(x)
        y = function(v)
        assert type(y) is Value
        assert type(y.data) is float
        swapped = function is not None and y.op.constant == "left"
        operands = (float(number), x) if swapped else (x, float(number))
        assert y.data == apply(*operands)  # the same arithmetic: equal to the last bit
        y.backward()
        # Im f(x + ih) / h, the complex step; complex ** goes through log and exp, some ulps away
        shifted = [complex(part, 1e-200 if part is x else 0.0) for part in operands]
        assert v.grad == pytest.approx(apply(*shifted).imag / 1e-200, rel=1e-14)
        assert y.parents == (v,)
        squared = y.op.name == "square"  # what v ** 2 is
        assert y.operands == ((v,) if squared else (float(number), v) if swapped else (v, float(number)))


def test_reflected_operators_keep_their_order():
    v = Value(4.0)
    expected = [(v - 1, 3.0, 1.0), (1 - v, -3.0, -1.0), (v / 2, 2.0, 0.5), (2 / v, 0.5, -0.125)]
    expected += [(v**2, 16.0, 8.0), (2**v, 16.0, 16.0 * math.log(2.0)), (v + 1, 5.0, 1.0), (3 * v, 12.0, 3.0)]
    for y, data, local in expected:
        assert (y.data, y.edges()) == (data, [(v, local)])


@of_arithmetic()
def test_operators_between_nodes(apply):
    a, b = Value(1.75), Value(0.6)
    y = apply(a, b)
    assert y.data == apply(1.75, 0.6)
    assert y.parents == (a, b)
    y.backward()
    h = 1e-200
    # see above
    assert a.grad == pytest.approx(apply(complex(1.75, h), 0.6).imag / h, rel=1e-14)
    assert b.grad == pytest.approx(apply(1.75, complex(0.6, h)).imag / h, rel=1e-14)


@of_arithmetic()
def test_operators_with_itself(apply):
    x = Value(1.75)
    y = apply(x, x)
    assert y.parents == (x, x)
    y.backward()
    shifted = complex(1.75, 1e-200)
    assert x.grad == pytest.approx(apply(shifted, shifted).imag / 1e-200, rel=1e-14)


def test_unary_operators():
    x = Value(-2.0)
    assert (-x).data == 2.0
    assert +x is x
    assert abs(x).data == 2.0
    y = -x * abs(x)
    y.backward()
    assert x.grad == -4.0  # -x |x| = x**2 for x < 0
    assert math.copysign(1.0, (-Value(0.0)).data) == -1.0


def test_assigning_operators_make_new_nodes():
    x = y = Value(2.0)
    y += 1.0
    y *= x
    y -= x
    y /= 2.0
    y **= 2
    assert x.data == 2.0
    assert y.data == 4.0
    y.backward()
    assert x.grad == 8.0  # y = (x**2 / 2)**2


def test_sum_and_product_builtins():
    nodes = [Value(x) for x in (1.0, 2.0, 3.0)]
    y = sum(nodes) * math.prod(nodes)
    y.backward()
    assert y.data == 36.0
    assert [node.grad for node in nodes] == [6.0 + 36.0, 6.0 + 18.0, 6.0 + 12.0]


def test_parameters_are_updated_through_data():
    w = Value(3.0)
    for _ in range(200):
        loss = (w - 1.0) ** 2
        w.grad = 0.0
        loss.backward()
        w.data -= 0.1 * w.grad
    assert w.data == pytest.approx(1.0)


# --- comparisons, hash, bool ------------------------------------------------------------------------------------

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.__name__)
def test_comparisons_are_by_data(comparison):
    numbers = [-1.0, 0.0, -0.0, 1.0, 1, True, np.float64(1.0), Fraction(1, 2), math.inf, math.nan]
    for a, b in itertools.product(numbers, repeat=2):
        expected = bool(comparison(float(a), float(b)))
        for found in (comparison(Value(a), Value(b)), comparison(Value(a), b), comparison(a, Value(b))):
            assert bool(found) is expected
            assert isinstance(found, (bool, np.bool_))


def test_comparing_with_what_is_no_number():
    v = Value(1.0)
    for other in ("x", None, [1.0], 1j, object(), {}):
        assert (v == other) is False
        assert (v != other) is True
        for comparison in COMPARISONS[2:]:
            with pytest.raises(TypeError):
                comparison(v, other)


def test_hash_is_by_identity():
    a, b = Value(1.0), Value(1.0)
    assert a == b
    assert hash(a) != hash(b)
    table = {a: "a", b: "b"}
    assert (table[a], table[b]) == ("a", "b")
    before = hash(a)
    a.data, a.name = 5.0, "a"
    a.backward()
    assert hash(a) == before


def test_bool_is_by_data():
    for data in (0.0, -0.0, 1.0, -1e-300, math.inf, math.nan):
        assert bool(Value(data)) is bool(data)


def test_sorting_and_extremes():
    nodes = [Value(x) for x in (3.0, 1.0, 2.0)]
    assert [node.data for node in sorted(nodes)] == [1.0, 2.0, 3.0]
    assert max(nodes) is nodes[0]
    assert min(nodes) is nodes[1]


# --- nothing detaches silently ------------------------------------------------------------------------------------


def into_buffer(v):
    buffer = np.zeros(3)
    buffer[1] = v


DETACHING = {
    "float(v)": float,
    "int(v)": int,
    "complex(v)": complex,
    "math.exp(v)": math.exp,
    "math.sqrt(v)": math.sqrt,
    "math.fmod(v, 2)": lambda v: math.fmod(v, 2.0),
    "math.copysign(v, -1)": lambda v: math.copysign(v, -1.0),
    "math.hypot(v, v)": lambda v: math.hypot(v, v),
    "math.isnan(v)": math.isnan,
    "math.fsum([v])": lambda v: math.fsum([v]),
    "math.pow(v, 2)": lambda v: math.pow(v, 2.0),
    "buffer[1] = v": into_buffer,
    "np.array([v]).astype(float)": lambda v: np.array([v]).astype(float),
    "np.array([v], dtype=float)": lambda v: np.array([v], dtype=float),
    "np.asarray(v, dtype=float)": lambda v: np.asarray(v, dtype=float),
    "np.float64(v)": np.float64,
    "np.full(3, v, dtype=float)": lambda v: np.full(3, v, dtype=float),
    "np.zeros(3).fill(v)": lambda v: np.zeros(3).fill(v),
    "np.put(buffer, 0, v)": lambda v: np.put(np.zeros(3), [0], v),
    "np.fromiter": lambda v: np.fromiter([v], float),
    "np.sum([v], dtype=float)": lambda v: np.sum([v], dtype=float),
}


@pytest.mark.parametrize("detach", DETACHING.values(), ids=DETACHING.keys())
def test_nothing_detaches_silently(detach):
    v = Value(2.5, name="v")
    with pytest.raises(TypeError) as caught:
        detach(v * 1.0)
    message = str(caught.value)
    assert ".item()" in message
    assert "autodiff" in message
    assert "Value(2.5)" in message


LOUD = {
    "'%f' % v": lambda v: "%f" % v,  # noqa: UP031
    "f'{v:d}'": lambda v: f"{v:d}",
    "math.trunc(v)": math.trunc,
    "math.gcd(v, 2)": lambda v: math.gcd(v, 2),
    "np.modf(v)": np.modf,
    "np.frexp(v)": np.frexp,
    "np.nextafter(v, 1)": lambda v: np.nextafter(v, 1.0),
    "np.gcd(v, 2)": lambda v: np.gcd(v, 2),
    "np.spacing(v)": np.spacing,
    "np.i0(v)": np.i0,
    "np.interp(v)": lambda v: np.interp(v, [0.0, 3.0], [0.0, 1.0]),
    "np.arange(v)": np.arange,
    "np.linalg.det": lambda v: np.linalg.det([[v]]),
    "np.any(v)": np.any,
    "v | 1": lambda v: v | 1,
    "v << 1": lambda v: v << 1,
    "~v": lambda v: ~v,
    "v @ v": lambda v: v @ v,
    "range(v)": range,
    "[1, 2][v]": lambda v: [1, 2][v],
    "'x' * v": lambda v: "x" * v,
    "v()": lambda v: v(),
    "len(v)": len,
    "pow(v, 2, 5)": lambda v: pow(v, 2, 5),
    "hex(v)": hex,
    "chr(v)": chr,
}


@pytest.mark.parametrize("call", LOUD.values(), ids=LOUD.keys())
def test_what_has_no_row_is_refused(call):
    with pytest.raises((TypeError, ValueError)):
        call(Value(2.5))


# (call, x, slope): what the operation gives for floats, it gives for nodes, and d/dx as known by hand
WITH_A_ROW = {
    "np.heaviside(v, 1)": (lambda v: np.heaviside(v, 1.0), 2.5, 0.0),
    "np.fmod(v, 2)": (lambda v: np.fmod(v, 2.0), -2.5, 1.0),
    "np.fmod(7, v)": (lambda v: np.fmod(np.float64(7.0), v), 2.5, -2.0),
    "np.copysign(v, -1)": (lambda v: np.copysign(v, -1.0), 2.5, -1.0),
    "np.float_power(v, 2)": (lambda v: np.float_power(v, 2.0), 2.5, 5.0),
    "np.rad2deg(v)": (np.rad2deg, 2.5, 180.0 / math.pi),
    "np.trunc(v)": (np.trunc, -2.5, 0.0),
    "np.fix(v)": (np.fix, -2.5, 0.0),
    "np.fmax(v, 0)": (lambda v: np.fmax(v, 0.0), 2.5, 1.0),
    "round(v)": (round, 2.5, 0.0),  # to even: 2
    "round(v, 1)": (lambda v: round(v, 1), 2.34, 0.0),
    "round(v, -1)": (lambda v: round(v, -1), 26.0, 0.0),
    "math.floor(v)": (math.floor, -2.5, 0.0),
    "math.ceil(v)": (math.ceil, -2.5, 0.0),
    "v % 2": (lambda v: v % 2, 7.5, 1.0),
    "v % -2": (lambda v: v % -2, 7.5, 1.0),
    "7 % v": (lambda v: 7 % v, 2.5, -2.0),  # 7 - 2 v
    "-7 % v": (lambda v: -7 % v, 2.5, 3.0),  # -7 + 3 v
    "v % v": (lambda v: v % (v * 0.4), 3.0, 0.2),  # v - 2 * 0.4 v
    "v // 2": (lambda v: v // 2, 7.5, 0.0),
    "7 // v": (lambda v: 7 // v, 2.5, 0.0),
    "divmod(v, 2)[0]": (lambda v: divmod(v, 2)[0], 7.5, 0.0),
    "divmod(v, 2)[1]": (lambda v: divmod(v, 2)[1], 7.5, 1.0),
    "divmod(7, v)[1]": (lambda v: divmod(7, v)[1], 2.5, -2.0),
    "divmod(v, v)[1]": (lambda v: divmod(v * v, v)[1], 2.25, 2.5),  # v**2 - 2 v
    "np.float64 % v": (lambda v: np.float64(7.0) % v, 2.5, -2.0),
    "np.float64 // v": (lambda v: np.float64(7.0) // v, 2.5, 0.0),
    "np.cos(v)": (np.cos, 2.5, -math.sin(2.5)),
    "np.sin(v)": (np.sin, 2.5, math.cos(2.5)),
    "np.arctan2(v, 1)": (lambda v: np.arctan2(v, 1.0), 2.5, 1.0 / 7.25),
    "np.arctan2(1, v)": (lambda v: np.arctan2(1, v), 2.5, -1.0 / 7.25),
    "np.hypot(v, 4)": (lambda v: np.hypot(v, 4), 3.0, 0.6),
    "np.cbrt(v)": (np.cbrt, 8.0, 1.0 / 12.0),
    "np.reciprocal(v)": (np.reciprocal, 2.5, -0.16),
    "np.log1p(v)": (np.log1p, 3.0, 0.25),
    "np.logaddexp(v, v)": (lambda v: np.logaddexp(v, 2.5), 2.5, 0.5),
    "np.round(v)": (np.round, 2.5, 0.0),
    "np.rint(v)": (np.rint, 3.5, 0.0),
    "np.floor(v)": (np.floor, 2.5, 0.0),
    "np.ceil(v)": (np.ceil, 2.5, 0.0),
    "np.mod(v, 2)": (lambda v: np.mod(v, 2), 7.5, 1.0),
    "np.remainder(7, v)": (lambda v: np.remainder(7, v), 2.5, -2.0),
    "np.floor_divide(v, 2)": (lambda v: np.floor_divide(v, 2), 7.5, 0.0),
    "np.minimum(v, 3)": (lambda v: np.minimum(v, 3.0), 2.5, 1.0),
    "np.minimum(0, v)": (lambda v: np.minimum(0, v), 2.5, 0.0),
    "np.clip inside": (lambda v: np.clip(v, 0.0, 3.0), 2.5, 1.0),
    "np.clip above": (lambda v: np.clip(v, 0, 1), 2.5, 0.0),
    "np.clip below": (lambda v: np.clip(v, 3, None), 2.5, 0.0),
    "np.clip bounds": (lambda v: np.clip(0.0, v, 3.0), 2.5, 1.0),
    "np.clip min= max=": (lambda v: np.clip(v, min=0.0, max=3.0), 2.5, 1.0),
    "np.where": (lambda v: np.where(v > 0, v, 2.0 * v), -2.5, 2.0),
    "np.min of two": (lambda v: np.min([v, 3.0 * v]), 2.5, 1.0),
    "np.ptp": (lambda v: np.ptp([v, 3.0 * v]), 2.5, 2.0),
    "np.linalg.norm": (lambda v: np.linalg.norm(np.stack([3.0 * v, 4.0 * v])), 2.5, 5.0),
}


@pytest.mark.parametrize(("call", "x", "slope"), WITH_A_ROW.values(), ids=WITH_A_ROW.keys())
def test_operations_that_floats_have(call, x, slope):
    v = Value(x)
    y = call(v)
    assert type(y) is Value
    assert v in order(y)
    assert y.data == pytest.approx(float(call(np.float64(x))), rel=1e-15)  # an ulp between two kernels
    y.backward()
    assert v.grad == pytest.approx(slope, rel=1e-14, abs=0.0)  # some operations


@pytest.mark.parametrize(
    ("x", "low", "high", "data", "slope"),
    [
        (2.5, 0.0, 1.0, 1.0, 0.0), (-2.5, -1.0, 1.0, -1.0, 0.0), (0.5, -1.0, 1.0, 0.5, 1.0), (2.5, None, 1.0, 1.0, 0.0),
        (2.5, None, None, 2.5, 1.0), (-2.5, 0, None, 0.0, 0.0), (1.0, -1, 1, 1.0, 0.5), (-1.0, -1, 1, -1.0, 0.5),
        (0.0, 0.0, 1.0, 0.0, 0.0), (0.5, 1.0, 0.0, 0.0, 0.0), (math.inf, -1.0, 1.0, 1.0, 0.0),
    ],
)  # fmt: skip
def test_clip(x, low, high, data, slope):
    for call in (lambda v: v.clip(low, high), lambda v: np.clip(v, low, high)):
        v = Value(x)
        y = call(v) * 1.0
        y.backward()
        assert (y.data, v.grad) == (data, slope)
    v, bound = Value(2.5), Value(1.0)
    v.clip(None, bound).backward()
    assert (v.grad, bound.grad) == (0.0, 1.0)
    assert math.isnan(Value(math.nan).clip(0.0, 1.0).data)


def test_divmod_is_quotient_and_remainder():
    for a, b in itertools.product((7.5, -7.5, 0.0, 1e300), (2.0, -2.0, 0.3)):
        for found in (divmod(Value(a), b), divmod(a, Value(b)), divmod(Value(a), Value(b))):
            assert tuple(part.data for part in found) == divmod(a, b)


def test_rounding_to_digits_is_numpys():
    rng = random.Random(4)
    for digits in (0, 1, 2, 5, -1, -2):
        for x in [0.0, 0.5, 1.5, -2.5, 0.15, 2.675, *(rng.gauss(0.0, 300.0) for _ in range(100))]:
            # np.round multiplies and divides as we do; for negative digits in the other order, an ulp or two apart
            assert round(Value(x), digits).data == pytest.approx(float(np.round(x, digits)), rel=5e-16 * (digits < 0))
    assert math.copysign(1.0, round(Value(-0.4)).data) == -1.0


@pytest.mark.parametrize(("x", "digits"), [(1e308, 1), (1.5, 400), (1.5, -400), (100000.0, -5)], ids=repr)
def test_rounding_far_out(x, digits):
    assert round(Value(x), digits).data == round(x, digits)


@pytest.mark.parametrize("spec", [".3f", "8.2f", "e", "+.1f", ".2%", "g", ">10", "_.1f", "08.3f", "n"])
def test_format_specs_are_those_of_floats(spec):
    for x in (2.5, -1e-9, 1234567.0, math.inf, math.nan):
        v = Value(x, name="v")
        assert format(v, spec) == format(x, spec)
    assert f"{v}" == str(v) == repr(v)
    assert f"{v!r}" == repr(v)
    assert f"{Value(2.5):.2f}" == "2.50"


@pytest.mark.parametrize(
    "make",
    [
        lambda: type("Node", (Value,), {}),
        lambda: type("Node", (abc.ABC, Value), {}),
        lambda: type("Node", (Value,), {"__slots__": ()}),
    ],
)
def test_value_is_final(make):
    with pytest.raises(TypeError, match=r"Value is final.*autodiff\.primitive"):
        make()


def assigning(apply):
    def call(v, w):
        before = v
        v = apply(v, w)
        assert v is not before
        return v

    return call


# (call of v = 3 and w = 2, data, dv, dw)
BUILTINS = {
    "min(v, w)": (lambda v, w: min(v, w), 2.0, 0.0, 1.0),
    "max(v, w)": (lambda v, w: max(v, w), 3.0, 1.0, 0.0),
    "max(v, 0)": (lambda v, w: max(v, 0) * w, 6.0, 2.0, 3.0),
    "min of a list": (lambda v, w: min([v, w, v * w]), 2.0, 0.0, 1.0),
    "max(key=)": (lambda v, w: max(v, w, key=lambda x: -x), 2.0, 0.0, 1.0),
    "max(default=)": (lambda v, w: max([], default=v), 3.0, 1.0, 0.0),
    "sorted()[0]": (lambda v, w: sorted([v, w])[0], 2.0, 0.0, 1.0),
    "sorted(reverse)": (lambda v, w: sorted([w, v, w * w], reverse=True)[0], 4.0, 0.0, 4.0),
    "sum": (lambda v, w: sum([v, w, v]), 8.0, 2.0, 1.0),
    "sum(start)": (lambda v, w: sum([v, w], 1.5), 6.5, 1.0, 1.0),
    "sum(start=node)": (lambda v, w: sum([1, 2], v), 6.0, 1.0, 0.0),
    "sum of products": (lambda v, w: sum(x * y for x, y in zip([v, w], [w, w], strict=True)), 10.0, 2.0, 7.0),
    "math.prod": (lambda v, w: math.prod([v, w, v]), 18.0, 12.0, 9.0),
    "sum of map": (lambda v, w: sum(map(operator.mul, [v, w], [4.0, 5.0])), 22.0, 4.0, 5.0),
    "+=": (assigning(operator.iadd), 5.0, 1.0, 1.0),
    "-=": (assigning(operator.isub), 1.0, 1.0, -1.0),
    "*=": (assigning(operator.imul), 6.0, 2.0, 3.0),
    "/=": (assigning(operator.itruediv), 1.5, 0.5, -0.75),
    "**=": (assigning(operator.ipow), 9.0, 6.0, 9.0 * math.log(3.0)),
    "%=": (assigning(operator.imod), 1.0, 1.0, -1.0),
    "//=": (assigning(operator.ifloordiv), 1.0, 0.0, 0.0),
    "v += 1": (lambda v, w: operator.iadd(v, 1), 4.0, 1.0, 0.0),
    "v ** w": (lambda v, w: v**w, 9.0, 6.0, 9.0 * math.log(3.0)),
    "w ** v": (lambda v, w: w**v, 8.0, 8.0 * math.log(2.0), 12.0),
    "2 ** v": (lambda v, w: 2**v, 8.0, 8.0 * math.log(2.0), 0.0),
    "pow(v, 2)": (lambda v, w: pow(v, 2), 9.0, 6.0, 0.0),
    "pow(2, v)": (lambda v, w: pow(2, v), 8.0, 8.0 * math.log(2.0), 0.0),
    "abs": (lambda v, w: abs(w - v), 1.0, 1.0, -1.0),
    "a if v > w else b": (lambda v, w: v * w if v > w else v, 6.0, 2.0, 3.0),
    "a if v == 3 else b": (lambda v, w: w if v == 3 else v, 2.0, 0.0, 1.0),
    "v and w": (lambda v, w: v and w, 2.0, 0.0, 1.0),
    "v or w": (lambda v, w: v or w, 3.0, 1.0, 0.0),
    "1 < w < v": (lambda v, w: (1 < w < v) * v, 3.0, 1.0, 0.0),
}


@pytest.mark.parametrize(("call", "data", "dv", "dw"), BUILTINS.values(), ids=BUILTINS.keys())
def test_builtins(call, data, dv, dw):
    v, w = Value(3.0, name="v"), Value(2.0, name="w")
    y = call(v, w)
    assert type(y) is Value
    assert (v.data, w.data, y.data) == (3.0, 2.0, data)
    y.backward()
    # the slopes are exact but for those with a logarithm, some roundings
    assert (v.grad, w.grad) == (pytest.approx(dv, rel=1e-15, abs=0.0), pytest.approx(dw, rel=1e-15, abs=0.0))


def test_extremes_pick_a_node_and_record_nothing():
    v, w, same = Value(3.0), Value(2.0), Value(3.0)
    assert min(v, w) is w
    assert max(v, w) is v
    assert max(v, same) is v  # Python's: the first of equals; np.maximum shares the gradient
    assert min(v, same) is v
    assert sorted([v, same, w]) == [w, v, same]
    assert [node is other for node, other in zip(sorted([v, same, w]), [w, v, same], strict=True)] == [True] * 3
    assert max(Value(-1.0), 0) == 0  # a plain number: no slope, and none is missing
    assert (v < w, v > w, v <= same, v >= same, v == same, v != same) == (False, True, True, True, True, False)


def test_detaching_on_purpose():
    v = Value(2.5, name="v")
    y = v * v
    assert (y.item(), type(y.item())) == (6.25, float)
    cut = stop_gradient(y)
    assert (cut.data, cut.parents, cut.op) == (6.25, (), None)
    assert cut is not y
    assert stop_gradient(v).name == "v"
    z = v * cut
    z.backward()
    assert v.grad == 6.25
    assert cut.grad == 2.5
    assert y.grad is NO_GRAD
    assert stop_gradient(1.5) == 1.5
    assert stop_gradient(np.float64(1.5)) == 1.5


# --- bad input ----------------------------------------------------------------------------------------------------

BAD = [
    ("str", "1.0"), ("bytes", b"1"), ("complex", 1j), ("complex128", np.complex128(1j)), ("NoneType", None),
    ("list", [1.0]), ("tuple", (1.0,)), ("dict", {}), ("set", set()), ("object", object()),
    ("function", len), ("Decimal", Decimal(1)), ("type", float),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "bad"), BAD, ids=[kind for kind, _ in BAD])
def test_constructor_refuses(kind, bad):
    with pytest.raises(TypeError, match=r"Value takes (a|one) real number, got ") as caught:
        Value(bad)
    assert type(bad).__name__ in str(caught.value)


def test_constructor_refuses_nodes_and_arrays_and_says_what_to_do():
    with pytest.raises(TypeError, match=r"got the node Value\(2\.0\).*\.item\(\).*stop_gradient"):
        Value(Value(2.0))
    with pytest.raises(TypeError, match=r"ndarray of shape \(2, 3\).*autodiff\.scalars"):
        Value(np.zeros((2, 3)))
    with pytest.raises(TypeError, match=r"ndarray of shape \(\).*autodiff\.scalars"):
        Value(np.array(1.0))
    with pytest.raises(TypeError, match=r"convert it with float"):
        Value("1.0")
    with pytest.raises(TypeError, match=r"\.real and \.imag"):
        Value(1j)


HUGE = 10**400


def test_integers_too_large_for_a_float():
    with pytest.raises(OverflowError, match=r"Value: the integer 10000.* too large for a float") as caught:
        Value(HUGE)
    assert len(str(caught.value)) < 120
    for apply in ARITHMETIC.values():
        for call in (lambda apply=apply: apply(Value(2.0), HUGE), lambda apply=apply: apply(HUGE, Value(2.0))):
            with pytest.raises(OverflowError, match="too large for a float"):
                call()


@pytest.mark.parametrize(("kind", "bad"), BAD, ids=[kind for kind, _ in BAD])
@of_arithmetic()
def test_operators_refuse(apply, kind, bad):
    x = Value(2.0, name="x")
    y = x * x
    y.backward()
    for call in (lambda: apply(y, bad), lambda: apply(bad, y)):
        with pytest.raises(TypeError) as caught:
            call()
        assert re.search("real number|unsupported operand", str(caught.value))
        # NumPy hands its complex numbers over as Python's
        assert type(bad).__name__.removesuffix("128") in str(caught.value)
    assert (x.grad, y.grad, x.uses, y.uses, y.data) == (4.0, 1.0, 0, 0, 4.0)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None]), np.array([{}])], ids=str)
@of_arithmetic()
def test_operators_refuse_arrays_of_what_is_no_real_number(apply, array):
    v = Value(2.0)
    for call in (lambda: apply(v, array), lambda: apply(array, v)):
        with pytest.raises(TypeError):
            call()


def test_data_is_always_a_plain_float():
    for data in (1, True, np.float64(1.0), np.float32(1.0), np.int64(1), np.bool_(True), Fraction(1), 1.0):
        assert type(Value(data).data) is float
        assert Value(data).data == 1.0
    for data in (math.inf, -math.inf, 5e-324, -0.0):
        assert math.copysign(1.0, Value(data).data) == math.copysign(1.0, data)
        assert Value(data).data == data
    assert math.isnan(Value(math.nan).data)


# --- names, scopes, repr ---------------------------------------------------------------------------------------


def test_names():
    x = Value(1.0, name="x")
    assert x.name == "x"
    x.name = "w1_21"
    assert x.name == "w1_21"
    x.name = None
    assert x.name is None
    y = x * x
    assert y.name is None
    y.name = "loss"
    assert repr(y) == "Value(1.0, name='loss')"


@pytest.mark.parametrize("bad", [3, 1.0, b"x", ["x"], Value(1.0)], ids=repr)
def test_names_are_strings(bad):
    x = Value(1.0, name="x")
    with pytest.raises(TypeError, match="a name is a string, got"):
        x.name = bad
    assert x.name == "x"
    with pytest.raises(TypeError, match="a name is a string, got"):
        Value(1.0, name=bad)
    with pytest.raises(TypeError, match="a name is a string, got"), scope(bad):
        pass
    assert Value(1.0).scope == ()


def test_scopes_nest_and_end():
    outside = Value(1.0)
    with scope("layer 1"):
        x = Value(1.0, name="x")
        with scope("neuron 2"):
            y = x * outside
        z = y + 1.0
        z.name = "z"
    after = z * 1.0
    assert outside.scope == after.scope == ()
    assert x.scope == z.scope == ("layer 1",)
    assert y.scope == ("layer 1", "neuron 2")
    assert (x.name, y.name, z.name) == ("x", None, "z")
    outside.name = "named later"
    assert outside.scope == ()


def test_scopes_end_with_an_exception():
    with pytest.raises(ZeroDivisionError), scope("outer"), scope("inner"):
        1 / 0
    assert Value(1.0).scope == ()
    with scope("outer"):
        with pytest.raises(ZeroDivisionError), scope("inner"):
            1 / 0
        assert Value(1.0).scope == ("outer",)


def test_repr_is_short():
    x = Value(2.0, name="x")
    assert repr(x) == "Value(2.0, name='x')"
    y = x
    for _ in range(1000):
        y = y * x + 1.0
    assert len(repr(y)) < 40
    x.backward()
    assert repr(x) == "Value(2.0, grad=1.0, name='x')"


def test_a_grad_that_never_was_is_told_apart_from_zero():
    x = Value(2.0)
    assert x.grad == 0.0
    assert x.grad is NO_GRAD
    (x * 0.0).backward()
    assert x.grad == 0.0
    assert x.grad is not NO_GRAD


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda y: pickle.loads(pickle.dumps(y))])
def test_copies_are_graphs_of_their_own(duplicate):
    x = Value(0.5, name="x")
    y = (x * x + TABLE["tanh"](x)) ** 2 / (3.0 - x)
    twin = duplicate(y)
    twin.backward()
    assert x.grad is NO_GRAD
    y.backward()
    assert twin.data == y.data
    leaf = order(twin)[-1]
    assert (leaf.name, leaf.grad) == ("x", x.grad)
    assert repr(duplicate(Value(1.0))) == "Value(1.0)"  # no grad shows up


# --- NumPy on either side ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda v: np.float64(2.0) * v,
        lambda v: np.float32(2.0) * v,
        lambda v: np.int64(2) * v,
        lambda v: v * np.float64(2.0),
        lambda v: np.add(v, v),
        lambda v: np.multiply(2, v),
        lambda v: np.exp(v) * (5.0 / math.exp(2.5)),
        lambda v: np.maximum(0, v) * 2.0,
        lambda v: np.maximum(v, v) * 2.0,
        lambda v: np.square(v) / 1.25,
        lambda v: np.sqrt(v) * (5.0 / math.sqrt(2.5)),
        lambda v: np.power(v, 2) / 1.25,
        lambda v: -np.negative(v) * 2.0,
        lambda v: np.absolute(v) + np.abs(v),
        lambda v: np.sum([v, v]),
        lambda v: np.dot([v, v], [1.0, 1.0]),
        lambda v: np.array([v, v]).sum(),
        lambda v: np.mean([v * 4.0, v * 0.0]),
    ],
)
def test_numpy_on_either_side_makes_a_node(call):
    v = Value(2.5)
    y = call(v)
    assert type(y) is Value
    assert y.data == pytest.approx(5.0, rel=1e-15)  # two roundings at most
    y.backward()
    assert v.grad != 0.0


@of_arithmetic()
def test_arrays_on_either_side(apply):
    array = np.array([[1.0, 2.0], [0.5, 3.0]])
    for function in (lambda v: apply(v, array), lambda v: apply(array, v)):
        v = Value(1.5)
        result = function(v)
        assert type(result) is Scalars
        np.testing.assert_array_equal(result.data, function(1.5))
        result.sum().backward()
        # the complex step; complex ** is some ulps off, and four of them are added
        assert v.grad == pytest.approx(function(1.5 + 1e-200j).sum().imag / 1e-200, rel=1e-14)


def test_comparisons_with_arrays_are_elementwise():
    v, array = Value(2.0), np.array([1.0, 2.0, 3.0])
    for comparison in COMPARISONS:
        for found, expected in (
            (comparison(v, array), comparison(2.0, array)),
            (comparison(array, v), comparison(array, 2.0)),
        ):
            assert found.dtype == bool
            np.testing.assert_array_equal(found, expected)
    assert np.isnan(v) == False  # noqa: E712
    assert np.isfinite(Value(math.inf)) == False  # noqa: E712


# --- what a graph costs -----------------------------------------------------------------------------------------


def test_a_million_operations_in_a_row():
    limit = sys.getrecursionlimit()
    x = first = Value(1.0)
    for _ in range(500_000):
        x = x * 0.999999 + 1e-6
    x.backward()
    # 500,000 products, each rounded to half an ulp
    assert first.grad == pytest.approx(0.999999**500_000, rel=500_000 * sys.float_info.epsilon)
    assert sys.getrecursionlimit() == limit
    del x  # so does dropping it not recurse


def alive():
    return sum(type(thing) is Value for thing in gc.get_objects())


def drop_chain():
    x = Value(1.0, name="x")
    for _ in range(1000):
        x = x * x.tanh() + 1.0
    x.backward()


def drop_without_backward():
    x = Value(1.0)
    for _ in range(1000):
        x = x + x


def drop_arrays():
    x = Value(1.0)
    loss = (np.maximum(0, np.arange(12.0).reshape(3, 4) * x) ** 2).sum()
    loss.backward()
    loss.backward()


def drop_after_exception():
    x = Value(0.0, name="x")
    y = x.sqrt() * x + x.exp()
    try:
        with np.errstate(all="raise"):
            y.backward()
    except FloatingPointError:
        pass
    else:
        raise AssertionError


def drop_scopes_and_names():
    with scope("layer"):
        x = Value(1.0, name="x")
        y = x / 3.0 - x
        y.name = "y"
    y.backward()
    repr(y), y.edges(), y.parents, hash(y)


@pytest.mark.parametrize(
    "graph", [drop_chain, drop_without_backward, drop_arrays, drop_after_exception, drop_scopes_and_names]
)
def test_dropping_a_graph_frees_it_by_reference_counting(graph):
    graph()  # whatever it imports and caches
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        before = alive()
        graph()
        assert alive() == before
        assert gc.collect() == 0
    finally:
        if enabled:
            gc.enable()


def test_memory_per_operation():
    operations = 20_000
    a, b, x = Value(0.999), Value(0.001), Value(1.0)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for _ in range(operations // 2):
            x = x * a + b
        x.backward()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # the node: seven slots and its headers (88 bytes), and a float each for data and grad (24 each)
    assert (now - start) / operations <= 140.0


def bytes_per_operation(step, operations=5_000):
    """Bytes that a chain of `step` keeps after its backward pass, by the operation."""
    x = Value(0.25)
    step(x, 0).backward()  # whatever it caches
    constants = range(operations)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        y = x
        for i in constants:
            y = step(y, i)
        y.backward()
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (now - start) / operations


WHOLE_CONSTANTS = {
    "y + 1": lambda y, i: y + 1,
    "1 - y": lambda y, i: 1 - y,
    "2 * y": lambda y, i: 2 * y,
    "y / 3": lambda y, i: y / 3,
    "y ** 3": lambda y, i: y**3,
    "y ** 2": lambda y, i: y**2,
    "y * -1": lambda y, i: y * -1,
    "y + a whole number below 256": lambda y, i: y + (1 + i % 256),
    "y + np.int64": lambda y, i: y + np.int64(7),
    "y % 2": lambda y, i: y % 2,
}


@pytest.mark.parametrize("step", WHOLE_CONSTANTS.values(), ids=WHOLE_CONSTANTS.keys())
def test_whole_constants_cost_no_float_each(step):
    assert bytes_per_operation(step) <= 140.0  # as test_memory_per_operation: a node and its two floats


def test_the_measurement_of_constants_finds_a_float_each():
    assert bytes_per_operation(lambda y, i: y + (i + 0.5)) > 155.0


def test_folded_whole_constants_are_floats_of_the_right_sign():
    x = Value(1.5)
    for constant in (*range(-20, 300), 0.0, -0.0, True, np.int8(-3), np.float32(0.0), Fraction(4), np.uint64(256)):
        y = x + constant
        assert type(y.b) is float
        assert (y.b, math.copysign(1.0, y.b)) == (float(constant), math.copysign(1.0, constant))


# --- an exception in the middle of backward ----------------------------------------------------------------------


@pytest.fixture
def new_row():
    """primitive(...), undone after the test."""
    rows, ufuncs = dict(TABLE), dict(UFUNCS)
    yield primitive
    for now, before in ((TABLE, rows), (UFUNCS, ufuncs)):
        now.clear()
        now.update(before)


def graph_with(middle):
    """(output, all nodes) with `middle` applied to a node in between, so that backward is under way there."""
    x, w = Value(0.5, name="x"), Value(2.0, name="w")
    h = x * w - 1.0  # 0
    m = middle(h)
    y = (m + h) * w + x
    return y, [x, w, *h.parents, h, m, *y.parents, y]


def state(nodes):
    return [(node.grad, node.grad is NO_GRAD, node.data) for node in nodes]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError, FloatingPointError, TypeError])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_an_exception_leaves_every_grad_as_it_was(new_row, error, before):
    trap = []

    def rule(y, a):
        if trap:
            raise error("planted")
        return 2.0

    row = new_row("trapped", lambda a: 2.0 * a, rule)
    y, nodes = graph_with(row)
    for _ in range(before):
        y.backward()
    then = state(nodes)
    trap.append("set")
    with pytest.raises(error, match="planted"):
        y.backward()
    assert state(nodes) == then
    assert not uses(nodes)
    trap.clear()
    y.backward()
    assert nodes[0].grad == (before + 1) * (2.0 * 3.0 * 2.0 + 1.0)


def test_the_derivative_of_a_root_at_zero():
    y, nodes = graph_with(lambda h: h.sqrt())
    then = state(nodes)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=r"the derivative of sqrt\(0\.0\)"):
        y.backward()
    assert state(nodes) == then
    assert not uses(nodes)
    # under warnings as errors a warning is an exception like any other
    with pytest.raises(RuntimeWarning, match="divide by zero"):
        y.backward()
    assert state(nodes) == then
    assert not uses(nodes)
    with np.errstate(all="ignore"):
        y.backward()
    assert nodes[0].grad == math.inf


def test_the_error_names_the_node():
    x = Value(0.0, name="x")
    y = x.sqrt()
    with np.errstate(all="raise"):
        with pytest.raises(FloatingPointError, match=r"sqrt\(0\.0\).*divide by zero.*'x'"):
            y.backward()
        with pytest.raises(FloatingPointError, match=r"sqrt\(0\.0\).*divide by zero.*'x'"):
            y.edges()


def interrupt_at(nth, function):
    """Runs function(), raising KeyboardInterrupt before the nth line executed in value.py; whether it did."""
    left = [nth]

    def trace(frame, event, argument):
        if frame.f_code.co_filename != order.__code__.co_filename:
            return None
        # Signals arrive at calls and at the ends of loops. A bare `try:` is neither, and CPython 3.11 leaves it out
        # of the exception table: only a tracer can interrupt there.
        if event == "line" and linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() != "try:":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(tracer)
    return False


def test_an_interrupt_at_any_line_leaves_no_trace():
    y, nodes = graph_with(lambda h: h * h)
    y.backward()
    then = state(nodes)
    for line in itertools.count(1):
        if not interrupt_at(line, y.backward):
            break
        assert not uses(nodes), f"a counter is left after an interrupt at line {line}"
        assert state(nodes) == then, f"a grad is changed after an interrupt at line {line}"
    assert line > 100  # every line of order and backward was interrupted
    assert nodes[0].grad == 2 * then[0][0]


# --- random programs against engines from outside -------------------------------------------------------------------


def magnitudes(output):
    """{node: sum over paths of |product of local derivatives|}; see the glossary."""
    nodes = order(output)
    found = dict.fromkeys(nodes, 0.0)
    found[output] = 1.0
    for node in nodes:
        for parent, local in node.edges():
            found[parent] += found[node] * abs(local)
    return found


# Every operation in our words, in autograd's and in Python's complex numbers, where branches go by the real part.
# Last, the domain in which its result and derivative are far from kinks and corners.
def row(name):
    return lambda *operands: TABLE[name](*operands)


FAR = 0.25
PROGRAM = {
    "add": (operator.add, operator.add, operator.add, lambda a, b: True),
    "sub": (operator.sub, operator.sub, operator.sub, lambda a, b: True),
    "mul": (operator.mul, operator.mul, operator.mul, lambda a, b: True),
    "div": (operator.truediv, operator.truediv, operator.truediv, lambda a, b: abs(b) > FAR),
    "pow": (operator.pow, operator.pow, operator.pow, lambda a, b: a > FAR),
    "maximum": (
        row("maximum"), anp.maximum, lambda a, b: a if a.real > b.real else b, lambda a, b: abs(a - b) > 1e-3,
    ),
    "neg": (operator.neg, operator.neg, operator.neg, lambda a, b: True),
    "abs": (abs, anp.abs, lambda a: a if a.real > 0.0 else -a, lambda a, b: abs(a) > 1e-3),
    "exp": (row("exp"), anp.exp, cmath.exp, lambda a, b: True),
    "log": (row("log"), anp.log, cmath.log, lambda a, b: a > FAR),
    "sqrt": (row("sqrt"), anp.sqrt, cmath.sqrt, lambda a, b: a > FAR),
    "square": (row("square"), anp.square, lambda a: a * a, lambda a, b: True),
    "tanh": (row("tanh"), anp.tanh, cmath.tanh, lambda a, b: True),
    "sigmoid": (
        row("sigmoid"), lambda a: 1.0 / (1.0 + anp.exp(-a)), lambda a: 1.0 / (1.0 + cmath.exp(-a)),
        lambda a, b: True,
    ),
    "softplus": (
        row("softplus"), lambda a: anp.logaddexp(a, 0.0), lambda a: cmath.log(1.0 + cmath.exp(a)),
        lambda a, b: True,
    ),
    "relu": (
        row("relu"), lambda a: anp.maximum(a, 0.0), lambda a: a if a.real > 0.0 else 0.0 * a,
        lambda a, b: abs(a) > 1e-3,
    ),
    "leaky_relu": (
        row("leaky_relu"), lambda a: anp.where(a > 0.0, a, 0.01 * a), lambda a: a if a.real > 0.0 else 0.01 * a,
        lambda a, b: abs(a) > 1e-3,
    ),
    "1 -": (*[lambda a: 1.0 - a] * 3, lambda a, b: True),
    "2 /": (*[lambda a: 2.0 / a] * 3, lambda a, b: abs(a) > FAR),
    "1.5 **": (*[lambda a: 1.5**a] * 3, lambda a, b: True),
    "** 2": (*[lambda a: a**2] * 3, lambda a, b: True),
    "** 3": (*[lambda a: a**3] * 3, lambda a, b: True),
    "** -1": (*[lambda a: a**-1] * 3, lambda a, b: abs(a) > FAR),
    "** 0.5": (*[lambda a: a**0.5] * 3, lambda a, b: a > FAR),
    "/ 3": (*[lambda a: a / 3.0] * 3, lambda a, b: True),
}  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "pow", "maximum")
OURS, AUTOGRAD, COMPLEX = 0, 1, 2
LARGEST = 8.0

# zero or far from it: the complex step would underflow
NUMBER = st.floats(-3.0, 3.0).map(lambda x: x if abs(x) > 1e-3 else 0.0)


def run(steps, inputs, engine):
    """The output of a program: every step applies an operation to earlier results, the last three are added."""
    results = list(inputs)
    for name, i, j in steps:
        operation = PROGRAM[name][engine]
        results.append(operation(results[i], results[j]) if name in BINARY else operation(results[i]))
    return results[-1] + results[-2] * results[-3]


@st.composite
def programs(draw, names=tuple(PROGRAM), fallback="tanh"):
    """(steps, inputs): fan-out and repeated operands by chance; a step that leaves its domain becomes `fallback`."""
    inputs = draw(st.lists(NUMBER, min_size=3, max_size=4))
    results, steps = list(inputs), []
    instruction = st.tuples(st.sampled_from(names), st.integers(0, 1000), st.integers(0, 1000))
    for name, i, j in draw(st.lists(instruction, min_size=1, max_size=25)):
        # operands among the last few results, so that depth and fan-out are common
        i, j = (max(0, len(results) - 1 - k % 6) for k in (i, j))
        a, b = results[i], results[j]
        result = None
        if PROGRAM[name][3](a, b):
            result = run_one(name, a, b)
        if result is None or not abs(result) < LARGEST:
            name, result = fallback, run_one(fallback, a, b)
        results.append(result)
        steps.append((name, i, j))
    return steps, inputs


def run_one(name, a, b):
    operation = PROGRAM[name][OURS]
    return float(operation(a, b) if name in BINARY else operation(a))


# Deterministic, so that a red run is the same for everybody. Programs take longer to draw than Hypothesis likes.
RANDOM = settings(
    derandomize=True, deadline=None, max_examples=150, database=None, suppress_health_check=[HealthCheck.too_slow]
)
# Both engines round every operation; 30 operations of a few ulps, with operands below 8 and at least 1/4 away from
# poles, so that condition numbers stay below some tens: 30 * 4 * 30 * 2.2e-16 = 8e-13 of the magnitude.
CLOSE = 1e-12


@RANDOM
@given(programs())
def test_random_programs_against_autograd(program):
    steps, inputs = program
    leaves = [Value(x) for x in inputs]
    output = run(steps, leaves, OURS)
    output.backward()
    size = magnitudes(output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # autograd's, for an input that the output does not depend on
        expected = autograd.grad(lambda x: run(steps, x, AUTOGRAD))(np.array(inputs))
    assert output.data == pytest.approx(float(run(steps, np.array(inputs), AUTOGRAD)), rel=CLOSE, abs=CLOSE)
    for leaf, other in zip(leaves, expected, strict=True):
        assert abs(leaf.grad - other) <= CLOSE * size.get(leaf, 0.0)
    assert not uses(size)


@RANDOM
@given(programs())
def test_random_programs_against_the_complex_step(program):
    steps, inputs = program
    leaves = [Value(x) for x in inputs]
    output = run(steps, leaves, OURS)
    output.backward()
    size = magnitudes(output)
    for position, leaf in enumerate(leaves):
        shifted = [complex(x, 1e-200 if i == position else 0.0) for i, x in enumerate(inputs)]
        expected = complex(run(steps, shifted, COMPLEX)).imag / 1e-200
        assert abs(leaf.grad - expected) <= CLOSE * size.get(leaf, 0.0)


@settings(RANDOM, max_examples=30)
@given(programs())
def test_every_interior_adjoint_is_the_sum_over_its_child_edges(program):
    steps, inputs = program
    output = run(steps, [Value(x) for x in inputs], OURS)
    output.backward()
    sums = dict.fromkeys(order(output), 0.0)
    sums[output] = 1.0
    size = magnitudes(output)
    for node in size:
        for parent, local in node.edges():
            sums[parent] += node.grad * local
    for node, adjoint in sums.items():
        assert node.grad == adjoint  # the same sums in the same order


SAME_IN_MICROGRAD = ("add", "sub", "mul", "div", "neg", "relu", "1 -", "2 /", "** 2", "** 3", "** -1", "** 0.5", "/ 3")


@RANDOM
@given(programs(SAME_IN_MICROGRAD, fallback="/ 3"))
def test_random_programs_against_micrograd(program):
    steps, inputs = program
    ours, theirs = [Value(x) for x in inputs], [micrograd.engine.Value(x) for x in inputs]
    output, expected = run(steps, ours, OURS), run_in_micrograd(steps, theirs)
    output.backward()
    expected.backward()
    size = magnitudes(output)
    assert output.data == pytest.approx(expected.data, rel=CLOSE, abs=CLOSE)
    for leaf, other in zip(ours, theirs, strict=True):
        assert abs(leaf.grad - other.grad) <= CLOSE * size.get(leaf, 0.0)


def run_in_micrograd(steps, inputs):
    results = list(inputs)
    for name, i, j in steps:
        if name == "relu":
            results.append(results[i].relu())
        elif name in BINARY:
            results.append(PROGRAM[name][OURS](results[i], results[j]))
        else:
            results.append(PROGRAM[name][OURS](results[i]))
    return results[-1] + results[-2] * results[-3]


def test_the_comparison_finds_a_planted_error():
    # tanh with the derivative 1 - y: right at 0 and wrong elsewhere
    steps, inputs = [("tanh", 0, 0), ("mul", 3, 1)], [0.5, 2.0, 1.0]
    leaves = [Value(x) for x in inputs]
    output = run(steps, leaves, OURS)
    output.backward()
    size = magnitudes(output)
    y = math.tanh(0.5)
    wrong = leaves[0].grad * (1.0 - y) / (1.0 - y * y)
    assert abs(wrong - leaves[0].grad) > CLOSE * size[leaves[0]]


def test_random_programs_use_everything():
    seen, shared, repeated = set(), [], []

    @settings(RANDOM, max_examples=500)  # so many that no operation is missing by chance
    @given(programs())
    def look(program):
        steps, _ = program
        seen.update(name for name, _, _ in steps)
        operands = [i for _, i, _ in steps] + [j for name, _, j in steps if name in BINARY]
        shared.append(len(set(operands)) < len(operands))
        repeated.append(any(name in BINARY and i == j for name, i, j in steps))

    look()
    assert seen == set(PROGRAM)
    assert sum(shared) > 50
    assert sum(repeated) > 10
