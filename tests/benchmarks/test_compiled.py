"""The engines that prepare a function compute the same, an error is noticed, and the command runs from end to end."""

import csv
import re
from functools import cache

import pytest

from benchmarks import compiled, compiled_report, rounds, worker
from benchmarks.compiled_engines import ENGINES, Recorded
from benchmarks.rounds import Case
from benchmarks.workloads import counted

TINY = ["W1-1", "W4-5", "W5-2", "W2-1e2", "W3-1e2"]
HERE = [name for name in ENGINES if not name.startswith(("jax", "torch"))]  # those set the process up for themselves
ROUNDING = 1e-10  # some hundred operations of a few ulp each, and sums of terms that cancel to a hundredth


def job(engine, name, **options):
    operations = compiled.operations_of(name)
    defaults = {"prepare": True, "seconds": 1e-9, "clock": "cpu", "plant": False, "threads": 1, "gc": True}
    return {"engine": engine, "workload": name, "operations": operations, **defaults, **options}


@cache
def by_nodes(name):
    return worker.run(job("chainrule-eager", name))["gradient"]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(worker, "TURN", 0.0)
    monkeypatch.setattr("benchmarks.compiled_engines.WARM", ("W1-1",))


# --- the engines ---


def skip_unless(engine, name):
    if not ENGINES[engine].installed:
        pytest.skip(f"{engine} is not installed")
    if not ENGINES[engine].fits(name, 0):
        pytest.skip(f"{engine} takes no part in {name}")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("engine", HERE)
def test_every_engine_finds_the_loss_of_plain_floats_and_the_gradient_of_the_nodes(engine, name):
    skip_unless(engine, name)
    found = worker.run(job(engine, name))
    assert found["loss"] == pytest.approx(counted(name.replace("W4", "W1"))[0], rel=ROUNDING, abs=0.0)
    assert found["value"] == pytest.approx(found["loss"], rel=ROUNDING, abs=0.0)
    assert found["gradient"] == pytest.approx(by_nodes(name), rel=ROUNDING, abs=0.0)
    assert found["seconds"]["both"] > 0.0 < found["ratios"]["both/value"]


@pytest.mark.parametrize(("engine", "name"), [("jax", "W1-2"), ("jax-scalars", "W1-1"), ("torch", "W4-5")])
def test_an_engine_in_a_process_of_its_own_finds_them_too(engine, name):
    skip_unless(engine, name)
    found = rounds.in_a_process(job(engine, name))
    assert found["loss"] == pytest.approx(found["value"], rel=ROUNDING, abs=0.0)
    assert found["gradient"] == pytest.approx(by_nodes(name), rel=ROUNDING, abs=0.0)  # float32 would be 1e-7 off


def test_the_parts_until_the_first_gradient_are_apart():
    assert set(worker.run(job("chainrule-python", "W2-1e2"))["parts"]) == {"build", "record", "prepare"}
    assert set(worker.run(job("hand", "W1-1"))["parts"]) == set()


def test_a_value_that_needs_no_gradient_is_measured_beside():
    assert "value/alone" in worker.run(job("chainrule-tape", "W2-1e2"))["ratios"]
    assert "value/alone" not in worker.run(job("hand", "W1-1"))["ratios"]


def test_the_garbage_collector_can_be_left_out_and_comes_back():
    import gc

    assert worker.run(job("chainrule-tape", "W2-1e1", gc=False))["parts"]["build"] > 0.0
    assert gc.isenabled()


def test_every_back_end_takes_part():
    from autodiff.programs.program import BACK_ENDS

    assert {f"chainrule-{name}" for name in BACK_ENDS} < set(ENGINES)
    program = Recorded("python").prepared("W2-1e1", worker.CLOCKS["cpu"])
    assert program.note == "python"


def test_limits_keep_an_engine_out_of_what_it_cannot_do():
    assert ENGINES["casadi"].fits("W2-1e6", 1_000_000)
    assert not ENGINES["casadi"].fits("W2-1e7", 10_000_000)
    assert not ENGINES["hand"].fits("W2-1e2", 100)
    assert ENGINES["jax-scalars"].fits("W3-1e3", counted("W3-1e3")[1]), "a few operations more than 10^3"


def test_all_libraries_are_told_how_many_threads():
    names = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"}
    assert {rounds.threads(1)[name] for name in names} == {"1"}
    assert "multi_thread_eigen=true" in rounds.threads(2)["XLA_FLAGS"]


# --- the command ---

SMALL = ["--rounds", "1", "--seconds", "1e-9", "--engines", "chainrule", "chainrule-eager", "hand"]


