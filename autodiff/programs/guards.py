"""What a recording must hold for its replay: every decision that was made on a node's number while it was recorded.

A *decision* is a comparison of nodes, or the truth of one; it becomes a *guard*: a replay computes the nodes again and
must come to the same outcome, or else the function is recorded again. A number that leaves the graph (item(), .data)
would be frozen; that is refused.
"""

from __future__ import annotations

import opcode
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from operator import attrgetter
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from autodiff import value
from autodiff.value import Value

OWN = ("autodiff", "nn", "numpy")  # packages whose code is not searched
NOT_SEARCHED = (float, int, str, bytes, complex, type(None), np.ndarray, np.generic, Value, ModuleType)
IMPORT = opcode.opmap["IMPORT_NAME"]
MOST_SEARCHED = 1000  # things that are looked at for reads of .data; where there are more, every read is watched
ALONE = threading.RLock()  # held while a function is recorded: threads wait for one another


class ReplayError(TypeError):
    """A function that cannot be replayed: a number left the graph while it was recorded."""


class Decision(NamedTuple):
    """A comparison of a node with a node or a number, and what came out."""

    comparison: str
    a: Value
    b: Any
    outcome: bool


@contextmanager
def watched(f: Any) -> Iterator[list[Decision]]:
    """Inside, every decision on a node is put into the list that is given; numbers that leave the graph raise."""
    decisions: list[Decision] = []
    here = threading.get_ident()

    def watch(kind: str, a: Any, b: Any, outcome: Any) -> None:
        if threading.get_ident() != here:  # what other threads do meanwhile is not recorded
            return
        if outcome is None:
            _refuse(kind, a)
        if type(a) is not Value:  # a number on the left, of NumPy's
            kind, a, b = MIRRORED.get(kind, kind), b, a
        if type(b) is not Value and not _is_a_float(b):
            raise ReplayError(f"a node is compared with {b!r:.40}, which no float equals: compare it with a float")
        decisions.append(Decision(kind, a, b, outcome))

    if value.watcher is not None:
        raise ReplayError(
            "a function is being recorded already: inside of it, a replayed function takes nodes, and for plain "
            "numbers it must have been recorded before"
        )
    descriptor = Value.__dict__["data"]
    reads_data = mentions(f, "data")
    value.watcher = watch
    try:
        if reads_data:
            setattr(Value, "data", _Seen(descriptor))  # noqa: B010 - a slot, to a type checker
        yield decisions
    finally:
        value.watcher = None
        if reads_data:
            setattr(Value, "data", descriptor)  # noqa: B010


def _is_a_float(b: Any) -> bool:
    """Whether a comparison with this number is one with a float: large whole numbers and fractions are none."""
    try:
        return type(b) is float or bool(float(b) == b or b != b)
    except OverflowError:
        return False


MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


class _Seen:
    """The slot `data` of nodes, which refuses to be read from outside of the package."""

    def __init__(self, slot: Any) -> None:
        self.slot = slot

    def __get__(self, node: Any, kind: Any = None) -> Any:
        if node is None:
            return self
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] != "autodiff" and value.watcher is not None:
            value.watcher("data", node, None, None)
        return self.slot.__get__(node, kind)

    def __set__(self, node: Any, number: Any) -> None:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] != "autodiff" and value.watcher is not None:
            value.watcher("writing data", node, None, None)
        self.slot.__set__(node, number)


def _refuse(kind: str, node: Any) -> NoReturn:
    name = f" of {node.name}" if isinstance(node, Value) and node.name else ""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (*OWN, "copy", "copyreg"):
        frame = frame.f_back
    raise ReplayError(
        f"{kind}{name} takes a number out of the graph while it is recorded ({frame.f_code.co_filename}, line "
        f"{frame.f_lineno}): a replay would go on with this old number. Compute with the node itself, compare it (a "
        "comparison is checked at every replay), or take the number outside of the function that is replayed"
    )


def mentions(f: Any, name: str) -> bool:
    """Whether the code of f, or of what can be reached from it, has that word as an attribute, a name or a string.

    Reached are what the code names, closures, default arguments, members of classes and of objects, and what lists and
    dicts hold. True also where code imports something, or where there is too much to look at.
    """
    seen: dict[int, Any] = {}
    pending: list[Any] = [f]
    while pending:
        thing = pending.pop()
        if isinstance(thing, str) and name in thing.split("."):  # getattr(x, "data"), attrgetter("x.data")
            return True
        if id(thing) in seen or isinstance(thing, NOT_SEARCHED):
            continue
        if len(seen) > MOST_SEARCHED:
            return True
        if isinstance(thing, CodeType) and (name in thing.co_names or IMPORT in thing.co_code[::2]):
            return True
        seen[id(thing)] = thing
        pending += _reached(thing)
    return False


def _reached(thing: Any) -> Iterable[Any]:
    if isinstance(thing, CodeType):
        return thing.co_consts
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        if _is_own(thing):
            return cells  # the function that a transform was given
        return [thing.__code__, thing.__defaults__, thing.__kwdefaults__, *cells, *_named(thing)]
    if isinstance(thing, (list, tuple, set, frozenset)):
        return islice(thing, MOST_SEARCHED)
    if isinstance(thing, dict):
        return islice(thing.values(), MOST_SEARCHED)
    if isinstance(thing, MethodType):
        return thing.__func__, thing.__self__
    if isinstance(thing, partial):
        return thing.func, thing.args, thing.keywords
    if isinstance(thing, attrgetter):
        return thing.__reduce__()[1]
    if isinstance(thing, property):
        return thing.fget, thing.fset
    if isinstance(thing, (staticmethod, classmethod)):
        return (thing.__func__,)
    if isinstance(thing, type):
        return [member for one in thing.__mro__ if not _is_own(one) for member in vars(one).values()]
    members = getattr(thing, "__dict__", {})
    return (members.get("__wrapped__"),) if _is_own(type(thing)) else (type(thing), members)


def _is_own(thing: Any) -> bool:
    return (thing.__module__ or "").split(".")[0] in (*OWN, "builtins")


def _named(f: FunctionType) -> list[Any]:
    """What the code of f names: globals, and of modules the members that it names."""
    names = _names(f.__code__)
    found = []
    for name in names:
        thing = f.__globals__.get(name)
        if not isinstance(thing, ModuleType):
            found.append(thing)
        elif thing.__name__.split(".")[0] not in OWN:
            found += [vars(thing).get(other) for other in names]
    return found


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
