"""Lanes: which nodes of a tape compute the same thing on different numbers.

Glossary: two nodes share a *label* if the same row made them from operands that share labels; inputs are labelled one
by one, constants are not looked at, since they are data. The nodes of one label are the *lanes* of a vector; their
number is its *width*. A *group* puts vectors of one width on top of each other, as the rows of a matrix, that would
share a label if all inputs were alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autodiff.primitives import add, mul
from autodiff.programs.bounds import seems_to_repeat
from autodiff.programs.labels import SUM, labels_of
from autodiff.programs.recording import DATA, INPUT, LEAF, Tape
from autodiff.programs.sums import Sums

SHORT = 500  # operations, up to which it is no use to ask beforehand whether something repeats


class Group:
    """k vectors of w lanes that one row computes: members (k, w) are their numbers on the tape."""

    __slots__ = ("code", "members", "terms")

    def __init__(self, code: int, members: Any, terms: Any = None) -> None:
        self.code, self.members = code, members
        self.terms = terms  # of a sum: (nodes (k, w, t), signs (t,), constants (k, w))


def grouped(
    tape: Tape, one_sample: bool = False, only_if_it_repeats: bool = False
) -> tuple[list[Group], Tape, Sums] | None:
    """The groups, operands first; a tape whose commuting operands are in the order of their labels; and its sums.

    one_sample: data differ from lane to lane of a batch, and are labelled one by one as inputs are.
    only_if_it_repeats: None if less than half of what is computed would be lanes, were all inputs alike.
    """
    computed = int(np.count_nonzero(tape.code > DATA))
    if only_if_it_repeats and computed > SHORT and not seems_to_repeat(tape):
        return None
    sums = Sums(tape)
    tape = Tape(
        tape.rows, tape.code, tape.a.copy(), tape.b.copy(), tape.constant, tape.inputs, tape.data, tape.outputs,
        tape.names, tape.guards,
    )  # fmt: skip
    labels, keys = labels_of(tape, sums, one_sample)
    coarse, depth, swap = _coarse(keys, tape.rows)
    if only_if_it_repeats and 2 * len(set(coarse)) > computed:
        return None
    used = np.flatnonzero(labels >= 0)
    fine = labels[used]
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
    rank = np.empty(len(keys), np.uint16 if len(keys) < 2**16 else np.int64)  # the short ones are sorted in linear time
    rank[np.argsort(group, kind="stable")] = np.arange(len(keys))
    in_order = used[np.argsort(rank[fine], kind="stable")]
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
