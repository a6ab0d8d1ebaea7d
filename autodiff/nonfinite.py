"""Where the first nan or inf of a computation comes from, on which line, and what usually mends it."""

from __future__ import annotations

import linecache
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Any, Literal

import numpy as np

from autodiff import tensor, trees
from autodiff.graph import checked_node, order
from autodiff.notation import Node, argument_names, formula, number_text
from autodiff.primitives import Primitive
from autodiff.scalars import scalars
from autodiff.sweeps import Patch
from autodiff.tensor import Tensor
from autodiff.transforms import Run
from autodiff.value import REAL, Value

Kind = Literal["value", "derivative", "gradient"]
Index = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NonFinite:
    """The first number of a computation that is nan or infinite though all that it was made from is finite.

    kind: "value" for a result of the forward pass (or an argument), "derivative" for a local derivative, "gradient"
    for a contribution, or a sum of contributions, that overflows. node: the node that it belongs to. number: nan, inf
    or -inf. Of an array it is the first such element, at `index`, one of `count`.

    operation: what made the node, None for a leaf. arguments: the numbers that it was applied to at that element; ()
    where a whole array goes into one element, as in a sum. line, source: the user's line that called it, as file:line
    and its text; "" where none is known, as for a leaf that is an argument. mend: what usually helps; "" if nothing
    is known.
    """

    kind: Kind
    node: Value | Tensor
    number: float
    message: str
    operation: str | None = None
    arguments: tuple[float, ...] = ()
    index: Index = ()
    count: int = 1
    line: str = ""
    source: str = ""
    mend: str = ""

    def __str__(self) -> str:
        where = [f"  at {self.line}: {self.source}".rstrip(": ")] if self.line else []
        return "\n".join([self.message, *where, *([f"  mend: {self.mend}"] if self.mend else [])])


def first_nonfinite(f: Callable[..., Any], *args: Any) -> NonFinite | None:
    """Where the first nan or inf of f(*args) and of its gradient comes from; None if all numbers are finite.

    f is run once more, on nodes named as f names its arguments: floats become Values (Tensors of no dimensions where
    they meet arrays) and arrays Tensors, in nested lists, tuples and dicts too; nodes are taken by their data. Integers
    count as floats unless f needs them as integers; what is no number is handed on. f may return a node, or an array or
    a nested container of nodes and numbers. The forward pass is looked through first, in the order of computation; only
    if it is finite is the gradient of the sum of all that f returns, in the order of the backward pass. Warnings of
    NumPy are silent meanwhile. An infinite constant, as of a mask, may be meant: what it turns into nan is told first,
    and it alone if there is nothing else. Only during this run are the lines of operations remembered.

    Raises TypeError if what f returns holds no node.

    >>> found = first_nonfinite(lambda p, q: 2.0 * (p - q).log() + p, 0.5, 0.5)
    >>> print(found.message)
    log(p - q) is -inf: log of 0 (p = 0.5, q = 0.5)
    >>> print(found.source)
    found = first_nonfinite(lambda p, q: 2.0 * (p - q).log() + p, 0.5, 0.5)
    >>> print(first_nonfinite(lambda x: (x * x) ** 0.5, 0.0).message)
    the derivative of (x · x)^0.5 by x · x is inf (x = 0)
    >>> print(first_nonfinite(lambda X: np.sum(np.where(X > 0, np.log(X), 0.0)), np.array([1.0, 0.0])).message)
    log(X) is -inf at [1], 1 of 2 elements: log of 0 (X[1] = 0)
    >>> first_nonfinite(lambda x: x * x, 2.0) is None
    True
    """
    with np.errstate(all="ignore"), warnings.catch_warnings(), remembered_lines() as lines:
        warnings.simplefilter("ignore", RuntimeWarning)
        outputs = _outputs(f, args)
        nodes = [checked_node(x, "first_nonfinite") for x in outputs if isinstance(x, Node)]
        plain = [x for x in outputs if not isinstance(x, Node)]
        if not nodes:
            checked_node(plain[0] if plain else None, "first_nonfinite: f must return nodes; it")
        for number in plain:
            bad = np.asarray(number)[~np.isfinite(number)]
            if bad.size:
                what = f"an output is {bad[0]}, and no node: it left the graph"
                return NonFinite("value", Value(float(bad[0])), float(bad[0]), what)
        kinds = [[x for x in nodes if isinstance(x, kind)] for kind in (Value, Tensor)]
        meant = None
        for wanted in kinds:
            found, on_purpose = _in_values(wanted, lines) if wanted else (None, False)
            if found is not None and not on_purpose:
                return found
            meant = meant or found
        for wanted in kinds:
            found = _in_derivatives(wanted, lines) if wanted else None
            if found is not None:
                return found
    return meant


