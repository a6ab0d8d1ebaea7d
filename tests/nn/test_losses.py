"""Losses against scikit-learn, mpmath and HIPS autograd, which share nothing with the scalar graph."""

import math
import warnings

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

import nn
from autodiff import MixedNodes, Tensor, Value, scalars, sigmoid
from nn import losses
from nn.losses import LOSSES, REDUCTIONS, bce, bce_with_logits, ce, half_sse, mse, sse

RNG = np.random.RandomState(7)
EPSILON = np.finfo(float).eps
# Sums of up to 12 terms of one sign, each correct to a few ulp
VALUE = {"rtol": 64 * EPSILON, "atol": 0.0}
# Per element a handful of operations without cancellation between large numbers
GRADIENT = {"rtol": 1e-13, "atol": 1e-15}

SHAPES = [(1, 1), (4, 1), (1, 3), (4, 3), (5,)]
DIVISORS = {
    "sum": lambda shape: 1,
    "mean": lambda shape: shape[0],
    "mean_elements": lambda shape: math.prod(shape),
}

ORACLES = {  # the sum over samples and outputs
    "sse": lambda y, x: anp.sum((y - x) ** 2),
    "half_sse": lambda y, x: anp.sum((y - x) ** 2) / 2,
    "bce": lambda y, x: -anp.sum(y * anp.log(x) + (1 - y) * anp.log(1 - x)),
    "bce_with_logits": lambda y, x: anp.sum(anp.logaddexp(0.0, x) - y * x),
    "ce": lambda y, x: -anp.sum(y * anp.log(x)),
}
REDUCED = {"sse": sse, "half_sse": half_sse, "bce": bce, "bce_with_logits": bce_with_logits, "ce": ce}


def batch(name, shape):
    """(y, yhat): probabilities for the entropies, anything for the others; some hard labels, some soft."""
    y, yhat = RNG.uniform(0.05, 0.95, shape), RNG.uniform(0.05, 0.95, shape)
    y.flat[0] = 1.0
    return (y, yhat) if name in ("bce", "ce") else (y, RNG.randn(*shape) * 3)


# ---------------------------------------------------------------- values and gradients
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", REDUCED)
def test_value_and_gradient_are_those_of_the_definition(name, reduction, shape):
    y, x = batch(name, shape)
    divisor = DIVISORS[reduction](shape)
    expected = ORACLES[name](y, x) / divisor
    found = REDUCED[name](y, x, reduction)
    assert type(found) is float
    np.testing.assert_allclose(found, expected, **VALUE)

    gradient = autograd.grad(lambda x: ORACLES[name](y, x) / divisor)(x)
    for make, kind in ((scalars, Value), (Tensor, Tensor)):
        nodes = make(x)
        loss = REDUCED[name](y, nodes, reduction)
        assert type(loss) is kind
        assert np.shape(loss.data) == ()
        np.testing.assert_allclose(loss.data, found, **VALUE)
        loss.backward()
        np.testing.assert_allclose(nodes.grad, gradient, **GRADIENT)


@pytest.mark.parametrize("name", REDUCED)
def test_gradients_are_differences(name):
    y, x = batch(name, (3, 2))
    nodes = scalars(x)
    REDUCED[name](y, nodes).backward()
    h = 1e-6
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        slope = (REDUCED[name](y, x + step) - REDUCED[name](y, x - step)) / (2 * h)
        # truncation h**2 times a third derivative below 2 / 0.05**3, and rounding 1e-16 * 10 / h
        assert nodes.grad[index] == pytest.approx(slope, abs=3e-8)


def test_a_doubled_loss_is_noticed():
    y, x = batch("sse", (4, 3))
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(sse(y, x), ORACLES["half_sse"](y, x) / 4, **VALUE)


@pytest.mark.parametrize("make", [scalars, Tensor])
@pytest.mark.parametrize("name", ["bce", "ce", "bce_with_logits"])
def test_targets_may_be_nodes(name, make):
    y, x = batch(name, (3, 2))
    y[1] = 0.0, 1.0  # hard labels have gradients like any other
    targets = make(y)
    loss = REDUCED[name](targets, x)
    assert loss.data == pytest.approx(ORACLES[name](y, x) / 3, rel=64 * EPSILON)
    loss.backward()
    gradient = autograd.grad(lambda y: ORACLES[name](y, x) / 3)(y)
    np.testing.assert_allclose(targets.grad, gradient, rtol=1e-12)


