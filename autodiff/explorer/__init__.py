"""The explorer: one HTML file that steps through backpropagation in a browser, made from a graph; offline.

The page holds the graph as data, and the rows of the table that it uses in JavaScript: it computes everything that it
shows, so that a leaf can be changed in it. It asks for nothing from outside, and its rules forbid it to.
"""

from __future__ import annotations

import html
import json
import os
import pathlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from autodiff.explorer.contents import contents
from autodiff.explorer.javascript import kernels
from autodiff.names import printable
from autodiff.pictures.files import target_of, write
from autodiff.pictures.svg import COLOURS

__all__ = ["Explorer", "page"]

SCRIPTS = ("engine.js", "arrange.js", "picture.js", "panel.js", "page.js")
# role: (light, dark), besides those of all pictures
MORE_COLOURS = {
    "bar": ("#f3f5f8", "#1a1f28"),
    "line": ("#c9ced8", "#3a4351"),
    "accent": ("#6d28d9", "#b79bff"),
    "on-accent": ("#ffffff", "#14181f"),
    "forward": ("#00796b", "#3fd0bd"),
    "backward": ("#b0127b", "#ff77cf"),
    "heavy": ("#e0a800", "#ffd54a"),
}


def page(graph: Any, title: str | None = None, report: Any = None, claims: Mapping[str, Any] | None = None) -> str:
    """The HTML of the page about a graph; see Graph.explore.

    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> text = page(Graph(x * x), title="A <b>square</b>")
    >>> "<title>A &lt;b&gt;square&lt;/b&gt;</title>" in text
    True
    """
    data, rows = contents(graph, None if title is None else printable(title), report, claims)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # no text of the graph can end the element it stands in, nor begin one; half characters would be no UTF-8
    text = (
        re.sub("<(?=!|script)", r"\\u003c", text, flags=re.IGNORECASE)
        .replace("</", "<\\/")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
    text = re.sub("[\ud800-\udfff]", "�", text)
    script = "\n".join([_packed(kernels()), f"const ROWS = {rows};", *(_packed(_file(name)) for name in SCRIPTS)])
    parts = {
        "<!-- title -->": html.escape(data["title"]),
        "/* style */": _packed(_file("style.css")).replace("/* colours */", _colours("light")) + _dark(),
        "<!-- data -->": text,
        "/* script */": script,
    }
    pattern = "|".join(map(re.escape, parts))
    return re.sub(pattern, lambda match: parts[match[0]], _file("page.html"))


def _file(name: str) -> str:
    return resources.files("autodiff.explorer").joinpath(name).read_text(encoding="utf-8")


def _packed(source: str) -> str:
    """A source without its indents and the lines that only comment."""
    lines = (line.strip() for line in source.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


def _colours(scheme: str) -> str:
    return " ".join(f"--{role}: {pair[scheme == 'dark']};" for role, pair in {**COLOURS, **MORE_COLOURS}.items())


def _dark() -> str:
    """The dark colours: where the system asks for them, unless the reader chose light, or where the reader did."""
    return (
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ {_colours('dark')} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {_colours('dark')} }}\n"
        ":root[data-theme=light] { color-scheme: light; }\n"
        f"@media print {{ :root:root {{ color-scheme: light; {_colours('light')} }} }}\n"
    )


class Explorer:
    """The page about a graph: `html` is its text, `save` writes it, and a notebook shows it in a frame."""

    __slots__ = ("html", "name")

    def __init__(self, html: str, name: str) -> None:
        self.html, self.name = html, name

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes the page and returns its path; the suffix is .html. The file appears whole or not at all."""
        return write(target_of(path, (".html", ".htm")), self.html.encode())

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.name)}" '
            'sandbox="allow-scripts" style="width:100%;height:620px;border:1px solid #8888"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<explorer of {self.name}: {len(self.html) // 1024} KiB>"
