"""The region of one claim: the edges between it and the claims before it, and what each adds to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autodiff import Tensor
from autodiff.sweeps import Patch
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.pullbacks import to_operand
from nn.audit.adjoints.recorded import is_elementwise
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
        self._locals: dict[tuple[Any, int], Any] = {}

    def own_edges(self) -> list[Edge]:
        """The edges that start at the claim."""
        return [(child, i, x) for x in self.nodes for child, i in self.sweep.children[x]]

    def further_edges(self) -> list[Edge]:
        """The edges above the claim, up to the claims, that do not start at it."""
        between = [x for x in reversed(self.inside) if x not in self.members]
        return [(child, i, x) for x in between for child, i in self.sweep.children[x]]

    def through(self, child: Any, i: int) -> Any:
        """What the edge from the child's operand i adds to the adjoint of the claim."""
        return self.down({child.operands[i]: self.sweep.contribution(child, i)})

    def down(self, deltas: Mapping[Any, Any]) -> Any:
        """What changes of the adjoints of some nodes make of that of the claim: a sweep that ends at claims."""
        moving, total = dict(deltas), {}
        for x in self.inside:
            change = moving.pop(x, None)
            if change is None:
                continue
            if x in self.members:
                total[x] = change
            elif x not in self.sweep.stands and x.op is not None:
                if type(x) is Tensor:
                    change = np.asarray(change, x.dtype)
                for parent, part in x.pull(change, self.inside):
                    part = part.added_to(None, True) if isinstance(part, Patch) else part
                    if parent in self.inside:
                        moving[parent] = moving[parent] + part if parent in moving else part
        return self.target.stacked([total.get(x, np.zeros(np.shape(x.data))) for x in self.nodes])

    def swept(self, rule: Callable[[Any, int, Adjoint], Any], op: Any, position: int) -> Any:
        """The claim by a sweep with another rule(child, i, g) at one operand of one operation, wherever it stands.

        None where the rule gives nothing, or nothing of the right shape.
        """
        adjoints: dict[Any, Any] = {}
        for x in self.inside:
            is_output = x is self.sweep.output
            total = self.sweep.expected[x].value if is_output else np.zeros(np.shape(x.data))
            for child, i in self.sweep.children[x]:
                g = self.sweep.used[child]
                if child in adjoints and child not in self.members:
                    g = Adjoint(adjoints[child], g.bound, g.size)
                if child.op is op and i == position:
                    part = rule(child, i, g)
                    if part is None or np.shape(part) != total.shape:
                        return None
                else:
                    part = self._contribution(child, i, g)
                total = total + part
            adjoints[x] = total
        return self.target.stacked([adjoints[x] for x in self.nodes])

    def _contribution(self, child: Any, i: int, g: Adjoint) -> Any:
        """The contribution without its bound; local derivatives of elementwise operations are kept."""
        if not is_elementwise(child):
            return self.sweep.contribution(child, i, g)
        local = self._locals.get((child, i))
        if local is None:
            local = self._locals[child, i] = self.sweep.recorded.local(child, i)
        return to_operand(g.value * local, np.shape(child.operands[i].data))
