"""Neuron, Layer and MLP: micrograd's behaviour in frozen numbers, and the matrices of the hand-derived network.

The frozen numbers were printed by micrograd 0.1.0, whose code is not imported here, from the same seeds and data.
"""

import functools
import math
import operator
import random

import numpy as np
import pytest

import autodiff as ad
import nn
from autodiff import Graph, MixedNodes, Scalars, Tensor, Value, scalars
from nn import MLP, Layer, Module, Neuron
from nn.activations import ACTIVATIONS

# One batch in two orders of summation, and sums of a few hundred terms of either sign
ROUNDING = 1e-12


# ---------------------------------------------------------------- micrograd, frozen
MICROGRAD_REPR = (
    f"MLP of [Layer of [{', '.join(['ReLUNeuron(2)'] * 16)}], Layer of [{', '.join(['ReLUNeuron(16)'] * 16)}], "
    "Layer of [LinearNeuron(16)]]"
)
MICROGRAD_PARAMETERS = {
    0: 0.23550571390294128,
    1: 0.06653114721000164,
    2: 0,
    3: -0.26830328150124894,
    48: -0.08568482691922008,
    49: -0.4702876239420326,
    320: 0.9128783824023976,
    335: -0.2532524374373504,
    336: 0,
}
MICROGRAD_SCORES = [-0.2727183925578827, -0.4098792384339347, -0.24154398417847286]
MICROGRAD_GRADIENTS = {
    0: 0.3183392422450923,
    1: -0.15054133240943357,
    2: 0.27062405647570703,
    33: 0.6057347550398046,
    36: -0.5295984353349323,
    42: 0.8918491863427911,
    44: 0.6089131340529863,
    50: -0.00011960740224195262,
    200: 0.10877372681431262,
    320: -0.1908475163775187,
    330: -0.3106883153997633,
    336: -0.15000000000000002,
}
MICROGRAD_SUM_OF_GRADIENTS = 28.772294900834318  # of their absolute values, over all 337
MICROGRAD_LOSSES = [
    0.907348411565892, 1.6557411550266987, 1.0070096346249142, 1.0980729058607273, 0.52210107691479,
    0.40517407250570026, 0.36908743267337585, 0.3434233438673916, 0.3352890888236053, 0.30540386235336187,
    0.29140118680623917, 0.28462863283238765, 0.2849894810441927, 0.29596524378619127, 0.2500674493849655,
    0.24806240388493853, 0.2607942446256615, 0.258469642893035, 0.2438588015463551, 0.20978302367567198,
]  # fmt: skip
MICROGRAD_AFTER_TRAINING = {0: -0.08254755862735919, 336: 0.6341921141847664}


def moons():
    """20 points on two half circles, as sklearn.datasets.make_moons places them, without its noise."""
    X, y = [], []
    for i in range(10):
        t = math.pi * i / 9
        X.append([math.cos(t), math.sin(t)])
        y.append(-1)
        X.append([1 - math.cos(t), 0.5 - math.sin(t)])
        y.append(1)
    return X, y


def demo_loss(model, X, y):
    """The loss of micrograd's demo notebook, its lines unchanged."""
    inputs = [list(map(Value, xrow)) for xrow in X]
    scores = list(map(model, inputs))
    losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(y, scores, strict=True)]
    data_loss = sum(losses) * (1.0 / len(losses))
    alpha = 1e-4
    reg_loss = alpha * sum(p * p for p in model.parameters())
    return data_loss + reg_loss, scores


@pytest.fixture
def demo_model():
    state = random.getstate()
    random.seed(1337)
    yield MLP(2, [16, 16, 1])
    random.setstate(state)


def test_the_same_seed_gives_micrograd_s_weights_in_its_order(demo_model):
    parameters = demo_model.parameters()
    assert len(parameters) == 337
    assert {i: parameters[i].data for i in MICROGRAD_PARAMETERS} == MICROGRAD_PARAMETERS
    assert repr(demo_model) == MICROGRAD_REPR


def test_micrograd_s_demo_has_its_loss_and_gradients(demo_model):
    loss, scores = demo_loss(demo_model, *moons())
    loss.backward()
    assert [score.data for score in scores[:3]] == pytest.approx(MICROGRAD_SCORES, rel=ROUNDING)
    assert loss.data == pytest.approx(MICROGRAD_LOSSES[0], rel=ROUNDING)
    gradients = [p.grad for p in demo_model.parameters()]
    assert {i: gradients[i] for i in MICROGRAD_GRADIENTS} == pytest.approx(MICROGRAD_GRADIENTS, rel=ROUNDING)
    assert sum(map(abs, gradients)) == pytest.approx(MICROGRAD_SUM_OF_GRADIENTS, rel=ROUNDING)


def test_micrograd_s_demo_trains_along_its_losses(demo_model):
    X, y = moons()
    losses = []
    for k in range(20):
        total_loss, _ = demo_loss(demo_model, X, y)
        losses.append(total_loss.data)
        demo_model.zero_grad()
        total_loss.backward()
        learning_rate = 1.0 - 0.9 * k / 100
        for p in demo_model.parameters():
            p.data -= learning_rate * p.grad
    # micrograd sums gradients in another order; twenty steps of rate 1 may magnify 1e-16 a millionfold
    assert losses == pytest.approx(MICROGRAD_LOSSES, rel=1e-9)
    parameters = demo_model.parameters()
    assert {i: parameters[i].data for i in MICROGRAD_AFTER_TRAINING} == pytest.approx(
        MICROGRAD_AFTER_TRAINING, rel=1e-9
    )


