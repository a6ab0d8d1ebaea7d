"""The hand-derived formulas against oracles from outside: HIPS autograd, scikit-learn, mpmath, the printed run.

The autograd oracle below is written from the definitions, in the row layout only, with its own activations and
losses; nothing of it is shared with nn.by_hand.
"""

import ast
import copy
import itertools
import pathlib
import pickle
import sys
import warnings
from dataclasses import dataclass, replace

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_circles
from sklearn.neural_network import MLPClassifier, MLPRegressor

import nn.by_hand as by_hand
import nn.initializers
from nn.by_hand import ACTIVATIONS, LAYOUTS, LOGIT_LOSSES, LOSSES, MLP, REDUCTIONS

pytestmark = pytest.mark.filterwarnings("error")

LISTS = ["W", "b", "z", "a", "dz", "dW", "db", "da"]

# ---------------------------------------------------------------- the oracle


def oracle_softmax(z):
    e = anp.exp(z - anp.max(z, axis=1, keepdims=True))
    return e / anp.sum(e, axis=1, keepdims=True)


ORACLE_ACTIVATIONS = {
    "relu": lambda z: anp.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: anp.where(z > 0, z, 0.01 * z),
    "tanh": anp.tanh,
    "sigmoid": lambda z: 1 / (1 + anp.exp(-z)),
    "softplus": lambda z: anp.logaddexp(0.0, z),
    "identity": lambda z: z,
    "softmax": oracle_softmax,
}

ORACLE_LOSSES = {  # one number per sample
    "sse": lambda y, yhat: anp.sum((y - yhat) ** 2, axis=1),
    "half_sse": lambda y, yhat: anp.sum((y - yhat) ** 2, axis=1) / 2,
    "mse": lambda y, yhat: anp.sum((y - yhat) ** 2, axis=1),
    "bce": lambda y, yhat: anp.sum(-y * anp.log(yhat) - (1 - y) * anp.log(1 - yhat), axis=1),
    "ce": lambda y, yhat: -anp.sum(y * anp.log(yhat), axis=1),
}

ORACLE_REDUCTIONS = {
    "sum": lambda losses, outputs: anp.sum(losses),
    "mean": lambda losses, outputs: anp.mean(losses),
    "mean_elements": lambda losses, outputs: anp.mean(losses) / outputs,
}


@dataclass(frozen=True)
class Case:
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    reduction: str
    layout: str
    n: int

    def __str__(self):
        names = ",".join(self.activations)
        return f"{names}-{self.loss}-{self.reduction}-{self.layout}-n{self.n}"

    def draw(self, seed=0):
        """X, y, W, b in the row layout."""
        rng = np.random.RandomState(seed)
        W = [rng.randn(*shape) for shape in itertools.pairwise(self.sizes)]
        b = [rng.randn(1, size) for size in self.sizes[1:]]
        y = rng.uniform(0.05, 0.95, (self.n, self.sizes[-1]))  # soft labels that do not sum to one
        return rng.randn(self.n, self.sizes[0]), y, W, b

    def oracle(self, seed=0):
        """The loss and its gradient by X and by every W, b, z and a: zero offsets on z and a carry theirs."""
        X, y, W, b = self.draw(seed)
        offsets_z = [np.zeros((self.n, size)) for size in self.sizes[1:]]
        offsets_a = [np.zeros((self.n, size)) for size in self.sizes]

        def loss(everything):
            W, b, on_z, on_a = everything
            a = X + on_a[0]
            for k, name in enumerate(self.activations):
                a = ORACLE_ACTIVATIONS[name](anp.dot(a, W[k]) + b[k] + on_z[k]) + on_a[k + 1]
            reduction = "mean_elements" if self.loss == "mse" else self.reduction
            return ORACLE_REDUCTIONS[reduction](ORACLE_LOSSES[self.loss](y, a), self.sizes[-1])

        everything = (W, b, offsets_z, offsets_a)
        dW, db, dz, da = autograd.grad(loss)(everything)
        return loss(everything), {"dW": [None, *dW], "db": [None, *db], "dz": [None, *dz], "da": da}

    def by_hand(self, seed=0):
        X, y, W, b = (self.turn(part) for part in self.draw(seed))
        net = MLP(self.sizes, self.activations, self.loss, self.reduction, self.layout)
        net.W[1:], net.b[1:] = W, b
        yhat = net.forward(X)
        value = net.loss_value(y, yhat)
        net.backward(y, yhat)
        return value, net

    def turn(self, arrays):
        """From the row layout to this one, or back."""
        if isinstance(arrays, list):
            return [None if array is None else self.turn(array) for array in arrays]
        return arrays.T if self.layout == "column" else arrays

    def check(self, seed=0):
        """AssertionError where a number of the oracle and of the hand-derived pass differ."""
        true_value, truth = self.oracle(seed)
        value, net = self.by_hand(seed)
        # two orders of at most some hundred float64 operations on numbers of order one: about 1e-14 relative to
        # the largest entry; 1e-11 leaves room for the oracle's 1 - yhat and still sees a formula off by 1e-9
        assert value == pytest.approx(true_value, rel=1e-11)
        for name, expected in truth.items():
            found = self.turn(getattr(net, name))
            assert len(found) == len(expected)
            for k, (left, right) in enumerate(zip(found, expected, strict=True)):
                if right is None:
                    assert left is None
                    continue
                assert left.shape == right.shape
                scale = np.abs(right).max()
                np.testing.assert_allclose(left, right, rtol=0, atol=1e-11 * scale, err_msg=f"{name}[{k}]")


