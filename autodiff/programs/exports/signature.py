"""What an exported program takes and gives: its arguments, taken apart into leaves, and where their numbers belong.

Glossary: a *leaf* is one number or array in an argument. Its numbers stand one after the other in a *column*: that of
the NUMBERS by which one differentiates, that of the other data, GIVEN, or, of a program of one sample, among the rows
of its LANES, where one number of a leaf that is no batch serves all samples.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import trees
from autodiff.programs.arguments import Arguments, argument_names
from autodiff.programs.instructions import Builder
from autodiff.programs.raising import GIVEN, NUMBERS

LANES = 2  # the third column
Shape = tuple[int, ...]
WRONG_BRANCH = (
    "a comparison comes out differently for these values than when the program was recorded: record it again there"
)


class Leaf:
    """One number or array of the arguments: element by element at begin, begin + 1, ... of its column."""

    __slots__ = ("batch", "begin", "column", "name", "place", "shape", "size")

    def __init__(self, place: str, name: str, shape: Shape, column: int, begin: int, batch: bool = False) -> None:
        self.place, self.name, self.shape, self.column, self.begin = place, name, shape, column, begin
        self.batch = batch  # one sample per row; shape is that of a sample
        self.size = math.prod(shape)

    @property
    def end(self) -> int:
        """Where the next leaf begins."""
        return self.begin + self.size


class Signature:
    """The arguments of a program as a function, in order.

    names: of the arguments; structures: of each, as of trees.flatten; leaves: of all of them, in order; gradient: the
    structure of the gradient, whose leaves are, in order, the leaves of the column NUMBERS that `wrt` lists; captured:
    nodes from elsewhere, whose numbers at the time of export end the column NUMBERS; reduction: "sum" or "mean" over
    the samples of a batch, or None for the value of each.
    """

    def __init__(
        self,
        arguments: Sequence[tuple[str, Any]],
        leaves: Sequence[Leaf],
        gradient: Any,
        wrt: Sequence[Leaf],
        captured: Sequence[Any] = (),
        reduction: str | None = "sum",
    ) -> None:
        self.names = [name for name, _ in arguments]
        self.structures = [structure for _, structure in arguments]
        self.leaves, self.gradient, self.wrt = list(leaves), gradient, list(wrt)
        self.captured, self.reduction = list(captured), reduction

    def over(self, samples: int, reduction: str | None) -> None:
        """Makes batches of the last arguments, so many; whatever is no number of the program's is among its lanes."""
        self.reduction = reduction
        for leaf in self.leaves:
            if leaf.column == GIVEN:
                leaf.column = LANES
                leaf.batch = leaf.place in self.names[-samples:]

    def of_column(self, column: int) -> list[Leaf]:
        """The leaves of a column, in its order."""
        return sorted((leaf for leaf in self.leaves if leaf.column == column), key=lambda leaf: leaf.begin)

    @property
    def has_batch(self) -> bool:
        """Whether there are leaves with one sample per row."""
        return any(leaf.batch for leaf in self.leaves)

    def matched(self, values: Sequence[Any]) -> list[Any]:
        """The leaves of these arguments; TypeError where their structure is another."""
        if len(values) != len(self.names):
            raise TypeError(
                f"the program takes {len(self.names)} arguments ({', '.join(self.names)}), got {len(values)}"
            )
        return [
            leaf
            for value, structure, name in zip(values, self.structures, self.names, strict=True)
            for leaf, _ in trees.matched(value, structure, "the value", name)
        ]

    def check(self, shapes: Sequence[Shape]) -> int:
        """The number of samples in leaves of these shapes, 1 where there is no batch; ValueError where one is wrong."""
        lengths = {shape[0] for leaf, shape in zip(self.leaves, shapes, strict=True) if leaf.batch and shape}
        for leaf, shape in zip(self.leaves, shapes, strict=True):
            if (shape[1:] if leaf.batch and shape else shape) != leaf.shape or (leaf.batch and not shape):
                expected = f"(n, {', '.join(map(str, leaf.shape))})" if leaf.batch else str(leaf.shape)
                raise ValueError(f"{leaf.place} has the shape {shape}, and the program takes {expected}")
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(f"a batch has the same number of samples in every array, and not 0: got {sorted(lengths)}")
        return lengths.pop() if lengths else 1


