"""What the doctor says: a Report of Causes, the mistakes behind wrong gradients, each named once where it is made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

HINTS = ("where", "what", "fix")  # how much a printed report gives away, in this order


@dataclass(frozen=True)
class Cause:
    """One mistake.

    quantity: the quantity that first goes wrong, "dz3", or "db" where one wrong rule stands in several layers; layer
    is its number, None then; layers lists all. kind: "factor", "operand", ...; factor: "2", "-1", "1/n", ... where it
    has one. found, expected: the formulas, as claimed and as right. message: the mistake in words; fix: what to do.
    index, claimed, right: the worst element, and what stands and should stand there.
    """

    quantity: str
    layer: int | None
    layers: tuple[int, ...]
    kind: str
    message: str
    factor: str | None = None
    found: str | None = None
    expected: str | None = None
    fix: str | None = None
    index: tuple[int, ...] | None = None
    claimed: float | None = None
    right: float | None = None
    rule: str = ""  # which mistake it is, in words without numbers: one rule in several layers is one cause
    origin: str = ""  # "da" where the mistake is made in a da_k that is not claimed, and shows at dz_k first

    @property
    def family(self) -> tuple[str, ...]:
        """What causes have in common that are one wrong rule."""
        same = self.factor or "" if self.kind == "factor" else self.rule
        return self.origin or self.quantity.rstrip("0123456789"), self.kind, same

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data."""
        return {
            "quantity": self.quantity,
            "layer": self.layer,
            "layers": list(self.layers),
            "kind": self.kind,
            "factor": self.factor,
            "found": self.found,
            "expected": self.expected,
            "message": self.message,
            "fix": self.fix,
            "index": None if self.index is None else list(self.index),
            "claimed": self.claimed,
            "right": self.right,
        }

    def place(self) -> str:
        """The quantity, and the layers where it is wrong in several."""
        if self.layer is not None or len(self.layers) < 2:
            return self.quantity
        return f"{self.quantity} in layers {', '.join(map(str, self.layers))}"

    def details(self, hint: str = "fix") -> list[tuple[str, str]]:
        """[(what, said), ...]: the worst element, the formulas and the mend, as much as the hint level allows."""
        found = []
        if self.index is not None and self.claimed is not None and self.right is not None:
            at = ", ".join(map(str, self.index))
            first = (min if self.quantity in ("z", "a") else max)(self.layers, default=0)
            of = "" if self.place() == self.quantity else f"{self.quantity}{first}"
            # + 0.0: no number reads -0
            numbers = f"claimed {self.claimed + 0.0:.6g}, right {self.right + 0.0:.6g}"
            found.append((f"worst at {of}[{at}]", numbers))
        if hint == "fix":
            said = (("claimed", self.found), ("right", self.expected), ("to do", self.fix))
            found += [(what, text) for what, text in said if text]
        return found

    def text(self, hint: str = "fix") -> str:
        """The cause in words, as much of it as the hint level allows."""
        if hint == "where":
            return f"{self.place()}: the first step that is wrong given what came before it"
        details = self.details(hint)
        width = max((len(what) + 1 for what, _ in details if not what.startswith("worst")), default=0)
        lines = [f"{what}:".ljust(width) + f" {said}" for what, said in details]
        return "\n".join([f"{self.place()}: {self.message}", *(f"  {line}" for line in lines)])


