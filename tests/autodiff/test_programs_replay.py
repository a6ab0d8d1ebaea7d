"""A replayed function is never stale: whatever it decides on a number is decided again at every call."""

import copy
import gc
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff import value
from autodiff.programs import ReplayError, replay
from autodiff.programs.guards import mentions


def eager(f, *args):
    """(value, gradient by the first argument) without any program."""
    y, gradient = ad.value_and_grad(f)(*args)
    return float(y), gradient


# --- data-dependent branches ---


def branches(generator, depth):
    """The source of a function of the list w that branches on numbers, as a person might write it."""

    def expression(level):
        if level == 0:
            return generator.choice(["w[0]", "w[1]", "w[2]", repr(round(generator.uniform(-2, 2), 2))])
        a, b = expression(level - 1), expression(level - 1)
        return generator.choice([
            f"({a} + {b})", f"({a} * {b})", f"({a} - {b})", f"ad.tanh({a} + w[0])", f"max({a}, {b})", f"min({a}, {b})",
            f"sorted([{a}, {b}, w[1]])[1]", f"abs({a} - w[2])", f"ad.where({a} > {b} + w[0], {a}, w[1])",
            f"(w[2] if {a} <= w[0] * {b} else {b})", f"ad.maximum({a}, w[0])", f"(w[0] if w[1] * 1.0 else {a})",
            f"(w[1] if np.signbit(w[0] * {a} + w[1] * 0.0) else {b})", "round(w[0] * 3.7)",
        ])  # fmt: skip

    lines = ["def f(w):", "    y = w[0] * w[1]"]
    for _ in range(depth):
        if generator.random() < 0.5:
            test = generator.choice(["<", "<=", ">", ">=", "==", "!="])
            lines += [f"    if {expression(1)} + w[1] * 0.5 {test} y:", f"        y = y * 0.5 + {expression(2)}"]
            lines += ["    else:", f"        y = {expression(1)} - y * 0.25"]
        else:
            lines += [f"    y = y * 0.5 + {expression(2)}"]
    return "\n".join([*lines, "    return y * 1.0"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_a_fuzz_of_branches_is_never_stale(seed):
    generator = random.Random(seed)
    space = {"ad": ad, "np": np}
    source = branches(generator, 3)
    exec(source, space)
    f = space["f"]
    replayed = replay(f)
    for _ in range(12):
        w = [generator.choice([generator.uniform(-2, 2), 0.0, 1.0, -0.5]) for _ in range(3)]
        expected, gradient = eager(f, w)
        found, slopes = replayed.value_and_grad(w)
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12), source
        assert slopes == pytest.approx(gradient, rel=1e-9, abs=1e-9), source
    statistics = replayed.statistics
    assert statistics.recordings + statistics.replays == 12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_a_fuzz_of_branches_over_a_batch_is_never_stale(seed):
    generator = random.Random(seed)
    space = {"ad": ad, "np": np}
    exec(branches(generator, 2), space)
    f = space["f"]

    def of_sample(w, x):
        return f([w[0], w[1] + x[0], w[2] * x[1]])

    X = np.array([[generator.uniform(-2, 2) for _ in range(2)] for _ in range(9)])
    each, mean = replay(of_sample, over=(X,), reduction=None), replay(of_sample, over=(X,))
    for _ in range(3):
        w = np.array([generator.uniform(-2, 2) for _ in range(3)])
        expected = [float(ad.value_and_grad(of_sample)(list(w), x)[0]) for x in X]
        gradients = [ad.grad(of_sample)(list(w), x) for x in X]
        np.testing.assert_allclose(each(w), expected, rtol=1e-9, atol=1e-9)
        found, gradient = mean.value_and_grad(w)
        np.testing.assert_allclose(found, np.mean(expected), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(gradient, np.mean(gradients, axis=0), rtol=1e-9, atol=1e-9)


def test_statistics_of_a_branch():
    f = replay(lambda x: x * 2.0 if x > 0.0 else x * 3.0)
    assert [f(1.0), f(2.0), f(-1.0), f(-2.0), f(3.0)] == [2.0, 4.0, -3.0, -6.0, 6.0]
    assert (f.statistics.recordings, f.statistics.replays, f.statistics.guard_failures) == (2, 3, 2)
    assert len(f.programs) == 2


def test_a_guard_that_is_planted_away_is_missed():
    f = replay(lambda x: x * 2.0 if x > 0.0 else x * 3.0)
    f(1.0)
    f.programs[0].tape.guards.clear()
    assert f(-1.0) == -2.0  # stale: the guard is what prevents it


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sort(x)[0] * 2.0,
        lambda x: x[np.argmax(x)] ** 2,
        lambda x: np.sum(np.where(x > 0.5, x**2, -x)),
        lambda x: np.median(x),
        lambda x: np.max(x) - np.min(x),
        lambda x: np.sum(np.where(np.isnan(x), 0.0, x)),
        lambda x: np.sum(np.clip(x, -0.5, 0.5)) + np.sum(np.fmax(x, 0.2)),
        lambda x: np.sum(x[x > 0.0]),
        lambda x: np.sum(np.heaviside(x, 0.5) * x) + np.sum(np.copysign(x, x[::-1])),
    ],
)
def test_comparisons_inside_of_numpy_count(f):
    generator = np.random.default_rng(0)
    replayed = replay(f)
    for _ in range(10):
        x = generator.normal(size=3)
        assert replayed(x) == pytest.approx(float(f(x)), rel=1e-12)


