"""Formulas read back: plain text and LaTeX are translated to Python and must give the number of the graph.

The readers know Python's precedence, not the table's binding strengths: `·` is `*`, `^` is `**`, `mod` is `%`, |a| is
abs(a), and in LaTeX a brace that does not print (that of {a}^{b} around a) does not group either.
"""

import ast
import itertools
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings

from autodiff import TABLE, Graph, Tensor, Value, adjoints, scalars, total_derivative
from autodiff.names import GREEK, latex_name, latex_number, number_text
from autodiff.notation import Expression, formula, local_formula, operation
from autodiff.primitives import ATOM, PRODUCT, SUM, Primitive, add, mul, neg, power, sigmoid, sqrt, sub, tanh
from autodiff.textbook import TEXTBOOK
from tests.random_graphs import ROWS, graphs

RANDOM = settings(deadline=None, derandomize=True, max_examples=200)
# A number prints with 6 significant digits (5e-6 of it at most are lost); a rule holds up to three such numbers.
PRINTED = 2e-5

# ---------------------------------------------------------------- the readers
OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Mod: "mod", ast.Pow: "pow"}
SPELLED = {"max": "maximum", "min": "minimum", "σ": "sigmoid", "sigma": "sigmoid"}


def evaluate(source, data):
    """The number a Python expression stands for, every operation done by the table's own floats.

    data: {name: number}. So the arithmetic is that of the graph, corners included, and equality is exact. What two
    rows print alike, for they mean the same but for rounding, is done by the row made for it: ⌊a / b⌋ is floordiv,
    √(a² + b²) is hypot.
    """

    def squared(part):
        match part:
            case ast.BinOp(base, ast.Pow(), ast.Name("SQUARE") | ast.Constant(2)):
                return base
        return None

    def number(part):
        match part:
            case ast.Constant(value):
                return float(value)
            case ast.Name("SQUARE"):
                return 2.0
            case ast.Name("nan" | "inf" as name):
                return float(name)
            case ast.Name(name):
                return data[name]
            case ast.UnaryOp(ast.USub(), operand):
                return -number(operand)
            case ast.BinOp(left, ast.Pow(), ast.Name("SQUARE")):
                return TABLE["square"].on_floats(number(left))
            case ast.BinOp(left, operator, right):
                return TABLE[OPERATORS[type(operator)]].on_floats(number(left), number(right))
            case ast.Call(ast.Name("floor"), [ast.BinOp(left, ast.Div(), right)]):
                return TABLE["floordiv"].on_floats(number(left), number(right))
            case ast.Call(ast.Name("sqrt"), [ast.BinOp(left, ast.Add(), right)]) if squared(left) and squared(right):
                return TABLE["hypot"].on_floats(number(squared(left)), number(squared(right)))
            case ast.Call(ast.Name(name), operands):
                numbers = list(map(number, operands))
                if name == "exceeds" and numbers[1] == 0.0 and isinstance(operands[1], ast.Constant):
                    return TABLE["step"].on_floats(numbers[0])  # [a > 0] is a step, [a > b] an `exceeds`
                return TABLE[SPELLED.get(name, name)].on_floats(*numbers)
        raise AssertionError(f"cannot read {ast.dump(part)}")

    with np.errstate(all="ignore"):
        return number(ast.parse(source, mode="eval").body)


TEXT_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?|[A-Za-zσ_][A-Za-z0-9_]*'?|.)")
# fmt: off
TEXT_SIGNS = {
    "·": "*", "^": "**", "mod": "%", "²": "**SQUARE", "√": "sqrt", "∛": "cbrt", "sinc'": "sinc_slope",
    "[": "exceeds(", ">": ",", "]": ")", "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")",
}
LATEX_SIGNS = {
    r"\cdot": "*", r"\bmod": "%", r"\infty": "inf", r"\left(": "(", r"\right)": ")",
    r"\left|": "abs(", r"\right|": ")", r"\left[": "exceeds(", ">": ",", r"\right]": ")",
    r"\left\lfloor": "floor(", r"\right\rfloor": ")", r"\left\lceil": "ceil(", r"\right\rceil": ")",
}
# fmt: on


def python_of_text(text):
    """Plain text as Python source."""
    out, expects_operand = [], True
    for token in TEXT_TOKEN.findall(text):
        if token == "|":  # opens where an operand must come, closes after one
            out.append("abs(" if expects_operand else ")")
            continue
        out.append(TEXT_SIGNS.get(token, token))
        expects_operand = token == "mod" or not (token[-1].isalnum() or token in ")]⌋⌉²")
    return " ".join(out)


LATEX_TOKEN = re.compile(
    r"\s*(\\(?:operatorname|mathrm)\{(?:[^\\}]|\\.)*\}|\\(?:left|right)(?:\\[a-z]+|.)|\\[a-z]+|\d+(?:\.\d+)?|[A-Za-z]|.)"
)


def python_of_latex(latex):
    """LaTeX as Python source, read as it looks: fractions, roots and exponents group, bare braces do not."""
    tokens = LATEX_TOKEN.findall(latex)

    def group():
        assert tokens.pop(0) == "{", latex
        inside = read("}")
        tokens.pop(0)
        return inside

    def script():
        """What ^ or _ raises or lowers: a group, or else the next character alone."""
        if tokens[0] == "{":
            return group()
        assert len(tokens[0]) == 1, latex
        return tokens.pop(0)

    def root():
        if tokens[0] != "[":
            return "sqrt"
        assert [tokens.pop(0) for _ in "[3]"] == ["[", "3", "]"], latex
        return "cbrt"

    def read(stop):
        out = []
        while tokens and tokens[0] != stop:
            token = tokens[0]
            if token == "{":
                out.append(group())
                continue
            tokens.pop(0)
            if token == "^":
                out.append(f"**({script()})")
            elif token == "_":
                out[-1] += script()
            elif token == "'":
                out[-1] += "_slope"
            elif token == r"\frac":
                out.append(f"(({group()})/({group()}))")
            elif token == r"\sqrt":
                out.append(f"{root()}({group()})")
            elif token.endswith("}") and token != "}":
                out.append(token[token.index("{") + 1 : -1].replace("\\", ""))
            else:
                out.append(LATEX_SIGNS.get(token, token.lstrip("\\")))
        assert stop is None or tokens, f"unbalanced: {latex}"
        return " ".join(out)

    return read(None)


