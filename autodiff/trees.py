"""Nested lists, tuples and dicts of numbers and arrays: taken apart into leaves and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

LEAF, NOTHING = object(), object()  # the structure of a leaf, and of None, which holds no leaf


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """(leaves, structure) of a tree: lists, tuples and dicts are taken apart, None is left out, all else is a leaf.

    >>> leaves, structure = flatten({"W": [1.0, (2.0, None)]})
    >>> leaves, unflatten(structure, ["a", "b"])
    ([1.0, 2.0], {'W': ['a', ('b', None)]})
    """
    leaves: list[Any] = []

    def structure(x: Any) -> Any:
        if x is None:
            return NOTHING
        if isinstance(x, dict):
            return type(x), {key: structure(part) for key, part in x.items()}
        if isinstance(x, (list, tuple)):
            return type(x), [structure(part) for part in x]
        leaves.append(x)
        return LEAF

    return leaves, structure(tree)


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The tree of that structure with these leaves."""
    rest = iter(leaves)

    def tree(shape: Any) -> Any:
        if shape is NOTHING:
            return None
        if shape is LEAF:
            return next(rest)
        kind, parts = shape
        if isinstance(parts, dict):
            found = {key: tree(part) for key, part in parts.items()}
            return found if kind is dict else _same_kind(kind, found)
        items = [tree(part) for part in parts]
        return kind(*items) if hasattr(kind, "_fields") else kind(items)

    return tree(structure)


def _same_kind(kind: Any, found: dict[Any, Any]) -> Any:
    try:
        return kind(found)
    except TypeError:  # a defaultdict, which takes its factory first
        return found


def count(structure: Any) -> int:
    """The number of leaves of a structure."""
    if structure is LEAF or structure is NOTHING:
        return int(structure is LEAF)
    parts = structure[1]
    return sum(map(count, parts.values() if isinstance(parts, dict) else parts))


def same_structure(a: Any, b: Any) -> bool:
    """Whether two structures have the same nesting, lengths and keys; a list may stand for a tuple."""
    if a is LEAF or a is NOTHING or b is LEAF or b is NOTHING:
        return a is b
    parts, others = a[1], b[1]
    if isinstance(parts, dict) != isinstance(others, dict) or len(parts) != len(others):
        return False
    if isinstance(parts, dict):
        return parts.keys() == others.keys() and all(same_structure(parts[key], others[key]) for key in parts)
    return all(same_structure(one, other) for one, other in zip(parts, others, strict=True))


def places(structure: Any, root: str) -> Iterator[str]:
    """How to write each leaf down: x, x[0]['W'], ..."""
    if structure is LEAF:
        yield root
    elif structure is not NOTHING:
        parts = structure[1]
        for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from places(part, f"{root}[{key!r}]")


def tree_map(function: Callable[..., Any], tree: Any) -> Any:
    """The tree with function applied to every leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])
