"""The explorer in a real browser: its numbers are the engine's at every step, and nothing is asked for from outside."""

import math
import random

import numpy as np
import pytest

import autodiff as ad
from autodiff.explorer import page
from autodiff.explorer.javascript import kernels, rows_source
from autodiff.graph import Graph, adjoints
from autodiff.pictures.scene import number
from autodiff.primitives import TABLE
from tests.browser import close as close_browser
from tests.browser import opened

# A browser's exp, tanh, pow ... may differ from the C library's in the last digit; a few of them follow each other.
LAST_DIGITS = 1e-13
HOSTILE = "</script><img src=x onerror=\"document.title='run'\"> & 'x'"


@pytest.fixture(scope="module", autouse=True)
def _browser():
    yield
    close_browser()


def close(found, expected, within=LAST_DIGITS):
    return np.allclose(found, expected, rtol=within, atol=1e-300, equal_nan=True)


def plain(x):
    """A number as a page and back: JSON has neither nan nor inf nor -0."""
    return (
        x
        if isinstance(x, (int, float)) and math.isfinite(x)
        else str(x).replace("inf", "Infinity").replace("nan", "NaN")
    )


def floats(numbers):
    return [float(str(x).replace("Infinity", "inf").replace("NaN", "nan")) for x in numbers]


def small():
    """A graph that has reuse, a diamond, constants on both sides, a dead and a living relu, and an x * x."""
    x, w, v = ad.Value(0.7, name="x"), ad.Value(-1.3, name="w1_11"), ad.Value(0.4, name="v")
    h = ad.relu(w * x + 0.5) + ad.relu(v * x)
    h.name = "h"
    y = h * h + ad.tanh(h - 2.0) / (1.5 - v) + ad.sigmoid(w) ** 3 + ad.log(h + x)
    y.name = "L"
    return y


FILM = """steps => steps.map(step => {
  walk(step - state.step);
  return [...document.querySelectorAll("#boxes .box")].map(el =>
    [Number(el.dataset.box), ...[...el.querySelectorAll("text[data-row]")].map(text => text.textContent)]);
})"""


def test_every_step_forward_and_back_shows_the_engines_numbers(tmp_path):
    output = small()
    graph = Graph(output)
    nodes, count = graph.nodes, len(graph)
    index = {node: number_ for number_, node in enumerate(nodes)}
    grads = adjoints(output)
    children = graph.children()
    with opened(graph.explore(tmp_path / "page.html")) as view:
        order = view.evaluate("data.order")
        assert sorted(order) == list(range(count))
        at = dict(view.evaluate("picture.at.boxes.map(box => [box.id, box.x])"))
        assert all(at[order[k]] <= at[order[k + 1]] for k in range(count - 1)), "the wave sweeps from left to right"
        film = view.evaluate(FILM, [*range(2 * count + 1), *range(2 * count, -1, -1)])
        assert film[2 * count + 1 :] == film[2 * count :: -1], "back as forward"
        for step, found in enumerate(film[: 2 * count + 1]):
            done = set(order[:step])
            handed = {order[2 * count - k] for k in range(count + 1, step + 1)}
            for box, _, value, caption, grad in found:
                node = nodes[box]
                known = node.op is None or box in done
                assert value == (number(node.data) if known else "–")
                arrived = [edge for edge in children[node] if index[edge.child] in handed]
                if node is output:
                    assert grad == ("1" if step > count else "–")
                elif not arrived:
                    assert grad == "–"
                elif len(arrived) == len(children[node]):
                    assert (caption, grad) == ("grad", number(grads[node]))
                else:
                    assert caption == f"grad {len(arrived)}/{len(children[node])}"
                    assert grad == number(sum(grads[edge.child] * edge.local for edge in arrived))
        assert close(view.evaluate("Array.from(model.adjoint)"), [grads[node] for node in nodes])
        assert close(view.evaluate("Array.from(model.local)"), [edge.local for edge in graph.edges])


def test_only_what_is_not_finite_is_red(tmp_path):
    x, y = ad.Value(math.inf, name="x"), ad.Value(1e200, name="y")
    graph = Graph(x + y * ad.Value(1.0, name="z"))
    with opened(graph.explore(tmp_path / "page.html"), "#step=99") as view:
        look = """() => [...document.querySelectorAll("#boxes .box")].map(el => [Number(el.dataset.box),
          ...[...el.querySelectorAll(".figure")].map(text => getComputedStyle(text).fill)])"""
        found = {graph.nodes[box].name: fills for box, *fills in view.evaluate(look) if graph.nodes[box].name}
        assert found["x"][0] != found["x"][1] == found["y"][0] == found["z"][1]
        assert view.locator(".arrow.alarm").count() == 0


