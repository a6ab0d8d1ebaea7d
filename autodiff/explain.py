"""Receipts: the gradient of a node itemised edge by edge, through chosen nodes, and path by path.

The total derivative of f(t(x), u(x), v(x)) is df/dx = f_t dt/dx + f_u du/dx + f_v dv/dx: one term for each way
in which x enters. The total differential is the change it predicts: df = f_t dt + f_u du + f_v dv.
Nothing here needs a backward pass or writes a grad.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from autodiff.graph import Edge, Graph, adjoints, checked_value, tangents
from autodiff.notation import Expression, argument_names, latex_number, local_formula, number_text
from autodiff.primitives import ATOM
from autodiff.value import Value, as_number


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """What one child edge, or one node on the way, adds to an adjoint: contribution = upstream * local."""

    child: Value
    upstream: float
    local: float
    symbol: Expression  # the child, as formulas call it
    formula: Expression | None  # the local derivative in symbols; None where it is itself a sum over paths

    @property
    def label(self) -> str:
        """The child in plain text."""
        return str(self.symbol)

    @property
    def contribution(self) -> float:
        """upstream * local."""
        return self.upstream * self.local


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """The itemised sum behind d(output)/d(wrt): terms and their total; str() and latex() print it."""

    output: Value
    wrt: Value
    terms: tuple[Term, ...]
    symbols: tuple[Expression, Expression]  # of output and wrt

    @property
    def total(self) -> float:
        """The sum of the contributions, which is the adjoint; 1 for the output itself."""
        return 1.0 if self.wrt is self.output else sum((term.contribution for term in self.terms), 0.0)

    def __str__(self) -> str:
        output, wrt = map(_atom, self.symbols)
        title = f"d{output}/d{wrt} = {number_text(self.total)}"
        if self.wrt is self.output:
            return f"{title}: the output itself"
        if not self.terms:
            return f"{title}: {output} does not depend on {wrt}"
        symbols, rows = [], []
        for term in self.terms:
            local = term.formula or Expression(f"d{_atom(term.symbol)}/d{wrt}")
            symbols.append(f"d{output}/d{_atom(term.symbol)} · {_atom(local)}")
            numbers = (term.upstream, term.local, term.contribution)
            upstream, number, contribution = map(number_text, numbers)
            rows.append((term.label, upstream, str(local), number, contribution))
        rows = _shortened(rows, ("...", "", f"({len(rows) - SHOWN} more)", "", ""))
        rows = [("child", "upstream", "local", "", "contribution"), *rows, ("sum", "", "", "", number_text(self.total))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2])]
                + [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
            )
            for row in rows
        ]
        symbols = _shortened(symbols, "...")
        return "\n".join([title, f"  = {' + '.join(symbols)}", *(f"  {line.rstrip()}" for line in lines)])

    def latex(self) -> str:
        r"""The sum in symbols and in numbers, as an `aligned` environment.

        >>> x, w = Value(3.0, name="x"), Value(0.5, name="w1_12")
        >>> y = w * x
        >>> y.name = "h_1"
        >>> print(total_derivative(y, w).latex())
        \begin{aligned}
        \frac{\partial h_{1}}{\partial w^{(1)}_{12}} &= \frac{\partial h_{1}}{\partial h_{1}} \cdot x \\
        &= 1 \cdot 3 = 3
        \end{aligned}
        """
        output, wrt = self.symbols
        left = _fraction(output, wrt)
        if not self.terms:
            return f"{left} = {latex_number(self.total)}"
        symbols = [
            rf"{_fraction(output, term.symbol)} \cdot "
            + (_fraction(term.symbol, wrt) if term.formula is None else _atom(term.formula, latex=True))
            for term in self.terms
        ]
        figures = [
            rf"{_figure(term.upstream, bracket=number > 0)} \cdot {_figure(term.local, bracket=True)}"
            for number, term in enumerate(self.terms)
        ]
        dots = r"\cdots"
        return "\n".join(
            [
                r"\begin{aligned}",
                rf"{left} &= {' + '.join(_shortened(symbols, dots))} \\",
                f"&= {' + '.join(_shortened(figures, dots))} = {latex_number(self.total)}",
                r"\end{aligned}",
            ]
        )


def total_derivative(output: Value, wrt: Value, through: Sequence[Value] | Value | None = None) -> Receipt:
    """The receipt of d(output)/d(wrt) = sum over child edges of d(output)/d(child) * d(child)/d(wrt).

    A child that uses wrt twice, as in x * x, has two terms. With `through`, the terms are those nodes instead:
    the local derivative is then d(node)/d(wrt) over all paths in between that meet none of the other nodes.

    Raises TypeError for what is not a node, and ValueError if a path from wrt to output avoids every node of
    `through` (the message names the path).

    >>> x = Value(3.0, name="x")
    >>> f = (x * x) * x.tanh()
    >>> receipt = total_derivative(f, x)
    >>> [(term.label, round(term.contribution, 6)) for term in receipt.terms]
    [('x · x', 2.985164), ('x · x', 2.985164), ('tanh(x)', 0.088794)]
    """
    output = checked_value(output, "total_derivative(output, ...)")
    wrt = checked_value(wrt, "total_derivative(..., wrt)")
    graph = Graph(output)
    if wrt not in graph:
        return Receipt(output, wrt, (), (_output_symbol(graph), Expression(wrt.name or "x")))
    adjoint = adjoints(output)
    if through is None:
        terms = tuple(_edge_term(graph, edge, adjoint) for edge in graph.edges if edge.parent is wrt)
    else:
        stops = [through] if isinstance(through, Value) else through
        terms = _terms_through(graph, wrt, stops, adjoint)
    return Receipt(output, wrt, terms, (_output_symbol(graph), graph.symbol(wrt)))


def _edge_term(graph: Graph, edge: Edge, adjoint: dict[Value, float]) -> Term:
    symbols = local_formula(edge.child, edge.position, graph.symbol)
    return Term(edge.child, adjoint[edge.child], edge.local, graph.symbol(edge.child), symbols)


def _terms_through(graph: Graph, wrt: Value, through: Sequence[Value], adjoint: dict[Value, float]) -> tuple[Term, ...]:
    stops = dict.fromkeys(checked_value(node, "total_derivative(..., through)") for node in through)
    for node in stops:
        if node not in graph:
            raise ValueError(f"through: {node!r} is not below the output {graph.label(graph.output)}")
    tangent = tangents(graph.output, wrt, stops)
    if graph.output in tangent and graph.output not in stops:
        path = [graph.label(node) for node in _escaping(graph, wrt, stops)]
        names = " -> ".join(_shortened(path, "..."))
        raise ValueError(
            f"through: the chosen nodes do not cut every path from {path[0]} to {path[-1]}; {names} avoids them all. "
            "Add one of its nodes"
        )
    return tuple(
        Term(node, adjoint[node], tangent[node], graph.symbol(node), None) for node in stops if node in tangent
    )


def _escaping(graph: Graph, wrt: Value, stops: dict[Value, None]) -> list[Value]:
    """A path from wrt to the output that meets no stop, which the caller knows to exist."""
    came_from: dict[Value, Value] = {}
    for edge in graph.edges:
        parent_open = edge.parent is wrt or (edge.parent in came_from and edge.parent not in stops)
        if parent_open and edge.child not in came_from:
            came_from[edge.child] = edge.parent
    path = [graph.output]
    while path[-1] is not wrt:
        path.append(came_from[path[-1]])
    return path[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One way from a node to the output: its nodes, the local derivatives along it, and their product."""

    nodes: tuple[Value, ...]
    locals: tuple[float, ...]

    @property
    def product(self) -> float:
        """What this path alone adds to the adjoint."""
        return math.prod(self.locals, start=1.0)


