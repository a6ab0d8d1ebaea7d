"""The mistakes that may stand at a dz_k, with the numbers that each makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.explanation import looseness
from nn.audit.hypotheses import COMBINED, DZ, SLOPES, slopes_of_parts
from nn.audit.rules import Known
from nn.audit.steps import Hypothesis, Step, factors, made, name_of, odd_factors


class Candidates:
    """What may be wrong with dz_k, given dL/da_k.

    hidden: the mistakes of da_k, where it is not claimed; passed: dz_k of a da_k, by the right rule; scale: the 1/n
    that enters at this dz_k. What is claimed of dz_k, or else of dW_k and db_k, tells the numbers that a mistake has of
    its own: `seen` takes a stack of dz_k to a row of such numbers for each, and `target` is the row of the claims.
    """

    def __init__(
        self, step: Step, da: Known, hidden: Sequence[Hypothesis], passed: Callable[[Any], Any], scale: float
    ) -> None:
        self.step, self.da, self.hidden, self.passed, self.scale = step, da, hidden, passed, scale
        self.last = step.k == step.case.L
        self.loose = looseness(step.case)
        self.target = fitted.claimed(step) if step.claim is None else step.claim.ravel()

    def seen(self, values: Any) -> Any:
        """What a stack of dz_k come to of what is claimed, a row of numbers each."""
        if self.step.claim is not None:
            return values.reshape(len(values), -1)
        dW, db = self.step.made
        parts = [] if dW is None else [(self.step.below.T @ values).reshape(len(values), -1)]
        return np.concatenate([*parts, *([] if db is None else [values.sum(axis=1)])], axis=1)

    def of_da(self, hypothesis: Hypothesis) -> Any:
        """da_k with a mistake, or None."""
        value = made(hypothesis, replace(self.step, kind="da", right=self.da))
        return value if value is not None and value.shape == self.da.value.shape else None

    # --- one mistake ---

    def __iter__(self) -> Iterator[fitted.Candidate]:
        """The likeliest first."""
        if self.step.claim is None:
            every = (*factors(self.step.case, "dz"), *odd_factors(self.step.case))
            yield from self._factors((name, number) for name, number in every if number != 1.0)
            yield fitted.hypothesis("dz", "zero", "it is zero throughout"), 0.0 * self.step.right.value
        yield from self._named()
        yield from fitted.slopes(self.step, self.scale)
        if self.hidden or self.step.claim is None:
            yield from fitted.clipped(self.step, self.scale)
        if self.step.claim is None:
            yield from fitted.samples_of_dz(self.step)
            yield from fitted.added(self.step)
        if self.hidden and not self.last:
            for solve in (fitted.children, fitted.updated):
                for hypothesis, da in solve(self.step, self._seen_of_da, self.target):
                    yield hypothesis, self.passed(da)
        if self.step.claim is None:
            right = self.step.right.value
            ratio = fitted.ratio(self.seen(right[None])[0], self.target, self.loose)
            if ratio is not None and abs(ratio - 1.0) > 100 * self.loose:
                yield from self._factors([(f"{ratio:.6g}", ratio)])

    def _named(self) -> Iterator[fitted.Candidate]:
        """The mistakes of dz_k itself, and those of a da_k that nobody claimed, passed on by f'."""
        together = COMBINED if self.last else []
        for hypothesis in [*SLOPES, *slopes_of_parts(self.step), *(together if self.hidden else [])]:
            yield from self._of_dz(hypothesis)
        for hypothesis in self.hidden:
            da = self.of_da(hypothesis)
            if da is not None:
                yield hypothesis, self.passed(da)
        for hypothesis in [*DZ, *([] if self.hidden else together)]:
            yield from self._of_dz(hypothesis)

    def _of_dz(self, hypothesis: Hypothesis) -> Iterator[fitted.Candidate]:
        value = made(hypothesis, replace(self.step, right=self.step.right.scaled(1.0 / self.scale)))
        if value is not None:
            yield hypothesis, self.scale * value

    def _factors(self, named: Any) -> Iterator[fitted.Candidate]:
        for name, number in named:
            yield fitted.factor(name), number * self.step.right.value
            if self.hidden:
                yield fitted.factor(name, "da"), number * self.step.right.value

    def _seen_of_da(self, da: Any) -> Any:
        return self.seen(self.passed(da)[None])[0]

    # --- two mistakes ---

    def pairs(self) -> Iterator[tuple[Hypothesis, Hypothesis, Any]]:
        """dz_k with two mistakes: one in da_k and one in f', or one of them and a factor."""
        if len(self.target) < 3:
            return
        first: list[Hypothesis | None] = [None]
        upstreams = [self.da.value]
        for hypothesis in self.hidden:
            da = self.of_da(hypothesis)
            if da is not None and np.isfinite(da).all():
                first.append(hypothesis)
                upstreams.append(da)
        second, values = self._passings(upstreams)
        seen, loose = self.seen(values.reshape(-1, *self.da.value.shape)), 100 * self.loose
        with np.errstate(all="ignore"):
            at = np.abs(seen).argmax(axis=1)[:, None]
            top = np.take_along_axis(seen, at, axis=1)
            ratio = self.target[at] / top
            near = np.abs(self.target - ratio * seen) <= loose * np.abs(ratio * top)
        for p in np.flatnonzero(near.all(axis=1) & np.isfinite(ratio[:, 0]) & (ratio[:, 0] != 0)):
            i, j = divmod(int(p), len(second))
            number = float(ratio[p, 0])
            causes = [hypothesis for hypothesis in (first[i], second[j]) if hypothesis is not None]
            if abs(number - 1.0) > loose:
                causes.append(fitted.factor(name_of(self.step.case, "dz", number, self.loose)))
            if len(causes) == 2:
                yield causes[0], causes[1], number * values[i, j]

    def _passings(self, upstreams: Sequence[Any]) -> tuple[list[Hypothesis | None], Any]:
        """(mistakes in f', or None, and dz_k for every upstream and every one of them)."""
        step = self.step
        known: list[Hypothesis | None] = [None]
        ones = np.ones(step.right.value.shape)
        if not step.is_elementwise:
            columns = [[self.passed(da) for da in upstreams]]
            for hypothesis in DZ:
                column = [made(hypothesis, replace(step, da=da)) for da in upstreams]
                if all(np.shape(value) == ones.shape and np.isfinite(value).all() for value in column):
                    known.append(hypothesis)
                    columns.append([self.scale * value for value in column])
            return known, np.array(columns).swapaxes(0, 1)
        slopes = [self.scale * step.slope]
        for hypothesis in [*SLOPES, *slopes_of_parts(step), *DZ]:
            up, down = (made(hypothesis, replace(step, da=sign * ones)) for sign in (1.0, -1.0))
            if np.shape(up) == ones.shape and np.isfinite(up).all() and np.array_equal(up, -down):  # it is linear in da
                known.append(hypothesis)
                slopes.append(self.scale * up)
        return known, np.array(upstreams)[:, None] * np.array(slopes)
