"""Starting values for W and b of a fully connected network, each from a generator of its own.

Glossary: W, b  weights and biases, lists over the layers 1..L with the placeholder None at [0];
n_in, n_out  units of the layer before and of this one. Everything is in the row layout: W[k] is (n_in, n_out)
and b[k] is (1, n_out).

All schemes draw from `numpy.random.RandomState`: its stream is frozen for good (NumPy's NEP 19), that of
`default_rng` is not, so a seed names the same network under every version of NumPy. NumPy's global generator
is neither read nor reseeded.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["INITIALIZERS", "check_sizes", "document", "glorot", "he"]

Parameters = tuple[list[Any], list[Any]]
Draw = Callable[[np.random.RandomState, int, int], Any]


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """(n_0, ..., n_L), the units of every layer as plain integers.

    Raises ValueError for fewer than two layers and for a size that is not a positive integer.

    >>> check_sizes([2, 4, 1])
    (2, 4, 1)
    """
    given = list(sizes) if hasattr(sizes, "__iter__") else []
    if len(given) < 2:
        raise ValueError(f"sizes must list the units of every layer, inputs and outputs at least; came {sizes!r}")
    checked = []
    for k, size in enumerate(given):
        try:
            units = 0 if isinstance(size, (bool, np.bool_)) else operator.index(size)
        except TypeError:
            units = 0
        if units < 1:
            raise ValueError(f"sizes[{k}] must be a positive integer, the units of layer {k}; came {size!r}")
        checked.append(units)
    return tuple(checked)


def document(sizes: Sequence[int], seed: int | None = 42, sigma: float = 0.1) -> Parameters:
    """(W, b) with every entry from N(0, sigma^2): per layer first W, then b, as the tutorial draws them.

    With the defaults these are the tutorial's starting values bit for bit.

    >>> W, b = document([2, 4, 3, 1])
    >>> W[1].shape, b[1].shape, W[0] is None
    ((2, 4), (1, 4), True)
    >>> round(float(W[1][0, 0]), 12)
    0.049671415301
    """

    def normal(generator: np.random.RandomState, rows: int, n_out: int) -> Any:
        return generator.randn(rows, n_out) * sigma

    return _draw_layers(sizes, seed, normal, normal)


def he(sizes: Sequence[int], seed: int | None = 42) -> Parameters:
    """(W, b) with W from N(0, 2/n_in) and b = 0: keeps the variance of z from layer to layer under relu.

    Source: He, Zhang, Ren, Sun, Delving Deep into Rectifiers, 2015, arXiv:1502.01852, section 2.2.

    >>> W, b = he([1000, 100], seed=0)
    >>> round(float(W[1].std() * (1000 / 2) ** 0.5), 2), float(abs(b[1]).max())
    (1.0, 0.0)
    """
    return _draw_layers(
        sizes, seed, lambda generator, n_in, n_out: generator.randn(n_in, n_out) * np.sqrt(2.0 / n_in), _zeros
    )


def glorot(sizes: Sequence[int], seed: int | None = 42) -> Parameters:
    """(W, b) with W uniform in +-sqrt(6/(n_in + n_out)) and b = 0: a compromise between forward and backward.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
    2010, equation 16.

    >>> W, b = glorot([4, 2], seed=0)
    >>> bool(abs(W[1]).max() <= 1.0), float(abs(b[1]).max())
    (True, 0.0)
    """

    def uniform(generator: np.random.RandomState, n_in: int, n_out: int) -> Any:
        bound = np.sqrt(6.0 / (n_in + n_out))
        return generator.uniform(-bound, bound, size=(n_in, n_out))

    return _draw_layers(sizes, seed, uniform, _zeros)


def _zeros(generator: np.random.RandomState, rows: int, n_out: int) -> Any:
    return np.zeros((rows, n_out))


def _draw_layers(sizes: Sequence[int], seed: int | None, draw_W: Draw, draw_b: Draw) -> Parameters:
    """The lists W and b; the order of the draws, W then b per layer, is part of what a seed means."""
    units = check_sizes(sizes)
    generator = np.random.RandomState(seed)
    W: list[Any] = [None]
    b: list[Any] = [None]
    for n_in, n_out in itertools.pairwise(units):
        W.append(draw_W(generator, n_in, n_out))
        b.append(draw_b(generator, 1, n_out))
    return W, b


INITIALIZERS: dict[str, Callable[..., Parameters]] = {"document": document, "he": he, "glorot": glorot}
