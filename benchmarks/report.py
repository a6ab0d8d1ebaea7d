"""The report: medians over rounds, ratios, targets, a table for the terminal, Markdown, CSV, and the plot."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.engines import version
from benchmarks.rounds import Case
from benchmarks.worker import SLOW
from benchmarks.workloads import counted, plural, workload

OURS = "chainrule"
PARTS = ("total", "build", "backward", "drop")
CLOCKS = {"wall": "wall-clock time", "cpu": "processor time of the process, as the machine was busy"}


class Spread(NamedTuple):
    """The median over the rounds, and the extremes."""

    median: float
    low: float
    high: float
    rounds: int

    @staticmethod
    def of(numbers: Sequence[float]) -> Spread | None:
        """The spread of these numbers; None if there are none."""
        return Spread(median(numbers), min(numbers), max(numbers), len(numbers)) if numbers else None

    def __format__(self, spec: str) -> str:
        text = f"{self.median:{spec}}"
        return text if self.rounds == 1 else f"{text} ({self.low:{spec}}-{self.high:{spec}})"


class Target(NamedTuple):
    """What acceptance asks for."""

    text: str
    figure: float | None
    bound: float
    at_least: bool

    @property
    def verdict(self) -> str:
        """reached, missed or not measured."""
        if self.figure is None:
            return "not measured"
        return "reached" if (self.figure >= self.bound) == self.at_least or self.figure == self.bound else "missed"


@dataclass
class Results:
    """What the rounds found."""

    engines: Sequence[str]
    workloads: Sequence[str]
    times: dict[Case, dict[int, dict[str, Any]]] = field(default_factory=dict)
    bytes: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, round_number: int, case: Case, found: dict[str, Any]) -> None:
        """Takes in one measurement, as `rounds.measure` yields them."""
        operations = counted(case.workload)[1]
        if len(found["added"]) > len(self.added.get(case.engine, "")):
            self.added[case.engine] = found["added"]
        if kind == "memory":
            self.bytes[case.workload, case.engine] = {k: v / operations for k, v in found["bytes"].items()}
        else:
            self.times.setdefault(case, {})[round_number] = {
                part: None if found[part] is None else found[part] / operations * 1e9 for part in PARTS
            } | {"steps": found["steps"]}

    def nanoseconds(self, case: Case, part: str = "total") -> Spread | None:
        """ns per operation over the rounds."""
        numbers = [found[part] for found in self.times.get(case, {}).values()]
        return None if None in numbers else Spread.of(numbers)

    def ratio(self, name: str, gc: bool, peer: str) -> Spread | None:
        """How many times as long as ours the peer takes, round by round."""
        ours, theirs = (self.times.get(Case(name, gc, engine), {}) for engine in (OURS, peer))
        return Spread.of([theirs[k]["total"] / ours[k]["total"] for k in sorted(ours.keys() & theirs.keys())])

    def targets(self) -> list[Target]:
        """What acceptance asks for, with what was found."""
        found = [
            Target(
                f"{name}, {gc_words(gc)}: micrograd takes at least {bound:g} times as long",
                ratio.median if (ratio := self.ratio(name, gc, "micrograd")) else None,
                bound,
                True,
            )
            for name, gc, bound in (
                ("W1-100", True, 3.5), ("W5-100", True, 12.0), ("W1-100", False, 1.9), ("W5-100", False, 2.5),
            )
        ]  # fmt: skip
        small, large = (self.nanoseconds(Case(name, False, OURS)) for name in ("W2-1e4", "W2-1e6"))
        growth = large.median / small.median if small and large else None
        found.append(Target("W2, gc off: time per operation at 10^6 at most 2 times that at 10^4", growth, 2.0, False))
        most = [
            found["held"]
            for (name, engine), found in self.bytes.items()
            if engine == OURS and counted(name)[1] >= 1000  # below, the leaves weigh as much as the operations
        ]
        text = "bytes held per operation at most 140, in all workloads of 10^3 operations or more"
        found.append(Target(text, max(most, default=None), 140.0, False))
        return found


def gc_words(gc: bool) -> str:
    """How the report calls the two states of the garbage collector."""
    return "gc default" if gc else "gc off"


# --- tables ---------------------------------------------------------------------------------------------------

Table = tuple[str, list[str], list[list[str]]]  # caption, headers, rows


def tables(results: Results) -> list[Table]:
    """The tables of the report, as text; a dash stands for what was not measured."""
    engines, names = results.engines, results.workloads
    peers = [engine for engine in engines if engine != OURS and OURS in engines]
    rows = [(name, gc) for name in names for gc in (True, False)]
    starts = [[name, "default" if gc else "off"] for name, gc in rows]

    def with_starts(cell: Callable[[str, bool, str], str], columns: Sequence[str]) -> list[list[str]]:
        return [start + [cell(*row, column) for column in columns] for start, row in zip(starts, rows, strict=True)]

    def time(name: str, gc: bool, engine: str) -> str:
        spread = results.nanoseconds(Case(name, gc, engine))
        return f"{spread:,.0f}" if spread else "-"

    def ratio(name: str, gc: bool, peer: str) -> str:
        spread = results.ratio(name, gc, peer)
        return f"{spread:.2f}" if spread else "-"

    def parts(name: str, gc: bool, engine: str) -> str:
        spreads = [results.nanoseconds(Case(name, gc, engine), part) for part in PARTS[1:]]
        return " + ".join(f"{spread.median:,.0f}" for spread in spreads if spread) or "-"

    def memory(name: str, engine: str) -> str:
        found = results.bytes.get((name, engine))
        return f"{found['held']:,.0f} / {found['peak']:,.0f}" if found else "-"

    separable = [engine for engine in engines if any(parts(name, gc, engine) != "-" for name, gc in rows)]
    titles = [[name, workload(name).title, f"{counted(name)[1]:,}"] for name in names]
    weighed = [[name, *(memory(name, engine) for engine in engines)] for name in names]
    targets = [[t.text, "-" if t.figure is None else f"{t.figure:.2f}", t.verdict] for t in results.targets()]
    return [
        ("Workloads", ["workload", "what", "operations"], titles),
        (
            "Value and gradient, ns per operation: median over the rounds (min-max)",
            ["workload", "gc", *engines],
            with_starts(time, engines),
        ),
        (
            f"How many times as long as {OURS}: median of the ratios within a round (min-max)",
            ["workload", "gc", *peers],
            with_starts(ratio, peers),
        ),
        (
            "Where it can be separated, ns per operation: build + backward + drop (medians)",
            ["workload", "gc", *separable],
            with_starts(parts, separable),
        ),
        (
            "Bytes per operation, tracemalloc: held by the graph after backward / peak on the way",
            ["workload", *engines],
            [row for row in weighed if set(row[1:]) != {"-"}],
        ),
        ("Targets", ["target", "found", "verdict"], targets),
    ]


def notes(results: Results, rounds: int, seconds: float, clock: str) -> list[str]:
    """What a reader must know to trust the figures."""
    lines = [
        f"One process per engine and measurement, interleaved, {plural(rounds, 'round')} of at least {seconds:g} s; "
        f"{CLOCKS[clock]}; float64; the same operations in the same order; losses and gradients agree to 1e-9.",
        "A step is: zero the grads, build, backward, read loss and gradient, drop the graph. With gc at its default, "
        "cycles of earlier steps are collected inside later ones and timed; with gc off, they are collected between "
        "steps and not timed.",
        "An operation is one of the workload as written, whatever number of nodes an engine records for it.",
    ]
    single = sorted({case.engine for case, found in results.times.items() if len(found) < rounds})
    if single:
        lines.append(f"Steps of {', '.join(single)} that take over {SLOW:g} s were made once, in the first round.")
    for engine in results.engines:
        what = results.added.get(engine)
        lines.append(f"{engine} {version(engine)}: {what or 'as it is'}.")
    return lines


def write_markdown(path: Path, results: Results, lines: Sequence[str], setting: str) -> None:
    """The tables and notes as one Markdown file."""
    text = ["# Value and gradient of scalar graphs, side by side", "", setting, ""]
    for caption, headers, rows in tables(results):
        text += [f"**{caption}**", "", f"| {' | '.join(headers)} |", "|" + " --- |" * len(headers)]
        text += [f"| {' | '.join(row)} |" for row in rows] + [""]
    text += [f"- {line}" for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def write_csv(path: Path, results: Results) -> None:
    """Every measurement of every round, in ns per operation."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["workload", "operations", "gc", "engine", "round", *(f"{part}_ns" for part in PARTS), "steps"])
        for case, rounds in results.times.items():
            for number, found in rounds.items():
                numbers = ["" if found[part] is None else f"{found[part]:.2f}" for part in PARTS]
                start = [case.workload, counted(case.workload)[1], gc_words(case.gc), case.engine, number]
                writer.writerow([*start, *numbers, found["steps"]])