def test_the_demo_runs_on_numpy_s_integers_and_rows(demo_model):
    X, y = (np.array(part) for part in moons())
    loss, _ = demo_loss(demo_model, X, y)
    assert isinstance(loss, Value)
    assert loss.data == pytest.approx(MICROGRAD_LOSSES[0], rel=ROUNDING)


def test_micrograd_s_reprs():
    assert repr(Neuron(3)) == "ReLUNeuron(3)"
    assert repr(Neuron(3, nonlin=False)) == "LinearNeuron(3)"
    assert repr(Layer(2, 2)) == "Layer of [ReLUNeuron(2), ReLUNeuron(2)]"
    assert repr(Layer(1, 3, nonlin=False)) == "Layer of [LinearNeuron(1), LinearNeuron(1), LinearNeuron(1)]"


def test_micrograd_s_neuron_in_numbers():
    state = random.getstate()
    random.seed(7)
    rectified, linear = Neuron(3), Neuron(3, nonlin=False)
    random.setstate(state)
    assert [p.data for p in rectified.parameters()] == [
        -0.35233447033367526,
        -0.6983016521509962,
        0.3018689460797075,
        0,
    ]
    # the same operations in the same order: exact
    assert rectified([1.0, -2.0, 0.5]).data == 1.1952033070081707
    assert linear([1.0, -2.0, 0.5]).data == -1.1329665269790858


def test_the_frozen_gradients_can_reject(demo_model):
    demo_model.parameters()[0].data += 1e-6
    loss, _ = demo_loss(demo_model, *moons())
    assert loss.data != pytest.approx(MICROGRAD_LOSSES[0], rel=ROUNDING)


# ---------------------------------------------------------------- lists in, nodes or lists out
def test_a_list_gives_a_node_or_a_list_of_them():
    assert type(MLP(2, [3, 1], seed=0)([1.0, 2.0])) is Value
    out = MLP(2, [3, 2], seed=0)([1.0, 2.0])
    assert type(out) is list
    assert [type(node) for node in out] == [Value, Value]
    assert type(Neuron(2, seed=0)([1, 2])) is Value
    assert type(Layer(2, 1, seed=0)((1.0, 2.0))) is Value
    assert type(MLP(1, [1], seed=0)(3.0)) is Value


def test_inputs_may_be_nodes_and_get_gradients():
    x = [Value(1.0), Value(-2.0)]
    y = Neuron(2, activation="identity", seed=0)
    y(x).backward()
    assert [node.grad for node in x] == [w.data for w in y.w]
    assert [w.grad for w in y.w] == [1.0, -2.0]
    assert y.b.grad == 1.0


def test_an_array_of_rows_gives_an_array_of_nodes():
    out = MLP(2, [3, 2], seed=0)(np.ones((5, 2)))
    assert isinstance(out, Scalars)
    assert out.shape == (5, 2)
    assert MLP(2, [3, 1], seed=0)(np.ones((5, 2))).shape == (5, 1)


SHORT = np.array([[0.5, -1.0, 2.0], [0.25, 1.5, -0.75], [0.0, 0.0, 1.0], [3.0, -2.0, 0.125]])


@pytest.mark.parametrize("last", ACTIVATIONS)
@pytest.mark.parametrize("first", ACTIVATIONS)
def test_the_list_path_is_the_array_path(first, last):
    by_list, by_array = (MLP(3, [4, 2], activations=[first, last], seed=5) for _ in range(2))
    rows = [by_list(list(row)) for row in SHORT]
    array = by_array(SHORT)
    # matmul adds the bias last, a neuron first: one rounding each
    np.testing.assert_allclose([[node.data for node in row] for row in rows], array.data, rtol=1e-13, atol=1e-15)
    weights = np.array([[0.5, -2.0]] * 4)
    sum(w * node for row, ws in zip(rows, weights, strict=True) for w, node in zip(ws, row, strict=True)).backward()
    np.sum(weights * array).backward()
    np.testing.assert_allclose(
        [p.grad for p in by_list.parameters()],
        [p.grad for p in by_array.parameters()],
        rtol=ROUNDING,
        atol=1e-14,  # softmax' gradients cancel
    )


def test_an_array_of_one_row_and_a_row_of_an_array():
    model = MLP(3, [4, 2], seed=5)
    row = model(SHORT[0])
    np.testing.assert_allclose([node.data for node in row], model(SHORT[:1]).data[0], rtol=1e-13)


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_, object])
def test_arrays_of_any_real_kind_and_of_nodes(kind):
    X = np.array([[1, 0], [1, 1]], dtype=kind)
    model = MLP(2, [2, 1], seed=0)
    assert model(X).data.tolist() == model(np.array([[1.0, 0.0], [1.0, 1.0]])).data.tolist()
    nodes = scalars(X)
    np.sum(model(nodes)).backward()
    assert Graph(model(nodes)[0, 0]).has_grad(nodes[0, 0])