def same(found, expected):
    return found == expected or (math.isnan(found) and math.isnan(expected))


def assert_reads_back(expression, data, expected, **latex_tolerance):
    """Both printed forms of the expression mean `expected`: exactly, for the arithmetic is the same.

    But LaTeX has no sign of its own for a square or for exp2, and a power may round differently in the last place.
    """
    text, latex = str(expression), expression.latex()
    assert same(evaluate(python_of_text(text), data), expected), text
    assert evaluate(python_of_latex(latex), data) == pytest.approx(expected, nan_ok=True, **latex_tolerance), latex


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("a · (b + 1)^2", "a * ( b + 1 ) ** 2"),
        ("||a| - |b||² / σ(-a)", "abs( abs( a ) - abs( b ) ) **SQUARE / σ ( - a )"),
        ("[a > 0] · √(w1_2)", "exceeds( a , 0 ) * sqrt ( w1_2 )"),
        ("1e-09 · |a|", "1e-09 * abs( a )"),
        ("⌊|a| mod |b|⌋ / ⌈a⌉ - |a|", "floor( abs( a ) % abs( b ) ) / ceil( a ) - abs( a )"),
        ("∛(a) · sinc'(b) · log2(c)", "cbrt ( a ) * sinc_slope ( b ) * log2 ( c )"),
    ],
)
def test_the_reader_of_text(text, python):
    assert python_of_text(text) == python


@pytest.mark.parametrize(
    ("latex", "value"),
    [
        (r"a \cdot \left(b\right)", 6.0),
        (r"{a + b}^{a}", 11.0),  # reads as a + b^a, whatever the braces say
        (r"{(a + b)}^{a}", 25.0),
        (r"{a}^{a + b}", 32.0),
        (r"\frac{a + b}{a} \cdot \left|-b\right|", 7.5),
        (r"\sqrt{a + 7} + \operatorname{relu}\left(-a\right)", 3.0),
        (r"10^{-1} \cdot \left[a > b\right]", 0.0),
        (r"\sigma\left(a - a\right) + \max\left(a, b\right)", 3.5),
        (r"2^{b} + b^2", 17.0),
        (r"-b \bmod a \cdot b", 3.0),  # as Python: ((-b) % a) * b
        (r"\left\lfloor \frac{b}{a}\right\rfloor - \left\lceil \frac{b}{a}\right\rceil", -1.0),
        (r"\sqrt[3]{a + b + b} \cdot \log_2\left(a\right) \cdot \log_{2}\left(a\right)", 2.0),
        (r"\sqrt{{3}^{2} + {\left(a + a\right)}^{2}}", 5.0),
        (r"\operatorname{sinc}'\left(a - a\right) + \operatorname{leaky\_relu}\left(a\right)", 2.0),
    ],
)
def test_the_reader_of_latex(latex, value):
    assert evaluate(python_of_latex(latex), {"a": 2.0, "b": 3.0}) == value


# ---------------------------------------------------------------- brackets: every row in every row
# Leaves x, y, z and a constant c: the first point where an operation is a finite number shows it. A negative constant
# needs brackets, and integers for its powers; the others are for domains.
POINTS_INSIDE = [
    *[(1.25, -0.75, 2.5, -2.0), (0.375, 0.625, 0.8125, -2.0), (3.5, 2.25, 1.75, -2.0), (0.75, 0.25, -0.375, -2.0)],
    *[(3.0, 2.0, 4.0, -2.0), (-1.0, -3.0, 1.0, -2.0), (2.0, -1.0, 0.5, -2.0), (1.0, 1.0, 1.0, -2.0)],
    *[(1.25, -0.75, 2.5, 0.5), (0.375, 0.625, 0.8125, 0.5), (5.5, 4.25, 3.0, 1.5), (-1.0, 0.5, 2.0, 0.25)],
]


def operands_of(row, first, second):
    return (first,) if row.arity == 1 else (first, second)


def inner_operations():
    """[(name, function of x, y, c)] of what can stand inside an operation: a number, every row, constants in it."""
    found = [("-1.25", lambda x, y, c: Value(-1.25)), ("tiny", lambda x, y, c: Value(2.5e-9))]
    for row in ROWS:
        found.append((row.name, lambda x, y, c, row=row: row(*operands_of(row, x, y))))
        if row.arity == 2:
            found.append((f"{row.name} left", lambda x, y, c, row=row: row(c, x)))
            found.append((f"{row.name} right", lambda x, y, c, row=row: row(x, c)))
    return found


def outer_operations(outer):
    """[(place, function of inner, z, c)]: the inner node at each place, and at both at once."""
    if outer.arity == 1:
        return [("first", lambda inner, z, c: outer(inner))]
    return [
        ("first", lambda inner, z, c: outer(inner, z)),
        ("second", lambda inner, z, c: outer(z, inner)),
        ("twice", lambda inner, z, c: outer(inner, inner)),
        ("first, constant", lambda inner, z, c: outer(inner, c)),
        ("constant, second", lambda inner, z, c: outer(c, inner)),
    ]


def nested(outer):
    """(name, node, data) of every operation inside `outer`, at the first point where it is finite; else node None."""
    for name, inside in inner_operations():
        for place, outside in outer_operations(outer):
            for *numbers, c in POINTS_INSIDE:
                data = dict(zip("xyz", numbers, strict=True))
                x, y, z = (Value(number, letter) for letter, number in data.items())
                with np.errstate(all="ignore"):
                    node = outside(inside(x, y, c), z, c)
                if math.isfinite(node.data):
                    yield f"{name} {place}", node, data
                    break
            else:
                yield f"{name} {place}", None, {}


