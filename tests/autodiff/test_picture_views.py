"""What a picture shows: which boxes of large graphs, how contributions look, networks at every zoom, array graphs."""

from __future__ import annotations

import builtins
import math
import re
import subprocess

import numpy as np
import pytest

import nn
from autodiff import Graph, Tensor, Value, scope
from autodiff.pictures import draw, mimebundle, scene, to_dot, to_svg, view
from autodiff.pictures.svg import COLOURS, placed
from tests.autodiff.test_layout import faults
from tests.drawings import HAS_DOT, SVG, Drawn, Node, network, parsed, shown, square
from tests.random_graphs import build, chain


def trained(samples: int, magnification: str = "scalar"):
    """(network, loss) on a batch, after a backward pass."""
    net = nn.MLP(2, [4, 3, 1], activations=["tanh", "relu", "sigmoid"], seed=3, magnification=magnification)
    X = np.random.RandomState(0).randn(samples, 2)
    _, a = net.trace(X)
    loss = np.mean((a[-1] - (X[:, :1] > 0)) ** 2)
    loss.name = "L"
    loss.backward()
    return net, loss


def boxes_of(svg: str) -> list[str]:
    return [group.find(SVG + "text").text for group in parsed(svg).iter(SVG + "g") if group.findall(SVG + "rect")[1:]]


def caption_of(graph) -> str:
    """The line of Graphviz source with the caption of the layers."""
    return next(line + "\n" for line in graph.to_dot(zoom="layers").split("\n") if line.startswith("\tlabel="))


# ------------------------------------------------------------------------------------------- how many boxes


