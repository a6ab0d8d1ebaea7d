"""A doctor's report on the picture: which nodes a cause stands at, which inherit, and the claims beside the truth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["findings"]


def findings(graph: Any, report: Any, claims: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A report (its verdict, causes, inherited and right quantities) and claims {name: number}, by nodes.

    A quantity is the name of a node; or d and such a name, or dz3 of a layer that was recorded in a scope: then it
    stands for the entries of the matrix. None where there is neither report nor claim. Raises ValueError for a claim
    about what the graph does not have, or of another size.
    """
    if report is None and not claims:
        return None
    places = _Places(graph)
    if not isinstance(claims or {}, Mapping):
        raise TypeError(f"claims is a dict {{name of a node: what somebody says}}, got {type(claims).__name__}")
    causes = []
    found = getattr(report, "causes", ())
    shown = getattr(report, "context", {}).get("places") or [()] * len(found)
    for cause, names in zip(found, shown, strict=True):
        quantities = list(names) or [cause.quantity]  # one wrong rule may show in several places
        if cause.layer is None and cause.layers:
            quantities = [f"{cause.quantity}{layer}" for layer in cause.layers]
        nodes = [node for quantity in quantities for node in places.of(quantity)]
        if cause.index is not None and len(quantities) == 1 and len(nodes) > 1:
            nodes = places.of(f"{cause.quantity}[{','.join(map(str, cause.index))}]") or nodes
        causes.append(
            {
                "place": cause.place(),
                "message": cause.message,
                "details": [["here" if what.endswith("[]") else what, said] for what, said in cause.details()],
                "nodes": nodes,
            }
        )
    numbers = []
    for name, claim in (claims or {}).items():
        nodes = places.of(name)
        try:
            flat = np.reshape(np.asarray(claim, float), -1)
        except (TypeError, ValueError):
            raise TypeError(f"claims: what is claimed of {name!r} is a number or an array, got {claim!r:.60}") from None
        if len(flat) != len(nodes):
            called = f"{len(nodes)} nodes of this graph are called {name!r}" if nodes else f"no node is called {name!r}"
            raise ValueError(f"claims: {called}, and {len(flat)} numbers are claimed; names are those of nodes")
        numbers += [[node, _plain(float(x))] for node, x in zip(nodes, flat, strict=True)]
    return {
        "verdict": getattr(report, "verdict", ""),
        "causes": causes,
        "inherited": [[name, places.of(name)] for name in getattr(report, "inherited", ())],
        "right": [[name, places.of(name)] for name in getattr(report, "right", ())],
        "notes": list(getattr(report, "notes", ())),
        "claims": numbers,
    }


def _plain(x: float) -> float | str:
    return x if np.isfinite(x) else repr(x)


class _Places:
    """Where quantities stand in a graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._index = {node: number for number, node in enumerate(graph.nodes)}
        self._named: dict[str, list[int]] = {}
        for number, node in enumerate(graph.nodes):
            if node.name:
                self._named.setdefault(node.name, []).append(number)
                array = re.fullmatch(r"(.+)\[[\d, ]+\]", node.name)
                if array:
                    self._named.setdefault(array[1], []).append(number)
        for name, nodes in self._named.items():
            if len(nodes) > 1:  # the elements of an array, as the array has them
                nodes.sort(
                    key=lambda node: [int(x) for x in re.findall(r"\d+", (graph.nodes[node].name or "")[len(name) :])]
                )
        self._matrices: dict[str, list[int]] | None = None

    def of(self, quantity: str) -> list[int]:
        """The nodes that a quantity is about; none where the graph does not have it."""
        for name in (quantity, quantity.removeprefix("d")):
            if name in self._named:
                return self._named[name]
        name = quantity.removeprefix("d")
        return self._by_matrix().get(name) or self._by_matrix().get(name.upper(), [])

    def _by_matrix(self) -> dict[str, list[int]]:
        if self._matrices is None:
            self._matrices = {}
            if any(node.scope for node in self._graph.nodes):
                for box in self._graph.collapse("matrices").nodes:
                    if box.name:
                        ends = getattr(box, "outputs", (box,))
                        self._matrices[box.name] = [self._index[node] for node in ends]
        return self._matrices
