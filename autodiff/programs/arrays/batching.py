"""A batch dimension for a program of one sample: every entry that depends on a sample gets a first axis for samples.

The result is a graph of the same operations, whose derivatives come from the same rules: a parameter that is used for
every sample is broadcast along the batch, and its gradient is the sum over it. An operation has a rule here that says
how its axes shift; one that has none (a rule of the user's own, least squares) raises TypeError, and says which.

Glossary: a *lane* is the array of one sample; x is *batched* if its lanes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from autodiff import linear_algebra, operations
from autodiff.primitives import TABLE, Primitive
from autodiff.programs.arrays.graph import (
    SHAPE,
    Entry,
    Graph,
    Place,
    Symbol,
    index_by,
    matmul_shape,
    placed,
    question,
    where_by,
)
from autodiff.programs.arrays.recording import Recorded


def batched(recorded: Recorded, n: int, over: Collection[int], reduction: str | None) -> Recorded:
    """The program of one sample as one of n: over lists the inputs that have a sample per row.

    reduction: "mean" or "sum" of the output over the batch, None for all of them; "guards" for an array that says for
    which samples every guard holds.
    """
    batch = Batch(recorded.graph, n)
    inputs = [batch.input(x, entry.parameters["input"] in over) for x in recorded.inputs for entry in [x.entry]]
    last = -1
    wanted = [symbol for symbol, _ in recorded.guards] if reduction == "guards" else recorded.outputs
    last = max((x.number for x in wanted if type(x) is Symbol), default=-1)
    for i in range(last + 1):
        if i not in batch.found:
            before = len(batch.graph.entries)
            batch.found[i] = batch.entry(recorded.graph.entries[i])
            if i in recorded.graph.errors:
                new = range(before, len(batch.graph.entries))
                batch.graph.errors |= dict.fromkeys(new, recorded.graph.errors[i])
    if reduction == "guards":
        return Recorded(batch.graph, inputs, [batch.guards(recorded.guards)], [])
    [output] = recorded.outputs
    return Recorded(batch.graph, inputs, [batch.reduced(output, reduction)], [])


class Batch:
    """The graph of a batch as it grows: found holds, by entry, (what it has become, whether it is batched)."""

    def __init__(self, of: Graph, n: int) -> None:
        self.of, self.n = of, n
        self.graph = Graph()
        self.found: dict[int, tuple[Any, bool]] = {}

    def input(self, x: Symbol, is_batched: bool) -> Symbol:
        """An input of the program."""
        entry = x.entry
        shape = (self.n, *entry.shape) if is_batched else entry.shape
        made = self.graph.input(entry.parameters["input"], shape, entry.dtype, self.of.names.get(x.number))
        self.found[x.number] = made, is_batched
        return made

    def entry(self, entry: Entry) -> tuple[Any, bool]:
        """An entry for the batch."""
        given = [self.found[x.number] if type(x) is Symbol else (x, False) for x in entry.args]
        args, lanes = [x for x, _ in given], [is_batched for _, is_batched in given]
        op: Any = entry.op
        if not any(lanes):
            return self._append(op, args, entry.parameters, entry.shape, entry.dtype), False
        if isinstance(op, Primitive) or op is where_by:
            return self._append(op, self.aligned(args, lanes), {}, (self.n, *entry.shape), entry.dtype), True
        rule = RULES.get(op)
        if rule is None:
            name = getattr(entry.parameters.get("function"), "__name__", op.name)
            raise TypeError(
                f"replay over a batch: {name} has no rule for a batch dimension. Write the function for the whole "
                "batch, with the samples along the first axis, and replay it without over="
            )
        found = rule(self, args, lanes, entry)
        assert found.shape == (self.n, *entry.shape), (op, found.shape, entry)
        return found, True

    def _append(self, op: Any, args: Sequence[Any], parameters: Any, shape: tuple[int, ...], dtype: Any) -> Symbol:
        return self.graph.append(op, tuple(args), parameters, shape, dtype)

    def emit(self, op: Any, args: Sequence[Any], entry: Entry, **parameters: Any) -> Symbol:
        """The entry of the batch, by the same operation with other parameters."""
        return self._append(op, args, parameters, (self.n, *entry.shape), entry.dtype)

    def aligned(self, args: Sequence[Any], lanes: Sequence[bool]) -> list[Any]:
        """The operands of what is broadcast, with axes of length 1 after the batch axis where a lane has fewer axes."""
        ndim = max(np.ndim(x) - is_batched for x, is_batched in zip(args, lanes, strict=True))
        found = []
        for x, is_batched in zip(args, lanes, strict=True):
            missing = ndim - (np.ndim(x) - 1)
            found.append(x.reshape((self.n,) + (1,) * missing + x.shape[1:]) if is_batched and missing else x)
        return found

    def spread(self, x: Any, is_batched: bool) -> Any:
        """x with a batch axis: repeated, where it has none."""
        return x if is_batched else np.broadcast_to(x, (self.n, *np.shape(x)))

    def lane_question(self, function: Any, args: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Symbol:
        """A question of the batch, whose answer has this shape."""
        return self.graph.question(function, tuple(args), shape, dtype)

    # --- outputs ---

    def reduced(self, output: Any, reduction: str | None) -> Any:
        """The mean or sum over the batch, or all of it."""
        y, is_batched = self.found[output.number] if type(output) is Symbol else (output, False)
        if reduction is None:
            return y if is_batched else np.broadcast_to(y, (self.n, *np.shape(y)))
        if np.size(y) != (self.n if is_batched else 1):
            raise TypeError(f"replay over a batch: f returns an array of shape {np.shape(output)}, expected one number")
        if not is_batched:
            return (
                (y if type(y) is Symbol else np.asarray(y)).reshape(())
                if reduction == "mean"
                else y.reshape(()) * float(self.n)
            )
        total = np.add.reduce(y, axis=None)
        return total / float(self.n) if reduction == "mean" else total

    def guards(self, guards: Sequence[tuple[Symbol, Any]]) -> Any:
        """For every sample, whether all answers are as expected."""
        total: Any = None
        for symbol, expected in guards:
            answer, is_batched = self.found[symbol.number]
            if expected is SHAPE:
                same = self.graph.question(_looked_at, (answer,), (), bool)
                total = same if total is None else self.lane_question(np.logical_and, (total, same), total.shape, bool)
                continue
            same = self.lane_question(np.equal, (answer, np.asarray(expected)), answer.shape, bool)
            axes = tuple(range(int(is_batched), same.ndim))
            if axes:
                shape = (self.n,) if is_batched else ()
                parameters = {"function": np.all, "args": (Place(0), axes), "options": {}, "item": None}
                same = self.graph.emit(question, (same,), parameters, shape, bool)
            if total is not None:
                shape = np.broadcast_shapes(total.shape, same.shape)
                same = self.lane_question(np.logical_and, (total, same), shape, bool)
            total = same
        return total


def _looked_at(answer: Any) -> Any:
    """True, once the answer is there: its shape is asked for where it comes."""
    return np.True_


# --- the rules ----------------------------------------------------------------------------------------------------


def _shifted(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes of a lane of so many axes, from 0, as axes of the batch."""
    return tuple(range(1, ndim + 1)) if axis is None else tuple(i + 1 for i in axis)


