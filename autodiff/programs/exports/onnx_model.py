"""A program as an ONNX model in float64: outputs value, and d_<input> for every input that derivatives are taken by.

Every leaf of the arguments is an input of the model; the number of samples of a batch is the dimension n. Rows that
ONNX, or onnxruntime for float64, does not have are functions of the model, in the domain "chainrule" (onnx_rows.py).
A model cannot raise: where a comparison comes out differently than when the program was recorded, all outputs are nan.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.primitives import Primitive
from autodiff.programs.exports.onnx_rows import COMPOSED, DOUBLE, NATIVE, Term, sign_bit
from autodiff.programs.exports.signature import LANES, Exported, Leaf, Picked
from autodiff.programs.instructions import LANES as WIDTH
from autodiff.programs.instructions import Builder
from autodiff.programs.raising import GIVEN, NUMBERS

# Nodes, those inside of functions counted wherever they are called, from which on a warning comes: onnxruntime loaded
# 11,000 nodes, of a random graph of 1,000 operations with its gradient, in 1.2 s, 106,000 in 25 s, 320,000 in 132 s.
LONG = 50_000
OPSET, IR = 18, 8  # of 2022: what onnxruntime has read since 1.14
DOMAIN = "chainrule"
COMPARISONS = {"lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "eq": "Equal"}
# The names of the graph's own tensors begin with what no identifier holds.
ABOUT = {
    None: "value is an array with a number for each sample.",
    "sum": "value is the sum over the samples of a batch, where there is one.",
    "mean": "value is the mean over the samples of a batch.",
}


def onnx_model(program: Exported, path: Any = None, gradient: bool = True) -> Any:
    """The model (onnx.ModelProto), checked, and written to path if one is given; ImportError without onnx."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError('an ONNX model needs onnx: pip install "chainrule[onnx]"') from error
    signature = program.signature
    gradient = gradient and signature.reduction is not None
    names = ["losses" if signature.reduction is None else "value"]
    names += ["gradient"] * gradient + ["broken"] * program.guarded
    builder, slots = program.instructions(*names)
    model = _Model(program, builder).model(slots, gradient)
    onnx.checker.check_model(model, full_check=True)
    sizes = {function.name: len(function.node) for function in model.functions}
    size = sum(sizes.get(node.op_type, 1) if node.domain == DOMAIN else 1 for node in model.graph.node)
    if size > LONG:
        warnings.warn(
            f"the model has {size} nodes, and the time onnxruntime takes to load them grows faster than their number: "
            "half a minute for 100,000. Write what repeats as a batch, with replay(f, over=...), or use to_numpy",
            stacklevel=3,
        )
    if path is not None:
        file = Path(path)
        onnx.save(model, file if file.suffix == ".onnx" else file.with_name(file.name + ".onnx"))
    return model


class _Nodes:
    """Nodes one after the other, of a graph or of a function, and the numbers they name."""

    def __init__(self, in_function: bool) -> None:
        self.in_function = in_function
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._known: dict[Any, str] = {}

    def emit(self, operator: str, inputs: list[str], domain: str = "", name: str = "", **attributes: Any) -> str:
        """The name of what the operator makes of the inputs."""
        from onnx import helper

        output = name or f"%{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def number(self, c: float) -> str:
        """The name of a number: of one row and one lane in a graph, of no dimension in a function."""
        return self.array(np.array(c) if self.in_function else np.full((1, 1), c))

    def whole(self, *numbers: int) -> str:
        """The name of whole numbers, such as a shape."""
        return self.array(np.array(numbers, np.int64))

    def array(self, array: Any) -> str:
        """The name of an array, the same for the same bits."""
        from onnx import numpy_helper

        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            if self.in_function:
                self._known[key] = self.emit("Constant", [], value=numpy_helper.from_array(array))
            else:
                self._known[key] = f"#{len(self._known)}"
                self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), self._known[key]))
        return self._known[key]

    def term(self, name: str) -> Term:
        """What a name stands for, to compute with."""
        return Term(self.emit, self.number, name)


