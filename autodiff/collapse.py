"""Collapse: a graph drawn coarser: boxes are nodes or groups of them, edges the total derivatives between them.

Two ways to collapse, in the words used below:

    kept     chosen nodes stay, all others go into the edges: an edge p -> c stands for every path from p to c that
             meets no other kept node, and its local derivative is the sum over these paths
    grouped  every node belongs to one group: a neuron, a layer. A group is a function of what its members read from
             outside (its inputs); its outputs are the members that something outside reads, or the output itself

    box      what stands for nodes of the full graph: a kept node, or a Group
    body     of a box: the nodes that the way from its inputs to its outputs leads through, parents first

Either way the adjoint of a box is the sum over its child edges of local derivative times upstream, as in the full
graph. For an output that its own group reads as well, that is what it gets from outside of the group.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff.grouping import GROUPED, Scope, common_name, group_keys
from autodiff.notation import Expression, Node
from autodiff.pictured import Pictured
from autodiff.tensor import MOST_ENTRIES, Tensor, dense
from autodiff.value import Value

ENTRIES = 50  # steps per member of a body that may be spent on finding every entry of a local derivative


class Group:
    """Several nodes as one box: a neuron over all samples, a layer, the loss.

    name: the innermost scope, or what the nodes are called together. scope: the scopes that all members share.
    members, parents first. outputs: the members that something outside reads, or the output of the graph, in order.
    data, grad: those of the outputs: a float or array where there is one output, else one array of all their numbers.
    """

    __slots__ = ("members", "name", "outputs", "scope")
    op = None

    def __init__(self, name: str, scope: Scope, members: Sequence[Any], outputs: Sequence[Any] = ()) -> None:
        self.name, self.scope = name, scope
        self.members, self.outputs = tuple(members), tuple(outputs)

    @property
    def size(self) -> int:
        """How many numbers the outputs hold."""
        return sum(output.size for output in self.outputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the one output, or (size,) where there are several."""
        return self.outputs[0].shape if len(self.outputs) == 1 else (self.size,)

    @property
    def data(self) -> Any:
        return _joined([output.data for output in self.outputs])

    @property
    def grad(self) -> Any:
        return _joined([output.grad for output in self.outputs])

    @property
    def leaves(self) -> tuple[Any, ...]:
        """The members nothing was computed for: the group's own parameters, in order."""
        return tuple(node for node in self.members if node.op is None)

    def __repr__(self) -> str:
        return f"Group({self.name}: {len(self.members)} nodes, {len(self.outputs)} outputs)"


@dataclass(frozen=True, slots=True, eq=False)
class BodyEdge:
    """All that a box reads from another, with the total derivative through its body."""

    parent: Any  # a node or a Group, and so is the child
    child: Any
    local: Any  # a float between single numbers, else a BodyMap: its pull, push and matrix()
    position: int  # which of the child's parents it is


