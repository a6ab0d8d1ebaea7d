"""One engine, one workload, one process: `python -m benchmarks.worker JOB` prints one JSON object.

JOB is a JSON object: engine, workload, operations (of one step), gc (true: Python's default; false: off), seconds (how
long to repeat), clock (wall or cpu), memory (true: measure bytes instead of time), plant (true: return a gradient whose
largest entry is wrong by one in a million, to show that the check finds it).

With "prepare": true, the engine is one of `compiled_engines`, which prepares a function once: what that takes, and the
evaluations of the value and of value and gradient, in turns. With "train": true, it is `programs.train`.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.engines import ENGINES, Step
from benchmarks.workloads import workload

CLOCKS = {"wall": perf_counter, "cpu": process_time}
SLOW = 15.0  # seconds
COLLECT_EVERY = 10_000  # operations between two collections by hand, when gc is off
TURN = 0.02  # seconds for which an evaluation is repeated in its turn
TWICE = 200_000  # operations, above which there is no second program to compare the value with


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What the job found: times in seconds per step or bytes, and loss and gradient."""
    if job.get("prepare"):
        return prepared(job)
    if job.get("train"):
        return trained(job)
    engine = ENGINES[job["engine"]]()
    work = workload(job["workload"])
    operations = job["operations"]
    if job["memory"]:
        return {"added": engine.added, "bytes": memory(engine.hold(work))}
    step = engine.stepper(work, CLOCKS[job["clock"]])
    if not job["gc"]:
        gc.disable()
    try:
        steps, found = repeat(step, job["seconds"] / 4, operations, 1)  # warm up
        if found.seconds < SLOW:  # a step that takes longer is its own warm-up
            steps, found = repeat(step, job["seconds"], operations, 2 if operations < 500_000 else 1)
    finally:
        gc.enable()
    gradient = planted(found.gradient, job["plant"])
    separable = found.build is not None
    return {
        "added": engine.added,
        "steps": len(steps),
        "loss": found.loss,
        "gradient": gradient,
        "total": sum(map(sum, steps)) / len(steps),
        **{
            part: sum(step[k] for step in steps) / len(steps) if separable else None
            for k, part in enumerate(("build", "backward", "drop"))
        },
    }


def planted(gradient: list[float], wrong: bool) -> list[float]:
    """The gradient, wrong in its largest entry if asked for."""
    largest = max(gradient, key=abs)
    return [entry * (1.0 + 1e-6) if wrong and entry == largest else entry for entry in gradient]


def prepared(job: dict[str, Any]) -> dict[str, Any]:
    """What the job found: seconds of starting, of each part, and per evaluation, loss and gradient, peak bytes."""
    from benchmarks import compiled_engines

    now = CLOCKS[job["clock"]]
    start = now()
    engine = compiled_engines.ENGINES[job["engine"]].warmed(now)
    started = now() - start
    if not job["gc"]:
        gc.disable()
    try:
        return measured(engine, job, now) | {"start": started}
    finally:
        gc.enable()


def measured(engine: Any, job: dict[str, Any], now: Callable[[], float]) -> dict[str, Any]:
    """What `prepared` found, but for starting."""
    found = engine.prepared(job["workload"], now, job["operations"] <= TWICE)
    loss, gradient, value = found.result()
    evaluations = {"value": found.value, "both": found.both}
    for more in ("alone", "plain"):
        if getattr(found, more) is not None:
            evaluations[more] = getattr(found, more)
    times = in_turns(evaluations, now, job["seconds"])
    ratios = {
        f"{top}/{bottom}": median(a / b for a, b in zip(times[top], times[bottom], strict=True))
        for top, bottom in (("both", "value"), ("value", "alone"))
        if bottom in times
    }
    return {
        "parts": found.parts, "value_parts": found.value_parts, "note": found.note, "loss": loss,
        "gradient": planted(gradient, job["plant"]), "value": value, "peak": peak(), "ratios": ratios,
        "seconds": {part: median(seconds) for part, seconds in times.items()},
    }  # fmt: skip


def trained(job: dict[str, Any]) -> dict[str, Any]:
    """The times of `programs.train` with that back end, and the back end it was."""
    from benchmarks import programs

    plant = "program" if job["plant"] else None
    times, back_end = programs.train(job["workload"], job["rounds"], job["clock"], plant, job["back_end"])
    return {"times": times, "back_end": back_end}


def in_turns(
    functions: dict[str, Callable[[], Any]], now: Callable[[], float], seconds: float
) -> dict[str, list[float]]:
    """{name: the seconds of one call in each turn}; the functions take turns, for so many seconds and three turns."""
    repeats = {}
    for name, f in functions.items():
        f()
        start = now()
        f()
        repeats[name] = max(1, min(1000, int(TURN / max(now() - start, 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in functions}
    begin = now()
    while now() - begin < seconds or len(times["value"]) < 3:
        for name, f in functions.items():
            start = now()
            for _ in range(repeats[name]):
                f()
            times[name].append((now() - start) / repeats[name])
    return times


def peak() -> int:
    """The most memory that this process held so far, in bytes; 0 where nobody knows."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # no Linux
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    # elsewhere it can be that of the process that started this one, where that was larger
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def repeat(
    step: Callable[[], Step], seconds: float, operations: int, at_least: int
) -> tuple[list[tuple[float, float, float]], Step]:
    """(the (build, backward, drop) of every step, the last step), for so many seconds and steps."""
    times: list[tuple[float, float, float]] = []
    spent, uncollected = 0.0, 0
    while spent < seconds or len(times) < at_least:
        found = step()
        times.append((found.build or 0.0, found.backward, found.drop))
        spent += found.seconds
        uncollected += operations
        if not gc.isenabled() and uncollected >= COLLECT_EVERY:
            gc.collect()
            uncollected = 0
    return times, found


def memory(hold: Callable[[], Any]) -> dict[str, int]:
    """Bytes by tracemalloc: held by the graph after backward, and at most on the way."""
    hold()  # whatever an engine makes once and keeps
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    graph = hold()
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del graph
    return {"held": held - before, "peak": max(peak, held) - before}


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
