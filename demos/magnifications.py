"""The same network at three magnifications: formulas by hand, a graph of arrays, a graph of scalars.

One forward function in plain NumPy serves both graphs. Given Tensors it records a node for every array operation,
however many samples there are; given arrays of scalars it records a node for every number. The third reading is
plain arrays and the formulas in nn/by_hand.py. The gradients of all three meet in every dW and db.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

import nn
from autodiff import Graph, Tensor, scalars
from demos.circles import data
from demos.stage import Stage, main, relative_difference

SIZES, ACTIVATIONS = [2, 4, 3, 1], ["relu", "relu", "sigmoid"]
FEW = 5
# Sums of up to 1000 samples in another order, and 1 - yhat, which is rounded where the formulas start from z.
SAME_ARITHMETIC = 1e-12
GRAPHS = {"arrays": Tensor, "scalars": scalars}  # the same forward function, given these


def loss_of(W, b, X, y):
    """The mean cross entropy of the network, samples in rows; W and b are lists over the layers."""
    a = X
    for W_k, b_k in zip(W[:-1], b[:-1], strict=True):
        a = np.maximum(0, a @ W_k + b_k)
    yhat = 1 / (1 + np.exp(-(a @ W[-1] + b[-1])))
    return -np.mean(y * np.log(yhat) + (1 - y) * np.log(1 - yhat))


def by_graph(make, W, b, X, y):
    """(loss, its gradients, the nodes of W_1): the forward function on nodes, and the backward pass."""
    W, b = [make(array) for array in W], [make(array) for array in b]
    loss = loss_of(W, b, X, y)
    loss.backward()
    return loss, [node.grad for node in (*W, *b)], W[0]


def by_hand(W, b, X, y):
    """(loss, its gradients, the network): plain arrays, and the formulas somebody derived."""
    net = nn.by_hand.MLP(SIZES, ACTIVATIONS, "bce")
    net.W, net.b = [None, *W], [None, *b]
    yhat = net.forward(X)
    net.backward(y, yhat)
    return net.loss_value(y, yhat), [*net.dW[1:], *net.db[1:]], net


def cost(step):
    """(bytes that a step leaves behind while its result is held, seconds of the fastest of three steps)."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    held = step()
    bytes_held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del held
    return bytes_held, min(seconds)


def run(stage: Stage) -> None:
    X, y = data()
    W, b = (arrays[1:] for arrays in nn.initializers.he(SIZES, seed=0))
    sizes: dict[tuple[str, int], int] = {}
    for name, n in (("few", FEW), ("circles", len(X))):
        network = (W, b, X[:n], y[:n])
        expected, claims, _ = by_hand(*network)
        rows = [("by hand", "-", "-", *figures(cost(lambda given=network: by_hand(*given))))]
        differences = []
        for graph, make in GRAPHS.items():
            loss, gradients, first = by_graph(make, *network)
            drawn = Graph(loss)
            sizes[graph, n] = len(drawn)
            spent = cost(lambda make=make, given=network: by_graph(make, *given))
            rows.append((f"graph of {graph}", f"{len(drawn):,}", f"{len(drawn.edges):,}", *figures(spent)))
            differences.append(compare(stage, f"{name}-{graph}", loss.item(), gradients, expected, claims))
            weight, used = (first, 1) if graph == "arrays" else (first[0, 0], n)
            uses = sum(edge.parent is weight for edge in drawn.edges)
            stage.equal(f"{name}-{graph}-uses", uses, used, quiet=True)
        stage.say(f"\nThe circles, {n:,} samples; one step is the loss and the gradient\n")
        stage.table(["magnification", "nodes", "edges", "memory", "one step"], rows)
        stage.table(
            ["against the formulas", *(f"graph of {graph}" for graph in GRAPHS)],
            [(quantity, *(cells[quantity] for cells in differences)) for quantity in differences[0]],
            caption="largest difference, relative to the largest entry",
        )
    n, entries = len(X), sum(array.size for array in (*W, *b))
    one_more = len(Graph(by_graph(scalars, W, b, X[: FEW + 1], y[: FEW + 1])[0])) - sizes["scalars", FEW]
    stage.say(
        f"\nA graph of arrays has {sizes['arrays', n]} nodes, however many samples there are: W1 is one of them, and "
        f"used once. A graph of scalars has a node for each of the {entries} weights and biases, and {one_more} for "
        "every sample: an entry of W1 is used once by each of them, and its gradient is the sum over these uses.\n"
    )
    stage.equal("arrays-do-not-grow", sizes["arrays", n], sizes["arrays", FEW])
    stage.equal("scalars-grow-by-the-sample", sizes["scalars", n], sizes["scalars", FEW] + (n - FEW) * one_more)


def compare(stage, name, loss, gradients, expected, claims):
    """{quantity: its relative difference and verdict}."""
    cells = {}
    layers = range(1, len(SIZES))
    quantities = ["loss", *(f"dW{k}" for k in layers), *(f"db{k}" for k in layers)]
    for quantity, found, claim in zip(quantities, [loss, *gradients], [expected, *claims], strict=True):
        ok = stage.close(f"{name}-{quantity}", found, claim, SAME_ARITHMETIC, quiet=True)
        cells[quantity] = f"{relative_difference(found, claim):.1e} {'PASS' if ok else 'FAIL'}"
    return cells


def figures(spent):
    """Memory and time, as they are printed."""
    bytes_held, seconds = spent
    return f"{bytes_held / 1e3:,.0f} kB", f"{seconds * 1e3:.2f} ms"


if __name__ == "__main__":
    raise SystemExit(main(["magnifications"]))
