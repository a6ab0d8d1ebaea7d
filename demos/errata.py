"""The tutorial's mistakes as numbers: what it claims, what is true, and the factor between them.

Every claim is computed here by the published formula, and so is the truth, from a side that shares nothing with it:
the scalar graph, a complex step, or differences. Ids as in the list of errata: A mathematics and code, B text against
code, C numerics, D the experiment. What is right in the tutorial is held against the graph too.
Glossary: W b z a dz dW db da as in nn.by_hand; k a layer, n samples, m outputs, p probabilities, eta the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
import nn.losses as losses
from demos.circles import ACTIVATIONS, PRINTED, PUBLISHED_RATE, SIZES, corrected, data, network, on_graph, published
from demos.stage import Stage, main
from nn.activations import activation, softmax
from nn.by_hand import MLP, PUBLISHED_ACTIVATIONS, PUBLISHED_LAYOUT, PUBLISHED_LOSS

ROUNDING, SUMS = "a few roundings", "sums of 1000 terms, in another order"
HEADERS = ["id", "what", "claimed", "true", "so", "truth from"]
RATES = (0.01, 0.1, 0.3, 1.0, 3.0)

# Facts of the published run beyond the lines it prints, found by running the tutorial's own listing to the end.
BEST, FINAL = "0.922 at iteration 121", "0.6767 per sample, accuracy 0.604"


def factor(claimed: Any, true: Any, within: float = 1e-12) -> float:
    """The number c with claimed = c true in every entry; nan if there is none."""
    claimed, true = np.asarray(claimed, dtype=float), np.asarray(true, dtype=float)
    c = np.sum(claimed * true) / np.sum(true * true)
    return float(c) if np.max(np.abs(claimed - c * true)) <= within * np.max(np.abs(claimed)) else float("nan")


def complex_step(f: Callable[[Any], Any], x: Any) -> np.ndarray:
    """df/dx by a step of 1e-30 i in one entry after the other: no graph, no formula, no cancellation."""
    x = np.asarray(x, dtype=float)
    steps = 1e-30j * np.eye(x.size).reshape(-1, *x.shape)
    return np.array([f(x + step).imag / 1e-30 for step in steps]).reshape(x.shape)


def run(stage: Stage) -> None:
    on_paper(stage)
    in_the_code(stage)
    rule_by_rule(stage)
    numerics(stage)
    experiment(stage)
    steps(stage)


def on_paper(stage: Stage) -> None:
    stage.say("One formula at a time\n")
    y, at = np.array([1.0, 0.0, 2.0]), np.array([0.3, 0.8, 1.1])
    yhat = ad.scalars(at)
    losses.sse(y, yhat, "sum").backward()
    claimed, true = 2 * (y - at), yhat.grad
    a1 = ("A1", "dL/dyhat, squares", claimed[0], true[0], factor(claimed, true), "graph")
    stage.close("A1", factor(claimed, true), -1.0, 1e-15, ROUNDING)
    moves = [float(np.sum((y - at + 0.1 * step) ** 2) - np.sum((y - at) ** 2)) for step in (claimed, true)]
    stage.say(f"A descent step of 0.1 changes the loss by {moves[0]:+.3f} as claimed, by {moves[1]:+.3f} in truth")
    stage.equal("A1-step", ["up" if move > 0 else "down" for move in moves], ["up", "down"])

    # column vectors, as in the text: z_k = W_k a_{k-1} + b_k with 3 units below and 2 here
    generator = np.random.RandomState(1)
    W, a_below = ad.scalars(generator.randn(2, 3)), generator.randn(3, 1)
    z = W @ a_below + generator.randn(2, 1)
    a = ad.tanh(z)
    np.sum((a - generator.randn(2, 1)) ** 2).backward()
    claimed, true = z.grad.T @ a.data, z.grad @ a_below.T
    a2 = ("A2", "dW_k = dz_k^T a_k", claimed.shape, W.grad.shape, "dz_k a_{k-1}^T", "graph")
    stage.equal("A2-shape", list(claimed.shape), [1, 1])
    stage.close("A2", true, W.grad, 1e-15, ROUNDING)

    # a softmax mixes the units of its layer: elementwise a (1 - a) da misses how they push each other down
    z, label = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.0, 0.0])
    nodes = ad.scalars(z)
    losses.ce([label], softmax(nodes).reshape(1, 3)).backward()
    p = np.exp(z) / np.sum(np.exp(z))
    claimed, true = p * (1 - p) * (-label / p), complex_step(lambda z: np.log(np.sum(np.exp(z))) - z[0], z)
    b5 = ("B5", "dL/dz_3 of a softmax", abs(claimed[2]), true[2], "no factor", "complex step")
    stage.close("B5", nodes.grad, true, 1e-14, ROUNDING)
    stage.close("B5-label", claimed[0], true[0], 1e-14, "the one entry for which da is not 0")
    stage.equal("B5-others", [bool(c == 0 < t) for c, t in zip(claimed[1:], true[1:], strict=True)], [True, True])

    y, at = np.array([[1.0, 0.0]]), np.array([[0.3, 0.8]])
    yhat = ad.scalars(at)
    losses.sse(y, yhat).backward()
    true = complex_step(lambda yhat: np.mean((yhat - y) ** 2), at)
    b6 = ("B6", '"mean" of 2 squares', yhat.grad[0, 1], true[0, 1], factor(yhat.grad, true), "complex step")
    stage.close("B6", factor(yhat.grad, true), y.shape[1], 1e-14, ROUNDING)
    stage.table(HEADERS, [a1, a2, b5, b6])


def in_the_code(stage: Stage) -> None:
    """The published functions and gradients, on the published network before its first update."""
    stage.say("\nThe code, at its first step\n")
    (X, y), first = data(), published()
    n, start = len(X), first.states[0]
    net = network(*start, as_published=True)
    yhat = net.forward(X)
    net.backward(y)
    mean, model, _, a = on_graph(*start)

    z = np.linspace(-3.0, 3.0, 13)
    claimed = PUBLISHED_ACTIVATIONS["sigmoid"].derivative(z)
    true = complex_step(lambda z: np.sum(1 / (1 + np.exp(-z))), z)
    a3 = ("A3", "sigmoid'(0)", claimed[6], true[6], factor(claimed, true), "complex step")
    stage.close("A3-ratio", claimed / true, np.full(13, 2.0), 1e-14, ROUNDING)

    a5 = ("A5, B2", "the average loss", first.losses[0], mean.data, first.losses[0] / mean.data, "graph")
    stage.close("A5", first.losses[0] / mean.data, n, 1e-12, SUMS)
    claimed, true = net.da[3], a[3].grad
    a6 = ("A6", "its dL/dyhat", claimed[0, 0], true[0, 0], factor(claimed, true), "graph")
    stage.close("A6", factor(claimed, true), n, 1e-14, ROUNDING)

    # the matrix product pairs every output with every other; what was meant stands on its diagonal
    y3, at3 = np.eye(3)[np.arange(n) % 3], np.random.RandomState(3).uniform(0.1, 0.9, (n, 3))
    rows = [a3, a5, a6]
    for name, what, pair, true, scale in (
        ("A7", "loss, 3 outputs", (y3, at3), losses.bce(y3, ad.scalars(at3)).data, 3 / n),
        ("B1", "loss, 1 x n data", (y.T, yhat.T), mean.data, 1.0),
    ):
        matrix, m = PUBLISHED_LOSS.terms(*pair), pair[0].shape[1]
        rows.append((name, what, matrix.shape, true, "m x m" if m == 3 else "n x n", "graph"))
        stage.equal(name, list(matrix.shape), [m, m])
        stage.close(f"{name}-diagonal", scale * np.trace(matrix), true, 1e-13, SUMS)

    for k, layer in enumerate(model.layers, start=1):
        stage.close(f"printed-dW{k}", factor(net.dW[k], layer.W.grad), 2 * n, 1e-11, SUMS)
        stage.close(f"printed-db{k}", factor(net.db[k], layer.b.grad), 2, 1e-11, SUMS)
    dW, db = model.layers[2].W.grad, model.layers[2].b.grad  # unit 1 is the one that is awake
    for loss, W, b in (("mean", dW, db), ("sum", n * dW, n * db)):
        rows.append(("A4", f"dW3, {loss} loss", net.dW[3][1, 0], W[1, 0], factor(net.dW[3], W), "graph"))
        rows.append(("A4", f"db3, {loss} loss", net.db[3][0, 0], b[0, 0], factor(net.db[3], b), "graph"))
    apart = factor(net.dW[3], dW) / factor(net.db[3], db)
    stage.close("A4-no-loss", apart, n, 1e-11, "for any one loss dW and db would be off by the same factor")

    right = network(*start)  # 1/n in dL/dyhat, and sums from there on
    right.forward(X)
    right.backward(y)
    found = np.concatenate([np.sum(right.dz[k], axis=0) for k in (1, 2, 3)])
    true = np.concatenate([layer.b.grad[0] for layer in model.layers])
    averaged = np.concatenate([PUBLISHED_LAYOUT.db(right.dz[k])[0] for k in (1, 2, 3)])
    rows.append(("A8", "db3 averaged twice", averaged[-1], true[-1], factor(averaged, true), "graph"))
    stage.close("A8", factor(averaged, true), 1 / n, 1e-12, SUMS)
    stage.close("A8-sum", found, true, 1e-12, SUMS)
    stage.table(HEADERS, sorted(rows, key=lambda row: row[0]))


def rule_by_rule(stage: Stage) -> None:
    """Each rule alone: the graph is handed the code's own upstream, so that nothing is inherited."""
    stage.say("\nEvery backward rule of the code alone: claimed / true, given the upstream the code itself computed\n")
    (X, y), net = data(), network(*published().states[0], as_published=True)
    yhat = ad.scalars(net.forward(X))
    net.backward(y)
    losses.bce(y, yhat, "sum").backward()
    found: dict[str, list[float]] = {"dz": [], "dW": [], "db": [], "da": []}
    for k in (1, 2, 3):
        z = ad.scalars(net.z[k])
        np.sum(net.da[k] * activation(net.activations[k - 1])(z)).backward()
        a, W, b = ad.scalars(net.a[k - 1]), ad.scalars(net.W[k]), ad.scalars(net.b[k])
        np.sum(net.dz[k] * (a @ W + b)).backward()
        pairs = [(net.dz[k], z.grad), (net.dW[k], W.grad), (net.db[k], b.grad), (net.da[k - 1], a.grad)]
        for ratios, pair in zip(found.values(), pairs, strict=True):
            ratios.append(factor(*pair))
    found["da"].append(factor(net.da[3], yhat.grad))
    formulas = ["da f'(z)", "a^T dz", "mean of dz", "dz W^T; at the output dL/dyhat"]
    ratios = [", ".join(f"{ratio:.6g}" for ratio in each) for each in found.values()]
    stage.table(
        ["quantity", "rule", "claimed / true, layer by layer"],
        zip(found, formulas, ratios, strict=True),
        caption="Truth from the graph, for the sum loss. Two causes: A3 in dz_3, A4 in every db. The rest is right.",
    )
    for name, true in {"dz": [1, 1, 2], "db": [1 / len(X)] * 3, "dW": [1] * 3, "da": [1] * 4}.items():
        stage.close(f"rule-{name}", found[name], true, 1e-12, SUMS)


