"""A normalisation as one step: a node without its mean, or with it, divided by its size along some axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.adjoints.jacobians import SUMS, Step, Wrong, mean_over, sum_over


def scaled(step: Step, a: Any) -> Step | None:
    """y = (x - mean) r or y = x r, r of the mean of the squares: dx = r (g - mean(g) - c y mean(y g))."""
    bases = ((True, a - mean_over(a, step.axes)), (False, a))
    scale = next(filter(None, (_scale(step, base, centred) for centred, base in bases)), None)
    if scale is None:
        return None
    y, g, axes = step.value, step.g, step.axes
    own, factor = scale.r * (g - scale.centre(axes)), scale.r * scale.c
    step.right, step.wrong = scale.jacobian(axes, axes), _scaled_wrong(step, scale)
    step.slots = (
        ("the normalised values", lambda c: own - factor * c * mean_over(y * g, axes)),
        ("the normalised values in the sum", lambda c: own - factor * y * mean_over(c * g, axes)),
        ("the upstream in the sum", lambda c: own - factor * y * mean_over(y * c, axes)),
    )
    return step


def _scale(step: Step, base: Any, centred: bool) -> _Scale | None:
    """How the values are scaled; None where they are not, by one number along the axes."""
    y, axes = step.value, step.axes
    if not np.abs(base).max(axis=axes).all():
        return None
    r = sum_over(y * base, axes) / sum_over(base * base, axes)
    if not (r > 0).all() or np.abs(y - base * r).max() > SUMS * np.abs(y).max() or np.allclose(r, r.flat[0]):
        return None
    n = int(np.prod([y.shape[axis] for axis in axes]))
    total = float(np.median(sum_over(y * y, axes)))
    known = min((float(n), n - 1.0, 1.0), key=lambda c: abs(c - total))
    return _Scale(y, step.g, r, n / known, centred)


@dataclass
class _Scale:
    y: Any
    g: Any
    r: Any
    c: float
    centred: bool

    def centre(self, axes: tuple[int, ...]) -> Any:
        """What goes through the mean."""
        return mean_over(self.g, axes) if self.centred else 0.0

    def jacobian(self, mean: tuple[int, ...], square: tuple[int, ...]) -> Any:
        """What is right for x, with the axes of its two sums."""
        return self.r * (self.g - self.centre(mean) - self.c * self.y * mean_over(self.y * self.g, square))


def _scaled_wrong(step: Step, scale: _Scale) -> Iterator[Wrong]:
    y, g, axes, r = step.value, step.g, step.axes, scale.r
    kind, centre = "operand", scale.centre(axes)
    yield "child-sum", "the size is taken for a constant: what goes through it is missing", r * (g - centre)
    if scale.centred:
        through = scale.c * y * mean_over(y * g, axes)
        yield "child-sum", "the mean and the size are taken for constants", r * g
        yield "child-sum", "the mean is taken for a constant: what goes through it is missing", r * (g - through)
    missing = scale.c * mean_over(y * g, axes)
    yield kind, "the normalised values are missing in what goes through the size", r * (g - centre - missing)
    plain = scale.c * y * mean_over(g, axes)
    yield kind, "what goes through the size is not weighted with the normalised values", r * (g - centre - plain)
    n = float(np.prod([y.shape[axis] for axis in axes]))
    yield kind, "the upstream is missing in what goes through the size", r * (g - centre - y)
    left = scale.c / n * y * y * g
    yield "axis", "the sum in what goes through the size is left out", r * (g - centre - left)
    for other in step.others():
        over = " and ".join(map(str, other))
        said = f"in the derivative of the normalisation runs over axis {over}"
        yield "axis", f"the sum {said}, through the mean and the size", scale.jacobian(other, other)
        yield "axis", f"the sum {said}, through the size", scale.jacobian(axes, other)
        yield "axis", f"the sum {said}, through the mean", scale.jacobian(other, axes)
