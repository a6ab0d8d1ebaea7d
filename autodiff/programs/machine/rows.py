"""The rows of the table as text of compiled code: their forwards, and their local derivatives by the table's own rules.

A forward is a formula of x, the first operand, and z, the second, or a function of kernels.py. A rule is run on the
symbols of the instructions, and what it emits is written down, so that no derivative is written twice.
"""

from __future__ import annotations

import math
from typing import Any

from autodiff.primitives import TABLE, Primitive
from autodiff.programs.instructions import Builder, Slot

FORWARDS: dict[str, str] = {
    "add": "x + z", "sub": "x - z", "mul": "x * z", "div": "x / z", "neg": "-x", "square": "x * x",
    "reciprocal": "1.0 / x", "abs": "abs(x)", "alias": "x",
    "relu": "0.0 if x <= 0.0 else x", "leaky_relu": "0.01 * x if x <= 0.0 else x",
    "maximum": "x if x >= z or x != x else z", "minimum": "x if x <= z or x != x else z",
    "sign": "1.0 if x > 0.0 else -1.0 if x < 0.0 else x + 0.0",
    "step": "1.0 if x > 0.0 else 0.0 if x <= 0.0 else x",
    "exceeds": "1.0 if x > z else 0.5 if x == z else 0.0 if x < z else math.nan",
    "floor": "np.floor(x)", "ceil": "np.ceil(x)", "round": "np.rint(x)",
    "floordiv": "kernels.floordiv(x, z)", "mod": "np.remainder(x, z)",
    "sqrt": "math.sqrt(x)", "cbrt": "kernels.cbrt(x)", "hypot": "math.hypot(x, z)", "pow": "math.pow(x, z)",
    "exp": "math.exp(x)", "expm1": "math.expm1(x)", "exp2": "kernels.c_exp2(x)",
    "log": "math.log(x)", "log1p": "math.log1p(x)", "log2": "math.log2(x)", "log10": "math.log10(x)",
    "sin": "math.sin(x)", "cos": "math.cos(x)", "tan": "math.tan(x)",
    "arcsin": "math.asin(x)", "arccos": "math.acos(x)", "arctan": "math.atan(x)", "arctan2": "math.atan2(x, z)",
    "sinh": "math.sinh(x)", "cosh": "math.cosh(x)", "tanh": "math.tanh(x)",
    "arcsinh": "math.asinh(x)", "arccosh": "math.acosh(x)", "arctanh": "math.atanh(x)",
    "erf": "math.erf(x)", "erfc": "math.erfc(x)",
    "sinc": "kernels.sinc(x)", "sinc_slope": "kernels.sinc_slope(x)", "sigmoid": "kernels.sigmoid(x)",
    "softplus": "kernels.softplus(x)", "logsigmoid": "-kernels.softplus(-x)", "logaddexp": "kernels.logaddexp(x, z)",
    "elu": "kernels.elu(x)", "selu": "kernels.selu(x)", "gelu": "kernels.gelu(x)", "silu": "kernels.silu(x)",
}  # fmt: skip
COMPARISONS: dict[str, str] = {
    "lt": "1.0 if x < z else 0.0", "le": "1.0 if x <= z else 0.0", "gt": "1.0 if x > z else 0.0",
    "ge": "1.0 if x >= z else 0.0", "eq": "1.0 if x == z else 0.0", "ne": "1.0 if x != z else 0.0",
    "signbit": "1.0 if math.copysign(1.0, x) < 0.0 else 0.0",
}  # fmt: skip

# Opcodes: (row, "") has local derivatives by all of its operands, (row, "a") by the first and (row, "b") by the second
# alone, where the other is a constant, whose derivative may not even exist.
SIDES = [(row.name, side) for row in TABLE.values() if row.two_nodes for side in "ab"]
OPCODES: list[tuple[str, str]] = [
    *((name, "") for name in FORWARDS),
    *((name, side) for name, side in SIDES if name in FORWARDS and name not in ("add", "sub", "mul")),
]
NUMBER: dict[tuple[str, str], int] = {opcode: number for number, opcode in enumerate(OPCODES)}
FUSED = len(OPCODES)  # a product and the sum that follows it


def opcode(row: Primitive) -> int | None:
    """The number of a row of a tape, folded or not; None for a row that was added to the table by a user."""
    source = row.source
    if TABLE.get(source.name) is not source or source.name not in FORWARDS:
        return None
    side = {None: "", "right": "a", "left": "b"}[row.constant]
    return NUMBER.get((source.name, side), NUMBER[source.name, ""])


def written(template: str, x: str, z: str = "") -> str:
    """A formula of x and z with other operands."""
    marked = template
    for letter, operand in (("x", "\0"), ("z", "\1")):
        marked = _replaced(marked, letter, operand)
    return marked.replace("\0", x).replace("\1", z)


def _replaced(text: str, letter: str, mark: str) -> str:
    """The text with a letter replaced where it stands alone."""
    out = []
    for i, c in enumerate(text):
        alone = not (text[i - 1 : i].isalnum() or text[i + 1 : i + 2].isalnum() or text[i - 1 : i] == "_")
        out.append(mark if c == letter and alone else c)
    return "".join(out)


def slope(name: str, position: int) -> tuple[list[str], str]:
    """(statements, expression) of the local derivative by operand 0 or 1, in x, z and the result y."""
    row, builder = TABLE[name], Builder()
    names = {builder.emit("input", (), which, (1, 1)): which for which in ("y", "x", "z")}
    y, x, z = (Slot(builder, slot) for slot in names)
    rule = (row.da, row.db)[position]
    result = builder.slot(rule(y, x) if row.arity == 1 else rule(y, x, z))
    lines = []
    for slot in builder.needed([result]):
        kind, extra = builder.kinds[slot], builder.extras[slot]
        if kind == "number":
            names[slot] = repr(extra) if math.isfinite(extra) else f"math.{extra}"
            if extra < 0.0:
                names[slot] = f"({names[slot]})"
        elif kind == "row":
            template = COMPARISONS[extra] if isinstance(extra, str) else FORWARDS[extra.name]
            names[slot] = f"{'da' if position == 0 else 'db'}{slot}"
            lines.append(f"{names[slot]} = {written(template, *(names[arg] for arg in builder.args[slot]))}")
    return lines, names[result]


def is_known(row: Any) -> bool:
    """Whether compiled code has this row, or comparison."""
    return row in COMPARISONS if isinstance(row, str) else opcode(row) is not None
