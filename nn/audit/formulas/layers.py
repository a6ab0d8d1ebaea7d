"""What a formula leaves unsaid: the layers of names that have none, what m counts, what a sum runs over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nn.audit.formulas.tree import BESIDE, DATA, GRADIENTS, VALUES, Node, is_scalar, name, rebuilt, walk


def settled(trees: Sequence[Node], capital: bool, affine: bool) -> tuple[list[Node], tuple[str, int] | None]:
    """(the trees, the left one first, with all that said, and the layer of names without one if there are any).

    capital: in the notation of A, Z and X, m counts the samples. affine: x is what goes into the layer.
    """
    trees = _of_outputs(trees)
    left = trees[0]
    nodes = [node for tree in trees for node in walk(tree)]
    names = [node for node in nodes if node.kind == "name" and node.value not in DATA]
    units = {letter for node in nodes for letter in node.units}
    given = any(node.base == "k" or (not node.base and node.shift) for node in names)
    with_y = any(node.value == "y" for node in nodes)
    base, shift = "k", 0
    if left.base not in ("?", "L") and left.value in GRADIENTS + VALUES:
        base, shift = left.base, left.shift + (left.value == "da")
    elif not given and (with_y or any(node.base == "L" for node in names)):
        base = "L"
    if not given and any(node.value == "x" for node in nodes) and not affine and left.base == "?":
        base, shift = "", 1  # one layer: x goes in
    samples = capital and not any(node.value == "n" and node.kind == "size" for node in nodes)

    def change(node: Node) -> Node:
        if affine and node.value == "x" and node.kind == "name":
            return name("a", base, shift - 1)
        if affine and node == name("da", "", 0):
            return name("da", base, shift - 1)
        if node.base == "?" and node.kind in ("name", "f", "f'"):
            return replace(node, base=base, shift=shift + node.shift)
        if node.kind == "size" and node.value == "m" and node.base != "L" and samples:
            return replace(node, value="n")
        if node.kind == "over" and node.value not in units:
            return Node("sum", node.parts, "samples")
        if node.kind == "matmul":
            beside = replace(node, value=None)
            return replace(beside, kind="times") if _pairs(node, bool(units)) else beside
        return node

    bare = (base, shift) if any(node.base == "?" for node in names) else None
    return [rebuilt(tree, change) for tree in trees], bare


def _of_outputs(trees: Sequence[Node]) -> Sequence[Node]:
    """delta_k = yhat_k - y_k: a letter that targets have is a unit, of the last layer, wherever it stands alone."""
    nodes = [node for tree in trees for node in walk(tree) if node.kind == "name"]
    letters = {node.units for node in nodes if node.value in DATA and node.units in ("k", "l")}
    others = {(node.base, node.shift, node.units) for node in nodes if node.value not in DATA}
    if len(letters) != 1 or others != {("k", 0, "")}:
        return trees
    (letter,) = letters

    def change(node: Node) -> Node:
        lone = node.kind == "name" and node.value not in DATA
        return replace(node, base="L", units=letter) if lone else node

    return [rebuilt(tree, change) for tree in trees]


def _pairs(product: Node, indexed: bool) -> bool:
    """Whether a product without a sign pairs elements: there is no matrix in it."""
    if indexed and all(map(_of_units, product.parts)):
        return True
    layers = [_sample_layer(part) for part in product.parts]
    return product.value == BESIDE and layers[0] is not None and layers[0] == layers[1]


ELEMENTWISE = ("number", "size", "add", "sub", "times", "div", "neg", "pow", "f", "f'", "call", "greater", "less")


def _sample_layer(node: Node) -> tuple[str, int] | None:
    """The layer of a part that has a number for each of its units and samples, as (base, shift)."""
    layers = set()
    for part in walk(node):
        if part.kind == "name" and part.value in ("y", "yhat"):
            layers.add(("L", 0))
        elif part.kind == "name" and part.value in ("z", "a", "dz", "da"):
            layers.add((part.base, part.shift))
        elif part.kind not in ELEMENTWISE:
            return None
    return layers.pop() if len(layers) == 1 else None


def _of_units(node: Node) -> bool:
    """Whether a part is a number for each of some units."""
    return any(part.units for part in walk(node)) or is_scalar(node)