def test_a_hundred_edits_are_recomputed_as_python_does(tmp_path):
    output = small()
    graph = Graph(output)
    leaves = [(k, node) for k, node in enumerate(graph.nodes) if node.op is None]
    chance = random.Random(5)
    path = graph.explore(tmp_path / "page.html")
    edits, expected = [], []
    for _ in range(100):
        k, leaf = chance.choice(leaves)
        leaf.data = chance.choice([0.0, chance.gauss(0, 1), chance.gauss(0, 5)])
        edits.append([k, leaf.data])
        with np.errstate(all="ignore"):
            for node in graph.nodes:  # the recorded forward pass once more
                if node.op is not None:
                    node.data = node.op.on_floats(*(x.data if isinstance(x, ad.Value) else x for x in node.operands))
            grads = adjoints(output)
        expected.append(([node.data for node in graph.nodes], [grads[node] for node in graph.nodes]))
    with opened(path) as view:
        found = view.evaluate(
            """edits => edits.map(([leaf, x]) => { change(leaf, x);
            return [Array.from(model.value, String), Array.from(model.adjoint, String)]; })""",
            edits,
        )
    for got, (values, adjoints_) in zip(found, expected, strict=True):
        assert close(floats(got[0]), values, 1e-12)
        assert close(floats(got[1]), adjoints_, 1e-10)  # differences of near numbers
    relus = [k for k, node in enumerate(graph.nodes) if node.op is ad.primitives.relu]
    patterns = {tuple(values[k] > 0.0 for k in relus) for values, _ in expected}
    assert len(patterns) > 2, "relus switched on and off"


def test_a_relu_switches_on_and_the_change_is_held_against_the_total_differential(tmp_path):
    x, b = ad.Value(2.0, name="x"), ad.Value(-3.0, name="b")
    y = ad.relu(x + b) * 4.0 + b
    y.name = "y"
    with opened(Graph(y).explore(tmp_path / "page.html"), "#node=b&step=99") as view:
        field = view.locator("#panel input[type=number]")
        assert field.input_value() == "-3"
        field.fill("1")
        assert view.evaluate("model.value[model.output]") == 13.0
        assert view.locator("#predicted").inner_text() == "4"  # slope 1 while the relu is dead, times 4
        assert view.locator("#actual").inner_text() == "16"
        view.locator("#undo").click()
        assert view.evaluate("model.value[model.output]") == -3.0
        assert view.locator("#actual").count() == 0


def test_the_table_in_javascript_is_the_table_in_python():
    points = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -0.7, 1.5, 2.5, -2.5]
    points += [
        1e-300,
        -1e-300,
        5e-324,
        1e300,
        -1e300,
        1e-9,
        0.999999,
        7.3,
        10.0,
        -20.0,
        26.0,
        -40.0,
        100.0,
        709.0,
        -750.0,
        1e17,
    ]
    source, missing = rows_source(TABLE.values())
    assert not missing
    cases = []
    with np.errstate(all="ignore"):
        for row in TABLE.values():
            for at in [(a,) for a in points] if row.arity == 1 else [(a, b) for a in points for b in points[:22]]:
                y = row.on_floats(*at)
                cases.append((row.name, at, [y, *(row.local(rule, y, *at) for rule in (row.da, row.db) if rule)]))
    run = f"""cases => {{ {kernels()} const ROWS = {source};
      return cases.map(([name, at]) => {{ const q = at.map(Number), r = ROWS[name], y = r.f(...q);
        return [y, r.da(y, ...q), ...(r.db ? [r.db(y, ...q)] : [])].map(String); }}); }}"""
    with opened(None) as view:
        found = view.evaluate(run, [[name, [plain(x) for x in at]] for name, at, _ in cases])
    for (name, at, expected), got in zip(cases, found, strict=True):
        assert close(floats(got), expected, 3e-15), (name, at, expected, got)


@pytest.mark.parametrize(
    "x",
    [
        0.0,
        -0.0,
        0.125,
        2.125,
        2.135,
        -0.0625,
        1234.5,
        150000.5,
        1e-5,
        9.996e-5,
        1e22,
        99999.95,
        0.99951,
        math.inf,
        -1e-300,
    ],
)
def test_numbers_are_printed_as_in_all_pictures(x, printer):
    assert printer(x) == number(x)


@pytest.fixture(scope="module")
def printer(tmp_path_factory):
    x = ad.Value(1.0, name="x")
    with opened(Graph(x * x).explore(tmp_path_factory.mktemp("page") / "page.html")) as view:
        yield lambda number_: view.evaluate("x => short(Number(x))", plain(number_))


