"""One mistake in several places of one operation: in each step of a loop, the array that stands in the same relation.

A relation is a way through the graph, from the place to what stands there: up to an operand, down to a child. What is
found by it at one place is looked up at the others. Or the places take what belongs to each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.pool import Pool, Stand, given_array, known_as
from nn.audit.adjoints.recorded import floats, is_edge
from nn.audit.adjoints.region import Edge, Region
from nn.audit.adjoints.stand_ins import Local, called

Step = tuple[str, Any, int]  # "up" to an operand, or "down" to a child of this operation as this operand
Way = tuple[Step, ...]
FAR = 9  # steps of a relation
WAYS = 150  # nodes that are looked at from one place
GROUP = 12  # places
RULE = "the same in every place"


def in_every_place(region: Region, pool: Pool) -> Iterator[Mistake]:
    """The mistakes at all edges of one operation, by a relation or by an exchange."""
    if not region.target.whole:
        return
    groups: dict[tuple[Any, int, Any], list[Edge]] = {}
    for child, i, x in [*region.own_edges(), *region.further_edges()]:
        groups.setdefault((child.op, i, np.shape(child.data)), []).append((child, i, x))
    for group in groups.values():
        if 2 <= len(group) <= GROUP:
            places = [Local(region, child, i) for child, i, _ in group]
            yield from _exchanged(region, pool, group, places)
            yield from _related(region, pool, group, places)


def _mistake(
    region: Region, group: Sequence[Edge], rules: Sequence[Any], words: str, found: str, belongs: str
) -> Iterator[Mistake]:
    """That the places follow these rules, of an upstream."""
    sweep = region.sweep
    edges = {(child, i): rule for (child, i, _), rule in zip(group, rules, strict=True)}
    adds = [
        (x, rule(sweep.used[child].value, None) - sweep.contribution(child, i))
        for (child, i, x), rule in zip(group, rules, strict=True)
    ]
    if all(np.isfinite(added).all() for _, added in adds):
        adds = [] if region.in_series(group) else adds
        yield Mistake("operand", words, "", edges=edges, rule=RULE, adds=adds, found=found, belongs=belongs or None)


def _put(value: Any) -> Any:
    return lambda g, part: value


def _with(place: Local, j: int, value: Any) -> Any:
    return lambda g, part: place.with_(j, value, g)


def _exchanged(region: Region, pool: Pool, group: Sequence[Edge], places: Sequence[Local]) -> Iterator[Mistake]:
    """Two places take each other's upstream or operand, or all take them in the reversed order."""
    sweep, n = region.sweep, len(group)
    upstreams = [sweep.used[child].value for child, _, _ in group]
    orders = [(f"the places {a + 1} and {b + 1} are exchanged", (a, b)) for a, b in itertools.combinations(range(n), 2)]
    for words, (a, b) in orders:
        order = list(range(n))
        order[a], order[b] = b, a
        yield from _in_order(region, pool, group, places, upstreams, order, words)
    if n > 2:
        words = f"the {n} places are in the reversed order"
        yield from _in_order(region, pool, group, places, upstreams, range(n)[::-1], words)


def _in_order(
    region: Region, pool: Pool, group: Sequence[Edge], places: Sequence[Local], upstreams: Sequence[Any],
    order: Sequence[int], words: str,
) -> Iterator[Mistake]:  # fmt: skip
    sweep, op = region.sweep, group[0][0].op.name
    moved = [k for k, other in enumerate(order) if k != other]
    some, named = [group[k] for k in moved], [known_as(sweep, group[k][0]) for k in moved]
    if len({np.shape(upstreams[k]) for k in moved}) > 1:
        return
    rules = [_put(sweep.right_parts(group[k][0], upstreams[order[k]])[group[k][1]]) for k in moved]
    what = f"the derivatives with respect to {' and '.join(named[:3])}"
    yield from _mistake(region, some, rules, f"{what} stand in each other's place ({op}: {words})", what, "")
    for j in places[0].slots():
        if j < 0 or len({place.original_shape(j) for place in places}) > 1:
            continue
        rules = [_with(places[k], j, places[order[k]].values[j]) for k in moved]
        names = [called(region, pool, places[k].original(j)) for k in moved]
        what = " and ".join(dict.fromkeys(names[:3]))
        yield from _mistake(region, some, rules, f"{what} stand in each other's place ({op}: {words})", what, "")


