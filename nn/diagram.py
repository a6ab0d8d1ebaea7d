"""A network as the layered diagram of its units: circles in columns, and between them the weights.

unit     a circle with its activation; x is one of the inputs, ŷ one of the outputs
line     a weight, blue where it is positive, orange and dashed where it is negative, the wider the larger
shown    of a large layer only the first units and the last are drawn, and the picture says so
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import NO_GRAD, Tensor
from autodiff.pictures.files import Picture
from autodiff.pictures.layout import Point
from autodiff.pictures.scene import DASH, Arrow, number
from autodiff.pictures.svg import Paint, look, page
from autodiff.pictures.text import text_at, width_of

__all__ = ["draw_network"]

RADIUS = 30.0  # of a unit
ROW, LINE = 22.0, 14.0  # px between two units, and for every line of text below one
HEADER = 40.0  # px for the names of the layers
SMALL = 11.0  # font size
LABEL = 58.0  # px that the label of a weight takes
CROWD = 30  # weights between two layers up to which they are labelled, and drawn as wide as anywhere
LABELLED = 5  # units of a layer up to which the weights from them are labelled
STEEPEST = 0.45  # px to the right for every px up or down: a steeper line would touch the unit next to its own
MOST, FIRST = 16, 9  # units of a layer that are all drawn; of more, so many of the first ones and the last
SUPERSCRIPT, SUBSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"), str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What is drawn: a number per weight and bias, and where there is one, per unit and for its grad."""

    weights: list[Any]  # (n_in, n_out) per layer: W, or its grad; None before backward
    biases: list[Any]  # (n_out,) per layer, likewise
    units: list[Any] | None  # (n_k,) per column, from the inputs to the outputs
    grads: list[Any] | None


def draw_network(
    network: Any, x: Any = None, *, trace: Any = None, gradients: bool = False, title: str | None = None
) -> Picture:
    """The Picture of an nn.MLP as a diagram of its units with its weights: save it, or show it in a notebook.

    x: one sample (n_0,) or a batch (n, n_0), whose activations (of a batch the means) stand in the units. trace: what
    network.trace(X) gave, instead of x; after a backward pass from it every unit also shows its grad (of a batch the
    sum over the samples). gradients: lines and numbers are d(loss)/d(weight) in place of the weights; a dash before
    any backward pass. Raises TypeError for what is no MLP, ValueError where x does not fit.

    >>> import nn
    >>> picture = draw_network(nn.MLP(2, [3, 1], seed=0), [1.0, -2.0])
    >>> picture, picture.svg.count("<circle")
    (<picture of the network 2-3-1>, 6)
    """
    if not hasattr(network, "layers") or not hasattr(network, "sizes"):
        raise TypeError(f"draw_network takes an nn.MLP, got {type(network).__name__}")
    if x is not None and trace is not None:
        raise ValueError("draw_network takes x or trace, not both: the trace has its own x")
    samples = None
    if x is not None:
        rows = np.asarray(x.data if hasattr(x, "data") and not isinstance(x, np.ndarray) else x)
        trace = network.trace(rows.reshape(1, -1) if rows.ndim == 1 else rows)
    if trace is not None:
        samples = len(_data(trace[1][0]))
    grads = None if trace is None else [_grad(a) for a in trace[1]]
    numbers = _Numbers(
        [_grad(layer.W) if gradients else _data(layer.W) for layer in network.layers],
        [_summed(_grad(layer.b) if gradients else _data(layer.b)) for layer in network.layers],
        None if trace is None else [_data(a).mean(axis=0) for a in trace[1]],
        None if grads is None or x is not None else [_summed(grad) for grad in grads],
    )
    name = "the network " + "-".join(map(str, network.sizes))
    caption = _caption(network, numbers, gradients, samples)

    def make(scheme: str) -> str:
        size, parts = _drawn(network, numbers, gradients, Paint(scheme))
        about = f"The units of {name} as circles, and its weights as lines. {caption}"
        return page(Paint(scheme), size, parts, title or name, about, heading=title or "", caption=caption)

    return Picture(make, name)


def _data(nodes: Any) -> Any:
    return np.asarray(nodes.data, float)


def _grad(nodes: Any) -> Any:
    """The grads of nodes in an array; None where a backward pass has not reached any."""
    if isinstance(nodes, Tensor):
        return np.asarray(nodes.grad, float) if nodes.has_grad else None
    if all(node.grad is NO_GRAD for node in nodes.flat):
        return None
    return np.array([node.grad for node in nodes.flat]).reshape(nodes.shape)


