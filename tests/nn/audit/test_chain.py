"""Networks without a name as chains of layers: what is one, the functions that stand in it, and what is found there."""

import types
from itertools import pairwise

import numpy as np
import pytest

from autodiff import Tensor
from nn.audit import own_forward
from nn.audit.chain import NoChain, chain
from nn.audit.claims import Precision
from nn.audit.model import audit_model
from nn.audit.own_functions import Elementwise, Loss, activation
from nn.audit.own_model import Own
from nn.audit.report import Report
from nn.audit.unnamed import variants
from tests.nn.audit import own_mistakes


def swish(z):
    return z / (1 + np.exp(-z))


def slope(z):
    s = 1 / (1 + np.exp(-z))
    return s + z * s * (1 - s)


def logcosh(y, yhat):
    return np.logaddexp(yhat - y, y - yhat).sum() / len(y)


class Net:
    """swish, then identity, under the sum of log cosh over n; `wrong` replaces what a step gives."""

    f, slope = staticmethod(swish), staticmethod(slope)

    def __init__(self, sizes=(3, 4, 4, 2), only=False, dtype=float, **wrong):
        random = np.random.default_rng(len(sizes))
        self.W = [None, *(random.standard_normal(s).astype(dtype) for s in pairwise(sizes))]
        self.b = [None, *(random.uniform(0.2, 0.6, (1, n)).astype(dtype) for n in sizes[1:])]
        self.L, self.wrong, self.only = len(sizes) - 1, tuple(wrong.items()), only

    def forward(self, X):
        self.z, self.a = [None], [X]
        for k in range(1, self.L + 1):
            self.z.append(self.affine(k))
            self.a.append(self.f(self.z[k]) if k < self.L else self.z[k] * 1.0)
        return self.a[-1]

    def affine(self, k):
        return self.a[-1] @ self.W[k] + self.b[k]

    def backward(self, y, yhat):
        step = lambda name, value: dict(self.wrong).get(name, lambda net, value: value)(self, value)  # noqa: E731
        self.da, self.dz, self.dW, self.db = ([None] * (self.L + 1) for _ in range(4))
        self.da[self.L] = step(f"da{self.L}", np.tanh(yhat - y) / len(y))
        for k in range(self.L, 0, -1):
            f = self.slope(self.z[k]) if k < self.L else 1.0
            self.dz[k] = step(f"dz{k}", self.da[k] * f)
            self.dW[k] = step(f"dW{k}", self.a[k - 1].T @ self.dz[k])
            self.db[k] = step(f"db{k}", self.dz[k].sum(axis=0, keepdims=True))
            self.da[k - 1] = step(f"da{k - 1}", self.dz[k] @ self.W[k].T)
        if self.only:
            self.da, self.dz = [None], [None]


def batch(net, n=7, dtype=float):
    random = np.random.default_rng(n)
    return random.standard_normal((n, len(net.W[1]))).astype(dtype), random.standard_normal((n, net.W[-1].shape[1]))


def own_of(net, X, y, loss=logcosh):
    W, b = net.W[1:], net.b[1:]
    return Own(net, W, b, X, y, len(X), y.shape[-1], loss)


def found(report):
    return [(cause.quantity, cause.kind) for cause in report.causes]


