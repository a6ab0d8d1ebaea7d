"""Program: a recorded scalar graph that runs on other numbers, with its derivatives.

Values and gradients are those of the graph itself. Where lanes run as arrays, elementary functions may differ by the
last digits (NumPy's exp is not the C library's) and sums are taken in another order, so that the error of a sum is
relative to the sum of its terms' magnitudes, and the sign of a sum that is zero may differ. inf and nan come as on the
nodes, with a warning where they warn, if not word for word: an answer that is not finite is worked out once more, node
by node, as shared terms and other orders of a sum may make nan of an inf.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodiff import trees, updates
from autodiff.graph import checked_value
from autodiff.primitives import TABLE
from autodiff.programs import adjoints, descent, exports, machine
from autodiff.programs.guards import ReplayError
from autodiff.programs.instructions import LANES, Builder
from autodiff.programs.interpreter import Interpreted
from autodiff.programs.listing import listing
from autodiff.programs.machine.lanes import Lanes
from autodiff.programs.machine.scalars import Scalars
from autodiff.programs.raising import DIRECTION, Raised, Raising, raised_one_by_one
from autodiff.programs.recording import Tape, taped
from autodiff.programs.source import Compiled
from autodiff.tensor import Tensor
from autodiff.value import Value

BACK_ENDS = ("python", "numpy", "numba", "tape")
VERSION = 1  # of the files
FLOAT = np.dtype(float)
COMPILED = 1000  # numbers in a call, from which on it pays to load the compiled interpreters
FEW, WIDE = 1000, 25  # of so few nodes, lanes pay if an instruction on arrays computes so many numbers on average
LONG = 10_000  # nodes, from which on it would take seconds to compile what does not repeat


class Inputs:
    """How the values of a call become one column of numbers, and a gradient becomes what the caller passed."""

    __slots__ = ("many", "offsets", "one_array", "only_numbers", "shapes", "size", "structure")

    def __init__(self, structure: Any, shapes: Sequence[Any], many: bool) -> None:
        self.structure, self.shapes, self.many = structure, [tuple(shape) for shape in shapes], many
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
        self.size = self.offsets[-1]
        self.only_numbers = (
            many and all(shape == () for shape in self.shapes) and structure[1] == [trees.LEAF] * len(sizes)
        )
        alone = structure is trees.LEAF or (many and structure in ((list, [trees.LEAF]), (tuple, [trees.LEAF])))
        self.one_array = self.shapes[0] if alone and self.shapes[0] != () else None  # its shape

    @property
    def count(self) -> int:
        """How many values a call takes for them."""
        return len(self.structure[1]) if self.many else 1

    def column(self, values: Sequence[Any]) -> Any:
        """The numbers of all values, (p, 1)."""
        if self.one_array is not None and len(values) == 1 and type(values[0]) is np.ndarray:
            [array] = values
            if array.shape == self.one_array and array.dtype == FLOAT:
                return array.copy().reshape(-1, 1)
        if self.only_numbers and len(values) == self.size:
            column = np.array(values)
            if column.dtype == float and column.shape == (self.size,):
                return column.reshape(-1, 1)
        if self.many:
            if len(values) != self.count:
                raise TypeError(f"the program takes {self.count} values, got {len(values)}")
            tree: Any = self.structure[0](values) if self.structure[0] in (list, tuple) else list(values)
        elif len(values) == 1:
            tree = values[0]
        else:
            raise TypeError(f"the program takes 1 value, got {len(values)}")
        matched = trees.matched(tree, self.structure, "the value", "inputs")
        column = np.empty((self.size, 1))
        for (x, place), shape, begin, end in zip(matched, self.shapes, self.offsets, self.offsets[1:], strict=False):
            array = np.asarray(x) if not isinstance(x, Value) else None
            if array is None or array.dtype.kind not in "fiub":
                raise TypeError(
                    f"the value of {place} is {type(x).__name__} {x!r:.40}; a program takes plain numbers and arrays "
                    "of them: pass .data"
                )
            if array.shape != shape:
                raise ValueError(f"the value of {place} has the shape {array.shape}, and its input {shape}")
            column[begin:end, 0] = array.ravel()
        return column

    def written(self) -> Any:
        """For a file: lists, strings and numbers."""
        return [_written(self.structure), self.shapes, self.many]

    @staticmethod
    def read(written: Any) -> Inputs:
        """What `written` wrote."""
        return Inputs(_read(written[0]), *written[1:])

    def split(self, column: Any) -> Any:
        """A gradient (p, 1) as what was recorded: floats and arrays; a list of them for a list of inputs."""
        if self.one_array is not None and type(column) is np.ndarray:
            whole = (column + 0.0).reshape(self.one_array)
            return self.structure[0]([whole]) if self.many else whole
        column = np.reshape(column, (-1, 1)) + 0.0  # as on nodes, no gradient is -0.0
        if self.only_numbers:
            return column.ravel().tolist()
        parts = [
            column[begin:end].reshape(shape) if shape else float(column[begin, 0])
            for shape, begin, end in zip(self.shapes, self.offsets, self.offsets[1:], strict=False)
        ]
        return trees.unflatten(self.structure, parts)


class Program:
    """A function of plain numbers, recorded: program(*values), and its derivatives.

    back_end: "numba", interpreters that are compiled once, for lanes and for all else; "numpy", where lanes run as
    arrays, and a long program with hardly any of them as it does by "tape"; "python", generated code for one number
    after the other; "tape", the tape as it stands, slower but at once; or None: "numba" for a long program where numba
    is installed, else "numpy" if at least half of the nodes are lanes of others (of a small program: if it has 25 times
    fewer instructions than nodes), else "python", or "tape" if it is long.

    >>> import autodiff as ad
    >>> x, y = ad.Value(3.0, name="x"), ad.Value(2.0, name="y")
    >>> program = ad.record(x * y + ad.exp(-x), [x, y])
    >>> program(0.0, 5.0), program.value_and_grad(0.0, 5.0)
    (1.0, (1.0, [4.0, 0.0]))
    >>> print(program)
    program of x, y: 4 instructions, python
      v0 = x · y
      v1 = -x
      v2 = exp(v1)
      v3 = v0 + v2
      return v3
    """

    def __init__(
        self,
        tape: Tape,
        inputs: Inputs,
        back_end: str | None = None,
        one_sample: bool = False,
        given: Inputs | None = None,
    ) -> None:
        if back_end is not None and back_end not in BACK_ENDS:
            raise ValueError(f"unknown back end {back_end!r}; known: {', '.join(BACK_ENDS)}, and None to choose")
        if one_sample and back_end not in (None, "numpy", "numba"):
            raise ValueError(f"the back end {back_end!r} has no lanes for a batch; use 'numpy', 'numba' or None")
        if back_end == "numba":
            machine.check(tape)
        self.tape, self.inputs, self.given = tape, inputs, given
        self.one_sample = one_sample  # of a batch: data differ from lane to lane, and the value is the sum over lanes
        self.lanes = 1  # in which one sample is about to run
        self.signature: Any = None  # of the function that was replayed, as exports need it
        self._asked = back_end
        self._raised: Raised | None = None
        self._raising: Raising | None = None
        self._chosen: str | None = None
        self._on_tape: Interpreted | Scalars | None = None
        self._compiled: dict[str, Compiled | Lanes] = {}
        self._slots: dict[str, int] = {}
        self._lock = threading.RLock()  # held while instructions are added

    # --- what it computes ---

    def __call__(self, *values: Any) -> float:
        """The output for these inputs: numbers and arrays as they were recorded."""
        return self._held(self.run(*self._columns(values), gradient=False))[0]

    def value_and_grad(self, *values: Any) -> tuple[float, Any]:
        """(output, its gradient): the gradient has the structure of the inputs, as a list where those are many."""
        value, gradient = self._held(self.run(*self._columns(values), gradient=True))
        return value, self.inputs.split(gradient)

    def grad(self, *values: Any) -> Any:
        """The gradient alone."""
        return self.value_and_grad(*values)[1]

    def jvp(self, values: Sequence[Any], tangents: Sequence[Any]) -> tuple[float, float]:
        """(output, its rate of change) as the inputs, sequences as for a call, move along the tangents."""
        value, tangent = self._along("jvp", ("value", "jvp"), values, tangents)
        return number(value), number(tangent)

    def hvp(self, values: Sequence[Any], tangents: Sequence[Any]) -> Any:
        """The Hessian times the tangents, in the structure of the inputs."""
        [product] = self._along("hvp", ("hvp",), values, tangents)
        return self.inputs.split(product)

    def _along(self, name: str, slots: tuple[str, ...], values: Sequence[Any], tangents: Sequence[Any]) -> Any:
        column, given = self._columns(values)
        if self.tape.guards:
            self._held(self.run(column, given, gradient=False))
        return self.function(name, slots)((column, self.inputs.column(tangents), given))

    def _columns(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """The numbers of the inputs, and those of the data, which come after them."""
        if self.one_sample:
            raise TypeError("the program of one sample runs over a batch: call the replayed function that recorded it")
        if self.given is None:
            return self.inputs.column(values), None
        count = self.inputs.count
        if len(values) != count + self.given.count:
            raise TypeError(f"the program takes {count} values and {self.given.count} of data, got {len(values)}")
        return self.inputs.column(values[:count]), self.given.column(values[count:])

    @staticmethod
    def _held(found: tuple[float, Any] | None) -> tuple[float, Any]:
        if found is None:
            raise ReplayError(
                "a comparison comes out differently for these values than when the program was recorded: call the "
                "replayed function, which records again"
            )
        return found

    def run(self, column: Any, given: Any, gradient: bool, checked: bool = True) -> tuple[float, Any] | None:
        """(value, gradient (p, 1) if asked for) of inputs and data (p, 1); None where a guard does not hold."""
        checked = checked and bool(self.tape.guards)
        on_tape = self.on_tape
        if on_tape is not None:
            return on_tape.run(column, given, gradient, checked)
        names = ("value", "gradient") if gradient else ("value",)
        columns = column, None, given
        if not checked:
            found: Sequence[Any] = self.function("+".join(names), names)(columns)
        else:
            function = self.function("guarded+" + "+".join(names), (*names, "broken"))
            try:
                *found, broken = function.fast(columns)
                if broken:
                    return None
            except (ArithmeticError, ValueError):
                # what another branch warns of is nobody's business: the guards first, and in silence
                with np.errstate(all="ignore"):
                    [broken] = self.function("broken", ("broken",))(columns)
                if broken:
                    return None
                found = function(columns)[:-1]
        value, slopes = number(found[0]), found[1] if gradient else None
        if math.isfinite(value) and (slopes is None or np.isfinite(slopes).all()):
            return value, slopes
        # whether inf meets -inf depends on what is added up first: the order of the nodes decides
        return Interpreted(self.tape).run(column, given, gradient, checked=False)

    def function(self, name: str, slots: tuple[str, ...]) -> Compiled | Lanes:
        """The compiled function of these slots, kept by that name."""
        compiled = self._compiled.get(name)
        if compiled is None:
            with self._lock:
                numbers = [self._slot(slot) for slot in slots]
                kind = Lanes if self.back_end == "numba" else Compiled
                compiled = self._compiled[name] = kind(self._builder(), numbers)
        return compiled

    def descend(
        self, values: Sequence[Any], steps: int, optimiser: Any = "sgd", learning_rate: float | None = None
    ) -> tuple[Any, list[float]]:
        """(the inputs after so many steps of descent, the output before each of them).

        values: what a call takes; the inputs come back in the structure of a gradient. optimiser: "sgd", "momentum",
        "adam", or a rule of autodiff.updates. Many steps are one call, but where the tape runs as it stands ("tape",
        and whatever does not repeat and is long) and for long "python": there a step is a gradient and an update.

        >>> import autodiff as ad
        >>> x = ad.Value(1.0)
        >>> ad.record(x * x, [x]).descend([1.0], 3, "sgd", learning_rate=0.25)
        ([0.125], [1.0, 0.25, 0.0625])
        """
        column, given = self._columns(values)
        course = descent.Course(Moving(self, given), column, updates.rule_of(optimiser, learning_rate))
        column, history = descent.descended(course, steps)
        return self.inputs.split(column), history

    @property
    def steps_at_once(self) -> bool:
        """Whether there are instructions for steps, and it pays to compile them: what runs number by number is slow."""
        return self.on_tape is None and (self.back_end != "python" or len(self.tape) <= COMPILED)

    def step(self, rule: updates.UpdateRule, state: Sequence[Any], count: int, mean: bool = False) -> Compiled | Lanes:
        """The function of a step by that rule of the first `count` inputs; see descent.emitted."""
        name = f"step {rule.kind} {count} {mean}"
        compiled = self._compiled.get(name)
        if compiled is None:
            with self._lock:
                builder = self._builder()
                value, gradient, broken = (self._slot(name) for name in ("value", "gradient", "all broken"))
                slots = self._raise().inputs, value, gradient, broken
                kind = Lanes if self.back_end == "numba" else Compiled
                compiled = kind(builder, descent.emitted(builder, slots, count, rule, state, mean))
                self._compiled[name] = compiled
        return compiled

    # --- how ---

    @property
    def back_end(self) -> str:
        """Which back end runs it."""
        if self._chosen is None:
            self._settle()
        assert self._chosen is not None
        return self._chosen

    @property
    def on_tape(self) -> Interpreted | Scalars | None:
        """What runs the tape as it stands, if it runs so."""
        if self._chosen is None:
            self._settle()
        return self._on_tape

    def _settle(self) -> None:
        """Chooses what runs the program."""
        with self._lock:
            if self._chosen is not None:
                return
            chosen = self._asked
            if chosen is None and len(self.tape) * self.lanes >= COMPILED and machine.serves(self.tape):
                chosen = "numba"
            is_long = len(self.tape) > LONG
            if (chosen in (None, "numba") or (chosen == "numpy" and is_long)) and not self.one_sample:
                self._raising = Raising.if_it_repeats(self.tape)
            lanes = self.one_sample or self._raising is not None
            if chosen is None and self._raising is not None and len(self.tape) <= FEW and self._raising.width < WIDE:
                self._raising, lanes = None, False
            if chosen is None:
                chosen = "numpy" if lanes else "tape" if is_long else "python"
            if chosen == "tape" or (chosen == "numpy" and is_long and not lanes):
                self._on_tape = Interpreted(self.tape)
            elif chosen == "numba" and not lanes:
                self._on_tape = Scalars(self.tape)
            self._chosen = chosen

    def _raise(self) -> Raised:
        """The instructions, by the back end that was asked for or is chosen now."""
        if self._raised is None:
            if self.on_tape is None and self.back_end != "python":
                raising = self._raising or Raising(self.tape, self.one_sample)
                self._raising = None  # its arrays are used up
                self._raised = raising.raised()
            else:
                self._raised = raised_one_by_one(self.tape)
        return self._raised

    def _builder(self) -> Builder:
        return self._raise().builder

    def _slot(self, name: str) -> int:
        """The slot of the value, the gradient, ...: what is not there yet is derived."""
        with self._lock:
            if name not in self._slots:
                self._slots[name] = self._derived(name)
            return self._slots[name]

    def _derived(self, name: str) -> int:
        raised = self._raise()
        builder, shape = raised.builder, raised.builder.shapes[raised.inputs]
        zero = builder.slot(0.0)
        if name == "value" and self.one_sample:
            return builder.reduced(raised.outputs[0], (1, LANES), (1, 1))
        if name == "value" or name == "losses":
            return raised.outputs[0]
        if name == "broken":
            return zero if raised.broken is None else raised.broken
        if name == "all broken":
            broken = self._slot("broken")
            return builder.reduced(broken, (1, LANES), (1, 1)) if self.one_sample else broken
        if name == "gradient":
            [gradient] = adjoints.reverse(builder, self._slot("value"), [raised.inputs])
            return builder.expand(zero, shape) if gradient is None else gradient
        of = self._slot("value" if name == "jvp" else "gradient")
        direction = builder.emit("input", (), DIRECTION, shape)
        [tangent] = adjoints.forward(builder, [of], {raised.inputs: direction})
        return builder.expand(zero if tangent is None else tangent, builder.shapes[of])

    # --- in other languages ---

    def instructions(self, *names: str) -> tuple[Builder, list[int]]:
        """(the instructions, the slots of "value", "losses", "gradient", "broken" among them)."""
        with self._lock:
            return self._builder(), [self._slot(name) for name in names]

    def _exported(self) -> exports.Exported:
        if self.signature is None and self.given is None and len(self.tape.data):
            self.signature = exports.bare(self.inputs, len(self.tape.data), self.one_sample)
        elif self.signature is None:
            self.signature = exports.recorded(self.inputs, self.given, self.input_names())
        return exports.Exported(self.instructions, self.signature, bool(self.tape.guards), len(self.tape))

    def to_numpy(self, path: Any = None) -> str:
        """The source of value(...) and value_and_grad(...), which needs NumPy only; written to path if one is given.

        The functions take what program(*values) takes; with replay, what the function took, and over= the batch too.
        Comparisons that come out differently raise ValueError. NotImplementedError for rows of the user's own.

        >>> import autodiff as ad
        >>> x = ad.Value(3.0, name="x")
        >>> written = {}
        >>> exec(record(ad.tanh(x) * x, [x]).to_numpy(), written)
        >>> written["value_and_grad"](x=0.0)
        (0.0, [0.0])
        """
        from autodiff.programs.exports.numpy_source import numpy_source

        return numpy_source(self._exported(), path)

    def to_jax(self) -> Callable[..., Any]:
        """A function of the same arguments for JAX, to jit, to differentiate and to shard: see exports/jax_function.py.

        ImportError without JAX (pip install "chainrule[jax]").
        """
        from autodiff.programs.exports.jax_function import jax_function

        return jax_function(self._exported())

    def to_onnx(self, path: Any = None, gradient: bool = True) -> Any:
        """An ONNX model of the value, and of the gradient with it; written to path if one is given.

        ImportError without onnx (pip install "chainrule[onnx]").

        >>> import autodiff as ad
        >>> x = ad.Value(3.0, name="x")
        >>> [output.name for output in record(x * x, [x]).to_onnx().graph.output]
        ['value', 'd_x']
        """
        from autodiff.programs.exports.onnx_model import onnx_model

        return onnx_model(self._exported(), path, gradient)

    # --- what it is ---

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.tape, self.inputs, self._asked, self.one_sample, self.given)

    def __len__(self) -> int:
        """The number of nodes that were recorded."""
        return len(self.tape)

    @property
    def size(self) -> int:
        """The number of instructions that compute the value."""
        return sum(1 for _ in self._instructions("value"))

    @property
    def cost(self) -> dict[str, int]:
        """{operation: how many numbers it computes} for the value."""
        return dict(self._cost("value"))

    @property
    def gradient_cost(self) -> dict[str, int]:
        """{operation: how many numbers it computes} for value and gradient together."""
        return dict(self._cost("value", "gradient"))

    @property
    def ratio(self) -> float:
        """The cost of value and gradient over that of the value alone; theory says at most 4 or 5."""
        return self._cost("value", "gradient").total() / max(self._cost("value").total(), 1)

    def _instructions(self, *names: str) -> Any:
        builder = self._builder()
        sources = ("number", "data", "input", "take", "reshape", "expand", "rows")
        return (
            slot for slot in builder.needed([self._slot(name) for name in names]) if builder.kinds[slot] not in sources
        )

    def _cost(self, *names: str) -> Counter[str]:
        builder = self._builder()
        cost: Counter[str] = Counter()
        for slot in self._instructions(*names):
            extra, (k, w) = builder.extras[slot], builder.shapes[slot]
            if builder.kinds[slot] == "row":
                cost[extra if isinstance(extra, str) else extra.name] += k * w
            elif builder.kinds[slot] == "matmul":
                a = builder.shapes[builder.args[slot][0]]
                cost["matmul"] += 2 * k * w * a[0 if extra[0] else 1]
            else:
                k, w = builder.shapes[builder.args[slot][0]]
                cost[builder.kinds[slot]] += k * w
        return cost

    @property
    def source(self) -> str:
        """The generated Python of value and gradient."""
        return self.function("value+gradient", ("value", "gradient")).source

    def listing(self, *names: str) -> str:
        """One line per instruction, of the value, or of the "gradient", "jvp", "hvp" with it."""
        builder = self._builder()
        slots = [self._slot(name) for name in names or ("value",)]
        return listing(builder, slots, self.input_names(), self.back_end)

    def __str__(self) -> str:
        return self.listing()

    def __repr__(self) -> str:
        return f"Program({len(self.tape)} nodes, {self.inputs.size} inputs)"

    def input_names(self) -> list[str]:
        """What the inputs are called, one by one; x and a number where they have no name."""
        names = self.tape.names
        return [names.get(int(i)) or f"x{j}" for j, i in enumerate(self.tape.inputs)]

    # --- files ---

    def save(self, path: Any) -> Path:
        """Writes the program to a file of NumPy's format npz, without pickle, and returns its path."""
        file = Path(path)
        if file.suffix != ".npz":
            file = file.with_name(file.name + ".npz")
        tape = self.tape
        about = {
            "version": VERSION,
            "guards": [[kind, x, y, c, bool(outcome)] for kind, x, y, c, outcome in tape.guards],
            "one_sample": self.one_sample,
            "rows": [[row.name, row.constant] if row else None for row in tape.rows],
            "names": {str(i): name for i, name in tape.names.items()},
            "inputs": self.inputs.written(),
            "data": self.given and self.given.written(),
            "back_end": self._asked,
        }
        np.savez(
            file, about=np.array(json.dumps(about)), code=tape.code, a=tape.a, b=tape.b, constant=tape.constant,
            inputs=tape.inputs, data=tape.data, outputs=tape.outputs,
        )  # fmt: skip
        return file

    @staticmethod
    def load(path: Any) -> Any:
        """The program that `save` wrote, or an ArrayProgram that its own save wrote.

        KeyError where it uses a row that the table does not have, ValueError where the file holds no program.
        """
        with np.load(Path(path), allow_pickle=False) as file:
            about = json.loads(str(file["about"])) if "about" in file else {}
            if "arrays" in about:
                from autodiff.programs.arrays.program import ArrayProgram

                return ArrayProgram.load(path)
            if about.get("version") != VERSION:
                raise ValueError(f"{path} holds no program of version {VERSION}, which is what this release reads")
            arrays = [file[name] for name in ("code", "a", "b", "constant", "inputs", "data", "outputs")]
        rows: list[Any] = []
        for entry in about["rows"]:
            if entry is not None and entry[0] not in TABLE:
                raise KeyError(f"the table has no row {entry[0]!r}: define that primitive before loading the program")
            rows.append(entry and (TABLE[entry[0]].folded[entry[1]] if entry[1] else TABLE[entry[0]]))
        code, a, b, constant, inputs, data, outputs = arrays
        names = {int(i): name for i, name in about["names"].items()}
        tape = Tape(rows, code, a, b, constant, inputs, data, outputs, names, about["guards"])
        tape.check()
        interface, given = Inputs.read(about["inputs"]), about["data"] and Inputs.read(about["data"])
        if interface.size != len(inputs) or (given.size if given else 0) != len(data) * (given is not None):
            raise ValueError(f"{path}: the inputs are not those of the tape")
        return Program(tape, interface, about["back_end"], about["one_sample"], given)


