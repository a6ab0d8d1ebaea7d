"""Module, Neuron, Layer, MLP: micrograd's small API, with the parameters of a layer as two arrays W and b.

A layer computes a = f(x W + b), samples in rows: W (n_in, n_out), b (1, n_out). A neuron is a view of one column.

A network has a magnification. "scalar": W and b are arrays of Values, one node for every weight, named as in the
document: w2_31 is the weight of layer 2 from unit 1 below to unit 3, b2_3 its bias. "array": W and b of a layer are
one Tensor each, W2 and b2. The same seed draws the same numbers for both.

What a layer computes is recorded in the scope "layer 2", and a neuron's parameters in "neuron 3" inside of it, so that
Graph.collapse finds both: the parameters tell whose the nodes made from them are.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from autodiff import NO_GRAD, MixedNodes, Scalars, Tensor, Value, scalars, scope, value
from autodiff.tensor import raise_mixed, restacked
from autodiff.value import Label
from nn.activations import activation as activation_named
from nn.initializers import INITIALIZERS, check_sizes

MAGNIFICATIONS = ("scalar", "array")
USUAL = {Value, float, int, np.float64}  # what the units of one sample are, but for rare cases


class Module:
    """Something with parameters: a list of Values, or of Tensors."""

    def parameters(self) -> list[Any]:
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
    magnification: "scalar" makes W and b arrays of Values, "array" one Tensor each.

    Called with a list of n_in numbers or nodes it returns a node, or n_out of them: a list of Values, a Tensor
    (n_out,). With an array (n, n_in) it returns nodes (n, n_out). Raises MixedNodes (a TypeError) where a layer of
    Values is given a Tensor, and the other way round.

    >>> layer = Layer(2, 3, activation="tanh", seed=0)
    >>> layer.W.shape, layer.b.shape, len(layer([1.0, 2.0])), layer(np.ones((5, 2))).shape
    ((2, 3), (1, 3), 3, (5, 3))
    >>> of_arrays = Layer(2, 3, activation="tanh", seed=0, magnification="array")
    >>> of_arrays.W.name, len(layer.parameters()), len(of_arrays.parameters())
    ('W', 9, 2)
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
        magnification: str = "scalar",
    ) -> None:
        n_in, n_out = check_sizes([n_in, n_out])
        self.magnification = _checked_magnification(magnification)
        self.activation = ("relu" if nonlin else "identity") if activation is None else activation
        self._f = activation_named(self.activation)
        generator = generator or (random if seed is None else random.Random(operator.index(seed)))
        columns = [[generator.uniform(-1.0, 1.0) for _ in range(n_in)] for _ in range(n_out)]
        k = "" if number is None else number
        self.scope = f"layer {n_in}→{n_out}" if number is None else f"layer {number}"
        self._label = Label(None, (self.scope,))
        self.W: Any = np.ascontiguousarray(np.array(columns).T)
        self.b: Any = np.zeros((1, n_out))
        if self.magnification == "array":
            with scope(self.scope):
                self.W, self.b = Tensor(self.W, f"W{k}"), Tensor(self.b, f"b{k}")
            return
        self.W, self.b = scalars(self.W), scalars(self.b)
        for (j, i), w in np.ndenumerate(self.W):
            w.label = Label(f"w{k}_{_index(i + 1, j + 1)}", (*w.scope, self.scope, f"neuron {i + 1}"))
        for (_, i), b in np.ndenumerate(self.b):
            b.label = Label(f"b{k}_{i + 1}", (*b.scope, self.scope, f"neuron {i + 1}"))

    @property
    def neurons(self) -> list[Neuron]:
        """A view of each column, in order."""
        return [Neuron.of(self, column) for column in range(self.W.shape[1])]

    def parameters(self) -> list[Any]:
        """Neuron by neuron: its weights, then its bias; of a layer of Tensors W and b."""
        if self.magnification == "array":
            return [self.W, self.b]
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]

    def __call__(self, x: Any) -> Any:
        outer = value.unnamed  # `with scope(self.scope)`, without its overhead: a layer may be called for every sample
        value.unnamed = self._label if outer is None else Label(None, (*outer.scope, self.scope))
        try:
            return self._called(x)
        finally:
            value.unnamed = outer

    def _called(self, x: Any) -> Any:
        is_array = isinstance(x, (np.ndarray, Tensor))
        if is_array and x.ndim == 2:
            if x.shape[1] != self.W.shape[0]:
                raise ValueError(f"a layer of {self.W.shape[0]} inputs takes (n, {self.W.shape[0]}), got {x.shape}")
            return self._f(_input(x, self.magnification) @ self.W + self.b)
        if is_array and x.ndim != 1:
            raise ValueError(f"a layer of {self.W.shape[0]} inputs takes (n, {self.W.shape[0]}), got {x.shape}")
        # asked once for all units: this is a hot path
        usual = not isinstance(x, Tensor) and USUAL.issuperset(map(type, x))
        if not usual and isinstance(x, (list, tuple)) and any(map(_is_row, x)):
            raise TypeError("a batch is an array of shape (n, n_in), and a list is one sample: pass np.array(x)")
        if self.magnification == "array":
            _check_width(x, len(self.W))
            units = self._f(_row(x) @ self.W + self.b)[0]
            return units[0] if len(units) == 1 else units
        if not usual and (isinstance(x, Tensor) or any(isinstance(unit, Tensor) for unit in x)):
            _raise_mixed("scalar")
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

    In a layer of Tensors a neuron has no nodes of its own: w and b are cut out of W and b, for reading (data, grad)
    and for computing with them; what can be trained are the layer's W and b.

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
    def w(self) -> Any:
        """The weights, one per input: a list of Values, or a new node W[:, column] with the grad that W has there."""
        w = _part(self.layer.W, (slice(None), self.column))
        return w if isinstance(w, Tensor) else list(w)

    @property
    def b(self) -> Any:
        """The bias: a Value, or a new node b[0, column] with the grad that b has there."""
        return _part(self.layer.b, (0, self.column))

    def parameters(self) -> list[Any]:
        """The weights, then the bias; TypeError in a layer of Tensors, whose nodes are W and b as a whole."""
        if self.layer.magnification == "array":
            raise TypeError(
                f"a neuron in a layer of Tensors has no parameters of its own: its weights are column {self.column} of "
                f"the node {self.layer.W.name}. Train layer.parameters(), or build the network with "
                "magnification='scalar', where every weight is a node"
            )
        return [*self.w, self.b]

    def preactivation(self, x: Sequence[Any]) -> Any:
        """b + w_1 x_1 + w_2 x_2 + ..., summed in this order, by Tensors in that of a matrix product."""
        if self.layer.magnification == "array":
            _check_width(x, len(self.layer.W))
            return (_row(x) @ self.w)[0] + self.b
        return _preactivation(self.w, self.b, x)

    def __call__(self, x: Sequence[Any]) -> Any:
        with scope(self.layer.scope), scope(f"neuron {self.column + 1}"):
            return self.layer._f(self.preactivation(x))

    def __repr__(self) -> str:
        name = self.layer.activation
        kind = {"relu": "ReLU", "identity": "Linear"}.get(name, name.capitalize())
        return f"{kind}Neuron({self.layer.W.shape[0]})"


def _name(units: Any, letter: str) -> None:
    """Names the Values in an array (n, units): x_2, or of several samples x_5,2."""
    for row, sample in enumerate(units, 1):
        for column, unit in enumerate(sample, 1):
            unit.name = f"{letter}_{column}" if len(units) == 1 else f"{letter}_{row},{column}"


class MLP(Module):
    """A multilayer perceptron: n_in inputs and one layer per entry of n_outs.

    activations: a name per layer; by default relu, and identity for the last layer, as in micrograd.
    init: "uniform" as in micrograd, or a name of nn.initializers ("document", "he", ...), which needs a seed.
    seed=None draws from Python's own generator.
    magnification: "scalar", every weight a Value, as in micrograd; or "array", where parameters() are the Tensors
    W1, b1, W2, b2, ... of the layers. The numbers are the same.

    >>> model = MLP(2, [16, 16, 1], seed=0)
    >>> len(model.parameters())
    337
    >>> model([1.0, -2.0]).name = "score"
    >>> arrays = MLP(2, [16, 16, 1], seed=0, magnification="array")
    >>> [parameter.name for parameter in arrays.parameters()]
    ['W1', 'b1', 'W2', 'b2', 'W3', 'b3']
    >>> bool(abs(arrays([1.0, -2.0]).data - model([1.0, -2.0]).data) < 1e-12)
    True
    """

    def __init__(
        self,
        n_in: int,
        n_outs: Any,
        activations: Sequence[str] | None = None,
        init: str = "uniform",
        seed: int | None = None,
        magnification: str = "scalar",
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
        self.magnification = _checked_magnification(magnification)
        generator = random if seed is None else random.Random(operator.index(seed))
        self.layers = [
            Layer(a, b, activation=name, number=k, generator=generator, magnification=magnification)
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
                if isinstance(nodes, Tensor):
                    nodes.data = numbers  # _numbers has made a copy
                    continue
                for node, number in zip(nodes.flat, numbers.flat, strict=True):
                    node.data = float(number)
        return self

    def parameters(self) -> list[Any]:
        """Layer by layer, neuron by neuron: weights, then bias; of Tensors W1, b1, W2, b2, ..."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def trace(self, X: Any) -> tuple[list[Any], list[Any]]:
        """(z, a): every z_k = a_{k-1} W_k + b_k and a_k = f_k(z_k) of a batch X (n, n_0), lists over the layers.

        As in the document, a[0] is X, here as nodes, and z[0] is None. After loss.backward() their grads are the
        dz and da of the matrix formulas. Tensors are named z1, a1, ... as they are here; Values by their unit, a1_2,
        or where there are several samples by sample and unit, a1_5,2; all counted from 1.

        >>> z, a = MLP(2, [3, 1], seed=0).trace(np.ones((5, 2)))
        >>> [array.shape for array in a], a[1][0, 0].op is z[1][0, 0].op, a[1][4, 1].name
        ([(5, 2), (5, 3), (5, 1)], False, 'a1_5,2')
        """
        z: list[Any] = [None]
        x = _input(X if isinstance(X, Tensor) else np.asarray(X), self.magnification)
        with scope("inputs"):
            a: list[Any] = [
                scalars(x) if self.magnification == "scalar" else x if isinstance(x, Tensor) else Tensor(x, "X")
            ]
        if a[0].ndim != 2 or a[0].shape[1] != self.sizes[0]:
            raise ValueError(f"a network of {self.sizes[0]} inputs takes (n, {self.sizes[0]}), got {a[0].shape}")
        for k, layer in enumerate(self.layers, 1):
            with scope(layer.scope):
                z.append(a[-1] @ layer.W + layer.b)
                a.append(layer._f(z[-1]))
            if self.magnification == "array":
                a[-1].name, z[-1].name = f"a{k}", f"z{k}"  # of the identity a is z, and called so
        if self.magnification == "scalar":
            for k, (sums, units) in enumerate(zip(z, a, strict=True)):
                _name(units, f"a{k}" if k else "x")
                _name(sums if k else (), f"z{k}")
        return z, a

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x if _is_row(x) else [x])
        return x

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(repr, self.layers))}]"


