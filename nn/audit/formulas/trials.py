"""What a formula is tried on: networks with all their true quantities, and what its parts amount to there.

The truth is `nn.by_hand`. A case is one layer of one network; its facts are what a condition may be about.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nn.audit.formulas.tree import UNITS, Node
from nn.by_hand import ACTIVATIONS, LAYOUTS, LOSSES, MLP, Elementwise

Array = NDArray[np.float64]

DIGITS = 1e-8  # relative to the largest element; the networks are ours and well conditioned
LARGEST = 10**6  # elements of an outer product
DEEPEST = 9  # layers of the networks

# widths of the layers 0, 1, 2, ..., and the number of samples
SHAPES = (((4, 5, 3, 2, 6, 7, 8, 9, 10, 11), 7), ((5, 2, 4, 3, 7, 6, 9, 8, 11, 10), 1), ((3,) * 10, 6), ((4,) * 10, 1),
          ((1,) * 10, 5))  # fmt: skip
MIXES = (
    ("tanh", "softplus", "sigmoid"), ("relu", "leaky_relu", "identity"), ("softmax", "tanh", "softmax"),
    ("softplus", "softmax", "tanh"), ("identity", "identity", "identity"), ("sigmoid", "sigmoid", "softplus"),
)  # fmt: skip
HIDDEN = (("tanh", "softplus"), ("sigmoid", "sigmoid"), ("relu", "relu"), ("tanh", "tanh"))
OUTPUTS = {"sse": ("identity", "tanh", "sigmoid"), "half_sse": ("identity", "tanh"), "bce": ("sigmoid",),
           "ce": ("softmax", "sigmoid")}  # fmt: skip
# what a condition may be about, in the order of preference
CONDITIONS = {
    "n = 1": "n = 1 (one sample)",
    "elementwise": "f acts elementwise (not softmax)",
    "equal": "equal widths n_{k-1} = n_k",
    "ones": "all widths are 1",
    "last": "k = L, the last layer",
    "softmax + ce": "softmax with ce at the last layer",
    "sigmoid + bce": "sigmoid with bce at the last layer",
    "identity + half_sse": "identity with half_sse at the last layer",
    "identity + sse": "identity with sse at the last layer",
    **{f"f = {name}": f"f is {name}" for name in ACTIVATIONS},
    **{f"hidden = {name}": f"the hidden f is {name}" for name in ("tanh", "sigmoid", "relu")},
    **{f"loss = {name}": f"the loss is {name}" for name in LOSSES if name != "mse"},
    "reduction = sum": "the loss is a sum over the batch",
    "reduction = mean": "the loss is a mean over the samples",
    "reduction = mean_elements": "the loss is a mean over samples and outputs",
}


class Misfit(Exception):
    """Shapes that do not go together: the part of the formula, and what is wrong with it."""

    def __init__(self, node: Node, words: str) -> None:
        super().__init__(node, words)
        self.node, self.words = node, words


class NoLayer(Exception):
    """An index outside of the network: another k will do."""


@dataclass(frozen=True)
class Case:
    """A layer of a network with all its true quantities, and what is special about it."""

    net: MLP
    y: Array
    k: int
    facts: frozenset[str]
    letter: str = "k"  # what the layer is called; "" for its number

    @property
    def n(self) -> int:
        """The number of samples."""
        return int(self.y.shape[0 if self.net.layout == "row" else 1])

    @property
    def last(self) -> int:
        """The number of layers."""
        return len(self.net.sizes) - 1

    def width(self, layer: int) -> str:
        """What the number of units of a layer is called: n_k, n_{k-1}, n_3."""
        if not self.letter:
            return f"n_{layer}"
        return f"n_{self.letter}" if layer == self.k else f"n_{{{self.letter}{layer - self.k:+d}}}"

    def layer(self, node: Node) -> int:
        """The layer of a node as a number."""
        return {"k": self.k, "L": self.last, "": 0}[node.base] + node.shift


@dataclass(frozen=True)
class Setting:
    """What the networks are chosen by. loss terms matter with_loss; last: the one f; layer: the one k, 0 for all."""

    layout: str
    losses: tuple[str, ...]
    reductions: tuple[str, ...]
    with_loss: bool
    last: str
    layer: int
    depth: int = 3
    one_sample: bool = False
    hidden: bool = False
    letter: str = "k"  # what the layer is called
    f_above: int = 0  # the activation that the facts are about is that of layer k + f_above
    seed: int = 0


@cache
def cases(setting: Setting) -> tuple[tuple[Case, ...], ...]:
    """Groups of cases that differ only in what they are about: shapes within a group, activations and losses across."""
    rng = np.random.default_rng(setting.seed)
    depth = setting.depth
    chosen: list[tuple[tuple[str, ...], str, str]] = []
    if setting.with_loss:
        insides = HIDDEN if setting.hidden else HIDDEN[:1]
        for loss, reduction, inside in itertools.product(setting.losses, setting.reductions, insides):
            for f in (setting.last,) if setting.last else OUTPUTS[loss]:
                hidden = tuple(inside[i % len(inside)] for i in range(depth - 1))
                chosen.append(((*hidden, f), loss, reduction))
    else:
        mixes = ((setting.last,),) if setting.last else MIXES
        loss = setting.losses[0] if setting.losses[0] in ("sse", "half_sse") else "sse"
        chosen = [(tuple(mix[i % len(mix)] for i in range(depth)), loss, setting.reductions[0]) for mix in mixes]
    return tuple(
        tuple(
            itertools.chain.from_iterable(_network(setting, rng, widths[: depth + 1], n, *how) for widths, n in SHAPES)
        )
        for how in chosen
    )


def _network(
    setting: Setting, rng: np.random.Generator, sizes: tuple[int, ...], n: int, mix: tuple[str, ...], loss: str,
    reduction: str,
) -> list[Case]:  # fmt: skip
    n = 1 if setting.one_sample else n
    net = MLP(sizes, mix, loss, reduction, setting.layout)
    shape = LAYOUTS[setting.layout].shape
    for k in range(1, len(sizes)):
        net.W[k] = rng.uniform(0.3, 1.2, shape(sizes[k - 1], sizes[k])) * rng.choice([-1.0, 1.0])
        net.W[k] *= rng.choice([-1.0, 1.0], net.W[k].shape)
        net.b[k] = rng.uniform(-0.5, 0.5, shape(1, sizes[k]))
    X = rng.normal(size=(n, sizes[0]))
    y = rng.uniform(0.1, 0.9, (n, sizes[-1]))
    if loss == "ce":
        y /= y.sum(axis=1, keepdims=True)
    X, y = (X, y) if setting.layout == "row" else (X.T.copy(), y.T.copy())
    net.forward(X)
    net.backward(y)
    return [
        Case(net, y, k, _facts(net, n, k, setting.f_above), setting.letter)
        for k in ([setting.layer] if setting.layer else range(1, len(sizes)))
    ]


def _facts(net: MLP, n: int, k: int, f_above: int) -> frozenset[str]:
    last, sizes = k == len(net.sizes) - 1, net.sizes
    f = net.activations[min(max(k + f_above, 1), len(sizes) - 1) - 1]
    facts = {
        "n = 1": n == 1,
        "elementwise": f != "softmax",
        "equal": sizes[k] == sizes[k - 1],
        "ones": sizes[k] == sizes[k - 1] == 1,
        "last": last,
        f"{net.activations[-1]} + {net.loss}": True,
        f"f = {f}": True,
        f"loss = {net.loss}": True,
        f"reduction = {net.reduction}": True,
        f"hidden = {net.activations[0]}": len(set(net.activations[:-1])) == 1,
    }
    return frozenset(name for name, holds in facts.items() if holds and name in CONDITIONS)


# ---------------------------------------------------------------- what a part amounts to
def value(node: Node, case: Case) -> Any:
    """The number or matrix that a part of a formula stands for. Raises Misfit or NoLayer."""
    if node.kind == "number":
        return node.value
    if node.kind == "size":
        return float(case.n if node.value == "n" else case.net.sizes[-1])
    if node.kind == "name":
        return _arranged(look(node, case), node, case)
    return _OPERATIONS[node.kind](node, case, *(value(part, case) for part in node.parts))


def look(node: Node, case: Case) -> Array:
    """The true quantity of a name, as a matrix."""
    given = {"y": case.y, "yhat": case.net.a[-1], "x": case.net.a[0]}
    if node.value in given:
        return np.asarray(given[node.value])
    layer = case.layer(node)
    lowest = 0 if node.value in ("a", "da") else 1
    if not lowest <= layer <= case.last:
        raise NoLayer
    return np.asarray(getattr(case.net, node.value)[layer])


def truth(left: Node, case: Case) -> Array:
    """The true quantity on the left, arranged by its letters as the right side is."""
    return _arranged(look(left, case), left, case)


def _arranged(x: Array, node: Node, case: Case) -> Array:
    """With an axis for every letter, so that NumPy's broadcasting is what an index formula means."""
    if not node.units:
        return x
    matrix = node.value in ("W", "dW")
    if len(node.units) != 1 + matrix or len(set(node.units)) != len(node.units):
        raise Misfit(node, f": {node.value} has {'two different letters' if matrix else 'one letter'}")
    axes = [UNITS.index(letter) for letter in node.units]
    x = x if matrix else x.ravel()
    if axes != sorted(axes):
        x = x.T
    shape = [1] * len(UNITS)
    for axis, size in zip(sorted(axes), x.shape, strict=True):
        shape[axis] = size
    return x.reshape(shape)


