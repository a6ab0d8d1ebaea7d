"""Replay of functions of arrays: nothing that numbers decide is frozen; and a batch by one sample."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff import ReplayError, Tensor, replay, tensor
from autodiff.programs.arrays import answers
from nn.activations import softmax
from tests.autodiff.test_programs_arrays import assert_same

ROW = np.arange(3)
TABLE_OF_THREE = np.array([1.0, -2.0, 0.5, 3.0])


def halved(x):
    while np.sum(x * x) > 1.0:
        x = x / 2.0
    return x


def in_a_loop(x):
    total = 0.0
    for row in x:
        if row[0] > row[1]:
            continue
        total = total + np.sum(row) * (row > 0.3).sum()
    return total + np.sum(x) * 0.1


def first_positive(x):
    for i, element in enumerate(np.ravel(x)):
        if element > 0.0:
            return element * (i + 1.0)
    return np.sum(x)


# Functions of x (2, 3) whose way through the code, or through an array, the numbers decide
DECIDING = {
    "if": lambda x: np.sum(x**2) if np.sum(x) > 0.0 else np.sum(x),
    "truth": lambda x: np.sum(x * 2.0) if np.maximum(x[0, 0], 0.0) else np.sum(x**2),
    "not": lambda x: np.sum(x) if not (x > 0.0).all() else np.sum(x**3),
    "and, or": lambda x: x[0, 0] if (x[0, 0] > 0.0 and x[0, 1] > 0.0) or x[1, 1] > 1.0 else x[0, 1] ** 2,
    "chained": lambda x: x[0, 0] ** 2 if 0.0 < x[0, 0] < 1.0 else x[0, 0],
    "while": lambda x: np.sum(halved(x)),
    "for": in_a_loop,
    "early return": first_positive,
    "max": lambda x: max(np.ravel(x)) * min(x[0]),
    "sorted": lambda x: sorted(np.ravel(x))[1] * 2.0,
    "in": lambda x: np.sum(x) if np.sign(x[0, 0]) in [1.0] else np.sum(x * x),
    "where": lambda x: np.where(x > 0.0, x**2, -x),
    "where of a node": lambda x: np.where(np.maximum(x, 0.0), x**2, 3.0 * x),
    "where of two masks": lambda x: np.where((x > 0.0) & ~(x > 1.0), x**2, 3.0) * x,
    "where of numbers": lambda x: np.where(x > 0.0, 1.0, -1.0) * x,
    "where with nan": lambda x: np.where(x > 0.0, np.sqrt(np.where(x > 0.0, x, 1.0)), x),
    "mask": lambda x: x * (x > 0.0) + (x < 0.5) / (2.0 + x * x),
    "mask of floats": lambda x: (x > 0.0).astype(float) @ x.T,
    "share": lambda x: x * (x > 0.0).mean() + (x > 0.0).sum(axis=0),
    "mask as index": lambda x: x[x > 0.0] ** 2,
    "how many": lambda x: np.sum(x) * len(x[x > 0.0]),
    "how many, by nonzero": lambda x: np.sum(x) * np.nonzero(x > 0.0)[0].size,
    "shape": lambda x: np.sum(x) * x[np.sum(x, axis=1) > 0.0].shape[0],
    "argmax": lambda x: x[:, np.argmax(x[0])] ** 2,
    "argmax as int": lambda x: x[:, int(np.argmax(x[0]))] ** 2,
    "argmax of a list": lambda x: [x[0, 0], x[0, 1] ** 2, x[1, 1]][np.argmax(x[0])],
    "argmax of rows": lambda x: x[np.arange(2), np.argmax(x, axis=1)] ** 2,
    "argmax in a slice": lambda x: np.sum(x[:, : np.argmax(x[0]) + 1]),
    "argsort": lambda x: x[:, np.argsort(x[0])] * TABLE_OF_THREE[:3],
    "take_along_axis": lambda x: np.take_along_axis(x, np.argsort(x, axis=1), 1) * TABLE_OF_THREE[:3],
    "take": lambda x: np.take(x, np.argsort(x[1]), axis=1) * TABLE_OF_THREE[:3],
    "sort": lambda x: np.sort(x, axis=1) * TABLE_OF_THREE[:3],
    "partition": lambda x: np.partition(np.ravel(x), 2)[2] ** 2,
    "median": lambda x: np.median(x, axis=1) ** 2,
    "quantile": lambda x: np.quantile(x, [0.2, 0.7]),
    "unique": lambda x: np.unique(np.round(x)) ** 2 * np.sum(x),
    "extrema": lambda x: np.max(x, axis=0) * np.min(x) + np.ptp(x),
    "clip": lambda x: np.clip(x, -0.5, 0.5) * x,
    "select": lambda x: np.select([x > 1.0, x > 0.0], [x**2, x**3], -x),
    "piecewise": lambda x: np.piecewise(x, [x > 0.0], [lambda u: u * u, lambda u: -u]),
    "choose": lambda x: np.where((x > 0.0).astype(int) == 1, x, x**2),
    "trunc": lambda x: np.trunc(x) * x + np.fmod(x, 0.3) + np.copysign(x, -x[::-1]) + np.heaviside(x, 0.5) * x,
    "fmax": lambda x: np.fmax(x[0], x[1]) + np.fmin(x[0], 0.1),
    "nan": lambda x: np.nansum(np.where(x > 0.5, np.nan, x)) + np.nanmax(x),
    "nan_to_num": lambda x: np.nan_to_num(np.where(x > 0.5, np.nan, x), nan=2.0) * x,
    "interp": lambda x: np.interp(x, [-1.0, 0.0, 1.0], [0.0, 1.0, 5.0]),
    "digitize": lambda x: x * np.digitize(x, [-1.0, 0.0, 1.0]),
    "searchsorted": lambda x: x * TABLE_OF_THREE[np.searchsorted([-1.0, 0.0, 1.0], np.ravel(x)[:3])],
    "count": lambda x: np.sum(x) / np.count_nonzero(x > 0.0) if np.any(x > 0.0) else np.sum(x),
    "isclose": lambda x: np.sum(x) if np.allclose(np.round(x[0]), np.round(x[1])) else np.sum(x * x),
    "equal": lambda x: np.sum(x) if np.array_equal(x[0] > 0.0, x[1] > 0.0) else np.sum(x * x),
    "as an array": lambda x: x * np.asarray(x > 0.0),
    "as a list": lambda x: np.sum(x) if (x[0] > 0.0).tolist() == [True, True, True] else np.sum(x * x),
    "as integers": lambda x: x.astype(int) * x + np.astype(x, int),
    "full_like": lambda x: np.full_like(x, 2.0) * x + np.zeros_like(x) + np.full_like(x, x[0, 0]),
    "as a key": lambda x: {True: 1.0, False: -3.0}[x[0, 0] > 0.0] * np.sum(x),
    "as a count": lambda x: np.sum(x) * len(range((x > 0.0).sum())),
    "as a set": lambda x: np.sum(x) * len({np.argmax(x[0]), np.argmax(x[1])}),
    "as a number": lambda x: np.sum(x) * float((x > 0.0).sum()),
    "as text": lambda x: np.sum(x) * len(str(int((x > 0.0).sum() > 3) * 100)),
    "iterated": lambda x: sum(row.sum() * np.sum(x) for row in x > 0.0),
    "elements": lambda x: np.sum(x[0]) if np.asarray(x)[0, 0] > 0.0 else np.sum(x[1]),
    "compress": lambda x: np.compress(x[0] > 0.0, x, axis=1),
    "reduced": lambda x: np.sum(x, where=x > 0.0) + np.mean(x, where=(x > -9.0) & (x < 9.0)),
    "stop_gradient": lambda x: np.sum(x * ad.stop_gradient(x) ** 2),
    "straight through": lambda x: np.sum((x + ad.stop_gradient(np.round(x) - x)) ** 2),
    "grad inside": lambda x: np.sum(ad.grad(lambda u: np.sum(np.where(u > 0.0, u**3, u**2)))(x) * x),
    "softmax": lambda x: softmax(x)[0] ** 2,
    "logdet": lambda x: np.linalg.slogdet(x @ x.T + np.eye(2)).logabsdet * np.sum(x),
}  # fmt: skip


def summed(f):
    return lambda x: np.sum(f(x)) if np.ndim(f(x)) else f(x)


def eager(f, argnums=0):
    """Without a warning for nodes that are taken apart."""
    return ad.value_and_grad(f, argnums)


def arrays(seed, count=8):
    """Some of whose elements are integers, ties, and 0."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        x = rng.normal(size=(2, 3)) * (0.5 + k % 3)
        yield np.round(x * 2.0) / 2.0 if k % 4 == 3 else x