@pytest.mark.parametrize("planted", ["chainrule", "hand"])
def test_a_planted_wrong_gradient_fails_the_command(planted, tmp_path, capsys):
    assert compiled.main([*SMALL, "--workloads", "W1-3", "--out", str(tmp_path), "--plant", planted], worker.run) == 1
    assert re.search(r"FAIL: W1-3: d\(loss\)/d\(parameter \d+\) is", capsys.readouterr().err)
    assert not list(tmp_path.iterdir()), "no figures where nothing was compared"


def test_a_value_alone_that_is_wrong_is_found(tmp_path, capsys):
    def wrong(work):
        found = worker.run(work)
        return found | {"value": found["value"] * (1.0 + 1e-8)}

    assert compiled.main([*SMALL, "--workloads", "W2-1e1", "--out", str(tmp_path)], wrong) == 1
    assert "the loss (1)" in capsys.readouterr().err


def test_an_engine_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ENGINES, "torch", ENGINES["torch"]._replace(module="no_such_module"))
    options = ["--engines", "chainrule", "torch", "--workloads", "W1-1", "--rounds", "1", "--seconds", "1e-9"]
    assert compiled.main([*options, "--out", str(tmp_path)], worker.run) == 0
    text = capsys.readouterr().out
    assert "torch is not installed and takes no part" in text
    assert "  torch" not in text


def test_a_worker_that_fails_is_named_and_the_others_go_on(tmp_path, capsys):
    def failing(work):
        if work["engine"] == "hand":
            raise RuntimeError(
                "hand failed on W1-1:\nTraceback (most recent call last):\n  File\nMemoryError: all gone"
            )
        return worker.run(work)

    assert compiled.main([*SMALL, "--workloads", "W1-1", "--out", str(tmp_path)], failing) == 1
    printed = capsys.readouterr()
    assert printed.err == "FAIL: hand failed on W1-1: MemoryError: all gone\n"
    assert "chainrule-eager" in printed.out


def test_the_command_runs_from_one_end_to_the_other(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.programs.EPOCHS", 3)
    monkeypatch.setattr(compiled, "TRAINED", "W4-5")
    names = ["W4-5", "W2-1e1", "W2-2e1"]
    assert compiled.main([*SMALL, "--workloads", *names, "--out", str(tmp_path / "new")], worker.run) == 0
    text = capsys.readouterr().out
    assert all(f"{name}  " in text for name in names)
    assert "value and gradient / value, the worst" in text
    assert "W4-5  trained, 3 steps, back end" in text
    with (tmp_path / "new" / "benchmarks_compiled.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 + 2 + 2, "by hand there is no chain"
    assert all(float(row["both_ns"]) > 0.0 for row in rows)
    assert (tmp_path / "new" / "benchmarks_compiled.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "options",
    [
        ["--workloads", "W9-1"],
        ["--engines", "nobody"],
        ["--threads", "0"],
        ["--judge", "casadi"],
        ["--judge", "chainrule-eager"],
        ["--engines", "chainrule", "--plant", "chainrule"],
        ["--engines", "chainrule", "hand", "--plant", "casadi"],
    ],
)
def test_options_that_make_no_sense_are_refused(options, capsys):
    with pytest.raises(SystemExit) as stop:
        compiled.main(options)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


# --- the report ---


def found_with(figures, name="W2-1e4"):
    """Results where each engine took (parts, value, both) seconds in each round."""
    found = compiled_report.Found(list(figures))
    for engine, measured in figures.items():
        for number, (parts, value, both) in enumerate(measured):
            what = {"parts": parts, "seconds": {"value": value, "both": both}, "ratios": {"both/value": both / value}}
            found.add(number, Case(name, True, engine), 10_000, what)
    return found


def test_ratios_are_taken_within_a_round():
    found = found_with({"chainrule": [({}, 1.0, 2.0), ({}, 1.0, 8.0)], "casadi": [({}, 1.0, 1.0), ({}, 1.0, 16.0)]})
    both = compiled_report.seconds("both")
    assert found.ratios("W2-1e4", ("chainrule", both), ("casadi", both)) == [2.0, 0.5]


@pytest.mark.parametrize(
    ("ours", "word"),
    [
        (
            ({"build": 0.2, "record": 0.5, "prepare": 0.5}, 0.4, 0.9),
            "reached",
        ),  # 1.2 to build, 0.9 / 0.4 for a gradient
        (({"build": 2.0, "record": 2.0, "prepare": 1.0}, 0.4, 1.1), "missed"),
    ],
)
def test_targets_are_judged(ours, word):
    casadi = ({"build": 30.0, "gradient": 5.0, "prepare": 5.0}, 0.5, 1.0)
    lines = compiled_report.verdicts(found_with({"chainrule": [ours], "casadi": [casadi]}), "chainrule")
    judged = [line for line in lines if line.endswith(("reached", "missed")) and "the worst" not in line]
    assert len(judged) == 4
    assert all(line.endswith(word) for line in judged), judged
