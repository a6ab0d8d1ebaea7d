"""A program as text: one line per instruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.programs.instructions import LANES, Builder

MAX_INPUTS = 6  # named in the first line, and among the elements that an instruction takes
MAX_NUMBERS = 8  # of rows or elements that are written out


def listing(builder: Builder, outputs: Sequence[int], names: Sequence[str], back_end: str) -> str:
    """The instructions that lead to the outputs, in order, with the shape of what is no single number."""
    called: dict[int, str] = {}
    lines: list[str] = []
    for slot in builder.needed(outputs):
        kind, extra = builder.kinds[slot], builder.extras[slot]
        args = [called[x] for x in builder.args[slot]]
        if kind == "number":
            called[slot] = f"{extra:g}"
        elif kind == "input":
            called[slot] = ("inputs" if len(names) > 1 else names[0], "direction", "given")[extra]
        elif kind == "lane":
            called[slot] = f"batch{extra}"
        elif kind == "count":
            called[slot] = "n"
        elif kind == "take" and builder.shapes[slot] == (1, 1) and args == ["inputs"]:
            called[slot] = names[int(extra[0, 0])]
        elif kind == "data":
            called[slot] = f"data({_shape(builder, slot)})"
        else:
            called[slot] = f"v{len(lines)}"
            if kind == "take" and args == ["inputs"]:
                text = _some([names[i] for i in extra.ravel()], MAX_INPUTS)
            else:
                text = _operation(kind, extra, args)
            lines.append(f"  {called[slot]}{_shaped(builder, slot)} = {text}")
    title = (
        f"program of {_some(names, MAX_INPUTS)}: {len(lines)} instruction{'' if len(lines) == 1 else 's'}, {back_end}"
    )
    return "\n".join([title, *lines, "  return " + ", ".join(called[slot] for slot in outputs)])


def _shape(builder: Builder, slot: int) -> str:
    k, w = builder.shapes[slot]
    return f"{k}×{'n' if w == LANES else w}"


def _shaped(builder: Builder, slot: int) -> str:
    return "" if builder.shapes[slot] == (1, 1) else f": {_shape(builder, slot)}"


def _operation(kind: str, extra: Any, args: list[str]) -> str:
    if kind == "row" and not isinstance(extra, str):
        text = str(extra.text)
        for letter, arg in zip("ab", args, strict=False):
            text = text.replace(f"<{letter}>", arg)
        return text
    if kind == "row":
        return f"{extra}({', '.join(args)})"
    if kind == "matmul":
        return " @ ".join(arg + ("ᵀ" if transposed else "") for arg, transposed in zip(args, extra, strict=True))
    if kind == "sum":
        return f"sum of {args[0]} over its {('rows', 'lanes')[extra]}"
    if kind in ("rows", "take"):
        return f"{args[0]}[{_numbers(extra)}]" if kind == "rows" else f"elements {_numbers(extra)} of {args[0]}"
    if kind == "addrows":
        return f"{args[0]} added up in rows {_numbers(extra)}"
    return f"{kind}({', '.join(args)})"


def _numbers(which: Any) -> str:
    """Rows, or elements, as one would write them in brackets.

    >>> _numbers(np.array([1, 2, 3])), _numbers(np.array([4])), _numbers(np.array([[0, 2], [2, 0]]))
    ('1:4', '4', '0, 2, 2, 0')
    """
    flat = which.ravel()
    if len(flat) > 1 and (np.diff(flat) == 1).all():
        return f"{flat[0]}:{flat[-1] + 1}"
    return _some([str(i) for i in flat.tolist()], MAX_NUMBERS)


def _some(words: Sequence[str], most: int) -> str:
    return ", ".join(words[:most]) + (f", ... ({len(words)})" if len(words) > most else "")
