"""Mistakes with a number or a choice of their own, which the claims themselves tell: a slope, a bound, some samples.

What is linear in the unknown is solved for; a solution counts only where the claims fit it in every element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nn.audit.claims import Case
from nn.audit.hypotheses import Hypothesis, Step, factors, slope_of

Candidate = tuple[Hypothesis, Any]  # a mistake, and what it makes of the step


def hypothesis(at: str, kind: str, words: str, rule: str = "", factor: str | None = None) -> Hypothesis:
    """One whose value comes beside it."""
    return Hypothesis(at, kind, words, lambda step: None, "", factor, rule)


def seen(step: Step, dz: Any) -> Any:
    """What a dz_k leads to of what is claimed of dW_k and db_k, as one row of numbers."""
    dW, db = step.made
    parts = [] if dW is None else [(step.a[step.k - 1].T @ dz).ravel()]
    return np.concatenate([*parts, *([] if db is None else [dz.sum(axis=0)])])


def claimed(step: Step) -> Any:
    """The claimed dW_k and db_k as one row of numbers."""
    return np.concatenate([x.ravel() for x in step.made if x is not None])


def coefficients(parts: Sequence[Any], total: Any) -> Any:
    """The c with sum of c_i parts_i = total, by least squares; None where the numbers do not tell."""
    columns = np.stack([np.ravel(part) for part in parts], axis=1)
    target = np.ravel(total)
    if not (np.isfinite(columns).all() and np.isfinite(target).all()) or len(target) < columns.shape[1]:
        return None
    sizes = np.linalg.norm(columns, axis=0)
    if not (sizes > 0).all():
        return None
    found, _, rank, _ = np.linalg.lstsq(columns / sizes, target, rcond=1e-6)
    return found / sizes if rank == columns.shape[1] else None


def chosen(parts: Sequence[Any], total: Any) -> list[int] | None:
    """Which of the parts the total is the sum of, if some are and some are not."""
    found = coefficients(parts, total) if len(parts) > 1 else None
    if found is None or not (np.abs(found - np.rint(found)) < 0.02).all():
        return None
    keep = np.rint(found)
    if not np.isin(keep, (0.0, 1.0)).all() or keep.all() or not keep.any():
        return None
    return [int(i) for i in np.flatnonzero(keep)]


def _listed(numbers: Sequence[int], whole: int) -> str:
    return f"{', '.join(str(i + 1) for i in numbers)} of {whole}"


def children(step: Step, through: Callable[[Any], Any], target: Any) -> Iterator[Candidate]:
    """da_k with some of the children only; through(da) is what of it is claimed, as the target."""
    W, dz = step.case.W[step.k + 1], step.dz_next
    parts = [dz[:, j : j + 1] @ W[:, j : j + 1].T for j in range(W.shape[1])]
    keep = chosen([through(part) for part in parts], target)
    if keep is not None:
        words = f"only some children are counted: unit {_listed(keep, len(parts))} of layer {step.k + 1}"
        yield hypothesis("da", "child-sum", words, "only some children are counted"), sum(parts[j] for j in keep)


def samples(step: Step) -> Iterator[Candidate]:
    """dW_k or db_k with some of the samples only."""
    rows = [step.a[step.k - 1][i : i + 1].T @ step.dz[i : i + 1] if step.kind == "dW" else step.dz[i : i + 1]
            for i in range(step.case.n)]  # fmt: skip
    keep = chosen(rows, step.claim)
    if keep is not None:
        words = f"only some samples count: {_listed(keep, len(rows))}"
        yield hypothesis(step.kind, "batch-sum", words, "only some samples count"), sum(rows[i] for i in keep)


def slopes(step: Step) -> Iterator[Candidate]:
    """dz_k with the slope below 0 that the claims ask for."""
    if step.name not in ("relu", "leaky_relu") or step.da is None:
        return
    above = step.z[step.k] > 0
    open_, below = step.da * above, step.da * ~above
    if step.claim is not None:
        found = coefficients([below], step.claim - open_)
    else:
        found = coefficients([seen(step, below)], claimed(step) - seen(step, open_))
    if found is not None:
        words = f"the slope below 0 is {float(found[0]):.4g}"
        rule = "the slope below 0 is another"
        yield hypothesis("dz", "activation-derivative", words, rule), open_ + float(found[0]) * below


def added(step: Step) -> Iterator[Candidate]:
    """dz_L with a number added to every element of it, or of dL/dyhat before it."""
    ones = [np.ones(step.right.value.shape)]
    if step.da is not None and step.name != "softmax":
        ones.append(slope_of(step.name, step.z[step.k]))
    for one in ones:
        found = coefficients([seen(step, one)], claimed(step) - seen(step, step.right.value))
        if found is not None and len(claimed(step)) > 1:
            words = f"an epsilon of {float(found[0]):.6g} is added"
            yield hypothesis("dz", "loss-derivative", words, "an epsilon"), step.right.value + float(found[0]) * one


def clipped(step: Step) -> Iterator[Candidate]:
    """dz_k with the elements of dz_k, or of da_k before it, clipped at the bound that db_k asks for."""
    if step.made[1] is None:
        return
    right = step.right.value
    bases = [(right, np.ones(right.shape))]
    if step.name != "softmax" and step.da is not None:
        bases.append((step.da, slope_of(step.name, step.z[step.k])))
    for base, weight in bases:
        for bound in _bounds(base, weight, step.made[1]):
            words = f"its elements are clipped at {bound:.6g}"
            clip = hypothesis("dz", "clipped", words, "clipped", f"{bound:.6g}")
            yield clip, np.clip(base, -bound, bound) * weight


def _bounds(base: Any, weight: Any, db: Any) -> Iterator[float]:
    """The bounds c for which the sum of weight * clip(base, -c, c) over the samples is db.

    With the elements above c known, the sum is linear in c: so one c for every number of them, for one unit.
    """
    j = int(np.abs((weight * base).sum(axis=0) - db[0]).argmax())
    order = np.argsort(np.abs(base[:, j]))
    b, w = base[order, j], weight[order, j]
    sizes = np.abs(b)
    below = np.append(0.0, np.cumsum(w * b)[:-1])  # what is not clipped
    steep = np.cumsum((w * np.sign(b))[::-1])[::-1]  # what is, per unit of c
    with np.errstate(all="ignore"):
        c = (db[0, j] - below) / steep
        fits = (c > 0) & (c >= np.append(0.0, sizes[:-1]) * (1 - 1e-9)) & (c <= sizes * (1 + 1e-9))
    yield from map(float, c[fits])


def ratio(value: Any, total: Any, loose: float) -> float | None:
    """The one number that total is times the value, if it is one in every element and there are three to tell."""
    big = np.abs(value) > 1e-3 * np.abs(value).max(initial=0.0)
    if big.sum() < 3:
        return None
    found = float(np.median(total[big] / value[big]))
    close = np.abs(total - found * value) <= 100 * loose * np.abs(found) * np.abs(value).max()
    return found if np.isfinite(found) and found != 0 and bool(close.all()) else None


def factor(name: str) -> Hypothesis:
    """That dz_k carries a factor of that name."""
    return hypothesis("dz", "factor", f"it carries a factor {name}", factor=name)


def name_of(case: Case, kind: str, number: float, loose: float) -> str:
    """The factor by its name, or by its digits."""
    names = [name for name, known in factors(case, kind) if abs(known - number) <= 100 * loose * abs(known)]
    return names[0] if names else f"{number:.6g}"
