"""The workloads: what is computed, written once for all engines, and how many operations that is.

W1  the document's MLP [2, 4, 3, 1] with mean binary cross-entropy on 1 or 100 samples of two circles
W2  a chain x = x * a + b, 10^2 to 10^6 operations
W3  a random DAG over + * / **2 exp log tanh relu
W5  micrograd's moons demo: MLP(2, [16, 16, 1]), hinge loss and L2

A loss is written with the operators and the engine's functions exp, log, tanh, relu, sigmoid, so it runs on nodes
of any engine, on plain floats, and on floats that count. All data come from generators of our own, seeded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Workload:
    """A loss of some parameters.

    loss(engine, parameters) is the forward pass. With sizes, the second argument is instead a network of those
    sizes, made by the engine's own nn and holding the parameters in the order of its parameters().
    """

    name: str
    title: str
    parameters: tuple[float, ...]
    loss: Callable[[Any, Any], Any]
    sizes: tuple[int, ...] | None = None


FULL = ("W1-1", "W1-100", "W2-1e2", "W2-1e3", "W2-1e4", "W2-1e5", "W2-1e6", "W3-1e5", "W5-100")
QUICK = ("W1-100", "W2-1e2", "W2-1e3", "W3-1e3", "W5-5")


def workload(name: str) -> Workload:
    """The workload of that name: a family and a size, as in "W1-100" (samples) or "W2-1e4" (operations)."""
    family, _, size = name.partition("-")
    try:
        number = float(size)
        make = FAMILIES[family]
    except (KeyError, ValueError):
        number = 0.0
    if number < 1.0 or not number.is_integer():  # nan and inf are no integers
        raise ValueError(f"unknown workload {name!r}; expected a family and a size, such as {', '.join(FULL)}")
    return make(name, int(number))


# --- W1: the document's network -------------------------------------------------------------------------------


class ListMLP:
    """A perceptron on plain lists, with micrograd's operations in micrograd's order: b + w1*x1 + w2*x2 + ...

    numbers: neuron by neuron, weights then bias. activations: a function per layer, None for none.
    """

    def __init__(self, sizes: Sequence[int], numbers: Sequence[Any], activations: Sequence[Any]) -> None:
        self.numbers = list(numbers)
        rest = iter(self.numbers)
        self.layers = [
            ([([next(rest) for _ in range(n_in)], next(rest)) for _ in range(n_out)], activation)
            for n_in, n_out, activation in zip(sizes, sizes[1:], activations, strict=False)
        ]

    def parameters(self) -> list[Any]:
        """The numbers, in the order given."""
        return self.numbers

    def __call__(self, x: Sequence[Any]) -> Any:
        for neurons, activation in self.layers:
            z = [sum((w * unit for w, unit in zip(weights, x, strict=False)), bias) for weights, bias in neurons]
            x = z if activation is None else [activation(unit) for unit in z]
        return x[0] if len(x) == 1 else x


def network(name: str, samples: int) -> Workload:
    """W1: mean cross-entropy of [2, 4, 3, 1] with relu, relu, sigmoid; the data are plain floats."""
    sizes = (2, 4, 3, 1)
    X, y = circles(samples, random.Random(1))
    generator = random.Random(12)  # leaves hardly a unit of relu dead
    numbers = he_numbers(sizes, generator)

    def loss(engine: Any, parameters: Sequence[Any]) -> Any:
        log = engine.log
        model = ListMLP(sizes, parameters, (engine.relu, engine.relu, engine.sigmoid))
        total = None
        for x, target in zip(X, y, strict=True):
            yhat = model(x)
            sample = -(target * log(yhat) + (1.0 - target) * log(1.0 - yhat))
            total = sample if total is None else total + sample
        return total / len(X)

    return Workload(name, f"MLP [2, 4, 3, 1], mean cross-entropy, {plural(samples, 'sample')}", numbers, loss)


def he_numbers(sizes: Sequence[int], generator: random.Random) -> tuple[float, ...]:
    """Weights from N(0, 2 / n_in) and small biases, neuron by neuron."""
    numbers: list[float] = []
    for n_in, n_out in pairwise(sizes):
        for _ in range(n_out):
            numbers += [generator.gauss(0.0, math.sqrt(2.0 / n_in)) for _ in range(n_in)]
            numbers.append(generator.gauss(0.0, 0.1))
    return tuple(numbers)


def circles(samples: int, generator: random.Random) -> tuple[list[list[float]], list[float]]:
    """(X, y): points on a circle of radius 1 (y = 0) and one of radius 0.5 (y = 1), with noise, in turn."""
    X, y = [], []
    for k in range(samples):
        angle, inside = generator.uniform(0.0, 2.0 * math.pi), k % 2
        radius = 0.5 if inside else 1.0
        X.append([radius * math.cos(angle) + generator.gauss(0.0, 0.05),
                  radius * math.sin(angle) + generator.gauss(0.0, 0.05)])  # fmt: skip
        y.append(float(inside))
    return X, y


# --- W2: a chain ----------------------------------------------------------------------------------------------


def chain(name: str, operations: int) -> Workload:
    """W2: x = x * a + b, from the parameters x, a, b; a is so close to 1 that no gradient fades away."""

    def loss(_engine: Any, parameters: Sequence[Any]) -> Any:
        x, a, b = parameters
        for _ in range(operations // 2):
            x = x * a + b
        return x

    return Workload(name, f"chain x = x * a + b, {plural(operations, 'operation')}", (0.7, 1.0 - 1e-6, 1e-6), loss)


# --- W3: a random graph ---------------------------------------------------------------------------------------


def random_graph(name: str, operations: int) -> Workload:
    """W3: a random DAG of about that many operations over 50 parameters; the loss is the mean of its sinks.

    Every operation comes with a guard, which counts as well: constants that keep every number within [-4, 4],
    denominators and arguments of log at least 1, and relu away from the exact zeros that an earlier relu leaves.
    Operands are drawn from the last 1000 results.
    """
    inputs = 50
    # kind -> its operations, guard included; the commonest twice in the draw
    cost = {"+": 2, "*": 2, "/": 3, "**2": 2, "exp": 2, "log": 3, "tanh": 1, "relu": 2}
    kinds = ["+", "+", "*", "*", "/", "**2", "exp", "log", "tanh", "relu"]
    generator = random.Random(3)
    numbers = tuple(generator.uniform(-2.0, 2.0) for _ in range(inputs))

    @cache
    def drawn() -> tuple[list[tuple[str, int, int]], list[int]]:  # when it is asked for: a minute for 10^7 operations
        program: list[tuple[str, int, int]] = []
        sinks, spent = set(range(inputs)), 0
        while spent + len(sinks) < operations:  # joining n sinks takes n - 1 operations + and one /
            kind, size = generator.choice(kinds), inputs + len(program)
            i, j = (generator.randrange(max(0, size - 1000), size) for _ in range(2))
            program.append((kind, i, j))
            sinks -= {i, j} if kind in "+*/" else {i}
            sinks.add(size)
            spent += cost[kind]
        return program, sorted(sinks)

    def loss(engine: Any, parameters: Sequence[Any]) -> Any:
        program, outputs = drawn()
        exp, log, tanh, relu = engine.exp, engine.log, engine.tanh, engine.relu
        guarded: dict[str, Callable[[Any, Any], Any]] = {
            "+": lambda x, y: (x + y) * 0.5,
            "*": lambda x, y: (x * y) * 0.25,
            "/": lambda x, y: x / (y**2 + 1.0),
            "**2": lambda x, y: x**2 * 0.25,
            "exp": lambda x, y: exp(x * 0.25),
            "log": lambda x, y: log(x**2 + 1.0),
            "tanh": lambda x, y: tanh(x),
            "relu": lambda x, y: relu(x - 0.1),
        }
        values = list(parameters)
        for kind, i, j in program:
            values.append(guarded[kind](values[i], values[j]))
        first, *others = [values[k] for k in outputs]
        return sum(others, first) / len(outputs)

    return Workload(name, f"random DAG, {plural(operations, 'operation')}", numbers, loss)


# --- W5: micrograd's demo -------------------------------------------------------------------------------------


def moons_demo(name: str, samples: int) -> Workload:
    """W5: the loss of micrograd's demo.ipynb, line by line, without its accuracy (no gradient flows there)."""
    sizes = (2, 16, 16, 1)
    X, y = moons(samples, random.Random(4))
    generator = random.Random(5)
    numbers: list[float] = []
    for n_in, n_out in pairwise(sizes):
        for _ in range(n_out):
            numbers += [generator.uniform(-1.0, 1.0) for _ in range(n_in)]
            numbers.append(0.0)

    def loss(engine: Any, model: Any) -> Any:
        relu = engine.relu
        inputs = [engine.constants(xrow) for xrow in X]

        # forward the model to get scores
        scores = list(map(model, inputs))

        # svm "max-margin" loss
        losses = [relu(1 + -yi * scorei) for yi, scorei in zip(y, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        # L2 regularization
        alpha = 1e-4
        reg_loss = alpha * sum(p * p for p in model.parameters())
        return data_loss + reg_loss

    title = f"micrograd's moons demo, MLP(2, [16, 16, 1]), {plural(samples, 'sample')}"
    return Workload(name, title, tuple(numbers), loss, sizes)


def moons(samples: int, generator: random.Random) -> tuple[list[list[float]], list[int]]:
    """(X, y): points on two half circles that reach into each other, with noise; y is 1 or -1, in turn."""
    X, y = [], []
    for k in range(samples):
        angle, lower = generator.uniform(0.0, math.pi), k % 2
        across, up = math.cos(angle), math.sin(angle)
        X.append([(1.0 - across if lower else across) + generator.gauss(0.0, 0.1),
                  (0.5 - up if lower else up) + generator.gauss(0.0, 0.1)])  # fmt: skip
        y.append(1 if lower else -1)
    return X, y


def plural(number: int, noun: str) -> str:
    """The number and its noun: 1 sample, 100 samples, 10^6 operations."""
    exponent = len(str(number)) - 1
    text = f"10^{exponent}" if number == 10**exponent and exponent > 2 else str(number)
    return f"{text} {noun}{'s' if number != 1 else ''}"


FAMILIES = {"W1": network, "W2": chain, "W3": random_graph, "W5": moons_demo}


# --- floats that count ----------------------------------------------------------------------------------------


class Counted:
    """A float that counts the operations it takes part in."""

    operations = 0

    def __init__(self, data: float) -> None:
        self.data = data

    @staticmethod
    def of(data: float) -> Counted:
        """The result of one more operation."""
        Counted.operations += 1
        return Counted(data)

    def __add__(self, other: Any) -> Counted:
        return Counted.of(self.data + _data(other))

    def __sub__(self, other: Any) -> Counted:
        return Counted.of(self.data - _data(other))

    def __rsub__(self, other: float) -> Counted:
        return Counted.of(other - self.data)

    def __mul__(self, other: Any) -> Counted:
        return Counted.of(self.data * _data(other))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Counted:
        return Counted.of(self.data / _data(other))

    def __pow__(self, other: float) -> Counted:
        return Counted.of(self.data**other)

    def __neg__(self) -> Counted:
        return Counted.of(-self.data)


def _data(x: Any) -> float:
    return x.data if isinstance(x, Counted) else x


class CountingEngine:
    """Plain floats in place of nodes: the loss that every engine must find, and the number of operations."""

    constants = list

    @staticmethod
    def exp(x: Counted) -> Counted:
        """e to the x."""
        return Counted.of(math.exp(x.data))

    @staticmethod
    def log(x: Counted) -> Counted:
        """The natural logarithm."""
        return Counted.of(math.log(x.data))

    @staticmethod
    def tanh(x: Counted) -> Counted:
        """The hyperbolic tangent."""
        return Counted.of(math.tanh(x.data))

    @staticmethod
    def relu(x: Counted) -> Counted:
        """max(x, 0)."""
        return Counted.of(max(x.data, 0.0))

    @staticmethod
    def sigmoid(x: Counted) -> Counted:
        """1 / (1 + exp(-x))."""
        return Counted.of(1.0 / (1.0 + math.exp(-x.data)))


@cache
def counted(name: str) -> tuple[float, int]:
    """(loss, operations) of the workload of that name, on plain floats."""
    work, engine = workload(name), CountingEngine()
    numbers: Any = [Counted(number) for number in work.parameters]
    if work.sizes:
        numbers = ListMLP(work.sizes, numbers, [engine.relu] * (len(work.sizes) - 2) + [None])
    Counted.operations = 0
    loss = work.loss(engine, numbers).data
    return loss, Counted.operations