class BodyMap:
    """The total derivative d(child)/d(parent) through the child's body, where one of them is more than one number.

    Its pull and push are sweeps over the body; nothing is stored. Between groups of several outputs it takes and
    gives one array of all their numbers.
    """

    __slots__ = ("_boxes", "child", "parent")

    def __init__(self, boxes: Collapsed, parent: Any, child: Any) -> None:
        self._boxes, self.parent, self.child = boxes, parent, child

    @property
    def shape(self) -> tuple[int, int]:
        """(child.size, parent.size): the shape of `matrix`."""
        return self.child.size, self.parent.size

    def pull(self, upstream: Any) -> Any:
        """The contribution to the parent's adjoint of an upstream, of the child's shape."""
        found = self._boxes._reverse(self.child, upstream)
        return _joined([found.get(p, _zero(p)) for p in outputs_of(self.parent)])

    def push(self, tangent: Any) -> Any:
        """What a tangent of the parent, of its shape, adds to the child's."""
        moved = self._boxes._forward(self.child, dict(_parts(self.parent, tangent, "tangent")))
        return _joined([moved.get(c, _zero(c)) for c in outputs_of(self.child)])

    def matrix(self) -> Any:
        """The map as a dense matrix: row i is the gradient of the child's i-th number.

        Raises ValueError where it would have more than ten million entries.
        """
        few = self.shape[0] * self.shape[1] <= MOST_ENTRIES
        entries = self.entries(limit=None) if few else None
        if entries is None:
            return dense(self, float)
        matrix = np.zeros(self.shape)
        for place, number in entries.items():
            matrix[place] = number
        return matrix

    def entries(self, limit: int | None = ENTRIES) -> dict[tuple[int, int], float] | None:
        """{(row, column): number} of what a path leads to, between scalar nodes; None if it takes too long to find.

        The samples of a batch do not meet in a neuron, so that of 90 x 90 entries only 90 are there.
        """
        children, parents = outputs_of(self.child), outputs_of(self.parent)
        if not isinstance(children[0], Value):
            return None
        column = {p: j for j, p in enumerate(parents)}
        body = self._boxes._bodies[self.child]
        place, inside = self._boxes._place, dict.fromkeys(body)
        work = None if limit is None else limit * (len(body) + 1)
        found: dict[tuple[int, int], float] = {}
        for row, output in enumerate(children):
            own = _ancestors([output], inside)
            if work is not None:
                work -= len(own)
                if work < 0:
                    return None
            own.sort(key=place.__getitem__)
            for node, number in self._boxes._swept(own, {output: 1.0}).items():
                if node in column:
                    found[row, column[node]] = number
        return found

    def __repr__(self) -> str:
        sizes = " → ".join("×".join(map(str, box.shape)) or "number" for box in (self.parent, self.child))
        return f"∂({self._boxes.label(self.child)})/∂({self._boxes.label(self.parent)}) ({sizes})"