class Exported:
    """A program as its exports see it: what gives the instructions, its arguments, whether there are guards, its size.

    instructions: of names such as "value", gives (Builder, slots).
    """

    __slots__ = ("guarded", "instructions", "signature", "size")

    def __init__(
        self,
        instructions: Callable[..., tuple[Builder, list[int]]],
        signature: Signature,
        guarded: bool,
        size: int,
    ) -> None:
        self.instructions, self.signature, self.guarded, self.size = instructions, signature, guarded, size

    @property
    def title(self) -> str:
        """One line that says what it is."""
        return f"A recorded program of {self.size} nodes, a function of {', '.join(self.signature.names) or 'nothing'}."


def recorded(inputs: Any, given: Any, element_names: Sequence[str | None]) -> Signature:
    """The signature of what `record` made: an argument per element of a list of inputs, or one for all of them.

    inputs, given: as of the Program (Inputs); element_names: what the inputs are called, one by one.
    """
    arguments: list[tuple[str, Any]] = []
    leaves: list[Leaf] = []
    gradient: list[Leaf] = []
    for interface, column, words in ((inputs, NUMBERS, element_names), (given, GIVEN, ())):
        if interface is None:
            continue
        names = [
            _common_name(words[begin:end], shape != ())
            for shape, begin, end in zip(interface.shapes, interface.offsets, interface.offsets[1:], strict=False)
        ]
        parts = interface.structure[1] if interface.many else [interface.structure]
        done = 0
        for part in parts:
            count = trees.count(part)
            fallback = ("x" if column == NUMBERS else "data") + (str(len(arguments)) if len(parts) > 1 else "")
            name = (names[done] if part is trees.LEAF else None) or (fallback if part is trees.LEAF else "inputs")
            name = _fresh(name, [known for known, _ in arguments])
            places = list(trees.places(part, name))
            for place, shape, begin in zip(
                places, interface.shapes[done : done + count], interface.offsets[done:], strict=False
            ):
                leaves.append(Leaf(place, name, shape, column, begin))
            arguments.append((name, part))
            done += count
        if column == NUMBERS:
            gradient = list(leaves)
    _name_leaves(leaves, [name for name, _ in arguments])
    return Signature(arguments, leaves, inputs.structure, gradient)


def bare(inputs: Any, rows: int, one_sample: bool) -> Signature:
    """The signature of a replayed program that came from a file: its numbers, one by one, and its data as one array.

    Those of a program of one sample are an array with a sample per row, over which the value is summed.
    """
    names = [f"x{j}" for j in range(inputs.size)]
    numbers = [Leaf(name, name, (), NUMBERS, j) for j, name in enumerate(names)]
    data = Leaf("data", "data", (rows,), LANES if one_sample else GIVEN, 0, one_sample)
    arguments = [(name, trees.LEAF) for name in (*names, "data")]
    return Signature(arguments, [*numbers, data], (list, [trees.LEAF] * len(names)), numbers)


