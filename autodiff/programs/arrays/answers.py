"""While a function of Tensors is recorded: what leaves the graph by data is asked again at every replay, or refused.

Glossary: an *answer* is what NumPy says by the numbers of Tensors: a comparison, an argmax, where there are nans. While
a function is recorded it is an `Answer`, which records what is done with it: as the condition of np.where, as an index,
as an operand. Where Python needs a number or a truth of it, that becomes a *guard*: a replay must come to the same one,
or else the function is recorded again. The numbers of Tensors themselves (item(), .data) are refused: a replay would go
on with old ones.
"""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any, NoReturn

import numpy as np

from autodiff import array_functions, operations, tensor, trees
from autodiff.custom import Custom
from autodiff.programs.arrays.graph import SHAPE, Place, index_by, question, where_by
from autodiff.programs.guards import OWN, ReplayError
from autodiff.tensor import Tensor, recorded

RAW, REPR = Tensor.__dict__["data"], Tensor.__repr__
raw: Callable[[Tensor], Any] = RAW.__get__

# By the shapes and types of arrays alone: no numbers are looked at
SHAPE_ONLY = frozenset((
    np.shape, np.ndim, np.size, np.isrealobj, np.iscomplexobj, np.result_type, np.can_cast, np.zeros_like, np.ones_like,
    np.empty_like, np.common_type, np.diag_indices_from, np.tril_indices_from, np.triu_indices_from, np.einsum_path,
))  # fmt: skip


def _truth(x: Any) -> Any:
    return np.bool_(bool(x))


def _whole(x: Any) -> Any:
    return np.int64(int(x))


# Their answers have one shape for all numbers; that of others (nonzero, unique, ...) is looked at in every replay. Of
# several nodes, one may say what shape the others get; but not of these:
SEVERAL = frozenset((
    np.isclose, np.allclose, np.array_equal, np.searchsorted, np.digitize, np.isin, np.take_along_axis, np.concatenate,
    np.stack,
))  # fmt: skip
ONE_SHAPE = frozenset((
    np.argmax, np.argmin, np.argsort, np.any, np.all, np.count_nonzero, np.lexsort, np.argpartition, np.isposinf,
    np.isneginf, np.nanargmax, np.nanargmin, np.astype, np.sum, np.mean, np.cumsum, np.max, np.min, _truth, _whole,
    np.ndarray.astype, np.ndarray.sum, np.ndarray.mean, np.ndarray.any, np.ndarray.all, np.ndarray.argmax,
    np.ndarray.argmin, np.ndarray.argsort, np.ndarray.reshape, np.ndarray.transpose, np.ndarray.max, np.ndarray.min,
    np.ndarray.copy, np.broadcast_to, np.expand_dims, np.squeeze, np.reshape, np.transpose,
))  # fmt: skip


def _codes(*functions: Any) -> frozenset[CodeType]:
    """The code of these functions, and of what they contain."""
    plain: list[Any] = [f.fget if isinstance(f, property) else f for f in functions]
    pending: list[CodeType] = [f.__code__ for f in plain]
    for code in pending:
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(pending)


# What may read the numbers: it hands them on to no one but the nodes that it makes, or reads shapes and strides only
MAKES_NODES = _codes(
    Tensor.shape, Tensor.ndim, Tensor.size, Tensor.dtype, Tensor.__len__, Tensor.__iter__,
    tensor.elementwise, tensor.apply, tensor.matmul, tensor.recorded, tensor._chained, tensor._in_place,
    array_functions._full_like, array_functions._reduce, Custom.__call__,
)  # fmt: skip
_DATA = array_functions._data.__code__
SWEEPS = _codes(Tensor.pull, Tensor._pull_through, Tensor.push)  # the same, where they record


