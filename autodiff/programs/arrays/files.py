"""Programs of arrays in files: entries as JSON, their constants as arrays, and functions by name; without pickle."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff import linear_algebra, operations, trees
from autodiff.operations import Operation
from autodiff.primitives import TABLE, Primitive
from autodiff.programs.arrays import answers, graph
from autodiff.programs.arrays.graph import SHAPE, Entry, Graph, Place, Symbol
from autodiff.programs.arrays.recording import Recorded
from autodiff.tensor import FUNCTIONS

VERSION = 1
MODULES = (operations, linear_algebra, graph)
OPERATIONS = {
    f"{module.__name__}.{name}": op
    for module in MODULES
    for name, op in vars(module).items()
    if isinstance(op, Operation)
}
NAMES = {op: name for name, op in reversed(OPERATIONS.items())}
MODULES_OF_FUNCTIONS = ("numpy", "numpy.linalg", "_operator", answers.__name__)
STRUCTURES = {"leaf": trees.LEAF, "nothing": trees.NOTHING}
Written = Any  # lists, strings, numbers, and {"array": number of an array}


def written(recorded: Recorded, count: int) -> tuple[list[Written], list[Any]]:
    """(the first entries of a recording, its outputs and guards; the arrays in them)."""
    arrays: list[Any] = []
    entries = [
        [_operation(entry), *(_put(x, arrays) for x in (entry.args, dict(entry.parameters), entry.shape, entry.dtype))]
        for entry in recorded.graph.entries[:count]
    ]
    names = {str(i): name for i, name in recorded.graph.names.items() if i < count}
    inputs = [x.number for x in recorded.inputs]
    errors = {str(i): wanted for i, wanted in recorded.graph.errors.items()}
    return [entries, [names, errors], inputs, _put(recorded.outputs, arrays), _put(recorded.guards, arrays)], arrays


def read(about: Sequence[Written], arrays: Sequence[Any]) -> Recorded:
    """The recording that `written` wrote; KeyError where it uses a row that the table does not have."""
    entries, names, inputs, outputs, guards = about
    made = Graph()
    for op, *parts in entries:
        args, parameters, shape, dtype = (_got(part, made, arrays) for part in parts)
        made.entries.append(Entry(_found(op), args, parameters, shape, dtype))
    made.names, made.errors = ({int(i): x for i, x in of.items()} for of in names)
    symbols = [Symbol(made, i) for i in inputs]
    return Recorded(made, symbols, _got(outputs, made, arrays), _got(guards, made, arrays))


def _operation(entry: Entry) -> Written:
    if entry.op is None:
        return None
    if isinstance(entry.op, Primitive):
        return ["row", entry.op.name]
    if entry.op in NAMES:
        return ["operation", NAMES[entry.op]]
    raise TypeError(f"{entry.op.name} is an operation of your own and cannot be saved: a file knows operations by name")


def _found(op: Written) -> Any:
    if op is None:
        return None
    kind, name = op
    if kind == "operation":
        return OPERATIONS[name]
    if name not in TABLE:
        raise KeyError(f"the table has no row {name!r}: define that primitive before loading the program")
    return TABLE[name]


def _put(x: Any, arrays: list[Any]) -> Written:
    if x is None or type(x) in (bool, int, str):
        return x
    if type(x) is float:
        return {"float": x.hex()}
    if type(x) is Symbol:
        return {"symbol": x.number}
    if type(x) is Place:
        return {"place": x.number}
    if x is SHAPE:
        return {"shape": 0}
    if type(x) in (tuple, list):
        return {type(x).__name__: [_put(part, arrays) for part in x]}
    if type(x) is dict:
        return {"dict": [[key, _put(part, arrays)] for key, part in x.items()]}
    if type(x) is slice:
        return {"slice": [_put(part, arrays) for part in (x.start, x.stop, x.step)]}
    if x is Ellipsis:
        return {"ellipsis": 0}
    if isinstance(x, np.dtype):
        return {"dtype": x.str}
    if isinstance(x, np.generic):
        return {"number": _put(np.asarray(x), arrays)}
    if isinstance(x, np.ndarray):
        arrays.append(x)
        return {"array": len(arrays) - 1}
    return {"function": _function(x)}


def _function(f: Any) -> list[str]:
    """[module, name of it there] of a function of NumPy's."""
    owner = getattr(f, "__self__", None)
    if isinstance(owner, np.ufunc):
        return ["numpy", f"{owner.__name__}.{f.__name__}"]
    owner = getattr(f, "__objclass__", None)
    path = ["numpy", f"ndarray.{f.__name__}"] if owner is np.ndarray else [_module(f), getattr(f, "__name__", "")]
    try:
        if _named(path) is f:
            return path
    except (AttributeError, ImportError, ValueError):
        pass
    raise TypeError(f"{f!r:.60} cannot be saved: a file knows functions of NumPy by name")


def _module(f: Any) -> str:
    return "numpy" if isinstance(f, np.ufunc) else str(getattr(f, "__module__", ""))


def _named(path: Sequence[str]) -> Any:
    module, name = path
    if module in MODULES_OF_FUNCTIONS and name.count(".") < 2:
        thing: Any = importlib.import_module(module)
        for part in name.split("."):
            thing = getattr(thing, part)
        if _computes(thing):
            return thing
    raise ValueError(f"a program in a file calls NumPy's functions of arrays, not {module}.{name}")


def _computes(f: Any) -> bool:
    """Whether it is a function that a recording may hold: of arrays, and without other effects."""
    if isinstance(f, np.ufunc) or isinstance(getattr(f, "__self__", None), np.ufunc):
        return True
    if getattr(f, "__objclass__", None) is np.ndarray:
        return f.__name__ in answers.METHODS
    return f in FUNCTIONS or f in (operator.getitem, answers._truth, answers._whole)


def _got(x: Written, made: Graph, arrays: Sequence[Any]) -> Any:
    if not isinstance(x, dict):
        return x
    [(kind, of)] = x.items()
    if kind in ("tuple", "list"):
        parts = [_got(part, made, arrays) for part in of]
        return tuple(parts) if kind == "tuple" else parts
    simple: dict[str, Any] = {
        "float": lambda: float.fromhex(of),
        "symbol": lambda: Symbol(made, of),
        "place": lambda: Place(of),
        "shape": lambda: SHAPE,
        "dict": lambda: {key: _got(part, made, arrays) for key, part in of},
        "slice": lambda: slice(*(_got(part, made, arrays) for part in of)),
        "ellipsis": lambda: Ellipsis,
        "dtype": lambda: np.dtype(of),
        "number": lambda: _got(of, made, arrays)[()],
        "array": lambda: arrays[of],
        "function": lambda: _named(of),
    }
    return simple[kind]()


# --- structures of arguments --------------------------------------------------------------------------------------


def written_structure(structure: Any) -> Written:
    """A structure as lists, tuples and dicts have it; others become these."""
    for name, own in STRUCTURES.items():
        if structure is own:
            return name
    kind, parts = structure
    if isinstance(parts, dict):
        return ["dict", [[key, written_structure(part)] for key, part in parts.items()]]
    return ["tuple" if issubclass(kind, tuple) else "list", [written_structure(part) for part in parts]]


def read_structure(about: Written) -> Any:
    """What `written_structure` wrote."""
    if type(about) is str:
        return STRUCTURES[about]
    kind, parts = about
    if kind == "dict":
        return dict, {key: read_structure(part) for key, part in parts}
    return {"tuple": tuple, "list": list}[kind], [read_structure(part) for part in parts]