def misread(outer):
    """The nestings in `outer` whose printed form means something else."""
    wrong = []
    for name, node, data in nested(outer):
        if node is None:
            continue
        try:
            assert_reads_back(formula(node), data, node.data, rel=1e-13, abs=1e-15)
        except (AssertionError, SyntaxError):
            wrong.append(f"{name}: {formula(node)}  {formula(node).latex()}")
    return wrong


@pytest.mark.parametrize("outer", ROWS, ids=lambda row: row.name)
def test_every_row_inside_every_row_reads_back(outer):
    assert misread(outer) == []


@pytest.mark.parametrize("outer", ROWS, ids=lambda row: row.name)
def test_what_is_finite_nowhere_is_rare_and_in_brackets_of_its_own(outer):
    """As log(logsigmoid(x)): it cannot be read back as a number, but no brackets can be missing in it.

    What stands at both places of a row at once may be finite nowhere, as x^x for x < 0: each place is shown alone.
    """
    found = list(nested(outer))
    nowhere = [name for name, node, _ in found if node is None]
    assert len(nowhere) < 0.25 * len(found), nowhere
    if set(outer.needs) != {SUM}:
        assert all(name.endswith(" twice") for name in nowhere), nowhere


# x + (y + z) is the same without its brackets, but for rounding
PLACES = [
    (row, place)
    for row in ROWS
    for place, need in enumerate(row.needs)
    if need > SUM and (row.name, place) != ("add", 1)
]
LATEX_PLACES = [
    (row, place)
    for row in ROWS
    for place, need in enumerate(row.latex_needs)
    if need > SUM and (row.name, place) != ("add", 1)
]


@pytest.mark.parametrize(("row", "place"), PLACES, ids=[f"{row.name} {place}" for row, place in PLACES])
def test_stripped_brackets_are_noticed_in_text(row, place, monkeypatch):
    needs = list(row.needs)
    needs[place] = SUM
    monkeypatch.setattr(row, "needs", tuple(needs))
    assert misread(row)


@pytest.mark.parametrize(("row", "place"), LATEX_PLACES, ids=[f"{row.name} {place}" for row, place in LATEX_PLACES])
def test_stripped_brackets_are_noticed_in_latex(row, place, monkeypatch):
    needs = list(row.latex_needs)
    needs[place] = SUM
    monkeypatch.setattr(row, "latex_needs", tuple(needs))
    assert misread(row)


def test_a_second_term_needs_no_more_than_a_product():
    x, y, z = (Value(data, name) for data, name in ((1.25, "x"), (-0.75, "y"), (2.5, "z")))
    assert str(formula(x + (y + z))) == "x + (y + z)"  # the order of the sum is told
    assert str(formula(x + y * z)) == "x + y · z"
    assert str(formula(x - y * z)) == "x - y · z"
    assert str(formula(x - (y - z))) == "x - (y - z)"


# ---------------------------------------------------------------- random graphs
LATEX = {"rel": 1e-9, "abs": 1e-12}  # the last place of a square, magnified by up to a dozen operations


def names_only(node):
    return node.name if node.op is None else None


@RANDOM
@given(graphs())
def test_the_formula_of_a_random_graph_reads_back(example):
    data = {leaf.name: leaf.data for leaf in example.leaves}
    assert_reads_back(formula(example.output, depth=100, label=names_only), data, example.output.data, **LATEX)


@RANDOM
@given(graphs())
def test_leaves_without_a_label_stand_as_their_numbers(example):
    expression = formula(example.output, depth=100, label=lambda node: None)
    assert_reads_back(expression, {}, example.output.data, **LATEX)


@RANDOM
@given(graphs())
def test_named_nodes_stand_for_themselves(example):
    data = {node.name: node.data for node in example.nodes if node.name}
    text = str(formula(example.output, depth=100))
    assert same(evaluate(python_of_text(text), data), example.output.data)


def test_a_random_graph_that_is_misread_is_noticed(monkeypatch):
    rejected = 0

    @settings(RANDOM, max_examples=50)
    @given(graphs())
    def count(example):
        nonlocal rejected
        data = {leaf.name: leaf.data for leaf in example.leaves}
        text = str(formula(example.output, depth=100, label=names_only))
        rejected += not same(evaluate(python_of_text(text), data), example.output.data)

    count()
    assert rejected == 0
    for row in (mul, sub, neg):
        monkeypatch.setattr(row, "needs", (SUM,) * row.arity)
    count()
    assert rejected > 5


# ---------------------------------------------------------------- local derivatives
def value_of(expression, data, number=float):
    """The number an Expression stands for, straight from its structure; `number` is done to each number in it."""
    if isinstance(expression.head, Primitive):
        return expression.head.on_floats(*(value_of(operand, data, number) for operand in expression.operands))
    return data[expression.head] if isinstance(expression.head, str) else number(expression.head)


def as_printed(number):
    return float(number_text(number))


POINTS = [(1.25, -0.75), (0.5, 2.5), (2.5, 0.5), (3.0, 2.0), (-1.5, 1.5), (-0.25, -2.0)]


def called(node):
    return Expression(node.name or "r")


def made_by(row, a, b):
    """Every node the row makes of two leaves and of one leaf and a constant."""
    p, q = Value(a, "p"), Value(b, "q")
    return [row(p)] if row.arity == 1 else [row(p, q), row(p, p), row(p, b), row(a, q)]


