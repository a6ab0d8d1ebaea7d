"""What the derivative of a loss would be by each of the mistakes known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from nn import losses
from nn.audit.derivatives.functions import LOSS_FORMULAS, Floats, Function, loss_gradient
from nn.audit.derivatives.samples import Mistake

KIND = "loss-derivative"
EPSILONS = [10.0**-k for k in range(1, 12)]


def loss_mistakes(f: Function, y: Floats, yhat: Floats, true: Floats) -> Iterator[Mistake]:
    """The mistakes at the elements (y, yhat) of batches, where dL/dyhat is true; the likeliest first."""
    alone = _of_each(f, y, yhat)
    scale = np.where(alone == 0, 1.0, true / np.where(alone == 0, 1.0, alone))  # the reduction of the batch
    for message, of_each, found in _of_elements(f, y, yhat, alone):
        yield KIND, scale * of_each, message, found


def _of_each(f: Function, y: Floats, yhat: Floats) -> Floats:
    """dL/dyhat of every element alone; nan where there is none."""
    each = [loss_gradient(f, np.array([[a]]), np.array([[b]])) for a, b in zip(y, yhat, strict=True)]
    return np.array([np.nan if found is None else found[0, 0] for found in each])


def _of_elements(f: Function, y: Floats, yhat: Floats, alone: Floats) -> Iterator[tuple[str, Floats, str | None]]:
    g = partial(_of_each, f)
    zeros, ones = np.zeros_like(y), np.ones_like(y)
    for message, of_each in _of_terms(y, alone, g(zeros, yhat), g(ones, yhat)):
        yield message, of_each, None
    yield "prediction and target are swapped", g(yhat, y), None
    for e in EPSILONS:
        small = f"{e:g}"
        yield f"an epsilon of {small} is added to yhat", g(y, yhat + e), f"yhat + {small}"
        held = np.clip(yhat, e, 1 - e)
        yield f"yhat is clipped too early, at {small}", g(y, held), f"clip(yhat, {small})"
        both = y * g(ones, yhat + e) + (1 - y) * g(zeros, yhat - e)
        yield f"an epsilon of {small} is added to both denominators", both, f"yhat + {small}"
    yield "this is the derivative by z of sigmoid or softmax with cross entropy", yhat - y, "yhat - y"
    for name in ("sse", "half_sse", "bce", "ce"):
        of_other = loss_gradient(partial(losses.LOSSES[name], reduction="sum"), y[:, None], yhat[:, None])
        if of_other is not None:
            yield f"this is the derivative of {name}, another loss", of_other[:, 0], LOSS_FORMULAS[name]
    yield "the derivative is squared", alone**2, None
    yield "claimed is y - yhat squared or the loss itself", (yhat - y) ** 2, None
    yield "claimed is only the sign of the difference", np.sign(yhat - y), "sign(yhat - y)"


def _of_terms(y: Floats, alone: Floats, without: Floats, whole: Floats) -> Iterator[tuple[str, Floats]]:
    """Of a derivative that is linear in y: its terms with wrong signs and alone; without, whole: at y = 0 and 1."""
    if not np.allclose(without + y * (whole - without), alone, rtol=1e-6, atol=1e-9):
        return
    terms = [
        (y * whole, (1.0 - y) * without, "the term with y", "the term with 1 - y"),
        (alone - without, without, "y", "yhat"),
    ]
    for one, other, one_name, other_name in terms:
        if one.any() and other.any():
            yield f"{one_name} has the wrong sign", other - one
            yield f"{other_name} has the wrong sign", one - other
            yield f"{other_name} is missing", one
            yield f"{one_name} is missing", other
