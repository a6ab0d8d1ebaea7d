"""The benchmarks compute the same in every engine, notice when they do not, and run from one end to the other."""

import importlib
import json
import math
import re
from functools import cache
from random import Random

import numpy as np
import pytest

import nn
from benchmarks import engines, report, rounds, worker
from benchmarks.__main__ import main
from benchmarks.workloads import FULL, QUICK, Counted, CountingEngine, circles, counted, workload

# chainrule and autograd always: without them a test fails, and does not go missing
ENGINES = ["chainrule", "autograd", "micrograd"]
TINY = ["W1-1", "W1-3", "W2-1e2", "W3-1e2", "W5-1"]
ROUNDING = 1e-11  # some hundred operations of a few ulp each, and sums of terms that cancel to a hundredth
DEFAULTS = {"gc": True, "seconds": 1e-9, "clock": "wall", "memory": False, "plant": False}


def job(engine, name, **options):
    return {"engine": engine, "workload": name, "operations": counted(name)[1], **DEFAULTS, **options}


def case(engine, name="W1-1"):
    return rounds.Case(name, True, engine)


@pytest.fixture(autouse=True)
def _micrograd_keeps_its_sort(monkeypatch):
    """A worker may replace it for good, for its process ends soon; this one goes on."""
    value = importlib.import_module("micrograd.engine").Value
    monkeypatch.setattr(value, "backward", value.backward)  # puts it back at the end


# --- the workloads ---


@cache
def by_autograd(name):
    return worker.run(job("autograd", name))["gradient"]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_finds_the_loss_of_plain_floats_and_the_gradient_of_autograd(engine, name):
    found = worker.run(job(engine, name))
    expected = by_autograd(name)
    assert found["loss"] == pytest.approx(counted(name)[0], rel=ROUNDING, abs=0.0)
    assert found["gradient"] == pytest.approx(expected, rel=ROUNDING, abs=0.0)
    assert any(found["gradient"])


def test_w1_is_the_network_that_was_derived_by_hand():
    work = workload("W1-3")
    hand = nn.by_hand.MLP([2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce", reduction="mean")
    rest = iter(work.parameters)
    for k, (n_in, n_out) in enumerate([(2, 4), (4, 3), (3, 1)], 1):
        columns = np.array([[next(rest) for _ in range(n_in + 1)] for _ in range(n_out)])
        hand.W[k], hand.b[k] = columns[:, :-1].T.copy(), columns[:, -1][None].copy()
    X, y = map(np.array, data_of_w1(3))
    hand.backward(y[:, None], hand.forward(X))
    expected = [
        number
        for k in (1, 2, 3)
        for column in range(hand.dW[k].shape[1])
        for number in (*hand.dW[k][:, column], hand.db[k][0, column])
    ]
    assert worker.run(job("chainrule", "W1-3"))["gradient"] == pytest.approx(expected, rel=ROUNDING, abs=0.0)


def data_of_w1(samples):
    return circles(samples, Random(1))


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        # per sample 2*4*2 + 4, 2*4*3 + 3, 2*3 + 1 in the layers, 7 in the loss, 1 to add up or to divide
        ("W1-1", 62),
        ("W1-100", 6200),
        ("W2-1e2", 100),
        ("W2-1e4", 10_000),
        # 2*2*16 + 16, 2*16*16 + 16, 2*16 in the layers; (1 + -y s).relu; a sum from 0 and the mean; L2 over 337; +
        ("W5-1", 80 + 528 + 32 + 3 + 2 + (2 * 337 + 1) + 1),
    ],
)
def test_operations_are_counted_as_the_workload_is_written(name, operations):
    assert counted(name)[1] == operations


@pytest.mark.parametrize("size", ["1e2", "1e3", "1e4"])
def test_the_random_graph_has_the_size_it_is_called_after(size):
    assert 0 <= counted(f"W3-{size}")[1] - int(float(size)) <= 3


def test_the_random_graph_keeps_away_from_the_edges_and_uses_every_function():
    arguments = {"exp": [], "log": [], "tanh": [], "relu": []}

    class Watching(CountingEngine):
        pass

    def watching(kind):
        plain = getattr(CountingEngine, kind)
        return staticmethod(lambda x: arguments[kind].append(x.data) or plain(x))

    for kind in arguments:
        setattr(Watching, kind, watching(kind))
    work = workload("W3-1e3")
    work.loss(Watching(), [Counted(number) for number in work.parameters])
    assert all(arguments.values())
    assert max(map(abs, arguments["tanh"])) <= 4.0
    assert max(map(abs, arguments["exp"])) <= 1.0
    assert min(arguments["log"]) >= 1.0
    assert min(map(abs, arguments["relu"])) > 1e-6