# --- the run ------------------------------------------------------------------------------------------------------


def _outputs(f: Callable[..., Any], args: Sequence[Any]) -> list[Any]:
    """What f returns when it is run on nodes: nodes, and plain numbers and arrays."""
    leaves, structure = trees.flatten(list(args))
    leaves = [_unboxed(x) for x in leaves]
    roots = argument_names(f, len(args))
    names = [name for root, part in zip(roots, structure[1], strict=True) for name in trees.places(part, root)]
    real = [i for i, x in enumerate(leaves) if _is_real(x)]
    kinds = [np.asarray(x).dtype.kind for x in leaves]
    whole = [i for i in real if kinds[i] in "iu"]
    if any(kinds[i] == "O" for i in real):  # the scalar magnification, for arrays of Values
        for i in real:
            if np.ndim(leaves[i]) and i not in whole:
                leaves[i] = scalars(leaves[i], names[i])
    try:
        return _run(f, structure, leaves, real, names)
    except (TypeError, IndexError):
        if not whole or len(whole) == len(real):
            raise
    # An axis, a length, labels to index with: f needs its integers as such.
    return _run(f, structure, leaves, [i for i in real if i not in whole], names)


def _run(f: Callable[..., Any], structure: Any, leaves: list[Any], chosen: list[int], names: list[str]) -> list[Any]:
    def on_chosen(*lifted: Any) -> Any:
        given = list(leaves)
        for i, x in zip(chosen, lifted, strict=True):
            if isinstance(x, Node):
                x.name = names[i]
            given[i] = x
        return f(*trees.unflatten(structure, given))

    on_chosen.__name__ = getattr(f, "__name__", type(f).__name__)
    run = Run(on_chosen, "first_nonfinite", [leaves[i] for i in chosen], range(len(chosen)), {})
    found = [
        node
        for x in trees.flatten(run.result)[0]
        for node in (x.flat if isinstance(x, np.ndarray) and x.dtype == object else [x])
    ]
    for x in found:
        if not _is_real(x):
            checked_node(x, "first_nonfinite: f must return nodes; it")
    return found


def _unboxed(x: Any) -> Any:
    """x with its data for a node, and an object array of numbers for an array of Values."""
    if isinstance(x, Node):
        return x.data
    if isinstance(x, np.ndarray) and x.dtype == object:
        plain = [element.data if isinstance(element, Node) else element for element in x.flat]
        return np.array(plain, dtype=object).reshape(x.shape)
    return x


def _is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic))


def _is_real(x: Any) -> bool:
    if _is_array(x):
        return x.dtype.kind in "fiu" or (x.dtype == object and all(isinstance(element, REAL) for element in x.flat))
    return isinstance(x, REAL) and not isinstance(x, bool)


# --- the user's lines ---------------------------------------------------------------------------------------------

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
NUMPYS = os.path.dirname(os.path.abspath(np.__file__)) + os.sep


class Lines:
    """Which line of the user's made which node: for nodes made while `remembered_lines` is open."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.numbers = numbers
        self.of_values: dict[Value, tuple[str, int]] = {}
        self.of_tensors: dict[int, tuple[str, int]] = {}  # by their numbers

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> int:
        number = next(self.numbers)
        self.of_tensors[number] = _user_line()
        return number

    def of(self, node: Value | Tensor) -> tuple[str, str]:
        """(file:line, its text) of the line that made a node; two empty texts if it was made by nobody's line."""
        place = self.of_tensors.get(node.number) if type(node) is Tensor else self.of_values.get(node)  # type: ignore[arg-type]
        if node.op is None or place is None or not place[0]:
            return "", ""
        return f"{place[0]}:{place[1]}", linecache.getline(*place).strip()


