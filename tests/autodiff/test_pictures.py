"""Pictures: every number is on them, nothing covers anything, and they come out with and without Graphviz."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import graphviz
import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from autodiff import Graph, Value
from autodiff.pictures import draw, to_dot, to_graphviz, to_svg
from autodiff.pictures.dot import DASH, number
from autodiff.pictures.layout import layout
from autodiff.pictures.svg import _shorten

SVG = "{http://www.w3.org/2000/svg}"
HAS_DOT = shutil.which("dot") is not None
ENGINES = ["own", "dot"] if HAS_DOT else ["own"]  # what concerns `dot` and runs without it is faked below


# ------------------------------------------------------------------------------------------- graphs to draw


@dataclass(eq=False)
class Node:
    data: float
    name: str | None = None
    made_by: str | None = None
    operands: tuple[tuple[Node, float], ...] = ()  # (parent, local derivative)
    grad: float = 0.0
    reached: bool = field(default=False)

    def __eq__(self, other):
        raise AssertionError("a picture must tell nodes apart by identity")

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class Edge:
    parent: Node
    child: Node
    local: float
    position: int


class Drawn:
    """The interface that pictures read, over nodes listed ancestors first."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.edges = [Edge(p, n, d, i) for n in nodes for i, (p, d) in enumerate(n.operands)]

    def label(self, node: Node) -> str:
        return node.name or node.made_by or f"{node.data:g}"

    def operation(self, node: Node) -> str | None:
        return node.made_by

    def has_grad(self, node: Node) -> bool:
        return node.reached


def square(reached: bool = True) -> Drawn:
    x = Node(3.0, "x", grad=6.0, reached=reached)
    return Drawn(x, Node(9.0, "y", "*", ((x, 3.0), (x, 3.0)), grad=1.0, reached=reached))


def named(name: str) -> Drawn:
    x = Node(0.5, name, grad=-0.25, reached=True)
    return Drawn(x, Node(1e-9, name, "exp", ((x, math.nan),), grad=1.0, reached=True))


def network() -> Graph:
    """3 inputs, 4 and 2 sigmoid units, 2 outputs, half the squared error: all 41 weights, biases and inputs."""
    activations = [Value(0.1 * i - 0.2, name=f"x_{i}") for i in range(3)]
    for k, width in enumerate((4, 2, 2), start=1):
        units = []
        for j in range(width):
            z = Value(0.05 * j, name=f"b{k}_{j}")
            for i, a in enumerate(activations):
                z = z + Value(0.3 * i - 0.4 * j, name=f"W{k}_{i}{j}") * a
            units.append(z.sigmoid())
            units[-1].name = f"h{k}_{j}"
        activations = units
    loss = (activations[0] - 1.0) ** 2 / 2 + (activations[1] - 0.0) ** 2 / 2
    loss.backward()
    return Graph(loss)


@st.composite
def dags(draw_from) -> tuple[int, list[tuple[int, int]]]:
    boxes = draw_from(st.integers(1, 14))
    arrows = []
    for head in range(1, boxes):
        arrows += [(tail, head) for tail in draw_from(st.lists(st.integers(0, head - 1), max_size=4))]
    return boxes, arrows


# ------------------------------------------------------------------------------------------- what is wrong with it


