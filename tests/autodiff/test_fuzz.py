"""Random programs over every row of the table: values and gradients against mpmath, which knows the formulas only."""

import mpmath
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodiff import TABLE, Value, adjoints
from autodiff.value import order
from tests.random_graphs import build, magnitudes

KNOWN = {name: getattr(mpmath, name) for name in dir(mpmath) if not name.startswith("_")}
STEP = mpmath.mpf("1e-30")  # of a difference quotient at 90 digits: 60 of them remain
# Locals and data stay below 1e3 and there are at most 12 operations, so that second derivatives, which say how much
# the rounding of an operand moves a local derivative, stay below 1e6 in all but a few: 1e6 * 12 * 1e-16 = 1e-9.
CLOSE = 1e-8


def evaluated(nodes, leaves):
    """{node: number} by the rows' formulas, in mpmath, from numbers for the leaves."""
    numbers = dict(leaves)
    for node in nodes:
        if node.op is None:
            numbers.setdefault(node, mpmath.mpf(node.data))
        else:
            operands = [numbers[x] if isinstance(x, Value) else mpmath.mpf(x) for x in node.operands]
            numbers[node] = mpmath.mpmathify(
                eval(node.op.formula, KNOWN, dict(zip("ab", operands, strict=False)))  # our own table's text
            )
    return numbers


def disagreements(output, gradient):
    """What of {leaf: derivative} mpmath does not confirm; None where its formulas meet a jump or a kink."""
    nodes = list(reversed(order(output)))
    with mpmath.workdps(90):
        middle = evaluated(nodes, {})
        if any(
            mpmath.im(number) or abs(number - node.data) > CLOSE * max(1.0, abs(node.data))
            for node, number in middle.items()
        ):
            return None  # rounding decided a comparison or a jump
        size = magnitudes(nodes)
        wrong = []
        for leaf, derivative in gradient.items():
            at = middle[leaf]
            try:
                above = (evaluated(nodes, {leaf: at + STEP})[output] - middle[output]) / STEP
                below = (middle[output] - evaluated(nodes, {leaf: at - STEP})[output]) / STEP
            except ZeroDivisionError:
                return None  # a pole right beside the point
            if abs(above - below) > 1e-12 * (1.0 + size[leaf]) or abs(above) > 1e20:
                return None  # a kink or a jump at the very point
            if abs((above + below) / 2 - derivative) > CLOSE * (1.0 + size[leaf]):
                wrong.append((leaf.name, float(above), derivative))
    return wrong


@st.composite
def graphs(draw):
    return build(draw(st.integers(0, 10**9)), draw(st.integers(1, 12)), False)


@settings(deadline=None, derandomize=True, database=None, max_examples=1500, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_random_programs_against_mpmath(example):
    adjoint = adjoints(example.output)
    wrong = disagreements(example.output, {leaf: adjoint[leaf] for leaf in example.leaves if leaf in adjoint})
    assert not wrong


def test_the_programs_use_every_row_and_most_are_decided():
    used, decided = set(), 0
    for seed in range(400):
        example = build(seed, 12, False)
        used |= {node.op.source.name for node in example.nodes if node.op}
        if seed < 60:
            decided += disagreements(example.output, {}) is not None
    assert used == set(TABLE)
    assert decided > 40  # the others end at a tie or a jump, which constants of few digits make common


@pytest.mark.parametrize("factor", [2.0, -1.0, 1.0 + 1e-5, 0.0])
def test_a_wrong_gradient_is_found(factor):
    x, y = Value(0.7, "x"), Value(-1.3, "y")
    output = (x * y).sin() * x.gelu() + y / x
    adjoint = adjoints(output)
    right = {x: adjoint[x], y: adjoint[y]}
    assert disagreements(output, right) == []
    assert disagreements(output, {**right, x: factor * right[x]})
