"""Every single change of a formula that takes back a common mistake, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nn.audit.formulas.tree import Node, is_scalar, moved, name, places, rebuilt, transposed, walk
from nn.by_hand import ACTIVATIONS

Write = Callable[[Node], str]


@dataclass(frozen=True)
class Edit:
    """A change that would mend the formula: the mistake that it takes back."""

    right: Node
    kind: str
    message: str
    fix: str


def edits(left: Node, tree: Node, write: Write, with_loss: bool) -> Iterator[Edit]:
    """All changes of the right side `tree` of a formula for `left`; write: a part in the notation of the formula."""
    yield from _missing_activation(left, tree, write)
    yield from _other_layer(left, tree, write)
    for put, node in places(tree):
        if node.kind == "name":
            yield from _operand(put, node, left, tree, write, with_loss)
        elif node.kind in ("f", "f'"):
            yield from _activation(put, node, write)
        elif node.kind == "call":
            yield from _named_activation(put, node, left, write)
        elif node.kind == "pow":
            kind = "activation-derivative" if any(part.kind == "f'" for part in walk(node)) else "operand"
            yield Edit(put(node.parts[0]), kind, f"{write(node.parts[0])} is raised to a power", "take the power off")
    for put, node in places(tree):
        yield from _arrangement(put, node, node is tree, write)
        yield from _reduction(put, node, write)
        yield from _term(put, node, left, write, with_loss)
    yield from _missing(left, tree, write)


# ---------------------------------------------------------------- the whole
def _missing_activation(left: Node, tree: Node, write: Write) -> Iterator[Edit]:
    below = replace(left, value="z")
    if left.value == "dz":
        prime = Node("f'", (below,), None, left.base, left.shift)
        missing = f"the derivative of the activation, {write(prime)}, is missing"
        yield Edit(Node("times", (tree, prime)), "activation-derivative", missing, f"multiply by {write(prime)}")
    if left.value == "a":
        applied = Node("f", (tree,), None, left.base, left.shift)
        yield Edit(applied, "forward", "the activation is left out", f"write {write(applied)}")


def _other_layer(left: Node, tree: Node, write: Write) -> Iterator[Edit]:
    for shift in (-1, 1):
        other = moved(tree, left.base, left.base, shift)
        if other != tree:
            message = f"all of it is that of another layer than {write(left)}"
            yield Edit(other, "operand", message, f"write {write(other)}")


def _missing(left: Node, tree: Node, write: Write) -> Iterator[Edit]:
    letters = sorted({letter for node in walk(tree) for letter in node.units} - set(left.units))
    sums = [Node("over", (tree,), letter) for letter in letters]
    if not left.units:
        sums = [Node("sum", (tree,), value) for value in ("samples", "units")]
    for summed in sums:
        what = f"the sum over {'' if left.units else 'the '}{summed.value} is missing"
        yield Edit(summed, "child-sum" if left.units else "batch-sum", what, f"write {write(summed)}")
    if left.value == "z":
        bias = Node("add", (tree, replace(left, value="b")))
        yield Edit(bias, "forward", "the bias is left out", "add it")


# ---------------------------------------------------------------- names and activations
def _operand(
    put: Callable[[Node], Node], node: Node, left: Node, tree: Node, write: Write, with_loss: bool
) -> Iterator[Edit]:
    several = sum(other == node for other in walk(tree)) > 1
    for other in _other_names(node):
        # the a-form of f' applied to z, or the other way round
        slope = left.value == "dz" and not with_loss and {node.value, other.value} == {"a", "z"}
        kind = "activation-derivative" if slope else "operand"
        message, fix = f"{write(node)} stands where {write(other)} belongs", f"write {write(other)} for {write(node)}"
        yield Edit(put(other), kind, message, fix)
        if several:
            everywhere = rebuilt(tree, lambda part, other=other: other if part == node else part)  # type: ignore[misc]
            yield Edit(everywhere, kind, message, fix)


def _other_names(node: Node) -> Iterator[Node]:
    if len(node.units) == 2:
        yield replace(node, units=node.units[::-1])
    if node.value in ("y", "yhat"):
        yield replace(node, value="yhat" if node.value == "y" else "y")
        return
    if node.value == "x":
        yield name("a", "k", -1, node.units)
        return
    for shift in (-1, 1):
        yield replace(node, shift=node.shift + shift)
    swaps = {"a": ("z",), "z": ("a",), "da": ("dz",), "dz": ("da",), "W": ("dW",), "dW": ("W",), "db": ("dz",), "b": ()}
    for value in swaps[node.value]:
        for shift in (0, -1, 1):
            yield replace(node, value=value, shift=node.shift + shift)


def _activation(put: Callable[[Node], Node], node: Node, write: Write) -> Iterator[Edit]:
    kind = "activation-derivative"
    units = next((part.units for part in walk(node.parts[0]) if part.units), "")
    for base, shift in ((node.base, node.shift), (node.base, node.shift - 1), (node.base, node.shift + 1)):
        other = replace(node, parts=(name("z", base, shift, units),), base=base, shift=shift)
        if other != node:
            message = f"the derivative is taken at {write(node.parts[0])} instead of {write(other.parts[0])}"
            yield Edit(put(other), kind, message, f"write {write(other)} for {write(node)}")
    other = replace(node, kind="f" if node.kind == "f'" else "f'")
    yield Edit(put(other), kind, f"{write(node)} stands where {write(other)} belongs", f"write {write(other)}")
    for shift in (-1, 1):
        other = replace(node, shift=node.shift + shift)
        yield Edit(put(other), kind, "f' is that of another layer", f"write {write(other)}")


def _named_activation(put: Callable[[Node], Node], node: Node, left: Node, write: Write) -> Iterator[Edit]:
    if node.value.removesuffix("'") not in ACTIVATIONS:
        return
    at = [*node.parts, *(replace(part, value="z") for part in node.parts if part.value == "a")]
    for part in at:
        for value in (f"{node.value.removesuffix(chr(39))}'", node.value):
            other = replace(node, value=value, parts=(part,))
            if other != node:
                message = f"{write(node)} stands where {write(other)} belongs"
                yield Edit(put(other), "activation-derivative", message, f"write {write(other)}")
    prime = Node("f'", (replace(left, value="z"),), None, left.base, left.shift)
    if left.value == "dz":
        message = f"{write(node)} is the derivative of another function than f"
        yield Edit(put(prime), "activation-derivative", message, f"write {write(prime)} for {write(node)}")


# ---------------------------------------------------------------- products, sums and terms
def _arrangement(put: Callable[[Node], Node], node: Node, whole: bool, write: Write) -> Iterator[Edit]:
    if node.kind == "matmul":
        x, y = node.parts
        swapped = put(Node("matmul", (y, x)))
        yield Edit(swapped, "transposed", "the product is the wrong way round", f"swap the factors of {write(node)}")
        if (x.kind == "transpose") != (y.kind == "transpose"):
            other = Node("matmul", (transposed(x), transposed(y)))
            message = "the product is the wrong way round: the other factor is the transposed one"
            yield Edit(put(other), "transposed", message, f"write {write(other)} for {write(node)}")
        times = Node("times", node.parts)
        yield Edit(put(times), "product", f"{write(node)} must be elementwise", f"write {write(times)}")
    if node.kind == "times" and not any(map(is_scalar, node.parts)):
        matmul = Node("matmul", node.parts)
        message = f"{write(node)} pairs elements where the matrix product belongs"
        yield Edit(put(matmul), "product", message, f"write {write(matmul)}")
    if node.kind == "outer":
        for x, y in (node.parts, node.parts[::-1]):
            for parts in ((x, Node("transpose", (y,))), (Node("transpose", (x,)), y)):
                product = Node("matmul", parts)
                yield Edit(put(product), "product", "outer is for one sample", f"write {write(product)}")
    if node.kind in ("name", "matmul", "outer") or whole:
        other = transposed(node)
        kind = "operand" if node.value == "W" else "transposed"
        yield Edit(put(other), kind, f"{write(node)} must be transposed", f"write {write(other)} for {write(node)}")
    if node.kind == "transpose":
        kind = "operand" if node.parts[0].value == "W" else "transposed"
        message = f"{write(node)} must not be transposed"
        yield Edit(put(node.parts[0]), kind, message, f"write {write(node.parts[0])}")


def _reduction(put: Callable[[Node], Node], node: Node, write: Write) -> Iterator[Edit]:
    if node.kind in ("sum", "mean"):
        for value in ("samples", "units"):
            if value != node.value:
                other = replace(node, value=value)
                message = f"the {node.kind} runs over {node.value or 'everything'} instead of the {value}"
                yield Edit(put(other), "axis", message, f"write {write(other)}")
    if node.kind in ("sum", "mean", "over"):
        what = "sum" if node.kind == "over" else node.kind
        yield Edit(put(node.parts[0]), "extra-term", f"the {what} does not belong here", "take it off")


def _term(put: Callable[[Node], Node], node: Node, left: Node, write: Write, with_loss: bool) -> Iterator[Edit]:
    if node.kind in ("add", "sub"):
        kinds = {
            "da": "loss-derivative" if with_loss else "sign",
            "dz": "sign" if with_loss else "activation-derivative",
        }
        kind = kinds.get(left.value, "sign")
        first, second = node.parts
        flipped = replace(node, kind="sub" if node.kind == "add" else "add")
        turned = replace(node, parts=(first.parts[0] if first.kind == "neg" else Node("neg", (first,)), second))
        for other in (flipped, turned):
            yield Edit(put(other), kind, f"a term of {write(node)} has the wrong sign", f"write {write(other)}")
        for keep, drop in (node.parts, node.parts[::-1]):
            yield Edit(put(keep), "extra-term", f"{write(drop)} is a term too many", "take it off")
    if node.kind in ("times", "matmul"):
        for keep, drop in (node.parts, node.parts[::-1]):
            if not is_scalar(drop):  # that is a factor
                kind = "activation-derivative" if drop.kind == "f'" else "extra-term"
                yield Edit(put(keep), kind, f"the factor {write(drop)} does not belong here", "take it off")
    if node.kind == "neg":
        yield Edit(put(node.parts[0]), "sign", f"{write(node)} has the wrong sign", "take the minus off")
