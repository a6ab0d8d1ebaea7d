"""The text of the compiled code: one interpreter for scalars and one for lanes, with a branch for every row.

What is compiled does not depend on any program: it is compiled once and kept on disk.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from autodiff.primitives import TABLE
from autodiff.programs.machine import rows
from autodiff.programs.machine.rows import COMPARISONS, FORWARDS, FUSED, OPCODES, written

HEAD = '''"""Written by autodiff.programs.machine.writing: interpreters of recorded programs."""
import math
import numpy as np
from numba import njit
from autodiff.programs.machine import kernels

'''
INTERPRETER = 'njit(cache=True, error_model="numpy", nogil=True)'
LANE_OPS = [*FORWARDS, *COMPARISONS]
# what is more than arithmetic in lanes, after the rows: see lanes.py
MOVES = (
    "copy", "take", "rows", "addrows", "fill", "scatter", "sum_rows", "sum_lanes", "dot", "matmul", "matmul_t",
    "matmul_any",
)  # fmt: skip
LANE_NUMBER = {name: number for number, name in enumerate([*LANE_OPS, *MOVES])}


def source() -> str:
    """The whole module."""
    return "\n".join([HEAD, _values(), _locals(), REVERSE, SCHEDULE, DRIVERS, *map(_lane_kernel, LANE_OPS), _lanes()])


def digest() -> str:
    """A name for this very text, and for the kernels that it uses."""
    kernels = Path(__file__).with_name("kernels.py").read_text(encoding="utf-8")
    return hashlib.sha256((source() + kernels).encode()).hexdigest()[:16]


def _indented(lines: list[str], depth: int) -> str:
    return "\n".join("    " * depth + line for line in lines)


# --- scalars ---


def _values() -> str:
    """The forward pass over entries that follow one another: entry i is register first + i."""
    branches = []
    for number, (name, side) in enumerate(OPCODES):
        if not side:
            numbers = [str(n) for n, opcode in enumerate(OPCODES) if opcode[0] == name]
            test = f"op == {number}" if len(numbers) == 1 else f"op in ({', '.join(numbers)})"
            second = ["z = v[b[i]]"] if TABLE[name].arity == 2 else []
            branches.append((test, [*second, f"y = {FORWARDS[name]}"]))
    fused = ["y = x * v[b[i]]", "v[first + i] = y", "i += 1", "y = y + v[a[i]]"]
    branches.insert(3, (f"op == {FUSED}", fused))
    return f"""
@{INTERPRETER}
def values(ops, a, b, first, v, i, stop):
    while i < stop:
        op = ops[i]
        x = v[a[i]]
{_chain(branches)}
        v[first + i] = y
        i += 1
"""


def _locals() -> str:
    """The same with the local derivatives, which are kept."""
    branches = []
    for number, (name, side) in enumerate(OPCODES):
        lines = [f"y = {FORWARDS[name]}"]
        if TABLE[name].arity == 2:
            lines.insert(0, "z = v[b[i]]")
        for position, target in enumerate(("da", "db")[: 2 if TABLE[name].two_nodes else 1]):
            if side and side != "ab"[position]:
                lines.append(f"{target}[i] = 0.0")
                continue
            statements, expression = rows.slope(name, position)
            lines += [*statements, f"{target}[i] = {expression}"]
        if not TABLE[name].two_nodes:
            lines.append("db[i] = 0.0")
        branches.append((f"op == {number}", lines))
    fused = [
        "z = v[b[i]]", "y = x * z", "v[first + i] = y", "da[i] = z", "db[i] = x", "i += 1", "y = y + v[a[i]]",
    ]  # fmt: skip
    branches.insert(3, (f"op == {FUSED}", fused))
    return f"""
@{INTERPRETER}
def values_and_locals(ops, a, b, first, v, i, stop, da, db):
    while i < stop:
        op = ops[i]
        x = v[a[i]]
{_chain(branches)}
        v[first + i] = y
        i += 1
