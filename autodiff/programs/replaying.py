"""replay: a function is recorded when it is called for the first time, and its program runs from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import trees, updates
from autodiff.programs import descent, exports
from autodiff.programs.arguments import Arguments, Key, checked_argnums, holds_nodes, positions_of
from autodiff.programs.guards import ALONE, uncollected, watched
from autodiff.programs.program import Inputs, Program, number
from autodiff.programs.recording import DATA, INPUT, Tape, distinct, taped
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


def _captured(tape: Tape, elsewhere: Sequence[bool]) -> list[int]:
    """The numbers of the nodes made elsewhere that something else needs: an operation, a guard, or the caller."""
    is_elsewhere = np.array(elsewhere)
    is_elsewhere[: len(tape.inputs) + len(tape.data)] = False
    if not is_elsewhere.any():
        return []
    made = np.flatnonzero((tape.code > DATA) & ~is_elsewhere)
    two = made[tape.two_nodes()[tape.code[made]]]
    needed = distinct(np.concatenate([tape.a[made], tape.b[two], seen_from_outside(tape)]))
    return [int(i) for i in needed[is_elsewhere[needed]]]


class Moving(descent.Descending):
    """A replayed function of arguments whose numbers move."""

    def __init__(self, replayed: Replayed, arguments: Arguments) -> None:
        self.replayed, self.arguments = replayed, arguments
        self.ran = replayed._recordings_of(arguments)[:1]  # by which the last step was taken
        self._is_fresh = False

    def step_at(self, column: Any) -> tuple[float, Any]:
        """(value, gradient (p, 1))."""
        self.arguments.move(column)
        value, gradient, self.ran = self.replayed._found(self.arguments, gradient=True)
        self.took(0)
        return value, gradient

    def at_once(self, column: Any, rule: updates.UpdateRule, state: Sequence[Any]) -> Any:
        """Nothing where samples take several ways through the function, or the tape runs as it stands."""
        self.arguments.move(column)
        if not self.ran:
            self.ran, self._is_fresh = [self.replayed.fresh(self.arguments)], True
        if len(self.ran) != 1:
            return None
        return self.replayed.at_once(self.ran[0], self.arguments, rule, state)

    def name(self, i: int) -> str:
        """What number i is called."""
        return self.ran[0].program.input_names()[i]

    def took(self, steps: int) -> None:
        """Counts them, but for the one for which the function itself ran."""
        self.replayed.statistics.replays += steps - self._is_fresh
        self._is_fresh = False


class Replayed:
    """A function with its recordings; see `replay`."""

    def __init__(self, f: Callable[..., Any], argnums: Any, back_end: str | None) -> None:
        self.f, self.argnums, self.back_end = f, argnums, back_end
        self.__wrapped__ = f
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self.__doc__ = getattr(f, "__doc__", None)
        self.statistics = Statistics()
        self.size = 1  # of the batch
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
                f"{self.__name__} has {len(found)} programs, not 1: call it first; where its comparisons came out in "
                "several ways, choose among .programs, or write them as maximum, minimum or clip, which need one only"
            )
        return found[0]

    def __call__(self, *args: Any) -> Any:
        """f(*args); with nodes among the arguments f itself runs, so that transforms compose with it."""
        if holds_nodes(args):
            return self.f(*args)
        return self._found(self._arguments(args), gradient=False)[0]

    def value_and_grad(self, *args: Any) -> tuple[float, Any]:
        """(f(*args), its gradient by the arguments that argnums names)."""
        arguments = self._arguments(args)
        value, gradient, _ = self._found(arguments, gradient=True)
        return value, arguments.gradients(gradient + 0.0, self.argnums)

    def grad(self, *args: Any) -> Any:
        """The gradient alone."""
        return self.value_and_grad(*args)[1]

    def descend(
        self, *args: Any, steps: int, optimiser: Any = "sgd", learning_rate: float | None = None
    ) -> tuple[Any, list[float]]:
        """(the arguments by which one differentiates, after so many steps of descent, f before each of the steps).

        optimiser: "sgd", "momentum" (of 0.9) and "adam", with a learning_rate (0.1, for Adam 0.001), or a rule with
        numbers of its own, SGD(...) or Adam(...) of autodiff.updates. Gradient and update are one program, and
        many steps one call of it; where a comparison comes out differently on the way, f is recorded again for the
        numbers as they are then, as in any call. ValueError where a gradient is not finite.

        >>> line = replay(lambda p, x, y: (p["w"] * x + p["b"] - y) ** 2, over=([0.0, 1.0, 2.0], [1.0, 3.0, 5.0]))
        >>> p, losses = line.descend({"w": 0.0, "b": 0.0}, steps=300, learning_rate=0.2)
        >>> {name: round(x, 6) for name, x in p.items()}, len(losses)
        ({'w': 2.0, 'b': 1.0}, 300)
        """
        course = self.course(args, updates.rule_of(optimiser, learning_rate))
        column, history = descent.descended(course, steps)
        return self._arguments(args).gradients(column, self.argnums), history

    def course(self, args: Sequence[Any], rule: updates.UpdateRule, state: Any = None) -> descent.Course:
        """A descent from these arguments on, before its first step."""
        arguments = self._arguments(args)
        return descent.Course(Moving(self, arguments), arguments.column(arguments.numbers), rule, state)

    def _arguments(self, args: Sequence[Any]) -> Arguments:
        return Arguments(self.f, positions_of(self.argnums, len(args)), args)

    def _recordings_of(self, arguments: Arguments) -> list[Recording]:
        recordings = self._recordings.setdefault(arguments.key, [])
        if len(self._recordings) > MOST_SIGNATURES:
            del self._recordings[next(iter(self._recordings))]
        return recordings

    def _found(self, arguments: Arguments, gradient: bool) -> tuple[float, Any, list[Recording]]:
        """(value, gradient (p, 1) if asked for, which recordings ran)."""
        recordings = self._recordings_of(arguments)
        for i, recording in enumerate(recordings):
            found = self._run(recording, arguments, gradient)
            if found is not None:
                self.statistics.replays += 1
                if i:
                    recordings.insert(0, recordings.pop(i))
                return *found, [recording]
            self.statistics.guard_failures += 1
        recording = self.fresh(arguments)
        found = self._run(recording, arguments, gradient, checked=False)
        assert found is not None
        return *found, [recording]

    def fresh(self, arguments: Arguments) -> Recording:
        """Another recording, for these arguments."""
        with ALONE, uncollected():
            recording = self._recorded(arguments)
        recordings = self._recordings_of(arguments)
        recordings.insert(0, recording)
        del recordings[MOST_RECORDINGS:]
        return recording

    def _run(
        self, recording: Recording, arguments: Arguments, gradient: bool, checked: bool = True
    ) -> tuple[float, Any] | None:
        """(value, gradient), or None where a guard does not hold."""
        column, _, given = recording.columns(arguments)
        found = recording.program.run(column, given, gradient, checked)
        return found if found is None or not gradient else (found[0], np.reshape(found[1], (-1, 1)))

    def at_once(self, recording: Recording, arguments: Arguments, rule: updates.UpdateRule, state: Any) -> Any:
        """What descent.Descending.at_once answers."""
        if not arguments.numbers or not recording.program.steps_at_once:
            return None
        columns = recording.columns(arguments)
        step = recording.program.step(rule, state, sum(np.size(x) for x in arguments.numbers))
        return step, list(columns), (), 1

    def _recorded(self, arguments: Arguments, one_sample: bool = False) -> Recording:
        """The program of f for these arguments: f runs once, on nodes."""
        self.statistics.recordings += 1
        args, numbers, data = arguments.nodes(self.f)
        with watched([self.f, *arguments.fixed], [*numbers, *data]) as found:
            output = self._output(self.f(*args))
        size, nodes, made = len(numbers), list[Value](), found.made
        tape = taped([output], numbers, data, found.decisions, nodes)
        places = _captured(tape, [node.grad is not made for node in nodes])
        captured = [nodes[i] for i in places]
        if all(node.op is None for node in captured):
            tape.code[places] = INPUT
            tape.inputs = np.concatenate([tape.inputs, np.array(places, np.int32)])
        else:  # what was computed elsewhere is an input too, whatever it was made of
            tape = taped([output], [*numbers, *captured], data, found.decisions)
        for node in nodes:  # f may have kept some of them
            if node.grad is made:
                node.grad = NO_GRAD
        del output, args, numbers, data, nodes  # the graph goes
        found.decisions.clear()
        inputs = Inputs((list, [trees.LEAF] * (size + len(captured))), [()] * (size + len(captured)), True)
        program = Program(tape, inputs, self.back_end, one_sample)
        program.lanes = self.size
        argnums = arguments.positions[0] if isinstance(self.argnums, int) else arguments.positions
        program.signature = exports.replayed(self.f, arguments, argnums, captured)
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
        self._ran: list[Recording] = []  # in the last call
        self._fresh: Recording | None = None  # made in this call, of sample 0
        self._lanes = np.empty((sum(array[0].size for array in self.batch), self.size))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ran": [], "_fresh": None}

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
        return self._found(self._arguments(args), gradient=False)[0]

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

    def _found(self, arguments: Arguments, gradient: bool) -> tuple[float, Any, list[Recording]]:
        self._check_reduction()
        names = ("value", "gradient") if gradient else ("value",)
        total, column, ran = 0.0, None, []
        for recording, found in self._in_one(arguments, names) or self._in_parts(arguments, names):
            total += number(found[0])
            ran.append(recording)
            if gradient:
                part = np.reshape(found[1], (-1, 1))[: sum(np.size(x) for x in arguments.numbers)]
                column = part if column is None else column + part
        self._ran = ran
        scale = self.size if self.reduction == "mean" else 1
        return total / scale, None if column is None else column / scale, ran

    def _in_one(self, arguments: Arguments, names: tuple[str, ...]) -> list[tuple[Recording, Any]] | None:
        """[(recording, what its program answers)] if all samples go one way; None too where they went several before.

        The guards are computed with the rest.
        """
        self._fresh = None
        if len(self._ran) > 1:
            return None
        recordings = self._recordings_of(arguments)
        is_fresh = not recordings
        if is_fresh:
            recording = self._fresh = self.fresh(arguments)
        else:
            recording = next((own for own in recordings if own in self._ran), recordings[0])
        self._read_batch()
        given = recording.columns(arguments), (self._lanes_of(arguments),), self.size
        found: Any
        if recording.program.tape.guards:
            function = recording.program.function("guarded+" + "+".join(names), (*names, "all broken"))
            try:
                *found, broken = function.fast(*given)
            except (ArithmeticError, ValueError):
                return None
            if broken:
                return None
        else:
            found = recording.program.function("+".join(names), names)(*given)
        self.statistics.replays += not is_fresh
        self._fresh = None
        return [(recording, found)]

    def _in_parts(self, arguments: Arguments, names: tuple[str, ...]) -> Iterator[tuple[Recording, Any]]:
        """The same for every recording that holds for some of the samples."""
        for recording, lanes, n, _ in self._split(arguments):
            columns = recording.columns(arguments)
            yield recording, recording.program.function("+".join(names), names)(columns, (lanes,), n)

    def _check_reduction(self) -> None:
        if self.reduction is None:
            raise ValueError("replay: the losses of all samples have no one gradient; choose reduction 'mean' or 'sum'")

    def at_once(self, recording: Recording, arguments: Arguments, rule: updates.UpdateRule, state: Any) -> Any:
        """What descent.Descending.at_once answers."""
        self._check_reduction()
        if not arguments.numbers:
            return None
        self._read_batch()
        columns, lanes = recording.columns(arguments), self._lanes_of(arguments)
        count = sum(np.size(x) for x in arguments.numbers)
        step = recording.program.step(rule, state, count, self.reduction == "mean")
        return step, list(columns), (lanes,), self.size

    def _each(self, args: Sequence[Any]) -> Any:
        arguments = self._arguments(args)
        losses = np.empty(self.size)
        for recording, lanes, n, which in self._split(arguments):
            [values] = recording.program.function("losses", ("losses",))(recording.columns(arguments), (lanes,), n)
            losses[which] = np.reshape(values, -1)
        return losses

    def _split(self, arguments: Arguments) -> Any:
        """[(recording, lanes, how many, which)]: every sample with a program whose guards hold for it."""
        fresh, self._fresh = self._fresh, None
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
                if recording is fresh:
                    holds[0] = True
                else:
                    self.statistics.replays += bool(holds.any())
                    self.statistics.guard_failures += not holds.all()
            else:
                recording = self.fresh(arguments, int(pending[0]))
                holds = self._hold(recording, arguments, pending)
                holds[0] = True  # it was recorded there, were it on the very edge
            which = pending[holds]
            if len(which):
                found.append((recording, self._lanes_of(arguments, which), len(which), which))
                pending = pending[~holds]
        del recordings[:-MOST_RECORDINGS]
        return found

    def fresh(self, arguments: Arguments, i: int = 0) -> Recording:
        """Another recording, for these arguments and sample i."""
        sample = self._sample(i)
        one = Arguments(self.f, arguments.positions, [*arguments.args(), *sample])
        with ALONE, uncollected():
            recording = self._recorded(one, one_sample=True)
        recording.program.signature.over(len(sample), self.reduction)
        self._recordings_of(arguments).append(recording)
        return recording

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
    the graph (item(), .data, .grad, stop_gradient, backward(), edges(), paths, text, ...) raises ReplayError; .data is
    seen wherever the code of f, or of what can be reached from it, has that word. So does code that asks whether
    arithmetic raises or warns, as by except FloatingPointError. The numbers of Values that f finds elsewhere are read
    at every call, of those that were computed there too; all else that it finds there, what it draws at random, and
    what an object among its arguments holds are taken as they were when f was recorded. argnums below 0 count from the
    last argument backwards.

    over: arrays with one sample per row, which are read at every call. f(*args, *sample) is then a function of one
    sample, and r(*args) its mean over the batch ("sum": the sum; None: every sample's, without gradient). One sample is
    recorded, and the batch runs as lanes; samples whose comparisons come out differently are recorded for themselves.

    magnification: "array" runs f on Tensors, and the programs are those of arrays. Then f, called without gradient, may
    return an array; comparisons, argmax, argsort and the like are made again at every replay, where their answers are
    conditions of np.where, indices or operands, and are guards where Python needs a truth or an index; arrays of
    integers among the other arguments (labels) may change from call to call; value_and_grad takes out=, arrays for the
    gradient.

    r.descend(*args, steps=100, optimiser="adam") goes down the gradient, many steps in one call.

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
    argnums = checked_argnums(argnums)
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
