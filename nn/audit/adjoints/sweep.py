"""The reverse sweep with claims in it: each takes the place of the adjoint that the sweep worked out for its node.

So a mistake shows at the node where it is made, and what follows from it only inherits. A mistake that is made where
nothing is claimed becomes a change of the sweep, which goes on with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from autodiff import Graph
from nn.audit.adjoints.adjoint import Adjoint, exactly, loosely, zero
from nn.audit.adjoints.mistake import Mistake, Place, Rule, Total
from nn.audit.adjoints.pullbacks import in_shape, passed, pulled
from nn.audit.adjoints.recorded import Recorded, is_edge


class Sweep:
    """A graph swept with its claims and with the mistakes supposed so far.

    nodes: all below the output, children first. stands: {node: the claim that takes the place of its adjoint}.
    children: {node: [(child, which operand of it), ...]}. expected: {node: its adjoint, given the claims and mistakes
    before it}. used: {node: the adjoint that is handed on, which is the claim where there is one}. edges, totals: the
    changes that the mistakes are. An adjoint in another shape than its node's, as of a sum that was left out, is
    carried on in that shape as far as the operations take it.
    """

    def __init__(self, output: Any, nodes: Sequence[Any], recorded: Recorded, stands: Mapping[Any, Any]) -> None:
        self.output, self.nodes, self.recorded, self.stands = output, nodes, recorded, stands
        self.children: dict[Any, list[tuple[Any, int]]] = {node: [] for node in nodes}
        for node in nodes:
            for i, x in enumerate(node.operands if node.op is not None else ()):
                if is_edge(x, node):
                    self.children[x].append((node, i))
        self.edges: dict[Place, Rule] = {}
        self.totals: dict[Any, Total] = {}
        self._labels: list[Graph] = []
        self._names: dict[Any, str] = {}
        self._run(None, set(nodes))

    def with_(self, mistake: Mistake) -> Sweep:
        """This sweep with one more mistake in it; what lies above the mistake is not worked out again."""
        if not mistake.edges and not mistake.totals:
            return self
        other = copy(self)
        other.edges, other.totals = {**self.edges, **mistake.edges}, {**self.totals, **mistake.totals}
        other._run(self, {*mistake.totals, *(child.operands[i] for child, i in mistake.edges)})
        return other

    def _run(self, before: Sweep | None, changed: set[Any]) -> None:
        """The adjoints, those that do not follow from the changed ones taken from the sweep before."""
        self.expected: dict[Any, Adjoint] = {}
        self.used: dict[Any, Adjoint] = {}
        self._parts: dict[Any, dict[int, Adjoint]] = {}
        moved = set()
        redone = {child for child, i in self.edges if child.operands[i] in changed}
        for node in self.nodes:
            afresh = before is None or node in changed or any(child in moved for child, _ in self.children[node])
            if before is not None and not afresh:
                self.expected[node], self.used[node] = before.expected[node], before.used[node]
            else:
                self.expected[node] = self._adjoint(node)
                claim = self.stands.get(node)
                self.used[node] = self.expected[node] if claim is None else exactly(claim, self.recorded.eps)
                if claim is None:
                    moved.add(node)
            if before is not None and node not in moved and node not in redone and node in before._parts:
                self._parts[node] = before._parts[node]

    def _adjoint(self, node: Any) -> Adjoint:
        """The sum over the children."""
        total = zero(np.shape(node.data))
        if node is self.output:
            ones = np.ones(np.shape(node.data))
            total = Adjoint(ones, 0.0 * ones, ones)
        children, eps = self.children[node], self.recorded.eps
        for child, i in children:
            part = self.part(child, i)
            if not _broadcast_together(total.value, part.value):
                part = in_shape(part, np.shape(node.data))
            total = total.plus(Adjoint(part.value, part.bound + len(children) * eps * part.size, part.size))
        claim, shape = self.stands.get(node), np.shape(node.data)
        if np.shape(total.value) != shape and claim is not None and np.shape(claim) == shape:
            total = in_shape(total, shape)
        rule = self.totals.get(node)
        return total if rule is None else loosely(total, rule(total.value), eps)

    def part(self, child: Any, i: int) -> Adjoint:
        """What the edge from the child's operand i adds to the adjoint of that operand."""
        if child not in self._parts:
            g = self.used[child]
            parts = {j: part for j, _, part in pulled(self.recorded, child, g)}
            for j, part in parts.items():
                rule = self.edges.get((child, j))
                if rule is not None:
                    parts[j] = loosely(part, rule(g.value, part.value), self.recorded.eps)
            self._parts[child] = parts
        return self._parts[child][i]

    def contribution(self, child: Any, i: int) -> Any:
        """The numbers of that."""
        return self.part(child, i).value

    def right_parts(self, child: Any, g: Any) -> dict[int, Any]:
        """{i: what is right to add to operand i}, from the numbers g of the child's adjoint."""
        return {i: part for i, _, part in passed(self.recorded, child, g)}

    def change(self, child: Any, delta: Any, mistakes: Mapping[Place, Rule]) -> dict[int, Any] | None:
        """{i: what a change of the child's adjoint, or mistakes at its edges, change of what is added to operand i}.

        delta: None for no change. None where a mistake yields nothing, or nothing of the shape.
        """
        g = self.used[child].value
        found = {} if delta is None else self.right_parts(child, delta)
        there: dict[int, Any] = {}
        for i, x in enumerate(child.operands):
            new, old = mistakes.get((child, i)), self.edges.get((child, i))
            if new is None and (old is None or delta is None):
                continue
            there = there or self.right_parts(child, g)
            rule, right = new or old, there[i] + found.get(i, 0.0)
            assert rule is not None  # one of the two is a rule
            part = rule(g if delta is None else g + delta, right)
            if part is None or np.shape(part) != np.shape(x.data):
                if new is not None:
                    return None
                continue
            found[i] = part - self.contribution(child, i)
        return found

    def called(self, node: Any) -> str:
        """A node by its name, or by its formula and the named node that it leads to."""
        if node not in self._names:
            self._names[node] = self._named(node)
        return self._names[node]

    def _named(self, node: Any) -> str:
        if node.name:
            return f"'{node.name}'"
        if not self._labels:
            self._labels.append(Graph(self.output))
        label, after = self._labels[0].label(node), node
        while not after.name and self.children[after]:
            after = self.children[after][0][0]
        is_number = re.fullmatch(r"(v|node)\d+", label)
        label = f"the {node.op.name}" if is_number and node.op is not None else f"'{label}'"
        if after is self.output and not after.name:
            return f"{label} on the way to the output"
        return f"{label} on the way to '{after.name}'"


def _broadcast_together(a: Any, b: Any) -> bool:
    try:
        np.broadcast_shapes(np.shape(a), np.shape(b))
    except ValueError:
        return False
    return True
