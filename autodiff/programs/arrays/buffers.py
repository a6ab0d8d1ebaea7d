"""Memory for the slots of a program, used again when the last reader is done, and the function that runs it.

A slot whose memory is there before the call (a buffer, a constant, a view of either) is an array that the generated
function names; one whose memory comes with the call (an input, a gradient that is handed out, what NumPy allocates) is
a local variable, and so are views of it.
"""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np

from autodiff.programs.arrays.lowering import FILLS, GUARDS, VIEWS, Slot, Statement, Statements

ALIGNED = 64  # bytes


class Pool:
    """Blocks of memory; the smallest free one that is large enough is taken, if it is not twice as large."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []
        self.free: list[tuple[int, int]] = []  # (bytes, block), sorted
        self.bytes = 0

    def take(self, shape: tuple[int, ...], dtype: Any) -> tuple[Any, int]:
        """(an array, its block)."""
        wanted = int(np.prod(shape)) * dtype.itemsize
        at = bisect.bisect_left(self.free, (wanted, -1))
        if at < len(self.free) and self.free[at][0] <= 2 * wanted + ALIGNED:
            _, block = self.free.pop(at)
        else:
            size = -(-max(wanted, 1) // ALIGNED) * ALIGNED
            memory = np.empty(size + ALIGNED, np.uint8)
            start = -memory.ctypes.data % ALIGNED
            self.blocks.append(memory[start : start + size])
            block = len(self.blocks) - 1
            self.bytes += size
        return self.blocks[block][:wanted].view(dtype).reshape(shape), block

    def give(self, block: int) -> None:
        """The block is free again."""
        bisect.insort(self.free, (self.blocks[block].size, block))


class Executable:
    """A program in its memory: run(inputs, targets) -> the outputs, or None where a guard does not hold.

    The first `values` outputs are returned as numbers or fresh arrays; the others are written into the targets, or
    into fresh arrays where a target is None.
    """

    def __init__(self, statements: Statements, values: int, inputs: int, last: bool = False) -> None:
        self.nowhere = [None] * (len(statements.outputs) - values)
        self.last = last  # whether targets are written when all else is done
        self.pool = Pool()
        self.things: dict[str, Any] = {"empty": np.empty, "errstate": np.errstate}
        self.names: dict[int, str] = {}
        self.static: set[int] = set()  # slots that are arrays before the call
        self._constants: dict[int, str] = {}
        self._kept: list[Any] = []
        lines = self._lines(statements, values, inputs)
        self.source = "def run(inputs, targets):\n" + "\n".join(f"    {line}" for line in lines) + "\n"
        exec(compile(self.source, "<a program of arrays>", "exec"), self.things)
        self.run = self.things["run"]
        self.bytes = self.pool.bytes

    def _lines(self, statements: Statements, values: int, inputs: int) -> list[str]:
        lines = []
        if statements.inputs:
            for number, slot in statements.inputs.items():
                self.names[slot.number] = f"x{number}"
            lines.append("".join(f"x{i}, " for i in range(inputs)) + "= inputs")
        last = self._last_uses(statements)
        handed = {} if self.last else self._handed_out(statements, values)
        taken: dict[int, int] = {}  # root -> block
        for number, j in handed.items():
            slot = statements.slots[number]
            self.names[number] = f"g{j}"
            lines.append(self._target(j, slot.shape, slot.dtype))
        for at, statement in enumerate(statements.list):
            target = statement.target
            if target is not None and target.number not in last and target.number not in handed:
                continue  # nobody reads it
            lines += self._line(statement, at, last, taken)
            for slot in [*statement.slots(), *([] if target is None else [target])]:
                for number in slot.roots:
                    if last.get(number, -1) <= at and number in taken:
                        self.pool.give(taken.pop(number))
        return lines + self._returned(statements, values, handed)

    @staticmethod
    def _last_uses(statements: Statements) -> dict[int, int]:
        """{slot: the last statement that reads it, or what may share its memory}; not of those that nobody reads."""
        last: dict[int, int] = {}
        end = len(statements.list)

        def read(slot: Slot, at: int) -> None:
            for number in (slot.number, *slot.roots):
                last[number] = max(at, last.get(number, -1))

        for output in statements.outputs:
            if type(output) is Slot:
                read(output, end)
        for at in range(end - 1, -1, -1):
            statement = statements.list[at]
            target = statement.target
            if statement.kind == GUARDS or (target is not None and target.number in last):
                for slot in statement.slots():
                    read(slot, at)
        return last

    @staticmethod
    def _handed_out(statements: Statements, values: int) -> dict[int, int]:
        """{slot: which output} of the outputs that a statement may write into the caller's memory."""
        filled = {s.target.number for s in statements.list if s.kind == FILLS and s.target is not None}
        first = {y.number for y in statements.outputs[:values] if type(y) is Slot}
        found: dict[int, int] = {}
        for j, output in enumerate(statements.outputs[values:]):
            if type(output) is Slot and output.number in filled and output.number not in {*found, *first}:
                found[output.number] = j
        return found

    def _line(self, statement: Statement, at: int, last: dict[int, int], taken: dict[int, int]) -> list[str]:
        target = statement.target
        if statement.kind == VIEWS and (type(statement.args[0]) is not Slot or statement.args[0].number in self.static):
            assert target is not None
            base = self.things[self._written(statement.args[0])]
            made = eval(_expression(statement.text, statement.things), {"base": base, **statement.things})
            self._name(target, made)
            return []
        if statement.kind == FILLS and target is not None and target.number not in self.names:
            heir = self._heir(statement, at, last, taken)
            if heir is None:
                array, taken[target.number] = self.pool.take(target.shape, target.dtype)
            else:
                array, taken[target.number] = self.things[self.names[heir.number]], taken.pop(heir.number)
            self._name(target, array)
        if target is not None and target.number not in self.names:
            self.names[target.number] = f"v{target.number}"
        fields = {key: self._thing(x) for key, x in statement.things.items()}
        places = [self._written(x) for x in statement.args]
        fields["arguments"] = ", ".join(places)
        if target is not None:
            fields["out"] = self.names[target.number]
        text = statement.text.format(*places, **fields)
        if statement.kind == GUARDS:
            return [text]
        if statement.kind != FILLS:
            text = f"{self.names[target.number]} = {text}"  # type: ignore[union-attr]
        return [f"with {self._errors(statement.errors)}: {text}" if statement.errors else text]

    def _errors(self, wanted: dict[str, str]) -> str:
        return f"errstate({', '.join(f'{kind}={how!r}' for kind, how in wanted.items())})"

    def _heir(self, statement: Statement, at: int, last: dict[int, int], taken: dict[int, int]) -> Slot | None:
        """An operand whose memory the target can take over: read for the last time, and of the same kind."""
        target = statement.target
        assert target is not None
        for i in statement.in_place:
            x = statement.args[i]
            if type(x) is not Slot or x.root is not x or x.number not in taken or last[x.number] > at:
                continue
            if x.shape != target.shape or x.dtype != target.dtype:
                continue
            if all(y is x or x.number not in y.roots for y in statement.slots()):
                return x
        return None

    def _name(self, slot: Slot, array: Any) -> None:
        name = f"b{slot.number}"
        self.names[slot.number], self.things[name] = name, array
        self.static.add(slot.number)

    def _thing(self, thing: Any) -> str:
        """The name of something that the source mentions; what prints short is written as it is."""
        if thing is None or type(thing) in (bool, int) or (type(thing) is tuple and all(type(n) is int for n in thing)):
            return repr(thing)
        if type(thing) is float and thing - thing == 0.0:
            return repr(thing)
        if id(thing) not in self._constants:
            name = getattr(thing, "__name__", "k")
            name = f"{name if name.isidentifier() else 'k'}_{len(self._constants)}"
            self._constants[id(thing)], self.things[name] = name, thing
            self._kept.append(thing)
        return self._constants[id(thing)]

    def _written(self, x: Any) -> str:
        return self.names[x.number] if type(x) is Slot else self._thing(x)

    def _target(self, j: int, shape: tuple[int, ...], dtype: Any) -> str:
        return f"g{j} = empty({shape}, {self._thing(dtype)}) if targets[{j}] is None else targets[{j}]"

    def _returned(self, statements: Statements, values: int, handed: dict[int, int]) -> list[str]:
        lines, parts = [], []
        copy = self._thing(np.copyto)
        for j, output in enumerate(statements.outputs):
            name = self._written(output)
            if j < values:
                parts.append(f"{name}.item()" if np.size(output) == 1 and np.ndim(output) == 0 else f"{name}.copy()")
                continue
            own = j - values
            if type(output) is not Slot or handed.get(output.number) != own:
                lines.append(self._target(own, tuple(output.shape), output.dtype))
                lines.append(f"{copy}(g{own}, {name})")
            parts.append(f"g{own}")
        return [*lines, f"return {''.join(part + ', ' for part in parts) or '()'}"]


def _expression(text: str, things: dict[str, Any]) -> str:
    return text.format("base", **{key: key for key in things})
