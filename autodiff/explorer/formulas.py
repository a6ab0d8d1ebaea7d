"""Formulas of the page: the MathML of every operation once, with places for the symbols of its operands.

A page of thousands of nodes cannot carry a formula for each. It carries one for every row that occurs, for its result
and for its local derivatives, made as all formulas are; the page puts the operands' symbols into their places. A place
knows how tightly a symbol must hold together to stand there without brackets.
"""

from __future__ import annotations

import re
from typing import Any

from autodiff.forms import Form
from autodiff.mathml import mathml
from autodiff.notation import Expression
from autodiff.primitives import ATOM, PRODUCT, SUM, Primitive
from autodiff.textbook import printed_rule

__all__ = ["bare", "operation_formulas"]

LEVELS = (SUM, PRODUCT, ATOM)
OPEN = '<mrow><mo form="prefix">(</mo>'
CLOSE = '<mo form="postfix">)</mo></mrow>'
PLACE = re.compile(rf"({re.escape(OPEN)})?<mi>Q([yabc])Q</mi>(?(1){re.escape(CLOSE)})")


def bare(formula: str) -> str:
    """MathML without its <math> element, and without what browsers take for granted of brackets."""
    inner = formula.removeprefix('<math display="block">').removesuffix("</math>")
    return inner.replace(' stretchy="true" symmetric="true"', "")


def _places(level: float) -> dict[str, Expression]:
    """Symbols of the result, of the operands and of a folded constant, as tight as told."""
    return {
        letter: Expression(Form(f"Q{letter}Q", rf"\mathrm{{Q{letter}Q}}", level, (), level, ())) for letter in "yabc"
    }


def _template(make: Any) -> str:
    """MathML with places such as {a3}: operand a, to be put in brackets if it binds less than 3."""
    printed = [bare(mathml(make(_places(level)).latex())) for level in LEVELS]
    bracketed = [[match[1] is not None for match in PLACE.finditer(text)] for text in printed]
    needs = []
    for at_level in zip(*bracketed, strict=True):
        own = at_level[-1]  # brackets that even a letter has, as in tanh(a)
        needs.append((SUM if own else LEVELS[at_level.index(False)], own))
    found = iter(needs)

    def place(match: re.Match[str]) -> str:
        need, own = next(found)
        text = f"{{{match[2]}{need}}}"
        return OPEN + text + CLOSE if own else text

    return PLACE.sub(place, printed[0])


def operation_formulas(row: Primitive, constant: float | None) -> dict[str, Any]:
    """{"y": the result, "binds": how tightly it does, "d": [(local derivative, how tightly it binds), ...]}.

    All in MathML with places; a local derivative for every operand that is a node.

    constant: the folded one where it must stand as a number, for the formula simplifies with it; else it has a place.

    >>> from autodiff.primitives import TABLE
    >>> operation_formulas(TABLE["mul"], None)["d"]
    [('{b1}', 4), ('{a1}', 4)]
    >>> operation_formulas(TABLE["pow"].folded["right"], 3.0)["y"]
    '<msup>{a4}<mn>3</mn></msup>'
    """
    side = row.constant

    def operands(places: dict[str, Expression]) -> tuple[Expression, ...]:
        held = places["c"] if constant is None else Expression(constant)
        first = held if side == "left" else places["a"]
        if row.arity == 1:
            return (first,)
        second = held if side == "right" else places["a"] if side == "left" else places["b"]
        return first, second

    def local(position: int) -> Any:
        def make(places: dict[str, Expression]) -> Expression:
            found = printed_rule(row.source, position)(places["y"], *operands(places))
            return found if isinstance(found, Expression) else Expression(float(found))

        return make

    positions = [1 if side == "left" else 0] if not row.two_nodes else [0, 1]
    return {
        "y": _template(lambda places: Expression(row.source, operands(places))),
        "binds": row.binds,
        "d": [(_template(local(position)), local(position)(_places(ATOM)).latex_binds) for position in positions],
    }