class _Model:
    """The graph of the instructions; every slot is a matrix."""

    def __init__(self, program: Exported, builder: Builder) -> None:
        self.program, self.builder, self.signature = program, builder, program.signature
        self.graph = _Nodes(in_function=False)
        self.emit, self.whole = self.graph.emit, self.graph.whole
        self.functions: dict[Primitive, Any] = {}
        self.columns = {column: self.signature.of_column(column) for column in (NUMBERS, GIVEN, LANES)}
        if self.signature.captured:
            numbers = np.array([node.data for node in self.signature.captured])
            begin = sum(leaf.size for leaf in self.columns[NUMBERS])
            self.columns[NUMBERS].append(Leaf("", self.graph.array(numbers), numbers.shape, NUMBERS, begin))
        self.names: dict[int, str] = {}
        self._flat: dict[int, str] = {}
        self._samples = ""

    def model(self, slots: list[int], gradient: bool) -> Any:
        """The model of value and gradient."""
        from onnx import helper

        builder, signature = self.builder, self.signature
        for slot in builder.needed(slots):
            if builder.kinds[slot] != "input":  # read where something is taken from it
                names = [self._name(x) for x in builder.args[slot]]
                self.names[slot] = getattr(self, "_" + builder.kinds[slot])(slot, *names)
        outputs = self._outputs(slots, gradient)
        inputs = [
            helper.make_tensor_value_info(leaf.name, DOUBLE, ["n", *leaf.shape] if leaf.batch else list(leaf.shape))
            for leaf in signature.leaves
        ]
        graph = helper.make_graph(self.graph.nodes, "program", inputs, outputs, self.graph.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        if self.functions:
            opsets.append(helper.make_opsetid(DOMAIN, 1))
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="chainrule",
            functions=list(self.functions.values()), doc_string=f"{self.program.title} {ABOUT[signature.reduction]}",
        )  # fmt: skip

    def _outputs(self, slots: list[int], gradient: bool) -> list[Any]:
        from onnx import helper

        signature = self.signature
        factor = None
        if self.program.guarded:
            wrong = self.graph.term(self._name(slots[-1])).equals(0.0).op("Not").in_float64()
            if signature.reduction is not None:
                wrong = wrong.op("ReduceSum", Term(self.emit, self.graph.number, self.whole(0, 1)), keepdims=1)
            factor = (wrong > 0.0).where(math.nan, wrong.like(1.0))

        def finished(slot: int) -> Term:
            x = self.graph.term(self._name(slot))
            x = x / self.graph.term(self._count(0)) if signature.reduction == "mean" else x
            return x if factor is None else x * factor

        value = finished(slots[0])
        if signature.reduction is None:
            each = self.emit("Expand", [value.name, self._wide(1)])
            self.emit("Reshape", [each, self.whole(-1)], name="value")
            return [helper.make_tensor_value_info("value", DOUBLE, ["n"])]
        self.emit("Reshape", [value.name, self.whole()], name="value")
        outputs = [helper.make_tensor_value_info("value", DOUBLE, [])]
        if gradient:
            column = finished(slots[1])
            for leaf in signature.wrt:
                part = self.emit("Gather", [column.name, self.graph.array(np.arange(leaf.begin, leaf.end))], axis=0)
                self.emit("Reshape", [part, self.whole(*leaf.shape)], name=f"d_{leaf.name}")
                outputs.append(helper.make_tensor_value_info(f"d_{leaf.name}", DOUBLE, list(leaf.shape)))
        return outputs

    # --- arguments ---

    def _name(self, slot: int) -> str:
        if self.builder.kinds[slot] == "input":
            return self.emit("Reshape", [self._column(self.builder.extras[slot]), self.whole(-1, 1)])
        return self.names[slot]

    def _column(self, column: int) -> str:
        """All numbers of a column, in one dimension."""
        if column not in self._flat:
            parts = [self.emit("Reshape", [leaf.name, self.whole(-1)]) for leaf in self.columns[column]]
            self._flat[column] = (
                self.emit("Concat", parts, axis=0) if len(parts) > 1 else (parts or [self.graph.array(np.empty(0))])[0]
            )
        return self._flat[column]

    def _n(self) -> str:
        """The number of samples, as a shape of one dimension."""
        if not self._samples:
            first = next(leaf.name for leaf in self.signature.leaves if leaf.batch)
            self._samples = self.emit("Shape", [first], start=0, end=1)
        return self._samples

    def _wide(self, k: int, w: int = WIDTH) -> str:
        """The shape (k, w)."""
        return self.emit("Concat", [self.whole(k), self._n()], axis=0) if w == WIDTH else self.whole(k, w)

    def _lane(self, slot: int) -> str:
        rows = []
        for leaf in self.columns[LANES]:
            if leaf.batch:
                samples = self.emit("Reshape", [leaf.name, self.whole(-1, leaf.size)])
                rows.append(self.emit("Transpose", [samples], perm=[1, 0]))
            else:
                column = self.emit("Reshape", [leaf.name, self.whole(leaf.size, 1)])
                rows.append(self.emit("Expand", [column, self._wide(leaf.size)]))
        return rows[0] if len(rows) == 1 else self.emit("Concat", rows, axis=0)

    # --- the kinds ---

    def _number(self, slot: int) -> str:
        return self.graph.number(self.builder.extras[slot])

    def _data(self, slot: int) -> str:
        return self.graph.array(self.builder.extras[slot])

    def _count(self, slot: int) -> str:
        count = self.emit("Cast", [self._n()], to=DOUBLE)
        return self.emit("Reshape", [count, self.whole(1, 1)])

    def _row(self, slot: int, *names: str) -> str:
        row = self.builder.extras[slot]
        if isinstance(row, str):
            return self._comparison(row, *names)
        if row in NATIVE:
            return self.emit(NATIVE[row], list(names))
        if row not in COMPOSED:
            raise NotImplementedError(
                f"the row {row.name!r} is not the table's own, and its kernel is Python of yours, which no ONNX model "
                "can hold: write it with rows of the table"
            )
        if row not in self.functions:
            self.functions[row] = _function(row)
        return self.emit(row.name, list(names), domain=DOMAIN)

    def _comparison(self, name: str, a: str, b: str) -> str:
        x = self.graph.term(a)
        if name == "signbit":
            return sign_bit(x).in_float64().name
        holds = x.equals(self.graph.term(b)).op("Not") if name == "ne" else x.op(COMPARISONS[name], self.graph.term(b))
        return holds.in_float64().name

    def _sum(self, slot: int, a: str) -> str:
        return self.emit("ReduceSum", [a, self.whole(self.builder.extras[slot])], keepdims=1)

    def _dot(self, slot: int, a: str, b: str) -> str:
        return self.emit("ReduceSum", [self.emit("Mul", [a, b]), self.whole(1)], keepdims=1)

    def _matmul(self, slot: int, *names: str) -> str:
        turned = [
            self.emit("Transpose", [name], perm=[1, 0]) if transposed else name
            for name, transposed in zip(names, self.builder.extras[slot], strict=True)
        ]
        return self.emit("MatMul", turned)

    def _rows(self, slot: int, a: str) -> str:
        return self.emit("Gather", [a, self._whole_array(self.builder.extras[slot])], axis=0)

    def _addrows(self, slot: int, a: str) -> str:
        R, (k, w) = self.builder.extras[slot], self.builder.shapes[slot]
        t = len(R) // k
        if t * k == len(R) and (np.repeat(np.arange(k), t) == R).all():
            cube = self.emit("Reshape", [a, self.whole(k, t, -1)])
            return self.emit("ReduceSum", [cube, self.whole(1)], keepdims=0)
        zeros = self.emit("Expand", [self.graph.number(0.0), self._wide(k, w)])
        return self.emit("ScatterND", [zeros, self._whole_array(R.reshape(-1, 1)), a], reduction="add")

    def _take(self, slot: int, a: str) -> str:
        P, [x] = self.builder.extras[slot], self.builder.args[slot]
        if self.builder.kinds[x] != "input":
            return self.emit("Gather", [self.emit("Reshape", [a, self.whole(-1)]), self._whole_array(P)], axis=0)
        column, picked = self.builder.extras[x], Picked(P)
        leaf = picked.leaf(self.columns[column])
        if leaf is None:
            return self.emit("Gather", [self._column(column), self._whole_array(P)], axis=0)
        if (picked.start, picked.stop, picked.step) != (leaf.begin, leaf.end, 1):
            flat = self.emit("Reshape", [leaf.name, self.whole(-1)])
            return self.emit("Gather", [flat, self._whole_array(P - leaf.begin)], axis=0)
        if picked.kind == "range":
            return self.emit("Reshape", [leaf.name, self.whole(*P.shape)])
        block = self.emit("Reshape", [leaf.name, self.whole(*P.shape[::-1])])
        return self.emit("Transpose", [block], perm=[1, 0])

    def _assemble(self, slot: int, *names: str) -> str:
        k, w = self.builder.shapes[slot]
        P = np.concatenate([each.ravel() for each in self.builder.extras[slot]])
        parts = [self.emit("Reshape", [name, self.whole(-1)]) for name in names]
        flat = self.emit("Concat", parts, axis=0) if len(parts) > 1 else parts[0]
        if len(P) == k * w and (np.sort(P) == np.arange(k * w)).all():
            return self.emit("Gather", [flat, self._whole_array(np.argsort(P).reshape(k, w))], axis=0)
        zeros = self.graph.array(np.zeros(k * w))
        added = self.emit("ScatterND", [zeros, self._whole_array(P.reshape(-1, 1)), flat], reduction="add")
        return self.emit("Reshape", [added, self.whole(k, w)])

    def _expand(self, slot: int, a: str) -> str:
        return self.emit("Expand", [a, self._wide(*self.builder.shapes[slot])])

    def _reshape(self, slot: int, a: str) -> str:
        return self.emit("Reshape", [a, self.whole(*self.builder.shapes[slot])])

    def _whole_array(self, array: Any) -> str:
        return self.graph.array(array.astype(np.int64))


def _function(row: Primitive) -> Any:
    """The row as a function of the model."""
    from onnx import helper

    nodes = _Nodes(in_function=True)
    operands = ["a", "b"][: row.arity]
    y = COMPOSED[row](*(nodes.term(name) for name in operands))
    nodes.emit("Identity", [y.name], name="y")
    return helper.make_function(
        DOMAIN, row.name, operands, ["y"], nodes.nodes, [helper.make_opsetid("", OPSET)], doc_string=str(row.__doc__)
    )