def numerics(stage: Stage) -> None:
    stage.say("\nNumerics, for y = 0\n")
    zero, sigmoid, rows = np.zeros((1, 1)), PUBLISHED_ACTIVATIONS["sigmoid"], []
    for z in (40.0, 100.0):
        node, at = ad.Value(z), np.full((1, 1), z)
        loss = losses.bce_with_logits([0.0], ad.scalars([node]))
        loss.backward()
        capped = float(PUBLISHED_LOSS.terms(zero, sigmoid.f(at))[0, 0])
        dz = float((PUBLISHED_LOSS.derivative(zero, sigmoid.f(at)) * sigmoid.derivative(at))[0, 0])
        rows += [("C1", f"dL/dz at z = {z:g}", dz, node.grad, "lost", "graph, logits")]
        rows += [("C2", f"loss at z = {z:g}", capped, loss.data, "capped", "graph, logits")]
        stage.equal(f"C1-code-{z:g}", dz, 0.0)
        stage.close(f"C1-{z:g}", node.grad, complex_step(lambda z: np.log(1 + np.exp(z)), z), 1e-15, "complex step")
        stage.close(f"C2-cap-{z:g}", capped, -np.log(np.finfo(float).eps), 1e-15, "-log(eps), whatever z is")
        stage.close(f"C2-{z:g}", loss.data, np.logaddexp(0.0, z), 1e-15, "log(1 + exp(z))")

    slope = float(PUBLISHED_ACTIVATIONS["relu"].derivative(zero)[0, 0])
    sides = [float(np.diff(ad.relu(np.array(ends)))[0] / 1e-6) for ends in ([-1e-6, 0.0], [0.0, 1e-6])]
    verdict = ad.check_grad(ad.relu, 0.0, claimed=slope).verdict
    rows += [("C3", "relu'(0)", slope, f"{sides[0]:g} to {sides[1]:g}", verdict, "differences")]
    stage.equal("C3", verdict, "undecidable")
    stage.equal("C3-slopes", sides, [0.0, 1.0])

    z = np.concatenate([np.linspace(-1000.0, 1000.0, 2001), [-np.inf, np.inf]])
    with np.errstate(over="ignore"):
        moved = float(np.max(np.abs(sigmoid.f(z) - 1 / (1 + np.exp(-z)))))
    rows += [("C4", "z clipped to +-500", moved, 0.0, "harmless", "not clipped")]
    stage.close("C4", moved, np.exp(-500.0), 1e-12, "the most that clipping can add is sigmoid(-500)")
    stage.table(HEADERS, sorted(rows, key=lambda row: row[0]))


