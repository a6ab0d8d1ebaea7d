"""The compiled interpreters: lanes in blocks, functions of their own, and what happens where they cannot be had."""

import math
import os
import subprocess
import sys
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.programs import machine, record, replay
from autodiff.programs.instructions import LANES, Builder
from autodiff.programs.machine import loading, plans
from autodiff.programs.machine.lanes import Lanes
from autodiff.programs.machine.plans import BLOCK, WIDE, Plan
from autodiff.programs.source import Compiled

N = 2 * WIDE + 37  # several blocks, and a part of one


def same(found, expected):
    """Equal up to rounding, and inf and nan at the same places."""
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13 * max(1.0, np.nanmax(np.abs(y), initial=0.0)))


# --- lanes ---


@pytest.mark.parametrize("row", ad.TABLE.values(), ids=lambda row: row.name)
def test_every_row_over_many_lanes(row):
    generator = np.random.default_rng(3)
    low, high = (1.5, 3.0) if row.name == "arccosh" else (0.1, 0.9)
    X = generator.uniform(low, high, (N, row.arity))

    def f(w, x):
        return row(*(w * x[i] for i in range(row.arity)))

    numpy, numba = (replay(f, over=(X,), back_end=back_end) for back_end in ("numpy", "numba"))
    for w in (0.97, 1.02):
        same(numba.value_and_grad(w), numpy.value_and_grad(w))


@pytest.mark.parametrize("row", [row for row in ad.TABLE.values() if row.arity == 1], ids=lambda row: row.name)
def test_corners_in_one_lane_of_many(row):
    for corner in (0.0, -0.0, 1.0, -1.0, 800.0, -800.0, 1e-310, math.inf, -math.inf, math.nan):
        X = np.full(N, 0.5)
        X[WIDE + 3] = corner
        numpy, numba = (
            replay(lambda w, x: row(w * x), over=(X,), back_end=back_end, reduction=None)
            for back_end in ("numpy", "numba")
        )
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.testing.assert_allclose(numba(1.0), numpy(1.0), rtol=1e-14, atol=1e-15)


def test_warnings_of_a_single_lane_come_through():
    X = np.ones(N)
    X[7] = 0.0
    loss = replay(lambda w, x: ad.log(w * x), over=(X,), back_end="numba")
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert loss(1.0) == -math.inf
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        loss(1.0)


def through(builder, outputs, inputs, lanes=(), n=1):
    """By the compiled interpreter and by NumPy."""
    found = Lanes(builder, outputs)(inputs, lanes, n)
    same(found, Compiled(builder, outputs)(inputs, lanes, n))
    return found


def test_what_needs_a_sum_over_all_lanes_waits_for_it():
    builder = Builder()
    x = builder.emit("input", (), 0, (2, 1))
    lane = builder.emit("lane", (), 0, (2, LANES))
    y = builder.row(ad.TABLE["exp"], builder.row(ad.TABLE["mul"], x, lane))
    total = builder.sum(y, 1)
    share = builder.row(ad.TABLE["div"], y, total)  # y is read again when its block is gone
    entropy = builder.sum(builder.row(ad.TABLE["mul"], share, builder.row(ad.TABLE["log"], share)), 1)
    generator = np.random.default_rng(0)
    for n in (1, 5, WIDE, N):
        plan = Plan(builder, [entropy, share], n)
        assert len(plan.segments) == (1 if n < WIDE else 2)
        found = through(
            builder, [entropy, share, total], [np.array([[0.5], [-1.0]])], [generator.normal(size=(2, n))], n
        )
        np.testing.assert_allclose(found[1].sum(1), 1.0)


def test_many_numbers_of_lanes_share_their_plans():
    builder = Builder()
    x = builder.emit("input", (), 0, (2, 1))
    lane = builder.emit("lane", (), 0, (2, LANES))
    fixed = builder.emit("data", (), np.linspace(0.0, 1.0, 2 * WIDE), (1, 2 * WIDE))  # as many as a plan has room for
    y = builder.row(ad.TABLE["tanh"], builder.row(ad.TABLE["mul"], x, lane))
    n = builder.emit("count", (), None, (1, 1))
    mean = builder.row(ad.TABLE["div"], builder.sum(y, 1), n)
    other = builder.sum(builder.row(ad.TABLE["mul"], fixed, mean), 1)
    generator = np.random.default_rng(0)
    function = Lanes(builder, [y, mean, other])
    inputs = [np.array([[0.5], [-1.0]])]
    for n in [*range(1, 12), 300, WIDE, 700, 2 * WIDE, 2 * WIDE - 1, 300, 5, N, 100]:
        lanes = [generator.normal(size=(2, n))]
        same(function(inputs, lanes, n), Compiled(builder, [y, mean, other])(inputs, lanes, n))
    assert len(function._plans) < 10


