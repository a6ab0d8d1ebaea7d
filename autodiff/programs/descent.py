"""Descent: a step of an optimiser as instructions behind a gradient, and many steps of it in one call."""

from __future__ import annotations

import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import trees
from autodiff.primitives import div
from autodiff.programs.instructions import Builder, Slot
from autodiff.updates import NotFiniteError, UpdateRule

STATE = 4  # an update takes the rule's numbers as the input before this one, and its state from this one on
AT_ONCE = 0.1  # seconds that compiled code may run before it asks whether somebody wants to stop
MOST_RESTS = 15  # steps one by one before steps at once are tried again


# --- a step as instructions ---


def emitted(
    builder: Builder, slots: tuple[int, int, int, int], count: int, rule: UpdateRule, state: Sequence[Any], mean: bool
) -> list[int]:
    """The slots of a step: value, the first `count` inputs and the state after it, gradient, guards that do not hold.

    slots: of the inputs, the value, the gradient, and those guards. mean: of a sum over lanes the mean is meant.
    """
    inputs, value, gradient, broken = slots
    if mean:
        lanes = builder.emit("count", (), None, (1, 1))
        value, gradient = builder.row(div, value, lanes), builder.row(div, gradient, lanes)
    p, g = (Slot(builder, _first(builder, slot, count)) for slot in (inputs, gradient))
    given = builder.emit("input", (), STATE - 1, (len(rule.numbers), 1))
    numbers = [Slot(builder, builder.take(given, np.array([[i]]))) for i in range(len(rule.numbers))]
    before = [Slot(builder, builder.emit("input", (), STATE + i, (np.size(x), 1))) for i, x in enumerate(state)]
    moved, after = rule.update(p, g, before, numbers)
    return [value, *(builder.slot(x) for x in (moved, *after)), g.number, broken]


def _first(builder: Builder, slot: int, count: int) -> int:
    """The first rows of a column."""
    rows = builder.shapes[slot][0]
    return slot if rows in (1, count) else builder.take(builder.expand(slot, (rows, 1)), np.arange(count)[:, None])


def columns(rule: UpdateRule, state: Sequence[Any]) -> list[Any]:
    """What a step takes beside the function's own inputs: the rule's numbers and its state, as columns."""
    return [np.array(x, float).reshape(-1, 1) for x in (rule.numbers, *state)]


# --- steps ---


class Descending(ABC):
    """A function whose inputs move: what a `Course` goes along."""

    @abstractmethod
    def step_at(self, column: Any) -> tuple[float, Any]:
        """(value, gradient (p, 1)) at the inputs (p, 1)."""

    @abstractmethod
    def at_once(self, column: Any, rule: UpdateRule, state: Sequence[Any]) -> tuple[Any, list[Any], Any, int] | None:
        """(function of `emitted`, its inputs before the rule's numbers, lanes, how many); None: one step at a time."""

    @abstractmethod
    def name(self, i: int) -> str:
        """What input i is called."""

    @abstractmethod
    def took(self, steps: int) -> None:
        """Hears of so many steps at once."""


class Called(Descending):
    """A function with a value_and_grad of its own, which is called once for every step."""

    def __init__(self, value_and_grad: Callable[..., Any], args: Sequence[Any], argnums: int | Sequence[int]) -> None:
        self.value_and_grad, self.args, self.argnums = value_and_grad, list(args), argnums
        self.numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        self.leaves, self.structure = trees.flatten([args[number] for number in self.numbers])
        self.column = self._column(self.leaves)

    @staticmethod
    def _column(leaves: Sequence[Any]) -> Any:
        return np.concatenate([np.ravel(x).astype(float) for x in leaves] or [np.empty(0)]).reshape(-1, 1)

    def moved(self, column: Any) -> Any:
        """The arguments by which one differentiates, of these numbers."""
        parts = np.split(column.ravel(), np.cumsum([np.size(x) for x in self.leaves])[:-1]) if self.leaves else []
        leaves = [
            part.reshape(x.shape).astype(np.result_type(x.dtype, np.float16))
            if isinstance(x, np.ndarray)
            else float(part[0])
            for x, part in zip(self.leaves, parts, strict=True)
        ]
        found = trees.unflatten(self.structure, leaves)
        return found[0] if isinstance(self.argnums, int) else tuple(found)

    def step_at(self, column: Any) -> tuple[float, Any]:
        """(value, gradient (p, 1))."""
        moved = self.moved(column)
        for number, arg in zip(self.numbers, [moved] if isinstance(self.argnums, int) else moved, strict=True):
            self.args[number] = arg
        value, gradient = self.value_and_grad(*self.args)
        return float(value), self._column(trees.leaves(gradient))

    def at_once(self, column: Any, rule: UpdateRule, state: Sequence[Any]) -> None:
        """Nothing."""

    def name(self, i: int) -> str:
        """Where number i is."""
        places = trees.places(self.structure[1][0] if len(self.numbers) == 1 else self.structure, "argument")
        return [place for place, x in zip(places, self.leaves, strict=True) for _ in range(np.size(x))][i]

    def took(self, steps: int) -> None:
        """Nobody counts them."""


class Course:
    """A descent on its way: the numbers (p, 1), the rule's state and the value before every step taken so far.

    Many steps run in one call where there is a program for it; before a step in which a guard does not hold, or a
    number leaves the finite ones, it ends, and that step is taken for itself.
    """

    def __init__(self, function: Descending, column: Any, rule: UpdateRule, state: Sequence[Any] | None = None) -> None:
        self.function, self.rule = function, rule
        self.column = np.array(column, float).reshape(-1, 1)
        self.state = rule.start(self.column) if state is None else list(state)
        self.history: list[float] = []
        self.gradient: Any = None  # of the last step
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
        taken, values, after, outputs = function.descend(inputs, lanes, n, tried, carried)
        if taken:
            self.function.took(taken)
            self.gradient = np.reshape(outputs[-2], (-1, 1)) if outputs else None
            self.column = after[0][: len(self.column)]
            self.state = [
                float(x[0, 0]) if np.ndim(old) == 0 else x for x, old in zip(after[STATE:], self.state, strict=True)
            ]
            self.history += values.tolist()
        if taken == tried and time.perf_counter() - began < AT_ONCE:
            self._many *= 2
        self._rested = 0
        self._rests = 0 if taken else min(2 * self._rests + 1, MOST_RESTS)
        return bool(taken == tried)


def descended(course: Course, steps: int) -> tuple[Any, list[float]]:
    """(the numbers (p, 1) after so many steps, the value before each); ValueError says before which one it ended."""
    steps = operator.index(steps)
    if steps < 0:
        raise ValueError(f"steps is 0 or more, got {steps}")
    try:
        course.advance(steps)
    except NotFiniteError as error:
        error.add_note(course.advice("step", "value"))
        raise
    return course.column, course.history
