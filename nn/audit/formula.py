"""Is this backward formula right? Read by a small grammar, tried on random networks, diagnosed and corrected.

A formula is one equation for a quantity of layer k, as people write them: in NumPy's notation, in a textbook's, in
LaTeX. In nn.audit.formulas, `grammar` reads it into a `tree`, `trials` says what its parts amount to on networks whose
gradients are known, `conditions` where it is right, `diagnosis` what is wrong with it, and `text` writes the corrected
one in the notation in which it came.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nn.audit.formulas.chain import Broken, expanded
from nn.audit.formulas.conditions import ACCIDENTS, Conditions, conditions_of, in_words
from nn.audit.formulas.diagnosis import broken, conditional, diagnosed, unexplained
from nn.audit.formulas.grammar import Formula, read
from nn.audit.formulas.question import Question
from nn.audit.formulas.text import text_of
from nn.audit.formulas.tree import GRADIENTS, OUTPUT_GRADIENT, VALUES, Node, rebuilt, says_nothing, walk
from nn.audit.formulas.trials import CONDITIONS, DEEPEST, Setting, cases
from nn.audit.formulas.words import FormulaError
from nn.audit.report import HINTS, Report
from nn.by_hand import ACTIVATIONS, LAYOUTS, LOSSES, REDUCTIONS

__all__ = ["FormulaError", "FormulaReport", "add_command", "check_formula"]


# ---------------------------------------------------------------- the verdict
@dataclass(frozen=True)
class FormulaReport(Report):
    """A Report on one formula. answer: "right", "wrong" or "conditional"; ok is None for the last.

    context: the formula as it was read, the layout, the corrected formula, and the conditions under which it is right:
    a list of alternatives, each a list of conditions that must hold together.
    """

    @property
    def answer(self) -> str:
        """right, wrong or conditional."""
        return {True: "right", False: "wrong", None: "conditional"}[self.ok]

    def text(self, hint: str = "fix") -> str:
        """The report in words, headed by the answer; hint as in Report."""
        lines = super().text(hint).split("\n")
        if self.ok is None:
            lines[0] = f"right only under conditions: {self.context['condition']}"
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, with the answer."""
        return {**super().to_dict(), "answer": self.answer}


def check_formula(
    formula: str,
    *,
    layout: str = "column",
    loss: str | None = None,
    reduction: str | None = None,
    activation: str | None = None,
    seed: int = 0,
) -> FormulaReport:
    """FormulaReport: right, wrong with the diagnosis and the corrected formula, or right only under conditions.

    formula: an equation for dz, da, dW, db, z, a or yhat, in the notations that nn.audit.formulas.grammar reads: NumPy,
    "dW[k] = dz[k] @ a[k-1].T", a textbook's, "dL/dW_k = dL/dz_k a_{k-1}^T", LaTeX, of single units. Every name stands
    for the true quantity, the gradients of one loss. layout: "column" (the tutorial's text) or "row" (its code). loss,
    reduction: for formulas with y; None tries all. activation: the one f to judge by (at the last layer if the formula
    has y); None tries all. Tried on networks with distinct and equal widths and several batch sizes, of three layers or
    as many as the formula names. Raises FormulaError with the position where the formula cannot be read, ValueError
    for unknown options, for what is given with the network, and for formulas that say nothing.

    >>> print(check_formula("dW[k] = dz[k] @ a[k].T"))
    wrong: 1 cause
    dW: a[k] stands where a[k-1] belongs (the formula gives n_k x n_k, dW[k] is n_k x n_{k-1})
      claimed: dW[k] = dz[k] @ a[k].T
      right:   dW[k] = dz[k] @ a[k-1].T
      to do:   write a[k-1] for a[k]
    >>> check_formula("dz = da * f'(z)").context["condition"]
    'f acts elementwise (not softmax)'
    """
    for argument, name, table in (("layout", layout, LAYOUTS), ("loss", loss, LOSSES),
                                  ("reduction", reduction, REDUCTIONS),
                                  ("activation", activation, ACTIVATIONS)):  # fmt: skip
        if name is not None and name not in table:
            raise ValueError(f"{argument}: {name!r} is not known; known are {', '.join(table)}")
    claim = read(formula)
    axes = ("samples", "units") if layout == "row" else ("units", "samples")
    if claim.style.axis or claim.style.module:
        claim = replace(claim, style=replace(claim.style, axes=axes))
    _sensible(claim)
    reports = []
    for right in claim.rights:
        with np.errstate(all="ignore"):
            setting, with_loss = _setting(claim, right, layout, loss, reduction, activation, seed)
            right = _by_name(right, axes)
            mean_enters = claim.samples_mean and claim.left.value in ("dW", "db")
            claimed = f"{text_of(claim.left, claim.style)} = {text_of(right, claim.style)}"
            question = Question(claim.left, right, claim.style, layout, with_loss, cases(setting), claimed, mean_enters)
            try:
                question = replace(question, right=expanded(claim.left, right, layout, question.write))
            except Broken as broken_chain:
                cause = broken(question, str(broken_chain))
                context = {"formula": claimed, "layout": layout, "cases": 0, "conditions": []}
                reports.append(FormulaReport(False, (cause,), context={**context, "corrected": cause.expected}))
            else:
                reports.append(_judged(question, claim))
    return next((report for report in reports if not report.ok), reports[0])


