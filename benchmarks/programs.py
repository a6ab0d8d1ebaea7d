"""`python -m benchmarks.programs`: recorded scalar graphs beside NumPy written by hand, and beside the graph itself.

W1  the document's MLP [2, 4, 3, 1], relu, relu, sigmoid, mean cross-entropy
W2  a chain x = x * a + b
W3  a random DAG, in which hardly anything repeats
W4  W1 with 1000 samples, trained by 150 steps of gradient descent, which `descend` takes in few calls
W5  micrograd's moons demo, MLP(2, [16, 16, 1]), hinge loss and L2

The number behind the name is that of the samples or operations. A round takes the parts apart, on the same numbers:

build      the graph, by running the loss on nodes        step   value and gradient by the program
record     the graph as a tape                            value  the value alone
recognise  what repeats, down to array instructions       eager  build, backward and drop of the graph
generate   the code of value and gradient                 hand   value and gradient in NumPy, for W1, W4 and W5

hand is the forward pass and a lean backward pass, (yhat - y) / n for sigmoid and cross-entropy, loss included. ns/op
are per operation of the workload as it is written. All run in one process in turns; a ratio is taken within each round,
and what counts is the median of the rounds after a first one that warms up. Losses, gradients and trained weights must
agree to 1e-9. The back end is the one that `record` chooses, or --back-end, and what training is held to depends on it.
Imports are not timed, nor what is compiled once and cached; generated code is not kept between rounds. Python's garbage
collection stays as it is, and what it costs is in the figures, most of all in those of build and eager.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from autodiff import Value, log, relu, sigmoid
from autodiff.programs import record, replay
from autodiff.programs.program import BACK_ENDS, Program
from benchmarks.arrays import CLOCKS, ResultsDiffer, check, quartiles
from benchmarks.by_hand import by_hand, flat, matrices
from benchmarks.engines import Chainrule
from benchmarks.worker import memory
from benchmarks.workloads import ListMLP, Workload, counted, workload

Times = dict[str, list[float]]  # seconds of each part, one entry per round
FULL = ("W1-1", "W1-100", "W4-1000", "W5-100", "W2-1e3", "W2-1e5", "W3-1e3", "W3-1e5")
LARGE = ("W2-1e5", "W2-1e6", "W2-1e7", "W1-1600", "W1-16000", "W1-160000")  # 62 operations per sample
PARTS = ("build", "record", "recognise", "generate", "step", "value", "eager", "hand")
PLANTS = ("program", "eager", "over")
EPOCHS, RATE = 150, 0.5
# {back end: (speed of the loop at least, total with the whole graph at most, total with over= at most), of hand's}
BARS = {"numpy": (0.8, 4.0, 1.6), "numba": (1.6, 3.0, 1.1)}
BATCHES = ("numpy", "numba")  # the back ends that have lanes for a batch
SMALL = 10_000  # operations, below which what a recording costs whatever its size counts for too much to be judged
TURN = 0.02  # seconds for which a part is repeated in its turn


# --- programs -----------------------------------------------------------------------------------------------------


def graph_of(name: str) -> tuple[Workload, int, Callable[[], tuple[Value, list[Any]]]]:
    """(the workload, its operations, a function that builds its graph and returns output and inputs)."""
    name = name.replace("W4", "W1")
    work = workload(name)
    leaves, build = Chainrule().forward(work)
    inputs = [np.array(leaves, dtype=object)]
    return work, counted(name)[1], lambda: (build(), inputs)


def recognised(program: Program) -> Program:
    """The program, with its back end chosen and what repeats turned into array instructions."""
    if program.on_tape is None and program.back_end == "numpy":
        assert program.size > 0  # which counts the instructions, and so makes them
    return program


def generated(program: Program, p: Any) -> Program:
    """The program, with its code of value and gradient, or after its first one at p; a tape runs as it stands."""
    if program.on_tape is None and program.back_end in ("python", "numpy"):
        program.function("value+gradient", ("value", "gradient"))
    elif program.back_end == "numba":
        program.value_and_grad(p)
    return program


def first_gradient(output: Value, inputs: Any, back_end: str | None, p: Any) -> Any:
    """The gradient by a new program; a back end that is named leaves out the search for lanes."""
    return record(output, inputs, back_end).value_and_grad(p)


def one_sample(p: Any, x: Any, target: Any) -> Any:
    """The cross-entropy of the document's network on one sample, for nodes."""
    yhat = ListMLP((2, 4, 3, 1), p, (relu, relu, sigmoid))(x)
    return -(target * log(yhat) + (1.0 - target) * log(1.0 - yhat))


