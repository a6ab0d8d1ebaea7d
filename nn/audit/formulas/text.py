"""A formula written out again, in the notation of whoever wrote it: their names, indices, transposes and products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nn.audit.formulas.tree import DATA, GRADIENTS, INFIX, Node, is_scalar, layer_of, walk

LEVEL = {
    "greater": 0,
    "less": 0,
    "add": 1,
    "sub": 1,
    "over": 1.6,
    "times": 2,
    "matmul": 2,
    "div": 2,
    "neg": 3,
    "pow": 4,
}


@dataclass(frozen=True)
class Style:
    """How somebody writes. The default is NumPy's notation; what `seen` lacks follows from the other fields.

    seen: {quantity: (template, name)}: {"dW": ("dL/d{}", "W")}, where the index goes behind the name. index: a
    template such as "[{}]", "_{}", "^{}", "^{{({})}}", "{}" for dW3; letter: k or l; bare: (base, shift) of the layer
    that is not written, if there is one.
    times, matmul: the signs, "" for side by side, "np.dot" for a function. f, prime: the activation and its mark;
    f_index: whether it carries its layer. samples: how many there are. slope: d one / d another. fraction: \\frac{}{}.
    module, axis, axes, keepdims: "np.", "axis=", what axes 0 and 1 are, ", keepdims=True", where sums are so written.
    """

    seen: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    gradient: str = "d{}"
    index: str = "[{}]"
    letter: str = "k"
    bare: tuple[str, int] | None = None
    transpose: str = ".T"
    matmul: str = "@"
    times: str = "*"
    f: str = "f"
    prime: str = "'"
    f_index: bool = False
    bold: bool = False
    samples: str = "n"
    slope: str = "d{}/d{}"
    fraction: bool = False
    module: str = ""
    axis: str = ""
    axes: tuple[str, ...] = ()
    keepdims: str = ""

    def quantity(self, node: Node) -> str:
        """A name with its layer."""
        key = node.value
        if node.base == "L" and not node.shift and key == "da" and ("dyhat" in self.seen or "da" not in self.seen):
            template, written = self.seen.get(
                "dyhat", (self.gradient_template(), self.seen.get("yhat", ("", "yhat"))[1])
            )
            return template.format(written + self.units(node))
        template, written = self.seen.get(key, self.derived(key))
        if key in DATA:
            return self.bolder(written) + self.units(node)
        return template.format(self.bolder(written) + self.indexed(node))

    def derived(self, key: str) -> tuple[str, str]:
        """The template and name of a quantity that the formula did not have, after those that it had."""
        if key in GRADIENTS:
            base = self.seen.get(key[1:], self.derived(key[1:]))[1]
            return self.gradient_template(), base
        capital = any(written.lstrip("d")[:1] in ("A", "Z") for _, written in self.seen.values())
        small = any(key == "W" and written == "w" for _, written in self.seen.values())
        return "{}", key.upper() if capital and key in ("a", "z") else "w" if small else key

    def gradient_template(self) -> str:
        """How gradients are written."""
        return next(
            (template for template, _ in self.seen.values() if "d{}" in template or template != "{}"), self.gradient
        )

    def bolder(self, written: str) -> str:
        """In LaTeX's bold face, if that is the notation."""
        return f"\\mathbf{{{written}}}" if self.bold and len(written) == 1 else written

    def layer(self, node: Node) -> str:
        """k-1, L or 3."""
        base = self.letter if node.base == "k" else node.base
        return (base + f"{node.shift:+d}" if node.shift else base) if base else str(node.shift)

    def indexed(self, node: Node) -> str:
        """The layer and the units as they stand behind a name."""
        if self.bare == (node.base, node.shift):
            return self.units(node)
        if self.bare == (node.base, node.shift + 1) and not node.units:
            return "_prev"
        layer, index = self.layer(node), self.index
        if index == "{}" and node.base:
            index = "[{}]"
        if node.units and index == "_{}":
            index = "^{{({})}}"
        crowded = index in ("_{}", "^{}") and len(layer) > 1
        return (index[0] + f"{{{layer}}}" if crowded else index.format(layer)) + self.units(node)

    def units(self, node: Node) -> str:
        """The letters of an index formula."""
        return "" if not node.units else f"_{node.units}" if len(node.units) == 1 else f"_{{{node.units}}}"


PLAIN = Style()
TUTORIAL = Style(gradient="dL/d{}", index="_{}", transpose="^T", matmul="", times="\\odot", f_index=True)


