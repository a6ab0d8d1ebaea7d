"""Models whose network has no name, judged by their own forward pass; and the spellings in which models keep arrays."""

import math
import types

import numpy as np
import pytest

from nn.audit.model import audit_model, audit_model_on_probes


def found(report):
    return [(cause.quantity, cause.layers, cause.kind, cause.factor) for cause in report.causes]


def softly(u):
    return np.log1p(np.exp(u)) * 0.5 + np.sin(u)  # an activation that nobody has named


def slope(u):
    return 0.5 / (1 + np.exp(-u)) + np.cos(u)


class Net:
    """Two layers with W1 b1 W2 b2, a factor on the hidden units and a residual connection; changes spoil gradients."""

    f, slope = staticmethod(softly), staticmethod(slope)

    def __init__(self, **changes):
        random = np.random.default_rng(7)
        self.W1, self.b1 = random.standard_normal((3, 4)), random.standard_normal(4)
        self.W2, self.b2 = random.standard_normal((4, 3)), random.standard_normal(3)
        self.mask, self.changes = np.array([2.0, 0.0, 2.0, 2.0]), changes

    def forward(self, x):
        self.x, self.u = x, x @ self.W1 + self.b1
        self.h = self.f(self.u) * self.mask
        return self.h @ self.W2 + self.b2 + x

    def backward(self, y, yhat):
        n = len(y)
        d2 = self.changes.get("d2", lambda d: d)((yhat - y) / n)
        inner = self.changes.get("mask", self.mask)
        d1 = d2 @ self.W2.T * inner * self.changes.get("slope", self.slope)(self.u)
        self.dW1, self.db1, self.dW2, self.db2 = self.x.T @ d1, d1.sum(0), self.h.T @ d2, d2.sum(0)
        for name, change in self.changes.items():
            if name in ("dW1", "dW2", "db1", "db2"):
                setattr(self, name, change(getattr(self, name), n))


def looped(u):
    """The same, written so that nodes cannot pass."""
    out = np.zeros(u.shape)
    for index in np.ndindex(u.shape):
        out[index] = math.log1p(math.exp(u[index])) * 0.5 + math.sin(u[index])
    return out


@pytest.mark.parametrize("f", [softly, looped])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"dW1": lambda g, n: 2 * g}, [("dW1", (1,), "factor", "2")]),
        ({"dW2": lambda g, n: g + 0.25}, [("dW2", (2,), "extra-term or unexplained", "0.25 or None")]),
        ({"db2": lambda g, n: g / n, "db1": lambda g, n: g / n}, [("db", (1, 2), "factor", "1/n")]),
        ({"d2": lambda d: -d}, [("dz2", (2,), "factor", "-1")]),
        ({"dW1": lambda g, n: g.T}, [("dW1", (1,), "transposed", None)]),
        ({"dW2": lambda g, n: g * 0}, [("dW2", (2,), "zero", None)]),
        ({"slope": np.cos}, [("dz1", (1,), "activation-derivative or unexplained", None)]),
    ],
)
def test_a_network_without_a_name_is_judged_by_its_own_forward_pass(f, changes, expected):
    net = Net(**changes)
    net.f = f
    report = audit_model_on_probes(net, "half_sse")
    assert len(report.causes) == len(expected), report
    for came, (quantity, layers, kinds, factors) in zip(found(report), expected, strict=True):
        assert came[:2] == (quantity, layers), report
        assert str(came[3]) in str(factors).split(" or "), report
        assert came[2] in kinds.split(" or "), "on numbers alone, less is told"
    assert report.ok is (not expected)
    assert any("own forward pass" in note for note in report.notes)


def test_weight_decay_and_a_forgotten_mask_or_slope_are_named():
    decayed = Net()
    decayed.changes["dW2"] = lambda g, n: g + 0.3 * decayed_weights(n)

    def decayed_weights(n):
        return decayed.W2

    X, y = np.random.default_rng(1).standard_normal((2, 9, 3))
    assert found(audit_model(decayed, X, y, "half_sse")) == [("dW2", (2,), "extra-term", "0.3")]
    unmasked = Net(mask=1.0)
    assert found(audit_model_on_probes(unmasked, "half_sse")) == [("dz1", (1,), "activation-derivative", None)]
    flat = Net(slope=lambda u: 1.0)
    flat.mask = 1.0
    assert found(audit_model_on_probes(flat, "half_sse")) == [("dz1", (1,), "activation-derivative", None)]


def test_a_loss_without_a_name_is_differentiated_as_it_stands():
    def huber(y, yhat):
        return np.mean(np.where(abs(yhat - y) < 1, 0.5 * (yhat - y) ** 2, abs(yhat - y) - 0.5).sum(axis=1))

    clipped = lambda d: np.clip(d * 1.0, -1.0 / len(d), 1.0 / len(d))  # noqa: E731
    assert audit_model_on_probes(Net(d2=clipped), huber).ok
    wrong = audit_model_on_probes(Net(), huber)
    assert wrong.ok is False


def test_a_forward_pass_that_draws_a_mask_is_repeated_with_the_same():
    class Drawn(Net):
        def forward(self, x):
            self.mask = (np.random.random(4) > 0.4) / 0.6  # noqa: NPY002
            return super().forward(x)

    class DrawnAgain(Drawn):
        def backward(self, y, yhat):
            self.mask = (np.random.random(4) > 0.4) / 0.6  # noqa: NPY002
            super().backward(y, yhat)

    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert audit_model_on_probes(Drawn(), "half_sse").ok
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert "random" in [cause.kind for cause in audit_model_on_probes(DrawnAgain(), "half_sse").causes]


