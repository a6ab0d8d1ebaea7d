"""Replay of functions of arrays: f runs once on Tensors, and its program from then on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import trees, updates
from autodiff.programs import descent
from autodiff.programs.arguments import argument_names, hashable, holds_nodes, positions_of
from autodiff.programs.arrays.answers import Answer, Recorder, watched
from autodiff.programs.arrays.batching import batched
from autodiff.programs.arrays.program import ArrayInputs, ArrayProgram, check_back_end
from autodiff.programs.arrays.recording import graph_of, older
from autodiff.programs.guards import ALONE, ReplayError
from autodiff.tensor import Tensor
from autodiff.transforms import value_and_grad
from autodiff.value import REAL

MOST_RECORDINGS = 64  # kept per signature; the one that was used longest ago goes
MOST_SIGNATURES = 64  # kept; the first one goes
NUMBER, ARRAY, ASKED, FIXED = "number", "array", "asked", "fixed"


class ArrayArguments:
    """The leaves of the arguments of one call, and the key that tells one recording from another.

    Floats and arrays of floats become Tensors; arrays of integers and bools, where nobody differentiates by them,
    become answers, for they may serve as indices and conditions. All else is handed to the function as it is.
    """

    __slots__ = ("arrays", "chosen", "fixed", "key", "kinds", "positions", "structures")

    def __init__(self, positions: Sequence[int], args: Sequence[Any]) -> None:
        self.positions = tuple(positions)  # of the arguments that are differentiated by, in the order asked for
        self.arrays: list[Any] = []
        self.chosen: list[int] = []  # which of the arrays are differentiated by
        self.fixed: list[Any] = []
        self.kinds: list[str] = []
        self.structures = []
        key: list[Any] = [self.positions]
        for position, arg in enumerate(args):
            chosen = position in self.positions
            if type(arg) is np.ndarray:  # as it mostly is, and this takes time at every call
                leaves, structure = [arg], trees.LEAF
            else:
                leaves, structure = trees.flatten(arg)
            self.structures.append(structure)
            key.append(structure if structure is trees.LEAF else hashable(structure))
            for x in leaves:
                if type(x) is np.ndarray and x.dtype.kind == "f" and x.dtype.isnative:
                    kind = ARRAY
                else:
                    kind, x = _classified(x, chosen, position)
                self.kinds.append(kind)
                if kind is FIXED:
                    self.fixed.append(x)
                    key.append(_mark(x))
                    continue
                if chosen:
                    self.chosen.append(len(self.arrays))
                self.arrays.append(x)
                key += (kind, x.shape, x.dtype.num)
        self.key = tuple(key)

    def nodes(self, f: Callable[..., Any], recorder: Recorder) -> tuple[list[Any], list[Tensor]]:
        """(arguments of nodes and answers, the nodes of the arrays)."""
        names = argument_names(f, len(self.structures))
        nodes: list[Tensor] = []
        args = []
        arrays, fixed, kinds = iter(self.arrays), iter(self.fixed), iter(self.kinds)
        for structure, name in zip(self.structures, names, strict=True):
            leaves: list[Any] = []
            for place in trees.places(structure, name):
                kind = next(kinds)
                if kind == FIXED:
                    leaves.append(next(fixed))
                    continue
                node = recorder.leaf(next(arrays), place)
                nodes.append(node)
                leaves.append(Answer(recorder, node) if kind == ASKED else node)
            args.append(trees.unflatten(structure, leaves))
        return args, nodes

    def gradients(self, arrays: Sequence[Any], single: bool) -> Any:
        """The gradients by the chosen arrays, in the structure of their arguments; of one argument if `single`."""
        rest, kinds, found = iter(arrays), iter(self.kinds), {}
        for position, structure in enumerate(self.structures):
            own = [next(kinds) for _ in range(trees.count(structure))]
            if position in self.positions:
                leaves = [float(next(rest)) if kind == NUMBER else next(rest) for kind in own]
                found[position] = trees.unflatten(structure, leaves)
        gradients = tuple(found[position] for position in self.positions)
        return gradients[0] if single else gradients


def _classified(leaf: Any, chosen: bool, position: int) -> tuple[str, Any]:
    if isinstance(leaf, (float, np.floating)) or (chosen and isinstance(leaf, REAL)):
        return NUMBER, np.asarray(leaf) if isinstance(leaf, np.floating) else np.asarray(float(leaf))
    if isinstance(leaf, np.ndarray) and not isinstance(leaf, (np.ma.MaskedArray, np.matrix)):
        native = leaf.dtype.newbyteorder("=")
        if leaf.dtype.kind == "f":
            return ARRAY, np.asarray(leaf, native)
        if leaf.dtype.kind in "iub":
            return (ARRAY, leaf.astype(float)) if chosen else (ASKED, np.asarray(leaf, native))
    if chosen:
        raise TypeError(
            f"replay: argument {position} holds {type(leaf).__name__} {leaf!r:.40}; derivatives are taken by real "
            "numbers and arrays of them. Name the arguments to differentiate by with argnums"
        )
    return FIXED, leaf


def _mark(x: Any) -> Any:
    """What of a fixed argument belongs to the key: it, where it can be looked up by, else the object that it is."""
    if isinstance(x, set):
        return (set, frozenset(x))
    if isinstance(x, (bytearray, np.ndarray)):
        return (type(x), np.shape(x), bytes(x) if isinstance(x, bytearray) else tuple(x.flat))
    try:
        hash(x)
    except TypeError:
        return (type(x), id(x))
    return (type(x), x)


class ArrayRecording:
    """A program of a function, with the nodes from elsewhere whose arrays it reads at every call."""

    __slots__ = ("batches", "captured", "fixed", "program", "recorded", "shapes")

    def __init__(self, program: ArrayProgram, captured: Sequence[Tensor], fixed: Sequence[Any]) -> None:
        self.program, self.captured, self.fixed = program, list(captured), fixed
        self.recorded = program.recorded
        self.shapes = [(x.shape, x.dtype) for x in captured]
        self.batches: dict[Any, ArrayProgram] = {}

    def outside(self) -> list[Any] | None:
        """The arrays of the nodes from elsewhere, as they are now; None where these have other shapes now."""
        arrays = [node.data for node in self.captured]
        if any((x.shape, x.dtype) != kind for x, kind in zip(arrays, self.shapes, strict=True)):
            return None
        return arrays


class ReplayedArrays:
    """A function of arrays with its recordings; see `replay`.

    >>> from autodiff import replay
    >>> f = replay(lambda W, x: np.sum(np.where(x @ W > 0.0, x @ W, 0.0)), magnification="array")
    >>> W = np.array([[1.0, -1.0], [2.0, 3.0]])
    >>> f.value_and_grad(W, np.array([1.0, 0.0]))
    (1.0, array([[1., 0.],
           [0., 0.]]))
    >>> f.value_and_grad(W, np.array([0.0, 1.0]))
    (5.0, array([[0., 0.],
           [1., 1.]]))
    >>> f.statistics
    Statistics(recordings=1, replays=1, guard_failures=0)
    """

    def __init__(self, f: Callable[..., Any], argnums: Any, statistics: Any) -> None:
        self.f, self.argnums, self.statistics = f, argnums, statistics
        self.__wrapped__ = f
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self.__doc__ = getattr(f, "__doc__", None)
        self._recordings: dict[Any, list[ArrayRecording]] = {}

    @property
    def programs(self) -> list[ArrayProgram]:
        """The programs recorded so far."""
        return [recording.program for recordings in self._recordings.values() for recording in recordings]

    def __call__(self, *args: Any) -> Any:
        """f(*args); with nodes among the arguments f itself runs, so that transforms compose with it."""
        if holds_nodes(args):
            return self.f(*args)
        return self._replayed("value", args, None)[0][0]

    def value_and_grad(self, *args: Any, out: Any = None) -> tuple[Any, Any]:
        """(f(*args), its gradient by the arguments that argnums names).

        out: a tree of arrays like the gradient, into which it is written; None stands for a fresh array.
        """
        found, given = self._replayed("gradient", args, out)
        return found[0], given.gradients(found[1:], isinstance(self.argnums, int))

    def grad(self, *args: Any, out: Any = None) -> Any:
        """The gradient alone."""
        return self.value_and_grad(*args, out=out)[1]

    def descend(
        self, *args: Any, steps: int, optimiser: Any = "sgd", learning_rate: float | None = None
    ) -> tuple[Any, list[float]]:
        """(the arguments by which one differentiates, after so many steps of descent, f before each of the steps).

        optimiser and learning_rate: as for replay of scalar graphs. A step is a gradient and an update.
        """
        function = descent.Called(self.value_and_grad, args, self.argnums)
        course = descent.Course(function, function.column, updates.rule_of(optimiser, learning_rate))
        column, history = descent.descended(course, steps)
        return function.moved(column), history

    def _arguments(self, args: Sequence[Any]) -> ArrayArguments:
        return ArrayArguments(positions_of(self.argnums, len(args)), args)

    def _recordings_of(self, key: Any) -> list[ArrayRecording]:
        recordings = self._recordings.setdefault(key, [])
        if len(self._recordings) > MOST_SIGNATURES:
            del self._recordings[next(iter(self._recordings))]
        return recordings

    def _replayed(self, name: str, args: Sequence[Any], out: Any) -> Any:
        arguments = self._arguments(args)
        targets = _targets(arguments, out, isinstance(self.argnums, int))
        recordings = self._recordings_of(arguments.key)
        for i, recording in enumerate(list(recordings)):
            found = self._run(recording, name, arguments, targets)
            if found is not None:
                self.statistics.replays += 1
                if i:
                    with contextlib.suppress(ValueError):  # another thread was faster
                        recordings.remove(recording)
                        recordings.insert(0, recording)
                return found, arguments
            self.statistics.guard_failures += 1
        recording = self._recorded(arguments)
        recordings.insert(0, recording)
        del recordings[MOST_RECORDINGS:]
        found = self._run(recording, name, arguments, targets)
        if found is None:  # on the very edge of a comparison, which a sum in another order takes to the other side
            found = self._without_program(name, args, arguments.positions, targets)
        return found, arguments

    def _without_program(self, name: str, args: Sequence[Any], positions: Sequence[int], targets: Any) -> list[Any]:
        """What a program would return, by the transforms."""
        if name == "value":
            with watched() as recorder:
                nodes, _ = self._arguments(args).nodes(self.f, recorder)
                output = self._output(self.f(*nodes))
            array = np.array(output.data if type(output) is Tensor else output)
            return [array.item() if array.ndim == 0 else array]
        value, gradient = value_and_grad(self.f, tuple(sorted(positions)))(*args)
        leaves = trees.leaves(gradient)
        for target, x in zip(targets or (), leaves, strict=False):
            np.copyto(target, x)
        return [value, *(targets or leaves)]

    @staticmethod
    def _run(recording: ArrayRecording, name: str, arguments: ArrayArguments, targets: Any) -> Any:
        outside = recording.outside()
        if outside is None:
            return None
        return recording.program.run(name, [*arguments.arrays, *outside], targets)

    def _recorded(self, arguments: ArrayArguments) -> ArrayRecording:
        """The program of f for these arguments: f runs once, on nodes."""
        with ALONE:
            self.statistics.recordings += 1
            with watched() as recorder:
                args, nodes = arguments.nodes(self.f, recorder)
                output = self._output(self.f(*args))
                if recorder.failed:
                    raise ReplayError(
                        f"replay: {self.__name__} caught an error of an operation on nodes while it was recorded; for "
                        "other numbers there may be none, and a program could not tell. Decide by a comparison instead"
                    )
            captured = older([output, *(answer for answer, _ in recorder.guards)], nodes, recorder.since)
            recorded = graph_of([output], nodes, recorder.guards, captured, recorder.since, recorder.errors)
        inputs = ArrayInputs((list, [trees.LEAF] * len(nodes)), nodes, True)
        return ArrayRecording(ArrayProgram(recorded, inputs, arguments.chosen), captured, arguments.fixed)

    def _output(self, output: Any) -> Any:
        if type(output) is Answer:
            return output.node
        if type(output) is Tensor:
            return output
        if isinstance(output, REAL) or (isinstance(output, np.ndarray) and output.dtype.kind in "fiub"):
            return np.asarray(output, float)
        raise TypeError(f"replay: {self.__name__} returns {type(output).__name__}, expected a node")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recordings": {}}  # a copy, or what comes from a file, records for itself

    def __repr__(self) -> str:
        return f"<replayed {self.__name__}: {len(self.programs)} programs, {self.statistics}>"


def _targets(arguments: ArrayArguments, out: Any, single: bool) -> list[Any] | None:
    """The arrays of `out`, a tree like the gradient, in the order of the arguments."""
    if out is None:
        return None
    parts = [out] if single else out
    if not isinstance(parts, (tuple, list)) or len(parts) != len(arguments.positions):
        raise TypeError(f"out takes one entry for each of the {len(arguments.positions)} arguments of argnums")
    placed = dict(zip(arguments.positions, parts, strict=True))
    leaves = [x for position in sorted(placed) for x in trees.leaves(placed[position])]
    chosen = [arguments.arrays[i] for i in arguments.chosen]
    if len(leaves) != len(chosen):
        raise TypeError(
            f"out takes one array for each of the {len(chosen)} arrays to differentiate by, got {len(leaves)}"
        )
    for x, like in zip(leaves, chosen, strict=True):
        if type(x) is not np.ndarray or x.shape != like.shape or x.dtype != like.dtype:
            raise TypeError(f"out takes arrays like the arguments: expected {like.dtype} {like.shape}, got {x!r:.60}")
    return leaves


def _held(found: Any) -> Any:
    if found is None:
        raise ReplayError(
            "replay over a batch: something that is picked by data (np.nonzero, an index by a mask) has another size "
            "for other samples than for the one that was recorded; choose with np.where, which keeps the shape"
        )
    return found


class ReplayedArraysOver(ReplayedArrays):
    """A function of one sample, over a batch; see `replay`.

    >>> from autodiff import replay
    >>> X, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 0.0])
    >>> loss = replay(lambda w, x, y: (w @ x - y) ** 2, over=(X, y), magnification="array")
    >>> loss.value_and_grad(np.array([1.0, 0.0]))
    (4.5, array([ 9., 12.]))
    """

    def __init__(
        self, f: Callable[..., Any], argnums: Any, statistics: Any, over: Sequence[Any], reduction: str | None
    ) -> None:
        super().__init__(f, argnums, statistics)
        self.batch = [np.asarray(array) for array in over]
        if not self.batch or any(array.ndim == 0 or array.dtype.kind not in "fiub" for array in self.batch):
            raise ValueError("replay over takes arrays of numbers with one sample per row, as in over=(X, y)")
        lengths = [len(array) for array in self.batch]
        if len(set(lengths)) > 1 or lengths[0] == 0:
            raise ValueError(f"replay over takes arrays of one length, not 0: got {lengths}")
        self.size, self.reduction = lengths[0], reduction
        self._all = np.arange(self.size)

    def __call__(self, *args: Any) -> Any:
        """The reduced value of f(*args, *sample) over all samples; every sample's where reduction is None."""
        if holds_nodes(args):
            values = [self.f(*args, *(array[i] for array in self.batch)) for i in range(self.size)]
            if self.reduction is None:
                return values
            total = values[0]
            for value in values[1:]:
                total = total + value
            return total / self.size if self.reduction == "mean" else total
        if self.reduction is None:
            arguments = self._arguments(args)
            losses: Any = None
            for program, arrays, which in self._split(args, arguments):
                [found] = _held(program.run("value", arrays))
                if losses is None:
                    losses = np.empty((self.size, *np.shape(found)[1:]), np.asarray(found).dtype)
                losses[which] = found
            return losses
        return self._over("value", args, None)[0][0]

    def _replayed(self, name: str, args: Sequence[Any], out: Any) -> Any:
        return self._over(name, args, out)

    def _over(self, name: str, args: Sequence[Any], out: Any) -> Any:
        if self.reduction is None:
            raise ValueError("replay: the losses of all samples have no one gradient; choose reduction 'mean' or 'sum'")
        arguments = self._arguments(args)
        targets = _targets(arguments, out, isinstance(self.argnums, int))
        parts = self._split(args, arguments)
        if len(parts) == 1:
            program, arrays, _ = parts[0]
            return _held(program.run(name, arrays, targets)), arguments
        total: Any = None
        for program, arrays, which in parts:  # samples that took another way through f
            share = len(which) / self.size if self.reduction == "mean" else 1.0
            found = [share * x for x in _held(program.run(name, arrays))]
            total = found if total is None else [x + y for x, y in zip(total, found, strict=True)]
        for target, x in zip(targets or (), total[1:], strict=False):
            np.copyto(target, x)
        return ([total[0], *targets] if targets else total), arguments

    def _split(self, args: Sequence[Any], arguments: ArrayArguments) -> list[tuple[ArrayProgram, list[Any], Any]]:
        """[(program, its arrays, which samples)]: every sample with a program whose guards hold for it."""
        recordings = self._recordings_of(arguments.key)
        pending = self._all
        found = []
        tried = list(recordings)
        while len(pending):
            if tried:
                recording, fresh = tried.pop(0), False
            else:
                i = int(pending[0])
                sample = [array[i] if array.ndim > 1 else np.asarray(array[i]) for array in self.batch]
                recording, fresh = self._recorded(ArrayArguments(arguments.positions, [*args, *sample])), True
                recordings.insert(0, recording)
                del recordings[MOST_RECORDINGS:]
            outside = recording.outside()
            if outside is None:
                continue
            shared = [*arguments.arrays]
            if recording.recorded.guards:
                holds = self._holds(recording, shared, outside, pending)
                self.statistics.guard_failures += not holds.all()
                if fresh:
                    holds[0] = True  # it was recorded there, were it on the very edge
            else:
                holds = np.ones(len(pending), bool)
            which = pending[holds]
            if len(which):
                self.statistics.replays += not fresh
                program = self._program(recording, len(which), self.reduction)
                found.append((program, self._arrays(shared, outside, which), which))
                pending = pending[~holds]
        return found

    def _arrays(self, shared: list[Any], outside: list[Any], which: Any) -> list[Any]:
        whole = len(which) == self.size
        return [*shared, *(array if whole else array[which] for array in self.batch), *outside]

    def _program(self, recording: ArrayRecording, n: int, reduction: str | None) -> ArrayProgram:
        program = recording.batches.get((n, reduction))
        if program is None:
            if len(recording.batches) >= MOST_RECORDINGS:
                del recording.batches[next(iter(recording.batches))]
            own = recording.program
            count = len(own.recorded.inputs) - len(self.batch) - len(recording.captured)
            over = range(count, count + len(self.batch))
            recorded = batched(own.recorded, n, over, reduction)
            likes = [x.entry for x in recorded.inputs]
            inputs = ArrayInputs((list, [trees.LEAF] * len(likes)), likes, True)
            program = recording.batches[n, reduction] = ArrayProgram(recorded, inputs, own.wrt)
        return program

    def _holds(self, recording: ArrayRecording, shared: list[Any], outside: list[Any], which: Any) -> Any:
        """For which of these samples all guards of a recording hold."""
        program = self._program(recording, len(which), "guards")
        with np.errstate(all="ignore"):
            [holds] = _held(program.run("value", self._arrays(shared, outside, which)))
        return np.array(np.broadcast_to(holds, (len(which),)))


def replay_arrays(
    f: Callable[..., Any], argnums: Any, statistics: Any, over: Any, reduction: str | None, back_end: str | None
) -> ReplayedArrays:
    """What `replay` makes of f by Tensors."""
    check_back_end(back_end)
    if over is None:
        return ReplayedArrays(f, argnums, statistics)
    return ReplayedArraysOver(f, argnums, statistics, over, reduction)