def test_a_large_graph_collapses_by_scope_on_its_own_and_says_so(tmp_path):
    _, loss = trained(8)
    graph = Graph(loss)
    assert len(graph) > 400
    text = graph.save(tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "layer 2 · neuron 3" in shown(text)
    said = f"10 boxes stand for {len(graph):,} nodes: one for every neuron, as more than 150 nodes are hard to read; "
    assert said + "collapse=None draws all." in " ".join(shown(text))
    assert said in graph.save(tmp_path / "a.dot").read_text(encoding="utf-8")
    assert "image/svg+xml" in graph._repr_mimebundle_()
    whole = graph.to_svg(collapse=None, engine="own")
    assert "boxes stand for" not in whole
    assert len(boxes_of(whole)) >= len(graph)
    assert graph.to_svg() == text
    assert graph.to_dot().count(" -> ") == len(graph.edges)  # this is for programs
    assert 'label="10 boxes' in graph.to_dot(collapse="neurons")
    assert graph.collapse("layers").to_dot() == graph.to_graphviz(zoom="layers").source.replace(caption_of(graph), "")


def test_a_small_graph_is_drawn_whole_and_a_large_one_without_scopes_too():
    _, loss = trained(1)
    small = Graph(loss)
    assert len(small) <= 150
    assert view(small) == (small, "")
    plain = Graph(chain(400, Value(1.0, "x")))
    shown, caption = view(plain)
    assert shown is plain
    assert caption == "401 boxes are hard to read. Nodes made inside of scopes collapse to a box for each."
    assert view(plain, collapse=None) == (plain, "")  # as it was asked for
    with scope("layer 1"):
        y = chain(150, Value(1.0, "x"))
    at_most, more = Graph(y.parents[0]), Graph(y)
    assert len(at_most) == 150
    assert view(at_most)[0] is at_most
    assert view(more)[0] is not more


def test_more_neurons_than_are_legible_become_layers():
    net = nn.MLP(1, [130, 25, 1], seed=0)
    graph = Graph(net([Value(1.0, "x")]))
    boxes, caption = view(graph)
    assert [boxes.label(box) for box in boxes.nodes] == ["x", "layer 1", "layer 2", "layer 3"]
    assert "one for every layer" in caption


@pytest.mark.parametrize("save", [True, False])
def test_above_two_thousand_without_scopes_it_refuses_politely(save, tmp_path):
    y = chain(2_000, Value(1.0, "x"))
    graph = Graph(y)
    words = r"2,001 boxes is not legible \(limit 2,000\).*autodiff\.scope\('layer 1'\).*collapse='names'.*limit=None"
    if save:
        with pytest.raises(ValueError, match=words):
            graph.save(tmp_path / "a.svg")
        assert list(tmp_path.iterdir()) == []
        assert len(shown(graph.save(tmp_path / "a.svg", collapse="names").read_text(encoding="utf-8"))) < 20
        assert graph.save(tmp_path / "b.svg", limit=None).exists()
    else:
        bundle = graph._repr_mimebundle_()
        assert list(bundle) == ["text/plain"]
        assert re.search(words, bundle["text/plain"])
    with scope("layer 1"):
        y = chain(3_000, y)
    with pytest.raises(ValueError, match="leave out collapse=None, or ask for zoom='neurons'"):
        Graph(y).save(tmp_path / "c.svg", collapse=None)


# ------------------------------------------------------------------------------------------- zoom


def test_zoom_shows_the_same_network_as_layers_matrices_and_scalars(tmp_path):
    net, loss = trained(2)
    graph = Graph(loss, parameters=net)
    names = {}
    for zoom in ("layers", "neurons", "matrices", "scalars"):
        text = graph.save(tmp_path / f"{zoom}.svg", zoom=zoom).read_text(encoding="utf-8")
        names[zoom] = shown(text)
    assert {"inputs", "layer 1", "layer 2", "layer 3", "L"} <= set(names["layers"])
    assert {"W1", "b1", "z1", "a1", "W3", "b3"} <= set(" ".join(names["matrices"]).split())
    assert {"w1_42", "b3_1"} <= set(names["scalars"])
    counts = [len(names[zoom]) for zoom in ("layers", "neurons", "matrices", "scalars")]
    assert counts == sorted(counts)
    with pytest.raises(ValueError, match="expected 'layers', 'neurons', 'matrices', 'scalars'"):
        graph.save(tmp_path / "a.svg", zoom="atoms")


def test_zoom_into_an_array_network_ends_at_matrices():
    _, loss = trained(20, "array")
    graph = Graph(loss)
    layers, _ = view(graph, zoom="layers")
    assert [layers.label(box) for box in layers.nodes] == ["X", "layer 1", "layer 2", "layer 3", "L"]
    assert view(graph, zoom="matrices")[0] is graph
    with pytest.raises(ValueError, match=r"autodiff\.scalars\(array\).*magnification='scalar'"):
        view(graph, zoom="scalars")


# ------------------------------------------------------------------------------------------- how an arrow looks


def looks(svg: str) -> dict[str, tuple[str, float, bool]]:
    """{"parent → child": (colour, width, dashed)} of the arrows."""
    found = {}
    for group in parsed(svg).iter(SVG + "g"):
        paths = group.findall(SVG + "path")
        if len(paths) == 2:
            title = group.find(SVG + "title").text.split("\n")[0]
            found[title] = (
                paths[0].get("stroke"),
                float(paths[0].get("stroke-width")),
                paths[0].get("stroke-dasharray") is not None,
            )
    return found


def test_an_arrow_shows_the_sign_and_the_size_of_its_contribution():
    a, b, c, d = (Node(1.0, name, reached=True) for name in "abcd")
    y = Node(1.0, "y", "f", ((a, 4.0), (b, -4.0), (c, 0.0), (d, 0.5)), grad=-2.0, reached=True)
    found = looks(to_svg(Drawn(a, b, c, d, y), scheme="light"))
    positive, negative, zero = (COLOURS[role][0] for role in ("positive", "negative", "zero"))
    assert {name: (colour, dashed) for name, (colour, _, dashed) in found.items()} == {
        "a → y": (negative, True), "b → y": (positive, False), "c → y": (zero, False), "d → y": (negative, True),
    }  # fmt: skip
    width = {name[0]: width for name, (_, width, _) in found.items()}
    assert width["a"] == width["b"] > width["d"] > width["c"]
    y.grad = float("nan")
    assert {colour for colour, _, _ in looks(to_svg(Drawn(a, b, c, d, y), scheme="light")).values()} == {
        COLOURS["alarm"][0]
    }


def test_a_dead_relu_is_visible_at_once():
    x, w = Value(-1.5, "x"), Value(2.0, "w")
    h = (w * x).relu()
    loss = (h - 1.0) ** 2
    loss.backward()
    found = looks(to_svg(Graph(loss), scheme="light"))
    grey = [name for name, (colour, width, _) in found.items() if (colour, width) == (COLOURS["zero"][0], 1.0)]
    assert len(grey) == 3  # w and x into the product, and the product into the relu


def test_an_edge_is_labelled_unless_its_local_derivative_is_1():
    a = Value(2.0, "a")
    b = a + a
    b.name = "b"
    assert {arrow.label for arrow in scene(Graph(b)).arrows} == {""}
    assert [arrow.label for arrow in scene(Graph(b * b)).arrows[-2:]] == ["4", "4"]
    assert [arrow.label for arrow in scene(Graph(-a)).arrows] == ["−1"]
    assert "local = d(b)/d(a) = 1.0" in to_svg(Graph(b))  # but hovering tells


def test_there_is_no_hyphen_for_a_minus():
    x = Value(-3.5, "x")
    y = -x - 2e-5
    y.backward()
    texts = shown(to_svg(Graph(y * -0.001)))
    assert any("−" in text for text in texts)
    assert not [text for text in texts if "-" in text]


def test_light_and_dark_have_the_same_shapes_and_legible_colours():
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a, b):
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for scheme in (0, 1):
        for ground in ("ground", "operation", "operation-head", "parameter", "input", "output"):
            for ink in ("ink", "faint"):
                assert contrast(COLOURS[ink][scheme], COLOURS[ground][scheme]) > 4.5  # WCAG AA for text
        for line in ("positive", "negative", "mixed", "unknown", "alarm"):
            assert contrast(COLOURS[line][scheme], COLOURS["ground"][scheme]) > 3.0  # WCAG AA for graphics
    light, dark = (to_svg(square(), scheme=scheme) for scheme in ("light", "dark"))
    strip = re.compile("#[0-9a-f]{6}")
    assert strip.sub("", light) == strip.sub("", dark)
    auto = to_svg(square())
    assert strip.findall(light)[0] in auto
    assert "@media (prefers-color-scheme:dark)" in auto
    with pytest.raises(ValueError, match="'auto', 'light', 'dark'"):
        to_svg(square(), scheme="sepia")


