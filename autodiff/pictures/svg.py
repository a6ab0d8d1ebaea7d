"""A Scene as one standalone SVG: no fonts, scripts or ids, so that it also fits into any page.

Colours stand as attributes, so that every viewer shows them; scheme "auto" adds a style sheet of classes named cr-...
that a viewer with a dark scheme follows. The picture paints its own ground, and so it is legible on any page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autodiff.pictures.layout import Layout, Point, Route, layout
from autodiff.pictures.scene import Arrow, Box, Drawable, Scene, crowded, scene, uncrowded
from autodiff.pictures.text import CELL, FONT, clean, escaped, shortened, text_at, width_of, wrapped

__all__ = ["SCHEMES", "Paint", "drawn_arrow", "drawn_box", "page", "placed", "svg_of", "to_svg"]

TEXT, NAME, TITLE = 12.0, 13.0, 18.0  # font sizes, px
MARGIN = 20.0
PAD = 10.0  # from a box's border to its text
HEADER, LINE = 25.0, 18.0  # heights of a box's first line and of the others
NUMBER_CELLS = 8  # room for most numbers, so that boxes stay put when gradients come in
STACK = 5.0  # how far the second sheet of a group peeps out
TIP = (10.0, 4.2)  # an arrow's head: length, half width, for a line of the usual width
THIN, USUAL, WIDE = 1.0, 1.6, 5.0  # widths of lines: an exact zero, before backward, the largest contribution
LEAST = 1.4  # width of the smallest contribution that is not zero
DASHES = "7 4"
TIMES = "\N{MULTIPLICATION SIGN}"

# role: (light, dark). Blue and orange differ for every kind of colour vision, and in lightness too.
COLOURS = {
    "ground": ("#ffffff", "#14181f"),
    "ink": ("#111827", "#eef1f6"),
    "faint": ("#596273", "#a3adbd"),
    "alarm": ("#c00018", "#ff7b86"),
    "positive": ("#0b63b0", "#5aaef5"),
    "negative": ("#c2500a", "#ff9c4a"),
    "mixed": ("#5b5f6b", "#b8becb"),
    "zero": ("#b3b9c4", "#59616e"),
    "unknown": ("#4b5563", "#9aa4b4"),
    "parameter": ("#f4fbf1", "#17251a"),
    "parameter-head": ("#d3efca", "#274a2c"),
    "parameter-line": ("#2f7d32", "#7cc682"),
    "input": ("#f2f8fe", "#13212f"),
    "input-head": ("#d3e7fa", "#1c4062"),
    "input-line": ("#0b63a5", "#6db2ea"),
    "operation": ("#ffffff", "#1b212a"),
    "operation-head": ("#eceef1", "#2d3541"),
    "operation-line": ("#374151", "#a9b3c3"),
    "output": ("#fffaf2", "#2b2013"),
    "output-head": ("#ffe3bd", "#5a3c14"),
    "output-line": ("#b93c00", "#ffac5e"),
}
FRAMES = {"parameter": (1.6, 12.0), "input": (1.6, 12.0), "operation": (1.4, 3.0), "output": (3.0, 3.0)}
SCHEMES = ("auto", "light", "dark")


class Paint:
    """Colours as attributes: paint.fill("ink") gives ' fill="#111827" class="cr-ink"'."""

    __slots__ = ("dark", "marked")

    def __init__(self, scheme: str) -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"scheme={scheme!r}: expected {', '.join(map(repr, SCHEMES))}")
        self.dark, self.marked = scheme == "dark", scheme == "auto"

    def fill(self, role: str) -> str:
        return f' fill="{COLOURS[role][self.dark]}"' + (f' class="cr-{role}"' if self.marked else "")

    def stroke(self, role: str) -> str:
        """For lines, which have no filling."""
        return f' fill="none" stroke="{COLOURS[role][self.dark]}"' + (f' class="cr-s-{role}"' if self.marked else "")

    def both(self, inside: str, line: str) -> str:
        """For a shape that has both."""
        marks = f' class="cr-{inside} cr-s-{line}"' if self.marked else ""
        return f' fill="{COLOURS[inside][self.dark]}" stroke="{COLOURS[line][self.dark]}"{marks}'

    def style(self) -> str:
        if not self.marked:
            return ""
        rules = [f".cr-{role}{{fill:{dark}}}.cr-s-{role}{{stroke:{dark}}}" for role, (_, dark) in COLOURS.items()]
        return f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"


def to_svg(
    graph: Drawable, title: str | None = None, *, engine: str = "auto", scheme: str = "auto", caption: str = ""
) -> str:
    """SVG text: a box per node (name, value, grad) and an arrow per edge (its local derivative, unless it is 1).

    Left to right. An arrow is blue where its contribution is positive, orange and dashed where it is negative, the
    wider the larger it is, thin and grey where it is exactly 0. `title` is written above, `caption` below; `engine`
    is that of `layout`; `scheme` "light" or "dark" fixes the colours, which "auto" leaves to the viewer. Sizes are
    in px. Hovering shows full precision, and local times upstream = contribution.

    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> picture = to_svg(Graph(x * x), title="A square")
    >>> picture.startswith("<svg "), "<title>A square</title>" in picture
    (True, True)
    """
    return svg_of(scene(graph, caption), title, engine=engine, scheme=scheme)


def placed(scene: Scene, engine: str = "auto") -> tuple[Layout, list[tuple[float, float]], list[tuple[float, float]]]:
    """(the Layout of a scene, the sizes of its boxes, the sizes of its arrows' labels)."""
    sizes = [_box_size(box) for box in scene.boxes]
    bare = (0.0, 0.0) if crowded(scene) else (6.0, 10.0)
    labels = [(width_of(clean(a.label), TEXT) + 8.0, 17.0) if a.label else bare for a in scene.arrows]
    return layout(sizes, [(arrow.tail, arrow.head) for arrow in scene.arrows], engine, labels=labels), sizes, labels


def svg_of(scene: Scene, title: str | None = None, *, engine: str = "auto", scheme: str = "auto") -> str:
    """A Scene as SVG text; see `to_svg`. Of very many arrows only the tooltips tell the local derivatives."""
    paint, scene = Paint(scheme), uncrowded(scene)
    at, sizes, labels = placed(scene, engine)
    parts = []
    arrows = list(zip(scene.arrows, scene.weights, at.routes, labels, strict=True))
    # zeros at the bottom, then wide before thin: where arrows share a line, all of them are seen
    for arrow, weight, route, size in sorted(arrows, key=lambda a: (a[0].sign != 0, -a[1])):
        parts.append(drawn_arrow(paint, arrow, weight, route, size))
    for box, centre, size in zip(scene.boxes, at.centres, sizes, strict=True):
        parts.append(drawn_box(paint, box, centre, size))
    about = (
        f"{len(scene.boxes)} boxes and {len(scene.arrows)} arrows from operands to results. An arrow carries the "
        "local derivative d(child)/d(parent), unless it is 1; blue: its contribution is positive, orange and dashed: "
        "negative, thin and grey: exactly 0. grad is what backward passes have stored; after one from this output it "
        f"is the sum of upstream {TIMES} local over the arrows out."
    )
    name = title or f"Computation graph of {scene.output}"
    return page(paint, (at.width, at.height), parts, name, about, heading=title or "", caption=scene.caption)


def page(
    paint: Paint,
    size: tuple[float, float],
    parts: Sequence[str],
    name: str,
    about: str,
    *,
    heading: str = "",
    caption: str = "",
) -> str:
    """The SVG of a drawing of this size with margins, its accessible name and description, heading and caption."""
    shown = shortened(clean(heading), 200)
    lines = wrapped(clean(caption), max(int((size[0] / TEXT) / CELL), 60))
    top = MARGIN + (TITLE + 16.0 if shown else 0.0)
    width = max([size[0], width_of(shown, TITLE), *[width_of(line, TEXT) for line in lines]]) + 2 * MARGIN
    below = top + size[1] + (14.0 if lines else 0.0)
    height = below + LINE * len(lines) + MARGIN
    found = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="{FONT}" font-size="{TEXT:g}"'
        f"{paint.fill('ink')}>",
        f"<title>{escaped(clean(name))}</title>",
        f"<desc>{escaped(clean(about))}</desc>",
        paint.style(),
        f'<rect width="100%" height="100%"{paint.fill("ground")}/>',
    ]
    if shown:
        found.append(text_at(MARGIN, MARGIN + TITLE, shown, f' font-size="{TITLE:g}" font-weight="bold"'))
    found += [f'<g transform="translate({(width - size[0]) / 2:.1f} {top:.1f})">', *parts, "</g>"]
    for number, line in enumerate(lines):
        found.append(text_at(MARGIN, below + LINE * (number + 1) - 5.0, line, paint.fill("faint")))
    return "\n".join([part for part in found if part] + ["</svg>", ""])