class Moving(descent.Descending):
    """A program whose inputs move."""

    def __init__(self, program: Program, given: Any) -> None:
        self.program, self.given = program, given

    def step_at(self, column: Any) -> tuple[float, Any]:
        """(value, gradient); ReplayError where a guard does not hold."""
        value, gradient = self.program._held(self.program.run(column, self.given, gradient=True))
        return value, np.reshape(gradient, (-1, 1))

    def at_once(self, column: Any, rule: updates.UpdateRule, state: Sequence[Any]) -> Any:
        """Nothing where the tape runs as it stands."""
        if not len(column) or not self.program.steps_at_once:
            return None
        return self.program.step(rule, state, len(column)), [column, None, self.given], (), 1

    def name(self, i: int) -> str:
        """What input i is called."""
        return self.program.input_names()[i]

    def took(self, steps: int) -> None:
        """Nobody counts them."""


def number(x: Any) -> float:
    """What a program returns as its value; an array (1, 1) where it is its one input."""
    return x if type(x) is float else float(np.reshape(x, ()))


def record(output: Any, inputs: Any, back_end: str | None = None, data: Any = None) -> Any:
    """The graph of output as a function of inputs: a Program.

    output: a Value. inputs: a Value, an array of Values (autodiff.scalars), or a list, tuple or dict of these. The
    other leaves of the graph are constants of the program. What does not lead to output is left out.

    program(*values) takes a number or an array for each element of a list or tuple of inputs, or else one value of the
    structure of inputs; program.value_and_grad returns gradients in the same structure. data: further inputs, in the
    same forms, whose values come after the others; by these nobody differentiates, so that they may differ from lane to
    lane, as the samples of a batch do.

    back_end: see `Program`; by default the one that suits the program, of those that are installed. A comparison that
    was made while the graph was built went one way, and the program goes that way always: `replay` asks it anew.

    Of a Tensor, with Tensors as inputs, it is a program of arrays: an ArrayProgram, which has no back ends. Conditions
    and indices that were worked out of numbers are constants there, too.

    >>> import autodiff as ad
    >>> W = ad.scalars([1.0, 2.0], name="W")
    >>> program = ad.record(np.sum(W**2), [W])
    >>> program.value_and_grad(np.array([3.0, 4.0]))
    (25.0, [array([6., 8.])])
    """
    if isinstance(output, Tensor):
        from autodiff.programs.arrays.program import record_arrays

        return record_arrays(output, inputs, back_end, data)
    output = checked_value(output, "record")
    nodes, interface = _inputs(inputs)
    others, given = ([], None) if data is None else _inputs(data)
    if len(dict.fromkeys([*nodes, *others])) < len(nodes) + len(others):
        raise ValueError("record: the same node stands twice among the inputs")
    return Program(taped([output], nodes, others), interface, back_end, given=given)


