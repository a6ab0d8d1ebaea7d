"""nn.fit: on nodes and replayed it goes the same way, which is that of the formulas; what it refuses, and when."""

import functools
import itertools
import operator

import numpy as np
import pytest

import nn
from autodiff import ReplayError, Tensor, Value, updates
from autodiff.programs.machine.lanes import Lanes
from autodiff.programs.source import Compiled
from nn.training import fit, replayed

# Sums over a batch in another order, carried on by a few steps.
SAME_ARITHMETIC = 1e-11


def drawn(n, n_in, n_out, seed, flat=False):
    """(X, y) with labels 0 and 1, so that every loss takes them."""
    generator = np.random.default_rng(seed)
    X, y = generator.normal(size=(n, n_in)), generator.integers(0, 2, size=(n, n_out))
    return X, y[:, 0] if flat else y


def numbers(model):
    return np.concatenate([np.ravel(parameter.data) for parameter in model.parameters()])


def huber(y, yhat):
    """Asks every residual how large it is: what is recorded depends on the data."""
    total = 0.0
    for d in (yhat - y).flat:
        total = total + (0.5 * d**2 if abs(d) < 0.5 else 0.5 * (abs(d) - 0.25))
    return total / len(y)


CASES = {
    "mse": (3, [4, 2], ["tanh", "identity"], "mse"),
    "sse": (2, [5, 1], ["relu", "identity"], "sse"),
    "half_sse": (4, [3, 3], ["leaky_relu", "softplus"], "half_sse"),
    "bce": (2, [4, 3, 1], ["relu", "relu", "sigmoid"], "bce"),
    "bce, several outputs": (2, [3, 2], ["softplus", "sigmoid"], "bce"),
    "ce": (3, [3, 2], ["tanh", "sigmoid"], "ce"),
    "softmax": (3, [4, 3], ["tanh", "softmax"], "ce"),
    "logits": (2, [3, 1], ["sigmoid", "identity"], nn.losses.bce_with_logits),
    "huber": (2, [4, 1], ["relu", "identity"], huber),
}


@pytest.mark.parametrize("n", [1, 2, 23])
@pytest.mark.parametrize("case", CASES)
def test_replayed_and_on_nodes_the_weights_are_the_same(case, n):
    n_in, n_outs, activations, loss = CASES[case]
    X, y = drawn(n, n_in, n_outs[-1], seed=n)
    one, other = (nn.MLP(n_in, n_outs, activations, init="he", seed=n) for _ in range(2))
    history = fit(one, X, y, loss, epochs=6, learning_rate=0.2)
    assert fit(other, X, y, loss, epochs=6, learning_rate=0.2, replay=True) == pytest.approx(history, rel=1e-11)
    np.testing.assert_allclose(numbers(other), numbers(one), rtol=SAME_ARITHMETIC, atol=SAME_ARITHMETIC)
    slopes = [[parameter.grad for parameter in model.parameters()] for model in (one, other)]
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=SAME_ARITHMETIC, atol=SAME_ARITHMETIC)


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_it_is_what_the_formulas_do(loss, replay):
    sizes, activations = [3, 4, 1], ["relu", "sigmoid"]
    X, y = drawn(40, 3, 1, seed=1)
    hand = nn.by_hand.MLP(sizes, activations, loss).initialize("he", seed=5)
    model = nn.MLP(3, [4, 1], activations, init="he", seed=5)
    expected = []
    for _ in range(5):
        expected.append(hand.loss_value(y, hand.forward(X)))
        hand.backward(y)
        hand.update(0.5)
    history = fit(model, X, y, loss, epochs=5, learning_rate=0.5, replay=replay)
    assert history == pytest.approx(expected, rel=1e-12)
    for k, layer in enumerate(model.layers, 1):
        np.testing.assert_allclose(layer.W.data, hand.W[k], rtol=SAME_ARITHMETIC)
        np.testing.assert_allclose(layer.b.data, hand.b[k], rtol=SAME_ARITHMETIC, atol=SAME_ARITHMETIC)


