"""Module, Neuron, Layer, MLP: micrograd's small API, with the parameters of a layer as two arrays of Values.

A layer computes a = f(x W + b), samples in rows: W (n_in, n_out), b (1, n_out). A neuron is a view of one column.
Parameters are named as in the document: w2_31 is the weight of layer 2 from unit 1 below to unit 3, b2_3 its bias.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff import NO_GRAD, Scalars, Value, scalars
from nn.activations import activation as activation_named
from nn.initializers import INITIALIZERS, check_sizes


class Module:
    """Something with parameters: a list of Values."""

    def parameters(self) -> list[Value]:
        """The trainable nodes, in a fixed order."""
        return []

    def zero_grad(self) -> None:
        """Sets the grad of every parameter to 0, and to a dash in pictures: no backward pass has reached it."""
        for parameter in self.parameters():
            parameter.grad = NO_GRAD


class Layer(Module):
    """n_out neurons over the same n_in inputs: a = f(x W + b).

    Weights are drawn uniformly from [-1, 1], neuron by neuron, and biases are 0, as in micrograd; from Python's own
    generator if seed is None. number: the layer's number in a network, which its parameters' names carry.

    Called with a list of n_in numbers or nodes it returns a node, or a list of them for n_out > 1; with an array
    (n, n_in) it returns an array (n, n_out) of nodes.

    >>> layer = Layer(2, 3, activation="tanh", seed=0)
    >>> layer.W.shape, layer.b.shape, len(layer([1.0, 2.0])), layer(np.ones((5, 2))).shape
    ((2, 3), (1, 3), 3, (5, 3))
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        nonlin: bool = True,
        activation: str | None = None,
        seed: int | None = None,
        number: int | None = None,
        generator: Any = None,
    ) -> None:
        n_in, n_out = check_sizes([n_in, n_out])
        self.activation = ("relu" if nonlin else "identity") if activation is None else activation
        self._f = activation_named(self.activation)
        generator = generator or (random if seed is None else random.Random(operator.index(seed)))
        columns = [[generator.uniform(-1.0, 1.0) for _ in range(n_in)] for _ in range(n_out)]
        k = "" if number is None else number
        self.W = scalars(np.array(columns).T)
        self.b = scalars(np.zeros((1, n_out)))
        for (j, i), w in np.ndenumerate(self.W):
            w.name = f"w{k}_{_index(i + 1, j + 1)}"
        for (_, i), b in np.ndenumerate(self.b):
            b.name = f"b{k}_{i + 1}"

    @property
    def neurons(self) -> list[Neuron]:
        """A view of each column, in order."""
        return [Neuron.of(self, column) for column in range(self.W.shape[1])]

    def parameters(self) -> list[Value]:
        """Neuron by neuron: its weights, then its bias."""
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]

    def __call__(self, x: Any) -> Any:
        if isinstance(x, np.ndarray) and x.ndim == 2:
            if x.shape[1] != self.W.shape[0]:
                raise ValueError(f"a layer of {self.W.shape[0]} inputs takes (n, {self.W.shape[0]}), got {x.shape}")
            return self._f(_real(x) @ self.W + self.b)
        if isinstance(x, np.ndarray) and x.ndim != 1:
            raise ValueError(f"a layer of {self.W.shape[0]} inputs takes (n, {self.W.shape[0]}), got {x.shape}")
        if isinstance(x, (list, tuple)) and any(isinstance(unit, (list, tuple, np.ndarray)) for unit in x):
            raise TypeError("a batch is an array of shape (n, n_in), and a list is one sample: pass np.array(x)")
        z = [_preactivation(w, b, x) for w, b in zip(self.W.T.tolist(), self.b[0].tolist(), strict=True)]
        if self.activation == "softmax":  # the one activation that mixes units
            out = list(self._f(scalars(np.array(z, dtype=object))))
        else:
            of_unit = getattr(Value, self.activation, self._f)  # the method of that name, which need not ask for arrays
            out = [of_unit(unit) for unit in z]
        return out[0] if len(out) == 1 else out

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(repr, self.neurons))}]"