def test_names_are_text_and_nothing_else(tmp_path):
    with ad.scope(HOSTILE):
        x = ad.Value(1.0, name=HOSTILE)
        y = ad.exp(x * x) + x
    y.name = "<b>&amp;</b>\u2028"
    with opened(Graph(y).explore(tmp_path / "page.html", title=HOSTILE), "#step=99") as view:
        assert view.title() == HOSTILE
        assert HOSTILE in view.inner_text("#live")
        assert view.locator("img").count() == 0
        assert view.locator("main b").count() == 0
        view.evaluate("pin(0)")
        view.evaluate("setLevel('scalars')")
        assert view.locator("img, #boxes b").count() == 0


def test_levels_open_in_place_and_links_come_back(tmp_path):
    from demos.network import build

    _, loss, _ = build()
    path = Graph(loss).explore(tmp_path / "page.html")
    assert path.stat().st_size < 150 * 1024
    with opened(path) as view:
        count = view.evaluate("model.count")
        for level, boxes in (("layers", 5), ("scalars", count)):
            view.get_by_role("button", name=level).click()
            assert view.locator("#boxes .box").count() == boxes
        view.evaluate("pin(named('h_21'))")
        view.keyboard.press("o")  # its neuron closes, and all the others stand open
        assert view.evaluate("[state.level, data.groups[-1 - state.pinned].name]") == ["neurons", "layer 2 · neuron 1"]
        assert view.locator("#boxes .box").count() == count - 14 + 1
        view.evaluate("picture.open.clear()")
        view.keyboard.press("1")
        view.evaluate("fold(-1 - data.groups.findIndex(g => g.name === 'layer 2'))")
        assert view.locator(".frame").count() == 1
        assert view.locator("#boxes .box").count() == 6  # two neurons in the place of their layer
        boxes = view.evaluate("picture.at.boxes.map(b => [b.x - b.w / 2, b.x + b.w / 2, b.y - b.h / 2, b.y + b.h / 2])")
        for k, (left, right, top, bottom) in enumerate(boxes):
            for a, b, c, d in boxes[:k]:
                assert right <= a or b <= left or bottom <= c or d <= top, "boxes overlap"
        view.keyboard.press("End")
        view.evaluate("pin(named('w1_11'))")
        view.evaluate("change(named('w1_11'), 0)")
        view.wait_for_timeout(200)
        link = view.evaluate("location.hash")
        expected = view.evaluate("[model.value[model.output], state.step, state.pinned]")
    with opened(path, link) as view:
        assert view.locator(".frame").count() == 1
        assert view.evaluate("[model.value[model.output], state.step, state.pinned]") == expected


def test_links_tell_nodes_of_one_name_apart_and_focus_shows_a_receipt(tmp_path):
    x, also = ad.Value(2.0, name="x"), ad.Value(3.0, name="x")
    path = Graph(x * also + ad.exp(also)).explore(tmp_path / "page.html")
    with opened(path) as view:
        leaves = view.evaluate("data.order.filter(i => model.op[i] < 0)")
        view.evaluate("i => { pin(i); change(i, 0.5); }", leaves[1])
        view.wait_for_timeout(200)
        link = view.evaluate("location.hash")
        values = view.evaluate("Array.from(model.value)")
    with opened(path, link) as view:
        assert view.evaluate("state.pinned") == leaves[1]
        assert view.evaluate("Array.from(model.value)") == values
        view.keyboard.press("Escape")
        view.locator("#jump").focus()
        for _ in range(4):
            view.keyboard.press("Tab")
            if view.evaluate("document.activeElement.matches('.box')"):
                break
        assert view.evaluate("state.pinned === Number(document.activeElement.dataset.box)")
        view.keyboard.press("Shift+ArrowRight")
        assert view.evaluate("model.op[state.pinned] >= 0")


def test_keys_play_and_the_panel(tmp_path):
    with opened(Graph(small()).explore(tmp_path / "page.html")) as view:
        for key, step in (("ArrowRight", 1), ("PageDown", 11), ("ArrowLeft", 10), ("Home", 0), ("End", None)):
            view.keyboard.press(key)
            assert view.evaluate("state.step") == (view.evaluate("model.steps") if step is None else step)
        view.evaluate("pin(named('h'))")
        rows = view.locator("#panel table").first.locator("tbody tr")
        assert rows.count() == view.evaluate("model.from(named('h')).length")
        assert view.locator("#panel math").count() > 3
        assert view.locator(".arrow.heavy").count() > 0
        assert view.evaluate("document.activeElement && document.querySelectorAll('.box[tabindex=\"0\"]').length") == 1
        label = view.locator(".box.selected").get_attribute("aria-label")
        assert label.startswith("h, operation; value ")
        view.keyboard.press("Home")
        view.evaluate("document.getElementById('speed').value = 6")
        view.keyboard.press(" ")
        for _ in range(100):
            if view.evaluate("state.step === model.steps"):
                break
            view.wait_for_timeout(30)
        assert view.evaluate("[state.step === model.steps, state.playing]") == [True, 0]