# --- rounds -------------------------------------------------------------------------------------------------------


def turn(f: Callable[[], Any], now: Callable[[], float], repeats: int) -> float:
    """The seconds of one call of f, from so many in a row."""
    start = now()
    for _ in range(repeats):
        f()
    return (now() - start) / repeats


def timed(f: Callable[..., Any], now: Callable[[], float], *args: Any) -> tuple[float, Any]:
    """(seconds, what f returns)."""
    start = now()
    found = f(*args)
    return now() - start, found


def planted(gradient: Any, wrong: bool) -> list[Any]:
    """[the gradient], wrong in its largest entry by one in a million if asked for."""
    gradient = np.array(gradient)
    if wrong:
        gradient[np.abs(gradient).argmax()] *= 1.0 + 1e-6
    return [gradient]


def measure(
    name: str, rounds: int, clock: str, plant: str | None = None, back_end: str | None = None
) -> tuple[Times, Program]:
    """(the seconds of each part in each round, the program); ResultsDiffer where the results are not the same."""
    now, hand = CLOCKS[clock], by_hand(name)
    work, _, build = graph_of(name)
    eager, p = Chainrule().stepper(work, CLOCKS[clock]), np.array(work.parameters)
    output, inputs = build()
    program = generated(recognised(record(output, inputs, back_end)), p)
    steps: dict[str, Callable[[], Any]] = {
        "step": lambda: program.value_and_grad(p),
        "value": lambda: program(p),
        "eager": eager,
    }
    found, (value, (gradient,)) = eager(), program.value_and_grad(p)
    loss, expected = found.loss, np.array(found.gradient)
    if hand is not None:
        W, b = matrices(p, hand[1])
        steps["hand"] = lambda: hand[0](W, b)
        loss, *parts = steps["hand"]()
        expected = flat(*parts)
        check(name, "eager", (found.loss, planted(found.gradient, plant == "eager")), (loss, [expected]))
    check(name, "program", (value, planted(gradient, plant == "program")), (loss, [expected]))
    check(name, "value alone", (program(p), []), (loss, []))
    repeats = {part: max(1, min(200, int(TURN / max(timed(f, perf_counter)[0], 1e-9)))) for part, f in steps.items()}
    del output
    times: Times = {}

    def keep(part: str, seconds: float) -> None:
        times.setdefault(part, []).append(seconds)

    for number in range(rounds + 1):
        seconds, (output, _) = timed(build, now)
        keep("build", seconds)
        seconds, fresh = timed(record, now, output, inputs, back_end)
        keep("record", seconds)
        keep("recognise", timed(recognised, now, fresh)[0])
        keep("generate", timed(generated, now, fresh, p)[0])
        del fresh
        if back_end is None and program.back_end in ("python", "tape"):
            for asked in ((None, program.back_end), (program.back_end, None))[number % 2]:
                seconds, _ = timed(first_gradient, now, output, inputs, asked, p)
                keep("with the attempt" if asked is None else "without the attempt", seconds)
        del output  # the graph of another part would slow down the garbage collection
        for part, f in steps.items():
            keep(part, turn(f, now, repeats[part]))
    return {part: seconds[1:] for part, seconds in times.items()}, program