@pytest.mark.parametrize("name", ["W4-10", "W1", "W1-", "W1-0", "W2--5", "W1-nan", "W1-inf", "W2-1.5", "nonsense"])
def test_an_unknown_workload_is_refused(name):
    with pytest.raises(ValueError, match=r"unknown workload .*W2-1e6"):
        workload(name)


def test_numbers_are_the_same_every_time():
    assert [workload(name).parameters for name in TINY] == [workload(name).parameters for name in TINY]
    assert circles(3, Random(1)) == circles(3, Random(1))


# --- the check ---


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-8]),
        ([1.0, 2.0], [1.0, -2.0]),
        ([1.0, 0.0], [1.0, 1e-300]),
        ([1.0], [math.nan]),
        ([math.nan], [math.nan]),
        ([math.inf], [math.inf]),
        ([1.0], [1.0, 1.0]),
    ],
)
def test_results_that_differ_or_are_not_finite_stop_the_run(expected, found):
    with pytest.raises(rounds.ResultsDiffer, match=r"W1-1: .*chainrule"):
        rounds.check(case("chainrule"), "autograd", expected, found, "entry {}")


def test_results_that_agree_to_rounding_pass():
    rounds.check(case("chainrule"), "autograd", [1.0, 0.0, -1e-200], [1.0 + 1e-12, 0.0, -1e-200], "entry {}")


@pytest.mark.parametrize("planted", ["chainrule", "autograd"])
def test_a_planted_wrong_gradient_fails_the_command(planted, tmp_path, capsys):
    tiny = ["--rounds", "1", "--seconds", "1e-9", "--workloads", "W1-3", "--engines", "chainrule", "autograd"]
    assert main([*tiny, "--out", str(tmp_path), "--plant", planted], run=worker.run) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAIL: W1-3: d\(loss\)/d\(parameter \d+\) is", printed)
    assert not list(tmp_path.iterdir()), "no figures where nothing was compared"


def test_a_wrong_rule_in_our_engine_fails_the_command(tmp_path, capsys, monkeypatch):
    from autodiff import log

    monkeypatch.setattr(log, "da", lambda y, a: 1.0 / (a * a))
    tiny = ["--rounds", "1", "--seconds", "1e-9", "--workloads", "W1-3", "--engines", "autograd", "chainrule"]
    assert main([*tiny, "--out", str(tmp_path)], run=worker.run) == 1
    assert "in chainrule" in capsys.readouterr().out


def test_a_wrong_loss_is_found_even_if_every_engine_finds_it(tmp_path, capsys):
    def wrong(work):
        found = worker.run(work)
        return found if work["memory"] else found | {"loss": found["loss"] + 1.0}

    tiny = ["--rounds", "1", "--seconds", "1e-9", "--workloads", "W1-1", "--engines", "chainrule"]
    assert main([*tiny, "--out", str(tmp_path)], run=wrong) == 1
    assert "plain floats" in capsys.readouterr().out


# --- the engines ---


