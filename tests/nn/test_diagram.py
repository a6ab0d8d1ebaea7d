"""The diagram of a network: every unit and every weight, with their numbers, and the gradients on request."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import nn
from autodiff.pictures import number
from autodiff.pictures.svg import COLOURS
from nn.diagram import MOST, RADIUS, draw_network
from tests.drawings import SVG, parsed, shown

MAGNIFICATIONS = ["scalar", "array"]


def network(magnification="scalar"):
    return nn.MLP(3, [4, 2, 2], activations=["sigmoid", "relu", "softmax"], seed=1, magnification=magnification)


def lines(svg):
    """{weight: (its number, colour, width, dashed)} from the drawing."""
    found = {}
    for group in parsed(svg).iter(SVG + "g"):
        path = group.find(SVG + "path")
        if path is not None:
            name, _, text = group.find(SVG + "title").text.partition(" = ")
            found[name] = text, path.get("stroke"), float(path.get("stroke-width")), "stroke-dasharray" in path.attrib
    return found


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_every_weight_is_a_line_of_its_sign_and_size(magnification):
    net = network(magnification)
    found = lines(draw_network(net).make("light"))
    assert len(found) == 3 * 4 + 4 * 2 + 2 * 2
    widths = []
    for k, layer in enumerate(net.layers, 1):
        for (j, i), weight in np.ndenumerate(np.asarray(layer.W.data, float)):
            text, colour, width, dashed = found[f"w{k}_{i + 1}{j + 1}"]
            assert float(text) == weight
            assert colour == COLOURS["positive" if weight > 0 else "negative"][0]
            assert dashed == (weight < 0)
            widths.append((abs(weight), width))
    widths.sort()
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(widths))
    assert widths[0][1] < widths[-1][1]


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_units_show_their_activations(magnification):
    net, x = network(magnification), [0.5, -1.0, 2.0]
    _, a = net.trace(np.array([x]))
    texts = shown(draw_network(net, x).svg)
    assert {"x₁", "a¹₄", "a²₂", "ŷ₂", "layer 1: sigmoid", "layer 3: softmax"} <= set(texts)
    for activations in a:
        assert {number(v) for v in np.asarray(activations.data, float)[0]} <= set(texts)
    assert "ŷ₁" in shown(draw_network(net).svg)
    assert len(shown(draw_network(net).svg)) == len(texts) - 11  # without x no numbers in the units
    batch = np.array([x, [1.0, 1.0, 1.0]])
    texts = shown(draw_network(net, batch).svg)
    means = np.asarray(net.trace(batch)[1][-1].data, float).mean(axis=0)
    assert {number(mean) for mean in means} <= set(texts)
    assert "Units: means over 2 samples." in " ".join(texts)


@pytest.mark.parametrize("magnification", MAGNIFICATIONS)
def test_gradients_on_request(magnification):
    net = network(magnification)
    before = draw_network(net, gradients=True).svg
    assert {text for text, *_ in lines(before).values()} == {"none yet: run backward first"}
    assert "No backward pass yet" in " ".join(shown(before))
    assert "–" in shown(before)
    z, a = net.trace(np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0]]))
    loss = np.sum((a[-1] - 1.0) ** 2)
    loss.backward()
    svg = draw_network(net, trace=(z, a), gradients=True).svg
    grads = net.layers[0].W.grad
    if magnification == "scalar":
        grads = np.array([w.grad for w in net.layers[0].W.flat]).reshape(3, 4)
    found = lines(svg)
    for (j, i), grad in np.ndenumerate(np.asarray(grads, float)):
        assert float(found[f"dL/dw1_{i + 1}{j + 1}"][0]) == grad
    da = a[1].grad if magnification == "array" else np.array([u.grad for u in a[1].flat]).reshape(2, 4)
    assert {f"grad {number(v)}" for v in np.asarray(da, float).sum(axis=0)} <= set(shown(svg))
    assert "grads: sums." in " ".join(shown(svg))


def test_units_and_labels_do_not_cover_each_other():
    svg = parsed(draw_network(network(), [0.5, -1.0, 2.0]).svg)
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter(SVG + "circle")]
    assert len(circles) == 11
    assert all(math.dist(a, b) >= 2 * RADIUS for a, b in itertools.combinations(circles, 2))
    grounds = [r for r in svg.iter(SVG + "rect") if r.get("rx") == "4"]
    assert len(grounds) == 24  # all weights are labelled
    boxes = [[float(r.get(key)) for key in ("x", "y", "width", "height")] for r in grounds]
    for (x, y, w, h), (u, v, s, t) in itertools.combinations(boxes, 2):
        assert min(x + w, u + s) - max(x, u) < 1.0 or min(y + h, v + t) - max(y, v) < 1.0
    for (x, y, w, h), (cx, cy) in itertools.product(boxes, circles):
        nearest = min(max(cx, x), x + w), min(max(cy, y), y + h)
        assert math.dist(nearest, (cx, cy)) > RADIUS


@pytest.mark.parametrize("sizes", [(1, 40, 1), (16, 16), (1, 16), (16, 1, 16), (40, 2, 3), (5, 6)])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_line_meets_no_unit_but_its_own_two(sizes, gradients):
    svg = parsed(draw_network(nn.MLP(sizes[0], sizes[1:], seed=0), np.ones(sizes[0]), gradients=gradients).svg)
    circles = [complex(float(c.get("cx")), float(c.get("cy"))) for c in svg.iter(SVG + "circle")]
    for path in svg.iter(SVG + "path"):
        if path.get("d").count("L") != 1:
            continue
        start, end = (complex(*map(float, part.split())) for part in path.get("d")[1:].split("L"))
        for centre in circles:
            share = ((centre - start) * (end - start).conjugate()).real / abs(end - start) ** 2
            nearest = start + min(max(share, 0.0), 1.0) * (end - start)
            assert abs(nearest - centre) > RADIUS - 0.2  # px are printed with one decimal; its own ends touch


def test_large_layers_are_cut_and_the_picture_says_so():
    net = nn.MLP(2, [MOST + 10, 1], seed=0)
    svg = draw_network(net).svg
    assert len(list(parsed(svg).iter(SVG + "circle"))) == 2 + 10 + 1
    assert f"Units drawn: 10 of {MOST + 10} in layer 1." in " ".join(shown(svg))
    assert "⋮" in shown(svg)
    assert f"w2_1,{MOST + 10}" in lines(svg)


def test_numbers_that_are_not_finite_are_drawn_all_the_same():
    net = nn.MLP(2, [2], seed=0).assign([[[math.nan, math.inf], [0.0, -1.0]]], [[0.0, 0.0]])
    found = lines(draw_network(net, [1.0, 1.0]).make("light"))
    assert {found["w1_11"][1], found["w1_21"][1]} == {COLOURS["alarm"][0]}
    assert found["w1_12"][1] == COLOURS["zero"][0]
    blank = nn.MLP(1, [1], seed=0).assign([[[0.0]]], [[0.0]])
    assert lines(draw_network(blank).svg)["w1_11"][0] == "0.0"


def test_a_diagram_is_saved_and_shown(tmp_path):
    picture = draw_network(network(), title="A < B")
    assert repr(picture) == "<picture of the network 3-4-2-2>"
    assert "A < B" in shown(picture.save(tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert picture.save(tmp_path / "a.png", scale=0.5).read_bytes().startswith(b"\x89PNG")
    assert picture.save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    bundle = picture._repr_mimebundle_()
    assert bundle["text/plain"] == repr(picture)
    assert bundle["image/svg+xml"] == picture.svg
    with pytest.raises(ValueError, match=r"expected the suffix \.svg, \.png or \.pdf, got \.dot"):
        picture.save(tmp_path / "a.dot")
    with pytest.raises(FileNotFoundError, match="no directory"):
        picture.save(tmp_path / "nowhere" / "a.svg")


def test_refusals():
    net = network()
    with pytest.raises(TypeError, match=r"takes an nn\.MLP, got Layer"):
        draw_network(net.layers[0])
    with pytest.raises(ValueError, match=r"3 inputs takes \(n, 3\), got \(1, 2\)"):
        draw_network(net, [1.0, 2.0])
    with pytest.raises(ValueError, match="x or trace, not both"):
        draw_network(net, [1.0, 2.0, 3.0], trace=net.trace(np.ones((1, 3))))