def _sensible(claim: Formula) -> None:
    """ValueError for what is given, and for what says nothing."""
    left = claim.left
    if left.value not in (*GRADIENTS, "z", "a", "yhat") or (left.value, left.base, left.shift) == ("a", "", 0):
        raise ValueError(f"{text_of(left)} is given: formulas are for dz, da, dW, db, z, a and yhat")
    for node in (node for right in claim.rights for node in walk(right)):
        if says_nothing(left, node):
            written = (text_of(left, claim.style), text_of(node, claim.style))
            raise ValueError(f"{written[0]} stands on both sides ({written[1]}): this says nothing about it")


def _setting(
    claim: Formula, right: Node, layout: str, loss: str | None, reduction: str | None, activation: str | None, seed: int
) -> tuple[Setting, bool]:
    """(what the networks are, whether the loss has a say)."""
    left, nodes = claim.left, list(walk(right))
    names = [node for node in (left, *nodes) if node.kind == "name" and node.value in GRADIENTS + VALUES]
    numbered = [node.shift for node in names if not node.base]
    if left.value == "da" and not left.base and OUTPUT_GRADIENT in (replace(node, units="") for node in nodes):
        numbered.append(left.shift + 1)  # else it would be the same
    to_output = any(node.value in ("y", "yhat") or node.base == "L" for node in (left, *nodes))
    with_loss = (left.value, left.base, left.shift) == ("da", "L", 0) or any(node.value == "y" for node in nodes)
    depth = max([*numbered, 1]) if to_output and numbered else max([*numbered, 3])
    if loss == "mse":
        loss, reduction = "sse", "mean_elements"
    losses = (loss,) if loss else ("sse", "half_sse", "bce", "ce")
    if activation == "softmax" and loss is None and with_loss:
        losses = ("ce",)
    reductions = (reduction,) if reduction else tuple(REDUCTIONS)
    layer = depth if left.value == "yhat" else {"k": 0, "L": depth, "": max(left.shift, 1)}[left.base]
    layer += left.shift if left.base == "L" and left.value != "yhat" else 0
    if not 0 <= layer <= depth <= DEEPEST:
        raise ValueError(f"{text_of(left)} is outside of the networks of {DEEPEST} layers at most that formulas are "
                         "tried on")  # fmt: skip
    hidden = with_loss and any(node.kind in ("call", "greater", "less", "where", "pow") for node in nodes)
    primes = [(node.base, node.shift) for node in nodes if node.kind == "f'"] or [(left.base, left.shift)]
    base, shift = primes[0]
    f_above = {"k": shift, "L": depth - layer if layer else 0, "": shift - layer}[base]
    setting = Setting(
        layout, losses, reductions, with_loss, last=activation or "", layer=layer, depth=depth,
        one_sample=claim.indexed, hidden=hidden, letter=claim.style.letter if left.base == "k" else left.base,
        f_above=f_above, seed=seed,
    )  # fmt: skip
    return setting, with_loss


def _by_name(tree: Node, axes: tuple[str, str]) -> Node:
    """The same with samples and units for the numbers of axes."""

    def change(node: Node) -> Node:
        numbered = node.kind in ("sum", "mean") and str(node.value).startswith("axis=")
        return replace(node, value=axes[int(node.value[-1])]) if numbered else node

    return rebuilt(tree, change)


