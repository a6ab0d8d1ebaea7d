"""Derivatives of one quantity of the network by another, as in dL/dW_k = dL/dz_k dz_k/dW_k: what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from nn.audit.formulas.tree import GRADIENTS, Node, name, rebuilt, walk

Write = Callable[[Node], str]


class Broken(Exception):
    """A chain of derivatives whose links do not meet, or a link that is no single step, in words."""


def expanded(left: Node, right: Node, layout: str, write: Write) -> Node:
    """The right side with every derivative written out; the left side itself where it is nothing but a closed chain.

    In symbols a chain may be right in any order, and it says nothing about transposes: only whether it closes is told.
    """
    if not any(node.kind == "slope" for node in walk(right)):
        return right
    factors = list(_factors(right))
    links = all(node.kind == "slope" or (node.kind == "name" and node.value in GRADIENTS) for node in factors)
    if links and not left.units:
        return _closed(left, factors, write)
    return rebuilt(right, lambda node: _step(node, layout, write) if node.kind == "slope" else node)


def _factors(node: Node) -> Iterator[Node]:
    if node.kind in ("times", "matmul", "transpose"):
        for part in node.parts:
            yield from _factors(part)
    else:
        yield node


def _closed(left: Node, factors: list[Node], write: Write) -> Node:
    """The left side, if the chain runs from the loss to it."""
    start = [node for node in factors if node.kind == "name"]
    slopes = [node for node in factors if node.kind == "slope"]
    if len(start) != 1:
        raise Broken("the chain must start with one derivative of the loss")
    at = replace(start[0], value=start[0].value[1:])
    while slopes:
        link = next((node for node in slopes if node.parts[0] == at), None)
        if link is None:
            raise Broken(f"the chain does not close: no factor derives {write(at)}, at which it has arrived")
        slopes.remove(link)
        at = link.parts[1]
    if replace(at, value=f"d{at.value}") != left:
        raise Broken(f"the chain ends at {write(at)}, not at {write(replace(left, value=left.value[1:]))}")
    return left


def _step(slope: Node, layout: str, write: Write) -> Node:
    """d above / d below, of one step: within a layer, or from a layer to the one before."""
    above, below = slope.parts
    unit = above.units
    z, a = replace(above, value="z"), name("a", above.base, above.shift - 1)
    if above.value == "a":
        prime = Node("f'", (z,), None, above.base, above.shift)
        return (
            prime
            if below.value == "z"
            else Node("times", (prime, _step(replace(slope, parts=(z, below)), layout, write)))
        )
    if below.value == "b":
        return Node("number", (), 1.0)
    if below.value == "W":
        return replace(a, units=below.units.replace(unit, "", 1))
    if below.value == "a":
        units = unit + below.units if layout == "column" else below.units + unit
        weights = name("W", above.base, above.shift, units if unit else "")
        return weights if unit or layout == "column" else Node("transpose", (weights,))
    raise Broken(f"{write(slope)} is not one step of the network")
