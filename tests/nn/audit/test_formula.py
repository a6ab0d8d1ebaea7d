"""check_formula: right formulas in many spellings, planted mistakes, conditions, and errors of the grammar."""

import argparse
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nn.audit.formula import FormulaError, Node, _Reader, add_command, check_formula, text_of

FRAC = r"\frac{\partial L}{\partial\mathbf{%s}_k}"

# ---------------------------------------------------------------- right
RIGHT = [
    ("column", "dW[k] = dz[k] @ a[k-1].T"),
    ("column", "dW[k] = dz[k] a[k-1]^T"),
    ("column", "dW = dz @ transpose(a[k-1])"),
    ("column", "dW[k+1] = dz[k+1] @ a[k].T"),
    ("column", "dW[L] = dz[L] @ a[L-1].T"),
    ("column", "dW[3] = dz3 @ a2.T"),
    ("column", "dW1 = dz1 x^T"),
    ("column", "dW[k] = (a[k-1] @ dz[k].T).T"),
    ("column", "dW[k] = np.dot(dz[k], a[k-1].T)"),
    ("column", "dL/dW_k = dL/dz_k a_{k-1}^T"),
    ("column", "dL/dW_k = dL/dz_k \\cdot a_{k-1}^\\top"),
    ("column", "∂L/∂W_k = ∂L/∂z_k · a_{k−1}ᵀ"),
    ("column", FRAC % "W" + "=" + FRAC % "z" + r"\mathbf{a}_{k-1}^{\top}"),
    ("column", r"\frac{\partial L}{\partial\mathbf{a}_{k-1}} = \mathbf{W}_k^\top\cdot" + FRAC % "z"),
    ("column", "da[k-1] = W[k].T @ dz[k]"),
    ("column", "da[k] = W_{k+1}^T dz_{k+1}"),
    ("column", "db[k] = sum(dz[k], samples)"),
    ("column", "db[k] = n * mean(dz[k], samples)"),
    ("column", "db[k] = np.sum(dz[k], axis=1, keepdims=True)"),
    ("column", "z_k = W_k a_{k-1} + b_k"),
    ("column", "a[k] = f(z[k])"),
    ("column", "yhat = f_L(z_L)"),
    ("row", "dW[k] = a[k-1].T @ dz[k]"),
    ("row", "da[k-1] = dz[k] @ W[k].T"),
    ("row", "db = sum(dz, 0)"),
    ("row", "z[k] = a[k-1] @ W[k] + b[k]"),
    ("row", "dW[k] = --a[k-1]^T dz[k] * 2 / 2"),
]


@pytest.mark.parametrize(("layout", "formula"), RIGHT)
def test_right_formulas_in_many_spellings(layout, formula):
    report = check_formula(formula, layout=layout)
    assert (report.answer, report.causes, report.notes) == ("right", (), ()), str(report)


@pytest.mark.parametrize(
    ("formula", "loss", "reduction"),
    [
        ("dL/dyhat = 2(yhat - y)", "sse", "sum"),
        ("dyhat = 2/n (yhat - y)", "sse", "mean"),
        ("da[L] = 2 (a[L] - y) / (n*m)", "mse", None),
        ("da[L] = yhat - y", "half_sse", "sum"),
        ("da[L] = -y/yhat + (1 - y)/(1 - yhat)", "bce", "sum"),
        ("da[L] = -y/yhat/n", "ce", "mean"),
        ("dz[L] = 2 (yhat - y) * f'(z[L])", "sse", "sum"),
    ],
)
def test_right_formulas_for_a_loss(formula, loss, reduction):
    activation = "tanh" if loss == "sse" else None
    assert check_formula(formula, loss=loss, reduction=reduction, activation=activation).answer == "right"
    if formula.startswith("d"):
        assert check_formula(formula.replace("= ", "= 3 * (") + ")", loss=loss, reduction=reduction).answer == "wrong"


