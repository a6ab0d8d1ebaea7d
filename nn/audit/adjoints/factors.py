"""The factors that have a name where a claim stands: small numbers, and those made of the lengths around it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autodiff import Tensor
from nn.audit.adjoints.region import Region

Named = dict[float, tuple[str, str]]  # {number: (how it is written, what n is)}

PLAIN = {2.0: "2", -1.0: "-1", 0.5: "1/2", -2.0: "-2", -0.5: "-1/2"}


def factors(region: Region) -> Named:
    """{number: (how it is written, what n is)}, the likeliest first."""
    found: Named = {number: (text, "") for number, text in PLAIN.items()}
    for n, where in _lengths(region).items():
        for text, number in _of_length(n).items() if n >= 2 else ():
            if number not in (0.0, 1.0):
                found.setdefault(float(number), (text, where))
    return found


def carrying(factor: tuple[str, str]) -> str:
    """The factor in words, with what n is."""
    text, where = factor
    return f"carries a factor {text}" + (f" ({where})" if where else "")


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
