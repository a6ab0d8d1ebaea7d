"""A wrong formula with its factor taken off, in the writer's own words where that can be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from nn.audit.formulas.tree import Node, is_scalar, places, walk

NUMERATOR = {"n": Node("size", (), "n"), "m": Node("size", (), "m")}


def without_factor(tree: Node, factor: str, is_right: Callable[[Node], bool], rule: Node) -> Node:
    """The tree divided by the factor: a scalar taken off, else the rule, or the quotient where y is in it."""
    if factor == "1":
        return tree
    candidates = [negated(tree)] if factor == "-1" else list(_less(tree))
    of_targets = any(node.value == "y" for node in walk(tree))
    others = [*_more(tree, factor), rule] if of_targets else [rule, *_more(tree, factor)]
    return next((other for other in [*candidates, *others] if is_right(other)), rule)


def negated(node: Node) -> Node:
    """-node, the sign put where it is least in the way."""
    if node.kind == "neg":
        return node.parts[0]
    if node.kind == "number":
        return replace(node, value=-node.value) if node.value < 0 else Node("neg", (node,))
    if node.kind == "sub":
        return replace(node, parts=node.parts[::-1])
    if node.kind == "add":
        first, second = node.parts
        if first.kind == "neg":
            return Node("sub", (first.parts[0], second))
        return Node("sub", (Node("neg", (first,)), second))
    if node.kind in ("times", "matmul", "div"):
        easy = next((i for i, part in enumerate(node.parts) if _easily_negated(part)), 0)
        return replace(node, parts=tuple(negated(part) if i == easy else part for i, part in enumerate(node.parts)))
    if node.kind in ("sum", "mean", "over", "transpose") and _easily_negated(node.parts[0]):
        return replace(node, parts=(negated(node.parts[0]),))
    return Node("neg", (node,))


def _easily_negated(node: Node) -> bool:
    if node.kind in ("times", "matmul", "div", "sum", "transpose"):
        return any(map(_easily_negated, node.parts))
    return node.kind in ("neg", "sub") or (node.kind == "number" and node.value < 0)


def _less(tree: Node) -> Iterator[Node]:
    """The tree with one scalar factor left out, or a mean made a sum."""
    for put, node in places(tree):
        if node.kind in ("times", "matmul"):
            for keep, drop in (node.parts, node.parts[::-1]):
                if is_scalar(drop):
                    yield put(keep)
        if node.kind == "div" and is_scalar(node.parts[1]):
            yield put(node.parts[0])
        if node.kind == "mean":
            yield put(replace(node, kind="sum"))
    for put, node in places(tree):
        if node.kind in ("number", "size") and tree is not node:
            yield put(Node("number", (), 1.0))


def _more(tree: Node, factor: str) -> Iterator[Node]:
    """tree / factor, for a factor that is a number or one size."""
    below = factor.startswith("1/")
    size = NUMERATOR.get(factor.removeprefix("1/"))
    if size is None:
        try:
            size = Node("number", (), float(factor.removeprefix("1/")))
        except ValueError:
            return
    if below and tree.kind == "div":
        yield replace(tree, parts=(Node("times", (size, tree.parts[0])), tree.parts[1]))
    yield Node("times", (size, tree)) if below else Node("div", (tree, size))
