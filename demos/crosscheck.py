"""The same gradients three times: scalar graph, matrices derived by hand (rows and columns), finite differences.

The graph knows no formula for a layer, the matrices know no graph, and the differences know neither. They meet in
every z, a, dz, dW, db and da of three networks on real data. The matrix formulas stand in nn/by_hand.py, written out
for samples in rows and for samples in columns.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes, load_iris, make_circles

import nn
from autodiff import check_grad
from demos.stage import Stage, main, relative_difference

# Sums of at most 24 samples times 5 units in another order: some 100 roundings of 1e-16, and their growth by layers.
SAME_ARITHMETIC = 1e-12


def cases():
    """(name, sizes, activations, loss, X, y): samples in rows."""
    X, y = make_circles(n_samples=24, factor=0.5, noise=0.1, random_state=0)
    yield "circles", [2, 4, 3, 1], ["relu", "relu", "sigmoid"], "bce", X, y.reshape(-1, 1)
    X, y = load_diabetes(return_X_y=True)
    yield "diabetes", [3, 4, 2, 1], ["tanh", "softplus", "identity"], "sse", 20 * X[:24, 2:5], y[:24, None] / 100
    X, y = load_iris(return_X_y=True)
    yield "iris", [4, 5, 3], ["leaky_relu", "softmax"], "ce", X[::7], np.eye(3)[y[::7]]


def by_graph(sizes, activations, loss, W, b, X, y):
    """{quantity: array} from the scalar graph."""
    model = nn.MLP(sizes[0], sizes[1:], activations=activations, seed=0).assign(W, b)
    z, a = model.trace(X)
    nn.LOSSES[loss](y, a[-1]).backward()
    found = {"da0": a[0].grad}
    for k, layer in enumerate(model.layers, 1):
        found |= {f"z{k}": z[k].data, f"a{k}": a[k].data, f"da{k}": a[k].grad, f"dz{k}": z[k].grad}
        found |= {f"dW{k}": layer.W.grad, f"db{k}": layer.b.grad}
    return found


def by_hand(sizes, activations, loss, W, b, X, y, layout):
    """{quantity: array} from the matrix formulas, in the row layout whichever layout they were computed in."""
    turned = (lambda array: array) if layout == "row" else (lambda array: array.T)
    model = nn.by_hand.MLP(sizes, activations, loss, layout=layout)
    model.W, model.b = [[None, *map(turned, arrays[1:])] for arrays in (W, b)]
    model.backward(turned(y), model.forward(turned(X)))
    lists = {"z": model.z, "a": model.a, "dz": model.dz, "dW": model.dW, "db": model.db, "da": model.da}
    return {
        f"{name}{k}": turned(array)
        for name, arrays in lists.items()
        for k, array in enumerate(arrays)
        if array is not None and (name, k) != ("a", 0)
    }


def by_differences(sizes, activations, loss, W, b, X, y, claims):
    """{quantity: the elements of check_grad} for dW and db, from values of the loss alone."""
    layers = range(1, len(sizes))

    def loss_of(*parameters):
        model = nn.by_hand.MLP(sizes, activations, loss)
        model.W, model.b = [None, *parameters[: len(layers)]], [None, *parameters[len(layers) :]]
        return model.loss_value(y, model.forward(X))

    check = check_grad(loss_of, (*W[1:], *b[1:]), tuple(claims.values()))
    return {
        name: [element for element in check.elements if element.argument == argument]
        for argument, name in enumerate(claims)
    }


def run(stage: Stage) -> None:
    for name, sizes, activations, loss, X, y in cases():
        W, b = nn.initializers.he(sizes, seed=1)
        network = (sizes, activations, loss, W, b, X, y)
        graph = by_graph(*network)
        hand = {layout: by_hand(*network, layout) for layout in ("row", "column")}
        parameters = [f"d{kind}{k}" for kind in "Wb" for k in range(1, len(sizes))]
        # Here an error is planted in the claim, so that it is the differences that find it.
        claims = {q: stage.planted(f"{name}-{q}-differences", graph[q]) for q in parameters}
        measured = by_differences(*network, claims)
        stage.say(f"\n{name}: {'-'.join(map(str, sizes))}, {', '.join(activations)}, mean {loss}, {len(X)} samples")
        rows, all_well = [], True
        for quantity, expected in graph.items():
            cells = []
            for layout, found in hand.items():
                difference = relative_difference(found[quantity], expected)
                ok = stage.close(f"{name}-{quantity}-{layout}", found[quantity], expected, SAME_ARITHMETIC, quiet=True)
                cells.append(f"{difference:.1e} {'PASS' if ok else 'FAIL'}")
                all_well &= ok
            if quantity in measured:
                elements = measured[quantity]
                worst = max(elements, key=lambda element: (element.verdict != "agree", element.excess))
                ok = stage.report(
                    f"{name}-{quantity}-differences",
                    worst.verdict == "agree",
                    f"{worst.verdict} at {quantity}{list(worst.index)}: {worst}",
                    quiet=True,
                )
                slopes = np.reshape([element.estimate for element in elements], expected.shape)
                cells.append(f"{relative_difference(slopes, expected):.1e} {'PASS' if ok else 'FAIL'}, {worst.verdict}")
                all_well &= ok
            rows.append((quantity, "x".join(map(str, expected.shape)), *cells, *[""] * (3 - len(cells))))
        stage.table(
            ["quantity", "shape", "by hand, rows", "by hand, columns", "finite differences"],
            rows,
            caption=f"largest difference from the scalar graph, relative to the largest entry; "
            f"{name}: {'all three agree' if all_well else 'they do not agree'}",
        )


if __name__ == "__main__":
    raise SystemExit(main(["crosscheck"]))