@pytest.mark.parametrize(("a", "b"), POINTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rules_on_symbols_are_rules_on_floats(row, a, b):
    with np.errstate(all="ignore"):
        for node in made_by(row, a, b):
            data = {"p": a, "q": b, "r": node.data}
            for position, (_, local) in enumerate(node.edges()):
                symbols = local_formula(node, position, called)
                if row not in TEXTBOOK:
                    assert same(value_of(symbols, data), local)  # exactly: one rule, the same operations
                elif math.isnan(node.data):  # outside of the domain a rule may have a number, and another form none
                    continue
                else:  # of 1 - tanh² no more than some 4 digits cancel at these points
                    assert value_of(symbols, data) == pytest.approx(local, rel=1e-12, nan_ok=True)
                printed = evaluate(python_of_text(str(symbols)), data)
                assert same(printed, value_of(symbols, data, as_printed)), str(symbols)
                assert printed == pytest.approx(local, rel=PRINTED, nan_ok=True)
                assert evaluate(python_of_latex(symbols.latex()), data) == pytest.approx(
                    printed, rel=1e-14, nan_ok=True
                )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_has_a_local_derivative_at_some_point(row):
    """So that the test above compares numbers, not nan with nan."""
    with np.errstate(all="ignore"):
        shown = [
            [math.isfinite(local) for _, local in made.edges()] for a, b in POINTS for made in made_by(row, a, b)[:1]
        ]
    assert [True] * row.arity in shown


def test_a_power_with_a_small_constant_exponent():
    p = Value(0.0, "p")  # flat in p everywhere: not 0 / p
    assert str(local_formula(power(p, 0.0), 0, called)) == "0"
    assert str(local_formula(power(Value(2.0, "p"), 0.25), 0, called)) == "0.25 · p^(-0.75)"


@pytest.mark.parametrize(
    ("f", "texts"),
    [
        (tanh, ["1 - r²"]),
        (sigmoid, ["r · (1 - r)"]),
        (sqrt, ["1 / (2 · r)"]),
        (TABLE["softplus"], ["σ(p)"]),
        (TABLE["log1p"], ["1 / (1 + p)"]),
        (TABLE["arctan"], ["1 / (1 + p²)"]),
        (TABLE["reciprocal"], ["-1 / p²"]),
        (lambda p: 3.0 / p, ["-3 / p²"]),
        (lambda p: p / 4.0, ["0.25"]),
        (lambda p: p**3, ["3 · p^2"]),
        (lambda p: p / Value(0.5, "q"), ["1 / q", "-p / q²"]),
        (lambda p: 7.0 % p, ["-⌊7 / p⌋"]),
        (lambda p: TABLE["hypot"](3.0, p), ["p / r"]),
        (lambda p: TABLE["arctan2"](3.0, p), ["-3 / (9 + p²)"]),
    ],
)
def test_derivatives_print_as_people_know_them(f, texts):
    node = f(Value(2.0, "p"))
    assert [str(local_formula(node, position, called)) for position in range(len(node.parents))] == texts


def test_the_textbook_forms_are_those_of_the_table():
    assert len(TEXTBOOK) > 15
    for row, rules in TEXTBOOK.items():
        assert TABLE[row.name] is row
        assert len(rules) == row.arity


@pytest.mark.parametrize("known", [False, True])
def test_a_wrong_rule_on_symbols_is_noticed(monkeypatch, known):
    row = tanh if known else TABLE["softplus"]
    assert (row in TEXTBOOK) == known
    node = row(Value(0.5, "p"))
    symbols = local_formula(node, 0, called)
    monkeypatch.setattr(row, "da", lambda y, a: 1.0 - y)  # what the edge now uses; the symbols are the old rule's
    [(_, local)] = node.edges()
    assert value_of(symbols, {"p": 0.5, "r": node.data}) != pytest.approx(local, rel=1e-2)


@RANDOM
@given(graphs())
def test_the_local_derivatives_of_a_receipt_read_back(example):
    graph = Graph(example.output)
    data = {graph.label(node): node.data for node in graph.nodes if graph.label(node).isidentifier()}
    for node in adjoints(example.output):
        for term in total_derivative(example.output, node).terms:
            printed = evaluate(python_of_text(str(term.formula)), data)
            with np.errstate(all="ignore"):
                assert same(printed, value_of(term.formula, data, as_printed)), str(term.formula)
                found = value_of(term.formula, data)
            if not at_a_corner(term.child):
                # 1e-9: the rule of a power with an exponent near 0 goes another way on numbers
                assert found == pytest.approx(term.local, rel=1e-9, abs=1e-12), str(term.formula)


def at_a_corner(node):
    """Whether a convention gives the derivative there, which the printed rule does not say: 0/0 or log(0) in it."""
    row, operands = node.op.name, operand_data(node)
    return (
        (row == "pow" and 0.0 in operands)
        or (row == "hypot" and operands == [0.0, 0.0])
        or (row == "sinc_slope" and abs(operands[0]) < 1e-8)
    )


def operand_data(node):
    return [operand.data if isinstance(operand, Value) else operand for operand in node.operands]


# ---------------------------------------------------------------- tables
X, Y = Expression("x"), Expression("y")


@pytest.mark.parametrize(
    ("expression", "text", "latex"),
    [
        (X + 1, "x + 1", "x + 1"),
        (X * Y + X, "x · y + x", r"x \cdot y + x"),
        ((X + Y) * X, "(x + y) · x", r"\left(x + y\right) \cdot x"),
        (X / (Y * X), "x / (y · x)", r"\frac{x}{y \cdot x}"),
        (X / (Y + X), "x / (y + x)", r"\frac{x}{y + x}"),
        (X**2, "x^2", "{x}^{2}"),
        ((X + 1) ** (Y + 1), "(x + 1)^(y + 1)", r"{\left(x + 1\right)}^{y + 1}"),
        ((X**Y) ** 2, "(x^y)^2", r"{\left({x}^{y}\right)}^{2}"),
        ((-X) ** 2, "(-x)^2", r"{\left(-x\right)}^{2}"),
        (-(X**2), "-x^2", "-{x}^{2}"),
        (-(X + Y), "-(x + y)", r"-\left(x + y\right)"),
        (neg(-X), "-(-x)", r"-\left(-x\right)"),
        (X - (-Y), "x - (-y)", r"x - \left(-y\right)"),
        (X * -2.0, "x · (-2)", r"x \cdot \left(-2\right)"),
        (-2.0 * X, "-2 · x", r"-2 \cdot x"),
        (abs(X) - 1, "|x| - 1", r"\left|x\right| - 1"),
        (TABLE["sigmoid"](X + 1), "σ(x + 1)", r"\sigma\left(x + 1\right)"),
        (TABLE["sqrt"](X), "√(x)", r"\sqrt{x}"),
        (TABLE["square"](X + 1), "(x + 1)²", r"{\left(x + 1\right)}^{2}"),
        (TABLE["step"](X), "[x > 0]", r"\left[x > 0\right]"),
        (TABLE["maximum"](X, Y), "max(x, y)", r"\max\left(x, y\right)"),
        (TABLE["relu"](X), "relu(x)", r"\operatorname{relu}\left(x\right)"),
        (TABLE["floor"](X + 1), "⌊x + 1⌋", r"\left\lfloor x + 1\right\rfloor"),
        (TABLE["ceil"](-X), "⌈-x⌉", r"\left\lceil -x\right\rceil"),
        (TABLE["cbrt"](X + 1), "∛(x + 1)", r"\sqrt[3]{x + 1}"),
        (TABLE["sinc_slope"](X), "sinc'(x)", r"\operatorname{sinc}'\left(x\right)"),
        (TABLE["hypot"](X + 1, -2.0), "√((x + 1)² + (-2)²)", None),
        (TABLE["reciprocal"](X + 1), "1 / (x + 1)", r"\frac{1}{x + 1}"),
        (TABLE["reciprocal"](X) ** 2, "(1 / x)^2", r"{\left(\frac{1}{x}\right)}^{2}"),
        (X * TABLE["reciprocal"](Y), "x · (1 / y)", None),
        (TABLE["exp2"](X + 1), "exp2(x + 1)", "2^{x + 1}"),
        (TABLE["exp2"](X) ** Y, None, r"{\left(2^{x}\right)}^{y}"),
        (TABLE["mod"](X, Y + 1), "x mod (y + 1)", r"x \bmod \left(y + 1\right)"),
        (TABLE["mod"](X + 1, Y), "(x + 1) mod y", r"\left(x + 1\right) \bmod y"),
        # `mod` is no operation of which everybody knows whether it binds as · does
        (-TABLE["mod"](X, Y), "-(x mod y)", r"-\left(x \bmod y\right)"),
        (TABLE["mod"](X, Y) * 2, "(x mod y) · 2", r"\left(x \bmod y\right) \cdot 2"),
        (TABLE["mod"](X * 2, Y), "(x · 2) mod y", r"\left(x \cdot 2\right) \bmod y"),
        (X + TABLE["mod"](X, Y), "x + (x mod y)", r"x + \left(x \bmod y\right)"),
        # what changes nothing is left out, numbers are computed
        (1.0 * X, "x", "x"),
        (X * 1.0, "x", "x"),
        (-1.0 * X, "-x", "-x"),
        (X * 0.0, "0", "0"),
        (0.0 + X, "x", "x"),
        (X + 0.0, "x", "x"),
        (X - 0.0, "x", "x"),
        (0.0 - X, "0 - x", "0 - x"),
        (X / 1.0, "x", "x"),
        (X**1.0, "x", "x"),
        (1.0 / X, "1 / x", r"\frac{1}{x}"),
        (1.0**X, "1^x", "{1}^{x}"),
        (0.0 / X, "0", "0"),
        (Expression(3) * X, "3 · x", r"3 \cdot x"),
        (Expression(2.0) * 3.0, "6", "6"),
        (Expression(2.0) ** 3.0 - 1.0, "7", "7"),
    ],
)
def test_expressions_print(expression, text, latex):
    assert text in (None, str(expression))  # None: not what the case is about
    assert latex in (None, expression.latex())
    assert repr(expression) == f"Expression({str(expression)!r})"


CORNERS = [0.0, -0.0, 0.5, -1.0, 1.0, 2.0, -710.5, 1e308, 5e-324, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_numbers_never_warn_nor_raise(row):
    """Where the row has no number, its symbol stays; else the number is the row's."""
    for numbers in itertools.product(CORNERS, repeat=row.arity):
        for kind in (float, np.float64):
            expression = row(*(Expression(kind(number)) for number in numbers))
            assert str(expression)
            assert expression.latex()
            if isinstance(expression.head, float):
                assert same(expression.head, row.on_floats(*numbers))
            else:
                assert expression.head is row
                with pytest.raises((ArithmeticError, ValueError)):
                    row.forward(*numbers)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rules_on_numbers_never_warn_nor_raise(row):
    """A local derivative of nodes without names: their numbers stand in it."""
    for a, b in itertools.product(CORNERS, repeat=2):
        with np.errstate(all="ignore"):
            nodes = made_by(row, a, b)
        for node in nodes:
            for position in range(len(node.parents)):
                assert str(local_formula(node, position, lambda node: Expression(node.data)))


def test_what_has_no_number_keeps_its_symbol():
    two = Expression(2.0)
    kept = {"arcsin": "arcsin(2)", "arccos": "arccos(2)", "arctanh": "arctanh(2)"}
    assert {name: str(TABLE[name](two)) for name in kept} == kept
    assert str(TABLE["reciprocal"](two * 0.0)) == "1 / 0"
    assert str(TABLE["mod"](two, 0.0)) == "2 mod 0"
    assert str(TABLE["arccosh"](two)) == number_text(math.acosh(2.0))


@pytest.mark.parametrize(
    ("expression", "text"),
    [(-((-X) * Y), "-(-x · y)"), (X - (-X) * Y, "x - (-x · y)"), (X + (-2.0) * Y, "x + (-2 · y)")],
)
def test_two_signs_never_stand_side_by_side(expression, text):
    assert re.search(r"[-+] ?-", str(expression)) is None, str(expression)
    assert re.search(r"[-+] ?-", expression.latex()) is None
    assert str(expression) == text


@pytest.mark.parametrize("number", [2.5e-9, 1e-9, -2.5e-9, 1.5e30])
def test_a_number_with_an_exponent_stands_in_brackets_where_latex_would_split_it(number):
    base = Value(number)
    latex = formula(power(base, Value(2.0, "x"))).latex()
    # 1e-14: the power of ten is one rounding, which the exponent 2 doubles
    assert evaluate(python_of_latex(latex), {"x": 2.0}) == pytest.approx(number * number, rel=1e-14, abs=0.0)


def test_binding_strengths():
    bindings = [(X, ATOM), (Expression(-1.0), SUM), (Expression(1.0), ATOM), (X * Y, PRODUCT), (X + Y, SUM)]
    assert [expression.binds for expression, _ in bindings] == [binds for _, binds in bindings]


def test_a_formula_goes_down_to_names():
    x, w = Value(2.0, "x"), Value(3.0, "w")
    h = (w * x).tanh()
    assert str(formula(h * h)) == "tanh(w · x) · tanh(w · x)"
    h.name = "h"
    assert str(formula(h * h)) == "h · h"
    assert str(formula(h)) == "tanh(w · x)"  # the node itself is expanded
    assert str(formula(h, top=False)) == "h"
    assert str(formula(h * h, label=lambda node: None)) == "tanh(3 · 2) · tanh(3 · 2)"
    assert str(formula(x)) == "x"
    assert str(formula(2.5)) == "2.5"
    assert str(formula(Value(2.5))) == "2.5"
    assert str(formula(1.0 - x / 4.0)) == "1 - x / 4"
    assert str(formula(2.0**x)) == "2^x"


def test_what_lies_too_deep_is_left_out():
    x = Value(2.0, "x")
    y = x + 1.0
    for _ in range(5):
        y = y.tanh()
    assert str(formula(y, depth=2)) == "tanh(tanh(…))"
    assert str(formula(y, depth=6)) == "tanh(tanh(tanh(tanh(tanh(x + 1)))))"
    assert str(formula(y)) == "tanh(tanh(tanh(tanh(tanh(x + 1)))))"


def test_a_formula_of_a_shared_chain_stays_short():
    y = Value(1.0, "x")
    for _ in range(1000):
        y = y + y
    assert str(formula(y)).count("…") == 2**8


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x: x, None),
        (lambda x: x + x, "+"),
        (lambda x: x + 1.5, "+ 1.5"),
        (lambda x: 1.5 + x, "1.5 +"),
        (lambda x: x - 1.0, "- 1"),
        (lambda x: 1.0 - x, "1 -"),
        (lambda x: x * x, "·"),
        (lambda x: x * -2.0, "· -2"),
        (lambda x: x / 4.0, "/ 4"),
        (lambda x: 4.0 / x, "4 /"),
        (lambda x: x**2, "²"),
        (lambda x: 2.0**x, "2^"),
        (lambda x: x**x, "^"),
        (lambda x: -x, "neg"),
        (lambda x: abs(x), "abs"),
        (lambda x: TABLE["square"](x), "²"),
        (lambda x: TABLE["sqrt"](x), "sqrt"),
        (lambda x: TABLE["maximum"](x, x), "maximum"),
        (lambda x: TABLE["maximum"](x, 1.0), "maximum"),
        (lambda x: TABLE["maximum"](x, 0.0), "relu"),
        (lambda x: TABLE["exceeds"](x, 1.0), "exceeds"),
        (lambda x: x.leaky_relu(), "leaky_relu"),
        (lambda x: TABLE["mod"](x, x), "mod"),
        (lambda x: TABLE["mod"](x, 3.0), "mod 3"),
        (lambda x: TABLE["mod"](3.0, x), "3 mod"),
        (lambda x: TABLE["floordiv"](x, x), "floordiv"),
        (lambda x: TABLE["floordiv"](x, 3.0), "floordiv"),
        (lambda x: TABLE["floor"](x), "floor"),
        (lambda x: TABLE["ceil"](x), "ceil"),
        (lambda x: TABLE["cbrt"](x), "cbrt"),
        (lambda x: TABLE["hypot"](x, 1.0), "hypot"),
        (lambda x: TABLE["reciprocal"](x), "reciprocal"),
        (lambda x: TABLE["exp2"](x), "exp2"),
        (lambda x: TABLE["sinc_slope"](x), "sinc_slope"),
        (lambda x: x * 1e-9, "· 1e-09"),
    ],
)
def test_operations(make, name):
    assert operation(make(Value(2.0, "x"))) == name
    node = make(Value(2.0, "x"))
    assert Graph(node).operation(node) == name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_has_an_operation_and_balanced_latex(row):
    x, y = Value(2.0, "x1_1"), Value(1.0, "y1_2")
    with np.errstate(all="ignore"):
        node = row(*operands_of(row, x, y))
    assert operation(node)
    assert re.fullmatch(r"[a-z0-9_]+|[-+·/^²]|mod", operation(node)), "short, for a tag"
    latex = formula(node).latex()
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\left") == latex.count(r"\right")
    assert not re.search(r"(?<!\\)_(?!\{)", latex), f"LaTeX makes an index of what follows _ in {latex}"
    assert not re.search(r"\^\{[^{}]*\}(_\{[^{}]*\})?\^", latex), f"LaTeX stops at two exponents of one base: {latex}"