def test_mse_is_scikit_learn_s():
    y, yhat = RNG.randn(6, 3), RNG.randn(6, 3)
    assert mse(y, yhat) == pytest.approx(mean_squared_error(y, yhat), rel=64 * EPSILON)
    assert sse(y, yhat, "mean_elements") == mse(y, yhat)
    assert sse(y[:, 0], yhat[:, 0]) == pytest.approx(mean_squared_error(y[:, 0], yhat[:, 0]), rel=64 * EPSILON)


def test_bce_is_scikit_learn_s():
    y, yhat = np.array([0, 1, 1, 0, 1]), RNG.uniform(0.01, 0.99, 5)
    assert bce(y, yhat) == pytest.approx(log_loss(y, yhat), rel=64 * EPSILON)
    assert bce(y, yhat, "sum") == pytest.approx(log_loss(y, yhat, normalize=False), rel=64 * EPSILON)
    assert bce(y.reshape(-1, 1), yhat.reshape(-1, 1)) == bce(y, yhat)


def test_ce_is_scikit_learn_s():
    labels = np.array([0, 2, 1, 1, 0, 2])
    p = RNG.dirichlet([1.0, 2.0, 3.0], size=6)
    assert ce(np.eye(3)[labels], p) == pytest.approx(log_loss(labels, p), rel=64 * EPSILON)
    assert ce(np.eye(3)[labels], p, "sum") == pytest.approx(log_loss(labels, p, normalize=False), rel=64 * EPSILON)


@pytest.mark.parametrize("yhat", [0.5, 0.01, 0.99, 1e-10, 1e-300, 1 - 1e-10, 1 - 2**-53])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_bce_of_one_element_is_mpmath_s(y, yhat):
    with mpmath.workdps(400):
        exact = -(y * mpmath.log(yhat) + (1 - y) * mpmath.log(1 - mpmath.mpf(yhat)))
    # 1 - yhat is rounded to epsilon/2, which the derivative (1 - y) / (1 - yhat) of the logarithm magnifies
    rounding = EPSILON * ((1 - y) / (1 - yhat) + abs(float(exact)))
    assert abs(bce([y], [yhat]) - float(exact)) <= 2 * rounding


@pytest.mark.parametrize("name", ["sse", "half_sse", "mse"])
def test_squares_do_not_depend_on_the_order_of_y_and_yhat_but_their_gradient_does(name):
    yhat = scalars([[3.0]])
    LOSSES[name]([[1.0]], yhat).backward()
    assert yhat.grad.item() == (2.0 if name == "half_sse" else 4.0)


# ---------------------------------------------------------------- 0 log 0 and saturation
@pytest.mark.parametrize(
    ("loss", "y", "yhat", "value", "gradient"),
    [
        (bce, [0.0], [0.0], 0.0, [1.0]),
        (bce, [1.0], [1.0], 0.0, [-1.0]),
        (ce, [0.0, 1.0], [0.0, 1.0], 0.0, [0.0, -1.0]),
        (ce, [0.0], [0.0], 0.0, [0.0]),
        (bce, [0.0, 1.0], [0.0, 1.0], 0.0, [1.0, -1.0]),
        (bce, [1.0], [5e-324], 744.4400719213812, [-math.inf]),
        (ce, [1.0], [1e-300], 690.7755278982137, [-1e300]),
        (bce, [0.0], [5e-324], 0.0, [1.0]),
        (bce, [1.0], [1e-300], 690.7755278982137, [-1e300]),
        (bce, [0.0], [1 - 2**-53], 36.7368005696771, [2.0**53]),
    ],
)
def test_saturated_probabilities(loss, y, yhat, value, gradient):
    overflows = not np.all(np.isfinite(gradient))  # 1 / 5e-324 is infinite in floats, with NumPy's warning
    with np.errstate(over="ignore" if overflows else "warn"):
        assert loss(y, np.array(yhat), "sum") == pytest.approx(value, rel=1e-15)
        for make in (scalars, Tensor):
            nodes = make(yhat)
            total = loss(y, nodes, "sum")
            total.backward()
            assert total.data == pytest.approx(value, rel=1e-15)
            np.testing.assert_allclose(nodes.grad, gradient, rtol=1e-15)


@pytest.mark.parametrize(("loss", "y", "yhat"), [(bce, 1.0, 0.0), (bce, 0.0, 1.0), (ce, 1.0, 0.0), (bce, 0.5, 0.0)])
def test_what_is_excluded_and_happened_is_infinite_with_a_warning(loss, y, yhat):
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert loss([y], [yhat]) == math.inf
    for make in (scalars, Tensor):
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            assert loss([y], make([yhat])).data == math.inf
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        loss([y], [yhat])