class Collapsed(Pictured):
    """A graph of boxes over the nodes of a Graph, with the same interface; made by Graph.collapse.

    nodes: kept nodes and Groups, parents before children, the output last. edges: BodyEdges, one for every box that
    another one reads. to: how it was asked for.

    >>> from autodiff import Graph, scope
    >>> x, w = Value(2.0, name="x"), Value(3.0, name="w")
    >>> h = (w * x + 1.0).tanh()
    >>> h.name = "h"
    >>> loss = (h - 1.0) ** 2
    >>> collapsed = Graph(loss).collapse("names")
    >>> [collapsed.label(node) for node in collapsed.nodes]
    ['w', 'x', 'h', 'v6']
    >>> [(collapsed.label(e.parent), collapsed.label(e.child)) for e in collapsed.edges]
    [('w', 'h'), ('x', 'h'), ('h', 'v6')]
    """

    def __init__(self, graph: Any, to: Any = "neurons", parameters: bool = False) -> None:
        self.graph, self.to = graph, to
        self._place = {node: number for number, node in enumerate(graph.nodes)}
        self._inner: dict[Any, list[Any]] = {}  # node -> its edges
        for edge in graph.edges:
            self._inner.setdefault(edge.child, []).append(edge)
        if isinstance(to, str) and to not in ("names", *GROUPED):
            raise ValueError(f"collapse(to={to!r}): expected one of {', '.join(map(repr, ('names', *GROUPED)))}, "
                             "a depth of scopes such as 1, or a list of nodes to keep")  # fmt: skip
        self._owner: dict[Any, Any] = {}  # node -> its box; in a kept graph only the kept ones
        self._bodies: dict[Any, list[Any]] = {}
        if isinstance(to, (str, int)) and to != "names" and not isinstance(to, bool):
            self._group(group_keys(graph, to, parameters))
        else:
            self._keep(named(graph) if to == "names" else _listed(graph, to))
        self.output = self._owner[graph.output]
        self._connect()

    # --- the interface of a Graph ---

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return (
            f"Collapsed({self.label(self.output)}: {len(self.nodes)} boxes, {len(self.edges)} edges; "
            f"{len(self.graph.nodes)} nodes)"
        )

    def __contains__(self, node: object) -> bool:
        return isinstance(node, (Group, Value, Tensor)) and node in self._bodies

    @property
    def leaves(self) -> tuple[Any, ...]:
        """The boxes that read from no other one, in order."""
        children = {edge.child for edge in self.edges}
        return tuple(node for node in self.nodes if node not in children)

    def children(self) -> dict[Any, list[BodyEdge]]:
        """{box: the edges to its children, in order}; an empty list at the output."""
        children: dict[Any, list[BodyEdge]] = {node: [] for node in self.nodes}
        for edge in self.edges:
            children[edge.parent].append(edge)
        return children

    def symbol(self, node: Any) -> Expression:
        """How formulas call a box: a node as the full graph does, a group by its scopes."""
        if not isinstance(node, Group):
            return self.graph.symbol(node)  # type: ignore[no-any-return]
        return Expression(" · ".join([*node.scope[-2:-1], node.name]) if node.scope else node.name)

    def label(self, node: Any) -> str:
        """`symbol` as plain text."""
        return str(self.symbol(node))

    def operation(self, node: Any) -> str | None:
        """How many nodes a group stands for; of a node, the operation that made it."""
        if not isinstance(node, Group):
            return self.graph.operation(node)  # type: ignore[no-any-return]
        return f"{len(node.members)} node{'s' * (len(node.members) > 1)}"

    def has_grad(self, node: Any) -> bool:
        """Whether a backward pass has reached the node, or all outputs of the group."""
        return all(self.graph.has_grad(output) for output in outputs_of(node))

    def named(self, name: str) -> Any:
        """The box of that name or label; KeyError, saying which there are, if none or several have it."""
        found = [node for node in self.nodes if name in (node.name, self.label(node))]
        if len(found) != 1:
            raise KeyError(f"{len(found)} boxes are called {name!r}; here are {', '.join(map(self.label, self.nodes))}")
        return found[0]

    def collapse(self, to: Any = None, parameters: bool = False) -> Collapsed:
        """The full graph, collapsed another way."""
        return self.graph.collapse(to, parameters)  # type: ignore[no-any-return]

    def is_parameter(self, node: Any) -> bool:
        """Whether a box is a parameter, or holds nothing else; see Graph.is_parameter."""
        members = node.members if isinstance(node, Group) else (node,)
        return all(self.graph.is_parameter(member) for member in members)

    def contribution(self, edge: BodyEdge) -> Any:
        """What the edge adds to the grads stored at the parent's outputs; None before a backward pass."""
        if not isinstance(edge.child, Group):
            if not self.has_grad(edge.child):
                return None
            if isinstance(edge.local, float):
                return float(edge.child.grad) * edge.local
            return edge.local.pull(edge.child.grad)
        sums: dict[Any, Any] = {}
        for crossing in self._crossing[edge.parent, edge.child]:
            part = self.graph.contribution(crossing)  # the members' own grads know what lies below them
            if part is None:
                return None
            sums[crossing.parent] = sums[crossing.parent] + part if crossing.parent in sums else part
        return _joined([sums.get(p, _zero(p)) for p in outputs_of(edge.parent)])

    def adjoints(self) -> dict[Any, Any]:
        """{box: d(output)/d(box)}, each of the shape of its box: the sum over the child edges, output first.

        One sweep over every body. Touches no grad.
        """
        below: dict[Any, Any] = {self.graph.output: _zero(self.graph.output) + 1.0}
        found = {}
        for box in reversed(self.nodes):
            found[box] = _joined([below.get(o, _zero(o)) for o in outputs_of(box)])
            for node, part in self._reverse(box, found[box]).items():
                below[node] = below[node] + part if node in below else part
        return found

    # --- how it is made ---

    def _keep(self, kept: dict[Any, None]) -> None:
        inside = {node: None for node in self.graph.nodes if node not in kept}
        for node in self.graph.nodes:
            if node in kept:
                self._owner[node] = node
                body = _ancestors([node], inside)
                body.sort(key=self._place.__getitem__)
                self._bodies[node] = body
        self.nodes: tuple[Any, ...] = tuple(self._owner)

    def _group(self, keys: dict[Any, Any]) -> None:
        members: dict[Any, list[Any]] = {}
        for node in self.graph.nodes:
            members.setdefault(keys[node], []).append(node)
        boxes: dict[Any, Any] = {}
        taken: dict[tuple[Scope, str], int] = {}
        for key, nodes in members.items():
            scope, name = key.scope, key.name or common_name(nodes, self.graph)
            own = nodes[0].name
            if len(nodes) == 1 and (key.name is None or own == name or (own and self.to != "matrices")):
                boxes[key] = nodes[0]  # it has a name of its own, or there is none for it
                continue
            count = taken[scope, name] = taken.get((scope, name), 0) + 1
            boxes[key] = Group(name if count == 1 else f"{name} ({count})", scope, nodes)
        for key, nodes in members.items():
            self._bodies[boxes[key]] = nodes
            for node in nodes:
                self._owner[node] = boxes[key]
        parents: dict[Any, dict[Any, None]] = {box: {} for box in self._bodies}
        outputs: dict[Any, dict[Any, None]] = {box: {} for box in self._bodies}
        for edge in self.graph.edges:
            parent, child = self._owner[edge.parent], self._owner[edge.child]
            if parent is not child:
                parents[child][parent] = None
                outputs[parent][edge.parent] = None
        outputs[self._owner[self.graph.output]][self.graph.output] = None
        for box, ends in outputs.items():
            if isinstance(box, Group):
                box.outputs = tuple(sorted(ends, key=self._place.__getitem__))
        first = {box: self._place[nodes[0]] for box, nodes in self._bodies.items()}
        self.nodes = tuple(_topological(parents, first))

    def _connect(self) -> None:
        self._crossing: dict[tuple[Any, Any], list[Any]] = {}  # (parent, child) -> the edges of the full graph between
        edges: list[BodyEdge] = []
        for child in self.nodes:
            body = self._bodies[child]
            inside = dict.fromkeys(body)
            parents: dict[Any, None] = {}
            for node in body:
                for edge in self._inner.get(node, ()):
                    if edge.parent not in inside:
                        parent = self._owner[edge.parent]
                        parents[parent] = None
                        if isinstance(child, Group):
                            self._crossing.setdefault((parent, child), []).append(edge)
            single = isinstance(outputs_of(child)[0], Value) and len(outputs_of(child)) == 1
            row = self._reverse(child, 1.0) if single else {}
            for position, parent in enumerate(parents):
                if single and len(outputs_of(parent)) == 1:
                    local: Any = row.get(outputs_of(parent)[0], 0.0)
                else:
                    local = BodyMap(self, parent, child)
                edges.append(BodyEdge(parent, child, local, position))
        self.edges: tuple[BodyEdge, ...] = tuple(edges)

    def _reverse(self, box: Any, upstream: Any) -> dict[Any, Any]:
        """{what the body of a box reads from outside: its share of an upstream of the box}."""
        return self._swept(self._bodies[box], dict(_parts(box, upstream, "upstream")))

    def _swept(self, body: Sequence[Any], seeds: dict[Any, Any]) -> dict[Any, Any]:
        """{node outside: adjoint} of a body, parents first, from those of its outputs: one sweep, each edge once."""
        found = seeds
        for node in reversed(body):
            upstream = found.pop(node, None)
            if upstream is None:
                continue
            for edge in self._inner.get(node, ()):
                local, parent = edge.local, edge.parent
                part = upstream * local if isinstance(local, float) else local.pull(upstream)
                found[parent] = found[parent] + part if parent in found else part
        return found

    def _forward(self, box: Any, tangents: dict[Any, Any]) -> dict[Any, Any]:
        """{node of the body: its tangent} from those of what it reads."""
        found: dict[Any, Any] = {}
        for node in self._bodies[box]:
            for edge in self._inner.get(node, ()):
                given = found.get(edge.parent, tangents.get(edge.parent))
                if given is not None:
                    part = given * edge.local if isinstance(edge.local, float) else edge.local.push(given)
                    found[node] = found[node] + part if node in found else part
        return found


