"""The mistakes known at one edge: what it would add by a wrong rule of its operation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import operations
from nn.audit.adjoints.pullbacks import to_operand
from nn.audit.adjoints.recorded import Recorded, forward, is_elementwise, local_rules

WrongRule = tuple[str, str, Any]  # kind, words, what the edge would add


@dataclass
class Given:
    """What the rule of one edge is given: the child, which operand of it, and the upstream; beside it all values."""

    recorded: Recorded
    child: Any
    i: int
    g: Any

    def __post_init__(self) -> None:
        self.y: Any = self.recorded.data[self.child]
        self.values, _ = self.recorded.operands(self.child)
        self.own: Any = self.values[self.i]
        self.other: Any = self.values[1 - self.i] if len(self.values) == 2 else None
        self.shape: tuple[int, ...] = self.own.shape
        self.name: str = self.child.op.name


def wrong_rules(recorded: Recorded, child: Any, i: int, g: Any) -> Iterator[WrongRule]:
    """(kind, words, what the edge from the child's operand i would add), given the adjoint g of the child."""
    given, op = Given(recorded, child, i, g), child.op
    if is_elementwise(child):
        yield from _chain_rule(given)
    elif op is operations.matmul and given.own.ndim == 2 == given.other.ndim:
        yield from _matrix_product(given)
    elif op is operations.sum_ and g.size > 1:
        yield from _sum(given)
    elif op is operations.index:
        last = np.zeros(given.shape)
        last[child.parameters["key"]] = g
        yield "child-sum", "where an index picks an element several times, only the last upstream is kept", last
    elif op in (operations.max_, operations.min_):
        everywhere = np.broadcast_to(operations.expanded(g, given.shape, **child.parameters), given.shape)
        yield "operand", f"the {op.name} hands its upstream to every element", everywhere


# --- elementwise operations ---


def _chain_rule(given: Given) -> Iterator[WrongRule]:
    """The upstream times the local derivative, with either of them wrong."""
    g, name, shape = given.g, given.name, given.shape
    local = given.recorded.local(given.child, given.i)
    slopes = {
        f"the local derivative of {name} is missing": g,
        "the upstream is not multiplied, only the local derivative": np.broadcast_to(local, given.y.shape),
        f"it is divided by the local derivative of {name}": g / local,
        f"the local derivative of {name} is squared": g * local * local,
        **(_of_one_operand(given) if given.other is None else _of_two_operands(given)),
    }
    for words, value in slopes.items():
        yield "operand", words, to_operand(value, shape)
    if g.shape != shape and len(g.shape) >= len(shape):
        yield from _other_sums(g * local, shape)


def _of_two_operands(given: Given) -> dict[str, Any]:
    g, values = given.g, given.values
    found = {
        "its own value stands in the place of the other's": g * given.own,
        "the other's value is multiplied": g * given.other,
        "it is divided by the other's value": g / given.other,
        f"the value of {given.name} stands in the place of its derivative": g * given.y,
    }
    if given.name == "div":
        found["the divisor is not squared"] = -g * values[0] / values[1]
        found["the dividend is missing"] = -g / values[1] ** 2
    return found


def _of_one_operand(given: Given) -> dict[str, Any]:
    g, y, x, name = given.g, given.y, given.own, given.name
    [rule] = local_rules(given.child)
    slopes = {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y), "x": x,
              "1 - x^2": 1 - x * x, "x (1 - x)": x * (1 - x), "x > 0": x > 0}  # fmt: skip
    found = {f"{text} stands in the place of the derivative of {name}": slope for text, slope in slopes.items()}
    at_its_value = rule(forward(given.child)(y), y)
    found = {f"the derivative of {name} is taken at its value, not at its argument": at_its_value, **found}
    return {words: g * slope for words, slope in found.items()}


def _other_sums(full: Any, shape: tuple[int, ...]) -> Iterator[WrongRule]:
    """The sums of a contribution before it is brought to its operand's shape, over other axes than the right ones."""
    for count in range(full.ndim + 1):
        for axes in itertools.combinations(range(full.ndim), count):
            summed = full.sum(axis=axes)
            if summed.size == math.prod(shape):
                over = " and ".join(map(str, axes)) or "none"
                yield "axis", f"the sum runs over axis {over}", summed.reshape(shape)


# --- whole arrays ---


def _sum(given: Given) -> Iterator[WrongRule]:
    shape, flat = given.shape, given.g.reshape(-1)
    for axis, length in enumerate(shape):
        if length == flat.size:
            laid = flat.reshape(tuple(-1 if k == axis else 1 for k in range(len(shape))))
            yield "axis", f"the upstream of the sum is laid along axis {axis}", np.broadcast_to(laid, shape)


def _matrix_product(given: Given) -> Iterator[WrongRule]:
    g, other = given.g, given.other
    swapped = "a factor of the matrix product is transposed, or they are in the wrong order"
    second = {
        swapped: other,
        "its own value stands in the place of the other's": given.own,
        "the product itself stands in the place of the other's": given.y,
    }
    for words, factor in second.items():
        for left, right in ((g, factor), (factor, g)):
            for turned_left, turned_right in itertools.product((left, left.T), (right, right.T)):
                if turned_left.shape[1] == turned_right.shape[0]:
                    yield "operand", words, turned_left @ turned_right
    alone = beside(np.ones_like(given.y), other, given.i)
    yield "operand", "the upstream is not multiplied, only the other operand", alone


def beside(g: Any, other: Any, i: int) -> Any:
    """What a matrix product adds to operand i: g other^T for the first, other^T g for the second."""
    return g @ other.T if i == 0 else other.T @ g
