"""Softmax, its log and the log of the sum of exponentials as one step: what is right, what is wrong, what stands where.

A step is recognised by its numbers, and what is right for it is held against the sweep before anything is said.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SUMS = 1e-6  # relative

Wrong = tuple[str, str, Any]  # kind, words, what x would be given
Slot = tuple[str, Callable[[Any], Any]]  # what belongs in a place, and what x would be given with another array in it


@dataclass
class Step:
    """From a node x to a node y along axes, with the adjoint g of y and what is right for x."""

    name: str
    x: Any
    y: Any
    axes: tuple[int, ...]
    g: Any
    value: Any  # of y
    right: Any
    wrong: Iterable[Wrong] = ()
    slots: Sequence[Slot] = ()

    def others(self) -> Iterator[tuple[int, ...]]:
        """The other axes that a sum may run over."""
        shape = np.shape(self.x.data)
        for count in range(1, len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), count):
                if axes != self.axes and any(shape[axis] > 1 for axis in axes):
                    yield axes


def sum_over(array: Any, axes: tuple[int, ...]) -> Any:
    """The sums, with the axes kept."""
    return array.sum(axis=axes, keepdims=True)


def mean_over(array: Any, axes: tuple[int, ...]) -> Any:
    """The means, with the axes kept."""
    return array.mean(axis=axes, keepdims=True)


def softmax(step: Step, a: Any) -> Step | None:
    """A softmax: dx = y (g - sum(y g))."""
    y, g, axes = step.value, step.g, step.axes
    if (y < 0).any() or np.abs(sum_over(y, axes) - 1.0).max() > SUMS:
        return None
    step.right, step.wrong = y * (g - sum_over(y * g, axes)), _softmax_wrong(step)
    step.slots = (
        ("the softmax", lambda c: c * (g - sum_over(c * g, axes))),
        ("the softmax before the bracket", lambda c: c * (g - sum_over(y * g, axes))),
        ("the softmax in the sum", lambda c: y * (g - sum_over(c * g, axes))),
        ("the upstream in the sum", lambda c: y * (g - sum_over(y * c, axes))),
    )
    return step


def _softmax_wrong(step: Step) -> Iterator[Wrong]:
    y, g, axes = step.value, step.g, step.axes
    kind = "softmax-jacobian"
    elementwise = "the softmax is differentiated elementwise"
    yield kind, f"{elementwise}, g p (1 - p): each output depends on every input", g * y * (1 - y)
    yield kind, f"{elementwise}, g p: what each output does to the sum is missing", g * y
    yield kind, "the sum in the derivative of the softmax is not weighted with its outputs", y * (g - sum_over(g, axes))
    yield kind, "the upstream is missing in the sum in the derivative of the softmax", y * (g - 1.0)
    yield kind, "the sum in the derivative of the softmax is left out: p (g - p g)", y * (g - y * g)
    yield kind, "the sum in the derivative of the softmax is averaged", y * (g - mean_over(y * g, axes))
    yield kind, "the derivative of the softmax is not multiplied with its outputs", g - sum_over(y * g, axes)
    yield kind, "the derivative of the softmax is missing", g
    yield kind, "the sum in the derivative of the softmax is added, not subtracted", y * (g + sum_over(y * g, axes))
    yield kind, "of the derivative of the softmax only the sum is there", -y * sum_over(y * g, axes)
    for other in step.others():
        over = " and ".join(map(str, other))
        words = f"the sum in the derivative of the softmax runs over axis {over}"
        yield "axis", words, y * (g - sum_over(y * g, other))


def log_softmax(step: Step, a: Any) -> Step | None:
    """Its log: dx = g - exp(y) sum(g)."""
    y, g, axes = step.value, step.g, step.axes
    if (y > SUMS).any() or np.abs(sum_over(np.exp(y), axes) - 1.0).max() > SUMS:
        return None
    p = np.exp(y)
    step.right, step.wrong = g - p * sum_over(g, axes), _log_softmax_wrong(step)
    step.slots = (
        ("the softmax", lambda c: g - c * sum_over(g, axes)),
        ("the upstream", lambda c: g - p * sum_over(c, axes)),
    )
    return step


def _log_softmax_wrong(step: Step) -> Iterator[Wrong]:
    y, g, axes = step.value, step.g, step.axes
    p = np.exp(y)
    kind = "softmax-jacobian"
    yield kind, "what goes through the sum of the exponentials is missing", g
    yield kind, "only what goes through the sum of the exponentials is there", -p * sum_over(g, axes)
    yield kind, "the log of the softmax is differentiated elementwise, g (1 - p)", g * (1 - p)
    yield kind, "the log of the softmax is differentiated elementwise, g - p", g - p
    yield kind, "the softmax in the derivative of its log is missing", g - sum_over(g, axes)
    yield kind, "what goes through the sum of the exponentials is averaged", g - p * mean_over(g, axes)
    yield kind, "what goes through the sum of the exponentials is added, not subtracted", g + p * sum_over(g, axes)
    yield kind, "the derivative of the softmax stands in the place of that of its log", p * (g - sum_over(p * g, axes))
    for other in step.others():
        over = " and ".join(map(str, other))
        words = "in the derivative of the log of the softmax"
        yield "axis", f"the sum {words} runs over axis {over}", g - p * sum_over(g, other)
        yield "axis", f"the softmax {words} is taken over axis {over}", g - p / sum_over(p, other) * sum_over(g, axes)


def logsumexp(step: Step, a: Any) -> Step | None:
    """y = log(sum(exp(x))): dx = exp(x - y) g."""
    reduced = sum_over(a, step.axes)
    keepdims = step.value.ndim == a.ndim
    if len(step.axes) > 1 or step.value.shape != (reduced.shape if keepdims else reduced.squeeze(step.axes).shape):
        return None
    y, g = step.value.reshape(reduced.shape), step.g.reshape(reduced.shape)
    p = np.exp(a - y)
    if np.abs(sum_over(p, step.axes) - 1.0).max() > SUMS:
        return None
    kind = "softmax-jacobian"
    step.right, step.value = p * g, y
    step.wrong = (
        (kind, "the softmax, which is the derivative of the log of the sum of exponentials, is missing", g + 0.0 * p),
        (kind, "the upstream is missing, only the softmax is there", p),
        (kind, "the exponentials are not divided by their sum", np.exp(a) * g),
        (kind, "the softmax is differentiated once more, p (1 - p)", p * (1 - p) * g),
        *(("axis", f"the softmax is taken over axis {k}", p / sum_over(p, k) * g) for k in step.others()),
    )
    step.slots = (("the softmax", lambda c: c * g),)
    return step
