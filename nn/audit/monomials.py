"""A factor as a number times powers of sizes, in the fewest and shortest words: 2/n, n/2, 1/(n*m)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Monomial:
    """number * size**power * ...; as text the number is a simple fraction where it is one, else has six digits.

    >>> print(Monomial(0.5), Monomial(0.1234567), Monomial(2.0, {"n": -1}), Monomial(0.5, {"n": -1, "m": 2}))
    1/2 0.123457 2/n m**2/(2*n)
    >>> print(Monomial(2.0, {"n": -1}).inverse())
    n/2
    """

    number: float
    powers: Mapping[str, int] = field(default_factory=dict)

    def inverse(self) -> Monomial:
        """1 over it."""
        return Monomial(1.0 / self.number, {size: -p for size, p in self.powers.items()})

    def __str__(self) -> str:
        simple = Fraction(self.number).limit_denominator(16)
        is_simple = bool(simple) and abs(float(simple) - self.number) <= 1e-7 * abs(self.number)
        number = str(simple.numerator) if is_simple else f"{self.number:.6g}"
        above = [size if p == 1 else f"{size}**{p}" for size, p in self.powers.items() if p > 0]
        below = [size if p == -1 else f"{size}**{-p}" for size, p in self.powers.items() if p < 0]
        if is_simple and simple.denominator != 1:
            below.insert(0, str(simple.denominator))
        top = "*".join(([] if number == "1" and above else [number]) + above)
        return top + (f"/{below[0]}" if len(below) == 1 else f"/({'*'.join(below)})" if below else "")


def monomial(
    ratios: Any, sizes: Mapping[str, Any], powers: Mapping[str, Sequence[int]], digits: float
) -> Monomial | None:
    """The Monomial that the ratios are, each at its own sizes, with the lowest powers; None if they are none.

    >>> print(monomial(np.array([2 / 7, 2 / 11]), {"n": np.array([7.0, 11.0])}, {"n": (0, 1, -1)}, 1e-6))
    2/n
    """
    found = []
    for exponents in itertools.product(*powers.values()):
        c = ratios / np.prod([sizes[size] ** float(p) for size, p in zip(powers, exponents, strict=True)], axis=0)
        if np.ptp(c) <= digits * np.max(np.abs(c)):
            candidate = Monomial(float(np.median(c)), dict(zip(powers, exponents, strict=True)))
            found.append((sum(map(abs, exponents)), len(str(candidate)), str(candidate), candidate))
    return min(found, key=lambda entry: entry[:3])[3] if found else None
