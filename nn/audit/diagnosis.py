"""The diagnosis: which steps of a claimed backward pass are wrong, given what was claimed before them.

The walk goes from the loss to the first layer. A step is judged on the upstream that was claimed, so that a mistake
is found where it is made and what follows from it only inherits. What is not claimed is worked out by the right rule;
where the parameters' gradients contradict that, by the mistakes that could stand there. Of all readings, among them
the legal places of the 1/n, the one with the fewest causes is the diagnosis.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.claims import Case, case
from nn.audit.hypotheses import (
    BIASES,
    BY_OUTPUT,
    CHILDREN,
    COMBINED,
    DZ,
    FORWARD,
    LOSS,
    WEIGHTS,
    Hypothesis,
    Step,
    factors,
    slope_of,
)
from nn.audit.report import Cause, Report, merged
from nn.audit.rules import SAFETY, Known, Rules, exactly
from nn.by_hand import LOSSES, REDUCTIONS

PLACES = ("dL/dyhat", "dz of the last layer", "dW and db")  # where 1/n may legally enter
WIDTH = 8  # readings that are followed at a time
PLAIN, ODD = 1.0, 3.0  # what a cause costs: one that is named, one that is not

EXPECTED = {
    "z": "z{k} = a{before} W{k} + b{k}",
    "a": "a{k} = f(z{k})",
    "da": "da{k} = dz{next} W{next}^T",
    "dz": "dz{k} = da{k} * f'(z{k})",
    "dW": "dW{k} = a{before}^T dz{k}",
    "db": "db{k} = sum of dz{k} over the samples",
}


def audit_claims(
    *,
    sizes: Sequence[int],
    activations: Sequence[str] | str,
    loss: str,
    reduction: str | None = "mean",
    layout: str = "row",
    W: Sequence[Any],
    b: Sequence[Any],
    X: Any,
    y: Any,
    claims: Mapping[str, Any],
    previous: Any = None,
    learning_rate: float | None = None,
    loss_value: float | None = None,
    direction: str = "ascent",
) -> Report:
    """The Report on a backward pass worked out by hand: which of the claims go wrong first, and how.

    sizes: units of the layers 0..L. activations: L names of nn.by_hand.ACTIVATIONS, or one for all. loss, reduction,
    layout: as in nn.by_hand.MLP; reduction=None accepts any. W, b: arrays of the layers 1..L (a leading None is
    skipped). X, y: the batch. claims: {"dz3": array, "dW1": array, ...}, any subset of z a da dz dW db. previous:
    (X, y) of the batch before; learning_rate: with it, weights that were updated too early are recognised.
    loss_value: the claimed loss. direction="descent": the claims are minus the gradient.

    Raises ValueError or TypeError, naming the argument, where a description does not fit; a claim of a wrong shape is a
    finding, not an error.

    >>> X, y = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]), np.array([[1.0], [0.0], [1.0]])
    >>> W, b = [np.array([[0.5], [-0.25]])], [np.array([[0.1]])]
    >>> dz = (X @ W[0] + b[0] - y) / 3
    >>> net = dict(sizes=[2, 1], activations="identity", loss="half_sse", W=W, b=b, X=X, y=y)
    >>> audit_claims(**net, claims={"dW1": X.T @ dz, "db1": dz.sum(axis=0)}).verdict
    'right'
    >>> print(audit_claims(**net, claims={"dW1": X.T @ dz, "db1": dz.mean(axis=0)}).text("what"))
    wrong: 1 cause
    db1: it carries a factor 1/n (n = 3)
      worst at [0, 0]: claimed -0.0222222, right -0.0666667
    right, given what came before: dW1
    """
    given = case(
        sizes=sizes, activations=activations, loss=loss, reduction=reduction, layout=layout, W=W, b=b, X=X, y=y,
        claims=claims, previous=previous, learning_rate=learning_rate, loss_value=loss_value, direction=direction,
    )  # fmt: skip
    return diagnosed(given)


Options = Sequence[
    Cause
]  # the causes that explain one wrong step equally well, the likeliest first; none if it is right


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


class Diagnosis:
    """The walk over one Case with one reduction and one place of the 1/n."""

    def __init__(self, given: Case, reduction: str, place: str, hidden: tuple[int, Hypothesis] | None = None) -> None:
        # hidden: a mistake of the forward pass that is supposed in a layer, or in every layer for 0
        self.case, self.place, self.hidden = given, place, hidden
        self.rules = Rules(given, reduction)
        self.whole = self.rules.count
        if place != PLACES[0]:
            self.rules.count = 1.0
        self.forward_causes: list[Options] = []
        self.right: list[str] = []
        self._forward()

    def claim(self, kind: str, k: int) -> Any:
        """The claim, or None."""
        return self.case.claims.get((kind, k))

    # --- forward ---

    def _forward(self) -> None:
        a: list[Known] = [Known(self.case.X, np.zeros(self.case.X.shape))]
        z: list[Any] = [None]
        for k in range(1, self.case.L + 1):
            for kind, into in (("z", z), ("a", a)):
                right = self.rules.z(k, a[k - 1]) if kind == "z" else self.rules.a(k, z[k])
                claim = self.claim(kind, k)
                values = [None if x is None else x.value for x in z], [x.value for x in a]
                step = Step(self.case, self.rules, kind, k, right, *values)
                if claim is None:
                    if self.hidden is not None and self.hidden[0] in (0, k) and self.hidden[1].at == kind:
                        right = self._supposed(step, self.hidden[1])
                    into.append(right)
                    continue
                self._note(step, claim, self.forward_causes, self.right)
                into.append(exactly(claim, self.case.eps))
        self.z, self.a = z, a

    def _supposed(self, step: Step, hypothesis: Hypothesis) -> Known:
        """What a mistake of the forward pass, supposed where nothing is claimed, makes of the step."""
        value = _made(hypothesis, step)
        fits = value is not None and value.shape == step.right.value.shape and bool(np.isfinite(value).all())
        if not fits or np.allclose(value, step.right.value, rtol=1e-6, atol=0.0):
            if self.hidden is not None and self.hidden[0] == 0:
                return step.right
            raise ValueError("that mistake makes no difference here")
        self.forward_causes.append([_cause(step, hypothesis, value, step.right.worst(value))])
        return Known(value, 4 * step.right.bound + 8 * self.case.eps * np.abs(value))

    def fits(self) -> bool:
        """Whether the last layer is right as it stands, but for a factor."""
        k, loose = self.case.L, _loose(self.case)
        with np.errstate(all="ignore"):
            da = self.rules.dyhat(self.a[k])
            claim = self.claim("da", k)
            if claim is not None:
                return da.agrees(claim) or fitted.ratio(da.value, claim, loose) is not None
            dz = self._right_dz(k, da, claimed=False)
            claim = self.claim("dz", k)
            if claim is not None:
                return dz.agrees(claim) or fitted.ratio(dz.value, claim, loose) is not None
            if not SAFETY * dz.bound.max() < 0.01 * np.abs(dz.value).max():
                return False  # what is as coarse as this fits anything
            if self._fits(k, dz):
                return True
            step = self._step("dz", k, dz, Reading(), da=da)
            made = fitted.claimed(step)
            return len(made) > 0 and fitted.ratio(fitted.seen(step, dz.value), made, loose) is not None

    def _note(self, step: Step, claim: Any, causes: list[Options], right: list[str]) -> None:
        if step.right.agrees(claim):
            right.append(f"{step.kind}{step.k}")
        else:
            causes.append(explained(step, claim, [(h, None) for h in FORWARD if h.at == step.kind]))

    # --- backward ---

    def readings(self, limit: float = math.inf) -> list[Reading]:
        """The readings of the whole backward pass that cost less than the limit, the cheapest first."""
        readings = [Reading(list(self.forward_causes), list(self.right))]
        for k in range(self.case.L, 0, -1):
            found = [after for reading in readings for after in self._layer(reading, k)]
            found.sort(key=COST)
            readings = [reading for reading in found[:WIDTH] if reading.cost < limit]
        if self.claim("da", 0) is not None:
            readings = [self._da(reading, 0)[0] for reading in readings]
        return sorted(readings, key=COST)

    def _step(
        self, kind: str, k: int, right: Known, reading: Reading, da: Known | None = None, dz: Known | None = None
    ) -> Step:
        scale = 1.0 / self.whole if self.place == PLACES[2] else 1.0
        here = scale if kind in ("dW", "db") else 1.0
        others = {j: x for (name, j), x in self.case.claims.items() if name == "dz" and j != k}
        others |= {j: x for j, x in reading.later.items() if j != k}
        made = [self.claim(name, k) for name in ("dW", "db")]
        return Step(
            self.case, self.rules, kind, k, right, [None if x is None else x.value for x in self.z],
            [x.value for x in self.a], None if da is None else da.value * here, None if dz is None else dz.value * here,
            None if reading.dz is None else reading.dz.value * here,
            None if reading.da is None else reading.da.value * here, tuple(x * here for x in others.values()),
            self.claim(kind, k), scale, (made[0] if made[0] is None else made[0] / scale,
                                         made[1] if made[1] is None else made[1] / scale),
        )  # fmt: skip

    def _da(self, reading: Reading, k: int) -> tuple[Reading, Known, list[Hypothesis]]:
        """The reading after da_k, da_k as it is used from here on, and the mistakes that may hide in it unclaimed."""
        hidden = LOSS if k == self.case.L else CHILDREN
        right = self.rules.dyhat(self.a[k]) if k == self.case.L else self.rules.da(k + 1, _known(reading.dz))
        claim = self.claim("da", k)
        if claim is None:
            return reading, right, hidden
        if right.agrees(claim):
            return reading.with_((), f"da{k}"), exactly(claim, 0.0), []
        step = self._step("da", k, right, reading)
        known: list[fitted.Candidate] = [(h, None) for h in hidden]
        if k < self.case.L:
            known += fitted.children(step, np.ravel, claim)
        return reading.with_(explained(step, claim, known), f"da{k}"), exactly(claim, 0.0), []

    def _right_dz(self, k: int, da: Known, claimed: bool) -> Known:
        if k == self.case.L and not claimed:
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
            if right.agrees(claim) or self._by_output(k, da, right).agrees(claim):
                after = reading.with_((), f"dz{k}")
            else:
                mistakes = [*self._candidates(step, k, da, hidden), *fitted.slopes(step)]
                after = reading.with_(explained(step, claim, mistakes), f"dz{k}")
            yield self._parameters(after, k, da, exactly(claim, 0.0))
            return
        plain = self._parameters(reading, k, da, right)
        yield plain
        other = self._by_output(k, da, right)
        if other is not right and ("a", k) not in self.case.claims:
            yield self._parameters(reading, k, da, other)
        if len(plain.wrong) == len(reading.wrong):
            return
        made = [x for x in (self.claim("dW", k), self.claim("db", k)) if x is not None]
        if not any(np.isfinite(x).all() for x in made):
            lost = Known(np.full(right.value.shape, np.nan), right.bound)  # and so is all that follows from it
            unknown = Hypothesis("dz", "non-finite", "it is nan or infinite", lambda s: None)
            cause = _cause(step, unknown, lost.value, (0, 0))
            after = self._parameters(reading, k, da, lost)
            yield after.with_([cause], f"dz{k}")
            return
        before = self._fits(k, right)
        alike: list[tuple[Known, list[Cause]]] = []  # mistakes that come to the same are options of one reading
        for hypothesis, value in self._all(step, k, da, hidden):
            if value.shape != right.value.shape or not np.isfinite(value).all():
                continue
            loose = Known(value, 8 * right.bound + _loose(self.case) * np.abs(value))
            if self._fits(k, loose) > before:
                worst = np.unravel_index(int(np.argmax(np.abs(value - right.value))), value.shape)
                cause = _cause(step, hypothesis, value, tuple(int(i) for i in worst))
                same = [options for known, options in alike if (np.abs(known.value - value) <= loose.bound).all()]
                if same:
                    same[0].append(cause)
                else:
                    alike.append((loose, [cause]))
        for known, options in alike:
            yield self._parameters(reading, k, da, known).with_(options, f"dz{k}")
        if not any(self._fits(k, known) == sum(x is not None for x in made) for known, _ in alike):
            for known, pair in self._pairs(step, k, da, hidden):
                after = self._parameters(reading, k, da, known)
                yield after.with_([pair[0]], f"dz{k}").with_([pair[1]], f"dz{k}")

    def _by_output(self, k: int, da: Known, right: Known) -> Known:
        """dz_k with the derivative written with a_k, which differs where a wrong a_k was claimed."""
        name, a = self.case.activations[k - 1], self.a[k].value
        supposed = self.hidden is not None and self.hidden[0] in (0, k) and self.hidden[1].at == "a"
        if not (supposed or ("a", k) in self.case.claims) or name not in (*BY_OUTPUT, "softmax", "relu", "leaky_relu"):
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
        for hypothesis in [*DZ, *COMBINED] if last else DZ:
            value = _made(hypothesis, step)
            if value is not None:
                yield hypothesis, scale * value
        for hypothesis in hidden:
            value = _made(hypothesis, replace(step, kind="da", right=da))
            if value is None or value.shape != da.value.shape:
                continue
            yield hypothesis, self._passed(k, value)

    def _all(self, step: Step, k: int, da: Known, hidden: Sequence[Hypothesis]) -> Iterator[fitted.Candidate]:
        """The mistakes at dz_k, and then those with a number of their own, which the parameters' gradients tell."""
        right, loose = step.right.value, _loose(self.case)
        for name, number in factors(self.case, step.kind):
            if number != 1.0:
                yield fitted.factor(name), number * right
        yield fitted.hypothesis("dz", "zero", "it is zero throughout"), 0.0 * right
        yield from self._candidates(step, k, da, hidden)
        ratio = fitted.ratio(fitted.seen(step, right), fitted.claimed(step), loose)
        if ratio is not None:
            yield fitted.factor(fitted.name_of(self.case, "dz", ratio, loose)), ratio * right
        yield from fitted.slopes(step)
        yield from fitted.clipped(step)
        if k == self.case.L:
            yield from fitted.added(step)
        elif hidden:
            through = lambda da: fitted.seen(step, self._passed(k, da))  # noqa: E731
            for hypothesis, da in fitted.children(step, through, fitted.claimed(step)):
                yield hypothesis, self._passed(k, da)

    def _pairs(
        self, step: Step, k: int, da: Known, hidden: Sequence[Hypothesis]
    ) -> Iterator[tuple[Known, tuple[Cause, Cause]]]:
        """dz_k with two mistakes, where one does not do: one in da_k and one in f', or one of them and a factor."""
        loose, target = _loose(self.case), fitted.claimed(step)
        upstreams: list[tuple[Hypothesis | None, Any]] = [(None, da.value)]
        upstreams += [(h, _made(h, replace(step, kind="da", right=da))) for h in hidden]
        for first, upstream in upstreams:
            if upstream is None or upstream.shape != da.value.shape or not np.isfinite(upstream).all():
                continue
            values: list[tuple[Hypothesis | None, Hypothesis | None, Any]]
            values = [(first, None, self._passed(k, upstream))]
            values += [(first, h, _made(h, replace(step, da=upstream))) for h in DZ]
            for one, other, value in values:
                if value is None or value.shape != upstream.shape or not np.isfinite(value).all():
                    continue
                ratio = fitted.ratio(fitted.seen(step, value), target, loose)
                causes = [h for h in (one, other) if h is not None]
                if ratio is not None and abs(ratio - 1) > 100 * loose:
                    causes.append(fitted.factor(fitted.name_of(self.case, "dz", ratio, loose)))
                    value = ratio * value
                if ratio is None or len(causes) != 2:
                    continue
                known = Known(value, 8 * step.right.bound + loose * np.abs(value))
                if self._fits(k, known) == sum(x is not None for x in step.made):
                    worst = step.right.worst(value)
                    yield known, (_cause(step, causes[0], value, worst), _cause(step, causes[1], value, worst))

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
            if claim is None:
                continue
            if right.agrees(claim):
                reading = reading.with_((), f"{kind}{k}")
                continue
            step = self._step(kind, k, right, reading, da=da, dz=dz)
            mistakes: list[fitted.Candidate] = [*((h, None) for h in known), *fitted.samples(step)]
            reading = reading.with_(explained(step, claim, mistakes), f"{kind}{k}")
        return replace(reading, dz=dz, da=da, later={**reading.later, k: dz.value})


