"""The checker on trial: planted errors are caught, right gradients never accused, the rest is undecidable.

Oracles from outside: closed forms, mpmath, HIPS autograd. Each case carries the reason it is there.
"""

import itertools
import math
import warnings

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff
from autodiff.check import check_grad
from autodiff.differences import quantum, slope


def relu(x):
    return np.maximum(0, x)


def verdict(f, at, claimed):
    return check_grad(f, at, claimed).verdict


# --- slopes that can be measured: the right one agrees, every planted error differs ---

sech2 = 1 / math.cosh(0.4) ** 2
MEASURABLE = {
    # name: (f, x, f'(x))
    "a power": (lambda x: x**3, 2.0, 12.0),
    "an integer point": (lambda x: x**3, 2, 12.0),
    "a gradient of 1e-9, all of f": (lambda x: 1e-9 * x, 1.0, 1e-9),
    "a gradient of 1e-9 beside 1": (lambda x: 1 + 1e-9 * x, 1.0, 1e-9),
    "a gradient of 1e-9 beside 1e6: only large steps show it": (lambda x: 1e6 + 1e-9 * x, 1.0, 1e-9),
    "a gradient of 1e-14 beside 1": (lambda x: 1 + 1e-14 * x, 1.0, 1e-14),
    "a small slope beside a large curvature": (np.cos, 1e-9, -1e-9),
    "f tiny": (lambda x: 1e-12 * np.tanh(x), 0.4, 1e-12 * sech2),
    "x and f huge": (lambda x: 1e12 * np.tanh(1e-12 * x), 0.4e12, sech2),
    "a domain that ends close to x": (np.log, 1e-10, 1e10),
    "a domain that ends at the next denormal but one": (np.log, 1e-300, 1e300),
    "sqrt beside its edge": (np.sqrt, 1e-300, 0.5e150),
    "x = 1e-300 where f does not care": (np.sin, 1e-300, 1.0),
    "fast oscillation": (lambda x: np.sin(1e6 * x), 0.3, 1e6 * math.cos(1e6 * 0.3)),
    "fast oscillation about 0: no even part": (lambda x: np.sin(1e6 * x), 0.0, 1e6),
    "faster oscillation": (lambda x: np.sin(1e9 * x), 0.3, 1e9 * math.cos(1e9 * 0.3)),
    "steep growth": (lambda x: np.exp(50 * x), 1.0, 50 * math.exp(50)),
    "x = 1e8, f varies over 1": (np.sin, 1e8, math.cos(1e8)),
    "x = 1e8, a polynomial": (lambda x: x * x, 1e8, 2e8),
    "relu, active, kink near": (relu, 1e-3, 1.0),
    "relu, active, kink very near: large steps see 1/2": (lambda x: relu(x) + 1, 1e-12, 1.0),
    "relu, active, kink nearer than any usual step": (relu, 1e-300, 1.0),
    "abs: the complex step sees 0": (np.abs, -0.7, -1.0),
    "partly without complex step": (lambda x: x + np.real(x) ** 2, 0.7, 2.4),
    "a spike that large steps miss": (lambda x: x * np.exp(-((x / 1e-6) ** 2)), 0.0, 1.0),
    "a spike on a slope": (lambda x: x + np.exp(-((1e4 * x) ** 2)), 1e-4, 1 - 2e4 / math.e),
    "a ripple that changes the slope": (lambda x: x + 1e-6 * np.sin(1e6 * x), 0.3, 1 + math.cos(1e6 * 0.3)),
    "cancellation inside": (lambda x: (x + 1e8) - 1e8, 1.0, 1.0),
    "math functions: floats only": (
        lambda x: math.exp(math.sin(x)),
        0.5,
        math.exp(math.sin(0.5)) * math.cos(0.5),
    ),
    "deterministic noise of 1e-8": (lambda x: x + 1e-8 * math.sin(1e12 * math.sin(1e5 * x)), 1.0, 1.0),
    "float32 inside": (lambda x: float(np.float32(x) ** 2), 1.3, 2.6),
    "float32 inside, then float64": (lambda x: 0.3 * float(np.float32(x) ** 2 + np.float32(1)), 1.3, 0.78),
}
PLANTED = {
    "twice": lambda g: 2 * g,
    "half": lambda g: g / 2,
    "sign": lambda g: -g,
    "missing": lambda g: 0.0,
    "another term": lambda g: g + abs(g),
    "infinite": lambda g: math.inf,
    "nan": lambda g: math.nan,
}


