"""Which nodes make one group: by the scopes they were made in, to neurons, to layers, to the matrices of a layer.

Every node gets a Key, and nodes of one Key are one group. The Keys are such that groups can be ordered, each after
all that it reads from: what would read from itself through others is cut into stages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Scope = tuple[str, ...]

GROUPED = ("neurons", "layers", "matrices")
MANY = 12  # leaves outside of any scope that feed the same boxes; more of them become one box
AFFINE = ("add", "mul", "sub", "neg")  # what z = a W + b is made of
PARAMETER = re.compile(r"(?:[wW]|theta|θ|weight|gamma|γ)(?:\d|_|\[|$)|[bB](?:ias|eta)?(?:\d|_|\[)|bias$")
NO_PARAMETERS = re.compile(r"(?:input|data|batch|sample|target|label|loss)(?:e?s)?", re.IGNORECASE)  # scopes
ENTRY = re.compile(r"(.+?)(?:_\d+(?:,\d+)*|\[.*\])$")  # w2_31 is an entry of w2, X[0, 1] one of X


def is_parameter(leaf: Any) -> bool:
    """Whether a leaf reads as a parameter: it was made inside a scope, as nn's are, or it is called like one.

    A scope called inputs, data, loss or the like holds none. Called like one: w, W1, w2_31, W[0, 1], b1_2, bias,
    theta, ...; an `a` or `b` alone is an input.
    """
    if leaf.op is not None:
        return False
    if leaf.scope:
        return not any(NO_PARAMETERS.fullmatch(name) for name in leaf.scope)
    return bool(leaf.name) and PARAMETER.match(leaf.name) is not None


@dataclass(frozen=True, slots=True)
class Key:
    """What the members of a group share. name: None where it is yet to be found."""

    scope: Scope
    name: str | None
    part: Any = None  # a number or a tuple of them, never a node: nodes compare by their data


def group_keys(graph: Any, to: str | int, parameters: bool) -> dict[Any, Key]:
    """{node: its Key}, such that the groups can be ordered, each after all that it reads from."""
    scopes = _effective_scopes(graph)
    if not any(scopes.values()):
        raise ValueError(
            f"collapse(to={to!r}) goes by scopes, and no node of this graph was made inside one: record it inside "
            "`with autodiff.scope('layer 1'):`, or use collapse('names') or a list of nodes to keep"
        )
    if isinstance(to, int):
        if to < 1:
            raise ValueError(f"collapse(to={to}): the depth of scopes counts from 1, the outermost")
        shorten: Callable[[Scope], Scope] = lambda scope: scope[:to]  # noqa: E731
    else:
        shorten = _shortener(scopes.values(), to)
    children: dict[Any, list[Any]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        children[edge.parent].append(edge.child)
    place = {node: number for number, node in enumerate(graph.nodes)}
    keys: dict[Any, Key] = {}
    roles = _roles(graph, scopes, shorten) if to == "matrices" else {}
    for node in graph.nodes:
        scope = shorten(scopes[node])
        if parameters and graph.is_parameter(node):
            keys[node] = Key((), None, place[node])
        elif scope:
            keys[node] = Key(scope, roles.get(node, scope[-1]))
    _add_loose(graph, keys, children, place, roles)
    return _split(graph, keys, children)


def _effective_scopes(graph: Any) -> dict[Any, Scope]:
    """{node: its scope, or the deeper one of the one unit whose parameters it is computed with}.

    A layer computes all of its neurons at once, in its own scope; its weights know their neuron. So what is made
    in a scope from parameters of one scope deeper belongs there.
    """
    divided: set[Scope] = set()  # scopes in which somebody told the operations apart already
    for node in graph.nodes:
        if node.op is not None:
            scope = _once(node.scope)
            divided.update(scope[:depth] for depth in range(len(scope)))
    scopes: dict[Any, Scope] = {}
    for node in graph.nodes:
        scope = _once(node.scope)
        if node.op is not None and scope and scope not in divided:
            deeper: dict[Scope, None] = {}
            for parent in node.parents:
                theirs = scopes[parent]
                if scope[-1] in theirs:
                    rest = theirs[theirs.index(scope[-1]) + 1 :]
                    if rest or parent.op is not None:
                        deeper[rest] = None
            if len(deeper) == 1:
                scope = scope + next(iter(deeper))
        scopes[node] = scope
    return scopes


def _once(scope: Scope) -> Scope:
    """The scope without a name that stands directly inside of itself, as when nn's "layer 1" is called in another."""
    return tuple(name for depth, name in enumerate(scope) if not depth or name != scope[depth - 1])