def style_of(text: str, plain: str, seen: Mapping[str, tuple[str, str]], marks: Mapping[str, Any]) -> Style:
    """The notation of a text, from what its reader saw; where a thing did not occur, as NumPy or LaTeX have it."""
    d = "∂" if "∂" in text else "\\partial " if "\\partial" in text else "d"
    slope = f"\\frac{{{{{d}{{}}}}}}{{{{{d}{{}}}}}}" if "frac" in text else f"{d}{{}}/{d}{{}}"
    templates = {}
    for key, (template, written) in seen.items():
        how, _, loss = template.partition(" ")
        if how == "frac":
            template = f"\\frac{{{{{d}{loss}}}}}{{{{{d}{{}}}}}}"
        elif how == "over":
            template = f"{d}{loss}/{d}{{}}"
        templates[key] = (template, written)
    above = marks.get("index", "")[:1] in ("_", "^")
    over = any("/" in template or "\\" in template for template, _ in templates.values())
    defaults: dict[str, Any] = {}
    if above or over or "\\" in text:
        latex = "\\" in text or not ("*" in plain or "@" in plain)
        defaults = {"index": "_{}", "transpose": "^T", "times": "\\odot" if latex else "*"}
        defaults["matmul"] = "@" if "@" in plain else ""
        defaults["gradient"] = "dL/d{}" if over or "delta" in plain else "d{}"
    signs = {"bold": "\\mathbf" in text, "slope": slope, "fraction": "frac" in text}
    return Style(**{"seen": templates, **defaults, **marks, **signs})


def text_of(node: Node, style: Style = PLAIN) -> str:
    """The formula in the notation of a style."""

    def inner(part: Node, level: float) -> str:
        written = text_of(part, style)
        return f"({written})" if level_of(part) < level else written

    def level_of(part: Node) -> float:
        # an elementwise sign binds less than factors that stand side by side
        loose = style.matmul == "" and part.kind == "times" and not any(map(is_scalar, part.parts))
        if part.kind in ("times", "matmul") and _sign(part, style).startswith("np."):
            return 9
        if part.kind == "div" and style.fraction:
            return 9
        return 1.5 if loose and not _indexed(part) else LEVEL.get(part.kind, 9)

    kind, parts = node.kind, node.parts
    if kind == "number":
        return f"{node.value:g}"
    if kind == "size":
        return style.samples if node.value == "n" else "n_L" if style.samples == "m" else "m"
    if kind == "name":
        return style.quantity(node)
    if kind == "div" and style.fraction:
        return f"\\frac{{{text_of(parts[0], style)}}}{{{text_of(parts[1], style)}}}"
    if kind in INFIX:
        sign = _sign(node, style)
        if sign.startswith("np."):
            return f"{sign}({', '.join(text_of(part, style) for part in parts)})"
        level = level_of(node)
        left, right = inner(parts[0], level), inner(parts[1], 4 if level == 2 else 1 + int(level))
        return f"{left} {sign} {right}" if sign else f"{left} {right}"
    if kind == "neg":
        return f"-{inner(parts[0], 3)}"
    if kind == "pow":
        sign = "^" if "^" in style.transpose else "**"
        return f"{inner(parts[0], 5)}{sign}{node.value:g}"
    if kind == "transpose":
        written = inner(parts[0], 5)
        crowded = "^" in style.transpose and ("/" in written or "^" in written or "\\frac" in written)
        return (f"({written})" if crowded and written[0] != "(" else written) + style.transpose
    if kind == "over":
        return f"\\sum_{node.value} {inner(parts[0], 2)}"
    if kind == "slope":
        return style.slope.format(text_of(parts[0], style), text_of(parts[1], style))
    if kind == "extent":
        return f"{text_of(parts[0], style)}.shape[{node.value}]"
    arguments = ", ".join(text_of(part, style) for part in parts)
    if kind in ("f", "f'"):
        layer = (node.base, node.shift)
        told = style.f_index or layer != layer_of(parts[0], layer)
        index = style.indexed(Node("f", (), None, *layer)) if told else ""
        prime = style.prime if kind == "f'" else ""
        return f"{style.f}{prime}({arguments})" if not index else f"{style.f}{index}{prime}({arguments})"
    if kind == "call":
        return f"{node.value}({arguments})"
    if kind in ("sum", "mean") and node.value in style.axes:
        return f"{style.module}{kind}({arguments}, {style.axis}{style.axes.index(node.value)}{style.keepdims})"
    return f"{kind}({arguments}{', ' + node.value if node.value else ''})"


def _indexed(node: Node) -> bool:
    return any(part.units for part in walk(node))


def _sign(node: Node, style: Style) -> str:
    if node.kind not in ("times", "matmul"):
        return INFIX[node.kind]
    sign = style.times if node.kind == "times" else style.matmul
    if node.kind == "times" and (any(map(is_scalar, node.parts)) or _indexed(node)):
        return "" if style.matmul == "" else "*"
    return sign
