"""The table in JavaScript: the rules of the rows, recorded as they run and printed for a browser.

A rule of the table runs on anything that has arithmetic. Here it runs on stand-ins that remember what was done with
them, so that the page differentiates by the very rules of the engine. A forward is a kernel for one target; those for
browsers stand in kernels.js, under the name of their row. A row of one's own has none there: its forward is recorded
like a rule, and where that is not possible (it calls math.exp, or branches) the row has no JavaScript.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any

from autodiff.primitives import Primitive

__all__ = ["Unspoken", "expression", "kernels", "row_source", "rows_source", "spoken"]


class Unspoken(TypeError):
    """What a function does cannot be said in JavaScript by recording it."""


class StandIn:
    """A number of the page: arithmetic with it is remembered as the text of a JavaScript expression."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @staticmethod
    def apply_primitive(row: Primitive, *operands: Any) -> StandIn:
        """A call of a row's kernel."""
        name = row.source.name
        if name not in spoken():
            recorded = row.source.forward(*map(stand_in, operands))
            return stand_in(recorded)
        return StandIn(f"K.{name}({', '.join(map(_text, operands))})")

    def __neg__(self) -> StandIn:
        return StandIn(f"(-{self.text})")

    def __pos__(self) -> StandIn:
        return self

    def __abs__(self) -> StandIn:
        return StandIn(f"Math.abs({self.text})")

    def __pow__(self, other: Any) -> StandIn:
        return StandIn(f"K.pow({self.text}, {_text(other)})")

    def __rpow__(self, other: Any) -> StandIn:
        return StandIn(f"K.pow({_text(other)}, {self.text})")

    def __bool__(self) -> bool:
        raise Unspoken("it branches on a number, and a recorded formula has no branches")

    __hash__ = None  # type: ignore[assignment]


def _binary(sign: str, swapped: bool = False) -> Callable[[StandIn, Any], StandIn]:
    def method(self: StandIn, other: Any) -> StandIn:
        left, right = (_text(other), self.text) if swapped else (self.text, _text(other))
        return StandIn(f"({left} {sign} {right})")

    return method


for _sign, _name in (("+", "add"), ("-", "sub"), ("*", "mul"), ("/", "truediv")):
    setattr(StandIn, f"__{_name}__", _binary(_sign))
    setattr(StandIn, f"__r{_name}__", _binary(_sign, swapped=True))
for _sign, _name in (("<", "lt"), ("<=", "le"), (">", "gt"), (">=", "ge"), ("===", "eq"), ("!==", "ne")):
    setattr(StandIn, f"__{_name}__", lambda self, other, sign=_sign: StandIn(f"+({self.text} {sign} {_text(other)})"))


def stand_in(x: Any) -> StandIn:
    """x as a stand-in; Unspoken for what is neither one nor a number."""
    return x if isinstance(x, StandIn) else StandIn(_text(x))


def _text(x: Any) -> str:
    if isinstance(x, StandIn):
        return x.text
    if not isinstance(x, (int, float)):
        raise Unspoken(f"it computes with {type(x).__name__}, and the page knows numbers only")
    return number_source(float(x))


def number_source(x: float) -> str:
    """A float as JavaScript reads it back exactly.

    >>> number_source(-0.5), number_source(math.inf)
    ('(-0.5)', 'Infinity')
    """
    text = "NaN" if math.isnan(x) else "Infinity" if math.isinf(x) else repr(abs(x))
    return f"(-{text})" if math.copysign(1.0, x) < 0.0 else text


def expression(function: Callable[..., Any], letters: Iterable[str]) -> str:
    """The JavaScript of what a function computes from numbers called so; Unspoken where it cannot be recorded.

    >>> expression(lambda y, a: 1.0 - y * y, "ya")
    '(1.0 - (y * y))'
    """
    try:
        return stand_in(function(*map(StandIn, letters))).text
    except Unspoken:
        raise
    except Exception as error:  # a stranger's function: whatever it does to a stand-in, it is not recorded
        raise Unspoken(f"it raises {type(error).__name__} on what is no float: {error}") from None


def kernels() -> str:
    """The file kernels.js: an object K with a function for every row of the table."""
    return resources.files("autodiff.explorer").joinpath("kernels.js").read_text(encoding="utf-8")


KERNEL = re.compile(r"^  (\w+)\(", re.MULTILINE)
_spoken: frozenset[str] = frozenset()


def spoken() -> frozenset[str]:
    """The names that kernels.js has a function for."""
    global _spoken
    if not _spoken:
        _spoken = frozenset(KERNEL.findall(kernels()))
    return _spoken


def row_source(row: Primitive) -> str:
    """A row as a JavaScript object: f, the forward, and da (and db), the local derivatives; Unspoken where it has none.

    >>> from autodiff.primitives import TABLE
    >>> print(row_source(TABLE["tanh"]))
    {f: a => K.tanh(a), da: (y, a) => ((4.0 * K.sigmoid((2.0 * a))) * K.sigmoid(((-2.0) * a)))}
    """
    row = row.source
    letters = "ab"[: row.arity]
    given = ", ".join(letters)
    arguments = f"({given})" if row.arity == 2 else given
    if row.name in spoken() and own(row):
        forward = f"K.{row.name}({given})"
    else:
        forward = expression(row.forward, letters)
    parts = [f"f: {arguments} => {forward}"]
    for letter, rule in zip(letters, (row.da, row.db), strict=False):
        parts.append(f"d{letter}: (y, {given}) => {expression(rule, 'y' + letters)}")
    return f"{{{', '.join(parts)}}}"


def own(row: Primitive) -> bool:
    """Whether a row is one of the package's: somebody's own may have a name that kernels.js knows."""
    module = inspect.getmodule(row.da)
    return module is not None and module.__name__ == "autodiff.primitives"


def rows_source(rows: Iterable[Primitive]) -> tuple[str, dict[str, str]]:
    """(a JavaScript object {name: row}, {name: why it is not in it})."""
    parts, missing = [], {}
    for name, row in sorted({row.source.name: row for row in rows}.items()):
        try:
            parts.append(f"  {json.dumps(name)}: {row_source(row)}")
        except Unspoken as reason:
            missing[name] = str(reason)
    return "{\n" + ",\n".join(parts) + "\n}", missing
