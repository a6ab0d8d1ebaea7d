"""MathML and names: well-formed whatever the name, and the same numbers as the text when it is read back."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autodiff import Graph, Value, total_derivative
from autodiff.mathml import mathml
from autodiff.names import CAPITALS, GREEK, latex_name
from autodiff.notation import Expression, formula
from tests.autodiff.test_notation import ARRAYS, evaluate, leaves_of_arrays, names_only
from tests.random_graphs import ROWS, graphs

RANDOM = settings(deadline=None, derandomize=True, max_examples=150)
# MathML Core: the elements that browsers draw without a script
CORE = {"math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup"}
CORE |= {"mover", "mtable", "mtr", "mtd"}
CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "mover": 2, "msubsup": 3}


def read(xml):
    """The root, if this is MathML Core that every browser draws."""
    root = ElementTree.fromstring(xml)
    assert root.tag == "math"
    assert root.attrib == {"display": "block"}
    for element in root.iter():
        assert element.tag in CORE
        assert len(element) == CHILDREN.get(element.tag, len(element)), element.tag
        assert not (len(element) and (element.text or "").strip()), "text beside elements"
        assert not {"href", "src", "xlink:href", "class"} & set(element.attrib)
    return root


# ---------------------------------------------------------------- read back
def python_of(element):
    """A formula in MathML as Python source, by what it looks like: only fractions, roots and scripts group."""
    parts = [python_of(part) for part in element]
    text = (element.text or "").strip()
    match element.tag:
        case "mfrac":
            return f"(({parts[0]})/({parts[1]}))"
        case "msqrt":
            return f"sqrt({' '.join(parts)})"
        case "mroot":
            return f"cbrt({parts[0]})"
        case "msup" if parts[1] == "′":
            return f"{parts[0]}_slope"
        case "msup":
            return f"{parts[0]}**({parts[1]})"
        case "msub":
            return f"{parts[0]}{parts[1].replace(' ', '')}"
        case "mrow" if len(element) > 1 and element[0].get("form") == "prefix":  # brackets
            call = {"|": "abs(", "[": "exceeds(", "⌊": "floor(", "⌈": "ceil("}.get(element[0].text, "(")
            return f"{call}{' '.join(parts[1:-1])})"
        case "mo":
            return {"⋅": "*", "−": "-", ">": ","}.get(text, "%" if text == "mod" else text)
        case "mi":
            return {"∞": "inf", "σ": "sigmoid"}.get(text, text)
    return text + " ".join(parts)


@RANDOM
@given(graphs())
def test_the_mathml_of_a_random_graph_reads_back(example):
    data = {leaf.name: leaf.data for leaf in example.leaves}
    root = read(formula(example.output, depth=100, label=names_only).mathml())
    assert evaluate(python_of(root), data) == pytest.approx(example.output.data, rel=1e-9, abs=1e-12, nan_ok=True)


def test_the_reader_sees_a_bracket_that_is_missing():
    whole = read(mathml(r"\left(x + y\right) \cdot x"))
    assert evaluate(python_of(whole), {"x": 2.0, "y": 3.0}) == 10.0
    assert evaluate(python_of(read(mathml(r"x + y \cdot x"))), {"x": 2.0, "y": 3.0}) == 8.0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_mathml_without_a_command_left(row):
    xml = row(*(Expression(name) for name in ("w1_21", "y_2")[: row.arity])).mathml()
    read(xml)
    assert not re.search(r"[\\{}^]|_\w", re.sub("<[^>]*>", "", xml.replace("leaky_relu", ""))), xml


@pytest.mark.parametrize("case", ARRAYS, ids=[case[1] for case in ARRAYS])
def test_formulas_of_arrays_are_mathml(case):
    read(formula(case[0](*leaves_of_arrays())).mathml())


@RANDOM
@given(graphs())
def test_receipts_are_mathml(example):
    for node in Graph(example.output).nodes:
        receipt = total_derivative(example.output, node)
        root = read(receipt.mathml())
        assert len(root.findall(".//mtr")) == (2 if receipt.terms else 0)


# ---------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("name", "latex", "markup"),
    [
        ("w1_21", "w^{(1)}_{21}", "<msubsup><mi>w</mi><mn>21</mn>"),
        ("W[2]", "W_{2}", "<msub><mi>W</mi><mn>2</mn></msub>"),
        ("h_2j", "h_{2j}", "<msub><mi>h</mi><mrow><mn>2</mn><mi>j</mi></mrow></msub>"),
        ("delta2", r"\delta_{2}", "<msub><mi>δ</mi><mn>2</mn></msub>"),
        ("δ2", r"\delta_{2}", "<msub><mi>δ</mi><mn>2</mn></msub>"),
        ("Omega", r"\Omega", "<mi>Ω</mi>"),
        ("dz3", r"\mathrm{d}z_{3}", '<mi mathvariant="normal">d</mi><msub><mi>z</mi><mn>3</mn></msub>'),
        ("x'", "x'", "<msup><mi>x</mi><mo>′</mo></msup>"),
        ("f''_2", "f''_{2}", "<mo>′′</mo>"),
        ("yhat_2", r"\hat{y}_{2}", '<msub><mover accent="true"><mi>y</mi><mo>^</mo></mover><mn>2</mn></msub>'),
        ("loss", r"\mathrm{loss}", "<mi>loss</mi>"),
        ("y_pred", r"y_{\mathrm{pred}}", "<msub><mi>y</mi><mi>pred</mi></msub>"),
        ('<a & "b">', None, "&lt;a"),
        ("Größe", r"\text{Größe}", "<mtext>Größe</mtext>"),
        ("层 1", r"\text{层 1}", "<mtext>层 1</mtext>"),
        ("a_b^2", None, "a_b^2"),
        ("d", "d", "<mi>d</mi>"),
        ("dropout", r"\mathrm{dropout}", "<mi>dropout</mi>"),
    ],
)
def test_names_are_symbols_in_latex_and_mathml(name, latex, markup):
    assert latex in (None, latex_name(name))
    xml = Expression(name).mathml()
    read(xml)
    assert markup in xml


@pytest.mark.parametrize("name", sorted(GREEK | CAPITALS))
def test_greek_letters_are_letters(name):
    [letter] = read(Expression(name).mathml())
    assert (letter.tag, len(letter.text)) == ("mi", 1)


def assert_valid_latex(latex):
    """Braces and brackets nest, no bare sign that stops LaTeX, no second script of one kind on one base."""
    bare = re.sub(r"\\(?:[^A-Za-z]|textbackslash|backslash|wedge|sim)", "", latex)  # what is escaped is a sign
    depth = 0
    for sign in bare:
        depth += (sign == "{") - (sign == "}")
        assert depth >= 0, latex
    assert depth == 0, latex
    assert not re.search(r"[%&#$~]", bare), latex
    assert not re.search(r"[_^](?!\{)", bare), latex
    assert not re.search(r"\^\{\([0-9]*\)\}\^|\}_\{[^{}]*\}_|'\^", re.sub(r"\{[^{}]*'\}", "", bare)), latex


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.text(max_size=12) | st.from_regex(r"[a-zδ\\{}^_'&<%]{1,8}", fullmatch=True))
@example("\x00")
@example("\ud800")
@example("'")
@example("x'1_2'")
@example(" ")
@example("")
@example("\n")
@example("]]>")
@example("\\frac{")
def test_no_name_is_bad_latex_or_bad_xml(name):
    x = Value(2.0, name)
    assert_valid_latex(latex_name(name))
    read(Expression(name).mathml())
    receipt = total_derivative(x * x + x, x)
    read(receipt.mathml())
    assert_valid_latex(receipt.latex().replace("&=", "="))
    assert str(receipt)


@pytest.mark.parametrize("bad", ["a%b", "{", "x_2", "w^{(1)}^{2}"])
def test_bad_latex_can_be_told(bad):
    with pytest.raises(AssertionError):
        assert_valid_latex(bad)


# fmt: off
PIECES = [
    r"\frac", r"\sqrt", "[", "]", "{", "}", "^", "_", "'", "&", r"\\", r"\left(", r"\right)", r"\begin{aligned}",
    r"\end{aligned}", r"\begin{bmatrix}", r"\hat", r"\text{", "x", "1", "<", r"\unknown", "-",
]
# fmt: on


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_latex_gives_well_formed_xml(latex):
    ElementTree.fromstring(mathml(latex))
