"""Optimisers: the step, the gradients they refuse, what they are built from."""

import math

import numpy as np
import pytest

import nn
from autodiff import Tensor, Value, updates
from nn.optim import SGD, Adam, Optimiser

BAD = [math.nan, math.inf, -math.inf]


def with_grads(*pairs):
    parameters = [Value(data, f"p{number}") for number, (data, _) in enumerate(pairs)]
    for parameter, (_, grad) in zip(parameters, pairs, strict=True):
        parameter.grad = grad
    return parameters


def test_a_step_goes_against_the_gradient():
    parameters = with_grads((1.0, 0.5), (-2.0, -4.0), (3.0, 0.0))
    assert SGD(parameters, learning_rate=0.1).step() is None
    assert [p.data for p in parameters] == [1.0 - 0.1 * 0.5, -2.0 - 0.1 * -4.0, 3.0]
    assert [p.grad for p in parameters] == [0.5, -4.0, 0.0]  # a step leaves the gradients


def test_a_step_of_arrays_goes_against_the_gradient_in_new_arrays():
    given = np.array([1.0, -2.0, 3.0])
    p = Tensor(given)
    p.grad = [0.5, -4.0, 0.0]
    q = Value(1.0)
    q.grad = 2.0
    SGD([p, q], learning_rate=0.1).step()
    assert p.data.tolist() == [1.0 - 0.1 * 0.5, -2.0 - 0.1 * -4.0, 3.0]
    assert q.data == 1.0 - 0.1 * 2.0
    assert given.tolist() == [1.0, -2.0, 3.0]
    given.flags.writeable = False
    SGD([Tensor(given)], learning_rate=0.1).step()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0,)], ids=str)
def test_a_step_keeps_the_shape_and_the_precision_of_an_array(shape, kind):
    p = Tensor(np.ones(shape, kind))
    p.grad = np.ones(shape)
    SGD([p], 0.25).step()
    assert type(p.data) is np.ndarray
    assert (p.shape, p.dtype) == (shape, kind)
    assert np.all(p.data == 0.75)


@pytest.mark.parametrize("p", [Value(1.0), Tensor(1.0), Tensor([1.0, 1.0])])
def test_a_parameter_no_backward_pass_has_reached_stays(p):
    SGD([p], 0.1).step()
    assert np.all(p.data == 1.0)


def test_zero_grad():
    parameters = with_grads((1.0, 0.5), (2.0, math.nan))
    assert SGD(parameters, 0.1).zero_grad() is None
    assert [p.grad for p in parameters] == [0.0, 0.0]
    assert [p.data for p in parameters] == [1.0, 2.0]


def test_without_zero_grad_gradients_accumulate():
    p = Value(3.0)
    sgd = SGD([p], 0.1)
    (p * p).backward()
    (p * p).backward()
    assert p.grad == 12.0
    sgd.zero_grad()
    (p * p).backward()
    assert p.grad == 6.0


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_gradient_and_nothing_moves(bad, place):
    parameters = with_grads((1.0, 0.5), (2.0, 0.5), (3.0, 0.5))
    parameters[place].grad = bad
    with pytest.raises(ValueError, match=rf"the gradient of Value\(.*name='p{place}'\) is not finite; no parameter"):
        SGD(parameters, 0.1).step()
    assert [p.data for p in parameters] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_entry_of_an_array_and_nothing_moves(bad):
    parameters = [Tensor([1.0, 2.0], "W1"), Value(3.0), Tensor([[4.0]], "b1")]
    for p in parameters:
        p.grad = 1.0
    parameters[0].grad = [0.5, bad]
    with pytest.raises(ValueError, match=r"the gradient of Tensor\(.*name='W1'\) is not finite; no parameter"):
        SGD(parameters, 0.1).step()
    assert [np.array(p.data).tolist() for p in parameters] == [[1.0, 2.0], 3.0, [[4.0]]]


@pytest.mark.parametrize("make", [Value, Tensor])
def test_descent_on_a_parabola_is_the_closed_form(make):
    p = make(1.0)
    sgd = SGD([p], learning_rate=0.125)
    for _ in range(10):
        sgd.zero_grad()
        (p * p).backward()
        sgd.step()
    assert p.data == 0.75**10  # p <- p (1 - 2/8): few binary digits, exact


