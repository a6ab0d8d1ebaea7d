"""The engines: chainrule, micrograd and HIPS autograd, each behind the same few functions.

Peers run with their default settings. What they lack is added in their own style, and nothing else is touched:

micrograd   has no exp, log, tanh and sigmoid: each is added to its Value as it writes relu, with a closure. Its
            division is a * b**-1, its a - b is a + b * -1; both stay. Its recursive topological sort fails at about
            1000 operations in a row: only where it does, an iterative one takes its place.
autograd    differentiates functions: value_and_grad of a function of a list of scalars, so building and backward
            are timed as one. It has no sigmoid without SciPy: added as a primitive of its own. relu is
            maximum(x, 0). Its nn is a perceptron on plain lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module, metadata, util
from time import perf_counter
from typing import Any, NamedTuple

from benchmarks.workloads import ListMLP, Workload


class Step(NamedTuple):
    """What one step found and what it took, in seconds; build is None where it is part of backward."""

    loss: float
    gradient: list[float]
    build: float | None
    backward: float
    drop: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return (self.build or 0.0) + self.backward + self.drop


class GraphEngine:
    """An engine with nodes that have .data, .grad and .backward(): chainrule and micrograd.

    node: the class of a node. mlp(sizes): a network of the engine's own nn. mend(node): called where the engine's
    own backward overflows the stack.
    """

    separable = True
    mend: Callable[[], str] | None = None

    def __init__(self, node: Any, mlp: Callable[[Sequence[int]], Any]) -> None:
        self.node, self.mlp = node, mlp
        self.added = ""
        self.exp, self.log, self.tanh = node.exp, node.log, node.tanh
        self.relu, self.sigmoid = node.relu, node.sigmoid

    def constants(self, numbers: Sequence[float]) -> list[Any]:
        """Data as nodes, as micrograd's demo has them."""
        return list(map(self.node, numbers))

    def forward(self, work: Workload) -> tuple[list[Any], Callable[[], Any]]:
        """(parameters, build): the leaves, made once, and a function that builds the graph above them."""
        if work.sizes is None:
            leaves = [self.node(number) for number in work.parameters]
            return leaves, lambda: work.loss(self, leaves)
        model = self.mlp(work.sizes)
        parameters = model.parameters()
        for parameter, number in zip(parameters, work.parameters, strict=True):
            parameter.data = number
        return parameters, lambda: work.loss(self, model)

    def stepper(self, work: Workload, clock: Callable[[], float]) -> Callable[[], Step]:
        """A function that makes one step and times it by the clock."""
        parameters, build = self.forward(work)

        def step() -> Step:
            start = clock()
            for parameter in parameters:
                parameter.grad = 0.0
            output = build()
            built = clock()
            output.backward()
            loss, gradient = output.data, [parameter.grad for parameter in parameters]
            done = clock()
            del output
            return Step(loss, gradient, built - start, done - built, clock() - done)

        if self.mend is not None:
            try:
                step()
            except RecursionError:
                self.added += self.mend()
        return step

    def hold(self, work: Workload) -> Callable[[], Any]:
        """A function that builds the graph, runs backward and returns the output, so that the graph stays."""
        self.stepper(work, perf_counter)  # mends what has to be mended
        _, build = self.forward(work)

        def made() -> Any:
            output = build()
            output.backward()
            return output

        return made