# the outputs that a loss can take: logarithms need probabilities or at least positive numbers
OUTPUTS = {
    "sse": list(ACTIVATIONS),
    "half_sse": list(ACTIVATIONS),
    "mse": list(ACTIVATIONS),
    "bce": ["sigmoid", "softmax"],
    "ce": ["sigmoid", "softmax", "softplus"],
}
SIZES_BY_DEPTH = {1: (3, 2), 2: (2, 4, 3), 3: (3, 4, 2, 1), 4: (1, 3, 2, 4, 2)}


def cases():
    hidden = itertools.cycle(ACTIVATIONS)
    for loss, reduction, layout, depth, n in itertools.product(LOSSES, REDUCTIONS, LAYOUTS, SIZES_BY_DEPTH, (1, 2, 7)):
        for output in OUTPUTS[loss]:
            one_unit = SIZES_BY_DEPTH[depth][-1] == 1 and output == "softmax"
            if (loss, reduction) == ("mse", "sum") or (one_unit and loss == "bce"):
                continue  # refused; a softmax of one unit is 1, and log(1 - 1) is nobody's loss
            names = (*itertools.islice(hidden, depth - 1), output)
            yield Case(SIZES_BY_DEPTH[depth], names, loss, reduction, layout, n)
        next(hidden)  # so that hidden and output names do not march in step


CASES = list(cases())


def test_the_cases_cover_the_tables():
    """A new row of a table is tested by existing; a row the oracle does not know fails here."""
    assert set(OUTPUTS) == set(LOSSES) == set(ORACLE_LOSSES)
    assert set(ORACLE_ACTIVATIONS) == set(ACTIVATIONS)
    assert {case.reduction for case in CASES} == set(REDUCTIONS)
    assert {name for case in CASES for name in case.activations[:-1]} == set(ACTIVATIONS)
    assert {(case.activations[-1], case.loss) for case in CASES} >= set(LOGIT_LOSSES)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("depth", SIZES_BY_DEPTH)
def test_every_quantity_agrees_with_autograd(loss, layout, depth):
    chosen = [case for case in CASES if (case.loss, case.layout, len(case.activations)) == (loss, layout, depth)]
    assert chosen
    for case in chosen:
        try:
            case.check()
        except AssertionError as error:
            raise AssertionError(f"{case}: {error}") from error


# ---------------------------------------------------------------- planted errors: the comparison must reject


def off(function):
    """The same function, wrong by one part in 10^9."""
    return lambda *arguments: function(*arguments) * (1 + 1e-9)


def planted_errors():
    elementwise = [name for name, row in ACTIVATIONS.items() if hasattr(row, "derivative")]
    for name in elementwise:
        case = Case((2, 3, 2), (name, "identity"), "sse", "mean", "row", 5)
        yield f"{name}'", ACTIVATIONS, name, "derivative", case
    for layout in LAYOUTS:
        case = Case((2, 3, 2), ("tanh", "identity"), "sse", "mean", layout, 5)
        for formula in ("dW", "db", "da"):
            yield f"{layout} {formula}", LAYOUTS, layout, formula, case
    for loss in LOSSES:
        output = "softplus" if loss == "ce" else "softmax" if loss == "bce" else "identity"
        case = Case((2, 3), (output,), loss, "mean", "row", 5)
        yield f"{loss}'", LOSSES, loss, "derivative", case
        yield f"{loss} terms", LOSSES, loss, "terms", case
    for pair in LOGIT_LOSSES:
        case = Case((2, 3), (pair[0],), pair[1], "mean", "row", 5)
        yield f"{pair} dz", LOGIT_LOSSES, pair, "dz", case
        yield f"{pair} terms", LOGIT_LOSSES, pair, "terms", case


PLANTED = list(planted_errors())


@pytest.mark.parametrize(("table", "row", "formula", "case"), [p[1:] for p in PLANTED], ids=[p[0] for p in PLANTED])
def test_a_planted_error_is_seen(monkeypatch, table, row, formula, case):
    case.check()
    monkeypatch.setitem(table, row, replace(table[row], **{formula: off(getattr(table[row], formula))}))
    with pytest.raises(AssertionError):
        case.check()


def test_a_wrong_reduction_is_seen(monkeypatch):
    monkeypatch.setitem(REDUCTIONS, "mean", lambda samples, outputs: outputs)
    with pytest.raises(AssertionError):
        Case((2, 3), ("identity",), "sse", "mean", "row", 5).check()


def test_a_softmax_treated_as_elementwise_is_seen(monkeypatch):
    softmax = by_hand.Softmax()
    diagonal_only = type(
        "Diagonal",
        (),
        {
            "value": staticmethod(softmax.value),
            "pullback": staticmethod(lambda z, da, units: da * (p := softmax.value(z, units)) * (1 - p)),
        },
    )
    monkeypatch.setitem(ACTIVATIONS, "softmax", diagonal_only)
    with pytest.raises(AssertionError):
        Case((2, 3), ("softmax",), "sse", "mean", "row", 5).check()


