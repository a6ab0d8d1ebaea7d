"""One engine, one workload, one process: `python -m benchmarks.worker JOB` prints one JSON object.

JOB is a JSON object: engine, workload, operations (of one step), gc (true: Python's default; false: off), seconds (how
long to repeat), clock (wall or cpu), memory (true: measure bytes instead of time), plant (true: return a gradient whose
largest entry is wrong by one in a million, to show that the check finds it).
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

from benchmarks.engines import ENGINES, Step
from benchmarks.workloads import workload

CLOCKS = {"wall": perf_counter, "cpu": process_time}
SLOW = 15.0  # seconds
COLLECT_EVERY = 10_000  # operations between two collections by hand, when gc is off


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What the job found: times in seconds per step or bytes, and loss and gradient."""
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
    gradient = found.gradient
    if job["plant"]:
        largest = max(gradient, key=abs)
        gradient = [entry * (1.0 + 1e-6) if entry == largest else entry for entry in gradient]
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
