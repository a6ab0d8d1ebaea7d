"""Optimisers over lists of Values or Tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autodiff import NO_GRAD, Tensor, Value, updates


class Optimiser:
    """Moves parameters by an update rule of autodiff.updates, with the state that the rule keeps.

    The parameters are Values or Tensors; a Tensor gets a new array, and the one it was made from stays as it was.
    Raises TypeError for a parameter that is neither, ValueError for one that was computed (moving it would not move
    what it was computed from).

    >>> p = Value(1.0)
    >>> optimiser = Optimiser([p], updates.Adam(learning_rate=0.25))
    >>> (p * p).backward()
    >>> optimiser.step()
    >>> round(p.data, 6)
    0.75
    """

    def __init__(self, parameters: Iterable[Any], rule: updates.UpdateRule) -> None:
        kind = type(self).__name__
        if not isinstance(parameters, Iterable) or isinstance(parameters, Tensor):
            raise TypeError(f"{kind} takes a list of nodes, got {type(parameters).__name__}; try model.parameters()")
        self.parameters: list[Any] = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, (Value, Tensor)):
                raise TypeError(
                    f"{kind} takes Values and Tensors, got {type(parameter).__name__}; try model.parameters()"
                )
            if parameter.op is not None:
                raise ValueError(
                    f"{kind} moves leaves, and {parameter!r} was computed, by {parameter.op.name}: what it was "
                    "computed from would stay where it is; try model.parameters()"
                )
        self.parameters = list(dict.fromkeys(self.parameters))  # tied weights move once
        self.rule = rule
        self.values = [parameter for parameter in self.parameters if isinstance(parameter, Value)]
        self.state: list[Any] = rule.start(np.zeros((len(self.values), 1)))  # of all Values together
        self._tensors = [parameter for parameter in self.parameters if isinstance(parameter, Tensor)]
        self._states: list[Sequence[Any]] = [rule.start(np.zeros_like(tensor.data)) for tensor in self._tensors]

    @property
    def learning_rate(self) -> float:
        """The rule's; another one may be set between steps."""
        return self.rule.numbers[0]

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.rule = replace(self.rule, learning_rate=rate)  # type: ignore[type-var]

    def zero_grad(self) -> None:
        """Sets the grad of every parameter to 0: backward accumulates, so call it before each one."""
        for parameter in self.parameters:
            parameter.grad = NO_GRAD

    def step(self) -> None:
        """Moves every parameter against its gradient.

        Raises ValueError, and moves none, if a gradient is nan or infinite.
        """
        gradient = _column([parameter.grad for parameter in self.values])
        bad: list[Any] = [self.values[i] for i in np.flatnonzero(~np.isfinite(gradient))]
        bad += [tensor for tensor in self._tensors if not np.isfinite(tensor.grad).all()]
        if bad:
            raise updates.NotFiniteError(f"the gradient of {bad[0]!r} is not finite; no parameter was moved")
        numbers = self.rule.numbers
        if self.values:
            column = _column([parameter.data for parameter in self.values])
            with np.errstate(over="ignore", invalid="ignore"):  # as Python's floats, and nodes
                self.put(*self.rule.update(column, gradient, self.state, numbers))
        for i, tensor in enumerate(self._tensors):
            moved, self._states[i] = self.rule.update(tensor.data, tensor.grad, self._states[i], numbers)
            tensor.data = np.asarray(moved, tensor.dtype)  # of an array of no dimensions NumPy makes a scalar

    def put(self, column: Any, state: list[Any]) -> None:
        """Sets the numbers of all Values, (p, 1), and their state."""
        self.state = state
        for parameter, x in zip(self.values, column.ravel().tolist(), strict=True):
            parameter.data = x


class SGD(Optimiser):
    """Gradient descent: p <- p - learning_rate * v for every parameter p, where v <- momentum * v + dL/dp.

    Without momentum v is the gradient; with nesterov p moves along dL/dp + momentum * v. weight_decay adds
    weight_decay * p to the gradient. ValueError for a learning rate that is not positive.

    >>> p = Value(1.0)
    >>> (p * p).backward()
    >>> SGD([p], learning_rate=0.25).step()
    >>> p.data
    0.5
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, updates.SGD(learning_rate, momentum, nesterov, weight_decay))


class Adam(Optimiser):
    """p <- p - learning_rate * m' / (sqrt(v') + eps), where m' and v' are moving means of the gradient and its square.

    See autodiff.updates.Adam for the formulas.

    >>> p = Value(1.0)
    >>> (p * p).backward()
    >>> Adam([p], learning_rate=0.25, eps=0.0).step()
    >>> p.data
    0.75
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, updates.Adam(learning_rate, betas, eps, weight_decay))


def _column(numbers: list[Any]) -> Any:
    return np.array(numbers, float).reshape(-1, 1)