def experiment(stage: Stage) -> None:
    stage.say("\nThe experiment\n")
    y, first = data()[1], published()
    everybodys, draws = np.random.RandomState(0), []  # stands for NumPy's global generator, which stays as it is
    for _ in range(2):
        everybodys.seed(42)  # what initialising the tutorial's model does
        draws.append(everybodys.randn())
    states = []
    for _ in range(2):
        states.append(np.random.get_state()[1].tolist())  # noqa: NPY002 (it is the global one that must not move)
        MLP(SIZES, ACTIVATIONS, "bce").initialize("document", seed=42)
    moved = "unmoved" if states[0] == states[1] else "moved"
    rows = [("D2", "noise, two models made", f"{draws[0]:.3f}, {draws[1]:.3f}", moved, "repeats", "own generator")]
    stage.equal("D2", [draws[0] == draws[1], moved], [True, "unmoved"])

    loss, _, _, a = on_graph(*first.states[-1])
    final = f"{loss.data:.4f}", str(float(np.mean((a[3].data > 0.5) == y)))
    _, printed_loss, printed_accuracy = PRINTED[-1].split(",")
    printed = f"{float(printed_loss) / len(y):.4f}, {printed_accuracy}"
    rows += [("D4", "last loss, accuracy", printed, ", ".join(final), "one step late", "graph")]
    stage.close("D4", first.per_sample[-1], loss.data, 1e-12, SUMS)
    stage.equal("D4-final", f"{final[0]} per sample, accuracy {final[1]}", FINAL)

    best, late = int(np.argmax(first.accuracies)), first.per_sample[100:]
    at, _, accuracy = max((line.split(",") for line in PRINTED), key=lambda cells: float(cells[2]))
    rows += [("D5", "best accuracy", f"{accuracy} at {at}", f"{first.accuracies[best]} at {best}", "unseen", "the run")]
    rows += [("D5", "loss from 100 on", "diverges", f"{min(late):.3f} to {max(late):.3f}", "bounded", "the run")]
    stage.equal("D5", f"{first.accuracies[best]} at iteration {best}", BEST)
    stage.at_least("D5-bounded", 1.05 * first.per_sample[0], max(late))

    runs = [corrected(42, "document", rate) for rate in stage.progress(RATES, "Training from sigma 0.1")]
    stuck, he = [run.accuracies[-1] for run in runs], corrected(0).accuracies[-1]
    rows += [("D7", "accuracy, sigma 0.1", "lower the rate", f"{max(stuck)} at best", "start decides", "600 updates")]
    rows += [("D7", "accuracy, He", "", he, "start decides", "600 updates")]
    stage.equal("D7", stuck, [0.5] * len(RATES))
    stage.at_least("D7-he", he, 0.98)
    stage.table(HEADERS, rows, caption=f"D7: the right gradient. From sigma 0.1 at the rates {RATES}, from He at 0.3.")


