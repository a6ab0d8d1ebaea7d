"""The mistakes known at one edge: what it would add by a wrong rule of its operation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import operations
from autodiff.primitives import cos, exp, relu, sigmoid, sin, softplus, tanh
from nn.audit.adjoints.pullbacks import to_operand
from nn.audit.adjoints.recorded import Recorded, forward, is_elementwise, local_rules

WrongRule = tuple[str, str, Any]  # kind, words, what the edge would add
OTHERS = (sigmoid, tanh, softplus, relu, exp, sin, cos)  # whose derivatives are taken for that of another


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
    elif op is operations.matmul and given.own.ndim >= 2 <= given.other.ndim:
        yield from _matrix_product(given)
    elif op is operations.einsum and len(given.values) > 1:
        yield from _einsum(given)
    elif op is operations.sum_ and g.size > 1:
        yield from _sum(given)
    elif op is operations.index:
        yield from _index(given)
    elif op is operations.where:
        yield from _where(given)
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
    if given.name == "pow" and given.i == 0:
        found |= _of_a_power(g, *values)
    return found


def _of_a_power(g: Any, x: Any, exponent: Any) -> dict[str, Any]:
    return {
        "the exponent is not brought down": g * x ** (exponent - 1),
        "the exponent is not reduced by 1": g * exponent * x**exponent,
        "the exponent is reduced twice": g * exponent * x ** (exponent - 2),
        "the exponent goes up by 1": g * exponent * x ** (exponent + 1),
        "the power is integrated, not differentiated": g * x ** (exponent + 1) / (exponent + 1),
    }


def _of_one_operand(given: Given) -> dict[str, Any]:
    g, y, x, name = given.g, given.y, given.own, given.name
    [rule] = local_rules(given.child)
    slopes = {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y), "x": x,
              "1 - x^2": 1 - x * x, "x (1 - x)": x * (1 - x), "x > 0": x > 0, "x <= 0": x <= 0,
              "y^2": y * y, "1 + y": 1 + y, "1 + y^2": 1 + y * y, "y (1 + y)": y * (1 + y),
              "1 - y^3": 1 - y**3, "y (1 - y^2)": y * (1 - y * y), "1/y": 1 / y, "1/x": 1 / x}  # fmt: skip
    found = {f"{text} stands in the place of the derivative of {name}": slope for text, slope in slopes.items()}
    at_its_value = rule(forward(given.child)(y), y)
    found = {f"the derivative of {name} is taken at its value, not at its argument": at_its_value, **found}
    for function in OTHERS:
        if function.name != name:
            value = function.array(x)
            words = f"the derivative of {function.name} stands in the place of that of {name}"
            found[words] = function.da(value, x)
    return {words: g * slope for words, slope in found.items()}


def _other_sums(full: Any, shape: tuple[int, ...]) -> Iterator[WrongRule]:
    """The sums of a contribution before it is brought to its operand's shape, over other axes than the right ones."""
    for count in range(full.ndim + 1):
        for axes in itertools.combinations(range(full.ndim), count):
            summed = full.sum(axis=axes)
            over = " and ".join(map(str, axes)) or "none"
            if summed.size == math.prod(shape):
                yield "axis", f"the sum runs over axis {over}", summed.reshape(shape)
            elif summed.size == 1 and math.prod(shape) > 1:
                yield "axis", f"the sum runs over every axis, {over}", np.full(shape, summed.item())


# --- whole arrays ---


def _sum(given: Given) -> Iterator[WrongRule]:
    shape, flat = given.shape, given.g.reshape(-1)
    for axis, length in enumerate(shape):
        if length == flat.size:
            laid = flat.reshape(tuple(-1 if k == axis else 1 for k in range(len(shape))))
            yield "axis", f"the upstream of the sum is laid along axis {axis}", np.broadcast_to(laid, shape)


def _index(given: Given) -> Iterator[WrongRule]:
    """An element that is picked several times receives the sum of its upstreams."""
    key, g = given.child.parameters["key"], given.g
    last = np.zeros(given.shape)
    last[key] = g
    yield "child-sum", "where an index picks an element several times, only the last upstream is kept", last
    if not operations.picks_once(key):
        times = operations.scattered(np.ones_like(g), key, given.shape)
        averaged = operations.scattered(g, key, given.shape) / np.maximum(times, 1.0)
        words = "where an index picks an element several times, its upstreams are averaged, not summed"
        yield "child-sum", words, averaged


def _where(given: Given) -> Iterator[WrongRule]:
    """The upstream where the operand was chosen, and 0 elsewhere."""
    g, chosen = given.g, np.asarray(given.child.parameters["condition"]) == (given.i == 0)
    yield "operand", "the upstream goes through whatever the condition says", to_operand(g, given.shape)
    yield "operand", "the condition is inverted", to_operand(np.where(chosen, 0.0, g), given.shape)
    if chosen.ndim >= 2 and chosen.shape[-1] == chosen.shape[-2]:
        turned = np.where(np.swapaxes(chosen, -1, -2), g, 0.0)
        yield "operand", "the condition is transposed", to_operand(turned, given.shape)


def _matrix_product(given: Given) -> Iterator[WrongRule]:
    g, other, i = given.g, given.other, given.i
    right = beside(g, other, i)
    if right.shape[-1] == right.shape[-2]:
        words = "what it adds is transposed"
        yield "transposed", words, _brought(np.swapaxes(right, -1, -2), given.shape)
    if g.shape[-1] == g.shape[-2]:
        words = "the upstream of the matrix product is transposed"
        yield "transposed", words, _brought(beside(np.swapaxes(g, -1, -2), other, i), given.shape)
    swapped = "a factor of the matrix product is transposed, or they are in the wrong order"
    second = {
        swapped: other,
        "its own value stands in the place of the other's": given.own,
        "the product itself stands in the place of the other's": given.y,
    }
    for words, factor in second.items():
        for left, after in ((g, factor), (factor, g)):
            for a, b in itertools.product((left, np.swapaxes(left, -1, -2)), (after, np.swapaxes(after, -1, -2))):
                if a.shape[-1] == b.shape[-2]:
                    yield "operand", words, _brought(a @ b, given.shape)
    alone = beside(np.ones_like(given.y), other, i)
    yield "operand", "the upstream is not multiplied, only the other operand", _brought(alone, given.shape)


def _brought(array: Any, shape: tuple[int, ...]) -> Any:
    """A product of batches, summed over them where the operand has none; as it is where its shape does not fit."""
    return to_operand(array, shape) if array.ndim > len(shape) else array


def _einsum(given: Given) -> Iterator[WrongRule]:
    """The einsum of the upstream and the other operands, one of these transposed or turned about."""
    op, parameters = given.child.op, given.child.parameters
    for j, other in enumerate(given.values):
        for words, changed in _turns(other) if j != given.i else ():
            values = [*given.values[:j], changed, *given.values[j + 1 :]]
            yield "operand", f"operand {j + 1} is {words}", op.pull(given.i, given.g, given.y, values, parameters)


def _turns(array: Any) -> Iterator[tuple[str, Any]]:
    for i, j in itertools.combinations(range(array.ndim), 2):
        if array.shape[i] == array.shape[j] > 1:
            yield f"transposed, axis {i} for axis {j}", np.swapaxes(array, i, j)
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            yield f"reversed along axis {axis}", np.flip(array, axis)


def beside(g: Any, other: Any, i: int) -> Any:
    """What a matrix product adds to operand i: g other^T for the first, other^T g for the second."""
    return g @ np.swapaxes(other, -1, -2) if i == 0 else np.swapaxes(other, -1, -2) @ g