@pytest.mark.parametrize(
    ("number", "text", "latex"),
    [
        (2.0, "2", "2"),
        (-2.0, "-2", "-2"),
        (0.0, "0", "0"),
        (-0.0, "-0", "-0"),
        (0.1, "0.1", "0.1"),
        (-0.1234567, "-0.123457", "-0.123457"),
        (123456.0, "123456", "123456"),
        (1234567.0, "1.23457e+06", r"1.23457 \cdot 10^{6}"),
        (1e-9, "1e-09", "10^{-9}"),
        (-1e-9, "-1e-09", "-10^{-9}"),
        (2.5e-9, "2.5e-09", r"2.5 \cdot 10^{-9}"),
        (-2.5e300, "-2.5e+300", r"-2.5 \cdot 10^{300}"),
        (5e-324, "4.94066e-324", r"4.94066 \cdot 10^{-324}"),
        (1e-4, "0.0001", "0.0001"),
        (math.inf, "inf", r"\infty"),
        (-math.inf, "-inf", r"-\infty"),
        (math.nan, "nan", r"\mathrm{nan}"),
        (3, "3", "3"),
        (np.float64(0.5), "0.5", "0.5"),
    ],
)
def test_numbers(number, text, latex):
    assert (number_text(number), latex_number(number)) == (text, latex)