@pytest.mark.parametrize("name", MEASURABLE)
def test_a_right_gradient_agrees(name):
    f, x, right = MEASURABLE[name]
    check = check_grad(f, x, right)
    assert check, str(check)


@pytest.mark.parametrize(("name", "error"), list(itertools.product(MEASURABLE, PLANTED)))
def test_a_planted_error_differs(name, error):
    f, x, right = MEASURABLE[name]
    check = check_grad(f, x, PLANTED[error](right))
    assert check.verdict == "differ", str(check)
    if error in ("twice", "half"):
        # the noise of the roughest case, 5 %
        assert check.worst.ratio == pytest.approx({"twice": 2.0, "half": 0.5}[error], rel=0.05)


@pytest.mark.parametrize("factor", [1 + 1e-3, 1 - 1e-4])
def test_a_small_relative_error_differs_where_the_slope_is_well_measured(factor):
    for name in ("a power", "f tiny", "steep growth", "sqrt beside its edge"):
        f, x, right = MEASURABLE[name]
        assert verdict(f, x, right * factor) == "differ"


# --- slopes that are zero to working accuracy: a right gradient there is rounding, and agrees ---

ZERO = {
    "no dependence at all": (lambda x: 3.7, 1.0, 0.0),
    "a dead unit": (lambda x: relu(x) + 1, -0.5, 0.0),
    "a dead unit, kink near": (lambda x: 0.3 * relu(x) + 1, -1e-4, 0.0),
    "a maximum: sin(pi) is not 0": (np.cos, math.pi, -math.sin(math.pi)),
    "an even function": (np.cos, 0.0, 0.0),
    "f and slope vanish": (lambda x: np.sin(x) ** 2, 0.0, 0.0),
    "a kink of the second derivative only": (lambda x: x * abs(x), 0.0, 0.0),
    "terms that cancel": (lambda x: np.sin(x) ** 2 + np.cos(x) ** 2, 1.1, 1e-17),
    "saturation": (np.tanh, 20.0, 1 / math.cosh(20) ** 2),
    "underflow": (lambda x: x * x, 1e-300, 2e-300),
    "a step function between its steps": (np.floor, 2.5, 0.0),
    "the sign away from 0": (np.sign, -1e-3, 0.0),
    "f is 0 throughout, its gradient rounding": (lambda x: np.log(np.exp(x) / np.exp(x)), 0.3, 1e-17),
}


@pytest.mark.parametrize("name", ZERO)
def test_zero_to_working_accuracy_agrees(name):
    check = check_grad(*ZERO[name])
    assert check, str(check)


@pytest.mark.parametrize("name", ZERO)
def test_a_gradient_where_there_is_none_differs(name):
    f, x, _ = ZERO[name]
    assert verdict(f, x, 0.01) == "differ"


def test_a_wrong_saturated_gradient_does_not_agree():
    # The differences see 0; the complex step does see the factor 2.
    assert verdict(np.tanh, 20.0, 2 / math.cosh(20) ** 2) == "undecidable"


# --- what cannot be told: undecidable, whatever is claimed, with the reason ---

