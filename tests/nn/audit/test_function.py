"""The doctor on functions: right ones in every setting, one planted mistake after the other, and bad manners."""

import multiprocessing
import sys

import numpy as np
import pytest

from nn.audit.function import agreed, audit_function, batch_sizes, finite, probe
from nn.audit.report import Cause, Report
from nn.by_hand import ACTIVATIONS, MLP

SIZES, NAMES = [3, 4, 2], ["relu", "sigmoid"]
NET = {"sizes": SIZES, "activations": NAMES, "loss": "bce"}
RANDOM = np.random.default_rng(0)


def right(W, b, X, y):
    """Of NET, in plain NumPy: two layers, W and b without a placeholder."""
    n = len(X)
    z1 = X @ W[0] + b[0]
    a1 = np.maximum(0, z1)
    yhat = 1 / (1 + np.exp(-(a1 @ W[1] + b[1])))
    dz2 = (yhat - y) / n
    da1 = dz2 @ W[1].T
    dz1 = da1 * (z1 > 0)
    return {
        "dz2": dz2, "dW2": a1.T @ dz2, "db2": dz2.sum(axis=0, keepdims=True),
        "da1": da1, "dz1": dz1, "dW1": X.T @ dz1, "db1": dz1.sum(axis=0, keepdims=True),
    }  # fmt: skip


def audited(backward, **options):
    return audit_function(backward, **{**NET, **options})


def altered(**change):
    """`right` with some entries replaced by functions of the right dict."""

    def backward(W, b, X, y):
        found = right(W, b, X, y)
        for name, new in change.items():
            value = new(found)
            if value is None:
                del found[name]
            else:
                found[name] = value
        return found

    return backward


# ---------------------------------------------------------------- probes
@pytest.mark.parametrize("layout", ["row", "column"])
@pytest.mark.parametrize("seed", range(5))
def test_on_probes_nothing_hides(layout, seed):
    sizes, names = [1, 3, 3, 1, 2], ["relu", "leaky_relu", "relu", "softmax"]
    drawn = probe(sizes, names, "ce", layout, 7, seed)
    turned = (lambda array: array) if layout == "row" else np.transpose
    a = turned(drawn.X)
    for k, name in enumerate(names):
        W, b = turned(drawn.W[k]), turned(drawn.b[k])
        assert W.shape == (sizes[k], sizes[k + 1])
        assert b.all()
        assert W.size == 1 or W.shape[0] != W.shape[1] or not np.allclose(W, W.T)
        z = a @ W + b
        if "relu" in name:
            assert (z > 0).any(axis=0).all()
            assert (z < 0).any(axis=0).all()
        a = ACTIVATIONS[name].value(z, 1)
    assert turned(drawn.y).sum() == 7


def test_batch_sizes_are_no_widths():
    assert batch_sizes([2, 4, 3, 1]) == [7, 11, 13]
    assert batch_sizes([7, 4, 13]) == [11, 17, 19]


# ---------------------------------------------------------------- right code
def by_hand(sizes, names, loss, reduction, layout, dtype=float):
    def backward(W, b, X, y):
        net = MLP(sizes, names, loss, reduction, layout)
        net.W, net.b = [None, *W], [None, *b]
        net.forward(X)
        net.backward(y)
        lists = {"dz": net.dz, "dW": net.dW, "db": net.db}
        return {f"{name}{k}": lists[name][k].astype(dtype) for name in lists for k in range(1, len(sizes))}

    return backward


