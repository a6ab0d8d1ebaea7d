"""ArrayProgram: a recorded graph of Tensors that runs on other arrays, with its derivatives, in memory of its own.

Values and gradients are those of the graph itself: the same functions of NumPy run in the same order, so the same
warnings come, and numbers are the same but for sums over arrays that lie differently in memory (a few ulps). A call
allocates nothing but the gradients that it hands out; except for functions of NumPy that have no out=: indices that are
arrays, einsum, linear algebra and its rules, the rules of prod and cumprod, rows without a ufunc (erf, gelu, sinc) and
rules of the user's own.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodiff import trees
from autodiff.primitives import Primitive
from autodiff.programs.arrays import files
from autodiff.programs.arrays.adjoints import forward, reverse
from autodiff.programs.arrays.buffers import Executable
from autodiff.programs.arrays.graph import SHAPE, Entry, Graph, Symbol, placed, question
from autodiff.programs.arrays.lowering import Statements
from autodiff.programs.arrays.recording import Recorded, graph_of
from autodiff.programs.guards import ReplayError
from autodiff.tensor import Tensor
from autodiff.value import Value

VIEWS = frozenset(("reshape", "transpose", "broadcast_to", "index"))  # which compute no numbers


class ArrayInputs:
    """How the values of a call become arrays, and gradients become what the caller passed."""

    __slots__ = ("dtypes", "many", "shapes", "structure")

    def __init__(self, structure: Any, likes: Sequence[Any], many: bool) -> None:
        self.structure, self.many = structure, many
        self.shapes, self.dtypes = [x.shape for x in likes], [x.dtype for x in likes]

    @property
    def count(self) -> int:
        """How many values a call takes."""
        return len(self.structure[1]) if self.many else 1

    def arrays(self, values: Sequence[Any], what: str = "value") -> list[Any]:
        """The arrays of a call, in the precision that was recorded."""
        if len(values) != self.count:
            raise TypeError(f"the program takes {self.count} {what}s, got {len(values)}")
        if self.many:
            tree: Any = self.structure[0](values) if self.structure[0] in (list, tuple) else list(values)
        else:
            [tree] = values
        arrays = []
        matched = trees.matched(tree, self.structure, f"the {what}", "inputs")
        for (x, place), shape, dtype in zip(matched, self.shapes, self.dtypes, strict=True):
            if type(x) is not np.ndarray or x.dtype != dtype:
                x = self._array(x, place, what, dtype)
            if x.shape != shape:
                raise ValueError(f"the {what} of {place} has the shape {x.shape}, and its input {shape}")
            arrays.append(x)
        return arrays

    @staticmethod
    def _array(x: Any, place: str, what: str, dtype: Any) -> Any:
        if isinstance(x, (Tensor, Value)) or np.asarray(x).dtype.kind not in "fiub":
            raise TypeError(
                f"the {what} of {place} is {type(x).__name__} {x!r:.40}; a program takes plain numbers and arrays of "
                "them: pass .data"
            )
        return np.asarray(x, dtype)

    def written(self) -> Any:
        """For a file: lists, strings and numbers."""
        shapes, dtypes = [list(shape) for shape in self.shapes], [dtype.str for dtype in self.dtypes]
        return [files.written_structure(self.structure), shapes, dtypes, self.many]

    @staticmethod
    def read(about: Any) -> ArrayInputs:
        """What `written` wrote."""
        structure, shapes, dtypes, many = about
        likes = [np.broadcast_to(np.zeros((), dtype), shape) for shape, dtype in zip(shapes, dtypes, strict=True)]
        return ArrayInputs(files.read_structure(structure), likes, many)

    def split(self, arrays: Sequence[Any]) -> Any:
        """Gradients in the structure of the inputs."""
        return trees.unflatten(self.structure, arrays)


class ArrayProgram:
    """A function of arrays, recorded: program(*values), and its derivatives.

    >>> from autodiff import Tensor, record
    >>> W, X = Tensor(np.ones((2, 1)), name="W"), np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> program = record(np.sum(np.tanh(X @ W)), [W])
    >>> program(np.zeros((2, 1)))
    0.0
    >>> program.value_and_grad(np.zeros((2, 1)))
    (0.0, [array([[4.],
           [6.]])])
    >>> print(program)
    program of W 2×1: 3 operations on arrays
      v0 2×1 = matmul(array 2×2, W)
      v1 2×1 = tanh(v0)
      v2 = sum(v1)
      return v2
    """

    def __init__(
        self,
        recorded: Recorded,
        inputs: ArrayInputs,
        wrt: Sequence[int] | None = None,
        given: ArrayInputs | None = None,
    ) -> None:
        self.recorded, self.inputs, self.given = recorded, inputs, given
        self.graph: Graph = recorded.graph
        self._length = len(self.graph.entries) - len(recorded.inputs)
        self.wrt = range(len(recorded.inputs)) if wrt is None else wrt  # the inputs to differentiate by
        self._idle: dict[str, list[Executable]] = {}
        self._derived: dict[str, list[Any]] = {"value": list(recorded.outputs)}
        self._tangents: list[Symbol] = []
        self._lock = threading.RLock()

    # --- what it computes ---

    def __call__(self, *values: Any) -> Any:
        """The output for these inputs: a float, or an array of the shape that was recorded."""
        return self._checked(self.run("value", self._arrays(values)))[0]

    def value_and_grad(self, *values: Any, out: Any = None) -> tuple[float, Any]:
        """(output, its gradient): the gradient has the structure of the inputs, as a list where those are many.

        out: arrays in the same structure, into which the gradient is written, and which are returned; without it the
        gradient is in fresh arrays. None in it stands for a fresh one.
        """
        found = self._checked(self.run("gradient", self._arrays(values), self._targets(out)))
        return found[0], self.inputs.split(found[1:])

    def grad(self, *values: Any, out: Any = None) -> Any:
        """The gradient alone."""
        return self.value_and_grad(*values, out=out)[1]

    def jvp(self, values: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        """(output, its rate of change) as the inputs, sequences as for a call, move along the tangents."""
        arrays = [*self._arrays(values), *self.inputs.arrays(tangents, "tangent")]
        value, tangent = self._checked(self.run("jvp", arrays))
        return value, tangent

    def hvp(self, values: Sequence[Any], tangents: Sequence[Any]) -> Any:
        """The Hessian times the tangents, in the structure of the inputs."""
        arrays = [*self._arrays(values), *self.inputs.arrays(tangents, "tangent")]
        return self.inputs.split(self._checked(self.run("hvp", arrays)))

    def _arrays(self, values: Sequence[Any]) -> list[Any]:
        if self.given is None:
            return self.inputs.arrays(values)
        count = self.inputs.count
        if len(values) != count + self.given.count:
            raise TypeError(f"the program takes {count} values and {self.given.count} of data, got {len(values)}")
        return [*self.inputs.arrays(values[:count]), *self.given.arrays(values[count:])]

    def _targets(self, out: Any) -> list[Any] | None:
        if out is None:
            return None
        targets = []
        matched = trees.matched(out, self.inputs.structure, "out", "out")
        for (x, place), shape, dtype in zip(matched, self.inputs.shapes, self.inputs.dtypes, strict=True):
            if x is not None and (type(x) is not np.ndarray or x.shape != shape or x.dtype != dtype):
                raise TypeError(
                    f"out takes arrays that fit the inputs: {place} is to be of {dtype} {shape}, got {x!r:.60}"
                )
            targets.append(x)
        return targets

    @staticmethod
    def _checked(found: Any) -> Any:
        if found is None:
            raise ReplayError(
                "a comparison comes out differently for these values than when the program was recorded: call the "
                "replayed function, which records again"
            )
        return found

    def run(self, name: str, arrays: Sequence[Any], targets: Sequence[Any] | None = None) -> Any:
        """The outputs of that name; None where a guard does not hold, and then without a warning.

        targets: arrays for the gradients, or None; they are written when all else is done, and may be the arguments.
        """
        if targets is not None:
            name = "gradient into"
        idle = self._idle.setdefault(name, [])
        try:
            executable = idle.pop()  # threads do not share memory
        except IndexError:
            executable = self._built(name)
        if targets is None:
            targets = executable.nowhere
        try:
            if not self.recorded.guards:
                return executable.run(arrays, targets)
            return self._guarded(executable, arrays, targets)
        finally:
            idle.append(executable)

    @staticmethod
    def _guarded(executable: Executable, arrays: Sequence[Any], targets: Sequence[Any]) -> Any:
        """What comes before a guard that does not hold is nobody's business: its warnings are given afterwards."""
        flags: list[str] = []
        before = np.geterr()
        silent: dict[str, Any] = {kind: "ignore" if wanted == "ignore" else "call" for kind, wanted in before.items()}
        with np.errstate(call=lambda kind, flag: flags.append(kind), **silent):
            found = executable.run(arrays, targets)
        if found is None or not flags:
            return found
        return executable.run(arrays, targets)

    def _built(self, name: str) -> Executable:
        with self._lock, np.errstate(all="ignore"):
            outputs = self._outputs(name)
            values = {"value": len(outputs), "jvp": len(outputs), "hvp": 0}.get(name, 1)
            inputs = len(self.recorded.inputs) + (len(self._tangents) if name in ("jvp", "hvp") else 0)
            statements = Statements(self.graph, outputs, self.recorded.guards)
            return Executable(statements, values, inputs, last=name == "gradient into")

    def _outputs(self, name: str) -> list[Any]:
        """The Symbols of the value, the gradient, ...: what is not there yet is derived."""
        name = name.removesuffix(" into")
        found = self._derived.get(name)
        if found is None:
            with self._lock, np.errstate(all="ignore"):
                found = self._derived[name] = self._derive(name)
        return found

    def _derive(self, name: str) -> list[Any]:
        recorded = self.recorded
        [output] = recorded.outputs
        inputs = [recorded.inputs[i] for i in self.wrt]
        if name == "gradient":
            if np.size(output) != 1:
                raise ValueError(f"the gradient of an output of shape {np.shape(output)}: record one number, np.sum")
            found = reverse(self.graph, output, inputs) if type(output) is Symbol else [None] * len(inputs)
            return [output, *(_filled(g, x) for g, x in zip(found, inputs, strict=True))]
        of = [output] if name == "jvp" else self._outputs("gradient")[1:]
        if not self._tangents:
            for i, x in enumerate(inputs):
                self._tangents.append(self.graph.input(len(recorded.inputs) + i, x.shape, x.dtype, None))
        moving = {x.number: t for x, t in zip(inputs, self._tangents, strict=True)}
        tangents = forward(self.graph, of, moving)
        filled = [_filled(t, y) for t, y in zip(tangents, of, strict=True)]
        return [output, *filled] if name == "jvp" else filled

    # --- what it is ---

    def __len__(self) -> int:
        """The number of nodes that were recorded."""
        return self._length

    @property
    def size(self) -> int:
        """The number of operations that compute the value."""
        return sum(1 for _ in self._entries("value"))

    @property
    def cost(self) -> dict[str, int]:
        """{operation: how many numbers it computes} for the value."""
        return dict(self._cost("value"))

    @property
    def gradient_cost(self) -> dict[str, int]:
        """{operation: how many numbers it computes} for value and gradient together."""
        return dict(self._cost("gradient"))

    def memory(self, name: str = "gradient") -> int:
        """The bytes of memory that a call of the value or the gradient uses again and again."""
        idle = self._idle.setdefault(name, [])
        if not idle:
            idle.append(self._built(name))
        return idle[0].bytes

    @property
    def source(self) -> str:
        """The generated Python of value and gradient."""
        return self._built("gradient").source

    def _entries(self, name: str) -> Any:
        asked = [symbol for symbol, _ in self.recorded.guards]
        numbers = _ancestors(self.graph, [*self._outputs(name), *asked])
        return ((i, self.graph.entries[i]) for i in numbers if self.graph.entries[i].op is not None)

    def _cost(self, name: str) -> Counter[str]:
        cost: Counter[str] = Counter()
        for _, entry in self._entries(name):
            called, count = _called(entry), int(np.prod(entry.shape))
            if called == "matmul":
                count *= 2 * int(np.shape(entry.args[0])[-1])
            elif called in ("sum", "max", "min", "prod"):
                count = int(np.size(entry.args[0]))
            if called not in VIEWS:
                cost[called] += count
        return cost

    # --- files ---

    def save(self, path: Any) -> Path:
        """Writes the program to a file of NumPy's format npz, without pickle, and returns its path.

        TypeError for operations and functions that are not known by a name: rules of the user's own.
        """
        file = Path(path)
        if file.suffix != ".npz":
            file = file.with_name(file.name + ".npz")
        about, arrays = self._written()
        named = {f"array_{i}": array for i, array in enumerate(arrays)}
        np.savez(file, about=np.array(json.dumps(about)), **named)
        return file

    @staticmethod
    def load(path: Any) -> ArrayProgram:
        """The program that `save` wrote.

        KeyError where it uses a row that the table does not have, ValueError where the file holds no program of arrays.
        """
        with np.load(Path(path), allow_pickle=False) as file:
            about = json.loads(str(file["about"])) if "about" in file else {}
            if about.get("arrays") != files.VERSION:
                raise ValueError(f"{path} holds no program of arrays of version {files.VERSION}")
            arrays = [file[f"array_{i}"] for i in range(len(file.files) - 1)]
        return _loaded(about, arrays)

    def _written(self) -> tuple[dict[str, Any], list[Any]]:
        recorded, arrays = files.written(self.recorded, self._length + len(self.recorded.inputs))
        about = {
            "arrays": files.VERSION,
            "recorded": recorded,
            "inputs": self.inputs.written(),
            "data": self.given and self.given.written(),
            "wrt": list(self.wrt),
        }
        return about, arrays

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, self._written()

    # --- as text ---

    def __str__(self) -> str:
        return self.listing()

    def listing(self, name: str = "value") -> str:
        """One line per operation of the value, or of the "gradient", "jvp", "hvp" with it."""
        names = {x.number: self._input_name(i) for i, x in enumerate(self.recorded.inputs)}
        names |= {t.number: f"d{self._input_name(i)}" for i, t in zip(self.wrt, self._tangents, strict=False)}

        def written(x: Any) -> str:
            if type(x) is Symbol:
                return names[x.number]
            if isinstance(x, np.ndarray):
                return f"array {_shape(np.shape(x))}" if np.ndim(x) else repr(x.item())
            if type(x) is tuple:
                return f"({', '.join(map(written, x))})"
            return _text(x)

        guards: dict[int, list[Any]] = {}
        for symbol, expected in self.recorded.guards:
            guards.setdefault(symbol.number, []).append(expected)
        lines: list[str] = []
        count = 0
        for i, entry in self._entries(name):
            given = self.graph.names.get(i)
            names[i] = given if given and given not in names.values() else f"v{count}"
            count += 1
            options = [f"{key}={_text(x)}" for key, x in _shown(entry)]
            shown = entry.args if entry.op is not question else placed(entry.parameters["args"], entry.args)
            arguments = ", ".join([*map(written, shown), *options])
            lines.append(f"  {names[i]}{_suffix(entry.shape)} = {_called(entry)}({arguments})")
            lines += [f"  guard {names[i]}: {_expected(x, entry)}" for x in guards.get(i, ())]
        inputs = ", ".join(f"{self._input_name(i)}{_suffix(x.shape)}" for i, x in enumerate(self.recorded.inputs))
        outputs = ", ".join(map(written, self._outputs(name)))
        head = f"program of {inputs}: {count} operations on arrays"
        return "\n".join([head, *lines, f"  return {outputs}"])

    def _input_name(self, i: int) -> str:
        return self.graph.names.get(self.recorded.inputs[i].number) or f"x{i}"

    def __repr__(self) -> str:
        return f"ArrayProgram({self._length} nodes, {len(self.recorded.inputs)} inputs)"


