"""How the structural operations of arrays print: with their axes, shapes and indices.

Elementwise operations say so in their rows of the table. A structural operation has no row: a `Form` holds what a
row would say of printing, made for one node, since the parameters of the operation are part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.names import escaped
from autodiff.primitives import ATOM, POWER, PRODUCT, SUM
from autodiff.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Form:
    """How something that is no row of the table prints: a structural operation, or an array by its shape.

    text, latex: with <0>, <1>, ... for the operands. binds: how tightly the printed form holds together; needs: how
    tightly each operand must; both as in the table, and again for LaTeX where it differs.
    """

    text: str
    latex: str
    binds: float = ATOM
    needs: Sequence[float] = ()
    latex_binds: float = ATOM
    latex_needs: Sequence[float] = ()
    short: str = ""  # what the operation is called where its operands are not shown; "" for text without them


MANY, SHOWN = 6, 3  # operands of a concatenation; of more than MANY the first ones and the last are printed
# Closer together than a product by a sign, where LaTeX writes nothing between the factors
JUXTAPOSED = 0.5 * (PRODUCT + POWER)


def form(node: Tensor, count: int) -> Form:
    """How the structural operation that made a node prints, with `count` operands."""
    assert node.op is not None
    name, given = node.op.name, node.parameters
    bare = (SUM,) * count
    tight = (ATOM,) * count
    if name == "matmul":
        return Form("<0> @ <1>", "<0> <1>", JUXTAPOSED, (PRODUCT, POWER), JUXTAPOSED, (JUXTAPOSED, POWER))
    if name == "transpose":
        n = len(given["axes"])
        if n > 1 and given["axes"] == tuple(range(n))[::-1]:
            return Form("<0>.T", r"{<0>}^{\top}", ATOM, tight, POWER, tight)
        if given["axes"] == (*range(n - 2), n - 1, n - 2):
            return Form("<0>.mT", r"{<0>}^{\top}", ATOM, tight, POWER, tight)
    if name == "index":
        return Form(
            f"<0>[{key_text(given['key'])}]", f"{{<0>}}_{{{key_latex(given['key'])}}}", ATOM, tight, ATOM, tight
        )
    if name == "reshape":
        text = f"<0>.reshape({listed(given['shape']) or '()'})"
        return Form(text, called(name, count, times(given["shape"])), ATOM, tight, ATOM, bare)
    if name == "where":  # the condition is no operand: it is no node
        condition = given["condition"]
        shown = bool(condition) if np.ndim(condition) == 0 else of_shape(np.shape(condition)).text
        text, latex = f"where({shown}, <0>, <1>)", called(name, count, times(np.shape(condition)))
        return Form(text, latex, ATOM, bare, ATOM, bare, name)
    if name == "einsum":
        labels, out = ",".join(given["labels"]), given["out"]
        text, latex = (
            f"einsum('{labels}->{out}', {places(count)})",
            called(name, count, rf"\mathrm{{{labels} \to {out}}}"),
        )
        return Form(text, latex, ATOM, bare, ATOM, bare, f"einsum('{labels}->{out}')")
    options = [f"{key}={shown}" for key, x in given.items() for shown in [parameter(x)] if shown is not None]
    operands = f"[{places(count)}]" if name == "concatenate" else places(count)
    axis = given.get("axis", given.get("axes"))
    below = listed(axis) if isinstance(axis, tuple) else "" if axis is None else str(axis)
    if not below and isinstance(given.get("shape"), tuple):
        below = times(given["shape"])
    text, short = (f"{name}({', '.join(part for part in parts if part)})" for parts in ((operands, *options), options))
    return Form(text, called(name, count, below), ATOM, bare, ATOM, bare, short if options else name)


def of_shape(lengths: Sequence[int]) -> Form:
    """An array that is not printed: by its shape, [5×3]."""
    return Form(f"[{'×'.join(map(str, lengths))}]", rf"\left[{times(lengths)}\right]")


def places(count: int) -> str:
    """<0>, <1>, ...: where the operands go."""
    return ", ".join(f"<{i}>" for i in range(count))


def called(name: str, count: int, below: str = "") -> str:
    """A function with its operands in LaTeX, with an index where it has one."""
    known = name in ("max", "min", "det")
    head = rf"\{name}" if known else rf"\operatorname{{{escaped(name)}}}"
    return head + (f"_{{{below}}}" if below else "") + rf"\left({places(count)}\right)"


def listed(x: Any) -> str:
    """(0, 2) as 0, 2; an axis or a length alone as itself."""
    return ", ".join(map(str, x)) if isinstance(x, tuple) else str(x)


def times(shape: Sequence[int]) -> str:
    r"""(5, 3) as 5 \times 3."""
    return r" \times ".join(map(str, shape))


def parameter(x: Any) -> str | None:
    """A parameter of an operation as text; None where it is its default, or too long to print."""
    if x is None or x is False:
        return None
    if isinstance(x, np.dtype):
        return str(x)
    if isinstance(x, tuple) and len(x) == 1 and isinstance(x[0], int):
        return str(x[0])  # axis=(0,)
    if isinstance(x, (bool, int, float, str, tuple, slice, np.integer)):
        text = repr(x)
        return text if len(text) <= 24 else None
    return None


def key_text(key: Any) -> str:
    """An index as one writes it: 0, 1:, ..., None; an array of integers by its elements if it has few.

    >>> key_text((0, slice(1, None), slice(None, None, -1), Ellipsis, None, np.array([0, 2])))
    '0, 1:, ::-1, ..., None, [0, 2]'
    >>> key_text(np.array([True, False, True])), key_text(np.arange(100))
    ('mask of 2', '100 indices')
    """
    if type(key) is tuple:
        return ", ".join(map(key_text, key)) or "()"
    if isinstance(key, slice):
        start, stop, step = ("" if x is None else str(x) for x in (key.start, key.stop, key.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if key is Ellipsis:
        return "..."
    if isinstance(key, np.ndarray) and key.ndim:
        if key.dtype == bool:
            return f"mask of {int(key.sum())}"
        return str(key.tolist()) if key.size <= MANY else f"{key.size} indices"
    return str(key)


def key_latex(key: Any) -> str:
    """key_text with its words upright."""
    text = key_text(key).replace("...", r"\ldots").replace("[", r"\left[").replace("]", r"\right]")
    return re.sub(
        r"(?<!\\)\b(?:None|(?:mask of )?\d+ indices|mask of \d+)", lambda words: rf"\text{{{words[0]}}}", text
    )
