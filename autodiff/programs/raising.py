"""From a tape to instructions: node by node, or whole groups of lanes at once.

What an operand of a group is can be read off the places its nodes have in the group they come from: the very same
matrix, some of its rows, one column for all lanes, one number for all, or elements picked one by one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from autodiff.primitives import add, mul, neg, sub
from autodiff.programs.instructions import LANES, Builder
from autodiff.programs.labels import SUM
from autodiff.programs.lanes import Group, grouped
from autodiff.programs.recording import DATA, INPUT, LEAF, Tape, distinct
from autodiff.programs.sums import seen_from_outside

# which inputs of a function are the numbers by which one differentiates, the directions in which they move, and data
NUMBERS, DIRECTION, GIVEN = 0, 1, 2


class Raised:
    """A builder with the slots of the inputs, of the outputs, and of the number of guards that do not hold."""

    __slots__ = ("broken", "builder", "inputs", "outputs")

    def __init__(self, builder: Builder, inputs: int, outputs: list[int], broken: int | None) -> None:
        self.builder, self.inputs, self.outputs, self.broken = builder, inputs, outputs, broken


def raised_one_by_one(tape: Tape) -> Raised:
    """An instruction per node."""
    builder = Builder()
    inputs = builder.emit("input", (), NUMBERS, (len(tape.inputs), 1))
    element: dict[int, int] = {}
    for which, places in ((NUMBERS, tape.inputs), (GIVEN, tape.data)):
        source = inputs if which == NUMBERS else builder.emit("input", (), GIVEN, (len(places), 1))
        for j, i in enumerate(places.tolist()):
            if i >= 0:
                one = len(places) == 1
                element[i] = source if one else builder.emit("take", (source,), np.array([[j]]), (1, 1))
    slots: list[int] = []
    keep = slots.append
    rows, row, slot = tape.rows, builder.row, builder.slot
    for i, (k, x, y, c) in enumerate(
        zip(tape.code.tolist(), tape.a.tolist(), tape.b.tolist(), tape.constant.tolist(), strict=True)
    ):
        if k == LEAF:
            keep(slot(c))
        elif k <= DATA:
            keep(element[i])
        else:
            op: Any = rows[k]
            if op.two_nodes:
                keep(row(op, slots[x], slots[y]))
            elif op.constant == "right":
                keep(row(op.source, slots[x], slot(c)))
            elif op.constant == "left":
                keep(row(op.source, slot(c), slots[x]))
            else:
                keep(row(op, slots[x]))
    broken: int | None = None
    for kind, i, j, c, outcome in tape.guards:
        holds = builder.compare(kind, slots[i], slot(c) if j is None else slots[j])
        broken = builder.add(broken, builder.compare("ne", holds, slot(outcome)))
    return Raised(builder, inputs, [slots[i] for i in tape.outputs.tolist()], broken)


class Raising:
    """The groups of one tape, on their way to instructions."""

    def __init__(self, tape: Tape, one_sample: bool = False) -> None:
        self.one_sample = one_sample  # of a batch, whose data are lanes
        found = grouped(tape, one_sample)
        assert found is not None
        self.groups, self.tape, self.sums = found

    @staticmethod
    def if_it_repeats(tape: Tape) -> Raising | None:
        """The groups of a tape at least half of which are lanes, or else None."""
        found = grouped(tape, only_if_it_repeats=True)
        if found is None:
            return None
        raising = Raising.__new__(Raising)
        raising.one_sample = False
        raising.groups, raising.tape, raising.sums = found
        return raising

    @property
    def width(self) -> float:
        """How many numbers an instruction computes, on average."""
        computed = sum(group.code > DATA or group.code == SUM for group in self.groups)
        return int(np.count_nonzero(self.tape.code > DATA)) / max(computed, 1)

    def raised(self) -> Raised:
        """An instruction per group of lanes."""
        tape, groups = self.tape, self.groups
        self.builder = Builder()
        self.inputs = self.builder.emit("input", (), NUMBERS, (len(tape.inputs), 1))
        self.slots: list[int] = []
        size = len(tape)
        self.group_of = np.full(size, -1)  # constant leaves are in no group
        self.place = np.zeros(size, np.int64)
        self.uses = self.sums.uses.copy()
        self.uses[seen_from_outside(tape)] += 2
        self.data_place = np.zeros(size, np.int64)
        present = tape.data >= 0
        self.data_place[tape.data[present]] = np.flatnonzero(present)
        for g, group in enumerate(groups):
            self.group_of[group.members] = g
            if group.code == INPUT:
                group.members = tape.inputs.reshape(-1, 1)
                present = tape.inputs >= 0
                self.place[tape.inputs[present]] = np.flatnonzero(present)
                self.slots.append(self.inputs)
                continue
            if group.code == DATA:
                group.members = tape.data.reshape(-1, 1)
                present = tape.data >= 0
                self.place[tape.data[present]] = np.flatnonzero(present)
                self.slots.append(self.builder.emit("lane", (), 0, (len(tape.data), LANES)))
                continue
            self.place[group.members.ravel()] = np.arange(group.members.size)
            self.slots.append(self._sum(group) if group.code == SUM else self._row(group))
        outputs = [self._operand(np.array([[i]])) for i in tape.outputs.tolist()]
        return Raised(self.builder, self.inputs, outputs, self._guards())

    def _guards(self) -> int | None:
        """The number of guards that do not hold; of a batch, in every lane."""
        builder, axis = self.builder, 0 if self.one_sample else 1
        alike: dict[Any, list[Any]] = {}
        for guard in self.tape.guards:
            kind, x, y, _, _ = guard
            key = (
                kind,
                self.group_of[x],
                self.tape.code[x],
                None if y is None else (self.group_of[y], self.tape.code[y]),
            )
            alike.setdefault(key, []).append(guard)
        broken: int | None = None
        for (kind, *_), guards in alike.items():
            _, x, y, c, outcome = (np.expand_dims(np.array(column), 1 - axis) for column in zip(*guards, strict=True))
            a = self._operand(x)
            b = builder.data(c) if guards[0][2] is None else self._operand(y)
            wrong = builder.compare("ne", builder.compare(kind, a, b), builder.data(outcome.astype(float)))
            broken = builder.add(broken, builder.sum(wrong, axis))
        return broken

    def _full(self, g: int) -> int:
        """The slot of a group, written out."""
        k, w = self.groups[g].members.shape
        return self.builder.expand(self.slots[g], (k, LANES if self._is_laned(g) else w))

    def _is_laned(self, g: int) -> bool:
        return self.builder.shapes[self.slots[g]][1] == LANES

    # --- one group ---

    def _row(self, group: Group) -> int:
        tape, members, builder = self.tape, group.members, self.builder
        row: Any = tape.rows[group.code]
        a = self._operand(tape.a[members])
        if row.two_nodes:
            return builder.row(row, a, self._operand(tape.b[members]))
        if row.constant is None:
            return builder.row(row, a)
        c = builder.data(tape.constant[members])
        return builder.row(row.source, *((a, c) if row.constant == "right" else (c, a)))

    def _sum(self, group: Group) -> int:
        """A sum of sums: of each bunch of terms that come from one group with one sign."""
        nodes, signs = group.terms
        k, w, t = nodes.shape
        flat = nodes.reshape(-1, t)
        keys = np.stack([-signs.reshape(-1, t), self.group_of[flat], self.place[flat]])
        in_order = np.lexsort(keys[::-1], axis=-1)
        flat = np.take_along_axis(flat, in_order, 1)
        sign = -np.take_along_axis(keys[0], in_order, 1)
        of = np.take_along_axis(keys[1], in_order, 1)
        if (of != of[0]).any() or (sign != sign[0]).any():  # rows of several groups: one term after the other
            bunches = [(j, j + 1) for j in range(t)]
        else:
            cuts = np.flatnonzero((np.diff(of[0]) != 0) | (np.diff(sign[0]) != 0)) + 1
            ends = [0, *cuts.tolist(), t]
            bunches = list(pairwise(ends))
        builder = self.builder
        total: int | None = None
        constant = self.sums.constant[group.members]
        shifted = self.sums.shifted[group.members[0, 0]]
        for begin, end in bunches:
            part = flat[:, begin:end].reshape(k, w, end - begin)
            y = self._operand(part[:, :, 0]) if end - begin == 1 else self._bunch(part)
            signs_here = sign[:, begin].reshape(k, w)
            if (signs_here == signs_here[0, 0]).all():
                minus = signs_here[0, 0] < 0
            else:
                y, minus = builder.row(mul, builder.data(signs_here.astype(float)), y), False
            if total is None:
                total = builder.row(neg, y) if minus else y
            else:
                total = builder.row(sub if minus else add, total, y)
        assert total is not None
        return builder.row(add, total, builder.data(constant)) if shifted else total

    def _bunch(self, nodes: Any) -> int:
        """The sum over the last axis of nodes (k, w, t), which belong to one group."""
        builder = self.builder
        k, w, t = nodes.shape
        g = int(self.group_of[nodes[0, 0, 0]])
        if g < 0:
            flat = builder.expand(self._constants(nodes.reshape(k * w, t)), (k * w, t))
            return builder.reshape(builder.expand(builder.sum(flat, 1), (k * w, 1)), (k, w))
        group, source = self.groups[g], self.slots[g]
        kd, wd = group.members.shape
        P = self.place[nodes]
        if w == wd:
            R, lane = np.divmod(P, wd)
            if (lane == np.arange(w)[:, None]).all() and (R[:, :1] == R).all():  # whole rows are added
                product = self._product(group, R[:, 0], nodes)
                if product is not None:
                    return product
                by_row = builder.rows(self._full(g), R[:, 0].ravel())
                return builder.addrows(by_row, np.repeat(np.arange(k), t), k)
        if k == w == 1 and t == kd * wd and (P[0, 0] == np.arange(t)).all():  # everything is added, once
            return builder.reduced(source, (kd, wd), (1, 1))
        if w == 1 and t == wd and (P[:, 0] % wd == np.arange(wd)).all() and (P // wd == P[:, :, :1] // wd).all():
            return builder.rows(builder.reduced(source, (kd, wd), (kd, 1)), P[:, 0, 0] // wd)
        picked = builder.expand(builder.take(self._full(g), P.reshape(k * w, t)), (k * w, t))
        return builder.reshape(builder.sum(picked, 1), (k, w))

    def _product(self, group: Group, R: Any, nodes: Any) -> int | None:
        """sum_t c[R[r, t]] H[R'[r, t]] of columns c and rows H as A H, if every r takes the same rows of H."""
        builder, slot = self.builder, self.slots[self.group_of[nodes[0, 0, 0]]]
        t = R.shape[1]
        kd, w = group.members.shape[0], builder.shapes[slot][1]
        if builder.kinds[slot] != "row" or builder.extras[slot] is not mul or w == 1 or t == 1:
            return None
        if not (self.uses[group.members] == 1).all():
            return None
        c, H = builder.args[slot]
        if builder.shapes[c][1] != 1:
            c, H = H, c
        if builder.shapes[c][1] != 1 or builder.shapes[H][1] != w:
            return None
        which = np.arange(kd)
        if builder.kinds[H] == "rows":
            H, which = builder.args[H][0], builder.extras[H]
        elif builder.shapes[H][0] == 1:
            which = np.zeros(kd, int)
        if builder.kinds[H] == "rows" or (which.max(initial=0) >= builder.shapes[H][0]):
            return None
        taken = which[R]
        in_order = np.argsort(taken, axis=1, kind="stable")
        taken = np.take_along_axis(taken, in_order, 1)
        if (taken != taken[0]).any() or (np.diff(taken[0]) == 0).any():
            return None
        P = np.take_along_axis(R, in_order, 1)
        column = builder.expand(c, (kd, 1))
        if builder.kinds[c] == "take":  # of a parameter array: the matrix is taken from there at once
            column, P = builder.args[c][0], builder.extras[c].ravel()[P]
        return builder.matmul(builder.take(column, P), builder.rows(H, taken[0]))

    # --- operands ---

    def _operand(self, nodes: Any) -> int:
        """The slot whose elements are these nodes (k, w), perhaps broadcast."""
        builder = self.builder
        of = self.group_of[nodes]
        g = int(of[0, 0])
        if (of != g).any():
            return self._from_several(nodes, of)
        if g < 0:
            return self._constants(nodes)
        source = self.slots[g]
        wd = self.groups[g].members.shape[1]
        if builder.shapes[source] == (1, 1) and self.groups[g].members.size == 1:
            return source
        k, w = nodes.shape
        P = self.place[nodes]
        if w == wd and (w > 1 or self._is_laned(g)):
            R, lane = np.divmod(P, wd)
            if (lane == np.arange(w)).all() and (R[:, :1] == R).all():
                if builder.shapes[source][0] == 1:
                    return source
                if (R[:, 0] == R[0, 0]).all():
                    R = R[:1]
                return builder.rows(source, R[:, 0])
        if w > 1 and (P[:, :1] == P).all():
            P = P[:, :1]
        if k > 1 and (P[:1] == P).all():
            P = P[:1]
        return builder.take(self._full(g), P)

    def _constants(self, nodes: Any) -> int:
        """Constants, or data that come with every call, the rows that are alike once."""
        kinds = self.tape.code[nodes]
        if (kinds != kinds[0, 0]).any():
            return self._from_several(nodes, self.group_of[nodes])
        if kinds[0, 0] == LEAF:
            return self.builder.data(self.tape.constant[nodes])
        return self._given(self.data_place[nodes])

    def _given(self, P: Any) -> int:
        builder = self.builder
        if P.shape[1] > 1 and (P[:, :1] == P).all():
            P = P[:, :1]
        if P.shape[0] > 1:
            numbers: dict[bytes, int] = {}
            which = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in P])
            if len(numbers) < len(P):
                unique = self._given(P[[int(np.argmax(which == i)) for i in range(len(numbers))]])
                return builder.rows(unique, which) if len(numbers) > 1 else unique
        given = builder.emit("input", (), GIVEN, (len(self.tape.data), 1))
        return builder.take(given, P)

    def _from_several(self, nodes: Any, of: Any) -> int:
        """Elements of several groups, put together first."""
        builder = self.builder
        parts: list[tuple[Any, int]] = []
        total = 0
        P = np.zeros(nodes.shape, np.int64)
        for g in distinct(of.ravel()).tolist():
            at = of == g
            if g < 0:
                for kind in (LEAF, DATA):
                    these = at & (self.tape.code[nodes] == kind)
                    if these.any():
                        n = int(these.sum())
                        P[these] = np.arange(total, total + n)
                        values = builder.expand(self._constants(nodes[these].reshape(-1, 1)), (n, 1))
                        parts.append((P[these], values))
                        total += n
                continue
            shape = self.groups[g].members.shape
            P[at] = total + self.place[nodes[at]]
            parts.append((np.arange(total, total + shape[0] * shape[1]).reshape(shape), self._full(g)))
            total += shape[0] * shape[1]
        return builder.take(builder.assemble(parts, (total, 1)), P)
