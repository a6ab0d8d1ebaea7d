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


def seen_from_outside(tape: Tape) -> Any:
    """The numbers of the nodes that are asked for, or compared."""
    compared = [number for _, x, y, _, _ in tape.guards for number in (x, y) if number is not None]
    return np.concatenate([tape.outputs, np.array(compared, np.int32)])


class Sums:
    """The sums of a tape: which node belongs to which, and the terms of each.

    root: per node, the top of its sum, or itself. terms of root r: nodes[start[r]:stop[r]], with signs.
    """

    def __init__(self, tape: Tape) -> None:
        size = len(tape)
        index = np.arange(size)
        code, a, b = tape.code, tape.a, tape.b
        signs = np.array([SIGNS.get(row, (0, 0, 0)) for row in tape.rows], np.int8)  # type: ignore[arg-type]
        two, interior = tape.two_nodes()[code], code > DATA
        uses = np.bincount(a[interior], minlength=size) + np.bincount(b[two], minlength=size)
        uses[seen_from_outside(tape)] += 2
        adds = signs[code, 0] != 0
        child = np.full(size, -1)
        sign = np.ones(size, np.int8)
        at_b = np.flatnonzero(adds & two)
        child[a[adds]], sign[a[adds]] = index[adds], signs[code[adds], 0]
        child[b[at_b]], sign[b[at_b]] = at_b, signs[code[at_b], 1]
        inner = adds & (uses == 1) & (child >= 0)
        # each inner node points to its child, then to that one's, ...: twice as far every time
        root = np.where(inner, child, index)
        total = np.where(inner, sign, 1).astype(np.int8)
        while True:
            further = root[root]
            if np.array_equal(further, root):
                break
            total, root = total * total[root], further
        at_a = np.flatnonzero(adds & ~inner[a])
        at_b = at_b[~inner[b[at_b]]]
        owner = np.concatenate([root[at_a], root[at_b]])
        term = np.concatenate([a[at_a], b[at_b]])
        part = np.concatenate([total[at_a] * signs[code[at_a], 0], total[at_b] * signs[code[at_b], 1]])
        counts = np.bincount(owner, minlength=size)
        # a sum is taken apart where it may be one over lanes: where terms look alike
        keys = np.sort(owner.astype(np.int64) << 15 | code[term])
        kept = np.zeros(size, bool)
        kept[keys[1:][keys[1:] == keys[:-1]] >> 15] = True
        kept &= counts >= MIN_TERMS
        self.inner = inner & kept[root]
        self.is_sum = kept
        chosen = kept[owner]
        owner, term, part = owner[chosen], term[chosen], part[chosen]
        in_order = np.argsort(owner, kind="stable")
        self.owner, self.term, self.part = owner[in_order], term[in_order], part[in_order]
        self.stop = np.cumsum(np.where(kept, counts, 0))
        self.start = self.stop - np.where(kept, counts, 0)
        shifts = np.flatnonzero(adds & kept[root] & (signs[code, 2] != 0))
        self.constant = np.zeros(size)
        with np.errstate(all="ignore"):
            np.add.at(self.constant, root[shifts], tape.constant[shifts] * (total[shifts] * signs[code[shifts], 2]))
        self.shifted = np.zeros(size, bool)
        self.shifted[root[shifts]] = True
