"""Is this the derivative of that activation or loss? right, wrong or undecidable, and which mistake it is.

The truth is the gradient of f itself, run on our nodes, with slopes measured by differences as an independent judge.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from nn.audit.derivatives.activation import check_activation
from nn.audit.derivatives.functions import Function, derivative, function, is_loss
from nn.audit.derivatives.loss import check_loss
from nn.audit.report import Report

__all__ = ["check_derivative"]


def check_derivative(claimed: Function | str, f: Function | str, *, at: Sequence[float] = (), seed: int = 0) -> Report:
    """Report: whether claimed is the derivative of f, and if not, which mistake it is; the quantity is "derivative".

    f, claimed: functions of one array, elementwise (activations), or of (y, yhat) with the derivative by yhat (losses;
    f gives the terms or their total, over arrays with n samples in rows). Or names: of an activation, an elementary
    function, or a loss, which is then the sum over the batch ("mse": the mean). A name as a claim stands for the
    right derivative of what it names. at: further points of yours, for kinks that are not at round numbers.

    Checked at random, tiny and huge points and at the usual kinks. What is only wrong at a kink, or only beyond where
    an epsilon or the rounding of the claim shows, is a note; and so is what is not finite only so far out that the
    claim's own exponentials overflow. Undecidable where f gives no finite numbers. Raises TypeError if f or claimed is
    neither callable nor a name, ValueError for unknown names and for what cannot be run.

    >>> def dsigmoid(z):
    ...     s = 1 / (1 + np.exp(-z))
    ...     return 2 * s * (1 - s)
    >>> print(check_derivative(dsigmoid, "sigmoid").text("what"))
    wrong: 1 cause
    derivative: claimed is 2 times the derivative (at z = 0 it is 0.5, should be 0.25)
    >>> check_derivative(lambda z: 1 - np.tanh(z) ** 2, np.tanh).verdict
    'right'
    """
    of_loss = is_loss(f)
    claim, value = derivative(claimed, of_loss, "claimed"), function(f, of_loss, "f")
    name = f if isinstance(f, str) else None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        check = check_loss if of_loss else check_activation
        return check(claim, value, name, np.asarray(at, dtype=float), np.random.default_rng(seed))