def test_nan_takes_its_own_branch():
    f = replay(lambda x: x * 2.0 if x < 1.0 else x * 0.0 + 5.0)
    assert f(0.0) == 0.0
    assert np.isnan(f(np.nan))
    g = replay(lambda x: 1.0 if np.isnan(x) else x * 3.0)
    assert (g(2.0), g(np.nan), g(1.0)) == (6.0, 1.0, 3.0)


def test_the_other_branch_warns_of_nothing():
    f = replay(lambda x: ad.log(x) if x > 0.0 else x * 1.0)
    assert f(1.0) == 0.0
    assert f(-1.0) == -1.0  # log(-1) was tried and dropped
    over = replay(
        lambda w, x: ad.sqrt(w * x) if w * x > 0.0 else w * x, over=(np.array([4.0, -4.0, 9.0]),), reduction=None
    )
    np.testing.assert_array_equal(over(1.0), [2.0, -4.0, 3.0])
    with pytest.warns(RuntimeWarning, match="divide"):
        assert replay(lambda x: ad.log(x) if x >= 0.0 else x)(0.0) == -np.inf


def test_rounding_to_digits_asks_how_large_the_number_is():
    f = replay(lambda x: round(x, 1) + x * 0.5)
    assert [f(x) for x in (1.26, 1e17, 2.71)] == [1.3 + 0.63, 1.5e17, 2.7 + 1.355]
    assert f.statistics.recordings == 2


def test_signatures_are_not_kept_for_ever():
    f = replay(lambda x, step: x * step)
    assert [f(2.0, step) for step in range(1, 100)] == [2.0 * step for step in range(1, 100)]
    assert len(f.programs) == 64


# --- what is refused ---


def takes_item(x):
    return x * x.item()


def reads_data(x):
    return x * x.data


def helper(x):
    return x.data


def reads_data_elsewhere(x):
    return x * helper(x)


def reads_array_data(x):
    return np.sum(x * x.data)


def runs_backward(x):
    y = x * x
    y.backward()
    return y * x.grad


def stops(x):
    return x * ad.stop_gradient(x)


def copies(x):
    return x * copy.deepcopy(x)


def takes_adjoints(x):
    y = x * x
    return ad.adjoints(y)[x] * y


def reads_by_name(x):
    return x * getattr(x, "data")  # noqa: B009


