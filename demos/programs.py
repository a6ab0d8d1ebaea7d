"""A network recorded once, and replayed: trained three ways, with the same weights at the end.

The tutorial's network on its circles, by gradient descent: with the formulas in nn/by_hand.py, plain NumPy; on a graph
of scalars that is built anew in every epoch; and on the same graph recorded on one sample, whose program runs all of
them. `nn.fit` does the last two, which differ in one argument. A graph of scalars for all samples takes its time, so it
trains for all epochs on a few samples, and on all samples for a few epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import nn
from demos.circles import BLUE, ORANGE, data
from demos.stage import Stage, main, relative_difference

SIZES, ACTIVATIONS = [2, 4, 3, 1], ["relu", "relu", "sigmoid"]
RATE, EPOCHS = 0.3, 150
FEW, FEW_EPOCHS = 20, 2
WAYS = {"by hand": BLUE, "scalars": ORANGE, "replayed": "black"}
LINES = 8  # of the listing, at its beginning and at its end
# A step's sums over the samples are taken in another order, and what is left of that grows along the way.
SAME_TRAINING = 1e-9


class Run(NamedTuple):
    """What training gave: the loss before every update, W_1, b_1, W_2, ..., and how long it took."""

    losses: list[float]
    weights: list[Any]
    seconds: float


def start() -> tuple[list[Any], list[Any]]:
    """(W, b), where all begin."""
    W, b = nn.initializers.he(SIZES, seed=0)
    return W, b


def by_hand(X: Any, y: Any, epochs: int) -> Run:
    """With the formulas that somebody derived."""
    net = nn.by_hand.MLP(SIZES, ACTIVATIONS, "bce")
    net.W, net.b = start()
    losses = []
    begin = time.perf_counter()
    for _ in range(epochs):
        yhat = net.forward(X)
        losses.append(net.loss_value(y, yhat))
        net.backward(y, yhat)
        net.update(RATE)
    seconds = time.perf_counter() - begin
    return Run(losses, [array for k in (1, 2, 3) for array in (net.W[k], net.b[k])], seconds)


def on_scalars(X: Any, y: Any, epochs: int, replay: bool) -> Run:
    """On a graph of scalars, built in every epoch or recorded once."""
    model = nn.MLP(SIZES[0], SIZES[1:], ACTIVATIONS, seed=0).assign(*start())
    begin = time.perf_counter()
    losses = nn.fit(model, X, y, "bce", epochs, RATE, replay=replay)
    seconds = time.perf_counter() - begin
    return Run(losses, [array.data for layer in model.layers for array in (layer.W, layer.b)], seconds)


def fastest(train: Callable[[], Run]) -> Run:
    """The fastest of three runs: on a machine with other work the slower ones tell of that."""
    return min((train() for _ in range(3)), key=lambda run: run.seconds)


def run(stage: Stage) -> None:
    X, y = data()
    listed(stage, X, y)
    few = {
        "by hand": by_hand(X[:FEW], y[:FEW], EPOCHS),
        "scalars": on_scalars(X[:FEW], y[:FEW], EPOCHS, replay=False),
        "replayed": on_scalars(X[:FEW], y[:FEW], EPOCHS, replay=True),
    }
    shown(stage, f"{FEW} samples, {EPOCHS} epochs", {f"few-{name}": (run, few["by hand"]) for name, run in few.items()})
    first = by_hand(X, y, FEW_EPOCHS)
    on_graph = on_scalars(X, y, FEW_EPOCHS, replay=False)
    by_formulas = fastest(lambda: by_hand(X, y, EPOCHS))
    replayed = fastest(lambda: on_scalars(X, y, EPOCHS, replay=True))
    shown(
        stage,
        f"{len(X):,} samples, {EPOCHS} epochs; scalars: {FEW_EPOCHS} epochs",
        {
            "circles-by hand": (by_formulas, by_formulas),
            "circles-scalars": (on_graph, first),
            "circles-replayed": (replayed, by_formulas),
        },
    )
    stage.say(
        f"\nThe replayed time includes the recording and a check of it. {EPOCHS} epochs on all samples would take "
        f"{on_graph.seconds / FEW_EPOCHS * EPOCHS:.0f} s on graphs of scalars, {EPOCHS // FEW_EPOCHS} times the "
        f"{FEW_EPOCHS} epochs that were measured."
    )
    all_samples = {"by hand": by_formulas, "scalars": on_graph, "replayed": replayed}

    from matplotlib import rc_context  # takes a second to import

    with rc_context({"font.size": 13, "axes.titlesize": 14}):
        drawn(few, all_samples, len(X)).savefig(stage.path("programs.png"), dpi=100)


def listed(stage: Stage, X: Any, y: Any) -> None:
    """Prints the program of one sample with its loss."""
    model = nn.MLP(SIZES[0], SIZES[1:], ACTIVATIONS, seed=0).assign(*start())
    loss = nn.training.replayed(model, X, y, "bce")
    loss(np.array([parameter.data for parameter in model.parameters()]))
    program = loss.programs[0]
    lines = str(program).splitlines()
    cut = f"  ... {len(lines) - 2 * LINES} lines"
    stage.say(
        f"One sample and its loss: {len(program)} nodes. What repeats in them is an array, and the n samples lie side "
        "by side in its rows:\n"
    )
    stage.say("\n".join([*lines[:LINES], cut, *lines[-LINES:]]))
    stage.say(
        f"\nIt was recorded {loss.statistics.recordings} times, since bce asks whether y is 0 and whether 1 - y is: "
        "the samples of each ring have a program.\n"
    )
    products = sum(" @ " in line for line in lines)
    stage.equal("a-matrix-product-per-layer", products, len(SIZES) - 1)


def shown(stage: Stage, title: str, runs: dict[str, tuple[Run, Run]]) -> None:
    """A table of runs, each beside the one it must be equal to."""
    rows = []
    for name, (found, expected) in runs.items():
        way = name.partition("-")[2]
        cells = ["", ""]
        if found is not expected:
            check = name.replace(" ", "-")
            ok = stage.close(f"{check}-losses", found.losses, expected.losses, SAME_TRAINING, quiet=True)
            worst = 0.0
            names = (f"{letter}{k}" for k in range(1, len(SIZES)) for letter in "Wb")
            for quantity, ours, theirs in zip(names, found.weights, expected.weights, strict=True):
                ok &= stage.close(f"{check}-{quantity}", ours, theirs, SAME_TRAINING, quiet=True)
                worst = max(worst, relative_difference(ours, theirs))
            cells = [f"{worst:.1e}", "PASS" if ok else "FAIL"]
        per_epoch = f"{found.seconds / len(found.losses) * 1e3:.2f} ms"
        rows.append((way, found.losses[-1], per_epoch, f"{found.seconds:.3f} s", *cells))
    stage.say(f"\n{title}\n")
    stage.table(
        ["way", "last loss", "an epoch", "in all", "difference", ""],
        rows,
        caption="difference: the largest from the weights by hand after as many epochs, relative to the largest "
        f"entry;\n{SAME_TRAINING:g} allowed: sums are taken in another order, and 150 steps carry that on",
    )


def drawn(few: dict[str, Run], all_samples: dict[str, Run], n: int) -> Any:
    """The losses of the three ways on a few samples, and the time each takes for all samples."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.5), layout="constrained")
    losses, times = figure.subplots(1, 2, width_ratios=[3, 4])
    for (way, colour), width, style in zip(WAYS.items(), (8, 4, 2), ("-", "-", "--"), strict=True):
        losses.plot(few[way].losses, style, color=colour, linewidth=width, label=way)
    losses.set_title(f"Cross entropy per sample, {FEW} samples")
    losses.set_xlabel("epoch")
    losses.grid(alpha=0.3)
    losses.legend()
    for place, (way, colour) in enumerate(WAYS.items()):
        run = all_samples[way]
        seconds = run.seconds / len(run.losses) * EPOCHS
        measured = len(run.losses) == EPOCHS
        times.plot(seconds, place, "o", color=colour, markersize=13, markerfacecolor=colour if measured else "white")
        text = f"{seconds:.2g} s" if measured else f"about {seconds:.2g} s:\n{len(run.losses)} epochs were measured"
        above = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
        times.annotate(text, (seconds, place), (0, 12), **above)
    times.set_xscale("log")
    times.set_xlim(0.01, 1000)
    times.set_ylim(len(WAYS) - 0.5, -0.7)
    times.set_yticks(range(len(WAYS)), list(WAYS))
    times.xaxis.set_major_formatter("{x:g}")
    times.set_title(f"Time for {EPOCHS} epochs on {n:,} samples, recording included")
    times.set_xlabel("seconds, each line ten times the one before")
    times.grid(alpha=0.4)
    return figure


if __name__ == "__main__":
    raise SystemExit(main(["programs"]))
