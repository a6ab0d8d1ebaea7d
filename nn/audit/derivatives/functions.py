"""What came: functions and the names of functions, their derivatives by our nodes, and how a claim is called.

Glossary: z, a an input and the output a = f(z); y, yhat target and prediction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import autodiff as ad
from nn import losses
from nn.activations import ACTIVATIONS

Floats = NDArray[np.float64]
Function = Callable[..., Any]

# Functions that a claim may be the derivative of, by mistake or on purpose.
FUNCTIONS: dict[str, Function] = {
    **{name: f for name, f in ACTIVATIONS.items() if name != "softmax"},
    "silu": ad.silu, "gelu": ad.gelu, "elu": ad.elu, "selu": ad.selu, "logsigmoid": ad.logsigmoid, "exp": ad.exp,
    "log": ad.log, "sin": ad.sin, "cos": ad.cos, "square": ad.square, "sqrt": ad.sqrt, "arctan": ad.arctan,
    "abs": ad.absolute, "sinh": ad.sinh, "cosh": ad.cosh, "erf": ad.erf,
}  # fmt: skip
FORMULAS = {
    "relu": "1 for z > 0, 0 for z < 0", "leaky_relu": "1 for z > 0, 0.01 for z < 0", "tanh": "1 - a**2",
    "sigmoid": "a*(1 - a)", "softplus": "sigmoid(z)", "identity": "1", "exp": "exp(z)", "sin": "cos(z)",
    "cos": "-sin(z)", "square": "2*z", "silu": "sigmoid(z) + z*sigmoid(z)*(1 - sigmoid(z))", "log": "1/z",
    "sqrt": "1/(2*a)", "arctan": "1/(1 + z**2)",
}  # fmt: skip
LOSS_FORMULAS = {
    "sse": "2*(yhat - y)", "half_sse": "yhat - y", "mse": "2*(yhat - y)/(n*m)", "ce": "-y/yhat",
    "bce": "-y/yhat + (1 - y)/(1 - yhat)",
}  # fmt: skip


def is_loss(f: Function | str) -> bool:
    """Whether f is a function of (y, yhat)."""
    if isinstance(f, str):
        return f in losses.LOSSES
    if isinstance(f, np.ufunc):
        return f.nin == 2
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # builtins
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def function(given: Function | str, of_loss: bool, argument: str) -> Function:
    """The function that was given, itself or by its name; TypeError and ValueError for what is neither."""
    if not isinstance(given, str):
        if not callable(given):
            raise TypeError(f"{argument} is a function or the name of one; came {type(given).__name__}")
        return given
    table: dict[str, Function] = {**FUNCTIONS, "softmax": ACTIVATIONS["softmax"]}
    if of_loss:
        table = {key: loss if key == "mse" else partial(loss, reduction="sum") for key, loss in losses.LOSSES.items()}
    if given not in table:
        raise ValueError(f"{argument}: {given!r} is not known; known are {', '.join(table)}")
    return table[given]


def derivative(given: Function | str, of_loss: bool, argument: str) -> Function:
    """The derivative that was given, itself or by the name of the function that it is the derivative of."""
    f = function(given, of_loss, argument)
    if not isinstance(given, str):
        return f
    if of_loss:
        return lambda y, yhat: loss_gradient(f, y, yhat)
    return lambda z: _gradient(f, np.asarray(z, dtype=float))


def slopes(f: Function, z: Floats) -> Floats | None:
    """f'(z), by running f on our nodes; None if f does not take them."""
    found = _gradient(f, z.reshape(-1, 1))
    return None if found is None else found[:, 0]


def loss_gradient(f: Function, y: Floats, yhat: Floats) -> Floats | None:
    """dL/dyhat for a loss that gives the terms or their total, by our nodes; None if f does not take them."""
    return _gradient(partial(f, y), yhat, or_total=True)


def _gradient(f: Function, at: Floats, or_total: bool = False) -> Floats | None:
    node = ad.Tensor(np.array(at))
    try:
        out = f(node)
        if not isinstance(out, ad.Tensor) or not (out.shape == node.shape or (or_total and out.size == 1)):
            return None
        np.sum(out).backward()
    except Exception:  # whatever foreign code raises on nodes: differences judge alone
        return None
    return np.asarray(node.grad, dtype=float)


class WrongShape(Exception):
    """A claim of the wrong shape: (found, expected)."""


def called(g: Function, z: Floats) -> NDArray[Any]:
    """g at every number of z, through arrays of two dimensions if g takes them, else one number at a time."""
    try:
        out = g(z.reshape(-1, 1).copy())
        if np.ndim(out) == 0:
            return np.full(z.shape, float(out))
        if np.shape(out) == (z.size, 1):
            return np.asarray(out)[:, 0]
        if np.shape(out) == (z.size, z.size):
            raise WrongShape(np.shape(out), (z.size, 1))
        shape = np.shape(out)
    except WrongShape:
        raise
    except Exception:
        shape = None
    try:
        return np.array([_number(g, float(t)) for t in z])
    except Exception as error:
        if shape is not None:
            raise WrongShape(shape, (z.size, 1)) from error
        raise ValueError(f"neither an array nor single numbers can be given to it: {error}") from error


def _number(g: Function, t: float) -> float:
    try:
        return float(np.asarray(g(t)).item())
    except OverflowError:  # where Python's math raises, NumPy says inf, and that it overflows
        return float(np.exp(1e3))
