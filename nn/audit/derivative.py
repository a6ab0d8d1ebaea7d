"""Is this the derivative of that activation or loss? right, wrong or undecidable, and which mistake it is.

The truth is the gradient of f itself, run on our nodes, with slopes measured by differences as an independent judge.
Glossary: z, a an input and the output a = f(z); y, yhat target and prediction; n samples, m outputs of a batch.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import autodiff as ad
from autodiff.differences import slope
from nn import losses
from nn.activations import ACTIVATIONS
from nn.audit.report import Cause, Report

__all__ = ["check_derivative"]

Floats = NDArray[np.float64]
Function = Callable[..., Any]

QUANTITY = "derivative"
DIGITS = 1e-6  # relative; a claim right to six digits is a right formula
SINGLE = 1e-4  # ... and one computed in float32 shows four after some cancellation
CANCELLED = 64 * float(np.finfo(float).eps)  # of the largest derivative: what s (1 - s) leaves where s is next to 1
ORDINARY = 8.0  # |z| beyond which an activation is in its tail
TAIL = 1e3  # times an ordinary error of a prediction
CLOSE = 2e-3  # |z| below which a form like cos(z)/z - sin(z)/z**2 has no digits left
INSIDE = 1e-3  # distance from 0 and 1 at which a small epsilon in a loss no longer shows
SEPARATED = 0.9  # mistakes must explain the claim at this part of the points, all but kinks: at all of them

# Functions that a claim may be the derivative of, by mistake or on purpose.
FUNCTIONS: dict[str, Function] = {
    **{name: f for name, f in ACTIVATIONS.items() if name != "softmax"},
    "silu": ad.silu, "gelu": ad.gelu, "elu": ad.elu, "selu": ad.selu, "logsigmoid": ad.logsigmoid, "exp": ad.exp,
    "log": ad.log, "sin": ad.sin, "cos": ad.cos, "square": ad.square, "sqrt": ad.sqrt, "arctan": ad.arctan,
    "abs": ad.absolute, "sinh": ad.sinh, "cosh": ad.cosh, "erf": ad.erf,
}  # fmt: skip
FORMULAS = {
    "relu": "1 for z > 0, 0 for z < 0", "leaky_relu": "1 for z > 0, 0.01 for z < 0", "tanh": "1 - a**2",
    "sigmoid": "a*(1 - a)", "softplus": "sigmoid(z)", "identity": "1", "exp": "exp(z)", "sin": "cos(z)",
    "cos": "-sin(z)", "square": "2*z", "silu": "sigmoid(z) + z*sigmoid(z)*(1 - sigmoid(z))", "log": "1/z",
    "sqrt": "1/(2*a)", "arctan": "1/(1 + z**2)",
}  # fmt: skip
LOSS_FORMULAS = {
    "sse": "2*(yhat - y)", "half_sse": "yhat - y", "mse": "2*(yhat - y)/(n*m)", "ce": "-y/yhat",
    "bce": "-y/yhat + (1 - y)/(1 - yhat)",
}  # fmt: skip
# What people write with the output a = f(z) for a derivative, when a sign, a square or a factor is lost.
IN_THE_OUTPUT: dict[str, Callable[[Floats], Floats]] = {
    "a": lambda a: a,
    "1 - a": lambda a: 1.0 - a,
    "a**2": lambda a: a * a,
    "a*(1 - a)": lambda a: a * (1.0 - a),
    "a*(1 + a)": lambda a: a * (1.0 + a),
    "1 - a**2": lambda a: 1.0 - a * a,
    "1 + a**2": lambda a: 1.0 + a * a,
    "(1 - a)**2": lambda a: (1.0 - a) ** 2,
    "a*(1 - a**2)": lambda a: a * (1.0 - a * a),
}


def check_derivative(claimed: Function | str, f: Function | str, *, at: Sequence[float] = (), seed: int = 0) -> Report:
    """Report: whether claimed is the derivative of f, and if not, which mistake it is; the quantity is "derivative".

    f, claimed: functions of one array, elementwise (activations), or of (y, yhat) with the derivative by yhat (losses;
    f gives the terms or their total, over arrays with n samples in rows). Or names: of an activation, an elementary
    function, or a loss, which is then the sum over the batch ("mse": the mean). A name as a claim stands for the
    right derivative of what it names. at: further points of yours, for kinks that are not at round numbers.

    Checked at random, tiny and huge points and at the usual kinks. What is only wrong at a kink, or only beyond where
    an epsilon or the rounding of the claim shows, is a note. Undecidable where f gives no finite numbers. Raises
    TypeError if f or claimed is neither callable nor a name, ValueError for unknown names and for what cannot be run.

    >>> def dsigmoid(z):
    ...     s = 1 / (1 + np.exp(-z))
    ...     return 2 * s * (1 - s)
    >>> print(check_derivative(dsigmoid, "sigmoid").text("what"))
    wrong: 1 cause
    derivative: claimed is 2 times the derivative (at z = 0 it is 0.5, should be 0.25)
    >>> check_derivative(lambda z: 1 - np.tanh(z) ** 2, np.tanh).verdict
    'right'
    """
    is_loss = _is_loss(f)
    claim, value = _function(claimed, is_loss, "claimed", derivative=True), _function(f, is_loss, "f")
    name = f if isinstance(f, str) else None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        checked = _check_loss if is_loss else _check_activation
        return checked(claim, value, name, np.asarray(at, dtype=float), np.random.default_rng(seed))


# ---------------------------------------------------------------- what came
def _is_loss(f: Function | str) -> bool:
    """Whether f is a function of (y, yhat)."""
    if isinstance(f, str):
        return f in losses.LOSSES
    if isinstance(f, np.ufunc):
        return f.nin == 2
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):  # builtins
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def _function(given: Function | str, is_loss: bool, argument: str, derivative: bool = False) -> Function:
    if not isinstance(given, str):
        if not callable(given):
            raise TypeError(f"{argument} is a function or the name of one; came {type(given).__name__}")
        return given
    table: dict[str, Function] = {**FUNCTIONS, "softmax": ACTIVATIONS["softmax"]}
    if is_loss:
        table = {key: loss if key == "mse" else partial(loss, reduction="sum") for key, loss in losses.LOSSES.items()}
    if given not in table:
        raise ValueError(f"{argument}: {given!r} is not known; known are {', '.join(table)}")
    f = table[given]
    if not derivative:
        return f
    if is_loss:
        return lambda y, yhat: _loss_gradient(f, y, yhat)
    return lambda z: _gradient(f, np.asarray(z, dtype=float))


def _gradient(f: Function, z: Floats) -> Floats | None:
    """f'(z) elementwise, by running f on our nodes; None if f does not take them."""
    node = ad.Tensor(np.array(z))
    try:
        out = f(node)
        if not isinstance(out, ad.Tensor) or out.shape != node.shape:
            return None
        np.sum(out).backward()
    except Exception:  # whatever foreign code raises on nodes: differences judge alone
        return None
    return np.asarray(node.grad, dtype=float)