# ---------------------------------------------------------------- scikit-learn: one step of its own SGD


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize(
    ("task", "output", "loss"),
    [("binary", "sigmoid", "bce"), ("multiclass", "softmax", "ce"), ("regression", "identity", "half_sse")],
)
def test_one_step_equals_scikit_learn(activation, task, output, loss):
    rng = np.random.RandomState(1)
    X = rng.randn(20, 3)
    if task == "regression":
        target = rng.randn(20)
        y = target
    else:
        target = np.arange(20) % (2 if task == "binary" else 4)
        y = target if task == "binary" else np.eye(4)[target]
    estimator = MLPRegressor if task == "regression" else MLPClassifier
    theirs = estimator(
        hidden_layer_sizes=(5, 4),
        activation=activation,
        solver="sgd",
        alpha=0.0,
        batch_size=20,
        learning_rate_init=0.25,
        momentum=0.0,
        shuffle=False,
        random_state=3,
    )
    classes = {} if task == "regression" else {"classes": np.unique(target)}
    theirs.partial_fit(X, target, **classes)  # draws the weights, and makes a step that does not matter here
    ours = MLP([3, 5, 4, theirs.n_outputs_], [{"logistic": "sigmoid"}.get(activation, activation)] * 2 + [output], loss)
    ours.W[1:] = [W.copy() for W in theirs.coefs_]
    ours.b[1:] = [b.copy() for b in theirs.intercepts_]
    theirs.partial_fit(X, target, **classes)
    yhat = ours.forward(X)
    assert ours.loss_value(y, yhat) == pytest.approx(theirs.loss_, rel=1e-12)
    ours.backward(y, yhat)
    ours.update(0.25)
    for k in (1, 2, 3):
        # weights of order one, a few hundred operations of float64 each side
        np.testing.assert_allclose(ours.W[k], theirs.coefs_[k - 1], rtol=0, atol=1e-13)
        np.testing.assert_allclose(ours.b[k][0], theirs.intercepts_[k - 1], rtol=0, atol=1e-13)


# ---------------------------------------------------------------- mpmath: accuracy over the whole range

EPS = 2.0**-52
TINIEST = 5e-324
POINTS = [
    0.0,
    5e-324,
    1e-300,
    1e-17,
    1e-8,
    0.1,
    1.0,
    5.5,
    18.0,
    20.0,
    36.0,
    40.0,
    372.0,
    700.0,
    745.0,
    800.0,
    1500.0,
]
POINTS = [sign * point for point in POINTS for sign in (1.0, -1.0)]


def exactly(x):
    return mpmath.mpf(float(x))


MP = {  # name: (value, derivative), in the textbook's form: the digits below leave room for its cancellation
    "sigmoid": (lambda z: 1 / (1 + mpmath.exp(-z)), lambda z: mpmath.exp(-z) / (1 + mpmath.exp(-z)) ** 2),
    "tanh": (mpmath.tanh, lambda z: 1 - mpmath.tanh(z) ** 2),
    "softplus": (lambda z: mpmath.log(1 + mpmath.exp(z)), lambda z: 1 / (1 + mpmath.exp(-z))),
    "identity": (lambda z: z, lambda z: mpmath.mpf(1)),
    "relu": (lambda z: max(z, mpmath.mpf(0)), lambda z: mpmath.mpf(z > 0)),
    "leaky_relu": (
        lambda z: z if z > 0 else exactly(0.01) * z,
        lambda z: mpmath.mpf(1) if z > 0 else exactly(0.01),
    ),
}


@pytest.mark.parametrize("name", MP)
@pytest.mark.parametrize("part", ["f", "derivative"])
def test_activations_are_accurate_everywhere(name, part):
    found = getattr(ACTIVATIONS[name], part)(np.array(POINTS))
    with mpmath.workdps(1500):  # 1 - tanh(1500)^2 is 1e-1302
        for z, value in zip(POINTS, found, strict=True):
            true = MP[name][part == "derivative"](mpmath.mpf(z))
            # at most four rounded operations and one exp of 1 ulp, squared: 16 ulp is generous
            assert abs(exactly(value) - true) <= 16 * EPS * abs(true) + 2 * TINIEST, z


