"""The doctor on models in the tutorial's protocol: what it recognises, what it finds, and what it cannot tell."""

import copy
import warnings

import numpy as np
import pytest

from nn.audit.model import audit_model, audit_model_on_probes, recognised_loss
from nn.by_hand import ACTIVATIONS, LOSSES, MLP, REDUCTIONS

RANDOM = np.random.default_rng(5)
X, Y = RANDOM.standard_normal((9, 2)), (np.arange(9) % 2).reshape(-1, 1).astype(float)
SIZES, NAMES = [2, 4, 3, 1], ["relu", "tanh", "sigmoid"]


def model(sizes=SIZES, names=NAMES, loss="bce", reduction="mean", layout="row", kind=MLP, seed=3, **options):
    net = kind(sizes, names, loss, reduction, layout, **options).initialize("he", seed)
    for k in range(1, len(sizes)):
        net.b[k] = np.random.default_rng([seed, k]).uniform(0.1, 0.5, net.b[k].shape)
    return net


def batch(sizes, loss, layout, n=9):
    random = np.random.default_rng([n, sizes[-1]])
    inputs, y = random.standard_normal((n, sizes[0])), random.standard_normal((n, sizes[-1]))
    if loss in ("bce", "ce"):
        y = np.eye(sizes[-1])[np.arange(n) % sizes[-1]] if sizes[-1] > 1 else (np.arange(n) % 2).reshape(-1, 1) * 1.0
    return (inputs, y) if layout == "row" else (inputs.T, y.T)


def function(loss, reduction, layout):
    units = {"row": 1, "column": 0}[layout]

    def value(y, yhat):
        terms = LOSSES[loss].terms(np.asarray(y), np.asarray(yhat))
        return terms.sum() / REDUCTIONS[reduction](y.shape[1 - units], y.shape[units])

    return value


def found(report):
    return [(cause.quantity, cause.layers, cause.kind, cause.factor) for cause in report.causes]


# ---------------------------------------------------------------- right models
@pytest.mark.parametrize("layout", ["row", "column"])
@pytest.mark.parametrize(
    ("sizes", "names", "loss", "reduction"),
    [
        ([2, 4, 3, 1], ["relu", "tanh", "sigmoid"], "bce", "mean"),
        ([3, 3, 3], ["leaky_relu", "softmax"], "ce", "sum"),
        ([3, 5, 2], ["softplus", "identity"], "sse", "mean_elements"),
        ([4, 4], ["identity"], "half_sse", "mean"),
    ],
)
def test_a_right_model_is_right_and_recognised(sizes, names, loss, reduction, layout):
    net = model(sizes, names, loss, reduction, layout)
    declared = function(loss, reduction, layout)
    for report in (
        audit_model(net, *batch(sizes, loss, layout), declared),
        audit_model(net, *batch(sizes, loss, layout), loss, reduction=reduction),
        audit_model_on_probes(net, declared),
    ):
        assert report.ok, report
        (note,) = (note for note in report.notes if note.startswith("recognised"))
        assert ", ".join(map(str, sizes)) in note
        assert f"loss {loss}" in note or {loss, reduction} == {"sse", "mean_elements"}
        assert f"{layout} layout" in note
    for name in names:
        assert name in note


class Turned:
    """Weights as (out, in) with samples in rows, as in z = a W^T + b; biases 1-d."""

    def __init__(self):
        random = np.random.default_rng(1)
        self.W = [None, random.standard_normal((3, 2)), random.standard_normal((2, 3))]
        self.b = [None, random.standard_normal(3), random.standard_normal(2)]
        self.z, self.a, self.dz, self.dW, self.db, self.da = ([None] * 3 for _ in range(6))

    def forward(self, x):
        self.a[0] = x
        for k, f in ((1, np.tanh), (2, lambda z: z)):
            self.z[k] = self.a[k - 1] @ self.W[k].T + self.b[k]
            self.a[k] = f(self.z[k])
        return self.a[2]

    def backward(self, y):
        self.dz[2] = (self.a[2] - y) / len(y)
        self.dz[1] = self.dz[2] @ self.W[2] * (1 - self.a[1] ** 2)
        for k in (1, 2):
            self.dW[k] = self.dz[k].T @ self.a[k - 1]
            self.db[k] = self.dz[k].sum(axis=0)


def test_weights_stored_the_other_way_round_are_right():
    inputs, y = batch([2, 3, 2], "half_sse", "row")
    for report in (audit_model(Turned(), inputs, y, "half_sse"), audit_model_on_probes(Turned(), "half_sse")):
        assert report.ok, report
        assert any("other way round" in note for note in report.notes)


def test_the_model_and_the_batch_stay_as_they_are():
    net, inputs, y = model(), X.copy(), Y.copy()
    before = copy.deepcopy(vars(net))
    audit_model(net, inputs, y, "bce")
    audit_model_on_probes(net, "bce")
    for name in ("W", "b"):
        for was, now in zip(before[name][1:], vars(net)[name][1:], strict=True):
            np.testing.assert_array_equal(was, now)
    assert net.a[-1] is None
    np.testing.assert_array_equal(inputs, X)
    np.testing.assert_array_equal(y, Y)


