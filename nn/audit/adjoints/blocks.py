"""Softmax and the normalisations where they stand: what goes wrong in their Jacobians, which are no products.

A step is recognised by its numbers: exponentials that add up to 1 along an axis, a node that is another without its
mean and divided by its size. What is right for it is held against what the sweep expects before anything is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nn.audit.adjoints.jacobians import SUMS, Step, Wrong, log_softmax, logsumexp, softmax
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.normalisations import scaled
from nn.audit.adjoints.pool import Pool
from nn.audit.adjoints.region import Region

NEAR = 12  # nodes above a claim, and its own, that a step may start from


def in_blocks(region: Region) -> Iterator[Mistake]:
    """The mistakes in the Jacobian of a softmax, a log-softmax, a logsumexp or a normalisation."""
    for step in _steps(region):
        yield from _mistakes(region, step, step.wrong)


def _steps(region: Region) -> Iterator[Step]:
    """The steps above a claim, and those that start from it."""
    sweep = region.sweep
    if not region.target.whole:
        return
    for x in [*region.nodes, *region.between()[:NEAR]]:
        data = sweep.recorded.data[x]
        if data.ndim and data.size > 1 and np.isfinite(data).all():
            for y in _reached(region, x):
                for axes in _axes(data.ndim):
                    yield from _from(region, x, y, axes)


def _mistakes(region: Region, step: Step, wrong: Iterable[Wrong]) -> Iterator[Mistake]:
    sweep = region.sweep
    expected = sweep.expected[step.x].value
    own = step.x in region.members
    it = f"from {sweep.called(step.y)}" + ("" if own else f" to {sweep.called(step.x)}")
    for kind, words, value in wrong:
        delta = value - step.right
        if np.isfinite(delta).all():
            yield Mistake(
                kind, f"{words}, {it}", totals={step.x: _put(expected + delta)}, rule=words, adds=[(step.x, delta)]
            )


def in_blocks_with(region: Region, pool: Pool) -> Iterator[Mistake]:
    """The mistakes that another array stands in one of the places of such a Jacobian."""
    sweep = region.sweep
    for step in _steps(region):
        own = step.x in region.members
        it = f"in the derivative of {sweep.called(step.y)}" + (
            "" if own else f" with respect to {sweep.called(step.x)}"
        )
        seen = step.value if step.name != "logsumexp" else np.exp(sweep.recorded.data[step.x] - step.value)
        for stand in pool.near(step.x):
            if np.shape(stand.value) != np.shape(step.x.data):
                continue
            for place, made in step.slots:
                delta = made(stand.value) - step.right
                if np.isfinite(delta).all() and not np.array_equal(stand.value, seen):
                    yield Mistake(
                        "operand", f"{stand.called} stands in the place of {place}, {it}",
                        totals={step.x: _put(sweep.expected[step.x].value + delta)}, rule=place,
                        adds=[(step.x, delta)], found=stand.called, belongs=place,
                    )  # fmt: skip


def _put(value: Any) -> Any:
    return lambda adjoint: value


def _reached(region: Region, x: Any) -> list[Any]:
    """The nodes of x's shape that are made from it, up to the claims."""
    sweep, shape = region.sweep, np.shape(x.data)
    seen, queue = {x}, [x]
    for node in queue:
        for child, _ in sweep.children[node]:
            if child not in seen:
                seen.add(child)
                if child not in sweep.stands:
                    queue.append(child)
    return [y for y in sweep.nodes[::-1] if y in seen and y is not x and _fits(np.shape(y.data), shape)]


def _fits(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a shape is another, or that of a sum of it along one axis."""
    short = [shape[:axis] + shape[axis + 1 :] for axis in range(len(shape))]
    kept = [(*shape[:axis], 1, *shape[axis + 1 :]) for axis in range(len(shape))]
    return given == shape or (len(shape) > 1 and given in (*short, *kept))


def _axes(ndim: int) -> list[tuple[int, ...]]:
    return [(axis,) for axis in range(ndim)] + ([tuple(range(ndim))] if ndim > 1 else [])


def _from(region: Region, x: Any, y: Any, axes: tuple[int, ...]) -> Iterator[Step]:
    """The step from x to y, where their numbers are one along the axes, and so is what leads from x to y."""
    sweep = region.sweep
    a, b, g = sweep.recorded.data[x], sweep.recorded.data[y], sweep.used[y].value
    if all(a.shape[axis] < 2 for axis in axes) or not np.isfinite(g).all() or g.shape != b.shape:
        return
    for make in (softmax, log_softmax, scaled) if b.shape == a.shape else (logsumexp,):
        key = make, x, y, axes
        step = None if key in sweep.recorded.unlike else make(Step(make.__name__, x, y, axes, g, b, None), a)
        if step is None:
            sweep.recorded.unlike.add(key)
        elif _same(step.right, sweep.expected[x].value) or _same(step.right, _through(region, x, y)):
            yield step


def _through(region: Region, x: Any, y: Any) -> Any:
    """What comes through y to the claim's own node x."""
    if x not in region.members:
        return np.zeros(np.shape(x.data))
    edges = {(y, i): _nothing for i, parent in enumerate(y.operands) if type(parent) is type(y)}
    without = region.after(Mistake("child-sum", "", edges=edges))
    return np.zeros(np.shape(x.data)) if without is None else region.right - without


def _nothing(g: Any, part: Any) -> Any:
    return 0.0 * part


def _same(value: Any, expected: Any) -> bool:
    size = np.max(np.abs(expected), initial=0.0)
    return bool(size > 0 and np.max(np.abs(value - expected), initial=0.0) <= SUMS * size)