# ---------------------------------------------------------------- wrong
WRONG = [
    ("column", "dL/dyhat = 2(y - yhat)", [("da", "factor", "-1")]),
    ("column", r"\frac{\partial L}{\partial \hat{y}} = 2(y – \hat{y})", [("da", "factor", "-1")]),
    ("column", "dL/dW_k = (dL/dz_k)^T a_k", [("dW", "operand", None), ("dW", "transposed", None)]),
    ("row", "dL/dW_k = (dL/dz_k)^T a_k", [("dW", "operand", None), ("dW", "transposed", None)]),
    ("column", "dW[k] = dz[k] @ a[k].T", [("dW", "operand", None)]),
    ("column", "dW[2] = dz[2] @ a[2].T", [("dW2", "operand", None)]),
    ("column", "dW[k] = dz[k] @ z[k-1].T", [("dW", "operand", None)]),
    ("column", "dW[k] = da[k] @ a[k-1].T", [("dW", "operand", None)]),
    ("column", "dW[k] = a[k-1] @ dz[k].T", [("dW", "transposed", None)]),
    ("column", "dW[k] = dz[k] @ a[k-1]", [("dW", "transposed", None)]),
    ("column", "dW[k] = -dz[k] @ a[k-1].T", [("dW", "factor", "-1")]),
    ("column", "dW[k] = 0.5 * dz[k] @ a[k-1].T", [("dW", "factor", "1/2")]),
    ("column", "dW[k] = dz[k] @ a[k-1].T / n", [("dW", "factor", "1/n")]),
    ("column", "dW[k] = dz[k] @ a[k-1].T + 0.1*W[k]", [("dW", "extra-term", None)]),
    ("row", "db[k] = mean(dz[k], samples)", [("db", "factor", "1/n")]),
    ("row", "db = np.mean(dz, axis=0, keepdims=True)", [("db", "factor", "1/n")]),
    ("row", "db[k] = sum(dz[k], units)", [("db", "axis", None)]),
    ("row", "da[k-1] = dz[k] @ W[k]", [("da", "operand", None)]),
    ("column", "da[k-1] = W[k] @ dz[k]", [("da", "operand", None)]),
    ("column", "da[k-1] = W[k].T * dz[k]", [("da", "product", None)]),
    ("column", "da[k-1] = W[k].T @ da[k]", [("da", "operand", None)]),
    ("column", "da[k] = W[k].T @ dz[k]", [("da", "operand", None)]),
    ("column", "dz[k] = da[k]", [("dz", "activation-derivative", None)]),
    ("column", "dz[k] = da[k] * f'(a[k])", [("dz", "activation-derivative", None)]),
    ("column", "dz[k] = da[k] * f(z[k])", [("dz", "activation-derivative", None)]),
    ("column", "dz[k] = da[k] * f'(z[k])**2", [("dz", "activation-derivative", None)]),
    ("column", "dz[k] = 2 da[k] * f'(z[k])", [("dz", "factor", "2")]),
    ("column", "dL/dyhat = y/yhat + (1-y)/(1-yhat)", [("da", "loss-derivative", None)]),
    ("column", "z[k] = W[k] @ a[k-1]", [("z", "forward", None)]),
    ("row", "a[k] = z[k]", [("a", "forward", None)]),
    ("column", "db[k] = 0", [("db", "shape", None)]),
    ("column", "db[k] = b[k]", [("db", "unexplained", None)]),
]


@pytest.mark.parametrize(("layout", "formula", "causes"), WRONG)
def test_mistakes_are_named(layout, formula, causes):
    report = check_formula(formula, layout=layout)
    assert (report.answer, report.verdict) == ("wrong", "wrong")
    assert [(cause.quantity, cause.kind, cause.factor) for cause in report.causes] == causes, str(report)
    for cause in report.causes:
        corrected = cause.expected.replace("\\odot", "#")
        assert check_formula(corrected, layout=layout).answer in ("right", "conditional"), corrected


def test_shapes_are_said_in_the_names_of_the_widths():
    message = check_formula("dL/dW_k = (dL/dz_k)^T a_k").causes[0].message
    assert "the formula gives n x n, dL/dW_k is n_k x n_{k-1}" in message


# ---------------------------------------------------------------- conditions
@pytest.mark.parametrize(
    ("formula", "condition"),
    [
        ("dW[k] = outer(dz[k], a[k-1])", "n = 1"),
        ("dL/db_k = dL/dz_k", "n = 1"),
        ("dz = da * f'(z)", "elementwise"),
        ("dL/dz_k = dL/da_k \\odot f_k'(z_k)", "elementwise"),
        ("dL/dz_k = dL/da_k # f_k'(z_k)", "elementwise"),
        ("dz[k] = f'(z[k]) o W_{k+1}^T dz_{k+1}", "elementwise"),
        ("dz = diag(f'(z)) @ da", "n = 1"),
        ("dz[k] = da[k] * a[k] * (1 - a[k])", "f is sigmoid"),
        ("dz[k] = a[k] * (da[k] - sum(a[k] * da[k], units))", "f is softmax"),
        ("dz[L] = a[L] - y", "softmax with ce at the last layer"),
        ("dz[L] = a[L] - y", "sigmoid with bce at the last layer"),
    ],
)
def test_conditions_are_named(formula, condition):
    report = check_formula(formula)
    assert (report.answer, report.ok) == ("conditional", None)
    assert condition in report.context["condition"]
    assert str(report).startswith("right only under conditions")


def test_softmax_is_named_where_the_rule_is_elementwise():
    report = check_formula("dz = da * f'(z)")
    assert [cause.kind for cause in report.causes] == ["softmax-jacobian"]
    assert check_formula("dz = da * f'(z)", activation="softmax").answer == "wrong"
    assert check_formula("dz = da * f'(z)", activation="sigmoid").answer == "right"
    assert check_formula(report.causes[0].fix.removeprefix("for softmax: "), activation="softmax").answer == "right"


