"""Descent: update rules against loops written from their papers, on every back end, and what ends steps in one call."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff import updates
from autodiff.programs import descent, machine, record, replay, replaying
from autodiff.programs.instructions import LANES, Builder
from autodiff.programs.machine.lanes import Lanes
from autodiff.programs.source import Compiled

BACK_ENDS = [
    "python",
    "numpy",
    "tape",
    pytest.param("numba", marks=pytest.mark.skipif(machine.why_not() is not None, reason="no numba")),
]
ROUNDING = {"rtol": 1e-11, "atol": 1e-13}  # sums in another order, carried on by some dozens of steps
generator = np.random.default_rng(8)
X, T = generator.normal(size=(23, 2)), generator.uniform(-1.0, 1.0, 23)
START = np.array([0.3, -0.8, 0.1])


# --- oracles: loops on arrays, one per formula ---


def sgd(p, gradient, steps):
    for _ in range(steps):
        p = p - 0.2 * gradient(p)
    return p


def momentum(p, gradient, steps):
    """PyTorch: b = g at the first step, then b = 0.9 b + g; p -= 0.2 b."""
    b = gradient(p)
    for t in range(steps):
        if t:
            b = 0.9 * b + gradient(p)
        p = p - 0.2 * b
    return p


def nesterov(p, gradient, steps):
    """PyTorch, with weight decay 0.1: g = g + 0.1 p; b = 0.8 b + g; p -= 0.05 (g + 0.8 b)."""
    b = np.zeros_like(p)
    for _ in range(steps):
        g = gradient(p) + 0.1 * p
        b = 0.8 * b + g
        p = p - 0.05 * (g + 0.8 * b)
    return p


def adam(p, gradient, steps, decay=0.0):
    """Kingma and Ba 2015, algorithm 1."""
    m = v = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(p) + decay * p
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.99 * v + (1 - 0.99) * g**2
        p = p - 0.02 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-6)
    return p


RULES = {
    "sgd": (updates.SGD(0.2), sgd),
    "momentum": (updates.SGD(0.2, momentum=0.9), momentum),
    "nesterov": (updates.SGD(0.05, momentum=0.8, nesterov=True, weight_decay=0.1), nesterov),
    "adam": (updates.Adam(0.02, (0.9, 0.99), 1e-6), adam),
    "adam, decay": (updates.Adam(0.02, (0.9, 0.99), 1e-6, 0.3), lambda *args: adam(*args, decay=0.3)),
}


def fitted(p):
    """The mean of (tanh(w x + b) - t)², and its gradient, by hand."""
    y = np.tanh(X @ p[:2] + p[2])
    slope = 2.0 * (y - T) * (1.0 - y * y) / len(T)
    return np.mean((y - T) ** 2), np.append(slope @ X, slope.sum())


def of_sample(p, x, t):
    return (np.tanh(p[0] * x[0] + p[1] * x[1] + p[2]) - t) ** 2


def of_batch(p, X, T):
    return np.mean((np.tanh(X @ p[:2] + p[2]) - T) ** 2)


def compared(rule, oracle, found, steps, start=START, function=fitted):
    """AssertionError unless (p, history) is what the oracle finds."""
    p, history = found
    np.testing.assert_allclose(p, oracle(start, lambda p: function(p)[1], steps), **ROUNDING)
    values = [function(oracle(start, lambda p: function(p)[1], step))[0] for step in range(steps)]
    np.testing.assert_allclose(history, values, **ROUNDING)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_on_arrays_is_its_formula(name):
    rule, oracle = RULES[name]
    p, state = START, rule.start(START)
    for _ in range(25):
        p, state = rule.update(p, fitted(p)[1], state, rule.numbers)
    np.testing.assert_allclose(p, oracle(START, lambda p: fitted(p)[1], 25), **ROUNDING)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_every_rule_on_every_back_end(name, back_end):
    rule, oracle = RULES[name]
    found = replay(of_batch, back_end=back_end).descend(START, X, T, steps=25, optimiser=rule)
    compared(rule, oracle, found, 25)
    nodes = ad.scalars(START)
    program = record(of_batch(nodes, X, T), [nodes], back_end)
    [p], history = program.descend([START], 25, rule)
    compared(rule, oracle, (p, history), 25)
    if back_end in ("numpy", "numba"):
        loss = replay(of_sample, over=(X, T), back_end=back_end)
        compared(rule, oracle, loss.descend(START, steps=25, optimiser=rule), 25)
        assert (loss.statistics.recordings, loss.statistics.replays) == (1, 24)


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_wrong_rule_is_noticed(back_end):
    class WithoutCorrection(updates.Adam):
        def update(self, p, g, state, numbers):
            rate, b1, b2, eps, _ = numbers
            m, v, one, other = state
            m, v = b1 * m + (1.0 - b1) * g, b2 * v + (1.0 - b2) * (g * g)
            return p - rate * m / (ad.sqrt(v) + eps), [m, v, one, other]

    rule = WithoutCorrection(0.02, (0.9, 0.99), 1e-6)
    found = replay(of_batch, back_end=back_end).descend(START, X, T, steps=5, optimiser=rule)
    with pytest.raises(AssertionError):
        compared(rule, adam, found, 5)


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_one_number(name, back_end):
    rule, oracle = RULES[name]
    r = replay(lambda p: (p - 2.0) ** 2 * p, back_end=back_end)
    p, history = r.descend(3.0, steps=12, optimiser=rule)
    assert type(p) is float

    def cubic(p):
        return (p - 2.0) ** 2 * p, 2.0 * (p - 2.0) * p + (p - 2.0) ** 2

    compared(rule, oracle, (p, history), 12, np.array(3.0), cubic)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_on_programs_of_arrays(name):
    rule, oracle = RULES[name]
    whole = replay(of_batch, magnification="array")
    compared(rule, oracle, whole.descend(START, X, T, steps=25, optimiser=rule), 25)
    by_sample = replay(of_sample, over=(X, T), magnification="array")
    compared(rule, oracle, by_sample.descend(START, steps=25, optimiser=rule), 25)


def test_structures_of_arrays():
    def f(p, x, more):
        return np.sum((p["W"] @ x) ** 2) * p["scale"][0] * more

    r = replay(f, argnums=(0, 2), magnification="array")
    args = {"W": np.ones((1, 2), np.float32), "scale": (0.5,)}, np.array([1.0, 2.0]), 3.0
    (p, more), history = r.descend(*args, steps=1, learning_rate=0.01)
    value, (of_p, of_more) = r.value_and_grad(*args)
    assert history == [value]
    np.testing.assert_allclose(p["W"], args[0]["W"] - 0.01 * of_p["W"], rtol=1e-6)
    assert (p["W"].dtype, type(p["scale"][0]), more) == (np.float32, float, 3.0 - 0.01 * of_more)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"gradient by argument\[0\]\['W'\] is not finite"):
        r.descend({"W": np.full((1, 2), np.inf), "scale": (1.0,)}, np.ones(2), 1.0, steps=1)


def test_a_sum_over_samples_is_no_mean():
    loss = replay(of_sample, over=(X, T), reduction="sum")
    p, history = loss.descend(START, steps=8, learning_rate=0.2 / len(T))
    expected, means = replay(of_sample, over=(X, T)).descend(START, steps=8, learning_rate=0.2)
    np.testing.assert_allclose(p, expected, **ROUNDING)
    np.testing.assert_allclose(history, np.multiply(means, len(T)), **ROUNDING)
    with pytest.raises(ValueError, match="have no one gradient"):
        replay(of_sample, over=(X, T), reduction=None).descend(START, steps=1)


def drawn(numbers, depth, leaves):
    """A random formula: a function of the leaves."""
    if depth == 0:
        i, c = int(numbers.integers(leaves)), float(numbers.normal())
        return lambda x: x[i] * c
    one, other = (drawn(numbers, depth - 1, leaves) for _ in range(2))
    row = [ad.tanh, ad.sin, ad.sigmoid, ad.softplus, ad.relu, lambda a: ad.exp(-a * a)][numbers.integers(6)]
    join = [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a / (1.0 + b * b)][
        numbers.integers(4)
    ]
    return lambda x: row(join(one(x), other(x)))


@pytest.mark.parametrize("back_end", BACK_ENDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), depth=st.integers(1, 4), name=st.sampled_from(sorted(RULES)))
def test_random_formulas(back_end, seed, depth, name):
    numbers = np.random.default_rng(seed)
    f, rule = drawn(numbers, depth, 5), RULES[name][0]
    p, samples = numbers.normal(size=3), numbers.normal(size=(6, 2))

    def whole(p):
        return sum((f([*p, *x]) for x in samples[1:]), f([*p, *samples[0]])) / len(samples)

    expected, values = by_hand(whole, p, 12, rule)
    found = [replay(whole, back_end=back_end).descend(p, steps=12, optimiser=rule)]
    if back_end in ("numpy", "numba"):
        over = replay(lambda p, x: f([*p, *x]), over=(samples,), back_end=back_end)
        found.append(over.descend(p, steps=12, optimiser=rule))
    for moved, history in found:
        # Adam divides by the root of squares of gradients, which may be tiny
        np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(history, values, rtol=1e-9, atol=1e-9)


# --- what comes in and goes out ---


def test_structures_names_and_arguments():
    def f(data, p, more):
        return np.sum((p["W"] @ data) ** 2) * p["scale"][0] + np.sum(more) * p["scale"][1]

    args = np.array([1.0, 2.0]), {"W": np.array([[1.0, -1.0]]), "scale": (0.5, 2.0)}, [np.array([3.0])]
    r = replay(f, argnums=(1, 2))
    moved, history = r.descend(*args, steps=1, learning_rate=0.1)
    _, (of_p, of_more) = r.value_and_grad(*args)
    assert history == [f(*args)]
    assert list(moved[0]) == ["W", "scale"]
    np.testing.assert_array_equal(moved[0]["W"], args[1]["W"] - 0.1 * of_p["W"])
    assert moved[0]["scale"] == (0.5 - 0.1 * of_p["scale"][0], 2.0 - 0.1 * of_p["scale"][1])
    np.testing.assert_array_equal(moved[1][0], args[2][0] - 0.1 * of_more[0])
    again, _ = r.descend(args[0], *moved, steps=6, learning_rate=0.1)
    at_once, _ = r.descend(*args, steps=7, learning_rate=0.1)
    assert str(again) == str(at_once)
    assert args[1]["W"].tolist() == [[1.0, -1.0]]


def test_a_program_takes_and_gives_what_it_was_recorded_with():
    x, y, t = ad.Value(1.0), ad.scalars([2.0, 3.0]), ad.Value(4.0)
    program = record(x * np.sum(y * y) - t * x, [x, y], data=[t])
    (moved, ys), history = program.descend([1.0, np.array([2.0, 3.0]), 4.0], 1, learning_rate=0.5)
    assert (moved, ys.tolist(), history) == (1.0 - 0.5 * 9.0, [0.0, 0.0], [9.0])
    by_name = record(x * x, {"x": x})
    assert by_name.descend([{"x": 1.0}], 2, learning_rate=0.25) == ({"x": 0.25}, [1.0, 0.25])


@pytest.mark.parametrize("over", [False, True])
def test_numbers_from_elsewhere_stay_and_are_read_at_every_call(over):
    shift = ad.Value(1.0)
    if over:
        r = replay(lambda p, x: (p * x - shift) ** 2, over=(np.array([1.0, 1.0]),))
    else:
        r = replay(lambda p: (p - shift) ** 2)
    assert r.descend(0.0, steps=40, learning_rate=0.25)[0] == pytest.approx(1.0)
    shift.data = 5.0
    assert r.descend(0.0, steps=40, learning_rate=0.25)[0] == pytest.approx(5.0)
    assert shift.data == 5.0
    assert r.statistics.recordings == 1


def test_another_learning_rate_needs_no_other_program():
    loss = replay(of_sample, over=(X, T))
    for rate in (0.1, 0.2, np.float64(0.3), 1):
        loss.descend(START, steps=4, optimiser="adam", learning_rate=rate)
    assert len([name for name in loss.program._compiled if name.startswith("step")]) == 1


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_names_of_rules(name):
    default = updates.rule_of(name)
    assert (
        replay(of_batch).descend(START, X, T, steps=3, optimiser=name)[1]
        == (replay(of_batch).descend(START, X, T, steps=3, optimiser=default)[1])
    )
    assert default.numbers[0] == (0.001 if name == "adam" else 0.1)
    assert updates.rule_of(name, 0.5).numbers[0] == 0.5


def test_no_steps_and_nothing_that_moves():
    r = replay(of_batch)
    p, history = r.descend(START, X, T, steps=0)
    assert (p.tolist(), history, r.statistics.recordings) == (START.tolist(), [], 0)
    assert replay(lambda p, x: x * 2.0).descend([], 3.0, steps=2) == ([], [6.0, 6.0])
    assert replay(lambda p: ad.Value(2.0) + 0.0 * p).descend(1.5, steps=3)[0] == 1.5


def test_the_batch_is_read_at_every_call():
    own = X.copy()
    loss = replay(of_sample, over=(own, T))
    loss.descend(START, steps=3)
    own *= 0.5
    found, expected = loss.descend(START, steps=3), replay(of_sample, over=(X * 0.5, T)).descend(START, steps=3)
    assert found[1] == expected[1]


# --- comparisons that come out differently on the way ---


def by_hand(f, p, steps, rule):
    """Every step on nodes."""
    p, state, history = np.array(p, float), rule.start(np.array(p, float)), []
    for _ in range(steps):
        value, gradient = ad.value_and_grad(f)(p)
        history.append(value)
        p, state = rule.update(p, gradient, state, rule.numbers)
    return p, history


def branching(kinds, places):
    """A function whose branches depend on every number: smooth, kinked and torn."""

    def f(p):
        total = 0.01 * np.sum(p * p)
        for x, kind, place in zip(p, kinds, places, strict=True):
            above = x > place
            if kind == 0:
                total = total + ((x - place) ** 2 if above else 0.5 * (place - x) ** 3)
            elif kind == 1:
                total = total + (2.0 * (x - place) if above else 3.0 * (place - x))
            else:
                total = total + (ad.exp(x - place) if above else 1.0 - (x - place) * 0.7)
        return total

    return f


@pytest.mark.parametrize("back_end", BACK_ENDS)
@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    rule=st.sampled_from(["sgd", "momentum", "adam"]),
)
def test_no_step_is_stale(back_end, kinds, seed, rule):
    numbers = np.random.default_rng(seed)
    p, places = numbers.normal(size=(2, len(kinds)))
    f, rule = branching(kinds, places), updates.rule_of(rule, float(numbers.uniform(0.02, 0.2)))
    expected, values = by_hand(f, p, 15, rule)
    found, history = replay(f, back_end=back_end).descend(p, steps=15, optimiser=rule)
    np.testing.assert_allclose(found, expected, **ROUNDING)
    np.testing.assert_allclose(history, values, **ROUNDING)


@pytest.mark.parametrize("back_end", ["numpy", BACK_ENDS[-1]])
@pytest.mark.parametrize("rule", ["momentum", "adam"])
@pytest.mark.parametrize("seed", range(4))
def test_samples_that_change_their_branch(back_end, rule, seed):
    numbers = np.random.default_rng(seed)
    x, t = numbers.normal(size=9), numbers.normal(size=9)

    def huber(p, x, t):
        d = p[0] * x + p[1] - t
        if abs(d) < 0.4:
            return d * d
        return 0.8 * d - 0.16 if d > 0.0 else -0.8 * d - 0.16

    def whole(p):
        return sum((huber(p, *pair) for pair in zip(x, t, strict=True)), 0.0) / len(x)

    rule = updates.rule_of(rule, 0.05)
    expected, values = by_hand(whole, [0.5, 0.3], 20, rule)
    loss = replay(huber, over=(x, t), back_end=back_end)
    found, history = loss.descend(np.array([0.5, 0.3]), steps=20, optimiser=rule)
    np.testing.assert_allclose(found, expected, **ROUNDING)
    np.testing.assert_allclose(history, values, **ROUNDING)
    assert loss.statistics.recordings > 1
    sums = replay(huber, over=(x, t), back_end=back_end, reduction="sum").descend(np.array([0.5, 0.3]), steps=3)
    expected, values = by_hand(lambda p: whole(p) * len(x), [0.5, 0.3], 3, updates.SGD(0.1))
    np.testing.assert_allclose(sums[0], expected, **ROUNDING)


def test_a_descent_that_a_guard_ended_goes_on_in_one_call(monkeypatch):
    taken, plain = [], []
    step_at, took = replaying.Moving.step_at, replaying.Moving.took
    monkeypatch.setattr(replaying.Moving, "step_at", lambda self, p: plain.append(p.item()) or step_at(self, p))
    monkeypatch.setattr(replaying.Moving, "took", lambda self, steps: taken.append(steps) or took(self, steps))
    r = replay(lambda p: (p - 1.0) ** 2 if p < 9.0 else 3.0 * p)
    p, history = r.descend(20.0, steps=100, learning_rate=0.1)
    assert p == pytest.approx(1.0, abs=1e-5)
    # the first step below 9 is taken for itself, and records; the calls double in length
    assert len(plain) == 1
    assert 8.5 < plain[0] < 9.0
    assert len(taken) < 10
    assert sum(taken) + len(plain) == len(history) == 100
    assert r.statistics == replaying.Statistics(recordings=2, replays=98, guard_failures=1)


def test_where_branches_alternate_steps_are_tried_at_once_less_and_less_often(monkeypatch):
    tried = []
    at_once = replaying.Moving.at_once
    monkeypatch.setattr(replaying.Moving, "at_once", lambda *args: tried.append(1) or at_once(*args))
    r = replay(lambda p: 2.0 * p if p > 0.0 else -2.0 * p)
    p, history = r.descend(0.1, steps=200, learning_rate=0.1)  # to and fro over 0
    assert len(history) == 200
    assert abs(p) <= 0.2
    assert len(tried) < 40


def test_a_program_without_its_function_says_that_a_guard_does_not_hold():
    loss = replay(lambda p: (p - 1.0) ** 2 if p < 9.0 else 3.0 * p)
    loss(20.0)
    with pytest.raises(ad.ReplayError, match="records again"):
        loss.program.descend([20.0], 100, learning_rate=0.1)


# --- numbers that are not finite ---


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_gradient_that_is_not_finite_ends_it_and_says_when(back_end):
    r = replay(lambda p: p["w"] ** 4 + 0.0 * p["b"], back_end=back_end)
    p = {"w": 3.0, "b": 1.0}
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"gradient by .*w.* is not finite") as caught:
        r.descend(p, steps=50, learning_rate=1.0)
    rule, w, steps = updates.SGD(1.0), 3.0, 0
    with np.errstate(all="ignore"):
        while math.isfinite(float(4.0 * np.float64(w) ** 3)):
            w, steps = w - 4.0 * w**3, steps + 1
    assert f"step {steps}, " in caught.value.__notes__[0]
    assert "smaller learning_rate than 1.0" in caught.value.__notes__[0]
    assert p == {"w": 3.0, "b": 1.0}
    course = r.course([p], rule)
    with np.errstate(all="ignore"), pytest.raises(updates.NotFiniteError):
        course.advance(50)
    assert course.column[1, 0] == 1.0
    assert course.column[0, 0] == pytest.approx(w, rel=1e-12)
    assert len(course.history) == steps + 1


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("back_end", ["numpy", BACK_ENDS[-1]])
def test_it_warns_as_the_nodes_do(back_end, over):
    def f(p, x):
        return ad.log(p * x) ** 2

    r = replay(f, over=(np.array([1.0, 2.0]),), back_end=back_end) if over else replay(f, back_end=back_end)
    rest = () if over else (1.0,)
    with pytest.warns(RuntimeWarning, match="divide by zero"), pytest.raises(ValueError, match="not finite"):
        r.descend(0.0, *rest, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r.descend(2.0, *rest, steps=30)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        r.descend(0.0, *rest, steps=3)


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"steps": -1}, ValueError, "steps is 0 or more, got -1"),
        ({"steps": 1.5}, TypeError, "integer"),
        ({"optimiser": "rmsprop"}, ValueError, "unknown optimiser 'rmsprop'; known: sgd, momentum, adam"),
        ({"optimiser": 0.1}, TypeError, "a rule or one of 'sgd', 'momentum', 'adam', got float"),
        ({"optimiser": updates.SGD(0.1), "learning_rate": 0.2}, ValueError, "leave learning_rate=0.2 out"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate is a positive number, got 0.0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate is a positive number"),
        ({"learning_rate": np.array([0.1, 0.2])}, TypeError, "learning_rate takes one real number"),
    ],
)
def test_what_is_no_descent(arguments, error, match):
    with pytest.raises(error, match=match):
        replay(of_batch).descend(START, X, T, **{"steps": 2} | arguments)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: updates.SGD(0.1, momentum=-0.1), "momentum is a number from 0 on"),
        (lambda: updates.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: updates.SGD(0.1, weight_decay=math.inf), "weight_decay is a number from 0 on"),
        (lambda: updates.Adam(0.1, betas=(0.9, 1.0)), "betas are two numbers from 0 to below 1"),
        (lambda: updates.Adam(0.1, betas=(0.9,)), "betas are two numbers"),
        (lambda: updates.Adam(0.1, eps=-1.0), "eps is a number from 0 on"),
    ],
)
def test_what_is_no_rule(make, match):
    with pytest.raises(ValueError, match=match):
        make()


# --- steps of both kinds of compiled functions ---


@pytest.mark.parametrize("n", [3, 700])
@pytest.mark.parametrize("kind", [Compiled, pytest.param(Lanes, marks=BACK_ENDS[-1].marks)])
def test_steps_end_before_a_guard_that_does_not_hold(kind, n):
    builder = Builder()
    p, rest = builder.emit("input", (), 0, (3, 1)), builder.emit("input", (), 1, (1, 1))
    lane = builder.emit("lane", (), 0, (1, LANES))
    moving = builder.take(p, np.array([[0], [1]]))
    total = builder.sum(builder.row(ad.TABLE["mul"], builder.take(p, np.array([[2]])), lane), 1)
    moved = builder.row(ad.TABLE["add"], moving, rest)  # by what the other input holds
    twice = builder.row(ad.TABLE["add"], rest, rest)
    broken = builder.compare("gt", builder.take(moving, np.array([[1]])), builder.slot(10.0))
    function = kind(builder, [total, moved, twice, broken])
    inputs = [np.array([[1.0], [2.0], [3.0]]), np.array([[1.0]])]
    carried = [(1, 0), (2, 1)]
    *_, outputs = function.descend(inputs, (np.ones((1, n)),), n, 2, carried)
    assert [np.ravel(x).tolist() for x in outputs] == [[3.0 * n], [4.0, 5.0], [4.0], [0.0]]
    steps, history, after, outputs = function.descend(inputs, (np.ones((1, n)),), n, 9, carried)
    assert (steps, history.tolist(), outputs) == (4, [3.0 * n] * 4, ())  # 2, 3, 5, 9, and 17 is above 10
    assert [x.ravel().tolist() for x in after] == [[16.0, 17.0, 3.0], [16.0]]
    assert [x.ravel().tolist() for x in inputs] == [[1.0, 2.0, 3.0], [1.0]]
    steps, history, after, _ = function.descend(after, (np.ones((1, n)),), n, 9, carried)
    assert (steps, history.tolist(), after[1].item()) == (0, [], 16.0)
    assert function.descend(inputs, (np.ones((1, n)),), n, 0, carried)[0] == 0


@pytest.mark.parametrize("kind", [Compiled, pytest.param(Lanes, marks=BACK_ENDS[-1].marks)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1)])
def test_steps_end_before_a_number_that_is_not_finite(kind, shape):
    builder = Builder()
    p = builder.emit("input", (), 0, shape)
    squared = builder.row(ad.TABLE["mul"], p, p)
    function = kind(builder, [builder.sum(p, 0), squared, builder.slot(0.0)])
    steps, history, after, _ = function.descend([np.full(shape, 2.0)], (), 1, 50, [(1, 0)])
    assert steps == len(history) == 9
    assert after[0].ravel().tolist() == [2.0**512] * shape[0]


def test_the_words_of_a_course():
    course = replay(lambda p: p * p).course([1.0], updates.SGD(0.25))
    assert isinstance(course, descent.Course)
    course.advance(2)
    assert course.advice("epoch", "loss") == "(epoch 1, loss 0.25; a smaller learning_rate than 0.25 may help)"