def test_numbers_of_an_array_are_copied():
    X = np.ones((2, 2))
    z, a = MLP(2, [1], seed=0).trace(X)
    X[0, 0] = 7.0
    assert a[0].data[0, 0] == 1.0
    assert len(z) == 2


# ---------------------------------------------------------------- parameters
def test_parameters_are_neuron_by_neuron_weights_then_bias():
    layer = Layer(2, 3, seed=1)
    W, b = layer.W, layer.b
    expected = [node for j in range(3) for node in (W[0, j], W[1, j], b[0, j])]
    assert [id(node) for node in layer.parameters()] == [id(node) for node in expected]
    model = MLP(2, [3, 1], seed=1)
    assert [id(p) for p in model.parameters()] == [id(p) for layer in model.layers for p in layer.parameters()]
    assert [id(p) for p in layer.parameters()] == [id(p) for n in layer.neurons for p in n.parameters()]
    assert Module().parameters() == []


def test_a_neuron_is_a_view_of_a_column():
    layer = Layer(2, 3, seed=1)
    neuron = layer.neurons[2]
    assert neuron.w[1] is layer.W[1, 2]
    assert neuron.b is layer.b[0, 2]
    neuron.w[1].data = 5.0
    assert layer.W.data[1, 2] == 5.0


def test_parameters_and_arrays_have_the_documented_shapes():
    model = MLP(2, [16, 16, 1], seed=0)
    assert [layer.W.shape for layer in model.layers] == [(2, 16), (16, 16), (16, 1)]
    assert [layer.b.shape for layer in model.layers] == [(1, 16), (1, 16), (1, 1)]
    assert model.sizes == (2, 16, 16, 1)
    assert all(b.data == 0.0 for layer in model.layers for b in layer.b.flat)
    assert all(-1.0 <= w.data <= 1.0 for layer in model.layers for w in layer.W.flat)


def test_names_say_layer_unit_and_unit_below():
    model = MLP(2, [4, 3, 1], seed=0)
    second = model.layers[1]
    assert second.W[0, 2].name == "w2_31"  # from unit 1 below to unit 3
    assert model.layers[0].W[1, 0].name == "w1_12"
    assert [b.name for b in second.b.flat] == ["b2_1", "b2_2", "b2_3"]
    assert model.layers[2].W[2, 0].name == "w3_13"
    assert Layer(2, 2, seed=0).W[0, 1].name == "w_21"
    assert Neuron(2, seed=0).b.name == "b_1"


def test_names_beyond_nine_units_have_a_comma_and_stay_unique():
    model = MLP(12, [11, 12, 1], seed=0)
    first = model.layers[0].W
    assert first[10, 10].name == "w1_11,11"
    assert first[0, 10].name == "w1_11,1"
    assert first[10, 0].name == "w1_1,11"
    names = [p.name for p in model.parameters()]
    assert len(set(names)) == len(names)


def test_zero_grad():
    model = MLP(2, [2, 1], seed=0)
    model([1.0, 2.0]).backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert all(p.grad == 0.0 for p in model.parameters())
    layer, neuron = Layer(2, 2, seed=0), Neuron(2, seed=0)
    for module in (layer, neuron):
        for p in module.parameters():
            p.grad = 3.0
        module.zero_grad()
        assert all(p.grad == 0.0 for p in module.parameters())


# ---------------------------------------------------------------- randomness
def test_a_seed_names_a_network_and_leaves_the_global_generator_alone():
    random.seed(99)
    before = random.getstate()
    numpy_before = np.random.get_state()[1].tolist()  # noqa: NPY002 - it is the global generator that is asked
    one, two, other = (MLP(3, [4, 2], seed=seed) for seed in (5, 5, 6))
    Neuron(3, seed=1), Layer(3, 2, seed=1), MLP(3, [2], init="he", seed=1)
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002
    assert [p.data for p in one.parameters()] == [p.data for p in two.parameters()]
    assert [p.data for p in one.parameters()] != [p.data for p in other.parameters()]


def test_a_seed_is_what_seeding_the_global_generator_gives():
    state = random.getstate()
    random.seed(5)
    by_global = MLP(3, [4, 2])
    random.setstate(state)
    assert [p.data for p in by_global.parameters()] == [p.data for p in MLP(3, [4, 2], seed=5).parameters()]


def test_seed_zero_is_a_seed():
    random.seed(1)
    before = random.getstate()
    assert Neuron(2, seed=0).w[0].data == Neuron(2, seed=0).w[0].data
    assert random.getstate() == before


@pytest.mark.parametrize("init", ["document", "he", "glorot"])
def test_initialisers_fill_the_model_with_their_numbers(init):
    model = MLP(2, [4, 3, 1], init=init, seed=42)
    W, b = nn.initializers.INITIALIZERS[init]([2, 4, 3, 1], seed=42)
    for k, layer in enumerate(model.layers, 1):
        assert layer.W.data.tolist() == W[k].tolist()
        assert layer.b.data.tolist() == b[k].tolist()
    assert model.layers[0].W[0, 0].name == "w1_11"


