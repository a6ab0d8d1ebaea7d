"""The report of `benchmarks.compiled`: a table per workload, targets, raw data, and the picture."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compiled_engines import OURS, PARTS
from benchmarks.programs import SMALL, verdict
from benchmarks.report import label_ends, nanoseconds_or_more
from benchmarks.rounds import Case
from benchmarks.workloads import workload

EVALUATIONS = ("value", "both", "alone", "plain")
BUILDING = 20.0  # how many times as long as ours CasADi shall build
RATIO, WORST_RATIO, ALONE = 2.5, 5.0, 1.2
Figure = Callable[[dict[str, Any]], float]  # what is wanted of one measurement


def seconds(part: str) -> Figure:
    """The seconds of one evaluation."""
    return lambda what: what["seconds"][part]


def building(*without: str) -> Figure:
    """The seconds until the first value and gradient, without those parts."""
    return lambda what: sum(spent for part, spent in what["parts"].items() if part not in without)


@dataclass
class Found:
    """What the rounds found."""

    engines: Sequence[str]
    rounds: dict[tuple[str, str], dict[int, dict[str, Any]]] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, case: Case, operations: int, what: dict[str, Any]) -> None:
        """Takes in one measurement."""
        self.rounds.setdefault((case.workload, case.engine), {})[number] = what
        self.operations[case.workload] = operations

    def of(self, name: str, engine: str, figure: Figure) -> list[float]:
        """The figure round by round; empty where the engine took no part."""
        return [figure(what) for what in self.rounds.get((name, engine), {}).values()]

    def ns(self, name: str, engine: str, figure: Figure) -> float | None:
        """The median of these seconds over the rounds, in ns per operation."""
        found = self.of(name, engine, figure)
        return median(found) / self.operations[name] * 1e9 if found else None

    def ratios(self, name: str, top: tuple[str, Figure], bottom: tuple[str, Figure]) -> list[float]:
        """(engine, figure) over (engine, figure), within each round that has both."""
        (a, of_a), (b, of_b) = ((self.rounds.get((name, engine), {}), figure) for engine, figure in (top, bottom))
        return [of_a(a[k]) / of_b(b[k]) for k in sorted(a.keys() & b.keys())]


# --- tables and targets -------------------------------------------------------------------------------------------


def cell(number: float | None, width: int) -> str:
    """The number in so many places; a dash where there is none."""
    if number is None:
        return f"{'-':>{width}}"
    return f"{number:>{width},.2f}" if number < 100 else f"{number:>{width},.0f}"


def lines_of(found: Found, name: str) -> list[str]:
    """The lines about one workload: ns per operation, engine by engine."""
    if name not in found.operations:
        return [f"{name}: none of the engines takes part"]
    title = workload(name.replace("W4", "W1")).title
    columns = [*PARTS, "value", "both", "both/value", "x casadi", "x hand", "peak MB"]
    lines = [
        f"{name}  {title}: {found.operations[name]} operations; ns per operation",
        " " * 25 + "".join(f"{column:>11}" for column in columns),
    ]
    for engine in found.engines:
        rounds = found.rounds.get((name, engine))
        if not rounds:
            continue
        first = next(iter(rounds.values()))
        label = engine + (f" ({first['note']})" if first["note"] and engine == OURS else "")
        cells = [
            found.ns(name, engine, lambda what, part=part: what["parts"].get(part, 0.0))
            if part in first["parts"]
            else None
            for part in PARTS
        ]
        cells += [found.ns(name, engine, seconds(part)) for part in ("value", "both")]
        cells.append(median(what["ratios"]["both/value"] for what in rounds.values()))
        for peer in ("casadi", "hand"):
            against = found.ratios(name, (engine, seconds("both")), (peer, seconds("both")))
            cells.append(median(against) if against and engine != peer else None)
        cells.append(max(what["peak"] for what in rounds.values()) / 2**20)
        lines.append(f"  {label:23}" + "".join(cell(number, 11) for number in cells))
        if "plain" in first["seconds"]:
            lines.append(f"    called with conversions: {found.ns(name, engine, seconds('plain')):.2f} for both")
    return lines


def verdicts(found: Found, judged: str) -> list[str]:
    """The lines about what the judged engine is held to; what was not measured has none."""
    lines = [f"Targets of {judged}"]

    def line(name: str, text: str, figures: Sequence[float], bound: float | None, at_least: bool = False) -> None:
        if figures:
            lines.append(verdict(f"{name} {text}", figures, bound, at_least))

    both = (judged, seconds("both"))
    for name, operations in found.operations.items():
        if name.startswith("W5"):
            line(name, "value and gradient / hand", found.ratios(name, both, ("hand", seconds("both"))), 3.0)
        if name.startswith(("W2", "W3")):
            bound = 1.0 if operations > 1100 else None  # "beyond 1000"
            line(name, "value and gradient / CasADi", found.ratios(name, both, ("casadi", seconds("both"))), bound)
    for name, operations in found.operations.items():
        if operations < 900:  # there, a call costs more than its operations
            continue
        bound = BUILDING if operations >= SMALL else None
        casadi = ("casadi", building())
        line(name, "building, CasADi / record and prepare",
             found.ratios(name, casadi, (judged, building("build"))), bound, True)  # fmt: skip
        line(name, "building, CasADi / build, record and prepare",
             found.ratios(name, casadi, (judged, building())), bound, True)  # fmt: skip
        if bound:
            there = ("casadi", building("build"))
            line(name, "building, CasADi from an expression that is there / record and prepare",
                 found.ratios(name, there, (judged, building("build"))), None)  # fmt: skip
    worst = []
    for name in found.operations:
        ratios = found.of(name, judged, lambda what: what["ratios"]["both/value"])
        if ratios:
            worst.append((median(ratios), name))
            value, gradient = (found.ns(name, judged, seconds(part)) for part in ("value", "both"))
            bound = RATIO if name == "W1-100" or name.startswith(("W2", "W5")) else None
            line(name, f"value and gradient / value, {gradient:.2f} / {value:.2f} ns/op", ratios, bound)
    if worst:
        line("all", f"value and gradient / value, the worst, {max(worst)[1]}", [max(worst)[0]], WORST_RATIO)
    for name in found.operations:
        rounds = found.rounds.get((name, judged), {}).values()
        line(name, "value / that of a program for the value only",
             [what["ratios"]["value/alone"] for what in rounds if "value/alone" in what["ratios"]], ALONE)  # fmt: skip
    return lines


def write_csv(path: Path, found: Found) -> None:
    """Every measurement of every round, in ns per operation."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [f"{part}_ns" for part in (*PARTS, "value_parts", *EVALUATIONS)]
        writer.writerow(
            ["workload", "operations", "engine", "back_end", "round", *names, "both/value", "start_s", "peak_bytes"]
        )
        for (name, engine), rounds in found.rounds.items():
            for number, what in rounds.items():
                times = what["parts"] | {"value_parts": what["value_parts"]} | what["seconds"]
                numbers = [times.get(part) for part in (*PARTS, "value_parts", *EVALUATIONS)]
                ns = ["" if s is None else f"{s / found.operations[name] * 1e9:.3f}" for s in numbers]
                last = [f"{what['ratios']['both/value']:.3f}", f"{what['start']:.3f}", what["peak"]]
                writer.writerow([name, found.operations[name], engine, what["note"], number, *ns, *last])


