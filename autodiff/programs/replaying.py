"""replay: a function is recorded when it is called for the first time, and its program runs from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import trees
from autodiff.programs import exports
from autodiff.programs.arguments import Arguments, Key, holds_nodes
from autodiff.programs.guards import ALONE, watched
from autodiff.programs.program import Inputs, Program, number
from autodiff.programs.recording import DATA, Tape, distinct, taped
from autodiff.programs.sums import seen_from_outside
from autodiff.value import NO_GRAD, REAL, Value

MOST_RECORDINGS = 64  # kept per signature; the one that was used longest ago goes
MOST_SIGNATURES = 64  # kept; the first one goes
REDUCTIONS = ("mean", "sum", None)


@dataclass
class Statistics:
    """How often the function itself ran, how often a program ran instead, and how often one did not fit.

    A program does not fit where a comparison comes out differently: a guard failure.
    """

    recordings: int = 0
    replays: int = 0
    guard_failures: int = 0


class Recording:
    """One program of a function, with the nodes from elsewhere whose numbers it reads at every call."""

    __slots__ = ("captured", "fixed", "program")

    def __init__(self, program: Program, captured: Sequence[Value], fixed: Sequence[Any]) -> None:
        self.program, self.captured, self.fixed = program, captured, fixed

    def columns(self, arguments: Arguments) -> tuple[Any, None, Any]:
        """What the program takes."""
        numbers = arguments.column(arguments.numbers, [node.data for node in self.captured])
        return numbers, None, arguments.column(arguments.data)


def _captured(tape: Tape, elsewhere: Sequence[bool]) -> Any:
    """The numbers of the nodes made elsewhere that something else needs: an operation, a guard, or the caller."""
    is_elsewhere = np.array(elsewhere)
    is_elsewhere[: len(tape.inputs) + len(tape.data)] = False
    if not is_elsewhere.any():
        return []
    made = np.flatnonzero((tape.code > DATA) & ~is_elsewhere)
    two = made[tape.two_nodes()[tape.code[made]]]
    needed = distinct(np.concatenate([tape.a[made], tape.b[two], seen_from_outside(tape)]))
    return needed[is_elsewhere[needed]].tolist()


class Replayed:
    """A function with its recordings; see `replay`."""

    def __init__(self, f: Callable[..., Any], argnums: Any, back_end: str | None) -> None:
        self.f, self.argnums, self.back_end = f, argnums, back_end
        self.__wrapped__ = f
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self.__doc__ = getattr(f, "__doc__", None)
        self.statistics = Statistics()
        self._recordings: dict[Key, list[Recording]] = {}

    @property
    def programs(self) -> list[Program]:
        """The programs recorded so far."""
        return [recording.program for recordings in self._recordings.values() for recording in recordings]

    @property
    def program(self) -> Program:
        """The one program recorded so far, as exports need it; ValueError where there is none yet, or another one."""
        found = self.programs
        if len(found) != 1:
            raise ValueError(
                f"{self.__name__} has {len(found)} programs, not 1: call it first, and choose among .programs where "
                "several were recorded"
            )
        return found[0]

    def __call__(self, *args: Any) -> Any:
        """f(*args); with nodes among the arguments f itself runs, so that transforms compose with it."""
        if holds_nodes(args):
            return self.f(*args)
        return self._replayed(args, gradient=False)[0]

    def value_and_grad(self, *args: Any) -> tuple[float, Any]:
        """(f(*args), its gradient by the arguments that argnums names)."""
        return self._replayed(args, gradient=True)

    def grad(self, *args: Any) -> Any:
        """The gradient alone."""
        return self.value_and_grad(*args)[1]

    def _arguments(self, args: Sequence[Any]) -> Arguments:
        argnums = (self.argnums,) if isinstance(self.argnums, int) else self.argnums
        return Arguments(self.f, argnums, args)

    def _recordings_of(self, arguments: Arguments) -> list[Recording]:
        recordings = self._recordings.setdefault(arguments.key, [])
        if len(self._recordings) > MOST_SIGNATURES:
            del self._recordings[next(iter(self._recordings))]
        return recordings

    def _replayed(self, args: Sequence[Any], gradient: bool) -> tuple[float, Any]:
        arguments = self._arguments(args)
        recordings = self._recordings_of(arguments)
        for i, recording in enumerate(recordings):
            found = self._run(recording, arguments, gradient)
            if found is not None:
                self.statistics.replays += 1
                if i:
                    recordings.insert(0, recordings.pop(i))
                return found
            self.statistics.guard_failures += 1
        with ALONE:
            recording = self._recorded(arguments)
        recordings.insert(0, recording)
        del recordings[MOST_RECORDINGS:]
        found = self._run(recording, arguments, gradient, checked=False)
        assert found is not None
        return found

    def _run(
        self, recording: Recording, arguments: Arguments, gradient: bool, checked: bool = True
    ) -> tuple[float, Any] | None:
        """(value, gradient), or None where a guard does not hold."""
        column, _, given = recording.columns(arguments)
        found = recording.program.run(column, given, gradient, checked)
        if found is None or not gradient:
            return found
        return found[0], arguments.gradients(np.reshape(found[1], (-1, 1)) + 0.0, self.argnums)

    def _recorded(self, arguments: Arguments, one_sample: bool = False) -> Recording:
        """The program of f for these arguments: f runs once, on nodes."""
        self.statistics.recordings += 1
        args, numbers, data = arguments.nodes(self.f)
        with watched([self.f, *arguments.fixed], [*numbers, *data]) as found:
            output = self._output(self.f(*args))
        size, nodes = len(numbers), list[Value]()
        tape = taped([output], numbers, data, found.decisions, nodes)
        captured = [nodes[i] for i in _captured(tape, [not found.has_made(node) for node in nodes])]
        if captured:  # what was computed elsewhere is an input too, whatever it was made of
            tape = taped([output], [*numbers, *captured], data, found.decisions)
        for node in nodes:  # f may have kept some of them
            if found.has_made(node):
                node.grad = NO_GRAD
        del output, args, numbers, data, nodes  # the graph goes
        found.decisions.clear()
        inputs = Inputs((list, [trees.LEAF] * (size + len(captured))), [()] * (size + len(captured)), True)
        program = Program(tape, inputs, self.back_end, one_sample)
        program.signature = exports.replayed(self.f, arguments, self.argnums, captured)
        return Recording(program, captured, arguments.fixed)

    def _output(self, output: Any) -> Value:
        if isinstance(output, np.ndarray) and output.size == 1:
            output = output.item()
        if isinstance(output, Value):
            return output
        if isinstance(output, REAL):
            return Value(output)
        raise TypeError(f"replay: {self.__name__} returns {type(output).__name__}, expected one number (a node)")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recordings": {}}  # a copy, or what comes from a file, records for itself

    def __repr__(self) -> str:
        return f"<replayed {self.__name__}: {len(self.programs)} programs, {self.statistics}>"


class ReplayedOver(Replayed):
    """A function of one sample, over a batch; see `replay`."""

    def __init__(
        self, f: Callable[..., Any], argnums: Any, back_end: str | None, over: Sequence[Any], reduction: str | None
    ) -> None:
        super().__init__(f, argnums, back_end)
        arrays = [np.asarray(array) for array in over]
        self.batch = [array if array.dtype.kind in "fiub" else array.astype(float) for array in arrays]
        if not self.batch or any(array.ndim == 0 for array in self.batch):
            raise ValueError("replay over takes arrays with one sample per row, as in over=(X, y)")
        lengths = [len(array) for array in self.batch]
        if len(set(lengths)) > 1 or lengths[0] == 0:
            raise ValueError(f"replay over takes arrays of one length, not 0: got {lengths}")
        self.size, self.reduction = lengths[0], reduction
        self._lanes = np.empty((sum(array[0].size for array in self.batch), self.size))

    def __call__(self, *args: Any) -> Any:
        """The reduced value of f(*args, *sample) over all samples; every sample's where reduction is None."""
        if holds_nodes(args):
            values = [self.f(*args, *self._sample(i)) for i in range(self.size)]
            if self.reduction is None:
                return values
            total = values[0]
            for value in values[1:]:
                total = total + value
            return total / self.size if self.reduction == "mean" else total
        if self.reduction is None:
            return self._each(args)
        return self._replayed(args, gradient=False)[0]

    def _lanes_of(self, arguments: Arguments, which: Any = slice(None)) -> Any:
        """The batch as the programs take it: a row per number of a sample, after the data that all samples share."""
        lanes = self._lanes if isinstance(which, slice) or len(which) == self.size else self._lanes[:, which]
        if arguments.data:
            shared = arguments.column(arguments.data)
            lanes = np.concatenate([np.broadcast_to(shared, (len(shared), lanes.shape[1])), lanes])
        return lanes

    def _sample(self, i: int) -> list[Any]:
        return [array[i].astype(float) if array.ndim > 1 else float(array[i]) for array in self.batch]

    def _read_batch(self) -> None:
        """The batch as it is now: its arrays belong to the caller, who may write to them between calls."""
        begin = 0
        for array in self.batch:
            rows = array.reshape(self.size, -1).T
            self._lanes[begin : begin + len(rows)] = rows
            begin += len(rows)

    def _replayed(self, args: Sequence[Any], gradient: bool) -> tuple[float, Any]:
        if self.reduction is None:
            raise ValueError("replay: the losses of all samples have no one gradient; choose reduction 'mean' or 'sum'")
        names = ("value", "gradient") if gradient else ("value",)
        arguments = self._arguments(args)
        total, column = 0.0, None
        for recording, lanes, n, _ in self._split(args, arguments):
            columns = recording.columns(arguments)
            found = recording.program.function("+".join(names), names)(columns, (lanes,), n)
            total += number(found[0])
            if gradient:
                part = np.reshape(found[1], (-1, 1))[: sum(np.size(x) for x in arguments.numbers)]
                column = part + 0.0 if column is None else column + part
        scale = self.size if self.reduction == "mean" else 1
        return total / scale, None if column is None else arguments.gradients(column / scale, self.argnums)

    def _each(self, args: Sequence[Any]) -> Any:
        arguments = self._arguments(args)
        losses = np.empty(self.size)
        for recording, lanes, n, which in self._split(args, arguments):
            [values] = recording.program.function("losses", ("losses",))(recording.columns(arguments), (lanes,), n)
            losses[which] = np.reshape(values, -1)
        return losses

    def _split(self, args: Sequence[Any], arguments: Arguments) -> Any:
        """[(recording, lanes, how many, which)]: every sample with a program whose guards hold for it."""
        self._read_batch()
        recordings = self._recordings_of(arguments)
        if recordings and not recordings[0].program.tape.guards:
            self.statistics.replays += 1
            return [(recordings[0], self._lanes_of(arguments), self.size, slice(None))]
        pending = np.arange(self.size)
        found = []
        tried = list(recordings)
        while len(pending):
            if tried:
                recording = tried.pop(0)
                holds = self._hold(recording, arguments, pending)
                self.statistics.replays += bool(holds.any())
                self.statistics.guard_failures += not holds.all()
            else:
                sample = self._sample(int(pending[0]))
                with ALONE:
                    recording = self._recorded(self._arguments([*args, *sample]), one_sample=True)
                recording.program.signature.over(len(sample), self.reduction)
                recordings.append(recording)
                holds = self._hold(recording, arguments, pending)
                holds[0] = True  # it was recorded there, were it on the very edge
            which = pending[holds]
            if len(which):
                found.append((recording, self._lanes_of(arguments, which), len(which), which))
                pending = pending[~holds]
        del recordings[:-MOST_RECORDINGS]
        return found

    def _hold(self, recording: Recording, arguments: Arguments, which: Any) -> Any:
        """For which of these samples all guards of a recording hold."""
        if not recording.program.tape.guards:
            return np.ones(len(which), bool)
        lanes = self._lanes_of(arguments, which)
        with np.errstate(all="ignore"):
            function = recording.program.function("broken", ("broken",))
            [broken] = function(recording.columns(arguments), (lanes,), len(which))
        return np.broadcast_to(np.reshape(broken, -1) == 0, len(which)).copy()