@pytest.mark.parametrize("layout", ["row", "column"])
@pytest.mark.parametrize(
    ("sizes", "names", "loss", "reduction"),
    [
        ([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce", "mean"),
        ([3, 3, 3], ["leaky_relu", "softmax"], "ce", "sum"),
        ([7, 5, 2], ["tanh", "identity"], "sse", "mean_elements"),
        ([1, 1], ["softplus"], "half_sse", "mean"),
        ([2, 3, 2], ["softmax", "identity"], "mse", "mean"),
    ],
)
def test_right_code_is_right(sizes, names, loss, reduction, layout):
    backward = by_hand(sizes, names, loss, reduction, layout)
    settings = {"sizes": sizes, "activations": names, "loss": loss, "reduction": reduction, "layout": layout}
    report = audit_function(backward, **settings)
    assert report.ok, report
    assert not report.causes


def test_right_code_in_float32_is_right():
    assert audited(by_hand(SIZES, NAMES, "bce", "mean", "row", np.float32)).ok


def test_a_placeholder_is_found_out():
    def backward(W, b, X, y):
        return right(W[1:], b[1:], X, y)

    report = audited(backward)
    assert report.ok
    assert any("None at [0]" in note for note in report.notes)
    assert audited(backward, placeholder=True).notes == ()
    assert audited(backward, placeholder=False).ok is False


def test_a_placeholder_is_found_out_where_a_gradient_is_missing_too():
    def backward(W, b, X, y):
        found = right(W[1:], b[1:], X, y)
        return {name: found[name] for name in ("dW1", "db1", "db2")}

    assert [(cause.quantity, cause.kind) for cause in audited(backward).causes] == [("dW2", "missing")]


def in_a_worker(seed):
    return audited(by_hand(SIZES, NAMES, "bce", "mean", "row"), seed=seed).ok


def test_a_grader_may_call_from_the_workers_of_a_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(in_a_worker, range(3)) == [True] * 3


def test_lists_per_layer_are_read_with_and_without_a_placeholder():
    def backward(W, b, X, y, first=()):
        found = right(W, b, X, y)
        return {"dW": [*first, found["dW1"], found["dW2"]], "db": (*first, found["db1"], found["db2"])}

    assert audited(backward).ok
    assert audited(lambda W, b, X, y: backward(W, b, X, y, first=(None,))).ok


# ---------------------------------------------------------------- one mistake
@pytest.mark.parametrize(
    ("backward", "quantity", "kind", "factor"),
    [
        (altered(db2=lambda d: d["db2"] / len(d["dz2"])), "db2", "factor", "1/n"),
        (altered(dW1=lambda d: 2 * d["dW1"]), "dW1", "factor", "2"),
        (altered(dW2=lambda d: d["dW2"].T), "dW2", "transposed", None),
        (altered(dW1=lambda d: None), "dW1", "missing", None),
        (altered(dW1=lambda d: None, dW2=lambda d: None), "dW", "missing", None),
        (altered(dW1=lambda d: d["dW1"] * [np.nan]), "dW1", "non-finite", None),
        (altered(dW1=lambda d: d["dW1"].astype(str)), "dW1", "dtype", None),
        (altered(dW1=lambda d: d["dW1"] + 0j), "dW1", "dtype", None),
        (altered(dW1=lambda d: np.array([[d, None]])), "dW1", "dtype", None),
        (altered(dW1=lambda d: [[1.0], [1.0, 2.0]]), "dW1", "shape", None),
        (lambda W, b, X, y: None, "backward", "missing", None),
        (lambda W, b, X, y: (1.0, 2.0), "backward", "missing", None),
        (lambda W, b, X, y: sys.exit(), "backward", "exits", None),
        (lambda p, q, r, s: p + q, "backward", "missing", None),
        (altered(dW1=lambda d: np.where(d["dW1"] > 0, d["dW1"], None)), "dW1", "dtype", None),
        (altered(dW1=lambda d: d["dW1"] + RANDOM.standard_normal(d["dW1"].shape)), "backward", "random", None),
    ],
)
def test_one_mistake_is_one_cause(backward, quantity, kind, factor):
    report = audited(backward)
    assert report.ok is False
    assert [(cause.quantity, cause.kind, cause.factor) for cause in report.causes] == [(quantity, kind, factor)]
    assert report.causes[0].message


def test_an_endless_loop_is_a_finding():
    def backward(W, b, X, y):
        while True:
            pass

    (cause,) = audited(backward, timeout=0.3).causes
    assert cause.kind == "timeout"
    assert "0.3 seconds" in cause.message


def test_the_line_that_raises_is_named():
    def backward(W, b, X, y):
        return X @ X

    (cause,) = audited(backward).causes
    assert "in backward: return X @ X" in cause.message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda W, b, X, y: np.multiply(W[0], 2, out=W[0]), "W"),
        (lambda W, b, X, y: W.append(0), "W"),
        (lambda W, b, X, y: (X.fill(0), y.fill(0)), "X and y"),
        (lambda W, b, X, y: b.__setitem__(1, b[1] + 1), "b"),
    ],
)
def test_changed_inputs_are_a_finding_beside_right_gradients(change, named):
    def backward(W, b, X, y):
        found = right(W, b, X, y)
        change(W, b, X, y)
        return found

    (cause,) = audited(backward).causes
    assert cause.kind == "changes-inputs"
    assert f"it changes {named}, which" in cause.message


def test_nan_is_named_where_it_comes_from():
    def backward(W, b, X, y):
        found = right(W, b, X, y)
        for name in ("dz2", "dW2", "db2", "da1", "dz1", "dW1", "db1"):
            found[name] = found[name] * np.nan
        return found

    report = audited(backward)
    assert [(cause.quantity, cause.kind) for cause in report.causes] == [("dz2", "non-finite")]
    assert set(report.inherited) == {"dW2", "db2", "da1", "dz1", "dW1", "db1"}