def _loss_gradient(f: Function, y: Floats, yhat: Floats) -> Floats | None:
    node = ad.Tensor(np.array(yhat))
    try:
        out = f(y, node)
        if not isinstance(out, ad.Tensor) or not (out.size == 1 or out.shape == node.shape):
            return None
        np.sum(out).backward()
    except Exception:
        return None
    return np.asarray(node.grad, dtype=float)


def _called(g: Function, z: Floats) -> NDArray[Any]:
    """g at every number of z, through arrays of two dimensions if g takes them, else one number at a time."""
    try:
        out = g(z.reshape(-1, 1).copy())
        if np.ndim(out) == 0:
            return np.full(z.shape, float(out))
        if np.shape(out) == (z.size, 1):
            return np.asarray(out)[:, 0]
        if np.shape(out) == (z.size, z.size):
            raise _ShapeError(np.shape(out), (z.size, 1))
        shape = np.shape(out)
    except _ShapeError:
        raise
    except Exception:
        shape = None
    try:
        return np.array([float(np.asarray(g(float(number))).item()) for number in z])
    except Exception as error:
        if shape is not None:
            raise _ShapeError(shape, (z.size, 1)) from error
        raise ValueError(f"neither an array nor single numbers can be given to it: {error}") from error


class _ShapeError(Exception):
    """A claim of the wrong shape: (found, expected)."""


# ---------------------------------------------------------------- samples and what explains them
@dataclass
class _Samples:
    """claimed and true at the points that count, and how far apart they may be."""

    claimed: Floats
    true: Floats
    digits: float
    floor: float  # absolute

    def close(self, other: Any, claimed: Floats | None = None) -> NDArray[np.bool_]:
        mine = self.claimed if claimed is None else claimed
        allowed = self.digits * np.maximum(abs(mine), abs(other)) + self.floor
        near: NDArray[np.bool_] = abs(mine - other) <= allowed
        return near

    def fits(self, other: Any, claimed: Floats | None = None) -> bool:
        return bool(self.close(other, claimed).all())

    def factor(self, other: Floats) -> float | None:
        """c with claimed = c other, if there is one, and it is neither 0 nor accidental."""
        largest = np.max(abs(other), initial=0.0)
        solid = abs(other) > 1e-2 * largest
        if not largest or solid.sum() < 3:
            return None
        c = float(np.median(self.claimed[solid] / other[solid]))
        return c if c and np.isfinite(c) and self.fits(c * other) else None


def nice(c: float) -> str:
    """c as a whole number or a simple fraction where it is one, else with six digits.

    >>> nice(0.5), nice(-2.0), nice(0.1234567)
    ('1/2', '-2', '0.123457')
    """
    simple = Fraction(c).limit_denominator(16)
    return str(simple) if simple and abs(float(simple) - c) <= 1e-7 * abs(c) else f"{c:.6g}"


