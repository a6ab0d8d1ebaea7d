"""Labels: two nodes share one if the same row made them from operands that share labels; constants are not looked at.

One pass over the nodes with a dict finds them. Where many nodes lie in few layers it is done layer by layer on arrays,
with hashes for labels, which are checked afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autodiff.primitives import add, mul
from autodiff.programs.recording import DATA, INPUT, Tape
from autodiff.programs.sums import Sums

SUM = -1  # the code of a sum
PER_LAYER = 200  # nodes, from which on arrays are faster
NARROW = 20  # layers that may have less, before they are counted


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
    commuting = commuting_rows(tape)
    code = tape.code.copy()
    code[sums.is_sum] = SUM
    found = _by_layers(tape, sums, one_sample, code, commuting)
    labels, keys = _by_dict(tape, sums, one_sample, code, commuting.tolist()) if found is None else found
    pairs = np.flatnonzero(commuting[code] & tape.two_nodes()[tape.code] & ~sums.inner)
    wrong = pairs[labels[tape.a[pairs]] > labels[tape.b[pairs]]]
    tape.a[wrong], tape.b[wrong] = tape.b[wrong], tape.a[wrong]
    return labels, keys


def commuting_rows(tape: Tape) -> Any:
    """Per code, whether its two operands may change places; the last is that of SUM."""
    return np.array([row is add or row is mul for row in tape.rows] + [False])


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


# --- layer by layer ---

ODD = [np.uint64(k) for k in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)]
SHIFT = np.uint64(29)


def mixed(x: Any) -> Any:
    """A hash of whole numbers of 64 bits, element by element; different numbers have different ones."""
    x = (x ^ (x >> SHIFT)) * ODD[0]
    return (x ^ (x >> SHIFT)) * ODD[1]


def _layers(tape: Tape, sums: Sums) -> list[tuple[Any, Any]] | None:
    """[(rows, sums), ...]: what is computed, each after all that is made of it; None where layers are narrow.

    A node is in the first layer after those of all its children, so that lanes of one sum are in one layer.
    """
    a, b, two = tape.a, tape.b, tape.two_nodes()[tape.code]
    computed = (tape.code > DATA) & ~sums.inner
    uses = sums.uses.copy()
    uses[~computed] = -1  # leaves are in no layer
    place = np.zeros(len(tape), np.int64)
    layers: list[tuple[Any, Any]] = []
    ready, found = np.flatnonzero(uses == 0), 0
    while len(ready):
        which = sums.is_sum[ready]
        rows, totals = ready[~which], ready[which]
        layers.append((rows, totals))
        found += len(ready)
        if (len(layers) - NARROW) * PER_LAYER > found:
            return None
        operands = np.concatenate(
            [a[rows], b[rows[two[rows]]], sums.term[ranges(sums.start[totals], sums.stop[totals])]]
        )
        np.subtract.at(uses, operands, 1)
        ready = operands[uses[operands] == 0]
        place[ready] = np.arange(len(ready))
        ready = ready[place[ready] == np.arange(len(ready))]  # each once
    return layers if len(layers) * PER_LAYER <= found else None


def ranges(start: Any, stop: Any) -> Any:
    """[start[0], ..., stop[0] - 1, start[1], ...].

    >>> ranges(np.array([3, 7]), np.array([5, 8]))
    array([3, 4, 7])
    """
    ends = np.cumsum(stop - start)
    return np.repeat(stop - ends, stop - start) + np.arange(ends[-1] if len(ends) else 0)


def _by_layers(tape: Tape, sums: Sums, one_sample: bool, code: Any, commuting: Any) -> tuple[Any, list[Any]] | None:
    """The same by arrays, or None where layers are narrow, or two labels had one hash."""
    layers = _layers(tape, sums)
    if layers is None:
        return None
    single = (code == INPUT) | ((code == DATA) & one_sample)
    salts = mixed(np.arange(3, len(tape.rows) + 3, dtype=np.uint64) * ODD[2])
    hashes = salts[tape.code]
    hashes[single] += mixed(np.flatnonzero(single).astype(np.uint64))
    other = np.where(commuting[:-1], ODD[2], ODD[3])  # by which that of the second operand is multiplied
    signs = np.where(sums.part < 0, ODD[2], ODD[3])
    for rows, totals in reversed(layers):
        k = tape.code[rows]  # the b of a row with one operand is 0: of all of them
        hashes[rows] = mixed(salts[k] + mixed(hashes[tape.a[rows]]) * ODD[2] + mixed(hashes[tape.b[rows]]) * other[k])
        if len(totals):
            start, stop = sums.start[totals], sums.stop[totals]
            places = ranges(start, stop)
            of_terms = np.add.reduceat(
                mixed(hashes[sums.term[places]] * signs[places]), np.cumsum(stop - start) - (stop - start)
            )
            hashes[totals] = mixed(of_terms + sums.shifted[totals] * ODD[3] + ODD[0])
    nodes = np.flatnonzero(~sums.inner)
    first = _first_of(hashes[nodes])
    is_first = first == np.arange(len(nodes))
    labels = np.full(len(tape), -1)
    labels[nodes] = (np.cumsum(is_first) - 1)[first]
    k, is_sum = code[nodes], sums.is_sum[nodes]
    of_a, of_b = (np.where(is_sum, 0, labels[which[nodes]]) for which in (tape.a, tape.b))
    swap = commuting[k] & (of_a > of_b)
    of_a, of_b = np.where(swap, of_b, of_a), np.where(swap, of_a, of_b)
    if any((x != x[first]).any() for x in (k, of_a, of_b)) or _sums_differ(sums, labels, nodes, first):
        return None
    keys = [
        _key(tape, sums, single, labels, *found)
        for found in zip(*(x[is_first].tolist() for x in (nodes, k, of_a, of_b)), strict=True)
    ]
    return labels, keys


def _first_of(x: Any) -> Any:
    """Per element, the place of the first one that is equal; whole numbers of 64 bits, as random as hashes are."""
    index = np.arange(len(x))
    bits = max(len(x), 2).bit_length() + 2
    bucket = (x >> np.uint64(64 - bits)).astype(np.int64)
    table = np.empty(1 << bits, np.int64)
    table[bucket[::-1]] = index[::-1]
    first = table[bucket]
    rest = np.flatnonzero(x[first] != x)  # others were first in their buckets
    if len(rest):
        in_order = rest[np.argsort(x[rest], kind="stable")]
        ascending = x[in_order]
        starts = np.concatenate([[True], ascending[1:] != ascending[:-1]])
        first[in_order] = in_order[starts][np.cumsum(starts) - 1]
    return first


def _sums_differ(sums: Sums, labels: Any, nodes: Any, first: Any) -> bool:
    """Whether a sum differs from the first one that has its label, by another hash of the labels of their terms."""
    if not len(sums.term):
        return False
    parts = mixed((labels[sums.term] * 2 + (sums.part < 0)).astype(np.uint64) * ODD[3] + ODD[1])
    starts = np.flatnonzero(np.diff(sums.owner, prepend=-1))
    totals = np.zeros(len(labels), np.uint64)
    totals[sums.owner[starts]] = np.add.reduceat(parts, starts) + sums.shifted[sums.owner[starts]] * ODD[0]
    return bool((totals[nodes] != totals[nodes[first]]).any())


def _key(tape: Tape, sums: Sums, single: Any, labels: Any, i: int, k: int, of_a: int, of_b: int) -> Any:
    """What the label of a node stands for."""
    if k == SUM:
        here = slice(int(sums.start[i]), int(sums.stop[i]))
        of_terms = labels[sums.term[here]]
        signed = np.where(sums.part[here] < 0, ~of_terms, of_terms)
        return SUM, bool(sums.shifted[i]), tuple(np.sort(signed).tolist())
    if k > DATA:
        row = tape.rows[k]
        return k, of_a, of_b if row is not None and row.two_nodes else -1
    return (k, i, -1) if single[i] else k
