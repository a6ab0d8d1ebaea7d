"""A network trained three ways: the demo passes, says what it should, and every check of it can fail."""

import struct

import pytest

import nn
from demos import programs
from tests.demos.recorder import Recorder

RUNS = ("few-scalars", "few-replayed", "circles-scalars", "circles-replayed")
CHECKS = [
    "a-matrix-product-per-layer",
    *(f"{run}-{quantity}" for run in RUNS for quantity in ("losses", "W1", "b1", "W2", "b2", "W3", "b3")),
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    stage = Recorder("programs", tmp_path_factory.mktemp("out"))
    programs.run(stage)
    return stage


def test_all_checks_pass(shown):
    assert [name for name, _ in shown.checks] == [f"programs:{name}" for name in CHECKS]
    assert shown.finish() == 0, shown.text
    assert "program of w1_11, w1_12, b1_1" in shown.text
    assert "FAIL" not in shown.text


@pytest.mark.parametrize("name", CHECKS)
def test_a_planted_error_fails_and_is_named(shown, tmp_path, name):
    stage = Recorder("programs", tmp_path, plant=name)
    for check, arguments, options in shown.calls:
        check(stage, *arguments, **options)
    assert stage.finish() == 1
    assert stage.failed == [name]
    assert f"FAIL programs:{name} " in stage.text


def test_the_picture(shown):
    (path,) = shown.files
    header = path.read_bytes()[:24]
    assert path.name == "programs.png"
    assert header.startswith(b"\x89PNG")
    assert struct.unpack(">II", header[16:]) == (1400, 550)


def test_a_step_of_another_length_is_found(tmp_path, monkeypatch):
    right, (X, y) = nn.fit, programs.data()
    monkeypatch.setattr(programs, "data", lambda: (X[:25], y[:25]))
    monkeypatch.setattr(programs, "EPOCHS", 5)

    def wrong(model, X, y, loss, epochs, learning_rate, replay):
        return right(model, X, y, loss, epochs, learning_rate * (1.0 + 1e-6 * replay), replay)

    monkeypatch.setattr(nn, "fit", wrong)
    stage = Recorder("programs", tmp_path)
    programs.run(stage)
    assert set(stage.failed) == {name for name in CHECKS if "-replayed-" in name}
