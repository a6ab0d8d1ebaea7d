"""Foreign code in a child process: what it does there, and that nothing of it reaches us."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from nn.audit.child import PRINTED, RETURNED, begin, run

FOREVER = 60.0  # longer than any test takes; whatever waits for this has failed


def forever():
    print("started")
    while True:
        pass


def flood():
    while True:
        print("x" * 1000)


def divide():
    return 1 / 0


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def unspeakable():
    raise Unspeakable


def again():
    return run(again)


def begins():
    begin("the second part", 0.2)
    time.sleep(FOREVER)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_value_comes_back(start):
    assert run(divmod, 7, 3, start=start).value == (2, 1)


def test_a_lambda_and_what_it_closes_over_work():
    array = np.arange(3.0)
    np.testing.assert_array_equal(run(lambda factor: factor * array, 2.0).value, [0.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("function", "problem", "words"),
    [
        (forever, "timeout", "within 0.3 seconds"),
        (flood, "timeout", "within 0.3 seconds"),
        (begins, "timeout", "did not finish the second part within 0.2 seconds"),
        (divide, "raises", "ZeroDivisionError: division by zero (line"),
        (unspeakable, "raises", "Unspeakable"),
        (lambda: np.zeros(3) @ np.zeros(4), "raises", "in <lambda>"),
        (lambda: sys.exit(4), "exits", "ended the program with exit(4)"),
        (lambda: input(), "raises", "input() was called, and nobody is there to answer"),
        (lambda: lambda: 0, "raises", "cannot be handed back"),
        (lambda: np.ones(1 << 40), "raises", "MemoryError"),
        (lambda: os._exit(3), "exits", "exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "exits", "SIGSEGV"),
        (lambda: bytes(RETURNED + 1), "too-large", "bytes"),
    ],
)
def test_what_goes_wrong_is_told(function, problem, words):
    outcome = run(function, timeout=0.3 if problem == "timeout" else FOREVER)
    assert outcome.problem == problem
    assert words in outcome.message
    assert outcome.value is None


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_memory_has_a_limit_beside_what_came_from_us(monkeypatch):
    monkeypatch.setattr("nn.audit.child.MEMORY", 1 << 26)
    assert run(lambda: len(bytearray(1 << 24))).value == 1 << 24
    assert "MemoryError" in run(lambda: len(bytearray(1 << 28))).message


def test_the_line_named_is_the_foreign_one_and_not_of_a_library():
    assert "in divide: return 1 / 0" in run(divide).message


def test_prints_are_kept_up_to_a_limit_and_do_not_reach_our_own(capfd):
    assert run(forever, timeout=0.3).printed == "started\n"
    assert len(run(flood, timeout=0.3).printed) == PRINTED
    outcome = run(lambda: (print("out"), print("err", file=sys.stderr), os.write(1, b"past Python")))
    assert outcome.printed == "out\nerr\n"
    assert capfd.readouterr() == ("", "")


def test_the_child_changes_nothing_here():
    array, state, filters = np.zeros(2), np.random.get_state()[1].copy(), list(warnings.filters)  # noqa: NPY002

    def change():
        array[:] = 1.0
        np.random.seed(3)  # noqa: NPY002
        sys.modules["numpy"] = None
        os.environ["CHANGED"] = "yes"
        np.seterr(all="raise")

    before = np.geterr()
    assert run(change).problem is None
    assert not array.any()
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert sys.modules["numpy"] is np
    assert "CHANGED" not in os.environ
    assert np.geterr() == before
    assert list(warnings.filters) == filters


def test_our_own_settings_are_not_the_childs():
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = run(lambda: float(np.log(np.zeros(1))[0]))
    assert outcome.value == -np.inf


def test_what_the_child_starts_ends_with_it():
    def start():
        return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOREVER})"]).pid

    pid = run(start).value
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return  # dead, and waiting for somebody to read its exit code
        except FileNotFoundError:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


def test_code_that_audits_itself_ends():
    outcome = run(again)
    while outcome.problem is None:
        outcome = outcome.value
    assert "audits itself" in outcome.message


def test_threads_may_have_children_at_once():
    found = []
    threads = [threading.Thread(target=lambda k=k: found.append(run(pow, k, 2).value)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 4, 9]


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(timeout):
    with pytest.raises(ValueError, match="positive number of seconds"):
        run(divide, timeout=timeout)


def test_a_spawned_child_needs_a_function_with_a_name():
    with pytest.raises(TypeError, match="define it at the top level"):
        run(lambda: 0, start="spawn")
