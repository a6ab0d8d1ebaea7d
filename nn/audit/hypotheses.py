"""The mistakes the doctor knows, as data: what each makes of a step, in one line.

A Step is one quantity of the backward pass with everything its rule could have been given. make(step) is what the
mistake yields there, or None where it makes no sense (no such operand, shapes that do not fit). The order is that of
preference, where two mistakes yield the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.claims import Case
from nn.audit.rules import Known, Rules
from nn.by_hand import ACTIVATIONS, LOSSES


@dataclass
class Step:
    """One quantity, kind and k, with its right value and what stands around it; arrays in the row layout."""

    case: Case
    rules: Rules
    kind: str
    k: int
    right: Known
    z: list[Any]
    a: list[Any]
    da: Any = None  # dL/da_k, the upstream of dz_k
    dz: Any = None  # dL/dz_k, the upstream of dW_k and db_k
    dz_next: Any = None  # dL/dz_{k+1}, the upstream of da_k
    da_next: Any = None  # dL/da_{k+1}
    others: tuple[Any, ...] = ()  # the dz of other layers that are claimed

    @property
    def name(self) -> str:
        """The activation of layer k."""
        return self.case.activations[self.k - 1]


@dataclass(frozen=True)
class Hypothesis:
    """One mistake at one kind of quantity."""

    at: str
    kind: str
    words: str
    make: Callable[[Step], Any]
    found: str = ""
    factor: str | None = None


def slope_of(name: str, z: Any) -> Any:
    """f'(z) of an elementwise activation."""
    f: Any = ACTIVATIONS[name]
    return f.derivative(z)


ELEMENTWISE = tuple(name for name in ACTIVATIONS if name != "softmax")
# f' written with the output a = f(z)
BY_OUTPUT: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "softplus": lambda a: 1 - np.exp(-a),
}


def _elementwise(step: Step) -> bool:
    return step.name != "softmax" and step.da is not None


def _times(step: Step, slope: Any) -> Any:
    return None if not _elementwise(step) else step.da * slope(step)


def _with_slope(slope: float) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: np.where(s.z[s.k] > 0, 1.0, slope)) if s.name == "leaky_relu" else None


def _of_another(name: str) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: slope_of(name, s.z[s.k])) if s.name != name else None


def _of_another_by_output(name: str) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: BY_OUTPUT[name](s.a[s.k])) if s.name != name else None


# --- dz_k from dL/da_k --------------------------------------------------------------------------------------------

