"""Where everything goes, in px: boxes, arrows, labels; inputs on the left and the output on the right.

Two engines place a picture: our own layered layout, so that none ever needs a system package, and `dot` of
Graphviz where it is installed. Both draw an arrow *through* its label, so that it is clear whose it is.

Our own layout, in the words used below:

    column   boxes of one rank; arrows lead from a column to a later one
    trunk    the stand-in for a box in a column that its arrows pass; they share it, so that a weight used a
             thousand times costs one line and not a thousand; items are boxes and trunks
    link     one hop from an item to an item of the next column; an arrow's last link carries its label
    lane     the links between two columns, top to bottom: the room kept free for labels
    block    items and links that share one height, so that long arrows and the main chain run straight
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Layout", "Point", "Route", "layout"]

Point = tuple[float, float]
Size = tuple[float, float]
Sizes = Sequence[Size]
Arrows = Sequence[tuple[int, int]]  # (tail, head)
Run = tuple[float, float, float]  # a level stretch of an arrow: from x, to x, at y; S-curves join them

LABEL: Size = (48.0, 16.0)  # room for an arrow's label when nobody says how large it is
HEAD = 12.0  # the last px of an arrow run straight into the box: the arrow's head
FAN = 26.0  # least distance from a column to its lane ...
FAN_SLOPE = 0.14  # ... how much wider for every px that the steepest arrow climbs there ...
FAN_MOST = 150.0  # ... and the most ...
FAN_BARE = 300.0  # ... where arrows have no labels, and so may be many
GAP_BOX, GAP_TRUNK, GAP_LABEL = 26.0, 16.0, 8.0  # free px around things of one column or lane
GAP_BARE = 4.0  # around an arrow whose label takes no room
PORT = 14.0  # px between the points where arrows enter a box, if it is high enough
SLACK, SCREEN = 1.5, 1000.0  # how much higher than its fullest column a picture gets, if it gets higher than that
SWEEPS, IDLE, ROUNDS = 24, 6, 60  # the most tries to undo crossings, of these in vain; to even out heights
TRUNKS, WORK = 100_000, 300_000  # the most trunks, the most steps: huge graphs come out coarser, not later
DOT_BOXES, DOT_SECONDS = 250, 1.5  # engine "auto" does not ask `dot` about more boxes, nor wait any longer
DOT_PATIENCE = 60.0  # seconds that engine "dot" waits


@dataclass(frozen=True, slots=True)
class Route:
    """One arrow: `curve`, the 1 + 3k control points of k cubic Bezier curves; `label`, its text's centre."""

    curve: tuple[Point, ...]
    label: Point


@dataclass(frozen=True, slots=True)
class Layout:
    """Centres of the boxes, a Route per arrow, the size of the whole (px), and the engine: "dot" or "own"."""

    centres: tuple[Point, ...]
    routes: tuple[Route, ...]
    width: float
    height: float
    engine: str


def layout(sizes: Sizes, arrows: Arrows, engine: str = "auto", *, labels: Sizes | None = None) -> Layout:
    """The Layout of boxes with these (width, height) in px, joined by arrows (tail index, head index).

    Boxes come ancestors first, so every arrow has tail < head; two equal arrows are two. `labels` gives the
    (width, height) of every arrow's text. Engine "auto" takes `dot` when it is on the PATH, the graph is
    not huge and it answers in time, and otherwise our own layout; "own" and "dot" insist. Raises ValueError
    for arrows or engines that make no sense, RuntimeError when "dot" is insisted upon and fails.

    >>> placed = layout([(80, 40), (80, 40)], [(0, 1), (0, 1)], engine="own")
    >>> placed.engine, placed.centres[0][0] < placed.centres[1][0]
    ('own', True)
    >>> placed.routes[0].label != placed.routes[1].label
    True
    """
    labels = [LABEL] * len(arrows) if labels is None else labels
    if len(labels) != len(arrows):
        raise ValueError(f"expected a label size for each of {len(arrows)} arrows, got {len(labels)}")
    for tail, head in arrows:
        if not 0 <= tail < head < len(sizes):
            raise ValueError(f"arrow ({tail}, {head}): expected 0 <= tail < head < {len(sizes)} boxes")
    if engine not in ("auto", "dot", "own"):
        raise ValueError(f"engine={engine!r}: expected 'auto', 'dot' or 'own'")
    if engine == "dot" or (engine == "auto" and len(sizes) <= DOT_BOXES and shutil.which("dot")):
        try:
            return _dot(sizes, arrows, labels, DOT_PATIENCE if engine == "dot" else DOT_SECONDS)
        except RuntimeError:
            if engine == "dot":
                raise
    return _own(sizes, arrows, labels)


