"""Sums: trees of + and - whose inner nodes nobody else uses, each taken as one node over all of its terms.

So a sum over samples is found in whatever order it was written down, as a chain, as a balanced tree, or by subtraction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.primitives import add, neg, sub
from autodiff.programs.recording import DATA, Tape

# (sign of the first node, of the second, of the constant) in what these rows add up
SIGNS = {
    add: (1, 1, 0),
    add.folded["right"]: (1, 0, 1),
    add.folded["left"]: (1, 0, 1),
    sub: (1, -1, 0),
    sub.folded["right"]: (1, 0, -1),
    sub.folded["left"]: (-1, 0, 1),
    neg: (-1, 0, 0),
}
MIN_TERMS = 3  # of a sum: fewer stay as they were written


def signs_of(tape: Tape) -> Any:
    """Per code, the signs with which it adds, 0 where it does not."""
    return np.array([SIGNS.get(row, (0, 0, 0)) for row in tape.rows], np.int8)  # type: ignore[arg-type]


def seen_from_outside(tape: Tape) -> Any:
    """The numbers of the nodes that are asked for, or compared."""
    compared = [number for _, x, y, _, _ in tape.guards for number in (x, y) if number is not None]
    return np.concatenate([tape.outputs, np.array(compared, np.int32)])


class Sums:
    """The sums of a tape: which node belongs to which, and the terms of each.

    inner: per node, whether it is within a sum, and nothing by itself. The terms of a sum r are
    term[start[r]:stop[r]], with the signs `part`. uses: per node, how many times it is an operand or a term.
    """

    def __init__(self, tape: Tape) -> None:
        size = len(tape)
        code, a, b = tape.code.astype(np.intp), tape.a, tape.b  # an index as NumPy wants it, once for all tables
        signs = signs_of(tape)
        made, is_two, is_add = code > DATA, tape.two_nodes()[code], (signs[:, 0] != 0)[code]
        self.uses = np.bincount(a[made], minlength=size) + np.bincount(b[is_two], minlength=size)
        uses = self.uses.copy()
        uses[seen_from_outside(tape)] += 2
        adds, adds_two = np.flatnonzero(is_add), np.flatnonzero(is_add & is_two)
        # the ends of its edges to what it adds: at a, and at b
        child, term = np.concatenate([adds, adds_two]), np.concatenate([a[adds], b[adds_two]])
        sign = np.concatenate([signs[code[adds], 0], signs[code[adds_two], 1]])
        is_inner = (is_add & (uses == 1))[term]
        # each inner node points to its child, then to that one's, ...: twice as far every time
        root, total = np.arange(size), np.ones(size, np.int8)
        moving = term[is_inner]
        root[moving], total[moving] = child[is_inner], sign[is_inner]
        while len(moving):
            so_far = root[moving]
            further, more = root[so_far], total[so_far]
            root[moving] = further
            total[moving] *= more
            moving = moving[further != so_far]
        owner, term = root[child[~is_inner]], term[~is_inner]
        part = total[child[~is_inner]] * sign[~is_inner]
        counts = np.bincount(owner, minlength=size)
        # a sum is taken apart where it may be one over lanes: where terms look alike
        keys = np.sort(owner.astype(np.int64) << 15 | code[term])
        kept = np.zeros(size, bool)
        kept[keys[1:][keys[1:] == keys[:-1]] >> 15] = True
        kept &= counts >= MIN_TERMS
        self.inner = kept[root] & (root != np.arange(size))
        self.is_sum = kept
        chosen = kept[owner]
        owner, term, part = owner[chosen], term[chosen], part[chosen]
        in_order = np.argsort(owner, kind="stable")
        self.owner, self.term, self.part = owner[in_order], term[in_order], part[in_order]
        lengths = np.where(kept, counts, 0)
        self.stop = np.cumsum(lengths)
        self.start = self.stop - lengths
        shifts = adds[(signs[code[adds], 2] != 0) & kept[root[adds]]]
        self.constant = np.zeros(size)
        with np.errstate(all="ignore"):
            np.add.at(self.constant, root[shifts], tape.constant[shifts] * (total[shifts] * signs[code[shifts], 2]))
        self.shifted = np.zeros(size, bool)
        self.shifted[root[shifts]] = True
        self.uses[self.inner] = 0  # by another inner node, or by the sum
