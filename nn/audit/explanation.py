"""One wrong step explained: the causes that a claim may have that is not what the right rule gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nn.audit import fitted
from nn.audit.claims import Case
from nn.audit.hypotheses import MISSHAPEN
from nn.audit.report import Cause
from nn.audit.steps import Hypothesis, Step, factors, made, odd_factors, previous_db, previous_dW

Options = Sequence[Cause]  # the causes that explain one wrong step equally well, the likeliest first; none if right

EXPECTED = {
    "z": "z{k} = a{before} W{k} + b{k}",
    "a": "a{k} = f(z{k})",
    "da": "da{k} = dz{next} W{next}^T",
    "dz": "dz{k} = da{k} * f'(z{k})",
    "dW": "dW{k} = a{before}^T dz{k}",
    "db": "db{k} = sum of dz{k} over the samples",
}


def looseness(given: Case) -> float:
    """How far, relatively, what a mistake makes may be from the claim: more than rounding, less than chance."""
    return max(1e-9, 500 * given.eps)


def explained(step: Step, claim: Any, known: Sequence[fitted.Candidate]) -> Options:
    """The causes of a wrong claim, all that fit it; the candidates come with their numbers, or None to make them."""
    right, worst = step.right, step.right.worst(claim)
    loose = looseness(step.case)
    judged = np.isfinite(right.value) & np.isfinite(right.bound)

    def alike(value: Any, scale: float = 1.0) -> bool:
        if value is None or value.shape != claim.shape:
            return False
        slack = loose * np.abs(value) + 64 * max(1.0, abs(scale)) * right.bound
        apart = np.abs(value - right.value) > loose * np.abs(right.value) + 8 * right.bound
        near = (np.abs(claim - value) <= slack) & np.isfinite(value)
        return bool((near | ~judged).all() and (apart & judged).any())

    def named(kind: str, words: str, factor: str | None = None, found: str = "", at: str = "", rule: str = "") -> Cause:
        made_up = Hypothesis(at or step.kind, kind, words, lambda s: None, found, factor, rule or kind)
        return cause_of(step, made_up, claim, worst)

    if (~np.isfinite(claim) & np.isfinite(right.value)).any():
        return [named("non-finite", "it is nan or infinite where the right value is finite")]

    def carrying(every: Iterable[tuple[str, float]]) -> Iterator[Cause]:
        for name, number in every:
            if number != 1.0 and alike(number * right.value, number):
                words = f"it carries a factor {name}"
                yield named("factor", words, name, "{claimed} = " + name + " times the right one")
                if step.open:
                    yield named("factor", words, name, at="da")

    options = [] if claim.any() else [named("zero", "it is zero throughout")]
    options += carrying(factors(step.case, step.kind))
    for hypothesis, value in known:
        if alike(made(hypothesis, step) if value is None else value):
            options.append(cause_of(step, hypothesis, claim, worst))
    for other in step.others:
        values = {"dW": lambda dz: step.below.T @ dz, "db": lambda dz: dz.sum(axis=0, keepdims=True)}
        if alike(values.get(step.kind, lambda dz: dz)(other)):
            options.append(named("operand", "the dz of another layer stands in the place of its own"))
    options += carrying(odd_factors(step.case))
    if options:
        return options
    for kind, words, digits, rule, value in read_off(step, claim):
        if alike(value):
            return [named(kind, words, digits, rule=rule)]
    big = np.abs(right.value) > 1e3 * right.bound
    if big.sum() > 1:
        ratio = float(np.median(claim[big] / right.value[big]))
        if alike(ratio * right.value, ratio):
            norm = float(np.linalg.norm(claim))
            if ratio > 0 and is_round(norm):
                return [named("clipped", f"its norm is brought to {norm:.6g}", f"{norm:.6g}", rule="norm")]
            words = f"it carries a factor {ratio:.6g}"
            own = [named("factor", words, f"{ratio:.6g}")]
            return [*own, named("factor", words, f"{ratio:.6g}", at="da")] if step.open else own
    return [named("unexplained", "it is wrong, in a way not known here")]


def is_round(number: float) -> bool:
    """Whether it has two digits: somebody's choice."""
    return abs(number - float(f"{number:.2g}")) < 1e-6 * number