COST = attrgetter("cost")


def _known(x: Known | None) -> Known:
    assert x is not None  # the walk has passed a layer above
    return x


def _loose(given: Case) -> float:
    return max(1e-9, 500 * given.eps)


def _made(hypothesis: Hypothesis, step: Step) -> Any:
    """What a mistake makes of a step, or None."""
    with np.errstate(all="ignore"):
        try:
            return hypothesis.make(step)
        except (ValueError, IndexError):  # shapes that do not fit
            return None


# --- one wrong step -----------------------------------------------------------------------------------------------


def explained(step: Step, claim: Any, known: Sequence[tuple[Hypothesis, Any]]) -> Options:
    """The causes that a claim may have that is not what the right rule gives."""
    right, worst = step.right, step.right.worst(claim)
    loose = _loose(step.case)

    def alike(value: Any, scale: float = 1.0) -> bool:
        if value is None or value.shape != claim.shape:
            return False
        judged = np.isfinite(right.value) & np.isfinite(right.bound)
        slack = loose * np.abs(value) + 64 * max(1.0, abs(scale)) * right.bound
        apart = np.abs(value - right.value) > loose * np.abs(right.value) + 8 * right.bound
        return bool(((np.abs(claim - value) <= slack) | ~judged).all() and (apart & judged).any())

    def named(kind: str, words: str, factor: str | None = None, found: str = "") -> Cause:
        return _cause(step, Hypothesis(step.kind, kind, words, lambda s: None, found, factor, kind), claim, worst)

    if (~np.isfinite(claim) & np.isfinite(right.value)).any():
        return [named("non-finite", "it is nan or infinite where the right value is finite")]
    options = [] if claim.any() else [named("zero", "it is zero throughout")]
    for name, number in factors(step.case, step.kind):
        if number != 1.0 and alike(number * right.value, number):
            words = f"it carries a factor {name}"
            options.append(named("factor", words, name, "{claimed} = " + name + " times the right one"))
    for hypothesis, value in known:
        if alike(_made(hypothesis, step) if value is None else value):
            options.append(_cause(step, hypothesis, claim, worst))
    for other in step.others:
        values = [other]
        if step.kind == "dW":
            values = [step.a[step.k - 1].T @ other]
        if step.kind == "db":
            values = [other.sum(axis=0, keepdims=True)]
        if any(alike(value) for value in values):
            options.append(named("operand", "the dz of another layer stands in the place of its own"))
    if options:
        return options
    for what, term in _terms(step):
        rest = claim - right.value
        coefficient = float((rest * term).sum() / (term * term).sum()) if term.any() else 0.0
        if claim.size > 1 and coefficient and alike(right.value + coefficient * term):
            digits = f"{coefficient:.6g}"
            return [named("extra-term", f"it has an extra term {digits} {what}", digits)]
    rest = claim - right.value
    if (
        step.k == step.case.L
        and step.kind in ("da", "dz")
        and claim.size > 1
        and alike(right.value + float(rest.flat[0]))
    ):
        return [named("loss-derivative", f"an epsilon of {float(rest.flat[0]):.6g} is added")]
    top = float(np.abs(claim).max())
    if (np.abs(right.value) > top).any() and alike(np.clip(right.value, -top, top)):
        return [named("clipped", f"its elements are clipped at {top:.6g}", f"{top:.6g}")]
    big = np.abs(right.value) > 1e3 * right.bound
    if big.sum() > 1:
        ratio = float(np.median(claim[big] / right.value[big]))
        if alike(ratio * right.value, ratio):
            norm = float(np.linalg.norm(claim))
            if 0 < ratio < 1 and abs(norm - float(f"{norm:.2g}")) < 1e-6 * norm:
                return [named("clipped", f"its norm is clipped at {norm:.6g}", f"{norm:.6g}")]
            return [named("factor", f"it carries a factor {ratio:.6g}", f"{ratio:.6g}")]
    unknown = Hypothesis(step.kind, "unexplained", "it is wrong, in a way not known here", lambda s: None)
    return [_cause(step, unknown, claim, worst)]


