"""The precision that claims were worked out in, which their type does not always tell: float32 promoted at some step.

A one-hot array of float64 in a backward pass in float32 makes the claims float64 and leaves the numbers as they are.
What gives them away is that they are off by the rounding of float32, without any order in it, wherever the forward
numbers come in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autodiff import operations
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.recorded import MOVING, Recorded, is_edge
from nn.audit.adjoints.shares import ratio
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import Target

SMALL = 2e-5  # relative to the largest element: what the rounding of float32 comes to, after some steps
ORDER = (
    0.05  # relative: a deviation that is a multiple of the right values, or of 1, but for so much has an order in it
)
SHORT = 2.0**11  # what a number with few digits is a whole number of, between 1/2 and 1
FEW = 3  # numbers that tell
COARSE = np.finfo(np.float32)
# Operations that hand on what comes from above as it is, but for sums and signs.
PLAIN = (*MOVING, operations.sum_, operations.max_, operations.min_, operations.cumsum)
SIGNS = ("add", "sub", "neg", "alias")


def is_float32(sweep: Sweep, targets: Sequence[Target]) -> bool:
    """Whether claims of float64 are those of float32: more of them are off like that than are exact."""
    recorded, off, exact = sweep.recorded, [], 0
    if recorded.eps >= COARSE.eps:
        return False
    claimed = [target for target in targets if target.claim is not None and np.isfinite(target.claim).all()]
    if _have_its_digits(np.concatenate([np.ravel(target.claim) for target in claimed] or [np.zeros(0)])):
        return True
    for target in claimed:
        expected = target.adjoint(sweep.expected)
        if expected.agrees(target.claim, recorded.tiny).all():
            exact += bool(target.claim.any()) and any(_multiplies(child) for child in _above(sweep, target))
        elif _is_rounding(target.claim, expected):
            off.append(target)
    if len(off) <= exact:
        return False
    coarse = Recorded(sweep.nodes, float(COARSE.eps), float(COARSE.tiny))
    among = Sweep(sweep.output, sweep.nodes, coarse, sweep.stands).expected
    return any(target.adjoint(among).agrees(target.claim, coarse.tiny).all() for target in off)


def _have_its_digits(numbers: Any) -> bool:
    """Whether numbers are of float32; those with few digits, as 0 and 1/4, say nothing either way."""
    mantissa, _ = np.frexp(numbers)
    telling = numbers[mantissa * SHORT != np.rint(mantissa * SHORT)]
    return bool(len(telling) >= FEW and (telling.astype(np.float32) == telling).all())


def _is_rounding(claim: Any, expected: Adjoint) -> bool:
    """Whether a claim is off by little, and without order."""
    gap, size = claim - expected.value, np.max(np.abs(expected.value), initial=0.0)
    if not np.isfinite(gap).all() or not 0.0 < np.max(np.abs(gap)) <= SMALL * size:
        return False
    if claim.size < FEW:
        return bool((claim.astype(np.float32) == claim).all())
    for pattern in (expected.value, np.ones_like(gap)):
        number = ratio(pattern, gap)
        if number is not None and np.linalg.norm(gap - number * pattern) <= ORDER * np.linalg.norm(gap):
            return False
    return True


def _above(sweep: Sweep, target: Target) -> Iterator[Any]:
    """The operations between a claim and the claims before it."""
    seen = set(target.nodes)
    pending = list(target.nodes)
    for x in pending:
        for child, _ in sweep.children[x]:
            yield child
            if child not in seen and child not in sweep.stands:
                seen.add(child)
                pending.append(child)


def _multiplies(node: Any) -> bool:
    """Whether an operation brings the forward numbers into what it hands on."""
    if node.op in PLAIN or node.op.name in SIGNS:
        return False
    if node.op.name in ("mul", "div"):
        return all(is_edge(x, node) or np.ndim(x) for x in node.operands)
    return True
