"""Pictures of a computation graph: as SVG drawn by ourselves, or as Graphviz source."""

from __future__ import annotations

import os
import pathlib
import tempfile

from autodiff.pictures.dot import Drawable, scalar_nodes, to_dot, to_graphviz
from autodiff.pictures.svg import to_svg

__all__ = ["Drawable", "draw", "to_dot", "to_graphviz", "to_svg"]

LEGIBLE = 3000  # nodes


def draw(
    graph: Drawable,
    path: str | os.PathLike[str],
    *,
    engine: str = "auto",
    title: str | None = None,
    limit: int | None = LEGIBLE,
) -> pathlib.Path:
    """The path of the picture written: SVG for the suffix .svg, Graphviz source for .dot and .gv.

    The file appears whole or not at all. `engine` ("auto", "own", "dot") and `title` concern SVG. Raises
    ValueError for another suffix and for more than `limit` nodes (None: no limit), FileNotFoundError when the
    directory does not exist.

    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw(Graph(x * x), folder + "/square.svg").name
    'square.svg'
    """
    scalar_nodes(graph)
    target = pathlib.Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".svg", ".dot", ".gv"):
        raise ValueError(
            f"cannot draw {target.name!r}: expected the suffix .svg, .dot or .gv, got {suffix or 'none'}; "
            "graph.to_graphviz().render(format='pdf') makes pdf or png, given the program `dot` of Graphviz"
        )
    if limit is not None and len(graph.nodes) > limit:
        raise ValueError(
            f"a picture of {len(graph.nodes)} nodes is not legible (limit {limit}): draw the graph of a "
            "sub-expression, such as one sample or one unit, or pass limit=None to draw it all the same"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot draw {target.name!r}: there is no directory {str(target.parent)!r}")
    text = to_svg(graph, title, engine=engine) if suffix == ".svg" else to_dot(graph)
    handle, part = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=".part", dir=target.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)  # mkstemp lets the owner only read; a picture is for everybody
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise
    return target