def _related(region: Region, pool: Pool, group: Sequence[Edge], places: Sequence[Local]) -> Iterator[Mistake]:
    """Every place takes what stands in one relation to it."""
    sweep, n = region.sweep, len(group)
    first = group[-1][0] if pool.number[group[-1][0]] > pool.number[group[0][0]] else group[0][0]
    index = next(k for k, (child, _, _) in enumerate(group) if child is first)
    before = region.before()
    slots = [j for j in places[index].slots() if j >= 0]
    shapes = {j: places[index].original_shape(j) for j in slots}
    for way, end in ways(sweep, first):
        shape = np.shape(end) if not pool.has(end) else np.shape(end.data)
        fitting = [j for j in slots if shapes[j] == shape and shape]
        as_upstream = pool.has(end) and shape == np.shape(first.data) and end not in before
        if not fitting and not as_upstream:
            continue
        ends = [end if child is first else follow(sweep, child, way, shape) for child, _, _ in group]
        if any(other is None for other in ends):
            continue
        stands = [_stand(region, pool, other) for other in ends]
        also = f", and so on in {n} places"
        for j in fitting:
            rules = [_with(place, j, stand.value) for place, stand in zip(places, stands, strict=True)]
            belongs = called(region, pool, places[index].original(j))
            words = f"{stands[index].called} stands in the place of {belongs}{also}"
            yield from _mistake(region, group, rules, words, stands[index].called, belongs)
        if as_upstream and all(pool.has(other) for other in ends):
            rules = [
                _put(sweep.right_parts(child, sweep.used[other].value)[i])
                for (child, i, _), other in zip(group, ends, strict=True)
            ]
            found = f"the derivative with respect to {known_as(sweep, end)}"
            belongs = f"that with respect to {known_as(sweep, first)}"
            words = f"{found} stands in the place of {belongs}{also}"
            yield from _mistake(region, group, rules, words, found, belongs)


def _stand(region: Region, pool: Pool, x: Any) -> Stand:
    if pool.has(x):
        return Stand(region.sweep.called(x), region.sweep.recorded.data[x], x)
    return Stand(given_array(x), floats(x))


def ways(sweep: Any, start: Any) -> Iterator[tuple[Way, Any]]:
    """(way, where it ends), the shortest first: at nodes, and at arrays that were given."""
    found: dict[Any, Way] = {start: ()}
    queue = [start]
    for node in queue:
        way = found[node]
        if node is not start:
            yield way, node
        if len(way) == FAR or len(found) > WAYS:
            continue
        for i, x in enumerate(node.operands if node.op is not None else ()):
            if not is_edge(x, node):
                if np.ndim(x):
                    yield (*way, ("up", node.op, i)), x
            elif x not in found:
                found[x] = (*way, ("up", node.op, i))
                queue.append(x)
        # what shares a parameter stands in no fixed relation
        for child, i in sweep.children[node] if node.op is not None else ():
            if child not in found:
                found[child] = (*way, ("down", child.op, i))
                queue.append(child)


def follow(sweep: Any, start: Any, way: Way, shape: tuple[int, ...]) -> Any:
    """What stands at the end of a way from another place, of a shape; None for nothing."""
    ends = [start]
    for direction, op, i in way:
        further: list[Any] = []
        for x in ends:
            if not hasattr(x, "op"):
                continue
            if direction == "down":
                further += [child for child, k in sweep.children[x] if child.op is op and k == i]
            elif x.op is op:
                further.append(x.operands[i])
        ends = further
        if not ends:
            return None
    fitting = [x for x in ends if np.shape(x.data if hasattr(x, "op") else x) == shape]
    return fitting[0] if fitting else None