Named = tuple[str, Floats, str, str | None]  # kind, what the claim would be, message, formula claimed


def _wrong(kind: str, message: str, **rest: Any) -> Cause:
    return Cause(QUANTITY, None, (), kind, message, **rest)


def _explained(samples: _Samples, candidates: Iterator[Named], expected: str | None) -> list[Cause] | None:
    """The causes that explain the claim: one mistake, or one and a factor."""
    later: list[list[Cause]] = []
    for kind, would_be, message, found in candidates:
        if not np.isfinite(would_be).all() or samples.fits(would_be, samples.true):
            continue  # it would be right
        if samples.fits(would_be):
            return [_wrong(kind, message, found=found, expected=expected)]
        c = samples.factor(would_be)
        if c is not None and len(nice(c)) <= 4:
            times = _wrong("factor", f"and {nice(c)} times that", factor=nice(c))
            later.append([_wrong(kind, message, found=found, expected=expected), times])
    return later[0] if later else None


def _worst(samples: _Samples, places: Sequence[str]) -> str:
    off = abs(samples.claimed - samples.true) - samples.digits * abs(samples.true)
    i = int(np.argmax(off))
    return f"at {places[i]} it is {samples.claimed[i]:.6g}, should be {samples.true[i]:.6g}"


# ---------------------------------------------------------------- activations
def _points(at: Floats, rng: np.random.Generator) -> Floats:
    usual = np.concatenate([rng.uniform(-3, 3, 16), rng.uniform(3, 8, 4), -rng.uniform(3, 8, 4)])
    tiny = np.array([1e-300, 1e-12, 1e-6, 1e-3])
    huge = np.array([12.3, 23.7, 41.0, 310.0, 710.5, 1000.0])
    kinks = np.array([0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 6.0])
    return np.concatenate([at.ravel(), kinks, -kinks[1:], usual, tiny, -tiny, huge, -huge])


@dataclass
class _Truth:
    """f' at the points: value nan where f' is not known, kinks {index: (left, right)}."""

    value: Floats
    kinks: dict[int, tuple[float, float]]
    notes: list[str]


def _truth(f: Function, z: Floats, values: Floats) -> _Truth:
    """f'(z) from nodes, held against measured slopes."""
    recorded = _gradient(f, z.reshape(-1, 1))
    by_nodes = None if recorded is None else recorded[:, 0]
    value, kinks, notes, apart = np.full(z.shape, np.nan), {}, [], 0

    def number(t: float) -> float:
        try:
            return float(_called(f, np.array([t]))[0])
        except ValueError:  # outside of the domain
            return float("nan")

    for i, (at, here) in enumerate(zip(z.tolist(), values.tolist(), strict=True)):
        if not np.isfinite(here):
            continue
        measured = slope(number, at, here)
        if measured.trouble.startswith("a kink"):
            step = 1e-6 * max(1.0, abs(at))
            left, right = (here - number(at - step)) / step, (number(at + step) - here) / step
            kinks[i] = (min(left, right), max(left, right))
        elif by_nodes is not None and np.isfinite(by_nodes[i]):
            allowed = 4 * measured.bound + DIGITS * abs(by_nodes[i]) + measured.zero
            clear = not measured.trouble and measured.resolved
            if clear and abs(by_nodes[i] - measured.value) > allowed:
                apart += 1
                value[i] = measured.value
            else:
                value[i] = by_nodes[i]
        elif not measured.trouble and measured.bound <= 1e-4 * abs(measured.value) + measured.zero:
            value[i] = measured.value
    if by_nodes is None:
        notes.append("f does not run on nodes: the truth was measured by differences")
    elif apart:
        notes.append(f"f leaves the graph when it runs on nodes: differences decide at {apart} points")
    return _Truth(value, kinks, notes)


