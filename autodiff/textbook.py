"""The local derivatives as textbooks print them: 1 - tanh², where the table computes 4 σ(2a) σ(-2a).

The rules of the table are written so that no digit is lost; formulas are written so that people know them. A row that
has no entry here prints the rule itself. Only formulas read this: all numbers come from the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autodiff import primitives as p
from autodiff.kernels import SQRT_HALF
from autodiff.primitives import Primitive, exp, square

__all__ = ["TEXTBOOK", "printed_rule"]

# row -> for each operand its derivative from the result y and the operands
TEXTBOOK: dict[Primitive, tuple[Callable[..., Any], ...]] = {
    p.div: (lambda y, a, b: 1.0 / b, lambda y, a, b: -a / square(b)),
    p.mod: (lambda y, a, b: 1.0, lambda y, a, b: -p.floor_divide(a, b)),
    p.reciprocal: (lambda y, a: -1.0 / square(a),),
    p.sqrt: (lambda y, a: 1.0 / (2.0 * y),),
    p.cbrt: (lambda y, a: 1.0 / (3.0 * square(y)),),
    p.hypot: (lambda y, a, b: a / y, lambda y, a, b: b / y),
    p.power: (lambda y, a, b: b * a ** (b - 1.0), lambda y, a, b: y * p.log(a)),
    p.tan: (lambda y, a: 1.0 + square(y),),
    p.arcsin: (lambda y, a: 1.0 / p.sqrt(1.0 - square(a)),),
    p.arccos: (lambda y, a: -1.0 / p.sqrt(1.0 - square(a)),),
    p.arctan: (lambda y, a: 1.0 / (1.0 + square(a)),),
    p.arctan2: (lambda y, a, b: b / (square(a) + square(b)), lambda y, a, b: -a / (square(a) + square(b))),
    p.tanh: (lambda y, a: 1.0 - square(y),),
    p.arcsinh: (lambda y, a: 1.0 / p.sqrt(1.0 + square(a)),),
    p.arccosh: (lambda y, a: 1.0 / p.sqrt(square(a) - 1.0),),
    p.arctanh: (lambda y, a: 1.0 / (1.0 - square(a)),),
    p.sigmoid: (lambda y, a: y * (1.0 - y),),
    p.erf: (lambda y, a: (2.0 / p.SQRT_PI) * exp(-square(a)),),
    p.erfc: (lambda y, a: (-2.0 / p.SQRT_PI) * exp(-square(a)),),
    p.gelu: (lambda y, a: 0.5 * p.erfc(-SQRT_HALF * a) + a * exp(-square(a) / 2.0) / p.SQRT_2_PI,),
    p.silu: (lambda y, a: y + p.sigmoid(a) * (1.0 - y),),
}


def printed_rule(row: Primitive, position: int) -> Callable[..., Any]:
    """The derivative by the operand at `position` as it is printed: called with y and the operands, as a row's rule.

    >>> rule = printed_rule(p.tanh, 0)
    >>> rule(0.5, 0.549306)
    0.75
    """
    known = TEXTBOOK.get(row.source)
    if known is None:
        rule = row.db if position else row.da
        assert rule is not None
        return rule
    if row.constant == "left":  # its one node is the second operand
        by_second = known[1]
        return lambda y, a, c: by_second(y, c, a)
    return known[position]
