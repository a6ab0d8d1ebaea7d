"""The equations of the tutorial for its own 3-4-2-2 network, with its names and numbers, ready to print.

Nothing is written down here twice: the forward formulas, the sums over child edges and the local derivatives are read
from the graph that computed them, and every number is held against the tutorial's formulas in plain Python
(demos/network.py). They come as LaTeX for paper and as a page with MathML, which needs no network and no script.
"""

from __future__ import annotations

import re
from typing import Any

import autodiff as ad
import nn
from autodiff.mathml import mathml
from autodiff.notation import formula
from autodiff.receipts import aligned
from demos.network import SIZES, X, Y, build, formulas, pairs
from demos.stage import Stage, main

TITLE = "Backpropagation in a 3-4-2-2 network"
INTRODUCTION = (
    "One sample. Every equation was read from the computation graph of the network, and so was every number. "
    "A unit that reaches the loss through several units of the next layer has a total derivative: a sum over them."
)
UNIT = {0: "x_", 1: "h_1", 2: "h_2", 3: "yhat_"}  # what the tutorial calls the units of a layer
Equation = tuple[str, str]  # (name, LaTeX)


def forward(named: dict[str, Any], loss: Any) -> list[Equation]:
    """Every unit and the loss as a formula in the units before it, and its number."""
    nodes = [named[f"{UNIT[k]}{i}"] for k in (1, 2, 3) for i in range(1, SIZES[k] + 1)]
    found = []
    for node in (*nodes, loss):
        name = ad.Graph(node).symbol(node).latex()
        number = ad.notation.latex_number(node.item())
        found.append((node.name, aligned(f"{name} &= {formula(node, depth=20).latex()}", f"&= {number}")))
    return found


def equation(loss: Any, wrt: Any, through: list[Any]) -> Equation:
    """dL/d(wrt) as a sum over the units in `through`: in symbols, with its local derivatives, in numbers."""
    receipt = ad.total_derivative(loss, wrt, through=through)
    first, figures = receipt.latex().splitlines()[1:3]
    terms = [
        rf"{symbol.latex()} \cdot {bracketed(ad.derivative_formula(term.child, wrt, by_name=True))}"
        for term in receipt.terms
        for symbol in [ad.receipts.derivative(receipt.symbols[0], term.symbol)]
    ]
    return wrt.name, aligned(first.removesuffix(r" \\"), "&= " + " + ".join(terms), figures)


def bracketed(local: Any) -> str:
    """A local derivative as a factor."""
    text: str = local.latex()
    return rf"\left({text}\right)" if text.startswith("-") or local.binds < ad.primitives.PRODUCT else text


def backward(named: dict[str, Any], loss: Any) -> list[tuple[str, list[Equation]]]:
    """[(heading, its equations)] from the outputs to the first layer."""
    outputs = [named["yhat_1"], named["yhat_2"]]
    found = []
    ends = [(node.name, rf"{ad.total_derivative(loss, node).name.latex()} = " + end(loss, node)) for node in outputs]
    found.append(("The outputs", ends))
    for k in (3, 2, 1):
        units = {i: named[f"{UNIT[k]}{i}"] for i in range(1, SIZES[k] + 1)}
        if k < 3:
            above = [named[f"{UNIT[k + 1]}{i}"] for i in range(1, SIZES[k + 1] + 1)]
            found.append((f"The units of layer {k}", [equation(loss, unit, above) for unit in units.values()]))
        weights = [equation(loss, named[f"w{k}_{i}{j}"], [units[i]]) for i, j in pairs(k)]
        found.append((f"The weights of layer {k}", weights))
        found.append((f"The biases of layer {k}", [equation(loss, named[f"b{k}_{i}"], [units[i]]) for i in units]))
    return found


def end(loss: Any, node: Any) -> str:
    """dL/d(node) in symbols and as a number."""
    total = ad.notation.latex_number(ad.total_derivative(loss, node).total)
    return f"{ad.derivative_formula(loss, node).latex()} = {total}"


