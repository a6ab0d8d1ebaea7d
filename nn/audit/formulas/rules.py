"""The right formulas of every quantity, to be shown beside a wrong one in the notation of whoever wrote that."""

from __future__ import annotations

from dataclasses import replace

from nn.audit.formulas.grammar import read
from nn.audit.formulas.tree import UNITS, Node, moved, rebuilt, walk
from nn.audit.formulas.trials import Case

# What is true of layer k; where there are several, the one that is most like the claim is shown
RULES: dict[str, tuple[str, ...]] = {
    "dz": ("dz[k] = da[k] * f'(z[k])",),
    "a": ("a[k] = f(z[k])",),
    "db": ("db[k] = sum(dz[k], samples)",),
}
LAYOUT_RULES: dict[str, dict[str, tuple[str, ...]]] = {
    "row": {
        "z": ("z[k] = a[k-1] @ W[k] + b[k]",),
        "dW": ("dW[k] = a[k-1].T @ dz[k]",),
        "da": ("da[k-1] = dz[k] @ W[k].T",),
        "dz": ("dz[k] = (dz[k+1] @ W[k+1].T) * f'(z[k])",),
    },
    "column": {
        "z": ("z[k] = W[k] @ a[k-1] + b[k]",),
        "dW": ("dW[k] = dz[k] @ a[k-1].T",),
        "da": ("da[k-1] = W[k].T @ dz[k]",),
        "dz": ("dz[k] = (W[k+1].T @ dz[k+1]) * f'(z[k])",),
    },
}
# The same of single units of one sample, i of the layer and j of the one beside it
INDEXED: dict[str, tuple[str, ...]] = {
    "dz": ("dz[k]_i = da[k]_i * f'(z[k]_i)",),
    "a": ("a[k]_i = f(z[k]_i)",),
    "db": ("db[k]_i = dz[k]_i",),
}
INDEXED_LAYOUT: dict[str, dict[str, tuple[str, ...]]] = {
    "row": {
        "z": ("z[k]_i = \\sum_j a[k-1]_j * W[k]_{ji} + b[k]_i",),
        "dW": ("dW[k]_{ij} = dz[k]_j * a[k-1]_i",),
        "da": ("da[k]_i = \\sum_j dz[k+1]_j * W[k+1]_{ij}",),
        "dz": ("dz[k]_i = (\\sum_j dz[k+1]_j * W[k+1]_{ij}) * f'(z[k]_i)",),
    },
    "column": {
        "z": ("z[k]_i = \\sum_j W[k]_{ij} * a[k-1]_j + b[k]_i",),
        "dW": ("dW[k]_{ij} = dz[k]_i * a[k-1]_j",),
        "da": ("da[k]_i = \\sum_j W[k+1]_{ji} * dz[k+1]_j",),
        "dz": ("dz[k]_i = (\\sum_j W[k+1]_{ji} * dz[k+1]_j) * f'(z[k]_i)",),
    },
}
OUTPUT = {"sse": "2 * (yhat - y)", "half_sse": "yhat - y", "bce": "(yhat - y) / (yhat * (1 - yhat))", "ce": "-y / yhat"}
DIVISORS = {"sum": "", "mean": " / n", "mean_elements": " / (n*m)"}
SOFTMAX = "dz[k] = a[k] * (da[k] - sum(a[k] * da[k], units))"


def right_side(left: Node, layout: str, like: Node, case: Case | None = None) -> Node:
    """The right formula for the quantity on the left; case: whose loss it is about, if it is about one."""
    if left.value == "yhat":
        return read("yhat = a[L]").rights[0]
    if left.value == "da" and case is not None:
        text = f"({OUTPUT[case.net.loss]}){DIVISORS[case.net.reduction]}"
        if left.units:
            text = text.replace("yhat", f"yhat_{left.units}").replace("y ", f"y_{left.units} ")
        return read(f"da[L] = {text}").rights[0]
    tables = (INDEXED, INDEXED_LAYOUT[layout]) if left.units else (RULES, LAYOUT_RULES[layout])
    rules = [_of(left, text) for table in tables for text in table.get(left.value, ())]
    mine = _names(like)
    rule = min(rules, key=lambda right: len(_names(right) ^ mine))
    return _lettered(rule, left, like) if left.units else rule


def _lettered(rule: Node, left: Node, like: Node) -> Node:
    """The rule with the letters of the claim: those of the left side, then those that it sums over."""
    theirs = [*left.units, *(letter for node in walk(like) for letter in (*node.units, *_bound(node)))]
    letters = dict(zip("ij", dict.fromkeys([*theirs, *UNITS]), strict=False))

    def change(node: Node) -> Node:
        units = "".join(letters[letter] for letter in node.units)
        return replace(node, units=units, value=letters[node.value] if _bound(node) else node.value)

    return rebuilt(rule, change)


def _bound(node: Node) -> str:
    return str(node.value) if node.kind == "over" else ""


def softmax_rule(left: Node) -> Node:
    """dL/dz of a softmax, for the layer on the left."""
    return _of(left, SOFTMAX)


def _of(left: Node, text: str) -> Node:
    rule = read(text)
    return moved(rule.rights[0], rule.left.base, left.base, left.shift - rule.left.shift)


def _names(tree: Node) -> set[tuple[str, str, int]]:
    return {(node.value, node.base, node.shift) for node in walk(tree) if node.kind == "name"}
