"""The factors that have a name where a claim stands: small numbers, and those made of the lengths around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autodiff import Tensor
from nn.audit.adjoints.region import Region

PLAIN = {2.0: "2", -1.0: "-1", 0.5: "1/2", -2.0: "-2", -0.5: "-1/2"}
NEAR = 1e-4  # relative


@dataclass(frozen=True)
class Factor:
    """A number, how it is written, and what n is in that."""

    number: float
    text: str
    where: str

    @property
    def carried(self) -> str:
        """The factor in words."""
        return f"carries a factor {self.text}" + (f" ({self.where})" if self.where else "")


class Factors:
    """The factors that have a name around a claim, the likeliest first."""

    def __init__(self, region: Region) -> None:
        found = {number: Factor(number, text, "") for number, text in PLAIN.items()}
        for n, where in _lengths(region).items():
            for text, number in _of_length(n).items() if n >= 2 else ():
                if number not in (0.0, 1.0):
                    found.setdefault(float(number), Factor(float(number), text, where))
        self.every = list(found.values())
        self._numbers = np.array([factor.number for factor in self.every])

    def near(self, number: float) -> Factor | None:
        """The one that a number may be; a small share tells it to a few digits, and the claim is judged with it."""
        off = np.abs(self._numbers / number - 1.0) if number else np.ones(1)
        return self.every[int(off.argmin())] if off.min() < NEAR else None


def _of_length(n: int) -> dict[str, float]:
    return {
        "n": n, "1/n": 1 / n, "-n": -n, "-1/n": -1 / n, "2/n": 2 / n, "2n": 2.0 * n, "1/n^2": 1 / n**2,
        "n/(n-1)": n / (n - 1), "(n-1)/n": (n - 1) / n, "n-1": n - 1, "1/(n-1)": 1 / (n - 1),
    }  # fmt: skip


def _lengths(region: Region) -> dict[int, str]:
    """{n: what it is the length or the number of}, the nearest first."""
    found: dict[int, str] = {}
    for n, where in _around(region):
        found.setdefault(n, where)
    return found


def _around(region: Region) -> Iterator[tuple[int, str]]:
    sweep, target = region.sweep, region.target
    for node in region.nodes[:1] if target.whole else region.nodes:
        for x in [node, *(child for child, _ in sweep.children[node])]:
            operands = x.operands if x.op is not None else ()
            for other in [x, *(operand for operand in operands if type(operand) is Tensor)]:
                for axis, n in enumerate(np.shape(other.data)):
                    yield n, f"n = {n}, axis {axis} of {sweep.called(other)}"
    for node in region.nodes:
        count = len(sweep.children[node])
        yield count, f"n = {count}, the number of its children"
    for axis, n in enumerate(target.shape):
        yield n, f"n = {n}, axis {axis} of '{target.name}'"
