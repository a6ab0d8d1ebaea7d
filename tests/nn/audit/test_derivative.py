"""check_derivative: right derivatives stay right, planted mistakes are named, kinks and epsilons are notes."""

import math

import numpy as np
import pytest

from nn import by_hand, losses
from nn.audit.derivative import check_derivative

EPSILON = float(np.finfo(float).eps)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def slope_of_sigmoid(z):
    return sigmoid(z) * (1 - sigmoid(z))


def clipped_sigmoid(z):
    return 1 / (1 + np.exp(-z.clip(-500, 500)))


def published_loss(y, yhat):
    log, rest = np.log(yhat.clip(EPSILON)), np.log((1 - yhat).clip(EPSILON))
    return -(y.T @ log + (1 - y.T) @ rest) / y.shape[1]


def published_slope(y, yhat):
    return -np.divide(y, yhat.clip(EPSILON)) + np.divide(1 - y, (1 - yhat).clip(EPSILON))


def squares(y, yhat):
    return np.sum((y - yhat) ** 2)


def bce(y, yhat):
    return (1 - y) / (1 - yhat) - y / yhat


# ---------------------------------------------------------------- right
ELEMENTWISE = {name: f for name, f in by_hand.ACTIVATIONS.items() if name != "softmax"}


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_hand_derived_derivatives_are_right(name, seed):
    report = check_derivative(ELEMENTWISE[name].derivative, name, seed=seed)
    assert report.ok is True, str(report)
    assert check_derivative(ELEMENTWISE[name].derivative, ELEMENTWISE[name].f, seed=seed).ok is True


@pytest.mark.parametrize(
    ("claimed", "f"),
    [
        (slope_of_sigmoid, sigmoid),
        (slope_of_sigmoid, clipped_sigmoid),
        (lambda z: slope_of_sigmoid(z).astype(np.float32), sigmoid),
        (lambda z: 1 - np.tanh(z) ** 2, np.tanh),
        (lambda z: (z > 0).astype(float), lambda z: np.maximum(0, z)),
        (lambda z: (z >= 0).astype(float), "relu"),
        (lambda z: 1.0, "identity"),
        (lambda z: np.where((z > 0) & (z < 6), 1.0, 0.0), lambda z: np.clip(z, 0, 6)),
        (math.cos, math.sin),
        (lambda z: 1 / z, np.log),
        (lambda z: 3 * z**2, lambda z: z**3),
        (lambda z: sigmoid(z) + z * slope_of_sigmoid(z), lambda z: z * sigmoid(z)),
        ("tanh", np.tanh),
        (lambda y, yhat: 2 * (yhat - y), squares),
        (lambda y, yhat: 2 * (yhat - y), "sse"),
        (lambda y, yhat: yhat - y, "half_sse"),
        (lambda y, yhat: 2 * (yhat - y) / yhat.size, "mse"),
        (bce, "bce"),
        (lambda y, yhat: (yhat - y) / (yhat * (1 - yhat)) / len(y), losses.bce),
        (lambda y, yhat: -y / yhat, "ce"),
        (lambda y, yhat: np.sign(yhat - y), lambda y, yhat: np.abs(yhat - y)),
        (lambda y, yhat: np.clip(yhat - y, -1, 1), lambda y, yhat: np.where(
            np.abs(yhat - y) < 1, (yhat - y) ** 2 / 2, np.abs(yhat - y) - 0.5)),
        ("bce", "bce"),
        (lambda z: np.cos(z) / z - np.sin(z) / z**2, lambda z: np.sin(z) / z),
        (lambda y, yhat: np.tanh(yhat - y), lambda y, yhat: np.sum(np.log(np.cosh(yhat - y)))),
    ],
)  # fmt: skip
def test_right_claims_are_right(claimed, f):
    report = check_derivative(claimed, f)
    assert report.ok is True, str(report)
    assert report.causes == ()


def test_a_choice_at_the_kink_is_a_note():
    for claimed in (lambda z: (z >= 0) * 1.0, lambda z: np.where(z == 0, 7.0, (z > 0) * 1.0)):
        report = check_derivative(claimed, "relu")
        assert report.ok is True
        assert any("kink at z = 0" in note or "the kink z = 0" in note for note in report.notes)


def test_the_published_cross_entropy_is_right_up_to_its_epsilon():
    report = check_derivative(published_slope, published_loss)
    assert report.ok is True
    assert any("epsilon 2.22e-16" in note for note in report.notes)
    assert check_derivative(published_slope, "bce").ok is True
    averaged = check_derivative(published_slope, losses.bce)
    assert [cause.factor for cause in averaged.causes] == ["n"]


def mish(z):
    return z * np.tanh(np.logaddexp(0, z))


def slope_of_mish(z):
    """As it is published."""
    above = 4 * (z + 1) + 4 * np.exp(2 * z) + np.exp(3 * z) + np.exp(z) * (4 * z + 6)
    return np.exp(z) * above / (2 * np.exp(z) + np.exp(2 * z) + 2) ** 2