def _summed(array: Any) -> Any:
    """The sums over the rows, which are samples or a single one."""
    return None if array is None else array.sum(axis=0)


def _caption(network: Any, numbers: _Numbers, gradients: bool, samples: int | None) -> str:
    what = "gradient of the loss by the weight" if gradients else "weight"
    parts = [f"Lines: {what}; blue is positive, orange and dashed negative, grey zero; the wider the larger."]
    if gradients and all(weights is None for weights in numbers.weights):
        parts = ["No backward pass yet, so there are no gradients."]
    if samples is not None and samples > 1:
        parts.append(f"Units: means over {samples} samples" + ("; grads: sums." if numbers.grads else "."))
    left_out = [
        f"{FIRST + 1} of {n} in {f'layer {k}' if k else 'the inputs'}" for k, n in enumerate(network.sizes) if n > MOST
    ]
    if left_out:
        parts.append(f"Units drawn: {', '.join(left_out)}.")
    return " ".join(parts)


def _shown(units: int) -> list[int]:
    return list(range(units)) if units <= MOST else [*range(FIRST), units - 1]


def _called(k: int, unit: int, last: int) -> str:
    index = str(unit + 1).translate(SUBSCRIPT)
    return f"x{index}" if k == 0 else f"ŷ{index}" if k == last else f"a{str(k).translate(SUPERSCRIPT)}{index}"


def _drawn(network: Any, numbers: _Numbers, gradients: bool, paint: Paint) -> tuple[tuple[float, float], list[str]]:
    """((width, height), the SVG of all parts)."""
    shown = [_shown(n) for n in network.sizes]
    last = len(shown) - 1
    below = 1 + (numbers.grads is not None)  # lines of text below a unit
    pitch = 2 * RADIUS + ROW + LINE * below
    height = HEADER + pitch * max(len(units) + (len(units) < n) for units, n in zip(shown, network.sizes, strict=True))
    centres: list[list[tuple[float, float]]] = []
    x = RADIUS + 24.0
    for k, units in enumerate(shown):
        if k:
            m = len(shown[k - 1])
            wide = 2 * RADIUS + (110.0 + LABEL * (m - 1) / 0.6 if m <= LABELLED else 190.0 + 6.0 * max(m, len(units)))
            left, right = (len(shown[i]) - 1 + (len(shown[i]) < network.sizes[i]) for i in (k - 1, k))
            x += max(wide, STEEPEST * pitch * (left + right) / 2)
        gap = len(units) < network.sizes[k]  # the last one stands apart
        top = HEADER + (height - HEADER - pitch * (len(units) + gap)) / 2 + RADIUS + ROW / 2
        centres.append([(x, top + pitch * (i + (gap and i == len(units) - 1))) for i in range(len(units))])
    width = x + RADIUS + 24.0
    parts = _lines(network, numbers, gradients, paint, shown, centres)
    for k, units in enumerate(shown):
        centre = centres[k][0][0]
        name = "inputs" if k == 0 else f"layer {k}: {network.layers[k - 1].activation}"
        parts.append(text_at(centre, 16.0, name, f' text-anchor="middle"{paint.fill("faint")}'))
        if len(units) < network.sizes[k]:
            y = (centres[k][-2][1] + centres[k][-1][1]) / 2
            parts.append(text_at(centre, y, "⋮", f' text-anchor="middle" font-size="24"{paint.fill("faint")}'))
        for unit, at in zip(units, centres[k], strict=True):
            parts.append(_unit(numbers, gradients, paint, (k, unit, last), at))
    return (width, height), parts


def _unit(
    numbers: _Numbers, gradients: bool, paint: Paint, which: tuple[int, int, int], at: tuple[float, float]
) -> str:
    k, unit, last = which
    (x, y), name = at, _called(k, unit, last)
    kind = "input" if k == 0 else "output" if k == last else "operation"
    tip, lines = [name], []
    if k > 0:
        bias = None if numbers.biases[k - 1] is None else float(numbers.biases[k - 1][unit])
        what = "db" if gradients else "b"
        lines.append(f"{what} {DASH if bias is None else number(bias)}")
        tip.append(f"{'dL/db' if gradients else 'b'} = {'none yet' if bias is None else repr(bias)}")
    if numbers.grads is not None:
        grads = numbers.grads[k]
        lines.append(f"grad {DASH if grads is None else number(grads[unit])}")
        tip.append(f"grad = {'none yet: run backward first' if grads is None else repr(float(grads[unit]))}")
    middle = ' text-anchor="middle"'
    circle = f'cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS:g}"'
    inner = [text_at(x, y + (5.0 if numbers.units is None else -5.0), name, f'{middle} font-size="13"')]
    if numbers.units is not None:
        value = float(numbers.units[k][unit])
        tip.insert(1, f"value = {value!r}")
        ink = "ink" if math.isfinite(value) else "alarm"
        look_ = f'{middle} font-size="{SMALL:g}" font-weight="bold"{paint.fill(ink)}'
        inner.append(text_at(x, y + 12.0, number(value), look_))
    for i, line in enumerate(lines, 1):
        inner.append(text_at(x, y + RADIUS + LINE * i, line, f'{middle} font-size="{SMALL:g}"{paint.fill("faint")}'))
    tips = "\n".join(tip)
    return (
        f"<g><title>{tips}</title><circle {circle}{paint.both(f'{kind}-head', f'{kind}-line')} "
        f'stroke-width="{2.4 if kind == "output" else 1.6:g}"/>' + "".join([*inner, "</g>"])
    )