"""


def _chain(branches: list[tuple[str, list[str]]], depth: int = 2) -> str:
    """if ... elif ... else, the last branch without a test; the compiler makes a table of jumps of it."""
    parts = []
    for n, (test, lines) in enumerate(branches):
        head = "else:" if n == len(branches) - 1 else f"{'el' if n else ''}if {test}:"
        parts += [_indented([head], depth), _indented(lines, depth + 1)]
    return "\n".join(parts)


REVERSE = f'''
@{INTERPRETER}
def reverse(ops, a, of_a, of_b, da, db, first, adjoints, last):
    """Adds up adjoint times local derivative at the operands; an operand that is no node is the entry itself."""
    i = last
    while i >= 0:
        g = adjoints[first + i]
        if i > 0 and ops[i - 1] == {FUSED}:
            adjoints[a[i]] += g
            i -= 1
            g += adjoints[first + i]
        else:
            adjoints[of_b[i]] += g * db[i]
            adjoints[of_a[i]] += g * da[i]
            i -= 1
            continue
        adjoints[of_b[i]] += g * db[i]
        adjoints[of_a[i]] += g * da[i]
        i -= 1
'''

SCHEDULE = f'''
@{INTERPRETER}
def schedule(ops, made, a, b, two, size):
    """The first entries that are made, by level and operation: what comes next is then the same more often than not."""
    level = np.zeros(size, np.int32)
    deepest = 0
    for i in range(len(made)):
        below = level[a[made[i]]]
        if two[i]:
            below = max(below, level[b[made[i]]])
        level[made[i]] = below + 1
        deepest = max(deepest, below + 1)
    by_op = sorted_by(ops, np.arange(len(made)), 256)
    levels = np.empty(len(made), np.int32)
    for i in range(len(made)):
        levels[i] = level[made[i]]
    return sorted_by(levels, by_op, deepest + 1)


@{INTERPRETER}
def sorted_by(keys, order, number):
    """The order, sorted by the keys of its elements, whole numbers; those of one key stay as they are."""
    begin = np.zeros(number + 1, np.int64)
    for i in range(len(order)):
        begin[keys[order[i]] + 1] += 1
    for k in range(number):
        begin[k + 1] += begin[k]
    found = np.empty(len(order), np.int64)
    for i in range(len(order)):
        k = keys[order[i]]
        found[begin[k]] = order[i]
        begin[k] += 1
    return found
'''

DRIVERS = f'''
@{INTERPRETER}
def started(floats, places, numbers):
    for i in range(len(places)):
        if places[i] >= 0:
            floats[places[i]] = numbers[i, 0]


@{INTERPRETER}
def broken(guards, v):
    """Whether a guard (comparison, register, register, outcome) does not hold."""
    for i in range(len(guards)):
        kind, p, q = guards[i, 0], v[guards[i, 1]], v[guards[i, 2]]
        if kind == 0:
            holds = p < q
        elif kind == 1:
            holds = p <= q
        elif kind == 2:
            holds = p > q
        elif kind == 3:
            holds = p >= q
        elif kind == 4:
            holds = p == q
        elif kind == 5:
            holds = p != q
        else:
            holds = math.copysign(1.0, p) < 0.0
        if holds != (guards[i, 3] != 0):
            return True
    return False


@{INTERPRETER}
def value(ops, ints, floats, first, output, guards, places, numbers):
    """(flags of the processor, whether a guard does not hold)."""
    size = len(ops)
    v = floats[: first + size]
    started(v, places, numbers)
    kernels.clear_flags(-1)
    values(ops, ints[0], ints[1], first, v, 0, output - first + 1)
    flags = kernels.raised_flags(-1)
    if len(guards) == 0:
        return flags, False
    values(ops, ints[0], ints[1], first, v, max(output - first + 1, 0), size)
    return flags, broken(guards, v)


@{INTERPRETER}
def value_and_grad(ops, ints, floats, first, output, guards, places, numbers, gradient):
    """The same, and the gradient."""
    size = len(ops)
    registers = first + size
    v, adjoints = floats[:registers], floats[registers : 2 * registers]
    da, db = floats[2 * registers : 2 * registers + size], floats[2 * registers + size : 2 * registers + 2 * size]
    last = output - first
    started(v, places, numbers)
    kernels.clear_flags(-1)
    values_and_locals(ops, ints[0], ints[1], first, v, 0, last + 1, da, db)
    if len(guards):
        flags = kernels.raised_flags(-1)
        values(ops, ints[0], ints[1], first, v, max(last + 1, 0), size)
        if broken(guards, v):
            return flags, True
        kernels.clear_flags(-1)
    else:
        flags = 0
    for i in range(max(output + 1, first)):
        adjoints[i] = 0.0
    adjoints[output] = 1.0
    reverse(ops, ints[0], ints[2], ints[3], da, db, first, adjoints, last)
    for i in range(len(gradient)):
        gradient[i, 0] = adjoints[places[i]] if places[i] >= 0 else 0.0
    return flags | kernels.raised_flags(-1), False


@{INTERPRETER}
def flags_of(x, y):
    """The flags that x / y, x - x and x * x leave, one after the other."""
    kernels.clear_flags(-1)
    quotient = x / y
    divide = kernels.raised_flags(-1)
    kernels.clear_flags(-1)
    difference = quotient - quotient
    invalid = kernels.raised_flags(-1)
    kernels.clear_flags(-1)
    product = (x * 1e308) * (x * 1e308)
    over = kernels.raised_flags(-1)
    kernels.clear_flags(-1)
    third = x / 3.0
    return divide, invalid, over, kernels.raised_flags(-1), quotient + difference + product + third
'''


# --- lanes ---

FAST = ("exp", "log", "tanh")  # rows whose kernels have a form without branches
PLAIN = (
    "add", "sub", "mul", "div", "neg", "square", "reciprocal", "abs", "relu", "leaky_relu", "maximum", "minimum",
    "sign", "step", "exceeds", "sqrt", *FAST, *COMPARISONS,
)  # fmt: skip
# of which the compiler makes vector code; loops for the others are all alike, so that compiling ends soon


def _lane_kernel(name: str) -> str:
    """A row over k rows of n lanes: o = f(u, w), an operand one number per row where its lane step is 0."""
    template = COMPARISONS.get(name) or FORWARDS[name]
    two = name in COMPARISONS or TABLE[name].arity == 2
    operands = "m, k, n, d, ds, a, ar, al" + (", b, br, bl" if two else "")
    lanes: dict[str, tuple[str, ...]] = {"al": ("m[A + l]",)}
    pairs: dict[str, tuple[str, ...]] = {
        "al and bl": ("m[A + l]", "m[B + l]"),
        "al": ("m[A + l]", "m[B]"),
        "bl": ("m[A]", "m[B + l]"),
    }
    loops = (pairs if two else lanes) if name in PLAIN else {}
    lines = ["N, D, A = np.uint64(n), np.uint64(d), np.uint64(a)", *(["B = np.uint64(b)"] if two else [])]
    head = len(lines)
    for condition, texts in loops.items():
        lines.append(f"{'if' if len(lines) == head else 'elif'} {condition}:")
        numbers = {letter: text for letter, text in zip("xz", texts, strict=False) if "l" not in text}
        lines += [f"    {letter} = {text}" for letter, text in numbers.items()]
        names = [letter if letter in numbers else text for letter, text in zip("xz", texts, strict=False)]
        plain = ["for l in range(N):", f"    m[D + l] = {written(template, *names)}"]
        if name in FAST:
            fast = ["for l in range(N):", f"    m[D + l] = kernels.fast_{name}(m[A + l])"]
            test = f"if kernels.{name}_holds(m, a, n):"
            plain = [test, *("    " + line for line in fast), "else:", *("    " + line for line in plain)]
        lines += ["    " + line for line in plain]
    any_steps = ["for l in range(n):", f"    m[d + l] = {written(template, 'm[a + l * al]', 'm[b + l * bl]')}"]
    lines += ["else:", *("    " + line for line in any_steps)] if loops else any_steps
    lines += ["d += ds", "a += ar", *(["b += br"] if two else [])]
    return "\n".join(
        [
            "",
            '@njit(error_model="numpy")',
            f"def lanes_{name}({operands}):",
            "    for _ in range(k):",
            _indented(lines, 2),
            "",
        ]
    )


def _lanes() -> str:
    """The interpreter of instructions; see lanes.py for what the columns of the code are."""
    branches = []
    for number, name in enumerate(LANE_OPS):
        two = name in COMPARISONS or TABLE[name].arity == 2
        operands = "m, k, n, d, ds, a, ar, al, b, br, bl" if two else "m, k, n, d, ds, a, ar, al"
        branches.append((f"op == {number}", [f"lanes_{name}({operands})"]))
    for name in MOVES:
        arguments = "m, idx, k, n, d, ds, a, ar, al, b, br, bl, e, t"
        branches.append((f"op == {LANE_NUMBER[name]}", [f"kernels.{name}({arguments})"]))
    return f"""
