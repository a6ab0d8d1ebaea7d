"""Pages to step through in a browser: f(t, u, v), 3-4-2-2, b = a + a, a dead relu, the circles network.

Each is one HTML file that works offline: open it by a double click, press the right arrow. The checks hold what the
pages were made of against the engine; that the browser computes the same numbers is tested in tests/autodiff.
"""

from __future__ import annotations

import json
import re

import autodiff as ad
from autodiff.graph import adjoints
from demos import circles, network, pictures
from demos.stage import Stage, main
from nn.audit import audit_graph
from nn.initializers import he
from nn.layers import MLP
from nn.losses import bce

BATCH = 90  # samples: about 6,000 nodes, which open collapsed


def total_derivative():
    """f(t(x), u(x), v(x)): x reaches f in three ways."""
    x = ad.Value(0.7, name="x")
    t, u, v = x**2, ad.exp(-x), ad.tanh(x)
    t.name, u.name, v.name = "t", "u", "v"
    f = t * u + ad.exp(-u) * v**2
    f.name = "f"
    return f


def circles_network(samples):
    """The mean cross entropy of the circles network on the first so many samples."""
    X, y = circles.data()
    W, b = (arrays[1:] for arrays in he(circles.SIZES, seed=circles.SEED))
    model = MLP(circles.SIZES[0], circles.SIZES[1:], circles.ACTIVATIONS, seed=0).assign(W, b)
    _, a = model.trace(X[:samples])
    with ad.scope("loss"):
        loss = bce(y[:samples], a[-1], "mean")
    loss.name = "L"
    return loss


def wrong_claims(loss, named):
    """{name: what somebody's backward pass of 3-4-2-2 found, who forgot the sigmoid's derivative in layer 2}."""
    grads = adjoints(loss)
    claims = {name: grads[node] for name, node in named.items() if name.startswith(("yhat", "h_2", "w3", "b3"))}
    value = {name: node.item() for name, node in named.items()}
    for j in range(1, 5):
        claims[f"h_1{j}"] = sum(claims[f"h_2{i}"] * value[f"w2_{i}{j}"] for i in (1, 2))
        claims[f"b1_{j}"] = claims[f"h_1{j}"] * (1.0 - value[f"h_1{j}"] ** 2)
        for i in (1, 2):
            claims[f"b2_{i}"] = claims[f"h_2{i}"]
            claims[f"w2_{i}{j}"] = claims[f"h_2{i}"] * value[f"h_1{j}"]
        for k, x in enumerate(network.X, 1):
            claims[f"w1_{j}{k}"] = claims[f"b1_{j}"] * x
    return claims


def contents(path):
    """The data that a page was made of."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    return json.loads(found[1])


def run(stage: Stage) -> None:
    _, loss, named = network.build()
    pages = [
        ("total_derivative", "f(t(x), u(x), v(x))", total_derivative()),
        ("network", "The 3-4-2-2 network", loss),
        ("reuse", "b = a + a, c = b + b", pictures.reuse()[0]),
        ("dead_relu", "A dead relu: what if b1_1 were 2?", pictures.dead_relu()[0]),
        ("circles_1", "The circles network, one sample", circles_network(1)),
        ("circles_batch", f"The circles network, {BATCH} samples", circles_network(BATCH)),
    ]
    rows = []
    for name, title, output in pages:
        graph = ad.Graph(output)
        path = graph.explore(stage.path(f"explore_{name}.html"), title=title)
        data = contents(path)
        rows.append((title, f"{len(graph):,}", ", ".join(level["name"] for level in data["levels"]), kib(path)))
        most = 150 if len(graph) <= 100 else 4096
        stage.at_least(f"{name}-room", most - path.stat().st_size / 1024, 0.0)
        stage.equal(f"{name}-numbers", data["values"], [node.item() for node in graph.nodes], quiet=True)

    claims = wrong_claims(loss, named)
    report = audit_graph(loss, claims)
    graph = ad.Graph(loss)
    path = graph.explore(
        stage.path("explore_doctor.html"), title="A wrong backward pass of 3-4-2-2", report=report, claims=claims
    )
    marked = {graph.label(graph.nodes[node]) for cause in contents(path)["doctor"]["causes"] for node in cause["nodes"]}
    rows.append(("A wrong backward pass", f"{len(graph):,}", "with the doctor's report", kib(path)))
    stage.say("Open these in a browser; → steps, ? lists the keys\n")
    stage.table(["page", "nodes", "zoom levels", "size"], rows)
    # one wrong rule in both units of layer 2: one cause, marked at the first claim below each
    stage.equal("doctor-causes", len(report.causes), 1)
    stage.equal("doctor-marks", sorted(marked), ["h_14", "w2_24"])


def kib(path):
    return f"{path.stat().st_size / 1024:,.0f} KiB"


if __name__ == "__main__":
    raise SystemExit(main(["explorers"]))
