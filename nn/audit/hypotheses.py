"""The mistakes the doctor knows, as data: what each makes of a step, in one line.

The order is that of preference, where two mistakes yield the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nn.audit.claims import UNNAMED, Case
from nn.audit.rules import is_elementwise
from nn.audit.steps import (
    Hypothesis,
    Step,
    is_square,
    outer,
    previous_a,
    previous_db,
    previous_dW,
    previous_dz,
    previous_pass,
    previous_y,
    slope_of,
)
from nn.by_hand import ACTIVATIONS, LOSSES

Form = Callable[[Step], Any]

ELEMENTWISE = tuple(name for name in ACTIVATIONS if name not in ("softmax", "identity"))
# f' written with the output a = f(z)
BY_OUTPUT: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - a * a,
    "softplus": lambda a: 1 - np.exp(-a),
}

# --- dz_k from dL/da_k --------------------------------------------------------------------------------------------


def _times(form: Form, *only: str) -> Form:
    """dL/da_k times what stands in the place of f'(z_k), for an elementwise f (of the names given only)."""

    def make(s: Step) -> Any:
        if not s.is_elementwise or s.da is None or (only and s.name not in only):
            return None
        slope = form(s)
        return None if slope is None else s.fitting(s.da * slope)

    return make


def _slope(words: str, form: Form, found: str = "", only: tuple[str, ...] = ()) -> Hypothesis:
    rule = f"dz{{k}} = da{{k}} * {found}" if found else ""
    return Hypothesis("dz", "activation-derivative", words, _times(form, *only), rule)


def _at_z(form: Callable[[Any], Any]) -> Form:
    return lambda s: form(s.z_k)


def _at_a(form: Callable[[Any], Any]) -> Form:
    return lambda s: form(s.a_k)


def _slope_named(name: str) -> Form:
    return lambda s: slope_of(name, s.z_k)


def _other(name: str, form: Form) -> Form:
    return lambda s: form(s) if s.name != name else None


def _softmax(form: Callable[[Any, Any], Any]) -> Form:
    return lambda s: form(s.a_k, s.da) if s.name == "softmax" and s.da is not None else None


def _slope_above(s: Step) -> Any:
    above = s.case.functions[s.k] if s.k < s.case.L else None
    if above is None or above is s.f or not is_elementwise(above):
        return None
    return s.fitting(above.derivative(s.z[s.k + 1]))


def slopes_of_parts(s: Step) -> list[Hypothesis]:
    """The mistakes within an f' that has no name."""
    if s.name != UNNAMED or not s.is_elementwise:
        return []
    return [
        Hypothesis("dz", "activation-derivative", f"within f', {words}", _times(_always(slope)))
        for words, slope in s.f.variants(s.z_k)
    ]


def _always(value: Any) -> Form:
    return lambda s: value


