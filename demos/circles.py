"""The tutorial's circles: its printed run to the last digit, then the right gradient.

The published code trains with a gradient that is twice too large, on a sum it calls an average, from weights so
small that two of the three units of layer 2 never wake. Its printed lines come back digit for digit. Then the
gradient of the mean loss, from He's starting values: first held against the scalar graph, then followed down.

`--as-published` stops after the published run; `--csv FILE` writes a run, one line per iteration.
Glossary: X y yhat W b z a dW db as in nn.by_hand; k a layer, p a probability.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autodiff import Graph
from demos.stage import Stage, main
from nn import by_hand
from nn.layers import MLP
from nn.losses import bce

SIZES, ACTIVATIONS = [2, 4, 3, 1], ["relu", "relu", "sigmoid"]
PUBLISHED_RATE, PUBLISHED_ITERATIONS = 0.005, 150
RATE, ITERATIONS = 0.3, 600
SEED = 0  # the first seed there is, not the best; SEEDS shows what others give
SEEDS = (0, 1, 2, 3, 4)

# What the tutorial prints: iteration, loss, accuracy. "Application of differentiations in neural networks",
# machinelearningmastery.com, the output of its full listing.
PRINTED = [
    "before,693.62972747,0.5",
    "0,693.62972747,0.5",
    "1,693.62166655,0.5",
    "2,693.61534159,0.5",
    "3,693.60994018,0.5",
    "145,664.60120828,0.818",
    "146,697.97739669,0.58",
    "147,681.08653776,0.642",
    "148,665.06165774,0.71",
    "149,683.6170298,0.614",
]
BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito: told apart with every kind of colour vision


@functools.cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """(X, y), (1000, 2) and (1000, 1): two noisy rings, drawn as the tutorial draws them."""
    from sklearn.datasets import make_circles

    generator = np.random.RandomState(0)  # the same stream as the global generator, left alone here
    X, y = make_circles(n_samples=1000, factor=0.5, noise=0.1, random_state=generator)
    return X, y.reshape(-1, 1).astype(float)


def network(W: list[Any], b: list[Any], as_published: bool = False) -> by_hand.MLP:
    """The hand-derived network with these parameters."""
    net = by_hand.MLP(SIZES, ACTIVATIONS, "bce", as_published=as_published)
    net.W, net.b = W, b
    return net


@dataclass
class Run:
    """A training run. Entry t of every list is the state before update t; the last one is the final model."""

    net: by_hand.MLP
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    states: list[tuple[list[Any], list[Any]]] = field(default_factory=list)

    def score(self) -> None:
        X, y = data()
        yhat = self.net.forward(X)
        self.losses.append(self.net.loss_value(y, yhat))
        self.accuracies.append(float(np.mean((yhat > 0.5) == y)))
        self.states.append((self.net.W, self.net.b))

    @property
    def per_sample(self) -> np.ndarray:
        """The losses, comparable: the published one is a sum over the samples."""
        return np.array(self.losses) / (len(data()[1]) if self.net.as_published else 1)

    @property
    def rows(self) -> list[list[str]]:
        """Iteration, loss before the update, accuracy, printed as NumPy prints an array: at most 8 decimals."""
        losses = [np.array2string(np.array([loss]), precision=8).strip("[]") for loss in self.losses[:-1]]
        return [[str(t), loss, str(self.accuracies[t])] for t, loss in enumerate(losses)]


def train(net: by_hand.MLP, learning_rate: float, iterations: int) -> Run:
    run = Run(net)
    for _ in range(iterations):
        run.score()
        net.backward(data()[1])
        net.update(learning_rate)
    run.score()
    return run


@functools.cache
def published() -> Run:
    """The tutorial's run, its mistakes included."""
    net = by_hand.MLP(SIZES, ACTIVATIONS, "bce", as_published=True).initialize("document", seed=42)
    return train(net, PUBLISHED_RATE, PUBLISHED_ITERATIONS)


@functools.cache
def corrected(seed: int = SEED, scheme: str = "he", learning_rate: float = RATE, iterations: int = ITERATIONS) -> Run:
    """The right gradient of the mean loss."""
    net = by_hand.MLP(SIZES, ACTIVATIONS, "bce").initialize(scheme, seed=seed)
    return train(net, learning_rate, iterations)


