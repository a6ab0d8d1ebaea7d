"""By what factor a formula differs from the truth: a number times powers of the sizes, the same on every network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nn.audit.formulas.tree import Node
from nn.audit.formulas.trials import DIGITS, Array, Case, Misfit, NoLayer, truth, value
from nn.audit.monomials import monomial


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


POWERS = {"n": (0, 1, -1, 2, -2), "m": (0, 1, -1), "n_k": (0, 1, -1), "n_{k-1}": (0, 1, -1)}


def _monomial(ratios: Array, probes: Sequence[Case]) -> str | None:
    """The ratios as one number times powers of the sizes, in the fewest and shortest words."""
    sizes = {
        "n": np.array([case.n for case in probes], dtype=float),
        "m": np.array([case.net.sizes[-1] for case in probes], dtype=float),
        "n_k": np.array([case.net.sizes[case.k] for case in probes], dtype=float),
        "n_{k-1}": np.array([case.net.sizes[case.k - 1] for case in probes], dtype=float),
    }
    found = monomial(ratios, sizes, POWERS, 1e-6)
    return None if found is None else str(found)
