"""The three magnifications: the demo passes, says what it should, and every check of it can fail."""

import functools

import pytest

import nn
from autodiff import operations
from demos import magnifications
from tests.demos.recorder import Recorder

QUANTITIES = ["loss", *(f"d{parameter}{k}" for parameter in "Wb" for k in (1, 2, 3))]
CHECKS = [
    *(
        f"{name}-{graph}-{check}"
        for name in ("few", "circles")
        for graph in ("arrays", "scalars")
        for check in (*QUANTITIES, "uses")
    ),
    "arrays-do-not-grow",
    "scalars-grow-by-the-sample",
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    stage = Recorder("magnifications", tmp_path_factory.mktemp("out"))
    magnifications.run(stage)
    return stage


def test_all_checks_pass(shown):
    assert [name for name, _ in shown.checks] == [f"magnifications:{name}" for name in CHECKS]
    assert shown.finish() == 0, shown.text
    assert shown.text.count("by hand") == 2
    assert "FAIL" not in shown.text


@pytest.mark.parametrize("name", CHECKS)
def test_a_planted_error_fails_and_is_named(shown, tmp_path, name):
    stage = Recorder("magnifications", tmp_path, plant=name)
    for check, arguments, options in shown.calls:
        check(stage, *arguments, **options)
    assert stage.finish() == 1
    assert stage.failed == [name]
    assert f"FAIL magnifications:{name} " in stage.text


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A function that runs the demo on few samples only, and returns the names of the checks that failed."""
    X, y = magnifications.data()
    monkeypatch.setattr(magnifications, "data", functools.cache(lambda: (X[:7], y[:7])))

    def failed():
        stage = Recorder("magnifications", tmp_path)
        magnifications.run(stage)
        return stage.failed

    return failed


def test_a_wrong_rule_of_the_array_graph_is_found_there_only(few, monkeypatch):
    assert few() == []
    left, right = operations.matmul.pulls
    monkeypatch.setattr(operations.matmul, "pulls", [left, lambda *given: 2.0 * right(*given)])
    assert set(few()) == {f"{name}-arrays-dW{k}" for name in ("few", "circles") for k in (1, 2, 3)}


def test_a_wrong_formula_is_found_by_both_graphs(few, monkeypatch):
    layout = nn.by_hand.LAYOUTS["row"]
    wrong = type(layout)(layout.shape, layout.units, layout.z, layout.dW, lambda dz: layout.db(dz) / len(dz), layout.da)
    monkeypatch.setitem(nn.by_hand.LAYOUTS, "row", wrong)
    assert set(few()) == {f"{name}-{graph}-db{k}" for name in ("few", "circles") for graph in ("arrays", "scalars")
                          for k in (1, 2, 3)}  # fmt: skip