def shape_text(x: Any, case: Case) -> str:
    """A shape in the names of the widths: n_k x n_{k-1}."""
    if not np.ndim(x):
        return "a number"
    if np.ndim(x) > 2:
        letters = [f"{letter} ({size})" for letter, size in zip(UNITS, np.shape(x), strict=True) if size != 1]
        return f"one for each {' and '.join(letters)}" if letters else "a number"
    names = {case.n: "n"}
    for layer in sorted(range(case.last + 1), key=lambda layer: abs(layer - case.k)):
        names.setdefault(case.net.sizes[layer], case.width(layer))
    for one, other in itertools.combinations_with_replacement(list(names), 2):
        names.setdefault(one * other, f"{names[one]}*{names[other]}")
    return " x ".join(names.get(size, str(size)) if size != 1 else "1" for size in np.shape(x))


def _binary(operation: Callable[[Any, Any], Any], words: str) -> Callable[..., Any]:
    def run(node: Node, case: Case, left: Any, right: Any) -> Any:
        if words == "multiplies" and (not np.ndim(left) or not np.ndim(right)):
            raise Misfit(node, ": the matrix product needs two matrices; for a number write *")
        try:
            return operation(left, right)
        except ValueError:
            shapes = f"{shape_text(left, case)} and {shape_text(right, case)}"
            raise Misfit(node, f" {words} {shapes}, which do not go together") from None

    return run


