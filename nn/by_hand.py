"""A multilayer perceptron whose gradients somebody derived by hand: the claim, in plain NumPy.

This is the independent side of every cross-check, so it must never import autodiff. It is the network of the
tutorial "Application of differentiations in neural networks" (machinelearningmastery.com), formulas mended;
`as_published=True` brings the tutorial's mistakes back.

Glossary (k is the layer, 1..L; every list has the placeholder None at [0] unless it says otherwise):
    X, y, yhat       inputs, targets, outputs of a batch; n is the number of samples in it
    W, b             weights and biases
    z, a             z_k is the affine map of a_{k-1}, and a_k = f_k(z_k); a[0] is X and a[L] is yhat
    dz, dW, db, da   dL/dz, dL/dW, dL/db, dL/da for the loss L; da[0] is dL/dX
    p, q             the probabilities of a softmax, and 1 - p

Every formula stands in a table: LAYOUTS (the matrix equations), ACTIVATIONS, LOSSES, REDUCTIONS (where 1/n
comes from), LOGIT_LOSSES (exact where the output saturates), PUBLISHED_* (the tutorial's own arithmetic).
Sources: Goodfellow, Bengio, Courville, Deep Learning, 2016, section 6.5; Bishop, Pattern Recognition and
Machine Learning, 2006, section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nn.initializers import INITIALIZERS, check_sizes

__all__ = ["ACTIVATIONS", "LAYOUTS", "LOGIT_LOSSES", "LOSSES", "MLP", "REDUCTIONS"]

Array = NDArray[np.float64]
Layers = list[Any]  # one array per layer, None where there is none


# ---------------------------------------------------------------- the matrix formulas
@dataclass(frozen=True)
class Layout:
    """How a batch lies in its matrices, and the five formulas that follow from it."""

    shape: Callable[[int, int], tuple[int, int]]  # of (samples, units), of (n_{k-1}, n_k), of (1, n_k)
    units: int  # the axis along which the units of one sample lie
    z: Callable[[Array, Array, Array], Array]
    dW: Callable[[Array, Array], Array]
    db: Callable[[Array], Array]
    da: Callable[[Array, Array], Array]


LAYOUTS = {
    "row": Layout(  # samples in rows: X (n, n_0), y (n, n_L), W_k (n_{k-1}, n_k), b_k (1, n_k)
        shape=lambda samples, units: (samples, units),
        units=1,
        z=lambda a, W, b: a @ W + b,  # z_k = a_{k-1} W_k + b_k
        dW=lambda a, dz: a.T @ dz,  # dL/dW_k = a_{k-1}^T dL/dz_k: the product sums over the samples
        db=lambda dz: dz.sum(axis=0, keepdims=True),  # dL/db_k = sum of dL/dz_k over the samples
        da=lambda W, dz: dz @ W.T,  # dL/da_{k-1} = dL/dz_k W_k^T
    ),
    "column": Layout(  # samples in columns: all of them transposed
        shape=lambda samples, units: (units, samples),
        units=0,
        z=lambda a, W, b: W @ a + b,  # z_k = W_k a_{k-1} + b_k
        dW=lambda a, dz: dz @ a.T,  # dL/dW_k = dL/dz_k a_{k-1}^T
        db=lambda dz: dz.sum(axis=1, keepdims=True),  # dL/db_k = sum of dL/dz_k over the samples
        da=lambda W, dz: W.T @ dz,  # dL/da_{k-1} = W_k^T dL/dz_k
    ),
}


# ---------------------------------------------------------------- activations
@dataclass(frozen=True)
class Elementwise:
    """An activation that treats every unit alone, with its derivative f'."""

    f: Callable[[Array], Array]
    derivative: Callable[[Array], Array]

    def value(self, z: Array, units: int) -> Array:
        """f(z)."""
        return self.f(z)

    def pullback(self, z: Array, da: Array, units: int) -> Array:
        """dL/dz = dL/da * f'(z)."""
        return da * self.derivative(z)


