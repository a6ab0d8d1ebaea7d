"""The right derivative of an activation: from our nodes, with slopes measured by differences as a second judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autodiff.differences import slope
from nn.audit.derivatives.functions import FUNCTIONS, Floats, Function, called, slopes
from nn.audit.derivatives.samples import DIGITS, ORDINARY


def points(at: Floats, rng: np.random.Generator) -> Floats:
    """The z at which a claim is judged: at random, tiny, huge, the usual kinks, and those that were asked for."""
    usual = np.concatenate([rng.uniform(-3, 3, 16), rng.uniform(3, 8, 4), -rng.uniform(3, 8, 4)])
    tiny = np.array([1e-300, 1e-12, 1e-6, 1e-3])
    huge = np.array([12.3, 23.7, 41.0, 310.0, 710.5, 1000.0])
    kinks = np.array([0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 6.0])
    return np.concatenate([at.ravel(), kinks, -kinks[1:], usual, tiny, -tiny, huge, -huge])


@dataclass
class Truth:
    """f' at the points: value nan where f' is not known, kinks {index: (left, right)}."""

    value: Floats
    kinks: dict[int, tuple[float, float]]
    notes: list[str]


def truth(f: Function, z: Floats, values: Floats) -> Truth:
    """f'(z) from nodes, held against measured slopes; values are f(z)."""
    by_nodes = slopes(f, z)
    value, kinks, notes, apart = np.full(z.shape, np.nan), {}, [], 0

    def number(t: float) -> float:
        try:
            return float(called(f, np.array([t]))[0])
        except ValueError:  # outside of the domain
            return float("nan")

    for i, (at, here) in enumerate(zip(z.tolist(), values.tolist(), strict=True)):
        if not np.isfinite(here):
            continue
        measured = slope(number, at, here)
        if measured.trouble.startswith("a kink"):
            step = 1e-6 * max(1.0, abs(at))
            left, right = (here - number(at - step)) / step, (number(at + step) - here) / step
            kinks[i] = (min(left, right), max(left, right))
        elif by_nodes is not None and np.isfinite(by_nodes[i]):
            allowed = 4 * measured.bound + DIGITS * abs(by_nodes[i]) + measured.zero
            clear = not measured.trouble and measured.resolved
            decides = clear and abs(by_nodes[i] - measured.value) > allowed
            value[i] = measured.value if decides else by_nodes[i]
            apart += decides
        elif not measured.trouble and measured.bound <= 1e-4 * abs(measured.value) + measured.zero:
            value[i] = measured.value
    if by_nodes is None:
        notes.append("f does not run on nodes: the truth was measured by differences")
    elif apart:
        notes.append(f"f leaves the graph when it runs on nodes: differences decide at {apart} points")
    return Truth(value, kinks, notes)


def is_elementwise(f: Function, rng: np.random.Generator) -> bool:
    """Whether f treats every number of an array as it does that number alone."""
    z = rng.uniform(0.1, 0.9, (3, 4))
    try:
        whole = np.asarray(f(z.copy()), dtype=float)
        if whole.shape != z.shape:
            return whole.ndim == 0
        single = np.array([[np.asarray(f(np.array([[x]])), dtype=float).item() for x in row] for row in z])
    except Exception:  # it takes numbers only
        return True
    return bool(np.allclose(whole, single, rtol=1e-5, atol=0.0, equal_nan=True))


def name_of(z: Floats, values: Floats) -> str | None:
    """The name of the function that has these values, if it has one."""
    near = abs(z) < ORDINARY
    for name, g in FUNCTIONS.items():
        if np.allclose(np.asarray(g(z[near]), dtype=float), values[near], rtol=1e-6, atol=1e-9):
            return name
    return None
