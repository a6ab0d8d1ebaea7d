"""A step of the passes, with everything its rule could have been given, and what a mistake makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.claims import Case
from nn.audit.rules import Known, Rules, is_elementwise
from nn.by_hand import ACTIVATIONS


@dataclass
class Step:
    """One quantity, kind and k, with its right value and what stands around it; arrays in the row layout."""

    case: Case
    rules: Rules
    kind: str
    k: int
    right: Known
    z: list[Any]
    a: list[Any]
    da: Any = None  # dL/da_k, the upstream of dz_k
    dz: Any = None  # dL/dz_k, the upstream of dW_k and db_k
    dz_next: Any = None  # dL/dz_{k+1}, the upstream of da_k
    da_next: Any = None  # dL/da_{k+1}
    dW_next: Any = None  # dL/dW_{k+1} as it is claimed, or by the right rule
    others: tuple[Any, ...] = ()  # the dz of other layers that are claimed
    claim: Any = None  # what is claimed here, where it is
    scale: float = 1.0  # the 1/n that enters at dW and db, where it does
    made: tuple[Any, Any] = (None, None)  # the claimed dW_k and db_k, without that 1/n
    open: bool = False  # whether a mistake of da_k, which is not claimed, may show here, at dz_k

    @property
    def name(self) -> str:
        """The activation of layer k."""
        return self.case.activations[self.k - 1]

    @property
    def z_k(self) -> Any:
        """z_k."""
        return self.z[self.k]

    @property
    def a_k(self) -> Any:
        """a_k = f(z_k)."""
        return self.a[self.k]

    @property
    def below(self) -> Any:
        """a_{k-1}."""
        return self.a[self.k - 1]

    @property
    def f(self) -> Any:
        """The activation of layer k, as in nn.by_hand.ACTIVATIONS."""
        return self.case.functions[self.k - 1]

    @property
    def is_elementwise(self) -> bool:
        """Whether f treats every unit alone, so that it has an f'."""
        return is_elementwise(self.f)

    @property
    def slope(self) -> Any:
        """f'(z_k), of an elementwise f."""
        return self.f.derivative(self.z_k)

    @property
    def W_next(self) -> Any:
        """W_{k+1}."""
        return self.case.W[self.k + 1]

    def fitting(self, array: Any) -> Any:
        """The array if it has the shape of the step, else None."""
        return array if array is not None and np.shape(array) == self.right.value.shape else None


@dataclass(frozen=True)
class Hypothesis:
    """One mistake at one kind of quantity: what it makes of a step, or None where it makes no sense there."""

    at: str
    kind: str
    words: str
    make: Callable[[Step], Any]
    found: str = ""
    factor: str | None = None
    rule: str = ""  # what it has in common with the same mistake in other layers, where the words do not tell


def made(hypothesis: Hypothesis, step: Step) -> Any:
    """What a mistake makes of a step, or None."""
    with np.errstate(all="ignore"):
        try:
            return hypothesis.make(step)
        except (ValueError, IndexError):  # shapes that do not fit
            return None


def slope_of(name: str, z: Any) -> Any:
    """f'(z) of an elementwise activation of the table."""
    f: Any = ACTIVATIONS[name]
    return f.derivative(z)


def is_square(array: Any) -> bool:
    """Whether a matrix has as many rows as columns."""
    return bool(array.shape[0] == array.shape[1])


def outer(left: Any, right: Any) -> Any:
    """left^T right, a sum over the samples; None where one is missing or they are of different batches."""
    return left.T @ right if left is not None and right is not None and left.shape[0] == right.shape[0] else None


# --- the batch before, by the right rules ---


def previous_pass(s: Step) -> tuple[list[Any], list[Any]]:
    """(z, a) of the batch before."""
    assert s.case.previous is not None
    z: list[Any] = [None]
    a = [s.case.previous[0]]
    for k in range(1, s.case.L + 1):
        z.append(a[-1] @ s.case.W[k] + s.case.b[k])
        a.append(s.case.functions[k - 1].value(z[-1], 1))
    return z, a


def previous_a(s: Step) -> Any:
    """a_{k-1} of the batch before, or None."""
    return None if s.case.previous is None else previous_pass(s)[1][s.k - 1]


def previous_y(s: Step) -> Any:
    """The targets of the batch before, if they have the shape of these."""
    before = s.case.previous
    return before[1] if before is not None and before[1].shape == s.case.y.shape else None


def previous_dz(s: Step) -> Any:
    """dL/dz_k of the batch before, with the 1/n of this one's convention."""
    if s.case.previous is None:
        return None
    z, a = previous_pass(s)
    L = s.case.L
    scale = s.case.sign / s.rules.whole_of(*s.case.previous[1].shape)
    with np.errstate(all="ignore"):
        if (s.case.activations[-1], s.case.loss) in (("sigmoid", "bce"), ("softmax", "ce")):
            dz = (a[L] - s.case.previous[1]) * scale
        else:
            da = s.case.objective.derivative(s.case.previous[1], a[L]) * scale
            dz = s.case.functions[-1].pullback(z[L], da, 1)
        for k in range(L - 1, s.k - 1, -1):
            dz = s.case.functions[k - 1].pullback(z[k], dz @ s.case.W[k + 1].T, 1)
    return dz


def previous_dW(s: Step) -> Any:
    """dL/dW_k of the batch before, or None."""
    return None if s.case.previous is None else outer(previous_a(s), previous_dz(s))


def previous_db(s: Step) -> Any:
    """dL/db_k of the batch before, or None."""
    dz = previous_dz(s)
    return None if dz is None else dz.sum(axis=0, keepdims=True)


# --- factors that have a name ---


def factors(case: Case, kind: str) -> Iterator[tuple[str, float]]:
    """(name, number) of the factors that have a name, the likeliest first for that kind of quantity."""
    n, m = float(case.n), float(case.m)
    if kind in ("dW", "db"):  # where sums over the samples are made
        yield from (("1/n", 1 / n), ("n", n))
    known = (
        ("2", 2.0), ("-1", -1.0), ("1/2", 0.5), ("n", n), ("1/n", 1 / n), ("2/n", 2 / n), ("m", m), ("1/m", 1 / m),
        ("-2", -2.0), ("-1/2", -0.5), ("nm", n * m), ("1/(nm)", 1 / (n * m)), ("-n", -n), ("-1/n", -1 / n),
        ("n^2", n * n), ("1/n^2", 1 / (n * n)),
    )  # fmt: skip
    yield from (pair for pair in known if m > 1 or "m" not in pair[0])  # with one output, 1/(nm) is 1/n again


def odd_factors(case: Case) -> Iterator[tuple[str, float]]:
    """(name, number) of those that other mistakes may come to as well, and are then preferred."""
    n, m = float(case.n), float(case.m)
    known = (
        ("n/2", n / 2), ("2n", 2 * n), ("-2/n", -2 / n), ("2/m", 2 / m), ("2m", 2 * m), ("1/(2n)", 0.5 / n), ("-m", -m),
        ("-1/m", -1 / m), ("2/(nm)", 2 / (n * m)), ("4", 4.0), ("1/4", 0.25), ("3", 3.0), ("10", 10.0), ("1/10", 0.1),
    )  # fmt: skip
    yield from (pair for pair in known if m > 1 or "m" not in pair[0])


def name_of(case: Case, kind: str, number: float, loose: float) -> str:
    """The factor by its name, or by its digits."""
    every = (*factors(case, kind), *odd_factors(case))
    names = [name for name, known in every if abs(known - number) <= 100 * loose * abs(known)]
    return names[0] if names else f"{number:.6g}"
