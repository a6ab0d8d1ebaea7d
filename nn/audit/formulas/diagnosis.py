"""What is wrong with a formula: the fewest changes that make it right up to a factor, each a mistake with a name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from nn.audit.formulas.conditions import Conditions
from nn.audit.formulas.edits import Edit, edits
from nn.audit.formulas.factor import factor_of
from nn.audit.formulas.mend import without_factor
from nn.audit.formulas.question import Question
from nn.audit.formulas.rules import right_side, softmax_rule
from nn.audit.formulas.tree import Node, says_nothing, walk
from nn.audit.formulas.trials import Case, is_right
from nn.audit.report import Cause

PATIENCE = 6000  # trials of changes: a formula that none of them mends is not explained


def diagnosed(question: Question) -> list[Cause] | None:
    """The causes by the fewest changes that make the formula right, up to a factor; None if there are none."""
    best: tuple[Any, ...] | None = None
    all_probes = list(_probes(question))
    tries = itertools.islice(
        ((chain, order) for chain in _chains(question) for order in range(len(all_probes))), PATIENCE
    )
    for chain, order in tries:
        count = len(chain)
        if best is not None and count > best[0][0]:
            break
        right = chain[-1].right if chain else question.right
        if chain and any(says_nothing(question.left, node) for node in walk(right)):
            continue  # da[k] = da[k] is true, and no formula
        factor = factor_of(question.left, right, all_probes[order])
        if factor is None:
            continue
        badness = (count + (factor != "1"), 0 if factor in ("1", "-1") else len(factor), order)
        if best is None or badness < best[0]:
            best = badness, chain, right, factor, all_probes[order]
        if badness[:2] <= (1, 0) and order == 0:
            break
    return None if best is None else _causes(question, *best[1:])


def _probes(question: Question) -> Iterator[list[Case]]:
    """Lists of cases that a mended formula must all get right; one list for each loss where the loss has a say."""
    one_sample = bool(question.left.units)
    for group in _alike(question):
        cases, answers = [], []
        for case in group:
            special = (case.n == 1 and not one_sample) or "ones" in case.facts
            if special or ("softmax" in case.net.activations and not (question.with_loss or question.softmax_only)):
                continue
            answer = is_right(question.left, question.right, case)
            if answer is not None:
                cases.append(case)
                answers.append(answer)
        if not all(answers):  # else there is nothing to mend for this loss
            yield cases


def _alike(question: Question) -> Iterator[tuple[Case, ...]]:
    """The groups that one mended formula must serve: of one loss where it has a say, whatever f where f has none."""

    def key(group: tuple[Case, ...]) -> Any:
        net = group[0].net
        about_f = () if question.of_output else tuple(net.activations)
        return (net.loss, net.reduction, *about_f) if question.with_loss else ()

    merged: dict[Any, tuple[Case, ...]] = {}
    for group in question.groups:
        merged[key(group)] = (*merged.get(key(group), ()), *group)
    yield from merged.values()


def _chains(question: Question) -> Iterator[tuple[Edit, ...]]:
    """Chains of no, one and two changes."""

    def of(right: Node) -> Iterator[Edit]:
        return edits(question.left, right, question.write, question.with_loss)

    firsts = list(of(question.right))
    yield ()
    yield from ((edit,) for edit in firsts)
    yield from ((first, second) for first in firsts for second in of(first.right))


def _causes(question: Question, chain: tuple[Edit, ...], right: Node, factor: str, probes: list[Case]) -> list[Cause]:
    left, net = question.left, probes[0].net
    if chain and factor == "1/n" and question.mean_enters:
        factor = "1"
    rule = expected_side(question, probes[0])
    mended = without_factor(right, factor, lambda other: factor_of(left, other, probes) == "1", rule)
    expected = question.equation(mended)
    trouble = question.trouble()
    causes: list[Cause] = []
    for edit in chain:
        message = f"{edit.message} ({trouble})" if trouble and not causes else edit.message
        causes.append(cause(question, edit.kind, message, expected=expected, fix=edit.fix))
    if factor != "1":
        what = f"{factor} times the {'right formula' if not chain else 'rest'}"
        if factor == "-1":
            what = "the sign is flipped: a step of descent would go up"
        if question.of_output:
            what += f" (for the loss {net.loss}, reduction {net.reduction})"
        fix = f"divide by {factor}" if factor != "-1" else "multiply by -1"
        causes.append(cause(question, "factor", what, factor=factor, expected=expected, fix=fix))
    return causes


def cause(question: Question, kind: str, message: str, **rest: Any) -> Cause:
    """A Cause about the quantity on the left."""
    left = question.left
    layer = left.shift if not left.base and left.value != "yhat" else None
    quantity = f"{left.value}{layer if layer is not None else ''}"
    return Cause(quantity, layer, () if layer is None else (layer,), kind, message, found=question.claimed, **rest)


def expected_side(question: Question, case: Case | None = None) -> Node:
    """The right formula as the tables have it."""
    if question.left.value == "dz" and question.softmax_only and not question.left.units:
        return softmax_rule(question.left)
    about = question.of_output
    case = (case or question.groups[0][0]) if about else None
    return right_side(question.left, question.layout, question.right, case)


def conditional(question: Question, conditions: Conditions, words: str) -> Cause:
    """The cause of a formula that is right under conditions alone."""
    kind, fix = "condition", None
    if any("elementwise" in names for names in conditions) and question.left.value == "dz":
        kind = "softmax-jacobian"
        fix = None if question.left.units else f"for softmax: {question.equation(softmax_rule(question.left))}"
    elif all("n = 1" in names for names in conditions):
        kind = "batch-sum"
        trouble = question.trouble()
        words += f" ({trouble})" if trouble else ""
        fix = "for a batch, sum over the samples; the formula above does"
    expected = question.equation(expected_side(question))
    return cause(question, kind, f"right only where {words}", expected=expected, fix=fix)


def unexplained(question: Question) -> Cause:
    """The cause of a formula that no change mends."""
    trouble = question.trouble()
    message = f"the shapes are wrong: {trouble}" if trouble else "the numbers are wrong, the shapes are right"
    kind = "shape" if trouble else "unexplained"
    mixes = any(node.kind in ("sum", "mean", "over", "matmul") for node in walk(question.right))
    if not trouble and question.left.value == "dz" and question.softmax_only and not mixes:
        kind, message = "softmax-jacobian", "a softmax mixes the units of a sample: it has no elementwise f'"
    return cause(question, kind, message, expected=question.equation(expected_side(question)))


def broken(question: Question, words: str) -> Cause:
    """The cause of a chain of derivatives that does not hold together."""
    expected = question.equation(expected_side(question))
    return cause(question, "operand", words, expected=expected)
