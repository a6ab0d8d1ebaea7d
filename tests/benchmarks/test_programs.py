"""The benchmarks of programs compute the same by hand, notice when somebody does not, and run from end to end."""

import csv
from time import perf_counter

import numpy as np
import pytest

from benchmarks import programs
from benchmarks.engines import Chainrule
from benchmarks.workloads import workload

TINY = ["W4-5", "W5-3", "W2-1e2", "W3-1e2"]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(programs, "EPOCHS", 3)
    monkeypatch.setattr(programs, "TURN", 0.0)


@pytest.mark.parametrize("name", ["W1-7", "W5-3"])
def test_the_backward_pass_by_hand_is_that_of_the_graph(name):
    function, sizes, _, _ = programs.by_hand(name)
    work = workload(name)
    loss, dW, db = function(*programs.matrices(np.array(work.parameters), sizes))
    found = Chainrule().stepper(work, perf_counter)()
    gradient = np.array(found.gradient)
    assert loss == pytest.approx(found.loss, rel=1e-12)  # sums of a few terms, in another order
    assert np.abs(programs.flat(dW, db) - gradient).max() <= 1e-12 * np.abs(gradient).max()


def test_matrices_and_the_flat_parameters_are_inverse():
    numbers = np.arange(31.0)
    W, b = programs.matrices(numbers, (2, 4, 3, 1))
    assert [A.shape for A in W] == [(2, 4), (4, 3), (3, 1)]
    assert W[0][:, 1].tolist() == [3.0, 4.0]  # the second neuron: two weights, then its bias
    assert b[0].tolist() == [2.0, 5.0, 8.0, 11.0]
    assert programs.flat(W, b).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        ("program", "W4-5: gradient 0 of program is off"),
        ("eager", "W4-5: gradient 0 of eager is off"),
        ("over", "W4-5 trained: gradient 0 of over is off"),
    ],
)
def test_a_planted_error_of_one_in_a_million_is_found(plant, message, tmp_path, capsys):
    argv = ["--workloads", "W4-5", "--rounds", "1", "--out", str(tmp_path), "--plant", plant]
    assert programs.main(argv) == 1
    assert message in capsys.readouterr().err


def test_an_error_is_found_where_nothing_is_written_by_hand():
    with pytest.raises(programs.ResultsDiffer, match="W3-1e2: gradient 0 of program is off"):
        programs.measure("W3-1e2", 1, "cpu", "program")


def test_the_command_reports_parts_ratios_and_targets(tmp_path, capsys):
    assert programs.main(["--workloads", *TINY, "--rounds", "2", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for words in (*TINY, *programs.PARTS, "trained", "without looking for lanes", "at most 1.1", "bytes/op"):
        assert words in text
    with (tmp_path / "benchmarks_programs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["workload"] for row in rows} == {*TINY, "W4-5 trained"}
    assert {row["round"] for row in rows} == {"0", "1"}
    assert all(float(row["seconds"]) > 0.0 for row in rows)


def test_the_back_end_that_is_asked_for_runs(tmp_path, capsys):
    argv = ["--workloads", "W4-5", "--rounds", "1", "--out", str(tmp_path)]
    assert programs.main([*argv, "--back-end", "tape"]) == 0
    text = capsys.readouterr().out
    assert "operations, back end tape" in text
    assert "steps, back end tape" in text


@pytest.mark.parametrize(
    ("back_end", "bounds"),
    [("numpy", ["at least 0.8", "at most 4", "at most 1.6"]), ("numba", ["at least 1.6", "at most 3", "at most 1.1"])],
)
def test_what_training_is_held_to_depends_on_the_back_end(back_end, bounds):
    times = {part: [1.0] for part in ("build", "hand", "prepare", "loop", "over")}
    judged = [
        line
        for line in programs.report_of_training("W4-1000", times, back_end)
        if "reached" in line or "missed" in line
    ]
    assert all(bound in line for bound, line in zip(bounds, judged, strict=True))
    others = programs.report_of_training("W4-1000", times, "python")
    assert not any("reached" in line or "missed" in line for line in others)


@pytest.mark.parametrize(
    ("figures", "bound", "at_least", "word"),
    [
        ([0.7, 0.9, 5.0], 0.8, True, "reached"),
        ([0.9, 0.7, 0.6], 0.8, True, "missed"),
        ([3.9, 9.0, 1.0], 4.0, False, "reached"),
        ([4.1, 9.0, 1.0], 4.0, False, "missed"),
    ],
)
def test_a_verdict_is_that_of_the_median(figures, bound, at_least, word):
    assert programs.verdict("ratio", figures, bound, at_least).endswith(word)


def test_large_graphs_are_measured_once(monkeypatch, capsys):
    monkeypatch.setattr(programs, "LARGE", ("W2-1e2", "W1-3"))
    assert programs.main(["--large"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("W2-1e2  103 nodes")
    assert "bytes per node" in lines[2]
