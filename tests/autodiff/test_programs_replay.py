"""A replayed function is never stale: whatever it decides on a number is decided again at every call."""

import contextlib
import copy
import functools
import gc
import json
import operator
import random
import sys
import threading
import warnings
from bisect import bisect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff import value
from autodiff.programs import Program, ReplayError, replay
from autodiff.programs.guards import words_of


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
            f"(w[1] if np.signbit(w[0] * {a} + w[1] * 0.0) else {b})", "round(w[0] * 3.7)", f"divmod({a}, 0.9)[1]",
            f"({a} // 0.7)", f"(w[2] if {a} in (0.0, 1.0, w[1]) else {b})", f"min(w, key=lambda t: abs(t - {a}))",
            f"(w[0] if any(t > {a} for t in w) else {b})", f"w[np.argmax(ad.scalars([{a}, {b}, w[1]]))]",
            f"np.clip({a}, w[1], 1.5)", f"w[bisect([-0.5, 0.5], {a})]", f"caught({a}, {b})",
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


def caught(a, b):
    """A branch by an exception."""
    try:
        if a > b:
            raise ValueError
    except ValueError:
        return a
    return b * 2.0


SPACE = {"ad": ad, "np": np, "bisect": bisect, "caught": caught}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_a_fuzz_of_branches_is_never_stale(seed):
    generator = random.Random(seed)
    space = dict(SPACE)
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
    space = dict(SPACE)
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


EXITS = (
    "{x}.item()", "{x}.data", "{x}.grad", "({x} * {x}).edges()[1][1]", "({x} * {x}).pull(1.0)[0][1]",
    "({x} * {x}).push({{{x}: 1.0}})", "sum(path.product for path in ad.paths({x} * {x}, {x}))",
    "ad.heaviest_paths({x} * {x}, {x}, 1)[0].product", "ad.total_derivative({x} * {x}, {x}).total",
    "ad.Graph({x} * {x}).edges[0].local", "ad.adjoints({x} * {x})[{x}]", "float(f'{{{x}:.3f}}')",
    "float(repr([{x}])[7:11].strip(',n[])'))", "len(str({x}))", "getattr({x}, ''.join(['da', 'ta']))",
    "eval('{x}.da' + 'ta')",
    "operator.attrgetter(''.join(['da', 'ta']))({x})", "copy.copy({x})", "ad.stop_gradient({x})",
    "ad.scalars([{x}]).data[0]", "len(np.array2string(ad.scalars([{x}])))", "ad.record({x} * y, [y])(1.0)",
    "(2.0 if ad.first_nonfinite(lambda t: t / {x}, 1.0) else 3.0)",
    "ad.total_differential(lambda t: t * {x}, (2.0,), (0.1,)).predicted",
)  # fmt: skip
WAYS = {
    "as it is": ["    y = y * {exit}"],
    "what refuses is caught": ["    try:", "        y = y * {exit}", "    except TypeError:", "        y = y * 3.0"],
    "something else is raised": [
        "    try:", "        y = y * {exit}", "    except Exception:", "        raise ValueError from None",
    ],
    "it is suppressed": ["    with contextlib.suppress(Exception):", "        y = y * {exit}"],
    "in a thread": ["    y = in_a_thread(lambda: y * {exit}, y)"],
    "only in a branch": ["    if y > 0.3:", "        y = y * {exit}"],
    "in a function of its own": ["    def inner(y):", "        return y * {exit}", "    y = inner(y)"],
}  # fmt: skip


def in_a_thread(f, otherwise):
    found = []

    def run():
        with contextlib.suppress(Exception):
            found.append(f())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0] if found else otherwise


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EXITS), st.sampled_from(list(WAYS)), st.sampled_from(["y", "w[0]", "w[1]"]))
def test_a_number_that_leaves_the_graph_is_refused_or_right(way_out, way, x):
    modules = {"copy": copy, "operator": operator, "contextlib": contextlib, "in_a_thread": in_a_thread}
    space = SPACE | modules
    lines = [line.replace("{exit}", way_out.format(x=x)) for line in WAYS[way]]
    source = "\n".join(["def f(w):", "    y = w[0] * w[1] + 0.5", *lines, "    return y * 1.0"])
    exec(source, space)
    f, replayed = space["f"], replay(space["f"])
    for w in ([0.3, 0.4], [2.0, 1.5], [-1.25, 0.75]):
        refused = True
        with contextlib.suppress(ReplayError):
            found = replayed(w)
            refused = False
        if not refused:
            assert found == f([ad.Value(x) for x in w]).data, source
        assert value.watcher is None
    assert refused or way == "only in a branch", source


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