# ---------------------------------------------------------------- what is found
@pytest.mark.parametrize("only", [False, True], ids=["all claims", "dW and db"])
@pytest.mark.parametrize(
    ("step", "rule", "kind"),
    [
        ("da3", lambda net, da: -da, "factor"),
        ("da3", lambda net, da: np.abs(da), "loss-derivative"),
        ("dz2", lambda net, dz: net.da[2], "activation-derivative"),
        ("dz2", lambda net, dz: net.da[2] * slope(net.a[2]), "activation-derivative"),
        ("dz2", lambda net, dz: net.da[2] * net.a[2], "activation-derivative"),
        ("dz2", lambda net, dz: net.da[2] * slope(net.z[2]) ** 2, "activation-derivative"),
        ("dz2", lambda net, dz: net.da[2] * (1 - np.tanh(net.z[2]) ** 2), "activation-derivative"),
        ("dz1", lambda net, dz: net.da[1] / (1 + np.exp(-net.z[1])), "activation-derivative"),
        ("da1", lambda net, da: net.dz[2] @ net.W[2], "operand"),
        ("da1", lambda net, da: net.dz[2] @ np.abs(net.W[2]).T, "child-sum"),
        ("dW2", lambda net, dW: net.z[1].T @ net.dz[2], "operand"),
        ("dW2", lambda net, dW: net.a[2].T @ net.dz[2], "operand"),
        ("dW2", lambda net, dW: net.a[1].T @ net.da[2], "operand"),
        ("dW2", lambda net, dW: net.a[1][:1].T @ net.dz[2][:1], "batch-sum"),
        ("dW2", lambda net, dW: dW.T, "transposed"),
        ("dW3", lambda net, dW: dW.T, "transposed"),
        ("db2", lambda net, db: net.da[2].sum(axis=0, keepdims=True), "operand"),
        ("db2", lambda net, db: db / 7, "factor"),
    ],
)
def test_mistakes_around_functions_without_a_name_are_named(step, rule, kind, only):
    net = Net(only=only, **{step: rule})
    report = audit_model(net, *batch(net), logcosh)
    shown = f"dz{step[2:]}" if only and step[:2] == "da" else step
    assert found(report) == [(shown, kind)], report


@pytest.mark.parametrize("half", own_mistakes.HALVES)
@pytest.mark.parametrize("mode", ["backward", "parameters"])
def test_most_mistakes_of_the_collection_are_named(half, mode):
    outcomes = [own_mistakes.outcome(instance) for instance in own_mistakes.singles(half, [101], mode, 3)]
    assert sum(outcome == "right" for outcome, _ in outcomes) >= len(outcomes) - 1, outcomes


@pytest.mark.parametrize("half", own_mistakes.HALVES)
def test_right_models_of_the_collection_are_right(half):
    for seed in range(4):
        instance = own_mistakes.correct(seed, half)
        assert instance is None or own_mistakes.outcome(instance) == ("right", ""), instance


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize(
    ("sizes", "n", "dtype"),
    [
        ((3, 4, 2), 3, float),  # as many samples as inputs: the layout does not follow from X
        ((4, 4, 4), 4, float),
        ((2, 3, 1), 1, float),
        ((1, 1, 1), 1, float),
        ((2, 5, 3), 9, np.float32),
    ],
)
def test_right_models_of_odd_sizes_and_low_precision_are_right(sizes, n, dtype, only):
    bent = types.SimpleNamespace(f=lambda z: np.where(z > 0, z, 0.1 * z), slope=lambda z: np.where(z > 0, 1.0, 0.1))
    for f, df in ((swish, slope), (bent.f, bent.slope)):
        net = Net(sizes, only, dtype)
        net.f, net.slope = f, df  # np.where gives float64 for float32: half of the claims come as such
        report = audit_model(net, *batch(net, n, dtype), logcosh)
        assert report.ok is True, report
        assert not report.causes, report


def test_a_flat_bias_is_as_good():
    net = Net(db1=lambda net, db: db[0], db2=lambda net, db: db.T)
    assert audit_model(net, *batch(net), logcosh).ok


def test_a_single_number_carries_no_odd_factor():
    for factor, kinds in ((0.37, ["unexplained"]), (-1.0, ["factor"]), (2.0, ["factor"])):
        net = Net((2, 3, 1), db2=lambda net, db, factor=factor: factor * db)
        report = audit_model(net, *batch(net), logcosh)
        assert [cause.kind for cause in report.causes] == kinds, report


