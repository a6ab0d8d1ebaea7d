"""What every picture of a graph shows: boxes and arrows with their texts, kinds and weights, before any coordinates.

A Scene is drawn as SVG and written as Graphviz source; nodes are told apart by identity, for they compare by data.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

__all__ = ["DASH", "Arrow", "Box", "Drawable", "Scene", "number", "scene"]

DASH = "\N{EN DASH}"  # stands for a gradient that no backward pass has computed: 0 would be a claim
TIMES = "\N{MULTIPLICATION SIGN}"
SHOWN = 4  # numbers of an array; of larger ones the shape stands for them
CROWD, MANY = 3, 100  # arrows per box, and in all, beyond which their labels are left out
ALIKE = 5e-3  # relative: numbers that the three digits of a label do not tell apart


class Drawable(Protocol):
    """A graph that can be drawn: a Graph or a Collapsed.

    nodes: ancestors first, the output last, each with .data .grad .name; groups of nodes have .members and .outputs.
    edges: each with .parent .child, .local = d(child)/d(parent) through one operand, and .position, which operand it
    is. label: a short text; operation: as it is printed, None for a leaf; has_grad: whether a backward pass has
    reached the node; is_parameter: whether a leaf is one; contribution: upstream times local, None before backward.
    """

    @property
    def nodes(self) -> Sequence[Any]: ...
    @property
    def edges(self) -> Sequence[Any]: ...
    def label(self, node: Any, /) -> str: ...
    def operation(self, node: Any, /) -> str | None: ...
    def has_grad(self, node: Any, /) -> bool: ...
    def is_parameter(self, node: Any, /) -> bool: ...
    def contribution(self, edge: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Box:
    """A node or a group. kind: "parameter", "input", "operation" or "output". rows: (caption, text, state).

    state: "known", "none" for a grad before backward, or "alarm" for what is not finite. stacked: it stands for many
    nodes.
    """

    name: str
    tag: str  # the operation; "" for a leaf and where the name says it
    rows: tuple[tuple[str, str, str], ...]
    kind: str
    tip: str
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge, from box `tail` to box `head`. label: its local derivative, "" for 1.

    sign: of its contribution: 1, -1, 0, "mixed" where an array has both, None before backward. size: |contribution|,
    a norm for arrays. alarm: whether the local derivative or the contribution is not finite.
    """

    tail: int
    head: int
    label: str
    sign: int | str | None
    size: float
    tip: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Boxes, arrows, the caption that says what the picture leaves out, and the name of the output."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    caption: str = ""
    output: str = "nothing"
    weights: tuple[float, ...] = field(default=())  # per arrow, 0 to 1: its share of the largest contribution


def scene(graph: Drawable, caption: str = "") -> Scene:
    """The Scene of a graph."""
    nodes = list(graph.nodes)
    index = {id(node): i for i, node in enumerate(nodes)}
    fed = {id(edge.child) for edge in graph.edges}
    with np.errstate(all="ignore"):  # what is not finite stands out in the picture
        boxes = tuple(_box(graph, node, node is nodes[-1], id(node) in fed) for node in nodes)
        arrows = tuple(_arrow(graph, edge, index) for edge in graph.edges)
    largest = max([arrow.size for arrow in arrows if math.isfinite(arrow.size)], default=0.0)
    weights = tuple(
        0.0 if not arrow.size else min(arrow.size / largest, 1.0) if math.isfinite(arrow.size) and largest else 1.0
        for arrow in arrows
    )
    return Scene(boxes, arrows, caption, str(graph.label(nodes[-1])) if nodes else "nothing", weights)


def crowded(scene: Scene) -> bool:
    """Whether there are too many arrows for every one to have a label."""
    return len(scene.arrows) > max(MANY, CROWD * len(scene.boxes))


def uncrowded(scene: Scene) -> Scene:
    """The scene; where its arrows are very many, without their labels, and its caption says so."""
    if not crowded(scene):
        return scene
    count = len(scene.arrows)
    note = f"The local derivatives of {count} arrows are too many to print; they are in the tooltips."
    arrows = tuple(dataclasses.replace(arrow, label="") for arrow in scene.arrows)
    return dataclasses.replace(scene, arrows=arrows, caption=f"{scene.caption} {note}".strip())


# --- texts ---