@pytest.mark.parametrize(
    ("f", "x", "how"),
    [
        (takes_item, 2.0, "item"),
        (reads_data, 2.0, "data"),
        (reads_data_elsewhere, 2.0, "data"),
        (reads_array_data, np.ones(2), "data"),
        (runs_backward, 2.0, "backward"),
        (stops, 2.0, "stop_gradient"),
        (copies, 2.0, "copy"),
        (takes_adjoints, 2.0, "adjoints"),
        (reads_by_name, 2.0, "data"),
    ],
)
def test_a_number_that_leaves_the_graph_is_refused(f, x, how):
    with pytest.raises(ReplayError, match=rf"{how}.*test_programs_replay.py, line \d+"):
        replay(f)(x)
    assert value.watcher is None
    assert type(ad.Value.__dict__["data"]).__name__ == "member_descriptor"
    assert ad.Value(3.0).data == 3.0


def test_code_is_searched_through_helpers():
    assert mentions(reads_data_elsewhere, "data")
    assert not mentions(takes_item, "data")


def test_errors_of_the_function_leave_nothing_behind():
    def fails(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        replay(fails)(1.0)
    assert value.watcher is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: replay(3), TypeError, "takes a function"),
        (lambda: replay(abs, over=(np.ones(2), np.ones(3))), ValueError, "one length"),
        (lambda: replay(abs, over=np.ones(2)), TypeError, "tuple of arrays"),
        (lambda: replay(abs, reduction="max"), ValueError, "unknown reduction"),
        (lambda: replay(lambda x: [x])(1.0), TypeError, "expected one number"),
        (lambda: replay(lambda x: x)("a"), TypeError, "argument 0 holds str"),
        (lambda: replay(lambda x: x, argnums=1)(1.0), TypeError, "no argument 1"),
        (lambda: replay(lambda w, x: w, over=(np.ones(2),), back_end="python")(1.0), ValueError, "no lanes"),
        (lambda: replay(lambda w, x: w, over=(np.ones(2),), reduction=None).grad(1.0), ValueError, "no one gradient"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- signatures ---


def test_new_shapes_structures_and_fixed_arguments_record_again():
    def f(w, power, scale):
        return np.sum(w["a"] ** power) * scale

    replayed = replay(f)
    for size, power, scale in [(2, 2, 1.0), (2, 2, 3.0), (3, 2, 1.0), (2, 3, 1.0), (3, 2, 0.5)]:
        w = {"a": np.arange(1.0, size + 1.0)}
        found, gradient = replayed.value_and_grad(w, power, scale)
        expected, slopes = eager(lambda w: f(w, power, scale), w)  # noqa: B023
        assert found == pytest.approx(expected)
        np.testing.assert_allclose(gradient["a"], slopes["a"])
    assert replayed.statistics.recordings == 3
    assert replayed.statistics.replays == 2


def test_several_arguments():
    f = replay(lambda x, y, z: x * y + z, argnums=(0, 2))
    assert f.value_and_grad(2.0, 3.0, 4.0) == (10.0, (3.0, 1.0))
    assert f.value_and_grad(2.0, 5.0, 4.0) == (14.0, (5.0, 1.0))
    assert f.grad(1, 1, 1) == (1.0, 1.0)
    assert f.statistics.recordings == 2  # the integer 1 in the place of y is fixed


def test_values_from_elsewhere_are_read_at_every_call():
    a = ad.Value(2.0)
    f = replay(lambda x: x * a + ad.Value(1.0))
    assert f(3.0) == 7.0
    a.data = 5.0
    assert f(3.0) == 16.0
    assert f.statistics.recordings == 1


def test_data_that_change_between_calls_run_as_lanes():
    def loss(w, X, y):
        return np.mean((np.tanh(X @ w[:2]) * w[2] - y) ** 2)

    generator = np.random.default_rng(1)
    replayed = replay(loss)
    for _ in range(3):
        w, X, y = generator.normal(size=3), generator.normal(size=(20, 2)), generator.normal(size=20)
        expected, gradient = eager(loss, w, X, y)
        found = replayed.value_and_grad(w, X, y)
        assert found[0] == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-10)
    [program] = replayed.programs
    assert program.back_end == "numpy"
    assert program.size < 20


def test_transforms_compose_with_it():
    f = replay(lambda x: x**3 if x > 0.0 else x)
    assert ad.grad(f)(2.0) == 12.0
    assert ad.grad(ad.grad(f))(2.0) == 12.0
    g = replay(lambda w, x: (w * x) ** 2, over=(np.array([1.0, 2.0]),))
    assert ad.grad(g)(3.0) == pytest.approx(15.0)
    assert g.grad(3.0) == pytest.approx(15.0)
    inner = replay(lambda x: ad.tanh(x))
    assert replay(lambda x: inner(x) * 2.0).value_and_grad(0.0) == (0.0, 2.0)


