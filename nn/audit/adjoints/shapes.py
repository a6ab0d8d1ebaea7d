"""The shape of a claim: what is accepted for that of its node, and what is wrong with any other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.report import Cause


def fits(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a shape is another but for axes of length 1, and broadcasts to it.

    >>> fits((3,), (1, 3)), fits((3, 1), (1, 3))
    (True, False)
    """
    if given == shape:
        return True
    try:
        broadcasts = np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False
    return broadcasts and [n for n in given if n != 1] == [n for n in shape if n != 1]


def misshapen(name: str, claim: Any, shape: tuple[int, ...], right: Adjoint, eps: float, tiny: float) -> Cause:
    """The Cause of a claim whose shape is not that of its node."""
    kind, words = "shape", f"it has the shape {claim.shape}, its node {shape}"
    over = _missing_sum(claim, right, shape, eps)
    if claim.shape == shape[::-1] and right.agrees(claim.T, tiny).all():
        kind, words = "transposed", f"it is transposed: {claim.shape} for {shape}"
    elif over:
        kind = "axis"
        words = (
            f"the sum over axis {over} is missing: it has the shape {claim.shape} of what it was broadcast to, "
            f"its node {shape}"
        )
    elif claim.size <= right.value.size and not np.isfinite(claim).all():
        words += ", and is not finite"
    fix = f"a derivative has the shape of its node: {shape}"
    return Cause(name, None, (), kind, words, None, f"shape {claim.shape}", f"shape {shape}", fix, rule=kind)


def _missing_sum(claim: Any, right: Adjoint, shape: tuple[int, ...], eps: float) -> str:
    """The axes, in words, over which a larger claim sums to the right value; "" if there are none."""
    for count in range(1, claim.ndim + 1) if claim.size > right.value.size else ():
        for axes in itertools.combinations(range(claim.ndim), count):
            summed = claim.sum(axis=axes)
            if summed.size == right.value.size and right.near(summed.reshape(shape), eps).all():
                return " and ".join(map(str, axes))
    return ""