def test_two_numbers_of_lanes_in_one_program():
    generator = np.random.default_rng(1)
    x = ad.scalars(generator.normal(size=3))
    A, B = generator.normal(size=(WIDE + 9, 3)), generator.normal(size=(WIDE + 200, 3))
    output = np.mean(np.tanh(A @ x) ** 2) + np.mean(np.exp(-((B @ x) ** 2))) * x[0] + np.sin(x[1])
    output.backward()
    program = record(output, [x], "numba")
    widths = {int(width) for width in program.function("value+gradient", ("value", "gradient"))._plan(1).segments[:, 1]}
    assert {1, WIDE + 9, WIDE + 200} <= widths
    numbers = np.array([node.data for node in x])
    value, [gradient] = program.value_and_grad(numbers)
    same([value, gradient], [output.data, [node.grad for node in x]])


def test_elements_of_other_lanes():
    generator = np.random.default_rng(2)
    x = ad.scalars(generator.normal(size=N))
    output = np.sum(np.tanh(x[1:] * x[:-1]) * x[::-1][1:])  # neighbours, and the other end
    output.backward()
    value, [gradient] = record(output, [x], "numba").value_and_grad(np.array([node.data for node in x]))
    same([value, gradient], [output.data, [node.grad for node in x]])


def test_threads_share_the_blocks(monkeypatch):
    monkeypatch.setattr(plans, "WORK", 1000)
    monkeypatch.setattr(loading.Machine, "threads", staticmethod(lambda: 3))
    generator = np.random.default_rng(4)
    X, y = generator.normal(size=(N, 2)), generator.uniform(size=N)

    def f(w, x, label):
        return (ad.tanh(w[0] * x[0] + w[1] * x[1]) * w[2] - label) ** 2

    numba, numpy = (replay(f, over=(X, y), back_end=back_end) for back_end in ("numba", "numpy"))
    w = np.array([0.5, -0.2, 0.7])
    same(numba.value_and_grad(w), numpy.value_and_grad(w))
    [plan] = numba.programs[0].function("value+gradient", ("value", "gradient"))._plans.values()
    assert plan.threads == 3
    assert [len(plan.pieces(segment)) for segment in plan.segments if segment[1] > 1] == [3]
    X[N - 1] = math.inf  # in the last thread's part
    with np.errstate(all="ignore"):
        assert math.isnan(numba.value_and_grad(np.array([0.5, 0.5, 0.0]))[0]) is math.isnan(
            numpy(np.array([0.5, 0.5, 0.0]))
        )


UNARY = ["exp", "tanh", "sigmoid", "relu", "sin", "square", "neg", "softplus", "step", "abs"]


@st.composite
def programs(draw):
    """Instructions at random, of every kind, over inputs, lanes of a batch, and data."""
    builder = Builder()
    slots = [
        builder.emit("input", (), 0, (3, 1)), builder.emit("lane", (), 0, (2, LANES)),
        builder.emit("lane", (), 1, (3, LANES)), builder.slot(0.5), builder.emit("data", (), np.eye(3) + 0.1, (3, 3)),
    ]  # fmt: skip
    fits = lambda p, q: (p == q) or p == 1 or q == 1  # noqa: E731
    for _ in range(draw(st.integers(3, 14))):
        a = draw(st.sampled_from(slots))
        (k, w), kind = (
            builder.shapes[a],
            draw(st.sampled_from(["unary", "binary", "sum", "dot", "matmul", "rows", "addrows", "expand"])),
        )
        others = [b for b in slots if fits(builder.shapes[b][0], k) and fits(builder.shapes[b][1], w)]
        if kind == "unary":
            slots.append(builder.row(ad.TABLE[draw(st.sampled_from(UNARY))], a))
        elif kind == "binary":
            name = draw(st.sampled_from(["add", "sub", "mul", "maximum"]))
            slots.append(builder.row(ad.TABLE[name], a, draw(st.sampled_from(others))))
        elif kind == "sum":
            slots.append(builder.sum(a, draw(st.integers(0, 1))))
        elif kind == "dot":
            alike = [b for b in slots if builder.shapes[b] == (k, w)]
            slots.append(builder.sum(builder.row(ad.TABLE["mul"], a, draw(st.sampled_from(alike))), 1))
        elif kind == "matmul":
            ta, tb = draw(st.booleans()), draw(st.booleans())
            inner = k if ta else w
            fitting = [b for b in slots if builder.shapes[b][1 if tb else 0] == inner]
            shape = (w if ta else k, 0)
            if fitting and shape[0] != LANES:
                b = draw(st.sampled_from(fitting))
                slots.append(builder.matmul(a, b, ta, tb))
        elif kind == "rows":
            R = np.array(draw(st.lists(st.integers(0, k - 1), min_size=1, max_size=4)))
            slots.append(builder.rows(a, R))
        elif kind == "addrows":
            slots.append(builder.addrows(a, np.array([draw(st.integers(0, 2)) for _ in range(k)]), 3))
        elif w == 1:
            slots.append(builder.expand(a, (k, LANES)))
    return builder, slots[-3:]


