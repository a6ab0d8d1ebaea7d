"""Rounds: which processes run, in which order, and the check that all of them computed the same."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.worker import SLOW
from benchmarks.workloads import counted

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-9  # relative, entry by entry: what engines may differ by; rounding gives about 1e-13


class Case(NamedTuple):
    """One measurement that is repeated in every round."""

    workload: str
    gc: bool
    engine: str


class ResultsDiffer(Exception):
    """Two engines did not compute the same, so their times say nothing."""


def cases(workloads: Sequence[str], engines: Sequence[str]) -> list[Case]:
    """The cases of one round; the engines follow each other directly."""
    return [Case(name, gc, engine) for name in workloads for gc in (True, False) for engine in engines]


def measure(
    workloads: Sequence[str],
    engines: Sequence[str],
    rounds: int,
    seconds: float,
    clock: str,
    plant: str | None,
    run: Callable[[dict[str, Any]], dict[str, Any]],
) -> Iterator[tuple[str, int, Case, dict[str, Any]]]:
    """("time", round, case, found) and, first, ("memory", 0, case, found), as they come in; checked on the way.

    Raises ResultsDiffer as soon as one process has found another loss or gradient than the processes before.
    """

    def job(case: Case, memory: bool) -> dict[str, Any]:
        operations = counted(case.workload)[1]
        how = {"seconds": seconds, "clock": clock, "memory": memory, "plant": case.engine == plant}
        return {**case._asdict(), "operations": operations, **how}

    expected: dict[str, tuple[str, list[float]]] = {}
    slow: set[Case] = set()
    for name in workloads:
        if counted(name)[1] <= 200_000:  # tracemalloc is slow, and the figure does not depend on the size
            for engine in engines:
                case = Case(name, True, engine)
                yield "memory", 0, case, run(job(case, True))
    for round_number in range(rounds):
        for case in cases(workloads, engines):
            if case in slow:
                continue
            found = run(job(case, False))
            loss = counted(case.workload)[0]
            gradient = found.pop("gradient")
            check(case, "plain floats", [loss], [found["loss"]], "the loss")
            peer, reference = expected.setdefault(case.workload, (case.engine, gradient))
            check(case, peer, reference, gradient, "d(loss)/d(parameter {})")
            if found["total"] > SLOW:  # once is enough
                slow.add(case)
            yield "time", round_number, case, found


def check(case: Case, peer: str, expected: Sequence[float], found: Sequence[float], what: str) -> None:
    """Raises ResultsDiffer, naming the first entry that differs by more than the tolerance."""
    if len(expected) != len(found):
        raise ResultsDiffer(f"{case.workload}: {case.engine} has {len(found)} numbers, {peer} {len(expected)}")
    for k, (a, b) in enumerate(zip(expected, found, strict=True)):
        if not (math.isfinite(a) and abs(a - b) <= TOLERANCE * abs(a)):
            raise ResultsDiffer(
                f"{case.workload}: {what.format(k)} is {b!r} in {case.engine} and {a!r} in {peer}; "
                f"more than {TOLERANCE:g} apart, so nothing was compared"
            )


def threads(number: int) -> dict[str, str]:
    """The environment in which NumPy's BLAS, numba, XLA and torch use at most so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
    eigen = "--xla_cpu_multi_thread_eigen=" + ("false" if number == 1 else "true")
    return {**dict.fromkeys(names, str(number)), "XLA_FLAGS": eigen, "JAX_PLATFORMS": "cpu"}


def in_a_process(job: dict[str, Any]) -> dict[str, Any]:
    """What a worker process found; RuntimeError with its last words if it failed. "threads": how many it may use."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    more = threads(job["threads"]) if "threads" in job else {}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", json.dumps(job)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path, **more}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{job['engine']} failed on {job['workload']}:\n{done.stderr.strip()}")
    return json.loads(done.stdout)
