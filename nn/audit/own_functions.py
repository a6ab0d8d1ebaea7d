"""An activation and a loss that have no name, out of a model's own code: what it computes is f, its graph gives f'.

The objects stand where those of nn.by_hand.ACTIVATIONS and LOSSES stand, so that a network with such a function is
audited as any other. f is evaluated by running the forward pass with z_k put in the place of the bias of layer k, and
zeros in that of W_k: masks and draws come out as the code makes them. Arrays are in the row layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from autodiff import Tensor
from autodiff.graph import order
from autodiff.sweeps import pulled
from nn.audit.unnamed import Variant, variants

Run = Callable[[Any], tuple[Any, Any]]  # z, in the row layout -> (the leaf z, the node a), both in the model's own


class Activation:
    """a = f(z) of a whole batch, of which nothing but its values and derivatives is known."""

    def __init__(self, run: Run, turned: tuple[bool, bool], shape: tuple[int, ...]) -> None:
        # turned: whether the model keeps z, and a, with samples in columns
        self.run, self.turned, self.shape = run, turned, shape
        self._runs: dict[bytes, tuple[Any, Any]] = {}

    def _at(self, z: Any) -> tuple[Any, Any]:
        if np.shape(z) != self.shape:
            raise ValueError(f"the activation is known for arrays of the shape {self.shape} alone, got {np.shape(z)}")
        key = z.tobytes()
        if key not in self._runs:
            with np.errstate(all="ignore"):
                self._runs[key] = self.run(z)
        return self._runs[key]

    def value(self, z: Any, units: int) -> Any:
        """f(z)."""
        a = self._at(z)[1].data
        return np.array(a.T if self.turned[1] else a, dtype=float)

    def pullback(self, z: Any, da: Any, units: int) -> Any:
        """dL/dz from dL/da."""
        leaf, a = self._at(z)
        with np.errstate(all="ignore"):
            found = pulled(order(a), {a: np.array(da.T if self.turned[1] else da)}, [leaf]).get(leaf)
        if found is None:
            return np.zeros(self.shape)
        return np.array(found.T if self.turned[0] else found, dtype=float)

    def sizes(self, z: Any) -> tuple[float, float]:
        """How large f and its derivative are on average over the range of z: what their forms round like."""
        points, weights = within(z), uneven(self.shape)
        values = [mean_size(self.value(at, 1)) for at in points]
        return max(values), max(mean_size(self.pullback(at, weights, 1)) for at in points)

    def is_recorded(self, z: Any) -> bool:
        """Whether f changes as its graph tells: code may turn nodes into plain numbers on the way."""
        step = np.random.default_rng(1).standard_normal(self.shape)
        slope = float(np.sum(self.pullback(z, uneven(self.shape), 1) * step))
        return follows(lambda h: float(np.sum(uneven(self.shape) * self.value(z + h * step, 1))), slope)


class Elementwise(Activation):
    """a = f(z) element by element."""

    def derivative(self, z: Any) -> Any:
        """f'(z)."""
        return self.pullback(z, np.ones(self.shape), 1)

    def variants(self, z: Any) -> Iterator[Variant]:
        """What f'(z) is with a mistake in one of the operations that f is made of."""
        leaf, a = self._at(z)
        with np.errstate(all="ignore"):
            for words, slope in variants(a, leaf, np.ones(a.shape)):
                yield words, np.array(slope.T if self.turned[0] else slope, dtype=float)

    def pullback(self, z: Any, da: Any, units: int) -> Any:
        """dL/dz = dL/da * f'(z)."""
        if da.shape == self.shape and (da == 1.0).all():
            return super().pullback(z, da, units)
        return da * self.derivative(z)


def activation(run: Run, turned: tuple[bool, bool], z: Any) -> Activation:
    """The activation, element by element where its Jacobian is diagonal, at z and over the range of z."""
    f = Activation(run, turned, z.shape)
    weights = uneven(z.shape)
    for at in (z, *within(z)):
        together, alone = f.pullback(at, weights, 1), weights * f.pullback(at, np.ones(z.shape), 1)
        if not np.allclose(together, alone, rtol=1e-9, atol=1e-12 * float(np.max(np.abs(alone), initial=0.0))):
            return f
    return Elementwise(run, turned, z.shape)