RELUS = ("relu", "leaky_relu")
SLOPES = [
    Hypothesis("dz", "activation-derivative", "the derivative of the activation is missing", lambda s: s.da,
               "dz{k} = da{k}"),
    _slope("the derivative of the activation is taken at a{k} instead of z{k}", lambda s: s.f.derivative(s.a_k),
           "f'(a{k})"),
    *(_slope("the derivative is written for the output a{k}, but given z{k}", _at_z(form), text, (name,))
      for (name, form), text in zip(BY_OUTPUT.items(), ("z{k} * (1 - z{k})", "(1 - z{k}^2)", "(1 - exp(-z{k}))"),
                                    strict=True)),
    _slope("the mask is inverted: open where z{k} <= 0",
           lambda s: np.where(s.z_k <= 0, 1.0, s.f.derivative(np.array(-1.0))), "(z{k} <= 0)", RELUS),
    _slope("the derivative of the activation is squared", lambda s: s.slope**2, "f'(z{k})^2"),
    _slope("a term of the derivative is missing: the factor 1 - a{k}", lambda s: s.a_k, "a{k}", ("sigmoid",)),
    _slope("a term of the derivative is missing: the factor a{k}", lambda s: 1 - s.a_k, "(1 - a{k})", ("sigmoid",)),
    _slope("1 - a instead of 1 - a^2: the square is missing", lambda s: 1 - s.a_k, "(1 - a{k})", ("tanh",)),
    _slope("the term 1 of 1 - a^2 is missing", lambda s: -s.a_k**2, "(-a{k}^2)", ("tanh",)),
    _slope("the slope below 0 is left out", lambda s: 1.0 * (s.z_k > 0), "(z{k} > 0)", ("leaky_relu",)),
    *(Hypothesis("dz", "activation-derivative", f"it is the derivative of another activation, {name}",
                 _other(name, _times(_slope_named(name))),
                 f"dz{{k}} = da{{k}} * {name}'(z{{k}})") for name in ELEMENTWISE),
    *(Hypothesis("dz", "activation-derivative",
                 f"it is the derivative of another activation, {name}, written with the output",
                 _other(name, _times(_at_a(form))),
                 f"dz{{k}} = da{{k}} * {name}'(z{{k}}), written with a{{k}}") for name, form in BY_OUTPUT.items()),
    _slope("z{k} stands in the place of the derivative", lambda s: s.z_k, "z{k}"),
    _slope("the activation stands in the place of its derivative", lambda s: s.a_k, "f(z{k})"),
    _slope("a sign is wrong: 1 + a instead of 1 - a", lambda s: s.a_k * (1 + s.a_k), "a{k} * (1 + a{k})", ("sigmoid",)),
    _slope("a sign is wrong: 1 + a^2 instead of 1 - a^2", lambda s: 1 + s.a_k**2, "(1 + a{k}^2)", ("tanh",)),
    _slope("the derivative is taken at a{before}", lambda s: s.fitting(s.f.derivative(s.below)), "f'(a{before})"),
    _slope("the derivative is taken at z{before}",
           lambda s: s.fitting(s.f.derivative(s.z[s.k - 1])) if s.k > 1 else None, "f'(z{before})"),
    _slope("the derivative is taken at z{next}",
           lambda s: s.fitting(s.f.derivative(s.z[s.k + 1])) if s.k < s.case.L else None, "f'(z{next})"),
    _slope("the derivative of layer {next} stands in the place of its own", _slope_above, "f'(z{next})"),
    _slope("the derivative is taken at z{k} without the bias", lambda s: s.f.derivative(s.z_k - s.case.b[s.k]),
           "f'(z{k} - b{k})"),
    _slope("the derivative is taken at -z{k}", lambda s: s.f.derivative(-s.z_k), "f'(-z{k})"),
    _slope("the term 1 of 1 - a^2 is missing, and its sign", lambda s: s.a_k**2, "a{k}^2", ("tanh",)),
    _slope("it is divided by the derivative instead of multiplied", lambda s: 1 / s.slope, "1 / f'(z{k})"),
    _slope("the root of the derivative is taken: a square is missing", lambda s: np.sqrt(s.slope), "sqrt(f'(z{k}))",
           ("tanh",)),
    _slope("exp(z{k}) stands in the place of the derivative", lambda s: np.exp(s.z_k), "exp(z{k})"),
    _slope("exp(-z{k}) stands in the place of the derivative", lambda s: np.exp(-s.z_k), "exp(-z{k})"),
    _slope("a{k}^2 stands in the place of the derivative", lambda s: s.a_k**2, "a{k}^2"),
    _slope("the sign of z{k} stands in the place of the derivative", lambda s: np.sign(s.z_k), "sign(z{k})"),
    _slope("the activation stands in the place of its derivative below 0",
           lambda s: np.where(s.z_k > 0, 1.0, s.a_k), "(1 where z{k} > 0, else a{k})", (*RELUS, UNNAMED)),
    _slope("the derivative at the first sample is used for all", lambda s: s.slope[:1] + 0.0 * s.z_k),
    _slope("the derivative at the last sample is used for all", lambda s: s.slope[-1:] + 0.0 * s.z_k),
    _slope("the derivative is averaged over the samples",
           lambda s: s.slope.mean(axis=0, keepdims=True) + 0.0 * s.z_k),
]  # fmt: skip

