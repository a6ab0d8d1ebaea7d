"""Whether it is worth while to look for lanes: an estimate from a few windows of the tape, far cheaper than labels.

Operands come soon before what is made of them, so that a window shows most of an operation. An operand further away is
known by its row and by those a few steps below it. How a sum was written down must not matter (see sums.py): it is
known by the sum of what its terms are known by. A formula that is longer than a window is seen by its rows, one after
the other, which come again further on. In a recurrence they come again at once, and compute something new every time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.programs.labels import ODD, commuting_rows, mixed
from autodiff.programs.recording import DATA, INPUT, Tape, distinct
from autodiff.programs.sums import signs_of

FEW, MANY, APART = 4, 8, 5000  # so few windows, or as many as lie so many nodes apart, up to so many
SHARE, LEAST = 32, 120  # a 32nd of the tape in all, of 120 nodes each at least
STEPS = 2  # that are looked at below an operand outside of the window
PIECES, PIECES_SHARE = 4, 6  # so many pieces; a 6th of the tape in all, where many recurrences are told from one
SPANS = (1, 2, 4, 8)  # which make a run of 16 rows


def seems_to_repeat(tape: Tape) -> bool:
    """Whether half of what is computed would be lanes of something else, as it seems, were all inputs alike."""
    first, size = int(np.argmax(tape.code > DATA)), len(tape)
    windows = min(max(FEW, size // APART), MANY)
    width = min(max(LEAST, size // (windows * SHARE)), size - first)
    begins = np.linspace(first, size - width, windows).astype(int)[:, None]
    nodes = begins + np.arange(width)
    is_add, commutes = signs_of(tape)[:, 0] != 0, commuting_rows(tape)
    rows = mixed(np.arange(len(tape.rows), dtype=np.uint64))
    rows[INPUT] = rows[DATA]

    def known(nodes: Any, steps: int) -> Any:
        """By what nodes are known from a distance; a sum only as such."""
        code = tape.code[nodes]
        if not steps:
            return rows[code]
        of_a, of_b = (mixed(known(x[nodes], steps - 1)) for x in (tape.a, tape.b))
        below = of_a * ODD[2] + of_b * np.where(commutes[code], ODD[2], ODD[3])
        return rows[code] + np.where(is_add[code], ODD[0], below)

    operands = np.stack([tape.a[nodes], tape.b[nodes]])
    is_outside, outside = operands < begins, np.zeros(operands.shape, np.int64)
    outside[is_outside] = known(operands[is_outside], STEPS) >> np.uint64(8)
    different = 0
    adds, commuting = is_add.tolist(), commutes.tolist()
    for begin, *columns in zip(begins.ravel().tolist(), tape.code[nodes], *operands, *outside, strict=True):
        by: list[int] = []  # which the nodes of the window are known
        seen: set[int] = set()
        for k, x, y, of_x, of_y in zip(*(column.tolist() for column in columns), strict=True):
            if x >= begin:
                of_x = by[x - begin]
            if y >= begin:
                of_y = by[y - begin]
            if adds[k]:
                by.append(of_x + of_y)
                continue
            made = hash((k, of_x + of_y)) if commuting[k] else hash((k, of_x, of_y))
            by.append(made)
            seen.add(made)
            seen.add(of_x)  # a sum counts where it is an operand: then it is no inner node of another
        different += len(seen)
    if 2 * different <= int(np.count_nonzero(tape.code[nodes] > DATA)):
        return True
    runs = rows[tape.code]
    for span in SPANS:
        runs = mixed(runs[:-span]) + runs[span:]
    in_windows = runs[nodes[:, : -sum(SPANS)]]
    if 2 * sum(len(distinct(window)) for window in in_windows) <= in_windows.size:
        width = (size - first) // (PIECES * PIECES_SHARE)
        begins = np.linspace(first, size - width, PIECES).astype(int)
        if 2 * sum(_deepens(tape, slice(begin, begin + width), is_add) for begin in begins.tolist()) > PIECES:
            return False
    return 2 * len(distinct(runs[first:])) <= len(runs) - first


def _deepens(tape: Tape, here: slice, is_add: Any) -> bool:
    """Whether this piece of the tape is one recurrence that goes on, rather than many, one after the other."""
    depth: list[int] = []  # how many operations of the piece lie below each of its nodes at most, sums not counted
    keep = depth.append
    a, b, steps = tape.a[here] - here.start, tape.b[here] - here.start, (~is_add)[tape.code[here]]
    for x, y, step in zip(a.tolist(), b.tolist(), steps.tolist(), strict=True):
        of_x, of_y = depth[x] if x >= 0 else 0, depth[y] if y >= 0 else 0
        keep((of_x if of_x > of_y else of_y) + step)
    return 2 * max(depth) > 3 * max(depth[: len(depth) // 2])
