"""The derivative of an activation, judged point by point; what only shows at a kink or far out is a note."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nn.audit.derivatives.activation_mistakes import activation_mistakes, in_one_stretch
from nn.audit.derivatives.functions import FORMULAS, Floats, Function, WrongShape, called
from nn.audit.derivatives.overflow import overflow_note, overflow_starts, without_overflow
from nn.audit.derivatives.samples import CANCELLED, DIGITS, ORDINARY, SINGLE, Samples, known_causes, wrong
from nn.audit.derivatives.truth import Truth, is_elementwise, name_of, points, truth
from nn.audit.monomials import Monomial
from nn.audit.report import Cause, Report

CLOSE = 2e-3  # |z| below which a form like cos(z)/z - sin(z)/z**2 has no digits left


def check_activation(claim: Function, f: Function, name: str | None, at: Floats, rng: np.random.Generator) -> Report:
    """The Report on a claim about f'; name: of f, where it is told; at: further points."""
    z = points(at, rng)
    values = called(f, z).astype(float)
    context: dict[str, Any] = {"points": len(z), "of": "activation"}
    if not is_elementwise(f, rng):
        message = "f mixes the units of a sample: its derivative is a matrix, no elementwise f'(z)"
        fix = "multiply by the Jacobian; for a softmax dz_i = a_i (da_i - sum_j a_j da_j)"
        return Report(False, (wrong("softmax-jacobian", message, fix=fix),), context=context)
    right = truth(f, z, values)
    try:
        raw = called(claim, z)
    except WrongShape as error:
        found, shape = error.args
        message = f"claimed has the shape {found} for an input of the shape {shape}: it must be elementwise"
        return Report(False, (wrong("shape", message),), context=context)
    known = np.isfinite(right.value)
    if known.sum() < 8:
        return Report(None, notes=(*right.notes, "f gives finite numbers with a slope at too few points"))
    context["name"] = name = name or name_of(z, values)
    claimed, notes = raw.astype(float), list(right.notes)
    samples = Samples(claimed, right.value, [f"z = {number:g}" for number in z], *_tolerance(raw, right, z))

    with np.errstate(invalid="ignore"):
        off = known & ~(abs(claimed - right.value) <= samples.digits * abs(right.value) + samples.floor)
    if off.any() and not (off & ((abs(z) >= CLOSE) | (z == 0))).any():
        notes.append(f"claimed loses its digits close to 0: for |z| up to {np.max(abs(z[off])):g}")
        known &= ~off
    solid = known & np.isfinite(claimed)
    causes, said = _not_finite(claim, name, z[known], raw[known], right.value[known])
    notes += said
    every, at_z = samples.only(solid), z[solid]
    if not every.fits(every.true):
        causes = [*_causes(claim, f, name, every, at_z), *causes]
    else:
        lost = (every.claimed == 0) & (abs(every.true) > 1e-300)
        if lost.any():
            notes.append(f"saturated: claimed is 0 from |z| = {np.min(abs(at_z[lost])):g} on, for want of digits")
    notes += _at_kinks(right, z, claimed, bool(causes))
    return Report(not causes, tuple(causes), notes=tuple(notes), context=context)


def _tolerance(raw: Any, right: Truth, z: Floats) -> tuple[float, float]:
    """(relative, absolute), by the precision of the claim and the largest derivative."""
    usual = np.isfinite(right.value) & (abs(z) <= ORDINARY)
    scale = float(np.max(abs(right.value[usual]), initial=0.0)) or 1.0
    if raw.dtype == np.float32:
        return SINGLE, float(np.finfo(np.float32).eps) * 64 * scale
    return DIGITS, CANCELLED * scale


def _not_finite(
    claim: Function, name: str | None, z: Floats, claimed: NDArray[Any], true: Floats
) -> tuple[list[Cause], list[str]]:
    """The causes and notes of a claim that is not finite where the derivative is: an overflow far out is a note."""
    bad = ~np.isfinite(claimed)
    notes = []

    def number(t: float) -> float:
        try:
            return float(called(claim, np.array([t]))[0])
        except (ValueError, WrongShape):
            return float("nan")

    starts = overflow_starts(number, z, ~bad)
    if starts:
        over = bad & np.isin(np.sign(z), list(starts))
        instead = without_overflow("z", _formula(name))
        if claimed.dtype.kind == "f" and (abs(true[over]) > np.finfo(claimed.dtype).max).any():
            instead = f"the derivative itself is too large for {claimed.dtype}: compute it in float64"
        notes.append(overflow_note(starts, "z", instead))
        bad &= ~over
    if not bad.any():
        return [], notes
    where = ", ".join(f"{number:g}" for number in sorted(z[bad].tolist())[:4])
    kinds = sorted({"nan" if np.isnan(number) else "inf" for number in claimed[bad]})
    message = f"claimed is {' or '.join(kinds)} at z = {where}, where the derivative is finite"
    return [wrong("non-finite", message, fix="use a form that neither overflows nor divides 0 by 0")], notes


def _formula(name: str | None) -> str | None:
    return f"f'(z) = {FORMULAS[name]}" if name in FORMULAS else None


def _causes(claim: Function, f: Function, name: str | None, every: Samples, z: Floats) -> list[Cause]:
    """Why a claim is wrong, by its points in an ordinary range unless it is right there."""
    usual = abs(z) <= ORDINARY
    samples, at = every.only(usual), z[usual]
    expected = _formula(name)
    if samples.fits(samples.true):  # wrong in the tails alone
        start = float(np.min(abs(z[~every.close(every.true)])))
        message = f"claimed saturates or is clipped too early: from |z| = {start:g} on it is wrong ({every.worst()})"
        return [wrong("clipped", message, expected=expected)]

    def factor(other: Floats) -> Monomial | None:
        c = samples.ratio(other)
        return None if c is None else Monomial(c)

    def simple(other: Floats) -> Monomial | None:
        c = factor(other)
        return c if c is not None and len(str(c)) <= 4 else None

    mistakes = activation_mistakes(claim, f, name, samples, at)
    causes = known_causes(samples, factor, mistakes, simple, expected, "the sign is flipped")
    if causes:
        return causes
    kind, message = in_one_stretch(samples, at) or ("unexplained", "claimed is not the derivative of f")
    return [wrong(kind, f"{message} ({samples.worst()})", expected=expected)]


def _at_kinks(right: Truth, z: Floats, claimed: Floats, is_wrong: bool) -> list[str]:
    """Notes on what is claimed at kinks, where it is a convention; of a wrong claim, only what is not finite."""
    notes = []
    for i, (left, above) in right.kinks.items():
        if 0 < abs(z[i]) < 1e-9:  # a neighbour of the kink at 0
            continue
        at = f"the kink z = {z[i]:g}"
        if not np.isfinite(claimed[i]):
            notes.append(f"convention: claimed is {claimed[i]} at {at}; choose {left:.4g} to {above:.4g}")
        elif is_wrong:
            continue
        elif left - 1e-4 * (1 + abs(left)) <= claimed[i] <= above + 1e-4 * (1 + abs(above)):
            notes.append(f"kink at z = {z[i]:g}: claimed {claimed[i]:g}, by convention")
        else:
            slopes = f"{left:.4g} to {above:.4g}"
            notes.append(f"convention: at {at} claimed is {claimed[i]:g}, outside of the slopes {slopes} on its sides")
    return notes