class Recorder:
    """What watches over the Tensors while a function is recorded."""

    def __init__(self) -> None:
        self.guards: list[tuple[Tensor, Any]] = []
        self.inputs: dict[Tensor, None] = {}
        self.since = Tensor(0.0).number
        self.thread = threading.get_ident()
        self.failed = False  # whether an operation raised, as it may for some numbers only
        self._depends: dict[Tensor, bool] = {}
        self._errors = np.geterr()
        self.errors: dict[Tensor, dict[str, str]] = {}  # what np.errstate around an operation asked for in f

    def leaf(self, array: Any, name: str) -> Tensor:
        """A node for an argument; of integers and bools, too."""
        node = recorded(array, None, (), (), tensor.NONE)  # type: ignore[arg-type]
        node.name = name
        self.inputs[node] = None
        return node

    def failure(self) -> None:
        """An operation raised."""
        self.failed = self.failed or self.thread == threading.get_ident()

    def made(self, node: Tensor) -> None:
        """A node has its array now."""
        now: Any = np.geterr()
        if now != self._errors and self.thread == threading.get_ident():
            self.errors[node] = {kind: wanted for kind, wanted in now.items() if wanted != self._errors[kind]}  # type: ignore[literal-required]

    # --- what depends on the inputs ---

    def depends(self, node: Tensor) -> bool:
        """Whether a node has other numbers at another call; what f makes itself of constants is taken as it is."""
        known = self._depends
        pending = [node]
        while pending:
            top = pending[-1]
            if top in known:
                pending.pop()
            elif top in self.inputs or top.number < self.since:
                known[pending.pop()] = True
            else:
                unknown = [parent for parent in top.parents if parent not in known]
                pending += unknown
                if not unknown:
                    known[pending.pop()] = any(known[parent] for parent in top.parents)
        return known[node]

    def read(self, node: Tensor) -> Any:
        """node.data, asked for by the caller's caller: refused where a replay would go on with old numbers."""
        if threading.get_ident() != self.thread:
            return raw(node)
        frame = sys._getframe(2)
        code = frame.f_code
        if code is _DATA and frame.f_back is not None:  # which may be asked for the strides, too: these may change
            code = frame.f_back.f_code
        if code in MAKES_NODES or (code in SWEEPS and frame.f_locals.get("recording")):
            return raw(node)
        if not self.depends(node):
            return raw(node)
        refuse("data", node)

    # --- answers ---

    def asked(self, function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """function(*args, **options) by data, as an Answer; as it is where it cannot change."""
        if getattr(function, "__name__", "") == "__call__" and isinstance(function.__self__, np.ufunc):
            function = function.__self__
        if self.thread != threading.get_ident():
            return function(*_with_numbers(tuple(args)), **_with_numbers(dict(options)))
        nodes: list[Tensor] = []
        args = _with_whole_slices(tuple(args))
        template = self._template(tuple(args), nodes), self._template(dict(options), nodes)
        self.failed, before = True, self.failed
        result = function(*_with_numbers(tuple(args)), **_with_numbers(dict(options)))
        self.failed = before
        if function in SHAPE_ONLY or not nodes:
            return result
        if isinstance(result, tuple):
            parts = [self._answer(function, template, nodes, part, i) for i, part in enumerate(result)]
            return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
        return self._answer(function, template, nodes, result, None)

    def _template(self, tree: Any, nodes: list[Tensor]) -> Any:
        if type(tree) is Tensor or type(tree) is Answer:
            node: Any = tree if type(tree) is Tensor else tree.node
            nodes.append(node)
            return Place(len(nodes) - 1)
        if type(tree) in (tuple, list):
            return type(tree)([self._template(part, nodes) for part in tree])
        if type(tree) is dict:
            return {key: self._template(part, nodes) for key, part in tree.items()}
        return tree.copy() if isinstance(tree, np.ndarray) and tree.flags.writeable else tree

    def _answer(self, function: Any, template: Any, nodes: list[Tensor], result: Any, item: int | None) -> Any:
        data = np.asarray(result)
        if data.dtype.kind not in "fiub":
            name = getattr(function, "__name__", function)
            refuse(f"np.{name}", nodes[0])
        parameters = {"function": function, "args": template[0], "options": template[1], "item": item}
        operands = tuple(nodes)
        node = recorded(data, question, operands, operands, parameters)
        if not self._has_its_shape(function, template[0], nodes):
            self.guards.append((node, SHAPE))
        return Answer(self, node)

    @staticmethod
    def _has_its_shape(function: Any, args: Any, nodes: Sequence[Tensor]) -> bool:
        """Whether the answer has one shape whatever the numbers are."""
        if function is operator.getitem:
            parts = args[1] if type(args[1]) is tuple else (args[1],)
            return not any(type(part) is Place and raw(nodes[part.number]).dtype == bool for part in parts)
        if function is np.where:
            return len(args) == 3
        return isinstance(function, np.ufunc) or function in SEVERAL or (function in ONE_SHAPE and len(nodes) == 1)

    def guard(self, node: Tensor) -> Any:
        """The numbers of an answer, which a replay must come to again."""
        expected = np.array(raw(node))
        self.guards.append((node, expected.item() if expected.ndim == 0 else expected))
        return expected

    def holds(self, key: Any) -> bool:
        """Whether an index has an answer in it."""
        if type(key) in (tuple, list):
            return any(map(self.holds, key))
        if type(key) is slice:
            return any(type(part) is Answer for part in (key.start, key.stop, key.step))
        return type(key) is Answer

    def stopped(self, node: Tensor) -> Tensor:
        """The numbers of a node, as a node without a derivative."""
        answer = self.asked(np.positive, (node,), {})
        return answer.node if type(answer) is Answer else Tensor(answer)

    def picked(self, a: Tensor, key: Any) -> Tensor:
        """a[key], where answers are in the key."""
        nodes: list[Tensor] = []
        if type(key) is list:
            key = np.stack(key) if all(type(part) is Answer for part in key) else np.asarray(key)
            return a[key]
        key = _with_whole_slices(key)
        template = self._template(key, nodes)
        if not nodes:
            return a[key]
        self.failed, before = True, self.failed
        data = np.asarray(raw(a)[_with_numbers(key)])
        self.failed = before
        operands = (a, *nodes)
        made = recorded(data, index_by, operands, operands, {"key": template, "shape": data.shape})
        if any(raw(node).dtype == bool for node in nodes):
            self.guards.append((made, SHAPE))  # len() of it may be all that is used
        return made

    def chosen(self, condition: Any, a: Any, b: Any) -> Any:
        """np.where(condition, a, b), where the condition is an answer."""
        given = []
        for x in (a, b):
            if type(x) is Answer:
                x = x.as_node(where_by)
            elif type(x) is not Tensor:
                x = float(x) if type(x) in (bool, int) else array_functions.array_like(x)
                x = x if type(x) is Tensor else tensor.kept(tensor.checked_constant(x, operations.where))
            given.append(x)
        operands = (condition.node, *given)
        data = np.where(raw(condition.node), *(raw(x) if type(x) is Tensor else x for x in given))
        return recorded(data, where_by, operands, tuple(x for x in operands if type(x) is Tensor), {})


def _with_whole_slices(key: Any) -> Any:
    """An index whose slices have plain bounds: an answer among these becomes a guard."""
    if type(key) is tuple:
        return tuple(map(_with_whole_slices, key))
    if type(key) is slice:
        return slice(*(operator.index(x) if type(x) is Answer else x for x in (key.start, key.stop, key.step)))
    return key


def _with_numbers(tree: Any) -> Any:
    if type(tree) is Tensor:
        return raw(tree)
    if type(tree) is Answer:
        return raw(tree.node)
    if type(tree) in (tuple, list):
        return type(tree)([_with_numbers(part) for part in tree])
    if type(tree) is dict:
        return {key: _with_numbers(part) for key, part in tree.items()}
    return tree


def refuse(kind: str, node: Any) -> NoReturn:
    """ReplayError, saying where."""
    name = f" of {node.name}" if type(node) is Tensor and node.name else ""
    frame = sys._getframe(1)
    function = None
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (*OWN, "copy", "copyreg"):
        function, frame = frame.f_code.co_name, frame.f_back
    raise ReplayError(
        f"{kind}{name} takes numbers out of the graph while it is recorded ({frame.f_code.co_filename}, line "
        f"{frame.f_lineno}{f', in {function}' if function else ''}): a replay would go on with these old numbers. "
        "Compute with the node itself, compare it (a comparison is made again at every replay, and so are np.where, "
        "argmax, argsort and the like), or take the numbers outside of the function that is replayed"
    )


def _described(node: Tensor) -> str:
    """repr of a node while a function is recorded: without its numbers, which somebody might read off."""
    if tensor.watcher is None or tensor.watcher.thread != threading.get_ident():
        return REPR(node)
    name = f", name={node.name!r}" if node.name else ""
    return f"Tensor(of shape {raw(node).shape}{name})"


class Answer:
    """An array that NumPy answers by data, while a function is recorded; see the module."""

    __slots__ = ("__weakref__", "node", "recorder")

    def __init__(self, recorder: Recorder, node: Tensor) -> None:
        self.recorder, self.node = recorder, node

    def as_node(self, op: Any) -> Tensor:
        """The answer as an operand beside Tensors; as tensor.checked_constant has arrays."""
        kind = self.dtype.kind
        if kind == "f" or op in tensor.KEEP_INTEGERS:
            return self.node
        return self.astype(np.result_type(self.dtype, np.float16)).node  # type: ignore[no-any-return]

    # --- what is known without its numbers ---

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return raw(self.node).shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        """As of an array."""
        return raw(self.node).dtype

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """As of an array."""
        return int(raw(self.node).size)

    @property
    def T(self) -> Any:
        """As of an array."""
        return self.transpose()

    def __len__(self) -> int:
        return len(raw(self.node))

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("an answer of no dimensions cannot be iterated over")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        return self._asked(operator.getitem, self, key)

    def __getattr__(self, name: str) -> Any:
        method = getattr(np.ndarray, name, None)
        if name in METHODS and method is not None:
            return lambda *args, **options: self._asked(method, self, *args, **options)
        if method is not None and not name.startswith("__"):
            refuse(f"{name} of an answer", self.node)
        raise AttributeError(f"an answer by data has no attribute {name!r}")

    def _asked(self, function: Any, *args: Any, **options: Any) -> Any:
        if options.get("out") is not None:
            refuse("out=", self.node)
        return self.recorder.asked(function, args, options)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if options.get("out") is not None or method == "at":
            self.__setitem__(None, None)
        if any(type(x) is Tensor for x in inputs) and ufunc not in tensor.BY_DATA:
            return tensor.ufunc_on_tensors(ufunc, method, inputs, options)
        return self._asked(getattr(ufunc, method), *inputs, **options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function in tensor.IN_PLACE:
            self.__setitem__(None, None)
        has_nodes = any(type(x) is Tensor for x in trees.leaves([args, options]))
        if function is np.where and len(args) == 3 and type(args[0]) is Answer and has_nodes:
            return self.recorder.chosen(*args)
        if has_nodes and function not in SHAPE_ONLY:
            ours = tensor.FUNCTIONS.get(function)
            if ours is None:
                raise TypeError(
                    f"{tensor.full_name(function)} cannot be applied to array nodes: there is no rule for it"
                )
            return ours(*args, **options)
        return self._asked(function, *args, **options)

    # --- what needs its numbers: guards ---

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "the truth value of an array with more than one element is ambiguous; ask np.any(...) or np.all(...)"
            )
        return bool(self._guarded(_truth))

    def __int__(self) -> int:
        return int(self._guarded(_whole))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.ndim:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self._guarded(_whole))

    def __float__(self) -> float:
        if self.dtype.kind == "f":
            refuse("float", self.node)
        return float(self._guarded(_whole))

    def _guarded(self, function: Any) -> Any:
        if function is _truth and self.dtype == bool and not self.ndim:
            return self.recorder.guard(self.node).item()
        answer = self._asked(function, self)
        return self.recorder.guard(answer.node).item() if type(answer) is Answer else answer

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.dtype.kind == "f":
            refuse("an array of numbers", self.node)
        return self.recorder.guard(self.node).astype(self.dtype if dtype is None else dtype)

    def item(self, *index: Any) -> Any:
        """One element as a number of Python's: a guard."""
        if self.dtype.kind == "f":
            refuse("item", self.node)
        return self.__array__().item(*index)

    def tolist(self) -> Any:
        """The elements in nested lists: a guard."""
        if self.dtype.kind == "f":
            refuse("tolist", self.node)
        return self.__array__().tolist()

    def __hash__(self) -> int:
        return hash(self.item())

    def __contains__(self, x: Any) -> bool:
        return bool((self == x).any())

    # --- what would change it, or take it away ---

    def __setitem__(self, key: Any, new: Any) -> NoReturn:
        raise ReplayError(
            "while a function is recorded, what comparisons and the like answer cannot be changed in place; make a new "
            "array with np.where, np.concatenate or the operators: mask = mask & other"
        )

    def __reduce__(self) -> NoReturn:
        refuse("a copy of an answer", self.node)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        refuse("a copy of an answer", self.node)

    def __repr__(self) -> str:
        return f"<an answer by data, {self.dtype} of shape {self.shape}, while a function is recorded>"