@pytest.mark.parametrize(
    ("wrong", "quantity", "layers"),
    [((), None, ()), ((2,), "dz2", (2,)), ((3,), "dz3", (3,)), ((1, 2, 3), "dz", (1, 2, 3))],
)
def test_a_slope_forgotten_where_only_weights_are_claimed_is_told_once(wrong, quantity, layers):
    class Deep:
        def __init__(self):
            random, widths = np.random.default_rng(2), (3, 4, 5, 2)
            for k in (1, 2, 3):
                setattr(self, f"W{k}", random.standard_normal(widths[k - 1 : k + 1]))
                setattr(self, f"b{k}", random.standard_normal(widths[k]))

        def forward(self, x):
            self.a, self.u = [x], [None]
            for k in (1, 2, 3):
                self.u.append(self.a[-1] @ getattr(self, f"W{k}") + getattr(self, f"b{k}"))
                self.a.append(softly(self.u[-1]))
            return self.a[-1]

        def backward(self, y, yhat):
            d = (yhat - y) / len(y)
            for k in (3, 2, 1):
                d = d if k in wrong else d * slope(self.u[k])
                setattr(self, f"dW{k}", self.a[k - 1].T @ d)
                setattr(self, f"db{k}", d.sum(axis=0))
                d = d @ getattr(self, f"W{k}").T

    report = audit_model_on_probes(Deep(), "half_sse")
    assert found(report) == ([(quantity, layers, "activation-derivative", None)] if wrong else []), report


# ---------------------------------------------------------------- spellings
class Plain:
    """tanh, then identity, keeping nothing of its forward pass that has a name."""

    def __init__(self):
        random = np.random.default_rng(3)
        self.keep([random.standard_normal((2, 4)), random.standard_normal((4, 2))], [np.ones(4), np.ones(2)])

    def forward(self, x):
        (W1, W2), (b1, b2) = self.held()
        self.x, self.hidden = x, np.tanh(x @ W1 + b1)
        return self.hidden @ W2 + b2

    def backward(self, y, yhat):
        d2 = (yhat - y) / len(y)
        d1 = d2 @ self.held()[0][1].T * (1 - self.hidden**2)
        return self.hand([self.x.T @ d1, self.hidden.T @ d2], [d1.sum(axis=0), 3 * d2.sum(axis=0)])


class Attributes(Plain):
    def keep(self, W, b):
        (self.w1, self.w2), (self.b1, self.b2) = W, b

    def held(self):
        return (self.w1, self.w2), (self.b1, self.b2)

    def hand(self, dW, db):
        (self.dw1, self.dw2), (self.db1, self.db2) = dW, db


class Dicts(Plain):
    def keep(self, W, b):
        self.params = {"W1": W[0], "b1": b[0], "W2": W[1], "b2": b[1]}

    def held(self):
        return [self.params[name] for name in ("W1", "W2")], [self.params[name] for name in ("b1", "b2")]

    def hand(self, dW, db):
        self.grads = {"dW1": dW[0], "db1": db[0], "dW2": dW[1], "db2": db[1]}


class Returned(Plain):
    def keep(self, W, b):
        self.weights, self.biases = tuple(W), tuple(b)

    def held(self):
        return self.weights, self.biases

    def hand(self, dW, db):
        return db, dW


class Flat(Returned):
    def hand(self, dW, db):
        return dW[0], db[0], dW[1], db[1]


class Named(Returned):
    def hand(self, dW, db):
        return {"dW": dW, "db": db}


class Layers(Plain):
    def keep(self, W, b):
        self.layers = [types.SimpleNamespace(W=w, b=bias) for w, bias in zip(W, b, strict=True)]

    def held(self):
        return [layer.W for layer in self.layers], [layer.b for layer in self.layers]

    def hand(self, dW, db):
        for layer, weights, biases in zip(self.layers, dW, db, strict=True):
            layer.dW, layer.db = weights, biases

    W = property(lambda self: self.held()[0])


@pytest.mark.parametrize("kind", [Attributes, Dicts, Returned, Flat, Named, Layers])
def test_a_model_may_keep_its_arrays_in_many_ways(kind):
    assert found(audit_model_on_probes(kind(), "half_sse")) == [("db2", (2,), "factor", "3")]


# ---------------------------------------------------------------- calls
class Adds(Attributes):
    def hand(self, dW, db):
        for k in (1, 2):
            setattr(self, f"dw{k}", getattr(self, f"dw{k}", 0.0) + dW[k - 1])
            setattr(self, f"db{k}", getattr(self, f"db{k}", 0.0) + (1.0, 1 / 3)[k - 1] * db[k - 1])


class Resets(Adds):
    def zero_grad(self):
        self.dw1 = self.dw2 = self.db1 = self.db2 = 0.0


def test_gradients_that_add_up_from_call_to_call_are_a_cause_unless_the_model_resets_them():
    assert found(audit_model_on_probes(Adds(), "half_sse")) == [("backward", (), "accumulates", None)]
    assert audit_model_on_probes(Resets(), "half_sse").ok


def test_with_a_time_limit_a_model_runs_in_a_child_and_what_it_prints_is_a_note(capsys):
    class Loud(Returned):
        def forward(self, x):
            print("forward!")
            return super().forward(x)

    class Endless(Returned):
        def forward(self, x):
            while True:
                pass

    X, y = np.random.default_rng(0).standard_normal((2, 5, 2))
    assert any("'forward!'" in note for note in audit_model(Loud(), X, y, "half_sse").notes)
    assert found(audit_model(Loud(), X, y, "half_sse", timeout=30.0)) == [("db2", (2,), "factor", "3")]
    assert [cause.kind for cause in audit_model(Endless(), X, y, "half_sse", timeout=0.3).causes] == ["timeout"]
    assert capsys.readouterr().out == ""
