"""What is declared and what is claimed: the network, the batch and the claims, checked, in the row layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nn.by_hand import ACTIVATIONS, LOSSES, REDUCTIONS
from nn.initializers import check_sizes

NAME = re.compile(r"(z|a|da|dz|dW|db)_?(\d+)")
ALIASES = {"yhat": "a{L}", "dyhat": "da{L}"}


@dataclass
class Case:
    """A network on a batch, with claims. All arrays are float64 in the row layout; lists have None at [0].

    n: samples; m: outputs; eps: the rounding unit of the coarsest precision that came in. wrong_shapes: {name: what
    came and what was expected}; those claims are left out. turned: the claims whose transpose has the right shape; they
    are turned back.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]  # of layers 1..L, at [0..L-1]
    loss: str
    reduction: str | None
    sign: float
    W: list[Any]
    b: list[Any]
    X: Any
    y: Any
    claims: dict[tuple[str, int], Any]
    eps: float
    tiny: float  # the smallest normal number of that precision: below it digits are lost
    layout: str
    previous: tuple[Any, Any] | None = None
    learning_rate: float | None = None
    loss_value: float | None = None
    wrong_shapes: dict[str, tuple[str, int, str, Any]] = field(default_factory=dict)
    turned: dict[tuple[str, int], str] = field(default_factory=dict)  # what is said of claims that came transposed

    @property
    def L(self) -> int:
        """The number of layers."""
        return len(self.sizes) - 1

    @property
    def n(self) -> int:
        """The number of samples."""
        return int(self.X.shape[0])

    @property
    def m(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]


def case(
    *,
    sizes: Sequence[int],
    activations: Sequence[str] | str,
    loss: str,
    reduction: str | None,
    layout: str,
    W: Sequence[Any],
    b: Sequence[Any],
    X: Any,
    y: Any,
    claims: Mapping[str, Any],
    previous: Any = None,
    learning_rate: float | None = None,
    loss_value: float | None = None,
    direction: str = "ascent",
) -> Case:
    """The Case of these arguments; ValueError or TypeError, naming the argument, where they do not fit."""
    widths = check_sizes(sizes)
    L = len(widths) - 1
    names = (activations,) * L if isinstance(activations, str) else tuple(activations)
    if len(names) != L:
        raise ValueError(f"activations has {len(names)} names for {L} layers")
    for name in names:
        _known("activation", name, ACTIVATIONS)
    _known("loss", loss, LOSSES)
    if loss == "mse":
        loss, reduction = "sse", None if reduction is None else "mean_elements"
    if reduction is not None:
        _known("reduction", reduction, REDUCTIONS)
    _known("layout", layout, ("row", "column"))
    _known("direction", direction, ("ascent", "descent"))
    given = Precision()
    inputs = given.matrix("X", X, layout, None, widths[0])
    n = inputs.shape[0]
    targets = given.matrix("y", y, layout, n, widths[-1])
    W, b = _per_layer("W", W, L), _per_layer("b", b, L)
    weights: list[Any] = [None]
    biases: list[Any] = [None]
    for k in range(1, L + 1):
        weights.append(given.matrix(f"W{k}", W[k - 1], layout, widths[k - 1], widths[k]))
        biases.append(given.matrix(f"b{k}", b[k - 1], layout, 1, widths[k]))
    found: dict[tuple[str, int], Any] = {}
    wrong: dict[str, tuple[str, int, str, Any]] = {}
    turned: dict[tuple[str, int], str] = {}
    for name, claim in claims.items():
        kind, k = claim_name(name, L)
        if claim is None:
            continue
        rows, columns = {"dW": (widths[k - 1], widths[k]), "db": (1, widths[k])}.get(kind, (n, widths[k]))
        try:
            found[kind, k] = given.matrix(name, claim, layout, rows, columns)
        except ValueError as error:
            try:
                found[kind, k] = given.matrix(name, np.asarray(claim, float).T, layout, rows, columns)
                turned[kind, k] = str(error)
            except ValueError:
                wrong[f"{kind}{k}"] = (kind, k, str(error), claim)
    before = None
    if previous is not None:
        X0 = given.matrix("previous X", previous[0], layout, None, widths[0])
        before = (X0, given.matrix("previous y", previous[1], layout, X0.shape[0], widths[-1]))
    sign = -1.0 if direction == "descent" else 1.0
    return Case(
        widths, names, loss, reduction, sign, weights, biases, inputs, targets, found, given.eps, given.tiny, layout,
        before, learning_rate, loss_value, wrong, turned,
    )  # fmt: skip


def claim_name(name: str, L: int) -> tuple[str, int]:
    """("dz", 3) for "dz3"; ValueError for what is no quantity of a network of L layers."""
    text = ALIASES.get(name, name).format(L=L) if isinstance(name, str) else str(name)
    match = NAME.fullmatch(text)
    if not match:
        raise ValueError(f"{name!r} is no claim; claims are called z1, a1, da1, dz1, dW1, db1, ... up to layer {L}")
    kind, k = match[1], int(match[2])
    if not (0 if kind in ("a", "da") else 1) <= k <= L:
        raise ValueError(f"{name!r}: the network has the layers 1 to {L}")
    return kind, k


class Precision:
    """Reads arrays as float64 matrices in the row layout, and keeps the coarsest precision that came."""

    def __init__(self) -> None:
        self.eps, self.tiny = float(np.finfo(float).eps), float(np.finfo(float).tiny)

    def matrix(self, name: str, value: Any, layout: str, rows: int | None, columns: int) -> Any:
        """(rows, columns); 1-d where it is not ambiguous. ValueError for another shape, TypeError for no numbers."""
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} is no rectangular array: {error}") from None
        if array.dtype == object:
            try:
                array = array.astype(float)
            except (TypeError, ValueError):
                raise TypeError(f"{name} holds objects, expected real numbers") from None
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} holds {array.dtype}, expected real numbers")
        if array.dtype.kind == "f":
            kind = np.finfo(array.dtype)
            self.eps, self.tiny = max(self.eps, float(kind.eps)), max(self.tiny, float(kind.tiny))
        array = array.astype(float)
        if array.ndim == 1 and (columns == 1 or rows == 1):
            array = array.reshape((-1, 1) if columns == 1 and rows != 1 else (1, -1))
        elif array.ndim == 2 and layout == "column":
            array = array.T
        elif array.ndim == 0 and rows == columns == 1:
            array = array.reshape(1, 1)
        if array.ndim != 2 or array.shape[1] != columns or (rows is not None and array.shape[0] != rows):
            wanted = ("n" if rows is None else rows, columns)
            shape = wanted if layout == "row" else wanted[::-1]
            raise ValueError(f"{name} has the shape {np.shape(value)}, expected ({shape[0]}, {shape[1]})")
        return array


def _per_layer(name: str, arrays: Sequence[Any], L: int) -> list[Any]:
    listed = list(arrays)
    if len(listed) == L + 1 and listed[0] is None:
        listed = listed[1:]
    if len(listed) != L:
        raise ValueError(f"{name} is a list of {L} arrays, one per layer, got {len(listed)}")
    return listed


def _known(what: str, name: Any, known: Any) -> None:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