DZ = [
    _slope("the mask is that of da{k}, not of z{k}", lambda s: 1.0 * (s.da > 0), "(da{k} > 0)"),
    _slope("negative elements of da{k} are masked as well", lambda s: s.slope * (s.da > 0), "f'(z{k}) * (da{k} > 0)"),
    Hypothesis("dz", "operand", "da{k} enters by its absolute value", _times(lambda s: np.sign(s.da) * s.slope),
               "dz{k} = |da{k}| * f'(z{k})"),
    Hypothesis("dz", "operand", "the derivative is taken at z{k} of the previous batch", _times(
        lambda s: s.fitting(s.f.derivative(previous_pass(s)[0][s.k])) if s.case.previous is not None else None)),
    Hypothesis("dz", "transposed", "dz{k} is transposed",
               lambda s: s.right.value.T if is_square(s.right.value) else None),
    Hypothesis("dz", "softmax-jacobian", "the sum over the units is added instead of subtracted",
               _softmax(lambda p, da: p * (da + (p * da).sum(axis=1, keepdims=True)))),
    Hypothesis("dz", "softmax-jacobian", "the sum over the units is not weighted by the probabilities",
               _softmax(lambda p, da: p * (da - da.sum(axis=1, keepdims=True)))),
    Hypothesis("dz", "softmax-jacobian", "the sum over the units is not multiplied by the own probability",
               _softmax(lambda p, da: p * da - (p * da).sum(axis=1, keepdims=True))),
    Hypothesis("dz", "softmax-jacobian", "the sum runs over the samples instead of the units",
               _softmax(lambda p, da: p * (da - (p * da).sum(axis=0, keepdims=True)))),
    Hypothesis("dz", "softmax-jacobian", "the softmax is treated as if it worked element by element",
               _softmax(lambda p, da: da * p * (1 - p)), "dz{k} = da{k} * a{k} * (1 - a{k})"),
    Hypothesis("dz", "softmax-jacobian", "the sum over the other units is missing in the Jacobian of the softmax",
               _softmax(lambda p, da: da * p), "dz{k} = da{k} * a{k}"),
    Hypothesis("dz", "softmax-jacobian", "the diagonal of the Jacobian is missing",
               _softmax(lambda p, da: -p * (p * da).sum(axis=1, keepdims=True))),
    Hypothesis("dz", "softmax-jacobian", "the own probability is missing in front",
               _softmax(lambda p, da: da - (p * da).sum(axis=1, keepdims=True))),
    Hypothesis("dz", "softmax-jacobian", "the units are averaged instead of summed",
               _softmax(lambda p, da: p * (da - (p * da).mean(axis=1, keepdims=True)))),
    Hypothesis("dz", "softmax-jacobian", "the diagonal carries p instead of p (1 - p): the own p^2 is missing",
               _softmax(lambda p, da: p * (da - (p * da).sum(axis=1, keepdims=True) + p * da))),
]  # fmt: skip


# --- dL/dyhat -----------------------------------------------------------------------------------------------------

Loss = Callable[[Any, Any], Any]  # of y and yhat


def _over(form: Loss, *losses: str) -> Form:
    """A claimed form of dL/dyhat, with the sign and the 1/n of the case; for some losses only."""

    def make(s: Step) -> Any:
        if losses and s.case.loss not in losses:
            return None
        with np.errstate(all="ignore"):
            return form(s.case.y, s.a[s.case.L]) * s.case.sign / s.rules.count

    return make


def _squared(form: Loss) -> Form:
    """A form of dL/dyhat for a squared error, with its 2."""
    half, whole = _over(form, "half_sse"), _over(lambda y, p: 2.0 * form(y, p), "sse")
    return lambda s: half(s) if s.case.loss == "half_sse" else whole(s)


def _right_at(change: Callable[[Step, Any, Any], tuple[Any, Any] | None]) -> Form:
    """The right derivative of the loss, at other targets or predictions."""

    def make(s: Step) -> Any:
        at = change(s, s.case.y, s.a[s.case.L])
        return None if at is None else _over(lambda _, __: s.case.objective.derivative(*at))(s)

    return make


def _another_loss(name: str) -> Form:
    return lambda s: _over(LOSSES[name].derivative)(s) if s.case.loss != name else None


def _unnamed(form: Form) -> Form:
    """A form for a loss without a name only."""
    return lambda s: form(s) if s.case.loss == UNNAMED else None


def _with_epsilon(eps: float) -> Form:
    ce, bce = _over(lambda y, p: -y / (p + eps), "ce"), _over(lambda y, p: -y / (p + eps) + (1 - y) / (1 - p + eps))
    product = {"ce": ce, "bce": bce}
    return lambda s: product[s.case.loss](s) if s.case.loss in product else None


def _below_with(eps: float) -> Loss:
    return lambda y, p: (p - y) / (p * (1 - p) + eps)


def _rolled(by: int, axis: int) -> Callable[[Step, Any, Any], tuple[Any, Any] | None]:
    return lambda s, y, p: (np.roll(y, by, axis=axis), p) if y.shape[axis] > 1 else None


def _clipped(low: float) -> Form:
    right = _right_at(lambda s, y, p: (y, np.clip(p, low, 1 - low)))
    return lambda s: right(s) if s.case.loss in ("bce", "ce") else None


def _loss(words: str, form: Form, found: str = "", kind: str = "loss-derivative") -> Hypothesis:
    return Hypothesis("da", kind, words, form, found)