def as_tex(sections: list[tuple[str, list[Equation]]]) -> str:
    """A LaTeX document; a comment above each equation names it."""
    lines = [r"\documentclass{article}", r"\usepackage{amsmath}", r"\usepackage[margin=2cm]{geometry}"]
    lines += [r"\allowdisplaybreaks", r"\begin{document}", rf"\section*{{{TITLE}}}", INTRODUCTION]
    for heading, equations in sections:
        lines.append(rf"\subsection*{{{heading}}}")
        lines += [f"% {name}\n\\[\n{latex}\n\\]" for name, latex in equations]
    return "\n".join([*lines, r"\end{document}", ""])


STYLE = """
:root { color-scheme: light dark; }
body { font: 17px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1.5rem;
  background: light-dark(#fff, #14181f); color: light-dark(#111827, #eef1f6); }
h1 { font-size: 1.7rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
section > div { margin: .9rem 0; overflow-x: auto; }
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "TeX Gyre Termes Math",
  "DejaVu Math TeX Gyre", math; font-size: 1.1rem; display: math; math-style: normal; }
svg { max-width: 100%; height: auto; }
"""


def as_html(sections: list[tuple[str, list[Equation]]], picture: str) -> str:
    """A page that stands alone: MathML, and the network as an SVG; well-formed XML too."""
    body = [f"<h1>{TITLE}</h1>", f"<p>{INTRODUCTION}</p>", picture]
    for heading, equations in sections:
        rows = [f'<div id="{name}">{mathml(latex)}</div>' for name, latex in equations]
        body.append("\n".join([f"<section><h2>{heading}</h2>", *rows, "</section>"]))
    head = f'<meta charset="utf-8"/><title>{TITLE}</title><style>{STYLE}</style>'
    page = "\n".join(body)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{page}\n</body></html>\n'


def numbers(text: str) -> dict[str, float]:
    """{name: the number that its equation ends with}, read back from the LaTeX document."""
    found = {}
    for name, body in re.findall(r"^% (\S+)\n\\\[\n(.*?)\n\\\]$", text, flags=re.MULTILINE | re.DOTALL):
        last = body.replace(r"\end{aligned}", "").rsplit("=", 1)[1].strip()
        mantissa, power = re.fullmatch(r"(-?[\d.]+)?(?: \\cdot )?(?:10\^\{(-?\d+)\})?", last).groups()
        found[name] = float(mantissa or 1) * 10.0 ** int(power or 0)
    return found


def run(stage: Stage) -> None:
    model, loss, named = build()
    sections = [("Forward", forward(named, loss)), *backward(named, loss)]
    text = as_tex(sections)
    stage.path("equations.tex").write_text(text, encoding="utf-8")
    _, activations = trace = model.trace([X])
    nn.losses.sse([list(Y)], activations[-1], reduction="sum").backward()
    picture = nn.draw_network(model, trace=trace).svg
    stage.path("equations.html").write_text(as_html(sections, picture), encoding="utf-8")

    stage.say("As plain text, the same equations:\n")
    outputs = [named["yhat_1"], named["yhat_2"]]
    for node in (named["h_21"], named["yhat_1"]):
        stage.say(f"{node.name} = {formula(node, depth=20)} = {node.item():.6g}")
    for child, parent in ((outputs[0], "h_21"), (named["h_21"], "h_11"), (named["h_21"], "w2_13")):
        local = ad.derivative_formula(child, named[parent], by_name=True)
        stage.say(f"d{child.name}/d{parent} = {local}")
    stage.say(f"\n{ad.total_derivative(loss, named['h_21'], through=outputs)}\n")

    w = {k: {(i, j): named[f"w{k}_{i}{j}"].item() for i, j in pairs(k)} for k in (1, 2, 3)}
    b = {k: {i: named[f"b{k}_{i}"].item() for i in range(1, SIZES[k] + 1)} for k in (1, 2, 3)}
    expected = {name: number for name, (_, number) in formulas(w, b, X, Y).items()}
    printed = numbers(text.split(r"\subsection*{The outputs}")[1])
    stage.equal("every-derivative-has-its-equation", sorted(printed), sorted(expected))
    for kind in ("yhat", "w3", "b3", "h_2", "w2", "b2", "h_1", "w1", "b1"):
        names = sorted(name for name in expected if name.startswith(kind))
        found = [printed.get(name, 0.0) for name in names]
        stage.close(kind, found, [expected[name] for name in names], 5e-6, "6 digits are printed")


if __name__ == "__main__":
    raise SystemExit(main(["equations"]))