UNITS = {"neurons": ("neuron", "unit"), "layers": ("layer", "block"), "matrices": ("layer", "block")}


def _shortener(scopes: Iterable[Scope], to: str) -> Callable[[Scope], Scope]:
    """What cuts scopes down to neurons or to layers: up to the last one called so; else the innermost, or its outer."""
    words = UNITS[to]
    distinct = set(scopes)

    def called(scope: Scope) -> int:
        return max([depth for depth, name in enumerate(scope, 1) if name.lower().startswith(words)], default=0)

    deepest = max(map(len, distinct))
    usual = deepest if to == "neurons" else max(deepest - 1, 1)
    if any(map(called, distinct)):
        return lambda scope: scope[: called(scope) or usual]
    return lambda scope: scope[:usual]


def _roles(graph: Any, scopes: dict[Any, Scope], shorten: Callable[[Scope], Scope]) -> dict[Any, str]:
    """{node: the matrix it is an entry of}: parameters by name (w1_21 is one of W1), z the affine part, a the rest."""
    roles: dict[Any, str] = {}
    affine: dict[Any, bool] = {}
    layers = {shorten(scopes[leaf]) for leaf in graph.leaves if graph.is_parameter(leaf)}
    for node in graph.nodes:
        scope = shorten(scopes[node])
        if not scope:
            continue
        has_matrices = scope in layers or scope[-1].lower().startswith(UNITS["matrices"])
        if node.op is not None and not has_matrices:  # such as the loss: it stays whole
            roles[node] = scope[-1]
            continue
        number = re.search(r"\d+$", scope[-1])
        k = number[0] if number else ""
        if node.op is None:
            unnamed = f"constants {k}".strip() if graph.is_parameter(node) else scope[-1]
            roles[node] = _base(node.name) if node.name else unnamed
            continue
        row = getattr(node.op, "source", node.op)
        inside = [parent for parent in node.parents if parent in affine and shorten(scopes[parent]) == scope]
        affine[node] = row.name in (*AFFINE, "matmul") and all(affine[parent] for parent in inside)
        roles[node] = f"z{k}" if affine[node] else f"a{k}"
    return roles


def _add_loose(
    graph: Any, keys: dict[Any, Key], children: dict[Any, list[Any]], place: dict[Any, int], roles: dict[Any, str]
) -> None:
    """Keys for the nodes outside of any scope; and parameters go to the one box that uses them."""
    loose = [node for node in graph.nodes if node not in keys]
    lead = {node: node for node in loose if node.op is not None}  # a node of the same connected piece

    def top(node: Any) -> Any:
        while lead[node] is not node:
            lead[node] = node = lead[lead[node]]
        return node

    for node in lead:
        for parent in node.parents:
            if parent in lead:
                lead[top(parent)] = top(node)
    pieces: dict[Any, list[Any]] = {}
    for node in lead:
        pieces.setdefault(top(node), []).append(node)
    for piece in pieces.values():
        for node in piece:
            keys[node] = Key((), None, place[piece[-1]])
    for leaf in graph.leaves:
        used = {keys[child] for child in children[leaf]}
        own = leaf in keys and keys[leaf].part is not None  # asked for
        inner = graph.is_parameter(leaf) or not (leaf.name or leaf.scope or leaf is graph.output)
        if len(used) == 1 and inner and not own and leaf not in roles:
            keys[leaf] = next(iter(used))
        elif leaf not in keys:
            keys[leaf] = Key((), None, place[leaf])

    # pieces that read from the same boxes and are read by the same are one: no new cycle can come of that
    alike: dict[Any, dict[Key, None]] = {}
    reads: dict[Key, set[Key]] = {}
    read_by: dict[Key, set[Key]] = {}
    for edge in graph.edges:
        parent, child = keys[edge.parent], keys[edge.child]
        if parent != child:
            reads.setdefault(child, set()).add(parent)
            read_by.setdefault(parent, set()).add(child)
    for node in loose:
        key = keys[node]
        if not key.scope:
            ends = frozenset(reads.get(key, ())), frozenset(read_by.get(key, ()))
            alike.setdefault((node.op is None, *ends), {})[key] = None
    same: dict[Key, Key] = {}
    for (are_leaves, *_), those in alike.items():
        if len(those) > (MANY if are_leaves else 1):
            same.update(dict.fromkeys(those, next(iter(those))))
    for node in loose:
        keys[node] = same.get(keys[node], keys[node])