def _check_activation(claim: Function, f: Function, name: str | None, at: Floats, rng: np.random.Generator) -> Report:
    z = _points(at, rng)
    values = _called(f, z).astype(float)
    context: dict[str, Any] = {"points": len(z), "of": "activation"}
    if not _is_elementwise(f, rng):
        message = "f mixes the units of a sample: its derivative is a matrix, no elementwise f'(z)"
        fix = "multiply by the Jacobian; for a softmax dz_i = a_i (da_i - sum_j a_j da_j)"
        return Report(False, (_wrong("softmax-jacobian", message, fix=fix),), context=context)
    truth = _truth(f, z, values)
    try:
        raw = _called(claim, z)
    except _ShapeError as error:
        found, expected = error.args
        message = f"claimed has the shape {found} for an input of the shape {expected}: it must be elementwise"
        return Report(False, (_wrong("shape", message),), context=context)
    claimed = raw.astype(float)
    name = name or _named(z, values)
    expected = FORMULAS.get(name) if name else None

    known = np.isfinite(truth.value)
    if known.sum() < 8:
        return Report(None, notes=(*truth.notes, "f gives finite numbers with a slope at too few points"))
    usual = known & (abs(z) <= ORDINARY)
    scale = float(np.max(abs(truth.value[usual]), initial=0.0)) or 1.0
    digits, floor = DIGITS, CANCELLED * scale
    if raw.dtype == np.float32:
        digits, floor = SINGLE, float(np.finfo(np.float32).eps) * 64 * scale

    notes, causes = list(truth.notes), []
    with np.errstate(invalid="ignore"):
        off = known & ~(abs(claimed - truth.value) <= digits * abs(truth.value) + floor)
    if off.any() and not (off & ((abs(z) >= CLOSE) | (z == 0))).any():
        notes.append(f"claimed loses its digits close to 0: for |z| up to {np.max(abs(z[off])):g}")
        known &= ~off
    bad = known & ~np.isfinite(claimed)
    if bad.any():
        where = ", ".join(f"{number:g}" for number in sorted(z[bad].tolist())[:4])
        kinds = sorted({"nan" if np.isnan(number) else "inf" for number in claimed[bad]})
        message = f"claimed is {' or '.join(kinds)} at z = {where}, where the derivative is finite"
        causes.append(_wrong("non-finite", message, fix="use a form that neither overflows nor divides 0 by 0"))
    solid = known & np.isfinite(claimed)
    every = _Samples(claimed[solid], truth.value[solid], digits, floor)
    at_z = z[solid]
    wrong = ~every.close(every.true)
    if wrong.any():
        causes = [*_activation_causes(claim, f, name, every, at_z, expected), *causes]
    else:
        lost = (every.claimed == 0) & (abs(every.true) > 1e-300)
        if lost.any():
            notes.append(f"saturated: claimed is 0 from |z| = {np.min(abs(at_z[lost])):g} on, for want of digits")
    for i, (left, right) in truth.kinks.items():
        if 0 < abs(z[i]) < 1e-9:  # a neighbour of the kink at 0
            continue
        if not np.isfinite(claimed[i]):
            notes.append(
                f"convention: claimed is {claimed[i]} at the kink z = {z[i]:g}; choose {left:.4g} to {right:.4g}"
            )
        elif not left - 1e-4 * (1 + abs(left)) <= claimed[i] <= right + 1e-4 * (1 + abs(right)):
            if not causes:
                notes.append(f"convention: at the kink z = {z[i]:g} claimed is {claimed[i]:g}, outside of the slopes "
                             f"{left:.4g} to {right:.4g} on its sides")  # fmt: skip
        elif not causes:
            notes.append(f"kink at z = {z[i]:g}: claimed {claimed[i]:g}, by convention")
    context["name"] = name
    return Report(not causes, tuple(causes), notes=tuple(notes), context=context)


def _is_elementwise(f: Function, rng: np.random.Generator) -> bool:
    z = rng.uniform(0.1, 0.9, (3, 4))
    try:
        whole = np.asarray(f(z.copy()), dtype=float)
        if whole.shape != z.shape:
            return whole.ndim == 0
        single = np.array([[np.asarray(f(np.array([[x]])), dtype=float).item() for x in row] for row in z])
    except Exception:  # it takes numbers only
        return True
    return bool(np.allclose(whole, single, rtol=1e-5, atol=0.0, equal_nan=True))


def _named(z: Floats, values: Floats) -> str | None:
    near = abs(z) < ORDINARY
    for name, g in FUNCTIONS.items():
        if np.allclose(np.asarray(g(z[near]), dtype=float), values[near], rtol=1e-6, atol=1e-9):
            return name
    return None


def _activation_causes(
    claim: Function, f: Function, name: str | None, every: _Samples, z: Floats, expected: str | None
) -> list[Cause]:
    usual = abs(z) <= ORDINARY
    samples = _Samples(every.claimed[usual], every.true[usual], every.digits, every.floor)
    at = z[usual]
    places = [f"z = {number:g}" for number in at]
    expected = None if expected is None else f"f'(z) = {expected}"
    if samples.fits(samples.true):  # wrong in the tails alone
        off = ~every.close(every.true)
        start = float(np.min(abs(z[off])))
        worst = _worst(every, [f"z = {number:g}" for number in z])
        message = f"claimed saturates or is clipped too early: from |z| = {start:g} on it is wrong ({worst})"
        return [_wrong("clipped", message, expected=expected)]
    worst = _worst(samples, places)
    if not samples.claimed.any():
        return [_wrong("zero", f"claimed is 0 everywhere ({worst})", expected=expected)]
    c = samples.factor(samples.true)
    if c is not None:
        message = f"claimed is {nice(c)} times the derivative ({worst})"
        message = f"the sign is flipped ({worst})" if nice(c) == "-1" else message
        fix = f"multiply by {nice(1 / c)}"
        return [_wrong("factor", message, factor=nice(c), expected=expected, fix=fix)]
    found = _explained(samples, _activation_mistakes(claim, f, name, samples, at), expected)
    if found:
        first = found[0]
        rest = {key: getattr(first, key) for key in ("found", "expected", "fix")}
        return [_wrong(first.kind, f"{first.message} ({worst})", **rest), *found[1:]]
    special = _sides(samples, at)
    if special:
        kind, message = special
        return [_wrong(kind, f"{message} ({worst})", expected=expected)]
    return [_wrong("unexplained", f"claimed is not the derivative of f ({worst})", expected=expected)]


