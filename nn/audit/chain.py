"""A recorded network that is a chain of affine layers, as a Case whose activations and loss need no name.

z_k = a_{k-1} W_k + b_k, a_k = f_k(z_k), a loss of y and yhat alone, and no other path from a parameter to the loss:
this is a described network but for the names of f_k and of the loss. Glossary as in nn.by_hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import Tensor, operations
from autodiff.graph import order
from nn.audit import own_functions
from nn.audit.claims import Case, case
from nn.audit.own_functions import uneven, within
from nn.audit.own_model import Own, Runs
from nn.audit.protocol import Unknown
from nn.by_hand import ACTIVATIONS, LOSSES, REDUCTIONS

MOVING = (
    operations.reshape, operations.transpose, operations.broadcast_to, operations.index, operations.astype,
)  # fmt: skip
PRODUCTS = (operations.matmul, operations.einsum)
SAME = 1e-10  # of two ways to compute one function: more than rounding, less than an epsilon that somebody adds


class NoChain(Exception):
    """Why the network is none."""


@dataclass
class Layer:
    """An affine layer as it was recorded: a_{k-1}, W_k and z_k in the row layout.

    turned: of each of "a", "W" and "z", whether the model's own is the transpose.
    """

    a: Any
    W: Any
    z: Any
    turned: dict[str, bool]


@dataclass
class Chain:
    """The layers, what stands between them (names, or objects), and the loss; arrays in the row layout."""

    own: Own
    layers: list[Layer]
    functions: list[Any]
    loss: Any
    reductions: tuple[str, ...]  # what the loss may be divided by
    y: Any
    yhat: Any

    def cases(self, claims: Mapping[str, Any]) -> Iterator[Case]:
        """The claims on this network, for every reduction that the loss may have."""
        columns = self.layers[0].turned["z"]
        turn = np.transpose if columns else np.asarray
        X = self.layers[0].a
        weights = [w.T if layer.turned["W"] else w for w, layer in zip(self.own.W, self.layers, strict=True)]
        for reduction in self.reductions:
            loss = self.loss
            if isinstance(loss, own_functions.Loss):
                loss = loss.times(REDUCTIONS[reduction](*self.y.shape))
            yield case(
                sizes=[X.shape[1], *(layer.W.shape[1] for layer in self.layers)], activations=self.functions,
                loss=loss, reduction=reduction, layout="column" if columns else "row", W=[turn(w) for w in weights],
                b=[turn(bias.reshape(1, -1)) for bias in self.own.b], X=turn(X), y=turn(self.y),
                claims={name: self._laid_out(name, claim, columns) for name, claim in claims.items()},
            )  # fmt: skip

    def is_recorded(self) -> bool:
        """Whether the functions without a name change as their graphs tell."""
        pairs = zip(self.functions, self.layers, strict=True)
        activations = all(isinstance(f, str) or f.is_recorded(layer.z) for f, layer in pairs)
        return activations and (isinstance(self.loss, str) or self.loss.is_recorded(self.y, self.yhat))

    def as_stored(self, name: str, array: Any) -> Any:
        """An array of a parameter, W1 or b1, in the row layout as the model stores that."""
        k = int(name[1:]) - 1
        if name[0] == "b":
            return array.reshape(self.own.b[k].shape)
        return array.T if self.layers[k].turned["W"] else array

    def _laid_out(self, name: str, claim: Any, columns: bool) -> Any:
        """A claim as the layout of the samples has it: a model may store W, and so dW, the other way round."""
        k = int(name.lstrip("dWbaz"))
        if name.startswith("dW") and claim.ndim == 2 and self.layers[k - 1].turned["W"] != columns:
            return claim.T
        units = self.own.b[k - 1].size if k else 0
        if name.startswith("db") and claim.size == units and [n for n in claim.shape if n != 1] in ([], [units]):
            return claim.reshape((-1, 1) if columns else (1, -1))
        return claim


def layout_of(own: Own) -> str | None:
    """The layout in which the model's forward pass takes X, by what it does with it; None where it is no chain."""
    try:
        layers, _, _ = _recorded_layers(own, Runs(own))
    except (Unknown, ValueError, NoChain):
        return None
    return "column" if layers[0].turned["z"] else "row"


