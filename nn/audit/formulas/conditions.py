"""Under which conditions a formula is right: the fewest facts that all the networks share on which it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from nn.audit.formulas.trials import CONDITIONS, Case

# Where a formula would merely happen to be right: no reason to write it.
ACCIDENTS = ("ones", "f = relu", "f = leaky_relu", "f = identity")
COINCIDENCES = (*ACCIDENTS, "equal", "n = 1")

Tried = Sequence[tuple[Case, bool]]
Conditions = list[tuple[str, ...]]


def conditions_of(tried: Tried, telling: Iterable[str]) -> Conditions:
    """The alternatives of few facts that make the formula right, without coincidences where there are others."""
    varying = [name for name in telling if 0 < sum(name in case.facts for case, _ in tried) < len(tried)]
    honest = [name for name in varying if name not in COINCIDENCES]
    for names in (honest, varying):
        found: Conditions = []
        covered: set[int] = set()
        for size in (1, 2, 3):
            for chosen in itertools.combinations(names, size):
                if any(set(other) <= set(chosen) for other in found):
                    continue
                mine = _covered(tried, chosen)
                if len(mine) >= 2 and all(tried[i][1] for i in mine) and not covered.issuperset(mine):
                    found.append(chosen)
                    covered |= mine
            if found and size >= 2:
                break
        if found:
            # one fact that covers all says more than many that cover it in parts
            sets = [_covered(tried, names) for names in found]
            return [names for names, mine in zip(found, sets, strict=True) if not any(mine < other for other in sets)]
    return []


def _covered(tried: Tried, names: tuple[str, ...]) -> set[int]:
    return {i for i, (case, _) in enumerate(tried) if case.facts.issuperset(names)}


def in_words(conditions: Conditions) -> str:
    """A or B or C, and D: what all alternatives share is said once."""
    if not conditions:
        return ""
    shared = [name for name in conditions[0] if len(conditions) > 1 and all(name in names for names in conditions)]
    alternatives = [" and ".join(CONDITIONS[name] for name in names if name not in shared) for names in conditions]
    words = " or ".join(alternative for alternative in alternatives if alternative)
    return ", and ".join([words, *(CONDITIONS[name] for name in shared)])