def _loaded(about: Any, arrays: Sequence[Any]) -> ArrayProgram:
    inputs = ArrayInputs.read(about["inputs"])
    given = about["data"] and ArrayInputs.read(about["data"])
    return ArrayProgram(files.read(about["recorded"], arrays), inputs, about["wrt"], given)


def _filled(found: Any, like: Any) -> Any:
    """A derivative; zeros where there is none."""
    if found is None:
        return np.zeros(np.shape(like), getattr(like, "dtype", float))
    return found


def _ancestors(graph: Graph, outputs: Sequence[Any]) -> list[int]:
    seen: set[int] = set()
    pending = [y.number for y in outputs if type(y) is Symbol]
    while pending:
        i = pending.pop()
        if i not in seen:
            seen.add(i)
            pending += [x.number for x in graph.entries[i].args if type(x) is Symbol]
    return sorted(seen)


def _called(entry: Entry) -> str:
    if entry.op is question:
        return str(getattr(entry.parameters["function"], "__name__", "question")).lstrip("_")
    return str(entry.op.name)


def _shown(entry: Entry) -> list[tuple[str, Any]]:
    if isinstance(entry.op, Primitive) or entry.op is question:
        return []
    hidden = {"keepdims": False, "axis": None}
    return [
        (key, x) for key, x in entry.parameters.items() if key != "shape" and not (key in hidden and x is hidden[key])
    ]