# --- the picture --------------------------------------------------------------------------------------------------

FAMILIES = {"W1": "network, growing batch (W1)", "W2": "chain x · a + b (W2)", "W3": "random graph (W3)"}
COLOUR = {
    "chainrule": "#9ecae9", "chainrule-python": "#2f9e77", "chainrule-numpy": "#66a61e", "chainrule-tape": "#7570b3",
    "chainrule-numba": "#0050a0", "chainrule-eager": "#888888", "casadi": "#d55e00", "jax-scalars": "#e6ab02",
    "jax": "#b8860b", "torch": "#c51b7d", "hand": "#000000",
}  # fmt: skip


def plot(path: Path, found: Found) -> list[Path]:
    """[the picture]: time per operation over operations, and gradient/value beneath; nothing with one size only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    sizes = {
        family: sorted((n for n in found.operations if n.partition("-")[0] == family), key=found.operations.__getitem__)
        for family in FAMILIES
    }
    sizes = {family: names for family, names in sizes.items() if len(names) > 1}
    if not sizes:
        return []
    figure = Figure(figsize=(1 + 5 * len(sizes), 8.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        2, len(sizes), squeeze=False, sharex="col", sharey="row", gridspec_kw={"height_ratios": [2.2, 1]}
    )
    for column, (family, names) in enumerate(sizes.items()):
        top, bottom = grid[:, column]
        ends: tuple[list[Any], list[Any]] = ([], [])
        for engine in found.engines:
            known = [n for n in names if (n, engine) in found.rounds]
            if not known:
                continue
            x = [found.operations[n] for n in known]
            wide = engine == OURS
            style: dict[str, Any] = {"color": COLOUR.get(engine, "#444444"), "linewidth": 7 if wide else 1.8,
                                     "zorder": 1 if wide else 2, "solid_capstyle": "round"}  # fmt: skip
            if not wide:
                style |= {"marker": "o", "markersize": 4}
            ratios = [median(found.of(n, engine, lambda what: what["ratios"]["both/value"])) for n in known]
            for axes, y, labels in (
                (top, [found.ns(n, engine, seconds("both")) for n in known], ends[0]),
                (bottom, ratios, ends[1]),
            ):
                axes.plot(x, y, **style)
                if axes is top:
                    labels.append((y[-1], x[-1], engine, style["color"] if not wide else "#4a90c4"))
        for axes in (top, bottom):
            axes.set_xscale("log")
            axes.grid(True, which="major", color="#e2e2e2", linewidth=0.8)
            axes.set_axisbelow(True)
            axes.xaxis.set_minor_locator(NullLocator())
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        top.set_yscale("log")
        top.set_title(FAMILIES[family], loc="left", fontsize=11)
        bound = WORST_RATIO if family == "W3" else RATIO
        bottom.axhline(bound, color="#bb0000", linewidth=1, linestyle=(0, (4, 3)))
        bottom.annotate(f"at most {bound:g}", (0.99, bound + 0.1), xycoords=("axes fraction", "data"), ha="right",
                        color="#bb0000", fontsize=8.5)  # fmt: skip
        bottom.set_xlabel("operations")
        grid[0][column].ends = ends[0]
    low, high = grid[0][0].get_ylim()
    for column, names in enumerate(sizes.values()):
        top, bottom = grid[:, column]
        top.set_ylim(low / 1.2, high * 1.2)
        first, last = found.operations[names[0]], found.operations[names[-1]]
        top.set_xlim(first / 1.5, last * max((last / first) ** 0.36, 6.0))
        label_ends(top, top.ends, margin=last / 30)
        top.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        top.yaxis.set_minor_locator(NullLocator())
        top.yaxis.set_major_formatter(nanoseconds_or_more)
        bottom.set_ylim(0.0, 5.7)
    grid[0][0].set_ylabel("time per operation, value and gradient")
    grid[1][0].set_ylabel("value and gradient / value")
    figure.suptitle(
        "Cost of one operation, functions prepared once: medians over the rounds; "
        "the broad line is the back end that record chooses", x=0.01, ha="left", fontsize=12,
    )  # fmt: skip
    figure.savefig(path)
    return [path]
