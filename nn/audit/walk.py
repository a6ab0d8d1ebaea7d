"""The walk: which steps of a claimed backward pass are wrong, given what was claimed before them.

It goes from the loss to the first layer. A step is judged on the upstream that was claimed, so that a mistake is found
where it is made and what follows from it only inherits. What is not claimed is worked out by the right rule; where the
parameters' gradients contradict that, by the mistakes that could stand there. So there are several readings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.claims import Case
from nn.audit.explanation import Options, cause_of, explained, looseness, misshapen
from nn.audit.hypotheses import BIASES, BY_OUTPUT, CHILDREN, COMBINED, DZ, FORWARD, LOSS, SLOPES, WEIGHTS
from nn.audit.report import Cause
from nn.audit.rules import SAFETY, Known, Rules, exactly
from nn.audit.steps import Hypothesis, Step, factors, made, name_of, odd_factors, slope_of
from nn.by_hand import ACTIVATIONS

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
        self.case, self.place, self.hidden = given, place, hidden
        self.judging = True  # whether wrong steps are explained, or only counted
        self.rules = Rules(given, reduction)
        self.whole = self.rules.count
        if place != PLACES[0]:
            self.rules.count = 1.0
        self.start = Reading()
        self._forward()

    def claim(self, kind: str, k: int) -> Any:
        """The claim, or None."""
        return self.case.claims.get((kind, k))

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
                yield hypothesis, ACTIVATIONS[self.case.activations[k - 1]].value(z, 1)

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
        hidden = LOSS if k == self.case.L else CHILDREN
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
        reading, da, hidden = self._da(reading, k)
        right = self._right_dz(k, da, self.claim("da", k) is not None)
        step = self._step("dz", k, right, reading, da=da)
        claim = self.claim("dz", k)
        if claim is not None:
            agrees = right.agrees(claim) or self._by_output(k, da, right).agrees(claim)
            mistakes: list[fitted.Candidate] = []
            if not agrees and self.judging:
                mistakes = [*self._candidates(step, k, da, hidden), *fitted.slopes(step)]
                if hidden:
                    mistakes += fitted.clipped(step)
                if hidden and k < self.case.L:
                    mistakes += self._children(step, k, np.ravel, claim)
                    mistakes += self._updated(step, k, np.ravel, claim)
            after = self._judged(reading, step, agrees, mistakes)
            odd = not agrees and self.judging and after.wrong[-1][0].kind == "unexplained"
            if odd and self.hidden is None:
                rows = lambda values: values.reshape(len(values), -1)  # noqa: E731
                for one, other, value in self._pairs(step, k, da, hidden, rows, claim.ravel()):
                    worst = right.worst(value)
                    causes = [cause_of(step, hypothesis, value, worst) for hypothesis in (one, other)]
                    after = reading.with_([causes[0]], f"dz{k}").with_([causes[1]], f"dz{k}")
                    break
            yield self._parameters(after, k, da, exactly(claim, 0.0))
            return
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
        before = self._fits(k, right)
        alike: list[tuple[Known, list[Cause]]] = []  # mistakes that come to the same are options of one reading
        for hypothesis, value in self._all(step, k, da, hidden):
            if value.shape != right.value.shape or not np.isfinite(value).all():
                continue
            loose = Known(value, 8 * right.bound + looseness(self.case) * np.abs(value))
            if (np.abs(value - right.value) <= loose.bound).all():
                continue  # it makes no difference here
            if self._fits(k, loose) > before:
                cause = cause_of(step, hypothesis, value, right.worst(value))
                same = [options for known, options in alike if (np.abs(known.value - value) <= loose.bound).all()]
                if same:
                    same[0].append(cause)
                else:
                    alike.append((loose, [cause]))
        for known, options in alike:
            yield self._parameters(reading, k, self._mistaken(step, da, options[0]), known).with_(options, f"dz{k}")
        alone = any(self._fits(k, known) == len(told) for known, _ in alike)
        if self.hidden is None and not alone and plain.cost > reading.cost + 2 * PLAIN + 0.1:
            for one, other, value in self._pairs(step, k, da, hidden, _seen_of(step), fitted.claimed(step)):
                known = Known(value, 8 * right.bound + looseness(self.case) * np.abs(value))
                if self._fits(k, known) == len(told):
                    worst = right.worst(value)
                    causes = [cause_of(step, hypothesis, value, worst) for hypothesis in (one, other)]
                    after = self._parameters(reading, k, da, known)
                    yield after.with_([causes[0]], f"dz{k}").with_([causes[1]], f"dz{k}")
        if len(told) == 2 and all(options[0].kind == "unexplained" for options in plain.wrong[-2:]):
            unknown = Hypothesis("dz", "unexplained", "dW{k} and db{k} fit no dz{k} that is known here", lambda s: None)
            yield self._lost(reading, step, da, unknown)

    def _mistaken(self, step: Step, da: Known, cause: Cause) -> Known:
        """da_k as it is with a mistake of its own, which the next layer may be given."""
        for hypothesis in LOSS if step.k == self.case.L else CHILDREN:
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
        if not (self._hides("a", k) or ("a", k) in self.case.claims) or name not in (
            *BY_OUTPUT,
            "softmax",
            "relu",
            "leaky_relu",
        ):
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

    def _candidates(
        self, step: Step, k: int, da: Known, hidden: Sequence[Hypothesis]
    ) -> Iterator[tuple[Hypothesis, Any]]:
        """The mistakes that may stand at dz_k: its own, and those of a da_k that nobody claimed, passed on by f'."""
        last = k == self.case.L
        scale = 1.0 / self.whole if last and self.place == PLACES[1] else 1.0
        for hypothesis in [*SLOPES, *COMBINED] if last and hidden else SLOPES:
            value = made(hypothesis, step)
            if value is not None:
                yield hypothesis, scale * value
        for hypothesis in hidden:
            value = made(hypothesis, replace(step, kind="da", right=da))
            if value is not None and value.shape == da.value.shape:
                yield hypothesis, self._passed(k, value)
        for hypothesis in [*DZ, *COMBINED] if last and not hidden else DZ:
            value = made(hypothesis, step)
            if value is not None:
                yield hypothesis, scale * value

    def _children(self, step: Step, k: int, through: Any, target: Any) -> Iterator[fitted.Candidate]:
        """dz_k of a da_k that is not claimed, with other weights of the children."""
        for hypothesis, da in fitted.children(step, lambda da: through(self._passed(k, da)), target):
            yield hypothesis, self._passed(k, da)

    def _all(self, step: Step, k: int, da: Known, hidden: Sequence[Hypothesis]) -> Iterator[fitted.Candidate]:
        """The mistakes at dz_k, and then those with a number of their own, which the parameters' gradients tell."""
        right, loose = step.right.value, looseness(self.case)
        every = (*factors(self.case, step.kind), *odd_factors(self.case))
        named = [(name, number) for name, number in every if number != 1.0]
        target = fitted.claimed(step)
        yield from self._factors(named, right, hidden)
        yield fitted.hypothesis("dz", "zero", "it is zero throughout"), 0.0 * right
        yield from self._candidates(step, k, da, hidden)
        yield from fitted.slopes(step)
        yield from fitted.clipped(step)
        yield from fitted.samples_of_dz(step)
        yield from fitted.added(step)
        if hidden and k < self.case.L:
            through = lambda dz: fitted.seen(step, dz)  # noqa: E731
            yield from self._children(step, k, through, target)
            yield from self._updated(step, k, through, target)
        ratio = fitted.ratio(fitted.seen(step, right), target, loose)
        if ratio is not None and abs(ratio - 1.0) > 100 * loose:
            yield from self._factors([(f"{ratio:.6g}", ratio)], right, hidden)

    def _factors(
        self, named: Sequence[tuple[str, float]], right: Any, hidden: Sequence[Hypothesis]
    ) -> Iterator[fitted.Candidate]:
        for name, number in named:
            yield fitted.factor(name), number * right
            if hidden:
                yield fitted.factor(name, "da"), number * right

    def _updated(self, step: Step, k: int, through: Any, target: Any) -> Iterator[fitted.Candidate]:
        """dz_k of a da_k that is not claimed, through a W_{k+1} that was updated with a rate that is not declared."""
        for hypothesis, da in fitted.updated(step, lambda da: through(self._passed(k, da)), target):
            yield hypothesis, self._passed(k, da)

    def _pairs(
        self, step: Step, k: int, da: Known, hidden: Sequence[Hypothesis], through: Callable[[Any], Any], target: Any
    ) -> Iterator[tuple[Hypothesis, Hypothesis, Any]]:
        """dz_k with two mistakes: one in da_k and one in f', or one of them and a factor.

        through takes a stack of dz_k to what is claimed of each, the target, a row of numbers each.
        """
        first: list[Hypothesis | None] = [None]
        upstreams = [da.value]
        for h in hidden:
            upstream = made(h, replace(step, kind="da", right=da))
            if upstream is not None and upstream.shape == da.value.shape and np.isfinite(upstream).all():
                first.append(h)
                upstreams.append(upstream)
        second, values = self._passings(step, k, upstreams)
        seen = through(values.reshape(-1, *da.value.shape))
        loose = 100 * looseness(self.case)
        if len(target) < 3:
            return
        with np.errstate(all="ignore"):
            at = np.abs(seen).argmax(axis=1)[:, None]
            top = np.take_along_axis(seen, at, axis=1)
            ratio = target[at] / top
            close = (np.abs(target - ratio * seen) <= loose * np.abs(ratio * top)).all(axis=1) & (ratio[:, 0] != 0)
        for p in np.flatnonzero(close):
            i, j = divmod(int(p), len(second))
            number = float(ratio[p, 0])
            causes = [h for h in (first[i], second[j]) if h is not None]
            if abs(number - 1.0) > loose:
                causes.append(fitted.factor(name_of(self.case, "dz", number, looseness(self.case))))
            if len(causes) == 2:
                yield causes[0], causes[1], number * values[i, j]

    def _passings(self, step: Step, k: int, upstreams: Sequence[Any]) -> tuple[list[Hypothesis | None], Any]:
        """(mistakes in f', or None, and dz_k for every upstream and every one of them)."""
        known: list[Hypothesis | None] = [None]
        scale = 1.0 / self.whole if k == self.case.L and self.place == PLACES[1] else 1.0
        ones = np.ones(step.right.value.shape)
        if step.name == "softmax":
            columns = [[self._passed(k, upstream) for upstream in upstreams]]
            for h in DZ:
                column = [made(h, replace(step, da=upstream)) for upstream in upstreams]
                if all(np.shape(value) == ones.shape and np.isfinite(value).all() for value in column):
                    known.append(h)
                    columns.append([scale * value for value in column])
            return known, np.array(columns).swapaxes(0, 1)
        slopes = [scale * step.slope]
        for h in [*SLOPES, *DZ]:
            up, down = made(h, replace(step, da=ones)), made(h, replace(step, da=-ones))
            if np.shape(up) == ones.shape and np.isfinite(up).all() and np.array_equal(up, -down):  # it is linear in da
                known.append(h)
                slopes.append(scale * up)
        return known, np.array(upstreams)[:, None] * np.array(slopes)

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


def _seen_of(step: Step) -> Callable[[Any], Any]:
    """What a stack of dz_k lead to of what is claimed of dW_k and db_k, a row of numbers each."""
    dW, db = step.made

    def rows(values: Any) -> Any:
        parts = [] if dW is None else [(step.below.T @ values).reshape(len(values), -1)]
        return np.concatenate([*parts, *([] if db is None else [values.sum(axis=1)])], axis=1)

    return rows


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