def number(x: float) -> str:
    """x with 3 significant digits, whole numbers below a million in full, and a true minus sign.

    >>> [number(x) for x in (0.51234, -2.0, 1234.5, 150000, 1e-9, -1234567.0, float("nan"), float("-inf"))]
    ['0.512', '−2', '1230', '150000', '1e−9', '−1.23e6', 'nan', '−inf']
    """
    x = float(x) + 0.0  # no sign on a zero
    if math.isfinite(x) and abs(x) < 1e6 and x == round(x):
        text = f"{x:.0f}"
    else:
        text = f"{x:.3g}"
        if "e+" in text and abs(float(text)) < 1e6:
            text = f"{float(text):.0f}"
    mantissa, e, exponent = text.partition("e")
    return (mantissa + (f"e{int(exponent)}" if e else "")).replace("-", "\N{MINUS SIGN}")


def sizes(shape: Sequence[int]) -> str:
    """A shape as it is written: 5×3; "number" for no dimensions."""
    return TIMES.join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} numbers" if shape else "number"


def heading(graph: Drawable, node: Any) -> tuple[str, str]:
    """The node's label and its operation, "" for a leaf and where the label is a formula that shows it."""
    label, operation = str(graph.label(node)), graph.operation(node)
    if not node.name:  # a formula: a name is left as its giver wrote it
        label = minus(label)
    if operation is None or (not node.name and minus(operation) in label):
        return label, ""
    return label, minus(operation)


def minus(formula: str) -> str:
    """A formula with true minus signs; a hyphen inside of a word stays.

    >>> minus("-x - 2e-5 + my-function")
    '−x − 2e−5 + my-function'
    """
    return re.sub(r"(?<![A-Za-z_])-|(?<=\de)-(?=\d)", "\N{MINUS SIGN}", formula)


def _state(array: Any) -> str:
    return "known" if np.all(np.isfinite(array)) else "alarm"


def _value(node: Any) -> tuple[str, str, str]:
    data = np.asarray(node.data)
    state = _state(data)
    if data.ndim == 0:
        return "value", number(float(data)), state
    if hasattr(node, "members"):
        return "values", spread(data) + f" ({data.size})", state
    listed = f" [{', '.join(number(x) for x in data.flat)}]" if data.size <= SHOWN else ""
    return "value", TIMES.join(map(str, data.shape)) + listed, state


def _grad(graph: Drawable, node: Any) -> tuple[str, str, str]:
    if not graph.has_grad(node):
        return "grad", DASH, "none"
    grad = np.asarray(node.grad)
    if grad.ndim == 0:
        return "grad", number(float(grad)), _state(grad)
    if grad.size <= SHOWN:
        return "grad", f"[{', '.join(number(x) for x in grad.flat)}]", _state(grad)
    return "‖grad‖", number(norm(grad)), _state(grad)


def norm(array: Any) -> float:
    """The square root of the sum of squares; of a number its absolute value.

    >>> norm([3.0, 4.0]), norm(1e308), norm([3e-200, 4e-200]) == 5e-200
    (5.0, 1e+308, True)
    """
    sizes = np.abs(np.asarray(array, float))
    with np.errstate(all="ignore"):
        found = float(np.sqrt(np.sum(np.square(sizes))))
        largest = float(np.max(sizes, initial=0.0))
        if 1e-150 < found < math.inf or not 0.0 < largest < math.inf:
            return found
        return largest * float(np.sqrt(np.sum(np.square(sizes / largest))))  # the squares left the floats


def spread(numbers: Any) -> str:
    """The least and the greatest of some numbers; one of them where they print alike.

    >>> spread(np.array([0.0, -1.5, 2.25]))
    '−1.5 … 2.25'
    """
    if np.size(numbers) == 0:
        return "none"
    least, greatest = float(np.min(numbers)), float(np.max(numbers))
    if greatest - least <= ALIKE * max(abs(least), abs(greatest)):
        return number(greatest)
    return f"{number(least)} … {number(greatest)}"


def _box(graph: Drawable, node: Any, last: bool, fed: bool) -> Box:
    rows = _value(node), _grad(graph, node)
    members = getattr(node, "members", None)
    name, tag = heading(graph, node)
    kind = "output" if last else "operation"
    if not last and not fed and (graph.operation(node) is None or members):
        is_leaf = members is None or all(member.op is None for member in members)
        kind = ("parameter" if graph.is_parameter(node) else "input") if is_leaf else "operation"
    return Box(name, tag, rows, kind, _box_tip(graph, node, members), members is not None)


def _box_tip(graph: Drawable, node: Any, members: Any) -> str:
    lines = [str(graph.label(node))]
    operation = graph.operation(node)
    if members is not None:
        inside = [member.name for member in members if member.op is None and member.name]
        lines.append(f"{len(members)} nodes, {len(node.outputs)} of them read from outside")
        if inside:
            lines.append("parameters: " + ", ".join(inside[:12]) + (", …" if len(inside) > 12 else ""))
    elif operation is not None:
        lines.append(f"operation: {operation}")
    lines.append("value = " + _full(node.data))
    lines.append("grad = " + (_full(node.grad) if graph.has_grad(node) else "none yet: run backward first"))
    return "\n".join(lines)