# --- the plot -------------------------------------------------------------------------------------------------

COLOUR = {"chainrule": "#0072b2", "micrograd": "#d55e00", "autograd": "#5a5a5a"}  # told apart by all kinds of eyes


def plot(path: Path, results: Results) -> bool:
    """Time per operation against operations, log-log, over the chain W2; False if fewer than two sizes ran."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    chains = sorted((name for name in results.workloads if name.startswith("W2")), key=lambda name: counted(name)[1])
    if len(chains) < 2:
        return False
    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ends: list[tuple[float, float, str, str]] = []
    for engine in results.engines:
        for gc in (True, False):
            points = [(counted(name)[1], results.nanoseconds(Case(name, gc, engine))) for name in chains]
            known = [(x, spread) for x, spread in points if spread is not None]
            if not known:
                continue
            x, middle = [x for x, _ in known], [s.median for _, s in known]
            colour = COLOUR.get(engine, "black")
            style: dict[str, Any] = {"linestyle": "-" if gc else (0, (4, 2)), "marker": "o", "markersize": 5}
            axes.plot(x, middle, color=colour, linewidth=2, markerfacecolor=colour if gc else "white", **style)
            low, high = [s.low for _, s in known], [s.high for _, s in known]
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
            ends.append((middle[-1], x[-1], f"{engine}, {gc_words(gc)}", colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.2, high * 1.2)
    label_ends(axes, ends)
    first, last = counted(chains[0])[1], counted(chains[-1])[1]
    axes.set_xlim(first / 1.4, last * (last / first) ** 0.42)
    axes.set_xticks([counted(name)[1] for name in chains])
    axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(nanoseconds_or_more)
    axes.xaxis.set_minor_locator(NullLocator())
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("operations in the chain x = x · a + b")
    axes.set_ylabel("time per operation, value and gradient")
    axes.set_title("Cost of one operation: median over the rounds, band from min to max", loc="left", fontsize=11)
    figure.savefig(path)
    return True


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]], margin: float = 0.0) -> None:
    """Writes each label to the right of its line's end, moved up where it would hide the one below.

    Lines that end at margin or later have their labels in one column, to the right of the last of them.
    """
    low, high = axes.get_ylim()
    apart = (high / low) ** 0.05
    floor, last = 0.0, max(x for _, x, _, _ in ends)
    for y, x, text, colour in sorted(ends):
        place, right = max(y, floor), last if margin and x >= margin else x
        axes.annotate(text, (x, y), (right * 1.25, place), color=colour, va="center", fontsize=9.5,
                      arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
                      if place > y * 1.02 or right > x else None)  # fmt: skip
        floor = place * apart


def nanoseconds_or_more(value: float, _position: int) -> str:
    """A tick of the time axis: 200 ns, 1 µs, 50 µs."""
    return f"{value:g} ns" if value < 1000 else f"{value / 1000:g} µs" if value < 1e6 else f"{value / 1e6:g} ms"


def show(results: Results, lines: Sequence[str], say: Callable[[Any], None]) -> None:
    """Prints tables and notes with rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    colours = {"reached": "green", "missed": "bold red", "not measured": "dim"}
    for caption, headers, rows in tables(results):
        table = RichTable(title=caption, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for k, header in enumerate(headers):
            numeric = k > 1 or (k == 1 and rows and rows[0][1][:1].isdigit())
            table.add_column(header, justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(Text(text, colours.get(text, "")) for text in row))
        say(table)
    for line in lines:
        say(Text(f"- {line}"))