def replayed(
    f: Callable[..., Any], given: Arguments, argnums: int | Sequence[int], captured: Sequence[Any]
) -> Signature:
    """The signature of a function that was replayed: its own arguments, in its own order.

    What is fixed is no argument: where it is a part of one, None stands in its place.
    """
    arguments: list[tuple[str, Any]] = []
    leaves: list[Leaf] = []
    chosen_leaves: dict[int, tuple[Any, list[Leaf]]] = {}
    begin = {NUMBERS: 0, GIVEN: 0}
    shapes = {True: iter(map(np.shape, given.numbers)), False: iter(map(np.shape, given.data))}
    names = argument_names(f, len(given.parts))
    for position, (name, (chosen, kinds, structure)) in enumerate(zip(names, given.parts, strict=True)):
        column = NUMBERS if chosen else GIVEN
        if kinds and all(kind == "fixed" for kind in kinds):
            continue  # derivatives are taken by none of these
        without_fixed = trees.flatten(trees.unflatten(structure, [None if kind == "fixed" else 0 for kind in kinds]))[1]
        name = _fresh(name, [known for known, _ in arguments])
        own = []
        for place in trees.places(without_fixed, name):
            own.append(Leaf(place, name, next(shapes[chosen]), column, begin[column]))
            begin[column] += own[-1].size
        leaves += own
        arguments.append((name, without_fixed))
        if chosen:
            chosen_leaves[position] = without_fixed, own
    wanted = [argnums] if isinstance(argnums, int) else list(argnums)
    wrt = [leaf for position in wanted for leaf in chosen_leaves[position][1]]
    structures = [chosen_leaves[position][0] for position in wanted]
    gradient = structures[0] if isinstance(argnums, int) else (tuple, structures)
    _name_leaves(leaves, [name for name, _ in arguments])
    return Signature(arguments, leaves, gradient, wrt, captured)


# --- names ---

# What the text of an export names itself
_TAKEN = frozenset(
    (
        "np", "math", "value", "value_and_grad", "n", "v", "shared", "inputs", "given", "lanes", "constants", "len",
        "float", "ValueError", "number_or_array", "each", "add_rows", "gelu", "sinc", "sinc_slope", "sinpi", "cospi",
    )
)  # fmt: skip


def _common_name(names: Sequence[str | None], is_array: bool) -> str | None:
    """What the elements of an array are named after: W of W[0,0], W[0,1], ..., w1 of w1_11, w1_12, ..."""
    if not names or not all(names):
        return None
    first, last = min(map(str, names)), max(map(str, names))  # what these two share, all share
    common = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    if is_array:
        common = re.split(r"\[|_\d*$", common)[0]
    return common or None


def _fresh(name: str, taken: Sequence[str]) -> str:
    """An identifier like the name, and unlike those that are taken."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not name or name[0].isdigit() or name[0] == "_":
        name = "x" + name
    if keyword.iskeyword(name) or name in _TAKEN or re.fullmatch(r"[vk]\d+|d_.*|.*_array|value.*_\d+", name):
        name += "_"
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def _name_leaves(leaves: Sequence[Leaf], arguments: Sequence[str]) -> None:
    """A variable for each leaf: the argument itself, or argument_key."""
    taken: list[str] = list(arguments)
    for leaf in leaves:
        if leaf.place != leaf.name:
            leaf.name = _fresh("_".join(re.findall(r"\w+", leaf.place)), taken)
            taken.append(leaf.name)


# --- what is picked from a column ---


class Picked:
    """Elements P (k, w) of a sequence: sequence[start:stop:step] in order, or such a block transposed; else one by one.

    kind: "range", "transposed" (of a block (w, k)) or "any"; of a transposed block step is 1.
    """

    __slots__ = ("kind", "shape", "start", "step", "stop")

    def __init__(self, P: Any) -> None:
        k, w = self.shape = P.shape
        flat = P.ravel()
        self.start = int(flat[0])
        self.step = int(flat[1]) - self.start if len(flat) > 1 else 1
        self.kind = "any"
        if self.step > 0 and (np.diff(flat) == self.step).all():
            self.kind = "range"
        elif k > 1 and w > 1 and (P.T.ravel() == np.arange(self.start, self.start + P.size)).all():
            self.kind, self.step = "transposed", 1
        self.stop = self.start + (len(flat) - 1) * self.step + 1

    def leaf(self, leaves: Sequence[Leaf]) -> Leaf | None:
        """The leaf that they all come from, if there is one."""
        if self.kind == "any":
            return None
        return next((leaf for leaf in leaves if leaf.begin <= self.start and self.stop <= leaf.end), None)
