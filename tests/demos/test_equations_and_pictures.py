"""The equations and the pictures of the demos: the files hold what they promise, and every check fails when planted."""

import itertools
import re
import xml.etree.ElementTree

import pytest

from demos import equations, pictures
from demos.network import SIZES
from tests.demos.recorder import Recorder

DEMOS = {"equations": equations, "pictures": pictures}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """{name: the stage of a demo that was run once}."""
    stages = {}
    for name, demo in DEMOS.items():
        stages[name] = Recorder(name, tmp_path_factory.mktemp(name))
        demo.run(stages[name])
    return stages


def file(shown, name):
    return (shown[name.partition("/")[0]].out / name.partition("/")[2]).read_text(encoding="utf-8")


@pytest.mark.parametrize("demo", DEMOS)
def test_it_passes_and_writes_its_files(shown, demo):
    stage = shown[demo]
    assert stage.finish() == 0, stage.text
    for path in stage.files:
        assert path.name in stage.text
        if path.suffix != ".tex":
            xml.etree.ElementTree.parse(path)


@pytest.mark.parametrize("demo", DEMOS)
def test_an_error_planted_in_any_check_is_found_and_named(shown, demo, tmp_path):
    names = [name.partition(":")[2] for name, _ in shown[demo].checks]
    assert len(names) == len(set(names)) >= 10
    for name in names:
        stage = Recorder(demo, tmp_path, plant=name)
        for check, arguments, options in shown[demo].calls:
            check(stage, *arguments, **options)
        assert stage.failed == [name]


def test_paper_and_page_hold_the_same_equations(shown):
    text, page = file(shown, "equations/equations.tex"), file(shown, "equations/equations.html")
    named = re.findall(r"^% (\S+)$", text, flags=re.MULTILINE)
    weights = sum(m * n + n for m, n in itertools.pairwise(SIZES))
    assert len(named) == 9 + weights + 8  # 8 units and the loss; every parameter, unit and output
    assert re.findall(r'<div id="(\S+)"><math ', page) == named
    assert page.count("<circle") == sum(SIZES)
    assert text.count(r"\begin{aligned}") == text.count(r"\end{aligned}")
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)  # it needs no network
    assert r"\hat{y}_{1} \cdot \left(1 - \hat{y}_{1}\right) \cdot w^{(3)}_{11}" in text


def test_a_number_that_is_printed_wrong_is_noticed(shown):
    """One digit of one equation."""
    text = file(shown, "equations/equations.tex")
    name = "w2_13"
    number = equations.numbers(text)[name]
    assert f"{number:.6g}" in text
    assert equations.numbers(text.replace(f"= {number:.6g}", f"= {number * 1.01:.6g}"))[name] != number


@pytest.mark.parametrize("name", ["reuse", "diamond", "dead_relu", "zoom_layers", "zoom_matrices", "zoom_scalars"])
def test_the_pictures_show_local_derivatives_and_signs(shown, name):
    svg = file(shown, f"pictures/{name}.svg")
    assert "upstream = contribution" in svg
    assert ("cr-s-zero" in re.sub("<style>.*?</style>", "", svg)) == (name == "dead_relu")
