"""Optimisers over lists of Values or Tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from autodiff import NO_GRAD, Tensor, Value
from autodiff.value import as_number


class SGD:
    """Gradient descent: p <- p - learning_rate * dL/dp for every parameter p.

    The parameters are Values or Tensors; a Tensor gets a new array, and the one it was made from stays as it was.
    Raises TypeError for a parameter that is neither, ValueError for one that was computed (moving it would not move
    what it was computed from) and for a learning rate that is not positive.

    >>> p = Value(1.0)
    >>> (p * p).backward()
    >>> SGD([p], learning_rate=0.25).step()
    >>> p.data
    0.5
    """

    def __init__(self, parameters: Iterable[Any], learning_rate: float) -> None:
        if not isinstance(parameters, Iterable) or isinstance(parameters, Tensor):
            raise TypeError(f"SGD takes a list of nodes, got {type(parameters).__name__}; try model.parameters()")
        self.parameters: list[Any] = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, (Value, Tensor)):
                raise TypeError(f"SGD takes Values and Tensors, got {type(parameter).__name__}; try model.parameters()")
            if parameter.op is not None:
                raise ValueError(
                    f"SGD moves leaves, and {parameter!r} was computed, by {parameter.op.name}: what it was computed "
                    "from would stay where it is; try model.parameters()"
                )
        self.parameters = list(dict.fromkeys(self.parameters))  # tied weights move once
        self.learning_rate = as_number(learning_rate, "learning_rate")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate is a positive number, got {learning_rate!r}")

    def zero_grad(self) -> None:
        """Sets the grad of every parameter to 0: backward accumulates, so call it before each one."""
        for parameter in self.parameters:
            parameter.grad = NO_GRAD

    def step(self) -> None:
        """Moves every parameter against its gradient.

        Raises ValueError, and moves none, if a gradient is nan or infinite.
        """
        for parameter in self.parameters:
            finite = math.isfinite if isinstance(parameter, Value) else _all_finite  # math's is 30 times as fast
            if not finite(parameter.grad):
                raise ValueError(f"the gradient of {parameter!r} is not finite; no parameter was moved")
        for parameter in self.parameters:
            moved = parameter.data - self.learning_rate * parameter.grad
            # of an array of no dimensions NumPy makes a scalar
            parameter.data = moved if isinstance(parameter, Value) else np.asarray(moved, parameter.dtype)


def _all_finite(array: Any) -> bool:
    return bool(np.isfinite(array).all())
