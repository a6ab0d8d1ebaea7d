"""Two mistakes above one claim: the first of each two that may yield its numbers together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.explanation import known, strange
from nn.audit.adjoints.factors import Factors
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.probe import Probe
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.shares import ALONE

TRIED = 3_000  # mistakes that are put together
NEAREST = 6  # of them that are followed, whatever they yield

CLOSE = 1e-4  # relative


def first_of_two(region: Region, claim: Any, right: Adjoint) -> tuple[list[Mistake], bool]:
    """The mistakes that a second one may complete, and whether it is seen that they add up to the claim."""
    if not np.isfinite(claim).all() or not np.isfinite(right.value).all():
        return [], False
    if np.abs(claim - right.value).max() <= CLOSE * np.abs(right.value).max():
        return [], False  # nearly right: of two mistakes the second would undo the first
    probe = Probe(region)
    mistakes, seen = [], []
    for mistake in itertools.chain(known(region, claim, right.value), strange(region, claim, right.value)):
        if mistake.rule == ALONE:
            continue  # with a rule for the rest it would be any derivative at all
        added = _seen(region, probe, mistake, right.value)
        if added is not None and np.abs(added).max() > probe.slack * np.abs(probe.along(right.value)).max():
            mistakes.append(mistake)
            seen.append(added)
        if len(mistakes) == TRIED:
            break
    if not mistakes:
        return [], False
    rows, base, gap = np.stack(seen), probe.along(right.value), probe.along(claim - right.value)
    found = dict.fromkeys(
        [*_multiples(region, rows + base, gap + base, probe.slack), *_summands(rows, gap, probe.slack)]
    )
    return [mistakes[i] for i in found or range(min(NEAREST, len(mistakes)))], bool(found)


def _seen(region: Region, probe: Probe, mistake: Mistake, right: Any) -> Any:
    """What a mistake adds to the claim, along the directions; None where that is not known."""
    if mistake.adds:
        sight = probe.sees(mistake.adds)
        if sight is not None:
            return sight[0] if np.isfinite(sight[0]).all() else None
    if not mistake.edges and not mistake.totals:
        return None
    value = region.after(mistake)
    return None if value is None or not np.isfinite(value).all() else probe.along(value - right)


def _summands(rows: Any, gap: Any, slack: float) -> list[int]:
    """The mistakes that with another one make the claim, where each adds something of its own."""
    order = np.argsort(rows[:, 0])
    ordered = rows[order, 0]
    within = slack * (np.abs(rows).max(axis=1) + np.abs(gap).max())
    low = np.searchsorted(ordered, gap[0] - rows[:, 0] - within)
    high = np.searchsorted(ordered, gap[0] - rows[:, 0] + within)
    found = []
    for i in np.flatnonzero(high > low):
        others = rows[order[low[i] : high[i]]]
        if (np.abs(rows[i] + others - gap).max(axis=1) <= within[i]).any():
            found.append(int(i))
    return found


def _multiples(region: Region, rows: Any, total: Any, slack: float) -> list[int]:
    """The mistakes that make the claim but for a factor that has a name."""
    named = Factors(region)
    ratios = total / rows
    same = np.ptp(ratios, axis=1) <= 8 * slack * np.abs(ratios).max(axis=1)
    return [int(i) for i in np.flatnonzero(same) if named.near(float(ratios[i, 0])) is not None]