@dataclass(frozen=True)
class Softmax:
    """a_i = exp(z_i) / sum_j exp(z_j) over the units of one sample, da_i/dz_j = a_i (delta_ij - a_j)."""

    def value(self, z: Array, units: int) -> Array:
        """p, the probabilities."""
        return _softmax(z, units)[0]

    def pullback(self, z: Array, da: Array, units: int) -> Array:
        """dL/dz = J^T dL/da per sample: dz_i = p_i (da_i - sum_j p_j da_j)."""
        p, _, _ = _softmax(z, units)
        # J^T takes a constant to 0; taking off the likeliest unit's da leaves nothing that could cancel
        likeliest = np.argmax(p, axis=units, keepdims=True)
        centred: Array = da - np.take_along_axis(da, likeliest, axis=units)
        mean: Array = (p * centred).sum(axis=units, keepdims=True)
        return p * (centred - mean)


def _sigmoid(z: Array) -> Array:
    e: Array = np.exp(-np.abs(z))  # at most 1: no overflow on either side
    return np.where(z < 0, e, np.ones_like(e)) / (1.0 + e)


def _softplus(z: Array) -> Array:
    # np.logaddexp(0, z) is the same, but warns of a nan that only passes through
    softplus: Array = np.maximum(0.0, z) + np.log1p(np.exp(-np.abs(z)))
    return softplus


def _tanh_derivative(z: Array) -> Array:
    e = np.exp(-np.abs(z))  # 1/cosh^2 without cosh, which overflows, and without 1 - tanh^2, which cancels
    sech: Array = 2.0 * e / (1.0 + e * e)
    return sech * sech


def _slopes(left: float) -> Callable[[Array], Array]:
    """The derivative of z -> z for z > 0, left z for z <= 0; at 0 it is `left` by convention."""
    # nan must pass through: both comparisons are False for it
    return lambda z: np.where(z > 0, 1.0, np.where(z <= 0, left, z))


LEAKY_SLOPE = 0.01
# relu'(0) = 0 and leaky_relu'(0) = 0.01: the slope from the left, by convention
ACTIVATIONS: dict[str, Elementwise | Softmax] = {
    "relu": Elementwise(lambda z: np.maximum(0.0, z), _slopes(0.0)),
    "leaky_relu": Elementwise(lambda z: np.where(z > 0, z, LEAKY_SLOPE * z), _slopes(LEAKY_SLOPE)),
    "tanh": Elementwise(np.tanh, _tanh_derivative),
    "sigmoid": Elementwise(_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "softplus": Elementwise(_softplus, _sigmoid),
    "identity": Elementwise(lambda z: z.copy(), np.ones_like),
    "softmax": Softmax(),
}


def _softmax(z: Array, units: int) -> tuple[Array, Array, Array]:
    """(p, q, log p) with q = 1 - p, all to full relative accuracy, also where p is next to 1."""
    shifted = z - z.max(axis=units, keepdims=True)
    e = np.exp(shifted)
    likeliest = np.indices(z.shape)[units] == np.argmax(z, axis=units, keepdims=True)
    # the likeliest unit has e = 1; `rest` is the sum of the others, too small to be had by subtraction
    rest = np.where(likeliest, e - 1.0, e).sum(axis=units, keepdims=True)
    q = np.where(likeliest, rest, 1.0 + (rest - e)) / (1.0 + rest)
    return e / (1.0 + rest), q, shifted - np.log1p(rest)


# ---------------------------------------------------------------- losses
@dataclass(frozen=True)
class Loss:
    """A loss that adds one term per output: the terms and their derivatives by yhat, elementwise."""

    terms: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]


def _weighted(y: Array, x: Array) -> Array:
    """y x with 0 * inf = 0: a target of zero means that its term is absent."""
    return y * np.where((y == 0) & np.isinf(x), 0.0, x)


def _ratio(y: Array, yhat: Array) -> Array:
    """y / yhat with 0 / 0 = 0, for the same reason; 1 / 0 is an honest inf."""
    return y / np.where((y == 0) & (yhat == 0), 1.0, yhat)


_SQUARED_ERROR = Loss(lambda y, yhat: np.square(yhat - y), lambda y, yhat: 2.0 * (yhat - y))

