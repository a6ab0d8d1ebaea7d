"""The networks of W1, W4 and W5 on arrays: NumPy with the backward pass that a person would write, and the loss alone.

W and b are lists of matrices (n_in, n_out) and rows (n_out,). The backward pass is lean: (yhat - y) / n for sigmoid and
cross-entropy. `loss_of` is the loss in the functions of any array library, for those that differentiate it themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.workloads import circles, moons


def matrices(numbers: Any, sizes: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """(W, b): the matrices (n_in, n_out) and rows (n_out,) in parameters that stand neuron by neuron, bias last."""
    W, b, begin = [], [], 0
    for n_in, n_out in pairwise(sizes):
        neurons = numbers[begin : begin + n_out * (n_in + 1)].reshape(n_out, n_in + 1)
        W.append(neurons[:, :-1].T.copy())
        b.append(neurons[:, -1].copy())
        begin += neurons.size
    return W, b


def flat(W: Sequence[Any], b: Sequence[Any]) -> Any:
    """The parameters neuron by neuron: the inverse of `matrices`."""
    return np.concatenate([np.column_stack([A.T, c]).ravel() for A, c in zip(W, b, strict=True)])


def relu(z: Any) -> Any:
    """max(z, 0)."""
    return np.maximum(z, 0.0)


def forward(X: Any, W: Any, b: Any, relu: Callable[[Any], Any] = relu) -> Any:
    """(z1, a1, z2, a2, z3) of three layers with relu between them."""
    z1 = X @ W[0] + b[0]
    a1 = relu(z1)
    z2 = a1 @ W[1] + b[1]
    a2 = relu(z2)
    return z1, a1, z2, a2, a2 @ W[2] + b[2]


def backward(X: Any, W: Any, z1: Any, a1: Any, z2: Any, a2: Any, d3: Any) -> Any:
    """([dW1, dW2, dW3], [db1, db2, db3]) from d(loss)/d(z3)."""
    d2 = (d3 @ W[2].T) * (z2 > 0.0)
    d1 = (d2 @ W[1].T) * (z1 > 0.0)
    return [X.T @ d1, a1.T @ d2, a2.T @ d3], [d1.sum(0), d2.sum(0), d3.sum(0)]


def entropy(X: Any, y: Any, W: Any, b: Any) -> Any:
    """(loss, dW, db) of W1: the mean cross-entropy of a sigmoid."""
    z1, a1, z2, a2, z3 = forward(X, W, b)
    yhat = 1.0 / (1.0 + np.exp(-z3))
    loss = -np.mean(y * np.log(yhat) + (1.0 - y) * np.log(1.0 - yhat))
    return loss, *backward(X, W, z1, a1, z2, a2, (yhat - y) / len(X))


def hinge(X: Any, y: Any, W: Any, b: Any) -> Any:
    """(loss, dW, db) of W5: the mean hinge loss, and 1e-4 times the squares of all parameters."""
    z1, a1, z2, a2, z3 = forward(X, W, b)
    margin = 1.0 - y * z3
    loss = np.mean(np.maximum(margin, 0.0)) + 1e-4 * sum((p * p).sum() for p in (*W, *b))
    dW, db = backward(X, W, z1, a1, z2, a2, y * (margin > 0.0) * (-1.0 / len(X)))
    for gradients, parameters in ((dW, W), (db, b)):
        for gradient, parameter in zip(gradients, parameters, strict=True):
            gradient += 2e-4 * parameter
    return loss, dW, db


def entropy_of(np: Any, relu: Callable[[Any], Any], X: Any, y: Any, W: Any, b: Any) -> Any:
    """The loss of W1, with the functions of that library."""
    yhat = 1.0 / (1.0 + np.exp(-forward(X, W, b, relu)[-1]))
    return -np.mean(y * np.log(yhat) + (1.0 - y) * np.log(1.0 - yhat))


def hinge_of(np: Any, relu: Callable[[Any], Any], X: Any, y: Any, W: Any, b: Any) -> Any:
    """The loss of W5, with the functions of that library."""
    margin = 1.0 - y * forward(X, W, b, relu)[-1]
    return np.mean(relu(margin)) + 1e-4 * sum((p * p).sum() for p in (*W, *b))


def data_of(name: str) -> tuple[tuple[int, ...], Any, Any] | None:
    """(sizes, X, y) of the workload of that name; None where it is no network."""
    family, _, samples = name.partition("-")
    if family == "W5":
        sizes: tuple[int, ...] = (2, 16, 16, 1)
        X, labels = moons(int(float(samples)), random.Random(4))
    elif family in ("W1", "W4"):
        sizes = (2, 4, 3, 1)
        X, labels = circles(int(float(samples)), random.Random(1))
    else:
        return None
    return sizes, np.array(X), np.array(labels, float).reshape(-1, 1)


def by_hand(name: str) -> Any:
    """(function of (W, b), sizes, X, y) of the workload of that name; None where there is nothing to write by hand."""
    data = data_of(name)
    if data is None:
        return None
    sizes, X, y = data
    of = hinge if name.startswith("W5") else entropy
    return (lambda W, b: of(X, y, W, b)), sizes, X, y


def loss_of(
    name: str, library: Any = np, relu: Callable[[Any], Any] = relu, array: Callable[[Any], Any] = np.array
) -> Any:
    """The loss as a function of (W, b), with the functions and the arrays of that library."""
    sizes_X_y = data_of(name)
    assert sizes_X_y is not None
    X, y = map(array, sizes_X_y[1:])
    of = hinge_of if name.startswith("W5") else entropy_of
    return lambda W, b: of(library, relu, X, y, W, b)
