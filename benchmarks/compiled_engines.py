"""The engines that prepare a function once and call it often, each behind the same few functions.

chainrule        programs with the back end that `record` chooses; chainrule-numpy and so on: with that back end
chainrule-eager  the graph of Values, built and differentiated anew in every step, which is what programs are made from
casadi           an SX expression of the same operations on scalars, its gradient by casadi.gradient, and Functions of
                 the value and of both, run by its virtual machine through Function.buffer, which copies nothing
jax-scalars      jax.jit of value_and_grad over the same operations on scalars
jax, torch       the networks alone, on arrays: jax.jit of value_and_grad, and torch's backward, not compiled
hand             the networks alone: NumPy, with the backward pass that a person would write

Whatever is not installed takes no part. Nobody may use more threads than the job says, and numbers are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module, metadata, util
from typing import Any, NamedTuple

import numpy as np

from autodiff.programs.program import BACK_ENDS
from benchmarks.by_hand import by_hand, data_of, flat, loss_of, matrices
from benchmarks.engines import Chainrule
from benchmarks.workloads import ListMLP, Workload, workload

Clock = Callable[[], float]
PARTS = ("build", "gradient", "record", "prepare")  # in that order, up to the first value and gradient
WARM = ("W1-3", "W2-1e2", "W3-1e2")  # what an engine runs before it is timed: imports, caches, code compiled once
NETWORKS = ("W1", "W4", "W5")


class Prepared(NamedTuple):
    """A workload that is ready to run.

    parts: seconds until the first value and gradient, by PARTS. value_parts: seconds that a first value took more.
    value, both: one evaluation each, as fast as the engine allows. result: (loss, gradient, value alone) as floats.
    alone: the value by a function that was made for the value only, where that is another one. note: how it runs.
    """

    parts: dict[str, float]
    value_parts: float
    value: Callable[[], Any]
    both: Callable[[], Any]
    result: Callable[[], tuple[float, list[float], float]]
    alone: Callable[[], Any] | None = None
    plain: Callable[[], Any] | None = None  # both, called as the manual's first example does
    note: str = ""


def timed(f: Callable[..., Any], now: Clock, *args: Any) -> tuple[float, Any]:
    """(seconds, what f returns)."""
    start = now()
    found = f(*args)
    return now() - start, found


def scalar_loss(engine: Any, work: Workload, scalars: Sequence[Any]) -> Any:
    """The loss of these parameters, by the engine's own functions."""
    if work.sizes is None:
        return work.loss(engine, scalars)
    return work.loss(engine, ListMLP(work.sizes, scalars, [engine.relu] * (len(work.sizes) - 2) + [None]))


def scalar_workload(name: str) -> Workload:
    """The workload of that name; W4 is a step of training W1."""
    return workload(name.replace("W4", "W1"))


def warm(engine: Any, names: Sequence[str], now: Clock) -> None:
    """Runs these workloads, for imports, caches, and what is compiled once."""
    for name in names:
        engine.prepared(name, now).result()


# --- ours ---------------------------------------------------------------------------------------------------------


class Recorded:
    """Programs, by that back end; None: by the one that is chosen."""

    def __init__(self, back_end: str | None) -> None:
        self.back_end = back_end
        self.record = import_module("autodiff").record

    def warm(self, now: Clock) -> None:
        """The small workloads; whatever may be chosen for larger ones is warmed as well."""
        compiled = ["numba"] if self.back_end is None and util.find_spec("numba") else []
        for back_end in (self.back_end, *compiled):
            warm(self if back_end == self.back_end else Recorded(back_end), WARM, now)

    def prepared(self, name: str, now: Clock, alone: bool = True) -> Prepared:
        """The graph built, recorded and differentiated; alone: with a second program for the value only."""
        work = scalar_workload(name)
        leaves, build = Chainrule().forward(work)
        p, inputs = np.array(work.parameters), [np.array(leaves, dtype=object)]
        parts = {}
        parts["build"], output = timed(build, now)
        parts["record"], program = timed(self.record, now, output, inputs, self.back_end)
        other = self.record(output, inputs, self.back_end) if alone else None
        del output, build, leaves, inputs
        parts["prepare"], _ = timed(program.value_and_grad, now, p)
        more, _ = timed(program, now, p)

        def result() -> tuple[float, list[float], float]:
            value, (gradient,) = program.value_and_grad(p)
            return value, gradient.tolist(), program(p)

        def both() -> Any:
            return program.value_and_grad(p)

        return Prepared(
            parts, more, lambda: program(p), both, result, other and (lambda: other(p)), note=program.back_end
        )


