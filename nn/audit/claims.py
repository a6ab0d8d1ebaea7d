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
UNNAMED = ""  # an activation or a loss that is none of the tables
ALIASES = {"yhat": "a{L}", "dyhat": "da{L}"}


@dataclass
class Case:
    """A network on a batch, with claims. All arrays are float64 in the row layout; lists have None at [0].

    n: samples; m: outputs; eps: the rounding unit of the coarsest precision that came in. wrong_shapes: {name: what
    came and what was expected}; those claims are left out. turned: the claims whose transpose has the right shape; they
    are turned back.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]  # of layers 1..L, at [0..L-1]; UNNAMED for one that is none of the table
    functions: tuple[Any, ...]  # the activations themselves, as in nn.by_hand.ACTIVATIONS
    loss: str  # UNNAMED for one that is none of the table
    objective: Any  # the loss itself, as in nn.by_hand.LOSSES
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
    activations: Sequence[Any] | str,
    loss: Any,
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
    """The Case of these arguments; ValueError or TypeError, naming the argument, where they do not fit.

    An activation is a name, or an object as in nn.by_hand.ACTIVATIONS; the loss likewise.
    """
    widths = check_sizes(sizes)
    L = len(widths) - 1
    listed = (activations,) * L if isinstance(activations, str) else tuple(activations)
    if len(listed) != L:
        raise ValueError(f"activations has {len(listed)} names for {L} layers")
    names, functions = zip(*(_named("activation", f, "value", ACTIVATIONS) for f in listed), strict=True)
    loss, objective = _named("loss", loss, "derivative", LOSSES)
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
            found[kind, k] = given.matrix(name, claim, layout, rows, columns, claimed=True)
        except ValueError as error:
            try:
                found[kind, k] = given.matrix(name, np.asarray(claim).T, layout, rows, columns, claimed=True)
                turned[kind, k] = str(error)
            except ValueError:
                wrong[f"{kind}{k}"] = (kind, k, str(error), claim)
    before = None
    if previous is not None:
        X0 = given.matrix("previous X", previous[0], layout, None, widths[0])
        before = (X0, given.matrix("previous y", previous[1], layout, X0.shape[0], widths[-1]))
    sign = -1.0 if direction == "descent" else 1.0
    return Case(
        widths, names, functions, loss, objective, reduction, sign, weights, biases, inputs, targets, found,
        float(given.kind.eps), float(given.kind.tiny), layout, before, learning_rate, loss_value, wrong, turned,
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
        self._kinds: list[Any] = [np.finfo(float)]
        self._parts = self._filled = 0

    def meets(self, array: Any, claimed: bool = False) -> None:
        """Takes note of the precision of an array; claims may be of a lower one than their type tells."""
        if array.dtype.kind == "f":
            self._kinds.append(np.finfo(array.dtype))
        if claimed:
            parts, filled = single_digits(array)
            self._parts, self._filled = self._parts + parts, self._filled + filled

    @property
    def kind(self) -> Any:
        """np.finfo of the coarsest type that came, or that numbers were rounded to before."""
        if self._filled >= max(2, 0.6 * self._parts):
            self._kinds.append(np.finfo(np.float32))
        return max(self._kinds, key=lambda kind: float(kind.eps))

    def matrix(self, name: str, value: Any, layout: str, rows: int | None, columns: int, claimed: bool = False) -> Any:
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
        self.meets(array, claimed)
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


def single_digits(array: Any) -> tuple[int, int]:
    """(how many numbers of float64 are fractions, how many of these fill float32) if all fit into float32, else (0, 0).

    Most of those that were computed in float32 fill it. Whole numbers, short fractions such as 0.375, and differences
    of nearly equal numbers fit without that.

    >>> tenths = np.array([0.1, 0.2, 0.3])
    >>> single_digits(tenths), single_digits(tenths.astype(np.float32).astype(float))
    ((0, 0), (3, 3))
    """
    if array.dtype != np.float64:
        return 0, 0
    numbers = array[np.isfinite(array)]
    with np.errstate(all="ignore"):
        if not (numbers.astype(np.float32) == numbers).all():
            return 0, 0
    parts = numbers[numbers != np.rint(numbers)]
    digits = np.frexp(parts)[0] * 2.0**20
    return int(parts.size), int((digits != np.rint(digits)).sum())


def _per_layer(name: str, arrays: Sequence[Any], L: int) -> list[Any]:
    listed = list(arrays)
    if len(listed) == L + 1 and listed[0] is None:
        listed = listed[1:]
    if len(listed) != L:
        raise ValueError(f"{name} is a list of {L} arrays, one per layer, got {len(listed)}")
    return listed


def _named(what: str, given: Any, method: str, known: Mapping[str, Any]) -> tuple[str, Any]:
    """(name, object) of an activation or a loss, by its name or as it stands."""
    if hasattr(given, method):
        return UNNAMED, given
    _known(what, given, known)
    return given, known[given]


def _known(what: str, name: Any, known: Any) -> None:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