class Neuron(Module):
    """f(w x + b) for a list x of n_in numbers or nodes: one column of a layer's W and b.

    >>> neuron = Neuron(2, seed=0)
    >>> neuron, len(neuron.parameters()), neuron.w[0] is neuron.layer.W[0, 0]
    (ReLUNeuron(2), 3, True)
    """

    def __init__(self, n_in: int, nonlin: bool = True, activation: str | None = None, seed: int | None = None) -> None:
        self.layer = Layer(n_in, 1, nonlin, activation, seed)
        self.column = 0

    @classmethod
    def of(cls, layer: Layer, column: int) -> Neuron:
        """The neuron that stands in this column of the layer."""
        neuron = cls.__new__(cls)
        neuron.layer, neuron.column = layer, column
        return neuron

    @property
    def nonlin(self) -> bool:
        """Whether there is an activation other than the identity."""
        return self.layer.activation != "identity"

    @property
    def w(self) -> list[Value]:
        """The weights, one per input."""
        return list(self.layer.W[:, self.column])

    @property
    def b(self) -> Value:
        """The bias."""
        bias: Value = self.layer.b[0, self.column]
        return bias

    def parameters(self) -> list[Value]:
        """The weights, then the bias."""
        return [*self.w, self.b]

    def preactivation(self, x: Sequence[Any]) -> Any:
        """b + w_1 x_1 + w_2 x_2 + ..., summed in this order."""
        return _preactivation(self.w, self.b, x)

    def __call__(self, x: Sequence[Any]) -> Any:
        return self.layer._f(self.preactivation(x))

    def __repr__(self) -> str:
        name = self.layer.activation
        kind = {"relu": "ReLU", "identity": "Linear"}.get(name, name.capitalize())
        return f"{kind}Neuron({self.layer.W.shape[0]})"