def _inputs(inputs: Any) -> tuple[list[Value], Inputs]:
    many = isinstance(inputs, (list, tuple))
    leaves, structure = trees.flatten(inputs)
    nodes: list[Value] = []
    shapes = []
    for leaf in leaves:
        elements = list(leaf.flat) if isinstance(leaf, np.ndarray) else [leaf]
        for node in elements:
            if not isinstance(node, Value):
                raise TypeError(f"record takes Values as inputs, got {type(node).__name__} {node!r:.40}")
        nodes += elements
        shapes.append(np.shape(leaf) if isinstance(leaf, np.ndarray) else ())
    return nodes, Inputs(structure, shapes, many)


def _written(structure: Any) -> Any:
    """The structure for a file: lists, tuples and dicts."""
    if structure is trees.LEAF:
        return "leaf"
    if structure is trees.NOTHING:
        return "nothing"
    kind, parts = structure
    if isinstance(parts, dict):
        return ["dict", [[key, _written(part)] for key, part in parts.items()]]
    return ["tuple" if issubclass(kind, tuple) else "list", [_written(part) for part in parts]]


def _read(written: Any) -> Any:
    if written == "leaf":
        return trees.LEAF
    if written == "nothing":
        return trees.NOTHING
    kind, parts = written
    if kind == "dict":
        return dict, {key: _read(part) for key, part in parts}
    return {"tuple": tuple, "list": list}[kind], [_read(part) for part in parts]