def _checked_magnification(name: Any) -> str:
    if not isinstance(name, str) or name not in MAGNIFICATIONS:
        raise ValueError(f"unknown magnification {name!r}; known: {', '.join(MAGNIFICATIONS)}")
    return name


def _preactivation(w: Sequence[Any], b: Any, x: Sequence[Any]) -> Any:
    _check_width(x, len(w))
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


def _check_width(x: Sequence[Any], width: int) -> None:
    if len(x) != width:
        raise ValueError(f"a neuron of {width} inputs takes {width} numbers or nodes, got {len(x)}")


def _is_row(x: Any) -> bool:
    """Whether x is no single number or node, but several."""
    return isinstance(x, (list, tuple, np.ndarray)) or (isinstance(x, Tensor) and x.ndim > 0)


def _part(array: Any, key: Any) -> Any:
    part = array[key]
    if isinstance(part, Tensor) and array.has_grad:
        part.grad = array.grad[key]
    return part


def _row(x: Any) -> Any:
    """One sample, a list or 1-d array of numbers and Tensors, as an array or Tensor (1, n_in)."""
    return _input(x if isinstance(x, (np.ndarray, Tensor)) else _gathered(x), "array").reshape(1, -1)


def _gathered(x: Sequence[Any]) -> Any:
    if not any(isinstance(unit, (Tensor, Value)) for unit in x):
        return np.asarray(x)
    array = np.empty(len(x), dtype=object)  # np.array would take nodes apart
    array[:] = x
    return array


