"""The derivative of a loss by yhat, judged on batches of several sizes, so that a factor tells its n and m.

Glossary: y, yhat target and prediction; n samples, m outputs of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nn.audit.derivatives.functions import LOSS_FORMULAS, Floats, Function
from nn.audit.derivatives.loss_limits import at_a_tie, next_to_0_and_1
from nn.audit.derivatives.loss_mistakes import loss_mistakes
from nn.audit.derivatives.loss_truth import batch, is_logarithmic, loss_truth, name_of_loss
from nn.audit.derivatives.overflow import overflow_note, overflow_start, without_overflow
from nn.audit.derivatives.samples import CANCELLED, DIGITS, SINGLE, Samples, known_causes, wrong
from nn.audit.monomials import Monomial, monomial
from nn.audit.report import Cause, Report

CONFIGURATIONS = ((7, 1), (11, 1), (5, 3))  # (n, m)
INSIDE = 1e-3  # distance from 0 and 1 at which a small epsilon in a loss no longer shows
POWERS = {"n": (0, 1, -1, 2, -2), "m": (0, 1, -1)}


@dataclass
class _Elements:
    """The elements of all batches in a row: the claim and the truth, and where they stand."""

    samples: Samples
    y: Floats
    yhat: Floats
    sizes: dict[str, Floats]

    def only(self, mask: NDArray[np.bool_]) -> _Elements:
        """Some of them."""
        sizes = {letter: size[mask] for letter, size in self.sizes.items()}
        return _Elements(self.samples.only(mask), self.y[mask], self.yhat[mask], sizes)

    def factor(self, other: Floats) -> Monomial | None:
        """What the claim is times these numbers, if it is that everywhere."""
        claimed = self.samples.claimed
        solid = abs(other) > 1e-3 * np.max(abs(other), initial=0.0)
        zero = ~solid & ~(abs(claimed) <= 1e-2 * np.max(abs(claimed)))
        if solid.sum() < 4 or zero.any() or not np.isfinite(other).all():
            return None
        sizes = {letter: size[solid] for letter, size in self.sizes.items()}
        return monomial(claimed[solid] / other[solid], sizes, POWERS, 1e-5)


def check_loss(claim: Function, f: Function, name: str | None, at: Floats, rng: np.random.Generator) -> Report:
    """The Report on a claim about dL/dyhat; name: of f, where it is told."""
    probabilities = name in ("bce", "ce") or (name is None and is_logarithmic(f))
    context: dict[str, Any] = {"of": "loss", "yhat": "probabilities" if probabilities else "any numbers"}
    notes: list[str] = []
    parts: list[tuple[Floats, ...]] = []
    digits, floor = DIGITS, 0.0
    for n, m in CONFIGURATIONS:
        y, yhat = batch(f, n, m, probabilities, rng)
        true, why = loss_truth(f, y, yhat)
        if true is None:
            if m == 1:
                return Report(None, notes=(why,), context=context)
            notes.append(why)
            continue
        try:
            raw = np.asarray(claim(y.copy(), yhat.copy()))
        except Exception as error:
            raise ValueError(f"claimed(y, yhat) raised {type(error).__name__}: {error}") from error
        if raw.shape != yhat.shape and raw.shape != ():
            message = f"claimed has the shape {raw.shape} for yhat of the shape {yhat.shape}"
            return Report(False, (wrong("shape", message),), context=context)
        if raw.dtype == np.float32:
            digits, floor = SINGLE, 1e-5
        claimed = np.broadcast_to(raw.astype(float), yhat.shape)
        ns, ms = np.full(yhat.shape, float(n)), np.full(yhat.shape, float(m))
        parts.append(tuple(part.ravel() for part in (claimed, true, y, yhat, ns, ms)))
    claimed, true, y, yhat, ns, ms = (np.concatenate(part) for part in zip(*parts, strict=True))
    places = [f"y = {a:g}, yhat = {b:g}" for a, b in zip(y.tolist(), yhat.tolist(), strict=True)]
    samples = Samples(claimed, true, places, digits, floor + CANCELLED * float(np.max(abs(true))))
    every = _Elements(samples, y, yhat, {"n": ns, "m": ms})
    context["name"] = name = name or name_of_loss(f, y, yhat)
    expected = f"dL/dyhat = {LOSS_FORMULAS[name]}" if name in LOSS_FORMULAS else None

    causes, said = _not_finite(claim, every, expected)
    finite = every.only(np.isfinite(claimed))
    inside = np.ones(finite.yhat.shape, bool)
    if probabilities:
        inside = (finite.yhat > INSIDE) & (finite.yhat < 1 - INSIDE)
    if not finite.samples.close(finite.samples.true)[inside].all():
        causes = [*_causes(f, finite, expected), *causes]
    notes += said
    if not causes:
        notes += next_to_0_and_1(claim, name) if probabilities else at_a_tie(claim)
    return Report(not causes, tuple(causes), notes=tuple(notes), context=context)


def _not_finite(claim: Function, every: _Elements, expected: str | None) -> tuple[list[Cause], list[str]]:
    """The causes and notes of a claim that is not finite where the derivative is: an overflow far out is a note."""
    starts: dict[float, float] = {}
    for i in map(int, np.flatnonzero(~np.isfinite(every.samples.claimed))):
        y, yhat = float(every.y[i]), float(every.yhat[i])

        def number(t: float, y: float = y) -> float:
            try:
                return float(np.asarray(claim(np.array([[y]]), np.array([[t]])), dtype=float).item())
            except Exception:  # it takes no batch of one
                return float("nan")

        start = overflow_start(number, y, yhat)
        if start is None:
            samples = every.samples
            message = f"claimed is {samples.claimed[i]} at {samples.places[i]}, where the derivative is"
            return [wrong("non-finite", f"{message} {samples.true[i]:.6g}", expected=expected)], []
        starts[np.sign(start)] = min(start, starts.get(np.sign(start), start), key=abs)
    return [], [overflow_note(starts, "yhat", without_overflow("yhat", expected))] if starts else []


def _causes(f: Function, every: _Elements, expected: str | None) -> list[Cause]:
    samples = every.samples
    mistakes = loss_mistakes(f, every.y, every.yhat, samples.true)
    flipped = "the sign is flipped: a step of descent would go up"
    causes = known_causes(samples, every.factor, mistakes, every.factor, expected, flipped)
    message = f"claimed is not the derivative of f by yhat ({samples.worst()})"
    return causes or [wrong("unexplained", message, expected=expected)]
