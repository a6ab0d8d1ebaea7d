"""Instructions rewritten for NumPy's own loops: what a kernel does in one go becomes steps that share what they can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autodiff.primitives import (
    TABLE,
    Primitive,
    absolute,
    add,
    exp,
    log1p,
    maximum,
    minimum,
    mul,
    neg,
    sign,
)
from autodiff.programs.instructions import Builder, Slot


def _sigmoid(a: Any) -> Any:
    return exp(minimum(a, 0.0)) / (1.0 + exp(-absolute(a)))  # never overflows; the denominator serves sigmoid(-a) too


def _softplus(a: Any) -> Any:
    return maximum(a, 0.0) + log1p(exp(-absolute(a)))


# Each gives what the row's own kernel for arrays gives, but for the last digit.
STEPS: dict[Primitive, Callable[[Any], Any]] = {
    TABLE["sigmoid"]: _sigmoid,
    TABLE["softplus"]: _softplus,
    TABLE["logsigmoid"]: lambda a: -_softplus(-a),
    TABLE["relu"]: lambda a: maximum(a, 0.0),
    TABLE["step"]: lambda a: sign(maximum(a, 0.0)),
    TABLE["leaky_relu"]: lambda a: maximum(a, 0.01 * a),
}


def lowered(old: Builder, outputs: Sequence[int]) -> tuple[Builder, list[int]]:
    """(builder, outputs) with what arrays need written in steps; numbers keep their kernels."""
    new = Builder()
    needed = old.needed(outputs)
    products = {old.args[slot] for slot in needed if old.kinds[slot] == "row" and old.extras[slot] is mul}
    to: dict[int, int] = {}
    for slot in needed:
        kind, extra, shape = old.kinds[slot], old.extras[slot], old.shapes[slot]
        args = tuple(to[x] for x in old.args[slot])
        if kind == "row" and extra in STEPS and shape != (1, 1):
            to[slot] = new.slot(STEPS[extra](Slot(new, args[0])))
        elif kind == "row" and (extra is add or extra is mul or extra is neg):
            to[slot] = new.row(extra, *args)
        elif kind == "dot" and old.args[slot] in products:  # the product is there anyway
            to[slot] = new.emit("sum", (new.row(mul, *args),), 1, shape)
        else:
            to[slot] = new.emit(kind, args, extra, shape)
    return new, [to[slot] for slot in outputs]
