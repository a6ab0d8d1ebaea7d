"""Pictures of the total derivative: reuse, a diamond, a dead relu, and the 3-4-2-2 network at three zooms and by units.

Every arrow carries its local derivative and is drawn by its contribution: blue positive, orange and dashed negative,
grey where it is exactly 0. What a picture shows is checked as well: that the arrows out of a box add up to its grad.
"""

from __future__ import annotations

from typing import Any

import autodiff as ad
import nn
from demos.network import X, Y, build
from demos.stage import Stage, main

ROUNDING = "sums in another order"


def reuse() -> tuple[Any, Any]:
    """(c, a) with b = a + a and c = b + b: each node is read twice, and every path counts."""
    a = ad.Value(3.0, name="a")
    b = a + a
    b.name = "b"
    c = b + b
    c.name = "c"
    return c, a


def diamond() -> tuple[Any, Any]:
    """(y, x) of y = u v with u = x² and v = sin x: two ways lead from x to y."""
    x = ad.Value(2.0, name="x")
    u, v = x**2, ad.sin(x)
    u.name, v.name = "u", "v"
    y = u * v
    y.name = "y"
    return y, x


def dead_relu() -> tuple[Any, Any]:
    """(L, w1_1) where the unit h_1 is off: nothing comes back through it, however wrong the output is."""
    x = ad.Value(1.5, name="x")
    units = []
    for i, (weight, bias) in enumerate([(-0.8, 0.2), (0.6, 0.1)], 1):
        w, b = ad.Value(weight, name=f"w1_{i}"), ad.Value(bias, name=f"b1_{i}")
        units.append(ad.relu(w * x + b))
        units[-1].name = f"h_{i}"
    yhat = ad.Value(0.7, name="w2_1") * units[0] + ad.Value(-0.4, name="w2_2") * units[1]
    yhat.name = "yhat"
    loss = (yhat - 1.0) ** 2
    loss.name = "L"
    return loss, next(leaf for leaf in ad.Graph(loss).leaves if leaf.name == "w1_1")


def balance(graph: Any) -> tuple[list[float], list[float]]:
    """(grads, sums of the contributions of the arrows out) of the scalar nodes that are read by others, in order."""
    grads, sums = [], []
    for node, edges in graph.children().items():
        if edges and node.size == 1:
            grads.append(float(node.grad))
            sums.append(sum(float(graph.contribution(edge)) for edge in edges))
    return grads, sums


def small(stage: Stage, name: str, title: str, output: Any, wrt: Any) -> None:
    """The picture of a small graph after backward, and its receipt."""
    output.backward()
    graph = ad.Graph(output)
    graph.save(stage.path(f"{name}.svg"), title=title)
    stage.say(f"{title}\n\n{ad.total_derivative(output, wrt)}")
    for path in ad.heaviest_paths(output, wrt, k=4):
        stage.say(f"  path {' → '.join(graph.label(node) for node in path.nodes)}: {path.product + 0.0:.6g}")
    stage.say("")
    grads, sums = balance(graph)
    stage.close(f"{name}-arrows", sums, grads, 1e-14, ROUNDING)
    stage.close(f"{name}-paths", sum(path.product for path in ad.paths(output, wrt)), wrt.grad, 1e-14, ROUNDING)


def run(stage: Stage) -> None:
    small(stage, "reuse", "Reuse: b = a + a, c = b + b", *reuse())
    small(stage, "diamond", "A diamond: y = x² sin x", *diamond())
    loss, weight = dead_relu()
    small(stage, "dead_relu", "A dead relu: h_1 is 0, and so is all that comes back through it", loss, weight)
    stage.say(f"{ad.why_zero(loss, weight)}\n")
    stage.equal("dead_relu-is-visible", 'class="cr-s-zero"' in (stage.out / "dead_relu.svg").read_text("utf-8"), True)

    model, loss, named = build()
    loss.backward()
    graph = ad.Graph(loss, parameters=model)
    boxes = {}
    for zoom in ("layers", "matrices", "scalars"):
        title = f"3-4-2-2 as {zoom}"
        graph.save(stage.path(f"zoom_{zoom}.svg"), zoom=zoom, title=title)
        shown = graph if zoom == "scalars" else graph.collapse(zoom)
        boxes[zoom] = len(shown)
        if shown is graph:
            grads, sums = balance(graph)
            stage.close(f"{zoom}-arrows", sums, grads, 1e-13, ROUNDING)
        else:  # one sweep per box, from the output: the same as the grads of the scalar graph
            layer = next(box for box in shown.nodes if named["h_21"] in getattr(box, "outputs", ()))
            stage.close(f"{zoom}-adjoints", shown.adjoints()[layer], layer.grad, 1e-13, ROUNDING)
    stage.equal("zooms", list(boxes.values()), [5, 14, len(graph)])
    stage.say(f"The same network in {', '.join(f'{count} boxes ({zoom})' for zoom, count in boxes.items())}.")

    model.zero_grad()
    _, activations = trace = model.trace([X])
    nn.draw_network(model, X, title="3-4-2-2: weights and activations").save(stage.path("units.svg"))
    nn.losses.sse([list(Y)], activations[-1], reduction="sum").backward()
    picture = nn.draw_network(model, trace=trace, gradients=True, title="3-4-2-2: gradients")
    picture.save(stage.path("units_gradients.svg"))
    found = [parameter.grad for parameter in model.parameters()]
    stage.close("units", found, [named[parameter.name].grad for parameter in model.parameters()], 1e-13, ROUNDING)


if __name__ == "__main__":
    raise SystemExit(main(["pictures"]))
