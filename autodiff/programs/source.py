"""From instructions to a Python function: statements in order, buffers used again, long programs cut into chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autodiff.programs.instructions import LANES, Builder
from autodiff.programs.lowering import lowered
from autodiff.programs.statements import IN_ONE_NUMBER, Writer

CHUNK = 1000  # statements in one function: what Python compiles in linear time


class Compiled:
    """The outputs of instructions as a function of inputs and of lanes: floats, or arrays that the caller may keep.

    The fast form is compiled at once, the careful form (see statements.py) when it is needed. Buffers belong to the
    function, and threads wait for one another.
    """

    def __init__(self, builder: Builder, outputs: Sequence[int]) -> None:
        self.builder, self.outputs = lowered(builder, outputs)
        self._fast, self.source, self._shapes = _function(self.builder, self.outputs, careful=False)
        self._careful: Any = None
        self._lock = threading.RLock()
        self._buffers: tuple[int, Any] = (-1, ())
        self._has_arrays = any(shape != (1, 1) for shape in self.builder.shapes)

    def __call__(self, inputs: Sequence[Any], lanes: Sequence[Any] = (), n: int = 1) -> tuple[Any, ...]:
        """The outputs; inputs: float arrays (p, 1); lanes: arrays (k, n)."""
        try:
            return self.fast(inputs, lanes, n)
        except (ArithmeticError, ValueError):
            with self._lock:
                if self._careful is None:
                    self._careful, _, _ = _function(self.builder, self.outputs, careful=True)
                found: tuple[Any, ...] = self._careful(inputs, lanes, n, self._buffers_for(n))
                return found

    def fast(self, inputs: Sequence[Any], lanes: Sequence[Any] = (), n: int = 1) -> tuple[Any, ...]:
        """The outputs, as long as no number leaves the finite ones: ArithmeticError or ValueError where one does."""
        with self._lock:
            buffers = self._buffers_for(n)
            found: tuple[Any, ...]
            if self._has_arrays:
                with np.errstate(divide="raise", over="raise", invalid="raise"):
                    found = self._fast(inputs, lanes, n, buffers)
            else:
                found = self._fast(inputs, lanes, n, buffers)
            return found

    def descend(
        self, inputs: Sequence[Any], lanes: Sequence[Any], n: int, steps: int, carried: Sequence[tuple[int, int]]
    ) -> tuple[int, Any, tuple[Any, ...], tuple[Any, ...]]:
        """Steps in a row: (how many were taken, the first output of each of them, the inputs after them, the outputs).

        carried: (output, input) pairs; the output of a step is what that input of the next one begins with. It ends
        early before a step in which a number is not finite, or the last output, the number of guards that do not hold,
        is not 0. The outputs are those of the last step, none if it ended early.
        """
        now = list(inputs)
        whole, parts, zeros = [], [], []
        for output, which in carried:
            now[which] = np.array(now[which])
            shape = self.builder.shapes[self.outputs[output]]
            zeros.append((output, np.zeros(shape[0])))
            if shape == now[which].shape != IN_ONE_NUMBER:
                whole.append((output, which))
            else:
                parts.append((output, which, shape[0]))
        history: list[Any] = []
        found: tuple[Any, ...] = ()
        vdot = np.vdot
        with self._lock, np.errstate(divide="raise", over="raise", invalid="raise"):
            buffers, run = self._buffers_for(n), self._fast
            try:
                for _ in range(steps):
                    found = run(now, lanes, n, buffers)
                    if found[-1] != 0.0:
                        break
                    # Python's own arithmetic is silent; 0 times what is not finite is nan
                    if any(vdot(found[output], zero) != 0.0 for output, zero in zeros):
                        break
                    history.append(found[0])
                    for output, which in whole:
                        now[which] = found[output]
                    for output, which, k in parts:
                        now[which][:k] = found[output]
            except (ArithmeticError, ValueError):
                pass
        taken = len(history)
        return taken, np.reshape(np.array(history, float), -1), tuple(now), found if taken == steps else ()

    def _buffers_for(self, n: int) -> Any:
        """The arrays that temporaries are written into, kept from call to call of one width."""
        if self._buffers[0] != n:
            self._buffers = n, tuple([np.empty((k, n if w == LANES else w)) for k, w in self._shapes])
        return self._buffers[1]


def _function(builder: Builder, outputs: Sequence[int], careful: bool) -> tuple[Any, str, list[Any]]:
    """(function, its source, shapes of the buffers it is given)."""
    writer = Writer(builder, careful)
    order = [slot for slot in builder.needed(outputs) if not writer.is_source(slot)]
    out, shapes = _buffers(builder, writer, order, outputs)
    chunks = [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)] or [[]]
    crossing = _crossing(builder, writer, chunks, outputs)
    sources = {x for slot in order for x in builder.args[slot]} | set(outputs)
    inputs = sorted({builder.extras[x] for x in sources if builder.kinds[x] == "input"})
    floats = sorted(
        {
            builder.extras[builder.args[slot][0]]
            for slot in order
            if builder.kinds[slot] == "take"
            and builder.kinds[builder.args[slot][0]] == "input"
            and writer.is_float(slot)
        }
    )
    laned = sorted({builder.extras[x] for x in sources if builder.kinds[x] == "lane"})
    prologue = [f"x{j} = X[{j}]" for j in inputs]
    prologue += [f"x{j}f = X[{j}].ravel().tolist()" for j in floats]
    prologue += [f"lane{j} = L[{j}]" for j in laned]
    lines: list[str] = []
    for number, chunk in enumerate(chunks):
        body = list(prologue)
        if number == 0 and len(chunks) == 1 and shapes:
            body.append("".join(f"b{j}, " for j in range(len(shapes))) + "= B")
        imported, exported = crossing[number]
        body += [f"v{slot} = V[{j}]" for slot, j in imported]
        checked: list[int] = []
        for slot in chunk:
            buffer = out.get(slot)
            name = None if buffer is None else f"b{buffer}" if len(chunks) == 1 else f"B[{buffer}]"
            body.append(writer.statement(slot, name))
            checked.append(slot)
            if len(checked) == 50 or slot == chunk[-1]:
                check = writer.check(checked)
                if check:
                    body.append(check)
                checked = []
        body += [f"V[{j}] = v{slot}" for slot, j in exported]
        if number == len(chunks) - 1:
            body.append("return (" + "".join(_returned(builder, writer, slot, out) + ", " for slot in outputs) + ")")
        lines.append(f"def chunk{number}(X, L, n, B, V):")
        lines += [f"    {line}" for line in body or ["pass"]]
    texts = "\n".join(lines)
    for piece in _pieces(lines):
        exec(compile(piece, "<program>", "exec"), writer.namespace)
    functions: list[Callable[..., Any]] = [writer.namespace[f"chunk{number}"] for number in range(len(chunks))]
    if len(functions) == 1:
        [only] = functions

        def run(X: Any, L: Any, n: int, B: Any) -> Any:
            return only(X, L, n, B, None)

        return run, texts, shapes
    size = 1 + max((j for _, exported in crossing for _, j in exported), default=0)

    def run_chunks(X: Any, L: Any, n: int, B: Any) -> Any:
        V: list[Any] = [None] * size
        found = None
        for function in functions:
            found = function(X, L, n, B, V)
        return found

    return run_chunks, texts, shapes


def _pieces(lines: list[str]) -> list[str]:
    """The text, function by function."""
    starts = [i for i, line in enumerate(lines) if line.startswith("def ")]
    return ["\n".join(lines[i:j]) for i, j in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _returned(builder: Builder, writer: Writer, slot: int, out: dict[int, int]) -> str:
    if writer.is_float(slot):
        return writer.name(slot)
    fresh = builder.kinds[slot] in ("sum", "assemble", "addrows") or slot not in out
    view = writer.is_view(slot) or writer.is_source(slot)
    return f"np.array({writer.name(slot)})" if view or not fresh else writer.name(slot)


def _crossing(
    builder: Builder, writer: Writer, chunks: list[list[int]], outputs: Sequence[int]
) -> list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    """Per chunk, [(slot, place)] that it takes from earlier ones and leaves for later ones."""
    if len(chunks) == 1:
        return [([], [])]
    chunk_of = {slot: number for number, chunk in enumerate(chunks) for slot in chunk}
    place: dict[int, int] = {}
    imported: list[dict[int, int]] = [{} for _ in chunks]
    for number, chunk in enumerate(chunks):
        wanted = [x for slot in chunk for x in builder.args[slot]]
        if number == len(chunks) - 1:
            wanted += outputs
        for x in wanted:
            if chunk_of.get(x, number) != number:
                imported[number][x] = place.setdefault(x, len(place))
    exported: list[list[tuple[int, int]]] = [[] for _ in chunks]
    for slot, j in place.items():
        exported[chunk_of[slot]].append((slot, j))
    return [(list(taken.items()), left) for taken, left in zip(imported, exported, strict=True)]


def _buffers(
    builder: Builder, writer: Writer, order: list[int], outputs: Sequence[int]
) -> tuple[dict[int, int], list[Any]]:
    """({slot: its buffer}, shapes of the buffers): one is used again as soon as nobody reads it any more."""
    root: dict[int, int] = {}
    last: dict[int, int] = {}
    for time, slot in enumerate(order):
        root[slot] = root.get(builder.args[slot][0], slot) if writer.is_view(slot) else slot
        for x in builder.args[slot]:
            if x in root:
                last[root[x]] = time
    for slot in outputs:
        if slot in root:
            last[root[slot]] = len(order)
    out: dict[int, int] = {}
    shapes: list[Any] = []
    free: dict[Any, list[int]] = {}
    kept = set(outputs)  # arrays of their own
    for time, slot in enumerate(order):
        elementwise = builder.kinds[slot] == "row"
        dying = {root[x] for x in builder.args[slot] if x in root and last[root[x]] == time}
        released = [out[x] for x in dying if x in out]
        if elementwise and all(builder.shapes[x] == builder.shapes[slot] for x in dying):
            for buffer in released:  # in place: element by element, reading before writing
                free.setdefault(shapes[buffer], []).append(buffer)
            released = []
        if writer.takes_buffer(slot) and slot not in kept:
            shape = builder.shapes[slot]
            available = free.get(shape)
            if available:
                out[slot] = available.pop()
            else:
                out[slot] = len(shapes)
                shapes.append(shape)
        for buffer in released:
            free.setdefault(shapes[buffer], []).append(buffer)
    return out, shapes