EPSILONS = (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
BOUNDS = (0.25, 0.2, 0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-5)
LOSS = [
    _loss("the term of y = 1 is missing", _over(lambda y, p: (1 - y) / (1 - p), "bce"), "(1 - y) / (1 - yhat)"),
    _loss("the term of y = 0 is missing", _over(lambda y, p: -y / p, "bce"), "-y / yhat"),
    _loss("the sign of the term of y = 0 is wrong", _over(lambda y, p: -y / p - (1 - y) / (1 - p), "bce"),
          "-y / yhat - (1 - y) / (1 - yhat)"),
    _loss("the sign of the term of y = 1 is wrong", _over(lambda y, p: y / p + (1 - y) / (1 - p), "bce"),
          "y / yhat + (1 - y) / (1 - yhat)"),
    _loss("prediction and target are swapped", _right_at(lambda s, y, p: (p, y)), "y and yhat swapped"),
    _loss("yhat - y is dL/dz of the combined form, not dL/dyhat", _over(lambda y, p: p - y, "bce", "ce"), "yhat - y"),
    _loss("the factor 1 - yhat below is missing", _over(lambda y, p: (p - y) / p, "bce"), "(yhat - y) / yhat"),
    _loss("the factor yhat below is missing", _over(lambda y, p: (p - y) / (1 - p), "bce"),
          "(yhat - y) / (1 - yhat)"),
    _loss("yhat is missing", _squared(lambda y, p: -y), "-2 y"),
    _loss("y is missing", _squared(lambda y, p: p), "2 yhat"),
    _loss("the sign of y is wrong", _squared(lambda y, p: p + y), "2 (yhat + y)"),
    _loss("the error enters by its absolute value", _squared(lambda y, p: np.abs(p - y)), "2 |yhat - y|"),
    _loss("it is the derivative of the absolute error", _over(lambda y, p: np.sign(p - y)), "sign(yhat - y)"),
    _loss("the error itself is squared", _squared(lambda y, p: (p - y) ** 2)),
    _loss("the loss itself stands in the place of its derivative",
          lambda s: _over(s.case.objective.terms)(s) if s.case.loss != UNNAMED else None),
    _loss("the division by yhat is missing", _over(lambda y, p: -y, "ce"), "-y"),
    _loss("1 - y stands in the place of y", _right_at(lambda s, y, p: (1 - y, p))),
    _loss("y is left out", _over(lambda y, p: -1 / p, "ce"), "-1 / yhat"),
    *(_loss("the labels are shifted by one sample", _right_at(_rolled(by, 0))) for by in (1, -1)),
    _loss("the labels run backwards", _right_at(lambda s, y, p: (y[::-1], p))),
    _loss("y is that of the previous batch",
          _right_at(lambda s, y, p: None if previous_y(s) is None else (previous_y(s), p)), kind="operand"),
    *(_loss(f"it is the derivative of another loss, {other}", _another_loss(other))
      for other in ("sse", "half_sse", "bce", "ce")),
    _loss("y is left out", _unnamed(_right_at(lambda s, y, p: (0.0 * y, p)))),
    _loss("yhat is left out", _unnamed(_right_at(lambda s, y, p: (y, 0.0 * p)))),
    _loss("the sign of y is wrong", _unnamed(_right_at(lambda s, y, p: (-y, p)))),
    _loss("it enters by its absolute value", _unnamed(lambda s: np.abs(s.right.value))),
    *(_loss("the labels are shifted by one class",
            _right_at(_rolled(by, 1))) for by in (1, -1)),
    *(_loss(f"an epsilon of {eps:g} is added to the denominators", _with_epsilon(eps)) for eps in EPSILONS),
    *(_loss(f"an epsilon of {eps:g} is added to yhat (1 - yhat)",
            _over(_below_with(eps), "bce")) for eps in EPSILONS),
    *(_loss(f"yhat is clipped to {low:g} and {1 - low:g}",
            _clipped(low)) for low in BOUNDS),
    _loss("the error is summed over the outputs",
          _squared(lambda y, p: np.broadcast_to((p - y).sum(axis=1, keepdims=True), y.shape))),
    _loss("the error is averaged over the outputs",
          _squared(lambda y, p: np.broadcast_to((p - y).mean(axis=1, keepdims=True), y.shape))),
    _loss("the error is summed over the samples",
          _squared(lambda y, p: np.broadcast_to((p - y).sum(axis=0, keepdims=True), y.shape))),
    _loss("the error is averaged over the samples",
          _squared(lambda y, p: np.broadcast_to((p - y).mean(axis=0, keepdims=True), y.shape))),
]  # fmt: skip


def losses_of_parts(case: Case, yhat: Any) -> list[Hypothesis]:
    """The mistakes within the derivative of a loss that has no name."""
    if case.loss != UNNAMED:
        return []
    return [
        _loss(f"within the derivative of the loss, {words}", _over(_constant(derivative)))
        for words, derivative in case.objective.variants(case.y, yhat)
    ]


def _constant(value: Any) -> Loss:
    return lambda y, p: value


def _together(form: Loss) -> Form:
    """A form of dz_L that takes the loss and the activation together."""

    def make(s: Step) -> Any:
        pair = (s.case.activations[-1], s.case.loss)
        return _over(form)(s) if pair in (("sigmoid", "bce"), ("softmax", "ce")) else None

    return make


def _minus_rolled(by: int, axis: int) -> Loss:
    return lambda y, p: p - np.roll(y, by, axis=axis)


COMBINED = [
    Hypothesis("dz", "loss-derivative", "y is missing", _together(lambda y, p: p), "dz{k} = a{k}"),
    Hypothesis("dz", "loss-derivative", "yhat is missing", _together(lambda y, p: -y), "dz{k} = -y"),
    Hypothesis("dz", "loss-derivative", "the sign of y is wrong", _together(lambda y, p: p + y), "dz{k} = a{k} + y"),
    *(Hypothesis("dz", "loss-derivative", "the labels are shifted by one sample",
                 _together(_minus_rolled(by, 0))) for by in (1, -1)),
    Hypothesis("dz", "loss-derivative", "the labels run backwards", _together(lambda y, p: p - y[::-1])),
    *(Hypothesis("dz", "loss-derivative", "the labels are shifted by one class",
                 _together(_minus_rolled(by, 1))) for by in (1, -1)),
    Hypothesis("dz", "operand", "y is that of the previous batch",
               lambda s: _together(lambda y, p: p - previous_y(s))(s) if previous_y(s) is not None else None),
    Hypothesis("dz", "activation-derivative", "the derivative enters twice: it is in a{k} - y already",
               _together(lambda y, p: (p - y) * p * (1 - p)), "dz{k} = (a{k} - y) * a{k} * (1 - a{k})"),
]  # fmt: skip


# --- dL/da_k from dL/dz_{k+1} -------------------------------------------------------------------------------------


def _through(change: Callable[[Any], Any]) -> Form:
    """dz_{k+1} through a changed W_{k+1}."""
    return lambda s: s.dz_next @ change(s.W_next).T


def _another_W(offset: int) -> Form:
    def make(s: Step) -> Any:
        j = s.k + 1 + offset
        return s.fitting(s.dz_next @ s.case.W[j].T) if 1 <= j <= s.case.L else None

    return make


def _updated(s: Step) -> Any:
    rate = s.case.learning_rate
    if rate is None or s.dW_next is None:
        return None
    return s.dz_next @ (s.W_next - rate * s.dW_next).T


def _another_dz(i: int) -> Form:
    def make(s: Step) -> Any:
        W = s.W_next
        fitting = [dz for dz in s.others if dz.shape[1] == W.shape[1] and not np.array_equal(dz, s.dz_next)]
        return fitting[i] @ W.T if i < len(fitting) else None

    return make


def _largest_part(s: Step) -> Any:
    parts = s.dz_next[:, None, :] * s.W_next[None]
    return np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)[..., 0]