@dataclass(frozen=True)
class Report:
    """The verdict on the parameters' gradients, the causes in the order of the backward pass, and what follows.

    ok: True, False, or None where the data do not tell. causes: each mistake once. inherited: claims that differ from
    the true gradient only because of a cause before them. right: claims whose own step is right. notes: what is odd
    and harmless, or cannot be told.
    """

    ok: bool | None
    causes: tuple[Cause, ...] = ()
    inherited: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)  # network, convention, ...: for machines

    @property
    def verdict(self) -> str:
        """right, wrong or undecidable."""
        return {True: "right", False: "wrong", None: "undecidable"}[self.ok]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "causes": [cause.to_dict() for cause in self.causes],
            "inherited": list(self.inherited),
            "right": list(self.right),
            "notes": list(self.notes),
            "context": self.context,
        }

    def text(self, hint: str = "fix") -> str:
        """The report in words; hint: "where", "what" or "fix", the last giving all away. ValueError for another."""
        if hint not in HINTS:
            raise ValueError(f"hint is one of {', '.join(HINTS)}, got {hint!r}")
        return "\n".join([self._title(), *(cause.text(hint) for cause in self.causes), *self._rest()])

    def __str__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        lines = [f"**{self._title()}**", ""]
        for cause in self.causes:
            lines += [f"- **{cause.place()}**: {_unmarked(cause.message)}"]
            lines += [f"    - {what}: `{said}`" for what, said in cause.details()]
        lines += ["", *(f"- {_unmarked(line)}" for line in self._rest())]
        return "\n".join(lines).rstrip() + "\n"

    def _repr_html_(self) -> str:
        rows = []
        for cause in self.causes:
            details = "".join(
                f"<tr><td {CELL};opacity:.75'>{escape(what)}</td><td {CELL}'><code>{escape(said)}</code></td></tr>"
                for what, said in cause.details()
            )
            rows.append(
                f"<li style='margin:.4em 0'><b>{escape(cause.place())}</b>: {escape(cause.message)}"
                f"<table style='border-collapse:collapse;margin:.2em 0'>{details}</table></li>"
            )
        rest = "".join(f"<div style='opacity:.85'>{escape(line)}</div>" for line in self._rest())
        colour = {True: "#1a7f37", False: "#c2410c", None: "#8a6d00"}[self.ok]
        return (
            f"<div style='border-left:4px solid {colour};padding:.2em 1em'><div><b>{escape(self._title())}</b></div>"
            + (f"<ol style='margin:.2em 0 .4em;padding-left:1.6em'>{''.join(rows)}</ol>" if rows else "")
            + f"{rest}</div>"
        )

    def _title(self) -> str:
        count = len(self.causes)
        return f"{self.verdict}: {count} cause{'s' if count != 1 else ''}" if count else self.verdict

    def _rest(self) -> list[str]:
        """What is said after the causes, a line each."""
        lines = []
        if self.inherited:
            lines.append(f"inherits: {', '.join(sorted(self.inherited, key=_order))}")
        if self.right and self.causes:
            lines.append(f"right, given what came before: {', '.join(sorted(self.right, key=_order))}")
        return [*lines, *(f"note: {note}" for note in self.notes)]


def _order(name: str) -> tuple[int, str]:
    """By layer from the last, then by name."""
    number = re.search(r"\d+$", name)
    return (-int(number.group()) if number else 0, name)


def merged(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """The causes with one wrong rule in several layers as one cause, told with k for the layer."""
    families: dict[tuple[str, ...], list[Cause]] = {}
    for cause in causes:
        families.setdefault(cause.family, []).append(cause)
    found = []
    for (family, *_), members in families.items():
        first = members[0]
        if len(members) == 1:
            found.append(first)
            continue
        layers = tuple(sorted(layer for cause in members for layer in cause.layers))
        shown = {cause.quantity.rstrip("0123456789") for cause in members}
        family = shown.pop() if len(shown) == 1 else family
        found.append(replace(first, quantity=family, layer=None, layers=layers, **_texts_in_k(members)))
    return tuple(found)


def _texts_in_k(members: Sequence[Cause]) -> dict[str, Any]:
    """The texts of causes that are one rule, with k for the layer; layer by layer where they say different things."""
    texts: dict[str, Any] = {}
    for name in TEXTS:
        said = {cause.layer: _in_k(getattr(cause, name), cause.layer) for cause in members}
        same = len(set(said.values())) == 1
        told = "; ".join(f"{text} (layer {k})" for k, text in said.items() if text)
        texts[name] = next(iter(said.values())) if same else told or None
    return texts


CELL = "style='padding:0 .8em 0 0;text-align:left;vertical-align:top"


def _unmarked(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


TEXTS = ("message", "found", "expected", "fix")


def _in_k(text: str | None, layer: int | None) -> str | None:
    """dz_k for dz3 where the layer is 3, and a_{k-1} for a2."""
    if text is None or layer is None:
        return text

    def named(match: re.Match[str]) -> str:
        shift = int(match[2]) - layer
        return f"{match[1]}_k" if not shift else f"{match[1]}_{{k{shift:+d}}}"

    return re.sub(r"\b(dz|da|dW|db|z|a|W|b)(\d+)\b", named, text)