def _user_line() -> tuple[str, int]:
    """(file, line) of the innermost call that is neither in this package nor in NumPy; ("", 0) if there is none."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((OURS, NUMPYS, "<__array_function__")):
            return file, frame.f_lineno
        frame = frame.f_back
    return "", 0


@contextmanager
def remembered_lines() -> Iterator[Lines]:
    """Lines, filled while it is open: with each node that is made the user's line that makes it.

    Nodes know nothing of it, and pay nothing for it at other times: what makes them is replaced meanwhile.
    """
    numbers, init = tensor._numbers, Value.__init__
    lines = Lines(numbers)

    def remembering(self: Value, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        lines.of_values[self] = _user_line()

    tensor._numbers = lines  # type: ignore[assignment]
    Value.__init__ = remembering  # type: ignore[method-assign]
    try:
        yield lines
    finally:
        tensor._numbers = numbers
        Value.__init__ = init  # type: ignore[method-assign]


# --- the forward pass ---------------------------------------------------------------------------------------------


def _in_values(outputs: list[Any], lines: Lines) -> tuple[NonFinite | None, bool]:
    """(the first of the forward pass, whether it may be meant).

    An infinite constant, as of a mask, may be meant: then what it turns into nan is told, or what is made without it.
    """
    meant = None
    for node in reversed(order(*outputs)):
        if _finite(node.data):
            continue
        if node.op is None:
            index, number, count = _first(~np.isfinite(node.data), node.data)
            message = f"{node.name or 'a leaf'} is {number}{_where(index, count, node.size)} from the start"
            return NonFinite("value", node, number, message, index=index, count=count, mend=FROM_THE_START), False
        constants = [np.asarray(x) for x in node.operands if not isinstance(x, Node) and not _finite(x)]
        bad = ~np.isfinite(node.data) if meant is None or constants else _made_here(node)
        if not bad.any():
            continue
        index, number, count = _first(bad, node.data)
        arguments, mend = _arguments(node, index), ""
        if constants:
            because = f"{node.op.name} was given the constant {_first(~np.isfinite(constants[0]), constants[0])[1]}"
            mend = FROM_THE_START
        elif arguments:
            because = f"{node.op.name} of {', '.join(map(number_text, arguments))}"
            mend = _mend(node.op.name, arguments, number)
        else:
            finite = ", all finite" if all(_finite(x.data) for x in node.parents) else ""
            because = f"{node.op.name} of {', '.join(_size(x) for x in node.operands)}{finite}"
            mend = OVERFLOW if finite and node.op.name in SUMS else MENDS_OF_MAPS.get(node.op.name, "")
        where = _where(index, count, node.size)
        message = f"{formula(node)} is {number}{where}: {because}{_leaves(node, index)}"
        if meant is not None and not constants:
            message += f"; {meant.number} came in by {meant.operation}" + (f" at {meant.line}" if meant.line else "")
        place = (node.op.name, arguments, index, count, *lines.of(node))
        found = NonFinite("value", node, number, message, *place, mend)
        if not constants or any(np.isnan(x).any() for x in constants):
            return found, False
        meant = meant or found
    return meant, True


def _made_here(node: Any) -> Any:
    """Which elements are not finite though what they are made from is; or are nan though nothing of that is."""
    data = [np.asarray(x.data if isinstance(x, Node) else x) for x in node.operands]
    if isinstance(node.op, Primitive):
        finite = np.logical_and.reduce(np.broadcast_arrays(*(np.isfinite(x) for x in data)))
        was_nan = np.logical_or.reduce(np.broadcast_arrays(*(np.isnan(x) for x in data)))
    else:
        finite, was_nan = all(map(_finite, data)), any(np.isnan(x).any() for x in data)
    return np.asarray((~np.isfinite(node.data) & finite) | (np.isnan(node.data) & ~np.asarray(was_nan)))


# --- the backward pass --------------------------------------------------------------------------------------------


def _in_derivatives(outputs: list[Any], lines: Lines) -> NonFinite | None:
    adjoints: dict[Any, Any] = {}
    for output in outputs:  # of the sum of all outputs
        seed = 1.0 if isinstance(output, Value) else np.ones(output.shape, output.dtype)
        adjoints[output] = adjoints[output] + seed if output in adjoints else seed
    owned: set[Any] = set()
    for node in order(*outputs):
        upstream = adjoints.pop(node, None)
        if upstream is None or node.op is None:
            continue
        positions = [i for i, x in enumerate(node.operands) if isinstance(x, Node)]
        contributions = node.pull(upstream)
        in_order = len(positions) == len(contributions)  # a rule may leave out what nothing depends on
        for k, (parent, contribution) in enumerate(contributions):
            position = positions[k] if in_order else next(i for i in positions if node.operands[i] is parent)
            added = contribution.values if type(contribution) is Patch else contribution
            if not _finite(added):
                local = isinstance(node.op, Primitive)
                found = _in_edge(node, position, upstream, added, lines) if local else None
                return found or _in_map(node, position, upstream, contribution, lines)
            present = adjoints.get(parent)
            if type(contribution) is Patch:
                adjoints[parent] = total = contribution.added_to(present, parent in owned)
                owned.add(parent)
                total = total[contribution.key]
            else:
                adjoints[parent] = total = contribution if present is None else present + contribution
                owned.discard(parent)
            if present is not None and not _finite(total):
                index, number, count = _first(~np.isfinite(adjoints[parent]), adjoints[parent])
                message = (
                    f"the gradient by {_called(parent, index)} is {number}{_where(index, count, parent.size)}: the "
                    "contributions of its children are finite, and their sum is too large"
                )
                operation = None if parent.op is None else parent.op.name
                place = (operation, (), index, count, *lines.of(parent))
                return NonFinite("gradient", parent, number, message, *place, OVERFLOW)
    return None


def _in_edge(node: Any, position: int, upstream: Any, contribution: Any, lines: Lines) -> NonFinite | None:
    """What went wrong on an edge of an elementwise operation; None if its sum over a broadcast axis overflowed."""
    parent = node.operands[position]
    local: Any
    if isinstance(node, Value):
        k = sum(isinstance(x, Value) for x in node.operands[:position])
        local = node.edges()[k][1]
    else:
        data = [x.data if isinstance(x, Node) else x for x in node.operands]
        local = (node.op.db if position else node.op.da)(node.data, *data)
    local, up = np.broadcast_to(local, np.shape(node.data)), np.broadcast_to(upstream, np.shape(node.data))
    bad = ~np.isfinite(up * local)
    if not bad.any():
        return None
    index, _, count = _first(bad, local)
    slope, above, arguments = float(local[index]), float(up[index]), _arguments(node, index)
    where, leaves = _where(index, count, node.size), _leaves(node, index)
    place = (node.op.name, arguments, index, count, *lines.of(node))
    if not isfinite(slope):
        message = f"the derivative of {formula(node)} by {formula(parent, top=False)} is {slope}{where}{leaves}"
        mend = _mend(node.op.name, arguments, slope)
        if above == 0.0:
            message += f"; its upstream is 0, and 0 · {slope} is nan"
            mend = UNCHOSEN + (f". Or: {mend}" if mend else "")
        return NonFinite("derivative", node, slope, message, *place, mend)
    product = float(above * slope)
    message = (
        f"the gradient by {formula(parent, top=False)} is {product}{where}: the contribution "
        f"{number_text(above)} · {number_text(slope)} of {formula(node)} is too large"
    )
    return NonFinite("gradient", parent, product, message, *place, OVERFLOW)


def _in_map(node: Any, position: int, upstream: Any, contribution: Any, lines: Lines) -> NonFinite:
    """What went wrong where a structural operation, or the sum over a broadcast axis, was differentiated."""
    parent = node.operands[position]
    array = contribution.added_to(None, True) if type(contribution) is Patch else contribution
    index, number, count = _first(~np.isfinite(array), array)
    where = _where(index, count, parent.size)
    place = (node.op.name, (), index, count, *lines.of(node))
    largest = np.max(np.abs(upstream), initial=0.0)
    if isinstance(node.op, Primitive) or _finite(_scaled_pull(node, parent, upstream / (largest or 1.0))):
        message = f"the gradient by {_called(parent, index)} is {number}{where}: it overflows in {formula(node)}"
        return NonFinite("gradient", parent, number, message, *place, OVERFLOW)
    message = f"the derivative of {formula(node)} by {formula(parent, top=False)} is {number}{where}"
    return NonFinite("derivative", node, number, message, *place, MENDS_OF_MAPS.get(node.op.name, ""))


def _scaled_pull(node: Any, parent: Any, upstream: Any) -> Any:
    """The contributions to one parent, summed, where the largest upstream is 1: then only the operation overflows."""
    parts = [x for each, x in node.pull(upstream) if each is parent]
    return sum(x.added_to(None, True) if type(x) is Patch else x for x in parts)


# --- words --------------------------------------------------------------------------------------------------------


def _finite(x: Any) -> bool:
    return isfinite(x) if type(x) is float else bool(np.isfinite(x).all())


def _first(bad: Any, array: Any) -> tuple[Index, float, int]:
    """(index, number, how many there are) of the first bad element of an array."""
    bad, array = np.asarray(bad), np.asarray(array)
    index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape)) if array.ndim else ()
    return index, float(array[index]), int(bad.sum())


def _where(index: Index, count: int, size: int) -> str:
    """ " at [1, 0], 3 of 6 elements"; nothing for what has no dimensions."""
    return f" at {list(index)}, {count} of {size} element{'s' * (size != 1)}" if index else ""


def _size(x: Any) -> str:
    shape = np.shape(x.data if isinstance(x, Node) else x)
    return "an array of " + "×".join(map(str, shape)) if shape else "a number"


def _called(node: Any, index: Index) -> str:
    """A node's formula in names, with the index where it has a name."""
    text = str(formula(node, top=False))
    return text + f"[{','.join(map(str, index))}]" if index and node.name else text