def test_where_dz_is_not_claimed_nan_in_both_gradients_is_its():
    nan, one = np.array([[np.nan]]), np.ones((1, 1))
    found = finite({"dW2": one, "db2": one, "dW1": nan, "db1": nan}, 2)
    assert [cause.quantity for cause in found.causes] == ["dz1"]
    assert set(found.claims) == {"dW2", "db2"}
    assert [cause.quantity for cause in finite({"dW2": one, "db2": nan}, 2).causes] == ["db2"]


def test_an_infinite_slope_of_a_saturated_output_is_harmless():
    found = finite({"da1": np.array([[np.inf]]), "dz1": np.ones((1, 1))}, 1)
    assert not found.causes
    assert "harmless" in found.notes[0]


@pytest.mark.parametrize("spelled", ["cache", "caches"])
def test_what_a_backward_asks_for_by_name_is_given(spelled):
    def of_dicts(parameters, cache, X, Y):
        dZ2 = (cache["A2"] - Y) / X.shape[1]
        dZ1 = parameters["W2"].T @ dZ2 * (1 - cache["A1"] ** 2)
        return {"dZ2": dZ2, "dW2": dZ2 @ cache["A1"].T, "db2": dZ2.sum(1), "dW1": dZ1 @ X.T, "db1": dZ1.sum(1)}

    def of_tuples(AL, Y, caches):
        (X, *_), _ = caches[0]
        (A1, W2, _), _ = caches[1]
        return of_dicts({"W2": W2}, {"A1": A1, "A2": AL}, X, Y)

    report = audit_function(
        of_dicts if spelled == "cache" else of_tuples, sizes=[2, 3, 1], activations=["tanh", "sigmoid"], loss="bce",
        layout="column",
    )  # fmt: skip
    assert report.ok, report


def test_a_backward_that_asks_for_what_is_not_known_is_refused():
    with pytest.raises(ValueError, match="what hidden, mood should be is not known"):
        audited(lambda W, hidden, mood: {})


def test_gradients_that_add_up_are_one_cause_and_judged_by_what_a_call_adds():
    total = {}

    def backward(W, b, X, y):
        for name, gradient in right(W, b, X, y).items():
            total[name] = total.get(name, 0.0) + (2.0 if name == "dW1" else 1.0) * gradient
        return {name: total[name] for name in ("dW1", "dW2", "db1", "db2")}

    found = [(cause.quantity, cause.kind, cause.factor) for cause in audited(backward).causes]
    assert found == [("backward", "accumulates", None), ("dW1", "factor", "2")]


# ---------------------------------------------------------------- manners
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (altered(dW1=lambda d: d["dW1"].tolist()), "dW1 (list)"),
        (altered(dW1=lambda d: d["dW1"].astype(object)), "dtype object"),
        (altered(dw_1=lambda d: 0), "is 'dW1' meant"),
        (lambda W, b, X, y: (print("hello"), right(W, b, X, y))[1], "prints: 'hello'"),
    ],
)
def test_what_is_odd_and_harmless_is_a_note(change, words):
    report = audited(change)
    assert report.ok
    assert any(words in note for note in report.notes), report.notes


def test_what_depends_on_the_batch_alone_is_told_as_such():
    def backward(W, b, X, y):
        found = right(W, b, X, y)
        return found if len(X) == 7 else {**found, "dW1": found["dW1"] * 7 / 11}

    assert audited(backward).ok is False


# ---------------------------------------------------------------- declarations
@pytest.mark.parametrize(
    "wrong",
    [{"sizes": [3]}, {"loss": "bec"}, {"activations": ["relu"]}, {"reduction": "average"}, {"layout": "rows"}],
)
def test_a_declaration_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        audited(right, **wrong)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="backward is a function"):
        audited({"dW1": 1.0})


# ---------------------------------------------------------------- one report for several
def cause(quantity, factor):
    return Cause(quantity, 1, (1,), "factor", "", factor)


def test_a_coincidence_of_one_probe_is_dropped():
    reports = [Report(False, (cause("dz1", factor),)) for factor in ("7", "n", "n")]
    assert [c.factor for c in agreed(reports).causes] == ["n"]


def test_where_no_two_probes_agree_the_last_stands_with_a_note():
    merged = agreed([Report(False, (cause("dz1", factor),)) for factor in ("7", "11", "13")])
    assert [c.factor for c in merged.causes] == ["13"]
    assert "depends on the batch" in merged.notes[-1]


def test_right_on_all_probes_is_right_and_one_wrong_is_wrong():
    assert agreed([Report(True), Report(True)]).ok is True
    assert agreed([Report(True), Report(None)]).ok is None
    assert agreed([Report(True), Report(False), Report(True)]).ok is False
