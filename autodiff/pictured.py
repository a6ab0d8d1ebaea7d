"""The drawing methods that whatever can be drawn has: a Graph and a Collapsed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Pictured:
    """What can be drawn: the drawing methods that a Graph and a Collapsed share.

    Drawing is imported when it is asked for: it would double the time of `import autodiff`.
    """

    def to_svg(self, **options: Any) -> str:
        """The picture as SVG text; the options are those of `save`, but for scale."""
        from autodiff.pictures import svg_view

        return svg_view(self, **options)  # type: ignore[arg-type]

    def to_dot(self, *, zoom: str | None = None, collapse: Any = None) -> str:
        """The graph in Graphviz's language: value, grad, and the local derivative on every edge.

        All nodes, however many; or collapsed, where zoom or collapse ask for it as in `save`.
        """
        from autodiff.pictures import to_dot, view

        if zoom is None and collapse is None:
            return to_dot(self)  # type: ignore[arg-type]
        shown, caption = view(self, zoom, collapse, None)  # type: ignore[arg-type]
        return to_dot(shown, caption=caption)

    def to_graphviz(self, *, zoom: str | None = None, collapse: Any = None) -> Any:
        """The same as a graphviz.Digraph, which notebooks draw where Graphviz's `dot` is installed."""
        from autodiff.pictures import to_graphviz, view

        if zoom is None and collapse is None:
            return to_graphviz(self)  # type: ignore[arg-type]
        shown, caption = view(self, zoom, collapse, None)  # type: ignore[arg-type]
        return to_graphviz(shown, caption=caption)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Writes a picture and returns its path: .svg, .png, .pdf or .dot; see `pictures.draw` for the options."""
        from autodiff.pictures import draw

        return draw(self, path, **options)  # type: ignore[arg-type]

    def explore(
        self, path: str | Path | None = None, *, title: str | None = None, report: Any = None, claims: Any = None
    ) -> Any:
        """One HTML page in which backpropagation through the graph is stepped through: its path, or the page itself.

        It works from a file, offline: forward and backward a node at a time, the receipt of every node, zoom levels
        whose groups open in place, and leaves that can be changed, upon which the page computes everything anew.
        Without a path an Explorer, which a notebook shows. title: its heading. report: a doctor's, whose causes are
        marked; claims: {name of a node: what somebody says its gradient is}, shown beside the truth.

        Raises ValueError for another suffix than .html, FileNotFoundError when the directory does not exist.

        >>> import tempfile
        >>> from autodiff import Graph, Value
        >>> x = Value(3.0, name="x")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Graph(x * x).explore(folder + "/square.html").name
        'square.html'
        """
        from autodiff.explorer import Explorer, page

        graph: Any = getattr(self, "graph", self)  # a collapsed graph knows the full one; the page has its own levels
        explorer = Explorer(page(graph, title, report, claims), title or graph.label(graph.output))
        return explorer if path is None else explorer.save(path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: the picture, and the repr for where there are no pictures. Never raises."""
        try:
            from autodiff.pictures import mimebundle

            return mimebundle(self)  # type: ignore[arg-type]
        except Exception:  # a cell that computed something must not end in an error for its picture
            return {"text/plain": object.__repr__(self)}