def _activation_mistakes(
    claim: Function, f: Function, name: str | None, samples: _Samples, z: Floats
) -> Iterator[Named]:
    kind, a = "activation-derivative", _called(f, z).astype(float)
    nothing = np.full(z.shape, np.nan)
    if name != "identity":
        yield kind, np.ones_like(z), "the derivative is missing: claimed is 1, that of the identity", "f'(z) = 1"
    at_output = (
        np.asarray(_gradient(f, a.reshape(-1, 1)), dtype=float) if _gradient(f, a[:1, None]) is not None else None
    )
    if at_output is not None:
        message = "the derivative is taken at the output a = f(z) instead of at the input z"
        yield kind, at_output[:, 0], message, "f'(a)"
    try:
        from_output = _called(claim, a).astype(float)
    except (ValueError, _ShapeError):
        from_output = nothing
    if samples.fits(samples.true, from_output):
        message = "this is f' written in terms of the output a, applied to the input z"
        yield kind, samples.claimed, message, "the a-form at z; give it a = f(z)"
    yield kind, samples.true**2, "the derivative is squared", "f'(z)**2"
    mirrored = _gradient(f, -z.reshape(-1, 1))
    if mirrored is not None:
        inverted = "the mask is inverted: claimed is the derivative at -z"
        yield kind, mirrored[:, 0], inverted, "f'(-z)"
    if name == "silu":  # the one with a product rule
        s = 1 / (1 + np.exp(-z))
        yield kind, z * s * (1 - s), "a term is missing: sigmoid(z)", "z*sigmoid(z)*(1 - sigmoid(z))"
        yield kind, s, "a term is missing: z*sigmoid'(z)", "sigmoid(z)"
    for other, g in FUNCTIONS.items():
        slopes = _gradient(g, z)
        if other != name and slopes is not None:
            yield kind, slopes, f"this is the derivative of {other}, another function", FORMULAS.get(other)
    yield kind, a, "this is the function itself, not its derivative", "f(z)"
    for formula, of in IN_THE_OUTPUT.items():
        yield kind, of(a), f"a term or a sign is wrong: claimed is {formula} with a = f(z)", formula
    total = float(np.median(samples.claimed + samples.true))
    yield kind, total - samples.true, f"the sign of a term is wrong: claimed is {nice(total)} - f'(z)", None
    offset = float(np.median(samples.claimed - samples.true))
    what = "an epsilon is added" if abs(offset) < 0.05 else "a constant is added or missing"
    yield kind, samples.true + offset, f"{what}: claimed is f'(z) + {offset:.6g}", None
    yield kind, 1.0 / samples.true, "claimed is 1/f'(z)", "1/f'(z)"
    second = _second(f, z)
    if second is not None:
        yield kind, second, "this is the second derivative", "f''(z)"


def _second(f: Function, z: Floats) -> Floats | None:
    step = 1e-5 * np.maximum(1.0, abs(z))
    above, below = _gradient(f, (z + step)[:, None]), _gradient(f, (z - step)[:, None])
    return None if above is None or below is None else (above[:, 0] - below[:, 0]) / (2 * step)


def _sides(samples: _Samples, z: Floats) -> tuple[str, str] | None:
    """A mistake in only one stretch of z: another slope on one side of 0, or a value held from some point on."""
    off = ~samples.close(samples.true)
    for side, sign in (("z < 0", -1.0), ("z > 0", 1.0)):
        mine = sign * z > 0
        if not off.any() or (off & ~mine).any() or not off[mine].mean() > SEPARATED:
            continue
        c, t = samples.claimed[mine], samples.true[mine]
        if np.ptp(c) <= 1e-9 and np.ptp(t) <= 1e-9:
            return "activation-derivative", f"the slope for {side} is {c[0]:g}, should be {t[0]:g}"
        return "activation-derivative", f"only the branch for {side} is wrong"
    if off.any():
        start = float(np.min(abs(z[off])))
        beyond = abs(z) >= start
        signs = {float(s) for s in np.sign(z[off])}
        mine = beyond & np.isin(np.sign(z), list(signs))
        if (
            start > 0.5
            and (off == mine).all()
            and all(np.ptp(samples.claimed[off & (np.sign(z) == s)]) == 0 for s in signs)
        ):
            return "clipped", f"claimed is held constant from about |z| = {start:.3g} on: clipped too early"
    return None