DZ = [
    Hypothesis("dz", "activation-derivative", "the derivative of the activation is missing",
               lambda s: s.da if s.da is not None else None, "dz{k} = da{k}"),
    Hypothesis("dz", "activation-derivative", "the derivative of the activation is taken at a{k} instead of z{k}",
               lambda s: _times(s, lambda s: slope_of(s.name, s.a[s.k])), "dz{k} = da{k} * f'(a{k})"),
    Hypothesis("dz", "activation-derivative",
               "the form of the derivative that takes the output a{k} is given z{k}",
               lambda s: _times(s, lambda s: BY_OUTPUT[s.name](s.z[s.k])) if s.name in BY_OUTPUT else None,
               "dz{k} = da{k} * z{k} * (1 - z{k}), or the like"),
    Hypothesis("dz", "activation-derivative", "the mask of the activation is inverted",
               lambda s: _times(s, lambda s: np.where(s.z[s.k] <= 0, 1.0, slope_of(s.name, np.array(-1.0))))
               if s.name in ("relu", "leaky_relu") else None, "dz{k} = da{k} * (z{k} <= 0)"),
    Hypothesis("dz", "activation-derivative", "the derivative of the activation is squared",
               lambda s: _times(s, lambda s: slope_of(s.name, s.z[s.k]) ** 2), "dz{k} = da{k} * f'(z{k})^2"),
    Hypothesis("dz", "activation-derivative", "a term of the derivative is missing: the factor 1 - a{k}",
               lambda s: _times(s, lambda s: s.a[s.k]) if s.name == "sigmoid" else None, "dz{k} = da{k} * a{k}"),
    Hypothesis("dz", "activation-derivative", "a term of the derivative is missing: the factor a{k}",
               lambda s: _times(s, lambda s: 1 - s.a[s.k]) if s.name == "sigmoid" else None,
               "dz{k} = da{k} * (1 - a{k})"),
    Hypothesis("dz", "activation-derivative", "1 - a instead of 1 - a^2: the square is missing",
               lambda s: _times(s, lambda s: 1 - s.a[s.k]) if s.name == "tanh" else None,
               "dz{k} = da{k} * (1 - a{k})"),
    Hypothesis("dz", "activation-derivative", "the term 1 of 1 - a^2 is missing",
               lambda s: _times(s, lambda s: -s.a[s.k] ** 2) if s.name == "tanh" else None, "dz{k} = -da{k} * a{k}^2"),
    Hypothesis("dz", "activation-derivative", "the slope below 0 is left out",
               lambda s: _times(s, lambda s: 1.0 * (s.z[s.k] > 0)) if s.name == "leaky_relu" else None,
               "dz{k} = da{k} * (z{k} > 0)"),
    *(Hypothesis("dz", "activation-derivative", f"the slope below 0 is {slope:g} instead of 0.01", _with_slope(slope))
      for slope in (0.1, 0.2, 0.02, 0.05, 0.001)),
    *(Hypothesis("dz", "activation-derivative", f"it is the derivative of {other}", _of_another(other),
                 f"dz{{k}} = da{{k}} * {other}'(z{{k}})")
      for other in ELEMENTWISE if other != "identity"),
    *(Hypothesis("dz", "activation-derivative", f"it is the derivative of {other}, written with the output",
                 _of_another_by_output(other), f"dz{{k}} = da{{k}} * {other}'(z{{k}}), written with a{{k}}")
      for other in BY_OUTPUT),
    Hypothesis("dz", "softmax-jacobian", "the softmax is treated as if it worked element by element",
               lambda s: s.da * s.a[s.k] * (1 - s.a[s.k]) if s.name == "softmax" and s.da is not None else None,
               "dz{k} = da{k} * a{k} * (1 - a{k})"),
    Hypothesis("dz", "softmax-jacobian", "the sum over the other units is missing in the Jacobian of the softmax",
               lambda s: s.da * s.a[s.k] if s.name == "softmax" and s.da is not None else None, "dz{k} = da{k} * a{k}"),
]  # fmt: skip


# --- dL/dyhat -----------------------------------------------------------------------------------------------------


def _over(step: Step, derivative: Callable[[Any, Any], Any]) -> Any:
    """A claimed form of dL/dyhat, with the sign and the 1/n of the case."""
    with np.errstate(all="ignore"):
        return derivative(step.case.y, step.a[step.case.L]) * step.case.sign / step.rules.count


def _bce(derivative: Callable[[Any, Any], Any]) -> Callable[[Step], Any]:
    return lambda s: _over(s, derivative) if s.case.loss == "bce" else None


def _of_another_loss(name: str) -> Callable[[Step], Any]:
    return lambda s: _over(s, LOSSES[name].derivative) if s.case.loss != name else None


def _shifted(by: int) -> Callable[[Step], Any]:
    def make(s: Step) -> Any:
        if s.case.m == 1:
            return None
        return _over(s, lambda y, p: LOSSES[s.case.loss].derivative(np.roll(y, by, axis=1), p))

    return make


def _with_epsilon(eps: float) -> Callable[[Step], Any]:
    def make(s: Step) -> Any:
        if s.case.loss == "ce":
            return _over(s, lambda y, p: -y / (p + eps))
        return _over(s, lambda y, p: -y / (p + eps) + (1 - y) / (1 - p + eps)) if s.case.loss == "bce" else None

    return make