def _input(x: Any, magnification: str) -> Any:
    """x as what a network of this magnification computes with: nodes of its kind, or floats."""
    is_nodes = isinstance(x, Tensor) or x.dtype == object
    if not is_nodes and x.dtype.kind not in "fiub":
        raise TypeError(f"the input holds {x.dtype}, expected real numbers or nodes")
    if not is_nodes:  # nodes of a scalar graph hold copies of the numbers; a Tensor shares the memory
        return x.astype(float, copy=magnification == "scalar")
    if isinstance(x, Tensor) or any(isinstance(unit, Tensor) for unit in x.flat):
        if magnification == "scalar":
            _raise_mixed(magnification)
        return x if isinstance(x, Tensor) else restacked(x)
    if magnification == "scalar":
        return x if isinstance(x, Scalars) else scalars(x)
    if any(isinstance(unit, Value) for unit in x.flat):
        _raise_mixed(magnification)
    return _numbers(scalars(x).data)  # scalars says what is no real number


def _raise_mixed(magnification: str) -> NoReturn:
    try:
        raise_mixed("a layer")  # a transform that made the node may start again with one of the other kind
    except MixedNodes:
        own, came = ("Values", "a Tensor") if magnification == "scalar" else ("Tensors", "a Value")
        other = "array" if magnification == "scalar" else "scalar"
        raise MixedNodes(
            f"a layer of {own} was given {came}: array nodes and scalar nodes do not mix in one graph. Give it plain "
            f"numbers or {own}, or build the network with magnification={other!r}"
        ) from None