# ---------------------------------------------------------------- losses
CONFIGURATIONS = ((7, 1), (11, 1), (5, 3))  # (n, m)


def _check_loss(claim: Function, f: Function, name: str | None, at: Floats, rng: np.random.Generator) -> Report:
    probabilities = name in ("bce", "ce") or (name is None and _is_logarithmic(f))
    notes: list[str] = []
    context: dict[str, Any] = {"of": "loss", "yhat": "probabilities" if probabilities else "any numbers"}
    parts: list[tuple[Floats, ...]] = []
    digits, floor = DIGITS, 0.0
    for n, m in CONFIGURATIONS:
        y, yhat = _pairs(n, m, probabilities, rng)
        if not probabilities and not _is_finite(f, y, yhat):
            yhat[0] /= TAIL
        true, why = _loss_truth(f, y, yhat)
        if true is None:
            if m == 1:
                return Report(None, notes=(why,), context=context)
            notes.append(why)
            continue
        try:
            raw = np.asarray(claim(y.copy(), yhat.copy()))
        except Exception as error:
            raise ValueError(f"claimed(y, yhat) raised {type(error).__name__}: {error}") from error
        if raw.shape != yhat.shape and raw.shape != ():
            message = f"claimed has the shape {raw.shape} for yhat of the shape {yhat.shape}"
            return Report(False, (_wrong("shape", message),), context=context)
        if raw.dtype == np.float32:
            digits, floor = SINGLE, 1e-5
        shape = np.broadcast_to(raw.astype(float), yhat.shape)
        ns, ms = np.full(yhat.shape, float(n)), np.full(yhat.shape, float(m))
        parts.append(tuple(part.ravel() for part in (shape, true, y, yhat, ns, ms)))
    claimed, true, y, yhat, ns, ms = (np.concatenate(part) for part in zip(*parts, strict=True))
    samples = _Samples(claimed, true, digits, floor + CANCELLED * float(np.max(abs(true))))
    places = [f"y = {a:g}, yhat = {b:g}" for a, b in zip(y.tolist(), yhat.tolist(), strict=True)]
    name = name or _named_loss(f, y, yhat)
    formula = LOSS_FORMULAS.get(name) if name else None
    expected = None if formula is None else f"dL/dyhat = {formula}"
    context["name"] = name
    causes: list[Cause] = []
    inside = (yhat > INSIDE) & (yhat < 1 - INSIDE) if probabilities else np.ones(yhat.shape, bool)
    finite = np.isfinite(claimed)
    if not finite.all():
        i = int(np.argmin(finite))
        message = f"claimed is {claimed[i]} at {places[i]}, where the derivative is {true[i]:.6g}"
        causes.append(_wrong("non-finite", message, expected=expected))
        claimed, true, y, yhat, ns, ms = (part[finite] for part in (claimed, true, y, yhat, ns, ms))
        samples, places = _Samples(claimed, true, digits, samples.floor), [places[j] for j in np.flatnonzero(finite)]
        inside = inside[finite]
    if len(claimed) and not samples.close(true)[inside].all():
        causes = [*_loss_causes(claim, f, samples, (y, yhat, ns, ms), places, expected), *causes]
    if not causes:
        notes += _edges(claim, name, probabilities)
    return Report(not causes, tuple(causes), notes=tuple(notes), context=context)


def _is_logarithmic(f: Function) -> bool:
    """Whether f grows as log yhat does near 0, or is not finite beyond: then yhat is a probability."""
    one = np.ones((1, 1))

    def at(yhat: float) -> float:
        try:
            return float(np.sum(np.asarray(f(one.copy(), np.full((1, 1), yhat)), dtype=float)))
        except Exception:
            return float("nan")

    near, nearer = at(1e-6), at(1e-12)
    return not abs(near - nearer) <= 1.0 or not np.isfinite(at(-0.5))


def _is_finite(f: Function, y: Floats, yhat: Floats) -> bool:
    try:
        return bool(np.isfinite(np.asarray(f(y.copy(), yhat.copy()), dtype=float)).all())
    except Exception:  # said where it matters, by _loss_truth
        return True


def _pairs(n: int, m: int, probabilities: bool, rng: np.random.Generator) -> tuple[Floats, Floats]:
    if not probabilities:
        y, yhat = rng.normal(size=(n, m)), rng.normal(size=(n, m))
        yhat[0] *= TAIL  # the tail of a robust loss
        yhat[1] = y[1] + 0.1 * rng.uniform(0.1, 1.0, m)
        return y, yhat
    y = rng.choice([0.0, 1.0], size=(n, m))
    y[:2], y[2:4] = rng.uniform(0.2, 0.8, (2, m)), np.arange(2.0)[:, None]
    return y, rng.uniform(0.05, 0.95, (n, m))