def steps(stage: Stage) -> None:
    """D6: why the published run leaps. Its step is theta - eta D grad(mean loss), D = 2n on W and 2 on b."""
    stage.say("\nD6: the published step against the curvature of the mean loss\n")
    n, first = len(data()[0]), published()
    _, model, z, _ = on_graph(*first.states[0])
    asleep = [unit for unit in range(3) if not np.any(model.layers[1].W.grad[:, unit])]
    stage.equal("D6-asleep", asleep, [unit for unit in range(3) if np.all(z[2].data[:, unit] <= 0)])
    (W0, b0), (W1, b1) = first.states[:2]
    on_W = factor(W0[1] - W1[1], model.layers[0].W.grad, within=1e-9)
    on_b = factor(b0[1] - b1[1], model.layers[0].b.grad, within=1e-9)
    start = f"{len(asleep)} of 3 units of layer 2 have no gradient at the start"
    stage.say(f"{start}; the rate {PUBLISHED_RATE} acts on the mean loss as {on_W:g} for W, {on_b:g} for b")
    stage.close("D6-step-W", on_W, PUBLISHED_RATE * 2 * n, 1e-9, "W - W' cancels seven digits at most")
    stage.close("D6-step-b", on_b, PUBLISHED_RATE * 2, 1e-9, "b - b' cancels seven digits at most")

    edge = 2 / PUBLISHED_RATE
    largest = {t: sharpness(first.states[t]) for t in (0, 60, 120, 121, 122, 123, 140)}
    stage.table(
        ["iteration", "largest eigenvalue", "of 2/eta", "loss per sample", "accuracy"],
        [(t, found, f"{found / edge:.2f}", first.per_sample[t], first.accuracies[t]) for t, found in largest.items()],
        caption=f"Of D^1/2 H D^1/2. Above 2/eta = {edge:g} a step along it lands farther off than before.",
    )
    stage.at_least("D6-before", edge, largest[0])
    stage.at_least("D6-after", largest[140], edge)


