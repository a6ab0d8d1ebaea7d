"""`python -m benchmarks`: value and gradient of scalar graphs, side by side in several engines."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engines import ENGINES, SOURCE, installed, version
from benchmarks.report import CLOCKS, Results, gc_words, notes, plot, show, write_csv, write_markdown
from benchmarks.rounds import ResultsDiffer, cases, in_a_process, measure
from benchmarks.workloads import FULL, QUICK, counted, workload

INSTALL = 'install the peers with: pip install -e ".[bench]"'


def main(argv: Sequence[str] | None = None, run: Callable[[dict[str, Any]], dict[str, Any]] = in_a_process) -> int:
    """The command; 0, or 1 if results differ or a worker fails, or 2 if it was asked for what is not there.

    run measures one job, in a process of its own unless a test puts something else in its place.
    """
    options = parsed(argv)
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        print(f"the benchmarks print with rich; {INSTALL}", file=sys.stderr)
        return 2
    console = Console(highlight=False, markup=False)
    missing = [name for name in options.engines if name not in installed()]
    if missing:
        console.print(f"not installed: {', '.join(missing)}; {INSTALL}", style="bold red", soft_wrap=True)
        return 2
    for name in set(ENGINES) - set(installed()):
        console.print(f"{name} is not installed and takes no part; {INSTALL}", style="yellow", soft_wrap=True)
    setting = (
        f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}; "
        f"{', '.join(f'{name} {version(name)}' for name in options.engines)}"
    )
    console.print(setting, soft_wrap=True)

    results = Results(options.engines, options.workloads)
    small = sum(counted(name)[1] <= 200_000 for name in options.workloads)
    total = len(cases(options.workloads, options.engines)) * options.rounds + small * len(options.engines)
    columns = (TextColumn("{task.description:42}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=total)

        def shown(job: dict[str, Any]) -> dict[str, Any]:
            what = "memory" if job["memory"] else gc_words(job["gc"])
            progress.update(task, description=f"{job['workload']}, {what}, {job['engine']}")
            return run(job)

        try:
            for kind, number, case, found in measure(
                options.workloads,
                options.engines,
                options.rounds,
                options.seconds,
                options.clock,
                options.plant,
                shown,
            ):
                results.add(kind, number, case, found)
                progress.advance(task)
        except (ResultsDiffer, RuntimeError) as error:
            console.print(f"FAIL: {error}", style="bold red", soft_wrap=True)
            return 1

    lines = notes(results, options.rounds, options.seconds, options.clock)
    show(results, lines, console.print)
    options.out.mkdir(parents=True, exist_ok=True)
    files = [options.out / "benchmarks.md", options.out / "benchmarks.csv"]
    write_markdown(files[0], results, lines, setting)
    write_csv(files[1], results)
    try:
        if plot(options.out / "benchmarks.png", results):
            files.append(options.out / "benchmarks.png")
        else:
            console.print("No plot: it needs W2 in two sizes or more")
    except ImportError:
        console.print(f"No plot: matplotlib is missing; {INSTALL}", style="yellow", soft_wrap=True)
    console.print("Files written:", *map(str, files), sep="\n  ", soft_wrap=True)
    return 0


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options, complete and valid."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(": ")[2])
    parser.add_argument("--quick", action="store_true", help="small sizes, 2 short rounds: under a minute")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 5)")
    parser.add_argument("--seconds", type=float, help="how long a process repeats its step (default 0.3)")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time, for a machine that others use too"
    )
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help=f"a family and a size: {', '.join(FULL)}")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=[e for e in SOURCE if e in installed()])
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for table, raw data and plot")
    parser.add_argument("--plant", choices=list(ENGINES), help="return a wrong gradient from it; the run must FAIL")
    options = parser.parse_args(argv)
    rounds, seconds, workloads = (2, 0.05, QUICK) if options.quick else (5, 0.3, FULL)
    options.rounds = rounds if options.rounds is None else options.rounds
    options.seconds = seconds if options.seconds is None else options.seconds
    options.workloads = list(dict.fromkeys(options.workloads or workloads))  # each once
    options.engines = list(dict.fromkeys(options.engines))
    if options.rounds < 1 or options.seconds <= 0.0:
        parser.error("--rounds and --seconds are positive")
    if options.plant and options.plant not in options.engines:
        parser.error(f"--plant {options.plant} needs {options.plant} among --engines")
    if options.plant and len(options.engines) < 2:
        parser.error("--plant needs a second engine to compare with")
    for name in options.workloads:
        try:
            workload(name)
        except ValueError as error:
            parser.error(str(error))
    return options


if __name__ == "__main__":
    sys.exit(main())