def outputs_of(box: Any) -> tuple[Any, ...]:
    """The outputs of a group; a node alone."""
    return box.outputs if isinstance(box, Group) else (box,)


def named(graph: Any) -> dict[Any, None]:
    """The nodes with a name, and the output; where no leaf has a name, all leaves too: else they would all be lost."""
    kept = {node: None for node in graph.nodes if node.name or node is graph.output}
    if not any(leaf.name for leaf in graph.leaves):
        kept.update(dict.fromkeys(graph.leaves))
    return kept


def _listed(graph: Any, nodes: Iterable[Any]) -> dict[Any, None]:
    if isinstance(nodes, (Node, bool)) or not isinstance(nodes, Iterable):
        raise TypeError(
            f"collapse(to=...) takes 'names', 'neurons', 'layers', 'matrices', a depth, or a list of nodes to keep, "
            f"got {nodes!r}"
        )
    kept: dict[Any, None] = {}
    for node in nodes.flat if isinstance(nodes, np.ndarray) else nodes:
        if node not in graph:
            what = repr(node) if isinstance(node, Node) else f"{node!r}, which is no node"
            raise ValueError(
                f"collapse: not a node of this graph, the ancestors of {graph.label(graph.output)}: {what}"
            )
        kept[node] = None
    return {**kept, graph.output: None}


