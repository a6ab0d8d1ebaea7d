"""Optimisers over lists of Values."""

from __future__ import annotations

import math
from collections.abc import Iterable

from autodiff import NO_GRAD, Value
from autodiff.value import as_number


class SGD:
    """Gradient descent: p <- p - learning_rate * dL/dp for every parameter p.

    Raises TypeError for a parameter that is no Value, ValueError for a learning rate that is not positive.

    >>> p = Value(1.0)
    >>> (p * p).backward()
    >>> SGD([p], learning_rate=0.25).step()
    >>> p.data
    0.5
    """

    def __init__(self, parameters: Iterable[Value], learning_rate: float) -> None:
        if not isinstance(parameters, Iterable):
            raise TypeError(f"SGD takes Values, got {type(parameters).__name__}; try model.parameters()")
        self.parameters = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, Value):
                raise TypeError(f"SGD takes Values, got {type(parameter).__name__}; try model.parameters()")
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
            if not math.isfinite(parameter.grad):
                raise ValueError(f"the gradient of {parameter!r} is not finite; no parameter was moved")
        for parameter in self.parameters:
            parameter.data -= self.learning_rate * parameter.grad