@pytest.mark.parametrize("name", DECIDING)
def test_what_numbers_decide_is_decided_again(name):
    f = summed(DECIDING[name])
    replayed, expected = replay(f, magnification="array"), eager(f)
    for x in arrays(sum(map(ord, name))):
        value, gradient = expected(x)
        found = replayed.value_and_grad(x)
        assert_same([found[0], found[1], replayed(x)], [value, gradient, value])
    assert replayed.statistics.replays >= 8  # each array's second call


@settings(max_examples=40)
@given(names=st.lists(st.sampled_from(sorted(DECIDING)), min_size=2, max_size=4), seed=st.integers(0, 10**6))
def test_random_compositions(names, seed):
    """Each decides by what the one before has made of the numbers."""

    def f(x):
        total = 0.0
        for name in names:
            y = np.sum(DECIDING[name](x))
            total = total + y
            x = np.tanh(x * 1.3 + 0.1 * np.tanh(y))
        return total

    replayed, expected = replay(f, magnification="array"), eager(f)
    for x in arrays(seed, 6):
        value, gradient = expected(x)
        found = replayed.value_and_grad(x)
        assert_same([found[0], found[1]], [value, gradient], 1e-11)


def test_a_frozen_answer_is_found(monkeypatch):
    """The checker sees it where answers are plain arrays, as without a watcher."""
    monkeypatch.setattr(
        "autodiff.programs.arrays.answers.Recorder.asked",
        lambda recorder, function, args, options: function(*answers._with_numbers(args), **options),
    )
    wrong = []
    for name in ("if", "where", "argmax", "mask", "how many", "sort"):
        try:
            test_what_numbers_decide_is_decided_again(name)
        except AssertionError:
            wrong.append(name)
    assert wrong == ["if", "where", "argmax", "mask", "how many", "sort"]


