"""What a page is about, as plain data: the graph in flat arrays, its formulas, its views, and a doctor's report.

The page computes with these arrays as the engine computes with the graph: operands before results, adjoints summed over
the children in the engine's order, so that a sum has the same rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from autodiff.explorer.doctor import findings
from autodiff.explorer.formulas import bare, operation_formulas
from autodiff.explorer.javascript import rows_source
from autodiff.explorer.views import Views
from autodiff.notation import formula
from autodiff.pictures.scene import minus, norm, sizes
from autodiff.pictures.scene import number as printed
from autodiff.primitives import ATOM
from autodiff.sweeps import pulled
from autodiff.value import Value

__all__ = ["contents"]

EQUATIONS, LONGEST = 60, 160  # of nodes with a name: how many, and the most letters of one
SYMBOLS = 10_000  # names of a graph that are set as formulas; where there are more, names are plain text


def contents(
    graph: Any, title: str | None = None, report: Any = None, claims: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """(the data of the page, ready for JSON; the rows of the table that it needs, in JavaScript)."""
    nodes = graph.nodes
    views = Views(graph)
    scalar = isinstance(nodes[-1], Value)
    data: dict[str, Any] = {
        "title": title or f"Backpropagation through {graph.label(graph.output)}",
        "count": len(nodes),
        "scalar": scalar,
        "views": views.views,
        "levels": [{"name": name, "view": view} for name, view in views.levels],
        "groups": [
            {"name": group.name, "members": _runs(group.members), "outputs": list(group.outputs), "view": group.view}
            | ({"why": group.why} if group.why else {})
            for group in views.groups
        ],
        "left_out": views.left_out,
        "order": _order(graph, views),
        "doctor": findings(graph, report, claims),
    }
    data |= _symbols(graph)
    data |= _operations(graph) | {"equations": _equations(graph)}
    source, missing = "{}", dict[str, str]()
    if scalar:
        source, missing = rows_source(node.op for node in nodes if node.op is not None)
        data["values"] = [_plain(node.data) for node in nodes]
        if missing:  # then the page shows what was recorded
            data["locals"] = [_plain(edge.local) for edge in graph.edges]
    else:
        data |= _arrays(graph, data["order"])
    data["missing"] = missing
    data["start"] = _start(views)
    return data, source


def _start(views: Views) -> str:
    """The level to open with: the finest that is legible, else the coarsest."""
    legible = [name for name, view in views.levels if len(views.views[view]["boxes"]) <= 150]
    return legible[-1] if legible and not views.left_out else views.levels[0][0]


def _plain(x: float) -> float | str:
    """A number as JSON has it; nan and inf as texts."""
    x = float(x)
    return x if math.isfinite(x) else repr(x)


def _runs(numbers: Any) -> list[int]:
    """Increasing numbers as [first, how many, first, how many, ...]."""
    found: list[int] = []
    for x in numbers:
        if found and x == found[-2] + found[-1]:
            found[-1] += 1
        else:
            found += [x, 1]
    return found


def _order(graph: Any, views: Views) -> list[int]:
    """The nodes in the order of the forward steps; the backward steps go through it from its end.

    From left to right as the picture of all nodes has them; without one, by their depth below the output.
    """
    whole = views.scalars
    if whole is not None:
        at = whole["at"]
        return sorted(range(len(graph.nodes)), key=lambda node: (at[4 * node], at[4 * node + 1], node))
    index = {node: number for number, node in enumerate(graph.nodes)}
    depth = [0] * len(index)
    for edge in reversed(graph.edges):
        parent = index[edge.parent]
        depth[parent] = max(depth[parent], depth[index[edge.child]] + 1)
    return sorted(range(len(depth)), key=lambda node: (-depth[node], node))


def _symbols(graph: Any) -> dict[str, Any]:
    """How the nodes are called: labels of those that are not called by their number, and their formulas."""
    symbols = {}
    letter = "v"
    for number, node in enumerate(graph.nodes):
        symbol = graph.symbol(node)
        label = str(symbol)
        if not node.name and label in (f"v{number}", f"node{number}"):
            letter = label.removesuffix(str(number))
        else:
            symbols[number] = symbol, label if node.name else minus(label)
    found: dict[str, Any] = {"letter": letter, "labels": {number: label for number, (_, label) in symbols.items()}}
    # a node without a name is called by its formula, and that the page can put together
    spelled = {
        number: symbol
        for number, (symbol, _) in symbols.items()
        if len(symbols) <= SYMBOLS and (graph.nodes[number].name or not isinstance(graph.nodes[number], Value))
    }
    found["spelled"] = len(symbols) <= SYMBOLS
    found["formulas"] = {number: bare(symbol.mathml()) for number, symbol in spelled.items()}
    found["binds"] = {n: symbol.latex_binds for n, symbol in spelled.items() if symbol.latex_binds != ATOM}
    found["parameters"] = [i for i, node in enumerate(graph.nodes) if node.op is None and graph.is_parameter(node)]
    return found


def _equations(graph: Any) -> dict[int, str]:
    """{node with a name: its formula in the names of others}, where that says more than its last operation alone."""
    found: dict[int, str] = {}
    for place, node in enumerate(graph.nodes):
        if not node.name or node.op is None or all(parent.name or parent.op is None for parent in node.parents):
            continue
        whole = formula(node)
        if len(str(whole)) <= LONGEST:
            found[place] = bare(whole.mathml())
            if len(found) == EQUATIONS:
                break
    return found


PLAIN = ("add", "sub", "mul", "div")  # rows whose derivatives read the same for every constant


def _operations(graph: Any) -> dict[str, Any]:
    """The operations that occur, and for every node which it is, of what parents, with what constant."""
    index = {node: number for number, node in enumerate(graph.nodes)}
    known: dict[Any, int] = {}
    operations: list[dict[str, Any]] = []
    op, a, b, constants = [], [], [], {}
    for number, node in enumerate(graph.nodes):
        if node.op is None:
            op.append(-1)
            a.append(-1)
            b.append(-1)
            continue
        row = node.op
        if not isinstance(node, Value):
            text = graph.operation(node)
            key: Any = text
            entry: dict[str, Any] = {"row": minus(str(text)), "side": ""}
        else:
            constant = node.b if row.constant else None
            fixed = constant if constant is not None and row.source.name not in PLAIN else None
            key = (row.source.name, row.constant, repr(fixed))
            entry = {"row": row.source.name, "side": row.constant or ""}
            if key not in known:
                entry |= operation_formulas(row, fixed)
            if constant is not None:
                constants[number] = _plain(constant)
        if key not in known:
            known[key] = len(operations)
            operations.append(entry)
        op.append(known[key])
        parents = [index[parent] for parent in node.parents]
        a.append(parents[0] if parents else -1)
        b.append(parents[1] if len(parents) > 1 else -1)
    found = {"operations": operations, "op": op, "constants": constants}
    if all(len(node.parents) <= 2 for node in graph.nodes):
        return found | {"a": a, "b": b}
    return found | {"parents": [[index[parent] for parent in node.parents] for node in graph.nodes]}


def _arrays(graph: Any, order: list[int]) -> dict[str, Any]:
    """A graph of array nodes as texts: what it computes is shown, and computed here, not in the page."""
    nodes = graph.nodes
    index = {node: number for number, node in enumerate(nodes)}
    seed = np.ones(graph.output.shape, graph.output.dtype)
    with np.errstate(all="ignore"):
        full = pulled(list(reversed(nodes)), {graph.output: seed}, keep=True)
        parts = []
        for edge in graph.edges:
            upstream = full.get(edge.child)
            parts.append(None if upstream is None else np.asarray(edge.local.pull(upstream)))
    place = {node: number for number, node in enumerate(order)}
    arriving: list[list[int]] = [[] for _ in nodes]
    for number, edge in enumerate(graph.edges):
        arriving[index[edge.parent]].append(number)
    partial: list[list[str]] = []
    for number, edges in enumerate(arriving):
        edges.sort(key=lambda edge: -place[index[graph.edges[edge].child]])
        total: Any = None
        texts = []
        for edge in edges:
            total = parts[edge] if total is None else total + parts[edge]
            texts.append(_summary(total))
        if edges and nodes[number] in full:
            texts[-1] = _summary(full[nodes[number]])
        partial.append(texts or [_summary(full.get(nodes[number], 0.0))])
    return {
        "shapes": [sizes(node.shape) for node in nodes],
        "shown": [_summary(node.data) for node in nodes],
        "grads": partial,
        "parts": ["" if part is None else _summary(part) for part in parts],
        "norms": [0.0 if part is None else _plain(norm(part)) for part in parts],
        "signs": [0 if part is None else _sign(part) for part in parts],
        "locals": [repr(edge.local) for edge in graph.edges],
    }


def _sign(array: Any) -> int:
    """1, -1 or 0; 2 where an array has both signs."""
    above, below = bool(np.any(np.greater(array, 0))), bool(np.any(np.less(array, 0)))
    return 2 if above and below else 1 if above else -1 if below else 0


def _summary(array: Any) -> str:
    """A few numbers as they are, more of them by their norm."""
    array = np.asarray(array)
    if array.ndim == 0:
        return printed(float(array))
    if array.size <= 4:
        return f"[{', '.join(printed(float(x)) for x in array.flat)}]"
    return f"norm {printed(norm(array))}"