LOSS = [
    Hypothesis("da", "loss-derivative", "the term of y = 1 is missing", _bce(lambda y, p: (1 - y) / (1 - p)),
               "(1 - y) / (1 - yhat)"),
    Hypothesis("da", "loss-derivative", "the term of y = 0 is missing", _bce(lambda y, p: -y / p), "-y / yhat"),
    Hypothesis("da", "loss-derivative", "the sign of the term of y = 0 is wrong",
               _bce(lambda y, p: -y / p - (1 - y) / (1 - p)), "-y / yhat - (1 - y) / (1 - yhat)"),
    Hypothesis("da", "loss-derivative", "the sign of the term of y = 1 is wrong",
               _bce(lambda y, p: y / p + (1 - y) / (1 - p)), "y / yhat + (1 - y) / (1 - yhat)"),
    Hypothesis("da", "loss-derivative", "prediction and target are swapped",
               lambda s: _over(s, lambda y, p: LOSSES[s.case.loss].derivative(p, y)), "y and yhat swapped"),
    Hypothesis("da", "loss-derivative", "yhat - y is dL/dz of the combined form, not dL/dyhat",
               lambda s: _over(s, lambda y, p: p - y) if s.case.loss in ("bce", "ce") else None, "yhat - y"),
    *(Hypothesis("da", "loss-derivative", f"it is the derivative of {other}", _of_another_loss(other))
      for other in ("sse", "half_sse", "bce", "ce")),
    *(Hypothesis("da", "loss-derivative", "the labels are shifted by one class", _shifted(by)) for by in (1, -1)),
    *(Hypothesis("da", "loss-derivative", f"an epsilon of {eps:g} is added to the denominators", _with_epsilon(eps))
      for eps in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)),
]  # fmt: skip


# --- dL/da_k from dL/dz_{k+1} -------------------------------------------------------------------------------------


def _square(W: Any) -> bool:
    return bool(W.shape[0] == W.shape[1])


def _back(step: Step, dz: Any, W: Any) -> Any:
    return dz @ W.T if dz is not None and dz.shape[1] == W.shape[1] else None


def _updated(step: Step) -> Any:
    rate = step.case.learning_rate
    k = step.k + 1
    if rate is None or step.dz_next is None:
        return None
    moved = step.case.W[k] - rate * (step.a[step.k].T @ step.dz_next)
    return step.dz_next @ moved.T


CHILDREN = [
    Hypothesis("da", "operand", "W{next} is not transposed",
               lambda s: s.dz_next @ s.case.W[s.k + 1] if _square(s.case.W[s.k + 1]) else None,
               "da{k} = dz{next} W{next}"),
    Hypothesis("da", "operand", "da{next} stands in the place of dz{next}",
               lambda s: _back(s, s.da_next, s.case.W[s.k + 1]), "da{k} = da{next} W{next}^T"),
    Hypothesis("da", "operand", "W{next} was already updated", _updated, "da{k} = dz{next} (W{next} - eta dW{next})^T"),
    Hypothesis("da", "child-sum", "only the first child is counted",
               lambda s: s.dz_next[:, :1] @ s.case.W[s.k + 1][:, :1].T),
    Hypothesis("da", "child-sum", "the last child is left out",
               lambda s: s.dz_next[:, :-1] @ s.case.W[s.k + 1][:, :-1].T if s.dz_next.shape[1] > 1 else None),
    Hypothesis("da", "child-sum", "the first child is left out",
               lambda s: s.dz_next[:, 1:] @ s.case.W[s.k + 1][:, 1:].T if s.dz_next.shape[1] > 1 else None),
    Hypothesis("da", "child-sum", "only the last child is counted",
               lambda s: s.dz_next[:, -1:] @ s.case.W[s.k + 1][:, -1:].T),
    Hypothesis("da", "child-sum", "the children are averaged instead of summed",
               lambda s: _back(s, s.dz_next, s.case.W[s.k + 1]) / s.dz_next.shape[1]),
    Hypothesis("da", "child-sum", "the weights enter by their absolute values",
               lambda s: s.dz_next @ np.abs(s.case.W[s.k + 1]).T),
    Hypothesis("da", "child-sum", "the weights are left out", lambda s: np.broadcast_to(
        s.dz_next.sum(axis=1, keepdims=True), s.right.value.shape) * 1.0),
]  # fmt: skip