def train(
    name: str, rounds: int, clock: str, plant: str | None = None, back_end: str | None = None
) -> tuple[Times, str]:
    """(the seconds of whole trainings and of their parts in each round, the back end); the weights must be the same."""
    now = CLOCKS[clock]
    work, _, build = graph_of(name)
    function, sizes, X, y = by_hand(name)
    numbers = np.array(work.parameters)

    def hand() -> Any:
        W, b = matrices(numbers, sizes)
        for _ in range(EPOCHS):
            _, dW, db = function(W, b)
            for k in range(len(W)):
                W[k] -= RATE * dW[k]
                b[k] -= RATE * db[k]
        return flat(W, b)

    def trained(function: Any, start: Any, steps: int = EPOCHS) -> Any:
        return function.descend(start, steps=steps, learning_rate=RATE)[0]

    def prepared(output: Value, inputs: Any) -> Program:
        program = record(output, inputs, back_end)
        trained(program, [numbers], 1)  # by the code of all further steps
        return program

    def over() -> Any:
        asked = back_end if back_end in BATCHES else None
        return trained(replay(one_sample, over=(X, y[:, 0]), back_end=asked), numbers)

    times: Times = {part: [] for part in ("build", "hand", "prepare", "loop", "over")}
    for _ in range(rounds + 1):
        seconds = {}
        seconds["hand"], expected = timed(hand, now)
        seconds["over"], batch = timed(over, now)
        seconds["build"], graph = timed(build, now)
        seconds["prepare"], program = timed(prepared, now, *graph)
        del graph
        seconds["loop"], (weights,) = timed(trained, now, program, [numbers])
        for engine, found in (("program", weights), ("over", batch)):
            check(f"{name} trained", engine, (0.0, planted(found, plant == engine)), (0.0, [expected]))
        for part, spent in seconds.items():
            times[part].append(spent)
    return {part: spent[1:] for part, spent in times.items()}, program.back_end


# --- reports ------------------------------------------------------------------------------------------------------


def verdict(text: str, figures: Sequence[float], bound: float | None, at_least: bool = False) -> str:
    """A line with the median of the figures, and whether it reaches the bound, if there is one."""
    if bound is None:
        return f"  {text}: {quartiles(figures)}"
    reached = (median(figures) >= bound) if at_least else (median(figures) <= bound)
    side = "at least" if at_least else "at most"
    return f"  {text}: {quartiles(figures)}, {side} {bound:g}, {'reached' if reached else 'missed'}"


def ratios(top: Sequence[float], bottom: Sequence[float]) -> list[float]:
    """The ratios round by round."""
    return [a / b for a, b in zip(top, bottom, strict=True)]


def added(*parts: Sequence[float]) -> list[float]:
    """The sums round by round."""
    return [sum(row) for row in zip(*parts, strict=True)]


def report(name: str, times: Times, program: Program, back_end: str | None = None) -> list[str]:
    """The lines about one workload: its parts, ratios and memory."""
    work, operations, build = graph_of(name)
    p = np.array(work.parameters)
    ns = {part: [s / operations * 1e9 for s in times[part]] for part in PARTS if part in times}
    lines = [f"{name}  {work.title}: {operations} operations, back end {program.back_end}"]
    lines += [f"  {part:10} {median(times[part]) * 1e6:10.0f} us {quartiles(ns[part]):>26} ns/op" for part in ns]
    lines.append(f"  eager / step: {quartiles(ratios(times['eager'], times['step']))}")
    if "hand" in times:
        lines.append(f"  step / hand: {quartiles(ratios(times['step'], times['hand']))}")
    theory = "" if program.back_end == "tape" else f"; {program.ratio:.2f} by the operations"
    lines.append(f"  value and gradient / value: {quartiles(ratios(times['step'], times['value']))}{theory}")
    us = [both / 1e3 for both in added(ns["record"], ns["recognise"])]
    bound = 1.0 if operations >= SMALL else None
    lines.append(verdict("record and recognise, us/op", us, bound))
    if "with the attempt" in times:
        both = ratios(times["with the attempt"], times["without the attempt"])
        lines.append(verdict("record and first gradient, with / without looking for lanes", both, 1.1))
    output, inputs = build()
    held = memory(lambda: recognised(record(output, inputs, back_end)))["held"] / operations
    lines.append(verdict("bytes/op of the program", [held], bound and 60.0))
    with_code = memory(lambda: generated(recognised(record(output, inputs, back_end)), p))["held"] / operations
    lines.append(f"  with the code of its gradient: {with_code:.0f} bytes/op")
    return lines