def test_relus_that_switch_on_the_way_are_followed():
    X, y = drawn(40, 2, 1, seed=3)
    one, other = (nn.MLP(2, [6, 1], ["relu", "identity"], seed=3) for _ in range(2))
    before = X @ one.layers[0].W.data + one.layers[0].b.data > 0
    fit(one, X, y, "mse", epochs=12, learning_rate=0.3)
    after = X @ one.layers[0].W.data + one.layers[0].b.data > 0
    assert (before != after).sum() > 5
    fit(other, X, y, "mse", epochs=12, learning_rate=0.3, replay=True)
    np.testing.assert_allclose(numbers(other), numbers(one), rtol=SAME_ARITHMETIC)


@pytest.mark.parametrize("replay", [False, True])
def test_labels_in_one_dimension_are_those_of_one_output(replay):
    X, y = drawn(9, 2, 1, seed=4, flat=True)
    models = [nn.MLP(2, [3, 1], ["tanh", "sigmoid"], seed=4) for _ in range(2)]
    for model, labels in zip(models, (y, y.reshape(-1, 1)), strict=True):
        fit(model, X, labels, "bce", epochs=3, replay=replay)
    assert numbers(models[0]).tolist() == numbers(models[1]).tolist()


class Own(nn.Module):
    """A network of one's own: parameters in a dict, one of them twice, and a branch on a node."""

    def __init__(self):
        self.nodes = {"slope": Value(0.5), "shift": Value(-0.25)}

    def parameters(self):
        return [self.nodes["slope"], self.nodes["shift"], self.nodes["slope"]]

    def __call__(self, X):
        slope, shift = self.nodes["slope"], self.nodes["shift"]
        rows = [slope * x + shift for x in X[:, 0]]
        return np.array([[z if z > 0.0 else slope * 0.1 * z] for z in rows], dtype=object)


def test_a_module_of_ones_own():
    X, y = drawn(15, 1, 1, seed=6)
    one, other = Own(), Own()
    fit(one, X, y, "mse", epochs=10, learning_rate=0.2)
    nodes = other.parameters()
    fit(other, X, y, "mse", epochs=10, learning_rate=0.2, replay=True)
    np.testing.assert_allclose(numbers(other), numbers(one), rtol=SAME_ARITHMETIC)
    assert all(map(operator.is_, nodes, other.parameters()))
    assert all(type(node.data) is float for node in nodes)


def test_a_network_of_tensors_trains_as_it_is():
    X, y = drawn(10, 2, 1, seed=7)
    of_arrays, of_scalars = (
        nn.MLP(2, [4, 1], ["tanh", "sigmoid"], init="he", seed=7, magnification=name) for name in ("array", "scalar")
    )
    histories = [fit(model, X, y, "bce", epochs=4) for model in (of_arrays, of_scalars)]
    assert histories[0] == pytest.approx(histories[1], rel=1e-12)
    with pytest.raises(TypeError, match="this network has Tensors, which compute a whole batch"):
        fit(of_arrays, X, y, "bce", epochs=4, replay=True)


# --- optimisers ---

RULES = {
    "momentum": (lambda parameters: "momentum", 0.05),
    "adam": (lambda parameters: "adam", 0.05),
    "rule": (lambda parameters: updates.SGD(0.05, 0.8, nesterov=True, weight_decay=0.01), None),
    "object": (lambda parameters: nn.Adam(parameters, 0.03, (0.7, 0.9), 1e-4), None),
    "another order": (lambda parameters: nn.SGD(parameters[::-1], 0.05, momentum=0.9), None),
}


