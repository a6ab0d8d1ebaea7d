"""Descent: an optimiser's update written once, as instructions behind a gradient and on arrays, and how steps are taken.

Glossary: p the numbers that move, g = dL/dp, a rule's state what it keeps from step to step.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.primitives import div, sqrt
from autodiff.programs.instructions import Builder, Slot
from autodiff.value import as_number

STATE = 4  # an update takes the rule's numbers as the input before this one, and its state from this one on
AT_ONCE = 0.1  # seconds that compiled code may run before it asks whether somebody wants to stop
MOST_RESTS = 15  # steps one by one before steps at once are tried again


class Rule(ABC):
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
class SGD(Rule):
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
class Adam(Rule):
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


def rule_of(optimiser: Any, learning_rate: Any = None) -> Rule:
    """The rule of that name, or the rule itself, which has a learning rate of its own.

    >>> rule_of("momentum", 0.01)
    SGD(learning_rate=0.01, momentum=0.9, nesterov=False, weight_decay=0.0)
    """
    if isinstance(optimiser, Rule):
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
    rule: Rule = make(rate if learning_rate is None else learning_rate)
    return rule


def _check(rule: Any, **least: tuple[float, bool]) -> None:
    """The rule's numbers as floats; ValueError for one below its least, or at it where it may not be."""
    for name, (bound, reached) in least.items():
        given = getattr(rule, name)
        x = as_number(given, name)
        if not (math.isfinite(x) and (x > bound or (reached and x == bound))):
            raise ValueError(f"{name} is a {'number from 0 on' if reached else 'positive number'}, got {given!r}")
        object.__setattr__(rule, name, x)


# --- a step as instructions ---


def emitted(
    builder: Builder, slots: tuple[int, int, int, int], count: int, rule: Rule, state: Sequence[Any], mean: bool
) -> list[int]:
    """The slots of a step: value, the first `count` inputs after it, the state after it, guards that do not hold.

    slots: of the inputs, the value, the gradient, and those guards. mean: of a sum over lanes the mean is meant.
    """
    inputs, value, gradient, broken = slots
    if mean:
        lanes = builder.emit("count", (), None, (1, 1))
        value, gradient = builder.row(div, value, lanes), builder.row(div, gradient, lanes)
    p, g = (Slot(builder, _first(builder, slot, count)) for slot in (inputs, gradient))
    given = builder.emit("input", (), STATE - 1, (len(rule.numbers), 1))
    numbers = [Slot(builder, builder.take(given, np.array([[i]]))) for i in range(len(rule.numbers))]
    before = [
        Slot(builder, builder.emit("input", (), STATE + i, (np.size(x), 1))) for i, x in enumerate(state)
    ]
    p, after = rule.update(p, g, before, numbers)
    return [value, *(builder.slot(x) for x in (p, *after)), broken]


def _first(builder: Builder, slot: int, count: int) -> int:
    """The first rows of a column."""
    rows = builder.shapes[slot][0]
    return slot if rows in (1, count) else builder.take(builder.expand(slot, (rows, 1)), np.arange(count)[:, None])


def columns(rule: Rule, state: Sequence[Any]) -> list[Any]:
    """What a step takes beside the function's own inputs: the rule's numbers and its state, as columns."""
    return [np.array(x, float).reshape(-1, 1) for x in (rule.numbers, *state)]


# --- steps ---


class Descending(ABC):
    """A function whose inputs move: what a `Course` goes along."""

    @abstractmethod
    def step_at(self, column: Any) -> tuple[float, Any]:
        """(value, gradient (p, 1)) at the inputs (p, 1)."""

    @abstractmethod
    def at_once(self, column: Any, rule: Rule, state: Sequence[Any]) -> tuple[Any, list[Any], Any, int] | None:
        """(function of `emitted`, its inputs before the rule's numbers, lanes, how many); None: one step at a time."""

    @abstractmethod
    def name(self, i: int) -> str:
        """What input i is called."""

    def took(self, steps: int) -> None:
        """Called after so many steps at once."""


class NotFiniteError(ValueError):
    """A gradient that is nan or infinite."""


class Course:
    """A descent on its way: the numbers (p, 1), the rule's state and the value before every step taken so far.

    Many steps run in one call where there is a program for it; before a step in which a guard does not hold, or a
    number leaves the finite ones, it ends, and that step is taken for itself.
    """

    def __init__(self, function: Descending, column: Any, rule: Rule, state: Sequence[Any] | None = None) -> None:
        self.function, self.rule = function, rule
        self.column = np.array(column, float).reshape(-1, 1)
        self.state = rule.start(self.column) if state is None else list(state)
        self.history: list[float] = []
        self.gradient: Any = None  # at the step before, where that was taken for itself
        self._rests, self._rested = 0, 0
        self._many = 8

    def advance(self, steps: int) -> None:
        """So many steps. NotFiniteError where a gradient is not finite: then the numbers are those before that step."""
        goal = len(self.history) + steps
        while len(self.history) < goal:
            if self._rested < self._rests:
                self._rested += 1
            elif self._at_once(goal - len(self.history)):
                continue
            self.step()

    def step(self) -> None:
        """One step, by gradient and update."""
        value, gradient = self.function.step_at(self.column)
        self.history.append(value)
        self.gradient = gradient = gradient[: len(self.column)]
        finite = np.isfinite(gradient)
        if not finite.all():
            name = self.function.name(int(np.argmin(finite)))
            raise NotFiniteError(f"the gradient by {name} is not finite, but {gradient[np.argmin(finite), 0]}")
        with np.errstate(over="ignore", invalid="ignore"):  # + - * are silent, as on nodes
            self.column, self.state = self.rule.update(self.column, gradient, self.state, self.rule.numbers)

    def advice(self, step: str, value: str) -> str:
        """What to say of a step that ended the descent, these being the words for it."""
        step, value = f"{step} {len(self.history) - 1}", f"{value} {self.history[-1]:.6g}"
        return f"({step}, {value}; a smaller learning_rate than {self.rule.numbers[0]} may help)"

    def _at_once(self, steps: int) -> bool:
        """Whether all that was tried was taken."""
        found = self.function.at_once(self.column, self.rule, self.state)
        if found is None:
            return False
        function, inputs, lanes, n = found
        tried, began = min(steps, self._many), time.perf_counter()
        inputs = [*inputs, *columns(self.rule, self.state)]
        carried = [(1, 0), *((2 + i, STATE + i) for i in range(len(self.state)))]
        taken, values, after = function.descend(inputs, lanes, n, tried, carried)
        if taken:
            self.function.took(taken)
            self.gradient = None
            self.column = after[0][: len(self.column)]
            self.state = [
                float(x[0, 0]) if np.ndim(old) == 0 else x for x, old in zip(after[STATE:], self.state, strict=True)
            ]
            self.history += values.tolist()
        if taken == tried and time.perf_counter() - began < AT_ONCE:
            self._many *= 2
        self._rested = 0
        self._rests = 0 if taken else min(2 * self._rests + 1, MOST_RESTS)
        return taken == tried


def descended(course: Course, steps: int) -> tuple[Any, list[float]]:
    """(the numbers (p, 1) after so many steps, the value before each of them); ValueError says at which one it ended."""
    try:
        course.advance(steps)
    except NotFiniteError as error:
        error.add_note(course.advice("step", "value"))
        raise
    return course.column, course.history
