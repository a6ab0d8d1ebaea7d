"""Arrays of nodes: NumPy code written for floats, run on `scalars`, against NumPy on floats and HIPS autograd."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import math
import operator
import pickle
import re
import threading
import warnings
from fractions import Fraction

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import autodiff as ad
from autodiff import tensor
from autodiff.primitives import COMPOSITES, TABLE, UFUNCS
from autodiff.scalars import COMPARISONS, ON_TENSORS_ONLY, OPERATORS, TESTS, Scalars, scalars
from autodiff.transforms import stop_gradient
from autodiff.value import Value, order

RNG = np.random.RandomState(7)  # our own, so that the numbers below are the same in every run
W0 = RNG.randn(2, 3)  # of both signs, no two alike
X0 = RNG.randn(4, 2)
Y0 = RNG.randn(2, 3)
MASK = np.array([[True, False, True], [False, True, True]])

# --- NumPy functions: name -> function of (np, W), with the constants above -----------------------------------------

FUNCTIONS = {
    # products
    "X @ W": lambda np, W: X0 @ W,
    "W.T @ X.T": lambda np, W: W.T @ X0.T,
    "W @ W.T": lambda np, W: W @ W.T,
    "W @ vector": lambda np, W: W @ Y0[0],
    "vector @ W": lambda np, W: X0[0] @ W,
    "vector @ vector": lambda np, W: W[0] @ W[1],
    "np.dot": lambda np, W: np.dot(X0, W),
    "np.matmul": lambda np, W: np.matmul(X0, W),
    "np.outer": lambda np, W: np.outer(W[0], W[1]),
    "np.inner": lambda np, W: np.inner(W, W),
    "np.tensordot": lambda np, W: np.tensordot(X0, W, 1),
    "np.einsum": lambda np, W: np.einsum("ij,jk->ik", X0, W),
    "np.trace": lambda np, W: np.trace(W @ Y0.T),
    # parts
    "W.T": lambda np, W: W.T,
    "np.transpose": lambda np, W: np.transpose(W),
    "row": lambda np, W: W[1],
    "column": lambda np, W: W[:, 1],
    "slice": lambda np, W: W[:, ::2],
    "negative index": lambda np, W: W[-1, -2:],
    "newaxis": lambda np, W: W[:, None, :],
    "boolean mask": lambda np, W: W[MASK],
    "integer index": lambda np, W: W[[0, 1, 0], [2, 0, 2]],
    "element": lambda np, W: W[1, 2],
    "mask by comparison": lambda np, W: W[W0 > 0],
    "np.diag": lambda np, W: np.diag(W[:, :2]),
    "np.split": lambda np, W: np.split(W, 3, axis=1)[1],
    # shapes
    "reshape": lambda np, W: W.reshape(3, 2),
    "reshape(-1)": lambda np, W: np.reshape(W, -1),
    "ravel": lambda np, W: W.ravel(),
    "np.ravel": lambda np, W: np.ravel(W),
    "flatten": lambda np, W: W.flatten(),
    "np.expand_dims": lambda np, W: np.expand_dims(W, 0),
    "np.squeeze": lambda np, W: np.squeeze(W[:1]),
    "np.concatenate": lambda np, W: np.concatenate([W, Y0, W]),
    "np.concatenate axis": lambda np, W: np.concatenate([W, X0[:2]], axis=1),
    "np.stack": lambda np, W: np.stack([W, Y0], axis=1),
    "np.vstack": lambda np, W: np.vstack([W, Y0]),
    "np.hstack": lambda np, W: np.hstack([Y0, W]),
    "np.append": lambda np, W: np.append(W, 1.0),
    "np.tile": lambda np, W: np.tile(W, (2, 1)),
    "np.repeat": lambda np, W: np.repeat(W, 2, axis=0),
    "np.roll": lambda np, W: np.roll(W, 1, axis=1),
    "np.swapaxes": lambda np, W: np.swapaxes(W, 0, 1),
    # reductions
    "np.sum": lambda np, W: np.sum(W),
    "sum": lambda np, W: W.sum(),
    "sum axis 0": lambda np, W: np.sum(W, axis=0),
    "sum axis -1": lambda np, W: W.sum(axis=-1),
    "sum keepdims": lambda np, W: np.sum(W, axis=1, keepdims=True),
    "sum of two axes": lambda np, W: np.sum(W[:, None, :], axis=(0, 2)),
    "np.mean": lambda np, W: np.mean(W),
    "mean axis": lambda np, W: W.mean(axis=0),
    "mean keepdims": lambda np, W: np.mean(W, axis=1, keepdims=True),
    "np.var": lambda np, W: np.var(W),
    "var axis": lambda np, W: np.var(W, axis=0),
    "var ddof keepdims": lambda np, W: np.var(W, axis=1, ddof=1, keepdims=True),
    "np.std": lambda np, W: np.std(W),
    "std axis": lambda np, W: np.std(W, axis=0),
    "std ddof keepdims": lambda np, W: np.std(W, axis=1, ddof=1, keepdims=True),
    "np.max": lambda np, W: np.max(W),
    "max axis": lambda np, W: np.max(W, axis=0),
    "max keepdims": lambda np, W: np.max(W, axis=1, keepdims=True),
    "max of two axes": lambda np, W: np.max(W, axis=(0, 1)),
    "np.prod": lambda np, W: np.prod(W, axis=1),
    "np.cumsum": lambda np, W: np.cumsum(W, axis=1),
    "np.diff": lambda np, W: np.diff(W, axis=1),
    # elementwise
    "np.maximum(0, W)": lambda np, W: np.maximum(0, W),
    "np.maximum(W, 0.0)": lambda np, W: np.maximum(W, 0.0),
    "np.maximum(W, array)": lambda np, W: np.maximum(W, Y0),
    "np.maximum(W, W * 2)": lambda np, W: np.maximum(W, W * 2.0),
    "np.exp": lambda np, W: np.exp(W),
    "np.log": lambda np, W: np.log(np.abs(W)),
    "np.sqrt": lambda np, W: np.sqrt(W**2 + 1.0),
    "np.tanh": lambda np, W: np.tanh(W),
    "np.square": lambda np, W: np.square(W),
    "np.absolute": lambda np, W: np.absolute(W),
    "np.negative": lambda np, W: np.negative(W),
    "np.power": lambda np, W: np.power(np.exp(W), 1.5),
    "np.add": lambda np, W: np.add(W, 1),
    "np.subtract": lambda np, W: np.subtract(1, W),
    "np.multiply": lambda np, W: np.multiply(W, Y0),
    "np.divide": lambda np, W: np.divide(Y0, W),
    "np.sign": lambda np, W: np.sign(W) * W,
    "unary": lambda np, W: -W + abs(W),
    "power": lambda np, W: W**3 - 2.0**W,
    "power of arrays": lambda np, W: np.exp(W) ** Y0,
    "np.where": lambda np, W: np.where(MASK, W, 0.0),
    "np.where of two": lambda np, W: np.where(W0 > 0.0, W, np.exp(W)),
    # broadcasting
    "matrix + row": lambda np, W: X0 @ W + W[:1],
    "matrix * column": lambda np, W: W * W[:, :1],
    "row + column": lambda np, W: W[:1] + W[:, 1:2],
    "vector to three axes": lambda np, W: W[0] * np.ones((2, 2, 3)),
    "scalar": lambda np, W: W[0, 0] * W,
    "integers": lambda np, W: W * np.arange(3),
    # what people write
    "softmax": lambda np, W: (
        np.exp(W - np.max(W, axis=1, keepdims=True))
        / np.sum(np.exp(W - np.max(W, axis=1, keepdims=True)), axis=1, keepdims=True)
    ),
    "sigmoid": lambda np, W: 1 / (1 + np.exp(-W)),
    "layer": lambda np, W: np.maximum(0, X0 @ W + W[0]),
    "standardize": lambda np, W: (W - np.mean(W, axis=0)) / np.std(W, axis=0),
    "cross entropy": lambda np, W: -np.mean(np.log(1 / (1 + np.exp(-(X0 @ W))))),
    "mean squared error": lambda np, W: np.mean((X0 @ W - X0[:, :1]) ** 2),
    "frobenius": lambda np, W: np.sqrt(np.sum(W**2)),
    "list of rows": lambda np, W: np.stack([row * 2.0 for row in W]),
}


def weights(shape):
    """Fixed numbers that tell the elements of a result apart."""
    return np.random.RandomState(11).randn(*shape)


def on_nodes(function):
    """(result, the gradient in W of its weighted sum)."""
    W = scalars(W0, name="W")
    result = function(np, W)
    loss = (weights(np.shape(result)) * result).sum() if np.ndim(result) else result * 1.0
    loss.backward()
    return result, W.grad


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_numpy_functions(function):
    result, gradient = on_nodes(function)
    expected = function(np, W0)
    assert_nodes(result)
    # Sums of at most a dozen numbers of order one, added in another order: a few ulps of the largest
    np.testing.assert_allclose(data(result), expected, rtol=1e-14, atol=1e-14)
    assert np.shape(result) == np.shape(expected)

    def weighted(W):
        value = function(anp, W)
        return anp.sum(weights(anp.shape(value)) * value) if anp.ndim(value) else value

    # The same derivatives in another order of summation, and kernels that differ by an ulp: as above, times the
    # condition numbers of divisions by numbers down to 0.04
    np.testing.assert_allclose(gradient, autograd.grad(weighted)(W0), rtol=1e-12, atol=1e-13)


def data(result):
    return result.data if isinstance(result, (Value, Scalars)) else result


def assert_nodes(result):
    """Nothing was lost on the way: a Value, or Scalars with Values in every place that depends on a node."""
    assert type(result) in (Value, Scalars)
    if type(result) is Scalars:
        assert result.dtype == object
        for element in result.ravel():
            assert isinstance(element, (Value, float, int, np.integer)), element


def test_the_comparison_finds_a_planted_error():
    _, gradient = on_nodes(FUNCTIONS["X @ W"])
    _, wrong = on_nodes(lambda np, W: X0 @ stop_gradient(W) + 1e-3 * (X0 @ W))
    assert abs(gradient - wrong).max() > 0.1


# Functions that are smooth but for kinks and jumps: (call, the same for autograd); as `FUNCTIONS` otherwise.
NO_SLOPE = lambda W: 0.0 * W  # noqa: E731
CHOICES_AND_JUMPS = {
    "np.clip(W, 0, 1)": (lambda W: np.clip(W, 0, 1), lambda W: anp.clip(W, 0.0, 1.0)),
    "np.clip(W, None, 0.2)": (lambda W: np.clip(W, None, 0.2), lambda W: anp.minimum(W, 0.2)),
    "np.clip(W, 0.2, None)": (lambda W: np.clip(W, 0.2, None), lambda W: anp.maximum(W, 0.2)),
    "np.clip(min=, max=)": (lambda W: np.clip(W, min=-0.5, max=0.5), lambda W: anp.clip(W, -0.5, 0.5)),
    "np.clip(a_min=, a_max=)": (lambda W: np.clip(W, a_min=-0.5, a_max=0.5), lambda W: anp.clip(W, -0.5, 0.5)),
    "np.clip of crossed bounds": (lambda W: np.clip(W, 1, 0), NO_SLOPE),
    "np.clip(array, W, 3)": (lambda W: np.clip(Y0, W, 3), lambda W: anp.minimum(anp.maximum(Y0, W), 3.0)),
    "np.clip(array, None, W)": (lambda W: np.clip(Y0, None, W), lambda W: anp.minimum(Y0, W)),
    "np.clip(W, W row, array)": (
        lambda W: np.clip(W, W[:1], Y0 + 2.0), lambda W: anp.minimum(anp.maximum(W, W[:1]), Y0 + 2.0),
    ),
    "W.clip(0, 1)": (lambda W: W.clip(0, 1), lambda W: anp.clip(W, 0.0, 1.0)),
    "W.clip(0)": (lambda W: W.clip(0), lambda W: anp.maximum(W, 0.0)),
    "W.clip(max=0)": (lambda W: W.clip(max=0), lambda W: anp.minimum(W, 0.0)),
    "W.clip(min=-0.1)": (lambda W: W.clip(min=-0.1), lambda W: anp.maximum(W, -0.1)),
    "np.min": (np.min, anp.min),
    "np.min of one axis": (lambda W: np.min(W, axis=1), lambda W: anp.min(W, axis=1)),
    "W.min(axis=0)": (lambda W: W.min(axis=0), lambda W: anp.min(W, axis=0)),
    "W.min(keepdims)": (lambda W: W.min(axis=1, keepdims=True), lambda W: anp.min(W, axis=1, keepdims=True)),
    "np.min of two axes": (lambda W: np.min(W[None], axis=(0, 2)), lambda W: anp.min(W, axis=1)),
    "np.minimum": (lambda W: np.minimum(W, Y0), lambda W: anp.minimum(W, Y0)),
    "np.minimum(0, W)": (lambda W: np.minimum(0, W), lambda W: anp.minimum(0.0, W)),
    "np.minimum.reduce": (np.minimum.reduce, lambda W: anp.min(W, axis=0)),
    "np.minimum.accumulate": (
        lambda W: np.minimum.accumulate(W, axis=1),
        lambda W: anp.stack([W[:, 0], anp.min(W[:, :2], axis=1), anp.min(W, axis=1)], axis=1),
    ),
    "np.minimum.outer": (lambda W: np.minimum.outer(W[0], W[1]), lambda W: anp.minimum(W[0][:, None], W[1])),
    "np.ptp": (np.ptp, lambda W: anp.max(W) - anp.min(W)),
    "np.ptp of one axis": (lambda W: np.ptp(W, axis=1), lambda W: anp.max(W, axis=1) - anp.min(W, axis=1)),
    "np.median of one axis": (lambda W: np.median(W, axis=1), lambda W: anp.stack([anp.sort(row)[1] for row in W])),
    "np.round": (np.round, NO_SLOPE),
    "np.around": (np.around, NO_SLOPE),
    "np.rint": (np.rint, NO_SLOPE),
    "W.round()": (lambda W: W.round(), NO_SLOPE),
    "np.floor": (np.floor, NO_SLOPE),
    "np.ceil": (np.ceil, NO_SLOPE),
    "W // 2": (lambda W: W // 2, NO_SLOPE),
    "7 // W": (lambda W: 7 // W, NO_SLOPE),
    "np.floor_divide": (lambda W: np.floor_divide(W, Y0), NO_SLOPE),
    "W % 2": (lambda W: W % 2, lambda W: W - 2.0 * np.floor(W0 / 2.0)),
    "2 % W": (lambda W: 2 % W, lambda W: 2.0 - W * np.floor(2.0 / W0)),
    "W % array": (lambda W: W % Y0, lambda W: W - Y0 * np.floor(W0 / Y0)),
    "np.mod": (lambda W: np.mod(Y0, W), lambda W: Y0 - W * np.floor(Y0 / W0)),
    "np.remainder": (lambda W: np.remainder(W, 0.25), lambda W: W - 0.25 * np.floor(W0 / 0.25)),
    "np.unwrap": (lambda W: np.unwrap(8.0 * W.ravel()), lambda W: 8.0 * W.ravel()),
    "np.cos": (np.cos, anp.cos),
    "np.sin": (np.sin, anp.sin),
    "np.arctan2(W, array)": (lambda W: np.arctan2(W, Y0), lambda W: anp.arctan2(W, Y0)),
    "np.arctan2(2, W)": (lambda W: np.arctan2(2, W), lambda W: anp.arctan2(2.0, W)),
    "np.angle": (np.angle, NO_SLOPE),  # 0 or pi
    "np.hypot": (lambda W: np.hypot(W, Y0), lambda W: anp.sqrt(W**2 + Y0**2)),
    "np.hypot.reduce": (np.hypot.reduce, lambda W: anp.sqrt(anp.sum(W**2, axis=0))),
    "np.logaddexp": (lambda W: np.logaddexp(W, Y0), lambda W: anp.logaddexp(W, Y0)),
    "np.logaddexp.reduce": (np.logaddexp.reduce, lambda W: anp.logaddexp(W[0], W[1])),
    "np.sinc": (np.sinc, lambda W: anp.sin(np.pi * W) / (np.pi * W)),
    "np.cbrt": (np.cbrt, lambda W: anp.sign(W) * anp.abs(W) ** (1.0 / 3.0)),
    "np.reciprocal": (np.reciprocal, lambda W: 1.0 / W),
    "np.log1p": (lambda W: np.log1p(W**2), lambda W: anp.log1p(W**2)),
    "np.linalg.norm": (np.linalg.norm, anp.linalg.norm),
    "norm of rows": (lambda W: np.linalg.norm(W, axis=1), lambda W: anp.sqrt(anp.sum(W**2, axis=1))),
    "norm 1 of rows": (lambda W: np.linalg.norm(W, 1, axis=1), lambda W: anp.sum(anp.abs(W), axis=1)),
    "norm inf of rows": (lambda W: np.linalg.norm(W, np.inf, axis=1), lambda W: anp.max(anp.abs(W), axis=1)),
    "np.cumprod": (
        lambda W: np.cumprod(W, axis=1),
        lambda W: anp.stack([W[:, 0], W[:, 0] * W[:, 1], anp.prod(W, axis=1)], axis=1),
    ),
    "np.select": (lambda W: np.select([W0 > 0], [W], 0.0), lambda W: anp.where(W0 > 0, W, 0.0)),
    "np.piecewise": (
        lambda W: np.piecewise(W, [W0 > 0], [np.exp, np.negative]), lambda W: anp.where(W0 > 0, anp.exp(W), -W),
    ),
    "ad.clip": (lambda W: ad.clip(W, -0.5, 0.5), lambda W: anp.clip(W, -0.5, 0.5)),
    "ad.where": (lambda W: ad.where(W > 0, W, 2.0 * W), lambda W: anp.where(W0 > 0, W, 2.0 * W)),
}  # fmt: skip


@pytest.mark.parametrize(("call", "twin"), CHOICES_AND_JUMPS.values(), ids=CHOICES_AND_JUMPS.keys())
def test_choices_and_jumps(call, twin):
    result, gradient = on_nodes(lambda np, W: call(W))
    expected = call(W0)
    assert_nodes(result)
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(data(result), expected, rtol=1e-14, atol=1e-14)  # as test_numpy_functions

    def weighted(W):
        value = twin(W)
        return anp.sum(weights(anp.shape(value)) * value) if anp.ndim(value) else value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # autograd's, where the result does not depend on W
        np.testing.assert_allclose(gradient, autograd.grad(weighted)(W0), rtol=1e-12, atol=1e-13)


def inside(row):
    """Arrays of numbers in the row's domain, with condition numbers below 100 there."""
    arrays = [np.abs(W0) + 0.1, np.abs(Y0) + 0.1][: row.arity]  # between 0.1 and 2.6
    if row.name in ("arcsin", "arccos", "arctanh"):
        return [a / (1.0 + a) for a in arrays]
    return [1.0 + a for a in arrays] if row.name == "arccosh" else arrays