class Eager:
    """The graph itself: the value is building and dropping it."""

    def prepared(self, name: str, now: Clock, alone: bool = True) -> Prepared:
        """Nothing is prepared; build is one graph."""
        work = scalar_workload(name)
        engine = Chainrule()
        _, build = engine.forward(work)
        step = engine.stepper(work, now)
        seconds, _ = timed(lambda: build().data, now)

        def result() -> tuple[float, list[float], float]:
            found = step()
            return found.loss, found.gradient, build().data

        return Prepared({"build": seconds}, 0.0, lambda: build().data, step, result)


# --- peers on scalars ---------------------------------------------------------------------------------------------


class Casadi:
    """CasADi's SX."""

    def __init__(self) -> None:
        self.casadi = casadi = import_module("casadi")
        self.exp, self.log, self.tanh = casadi.exp, casadi.log, casadi.tanh
        self.constants = list

    def relu(self, x: Any) -> Any:
        """max(x, 0)."""
        return self.casadi.fmax(x, 0.0)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x)): three operations where the workload counts one."""
        return 1.0 / (1.0 + self.casadi.exp(-x))

    def prepared(self, name: str, now: Clock, alone: bool = True) -> Prepared:
        """The expression, its gradient and the Function of both, timed apart; the Function of the value on top."""
        casadi, work = self.casadi, scalar_workload(name)
        numbers = np.array(work.parameters)
        symbols = [casadi.SX.sym(f"p{k}") for k in range(len(numbers))]
        column = casadi.vertcat(*symbols)
        parts = {}
        parts["build"], output = timed(lambda: scalar_loss(self, work, symbols), now)
        parts["gradient"], gradient = timed(casadi.gradient, now, output, column)

        kept: list[Any] = []  # a call fails when its function, its buffer or an array has gone

        def made(outputs: list[Any]) -> Any:
            function = casadi.Function("f", [column], outputs)
            buffer, call = function.buffer()
            buffer.set_arg(0, memoryview(numbers))
            results = [np.zeros(function.nnz_out(k)) for k in range(len(outputs))]
            for k, found in enumerate(results):
                buffer.set_res(k, memoryview(found))
            call()
            kept.append((function, buffer, numbers))
            return function, call, results

        parts["prepare"], (function, both, found) = timed(made, now, [output, gradient])
        more, (_, value, (found_alone,)) = timed(made, now, [output])
        rows = function.sparsity_out(1).row()  # only what is not zero by its structure has a place

        def result() -> tuple[float, list[float], float]:
            both()
            value()
            dense = np.zeros(len(numbers))
            dense[rows] = found[1]
            assert kept
            return float(found[0][0]), dense.tolist(), float(found_alone[0])

        return Prepared(parts, more, value, both, result, plain=lambda: function(numbers))


class JaxScalars:
    """jax.jit over scalars: one instruction for XLA per operation."""

    def __init__(self) -> None:
        self.jax = jax = import_module("jax")
        jax.config.update("jax_enable_x64", True)
        numpy = self.numpy = import_module("jax.numpy")
        self.exp, self.log, self.tanh = numpy.exp, numpy.log, numpy.tanh
        self.constants = list

    def warm(self, now: Clock) -> None:
        """One sample: there is nothing to warm but the library."""
        warm(self, ["W1-1"], now)

    def relu(self, x: Any) -> Any:
        """max(x, 0)."""
        return self.numpy.maximum(x, 0.0)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x))."""
        return 1.0 / (1.0 + self.numpy.exp(-x))

    def function(self, name: str) -> tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], list[float]]]:
        """(the loss, its arguments, the function that makes a flat list of their gradients)."""
        work = scalar_workload(name)
        count = len(work.parameters)

        def loss(p: Any) -> Any:
            return scalar_loss(self, work, [p[k] for k in range(count)])

        return loss, (self.numpy.array(work.parameters),), lambda gradient: np.asarray(gradient[0]).tolist()

    def prepared(self, name: str, now: Clock, alone: bool = True) -> Prepared:
        """The trace, derivative included, is "build"; compiling it and the first run are "prepare"."""
        jax = self.jax
        loss, arguments, flat_list = self.function(name)
        jitted = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(arguments)))))
        parts = {}
        parts["build"], lowered = timed(lambda: jitted.lower(*arguments), now)
        parts["prepare"], both_of = timed(lowered.compile, now)
        first, _ = timed(lambda: jax.block_until_ready(both_of(*arguments)), now)
        parts["prepare"] += first
        more, value_of = timed(lambda: jax.jit(loss).lower(*arguments).compile(), now)

        def both() -> Any:
            return jax.block_until_ready(both_of(*arguments))

        def value() -> Any:
            return jax.block_until_ready(value_of(*arguments))

        def result() -> tuple[float, list[float], float]:
            found, gradient = both()
            return float(found), flat_list(gradient), float(value())

        return Prepared(parts, more, value, both, result)


# --- the networks, on arrays --------------------------------------------------------------------------------------