def _element(x: Any, index: Index, shape: tuple[int, ...]) -> tuple[float, Index]:
    """(number, index) of the element of an operand that goes into the element at index of a result of this shape."""
    array = np.asarray(x.data if isinstance(x, Node) else x)
    own = index[len(index) - array.ndim :] if array.ndim else ()
    own = tuple(0 if n == 1 else i for i, n in zip(own, array.shape, strict=True))
    return float(array[own]), own


def _arguments(node: Any, index: Index) -> tuple[float, ...]:
    """The numbers that an elementwise operation was applied to at that element; () for a structural one."""
    if not isinstance(node.op, Primitive):
        return ()
    return tuple(_element(x, index, node.shape)[0] for x in node.operands)


SHOWN = 4


def _leaves(node: Any, index: Index) -> str:
    """ " (x = 1, W[0,1] = 2)": the named leaves that an element was made from, the first few of them.

    Array nodes: as far as elementwise operations lead, where it is plain which element goes into which.
    """
    named: list[str] = []
    if isinstance(node, Value):
        named = [f"{x.name} = {x.data:g}" for x in reversed(order(node)) if x.op is None and x.name]
    else:
        pending: dict[tuple[Any, Index], None] = {(node, index): None}
        for each, at in (walk := list(pending)):
            if each.op is None and each.name:
                place = f"[{','.join(map(str, at))}]" if at else ""
                named.append(f"{each.name}{place} = {float(each.data[at]):g}")
            if not isinstance(each.op, Primitive) or len(walk) > 1000:
                continue
            for x in each.parents:
                step = (x, _element(x, at, each.shape)[1])
                if step not in pending:
                    pending[step] = None
                    walk.append(step)
    shown = ", ".join(named[:SHOWN])
    more = f", and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return f" ({shown}{more})" if named else ""


