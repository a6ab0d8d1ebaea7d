"""Text in pictures: how wide it will be in a font nobody has measured, what XML can hold of it, and where it breaks."""

from __future__ import annotations

import unicodedata

FONT = "DejaVu Sans Mono, Menlo, Consolas, Liberation Mono, monospace"
CELL = 7.3 / 12  # width of a character in ems of that size, rounded up over these fonts
NAME_CELLS = 26  # a longer name is shortened in the picture and whole in the tooltip


def escaped(text: str) -> str:
    """Text as it stands in XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text_at(x: float, y: float, text: str, look: str) -> str:
    """SVG of a text that stands at (x, y); look: more attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}"{look} xml:space="preserve">{escaped(text)}</text>'


def clean(text: str, keep_lines: bool = False) -> str:
    """Text with what XML cannot hold replaced: control characters, lone surrogates, noncharacters."""
    text = str(text)
    if text.isprintable():  # nearly all are
        return text
    keep = "\n" if keep_lines else ""
    lost = "\N{REPLACEMENT CHARACTER}"
    return "".join(c if c in keep or c.isprintable() else " " if c.isspace() else lost for c in text)


def cells(character: str) -> float:
    """How many monospace cells a character takes, rather too many: other scripts come from other fonts."""
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 2.0
    return 1.0 if character < "\u0530" or "\u1e00" <= character <= "\u22ff" else 2.0


def width_of(text: str, size: float) -> float:
    """The width in px, rather too much, of a text of that font size."""
    return sum(map(cells, text)) * CELL * size


def wrapped(text: str, room: int) -> list[str]:
    """Text in lines of about so many cells, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(text: str, room: int = NAME_CELLS) -> str:
    """Text of at most so many cells, an ellipsis in place of its middle."""
    if sum(map(cells, text)) <= room:
        return text
    start, end, left = 0, len(text), room - 1.0
    while True:  # take characters from both ends in turn while they fit
        from_start = start <= len(text) - end
        left -= cells(text[start] if from_start else text[end - 1])
        if left < 0:
            return text[:start] + "\N{HORIZONTAL ELLIPSIS}" + text[end:]
        start, end = (start + 1, end) if from_start else (start, end - 1)
