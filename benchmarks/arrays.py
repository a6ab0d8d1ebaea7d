"""`python -m benchmarks.arrays`: value and gradient of two networks on arrays, side by side.

W6  the document's MLP [2, 4, 3, 1], relu, relu, sigmoid, mean cross-entropy, 1000 samples
W7  an MLP [64, 256, 256, 10] of the same kind, 256 samples

The loss is written once, in NumPy's functions. hand is the backward pass that a person would write for it in NumPy;
chainrule differentiates the loss as it stands, autograd with its own numpy in place of NumPy, MyGrad with its own
functions and tensors, each with its default settings and nothing patched. All run in one process, twenty steps of each
in turn, so that what the machine and the C library's memory do meets all alike (chainrule, once imported, lets the
library keep freed memory, which speeds up all of them); what counts is the median of the ratios of neighbouring
turns. Losses and gradients must agree to 1e-9.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata, util
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np

Arrays = list[Any]
Step = Callable[[], tuple[float, Arrays]]  # one step: (loss, the gradients of W1, b1, W2, b2, ...)
CLOCKS = {"wall": perf_counter, "cpu": process_time}
TURN = 20  # steps of one engine in a row: training repeats its step, and does not start each with cold caches
TOLERANCE = 1e-9  # relative to the largest entry of each gradient; rounding gives about 1e-13


class Workload(NamedTuple):
    """A network, its data, and what it is held to: (peer, bound, whether the figure must be at least the bound)."""

    title: str
    sizes: tuple[int, ...]
    samples: int
    steps: int
    targets: tuple[tuple[str, float, bool], ...]


WORKLOADS = {
    "W6": Workload(
        "MLP [2, 4, 3, 1], 1000 samples", (2, 4, 3, 1), 1000, 1000,
        (("hand", 2.5, False), ("autograd", 2.0, True), ("mygrad", 2.0, True)),
    ),
    "W7": Workload("MLP [64, 256, 256, 10], 256 samples", (64, 256, 256, 10), 256, 300, (("hand", 1.15, False),)),
}  # fmt: skip


def data(work: Workload) -> tuple[Any, Any, Arrays]:
    """(X, y, [W1, b1, W2, b2, ...]) from a generator of our own."""
    generator = np.random.default_rng(6)
    X = generator.normal(size=(work.samples, work.sizes[0]))
    y = (generator.random((work.samples, work.sizes[-1])) < 0.5).astype(float)
    parameters: Arrays = []
    for n_in, n_out in zip(work.sizes, work.sizes[1:], strict=False):
        parameters += [generator.normal(size=(n_in, n_out)) * np.sqrt(1.0 / n_in), np.full((1, n_out), 0.1)]
    return X, y, parameters


def loss_in(np: Any) -> Callable[[Arrays, Any, Any], Any]:
    """The loss, written with the functions of that NumPy."""

    def loss(parameters: Arrays, X: Any, y: Any) -> Any:
        a, last = X, len(parameters) - 2
        for k in range(0, len(parameters), 2):
            z = a @ parameters[k] + parameters[k + 1]
            a = 1.0 / (1.0 + np.exp(-z)) if k == last else np.maximum(0.0, z)
        return -np.sum(y * np.log(a) + (1.0 - y) * np.log(1.0 - a)) / X.shape[0]

    return loss


# --- the engines --------------------------------------------------------------------------------------------------


def by_hand(X: Any, y: Any, parameters: Arrays) -> Step:
    """The forward pass of `loss_in`, and the backward pass derived for it."""
    W, b = parameters[::2], parameters[1::2]
    layers, n = len(W), len(X)

    def step() -> tuple[float, Arrays]:
        z, a = [], [X]
        for k in range(layers):
            z.append(a[-1] @ W[k] + b[k])
            a.append(1.0 / (1.0 + np.exp(-z[-1])) if k == layers - 1 else np.maximum(0.0, z[-1]))
        yhat = a[-1]
        loss = -np.sum(y * np.log(yhat) + (1.0 - y) * np.log(1.0 - yhat)) / n
        gradient: Arrays = []
        da = ((1.0 - y) / (1.0 - yhat) - y / yhat) / n
        for k in reversed(range(layers)):
            dz = da * yhat * (1.0 - yhat) if k == layers - 1 else da * (z[k] > 0.0)
            gradient = [a[k].T @ dz, dz.sum(axis=0, keepdims=True), *gradient]
            if k:
                da = dz @ W[k].T
        return float(loss), gradient

    return step


def chainrule(X: Any, y: Any, parameters: Arrays) -> Step:
    """Our own transform of the loss in plain NumPy."""
    value_and_grad = import_module("autodiff").value_and_grad(loss_in(np))
    return lambda: value_and_grad(parameters, X, y)


def autograd(X: Any, y: Any, parameters: Arrays) -> Step:
    """HIPS autograd's transform of the loss in its NumPy."""
    value_and_grad = import_module("autograd").value_and_grad(loss_in(import_module("autograd.numpy")))
    return lambda: value_and_grad(parameters, X, y)