def _fix(hypothesis: Hypothesis) -> str | None:
    """What to do about a factor."""
    if hypothesis.kind != "factor" or hypothesis.factor is None:
        return None
    factor = hypothesis.factor
    if factor in ("-1", "1"):
        return "change its sign"
    top, _, bottom = (part.strip("()") for part in factor.removeprefix("-").partition("/"))
    below = f"({top})" if len(top) > 1 and not top.isdecimal() and not top.startswith("n^") else top
    inverse = bottom if top == "1" else f"{bottom or 1}/{below}"
    return f"multiply it by {'-' if factor.startswith('-') else ''}{inverse}"


def _terms(step: Step) -> Iterator[tuple[str, Any]]:
    """(what it is called, the term) that may be added to dW_k or db_k."""
    if step.kind == "dW":
        W = step.case.W[step.k]
        yield f"W{step.k}: weight decay", W
        yield f"sign(W{step.k}): weight decay by the absolute value", np.sign(W)
    if step.kind == "db":
        yield f"b{step.k}: weight decay", step.case.b[step.k]
        if step.right.value.size > 1:
            yield "1: a constant", np.ones(step.right.value.shape)


def _cause(step: Step, hypothesis: Hypothesis, claim: Any, worst: tuple[int, ...]) -> Cause:
    k, quantity = step.k, f"{step.kind}{step.k}"
    words = {"k": k, "before": k - 1, "next": k + 1, "claimed": quantity}
    expected = EXPECTED[step.kind]
    if step.kind == "da" and k == step.case.L:
        expected = "da{k} = dL/dyhat"
    layout = step.case.layout
    message, found, right = (
        in_layout(text.format(**words), layout) for text in (hypothesis.words, hypothesis.found, expected)
    )
    if hypothesis.kind == "factor":
        message += _letters(step.case, hypothesis.factor)
    return Cause(
        quantity, k, (k,), hypothesis.kind, message, hypothesis.factor, found or None, right, _fix(hypothesis),
        worst if layout == "row" else worst[::-1], float(claim[worst]), float(step.right.value[worst]),
        hypothesis.rule or hypothesis.words,
    )  # fmt: skip