def misshapen(step: Step, claim: Any) -> Options:
    """The causes of a claim whose shape is wrong, where its numbers tell."""
    loose = looseness(step.case)
    for hypothesis in MISSHAPEN:
        value = made(hypothesis, step) if hypothesis.at == step.kind else None
        for turned in (claim, claim.T):
            if value is None or value.shape != turned.shape:
                continue
            if np.abs(turned - value).max() <= loose * np.abs(value).max():
                return [replace(cause_of(step, hypothesis, step.right.value, (0, 0)), index=None)]
    return ()


# --- mistakes whose numbers can be read off the claim -------------------------------------------------------------

Reading = tuple[str, str, str | None, str, Any]  # kind, words, number, rule without numbers, what the claim would be


def read_off(step: Step, claim: Any) -> Iterator[Reading]:
    """The mistakes with a number of their own that may stand in a claim."""
    for look in (_added, _constant, _clipped, _of_samples, _dropped):
        yield from look(step, claim)


def _added(step: Step, claim: Any) -> Iterator[Reading]:
    """A term too much, with the coefficient that fits."""
    right = step.right.value
    for what, term in _terms(step):
        found = fitted.coefficients([term], claim - right) if claim.size > 1 else None
        if found is not None and _counts(found[0] * term, claim):
            digits = f"{found[0]:.6g}"
            yield "extra-term", f"it has an extra term {digits} {what}", digits, what, right + found[0] * term
    before = {"dW": previous_dW, "db": previous_db}.get(step.kind, lambda step: None)(step)
    if before is not None:
        found = fitted.coefficients([right, before], claim)
        if found is not None and claim.size > 2 and _counts(found[1] * before, claim):
            own = "" if abs(found[0] - 1.0) < 1e-6 else f"{found[0]:.6g} times it, and "
            digits = f"{found[1]:.6g}"
            words = f"{own}{digits} times the gradient of the previous batch is added"
            value = found[0] * right + found[1] * before
            yield "extra-term", words, digits, "the gradient of the previous batch is added", value
        if claim.size:
            words = "the gradient of the previous batch is added"
            yield "extra-term", words, "1", words, right + before


def _counts(part: Any, whole: Any) -> bool:
    """Whether a part that was solved for is more than rounding."""
    return bool(np.abs(part).max() > 1e-7 * np.abs(whole).max())


def _terms(step: Step) -> Iterator[tuple[str, Any]]:
    """(what it is called, the term) that may be added to a gradient."""
    if step.kind == "dW":
        yield "W{k}: weight decay", step.case.W[step.k]
        yield "sign(W{k}): weight decay by the absolute value", np.sign(step.case.W[step.k])
        if step.right.value.size > 2:
            yield "1: a constant", np.ones(step.right.value.shape)
    if step.kind == "db":
        yield "b{k}: weight decay", step.case.b[step.k]
        if step.right.value.size > 1:
            yield "1: a constant", np.ones(step.right.value.shape)
    if step.kind in ("da", "dz"):
        yield "a{k}: a penalty on the activations", step.a_k
        yield "sign(a{k}): a penalty on the activations by the absolute value", np.sign(step.a_k)
        yield "z{k}: a penalty on z", step.z_k


def _constant(step: Step, claim: Any) -> Iterator[Reading]:
    rest = claim - step.right.value
    if step.k == step.case.L and step.kind in ("da", "dz") and claim.size > 1:
        epsilon = float(rest.flat[0])
        words = f"an epsilon of {epsilon:.6g} is added"
        yield "loss-derivative", words, None, "an epsilon is added", step.right.value + epsilon