@pytest.mark.parametrize("magnification", nn.layers.MAGNIFICATIONS)
def test_descent_lowers_the_loss_of_a_network(magnification):
    model = nn.MLP(2, [4, 1], seed=0, magnification=magnification)
    sgd = SGD(model.parameters(), learning_rate=0.05)
    X, y = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[1.0], [0.0], [0.5]])
    losses = []
    for _ in range(30):
        loss = nn.losses.mse(y, model(X))
        losses.append(loss.item())
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("magnification", nn.layers.MAGNIFICATIONS)
def test_it_is_the_by_hand_update(magnification):
    model = nn.MLP(2, [3, 2], activations=["tanh", "identity"], seed=4, magnification=magnification)
    net = nn.by_hand.MLP([2, 3, 2], ["tanh", "identity"], "sse")
    for k, layer in enumerate(model.layers, 1):
        net.W[k], net.b[k] = layer.W.data, layer.b.data
    X, y = np.array([[0.5, -1.0], [2.0, 0.25]]), np.zeros((2, 2))
    nn.losses.sse(y, model(X)).backward()
    SGD(model.parameters(), 0.1).step()
    net.forward(X)
    net.backward(y)
    net.update(0.1)
    for k, layer in enumerate(model.layers, 1):
        # sums of 6 products in another order
        np.testing.assert_allclose(layer.W.data, net.W[k], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(layer.b.data, net.b[k], rtol=1e-13, atol=1e-14)


def test_parameters_may_be_any_iterable_and_are_read_once():
    p, q = Value(1.0), Value(2.0)
    sgd = SGD((v for v in (p, q)), 0.5)
    p.grad = q.grad = 1.0
    sgd.step()
    sgd.step()
    assert (p.data, q.data) == (0.0, 1.0)
    SGD([], 0.1).step()


def test_a_shared_parameter_moves_once():
    p = Value(1.0)
    p.grad = 1.0
    SGD([p, p], 0.25).step()  # tied weights, listed with both of their layers
    assert p.data == 0.75


@pytest.mark.parametrize("rate", [0.0, -0.0, -0.1, math.nan, math.inf, -math.inf, 0, np.float64(-1.0)])
def test_a_learning_rate_is_positive_and_finite(rate):
    with pytest.raises(ValueError, match="learning_rate is a positive number, got"):
        SGD([Value(1.0)], learning_rate=rate)


@pytest.mark.parametrize("rate", ["0.1", None, [0.1], 1j, Value(0.1)])
def test_a_learning_rate_is_a_number(rate):
    with pytest.raises(TypeError):
        SGD([Value(1.0)], learning_rate=rate)


@pytest.mark.parametrize(("parameter", "kind"), [(1.0, "float"), ("p", "str"), (None, "NoneType"), ([], "list")])
def test_a_parameter_is_a_node(parameter, kind):
    with pytest.raises(TypeError, match=rf"SGD takes Values and Tensors, got {kind}; try model\.parameters\(\)"):
        SGD([Value(1.0), parameter], 0.1)


@pytest.mark.parametrize("computed", [Value(1.0) * 2.0, Tensor([1.0]) * 2.0])
def test_a_parameter_is_a_leaf(computed):
    with pytest.raises(
        ValueError, match=r"SGD moves leaves, and .* was computed, by mul: .* try model\.parameters\(\)"
    ):
        SGD([computed], 0.1)


def test_a_model_is_no_list_of_parameters():
    model = nn.MLP(2, [1], seed=0)
    with pytest.raises(TypeError):
        SGD(model, 0.1)
    with pytest.raises(TypeError, match=r"try model\.parameters"):
        SGD(model.layers[0].W, 0.1)  # rows of a matrix
    with pytest.raises(TypeError, match=r"SGD takes a list of nodes, got Tensor; try model\.parameters"):
        SGD(nn.MLP(2, [1], seed=0, magnification="array").layers[0].W, 0.1)
    with pytest.raises(TypeError):
        SGD(Value(1.0), 0.1)


# --- momentum and Adam ---

START, CENTRE = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.25, -1.0])


def by_momentum(gradient, p, steps):
    b = gradient(p)
    for t in range(steps):
        if t:
            b = 0.9 * b + gradient(p)
        p = p - 0.1 * b
    return p