def _text(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"array {_shape(x.shape)}"
    if isinstance(x, slice):
        return (
            ":".join("" if part is None else str(part) for part in (x.start, x.stop, x.step)).removesuffix(":") or ":"
        )
    if type(x) is tuple:
        return "(" + ", ".join(map(_text, x)) + ("," if len(x) == 1 else "") + ")"
    return f"{x!r:.40}"


def _expected(expected: Any, entry: Entry) -> str:
    if expected is SHAPE:
        return f"of shape {_shape(entry.shape)}"
    return f"an array as it was, {_shape(expected.shape)}" if isinstance(expected, np.ndarray) else repr(expected)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _suffix(shape: tuple[int, ...]) -> str:
    return f" {_shape(shape)}" if shape else ""


def record_arrays(output: Tensor, inputs: Any, back_end: str | None = None, data: Any = None) -> ArrayProgram:
    """The graph of a Tensor as a function of Tensors; see `record`.

    The other leaves are constants of the program, and so are the conditions of np.where and the indices that were in
    the graph: a graph does not tell where they came from. `replay` with magnification="array" computes them anew.
    """
    check_back_end(back_end)
    leaves, interface = _inputs(inputs)
    others, given = ([], None) if data is None else _inputs(data)
    if len({*leaves, *others}) < len(leaves) + len(others):
        raise ValueError("record: the same node stands twice among the inputs")
    return ArrayProgram(graph_of([output], [*leaves, *others]), interface, range(len(leaves)), given)


def check_back_end(back_end: str | None) -> None:
    """ValueError, unless it is None: programs of arrays run NumPy's functions."""
    if back_end is not None:
        raise ValueError(f"a program of Tensors runs in NumPy, and takes no back end; got {back_end!r}")


def _inputs(inputs: Any) -> tuple[list[Tensor], ArrayInputs]:
    leaves, structure = trees.flatten(inputs)
    for node in leaves:
        if type(node) is not Tensor:
            raise TypeError(f"record takes Tensors as inputs beside a Tensor, got {type(node).__name__} {node!r:.40}")
    return leaves, ArrayInputs(structure, leaves, isinstance(inputs, (list, tuple)))