REPLAYED_WITHOUT_RECORDING = ["where", "mask", "argsort", "sort", "select", "argmax of rows", "share", "fmax"]


@pytest.mark.parametrize("name", REPLAYED_WITHOUT_RECORDING)
def test_answers_that_choose_need_one_recording(name):
    f = replay(summed(DECIDING[name]), magnification="array")
    for x in arrays(7):
        f.grad(x)
    assert f.statistics.recordings == 1
    assert f.statistics.replays == 7


# --- what is refused ----------------------------------------------------------------------------------------------


def changed(mask):
    mask[0] = True
    return mask


def added(mask):
    mask &= mask
    return mask


def caught(x):
    try:
        return np.sum(np.linalg.inv(x[:, :2] * (x[0, 0] > 0.0)))
    except np.linalg.LinAlgError:
        return np.sum(x)


def raised(x):
    with np.errstate(all="raise"):
        try:
            return np.sum(np.sqrt(x))
        except FloatingPointError:
            return np.sum(x)


REFUSED = {
    "item": lambda x: x * x[0, 0].item(),
    "data": lambda x: x * x.data[0, 0],
    "data by getattr": lambda x: x * getattr(x, "da" + "ta")[0, 0],
    "data by the class": lambda x: x * type(x).__dict__["data"].__get__(x)[0, 0],
    "data of a constant that came of it": lambda x: x * np.sum(x).data,
    "writing data": lambda x: x * (setattr(x, "data", np.ones(3)) or 1.0),
    "float": lambda x: x * float(np.sum(x)),
    "int": lambda x: x * int(np.sum(x)),
    "integers": lambda x: x * np.asarray(x, dtype=int),
    "floats": lambda x: x * np.asarray(x, dtype=float),
    "format": lambda x: x * len(f"{np.sum(x):.3f}"),
    "deepcopy": lambda x: copy.deepcopy(x),
    "copy": lambda x: copy.copy(x),
    "pickle": lambda x: x * len(pickle.dumps(x)),
    "pickle of an answer": lambda x: x * len(pickle.dumps(x > 0.0)),
    "deepcopy of an answer": lambda x: x * copy.deepcopy(x > 0.0),
    "backward": lambda x: np.sum(x).backward() or x,
    "grad": lambda x: x + x.grad,
    "grad of a closure": lambda x: x * ad.grad(lambda u: np.sum(u * x))(np.ones((2, 3))),
    "a float by data": lambda x: x * float((x > 0.0).mean()),
    "item of a float by data": lambda x: x * (x > 0.0).mean().item(),
    "an array of floats by data": lambda x: x * np.asarray((x > 0.0).mean(axis=0)),
    "bytes": lambda x: x * len((x > 0.0).tobytes()),
    "an answer in place": lambda x: x * changed(x > 0.0),
    "an operator in place": lambda x: x * added(x > 0.0),
    "out=": lambda x: x * np.logical_and(x > 0.0, x < 1.0, out=np.empty((2, 3), bool)),
    "an error that was caught": caught,
    "a floating point error that was caught": raised,
    "lstsq": lambda x: np.linalg.lstsq(x.T, np.ones(3))[0],
    "the layout in memory": lambda x: np.ravel(x, order="K"),
    "the layout in memory, by reshape": lambda x: np.reshape(x, (3, 2), order="A"),
    "text of numbers": lambda x: x * len(np.array_str(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_leave_the_graph_are_refused(name):
    f = replay(summed(REFUSED[name]), magnification="array")
    for x in (np.array([[-1.0, 2.0, 0.5], [1.0, 3.0, -0.5]]),) * 2:
        with pytest.raises(TypeError) as caught_error:
            f(x)
    assert type(caught_error.value) in (ReplayError, TypeError)
    assert tensor.watcher is None
    assert Tensor(2.0).data == 2.0  # nothing is left watching


def test_the_error_says_where_and_what_to_do():
    f = replay(lambda x: np.sum(x) * x.data[0], magnification="array")
    with pytest.raises(
        ReplayError, match=r"data of x takes numbers .*test_programs_arrays_replay.py, line \d+.*np.where"
    ):
        f(np.ones(2))


def test_repr_shows_no_numbers_while_a_function_is_recorded():
    seen = []
    f = replay(lambda x: np.sum(x * (1.0 if seen.append(f"{x} {x > 0}") is None else 2.0)), magnification="array")
    f(np.array([0.123, 4.56]))
    assert seen == [
        "Tensor(of shape (2,), name='x') <an answer by data, bool of shape (2,), while a function is recorded>"
    ]
    assert repr(Tensor([0.123])) == "Tensor([0.123])"


def test_other_threads_go_on_while_a_function_is_recorded():
    results = []

    def other():
        t = Tensor([1.0, -2.0])
        np.sum(np.where(t > 0.0, t, 2.0 * t)).backward()
        results.append((t.grad.tolist(), (t > 0.0).tolist(), bool(t[0] > 0.0), t.data.tolist()))

    def f(x):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return np.sum(x * x)

    assert replay(f, magnification="array")(np.array([1.0, 2.0])) == 5.0
    assert results == [([1.0, 2.0], [True, False], True, [1.0, -2.0])]


def test_a_function_that_records_another():
    inner = replay(lambda x: np.sum(x**2), magnification="array")
    outer = replay(lambda x: inner(x) + inner(x[:1]), magnification="array")
    assert outer(np.array([1.0, 2.0])) == 6.0
    assert inner.statistics.recordings == 0  # it was given nodes
    plain = replay(lambda x: np.sum(x) * inner(np.ones(2)), magnification="array")
    with pytest.raises(ReplayError, match="is being recorded already"):
        plain(np.ones(2))
    assert inner(np.ones(2)) == 2.0
    assert plain(np.ones(2)) == 4.0


# --- arguments ----------------------------------------------------------------------------------------------------


def test_the_listing_shows_questions_and_guards():
    f = replay(lambda x: np.sum(np.where(x > 0.0, x, 0.5)) if np.sum(x) > 0.0 else x[0], magnification="array")
    f(np.ones(3))
    assert str(f.programs[0]).splitlines() == [
        "program of x 3: 5 operations on arrays",
        "  v0 = sum(x)",
        "  v1 = greater(v0, 0.0)",
        "  guard v1: True",
        "  v2 3 = greater(x, 0.0)",
        "  v3 3 = where(v2, x, 0.5)",
        "  v4 = sum(v3)",
        "  return v4",
    ]


def test_signatures():
    f = replay(
        lambda x, p, flag, scale=2.0: np.sum(x * p["w"]) * scale * (1.0 if flag else -1.0), magnification="array"
    )
    x = np.array([1.0, 2.0])
    assert f(x, {"w": x}, True) == 10.0
    assert f(x, {"w": x}, True) == 10.0
    assert f(x, {"w": x}, False) == -10.0
    assert f(x, {"w": 3.0}, False) == -18.0
    assert f(x, {"w": x}, True, 3.0) == 15.0
    assert f(x, {"w": x}, True, 4.0) == 20.0
    assert f.statistics.recordings == 4
    assert f.statistics.replays == 2
    assert len(f.programs) == 4


def test_gradients_have_the_structure_and_precision_of_the_arguments():
    f = replay(lambda p, s: np.sum(p["W"] * s) + p["b"][0] ** 2, argnums=(0, 1), magnification="array")
    p = {"W": np.ones((2, 2), np.float32), "b": [3.0]}
    value, (of_p, of_s) = f.value_and_grad(p, 2.0)
    assert value == 17.0
    assert of_p["W"].dtype == np.float32
    np.testing.assert_array_equal(of_p["W"], 2.0 * np.ones((2, 2)))
    assert of_p["b"] == [6.0]
    assert of_s == 4.0
    assert type(of_s) is float
    integers = replay(lambda x: np.sum(x**2), magnification="array")
    np.testing.assert_array_equal(integers.grad(np.array([1, 2])), [2.0, 4.0])
    out = np.empty(2)
    assert integers.grad(np.array([1.0, 5.0]), out=out) is out
    np.testing.assert_array_equal(out, [2.0, 10.0])
    with pytest.raises(TypeError, match="out takes arrays like the arguments"):
        integers.grad(np.array([1.0, 5.0]), out=np.empty(3))


@pytest.mark.parametrize("argnums", [-1, 0, (0, -1), (-1, 0), (2, 0, 1)])
@pytest.mark.parametrize("over", [None, "batch"])
def test_arguments_are_named_in_any_order_and_from_the_end(argnums, over):
    X = np.arange(12.0).reshape(4, 3)
    args = (np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0]), np.array([3.0, 0.0, 1.0]))

    def of_sample(a, b, c, x=X[0]):
        return np.sum(a * b**2 * x + c * x)

    def mean(a, b, c):
        return sum(of_sample(a, b, c, x) for x in X) / len(X)

    f = replay(of_sample, argnums=argnums, over=None if over is None else (X,), magnification="array")
    value, expected = ad.value_and_grad(of_sample if over is None else mean, argnums)(*args)
    out = np.empty(3) if isinstance(argnums, int) else tuple(np.empty(3) for _ in argnums)
    for _ in range(2):
        found, gradient = f.value_and_grad(*args, out=out)
        assert found == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(gradient, expected, rtol=1e-14)
        np.testing.assert_allclose(out, expected, rtol=1e-14)


def test_labels_may_change_from_call_to_call():
    def loss(W, X, labels):
        z = X @ W
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(labels)), labels])

    rng = np.random.default_rng(5)
    f = replay(loss, magnification="array")
    for _ in range(5):
        W, X, labels = rng.normal(size=(3, 4)), rng.normal(size=(6, 3)), rng.integers(0, 4, 6)
        value, gradient = f.value_and_grad(W, X, labels)
        expected = ad.value_and_grad(loss)(W, X, labels)
        assert_same([value, gradient], expected)
    assert f.statistics.recordings == 1