@njit
def placed(at, mode, lane, base):
    return at + (lane if mode == 1 else base if mode == 2 else 0)


@{INTERPRETER}
def run(segments, code, idx, m, steps, moves, watched, history):
    \"\"\"(how many steps were taken, the flags of the last one).

    A step runs the program, keeps the number at `watched[0]` in the history, and moves numbers: the rows of moves are
    (from, to, how many). It is the last one if the processor raised a flag of watched[2], or a number that must be 0,
    at watched[1] if that is no place before the first, is not; then nothing was moved.
    \"\"\"
    for step in range(steps):
        kernels.clear_flags(-1)
        for s in range(len(segments)):
            first, last, begin, end, base = (
                segments[s, 0], segments[s, 1], segments[s, 2], segments[s, 3], segments[s, 4]
            )
            block, sums, size, target = segments[s, 5], segments[s, 6], segments[s, 7], segments[s, 8]
            for i in range(size):
                m[base + sums + i] = 0.0
            for lane in range(first, last, block):
                lanes = min(block, last - lane)
                for i in range(begin, end):
                    op = code[i, 0]
                    k, n, e, t = code[i, 1], code[i, 2], code[i, 14], code[i, 15]
                    if n < 0:
                        n = lanes
                    d, ds = placed(code[i, 3], code[i, 4], lane, base), code[i, 5]
                    a, ar, al = placed(code[i, 6], code[i, 7], lane, base), code[i, 8], code[i, 9]
                    b, br, bl = placed(code[i, 10], code[i, 11], lane, base), code[i, 12], code[i, 13]
{_chain(branches, 5)}
            for i in range(size):
                m[target + i] = m[base + sums + i]
        flags = kernels.raised_flags(-1)
        if flags & watched[2] or (watched[1] >= 0 and m[watched[1]] != 0.0):
            return step, flags
        history[step] = m[watched[0]]
        for i in range(len(moves)):
            source, target, size = moves[i, 0], moves[i, 1], moves[i, 2]
            for j in range(size):
                m[target + j] = m[source + j]
    return steps, 0
"""