def _letters(given: Case, factor: str | None) -> str:
    """What the letters of a factor stand for: " (n = 5)"."""
    values = [f"{letter} = {number}" for letter, number in (("n", given.n), ("m", given.m)) if letter in (factor or "")]
    return f" ({', '.join(values)})" if values else ""


MATRIX = r"((?:dz|da|dW|z|a|W|X)\d*(?:\^T)?|\([^()]*\)\^T)"


def in_layout(text: str, layout: str) -> str:
    """A text for the row layout, in the layout of the claims: (P Q)^T = Q^T P^T, and rows are columns.

    >>> in_layout("dW2 = a1^T dz2", "column")
    'dW2 = dz2 a1^T'
    """
    if layout == "row":
        return text
    if " = " in text:
        text = re.sub(rf"(?<![\w(]){MATRIX} {MATRIX}(?![\w)])", r"\2 \1", text)
    return re.sub(r"\b(row|column)(?=s?\b)", lambda m: {"row": "column", "column": "row"}[m[1]], text)


# --- the whole ----------------------------------------------------------------------------------------------------


def diagnosed(given: Case) -> Report:
    """The Report on a Case: the cheapest reading over all legal conventions."""
    best: tuple[float, int, list[Reading], str, str] | None = None
    reductions = [given.reduction] if given.reduction else list(REDUCTIONS)
    for reduction in reductions:
        whole = REDUCTIONS[reduction](given.n, given.m)
        for order, place in enumerate(PLACES if whole != 1 else PLACES[:1]):
            with np.errstate(all="ignore"):
                readings = Diagnosis(given, reduction, place).readings(math.inf if best is None else best[0])
            if not readings:
                continue
            found = (readings[0].cost, order, readings, reduction, place)
            if best is None or found[:2] < best[:2]:
                best = found
        if best is not None and best[0] == 0.0:
            break
    assert best is not None
    cost, _, readings, reduction, place = best
    if cost >= 2 * PLAIN:
        for k, hypothesis in (
            (k, h) for h in FORWARD for k in range(given.L + 1) if (h.at, k or 1) not in given.claims
        ):
            with np.errstate(all="ignore"):
                try:
                    walk = Diagnosis(given, reduction, place, (k, hypothesis))
                except ValueError:
                    continue
                if walk.fits():
                    others = walk.readings(cost)
                    if others:
                        cost, readings = others[0].cost, others
    reading = readings[0]
    shapes = [
        Cause(
            name,
            k,
            (k,),
            "shape",
            f"{message}",
            None,
            None,
            EXPECTED[kind].format(k=k, before=k - 1, next=k + 1, claimed=name),
        )
        for name, (kind, k, message, _) in given.wrong_shapes.items()
    ]
    causes = _in_order(_uniform(given, merged([*shapes, *reading.causes])))
    notes: list[str] = []
    for other in readings[1:]:
        if other.cost < cost + 0.005 and {c.family for c in other.causes} != {c.family for c in reading.causes}:
            words = "; ".join(f"{c.quantity}: {c.message}" for c in _in_order(merged(other.causes)))
            notes.append(f"the claims fit as well: {words}; claims of dz and da would tell")
            break
    truth = _truth(given, reduction)
    wrong = [
        name for name, right in truth.items() if name in _claimed(given) and not right.agrees(_claimed(given)[name])
    ]
    parameters = [name for name in _claimed(given) if name[:2] in ("dW", "db")]
    named = {f"{cause.quantity}" for cause in causes} | {f"{c.quantity}{k}" for c in causes for k in c.layers}
    harmless = bool(parameters) and not shapes and not [name for name in wrong if name in parameters]
    if causes and harmless:
        notes += [f"harmless, for dW and db are right: {cause.quantity}: {cause.message}" for cause in causes]
        causes = ()
    if place != PLACES[0] and not harmless:
        notes.append(f"convention: 1/n enters at {place}")
    notes += _kinks(given)
    notes += _of_the_loss(given, reduction)
    for name in parameters if harmless else []:
        largest = float(np.abs(truth[name].value).max())
        if 4 * SAFETY * float(truth[name].bound.max()) > largest > 0:
            notes.append(f"coarse: rounding in this precision could hide a factor 2 of {name}, at most {largest:.2g}")
    ok: bool | None = not causes
    if not given.claims and not shapes:
        ok, notes = None, [*notes, "nothing was claimed"]
    inherited = tuple(name for name in wrong if name not in named) if causes else ()
    context = {"reduction": reduction, "place_of_1/n": place, "layout": given.layout, "samples": given.n}
    return Report(ok, causes, inherited, tuple(reading.right), tuple(notes), context)


