"""Two mistakes above one claim: the first of each two that may yield its numbers together."""

from __future__ import annotations

from typing import Any

import numpy as np

from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.explanation import known
from nn.audit.adjoints.factors import Factors
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.shares import ALONE, ratio

TRIED = 2_000  # mistakes that are put together
NEAREST = 8  # of them that are followed, whatever they yield
LOOSE = 1e-6  # relative, of sums that are only candidates: what they yield is judged with the sweep


def first_of_two(region: Region, claim: Any, right: Adjoint) -> list[Mistake]:
    """The mistakes that a second one may complete: what they change adds up to the claim, or is a multiple of it."""
    mistakes, values = [], []
    for mistake in known(region, claim, right.value):
        alone = mistake.rule == ALONE  # with a rule for the rest it would be any derivative at all
        value = region.after(mistake) if (mistake.edges or mistake.totals) and not alone else None
        if value is not None and np.isfinite(value).all() and not right.near(value, region.sweep.recorded.eps).all():
            mistakes.append(mistake)
            values.append(np.ravel(value))
        if len(mistakes) == TRIED:
            break
    if not mistakes or not np.isfinite(claim).all():
        return []
    found = dict.fromkeys([*_multiples(region, values, claim), *_summands(np.stack(values), claim, right.value)])
    return [mistakes[i] for i in found or range(min(NEAREST, len(mistakes)))]


def _summands(values: Any, claim: Any, right: Any) -> list[int]:
    """The mistakes that with another one make the claim, where each adds something of its own."""
    deltas, rest = values - np.ravel(right), np.ravel(claim - right)
    direction = np.random.default_rng(0).normal(size=rest.size)
    along = deltas @ direction
    off = np.abs(along[:, None] + along[None, :] - rest @ direction)
    close = np.argwhere(off <= LOOSE * np.abs(deltas @ np.diag(direction)).sum(axis=1)[:, None])
    within = LOOSE * np.abs(rest).max()
    return [int(i) for i, j in close if np.allclose(deltas[i] + deltas[j], rest, rtol=LOOSE, atol=within)]


def _multiples(region: Region, values: list[Any], claim: Any) -> list[int]:
    """The mistakes that make the claim but for a factor that has a name."""
    named, flat, found = Factors(region), np.ravel(claim), []
    for i, value in enumerate(values):
        number = ratio(value, flat)
        scaled = number is not None and named.near(number) is not None
        if scaled and np.allclose(number * value, flat, rtol=LOOSE, atol=LOOSE * np.abs(flat).max()):
            found.append(i)
    return found