# ---------------------------------------------------------------- what is a chain
class Columns(Net):
    def forward(self, X):
        a = X
        for k in range(1, self.L + 1):
            z = self.W[k].T @ a + self.b[k].T
            a = self.f(z) if k < self.L else z * 1.0
        return a


def layer(rule):
    return type("Written", (Net,), {"affine": rule})


@pytest.mark.parametrize(
    "kind",
    [
        layer(lambda net, k: np.dot(net.a[-1], net.W[k]) + net.b[k]),
        layer(lambda net, k: net.a[-1].dot(net.W[k]) + net.b[k]),  # X.dot is ndarray's own, and sees no nodes
        layer(lambda net, k: np.einsum("ni,ij->nj", net.a[-1], net.W[k]) + net.b[k]),
        layer(lambda net, k: net.b[k] + (net.W[k].T @ net.a[-1].T).T),
        layer(lambda net, k: (net.a[-1] * 2.0 if k == 1 else net.a[-1]) @ net.W[k] + net.b[k]),
    ],
)
def test_a_chain_is_one_however_it_is_written(kind):
    net = kind()
    functions = chain(own_of(net, *batch(net))).functions
    assert isinstance(functions[0], Elementwise)
    assert functions[2] == "identity"


def test_a_chain_may_have_its_samples_in_columns():
    net = Columns()
    X, y = batch(net)
    own = own_of(net, X.T, y.T, lambda y, yhat: logcosh(y, yhat))
    assert own_forward.layout_of(own) == "column"
    assert own_forward.layout_of(own_of(Net(), X, y)) == "row"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda net, k: net.a[-1] @ net.W[k] + net.b[k] + (net.a[1] if k == 2 else 0.0), "another way"),
        (lambda net, k: net.a[-1] @ net.W[min(k, 2) if k < 3 else 3] + net.b[2 if k == 3 else k].mean(), "bias"),
        (lambda net, k: 2.0 * (net.a[-1] @ net.W[k]) + net.b[k], "not added"),
        (lambda net, k: net.a[-1] @ (net.W[k] * net.W[k]) + net.b[k], "used 2 times"),
    ],
)
def test_what_is_no_chain_is_told_apart(rule, words):
    net = layer(rule)()
    with pytest.raises(NoChain):
        chain(own_of(net, *batch(net)))


def test_a_forward_pass_that_changes_from_run_to_run_is_no_chain():
    class Counting(Net):
        runs = 0

        def f(self, z):
            Counting.runs += 1
            return z * z * Counting.runs

    net = Counting()
    with pytest.raises(NoChain, match="other numbers"):
        chain(own_of(net, *batch(net)))


def test_what_the_output_suggests_is_checked_where_the_claims_are_wrong():
    """Where the model keeps nothing of its forward pass, its output alone may be that of other activations."""

    class Far(Net):
        f = staticmethod(lambda z: np.where(z > 0, z * 1.0, -0.5 * z))
        slope = staticmethod(lambda z: np.where(z > 0, 1.0, -0.5))

        def forward(self, X):
            super().forward(X)
            yhat, self.kept = self.a[-1], (self.z, self.a)
            del self.z, self.a
            return yhat

        def backward(self, y, yhat):
            self.z, self.a = self.kept
            super().backward(y, yhat)

    net = Far((2, 3, 2))
    for k in (1, 2):
        net.W[k] = np.abs(net.W[k])
    X, y = batch(net)
    assert audit_model(net, np.abs(X), y, logcosh).ok
    assert audit_model(net, X, y, logcosh).ok


# ---------------------------------------------------------------- functions
def run(f):
    def at(z):
        leaf = Tensor(z)
        return leaf, f(leaf)

    return at


Z = np.random.default_rng(4).standard_normal((5, 3))