def test_an_initialiser_needs_a_seed_and_must_be_known():
    with pytest.raises(ValueError, match=r"init='he' draws from a generator of its own: give it a seed"):
        MLP(2, [1], init="he")
    with pytest.raises(ValueError, match=r"unknown init 'xavier'; known: uniform, document, he, glorot"):
        MLP(2, [1], init="xavier", seed=0)


# ---------------------------------------------------------------- trace, against the hand-derived matrices
OUTPUTS = {  # losses that are finite for what an activation can put out
    "sse": list(ACTIVATIONS),
    "half_sse": list(ACTIVATIONS),
    "mse": list(ACTIVATIONS),
    "bce": ["sigmoid", "softmax"],
    "ce": ["sigmoid", "softmax", "softplus"],
}
CASES = [
    (hidden, last, loss, reduction)
    for loss, lasts in OUTPUTS.items()
    for last in lasts
    for reduction in (["mean_elements"] if loss == "mse" else nn.losses.REDUCTIONS)
    for hidden in (ACTIVATIONS if (last, reduction) in {("sigmoid", "mean"), ("softmax", "sum")} else ["tanh"])
]


def traced(sizes, activations, loss, reduction, X, y, magnification="scalar"):
    """The network after backward, its loss, and the by-hand one of the same parameters after its own."""
    model = MLP(sizes[0], sizes[1:], activations=activations, seed=11, magnification=magnification)
    for number, layer in enumerate(model.layers):  # biases of 0 could hide a missing one
        layer.b.data = np.resize([0.1, -0.2, 0.3], layer.b.shape) / (number + 1)
    z, a = model.trace(X)
    value = nn.LOSSES[loss](y, a[-1]) if loss == "mse" else nn.LOSSES[loss](y, a[-1], reduction)
    value.backward()
    net = nn.by_hand.MLP(sizes, activations, loss, reduction)
    for k, layer in enumerate(model.layers, 1):
        net.W[k], net.b[k] = layer.W.data, layer.b.data
    net.forward(X)
    net.backward(y)
    return model, z, a, value, net


def assert_close(found, expected):
    # relative to the largest entry: softmax and matrix products cancel in single entries
    scale = np.abs(expected).max() + 1e-300
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0.0, atol=ROUNDING)


def assert_traces(model, z, a, value, net, y):
    assert value.data == pytest.approx(net.loss_value(y), rel=ROUNDING)
    assert_close(a[0].grad, net.da[0])
    for k, layer in enumerate(model.layers, 1):
        assert_close(z[k].data, net.z[k])
        assert_close(a[k].data, net.a[k])
        assert_close(z[k].grad, net.dz[k])
        assert_close(a[k].grad, net.da[k])
        assert_close(layer.W.grad, net.dW[k])
        assert_close(layer.b.grad, net.db[k])


@pytest.mark.parametrize("magnification", nn.layers.MAGNIFICATIONS)
@pytest.mark.parametrize(("hidden", "last", "loss", "reduction"), CASES)
def test_a_trace_is_the_matrices_of_the_hand_derived_network(hidden, last, loss, reduction, magnification):
    generator = np.random.RandomState(3)
    X, y = generator.randn(4, 2), generator.dirichlet([1.0, 1.0], size=4)
    assert_traces(*traced([2, 3, 2], [hidden, last], loss, reduction, X, y, magnification), y)


@pytest.mark.parametrize("magnification", nn.layers.MAGNIFICATIONS)
def test_a_deeper_trace_with_one_output(magnification):
    generator = np.random.RandomState(3)
    X, y = generator.randn(5, 3), generator.randint(0, 2, (5, 1)).astype(float)
    names = ["leaky_relu", "softplus", "identity", "sigmoid"]
    assert_traces(*traced([3, 4, 2, 3, 1], names, "bce", "mean", X, y, magnification), y)


@pytest.mark.parametrize("magnification", nn.layers.MAGNIFICATIONS)
def test_a_wrong_formula_is_noticed(monkeypatch, magnification):
    layout = nn.by_hand.LAYOUTS["row"]
    wrong = type(layout)(layout.shape, layout.units, layout.z, layout.dW, lambda dz: dz[:1], layout.da)
    monkeypatch.setitem(nn.by_hand.LAYOUTS, "row", wrong)
    generator = np.random.RandomState(3)
    X, y = generator.randn(4, 2), generator.randn(4, 2)
    case = traced([2, 3, 2], ["tanh", "identity"], "sse", "mean", X, y, magnification)
    with pytest.raises(AssertionError):
        assert_traces(*case, y)


def test_a_trace_has_the_shapes_and_the_placeholder_of_the_document():
    X = np.ones((5, 2))
    model = MLP(2, [3, 1], seed=0)
    z, a = model.trace(X)
    assert z[0] is None
    assert [array.shape for array in z[1:]] == [(5, 3), (5, 1)]
    assert [array.shape for array in a] == [(5, 2), (5, 3), (5, 1)]
    assert a[-1].data.tolist() == model(X).data.tolist()
    assert all(isinstance(array, Scalars) for array in a)


def test_a_trace_keeps_nodes_of_its_input():
    nodes = scalars(np.ones((2, 2)), "x")
    _, a = MLP(2, [1], seed=0).trace(nodes)
    assert a[0][0, 1] is nodes[0, 1]


