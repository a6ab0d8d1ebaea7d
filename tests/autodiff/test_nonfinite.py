"""first_nonfinite names the operation at which a computation leaves the finite numbers."""

import math
import warnings

import numpy as np
import pytest

import autodiff as ad
from autodiff import first_nonfinite


@pytest.mark.parametrize(
    ("f", "args", "kind", "number", "parts"),
    [
        (lambda x: 2.0 * ad.log(x), (0.0,), "value", -np.inf, ["log(x) is -inf", "log of 0", "x = 0"]),
        (lambda x: ad.exp(x) * ad.exp(x), (400.0,), "value", np.inf, ["exp(x) · exp(x) is inf", "x = 400"]),
        (lambda x, y: x / (y - y) + x, (1.0, 2.0), "value", np.inf, ["x / (y - y) is inf", "div of 1, 0"]),
        (lambda x: ad.sqrt(x - 2.0), (1.0,), "value", np.nan, ["√(x - 2) is nan", "sqrt of -1"]),
        (lambda x: x * 2.0, (np.inf,), "value", np.inf, ["x is inf from the start"]),
        (lambda x: ad.sqrt(x), (0.0,), "derivative", np.inf, ["the derivative of √(x) by x is inf"]),
        (lambda x: (x * 1e200) * 1e200, (1e-300,), "gradient", np.inf, ["the gradient by x is inf"]),
    ],
)
def test_where_it_comes_from(f, args, kind, number, parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = first_nonfinite(f, *args)
    assert found.kind == kind
    assert found.number == number or (np.isnan(number) and np.isnan(found.number))
    assert all(part in str(found) for part in parts), str(found)


def test_it_is_the_first_and_not_one_of_its_heirs():
    found = first_nonfinite(lambda x: ad.tanh(ad.log(x) + 1.0) * ad.exp(-ad.log(x)), 0.0)
    assert found.node.op.name == "log"


def test_arrays_name_their_element():
    found = first_nonfinite(lambda W: np.sum(np.sqrt(W)), np.array([[1.0, 4.0], [-1.0, 9.0]]))
    assert "W[1,0] = -1" in str(found)
    found = first_nonfinite(lambda W: np.log(W), np.array([1.0, 0.0]))  # an array of outputs
    assert "W[1] = 0" in str(found)


@pytest.mark.parametrize("f", [lambda x: x * x, lambda x: ad.relu(x), lambda x: ad.log(x)])
def test_none_where_all_is_finite(f):
    assert first_nonfinite(f, 2.0) is None


def test_a_function_without_nodes_is_refused():
    with pytest.raises(TypeError, match="must return nodes"):
        first_nonfinite(lambda x: 3.0, 1.0)
    with pytest.raises(RuntimeError, match="mine"):  # an error of the function is its own
        first_nonfinite(lambda x: (_ for _ in ()).throw(RuntimeError("mine")), 1.0)


def test_the_error_state_is_as_before():
    before = np.geterr()
    first_nonfinite(lambda x: ad.log(x), 0.0)
    assert np.geterr() == before


def test_numbers_among_the_outputs():
    assert first_nonfinite(lambda x: [x * 2.0, 3.0], 1.0) is None
    found = first_nonfinite(lambda x, y: [x * y, math.nan], 1.0, 2.0)
    assert "an output is nan, and no node" in str(found)
    found = first_nonfinite(lambda X: [np.sum(X), X.data / 0.0], np.array([1.0, -1.0]))
    assert "an output is inf, and no node" in str(found)
    found = first_nonfinite(lambda W: np.where(W > 0, W, np.nan), ad.scalars([1.0, -1.0]))
    assert "an output is nan, and no node" in str(found)


def test_nodes_as_arguments_are_taken_by_their_data():
    x = ad.Value(0.0, "mine")
    assert "log of 0" in str(first_nonfinite(ad.log, x))
    assert x.grad == 0.0
    assert first_nonfinite(lambda W: np.sum(W), ad.scalars(np.ones(3))) is None