def _own(sizes: Sizes, arrows: Arrows, labels: Sizes) -> Layout:
    if not sizes:
        return Layout((), (), 0.0, 0.0, "own")
    net, lanes = _ordered(len(sizes), arrows)
    may = set(range(len(net.links)))  # which links may run straight
    while True:  # in large pictures long arrows would keep so much apart that most of the picture is empty
        block = _blocks(net, lanes, arrows, may)
        stack = _Stack(net, lanes, block, sizes, labels)
        wrong = stack.too_high(max(SLACK * stack.tallest, SCREEN)) if may else set()
        if not wrong:
            return _draw(net, lanes, _heights(net, block, stack), sizes, labels)
        straight = {link for link, (left, right) in enumerate(net.links) if block[left] == block[right]}
        few = {link for link in straight if block[net.links[link][0]] not in wrong}
        may = few if len(may) == len(net.links) and 2 * len(few) > len(straight) else set()


def _ordered(boxes: int, arrows: Arrows) -> tuple[_Net, list[list[int]]]:
    """The net with its columns in order, and its lanes: the links between two columns, top to bottom."""
    net = _Net(boxes, arrows)
    _uncross(net)
    lanes: list[list[int]] = [[] for _ in net.columns]
    for link, (_, right) in enumerate(net.links):
        lanes[net.column_of[right] - 1].append(link)
    for lane in lanes:  # by head first: links cross before their labels, never between a label and its box
        lane.sort(key=lambda link: (net.place[net.links[link][1]], net.place[net.links[link][0]], link))
    return net, lanes


def _ranks(boxes: int, arrows: Arrows) -> list[int]:
    """The column of every box: as far left as its parents allow, so that the units of a layer share a column.

    What depends on nothing shared (a parameter, the logarithm of a constant) stands next to its nearest child
    instead; and so does everything if too many long arrows would come of it, as for the terms of a long sum.
    """
    parents: list[list[int]] = [[] for _ in range(boxes)]
    children: list[list[int]] = [[] for _ in range(boxes)]
    for tail, head in arrows:
        parents[head].append(tail)
        children[tail].append(head)
    rank, free = [0] * boxes, [True] * boxes
    for box in range(boxes):
        for parent in parents[box]:
            rank[box] = max(rank[box], rank[parent] + 1)
            free[box] = free[box] and free[parent] and all(child == box for child in children[parent])
    for late in (False, True):
        for box in reversed(range(boxes)):
            if children[box] and (late or free[box] or len(children[box]) > len(parents[box])):
                rank[box] = min(rank[child] for child in children[box]) - 1
        spans = [max([rank[c] for c in children[box]]) - rank[box] for box in range(boxes) if children[box]]
        if sum(spans) - len(spans) <= boxes:
            break
    first = min(rank, default=0)
    return [r - first for r in rank]


