"""Notes on a right claim where the loss itself is at its limits: ties, and predictions next to 0 and 1."""

from __future__ import annotations

import numpy as np

from nn.audit.derivatives.functions import Function

NEAR = (1e-3, 1e-6, 1e-9, 1e-12, 1e-14, 0.0)  # distances of yhat from 0 and 1


def at_a_tie(claim: Function) -> list[str]:
    """Of a loss of any numbers: where y = yhat."""
    tie = np.full((1, 1), 0.5)
    found = np.asarray(claim(tie, tie.copy()), dtype=float)
    return [] if np.isfinite(found).all() else ["claimed is not finite at y = yhat"]


def next_to_0_and_1(claim: Function, name: str | None) -> list[str]:
    """Of a loss of probabilities: the epsilon of the claim, if it has one, and where it is not finite."""
    notes: list[str] = []
    saturated, broken = [], []
    for y, near in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0)):
        for distance in NEAR:
            yhat = distance if near == 0 else 1.0 - distance
            try:
                found = float(np.asarray(claim(np.array([[y]]), np.array([[yhat]])), dtype=float).item())
            except Exception:
                continue
            if not np.isfinite(found):
                broken.append(f"y = {y:g}, yhat = {yhat:g}")
                continue
            true = (1.0 - y) / (1.0 - yhat) - y / yhat if 0 < yhat < 1 else (-np.inf if y else np.inf)
            if y != near and (y or name != "ce") and (not np.isfinite(true) or abs(found - true) > 1e-4 * abs(true)):
                saturated.append((abs(found), y, yhat))
    if saturated:
        largest, y, yhat = max(saturated)
        notes.append(
            f"right up to its epsilon: at y = {y:g}, yhat = {yhat:g} claimed stays at {largest:.4g} "
            f"(epsilon {1 / largest:.3g}); harmless unless yhat saturates, where dL/dz is lost (use the form in z)"
            if largest
            else f"at y = {y:g}, yhat = {yhat:g} claimed is 0: it is clipped there"
        )
    if broken:
        notes.append(
            f"claimed is not finite at {broken[0]}, where f has no derivative: kept finite by an epsilon, or z"
        )
    return notes
