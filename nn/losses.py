"""Losses (y, yhat) as in the document, with an explicit reduction, on arrays of floats or of nodes.

y, yhat: (n, m), samples in rows; one dimension is n samples of one output, and where m = 1 y may have just one.
Per sample a loss is a sum over outputs. Reduction over the batch: "sum", "mean" (over the n samples), "mean_elements"
(over the n * m elements).
The result is a float; where y or yhat holds nodes it is a Value, or a Tensor of no dimensions.

Terms whose weight is 0 are 0 whatever the logarithm says (0 log 0 = 0), with the derivative 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff import Scalars, Tensor, Value, log, scalars, softplus
from autodiff.tensor import restacked

REDUCTIONS = ("sum", "mean", "mean_elements")


def sse(y: Any, yhat: Any, reduction: str = "mean") -> Any:
    """sum_i (yhat_i - y_i)^2 per sample.

    >>> sse([[1.0, 2.0]], np.array([[1.5, 1.0]]))
    1.25
    """
    y, yhat = _paired(y, yhat)
    return _reduced((yhat - y) ** 2, reduction)


def half_sse(y: Any, yhat: Any, reduction: str = "mean") -> Any:
    """sum_i (yhat_i - y_i)^2 / 2 per sample, so that the derivative is yhat_i - y_i."""
    y, yhat = _paired(y, yhat)
    return _reduced(0.5 * (yhat - y) ** 2, reduction)


def mse(y: Any, yhat: Any) -> Any:
    """The mean over samples and outputs of (yhat_i - y_i)^2: sse with "mean_elements"."""
    return sse(y, yhat, "mean_elements")


def bce(y: Any, yhat: Any, reduction: str = "mean") -> Any:
    """- sum_i (y_i log yhat_i + (1 - y_i) log(1 - yhat_i)) per sample: the binary cross entropy of probabilities.

    For probabilities that may round to 0 or 1 use bce_with_logits, which loses nothing there.

    >>> round(bce([[1.0], [0.0]], np.array([[0.5], [0.5]])), 6)
    0.693147
    """
    y, yhat = _paired(y, yhat)
    # A weight of 0 moves the logarithm's argument away from 0, where 0 * log(0) would be nan.
    return _reduced(-(y * log(_shifted(y, yhat)) + (1.0 - y) * log(_shifted(1.0 - y, 1.0 - yhat))), reduction)


def bce_with_logits(y: Any, z: Any, reduction: str = "mean") -> Any:
    """y softplus(-z) + (1 - y) softplus(z) per element: the binary cross entropy of yhat = sigmoid(z), exact for any z.

    >>> bce_with_logits([[0.0]], np.array([[40.0]]))
    40.0
    """
    y, z = _paired(y, z)
    return _reduced(y * softplus(-z) + (1.0 - y) * softplus(z), reduction)


def ce(y: Any, yhat: Any, reduction: str = "mean") -> Any:
    """- sum_i y_i log yhat_i per sample: the cross entropy of a distribution over m classes."""
    y, yhat = _paired(y, yhat)
    return _reduced(-(y * log(_shifted(y, yhat))), reduction)


LOSSES: dict[str, Callable[..., Any]] = {"sse": sse, "half_sse": half_sse, "mse": mse, "bce": bce, "ce": ce}


def loss(name: str) -> Callable[..., Any]:
    """The loss of that name; ValueError, listing the known ones, if there is none."""
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    return LOSSES[name]


def _shifted(weight: Any, x: Any) -> Any:
    """x, but 1 more where its weight is 0 and log(x) or its derivative overflows: elsewhere y has a gradient too."""
    small = x < 1e-300
    return x + ((weight == 0) & small) if np.any(small) else x


def _paired(y: Any, yhat: Any) -> tuple[Any, Any]:
    yhat = _array(yhat, "yhat")
    y = _array(y, "y")
    if y.ndim == 1 and yhat.shape == (len(y), 1):
        y = y.reshape(-1, 1)
    if y.shape != yhat.shape:
        raise ValueError(
            f"y has the shape {y.shape} and yhat {yhat.shape}; a loss pairs them element by element, "
            "so reshape y to the shape of yhat (NumPy would broadcast them into a larger array)"
        )
    if y.ndim not in (1, 2) or y.size == 0:
        raise ValueError(f"y and yhat are (n, m) with n >= 1, or (n,) for one output; got the shape {y.shape}")
    return y, yhat


def _array(x: Any, name: str) -> Any:
    if isinstance(x, Value):
        return scalars(x).reshape(1)
    if isinstance(x, Tensor):
        return x if x.ndim else x.reshape(1)
    array = x if isinstance(x, Scalars) else np.asarray(x)
    if array.dtype == object and not isinstance(array, Scalars):
        return restacked(array) if any(isinstance(element, Tensor) for element in array.flat) else scalars(array)
    if array.dtype != object and array.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {array.dtype}, expected real numbers or nodes")
    return array if array.dtype == object else array.astype(float)


def _reduced(elements: Any, reduction: str) -> Any:
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")
    total = np.sum(elements)
    total = total if isinstance(total, (Value, Tensor)) else float(total)
    if reduction == "sum":
        return total
    return total / (elements.shape[0] if reduction == "mean" else elements.size)