def test_numbers_to_fewer_digits():
    assert number_text(1.23456789, 3) == "1.23"
    assert number_text(1.23456789, digits=9) == "1.23456789"


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("x", "x"),
        ("W", "W"),
        ("x1", "x_{1}"),
        ("x_1", "x_{1}"),
        ("x_12", "x_{12}"),
        ("w1_21", "w^{(1)}_{21}"),
        ("w12_3", "w^{(12)}_{3}"),
        ("w1_11,12", "w^{(1)}_{11,12}"),
        ("b3_1", "b^{(3)}_{1}"),
        ("W[0,1]", "W_{0,1}"),
        ("W1[0,1]", "W^{(1)}_{0,1}"),
        ("yhat", r"\hat{y}"),
        ("yhat_2", r"\hat{y}_{2}"),
        ("yhat1_2", r"\hat{y}^{(1)}_{2}"),
        ("hat", r"\mathrm{hat}"),
        ("eta", r"\eta"),
        ("eta_1", r"\eta_{1}"),
        ("alpha2_3", r"\alpha^{(2)}_{3}"),
        ("loss", r"\mathrm{loss}"),
        ("loss_2", r"\mathrm{loss}_{2}"),
        ("n_a_b", "n_{a,b}"),
        ("total loss", r"\mathrm{total\ loss}"),
        ("50%", r"\mathrm{50\%}"),
        ("a&b#$", r"\mathrm{a\&b\#\$}"),
        ("{", r"\mathrm{\{}"),
        ("_x", r"\mathrm{\_x}"),
        ("x_", r"\mathrm{x\_}"),
        ("…", r"\mathrm{…}"),
    ],
)
def test_names(name, latex):
    assert latex_name(name) == latex