def chain(own: Own) -> Chain:
    """The model as a chain; NoChain where it is none."""
    if len(own.b) != len(own.W) or own.X.ndim != 2:
        raise NoChain("it has no bias in every layer")
    runs = Runs(own)
    try:
        layers, out, X = _recorded_layers(own, runs)
        functions = []
        for k, layer in enumerate(layers, start=1):
            turned = layer.turned["z"], _turned_after(layers, k)
            f = own_functions.activation(_run(runs, X, k, layers), turned, layer.z)
            functions.append(_named(f, layer.z, layers[k].a if k < len(layers) else out))
        loss, reductions, y = _loss(own, out, layers[0].turned["z"])
    except (Unknown, ValueError) as error:
        raise NoChain(str(error)) from None
    return Chain(own, layers, functions, loss, reductions, y, out)


def _recorded_layers(own: Own, runs: Runs) -> tuple[list[Layer], Any, Any]:
    """(the layers, yhat in the row layout, X as it was handed in)."""
    if len(own.b) != len(own.W) or own.X.ndim != 2:
        raise NoChain("it has no bias in every layer")
    reason = NoChain("")
    for X in (own.X.copy(), Tensor(own.X.copy(), name="X")):  # an array's own method, X.dot(W), does not see nodes
        try:
            return *_layers(own, runs, X), X
        except (Unknown, ValueError, NoChain) as error:
            reason = NoChain(str(error))
    raise reason


def _layers(own: Own, runs: Runs, X: Any) -> tuple[list[Layer], Any]:
    """(the layers, yhat in the row layout) of the forward pass on X."""
    leaves = {name: Tensor(array, name=name) for name, array in runs.stored.items()}
    yhat = runs(leaves, X)
    if not isinstance(yhat, Tensor) or yhat.ndim != 2 or not runs.holds(leaves):
        raise NoChain("its output is no node")
    children = _children(order(yhat))
    ways: list[list[Layer]] = []
    before: Any = None  # the node z of the layer before
    for k in range(1, len(own.W) + 1):
        readings, a, z = _layer(children, leaves[f"W{k}"], leaves[f"b{k}"])
        _depends_only(a, before, k)
        ways.append(readings)
        before = z
    _depends_only(yhat, before, len(own.W) + 1)
    for columns in (False, True):  # a layer of one unit on one sample can be read either way
        layers = [[layer for layer in readings if layer.turned["z"] == columns] for readings in ways]
        if all(layers) and yhat.shape == before.shape:
            return [readings[0] for readings in layers], yhat.data.T if columns else yhat.data
    raise NoChain("its layers are not laid out alike")


# --- the affine layers --------------------------------------------------------------------------------------------