def _reduce(operation: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Node, case: Case, x: Any) -> Any:
        if not np.ndim(x):
            raise Misfit(node, ": there is no axis in a number")
        units = LAYOUTS[case.net.layout].units
        axis = {None: None, "samples": 1 - units, "units": units}[node.value]
        return operation(x, axis=axis, keepdims=True)

    return run


def _over(node: Node, case: Case, x: Any) -> Any:
    axis = UNITS.index(node.value)
    if not any(node.value in part.units for part in _inside(node)):
        raise Misfit(node, f": nothing under \\sum_{node.value} has the letter {node.value}")
    return np.sum(x, axis=axis, keepdims=True)


def _inside(node: Node) -> list[Node]:
    """The parts under a sum whose letters are its own: not those that an inner sum has bound."""
    found = []
    for part in node.parts:
        found.append(part)
        if not (part.kind == "over" and part.value == node.value):
            found += _inside(part)
    return found


def _apply(node: Node, case: Case, x: Any) -> Any:
    layer = case.layer(node)
    if not 1 <= layer <= case.last:
        raise NoLayer
    return _activated(case.net.activations[layer - 1], node.kind == "f'", x, case)


def _activated(which: str, derivative: bool, x: Any, case: Case) -> Any:
    x = np.atleast_2d(x)
    # in an index formula the units lie along the axis of their letter
    units = LAYOUTS[case.net.layout].units if x.ndim == 2 else int(np.argmax(x.shape))
    f = ACTIVATIONS[which]
    if not derivative:
        return f.value(x, units)
    if isinstance(f, Elementwise):
        return f.derivative(x)
    p = f.value(x, units)
    return p * (1.0 - p)  # the diagonal of the Jacobian: all that an elementwise f' can be


