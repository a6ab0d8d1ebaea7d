"""Derivatives as formulas, and LaTeX: SymPy differentiates and reads what this package writes.

SymPy knows fewer functions than the table and reads less LaTeX than is written: the graphs here are of those rows that
it knows. All rows are read back in test_notation.py, by a reader of our own.
"""

import random

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from sympy.parsing.latex import parse_latex

from autodiff import TABLE, Tensor, Value, adjoints, derivative_formula
from autodiff.notation import formula
from autodiff.primitives import Primitive
from autodiff.textbook import TEXTBOOK
from tests.random_graphs import chain, graphs, ladder

RANDOM = settings(deadline=None, derandomize=True, max_examples=100)
# {row: what it is in SymPy}
SYMPY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "square": lambda a: a**2,
    "exp": sympy.exp,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "tanh": sympy.tanh,
    "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
    "reciprocal": lambda a: 1 / a,
}
ROWS = [TABLE[name] for name in SYMPY]
# Two programs for one derivative, each with a few dozen roundings; what cancels in them is seen against the largest
CLOSE = {"rel": 1e-8, "abs": 1e-8}


def smooth_graph(seed, operations=7):
    """(output, {name: leaf}) made of the rows that SymPy knows, no number nor slope above 100 on the way."""
    draw = random.Random(seed)
    leaves = [Value(draw.randint(2, 16) / 8, name) for name in "xyz"]
    made = list(leaves)
    while len(made) < 3 + operations:
        row = draw.choice(ROWS)
        operands = [draw.choice(made[-4:]) for _ in range(row.arity)]
        if row.arity == 2 and draw.random() < 0.3:
            operands[draw.randint(0, 1)] = draw.choice([-1.5, 0.5, 2.0, 3.0])
        node = row(*operands)
        if max(abs(node.data), *(abs(local) for _, local in node.edges())) < 100 and abs(node.data) > 0.01:
            made.append(node)
    return made[-1], {leaf.name: leaf for leaf in leaves}


def in_sympy(node, known):
    """A node as a SymPy expression of its leaves; known: {node: its expression}, filled on the way."""
    if not isinstance(node, Value):
        return sympy.Float(node, 17)
    if node not in known:
        known[node] = (
            sympy.Symbol(node.name)
            if node.op is None
            else SYMPY[node.op.source.name](*(in_sympy(operand, known) for operand in node.operands))
        )
    return known[node]


def value_of(expression, data):
    """The number of an expression, each part worked out once."""
    found = {}
    for part in expression.parts():
        if isinstance(part.head, Primitive):
            with np.errstate(all="ignore"):
                found[id(part)] = part.head.on_floats(*(found[id(operand)] for operand in part.operands))
        else:
            found[id(part)] = data[part.head] if isinstance(part.head, str) else part.head
    return found[id(expression)]


# ---------------------------------------------------------------- derivatives
@pytest.mark.parametrize("seed", range(40))
def test_derivatives_are_those_of_sympy(seed):
    output, leaves = smooth_graph(seed)
    data = {name: leaf.data for name, leaf in leaves.items()}
    expression = in_sympy(output, {})
    for name, leaf in leaves.items():
        expected = float(sympy.diff(expression, sympy.Symbol(name)).evalf(20, subs=data))
        assert value_of(derivative_formula(output, leaf), data) == pytest.approx(expected, **CLOSE)


def test_a_wrong_rule_is_not_the_derivative_of_sympy(monkeypatch):
    tanh = TABLE["tanh"]
    x = Value(0.5, "x")
    monkeypatch.setitem(TEXTBOOK, tanh, (lambda y, a: 1.0 - y,))
    found = value_of(derivative_formula(tanh(x) * x, x), {"x": 0.5})
    expected = float(sympy.diff(sympy.sympify("tanh(x) * x"), "x").subs("x", 0.5))
    assert found != pytest.approx(expected, **CLOSE)


@RANDOM
@given(graphs())
def test_derivatives_of_random_graphs_have_the_value_of_the_adjoint(example):
    """All rows of the table, repeated operands, names in between (which stand for their numbers)."""
    if any(node.op and node.op.source.name in ("pow", "hypot", "sinc_slope") for node in example.nodes):
        return  # at their corners a convention gives the slope, which the printed rule does not say
    data = {node.name: node.data for node in example.nodes if node.name}
    adjoint = adjoints(example.output)
    for leaf in example.leaves:
        found = value_of(derivative_formula(example.output, leaf), data)
        assert found == pytest.approx(adjoint.get(leaf, 0.0), rel=1e-8, abs=1e-8)


X, W = Value(2.0, "x"), Value(3.0, "w")
H = (W * X).exp()
H.name = "h"


