"""The array benchmarks compute the same in every engine, notice when they do not, and run from one end to the other."""

import csv

import numpy as np
import pytest

from benchmarks import arrays

ENGINES = ["chainrule", "autograd", "mygrad"]
SMALL = arrays.Workload("a small network", (3, 5, 4, 2), 7, 2 * arrays.TURN, ())


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(arrays.WORKLOADS, "W6", SMALL)
    return arrays.data(SMALL)


def test_the_backward_pass_by_hand_is_that_of_differences(small):
    X, y, parameters = small
    loss, gradient = arrays.by_hand(X, y, parameters)()
    forward = arrays.loss_in(np)
    assert loss == forward(parameters, X, y)
    step = 1e-6  # differences of a function of size 1: 1e-16 / step rounding, step**2 truncation
    for array, found in zip(parameters, gradient, strict=True):
        assert found.shape == array.shape
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + step
            above = forward(parameters, X, y)
            array[at] = kept - step
            below = forward(parameters, X, y)
            array[at] = kept
            assert found[at] == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_finds_what_was_derived_by_hand(engine, small):
    found = arrays.ENGINES[engine](*small)()
    arrays.check("W6", engine, found, arrays.by_hand(*small)())


@pytest.mark.parametrize("engine", ["hand", *ENGINES])
def test_a_planted_error_of_one_in_a_million_is_found(engine, small, tmp_path, capsys):
    assert arrays.main(["--workloads", "W6", "--out", str(tmp_path), "--plant", engine]) == 1
    assert f"gradient 0 of {engine} is off" in capsys.readouterr().err


def test_a_gradient_of_another_shape_is_found():
    with pytest.raises(arrays.ResultsDiffer, match="gradient 0 of autograd"):
        arrays.check("W6", "autograd", (1.0, [np.ones(3)]), (1.0, [np.ones((1, 3))]))


def test_the_command_reports_times_ratios_and_targets(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(arrays.WORKLOADS, "W6", SMALL._replace(targets=(("hand", 1e9, False), ("autograd", 1e9, True))))
    assert arrays.main(["--workloads", "W6", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(engine in text for engine in ("hand", *ENGINES))
    assert "chainrule takes" in text
    assert "at most 1e+09, reached" in text
    assert "at least 1e+09, missed" in text
    with (tmp_path / "benchmarks_arrays.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert all(float(row["seconds"]) > 0.0 for row in rows)


def test_the_workloads_are_those_of_the_targets():
    assert arrays.WORKLOADS["W6"].sizes == (2, 4, 3, 1)
    assert arrays.WORKLOADS["W6"].samples == 1000
    assert arrays.WORKLOADS["W7"].sizes == (64, 256, 256, 10)
    assert arrays.WORKLOADS["W7"].samples == 256