def _full(array: Any) -> str:
    """A number in full precision; of an array of more than a few its shape, range and norm."""
    array = np.asarray(array)
    if array.ndim == 0:
        return repr(float(array))
    shape = TIMES.join(map(str, array.shape))
    if array.size <= 12:
        return f"{shape}: {', '.join(repr(float(x)) for x in array.flat)}"
    return f"{shape}, from {float(np.min(array))!r} to {float(np.max(array))!r}, norm {norm(array)!r}"


def _arrow(graph: Drawable, edge: Any, index: dict[int, int]) -> Arrow:
    contribution = graph.contribution(edge)
    label, local = _local(graph, edge)
    sign: int | str | None = None
    size = 0.0
    if contribution is not None:
        size = norm(contribution)
        above, below = bool(np.any(np.greater(contribution, 0))), bool(np.any(np.less(contribution, 0)))
        sign = "mixed" if above and below else 1 if above else -1 if below else 0
    parent, child = str(graph.label(edge.parent)), str(graph.label(edge.child))
    if isinstance(edge.local, float):
        lines = [f"{parent} → {child}", f"local = d({child})/d({parent}) = {local}"]
    else:
        lines = [f"{parent} → {child}", f"local: {local}"]
    finite = not isinstance(edge.local, float) or math.isfinite(edge.local)
    if contribution is None:
        lines.append(f"local {TIMES} upstream = contribution: run backward first")
    else:
        finite = finite and math.isfinite(size)
        if isinstance(edge.local, float):
            product = f"{local} {TIMES} {float(edge.child.grad)!r} = {_full(contribution)}"
        else:
            product = _full(contribution)
        lines.append(f"local {TIMES} upstream = contribution: {product}")
    return Arrow(index[id(edge.parent)], index[id(edge.child)], label, sign, size, "\n".join(lines), not finite)


def _local(graph: Drawable, edge: Any) -> tuple[str, str]:
    """The local derivative as an arrow's label, "" for 1, and in full for its tooltip."""
    local = edge.local
    if isinstance(local, float):
        return "" if local == 1.0 else number(local), repr(local)
    if hasattr(local, "entries"):  # of a group
        entries = local.entries()
        text = f"a matrix, {local.shape[0]}{TIMES}{local.shape[1]}"
        if not entries:
            return ("0" if entries == {} else sizes_between(local)), text
        numbers = np.array(list(entries.values()))
        shown = spread(numbers)
        return "" if shown == "1" else shown, f"{text}; {len(numbers)} entries, {_full(numbers)}"
    return _of_arrays(graph, edge), repr(local)


def sizes_between(local: Any) -> str:
    """The sizes that a linear map leads from and to."""
    rows, columns = local.shape
    return f"{columns} → {rows}"


def _of_arrays(graph: Drawable, edge: Any) -> str:
    """What an upstream is multiplied with on its way back through one operation on arrays; "" for 1."""
    child = edge.child
    if child.op is None or not hasattr(edge.local, "operand"):
        return sizes_between(edge.local)
    if edge.local.shape == (1, 1):
        local = float(np.reshape(edge.local.pull(np.ones(child.shape)), -1)[0])
        return "" if local == 1.0 else number(local)
    name = getattr(child.op, "source", child.op).name
    place = edge.local.operand
    others = [x for i, x in enumerate(child.operands) if i != place]
    other = "a" if not others else graph.label(others[0]) if hasattr(others[0], "op") else _constant(others[0])
    if len(other) > 12:
        other = f"operand {2 - place}" if len(child.operands) == 2 else "…"
    simple = other.isidentifier() or len(other) < 3
    if name == "matmul":
        turned = other.endswith(".T") and other[:-2].isidentifier()  # the transpose of k.T is k
        other = other[:-2] if turned else f"{other if simple else f'({other})'}ᵀ"
        return f"· {other}" if place == 0 else f"{other} ·"
    if name == "add" and edge.parent.size < child.size:
        return "Σ"  # it was broadcast
    if name in ("add", "sum", "reshape", "transpose", "broadcast_to", "concatenate", "stack", "index"):
        return ""
    if name == "sub":
        return "" if place == 0 else number(-1.0)
    if name == "neg":
        return number(-1.0)
    if name == "mul":
        return f"⊙ {other}"
    if name == "div" and place == 0:
        return f"⊘ {other}"
    return f"⊙ {name}′"


def _constant(x: Any) -> str:
    if isinstance(x, (int, float)) or np.ndim(x) == 0:
        return number(float(x))
    return f"[{TIMES.join(map(str, np.shape(x)))}]"