class Micrograd(GraphEngine):
    """micrograd, with what the docstring above says."""

    def __init__(self) -> None:
        engine, nn = import_module("micrograd.engine"), import_module("micrograd.nn")
        Value = engine.Value

        def exp(self: Any) -> Any:
            out = Value(math.exp(self.data), (self,), "exp")

            def _backward() -> None:
                self.grad += out.data * out.grad

            out._backward = _backward

            return out

        def log(self: Any) -> Any:
            out = Value(math.log(self.data), (self,), "log")

            def _backward() -> None:
                self.grad += out.grad / self.data

            out._backward = _backward

            return out

        def tanh(self: Any) -> Any:
            out = Value(math.tanh(self.data), (self,), "tanh")

            def _backward() -> None:
                self.grad += (1 - out.data**2) * out.grad

            out._backward = _backward

            return out

        def sigmoid(self: Any) -> Any:
            out = Value(1 / (1 + math.exp(-self.data)), (self,), "sigmoid")

            def _backward() -> None:
                self.grad += out.data * (1 - out.data) * out.grad

            out._backward = _backward

            return out

        for method in (exp, log, tanh, sigmoid):
            setattr(Value, method.__name__, method)
        super().__init__(Value, lambda sizes: nn.MLP(sizes[0], list(sizes[1:])))
        self.added = "added to its Value: exp, log, tanh, sigmoid"

    def mend(self) -> str:
        """An iterative topological sort in place of the recursive one; what was done, in words."""

        def backward(self: Any) -> None:
            # topological order all of the children in the graph
            topo = []
            visited = set()
            todo = [self]
            while todo:
                v = todo.pop()
                if v is None:  # everything above the next one is in topo
                    topo.append(todo.pop())
                elif v not in visited:
                    visited.add(v)
                    todo += (v, None, *v._prev)

            # go one variable at a time and apply the chain rule to get its gradient
            self.grad = 1
            for v in reversed(topo):
                v._backward()

        self.node.backward = backward
        return "; iterative topological sort in place of the recursive one, which fails here"


class Chainrule(GraphEngine):
    """Our own engine, as it stands in this checkout."""

    def __init__(self) -> None:
        autodiff, nn = import_module("autodiff"), import_module("nn")
        super().__init__(autodiff.Value, lambda sizes: nn.MLP(sizes[0], list(sizes[1:]), seed=0))


class Autograd:
    """HIPS autograd on scalars: what its users get from value_and_grad."""

    separable = False

    def __init__(self) -> None:
        numpy, extend = import_module("autograd.numpy"), import_module("autograd.extend")
        self.value_and_grad = import_module("autograd").value_and_grad
        self.exp, self.log, self.tanh = numpy.exp, numpy.log, numpy.tanh
        maximum = numpy.maximum
        self.relu = lambda x: maximum(x, 0.0)
        self.sigmoid = extend.primitive(lambda x: 1.0 / (1.0 + math.exp(-x)))
        extend.defvjp(self.sigmoid, lambda y, x: lambda g: g * y * (1.0 - y))
        self.constants = list
        self.added = "sigmoid added as a primitive; a perceptron on plain lists; build and backward not separable"

    def function(self, work: Workload) -> Callable[[Any], Any]:
        """The loss as a function of the list of all parameters."""

        def loss(numbers: Any) -> Any:
            scalars = [numbers[k] for k in range(len(work.parameters))]  # one node each, used many times
            if work.sizes is None:
                return work.loss(self, scalars)
            return work.loss(self, ListMLP(work.sizes, scalars, [self.relu] * (len(work.sizes) - 2) + [None]))

        return loss

    def stepper(self, work: Workload, clock: Callable[[], float]) -> Callable[[], Step]:
        """A function that makes one step and times it by the clock; the graph is dropped inside value_and_grad."""
        value_and_grad = self.value_and_grad(self.function(work))
        numbers = list(work.parameters)

        def step() -> Step:
            start = clock()
            value, gradient = value_and_grad(numbers)
            loss, gradient = float(value), [float(g) for g in gradient]
            return Step(loss, gradient, None, clock() - start, 0.0)

        return step

    def hold(self, work: Workload) -> Callable[[], Any]:
        """A function that builds the graph, runs backward and returns what holds the graph."""
        make_vjp = import_module("autograd").make_vjp(self.function(work))
        numbers = list(work.parameters)

        def made() -> Any:
            pullback, value = make_vjp(numbers)
            return pullback, pullback(value * 0.0 + 1.0)

        return made


ENGINES: dict[str, Callable[[], Any]] = {"chainrule": Chainrule, "micrograd": Micrograd, "autograd": Autograd}
# Where each comes from: (module that must be there, distribution that has the version)
SOURCE = {"chainrule": ("autodiff", "chainrule"), "micrograd": ("micrograd", "micrograd"),
          "autograd": ("autograd", "autograd")}  # fmt: skip


def installed() -> list[str]:
    """The engines that can run here."""
    return [name for name, (module, _) in SOURCE.items() if util.find_spec(module) is not None]


def version(name: str) -> str:
    """The version of the engine's distribution."""
    try:
        return metadata.version(SOURCE[name][1])
    except metadata.PackageNotFoundError:
        return "from this checkout"