def on_graph(W: list[Any], b: list[Any], reduction: str = "mean") -> tuple[Any, MLP, list[Any], list[Any]]:
    """(loss, model, z, a) of all samples as scalar nodes, after the backward pass."""
    X, y = data()
    model = MLP(SIZES[0], SIZES[1:], ACTIVATIONS, seed=0).assign(W, b)
    z, a = model.trace(X)
    loss = bce(y, a[-1], reduction)
    loss.backward()
    return loss, model, z, a


def run(stage: Stage, as_published: bool = False, csv: Path | None = None, seed: int = SEED) -> None:
    first = published()
    lines = {row[0]: ",".join(row) for row in first.rows}
    lines["before"] = ",".join(["before", *first.rows[0][1:]])
    found = [lines[printed.partition(",")[0]] for printed in PRINTED]
    stage.say("Every line that the tutorial prints, and what this run gives:\n")
    stage.table(["printed", "found"], zip(PRINTED, found, strict=True))
    stage.equal("published-run", found, PRINTED)
    if as_published:
        if csv:
            write_csv(stage, csv, first)
        return

    right = corrected(seed)
    if csv:
        write_csv(stage, csv, right)
    against_the_graph(stage, "he", right, "He's starting values")
    against_the_graph(stage, "tutorial", corrected(42, "document", RATE, 3), "the tutorial's starting values")

    seeds = sorted({*SEEDS, seed})
    runs = {f"seed {s}": (RATE, corrected(s)) for s in stage.progress(seeds, "Training, one run per seed")}
    runs = {"published": (PUBLISHED_RATE, first), **runs}
    stage.say(f"\nThe final models, scored after the last update. Published, at its best: {best_of(first)}\n")
    stage.table(
        ["run", "iterations", "rate", "highest loss", "last loss", "accuracy"],
        [
            (name, len(run.losses) - 1, rate, max(run.per_sample), run.per_sample[-1], run.accuracies[-1])
            for name, (rate, run) in runs.items()
        ],
        caption="Losses per sample. A right gradient alone does not make a step safe: some runs leap on the way.",
    )
    stage.say(f"The corrected run from seed {seed}, after its last update:")
    stage.at_least("accuracy", right.accuracies[-1], 0.98)

    from matplotlib import rc_context  # takes a second to import

    with rc_context({"font.size": 13, "axes.titlesize": 14}):
        curves(first, right, seed).savefig(stage.path("circles_curves.png"), dpi=100)
        boundary(first, right, seed).savefig(stage.path("circles_boundary.png"), dpi=100)


def against_the_graph(stage: Stage, name: str, run: Run, title: str) -> None:
    """dW and db of the first three steps, each from a fresh graph, against the formulas derived by hand."""
    X, y = data()
    by_graph, by_formula = [], []
    for W, b in stage.progress(run.states[:3], "Scalar graphs of 1000 samples"):
        loss, model, _, _ = on_graph(W, b)
        by_graph.append([array.grad for layer in model.layers for array in (layer.W, layer.b)])
        net = network(W, b)
        net.forward(X)
        net.backward(y)
        by_formula.append([array for k in (1, 2, 3) for array in (net.dW[k], net.db[k])])
    stage.say(f"\nThe first 3 gradients from {title}: by hand, and by a graph of {len(Graph(loss)):,} scalar nodes\n")
    names = [f"{name}-{quantity}" for quantity in ("dW1", "db1", "dW2", "db2", "dW3", "db3")]
    for check, found, expected in zip(names, zip(*by_graph, strict=True), zip(*by_formula, strict=True), strict=True):
        stage.close(check, found, expected, 1e-12, "sums of 1000 terms, in another order")


def best_of(run: Run) -> str:
    best = int(np.argmax(run.accuracies))
    return f"{run.accuracies[best]:.3f} at iteration {best}"