# Two kernels, an ulp or two each; of sinc's slope and the like the error is in ulps of a term up to 16 times larger.
KERNELS = {"rtol": 8 * np.finfo(float).eps, "atol": 16 * np.finfo(float).eps}
# What autograd lacks or knows with another convention, by hand: d/da of the ufunc
BY_HAND = {
    np.cbrt: lambda a: 1.0 / (3.0 * np.cbrt(a) ** 2),
    np.hypot: lambda a, b: a / np.hypot(a, b),
    np.rint: np.zeros_like,
    np.floor: np.zeros_like,
    np.ceil: np.zeros_like,
    np.sign: np.zeros_like,
    np.floor_divide: lambda a, b: np.zeros_like(a),
}


@pytest.mark.parametrize(("ufunc", "row"), UFUNCS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_every_ufunc_of_the_table(ufunc, row):
    arrays = inside(row)
    expected = ufunc(*arrays)
    first = scalars(arrays[0])
    result = ufunc(first, *arrays[1:])
    assert type(result) is Scalars
    assert all(node.op.source is row for node in result.ravel())
    np.testing.assert_allclose(result.data, expected, **KERNELS)
    np.sum(result).backward()
    if ufunc in BY_HAND:
        slope = BY_HAND[ufunc](*arrays)
    else:
        slope = autograd.elementwise_grad(getattr(anp, ufunc.__name__))(*arrays)
    np.testing.assert_allclose(first.grad, slope, rtol=1e-13)  # some operations, cancelling at most tenfold
    node = Value(arrays[0][0, 0])
    one = ufunc(node, *(a[0, 0] for a in arrays[1:]))
    assert type(one) is Value
    assert (one.data, one.parents) == (result[0, 0].data, (node,))
    if row.arity == 2:
        left = ufunc(arrays[0], scalars(arrays[1]))
        assert all(node.op.source is row for node in left.ravel())
        both = ufunc(scalars(arrays[0]), scalars(arrays[1]))
        assert all(node.op is row and len(node.parents) == 2 for node in both.ravel())


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_every_row_on_arrays(row):
    arrays = inside(row)
    expected = row.array(*arrays)
    W = scalars(arrays[0])
    for result in (row(W, *arrays[1:]), row(W, *map(scalars, arrays[1:])), row(W, *(a.tolist() for a in arrays[1:]))):
        assert type(result) is Scalars
        assert result.shape == expected.shape
        np.testing.assert_allclose(result.data, expected, **KERNELS)
        assert all(node.parents[0] is leaf for node, leaf in zip(result.ravel(), W.ravel(), strict=True))
    if row.arity == 2:
        one_node = row(Value(0.5), arrays[1])
        np.testing.assert_allclose(one_node.data, row.array(0.5, arrays[1]), **KERNELS)
        assert type(one_node) is Scalars


@pytest.mark.parametrize("row", [row for row in TABLE.values() if row.arity == 1], ids=lambda row: row.name)
def test_every_row_of_one_operand_is_a_method_of_a_node_too(row):
    for x in inside(row)[0].ravel():
        node = Value(x)
        by_operator = {"neg": operator.neg, "abs": operator.abs}.get(row.name)
        result = by_operator(node) if by_operator else getattr(node, row.name)()
        expected = row(node)
        assert (result.op, result.data, result.edges()) == (row, expected.data, expected.edges())


# --- a network as tutorials write it ----------------------------------------------------------------------------


def binary_cross_entropy(np, clip, X, y, parameters):
    """(1, 1): the loss of two layers, written as for floats."""
    W1, b1, W2, b2 = parameters
    eps = 1e-7
    z1 = X @ W1 + b1
    a1 = np.maximum(0, z1)
    z2 = a1 @ W2 + b2
    yhat = 1 / (1 + np.exp(-clip(z2, -500, 500)))
    return -(y.T @ np.log(clip(yhat, eps)) + (1 - y).T @ np.log(clip(1 - yhat, eps))) / len(X)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])  # from 10 on some outputs are saturated and clipped