@pytest.mark.parametrize("loss", [sse, half_sse, mse, bce, bce_with_logits, ce])
@pytest.mark.parametrize("place", ["y", "yhat"])
def test_nan_passes_through_without_a_warning(loss, place):
    y, yhat = ([math.nan, 1.0], [0.5, 0.5]) if place == "y" else ([0.0, 1.0], [math.nan, 0.5])
    if loss is ce and place == "yhat":
        y = [1.0, 0.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(loss(y, yhat))


# ---------------------------------------------------------------- logits
LOGITS = [0.0, -0.0, 1e-300, 0.5, -0.5, 1.0, 20.0, -20.0, 36.0, 40.0, -40.0, 700.0, -700.0, 745.0, 1000.0, -1000.0]
HUGE = [1e16, -1e16, 1e308, -1e308]


def exact_bce_with_logits(y, z):
    """(value, derivative) of -y log s(z) - (1 - y) log(1 - s(z)), both from terms of one sign."""
    with mpmath.workdps(60):
        y, z = mpmath.mpf(y), mpmath.mpf(z)
        up, down = (mpmath.log1p(mpmath.exp(-abs(z))) + max(s * z, 0) for s in (1, -1))
        s_up, s_down = (1 / (1 + mpmath.exp(-s * z)) for s in (1, -1))
        return (
            float(y * down + (1 - y) * up),
            float((1 - y) * s_up - y * s_down),
            float((1 - y) * s_up + y * s_down),
        )


@pytest.mark.parametrize("z", LOGITS + HUGE)
@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_bce_with_logits_is_exact_for_any_z(y, z):
    value, derivative, size = exact_bce_with_logits(y, z)
    # A few ulp of the value itself, also where it is tiny: that is what "exact for any z" promises. 5e-324 is the
    # smallest float there is.
    assert bce_with_logits([y], [z]) == pytest.approx(value, rel=8 * EPSILON, abs=5e-324)
    nodes = scalars([z])
    loss = bce_with_logits([y], nodes)
    loss.backward()
    assert loss.data == pytest.approx(value, rel=8 * EPSILON, abs=5e-324)
    assert abs(nodes.grad[0] - derivative) <= 8 * EPSILON * size + 5e-324
    array = Tensor([z])
    loss = bce_with_logits([y], array)
    loss.backward()
    assert loss.item() == pytest.approx(value, rel=8 * EPSILON, abs=5e-324)
    assert abs(array.grad[0] - derivative) <= 8 * EPSILON * size + 5e-324


@pytest.mark.parametrize("z", [*LOGITS[:8], 30.0, -30.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_bce_with_logits_is_bce_of_a_sigmoid(y, z):
    # sigmoid(z) is rounded, and 1 - sigmoid(z) is as small as exp(-30)
    assert bce_with_logits([y], [z]) == pytest.approx(bce([y], [sigmoid(z)]), abs=EPSILON * math.exp(30.0) + 1e-15)


# ---------------------------------------------------------------- shapes, kinds, names
@pytest.mark.parametrize("loss", [sse, half_sse, mse, bce, bce_with_logits, ce])
@pytest.mark.parametrize(
    ("y", "yhat"),
    [
        (np.zeros((4, 1)), np.full(4, 0.5)),
        (np.zeros(1), np.full((4, 1), 0.5)),
        (np.zeros((1, 4)), np.full((4, 1), 0.5)),
        (np.zeros((4, 2)), np.full((4, 1), 0.5)),
        (np.zeros(3), np.full(4, 0.5)),
        (0.0, np.full(4, 0.5)),
        (np.zeros(4), scalars(np.full((4, 2), 0.5))),
        (np.zeros((4, 1)), Tensor(np.full(4, 0.5))),
        (np.zeros(2), Tensor(0.5)),
    ],
)
def test_shapes_that_numpy_would_broadcast_are_refused(loss, y, yhat):
    with pytest.raises(ValueError, match=r"y has the shape .* reshape y to the shape of yhat \(NumPy would"):
        loss(y, yhat)


@pytest.mark.parametrize("loss", [sse, half_sse, mse, bce, bce_with_logits, ce])
@pytest.mark.parametrize("shape", [(0,), (0, 1), (0, 0), (3, 0), (2, 2, 2)])
def test_batches_of_no_sample_or_no_output_or_too_many_axes_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"got the shape"):
        loss(np.zeros(shape), np.full(shape, 0.5))


@pytest.mark.parametrize(
    ("y", "yhat", "name"),
    [
        (["1"], [0.5], "y"),
        ([1.0], ["0.5"], "yhat"),
        ([1.0], [0.5 + 0j], "yhat"),
        ([1j], [0.5], "y"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), [0.5], "y"),
    ],
)
def test_what_is_no_number_is_refused(y, yhat, name):
    with pytest.raises(TypeError, match=rf"^{name} holds .*, expected real numbers or nodes"):
        sse(y, yhat)


@pytest.mark.parametrize("bad", [None, "0.5", 1j])
def test_what_is_no_number_in_an_array_of_objects_is_refused(bad):
    with pytest.raises(TypeError, match="real number"):
        sse([1.0], np.array([bad], dtype=object))


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8, np.bool_])
def test_any_real_kind_will_do(kind):
    assert sse(np.array([1, 0], dtype=kind), np.array([0, 0], dtype=kind), "sum") == 1.0
    assert bce(np.array([1, 0], dtype=kind), np.array([0.5, 0.5])) == pytest.approx(math.log(2.0), rel=1e-15)


