"""Pictures: every number is on them, every text fits, and they stand alone."""

from __future__ import annotations

import math
import re
from pathlib import Path

import matplotlib
import pytest
from hypothesis import given, settings
from PIL import ImageFont

from autodiff import Graph, Value
from autodiff.pictures import to_dot, to_svg
from autodiff.pictures.scene import DASH, minus, number, scene
from autodiff.pictures.text import shortened
from tests.drawings import (
    ENGINES,
    NAMES,
    SVG,
    Drawn,
    Node,
    frames_of,
    named,
    network,
    parsed,
    shown,
    square,
    tooltips,
)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_node_and_every_edge_is_on_the_picture(engine):
    graph = network()
    texts = shown(to_svg(graph, engine=engine))
    for node in graph.nodes:
        assert minus(graph.label(node)) in texts
        assert number(node.data) in texts
        assert number(node.grad) in texts
    assert len(texts) >= 5 * len(graph.nodes) + sum(edge.local != 1.0 for edge in graph.edges)
    assert len(tooltips(to_svg(graph, engine=engine))) == len(graph.nodes) + len(graph.edges)
    assert texts.count("sigmoid") == 8


@pytest.mark.parametrize("engine", ENGINES)
def test_x_times_x_has_two_arrows(engine):
    svg = to_svg(square(), engine=engine)
    arrows = [group for group in parsed(svg).iter(SVG + "g") if len(group.findall(SVG + "path")) == 2]
    assert len({arrow.find(SVG + "path").get("d") for arrow in arrows}) == 2
    assert len({arrow.find(SVG + "text").get("y") for arrow in arrows}) == 2
    assert [arrow.find(SVG + "text").text for arrow in arrows] == ["3", "3"]
    tips = [tip for tip in tooltips(svg) if "→" in tip]
    assert len(tips) == 2
    assert all(tip.endswith("local × upstream = contribution: 3.0 × 1.0 = 3.0") for tip in tips)


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
    a, b, w = Node(1.0, "a"), Node(2.0, "b"), Node(2.0, "w")
    c = Node(6.0, "c", "clip", ((a, 2.0), (b, 1.0), (w, 3.0)))
    svg = parsed(to_svg(Drawn(a, b, w, c, Node(7.4, "d", "exp", ((c, 7.4),))), engine="own"))
    looks = []
    for group in svg.iter(SVG + "g"):
        looks += [(rect.get("stroke"), rect.get("stroke-width"), rect.get("rx")) for rect in frames_of(group)]
    assert looks[0] == looks[1]
    assert len(set(looks)) == 4  # inputs, a parameter, a result, the output


@pytest.mark.parametrize("name", ["w", "ŷ²ᵢ_very_long_parameter_name[3,14]", "重み行列の要素その一", "Ж∂Σ≈", "a b"])
def test_text_stays_in_its_box(name):
    """Measured with the font that is first in the list, by FreeType; scripts it lacks are wider at most 1 em."""
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    root = parsed(to_svg(named(name), engine="own"))
    checked = 0
    for group in root.iter(SVG + "g"):
        for frame in frames_of(group):
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
    assert len(shortened("重" * 100, 20)) <= 20
    assert shortened("just fits", 9) == "just fits"


def test_a_number_whose_square_leaves_the_floats_is_no_alarm():
    x, y = Value(1e200, name="x"), Value(1.0, name="y")
    product = x * y
    product.backward()
    arrows = scene(Graph(product)).arrows
    assert [(arrow.size, arrow.alarm) for arrow in arrows] == [(1.0, False), (1e200, False)]


def test_numbers_that_are_not_finite_stand_out():
    root = parsed(to_svg(named("x")))
    inks = {text.text: text.get("fill") for text in root.iter(SVG + "text")}
    assert inks["nan"] not in (None, inks["−0.25"])


@settings(deadline=None, max_examples=150)
@given(NAMES)
def test_any_name_gives_valid_xml(name):
    svg = to_svg(named(name), title=name, engine="own")
    if name and name.isprintable():  # else signs stand for what XML cannot hold
        assert shortened(name, 26) in shown(svg)
        assert any(name in tip for tip in tooltips(svg))
    assert len(shown(svg)) == (13 if name else 11)


def test_the_picture_stands_alone_and_is_accessible():
    svg = to_svg(network(), title="A < B & C")
    root = parsed(svg)
    assert root.get("role") == "img"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert [root[0].tag, root[0].text, root[1].tag] == [SVG + "title", "A < B & C", SVG + "desc"]
    ground = root.find(SVG + "rect")
    assert (ground.get("width"), ground.get("fill")) == ("100%", "#ffffff")  # legible on a dark page
    assert "A < B & C" in shown(svg)
    assert svg.count("http") == 1  # the namespace
    assert not re.search(r"<(script|image|use|foreignObject)|\b(id|href)=|url\(|@import", svg)
    assert set(re.findall(r'class="(...)', svg)) == {"cr-"}  # a page's own classes are not ours
    assert not re.search(r"<style|class=", to_svg(network(), scheme="light"))
    assert "Computation graph of" in parsed(to_svg(square()))[0].text


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_graphs_give_equal_pictures(engine):
    assert to_svg(network(), engine=engine) == to_svg(network(), engine=engine)
    assert to_dot(network()) == to_dot(network())


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1, "1"), (0.1 + 0.2, "0.3"), (-2.718281828, "−2.72"), (999999, "999999"),
        (1e6, "1e6"), (-123456.7, "−123000"), (5e-324, "4.94e−324"), (1e-9, "1e−9"), (math.nan, "nan"),
        (math.inf, "inf"), (-math.inf, "−inf"), (999999.9, "1e6"), (0.0009996, "0.001"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_have_a_minus_sign(x, text):
    assert number(x) == text


def layers_of(width: int) -> Drawn:
    """Two layers of so many boxes, each read by each."""
    first = [Node(1.0, f"x{i}", reached=True) for i in range(width)]
    second = [Node(1.0, f"h{i}", "·", tuple((x, 0.25) for x in first), reached=True) for i in range(width)]
    return Drawn(*first, *second)


def test_of_very_many_arrows_the_tooltips_alone_tell_the_local_derivatives():
    few, many = to_svg(layers_of(6)), to_svg(layers_of(12), caption="12 and 12.")
    assert shown(few).count("0.25") == 36
    assert shown(many).count("0.25") == 0
    assert sum("= 0.25\n" in tip for tip in tooltips(many)) == 144
    said = "12 and 12. The local derivatives of 144 arrows are too many to print; they are in the tooltips."
    assert said in " ".join(shown(many))
    assert heights(many) < 12 * 110.0  # the boxes alone take the room
    assert to_dot(layers_of(12)).count("0.25") == 144  # others will lay it out


def heights(svg: str) -> float:
    return float(parsed(svg).get("viewBox").split()[3])
