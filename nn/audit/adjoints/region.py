"""The region of one claim: the edges between it and the claims before it, and what a mistake there makes of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from typing import Any

import numpy as np

from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import Target

Edge = tuple[Any, int, Any]  # (child, which operand of it, parent)


class Region:
    """The nodes between a claim and the claims before it, children first, and the claim's own."""

    def __init__(self, sweep: Sweep, target: Target) -> None:
        self.sweep, self.target, self.nodes = sweep, target, target.nodes
        self.members = dict.fromkeys(self.nodes)
        found, pending = dict(self.members), list(self.nodes)
        for x in pending:
            for child, _ in sweep.children[x]:
                if child not in found and child not in sweep.stands:
                    found[child] = None
                    pending.append(child)
        self.inside = {node: None for node in sweep.nodes if node in found}
        self.cleared: Collection[Any] = ()

    def under(self, sweep: Sweep, cleared: Collection[Any] = ()) -> Region:
        """This region in a sweep with mistakes; cleared: the nodes whose adjoints another claim shows to be right."""
        other = copy(self)
        other.sweep, other.cleared = sweep, cleared
        return other

    @property
    def right(self) -> Any:
        """What is expected of the claim."""
        return self.target.adjoint(self.sweep.expected).value

    def between(self) -> list[Any]:
        """The nodes that are not claimed and may be wrong, the nearest to the claim first."""
        return [x for x in reversed(self.inside) if x not in self.members and x not in self.cleared]

    def own_edges(self) -> list[Edge]:
        """The edges that start at the claim."""
        return self._edges(self.nodes)

    def further_edges(self) -> list[Edge]:
        """The edges above the claim, up to the claims, that do not start at it."""
        return self._edges(self.between())

    def _edges(self, nodes: Sequence[Any]) -> list[Edge]:
        """Those that start at nodes, from children with an adjoint in their own shape."""
        sweep = self.sweep
        return [
            (child, i, x)
            for x in nodes
            for child, i in sweep.children[x]
            if np.shape(sweep.used[child].value) == np.shape(child.data)
        ]

    def before(self) -> set[Any]:
        """The claim's nodes and all that they were made from, whose adjoints follow from the claim."""
        found, pending = set(self.nodes), list(self.nodes)
        for x in pending:
            for parent in x.operands if x.op is not None else ():
                if type(parent) is type(x) and parent not in found:
                    found.add(parent)
                    pending.append(parent)
        return found

    def in_series(self, edges: Sequence[Edge]) -> bool:
        """Whether one of the edges lies above another, so that a mistake at one changes what the other is given."""
        below, pending = set[Any](), [x for _, _, x in edges]
        for x in pending:
            for parent in x.operands if x.op is not None and x not in self.sweep.stands else ():
                if type(parent) is type(x) and parent in self.inside and parent not in below:
                    below.add(parent)
                    pending.append(parent)
        starts = {x for _, _, x in edges}
        return any(child in below or child in starts for child, _, _ in edges)

    def after(self, mistake: Mistake) -> Any:
        """The claim by a sweep with the mistake; None where it does not apply."""
        moving: dict[Any, Any] = {}
        starts = dict.fromkeys(child for child, _ in mistake.edges)
        for child in starts:
            if child not in self.inside and not self._pass(child, None, mistake, moving):
                return None
        for x in self.inside:
            if x in mistake.totals:
                right = self.sweep.expected[x].value
                total = mistake.totals[x](right + moving.get(x, 0.0))
                if total is None or np.shape(total) != np.shape(right):
                    return None
                moving[x] = total - right
            passes = x not in self.members and (x in moving or x in starts)
            if passes and not self._pass(x, moving.get(x), mistake, moving):
                return None
        parts = [self.sweep.expected[x].value + moving.get(x, 0.0) for x in self.nodes]
        return self.target.stacked(parts)

    def _pass(self, child: Any, delta: Any, mistake: Mistake, moving: dict[Any, Any]) -> bool:
        """Add what a child hands on to what moves; whether that can be done."""
        changes = self.sweep.change(child, delta, mistake.edges)
        for i, part in (changes or {}).items():
            parent = child.operands[i]
            if parent in self.inside:
                moving[parent] = moving[parent] + part if parent in moving else part
        return changes is not None
