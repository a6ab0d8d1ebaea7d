"""The total differential: the change that the partial derivatives predict, against the actual one.

df = sum over arguments of partial * step is right to first order; what is left is of second order in the step where f
is smooth, and of first order where it is not, or where a derivative is wrong.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from autodiff.graph import adjoints, checked_value
from autodiff.names import argument_names, number_text
from autodiff.value import Value, as_number


@dataclass(frozen=True, slots=True)
class Differential:
    """One term of a total differential: contribution = partial * step."""

    name: str
    partial: float
    step: float

    @property
    def contribution(self) -> float:
        """What the step in this argument alone changes, to first order."""
        return self.partial * self.step


@dataclass(frozen=True, slots=True)
class TotalDifferential:
    """The change that the partial derivatives predict, and the actual one; str() prints the terms."""

    terms: tuple[Differential, ...]
    actual: float
    remainders: tuple[float, ...]  # actual - predicted for step, step/2, step/4, ...
    rounding: float  # a remainder smaller than this is rounding, and says nothing of the order

    @property
    def predicted(self) -> float:
        """df = sum of partial * step."""
        return sum((term.contribution for term in self.terms), 0.0)  # fsum raises for inf - inf

    @property
    def remainder(self) -> float:
        """actual - predicted, of second order in the step for a smooth function."""
        return self.remainders[0]

    @property
    def order(self) -> float:
        """The measured p in remainder ~ step**p: 2 for a smooth function, 1 at a kink, nan if all is rounding.

        The median over halvings of the step, so that no unlucky step decides.
        """
        sizes = [abs(r) for r in self.remainders if math.isfinite(r) and abs(r) > self.rounding]
        slopes = sorted(math.log2(large / small) for large, small in pairwise(sizes))
        return slopes[len(slopes) // 2] if slopes else math.nan

    def __str__(self) -> str:
        lines = [
            f"  ∂f/∂{term.name} · d{term.name} = {number_text(term.partial)} · {number_text(term.step)}"
            f" = {number_text(term.contribution)}"
            for term in self.terms
        ]
        return "\n".join(
            [
                "total differential",
                *lines,
                f"  predicted {number_text(self.predicted)}, actual {number_text(self.actual)}, "
                f"remainder {number_text(self.remainder, 3)} of order {number_text(self.order, 3)}",
            ]
        )


HALVINGS = 6  # a remainder of order 2 shrinks by 4**6 = 4096 over them: far from rounding for any visible step


def total_differential(f: Callable[..., Any], at: Sequence[float], step: Sequence[float]) -> TotalDifferential:
    """df = sum over arguments of partial * step, against f(at + step) - f(at).

    f takes as many numbers as `at` and `step` have and is called with nodes. Raises TypeError if f returns no node,
    ValueError if at and step differ in length.

    >>> d = total_differential(lambda u, v: u * v, at=(3.0, 2.0), step=(0.1, -0.2))
    >>> round(d.predicted, 12), round(d.actual, 12), round(d.remainder, 12), round(d.order, 6)
    (-0.4, -0.42, -0.02, 2.0)
    """
    if not isinstance(at, (tuple, list)) or not isinstance(step, (tuple, list)) or len(at) != len(step):
        raise ValueError(f"at and step are tuples of one number per argument of f, got at={at!r}, step={step!r}")
    at = [as_number(number, "total_differential(at)") for number in at]
    step = [as_number(number, "total_differential(step)") for number in step]
    names = argument_names(f, len(at))
    nodes = [Value(number, name) for number, name in zip(at, names, strict=True)]
    output = checked_value(f(*nodes), "total_differential: f must return a node; it")
    adjoint = adjoints(output)
    terms = tuple(
        Differential(name, adjoint.get(node, 0.0), change)
        for name, node, change in zip(names, nodes, step, strict=True)
    )

    def change_of_f(scale: float) -> float:
        moved = [Value(number + scale * change) for number, change in zip(at, step, strict=True)]
        return float(f(*moved).item() - output.data)

    predicted = sum((term.contribution for term in terms), 0.0)
    scales = [0.5**halving for halving in range(HALVINGS)]
    actual = [change_of_f(scale) for scale in scales]
    remainders = tuple(change - scale * predicted for change, scale in zip(actual, scales, strict=True))
    # Each f carries a few rounding errors of its own size, each sum at + step those of `at`, the terms theirs.
    size = abs(output.data) + abs(actual[0]) + sum(abs(term.contribution) for term in terms)
    size += sum(abs(term.partial * number) for term, number in zip(terms, at, strict=True))
    return TotalDifferential(terms, actual[0], remainders, rounding=16 * sys.float_info.epsilon * size)