# ---------------------------------------------------------------- assign
def test_assign_copies_numbers_into_the_same_nodes_and_returns_the_model():
    model = MLP(2, [3, 1], seed=0)
    before = [id(p) for p in model.parameters()]
    W = [np.arange(6.0).reshape(2, 3), [[1.0], [2.0], [3.0]]]
    b = [[0.5, 1.5, 2.5], [[7.0]]]
    assert model.assign(W, b) is model
    assert [id(p) for p in model.parameters()] == before
    assert model.layers[0].W.data.tolist() == W[0].tolist()
    assert model.layers[1].W.data.tolist() == W[1]
    assert model.layers[0].b.data.tolist() == [b[0]]
    assert model.layers[1].b.data.tolist() == b[1]
    W[0][0, 0] = 99.0
    assert model.layers[0].W.data[0, 0] == 0.0
    assert model.layers[0].W[0, 0].name == "w1_11"
    assert all(type(p.data) is float for p in model.parameters())


def test_assign_takes_the_document_s_lists_with_none_in_front():
    model, net = MLP(2, [3, 1], seed=0), nn.by_hand.MLP([2, 3, 1], ["relu", "identity"], "sse").initialize("he", 1)
    model.assign(net.W, net.b)
    assert model.layers[1].W.data.tolist() == net.W[2].tolist()
    model.assign(net.W, net.b[1:])
    X = np.ones((2, 2))
    np.testing.assert_allclose(model(X).data, net.forward(X), rtol=1e-13)


@pytest.mark.parametrize(
    ("W", "b", "message"),
    [
        ([np.ones((2, 3))], [np.ones(3)], r"expected 2 arrays W and as many b, got 1 and 1"),
        ([np.ones((2, 3)), np.ones((3, 1))], [np.ones(3)], r"got 2 and 1"),
        ([], [], r"got 0 and 0"),
        ([None], [None], r"got 0 and 0"),
        (
            [np.ones((3, 2)), np.ones((3, 1))],
            [np.ones(3), np.ones(1)],
            r"W of layer 1 is .*\(2, 3\), got \(3, 2\)",
        ),
        ([np.ones((2, 3)), np.ones(3)], [np.ones(3), np.ones(1)], r"W of layer 2 is .*\(3, 1\), got \(3,\)"),
        ([np.ones((2, 3)), np.ones((3, 1))], [np.ones(3), np.ones(3)], r"b of layer 2 is \(1, 1\), got \(3,\)"),
        (
            [np.ones((2, 3)), np.ones((3, 1))],
            [np.ones((3, 1)), np.ones(1)],
            r"b of layer 1 is \(1, 3\), got \(3, 1\)",
        ),
        ([np.ones((2, 3)), np.ones((3, 1))], [np.ones(3), 1.0], r"b of layer 2 is \(1, 1\), got \(\)"),
        ([np.ones((2, 3)), [[1.0], [2.0], [3.0, 4.0]]], [np.ones(3), np.ones(1)], r"inhomogeneous"),
    ],
)
def test_assign_refuses_what_does_not_fit_and_changes_nothing(W, b, message):
    model = MLP(2, [3, 1], seed=0)
    before = [p.data for p in model.parameters()]
    with pytest.raises(ValueError, match=message):
        model.assign(W, b)
    assert [p.data for p in model.parameters()] == before


@pytest.mark.parametrize("magnification", nn.layers.MAGNIFICATIONS)
@pytest.mark.parametrize("bad", ["1", "x", 1j, Value(1.0), Tensor(1.0), None])
def test_assign_takes_real_numbers_only(bad, magnification):
    model = MLP(2, [1, 2], seed=0, magnification=magnification)
    before = [np.array(p.data).tolist() for p in model.parameters()]
    good = [[[1.0], [2.0]], [[1.0, 2.0]]], [[0.0], [0.0, 0.0]]
    with pytest.raises((TypeError, ValueError)):
        model.assign([good[0][0], [[1.0, bad]]], good[1])
    with pytest.raises((TypeError, ValueError)):
        model.assign(good[0], [[0.0], [bad, 0.0]])
    assert [np.array(p.data).tolist() for p in model.parameters()] == before
    model.assign(*good)


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize("name", ["Relu", "gelu", "", 3, None])
def test_an_unknown_activation_is_refused(name):
    with pytest.raises(ValueError, match=r"unknown activation .*; known: relu, leaky_relu, tanh"):
        MLP(2, [3, 1], activations=["relu", name])
    if name is not None:  # None asks for the default there
        with pytest.raises(ValueError, match=r"unknown activation"):
            Layer(2, 1, activation=name)
        with pytest.raises(ValueError, match=r"unknown activation"):
            Neuron(2, activation=name)


@pytest.mark.parametrize("activations", [["relu"], ["relu"] * 3, [], "relu", "ab"])
def test_one_activation_per_layer(activations):
    with pytest.raises(ValueError, match=r"one activation per layer: expected 2 names, got"):
        MLP(2, [3, 1], activations=activations)


