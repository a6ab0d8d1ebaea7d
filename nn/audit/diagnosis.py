"""The diagnosis: the Report on claims, from the reading with the fewest causes over all legal conventions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nn.audit.claims import Case, case
from nn.audit.explanation import EXPECTED, is_round, letters
from nn.audit.hypotheses import FORWARD
from nn.audit.report import Cause, Report, merged
from nn.audit.rules import SAFETY
from nn.audit.steps import factors
from nn.audit.walk import PLACES, PLAIN, Reading, Walk, truth
from nn.by_hand import REDUCTIONS


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


# --- the whole ----------------------------------------------------------------------------------------------------


def diagnosed(given: Case) -> Report:
    """The Report on a Case: the cheapest reading over all legal conventions."""
    readings, walk = _cheapest(given)
    reading, reduction = readings[0], walk.rules.reduction
    told = {cause.quantity for cause in reading.causes}
    shapes = [_misshapen(name, *found) for name, found in given.wrong_shapes.items() if name not in told]
    causes = _in_order(_as_one(given, merged([*shapes, *reading.causes])))
    notes = _alternatives(readings)
    facts, claims = truth(given, reduction), _claimed(given)
    wrong = [name for name, right in facts.items() if name in claims and not right.agrees(claims[name])]
    parameters = [name for name in claims if name[:2] in ("dW", "db")]
    turned = [kind for kind, _ in given.turned if kind in ("dW", "db")]
    harmless = bool(parameters) and not given.wrong_shapes and not turned and not set(wrong) & set(parameters)
    if causes and harmless:
        notes += [f"harmless, for dW and db are right: {cause.quantity}: {cause.message}" for cause in causes]
        causes = ()
    if walk.place != PLACES[0] and not harmless:
        notes.append(f"convention: 1/n enters at {walk.place}")
    notes += [*_kinks(given), *_of_the_loss(given, reduction)]
    for name in parameters if harmless else []:
        largest = float(np.abs(facts[name].value).max())
        if 4 * SAFETY * float(facts[name].bound.max()) > largest > 0:
            notes.append(f"coarse: rounding in this precision could hide a factor 2 of {name}, at most {largest:.2g}")
    ok: bool | None = not causes
    if not given.claims and not shapes:
        ok, notes = None, [*notes, "nothing was claimed"]
    named = {cause.quantity for cause in causes} | {f"{cause.quantity}{k}" for cause in causes for k in cause.layers}
    inherited = tuple(name for name in wrong if name not in named) if causes else ()
    context = {"reduction": reduction, "place_of_1/n": walk.place, "layout": given.layout, "samples": given.n}
    return Report(ok, causes, inherited, tuple(reading.right), tuple(notes), context)


def _cheapest(given: Case) -> tuple[list[Reading], Walk]:
    """The readings of the walk whose first reading has the fewest causes, and that walk."""
    best: tuple[list[Reading], Walk] | None = None
    for walk in sorted(_walks(given), key=_wrong_steps):  # it is stable: the likeliest convention first
        with np.errstate(all="ignore"):
            found = walk.readings(best[0][0].cost if best else math.inf)
        if found and (best is None or found[0].cost < best[0][0].cost):
            best = found, walk
        if best is not None and best[0][0].cost <= 1.01 * PLAIN:  # one cause: no other convention has fewer
            break
    assert best is not None  # nothing is too dear for the first walk
    if best[0][0].cost >= 2 * PLAIN and _may_come_from_before(best[0][0]):
        for walk in _supposing(given):
            with np.errstate(all="ignore"):
                found = walk.readings(best[0][0].cost)
            if found:
                best = found, walk
    return best


def _wrong_steps(walk: Walk) -> int:
    """How many claims a convention leaves wrong."""
    with np.errstate(all="ignore"):
        return walk.wrong_steps()


def _misshapen(name: str, kind: str, k: int, message: str, _: Any) -> Cause:
    right = EXPECTED[kind].format(k=k, before=k - 1, next=k + 1, claimed=name)
    return Cause(name, k, (k,), "shape", message, expected=right)


def _alternatives(readings: Sequence[Reading]) -> list[str]:
    """A note on a reading that explains the claims as well as the first."""
    first = readings[0]
    for other in readings[1:]:
        same = {cause.family for cause in other.causes} == {cause.family for cause in first.causes}
        if other.cost < first.cost + 0.005 and not same:
            words = "; ".join(f"{cause.quantity}: {cause.message}" for cause in _in_order(merged(other.causes)))
            return [f"the claims fit as well: {words}; claims of dz and da would tell"]
    return []


def _may_come_from_before(reading: Reading) -> bool:
    """Whether a mistake of the forward pass may be behind it: not where a single dW or db is wrong."""
    (first, *others) = reading.wrong
    return bool(others) or first[0].quantity[:2] in ("da", "dz")


def _conventions(given: Case) -> Iterator[tuple[str, str]]:
    """The legal ones: (a reduction, a place where its 1/n may enter)."""
    for reduction in [given.reduction] if given.reduction else REDUCTIONS:
        for place in PLACES if REDUCTIONS[reduction](given.n, given.m) != 1 else PLACES[:1]:
            yield reduction, place


def _walks(given: Case) -> list[Walk]:
    """A walk for every legal convention."""
    with np.errstate(all="ignore"):
        first = Walk(given, given.reduction or "sum", PLACES[0])
        return [first.under(*convention) for convention in _conventions(given)]


def _supposing(given: Case) -> Iterator[Walk]:
    """The walks with a mistake of the forward pass where nothing of it is claimed, if the last layer fits then."""
    for hypothesis in FORWARD:
        for k in range(-1 if given.L > 2 else 0, given.L + 1):  # 0: in every layer; -1: in all but the last
            if (hypothesis.at, max(k, 1)) in given.claims:
                continue
            with np.errstate(all="ignore"):
                try:
                    supposed = Walk(given, given.reduction or "sum", PLACES[0], (k, hypothesis))
                except ValueError:  # it makes no difference here
                    continue
                for walk in (supposed.under(*convention) for convention in _conventions(given)):
                    if walk.fits():
                        yield walk


def _of_the_loss(given: Case, reduction: str) -> list[str]:
    """What is odd about the claimed loss value: of another reduction, or off by a factor."""
    if given.loss_value is None:
        return []
    with np.errstate(all="ignore"):
        yhat = Walk(replace(given, claims={}), reduction, PLACES[0]).a[-1].value
        total = float(given.objective.terms(given.y, yhat).sum())
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


def _as_one(given: Case, causes: Sequence[Cause]) -> list[Cause]:
    """The causes, with what is done alike to dW and db as one cause: a factor on all layers, a clip, a common norm."""
    every = tuple(range(1, given.L + 1))
    found = {cause.quantity.rstrip("0123456789"): cause for cause in causes if cause.kind in ("factor", "clipped")}
    dW, db = found.get("dW"), found.get("db")
    if dW is not None and db is not None and (dW.kind, dW.factor, dW.rule) == (db.kind, db.factor, db.rule):
        both: Cause | None = None
        if dW.kind == "clipped":
            layers = tuple(sorted({*dW.layers, *db.layers}))
            words = dW.message.replace("its", "the", 1)
            both = replace(dW, quantity="dW", layer=None, layers=layers, message=f"dW and db are clipped: {words}")
        elif dW.layers == db.layers == every:
            both = replace(
                dW, message=f"dW and db of every layer carry a factor {dW.factor}{letters(given, dW.factor)}"
            )
        if both is not None:
            causes = [both, *(cause for cause in causes if cause is not dW and cause is not db)]
    if len(causes) == 1 and causes[0].kind == "factor" and given.L in causes[0].layers:
        gradients = [given.claims[kind, k] for kind in ("dW", "db") for k in every if (kind, k) in given.claims]
        if len(gradients) == 2 * given.L:
            norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
            if is_round(norm):
                words = f"the norm of all gradients together is brought to {norm:.6g}"
                return [Cause("dW", None, every, "clipped", words, f"{norm:.6g}")]
    return list(causes)


def _in_order(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """The causes in the order in which the passes run: forward, then backward from the last layer."""
    ranks = ("z", "a", "da", "dz", "dW", "db")

    def place(cause: Cause) -> tuple[int, int, int]:
        rank = ranks.index(cause.quantity.rstrip("0123456789"))
        return (0, min(cause.layers), rank) if rank < 2 else (1, -max(cause.layers), rank)

    return tuple(sorted(causes, key=place))


def _claimed(given: Case) -> dict[str, Any]:
    return {f"{kind}{k}": claim for (kind, k), claim in given.claims.items()}


def _kinks(given: Case) -> list[str]:
    """Notes on units of relu that stand at their kink."""
    with np.errstate(all="ignore"):
        walk = Walk(replace(given, claims={}), given.reduction or "sum", PLACES[0])
    notes = []
    for k in range(1, given.L + 1):
        if given.activations[k - 1] in ("relu", "leaky_relu"):
            at = int((np.abs(walk.z[k].value) <= 8 * walk.z[k].bound).sum())
            if at:
                notes.append(f"kink: {at} unit(s) of layer {k} stand at z = 0, where either slope is accepted")
    return notes