def csv_file(text: str) -> Path:
    """The path of a file that can be written, tried out before any work is done."""
    try:
        if is_device(Path(text)):
            return Path(text)
        path = Path(text).resolve()  # a link stays a link: what it points to is replaced
        if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
            raise OSError("it exists and is not a file that may be written")
        if not path.parent.is_dir():
            raise OSError(f"there is no folder {path.parent}")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror or error}") from error
    return path


def is_device(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder: a terminal, a pipe, /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_csv(stage: Stage, path: Path, run: Run) -> None:
    """All rows or no file: written next to it, then moved into place; a device such as /dev/stdout just gets them."""
    device = is_device(path)
    part = path if device else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w" if device else "x", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["iteration", "loss", "accuracy"])
            writer.writerows(run.rows)
        if not device:
            part.replace(path)
    except OSError as error:
        raise SystemExit(f"circles: cannot write {path}: {error.strerror or error}") from error
    finally:
        if not device:
            part.unlink(missing_ok=True)
    stage.files.append(path)


def curves(first: Run, right: Run, seed: int) -> Any:
    """Loss per sample and accuracy before every update, for both runs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(14, 7), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for run, colour, label in (
        (right, BLUE, f"corrected: He (seed {seed}), learning rate {RATE}, mean loss"),
        (first, ORANGE, f"published: learning rate {PUBLISHED_RATE}, loss summed"),
    ):
        loss.semilogy(run.per_sample, color=colour, label=label, linewidth=1.8)
        accuracy.plot(run.accuracies, color=colour, linewidth=1.8)
    at = (int(np.argmax(first.accuracies)), max(first.accuracies))
    accuracy.plot(*at, "o", color=ORANGE, markersize=9)
    line = {"arrowstyle": "-", "color": "0.3", "relpos": (0.35, 0)}
    accuracy.annotate(f"published, best: {best_of(first)}", at, (15, 1.04), arrowprops=line)
    accuracy.set_ylim(top=1.08)
    loss.set_title("Cross entropy per sample (published: the sum, divided by 1000)")
    accuracy.set_title("Accuracy")
    for axes in (loss, accuracy):
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.3)
        axes.set_xlim(0, ITERATIONS)
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter("")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def boundary(first: Run, right: Run, seed: int) -> Any:
    """The probability of the inner ring over the plane, for both final models, with the data on top."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    X, y = data()
    across = np.linspace(-1.5, 1.5, 301)
    plane = np.stack(np.meshgrid(across, across), axis=-1)
    colours = LinearSegmentedColormap.from_list("classes", [BLUE, "white", ORANGE])
    figure = Figure(figsize=(14, 7.3), layout="compressed")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, run, name in zip(panels, (first, right), ("published", f"corrected, seed {seed}"), strict=True):
        p = network(*run.states[-1], run.net.as_published).forward(plane.reshape(-1, 2)).reshape(plane.shape[:2])
        filled = axes.contourf(across, across, p, np.linspace(0, 1, 11), cmap=colours, alpha=0.55)
        axes.contour(across, across, p, [0.5], colors="black", linewidths=2.5)
        for label, colour, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
            ring = X[y[:, 0] == label]
            text = f"{'inner' if label else 'outer'} ring, y = {label}"
            axes.scatter(*ring.T, s=22, color=colour, marker=marker, edgecolor="white", linewidth=0.4, label=text)
        axes.plot([], [], color="black", linewidth=2.5, label="decision, yhat = 0.5")
        axes.set_title(f"{name}: accuracy {run.accuracies[-1]:.3f}, yhat {p.min():.2f} to {p.max():.2f}")
        axes.set_xlabel("$x_1$")
        axes.set_aspect("equal")
    panels[0].set_ylabel("$x_2$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.colorbar(filled, ax=panels, pad=0.02, label="yhat, the probability of y = 1")
    return figure


def seed_number(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**32 - 1, got {text!r}")
    return int(text)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-published", action="store_true", help="only the tutorial's run, mistakes included")
    parser.add_argument("--csv", type=csv_file, metavar="FILE", help="write the run: iteration,loss,accuracy")
    parser.add_argument("--seed", type=seed_number, default=SEED, help="starting values of the corrected run")


if __name__ == "__main__":
    raise SystemExit(main(["circles"], options))
