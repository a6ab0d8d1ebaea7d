"""A program as NumPy source: one file that imports numpy and math only, with `value` and `value_and_grad`.

Every instruction is one line. Functions that NumPy lacks are the table's own kernels, written into the file. Constants
of a few numbers stand where they are used, larger ones above the functions; where all of them together pass LITERALS
numbers, the large ones go into a file npz beside it.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodiff import kernels, trees
from autodiff.primitives import TABLE, Primitive, add, div, mul, neg, sub
from autodiff.programs.exports.signature import LANES, WRONG_BRANCH, Exported, Leaf, Picked, Signature
from autodiff.programs.instructions import LANES as WIDTH
from autodiff.programs.instructions import Builder
from autodiff.programs.raising import GIVEN, NUMBERS

SHORT = 8  # numbers that stand where they are used
WIDE = 60  # characters that they take at most
LITERALS = 20_000  # numbers that the text may hold
LONG = 1000  # statements in one function; where there are more, functions of so many follow one another
COMPARISONS = {
    "lt": "1.0 * ({} < {})", "le": "1.0 * ({} <= {})", "gt": "1.0 * ({} > {})", "ge": "1.0 * ({} >= {})",
    "eq": "1.0 * ({} == {})", "ne": "1.0 * ({} != {})", "signbit": "1.0 * np.signbit({})",
}  # fmt: skip
OPERATORS = {add: "{} + {}", sub: "{} - {}", mul: "{} * {}", div: "{} / {}", neg: "-{}", TABLE["alias"]: "{}"}

# What is written into the file, and what that needs in turn
HELPERS: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    name: (lambda name=name: inspect.getsource(getattr(kernels, name)), needs)  # type: ignore[misc]
    for name, needs in {
        "sigmoid_array": (), "softplus_array": (), "step_array": (), "exceeds_array": (), "elu_array": (),
        "selu_array": ("SELU_SCALE", "SELU_ALPHA"), "silu_array": ("sigmoid_array",), "gelu": ("SQRT_HALF",),
        "sinpi": (), "cospi": (), "sinc": ("sinpi",), "sinc_slope": ("cospi", "sinc", "SLOPE_SERIES"),
    }.items()
}  # fmt: skip
HELPERS |= {
    name: (lambda name=name: f"{name} = {getattr(kernels, name)!r}\n", ())  # type: ignore[misc]
    for name in ("SELU_SCALE", "SELU_ALPHA", "SQRT_HALF", "SLOPE_SERIES")
}
# row: (expression, what it needs)
FUNCTIONS: dict[Primitive, tuple[str, str]] = {
    TABLE["relu"]: ("np.maximum({}, 0.0)", ""),
    TABLE["leaky_relu"]: ("np.where(np.greater({0}, 0), {0}, 0.01 * {0})", ""),
    TABLE["logsigmoid"]: ("-softplus_array(-{})", "softplus_array"),
    TABLE["erf"]: ("each(math.erf, {})", "each"),
    TABLE["erfc"]: ("each(math.erfc, {})", "each"),
} | {TABLE[name]: (f"each({name}, {{}})", f"each {name}") for name in ("gelu", "sinc", "sinc_slope")}
for _name in ("sigmoid", "softplus", "step", "elu", "selu", "silu"):
    FUNCTIONS[TABLE[_name]] = f"{_name}_array({{}})", f"{_name}_array"
FUNCTIONS[TABLE["exceeds"]] = "exceeds_array({}, {})", "exceeds_array"
OWN = frozenset(TABLE.values())  # not those that a user defines

OF_THE_FILE = {
    "number_or_array": '''\
def number_or_array(x, shape, name):
    """x as an array of floats of this shape, in which None stands for any length."""
    x = np.asarray(x, dtype=float)
    if x.ndim != len(shape) or any(a not in (b, None) for a, b in zip(shape, x.shape)):
        raise ValueError(f"{name} has the shape {x.shape}, and the program takes {shape}")
    return x
''',
    "each": '''\
def each(function, a):
    """A function of numbers on every element of an array; nan where it has no answer."""

    def answer(number):
        try:
            return function(number)
        except ValueError:
            return math.nan

    return np.vectorize(answer, otypes=[float])(a)[()]
''',
    "add_rows": '''\
def add_rows(a, places, k):
    """y of k rows with y[places[i]] += a[i]."""
    a = np.reshape(a, (len(places), -1))
    y = np.zeros((k, a.shape[1]))
    np.add.at(y, places, a)
    return y
''',
}


def numpy_source(program: Exported, path: Any = None) -> str:
    """The text of the file, written to path if one is given; ValueError where it would be too long without a path."""
    signature = program.signature
    for structure in (*signature.structures, signature.gradient):
        _check_keys(structure)
    file = _File(signature)
    losses = signature.reduction is None
    value = "losses" if losses else "value"
    guard = ["broken"] if program.guarded else []
    functions = [file.function("value", *program.instructions(value, *guard), False, program.guarded)]
    if not losses:
        slots = program.instructions(value, "gradient", *guard)
        functions.append(file.function("value_and_grad", *slots, True, program.guarded))
    target = None if path is None else Path(path)
    if target is not None and target.suffix != ".py":
        target = target.with_name(target.name + ".py")
    constants, arrays = file.constants(target is not None)
    named = [name for name in OF_THE_FILE if name in file.needed]
    head = f'"""{program.title}\n\n{_about(signature, losses, bool(arrays))}\n"""\n\nfrom __future__ import annotations'
    head += "\n\nimport math\n\nimport numpy as np"
    pieces = [
        head + (f"\n\n{constants}" if constants else ""),
        *(OF_THE_FILE[name].rstrip() for name in named),
        *(HELPERS[name][0]().rstrip() for name in HELPERS if name in file.needed),
        *functions,
    ]
    text = "\n\n\n".join(pieces) + "\n"
    if target is not None:
        target.write_text(text, encoding="utf-8")
        if arrays:
            np.savez(target.with_suffix(".npz"), **arrays)
    return text


def _about(signature: Signature, losses: bool, arrays: bool) -> str:
    lines = [f"value({', '.join(signature.names)}) is a number"]
    if losses:
        lines = [f"value({', '.join(signature.names)}) is an array with a number for each sample"]
    elif signature.has_batch:
        lines = [f"value({', '.join(signature.names)}) is the {signature.reduction} over the samples of a batch"]
    if not losses:
        lines[0] += ";\nvalue_and_grad gives its gradient with it"
    lines[0] += ". NumPy warns where numbers leave the finite ones."
    if signature.captured:
        lines.append("Values from elsewhere are constants here, with the numbers they had when this was written.")
    if arrays:
        lines.append("Large constants are read from the file of the same name that ends in .npz.")
    return "\n".join(lines)


class _File:
    """What the functions of one file share: constants, and which helpers they need."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.needed: set[str] = {"number_or_array"} if signature.leaves else set()
        self._arrays: dict[Any, tuple[str, Any]] = {}
        captured = [node.data for node in signature.captured]
        numbers = signature.of_column(NUMBERS)
        self.columns = {column: signature.of_column(column) for column in (NUMBERS, GIVEN, LANES)}
        if captured:
            begin = sum(leaf.size for leaf in numbers)
            leaf = Leaf("captured", self._above(np.array(captured)), (len(captured),), NUMBERS, begin)
            self.columns[NUMBERS] = [*numbers, leaf]

    def need(self, names: str) -> None:
        """Notes helpers, and those that these need."""
        for name in names.split():
            if name not in self.needed:
                self.needed.add(name)
                if name in HELPERS:
                    self.need(" ".join(HELPERS[name][1]))

    def constant(self, array: Any) -> str:
        """An expression for an array: indices as a list where they are few."""
        text = _listed(array) if array.size <= SHORT else ""
        if not text or len(text) > WIDE:
            return self._above(array)
        return text if array.dtype.kind == "i" else f"np.array({text})"

    def _above(self, array: Any) -> str:
        key = array.shape, array.dtype.str, array.tobytes()
        return self._arrays.setdefault(key, (f"k{len(self._arrays)}", array))[0]

    def constants(self, may_write: bool) -> tuple[str, dict[str, Any]]:
        """(the lines that define the constants, those that go into a file of their own)."""
        named = dict(self._arrays.values())
        total = sum(array.size for array in named.values())
        apart = {name: array for name, array in named.items() if total > LITERALS and array.size > 100}
        if apart and not may_write:
            raise ValueError(
                f"the constants of the program are {total} numbers, and the text may hold {LITERALS}: give a path, and "
                "the large ones are written into a file npz beside it"
            )
        lines = ['constants = np.load(__file__.removesuffix(".py") + ".npz")'] if apart else []
        for name, array in named.items():
            lines.append(f'{name} = constants["{name}"]' if name in apart else f"{name} = {_wrapped(array)}")
        return "\n".join(lines), apart

    def function(self, name: str, builder: Builder, slots: list[int], gradient: bool, guarded: bool) -> str:
        """The text of one function."""
        return _Function(self, builder, slots, gradient).text(name, gradient, guarded)


