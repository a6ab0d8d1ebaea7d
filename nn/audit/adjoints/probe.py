"""What a change of an adjoint makes of a claim, seen along a few directions: one number each, without a sweep.

The sweep is linear in the adjoints, so what a change of one of them does to the claim along a direction is its product
with the tangent of that direction there. The tangents of a region are pushed up once; after that thousands of mistakes
are held against a claim for the price of a product each, and only those that may be meant are swept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nn.audit.adjoints.recorded import is_edge, is_elementwise
from nn.audit.adjoints.region import Region

DIRECTIONS = 3
MOST = 64  # elements of an upstream that are moved one by one
LOOSE = 1e-6  # relative, of what is only a filter: what passes is judged with the sweep


class Probe:
    """The tangents of a few directions of the claim, at the nodes of its region.

    tangents: {node: one row per direction}; a node that is reached through a mistake supposed before has none.
    """

    def __init__(self, region: Region) -> None:
        self.region, target = region, region.target
        self.slack = max(LOOSE, 64 * region.sweep.recorded.eps)
        self.directions: Any = np.random.default_rng(0).normal(size=(DIRECTIONS, *target.shape))
        self.tangents: dict[Any, Any] = {
            node: np.stack([direction[index] for direction in self.directions]) for index, node in target.members
        }
        self._hidden = set[Any]()
        for node in region.nodes:
            self._through_total(node)
        for node in reversed(region.inside):
            if node not in region.members:
                self._push(node)
                self._through_total(node)

    def _push(self, node: Any) -> None:
        sweep = self.region.sweep
        moving = [
            i for i, x in enumerate(node.operands) if is_edge(x, node) and (x in self.tangents or x in self._hidden)
        ]
        plain = [i for i in moving if (node, i) not in sweep.edges]
        blind = any(node.operands[i] in self._hidden for i in moving)
        found = None if blind else self._pushed(node, plain)
        for i in moving if found is not None and len(plain) < len(moving) else ():
            if i not in plain and found is not None:
                part = self._through_edge(node, i)
                found = None if part is None else found + part
        if found is None:
            self._hidden.add(node)
        else:
            self.tangents[node] = found

    def _through_edge(self, node: Any, i: int) -> Any:
        """What a mistake that was supposed at an edge makes of the tangents: by its own differences."""
        sweep = self.region.sweep
        g, rule = sweep.used[node].value, sweep.edges[node, i]

        def added(upstream: Any) -> Any:
            return rule(upstream, sweep.right_parts(node, upstream)[i])

        return self._turned_about(added, g, self.tangents[node.operands[i]])

    def _through_total(self, node: Any) -> None:
        """The same of one in an adjoint."""
        sweep = self.region.sweep
        if node in sweep.totals and node in self.tangents:
            below = sum((sweep.contribution(*place) for place in sweep.children[node]), np.zeros(np.shape(node.data)))
            found = self._turned_about(sweep.totals[node], below, self.tangents[node])
            if found is None:
                del self.tangents[node]
                self._hidden.add(node)
            else:
                self.tangents[node] = found

    @staticmethod
    def _turned_about(rule: Any, at: Any, tangents: Any) -> Any:
        """The transpose of a rule's differences at an upstream, on tangents; None where it cannot be had."""
        shape = np.shape(at)
        if np.size(at) > MOST or not np.isfinite(at).all():
            return None
        rows, here = tangents.reshape(DIRECTIONS, -1), rule(at)
        found = np.zeros((DIRECTIONS, np.size(at)))
        for k in range(np.size(at)):
            step = np.zeros(np.size(at))
            step[k] = 1.0
            there = rule(at + step.reshape(shape))
            if there is None or here is None or np.shape(there) != tangents.shape[1:]:
                return None
            found[:, k] = rows @ np.ravel(there - here)
        return found.reshape(DIRECTIONS, *shape) if np.isfinite(found).all() else None

    def _pushed(self, node: Any, moving: Sequence[int]) -> Any:
        recorded, shape = self.region.sweep.recorded, np.shape(node.data)
        total = np.zeros((DIRECTIONS, *shape))
        if is_elementwise(node):
            for i in moving:
                t = self.tangents[node.operands[i]]
                t = t.reshape(DIRECTIONS, *(1,) * (len(shape) - t.ndim + 1), *t.shape[1:])
                total = total + recorded.local(node, i) * t
            return total
        values = recorded.operands(node)[0]
        given = {i: self.tangents[node.operands[i]] for i in moving}
        try:
            for k in range(DIRECTIONS):
                tangents = [given[i][k] if i in given else None for i in range(len(values))]
                total[k] = node.op.push(tangents, recorded.data[node], values, node.parameters)
        except Exception:  # a rule of somebody's own, or none for this direction
            return None
        return total

    def along(self, array: Any) -> Any:
        """What an array of the claim's shape is along the directions."""
        return self.directions.reshape(DIRECTIONS, -1) @ np.ravel(array)

    def sees(self, adds: Sequence[tuple[Any, Any]]) -> tuple[Any, float] | None:
        """What is added to the claim along the directions, and the size of its terms; None where that is hidden."""
        total, size = np.zeros(DIRECTIONS), 0.0
        for node, added in adds:
            tangent = self.tangents.get(node)
            if tangent is None or np.shape(added) != tangent.shape[1:]:
                return None
            flat, row = tangent.reshape(DIRECTIONS, -1), np.ravel(added)
            total = total + flat @ row
            size += float(np.abs(flat[0]) @ np.abs(row))
        return total, size