def formats(x):
    return x * float(f"{x:.2f}")


def writes_array_data(x):
    x.data = [1.0, 2.0]
    return np.sum(x)


@pytest.mark.parametrize(
    ("f", "x", "how"),
    [
        (formats, 2.0, "a text"),
        (writes_array_data, np.ones(2), "writing data"),
        (takes_item, 2.0, "item"),
        (reads_data, 2.0, "data"),
        (reads_data_elsewhere, 2.0, "data"),
        (reads_array_data, np.ones(2), "data"),
        (runs_backward, 2.0, "backward"),
        (stops, 2.0, "stop_gradient"),
        (copies, 2.0, "copy"),
        (takes_adjoints, 2.0, "adjoints"),
        (reads_by_name, 2.0, "data"),
        (lambda x: x * x.edges()[0][1] if x.op else (x * x).edges()[0][1] * x, 2.0, "edges"),
        (lambda x: x + x.grad, 2.0, "grad"),
        (lambda x: np.sum(x) + x.grad[0], np.ones(2), "grad"),
        (lambda x: ad.paths(x * x, x)[0].product * x, 2.0, "paths"),
        (lambda x: x * len(f"{[x]}"), 2.0, "a text"),
    ],
)
def test_a_number_that_leaves_the_graph_is_refused(f, x, how):
    with pytest.raises(ReplayError, match=rf"{how}.*test_programs_replay.py, line \d+"):
        replay(f)(x)
    assert value.watcher is None
    assert type(ad.Value.__dict__["data"]).__name__ == "member_descriptor"
    assert ad.Value(3.0).data == 3.0


def asks_for_errors(x):
    try:
        with np.errstate(divide="raise"):
            return ad.log(x)
    except FloatingPointError:
        return x


def asks_for_warnings(x):
    with warnings.catch_warnings(record=True) as found:
        y = ad.log(x)
    return x if found else y


@pytest.mark.parametrize("f", [asks_for_errors, asks_for_warnings])
def test_code_that_branches_on_errors_of_arithmetic_is_refused(f):
    with pytest.raises(ReplayError, match="asks whether arithmetic raises or warns"):
        replay(f)(2.0)


def test_code_that_silences_arithmetic_is_not_refused():
    def silent(x):
        with np.errstate(divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ad.log(x)

    assert replay(silent)(1.0) == 0.0


def test_messages_of_errors_show_nodes():
    with pytest.raises(TypeError, match=r"add takes a real number, got str 'a'"):
        replay(lambda x: x + "a")(2.0)
    with pytest.raises(TypeError, match=r"Value\(2.0.*\) cannot become a plain float"):
        replay(lambda x: float(x) * x)(2.0)
    assert value.watcher is None


def test_a_gradient_of_plain_numbers_inside_is_no_exit():
    assert replay(lambda x: x * ad.grad(lambda t: t**3)(2.0))(1.5) == 18.0


def test_nodes_keep_no_trace_of_a_recording():
    kept = []
    f = replay(lambda x: (kept.append(x * x), kept[0] + 1.0)[1])
    assert f(2.0) == 5.0
    assert repr(kept[0]) == "Value(4.0)"
    kept[0].backward()
    assert kept[0].grad == 1.0


def test_code_is_searched_through_helpers():
    assert "data" in words_of(reads_data_elsewhere)[0]
    assert "data" not in words_of(takes_item)[0]


class Reader:
    """Ways to read a number that nobody sees in the code of the function itself."""

    word, by_name, in_a_list = "data", operator.attrgetter("data"), (helper,)

    def method(self, x):
        return x.data

    @property
    def member(self):
        return helper

    @staticmethod
    def static(x):
        return x.data


class Heir(Reader):
    def __init__(self):
        self.own = [{"reader": helper}]


heir, word, by_name, functions = Heir(), "data", operator.attrgetter("data"), {"reader": [helper]}
remembered, replayed_reader = functools.lru_cache(helper), replay(reads_data)


def by_pattern(x):
    match x:
        case ad.Value(data=number):
            return x * number


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * heir.method(x),
        lambda x: x * heir.member(x),
        lambda x: x * heir.static(x),
        lambda x: x * Heir.static(x),
        lambda x: x * heir.own[0]["reader"](x),
        lambda x: x * Reader.in_a_list[0](x),
        lambda x: x * getattr(x, word),
        lambda x: x * by_name(x),
        lambda x: x * functions["reader"][0](x),
        lambda x: x * remembered(x),
        lambda x: x * replayed_reader(x),
        lambda x, h=helper: x * h(x),
        functools.partial(lambda h, x: x * h(x), helper),
        lambda x: setattr(x, "data", 5.0) or x * 2.0,
        lambda x: setattr(x, "".join(["da", "ta"]), 5.0) or x * 2.0,
        by_pattern,
    ],
)
def test_a_number_is_refused_however_it_was_read(f):
    with pytest.raises(ReplayError, match="data"):
        replay(f)(2.0)


