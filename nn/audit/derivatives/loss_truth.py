"""Batches to judge a loss on, and its right gradient by yhat: from our nodes, held against measured slopes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autodiff.differences import slope
from nn import losses
from nn.audit.derivatives.functions import Floats, Function, loss_gradient
from nn.audit.derivatives.samples import DIGITS

TAIL = 1e3  # times an ordinary error of a prediction


def is_logarithmic(f: Function) -> bool:
    """Whether f grows as log yhat does near 0, or is not finite beyond: then yhat is a probability."""
    one = np.ones((1, 1))

    def at(yhat: float) -> float:
        try:
            return float(np.sum(np.asarray(f(one.copy(), np.full((1, 1), yhat)), dtype=float)))
        except Exception:
            return float("nan")

    near, nearer = at(1e-6), at(1e-12)
    return not abs(near - nearer) <= 1.0 or not np.isfinite(at(-0.5))


def batch(f: Function, n: int, m: int, probabilities: bool, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(y, yhat) of n samples with m outputs, some soft, some hard, or one far off unless f overflows there."""
    if probabilities:
        y = rng.choice([0.0, 1.0], size=(n, m))
        y[:2], y[2:4] = rng.uniform(0.2, 0.8, (2, m)), np.arange(2.0)[:, None]
        return y, rng.uniform(0.05, 0.95, (n, m))
    y, yhat = rng.normal(size=(n, m)), rng.normal(size=(n, m))
    yhat[0] *= TAIL  # the tail of a robust loss
    yhat[1] = y[1] + 0.1 * rng.uniform(0.1, 1.0, m)
    if not _is_finite(f, y, yhat):
        yhat[0] /= TAIL
    return y, yhat


def _is_finite(f: Function, y: Floats, yhat: Floats) -> bool:
    try:
        return bool(np.isfinite(np.asarray(f(y.copy(), yhat.copy()), dtype=float)).all())
    except Exception:  # said where it matters, by loss_truth
        return True


def loss_truth(f: Function, y: Floats, yhat: Floats) -> tuple[Floats | None, str]:
    """dL/dyhat and "", or None and why not; nodes are held against slopes in some elements."""
    try:
        value = np.asarray(f(y.copy(), yhat.copy()), dtype=float)
    except Exception as error:
        return None, f"f raised {type(error).__name__} for arrays of the shape {yhat.shape}: {error}"
    if not (value.size == 1 or value.shape == yhat.shape):
        return None, f"f gives an array of the shape {value.shape} for {yhat.shape[1]} outputs: no loss"
    if not np.isfinite(value).all():
        return None, f"f is not finite for ordinary numbers of the shape {yhat.shape}"

    def along(index: tuple[int, ...]) -> Callable[[float], float]:
        def number(t: float) -> float:
            moved = yhat.copy()
            moved[index] = t
            return float(np.sum(np.asarray(f(y.copy(), moved), dtype=float)))

        return number

    recorded = loss_gradient(f, y, yhat)
    indices = list(np.ndindex(yhat.shape))
    found = np.empty(yhat.shape) if recorded is None else recorded
    for index in indices if recorded is None else indices[:4]:
        measured = slope(along(index), float(yhat[index]), float(np.sum(value)))
        if recorded is None:
            found[index] = measured.value
            continue
        allowed = 4 * measured.bound + DIGITS * abs(found[index])
        if not measured.trouble and measured.resolved and abs(found[index] - measured.value) > allowed:
            return None, "f gives another gradient on nodes than by differences: it leaves the graph"
    return found, ""


def name_of_loss(f: Function, y: Floats, yhat: Floats) -> str | None:
    """The name of the loss that has f's total on these numbers, if it has one."""
    y, yhat = y.reshape(-1, 1), yhat.reshape(-1, 1)
    try:
        total = float(np.sum(np.asarray(f(y.copy(), yhat.copy()), dtype=float)))
        for name in ("sse", "half_sse", "bce", "ce", "mse"):
            table: Function = losses.LOSSES[name]
            if np.isclose(table(y, yhat) if name == "mse" else table(y, yhat, "sum"), total, rtol=1e-9):
                return name
    except Exception:
        return None
    return None
