"""The document on trial: what the doctor says of the published code, and of the published code with one rule mended."""

import re
from dataclasses import replace

import pytest

from demos import trial
from nn import by_hand
from tests.demos.recorder import Recorder

# fmt: off
CHECKS = [
    "A1", "A2-column", "A2-column-mended", "A2-row", "A2-row-mended", "B5", "B5-softmax", "formulas-mended",
    "A3", "A6", "A6-sum", "A7", "functions-mended",
    "A4", "A4-inherited", "A4-rest", "A5-model", "A5", "A5-loss", "code-mended", "model-mended",
]
# fmt: on
SIGMOID = by_hand.PUBLISHED_ACTIVATIONS["sigmoid"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo, run once."""
    stage = Recorder("trial", tmp_path_factory.mktemp("out"))
    trial.run(stage)
    return stage


def test_all_checks_pass(shown):
    assert [name for name, _ in shown.checks] == [f"trial:{name}" for name in CHECKS]
    assert shown.finish() == 0, shown.text
    assert shown.files == []


@pytest.mark.parametrize("number", range(1, 8))
def test_each_of_the_mistakes_is_shown_and_checked(shown, number):
    assert re.search(rf"^(A\d, )*A{number}\b", shown.text, flags=re.MULTILINE)
    assert any(name.startswith(f"A{number}") for name in CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_planted_error_fails_and_is_named(shown, tmp_path, name):
    stage = Recorder("trial", tmp_path, plant=name)
    for check, arguments, options in shown.calls:
        check(stage, *arguments, **options)
    assert stage.finish() == 1
    assert stage.failed == [name]
    assert f"FAIL trial:{name} " in stage.text


def test_planting_in_the_demo_itself(tmp_path):
    stage = Recorder("trial", tmp_path, plant="trial:A4")
    trial.run(stage)
    assert stage.finish() == 1
    assert stage.failed == ["A4"]


@pytest.mark.parametrize(
    ("table", "row", "mended", "failed"),
    [
        (
            "PUBLISHED_ACTIVATIONS",
            "sigmoid",
            replace(SIGMOID, derivative=lambda z: SIGMOID.f(z) * (1 - SIGMOID.f(z))),
            {"A3", "functions-mended", "A4", "A4-inherited", "A4-rest", "A5-model"},
        ),
        ("PUBLISHED_LAYOUT", None, by_hand.LAYOUTS["row"], {"A4", "A4-inherited", "A4-rest", "A5-model"}),
    ],
)
def test_a_mended_rule_is_no_longer_named(shown, tmp_path, monkeypatch, table, row, mended, failed):
    """The doctor judges the published code itself. With sums in db, db inherits the factor of dz3 as dW does."""
    if row:
        monkeypatch.setitem(getattr(by_hand, table), row, mended)
    else:
        monkeypatch.setattr(by_hand, table, mended)
    stage = Recorder("trial", tmp_path)
    trial.run(stage)
    assert set(stage.failed) == failed
