"""What a recording must hold for its replay: every decision that was made on a node's number while it was recorded.

A *decision* is a comparison of nodes, or the truth of one; it becomes a *guard*: a replay computes the nodes again and
must come to the same outcome, or else the function is recorded again. A number that leaves the graph (item(), .data)
would be frozen; that is refused. So is code that asks whether arithmetic raises or warns, which no comparison shows.
"""

from __future__ import annotations

import gc
import opcode
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from operator import attrgetter
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from autodiff import value
from autodiff.value import Value

OWN = ("autodiff", "nn", "numpy", "warnings")  # packages whose code is not searched
NOT_SEARCHED = (float, int, str, bytes, complex, type(None), np.ndarray, np.generic, Value, ModuleType)
IMPORT = opcode.opmap["IMPORT_NAME"]
MOST_SEARCHED = 1000  # things whose words are looked at; where there are more, every read of .data is watched
# words of code that may read or write an attribute by a name which is made up only when it runs
BY_ANY_NAME = {
    "getattr", "attrgetter", "__getattribute__", "__dict__", "__get__", "vars", "getmembers", "eval", "exec",
    "setattr", "__setattr__", "__set__",
}  # fmt: skip
# [(words, words)]: code that has one of the former and one of the latter, if there are any, sees errors and warnings
ON_ERRORS: list[tuple[set[str], set[str]]] = [
    ({"FloatingPointError", "ArithmeticError", "seterrcall"}, set()),
    ({"errstate", "seterr"}, {"raise", "call"}),
    ({"catch_warnings", "simplefilter", "filterwarnings"}, {"record", "error"}),
]
ALONE = threading.RLock()  # held while a function is recorded: threads wait for one another


class ReplayError(TypeError):
    """A function that cannot be replayed: a number left the graph while it was recorded."""


class Decision(NamedTuple):
    """A comparison of a node with a node or a number, and what came out."""

    comparison: str
    a: Value
    b: Any
    outcome: bool


class Watched:
    """What came up while a function ran: its decisions, and the mark of the nodes that were made meanwhile."""

    __slots__ = ("decisions", "made", "refused")

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.made = float("0")  # their grad, told apart by identity: a node with another one was found elsewhere
        self.refused: ReplayError | None = None  # raised at the end too: code may catch it, or run in another thread

    def refuse(self, error: ReplayError) -> NoReturn:
        """Raises the error, and remembers it."""
        self.refused = self.refused or error
        raise error


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside, Python's garbage collector rests: it would walk over a growing graph, and all else, to find nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def watched(f: Any, arguments: Collection[Value] = ()) -> Iterator[Watched]:
    """Inside, every decision on a node is kept; numbers that leave the graph raise, there and at the end.

    f: what runs, with all that it is given; its code is searched. arguments: the nodes that it is given. What other
    threads do meanwhile counts if it is done to nodes that are made of these.
    """
    words, unsure = words_of(f)
    for some, others in ON_ERRORS:
        if some & words and (not others or others & words):
            raise ReplayError(
                f"the function asks whether arithmetic raises or warns ({min(some & words)}): what it does then would "
                "not be seen at a replay. Compare the nodes themselves, or ask outside of the function that is replayed"
            )
    found = Watched()
    here, given = threading.get_ident(), dict.fromkeys(arguments)

    def watch(kind: str, a: Any, b: Any, outcome: Any) -> None:
        if threading.get_ident() != here and not _are_made_of(given, a, b):
            return
        if outcome is None:
            if kind in WITHIN:
                if _is_within(*WITHIN[kind]):
                    return
                kind = {"repr": "a text"}.get(kind, kind)
            found.refuse(_refusal(kind, a))
        if type(a) is not Value:  # a number on the left, of NumPy's
            kind, a, b = MIRRORED.get(kind, kind), b, a
        if type(b) is not Value and not _is_a_float(b):
            found.refuse(
                ReplayError(f"a node is compared with {b!r:.40}, which no float equals: compare it with a float")
            )
        found.decisions.append(Decision(kind, a, b, outcome))

    if value.watcher is not None:
        raise ReplayError(
            "a function is being recorded already: inside of it, a replayed function takes nodes, and for plain "
            "numbers it must have been recorded before"
        )
    slots = {name: Value.__dict__[name] for name in ("data", "grad") if unsure or {name, *BY_ANY_NAME} & words}
    no_grad, value.NO_GRAD, value.watcher = value.NO_GRAD, found.made, watch
    try:
        for name, slot in slots.items():
            setattr(Value, name, _Seen(name, slot))
        yield found
    except Exception as error:
        if found.refused is None or error is found.refused:
            raise
        raise found.refused from error
    finally:
        value.NO_GRAD, value.watcher = no_grad, None
        for name, slot in slots.items():
            setattr(Value, name, slot)
    if found.refused is not None:
        raise found.refused


