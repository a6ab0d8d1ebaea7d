"""A mistake as a change of the sweep: what some edges add, or some adjoints are, in the place of the right ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rule = Callable[
    [Any, Any], Any
]  # (the child's adjoint, what is right to add) -> what is added; None: it does not apply
Total = Callable[[Any], Any]  # the right adjoint -> the one that is worked out
Place = tuple[Any, int]  # (child, which operand of it): an edge


@dataclass(eq=False)
class Mistake:
    """One mistake, and what it makes of the sweep.

    words: what is wrong; where: at which nodes. edges: {(child, i): what is added to operand i}. totals: {node: its
    adjoint, from the right one}. value: the claim, where nothing else is changed. rule: the words without a place, at:
    the operation; the same rule at the same operation is one mistake. adds: where that is known
    before any sweep, [(node, what is added to its adjoint), ...]. found, belongs: what stands in a place, what should.
    """

    kind: str
    words: str
    where: str = ""
    factor: str | None = None
    edges: Mapping[Place, Rule] = field(default_factory=dict)
    totals: Mapping[Any, Total] = field(default_factory=dict)
    value: Any = None
    rule: str = ""
    at: Any = None
    adds: Sequence[tuple[Any, Any]] = ()
    found: str | None = None
    belongs: str | None = None

    @property
    def family(self) -> tuple[Any, ...]:
        """What mistakes have in common that are one wrong rule, made in several places."""
        if self.kind == "unexplained":
            return self.kind, id(self)  # unknown ones are not known to be the same
        at: Any = self.at
        for child, i in self.edges:
            at = child.op, i
        for node in self.totals:
            at = node.op
        return self.kind, self._what, at

    @property
    def message(self) -> str:
        """What is wrong, and where."""
        return self.words + self.where

    def is_like(self, other: Mistake) -> bool:
        """Whether it is the same in another place."""
        return (self.kind, self._what) == (other.kind, other._what)

    @property
    def _what(self) -> str:
        return self.factor or self.rule or self.words

    @property
    def changed(self) -> set[Any]:
        """The nodes whose adjoints it spoils."""
        return {*self.totals, *(child.operands[i] for child, i in self.edges)}

    @property
    def has_a_name(self) -> bool:
        """Whether it is made in the adjoint of a node that has a name."""
        return any(node.name for node in self.changed)