def test_an_activation_has_the_values_and_slopes_of_its_code():
    f = activation(run(swish), (False, False), Z)
    assert isinstance(f, Elementwise)
    np.testing.assert_allclose(f.value(-Z, 1), swish(-Z), rtol=1e-15)
    np.testing.assert_allclose(f.derivative(Z), slope(Z), rtol=1e-13)
    with pytest.raises(ValueError, match="of the shape"):
        f.derivative(Z[:1])


def test_an_activation_that_mixes_units_is_not_elementwise():
    f = activation(run(lambda z: z / np.sqrt(1 + np.sum(z * z, axis=1, keepdims=True))), (False, False), Z)
    assert not isinstance(f, Elementwise)
    da = np.random.default_rng(5).standard_normal(Z.shape)
    size = np.sqrt(1 + (Z * Z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(
        f.pullback(Z, da, 1), da / size - Z * (Z * da).sum(axis=1, keepdims=True) / size**3, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("function", "reductions"),
    [
        (lambda y, p: np.sum((p - y) ** 4), ("sum",)),
        (lambda y, p: np.sum((p - y) ** 4) / len(y), ("mean",)),
        (lambda y, p: np.mean((p - y) ** 4), ("mean_elements",)),
        (lambda y, p: np.sum(np.arange(7.0)[:, None] * (p - y) ** 4), ("sum", "mean", "mean_elements")),
    ],
)
def test_the_reduction_of_a_loss_follows_from_larger_batches(function, reductions):
    net = Net()
    X, y = batch(net)
    network = chain(own_of(net, X, y, function))
    assert network.reductions == reductions
    assert isinstance(network.loss, Loss)
    yhat = net.forward(X)
    right = {"sum": 1, "mean": 7, "mean_elements": 14}[reductions[0]]
    weights = np.arange(7.0)[:, None] if len(reductions) > 1 else 1.0
    whole = network.loss.times(right).derivative(y, yhat)
    np.testing.assert_allclose(whole, weights * 4 * (yhat - y) ** 3, rtol=1e-12)


def test_classes_may_be_given_as_numbers():
    def cross_entropy(y, z):
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])

    class Classes(Net):
        def backward(self, y, yhat):
            e = np.exp(yhat)
            delta = (e / e.sum(axis=1, keepdims=True) - np.eye(2)[y]) / len(y)
            self.wrong = (("da3", lambda net, da: self.times * delta),)
            super().backward(np.zeros(yhat.shape), yhat)

    net = Classes()
    X, y = batch(net)[0], np.arange(7) % 2
    for times, causes in ((1.0, []), (2.0, [("da3", "factor")])):
        net.times = times
        assert found(audit_model(net, X, y, cross_entropy)) == causes


def test_the_variants_of_a_derivative_have_its_terms_and_its_parts():
    leaf = Tensor(Z)
    s = 1 / (1 + np.exp(-Z))
    values = [value for _, value in variants(swish(leaf), leaf, np.ones(Z.shape))]
    assert any(np.allclose(value, s) for value in values)
    assert any(np.allclose(value, Z * s * (1 - s)) for value in values)
    assert not any(np.allclose(value, slope(Z)) for value in values)
    powers = [value for _, value in variants(leaf**4, leaf, np.ones(Z.shape))]
    assert any(np.allclose(value, 4 * Z**2) for value in powers)


# ---------------------------------------------------------------- reports
def test_a_report_without_a_cause_is_not_wrong(monkeypatch):
    """A network that is no chain, where the graph finds every step right though a gradient is off by its rounding."""
    net = layer(lambda net, k: net.a[-1] @ net.W[k] + net.b[k] + (net.a[1] if k == 2 else 0.0))()
    seen = []

    def silent(loss, claims):
        seen.append(claims)
        return Report(True, right=tuple(claims), context={"places": []})

    monkeypatch.setattr(own_forward, "audit_graph", silent)
    report = audit_model(net, *batch(net), logcosh)  # its backward pass knows nothing of the residual connection
    assert seen
    assert report.ok is True
    assert not report.causes


