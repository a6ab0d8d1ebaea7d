"""What every demo shares: tables, checks that say PASS or FAIL, the list of files, and planted errors.

A check compares something found with what it is held against. Planting an error in a check corrupts what was found
before the comparison, so that a run can show that each of its checks is able to fail, and where.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

DEMOS = (
    "total_derivative",
    "network",
    "equations",
    "pictures",
    "crosscheck",
    "magnifications",
    "circles",
    "programs",
    "errata",
    "trial",
    "explorers",
)


class Stage:
    """Where a demo appears: it prints, checks and remembers the files it wrote."""

    def __init__(self, out: Path, plant: str | None = None, console: Console | None = None) -> None:
        self.out = out
        self.plant = plant
        self.console = console or Console(highlight=False)
        self.demo = ""
        self.checks: list[tuple[str, bool]] = []
        self.files: list[Path] = []

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Text(f"── {text} ", "bold"), soft_wrap=True)
        self.console.print()

    def say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None) -> None:
        table = Table(*headers, header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(figure(cell)) for cell in row))
        self.console.print(table)
        if caption:
            self.say(caption)

    def progress(self, steps: Iterable[Any], text: str) -> Iterator[Any]:
        """The steps, with a bar that goes away at the end; for what takes longer than a second."""
        yield from track(list(steps), text, console=self.console, transient=True)

    def path(self, name: str) -> Path:
        """Where a file of that name goes; it is listed at the end."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / name
        self.files.append(path)
        return path

    # --- checks ---

    def close(self, name: str, found: Any, expected: Any, within: float, why: str = "", quiet: bool = False) -> bool:
        """found equals expected to a relative difference, measured against the largest expected entry."""
        expected = np.asarray(expected, dtype=float)
        found = np.asarray(self.planted(name, np.array(found, dtype=float)), dtype=float)
        if found.shape != expected.shape:
            return self.report(name, False, f"shape {found.shape} against {expected.shape}")
        difference = relative_difference(found, expected)
        ok = bool(difference <= within)
        note = f"relative difference {difference:.2g}, allowed {within:.2g}{why and ': ' + why}"
        if not ok:
            gap = np.abs(found - expected)
            where = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
            index = f"[{', '.join(map(str, where))}]" if where else ""
            note += f"; worst at {name}{index}: {found[where]:.10g} against {expected[where]:.10g}"
        return self.report(name, ok, note, quiet)

    def equal(self, name: str, found: Any, expected: Any, quiet: bool = False) -> bool:
        """found == expected exactly: texts, whole numbers, or lists of them."""
        found = self.planted(name, found)
        if found == expected:
            return self.report(name, True, f"equal: {_short(expected)}", quiet)
        if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
            at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            return self.report(name, False, f"entry {at}: {found[at]!r} against {expected[at]!r}")
        return self.report(name, False, f"{_short(found)} against {_short(expected)}")

    def at_least(self, name: str, found: float, bound: float) -> bool:
        """found >= bound."""
        found = self.planted(name, float(found), bound)
        return self.report(name, bool(found >= bound), f"{found:.6g}, at least {bound:.6g} expected")

    def planted(self, name: str, found: Any, bound: float | None = None) -> Any:
        """found, or its corruption if this is the check to plant an error in."""
        if self.plant is None or self.plant.removeprefix(f"{self.demo}:") != name:
            return found
        return corrupted(found, bound)

    def report(self, name: str, ok: bool, note: str, quiet: bool = False) -> bool:
        """Prints PASS or FAIL, keeps it for the end, and returns ok."""
        self.checks.append((f"{self.demo}:{name}", ok))
        if ok and quiet:  # the demo shows it in a table of its own
            return ok
        mark, style = ("PASS", "green") if ok else ("FAIL", "bold red")
        line = Text.assemble((mark, style), f" {self.demo}:{name}  ", (note, "dim" if ok else "red"))
        self.console.print(line, soft_wrap=True)
        return ok

    # --- the end ---

    def finish(self) -> int:
        """Prints files and verdict; 0 if every check passed, 1 if one failed, 2 if the error found no check."""
        failed = [name for name, ok in self.checks if not ok]
        self.title("Result")
        if self.files:
            self.say("Files written:")
            for path in self.files:
                self.say(f"  {path}")
        names = [name for name, _ in self.checks]
        if self.plant is not None and not any(self.plant in (name, name.partition(":")[2]) for name in names):
            self.say(f"No check is called {self.plant!r}; nothing was planted. The checks are: {', '.join(names)}")
            return 2
        if failed:
            self.console.print(Text(f"FAIL: {len(failed)} of {len(names)} checks: {', '.join(failed)}", "bold red"))
            return 1
        self.console.print(Text(f"PASS: all {len(names)} checks", "bold green"))
        return 0


def relative_difference(found: Any, expected: Any) -> float:
    """max |found - expected| / max |expected|: 0 where both vanish, inf for a nan on one side only."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    gap = np.abs(found - expected)
    if not gap.size or np.all(gap == 0.0):
        return 0.0
    size = np.max(np.abs(expected))
    difference = np.max(gap) / size if size else np.inf
    return float(difference) if np.isfinite(difference) else np.inf


def corrupted(found: Any, bound: float | None = None) -> Any:
    """The same thing with one entry wrong, by more than any tolerance would forgive."""
    if bound is not None:
        return bound - 1.0
    if isinstance(found, np.ndarray):
        wrong = found.copy()
        largest = np.unravel_index(np.argmax(np.abs(wrong)), wrong.shape)
        wrong[largest] = -2.0 * wrong[largest] - 1.0
        return wrong
    if isinstance(found, list):
        return [*found[:-1], corrupted(found[-1])] if found else ["(planted)"]
    if isinstance(found, bool):
        return not found
    if isinstance(found, (int, float)):
        return found + 1
    return f"{found} (planted)"


def figure(cell: Any) -> str:
    """A table's cell: floats to 6 significant digits."""
    return f"{cell:.6g}" if isinstance(cell, (float, np.floating)) else str(cell)


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."


def main(demos: Sequence[str] = DEMOS, arguments: Callable[[argparse.ArgumentParser], None] | None = None) -> int:
    """Runs demos by name from the command line; `arguments` adds a demo's own options."""
    single = demos[0] if len(demos) == 1 else None
    parser = argparse.ArgumentParser(
        prog=f"python -m demos{'.' + single if single else ''}",
        description="The tutorial on a scalar graph, checked against the formulas derived by hand.",
    )
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for pictures and curves")
    parser.add_argument("--plant", metavar="NAME", help="corrupt one side of this check; the run must then FAIL")
    if arguments:
        arguments(parser)
    options = vars(parser.parse_args())
    for stream in (sys.stdout, sys.stderr):  # an old terminal shows ? for what it cannot, and goes on
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    out = options.pop("out")
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):  # said before the work, not after it
        parser.error(f"--out {out}: {there} is no folder that can be written to")
    stage = Stage(out, options.pop("plant"))
    if stage.plant and not single and stage.plant.partition(":")[0] in DEMOS:
        demos = [stage.plant.partition(":")[0]]  # the other demos have no part in it
    for name in demos:
        stage.demo = name
        module = importlib.import_module(f"demos.{name}")
        stage.title(f"{name}: {(module.__doc__ or '').partition('.')[0]}")
        module.run(stage, **options)
    return stage.finish()