# What the package may do though a user may not: the module that asks, after those that are passed over. An error's
# message shows a node; a sweep over plain numbers asks for the edges of nodes of its own.
WITHIN = {
    "repr": (("numpy", "autodiff.scalars"), ("autodiff", "nn")),
    "edges()": (("autodiff.value",), ("autodiff.sweeps",)),
}


def _is_within(passed_over: tuple[str, ...], asking: tuple[str, ...]) -> bool:
    frame = sys._getframe(3)  # the caller of the method that told the watcher
    while frame.f_back is not None and _is_of(frame, passed_over):
        frame = frame.f_back
    return _is_of(frame, asking)


def _is_of(frame: Any, modules: tuple[str, ...]) -> bool:
    name = frame.f_globals.get("__name__", "") + "."
    return any(name.startswith(module + ".") for module in modules)


def _are_made_of(arguments: dict[Value, None], *things: Any) -> bool:
    """Whether one of the arguments lies below one of these nodes or arrays of nodes."""
    pending = [node for thing in things for node in (thing.flat if isinstance(thing, np.ndarray) else [thing])]
    seen: dict[Any, None] = {}
    for node in pending:
        if type(node) is Value and node not in seen:
            if node in arguments:
                return True
            seen[node] = None
            pending += node.parents
    return False


def _is_a_float(b: Any) -> bool:
    """Whether a comparison with this number is one with a float: large whole numbers and fractions are none."""
    try:
        return type(b) is float or bool(float(b) == b or b != b)
    except OverflowError:
        return False


MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


class _Seen:
    """The slot `data` or `grad` of nodes, which refuses to be read or written from outside of the package."""

    def __init__(self, name: str, slot: Any) -> None:
        self.name, self.slot = name, slot

    def __get__(self, node: Any, kind: Any = None) -> Any:
        if node is None:
            return self
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] != "autodiff" and value.watcher is not None:
            value.watcher(self.name, node, None, None)
        return self.slot.__get__(node, kind)

    def __set__(self, node: Any, number: Any) -> None:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] != "autodiff" and value.watcher is not None:
            value.watcher(f"writing {self.name}", node, None, None)
        self.slot.__set__(node, number)


def _refusal(kind: str, node: Any) -> ReplayError:
    name = f" of {node.name}" if isinstance(node, Value) and node.name else ""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (*OWN, "copy", "copyreg"):
        frame = frame.f_back
    return ReplayError(
        f"{kind}{name} takes a number out of the graph while it is recorded ({frame.f_code.co_filename}, line "
        f"{frame.f_lineno}): a replay would go on with this old number. Compute with the node itself, compare it (a "
        "comparison is checked at every replay), or take the number outside of the function that is replayed"
    )


def words_of(f: Any) -> tuple[set[str], bool]:
    """(the attributes, names and strings in the code of f and of what can be reached from it; whether it is not all).

    Reached are what the code names, closures, default arguments, members of classes and of objects, and what lists and
    dicts hold. It is not all where code imports something, or where there is too much to look at.
    """
    words: set[str] = set()
    unsure = False
    seen: dict[int, Any] = {}
    pending: list[Any] = [f]
    while pending:
        thing = pending.pop()
        if isinstance(thing, str):
            words.update(thing.split("."))  # getattr(x, "data"), attrgetter("x.data")
        if id(thing) in seen or isinstance(thing, NOT_SEARCHED):
            continue
        if len(seen) > MOST_SEARCHED:
            return words, True
        if isinstance(thing, CodeType):
            words.update(thing.co_names)
            unsure = unsure or IMPORT in thing.co_code[::2]
        elif isinstance(thing, (BuiltinFunctionType, type)):
            words.add(thing.__name__)  # read = getattr
        seen[id(thing)] = thing
        pending += _reached(thing)
    return words, unsure


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