def test_unsigned_integers_do_not_wrap_around():
    assert sse(np.array([3], dtype=np.uint8), np.array([1], dtype=np.uint8)) == 4.0


def test_lists_of_nodes_and_single_nodes_will_do():
    p, q = Value(0.5), Value(0.25)
    loss = bce([1.0, 0.0], [p, q], "sum")
    loss.backward()
    assert loss.data == pytest.approx(-math.log(0.5) - math.log(0.75), rel=1e-15)
    assert (p.grad, q.grad) == (-2.0, 1.0 / 0.75)
    single = sse([1.0], Value(3.0))
    assert isinstance(single, Value)
    assert single.data == 4.0


def test_lists_of_array_nodes_and_single_ones_will_do():
    p, q = Tensor(0.5), Tensor(0.25)
    loss = bce([1.0, 0.0], [p, q], "sum")
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(0.5) - math.log(0.75), rel=1e-15)
    assert (p.grad, q.grad) == (-2.0, 1.0 / 0.75)
    rows = [Tensor([1.0, 2.0]), Tensor([3.0, 5.0])]
    assert sse(np.zeros((2, 2)), rows, "sum").item() == 39.0
    single = sse([1.0], Tensor(3.0))
    assert single.shape == ()
    assert single.item() == 4.0


@pytest.mark.parametrize("loss", [sse, half_sse, mse, bce, bce_with_logits, ce])
def test_targets_and_outputs_are_nodes_of_one_kind(loss):
    for y, yhat in ((scalars([0.5]), Tensor([0.5])), (Tensor([0.5]), scalars([0.5])), (Tensor([0.5]), Value(0.5))):
        with pytest.raises(MixedNodes):
            loss(y, yhat)


def test_inputs_are_not_changed():
    y, yhat = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])
    for loss in LOSSES.values():
        loss(y, yhat)
        loss(y, Tensor(yhat)).backward()
    assert y.tolist() == yhat.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("loss", [sse, half_sse, bce, bce_with_logits, ce])
@pytest.mark.parametrize("reduction", ["none", "Mean", "", None, 1, "average"])
def test_an_unknown_reduction_is_refused(loss, reduction):
    with pytest.raises(ValueError, match=r"unknown reduction .*; known: sum, mean, mean_elements"):
        loss([1.0], [0.5], reduction)


def test_the_default_is_the_mean_over_samples():
    for name, loss in REDUCED.items():
        y, x = batch(name, (4, 3))
        assert loss(y, x) == loss(y, x, "mean")
        assert loss(y, x) == pytest.approx(3 * loss(y, x, "mean_elements"), rel=4 * EPSILON)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_found_by_name(name):
    assert losses.loss(name) is LOSSES[name] is nn.LOSSES[name]
    assert set(LOSSES) == set(nn.by_hand.LOSSES)


@pytest.mark.parametrize("name", ["mae", "", None, 3, ["sse"]])
def test_an_unknown_loss_is_refused(name):
    with pytest.raises(ValueError, match=r"unknown loss .*; known: sse, half_sse, mse, bce, ce"):
        losses.loss(name)


@pytest.mark.parametrize("loss", [sse, half_sse, mse, bce, bce_with_logits, ce])
def test_labels_of_one_axis_fit_one_output(loss):
    y, yhat = np.array([0.0, 1.0, 1.0]), np.array([[0.2], [0.7], [0.4]])
    assert loss(y, yhat) == loss(y.reshape(-1, 1), yhat)
    assert loss(y, scalars(yhat)).data == loss(y.reshape(-1, 1), scalars(yhat)).data
    assert loss(y, Tensor(yhat)).item() == loss(Tensor(y), Tensor(yhat)).item() == loss(y, yhat)