# --- dW_k and db_k ------------------------------------------------------------------------------------------------


def _outer(left: Any, right: Any) -> Any:
    return left.T @ right if left is not None and right is not None and left.shape[0] == right.shape[0] else None


def _fitting(step: Step, array: Any) -> Any:
    return array if array is not None and array.shape == step.right.value.shape else None


def _previous_a(step: Step) -> Any:
    if step.case.previous is None:
        return None
    a = step.case.previous[0]
    for k in range(1, step.k):
        a = ACTIVATIONS[step.case.activations[k - 1]].value(a @ step.case.W[k] + step.case.b[k], 1)
    return a


WEIGHTS = [
    Hypothesis("dW", "operand", "a{k} stands in the place of a{before}",
               lambda s: _fitting(s, _outer(s.a[s.k], s.dz)), "dW{k} = a{k}^T dz{k}"),
    Hypothesis("dW", "operand", "z{before} stands in the place of a{before}",
               lambda s: _outer(s.z[s.k - 1], s.dz) if s.k > 1 else None, "dW{k} = z{before}^T dz{k}"),
    Hypothesis("dW", "operand", "da{k} stands in the place of dz{k}",
               lambda s: _outer(s.a[s.k - 1], s.da), "dW{k} = a{before}^T da{k}"),
    Hypothesis("dW", "operand", "a{before} is that of the previous batch",
               lambda s: _fitting(s, _outer(_previous_a(s), s.dz)), "dW{k} with the previous batch's a{before}"),
    Hypothesis("dW", "transposed", "dW{k} is transposed",
               lambda s: s.right.value.T if _square(s.right.value) else None,
               "dW{k} = dz{k}^T a{before}"),
    Hypothesis("dW", "batch-sum", "only the first sample counts", lambda s: _outer(s.a[s.k - 1][:1], s.dz[:1])),
    Hypothesis("dW", "batch-sum", "only the last sample counts", lambda s: _outer(s.a[s.k - 1][-1:], s.dz[-1:])),
    Hypothesis("dW", "batch-sum", "the last sample is left out", lambda s: _outer(s.a[s.k - 1][:-1], s.dz[:-1])),
    Hypothesis("dW", "batch-sum", "the first sample is left out", lambda s: _outer(s.a[s.k - 1][1:], s.dz[1:])),
    Hypothesis("dW", "axis", "every row is the sum of the rows", lambda s: np.broadcast_to(
        s.right.value.sum(axis=0, keepdims=True), s.right.value.shape) * 1.0),
    Hypothesis("dW", "axis", "every column is the sum of the columns", lambda s: np.broadcast_to(
        s.right.value.sum(axis=1, keepdims=True), s.right.value.shape) * 1.0),
    Hypothesis("dW", "operand", "a{before} is left out", lambda s: np.broadcast_to(
        s.dz.sum(axis=0, keepdims=True), s.right.value.shape) * 1.0),
]  # fmt: skip
BIASES = [
    Hypothesis("db", "operand", "da{k} stands in the place of dz{k}",
               lambda s: s.da.sum(axis=0, keepdims=True) if s.da is not None else None, "db{k} = sum of da{k}"),
    Hypothesis("db", "batch-sum", "only the first sample counts", lambda s: s.dz[:1]),
    Hypothesis("db", "batch-sum", "only the last sample counts", lambda s: s.dz[-1:]),
    Hypothesis("db", "batch-sum", "the last sample is left out", lambda s: s.dz[:-1].sum(axis=0, keepdims=True)),
    Hypothesis("db", "batch-sum", "the first sample is left out", lambda s: s.dz[1:].sum(axis=0, keepdims=True)),
    Hypothesis("db", "axis", "the sum runs over the units instead of the samples",
               lambda s: _fitting(s, s.dz.sum(axis=1, keepdims=True).T), "db{k} = sum of dz{k} over the units"),
    Hypothesis("db", "axis", "all samples and units are summed", lambda s: np.full(s.right.value.shape, s.dz.sum())),
    Hypothesis("db", "operand", "db{k} is taken from dW{k}: the sum over its rows",
               lambda s: _outer(s.a[s.k - 1], s.dz).sum(axis=0, keepdims=True), "db{k} = column sums of dW{k}"),
    Hypothesis("db", "operand", "db{k} is taken from dW{k}: the mean over its rows",
               lambda s: _outer(s.a[s.k - 1], s.dz).mean(axis=0, keepdims=True), "db{k} = column means of dW{k}"),
]  # fmt: skip


