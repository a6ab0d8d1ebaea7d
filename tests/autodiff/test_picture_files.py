"""Pictures as files and as Graphviz source: what is written, and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess

import graphviz
import pytest
from hypothesis import given, settings

from autodiff.pictures import draw, to_dot, to_graphviz, to_svg
from autodiff.pictures.scene import DASH
from tests.drawings import (
    HAS_DOT,
    NAMES,
    SVG,
    Drawn,
    Node,
    named,
    network,
    no_program,
    parsed,
    square,
)

# ------------------------------------------------------------------------------------------- Graphviz source


def fields(source: str) -> list[list[str]]:
    """The fields of every record, read back by Graphviz's rules for quoted strings and record labels."""
    records = []
    for quoted in re.findall(r'^\tn\d+ \[label="((?:[^"\\]|\\.)*)"', source, flags=re.MULTILINE):
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


def test_to_graphviz_is_a_digraph_that_people_can_go_on_with():
    digraph = to_graphviz(square())
    assert isinstance(digraph, graphviz.Digraph)
    assert digraph.source == to_dot(square())
    digraph.node("n1", xlabel="here")
    assert "xlabel" in digraph.source


def test_without_dot_everything_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(subprocess, "run", no_program)
    assert to_svg(network()) == to_svg(network(), engine="own")
    assert draw(square(), tmp_path / "square.gv").read_text(encoding="utf-8") == to_dot(square())


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


@pytest.mark.parametrize("name", ["a.jpg", "a.html", "a", "svg"])
def test_draw_names_the_formats_it_knows(tmp_path, name):
    with pytest.raises(ValueError, match=r"expected the suffix \.svg, \.png, \.pdf, \.dot or \.gv, got"):
        draw(square(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_draw_names_the_missing_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no directory .*nowhere"):
        draw(square(), tmp_path / "nowhere" / "a.svg")


def test_draw_refuses_what_nobody_can_read_unless_told(tmp_path):
    with pytest.raises(ValueError, match=r"2 boxes .*limit 1.*sub-expression.*limit=None"):
        draw(square(), tmp_path / "a.svg", limit=1)
    assert not list(tmp_path.iterdir())
    assert draw(square(), tmp_path / "a.svg", limit=None).exists()
    chain = [Node(0.0, "x")]
    for _ in range(3000):
        chain.append(Node(0.0, None, "+ 1", ((chain[-1], 1.0),)))
    with pytest.raises(ValueError, match="3,001 boxes"):
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