def _loss_truth(f: Function, y: Floats, yhat: Floats) -> tuple[Floats | None, str]:
    """dL/dyhat and "", or None and why not. From nodes, held against slopes in some elements."""
    try:
        value = np.asarray(f(y.copy(), yhat.copy()), dtype=float)
    except Exception as error:
        return None, f"f raised {type(error).__name__} for arrays of the shape {yhat.shape}: {error}"
    if not (value.size == 1 or value.shape == yhat.shape):
        return None, f"f gives an array of the shape {value.shape} for {yhat.shape[1]} outputs: no loss"
    if not np.isfinite(value).all():
        return None, f"f is not finite for ordinary numbers of the shape {yhat.shape}"

    def along(index: tuple[int, ...]) -> Callable[[float], float]:
        def number(t: float) -> float:
            moved = yhat.copy()
            moved[index] = t
            return float(np.sum(np.asarray(f(y.copy(), moved), dtype=float)))

        return number

    recorded = _loss_gradient(f, y, yhat)
    indices = list(np.ndindex(yhat.shape))
    found = np.empty(yhat.shape) if recorded is None else recorded
    for index in indices if recorded is None else indices[:4]:
        measured = slope(along(index), float(yhat[index]), float(np.sum(value)))
        if recorded is None:
            found[index] = measured.value
            continue
        allowed = 4 * measured.bound + DIGITS * abs(found[index])
        if not measured.trouble and measured.resolved and abs(found[index] - measured.value) > allowed:
            return None, "f gives another gradient on nodes than by differences: it leaves the graph"
    return found, ""


def _named_loss(f: Function, y: Floats, yhat: Floats) -> str | None:
    y, yhat = y.reshape(-1, 1), yhat.reshape(-1, 1)
    try:
        total = float(np.sum(np.asarray(f(y.copy(), yhat.copy()), dtype=float)))
        for name in ("sse", "half_sse", "bce", "ce", "mse"):
            table: Function = losses.LOSSES[name]
            if np.isclose(table(y, yhat) if name == "mse" else table(y, yhat, "sum"), total, rtol=1e-9):
                return name
    except Exception:
        return None
    return None


def _monomial(ratio: Floats, ns: Floats, ms: Floats) -> str | None:
    """ratio as c n^i m^j, where c is simple."""
    found = []
    for i in (0, 1, -1, 2, -2):
        for j in (0, 1, -1):
            c = ratio / (ns**i * ms**j)
            if np.ptp(c) <= 1e-5 * abs(c).max():
                found.append((abs(i) + abs(j) + len(nice(float(np.median(c)))), i, j, float(np.median(c))))
    if not found:
        return None
    _, i, j, number = min(found)
    above = "*".join(([nice(number)] if nice(number) != "1" or (i <= 0 and j <= 0) else []) + _powers(i, j))
    below = _powers(-i, -j)
    return above + (f"/{below[0]}" if len(below) == 1 else f"/({'*'.join(below)})" if below else "")


def _powers(i: int, j: int) -> list[str]:
    return [name if p == 1 else f"{name}**{p}" for name, p in (("n", i), ("m", j)) if p > 0]


def _loss_causes(
    claim: Function,
    f: Function,
    samples: _Samples,
    at: tuple[Floats, ...],
    places: list[str],
    expected: str | None,
) -> list[Cause]:
    y, yhat, ns, ms = at
    worst = _worst(samples, places)
    if not samples.claimed.any():
        return [_wrong("zero", f"claimed is 0 everywhere ({worst})", expected=expected)]
    factor = _constant(samples, samples.true, ns, ms)
    if factor == "-1":
        message = f"the sign is flipped: a step of descent would go up ({worst})"
        return [_wrong("factor", message, factor="-1", expected=expected, fix="multiply by -1")]
    if factor:
        message = f"claimed is {factor} times the derivative ({worst})"
        fix = f"divide by {factor}"
        return [_wrong("factor", message, factor=factor, expected=expected, fix=fix)]
    later: list[Cause] = []
    for message, would_be, found in _loss_mistakes(f, y, yhat, samples):
        if samples.fits(would_be, samples.true):
            continue
        cause = _wrong("loss-derivative", f"{message} ({worst})", found=found, expected=expected)
        if samples.fits(would_be):
            return [cause]
        more = None if later else _constant(samples, would_be, ns, ms)
        if more:
            later = [cause, _wrong("factor", f"and {more} times that", factor=more)]
    if later:
        return later
    return [_wrong("unexplained", f"claimed is not the derivative of f by yhat ({worst})", expected=expected)]


