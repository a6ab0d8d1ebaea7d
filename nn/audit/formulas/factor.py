"""By what factor a formula differs from the truth: a number times powers of the sizes, the same on every network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from nn.audit.formulas.tree import Node
from nn.audit.formulas.trials import DIGITS, Array, Case, Misfit, NoLayer, truth, value


def factor_of(left: Node, right: Node, probes: Sequence[Case]) -> str | None:
    """The factor between the formula and the truth, "1" if it is right; None if there is none."""
    ratios, seen = [], []
    for case in probes:
        try:
            true, found = truth(left, case), value(right, case)
        except NoLayer:
            continue
        except Misfit:
            return None
        if np.shape(found) != true.shape:
            return None
        largest = np.unravel_index(np.argmax(abs(true)), true.shape)
        ratio = float(found[largest] / true[largest])
        if not np.isfinite(ratio) or not ratio:
            return None
        if np.max(abs(found - ratio * true)) > DIGITS * np.max(abs(found)):
            return None
        ratios.append(ratio)
        seen.append(case)
    return _monomial(np.array(ratios), seen) if seen else None


def _monomial(ratios: Array, probes: Sequence[Case]) -> str | None:
    """The ratios as one number times powers of the sizes, in the fewest and shortest words."""
    sizes = {
        "n": np.array([case.n for case in probes], dtype=float),
        "m": np.array([case.net.sizes[-1] for case in probes], dtype=float),
        "n_k": np.array([case.net.sizes[case.k] for case in probes], dtype=float),
        "n_{k-1}": np.array([case.net.sizes[case.k - 1] for case in probes], dtype=float),
    }
    best = None
    for powers in itertools.product((0, 1, -1, 2, -2), (0, 1, -1), (0, 1, -1), (0, 1, -1)):
        c = ratios / np.prod([size**p for size, p in zip(sizes.values(), powers, strict=True)], axis=0)
        if np.ptp(c) <= 1e-6 * np.max(abs(c)):
            written = _written(float(np.median(c)), dict(zip(sizes, powers, strict=True)))
            key = (sum(map(abs, powers)), len(written), written)
            best = key if best is None or key < best else best
    return best[2] if best else None


def _written(c: float, powers: dict[str, int]) -> str:
    simple = Fraction(c).limit_denominator(16)
    exact = abs(float(simple) - c) <= 1e-7 * abs(c)
    number = str(simple.numerator) if exact else f"{c:.6g}"
    above = [size if p == 1 else f"{size}**{p}" for size, p in powers.items() if p > 0]
    below = [size if p == -1 else f"{size}**{-p}" for size, p in powers.items() if p < 0]
    if exact and simple.denominator != 1:
        below.insert(0, str(simple.denominator))
    top = "*".join(([] if number == "1" and above else [number]) + above)
    return top + (f"/{below[0]}" if len(below) == 1 else f"/({'*'.join(below)})" if below else "")
