"""Where a formula overflows: it is right on paper, and its own exponentials are too large for a computer far out.

e^-z / (1 + e^-z)^2 is inf/inf from z = -709.8 on, where sigmoid' is 0 for all purposes: a note, and no mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log

import numpy as np
from numpy.typing import NDArray

from nn.audit.derivatives.functions import Floats
from nn.audit.derivatives.samples import ORDINARY

Number = Callable[[float], float]

LARGEST = log(float(np.finfo(float).max))  # beyond, e^z is no number, whatever warnings a claim keeps to itself


def overflow_starts(number: Number, z: Floats, finite: NDArray[np.bool_]) -> dict[float, float]:
    """{side, -1.0 or 1.0: the z from which on the claim is not finite, because it overflows}.

    number: the claim at one z. finite: whether it is, at each of the points z. A side where it is finite again further
    out, where it goes wrong within an ordinary range, or goes wrong without an overflow, is left out.

    >>> z = np.array([-1000.0, -300.0, 1.0, 1000.0])
    >>> with np.errstate(all="ignore"):
    ...     starts = overflow_starts(lambda t: np.exp(-t) / (1 + np.exp(-t)) ** 2, z, z > -500.0)
    >>> {side: round(start, 1) for side, start in starts.items()}
    {-1.0: -709.8}
    """
    starts = {}
    for side in (-1.0, 1.0):
        there = side * z > 0
        broken, whole = abs(z[there & ~finite]), abs(z[there & finite])
        if not broken.size or (whole > broken.min()).any():
            continue
        start = overflow_start(number, side * float(np.max(whole, initial=0.0)), side * float(broken.min()))
        if start is not None:
            starts[side] = start
    return starts


def overflow_start(number: Number, finite: float, broken: float) -> float | None:
    """The z between a finite and a broken one from which on a claim is broken, if that is an overflow far out."""
    for _ in range(40):
        middle = (finite + broken) / 2
        if np.isfinite(number(middle)):
            finite = middle
        else:
            broken = middle
    return broken if abs(broken) > ORDINARY and _overflows(number, broken) else None


def _overflows(number: Number, z: float) -> bool:
    """Whether anything overflows while the claim is worked out."""
    seen: list[str] = []
    with np.errstate(over="call", call=lambda kind, flag: seen.append(kind)):
        number(z)
    return bool(seen) or abs(z) >= LARGEST


def overflow_note(starts: Mapping[float, float], variable: str, instead: str) -> str:
    """What is said of it; instead: how to write it.

    >>> overflow_note({-1.0: -709.8}, "z", without_overflow("z", "f'(z) = a*(1 - a)")).split("; ")[0]
    'claimed overflows: it is non-finite from |z| = 709.8 on for z < 0'
    """
    sides = {side: f"{abs(start):.4g}" for side, start in starts.items()}
    if len(sides) == 2 and len(set(sides.values())) == 1:
        where = f"from |{variable}| = {sides[1.0]} on"
    else:
        signs = {-1.0: "<", 1.0: ">"}
        where = " and ".join(f"from |{variable}| = {z} on for {variable} {signs[side]} 0" for side, z in sides.items())
    return f"claimed overflows: it is non-finite {where}; {instead}"


def without_overflow(variable: str, formula: str | None) -> str:
    """How to write it instead; formula: the right one, where it has a short form."""
    short = f"as {formula}, or " if formula else ""
    return f"write it {short}with exponentials of negative numbers alone, such as exp(-abs({variable}))"