def test_tensors_from_elsewhere_are_read_at_every_call():
    scale = Tensor([1.0, 2.0], name="scale")
    f = replay(lambda x: np.sum(np.where(scale > 1.5, scale, 10.0) * x), magnification="array")
    x = np.array([1.0, 1.0])
    assert f(x) == 12.0
    scale.data = np.array([3.0, 0.0])
    assert f(x) == 13.0
    scale.data[:] = 5.0
    assert f.value_and_grad(x)[0] == 10.0
    scale.data = np.array([5.0])  # another shape
    assert f(x) == 10.0
    assert f.statistics.recordings == 2
    with pytest.raises(ReplayError, match="data of scale"):
        replay(lambda x: np.sum(x) * scale.data[0], magnification="array")(x)


def test_a_parameter_that_the_function_makes_when_it_is_first_needed():
    kept = []

    def f(x):
        if not kept:
            kept.append(Tensor([1.0, 2.0]))
        return np.sum(np.where(kept[0] > 1.5, kept[0], 10.0) * x)

    replayed = replay(f, magnification="array")
    x = np.array([1.0, 1.0])
    assert replayed(x) == 12.0
    kept[0].data = np.array([3.0, 0.0])
    assert replayed(x) == 13.0
    assert replayed.statistics.replays == 1


