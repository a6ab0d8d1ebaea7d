"""Plans: which instructions of a program run when, for how many lanes, and where in one memory their numbers are.

A plan puts the instructions in *stages*. In a lane stage all instructions that compute lane by lane, for one number of
lanes, run for one block of lanes, then for the next; sums over lanes are taken up block by block. What needs such a
sum, or elements of other lanes, waits for a later stage; what has few lanes runs whole, in a stage of its own before.
All numbers lie in one array: sums, constants, inputs, what passes from stage to stage, and behind them the blocks.

The code is a table of whole numbers, one line per instruction, with the columns
    op, k, n             which one, over k rows of n lanes; n = -1: those of the block
    d, mode, step        place of the result, what is added to it (1: the block's first lane, 2: the block's beginning),
                         and the step from row to row
    a, mode, step, lane step    the same of the operands; a lane step is 0 where one number serves all lanes
    b, mode, step, lane step
    e, t                 the place of an index table, and a number of terms
and the segments another, one line for each stage and number of lanes, with the columns
    first, last          lanes; 0 and 1 for what runs whole
    begin, end           of its lines in the code
    base, block          where its blocks begin, and how many lanes one has
    sums, size, target   where behind the base its sums are added up, how many they are, and where they go
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from autodiff.programs.instructions import LANES, Builder
from autodiff.programs.machine.writing import LANE_NUMBER

WIDE = 256  # lanes, from which on they run in blocks
BLOCK = 128  # lanes of one block: a multiple of what a processor's vector holds
ALIGNED = 8  # numbers; blocks begin at multiples
WORK = 1_000_000  # numbers that are worth a thread: some 200 microseconds
FIXED, IN_LANES, IN_BLOCK = 0, 1, 2  # modes of a place

Shape = tuple[int, int]
Segment = tuple[int, int]


class Place(NamedTuple):
    """Where a slot's numbers are: from `at` on, in steps of `row` and `lane`."""

    at: int
    mode: int
    row: int
    lane: int


NOWHERE = Place(0, FIXED, 0, 0)


