"""Nested lists, tuples and dicts of numbers and arrays: taken apart into leaves and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

LEAF, NOTHING = object(), object()  # the structure of a leaf, and of None, which holds no leaf


# Here a function that calls itself is no inner function: that would be a reference cycle, which keeps the leaves.


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """(leaves, structure) of a tree: lists, tuples and dicts are taken apart, None is left out, all else is a leaf.

    >>> leaves, structure = flatten({"W": [1.0, (2.0, None)]})
    >>> leaves, unflatten(structure, ["a", "b"])
    ([1.0, 2.0], {'W': ['a', ('b', None)]})
    """
    leaves: list[Any] = []
    return leaves, _taken_apart(tree, leaves)


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree."""
    return flatten(tree)[0]


def _taken_apart(tree: Any, leaves: list[Any]) -> Any:
    """The structure of the tree, whose leaves are appended."""
    kind = type(tree)
    if kind is list or kind is tuple or isinstance(tree, (list, tuple)):
        return kind, [_taken_apart(part, leaves) for part in tree]
    if tree is None:
        return NOTHING
    if isinstance(tree, dict):
        return kind, {key: _taken_apart(part, leaves) for key, part in tree.items()}
    leaves.append(tree)
    return LEAF


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The tree of that structure with these leaves."""
    return _put_together(structure, iter(leaves))


def _put_together(structure: Any, leaves: Iterator[Any]) -> Any:
    if structure is LEAF:
        return next(leaves)
    if structure is NOTHING:
        return None
    kind, parts = structure
    if isinstance(parts, dict):
        found = {key: _put_together(part, leaves) for key, part in parts.items()}
        return found if kind is dict else _same_kind(kind, found)
    items = [next(leaves) if part is LEAF else _put_together(part, leaves) for part in parts]
    if kind is list:
        return items
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


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


def matched(tree: Any, structure: Any, what: str, root: str) -> list[tuple[Any, str]]:
    """[(leaf, how to write its place down)] of a tree that has this structure; dicts by key, in any order.

    A list may stand for a tuple, and a list of numbers for a leaf. None stands for a whole subtree: each of its leaves
    is None then. Raises TypeError where nesting, lengths or keys differ, saying what came and what was expected.

    >>> matched({"b": 1.0, "a": (2.0, 3.0)}, flatten({"a": [0, 0], "b": 0})[1], "tangent", "x")
    [(2.0, "x['a'][0]"), (3.0, "x['a'][1]"), (1.0, "x['b']")]
    """
    found: list[tuple[Any, str]] = []
    _match(tree, structure, what, root, found)
    return found


def _match(tree: Any, structure: Any, what: str, place: str, found: list[tuple[Any, str]]) -> None:
    if structure is LEAF:
        if isinstance(tree, dict):
            raise _unlike(what, place, tree, "one number or array")
        found.append((tree, place))
    elif structure is NOTHING:
        if tree is not None:
            raise _unlike(what, place, tree, "None")
    elif tree is None:
        found.extend((None, each) for each in places(structure, place))
    elif isinstance(structure[1], dict):
        if not isinstance(tree, dict) or tree.keys() != structure[1].keys():
            raise _unlike(what, place, tree, f"a dict with the keys {', '.join(map(repr, structure[1])) or '(none)'}")
        for key, part in structure[1].items():
            _match(tree[key], part, what, f"{place}[{key!r}]", found)
    else:
        if not isinstance(tree, (list, tuple)) or len(tree) != len(structure[1]):
            raise _unlike(what, place, tree, f"a {structure[0].__name__} of {len(structure[1])}")
        for i, part in enumerate(structure[1]):
            _match(tree[i], part, what, f"{place}[{i}]", found)


def _unlike(what: str, place: str, x: Any, expected: str) -> TypeError:
    came = f"a dict with the keys {', '.join(map(repr, x))}" if isinstance(x, dict) else f"{type(x).__name__} {x!r:.60}"
    return TypeError(f"{what} of the {place} has not its structure: expected {expected}, got {came}")


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