def test_a_function_among_the_arguments_is_searched_too():
    with pytest.raises(ReplayError, match="data"):
        replay(lambda x, h: x * h(x))(2.0, helper)


@pytest.mark.parametrize("bound", [Fraction(1, 3), 2**53 + 1, 10**400])
def test_a_comparison_with_what_no_float_equals_is_refused(bound):
    with pytest.raises(ReplayError, match="compare it with a float"):
        replay(lambda x: x if x < bound else x * 2.0)(0.5)
    assert value.watcher is None


def test_code_that_imports_is_watched():
    def imports(x):
        import math

        return x * math.pi

    assert words_of(imports)[1]
    assert replay(imports)(2.0) == 2.0 * np.pi


@pytest.mark.parametrize(
    ("before", "after", "f"),
    [
        ({1.0, 2.0}, lambda b: b.add(5.0), lambda x, b: x * sum(b)),
        (np.array([1.0, 2.0], object), lambda b: b.fill(5.0), lambda x, b: x * b[0]),
        (np.array([1.0, 2.0j]), lambda b: b.fill(5.0), lambda x, b: x * abs(b[0])),
        (np.zeros(2, [("t", float)]), lambda b: b["t"].fill(5.0), lambda x, b: x * b["t"][0]),
        (bytearray(b"a"), lambda b: b.append(5), lambda x, b: x * len(b)),
    ],
    ids=["set", "objects", "complex", "structured", "bytearray"],
)
def test_arguments_that_are_written_to_record_again(before, after, f):
    r = replay(f)
    assert r(2.0, before) == f(2.0, before)
    after(before)
    assert r(2.0, before) == f(2.0, before)


def test_a_copy_records_for_itself():
    weight = ad.Value(2.0)
    f = replay(lambda x: x * weight)
    assert f(3.0) == 6.0
    twin = copy.deepcopy(f)
    weight.data = 5.0
    assert (f(3.0), twin(3.0), len(twin.programs)) == (15.0, 15.0, 1)


def test_a_program_of_a_branch_refuses_the_other(tmp_path):
    f = replay(lambda x: x * 2.0 if x > 0.0 else x * 3.0)
    f(1.0)
    [program] = f.programs
    for one in (program, Program.load(program.save(tmp_path / "branch")), copy.deepcopy(program)):
        assert one(4.0) == 8.0
        with pytest.raises(ReplayError, match="comparison"):
            one(-4.0)


def test_a_program_of_one_sample_needs_its_batch():
    f = replay(lambda w, x: w * x, over=(np.ones(3),))
    f(1.0)
    with pytest.raises(TypeError, match="batch"):
        f.programs[0](1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"a": [0, 0, 0, 9]}, "come after"),
        ({"b": [0, 0, 5, 0]}, "come after"),
        ({"a": [0, 0, 0]}, "fit together"),
        ({"constant": [[0.0] * 4]}, "fit together"),
        ({"code": [1, 1, 3, 77]}, "no row"),
        ({"outputs": [-1]}, "output"),
        ({"inputs": [0, 3]}, "inputs"),
        ({"inputs": [0]}, "inputs"),
        ({"about": json.dumps({"version": 2})}, "version"),
        ({"about": np.array([{}], object)}, "allow_pickle"),
    ],
)
def test_a_file_that_was_changed_is_refused(tmp_path, changed, message):
    x, y = ad.Value(2.0), ad.Value(3.0)
    file = ad.record(ad.sin(x * y), [x, y]).save(tmp_path / "program")
    with np.load(file) as saved:
        arrays = {**saved}
    whole = {name: np.asarray(array, arrays[name].dtype if name in arrays and name != "about" else None)
             for name, array in changed.items()}  # fmt: skip
    np.savez(file, **{**arrays, **whole})
    with pytest.raises(ValueError, match=message):
        Program.load(file)


def test_the_guards_of_a_long_graph_need_no_compiling():
    def f(x):
        y = x
        for i in range(4):
            y = ad.sin(y) + y * i
        return y if y > 0.5 else y * 3.0

    r = replay(f, back_end="tape")
    for x in (1.0, 2.0, 0.01, 0.02, np.nan):
        assert np.array_equal(r.value_and_grad(x), eager(f, x), equal_nan=True)
    assert r.statistics.recordings == 2
    assert all(not program._compiled for program in r.programs)


