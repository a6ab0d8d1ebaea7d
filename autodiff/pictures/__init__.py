"""Pictures of a computation graph: what is shown (scene), where (layout), and how: SVG, PNG, PDF, Graphviz source."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from autodiff.pictures.dot import to_dot, to_graphviz
from autodiff.pictures.files import RENDERED, Picture, rendered, target_of, write
from autodiff.pictures.scene import Drawable, Scene, number, scene
from autodiff.pictures.svg import svg_of, to_svg

__all__ = [
    "Drawable",
    "Picture",
    "Scene",
    "draw",
    "mimebundle",
    "number",
    "rendered",
    "scene",
    "svg_of",
    "svg_view",
    "to_dot",
    "to_graphviz",
    "to_svg",
    "view",
]

LEGIBLE = 150  # nodes; a picture of more collapses by scope
LIMIT = 2000  # boxes; a picture of more is refused
ZOOMS = ("layers", "neurons", "matrices", "scalars")
SUFFIXES = (".svg", *RENDERED, ".dot", ".gv")


def draw(
    graph: Drawable,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    zoom: str | None = None,
    collapse: Any = "auto",
    limit: int | None = LIMIT,
    engine: str = "auto",
    scheme: str = "auto",
    scale: float = 2.0,
) -> pathlib.Path:
    """The path of the picture written, by suffix: .svg, .png, .pdf, or .dot and .gv (Graphviz source).

    zoom: the same network as "layers", "neurons", "matrices" or "scalars", every node a box. collapse: what
    Graph.collapse takes, or None for all nodes; "auto" collapses a graph of more than 150 nodes by scope, and the
    picture says so. limit: more boxes are refused with a ValueError (None: no limit). title: written above. engine:
    "auto", "own" or "dot". scheme: "auto" follows the viewer's, "light" or "dark". scale: pixels of a PNG per px.

    The file appears whole or not at all. Raises ValueError for another suffix, FileNotFoundError when the directory
    does not exist, ModuleNotFoundError for .png and .pdf without the extra `pictures`.

    >>> import tempfile
    >>> from autodiff import Graph, Value
    >>> x = Value(3.0, name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw(Graph(x * x), folder + "/square.svg").name
    'square.svg'
    """
    target = target_of(path, SUFFIXES)
    suffix = target.suffix.lower()
    shown, caption = view(graph, zoom, collapse, limit)
    if suffix in (".dot", ".gv"):
        return write(target, to_dot(shown, caption=caption).encode())
    fixed = "light" if suffix in RENDERED and scheme == "auto" else scheme
    svg = to_svg(shown, title, engine=engine, scheme=fixed, caption=caption)
    return write(target, svg.encode() if suffix == ".svg" else rendered(svg, suffix[1:], scale))


def svg_view(
    graph: Drawable,
    *,
    title: str | None = None,
    zoom: str | None = None,
    collapse: Any = "auto",
    limit: int | None = LIMIT,
    engine: str = "auto",
    scheme: str = "auto",
) -> str:
    """The SVG text that `draw` writes."""
    shown, caption = view(graph, zoom, collapse, limit)
    return to_svg(shown, title, engine=engine, scheme=scheme, caption=caption)


def view(
    graph: Drawable, zoom: str | None = None, collapse: Any = "auto", limit: int | None = LIMIT
) -> tuple[Drawable, str]:
    """(the graph to draw, a caption that says what was left out): see `draw` for zoom, collapse and limit."""
    if zoom is not None:
        if zoom not in ZOOMS:
            raise ValueError(f"zoom={zoom!r}: expected {', '.join(map(repr, ZOOMS))}")
        collapse = _zoomed(graph, zoom)
    whole: Any = getattr(graph, "graph", graph)  # a collapsed graph knows the full one
    count = len(whole.nodes)
    why = ""
    if isinstance(collapse, str) and collapse == "auto":
        if graph is whole and count > LEGIBLE and any(map(_scope, whole.nodes)):
            graph = coarser = _legible(whole)
            why = f": one for every {singular(coarser.to)}, as more than {LEGIBLE} nodes are hard to read; "
            why += "collapse=None draws all"
        elif graph is whole and count > LEGIBLE:
            why = _advice(whole)
    elif collapse is None or collapse is False:
        graph = whole
    else:
        graph = whole.collapse(collapse)
    boxes = len(graph.nodes)
    if limit is not None and boxes > limit:
        raise ValueError(_refusal(graph, whole, limit, collapse))
    if graph is whole:
        return graph, why
    return graph, f"{boxes:,} boxes stand for {count:,} nodes{why}."


def _scope(node: Any) -> tuple[str, ...]:
    return getattr(node, "scope", ())


def singular(to: Any) -> str:
    """What a box stands for where the graph was collapsed to `to`: a neuron, a layer."""
    return str(to).removesuffix("s")


def _zoomed(graph: Any, zoom: str) -> str | None:
    """What to collapse to for a zoom; ValueError where the graph holds nothing of the kind."""
    arrays = graph.nodes[-1].shape != () or not isinstance(graph.nodes[-1].data, float)
    if zoom == "scalars" and arrays:
        raise ValueError(
            "zoom='scalars': this is a graph of array nodes (Tensor), and their numbers are no nodes. Run the same "
            "code on autodiff.scalars(array), or build the network with magnification='scalar'"
        )
    if zoom == "scalars" or (zoom == "matrices" and arrays):
        return None
    return zoom


def _legible(graph: Any) -> Any:
    """The finest collapse by scope that is legible; else the coarsest."""
    neurons = graph.collapse("neurons")
    if len(neurons.nodes) <= LEGIBLE:
        return neurons
    layers = graph.collapse("layers")
    return layers if len(layers.nodes) < len(neurons.nodes) else neurons


def _advice(whole: Any) -> str:
    """The caption of a large picture that had no scope to collapse by."""
    named = sum(1 for node in whole.nodes if node.name)
    names = f"; collapse='names' draws the {named} with a name" if 1 < named <= LEGIBLE else ""
    return (
        f"{len(whole.nodes):,} boxes are hard to read. Nodes made inside of scopes collapse to a box for each{names}."
    )


def _refusal(graph: Any, whole: Any, limit: int, collapse: Any) -> str:
    count = len(graph.nodes)
    ways = []
    if any(map(_scope, whole.nodes)):
        if collapse is None or collapse is False:
            ways.append("leave out collapse=None, or ask for zoom='neurons' or zoom='layers'")
    else:
        ways.append(
            "none of them was made inside a scope, by which it would collapse: record with "
            "`with autodiff.scope('layer 1'):` around its parts"
        )
    named = sum(1 for node in whole.nodes if node.name)
    if named:
        ways.append(f"ask for collapse='names' ({named} nodes have a name)")
    else:
        ways.append("give the nodes of interest a name and ask for collapse='names'")
    ways.append("draw the graph of a sub-expression, such as one sample")
    return f"a picture of {count:,} boxes is not legible (limit {limit:,}). {'; or '.join(ways)}; or pass limit=None"


def mimebundle(graph: Drawable) -> dict[str, str]:
    """What a notebook shows of a graph: a picture and a line of text; the reason alone where there is no picture."""
    text = repr(graph)
    try:
        shown, caption = view(graph)
        return {"image/svg+xml": to_svg(shown, caption=caption), "text/plain": text}
    except ValueError as error:
        return {"text/plain": f"{text}\n{error}"}
