"""Labels: two nodes share one if the same row made them from operands that share labels; constants are not looked at.

One pass over the nodes with a dict finds them. Where many nodes lie on few levels it is done level by level on arrays,
with hashes for labels, which are checked afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autodiff.primitives import add, mul
from autodiff.programs.recording import DATA, INPUT, Tape, distinct
from autodiff.programs.sums import Sums

SUM = -1  # the code of a sum
PER_LEVEL = 200  # nodes, from which on arrays are faster


class _Labels(dict[Any, int]):
    """{what a label stands for: its number}, numbered as they come."""

    def __missing__(self, key: Any) -> int:
        self[key] = label = len(self)
        return label


def labels_of(tape: Tape, sums: Sums, one_sample: bool) -> tuple[Any, list[Any]]:
    """(label per node, -1 for inner nodes of sums; what each label stands for, operands first).

    A label stands for (code, label, label or -1), (SUM, whether it has a constant, sorted labels of its terms, that of
    a subtracted one as its complement ~label), (INPUT, node, -1), LEAF or DATA. Operands that commute are in the order
    of their labels, and change places on the tape where they are not.
    """
    commuting = np.array([row is add or row is mul for row in tape.rows] + [False])  # the last is that of SUM
    code = tape.code.copy()
    code[sums.is_sum] = SUM
    found = _by_levels(tape, sums, one_sample, code, commuting)
    labels, keys = _by_dict(tape, sums, one_sample, code, commuting.tolist()) if found is None else found
    pairs = np.flatnonzero(commuting[code] & tape.two_nodes()[tape.code] & ~sums.inner)
    wrong = pairs[labels[tape.a[pairs]] > labels[tape.b[pairs]]]
    tape.a[wrong], tape.b[wrong] = tape.b[wrong], tape.a[wrong]
    return labels, keys


def _by_dict(tape: Tape, sums: Sums, one_sample: bool, code: Any, commutes: list[bool]) -> tuple[Any, list[Any]]:
    size = len(tape)
    table = _Labels()
    labels = [-1] * (size + 1)
    wanted = np.flatnonzero(~sums.inner)
    seconds = np.where(tape.two_nodes()[tape.code], tape.b, size)[wanted].tolist()  # the last label: no operand
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
    return np.array(labels[:size]), list(table)


# --- level by level ---

ODD = [np.uint64(k) for k in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)]
SHIFT = np.uint64(29)


def _mixed(x: Any) -> Any:
    """A hash of whole numbers of 64 bits, element by element."""
    x = (x ^ (x >> SHIFT)) * ODD[0]
    return (x ^ (x >> SHIFT)) * ODD[1]


def _by_levels(tape: Tape, sums: Sums, one_sample: bool, code: Any, commuting: Any) -> tuple[Any, list[Any]] | None:
    """The same by arrays, or None where levels are narrow, or two labels had one hash."""
    size = len(tape)
    wanted = np.flatnonzero(~sums.inner)
    if tape.level is None or len(wanted) < PER_LEVEL:
        return None
    level = tape.level[wanted]
    deepest = int(level.max())
    if deepest < 2**16:
        level = level.astype(np.uint16)  # sorted in linear time
    wanted = wanted[np.argsort(level, kind="stable")]
    counts = np.bincount(level, minlength=deepest + 1)
    counts = counts[counts > 0]
    if len(counts) * PER_LEVEL > len(wanted):
        return None
    hashes = np.zeros(size + 1, np.uint64)
    is_sum = sums.is_sum[wanted]
    k = code[wanted]
    salt = _mixed((k.astype(np.int64) + 3).astype(np.uint64) * ODD[2])
    single = (k == INPUT) | ((k == DATA) & one_sample)
    salt[single] += _mixed(wanted[single].astype(np.uint64))
    first = np.where(k <= DATA, size, tape.a[wanted])
    second = np.where(tape.two_nodes()[tape.code[wanted]], tape.b[wanted], size)
    commutes = commuting[k]
    roots = wanted[is_sum]
    lengths = (sums.stop - sums.start)[roots]
    ends = np.cumsum(lengths)
    places = np.repeat(sums.start[roots] - (ends - lengths), lengths) + np.arange(int(lengths.sum()))
    terms, signs = sums.term[places], np.where(sums.part[places] < 0, ODD[2], ODD[3])
    begin = root = 0
    for end in np.cumsum(counts).tolist():
        here = slice(begin, end)
        of_a, of_b = hashes[first[here]], hashes[second[here]]
        swap = commutes[here] & (of_a > of_b)
        of_a, of_b = np.where(swap, of_b, of_a), np.where(swap, of_a, of_b)
        mixed = _mixed(salt[here] + _mixed(of_a) * ODD[2] + _mixed(of_b + ODD[3]))
        here_sums = np.flatnonzero(is_sum[here])
        if len(here_sums):
            last = root + len(here_sums)
            start, stop = int(ends[root] - lengths[root]), int(ends[last - 1])
            parts = _mixed(hashes[terms[start:stop]] * signs[start:stop])
            totals = np.add.reduceat(parts, ends[root:last] - lengths[root:last] - start)
            mixed[here_sums] = _mixed(totals + sums.shifted[roots[root:last]] * ODD[3] + ODD[0])
            root = last
        hashes[wanted[here]] = mixed
        begin = end
    different = distinct(hashes[wanted])
    wanted = np.flatnonzero(~sums.inner)
    number = np.searchsorted(different, hashes[wanted])
    examples = np.zeros(len(different), np.int64)
    examples[number[::-1]] = wanted[::-1]  # the first node of each
    in_order = np.argsort(examples)
    examples = examples[in_order]
    rank = np.empty_like(in_order)
    rank[in_order] = np.arange(len(in_order))
    labels = np.full(size, -1)
    labels[wanted] = rank[number]
    return None if _collided(tape, sums, code, commuting, labels, examples) else (
        labels, [_key(tape, sums, one_sample, code, commuting, labels, int(i)) for i in examples]
    )  # fmt: skip


def _collided(tape: Tape, sums: Sums, code: Any, commuting: Any, labels: Any, examples: Any) -> bool:
    """Whether a node differs from the first one that has its label."""
    nodes = np.flatnonzero(labels >= 0)
    first = examples[labels[nodes]]
    if (code[nodes] != code[first]).any():
        return True
    inside = (code[nodes] > DATA) | (code[nodes] == SUM)
    nodes, first = nodes[inside], first[inside]
    plain = code[nodes] > DATA
    two = tape.two_nodes()[tape.code]
    pairs = []
    for which in (nodes[plain], first[plain]):
        of_a, of_b = labels[tape.a[which]], np.where(two[which], labels[tape.b[which]], -1)
        swap = commuting[code[which]] & two[which] & (of_a > of_b)
        pairs.append((np.where(swap, of_b, of_a), np.where(swap, of_a, of_b)))
    if any((x != y).any() for x, y in zip(*pairs, strict=True)):
        return True
    # sums by another hash of the labels of their terms
    if not len(sums.term):
        return False
    parts = _mixed((labels[sums.term] * 2 + (sums.part < 0)).astype(np.uint64) * ODD[3] + ODD[1])
    starts = np.flatnonzero(np.diff(sums.owner, prepend=-1))
    totals = np.zeros(len(tape), np.uint64)
    totals[sums.owner[starts]] = np.add.reduceat(parts, starts) + sums.shifted[sums.owner[starts]] * ODD[0]
    return bool((totals[nodes[~plain]] != totals[first[~plain]]).any())


def _key(tape: Tape, sums: Sums, one_sample: bool, code: Any, commuting: Any, labels: Any, i: int) -> Any:
    """What the label of a node stands for."""
    k = int(code[i])
    if k == SUM:
        begin, end = int(sums.start[i]), int(sums.stop[i])
        of_terms = labels[sums.term[begin:end]]
        signed = np.where(sums.part[begin:end] < 0, ~of_terms, of_terms)
        return SUM, bool(sums.shifted[i]), tuple(np.sort(signed).tolist())
    if k == INPUT or (one_sample and k == DATA):
        return k, i, -1
    if k <= DATA:
        return k
    of_a, of_b = int(labels[tape.a[i]]), int(labels[tape.b[i]]) if tape.rows[k].two_nodes else -1  # type: ignore[union-attr]
    return (k, of_b, of_a) if of_a > of_b >= 0 and commuting[k] else (k, of_a, of_b)