def weights(name: str) -> tuple[list[Any], list[Any]]:
    """(W, b) of the network of that name."""
    data = data_of(name)
    assert data is not None
    return matrices(np.array(scalar_workload(name).parameters), data[0])


class Jax(JaxScalars):
    """jax.jit on arrays."""

    def function(self, name: str) -> tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], list[float]]]:
        """(the loss, W and b, the function that makes a flat list of their gradients)."""
        W, b = ([self.numpy.array(array) for array in arrays] for arrays in weights(name))
        loss = loss_of(name, self.numpy, self.relu, self.numpy.array)
        return loss, (W, b), lambda gradient: flat(*gradient).tolist()


class Torch:
    """torch on arrays."""

    def __init__(self) -> None:
        self.torch = import_module("torch")

    def prepared(self, name: str, now: Clock, alone: bool = True) -> Prepared:
        """Nothing is prepared but the first run."""
        torch = self.torch
        W, b = ([torch.tensor(array, requires_grad=True) for array in arrays] for arrays in weights(name))
        loss = loss_of(name, torch, torch.relu, torch.tensor)

        def both() -> Any:
            for tensor in (*W, *b):
                tensor.grad = None
            output = loss(W, b)
            output.backward()
            return output

        def value() -> Any:
            with torch.no_grad():
                return loss(W, b)

        def result() -> tuple[float, list[float], float]:
            found = float(both())
            gradients = ([tensor.grad.numpy() for tensor in tensors] for tensors in (W, b))
            return found, flat(*gradients).tolist(), float(value())

        seconds, _ = timed(both, now)
        return Prepared({"prepare": seconds}, 0.0, value, both, result)


class Hand:
    """NumPy by hand."""

    def prepared(self, name: str, now: Clock, alone: bool = True) -> Prepared:
        """Nothing is prepared."""
        W, b = weights(name)
        function, loss = by_hand(name)[0], loss_of(name)

        def result() -> tuple[float, list[float], float]:
            found, dW, db = function(W, b)
            return float(found), flat(dW, db).tolist(), float(loss(W, b))

        return Prepared({}, 0.0, lambda: loss(W, b), lambda: function(W, b), result)


# --- which there are ----------------------------------------------------------------------------------------------

OURS = "chainrule"


class Entry(NamedTuple):
    """An engine: how it is made, the module and the distribution it needs, how many operations it can do, and of what.

    The limits leave out what would take minutes or gigabytes: generated Python takes 40 to 60 us per operation to
    compile, CasADi 10 to 15 us per operation to build, XLA milliseconds per operation on scalars. At 10^7 operations,
    only the back end that is chosen runs.
    """

    make: Callable[[], Any]
    module: str
    distribution: str
    limit: float
    families: tuple[str, ...] = ("W1", "W2", "W3", "W4", "W5")

    def warmed(self, now: Clock) -> Any:
        """The engine, after it has run small workloads."""
        engine = self.make()
        if hasattr(engine, "warm"):
            engine.warm(now)
        else:
            warm(engine, [name for name in WARM if self.fits(name, 0)], now)
        return engine

    @property
    def installed(self) -> bool:
        """Whether its module is there."""
        return util.find_spec(self.module) is not None

    def fits(self, name: str, operations: int) -> bool:
        """Whether it takes part in the workload of that name."""
        return name.partition("-")[0] in self.families and operations <= 1.01 * self.limit


def ours() -> dict[str, Entry]:
    """Our engines, by every back end that is known."""
    limits = {"python": 1e4, "tape": 1e5}
    entries = {OURS: Entry(lambda: Recorded(None), "numpy", "chainrule", 1e7)}
    for name in BACK_ENDS:
        module = name if name == "numba" else "numpy"
        families = NETWORKS if name == "numpy" else ("W1", "W2", "W3", "W4", "W5")
        make = (lambda back_end: lambda: Recorded(back_end))(name)
        entries[f"{OURS}-{name}"] = Entry(make, module, "chainrule", limits.get(name, 1e6), families)
    return entries | {f"{OURS}-eager": Entry(Eager, "numpy", "chainrule", 1e5)}


ENGINES: dict[str, Entry] = {
    **ours(),
    "casadi": Entry(Casadi, "casadi", "casadi", 1e6),
    "jax-scalars": Entry(JaxScalars, "jax", "jax", 1e3),
    "jax": Entry(Jax, "jax", "jax", 1e7, NETWORKS),
    "torch": Entry(Torch, "torch", "torch", 1e7, NETWORKS),
    "hand": Entry(Hand, "numpy", "numpy", 1e7, NETWORKS),
}


def version(name: str) -> str:
    """The version of the engine's distribution."""
    try:
        return metadata.version(ENGINES[name].distribution)
    except metadata.PackageNotFoundError:
        return "from this checkout"
