"""Instructions run by the compiled interpreter, wide ones in blocks of lanes that stay in the cache.

Where there are many lanes, threads share the blocks: as many as numba has (NUMBA_NUM_THREADS, numba.set_num_threads).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from autodiff.programs.instructions import Builder
from autodiff.programs.lowering import lowered
from autodiff.programs.machine.loading import machine
from autodiff.programs.machine.plans import BLOCK, Plan, roomy
from autodiff.programs.machine.writing import LANE_NUMBER
from autodiff.programs.source import Compiled

MOST_PLANS = 4  # numbers of lanes with a plan of their own; others share
NO_MOVES = np.empty((0, 3), np.int64)


class Lanes:
    """The outputs of instructions as a function of inputs and of lanes; the same as source.Compiled, compiled once.

    Where the processor has seen a number leave the finite ones, the careful form of that runs instead.
    """

    def __init__(self, builder: Builder, outputs: Sequence[int]) -> None:
        self.given = builder, list(outputs)
        self.builder, self.outputs = lowered(builder, outputs)
        self.machine = machine()
        self._plans: dict[tuple[int, int], Plan] = {}  # by the numbers of lanes and threads
        self._careful: Compiled | None = None
        self._lock = threading.RLock()

    def __call__(self, inputs: Sequence[Any], lanes: Sequence[Any] = (), n: int = 1) -> tuple[Any, ...]:
        """The outputs; inputs: float arrays (p, 1); lanes: arrays (k, n)."""
        found, is_finite = self._run(inputs, lanes, n)
        if is_finite:
            return found
        with self._lock:
            if self._careful is None:
                self._careful = Compiled(*self.given)
        return self._careful(inputs, lanes, n)

    def fast(self, inputs: Sequence[Any], lanes: Sequence[Any] = (), n: int = 1) -> tuple[Any, ...]:
        """The outputs, as long as no number leaves the finite ones: ArithmeticError where one does."""
        found, is_finite = self._run(inputs, lanes, n)
        if not is_finite:
            raise ArithmeticError
        return found

    def _run(self, inputs: Sequence[Any], lanes: Sequence[Any], n: int) -> tuple[tuple[Any, ...], bool]:
        with self._lock:
            plan = self._plan(n)
            plan.fill(inputs, lanes, n)
            done = self._steps(plan, 1, NO_MOVES, np.array([0, -1, self.machine.flags]), plan.history)
            return (plan.read(), True) if done else ((), False)

    def descend(
        self, inputs: Sequence[Any], lanes: Sequence[Any], n: int, steps: int, carried: Sequence[tuple[int, int]]
    ) -> tuple[int, Any, tuple[Any, ...], tuple[Any, ...]]:
        """Steps at once: (how many were taken, the first output of each of them, the inputs after them, the outputs).

        carried: (output, input) pairs; the output of a step is what that input of the next one begins with. It ends
        early before a step in which a number is not finite, or the last output, the number of guards that do not hold,
        is not 0. The outputs are those of the last step, none if it ended early.
        """
        with self._lock:
            plan = self._plan(n)
            plan.fill(inputs, lanes, n)
            begins = {which: begin for which, begin, _ in plan.inputs}
            outputs = [(which, *plan.outputs[output][1:]) for output, which in carried if which in begins]
            moves = [(at, begins[which], k * w) for which, at, k, w in outputs]
            watched = np.array([plan.outputs[0][1], plan.outputs[-1][1], self.machine.flags])
            history = np.empty(steps)
            done = self._steps(plan, steps, np.array(moves, np.int64).reshape(-1, 3), watched, history)
            last = list(inputs)
            for which, begin, end in plan.inputs:
                last[which] = plan.memory[begin:end].reshape(-1, 1).copy()
            return done, history[:done], tuple(last), plan.read() if done == steps else ()

    def _steps(self, plan: Plan, steps: int, moves: Any, watched: Any, history: Any) -> int:
        """How many steps were taken, as `run` of the compiled code does."""
        run = self.machine.module.run
        if plan.threads == 1:
            done, _ = run(*plan.program, steps, moves, watched, history)
            return int(done)
        output, broken, flags = watched.tolist()
        memory = plan.memory
        for step in range(steps):
            for segment in plan.segments:
                pieces = plan.pieces(segment)
                calls = [
                    (piece.reshape(1, -1), *plan.program[1:], 1, NO_MOVES, np.array([0, -1, flags]), np.empty(1))
                    for piece in pieces
                ]
                of_pieces = (
                    list(_pool(plan.threads, os.getpid()).map(run, *zip(*calls, strict=True)))
                    if len(calls) > 1
                    else [run(*calls[0])]
                )
                if not all(done for done, _ in of_pieces):
                    return step
                if len(calls) > 1:
                    size, target = segment[7], segment[8]
                    memory[target : target + size] = sum(memory[at : at + size] for at in pieces[:, 8])
            if broken >= 0 and memory[broken] != 0.0:
                return step
            history[step] = memory[output]
            for source, target, size in moves:
                memory[target : target + size] = memory[source : source + size]
        return steps

    def _plan(self, n: int) -> Plan:
        threads = self.machine.threads()
        plan = self._plans.get((n, threads))
        if plan is None and len(self._plans) >= MOST_PLANS:  # they vary, as of samples that go one way of several
            n = roomy(self.builder, n)
            plan = self._plans.get((n, threads))
        if plan is None:
            plan = self._plans[n, threads] = Plan(self.builder, self.outputs, n, threads)
        return plan

    @property
    def source(self) -> str:
        """What runs, instruction by instruction."""
        plan = Plan(self.builder, self.outputs, BLOCK)
        names = {number: name for name, number in LANE_NUMBER.items()}
        lines = [f"{len(plan.segments)} stages, {len(plan.code)} instructions"]
        for _, width, begin, end, *_ in plan.segments.tolist():
            lines.append(f"over {width} lanes:" if width > 1 else "whole:")
            lines += [f"  {names[op]} {k}×{n if n > 0 else 'lanes'}" for op, k, n in plan.code[begin:end, :3].tolist()]
        return "\n".join(lines)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """The threads of this process: one that was forked has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="chainrule")
