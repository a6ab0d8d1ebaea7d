"""The views of the page: one graph as layers, neurons, matrices or scalars, and what a box shows when it is opened.

Glossary: a *view* is a drawing with coordinates: boxes and arrows. A *box* is a node, or a group of nodes; a group that
can be opened has a view of its own, which the page unfolds in its place. A *level* is a view of the whole graph.
Everything is numbers here: a node is its index in graph.nodes, which is also how the page calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from autodiff.pictures.layout import layout
from autodiff.pictures.scene import heading
from autodiff.pictures.svg import HEADER, LINE, NAME, NUMBER_CELLS, PAD, STACK, TEXT
from autodiff.pictures.text import CELL, clean, shortened, width_of

__all__ = ["MOST_SCALARS", "OPENS", "Views"]

MOST_SCALARS = 2000  # nodes of a graph that has a view of all of them
OPENS = 1000  # boxes in a group that can be opened in place
PARTS = 24  # of a large graph without scopes
ROW_CELLS = 11 + NUMBER_CELLS  # a caption such as "grad 1/2", and a number
GROUP_CELLS = 14 + NUMBER_CELLS + 4  # "‖grad‖ 45/270" and a number; "values" and two of them
LABEL = (58.0, 17.0)  # room for any local derivative, for it changes in the page


@dataclass
class Group:
    """Several nodes as one box. view: what it shows when opened; -1 where it does not, for the reason `why`."""

    name: str
    members: tuple[int, ...]
    outputs: tuple[int, ...]
    view: int = -1
    why: str = ""


@dataclass
class Views:
    """All views of a graph; levels: (name, index of its view), coarse first; left_out: what there is no view of."""

    graph: Any
    groups: list[Group] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    levels: list[tuple[str, int]] = field(default_factory=list)
    left_out: str = ""

    def __post_init__(self) -> None:
        graph = self.graph
        self._index = {node: number for number, node in enumerate(graph.nodes)}
        self._edges = [(self._index[edge.parent], self._index[edge.child]) for edge in graph.edges]
        self._into: list[list[int]] = [[] for _ in graph.nodes]
        for number, (_, child) in enumerate(self._edges):
            self._into[child].append(number)
        self._read_by: list[list[int]] = [[] for _ in graph.nodes]
        for parent, child in self._edges:
            self._read_by[parent].append(child)
        self._ids: dict[tuple[int, ...], int] = {}
        self._add_levels()

    @property
    def scalars(self) -> dict[str, Any] | None:
        """The view of all nodes; None where there is none."""
        name, view = self.levels[-1]
        return self.views[view] if name in FINEST else None

    # --- levels ---

    def _add_levels(self) -> None:
        nodes = self.graph.nodes
        count = len(nodes)
        finest = "scalars" if isinstance(nodes[-1].data, float) else "arrays"
        partitions = self._by_scope() if any(node.scope for node in nodes) else {}
        partitions = {name: parts for name, parts in partitions.items() if len(parts) <= MOST_SCALARS}
        if not partitions and count > MOST_SCALARS:
            partitions["parts"] = _parts(count)
        finer = partitions.get("neurons", [])
        shown = {count}  # a level with as many boxes as another shows nothing new
        for name, parts in partitions.items():
            if len(parts) in shown:
                continue
            shown.add(len(parts))
            boxes = [self._box(title, members, finer if name == "layers" else []) for title, members in parts]
            self.levels.append((name, self._view(boxes)))
        if count <= MOST_SCALARS:
            self.levels.append((finest, self._view(list(range(count)))))
        else:
            self.left_out = (
                f"This graph has {count:,} nodes. All of them are computed here, but there is no picture of every one "
                f"of them (the limit is {MOST_SCALARS:,}): it opens collapsed"
            )
            closed = sum(1 for group in self.groups if group.view < 0)
            if closed:
                self.left_out += f", and {closed} boxes hold too many nodes to be opened in place (limit {OPENS:,})"
            self.left_out += ". One sample makes a graph that can be read node by node."

    def _by_scope(self) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
        """{level: [(title, members)], in an order in which each comes after all that it reads}."""
        found = {}
        for to in ("layers", "neurons", "matrices"):
            collapsed = self.graph.collapse(to)
            found[to] = [
                (collapsed.label(box), tuple(sorted(self._index[node] for node in getattr(box, "members", (box,)))))
                for box in collapsed.nodes
            ]
        return found

    def _box(self, title: str, members: tuple[int, ...], finer: Sequence[tuple[str, tuple[int, ...]]]) -> int:
        """A node's index, or -1 - the number of a group."""
        if len(members) == 1:
            return members[0]
        if members in self._ids:
            return -1 - self._ids[members]
        inside = set(members)
        outputs = tuple(
            node
            for node in members
            if not self._read_by[node] or any(child not in inside for child in self._read_by[node])
        )
        number = self._ids[members] = len(self.groups)
        group = Group(title, members, outputs)
        self.groups.append(group)
        parts = [(name, tuple(node for node in those if node in inside)) for name, those in finer]
        parts = [(name, those) for name, those in parts if those]
        if len(parts) < 2 or len(parts) == len(members):
            parts = []
        if max(len(parts), 0 if parts else len(members)) > OPENS:
            group.why = (
                f"{title} holds {len(members):,} nodes; at most {OPENS:,} are drawn in place. "
                "Explore the graph of one sample to read them."
            )
            return -1 - number
        inner = [self._box(name, those, ()) for name, those in parts] if parts else list(members)
        group.view = self._view(inner)
        return -1 - number

    # --- one view ---

    def _members(self, box: int) -> tuple[int, ...]:
        return (box,) if box >= 0 else self.groups[-1 - box].members

    def _view(self, boxes: list[int]) -> int:
        """The number of a new view of these boxes, each after all that it reads."""
        place = {node: number for number, box in enumerate(boxes) for node in self._members(box)}
        arrows: list[tuple[int, int]] = []
        single = all(box >= 0 for box in boxes)
        for head, box in enumerate(boxes):
            tails = [
                place[self._edges[edge][0]]
                for node in self._members(box)
                for edge in self._into[node]
                if place.get(self._edges[edge][0], head) != head
            ]
            arrows += [(tail, head) for tail in (tails if single else sorted(set(tails)))]
        headings = [self._heading(box) for box in boxes]
        sizes = [_size(name, tag, grouped=box < 0) for (name, tag, _), box in zip(headings, boxes, strict=True)]
        at = layout(sizes, arrows, "own", labels=[LABEL] * len(arrows))
        self.views.append(
            {
                "boxes": boxes,
                "names": [name if name != whole else 0 for name, _, whole in headings],  # 0: the page has it already
                "tags": [tag for _, tag, _ in headings],
                "at": [
                    round(number)
                    for (x, y), (width, height) in zip(at.centres, sizes, strict=True)
                    for number in (x, y, width, height)
                ],
                "arrows": [number for arrow in arrows for number in arrow],
                "curves": [_steps(route.curve) for route in at.routes],
                "labels": [round(number) for route in at.routes for number in route.label],
                "size": [round(at.width), round(at.height)],
            }
        )
        return len(self.views) - 1

    def _heading(self, box: int) -> tuple[str, str, str]:
        """The name and the tag of a box, as they fit it, and the name in full."""
        if box < 0:
            group = self.groups[-1 - box]
            return shortened(clean(group.name)), f"{len(group.members):,} nodes", group.name
        name, tag = heading(self.graph, self.graph.nodes[box])
        return shortened(clean(name)), shortened(clean(tag)), name


def _parts(count: int) -> list[tuple[str, tuple[int, ...]]]:
    """[(title, members)] of a graph without scopes: as many nodes in each, in order."""
    size = -(-count // PARTS)
    starts = range(0, count, size)
    return [(f"nodes {at + 1} to {min(at + size, count)}", tuple(range(at, min(at + size, count)))) for at in starts]


def _steps(curve: Sequence[tuple[float, float]]) -> list[int]:
    """The control points of a curve as [x, y, step in x, step in y, ...], which is shorter to write down."""
    found: list[int] = []
    before = (0, 0)
    for x, y in curve:
        at = (round(x), round(y))
        found += (at[0] - before[0], at[1] - before[1])
        before = at
    return found


def _size(name: str, tag: str, grouped: bool) -> tuple[float, float]:
    header = width_of(name, NAME) + (width_of(tag, TEXT) + 24.0 if tag else 0.0)
    extra = STACK if grouped else 0.0
    return max(
        header, (GROUP_CELLS if grouped else ROW_CELLS) * CELL * TEXT
    ) + 2 * PAD + extra, HEADER + 2 * LINE + 8.0 + extra


FINEST = ("scalars", "arrays")