@pytest.mark.parametrize("case", ["sse", "bce", "softmax", "huber"])
@pytest.mark.parametrize("name", RULES)
def test_every_optimiser_replayed_and_on_nodes(name, case):
    make, rate = RULES[name]
    n_in, n_outs, activations, loss = CASES[case]
    X, y = drawn(7, n_in, n_outs[-1], seed=3)
    one, other = (nn.MLP(n_in, n_outs, activations, init="he", seed=3) for _ in range(2))
    optimisers = [make(model.parameters()) for model in (one, other)]
    history = fit(one, X, y, loss, 8, rate, optimiser=optimisers[0])
    again = [
        *fit(other, X, y, loss, 3, rate, replay=True, optimiser=optimisers[1]),
        *(fit(other, X, y, loss, 5, rate, replay=True, optimiser=optimisers[1]) if rate is None else []),
    ]
    if name in ("object", "another order"):  # which keep their state from call to call
        assert again == pytest.approx(history, rel=1e-9)
        np.testing.assert_allclose(numbers(other), numbers(one), rtol=1e-9, atol=1e-9)
        for x, state in zip(optimisers[1].state, optimisers[0].state, strict=True):
            np.testing.assert_allclose(x, state, rtol=1e-9, atol=1e-12)
    assert again[:3] == pytest.approx(history[:3], rel=1e-9)
    slopes = []
    one, other = (nn.MLP(n_in, n_outs, activations, init="he", seed=4) for _ in range(2))
    for model in (one, other):
        fit(model, X, y, loss, 4, rate, replay=model is other, optimiser=make(model.parameters()))
        slopes.append([parameter.grad for parameter in model.parameters()])
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(numbers(other), numbers(one), rtol=1e-9, atol=1e-9)


def test_a_network_of_tensors_takes_every_optimiser():
    X, y = drawn(10, 2, 1, seed=7)
    for make, rate in RULES.values():
        models = [
            nn.MLP(2, [4, 1], ["tanh", "sigmoid"], init="he", seed=7, magnification=name)
            for name in ("array", "scalar")
        ]
        histories = [fit(m, X, y, "bce", 5, rate, optimiser=make(m.parameters())) for m in models]
        assert histories[0] == pytest.approx(histories[1], rel=1e-11)


def test_an_epoch_costs_one_call_and_many_epochs_little_more(monkeypatch):
    calls = []
    for kind in (Compiled, Lanes):
        monkeypatch.setattr(
            kind, "descend", lambda self, *args, own=kind.descend: calls.append(args[3]) or own(self, *args)
        )
        monkeypatch.setattr(
            kind, "__call__", lambda self, *args, own=kind.__call__: calls.append(1) or own(self, *args)
        )
    X, y = drawn(30, 2, 1, seed=16)
    fit(nn.MLP(2, [3, 1], ["tanh", "sigmoid"], seed=16), X, y, "mse", epochs=120, replay=True, optimiser="adam")
    assert sum(calls) == 120
    assert len(calls) < 10


def test_who_stops_it_on_the_way_has_the_weights_of_that_epoch(monkeypatch):
    X, y = drawn(30, 2, 1, seed=16)
    one, other = (nn.MLP(2, [3, 1], ["tanh", "sigmoid"], seed=16) for _ in range(2))
    calls = []

    def stopped(self, *args, own=None):
        calls.append(args[3])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return own(self, *args)

    for kind in (Compiled, Lanes):
        monkeypatch.setattr(kind, "descend", functools.partialmethod(stopped, own=kind.descend))
    with pytest.raises(KeyboardInterrupt):
        fit(one, X, y, epochs=500, replay=True)
    fit(other, X, y, epochs=sum(calls[:2]))
    np.testing.assert_allclose(numbers(one), numbers(other), rtol=SAME_ARITHMETIC)