def test_nodes_and_other_transforms():
    f = replay(lambda x: np.sum(np.where(x > 0.0, x**2, x)), magnification="array")
    x = np.array([1.0, -2.0])
    np.testing.assert_array_equal(ad.grad(f)(x), [2.0, 1.0])
    t = Tensor(x)
    f(t).backward()
    np.testing.assert_array_equal(t.grad, [2.0, 1.0])
    assert f.statistics.recordings == 0


def test_an_array_may_be_returned_and_a_constant_too():
    f = replay(lambda x: np.where(x > 0.0, x, 0.0), magnification="array")
    for x in (np.array([1.0, -1.0]), np.array([-1.0, 3.0])):
        np.testing.assert_array_equal(f(x), np.maximum(x, 0.0))
    with pytest.raises(ValueError, match="record one number"):
        f.grad(np.array([1.0, -1.0]))
    assert replay(lambda x: 3.0, magnification="array").value_and_grad(np.ones(1))[0] == 3.0
    accuracy = replay(lambda x: ((x > 0.0) == np.array([True, False])).mean(), magnification="array")
    assert accuracy(np.array([1.0, -1.0])) == 1.0
    assert accuracy(np.array([1.0, 1.0])) == 0.5


def test_a_guard_that_fails_gives_no_warning_of_the_other_branch():
    f = replay(lambda x: np.sum(np.log(x)) if np.min(np.log(x + 1.0)) > 0.0 else np.sum(x), magnification="array")
    assert f(np.array([1.0, 1.0])) == 0.0
    assert f(np.array([-0.5, 1.0])) == 0.5  # log of it would warn
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert f(np.array([-1.0, 1.0])) == 0.0
    g = replay(lambda x: np.sum(np.log(x)) if np.min(x) > -5.0 else np.sum(x), magnification="array")
    g(np.array([1.0]))
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
        assert g(np.array([0.0])) == -np.inf


