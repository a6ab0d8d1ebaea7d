"""The mistakes in the derivative of a function that has no name, read off the graph of its own code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autodiff.graph import order
from autodiff.primitives import Primitive
from autodiff.sweeps import dependent

Variant = tuple[str, Any]  # what is wrong, in words; what the derivative would be
Edge = tuple[Any, int]  # a node and which of its contributions

# What becomes of the contribution of an edge, given the upstream and the operand.
LOCAL = {"the local derivative of {} is left out": lambda upstream, x, part: upstream}
POWER = {
    "the exponent of {} is lowered once too often": lambda upstream, x, part: part / x,
    "the exponent of {} is not lowered": lambda upstream, x, part: part * x,
}
TERM = {
    "a term is missing: the part that comes through {}": lambda upstream, x, part: np.zeros_like(part),
    "the sign of a term is wrong: the part that comes through {}": lambda upstream, x, part: -part,
}


def variants(output: Any, leaf: Any, seed: Any) -> Iterator[Variant]:
    """The derivatives of sum(seed * output) by the leaf, with one edge of the graph between treated wrongly."""
    nodes = order(output)
    between = dependent(nodes, [leaf])
    inner = [node for node in nodes if node in between and node is not leaf]
    right = _swept(inner, output, leaf, seed)
    for node in inner:
        edges = [(i, parent) for i, (parent, _) in enumerate(_pulled(node, np.zeros(node.shape))) if parent in between]
        forks = len(edges) > 1 or any(_is_fork(parent, inner) for _, parent in edges)
        for i, parent in edges:
            changes = []
            if isinstance(node.op, Primitive) and parent.shape == node.shape:
                of_power = POWER if node.op.name in ("pow", "square") and parent is node.operands[0] else {}
                changes += [(words.format(node.op.name), change) for words, change in (LOCAL | of_power).items()]
            if forks:
                through = node if parent is leaf or parent.op is None else parent
                changes += [(words.format(through.op.name), change) for words, change in TERM.items()]
            for words, change in changes:
                found = _swept(inner, output, leaf, seed, (node, i), change)
                if not np.array_equal(found, right):
                    yield words, found


def _is_fork(node: Any, inner: Sequence[Any]) -> bool:
    """Whether more than one operation uses a node."""
    return sum(parent is node for child in inner for parent in child.parents) > 1


def _pulled(node: Any, upstream: Any) -> list[tuple[Any, Any]]:
    """[(parent, contribution), ...], as whole arrays."""
    found = node.pull(upstream)
    return [(x, c.added_to(None, False) if hasattr(c, "added_to") else c) for x, c in found]


def _swept(inner: Sequence[Any], output: Any, leaf: Any, seed: Any, odd: Edge | None = None, change: Any = None) -> Any:
    """The adjoint of the leaf, with one edge changed."""
    adjoints = {output: seed}
    for node in inner:
        upstream = adjoints.get(node)
        if upstream is None:
            continue
        for i, (parent, part) in enumerate(_pulled(node, upstream)):
            is_odd = odd is not None and node is odd[0] and i == odd[1]
            value = change(upstream, parent.data, part) if is_odd else part
            adjoints[parent] = adjoints[parent] + value if parent in adjoints else value
    return adjoints.get(leaf, np.zeros(leaf.shape))