def faults(sizes, arrows, placed, labels) -> list[str]:
    """What makes a layout illegible, in words; [] for a good one. Our own engine keeps all of these promises."""
    wrong = []
    boxes = [rectangle(centre, size) for centre, size in zip(placed.centres, sizes, strict=True)]
    texts = [rectangle(route.label, size) for route, size in zip(placed.routes, labels, strict=True)]
    for (i, a), (j, b) in itertools.combinations(enumerate([*boxes, *texts]), 2):
        if overlap(a, b):
            wrong.append(f"things {i} and {j} overlap")
    for left, top, right, bottom in (*boxes, *texts):
        if min(left, top, placed.width - right, placed.height - bottom) < -1.0:  # a step of 1 px is drawn level
            wrong.append("something lies outside of the picture")
    for number_, ((tail, head), route) in enumerate(zip(arrows, placed.routes, strict=True)):
        points = sampled(route.curve)
        if not boxes[tail][2] <= boxes[head][0]:
            wrong.append(f"arrow {number_} does not lead to the right")
        if any(b[0] < a[0] - 1e-6 for a, b in itertools.pairwise(points)):
            wrong.append(f"arrow {number_} turns back")
        if not math.isclose(points[0][0], boxes[tail][2]) or not boxes[tail][1] < points[0][1] < boxes[tail][3]:
            wrong.append(f"arrow {number_} does not start at its box")
        if not math.isclose(points[-1][0], boxes[head][0]) or not boxes[head][1] < points[-1][1] < boxes[head][3]:
            wrong.append(f"arrow {number_} does not end at its box")
        if min(math.dist(route.label, point) for point in points) > 7.0:
            wrong.append(f"arrow {number_} is not under its label")
        for other, box in enumerate(boxes):
            if any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points[1:-1]):
                wrong.append(f"arrow {number_} runs through box {other}")
        for other, text in enumerate(texts):
            if other != number_ and any(text[0] < x < text[2] and text[1] < y < text[3] for x, y in points):
                wrong.append(f"arrow {number_} runs through the label of arrow {other}")
    return wrong


def rectangle(centre, size):
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2


def overlap(a, b, least=1e-6) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > least and min(a[3], b[3]) - max(a[1], b[1]) > least


def sampled(curve):
    """Points along a chain of cubic Bezier curves, at most about 12 px apart."""
    points = [curve[0]]
    for start in range(0, len(curve) - 1, 3):
        p = curve[start : start + 4]
        pieces = 2 + int(sum(math.dist(a, b) for a, b in itertools.pairwise(p)) / 12)
        for step in range(1, pieces + 1):
            t = step / pieces
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            points.append(tuple([sum([w * q[axis] for w, q in zip(weights, p, strict=True)]) for axis in (0, 1)]))
    return points


def moved(placed, **changes):
    return type(placed)(**{name: changes.get(name, getattr(placed, name)) for name in placed.__slots__})


# ------------------------------------------------------------------------------------------- our own layout


@settings(deadline=None, max_examples=60)
@given(dags(), st.randoms(use_true_random=False))
def test_own_layout_has_no_faults(dag, random):
    boxes, arrows = dag
    sizes = [(random.choice((60.0, 90.0, 170.0)), random.choice((50.0, 70.0))) for _ in range(boxes)]
    labels = [(random.choice((14.0, 40.0, 80.0)), 17.0) for _ in arrows]
    assert faults(sizes, arrows, layout(sizes, arrows, "own", labels=labels), labels) == []


def test_the_check_of_a_layout_finds_planted_faults():
    sizes, arrows, labels = [(80.0, 50.0)] * 4, [(0, 1), (0, 1), (1, 2), (0, 3), (2, 3)], [(30.0, 17.0)] * 5
    good = layout(sizes, arrows, "own", labels=labels)
    assert faults(sizes, arrows, good, labels) == []
    a, b, c, d = good.centres
    first, *others = good.routes
    flat = type(first)(((a[0] + 40, a[1]), a, d, (d[0] - 40, d[1])), first.label)
    for planted, complaint in [
        (moved(good, centres=(a, (b[0], b[1] + 30), (b[0] + 79, b[1] + 79), d)), "overlap"),
        (moved(good, centres=(d, b, c, a)), "does not lead to the right"),
        (moved(good, routes=(type(first)(first.curve, others[0].label), *others)), "overlap"),
        (moved(good, routes=(type(first)(first.curve[:4], first.label), *others)), "does not end at its box"),
        (moved(good, routes=(type(first)(first.curve[::-1], first.label), *others)), "turns back"),
        (moved(good, routes=(*others[:3], flat, others[3])), "runs through box"),
        (moved(good, width=good.width - 5), "outside"),
    ]:
        assert any(complaint in fault for fault in faults(sizes, arrows, planted, labels)), complaint


