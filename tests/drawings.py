"""Graphs to draw, and how to read a drawing back: for all tests of pictures."""

from __future__ import annotations

import io
import math
import shutil
from dataclasses import dataclass, field
from xml.etree import ElementTree

from hypothesis import strategies as st

from autodiff import Graph, Value

SVG = "{http://www.w3.org/2000/svg}"
HAS_DOT = shutil.which("dot") is not None
ENGINES = ["own", "dot"] if HAS_DOT else ["own"]  # what concerns `dot` and runs without it is faked
NAMES = st.text(st.characters(codec=None) | st.sampled_from('\\"<>{}|&;\n\t \x00\x1b\ud800\ufffe\u202e'), max_size=30)


@dataclass(eq=False)
class Node:
    data: float
    name: str | None = None
    made_by: str | None = None
    operands: tuple[tuple[Node, float], ...] = ()  # (parent, local derivative)
    grad: float = 0.0
    reached: bool = field(default=False)
    scope: tuple[str, ...] = ()

    def __eq__(self, other):
        raise AssertionError("a picture must tell nodes apart by identity")

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class Edge:
    parent: Node
    child: Node
    local: float
    position: int


class Drawn:
    """The interface that pictures read, over nodes listed ancestors first."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.edges = [Edge(p, n, d, i) for n in nodes for i, (p, d) in enumerate(n.operands)]

    def label(self, node: Node) -> str:
        return node.name or node.made_by or f"{node.data:g}"

    def operation(self, node: Node) -> str | None:
        return node.made_by

    def has_grad(self, node: Node) -> bool:
        return node.reached

    def is_parameter(self, node: Node) -> bool:
        return (node.name or "").startswith("w")

    def contribution(self, edge: Edge) -> float | None:
        return edge.child.grad * edge.local if edge.child.reached else None


def square(reached: bool = True) -> Drawn:
    x = Node(3.0, "x", grad=6.0, reached=reached)
    return Drawn(x, Node(9.0, "y", "*", ((x, 3.0), (x, 3.0)), grad=1.0, reached=reached))


def named(name: str) -> Drawn:
    x = Node(0.5, name, grad=-0.25, reached=True)
    return Drawn(x, Node(1e-9, name, "exp", ((x, math.nan),), grad=1.0, reached=True))


def network() -> Graph:
    """3 inputs, 4 and 2 sigmoid units, 2 outputs, half the squared error: all 41 weights, biases and inputs."""
    activations = [Value(0.1 * i - 0.2, name=f"x_{i}") for i in range(3)]
    for k, width in enumerate((4, 2, 2), start=1):
        units = []
        for j in range(width):
            z = Value(0.05 * j, name=f"b{k}_{j}")
            for i, a in enumerate(activations):
                z = z + Value(0.3 * i - 0.4 * j, name=f"W{k}_{i}{j}") * a
            units.append(z.sigmoid())
            units[-1].name = f"h{k}_{j}"
        activations = units
    loss = (activations[0] - 1.0) ** 2 / 2 + (activations[1] - 0.0) ** 2 / 2
    loss.backward()
    return Graph(loss)


def parsed(svg: str) -> ElementTree.Element:
    ElementTree.parse(io.BytesIO(svg.encode("utf-8")))  # as a file, too
    return ElementTree.fromstring(svg)


def shown(svg: str) -> list[str]:
    return [text.text or "" for text in parsed(svg).iter(SVG + "text")]


def frames_of(group: ElementTree.Element) -> list[ElementTree.Element]:
    """The frame of a box: the first of its outlines; the second is that of its operation."""
    return [rect for rect in group.findall(SVG + "rect") if rect.get("fill") == "none"][:1]


def tooltips(svg: str) -> list[str]:
    return [title.text or "" for group in parsed(svg).iter(SVG + "g") for title in group.findall(SVG + "title")]


def no_program(*_, **__):
    """In place of subprocess.run: there is no such program."""
    raise FileNotFoundError("dot")
