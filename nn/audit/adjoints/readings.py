"""The readings of the claims: which mistakes explain them, with each mistake carried on to the claims below it.

The first claim that is wrong may be explained in several ways. Each becomes a change of the sweep, and what the
further claims are then tells which of them it is: the reading with the fewest mistakes is the one that is told. Ways
that no claim tells apart are one reading with options.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.explanation import UNKNOWN, explanations
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.pairs import first_of_two
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.shares import ALONE
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import Target
from nn.audit.rules import SAFETY

WIDTH = 4  # readings that are followed at a time
LATER = 4  # claims that are looked at where the first wrong one is not explained
PAIRS = 2  # claims that two mistakes are tried at
PARTIAL = 6  # first ones of two that are followed
ROUNDS = 60  # wrong claims after which only one of them is
PLAIN, ODD, LOST = 1.0, 2.5, 3.0  # what a mistake costs: a known one, an unknown one, one that blinds what lies below
SHARP = 0.01  # relative: what is known less sharply, as at a kink, does not tell right from wrong
PLACE = 0.01  # what one more place of the same costs


@dataclass(eq=False)
class Step:
    """A wrong claim, what was expected of it, and the mistakes that explain it and that no claim tells apart."""

    target: Target
    right: Adjoint
    options: list[Mistake]


@dataclass(eq=False)
class Told:
    """One mistake with all of its places, the first of them first, and another mistake that would explain them."""

    mistake: Mistake
    steps: list[Step]
    other: Mistake | None

    @property
    def places(self) -> dict[str, str]:
        """{claim that shows the mistake: what is said of it there}, the first first."""
        found: dict[str, str] = {}
        for step in self.steps:
            option = next(option for option in step.options if option.family == self.mistake.family)
            other = f" (or: {self.other.message}; other shapes would tell)" if self.other and not found else ""
            found.setdefault(step.target.name, option.message + other)
        return found


class Claims:
    """The claims in the order of the sweep, and what is known of each before any is judged."""

    def __init__(self, sweep: Sweep, targets: Sequence[Target]) -> None:
        self.tiny, self.eps = sweep.recorded.tiny, sweep.recorded.eps
        self.pairs = 0  # how often two mistakes were tried
        self.targets = [target for target in targets if target.claim is not None]
        self.regions = {id(target): Region(sweep, target) for target in self.targets}

    def wrong(self, target: Target, sweep: Sweep) -> Any:
        """Element by element, whether a claim is not what the sweep expects."""
        return np.array(~target.adjoint(sweep.expected).agrees(target.claim, self.tiny))


@dataclass(eq=False)
class Reading:
    """One way to read the claims: the sweep with the mistakes supposed so far, and the claims these explain."""

    claims: Claims
    sweep: Sweep
    truth: Mapping[Any, Adjoint]
    steps: tuple[Step, ...] = ()
    done: frozenset[Any] = frozenset()  # the nodes whose claims are explained
    denied: float = 0.0  # claims that a mistake makes wrong

    @cached_property
    def wrong(self) -> list[Target]:
        """The claims that are wrong and not explained."""
        return [target for target in self.claims.targets if self._is_wrong(target)]

    def _is_wrong(self, target: Target) -> bool:
        wrong = self.claims.wrong(target, self.sweep)
        for index, node in target.members:
            wrong[index] &= node not in self.done
        if not wrong.any():
            return False
        true = target.adjoint(self.truth).agrees(target.claim, self.claims.tiny)
        return not true.all()

    @cached_property
    def told(self) -> list[Told]:
        """The mistakes, each once: one rule that explains as many of the steps as can be."""
        left, found = list(self.steps), []
        while left:
            counts = Counter(family for step in left for family in {option.family for option in step.options})
            family = max((option.family for option in left[0].options), key=counts.__getitem__)
            steps = [step for step in left if any(option.family == family for option in step.options)]
            left = [step for step in left if step not in steps]
            mistake = next(option for option in steps[0].options if option.family == family)
            shared = set.intersection(*({option.family for option in step.options} for step in steps))
            others = (o for o in steps[0].options if o.family in shared and o.kind != mistake.kind)
            found.append(Told(mistake, steps, next(others, None)))
        return found

    @cached_property
    def cost(self) -> float:
        """What the mistakes cost, and the claims that they make wrong."""
        costs = {"unexplained": ODD, "lost": LOST}
        return (
            sum(costs.get(told.mistake.rule, PLAIN) for told in self.told)
            + sum(PLACE * (len(told.steps) - 1) for told in self.told)
            + PLAIN * self.denied
        )

    @cached_property
    def rank(self) -> tuple[float, int]:
        """The cheapest first, and of these the one that leaves the fewest claims wrong."""
        return self.cost, len(self.wrong)

    def further(self) -> list[Reading]:
        """The readings with the first wrong claim explained."""
        target = self.wrong[0]
        found = self._explained(target)
        if not target.whole and all(reading.wrong for reading in found):
            found += self._by_element(target)
        if not found:
            unknown = Mistake("unexplained", UNKNOWN, rule="unexplained")
            found = [self._with(target, [unknown], self.sweep, target.nodes), *self._lost(target)]
            found += [*self._later_first(), *self._by_two(target)]
        return found

    def _later_first(self) -> list[Reading]:
        """The readings with a later claim explained, which may show one of two mistakes where the first shows both."""
        for target in self.wrong[1:LATER]:
            found = [r for r in self._explained(target, likely=True) if r.sweep is not self.sweep]
            if found:
                return found
        return []

    def _by_two(self, target: Target) -> list[Reading]:
        """The readings with a claim explained by two mistakes."""
        if target.claim.size < 2 or self.claims.pairs >= PAIRS or self.sweep.recorded.tries < 0:
            return []
        self.claims.pairs += 1
        region = self.claims.regions[id(target)].under(self.sweep, self._cleared)
        found: list[Reading] = []
        mistakes, seen = first_of_two(region, target.claim, target.adjoint(self.sweep.expected))
        for mistake in mistakes[:PARTIAL]:
            half = self._with(target, [mistake], self.sweep.with_(mistake), ())
            halves = half._explained(target, everywhere=False, likely=not seen)
            found += [after for after in halves if after.steps[-1].options[0].rule != ALONE]
            if seen and found:
                break
        return found

    def _explained(self, target: Target, everywhere: bool = True, likely: bool = False) -> list[Reading]:
        """The readings by the mistakes that yield the claim, those that no claim tells apart as one."""
        region = self.claims.regions.get(id(target)) or Region(self.sweep, target)
        right = target.adjoint(self.sweep.expected)
        found = explanations(region.under(self.sweep, self._cleared), target.claim, right, likely)
        if not found and self._cleared and everywhere:
            found = explanations(region.under(self.sweep), target.claim, right, likely)
        effects: list[tuple[Any, Sweep, list[Mistake]]] = []
        for mistake in found:
            sweep = self.sweep.with_(mistake)
            effect = self._effect(sweep)
            for known, _, options in effects:
                if np.allclose(known, effect, rtol=1e-7, atol=0.0, equal_nan=True):
                    options.append(mistake)
                    break
            else:
                effects.append((effect, sweep, [mistake]))
        return [self._with(target, options, sweep, target.nodes) for _, sweep, options in effects]

    def _effect(self, sweep: Sweep) -> Any:
        """What is expected of all claims."""
        values = [np.ravel(target.adjoint(sweep.expected).value) for target in self.claims.targets]
        return np.concatenate(values)

    def _with(self, target: Target, options: list[Mistake], sweep: Sweep, nodes: Sequence[Any]) -> Reading:
        first = options[0]
        if first.changed and not first.has_a_name:  # no claim tells them apart, and a reader finds the one with a name
            options = sorted(options, key=lambda option: not (option.is_like(first) and option.has_a_name))
        step = Step(target, target.adjoint(self.sweep.expected), options)
        other = replace(self, sweep=sweep, steps=(*self.steps, step), done=self.done | set(nodes))
        if sweep is not self.sweep:
            fits = [t for t in self.claims.targets if not self.claims.wrong(t, self.sweep).any()]
            other.denied += sum(bool(self.claims.wrong(t, sweep).any()) for t in fits)
        return other

    @cached_property
    def _cleared(self) -> frozenset[Any]:
        """The nodes that are right, since a claim that they add something to is."""
        sweep, found = self.sweep, set[Any]()
        for target in self.claims.targets:
            expected = target.adjoint(sweep.expected)
            sharp = SAFETY * expected.bound < SHARP * np.abs(expected.value)
            if self.claims.wrong(target, sweep).any() or not sharp.any():
                continue
            pending = [node for node in target.nodes if node not in found]
            found.update(pending)
            for node in pending:
                for child, i in sweep.children[node]:
                    if child not in found and child not in sweep.stands and sweep.contribution(child, i).any():
                        found.add(child)
                        pending.append(child)
        return frozenset(found)

    def _by_element(self, target: Target) -> list[Reading]:
        """The readings with one element of an array of Values explained by itself."""
        wrong = self.claims.wrong(target, self.sweep)
        index, node = next((i, node) for i, node in target.members if wrong[i] and node not in self.done)
        element = Target(target.name, [((), node)], (), target.given, target.claim[index])
        found = self._explained(element)
        for reading in found:
            step = replace(reading.steps[-1], target=target, right=target.adjoint(self.sweep.expected))
            reading.steps = (*reading.steps[:-1], step)
        return found

    def _lost(self, target: Target) -> list[Reading]:
        """The readings with an unknown mistake in an adjoint that several wrong claims, and no right ones, see."""
        best: tuple[int, Any] = (1, None)
        regions = self.claims.regions
        for node in self.claims.regions[id(target)].between():
            if node in self._cleared:
                continue
            sees = sum(node in regions[id(other)].inside for other in self.wrong)
            if sees > best[0]:
                best = sees, node
        if best[1] is None:
            return []
        words = f"the derivative with respect to {self.sweep.called(best[1])} is wrong, in a way not known here"
        mistake = Mistake("unexplained", words, totals={best[1]: lambda adjoint: adjoint * np.nan}, rule="lost")
        return [self._with(target, [mistake], self.sweep.with_(mistake), target.nodes)]


def read(claims: Claims, sweep: Sweep, truth: Mapping[Any, Adjoint]) -> Reading:
    """The reading with the fewest mistakes."""
    readings = [Reading(claims, sweep, truth)]
    rounds = 0
    while readings[0].wrong:
        rounds += 1
        found = [after for reading in readings for after in (reading.further() if reading.wrong else [reading])]
        readings = sorted(found, key=lambda reading: reading.rank)[: WIDTH if rounds < ROUNDS else 1]
    return readings[0]
