"""A graph as one standalone SVG: no fonts, scripts, styles or ids, so that it also fits into any page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from autodiff.pictures.dot import Drawable, gradient, heading, number, scalar_nodes
from autodiff.pictures.layout import Point, Route, layout

__all__ = ["to_svg"]

FONT = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"
CELL = 7.3 / 12  # width of a character in ems of that size, rounded up over these fonts
TEXT, NAME, TITLE = 12.0, 13.0, 18.0  # font sizes, px
MARGIN = 20.0
PAD = 10.0  # from a box's border to its text
HEADER, LINE = 25.0, 18.0  # heights of a box's first line and of the others
NUMBER_CELLS = 8  # room for most numbers, so that boxes stay put when gradients come in
NAME_CELLS = 26  # a longer name is shortened in the picture and whole in the tooltip
TIP = (10.0, 4.2)  # an arrow's head: length, half width

# fill, tint of the first line, border, its width, corner radius: fit for print, and told apart without colour
LEAF = ("#f2f8fe", "#d6e9fa", "#0b63a5", 1.6, 12.0)
INNER = ("#ffffff", "#eceef1", "#374151", 1.4, 3.0)
OUTPUT = ("#fffaf2", "#ffe3bd", "#b93c00", 3.0, 3.0)
TIMES = "\N{MULTIPLICATION SIGN}"
INK, FAINT, LINES, GRADIENT, ALARM = "#111827", "#596273", "#4b5563", "#9a2f00", "#c00018"


def to_svg(graph: Drawable, title: str | None = None, *, engine: str = "auto") -> str:
    """SVG text: a box per node (name, value, grad) and an arrow per edge (its local derivative).

    Inputs stand on the left (round boxes), the output on the right (heavy border). `title` is written above;
    `engine` is that of `layout`. Sizes are in px. Hovering shows full precision, and what an arrow
    contributes: upstream * local.

    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> picture = to_svg(Graph(x * x), title="A square")
    >>> picture.startswith("<svg "), "<title>A square</title>" in picture
    (True, True)
    """
    nodes, edges = scalar_nodes(graph), list(graph.edges)
    index = {id(node): i for i, node in enumerate(nodes)}
    heads = [[_shorten(_clean(text)) for text in heading(graph, node)] for node in nodes]
    sizes = [_box_size(graph, node, *head) for node, head in zip(nodes, heads, strict=True)]
    locals_ = [number(edge.local) for edge in edges]
    labels = [(_width(text, TEXT) + 8.0, 17.0) for text in locals_]
    arrows = [(index[id(edge.parent)], index[id(edge.child)]) for edge in edges]
    placed = layout(sizes, arrows, engine, labels=labels)

    shown = _shorten(_clean(title), 200) if title else ""
    top = MARGIN + (TITLE + 16.0 if shown else 0.0)
    width = max(placed.width, _width(shown, TITLE)) + 2 * MARGIN
    height = placed.height + top + MARGIN
    output = _clean(graph.label(nodes[-1])) if nodes else "nothing"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'font-family="{FONT}" font-size="{TEXT:g}" fill="{INK}">',
        f"<title>{escape(_clean(title) if title else f'Computation graph of {output}')}</title>",
        f"<desc>{len(nodes)} nodes and {len(edges)} arrows from operands to results. An arrow carries the "
        "local derivative d(child)/d(parent). grad is what backward passes have "
        f"stored; after one from this output it is the sum of upstream {TIMES} local over the arrows out.</desc>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    if shown:
        parts.append(_text(MARGIN, MARGIN + TITLE, shown, f' font-size="{TITLE:g}" font-weight="bold"'))
    parts.append(f'<g transform="translate({(width - placed.width) / 2:.1f} {top:.1f})">')
    for edge, route, text, size in zip(edges, placed.routes, locals_, labels, strict=True):
        parts.append(_arrow(_arrow_tip(graph, edge), route, text, size, math.isfinite(edge.local)))
    for i, node in enumerate(nodes):
        look = OUTPUT if i == len(nodes) - 1 else LEAF if graph.operation(node) is None else INNER
        parts.append(_box(graph, node, heads[i], placed.centres[i], sizes[i], look))
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _box_size(graph: Drawable, node: Any, name: str, tag: str) -> tuple[float, float]:
    numbers = max(len(number(node.data)), len(gradient(graph, node)), NUMBER_CELLS)
    header = _width(name, NAME) + (_width(tag, TEXT) + 24.0 if tag else 0.0)
    return max(header, (len("value") + 2 + numbers) * CELL * TEXT) + 2 * PAD, HEADER + 2 * LINE + 8.0


def _box(
    graph: Drawable,
    node: Any,
    head: Sequence[str],
    centre: Point,
    size: tuple[float, float],
    look: tuple[str, str, str, float, float],
) -> str:
    fill, tint, border, stroke, round_ = look
    width, height = size
    x, y = centre[0] - width / 2, centre[1] - height / 2
    name, tag = head
    value_ink = INK if math.isfinite(node.data) else ALARM
    grad_ink = FAINT if not graph.has_grad(node) else GRADIENT if math.isfinite(node.grad) else ALARM
    frame = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_:g}"'
    r = min(round_, HEADER)
    band = (
        f"M{x:.1f} {y + HEADER:.1f}v{r - HEADER:.1f}a{r:g} {r:g} 0 0 1 {r:g} {-r:g}h{width - 2 * r:.1f}"
        f"a{r:g} {r:g} 0 0 1 {r:g} {r:g}v{HEADER - r:.1f}z"
    )
    parts = [
        f"<g><title>{escape(_box_tip(graph, node))}</title>",
        f'<rect {frame} fill="{fill}"/><path d="{band}" fill="{tint}"/>',
        f'<rect {frame} fill="none" stroke="{border}" stroke-width="{stroke:g}"/>',
        _text(x + PAD, y + 17.5, name, f' font-size="{NAME:g}" font-weight="bold"'),
    ]
    if tag:
        tag_width = _width(tag, TEXT) + 10.0
        parts.append(
            f'<rect x="{x + width - PAD - tag_width + 4:.1f}" y="{y + 4:.1f}" width="{tag_width:.1f}" '
            f'height="17" rx="8" fill="#ffffff" stroke="{border}" stroke-width="0.8"/>'
        )
        centre_x = x + width - PAD + 4 - tag_width / 2
        parts.append(_text(centre_x, y + 16.7, tag, ' text-anchor="middle"'))
    rows = (("value", number(node.data), value_ink), ("grad", gradient(graph, node), grad_ink))
    for row, (what, shown, ink) in enumerate(rows):
        base = y + HEADER + LINE * row + 16.0
        parts.append(_text(x + PAD, base, what, f' fill="{FAINT}"'))
        look_right = f' text-anchor="end" fill="{ink}" font-weight="bold"'
        parts.append(_text(x + width - PAD, base, shown, look_right))
    return "".join([*parts, "</g>"])


def _arrow(tip: str, route: Route, text: str, size: tuple[float, float], finite: bool) -> str:
    (x, y), (width, height) = route.label, size
    line, head = _line(route.curve)
    return (
        f'<g><title>{escape(tip)}</title><path d="{line}" fill="none" stroke="{LINES}" stroke-width="1.5"/>'
        f'<path d="{head}" fill="{LINES}"/><rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="4" fill="#ffffff"/>'
        + _text(x, y + 4.3, text, f' text-anchor="middle" fill="{INK if finite else ALARM}"')
        + "</g>"
    )


def _line(curve: Sequence[Point]) -> tuple[str, str]:
    """Path data of the line, cut short where the head begins, and of the head."""
    *_, before, end = curve
    near = next((point for point in reversed(curve) if math.dist(point, end) > 1e-6), (end[0] - 1.0, end[1]))
    reach = math.dist(near, end)
    ux, uy = (end[0] - near[0]) / reach, (end[1] - near[1]) / reach
    length, half = TIP
    base = (end[0] - length * ux, end[1] - length * uy)
    shift = min(length - 1.0, reach)
    stop = (end[0] - shift * ux, end[1] - shift * uy)
    before = (before[0] - shift * ux, before[1] - shift * uy) if math.dist(before, end) < length else before
    points = [*curve[1:-2], before, stop]
    line = f"M{curve[0][0]:.1f} {curve[0][1]:.1f}C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    left = (base[0] - half * uy, base[1] + half * ux)
    right = (base[0] + half * uy, base[1] - half * ux)
    return line, "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (end, left, right)) + "z"


def _box_tip(graph: Drawable, node: Any) -> str:
    grad = repr(float(node.grad)) if graph.has_grad(node) else "none yet: run backward first"
    operation = graph.operation(node)
    made = f"\noperation: {_clean(operation)}" if operation is not None else ""
    return f"{_clean(graph.label(node), keep_lines=True)}{made}\nvalue = {float(node.data)!r}\ngrad = {grad}"


def _arrow_tip(graph: Drawable, edge: Any) -> str:
    parent, child = _clean(graph.label(edge.parent)), _clean(graph.label(edge.child))
    text = f"{parent} is operand {edge.position + 1} of {child}\n"
    text += f"local = d(child)/d(parent) = {float(edge.local)!r}"
    if not graph.has_grad(edge.child):
        return text + f"\ncontribution = upstream {TIMES} local: run backward first"
    upstream = float(edge.child.grad)
    return (
        f"{text}\nupstream = stored grad of the child = {upstream!r}\n"
        f"contribution = upstream {TIMES} local = {upstream * float(edge.local)!r}"
    )


def _text(x: float, y: float, text: str, look: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{look} xml:space="preserve">{escape(text)}</text>'


def _clean(text: str, keep_lines: bool = False) -> str:
    """Text with what XML cannot hold replaced: control characters, lone surrogates, noncharacters."""
    keep = "\n" if keep_lines else ""
    lost = "\N{REPLACEMENT CHARACTER}"
    return "".join(c if c in keep or c.isprintable() else " " if c.isspace() else lost for c in str(text))


def _cells(character: str) -> float:
    """How many monospace cells a character takes, rather too many: other scripts come from other fonts."""
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 2.0
    return 1.0 if character < "\u0530" or "\u1e00" <= character <= "\u22ff" else 2.0


def _width(text: str, size: float) -> float:
    return sum(map(_cells, text)) * CELL * size


def _shorten(text: str, cells: int = NAME_CELLS) -> str:
    """Text of at most so many cells, an ellipsis in place of its middle."""
    if sum(map(_cells, text)) <= cells:
        return text
    start, end, room = 0, len(text), cells - 1.0
    while True:  # take characters from both ends in turn while they fit
        from_start = start <= len(text) - end
        room -= _cells(text[start] if from_start else text[end - 1])
        if room < 0:
            return text[:start] + "\N{HORIZONTAL ELLIPSIS}" + text[end:]
        start, end = (start + 1, end) if from_start else (start, end - 1)
