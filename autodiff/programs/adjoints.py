"""The two sweeps over instructions: each emits what a derivative is as further instructions of the same set."""

from __future__ import annotations

from typing import Any

from autodiff.primitives import mul
from autodiff.programs.instructions import Builder, Slot


def local(builder: Builder, slot: int, position: int) -> Any:
    """The slot of dy/d(operand) of an instruction of the kind row, by the rule of its row; None where it is 0 for ever.

    A comparison jumps, and has no slope.
    """
    row = builder.extras[slot]
    if isinstance(row, str):
        return None
    y = Slot(builder, slot)
    rule, args = (row.da, row.db)[position], builder.args[slot]
    try:
        return builder.slot(rule(y, *(builder.symbol(x) for x in args)))
    except (ArithmeticError, ValueError):  # of floats, at a corner: it happens when the program runs
        return builder.slot(rule(y, *(Slot(builder, x) for x in args)))


def depends(builder: Builder, sources: set[int]) -> list[bool]:
    """Per slot, whether it moves when the sources do."""
    found: list[bool] = []
    for slot, args in enumerate(builder.args):
        found.append(slot in sources or any(found[x] for x in args))
    return found


def reverse(builder: Builder, output: int, inputs: list[int]) -> list[int | None]:
    """The slots of d(output)/d(input), the output being a slot (1, 1); None where it does not depend on one."""
    moves = depends(builder, set(inputs))
    adjoints: dict[int, int] = {output: builder.slot(1.0)}
    parts: dict[int, list[tuple[Any, int]]] = {}
    found: dict[int, int | None] = dict.fromkeys(inputs)

    def accumulate(x: int, contribution: int) -> None:
        adjoints[x] = builder.add(adjoints.get(x), contribution)

    for slot in range(output, -1, -1):
        if not moves[slot]:
            continue
        if slot in parts:
            accumulate(slot, builder.assemble(parts.pop(slot), builder.shapes[slot]))
        upstream = adjoints.pop(slot, None)
        if upstream is None:
            continue
        if slot in found:
            found[slot] = builder.expand(upstream, builder.shapes[slot])
            continue
        kind, args, extra, shape = builder.kinds[slot], builder.args[slot], builder.extras[slot], builder.shapes[slot]
        if kind == "row":
            for position, x in enumerate(args):
                slope = local(builder, slot, position) if moves[x] else None
                if slope is not None:
                    product = builder.row(mul, upstream, slope)
                    accumulate(x, builder.reduced(product, shape, builder.shapes[x]))
        elif kind == "sum":
            accumulate(args[0], upstream)  # broadcasts
        elif kind == "dot":
            for x, other in (args, args[::-1]):
                if moves[x]:
                    accumulate(x, builder.row(mul, upstream, other))
        elif kind == "expand":
            accumulate(args[0], builder.reduced(upstream, shape, builder.shapes[args[0]]))
        elif kind == "reshape":
            accumulate(args[0], builder.reshape(builder.expand(upstream, shape), builder.shapes[args[0]]))
        elif kind == "rows":
            accumulate(args[0], builder.addrows(upstream, extra, builder.shapes[args[0]][0]))
        elif kind == "addrows":
            accumulate(args[0], builder.rows(upstream, extra))
        elif kind == "take":
            parts.setdefault(args[0], []).append((extra, builder.expand(upstream, shape)))
        elif kind == "assemble":
            full = builder.expand(upstream, shape)
            for P, x in zip(extra, args, strict=True):
                if moves[x]:
                    accumulate(x, builder.take(full, P.reshape(builder.shapes[x])))
        elif kind == "matmul":
            a, b = args
            ta, tb = extra
            g = builder.expand(upstream, shape)
            if moves[a]:  # d(AB) = dA B: G B' reaches A, and its transpose an A that was transposed
                accumulate(a, builder.matmul(b, g, tb, True) if ta else builder.matmul(g, b, False, not tb))
            if moves[b]:
                accumulate(b, builder.matmul(g, a, True, ta) if tb else builder.matmul(a, g, not ta, False))
        else:
            raise AssertionError(kind)
    return [found[x] for x in inputs]


def forward(builder: Builder, outputs: list[int], tangents: dict[int, int]) -> list[int | None]:
    """The slots of the tangents of the outputs from {input: the slot of its tangent}; None where one does not move."""
    moves = depends(builder, set(tangents))
    moving: dict[int, int] = dict(tangents)
    for slot in builder.needed(outputs):
        if not moves[slot] or slot in moving:
            continue
        kind, args, extra, shape = builder.kinds[slot], builder.args[slot], builder.extras[slot], builder.shapes[slot]

        def full(x: int, to: Any = None) -> int:
            return builder.expand(moving[x], to or builder.shapes[x])

        total: int | None = None
        if kind == "row":
            for position, x in enumerate(args):
                slope = local(builder, slot, position) if x in moving else None
                if slope is not None:
                    total = builder.add(total, builder.row(mul, moving[x], slope))
        elif kind == "sum":
            total = builder.reduced(moving[args[0]], builder.shapes[args[0]], shape)
        elif kind == "dot":
            for x, other in (args, args[::-1]):
                if x in moving:
                    product = builder.row(mul, moving[x], other)
                    total = builder.add(total, builder.reduced(product, builder.shapes[x], shape))
        elif kind == "expand":
            total = moving[args[0]]
        elif kind == "reshape":
            total = builder.reshape(full(args[0]), shape)
        elif kind == "rows":
            total = builder.rows(moving[args[0]], extra)
        elif kind == "addrows":
            total = builder.addrows(full(args[0]), extra, shape[0])
        elif kind == "take":
            total = builder.take(full(args[0]), extra)
        elif kind == "assemble":
            parts = [(P, full(x)) for P, x in zip(extra, args, strict=True) if x in moving]
            total = builder.assemble(parts, shape) if parts else None
        elif kind == "matmul":
            a, b = args
            if a in moving:
                total = builder.matmul(full(a), b, *extra)
            if b in moving:
                total = builder.add(total, builder.matmul(a, full(b), *extra))
        else:
            raise AssertionError(kind)
        if total is not None:
            moving[slot] = total
    return [moving.get(slot) for slot in outputs]