def _reduction(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    axes = _shifted(entry.parameters["axis"], args[0].ndim - 1)
    if not axes:  # of lanes of no dimensions, which are their own sums
        return batch.emit(operations.reshape, args, entry, shape=(batch.n,))
    return batch.emit(entry.op, args, entry, axis=axes, keepdims=entry.parameters["keepdims"])


def _along(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    return batch.emit(entry.op, args, entry, axis=entry.parameters["axis"] + 1)


def _reshape(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    return batch.emit(entry.op, args, entry, shape=(batch.n, *entry.shape))


def _broadcast(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    [a] = args
    a = a.reshape((batch.n,) + (1,) * (len(entry.shape) - a.ndim + 1) + a.shape[1:])
    return batch.emit(entry.op, [a], entry, shape=(batch.n, *entry.shape))


def _transpose(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    return batch.emit(entry.op, args, entry, axes=(0, *(i + 1 for i in entry.parameters["axes"])))


def _index(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    key = entry.parameters["key"]
    parts = key if type(key) is tuple else (key,)
    fancy = [i for i, part in enumerate(parts) if isinstance(part, (np.ndarray, list, np.bool_, bool))]
    whole = [i for i, part in enumerate(parts) if isinstance(part, (int, np.integer)) and type(part) is not bool]
    together = sorted([*fancy, *whole]) if fancy else []
    if fancy and together != list(range(together[0], together[-1] + 1)):
        # axes of indices that stand apart come first in NumPy's result; in a batch after the batch axis
        return _picked_one_by_one(batch, args[0], key, entry)
    return batch.emit(entry.op, args, entry, key=(slice(None), *parts))


def _picked_one_by_one(batch: Batch, a: Any, key: Any, entry: Entry) -> Any:
    """By the numbers of the elements that the index picks from a lane."""
    shape = a.shape[1:]
    places = np.arange(int(np.prod(shape))).reshape(shape)[key]
    flat = a.reshape((batch.n, int(np.prod(shape))))
    return batch.emit(operations.index, [flat], entry, key=(slice(None), places))


def _index_by(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    """By the numbers of the elements that the answers pick from every lane."""
    a, *parts = args
    a_lanes, *part_lanes = lanes
    shape = a.shape[1:] if a_lanes else a.shape
    key = entry.parameters["key"]
    if any(
        x.dtype == bool and x.ndim > is_batched
        for x, is_batched in zip(parts, part_lanes, strict=True)
        if type(x) is Symbol
    ):
        raise TypeError(
            "replay over a batch: an index by a mask picks another number of elements from every sample; choose with "
            "np.where, which keeps the shape"
        )
    size = int(np.prod(shape))
    numbers = np.arange(size).reshape(shape)
    if not any(part_lanes):  # the same elements of every lane
        template = key if type(key) is tuple else (key,)
        return batch.emit(index_by, args, entry, key=(slice(None), *template), shape=(batch.n, *entry.shape))
    wholes = [batch.spread(x, is_batched) for x, is_batched in zip(parts, part_lanes, strict=True)]

    def places(*answers: Any) -> Any:
        return np.stack([np.asarray(numbers[placed(key, lane)]) for lane in zip(*answers, strict=True)])

    parameters = {"function": places, "args": tuple(map(Place, range(len(wholes)))), "options": {}, "item": None}
    picked = batch.graph.emit(question, tuple(wholes), parameters, (batch.n, *entry.shape), np.intp)
    rows = np.arange(batch.n).reshape((batch.n,) + (1,) * len(entry.shape))
    if not a_lanes:
        flat = a.reshape((size,))
        return batch.emit(index_by, [flat, picked], entry, key=Place(0), shape=(batch.n, *entry.shape))
    flat = a.reshape((batch.n, size))
    return batch.emit(index_by, [flat, picked], entry, key=(rows, Place(0)), shape=(batch.n, *entry.shape))


def _scatter(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    """By the numbers of the elements where a lane is put."""
    key, shape = entry.parameters["key"], tuple(entry.parameters["shape"])
    size = int(np.prod(shape))
    places = np.asarray(np.arange(size).reshape(shape)[key])
    [a] = args
    a = a.reshape((batch.n,) + (1,) * (places.ndim - a.ndim + 1) + a.shape[1:])
    spread = np.broadcast_to(a, (batch.n, *places.shape))
    parameters = {"key": (slice(None), places), "shape": (batch.n, size)}
    return batch.graph.operation(operations.scatter, (spread,), parameters).reshape((batch.n, *shape))


def _concatenate(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    wholes = [batch.spread(x, is_batched) for x, is_batched in zip(args, lanes, strict=True)]
    return batch.emit(entry.op, wholes, entry, axis=entry.parameters["axis"] + 1)


def _matmul(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    (a, b), (of_a, of_b) = args, lanes
    n_a, n_b = np.ndim(a) - of_a, np.ndim(b) - of_b  # axes of a lane

    def product(x: Any, y: Any) -> Any:
        return batch.graph.operation(operations.matmul, (x, y), {})

    if not of_b and n_a == 1:  # rows of a matrix, as they are
        return product(a, b) if n_b < 3 else _general(batch, product, a, b, of_a, of_b, n_a, n_b)
    if not of_a and n_b == 1 and n_a < 3:  # W @ x for every x: X @ W.T
        return product(b, a.T) if n_a == 2 else product(b, a)
    if of_a and of_b and n_a == n_b == 1:
        return np.add.reduce(batch.graph.row(TABLE["mul"], a, b), axis=1)
    return _general(batch, product, a, b, of_a, of_b, n_a, n_b)


def _general(batch: Batch, product: Any, a: Any, b: Any, of_a: bool, of_b: bool, n_a: int, n_b: int) -> Any:
    """Stacks of matrices: vectors become matrices of one row or column, and stacks are aligned."""
    if n_a == 1:
        a = a.reshape((*np.shape(a)[:-1], 1, np.shape(a)[-1]))
    if n_b == 1:
        b = b.reshape((*np.shape(b), 1))
    ndim = max(n_a, n_b, 2)
    if of_a and n_a < ndim:
        a = a.reshape((batch.n,) + (1,) * (ndim - max(n_a, 2)) + a.shape[1:])
    if of_b and n_b < ndim:
        b = b.reshape((batch.n,) + (1,) * (ndim - max(n_b, 2)) + b.shape[1:])
    found = product(a, b)
    shape = matmul_shape(np.shape(a), np.shape(b))
    if n_b == 1:
        shape = shape[:-1]
    if n_a == 1:
        shape = (*shape[: len(shape) - (1 if n_b == 1 else 2)], *shape[len(shape) - (0 if n_b == 1 else 1) :])
    return found.reshape(shape)


def _einsum(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    labels, out = entry.parameters["labels"], entry.parameters["out"]
    letter = next(k for k in operations.LETTERS if k not in "".join(labels) + out)
    texts = tuple(letter + text if is_batched else text for text, is_batched in zip(labels, lanes, strict=True))
    return batch.emit(entry.op, args, entry, labels=texts, out=letter + out)


def _stacks(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    """What NumPy does for every matrix of a stack."""
    ndim = max(np.ndim(x) - is_batched for x, is_batched in zip(args, lanes, strict=True))
    wholes = []
    for x, is_batched in zip(args, lanes, strict=True):
        x = batch.spread(x, is_batched)
        wholes.append(x.reshape((batch.n,) + (1,) * (ndim + 1 - x.ndim) + x.shape[1:]))
    return batch.emit(entry.op, wholes, entry, **entry.parameters)


def _question(batch: Batch, args: list[Any], lanes: list[bool], entry: Entry) -> Any:
    """Of a universal function by broadcasting; of others sample by sample."""
    parameters = entry.parameters
    function, template = parameters["function"], parameters["args"]
    elementwise = isinstance(function, np.ufunc) and function.nout == 1 and function.signature is None
    if elementwise and not parameters["options"]:
        given = [(args[x.number], lanes[x.number]) if type(x) is Place else (x, False) for x in template]
        if all(type(x) in (Symbol, np.ndarray, float, int, bool) or isinstance(x, np.generic) for x, _ in given):
            aligned = batch.aligned([x for x, _ in given], [is_batched for _, is_batched in given])
            return batch.lane_question(function, aligned, (batch.n, *entry.shape), entry.dtype)

    def asked(*answers: Any) -> Any:
        found = []
        for i in range(batch.n):
            own = [np.asarray(x[i]) if is_batched else x for x, is_batched in zip(answers, lanes, strict=True)]
            answer = function(*placed(template, own), **placed(parameters["options"], own))
            found.append(answer if parameters["item"] is None else answer[parameters["item"]])
        if len({np.shape(x) for x in found}) > 1:
            name = getattr(function, "__name__", "a question")
            raise TypeError(f"replay over a batch: {name} answers with arrays of other shapes for other samples")
        return np.stack(found)

    asked.__name__ = getattr(function, "__name__", "question")
    whole = {"function": asked, "args": tuple(map(Place, range(len(args)))), "options": {}, "item": None}
    return batch.graph.append(question, tuple(args), whole, (batch.n, *entry.shape), entry.dtype)


RULES: dict[Any, Callable[..., Any]] = {
    operations.reshape: _reshape,
    operations.transpose: _transpose,
    operations.broadcast_to: _broadcast,
    operations.astype: lambda batch, args, lanes, entry: batch.emit(entry.op, args, entry, **entry.parameters),
    operations.index: _index,
    operations.scatter: _scatter,
    operations.concatenate: _concatenate,
    operations.sum_: _reduction,
    operations.prod: _reduction,
    operations.max_: _reduction,
    operations.min_: _reduction,
    operations.cumsum: _along,
    operations.cumprod: _along,
    operations.matmul: _matmul,
    operations.einsum: _einsum,
    index_by: _index_by,
    question: _question,
    **dict.fromkeys(
        (
            linear_algebra.inverse, linear_algebra.solution, linear_algebra.determinant, linear_algebra.log_determinant,
            linear_algebra.cholesky, linear_algebra.eigh_, linear_algebra.eigvalsh, linear_algebra.svd_,
            linear_algebra.svdvals, linear_algebra.qr_, linear_algebra.pseudoinverse,
        ),
        _stacks,
    ),
}  # fmt: skip
