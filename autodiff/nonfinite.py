"""Where the first nan or inf of a computation comes from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from autodiff.graph import Graph, adjoints, checked_node
from autodiff.notation import argument_names, formula
from autodiff.scalars import Scalars, scalars
from autodiff.value import REAL, Value, order


@dataclass(frozen=True, slots=True, eq=False)
class NonFinite:
    """The first number of a computation that is nan or infinite though all that it was made from is finite.

    kind: "value" for a result of the forward pass (or an argument), "derivative" for a local derivative, "gradient"
    for a sum of contributions that overflows. node: the node that it belongs to. number: nan, inf or -inf.
    """

    kind: Literal["value", "derivative", "gradient"]
    node: Value
    number: float
    message: str

    def __str__(self) -> str:
        return self.message


def first_nonfinite(f: Callable[..., Any], *args: Any) -> NonFinite | None:
    """Where the first nan or inf of f(*args) and of its gradient comes from; None if all numbers are finite.

    f is run once more, on nodes: numbers become Values and arrays arrays of them, named as f names its arguments. It
    may return a node, or an array or list of them (and of numbers). The forward pass is looked through first, in the
    order of computation; only if it is finite are the derivatives, in the order of the backward pass. Warnings of
    NumPy are silent meanwhile.

    Raises TypeError if what f returns is no node.

    >>> print(first_nonfinite(lambda p, q: 2.0 * (p - q).log() + p, 0.5, 0.5))
    log(p - q) is -inf: log of 0 (p = 0.5, q = 0.5)
    >>> print(first_nonfinite(lambda x: (x * x) ** 0.5, 0.0))
    the derivative of (x · x)^0.5 by x · x is inf (x = 0)
    >>> first_nonfinite(lambda x: x * x, 2.0) is None
    True
    """
    names = argument_names(f, len(args))
    numbers = [arg.data if isinstance(arg, (Value, Scalars)) else arg for arg in args]
    inputs = [Value(x, name) if np.ndim(x) == 0 else scalars(x, name) for x, name in zip(numbers, names, strict=True)]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = f(*inputs)
        outputs = result.ravel().tolist() if isinstance(result, np.ndarray) else result
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        plain = [x for x in outputs if isinstance(x, REAL)]
        nodes = [
            checked_node(x, "first_nonfinite: f must return nodes; it") for x in outputs if not isinstance(x, REAL)
        ]
        if not nodes:
            checked_node(plain[0] if plain else None, "first_nonfinite: f must return nodes; it")
        for number in plain:
            if not isfinite(number):
                what = f"an output is {number}, and no node: it left the graph"
                return NonFinite("value", Value(number), float(number), what)
        for look in (_in_values, _in_derivatives):
            for output in nodes:
                found = look(output)
                if found is not None:
                    return found
    return None


def _in_values(output: Value) -> NonFinite | None:
    for node in reversed(order(output)):
        if not isfinite(node.data):
            if node.op is None:
                return NonFinite("value", node, node.data, f"{node.name or 'a leaf'} is {node.data} from the start")
            operands = ", ".join(f"{x.data if isinstance(x, Value) else x:g}" for x in node.operands)
            what = f"{formula(node)} is {node.data}: {node.op.name} of {operands}"
            return NonFinite("value", node, node.data, what + _leaves(node))
    return None


def _in_derivatives(output: Value) -> NonFinite | None:
    graph: Graph | None = None
    for node in order(output):
        for parent, local in node.edges():
            if not isfinite(local):
                what = f"the derivative of {formula(node)} by {formula(parent, top=False)} is {local}"
                return NonFinite("derivative", node, local, what + _leaves(node))
    for node, adjoint in adjoints(output).items():
        if not isfinite(adjoint):
            graph = graph or Graph(output)
            what = f"the gradient by {graph.label(node)} is {adjoint}: the contributions of its children are too large"
            return NonFinite("gradient", node, adjoint, what)
    return None


def _leaves(node: Value) -> str:
    """ " (x = 1, y = 2)": the named leaves below a node, the first few of them."""
    named = [leaf for leaf in reversed(order(node)) if leaf.op is None and leaf.name]
    shown = ", ".join(f"{leaf.name} = {leaf.data:g}" for leaf in named[:4])
    more = f", and {len(named) - 4} more" if len(named) > 4 else ""
    return f" ({shown}{more})" if named else ""
