"""The two sweeps over a recorded graph: adjoints downwards, tangents upwards, for scalar and array nodes alike.

A node tells what each of its edges contributes: node.pull(upstream) in reverse mode, node.push(tangents) in forward
mode. The sweeps add up: the adjoint of a node is the sum over its child edges, the total derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np


class Patch:
    """A contribution that is 0 but at an index: it is added where it points, not written out in full."""

    __slots__ = ("add_at", "key", "shape", "values")

    def __init__(self, key: Any, values: Any, shape: tuple[int, ...], add_at: Callable[[Any, Any, Any], None]) -> None:
        self.key, self.values, self.shape, self.add_at = key, values, shape, add_at

    def added_to(self, present: Any, owned: bool) -> Any:
        """present, an array or None, with the patch added; in place if it is owned."""
        if present is None:
            present = np.zeros(self.shape, self.values.dtype)
        elif not owned:
            present = np.array(present)
        self.add_at(present, self.key, self.values)
        return present


def pulled(
    nodes: list[Any],
    seeds: dict[Any, Any],
    inputs: Collection[Any] | None = None,
    recording: bool = False,
    keep: bool = False,
) -> dict[Any, Any]:
    """{node: its adjoint} from the adjoints of the outputs: the reverse sweep.

    nodes: all that leads to the outputs, each after all of its children. inputs: only what leads to them is
    computed, and the sweep ends there; None for all. keep: adjoints in between are returned too. recording: rules
    are applied to the nodes, not to their data, so that the adjoints are nodes themselves.

    An array that `owned` lists is held by `adjoints` alone, and may be added to in place. Views are never owned, so a
    rule that returns an array that somebody else holds returns a view of it.

    Without keep, nodes and seeds are used up: where nobody else holds the graph, its memory is free for the sweep
    as soon as it is not needed any more.
    """
    stops = dict.fromkeys(inputs or ())
    needed = None if inputs is None else dependent(nodes, stops)
    adjoints = dict(seeds)
    owned: set[Any] = set()
    if keep:
        nodes = nodes[::-1]
    else:
        nodes.reverse()
        seeds.clear()
    while nodes:
        node = nodes.pop()
        if needed is not None:
            if node in stops:
                continue
            if node not in needed:
                adjoints.pop(node, None)  # a seed
                continue
            del needed[node]
        free = False
        if keep or node.op is None:
            upstream = adjoints.get(node)
        else:
            upstream = adjoints.pop(node, None)
            if node in owned:
                owned.remove(node)
                free = not recording  # a node of the recorded rule may hold the array as its constant
        if upstream is None:
            continue
        heir = None  # the parent that has upstream for its own now
        for parent, contribution in node.pull(upstream, needed, recording, free):
            kind = type(contribution)
            present = adjoints.get(parent)
            if kind is Patch:
                adjoints[parent] = contribution.added_to(present, parent in owned)
                owned.add(parent)
            elif present is None:
                adjoints[parent] = contribution
                if kind is np.ndarray and contribution.base is None:
                    if contribution is not upstream:
                        owned.add(parent)
                    elif heir is not None:
                        owned.discard(heir)
                    elif free:
                        heir = parent
                        owned.add(parent)
            elif kind is np.ndarray and parent in owned:
                np.add(present, contribution, out=present)
            else:
                adjoints[parent] = total = present + contribution
                if type(total) is np.ndarray:
                    owned.add(parent)
                else:
                    owned.discard(parent)
    for node, adjoint in adjoints.items():
        if type(adjoint) is np.ndarray and node not in owned:  # it may be a view, or another node's as well
            adjoints[node] = np.array(adjoint)
    return adjoints


def dependent(nodes: Sequence[Any], inputs: Collection[Any]) -> dict[Any, None]:
    """The nodes that depend on the inputs, and these; nodes: each after all of its children."""
    found = dict.fromkeys(inputs)
    for node in reversed(nodes):
        for parent in node.parents:
            if parent in found:
                found[node] = None
                break
    return found


def pushed(
    nodes: Sequence[Any], seeds: Mapping[Any, Any], stops: Collection[Any] = (), recording: bool = False
) -> dict[Any, Any]:
    """{node: its tangent} from the tangents of the inputs: the forward sweep; nodes that do not move are left out.

    nodes: all that leads to the outputs, each after all of its children. stops: what reaches one of them is kept
    there and handed no further.
    """
    tangents = dict(seeds)
    moving = {node: tangent for node, tangent in seeds.items() if node not in stops}
    for node in reversed(nodes):
        if node not in seeds:
            tangent = node.push(moving, recording)
            if tangent is not None:
                tangents[node] = tangent
                if node not in stops:
                    moving[node] = tangent
    return tangents
