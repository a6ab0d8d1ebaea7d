"""The walk: which steps of a claimed backward pass are wrong, given what was claimed before them.

It goes from the loss to the first layer. A step is judged on the upstream that was claimed, so that a mistake is found
where it is made and what follows from it only inherits. What is not claimed is worked out by the right rule; where the
parameters' gradients contradict that, by the mistakes that could stand there. So there are several readings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.candidates import Candidates
from nn.audit.claims import Case
from nn.audit.explanation import Options, cause_of, explained, looseness, misshapen
from nn.audit.hypotheses import BIASES, BY_OUTPUT, CHILDREN, FORWARD, LOSS, WEIGHTS, losses_of_parts
from nn.audit.report import Cause
from nn.audit.rules import SAFETY, Known, Rules, exactly
from nn.audit.steps import Hypothesis, Step, made, slope_of

PLACES = ("dL/dyhat", "dz of the last layer", "dW and db")  # where 1/n may legally enter
WIDTH = 8  # readings that are followed at a time
UNJUDGED = [Cause("", None, (), "unexplained", "")]
PLAIN, ODD = 1.0, 3.0  # what a cause costs: one that is named, one that is not


@dataclass
class Reading:
    """One way to read the claims: the wrong steps so far, and the gradients that the next layer is given."""

    wrong: list[Options] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    dz: Known | None = None
    da: Known | None = None
    later: dict[int, Any] = field(default_factory=dict)  # the dz of the layers that were passed

    @cached_property
    def causes(self) -> list[Cause]:
        """One cause for every wrong step, so that one rule explains as many of the steps as can be."""
        families = [{cause.family: cause for cause in reversed(options)} for options in self.wrong]
        chosen: dict[int, Cause] = {}
        while len(chosen) < len(families):
            left = [i for i in range(len(families)) if i not in chosen]
            counts = Counter(family for i in left for family in families[i])
            first = [cause.family for i in left for cause in self.wrong[i]]
            family = max(first, key=counts.__getitem__)  # the first of those that explain the most
            chosen |= {i: families[i][family] for i in left if family in families[i]}
        return [self._told(i, chosen[i]) for i in range(len(families))]

    def _told(self, i: int, cause: Cause) -> Cause:
        """The cause with another kind of mistake that would explain all of its steps as well."""
        steps = [options for options in self.wrong if any(other.family == cause.family for other in options)]
        shared = set.intersection(*({other.family for other in options} for options in steps))
        others = [o.message for o in self.wrong[i] if o.family in shared and o.kind != cause.kind]
        if not others:
            return cause
        return replace(cause, message=f"{cause.message} (or: {others[0]}; other widths or a larger batch would tell)")

    @cached_property
    def cost(self) -> float:
        """What the causes cost, one rule in several layers once; of two readings, that with fewer places first."""
        families = {cause.family: ODD if cause.kind == "unexplained" else PLAIN for cause in self.causes}
        both = sum(("db", *family[1:]) in families for family in families if family[:2] == ("dW", "factor"))
        return sum(families.values()) - 0.5 * both + 0.01 * len(self.causes)

    def with_(self, options: Options, name: str) -> Reading:
        """This reading with one more step."""
        if not options:
            return replace(self, right=[*self.right, name])
        return replace(self, wrong=[*self.wrong, options])


class Walk:
    """The walk over one Case with one reduction and one place of the 1/n."""

    def __init__(self, given: Case, reduction: str, place: str, hidden: tuple[int, Hypothesis] | None = None) -> None:
        # hidden: a mistake of the forward pass supposed in a layer, in every layer for 0, in all but the last for -1
        self.case, self.hidden = given, hidden
        self.judging = True  # whether wrong steps are explained, or only counted
        self._agree_on(reduction, place)
        self.start = Reading()
        self._forward()

    def _agree_on(self, reduction: str, place: str) -> None:
        self.rules, self.place = Rules(self.case, reduction), place
        self.whole = self.rules.count
        if place != PLACES[0]:
            self.rules.count = 1.0

    def under(self, reduction: str, place: str) -> Walk:
        """The walk under another convention, of which the forward pass knows nothing."""
        other = copy(self)
        other._agree_on(reduction, place)
        return other

    def claim(self, kind: str, k: int) -> Any:
        """The claim, or None."""
        return self.case.claims.get((kind, k))

    @cached_property
    def _loss_mistakes(self) -> list[Hypothesis]:
        return [*LOSS, *losses_of_parts(self.case, self.a[self.case.L].value)]

    # --- forward ---

    def _forward(self) -> None:
        supposed = 0
        a: list[Known] = [Known(self.case.X, np.zeros(self.case.X.shape))]
        z: list[Any] = [None]
        for k in range(1, self.case.L + 1):
            for kind, into in (("z", z), ("a", a)):
                right = self.rules.z(k, a[k - 1]) if kind == "z" else self.rules.a(k, z[k])
                claim = self.claim(kind, k)
                values = [None if x is None else x.value for x in z], [x.value for x in a]
                step = Step(self.case, self.rules, kind, k, right, *values)
                if claim is None:
                    if self.hidden is not None and self._hides(kind, k):
                        right = self._supposed(step, self.hidden[1])
                        supposed += right is not step.right
                    into.append(right)
                    continue
                known: list[fitted.Candidate] = [(h, None) for h in FORWARD if h.at == kind]
                if kind == "a" and ("z", k) not in self.case.claims:
                    known += self._through_f(k, a[k - 1], values)
                self.start = self._judged(self.start, step, right.agrees(claim), known)
                into.append(exactly(claim, self.case.eps))
        self.z, self.a = z, a
        if self.hidden is not None and self.hidden[0] < 1 and supposed < 2:
            raise ValueError("that mistake is one of a single layer here")

    def _through_f(self, k: int, below: Known, values: tuple[list[Any], list[Any]]) -> Iterator[fitted.Candidate]:
        """a_k with a mistake in z_k, which is not claimed."""
        step = Step(self.case, self.rules, "z", k, self.rules.z(k, below), *values)
        for hypothesis in FORWARD:
            z = made(hypothesis, step) if hypothesis.at == "z" else None
            if z is not None and z.shape == step.right.value.shape:
                yield hypothesis, self.case.functions[k - 1].value(z, 1)

    def _hides(self, kind: str, k: int) -> bool:
        """Whether the supposed mistake of the forward pass stands there."""
        if self.hidden is None or self.hidden[1].at != kind:
            return False
        return self.hidden[0] in (0, k) or (self.hidden[0] == -1 and k < self.case.L)

    def _supposed(self, step: Step, hypothesis: Hypothesis) -> Known:
        """What a mistake of the forward pass, supposed where nothing is claimed, makes of the step."""
        value = made(hypothesis, step)
        fits = value is not None and value.shape == step.right.value.shape and bool(np.isfinite(value).all())
        if not fits or np.allclose(value, step.right.value, rtol=1e-6, atol=0.0):
            if self.hidden is not None and self.hidden[0] < 1:
                return step.right
            raise ValueError("that mistake makes no difference here")
        cause = cause_of(step, hypothesis, value, step.right.worst(value))
        self.start = self.start.with_([cause], f"{step.kind}{step.k}")
        return Known(value, 4 * step.right.bound + 8 * self.case.eps * np.abs(value))

    def fits(self) -> bool:
        """Whether each claim of the last layer is right given those before it, but for factors."""
        k, loose = self.case.L, looseness(self.case)

        def near(right: Known, claim: Any) -> bool:
            return right.agrees(claim) or fitted.ratio(right.value, claim, loose) is not None

        with np.errstate(all="ignore"):
            da, claim = self.rules.dyhat(self.a[k]), self.claim("da", k)
            if claim is not None:
                if not near(da, claim):
                    return False
                da = exactly(claim, 0.0)
            plain = self._right_dz(k, da, claim is not None)
            found, claim = [plain, self._by_output(k, da, plain)], self.claim("dz", k)
            if claim is not None:
                if not any(near(dz, claim) for dz in found):
                    return False
                found = [exactly(claim, 0.0)]
            elif not SAFETY * plain.bound.max() < 0.01 * np.abs(plain.value).max():
                return False  # what is as coarse as this fits anything
            dW, db = self.claim("dW", k), self.claim("db", k)
            if dW is not None:
                return any(near(self.rules.dW(self.a[k - 1], dz), dW) for dz in found)
            return db is None or any(near(self.rules.db(dz), db) for dz in found)

    def _judged(self, reading: Reading, step: Step, agrees: bool, mistakes: Sequence[fitted.Candidate] = ()) -> Reading:
        """The reading after a step that is claimed."""
        name, claim = f"{step.kind}{step.k}", self.claim(step.kind, step.k)
        turned = self.case.turned.get((step.kind, step.k))
        if not self.judging:
            return reading.with_(() if agrees else UNJUDGED, name)
        options = () if agrees else explained(step, claim, mistakes)
        if turned is None:
            return reading.with_(options, name)
        lost = bool(options) and options[0].kind == "unexplained"
        kind, rule = ("shape", "its shape is wrong") if lost else ("transposed", f"{step.kind}{{k}} is transposed")
        words = turned if lost else f"{name} is transposed: {turned.removeprefix(name + ' ')}"
        cause = cause_of(step, Hypothesis(step.kind, kind, words, lambda s: None, "", None, rule),
                         claim, step.right.worst(claim))  # fmt: skip
        cause = replace(cause, index=None)
        if options and step.kind == "db" and not lost:  # a row for a column: what else is wrong says it all
            return reading.with_(options, name)
        return reading.with_([cause], name) if lost or agrees else reading.with_([cause], name).with_(options, name)

    # --- backward ---

    def readings(self, limit: float = math.inf) -> list[Reading]:
        """The readings of the whole backward pass that cost less than the limit, the cheapest first."""
        readings = [self.start]
        for k in range(self.case.L, 0, -1):
            found = [after for reading in readings for after in self._layer(reading, k)]
            found.sort(key=COST)
            readings = [reading for reading in found[:WIDTH] if reading.cost < limit]
        if self.claim("da", 0) is not None:
            readings = [self._da(reading, 0)[0] for reading in readings]
        return sorted(readings, key=COST)

    def wrong_steps(self) -> int:
        """How many of the claims are wrong, given those before them; what is not claimed is taken to be right."""
        self.judging, reading = False, self.start
        for k in range(self.case.L, 0, -1):
            reading = next(self._layer(reading, k))
        self.judging = True
        return len(reading.wrong)

    def _raw(self, kind: str, k: int) -> Any:
        """A claim of a wrong shape, in the row layout."""
        raw = np.asarray(self.case.wrong_shapes[f"{kind}{k}"][3], float)
        raw = raw.reshape(1, -1) if raw.ndim < 2 else raw
        return raw.T if self.case.layout == "column" else raw

    def _step(
        self, kind: str, k: int, right: Known, reading: Reading, da: Known | None = None, dz: Known | None = None
    ) -> Step:
        scale = 1.0 / self.whole if self.place == PLACES[2] else 1.0
        here = scale if kind in ("dW", "db") else 1.0
        others = {j: x for (name, j), x in self.case.claims.items() if name == "dz" and j != k}
        others |= {j: x for j, x in reading.later.items() if j != k}
        dW, db = (None if x is None else x / scale for x in (self.claim("dW", k), self.claim("db", k)))
        dW_next = self.claim("dW", k + 1)
        if dW_next is None and reading.dz is not None:
            dW_next = self.a[k].value.T @ reading.dz.value * scale
        return Step(
            self.case, self.rules, kind, k, right, [None if x is None else x.value for x in self.z],
            [x.value for x in self.a], None if da is None else da.value * here, None if dz is None else dz.value * here,
            None if reading.dz is None else reading.dz.value * here,
            None if reading.da is None else reading.da.value * here, dW_next, tuple(x * here for x in others.values()),
            self.claim(kind, k), scale, (dW, db), kind == "dz" and self.claim("da", k) is None,
        )  # fmt: skip

    def _da(self, reading: Reading, k: int) -> tuple[Reading, Known, list[Hypothesis]]:
        """The reading after da_k, da_k as it is used from here on, and the mistakes that may hide in it unclaimed."""
        hidden = self._loss_mistakes if k == self.case.L else CHILDREN
        right = self.rules.dyhat(self.a[k]) if k == self.case.L else self.rules.da(k + 1, _known(reading.dz))
        claim = self.claim("da", k)
        if claim is None:
            return reading, right, hidden
        step, known = self._step("da", k, right, reading), [(h, None) for h in hidden]
        agrees = right.agrees(claim)
        if k < self.case.L and not agrees and self.judging:
            known += [*fitted.children(step, np.ravel, claim), *fitted.updated(step, np.ravel, claim)]
        return self._judged(reading, step, agrees, known), exactly(claim, 0.0), []

    def _right_dz(self, k: int, da: Known, claimed: bool) -> Known:
        if k == self.case.L and not claimed and not self._hides("a", k):
            right = self.rules.dz_of_loss(self.z[k], self.a[k], da)
        else:
            right = self.rules.dz(k, self.z[k], da)
        return right.scaled(1.0 / self.whole) if k == self.case.L and self.place == PLACES[1] else right

    def _layer(self, reading: Reading, k: int) -> Iterator[Reading]:
        """The readings after layer k."""
        reading, da, hidden = self._da(reading, k)
        step = self._step("dz", k, self._right_dz(k, da, self.claim("da", k) is not None), reading, da=da)
        if step.claim is not None:
            yield self._parameters(self._claimed(reading, step, da, hidden), k, da, exactly(step.claim, 0.0))
        else:
            yield from self._unclaimed(reading, step, da, hidden)

    def _claimed(self, reading: Reading, step: Step, da: Known, hidden: Sequence[Hypothesis]) -> Reading:
        """The reading after a dz_k that is claimed."""
        k, claim = step.k, step.claim
        if step.right.agrees(claim) or self._by_output(k, da, step.right).agrees(claim):
            return self._judged(reading, step, True)
        if not self.judging:
            return self._judged(reading, step, False)
        candidates = self._candidates(step, da, hidden)
        after = self._judged(reading, step, False, list(candidates))
        if after.wrong[-1][0].kind == "unexplained" and self.hidden is None:
            for one, other, value in candidates.pairs():
                return self._with_both(reading, step, one, other, value)
        return after

    def _unclaimed(self, reading: Reading, step: Step, da: Known, hidden: Sequence[Hypothesis]) -> Iterator[Reading]:
        """The readings after a dz_k that is not claimed: by the right rule first, then with what may be wrong there."""
        k, right = step.k, step.right
        plain = self._parameters(reading, k, da, right)
        yield plain
        by_output = self._by_output(k, da, right)
        if not by_output.agrees(right.value):
            yield self._parameters(reading, k, da, by_output)
        if len(plain.wrong) == len(reading.wrong):
            return
        told = [x for x in (self.claim("dW", k), self.claim("db", k)) if x is not None]
        if not any(np.isfinite(x).all() for x in told):
            yield self._lost(reading, step, da, Hypothesis("dz", "non-finite", "it is nan or infinite", lambda s: None))
            return
        candidates = self._candidates(step, da, hidden)
        fitting = self._fitting(step, candidates)
        for known, options in fitting:
            yield self._parameters(reading, k, self._mistaken(step, da, options[0]), known).with_(options, f"dz{k}")
        alone = any(self._fits(k, known) == len(told) for known, _ in fitting)
        if self.hidden is None and not alone and plain.cost > reading.cost + 2 * PLAIN + 0.1:
            for one, other, value in candidates.pairs():
                known = self._loosely(right, value)
                if self._fits(k, known) == len(told):
                    yield self._with_both(self._parameters(reading, k, da, known), step, one, other, value)
        if len(told) == 2 and all(options[0].kind == "unexplained" for options in plain.wrong[-2:]):
            unknown = Hypothesis("dz", "unexplained", "dW{k} and db{k} fit no dz{k} that is known here", lambda s: None)
            yield self._lost(reading, step, da, unknown)

    def _candidates(self, step: Step, da: Known, hidden: Sequence[Hypothesis]) -> Candidates:
        scale = 1.0 / self.whole if step.k == self.case.L and self.place == PLACES[1] else 1.0
        return Candidates(step, da, hidden, lambda da: self._passed(step.k, da), scale)

    def _fitting(self, step: Step, candidates: Candidates) -> list[tuple[Known, list[Cause]]]:
        """The mistakes with which more of dW_k and db_k is right; those that come to the same are one, with options."""
        right, before = step.right, self._fits(step.k, step.right)
        found: list[tuple[Known, list[Cause]]] = []
        for hypothesis, value in candidates:
            if value.shape != right.value.shape or not np.isfinite(value).all():
                continue
            known = self._loosely(right, value)
            if (np.abs(value - right.value) <= known.bound).all():
                continue  # it makes no difference here
            if self._fits(step.k, known) > before:
                cause = cause_of(step, hypothesis, value, right.worst(value))
                same = [options for other, options in found if (np.abs(other.value - value) <= known.bound).all()]
                if same:
                    same[0].append(cause)
                else:
                    found.append((known, [cause]))
        return found

    def _loosely(self, right: Known, value: Any) -> Known:
        """A mistake's numbers, and how far what was made from them may be off."""
        return Known(value, 8 * right.bound + looseness(self.case) * np.abs(value))

    def _with_both(self, reading: Reading, step: Step, one: Hypothesis, other: Hypothesis, value: Any) -> Reading:
        """The reading with two mistakes at one dz_k."""
        for hypothesis in (one, other):
            reading = reading.with_([cause_of(step, hypothesis, value, step.right.worst(value))], f"dz{step.k}")
        return reading

    def _mistaken(self, step: Step, da: Known, cause: Cause) -> Known:
        """da_k as it is with a mistake of its own, which the next layer may be given."""
        for hypothesis in self._loss_mistakes if step.k == self.case.L else CHILDREN:
            if cause.origin == "da" and cause.rule == (hypothesis.rule or hypothesis.words):
                value = made(hypothesis, replace(step, kind="da", right=da))
                if value is not None and value.shape == da.value.shape:
                    return Known(value, da.bound)
        return da

    def _lost(self, reading: Reading, step: Step, da: Known, hypothesis: Hypothesis) -> Reading:
        """The reading after a dz_k of which nothing is known: what follows from it is not judged."""
        lost = Known(np.full(step.right.value.shape, np.nan), step.right.bound)
        cause = replace(cause_of(step, hypothesis, step.right.value, (0, 0)), index=None)
        return self._parameters(reading, step.k, da, lost).with_([cause], f"dz{step.k}")

    def _by_output(self, k: int, da: Known, right: Known) -> Known:
        """dz_k with the derivative written with a_k, which differs where a wrong a_k was claimed."""
        name, a = self.case.activations[k - 1], self.a[k].value
        differs = self._hides("a", k) or ("a", k) in self.case.claims
        if not differs or name not in (*BY_OUTPUT, "softmax", "relu", "leaky_relu"):
            return right
        scale = 1.0 / self.whole if k == self.case.L and self.place == PLACES[1] else 1.0
        with np.errstate(all="ignore"):
            if name == "softmax":
                value = a * (da.value - (a * da.value).sum(axis=1, keepdims=True))
            else:
                value = da.value * (BY_OUTPUT[name](a) if name in BY_OUTPUT else slope_of(name, a))
            size = np.abs(da.value) * (1 + np.abs(a)) ** 2
        if not np.isfinite(value).all():
            return right
        return Known(scale * value, right.bound + 32 * self.case.eps * scale * size)

    def _fits(self, k: int, dz: Known) -> int:
        """How many of the claimed dW_k and db_k are right given this dz_k."""
        scale = 1.0 / self.whole if self.place == PLACES[2] else 1.0
        db, dW = self.claim("db", k), self.claim("dW", k)
        fits = db is not None and self.rules.db(dz).scaled(scale).agrees(db)
        return int(fits) + int(dW is not None and self.rules.dW(self.a[k - 1], dz).scaled(scale).agrees(dW))

    def _passed(self, k: int, da: Any) -> Any:
        """dz_k of a da_k, by the right rule."""
        with np.errstate(all="ignore"):
            return self._right_dz(k, Known(da, np.zeros(da.shape)), claimed=True).value

    def _parameters(self, reading: Reading, k: int, da: Known, dz: Known) -> Reading:
        """The reading after dW_k and db_k, given dz_k."""
        scale = 1.0 / self.whole if self.place == PLACES[2] else 1.0
        for kind, right, known in (
            ("dW", self.rules.dW(self.a[k - 1], dz).scaled(scale), WEIGHTS),
            ("db", self.rules.db(dz).scaled(scale), BIASES),
        ):
            claim = self.claim(kind, k)
            step = self._step(kind, k, right, reading, da=da, dz=dz)
            if claim is None:
                if f"{kind}{k}" in self.case.wrong_shapes:
                    options = misshapen(step, self._raw(kind, k))
                    reading = reading.with_(options, f"{kind}{k}") if options else reading
                continue
            agrees = right.agrees(claim)
            judging = self.judging and not agrees
            mistakes = [*((h, None) for h in known), *fitted.samples(step)] if judging else []
            reading = self._judged(reading, step, agrees, mistakes)
        return replace(reading, dz=dz, da=da, later={**reading.later, k: dz.value})


COST = attrgetter("cost")


def _known(x: Known | None) -> Known:
    assert x is not None  # the walk has passed a layer above
    return x


def truth(given: Case, reduction: str) -> dict[str, Known]:
    """{name: right value} of every quantity, with nothing taken from the claims."""
    bare = replace(given, claims={})
    with np.errstate(all="ignore"):
        walk = Walk(bare, reduction, PLACES[0])
        found: dict[str, Known] = {}
        dz: Known | None = None
        for k in range(given.L, 0, -1):
            da = walk.rules.dyhat(walk.a[k]) if k == given.L else walk.rules.da(k + 1, _known(dz))
            dz = walk._right_dz(k, da, claimed=False)
            found |= {f"z{k}": walk.z[k], f"a{k}": walk.a[k], f"da{k}": da, f"dz{k}": dz}
            found |= {f"dW{k}": walk.rules.dW(walk.a[k - 1], dz), f"db{k}": walk.rules.db(dz)}
    return found