def _judged(question: Question, claim: Formula) -> FormulaReport:
    tried = list(question.answers())
    if not tried:
        raise ValueError(f"{claim.text!r} points outside of the network at every layer k")
    context: dict[str, Any] = {
        "formula": question.claimed, "layout": question.layout,
        "cases": len(tried), "conditions": [],
    }  # fmt: skip
    if all(answer for _, answer in tried):
        return FormulaReport(True, context=context)
    conditions = conditions_of(tried, question.telling()) if any(answer for _, answer in tried) else []
    words = in_words(conditions)
    by_choice = all(name.startswith(("loss", "reduction")) for names in conditions for name in names)
    if conditions and by_choice and question.with_loss:
        context.update(conditions=_listed(conditions), condition=words)
        return FormulaReport(True, notes=(f"right where {words}",), context=context)

    accident = _accident(question, conditions)
    one_sample = bool(conditions) and not accident and all("n = 1" in names for names in conditions)
    found = diagnosed(question) if not conditions or accident or one_sample else None
    if one_sample and found and not found[0].factor:
        found = None  # a formula for one sample, not a wrong scale
    if found is None and (not conditions or accident):
        found = [unexplained(question)]
    if found is None:
        cause = conditional(question, conditions, words)
        context.update(conditions=_listed(conditions), condition=words, corrected=cause.expected)
        return FormulaReport(None, (cause,), context=context)
    context["corrected"] = found[0].expected
    notes = [f"it happens to be right where {words}"] if words else []
    if found[0].factor == "1/n" and len(found) == 1 and question.left.value in ("dW", "db"):
        if question.mean_enters:
            words = f"{question.write(replace(question.left, value='dz'))} is the gradient of the sum of the losses"
            context.update(conditions=[[words]], condition=words)
            message = f"right only where {words}, and the 1/n of their mean enters here, in dW and db alike"
            cause = replace(found[0], kind="condition", factor=None, message=message, fix=None)
            return FormulaReport(None, (cause,), context=context)
        notes.append("for a mean over the samples 1/n may enter here, if it does in dW and db alike and nowhere "
                     "before; with dz = dL/dz it is already there")  # fmt: skip
    return FormulaReport(False, tuple(found), notes=tuple(notes), context=context)


def _listed(conditions: Conditions) -> list[list[str]]:
    return [[CONDITIONS[name] for name in names] for names in conditions]


def _accident(question: Question, conditions: Conditions) -> bool:
    """Whether the formula merely happens to be right somewhere: with relu it does, unless it is written for relu."""
    meant = any(node.kind in ("greater", "less", "where", "call", "maximum") for node in walk(question.right))
    accidents = [name for name in ACCIDENTS if not (meant and "relu" in name)]
    return all(any(name in accidents for name in names) for names in conditions)


# ---------------------------------------------------------------- the command
def add_command(subparsers: Any) -> argparse.ArgumentParser:
    """The subcommand `formula`, added to what `add_subparsers()` gave; its `run(arguments)` returns the exit code.

    Exit codes: 0 right, 1 wrong, 2 the formula cannot be read, 3 right only under conditions.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "formula",
        help="check one backward formula",
        description="Is this formula right? If not, what is wrong with it?",
    )
    parser.add_argument("formula", help='such as "dW[k] = dz[k] @ a[k-1].T" or "dL/dW_k = dL/dz_k a_{k-1}^T"')
    parser.add_argument(
        "--layout", choices=tuple(LAYOUTS), default="column", help="samples in columns (default) or rows"
    )
    parser.add_argument("--loss", choices=tuple(LOSSES), help="for formulas with y; otherwise all are tried")
    parser.add_argument("--reduction", choices=tuple(REDUCTIONS), help="of the loss over the batch")
    parser.add_argument("--activation", choices=tuple(ACTIVATIONS), help="the one f to judge by")
    parser.add_argument("--hint", choices=HINTS, default="fix", help="how much to give away")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        report = check_formula(arguments.formula, layout=arguments.layout, loss=arguments.loss,
                               reduction=arguments.reduction, activation=arguments.activation)  # fmt: skip
    except ValueError as error:
        print(json.dumps({"error": str(error)}) if arguments.json else f"error: {error}")
        return 2
    print(json.dumps(report.to_dict()) if arguments.json else report.text(arguments.hint))
    return {True: 0, False: 1, None: 3}[report.ok]