@pytest.mark.parametrize(
    ("output", "wrt", "text"),
    [
        (X, X, "1"),
        (X, W, "0"),
        (X + X, X, "2"),
        (X * X, X, "2 · x"),
        (X * X + X.tanh(), X, "1 - tanh(x)² + 2 · x"),
        (X * W, X, "w"),
        (X**3.0, X, "3 · x^2"),
        (X - W, W, "-1"),
        ((W * X + 1.0).sin(), W, "cos(w · x + 1) · x"),
        (H * W, H, "w"),
        (H * W, W, "h + w · h · x"),  # h by its name
        (H, X, "exp(w · x) · w"),  # the output itself is written out, as in its formula
        (-(X * 5.0), X, "-5"),
    ],
)
def test_derivatives_print_without_what_changes_nothing(output, wrt, text):
    assert str(derivative_formula(output, wrt)) == text


def test_no_derivative_is_too_long_to_be_made():
    x = Value(1.0, "x")
    assert str(derivative_formula(chain(50_000, x), x)) == "1"
    assert str(derivative_formula(ladder(100, x), x)) == f"{2.0**100:.6g}"
    y = x
    for _ in range(2000):
        y = y.sin()
    with pytest.raises(ValueError, match="parts, too many to print; give nodes in between a name"):
        str(derivative_formula(y, x))


def test_a_formula_may_be_deep():
    y = Value(1.0, "x")
    for _ in range(20_000):
        y = y.sin()
    deep = formula(y, depth=20_000)
    assert str(deep) == "sin(" * 20_000 + "x" + ")" * 20_000
    assert deep.latex().startswith(r"\sin\left(")
    assert deep.mathml().count("<mi>sin</mi>") == 20_000


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda A, B, c: np.sum(A @ B), "(1 broadcast to 5×2) @ B.T"),
        (lambda A, B, c: np.sum((A @ B) ** 2.0), "2 · (A @ B) @ B.T"),
        (lambda A, B, c: np.sum(A * A), "2 · A"),
        (lambda A, B, c: np.sum(A), "1 broadcast to 5×3"),
        (lambda A, B, c: np.mean(A + c), "0.0666667 broadcast to 5×3"),
        (lambda A, B, c: np.sum(c * c), "0"),
        (lambda A, B, c: np.sum(np.exp(A.T)), "exp(A.T).T"),
    ],
)
def test_derivatives_of_arrays(f, text):
    A, B, c = (Tensor(np.ones(shape), name=name) for name, shape in (("A", (5, 3)), ("B", (3, 2)), ("c", (3,))))
    assert str(derivative_formula(f(A, B, c), A)) == text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: derivative_formula(3.0, X), TypeError, r"derivative_formula\(output, \.\.\.\) takes a node"),
        (lambda: derivative_formula(X, "x"), TypeError, r"derivative_formula\(\.\.\., wrt\) takes a node .* got str"),
        (
            lambda: derivative_formula(Tensor(np.ones(2)), X),
            ValueError,
            r"the output has the shape \(2,\); take np\.sum",
        ),
    ],
)
def test_what_has_no_derivative_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------- LaTeX, read by SymPy
def read_by_sympy(latex, data):
    """The number of a formula in LaTeX; log is that of base e, σ the sigmoid, ln(a) log(a, E)."""
    sigma = sympy.Function("sigma")
    expression = parse_latex(latex).replace(sigma, lambda a: 1 / (1 + sympy.exp(-a)))
    return float(expression.subs({symbol: data[symbol.name] for symbol in expression.free_symbols}).evalf(20))


@pytest.mark.parametrize("seed", range(40))
def test_sympy_reads_the_latex_of_random_graphs(seed):
    output, leaves = smooth_graph(seed)
    data = {name: leaf.data for name, leaf in leaves.items()}
    # The constants and the data have few digits, so that they print in full
    assert read_by_sympy(formula(output, depth=50).latex(), data) == pytest.approx(output.data, **CLOSE)


@pytest.mark.parametrize("seed", range(15))
def test_sympy_reads_the_latex_of_derivatives(seed):
    output, leaves = smooth_graph(seed, operations=4)
    data = {name: leaf.data for name, leaf in leaves.items()}
    for leaf in leaves.values():
        derivative = derivative_formula(output, leaf)
        # Numbers that were computed on the way print 6 digits
        assert read_by_sympy(derivative.latex(), data) == pytest.approx(value_of(derivative, data), rel=1e-4, abs=1e-6)


def test_sympy_reads_indices_and_greek_letters():
    h, delta = Value(0.5, "h_12"), Value(2.0, "delta2")
    assert read_by_sympy(formula(h * delta + h).latex(), {"h_{12}": 0.5, "delta_{2}": 2.0}) == 1.5


def test_a_missing_bracket_would_be_read_otherwise(monkeypatch):
    x, y = Value(2.0, "x"), Value(3.0, "y")
    node = (x + y) * x
    assert read_by_sympy(formula(node).latex(), {"x": 2.0, "y": 3.0}) == 10.0
    monkeypatch.setattr(TABLE["mul"], "latex_needs", (0, 0))
    assert read_by_sympy(formula(node).latex(), {"x": 2.0, "y": 3.0}) == 8.0