def _of_the_loss(given: Case, reduction: str) -> list[str]:
    """What is odd about the claimed loss value: of another reduction, or off by a factor."""
    if given.loss_value is None:
        return []
    with np.errstate(all="ignore"):
        yhat = Diagnosis(replace(given, claims={}), reduction, PLACES[0]).a[-1].value
        total = float(LOSSES[given.loss].terms(given.y, yhat).sum())
    right, close = total / REDUCTIONS[reduction](given.n, given.m), max(1e-6, 1e3 * given.eps)
    if not np.isfinite(right) or abs(given.loss_value - right) <= close * abs(right):
        return []
    said = f"the claimed loss {given.loss_value:.8g} is not the {reduction} of the {given.loss}, {right:.8g}"
    for other, count in REDUCTIONS.items():
        if abs(given.loss_value - total / count(given.n, given.m)) <= close * abs(given.loss_value):
            return [f"{said}: it is the {other} (n = {given.n})"]
    for name, number in factors(given, "loss"):
        if abs(given.loss_value - number * right) <= close * abs(given.loss_value):
            return [f"{said}: it is {name} times that (n = {given.n})"]
    return [said]


def _uniform(given: Case, causes: Sequence[Cause]) -> list[Cause]:
    """The causes, with one factor on dW and db of all layers as one cause."""
    every = tuple(range(1, given.L + 1))
    found = {
        cause.quantity.rstrip("0123456789"): cause
        for cause in causes
        if cause.kind == "factor" and cause.layers == every
    }
    dW, db = found.get("dW"), found.get("db")
    if dW is None or db is None or dW.factor != db.factor:
        return list(causes)
    both = replace(dW, message=f"dW and db of every layer carry a factor {dW.factor}{_letters(given, dW.factor)}")
    return [both, *(cause for cause in causes if cause is not dW and cause is not db)]


