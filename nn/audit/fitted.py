"""Mistakes with a number or a choice of their own, which the claims themselves tell: a slope, a bound, some samples.

What is linear in the unknown is solved for; a solution counts only where the claims fit it in every element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nn.audit.claims import UNNAMED
from nn.audit.steps import Hypothesis, Step

Candidate = tuple[Hypothesis, Any]  # a mistake, and what it makes of the step


def hypothesis(at: str, kind: str, words: str, rule: str = "", factor: str | None = None) -> Hypothesis:
    """One whose value comes beside it."""
    return Hypothesis(at, kind, words, lambda step: None, "", factor, rule)


def seen(step: Step, dz: Any) -> Any:
    """What a dz_k leads to of what is claimed of dW_k and db_k, as one row of numbers."""
    dW, db = step.made
    parts = [] if dW is None else [(step.below.T @ dz).ravel()]
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


def weights(parts: Sequence[Any], total: Any) -> list[float] | None:
    """The weights with which the parts add up to the total, if they are not all 1: whole numbers, or one odd one.

    Solved for where there are numbers enough; else one part at a time is left out, doubled or turned.
    """
    if len(parts) < 2:
        return None
    found = coefficients(parts, total)
    if found is None:
        return _one_odd(np.stack([np.ravel(part) for part in parts]), np.ravel(total))
    near = np.rint(found)
    whole = np.abs(found - near) < 0.02
    rounded = np.where(whole, near, found)
    fits = whole.all() or (rounded == 1.0).sum() == len(parts) - 1
    if not fits or (rounded == rounded[0]).all() or np.abs(rounded).max() > 9:
        return None
    return [float(c) for c in rounded]


def _one_odd(parts: Any, total: Any) -> list[float] | None:
    rest, loose = total - parts.sum(axis=0), 1e-6 * np.abs(parts).max()
    for weight in (0.0, 2.0, -1.0):
        fits = np.flatnonzero((np.abs(rest - (weight - 1.0) * parts) <= loose).all(axis=1))
        if len(fits) == 1 and np.abs(rest).max() > 2 * loose:
            return [weight if i == fits[0] else 1.0 for i in range(len(parts))]
    return None


def in_words(weighed: Sequence[float], what: str, plural: str) -> tuple[str, str]:
    """(what is told of the weights, and the rule without numbers)."""
    odd = {c for c in weighed if c != 1.0}
    at = [str(i + 1) for i, c in enumerate(weighed) if c != 1.0]
    others = [str(i + 1) for i, c in enumerate(weighed) if c == 1.0]
    if odd == {0.0}:
        if len(at) < len(others):
            one = len(at) == 1
            return (f"{what if one else plural} {', '.join(at)} of {len(weighed)} {'is' if one else 'are'} left out",
                    f"some {plural} are left out")  # fmt: skip
        return f"only {what} {', '.join(others)} of {len(weighed)} counts", f"some {plural} are left out"
    if odd == {2.0}:
        return f"{what} {', '.join(at)} of {len(weighed)} counts twice", f"a {what} counts twice"
    if odd == {-1.0}:
        return f"{what} {', '.join(at)} of {len(weighed)} enters with the wrong sign", f"the sign of a {what} is wrong"
    told = ", ".join(f"{c:.6g}" for c in weighed)
    return f"the {plural} are weighted {told}", f"the {plural} are weighted"


def children(step: Step, through: Callable[[Any], Any], target: Any) -> Iterator[Candidate]:
    """da_k with other weights of the children; through(da) is what of it is claimed, as the target."""
    parts = [step.dz_next[:, j : j + 1] @ step.W_next[:, j : j + 1].T for j in range(step.W_next.shape[1])]
    weighed = weights([through(part) for part in parts], target)
    if weighed is not None:
        words, rule = in_words(weighed, "child", "children")
        yield hypothesis("da", "child-sum", words, rule), sum(c * part for c, part in zip(weighed, parts, strict=True))


def updated(step: Step, through: Callable[[Any], Any], target: Any) -> Iterator[Candidate]:
    """da_k through a W_{k+1} that was updated already, with the learning rate that fits where none is declared."""
    if step.case.learning_rate is not None or step.dW_next is None:
        return
    right = step.dz_next @ step.W_next.T
    moved = step.dz_next @ step.dW_next.T
    found = coefficients([through(moved)], np.ravel(through(right)) - np.ravel(target))
    if found is not None and np.size(target) > 2:
        rate = float(found[0])
        words = f"W{{next}} was already updated, with a learning rate of {rate:.6g}"
        yield hypothesis("da", "operand", words, "W was already updated"), right - rate * moved


def samples(step: Step) -> Iterator[Candidate]:
    """dW_k or db_k with other weights of the samples."""
    if step.kind == "dW":
        rows = list(step.below[:, :, None] * step.dz[:, None, :])
    else:
        rows = [step.dz[i : i + 1] for i in range(step.case.n)]
    weighed = weights(rows, step.claim)
    if weighed is not None:
        yield (hypothesis(step.kind, "batch-sum", *in_words(weighed, "sample", "samples")),
               sum(c * row for c, row in zip(weighed, rows, strict=True)))  # fmt: skip


def samples_of_dz(step: Step) -> Iterator[Candidate]:
    """dz_k with other weights of the samples, which is what dW_k and db_k tell."""
    right = step.right.value
    rows = [seen(step, np.where(np.arange(step.case.n)[:, None] == i, right, 0.0)) for i in range(step.case.n)]
    weighed = weights(rows, claimed(step))
    if weighed is not None:
        yield (hypothesis("dz", "batch-sum", *in_words(weighed, "sample", "samples")),
               right * np.array(weighed)[:, None])  # fmt: skip


def slopes(step: Step, scale: float = 1.0) -> Iterator[Candidate]:
    """dz_k with the slope below 0 that the claims ask for; scale: the 1/n that enters at this dz_k."""
    if step.da is None or not _is_bent(step):
        return
    above = step.z_k > 0
    open_, below = scale * step.da * above * step.slope, scale * step.da * ~above
    if step.claim is not None:
        found = coefficients([below], step.claim - open_)
    else:
        found = coefficients([seen(step, below)], claimed(step) - seen(step, open_))
    if found is not None:
        words = f"the slope below 0 is {float(found[0]):.4g}"
        rule = "the slope below 0 is another"
        yield hypothesis("dz", "activation-derivative", words, rule), open_ + float(found[0]) * below


def _is_bent(step: Step) -> bool:
    """Whether f is two straight lines that meet at 0, as far as these z tell."""
    if step.name != UNNAMED or not step.is_elementwise:
        return step.name in ("relu", "leaky_relu")
    slope, above = step.slope, step.z_k > 0
    return all(np.ptp(slope[side]) == 0 for side in (above, ~above) if side.any())


def added(step: Step) -> Iterator[Candidate]:
    """dz_k with a term too much in it or in da_k before it: a penalty on a_k, or a number at the last layer."""
    last = step.k == step.case.L
    ones, size = np.ones(step.right.value.shape), np.sign(step.a_k)
    through = step.slope if step.is_elementwise and step.da is not None else None
    terms = [("dz", "loss-derivative", "an epsilon of {:.6g} is added", ones)] if last else []
    if through is not None:
        if last:
            terms.append(("da", "loss-derivative", "an epsilon of {:.6g} is added", through))
        said = "it has an extra term {:.6g} a{{k}}: a penalty on the activations"
        terms.append(("da", "extra-term", said, step.a_k * through))
        terms.append(("da", "extra-term", said.replace("a{{k}}", "sign(a{{k}})"), size * through))
    target, right = claimed(step), step.right.value
    for at, kind, words, term in terms:
        found = coefficients([seen(step, term)], target - seen(step, right)) if len(target) > 1 else None
        if found is not None:
            number = float(found[0])
            yield hypothesis(at, kind, words.format(number), words), right + number * term


def clipped(step: Step, scale: float = 1.0) -> Iterator[Candidate]:
    """dz_k with the elements of dz_k, or of da_k before it, clipped at the bound that the claims ask for.

    scale: the 1/n that enters at this dz_k.
    """
    right = step.right.value
    slope = scale * step.slope if step.is_elementwise and step.da is not None else None
    if step.claim is not None:  # the bound can be read off
        if slope is not None:
            with np.errstate(all="ignore"):
                top = float(np.abs(np.where(slope != 0.0, step.claim / slope, 0.0)).max())
            clip = hypothesis("da", "clipped", f"its elements are clipped at {top:.6g}", "clipped", f"{top:.6g}")
            yield clip, np.clip(step.da, -top, top) * slope
        return
    if step.made[1] is None:
        return
    bases = [("dz", right, np.ones(right.shape))]
    if slope is not None:
        bases.append(("da", step.da, slope))
    for at, base, weight in bases:
        for bound in _bounds(base, weight, step.made[1]):
            words = f"its elements are clipped at {bound:.6g}"
            clip = hypothesis(at, "clipped", words, "clipped", f"{bound:.6g}")
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


def factor(name: str, at: str = "dz") -> Hypothesis:
    """That a quantity carries a factor of that name."""
    return hypothesis(at, "factor", f"it carries a factor {name}", factor=name)
