"""Where things stand: nothing covers anything, with and without Graphviz."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodiff.pictures.layout import layout
from tests.drawings import (
    ENGINES,
    HAS_DOT,
    network,
    no_program,
)


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


def rectangle(centre, size):
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2


def overlap(a, b, least=1e-6) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > least and min(a[3], b[3]) - max(a[1], b[1]) > least


# ------------------------------------------------------------------------------------------- our own layout


@pytest.fixture
def bent(monkeypatch):
    """Every arrow that takes room by running straight is bent, as in large pictures."""
    monkeypatch.setattr("autodiff.pictures.layout.SCREEN", 0.0)
    monkeypatch.setattr("autodiff.pictures.layout.SLACK", 1.0)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dags(), st.randoms(use_true_random=False))
def test_own_layout_with_bent_arrows_has_no_faults(bent, dag, random):
    boxes, arrows = dag
    sizes, labels = [(90.0, 60.0)] * boxes, [(random.choice((0.0, 40.0)), 17.0) for _ in arrows]
    assert faults(sizes, arrows, layout(sizes, arrows, "own", labels=labels), labels) == []


def large_dag(boxes, seed):
    """Boxes that each read two of all before them: arrows pass many columns."""
    random = Random(seed)
    return [(tail, head) for head in range(10, boxes) for tail in random.sample(range(head), 2)]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_large_picture_is_not_much_higher_than_its_fullest_column(seed, monkeypatch):
    boxes, arrows = 400, large_dag(400, seed)
    placed = layout([(130.0, 70.0)] * boxes, arrows, "own")
    fullest = 0.0
    for column in {x for x, _ in placed.centres}:
        own = sum(1 for x, _ in placed.centres if x == column)
        passing = {t for t, h in arrows if placed.centres[t][0] < column < placed.centres[h][0]}
        fullest = max(fullest, 96.0 * own + 16.0 * len(passing))
    assert placed.height < 1.5 * fullest
    monkeypatch.setattr("autodiff.pictures.layout.SLACK", 1e9)  # with all long arrows straight it is
    assert layout([(130.0, 70.0)] * boxes, arrows, "own").height > 2.0 * fullest


def test_a_picture_that_fits_a_screen_keeps_its_long_arrows_straight(monkeypatch):
    arrows = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (0, 4), (1, 4), (1, 3)]
    placed = layout([(80.0, 50.0)] * 5, arrows, "own")
    monkeypatch.setattr("autodiff.pictures.layout.SLACK", 1e9)
    assert layout([(80.0, 50.0)] * 5, arrows, "own") == placed


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
    ends = [route.curve[-1] for route in placed.routes]
    assert [x for x, _ in ends] == [200, 200]
    assert 30 - 25 < ends[0][1] < ends[1][1] - 10  # apart, in the order of their labels
    assert all(len(route.curve) % 3 == 1 for route in placed.routes)


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
