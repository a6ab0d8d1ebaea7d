"""`python -m benchmarks.compiled`: functions that are prepared once and called often, side by side, engine by engine.

W1  the document's MLP [2, 4, 3, 1], mean cross-entropy        W4  W1 with 1000 samples; and whole trainings
W2  a chain x = x * a + b, 10^2 to 10^7 operations             W5  micrograd's moons demo, hinge loss and L2
W3  a random DAG over + * / **2 exp log tanh relu, 10^2 to 10^7 operations

`compiled_engines.py` says who takes part and how. Every measurement is a process of its own with one engine in it, A B
C A B C ... in rounds; a process first runs small workloads, so that imports and what is compiled once and cached are
apart. Then come the parts until the first value and gradient, and the evaluations in turns:

build     ours: the graph on Values; CasADi: the SX expression; JAX: the trace, derivative included
gradient  CasADi: the expression of the gradient
record    ours: the graph as a tape
prepare   the rest until the first value and gradient: recognising and generating, making a Function, compiling
value, both    one evaluation of the value, and of value and gradient; the medians over the turns
alone     ours: the value by a program that never had to do with a gradient

ns/op are per operation of the workload as it is written, the same number for every engine. Losses, values and gradients
must agree to 1e-9 with the first engine's and with plain floats. Times are processor time of one thread by default;
with --threads 2 or more, what can use threads does, and the clock is the wall's. Python's garbage collector stays as it
is, and building a graph pays for it; --gc off leaves it out, for all engines. A ratio is taken within each round,
and what counts is the median over the rounds. What takes a process longer than 5 s is measured once.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.compiled_engines import ENGINES, OURS, version
from benchmarks.compiled_report import Found, lines_of, plot, verdicts, write_csv
from benchmarks.programs import report_of_training
from benchmarks.report import gc_words
from benchmarks.rounds import Case, ResultsDiffer, check, in_a_process
from benchmarks.worker import CLOCKS
from benchmarks.workloads import counted, workload

FULL = (
    "W1-1", "W1-100", "W4-1000", "W5-100", "W1-2", "W1-16", "W1-160", "W1-1600", "W1-16000", "W1-160000",
    *(f"{family}-1e{k}" for family in ("W2", "W3") for k in range(2, 8)),
)  # fmt: skip
QUICK = ("W1-100", "W4-1000", "W5-100", "W2-1e2", "W2-1e3", "W2-1e4", "W2-1e5", "W3-1e3", "W3-1e4")
TRAINED = "W4-1000"
SLOW = 5.0  # seconds; a measurement that takes longer is made once

Run = Callable[[dict[str, Any]], dict[str, Any]]


def operations_of(name: str) -> int:
    """The operations of the workload of that name."""
    return counted(name.replace("W4", "W1"))[1]


def measure(
    workloads: Sequence[str],
    engines: Sequence[str],
    rounds: int,
    how: dict[str, Any],
    plant: str | None,
    run: Run,
) -> Iterator[tuple[int, Case, dict[str, Any]]]:
    """(round, case, what was found), as they come in; ResultsDiffer as soon as two engines differ.

    how: what the jobs have in common: seconds, clock, threads and gc. A worker that fails is found {"failed": its last
    words}, and is not run again.
    """
    expected: dict[str, tuple[str, list[float]]] = {}
    slow: set[Case] = set()
    for number in range(rounds):
        for name in workloads:
            operations = operations_of(name)
            for engine in engines:
                case = Case(name, how["gc"], engine)
                if case in slow or not ENGINES[engine].fits(name, operations):
                    continue
                job = {
                    "workload": name,
                    "engine": engine,
                    **how,
                    "operations": operations,
                    "plant": engine == plant,
                    "prepare": True,
                }
                start = perf_counter()
                try:
                    found = run(job)
                except RuntimeError as error:
                    slow.add(case)
                    yield number, case, {"failed": str(error)}
                    continue
                if perf_counter() - start > SLOW:
                    slow.add(case)
                loss = counted(name.replace("W4", "W1"))[0]
                check(case, "plain floats", [loss, loss], [found["loss"], found["value"]], "the loss ({})")
                gradient = found.pop("gradient")
                peer, reference = expected.setdefault(name, (engine, gradient))
                check(case, peer, reference, gradient, "d(loss)/d(parameter {})")
                yield number, case, found


def training(options: argparse.Namespace, back_end: str | None, run: Run) -> list[str]:
    """The lines about whole trainings with that back end, from a process of its own, where NumPy takes turns."""
    job = {
        "engine": OURS, "workload": TRAINED, "train": True, "back_end": back_end, "rounds": max(3, options.rounds),
        "clock": options.clock, "threads": options.threads, "plant": options.plant == options.judge,
    }  # fmt: skip
    found = run(job)
    return report_of_training(TRAINED, found["times"], found["back_end"])


def say_failed(words: str, verbose: bool) -> None:
    """Prints what failed, and the line of its traceback that says why, or all of it."""
    what, *lines = words.splitlines()
    why = [line for line in lines if line[:1].strip() and not line.startswith("Traceback")]
    print(f"FAIL: {words if verbose else ' '.join([what, *why[:1]])}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None, run: Run = in_a_process) -> int:
    """The command; 0, or 1 if results differ or a worker fails.

    run measures one job, in a process of its own unless a test puts something else in its place.
    """
    options = parsed(argv)
    for name, entry in ENGINES.items():
        if not entry.installed:
            print(f"{name} is not installed and takes no part")
    engines = [name for name in options.engines if ENGINES[name].installed]
    how = {
        "seconds": options.seconds, "clock": options.clock, "threads": options.threads, "gc": options.gc == "default"
    }  # fmt: skip
    versions = dict.fromkeys(f"{ENGINES[name].distribution} {version(name)}" for name in engines)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors{load}; "
        f"{', '.join(versions)}; {options.clock} time, {options.threads} thread{'s' * (options.threads > 1)}, "
        f"{gc_words(how['gc'])}"
    )
    found = Found(engines)
    failures = 0
    try:
        for number, case, what in measure(options.workloads, engines, options.rounds, how, options.plant, run):
            if "failed" in what:
                failures += 1
                say_failed(what["failed"], options.verbose)
                continue
            found.add(number, case, operations_of(case.workload), what)
            if options.verbose or sys.stderr.isatty():
                print(f"  round {number + 1}: {case.workload} {case.engine} done", file=sys.stderr, flush=True)
    except ResultsDiffer as error:
        print(f"FAIL: {error}", file=sys.stderr)
        return 1
    for name in options.workloads:
        print("\n".join(lines_of(found, name)), flush=True)
    print("\n".join(verdicts(found, options.judge)), flush=True)
    if TRAINED in options.workloads and options.judge in engines:
        back_end = options.judge.removeprefix(OURS).removeprefix("-") or None
        try:
            print("\n".join(training(options, back_end, run)), flush=True)
        except RuntimeError as error:
            failures += 1
            say_failed(str(error), options.verbose)
    options.out.mkdir(parents=True, exist_ok=True)
    files = [options.out / "benchmarks_compiled.csv"]
    write_csv(files[0], found)
    try:
        files += plot(options.out / "benchmarks_compiled.png", found)
    except ImportError:
        print("No plot: matplotlib is missing")
    print("Files written:", *map(str, files), sep="\n  ")
    return 1 if failures else 0


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, complete and valid."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__.partition(": ")[2])
    parser.add_argument("--quick", action="store_true", help="up to 10^5 operations, short: about two minutes")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 3, quick 1)")
    parser.add_argument(
        "--seconds", type=float, help="how long a process repeats evaluations (default 0.4, quick 0.15)"
    )
    parser.add_argument("--threads", type=int, default=1, help="how many threads NumPy, numba, XLA and torch may use")
    parser.add_argument("--clock", choices=list(CLOCKS), help="default: cpu with one thread, wall with more")
    parser.add_argument(
        "--gc",
        choices=["default", "off"],
        default="default",
        help="Python's garbage collector, which building pays for",
    )
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"a family and a size: {', '.join(FULL[:5])}")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument(
        "--judge", default=OURS,
        choices=[name for name in ENGINES if name.startswith(OURS) and not name.endswith("eager")],
        help="which of ours is held to the targets",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for raw data and plot")
    parser.add_argument("--plant", choices=list(ENGINES), help="return a wrong gradient from it; the run must FAIL")
    parser.add_argument("--verbose", action="store_true", help="say what was measured, and all that a failure said")
    options = parser.parse_args(argv)
    rounds, seconds, workloads = (1, 0.15, QUICK) if options.quick else (3, 0.4, FULL)
    options.rounds = rounds if options.rounds is None else options.rounds
    options.seconds = seconds if options.seconds is None else options.seconds
    options.workloads = list(dict.fromkeys(options.workloads or workloads))  # each once
    options.engines = list(dict.fromkeys(options.engines))
    options.clock = options.clock or ("cpu" if options.threads == 1 else "wall")
    if options.rounds < 1 or options.seconds <= 0.0 or options.threads < 1:
        parser.error("--rounds, --seconds and --threads are positive")
    if options.plant and (options.plant not in options.engines or len(options.engines) < 2):
        parser.error(f"--plant {options.plant} needs {options.plant} and a second engine among --engines")
    for name in options.workloads:
        try:
            workload(name.replace("W4", "W1"))
        except ValueError as error:
            parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
