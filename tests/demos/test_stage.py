"""The stage: its comparisons accept what is equal and reject what is not, and say where."""

import io

import numpy as np
import pytest
from rich.console import Console

from demos.stage import Stage, corrupted, relative_difference


def stage(tmp_path, plant=None):
    console = Console(file=io.StringIO(), width=200)
    made = Stage(tmp_path, plant, console)
    made.demo = "demo"
    return made, console.file


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0], [0.0], 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.1),
        ([1e-3], [0.0], np.inf),
        ([np.nan], [1.0], np.inf),
        ([np.inf], [1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_relative_difference(found, expected, difference):
    assert relative_difference(found, expected) == pytest.approx(difference, rel=1e-12)


@pytest.mark.parametrize("found", [1.5, 0.0, 3, True, "text", ["a", "b"], [], np.array([0.0, -3.0]), np.zeros((2, 2))])
def test_corrupted_is_never_the_same(found):
    wrong = corrupted(found)
    if isinstance(found, np.ndarray):
        assert relative_difference(wrong, found) > 0.1
    else:
        assert wrong != found


@pytest.mark.parametrize("plant", ["same", "demo:same"])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("close", ([1.0, 5.0], [1.0, 5.0], 1e-12)),
        ("close", ([[0.0]], [[0.0]], 0.5)),
        ("equal", (["a", "b"], ["a", "b"])),
        ("equal", ("agree", "agree")),
        ("at_least", (0.99, 0.98)),
    ],
)
def test_every_kind_of_check_passes_and_fails_when_planted(tmp_path, kind, arguments, plant):
    sound, _ = stage(tmp_path)
    assert getattr(sound, kind)("same", *arguments)
    assert sound.finish() == 0
    planted, text = stage(tmp_path, plant)
    assert not getattr(planted, kind)("same", *arguments)
    assert planted.finish() == 1
    assert "FAIL demo:same" in text.getvalue()


def test_a_failed_comparison_says_where(tmp_path):
    made, text = stage(tmp_path)
    made.close("dW2", [[1.0, 2.0], [3.0, 4.5]], [[1.0, 2.0], [3.0, 4.0]], 1e-3)
    assert "dW2[1, 1]: 4.5 against 4" in text.getvalue()


def test_another_shape_fails(tmp_path):
    made, text = stage(tmp_path)
    assert not made.close("z", [1.0, 2.0], [[1.0, 2.0]], 1e-3)
    assert "shape (2,) against (1, 2)" in text.getvalue()


def test_an_unknown_plant_is_an_error(tmp_path):
    made, text = stage(tmp_path, plant="sama")
    made.equal("same", 1, 1)
    assert made.finish() == 2
    assert "the checks are: demo:same" in text.getvalue().lower()


def test_files_are_listed(tmp_path):
    made, text = stage(tmp_path / "new" / "folder")
    path = made.path("picture.svg")
    made.equal("same", 1, 1)
    assert made.finish() == 0
    assert path.parent.is_dir()
    assert "picture.svg" in text.getvalue()