class MLP(Module):
    """A multilayer perceptron: n_in inputs and one layer per entry of n_outs.

    activations: a name per layer; by default relu, and identity for the last layer, as in micrograd.
    init: "uniform" as in micrograd, or a name of nn.initializers ("document", "he", ...), which needs a seed.
    seed=None draws from Python's own generator.

    >>> model = MLP(2, [16, 16, 1], seed=0)
    >>> len(model.parameters())
    337
    >>> model([1.0, -2.0]).name = "score"
    """

    def __init__(
        self,
        n_in: int,
        n_outs: Any,
        activations: Sequence[str] | None = None,
        init: str = "uniform",
        seed: int | None = None,
    ) -> None:
        if isinstance(n_outs, str) or not hasattr(n_outs, "__len__") or len(n_outs) == 0:
            raise TypeError(f"n_outs is a list with the width of every layer, such as [16, 16, 1], got {n_outs!r}")
        sizes = check_sizes([n_in, *n_outs])
        if activations is None:
            activations = ["relu"] * (len(n_outs) - 1) + ["identity"]
        if isinstance(activations, str) or len(activations) != len(n_outs):
            raise ValueError(f"one activation per layer: expected {len(n_outs)} names, got {activations!r}")
        for name in activations:
            activation_named(name)
        if init != "uniform" and init not in INITIALIZERS:
            raise ValueError(f"unknown init {init!r}; known: uniform, {', '.join(INITIALIZERS)}")
        if init != "uniform" and seed is None:
            raise ValueError(f"init={init!r} draws from a generator of its own: give it a seed, such as seed=42")
        self.sizes = sizes
        generator = random if seed is None else random.Random(operator.index(seed))
        self.layers = [
            Layer(a, b, activation=name, number=k, generator=generator)
            for k, (a, b, name) in enumerate(zip(sizes, sizes[1:], activations, strict=False), 1)
        ]
        if init != "uniform":
            self.assign(*INITIALIZERS[init](sizes, seed=seed))

    def assign(self, W: Sequence[Any], b: Sequence[Any]) -> MLP:
        """Copies numbers into the parameters and returns the model: W_k (n_in, n_out), b_k (1, n_out) or (n_out,).

        A leading None, as in the document's lists, is skipped. Raises ValueError, before anything changes, where a
        shape does not fit.

        >>> MLP(1, [1], seed=0).assign([[[2.0]]], [[0.5]])([3.0]).data
        6.5
        """
        W = [_numbers(array) for array in (W[1:] if len(W) and W[0] is None else W)]
        b = [_numbers(array) for array in (b[1:] if len(b) and b[0] is None else b)]
        if len(W) != len(self.layers) or len(b) != len(self.layers):
            raise ValueError(f"expected {len(self.layers)} arrays W and as many b, got {len(W)} and {len(b)}")
        for k, (layer, w_k, b_k) in enumerate(zip(self.layers, W, b, strict=True), 1):
            if w_k.shape != layer.W.shape:
                raise ValueError(f"W of layer {k} is (n_in, n_out) = {layer.W.shape}, got {w_k.shape}")
            if b_k.shape not in (layer.b.shape, layer.b.shape[1:]):
                raise ValueError(f"b of layer {k} is {layer.b.shape}, got {b_k.shape}")
        for layer, w_k, b_k in zip(self.layers, W, b, strict=True):
            for nodes, numbers in ((layer.W, w_k), (layer.b, b_k.reshape(1, -1))):
                for node, number in zip(nodes.flat, numbers.flat, strict=True):
                    node.data = float(number)
        return self

    def parameters(self) -> list[Value]:
        """Layer by layer, neuron by neuron: weights, then bias."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def trace(self, X: Any) -> tuple[list[Any], list[Any]]:
        """(z, a): every z_k = a_{k-1} W_k + b_k and a_k = f_k(z_k) of a batch X (n, n_0), lists over the layers.

        As in the document, a[0] is X, here as nodes, and z[0] is None. After loss.backward() their grads are the
        dz and da of the matrix formulas.

        >>> z, a = MLP(2, [3, 1], seed=0).trace(np.ones((5, 2)))
        >>> [array.shape for array in a], a[1][0, 0].op is z[1][0, 0].op
        ([(5, 2), (5, 3), (5, 1)], False)
        """
        z: list[Any] = [None]
        a = [scalars(_real(np.asarray(X)))]
        if a[0].ndim != 2 or a[0].shape[1] != self.sizes[0]:
            raise ValueError(f"a network of {self.sizes[0]} inputs takes (n, {self.sizes[0]}), got {a[0].shape}")
        for layer in self.layers:
            z.append(a[-1] @ layer.W + layer.b)
            a.append(layer._f(z[-1]))
        return z, a

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x if isinstance(x, (np.ndarray, list, tuple)) else [x])
        return x

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(repr, self.layers))}]"


def _preactivation(w: Sequence[Any], b: Any, x: Sequence[Any]) -> Any:
    if len(x) != len(w):
        raise ValueError(f"a neuron of {len(w)} inputs takes {len(w)} numbers or nodes, got {len(x)}")
    z = b
    for weight, unit in zip(w, x, strict=True):
        z = z + weight * unit
    return z


def _index(i: int, j: int) -> str:
    return f"{i}{j}" if i < 10 and j < 10 else f"{i},{j}"


def _numbers(array: Any) -> Any:
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":  # dtype=float would read "1" as 1 and None as nan
        raise TypeError(f"assign takes arrays of real numbers, got {array.dtype}")
    return array.astype(float)


def _real(x: Any) -> Any:
    if isinstance(x, Scalars):
        return x
    if x.dtype == object:
        return scalars(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"the input holds {x.dtype}, expected real numbers or nodes")
    return x.astype(float)
