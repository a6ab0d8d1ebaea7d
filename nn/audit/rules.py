"""The rules of the backward pass, each with a running error bound: what the same rule rounds, on absolute values.

A quantity is a Known: its numbers, and how far each may be off if everything before it was computed right in floating
point, in whatever order. A claim is compared with the bound element by element, never with a fixed tolerance.
Formulas are those of nn.by_hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.claims import UNNAMED, Case
from nn.by_hand import ACTIVATIONS, LOSSES, REDUCTIONS

SAFETY = 8.0  # bounds are of first order, and sums may run in any order
TINY = 1e-300
FORM = 16.0  # a derivative without a name may be written in any form: it rounds as numbers of its usual size do


@dataclass
class Known:
    """Numbers and how far each may be off."""

    value: Any
    bound: Any

    def scaled(self, factor: float) -> Known:
        """factor times it."""
        return Known(self.value * factor, self.bound * abs(factor))

    def agrees(self, claim: Any) -> bool:
        """Whether a claim lies within the bound everywhere; what an upstream made nan or infinite is not judged."""
        within = np.abs(claim - self.value) <= SAFETY * self.bound + TINY
        return bool((within | ~np.isfinite(self.value) | ~np.isfinite(self.bound)).all())

    def worst(self, claim: Any) -> tuple[int, ...]:
        """Where a claim is furthest off, in units of the bound."""
        gap = np.abs(claim - self.value) / (self.bound + TINY)
        return tuple(int(i) for i in np.unravel_index(int(np.argmax(np.nan_to_num(gap, nan=np.inf))), gap.shape))


def is_elementwise(f: Any) -> bool:
    """Whether an activation treats every unit alone, so that it has a derivative and not a Jacobian."""
    return hasattr(f, "derivative")


class Rules:
    """The right rules of a Case, on whatever upstream they are given."""

    def __init__(self, case: Case, reduction: str | None = None) -> None:
        self.case, self.u, self.tiny = case, case.eps, case.tiny
        self.reduction = reduction or case.reduction or "sum"
        self.count = self.whole_of(case.n, case.m)

    def whole_of(self, n: int, m: int) -> float:
        """What the reduction divides by, for n samples of m outputs."""
        return float(REDUCTIONS[self.reduction](n, m))

    # --- forward ---

    def z(self, k: int, a: Known) -> Known:
        """a_{k-1} W_k + b_k."""
        W, b = self.case.W[k], self.case.b[k]
        size = np.abs(a.value) @ np.abs(W) + np.abs(b)
        return Known(a.value @ W + b, a.bound @ np.abs(W) + (W.shape[0] + 2) * self.u * size)

    def a(self, k: int, z: Known) -> Known:
        """f_k(z_k)."""
        name, f = self.case.activations[k - 1], self.case.functions[k - 1]
        value = f.value(z.value, 1)
        if name == "softmax":
            spread = value * (z.bound + (value * z.bound).sum(axis=1, keepdims=True))
        else:
            ends = [f.value(z.value + s * z.bound, 1) for s in (-1.0, 1.0)]
            spread = np.maximum(*(np.abs(end - value) for end in ends))
        if name == UNNAMED:
            form = FORM * self.u * f.sizes(z.value)[0]
            return Known(value, (spread if is_elementwise(f) else 4 * spread.max()) + 8 * self.u * np.abs(value) + form)
        return Known(value, spread + 8 * self.u * np.abs(value) + 4 * self.u * np.abs(z.value) * (name == "softplus"))

    # --- backward ---

    def dyhat(self, yhat: Known, loss: str | None = None) -> Known:
        """dL/dyhat, with the reduction's 1/n."""
        y, p = self.case.y, yhat.value
        derivative = LOSSES[loss].derivative if loss else self.case.objective.derivative
        if not loss and self.case.loss == UNNAMED:
            return self._dyhat_unnamed(yhat)
        with np.errstate(all="ignore"):
            value = derivative(y, p)
            if (loss or self.case.loss) in ("bce", "ce"):
                parts = np.abs(np.where(y == 0, 0.0, y / p))
                curved = np.abs(np.where(y == 0, 0.0, y / p**2))
                if (loss or self.case.loss) == "bce":
                    parts = parts + np.abs(np.where(y == 1, 0.0, (1 - y) / (1 - p)))
                    curved = curved + np.abs(np.where(y == 1, 0.0, (1 - y) / (1 - p) ** 2))
            else:
                parts, curved = 2.0 * (np.abs(p) + np.abs(y)), np.full(p.shape, 2.0)
            bound = (
                curved * (yhat.bound + self.u * np.abs(p) + self.u * (self.case.loss in ("bce", "ce")))
                + 8 * self.u * parts
            )
        return Known(value, bound).scaled(self.case.sign / self.count)

    def _dyhat_unnamed(self, yhat: Known) -> Known:
        """The same for a loss of which nothing but its values and derivatives is known."""
        loss, y, p = self.case.objective, self.case.y, yhat.value
        step = yhat.bound + 4 * self.u * (np.abs(p) + np.abs(y))
        with np.errstate(all="ignore"):
            value = loss.derivative(y, p)
            spread = np.maximum(*(np.abs(loss.derivative(y, p + s * step) - value) for s in (-1.0, 1.0)))
            bound = spread + 16 * self.u * np.abs(value) + FORM * self.u * loss.size(y, p)
        return Known(value, bound).scaled(self.case.sign / self.count)

    def slope(self, k: int, z: Known) -> Known:
        """f_k'(z_k), for an elementwise f; at a kink the bound covers both sides."""
        name, f = self.case.activations[k - 1], self.case.functions[k - 1]
        value = f.derivative(z.value)
        ends = [f.derivative(z.value + s * (SAFETY * z.bound + self.tiny)) for s in (-1.0, 1.0)]
        spread = np.maximum(*(np.abs(end - value) for end in ends))
        # s (1 - s), 1 - a^2 and 1 - exp(-a) are written with a by many, and round as 1 does
        form: Any = 1.0 if name in ("tanh", "softplus") else 0.0
        if name == "sigmoid":
            form = f.value(z.value, 1)
        if name == UNNAMED:
            form = FORM / 4 * f.sizes(z.value)[1]
        return Known(value, spread + 16 * self.u * np.abs(value) + 4 * self.u * form)

    def dz(self, k: int, z: Known, da: Known) -> Known:
        """dL/dz_k from dL/da_k."""
        if self.case.activations[k - 1] == "softmax":
            p = ACTIVATIONS["softmax"].value(z.value, 1)
            value = ACTIVATIONS["softmax"].pullback(z.value, da.value, 1)
            size = p * (np.abs(da.value) + (p * np.abs(da.value)).sum(axis=1, keepdims=True))
            off = p * (da.bound + (p * da.bound).sum(axis=1, keepdims=True))
            shift = z.bound + (p * z.bound).sum(axis=1, keepdims=True)
            return Known(value, off + size * (2 * shift + (p.shape[1] + 16) * self.u) + p.shape[1] * self.tiny)
        if not is_elementwise(self.case.functions[k - 1]):
            return self._dz_of_batch(k, z, da)
        slope = self.slope(k, z)
        with np.errstate(invalid="ignore"):
            value = da.value * slope.value
            bound = np.abs(slope.value) * da.bound + np.abs(da.value) * slope.bound + 4 * self.u * np.abs(value)
            bound = bound + self.tiny
        return Known(value, bound)

    def _dz_of_batch(self, k: int, z: Known, da: Known) -> Known:
        """dL/dz_k of an f_k that is not elementwise: what moving all it is given by its bound makes of it."""
        f = self.case.functions[k - 1]
        value, spread = f.pullback(z.value, da.value, 1), 0.0
        generator = np.random.default_rng(k)
        for _ in range(4):
            signs = generator.choice((-1.0, 1.0), (2, *value.shape))
            again = f.pullback(z.value + signs[0] * z.bound, da.value + signs[1] * da.bound, 1)
            spread = np.maximum(spread, np.max(np.abs(again - value), axis=1, keepdims=True))
        size = float(np.max(np.abs(da.value), initial=0.0)) * f.sizes(z.value)[1] + float(
            np.abs(value).max(initial=0.0)
        )
        return Known(value, 4 * spread + FORM * self.u * size + self.tiny + 0.0 * value)

    def dz_of_loss(self, z: Known, a: Known, da: Known) -> Known:
        """dL/dz_L from the loss: by the product, or the short form where there is one and the product is not finite."""
        k, y = self.case.L, self.case.y
        found = self.dz(k, z, da)
        pair = (self.case.activations[-1], self.case.loss)
        if pair in (("sigmoid", "bce"), ("softmax", "ce")):
            from nn.by_hand import LOGIT_LOSSES

            scale = self.case.sign / self.count
            value = LOGIT_LOSSES[pair].dz(y, z.value, 1) * scale
            size = (np.abs(a.value) + np.abs(y)) * abs(scale)
            both = a.bound * abs(scale) * (1.0 + np.abs(y).sum(axis=1, keepdims=True)) + 16 * self.u * size
            finite = np.isfinite(found.bound)
            return Known(value, np.where(finite, np.maximum(np.where(finite, found.bound, 0.0), both), both))
        return found

    def dW(self, a: Known, dz: Known) -> Known:
        """a_{k-1}^T dz_k."""
        size = np.abs(a.value).T @ np.abs(dz.value)
        bound = np.abs(a.value).T @ dz.bound + a.bound.T @ np.abs(dz.value) + (self.case.n + 4) * self.u * size
        return Known(a.value.T @ dz.value, bound + self.case.n * self.tiny)

    def db(self, dz: Known) -> Known:
        """The sum of dz_k over the samples."""
        size = np.abs(dz.value).sum(axis=0, keepdims=True)
        bound = dz.bound.sum(axis=0, keepdims=True) + (self.case.n + 4) * self.u * size
        return Known(dz.value.sum(axis=0, keepdims=True), bound + self.case.n * self.tiny)

    def da(self, k: int, dz: Known) -> Known:
        """dL/da_{k-1} = dz_k W_k^T."""
        W = self.case.W[k]
        size = np.abs(dz.value) @ np.abs(W).T
        bound = dz.bound @ np.abs(W).T + (W.shape[1] + 4) * self.u * size
        return Known(dz.value @ W.T, bound + W.shape[1] * self.tiny)


def exactly(claim: Any, u: float) -> Known:
    """A claim as the upstream of what follows: its own rounding, and no more."""
    return Known(claim, u * np.abs(claim))
