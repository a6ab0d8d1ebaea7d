"""A tape run by the compiled interpreter: any graph, whatever its shape, entry by entry.

Entries get registers: first what has no operands, inputs, data and constants, then what is computed, in the order of
the tape. Beside a number run its local derivatives, which the same pass stores; so the reverse sweep needs no rules.
Where the processor has seen a number leave the finite ones, the tape runs again on Python's floats, which answer and
warn as the nodes do.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from autodiff.programs.instructions import COMPARISONS
from autodiff.programs.interpreter import Interpreted
from autodiff.programs.machine.loading import machine
from autodiff.programs.machine.rows import FUSED, NUMBER, opcode
from autodiff.programs.recording import DATA, Tape

KINDS = {name: number for number, name in enumerate(COMPARISONS)}
KEPT = 500_000_000  # bytes of working memory that stay between calls: new ones cost as much as the evaluation
ADD, MUL = NUMBER["add", ""], NUMBER["mul", ""]


class Scalars:
    """Value and gradient of a tape as functions of its inputs."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.machine = tape, machine()
        code = tape.code
        sources, made = np.flatnonzero(code <= DATA), np.flatnonzero(code > DATA)
        numbers = np.array([0 if row is None else opcode(row) for row in tape.rows], np.uint8)
        # what is only compared comes after the output, and stays there: it has no part in the gradient
        needed = made[: np.searchsorted(made, tape.outputs[0], "right")]
        two = tape.two_nodes()[code]
        order = self.machine.module.schedule(numbers[code[needed]], needed, tape.a, tape.b, two[needed], len(tape))
        made[: len(needed)] = needed[order]
        side = np.array([0 if row is None else {None: 0, "right": 1, "left": 2}[row.constant] for row in tape.rows])
        self.ops, side_of = numbers[code[made]], side[code[made]]
        folded = np.flatnonzero(side_of)
        compared = sorted({c for _, _, y, c, _ in tape.guards if y is None})
        self.first = len(sources) + len(folded) + len(compared)
        register = np.empty(len(tape), np.int32)
        register[sources] = np.arange(len(sources), dtype=np.int32)
        own = np.arange(self.first, self.first + len(made), dtype=np.int32)
        register[made] = own
        a = register[tape.a[made]]
        b = np.where(two[made], register[tape.b[made]], own)
        of_a, of_b = a.copy(), b.copy()
        constant = np.arange(len(sources), len(sources) + len(folded), dtype=np.int32)
        left = side_of[folded] == 2
        b[folded] = np.where(left, a[folded], constant)
        a[folded] = np.where(left, constant, a[folded])
        of_b[folded] = np.where(left, of_a[folded], own[folded])
        of_a[folded] = np.where(left, own[folded], of_a[folded])
        self.output = int(register[tape.outputs[0]])
        self._fuse(a, b)
        self.ints = np.stack([a, b, of_a, of_b])
        given = np.concatenate([tape.inputs, tape.data])
        self.places = np.where(given >= 0, register[given], -1).astype(np.int32)
        at = {c: i for i, c in enumerate(compared, len(sources) + len(folded))}
        self.guards = np.array(
            [
                (KINDS[kind], register[x], at[c] if y is None else register[y], outcome)
                for kind, x, y, c, outcome in tape.guards
            ],
            np.int64,
        ).reshape(-1, 4)
        self.constants = np.concatenate([tape.constant[sources], tape.constant[made[folded]], compared])
        self._floats = np.empty(0)
        self._lock = threading.Lock()

    def _fuse(self, a: Any, b: Any) -> None:
        """Pairs of a product and the sum that follows it become one step: the other term of the sum goes to a."""
        product = np.flatnonzero((self.ops[:-1] == MUL) & (self.ops[1:] == ADD))
        register = self.first + product
        product = product[register != self.output]
        register = self.first + product
        by_a, by_b = a[product + 1] == register, b[product + 1] == register
        a[product[by_a] + 1] = b[product[by_a] + 1]
        self.ops[product[by_a | by_b]] = FUSED

    def _memory(self, size: int) -> Any:
        """Working memory with the constants in it."""
        if len(self._floats) >= size:
            return self._floats
        floats = np.empty(size)
        floats[: len(self.constants)] = self.constants
        if floats.nbytes <= KEPT:
            self._floats = floats
        return floats

    def run(self, numbers: Any, data: Any, gradient: bool, checked: bool = True) -> tuple[float, Any] | None:
        """(value, gradient (p, 1) if asked for); None where a guard does not hold."""
        module, registers, slopes = self.machine.module, self.first + len(self.ops), None
        given = numbers if data is None else np.concatenate([numbers, data])
        with self._lock:
            floats = self._memory(2 * (registers + len(self.ops)) if gradient else registers)
            call = self.ops, self.ints, floats, self.first, self.output, self.guards, self.places, given
            if gradient:
                slopes = np.empty(numbers.shape)
                flags, broken = module.value_and_grad(*call, slopes)
            else:
                flags, broken = module.value(*call)
            value = float(floats[self.output])
        if broken and checked:
            return None
        if flags & self.machine.flags:
            return Interpreted(self.tape).run(numbers, data, gradient, checked=False)
        return value, slopes