class _Function:
    """Writes the statements of some slots."""

    def __init__(self, file: _File, builder: Builder, slots: list[int], gradient: bool) -> None:
        self.file, self.builder, self.slots = file, builder, slots
        order = [slot for slot in builder.needed(slots) if builder.kinds[slot] not in _SOURCES]
        self.split = self._parts_of_gradient(slots[1]) if gradient else None
        if self.split is not None and not any(slots[1] in builder.args[slot] for slot in order):
            order.remove(slots[1])  # its parts are what is asked for
        else:
            self.split = None
        self.order = order
        self.long = len(order) > LONG
        self.number = {slot: number for number, slot in enumerate(order)}
        self.columns_used: set[int] = set()

    def text(self, name: str, gradient: bool, guarded: bool) -> str:
        signature = self.file.signature
        body = [self._statement(slot) for slot in self.order]
        ends = self._ends(gradient, guarded)
        begins = self._begins()
        first = f"def {name}({', '.join(signature.names)}):"
        doc = '    """' + ("(value, gradient)" if gradient else "The value") + '."""'
        if not self.long:
            return "\n".join([first, doc, *_indented([*begins, *body, *ends])])
        shared = [leaf.name for leaf in signature.leaves] + [_COLUMNS[column] for column in sorted(self.columns_used)]
        shared += ["n"] if signature.has_batch else []
        unpacked = [f"({''.join(f'{one}, ' for one in shared)}) = shared"] if shared else []
        parts = [body[i : i + LONG] for i in range(0, len(body), LONG)]
        texts = [
            "\n".join([f"def {name}_{i}(v, shared):", *_indented([*unpacked, *part])]) for i, part in enumerate(parts)
        ]
        calls = [f"v, shared = [None] * {len(self.order)}, ({''.join(f'{one}, ' for one in shared)})"]
        calls += [f"{name}_{i}(v, shared)" for i in range(len(parts))]
        return "\n\n\n".join([*texts, "\n".join([first, doc, *_indented([*begins, *calls, *ends])])])

    # --- beginning and end ---

    def _begins(self) -> list[str]:
        """The statements that make arrays of the arguments."""
        lines = []
        signature, columns = self.file.signature, self.file.columns
        for leaf in signature.leaves:
            shape = f"(None, {', '.join(map(str, leaf.shape))})" if leaf.shape else "(None,)"
            shape = shape if leaf.batch else str(leaf.shape)
            lines.append(f"{leaf.name} = number_or_array({leaf.place}, {shape}, {leaf.place!r})")
        batch = [leaf.name for leaf in signature.leaves if leaf.batch]
        if batch:
            lines.append(f"n = len({batch[0]})")
            others = " or ".join(f"len({name}) != n" for name in batch[1:])
            lines.append(f"if n == 0{' or ' + others if others else ''}:")
            lines.append('    raise ValueError("a batch has the same number of samples in every array, and not 0")')
        for column in sorted(self.columns_used):
            if column == LANES:
                rows = [
                    f"{leaf.name}.reshape(n, {leaf.size}).T" if leaf.batch
                    else f"np.broadcast_to({leaf.name}.reshape({leaf.size}, 1), ({leaf.size}, n))"
                    for leaf in columns[LANES]
                ]  # fmt: skip
                lines.append(f"lanes = np.concatenate([{', '.join(rows)}])" if len(rows) > 1 else f"lanes = {rows[0]}")
                continue
            flat = [f"{leaf.name}.reshape(-1, 1)" for leaf in columns[column]]
            text = f"np.concatenate([{', '.join(flat)}])" if len(flat) > 1 else flat[0] if flat else "np.empty((0, 1))"
            lines.append(f"{_COLUMNS[column]} = {text}")
        return lines

    def _ends(self, gradient: bool, guarded: bool) -> list[str]:
        """The check of the guards, and the statement that returns."""
        signature, lines = self.file.signature, []
        if guarded:
            lines.append(f"if np.any({self._name(self.slots[-1])} != 0.0):")
            lines.append(f'    raise ValueError("{WRONG_BRANCH}")')
        value = self._name(self.slots[0])
        if signature.reduction is None:
            return [*lines, f"return np.array(np.broadcast_to({value}, (1, n))).reshape(n)"]
        mean = " / n" if signature.reduction == "mean" else ""
        if not gradient:
            return [*lines, f"return float({value}{mean})"]
        if not signature.wrt:
            return [*lines, f"return float({value}{mean}), {_tree_text(signature.gradient, [])}"]
        names = []
        for leaf in signature.wrt:
            names.append(f"d_{leaf.name}")
            text = self._gradient_of(leaf) + mean + " + 0.0"
            lines.append(f"d_{leaf.name} = " + (text if leaf.shape else f"float({text})"))
        return [*lines, f"return float({value}{mean}), {_tree_text(signature.gradient, names)}"]

    def _gradient_of(self, leaf: Leaf) -> str:
        shape = ", ".join(map(str, leaf.shape)) or "()"
        if self.split is None:
            column = self._name(self.slots[1])
            if self._is_scalar(self.slots[1]):
                return f"np.reshape({column}, {leaf.shape})" if leaf.shape else column
            if not leaf.shape:
                return f"{column}[{leaf.begin}, 0]"
            return f"{column}[{leaf.begin}:{leaf.end}].reshape({shape})"
        found = self.split.get(leaf.begin)
        if found is None:
            return f"np.zeros({leaf.shape})"
        slot, transposed = found
        if self._is_scalar(slot):
            return f"np.reshape({self._name(slot)}, {leaf.shape})" if leaf.shape else self._name(slot)
        kept = self.builder.shapes[slot]
        if (kept[::-1] if transposed else kept) == leaf.shape:
            return self._name(slot) + (".T" if transposed else "")
        return f"{self._name(slot)}{'.T' if transposed else ''}.reshape({shape})"

    def _parts_of_gradient(self, slot: int) -> dict[int, tuple[int, bool]] | None:
        """{where a leaf begins: (the slot of its gradient, transposed?)}, if the gradient is put together like that."""
        builder, leaves = self.builder, self.file.columns[NUMBERS]
        if builder.kinds[slot] != "assemble":
            return None
        found: dict[int, tuple[int, bool]] = {}
        for P, x in zip(builder.extras[slot], builder.args[slot], strict=True):
            picked = Picked(P.reshape(builder.shapes[x]))
            leaf = picked.leaf(leaves)
            if leaf is None or (picked.start, picked.stop) != (leaf.begin, leaf.end) or picked.step != 1:
                return None
            if leaf.begin in found:
                return None
            found[leaf.begin] = x, picked.kind == "transposed"
        return found

    # --- expressions ---

    def _is_scalar(self, slot: int) -> bool:
        return self.builder.shapes[slot] == (1, 1)

    def _name(self, slot: int) -> str:
        kind, extra = self.builder.kinds[slot], self.builder.extras[slot]
        if kind == "number":
            return _number(extra)
        if kind == "data":
            return self.file.constant(extra)
        if kind == "count":
            return "n"
        if kind == "input":
            leaves = self.file.columns[extra]
            if self._is_scalar(slot):
                return self._picked(slot, np.zeros((1, 1), int))
            if len(leaves) == 1 and leaves[0].shape == self.builder.shapes[slot]:
                return leaves[0].name
            self.columns_used.add(extra)
            return _COLUMNS[extra]
        if kind == "lane":
            self.columns_used.add(LANES)
            return "lanes"
        return f"v[{self.number[slot]}]" if self.long else f"v{self.number[slot]}"

    def _statement(self, slot: int) -> str:
        return f"{self._name(slot)} = {getattr(self, '_' + self.builder.kinds[slot])(slot)}"

    def _row(self, slot: int) -> str:
        row, args = self.builder.extras[slot], self.builder.args[slot]
        names = [self._name(x) for x in args]
        if all(self.builder.kinds[x] == "number" for x in args):  # Python's own numbers raise at corners
            names[0] = f"np.float64({names[0]})"
        if isinstance(row, str):
            return COMPARISONS[row].format(*names)
        if row in OPERATORS:
            return OPERATORS[row].format(*names)
        if row in FUNCTIONS:
            text, needs = FUNCTIONS[row]
            self.file.need(needs)
            return text.format(*names)
        if row not in OWN or not isinstance(row.array, np.ufunc):
            raise NotImplementedError(
                f"the row {row.name!r} is not the table's own, and its kernel is Python of yours: a file of NumPy "
                "source cannot hold it. Write it with rows of the table, or keep to the program itself"
            )
        return f"np.{row.array.__name__}({', '.join(names)})"

    def _sum(self, slot: int) -> str:
        [x] = self.builder.args[slot]
        axis = self.builder.extras[slot]
        return f"{self._name(x)}.sum()" if self._is_scalar(slot) else f"{self._name(x)}.sum({axis}, keepdims=True)"

    def _dot(self, slot: int) -> str:
        a, b = map(self._name, self.builder.args[slot])
        return f"np.vdot({a}, {b})" if self._is_scalar(slot) else f"np.einsum('ij,ij->i', {a}, {b}).reshape(-1, 1)"

    def _matmul(self, slot: int) -> str:
        a, b = map(self._name, self.builder.args[slot])
        if self._is_scalar(slot):
            return f"np.vdot({a}, {b})"
        ta, tb = self.builder.extras[slot]
        return f"{a}{'.T' if ta else ''} @ {b}{'.T' if tb else ''}"

    def _rows(self, slot: int) -> str:
        [x] = self.builder.args[slot]
        R = self.builder.extras[slot]
        if self.builder.kinds[x] == "input":
            return self._picked(x, R.reshape(-1, 1))
        if self._is_scalar(slot):
            return f"{self._name(x)}[{int(R[0])}, 0]"
        picked = Picked(R.reshape(-1, 1))
        return f"{self._name(x)}[{_cut(picked) if picked.kind == 'range' else self.file.constant(R)}]"

    def _addrows(self, slot: int) -> str:
        [x] = self.builder.args[slot]
        R, (k, w) = self.builder.extras[slot], self.builder.shapes[slot]
        t = len(R) // k
        if t * k == len(R) and (np.repeat(np.arange(k), t) == R).all():
            return f"{self._name(x)}.reshape({k}, {t}, {'n' if w == WIDTH else w}).sum(1)"
        self.file.need("add_rows")
        return f"add_rows({self._name(x)}, {self.file.constant(R)}, {k})"

    def _take(self, slot: int) -> str:
        return self._picked(self.builder.args[slot][0], self.builder.extras[slot])

    def _picked(self, x: int, P: Any) -> str:
        """The elements P of a slot."""
        picked, (k, w) = Picked(P), P.shape
        if self.builder.kinds[x] == "input":
            leaf = picked.leaf(self.file.columns[self.builder.extras[x]])
            if leaf is not None:
                return _of_leaf(leaf, picked)
        name = self._name(x)
        if P.size == 1:
            i, j = divmod(int(P[0, 0]), self.builder.shapes[x][1])
            return f"{name}[{i}, {j}]"
        if picked.kind == "any":
            return f"{name}.take({self.file.constant(P)})"
        flat = f"{name}.reshape(-1)[{_cut(picked)}]"
        return f"{flat}.reshape({k}, {w})" if picked.kind == "range" else f"{flat}.reshape({w}, {k}).T"

    def _assemble(self, slot: int) -> str:
        (k, w), args, extra = self.builder.shapes[slot], self.builder.args[slot], self.builder.extras[slot]
        parts = [self._name(x) if self._is_scalar(x) else f"{self._name(x)}.reshape(-1)" for x in args]
        P = np.concatenate([each.ravel() for each in extra])
        if all(self._is_scalar(x) for x in args):
            parts = [f"np.array([{', '.join(parts)}])"]
        flat = f"np.hstack([{', '.join(parts)}])" if len(parts) > 1 else parts[0]
        if len(P) == k * w and (np.sort(P) == np.arange(k * w)).all():
            if (np.arange(k * w) == P).all():
                return f"{flat}.reshape({k}, {w})"
            return f"{flat}.take({self.file.constant(np.argsort(P).reshape(k, w))})"
        return f"np.bincount({self.file.constant(P)}, {flat}, {k * w}).reshape({k}, {w})"

    def _expand(self, slot: int) -> str:
        k, w = self.builder.shapes[slot]
        return f"np.broadcast_to({self._name(self.builder.args[slot][0])}, ({k}, {'n' if w == WIDTH else w}))"

    def _reshape(self, slot: int) -> str:
        k, w = self.builder.shapes[slot]
        return f"{self._name(self.builder.args[slot][0])}.reshape({k}, {w})"