@pytest.mark.parametrize("show", [None, 1, 4, 7, 50])
def test_what_is_shown_changes_nothing(show, capsys):
    X, y = drawn(12, 2, 1, seed=17)
    histories, weights, printed = [], [], []
    for replay in (False, True):
        model = nn.MLP(2, [3, 1], ["tanh", "sigmoid"], seed=17)
        histories.append(fit(model, X, y, "bce", 9, replay=replay, show=show, optimiser="momentum"))
        weights.append(numbers(model))
        printed.append(capsys.readouterr().out)
    assert histories[1] == pytest.approx(histories[0], rel=1e-11)
    np.testing.assert_allclose(weights[1], weights[0], rtol=SAME_ARITHMETIC, atol=SAME_ARITHMETIC)
    assert printed[0] == printed[1]


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("show", [None, 1, 2])
def test_where_it_diverges_it_ends_before_the_step(replay, show, capsys):
    X, y = np.array([[1.0], [2.0]]), np.array([[3.0], [-5.0]])

    def quartic(y, yhat):
        return np.mean((yhat - y) ** 4)

    model = nn.MLP(1, [1], ["identity"], seed=18)
    optimiser = nn.SGD(model.parameters(), 1.0, momentum=0.5)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="not finite") as caught:
        fit(model, X, y, quartic, 50, replay=replay, show=show, optimiser=optimiser)
    [note] = caught.value.__notes__
    epoch = int(note.split()[1].rstrip(","))
    assert 3 < epoch < 9
    assert np.isfinite(numbers(model)).all()
    assert not np.isfinite([parameter.grad for parameter in model.parameters()]).all()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (0 if show is None else epoch // show + 1)
    # the weights are those after the steps before
    twin = nn.MLP(1, [1], ["identity"], seed=18)
    twins = nn.SGD(twin.parameters(), 1.0, momentum=0.5)
    with np.errstate(all="ignore"):
        fit(twin, X, y, quartic, epoch, optimiser=twins)
    np.testing.assert_allclose(numbers(model), numbers(twin), rtol=1e-9)
    np.testing.assert_allclose(optimiser.state[0], twins.state[0], rtol=1e-9)


def test_training_goes_on_where_it_was():
    X, y = drawn(10, 2, 1, seed=8)
    one, other = (nn.MLP(2, [3, 1], ["tanh", "identity"], seed=8) for _ in range(2))
    history = fit(one, X, y, epochs=6, replay=True)
    parts = [fit(other, X, y, epochs=k, replay=True) for k in (2, 0, 4)]
    assert history == [*itertools.chain(*parts)]
    assert numbers(one).tolist() == numbers(other).tolist()


@pytest.mark.parametrize("replay", [False, True])
def test_lines_are_printed_when_they_are_asked_for(replay, capsys):
    X, y = drawn(4, 2, 1, seed=9)
    model = nn.MLP(2, [1], ["identity"], seed=9)
    fit(model, X, y, epochs=3, replay=replay)
    assert capsys.readouterr().out == ""
    history = fit(model, X, y, epochs=5, replay=replay, show=2)
    assert capsys.readouterr().out.splitlines() == [f"epoch {k}: loss {history[k]:.6g}" for k in (0, 2, 4)]


def test_what_is_replayed_can_be_asked():
    X, y = drawn(6, 2, 1, seed=10)
    model = nn.MLP(2, [1], ["identity"], seed=10)
    before = numbers(model)
    loss = replayed(model, X, y)
    value, gradient = loss.value_and_grad(before)
    hand = nn.losses.mse(y, model(X))
    hand.backward()
    assert value == pytest.approx(hand.data, rel=1e-12)
    assert gradient == pytest.approx([parameter.grad for parameter in model.parameters()], rel=1e-12)
    assert (loss.statistics.recordings, len(loss.programs)) == (1, 1)
    assert loss.programs[0].input_names() == ["w1_11", "w1_12", "b1_1"]
    assert numbers(model).tolist() == before.tolist()


# --- what it refuses ---


def of_sum(y, yhat):
    return nn.losses.sse(y, yhat, reduction="sum")


def across_samples(y, yhat):
    """Samples are compared with each other: no mean over them."""
    return nn.losses.mse(y, yhat) + np.sum(yhat) ** 2


@pytest.mark.parametrize("loss", [of_sum, across_samples])
def test_a_loss_that_is_no_mean_is_not_replayed(loss):
    X, y = drawn(8, 2, 1, seed=11)
    model = nn.MLP(2, [1], ["identity"], seed=11)
    before = numbers(model)
    with pytest.raises(ValueError, match="A loss that is replayed is a mean over the samples"):
        fit(model, X, y, loss, replay=True)
    assert numbers(model).tolist() == before.tolist()
    assert len(fit(model, X, y, loss, epochs=2, learning_rate=1e-3)) == 2


@pytest.mark.parametrize("size", [1.0, 0.0])
def test_a_penalty_past_the_network_is_not_replayed(size):
    X, y = drawn(8, 2, 1, seed=12)
    model = nn.MLP(2, [1], ["identity"], seed=12).assign([np.full((2, 1), size)], [[0.0]])  # at 0 its gradient is 0

    def with_penalty(y, yhat):
        return nn.losses.mse(y, yhat) + 0.1 * sum(p * p for p in model.parameters())

    with pytest.raises(ValueError, match="reaches for w1_11 past the network"):
        fit(model, X, y, with_penalty, replay=True)


def test_a_number_that_leaves_the_graph_is_not_replayed():
    X, y = drawn(5, 2, 1, seed=13)
    model = nn.MLP(2, [1], ["identity"], seed=13)

    def scaled(y, yhat):
        return nn.losses.mse(y, yhat) / yhat[0, 0].item()

    with pytest.raises((ReplayError, ValueError)) as caught:
        fit(model, X[:1], y[:1], scaled, replay=True)
    assert "replay=False" in f"{caught.value} {getattr(caught.value, '__notes__', '')}"


@pytest.mark.parametrize("replay", [False, True])
def test_a_gradient_that_is_not_finite_ends_it_and_says_when(replay):
    X, y = np.array([[1e200], [1.0]]), np.array([[1.0], [1.0]])
    model = nn.MLP(1, [1], ["identity"], seed=14)
    before = numbers(model)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="not finite") as caught:
        fit(model, X, y, learning_rate=0.5, replay=replay)
    assert "epoch 0" in caught.value.__notes__[0]
    assert numbers(model).tolist() == before.tolist()


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"model": [1.0]}, TypeError, "trains a Module"),
        ({"model": nn.Module()}, TypeError, "can be called"),
        ({"model": type("Empty", (nn.Module,), {"__call__": lambda self, X: X})()}, ValueError, "nothing to train"),
        ({"X": np.ones((3, 2))}, ValueError, r"\(3, 2\) and \(4, 1\)"),
        ({"X": np.ones((0, 2)), "y": np.ones((0, 1))}, ValueError, "at least one"),
        ({"X": [["a", "b"]] * 4}, TypeError, "X holds"),
        ({"y": np.array([Tensor(1.0)] * 4, dtype=object)}, TypeError, "y holds object"),
        ({"y": np.ones((4, 3))}, ValueError, "reshape y"),
        ({"loss": "hinge"}, ValueError, "unknown loss 'hinge'; known: sse"),
        ({"loss": lambda y, yhat: 0.0}, TypeError, "returns float, expected a node"),
        ({"epochs": -1}, ValueError, "epochs=-1"),
        ({"epochs": 1.5}, TypeError, "integer"),
        ({"show": 0}, ValueError, "show=0"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate is a positive number"),
        ({"optimiser": "rmsprop"}, ValueError, "unknown optimiser 'rmsprop'; known: sgd, momentum, adam"),
        ({"optimiser": nn.SGD}, TypeError, "an optimiser is a rule or one of"),
        ({"optimiser": updates.Adam(), "learning_rate": 0.1}, ValueError, "leave learning_rate=0.1 out"),
        ({"optimiser": nn.Adam([Value(1.0)]), "learning_rate": 0.1}, ValueError, "leave learning_rate out"),
        ({"optimiser": nn.Adam([Value(1.0)])}, ValueError, "moves 1 parameters, and they are not the 3 of the model"),
    ],
)
@pytest.mark.parametrize("replay", [False, True])
def test_what_does_not_fit_is_said(changed, error, match, replay):
    model = nn.MLP(2, [1], ["identity"], seed=15)
    arguments = {"model": model, "X": np.ones((4, 2)), "y": np.ones((4, 1)), "epochs": 2} | changed
    before = numbers(model)
    with pytest.raises(error, match=match):
        fit(**arguments, replay=replay)
    assert numbers(model).tolist() == before.tolist()
