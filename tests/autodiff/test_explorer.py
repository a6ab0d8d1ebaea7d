"""What a page of the explorer is made of; what it does in a browser is tested in test_explorer_browser.py."""

import json
import re

import numpy as np
import pytest

import autodiff as ad
from autodiff.explorer import SCRIPTS, Explorer, page
from autodiff.explorer.contents import contents
from autodiff.explorer.formulas import operation_formulas
from autodiff.explorer.javascript import Unspoken, expression, kernels, rows_source, spoken
from autodiff.graph import Graph
from autodiff.primitives import TABLE
from nn.audit.report import Cause, Report
from nn.cli import main


def squared():
    x = ad.Value(3.0, name="x")
    y = (x * x + 1.0) * x
    y.name = "y"
    return y


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_a_page_is_one_file_that_may_ask_for_nothing():
    text = page(Graph(squared()))
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none';")
    assert "connect-src" not in policy
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|https?://(?!www\.w3\.org)|url\(|@import""", text)
    assert text == page(Graph(squared())), "the same graph makes the same page"
    assert "/* script */" not in text
    assert all(name.endswith(".js") for name in SCRIPTS)


def test_the_numbers_are_the_engines():
    graph = Graph(squared())
    data = data_of(page(graph))
    assert data["values"] == [node.data for node in graph.nodes]
    assert data["constants"] == {"2": 1.0}
    assert sorted(data["order"]) == list(range(len(graph)))


@pytest.mark.parametrize(
    "name", ["</script><script>x</script>", "<!--", "a\u2028b", "\ud800", "\x00", "{a1}", "/* script */", ""]
)
def test_no_name_ends_the_data_or_begins_markup(name):
    x = ad.Value(1.0, name=name)
    text = page(Graph(x * x), title=name)
    text.encode()
    assert text.count("<script") == page(Graph(squared())).count("<script")
    assert "<!--" not in text
    assert data_of(text)["count"] == 2


def test_numbers_that_are_none_are_written_as_texts():
    x = ad.Value(float("nan"), name="x")
    y = x * float("inf")
    data = data_of(page(Graph(y)))
    assert data["values"] == ["nan", "nan"]
    assert data["constants"] == {"1": "inf"}


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_every_row_has_javascript_and_formulas(row):
    assert row.name in spoken()
    source, missing = rows_source([row])
    assert not missing
    assert source.count("=>") == 1 + row.arity
    for side in (row, *row.folded.values()):
        found = operation_formulas(side, 3.0 if side.constant else None)
        assert len(found["d"]) == (2 if side.two_nodes else 1)
        assert not re.search("Q[yabc]Q", json.dumps(found))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda y, a: a if a > 0.0 else y, "branches"),
        (lambda y, a: np.float64(2.0) * np.ones(3), "ndarray"),
        (lambda y, a: __import__("math").exp(a), "TypeError"),
    ],
)
def test_what_cannot_be_recorded_says_why(function, reason):
    with pytest.raises(Unspoken, match=reason):
        expression(function, "ya")


def test_a_row_that_only_has_the_name_of_one_of_ours_is_recorded():
    stranger = TABLE.pop("cbrt")
    try:
        mine = ad.primitive("cbrt", lambda a: a * 2.0, lambda y, a: 2.0)
        assert "K.cbrt" not in rows_source([mine])[0]
        assert "f: a => (a * 2.0)" in rows_source([mine])[0]
    finally:
        TABLE["cbrt"] = stranger
        ad.Value.cbrt = lambda self: stranger(self)


def test_the_kernels_are_no_more_and_no_fewer_than_the_rows():
    assert spoken() == set(TABLE)
    assert kernels().count("\n  sigmoid(a)") == 1


def test_a_large_graph_opens_collapsed_and_says_so():
    x = ad.Value(0.5, name="x")
    y = x
    for _ in range(3000):
        y = y + x
    data, _ = contents(Graph(y))
    assert data["start"] == "parts"
    assert "3,001 nodes" in data["left_out"]
    boxes = data["views"][data["levels"][0]["view"]]["boxes"]
    assert len(boxes) <= 24
    members = [
        node for group in data["groups"] for first, many in [group["members"]] for node in range(first, first + many)
    ]
    assert sorted(members) == list(range(3001))


def test_thousands_of_scopes_collapse_too():
    y = ad.Value(1.0, name="x")
    for k in range(2500):
        with ad.scope(f"neuron {k}"):
            y = y + 1.0
    data, _ = contents(Graph(y))
    assert data["levels"]
    assert max(len(view["boxes"]) for view in data["views"]) <= 2000