@pytest.mark.parametrize("name", sorted(GREEK))
def test_greek_names(name):
    assert latex_name(name) == rf"\{name}"


@pytest.mark.parametrize("name", ["a^b^c", "x^", "a~b", "a\\b", "}{", "50%", "x'", "#1", "a_b_", "w[", "a b"])
def test_no_name_is_bad_latex(name):
    latex = latex_name(name)
    bare = re.sub(r"\\[{}_%&#$ ]", "", latex)  # what is escaped is a sign like any other
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[%&#$]", bare)
    assert len(re.findall(r"\^", bare.replace(r"^{(", ""))) == 0, "a bare ^ raises what follows; two of them stop LaTeX"


def test_names_of_array_elements_print_with_their_index():
    weights = scalars([[1.0, 2.0]], name="W")
    assert formula(weights[0, 1] * weights[0, 0]).latex() == r"W_{0,1} \cdot W_{0,0}"


def test_symbols_do_not_share_state():
    x = Expression("x")
    assert str(add(x, x)) == "x + x"
    assert str(x) == "x"


# ---------------------------------------------------------------- array nodes
rng = np.random.default_rng(3)
A, B, C = (rng.normal(size=shape) for shape in ((3, 3), (3, 3), (3,)))
NUMPY_NAMES = {
    name: getattr(np, name)
    for name in (
        "sum",
        "max",
        "min",
        "prod",
        "cumsum",
        "concatenate",
        "einsum",
        "exp",
        "tanh",
        "transpose",
        "broadcast_to",
    )
}


def evaluated(text):
    """The array that a formula in plain text stands for: NumPy's own reading of it, by Python's precedence."""
    source = text.replace("·", "*").replace("²", "**2").replace("^", "**").replace("σ", "sigmoid")
    source = source.replace(".mT", ".swapaxes(-1, -2)")
    return eval(source, {"__builtins__": {}}, {**NUMPY_NAMES, "sigmoid": TABLE["sigmoid"], "A": A, "B": B, "c": C})


# What is done with two matrices and a vector, in plain text and in LaTeX
ARRAYS = [
    (lambda a, b, c: a @ b, "A @ B", "A B"),
    (lambda a, b, c: (a + b) @ c, "(A + B) @ c", r"\left(A + B\right) c"),
    (lambda a, b, c: a @ (b @ c), "A @ (B @ c)", r"A \left(B c\right)"),
    (lambda a, b, c: a @ b @ c, "A @ B @ c", "A B c"),
    (lambda a, b, c: a * (a @ b), "A · (A @ B)", r"A \cdot \left(A B\right)"),
    (lambda a, b, c: (a * b) @ c, "A · B @ c", r"\left(A \cdot B\right) c"),
    (lambda a, b, c: a @ b * c, "A @ B · c", r"A B \cdot c"),
    (lambda a, b, c: c - a @ b, "c - A @ B", "c - A B"),
    (lambda a, b, c: a.T, "A.T", r"{A}^{\top}"),
    (lambda a, b, c: (a @ b).T, "(A @ B).T", r"{\left(A B\right)}^{\top}"),
    (lambda a, b, c: a.T**2, "A.T²", r"{\left({A}^{\top}\right)}^{2}"),
    (lambda a, b, c: (a**2).T, "(A²).T", r"{\left({A}^{2}\right)}^{\top}"),
    (lambda a, b, c: (-a).T, "(-A).T", r"{\left(-A\right)}^{\top}"),
    (lambda a, b, c: -a.T, "-A.T", r"-{A}^{\top}"),
    (lambda a, b, c: a[0, :], "A[0, :]", "{A}_{0, :}"),
    (lambda a, b, c: (a + b)[1:, ::-1], "(A + B)[1:, ::-1]", r"{\left(A + B\right)}_{1:, ::-1}"),
    (lambda a, b, c: a[..., None], "A[..., None]", r"{A}_{\ldots, \text{None}}"),
    (lambda a, b, c: a[[0, 2]], "A[[0, 2]]", r"{A}_{\left[0, 2\right]}"),
    (lambda a, b, c: np.exp(a)[-1] * 2.0, "exp(A)[-1] · 2", r"{\exp\left(A\right)}_{-1} \cdot 2"),
    (lambda a, b, c: np.sum(a), "sum(A)", r"\operatorname{sum}\left(A\right)"),
    (lambda a, b, c: np.sum(a * b, axis=0), "sum(A · B, axis=0)", r"\operatorname{sum}_{0}\left(A \cdot B\right)"),
    (lambda a, b, c: np.sum(a, axis=(0, 1)), "sum(A, axis=(0, 1))", r"\operatorname{sum}_{0, 1}\left(A\right)"),
    (
        lambda a, b, c: np.max(a, axis=1, keepdims=True),
        "max(A, axis=1, keepdims=True)",
        r"\max_{1}\left(A\right)",
    ),
    (lambda a, b, c: np.cumsum(a, axis=1), "cumsum(A, axis=1)", r"\operatorname{cumsum}_{1}\left(A\right)"),
    (lambda a, b, c: (a - b).reshape(9), "(A - B).reshape(9)", r"\operatorname{reshape}_{9}\left(A - B\right)"),
    (
        lambda a, b, c: np.concatenate([a, b + 1.0], axis=1),
        "concatenate([A, B + 1], axis=1)",
        r"\operatorname{concatenate}_{1}\left(A, B + 1\right)",
    ),
    (
        lambda a, b, c: np.einsum("ij,kj->ik", a, b),
        "einsum('ij,kj->ik', A, B)",
        r"\operatorname{einsum}_{\mathrm{ij,kj \to ik}}\left(A, B\right)",
    ),
]


def leaves_of_arrays():
    return Tensor(A, "A"), Tensor(B, "B"), Tensor(C, "c")


@pytest.mark.parametrize(("f", "text", "latex"), ARRAYS, ids=[text for _, text, _ in ARRAYS])
def test_formulas_of_arrays(f, text, latex):
    node = f(*leaves_of_arrays())
    assert str(formula(node)) == text
    assert formula(node).latex() == latex
    assert np.allclose(evaluated(text), node.data, rtol=0, atol=1e-13)  # einsum and @ may add in another order


GROWTH = [
    lambda draw, x, y: x @ y,
    lambda draw, x, y: x * y,
    lambda draw, x, y: x + y,
    lambda draw, x, y: x - y,
    lambda draw, x, y: -x,
    lambda draw, x, y: x.T,
    lambda draw, x, y: x**2,
    lambda draw, x, y: np.tanh(x),
    lambda draw, x, y: x[::-1],
    lambda draw, x, y: x * draw.choice([0.5, 2.0, -1.5]),
    lambda draw, x, y: x - np.sum(y, axis=0),
]


@pytest.mark.parametrize("seed", range(60))
def test_brackets_of_arrays_are_right(seed):
    """Random formulas read back by Python's own precedence give the array of the graph."""
    draw = random.Random(seed)
    made = list(leaves_of_arrays()[:2])
    for _ in range(6):
        made.append(np.tanh(draw.choice(GROWTH)(draw, made[-1], draw.choice(made))))
        made[-1] = draw.choice(GROWTH)(draw, draw.choice(made), made[-1])
    text = str(formula(made[-1], depth=50))
    # the same operations in the same order, but BLAS may add in another one for another layout
    assert np.allclose(evaluated(text), made[-1].data, rtol=1e-9, atol=1e-12), text


def test_a_missing_bracket_would_be_seen():
    a, b, c = leaves_of_arrays()
    assert not np.allclose(evaluated("A + B @ c"), ((a + b) @ c).data)


def test_constants_of_arrays():
    a, _, _ = leaves_of_arrays()
    assert str(formula(a * 0.5 + np.ones((3, 3)))) == "A · 0.5 + [3×3]"
    assert formula(a + np.ones((3, 3))).latex() == r"A + \left[3 \times 3\right]"
    assert str(formula(a * np.array(2.5))) == "A · 2.5"
    assert str(formula(Tensor(np.ones((2, 3))) @ Tensor(np.ones(3)))) == "[2×3] @ [3]"
    assert str(formula(np.where(A > 0, a, 0.0))) == "where([3×3], A, 0)"
    assert str(formula(a[A > 10.0])) == "A[mask of 0]"
    assert str(formula(np.concatenate([a] * 9))) == "concatenate([A, A, A, …, A], axis=0)"


def test_operations_of_arrays():
    a, b, _ = leaves_of_arrays()
    nodes = [
        a @ b,
        a + b,
        2.0 - a,
        a * np.ones(3),
        a.T,
        a[0],
        a.sum(),
        a.sum(axis=0),
        np.tanh(a),
        np.where(A > 0, a, b),
    ]
    assert [operation(node) for node in nodes] == [
        "@", "+", "2 -", "· [3]", ".T", "[0]", "sum", "sum(axis=0)", "tanh", "where",
    ]  # fmt: skip
    assert operation(a) is None