METHODS = frozenset((
    "all", "any", "argmax", "argmin", "argsort", "argpartition", "astype", "choose", "clip", "compress", "conj", "copy",
    "cumprod", "cumsum", "diagonal", "dot", "flatten", "max", "mean", "min", "nonzero", "prod", "ravel", "repeat",
    "reshape", "round", "searchsorted", "squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var",
))  # fmt: skip


def _operators() -> None:
    binary = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
        "mod": np.remainder, "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
        "lshift": np.left_shift, "rshift": np.right_shift, "matmul": np.matmul, "divmod": np.divmod,
    }  # fmt: skip
    comparisons = {
        "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
        "ne": np.not_equal,
    }  # fmt: skip
    unary = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}

    def method(ufunc: Any, turned: bool = False) -> Any:
        def two(self: Answer, other: Any) -> Any:
            if other is None or isinstance(other, (str, bytes)):
                return NotImplemented
            return ufunc(other, self) if turned else ufunc(self, other)

        return two

    for name, ufunc in {**binary, **comparisons}.items():
        setattr(Answer, f"__{name}__", method(ufunc))
    for name, ufunc in binary.items():
        setattr(Answer, f"__r{name}__", method(ufunc, True))
        if name != "divmod":
            setattr(Answer, f"__i{name}__", lambda self, other: self.__setitem__(None, other))
    for name, one in unary.items():
        setattr(Answer, f"__{name}__", lambda self, one=one: one(self))


