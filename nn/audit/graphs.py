"""Claims about any recorded graph: the first wrong adjoint, given the claimed adjoints of what was made from it.

One reverse sweep, in which a claim takes the place of the adjoint that the sweep worked out, after it was judged: a
mistake is reported at the node where it is made, and what follows from it only inherits. Beside every number runs a
bound on its rounding, of the forward pass (what the recorded numbers may be off) and of the sweep (the same rules on
absolute values); a claim is compared with that, never with a fixed tolerance.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import Graph, Tensor, operations
from autodiff.graph import checked_node, order
from autodiff.operations import unbroadcast
from autodiff.primitives import Primitive
from autodiff.sweeps import Patch
from nn.audit.report import Cause, Report

__all__ = ["audit_graph"]

SAFETY = 8.0  # bounds are of first order, and sums may run in any order
EDGES = 400  # edges between a wrong claim and the claims before it that are tried
PULLS = 40_000  # contributions that are worked out for rules that are wrong wherever an operation stands
NEAR = 60  # of these, the ones at which other rules are tried one by one
ELEMENT = re.compile(r"(.+)\[(\d+(?:,\d+)*)\]")
# Derivatives that many write with the output y round as a number of this size does: 1 - y * y as 1.
FORMS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.ones_like, "softplus": np.ones_like, "sigmoid": lambda y: y, "erf": np.ones_like,
}  # fmt: skip


def audit_graph(output: Any, claims: Mapping[str, Any]) -> Report:
    """The Report on adjoints worked out by hand: which of the claims go wrong first, and how.

    output: the node of one number that is differentiated, a Value or a Tensor. claims: {name: d(output)/d(the node of
    that name)}, for any of the nodes; where the elements of an array of Values are called W[0,0], W[0,1], ... a claim
    "W" is one for all of them. A claim that differs from its node's shape by axes of length 1 only is accepted where
    it broadcasts to it. Cause.quantity is the name of the node.

    Raises TypeError for an output that is no node, ValueError for one of several numbers, KeyError for a name that no
    node or more than one has.

    >>> x, W = Tensor(np.array([[1.0, 2.0], [3.0, -1.0]])), Tensor(np.array([[0.5], [1.0]]), name="W")
    >>> h = np.tanh(x @ W)
    >>> h.name = "h"
    >>> loss = np.sum(h**2)
    >>> dh = 2 * h.data
    >>> audit_graph(loss, {"h": dh, "W": x.data.T @ (dh * (1 - h.data**2))}).verdict
    'right'
    >>> print(audit_graph(loss, {"h": dh, "W": x.data.T @ dh}).text("what"))
    wrong: 1 cause
    W: the local derivative of tanh is missing, on the way to 'h'
      worst at [1, 0]: claimed 3.02222, right -0.621917
    right, given what came before: h
    """
    output = checked_node(output, "audit_graph(output, ...)")
    if output.size != 1:
        raise ValueError(
            f"audit_graph judges derivatives of one number, and the output has the shape {output.shape}; give it the "
            "loss, or the sum of the node times an upstream of your own"
        )
    with np.errstate(all="ignore"):
        return _Audit(output, claims).report()


# --- numbers with bounds -------------------------------------------------------------------------------------------


@dataclass
class _Known:
    value: Any
    bound: Any  # how far the value may be off
    size: Any  # the sum of the absolute contributions

    def agrees(self, claim: Any, tiny: float) -> Any:
        """Element by element; what is not finite on our side is not judged."""
        within = np.abs(claim - self.value) <= SAFETY * self.bound + tiny
        return within | ~np.isfinite(self.value) | ~np.isfinite(self.bound)


def _floats(x: Any) -> Any:
    return np.asarray(x, np.float64)


def _fitted(array: Any, shape: tuple[int, ...]) -> Any:
    """An elementwise contribution, summed or repeated to the shape of its operand."""
    return unbroadcast(np.asarray(array), shape) if np.shape(array) != shape else np.asarray(array)


def _terms(node: Any, operands: Sequence[Any], y: Any) -> int:
    """How many terms an element of y is the sum of."""
    op = node.op
    shape: tuple[int, ...] = operands[0].shape
    if op is operations.matmul:
        return shape[-1]
    if op is operations.sum_:
        return max(1, int(operands[0].size) // max(1, int(y.size)))
    if op is operations.cumsum:
        return shape[int(node.parameters["axis"])]
    if op is operations.einsum:
        sizes = {c: n for text, x in zip(node.parameters["labels"], operands, strict=True)
                 for c, n in zip(text, x.shape, strict=True)}  # fmt: skip
        return max(1, math.prod(map(int, sizes.values())) // max(1, int(y.size)))
    return 1


def _is_elementwise(node: Any) -> bool:
    return isinstance(node.op, Primitive)


def _row(node: Any) -> Any:
    return node.op.source  # a constant of a Value's node is an operand like any other here


def _rules(node: Any) -> list[Any]:
    row = _row(node)
    return [row.da] if row.db is None else [row.da, row.db]


class _Numbers:
    """The recorded numbers of a graph with their rounding, and the pullback of every edge with its own."""

    def __init__(self, nodes: Sequence[Any], eps: float, tiny: float) -> None:
        self.eps, self.tiny = eps, tiny
        self.data = {node: _floats(node.data) for node in nodes}
        self.error: dict[Any, Any] = {}
        for node in reversed(nodes):
            self.error[node] = self._forward_error(node)

    def operands(self, node: Any) -> tuple[list[Any], list[Any]]:
        """The numbers that the operation was applied to, and how far each may be off."""
        values, errors = [], []
        for x in node.operands:
            if type(x) is type(node):
                values.append(self.data[x])
                errors.append(self.error[x])
            else:
                values.append(_floats(x))
                errors.append(self._given(values[-1], np.asarray(x).dtype))
        return values, errors

    def _given(self, value: Any, dtype: Any) -> Any:
        """Of a leaf or a constant: exact, but where the claims are of a lower precision."""
        coarse = self.eps > (np.finfo(dtype).eps if dtype.kind == "f" else 2.3e-16)
        return self.eps * np.abs(value) if coarse else np.zeros_like(value)

    def _forward_error(self, node: Any) -> Any:
        y = self.data[node]
        if node.op is None:
            return self._given(y, np.asarray(node.data).dtype)
        values, errors = self.operands(node)
        own = 4 * self.eps * np.abs(y)
        if _is_elementwise(node):
            found = own
            for i, error in enumerate(errors):
                if error.any():
                    ends = [_row(node).array(*_moved(values, i, s * error)) for s in (-1.0, 1.0)]
                    found = found + np.maximum(*(np.abs(end - y) for end in ends))
            return found
        op, parameters = node.op, node.parameters
        try:
            if op.linear == "all":
                return _floats(op.forward(*errors, **parameters))
            if op.linear == "each":
                sizes = [np.abs(x) for x in values]
                terms = (_terms(node, values, y) + 2) * self.eps if op not in MOVING else 0.0
                found = terms * op.forward(*sizes, **parameters)
                for i, error in enumerate(errors):
                    found = found + op.forward(*sizes[:i], error, *sizes[i + 1 :], **parameters)
                return _floats(found)
            if op in (operations.max_, operations.min_):
                return np.maximum.reduce(errors[0], **parameters)
            spread = own
            for signs in _signs(errors):
                moved = [x + s for x, s in zip(values, signs, strict=True)]
                spread = np.maximum(spread, np.abs(op.forward(*moved, **parameters) - y))
            return 4 * spread + 64 * self.eps * np.max(np.abs(y), initial=0.0)
        except Exception:  # a rule of somebody's own, which may not take what it was not made for
            return 256 * self.eps * (np.abs(y) + np.max(np.abs(y), initial=0.0))

    def pulled(self, node: Any, g: _Known) -> list[tuple[int, Any, _Known]]:
        """[(position, parent, contribution), ...] of the node's edges, given its adjoint."""
        values, errors = self.operands(node)
        edges = [(i, x) for i, x in enumerate(node.operands) if type(x) is type(node)]
        if _is_elementwise(node):
            return [(i, x, self._chained(node, i, g, values, errors)) for i, x in edges]
        return self._structural(node, edges, g, values, errors)

    def local(self, node: Any, i: int) -> Any:
        """The local derivative of an elementwise operation."""
        return _rules(node)[i](self.data[node], *self.operands(node)[0])

    def _chained(self, node: Any, i: int, g: _Known, values: list[Any], errors: list[Any]) -> _Known:
        rule, y, shape = _rules(node)[i], self.data[node], values[i].shape
        local = _floats(rule(y, *values))
        form = FORMS.get(node.op.name)
        spread = 8 * self.eps * np.abs(local) + (4 * self.eps * form(y) if form else 0.0)
        for j, error in enumerate(errors):
            if type(node.operands[j]) is type(node) or error.any():
                step = SAFETY * error + self.tiny * (type(node.operands[j]) is type(node))  # over a kink, on both sides
                for s in (-1.0, 1.0):
                    moved = _moved(values, j, s * step)
                    spread = np.maximum(spread, np.abs(rule(_row(node).array(*moved), *moved) - local))
        value = _fitted(g.value * local, shape)
        size = _fitted(np.abs(g.value * local), shape)
        off = g.bound * np.abs(local) + np.where(g.value == 0, 0.0, np.abs(g.value) * spread) + self.tiny * g.size
        terms = max(1, y.size // max(1, math.prod(shape)))
        return _Known(value, _fitted(off, shape) + (terms + 2) * self.eps * size, size)

    def _structural(
        self, node: Any, edges: Sequence[tuple[int, Any]], g: _Known, values: list[Any], errors: list[Any]
    ) -> list[tuple[int, Any, _Known]]:
        op, y, parameters = node.op, self.data[node], node.parameters

        def pull(upstream: Any, operands: Sequence[Any], out: Any = y) -> list[Any]:
            if op.at_once:
                every = op.pull_all(upstream, out, operands, parameters)
                found = [every[i] for i, _ in edges]
            else:
                found = [op.pull(i, upstream, out, operands, parameters) for i, _ in edges]
            return [np.zeros(x.shape) if c is None else _floats(c) for c, (_, x) in zip(found, edges, strict=True)]

        contributions = pull(g.value, values)
        if op.linear is not None:
            sizes = [np.abs(x) for x in values]
            size = pull(np.abs(g.value), sizes)
            bound = pull(g.bound, sizes)
            if op in (operations.matmul, operations.einsum):
                for j, error in enumerate(errors):
                    if error.any():
                        off = pull(np.abs(g.value), [*sizes[:j], error, *sizes[j + 1 :]])
                        # through an operand itself the pull does not go
                        bound = [b + o * (i != j) for b, o, (i, _) in zip(bound, off, edges, strict=True)]
            found = []
            for (i, x), c, b, s in zip(edges, contributions, bound, size, strict=True):
                terms = max(1, y.size // max(1, x.size))
                if op in (operations.matmul, operations.einsum, operations.cumsum):
                    terms = max(y.shape, default=1)
                elif op is operations.index and not operations.picks_once(parameters["key"]):
                    terms = y.size  # an element may be picked so many times
                found.append((i, x, _Known(c, b + (terms + 2) * self.eps * s, s)))
            return found
        if op in (operations.max_, operations.min_):
            [(i, x)], [c] = edges, contributions
            bound = pull(g.bound + 4 * self.eps * np.abs(g.value), values)[0]
            whole = [operations.expanded(z, x.shape, **parameters) for z in (y, self.error[node], np.abs(g.value))]
            near = np.abs(values[0] - whole[0]) <= SAFETY * (errors[0] + whole[1])
            ties = np.add.reduce(near, axis=parameters["axis"], keepdims=True) > 1
            return [(i, x, _Known(c, bound + near * ties * whole[2], np.abs(c)))]
        spread = [np.zeros(c.shape) for c in contributions]
        try:
            for signs in _signs([g.bound, *errors]):
                moved = [x + s for x, s in zip(values, signs[1:], strict=True)] if not op.at_once else values
                out = y if op.at_once else op.forward(*moved, **parameters)
                again = pull(g.value + signs[0], moved, out)
                spread = [np.maximum(s, np.abs(a - c)) for s, a, c in zip(spread, again, contributions, strict=True)]
        except Exception:  # as above
            pass
        return [
            (i, x, _Known(c, 4 * s + 256 * self.eps * np.max(np.abs(c), initial=0.0), np.abs(c)))
            for (i, x), c, s in zip(edges, contributions, spread, strict=True)
        ]


MOVING = (
    operations.reshape, operations.transpose, operations.broadcast_to, operations.index, operations.concatenate,
    operations.where, operations.astype,
)  # fmt: skip


def _moved(values: Sequence[Any], i: int, step: Any) -> list[Any]:
    return [x + step if j == i else x for j, x in enumerate(values)]


def _signs(errors: Sequence[Any]) -> Iterator[list[Any]]:
    """The errors with signs at random, a few times."""
    generator = np.random.default_rng(0)
    for _ in range(4):
        yield [error * generator.choice((-1.0, 1.0), np.shape(error)) for error in errors]


# --- the sweep -----------------------------------------------------------------------------------------------------


@dataclass
class _Target:
    """What one claim is about: a node, or the elements of an array of Values."""

    name: str
    members: list[tuple[Any, Any]]  # (index into the claim, node); one with () for a node that is whole
    shape: tuple[int, ...]
    claim: Any = None
    found: tuple[int, ...] | None = None  # the shape that came, where it does not fit

    def stacked(self, parts: Sequence[Any]) -> Any:
        """The array of what the members have."""
        if len(self.members) == 1 and self.members[0][0] == ():
            return np.asarray(parts[0])
        array = np.zeros(self.shape)
        for (index, _), part in zip(self.members, parts, strict=True):
            array[index] = part
        return array


class _Audit:
    def __init__(self, output: Any, claims: Mapping[str, Any]) -> None:
        self.output, self.nodes = output, order(output)
        arrays = {name: np.asarray(claim) for name, claim in claims.items()}
        for name, claim in arrays.items():
            if claim.dtype.kind not in "fiub":
                raise TypeError(f"the claim {name!r} is an array of real numbers, got one of {claim.dtype}")
        kinds = [x.dtype for x in arrays.values()] + [np.asarray(node.data).dtype for node in self.nodes]
        floats = [np.finfo(kind) for kind in kinds if kind.kind == "f"] or [np.finfo(float)]
        self.eps = max(float(np.finfo(float).eps), *(float(info.eps) for info in floats))
        self.tiny = max(float(info.tiny) for info in floats)
        self.numbers = _Numbers(self.nodes, self.eps, self.tiny)
        self.notes: list[str] = []
        self.raw = {name: _floats(claim) for name, claim in arrays.items()}
        self.targets = self._targets(self.raw)
        self.stands: dict[Any, Any] = {}  # {node: the claim that takes the place of its adjoint}
        for target in self.targets:
            for index, node in target.members:
                if target.claim is not None:
                    self.stands[node] = _floats(target.claim[index])
        self.children: dict[Any, list[tuple[Any, int]]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for i, x in enumerate(node.operands if node.op is not None else ()):
                if type(x) is type(node):
                    self.children[x].append((node, i))
        self.truth, _ = self._sweep({})
        self.expected, self.used = self._sweep(self.stands)
        self._graph: Graph | None = None

    def _targets(self, claims: Mapping[str, Any]) -> list[_Target]:
        named: dict[str, list[Any]] = {}
        elements: dict[str, dict[tuple[int, ...], Any]] = {}
        for node in self.nodes:
            if node.name:
                named.setdefault(node.name, []).append(node)
                match = ELEMENT.fullmatch(node.name)
                if match and node.size == 1 and type(node) is not Tensor:
                    index = tuple(map(int, match.group(2).split(",")))
                    elements.setdefault(match.group(1), {})[index] = node
        found = []
        for name, claim in claims.items():
            holders = named.get(name, [])
            if len(holders) == 1:
                found.append(self._fitting(_Target(name, [((), holders[0])], np.shape(holders[0].data)), claim))
            elif not holders and name in elements:
                members = sorted(elements[name].items(), key=lambda member: member[0])
                lengths = tuple(max(axis) + 1 for axis in zip(*(index for index, _ in members), strict=True))
                if claim.ndim == len(lengths) and all(a >= b for a, b in zip(claim.shape, lengths, strict=True)):
                    lengths = claim.shape  # elements that nothing was made from are not in the graph
                found.append(self._fitting(_Target(name, list(members), lengths), claim))
            else:
                names = ", ".join(sorted({*named, *elements})) or "none; give nodes a name with node.name = '...'"
                raise KeyError(f"{len(holders)} nodes of the graph are named {name!r}; names in it: {names}")
        return found

    def _fitting(self, target: _Target, claim: Any) -> _Target:
        shape = target.shape
        if claim.shape == shape:
            target.claim = claim
        elif [n for n in claim.shape if n != 1] == [n for n in shape if n != 1] and _broadcasts(claim.shape, shape):
            target.claim = claim.reshape(shape)
            self.notes.append(f"{target.name}: claimed with the shape {claim.shape}; its node has {shape}")
        else:
            target.found = claim.shape
        return target

    def _sweep(self, stands: Mapping[Any, Any]) -> tuple[dict[Any, _Known], dict[Any, _Known]]:
        """({node: its adjoint given those of its children}, {node: the adjoint that is handed on})."""
        expected: dict[Any, _Known] = {}
        used: dict[Any, _Known] = {}
        ones = np.ones(np.shape(self.output.data))
        expected[self.output] = _Known(ones, 0.0 * ones, ones)
        for node in self.nodes:
            known = expected.get(node)
            if known is None:
                zeros = np.zeros(np.shape(node.data))
                known = expected[node] = _Known(zeros, zeros, zeros)
            claim = stands.get(node)
            if claim is not None:
                known = _Known(claim, self.eps * np.abs(claim), np.abs(claim))
            used[node] = known
            if node.op is None:
                continue
            for _, parent, part in self.numbers.pulled(node, known):
                part.bound = part.bound + len(self.children[parent]) * self.eps * part.size
                before = expected.get(parent)
                if before is None:
                    expected[parent] = part
                else:
                    expected[parent] = _Known(
                        before.value + part.value, before.bound + part.bound, before.size + part.size
                    )
        return expected, used

    def _known(self, target: _Target, among: Mapping[Any, _Known]) -> _Known:
        members = [among[node] for _, node in target.members]
        return _Known(*(target.stacked([getattr(x, key) for x in members]) for key in ("value", "bound", "size")))

    # --- the report ---

    def report(self) -> Report:
        causes: list[Cause] = []
        inherited: list[str] = []
        right: list[str] = []
        undecided: list[str] = []
        places = {node: place for place, node in enumerate(self.nodes)}
        for target in sorted(self.targets, key=lambda t: min(places[node] for _, node in t.members)):
            expected, truth = self._known(target, self.expected), self._known(target, self.truth)
            if target.claim is None:
                causes.append(self._of_shape(target, expected))
                continue
            claim = target.claim
            fits, true = expected.agrees(claim, self.tiny), truth.agrees(claim, self.tiny)
            # in a sweep from claims that are not finite nothing can be judged, and a right claim is right anyway
            if fits.all():
                blind = ~(np.isfinite(expected.value) & np.isfinite(expected.bound))
                blurred = np.abs(expected.value) <= SAFETY * expected.bound
                if claim.size and claim.any() and (blurred & (expected.size > 0)).all():
                    self.notes.append(f"{target.name}: zero but for rounding, where a factor cannot be told")
                if blind.all() and blind.size and np.isfinite(truth.bound).all() and not true.all():
                    inherited.append(target.name)
                elif blind.all() and blind.size and not np.isfinite(truth.bound).any():
                    undecided.append(target.name)
                    self.notes.append(f"{target.name}: its right value is not finite, and the claim cannot be judged")
                else:
                    (right if true.all() else inherited).append(target.name)
            elif true.all():
                right.append(target.name)
            else:
                causes.append(_Explained(self, target, expected).cause())
        ok: bool | None = not causes
        if not self.targets:
            self.notes.append("nothing was claimed")
            ok = None
        elif undecided and not causes:
            ok = None
        context = {"nodes": len(self.nodes), "precision": self.eps}
        return Report(ok, tuple(causes), tuple(inherited), tuple(right), tuple(self.notes), context)

    def _of_shape(self, target: _Target, right: _Known) -> Cause:
        claim, shape = self.raw[target.name], target.shape
        kind, words = "shape", f"it has the shape {target.found}, its node {shape}"
        if claim.shape == shape[::-1] and right.agrees(claim.T, self.tiny).all():
            kind, words = "transposed", f"it is transposed: {claim.shape} for {shape}"
        elif claim.size > right.value.size:
            axes = range(claim.ndim)
            for count in range(1, claim.ndim + 1):
                for axis in itertools.combinations(axes, count):
                    summed = claim.sum(axis=axis)
                    if summed.size == right.value.size and _near(summed.reshape(shape), right, self.eps).all():
                        over = " and ".join(map(str, axis))
                        kind = "axis"
                        words = (
                            f"the sum over axis {over} is missing: it has the shape {claim.shape} of what it was "
                            f"broadcast to, its node {shape}"
                        )
                        break
                if kind != "shape":
                    break
        elif not np.isfinite(claim).all():
            words += ", and is not finite"
        fix = f"a derivative has the shape of its node: {shape}"
        return Cause(target.name, None, (), kind, words, None, f"shape {claim.shape}", f"shape {shape}", fix, rule=kind)

    # --- names ---

    @property
    def graph(self) -> Graph:
        """Of the output, for its labels."""
        if self._graph is None:
            self._graph = Graph(self.output)
        return self._graph

    def called(self, node: Any) -> str:
        """A node by its name, or by its formula and the named node that it leads to."""
        if node.name:
            return f"'{node.name}'"
        label, after = self.graph.label(node), node
        while not after.name and self.children[after]:
            after = self.children[after][0][0]
        number = re.fullmatch(r"(v|node)\d+", label)
        label = f"the {node.op.name}" if number and node.op is not None else f"'{label}'"
        if after is self.output and not after.name:
            return f"{label} on the way to the output"
        return f"{label} on the way to '{after.name}'"


def _broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False


def _near(value: Any, right: _Known, eps: float, scale: float = 1.0) -> Any:
    """Element by element, whether a value is the right one but for rounding, with room for another order of steps."""
    loose = 64 * max(1.0, abs(scale)) * right.bound + max(1e-9, 64 * eps) * np.abs(value)
    return (np.abs(value - right.value) <= loose) | ~np.isfinite(right.value) | ~np.isfinite(right.bound)


# --- what is wrong -------------------------------------------------------------------------------------------------

Candidate = tuple[str, str, str | None, Any]  # kind, words, factor, value


class _Explained:
    """The mistake behind one wrong claim: the first of the known ones that yields its numbers."""

    def __init__(self, audit: _Audit, target: _Target, right: _Known) -> None:
        self.audit, self.target, self.right = audit, target, right
        self.claim, self.nodes = target.claim, [node for _, node in target.members]
        self.whole = len(target.members) == 1
        self.members = dict.fromkeys(self.nodes)
        self.region = self._region()
        self.locals: dict[tuple[Any, int], Any] = {}
        self.factors = dict(self._factors())

    def cause(self) -> Cause:
        """The Cause; of several mistakes that yield the same numbers the second is mentioned."""
        gap = np.abs(self.claim - self.right.value) / (self.right.bound + self.audit.tiny)
        gap = np.where(np.isfinite(self.right.value) & np.isfinite(self.right.bound), gap, 0.0)
        gap = np.where(np.isfinite(self.claim), gap, np.inf)
        worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(gap)), gap.shape))
        found: list[Candidate] = []
        for candidate in self._candidates():
            if candidate[3] is None or self._alike(candidate[3]):
                if not found:
                    found.append(candidate)
                elif candidate[0] != found[0][0]:
                    found.append(candidate)
                    break
                if candidate[0] in ("non-finite", "zero", "unexplained"):
                    break
        kind, words, factor, _ = found[0]
        if len(found) > 1 and found[1][0] != "unexplained" and kind not in ("non-finite", "zero"):
            words += f" (or: {found[1][1]}; other shapes would tell)"
        return Cause(
            self.target.name, None, (), kind, words, factor, None, self._formula(), None, worst,
            float(self.claim[worst]), float(self.right.value[worst]), f"{self.target.name}: {kind}",
        )  # fmt: skip

    def _region(self) -> dict[Any, None]:
        """The nodes between the claim and the claims before it, children first, and the claim's own."""
        found, pending = dict(self.members), list(self.nodes)
        for x in pending:
            for child, _ in self.audit.children[x]:
                if child not in found and child not in self.audit.stands:
                    found[child] = None
                    pending.append(child)
        return {node: None for node in self.audit.nodes if node in found}

    def _formula(self) -> str:
        """The sum over the children that the right value is."""
        if not self.whole:
            return f"d{self.target.name}[...] = the sum over the children of each element"
        children = list(dict.fromkeys(child for child, _ in self.audit.children[self.nodes[0]]))
        parts = [f"what comes through {self.audit.called(child)}" for child in children[:4]]
        more = ["..."] if len(children) > 4 else []
        return f"d{self.target.name} = " + (" + ".join([*parts, *more]) or "1")

    def _alike(self, value: Any) -> bool:
        """Whether the claim is this value, and the value is not the right one."""
        value = np.asarray(value)
        if value.shape != self.claim.shape:
            return False
        right, eps = self.right, self.audit.eps
        top = np.abs(self.claim) + np.abs(value)
        judged = np.isfinite(right.value) & np.isfinite(right.bound) & np.isfinite(value)
        ratio = float(np.max(np.abs(value), initial=0.0) / max(float(np.max(np.abs(right.value), initial=0.0)), 1e-300))
        slack = max(1e-9, 64 * eps) * top + 64 * max(1.0, ratio) * right.bound + self.audit.tiny
        same = (np.abs(self.claim - value) <= slack) | ~judged
        apart = np.abs(value - right.value) > max(1e-9, 64 * eps) * np.abs(right.value) + 8 * right.bound
        return bool(same.all() and (apart & judged).any())

    def _factors(self) -> Iterator[tuple[float, tuple[str, str]]]:
        """number -> (how it is written, what n is)."""
        plain = {2.0: "2", -1.0: "-1", 0.5: "1/2", -2.0: "-2", -0.5: "-1/2"}
        for number, text in plain.items():
            yield number, (text, "")
        seen = set(plain) | {0.0, 1.0}
        around: dict[int, str] = {}
        for node in self.nodes[:1] if self.whole else self.nodes:
            for x in [node, *(child for child, _ in self.audit.children[node])]:
                for other in [x, *(o for o in (x.operands if x.op is not None else ()) if type(o) is Tensor)]:
                    for axis, n in enumerate(np.shape(other.data)):
                        where = f"n = {n}, axis {axis} of {self.audit.called(other)}"
                        around.setdefault(n, where)
        for node in self.nodes:
            count = len(self.audit.children[node])
            around.setdefault(count, f"n = {count}, the number of its children")
        for axis, n in enumerate(self.target.shape):
            around.setdefault(n, f"n = {n}, axis {axis} of '{self.target.name}'")
        for n, where in around.items():
            if n < 2:
                continue
            numbers = {"n": n, "1/n": 1 / n, "-n": -n, "-1/n": -1 / n, "2/n": 2 / n, "2n": 2.0 * n, "1/n^2": 1 / n**2}
            numbers |= {"n/(n-1)": n / (n - 1), "(n-1)/n": (n - 1) / n, "n-1": n - 1, "1/(n-1)": 1 / (n - 1)}
            for text, number in numbers.items():
                if number not in seen:
                    seen.add(number)
                    yield float(number), (text, where)

    def _candidates(self) -> Iterator[Candidate]:
        claim, right = self.claim, self.right
        if (~np.isfinite(claim) & np.isfinite(right.value)).any():
            yield "non-finite", "it is nan or infinite where the right value is finite", None, None
        if not claim.any():
            yield "zero", "it is zero throughout", None, None
        for number, (text, where) in self.factors.items():
            words = f"it carries a factor {text}" + (f" ({where})" if where else "")
            yield "factor", words, text, number * right.value
        if claim.ndim >= 2 and claim.shape[-1] == claim.shape[-2]:
            yield "transposed", "it is transposed", None, np.swapaxes(right.value, -1, -2)
        responses = list(self._responses())
        yield from self._of_children(responses)
        for kind, words, delta in self._changes():
            yield kind, words, None, right.value + delta
        ratio = self._fitted_factor(right.value, claim)
        if ratio is not None and claim.size > 1:
            yield "factor", f"it carries a factor {ratio:.6g}", f"{ratio:.6g}", ratio * right.value
        for words, response in responses if claim.size > 1 else ():
            scale = self._fitted_factor(response, claim - right.value + response)
            if scale is not None:
                value = right.value + (scale - 1) * response
                yield "factor", f"what comes through {words} carries a factor {scale:.6g}", f"{scale:.6g}", value
        if claim.size > 1 and np.isfinite(right.value).all():
            rest = claim - right.value
            yield "extra-term", f"a constant {rest.flat[0]:.6g} is added", None, right.value + rest.flat[0]
        yield "unexplained", "it is wrong given the claims before it, in a way not known here", None, None

    def _fitted_factor(self, value: Any, claim: Any) -> float | None:
        """By least squares."""
        judged = np.isfinite(value) & np.isfinite(claim)
        square = float((value[judged] ** 2).sum())
        number = float((value[judged] * claim[judged]).sum()) / square if square else 0.0
        return number if number and math.isfinite(number) else None

    # --- one edge of those between the claim and the claims before it ---

    def _responses(self) -> Iterator[tuple[str, Any]]:
        """(through what, what it adds): per edge, and per child that has several."""
        if not self.whole:
            counts = {len(self.audit.children[node]) for node in self.nodes}
            for slot in range(min(max(counts), 16)):
                parts, first = [], None
                for node in self.nodes:
                    edges = self.audit.children[node]
                    if slot < len(edges):
                        first = first or edges[slot][0]
                        parts.append(self._contribution(*edges[slot]))
                    else:
                        parts.append(np.zeros(()))
                words = f"child {slot + 1} of each element, such as {self.audit.called(first)}"
                yield words, self.target.stacked(parts)
            return
        node = self.nodes[0]
        direct: dict[Any, list[int]] = {}
        for child, i in self.audit.children[node]:
            direct.setdefault(child, []).append(i)
        for child, positions in direct.items():
            parts = [self._through(child, i) for i in positions]
            yield f"the child {self.audit.called(child)}", np.asarray(sum(parts))
            for i, part in zip(positions, parts, strict=True):
                if len(positions) > 1:
                    yield f"operand {i + 1} of the child {self.audit.called(child)}", part
        for child, i, x in self._further()[:EDGES]:
            yield f"the child {self.audit.called(child)} of {self.audit.called(x)}", self._through(child, i)

    def _further(self) -> list[tuple[Any, int, Any]]:
        """The edges (child, operand, parent) above the claim, up to the claims, that do not start at it."""
        region = [x for x in reversed(self.region) if x not in self.members]
        return [(child, i, x) for x in region for child, i in self.audit.children[x]]

    def _contribution(self, child: Any, i: int, g: _Known | None = None) -> Any:
        """What the edge from the child's operand i adds to the adjoint of that operand."""
        parts = self.audit.numbers.pulled(child, g or self.audit.used[child])
        [found] = [part.value for j, _, part in parts if j == i]
        return found

    def _plain(self, child: Any, i: int, g: _Known) -> Any:
        """The contribution without its bound; local derivatives of elementwise operations are kept."""
        if not _is_elementwise(child):
            return self._contribution(child, i, g)
        local = self.locals.get((child, i))
        if local is None:
            local = self.locals[child, i] = self.audit.numbers.local(child, i)
        return _fitted(g.value * local, np.shape(child.operands[i].data))

    def _through(self, child: Any, i: int) -> Any:
        """What the edge from the child's operand i adds to the adjoint of the claim."""
        return self._down({child.operands[i]: self._contribution(child, i)})

    def _down(self, deltas: Mapping[Any, Any]) -> Any:
        """What changes of the adjoints of some nodes make of that of the claim: a sweep that ends at claims."""
        moving, total = dict(deltas), {}
        for x in self.region:
            change = moving.pop(x, None)
            if change is None:
                continue
            if x in self.members:
                total[x] = change
            elif x not in self.audit.stands and x.op is not None:
                if type(x) is Tensor:
                    change = np.asarray(change, x.dtype)
                for parent, part in x.pull(change, self.region):
                    part = part.added_to(None, True) if isinstance(part, Patch) else part
                    if parent in self.region:
                        moving[parent] = moving[parent] + part if parent in moving else part
        return self.target.stacked([total.get(x, np.zeros(np.shape(x.data))) for x in self.nodes])

    def _of_children(self, responses: Sequence[tuple[str, Any]]) -> Iterator[Candidate]:
        right = self.right.value
        for words, response in responses:
            yield "child-sum", f"what comes through {words} is missing", None, right - response
        if len(responses) > 1:
            for words, response in responses:
                yield "child-sum", f"only what comes through {words} is there", None, response
        for words, response in responses:
            for number, (text, where) in self.factors.items():
                told = f"what comes through {words} carries a factor {text}" + (f" ({where})" if where else "")
                yield "factor", told, text, right + (number - 1) * response

    # --- another rule on one edge ---

    def _changes(self) -> Iterator[tuple[str, str, Any]]:
        """(kind, words, what the mistake adds to the right value)."""
        audit = self.audit
        edges = [(child, i, x) for x in self.nodes for child, i in audit.children[x]]
        further = self._further()
        if self.whole:
            nearest = [*edges, *further[:NEAR]]
            for child, i, x in nearest:
                contribution = self._contribution(child, i)
                for kind, words, value in self._other_rules(child, i):
                    if np.shape(value) == contribution.shape and np.isfinite(value).all():
                        yield kind, self._placed(words, child), self._down({x: value - contribution})
        yield from self._everywhere([*edges, *further])
        if not self.whole:
            return
        for child, i, x in nearest:
            for words, value, contribution in self._strangers(child, i):
                yield "operand", self._placed(words, child), self._down({x: value - contribution})
        node = self.nodes[0]  # one sample only: of everything that was made from the node at once
        for words, keep in SAMPLES.items():
            delta, masked = np.zeros(np.shape(node.data)), False
            for child, i in audit.children[node]:
                g = audit.used[child]
                if g.value.ndim and len(g.value) > 1:
                    mask = np.zeros((len(g.value), *(1,) * (g.value.ndim - 1)))
                    mask[keep] = 1.0
                    for j, _, part in audit.numbers.pulled(child, _Known(g.value * (mask - 1), g.bound, g.size)):
                        if j == i:
                            delta, masked = delta + part.value, True
            if masked:
                yield "batch-sum", words, delta
            if delta.ndim and len(delta) > 1:  # a row per sample here too
                rows = np.array(self.right.value)
                rows[keep] = 0.0
                yield "batch-sum", words, -rows

    def _everywhere(self, edges: Sequence[tuple[Any, int, Any]]) -> Iterator[tuple[str, str, Any]]:
        """The same mistake at every edge of one operation: in each step of a recurrent cell, in each element."""
        alike: dict[tuple[Any, int], list[Any]] = {}
        for child, i, _ in edges:
            alike.setdefault((child.op, i), []).append(child)
        left = PULLS
        for (op, i), children in sorted(alike.items(), key=lambda group: len(group[1][0].operands)):
            if (len(children) < 2 and self.whole) or op.name in ("add", "sub", "neg"):
                continue  # tried already; or nothing but a factor
            rules = [(kind, words) for kind, words, _ in self._other_rules(children[0], i)]
            where = (
                f", in all {len(children)} places" if len(children) > 1 else f", in {self.audit.called(children[0])}"
            )
            for kind, words in rules:
                left -= len(edges)
                if left < 0:
                    return
                found = self._again(op, i, words)
                if found is not None:
                    yield kind, words + where, found - self.right.value

    def _again(self, op: Any, position: int, words: str) -> Any:
        """The claim by a sweep with another rule at one operand of one operation wherever it stands; None without."""
        adjoints: dict[Any, Any] = {}
        for x in self.region:
            total = self.audit.expected[x].value if x is self.audit.output else np.zeros(np.shape(x.data))
            for child, i in self.audit.children[x]:
                g = self.audit.used[child]
                if child in adjoints and child not in self.members:
                    g = _Known(adjoints[child], g.bound, g.size)
                if child.op is op and i == position:
                    parts = (value for _, text, value in self._other_rules(child, i, g.value) if text == words)
                    part = next(parts, None)
                    if part is None or np.shape(part) != total.shape:
                        return None
                else:
                    part = self._plain(child, i, g)
                total = total + part
            adjoints[x] = total
        return self.target.stacked([adjoints[x] for x in self.nodes])

    def _placed(self, words: str, child: Any) -> str:
        where = self.audit.called(child)
        return f"{words}, on the way to {where}" if child.name else f"{words}, in {where}"

    def _other_rules(self, child: Any, i: int, g: Any = None) -> Iterator[tuple[str, str, Any]]:
        """(kind, words, what the edge would add by a wrong rule)."""
        g, y = self.audit.used[child].value if g is None else g, self.audit.numbers.data[child]
        values, _ = self.audit.numbers.operands(child)
        own, shape, name = values[i], values[i].shape, child.op.name
        if _is_elementwise(child):
            local = self.audit.numbers.local(child, i)
            full = np.broadcast_to(local, y.shape)
            yield "operand", f"the local derivative of {name} is missing", _fitted(g, shape)
            yield "operand", "the upstream is not multiplied, only the local derivative", _fitted(full, shape)
            yield "operand", f"it is divided by the local derivative of {name}", _fitted(g / local, shape)
            yield "operand", f"the local derivative of {name} is squared", _fitted(g * local * local, shape)
            if len(values) == 2:
                other = values[1 - i]
                yield "operand", "its own value stands in the place of the other's", _fitted(g * own, shape)
                yield "operand", "the other's value is multiplied", _fitted(g * other, shape)
                yield "operand", "it is divided by the other's value", _fitted(g / other, shape)
                yield "operand", f"the value of {name} stands in the place of its derivative", _fitted(g * y, shape)
                if name == "div":
                    yield "operand", "the divisor is not squared", _fitted(-g * values[0] / values[1], shape)
                    yield "operand", "the dividend is missing", _fitted(-g / values[1] ** 2, shape)
            else:
                yield (
                    "operand",
                    f"the derivative of {name} is taken at its value, not at its argument",
                    _fitted(g * _rules(child)[0](_row(child).array(y), y), shape),
                )
                slopes = {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y), "x": own,
                          "1 - x^2": 1 - own * own, "x (1 - x)": own * (1 - own), "x > 0": own > 0}  # fmt: skip
                for text, slope in slopes.items():
                    yield (
                        "operand",
                        f"{text} stands in the place of the derivative of {name}",
                        _fitted(g * slope, shape),
                    )
            if g.shape != shape and len(g.shape) >= len(shape):
                yield from _other_sums(g * local, shape)
            return
        if child.op is operations.matmul and own.ndim == 2 == values[1 - i].ndim:
            yield from self._other_products(child, i, g, values)
        if child.op is operations.sum_ and g.size > 1:
            for axis in range(own.ndim):
                flat = g.reshape(-1)
                if own.shape[axis] == flat.size:
                    laid = flat.reshape(tuple(-1 if k == axis else 1 for k in range(own.ndim)))
                    yield "axis", f"the upstream of the sum is laid along axis {axis}", np.broadcast_to(laid, shape)
        if child.op is operations.index:
            last = np.zeros(shape)
            last[child.parameters["key"]] = g
            words = "where an index picks an element several times, only the last upstream is kept"
            yield "child-sum", words, last
        if child.op in (operations.max_, operations.min_):
            yield (
                "operand",
                f"the {name} hands its upstream to every element",
                np.broadcast_to(operations.expanded(g, shape, **child.parameters), shape),
            )

    def _other_products(self, child: Any, i: int, g: Any, values: list[Any]) -> Iterator[tuple[str, str, Any]]:
        own, other = values[i], values[1 - i]
        y = self.audit.numbers.data[child]
        first: dict[str, Any] = {"upstream": g}
        second = {"the other operand": other, "its own value": own, "the product itself": y}
        for (_, a), (text, b) in itertools.product(first.items(), second.items()):
            for left, right in ((a, b), (b, a)):
                for turned_left, turned_right in itertools.product((left, left.T), (right, right.T)):
                    if turned_left.shape[1] == turned_right.shape[0]:
                        what = f"{text} stands in the place of the other's" if b is not other else (
                            "a factor of the matrix product is transposed, or they are in the wrong order"
                        )  # fmt: skip
                        yield "operand", what, turned_left @ turned_right
        if i == 0:
            yield "operand", "the upstream is not multiplied, only the other operand", np.ones_like(y) @ other.T
        else:
            yield "operand", "the upstream is not multiplied, only the other operand", other.T @ np.ones_like(y)

    def _strangers(self, child: Any, i: int) -> Iterator[tuple[str, Any, Any]]:
        """(words, what a matrix product would add, what it adds): with the adjoint of a node made from it."""
        if child.op is not operations.matmul or any(len(np.shape(x.data if type(x) is Tensor else x)) != 2
                                                    for x in child.operands):  # fmt: skip
            return
        g, values = self.audit.used[child].value, self.audit.numbers.operands(child)[0]
        for further, _ in self.audit.children[child]:
            stranger = self.audit.used[further].value
            if stranger.shape == g.shape:
                words = f"the derivative with respect to {self.audit.called(further)} stands in the place of its own"
                other = values[1 - i]
                with_it, right = (stranger @ other.T, g @ other.T) if i == 0 else (other.T @ stranger, other.T @ g)
                yield words, with_it, right


def _other_sums(full: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, str, Any]]:
    """The sums of a contribution before it is brought to its operand's shape, over other axes than the right ones."""
    for count in range(full.ndim + 1):
        for axes in itertools.combinations(range(full.ndim), count):
            summed = full.sum(axis=axes)
            if summed.size == math.prod(shape):
                over = " and ".join(map(str, axes)) or "none"
                yield "axis", f"the sum runs over axis {over}", summed.reshape(shape)


SAMPLES: dict[str, Any] = {
    "only the first sample is there": slice(0, 1),
    "only the last sample is there": slice(-1, None),
    "the first sample is left out": slice(1, None),
    "the last sample is left out": slice(None, -1),
}