_SOURCES = ("number", "data", "input", "lane", "count")
_COLUMNS = {NUMBERS: "inputs", GIVEN: "given", LANES: "lanes"}


def _of_leaf(leaf: Leaf, picked: Picked) -> str:
    """The elements of an argument."""
    k, w = picked.shape
    if k * w == 1:
        place = ", ".join(str(int(i)) for i in np.unravel_index(picked.start - leaf.begin, leaf.shape or (1,)))
        return f"{leaf.name}[{place}]" if leaf.shape else leaf.name
    order = (w, k) if picked.kind == "transposed" else (k, w)
    turned = ".T" if picked.kind == "transposed" else ""
    if (picked.start, picked.stop, picked.step) == (leaf.begin, leaf.end, 1):
        text = leaf.name if leaf.shape == order else f"{leaf.name}.reshape({order[0]}, {order[1]})"
        return text + turned
    return f"{leaf.name}.reshape(-1)[{_cut(picked, leaf.begin)}].reshape({order[0]}, {order[1]}){turned}"


def _cut(picked: Picked, begin: int = 0) -> str:
    step = f":{picked.step}" if picked.step > 1 else ""
    return f"{picked.start - begin}:{picked.stop - begin}{step}"


def _number(c: float) -> str:
    if not math.isfinite(c):
        return "math.nan" if c != c else "math.inf" if c > 0 else "(-math.inf)"
    return repr(c) if math.copysign(1.0, c) > 0 else f"({c!r})"