def mygrad(X: Any, y: Any, parameters: Arrays) -> Step:
    """MyGrad's tensors, made anew in every step, as its users do: backward leaves the gradient in them."""
    library = import_module("mygrad")
    loss = loss_in(library)

    def step() -> tuple[float, Arrays]:
        tensors = [library.tensor(array) for array in parameters]
        output = loss(tensors, X, y)
        output.backward()
        return output.item(), [tensor.grad for tensor in tensors]

    return step


ENGINES: dict[str, Callable[[Any, Any, Arrays], Step]] = {
    "hand": by_hand, "chainrule": chainrule, "autograd": autograd, "mygrad": mygrad,
}  # fmt: skip


def installed() -> list[str]:
    """The engines that can run here."""
    return [name for name in ENGINES if name in ("hand", "chainrule") or util.find_spec(name) is not None]


# --- rounds -------------------------------------------------------------------------------------------------------


class ResultsDiffer(Exception):
    """Two engines did not compute the same, so their times say nothing."""


def check(name: str, engine: str, found: tuple[float, Arrays], expected: tuple[float, Arrays]) -> None:
    """Raises ResultsDiffer where loss or gradient is off by more than the tolerance."""
    parts = [("the loss", found[0], expected[0])]
    parts += [(f"gradient {k}", a, b) for k, (a, b) in enumerate(zip(found[1], expected[1], strict=True))]
    for what, a, b in parts:
        worst = np.max(np.abs(np.asarray(a) - b)) if np.shape(a) == np.shape(b) else np.inf
        if not worst <= TOLERANCE * np.max(np.abs(b)):
            raise ResultsDiffer(f"{name}: {what} of {engine} is off by {worst:g}; nothing was compared")


def measure(name: str, engines: Sequence[str], steps: int, clock: str, plant: str | None = None) -> list[list[float]]:
    """[the seconds of each engine's step, ...]: one row per round, which is a turn of each."""
    X, y, parameters = data(WORKLOADS[name])
    expected = by_hand(X, y, parameters)()
    run = {engine: ENGINES[engine](X, y, parameters) for engine in engines}
    for engine, step in run.items():
        loss, gradient = step()
        if engine == plant:
            gradient = [gradient[0] * (1.0 + 1e-6), *gradient[1:]]
        check(name, engine, (float(loss), gradient), expected)
        step()
    now = CLOCKS[clock]
    rows = []
    for _ in range(-(-steps // TURN)):
        row = []
        for step in run.values():
            start = now()
            for _ in range(TURN):
                step()
            row.append((now() - start) / TURN)
        rows.append(row)
    return rows


def quartiles(numbers: Sequence[float]) -> str:
    """The median, and the middle half in brackets, if there is more than one number."""
    if len(numbers) == 1:
        return f"{numbers[0]:.2f}"
    low, middle, high = np.percentile(numbers, [25, 50, 75])
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def report(name: str, engines: Sequence[str], rows: list[list[float]]) -> list[str]:
    """The lines about one workload: times, ratios, targets."""
    columns = dict(zip(engines, zip(*rows, strict=True), strict=True))
    lines = [f"{name}  {WORKLOADS[name].title}"]
    for engine in engines:
        ratio = ""
        if engine != "hand" and "hand" in engines:
            ratio = quartiles([a / b for a, b in zip(columns[engine], columns["hand"], strict=True)])
        lines.append(f"  {engine:10} {median(columns[engine]) * 1e6:9.0f} us   x hand {ratio or '1':>18}")
    for peer, bound, at_least in WORKLOADS[name].targets:
        if peer in engines and "chainrule" in engines:
            top, bottom = (peer, "chainrule") if at_least else ("chainrule", peer)
            figure = median(a / b for a, b in zip(columns[top], columns[bottom], strict=True))
            verdict = "reached" if (figure >= bound) == at_least else "missed"
            word = "at least" if at_least else "at most"
            lines.append(f"  {top} takes {figure:.2f} times as long as {bottom}: {word} {bound:g}, {verdict}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 if results differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arrays", description=__doc__.partition(": ")[2])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=installed())
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for the raw data")
    parser.add_argument("--plant", choices=list(ENGINES), help="return a wrong gradient from it; the run must FAIL")
    options = parser.parse_args(argv)
    versions = [f"{name} {metadata.version(name)}" for name in ("numpy", "autograd", "mygrad") if util.find_spec(name)]
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors; {', '.join(versions)}"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    raw = options.out / "benchmarks_arrays.csv"
    with raw.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["workload", "engine", "round", "seconds"])
        for name in options.workloads:
            steps = WORKLOADS[name].steps // (10 if options.quick else 1)
            try:
                rows = measure(name, options.engines, steps, options.clock, options.plant)
            except ResultsDiffer as error:
                print(f"FAIL: {error}", file=sys.stderr)
                return 1
            print("\n".join(report(name, options.engines, rows)))
            for number, row in enumerate(rows):
                writer.writerows([name, e, number, f"{t:.3e}"] for e, t in zip(options.engines, row, strict=True))
    print(f"Raw data: {raw}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