def _split(graph: Any, keys: dict[Any, Key], children: dict[Any, list[Any]]) -> dict[Any, Key]:
    """keys with groups cut into stages where they would read from each other in a circle, as layers used twice do.

    In a circle of groups the stage of a node is how often the way to it changes the group; what depends on nothing
    in the circle joins the first of its group that reads it.
    """
    parents: dict[Key, dict[Key, None]] = {key: {} for key in keys.values()}
    for edge in graph.edges:
        if keys[edge.parent] != keys[edge.child]:
            parents[keys[edge.child]][keys[edge.parent]] = None
    circle = _circles(parents)
    if not circle:
        return keys
    stage: dict[Any, int] = {}
    free: list[Any] = []
    for node in graph.nodes:
        mine = circle.get(keys[node])
        if mine is None:
            continue
        steps = []
        for parent in node.parents:
            if circle.get(keys[parent]) == mine:
                if keys[parent] != keys[node]:
                    steps.append(stage.get(parent, 0) + 1)
                elif parent in stage:
                    steps.append(stage[parent])
        if steps:
            stage[node] = max(steps)
        else:
            free.append(node)
    for node in reversed(free):
        if node not in stage:
            those = children[node]
            whole = those and all(keys[child] == keys[node] for child in those)
            stage[node] = min([stage[child] for child in those]) if whole else 0
    return {
        node: Key(key.scope, key.name, (key.part, stage[node])) if node in stage else key for node, key in keys.items()
    }


def _circles(parents: dict[Key, dict[Key, None]]) -> dict[Key, int]:
    """{key: the number of its circle} for those that read from themselves through others; Tarjan's, with a stack."""
    number: dict[Key, int] = {}
    low: dict[Key, int] = {}
    circle: dict[Key, int] = {}
    open_, closed = [], set()
    for start in parents:
        if start in number:
            continue
        stack = [(start, iter(parents[start]))]
        number[start] = low[start] = len(number)
        open_.append(start)
        while stack:
            key, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                if stack:
                    low[stack[-1][0]] = min(low[stack[-1][0]], low[key])
                if low[key] == number[key]:
                    those: list[Key] = []
                    while not those or those[-1] != key:
                        those.append(open_.pop())
                    closed.update(those)
                    if len(those) > 1:
                        circle.update(dict.fromkeys(those, number[key]))
            elif following not in number:
                number[following] = low[following] = len(number)
                open_.append(following)
                stack.append((following, iter(parents[following])))
            elif following not in closed:
                low[key] = min(low[key], number[following])
    return circle


def _base(name: str) -> str:
    """What a name is an entry of: w2_31 of W2, X[0, 1] of X."""
    match = ENTRY.match(name)
    base = match[1] if match else name
    return base[0].upper() + base[1:] if re.fullmatch(r"w\d*", base) else base


def common_name(nodes: Sequence[Any], graph: Any) -> str:
    """What nodes outside of any scope are called together: as the output, as the array they are entries of, ..."""
    if nodes[-1] is graph.output:
        return nodes[-1].name or "output"
    bases = {_base(node.name) for node in nodes if node.name}
    if len(bases) == 1:
        return bases.pop()
    if all(node.op is None for node in nodes):
        return "parameters" if all(map(graph.is_parameter, nodes)) else "inputs"
    return nodes[-1].name or "between"