LOSSES = {
    "sse": _SQUARED_ERROR,  # (yhat - y)^2
    "half_sse": Loss(lambda y, yhat: 0.5 * np.square(yhat - y), lambda y, yhat: yhat - y),
    "mse": _SQUARED_ERROR,  # with the reduction mean_elements
    "bce": Loss(  # -y log yhat - (1 - y) log(1 - yhat)
        terms=lambda y, yhat: -_weighted(y, np.log(yhat)) - _weighted(1.0 - y, np.log1p(-yhat)),
        derivative=lambda y, yhat: _ratio(1.0 - y, 1.0 - yhat) - _ratio(y, yhat),
    ),
    "ce": Loss(  # -y log yhat
        terms=lambda y, yhat: -_weighted(y, np.log(yhat)),
        derivative=lambda y, yhat: -_ratio(y, yhat),
    ),
}

# what the sum over samples and outputs is divided by; it enters once, in dL/dyhat
REDUCTIONS: dict[str, Callable[[int, int], int]] = {
    "sum": lambda samples, outputs: 1,
    "mean": lambda samples, outputs: samples,
    "mean_elements": lambda samples, outputs: samples * outputs,
}


@dataclass(frozen=True)
class LogitLoss:
    """A loss as a function of z_L: neither capped nor cancelling where the output saturates."""

    terms: Callable[[Array, Array, int], Array]
    dz: Callable[[Array, Array, int], Array]


def _softmax_ce_dz(y: Array, z: Array, units: int) -> Array:
    """p_i sum_j y_j - y_i, which is yhat - y for labels that sum to 1, written so that nothing cancels."""
    p, q, _ = _softmax(z, units)
    others: Array = y.sum(axis=units, keepdims=True) - y
    return p * others - y * q


LOGIT_LOSSES = {
    ("sigmoid", "bce"): LogitLoss(
        # -log s(z) = softplus(-z) and -log(1 - s(z)) = softplus(z)
        terms=lambda y, z, units: _weighted(y, _softplus(-z)) + _weighted(1.0 - y, _softplus(z)),
        # yhat - y = (1 - y) s(z) - y s(-z), without cancellation
        dz=lambda y, z, units: (1.0 - y) * _sigmoid(z) - y * _sigmoid(-z),
    ),
    ("softmax", "ce"): LogitLoss(lambda y, z, units: -_weighted(y, _softmax(z, units)[2]), _softmax_ce_dz),
}


# ---------------------------------------------------------------- the tutorial's own arithmetic
_EPSILON = float(np.finfo(float).eps)


def _published_sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))


def _published_sigmoid_derivative(z: Array) -> Array:
    s = _published_sigmoid(z)
    return 2.0 * s * (1.0 - s)  # mistake: twice the derivative


def _published_bce(y: Array, yhat: Array) -> Array:
    """The tutorial's "average" loss: a sum over the samples, as an (m, m) matrix for m outputs."""
    log_yhat, log_rest = (np.log(np.maximum(part, _EPSILON)) for part in (yhat, 1.0 - yhat))
    # mistake: divides by the number of outputs instead of samples
    average: Array = -(y.T @ log_yhat + (1.0 - y.T) @ log_rest) / y.shape[1]
    return average


def _published_bce_derivative(y: Array, yhat: Array) -> Array:
    # mistake: the derivative of an average would carry 1/n
    return -(y / np.maximum(yhat, _EPSILON)) + (1.0 - y) / np.maximum(1.0 - yhat, _EPSILON)


# mistake: db averages over the samples while dW sums
PUBLISHED_LAYOUT = replace(LAYOUTS["row"], db=lambda dz: np.mean(dz, axis=0, keepdims=True))
PUBLISHED_ACTIVATIONS: dict[str, Elementwise | Softmax] = {
    "relu": Elementwise(lambda z: np.maximum(0.0, z), lambda z: (z > 0).astype(np.float64)),
    "sigmoid": Elementwise(_published_sigmoid, _published_sigmoid_derivative),
}
PUBLISHED_LOSS = Loss(_published_bce, _published_bce_derivative)