def _in_order(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """The causes in the order in which the passes run: forward, then backward from the last layer."""
    ranks = ("z", "a", "da", "dz", "dW", "db")

    def place(cause: Cause) -> tuple[int, int, int]:
        rank = ranks.index(cause.quantity.rstrip("0123456789"))
        return (0, min(cause.layers), rank) if rank < 2 else (1, -max(cause.layers), rank)

    return tuple(sorted(causes, key=place))


def _claimed(given: Case) -> dict[str, Any]:
    return {f"{kind}{k}": claim for (kind, k), claim in given.claims.items()}


def _truth(given: Case, reduction: str) -> dict[str, Known]:
    """{name: right value} of every quantity, with nothing taken from the claims."""
    bare = replace(given, claims={})
    with np.errstate(all="ignore"):
        walk = Diagnosis(bare, reduction, PLACES[0])
        found: dict[str, Known] = {}
        dz: Known | None = None
        for k in range(given.L, 0, -1):
            da = walk.rules.dyhat(walk.a[k]) if k == given.L else walk.rules.da(k + 1, _known(dz))
            dz = walk._right_dz(k, da, claimed=False)
            found |= {f"z{k}": walk.z[k], f"a{k}": walk.a[k], f"da{k}": da, f"dz{k}": dz}
            found |= {f"dW{k}": walk.rules.dW(walk.a[k - 1], dz), f"db{k}": walk.rules.db(dz)}
    return found


def _kinks(given: Case) -> list[str]:
    """Notes on units of relu that stand at their kink."""
    with np.errstate(all="ignore"):
        walk = Diagnosis(replace(given, claims={}), given.reduction or "sum", PLACES[0])
    notes = []
    for k in range(1, given.L + 1):
        if given.activations[k - 1] in ("relu", "leaky_relu"):
            at = int((np.abs(walk.z[k].value) <= 8 * walk.z[k].bound).sum())
            if at:
                notes.append(f"kink: {at} unit(s) of layer {k} stand at z = 0, where either slope is accepted")
    return notes
