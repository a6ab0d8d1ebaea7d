"""What a recording must hold for its replay: every decision that was made on a node's number while it was recorded.

A *decision* is a comparison of nodes, or the truth of one; it becomes a *guard*: a replay computes the nodes again and
must come to the same outcome, or else the function is recorded again. A number that leaves the graph (item(), .data)
would be frozen; that is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple, NoReturn

from autodiff import value
from autodiff.value import Value

OWN = ("autodiff", "nn", "numpy")  # packages whose code is not searched


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

    def watch(kind: str, a: Any, b: Any, outcome: Any) -> None:
        if outcome is None:
            _refuse(kind, a)
        if type(a) is not Value:  # a number on the left, of NumPy's
            kind, a, b = MIRRORED.get(kind, kind), b, a
        decisions.append(Decision(kind, a, b, outcome))

    if value.watcher is not None:
        raise ReplayError("a function is being recorded already in this process: one recording at a time")
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
    """Whether the code of f, or of Python functions that it names, uses an attribute or variable of that name."""
    seen: set[int] = set()
    pending: list[Any] = [f]
    while pending:
        thing = pending.pop()
        if id(thing) in seen or len(seen) > 1000:
            continue
        seen.add(id(thing))
        if isinstance(thing, CodeType):
            if name in thing.co_names or name in thing.co_consts:  # x.data, or getattr(x, "data")
                return True
            pending += [constant for constant in thing.co_consts if isinstance(constant, CodeType)]
        elif isinstance(thing, FunctionType):
            if thing.__module__ and thing.__module__.split(".")[0] in OWN:
                continue
            pending.append(thing.__code__)
            named = [thing.__globals__.get(other) for other in _names(thing.__code__)]
            cells = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
            for other in (*named, *cells):
                pending += _functions(other, thing.__code__)
        else:
            pending += _functions(thing, None)
    return False


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


def _functions(thing: Any, code: CodeType | None) -> list[Any]:
    """The Python functions that a thing stands for: itself, or those of its class or module that the code names."""
    if isinstance(thing, FunctionType):
        return [thing]
    if hasattr(thing, "__func__"):
        return [thing.__func__]
    if hasattr(thing, "func") and callable(thing.func):  # a functools.partial
        return [thing.func]
    module = thing.__name__ if isinstance(thing, ModuleType) else getattr(type(thing), "__module__", "") or ""
    if isinstance(thing, type):
        module = thing.__module__
    if module.split(".")[0] in (*OWN, "builtins"):
        return []
    if isinstance(thing, ModuleType):
        return [f for f in (vars(thing).get(name) for name in _names(code)) if callable(f)] if code else []
    holder = thing if isinstance(thing, type) else type(thing)
    return [f for f in vars(holder).values() if isinstance(f, FunctionType)]
