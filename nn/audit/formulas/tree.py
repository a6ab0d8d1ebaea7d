"""The tree of a formula: its nodes, and how a part is found, replaced, moved to another layer.

Kinds of nodes, and what stands in `value`:

    number           the number
    size             "n" samples, or "m" outputs
    name             dz da dW db z a W b x y yhat, of the layer base + shift; units are the letters of an index formula
    add sub times matmul div neg transpose outer diag maximum
    pow              the exponent
    sum mean         "samples", "units", "axis=0", "axis=1", or None for all elements
    over             the letter of the units summed over
    f f'             the activation of the layer base + shift, and its derivative, elementwise
    call             a function by its name: "exp", "tanh", "tanh'" ...
    greater less     1 where it holds, 0 elsewhere
    where            three parts, as np.where
    ones             a column of as many ones
    extent           the axis: how long the part is along it
    slope            d part / d part: expanded before anything is computed
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

GRADIENTS = ("dz", "da", "dW", "db")
VALUES = ("z", "a", "W", "b")
DATA = ("x", "y", "yhat")
BESIDE = "beside"  # the value of a product without a sign, until it is known whether it pairs elements
UNITS = "ijklpqrs"  # the letters of index formulas
INFIX = {"add": "+", "sub": "-", "times": "*", "matmul": "@", "div": "/", "greater": ">", "less": "<"}


@dataclass(frozen=True)
class Node:
    """A part of a formula. base "k" or "L", "" for a number alone, "?" where the writer gave no layer."""

    kind: str
    parts: tuple[Node, ...] = ()
    value: Any = None
    base: str = "k"
    shift: int = 0
    units: str = ""


def name(value: str, base: str = "k", shift: int = 0, units: str = "") -> Node:
    """The node of a quantity."""
    return Node("name", (), value, base, shift, units)


OUTPUT_GRADIENT = name("da", "L")


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for part in node.parts:
        yield from walk(part)


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """The tree with change(node) for every node, from the leaves up."""
    return change(replace(node, parts=tuple(rebuilt(part, change) for part in node.parts)))


def is_scalar(node: Node) -> bool:
    """Whether the part is a number whatever the network: built of numbers and sizes alone."""
    if node.kind in ("number", "size", "extent"):
        return True
    return node.kind in (*INFIX, "neg", "pow") and all(map(is_scalar, node.parts))


def says_nothing(left: Node, node: Node) -> bool:
    """Whether a part of the right side is the left side itself, or may be, at some layer k."""
    if node.kind != "name" or node.value != left.value:
        return False
    if node.base != left.base:
        return "k" in (node.base, left.base)
    return node.shift == left.shift


def layer_of(argument: Node, otherwise: tuple[str, int]) -> tuple[str, int]:
    """The layer of an activation whose argument is this, as (base, shift): that of the affine map in it."""
    names = [node for node in walk(argument) if node.kind == "name" and node.value not in ("x", "y")]
    named = next((node for node in names if node.value in ("z", "W", "b")), names[0] if names else None)
    if named is None:
        return otherwise
    return ("L" if named.value == "yhat" else named.base), named.shift


def transposed(node: Node) -> Node:
    """The transpose, written without needless ones: (x y)^T = y^T x^T."""
    if node.kind == "transpose":
        return node.parts[0]
    if node.kind == "matmul":
        first, second = node.parts
        if (scaled := _scaled(first)) is not None:
            put, bare = scaled
            return Node("matmul", (put(transposed(second)), transposed(bare)))
        return Node("matmul", (transposed(second), transposed(first)))
    if (scaled := _scaled(node)) is not None:
        put, bare = scaled
        return put(transposed(bare))
    return Node("transpose", (node,))


def _scaled(node: Node) -> tuple[Callable[[Node], Node], Node] | None:
    """(put, x) for a number times x or x by a number, where put(other) has other for x; None for anything else."""
    for i, other in ((0, 1), (1, 0)):
        if node.kind in ("times", "div")[: 2 - i] and is_scalar(node.parts[other]) and not is_scalar(node.parts[i]):
            return _inside(node, i, lambda part: part), node.parts[i]
    return None


def moved(node: Node, old: str, base: str, move: int) -> Node:
    """The same for another layer: names of the base `old`, and every f, get `base` and `move` more."""

    def change(part: Node) -> Node:
        if part.kind in ("f", "f'") or (part.kind == "name" and part.value not in DATA and part.base == old):
            return replace(part, base=base, shift=part.shift + move)
        return part

    return rebuilt(node, change)


def places(tree: Node) -> Iterator[tuple[Callable[[Node], Node], Node]]:
    """(put, node) for every part: put(other) is the tree with other in the place of node."""
    yield (lambda other: other), tree
    for i, part in enumerate(tree.parts):
        for put, node in places(part):
            yield _inside(tree, i, put), node


def _inside(tree: Node, i: int, put: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda other: replace(tree, parts=(*tree.parts[:i], put(other), *tree.parts[i + 1 :]))