@pytest.mark.parametrize("gc", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_times_are_positive_and_add_up(engine, gc):
    found = worker.run(job(engine, "W2-1e2", gc=gc))
    assert found["total"] > 0.0
    assert found["steps"] >= 2
    if engines.ENGINES[engine]().separable:
        assert found["build"] + found["backward"] + found["drop"] == pytest.approx(found["total"])
        assert found["build"] > 0.0 < found["backward"]
    else:
        assert found["build"] is found["backward"] is found["drop"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_is_what_the_graph_holds(engine):
    found = worker.run(job(engine, "W2-1e3", memory=True))["bytes"]
    assert 1000 * 50 < found["held"] <= found["peak"]


def test_our_memory_per_operation_is_within_the_target():
    operations = counted("W2-1e4")[1]
    assert worker.run(job("chainrule", "W2-1e4", memory=True))["bytes"]["held"] / operations <= 140.0


def test_micrograd_keeps_its_own_sort_where_it_works():
    value = importlib.import_module("micrograd.engine").Value
    original = value.backward
    assert "topological" not in worker.run(job("micrograd", "W5-1"))["added"]
    assert value.backward is original
    assert "topological" in worker.run(job("micrograd", "W2-1e4"))["added"]
    assert value.backward is not original


# --- the command ---


def test_the_command_runs_from_one_end_to_the_other(tmp_path, capsys):
    names = ["W1-1", "W2-1e1", "W2-2e1"]
    tiny = ["--rounds", "2", "--seconds", "1e-9", "--workloads", *names, "--engines", *ENGINES]
    assert main([*tiny, "--out", str(tmp_path / "new")], run=worker.run) == 0
    printed = capsys.readouterr().out
    assert "Value and gradient, ns per operation" in printed
    assert "not measured" in printed, "targets of workloads that did not run"
    markdown = (tmp_path / "new" / "benchmarks.md").read_text(encoding="utf-8")
    assert all(f"| {name} | default |" in markdown for name in names)
    assert "sigmoid added as a primitive" in markdown
    lines = (tmp_path / "new" / "benchmarks.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(names) * 2 * len(ENGINES) * 2
    assert (tmp_path / "new" / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


def test_a_worker_is_a_process_of_its_own():
    found = rounds.in_a_process(job("chainrule", "W1-1"))
    here = worker.run(job("chainrule", "W1-1"))
    assert found["gradient"] == here["gradient"]
    assert json.dumps(found)


def test_a_worker_that_fails_is_quoted():
    with pytest.raises(RuntimeError, match=r"nonsense failed on W1-1:\n(.|\n)*KeyError"):
        rounds.in_a_process(job("nonsense", "W1-1"))


def test_engines_follow_each_other_within_a_round():
    order = [found.engine for found in rounds.cases(["W1-1", "W2-1e2"], ["chainrule", "autograd"])]
    assert order == ["chainrule", "autograd"] * 4


@pytest.mark.parametrize(
    "options",
    [
        ["--workloads", "W9-1"],
        ["--engines", "torch"],
        ["--rounds", "0"],
        ["--seconds", "0"],
        ["--engines", "chainrule", "--plant", "chainrule"],
        ["--engines", "chainrule", "autograd", "--plant", "micrograd"],
    ],
)
def test_options_that_make_no_sense_are_refused(options, capsys):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_engine_that_is_not_installed_is_named(capsys, monkeypatch):
    monkeypatch.setitem(engines.SOURCE, "micrograd", ("no_such_module", "micrograd"))
    assert main(["--engines", "chainrule", "micrograd"], run=worker.run) == 2
    printed = capsys.readouterr().out
    assert "not installed: micrograd" in printed
    assert 'pip install -e ".[bench]"' in printed, "rich takes square brackets for markup"


# --- the report ---


def results_with(figures):
    """Results over W1-100 where each engine took so many ns per operation, round by round."""
    results = report.Results(list(figures), ["W1-100"])
    operations = counted("W1-100")[1]
    for engine, numbers in figures.items():
        for k, number in enumerate(numbers):
            seconds = dict.fromkeys(report.PARTS, number * operations / 1e9)
            results.add("time", k, case(engine, "W1-100"), {"added": "", "steps": 1, **seconds})
    return results


def test_ratios_are_taken_within_a_round_before_the_median():
    results = results_with({"chainrule": [100.0, 200.0, 400.0], "micrograd": [400.0, 400.0, 1600.0]})
    assert results.ratio("W1-100", True, "micrograd") == pytest.approx((4.0, 2.0, 4.0, 3))
    assert results.nanoseconds(case("chainrule", "W1-100")) == pytest.approx((200.0, 100.0, 400.0, 3))


@pytest.mark.parametrize(("ratio", "verdict"), [(3.4, "missed"), (3.5, "reached"), (9.0, "reached")])
def test_targets_are_judged_by_the_median(ratio, verdict):
    first, *others = results_with({"chainrule": [1.0], "micrograd": [ratio]}).targets()
    assert first.verdict == verdict
    assert {target.verdict for target in others} == {"not measured"}


@pytest.mark.parametrize(("figure", "verdict"), [(1.9, "reached"), (2.0, "reached"), (2.1, "missed")])
def test_a_target_can_be_an_upper_bound(figure, verdict):
    assert report.Target("growth", figure, 2.0, False).verdict == verdict


def test_the_documented_sets_of_workloads_exist():
    assert {name.partition("-")[0] for name in FULL} == {"W1", "W2", "W3", "W5"}
    assert all(workload(name).title for name in QUICK)