def test_a_graph_of_one_node_has_a_page():
    data, _ = contents(Graph(ad.Value(1.0)))
    assert (data["count"], data["order"], data["start"]) == (1, [0], "scalars")


def test_arrays_are_shown_as_they_were_computed():
    X = ad.Tensor(np.arange(6.0).reshape(2, 3), name="X")
    y = np.concatenate([X, X, X * 2.0]).sum()
    data, source = contents(Graph(y))
    assert source == "{}"
    assert not data["scalar"]
    x = next(int(k) for k, label in data["labels"].items() if label == "X")
    assert data["grads"][x][-1] == f"norm {ad.pictures.number(float(np.sqrt(6 * 16)))}"
    assert len(data["grads"][x]) == 3  # two from the concatenation, one from the product


def test_a_report_stands_at_its_nodes():
    W = np.array([[ad.Value(0.1 * (3 * i + j), name=f"W[{i},{j}]") for j in range(12)] for i in range(1)])
    y = (W * 2.0).sum()
    causes = (Cause("W", None, (), "factor", "m", index=(0, 10), claimed=1.0, right=2.0),)
    report = Report(False, causes, inherited=("nothing of this name",), right=("dW",))
    data, _ = contents(Graph(y), report=report, claims={"W": np.arange(12.0)})
    label = {int(k): name for k, name in data["labels"].items()}
    assert [label[node] for node in data["doctor"]["causes"][0]["nodes"]] == ["W[0,10]"]
    assert [label[node] for node, _ in data["doctor"]["claims"]] == [f"W[0,{j}]" for j in range(12)]
    assert [claim for _, claim in data["doctor"]["claims"]] == list(range(12))
    assert data["doctor"]["inherited"] == [["nothing of this name", []]]


@pytest.mark.parametrize(
    ("claims", "error", "words"),
    [
        ({"q": 1.0}, ValueError, "no node is called 'q'"),
        ({"x": [1.0, 2.0, 3.0]}, ValueError, "2 nodes of this graph are called 'x', and 3 numbers"),
        ({"x": "one"}, TypeError, "what is claimed of 'x' is a number or an array, got 'one'"),
        ([1.0], TypeError, "claims is a dict"),
    ],
)
def test_a_claim_about_what_is_not_there_is_refused(claims, error, words):
    with pytest.raises(error, match=words):
        Graph(ad.Value(1.0, name="x") * ad.Value(2.0, name="x")).explore(claims=claims)


def test_a_report_of_layers_stands_at_their_matrices():
    from demos.network import build

    _, loss, _ = build()
    report = Report(False, (Cause("dz", None, (1, 2), "factor", "m"),), inherited=("dW1",))
    data, _ = contents(Graph(loss), report=report)
    assert len(data["doctor"]["causes"][0]["nodes"]) == 4 + 2
    assert len(data["doctor"]["inherited"][0][1]) == 12


def test_the_page_is_saved_or_shown(tmp_path):
    graph = Graph(squared())
    explorer = graph.explore()
    assert isinstance(explorer, Explorer)
    assert "srcdoc=" in explorer._repr_html_()
    assert graph.explore(tmp_path / "a.html", title="t").read_text(encoding="utf-8") == page(graph, "t")
    assert graph.collapse("names").explore().html == explorer.html
    with pytest.raises(ValueError, match=r"expected the suffix \.html"):
        graph.explore(tmp_path / "a.svg")
    with pytest.raises(FileNotFoundError, match="no directory"):
        graph.explore(tmp_path / "none" / "a.html")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import autodiff as ad\nx = ad.Value(2.0, name='x')\noutput = x * x\n", None),
        ("import autodiff as ad\ny = ad.Value(2.0) * 3.0\n", "explore FILE:y"),
        ("output = 3.0\n", "got float 3.0"),
        ("x = 1\nraise KeyError('oh')\n", "FILE, line 2: it raises KeyError"),
        ("x = (\n", "FILE, line 1: it raises SyntaxError"),
        ("import sys\nsys.exit(3)\n", "FILE, line 2: it raises SystemExit: 3"),
        (None, "no such file"),
    ],
)
def test_the_command_writes_a_page_or_says_why_not(source, said, tmp_path, capsys):
    path, out = tmp_path / "graph.py", tmp_path / "page.html"
    if source is not None:
        path.write_text(source)
    code = main(["explore", str(path), "-o", str(out)])
    printed = capsys.readouterr()
    assert (code, out.exists()) == ((0, True) if said is None else (2, False))
    assert (str(out) if said is None else said.replace("FILE", str(path))) in printed.out + printed.err