def _topological(parents: dict[Any, dict[Any, None]], first: dict[Any, int]) -> list[Any]:
    """The boxes, each after its parents; of those that are free to come next the one with the earliest node."""
    waiting = {box: len(those) for box, those in parents.items()}
    children: dict[Any, list[Any]] = {box: [] for box in parents}
    for box, those in parents.items():
        for parent in those:
            children[parent].append(box)
    ready = [(first[box], box) for box, count in waiting.items() if not count]
    heapq.heapify(ready)  # no two boxes have the same first node, so boxes are never compared
    found = []
    while ready:
        _, box = heapq.heappop(ready)
        found.append(box)
        for child in children[box]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, (first[child], child))
    return found


# --- numbers of boxes ---


def _ancestors(ends: list[Any], inside: dict[Any, None]) -> list[Any]:
    """The ends and what leads to them inside, in no particular order."""
    seen = dict.fromkeys(ends)
    found = list(ends)
    for node in found:
        for parent in node.parents:
            if parent in inside and parent not in seen:
                seen[parent] = None
                found.append(parent)
    return found


def _zero(node: Any) -> Any:
    return 0.0 if isinstance(node, Value) else np.zeros(node.shape, node.dtype)


def _joined(parts: Sequence[Any]) -> Any:
    """One number or array as it is, several as one flat array."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.reshape(part, -1) for part in parts]) if parts else np.zeros(0)


def _parts(box: Any, array: Any, what: str) -> list[tuple[Any, Any]]:
    """[(output, its part of an array of the box's shape)]."""
    if np.shape(array) != tuple(box.shape):
        raise ValueError(f"the {what} has the shape {tuple(box.shape)} of its box, got {np.shape(array)}")
    outputs = outputs_of(box)
    if len(outputs) == 1:
        scalar = isinstance(outputs[0], Value)
        return [(outputs[0], float(array) if scalar else np.asarray(array, outputs[0].dtype))]
    if isinstance(outputs[0], Value):
        return list(zip(outputs, np.asarray(array, float).tolist(), strict=True))
    ends = itertools.accumulate([output.size for output in outputs[:-1]])
    pieces = np.split(np.asarray(array), list(ends))
    return [(o, piece.reshape(o.shape)) for o, piece in zip(outputs, pieces, strict=True)]