UNDECIDABLE = {
    "relu at 0": (relu, 0.0, "slopes from the left 0 and from the right 1"),
    "abs at 0": (np.abs, 0.0, "slopes from the left -1 and from the right 1"),
    "a kink on a slope": (lambda x: 10 * x + abs(x - 2), 2.0, "a kink at 2"),
    "a kink nearer than rounding": (lambda x: relu(x) + 1, 1e-15, "a kink at 1e-15"),
    "the edge of a domain": (np.sqrt, 0.0, "finite on one side only, above 0"),
    "an edge that raises": (lambda x: math.sqrt(1 - x), 1.0, "finite on one side only, below 1"),
    "a single point": (lambda x: x if x == 1 else math.nan, 1.0, "too many points around 1"),
    "a jump": (np.floor, 2.0, "jump"),
    "a jump through 0": (np.sign, 0.0, "jump"),
    "a vertical tangent": (np.cbrt, 0.0, "no steady slope"),
    "an oscillation below rounding": (lambda x: np.sin(1e15 * x), 0.3, "noise or a jump"),
    "nan at the point": (lambda x: math.nan, 1.0, "f is nan at the point"),
    "inf at the point": (lambda x: math.inf, 1.0, "f is inf at the point"),
}


@pytest.mark.parametrize("claimed", [0.0, 0.5, 1.0, -3.0, math.inf, math.nan])
@pytest.mark.parametrize("name", UNDECIDABLE)
def test_undecidable(name, claimed):
    f, x, reason = UNDECIDABLE[name]
    check = check_grad(f, x, claimed)
    assert check.verdict == "undecidable", str(check)
    assert reason in check.worst.reason
    assert reason in str(check)
    assert not check


def test_a_tie_of_two_arguments_is_undecidable_for_both():
    check = check_grad(lambda a, b: np.maximum(a, b), (1.5, 1.5), (0.5, 0.5))
    assert [element.verdict for element in check.elements] == ["undecidable", "undecidable"]


def test_random_functions_are_undecidable():
    generator = np.random.default_rng(0)
    check = check_grad(lambda x: x * generator.random(), 1.0, 0.5)
    assert check.verdict == "undecidable"
    assert check.worst.reason == "f gives different values at the same point"


def test_randomness_that_shows_late_is_noticed():
    calls = itertools.count()
    check = check_grad(lambda x: x + (next(calls) > 20), 1.0, 1.0)
    assert check.worst.reason == "f gives different values at the same point"


def test_a_staircase_on_purpose_does_not_differ_from_either_slope():
    # 1 from afar, 0 nearby
    for claimed in (0.0, 1.0):
        assert verdict(lambda x: np.floor(1e6 * x) / 1e6, 0.1234567, claimed) != "differ"
    assert verdict(lambda x: np.floor(1e6 * x) / 1e6, 0.1234567, 2.0) == "differ"


def test_a_float32_part_in_a_float64_function_is_no_reason_to_accuse():
    f = lambda x: x + float(np.float32(x) ** 2)  # noqa: E731
    assert verdict(f, 1.3, 3.6) == "undecidable"
    assert verdict(f, 1.3, 7.2) == "differ"


# --- several arguments, arrays, networks ---


def test_one_small_wrong_element_among_large_right_ones():
    f = lambda x, y: x**2 + 1e-9 * y  # noqa: E731
    assert check_grad(f, (3.0, 1.0), (6.0, 1e-9))
    check = check_grad(f, (3.0, 1.0), (6.0, 2e-9))
    assert (check.verdict, check.worst.name, check.worst.argument, check.worst.index) == (
        "differ",
        "y",
        1,
        (),
    )
    assert check.worst.reason == "claimed is 2 times the measured slope"
    assert check.worst.ratio == pytest.approx(2.0, rel=1e-9)  # the complex step is exact here


def test_arrays_keep_their_shape_and_the_worst_its_index():
    W, x = np.arange(6.0).reshape(2, 3) / 7, np.array([0.3, -1.0, 0.5])
    f = lambda W, x: 1e-9 * np.sum(np.tanh(W @ x))  # noqa: E731
    rows = 1e-9 * (1 - np.tanh(W @ x) ** 2)
    right = (np.outer(rows, x), rows @ W)
    assert check_grad(f, (W, x), right)
    wrong = (right[0].copy(), right[1])
    wrong[0][1, 2] *= 2
    check = check_grad(f, (W, x), wrong)
    assert (check.verdict, check.worst.name, check.worst.index) == ("differ", "W[1, 2]", (1, 2))
    assert [element.verdict for element in check.elements].count("agree") == 8
    assert str(check).splitlines()[0] == "differ (8 agree, 1 differ)"


