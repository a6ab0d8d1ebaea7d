"""Lanes: which nodes of a tape compute the same thing on different numbers.

Glossary: two nodes share a *label* if the same row made them from operands that share labels; inputs are labelled one
by one, constants are not looked at, since they are data. The nodes of one label are the *lanes* of a vector; their
number is its *width*. A *group* puts vectors of one width on top of each other, as the rows of a matrix, that would
share a label if all inputs were alike. A *sum* is a tree of + and - whose inner nodes nobody else uses, taken as one
node over all its terms, in whatever order they came.

One pass over the nodes with a dict finds the labels; the rest is done on whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autodiff.primitives import add, mul, neg, sub
from autodiff.programs.recording import DATA, INPUT, LEAF, Tape

SUM = -1  # the code of a sum
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
BEGINNING = 5000  # nodes, in which something must repeat for the rest to be looked at
MIN_TERMS = 3  # of a sum: fewer stay as they were written


class Group:
    """k vectors of w lanes that one row computes: members (k, w) are their numbers on the tape."""

    __slots__ = ("code", "members", "terms")

    def __init__(self, code: int, members: Any, terms: Any = None) -> None:
        self.code, self.members = code, members
        self.terms = terms  # of a sum: (nodes (k, w, t), signs (t,), constants (k, w))


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
        in_order = np.lexsort((code[term], owner))
        alike = (np.diff(owner[in_order]) == 0) & (np.diff(code[term[in_order]]) == 0)
        kept = np.zeros(size, bool)
        kept[owner[in_order[1:][alike]]] = True
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


def grouped(
    tape: Tape, one_sample: bool = False, only_if_it_repeats: bool = False
) -> tuple[list[Group], Tape, Sums] | None:
    """The groups, operands first; a tape whose commuting operands are in the order of their labels; and its sums.

    one_sample: data differ from lane to lane of a batch, and are labelled one by one as inputs are.
    only_if_it_repeats: None if less than half of what is computed are lanes, or would be, were all inputs alike; or if
    the first sixteenth of a long tape shows next to none.
    """
    if only_if_it_repeats and not _promising(tape):
        return None
    size, sums = len(tape), Sums(tape)
    tape = Tape(
        tape.rows, tape.code, tape.a.copy(), tape.b.copy(), tape.constant, tape.inputs, tape.data, tape.outputs,
        tape.names, tape.guards,
    )  # fmt: skip
    labels, keys = _labels(tape, sums, one_sample)
    computed = int((tape.code > DATA).sum())
    if only_if_it_repeats and 2 * len(keys) > computed:
        alike = _with_inputs_alike(tape, size)
        if 2 * len(_labels(alike, sums, False)[1]) > computed:
            return None
    coarse, depth, swap = _coarse(keys, tape.rows)
    labels_array = np.array(labels[:size])
    used = np.flatnonzero(labels_array >= 0)
    fine = labels_array[used]
    wrong = used[np.array(swap)[fine]]
    tape.a[wrong], tape.b[wrong] = tape.b[wrong], tape.a[wrong]
    width = np.bincount(fine, minlength=len(keys))
    if one_sample:  # the lanes are those of the batch
        width[:] = 1
    group_of_key: dict[tuple[int, int, int], int] = {}
    group = np.array(
        [
            group_of_key.setdefault((d, c, w), len(group_of_key))
            for d, c, w in zip(depth, coarse, width.tolist(), strict=True)
        ]
    )
    in_order = used[np.lexsort((used, fine, group[fine]))]
    first = np.cumsum(np.bincount(group[fine], minlength=len(group_of_key)))
    groups = []
    for (_, _, w), g in sorted(group_of_key.items(), key=lambda item: item[0][0]):
        begin = first[g - 1] if g else 0
        members = in_order[begin : first[g]].reshape(-1, w)
        code = int(tape.code[members[0, 0]])
        if code == LEAF or (code == DATA and not one_sample):
            continue  # what they are is read where they are used
        terms = None
        if sums.is_sum[members[0, 0]]:
            code = SUM
            t = int(sums.stop[members[0, 0]] - sums.start[members[0, 0]])
            slots = sums.start[members][:, :, None] + np.arange(t)
            terms = sums.term[slots], sums.part[slots]
        groups.append(Group(code, members, terms))
    return groups, tape, sums


def _with_inputs_alike(tape: Tape, size: int) -> Tape:
    """The first entries of the tape, whose inputs nobody tells apart."""
    code = np.where(tape.code[:size] == INPUT, DATA, tape.code[:size])
    nobody = tape.inputs[:0]
    return Tape(tape.rows, code, tape.a[:size], tape.b[:size], tape.constant[:size], nobody, nobody, nobody, {})


def _promising(tape: Tape) -> bool:
    """Whether labels repeat at the beginning of a long tape: where they do not, the rest is not looked at."""
    size = max(BEGINNING, len(tape) // 16)
    if len(tape) < 2 * size:
        return True
    beginning = _with_inputs_alike(tape, size)
    computed = int((beginning.code > DATA).sum())
    return 10 * len(_labels(beginning, Sums(beginning), False)[1]) < 9 * computed


class _Labels(dict[Any, int]):
    """{what a label stands for: its number}, numbered as they come."""

    def __missing__(self, key: Any) -> int:
        self[key] = label = len(self)
        return label


def _labels(tape: Tape, sums: Sums, one_sample: bool) -> tuple[list[int], list[Any]]:
    """(label per node, -1 for inner nodes of sums; what each label stands for, in the order they came)."""
    size = len(tape)
    table = _Labels()
    labels = [-1] * (size + 1)
    two = tape.two_nodes()[tape.code]
    code = tape.code.copy()
    code[sums.is_sum] = SUM
    commuting = {k for k, row in enumerate(tape.rows) if row is add or row is mul}
    commutes = [k in commuting for k in range(len(tape.rows))] + [False]
    wanted = np.flatnonzero(~sums.inner)
    seconds = np.where(two, tape.b, size)[wanted].tolist()  # the last label is that of no operand
    terms, start, stop = sums.term.tolist(), sums.start.tolist(), sums.stop.tolist()
    minus = (sums.part < 0).tolist()
    has_minus = np.zeros(size, bool)
    has_minus[sums.owner[sums.part < 0]] = True
    signed_sum, shifted = has_minus.tolist(), sums.shifted.tolist()
    label_of = labels.__getitem__
    signed: Iterable[int]
    for i, k, x, y in zip(wanted.tolist(), code[wanted].tolist(), tape.a[wanted].tolist(), seconds, strict=True):
        if k > DATA:
            of_x, of_y = labels[x], labels[y]
            if of_x > of_y >= 0 and commutes[k]:
                labels[i] = table[k, of_y, of_x]
            else:
                labels[i] = table[k, of_x, of_y]
        elif k == SUM:
            begin, end = start[i], stop[i]
            signed = map(label_of, terms[begin:end])
            if signed_sum[i]:
                signed = (~label if sign else label for label, sign in zip(signed, minus[begin:end], strict=True))
            labels[i] = table[SUM, shifted[i], tuple(sorted(signed))]
        elif k == INPUT or (one_sample and k == DATA):
            labels[i] = table[k, i, -1]  # each for itself
        else:
            labels[i] = table[k]
    # the operands of a node whose key was swapped are swapped too, where the labels say so
    wrong = np.flatnonzero(np.array(commutes)[code] & two & ~sums.inner)
    if len(wrong):
        of = np.array(labels)
        wrong = wrong[of[tape.a[wrong]] > of[tape.b[wrong]]]
        tape.a[wrong], tape.b[wrong] = tape.b[wrong], tape.a[wrong]
    return labels, list(table)


def _coarse(keys: list[Any], rows: Any) -> tuple[list[int], list[int], list[bool]]:
    """Per label: its number where all inputs are alike, its depth, and whether its two operands change places."""
    table: dict[Any, int] = {}
    coarse: list[int] = []
    depth: list[int] = []
    swap: list[bool] = []
    for key in keys:
        swapped, deep = False, 0
        if key in (LEAF, DATA):
            plain: Any = key
        elif key[0] == INPUT or key[0] == DATA:
            plain = key[0], -1, -1
        elif key[0] == SUM:
            terms = sorted(coarse[label] if label >= 0 else ~coarse[~label] for label in key[2])
            plain = SUM, key[1], tuple(terms)
            deep = 1 + max(depth[label if label >= 0 else ~label] for label in set(key[2]))
        else:
            k, x, y = key
            deep = 1 + max(depth[x], depth[y] if y >= 0 else 0)
            of_x, of_y = coarse[x], coarse[y] if y >= 0 else -1
            if of_x > of_y >= 0 and rows[k] in (add, mul):
                of_x, of_y, swapped = of_y, of_x, True
            plain = k, of_x, of_y
        coarse.append(table.setdefault(plain, len(table)))
        depth.append(deep)
        swap.append(swapped)
    return coarse, depth, swap