def _constant(samples: _Samples, other: Floats, ns: Floats, ms: Floats) -> str | None:
    solid = abs(other) > 1e-3 * np.max(abs(other), initial=0.0)
    zero = ~solid & ~(abs(samples.claimed) <= 1e-2 * np.max(abs(samples.claimed)))
    if solid.sum() < 4 or zero.any() or not np.isfinite(other).all():
        return None
    return _monomial(samples.claimed[solid] / other[solid], ns[solid], ms[solid])


def _loss_mistakes(f: Function, y: Floats, yhat: Floats, samples: _Samples) -> Iterator[tuple[str, Floats, str | None]]:
    def g(y: Floats, yhat: Floats) -> Floats:
        """dL/dyhat of every element alone."""
        each = [_loss_gradient(f, np.array([[a]]), np.array([[b]])) for a, b in zip(y, yhat, strict=True)]
        return np.array([np.nan if found is None else found[0, 0] for found in each])

    alone = g(y, yhat)
    scale = np.where(alone == 0, 1.0, samples.true / np.where(alone == 0, 1.0, alone))  # the reduction of the batch
    without, whole = g(np.zeros_like(y), yhat), g(np.ones_like(y), yhat)
    linear = np.allclose(without + y * (whole - without), alone, rtol=1e-6, atol=1e-9)
    if linear:
        first, second = y * whole, (1.0 - y) * without
        pairs = [(first, second, "the term with y", "the term with 1 - y"), (alone - without, without, "y", "yhat")]
        for one, other, one_name, other_name in pairs:
            if not one.any() or not other.any():
                continue
            yield f"{one_name} has the wrong sign", scale * (other - one), None
            yield f"{other_name} has the wrong sign", scale * (one - other), None
            yield f"{other_name} is missing", scale * one, None
            yield f"{one_name} is missing", scale * other, None
    yield "prediction and target are swapped", scale * g(yhat, y), None
    for e in [10.0**-k for k in range(1, 12)]:
        small = f"{e:g}"
        yield f"an epsilon of {small} is added to yhat", scale * g(y, yhat + e), f"yhat + {small}"
        held = np.clip(yhat, e, 1 - e)
        yield f"yhat is clipped too early, at {small}", scale * g(y, held), f"clip(yhat, {small})"
        both = y * g(np.ones_like(y), yhat + e) + (1 - y) * g(np.zeros_like(y), yhat - e)
        yield f"an epsilon of {small} is added to both denominators", scale * both, f"yhat + {small}"
    yield "this is the derivative by z of sigmoid or softmax with cross entropy", scale * (yhat - y), "yhat - y"
    for name in ("sse", "half_sse", "bce", "ce"):
        loss = partial(losses.LOSSES[name], reduction="sum")
        would_be = _loss_gradient(loss, y[:, None], yhat[:, None])
        if would_be is not None:
            yield f"this is the derivative of {name}, another loss", scale * would_be[:, 0], LOSS_FORMULAS[name]
    yield "the derivative is squared", scale * alone**2, None
    yield "claimed is y - yhat squared or the loss itself", scale * (yhat - y) ** 2, None
    yield "claimed is only the sign of the difference", scale * np.sign(yhat - y), "sign(yhat - y)"


def _edges(claim: Function, name: str | None, probabilities: bool) -> list[str]:
    """Notes on claims where the loss itself is at its limits."""
    notes: list[str] = []
    if not probabilities:
        tie = np.full((1, 1), 0.5)
        at_tie = np.asarray(claim(tie, tie.copy()), dtype=float)
        return notes if np.isfinite(at_tie).all() else ["claimed is not finite at y = yhat"]
    saturated, broken = [], []
    for y, near in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0)):
        for distance in (1e-3, 1e-6, 1e-9, 1e-12, 1e-14, 0.0):
            yhat = distance if near == 0 else 1.0 - distance
            pair = np.array([[y]]), np.array([[yhat]])
            try:
                found = float(np.asarray(claim(*pair), dtype=float).item())
            except Exception:
                continue
            if not np.isfinite(found):
                broken.append(f"y = {y:g}, yhat = {yhat:g}")
                continue
            true = (1.0 - y) / (1.0 - yhat) - y / yhat if 0 < yhat < 1 else (-np.inf if y else np.inf)
            if y != near and (y or name != "ce") and (not np.isfinite(true) or abs(found - true) > 1e-4 * abs(true)):
                saturated.append((abs(found), y, yhat))
    if saturated:
        largest, y, yhat = max(saturated)
        notes.append(
            f"right up to its epsilon: at y = {y:g}, yhat = {yhat:g} claimed stays at {largest:.4g} "
            f"(epsilon {1 / largest:.3g}); harmless unless yhat saturates, where dL/dz is lost (use the form in z)"
            if largest
            else f"at y = {y:g}, yhat = {yhat:g} claimed is 0: it is clipped there"
        )
    if broken:
        notes.append(
            f"claimed is not finite at {broken[0]}, where f has no derivative: kept finite by an epsilon, or z"
        )
    return notes