def gradients(f, at):
    """The oracle's gradient; it warns where f does not depend on an argument."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input", UserWarning)
        return autograd.grad(f, tuple(range(len(at))))(*at)


def network(np, sizes, activation, X, y, cast=lambda p: p):
    """The mean cross-entropy of a small network as a function of its arrays W1, W2, ..., b1, b2, ..."""

    def loss(*parameters):
        layers = len(sizes) - 1
        a = X
        for k in range(layers):
            z = a @ cast(parameters[k]) + cast(parameters[layers + k])
            a = activation(z) if k < layers - 1 else z
        return -np.mean(a[:, 0] * y - np.log(1 + np.exp(a[:, 0])))

    return loss


ACTIVATIONS = {"tanh": lambda np: np.tanh, "relu": lambda np: lambda z: np.maximum(0, z)}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(4))
def test_networks(activation, seed):
    generator = np.random.default_rng(seed)
    sizes = [3, 4, 3, 1]
    X, y = generator.normal(size=(5, 3)), generator.integers(0, 2, 5)
    # some gradients of 1e-6 and less: inputs that hardly matter
    X = X * np.array([1.0, 1e-4, 1e-8])
    shapes = [*itertools.pairwise(sizes), *sizes[1:]]
    at = tuple(generator.normal(size=shape) for shape in shapes)
    f = network(np, sizes, ACTIVATIONS[activation](np), X, y)
    right = gradients(network(anp, sizes, ACTIVATIONS[activation](anp), X, y), at)
    check = check_grad(f, at, right)
    assert check, str(check)
    for argument, gradient in enumerate(right):
        nonzero = np.flatnonzero(gradient)
        if not len(nonzero):
            continue  # a dead layer
        small = nonzero[np.argmin(abs(gradient.flat[nonzero]))]
        wrong = [g.copy() for g in right]
        wrong[argument].flat[small] *= (2.0, 0.5, -1.0)[(argument + seed) % 3]  # every argument meets every factor
        found = check_grad(f, at, tuple(wrong))
        assert found.verdict == "differ", str(found)
        assert [element.verdict for element in found.elements].count("differ") == 1


@pytest.mark.parametrize("inside", [False, True], ids=["claim in float32", "f in float32 too"])
@pytest.mark.parametrize("seed", range(3))
def test_float32_networks(seed, inside):
    generator = np.random.default_rng(seed)
    sizes = [2, 3, 1]
    X, y = generator.normal(size=(4, 2)).astype(np.float32), np.array([0, 1, 1, 0], np.float32)
    shapes = [*itertools.pairwise(sizes), (1, 3), (1, 1)]
    at = tuple(generator.normal(size=shape).astype(np.float32) for shape in shapes)
    right = gradients(network(anp, sizes, anp.tanh, X, y), at)
    assert all(gradient.dtype == np.float32 for gradient in right)
    f = network(np, sizes, np.tanh, X, y, (lambda p: p.astype(np.float32)) if inside else (lambda p: p))
    check = check_grad(f, at, right)
    assert check, str(check)
    for argument, factor in itertools.product(range(4), (2.0, -1.0)):
        wrong = [gradient.copy() for gradient in right]
        largest = np.argmax(abs(wrong[argument]))
        wrong[argument].flat[largest] *= factor
        assert verdict(f, at, tuple(wrong)) == "differ"


def test_float32_sum_of_products():
    x = np.array([0.1, -2.5, 3.3], np.float32)
    f = lambda x: float((x.astype(np.float32) ** 2).sum())  # noqa: E731
    assert check_grad(f, x, 2 * x)
    assert verdict(f, x, 4 * x) == "differ"
    assert verdict(f, x, -2 * x) == "differ"
    assert verdict(f, x, 0 * x) == "differ"


# --- the project's own gradients ---


def test_own_gradient_of_numbers_and_arrays():
    assert check_grad(lambda x: autodiff.tanh(x) * x, 0.7)
    assert check_grad(lambda W, x: np.sum(np.tanh(W @ x)), (np.eye(2) * 0.3, np.array([1.0, 2.0])))
    assert check_grad(lambda x: x, 2.0)
    assert check_grad(lambda x: np.maximum(0, x), 0.0).verdict == "undecidable"


def test_a_function_that_takes_nodes_only():
    check = check_grad(lambda x, y: (x * y).relu() + x.tanh(), (0.7, 2.0))
    assert check, str(check)


def test_a_wrong_rule_is_caught():
    wrong = autodiff.primitive("wrong_square", lambda a: a * a, lambda y, a: 3.0 * a, formula="a * a")
    try:
        check = check_grad(lambda x: 1.0 + 1e-6 * wrong(x), 0.5)
    finally:
        del autodiff.TABLE["wrong_square"]
    assert check.verdict == "differ"
    assert check.worst.reason == "claimed is 1.5 times the measured slope"


def test_nodes_that_f_brings_along_keep_their_grad():
    w = autodiff.Value(3.0)
    (w * 2).backward()
    assert check_grad(lambda x: x * x * w.data + w * x, 0.5)
    assert w.grad == 2.0


def test_a_detached_output_is_a_clear_error():
    with pytest.raises(TypeError, match=r"plain number 4.0 when it was given nodes.*claimed="):
        check_grad(lambda x: 4.0, 2.0)
    with pytest.raises(TypeError, match=r"left the graph on the way"):
        check_grad(lambda x: x.item() ** 2 if hasattr(x, "item") else x**2, 2.0)


# --- errors, side effects ---

BAD = {
    "two numbers": (lambda x: x, np.ones(2), np.ones(2), ValueError, r"array of shape \(2,\)"),
    "nothing": (lambda x: None, 1.0, 1.0, ValueError, "returned None"),
    "a complex number": (lambda x: x + 1j, 1.0, 1.0, ValueError, r"returned \(1\+1j\)"),
    "a complex point": (lambda x: x, 1j, 1.0, TypeError, "at must be a float or an array"),
    "a complex array": (np.sum, np.ones(2) * 1j, np.ones(2), TypeError, "real numbers, got complex128"),
    "a list": (np.sum, [1.0, 2.0], np.ones(2), TypeError, "may be a tuple"),
    "a string": (np.sum, "1", 1.0, TypeError, "got '1'"),
    "an empty array": (np.sum, np.ones(0), np.ones(0), ValueError, "at is empty"),
    "an empty tuple": (np.sum, (), (), ValueError, "empty tuple"),
    "nan in the point": (lambda x, y: x, (1.0, math.nan), (1.0, 0.0), ValueError, r"at\[1\] is not finite"),
    "a claim of another shape": (np.sum, np.ones((2, 3)), np.ones((3, 2)), ValueError, r"\(3, 2\).*\(2, 3\)"),
    "an array for a float": (lambda x: x, 1.0, np.ones(1), ValueError, r"shape \(1,\)"),
    "too few claims": (lambda x, y: x, (1.0, 1.0), (1.0,), ValueError, "tuple of 2 gradients.*1 of them"),
    "one claim for two": (lambda x, y: x, (1.0, 1.0), 1.0, ValueError, "tuple of 2 gradients.*float"),
    "a string claimed": (lambda x: x, 1.0, "one", TypeError, "got <U3"),
    "a complex claim": (lambda x: x, 1.0, 1j, TypeError, "got complex128"),
    "an object claimed": (lambda x: x, 1.0, object(), TypeError, "must be a number"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_say_what_came(name):
    f, at, claimed, error, message = BAD[name]
    with pytest.raises(error, match=message):
        check_grad(f, at, claimed)


def test_an_exception_at_the_point_itself_is_the_users():
    with pytest.raises(ZeroDivisionError):
        check_grad(lambda x: 1 / (x - 1), 1.0, 1.0)


def test_neither_the_point_nor_the_claim_is_touched():
    def in_place(x):
        x *= 2
        return np.sum(x)

    x, claimed = np.ones(3), np.full(3, 2.0)
    assert check_grad(in_place, x, claimed)
    assert (x == 1).all()
    assert (claimed == 2).all()


def test_warnings_at_shifted_points_do_not_leak():
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        assert check_grad(np.log, 1e-3, 1e3)
        assert check_grad(lambda x: np.exp(x) / 1, 700.0, math.exp(700.0))
    with np.errstate(all="raise"):
        assert check_grad(np.log, 1e-3, 1e3)


def test_zero_dimensional_and_one_element_values_pass_for_numbers():
    assert check_grad(lambda x: x.reshape(1, 1) ** 2, np.array(3.0), np.array(6.0))
    assert check_grad(lambda x: np.float32(1.5) * x, np.float64(2.0), 1.5)


@pytest.mark.parametrize("f", [lambda x: np.exp(np.sin(x)), lambda x: math.exp(math.sin(x))])
def test_the_cost_of_a_smooth_element_is_modest(f):
    calls = itertools.count()

    def counted(x):
        next(calls)
        return f(x)

    assert check_grad(counted, 0.5, math.exp(math.sin(0.5)) * math.cos(0.5))
    assert next(calls) <= 45


# --- campaigns: many functions, no false alarm ---

SMOOTH = {
    "sin": (np.sin, mpmath.sin),
    "tanh": (np.tanh, mpmath.tanh),
    "exp(tanh)": (lambda x: np.exp(3 * np.tanh(x)), lambda x: mpmath.exp(3 * mpmath.tanh(x))),
    "sqrt(1 + x*x)": (lambda x: np.sqrt(1 + x * x), lambda x: mpmath.sqrt(1 + x * x)),
    "1 / (1 + x*x)": (lambda x: 1 / (1 + x * x), lambda x: 1 / (1 + x * x)),
    "x**3": (lambda x: x**3, lambda x: x**3),
}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(list(SMOOTH)), min_size=1, max_size=3),
    st.floats(-3, 3),
    st.integers(-12, 12),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([1.0, 2.0, 0.5, -1.0, 1.001]),
)
def test_compositions_against_mpmath(names, x, exponent, offset, factor):
    """A right claim is never accused; a wrong one agrees only where f cannot show its slope."""

    def f(x):
        for name in names:
            x = SMOOTH[name][0](x)
        return 10.0**exponent * (x + offset)

    def exact(x):
        for name in names:
            x = SMOOTH[name][1](x)
        return mpmath.mpf(10.0**exponent) * x

    with mpmath.workdps(60):
        right = float(mpmath.diff(exact, mpmath.mpf(x)))
    check = check_grad(f, x, factor * right)
    size = abs(f(x)) + 10.0**exponent
    faint = abs(right) < 1e-10 * size  # 1e6 roundings of f
    if factor == 1:
        assert check.verdict == "agree" or faint, str(check)
        assert check.verdict != "differ", str(check)
    else:
        # Differences do not resolve less than that for certain, and the complex step alone accuses nobody.
        unresolved = abs(factor - 1) * abs(right) < 1e-9 * size
        assert check.verdict == "differ" or unresolved, str(check)


@pytest.mark.parametrize("seed", range(60))
def test_random_expressions_against_autograd(seed):
    """Sums and products of functions, kinks included, at points from 1e-12 to 1e3: no false alarm."""
    generator = np.random.default_rng(seed)
    unary = ("sin", "tanh", "exp", "sqrt", "relu", "abs")
    steps = [
        (generator.choice([*unary, "+", "*"]), *generator.integers(0, 3 + k, 2), generator.normal())
        for k in range(generator.integers(1, 7))
    ]
    scale = 10.0 ** generator.uniform(-12, 12)

    def build(np):
        table = {
            "sin": np.sin,
            "tanh": np.tanh,
            "exp": lambda v: np.exp(np.tanh(v)),
            "sqrt": lambda v: np.sqrt(1 + v * v),
            "relu": lambda v: np.maximum(0, v),
            "abs": np.abs,
        }

        def f(*x):
            values = list(x)
            for name, i, j, shift in steps:
                if name in table:
                    values.append(table[name](values[i] + shift))
                else:
                    values.append(values[i] + values[j] if name == "+" else values[i] * values[j])
            return scale * values[-1]

        return f

    signs, exponents = generator.choice([-1.0, 1.0], 3), generator.uniform(-12, 3, 3)
    wide = signs * 10**exponents
    at = tuple(map(float, np.where(generator.random(3) < 0.5, generator.normal(size=3), wide)))
    right = tuple(map(float, gradients(build(anp), at)))
    check = check_grad(build(np), at, right)
    assert check.verdict != "differ", str(check)
    largest = int(np.argmax(np.abs(right)))
    if check and right[largest]:
        wrong = check_grad(build(np), at, tuple(g * (1 + (k == largest)) for k, g in enumerate(right)))
        faint = abs(right[largest]) < 1e-12 * scale  # such a one the differences cannot see
        assert wrong.elements[largest].verdict in ("differ", "undecidable" if faint else "differ"), str(wrong)


# --- the measurement itself ---


@pytest.mark.parametrize("name", [name for name in MEASURABLE if "noise" not in name])
def test_the_slope_lies_within_its_bound(name):
    f, x, right = MEASURABLE[name]
    x = float(x)
    grain = quantum(lambda t: float(f(x + t * max(abs(x), 1.0))) if x + t > 0 else math.nan, float(f(x)))

    def g(t):
        try:
            value = float(f(t))
        except (ValueError, OverflowError):
            return math.nan
        return value

    with np.errstate(all="ignore"):
        found = slope(g, x, float(f(x)), grain)
    assert found.trouble == ""
    # float(right) is itself rounded, and so is the argument of a fast oscillation
    assert abs(found.value - right) <= found.bound + 1e-7 * abs(right)
    assert found.bound <= 0.1 * abs(right)


def test_quantum_tells_float32_from_float64_and_from_flat():
    assert quantum(lambda t: 1 + 0.7 * t, 1.0) == 0.0
    assert quantum(lambda t: float(np.float32(1 + 0.7 * t)), 1.0) == pytest.approx(
        2.0**-23, rel=4
    )  # the first step may cross several stairs
    third = quantum(lambda t: 0.3 * float(np.float32(1 + 0.7 * t)), 0.3)
    assert third == pytest.approx(0.3 * 2.0**-23, rel=4)
    assert quantum(lambda t: math.floor(2.5 + 0.7 * t), 2.0) == 0.0
    assert quantum(lambda t: 0.1 + max(0.0, 0.7 * t - 0.01), 0.1) == 0.0


def dead_unit(w):
    return np.mean(np.maximum(0, 1 - np.maximum(0, np.ones((2, 2)) @ w)))  # exactly 1.0, and flat


@pytest.mark.parametrize(
    ("f", "at", "claimed"),
    [
        (lambda x: 3.0, 1.0, 1e-5),
        (lambda x: 3.0, 1.0, 1e-9),
        (lambda x: 0.1, 1.0, 1e-9),
        (dead_unit, np.array([-1.0, -1.0]), np.array([5e-7, 0.0])),
    ],
)
def test_a_flat_function_of_a_round_number_has_the_gradient_zero(f, at, claimed):
    assert check_grad(f, at, claimed).verdict == "differ"
    assert check_grad(f, at, np.zeros_like(claimed)).verdict == "agree"


def test_functions_that_only_arrays_have_are_checked_too():
    X = np.array([[2.0, 1.0], [0.5, 3.0]])
    assert check_grad(np.linalg.det, X).verdict == "agree"
    assert check_grad(np.linalg.det, X, claimed=2.0 * np.linalg.inv(X).T).verdict == "differ"
    assert check_grad(lambda s, X: np.linalg.slogdet(s * X)[1], (1.5, X)).verdict == "agree"


def test_a_claim_may_be_a_function():
    assert check_grad(lambda x: np.sum(x**3), np.array([1.0, 2.0]), claimed=lambda x: 3 * x**2).verdict == "agree"
    found = check_grad(lambda x, y: x * y, (2.0, 3.0), claimed=lambda x, y: (y, 2 * x))
    assert [element.verdict for element in found.elements] == ["agree", "differ"]