# ---------------------------------------------------------------- properties
@st.composite
def rewritten(draw, node: Node, depth: int = 3) -> Node:
    """The same by (x y)^T = y^T x^T, x = x^T^T, x = 1 x, -(-x), x o y = y o x."""
    if depth == 0:
        return node
    way = draw(st.sampled_from(["as it is", "twice", "one", "minus", "product"]))
    if way == "twice":
        inside = draw(rewritten(Node("transpose", (node,)), depth - 1))
        return Node("transpose", (inside,))
    if way == "one":
        return Node("times", (Node("number", (), 1.0), draw(rewritten(node, depth - 1))))
    if way == "minus":
        return Node("neg", (Node("neg", (draw(rewritten(node, depth - 1)),)),))
    if node.kind == "transpose" and node.parts[0].kind == "matmul":
        x, y = node.parts[0].parts
        parts = (Node("transpose", (y,)), Node("transpose", (x,)))
        return Node("matmul", tuple(draw(rewritten(part, depth - 1)) for part in parts))
    if node.kind == "times":
        node = Node("times", node.parts[::-1])
    return Node(
        node.kind, tuple(draw(rewritten(part, depth - 1)) for part in node.parts), node.value, node.base, node.shift
    )


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(RIGHT[:1] + RIGHT[14:17] + RIGHT[22:26]), st.booleans())
def test_rewriting_by_the_rules_changes_nothing(data, chosen, tutorial):
    layout, formula = chosen
    left, right = _Reader(formula).formula()
    written = f"{text_of(left, tutorial)} = {text_of(data.draw(rewritten(right)), tutorial)}"
    assert check_formula(written, layout=layout).answer == "right", written
    doubled = f"{text_of(left)} = 2 * ({written.partition('=')[2]})"
    assert [cause.factor for cause in check_formula(doubled, layout=layout).causes] == ["2"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="dzaWbLkf'()[]{}_^*@/+-=T.,123 n\\#ohxysumeant", max_size=40))
def test_no_text_breaks_the_reader(text):
    try:
        left, right = _Reader(text).formula()
    except FormulaError as caught:
        error = caught
    else:
        assert _Reader(f"{text_of(left)} = {text_of(right)}").formula() == (left, right)
        return
    assert 0 <= error.position <= len(text)


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("formula", "position", "expected"),
    [
        ("", 0, "a formula"),
        ("dW[k]", 5, "'='"),
        ("dW[k] = outer(dz[k], a[)", 23, "a layer"),
        ("dW[q] = dz", 3, "a layer"),
        ("dW[k] = foo(z)", 8, "one of dz da"),
        ("dW[k] = (z[k]", 13, "')'"),
        ("dW[k] = outer(z[k])", 8, "2 arguments"),
        ("dW[k] = dz[k] @", 15, "a name, a number"),
        ("dW[k] = dz[k] ! 2", 14, "an operator"),
        ("dW[k] = sum(z, rows)", 15, "samples, units"),
        ("dW[k] = __import__('os')", 8, "a name"),
        ("2 = dW[k]", 0, "a quantity on the left"),
        ("dz[k] = z[k]^a", 13, "exponent"),
        (r"\frac{\partial L}{\partial W_k} = q", 34, "one of dz da"),
        ("dW[k] = " + "(" * 3000, 48, "at most 40"),
    ],
)
def test_errors_of_the_grammar_point_at_the_place(formula, position, expected):
    with pytest.raises(FormulaError) as caught:
        check_formula(formula)
    assert (caught.value.position, expected in caught.value.expected) == (position, True), str(caught.value)
    assert str(caught.value).endswith(" " * position + "^")


@pytest.mark.parametrize(
    ("formula", "options", "words"),
    [
        ("x = 1", {}, "is given"),
        ("dz[k] = 2 * dz[k]", {}, "both sides"),
        ("dW[k] = W[k+9]", {}, "outside"),
        ("dW[7] = W[7]", {}, "outside"),
        ("dW[k] = W[k]", {"layout": "rows"}, "layout: 'rows' is not known; known are row, column"),
        ("dW[k] = W[k]", {"loss": "hinge"}, "loss: 'hinge'"),
    ],
)
def test_errors_of_use(formula, options, words):
    with pytest.raises(ValueError, match=words):
        check_formula(formula, **options)


# ---------------------------------------------------------------- the command
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["dW[k] = a[k-1].T @ dz[k]", "--layout", "row"], 0, "right"),
        (["dW[k] = dz[k] @ a[k].T"], 1, "write a[k-1] for a[k]"),
        (["dW[k] = dz[k] @ a[k].T", "--hint", "where"], 1, "dW: the first step"),
        (["dz = da * f'(z)"], 3, "elementwise"),
        (["dz = "], 2, "position"),
    ],
)
def test_the_command(arguments, code, words, capsys):
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    parsed = parser.parse_args(["formula", *arguments])
    assert parsed.run(parsed) == code
    assert words in capsys.readouterr().out
    parsed.json = True
    assert parsed.run(parsed) == code
    printed = json.loads(capsys.readouterr().out)
    assert ("error" in printed) == (code == 2)
    assert code == 2 or printed["answer"] == {0: "right", 1: "wrong", 3: "conditional"}[code]