def outside(x, a=ad.Value(2.0)):  # noqa: B008 - one node for all calls
    return ad.grad(lambda t: t * a)(3.0) * x


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ad.grad(lambda t: t * t * x)(2.0) * x,
        lambda x: ad.jvp(lambda t: t**3 * x, (2.0,), (1.0,))[1] * x,
        lambda x: ad.hvp(lambda t: t**3 * x, (2.0,), (1.0,))[0] * x,
        lambda x: ad.vjp(lambda t: ad.exp(t * x), 1.0)[1](1.0)[0] * x,
        lambda x: ad.grad(lambda t: ad.tanh(t) * x)(x) + ad.grad(lambda t: t**2)(3.0) * x,
        lambda x: ad.value_and_grad(lambda t: ad.log(t) * x)(2.0)[1] * x,
    ],
)
def test_transforms_inside_of_it_do_not_freeze(f):
    replayed = replay(f)
    for x in (1.0, 3.0, 0.5):
        assert replayed.value_and_grad(x) == pytest.approx(ad.value_and_grad(f)(x), rel=1e-12)
    assert replayed.statistics.recordings == 1


def test_a_transform_of_a_value_from_elsewhere():
    f = replay(outside)
    assert f(1.0) == 2.0
    outside.__defaults__[0].data = 7.0
    assert f(1.0) == 7.0
    outside.__defaults__[0].data = 2.0


def test_the_graph_is_not_kept():
    f = replay(lambda x: ad.exp(x) * ad.Value(2.0))
    f(1.0)
    gc.collect()
    before = sum(type(thing) is ad.Value for thing in gc.get_objects())
    f(2.0)
    assert sum(type(thing) is ad.Value for thing in gc.get_objects()) == before


# --- over a batch ---


def test_over_a_batch_is_the_mean_of_the_samples():
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(30, 2)), generator.normal(size=30)

    def loss(parameters, x, target):
        h = np.tanh(x @ parameters["W"] + parameters["b"])
        return (np.sum(h) - target) ** 2

    parameters = {"W": generator.normal(size=(2, 3)), "b": generator.normal(size=3)}
    expected, gradient = eager(lambda p: sum(loss(p, X[i], y[i]) for i in range(30)) / 30.0, parameters)
    replayed = replay(loss, over=(X, y))
    found, slopes = replayed.value_and_grad(parameters)
    assert found == pytest.approx(expected, rel=1e-12)
    assert replayed(parameters) == pytest.approx(expected, rel=1e-12)
    for key in parameters:
        np.testing.assert_allclose(slopes[key], gradient[key], rtol=1e-10, atol=1e-14)
    assert replayed.statistics.recordings == 1
    assert replay(loss, over=(X, y), reduction="sum")(parameters) == pytest.approx(30.0 * expected, rel=1e-12)
    each = replay(loss, over=(X, y), reduction=None)(parameters)
    np.testing.assert_allclose(each, [loss(parameters, X[i], y[i]) for i in range(30)], rtol=1e-12)


def test_over_with_arguments_that_are_data_and_a_part_that_no_sample_moves():
    X = np.array([1.0, 2.0, 3.0])
    f = replay(lambda w, c, x: (w * x + c) ** 2 + w * w, over=(X,))
    for w, c in [(2.0, 0.5), (1.0, -1.0)]:
        value, slope = f.value_and_grad(w, c)
        assert value == pytest.approx(np.mean((w * X + c) ** 2) + w * w)
        assert slope == pytest.approx(np.mean(2 * (w * X + c) * X) + 2 * w)
    constant = replay(lambda w, x: w * w, over=(X,))
    assert constant.value_and_grad(3.0) == (9.0, 6.0)


def test_over_one_sample():
    assert replay(lambda w, x: w * x, over=(np.array([2.0]),)).value_and_grad(3.0) == (6.0, 2.0)
