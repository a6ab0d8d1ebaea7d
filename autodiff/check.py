"""Is this gradient right? agree, differ or undecidable, for every element, and why.

A claim is compared with slopes that `autodiff.differences` measures on f itself, each with a bound on its
error. The verdict comes from that bound and not from one tolerance for all: a gradient of 1e-9 that is wrong
by a factor 2 differs, and neither a kink nor float32 makes a right one differ.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from typing import Any, Literal

import numpy as np

from autodiff.differences import RESOLVED, TIGHT, Floats, Slope, quantum, slope
from autodiff.notation import argument_names
from autodiff.primitives import Primitive

Verdict = Literal["agree", "differ", "undecidable"]

DIGITS = 1e-6  # relative; a claim right to six digits is a right formula, perhaps passed through float32 once
LOST = 2.0**16  # units of rounding, where coarser: a nearly certain prediction in float32 keeps two digits
TENTH = 0.1  # ... and one in float16 one
TERMS = 32.0  # units of rounding, of the largest element: what sums that cancel leave in any other one
QUARTER = 0.25  # of the gradient; a claim this close was not doubled or halved
BEYOND = 3.0  # bounds; a claim off by more differs for certain, one off by 2 to 3 is left open


@dataclass(frozen=True)
class Element:
    """The verdict on one element of the claimed gradient, and the slope measured there."""

    name: str  # as f calls it: x, W[0, 2]
    argument: int
    index: tuple[int, ...]
    claimed: float
    estimate: float  # nan when nothing could be measured
    bound: float  # the slope lies within estimate +- bound
    verdict: Verdict
    reason: str
    excess: float  # |claimed - estimate| in units of what is allowed

    @property
    def ratio(self) -> float:
        """claimed / estimate; nan where the estimate is 0 or missing."""
        return self.claimed / self.estimate if self.estimate else nan

    def __str__(self) -> str:
        measured = f"measured {self.estimate:.7g} ± {self.bound:.0e}"
        return f"{self.name}: claimed {self.claimed:.7g}, {measured}; {self.reason}"


@dataclass(frozen=True)
class Check:
    """What `check_grad` found: an Element for every element of the gradient, and the verdict on all.

    It is true in a condition only when the verdict is "agree": `assert check_grad(f, x)` means what it says.
    """

    elements: tuple[Element, ...]

    @property
    def verdict(self) -> Verdict:
        """differ if any element differs, else undecidable if any is, else agree."""
        return self.worst.verdict

    @property
    def worst(self) -> Element:
        """The element that decided: of those with the gravest verdict, the one farthest off."""
        gravity = ("agree", "undecidable", "differ")
        return max(self.elements, key=lambda element: (gravity.index(element.verdict), element.excess))

    def __bool__(self) -> bool:
        return self.verdict == "agree"

    def __str__(self) -> str:
        count = Counter(element.verdict for element in self.elements)
        parts = ", ".join(f"{number} {verdict}" for verdict, number in sorted(count.items()))
        return f"{self.verdict} ({parts})\n  {self.worst}"


def check_grad(f: Callable[..., Any], at: Any, claimed: Any = None) -> Check:
    """Check: whether the gradient of f at a point is as claimed; agree, differ or undecidable, and why.

    f: a function of one number or array, or of several when `at` is a tuple, that returns one number. at:
    float, array, or tuple of those; integers count as floats, float32 as float64. claimed: the gradient, in
    the structure of `at`, or a function that gives it there; None checks the project's own, with f run on nodes.

    "agree" is said only where a factor 2 would have been noticed, or where the gradient is zero to the
    working accuracy of f; "differ" only where the claim is clearly beyond the bound of the measurement and
    its own rounding, which is that of its dtype or of `at`'s, the coarser one. At a kink or a jump, at the
    edge of a domain, in noise, and where f gives different values at the same point: "undecidable".

    f is evaluated about 30 times per element where it is smooth, up to 150 times where it is not, each time
    on a fresh copy. An exception or a warning at the point itself is yours; elsewhere it makes a step
    useless, no more. Not thread-safe: warnings are silenced meanwhile. Raises ValueError for a point or
    claim that is empty, a point that is not finite, a claim of another shape, and an f that does not return
    one number; TypeError for what holds no real numbers, and for an f that leaves the graph of the nodes it
    is given.

    >>> print(check_grad(lambda x, y: x**2 + 1e-9 * y, (3.0, 1.0), claimed=(6.0, 2e-9)))
    differ (1 agree, 1 differ)
      y: claimed 2e-09, measured 1e-09 ± 1e-23; claimed is 2 times the measured slope
    >>> check_grad(lambda x: np.maximum(0, x), 0.0, claimed=1.0).worst.reason
    'a kink at 0: slopes from the left 0 and from the right 1'
    """
    points = _points(at)
    if callable(claimed):
        claimed = claimed(*at) if isinstance(at, tuple) else claimed(at)
    claims = _own_gradient(f, points) if claimed is None else _claims(claimed, points, isinstance(at, tuple))
    called = _Called(f, points)
    names = argument_names(f, len(points))
    elements = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        trouble = called.trouble()
        grain = 0.0 if trouble else quantum(called.along, called.value)
        for argument, (point, claim) in enumerate(zip(points, claims, strict=True)):
            eps = float(np.finfo(claim.dtype).eps)
            eps = eps if claimed is None else max(eps, point.eps)
            largest = float(np.max(abs(claim[np.isfinite(claim)]), initial=0.0))
            for index in np.ndindex(claim.shape):
                found = Slope(trouble=trouble) if trouble else called.slope(argument, index, grain)
                slack = TERMS * eps * (largest + found.sway)
                name = names[argument] + (f"[{', '.join(map(str, index))}]" if index else "")
                claim_here = float(claim[index])
                judged = _judge(claim_here, found, max(DIGITS, min(LOST * eps, TENTH)), slack)
                elements.append(Element(name, argument, index, claim_here, found.value, found.bound, *judged))
        trouble = trouble or called.trouble()  # a counter or a generator inside f may show only now
    if trouble:
        elements = [replace(element, verdict="undecidable", reason=trouble) for element in elements]
    return Check(tuple(elements))


# Ordinary points on both sides of 0 and of 1, none a corner of a common function; a second operand is never the
# same number or a multiple of it, where maximum has a tie and floor_divide a jump
POINTS = (
    -31.718,
    -4.3291,
    -1.7013,
    -0.83171,
    -0.31307,
    -1.0371e-3,
    1.0417e-3,
    0.29173,
    0.81239,
    1.3041,
    4.1173,
    27.937,
)
SECOND = tuple(0.73914 * point for point in POINTS)


def check_primitive(row: Primitive, at: Sequence[float | tuple[float, ...]] | None = None) -> Check:
    """Check: whether the rules of a row of the table are the derivatives of its forward; see `check_grad`.

    at: points, a number (for two operands a pair) each; by default some on both sides of 0 and 1. Points where the
    row is not finite are outside its domain. Raises ValueError if no point is inside, and if the row's array kernel
    gives other numbers than its float kernel; TypeError if a rule runs on floats only, not on nodes and arrays.

    >>> from autodiff.primitives import TABLE, primitive, tanh
    >>> wrong = primitive("tanh_twice", lambda a: 2.0 * tanh(a), lambda y, a: 1.0 - y * y, formula="2 * tanh(a)")
    >>> print(check_primitive(wrong).verdict, check_primitive(tanh).verdict)
    differ agree
    >>> del TABLE["tanh_twice"]
    """
    rules = [rule for rule in (row.da, row.db) if rule is not None]
    ordinary = POINTS if len(rules) == 1 else itertools.product(POINTS, SECOND)
    points = ordinary if at is None else at
    elements: list[Element] = []
    for point in points:
        operands = [float(x) for x in (point if isinstance(point, tuple) else (point,))]
        with np.errstate(all="ignore"):
            y = row.on_floats(*operands)
        if not isfinite(y):
            continue
        if not elements:
            _check_targets(row, y, operands)
        on_array = float(row.array(*map(np.float64, operands)))
        if abs(on_array - y) > 64 * float(np.spacing(abs(y))):
            raise ValueError(f"{row.name} is {y!r} on floats and {on_array!r} on arrays at {tuple(operands)}")
        for position, rule in enumerate(rules):

            def f(x: float, position: int = position, operands: list[float] = operands) -> float:
                moved = [x if i == position else operand for i, operand in enumerate(operands)]
                return row.on_floats(*moved)

            with np.errstate(all="ignore"):
                claimed = row.local(rule, y, *operands)
            (element,) = check_grad(f, operands[position], claimed).elements
            where = ", ".join(f"{operand:g}" for operand in operands)
            elements.append(replace(element, name=f"d{'ab'[position]} of {row.name}({where})", argument=position))
    if not elements:
        raise ValueError(f"{row.name} is not finite at any of the points; give points of its domain with at=")
    return Check(tuple(elements))


def _check_targets(row: Primitive, y: float, operands: list[float]) -> None:
    """Raises TypeError unless the rules run on nodes and on arrays as on floats, and the array kernel on arrays."""
    from autodiff.value import Value

    twice = [np.array([operand, operand]) for operand in operands]
    for rule, name in ((row.da, "da"), (row.db, "db")):
        if rule is None:
            continue
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = row.local(rule, y, *operands)
            for target, arguments in (
                ("nodes", [Value(y), *map(Value, operands)]),
                ("arrays", [np.full(2, y), *twice]),
            ):
                try:
                    found = rule(*arguments)
                    numbers = np.broadcast_to(found.data if isinstance(found, Value) else found, 2).astype(float)
                except Exception as error:
                    raise TypeError(
                        f"the rule {name} of {row.name} runs on floats, but not on {target} ({error}); "
                        "write it with + - * / ** and functions of autodiff, without `if` and math.*"
                    ) from error
                if isfinite(expected) and not np.allclose(numbers, expected, rtol=1e-9, atol=1e-300):
                    raise ValueError(f"the rule {name} of {row.name} is {expected!r} on floats, {numbers} on {target}")
    with np.errstate(all="ignore"):
        if np.shape(row.array(*twice)) != (2,):
            raise ValueError(f"the array kernel of {row.name} does not work element by element on arrays")


def _judge(claimed: float, found: Slope, relative: float, slack: float) -> tuple[Verdict, str, float]:
    """(verdict, reason, excess); relative and slack: how far rounding may have moved the claim."""
    if found.trouble:
        return "undecidable", found.trouble, 0.0
    if not isfinite(claimed):
        return "differ", "the claim is not finite, the slope is", inf

    def excess(value: float, allowed: float) -> float:
        gap = abs(claimed - value)
        return gap / (allowed + relative * max(abs(claimed), abs(value))) if gap else 0.0

    gap, larger = abs(claimed - found.value), max(abs(claimed), abs(found.value))
    off = excess(found.value, 2 * found.bound + slack)
    hinted = abs(claimed - found.hint) <= relative * abs(claimed)  # False for nan
    if off <= 1:
        faint = abs(found.value) <= found.bound / RESOLVED and larger <= max(found.zero, slack)
        if gap + found.bound <= QUARTER * larger:
            return "agree", "equal within the bound", off
        if hinted:
            return "agree", "equal to the complex step, and within the bound", off
        if claimed == 0 and (found.flat or found.value == 0):
            return "agree", "f is constant or symmetric there", off
        if abs(claimed - found.hint) > QUARTER * max(abs(claimed), abs(found.hint)):
            return "undecidable", f"too faint for differences; the complex step gives {found.hint:.7g}", off
        if faint and found.bound <= max(found.zero, slack):
            return "agree", "zero to working accuracy", off
        why = f"moves in steps of {found.grain:.0e}, too coarse" if found.grain else "changes too little"
        return "undecidable", f"f {why} to tell this slope from its double", off
    if hinted:
        return "undecidable", "as claimed by the complex step, but not by differences", off
    if any(excess(value, 2 * bound) <= 1 for value, bound in found.others):
        return "undecidable", f"as claimed only over larger steps than {found.step:.0e}", off
    if excess(found.value, BEYOND * found.bound + 2 * slack + found.doubt) <= 1:
        return "undecidable", "too near the bound to call", off
    ratio = claimed / found.value if abs(found.value) > found.bound else nan
    if not isfinite(ratio):
        return "differ", "claimed is far beyond the bound", off
    if abs(ratio - 1) < TIGHT:
        return "differ", f"claimed is off by {ratio - 1:+.1e} of the measured slope", off
    return "differ", f"claimed is {ratio:.4g} times the measured slope", off


@dataclass(frozen=True)
class _Point:
    """One argument of f: its numbers in float64, whether f gets a float, and the rounding it came with."""

    array: Floats
    scalar: bool
    eps: float


class _Called:
    """f at and around the point: on numbers or, if it takes only those, on nodes."""

    def __init__(self, f: Callable[..., Any], points: list[_Point]) -> None:
        self.f, self.points = f, points
        self.arrays = [point.array for point in points]
        self.nodes = False
        try:
            self.value = self(self.arrays)
        except (AttributeError, TypeError) as on_numbers:  # x.relu() is an error on floats
            self.nodes = True
            try:
                self.value = self(self.arrays)
            except Exception:
                raise on_numbers from None
        generator = np.random.default_rng(0)
        self.direction = [generator.uniform(0.5, 1.0, array.shape) for array in self.arrays]

    def __call__(self, arrays: list[Floats]) -> float:
        """f there; raises what f raises, and ValueError when that is not one number."""
        if self.nodes:
            return _one_number(self.f(*_as_nodes(arrays, self.points)))
        plain = [a.item() if p.scalar else a.copy() for a, p in zip(arrays, self.points, strict=True)]
        return _one_number(self.f(*plain))

    def trouble(self) -> str:
        """What makes every measurement useless, seen by calling f at the point again; "" if nothing does."""
        if not isfinite(self.value):
            return f"f is {self.value} at the point"
        return "" if self._safe(self.arrays) == self.value else "f gives different values at the same point"

    def slope(self, argument: int, index: tuple[int, ...], grain: float) -> Slope:
        """The measured d(f)/d(that element)."""

        def moved(x: Any) -> list[Floats]:
            array = self.arrays[argument].astype(type(x))
            array[index] = x
            return [array if i == argument else other for i, other in enumerate(self.arrays)]

        def imaginary(z: complex) -> complex:
            try:
                arrays = moved(z)
                plain = [a.item() if p.scalar else a.copy() for a, p in zip(arrays, self.points, strict=True)]
                result = np.asarray(self.f(*plain))
                return complex(result.item()) if result.dtype.kind == "c" else complex(nan, nan)
            except Exception:  # anything may go wrong in a function that was never meant for complex numbers
                return complex(nan, nan)

        x = float(self.arrays[argument][index])
        return slope(lambda x: self._safe(moved(x)), x, self.value, grain, None if self.nodes else imaginary)

    def along(self, t: float) -> float:
        """f on a line through the point on which every number moves."""
        arrays = []
        for array, direction in zip(self.arrays, self.direction, strict=True):
            arrays.append(array + t * np.maximum(abs(array), 1.0) * direction)
        return self._safe(arrays)

    def _safe(self, arrays: list[Floats]) -> float:
        """f there, nan where it raises: the edge of its domain, or of what its author thought of."""
        try:
            return self(arrays)
        except Exception:
            return nan


def _one_number(result: Any) -> float:
    """What f returned, as a float. Raises ValueError."""
    from autodiff.value import Value

    if isinstance(result, np.ndarray) and result.dtype == object and result.size == 1:
        result = result.item()
    if isinstance(result, Value):
        return result.data
    array = np.asarray(result)
    if array.size != 1 or array.dtype.kind not in "biuf":
        came = repr(result) if array.size == 1 else f"an array of shape {array.shape}"
        raise ValueError(f"f must return one real number to have a gradient, and returned {came}. Sum it?")
    return float(array.item())


def _as_nodes(arrays: list[Floats], points: list[_Point]) -> list[Any]:
    from autodiff.scalars import scalars
    from autodiff.value import Value

    return [Value(a.item()) if p.scalar else scalars(a) for a, p in zip(arrays, points, strict=True)]


def _own_gradient(f: Callable[..., Any], points: list[_Point]) -> list[Floats]:
    """The gradient by running f on nodes and backward; nodes that f brings along get their grads back.

    Arrays become arrays of Values or, where f needs what only they have, Tensors.
    """
    from autodiff.transforms import grad
    from autodiff.value import Value, order

    inputs = _as_nodes([point.array for point in points], points)
    try:
        output = f(*inputs)
    except TypeError as refusal:
        at = [point.array.item() if point.scalar else point.array for point in points]
        try:
            return [np.asarray(g, dtype=np.float64) for g in grad(f, tuple(range(len(at))))(*at)]
        except TypeError:
            raise refusal from None
    if isinstance(output, np.ndarray) and output.dtype == object and output.size == 1:
        output = output.item()
    if not isinstance(output, Value):
        value = _one_number(output)
        raise TypeError(
            f"f returned the plain number {value} when it was given nodes: its output does not depend on "
            "them, or left the graph on the way (.data, .item(), float()). Mend f, or give claimed="
        )
    brought = [(node, node.grad) for node in order(output)]
    output.backward()
    gradient = [np.array(node.grad, dtype=np.float64) for node in inputs]
    for node, grad_before in brought:
        node.grad = grad_before
    return gradient


def _points(at: Any) -> list[_Point]:
    points = []
    for number, item in enumerate(at if isinstance(at, tuple) else (at,)):
        name = f"at[{number}]" if isinstance(at, tuple) else "at"
        if not isinstance(item, (float, int, np.generic, np.ndarray)):
            raise TypeError(f"{name} must be a float or an array (`at` may be a tuple of them), got {item!r}")
        array = np.asarray(item)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must hold real numbers, got {array.dtype}; of nodes give the .data")
        if not array.size or not np.isfinite(array).all():
            flaw = "not finite" if array.size else "empty"
            raise ValueError(f"{name} is {flaw}: there is no gradient to measure")
        eps = float(np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps)
        points.append(_Point(array.astype(np.float64), not isinstance(item, np.ndarray), eps))
    if not points:
        raise ValueError("at is an empty tuple: there is nothing to differentiate by")
    return points


def _claims(claimed: Any, points: list[_Point], several: bool) -> list[Floats]:
    if several and (not isinstance(claimed, (tuple, list)) or len(claimed) != len(points)):
        came = f"{len(claimed)} of them" if isinstance(claimed, (tuple, list)) else type(claimed).__name__
        raise ValueError(f"claimed must be a tuple of {len(points)} gradients, as `at` is; got {came}")
    claims = []
    for number, (claim, point) in enumerate(zip(claimed if several else (claimed,), points, strict=True)):
        name = f"claimed[{number}]" if several else "claimed"
        try:
            array = np.asarray(claim)
            array = array.astype(np.float64) if array.dtype.kind in "biuO" else array
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be a number or an array of numbers, got {claim!r}") from error
        if array.dtype.kind != "f":
            raise TypeError(f"{name} must hold real numbers, got {array.dtype}")
        if array.shape != point.array.shape:
            raise ValueError(
                f"{name} has shape {array.shape}, and the point has shape {point.array.shape}: a gradient "
                "has the shape of what it is taken by"
            )
        claims.append(array)
    return claims
