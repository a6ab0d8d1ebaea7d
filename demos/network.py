"""The 3-4-2-2 network, every weight and unit a node with the tutorial's name for it.

h_1i = f1(sum_j w1_ij x_j + b1_i), h_2i = f2(sum_j w2_ij h_1j + b2_i), yhat_i = f3(sum_j w3_ij h_2j + b3_i), and the
squared error L = sum_i (yhat_i - y_i)^2. Each derivative is computed twice: by the engine, and by the tutorial's
formula for it with its indices, in plain Python below (its dL/dyhat with the sign mended).
"""

from __future__ import annotations

import math

import numpy as np

import autodiff as ad
import nn
from demos.stage import Stage, main, relative_difference

SIZES = (3, 4, 2, 2)
X = (0.5, -1.0, 2.0)
Y = (1.0, 0.0)
LEARNING_RATE = 0.05


def sigma(z):
    return 1.0 / (1.0 + math.exp(-z))


# f1, f2, f3 and their derivatives, derived by hand
F = {1: math.tanh, 2: sigma, 3: sigma}
F_PRIME = {
    1: lambda z: 1.0 - math.tanh(z) ** 2,
    2: lambda z: sigma(z) * (1.0 - sigma(z)),
    3: lambda z: sigma(z) * (1.0 - sigma(z)),
}


def formulas(w, b, x, y):
    """{name: (formula, number)} of every derivative in the tutorial; w[k][i, j], b[k][i], indices from 1."""
    n = SIZES
    units = [range(1, size + 1) for size in n]
    h = {0: dict(enumerate(x, 1))}  # h[k][i]: the output of unit i of layer k; layer 3 is yhat
    slope = {}  # f'_k at unit i's sum
    for k in (1, 2, 3):
        total = {i: sum(w[k][i, j] * h[k - 1][j] for j in units[k - 1]) + b[k][i] for i in units[k]}
        h[k] = {i: F[k](total[i]) for i in units[k]}
        slope[k] = {i: F_PRIME[k](total[i]) for i in units[k]}
    unit = {0: "x_", 1: "h_1", 2: "h_2", 3: "ŷ_"}
    dh = {3: {i: 2.0 * (h[3][i] - y[i - 1]) for i in units[3]}}
    found = {f"yhat_{i}": (f"2 (ŷ_{i} - y_{i})", dh[3][i]) for i in units[3]}
    for k in (3, 2, 1):
        for i in units[k]:
            upstream = f"dL/d{unit[k]}{i} f{k}'"
            for j in units[k - 1]:
                found[f"w{k}_{i}{j}"] = (f"{upstream} {unit[k - 1]}{j}", dh[k][i] * slope[k][i] * h[k - 1][j])
            found[f"b{k}_{i}"] = (upstream, dh[k][i] * slope[k][i])
        dh[k - 1] = {j: sum(dh[k][i] * slope[k][i] * w[k][i, j] for i in units[k]) for j in units[k - 1]}
        if k > 1:
            for j in units[k - 1]:
                sum_text = f"Σ_i dL/d{unit[k]}i f{k}' w{k}_i{j}"
                found[f"{unit[k - 1]}{j}"] = (sum_text, dh[k - 1][j])
    return found


def build():
    """(model, loss, {name: node}): the network on one sample, all of it named."""
    model = nn.MLP(3, SIZES[1:], activations=["tanh", "sigmoid", "sigmoid"], seed=7)
    loss, named = forward(model)
    return model, loss, named


def forward(model):
    """(loss, {name: node}) of the model on the sample."""
    named = {parameter.name: parameter for parameter in model.parameters()}
    with ad.scope("input"):
        units = [ad.Value(number, name=f"x_{i}") for i, number in enumerate(X, 1)]
    for k, layer in enumerate(model.layers, 1):
        with ad.scope(f"layer {k}"):
            units = layer(units)
        for i, unit in enumerate(units, 1):
            unit.name = f"yhat_{i}" if k == len(model.layers) else f"h_{k}{i}"
            named[unit.name] = unit
    with ad.scope("loss"):
        loss = nn.losses.sse(np.array(Y), np.array(units, dtype=object), reduction="sum")
    loss.name = "L"
    return loss, named


def run(stage: Stage) -> None:
    model, loss, named = build()
    loss.backward()
    graph = ad.Graph(loss)
    w = {k: {(i, j): named[f"w{k}_{i}{j}"].item() for i, j in pairs(k)} for k in (1, 2, 3)}
    b = {k: {i: named[f"b{k}_{i}"].item() for i in range(1, SIZES[k] + 1)} for k in (1, 2, 3)}
    by_formula = formulas(w, b, X, Y)

    parameters = model.parameters()
    stage.say(f"{len(graph)} nodes, {len(graph.edges)} edges, {len(parameters)} parameters; L = {loss.item():.6g}")
    stage.table(
        ["derivative", "the tutorial's formula", "by formula", "engine", "rel. diff."],
        [
            (f"dL/d{name}", text, number, named[name].grad, f"{relative_difference(named[name].grad, number):.1g}")
            for name, (text, number) in by_formula.items()
        ],
    )
    for kind in ("yhat", "w3", "b3", "h_2", "w2", "b2", "h_1", "w1", "b1"):
        names = [name for name in by_formula if name.startswith(kind)]
        found = [named[name].grad for name in names]
        expected = [by_formula[name][1] for name in names]
        stage.close(kind, found, expected, 1e-13, "sums of up to 4 products, in another order")
    stage.equal("every-weight-and-unit", sorted(by_formula), sorted(named))

    stage.say(
        "\nA unit of layer 2 reaches L through both outputs: dL/dh_2j is a total derivative, a sum over yhat_i.\n"
    )
    outputs = [named["yhat_1"], named["yhat_2"]]
    for j in (1, 2):
        receipt = ad.total_derivative(loss, named[f"h_2{j}"], through=outputs)
        stage.say(str(receipt))
        expected = [by_formula[f"yhat_{i}"][1] * slope * w[3][i, j] for i, slope in output_slopes(named, w, b)]
        contributions = [term.contribution for term in receipt.terms]
        stage.close(f"h_2{j}-terms", contributions, expected, 1e-13, "three factors each")
    stage.say("\nIn LaTeX:\n" + ad.total_derivative(loss, named["h_21"], through=outputs).latex())

    graph.save(stage.path("network_3_4_2_2.svg"), title="3-4-2-2, one sample")
    before, gradient = loss.item(), [parameter.grad for parameter in parameters]
    nn.SGD(parameters, LEARNING_RATE).step()
    after = forward(model)[0].item()
    predicted = -LEARNING_RATE * sum(slope**2 for slope in gradient)  # the total differential of that step
    stage.say(
        f"\nOne step of gradient descent, learning rate {LEARNING_RATE}: L {before:.6g} -> {after:.6g}; "
        f"the total differential predicts {predicted:.4g}, the change is {after - before:.4g}\n"
    )
    stage.at_least("loss-falls", before - after, 0.5 * -predicted)


def pairs(k):
    """The (i, j) of the weights of layer k: to unit i from unit j below."""
    return [(i, j) for i in range(1, SIZES[k] + 1) for j in range(1, SIZES[k - 1] + 1)]


def output_slopes(named, w, b):
    """[(i, f3' at output i), ...] from plain numbers."""
    h = {j: named[f"h_2{j}"].item() for j in (1, 2)}
    return [(i, F_PRIME[3](sum(w[3][i, j] * h[j] for j in (1, 2)) + b[3][i])) for i in (1, 2)]


if __name__ == "__main__":
    raise SystemExit(main(["network"]))
