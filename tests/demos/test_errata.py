"""The errata: every number is computed from the published formulas, and every check can fail."""

import random
from dataclasses import replace

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

from demos import circles, errata
from nn import by_hand
from tests.demos.recorder import Recorder

# fmt: off
CHECKS = [
    "A1", "A1-step", "A2-shape", "A2", "B5", "B5-label", "B5-others", "B6",
    "A3-ratio", "A5", "A6", "A7", "A7-diagonal", "B1", "B1-diagonal",
    "printed-dW1", "printed-db1", "printed-dW2", "printed-db2", "printed-dW3", "printed-db3", "A4-no-loss",
    "A8", "A8-sum",
    "rule-dz", "rule-db", "rule-dW", "rule-da",
    "C1-code-40", "C1-40", "C2-cap-40", "C2-40", "C1-code-100", "C1-100", "C2-cap-100", "C2-100",
    "C3", "C3-slopes", "C4",
    "D2", "D4", "D4-final", "D5", "D5-bounded", "D7", "D7-he",
    "D6-asleep", "D6-step-W", "D6-step-b", "D6-before", "D6-after",
]
# fmt: on


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo, run once; both global generators must come out as they went in."""
    stage = Recorder("errata", tmp_path_factory.mktemp("out"))
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    errata.run(stage)
    after = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.testing.assert_equal(after, before)
    return stage


def test_all_checks_pass(shown):
    assert [name for name, _ in shown.checks] == [f"errata:{name}" for name in CHECKS]
    assert shown.finish() == 0
    assert shown.files == []


@pytest.mark.parametrize("name", CHECKS)
def test_a_planted_error_fails_and_is_named(shown, tmp_path, name):
    stage = Recorder("errata", tmp_path, plant=name)
    for check, arguments, options in shown.calls:
        check(stage, *arguments, **options)
    assert stage.finish() == 1
    assert stage.failed == [name]
    assert f"FAIL errata:{name} " in stage.text


def test_planting_in_the_demo_itself(tmp_path):
    stage = Recorder("errata", tmp_path, plant="errata:A3-ratio")
    errata.run(stage)
    assert stage.finish() == 1
    assert stage.failed == ["A3-ratio"]


SIGMOID = by_hand.PUBLISHED_ACTIVATIONS["sigmoid"]


@pytest.mark.parametrize(
    ("table", "row", "mended", "failed"),
    [
        (
            "PUBLISHED_ACTIVATIONS",
            "sigmoid",
            replace(SIGMOID, derivative=lambda z: SIGMOID.f(z) * (1 - SIGMOID.f(z))),
            {"A3-ratio", "rule-dz", *(f"printed-d{p}{k}" for p in "Wb" for k in (1, 2, 3))},
        ),
        (
            "PUBLISHED_LAYOUT",
            None,
            by_hand.LAYOUTS["row"],
            {"A4-no-loss", "rule-db", *(f"printed-db{k}" for k in (1, 2, 3))},
        ),
        (
            "PUBLISHED_LOSS",
            None,
            replace(by_hand.PUBLISHED_LOSS, derivative=by_hand.LOSSES["half_sse"].derivative),
            {"A6", "rule-da", "A4-no-loss", *(f"printed-d{p}{k}" for p in "Wb" for k in (1, 2, 3))},
        ),
    ],
)
def test_the_claims_are_the_published_code_itself(shown, tmp_path, monkeypatch, table, row, mended, failed):
    """With one published formula changed, exactly the figures that depend on it are no longer those of the errata."""
    if row:
        monkeypatch.setitem(getattr(by_hand, table), row, mended)
    else:
        monkeypatch.setattr(by_hand, table, mended)
    stage = Recorder("errata", tmp_path)
    errata.in_the_code(stage)
    errata.rule_by_rule(stage)
    assert set(stage.failed) == failed


def test_factor():
    true = np.array([[1.0, -2.0], [0.0, 4.0]])
    assert errata.factor(-3 * true, true) == pytest.approx(-3, rel=1e-15)
    assert np.isnan(errata.factor(true + 1e-9 * np.eye(2), true))
    assert np.isnan(errata.factor(true.T, true))


def test_complex_step():
    at = np.array([[0.5, -1.0]])
    np.testing.assert_allclose(
        errata.complex_step(lambda x: np.sum(np.exp(x) * x), at), np.exp(at) * (at + 1), atol=1e-15
    )
    assert errata.complex_step(np.sin, 0.0) == 1.0


@pytest.mark.parametrize("iteration", [0, 121, 122, 140])
def test_the_curvature_against_the_hessian_of_autograd(iteration):
    X, y = circles.data()
    W, b = circles.published().states[iteration]
    shapes = [array.shape for k in (1, 2, 3) for array in (W[k], b[k])]
    ends = np.cumsum([0, *(np.prod(shape) for shape in shapes)])

    def loss(theta):
        a = X
        for k in range(3):
            W_k, b_k = (theta[ends[i] : ends[i + 1]].reshape(shapes[i]) for i in (2 * k, 2 * k + 1))
            z = anp.dot(a, W_k) + b_k
            a = anp.where(z > 0, z, 0.0)
        return anp.mean(anp.logaddexp(0.0, z) - y * z)

    theta = np.concatenate([array.ravel() for k in (1, 2, 3) for array in (W[k], b[k])])
    D = np.concatenate([np.full(np.prod(shape), 2.0 if shape[0] == 1 else 2000.0) for shape in shapes])
    D[ends[-3] : ends[-2]] = 2000.0  # W_3
    H = autograd.hessian(loss)(theta)
    largest = np.linalg.eigvalsh(np.sqrt(D)[:, None] * H * np.sqrt(D))[-1]
    # the gradient is good to 1e-16 or so, divided by the step of 1e-8; 122 has a kink within 1e-6
    assert errata.sharpness((W, b)) == pytest.approx(largest, rel=1e-6)