def _listed(array: Any) -> str:
    """The nested list of an array's elements."""
    if array.ndim == 0:
        return str(int(array)) if array.dtype.kind == "i" else _number(float(array)).strip("()")
    return "[" + ", ".join(_listed(part) for part in array) + "]"


def _wrapped(array: Any) -> str:
    """An array over several lines."""
    text = textwrap.fill(_listed(array.ravel())[1:-1], 112, break_on_hyphens=False, break_long_words=False)
    shape = "" if array.ndim == 1 else f".reshape({', '.join(map(str, array.shape))})"
    return f"np.array([\n{textwrap.indent(text, '    ')}\n]){shape}"


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _check_keys(structure: Any) -> None:
    """Raises NotImplementedError where a key of a dict has no literal."""
    if structure is trees.LEAF or structure is trees.NOTHING:
        return
    parts = structure[1]
    for key in parts if isinstance(parts, dict) else ():
        try:
            same = ast.literal_eval(repr(key)) == key
        except (ValueError, SyntaxError):
            same = False
        if not same:
            raise NotImplementedError(f"the key {key!r} of a dict among the arguments has no literal; use strings")
    for part in parts.values() if isinstance(parts, dict) else parts:
        _check_keys(part)


def _tree_text(structure: Any, names: Sequence[str]) -> str:
    """The expression of a tree whose leaves have these names."""
    return _tree(structure, iter(names))


def _tree(structure: Any, names: Any) -> str:
    if structure is trees.LEAF:
        return str(next(names))
    if structure is trees.NOTHING:
        return "None"
    kind, parts = structure
    if isinstance(parts, dict):
        return "{" + ", ".join(f"{key!r}: {_tree(part, names)}" for key, part in parts.items()) + "}"
    items = [_tree(part, names) for part in parts]
    if issubclass(kind, tuple):
        return "(" + "".join(f"{item}, " for item in items).removesuffix(" " if len(items) == 1 else ", ") + ")"
    return "[" + ", ".join(items) + "]"