_operators()


class _Watched:
    """The slot `data` of Tensors, while a function is recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __get__(self, node: Any, kind: Any = None) -> Any:
        return self if node is None else self.recorder.read(node)

    def __set__(self, node: Any, array: Any) -> None:
        if threading.get_ident() == self.recorder.thread and sys._getframe(1).f_code not in WRITERS:
            refuse("writing data", node)
        RAW.__set__(node, array)
        self.recorder.made(node)


WRITERS = _codes(Tensor.__init__, tensor.recorded)


@contextmanager
def watched() -> Iterator[Recorder]:
    """Inside, answers by data are recorded, and numbers that leave the graph of Tensors raise ReplayError."""
    if tensor.watcher is not None:
        raise ReplayError(
            "a function is being recorded already: inside of it, a replayed function takes nodes, and for plain "
            "arrays it must have been recorded before"
        )
    recorder = Recorder()
    tensor.watcher = recorder
    setattr(Tensor, "data", _Watched(recorder))  # noqa: B010 - a slot, to a type checker
    setattr(Tensor, "__repr__", _described)  # noqa: B010
    try:
        yield recorder
    finally:
        tensor.watcher = None
        setattr(Tensor, "__repr__", REPR)  # noqa: B010
        setattr(Tensor, "data", RAW)  # noqa: B010