# ------------------------------------------------------------------------------------------- array graphs


def test_array_graphs_are_drawn_with_their_shapes():
    _, loss = trained(30, "array")
    texts = shown(to_svg(Graph(loss)))
    assert {"30×2", "2×4", "30×4", "4×3", "X", "W1", "b1", "z2", "a3"} <= set(texts)
    assert "‖grad‖" in texts  # of more numbers than a box holds
    assert any(re.fullmatch(r"1×3 \[.*, .*, .*\]", text) for text in texts)
    assert {"W1ᵀ", "Xᵀ"} <= {word for text in texts for word in text.split()}
    assert "⊙ tanh′" in texts
    fresh = Graph(np.sum(Tensor([1.0, 2.0], "x") ** 2))
    assert shown(to_svg(fresh)).count("–") == len(fresh)
    tips = to_svg(Graph(loss))
    assert "∂a1/∂z1" in tips or "∂tanh/∂z1" in tips


@pytest.mark.parametrize(
    "output",
    [
        lambda: Value(1.0),
        lambda: Tensor(np.ones((2, 3)), "X"),
        lambda: np.sum(Tensor(np.zeros((0, 3)), "X")),
        lambda: np.sum(np.concatenate([Tensor(np.ones(3), "x"), np.zeros(2)])[1:]),
        lambda: np.einsum("ij,j->i", Tensor(np.ones((2, 3)), "X"), np.ones(3)),
        lambda: np.linalg.det(Tensor(np.eye(3), "A")),
        lambda: np.sum(np.log(Tensor([0.0, 1.0], "x")) * 0.0),
    ],
    ids=["leaf", "array", "no numbers", "pieces", "einsum", "det", "not finite"],
)
def test_anything_that_can_be_recorded_can_be_drawn(output):
    with np.errstate(all="ignore"):
        output = output()
        for passes in range(2):
            if passes and output.size == 1:
                output.backward()
            svg = Graph(output).to_svg()
            assert len(boxes_of(svg)) >= len(Graph(output))
    to_svg(Graph(output))  # no warning where nobody has switched them off


