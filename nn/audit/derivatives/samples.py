"""A claim beside the truth at the points that count, and the mistake that explains the claim at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nn.audit.derivatives.functions import Floats
from nn.audit.monomials import Monomial
from nn.audit.report import Cause

QUANTITY = "derivative"
DIGITS = 1e-6  # relative; a claim right to six digits is a right formula
SINGLE = 1e-4  # ... and one computed in float32 shows four after some cancellation
CANCELLED = 64 * float(np.finfo(float).eps)  # of the largest derivative: what s (1 - s) leaves where s is next to 1
ORDINARY = 8.0  # |z| beyond which an activation is in its tail

Mistake = tuple[str, Floats, str, str | None]  # kind, what the claim would be, message, formula claimed
Factor = Callable[[Floats], Monomial | None]  # what the claim is times these numbers, if it is that everywhere


@dataclass
class Samples:
    """claimed and true at the points that count, and how far apart they may be."""

    claimed: Floats
    true: Floats
    places: Sequence[str]
    digits: float  # relative
    floor: float  # absolute

    def only(self, mask: NDArray[np.bool_]) -> Samples:
        """Those at some of the points."""
        places = [place for place, kept in zip(self.places, mask.tolist(), strict=True) if kept]
        return Samples(self.claimed[mask], self.true[mask], places, self.digits, self.floor)

    def close(self, other: Any, claimed: Floats | None = None) -> NDArray[np.bool_]:
        """Point by point, whether the claim is another value."""
        mine = self.claimed if claimed is None else claimed
        allowed = self.digits * np.maximum(abs(mine), abs(other)) + self.floor
        near: NDArray[np.bool_] = abs(mine - other) <= allowed
        return near

    def fits(self, other: Any, claimed: Floats | None = None) -> bool:
        """Whether the claim is another value everywhere."""
        return bool(self.close(other, claimed).all())

    def ratio(self, other: Floats) -> float | None:
        """c with claimed = c other, if there is one, and it is neither 0 nor accidental."""
        largest = np.max(abs(other), initial=0.0)
        solid = abs(other) > 1e-2 * largest
        if not largest or solid.sum() < 3:
            return None
        c = float(np.median(self.claimed[solid] / other[solid]))
        return c if c and np.isfinite(c) and self.fits(c * other) else None

    def worst(self) -> str:
        """Where the claim is furthest off, in words."""
        off = abs(self.claimed - self.true) - self.digits * abs(self.true)
        i = int(np.argmax(off))
        return f"at {self.places[i]} it is {self.claimed[i]:.6g}, should be {self.true[i]:.6g}"


def wrong(kind: str, message: str, **rest: Any) -> Cause:
    """The Cause of a wrong derivative."""
    return Cause(QUANTITY, None, (), kind, message, **rest)


def known_causes(
    samples: Samples, factor: Factor, mistakes: Iterator[Mistake], beside: Factor, expected: str | None, flipped: str
) -> list[Cause]:
    """The causes that explain the claim: zero, a factor, one of the mistakes, or one and a factor; none if none does.

    factor: of the truth; beside: of a mistake. flipped: what is said of a factor of -1.
    """
    worst = samples.worst()
    if not samples.claimed.any():
        return [wrong("zero", f"claimed is 0 everywhere ({worst})", expected=expected)]
    c = factor(samples.true)
    if c is not None:
        message = flipped if str(c) == "-1" else f"claimed is {c} times the derivative"
        fix = f"multiply by {c.inverse()}"
        return [wrong("factor", f"{message} ({worst})", factor=str(c), expected=expected, fix=fix)]
    two: list[Cause] = []
    for kind, would_be, message, found in mistakes:
        if not np.isfinite(would_be).all() or samples.fits(would_be, samples.true):
            continue  # it would be right
        cause = wrong(kind, f"{message} ({worst})", found=found, expected=expected)
        if samples.fits(would_be):
            return [cause]
        c = None if two else beside(would_be)
        if c is not None:
            two = [cause, wrong("factor", f"and {c} times that", factor=str(c))]
    return two