def count_paths(output: Value, wrt: Value) -> int:
    """The number of paths from wrt to output, counted edge by edge without walking them; exact.

    >>> x = Value(1.0)
    >>> y = x
    >>> for _ in range(100):
    ...     y = y + y
    >>> count_paths(y, x) == 2**100
    True
    """
    graph = Graph(checked_value(output, "count_paths(output, ...)"))
    return _counts(graph, checked_value(wrt, "count_paths(..., wrt)")).get(graph.output, 0)


def _counts(graph: Graph, wrt: Value) -> dict[Value, int]:
    count = {wrt: 1}
    for edge in graph.edges:
        if edge.parent in count and edge.child is not wrt:
            count[edge.child] = count.get(edge.child, 0) + count[edge.parent]
    return count


def paths(output: Value, wrt: Value, limit: int = 10_000) -> list[Path]:
    """Every path from wrt to output; their products sum to d(output)/d(wrt).

    Two edges between the same nodes, as in x * x, are two paths. A node that output does not depend on has none;
    the output itself has one, of no edges. Raises ValueError, naming the number, beyond `limit` paths.

    >>> x = Value(3.0, name="x")
    >>> [path.product for path in paths(x * x + x, x)]
    [1.0, 3.0, 3.0]
    """
    output, wrt = checked_value(output, "paths(output, ...)"), checked_value(wrt, "paths(..., wrt)")
    graph = Graph(output)
    count = _counts(graph, wrt)
    total = count.get(output, 0)
    if total > limit:
        raise ValueError(
            f"{total} paths lead from {wrt.name or 'the node'} to {graph.label(output)}, more than limit={limit}; "
            "raise the limit, ask for a node nearer to the output, or use count_paths and total_derivative"
        )
    into: dict[Value, list[Edge]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        into[edge.child].append(edge)
    found: list[Path] = []
    # Walked from the output down, only along nodes that wrt leads to, so that no step is in vain. A trail is a
    # linked list (edge, rest of the trail): paths share their ends.
    open_ends: list[tuple[Value, Any]] = [(output, None)] if total else []
    for node, trail in open_ends:  # the list grows while it is read
        if node is wrt:
            edges = []
            while trail is not None:
                edge, trail = trail
                edges.append(edge)
            found.append(Path((wrt, *(edge.child for edge in edges)), tuple(edge.local for edge in edges)))
            continue
        open_ends.extend((edge.parent, (edge, trail)) for edge in into[node] if edge.parent in count)
    return found


@dataclass(frozen=True, slots=True)
class Differential:
    """One term of a total differential: contribution = partial * step."""

    name: str
    partial: float
    step: float

    @property
    def contribution(self) -> float:
        """What the step in this argument alone changes, to first order."""
        return self.partial * self.step


@dataclass(frozen=True, slots=True)
class TotalDifferential:
    """The change that the partial derivatives predict, and the actual one; str() prints the terms."""

    terms: tuple[Differential, ...]
    actual: float
    remainders: tuple[float, ...]  # actual - predicted for step, step/2, step/4, ...
    rounding: float  # a remainder smaller than this is rounding, and says nothing of the order

    @property
    def predicted(self) -> float:
        """df = sum of partial * step."""
        return sum((term.contribution for term in self.terms), 0.0)  # fsum raises for inf - inf

    @property
    def remainder(self) -> float:
        """actual - predicted, of second order in the step for a smooth function."""
        return self.remainders[0]

    @property
    def order(self) -> float:
        """The measured p in remainder ~ step**p: 2 for a smooth function, 1 at a kink, nan if all is rounding.

        The median over halvings of the step, so that no unlucky step decides.
        """
        sizes = [abs(r) for r in self.remainders if math.isfinite(r) and abs(r) > self.rounding]
        slopes = sorted(math.log2(large / small) for large, small in pairwise(sizes))
        return slopes[len(slopes) // 2] if slopes else math.nan

    def __str__(self) -> str:
        lines = [
            f"  ∂f/∂{term.name} · d{term.name} = {number_text(term.partial)} · {number_text(term.step)}"
            f" = {number_text(term.contribution)}"
            for term in self.terms
        ]
        return "\n".join(
            [
                "total differential",
                *lines,
                f"  predicted {number_text(self.predicted)}, actual {number_text(self.actual)}, "
                f"remainder {number_text(self.remainder, 3)} of order {number_text(self.order, 3)}",
            ]
        )


HALVINGS = 6  # a remainder of order 2 shrinks by 4**6 = 4096 over them: far from rounding for any visible step


def total_differential(f: Callable[..., Any], at: Sequence[float], step: Sequence[float]) -> TotalDifferential:
    """df = sum over arguments of partial * step, against f(at + step) - f(at).

    f takes as many numbers as `at` and `step` have and is called with nodes. Raises TypeError if f returns no node,
    ValueError if at and step differ in length.

    >>> d = total_differential(lambda u, v: u * v, at=(3.0, 2.0), step=(0.1, -0.2))
    >>> round(d.predicted, 12), round(d.actual, 12), round(d.remainder, 12), round(d.order, 6)
    (-0.4, -0.42, -0.02, 2.0)
    """
    if not isinstance(at, (tuple, list)) or not isinstance(step, (tuple, list)) or len(at) != len(step):
        raise ValueError(f"at and step are tuples of one number per argument of f, got at={at!r}, step={step!r}")
    at = [as_number(number, "total_differential(at)") for number in at]
    step = [as_number(number, "total_differential(step)") for number in step]
    names = argument_names(f, len(at))
    nodes = [Value(number, name) for number, name in zip(at, names, strict=True)]
    output = checked_value(f(*nodes), "total_differential: f must return a node; it")
    adjoint = adjoints(output)
    terms = tuple(
        Differential(name, adjoint.get(node, 0.0), change)
        for name, node, change in zip(names, nodes, step, strict=True)
    )

    def change_of_f(scale: float) -> float:
        moved = [Value(number + scale * change) for number, change in zip(at, step, strict=True)]
        return float(f(*moved).item() - output.data)

    predicted = sum((term.contribution for term in terms), 0.0)
    scales = [0.5**halving for halving in range(HALVINGS)]
    actual = [change_of_f(scale) for scale in scales]
    remainders = tuple(change - scale * predicted for change, scale in zip(actual, scales, strict=True))
    # Each f carries a few rounding errors of its own size, each sum at + step those of `at`, the terms theirs.
    size = abs(output.data) + abs(actual[0]) + sum(abs(term.contribution) for term in terms)
    size += sum(abs(term.partial * number) for term, number in zip(terms, at, strict=True))
    return TotalDifferential(terms, actual[0], remainders, rounding=16 * sys.float_info.epsilon * size)


SHOWN = 20  # terms of a longer sum that are printed: half from its beginning, half from its end


def _shortened(items: list[Any], gap: Any) -> list[Any]:
    return items if len(items) <= SHOWN else [*items[: SHOWN // 2], gap, *items[-SHOWN // 2 :]]


def _output_symbol(graph: Graph) -> Expression:
    unnamed = graph.output.name is None and graph.output.op is not None
    taken = any(node.name == "f" for node in graph.nodes)
    return Expression("f") if unnamed and not taken else graph.symbol(graph.output)


def _atom(formula: Expression, latex: bool = False) -> str:
    """The formula in brackets unless it holds together by itself."""
    left, right = (r"\left(", r"\right)") if latex else ("(", ")")
    text = formula.render(latex)
    return text if formula.binds == ATOM else f"{left}{text}{right}"


def _fraction(above: Expression, below: Expression) -> str:
    return rf"\frac{{\partial {_atom(above, latex=True)}}}{{\partial {_atom(below, latex=True)}}}"


def _figure(number: float, bracket: bool = False) -> str:
    text = latex_number(number)
    return f"({text})" if bracket and text.startswith("-") else text