def test_boxes_of_many_samples_show_ranges():
    _, loss = trained(30)
    texts = shown(to_svg(Graph(loss).collapse("neurons")))
    assert any(re.fullmatch(r"−?[\d.e−]+ … [\d.e−]+ \(30\)", text) for text in texts)


# ------------------------------------------------------------------------------------------- nothing covers anything


SCENES = {
    "neurons": lambda: Graph(trained(12)[1]).collapse("neurons"),
    "matrices": lambda: Graph(trained(12)[1]).collapse("matrices"),
    "the 3-4-2-2 network": network,
    "arrays": lambda: Graph(trained(12, "array")[1]),
    **{f"random {seed}": lambda seed=seed: Graph(build(seed, 40, True).output) for seed in range(6)},
}


@pytest.mark.parametrize("name", SCENES)
def test_no_arrow_crosses_a_box_and_nothing_overlaps(name):
    drawn = scene(SCENES[name]())
    at, sizes, labels = placed(drawn, "own")
    arrows = [(arrow.tail, arrow.head) for arrow in drawn.arrows]
    assert faults(sizes, arrows, at, labels) == []


@pytest.mark.skipif(not HAS_DOT, reason="the program dot is not installed")
@pytest.mark.parametrize("name", SCENES)
def test_dot_takes_every_picture_without_a_warning(name):
    graph = SCENES[name]()
    done = subprocess.run(["dot", "-Tsvg"], input=to_dot(graph, caption="x").encode(), capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    drawn = scene(graph)
    at, sizes, labels = placed(drawn, "dot")
    kinds = ("does not lead", "does not end", "through box")  # it rounds where boxes begin
    found = faults(sizes, [(a.tail, a.head) for a in drawn.arrows], at, labels)
    assert [fault for fault in found if any(kind in fault for kind in kinds)] == []


# ------------------------------------------------------------------------------------------- PNG, PDF, notebooks


def test_png_and_pdf(tmp_path):
    _, loss = trained(1)
    png = Graph(loss).save(tmp_path / "a.PNG", zoom="layers", scale=1.0).read_bytes()
    assert png.startswith(b"\x89PNG")
    wide, high = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
    svg = parsed(Graph(loss).save(tmp_path / "a.svg", zoom="layers").read_text(encoding="utf-8"))
    assert abs(wide - float(svg.get("width"))) <= 1
    assert abs(high - float(svg.get("height"))) <= 1
    assert Graph(loss).save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="pixels a px has is a number above 0"):
            Graph(loss).save(tmp_path / "none.png", zoom="layers", scale=scale)
    dark = Graph(loss).save(tmp_path / "d.png", zoom="layers", scale=1.0, scheme="dark").read_bytes()
    assert dark != png


def test_without_typst_the_extra_is_named(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest, **more):
        if name == "typst":
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'chainrule\[pictures\]'"):
        draw(square(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    assert draw(square(), tmp_path / "a.svg").exists()


def test_a_notebook_gets_the_picture_and_the_text():
    """What IPython's formatter calls, with the arguments that it passes."""
    x = Value(3.0, "x")
    graph = Graph(x * x)
    bundle = graph._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == repr(graph)
    assert parsed(bundle["image/svg+xml"]).tag == SVG + "svg"
    assert "image/svg+xml" in graph.collapse("names")._repr_mimebundle_()
    assert not hasattr(x, "_repr_mimebundle_")  # a node keeps its short repr
    assert repr(x) == "Value(3.0, name='x')"


def test_what_a_notebook_gets_never_raises(monkeypatch):
    graph = Graph(Value(1.0, "x") * 2.0)
    assert set(mimebundle(graph)) == {"image/svg+xml", "text/plain"}
    monkeypatch.setattr("autodiff.pictures.to_svg", lambda *_, **__: 1 / 0)
    assert list(graph._repr_mimebundle_()) == ["text/plain"]
    monkeypatch.setattr(Graph, "__repr__", lambda self: 1 / 0)
    assert "Graph object" in graph._repr_mimebundle_()["text/plain"]


def test_the_transpose_of_a_transpose_is_left_out():
    k, q = Tensor(np.ones((3, 2)), "k"), Tensor(np.ones((3, 2)), "q")
    texts = shown(Graph(np.sum(q @ k.T)).to_svg(engine="own"))
    assert "· k" in texts
    assert not any("k.T)" in text for text in texts)