# ---------------------------------------------------------------- the network
class MLP:
    """a_k = f_k(z_k) for layers 1..L, with dL/dW_k and dL/db_k by hand-derived formulas, in float64.

    sizes         units of the layers 0..L
    activations   L names out of ACTIVATIONS. relu'(0) = 0 and leaky_relu'(0) = 0.01; softmax, in any layer,
                  is over the units of one sample
    loss          per sample, summed over the outputs: "sse" (yhat - y)^2, "half_sse", "bce", "ce" (labels may
                  be soft); "mse" is "sse" with the reduction "mean_elements"
    reduction     "sum", "mean" over samples, "mean_elements" over samples and outputs; 1/n enters once, in
                  dL/dyhat. With "mse" the default is read as "mean_elements", and "sum" is refused
    layout        "row": X (n, n_0), y (n, n_L), W_k (n_{k-1}, n_k), b_k (1, n_k); "column": all transposed
    as_published  the tutorial's arithmetic bit for bit: sigmoid' doubled, db averaged while dW sums, the loss
                  divided by the outputs instead of the samples, no 1/n in dL/dyhat, z and yhat clipped.
                  Needs the row layout, "bce", and only relu and sigmoid; `reduction` has no say

    The lists W b z a dz dW db da have L + 1 entries. W and b are yours to assign (`net.W[1] = ...`; b[k] may
    be 1-d) and are checked when used. `forward` copies what it needs: `backward` is the gradient at the last
    forward, even if W was changed since. Gradients stay until the next backward. A call that raises changes
    nothing; one that succeeds makes new lists and arrays and never writes into yours.

    With sigmoid under "bce" and softmax under "ce" at the output, loss and dz[L] come from z[L]: at y = 0 and
    z = 40 the loss is 40 and dz[L] is 1, while da[L], the plain dL/dyhat, is inf. Every other pair multiplies
    da[L] by the derivative of the activation: what is inf * 0 in it is nan, with NumPy's warning.

    Raises ValueError for names, sizes, shapes and settings that do not fit, TypeError for arrays that do not
    hold real numbers, RuntimeError for calls out of order.

    >>> net = MLP([1, 1], ["identity"], "sse")
    >>> net.W[1], net.b[1] = [[3.0]], [1.0]
    >>> yhat = net.forward([[2.0]])
    >>> yhat, net.loss_value([5.0], yhat)
    (array([[7.]]), 4.0)
    >>> net.backward([5.0], yhat)
    >>> net.dz[1], net.dW[1], net.db[1], net.da[0]
    (array([[4.]]), array([[8.]]), array([[4.]]), array([[12.]]))
    >>> net.update(0.125)
    >>> net.W[1], net.b[1]
    (array([[2.]]), array([[0.5]]))
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: Sequence[str],
        loss: str,
        reduction: str = "mean",
        layout: str = "row",
        as_published: bool = False,
    ) -> None:
        self.sizes = check_sizes(sizes)
        names = [activations] if isinstance(activations, str) else activations
        self.activations = tuple(_known("activations", name, ACTIVATIONS) for name in names)
        if isinstance(activations, str) or len(self.activations) != len(self.sizes) - 1:
            raise ValueError(
                f"activations must list one name for each of the layers 1..{len(self.sizes) - 1} of sizes "
                f"{list(self.sizes)}; came {activations!r}"
            )
        self.loss = _known("loss", loss, LOSSES)
        self.reduction = _known("reduction", reduction, REDUCTIONS)
        self.layout = _known("layout", layout, LAYOUTS)
        self.as_published = bool(as_published)
        if self.loss == "mse":
            if self.reduction == "sum":
                raise ValueError("loss='mse' is a mean; for reduction='sum' use loss='sse'")
            self.reduction = "mean_elements"
        unpublished = set(self.activations) - set(PUBLISHED_ACTIVATIONS)
        if self.as_published and (unpublished or self.layout != "row" or self.loss != "bce"):
            raise ValueError(
                "as_published=True repeats the tutorial: it needs layout='row', loss='bce' and only relu and "
                f"sigmoid as activations; came {layout!r}, {loss!r} and {list(self.activations)}"
            )
        self.W: Layers = self._empty()
        self.b: Layers = self._empty()
        self._start_over()

    def initialize(self, scheme: str = "document", seed: int | None = 42, **options: float) -> Self:
        """This network with W and b drawn by `nn.initializers.INITIALIZERS[scheme](sizes, seed, **options)`.

        One seed gives both layouts the same numbers. z, a and the gradients are None again.

        >>> MLP([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce").initialize("he", seed=7).W[1].shape
        (2, 4)
        """
        W, b = INITIALIZERS[_known("scheme", scheme, INITIALIZERS)](self.sizes, seed, **options)
        if self.layout == "column":
            W, b = ([None, *(parameter.T.copy() for parameter in layers[1:])] for layers in (W, b))
        self.W, self.b = W, b
        self._start_over()
        return self

    def forward(self, X: ArrayLike) -> Array:
        """yhat = a_L, through z_k and a_k = f_k(z_k) for k = 1..L; fills z and a.

        X is (n, n_0) in the row layout, (n_0, n) in the column layout, n >= 1; yhat has n_L for n_0.
        """
        rules, activations, _, _ = self._rows()
        W, b = self._parameters("W", self.W), self._parameters("b", self.b)
        z, a = self._empty(), self._empty()
        a[0] = self._matrix("X", X, None, self.sizes[0])
        for k, activation in enumerate(activations, start=1):
            z[k] = rules.z(a[k - 1], W[k], b[k])
            a[k] = activation.value(z[k], rules.units)
        self.z, self.a, self._W_of_forward = z, a, W
        return np.asarray(a[-1])

    def loss_value(self, y: ArrayLike, yhat: ArrayLike | None = None) -> float:
        """L(y, yhat), reduced over the batch; yhat defaults to the output of the last forward.

        Where yhat equals that output, sigmoid under "bce" and softmax under "ce" are evaluated from z[L]: the
        rounding of yhat does not cap the loss. Any other yhat goes through the plain formula, which is inf
        where yhat excludes what happened. As published: a sum, of one output only, at most 36.04 per sample.

        >>> net = MLP([1, 1], ["sigmoid"], "bce")
        >>> net.W[1], net.b[1] = [[1.0]], [0.0]
        >>> net.loss_value([0.0], net.forward([[40.0]]))
        40.0
        """
        target, output, is_last = self._compare(y, yhat)
        if self.as_published and self.sizes[-1] != 1:
            raise ValueError(f"the published loss is a number for 1 output only; sizes is {list(self.sizes)}")
        rules, _, loss, logit_loss = self._rows()
        with np.errstate(divide="ignore"):  # log 0 = -inf is a probability that underflowed, not an accident
            if logit_loss is not None and is_last:
                terms = logit_loss.terms(target, self.z[-1], rules.units)
            else:
                terms = loss.terms(target, output)
        return float(terms.sum() / self._count(output))

    def backward(self, y: ArrayLike, yhat: ArrayLike | None = None) -> None:
        """dL/dz_k, dL/dW_k, dL/db_k, dL/da_{k-1} for k = L..1, from da_L = dL/dyhat; fills dz, dW, db, da.

        y has the shape of yhat (1-d will do for a single output). yhat, if given, must be the output of the
        last forward, since z and a of that one are used.
        """
        if self.a[-1] is None:
            raise RuntimeError("backward needs the z and a of a forward pass; call forward(X) first")
        target, output, is_last = self._compare(y, yhat)
        if not is_last:
            raise ValueError("yhat is not the output of the last forward: leave it out or run forward again")
        rules, activations, loss, logit_loss = self._rows()
        count, last, W = self._count(output), len(activations), self._W_of_forward
        dz, dW, db, da = (self._empty() for _ in range(4))
        with np.errstate(divide="ignore", over="ignore"):  # inf is the slope where a saturated output is wrong
            da[last] = loss.derivative(target, output) / count  # the one place where 1/n enters ...
        for k in range(last, 0, -1):
            if k == last and logit_loss is not None:
                dz[k] = logit_loss.dz(target, self.z[k], rules.units) / count  # ... with its twin past da[L]
            else:
                dz[k] = activations[k - 1].pullback(self.z[k], da[k], rules.units)
            dW[k] = rules.dW(self.a[k - 1], dz[k])
            db[k] = rules.db(dz[k])
            da[k - 1] = rules.da(W[k], dz[k])
        self.dz, self.dW, self.db, self.da = dz, dW, db, da

    def update(self, learning_rate: float) -> None:
        """One step of gradient descent: W_k - eta dL/dW_k and b_k - eta dL/db_k, eta the learning rate.

        Uses the gradients of the last backward, however old; W and b become new arrays.
        """
        eta = _numbers("learning_rate", learning_rate)
        if eta.ndim != 0 or not np.isfinite(eta):
            raise ValueError(f"learning_rate must be one finite number; came {learning_rate!r}")
        dW, db = self._parameters("dW", self.dW), self._parameters("db", self.db)
        W, b = self._parameters("W", self.W), self._parameters("b", self.b)
        for k in range(1, len(self.sizes)):
            W[k] = W[k] - eta * dW[k]
            b[k] = b[k] - eta * db[k]
        self.W, self.b = W, b

    def _rows(self) -> tuple[Layout, list[Elementwise | Softmax], Loss, LogitLoss | None]:
        """The rows of the tables that apply, looked up at every call so that a changed row counts."""
        if self.as_published:
            activations = [PUBLISHED_ACTIVATIONS[name] for name in self.activations]
            return PUBLISHED_LAYOUT, activations, PUBLISHED_LOSS, None
        activations = [ACTIVATIONS[name] for name in self.activations]
        logit_loss = LOGIT_LOSSES.get((self.activations[-1], self.loss))
        return LAYOUTS[self.layout], activations, LOSSES[self.loss], logit_loss

    def _count(self, output: Array) -> int:
        samples, outputs = LAYOUTS[self.layout].shape(*output.shape)
        return 1 if self.as_published else REDUCTIONS[self.reduction](samples, outputs)

    def _empty(self) -> Layers:
        return [None] * len(self.sizes)

    def _start_over(self) -> None:
        self.z, self.a, self._W_of_forward = (self._empty() for _ in range(3))
        self.dz, self.dW, self.db, self.da = (self._empty() for _ in range(4))

    def _compare(self, y: ArrayLike, yhat: ArrayLike | None) -> tuple[Array, Array, bool]:
        """y and yhat as matrices of one shape, and whether yhat is the output of the last forward."""
        last = self.a[-1]
        if yhat is None and last is None:
            raise RuntimeError("there is no output to compare y with; call forward(X) first, or give yhat")
        output = last if yhat is None else self._matrix("yhat", yhat, None, self.sizes[-1], vector=True)
        samples, outputs = LAYOUTS[self.layout].shape(*output.shape)
        target = self._matrix("y", y, samples, outputs, vector=True)
        return target, output, last is not None and np.array_equal(output, last, equal_nan=True)

    def _parameters(self, name: str, layers: Layers) -> Layers:
        """Fresh float64 matrices of W, b, dW or db, every shape checked."""
        if not isinstance(layers, (list, tuple)) or len(layers) != len(self.sizes):
            raise ValueError(f"{name} must be a list: None, then an array per layer 1..{len(self.sizes) - 1}")
        checked = self._empty()
        for k in range(1, len(self.sizes)):
            if layers[k] is None:
                way_out = "call backward(y)" if name.startswith("d") else "call initialize() or assign it"
                raise RuntimeError(f"{name}[{k}] is not set; {way_out} first")
            is_bias = name.endswith("b")
            rows = 1 if is_bias else self.sizes[k - 1]
            checked[k] = self._matrix(f"{name}[{k}]", layers[k], rows, self.sizes[k], vector=is_bias)
        return checked

    def _matrix(self, name: str, value: Any, rows: int | None, columns: int, vector: bool = False) -> Array:
        """A float64 copy of `value`, in the row layout (rows, columns), None for any; a clear 1-d `vector` too."""
        array = _numbers(name, value)
        shape = LAYOUTS[self.layout].shape  # its own inverse: also from the stored shape to (rows, columns)
        if vector and array.ndim == 1 and (columns == 1 or rows == 1):
            array = array.reshape(shape(array.size, 1) if columns == 1 else shape(1, array.size))
        found = shape(*array.shape) if array.ndim == 2 else (-1, -1)
        if found[1] == columns and (found[0] == rows or (rows is None and found[0] > 0)):
            return array
        expected = "({}, {})".format(*(size if size > 0 else "n >= 1" for size in shape(rows or -1, columns)))
        raise ValueError(
            f"{name} has the shape {np.shape(value)}, expected {expected} for sizes {list(self.sizes)} in "
            f"the {self.layout} layout; reshape or transpose {name}, or change sizes or layout"
        )


def _known(argument: str, name: str, table: dict[str, Any]) -> str:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{argument}: {name!r} is not known; known are {', '.join(table)}")
    return name


def _numbers(name: str, value: ArrayLike) -> Array:
    """A float64 copy of an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a rectangular array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; came dtype {array.dtype}: convert it to float first")
    return np.array(array, dtype=np.float64)