CORNERS = {  # name: (f, f') at 0, -0.0, inf, -inf, 1e308, -1e308; exact
    "relu": ([0, 0, np.inf, 0, 1e308, 0], [0, 0, 1, 0, 1, 0]),
    "leaky_relu": ([0, 0, np.inf, -np.inf, 1e308, -1e306], [0.01, 0.01, 1, 0.01, 1, 0.01]),
    "tanh": ([0, 0, 1, -1, 1, -1], [1, 1, 0, 0, 0, 0]),
    "sigmoid": ([0.5, 0.5, 1, 0, 1, 0], [0.25, 0.25, 0, 0, 0, 0]),
    "softplus": ([np.log(2), np.log(2), np.inf, 0, 1e308, 0], [0.5, 0.5, 1, 0, 1, 0]),
    "identity": ([0, 0, np.inf, -np.inf, 1e308, -1e308], [1, 1, 1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners_without_a_warning(name):
    z = np.array([0.0, -0.0, np.inf, -np.inf, 1e308, -1e308])
    row = ACTIVATIONS[name]
    np.testing.assert_array_equal(row.f(z), CORNERS[name][0])
    np.testing.assert_array_equal(row.derivative(z), CORNERS[name][1])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_passes_through_and_stays_in_its_sample(name, layout):
    net = MLP([2, 2], [name], "sse", layout=layout)
    net.W[1], net.b[1] = np.eye(2), np.zeros(2)
    X = np.array([[np.nan, 1.0], [1.0, 2.0]])
    net.forward(X if layout == "row" else X.T)
    net.backward(np.zeros((2, 2)))
    a, dz = (array if layout == "row" else array.T for array in (net.a[1], net.dz[1]))
    assert np.isnan(a[0, 0])
    assert np.isnan(dz[0, 0])
    assert np.isfinite(a[1]).all()
    assert np.isfinite(dz[1]).all()


SOFTMAX_ROWS = [
    [0.0],
    [0.0, 0.0],
    [1.0, 2.0, 3.0],
    [40.0, 0.0, 0.0],
    [0.0, 38.0, 37.9],
    [1000.0, 0.0, -1000.0],
    [-700.0, 0.0, 700.0, 699.0],
    [1e-17, -1e-17],
]


def mp_softmax(z):
    exponentials = [mpmath.exp(mpmath.mpf(value)) for value in z]
    return [e / mpmath.fsum(exponentials) for e in exponentials]


@pytest.mark.parametrize("z", SOFTMAX_ROWS, ids=str)
def test_softmax_its_jacobian_and_the_logit_form_are_accurate(z):
    units = range(len(z))
    da = np.array([[3.0, -5.0, 0.7, 11.0][: len(z)]])
    row = np.array([z])
    softmax = ACTIVATIONS["softmax"]
    ce = LOGIT_LOSSES["softmax", "ce"]
    with mpmath.workdps(2000):
        p = mp_softmax(z)
        for i, found in enumerate(softmax.value(row, 1)[0]):
            assert abs(exactly(found) - p[i]) <= 16 * EPS * p[i] + 2 * TINIEST
        for i, found in enumerate(softmax.pullback(row, da, 1)[0]):
            parts = [p[i] * p[j] * (exactly(da[0, i]) - exactly(da[0, j])) for j in units]
            scale = mpmath.fsum(abs(part) for part in parts)
            # relative to the sum of the parts of the Jacobian row, not to da: that is what "no cancellation" means
            assert abs(exactly(found) - mpmath.fsum(parts)) <= 32 * EPS * scale + 4 * TINIEST
        for label in units:
            y = np.eye(len(z))[[label]]
            loss = -mpmath.log(p[label])
            assert abs(exactly(ce.terms(y, row, 1).sum()) - loss) <= 16 * EPS * loss + 2 * TINIEST
            for i, found in enumerate(ce.dz(y, row, 1)[0]):
                true = p[i] - (i == label)
                assert abs(exactly(found) - true) <= 32 * EPS * abs(true) + 4 * TINIEST


def test_the_textbook_softmax_jacobian_fails_that_test():
    """So the test above does see cancellation."""
    z, da = np.array([[40.0, 0.0, 0.0]]), np.array([[3.0, -5.0, 0.7]])
    p = ACTIVATIONS["softmax"].value(z, 1)
    textbook = p * (da - (p * da).sum(axis=1, keepdims=True))
    ours = ACTIVATIONS["softmax"].pullback(z, da, 1)
    assert abs(textbook[0, 0] / ours[0, 0] - 1) > 0.01


@pytest.mark.parametrize("z", POINTS)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_sigmoid_with_bce_is_accurate_everywhere(z, y):
    net = MLP([1, 1], ["sigmoid"], "bce")
    net.W[1], net.b[1] = [[1.0]], [0.0]
    yhat = net.forward([[z]])
    net.backward([[y]], yhat)
    with mpmath.workdps(1500):
        s = 1 / (1 + mpmath.exp(-mpmath.mpf(z)))
        loss = -mpmath.log(s if y else 1 - s)
        assert abs(exactly(net.loss_value([y], yhat)) - loss) <= 16 * EPS * loss + 2 * TINIEST
        assert abs(exactly(net.dz[1][0, 0]) - (s - exactly(y))) <= 16 * EPS * abs(s - exactly(y)) + 2 * TINIEST


@pytest.mark.parametrize(
    ("sizes", "output", "loss", "X", "y", "value", "dz", "da"),
    [
        ([1, 1], "sigmoid", "bce", [[40.0]], [[0.0]], 40.0, [[1.0]], [[np.inf]]),
        ([1, 1], "sigmoid", "bce", [[-1000.0]], [[1.0]], 1000.0, [[-1.0]], [[-np.inf]]),
        ([1, 1], "sigmoid", "bce", [[-1000.0]], [[0.0]], 0.0, [[0.0]], [[1.0]]),
        ([1, 1], "sigmoid", "bce", [[1000.0]], [[1.0]], 0.0, [[0.0]], [[-1.0]]),
        ([1, 1], "sigmoid", "bce", [[-745.0]], [[1.0]], 745.0, [[-1.0]], [[-np.inf]]),
        ([2, 2], "softmax", "ce", [[1000.0, 0.0]], [[0.0, 1.0]], 1000.0, [[1.0, -1.0]], [[0.0, -np.inf]]),
        ([2, 2], "softmax", "ce", [[1000.0, 0.0]], [[1.0, 0.0]], 0.0, [[0.0, 0.0]], [[-1.0, 0.0]]),
    ],
)
def test_saturated_outputs(sizes, output, loss, X, y, value, dz, da):
    net = MLP(sizes, [output], loss)
    net.W[1], net.b[1] = np.eye(sizes[0]), np.zeros(sizes[0])
    yhat = net.forward(X)
    assert net.loss_value(y, yhat) == value
    net.backward(y, yhat)
    np.testing.assert_array_equal(net.dz[1], dz)
    np.testing.assert_array_equal(net.da[1], da)


@pytest.mark.parametrize(
    ("loss", "y", "yhat", "expected"),
    [
        ("bce", 0.0, 0.0, 0.0),
        ("bce", 1.0, 1.0, 0.0),
        ("bce", 0.0, 1.0, np.inf),
        ("bce", 1.0, 0.0, np.inf),
        ("bce", 0.5, 0.0, np.inf),
        ("bce", 0.0, 1e-20, 1e-20),
        ("bce", 0.0, np.nan, np.nan),
        ("bce", np.nan, 0.5, np.nan),
        ("ce", 0.0, 0.0, 0.0),
        ("ce", 1.0, 0.0, np.inf),
        ("ce", 0.0, np.nan, np.nan),
        ("sse", 3.0, 1.0, 4.0),
        ("half_sse", 3.0, 1.0, 2.0),
        ("mse", 3.0, 1.0, 4.0),
    ],
)
def test_the_plain_loss_of_any_yhat(loss, y, yhat, expected):
    """No forward is needed for it, and none of these corners warns."""
    np.testing.assert_equal(MLP([1, 1], ["identity"], loss).loss_value([y], [yhat]), expected)


def test_logits_serve_only_the_output_of_the_last_forward():
    net = MLP([1, 1], ["sigmoid"], "bce")
    net.W[1], net.b[1] = [[1.0]], [0.0]
    yhat = net.forward([[40.0]])
    assert net.loss_value([0.0]) == net.loss_value([0.0], yhat) == net.loss_value([0.0], yhat.copy()) == 40.0
    net.forward([[1.0]])
    assert net.loss_value([0.0], yhat) == np.inf  # that yhat is 1.0 and no more is known about it


# ---------------------------------------------------------------- the printed run and the corrected one

PRINTED = {
    0: ("693.62972747", 0.5),
    1: ("693.62166655", 0.5),
    2: ("693.61534159", 0.5),
    3: ("693.60994018", 0.5),
    145: ("664.60120828", 0.818),
    146: ("697.97739669", 0.58),
    147: ("681.08653776", 0.642),
    148: ("665.06165774", 0.71),
    149: ("683.61702980", 0.614),
}


def circles():
    X, y = make_circles(n_samples=1000, factor=0.5, noise=0.1, random_state=np.random.RandomState(0))
    return X, y.reshape(-1, 1)


def published(seed=42):
    return MLP([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce", as_published=True).initialize(seed=seed)


def test_as_published_prints_what_the_tutorial_prints():
    X, y = circles()
    net = published()
    seen = {}
    for iteration in range(150):
        yhat = net.forward(X)
        net.backward(y, yhat)
        net.update(0.005)
        # of the forward before the update, as printed; after the update z and a are still those
        seen[iteration] = (f"{net.loss_value(y, yhat):.8f}", float(((yhat > 0.5) == y).mean()))
    # a last-bit change of the weights moves row 149 by 1e-11, a five-hundredth of half the last printed digit:
    # another BLAS prints the same
    assert {iteration: seen[iteration] for iteration in PRINTED} == PRINTED
    yhat = net.forward(X)
    assert net.loss_value(y, yhat) / 1000 == pytest.approx(0.6767, abs=5e-5)
    assert ((yhat > 0.5) == y).mean() == 0.604


def both(n=8, seed=5):
    """The published network and the right one on the same batch; n is a power of two, so 1/n is exact."""
    X, y = circles()
    X, y = X[:n] * 4, y[:n]
    wrong = published()
    right = MLP([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce")
    wrong.initialize("he", seed=seed)
    right.initialize("he", seed=seed)
    for net in (wrong, right):
        net.backward(y, net.forward(X))
    return wrong, right, y, n


def test_published_sigmoid_derivative_is_exactly_twice_the_derivative():
    wrong, _, _, _ = both()
    s = wrong.a[3]
    np.testing.assert_array_equal(wrong.dz[3], 2 * (wrong.da[3] * (s * (1 - s))))
    z = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(
        by_hand.PUBLISHED_ACTIVATIONS["sigmoid"].derivative(z),
        2 * ACTIVATIONS["sigmoid"].derivative(z),
        rtol=1e-13,
    )


def test_published_db_is_exactly_one_nth_of_its_own_dz():
    wrong, _, _, n = both()
    for k in (1, 2, 3):
        np.testing.assert_array_equal(wrong.db[k] * n, wrong.dz[k].sum(axis=0, keepdims=True))
        np.testing.assert_array_equal(wrong.dW[k], wrong.a[k - 1].T @ wrong.dz[k])


def test_published_loss_is_the_sum_it_calls_an_average():
    wrong, right, y, n = both()
    assert wrong.loss_value(y) == pytest.approx(n * right.loss_value(y), rel=1e-13)


def test_published_dyhat_lacks_exactly_one_nth():
    wrong, right, y, n = both()
    at_the_same_output = LOSSES["bce"].derivative(y, wrong.a[3]) / right._count(wrong.a[3])
    np.testing.assert_array_equal(wrong.da[3], n * at_the_same_output)
    np.testing.assert_allclose(wrong.da[3], n * right.da[3], rtol=1e-14)  # their sigmoids differ by an ulp


def test_published_gradients_in_all():
    wrong, right, _, n = both()
    for k in (1, 2, 3):
        # 1e-13: the right one takes dz from the logits, the published one multiplies
        np.testing.assert_allclose(wrong.dW[k], 2 * n * right.dW[k], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(wrong.db[k], 2 * right.db[k], rtol=1e-12, atol=1e-15)


def test_published_clipping_loses_the_gradient_and_caps_the_loss():
    net = MLP([1, 1], ["sigmoid"], "bce", as_published=True)
    net.W[1], net.b[1] = [[1.0]], [0.0]
    yhat = net.forward([[40.0]])
    net.backward([[0.0]], yhat)
    assert net.dz[1] == 0.0  # the truth is 1
    assert net.loss_value([0.0], yhat) == -np.log(EPS)
    assert net.forward([[-1e6]]) == 1 / (1 + np.exp(500.0))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reduction_has_no_say_in_what_was_published(reduction):
    X, y = circles()
    net = MLP([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce", reduction, as_published=True).initialize()
    net.backward(y, net.forward(X))
    reference = published()
    reference.backward(y, reference.forward(X))
    np.testing.assert_array_equal(net.dW[1], reference.dW[1])
    assert net.loss_value(y) == reference.loss_value(y)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_corrected_network_learns_the_circles(seed):
    X, y = circles()
    net = MLP([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce").initialize("he", seed=seed)
    for _ in range(600):
        net.backward(y, net.forward(X))
        net.update(0.3)
    assert ((net.forward(X) > 0.5) == y).mean() >= 0.98


# ---------------------------------------------------------------- shapes, layouts, conversions


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    n=st.integers(1, 6),
    names=st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
def test_column_is_row_transposed(sizes, n, names, seed):
    rng = np.random.RandomState(seed)
    X, y = rng.randn(n, sizes[0]), rng.randn(n, sizes[-1])
    row, column = (
        MLP(sizes, names[: len(sizes) - 1], "sse", layout=layout).initialize("he", seed=seed) for layout in LAYOUTS
    )
    for net, turn in ((row, np.asarray), (column, np.transpose)):
        net.backward(turn(y), net.forward(turn(X)))
        net.update(0.1)
    for name, k in itertools.product(LISTS, range(len(sizes))):
        left, right = getattr(row, name)[k], getattr(column, name)[k]
        assert (left is None) == (right is None) == (k == 0 and name not in ("a", "da"))
        if left is not None:
            # the same sums in another order: 1e-12 of the largest entry
            np.testing.assert_allclose(left, right.T, rtol=0, atol=1e-12 * max(1.0, np.abs(left).max()))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [1, 6])
def test_vectors_are_accepted_where_they_are_clear(layout, n):
    X, y, W, b = (turned := Case((2, 3, 1), ("tanh", "sigmoid"), "bce", "mean", layout, n)).draw()
    full = MLP([2, 3, 1], ["tanh", "sigmoid"], "bce", layout=layout)
    full.W[1:], full.b[1:] = turned.turn(W), turned.turn(b)
    flat = copy.deepcopy(full)
    flat.b[1:] = [bias.ravel() for bias in b]
    X, y = turned.turn(X), turned.turn(y)
    full.backward(y, full.forward(X))
    flat.backward(y.ravel(), flat.forward(X).ravel())
    assert flat.loss_value(y.ravel()) == full.loss_value(y)
    flat.update(0.1)
    full.update(0.1)
    for name, k in itertools.product(LISTS, (1, 2)):
        np.testing.assert_array_equal(getattr(flat, name)[k], getattr(full, name)[k])
    assert flat.b[1].shape == turned.turn(b[0]).shape


@pytest.mark.parametrize("convert", [np.float32, np.int64, np.uint8, bool, list, np.asfortranarray], ids=str)
def test_everything_is_computed_in_float64(convert):
    X, y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([[1.0], [0.0], [1.0]])
    to = convert if convert in (list, np.asfortranarray) else lambda array: array.astype(convert)
    net, reference = (MLP([2, 3, 1], ["relu", "sigmoid"], "bce").initialize("he") for _ in range(2))
    net.backward(to(y), net.forward(to(X)))
    reference.backward(y, reference.forward(X))
    for name, k in itertools.product(LISTS, (1, 2)):
        assert getattr(net, name)[k].dtype == np.float64
        np.testing.assert_allclose(getattr(net, name)[k], getattr(reference, name)[k], rtol=1e-15)


def test_mse_is_sse_over_all_elements():
    values = {}
    for loss, reduction in [("mse", "mean"), ("mse", "mean_elements"), ("sse", "mean_elements")]:
        value, net = Case((2, 3), ("tanh",), loss, reduction, "row", 5).by_hand()
        assert net.reduction == "mean_elements"
        values[value, net.dW[1].tobytes()] = True
    assert len(values) == 1


def test_column_and_row_start_from_the_same_numbers():
    row, column = (MLP([2, 4, 1], ["tanh"] * 2, "sse", layout=layout).initialize() for layout in LAYOUTS)
    W, b = nn.initializers.document([2, 4, 1])
    for k in (1, 2):
        np.testing.assert_array_equal(row.W[k], W[k])
        np.testing.assert_array_equal(column.W[k], W[k].T)
        np.testing.assert_array_equal(column.b[k], b[k].T)


# ---------------------------------------------------------------- errors: named, and nothing half-changed


def ready(**changes):
    """A network after one forward and backward, with its batch."""
    arguments = {"sizes": [2, 3, 1], "activations": ["tanh", "sigmoid"], "loss": "bce"} | changes
    net = MLP(**arguments).initialize()
    X, y = np.arange(8.0).reshape(4, 2) / 8, np.array([[0.0], [1.0], [1.0], [0.0]])
    if net.layout == "column":
        X, y = X.T, y.T
    net.backward(y, net.forward(X))
    return net, X, y


BAD_SETTINGS = [
    ({"sizes": [2]}, "at least"),
    ({"sizes": [2, 0, 1]}, r"sizes\[1\]"),
    ({"sizes": [2, 3.0, 1]}, r"sizes\[1\].*3\.0"),
    ({"sizes": [2, -3, 1]}, r"sizes\[1\].*-3"),
    ({"activations": ["tanh"]}, r"layers 1\.\.2.*\['tanh'\]"),
    ({"activations": ["tanh"] * 3}, r"layers 1\.\.2"),
    ({"activations": "tanh"}, "activations must list"),
    ({"activations": ["tanh", "swish"]}, "'swish'.*known are relu, leaky_relu, tanh, sigmoid, softplus"),
    ({"activations": ["tanh", np.tanh]}, "activations.*known are relu"),
    ({"loss": "nll"}, "loss: 'nll'.*known are sse, half_sse, mse, bce, ce"),
    ({"reduction": "average"}, "reduction: 'average'.*known are sum, mean, mean_elements"),
    ({"reduction": None}, "reduction: None"),
    ({"layout": "rows"}, "layout: 'rows'.*known are row, column"),
    ({"loss": "mse", "reduction": "sum"}, "mse.*use loss='sse'"),
    ({"as_published": True, "layout": "column"}, "as_published.*'column'"),
    ({"as_published": True, "loss": "sse"}, "as_published.*'sse'"),
    ({"as_published": True}, "as_published.*tanh"),
]


@pytest.mark.parametrize(("changes", "words"), BAD_SETTINGS, ids=[str(c) for c, _ in BAD_SETTINGS])
def test_wrong_settings(changes, words):
    with pytest.raises(ValueError, match=words):
        MLP(**{"sizes": [2, 3, 1], "activations": ["tanh", "sigmoid"], "loss": "bce"} | changes)


def assign(name, k, value):
    def call(net, X, y):
        getattr(net, name)[k] = value
        if name in ("dW", "db"):
            net.update(0.1)
        else:
            net.forward(X)

    call.touches = name
    return call


def replace_list(name, value):
    def call(net, X, y):
        setattr(net, name, value)
        net.forward(X)

    call.touches = name
    return call


BAD_CALLS = {
    # name: (call, exception, words)
    "X of the wrong width": (
        lambda net, X, y: net.forward(X[:, :1]),
        ValueError,
        r"X has the shape \(4, 1\).*2\)",
    ),
    "X transposed": (lambda net, X, y: net.forward(X.T), ValueError, r"X .*\(2, 4\).*\(n >= 1, 2\).*transpose"),
    "X 1-d": (lambda net, X, y: net.forward(X[0]), ValueError, r"X .*\(2,\).*reshape"),
    "X 3-d": (lambda net, X, y: net.forward(X[None]), ValueError, r"X .*\(1, 4, 2\)"),
    "no samples": (lambda net, X, y: net.forward(X[:0]), ValueError, r"X .*\(0, 2\).*n >= 1"),
    "X complex": (lambda net, X, y: net.forward(X + 0j), TypeError, "X must hold real numbers.*complex128"),
    "X of strings": (lambda net, X, y: net.forward([["1", "2"]]), TypeError, "X must hold real numbers.*<U1"),
    "X of objects": (lambda net, X, y: net.forward(X.astype(object)), TypeError, "X must hold.*object"),
    "X None": (lambda net, X, y: net.forward(None), TypeError, "X must hold"),
    "X ragged": (lambda net, X, y: net.forward([[1.0, 2.0], [3.0]]), ValueError, "X must be a rectangular"),
    "y of the wrong length": (lambda net, X, y: net.backward(y[:3]), ValueError, r"y .*\(3, 1\).*\(4, 1\)"),
    "y transposed": (lambda net, X, y: net.backward(y.T), ValueError, r"y .*\(1, 4\).*\(4, 1\)"),
    "y 1-d of the wrong length": (lambda net, X, y: net.backward(y[:3, 0]), ValueError, r"y .*\(3,\).*\(4, 1\)"),
    "y complex": (lambda net, X, y: net.backward(y + 0j), TypeError, "y must hold.*complex128"),
    "y of strings": (lambda net, X, y: net.backward(y.astype(str)), TypeError, "y must hold"),
    "yhat of the wrong shape": (lambda net, X, y: net.backward(y, net.a[-1].T), ValueError, r"yhat .*\(1, 4\)"),
    "yhat of another forward": (lambda net, X, y: net.backward(y, net.a[-1] + 0.1), ValueError, "last forward"),
    "loss of a wrong y": (lambda net, X, y: net.loss_value(y[:2]), ValueError, r"y .*\(2, 1\)"),
    "W of the wrong shape": (assign("W", 1, np.ones((3, 2))), ValueError, r"W\[1\] .*\(3, 2\).*\(2, 3\)"),
    "W not set": (assign("W", 2, None), RuntimeError, r"W\[2\] is not set.*initialize"),
    "W complex": (assign("W", 2, 1j * np.ones((3, 1))), TypeError, r"W\[2\] must hold"),
    "b of the wrong shape": (assign("b", 1, np.ones(4)), ValueError, r"b\[1\] .*\(4,\).*\(1, 3\)"),
    "b a column": (assign("b", 1, np.ones((3, 1))), ValueError, r"b\[1\] .*\(3, 1\).*\(1, 3\)"),
    "W without its placeholder": (
        replace_list("W", [np.ones((2, 3)), np.ones((3, 1))]),
        ValueError,
        "W must be a list",
    ),
    "b an array": (replace_list("b", np.ones(3)), ValueError, "b must be a list"),
    "dW of the wrong shape": (assign("dW", 2, np.ones((1, 3))), ValueError, r"dW\[2\] .*\(1, 3\).*\(3, 1\)"),
    "db not set": (assign("db", 1, None), RuntimeError, r"db\[1\] is not set.*backward"),
    "learning rate nan": (lambda net, X, y: net.update(np.nan), ValueError, "learning_rate.*nan"),
    "learning rate an array": (lambda net, X, y: net.update([0.1, 0.2]), ValueError, "learning_rate must be one"),
    "learning rate a string": (lambda net, X, y: net.update("0.1"), TypeError, "learning_rate"),
    "unknown scheme": (lambda net, X, y: net.initialize("xavier"), ValueError, "'xavier'.*document, he, glorot"),
    "unknown option": (lambda net, X, y: net.initialize("he", sigma=1.0), TypeError, "sigma"),
}


def snapshot(net):
    return {name: [(id(array), copy.deepcopy(array)) for array in getattr(net, name)] for name in LISTS}


@pytest.mark.parametrize(("call", "exception", "words"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_wrong_call_says_what_is_wrong_and_changes_nothing(call, exception, words):
    net, X, y = ready()
    before = snapshot(net)
    with pytest.raises(exception, match=words):
        call(net, X, y)
    after = snapshot(net)
    for name in LISTS:
        if name == getattr(call, "touches", None):
            continue  # what the call assigned on purpose
        for (old_id, old), (new_id, new) in zip(before[name], after[name], strict=True):
            assert old_id == new_id
            np.testing.assert_array_equal(old, new)


def test_the_order_of_calls():
    net = MLP([2, 1], ["sigmoid"], "bce")
    X, y = np.ones((3, 2)), np.ones((3, 1))
    with pytest.raises(RuntimeError, match=r"W\[1\] is not set"):
        net.forward(X)
    net.initialize()
    with pytest.raises(RuntimeError, match=r"forward\(X\) first"):
        net.backward(y)
    with pytest.raises(RuntimeError, match=r"forward\(X\) first"):
        net.loss_value(y)
    net.forward(X)
    with pytest.raises(RuntimeError, match=r"dW\[1\] is not set; call backward"):
        net.update(0.1)
    net.backward(y)
    net.update(0.1)
    net.initialize()
    assert all(getattr(net, name)[k] is None for name in LISTS[2:] for k in (0, 1))
    with pytest.raises(RuntimeError, match="backward"):
        net.update(0.1)


def test_two_published_outputs_have_no_single_loss():
    net = MLP([2, 2], ["sigmoid"], "bce", as_published=True).initialize()
    yhat = net.forward(np.ones((3, 2)))
    net.backward(np.ones((3, 2)), yhat)
    with pytest.raises(ValueError, match="1 output"):
        net.loss_value(np.ones((3, 2)), yhat)


# ---------------------------------------------------------------- who owns what


def test_placeholders():
    net, X, _ = ready()
    assert all(getattr(net, name)[0] is None for name in ("W", "b", "z", "dz", "dW", "db"))
    np.testing.assert_array_equal(net.a[0], X)
    assert net.da[0].shape == X.shape
    assert all(len(getattr(net, name)) == 3 for name in LISTS)


def test_what_was_assigned_is_never_written_to():
    net, X, y = ready()
    mine, batch = np.ones((2, 3)), X.copy()
    net.W[1] = mine
    list_before = net.W
    net.backward(y, net.forward(X))
    net.update(0.5)
    np.testing.assert_array_equal(mine, np.ones((2, 3)))
    np.testing.assert_array_equal(X, batch)
    assert list_before[1] is mine
    assert net.W[1] is not mine


def test_backward_is_about_the_last_forward_whatever_happens_to_its_inputs():
    net, X, y = ready()
    expected = [array.copy() for array in (net.dW[1], net.da[0])]
    net.forward(X)
    net.W[2][:] = 7.0
    net.W[1] = np.zeros((2, 3))
    X[:] = 0.0
    net.backward(y)
    for found, right in zip((net.dW[1], net.da[0]), expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_gradients_stay_until_the_next_backward():
    net, X, y = ready()
    dW = net.dW[1]
    net.forward(2 * X)
    assert net.dW[1] is dW
    net.update(0.1)
    assert net.dW[1] is dW
    net.backward(y)
    assert net.dW[1] is not dW


def test_update_is_descent():
    net, X, y = ready()
    before = net.loss_value(y)
    net.update(0.1)
    net.forward(X)
    assert net.loss_value(y) < before


def test_copies_and_pickles():
    net, X, y = ready()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin.update(0.1)
        np.testing.assert_array_equal(twin.forward(X).shape, y.shape)
    np.testing.assert_array_equal(net.W[1], MLP([2, 3, 1], ["tanh"] * 2, "sse").initialize().W[1])


def test_repeated_training_is_deterministic_and_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = []
        for _ in range(2):
            net, X, y = ready()
            for _ in range(20):
                net.backward(y, net.forward(1000 * X))  # saturates tanh and, in time, the sigmoid
                net.update(100.0)
            runs.append(net.W[1])
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("module", [by_hand, nn.initializers], ids=lambda module: module.__name__)
def test_the_independent_side_stays_independent(module):
    tree = ast.parse(pathlib.Path(module.__file__).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {"numpy", "numpy.typing", "nn.initializers"}