def test_the_network_has_no_faults_and_its_layers_stand_in_columns():
    graph = network()
    index = {id(node): i for i, node in enumerate(graph.nodes)}
    arrows = [(index[id(edge.parent)], index[id(edge.child)]) for edge in graph.edges]
    sizes, labels = [(110.0, 69.0)] * len(graph.nodes), [(60.0, 17.0)] * len(arrows)
    placed = layout(sizes, arrows, "own", labels=labels)
    assert faults(sizes, arrows, placed, labels) == []
    for layer in ("h1_", "h2_", "h3_"):
        assert len({placed.centres[index[id(n)]][0] for n in graph.nodes if n.name and layer in n.name}) == 1


def test_the_main_chain_runs_straight():
    arrows, sizes = [], [(80.0, 50.0)]
    for step in range(20):  # x = x * constant
        constant, product = 2 * step + 1, 2 * step + 2
        arrows += [(max(product - 2, 0), product), (constant, product)]
        sizes += [(60.0, 50.0), (80.0, 50.0)]
    placed = layout(sizes, arrows, "own")
    chain = [placed.centres[box][1] for box in range(2, len(sizes), 2)]
    assert max(chain) - min(chain) < 1e-6


def test_long_arrows_of_one_box_share_a_line():
    arrows = [(i, i + 1) for i in range(9)] + [(0, i) for i in range(2, 10)]
    placed = layout([(80.0, 50.0)] * 10, arrows, "own")
    starts = {route.curve[:4] for (tail, head), route in zip(arrows, placed.routes, strict=True) if head > tail + 2}
    assert len(starts) == 1
    assert placed.height < 160


@pytest.mark.parametrize("arrows", [[], [(0, 2)], [(0, 1), (0, 1), (0, 1)]])
@pytest.mark.parametrize("engine", ENGINES)
def test_unusual_graphs_are_placed(engine, arrows):
    placed = layout([(80.0, 50.0)] * 3, arrows, engine)
    assert len(placed.centres) == 3
    assert len({route.curve for route in placed.routes}) == len(arrows)
    assert layout([(80.0, 50.0)], [], engine).centres == ((40.0, 25.0),)
    assert layout([], [], engine).centres == ()


