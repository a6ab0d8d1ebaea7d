"""The arguments of a function that is replayed: which are differentiated by, which are data, which are fixed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff import trees
from autodiff.scalars import scalars
from autodiff.value import REAL, Value

Key = tuple[Any, ...]


class Arguments:
    """The leaves of the arguments of one call: `numbers` of the chosen ones, `data` of the others, and their `key`.

    Floats and arrays of floats are data; whatever else an argument holds (integers, strings, objects) is fixed: it is
    handed to the function as it is, and belongs to the key that tells one recording from another.
    """

    __slots__ = ("data", "fixed", "key", "numbers", "parts", "positions")

    def __init__(self, f: Callable[..., Any], positions: Sequence[int], args: Sequence[Any]) -> None:
        self.positions = tuple(positions)
        self.numbers: list[Any] = []
        self.data: list[Any] = []
        self.fixed: list[Any] = []
        self.parts: list[tuple[bool, list[str], Any]] = []  # chosen?, what its leaves are, structure
        key: list[Any] = []
        for position, arg in enumerate(args):
            leaves, structure = trees.flatten(arg)
            chosen = position in self.positions
            kinds = []
            for leaf in leaves:
                kind, x, mark = _classified(leaf, chosen, position)
                kinds.append(kind)
                (self.fixed if kind == "fixed" else self.numbers if chosen else self.data).append(x)
                key.append((kind, mark))
            self.parts.append((chosen, kinds, structure))
            key.append((chosen, hashable(structure)))
        self.key: Key = tuple(key)

    @staticmethod
    def column(arrays: Sequence[Any], more: Sequence[float] = ()) -> Any:
        """All numbers of the arrays, (p, 1)."""
        if len(arrays) == 1 and not more and type(arrays[0]) is np.ndarray:
            return arrays[0].reshape(-1, 1)
        parts = [np.asarray(array, float).reshape(-1) for array in arrays]
        return np.concatenate([*parts, np.asarray(more, float)]).reshape(-1, 1) if parts or more else np.empty((0, 1))

    def nodes(self, f: Callable[..., Any]) -> tuple[list[Any], list[Value], list[Value]]:
        """(arguments of nodes, the nodes of the numbers, those of the data)."""
        numbers: list[Value] = []
        data: list[Value] = []
        args = []
        names = argument_names(f, len(self.parts))
        rest = {True: iter(self.numbers), False: iter(self.data)}
        fixed = iter(self.fixed)
        for (chosen, kinds, structure), name in zip(self.parts, names, strict=True):
            leaves = []
            for kind, place in zip(kinds, trees.places(structure, name), strict=True):
                if kind == "fixed":
                    leaves.append(next(fixed))
                    continue
                x = next(rest[chosen])
                nodes: Any = scalars(x, place) if kind == "array" else Value(float(x), place)
                leaves.append(nodes)
                (numbers if chosen else data).extend(nodes.flat if kind == "array" else [nodes])
            args.append(trees.unflatten(structure, leaves))
        return args, numbers, data

    def move(self, column: Any) -> None:
        """Sets the numbers to those of a column (p, 1)."""
        begin = 0
        for i, x in enumerate(self.numbers):
            size = np.size(x)
            part = column[begin : begin + size]
            self.numbers[i] = part.reshape(np.shape(x)) if isinstance(x, np.ndarray) else float(part[0, 0])
            begin += size

    def args(self) -> list[Any]:
        """The arguments, of these numbers and data."""
        rest = {True: iter(self.numbers), False: iter(self.data)}
        fixed = iter(self.fixed)
        return [
            trees.unflatten(structure, [next(fixed if kind == "fixed" else rest[chosen]) for kind in kinds])
            for chosen, kinds, structure in self.parts
        ]

    def gradients(self, column: Any, argnums: Any) -> Any:
        """A column (p, 1) as gradients by the chosen arguments, each in its structure."""
        found = {}
        begin = 0
        rest = iter(self.numbers)
        for position, (chosen, kinds, structure) in enumerate(self.parts):
            if not chosen:
                continue
            leaves: list[Any] = []
            for kind in kinds:
                x = next(rest)
                if kind == "array":
                    leaves.append(column[begin : begin + x.size].reshape(x.shape))
                    begin += x.size
                else:
                    leaves.append(float(column[begin, 0]))
                    begin += 1
            found[position] = trees.unflatten(structure, leaves)
        gradients = tuple(found[position] for position in self.positions)
        return gradients[0] if isinstance(argnums, int) else gradients


def checked_argnums(argnums: Any) -> int | tuple[int, ...]:
    """argnums as an integer, or a tuple of different ones; TypeError or ValueError if they are none."""
    many = isinstance(argnums, (tuple, list, range))
    for one in argnums if many else [argnums]:
        if not isinstance(one, (int, np.integer)) or isinstance(one, bool):
            raise TypeError(f"replay: argnums is an integer or a tuple of them, got {argnums!r}")
    return tuple(map(int, argnums)) if many else int(argnums)


def positions_of(argnums: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    """The arguments that argnums names, from 0, among so many; those below 0 count from the last one backwards.

    >>> positions_of((0, -1), 3)
    (0, 2)
    """
    wanted = argnums if isinstance(argnums, tuple) else (argnums,)
    for one in wanted:
        if not -count <= one < count:
            raise TypeError(f"replay: there is no argument {one} among the {count} given; see argnums")
    positions = tuple(one % count for one in wanted)
    if len(set(positions)) < len(positions):
        raise ValueError(f"replay: argnums names an argument twice: {argnums!r}")
    return positions


def holds_nodes(args: Sequence[Any]) -> bool:
    """Whether one of the arguments is a node, or has one in it."""
    return any(
        hasattr(type(leaf), "apply_primitive")
        or (isinstance(leaf, np.ndarray) and leaf.dtype == object and any(isinstance(x, Value) for x in leaf.flat))
        for leaf in trees.leaves(list(args))
    )


def _classified(leaf: Any, chosen: bool, position: int) -> tuple[str, Any, Any]:
    """(what it is, the leaf, what of it belongs to the key)."""
    if isinstance(leaf, np.ndarray):
        if leaf.dtype.kind == "f" or (chosen and leaf.dtype.kind in "iub"):
            return "array", np.asarray(leaf, dtype=float), leaf.shape
        if not leaf.dtype.hasobject:
            return "fixed", leaf, (leaf.shape, str(leaf.dtype), leaf.tobytes())
    if isinstance(leaf, (float, np.floating)) or (chosen and isinstance(leaf, REAL)):
        return "number", leaf, None
    if chosen:
        raise TypeError(
            f"replay: argument {position} holds {type(leaf).__name__} {leaf!r:.40}; derivatives are taken by real "
            "numbers and arrays of them. Name the arguments to differentiate by with argnums"
        )
    # what may change, as it is now
    mark = tuple(leaf.flat) if isinstance(leaf, np.ndarray) else leaf
    mark = frozenset(leaf) if isinstance(leaf, set) else bytes(leaf) if isinstance(leaf, bytearray) else mark
    try:
        hash(mark)
    except TypeError:
        mark = id(leaf)
    return "fixed", leaf, (type(leaf), np.shape(leaf) if isinstance(leaf, np.ndarray) else None, mark)


def hashable(structure: Any) -> Any:
    """The structure of a tree as a key of a dictionary."""
    if structure is trees.LEAF or structure is trees.NOTHING:
        return structure
    kind, parts = structure
    if isinstance(parts, dict):
        return kind, tuple((key, hashable(part)) for key, part in parts.items())
    return kind, tuple(map(hashable, parts))


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What the first `count` arguments of f are called."""
    try:
        names = list(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        names = []
    return (names + [f"argument {i}" for i in range(len(names), count)])[:count]