def sharpness(state: tuple[list[Any], list[Any]], step: float = 1e-8) -> float:
    """The largest eigenvalue of D^1/2 H D^1/2, H the Hessian of the mean loss by central differences.

    A step of 1e-6 would take some sample over a relu's kink, and show its jump as a huge curvature.
    """
    X, y = data()
    parameters = [array for layer in zip(*state, strict=True) for array in layer if array is not None]
    ends = np.cumsum([array.size for array in parameters])

    def gradient(theta: np.ndarray) -> np.ndarray:
        parts = np.split(theta, ends[:-1])
        arrays = [part.reshape(array.shape) for part, array in zip(parts, parameters, strict=True)]
        net = network([None, *arrays[0::2]], [None, *arrays[1::2]])
        net.forward(X)
        net.backward(y)
        return np.concatenate([array.ravel() for k in (1, 2, 3) for array in (net.dW[k], net.db[k])])

    theta = np.concatenate([array.ravel() for array in parameters])
    D = np.concatenate([np.full(array.size, 2.0 * (len(X) if i % 2 == 0 else 1)) for i, array in enumerate(parameters)])
    hessian = [(gradient(theta + move) - gradient(theta - move)) / (2 * step) for move in step * np.eye(theta.size)]
    return float(np.linalg.eigvalsh(np.sqrt(D)[:, None] * (hessian + np.transpose(hessian)) / 2 * np.sqrt(D))[-1])


if __name__ == "__main__":
    raise SystemExit(main(["errata"]))