@settings(max_examples=60, deadline=None)
@given(programs(), st.sampled_from([1, 3, WIDE, N]), st.integers(0, 99))
def test_random_instructions(program, n, seed):
    builder, outputs = program
    generator = np.random.default_rng(seed)
    inputs = [generator.uniform(-1, 1, (3, 1))]
    lanes = [generator.uniform(-1, 1, (2, n)), generator.uniform(-1, 1, (3, n))]
    with np.errstate(all="ignore"):
        found, expected = (kind(builder, outputs)(inputs, lanes, n) for kind in (Lanes, Compiled))
    for x, y in zip(found, expected, strict=True):
        x, y = np.ravel(x), np.ravel(y)
        finite = np.isfinite(y)
        scale = np.max(np.abs(y[finite]), initial=1.0)
        np.testing.assert_allclose(x[finite], y[finite], rtol=1e-9, atol=1e-10 * scale)


# --- functions without branches ---


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", -700, 700), ("exp", -1, 1), ("tanh", -30, 30), ("tanh", -1e-3, 1e-3), ("log", 0, 3)],
)
def test_functions_without_branches_are_good_to_an_ulp_or_three(name, low, high):
    """Against mpmath; the contract is 4 ulps."""
    X = np.random.default_rng(5).uniform(low, high, WIDE)
    found = replay(lambda w, x: ad.TABLE[name](w * x), over=(X,), reduction=None, back_end="numba")(1.0)
    exact = [getattr(mpmath.mp, name)(mpmath.mpf(float(x))) for x in X]
    assert (
        max(
            abs(float((mpmath.mpf(float(y)) - e) / np.spacing(abs(float(e)))))
            for y, e in zip(found, exact, strict=True)
        )
        < 4
    )


# --- where it cannot be had ---


def fresh(monkeypatch):
    """As in a process that has not loaded it."""
    monkeypatch.setattr(loading, "_loaded", [])
    loading._folder.cache_clear()
    monkeypatch.setattr(loading, "_folder", loading._folder)


def test_without_numba_another_back_end_is_chosen(monkeypatch):
    fresh(monkeypatch)
    monkeypatch.setattr(loading, "is_installed", lambda: False)
    assert "pip install 'chainrule[fast]'" in machine.why_not()
    x = ad.Value(2.0)
    with pytest.raises(machine.MachineError, match="needs numba"):
        record(x * x, [x], "numba")


def test_a_numba_that_fails_to_import_is_one_that_is_not_there(monkeypatch, tmp_path):
    fresh(monkeypatch)
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('this numba wants an older NumPy')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba")
    x = ad.Value(0.5)
    y = x
    for i in range(600):
        y = ad.sin(y) + x / (1.0 + i)
    with pytest.raises(machine.MachineError, match=r"fails to import.*an older NumPy"):
        record(y, [x], "numba")
    assert record(y, [x]).back_end != "numba"


def test_a_row_of_the_users_own_is_refused():
    own = ad.primitive("own_cube", lambda a: a * a * a, lambda y, a: 3.0 * a * a, array=lambda a: a**3)
    try:
        x = ad.Value(2.0)
        with pytest.raises(ValueError, match="own_cube"):
            record(own(x), [x], "numba")
    finally:
        del ad.TABLE["own_cube"]


def test_a_platform_without_flags_is_refused(monkeypatch):
    module = machine.machine().module
    blind = type("Blind", (), {"flags_of": staticmethod(lambda x, y: (0, 0, 0, 0, 0.0))})
    monkeypatch.setattr(loading, "_call_once", lambda module: None)
    with pytest.raises(machine.MachineError, match="platform"):
        loading.Machine(blind, None, True)
    assert module.flags_of(1.0, 0.0)[0]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="rights of files are not those of root")
def test_a_folder_without_rights(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "inside"))
    loading._folder.cache_clear()
    assert not loading.keeps()
    loading._folder.cache_clear()


def test_a_folder_that_cannot_be(tmp_path, monkeypatch):
    """A file is in its place: nothing is kept, and nobody is made to compile anew unasked."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file"))
    loading._folder.cache_clear()
    try:
        folder, kept = loading._folder()
        assert folder.is_dir()
        assert not kept
        x = ad.Value(0.5)
        assert not machine.serves(record(x * x, [x]).tape)
    finally:
        loading._folder.cache_clear()


def test_what_is_kept_is_used_by_the_next_process():
    code = "from autodiff.programs import machine; print(machine.machine().where)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(machine.machine().where)
    assert done.stderr == ""


def test_a_block_is_a_multiple_of_what_a_vector_holds():
    assert BLOCK % 8 == 0
    assert WIDE >= BLOCK