def _box_size(box: Box) -> tuple[float, float]:
    name, tag = shortened(clean(box.name)), shortened(clean(box.tag))
    cells = max([len(caption) + 2 + max(len(text), NUMBER_CELLS) for caption, text, _ in box.rows])
    header = width_of(name, NAME) + (width_of(tag, TEXT) + 24.0 if tag else 0.0)
    extra = STACK if box.stacked else 0.0
    return max(header, cells * CELL * TEXT) + 2 * PAD + extra, HEADER + LINE * len(box.rows) + 8.0 + extra


def drawn_box(paint: Paint, box: Box, centre: Point, size: tuple[float, float]) -> str:
    """SVG of a box about a centre."""
    stroke, round_ = FRAMES[box.kind]
    width, height = size
    x, y = centre[0] - width / 2, centre[1] - height / 2
    line = paint.stroke(f"{box.kind}-line")
    parts = [f"<g><title>{escaped(clean(box.tip, keep_lines=True))}</title>"]
    if box.stacked:
        width, height = width - STACK, height - STACK
        frame = f'x="{x + STACK:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_:g}"'
        y += STACK
        parts.append(f"<rect {frame}{paint.fill(f'{box.kind}-head')}/>")
        parts.append(f'<rect {frame}{line} stroke-width="{min(stroke, 1.4):g}"/>')
    frame = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_:g}"'
    r = min(round_, HEADER)
    band = (
        f"M{x:.1f} {y + HEADER:.1f}v{r - HEADER:.1f}a{r:g} {r:g} 0 0 1 {r:g} {-r:g}h{width - 2 * r:.1f}"
        f"a{r:g} {r:g} 0 0 1 {r:g} {r:g}v{HEADER - r:.1f}z"
    )
    parts.append(f'<rect {frame}{paint.fill(box.kind)}/><path d="{band}"{paint.fill(f"{box.kind}-head")}/>')
    parts.append(f'<rect {frame}{line} stroke-width="{stroke:g}"/>')
    parts.append(text_at(x + PAD, y + 17.5, shortened(clean(box.name)), f' font-size="{NAME:g}" font-weight="bold"'))
    tag = shortened(clean(box.tag))
    if tag:
        tag_width = width_of(tag, TEXT) + 10.0
        left = x + width - PAD - tag_width + 4
        pill = f'x="{left:.1f}" y="{y + 4:.1f}" width="{tag_width:.1f}" height="17" rx="8"'
        parts.append(f'<rect {pill}{paint.fill("ground")}/><rect {pill}{line} stroke-width="0.8"/>')
        parts.append(text_at(left + tag_width / 2, y + 16.7, tag, ' text-anchor="middle"'))
    for row, (caption, shown, state) in enumerate(box.rows):
        base = y + HEADER + LINE * row + 16.0
        parts.append(text_at(x + PAD, base, caption, paint.fill("faint")))
        ink = {"known": "ink", "none": "faint", "alarm": "alarm"}[state]
        look = f' text-anchor="end"{paint.fill(ink)} font-weight="bold"'
        parts.append(text_at(x + width - PAD, base, shown, look))
    return "".join([*parts, "</g>"])