# ---------------------------------------------------------------- wrong models
@pytest.mark.parametrize("on_probes", [False, True])
def test_the_published_model_has_two_causes_and_a_loss_that_is_a_sum(on_probes):
    net = model(names=["relu", "relu", "sigmoid"], as_published=True)

    def cross_entropy(y, yhat):
        """The average cross entropy."""
        return -(y * np.log(yhat) + (1 - y) * np.log(1 - yhat)).sum()

    if on_probes:
        report = audit_model_on_probes(net, cross_entropy)
    else:
        report = audit_model(net, *batch(SIZES, "bce", "row"), cross_entropy)
    assert found(report) == [("dz3", (3,), "factor", "2"), ("db", (1, 2, 3), "factor", "1/n")]
    assert any("called an average, but it is a sum" in note for note in report.notes)


def spoilt(change):
    class Spoilt(MLP):
        def backward(self, y, yhat=None):
            super().backward(y, yhat)
            change(self)

    return model(kind=Spoilt)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda net: net.dW.__setitem__(2, -net.dW[2]), ("dW2", (2,), "factor", "-1")),
        (lambda net: net.dW.__setitem__(2, None), ("dW2", (2,), "missing", None)),
        (lambda net: net.db.__setitem__(1, net.db[1] * np.nan), ("db1", (1,), "non-finite", None)),
        (lambda net: net.W.__setitem__(1, net.W[1] * 2), ("backward", (), "changes-inputs", None)),
        (lambda net: 1 / 0, ("backward", (), "raises", None)),
    ],
)
def test_a_planted_mistake_is_found(change, expected):
    report = audit_model(spoilt(change), X, Y, "bce")
    assert report.ok is False
    assert found(report) == [expected]


def test_dead_units_of_a_trained_model_hide_nothing_on_probes():
    net = spoilt(lambda net: net.dW.__setitem__(1, 3 * net.dW[1]))
    net.b[1][...] = -100.0
    assert audit_model(net, X, Y, "bce").ok, "dead units have no gradient that could be wrong"
    assert found(audit_model_on_probes(net, "bce")) == [("dW1", (1,), "factor", "3")]


# ---------------------------------------------------------------- undecidable
class Nothing(Turned):
    def forward(self, x):
        return None


class Closed(Turned):
    def __deepcopy__(self, memo):
        raise ValueError("not to be copied")


class Empty(Turned):
    def __init__(self):
        self.W = [None, None]


class Broken(Turned):
    def forward(self, x):
        return undefined  # noqa: F821


@pytest.mark.parametrize(
    ("candidate", "loss", "words"),
    [
        (Nothing(), "sse", "no matrix yhat"),
        (Closed(), "sse", "cannot be copied"),
        (Empty(), "sse", "one matrix per layer"),
        (Broken(), "sse", "forward raised NameError"),
        (Turned(), "bec", "unknown loss 'bec'"),
        (Turned(), lambda y, yhat: "low", "no gradient to compare with: the loss"),
    ],
)
def test_what_is_not_recognised_is_undecidable_with_a_reason(candidate, loss, words):
    for report in (
        audit_model(candidate, *batch([2, 3, 2], "sse", "row"), loss),
        audit_model_on_probes(candidate, loss),
    ):
        assert report.ok is None
        assert words in report.notes[0]


@pytest.mark.parametrize(("inputs", "y"), [(X[:, :1], Y), (X[0], Y), (X, Y[:3])])
def test_a_batch_that_does_not_fit_is_undecidable(inputs, y):
    report = audit_model(model(), inputs, y, "bce")
    assert report.ok is None
    assert "has the shape" in report.notes[0]


# ---------------------------------------------------------------- losses
@pytest.mark.parametrize("layout", ["row", "column"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "mse"])
def test_a_loss_is_recognised_by_its_values(loss, reduction, outputs, layout):
    name, found_reduction, _ = recognised_loss(function(loss, reduction, layout), outputs, layout)
    assert name == loss
    assert found_reduction == reduction or (outputs == 1 and reduction == "mean_elements")


def mean_squared_error(y, yhat):
    return np.sum((y - yhat) ** 2)


@pytest.mark.parametrize(
    ("loss", "name", "reduction", "words"),
    [
        (mean_squared_error, "sse", "sum", "called an average"),
        (lambda y, yhat: (y - yhat) ** 2, "sse", None, "not reduced"),
        (lambda yhat, y: -(y * np.log(yhat)).sum(), "ce", "sum", "takes (yhat, y)"),
        (lambda y, yhat: 3.0 * np.sum((y - yhat) ** 2), None, None, "is none of"),
        (lambda y: 0.0, None, None, "is none of"),
    ],
)
def test_what_is_odd_about_a_loss_is_told(loss, name, reduction, words):
    found_name, found_reduction, notes = recognised_loss(loss, 2)
    assert (found_name, found_reduction) == (name, reduction)
    assert words in notes[0]


def test_nothing_warns_on_saturated_outputs():
    net = model(names=["identity", "identity", "sigmoid"])
    net.b[3][...] = 800.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert audit_model(net, X, Y, "bce").ok is not None


def test_every_activation_can_be_recognised():
    for name in ACTIVATIONS:
        net = model([2, 5, 3], [name, "identity"], "sse")
        assert name in audit_model_on_probes(net, "sse").notes[-1]