def test_a_network_with_clips_and_logarithms(scale):
    rng = np.random.RandomState(3)
    X, y = scale * rng.randn(6, 2), rng.randint(0, 2, (6, 1))
    numbers = [rng.randn(2, 4), rng.randn(1, 4), rng.randn(4, 1), rng.randn(1, 1)]
    parameters = [scalars(array, name=name) for array, name in zip(numbers, ("W1", "b1", "W2", "b2"), strict=True)]
    loss = binary_cross_entropy(np, lambda z, *bounds: z.clip(*bounds), X, y, parameters)
    expected = binary_cross_entropy(np, lambda z, *bounds: z.clip(*bounds), X, y, numbers)
    assert type(loss) is Scalars
    assert loss.shape == (1, 1)
    # log(1 - yhat) magnifies the rounding of yhat, at most by 1 / eps
    rtol = 1e-13 if scale == 1.0 else 1e-8
    np.testing.assert_allclose(loss.data, expected, rtol=rtol)
    loss.backward()

    def clip(z, low, high=math.inf):
        return anp.clip(z, low, high)

    def total(parameters):
        return anp.sum(binary_cross_entropy(anp, clip, X, y, parameters))

    for parameter, gradient in zip(parameters, autograd.grad(total)(numbers), strict=True):
        np.testing.assert_allclose(parameter.grad, gradient, rtol=rtol, atol=1e-14 * scale)
    assert any(np.any(parameter.grad != 0.0) for parameter in parameters)


def test_such_a_network_learns():
    X, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0], [1], [1], [1]])
    W, b = scalars(np.zeros((2, 1))), scalars(np.zeros((1, 1)))
    losses = []
    for _ in range(50):
        yhat = 1 / (1 + np.exp(-(X @ W + b).clip(-500, 500)))
        loss = -(y.T @ np.log(yhat.clip(1e-9)) + (1 - y).T @ np.log((1 - yhat).clip(1e-9))) / 4
        loss.backward()
        losses.append(loss.data.item())
        W, b = scalars(W.data - 2.0 * W.grad), scalars(b.data - 2.0 * b.grad)
    assert losses[0] == pytest.approx(math.log(2.0), rel=1e-15)
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.15


# --- relu and ties ------------------------------------------------------------------------------------------