@pytest.mark.parametrize("over", [None, (np.array([[0.0, 1.0], [-1.0, 2.0]]),)])
def test_np_errstate_in_the_function_holds_in_its_replay(over):
    def f(x, sample=1.0):
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log(x * sample)
        return np.sum(np.where(np.isfinite(y), y, 0.0)) + np.sum(np.sqrt(x))

    replayed = replay(f, magnification="array", over=over, reduction="sum")
    for x in (np.array([1.0, 2.0]), np.array([0.0, 3.0])):
        expected = f(x) if over is None else sum(f(x, sample) for sample in over[0])
        assert replayed(x) == pytest.approx(expected, rel=1e-14)
    with pytest.warns(RuntimeWarning, match="invalid value encountered in sqrt"):
        replayed(np.array([-1.0, 1.0]))


def test_it_is_copied_and_saved_without_its_programs():
    f = replay(np.sum, magnification="array")
    assert f(np.ones(2)) == 2.0
    for twin in (copy.copy(f), pickle.loads(pickle.dumps(f))):
        assert twin.programs == []
        assert twin(np.ones(3)) == 3.0
    assert repr(f).startswith("<replayed sum: 1 programs")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"magnification": "tensor"}, ValueError, "unknown magnification 'tensor'"),
        ({"magnification": "array", "back_end": "numpy"}, ValueError, "no back end"),
        ({"magnification": "array", "over": np.ones(3)}, TypeError, r"write over=\(X,\)"),
        ({"magnification": "array", "over": ()}, ValueError, "one sample per row"),
        ({"magnification": "array", "over": (np.ones(2), np.ones(3))}, ValueError, r"one length, not 0: got \[2, 3\]"),
        ({"magnification": "array", "reduction": "max"}, ValueError, "unknown reduction"),
    ],
)
def test_errors_of_options(options, error, message):
    with pytest.raises(error, match=message):
        replay(lambda x: x, **options)


def test_errors_of_arguments():
    f = replay(lambda x, y: np.sum(x), argnums=1, magnification="array")
    with pytest.raises(TypeError, match="no argument 1 among the 1 given"):
        f(np.ones(1))
    with pytest.raises(TypeError, match="argument 1 holds str 'a'"):
        f(np.ones(1), "a")
    with pytest.raises(TypeError, match="returns list, expected a node"):
        replay(lambda x: [x], magnification="array")(np.ones(1))


# --- a batch ------------------------------------------------------------------------------------------------------

N = 7
BATCH = np.random.default_rng(11)
X3, X33 = BATCH.normal(size=(N, 3)), BATCH.normal(size=(N, 3, 3))
LABELS, FLAGS = BATCH.integers(0, 4, N), (BATCH.random(N) < 0.5) * 1.0
I3 = np.eye(3)