class Plan:
    """The code of a program, with memory for n lanes; from WIDE lanes on it runs for fewer, too."""

    def __init__(self, builder: Builder, outputs: Sequence[int], n: int, threads: int = 1) -> None:
        self.builder, self.n = builder, n
        self.filled = n  # lanes of the last call
        self.slots = builder.needed(outputs)
        self.stage: dict[int, int] = {}  # even where instructions run whole, odd where they run by lanes
        self.width: dict[int, int] = {}  # the number of lanes, of a slot that is computed by lanes
        self.sums: dict[int, int] = {}  # the number of lanes that are added up, of a slot that is such a sum
        for slot in self.slots:
            self._schedule(slot)
        self.root: dict[int, int] = {}  # the slot whose numbers a slot is another view of
        self.readers: dict[int, list[int]] = {slot: [] for slot in self.slots}
        self.place: dict[int, Place] = {}
        self._views(set(outputs))
        self._places(set(outputs))
        self._code()
        self.threads = max(1, min(threads, self._work() // WORK))
        self.memory = np.zeros(self.base + self.threads * self.scratch)
        for at, numbers in self._constants:
            self.memory[at : at + np.size(numbers)] = np.ravel(numbers)
        self.program = self.segments, self.code, self.index, self.memory
        self.history = np.empty(1)
        self.outputs = [(self._shape(slot) == (1, 1), self.place[slot].at, *self._shape(slot)) for slot in outputs]
        self._of_batch = [builder.shapes[slot][1] == LANES for slot in outputs]

    def fill(self, inputs: Sequence[Any], lanes: Sequence[Any], n: int) -> None:
        """Puts the inputs and n lanes into the memory."""
        memory = self.memory
        if n != self.filled:
            self.filled = n
            self.segments[self._widths == self.n, 1] = n
            for at in self._counts:
                memory[at] = n
        for which, begin, end in self.inputs:
            memory[begin:end] = inputs[which][:, 0]
        for which, begin, end in self.lanes:
            memory[begin:end].reshape(-1, self.n)[:, :n] = lanes[which]

    def read(self) -> tuple[Any, ...]:
        """The outputs: floats, and arrays that the caller may keep."""
        memory = self.memory
        return tuple(
            float(memory[at])
            if is_float
            else memory[at : at + k * w].reshape(k, w)[:, : self.filled if own else w].copy()
            for (is_float, at, k, w), own in zip(self.outputs, self._of_batch, strict=True)
        )

    def _shape(self, slot: int) -> Shape:
        """Rows and lanes, with the batch's number."""
        k, w = self.builder.shapes[slot]
        return k, self.n if w == LANES else w

    # --- when it runs ---

    def _schedule(self, slot: int) -> None:
        args, (_, w) = self.builder.args[slot], self._shape(slot)
        over = self._lanes_added(slot)
        width = over or (w if w >= WIDE and self._is_by_lane(slot) else 0)
        stage = 0
        for x in args:
            whole = self.builder.kinds[slot] == "matmul" and x == args[0] and not over
            at_once = width and self.width.get(x) == width and not whole  # while its block is there
            stage = max(stage, self.stage[x] if at_once else self._complete(x))
        self.stage[slot] = stage + (width > 0 and stage % 2 == 0)
        if over:
            self.sums[slot] = over
        elif width:
            self.width[slot] = width

    def _complete(self, slot: int) -> int:
        """The first stage in which all of its lanes are there."""
        stage = self.stage[slot]
        return stage + stage % 2

    def _is_by_lane(self, slot: int) -> bool:
        """Whether a lane of the slot needs that lane of its operands alone."""
        kind, args, extra = self.builder.kinds[slot], self.builder.args[slot], self.builder.extras[slot]
        if kind == "matmul":
            return not extra[1] and self._shape(args[1])[1] == self._shape(slot)[1]
        return kind in ("row", "rows", "addrows", "expand") or (kind == "sum" and extra == 0)

    def _lanes_added(self, slot: int) -> int:
        """How many lanes a sum adds up, if they are many; else 0."""
        kind, args, extra = self.builder.kinds[slot], self.builder.args[slot], self.builder.extras[slot]
        is_sum = (kind == "sum" and extra == 1) or kind == "dot" or (kind == "matmul" and extra == (False, True))
        over = max(self._shape(x)[1] for x in args) if is_sum else 0
        return over if over >= WIDE else 0

    # --- where its numbers are ---

    def _views(self, outputs: set[int]) -> None:
        """Which slots are other views of the numbers of others, and who reads whose numbers."""
        builder = self.builder
        dense = set(outputs)  # what is read number by number
        for slot in self.slots:
            if builder.kinds[slot] in ("take", "reshape", "assemble"):
                dense |= set(builder.args[slot])
        for slot in self.slots:
            kind, args = builder.kinds[slot], builder.args[slot]
            if kind == "reshape" or (kind == "expand" and slot not in dense):
                self.root[slot] = self.root.get(args[0], args[0])
            for x in args:
                self.readers[self.root.get(x, x)].append(slot)

    def _places(self, outputs: set[int]) -> None:
        builder = self.builder
        self.inputs: list[tuple[int, int, int]] = []
        self.lanes: list[tuple[int, int, int]] = []
        self._constants: list[tuple[int, Any]] = []
        self._counts: list[int] = []
        size = self._place_sums()
        blocks: dict[Segment, Blocks] = {}
        for slot in self.slots:
            kind, extra, (k, w) = builder.kinds[slot], builder.extras[slot], self._shape(slot)
            block = blocks.setdefault(self._segment(slot), Blocks()) if slot in self.width else None
            if slot in self.root:
                self.place[slot] = self._view(slot)
            elif block is not None and not self._leaves(slot, outputs):
                self.place[slot] = Place(block.taken(k) * BLOCK, IN_BLOCK, BLOCK, 1)
            elif slot not in self.sums:
                self.place[slot] = Place(size, IN_LANES if w >= WIDE else FIXED, w, 1)
                if kind in ("number", "data"):
                    self._constants.append((size, extra))
                elif kind == "count":
                    self._constants.append((size, float(self.n)))
                    self._counts.append(size)
                elif kind in ("input", "lane"):
                    (self.inputs if kind == "input" else self.lanes).append((extra, size, size + k * w))
                size += k * w
            for root in dict.fromkeys(self.root.get(x, x) for x in builder.args[slot]):
                if self.place[root].mode == IN_BLOCK and self.readers[root][-1] == slot:
                    blocks[self._segment(root)].release(self.place[root].at // BLOCK, self._shape(root)[0])
        self.block_rows = max((block.rows for block in blocks.values()), default=0)
        self.base = -(-size // ALIGNED) * ALIGNED
        scratch = self.block_rows * BLOCK + max(self.sum_sizes.values(), default=0)
        self.scratch = -(-scratch // ALIGNED) * ALIGNED  # of one thread

    def _place_sums(self) -> int:
        """The sums of one segment next to each other, from the beginning of the memory on; their number."""
        size = 0
        self.sum_sizes: dict[Segment, int] = {}
        self.sum_places: dict[Segment, int] = {}
        for slot in sorted(self.sums, key=self._segment):
            where, (k, w) = self._segment(slot), self._shape(slot)
            self.sum_places.setdefault(where, size)
            self.place[slot] = Place(size, FIXED, w, 1)
            self.sum_sizes[where] = self.sum_sizes.get(where, 0) + k * w
            size += k * w
        return size

    def _segment(self, slot: int) -> Segment:
        """(stage, number of lanes, 0 for what runs whole)."""
        return self.stage[slot], self.width.get(slot) or self.sums.get(slot, 0)

    def _leaves(self, slot: int, outputs: set[int]) -> bool:
        """Whether somebody reads the slot when its block is gone."""
        where = self._segment(slot)
        return slot in outputs or any(
            self._segment(reader) != where or reader in outputs for reader in self.readers[slot]
        )

    def _view(self, slot: int) -> Place:
        [x] = self.builder.args[slot]
        place, (k, w) = self.place[x], self._shape(slot)
        if self.builder.kinds[slot] == "reshape":
            return Place(place.at, IN_LANES if w >= WIDE else FIXED, w, 1)
        of_k, of_w = self._shape(x)
        mode = FIXED if place.mode == IN_LANES and of_w != w else place.mode
        return Place(place.at, mode, place.row if of_k == k else 0, place.lane if of_w == w else 0)

    # --- the code ---

    def _code(self) -> None:
        segments: dict[Segment, list[list[int]]] = {}
        self._tables: list[Any] = []
        self._table_at: dict[int, int] = {}
        self._table_size = 0
        for slot in self.slots:
            if self.builder.args[slot] and slot not in self.root:
                segments.setdefault(self._segment(slot), []).extend(self._lines(slot))
        lines: list[list[int]] = []
        table = []
        sums = self.block_rows * BLOCK
        for segment, of_it in sorted(segments.items()):
            begin, (_, width) = len(lines), segment
            lines += of_it
            size, target = self.sum_sizes.get(segment, 0), self.sum_places.get(segment, 0)
            table.append([0, width or 1, begin, len(lines), self.base, BLOCK, sums, size, target])
        self.segments = np.array(table, np.int64).reshape(-1, 9)
        self._widths = self.segments[:, 1].copy()
        self.code = np.array(lines, np.int64).reshape(-1, 16)
        self.index = np.concatenate([np.zeros(1, np.int64), *self._tables])

    def _work(self) -> int:
        """How many numbers are computed by lanes."""
        return sum(
            int(last * self.code[begin:end, 1].sum()) for _, last, begin, end, *_ in self.segments.tolist() if last > 1
        )

    def pieces(self, segment: Any) -> Any:
        """The segment in one piece per thread, each with blocks and sums of its own."""
        first, last, _, _, _, block, *_ = segment.tolist()
        blocks = -(-(last - first) // block)
        if self.threads == 1 or blocks < self.threads:
            return segment.reshape(1, -1)
        pieces = np.tile(segment, (self.threads, 1))
        cuts = np.minimum(np.arange(self.threads + 1) * blocks // self.threads * block, last)
        pieces[:, 0], pieces[:, 1] = cuts[:-1], cuts[1:]
        pieces[:, 4] += np.arange(self.threads) * self.scratch
        # each leaves its sums where they are added up
        pieces[:, 8] = pieces[:, 4] + pieces[:, 6]
        return pieces

    def _lines(self, slot: int) -> Iterator[list[int]]:
        """The lines of one instruction."""
        builder = self.builder
        kind, args, extra, (k, w) = builder.kinds[slot], builder.args[slot], builder.extras[slot], self._shape(slot)
        d, n = self.place[slot], w
        if slot in self.sums:  # added up behind the blocks
            d, n = (
                d._replace(at=d.at - self.sum_places[self._segment(slot)] + self.block_rows * BLOCK, mode=IN_BLOCK),
                -1,
            )
        elif slot in self.width:
            n = -1
        if kind == "row":
            name = extra if isinstance(extra, str) else extra.name
            operands = [self._operand(x, k, w) for x in args]
            if n > 0 and all(place.row == w * place.lane for place in operands):
                k, n = 1, k * w  # all rows one after the other
            yield _line(name, k, n, d, *operands)
        elif kind == "expand":
            yield _line("copy", k, n, d, self._operand(args[0], k, w))
        elif kind == "rows":
            yield _line("rows", k, n, d, self._operand(args[0], 0, w), e=self._table(extra))
        elif kind == "addrows":
            t = len(extra)
            yield _line("addrows", k, n, d, self._operand(args[0], t, w), e=self._table(extra), t=t)
        elif kind == "take":
            yield _line("take", k, n, d, self.place[args[0]], e=self._table(extra))
        elif kind == "assemble":
            yield _line("fill", k, n, d)
            for P, x in zip(extra, args, strict=True):
                yield _line("scatter", *self._shape(x), d, self.place[x], e=self._table(P))
        elif kind == "sum" and extra == 0:
            t = self._shape(args[0])[0]
            yield _line("sum_rows", k, n, d, self._operand(args[0], t, w), t=t)
        elif kind in ("sum", "dot"):
            over = max(self._shape(x)[1] for x in args)
            if n > 0:
                yield _line("fill", k, 1, d)
                n = over
            yield _line("dot" if kind == "dot" else "sum_lanes", k, n, d, *(self._operand(x, k, over) for x in args))
        elif kind == "matmul":
            yield from self._matmul(slot, d, n)
        else:
            raise AssertionError(kind)

    def _matmul(self, slot: int, d: Place, n: int) -> Iterator[list[int]]:
        a, b = (self.place[x] for x in self.builder.args[slot])
        (ta, tb), (k, w) = self.builder.extras[slot], self._shape(slot)
        t = self._shape(self.builder.args[slot][0])[0 if ta else 1]
        if ta:
            a = a._replace(row=a.lane, lane=a.row)
        if tb:
            b = b._replace(row=b.lane, lane=b.row)
        if slot in self.sums or (n > 0 and a.lane == 1 and b.row == 1):  # along rows in which numbers lie side by side
            if n > 0:
                yield _line("fill", k, w, d)
                n = t
            yield _line("matmul_t", k, n, d, a, b._replace(row=b.lane, lane=b.row), t=w)
        else:
            yield _line("matmul" if b.lane == 1 else "matmul_any", k, n, d, a._replace(mode=FIXED), b, t=t)

    def _operand(self, slot: int, k: int, w: int) -> Place:
        """Where the slot's numbers are for an instruction of k rows of w lanes."""
        place, (of_k, of_w) = self.place[slot], self._shape(slot)
        if (of_k, of_w) == (1, 1):
            return place._replace(row=0, lane=0)
        return place._replace(
            row=place.row if of_k != 1 or k == 1 else 0, lane=place.lane if of_w != 1 or w == 1 else 0
        )

    def _table(self, numbers: Any) -> int:
        """The place of these numbers in the index table."""
        at = self._table_at.get(id(numbers))
        if at is None:
            at = self._table_at[id(numbers)] = 1 + self._table_size
            self._tables.append(np.ravel(numbers).astype(np.int64))
            self._table_size += np.size(numbers)
        return at


def _line(name: str, k: int, n: int, d: Place, *operands: Place, e: int = 0, t: int = 0) -> list[int]:
    a, b = (*operands, NOWHERE, NOWHERE)[:2]
    return [LANE_NUMBER[name], k, n, d.at, d.mode, d.row, *a, *b, e, t]


def roomy(builder: Builder, n: int) -> int:
    """A number of lanes from n on, one of few: for a plan that other numbers of lanes can share."""
    room = WIDE
    while room < n:
        room *= 2
    fixed = {w for _, w in builder.shapes}
    while room in fixed:  # such lanes are no samples: they stay as many
        room += ALIGNED
    return room


class Blocks:
    """Rows of blocks that are taken and released: a segment's working memory."""

    def __init__(self) -> None:
        self.rows = 0
        self._free: dict[int, list[int]] = {}

    def taken(self, k: int) -> int:
        """The first of k rows next to each other."""
        free = self._free.get(k)
        if free:
            return free.pop()
        self.rows += k
        return self.rows - k

    def release(self, first: int, k: int) -> None:
        """These rows may be taken again."""
        self._free.setdefault(k, []).append(first)