def _call(node: Node, case: Case, x: Any) -> Any:
    which = node.value.removesuffix("'")
    return _activated(which, which != node.value, x, case) if which in ACTIVATIONS else getattr(np, which)(x)


def _diagonal(node: Node, case: Case, x: Any) -> Any:
    if np.ndim(x) and case.n != 1 and max(np.shape(x)) > 1 and min(np.shape(x)) > 1:
        raise Misfit(node, f": diag makes a matrix of one sample, here are {case.n}")
    return np.diag(np.ravel(x))


def _outer(node: Node, case: Case, x: Any, y: Any) -> Any:
    if np.size(x) * np.size(y) > LARGEST:
        raise Misfit(node, " is too large: outer takes two vectors")
    return np.outer(x, y)


def _extent(node: Node, case: Case, x: Any) -> Any:
    if node.value >= np.ndim(x):
        raise Misfit(node, ": there is no such axis in a number")
    return float(np.shape(x)[node.value])


def _ones(node: Node, case: Case, x: Any) -> Any:
    if np.ndim(x) or not 1 <= x <= LARGEST:
        raise Misfit(node, ": ones takes how many there are")
    return np.ones((int(x), 1))


def _where(node: Node, case: Case, chosen: Any, x: Any, y: Any) -> Any:
    try:
        return np.where(chosen, x, y)
    except ValueError:
        raise Misfit(node, " chooses between shapes which do not go together") from None


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _binary(lambda a, b: a + b, "adds"),
    "sub": _binary(lambda a, b: a - b, "subtracts"),
    "times": _binary(lambda a, b: a * b, "pairs the elements of"),
    "div": _binary(lambda a, b: np.divide(a, b), "divides"),
    "matmul": _binary(lambda a, b: a @ b, "multiplies"),
    "greater": _binary(lambda a, b: np.float64(1.0) * (a > b), "compares"),
    "less": _binary(lambda a, b: np.float64(1.0) * (a < b), "compares"),
    "maximum": _binary(lambda a, b: np.maximum(a, b), "compares"),
    "neg": lambda node, case, x: -x,
    "pow": lambda node, case, x: np.power(x, node.value),
    "transpose": lambda node, case, x: np.transpose(x),
    "outer": _outer,
    "sum": _reduce(np.sum),
    "mean": _reduce(np.mean),
    "over": _over,
    "diag": _diagonal,
    "ones": _ones,
    "extent": _extent,
    "where": _where,
    "f": _apply,
    "f'": _apply,
    "call": _call,
}


def is_right(left: Node, right: Node, case: Case) -> bool | None:
    """Whether the formula gives the truth here; None where an index points outside or the truth is all zero."""
    try:
        true = truth(left, case)
        if not np.any(true):
            return None  # a dead unit: anything times 0 is right
        found = value(right, case)
    except NoLayer:
        return None
    except Misfit:
        return False
    return bool(np.shape(found) == true.shape and np.max(abs(found - true)) <= DIGITS * np.max(abs(true)))


def misfit(left: Node, right: Node, group: tuple[Case, ...], write: Callable[[Node], str]) -> str:
    """What is wrong with the shapes in general, or ""."""
    for case in group:
        try:
            true, found = truth(left, case), value(right, case)
        except Misfit as trouble:
            return write(trouble.node) + trouble.words
        except NoLayer:
            continue
        if np.shape(found) != true.shape:
            return f"the formula gives {shape_text(found, case)}, {write(left)} is {shape_text(true, case)}"
    return ""
