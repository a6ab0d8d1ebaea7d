"""How an optimiser moves numbers: each update rule written once, for arrays and for the instructions of a program.

Glossary: p the numbers that move, g = dL/dp, a rule's state what it keeps from step to step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.primitives import sqrt
from autodiff.value import as_number


class NotFiniteError(ValueError):
    """A gradient is nan or infinite."""


class UpdateRule(ABC):
    """How p moves in one step.

    `update` is written with + - * / and the table's functions, so that it runs on arrays and on symbols alike.
    """

    @property
    @abstractmethod
    def numbers(self) -> tuple[float, ...]:
        """What may change without a new program."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What tells one program from another."""

    @abstractmethod
    def start(self, p: Any) -> list[Any]:
        """The state before the first step: arrays like p, and numbers."""

    @abstractmethod
    def update(self, p: Any, g: Any, state: Sequence[Any], numbers: Sequence[Any]) -> tuple[Any, list[Any]]:
        """(p, state) after a step."""


@dataclass(frozen=True)
class SGD(UpdateRule):
    """p <- p - learning_rate v, where v <- momentum v + g starts at 0; with nesterov p moves along g + momentum v.

    weight_decay adds weight_decay p to g. The definitions are those of PyTorch; without momentum v is g.
    Raises ValueError for numbers out of range.

    >>> SGD(0.5).update(1.0, 0.5, [], SGD(0.5).numbers)
    (0.75, [])
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self, learning_rate=(0.0, False), momentum=(0.0, True), weight_decay=(0.0, True))
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("nesterov needs a momentum above 0")

    @property
    def numbers(self) -> tuple[float, ...]:
        """Learning rate, momentum, weight decay."""
        return self.learning_rate, self.momentum, self.weight_decay

    @property
    def kind(self) -> str:
        """Which terms there are."""
        return f"sgd {self.momentum > 0.0} {bool(self.nesterov)} {self.weight_decay > 0.0}"

    def start(self, p: Any) -> list[Any]:
        """v = 0."""
        return [np.zeros_like(p)] if self.momentum else []

    def update(self, p: Any, g: Any, state: Sequence[Any], numbers: Sequence[Any]) -> tuple[Any, list[Any]]:
        """(p, [v])."""
        rate, momentum, decay = numbers
        if self.weight_decay:
            g = g + decay * p
        if not self.momentum:
            return p - rate * g, []
        velocity = momentum * state[0] + g
        return p - rate * (g + momentum * velocity if self.nesterov else velocity), [velocity]


@dataclass(frozen=True)
class Adam(UpdateRule):
    """p <- p - learning_rate m' / (sqrt(v') + eps), where m and v are the moving means of g and g².

    m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g² start at 0, and after t steps m' = m / (1 - b1^t) and
    v' = v / (1 - b2^t) (Kingma and Ba 2015, algorithm 1). weight_decay adds weight_decay p to g, as in PyTorch.
    Raises ValueError for numbers out of range.

    >>> rule = Adam(0.5, eps=0.0)
    >>> rule.update(1.0, -3.0, [0.0, 0.0, 1.0, 1.0], rule.numbers)[0]  # the first step has the length of the rate
    1.5
    """

    learning_rate: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self, learning_rate=(0.0, False), eps=(0.0, True), weight_decay=(0.0, True))
        try:
            betas = tuple(as_number(beta, "a beta") for beta in self.betas)
        except TypeError as error:
            error.add_note(f"(betas are two numbers, got {self.betas!r:.60})")
            raise
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas are two numbers from 0 to below 1, got {self.betas!r}")
        object.__setattr__(self, "betas", betas)

    @property
    def numbers(self) -> tuple[float, ...]:
        """Learning rate, betas, eps, weight decay."""
        return self.learning_rate, *self.betas, self.eps, self.weight_decay

    @property
    def kind(self) -> str:
        """Which terms there are."""
        return f"adam {self.weight_decay > 0.0}"

    def start(self, p: Any) -> list[Any]:
        """m, v, and the powers of the betas."""
        return [np.zeros_like(p), np.zeros_like(p), 1.0, 1.0]

    def update(self, p: Any, g: Any, state: Sequence[Any], numbers: Sequence[Any]) -> tuple[Any, list[Any]]:
        """(p, [m, v, b1^t, b2^t])."""
        rate, b1, b2, eps, decay = numbers
        m, v, power1, power2 = state
        if self.weight_decay:
            g = g + decay * p
        m = b1 * m + (1.0 - b1) * g
        v = b2 * v + (1.0 - b2) * (g * g)
        power1, power2 = power1 * b1, power2 * b2
        moved = p - rate / (1.0 - power1) * m / (sqrt(v / (1.0 - power2)) + eps)
        return moved, [m, v, power1, power2]


RULES: dict[str, tuple[Any, float]] = {  # name: (rule of a learning rate, the rate if none is given)
    "sgd": (SGD, 0.1),
    "momentum": (lambda rate: SGD(rate, momentum=0.9), 0.1),
    "adam": (Adam, 0.001),
}


def rule_of(optimiser: Any, learning_rate: Any = None) -> UpdateRule:
    """The rule of that name, or the rule itself, which has a learning rate of its own.

    >>> rule_of("momentum", 0.01)
    SGD(learning_rate=0.01, momentum=0.9, nesterov=False, weight_decay=0.0)
    """
    if isinstance(optimiser, UpdateRule):
        if learning_rate is not None:
            raise ValueError(f"{optimiser} has a learning rate of its own: leave learning_rate={learning_rate!r} out")
        return optimiser
    if not isinstance(optimiser, str):
        raise TypeError(
            f"an optimiser is a rule or one of {', '.join(map(repr, RULES))}, got {type(optimiser).__name__} "
            f"{optimiser!r:.40}"
        )
    if optimiser not in RULES:
        raise ValueError(f"unknown optimiser {optimiser!r}; known: {', '.join(RULES)}")
    make, rate = RULES[optimiser]
    rule: UpdateRule = make(rate if learning_rate is None else learning_rate)
    return rule


def _check(rule: Any, **least: tuple[float, bool]) -> None:
    """The rule's numbers as floats; ValueError for one below its least, or at it where it may not be."""
    for name, (bound, reached) in least.items():
        given = getattr(rule, name)
        x = as_number(given, name)
        if not (math.isfinite(x) and (x > bound or (reached and x == bound))):
            raise ValueError(f"{name} is a {'number from 0 on' if reached else 'positive number'}, got {given!r}")
        object.__setattr__(rule, name, x)