def report_of_training(name: str, times: Times, back_end: str) -> list[str]:
    """The lines about whole trainings; what they are held to depends on the back end."""
    hand, whole = times["hand"], added(times["prepare"], times["loop"])
    loop, recorded, over = BARS.get(back_end, (None, None, None))
    lines = [f"{name}  trained, {EPOCHS} steps, back end {back_end}"]
    lines += [f"  {part:10} {median(seconds) * 1e3:8.1f} ms" for part, seconds in times.items()]
    return [
        *lines,
        verdict("speed of the loop / hand's", ratios(hand, times["loop"]), loop, at_least=True),
        verdict("total with the whole graph recorded / hand", ratios(whole, hand), recorded),
        f"    and with the graph built as well: {quartiles(ratios(added(whole, times['build']), hand))}",
        verdict("total with over=(X, y) / hand", ratios(times["over"], hand), over),
    ]


def large(name: str, clock: str) -> list[str]:
    """The line about one large graph, measured once."""
    now = CLOCKS[clock]
    leaves, build = Chainrule().forward(workload(name))
    built, output = timed(build, now)
    recording, program = timed(record, now, output, leaves)
    del output, build
    recognising, _ = timed(recognised, now, program)
    numbers = [leaf.data for leaf in leaves]
    gradient, _ = timed(program.value_and_grad, now, *numbers)
    size, per = len(program), 1e6 / len(program)
    return [
        f"{name}  {size} nodes, {program.back_end}: build {built * per:.2f}, record {recording * per:.2f}, recognise "
        f"{recognising * per:.2f}, first gradient {gradient * per:.2f} us per node; "
        f"{program.tape.nbytes / size:.1f} bytes per node"
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 if results differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__.partition(": ")[2])
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--workloads", nargs="+", default=list(FULL), help="such as W1-100 or W2-1e4")
    parser.add_argument("--back-end", choices=BACK_ENDS, help="default: the one that `record` chooses")
    parser.add_argument(
        "--large", action="store_true", help="graphs of up to 10^7 nodes instead: 4 GB and some minutes"
    )
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for the raw data")
    parser.add_argument("--plant", choices=PLANTS, help="return a wrong gradient from it; the run must FAIL")
    options = parser.parse_args(argv)
    for name in options.workloads:
        family, _, size = name.partition("-")
        if family not in ("W1", "W2", "W3", "W4", "W5") or not re.fullmatch(r"\d+(e\d+)?", size):
            parser.error(f"{name!r} is no workload: expected W1 to W5 and a size, such as {', '.join(FULL[:4])}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors, load {load:.1f}; "
        f"numpy {np.__version__}; {options.clock} time"
    )
    if options.large:
        for name in LARGE:
            print("\n".join(large(name, options.clock)), flush=True)
        return 0
    rounds = 3 if options.quick else options.rounds
    options.out.mkdir(parents=True, exist_ok=True)
    raw = options.out / "benchmarks_programs.csv"
    with raw.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["workload", "part", "round", "seconds"])

        def write(name: str, times: Times) -> None:
            for part, seconds in times.items():
                writer.writerows([name, part, number, f"{s:.3e}"] for number, s in enumerate(seconds))

        for name in options.workloads:
            try:
                times, program = measure(name, rounds, options.clock, options.plant, options.back_end)
                print("\n".join(report(name, times, program, options.back_end)), flush=True)
                write(name, times)
                if name.startswith("W4"):
                    times, back_end = train(name, rounds, options.clock, options.plant, options.back_end)
                    print("\n".join(report_of_training(name, times, back_end)), flush=True)
                    write(f"{name} trained", times)
            except ResultsDiffer as error:
                print(f"FAIL: {error}", file=sys.stderr)
                return 1
    print(f"Raw data: {raw}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