@pytest.mark.parametrize("size", [0, -1, 2.0, 2.5, "2", None, True, [2]])
def test_a_layer_size_is_a_positive_integer(size):
    for make in (
        lambda: MLP(size, [1]),
        lambda: MLP(2, [size, 1]),
        lambda: MLP(2, [3, size]),
        lambda: Neuron(size),
    ):
        with pytest.raises(ValueError, match=r"must be a positive integer"):
            make()
    for make in (lambda: Layer(size, 1), lambda: Layer(1, size)):
        with pytest.raises(ValueError, match=r"must be a positive integer"):
            make()


def test_layer_sizes_may_be_numpy_s_integers():
    assert MLP(np.int64(2), np.array([3, 1]), seed=0).sizes == (2, 3, 1)
    assert len(MLP(2, (3, 1), seed=0).parameters()) == 13


@pytest.mark.parametrize("n_outs", [5, None, "16", [], (), 2.0])
def test_n_outs_is_a_list_of_widths(n_outs):
    with pytest.raises(TypeError, match=r"n_outs is a list with the width of every layer, such as \[16, 16, 1\]"):
        MLP(2, n_outs)


@pytest.fixture(params=nn.layers.MAGNIFICATIONS)
def model(request):
    """MLP(2, [3, 1]) at each magnification."""
    return MLP(2, [3, 1], seed=0, magnification=request.param)


@pytest.mark.parametrize("x", [[1.0], [1.0, 2.0, 3.0], [], np.ones(3), 1.0, "ab"])
def test_a_sample_of_the_wrong_width_is_refused(model, x):
    with pytest.raises(ValueError, match=r"a neuron of 2 inputs takes 2 numbers or nodes, got \d"):
        model(x)
    if isinstance(x, (list, np.ndarray)):
        with pytest.raises(ValueError, match=r"a neuron of 2 inputs takes 2 numbers or nodes, got \d"):
            model.layers[0].neurons[1](x)


@pytest.mark.parametrize("shape", [(5, 3), (5, 1), (2, 0)])
def test_a_batch_of_the_wrong_width_is_refused(model, shape):
    with pytest.raises(ValueError, match=rf"a layer of 2 inputs takes \(n, 2\), got \({shape[0]}, {shape[1]}\)"):
        model(np.ones(shape))


@pytest.mark.parametrize("shape", [(5, 3), (3,), (2,), (2, 2, 2)])
def test_a_trace_of_the_wrong_shape_is_refused_with_the_right_one(model, shape):
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        model.trace(np.ones(shape))


@pytest.mark.parametrize("shape", [(2, 2, 2), ()])
def test_an_array_of_neither_one_nor_two_axes_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        model(np.ones(shape))


@pytest.mark.parametrize(
    "x",
    [["1", "2"], np.array([["1", "2"]]), [1j, 2.0], np.array([[1j, 2.0]]), [None, 1.0]],
)
def test_an_input_holds_numbers_or_nodes(model, x):
    with pytest.raises(TypeError, match=r"real number|one real number"):
        model(x)


@pytest.mark.parametrize("x", [[[1.0, 2.0], [3.0, 4.0]], [(1, 2), (3, 4), (5, 6)], [np.ones(2)], [Tensor(np.ones(2))]])
def test_a_batch_as_a_list_is_told_to_be_an_array(model, x):
    with pytest.raises(TypeError, match=r"pass np\.array\(x\)"):
        model(x)


def test_a_trace_of_strings_is_refused(model):
    with pytest.raises(TypeError, match=r"the input holds <U1, expected real numbers or nodes"):
        model.trace([["1", "2"]])


@pytest.mark.parametrize("shape", [(3,), (4, 2), (1, 4), (3, 1)])
def test_a_target_of_the_wrong_shape_is_refused(shape):
    _, a = MLP(2, [3, 1], seed=0).trace(np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"y has the shape .* and yhat \(4, 1\)"):
        nn.losses.sse(np.zeros(shape), a[-1])


# ---------------------------------------------------------------- the array magnification
def both(n_in, n_outs, **options):
    return [MLP(n_in, n_outs, seed=5, magnification=name, **options) for name in ("scalar", "array")]


@pytest.mark.parametrize("init", ["uniform", "document", "he", "glorot"])
def test_the_same_seed_draws_the_same_numbers_for_both_magnifications(init):
    single, arrays = both(3, [4, 2], init=init)
    assert (single.magnification, arrays.magnification) == ("scalar", "array")
    for few, one in zip(single.layers, arrays.layers, strict=True):
        assert few.W.data.tolist() == one.W.data.tolist()
        assert few.b.data.tolist() == one.b.data.tolist()
    assert repr(arrays) == repr(single)
    random.seed(3)
    drawn = MLP(2, [2], magnification="array").layers[0].W.data.tolist()
    random.seed(3)
    assert drawn == MLP(2, [2]).layers[0].W.data.tolist()


def test_parameters_of_arrays_are_w_and_b_layer_by_layer():
    model = MLP(2, [16, 16, 1], seed=0, magnification="array")
    assert all(type(p) is Tensor for p in model.parameters())
    assert [p.name for p in model.parameters()] == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert [p.shape for p in model.parameters()] == [(2, 16), (1, 16), (16, 16), (1, 16), (16, 1), (1, 1)]
    assert [id(p) for p in model.parameters()] == [id(p) for layer in model.layers for p in (layer.W, layer.b)]
    assert [p.name for p in Layer(2, 3, seed=0, magnification="array").parameters()] == ["W", "b"]


