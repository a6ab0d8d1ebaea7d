"""An adjoint with its rounding: what a claim is compared with, never with a fixed tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.rules import SAFETY

CHANCE = 1e-9  # relative: closer than two numbers come by chance, and further than rounding takes them apart


@dataclass
class Adjoint:
    """d(output)/d(a node), or the contribution of one edge to it.

    value: the numbers. bound: how far each may be off by rounding. size: the sum of the absolute contributions.
    """

    value: Any
    bound: Any
    size: Any

    @property
    def judged(self) -> Any:
        """Element by element, whether it is finite here: what is not cannot judge a claim."""
        return np.isfinite(self.value) & np.isfinite(self.bound)

    def plus(self, other: Adjoint) -> Adjoint:
        """The sum of two."""
        return Adjoint(self.value + other.value, self.bound + other.bound, self.size + other.size)

    def agrees(self, claim: Any, tiny: float) -> Any:
        """Element by element, whether a claim is right."""
        within = np.abs(claim - self.value) <= SAFETY * self.bound + tiny
        return within | ~self.judged

    def near(self, claim: Any, eps: float) -> Any:
        """Element by element, whether a claim is right but for the rounding of another order of steps."""
        loose = 64 * self.bound + max(CHANCE, 64 * eps) * np.abs(claim)
        return (np.abs(claim - self.value) <= loose) | ~self.judged

    def worst(self, claim: Any, tiny: float) -> tuple[int, ...]:
        """Where a claim is furthest off, in units of the bound; first of all where it is not finite."""
        gap = np.abs(claim - self.value) / (self.bound + tiny)
        gap = np.where(self.judged, gap, 0.0)
        gap = np.where(np.isfinite(claim), gap, np.inf)
        return tuple(int(i) for i in np.unravel_index(int(np.argmax(gap)), gap.shape))

    def is_mistaken_for(self, value: Any, claim: Any, eps: float, tiny: float) -> bool:
        """Whether a claim is another value, that of a mistake, and that value is not the right one."""
        value = np.asarray(value)
        if value.shape != claim.shape:
            return False
        judged = self.judged & np.isfinite(value)
        own = _largest(self.value)
        if own <= SAFETY * _largest(self.bound):  # it is zero but for rounding, of which nothing is a multiple
            own = np.inf
        larger = _largest(value) / max(own, 1e-300)  # a multiple has a multiple of the rounding
        loose = max(CHANCE, 64 * eps)
        slack = loose * (np.abs(claim) + np.abs(value)) + 64 * max(1.0, larger) * self.bound + tiny
        same = (np.abs(claim - value) <= slack) | ~judged
        apart = np.abs(value - self.value) > loose * np.abs(self.value) + 8 * self.bound
        return bool(same.all() and (apart & judged).any())


def exactly(claim: Any, eps: float) -> Adjoint:
    """A claim in the place of an adjoint: its own rounding, and no more."""
    return Adjoint(claim, eps * np.abs(claim), np.abs(claim))


def loosely(right: Adjoint, value: Any, eps: float) -> Adjoint:
    """The numbers of a mistake in the place of the right ones; these where the mistake has none of their shape."""
    if value is None or np.shape(value) != np.shape(right.value):
        return right
    value = np.asarray(value, float)
    return Adjoint(value, 64 * right.bound + max(CHANCE, 64 * eps) * np.abs(value), np.abs(value))


def zero(shape: tuple[int, ...]) -> Adjoint:
    """The adjoint of a node that the output does not depend on."""
    zeros = np.zeros(shape)
    return Adjoint(zeros, zeros, zeros)


def _largest(value: Any) -> float:
    return float(np.max(np.abs(value), initial=0.0))