def slope_of_softplus(z):
    return np.exp(z) / (1 + np.exp(z))


def quiet(z):
    with np.errstate(all="ignore"):
        return np.exp(-z) / (1 + np.exp(-z)) ** 2


def logits(y, z):
    return np.sum(np.logaddexp(0, 3 * z) - y * z)


@pytest.mark.parametrize(
    ("claimed", "f", "where", "instead"),
    [
        (lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2, "sigmoid", "|z| = 709.8 on for z < 0", "a*(1 - a)"),
        (lambda z: np.exp(z) / (1 + np.exp(z)) ** 2, sigmoid, "|z| = 709.8 on for z > 0", "a*(1 - a)"),
        (lambda z: math.exp(-z) / (1 + math.exp(-z)) ** 2, "sigmoid", "|z| = 354.9 on for z < 0", "a*(1 - a)"),
        (lambda z: slope_of_softplus(-z.astype(np.float32)), "logsigmoid", "|z| = 88.72 on for z < 0", "negative"),
        (quiet, "sigmoid", "|z| = 709.8 on for z < 0", "a*(1 - a)"),
        (slope_of_softplus, "softplus", "|z| = 709.8 on for z > 0", "sigmoid(z)"),
        (lambda z: 1 - (np.sinh(z) / np.cosh(z)) ** 2, np.tanh, "|z| = 710.5 on;", "1 - a**2"),
        (slope_of_mish, mish, "|z| = 177.4 on for z > 0", "exp(-abs(z))"),
        (lambda z: -2 * z * np.exp(z * z) / np.exp(2 * z * z), lambda z: np.exp(-z * z), "|z| = 26.57 on;", "negative"),
        (lambda z: np.exp(z.astype(np.float32)), "exp", "|z| = 88.72 on for z > 0", "float64"),
        (lambda y, z: 3 * np.exp(3 * z) / (1 + np.exp(3 * z)) - y, logits, "|yhat| = 236.", "exp(-abs(yhat))"),
    ],
)
def test_an_overflow_far_out_is_a_note(claimed, f, where, instead):
    report = check_derivative(claimed, f)
    assert report.ok is True, str(report)
    [note] = [note for note in report.notes if "overflows" in note]
    assert f"non-finite from {where}" in note
    assert instead in note.split("; ")[1]


# ---------------------------------------------------------------- planted mistakes
MISTAKES = [
    (lambda z: 2 * slope_of_sigmoid(z), sigmoid, "factor", "2"),
    (lambda z: 2 * slope_of_sigmoid(z), "sigmoid", "factor", "2"),
    (lambda z: -slope_of_sigmoid(z), sigmoid, "factor", "-1"),
    (lambda z: 0.5 * (1 - np.tanh(z) ** 2), "tanh", "factor", "1/2"),
    (lambda z: 0.3217 * (z > 0), "relu", "factor", "0.3217"),
    (lambda z: slope_of_sigmoid(sigmoid(z)), sigmoid, "activation-derivative", "at the output"),
    (lambda z: z * (1 - z), sigmoid, "activation-derivative", "in terms of the output"),
    (lambda z: 1 - z**2, np.tanh, "activation-derivative", "in terms of the output"),
    (lambda z: 1 - np.tanh(z) ** 2, sigmoid, "activation-derivative", "derivative of tanh"),
    (lambda z: (z > 0) * 1.0, "leaky_relu", "activation-derivative", "derivative of relu"),
    (lambda z: np.ones_like(z), np.tanh, "activation-derivative", "missing"),
    (lambda z: 1, "relu", "activation-derivative", "missing"),
    (lambda z: slope_of_sigmoid(z) ** 2, sigmoid, "activation-derivative", "squared"),
    (lambda z: 1 + np.tanh(z) ** 2, np.tanh, "activation-derivative", "1 + a**2"),
    (lambda z: (z < 0) * 1.0, "relu", "activation-derivative", "inverted"),
    (lambda z: np.where(z > 0, 1, 0.2), "leaky_relu", "activation-derivative", "slope for z < 0 is 0.2"),
    (lambda z: slope_of_sigmoid(np.clip(z, -4, 4)), sigmoid, "clipped", "clipped too early"),
    (lambda z: sigmoid(z), "silu", "activation-derivative", "a term is missing"),
    (lambda z: slope_of_sigmoid(z) + 1e-3, sigmoid, "activation-derivative", "an epsilon"),
    (lambda z: 0 * z, np.tanh, "zero", "0 everywhere"),
    (lambda z: np.where(z > 5, np.nan, slope_of_sigmoid(z)), sigmoid, "non-finite", "nan at z = 5."),
    (lambda z: slope_of_sigmoid(z) * (z / z), sigmoid, "non-finite", "nan at z = 0,"),
    (lambda z: np.exp(np.log(sigmoid(z)) + np.log(1 - sigmoid(z))) * (1 - sigmoid(z)) / (1 - sigmoid(z)), sigmoid,
     "non-finite", "z = 41, 310"),  # 0/0 without an overflow
    (lambda z: slope_of_sigmoid(z) + 0 * np.exp(np.exp(z)), sigmoid, "non-finite", "nan at z = 7."),
    (lambda z: np.where(z == 710.5, np.nan, slope_of_sigmoid(z)), sigmoid, "non-finite", "z = 710.5, where"),
    (lambda z: 2 * np.exp(-z) / (1 + np.exp(-z)) ** 2, sigmoid, "factor", "2"),
    (lambda z: np.cos(3 * z), sigmoid, "unexplained", "not the derivative"),
    (lambda z: np.ones((2, 2)), sigmoid, "shape", "(2, 2)"),
    (lambda z: slope_of_sigmoid(z), "softmax", "softmax-jacobian", "mixes"),
    (lambda y, yhat: 2 * (y - yhat), squares, "factor", "-1"),
    (lambda y, yhat: yhat - y, "sse", "factor", "1/2"),
    (lambda y, yhat: 2 * (yhat - y) / len(y), "sse", "factor", "1/n"),
    (lambda y, yhat: 2 * (yhat - y) / len(y), "mse", "factor", "m"),
    (lambda y, yhat: 2 * (yhat + y), "sse", "loss-derivative", "sign"),
    (lambda y, yhat: y / yhat + (1 - y) / (1 - yhat), "bce", "loss-derivative", "term with y has the wrong sign"),
    (lambda y, yhat: -y / yhat - (1 - y) / (1 - yhat), "bce", "loss-derivative", "1 - y has the wrong sign"),
    (lambda y, yhat: -y / yhat, "bce", "loss-derivative", "1 - y is missing"),
    (lambda y, yhat: bce(y, yhat + 1e-3), "bce", "loss-derivative", "epsilon of 0.001"),
    (lambda y, yhat: bce(y, yhat.clip(0.1, 0.9)), "bce", "loss-derivative", "clipped too early, at 0.1"),
    (lambda y, yhat: yhat - y, "bce", "loss-derivative", "by z"),
    (lambda y, yhat: 0 * y, "bce", "zero", "0 everywhere"),
    (lambda y, yhat: np.where(abs(yhat - y) > 100, np.nan, 2 * (yhat - y)), "sse", "non-finite", "nan at y = "),
    (lambda y, yhat: np.sum(yhat - y, axis=0), "sse", "shape", "shape"),
]  # fmt: skip