@pytest.mark.parametrize("turned", [False, True])
def test_a_gradient_of_the_transposed_shape_is_told_in_a_graph_that_is_no_chain(turned):
    class Twice(Net):
        def forward(self, X):
            self.X, self.h = X, np.tanh(X @ self.W[1] + self.b[1])
            return self.h @ self.W[2] + self.b[2] + (self.h * self.h) @ self.W[2]

        def backward(self, y, yhat):
            d = np.tanh(yhat - y) / len(y)
            dh = d @ self.W[2].T * (1 + 2 * self.h) * (1 - self.h**2)
            dW = (self.h + self.h**2).T @ d
            self.dW = [None, self.X.T @ dh, dW.T if turned else dW]
            self.db = [None, dh.sum(axis=0), d.sum(axis=0)[:, None]]

    net = Twice((3, 4, 1))
    assert found(audit_model(net, *batch(net), logcosh)) == ([("dW2", "transposed")] if turned else [])


@pytest.mark.parametrize(
    ("claims", "single"),
    [
        ([np.random.default_rng(0).standard_normal(9)], False),
        ([np.random.default_rng(0).standard_normal(9).astype(np.float32).astype(float)], True),
        ([np.float64([0.1, 0.2]).astype(np.float32).astype(float), np.array([float(np.float32(0.3))])], True),
        ([np.array([float(np.float32(0.3))])], False),
        ([np.arange(9.0), np.arange(9.0) / 8], False),
        ([1.0 - (1.0 - 1e-12 * np.arange(1, 9))], False),  # what is left of a cancellation has few digits
        ([np.array([1e300, 0.5, 0.25])], False),
        ([np.full(9, np.nan)], False),
    ],
)
def test_claims_that_were_of_float32_are_told(claims, single):
    precision = Precision()
    for claim in claims:
        precision.meets(claim, claimed=True)
    assert precision.kind.eps == np.finfo(np.float32 if single else float).eps


def test_code_that_leaves_the_graph_is_noticed():
    def half_detached(z):
        return z * np.array(z.data if isinstance(z, Tensor) else z)

    assert activation(run(swish), (False, False), Z).is_recorded(Z)
    assert not activation(run(half_detached), (False, False), Z).is_recorded(Z)
    y = np.zeros(Z.shape)
    assert Loss(lambda y, p: np.sum((p - y) ** 4), False, 1.0).is_recorded(y, Z)
    assert not Loss(lambda y, p: np.sum(half_detached(p)), False, 1.0).is_recorded(y, Z)
    net = Net()
    net.f = half_detached
    assert any("leaves the graph" in note for note in audit_model(net, *batch(net), logcosh).notes)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_wrong_dL_da_is_told_where_it_is_made_in_a_graph_that_is_no_chain(wrong):
    class Residual(Net):
        def forward(self, X):
            self.X, self.z1 = X, X @ self.W[1] + self.b[1]
            self.h1 = swish(self.z1)
            self.z2 = self.h1 @ self.W[2] + self.b[2]
            self.h2 = swish(self.z2) + self.h1
            return self.h2 @ self.W[3] + self.b[3]

        def backward(self, y, yhat):
            d3 = np.tanh(yhat - y) / len(y)
            a2 = d3 @ (np.abs(self.W[3]) if wrong else self.W[3]).T
            d2 = a2 * slope(self.z2)
            d1 = (d2 @ self.W[2].T + a2) * slope(self.z1)
            self.da, self.dz = [None, None, a2, None], [None, d1, d2, d3]
            self.dW = [None, self.X.T @ d1, self.h1.T @ d2, self.h2.T @ d3]
            self.db = [None, d1.sum(axis=0), d2.sum(axis=0), d3.sum(axis=0)]

    net = Residual()
    report = audit_model(net, *batch(net), logcosh)
    assert [cause.quantity for cause in report.causes] == (["da2"] if wrong else []), report