class Loss:
    """A loss of (y, yhat), with its derivative times what its reduction divides by."""

    def __init__(self, function: Callable[[Any, Any], Any], turned: bool, count: float, labels: Any = None) -> None:
        # labels: where the model is given the number of the class per sample, in what shape and type
        self.function, self.turned, self.count, self.labels = function, turned, count, labels
        self._derivatives: dict[tuple[bytes, bytes], Any] = {}

    def times(self, count: float) -> Loss:
        """The same loss with another 1/n."""
        return Loss(self.function, self.turned, count, self.labels)

    def derivative(self, y: Any, yhat: Any) -> Any:
        """dL/dyhat, without the 1/n."""
        key = y.tobytes(), yhat.tobytes()
        if key not in self._derivatives:
            self._derivatives[key] = self._derivative(y, yhat)
        return self._derivatives[key]

    def _derivative(self, y: Any, yhat: Any) -> Any:
        leaf, loss = self._recorded(y, yhat)
        with np.errstate(all="ignore"):
            found = pulled(order(loss), {loss: np.ones(loss.shape)}, [leaf]).get(leaf)
        if found is None:
            return np.zeros(yhat.shape)
        return self.count * np.array(found.T if self.turned else found, dtype=float)

    def _recorded(self, y: Any, yhat: Any) -> tuple[Any, Any]:
        """(the leaf yhat, the loss)."""
        leaf = Tensor(np.array(yhat.T if self.turned else yhat, dtype=float))
        with np.errstate(all="ignore"):
            loss = self.called(y, leaf)
        if not isinstance(loss, Tensor) or loss.size != 1:
            raise ValueError("the loss is no number that depends on yhat")
        return leaf, loss

    def variants(self, y: Any, yhat: Any) -> Iterator[Variant]:
        """What the derivative is with a mistake in one of the operations that the loss is made of."""
        leaf, loss = self._recorded(y, yhat)
        with np.errstate(all="ignore"):
            for words, found in variants(loss, leaf, np.ones(loss.shape)):
                yield words, self.count * np.array(found.T if self.turned else found, dtype=float)

    def is_recorded(self, y: Any, yhat: Any) -> bool:
        """Whether the loss changes as its graph tells."""
        step = np.random.default_rng(1).standard_normal(yhat.shape)
        slope = float(np.sum(self.derivative(y, yhat) * step)) / self.count

        def at(h: float) -> float:
            moved = yhat + h * step
            return float(np.asarray(self.called(y, moved.T if self.turned else moved)).item())

        return follows(at, slope)

    def called(self, y: Any, yhat: Any) -> Any:
        """The loss of y in the row layout and yhat as the model has it; ValueError where it raises."""
        if self.labels is not None:
            given = np.argmax(y, axis=1).astype(self.labels.dtype).reshape((-1,) + (1,) * (self.labels.ndim - 1))
            given = given.T if self.labels.ndim == 2 and self.labels.shape[0] == 1 else given
        else:
            given = np.array(y.T if self.turned else y)
        try:
            return self.function(given, yhat)
        except Exception as error:  # a foreign function on arguments it was not written for
            raise ValueError(f"the loss raises {type(error).__name__}") from None

    def size(self, y: Any, yhat: Any) -> float:
        """How large the derivative is in the middle of the range of yhat."""
        with np.errstate(all="ignore"):
            found = np.abs(self.derivative(y, spread_over(float(yhat.min()), float(yhat.max()), yhat.shape)))
        return float(np.median(found)) if np.isfinite(found).all() else 0.0


def follows(function: Callable[[float], float], slope: float) -> bool:
    """Whether a function of a step h has this slope at 0, as differences of two steps tell.

    Where these do not agree with each other, at a kink or for rounding, they tell so much less; where the function is
    not finite, nothing.
    """
    with np.errstate(all="ignore"):
        wide, narrow = ((function(h) - function(-h)) / (2 * h) for h in (1e-4, 1e-6))
        loose = 1e-7 * (1 + abs(function(0.0))) + abs(wide - narrow)
    if not np.isfinite([slope, loose]).all():
        return True
    return any(abs(slope - one) <= loose + 1e-4 * abs(one) for one in (wide, narrow))


def within(z: Any) -> list[Any]:
    """Arrays in the shape of z, of a dozen numbers or more over its range: on both sides of 0, and near it too."""
    top = float(np.max(np.abs(z), initial=0.0, where=np.isfinite(z))) or 1.0
    fills = -(-12 // max(1, z.size))
    sizes = np.geomspace(1e-3 * top, top, fills * z.size)
    signs = np.resize((1.0, -1.0, -1.0, 1.0), sizes.shape)
    shuffled = np.random.default_rng(z.size).permutation(sizes * signs)
    return [part.reshape(z.shape) for part in np.split(shuffled, fills)]


def uneven(shape: Sequence[int]) -> Any:
    """Upstreams from 1/2 to 2: what is alike for all units tells nothing of a softmax."""
    return np.random.default_rng(0).uniform(0.5, 2.0, shape)


def spread_over(low: float, high: float, shape: Sequence[int]) -> Any:
    """Numbers from low to high, in another order, and none of them an end."""
    size = int(np.prod(shape))
    even = low + (high - low) * (np.arange(size) + 0.37) / max(1, size)
    return np.random.default_rng(size).permutation(even).reshape(shape)


def mean_size(x: Any) -> float:
    """The mean of the absolute values, of those that are finite."""
    finite = np.isfinite(x)
    return float(np.mean(np.abs(x[finite]))) if finite.any() else 0.0