def _lines(
    network: Any,
    numbers: _Numbers,
    gradients: bool,
    paint: Paint,
    shown: Sequence[Sequence[int]],
    centres: Sequence[Sequence[tuple[float, float]]],
) -> list[str]:
    """SVG of the weights, the thin ones first, and then of all their labels."""
    found = [array for array in numbers.weights if array is not None]
    sizes = [np.abs(array)[np.isfinite(array)] for array in found]
    largest = max([float(size.max()) for size in sizes if size.size], default=0.0)
    lines: list[tuple[float, str]] = []
    labels = []
    for k, weights in enumerate(numbers.weights):
        m, n = len(shown[k]), len(shown[k + 1])
        narrower = max(min(1.0, CROWD / (m * n)), 0.3)  # where there are many, wide ones would hide the rest
        for (i, source), (j, target) in itertools.product(enumerate(shown[k]), enumerate(shown[k + 1])):
            weight = None if weights is None else float(weights[source, target])
            ends = centres[k][i], centres[k + 1][j]
            comma = "," if max(source, target) >= 9 else ""
            name = f"{'dL/d' if gradients else ''}w{k + 1}_{target + 1}{comma}{source + 1}"
            part, line = _line(weight, largest, narrower, name, ends, paint)
            lines.append((part, line))
            if m <= LABELLED and m * n <= CROWD:
                share = 0.5 if m == 1 else 0.2 + 0.6 * i / (m - 1)  # labels of one unit stand in one column
                labels.append(_label(weight, share, ends, paint))
    return [line for _, line in sorted(lines, key=lambda line: line[0])] + labels


def _line(
    weight: float | None, largest: float, narrower: float, name: str, ends: tuple[Point, Point], paint: Paint
) -> tuple[float, str]:
    """(how large the weight is, -1 for an exact zero, its line)."""
    sign = None if weight is None or math.isnan(weight) else int(weight > 0) - int(weight < 0)
    finite = weight is None or math.isfinite(weight)
    part = 0.0 if weight is None else abs(weight) / largest if finite and largest else float(not finite)
    tip = f"{name} = {'none yet: run backward first' if weight is None else repr(weight)}"
    role, stroke, dashed = look(Arrow(0, 0, "", sign, 0.0, tip, not finite), part)
    (x0, y0), (x1, y1) = ends
    reach = math.hypot(x1 - x0, y1 - y0)
    ux, uy = RADIUS * (x1 - x0) / reach, RADIUS * (y1 - y0) / reach
    path = f"M{x0 + ux:.1f} {y0 + uy:.1f}L{x1 - ux:.1f} {y1 - uy:.1f}"
    dashes = ' stroke-dasharray="7 4"' if dashed else ""
    drawn = f'<path d="{path}"{paint.stroke(role)} stroke-width="{stroke * narrower:.2g}"{dashes}/>'
    return -1.0 if sign == 0 else part, f"<g><title>{tip}</title>{drawn}</g>"


def _label(weight: float | None, share: float, ends: tuple[Point, Point], paint: Paint) -> str:
    """The number of a weight on its ground, at that share of the way."""
    text = DASH if weight is None else number(weight)
    (x0, y0), (x1, y1) = ends
    x = x0 + RADIUS + share * (x1 - x0 - 2 * RADIUS)
    y = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    wide = width_of(text, SMALL) + 6.0
    ground = f'x="{x - wide / 2:.1f}" y="{y - 8:.1f}" width="{wide:.1f}" height="15" rx="4"'
    ink = "ink" if weight else "faint"
    style = f' text-anchor="middle" font-size="{SMALL:g}"{paint.fill(ink)}'
    return f"<rect {ground}{paint.fill('ground')}/>" + text_at(x, y + 3.8, text, style)
