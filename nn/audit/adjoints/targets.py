"""What a claim is about: the node of that name, or the elements of an array of Values, in the claim's own shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import Tensor
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.shapes import fits

ELEMENT = re.compile(r"(.+)\[(\d+(?:,\d+)*)\]")
Index = tuple[int, ...]


@dataclass
class Target:
    """One claim and the nodes it is about."""

    name: str
    members: list[tuple[Index, Any]]  # (index into the claim, node); one with () for a node that is whole
    shape: tuple[int, ...]
    given: Any  # what came
    claim: Any = None  # in the shape of the target; None where it does not fit

    @property
    def nodes(self) -> list[Any]:
        """The nodes alone."""
        return [node for _, node in self.members]

    @property
    def whole(self) -> bool:
        """Whether it is about one node."""
        return len(self.members) == 1

    @property
    def carried(self) -> Any:
        """A claim of the wrong shape as the steps below take it: as it is where NumPy can, else turned, else nan."""
        try:
            np.broadcast_shapes(np.shape(self.given), self.shape)
        except ValueError:
            turned = np.shape(self.given)[::-1] == self.shape
            return self.given.T if turned else np.full(self.shape, np.nan)
        return self.given if np.ndim(self.given) <= len(self.shape) else np.full(self.shape, np.nan)

    def stacked(self, parts: Sequence[Any]) -> Any:
        """The array of what the members have."""
        if self.whole and self.members[0][0] == ():
            return np.asarray(parts[0])
        array = np.zeros(self.shape)
        for (index, _), part in zip(self.members, parts, strict=True):
            array[index] = part
        return array

    def adjoint(self, among: Mapping[Any, Adjoint]) -> Adjoint:
        """The adjoints of the members, as one."""
        found = [among[node] for node in self.nodes]
        return Adjoint(*(self.stacked([getattr(x, key) for x in found]) for key in ("value", "bound", "size")))


def targets(nodes: Sequence[Any], claims: Mapping[str, Any]) -> tuple[list[Target], list[str]]:
    """The Targets of the claims, and notes on shapes; KeyError for a name that no node or more than one has."""
    named: dict[str, list[Any]] = {}
    elements: dict[str, dict[Index, Any]] = {}
    for node in nodes:
        if node.name:
            named.setdefault(node.name, []).append(node)
            match = ELEMENT.fullmatch(node.name)
            if match and node.size == 1 and type(node) is not Tensor:
                index = tuple(map(int, match.group(2).split(",")))
                elements.setdefault(match.group(1), {})[index] = node
    found, notes = [], []
    for name, claim in claims.items():
        holders = named.get(name, [])
        if len(holders) == 1:
            target = Target(name, [((), holders[0])], np.shape(holders[0].data), claim)
        elif not holders and name in elements:
            members = sorted(elements[name].items(), key=lambda member: member[0])
            target = Target(name, members, _extent([index for index, _ in members], claim.shape), claim)
        else:
            names = ", ".join(sorted({*named, *elements})) or "none; give nodes a name with node.name = '...'"
            raise KeyError(f"{len(holders)} nodes of the graph are named {name!r}; names in it: {names}")
        if fits(claim.shape, target.shape):
            target.claim = claim.reshape(target.shape)
            if claim.shape != target.shape:
                notes.append(f"{name}: claimed with the shape {claim.shape}; its node has {target.shape}")
        found.append(target)
    return found, notes


def _extent(indices: Sequence[Index], given: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an array of Values, as far as its elements are in the graph, or as the claim has it."""
    lengths = tuple(max(axis) + 1 for axis in zip(*indices, strict=True))
    if len(given) == len(lengths) and all(a >= b for a, b in zip(given, lengths, strict=True)):
        return given  # elements that nothing was made from are not in the graph
    return lengths
