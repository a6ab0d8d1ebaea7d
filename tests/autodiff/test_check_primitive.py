"""check_primitive: every row of the table passes, and a wrong rule, planted in any of them, is found."""

import math

import numpy as np
import pytest

from autodiff import Primitive, Value, check_primitive, total_derivative
from autodiff.primitives import TABLE, UFUNCS, primitive

JUMPS = {"sign", "step", "exceeds", "floor", "ceil", "round", "floordiv"}  # their rules say 0
ROWS = [row for row in TABLE.values() if row.name not in JUMPS]
# At ordinary points only: pairs of all the default ones would take long, and add nothing.
PAIRS = [(-1.7, 0.81), (0.29, -4.3), (4.1, 1.3), (0.83, 0.31), (2.5, -0.7)]


def points(row):
    return PAIRS if row.db is not None else None


def with_rules(row, *rules):
    """A row that is in no table, with other rules."""
    return Primitive(
        row.name, row.forward, row.array, rules,
        formula=row.formula, text=row.text, latex=row.latex, binds=row.binds, needs=row.needs,
    )  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_rows_of_the_table_agree(row):
    check = check_primitive(row, at=points(row))
    assert check, str(check)


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_no_row_is_accused_at_the_points_it_chooses_itself(row):
    check = check_primitive(row)
    assert check.verdict != "differ", str(check)
    assert sum(element.verdict == "agree" for element in check.elements) > 0.8 * len(check.elements)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("spoil", [lambda d: 2.0 * d, lambda d: -d, lambda d: d + 0.01], ids=["x2", "sign", "+0.01"])
def test_a_wrong_rule_is_found(row, spoil):
    for position in range(len(row.needs)):
        rules = [rule for rule in (row.da, row.db) if rule is not None]
        right = rules[position]
        rules[position] = lambda *data, right=right: spoil(right(*data))
        assert check_primitive(with_rules(row, *rules), at=points(row)).verdict == "differ"


@pytest.fixture
def added():
    before = dict(TABLE), dict(UFUNCS)
    yield
    for table, old in zip((TABLE, UFUNCS), before, strict=True):
        for key in set(table) - set(old):
            del table[key]


@pytest.mark.usefixtures("added")
def test_a_students_row_in_five_lines():
    swish2 = primitive(
        "swish2",
        lambda a: a / (1.0 + math.exp(-2.0 * a)),
        lambda y, a: TABLE["sigmoid"](2.0 * a) * (1.0 + 2.0 * a * TABLE["sigmoid"](-2.0 * a)),
        formula="a / (1 + exp(-2 * a))",
    )
    assert check_primitive(swish2)
    x = Value(0.5, name="x")
    y = swish2(x)
    y.backward()
    assert x.grad == pytest.approx(0.92767051, abs=1e-8)  # mpmath.diff of the formula
    assert x.swish2().data == y.data
    assert swish2(np.array([0.5, 1.0])).shape == (2,)
    receipt = total_derivative(y, x)
    assert receipt.total == x.grad
    assert "σ(2 · x)" in str(receipt)
    assert r"\operatorname{swish2}\left(x\right)" in total_derivative(2.0 * y, x).latex()


def test_kernels_that_disagree_are_an_error():
    row = Primitive(
        "odd", math.exp, lambda a: np.exp(a) + 1.0, [lambda y, a: y],
        formula="exp(a)", text="odd(<a>)", latex="odd", binds=4, needs=(1,),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"on floats and .* on arrays"):
        check_primitive(row)


def test_points_outside_the_domain_are_an_error():
    with pytest.raises(ValueError, match="at="):
        check_primitive(TABLE["log"], at=[-1.0, -2.0])


def test_a_rule_for_floats_only_is_refused():
    wrong = primitive_row(lambda y, a: math.exp(a), math.exp)
    with pytest.raises(TypeError, match=r"the rule da of odd runs on floats, but not on nodes .*without `if` and math"):
        check_primitive(wrong)
    branching = primitive_row(lambda y, a: 1.0 if a > 0 else 0.2, lambda a: a if a > 0 else 0.2 * a)
    with pytest.raises(TypeError, match="not on arrays"):
        check_primitive(branching)


def primitive_row(rule, forward):
    """A row that is in no table."""
    return Primitive(
        "odd", forward, np.vectorize(forward), [rule], formula="a", text="odd(<a>)", latex="odd", binds=4, needs=(1,)
    )


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("my op", math.exp, lambda y, a: y), ValueError, "identifier"),
        ((3, math.exp, lambda y, a: y), ValueError, "identifier"),
        (("exp", math.exp, lambda y, a: y), ValueError, "already"),
        (("odd", math.exp), ValueError, "one rule per operand"),
        (("odd", 3.0, lambda y, a: y), TypeError, "the forward is a function"),
        (("odd", math.exp, 2.0), TypeError, "the rule is a function"),
        (("odd", math.exp, lambda a: a), TypeError, r"its rule takes \(y, a\), got one that takes \(a\)"),
        (("odd", lambda a: a, lambda y, a, b: a, lambda y, a, b: b), TypeError, r"its forward takes \(a, b\)"),
    ],
)
def test_a_row_that_cannot_work_is_refused_at_once(arguments, error, match):
    before = dict(TABLE)
    with pytest.raises(error, match=match):
        primitive(*arguments)
    assert before == TABLE


@pytest.mark.usefixtures("added")
def test_a_wrong_length_of_needs_is_refused():
    with pytest.raises(ValueError, match="one entry per operand"):
        primitive("odd", math.exp, lambda y, a: y, needs=(1, 1))


@pytest.mark.usefixtures("added")
def test_a_students_row_honours_numpys_error_state(capsys):
    root = primitive("root", lambda a: math.sqrt(a), lambda y, a: 0.5 / y, formula="sqrt(a)")
    seen = []
    with np.errstate(all="ignore"):
        assert math.isnan(root(Value(-1.0)).data)
    with pytest.warns(RuntimeWarning, match="invalid value encountered in root"):
        root(Value(-1.0))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=r"root\(-1.0\): invalid .* \(node 'x'\)"):
        root(Value(-1.0, "x"))
    with np.errstate(all="call", call=lambda kind, flag: seen.append((kind, flag))):
        root(Value(-1.0))
    assert seen == [("invalid value", 8)]
    with np.errstate(all="print"):
        root(Value(-1.0))
    assert capsys.readouterr().out == "Warning: invalid value encountered in root\n"