@pytest.mark.parametrize(("claimed", "f", "kind", "words"), MISTAKES)
def test_planted_mistakes_are_named(claimed, f, kind, words):
    report = check_derivative(claimed, f)
    assert report.ok is False
    assert [(cause.quantity, cause.layer, cause.kind) for cause in report.causes] == [("derivative", None, kind)]
    cause = report.causes[0]
    assert cause.factor == words if kind == "factor" else words in cause.message


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.5, 3.0, 1.7])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_factor_is_found_on_every_activation(name, factor):
    report = check_derivative(lambda z: factor * ELEMENTWISE[name].derivative(z), name, seed=3)
    assert [cause.kind for cause in report.causes] == ["factor"]
    number = report.causes[0].factor
    assert np.isclose(eval_fraction(number), factor, rtol=1e-5)


def eval_fraction(text):
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


# ---------------------------------------------------------------- what cannot be judged
def test_f_without_numbers_is_undecidable():
    assert check_derivative(lambda z: z, lambda z: np.full_like(z, np.nan)).verdict == "undecidable"
    assert check_derivative(lambda y, yhat: y, lambda y, yhat: np.ones((3, 4, 5))).verdict == "undecidable"


def test_f_that_leaves_the_graph_is_judged_by_differences():
    def leaves(z):
        return np.tanh(np.array(getattr(z, "data", z)))  # of an array a buffer, of a node its array

    report = check_derivative(lambda z: 1 - np.tanh(z) ** 2, leaves)
    assert report.ok is True
    assert any("differences" in note for note in report.notes)
    assert check_derivative(lambda z: 2 - 2 * np.tanh(z) ** 2, leaves).causes[0].factor == "2"


def test_a_kink_elsewhere_is_found_when_it_is_given():
    report = check_derivative(lambda z: (z > 1.37) * 1.0, lambda z: np.maximum(z - 1.37, 0), at=[1.37])
    assert report.ok is True
    assert any("1.37" in note for note in report.notes)


@pytest.mark.parametrize(
    ("claimed", "f", "error", "words"),
    [
        (3.0, "relu", TypeError, "claimed is a function"),
        (np.tanh, 3.0, TypeError, "f is a function"),
        (np.tanh, "tahn", ValueError, "'tahn' is not known; known are relu"),
        ("mse!", "bce", ValueError, "claimed: 'mse!'"),
    ],
)
def test_errors_say_what_came(claimed, f, error, words):
    with pytest.raises(error, match=words):
        check_derivative(claimed, f)
