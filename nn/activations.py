"""Activations by name, on arrays of floats or of Values and on Tensors: the names of the document and of `by_hand`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff import Scalars, Tensor, exp, leaky_relu, relu, sigmoid, softplus, tanh, tensor, value


def identity(z: Any) -> Any:
    """z itself."""
    return z


def softmax(z: Any) -> Any:
    """exp(z_i) / sum_j exp(z_j) over the last axis: the units of one sample.

    The largest z of each sample is subtracted first, as a constant: the result does not depend on it, so neither
    does the derivative, and nothing overflows.

    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    z = z if isinstance(z, (np.ndarray, Tensor)) else np.asarray(z)
    # a program computes the largest unit anew at every call
    recording = value.watcher is not None or tensor.watcher is not None
    data = z.data if isinstance(z, (Scalars, Tensor)) and not recording else z
    e = exp(z - np.max(data, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "identity": identity,
    "softmax": softmax,
}


def activation(name: str) -> Callable[[Any], Any]:
    """The activation of that name; ValueError, listing the known ones, if there is none.

    >>> activation("relu")(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