@pytest.mark.parametrize("back_end", ["tape", "python", "numpy"])
def test_what_is_only_compared_has_no_gradient(back_end):
    def f(w):
        b = [ad.tanh(x) * x for x in w]  # lanes of one kind, the last of which nobody adds
        return b[1] * b[0] if b[2] > 0.5 else b[0] + b[1]

    r = replay(f, back_end=back_end)
    for last in (0.1, 2.0, np.nan):
        y, gradient = r.value_and_grad(np.array([0.3, -0.7, last]))
        right, by_right = eager(f, np.array([0.3, -0.7, last]))
        np.testing.assert_allclose([y, *gradient], [right, *by_right], rtol=1e-14)
    assert r.statistics.recordings == 2


def test_what_is_only_compared_has_no_gradient_over_a_batch():
    samples = np.array([0.3, np.nan, -0.2])
    f = replay(lambda w, x: ad.tanh(w[0]) * 2.0 if ad.tanh(w[1] * x) < 0.5 else ad.tanh(w[0]), over=(samples,))
    slope = 1 / np.cosh(0.4) ** 2
    np.testing.assert_allclose(f.grad(np.array([0.4, 1.0])), [slope * 5 / 3, 0.0], rtol=1e-14)


def test_threads_neither_disturb_a_recording_nor_share_one_half_made():
    def f(w):
        total = 0.0
        for i in range(30):
            total = total + ad.tanh(w[i % 3] * (i + 1.0)) * w[(i * 2) % 3]
        return total if w[0] > 0.0 else total * 2.0

    w = np.array([0.5, -0.3, 0.8])
    right = {side: eager(f, side * w) for side in (1.0, -1.0)}
    r, wrong = replay(f), []

    def work(number):
        try:
            for i in range(6):
                side = 1.0 if (number + i) % 2 else -1.0
                y, gradient = r.value_and_grad(side * w)
                np.testing.assert_allclose(y, right[side][0], rtol=1e-12)
                np.testing.assert_allclose(gradient, right[side][1], rtol=1e-12)
                node = ad.Value(2.0)
                assert node > 1.0
                assert node.item() == 2.0  # not of the function that another thread records
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


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


def test_what_was_computed_elsewhere_is_read_as_it_is():
    a = ad.Value(2.0, name="a")
    h = a * 3.0
    g = h * h

    def f(x):
        return x * h + g * x * a if h > 5.0 else x * h

    replayed = replay(f)
    for node, number in ((a, 2.0), (a, 5.0), (h, 8.0), (g, 0.0), (h, 1.0), (a, 1.0)):
        node.data = number  # and what is made of it stays as it is, as everywhere
        assert replayed.value_and_grad(1.5) == ad.value_and_grad(f)(1.5)
    assert replayed.statistics.recordings == 2
    assert replay(lambda x: h)(1.0) == 1.0


def test_argnums_from_the_end():
    def f(x, y, z):
        return x * y * y + z

    assert replay(f, argnums=-2).value_and_grad(2.0, 3.0, 4.0) == (22.0, 12.0)
    assert replay(f, argnums=(np.int64(2), -3)).value_and_grad(2.0, 3.0, 4.0) == (22.0, (1.0, 9.0))
    over = replay(lambda x, w, y: x * w * y, argnums=-1, over=(np.array([1.0, 2.0]),))
    assert over.value_and_grad(2.0, 3.0) == (9.0, 3.0)  # the last of the arguments that are given


def test_data_that_change_between_calls_run_as_lanes():
    def loss(w, X, y):
        return np.mean((np.tanh(X @ w[:2]) * w[2] - y) ** 2)

    generator = np.random.default_rng(1)
    replayed = replay(loss)
    for _ in range(3):
        w, X, y = generator.normal(size=3), generator.normal(size=(60, 2)), generator.normal(size=60)
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


@pytest.mark.parametrize("dtype", [float, np.float32, int])
def test_over_reads_the_batch_at_every_call(dtype):
    X, y = np.array([[1, 2], [-3, 4], [5, -6]], dtype), np.array([1, 0, 2], dtype)
    f = replay(lambda w, x, y: (np.sum(w * x) - y) ** 2 if x[0] > 0 else np.sum(w * x), over=(X, y))
    w = np.array([0.5, -0.25])
    for _ in range(3):
        assert f(w) == np.mean([(w @ a - b) ** 2 if a[0] > 0 else w @ a for a, b in zip(X, y, strict=True)])
        X *= -1
        y += 1


def test_over_one_sample():
    assert replay(lambda w, x: w * x, over=(np.array([2.0]),)).value_and_grad(3.0) == (6.0, 2.0)