def replay(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    over: Any = None,
    reduction: str | None = "mean",
    back_end: str | None = None,
    magnification: str = "scalar",
) -> Any:
    """f, recorded when it is called and replayed from then on: r(*args), r.value_and_grad(*args), r.grad(*args).

    f takes numbers, arrays, and lists, tuples and dicts of these, and returns one number. It runs on nodes (an array is
    an array of Values) and is recorded once per signature: the structure and shapes of the arguments, and whatever in
    them is neither a float nor an array of floats. Gradients are taken by the arguments that argnums names.

    Comparisons of nodes are guards: where one comes out differently, f is recorded again. A number that is taken out of
    the graph (item(), .data, stop_gradient, backward()) raises ReplayError; .data is seen wherever the code of f, or of
    what can be reached from it, has that word. Values that f finds elsewhere are read at every call; all else that it
    finds there, what it draws at random, and what an object among its arguments holds are taken as they were when f was
    recorded.

    over: arrays with one sample per row, which are read at every call. f(*args, *sample) is then a function of one
    sample, and r(*args) its mean over the batch ("sum": the sum; None: every sample's, without gradient). One sample is
    recorded, and the batch runs as lanes; samples whose comparisons come out differently are recorded for themselves.

    magnification: "array" runs f on Tensors, and the programs are those of arrays. Then f, called without gradient, may
    return an array; comparisons, argmax, argsort and the like are made again at every replay, where their answers are
    conditions of np.where, indices or operands, and are guards where Python needs a truth or an index; arrays of
    integers among the other arguments (labels) may change from call to call; value_and_grad takes out=, arrays for the
    gradient.

    r.statistics counts recordings, replays and guard failures; r.programs are the programs.

    >>> import autodiff as ad
    >>> f = replay(lambda w, x: ad.tanh(w * x) if x > 0.0 else w * 0.1)
    >>> f(2.0, 0.0), f(3.0, -1.0), f.value_and_grad(3.0, -2.0)
    (0.2, 0.30000000000000004, (0.30000000000000004, 0.1))
    >>> f.statistics
    Statistics(recordings=1, replays=2, guard_failures=0)
    >>> X, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 0.0])
    >>> loss = replay(lambda w, x, y: (np.sum(w * x) - y) ** 2, over=(X, y))
    >>> loss.value_and_grad(np.array([1.0, 0.0]))
    (4.5, array([ 9., 12.]))
    """
    if not callable(f):
        raise TypeError(f"replay takes a function, got {type(f).__name__} {f!r:.40}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; known: 'mean', 'sum', and None for every sample's value")
    argnums = argnums if isinstance(argnums, int) else tuple(argnums)
    if isinstance(over, np.ndarray):
        raise TypeError("over is a tuple of arrays, such as over=(X, y); for one array write over=(X,)")
    if magnification not in ("scalar", "array"):
        raise ValueError(f"unknown magnification {magnification!r}; known: 'scalar', an array of Values, and 'array'")
    if magnification == "array":
        from autodiff.programs.arrays.replaying import replay_arrays

        return replay_arrays(f, argnums, Statistics(), over, reduction, back_end)
    if over is None:
        return Replayed(f, argnums, back_end)
    return ReplayedOver(f, argnums, back_end, over, reduction)