def _children(nodes: Sequence[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {node: [] for node in nodes}
    for node in nodes:
        for parent in node.parents:
            found[parent].append(node)
    return found


def _moved(children: Mapping[Any, list[Any]], node: Any) -> tuple[Any, Any]:
    """(the only operation that uses a node, turned or reshaped as it may be first; the node as that uses it)."""
    while True:
        users = children.get(node, [])
        if len(users) != 1:
            raise NoChain(f"{node.name or 'a node'} is used {len(users)} times")
        if users[0].op not in MOVING:
            return users[0], node
        node = users[0]


def other_factor(nodes: Sequence[Any], W: Any) -> Any:
    """What W is multiplied with, in the only product that it is a factor of; None where it is in none or in several."""
    try:
        product, as_used = _moved(_children(nodes), W)
    except NoChain:
        return None
    others = [x for x in product.operands if x is not as_used]
    return others[0] if product.op in PRODUCTS and len(others) == 1 else None


def _layer(children: Mapping[Any, list[Any]], W: Any, b: Any) -> tuple[list[Layer], Any, Any]:
    """(the ways to read the layer, the operand a_{k-1}, the node z_k)."""
    product, as_used = _moved(children, W)
    if product.op not in PRODUCTS or len(product.operands) != 2:
        raise NoChain(f"{W.name} is no factor of a matrix product")
    (a,) = (x for x in product.operands if x is not as_used)
    z, _ = _moved(children, product)
    biased, _ = _moved(children, b)
    if z is not biased or z.op is None or z.op.name != "add" or z.ndim != 2:
        raise NoChain(f"{b.name} is not added to the product with {W.name}")
    return _oriented(data_of(a), W.data, data_of(product), z.data, b.data), a, z


def data_of(x: Any) -> Any:
    """The array of a node, or the constant itself."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)


def _oriented(a: Any, W: Any, product: Any, z: Any, b: Any) -> list[Layer]:
    """The layer in the row layout, by its numbers: which way round is a W + b = z?"""
    found = []
    if a.ndim != 2 or W.ndim != 2 or product.ndim != 2:
        raise NoChain("it does not multiply matrices")
    for ta, tW, tp, tz in itertools.product((False, True), repeat=4):
        one, other = (a.T if ta else a), (W.T if tW else W)
        p, total = (product.T if tp else product), (z.T if tz else z)
        if one.shape[1] != other.shape[0] or p.shape != (one.shape[0], other.shape[1]) or p.shape != total.shape:
            continue
        if b.size == p.shape[1] and _alike(one @ other, p) and _alike(p + b.reshape(1, -1), total):
            found.append(Layer(one, other, total, {"a": ta, "W": tW, "z": tz}))
    if not found:
        raise NoChain("it is no matrix product plus a bias")
    return found


def _alike(one: Any, other: Any, loose: float = SAME, floor: float = 0.0) -> bool:
    """Whether two arrays are the same but for rounding: relative to the largest element, or below the floor."""
    with np.errstate(all="ignore"):
        size = float(np.max(np.abs(other), initial=0.0, where=np.isfinite(other)))
        eps = max(float(np.finfo(x.dtype).eps) if x.dtype.kind == "f" else 0.0 for x in (one, other))
        near = np.abs(one - other) <= max(loose, 1e3 * eps) * size + floor
    return bool(one.shape == other.shape and (near | (one == other) | (np.isnan(one) & np.isnan(other))).all())


def _depends_only(a: Any, z: Any, k: int) -> None:
    """NoChain where a parameter reaches a_{k-1} by another way than through z_{k-1}."""
    waiting, seen = [a] if isinstance(a, Tensor) else [], set()
    through = z is None
    for node in waiting:
        if node is z:
            through = True
            continue
        if node in seen:
            continue
        seen.add(node)
        if node.op is None and (node.name or "")[:1] in ("W", "b"):
            raise NoChain(f"{node.name} reaches layer {k} by another way than through the layers between")
        waiting += node.parents
    if not through:
        raise NoChain(f"layer {k} does not depend on the layer before")


# --- what stands between them -------------------------------------------------------------------------------------


def _turned_after(layers: Sequence[Layer], k: int) -> bool:
    """Whether the model keeps a_k with samples in columns; yhat is laid out as z is."""
    return layers[k].turned["a"] if k < len(layers) else layers[-1].turned["z"]


def _run(runs: Runs, X: Any, k: int, layers: Sequence[Layer]) -> own_functions.Run:
    """z_k -> (the leaf z_k, the node a_k): z_k stands in the place of b_k, and zeros in that of W_k."""
    zeros = np.zeros(runs.stored[f"W{k}"].shape)

    def run(z: Any) -> tuple[Any, Any]:
        leaf = Tensor(np.array(z.T if layers[k - 1].turned["z"] else z, dtype=float), name=f"b{k}")
        given = {f"W{k}": zeros, f"b{k}": leaf}
        if k == len(layers):
            try:
                return leaf, _node(runs(given, X))
            except Unknown as unknown:
                raise ValueError(str(unknown)) from None
        given[f"W{k + 1}"] = after = Tensor(runs.stored[f"W{k + 1}"], name=f"W{k + 1}")
        try:
            nodes = order(_node(runs(given, X)))
        except Unknown as unknown:
            raise ValueError(str(unknown)) from None
        return leaf, _node(other_factor(nodes, after))

    return run


def _node(x: Any) -> Any:
    if not isinstance(x, Tensor):
        raise ValueError("it is no node")
    return x


def _named(f: own_functions.Activation, z: Any, a: Any) -> Any:
    """The name of the activation, or the activation itself; NoChain where running it again gives another a."""
    if not _alike(f.value(z, 1), a):
        raise NoChain("an activation gives other numbers when it is run again")
    weights = uneven(z.shape)
    points = (z, *within(z))
    values = [f.value(at, 1) for at in points]
    pulls = [f.pullback(at, weights, 1) for at in points]
    # where a function is saturated, a plain formula leaves but rounding of a derivative that is smaller
    floor = 256 * float(np.finfo(float).eps) * max(float(np.abs(x).max()) for x in (*values, *pulls))
    for name, known in ACTIVATIONS.items():
        with np.errstate(all="ignore"):
            same = all(_alike(known.value(at, 1), value) for at, value in zip(points, values, strict=True)) and all(
                _alike(known.pullback(at, weights, 1), pull, SAME, floor)
                for at, pull in zip(points, pulls, strict=True)
            )
        if same:
            return name
    return f


# --- the loss -----------------------------------------------------------------------------------------------------


def _loss(own: Own, yhat: Any, columns: bool) -> tuple[Any, tuple[str, ...], Any]:
    """(its name or the loss itself, the reductions that it may have, y in the row layout)."""
    y, labels = _targets(own.y, yhat, columns)
    found = own_functions.Loss(own.loss, columns, 1.0, labels)
    right = found.derivative(y, yhat)
    if own.named is not None:
        name, reduction = own.named
        with np.errstate(all="ignore"):
            known = LOSSES[name].derivative(y, yhat) / REDUCTIONS[reduction](*yhat.shape)
        if _alike(np.where(np.isfinite(right), known, right), right):
            return name, (reduction,), y
    return found, _reductions(found, y, yhat), y


def _targets(y: Any, yhat: Any, columns: bool) -> tuple[Any, Any]:
    """(y in the row layout, None), or (one class of m per sample, the numbers of the classes as they were given)."""
    turned = y.T if columns else y
    if turned.shape == yhat.shape and y.dtype.kind in "fiub":
        return np.array(turned, dtype=float), None
    classes = np.asarray(y).ravel()
    whole = classes.dtype.kind in "iu" or (classes.dtype.kind == "f" and (classes == np.rint(classes)).all())
    if whole and classes.size == len(yhat) and classes.min() >= 0 and classes.max() < yhat.shape[1]:
        return np.eye(yhat.shape[1])[classes.astype(int)], np.asarray(y)
    raise NoChain(f"y has the shape {y.shape}, the output {yhat.shape}")


def _reductions(loss: own_functions.Loss, y: Any, yhat: Any) -> tuple[str, ...]:
    """What a loss divides by, told by how its value grows with the batch; all where it takes no other batch."""
    twice = [_growth(loss, y, yhat, axis) for axis in (0, 1)]
    if twice[0] == 2.0:
        return ("sum",)
    if twice[0] == 1.0:
        return ("mean_elements",) if twice[1] == 1.0 and yhat.shape[1] > 1 else ("mean",)
    return tuple(REDUCTIONS)


def _growth(loss: own_functions.Loss, y: Any, yhat: Any, axis: int) -> float | None:
    """1.0 or 2.0: what becomes of the loss when every sample (axis 0) or every output (axis 1) is there twice."""
    if axis == 1 and loss.labels is not None:
        return None
    double = [np.concatenate([x, x], axis=axis) for x in (y, yhat)]
    try:
        with np.errstate(all="ignore"):
            once, both = (
                float(np.asarray(loss.called(one, other.T if loss.turned else other)).item())
                for one, other in ((y, yhat), double)
            )
    except (ValueError, TypeError):
        return None
    near = [factor for factor in (1.0, 2.0) if abs(both - factor * once) <= 1e-9 * abs(once)]
    return near[0] if near and once else None