SAMPLES = [
    [0.5, -1.0, 2.0],
    (1, 0, True),
    np.array([0.5, -1.0, 2.0]),
    np.array([1, 2, 3]),
    np.array([1.0, 2.0, 3], dtype=object),
    SHORT,
    SHORT.astype(np.float32),
    SHORT > 0,
    SHORT.astype(object),
    np.asfortranarray(SHORT),
    SHORT[:1],
    SHORT[:0],
]


@pytest.mark.parametrize("last", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(4, 2), (4, 1), (1, 1)], ids=str)
def test_a_network_of_arrays_gives_what_one_of_scalars_does(last, sizes):
    single, arrays = both(3, sizes, activations=["tanh", last])
    for x in SAMPLES:
        expected, found = single(x), arrays(x)
        assert type(found) is Tensor
        numbers = np.array([v.data for v in expected]) if isinstance(expected, list) else expected.data
        assert found.shape == np.shape(numbers)
        # one sum of up to 5 terms per unit, in another order
        np.testing.assert_allclose(found.data, numbers, rtol=1e-13, atol=1e-15)


def test_inputs_of_arrays_may_be_nodes_and_get_gradients():
    single, arrays = both(3, [4, 1], activations=["tanh", "softplus"])
    expected = scalars(SHORT[0])
    single(list(expected)).backward()
    x, parts = Tensor(SHORT[0]), [Tensor(number) for number in SHORT[0]]
    arrays(x).backward()
    np.testing.assert_allclose(x.grad, expected.grad, rtol=1e-13)
    arrays(parts).backward()
    np.testing.assert_array_equal([part.grad for part in parts], x.grad)
    mixed = [parts[0], 2.0, np.float64(3.0)]
    assert arrays(mixed).item() == arrays([SHORT[0, 0], 2.0, 3.0]).item()
    batch = Tensor(SHORT)
    assert arrays.trace(batch)[1][0] is batch
    np.sum(arrays(batch)).backward()
    np.testing.assert_allclose(batch.grad[0], x.grad, rtol=1e-13)  # a product of larger matrices
    assert MLP(1, [1], seed=0, magnification="array")(Tensor(3.0)).shape == ()


def test_a_trace_of_arrays_is_named_and_numbered_as_the_document_s():
    model = MLP(2, [3, 1], activations=["relu", "identity"], seed=0, magnification="array")
    z, a = model.trace(np.ones((5, 2)))
    assert z[0] is None
    assert [node.name for node in z[1:]] == ["z1", "z2"]
    assert [node.name for node in a] == ["X", "a1", "z2"]  # a_2 = z_2 is one node
    assert a[-1].data.tolist() == model(np.ones((5, 2))).data.tolist()


def test_zero_grad_of_arrays():
    model = MLP(2, [2, 1], seed=0, magnification="array")
    model([1.0, 2.0]).backward()
    assert all(p.has_grad for p in model.parameters())
    assert any(p.grad.any() for p in model.parameters())
    model.zero_grad()
    assert not any(p.has_grad or p.grad.any() for p in model.parameters())


def test_assign_gives_tensors_arrays_of_their_own():
    model = MLP(2, [3, 1], seed=0, magnification="array")
    before = model.parameters()
    W, b = [np.arange(6.0).reshape(2, 3), np.ones((3, 1))], [np.array([0.5, 1.5, 2.5]), np.array([[7.0]])]
    assert model.assign([None, *W], [None, *b]) is model
    assert [id(p) for p in model.parameters()] == [id(p) for p in before]
    assert model.layers[0].W.data.tolist() == W[0].tolist()
    assert model.layers[0].b.data.tolist() == [b[0].tolist()]
    assert not any(np.shares_memory(layer.W.data, w) for layer, w in zip(model.layers, W, strict=True))
    nn.SGD(model.parameters(), 0.1).step()
    assert (W[0].tolist(), b[0].tolist()) == ([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], [0.5, 1.5, 2.5])


def test_a_neuron_of_arrays_shows_its_column_and_computes_with_it():
    model = MLP(2, [3, 1], seed=0, magnification="array")
    layer = model.layers[0]
    neuron = layer.neurons[2]
    assert neuron.w.data.tolist() == layer.W.data[:, 2].tolist()
    assert (neuron.b.data, neuron.b.shape, len(neuron.w), repr(neuron)) == (0.0, (), 2, "ReLUNeuron(2)")
    assert not neuron.w.has_grad
    x = [0.5, -2.0]
    assert neuron(x).item() == pytest.approx(layer(x)[2].item(), rel=1e-15)
    neuron.preactivation(x).backward()
    assert layer.W.grad.tolist() == [[0.0, 0.0, 0.5], [0.0, 0.0, -2.0]]
    assert layer.b.grad.tolist() == [[0.0, 0.0, 1.0]]
    assert neuron.w.grad.tolist() == x
    assert neuron.b.grad == 1.0
    for ask in (neuron.parameters, neuron.zero_grad):
        with pytest.raises(TypeError, match=r"its weights are column 2 of the node W1\. Train layer\.parameters\(\)"):
            ask()