LOOKS = """() => [...document.querySelectorAll("#boxes .box, #arrows .arrow")].map(el =>
  [el.getAttribute("class").split(/\\s+/).sort().join(" "), el.getAttribute("aria-label"), el.textContent,
   el.querySelector(".line")?.style.strokeWidth])"""


def test_a_step_redraws_all_that_it_changes(tmp_path):
    from demos.network import build

    _, loss, _ = build()
    chance = random.Random(2)
    with opened(Graph(loss).explore(tmp_path / "page.html"), "#view=layers&open=layer%202") as view:
        for turn in range(40):
            view.evaluate("by => walk(by)", chance.choice([-7, -1, 1, 1, 5, 9, 30]))
            if turn % 4 == 0:
                view.evaluate("id => pin(id)", chance.choice([0, 3, 40, -1, -2]))
            if turn % 9 == 5:
                view.evaluate("x => change(data.parameters[2], x)", chance.gauss(0, 1))
            found = view.evaluate(LOOKS)
            view.evaluate("picture.stale = true; picture.show(state.step)")
            assert view.evaluate(LOOKS) == found


def test_a_notebook_and_a_slide_show_the_page(tmp_path):
    explorer = Graph(small()).explore()
    slide = tmp_path / "slide.html"
    slide.write_text(f"<!DOCTYPE html><meta charset=utf-8>{explorer._repr_html_()}", encoding="utf-8")
    with opened(slide, ready=False) as view:
        frame = view.frame_locator("iframe")
        frame.locator("body[data-ready]").wait_for()
        frame.locator("#next").click()
        assert frame.locator("#said").inner_text().startswith("1 of")


def test_a_doctors_report_marks_the_nodes(tmp_path):
    from nn.audit import audit_graph

    y = small()
    graph = Graph(y)
    h, v = graph.named("h"), graph.named("v")
    grads = adjoints(y)
    claims = {"h": 2.0 * grads[h], "v": grads[v], "x": 3.0}
    report = audit_graph(y, claims)
    with opened(graph.explore(tmp_path / "page.html", report=report, claims=claims)) as view:
        assert "h" in [
            view.evaluate("i => model.label(i)", int(box.get_attribute("data-box")))
            for box in view.locator(".box.cause").all()
        ]
        view.get_by_role("button", name="Doctor").click()
        assert report.causes[0].message in view.inner_text("#panel")
        view.evaluate("pin(named('h'))")
        assert "off by" in view.inner_text(".claim")


def test_arrays_and_what_has_no_javascript_say_what_is_not_there(tmp_path):
    X, W = ad.Tensor(np.ones((5, 3)), name="X"), ad.Tensor(np.full((3, 2), 0.5), name="W")
    loss = np.sum(np.tanh(X @ W) * 2.0)
    with opened(Graph(loss).explore(tmp_path / "arrays.html"), "#step=99") as view:
        assert view.locator("#boxes .box").count() == len(Graph(loss))
        assert "scalars(array)" in view.evaluate("panel.notes()")
        view.evaluate("pin(named('W'))")
        assert "5" in view.inner_text("#panel")
    cube = ad.primitive(
        "odd_cube", lambda a: a**3 if a > 0.0 else a * a * a, lambda y, a: 3.0 * a * a, formula="a ** 3"
    )
    try:
        x = ad.Value(2.0, name="x")
        y = cube(x) + x
        with opened(Graph(y).explore(tmp_path / "own.html"), "#step=99") as view:
            assert "odd_cube" in view.inner_text("#panel") or "odd_cube" in view.evaluate("panel.notes()")
            assert view.evaluate("Array.from(model.adjoint)") == [13.0, 1.0, 1.0]
            assert view.evaluate("model.live") is False
    finally:
        del TABLE["odd_cube"]
        del ad.Value.odd_cube


def test_a_planted_number_is_noticed_by_the_page(tmp_path):
    output = small()
    output.data += 1.0  # what a leaf changed after the forward pass looks like
    text = page(Graph(output))
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    with opened(path) as view:
        assert "others than these" in view.inner_text("#panel")
