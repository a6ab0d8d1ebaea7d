"""The reverse sweep with claims in it: each takes the place of the adjoint that the sweep worked out for its node.

So a mistake shows at the node where it is made, and what follows from it only inherits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import Graph
from nn.audit.adjoints.adjoint import Adjoint, exactly, zero
from nn.audit.adjoints.pullbacks import pulled
from nn.audit.adjoints.recorded import Recorded, is_edge


class Sweep:
    """A graph swept twice, without and with its claims.

    nodes: all below the output, children first. stands: {node: the claim that takes the place of its adjoint}.
    children: {node: [(child, which operand of it), ...]}. truth: {node: its adjoint}. expected: {node: its adjoint,
    given the claims before it}. used: {node: the adjoint that is handed on, which is the claim where there is one}.
    """

    def __init__(self, output: Any, nodes: Sequence[Any], recorded: Recorded, stands: Mapping[Any, Any]) -> None:
        self.output, self.nodes, self.recorded, self.stands = output, nodes, recorded, stands
        self.children: dict[Any, list[tuple[Any, int]]] = {node: [] for node in nodes}
        for node in nodes:
            for i, x in enumerate(node.operands if node.op is not None else ()):
                if is_edge(x, node):
                    self.children[x].append((node, i))
        self.truth, _ = self._swept({})
        self.expected, self.used = self._swept(stands)
        self._graph: Graph | None = None

    def _swept(self, stands: Mapping[Any, Any]) -> tuple[dict[Any, Adjoint], dict[Any, Adjoint]]:
        """({node: its adjoint given those of its children}, {node: the adjoint that is handed on})."""
        eps = self.recorded.eps
        expected: dict[Any, Adjoint] = {}
        used: dict[Any, Adjoint] = {}
        ones = np.ones(np.shape(self.output.data))
        expected[self.output] = Adjoint(ones, 0.0 * ones, ones)
        for node in self.nodes:
            known = expected.setdefault(node, zero(np.shape(node.data)))
            claim = stands.get(node)
            used[node] = known if claim is None else exactly(claim, eps)
            if node.op is None:
                continue
            for _, parent, part in pulled(self.recorded, node, used[node]):
                part.bound = part.bound + len(self.children[parent]) * eps * part.size
                before = expected.get(parent)
                expected[parent] = part if before is None else before.plus(part)
        return expected, used

    def contribution(self, child: Any, i: int, g: Adjoint | None = None) -> Any:
        """What the edge from the child's operand i adds to the adjoint of that operand."""
        parts = pulled(self.recorded, child, g or self.used[child])
        [found] = [part.value for j, _, part in parts if j == i]
        return found

    def called(self, node: Any) -> str:
        """A node by its name, or by its formula and the named node that it leads to."""
        if node.name:
            return f"'{node.name}'"
        if self._graph is None:
            self._graph = Graph(self.output)
        label, after = self._graph.label(node), node
        while not after.name and self.children[after]:
            after = self.children[after][0][0]
        is_number = re.fullmatch(r"(v|node)\d+", label)
        label = f"the {node.op.name}" if is_number and node.op is not None else f"'{label}'"
        if after is self.output and not after.name:
            return f"{label} on the way to the output"
        return f"{label} on the way to '{after.name}'"