def _kept(W: Any, which: Any) -> Any:
    """W with only some children, the others' columns zero."""
    kept = np.zeros_like(W)
    kept[:, which] = W[:, which]
    return kept


CHILDREN = [
    Hypothesis("da", "operand", "W{next} is not transposed",
               lambda s: s.dz_next @ s.W_next if is_square(s.W_next) else None, "da{k} = dz{next} W{next}"),
    Hypothesis("da", "operand", "da{next} stands in the place of dz{next}",
               lambda s: s.da_next @ s.W_next.T if s.da_next is not None else None, "da{k} = da{next} W{next}^T"),
    Hypothesis("da", "operand", "W{next} was already updated", _updated, "da{k} = dz{next} (W{next} - eta dW{next})^T"),
    Hypothesis("da", "child-sum", "only the first child is counted", _through(lambda W: _kept(W, [0]))),
    Hypothesis("da", "child-sum", "the last child is left out", _through(lambda W: _kept(W, slice(0, -1)))),
    Hypothesis("da", "child-sum", "the first child is left out", _through(lambda W: _kept(W, slice(1, None)))),
    Hypothesis("da", "child-sum", "only the last child is counted", _through(lambda W: _kept(W, [-1]))),
    Hypothesis("da", "child-sum", "the children are averaged instead of summed",
               _through(lambda W: W / W.shape[1])),
    Hypothesis("da", "child-sum", "the weights enter by their absolute values", _through(np.abs)),
    Hypothesis("da", "operand", "dz{next} is passed on as it is, not through W{next}", lambda s: s.fitting(s.dz_next),
               "da{k} = dz{next}"),
    *(Hypothesis("da", "operand", "another layer's W stands in the place of W{next}", _another_W(offset))
      for offset in (-1, 1, -2, 2)),
    Hypothesis("da", "transposed", "da{k} is transposed",
               lambda s: s.right.value.T if is_square(s.right.value) else None),
    Hypothesis("da", "child-sum", "only the child with the largest part is counted", _largest_part),
    Hypothesis("da", "child-sum", "dz{next} enters by its absolute value",
               lambda s: np.abs(s.dz_next) @ s.W_next.T, "da{k} = |dz{next}| W{next}^T"),
    *(Hypothesis("da", "operand", "the dz of another layer stands in the place of dz{next}", _another_dz(i))
      for i in range(3)),
    Hypothesis("da", "child-sum", "the weights are left out", _through(np.ones_like)),
    Hypothesis("da", "child-sum", "only positive weights are counted", _through(lambda W: np.maximum(W, 0.0))),
    Hypothesis("da", "child-sum", "the weights are squared", _through(np.square)),
    Hypothesis("da", "child-sum", "the weights are divided by their sum: shares of the error are passed on",
               _through(lambda W: W / W.sum(axis=0, keepdims=True))),
    Hypothesis("da", "child-sum", "the weights are divided by the sum of their absolute values",
               _through(lambda W: W / np.abs(W).sum(axis=0, keepdims=True))),
    Hypothesis("da", "child-sum", "the weights are divided by the sum over the children",
               _through(lambda W: W / W.sum(axis=1, keepdims=True))),
    Hypothesis("da", "child-sum", "only the child of the same number is counted",
               _through(lambda W: W * np.eye(*W.shape))),
    Hypothesis("da", "child-sum", "only the child with the largest weight is counted",
               _through(lambda W: W * (np.abs(W) == np.abs(W).max(axis=1, keepdims=True)))),
    Hypothesis("da", "child-sum", "W{next} enters without its signs", _through(lambda W: np.sign(W))),
]  # fmt: skip