def look(arrow: Arrow, weight: float) -> tuple[str, float, bool]:
    """(colour role, line width, whether dashed) of an arrow with this share of the largest contribution."""
    if arrow.alarm:
        return "alarm", WIDE, False
    if arrow.sign is None:
        return "unknown", USUAL, False
    if arrow.sign == 0:
        return "zero", THIN, False
    role = "mixed" if isinstance(arrow.sign, str) else "positive" if arrow.sign > 0 else "negative"
    return role, LEAST + (WIDE - LEAST) * math.sqrt(weight), arrow.sign == -1


def drawn_arrow(paint: Paint, arrow: Arrow, weight: float, route: Route, size: tuple[float, float]) -> str:
    """SVG of an arrow along its route, with its label."""
    role, stroke, dashed = look(arrow, weight)
    line, head = _line(route.curve, math.sqrt(max(stroke, USUAL) / USUAL))
    dashes = f' stroke-dasharray="{DASHES}"' if dashed else ""
    parts = [
        f"<g><title>{escaped(clean(arrow.tip, keep_lines=True))}</title>"
        f'<path d="{line}"{paint.stroke(role)} stroke-width="{stroke:.2g}"{dashes}/>'
        f'<path d="{head}"{paint.fill(role)}/>'
    ]
    label = clean(arrow.label)
    if label:
        (x, y), (width, height) = route.label, size
        ground = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"'
        ink = "alarm" if arrow.alarm else "faint" if arrow.sign == 0 else "ink"
        parts.append(f"<rect {ground}{paint.fill('ground')}/>")
        parts.append(text_at(x, y + 4.3, label, f' text-anchor="middle"{paint.fill(ink)}'))
    return "".join([*parts, "</g>"])


def _line(curve: Sequence[Point], grown: float = 1.0) -> tuple[str, str]:
    """Path data of the line, cut short where the head begins, and of the head, so many times its usual size."""
    *_, before, end = curve
    near = next((point for point in reversed(curve) if math.dist(point, end) > 1e-6), (end[0] - 1.0, end[1]))
    reach = math.dist(near, end)
    ux, uy = (end[0] - near[0]) / reach, (end[1] - near[1]) / reach
    length, half = TIP[0] * min(grown, 1.15), TIP[1] * grown  # a layout keeps 12 px straight for the head
    base = (end[0] - length * ux, end[1] - length * uy)
    shift = min(length - 1.0, reach)
    stop = (end[0] - shift * ux, end[1] - shift * uy)
    before = (before[0] - shift * ux, before[1] - shift * uy) if math.dist(before, end) < length else before
    points = [*curve[1:-2], before, stop]
    line = f"M{curve[0][0]:.1f} {curve[0][1]:.1f}C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    left = (base[0] - half * uy, base[1] + half * ux)
    right = (base[0] + half * uy, base[1] - half * ux)
    return line, "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (end, left, right)) + "z"