class _Net:
    """Columns of items and the links between them; boxes are the items 0, 1, ... and trunks follow."""

    __slots__ = ("boxes", "carrier", "column_of", "columns", "lefts", "links", "place", "rights", "trunks")

    def __init__(self, boxes: int, arrows: Arrows):
        rank = _ranks(boxes, arrows)
        for reach in (boxes, TRUNKS // boxes):  # if trunks are too many, the longest arrows get none
            furthest = rank.copy()
            for tail, head in arrows:
                if rank[head] - rank[tail] <= reach:
                    furthest[tail] = max(furthest[tail], rank[head] - 1)
            if sum(furthest) - sum(rank) <= TRUNKS:
                break
        self.boxes = boxes
        self.column_of = rank  # item -> column; grows with the trunks
        self.links: list[tuple[int, int]] = []  # (left item, right item)
        self.trunks: list[range] = []  # box -> its stand-ins, column by column
        for box in range(boxes):
            first = len(rank)
            self.trunks.append(range(first, first + furthest[box] - rank[box]))
            for trunk in self.trunks[box]:
                self.links.append((box if trunk == first else trunk - 1, trunk))
                rank.append(rank[box] + 1 + trunk - first)
        self.carrier: dict[int, int] = {}  # link -> the arrow whose label it carries
        for arrow, (tail, head) in enumerate(arrows):
            trunks, hops = self.trunks[tail], rank[head] - rank[tail] - 1
            self.carrier[len(self.links)] = arrow
            self.links.append((trunks[hops - 1] if 0 < hops <= len(trunks) else tail, head))
        self.lefts: list[list[int]] = [[] for _ in rank]  # item -> the items it has links from
        self.rights: list[list[int]] = [[] for _ in rank]
        for left, right in self.links:
            self.lefts[right].append(left)
            self.rights[left].append(right)
        self.columns: list[list[int]] = [[] for _ in range(max(rank) + 1)]
        self.place = [-1] * len(rank)  # item -> its index in its column
        for start in reversed(range(boxes)):  # from the output, depth first: a tree comes out uncrossed
            pending = [start]
            while pending:
                item = pending.pop()
                if self.place[item] < 0:
                    self.place[item] = len(self.columns[rank[item]])
                    self.columns[rank[item]].append(item)
                    pending.extend(reversed(self.lefts[item]))

    def renumber(self, columns: Sequence[Sequence[int]]) -> None:
        for column in columns:
            for index, item in enumerate(column):
                self.place[item] = index

    def crossings(self) -> int:
        """How many pairs of links cross."""
        ends: list[list[tuple[int, int]]] = [[] for _ in self.columns]
        for left, right in self.links:
            ends[self.column_of[right]].append((self.place[left], self.place[right]))
        count = 0
        for lane in ends:
            so_far: list[int] = []
            for _, right in sorted(lane):
                at = bisect_right(so_far, right)
                count += len(so_far) - at
                so_far.insert(at, right)
        return count


def _uncross(net: _Net) -> None:
    """Order the columns: items at the mean place of their neighbours, leftwards and back; keep the best."""
    place = net.place

    def mean(item: int) -> float:
        near = neighbours[item]
        if len(near) == 1:  # most are trunks
            return place[near[0]]
        return sum([place[other] for other in near]) / len(near) if near else place[item]

    best, best_columns = net.crossings(), [column.copy() for column in net.columns]
    idle = 0  # sweeps in a row that made it no better
    for sweep in range(min(SWEEPS, WORK // (len(net.links) + 1))):
        if best == 0 or idle == IDLE:
            break
        neighbours, columns = (net.lefts, net.columns) if sweep % 2 else (net.rights, net.columns[::-1])
        for column in columns:
            column.sort(key=mean)
            net.renumber([column])
        count = net.crossings()
        idle += 1
        if count < best:
            idle = 0
            best, best_columns = count, [column.copy() for column in net.columns]
    net.columns = best_columns
    net.renumber(best_columns)


def _blocks(net: _Net, lanes: list[list[int]], arrows: Arrows, may: set[int]) -> list[int]:
    """For every item, and then every link, its block. Blocks never cross: any two that meet have one order.

    may: the links that may run straight.

    Straight are, most wanted first: trunks; the main chain, where a parent is deeper than the others and has
    no other such child; both ends of long arrows. What is on a par stands evenly about its child or parent.
    """
    items, boxes = len(net.place), net.boxes
    depth = [0] * boxes
    for tail, head in sorted(arrows):
        depth[head] = max(depth[head], depth[tail] + 1)
    deepest = Counter(head for tail, head in arrows if depth[tail] == depth[head] - 1)
    want = [2 * (left >= boxes) + 2 * (right >= boxes) for left, right in net.links]
    for link, arrow in net.carrier.items():
        tail, head = arrows[arrow]
        adjacent = net.column_of[net.links[link][0]] == net.column_of[head] - 1
        if adjacent and depth[tail] == depth[head] - 1 and deepest[head] == 1:
            want[link] = 3

    block = list(range(items + len(net.links)))
    for lane in lanes:
        fans = Counter(net.links[link][0] for link in lane if want[link] == 3)
        straight: list[tuple[int, int]] = []  # ends of straight links, as places: no two may cross or meet
        for link in sorted(lane, key=want.__getitem__, reverse=True):
            left, right = net.links[link]
            ends = (net.place[left], net.place[right])
            at = bisect_right(straight, ends)
            below_last = all(end[0] < ends[0] and end[1] < ends[1] for end in straight[at - 1 : at])
            above_next = all(end[0] > ends[0] and end[1] > ends[1] for end in straight[at : at + 1])
            wanted = fans[left] == 1 if want[link] == 3 else want[link] > 0
            if wanted and below_last and above_next and link in may:
                straight.insert(at, ends)
                block[right] = block[items + link] = block[left]
            elif right >= boxes:
                block[items + link] = right
    return block


class _Stack:
    """Blocks upon each other, and nothing too near.

    above, below: block -> the next ones, each with the least distance. order: the blocks from top to bottom. at: the y
    of every block to begin with. tallest: the height of the fullest column.
    """

    __slots__ = ("above", "at", "below", "high", "order", "tallest")

    def __init__(self, net: _Net, lanes: list[list[int]], block: list[int], sizes: Sizes, labels: Sizes) -> None:
        items = len(net.place)
        high = [size[1] for size in sizes] + [0.0] * (len(block) - len(sizes))
        gap = [GAP_BOX] * len(sizes) + [GAP_TRUNK] * (len(block) - len(sizes))
        for link, arrow in net.carrier.items():
            high[items + link], gap[items + link] = labels[arrow][1], GAP_LABEL if labels[arrow][1] else GAP_BARE
        above: list[list[tuple[int, float]]] = [[] for _ in block]
        below: list[list[tuple[int, float]]] = [[] for _ in block]
        first: list[list[float]] = [[] for _ in block]  # block -> where its things are in columns about y = 0
        self.tallest = 0.0
        for rank in (*net.columns, *([items + link for link in lane] for lane in lanes)):
            aparts = [(high[a] + gap[a] + high[b] + gap[b]) / 2 for a, b in itertools.pairwise(rank)]
            for upper, lower, apart in zip(rank, rank[1:], aparts, strict=False):
                above[block[lower]].append((block[upper], apart))
                below[block[upper]].append((block[lower], apart))
            self.tallest = max(self.tallest, sum(aparts))
            for thing, y in zip(rank, itertools.accumulate(aparts, initial=-sum(aparts) / 2), strict=False):
                first[block[thing]].append(y)
        waiting = [len(those) for those in above]
        order = [b for b, those in enumerate(first) if those and not waiting[b]]
        for b in order:  # grows: from top to bottom
            for lower, _ in below[b]:
                waiting[lower] -= 1
                if not waiting[lower]:
                    order.append(lower)
        at = [sum(those) / max(len(those), 1) for those in first]
        for b in order:  # push down what is too near
            at[b] = max([at[b], *[at[upper] + apart for upper, apart in above[b]]])
        self.above, self.below, self.order, self.at, self.high = above, below, order, at, high

    def too_high(self, height: float) -> set[int]:
        """The blocks that lie in a stack higher than that."""
        upper = [0.0] * len(self.at)
        lower = upper.copy()
        for b in self.order:
            upper[b] = max([upper[other] + apart for other, apart in self.above[b]], default=0.0)
        for b in reversed(self.order):
            lower[b] = max([lower[other] + apart for other, apart in self.below[b]], default=0.0)
        return {b for b in self.order if upper[b] + lower[b] > height}


def _heights(net: _Net, block: list[int], stack: _Stack) -> list[float]:
    """The y of every item and then of every link: arrows as level as the distances between blocks allow.

    Arrows are springs. In turn every block moves to where its springs are at rest; what is in its way moves
    along if all of them together gain by it.
    """
    items = len(net.place)
    above, below, order, at = stack.above, stack.below, stack.order, stack.at
    springs: list[list[tuple[int, float]]] = [[] for _ in block]
    for label, (left, right) in enumerate(net.links, items):  # it keeps to the head rather than to the tail
        for one, two, strength in ((left, right, 1.0), (left, label, 0.02), (right, label, 0.3)):
            if block[one] != block[two]:
                springs[block[one]].append((block[two], strength))
                springs[block[two]].append((block[one], strength))
    stiff = [sum([strength for _, strength in those]) for those in springs]
    force = [sum([strength * (at[o] - at[b]) for o, strength in those]) for b, those in enumerate(springs)]
    work = WORK
    for turn in range(ROUNDS):
        moved = 0.0
        for b in order if turn % 2 else reversed(order):
            if abs(force[b]) <= 0.25 * stiff[b] or work < 0:
                continue
            ahead, sign = (below, 1.0) if force[b] > 0 else (above, -1.0)
            group, members, room = [b], {b}, []
            for g in group:  # grows
                work -= len(ahead[g])
                for other, apart in ahead[g]:
                    if other not in members:
                        room.append((abs(at[other] - at[g]) - apart, other))
                        if room[-1][0] < 0.01:
                            members.add(other)
                            group.append(other)
            gain = sign * sum([force[g] for g in group])
            if gain > 0:
                rest = gain / sum([stiff[g] for g in group])
                step = min([rest, *[free for free, other in room if other not in members]])
                moved += step
                for g in group:
                    work -= len(springs[g])
                    at[g] += sign * step
                    force[g] -= sign * step * stiff[g]
                    for other, strength in springs[g]:
                        force[other] += sign * step * strength
        if moved < 1.0 or work < 0:
            break
    top = min(at[b] - height / 2 for b, height in zip(block, stack.high, strict=True))
    return [at[b] - top for b in block]


def _draw(net: _Net, lanes: list[list[int]], y: list[float], sizes: Sizes, labels: Sizes) -> Layout:
    """Columns and lanes side by side, and the arrows through them."""
    items, boxes = len(net.place), net.boxes
    port = [y[right] for _, right in net.links]  # where a link meets its right end
    arriving: list[list[int]] = [[] for _ in range(items)]
    for link in itertools.chain(*lanes):
        arriving[net.links[link][1]].append(link)
    for box in range(boxes):
        wanted = [y[items + link] for link in arriving[box]]
        for link, at in zip(arriving[box], _ports(wanted, y[box], sizes[box][1]), strict=True):
            port[link] = at

    x = 0.0
    spans: list[tuple[float, float]] = []  # of columns: from x, to x
    lane_spans: list[tuple[float, float]] = []
    for column, lane in zip(net.columns, lanes, strict=True):
        width = max([sizes[item][0] for item in column if item < boxes])
        spans.append((x, x + width))
        climb = max([abs(y[items + link] - y[net.links[link][0]]) for link in lane], default=0.0)
        x += width
        width = max([labels[net.carrier[link]][0] for link in lane if link in net.carrier], default=0.0)
        x += min(FAN + FAN_SLOPE * climb, FAN_MOST if width else FAN_BARE)
        lane_spans.append((x, x + width))
        climb = max([abs(y[items + link] - port[link]) for link in lane], default=0.0)
        x += width + min(FAN / 2 + FAN_SLOPE * climb, FAN_MOST) + HEAD
    centres = [(sum(spans[net.column_of[box]]) / 2, y[box]) for box in range(boxes)]

    leaving: list[list[int]] = [[] for _ in range(items)]  # item -> its links with a label
    for link in net.carrier:
        leaving[net.links[link][0]].append(link)
    routes = [Route((), (0.0, 0.0))] * len(net.carrier)
    for box in range(boxes):
        runs: list[Run] = []
        _run(runs, (centres[box][0] + sizes[box][0] / 2, spans[net.column_of[box]][1]), y[box])
        for item in (box, *net.trunks[box]):
            if item != box:
                _run(runs, lane_spans[net.column_of[item] - 1], y[items + arriving[item][0]])
                _run(runs, spans[net.column_of[item]], y[item])
            for link in leaving[item]:
                head = net.links[link][1]
                last = net.column_of[head]
                ours = runs.copy()
                _run(ours, lane_spans[last - 1], y[items + link])
                label = (sum(lane_spans[last - 1]) / 2, ours[-1][2])
                _run(ours, (spans[last][0] - HEAD, centres[head][0] - sizes[head][0] / 2), port[link])
                routes[net.carrier[link]] = Route(_curve(ours), label)
    bottom = max([centre[1] + size[1] / 2 for centre, size in zip(centres, sizes, strict=True)])
    bottom = max([bottom, *y, *[y[items + k] + labels[arrow][1] / 2 for k, arrow in net.carrier.items()]])
    return Layout(tuple(centres), tuple(routes), spans[-1][1], bottom, "own")


def _ports(wanted: Sequence[float], centre: float, height: float) -> list[float]:
    """Where arrows enter a box: at the heights they come from, top to bottom, if there is room, and always apart."""
    room = max(height / 2 - 9.0, 0.0)
    last = len(wanted) - 1
    step = min(PORT, 2 * room / max(last, 1))
    return [min(max(y, centre - room + i * step), centre + room - (last - i) * step) for i, y in enumerate(wanted)]


def _run(runs: list[Run], span: tuple[float, float], y: float) -> None:
    """Append a run, or lengthen the last one when the step between them would be invisible."""
    if runs and abs(runs[-1][2] - y) < 1.0:
        runs[-1] = (runs[-1][0], span[1], runs[-1][2])
    else:
        runs.append((*span, y))


def _curve(runs: Sequence[Run]) -> tuple[Point, ...]:
    points: list[Point] = [(runs[0][0], runs[0][2])]
    for start, end, y in runs:
        if points[-1] != (start, y):
            bend = (points[-1][0] + start) / 2
            points += [(bend, points[-1][1]), (bend, y), (start, y)]
        if end > start:
            points += [(start + (end - start) / 3, y), (end - (end - start) / 3, y), (end, y)]
    return tuple(points)


def _dot(sizes: Sizes, arrows: Arrows, labels: Sizes, seconds: float) -> Layout:
    """The layout by the program `dot`, in our columns and their order; boxes are b0, b1, ..., labels l0, l1, ..."""
    if not sizes:
        return Layout((), (), 0.0, 0.0, "dot")
    net, lanes = _ordered(len(sizes), arrows)
    levels = [[f"b{item}" for item in column if item < net.boxes] for column in net.columns]
    levels += [[f"l{net.carrier[link]}" for link in lane if link in net.carrier] for lane in lanes]
    names = [*[f"b{i}" for i in range(len(sizes))], *[f"l{i}" for i in range(len(arrows))]]
    apart, ahead = (0.25, 0.5) if any(height for _, height in labels) else (0.05, 1.5)
    lines = [f"digraph {{rankdir=LR nodesep={apart} ranksep={ahead} edge [dir=none tailport=e weight=2]"]
    lines.append('node [shape=box fixedsize=true label=""]')
    for name, (width, height) in zip(names, (*sizes, *labels), strict=True):
        lines.append(f"{name} [width={width / 72:.4f} height={height / 72:.4f}]")
    lines += [f"{{rank=same edge [style=invis tailport=_] {' -> '.join(level)}}}" for level in levels if level]
    for i, (tail, head) in enumerate(arrows):
        lines.append(f"b{tail} -> l{i} [headport=w] l{i} -> b{head} [headport=w weight=3]")
    argv, text = [shutil.which("dot") or "dot", "-Tjson0"], "\n".join([*lines, "}"])
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=seconds)
        done.check_returncode()
        drawn = json.loads(done.stdout)
        width, height = (float(number) for number in drawn["bb"].split(",")[2:])
        things = {x["_gvid"]: x for x in drawn.get("objects", ()) if "pos" in x}
        at = {x["name"]: _points(x["pos"], height)[0] for x in things.values()}
        path = {
            (things[edge["tail"]]["name"], things[edge["head"]]["name"]): _points(edge["pos"], height)
            for edge in drawn.get("edges", ())
        }
        into = [path[f"b{tail}", f"l{i}"] for i, (tail, _) in enumerate(arrows)]
        centres = tuple(at[f"b{i}"] for i in range(len(sizes)))
        arriving: list[list[int]] = [[] for _ in sizes]
        for i in sorted(range(len(arrows)), key=lambda i: at[f"l{i}"][1]):
            arriving[arrows[i][1]].append(i)
        routes = [Route((), (0.0, 0.0))] * len(arrows)
        for box, those in enumerate(arriving):  # behind the labels nothing is in the way, so they enter as ours do
            ports = _ports([at[f"l{i}"][1] for i in those], centres[box][1], sizes[box][1])
            for i, port in zip(those, ports, strict=True):
                (x, y), end = at[f"l{i}"], centres[box][0] - sizes[box][0] / 2
                start = x + labels[i][0] / 2
                runs = [(into[i][-1][0], start, y), (max(end - HEAD, start), end, port)]
                routes[i] = Route((*into[i], into[i][-1], (into[i][-1][0], y), *_curve(runs)), (x, y))
        return Layout(centres, tuple(routes), width, height, "dot")
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        said = (getattr(error, "stderr", "") or repr(error)).strip()[:300]
        raise RuntimeError(f"no layout from Graphviz ({said}): install it or use engine='own'") from error


def _points(text: str, height: float) -> tuple[Point, ...]:
    """The points of Graphviz's "x,y x,y ...", whose y grows upwards."""
    return tuple((float(x), height - float(y)) for x, y in (pair.split(",") for pair in text.split()))
