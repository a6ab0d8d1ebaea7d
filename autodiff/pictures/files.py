"""Pictures as files: whole or not at all, by their suffix; PNG and PDF through typst, which needs no system package."""

from __future__ import annotations

import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["RENDERED", "Picture", "rendered", "target_of", "write"]

RENDERED = (".png", ".pdf")
MOST_PIXELS = 16_000  # of a PNG's longer side: viewers fail beyond


def target_of(path: str | os.PathLike[str], suffixes: Sequence[str]) -> pathlib.Path:
    """The path to write to; ValueError for another suffix, FileNotFoundError where its directory is missing."""
    target = pathlib.Path(path)
    suffix = target.suffix.lower()
    if suffix not in suffixes:
        listed = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise ValueError(f"cannot draw {target.name!r}: expected the suffix {listed}, got {suffix or 'none'}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot draw {target.name!r}: there is no directory {str(target.parent)!r}")
    return target


def write(target: pathlib.Path, content: bytes) -> pathlib.Path:
    """target, where the content now is; after a failure it holds what it held before."""
    handle, part = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=".part", dir=target.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # mkstemp lets the owner only read; a picture is for everybody
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise
    return target


def rendered(svg: str, format: str, scale: float = 2.0) -> bytes:
    """An SVG as the bytes of a "png", with so many pixels per px, or of a "pdf", whose lines and texts stay such.

    Raises ModuleNotFoundError, saying what to install, where the package typst is missing.
    """
    if not 0.0 < scale < math.inf:
        raise ValueError(f"scale={scale!r}: how many pixels a px has is a number above 0")
    try:
        import typst
    except ImportError as error:
        raise ModuleNotFoundError(
            f"a picture as {format.upper()} needs the package typst, which draws without any system package: "
            "pip install 'chainrule[pictures]' (.svg and .dot need nothing)"
        ) from error
    page = b'#set page(width: auto, height: auto, margin: 0pt, fill: none)\n#image("picture.svg")'
    longest = max(float(part) for part in svg.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split())
    options = {"ppi": 96.0 * min(scale, MOST_PIXELS / longest)} if format == "png" else {}
    compiled: Any = typst.compile  # its stubs do not know of several files in one dict
    found = compiled({"main": page, "picture.svg": svg.encode()}, format=format, **options)
    assert isinstance(found, bytes)
    return found


class Picture:
    """A finished drawing: a notebook shows it, `svg` is its text, and `save` writes it.

    make: gives the SVG in the scheme "auto", "light" or "dark". name: what it shows, in a few words.
    """

    __slots__ = ("make", "name")

    def __init__(self, make: Callable[[str], str], name: str) -> None:
        self.make, self.name = make, name

    @property
    def svg(self) -> str:
        """SVG text, whose colours follow the viewer's scheme."""
        return self.make("auto")

    def save(self, path: str | os.PathLike[str], *, scheme: str = "auto", scale: float = 2.0) -> pathlib.Path:
        """Writes the picture and returns its path: .svg, .png or .pdf; the errors are those of Graph.save."""
        target = target_of(path, (".svg", *RENDERED))
        suffix = target.suffix.lower()
        if suffix not in RENDERED:
            return write(target, self.make(scheme).encode())
        return write(target, rendered(self.make("light" if scheme == "auto" else scheme), suffix[1:], scale))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"<picture of {self.name}>"
