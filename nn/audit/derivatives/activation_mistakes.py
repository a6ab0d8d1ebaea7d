"""What the derivative of an activation would be by each of the mistakes known."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from nn.audit.derivatives.functions import FORMULAS, FUNCTIONS, Floats, Function, WrongShape, called, slopes
from nn.audit.derivatives.samples import Mistake, Samples
from nn.audit.monomials import Monomial

KIND = "activation-derivative"
SEPARATED = 0.9  # mistakes must explain the claim at this part of the points, all but kinks: at all of them
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


def activation_mistakes(
    claim: Function, f: Function, name: str | None, samples: Samples, z: Floats
) -> Iterator[Mistake]:
    """The mistakes at the points z, the likeliest first; name: of f, where it has one."""
    a = called(f, z).astype(float)
    if name != "identity":
        yield KIND, np.ones_like(z), "the derivative is missing: claimed is 1, that of the identity", "f'(z) = 1"
    at_output = slopes(f, a)
    if at_output is not None:
        yield KIND, at_output, "the derivative is taken at the output a = f(z) instead of at the input z", "f'(a)"
    if samples.fits(samples.true, _at(claim, a)):
        message = "this is f' written in terms of the output a, applied to the input z"
        yield KIND, samples.claimed, message, "the a-form at z; give it a = f(z)"
    yield KIND, samples.true**2, "the derivative is squared", "f'(z)**2"
    mirrored = slopes(f, -z)
    if mirrored is not None:
        yield KIND, mirrored, "the mask is inverted: claimed is the derivative at -z", "f'(-z)"
    if name == "silu":  # the one with a product rule
        s = 1 / (1 + np.exp(-z))
        yield KIND, z * s * (1 - s), "a term is missing: sigmoid(z)", "z*sigmoid(z)*(1 - sigmoid(z))"
        yield KIND, s, "a term is missing: z*sigmoid'(z)", "sigmoid(z)"
    for other, g in FUNCTIONS.items():
        of_other = slopes(g, z)
        if other != name and of_other is not None:
            yield KIND, of_other, f"this is the derivative of {other}, another function", FORMULAS.get(other)
    yield KIND, a, "this is the function itself, not its derivative", "f(z)"
    for formula, of in IN_THE_OUTPUT.items():
        yield KIND, of(a), f"a term or a sign is wrong: claimed is {formula} with a = f(z)", formula
    total = float(np.median(samples.claimed + samples.true))
    yield KIND, total - samples.true, f"the sign of a term is wrong: claimed is {Monomial(total)} - f'(z)", None
    offset = float(np.median(samples.claimed - samples.true))
    what = "an epsilon is added" if abs(offset) < 0.05 else "a constant is added or missing"
    yield KIND, samples.true + offset, f"{what}: claimed is f'(z) + {offset:.6g}", None
    yield KIND, 1.0 / samples.true, "claimed is 1/f'(z)", "1/f'(z)"
    second = _second(f, z)
    if second is not None:
        yield KIND, second, "this is the second derivative", "f''(z)"


def _at(claim: Function, a: Floats) -> Floats:
    """The claim at the outputs; nan if it does not take them."""
    try:
        return called(claim, a).astype(float)
    except (ValueError, WrongShape):
        return np.full(a.shape, np.nan)


def _second(f: Function, z: Floats) -> Floats | None:
    step = 1e-5 * np.maximum(1.0, abs(z))
    above, below = slopes(f, z + step), slopes(f, z - step)
    return None if above is None or below is None else (above - below) / (2 * step)


def in_one_stretch(samples: Samples, z: Floats) -> tuple[str, str] | None:
    """A mistake in only one stretch of z: another slope on one side of 0, or a value held from some point on."""
    off = ~samples.close(samples.true)
    if not off.any():
        return None
    for side, sign in (("z < 0", -1.0), ("z > 0", 1.0)):
        mine = sign * z > 0
        if (off & ~mine).any() or not off[mine].mean() > SEPARATED:
            continue
        c, t = samples.claimed[mine], samples.true[mine]
        if np.ptp(c) <= 1e-9 and np.ptp(t) <= 1e-9:
            return KIND, f"the slope for {side} is {c[0]:g}, should be {t[0]:g}"
        return KIND, f"only the branch for {side} is wrong"
    start = float(np.min(abs(z[off])))
    signs = np.unique(np.sign(z[off]))
    beyond = (abs(z) >= start) & np.isin(np.sign(z), signs)
    held = all(np.ptp(samples.claimed[off & (np.sign(z) == sign)]) == 0 for sign in signs)
    if start > 0.5 and (off == beyond).all() and held:
        return "clipped", f"claimed is held constant from about |z| = {start:.3g} on: clipped too early"
    return None
