"""The mistakes the doctor knows, as data: what each makes of a step, in one line.

A Step is one quantity of the backward pass with everything its rule could have been given. make(step) is what the
mistake yields there, or None where it makes no sense (no such operand, shapes that do not fit). The order is that of
preference, where two mistakes yield the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
    claim: Any = None  # what is claimed here, where it is
    scale: float = 1.0  # the 1/n that enters at dW and db, where it does
    made: tuple[Any, Any] = (None, None)  # the claimed dW_k and db_k, without that 1/n

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
    rule: str = ""  # what it has in common with the same mistake in other layers, where the words do not tell


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
    found = slope(step) if _elementwise(step) else None
    return None if found is None else step.da * found


def _with_slope(slope: float) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: np.where(s.z[s.k] > 0, 1.0, slope)) if s.name == "leaky_relu" else None


def _softmax(s: Step, form: Callable[[Any, Any], Any]) -> Any:
    return form(s.a[s.k], s.da) if s.name == "softmax" and s.da is not None else None


def previous_dz(s: Step) -> Any:
    """dL/dz_k of the batch before, by the right rules."""
    if s.case.previous is None:
        return None
    z, a = previous_pass(s)
    L, scale = s.case.L, s.case.sign / s.rules.count
    with np.errstate(all="ignore"):
        if (s.case.activations[-1], s.case.loss) in (("sigmoid", "bce"), ("softmax", "ce")):
            dz = (a[L] - s.case.previous[1]) * scale
        else:
            da = LOSSES[s.case.loss].derivative(s.case.previous[1], a[L]) * scale
            dz = ACTIVATIONS[s.case.activations[-1]].pullback(z[L], da, 1)
        for k in range(L - 1, s.k - 1, -1):
            dz = ACTIVATIONS[s.case.activations[k - 1]].pullback(z[k], dz @ s.case.W[k + 1].T, 1)
    return dz * s.scale


def previous_pass(s: Step) -> tuple[list[Any], list[Any]]:
    """(z, a) of the batch before."""
    assert s.case.previous is not None
    z: list[Any] = [None]
    a = [s.case.previous[0]]
    for k in range(1, s.case.L + 1):
        z.append(a[-1] @ s.case.W[k] + s.case.b[k])
        a.append(ACTIVATIONS[s.case.activations[k - 1]].value(z[-1], 1))
    return z, a


def _of_another(name: str) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: slope_of(name, s.z[s.k])) if s.name != name else None


def _of_another_by_output(name: str) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: BY_OUTPUT[name](s.a[s.k])) if s.name != name else None


def _by_output_at_input(name: str) -> Callable[[Step], Any]:
    return lambda s: _times(s, lambda s: BY_OUTPUT[name](s.z[s.k])) if s.name == name else None


# --- dz_k from dL/da_k --------------------------------------------------------------------------------------------

DZ = [
    Hypothesis("dz", "activation-derivative", "the derivative of the activation is missing",
               lambda s: s.da if s.da is not None else None, "dz{k} = da{k}"),
    Hypothesis("dz", "activation-derivative", "the derivative of the activation is taken at a{k} instead of z{k}",
               lambda s: _times(s, lambda s: slope_of(s.name, s.a[s.k])), "dz{k} = da{k} * f'(a{k})"),
    *(Hypothesis("dz", "activation-derivative", "the derivative is written for the output a{k}, but given z{k}",
                 _by_output_at_input(name), "dz{k} = da{k} * " + form)
      for name, form in (("sigmoid", "z{k} * (1 - z{k})"), ("tanh", "(1 - z{k}^2)"),
                         ("softplus", "(1 - exp(-z{k}))"))),
    Hypothesis("dz", "activation-derivative", "the mask is inverted: open where z{k} <= 0",
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
    *(Hypothesis("dz", "activation-derivative", f"it is the derivative of another activation, {other}",
                 _of_another(other), f"dz{{k}} = da{{k}} * {other}'(z{{k}})")
      for other in ELEMENTWISE if other != "identity"),
    *(Hypothesis("dz", "activation-derivative",
                 f"it is the derivative of another activation, {other}, written with the output",
                 _of_another_by_output(other), f"dz{{k}} = da{{k}} * {other}'(z{{k}}), written with a{{k}}")
      for other in BY_OUTPUT),
    Hypothesis("dz", "activation-derivative", "z{k} stands in the place of the derivative",
               lambda s: _times(s, lambda s: s.z[s.k]), "dz{k} = da{k} * z{k}"),
    Hypothesis("dz", "activation-derivative", "the activation stands in the place of its derivative",
               lambda s: _times(s, lambda s: s.a[s.k]), "dz{k} = da{k} * f(z{k})"),
    Hypothesis("dz", "activation-derivative", "a sign is wrong: 1 + a instead of 1 - a",
               lambda s: _times(s, lambda s: s.a[s.k] * (1 + s.a[s.k])) if s.name == "sigmoid" else None,
               "dz{k} = da{k} * a{k} * (1 + a{k})"),
    Hypothesis("dz", "activation-derivative", "a sign is wrong: 1 + a^2 instead of 1 - a^2",
               lambda s: _times(s, lambda s: 1 + s.a[s.k] ** 2) if s.name == "tanh" else None,
               "dz{k} = da{k} * (1 + a{k}^2)"),
    Hypothesis("dz", "activation-derivative", "the derivative is taken at a{before}",
               lambda s: _times(s, lambda s: _fitting(s, slope_of(s.name, s.a[s.k - 1]))),
               "dz{k} = da{k} * f'(a{before})"),
    Hypothesis("dz", "activation-derivative", "the derivative is taken at z{before}",
               lambda s: _times(s, lambda s: _fitting(s, slope_of(s.name, s.z[s.k - 1]))) if s.k > 1 else None,
               "dz{k} = da{k} * f'(z{before})"),
    Hypothesis("dz", "activation-derivative", "the mask is that of da{k}, not of z{k}",
               lambda s: s.da * (s.da > 0) if s.da is not None else None, "dz{k} = da{k} * (da{k} > 0)"),
    Hypothesis("dz", "activation-derivative", "the term 1 of 1 - a^2 is missing, and its sign",
               lambda s: _times(s, lambda s: s.a[s.k] ** 2) if s.name == "tanh" else None, "dz{k} = da{k} * a{k}^2"),
    Hypothesis("dz", "operand", "da{k} enters by its absolute value",
               lambda s: _times(replace(s, da=np.abs(s.da)), lambda s: slope_of(s.name, s.z[s.k]))
               if s.da is not None else None, "dz{k} = |da{k}| * f'(z{k})"),
    Hypothesis("dz", "operand", "the derivative is taken at z{k} of the previous batch", lambda s: _times(
        s, lambda s: _fitting(s, slope_of(s.name, previous_pass(s)[0][s.k]))) if s.case.previous is not None else None),
    Hypothesis("dz", "transposed", "dz{k} is transposed",
               lambda s: s.right.value.T if _square(s.right.value) else None),
    Hypothesis("dz", "softmax-jacobian", "the sum over the units is added instead of subtracted",
               lambda s: _softmax(s, lambda p, da: p * (da + (p * da).sum(axis=1, keepdims=True)))),
    Hypothesis("dz", "softmax-jacobian", "the sum over the units is not weighted by the probabilities",
               lambda s: _softmax(s, lambda p, da: p * (da - da.sum(axis=1, keepdims=True)))),
    Hypothesis("dz", "softmax-jacobian", "the sum over the units is not multiplied by the own probability",
               lambda s: _softmax(s, lambda p, da: p * da - (p * da).sum(axis=1, keepdims=True))),
    Hypothesis("dz", "softmax-jacobian", "the sum runs over the samples instead of the units",
               lambda s: _softmax(s, lambda p, da: p * (da - (p * da).sum(axis=0, keepdims=True)))),
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


def _squared(step: Step, form: Callable[[Any, Any], Any]) -> Any:
    """A form of dL/dyhat for a squared error, with its 2."""
    if step.case.loss not in ("sse", "half_sse"):
        return None
    return _over(step, lambda y, p: (2.0 if step.case.loss == "sse" else 1.0) * form(y, p))


def _previous_y(step: Step) -> Any:
    """The targets of the batch before, if they have the shape of these."""
    before = step.case.previous
    return before[1] if before is not None and before[1].shape == step.case.y.shape else None


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
    Hypothesis("da", "loss-derivative", "yhat is missing", lambda s: _squared(s, lambda y, p: -y), "-2 y"),
    Hypothesis("da", "loss-derivative", "y is missing", lambda s: _squared(s, lambda y, p: p), "2 yhat"),
    Hypothesis("da", "loss-derivative", "the sign of y is wrong", lambda s: _squared(s, lambda y, p: p + y),
               "2 (yhat + y)"),
    Hypothesis("da", "loss-derivative", "the error enters by its absolute value",
               lambda s: _squared(s, lambda y, p: np.abs(p - y)), "2 |yhat - y|"),
    Hypothesis("da", "loss-derivative", "it is the derivative of the absolute error",
               lambda s: _over(s, lambda y, p: np.sign(p - y)), "sign(yhat - y)"),
    Hypothesis("da", "loss-derivative", "the error itself is squared",
               lambda s: _squared(s, lambda y, p: (p - y) ** 2)),
    Hypothesis("da", "loss-derivative", "the division by yhat is missing",
               lambda s: _over(s, lambda y, p: -y) if s.case.loss == "ce" else None, "-y"),
    Hypothesis("da", "loss-derivative", "1 - y stands in the place of y",
               lambda s: _over(s, lambda y, p: -(1 - y) / p) if s.case.loss == "ce" else None, "-(1 - y) / yhat"),
    Hypothesis("da", "loss-derivative", "y is left out", lambda s: _over(s, lambda y, p: -1 / p)
               if s.case.loss == "ce" else None, "-1 / yhat"),
    Hypothesis("da", "loss-derivative", "the labels are shifted by one sample",
               lambda s: _over(s, lambda y, p: LOSSES[s.case.loss].derivative(np.roll(y, 1, axis=0), p))),
    Hypothesis("da", "loss-derivative", "the labels are shifted by one sample",
               lambda s: _over(s, lambda y, p: LOSSES[s.case.loss].derivative(np.roll(y, -1, axis=0), p))),
    Hypothesis("da", "operand", "y is that of the previous batch",
               lambda s: _over(s, lambda y, p: LOSSES[s.case.loss].derivative(_previous_y(s), p))
               if _previous_y(s) is not None else None),
    *(Hypothesis("da", "loss-derivative", f"it is the derivative of another loss, {other}", _of_another_loss(other))
      for other in ("sse", "half_sse", "bce", "ce")),
    *(Hypothesis("da", "loss-derivative", "the labels are shifted by one class", _shifted(by)) for by in (1, -1)),
    *(Hypothesis("da", "loss-derivative", f"an epsilon of {eps:g} is added to the denominators", _with_epsilon(eps))
      for eps in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)),
]  # fmt: skip


# forms of dz_L that take the loss and the activation together
COMBINED = [
    Hypothesis("dz", "loss-derivative", "y is missing", lambda s: _together(s, lambda y, p: p), "dz{k} = a{k}"),
    Hypothesis("dz", "loss-derivative", "yhat is missing", lambda s: _together(s, lambda y, p: -y), "dz{k} = -y"),
    Hypothesis("dz", "loss-derivative", "the sign of y is wrong", lambda s: _together(s, lambda y, p: p + y),
               "dz{k} = a{k} + y"),
    Hypothesis("dz", "loss-derivative", "the labels are shifted by one sample",
               lambda s: _together(s, lambda y, p: p - np.roll(y, 1, axis=0))),
    Hypothesis("dz", "loss-derivative", "the labels are shifted by one class",
               lambda s: _together(s, lambda y, p: p - np.roll(y, 1, axis=1)) if s.case.m > 1 else None),
    Hypothesis("dz", "loss-derivative", "the labels are shifted by one class",
               lambda s: _together(s, lambda y, p: p - np.roll(y, -1, axis=1)) if s.case.m > 1 else None),
    Hypothesis("dz", "operand", "y is that of the previous batch",
               lambda s: _together(s, lambda y, p: p - _previous_y(s)) if _previous_y(s) is not None else None),
    Hypothesis("dz", "activation-derivative", "the derivative enters twice: it is in a{k} - y already",
               lambda s: _together(s, lambda y, p: (p - y) * p * (1 - p)), "dz{k} = (a{k} - y) * a{k} * (1 - a{k})"),
]  # fmt: skip


def _together(step: Step, form: Callable[[Any, Any], Any]) -> Any:
    pair = (step.case.activations[-1], step.case.loss)
    return _over(step, form) if pair in (("sigmoid", "bce"), ("softmax", "ce")) else None


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
    moved = step.case.W[k] - rate * step.scale * (step.a[step.k].T @ step.dz_next)
    return step.dz_next @ moved.T


def _another_dz(step: Step) -> Any:
    W = step.case.W[step.k + 1]
    fitting = [dz for dz in step.others if dz.shape[1] == W.shape[1] and not np.array_equal(dz, step.dz_next)]
    return fitting[0] @ W.T if fitting else None


def _largest_child(step: Step) -> Any:
    parts = step.dz_next[:, None, :] * step.case.W[step.k + 1][None]
    return np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)[..., 0]


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
    Hypothesis("da", "operand", "dz{next} is passed on as it is, not through W{next}", lambda s: _fitting(s, s.dz_next),
               "da{k} = dz{next}"),
    Hypothesis("da", "operand", "W{k} stands in the place of W{next}",
               lambda s: _fitting(s, _back(s, s.dz_next, s.case.W[s.k])), "da{k} = dz{next} W{k}^T"),
    Hypothesis("da", "transposed", "da{k} is transposed",
               lambda s: s.right.value.T if _square(s.right.value) else None),
    Hypothesis("da", "child-sum", "only the child with the largest derivative is counted", _largest_child),
    Hypothesis("da", "child-sum", "dz{next} enters by its absolute value",
               lambda s: np.abs(s.dz_next) @ s.case.W[s.k + 1].T, "da{k} = |dz{next}| W{next}^T"),
    Hypothesis("da", "operand", "the dz of another layer stands in the place of dz{next}", _another_dz),
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


HALVES = (slice(None, None, 2), slice(1, None, 2), "first", "second", "larger first", "larger second")


def _half(part: Any, of_weights: bool) -> Callable[[Step], Any]:
    def make(s: Step) -> Any:
        middle = s.dz.shape[0] // 2
        rows = part
        if isinstance(part, str):
            middle += s.dz.shape[0] % 2 * (part in ("larger first", "second"))
            rows = slice(None, middle) if "first" in part else slice(middle, None)
        return s.a[s.k - 1][rows].T @ s.dz[rows] if of_weights else s.dz[rows].sum(axis=0, keepdims=True)

    return make


WEIGHTS = [
    Hypothesis("dW", "operand", "a{k} stands in the place of a{before}",
               lambda s: _fitting(s, _outer(s.a[s.k], s.dz)), "dW{k} = a{k}^T dz{k}"),
    Hypothesis("dW", "operand", "z{before} stands in the place of a{before}",
               lambda s: _outer(s.z[s.k - 1], s.dz) if s.k > 1 else None, "dW{k} = z{before}^T dz{k}"),
    Hypothesis("dW", "operand", "da{k} stands in the place of dz{k}",
               lambda s: _outer(s.a[s.k - 1], s.da), "dW{k} = a{before}^T da{k}"),
    Hypothesis("dW", "operand", "a{before} is that of the previous batch",
               lambda s: _fitting(s, _outer(_previous_a(s), s.dz)), "dW{k} with the previous batch's a{before}"),
    Hypothesis("dW", "operand", "dz{k} is that of the previous batch",
               lambda s: _outer(s.a[s.k - 1], previous_dz(s)), "dW{k} with the previous batch's dz{k}"),
    Hypothesis("dW", "operand", "it is that of the previous batch",
               lambda s: _outer(_previous_a(s), previous_dz(s)), "dW{k} of the previous batch"),
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
    *(Hypothesis("dW", "batch-sum", "only half of the samples count", _half(part, True)) for part in HALVES),
    Hypothesis("dW", "operand", "X stands in the place of a{before}", lambda s: _fitting(s, _outer(s.a[0], s.dz)),
               "dW{k} = X^T dz{k}"),
    Hypothesis("dW", "operand", "the a of two layers before stands in the place of a{before}",
               lambda s: _fitting(s, _outer(s.a[s.k - 2], s.dz)) if s.k > 1 else None),
    Hypothesis("dW", "operand", "dz{next} stands in the place of dz{k}",
               lambda s: _fitting(s, _outer(s.a[s.k - 1], s.dz_next)), "dW{k} = a{before}^T dz{next}"),
    Hypothesis("dW", "batch-sum", "the sums over the samples are multiplied, instead of the products summed",
               lambda s: np.outer(s.a[s.k - 1].sum(axis=0), s.dz.sum(axis=0))),
    Hypothesis("dW", "operand", "dz{k} enters by its absolute value", lambda s: _outer(s.a[s.k - 1], np.abs(s.dz))),
    Hypothesis("dW", "operand", "a{before} is left out", lambda s: np.broadcast_to(
        s.dz.sum(axis=0, keepdims=True), s.right.value.shape) * 1.0),
]  # fmt: skip


def _previous_db(step: Step) -> Any:
    dz = previous_dz(step)
    return None if dz is None else dz.sum(axis=0, keepdims=True)


BIASES = [
    Hypothesis("db", "operand", "dz{k} is that of the previous batch", _previous_db, "db{k} of the previous batch"),
    Hypothesis("db", "operand", "da{k} stands in the place of dz{k}",
               lambda s: s.da.sum(axis=0, keepdims=True) if s.da is not None else None, "db{k} = sum of da{k}"),
    Hypothesis("db", "batch-sum", "only the first sample counts", lambda s: s.dz[:1]),
    Hypothesis("db", "batch-sum", "only the last sample counts", lambda s: s.dz[-1:]),
    Hypothesis("db", "batch-sum", "the last sample is left out", lambda s: s.dz[:-1].sum(axis=0, keepdims=True)),
    Hypothesis("db", "batch-sum", "the first sample is left out", lambda s: s.dz[1:].sum(axis=0, keepdims=True)),
    Hypothesis("db", "axis", "the sum runs over the units instead of the samples",
               lambda s: _fitting(s, s.dz.sum(axis=1, keepdims=True).T), "db{k} = sum of dz{k} over the units"),
    Hypothesis("db", "operand", "dz{k} enters by its absolute value",
               lambda s: np.abs(s.dz).sum(axis=0, keepdims=True)),
    Hypothesis("db", "axis", "all samples and units are summed", lambda s: np.full(s.right.value.shape, s.dz.sum())),
    *(Hypothesis("db", "batch-sum", "only half of the samples count", _half(part, False)) for part in HALVES),
    Hypothesis("db", "operand", "dz{next} stands in the place of dz{k}",
               lambda s: _fitting(s, s.dz_next.sum(axis=0, keepdims=True)) if s.dz_next is not None else None),
    Hypothesis("db", "axis", "db{k} is taken from dW{k}: the sum over its columns",
               lambda s: _fitting(s, _outer(s.a[s.k - 1], s.dz).sum(axis=1)[None]), "db{k} = row sums of dW{k}"),
    Hypothesis("db", "axis", "db{k} is taken from dW{k}: the sum over its rows",
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
    Hypothesis("a", "forward", "the activation is applied twice",
               lambda s: ACTIVATIONS[s.name].value(s.right.value, 1)),
    Hypothesis("a", "forward", "the activation is left out", lambda s: s.z[s.k], "a{k} = z{k}"),
    *(Hypothesis("a", "forward", f"the activation is another, {other}", _another_activation(other))
      for other in ACTIVATIONS),
]  # fmt: skip


def factors(case: Case, kind: str) -> Iterator[tuple[str, float]]:
    """(name, number) of the factors that have a name, the likeliest first for that kind of quantity."""
    n, m = float(case.n), float(case.m)
    if kind in ("dW", "db"):  # where sums over the samples are made
        yield from (("1/n", 1 / n), ("n", n))
    known = (
        ("2", 2.0), ("-1", -1.0), ("1/2", 0.5), ("n", n), ("1/n", 1 / n), ("2/n", 2 / n), ("m", m), ("1/m", 1 / m),
        ("n/2", n / 2), ("2n", 2 * n), ("-2", -2.0), ("-1/2", -0.5), ("1/(nm)", 1 / (n * m)), ("nm", n * m), ("-n", -n),
        ("-1/n", -1 / n), ("-2/n", -2 / n), ("n^2", n * n), ("1/n^2", 1 / (n * n)), ("2/m", 2 / m), ("2m", 2 * m),
        ("1/(2n)", 0.5 / n), ("-m", -m), ("-1/m", -1 / m), ("2/(nm)", 2 / (n * m)), ("4", 4.0), ("1/4", 0.25),
        ("3", 3.0), ("10", 10.0), ("1/10", 0.1),
    )  # fmt: skip
    yield from (pair for pair in known if m > 1 or "m" not in pair[0])  # with one output, 1/(nm) is 1/n again