# --- forward ------------------------------------------------------------------------------------------------------


def _another_activation(name: str) -> Callable[[Step], Any]:
    return lambda s: ACTIVATIONS[name].value(s.z[s.k], 1) if name != s.name else None


FORWARD = [
    Hypothesis("z", "forward", "the bias is left out", lambda s: s.right.value - s.case.b[s.k],
               "z{k} = a{before} W{k}"),
    Hypothesis("z", "forward", "the bias enters with the wrong sign", lambda s: s.right.value - 2 * s.case.b[s.k]),
    Hypothesis("z", "forward", "W{k} is transposed", lambda s: s.a[s.k - 1] @ s.case.W[s.k].T + s.case.b[s.k]
               if _square(s.case.W[s.k]) else None, "z{k} = a{before} W{k}^T + b{k}"),
    Hypothesis("z", "forward", "z{before} stands in the place of a{before}",
               lambda s: s.z[s.k - 1] @ s.case.W[s.k] + s.case.b[s.k] if s.k > 1 else None),
    Hypothesis("z", "forward", "the bias is added twice", lambda s: s.right.value + s.case.b[s.k]),
    Hypothesis("a", "forward", "the activation is left out", lambda s: s.z[s.k], "a{k} = z{k}"),
    *(Hypothesis("a", "forward", f"it is {other}", _another_activation(other)) for other in ACTIVATIONS),
]  # fmt: skip


def factors(case: Case, kind: str) -> Iterator[tuple[str, float]]:
    """(name, number) of the factors that have a name, the likeliest first for that kind of quantity."""
    n, m = float(case.n), float(case.m)
    if kind in ("dW", "db"):  # where sums over the samples are made
        yield from (("1/n", 1 / n), ("n", n))
    yield from (
        ("2", 2.0), ("-1", -1.0), ("1/2", 0.5), ("n", n), ("1/n", 1 / n), ("2/n", 2 / n), ("m", m), ("1/m", 1 / m),
        ("n/2", n / 2), ("2n", 2 * n), ("-2", -2.0), ("-1/2", -0.5), ("1/(nm)", 1 / (n * m)), ("nm", n * m), ("-n", -n),
        ("-1/n", -1 / n), ("-2/n", -2 / n), ("n^2", n * n), ("1/n^2", 1 / (n * n)), ("2/m", 2 / m), ("2m", 2 * m),
        ("1/(2n)", 0.5 / n), ("-m", -m), ("-1/m", -1 / m), ("2/(nm)", 2 / (n * m)), ("4", 4.0), ("1/4", 0.25),
        ("3", 3.0), ("10", 10.0), ("1/10", 0.1),
    )  # fmt: skip