# --- dW_k and db_k ------------------------------------------------------------------------------------------------

Rows = Callable[[Any], Any]  # which samples, of how many


def _only(rows: Any) -> tuple[Form, Form]:
    """dW_k and db_k of some samples only; rows(n) tells which."""
    return (lambda s: outer(s.below[rows(s.case.n)], s.dz[rows(s.case.n)]),
            lambda s: s.dz[rows(s.case.n)].sum(axis=0, keepdims=True))  # fmt: skip


SOME_SAMPLES = [
    ("only the first sample counts", lambda n: slice(0, 1)),
    ("only the last sample counts", lambda n: slice(-1, None)),
    ("the last sample is left out", lambda n: slice(0, -1)),
    ("the first sample is left out", lambda n: slice(1, None)),
    *(("only half of the samples count", rows) for rows in (
        lambda n: slice(None, None, 2), lambda n: slice(1, None, 2),
        lambda n: slice(None, n // 2), lambda n: slice(n // 2, None),
        lambda n: slice(None, n - n // 2), lambda n: slice(n - n // 2, None))),
]  # fmt: skip


def _some(at: str) -> list[Hypothesis]:
    return [Hypothesis(at, "batch-sum", words, _only(rows)[at == "db"]) for words, rows in SOME_SAMPLES]


def _spread(axis: int) -> Form:
    return lambda s: np.broadcast_to(s.right.value.sum(axis=axis, keepdims=True), s.right.value.shape) * 1.0


WEIGHTS = [
    Hypothesis("dW", "operand", "a{k} stands in the place of a{before}", lambda s: s.fitting(outer(s.a_k, s.dz)),
               "dW{k} = a{k}^T dz{k}"),
    Hypothesis("dW", "operand", "z{before} stands in the place of a{before}",
               lambda s: outer(s.z[s.k - 1], s.dz) if s.k > 1 else None, "dW{k} = z{before}^T dz{k}"),
    Hypothesis("dW", "operand", "da{k} stands in the place of dz{k}", lambda s: outer(s.below, s.da),
               "dW{k} = a{before}^T da{k}"),
    Hypothesis("dW", "operand", "a{before} is that of the previous batch",
               lambda s: s.fitting(outer(previous_a(s), s.dz)), "dW{k} with the previous batch's a{before}"),
    Hypothesis("dW", "operand", "dz{k} is that of the previous batch", lambda s: outer(s.below, previous_dz(s)),
               "dW{k} with the previous batch's dz{k}"),
    Hypothesis("dW", "operand", "it is that of the previous batch", previous_dW, "dW{k} of the previous batch"),
    Hypothesis("dW", "transposed", "dW{k} is transposed",
               lambda s: s.right.value.T if is_square(s.right.value) else None, "dW{k} = dz{k}^T a{before}"),
    *_some("dW"),
    Hypothesis("dW", "axis", "every row is the sum of the rows", _spread(0)),
    Hypothesis("dW", "axis", "every column is the sum of the columns", _spread(1)),
    Hypothesis("dW", "operand", "X stands in the place of a{before}", lambda s: s.fitting(outer(s.a[0], s.dz)),
               "dW{k} = X^T dz{k}"),
    Hypothesis("dW", "operand", "the a of two layers before stands in the place of a{before}",
               lambda s: s.fitting(outer(s.a[s.k - 2], s.dz)) if s.k > 1 else None),
    Hypothesis("dW", "operand", "dz{next} stands in the place of dz{k}",
               lambda s: s.fitting(outer(s.below, s.dz_next)), "dW{k} = a{before}^T dz{next}"),
    Hypothesis("dW", "batch-sum", "the sums over the samples are multiplied, instead of the products summed",
               lambda s: np.outer(s.below.sum(axis=0), s.dz.sum(axis=0))),
    Hypothesis("dW", "operand", "dz{k} enters by its absolute value", lambda s: outer(s.below, np.abs(s.dz))),
    Hypothesis("dW", "operand", "a{before} enters by its absolute value", lambda s: outer(np.abs(s.below), s.dz)),
    Hypothesis("dW", "operand", "a{before} is left out", lambda s: np.broadcast_to(
        s.dz.sum(axis=0, keepdims=True), s.right.value.shape) * 1.0),
]  # fmt: skip

BIASES = [
    Hypothesis("db", "operand", "dz{k} is that of the previous batch", previous_db, "db{k} of the previous batch"),
    Hypothesis("db", "operand", "da{k} stands in the place of dz{k}",
               lambda s: s.da.sum(axis=0, keepdims=True) if s.da is not None else None, "db{k} = sum of da{k}"),
    *_some("db"),
    Hypothesis("db", "axis", "the sum runs over the units instead of the samples",
               lambda s: s.fitting(s.dz.sum(axis=1, keepdims=True).T), "db{k} = sum of dz{k} over the units"),
    Hypothesis("db", "operand", "dz{k} enters by its absolute value",
               lambda s: np.abs(s.dz).sum(axis=0, keepdims=True)),
    Hypothesis("db", "axis", "all samples and units are summed", lambda s: np.full(s.right.value.shape, s.dz.sum())),
    Hypothesis("db", "axis", "all samples and units are averaged",
               lambda s: np.full(s.right.value.shape, s.dz.mean()) if s.dz.shape[1] > 1 else None),
    Hypothesis("db", "operand", "dz{next} stands in the place of dz{k}",
               lambda s: s.fitting(s.dz_next.sum(axis=0, keepdims=True)) if s.dz_next is not None else None),
    *(Hypothesis("db", "operand", "a{k} stands in the place of dz{k}", sum_of_a, "db{k} = sum of a{k}")
      for sum_of_a in (lambda s: s.a_k.sum(axis=0, keepdims=True) * s.scale,
                       lambda s: s.a_k.sum(axis=0, keepdims=True))),
    Hypothesis("db", "axis", "db{k} is taken from dW{k}: the sum over its columns",
               lambda s: s.fitting(outer(s.below, s.dz).sum(axis=1)[None]), "db{k} = row sums of dW{k}"),
    Hypothesis("db", "axis", "db{k} is taken from dW{k}: the sum over its rows",
               lambda s: outer(s.below, s.dz).sum(axis=0, keepdims=True), "db{k} = column sums of dW{k}"),
    Hypothesis("db", "operand", "db{k} is taken from dW{k}: the mean over its rows",
               lambda s: outer(s.below, s.dz).mean(axis=0, keepdims=True), "db{k} = column means of dW{k}"),
    Hypothesis("db", "axis", "db{k} is taken from dW{k}: its first row", lambda s: outer(s.below, s.dz)[:1],
               "db{k} = the first row of dW{k}"),
    Hypothesis("db", "axis", "db{k} is taken from dW{k}: its last row", lambda s: outer(s.below, s.dz)[-1:],
               "db{k} = the last row of dW{k}"),
]  # fmt: skip


# What has another shape than it should have
MISSHAPEN = [
    replace(WEIGHTS[0], make=lambda s: outer(s.a_k, s.dz)),
    Hypothesis("dW", "operand", "X stands in the place of a{before}", lambda s: outer(s.a[0], s.dz),
               "dW{k} = X^T dz{k}"),
    Hypothesis("dW", "operand", "the a of two layers before stands in the place of a{before}",
               lambda s: outer(s.a[s.k - 2], s.dz) if s.k > 1 else None),
    Hypothesis("dW", "operand", "dz{next} stands in the place of dz{k}", lambda s: outer(s.below, s.dz_next),
               "dW{k} = a{before}^T dz{next}"),
    Hypothesis("db", "axis", "the sum runs over the units instead of the samples",
               lambda s: s.dz.sum(axis=1, keepdims=True), "db{k} = sum of dz{k} over the units"),
    Hypothesis("db", "axis", "dz{k} is not summed over the samples", lambda s: s.dz, "db{k} = dz{k}"),
    Hypothesis("db", "axis", "all samples and units are summed", lambda s: s.dz.sum(keepdims=True)),
]  # fmt: skip


# --- forward ------------------------------------------------------------------------------------------------------


def _another_activation(name: str) -> Form:
    return lambda s: ACTIVATIONS[name].value(s.z_k, 1) if name != s.name else None


def _exponentials(shift: Callable[[Any], Any]) -> Form:
    return lambda s: np.exp(s.z_k - shift(s.z_k)) if s.name == "softmax" else None


FORWARD = [
    Hypothesis("z", "forward", "the bias is left out", lambda s: s.right.value - s.case.b[s.k],
               "z{k} = a{before} W{k}"),
    Hypothesis("z", "forward", "the bias enters with the wrong sign", lambda s: s.right.value - 2 * s.case.b[s.k]),
    Hypothesis("z", "forward", "W{k} is transposed", lambda s: s.below @ s.case.W[s.k].T + s.case.b[s.k]
               if is_square(s.case.W[s.k]) else None, "z{k} = a{before} W{k}^T + b{k}"),
    Hypothesis("z", "forward", "z{before} stands in the place of a{before}",
               lambda s: s.z[s.k - 1] @ s.case.W[s.k] + s.case.b[s.k] if s.k > 1 else None),
    Hypothesis("z", "forward", "the bias is added twice", lambda s: s.right.value + s.case.b[s.k]),
    Hypothesis("z", "forward", "the inputs are averaged instead of summed",
               lambda s: s.below @ s.case.W[s.k] / s.below.shape[1] + s.case.b[s.k]),
    Hypothesis("z", "forward", "a{before} is that of the previous batch",
               lambda s: s.fitting(previous_a(s) @ s.case.W[s.k] + s.case.b[s.k])
               if s.case.previous is not None else None),
    Hypothesis("a", "forward", "the activation is applied twice",
               lambda s: s.f.value(s.right.value, 1)),
    Hypothesis("a", "forward", "the activation is left out", lambda s: s.z_k, "a{k} = z{k}"),
    *(Hypothesis("a", "forward", f"the activation is another, {other}", _another_activation(other),
                 rule="the activation is another") for other in ACTIVATIONS),
    Hypothesis("a", "forward", "the activation is taken at -z{k}", lambda s: s.f.value(-s.z_k, 1),
               "a{k} = f(-z{k})"),
    Hypothesis("a", "factor", "it carries a factor 1/2", lambda s: 0.5 * s.right.value, "", "1/2"),
    Hypothesis("a", "factor", "it carries a factor 2", lambda s: 2.0 * s.right.value, "", "2"),
    Hypothesis("a", "forward", "the softmax runs over the samples instead of the units",
               lambda s: ACTIVATIONS["softmax"].value(s.z_k.T, 1).T if s.name == "softmax" else None),
    *(Hypothesis("a", "forward", "the softmax is not divided by the sum of the exponentials", _exponentials(shift))
      for shift in (lambda z: 0.0, lambda z: z.max(axis=1, keepdims=True), lambda z: z.max())),
]  # fmt: skip
