"""The slope of a plain function at a point, measured, with a bound on the error of the measurement.

Central differences over a ladder of steps, extrapolated as in C. J. F. Ridders, "Accurate computation of
F'(x) and F'(x)F''(x)", Adv. Eng. Software 4 (1982); sharpened by the complex step of W. Squire and G.
Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40(1) (1998). The
noise of f is measured from differences over tiny steps, after J. Moré and S. Wild, "Estimating
computational noise", SIAM J. Sci. Comput. 33(3) (2011). Why tiny steps alone will not do: N. Higham,
"Accuracy and Stability of Numerical Algorithms", SIAM (2002), chapter 1.

Two parts of f around x are watched, and both must behave as a smooth function's do:

    odd(h)  = (f(x+h) - f(x-h)) / 2h                    = slope + c2 h**2 + c4 h**4 + ...    gives the slope
    even(h) = slope to the right - slope to the left    = jump  + c1 h    + c3 h**3 + ...    shows a kink

By the first alone the slope of relu at 0 would be 1/2, on every step and to all digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf, isfinite, nan

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
DENORMAL = 5e-324  # what underflow can hide
RATIO = 4.0  # from rung to rung; a power of two keeps most steps exact
RUNGS = 25  # the last is 4**-24 of |x|, 16 units in its last place: about the smallest step that still is one
LEVELS = 4  # of extrapolation; more would need more rungs between two kinks
FIRST_LOOK = (0, 1, 2, 3, 4, 5, 6, 7, 11, 15, 22, 23, 24)  # for the slope; for structure; for the noise
UPWARD = 8  # rungs above the first, for slopes too faint to show over ordinary steps
SMALL = 1e-3  # |x| below which 0 may be close by the measure of f: log, sqrt, relu

NOISE = 4.0  # a slope is made of differences, and all four values in one can be wrong together
RESOLVED = 0.1  # a relative bound below this tells a slope from zero, from its half and its double
TIGHT = 1e-3  # ... and below this it is no accident
SETTLED = 1e-7  # ... and below this no claim needs a better one
SHARP = 1e-2  # ... and below this it has the two digits that the complex step must confirm to be believed
KINK = 1e-2  # two one-sided slopes closer than this only widen the bound
# In units of the rounding of f:
ROUGH = 1e3  # noise above this is structure finer than every step
DOUBT = 64.0  # left behind by numbers that cancel in f at the point, if they are as large as f nearby
STAIR = 2.0**16  # a first change below this, after none at all, is a stair of rounding and no kink
ZERO = 2.0**14  # a slope that changes f by less, over its natural step, is zero to working accuracy
# Relative to f:
COARSEST = 2.0**-21  # a change that is the rounding of float32, a few operations deep
LOOSEST = 2.0**-12  # one that still may be, after cancellation


@dataclass
class Slope:
    """A measured slope, value +- bound, or the trouble that prevents one ("" when nothing does)."""

    value: float = nan
    bound: float = inf
    trouble: str = ""
    others: list[tuple[float, float]] = field(default_factory=list)  # (value, bound) over other steps
    hint: float = nan  # from the complex step, when the differences are too rough to confirm it
    zero: float = 0.0  # slopes up to this one are zero to the working accuracy of f
    flat: bool = False  # f is constant over the smallest steps, and not for want of accuracy
    sway: float = 0.0  # |x f''(x)|: what a rounding of x, the relative one, does to the slope
    step: float = nan  # the smallest step used
    grain: float = 0.0  # the smallest change that f can show, where it is no float64
    doubt: float = 0.0  # a further bound, in case f here is the small rest of numbers as large as f nearby

    @property
    def resolved(self) -> bool:
        """Whether the slope is told from zero, from its half and from its double."""
        return self.value != 0.0 and self.bound <= RESOLVED * abs(self.value)

    @property
    def settled(self) -> bool:
        """Whether no more digits are needed."""
        return not self.trouble and self.bound <= (SETTLED * abs(self.value) if self.value else self.zero)


class _Ladder:
    """The values of g at x +- step, for steps top, top/4, top/16, ...; nan where there are none."""

    def __init__(self, g: Callable[[float], float], x: float, value: float, top: float) -> None:
        self.g, self.x, self.value, self.top = g, x, value, top
        self.step = top * RATIO ** -np.arange(float(RUNGS))
        self.above, self.below, self.right, self.left = np.full((4, RUNGS), nan)

    def measure(self, rungs: Iterable[int]) -> None:
        for k in rungs:
            high, low = self.x + self.step[k], self.x - self.step[k]
            if isfinite(high) and isfinite(low) and low < self.x < high and np.isnan(self.above[k]):
                self.right[k], self.left[k] = high - self.x, self.x - low  # the steps really taken
                self.above[k], self.below[k] = self.g(high), self.g(low)
        bad = ~np.isfinite(self.above + self.below)
        self.slope_right = np.where(bad, nan, (self.above - self.value) / self.right)
        self.slope_left = np.where(bad, nan, (self.value - self.below) / self.left)
        self.odd = np.where(bad, nan, (self.above - self.below) / (self.right + self.left))
        self.even = self.slope_right - self.slope_left
        outer = np.maximum(abs(self.above), abs(self.below))
        self.size = np.where(bad, nan, np.maximum(outer, abs(self.value)))

    def largest(self) -> float:
        """max |g| as far as was measured."""
        return float(np.nanmax(self.size, initial=abs(self.value)))

    def both_sides(self) -> float:
        """max |g| of those at a distance up to a quarter of the top, each the smaller of the two sides."""
        smaller = np.minimum(abs(self.above), abs(self.below))
        return float(np.nanmax(smaller[self.step <= self.top / 4], initial=0.0))

    def stair(self) -> float:
        """The first change, if g is constant over the smallest steps; else 0.0."""
        change = np.fmax(abs(self.above - self.value), abs(self.below - self.value))
        moved, still = np.flatnonzero(change > 0), np.flatnonzero(change == 0)
        return float(change[moved[-1]]) if len(moved) and len(still) and moved[-1] < still[-1] else 0.0

    def roughness(self) -> float:
        """How far the values over the smallest steps are from a straight line."""
        bend = abs(self.even * self.step)[-3:]
        turn = abs(np.diff(self.odd[-3:]) * self.step[-2:])
        return float(np.nanmax([0.0, *bend, *turn]))

    def candidates(self, noise: Floats) -> Floats:
        """Rows (value, bound, step): the extrapolations of all levels, as far as there are values."""
        value, jump, rounding = self.odd, self.even, NOISE * noise / self.step
        rows = []
        for level in range(1, LEVELS + 1):
            finer, coarser = value[1:], value[:-1]
            value, jump = _extrapolate(value, 2 * level), _extrapolate(jump, 2 * level - 1)
            rounding = np.append(inf, np.maximum(rounding[1:], rounding[:-1]))
            bound = np.maximum(abs(value[1:] - finer), abs(value[1:] - coarser))
            bound = bound + abs(jump[1:]) + abs(jump[:-1]) / RATIO ** (2 * level) + rounding[1:]
            rows.append(np.stack([value[1:], bound, self.step[1:]], axis=1))
        table: Floats = np.concatenate(rows)
        return table[np.isfinite(table).all(axis=1)]

    def kink(self, noise: Floats) -> str:
        """Which slopes differ at x, when they do so over the finest steps that can tell; else ""."""
        blur = 2 * NOISE * noise / self.step
        clear = np.flatnonzero(abs(self.even) > 50 * blur)
        if len(clear) < 3:
            return ""
        last = int(clear[-1])
        jump, left, right = self.even[last], self.slope_left[last], self.slope_right[last]
        steady = all(
            abs(slopes[k] - slopes[last]) <= 0.1 * abs(jump) + blur[k]
            for slopes in (self.slope_left, self.slope_right)
            for k in (last - 1, last - 2)
        )
        finer = abs(self.even[last + 1 :] - jump) > 0.1 * abs(jump) + blur[last + 1 :]
        if not steady or finer.any() or abs(jump) < KINK * max(abs(left), abs(right)):
            return ""
        return f"a kink at {self.x:.6g}: slopes from the left {left:.4g} and from the right {right:.4g}"


def _extrapolate(table: Floats, power: int) -> Floats:
    """The table without its error term in step**power; nan in front."""
    return np.append(nan, table[1:] + np.diff(table) / (RATIO**power - 1))


def slope(
    g: Callable[[float], float],
    x: float,
    value: float,
    quantum: float = 0.0,
    complex_g: Callable[[complex], complex] | None = None,
) -> Slope:
    """g'(x), measured: value +- bound, or the trouble that prevents it.

    value is g(x), finite; quantum the smallest change that g can show, 0 if only rounding limits it. g gives
    nan where it cannot be evaluated, and raises nothing; complex_g likewise, and nan when its result is real.
    Takes about 30 evaluations for a smooth g, up to 150 for a difficult one.

    >>> found = slope(lambda t: t**3, 2.0, 8.0)
    >>> abs(found.value - 12) <= found.bound < 1e-6
    True
    >>> slope(abs, 0.0, 0.0).trouble
    'a kink at 0: slopes from the left -1 and from the right 1'
    """
    with np.errstate(all="ignore"):
        ladders = [_Ladder(g, x, value, max(abs(x), 1.0))]
        ladders[0].measure(FIRST_LOOK)
        found = _read(ladders, quantum)
        if not (found.settled and _confirmed(found, ladders[0], quantum)):
            ladders[0].measure(range(RUNGS))
            found = _read(ladders, quantum)
            if not found.settled and abs(x) < SMALL:
                ladders.append(_Ladder(g, x, value, abs(x) or ladders[0].step[-1] / RATIO))
                ladders[-1].measure(range(RUNGS))
                found = _read(ladders, quantum)
            if found.value and not found.resolved and not found.trouble:
                ladders.append(_Ladder(g, x, value, RATIO**UPWARD * ladders[0].top))
                ladders[-1].measure(range(UPWARD + LEVELS))
                found = _read(ladders, quantum)
        if complex_g is not None and not found.trouble and not (found.settled and found.value):
            _sharpen(found, complex_g, x)
    return found


def _read(ladders: list[_Ladder], quantum: float) -> Slope:
    """The slope that the values measured so far support."""
    noise, largest = _finest(ladders).roughness(), ladders[0].largest()
    # log(1 + x*x) is a staircase where x is small; so looks a dead unit of a network, up to its kink.
    stair = max(ladder.stair() for ladder in ladders)
    found = _pick(ladders, quantum, max(noise, stair))
    if stair > STAIR * EPS * largest and (found.trouble or not found.resolved):
        found = _pick(ladders, quantum, noise)
    elif stair > max(STAIR * EPS * largest, quantum) or (stair and quantum > COARSEST * largest):
        found.others.append((0.0, 0.0))  # floor(1000 x): one slope from afar, none nearby
    found.flat = stair > 0 and quantum == 0
    found.grain = quantum
    return found


def _finest(ladders: list[_Ladder]) -> _Ladder:
    return min(ladders, key=lambda ladder: float(ladder.step[-1]))


def _noises(ladder: _Ladder, quantum: float, noise: float) -> Floats:
    """How far each value of the ladder may be off, if f is off by noise or by the rounding of its value."""
    relative = quantum / abs(ladder.value) if ladder.value else 0.0
    return np.maximum(max(noise, quantum), max(2 * EPS, relative) * ladder.size) + DENORMAL


def _pick(ladders: list[_Ladder], quantum: float, noise: float) -> Slope:
    """The slope that the values support, when f is off by so much or by the rounding of its value."""
    usual, finest = ladders[0], _finest(ladders)
    tables = []
    for ladder in ladders:
        table = ladder.candidates(_noises(ladder, quantum, noise))
        # Over very large steps f may well be bounded: that they show no slope means nothing.
        tables.append(table[table[:, 1] <= TIGHT * abs(table[:, 0])] if ladder.top > usual.top else table)
    value, bound, step = np.concatenate(tables).T
    if not len(value):
        return Slope(trouble=_no_values(usual))
    best = int(np.argmin(bound))
    while True:  # what finer steps show clearly overrules what coarser steps show
        apart = abs(value - value[best])
        finer = step < step[best]
        sure = bound <= RESOLVED * np.maximum(abs(value), abs(value[best]))
        overruling = np.flatnonzero(finer & sure & (apart > 2 * (bound + bound[best])))
        if not len(overruling):
            break
        best = int(overruling[np.argmin(bound[overruling])])
    found = Slope(float(value[best]), float(bound[best]), step=float(step[best]))

    contrary = (bound <= TIGHT * abs(value)) & (apart > 2 * (bound + bound[best]))
    near = contrary & (apart <= RESOLVED * abs(value[best]))  # x + log(1 + x*x): a fine staircase
    found.bound = float(np.max(apart[near] + bound[near], initial=found.bound))
    far = contrary & ~near
    found.others = [(float(v), float(b)) for v, b in zip(value[far], bound[far], strict=True)]

    for ladder in ladders:
        for k in np.flatnonzero((ladder.step == found.step) & np.isfinite(ladder.even)):
            found.sway = abs(float(ladder.even[k])) * abs(ladder.x) / found.step
    largest, natural = _natural(usual) or _natural(finest) or (0.0, inf)
    found.zero = max(ZERO * EPS * largest, 64 * quantum) / (16 * natural)
    cancelled = DOUBT * EPS * max(usual.both_sides(), finest.both_sides())
    found.doubt = float(np.min(apart + bound + cancelled / step))
    if not found.resolved:
        found.bound = max(found.bound, EPS * usual.largest() / (16 * natural))
    if not usual.largest():  # f is 0 throughout: the rest of numbers of any size, for all one can see
        found.bound, found.zero, found.doubt = EPS, ZERO * EPS, EPS**0.5

    found.trouble = finest.kink(_noises(finest, quantum, noise))
    if not found.trouble and not (found.resolved and found.step < usual.step[-1]):
        found.trouble = usual.kink(_noises(usual, quantum, noise))
    if not found.trouble and not found.resolved:
        if (finer & (apart > bound + bound[best])).any():
            found.trouble = "no steady slope: the smaller the step, the more it changes"
        elif noise > ROUGH * EPS * usual.largest() and noise > ROUGH * quantum:
            steps = f"steps of {finest.step[-1]:.1e}"
            found.trouble = f"noise or a jump: f changes by {noise:.1e}, unsteadily, over {steps}"
    return found


def _confirmed(found: Slope, ladder: _Ladder, quantum: float) -> bool:
    """Whether the small steps of the first look, too noisy to measure by, at least do not contradict."""
    noise = _noises(ladder, quantum, max(ladder.roughness(), ladder.stair()))
    curved = abs(ladder.odd[ladder.step == found.step] - found.value) * (ladder.step / found.step) ** 2
    allowed = 2 * found.bound + NOISE * noise / ladder.step + 2 * curved
    return not (abs(ladder.odd - found.value) > allowed)[ladder.step < found.step].any()


def _natural(ladder: _Ladder) -> tuple[float, float] | None:
    """(largest |g|, step): over steps up to a sixteenth of the top, as far as there are values."""
    usable = np.flatnonzero((ladder.step <= ladder.top / 16) & np.isfinite(ladder.size))
    return (float(np.max(ladder.size[usable])), float(ladder.step[usable[0]])) if len(usable) else None


def _no_values(ladder: _Ladder) -> str:
    above, below = (bool(np.isfinite(side).any()) for side in (ladder.above, ladder.below))
    if above != below:
        return f"f is finite on one side only, {'above' if above else 'below'} {ladder.x:.6g}"
    return f"f is nan, infinite or raises at too many points around {ladder.x:.6g}"


def _sharpen(found: Slope, complex_g: Callable[[complex], complex], x: float) -> None:
    """Adopt Im f(x + ih) / h, if the differences confirm it: abs, max, real and comparisons make it wrong."""
    tiny = found.step * 2.0**-60  # its error is (tiny / step)**2, far below rounding
    if tiny < 1e-290:
        return
    shift = 4 * EPS * max(abs(x), found.step)  # to see how rounding moves it
    middle, low, high = (complex_g(complex(at, tiny)).imag / tiny for at in (x, x - shift, x + shift))
    bound = 4 * max(abs(middle - low), abs(middle - high)) + 64 * EPS * abs(middle)
    if found.bound <= SHARP * abs(found.value):
        if abs(middle - found.value) <= 2 * found.bound + bound:
            found.value, found.bound = middle, min(bound, found.bound)
    elif bound < SHARP * abs(middle):
        found.hint = middle


def quantum(line: Callable[[float], float], value: float) -> float:
    """The smallest change of f along a line through the point, line(0) == value; 0.0 if it is mere rounding.

    A function that computes in float32 inside is a staircase: its differences over small steps are exactly 0
    and say nothing. A flat f that then changes on one side only, or by more than float32 rounds, has a real
    zero slope: a dead relu, a floor.
    """
    change, still, t = 0.0, False, 1.0
    for t in RATIO ** -np.arange(RUNGS - 1.0, -1.0, -1.0):
        change = abs(line(t) - value)
        if change > 0:  # False for nan
            break
        still = still or change == 0
    wide = [number for t in (0.25, -0.25, 1.0, -1.0) if isfinite(number := line(t))]
    single = all(float(np.float32(number)) == number for number in (value, *wide))
    if not change > 0:
        telling = float(np.float16(value)) != value  # 1.0 is whole in every format, and no sign of float32
        return float(np.spacing(np.float32(abs(value)))) if single and telling else 0.0
    if line(-min(256 * t, 1.0)) == value:
        return 0.0  # a staircase goes on to the other side
    size = max(map(abs, wide), default=0.0) if single else abs(value)  # log(1 + exp(x)) rounds as 1 does
    return change if still and 4 * EPS * abs(value) < change <= LOOSEST * size else 0.0