def by_nesterov(gradient, p, steps):
    b = np.zeros_like(p)
    for _ in range(steps):
        g = gradient(p) + 0.01 * p
        b = 0.9 * b + g
        p = p - 0.1 * (g + 0.9 * b)
    return p


def by_adam(gradient, p, steps):
    m = v = np.zeros_like(p)
    for t in range(1, steps + 1):
        g = gradient(p)
        m, v = 0.8 * m + 0.2 * g, 0.99 * v + 0.01 * g * g
        p = p - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-3)
    return p


OPTIMISERS = {
    "momentum": (lambda p: SGD(p, 0.1, momentum=0.9), by_momentum),
    "nesterov": (lambda p: SGD(p, 0.1, 0.9, nesterov=True, weight_decay=0.01), by_nesterov),
    "adam": (lambda p: Adam(p, 0.1, (0.8, 0.99), eps=1e-3), by_adam),
    "rule": (lambda p: Optimiser(p, updates.Adam(0.1, (0.8, 0.99), 1e-3)), by_adam),
}


@pytest.mark.parametrize("kind", ["values", "tensor", "both", "float32"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_follow_the_formula(name, kind):
    make, formula = OPTIMISERS[name]
    if kind == "values":
        parameters = [Value(x) for x in START]
    elif kind == "both":
        parameters = [Value(START[0]), Tensor(START[1:2]), Tensor(START[2])]
    else:
        parameters = [Tensor(START.astype(np.float32 if kind == "float32" else float))]
    centres = [x.item() for x in CENTRE] if kind == "values" else [CENTRE[0], CENTRE[1:2], CENTRE[2]]
    optimiser = make(parameters)
    for _ in range(15):
        optimiser.zero_grad()
        if len(parameters) == 1:
            ((parameters[0] - CENTRE) ** 2 + 0.5 * parameters[0]).sum().backward()
        else:
            for p, c in zip(parameters, centres, strict=True):
                y = (p - c) ** 2 + 0.5 * p
                (y.sum() if isinstance(y, Tensor) else y).backward()
        optimiser.step()
    found = np.concatenate([np.ravel(p.data) for p in parameters])
    rounding = 1e-4 if kind == "float32" else 1e-12
    np.testing.assert_allclose(found, formula(lambda p: 2.0 * (p - CENTRE) + 0.5, START, 15), rtol=rounding)
    assert all(type(p.data) is (float if isinstance(p, Value) else np.ndarray) for p in parameters)
    if kind == "float32":
        assert parameters[0].dtype == np.float32


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_bad_gradient_leaves_the_state_as_it_is(name, bad):
    make, _ = OPTIMISERS[name]
    [one, other] = pairs = [[Value(1.0), Tensor([2.0])] for _ in range(2)]
    optimisers = [make(parameters) for parameters in pairs]
    for parameters, optimiser in zip(pairs, optimisers, strict=True):
        for grads in ((0.5, 0.25), (0.125, 1.0)):
            for p, grad in zip(parameters, grads, strict=True):
                p.grad = grad
            optimiser.step()
            if optimiser is optimisers[0]:
                parameters[1].grad = [bad]
                with pytest.raises(ValueError, match="not finite; no parameter was moved"):
                    optimiser.step()
    assert (one[0].data, one[1].data.tolist()) == (other[0].data, other[1].data.tolist())


def test_the_learning_rate_may_change_on_the_way():
    p = Value(1.0)
    optimiser = SGD([p], 0.5, momentum=0.5)
    p.grad = 1.0
    optimiser.step()
    optimiser.learning_rate = 0.25
    optimiser.step()
    assert p.data == 1.0 - 0.5 - 0.25 * 1.5
    assert (optimiser.learning_rate, optimiser.rule.momentum) == (0.25, 0.5)
    with pytest.raises(ValueError, match="learning_rate is a positive number"):
        optimiser.learning_rate = 0.0


def test_the_errors_name_the_optimiser():
    with pytest.raises(TypeError, match="Adam takes Values and Tensors, got float"):
        Adam([1.0])
    with pytest.raises(ValueError, match="Adam moves leaves"):
        Adam([Value(1.0) * 2.0])
    with pytest.raises(ValueError, match="betas are two numbers"):
        Adam([Value(1.0)], betas=(1.0, 0.9))