def _clipped(step: Step, claim: Any) -> Iterator[Reading]:
    right = step.right.value
    top, low, high = float(np.abs(claim).max()), float(claim.min()), float(claim.max())
    if (np.abs(right) > top).any() and (claim.size > 1 or is_round(top)):  # one number is clipped at itself
        rule = "its elements are clipped"
        yield "clipped", f"its elements are clipped at {top:.6g}", f"{top:.6g}", rule, np.clip(right, -top, top)
    if low == 0.0 and (right < 0).any():
        words = "negative elements are set to zero"
        yield "clipped", words, None, words, np.maximum(right, 0.0)
    if high == 0.0 and (right > 0).any():
        words = "positive elements are set to zero"
        yield "clipped", words, None, words, np.minimum(right, 0.0)
    if claim.size > 2 and ((right < low).any() or (right > high).any()):
        words = f"its elements are clipped to {low:.6g} and {high:.6g}"
        yield "clipped", words, None, "its elements are clipped", np.clip(right, low, high)


def _of_samples(step: Step, claim: Any) -> Iterator[Reading]:
    """Rows, the samples, that carry factors of their own."""
    if step.kind in ("dW", "db") or step.case.n < 2:
        return
    right = step.right.value
    with np.errstate(all="ignore"):
        c = (claim * right).sum(axis=1) / (right * right).sum(axis=1)
    c = np.where(np.isfinite(c), c, 1.0)
    value = c[:, None] * right
    odd = np.abs(c - 1.0) > 1e-6
    sizes = np.linalg.norm(claim, axis=1)
    top = float(sizes.max())
    if not odd.any() or ((np.abs(c[odd] - c[odd][0]) <= 1e-6 * np.abs(c[odd][0])).all() and odd.all()):
        return
    if step.kind == "a":
        rule = "the softmax is not divided by the sum of the exponentials"
        if step.name == "softmax":
            yield "forward", rule, None, rule, value
        return
    weighed = [float(np.rint(x)) if abs(x - np.rint(x)) < 1e-6 else float(x) for x in c]
    if set(weighed) <= {0.0, 1.0, 2.0, -1.0}:
        yield "batch-sum", *_told(weighed), value
    if (c[odd] < 1).all() and (np.abs(sizes[odd] - top) <= 1e-6 * top).all():
        words = f"the norm of each sample is clipped at {top:.6g}"
        yield "clipped", words, f"{top:.6g}", "the norm of each sample is clipped", value


def _told(weighed: Sequence[float]) -> tuple[str, None, str]:
    words, rule = fitted.in_words(weighed, "sample", "samples")
    return words, None, rule


def _dropped(step: Step, claim: Any) -> Iterator[Reading]:
    """Elements of a that are zero, the others scaled: dropout."""
    right = step.right.value
    if step.kind != "a" or claim.size < 4:
        return
    kept = claim != 0.0
    if not kept.any() or not (~kept & (right != 0.0)).any():
        return
    with np.errstate(all="ignore"):
        scale = float(np.median((claim / right)[kept & (right != 0.0)]))
    words = f"some elements are zero and the others {scale:.6g} times as large: dropout is left on"
    yield "forward", words, None, "dropout is left on", np.where(kept, scale * right, 0.0)


# --- a cause in words ---------------------------------------------------------------------------------------------


def cause_of(step: Step, hypothesis: Hypothesis, claim: Any, worst: tuple[int, ...]) -> Cause:
    """The Cause that tells a mistake at a step, in the layout of the claims."""
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
        message += letters(step.case, hypothesis.factor)
    return Cause(
        quantity, k, (k,), hypothesis.kind, message, hypothesis.factor, found or None, right, _fix(hypothesis),
        worst if layout == "row" else worst[::-1], float(claim[worst]), float(step.right.value[worst]),
        hypothesis.rule or hypothesis.words, "" if hypothesis.at == step.kind else hypothesis.at,
    )  # fmt: skip


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


def letters(given: Case, factor: str | None) -> str:
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