@pytest.mark.parametrize(
    "arrows",
    [
        [(i, i + 1) for i in range(9_999)],
        [(i // 2, i) for i in range(1, 2_000)],
        [(i * i % max(i - 40, 1), i) for i in range(1, 2_000)] + [(i, i + 1) for i in range(1_999)],
        [(0, i) for i in range(1, 2_000)] + [(i, 2_000) for i in range(1, 2_000)],
    ],
    ids=["chain", "tree", "long arrows", "star"],
)
def test_large_graphs_are_placed_without_recursion(arrows):
    boxes = max(head for _, head in arrows) + 1
    placed = layout([(80.0, 50.0)] * boxes, arrows, "own")
    assert len(set(placed.centres)) == boxes


def test_layout_refuses_nonsense():
    with pytest.raises(ValueError, match="tail < head < 2"):
        layout([(1, 1), (1, 1)], [(1, 0)])
    with pytest.raises(ValueError, match="2 arrows, got 1"):
        layout([(1, 1), (1, 1)], [(0, 1), (0, 1)], labels=[(1, 1)])
    with pytest.raises(ValueError, match="'auto', 'dot' or 'own'"):
        layout([(1, 1)], [], "neato")


# ------------------------------------------------------------------------------------------- Graphviz or not


def answer_of_dot(text: str) -> str:
    """What `dot` answered for x * x, and would for boxes of these sizes: one column, two labels, one column."""
    assert "rankdir=LR" in text
    assert "b0 -> l1" in text
    names = ["b0", "b1", "l0", "l1"]
    spots = ["40,30", "240,30", "140,45", "140,15"]
    paths = [
        (0, 2, "80,30 95,30 100,45 116,45"),
        (2, 1, "164,45 180,45 185,40 200,38"),
        (0, 3, "80,30 95,30 100,15 116,15"),
        (3, 1, "164,15 180,15 185,20 200,22"),
    ]
    objects = [{"_gvid": i, "name": name, "pos": at} for i, (name, at) in enumerate(zip(names, spots, strict=True))]
    edges = [{"tail": tail, "head": head, "pos": pos} for tail, head, pos in paths]
    return json.dumps({"bb": "0,0,280,60", "objects": [*objects, {"_gvid": 4, "name": "%1"}], "edges": edges})


def fake_dot(monkeypatch, run):
    monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(subprocess, "run", run)


def test_the_answer_of_dot_is_read(monkeypatch):
    def run(argv, input, **_):
        return subprocess.CompletedProcess(argv, 0, answer_of_dot(input), "")

    fake_dot(monkeypatch, run)
    placed = layout([(80, 50), (80, 50)], [(0, 1), (0, 1)])
    assert (placed.engine, placed.width, placed.height) == ("dot", 280, 60)
    assert placed.centres == ((40, 30), (240, 30))
    assert placed.routes[0].label == (140, 15)  # y grows downwards here
    assert placed.routes[0].curve[0] == (80, 30)
    assert placed.routes[0].curve[-1] == (200, 22)
    assert all(len(route.curve) % 3 == 1 for route in placed.routes)


def no_program(*_, **__):
    raise FileNotFoundError("dot")


def too_slow(argv, **_):
    raise subprocess.TimeoutExpired(argv, 20)


def refuses(argv, **_):
    return subprocess.CompletedProcess(argv, 1, "", "Error: syntax error in line 3")


def crashes(argv, **_):
    return subprocess.CompletedProcess(argv, -11, "", "")


def babbles(argv, **_):
    return subprocess.CompletedProcess(argv, 0, "not json", "")


def forgets(argv, **_):
    return subprocess.CompletedProcess(argv, 0, '{"bb": "0,0,10,10", "objects": []}', "")


@pytest.mark.parametrize("run", [no_program, too_slow, refuses, crashes, babbles, forgets])
def test_when_dot_fails_our_own_layout_steps_in(monkeypatch, run):
    fake_dot(monkeypatch, run)
    sizes, arrows = [(80.0, 50.0)] * 2, [(0, 1), (0, 1)]
    assert layout(sizes, arrows) == layout(sizes, arrows, "own")
    with pytest.raises(RuntimeError, match="engine='own'"):
        layout(sizes, arrows, "dot")


def test_without_dot_everything_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(subprocess, "run", no_program)
    assert to_svg(network()) == to_svg(network(), engine="own")
    assert draw(square(), tmp_path / "square.gv").read_text(encoding="utf-8") == to_dot(square())


def test_huge_graphs_do_not_wait_for_dot(monkeypatch):
    fake_dot(monkeypatch, no_program)
    monkeypatch.setattr("autodiff.pictures.layout._dot", lambda *_: pytest.fail("asked `dot`"))
    assert layout([(80.0, 50.0)] * 1000, [(i, i + 1) for i in range(999)]).engine == "own"


@pytest.mark.skipif(not HAS_DOT, reason="the program dot is not installed; its answer is faked above")
def test_real_dot_places_boxes_apart_and_arrows_at_their_borders():
    graph = network()
    index = {id(node): i for i, node in enumerate(graph.nodes)}
    arrows = [(index[id(edge.parent)], index[id(edge.child)]) for edge in graph.edges]
    sizes, labels = [(110.0, 69.0)] * len(graph.nodes), [(60.0, 17.0)] * len(arrows)
    placed = layout(sizes, arrows, labels=labels)
    assert placed.engine == "dot"
    boxes = [rectangle(centre, size) for centre, size in zip(placed.centres, sizes, strict=True)]
    things = [*boxes, *(rectangle(route.label, (60.0, 17.0)) for route in placed.routes)]
    assert not [pair for pair in itertools.combinations(things, 2) if overlap(*pair, least=0.5)]
    for (tail, head), route in zip(arrows, placed.routes, strict=True):
        for box, (x, y) in ((boxes[tail], route.curve[0]), (boxes[head], route.curve[-1])):
            outside = max(box[0] - x, x - box[2], box[1] - y, y - box[3])
            assert abs(outside) < 1.0


# ------------------------------------------------------------------------------------------- SVG


def parsed(svg: str) -> ElementTree.Element:
    ElementTree.parse(io.BytesIO(svg.encode("utf-8")))  # as a file, too
    return ElementTree.fromstring(svg)


def shown(svg: str) -> list[str]:
    return [text.text or "" for text in parsed(svg).iter(SVG + "text")]


def tooltips(svg: str) -> list[str]:
    return [title.text or "" for group in parsed(svg).iter(SVG + "g") for title in group.findall(SVG + "title")]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_node_and_every_edge_is_on_the_picture(engine):
    graph = network()
    texts = shown(to_svg(graph, engine=engine))
    for node in graph.nodes:
        assert graph.label(node) in texts
        assert number(node.data) in texts
        assert number(node.grad) in texts
    assert len(texts) >= 5 * len(graph.nodes) + len(graph.edges)
    assert len(tooltips(to_svg(graph, engine=engine))) == len(graph.nodes) + len(graph.edges)
    assert texts.count("sigmoid") == 8


@pytest.mark.parametrize("engine", ENGINES)
def test_x_times_x_has_two_arrows(engine):
    svg = to_svg(square(), engine=engine)
    arrows = [group for group in parsed(svg).iter(SVG + "g") if len(group.findall(SVG + "path")) == 2]
    assert len({arrow.find(SVG + "path").get("d") for arrow in arrows}) == 2
    assert len({arrow.find(SVG + "text").get("y") for arrow in arrows}) == 2
    assert [arrow.find(SVG + "text").text for arrow in arrows] == ["3", "3"]
    contributions = [tip for tip in tooltips(svg) if "operand" in tip]
    assert len(set(contributions)) == 2
    assert all(tip.endswith("contribution = upstream × local = 3.0") for tip in contributions)


def test_before_backward_there_is_a_dash_and_no_zero():
    before, after = to_svg(square(reached=False)), to_svg(square())
    assert shown(before).count(DASH) == 2
    assert "6" not in shown(before)
    assert "6" in shown(after)
    assert DASH not in shown(after)
    assert "run backward first" in before
    assert "run backward first" not in after
    x = Value(3.0, name="x")
    y = x * x
    assert shown(to_svg(Graph(y))).count(DASH) == 2
    y.backward()
    assert shown(to_svg(Graph(y))).count("6") == 1


def test_boxes_stay_where_they_are_when_gradients_come_in():
    frames = [
        [(rect.get("x"), rect.get("y")) for rect in parsed(to_svg(square(reached), engine="own")).iter(SVG + "rect")]
        for reached in (False, True)
    ]
    assert frames[0] == frames[1]


def test_leaves_results_and_the_output_look_different():
    a, b = Node(1.0, "a"), Node(2.0, "b")
    c = Node(2.0, "c", "*", ((a, 2.0), (b, 1.0)))
    svg = parsed(to_svg(Drawn(a, b, c, Node(7.4, "d", "exp", ((c, 7.4),))), engine="own"))
    looks = []
    for group in svg.iter(SVG + "g"):
        frames = [rect for rect in group.findall(SVG + "rect") if rect.get("fill") == "none"]
        looks += [(rect.get("stroke"), rect.get("stroke-width"), rect.get("rx")) for rect in frames]
    assert looks[0] == looks[1]
    assert len(set(looks)) == 3


@pytest.mark.parametrize("name", ["w", "ŷ²ᵢ_very_long_parameter_name[3,14]", "重み行列の要素その一", "Ж∂Σ≈", "a b"])
def test_text_stays_in_its_box(name):
    """Measured with the font that is first in the list, by FreeType; scripts it lacks are wider at most 1 em."""
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    root = parsed(to_svg(named(name), engine="own"))
    checked = 0
    for group in root.iter(SVG + "g"):
        frames = [rect for rect in group.findall(SVG + "rect") if rect.get("fill") == "none"]
        for frame in frames:
            left, right = float(frame.get("x")), float(frame.get("x")) + float(frame.get("width"))
            for text in group.findall(SVG + "text"):
                size = float(text.get("font-size", 12))
                bold = "-Bold" if text.get("font-weight") else ""
                font = ImageFont.truetype(fonts / f"DejaVuSansMono{bold}.ttf", 100)
                wide = sum(1.0 if ord(c) > 0x2E80 else font.getlength(c) / 100 for c in text.text) * size
                share = {"end": 1.0, "middle": 0.5}.get(text.get("text-anchor"), 0.0)
                start = float(text.get("x")) - share * wide
                assert left + 3 < start
                assert start + wide < right - 3
                checked += 1
    assert checked == 11  # name, value, grad of two boxes with their captions, and one operation


def test_long_names_are_shortened_in_the_middle_and_whole_in_the_tooltip():
    name = "first_" + "x" * 200 + "_last"
    svg = to_svg(named(name))
    assert name not in shown(svg)
    assert any(text.startswith("first_") and "…" in text and text.endswith("_last") for text in shown(svg))
    assert any(name in tip for tip in tooltips(svg))
    assert len(_shorten("重" * 100, 20)) <= 20
    assert _shorten("just fits", 9) == "just fits"


def test_numbers_that_are_not_finite_stand_out():
    root = parsed(to_svg(named("x")))
    inks = {text.text: text.get("fill") for text in root.iter(SVG + "text")}
    assert inks["nan"] not in (None, inks["−0.25"])


NAMES = st.text(st.characters(codec=None) | st.sampled_from('\\"<>{}|&;\n\t \x00\x1b\ud800\ufffe\u202e'), max_size=30)


@settings(deadline=None, max_examples=150)
@given(NAMES)
def test_any_name_gives_valid_xml(name):
    svg = to_svg(named(name), title=name, engine="own")
    if name and name.isprintable():  # else signs stand for what XML cannot hold
        assert _shorten(name, 26) in shown(svg)
        assert any(name in tip for tip in tooltips(svg))
    assert len(shown(svg)) == (13 if name else 11)


def test_the_picture_stands_alone_and_is_accessible():
    svg = to_svg(network(), title="A < B & C")
    root = parsed(svg)
    assert root.get("role") == "img"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert [root[0].tag, root[0].text, root[1].tag] == [SVG + "title", "A < B & C", SVG + "desc"]
    assert (root[2].get("width"), root[2].get("fill")) == ("100%", "#ffffff")  # legible on a dark page
    assert "A < B & C" in shown(svg)
    assert svg.count("http") == 1  # the namespace
    assert not re.search(r"<(script|style|image|use|foreignObject)|\b(id|href|class)=|url\(|@import", svg)
    assert "Computation graph of" in parsed(to_svg(square()))[0].text


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_graphs_give_equal_pictures(engine):
    assert to_svg(network(), engine=engine) == to_svg(network(), engine=engine)
    assert to_dot(network()) == to_dot(network())


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"), (-0.0, "−0"), (1, "1"), (0.1 + 0.2, "0.3"), (-2.718281828, "−2.718"), (999999, "999999"),
        (1e6, "1e6"), (-123456.7, "−1.235e5"), (5e-324, "4.941e−324"), (1e-9, "1e−9"), (math.nan, "nan"),
        (math.inf, "inf"), (-math.inf, "−inf"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_have_a_minus_sign(x, text):
    assert number(x) == text


# ------------------------------------------------------------------------------------------- Graphviz source


def fields(source: str) -> list[list[str]]:
    """The fields of every record, read back by Graphviz's rules for quoted strings and record labels."""
    records = []
    for quoted in re.findall(r'^  n\d+ \[label="((?:[^"\\]|\\.)*)"', source, flags=re.MULTILINE):
        parts = re.findall(r"((?:[^|{}<>\\]|\\.)*)(?:\||$)", quoted)[:-1]
        records.append([re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], part) for part in parts])
    return [[part.replace("&amp;", "&") for part in record] for record in records]


@settings(deadline=None, max_examples=150)
@given(NAMES)
def test_any_name_survives_quoting(name):
    source = to_dot(named(name))
    expected = "".join(c if c.isprintable() or c == "\n" else " " for c in name)
    if name:
        assert fields(source) == [
            [expected, "value 0.5", "grad −0.25"],
            [f"{expected} = exp", "value 1e−9", "grad 1"],
        ]
    if HAS_DOT and len(name) % 8 == 1:  # a process each: only some
        assert_dot_reads(source)


def assert_dot_reads(source: str) -> str:
    done = subprocess.run(["dot", "-Tsvg"], input=source.encode(), capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.mark.parametrize("name", ["\\", '"', 'a"]; evil [label="b', "{a|b}", "<p> x", "&lt;", "a\nb", "\\N", "ŷ²ᵢ"])
def test_names_with_a_meaning_to_graphviz(name):
    source = to_dot(named(name))
    assert fields(source)[0] == [name, "value 0.5", "grad −0.25"]
    if HAS_DOT:
        texts = [text.text for text in parsed(assert_dot_reads(source)).iter(SVG + "text")]
        assert [line.replace("\xa0", " ") for line in texts[: len(name.split("\n"))]] == name.split("\n")


def test_dot_source_has_every_edge():
    source = to_dot(square())
    assert source.count("n0 -> n1") == 2
    assert "rankdir=LR" in source
    assert to_dot(square(reached=False)).count(f"grad {DASH}") == 2
    graph = network()
    assert to_dot(graph).count(" -> ") == len(graph.edges)
    assert len(fields(to_dot(graph))) == len(graph.nodes)
    if HAS_DOT:
        assert_dot_reads(to_dot(graph))


def test_to_graphviz_is_a_source():
    source = to_graphviz(square())
    assert isinstance(source, graphviz.Source)
    assert source.source == to_dot(square())


# ------------------------------------------------------------------------------------------- files


def test_draw_writes_what_the_suffix_says(tmp_path):
    for name, start in (("a.svg", "<svg "), ("b.DOT", "digraph"), ("c.gv", "digraph")):
        path = draw(square(), str(tmp_path / name))
        assert path == tmp_path / name
        assert path.read_text(encoding="utf-8").startswith(start)
    assert draw(square(), tmp_path / "a.svg", title="Square", engine="own") == tmp_path / "a.svg"
    assert "Square" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.DOT", "c.gv"]
    assert (tmp_path / "a.svg").stat().st_mode & 0o444 == (tmp_path / "b.DOT").stat().st_mode & 0o444


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a", "svg"])
def test_draw_names_the_way_out_for_other_formats(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.svg, \.dot or \.gv.*to_graphviz\(\)\.render"):
        draw(square(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_draw_names_the_missing_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory .*nowhere"):
        draw(square(), tmp_path / "nowhere" / "a.svg")


def test_draw_refuses_what_nobody_can_read_unless_told(tmp_path):
    with pytest.raises(ValueError, match=r"2 nodes .*limit 1.*sub-expression.*limit=None"):
        draw(square(), tmp_path / "a.svg", limit=1)
    assert not list(tmp_path.iterdir())
    assert draw(square(), tmp_path / "a.svg", limit=None).exists()
    chain = [Node(0.0, "x")]
    for _ in range(3000):
        chain.append(Node(0.0, None, "+ 1", ((chain[-1], 1.0),)))
    with pytest.raises(ValueError, match="3001 nodes"):
        draw(Drawn(*chain), tmp_path / "b.svg")
    assert draw(Drawn(*chain), tmp_path / "b.svg", limit=4000).exists()


def test_a_failure_leaves_the_old_picture_and_no_rest(tmp_path, monkeypatch):
    path = draw(square(), tmp_path / "a.svg")
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        draw(network(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