@pytest.mark.parametrize(
    "x",
    [
        [Value(1.0), 2.0],
        scalars([1.0, 2.0]),
        scalars(np.ones((3, 2))),
        np.array([[Value(1.0), 2.0]], dtype=object),
    ],
    ids=["list", "array", "batch", "objects"],
)
def test_scalar_nodes_are_no_input_of_a_network_of_arrays(x):
    model = MLP(2, [3, 1], seed=0, magnification="array")
    with pytest.raises(MixedNodes, match=r"a layer of Tensors was given a Value: .* magnification='scalar'"):
        model(x)
    if np.ndim(x) == 2:
        with pytest.raises(MixedNodes, match=r"a layer of Tensors was given a Value"):
            model.trace(x)


@pytest.mark.parametrize(
    "x",
    [
        [Tensor(1.0), 2.0],
        Tensor([1.0, 2.0]),
        Tensor(np.ones((3, 2))),
        np.array([[Tensor(1.0), 2.0]], dtype=object),
    ],
    ids=["list", "array", "batch", "objects"],
)
def test_array_nodes_are_no_input_of_a_network_of_scalars(x):
    model = MLP(2, [3, 1], seed=0)
    with pytest.raises(MixedNodes, match=r"a layer of Values was given a Tensor: .* magnification='array'"):
        model(x)


def test_transforms_go_through_a_network_of_arrays():
    single, arrays = both(2, [3, 1], activations=["tanh", "sigmoid"])
    x = Tensor(SHORT[:, :2])
    np.sum(arrays(x)).backward()
    np.testing.assert_array_equal(ad.grad(lambda X: np.sum(arrays(X)))(SHORT[:, :2]), x.grad)
    # by a float, which starts as a Value and meets Tensors; and by one that meets Values only
    by_float = [ad.grad(lambda t, model=model: model([t, 1.0]))(0.5) for model in (single, arrays)]
    assert by_float[0] == pytest.approx(by_float[1], rel=1e-13)
    assert ad.hessian(lambda x: arrays(x))(np.array([0.5, 1.0])).shape == (2, 2)


@pytest.mark.parametrize("name", ["Scalar", "tensor", "", None, 2, ["array"]])
def test_an_unknown_magnification_is_refused(name):
    for make in (lambda: MLP(2, [1], magnification=name), lambda: Layer(2, 1, magnification=name)):
        with pytest.raises(ValueError, match=r"unknown magnification .*; known: scalar, array"):
            make()


# ---------------------------------------------------------------- activations
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_on_floats_are_those_by_hand(name):
    z = np.array([[0.5, -1.0, 2.0], [0.0, -0.0, 800.0], [-800.0, 1e-300, 3.0]])
    found = nn.activations.activation(name)(z)
    expected = nn.by_hand.ACTIVATIONS[name].value(z, 1)
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(float).eps)
    np.testing.assert_allclose(nn.activations.activation(name)(scalars(z)).data, expected, rtol=1e-15)
    np.testing.assert_array_equal(nn.activations.activation(name)(Tensor(z)).data, found)
    assert set(ACTIVATIONS) == set(nn.by_hand.ACTIVATIONS)


@pytest.mark.parametrize("make", [scalars, Tensor])
def test_softmax_mixes_the_units_of_a_sample_only(make):
    z = make([[1.0, 2.0, 3.0], [1000.0, 1000.0, -1000.0]])
    p = ACTIVATIONS["softmax"](z)
    np.testing.assert_allclose(p.data.sum(axis=1), 1.0, rtol=1e-15)
    assert p.data[1].tolist() == [0.5, 0.5, 0.0]
    p[0, 0].backward()
    first = p.data[0]
    expected = first[0] * (np.array([1.0, 0.0, 0.0]) - first)
    np.testing.assert_allclose(z.grad, [expected, [0.0] * 3], rtol=1e-14, atol=1e-17)


def test_a_layer_of_softmax_on_a_list_is_its_row():
    layer = Layer(2, 3, activation="softmax", seed=2)
    out = layer([0.5, -0.25])
    assert functools.reduce(operator.add, out).data == pytest.approx(1.0, rel=1e-15)
    assert [node.data for node in out] == pytest.approx(layer(np.array([[0.5, -0.25]])).data[0], rel=1e-13)
    assert repr(layer).count("SoftmaxNeuron(2)") == 3


@pytest.mark.parametrize(("samples", "name"), [(1, "a1_2"), (3, "a1_3,2")])
def test_what_a_trace_gives_has_the_names_of_the_units(samples, name):
    model = nn.MLP(2, [3, 1], activations=["tanh", "identity"], seed=0)
    z, a = model.trace(np.ones((samples, 2)))
    assert a[1][-1, 1].name == name
    assert z[1][-1, 1].name == name.replace("a", "z")
    assert a[0][-1, 1].name == name.replace("a1", "x")
    assert a[2][0, 0] is z[2][0, 0]  # of the identity
    names = [node.name for array in (*z[1:], *a[:2]) for node in array.flat]
    assert len(set(names)) == len(names)