# --- what usually mends it ----------------------------------------------------------------------------------------

FROM_THE_START = "look at where this number comes from (np.isfinite(array).all() tells): it is only handed on here"
OVERFLOW = (
    "keep the numbers smaller: scale the inputs, subtract a maximum or a mean first, work with logarithms, or use "
    "float64 where it is float32"
)
UNCHOSEN = (
    "what np.where did not choose, or what is multiplied by 0, is differentiated all the same; put a safe value inside "
    "too: np.where(c, f(np.where(c, x, 1.0)), 0.0)"
)
LOG = (
    "np.log(x + eps) or np.log(np.clip(x, eps, None)) with an eps such as 1e-12; of a probability, use a loss of the "
    "logits instead (logsigmoid, softplus, x - logsumexp(x)); beside np.where a safe value inside: "
    "np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0)"
)
ROOT = (
    "np.sqrt(x + eps) with an eps such as 1e-12; or a safe value inside: "
    "np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0)"
)
POWER = (
    "(x + eps) ** p with an eps such as 1e-12; or a safe value inside: "
    "np.where(x > 0, np.where(x > 0, x, 1.0) ** p, 0.0)"
)
NEGATIVE = (
    "the number should not be negative: np.maximum(x, 0.0) where rounding made it so, np.abs(x) if its sign does not "
    "matter"
)
EXPONENTIAL = (
    "subtract the maximum first, np.exp(x - np.max(x)), or use np.logaddexp for log(exp(a) + exp(b)), softplus for "
    "log(1 + exp(x)), sigmoid for 1 / (1 + exp(-x))"
)
DIVISION = (
    "keep the divisor away from 0: x / (d + eps); or a safe one inside: "
    "np.where(d == 0, 0.0, x / np.where(d == 0, 1.0, d))"
)
DOMAIN = "keep the number inside of its domain: np.clip(x, -1 + eps, 1 - eps) with an eps such as 1e-7"
FROM_ONE = "keep the number at 1 + eps at least: np.maximum(x, 1.0 + eps)"
ANGLE = "at the origin there is no angle: add an eps to one of the two, or choose safe ones with np.where before"
LOGS = ("log", "log2", "log10", "log1p")
EXPONENTIALS = ("exp", "exp2", "expm1", "sinh", "cosh")
SUMS = ("sum", "matmul", "einsum", "cumsum", "prod")
EQUAL = "values that are equal leave their vectors without a derivative: use the values alone, or tell them apart first"
MENDS_OF_MAPS = {"eigh": EQUAL, "eig": EQUAL, "svd": EQUAL}


def _mend(name: str, arguments: tuple[float, ...], number: float) -> str:
    """What usually helps where this operation of finite arguments is nan or inf, or its derivative is."""
    a, b = (*arguments, 0.0, 0.0)[:2]
    if name in LOGS:
        return NEGATIVE if isnan(number) and a < 0.0 else LOG
    if name == "sqrt":
        return NEGATIVE if a < 0.0 else ROOT
    if name == "cbrt":
        return ROOT.replace("np.sqrt", "np.cbrt")
    if name in EXPONENTIALS:
        return EXPONENTIAL
    if name in ("div", "floordiv", "mod"):
        return DIVISION if b == 0.0 else OVERFLOW
    if name == "reciprocal":
        return DIVISION if a == 0.0 else OVERFLOW
    if name == "pow":
        if a < 0.0 and b != round(b):
            return NEGATIVE
        if a == 0.0:
            return POWER if b > 0.0 else DIVISION
        return OVERFLOW
    if name in ("arcsin", "arccos", "arctanh"):
        return DOMAIN
    if name == "arccosh":
        return FROM_ONE
    if name == "arctan2":
        return ANGLE
    return OVERFLOW if abs(number) == np.inf and name in ("add", "sub", "mul", "square") else ""
