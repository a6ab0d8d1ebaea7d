"""One formula on trial: the equation, the notation, and whether the loss has a say in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nn.audit.formulas.text import Style, text_of
from nn.audit.formulas.tree import Node
from nn.audit.formulas.trials import CONDITIONS, Case, is_right, misfit

Groups = tuple[tuple[Case, ...], ...]


@dataclass(frozen=True)
class Question:
    """Whether left = right on the networks of `groups`, which differ within a group in their shapes alone."""

    left: Node
    right: Node
    style: Style
    layout: str
    with_loss: bool
    groups: Groups
    claimed: str  # the equation as it came, in this notation
    mean_enters: bool = False  # whether dz may be that of the sum of the losses, and the 1/n of their mean enter here

    @property
    def softmax_only(self) -> bool:
        """Whether every f is a softmax."""
        return all(not case.facts & {"elementwise"} for group in self.groups for case in group)

    @property
    def of_output(self) -> bool:
        """Whether it is the gradient that the loss itself gives."""
        case = self.groups[0][0]
        return self.left.value == "da" and self.left.base != "k" and case.layer(self.left) == case.last

    def write(self, node: Node) -> str:
        """A part in the notation of the formula."""
        return text_of(node, self.style)

    def equation(self, right: Node) -> str:
        """left = right."""
        return f"{self.write(self.left)} = {self.write(right)}"

    def answers(self, right: Node | None = None) -> Iterator[tuple[Case, bool]]:
        """(case, whether the formula is right there) wherever that can be told."""
        for group in self.groups:
            for case in group:
                answer = is_right(self.left, self.right if right is None else right, case)
                if answer is not None:
                    yield case, answer

    def trouble(self) -> str:
        """What is wrong with the shapes, or ""."""
        return misfit(self.left, self.right, self.groups[0], self.write)

    def telling(self) -> list[str]:
        """The conditions that can matter to this formula."""
        about_loss = [name for name in CONDITIONS if "+" in name or name.startswith(("loss", "reduction"))]
        if not self.with_loss:
            return [name for name in CONDITIONS if name not in about_loss and name != "last"]
        if self.left.value == "da":
            about_f = [name for name in CONDITIONS if "+" in name or name.startswith("f =")]
            return [name for name in CONDITIONS if name not in about_f and name not in ("elementwise", "last")]
        return list(CONDITIONS)