# Functions of W (3, 4) and one sample
BATCHED = {
    "rows": (lambda W, x: np.sum((x @ W) ** 2), (X3,)),
    "columns": (lambda W, x: np.sum((W.T @ x) ** 2), (X3,)),
    "logistic": (lambda W, x, y: np.log(1.0 + np.exp(-(2.0 * y - 1.0) * (x @ W[:, 0]))), (X3, FLAGS)),
    "labels": (lambda W, x, k: np.log(np.sum(np.exp(x @ W))) - (x @ W)[k], (X3, LABELS)),
    "embedding": (lambda W, k: np.sum(W[:, k] ** 3), (LABELS,)),
    "row of an embedding": (lambda W, k: np.sum(W.T[k] * np.array([1.0, 2.0, 3.0])), (LABELS,)),
    "elementwise": (lambda W, x: np.sum(np.tanh(W.T * x) + x**2 * W[:, 0]), (X3,)),
    "outer": (lambda W, x: np.sum(x[:, None] * W + x[None, :] @ W), (X3,)),
    "where": (lambda W, x: np.sum(np.where(x @ W > 0.0, x @ W, 0.1)), (X3,)),
    "reductions": (
        lambda W, x: np.max(x @ W) + np.sum(np.min(np.outer(x, x @ W), axis=1)) + np.prod(x * W[:, 0]),
        (X3,),
    ),
    "statistics": (lambda W, x: np.var(x * W[:, 0]) + np.std(x @ W) + np.mean(np.outer(x, W[0]), axis=0)[1], (X3,)),
    "shapes": (lambda W, x: np.sum(np.reshape(np.outer(x, x) @ W, (2, 6)).T[1:3, ::-1] ** 2), (X3,)),
    "concatenate": (lambda W, x: np.sum(np.concatenate([x, W[0], x * 2.0]) ** 3), (X3,)),
    "stack": (lambda W, x: np.sum(np.stack([x, x * W[:, 0], W[:, 1]], axis=1) ** 2), (X3,)),
    "einsum": (lambda W, x: np.sum(np.einsum("i,ij,kj->k", x, W, W) ** 2), (X3,)),
    "cumulative": (lambda W, x: np.sum(np.cumsum(x @ W) ** 2) + np.sum(np.cumprod(np.outer(x, W[0]), axis=1)), (X3,)),
    "sort": (lambda W, x: np.sum(np.sort(x @ W) * np.arange(4.0)), (X3,)),
    "argmax": (lambda W, x: (x @ W)[np.argmax(x @ W)] + W[np.argmax(x), 0] * x[1], (X3,)),
    "fancy": (
        lambda W, x: np.sum(W[[0, 1, 1]] * x[[0, 2, 2]][:, None]) + np.outer(x, x)[[0, 1], [1, 2]] @ W[0, :2],
        (X3,),
    ),
    "fancy apart": (lambda W, A: np.sum((A[:, :, None] * W[:, 0])[np.array([0, 1]), :, np.array([0, 2])] ** 2), (X33,)),
    "matrices": (lambda W, A: np.sum((A @ W) ** 2) + np.sum(W.T @ A @ W) + np.sum(A @ W[:, 0] * (W[:, 0] @ A)), (X33,)),
    "vectors": (lambda W, x: (x @ x) * (x @ W[:, 0]) + (W[:, 1] @ x), (X3,)),
    "stacks": (
        lambda W, A: (
            np.sum(np.stack([A, 2.0 * A]) @ W)
            + np.sum(A[0] @ np.stack([W, 2.0 * W]))
            + np.sum(np.stack([W.T, W.T]) @ A[:, 0])
        ),
        (X33,),
    ),
    "linear algebra": (
        lambda W, A: (
            np.sum(np.linalg.inv(A @ A.T + I3) @ W)
            + np.linalg.det(A * W[0, 0])
            + np.sum(np.linalg.solve(A @ A.T + I3, W))
        ),
        (X33,),
    ),
    "factors": (
        lambda W, A: (
            np.sum(np.linalg.cholesky(A @ A.T + I3) @ W)
            + np.sum(np.linalg.eigvalsh(A @ A.T * W[0, 0]) ** 2)
            + np.linalg.slogdet(A @ A.T + I3 * W[0, 0] ** 2)[1]
        ),
        (X33,),
    ),
    "no sample": (lambda W, x: np.sum(W**2), (X3,)),
    "broadcast": (
        lambda W, x: np.sum(np.broadcast_to(x, (2, 3)) * W[:, 0]) + np.sum(x[None, :] + x[:, None] * W[0, 0]),
        (X3,),
    ),
    "rearranged": (
        lambda W, x: (
            np.sum(np.tril(np.outer(x, x)) @ W) + np.sum(np.roll(x, 1) * W[:, 1]) + np.trace(np.outer(x, W[:, 0]))
        ),
        (X3,),
    ),
    "kernels": (lambda W, x: np.sum(ad.erf(x @ W)) + np.sum(ad.gelu(x @ W) * ad.silu(W)), (X3,)),
    "nan": (lambda W, x: np.nansum(np.where(x > 1.0, np.nan, x) * W[:, 0]) + np.nanmax(x @ W), (X3,)),
    "if": (lambda W, x: np.sum(x @ W) ** 2 if np.sum(x @ W) > 0.0 else np.sum(x) * np.sum(W), (X3,)),
    "if of a parameter": (lambda W, x: np.sum(x @ W) ** 2 if np.sum(W) > 0.0 else np.sum(x) * np.sum(W), (X3,)),
    "while": (lambda W, x: np.sum(halved(x * W[:, 0])), (X3,)),
    "astype": (lambda W, x: np.sum((x @ W).astype(np.float32).astype(float)), (X3,)),
    "numbers": (lambda W, y: (W[0, 0] - y) ** 2, (FLAGS,)),
    "mask of a parameter": (
        lambda W, x: np.sum(np.where(W > 0.0, W, 2.0) * x[:, None]) + np.sum((W > 0.0) * np.sum(x)),
        (X3,),
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", None])
@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_is_the_loop_over_its_samples(name, reduction):
    f, batch = BATCHED[name]
    replayed = replay(f, over=batch, reduction=reduction, magnification="array")
    rng = np.random.default_rng(len(name))
    samples = list(zip(*batch, strict=True))
    close = 1e-6 if name == "astype" else 1e-11
    for _ in range(3):
        W = rng.normal(size=(3, 4))
        each = [ad.value_and_grad(f)(W, *sample) for sample in samples]
        if reduction is None:
            np.testing.assert_allclose(replayed(W), [value for value, _ in each], rtol=close, atol=close)
            continue
        scale = N if reduction == "mean" else 1.0
        value, gradient = replayed.value_and_grad(W)
        assert_same([value, replayed(W)], [sum(value for value, _ in each) / scale] * 2, close)
        assert_same([gradient], [sum(of_one for _, of_one in each) / scale], close)


def test_a_batch_is_read_at_every_call_and_out_takes_the_gradient():
    X, y = X3.copy(), FLAGS.copy()
    f = replay(lambda w, x, y: (w @ x - y) ** 2, over=(X, y), magnification="array")
    w, out = np.ones(3), np.empty(3)
    X[:], y[:] = 1.0, 0.0
    value, gradient = f.value_and_grad(w, out=out)
    assert value == 9.0
    assert gradient is out
    np.testing.assert_allclose(out, [6.0, 6.0, 6.0], rtol=1e-15)
    X[:3] = 2.0
    assert f(w) == (3 * 36.0 + 4 * 9.0) / 7
    assert f.statistics.recordings == 1
    assert f(Tensor(w)).data == pytest.approx(f(w), rel=1e-15)


def test_samples_that_decide_otherwise_are_recorded_for_themselves():
    f = replay(lambda w, x: np.sum(w * x) if x[0] > 0.0 else np.sum(w) ** 2, over=(X3,), magnification="array")
    w, out = np.array([1.0, 2.0, 3.0]), np.empty(3)
    expected = np.mean([np.sum(w * x) if x[0] > 0.0 else 36.0 for x in X3])
    assert f.value_and_grad(w, out=out)[1] is out
    assert f(w) == pytest.approx(expected, rel=1e-14)
    assert f.statistics.recordings == 2


class Unruly:
    @staticmethod
    def function():
        f = ad.custom_jvp(lambda x: x**2)
        f.defjvps(lambda t, y, x: 2.0 * x * t)
        return f


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda w, x: np.sum(Unruly.function()(w * x)), TypeError, "<lambda> has no rule for a batch dimension"),
        (lambda w, x: np.sum((w * x)[w * x > 0.0]), TypeError, "choose with np.where"),
        (lambda w, x: np.sum(w) * len(x[x > 0.0]), TypeError, "choose with np.where"),
        (lambda w, x: np.sum(w) * np.nonzero(x > 0.0)[0].size, TypeError, "other shapes for other samples"),
        (lambda w, x: w * x, TypeError, r"f returns an array of shape \(3,\), expected one number"),
    ],
)  # fmt: skip
def test_what_has_no_batch(f, error, message):
    with pytest.raises(error, match=message):
        replay(f, over=(X3,), magnification="array")(np.ones(3))


def test_the_losses_of_all_samples_have_no_gradient():
    f = replay(lambda w, x: np.sum(w * x), over=(X3,), reduction=None, magnification="array")
    with pytest.raises(ValueError, match="choose reduction 'mean' or 'sum'"):
        f.grad(np.ones(3))


def test_on_the_very_edge_of_a_comparison_the_function_itself_answers(monkeypatch):
    """A program that comes to another answer than the recording did, as a sum in another order may."""
    f = replay(lambda x: np.sum(x**2) if np.sum(x) > 0.0 else np.sum(x), magnification="array")
    monkeypatch.setattr("autodiff.programs.arrays.program.ArrayProgram.run", lambda *given: None)
    x, out = np.array([1.0, 2.0]), np.empty(2)
    assert f(x) == 5.0
    value, gradient = f.value_and_grad(x)
    assert value == 5.0
    np.testing.assert_array_equal(gradient, [2.0, 4.0])
    assert f.grad(x, out=out) is out
    np.testing.assert_array_equal(out, [2.0, 4.0])
