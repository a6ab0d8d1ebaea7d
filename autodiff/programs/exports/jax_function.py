"""A program as a function for JAX, in float64: to jit, to differentiate, to vectorise, and to shard.

The function computes the value only, and JAX differentiates it, by the rules of the table. The arrays of a batch may be
sharded over devices by their first axis, with JAX's own sharding; sums over samples then run across devices.

Guards: where the numbers are at hand, a comparison that comes out differently than when the program was recorded raises
ValueError. Inside of jit nothing can raise, and value and gradient are nan.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from autodiff.programs.exports.signature import LANES, WRONG_BRANCH, Exported, Leaf, Picked
from autodiff.programs.instructions import LANES as WIDTH
from autodiff.programs.instructions import Builder
from autodiff.programs.raising import GIVEN, NUMBERS

# Instructions from which on a warning comes. Value and gradient of a random graph of tanh, exp and products compiled in
# 3 s for 480 instructions and in 34 s for 1,550, on one core; a chain of 3,000 products and sums in 0.3 s.
LONG = 1000


def jax_function(program: Exported) -> Callable[..., Any]:
    """The value as a function of JAX arrays; ImportError without JAX.

    It is refused by none of JAX's transformations, and raises RuntimeError where JAX is set to float32.
    """
    try:
        import jax
    except ImportError as error:
        raise ImportError('a function for JAX needs JAX: pip install "chainrule[jax]"') from error
    signature = program.signature
    names = ["losses" if signature.reduction is None else "value", *(["broken"] if program.guarded else [])]
    builder, slots = program.instructions(*names)
    order = builder.needed(slots)
    for slot in order:
        if builder.kinds[slot] == "row":
            _function_of(builder.extras[slot])  # complains now of what it cannot be
    steps = sum(builder.kinds[slot] not in ("number", "data", "input", "lane", "count", "take") for slot in order)
    if steps > LONG:
        warnings.warn(
            f"the program has {steps} instructions, and the time XLA takes to compile grows faster than their number: "
            f"half a minute for 1,500 with many functions in them. Write what repeats as a batch, with "
            "replay(f, over=...), or stay with the program itself, which needs no compiler",
            stacklevel=3,
        )

    def function(*values: Any) -> Any:
        if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            raise RuntimeError(
                "the program computes in float64, and JAX is set to float32: call "
                'jax.config.update("jax_enable_x64", True) first'
            )
        return _Evaluation(program, builder, order, values).result(slots)

    function.__name__ = function.__qualname__ = "program"
    function.__doc__ = f"{program.title}\n\nThe arguments: {', '.join(signature.names)}."
    return function


def _function_of(row: Any) -> Callable[..., Any]:
    from autodiff.programs.exports.jax_rows import compare, jax_row

    return (lambda a, b: compare(row, a, b)) if isinstance(row, str) else jax_row(row)


class _Evaluation:
    """One run of the instructions on JAX arrays; slots of one number are scalars."""

    def __init__(self, program: Exported, builder: Builder, order: list[int], values: Any) -> None:
        import jax.numpy as jnp

        self.jnp, self.builder, self.signature = jnp, builder, program.signature
        leaves = self.signature.leaves
        arrays = [jnp.asarray(x, dtype=jnp.float64) for x in self.signature.matched(values)]
        self.n = self.signature.check([array.shape for array in arrays])
        arrays = _on_one_mesh(arrays)
        self.array_of = {id(leaf): array for leaf, array in zip(leaves, arrays, strict=True)}
        self.columns = {column: self.signature.of_column(column) for column in (NUMBERS, GIVEN, LANES)}
        if self.signature.captured:
            numbers = jnp.asarray([node.data for node in self.signature.captured], dtype=jnp.float64)
            begin = sum(leaf.size for leaf in self.columns[NUMBERS])
            leaf = Leaf("captured", "captured", numbers.shape, NUMBERS, begin)
            self.columns[NUMBERS].append(leaf)
            self.array_of[id(leaf)] = numbers
        self.flat: dict[int, Any] = {}
        self.values: dict[int, Any] = {}
        for slot in order:
            kind = builder.kinds[slot]
            if kind != "input":  # read where something is taken from it
                self.values[slot] = getattr(self, "_" + kind)(slot, *(self._of(x) for x in builder.args[slot]))

    def result(self, slots: list[int]) -> Any:
        """The value, after the guards."""
        import jax

        jnp, signature = self.jnp, self.signature
        value = self._of(slots[0])
        if signature.reduction is None:
            value = jnp.broadcast_to(value, (1, self.n)).reshape(self.n)
        elif signature.reduction == "mean":
            value = value / self.n
        if len(slots) > 1:
            wrong = jnp.broadcast_to(self._of(slots[1]) != 0.0, (1, self.n)).reshape(self.n)
            if signature.reduction is not None:
                wrong = wrong.any()
            try:
                if bool(wrong.any()):
                    raise ValueError(WRONG_BRANCH)
            except jax.errors.TracerBoolConversionError:
                value = value * jnp.where(wrong, jnp.nan, 1.0)  # a factor, so that the gradient is nan too
        return value

    def _of(self, slot: int) -> Any:
        if self.builder.kinds[slot] == "input":
            column = self._column(self.builder.extras[slot])
            return column.reshape(()) if self.builder.shapes[slot] == (1, 1) else column.reshape(-1, 1)
        return self.values[slot]

    def _column(self, column: int) -> Any:
        if column not in self.flat:
            parts = [self.array_of[id(leaf)].reshape(-1) for leaf in self.columns[column]]
            self.flat[column] = parts[0] if len(parts) == 1 else self.jnp.concatenate([*parts, np.empty(0)])
        return self.flat[column]

    def _shape(self, slot: int) -> tuple[int, int]:
        k, w = self.builder.shapes[slot]
        return k, self.n if w == WIDTH else w

    def _shaped(self, slot: int, x: Any) -> Any:
        shape = self._shape(slot)
        return x.reshape(()) if shape == (1, 1) and self.builder.shapes[slot][1] != WIDTH else x.reshape(shape)

    def _number(self, slot: int) -> Any:
        return self.jnp.asarray(self.builder.extras[slot], dtype=self.jnp.float64)

    def _data(self, slot: int) -> Any:
        return self.jnp.asarray(self.builder.extras[slot], dtype=self.jnp.float64)

    def _count(self, slot: int) -> Any:
        return self.jnp.asarray(float(self.n))

    def _lane(self, slot: int) -> Any:
        rows = []
        for leaf in self.columns[LANES]:
            array = self.array_of[id(leaf)]
            if leaf.batch:
                rows.append(array.reshape(self.n, leaf.size).T)
            else:
                rows.append(self.jnp.broadcast_to(array.reshape(leaf.size, 1), (leaf.size, self.n)))
        return rows[0] if len(rows) == 1 else self.jnp.concatenate(rows)

    def _row(self, slot: int, *args: Any) -> Any:
        return _function_of(self.builder.extras[slot])(*args)

    def _sum(self, slot: int, a: Any) -> Any:
        return self._shaped(slot, a.sum(self.builder.extras[slot], keepdims=True))

    def _dot(self, slot: int, a: Any, b: Any) -> Any:
        return self._shaped(slot, (a * b).sum(1, keepdims=True))

    def _matmul(self, slot: int, a: Any, b: Any) -> Any:
        ta, tb = self.builder.extras[slot]
        return self._shaped(slot, self.jnp.matmul(a.T if ta else a, b.T if tb else b))

    def _rows(self, slot: int, a: Any) -> Any:
        R = self.builder.extras[slot]
        picked = Picked(R.reshape(-1, 1))
        return self._shaped(slot, a[_cut(picked)] if picked.kind == "range" else a[R])

    def _addrows(self, slot: int, a: Any) -> Any:
        R, (k, w) = self.builder.extras[slot], self._shape(slot)
        a = a.reshape(len(R), w)
        t = len(R) // k
        if t * k == len(R) and (np.repeat(np.arange(k), t) == R).all():
            return a.reshape(k, t, w).sum(1)
        return self.jnp.zeros((k, w)).at[R].add(a)

    def _take(self, slot: int, a: Any) -> Any:
        P, [x] = self.builder.extras[slot], self.builder.args[slot]
        picked, begin, flat = Picked(P), 0, a.reshape(-1)
        if self.builder.kinds[x] == "input":
            leaf = picked.leaf(self.columns[self.builder.extras[x]])
            if leaf is not None:
                flat, begin = self.array_of[id(leaf)].reshape(-1), leaf.begin
        if picked.kind == "any":
            return self._shaped(slot, flat[P])
        block = flat[_cut(picked, begin)]
        return self._shaped(slot, block.reshape(P.shape[::-1]).T if picked.kind == "transposed" else block)

    def _assemble(self, slot: int, *args: Any) -> Any:
        k, w = self.builder.shapes[slot]
        P = np.concatenate([each.ravel() for each in self.builder.extras[slot]])
        flat = self.jnp.concatenate([a.reshape(-1) for a in args])
        if len(P) == k * w and (np.sort(P) == np.arange(k * w)).all():
            return self._shaped(slot, flat if (np.arange(k * w) == P).all() else flat[np.argsort(P)])
        return self._shaped(slot, self.jnp.zeros(k * w).at[P].add(flat))

    def _expand(self, slot: int, a: Any) -> Any:
        return self.jnp.broadcast_to(a, self._shape(slot))

    def _reshape(self, slot: int, a: Any) -> Any:
        return self._shaped(slot, a)


def _on_one_mesh(arrays: list[Any]) -> list[Any]:
    """The arrays, those on no mesh replicated on the mesh of explicit axes that another one is sharded over.

    Otherwise JAX would ask how to shard the gradient by a parameter, a product over the samples.
    """
    jax: Any = importlib.import_module("jax")
    if not hasattr(jax, "typeof"):
        return arrays  # releases without explicit axes
    shardings = [getattr(jax.typeof(array), "sharding", None) for array in arrays]
    meshes = [s.mesh for s in shardings if s is not None and getattr(s.mesh, "explicit_axes", None)]
    if not meshes:
        return arrays
    replicated = jax.sharding.NamedSharding(meshes[0], jax.sharding.PartitionSpec())
    return [
        jax.sharding.reshard(array, replicated) if s is None or s.mesh.empty else array
        for array, s in zip(arrays, shardings, strict=True)
    ]


def _cut(picked: Picked, begin: int = 0) -> slice:
    return slice(picked.start - begin, picked.stop - begin, picked.step)
