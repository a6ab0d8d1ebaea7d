"""A Scene as Graphviz source, for people with Graphviz: the same boxes, colours and texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from autodiff.pictures.scene import Drawable, Scene, scene
from autodiff.pictures.svg import COLOURS, FRAMES, look

if TYPE_CHECKING:
    import graphviz

__all__ = ["to_dot", "to_graphviz"]


def to_dot(graph: Drawable, *, caption: str = "") -> str:
    """Graphviz source: a record (name, value, grad) per node, an arrow with its local derivative per edge.

    Nodes are called n0, n1, ... in the graph's order, so equal graphs give equal text.

    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> for line in to_dot(Graph(x * x)).splitlines()[4:]:
    ...     print(line.strip())
    n0 [label="x|value 3|grad –" fillcolor="#d3e7fa" color="#0b63a5" penwidth=1.6 style="filled,rounded"]
    n1 [label="x · x|value 9|grad –" fillcolor="#ffe3bd" color="#b93c00" penwidth=3]
    n0 -> n1 [label=" 3 " color="#4b5563" penwidth=1.6]
    n0 -> n1 [label=" 3 " color="#4b5563" penwidth=1.6]
    }
    """
    return "\n".join(["digraph chainrule {", *_body(scene(graph, caption)), "}", ""])


def to_graphviz(graph: Drawable, *, caption: str = "") -> graphviz.Digraph:
    """The same as a graphviz.Digraph: notebooks show it, `.render(format="pdf")` writes it, with `dot`."""
    import graphviz  # not needed for anything else, so not at import time

    return graphviz.Digraph("chainrule", body=[line + "\n" for line in _body(scene(graph, caption))])


def _body(scene: Scene) -> list[str]:
    lines = [
        "\trankdir=LR",
        '\tnode [shape=record style="filled" fontname="monospace"]',
        '\tedge [fontname="monospace" fontsize=11]',
    ]
    if scene.caption:
        lines.append(f'\tlabel="{_quoted(scene.caption)}" fontname="monospace" fontsize=12 labeljust=l')
    for i, box in enumerate(scene.boxes):
        head = " = ".join(filter(None, (box.name, box.tag)))
        fields = (head, *(f"{caption} {text}" for caption, text, _ in box.rows))
        stroke, radius = FRAMES[box.kind]
        style = ' style="filled,rounded"' if radius > 5 else ""
        fill, line = COLOURS[f"{box.kind}-head"][0], COLOURS[f"{box.kind}-line"][0]
        label = "|".join(_field(text) for text in fields)
        lines.append(f'\tn{i} [label="{label}" fillcolor="{fill}" color="{line}" penwidth={stroke:g}{style}]')
    for arrow, weight in zip(scene.arrows, scene.weights, strict=True):
        role, stroke, dashed = look(arrow, weight)
        label = f'label=" {_quoted(arrow.label)} " ' if arrow.label else ""
        style = " style=dashed" if dashed else ""
        ends = f"\tn{arrow.tail} -> n{arrow.head}"
        lines.append(f'{ends} [{label}color="{COLOURS[role][0]}" penwidth={stroke:.2g}{style}]')
    return lines


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text).replace("&", "&amp;")


def _quoted(text: str) -> str:
    """Text inside of quotes, where \\ and " mean something else."""
    return re.sub(r'[\\"]', r"\\\g<0>", _printable(text)).replace("\n", r"\n")


def _field(text: str) -> str:
    """Text as a field of a quoted record label, where \\ " { } | < > & and spaces mean something else."""
    return re.sub(r'[\\"{}|<>]|^ | (?= |$)', r"\\\g<0>", _printable(text)).replace("\n", r"\n")