def test_maximum_with_zero_is_relu_in_every_element():
    z = scalars([[-1.0, 0.0, -0.0, 2.0]])
    for result in (np.maximum(0, z), np.maximum(z, 0), np.maximum(0.0, z), np.maximum(np.zeros(4), z), z.clip(0)):
        assert all(node.op is ad.relu and len(node.parents) == 1 for node in result.ravel())
        np.testing.assert_array_equal(result.data, [[0.0, 0.0, 0.0, 2.0]])
    np.sum(np.maximum(0, z)).backward()
    np.testing.assert_array_equal(z.grad, [[0.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize(("call", "sign"), [(np.max, 1.0), (np.min, -1.0)], ids=["max", "min"])
def test_ties_of_extremes_share_the_gradient(call, sign):
    W = scalars(sign * np.array([2.0, 2.0, 1.0]))
    call(W).backward()
    np.testing.assert_array_equal(W.grad, [0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    ("call", "slopes"),
    [
        (lambda z: z.clip(-1.0, 1.0), [0.0, 0.5, 1.0, 0.5, 0.0]),
        (lambda z: np.clip(z, -1, 1), [0.0, 0.5, 1.0, 0.5, 0.0]),
        (lambda z: np.minimum(z, 1.0), [1.0, 1.0, 1.0, 0.5, 0.0]),
        (lambda z: np.clip(z, 0.0, None), [0.0, 0.0, 0.0, 1.0, 1.0]),  # a lower bound of 0 is relu
        (lambda z: np.clip(z, None, 0.0), [1.0, 1.0, 0.5, 0.0, 0.0]),
        (lambda z: z % 1.0, [1.0] * 5),
        (lambda z: z // 1.0, [0.0] * 5),
        (np.round, [0.0] * 5),
        (np.sinc, [-0.5, 1.0, 0.0, -1.0, 0.5]),  # (-1)**n / n at a whole n != 0
    ],
)
def test_conventions_at_bounds_and_jumps(call, slopes):
    z = scalars([-2.0, -1.0, 0.0, 1.0, 2.0])
    result = call(z)
    np.testing.assert_allclose(result.data, call(z.data), rtol=0.0, atol=1e-16)
    np.sum(result).backward()
    np.testing.assert_allclose(z.grad, slopes, rtol=1e-15, atol=1e-15)


# --- making ---------------------------------------------------------------------------------------------------


def test_leaves_and_their_names():
    W = scalars([[1.0, 2.0], [3.0, 4.0]], name="W")
    assert type(W) is Scalars
    assert W.dtype == object
    assert [node.name for node in W.ravel()] == ["W[0,0]", "W[0,1]", "W[1,0]", "W[1,1]"]
    assert [node.name for node in scalars([1.0, 2.0], name="b")] == ["b[0]", "b[1]"]
    assert scalars(1.0, name="s").item().name == "s"
    assert all(node.name is None and node.op is None for node in scalars([1.0, 2.0]))
    assert len(set(scalars(np.zeros(5)))) == 5  # five leaves, not one leaf five times


@pytest.mark.parametrize(
    "array",
    [
        [1, 2], (1.0, 2.0), np.array([1, 2], dtype=np.int8), np.array([1.5], dtype=np.float32), [True, False],
        [Fraction(1, 2)], [[1.0], [2.0]], np.float64(1.0), 3, np.zeros((0, 3)), [], np.array([1.0, 2.0], dtype=object),
        np.arange(6.0).reshape(2, 3).T, np.arange(6.0)[::-2], np.broadcast_to(1.0, (2, 2)),
    ],
    ids=repr,
)  # fmt: skip
def test_whatever_makes_an_array_of_numbers(array):
    made = scalars(array)
    assert type(made) is Scalars
    assert made.shape == np.shape(array)
    np.testing.assert_array_equal(made.data, np.asarray(array, dtype=float))
    assert made.data.dtype == made.grad.dtype == float
    assert made.grad.shape == made.shape
    assert all(type(node) is Value and type(node.data) is float for node in made.ravel())


def test_nodes_are_kept():
    v = Value(2.0, name="v")
    y = v * v
    mixed = scalars([v, 1.0, y], name="m")
    assert mixed[0] is v
    assert mixed[2] is y
    assert [node.name for node in mixed] == ["v", "m[1]", None]
    again = scalars(mixed)
    assert again is not mixed
    assert all(a is b for a, b in zip(again, mixed, strict=True))
    rows = scalars([scalars([1.0, 2.0], name="r"), scalars([3.0, 4.0])])
    assert rows.shape == (2, 2)
    assert rows[0, 1].name == "r[1]"
    assert scalars(v).item() is v
    assert scalars(v).shape == ()
    assert scalars(np.array([v, y]))[1] is y
    mixed.sum().backward()
    assert v.grad == 1.0 + 4.0


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (["a"], "<U1"), ("text", "<U4"), ([1j], "complex128"), (1j, "complex128"), ([None], "NoneType"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"), ({}, "dict"), ([object()], "object"),
        (np.array(["a", 1.0], dtype=object), "str"), (np.array([1j, 1.0], dtype=object), "complex"),
        (np.zeros(2, dtype=[("x", float)]), "x"), (None, "NoneType"), ([b"x"], "S1"), (iter([1.0]), "iterator"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)  # fmt: skip
def test_what_is_no_number_is_refused(array, kind):
    with pytest.raises(TypeError, match=r"scalars takes (a real number|real numbers), got") as caught:
        scalars(array)
    assert kind in str(caught.value)


def test_other_refusals():
    with pytest.raises(OverflowError, match="too large for a float"):
        scalars([10**400])
    with pytest.raises(ValueError, match="inhomogeneous"):
        scalars([[1.0, 2.0], [3.0]])


def test_names_are_strings():
    with pytest.raises(TypeError, match="a name is a string, got int 3"):
        scalars([1.0], name=3)


# --- data, grad, shapes -----------------------------------------------------------------------------------------


def test_data_and_grad():
    W = scalars(W0)
    np.testing.assert_array_equal(W.data, W0)
    np.testing.assert_array_equal(W.grad, np.zeros((2, 3)))
    np.sum(W * Y0).backward()
    np.testing.assert_array_equal(W.grad, Y0)
    np.testing.assert_array_equal(W.T.grad, Y0.T)
    for numbers in (W.data, W.grad):  # a write into them would be lost
        with pytest.raises(ValueError, match="read-only"):
            numbers[0, 0] = 99.0
    nodes = list(W.flat)
    W.data = W.data - 0.5 * W.grad
    W.grad = 0.0
    assert all(a is b for a, b in zip(nodes, W.flat, strict=True))  # moved, not replaced
    np.testing.assert_array_equal(W.data, W0 - 0.5 * Y0)
    np.testing.assert_array_equal(W.grad, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="broadcast"):
        W.data = np.ones(4)
    W.data = W0
    np.testing.assert_array_equal(np.where(MASK, W, 5.0).data, np.where(MASK, W0, 5.0))  # numbers among the nodes


def test_no_dimensions():
    s = scalars(2.0, name="s")
    assert s.shape == ()
    assert s.data.shape == ()
    assert type(s[()]) is Value
    for y in (s + 1.0, np.exp(s), s * s, s.sum(), np.maximum(0, s), s**2):
        assert type(y) in (Value, Scalars)
    y = np.exp(s) * s
    y.backward()
    assert s.grad == pytest.approx(3.0 * math.exp(2.0), rel=1e-15)
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        float(s)


def test_empty_arrays():
    E = scalars(np.zeros((0, 3)))
    assert E.data.shape == E.grad.shape == (0, 3)
    assert np.exp(E).shape == (0, 3)
    assert type(np.maximum(0, E)) is Scalars
    assert E.sum() == 0
    np.testing.assert_array_equal(E.sum(axis=0).data, np.zeros(3))
    np.testing.assert_array_equal((np.zeros((2, 0)) @ E).data, np.zeros((2, 3)))
    assert (E @ np.zeros((3, 4))).shape == (0, 4)
    assert np.concatenate([E, scalars(W0)]).shape == (2, 3)
    with pytest.raises(ValueError, match="zero-size array"):
        E.max()
    with pytest.warns(RuntimeWarning) as record, pytest.raises(AttributeError):
        E.mean().backward()  # nan, as NumPy has it, of no nodes
    assert "Mean of empty slice" in {str(warning.message) for warning in record}


def test_backward_of_an_array():
    scalars([[1.0]]).backward()
    for shape in ((2,), (0,), (2, 2)):
        with pytest.raises(ValueError, match=r"backward starts from one number.*np\.sum"):
            scalars(np.ones(shape)).backward()


def test_views_share_their_nodes():
    W = scalars(W0, name="W")
    assert W.T[2, 1] is W[1, 2]
    assert W.reshape(-1)[4] is W[1, 1]
    assert W[:, 1:][0, 0] is W[0, 1]
    assert np.ravel(W)[0] is W[0, 0]
    assert W.copy()[0, 0] is W[0, 0]


def test_copies():
    W = scalars(W0, name="W")
    for twin in (copy.deepcopy(W), pickle.loads(pickle.dumps(W))):
        assert type(twin) is Scalars
        assert twin[0, 0] is not W[0, 0]
        assert twin[1, 2].name == "W[1,2]"
        np.testing.assert_array_equal(twin.data, W0)


def test_stop_gradient():
    W = scalars(W0, name="W")
    cut = stop_gradient(W * 2.0)
    assert type(cut) is Scalars
    assert all(node.op is None for node in cut.ravel())
    np.sum(W * cut).backward()
    np.testing.assert_array_equal(W.grad, 2.0 * W0)
    assert stop_gradient(W0) is W0


# --- comparisons ------------------------------------------------------------------------------------------------


def test_comparisons_give_arrays_of_bool():
    W, other = scalars(W0), scalars(Y0)
    for comparison in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
        for found, expected in [
            (comparison(W, 0.0), comparison(W0, 0.0)),
            (comparison(0.0, W), comparison(0.0, W0)),
            (comparison(W, other), comparison(W0, Y0)),
            (comparison(W, W), comparison(W0, W0)),
            (comparison(W, W[0, 0]), comparison(W0, W0[0, 0])),
        ]:
            assert found.dtype == bool
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, expected)
    assert (W == None).tolist() == [[False] * 3] * 2  # noqa: E711
    special = scalars([0.0, math.nan, math.inf, -math.inf])
    for test in (np.isnan, np.isinf, np.isfinite):
        np.testing.assert_array_equal(test(special), test(special.data))


def test_comparing_with_text_answers_as_numpy():
    assert not np.any(scalars([1.0, 2.0]) == "x")
    assert np.all(scalars([1.0, 2.0]) != "x")


def test_comparisons_into_an_array_of_bool():
    found = np.zeros((2, 3), dtype=bool)
    np.less(scalars(W0), 0.0, out=found)
    np.testing.assert_array_equal(found, W0 < 0.0)


@pytest.mark.parametrize("call", [np.argmax, np.argsort, lambda W: np.argmax(W, axis=1), lambda W: np.nonzero(W)[0]])
def test_indices_are_plain_numbers(call):
    found, expected = call(scalars(W0)), call(W0)
    np.testing.assert_array_equal(found, expected)
    assert type(found) is type(expected)


def test_sorting_moves_nodes():
    W = scalars(W0)
    ordered = np.sort(W, axis=1)
    np.testing.assert_array_equal(ordered.data, np.sort(W0, axis=1))
    assert set(ordered.ravel()) == set(W.ravel())
    np.testing.assert_array_equal(W[np.arange(2), np.argmax(W, axis=1)].data, W0.max(axis=1))
    assert np.median(W[0]) is W[0, np.argsort(W0[0])[1]] or np.median(W[0]).data == np.median(W0[0])


# --- assignment and out= ----------------------------------------------------------------------------------------

IN_PLACE = {
    "+=": lambda z, other: z.__iadd__(other),
    "-=": lambda z, other: z.__isub__(other),
    "*=": lambda z, other: z.__imul__(other),
    "/=": lambda z, other: z.__itruediv__(other),
    "%=": lambda z, other: z.__imod__(other),
}
PURE = {
    "+=": lambda z, other: z + other,
    "-=": lambda z, other: z - other,
    "*=": lambda z, other: z * other,
    "/=": lambda z, other: z / other,
    "%=": lambda z, other: z % other,
}


@pytest.mark.parametrize("kind", ["number", "array", "node", "nodes", "row"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_operators_record(name, kind):
    def other(W):
        return {"number": 2.5, "array": Y0, "node": W[0, 1], "nodes": W * 3.0, "row": W[:1]}[kind]

    W = scalars(W0)
    z = kept = W * 1.0
    z = IN_PLACE[name](z, other(W))
    assert z is kept
    assert_nodes(z)
    np.testing.assert_allclose(z.data, PURE[name](W0 * 1.0, other(W0)), rtol=1e-15)
    np.sum(z * Y0).backward()
    expected = autograd.grad(lambda W: anp.sum(PURE[name](W * 1.0, other(W)) * Y0))(W0)
    # one operation each, then sums of contributions up to Y / W, which is a few hundred, and may cancel
    np.testing.assert_allclose(W.grad, expected, rtol=1e-13, atol=1e-12)


def test_in_place_operators_on_leaves_keep_the_leaves_in_the_graph():
    W = scalars(W0)
    leaves = W.copy()
    W *= 2.0
    W **= 2
    assert all(node.op is not None for node in W.ravel())
    W.sum().backward()
    np.testing.assert_allclose(leaves.grad, 8.0 * W0, rtol=1e-15)  # (2 w)**2


def test_matrix_product_in_place():
    W, square = scalars(W0[:, :2]), scalars(Y0[:, :2])
    expected = W.data @ square.data
    W @= square
    np.testing.assert_allclose(W.data, expected, rtol=1e-14)  # two products, one sum
    assert_nodes(W)


def test_assigning_elements():
    z = scalars(np.zeros((2, 3)))
    v = Value(2.0)
    z[0, 0] = v * 3.0
    z[1] = scalars(W0[0]) * v
    z[0, 1:] = 7.0
    total = np.sum(z)
    assert total.data == pytest.approx(6.0 + 2.0 * W0[0].sum() + 14.0, rel=1e-15)
    total.backward()
    assert v.grad == pytest.approx(3.0 + W0[0].sum(), rel=1e-15)


def test_out_into_an_array_of_nodes():
    W = scalars(W0)
    target = scalars(np.zeros((2, 3)))
    result = np.exp(W, out=target)
    assert result is target
    np.sum(np.multiply(target, 2.0, out=target)).backward()
    np.testing.assert_allclose(W.grad, 2.0 * np.exp(W0), rtol=1e-15)
    plain = np.zeros((2, 3), dtype=object)
    np.add(W, 1.0, out=plain)
    assert all(isinstance(node, Value) for node in plain.ravel())


FLOAT_TARGETS = {
    "buffer += W": lambda W, buffer: buffer.__iadd__(W),
    "buffer *= W": lambda W, buffer: buffer.__imul__(W),
    "buffer[...] = W": lambda W, buffer: buffer.__setitem__(..., W),
    "buffer[0] = W[0]": lambda W, buffer: buffer.__setitem__(0, W[0]),
    "buffer[0, 1] = W[0, 1]": lambda W, buffer: buffer.__setitem__((0, 1), W[0, 1]),
    "buffer[mask] = W[mask]": lambda W, buffer: buffer.__setitem__(MASK, W[MASK]),
    "buffer.flat = W": lambda W, buffer: buffer.flat.__setitem__(slice(None), W.ravel()),
    "np.exp(W, out=buffer)": lambda W, buffer: np.exp(W, out=buffer),
    "buffer %= W": lambda W, buffer: buffer.__imod__(W),
    "buffer //= W": lambda W, buffer: buffer.__ifloordiv__(W),
    "np.cos(W, out=buffer)": lambda W, buffer: np.cos(W, out=buffer),
    "np.mod(W, 2, out=buffer)": lambda W, buffer: np.mod(W, 2.0, out=buffer),
    "np.clip(out=buffer)": lambda W, buffer: np.clip(W, 0, 1, out=buffer),
    "np.clip(array, W, out=buffer)": lambda W, buffer: np.clip(Y0, W, None, out=buffer),
    "W.clip(out=buffer)": lambda W, buffer: W.clip(0, 1, out=buffer),
    "W.clip(max=, out=buffer)": lambda W, buffer: W.clip(max=0, out=buffer),
    "buffer.clip(W, out=buffer)": lambda W, buffer: buffer.clip(W, 9, out=buffer),
    "np.round(out=buffer)": lambda W, buffer: np.round(W, out=buffer),
    "np.round(1, out=buffer)": lambda W, buffer: np.round(W, 1, out=buffer),
    "W.round(out=buffer)": lambda W, buffer: W.round(out=buffer),
    "np.min(out=buffer)": lambda W, buffer: np.min(W, axis=0, out=buffer[0]),
    "W.min(out=buffer)": lambda W, buffer: W.min(axis=0, out=buffer[0]),
    "np.minimum.reduce(out=buffer)": lambda W, buffer: np.minimum.reduce(W, out=buffer[0]),
    "np.ptp(out=buffer)": lambda W, buffer: np.ptp(W, axis=0, out=buffer[0]),
    "np.prod(out=buffer)": lambda W, buffer: np.prod(W, axis=0, out=buffer[0]),
    "np.median(out=buffer)": lambda W, buffer: np.median(W, axis=0, out=buffer[0]),
    "W.cumsum(out=buffer)": lambda W, buffer: W.cumsum(axis=0, out=buffer),
    "np.minimum.at": lambda W, buffer: np.minimum.at(buffer, [0], W[:1]),
    "np.add(W, 1, out=buffer)": lambda W, buffer: np.add(W, 1.0, out=buffer),
    "np.matmul(out=buffer)": lambda W, buffer: np.matmul(np.eye(2), W, out=buffer),
    "np.copyto(buffer, W)": lambda W, buffer: np.copyto(buffer, W),
    "np.copyto(unsafe)": lambda W, buffer: np.copyto(buffer, W, casting="unsafe"),
    "np.put(buffer, 0, W)": lambda W, buffer: np.put(buffer, [0], W[0, :1]),
    "np.putmask": lambda W, buffer: np.putmask(buffer, MASK, W),
    "np.place": lambda W, buffer: np.place(buffer, MASK, W[MASK]),
    "np.fill_diagonal": lambda W, buffer: np.fill_diagonal(buffer, W[0, 0]),
    "W.sum(out=buffer)": lambda W, buffer: W.sum(axis=0, out=buffer[0]),
    "W.mean(out=buffer)": lambda W, buffer: W.mean(axis=0, out=buffer[0]),
    "np.max(out=buffer)": lambda W, buffer: np.max(W, axis=0, out=buffer[0]),
    "np.std(out=buffer)": lambda W, buffer: np.std(W, axis=0, out=buffer[0]),
    "np.cumsum(out=buffer)": lambda W, buffer: np.cumsum(W[0], out=buffer[0]),
    "np.take(out=buffer)": lambda W, buffer: np.take(W[0], [0, 1, 2], out=buffer[0]),
    "np.concatenate(out=buffer)": lambda W, buffer: np.concatenate([W[:1], W[:1]], out=buffer),
    "np.einsum(out=buffer)": lambda W, buffer: np.einsum("ij->ij", W, out=buffer),
    "W.astype(float)": lambda W, buffer: W.astype(float),
    "W.astype(int)": lambda W, buffer: W.astype(int),
    "np.asarray(W, dtype=float)": lambda W, buffer: np.asarray(W, dtype=float),
    "np.float32(W)": lambda W, buffer: np.float32(W),
    "np.sum(W, dtype=float)": lambda W, buffer: np.sum(W, dtype=float),
    "np.mean(W, dtype=float)": lambda W, buffer: np.mean(W, dtype=float),
    "np.add(dtype=float)": lambda W, buffer: np.add(W, 1.0, dtype=float),
    "np.add(dtype=float, unsafe)": lambda W, buffer: np.add(W, 1.0, dtype=float, casting="unsafe"),
    "np.stack(dtype=float)": lambda W, buffer: np.stack([W, W], dtype=float, casting="unsafe"),
    "np.fromiter": lambda W, buffer: np.fromiter(W.ravel(), float),
    "np.interp": lambda W, buffer: np.interp(W[0], [0.0, 1.0], [0.0, 1.0]),
    "np.linalg.inv": lambda W, buffer: np.linalg.inv(W[:, :2]),
    "np.linalg.solve": lambda W, buffer: np.linalg.solve(W[:, :2], np.eye(2)),
    "np.fft.fft": lambda W, buffer: np.fft.fft(W),
    "np.bincount": lambda W, buffer: np.bincount([0, 1, 1], weights=W[0]),
    "float(element)": lambda W, buffer: float(W[0, 0]),
    "math.exp(element)": lambda W, buffer: math.exp(W[0, 0]),
}


@pytest.mark.parametrize("call", FLOAT_TARGETS.values(), ids=FLOAT_TARGETS.keys())
def test_nothing_goes_into_floats(call):
    buffer = np.full((2, 3), 7.0)
    with pytest.raises(TypeError):
        call(scalars(W0), buffer)
    np.testing.assert_array_equal(buffer, np.full((2, 3), 7.0))


def test_refusal_of_a_float_target_says_what_to_do():
    W = scalars(W0)
    buffer = np.zeros((2, 3))
    with pytest.raises(TypeError, match=r"np\.exp into an array of float64 would drop the gradient.*scalars"):
        np.exp(W, out=buffer)
    with pytest.raises(TypeError, match=r"np\.add into .*would drop the gradient"):
        buffer += W
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        buffer[0] = W[0]


def test_add_at_into_floats():
    with pytest.raises(TypeError):
        np.add.at(np.zeros(6), [0, 1], scalars([1.0, 2.0]))


def test_a_function_of_one_operand_at_some_places():
    leaves = scalars(W0)
    W = leaves.copy()
    np.cos.at(W, [0])
    np.testing.assert_allclose(W.data, [np.cos(W0[0]), W0[1]], rtol=1e-15)
    np.sum(W).backward()
    np.testing.assert_allclose(leaves.grad, [-np.sin(W0[0]), np.ones(3)], rtol=1e-15)


def test_clip_and_minimum_in_place():
    W = scalars(W0)
    z = W * 1.0
    np.clip(z, -0.5, 0.5, out=z)
    np.testing.assert_array_equal(z.data, np.clip(W0, -0.5, 0.5))
    np.sum(z).backward()
    np.testing.assert_array_equal(W.grad, np.abs(W0) < 0.5)


def test_add_at():
    z, W = scalars(np.zeros(3)), scalars([1.0, 2.0, 4.0])
    np.add.at(z, [0, 2, 0], W)
    np.testing.assert_array_equal(z.data, [5.0, 0.0, 2.0])
    z[0].backward()
    np.testing.assert_array_equal(W.grad, [1.0, 0.0, 1.0])


WITH_WHERE = {
    "np.add": lambda W, out: np.add(W, 1.0, out=out, where=MASK),
    "np.exp": lambda W, out: np.exp(W, out=out, where=MASK),
    "np.divide": lambda W, out: np.divide(W, 2.0, out=out, where=MASK),
    "np.maximum": lambda W, out: np.maximum(W, 0.5, out=out, where=MASK),
    "np.cos": lambda W, out: np.cos(W, out=out, where=MASK),
    "np.clip": lambda W, out: np.clip(W, -0.5, 0.5, out=out, where=MASK),
}


@pytest.mark.parametrize("call", WITH_WHERE.values(), ids=WITH_WHERE.keys())
def test_out_with_where_leaves_the_rest_alone(call):
    W, out = scalars(W0), scalars(Y0)
    before = out.copy()
    result = call(W, out)
    assert np.shares_memory(result, out)
    np.testing.assert_allclose(out.data, call(W0, Y0.copy()), rtol=4 * np.finfo(float).eps)
    assert all(out[index] is before[index] for index in np.ndindex(2, 3) if not MASK[index])


def test_division_into_zeros_where_possible():
    W = scalars(W0)
    found = np.divide(1.0, W, out=np.zeros_like(W), where=W > 0.0)
    np.testing.assert_array_equal(found.data, np.divide(1.0, W0, out=np.zeros_like(W0), where=W0 > 0.0))


OTHERS = {"cholesky": 0, "det": 0, "inv": 0, "slogdet": 0, "interp": 2}  # how many arguments follow the first; or 1


@pytest.mark.parametrize("function", sorted(ON_TENSORS_ONLY, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_what_only_tensors_have_is_refused_with_the_way_out(function):
    with pytest.raises(
        TypeError, match=rf"np\.(linalg\.)?{function.__name__} does not run on arrays of Values.*Tensor"
    ):
        function(scalars(np.eye(2) + 0.5), *[0.5] * OTHERS.get(function.__name__, 1))
    assert function in tensor.FUNCTIONS


def test_a_refusal_in_one_thread_does_not_reach_another():
    z, failures = scalars(W0), []
    stop = threading.Event()

    def refused():
        while not stop.is_set():
            with pytest.raises(TypeError):
                np.frexp(z)

    thread = threading.Thread(target=refused)
    thread.start()
    for _ in range(300):
        try:
            np.sum(z)
        except TypeError as error:
            failures.append(error)
    stop.set()
    thread.join()
    assert failures == []


@pytest.mark.parametrize("call", [np.nansum, np.nanmean, np.nanvar, np.nanstd, np.nanmax], ids=lambda f: f.__name__)
def test_functions_that_leave_out_nan(call):
    holed = np.where(MASK, W0, math.nan)
    W = scalars(holed)
    try:
        found = call(W, axis=1)
    except TypeError:
        return  # a refusal is an answer
    np.testing.assert_allclose(found.data, call(holed, axis=1), rtol=1e-14)


def test_reductions_with_options():
    W = scalars(W0)
    assert np.sum(W, initial=2.0).data == pytest.approx(W0.sum() + 2.0, rel=1e-14)
    assert np.sum(W, where=MASK, initial=0.0).data == pytest.approx(W0[MASK].sum(), rel=1e-14)
    assert np.max(W, initial=100.0).data == 100.0
    assert np.max(W, where=MASK, initial=-9.0).data == W0[MASK].max()
    np.testing.assert_array_equal(np.add.accumulate(W[0]).data, np.add.accumulate(W0[0]))
    np.testing.assert_array_equal(np.add.reduceat(W[0], [0, 1]).data, np.add.reduceat(W0[0], [0, 1]))
    np.testing.assert_array_equal(np.multiply.outer(W[0], W[1]).data, np.multiply.outer(W0[0], W0[1]))
    np.testing.assert_array_equal(np.maximum.outer(W[0], W0[1]).data, np.maximum.outer(W0[0], W0[1]))
    np.testing.assert_array_equal(np.maximum.accumulate(W, axis=1).data, np.maximum.accumulate(W0, axis=1))


# --- functions that are written with the rows -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["array", "node"])
@pytest.mark.parametrize("ufunc", COMPOSITES, ids=lambda ufunc: ufunc.__name__)
def test_composites_are_numpys_functions_with_their_slopes(ufunc, kind):
    others = [0.7, -0.4]
    for side in range(ufunc.nin):

        def call(x, side=side):
            found = ufunc(*([x] if ufunc.nin == 1 else [x, others[1]] if side == 0 else [others[0], x]))
            return found if isinstance(found, tuple) else (found,)

        numbers = np.array([2.6, 0.3]) if kind == "array" else 2.6
        nodes = scalars(numbers) if kind == "array" else Value(numbers)
        for y, expected, up, down in zip(
            call(nodes), call(numbers), call(numbers + 1e-6), call(numbers - 1e-6), strict=True
        ):
            is_node = isinstance(y, (Value, Scalars))
            np.testing.assert_allclose(y.data if is_node else y, expected, rtol=1e-15, atol=1e-16)
            nodes.grad = np.zeros(2) if kind == "array" else 0.0
            if isinstance(
                np.sum(y), Value
            ):  # heaviside of a number that is not 0, and copysign of one, do not depend on the other
                np.sum(y).backward()
            np.testing.assert_allclose(nodes.grad, (up - down) / 2e-6, rtol=1e-6, atol=1e-6)


def test_composites_at_their_corners():
    a, b = Value(math.nan), Value(1.5)
    np.fmax(a, b).backward()
    assert (a.grad, b.grad) == (0.0, 1.0)  # nothing is multiplied by nan
    zero = Value(0.0)
    np.fmod(zero, 2.0).backward()
    assert zero.grad == 1.0  # through |a| it would be 0
    assert math.copysign(1.0, np.trunc(Value(-0.5)).data) == -1.0
    node, array = Value(-2.7), scalars([-2.75, 0.5])
    assert np.fix(node).data == np.trunc(node).data == -2.0
    assert np.round(node, 1).data == -2.7
    np.testing.assert_array_equal(np.fix(array).data, [-2.0, 0.0])
    np.testing.assert_array_equal(np.round(array, 1).data, np.round([-2.75, 0.5], 1))


# --- functions without a row ------------------------------------------------------------------------------------

KNOWN = {*UFUNCS, *COMPOSITES, *OPERATORS, *COMPARISONS, *TESTS, np.conjugate, np.clip}
UFUNCS_WITHOUT_A_ROW = sorted(
    {f for f in vars(np).values() if isinstance(f, np.ufunc)} - KNOWN, key=lambda ufunc: ufunc.__name__
)


def test_there_are_functions_without_a_row():
    # ours, so that the tests below do not run out of cases without a word
    assert {
        np.nextafter, np.gcd, np.lcm, np.modf, np.frexp, np.spacing, np.logical_not, np.invert,
    } <= set(UFUNCS_WITHOUT_A_ROW)  # fmt: skip


@pytest.mark.parametrize("ufunc", UFUNCS_WITHOUT_A_ROW, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "operand", [scalars([0.3, 0.7]), Value(0.3), scalars(0.3)], ids=["array", "node", "no dimensions"]
)
def test_functions_without_a_row_are_refused(ufunc, operand):
    for arguments in ((operand, 1.0)[: ufunc.nin], (1.0, operand)[-ufunc.nin :]):
        with pytest.raises(TypeError, match=rf"np\.{ufunc.__name__} cannot be applied to nodes.*no row.*\.data"):
            ufunc(*arguments)


THROUGH_WRAPPERS = {
    "np.any(W)": ("logical_or", lambda W: np.any(W)),
    "np.any(W, axis)": ("logical_or", lambda W: np.any(W, axis=1)),
    "W.any()": ("logical_or", lambda W: W.any()),
    "np.all(W)": ("logical_and", lambda W: np.all(W)),
    "W.all()": ("logical_and", lambda W: W.all()),
    "~W": ("invert", lambda W: ~W),
    "W & True": ("bitwise_and", lambda W: W & True),
    "1 << W": ("left_shift", lambda W: 1 << W),
    "np.trunc.at": ("trunc", lambda W: np.trunc.at(W, [0])),
    "np.fmax.reduce": ("fmax", lambda W: np.fmax.reduce(W)),
    "np.fmin.accumulate": ("fmin", lambda W: np.fmin.accumulate(W)),
    "np.fmod.outer": ("fmod", lambda W: np.fmod.outer(W[0], W[1])),
    "np.logaddexp2.reduceat": ("logaddexp2", lambda W: np.logaddexp2.reduceat(W[0], [0, 1])),
    "np.heaviside(out=W)": ("heaviside", lambda W: np.heaviside(W, 0.5, out=W)),
    "np.heaviside(out=float)": ("heaviside", lambda W: np.heaviside(W, 0.5, out=np.zeros((2, 3)))),
    "in np.apply_along_axis": ("spacing", lambda W: np.apply_along_axis(np.spacing, 0, W)),
    "in np.piecewise": ("spacing", lambda W: np.piecewise(W, [W0 > 0], [np.spacing, np.negative])),
    "np.vectorize": (r"<lambda> \(vectorized\)", lambda W: np.vectorize(lambda w: w * 2.0)(W)),
    "np.frompyfunc": ("neg", lambda W: np.frompyfunc(operator.neg, 1, 1)(W)),
}


@pytest.mark.parametrize(("name", "call"), THROUGH_WRAPPERS.values(), ids=THROUGH_WRAPPERS.keys())
def test_refusals_come_through_numpys_wrappers(name, call):
    W = scalars(W0)
    before = W.copy()
    with pytest.raises(TypeError, match=r"cannot be applied to nodes: the table has no row") as caught:
        call(W)
    assert re.match(rf"np\.{name}", str(caught.value))
    assert all(a is b for a, b in zip(W.ravel(), before.ravel(), strict=True))


# What NumPy does by way of floats, or of attributes that only its own arrays have: a right answer or an error
RIGHT_OR_REFUSED = {
    "np.i0": np.i0,
    "np.interp": lambda W: np.interp(W[0], [-3.0, 3.0], [0.0, 1.0]),
    "np.gradient": lambda W: np.gradient(W[0]),
    "np.histogram": lambda W: np.histogram(W)[1],
    "np.cov": np.cov,
    "np.corrcoef": np.corrcoef,
    "np.percentile": lambda W: np.percentile(W, 30),
    "np.quantile": lambda W: np.quantile(W, 0.3, axis=1),
    "np.linalg.norm 3": lambda W: np.linalg.norm(W[0], 3),
    "np.linalg.norm 2": lambda W: np.linalg.norm(W, 2),
    "np.linalg.det": lambda W: np.linalg.det(W[:, :2]),
    "np.linalg.svd": lambda W: np.linalg.svd(W)[1],
    "np.linalg.eigvals": lambda W: np.linalg.eigvals(W[:, :2]),
    "np.linalg.matrix_power": lambda W: np.linalg.matrix_power(W[:, :2], 3),
    "np.linalg.multi_dot": lambda W: np.linalg.multi_dot([W, W.T, W]),
    "np.fft.rfft": lambda W: np.fft.rfft(W).real,
    "np.sinc of a node": lambda W: np.sinc(W[0, 0]),
    "np.full_like": lambda W: np.full_like(W0, W[0, 0]),
    "np.trapezoid": np.trapezoid,
    "np.convolve": lambda W: np.convolve(W[0], W[1]),
    "np.correlate": lambda W: np.correlate(W[0], W[1]),
    "np.kron": lambda W: np.kron(W, W),
    "np.cross": lambda W: np.cross(W[0], W[1]),
    "np.average": lambda W: np.average(W, weights=np.arange(6.0).reshape(2, 3)),
    "np.linspace": lambda W: np.linspace(W[0], W[1], 4),
    "np.polyval": lambda W: np.polyval(W[0], 2.0),
    "np.polyfit": lambda W: np.polyfit(W[0], W[1], 1),
    "np.vander": lambda W: np.vander(W[0], 3),
    "np.real_if_close": np.real_if_close,
    "np.nan_to_num": np.nan_to_num,
    "np.fabs": np.fabs,
    "np.partition": lambda W: np.partition(W, 1)[:, 1],
    "np.unique": np.unique,
    "np.meshgrid": lambda W: np.meshgrid(W[0], W[1])[0],
    "np.pad": lambda W: np.pad(W, 1),
    "np.pad edge": lambda W: np.pad(W, 1, mode="edge"),
    "np.pad mean": lambda W: np.pad(W, 1, mode="mean"),
    "np.tri": lambda W: np.tril(W) + np.triu(W),
    "np.choose": lambda W: np.choose([0, 1, 1], [W[0], W[1]]),
    "np.take_along_axis": lambda W: np.take_along_axis(W, np.array([[0], [2]]), 1),
    "np.block": lambda W: np.block([[W], [W]]),
    "np.insert": lambda W: np.insert(W[0], 1, W[1, 0]),
    "np.delete": lambda W: np.delete(W, 1, axis=1),
    "np.rot90": np.rot90,
    "np.flip": np.flip,
    "np.broadcast_to": lambda W: np.broadcast_to(W[0], (2, 3)),
    "np.einsum of two": lambda W: np.einsum("ij,ij->i", W, W),
    "np.einsum optimize": lambda W: np.einsum("ij,kj,kl->il", W, W, W, optimize=True),
}


@pytest.mark.parametrize("call", RIGHT_OR_REFUSED.values(), ids=RIGHT_OR_REFUSED.keys())
def test_other_functions_are_right_or_refused(call):
    expected = call(W0)
    W = scalars(W0)
    try:
        result = call(W)
    except (TypeError, AttributeError, ValueError):
        return
    assert_nodes(result)
    np.testing.assert_allclose(data(result), expected, rtol=1e-13, atol=1e-14)
    if not np.ndim(result):
        result.backward()
    else:
        np.sum(result * weights(np.shape(result))).backward()
    # A gradient came back: along a direction, against a central difference, h**2 and eps / h off
    direction, h = Y0, 1e-6
    contraction = weights(np.shape(expected)) if np.ndim(expected) else 1.0
    slope = np.sum(contraction * (call(W0 + h * direction) - call(W0 - h * direction))) / (2.0 * h)
    assert np.sum(W.grad * direction) == pytest.approx(slope, rel=1e-6, abs=1e-6)


NEWCOMERS = {
    "divmod(W, 2)": lambda W: divmod(W, 2)[1],
    "divmod(7, W)": lambda W: divmod(7, W)[0],
    "divmod(array, node)": lambda W: divmod(Y0, W[0, 0])[1],
    "np.round(W, 1)": lambda W: np.round(W, 1),
    "W.round(2)": lambda W: W.round(2),
    "np.sinc(node)": lambda W: np.sinc(W[0, 0]),
}


@pytest.mark.parametrize("call", NEWCOMERS.values(), ids=NEWCOMERS.keys())
def test_what_takes_more_than_one_row(call):
    np.testing.assert_allclose(data(call(scalars(W0))), call(W0), rtol=1e-14)


NAN = np.array([[math.nan, 3.0, 1.0, 2.0], [3.0, math.nan, 2.0, 1.0]])
ORDERS = {
    "sort": np.sort,
    "argsort": np.argsort,
    "median": lambda W: np.median(W, axis=1),
    "partition": lambda W: np.partition(W, 2),
    "unique": np.unique,
    "nan_to_num": np.nan_to_num,
}


@pytest.mark.parametrize("name", ORDERS)
def test_what_would_go_wrong_with_nan_is_refused(name):
    with pytest.raises(TypeError, match=f"np.{name}"):
        ORDERS[name](scalars(NAN))


@pytest.mark.parametrize(
    "call",
    [
        lambda W, out: np.clip(W, 0, 1, out=out),
        lambda W, out: np.round(W, out=out),
        lambda W, out: np.cumsum(W, 0, out=out),
    ],
    ids=["np.clip", "np.round", "np.cumsum"],
)
def test_out_is_what_comes_back(call):
    out = scalars(np.zeros((2, 3)))
    assert call(scalars(W0), out) is out


def test_a_refusal_below_a_numpy_function_stands_even_if_handled():
    """It cannot be told from one that NumPy swallows, and a detached result would be worse."""

    def squash(row):
        try:
            return np.nextafter(row, 0.5)
        except TypeError:
            return np.tanh(row)

    with pytest.raises(TypeError, match=r"np\.nextafter"):
        np.apply_along_axis(squash, 1, scalars(W0))


def test_a_refusal_is_forgotten_afterwards():
    W = scalars(W0)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"np\.spacing"):
            np.apply_along_axis(np.spacing, 0, W)
        assert_nodes(np.sum(W, axis=0))
        with pytest.raises(TypeError, match=r"np\.nextafter"):
            np.nextafter(W, 0.5)
        assert_nodes(np.concatenate([W, W]))
        assert_nodes(np.mean(W))


def test_a_refusal_keeps_no_graph_alive():
    def refused(call):
        W = scalars(W0) * 2.0
        with contextlib.suppress(TypeError):
            call(np.exp(W))

    gc.collect()
    before = sum(type(thing) is Value for thing in gc.get_objects())
    for call in (np.spacing, np.modf, lambda W: np.exp(W, out=np.zeros((2, 3))), lambda W: np.nextafter(W, 1)):
        refused(call)
        gc.collect()
        assert sum(type(thing) is Value for thing in gc.get_objects()) == before


def test_a_refusal_that_user_code_handles_does_not_come_back():
    W = scalars(W0)

    def squash(row):
        try:
            return np.nextafter(row, 0.5)
        except TypeError:
            return np.tanh(row)

    found = np.stack([squash(row) for row in W])
    np.testing.assert_allclose(found.data, np.tanh(W0), rtol=1e-15)


PLAIN = {
    "cos": np.cos, "floor": np.floor, "ceil": np.ceil, "square": np.square, "reciprocal": np.reciprocal,
    "mod": lambda z: np.mod(z, 2.0), "floor_divide": lambda z: z // 2.0, "clip": lambda z: np.clip(z, 0.0, 1.0),
    "min": np.min, "maximum": lambda z: np.maximum(z, 0.0), "fmax": lambda z: np.fmax(z, 0.0),
    "trunc": np.trunc, "arctan2": lambda z: np.arctan2(z, 1.0), "fmod": lambda z: np.fmod(z, 2.0),
    "heaviside": lambda z: np.heaviside(z, 0.5), "gcd": lambda z: np.gcd(z, 2), "degrees": np.degrees,
    "copysign": lambda z: np.copysign(z, -1.0), "float_power":
    lambda z: np.float_power(z, 2.0), "modf": lambda z: np.modf(z)[0], "hypot": lambda z: np.hypot(z, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("call", PLAIN.values(), ids=PLAIN.keys())
def test_plain_object_arrays_lose_no_slope(call):
    # an array that no one has passed through `scalars`: NumPy may refuse, or compare and pick, but drops no slope
    numbers = np.array([2.5, 0.75, -1.25])
    nodes = [Value(x) for x in numbers]
    plain = np.empty(3, dtype=object)
    plain[:] = nodes
    try:
        result = call(plain)
    except (TypeError, AttributeError):
        return
    np.testing.assert_allclose(scalars(result).data, call(numbers), rtol=1e-15)
    np.sum(scalars(result)).backward()
    slopes = (np.asarray(call(numbers + 1e-6)) - call(numbers - 1e-6)).sum() / 2e-6
    assert sum(node.grad for node in nodes) == pytest.approx(slopes, rel=1e-6, abs=1e-6)


# --- not finite -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call", "kind"),
    [
        ("log", lambda W: np.log(W), "divide by zero"),
        ("exp", lambda W: np.exp(1000.0 - W), "overflow"),
        ("sqrt", lambda W: np.sqrt(W - 1.0), "invalid value"),
        ("div", lambda W: 1.0 / W, "divide by zero"),
        ("pow", lambda W: W**-1.0, "divide by zero"),
    ],
)
def test_numpys_warnings(name, call, kind):
    array = np.array([0.0, 1.0, 2.0])
    with np.errstate(all="ignore"):
        expected = call(array)
        np.testing.assert_array_equal(call(scalars(array)).data, expected)
    with pytest.warns(RuntimeWarning, match=kind):
        np.testing.assert_array_equal(call(scalars(array)).data, expected)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=rf"{name}\(.*{kind}"):
        call(scalars(array))


@pytest.mark.parametrize("call", [lambda x: np.log(x), lambda x: np.sqrt(x - 1.0), lambda x: np.exp(1000.0 - x)])
def test_one_warning_per_element_and_none_of_our_making(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(scalars([0.0, 1000.0]))
    assert [str(warning.message) for warning in caught if "vectorized" in str(warning.message)] == []
    assert len(caught) == 1


def test_underflow_is_no_error_in_arrays_as_in_nodes():
    with np.errstate(all="raise"):
        assert Value(-1000.0).exp().data == 0.0
        assert np.exp(Value(-1000.0)).data == 0.0
        np.testing.assert_array_equal(np.exp(scalars([-1000.0])).data, [0.0])
        np.testing.assert_array_equal(ad.sigmoid(scalars([-1000.0, 1000.0])).data, [0.0, 1.0])


def test_nan_passes_through():
    W = scalars([math.nan, 1.0])
    for result in (np.maximum(0, W), np.exp(W), W * 2.0, np.tanh(W), abs(W), W**2):
        assert math.isnan(result.data[0])
        assert not math.isnan(result.data[1])
    assert math.isnan(np.max(W).data)
    assert math.isnan(np.sum(W).data)


# --- other arrays ---------------------------------------------------------------------------------------------


def test_with_plain_object_arrays():
    v = Value(2.0)
    plain = np.array([v, v * 2.0])
    assert type(plain) is np.ndarray
    for result in (plain * scalars([1.0, 2.0]), scalars([1.0, 2.0]) + plain, np.maximum(scalars([0.0, 9.0]), plain)):
        assert type(result) is Scalars
        assert all(type(node) is Value for node in result)
    assert type(plain.sum()) is Value
    assert type(np.exp(plain)[0]) is Value


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int64, bool])
def test_with_arrays_of_every_number(dtype):
    array = np.array([[1, 0, 1], [0, 1, 1]], dtype=dtype)
    W = scalars(W0)
    for result in (W * array, array * W, W + array, array - W, array @ W.T, np.maximum(array, W)):
        assert type(result) is Scalars
    np.testing.assert_allclose((W * array).data, W0 * array.astype(float), rtol=0)
    np.testing.assert_allclose((array - W).data, array.astype(float) - W0, rtol=0)


def test_lists_and_tuples_on_the_other_side():
    W = scalars(W0)
    for other in ([1.0, 2.0, 3.0], (1.0, 2.0, 3.0), [[1.0], [2.0]]):
        np.testing.assert_array_equal((W + other).data, W0 + np.array(other))
        np.testing.assert_array_equal((other * W).data, W0 * np.array(other))


@pytest.mark.parametrize(
    "bad", ["x", 1j, None, np.array([1j]), np.array(["x"]), {}, object()], ids=lambda bad: type(bad).__name__
)
def test_operators_refuse(bad):
    W = scalars(W0)
    before = W.copy()
    for call in (lambda: W + bad, lambda: bad * W, lambda: np.maximum(W, bad), lambda: W.__iadd__(bad)):
        with pytest.raises(TypeError):
            call()
    assert all(a is b for a, b in zip(W.ravel(), before.ravel(), strict=True))


def test_shapes_that_do_not_fit():
    W = scalars(W0)
    for call in (lambda: W + np.ones(4), lambda: W @ np.ones(2), lambda: np.maximum(W, np.ones((3, 3)))):
        with pytest.raises(ValueError, match=r"shape|mismatch|dimension"):
            call()


# --- the graph below is the one that the formulas say -------------------------------------------------------------


def test_every_scalar_operation_is_a_node():
    X, W, b = X0, scalars(W0, name="W"), scalars(np.zeros((1, 3)), name="b")
    loss = np.sum(np.maximum(0, X @ W + b))
    operations = [node.op.name for node in order(loss) if node.op is not None]
    assert operations.count("mul") == 4 * 3 * 2
    assert operations.count("relu") == 4 * 3
    # each product's sum, the bias, and the sum over all; NumPy may start a sum at its first term or at 0
    assert 4 * 3 * (1 + 1) + 11 <= operations.count("add") <= 4 * 3 * (2 + 1) + 12
    leaves = {node.name for node in order(loss) if node.op is None}
    assert leaves >= {f"W[{i},{j}]" for i, j in itertools.product(range(2), range(3))} | {"b[0,0]", "b[0,1]", "b[0,2]"}
