"""Programs compute what their graphs compute: every row, every back end, every derivative."""

import math
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.programs import Program, machine, record
from autodiff.programs.instructions import Builder
from autodiff.programs.source import Compiled

BACK_ENDS = ("python", "numpy", "numba", "tape")
ONE = [row for row in ad.TABLE.values() if row.arity == 1]
TWO = [row for row in ad.TABLE.values() if row.arity == 2]
CORNERS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 700.0, -700.0, math.inf, -math.inf, math.nan, 1e-310]


def eager(output, inputs):
    """(value, gradient) of the graph itself."""
    for node in inputs:
        node.grad = ad.NO_GRAD
    output.backward()
    return output.data, [node.grad for node in inputs]


def same(found, expected, scale=1.0):
    """Equal to rounding errors, sums in any order; where one is inf or nan, so is the other."""
    found, expected = np.asarray(found), np.asarray(expected)
    finite = np.isfinite(found)
    assert (finite == np.isfinite(expected)).all(), (found, expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-12 * scale)


# --- one row after the other ---


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize("row", ad.TABLE.values(), ids=lambda row: row.name)
def test_every_row_at_its_corners(row, back_end):
    """Recorded at one point, run at all others: five lanes of the same operands, scaled apart."""

    def graph(operands):
        x = [ad.Value(operand) for operand in operands]
        lanes = [row(*x) * factor for factor in (1.0, 2.0, 4.0, 8.0, 16.0)]
        return sum(lanes[1:], lanes[0]), x

    points = [(a,) for a in CORNERS] if row.arity == 1 else [(a, b) for a in CORNERS for b in CORNERS]
    with np.errstate(all="ignore"):
        program = record(*graph([0.5, 0.5][: row.arity]), back_end)
        for operands in points:
            value, gradient = eager(*graph(operands))
            found = program.value_and_grad(*operands)
            scale = max([1.0, *(abs(g) for g in gradient if math.isfinite(g))])
            same(found[0], value, scale)
            same(found[1], gradient, scale)


@pytest.mark.parametrize("row", ad.TABLE.values(), ids=lambda row: row.name)
def test_every_row_over_lanes_of_data(row):
    generator = random.Random(5)
    w = [ad.Value(0.7), ad.Value(0.4)]
    lanes = []
    with np.errstate(all="ignore"):  # arccosh below 1
        for _ in range(7):
            a = w[0] * generator.uniform(0.2, 1.2)
            lanes.append(row(a) if row.arity == 1 else row(a, w[1] + generator.uniform(0.1, 0.5)))
        output = sum(lanes)
        value, gradient = eager(output, w)
        program = record(output, w, "numpy")
        found = program.value_and_grad(0.7, 0.4)
    assert program.size < 7
    same(found[0], value)
    same(found[1], gradient)


def test_one_number_is_bitwise_that_of_the_graph_in_python():
    generator = random.Random(3)
    x = [ad.Value(generator.uniform(0.5, 2.0)) for _ in range(4)]
    output = (x[0] * x[1] - ad.exp(x[2]) / x[3]) ** 3 + ad.log(x[0]) * ad.tanh(x[1] - x[2])
    value, gradient = eager(output, x)
    found = record(output, x, "python").value_and_grad(*[node.data for node in x])
    assert found[0] == value
    np.testing.assert_allclose(found[1], gradient, rtol=1e-14)


# --- random graphs ---


def formula(generator, depth, leaves):
    if depth == 0:
        return generator.randrange(leaves)
    if generator.random() < 0.4:
        return generator.choice(ONE), formula(generator, depth - 1, leaves)
    row = generator.choice(TWO) if generator.random() < 0.5 else generator.choice([ad.add, ad.sub, ad.mul])
    return row, formula(generator, depth - 1, leaves), formula(generator, generator.randrange(depth), leaves)


def evaluated(expression, leaves):
    if isinstance(expression, int):
        return leaves[expression]
    return expression[0](*(evaluated(part, leaves) for part in expression[1:]))


def random_graph(generator, special):
    """(parameters, output): formulas over samples, shuffled and summed in one way or another, plus a scalar part."""

    def number():
        if special and generator.random() < 0.3:
            return generator.choice(CORNERS)
        return generator.uniform(0.3, 1.7) * generator.choice([1.0, 1.0, -1.0])

    parameters = [ad.Value(number()) for _ in range(generator.randrange(1, 5))]
    count, terms = generator.choice([1, 2, 3, 5, 8]), []
    for _ in range(generator.choice([1, 1, 2])):
        expression = formula(generator, generator.randrange(1, 5), len(parameters) + 3)
        for _ in range(count if generator.random() < 0.9 else 1):
            data = [number() if generator.random() < 0.7 else ad.Value(number()) for _ in range(3)]
            if terms and generator.random() < 0.2:
                data[0] = terms[-1]
            terms.append(evaluated(expression, parameters + data))
    generator.shuffle(terms)
    if generator.random() < 0.3:
        terms = [generator.choice([-1.0, 1.0]) * term for term in terms]
    how = generator.choice(["sum", "numpy", "difference", "tree"])
    if how == "sum":
        total = sum(terms)
    elif how == "numpy":
        total = np.sum(ad.scalars(terms))
    elif how == "difference":
        total = parameters[0]
        for term in terms:
            total = total - term
    else:
        while len(terms) > 1:
            terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + terms[len(terms) & ~1 :]
        total = terms[0]
    return parameters, total / count + 0.1 * sum(p * p for p in parameters)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.booleans())
def test_random_graphs(seed, special):
    with np.errstate(all="ignore"):
        parameters, output = random_graph(random.Random(seed), special)
        value, gradient = eager(output, parameters)
        numbers = [p.data for p in parameters]
        scale = max([1.0, *(abs(x) for x in (value, *gradient) if math.isfinite(x))])
        for back_end in BACK_ENDS:
            program = record(output, parameters, back_end)
            found = program.value_and_grad(*numbers)
            same(found[0], value, 100 * scale)
            same(found[0], program(*numbers), scale)
            same(found[1], gradient, 100 * scale)


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_infinite_terms_meet_as_on_the_nodes(back_end):
    """Shared, inf - inf + inf would be 1 times inf; added up in lanes, 2e308 - 2e308 would be inf - inf."""
    x, y, big = ad.Value(1.0), ad.Value(0.0), ad.Value(1e308)
    with np.errstate(all="ignore"):
        for output in (x / y - x / y + x / y, x * big - x * big + x * big - x * big):
            value, gradient = eager(output, [x, y, big])
            found = record(output, [x, y, big], back_end).value_and_grad(1.0, 0.0, 1e308)
            np.testing.assert_array_equal([found[0], *found[1]], [value, *gradient])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_forward_mode_and_hessian_products_of_random_graphs(seed):
    with np.errstate(all="ignore"):
        parameters, output = random_graph(random.Random(seed), special=False)
        value, gradient = eager(output, parameters)
        if not np.isfinite([value, *gradient]).all():
            return
        numbers = [p.data for p in parameters]
        direction = [0.3 + 0.1 * i for i in range(len(numbers))]
        products = []
        for back_end in BACK_ENDS:
            program = record(output, parameters, back_end)
            tangent = program.jvp(numbers, direction)[1]
            terms = [g * d for g, d in zip(gradient, direction, strict=True)]
            same(tangent, math.fsum(terms), 1e3 * max([1.0, *map(abs, terms)]))
            products.append(program.hvp(numbers, direction))
        if np.isfinite(products).all():
            same(products[1], products[0], 1e3 * max([1.0, *map(abs, products[0])]))


def test_hessian_product_against_the_transform():
    def f(w):
        return np.sum(np.tanh(w * w[::-1]) ** 2) + w[0] * np.exp(w[1])

    w, direction = np.array([0.3, -0.7, 1.1]), np.array([1.0, 0.5, -2.0])
    nodes = ad.scalars(w)
    [expected] = ad.hvp(f, (w,), (direction,))
    for back_end in BACK_ENDS:
        [found] = record(f(nodes), [nodes], back_end).hvp([w], [direction])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_planted_error_is_found():
    x = ad.Value(2.0)
    program = record(x * x, [x])
    program.tape.rows = tuple(ad.add if row is ad.mul else row for row in program.tape.rows)
    with pytest.raises(AssertionError):
        same(program(3.0), 9.0)


# --- numbers that are no numbers ---


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_warnings_come_where_they_come_on_nodes(back_end):
    x = ad.Value(1.0)
    program = record(sum(ad.log(x * c) for c in (1.0, 2.0, 3.0, 4.0)), [x], back_end)
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert program(0.0) == -math.inf
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        program(0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        big = record(sum(x * 1e200 * c for c in (1.0, 2.0, 3.0)), [x], back_end)
        assert big(1e200) == math.inf  # + and * are silent on nodes
        assert program(1.0) == pytest.approx(math.log(24.0))


def test_the_sign_of_zero():
    x = ad.Value(-0.0)
    for back_end in BACK_ENDS:
        assert math.copysign(1.0, record(x * 1.0, [x], back_end)(-0.0)) == -1.0
        assert math.copysign(1.0, record(ad.sqrt(x), [x], back_end)(-0.0)) == -1.0
        assert math.copysign(1.0, record(x * 2.0, [x], back_end).grad(-0.0)[0]) == 1.0
        gradient = record(x * 0.0 * -1.0, [x], back_end).grad(1.0)[0]
        assert math.copysign(1.0, gradient) == 1.0  # as on nodes, where a grad starts from 0.0


# --- the interface ---


def test_inputs_of_every_shape():
    W, b, c = ad.scalars(np.ones((2, 3)), name="W"), ad.Value(1.0, name="b"), ad.Value(5.0)
    output = np.sum(W**2) * b + c
    value, (dW, db) = record(output, (W, b)).value_and_grad(np.full((2, 3), 2.0), 3.0)
    assert (value, db) == (77.0, 24.0)
    np.testing.assert_array_equal(dW, np.full((2, 3), 12.0))
    tree = {"W": W, "rest": [b, None]}
    program = record(output, tree)
    value, gradient = program.value_and_grad({"W": np.full((2, 3), 2.0), "rest": [3.0, None]})
    assert (value, gradient["rest"]) == (77.0, [24.0, None])
    assert record(output, W).grad(np.zeros((2, 3))).shape == (2, 3)
    assert record(output, W)(np.ones((2, 3))) == 11.0


def test_an_interior_node_can_be_an_input():
    x = ad.Value(2.0)
    y = x * x
    assert record(ad.exp(y) + x, [y]).value_and_grad(0.0) == (3.0, [1.0])


def test_what_does_not_lead_to_the_output_is_left_out():
    x, unused = ad.Value(2.0), ad.Value(3.0)
    ad.exp(x)
    assert len(record(x * x, [x, unused])) == 3  # the inputs and a product
    assert record(x * x, [x, unused]).value_and_grad(3.0, 7.0) == (9.0, [6.0, 0.0])


def test_the_smallest_programs():
    x, y = ad.Value(2.0), ad.Value(3.0)
    for back_end in (*BACK_ENDS, None):
        assert record(x, [x], back_end).value_and_grad(5.0) == (5.0, [1.0])
        assert record(x, [y, x], back_end).value_and_grad(5.0, 6.0) == (6.0, [0.0, 1.0])
        assert record(y * 2.0, [x], back_end).value_and_grad(5.0) == (6.0, [0.0])
        assert record(y, [x], back_end).jvp([5.0], [1.0]) == (3.0, 0.0)
        assert record(x * 2.0, [x], back_end).hvp([5.0], [1.0]) == [0.0]
        assert record(y, [], back_end)() == 3.0


def test_threads_do_not_share_temporaries():
    generator = random.Random(0)
    w = ad.scalars(np.ones(3), "w")
    X = np.array([[generator.gauss(0, 1) for _ in range(3)] for _ in range(50)])
    program = record(np.sum(np.tanh(X @ w) ** 2), [w])
    points = [np.array([generator.gauss(0, 1) for _ in range(3)]) for _ in range(40)]
    expected = [program.value_and_grad(point)[0] for point in points]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda point: program.value_and_grad(point)[0], points * 5))
    assert found == expected * 5


def test_common_subexpressions_are_computed_once():
    x = ad.Value(2.0, name="x")
    program = record(ad.exp(x * x) + ad.exp(x * x), [x])
    assert program.cost == {"mul": 1, "exp": 1, "add": 1}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, x: p(1.0, 2.0), TypeError, "takes 1 values, got 2"),
        (lambda p, x: p(np.ones(2)), ValueError, "shape"),
        (lambda p, x: p(x), TypeError, "pass .data"),
        (lambda p, x: p("1"), TypeError, "plain numbers"),
        (lambda p, x: record(x, [1.0]), TypeError, "Values as inputs"),
        (lambda p, x: record(x, [x, x]), ValueError, "twice"),
        (lambda p, x: record(1.0, [x]), TypeError, "remembers nothing"),
        (lambda p, x: record(x, [x], "fortran"), ValueError, "python, numpy, numba, tape"),
    ],
)
def test_errors_say_what_came(call, error, message):
    x = ad.Value(2.0)
    with pytest.raises(error, match=message):
        call(record(x * x, [x]), x)


def test_a_rule_that_branches_is_refused():
    row = ad.primitive("branching", lambda a: abs(a), lambda y, a: 1.0 if a > 0 else -1.0)
    try:
        x = ad.Value(2.0)
        program = record(row(x) * x, [x])
        assert program(3.0) == 9.0
        with pytest.raises(TypeError, match="branches on a number"):
            program.grad(3.0)
    finally:
        del ad.TABLE["branching"]


def test_a_row_of_the_users_own_whose_kernel_returns_its_operand():
    row = ad.primitive("same", lambda a: a, lambda y, a: 1.0, array=lambda a: a, formula="a")
    try:
        w = ad.Value(2.0)
        output = sum(row(w * c) * ad.exp(w * c) for c in (1.0, 2.0, 3.0, 4.0))
        value, gradient = eager(output, [w])
        found = record(output, [w], "numpy").value_and_grad(2.0)
        same(found[0], value)
        same(found[1], gradient)
    finally:
        del ad.TABLE["same"]


def test_files(tmp_path):
    W = ad.scalars([1.0, 2.0, 3.0], name="W")
    program = record(np.sum(ad.tanh(W) * W) / 2.0, {"W": [W, None]})
    again = Program.load(program.save(tmp_path / "program"))
    at = {"W": [np.array([0.1, 0.2, 0.3]), None]}
    value, gradient = again.value_and_grad(at)
    assert value == program(at)
    np.testing.assert_array_equal(gradient["W"][0], program.grad(at)["W"][0])
    assert str(again) == str(program)


def test_data_are_inputs_that_may_differ_from_lane_to_lane(tmp_path):
    generator = np.random.default_rng(0)
    w, X, y = generator.normal(size=3), generator.normal(size=(40, 3)), generator.normal(size=40)
    nodes, of_X, of_y = ad.scalars(w, "w"), ad.scalars(X, "X"), ad.scalars(y, "y")
    program = record(np.mean((np.tanh(of_X @ nodes) - of_y) ** 2), [nodes], data=(of_X, of_y))
    program = Program.load(program.save(tmp_path / "program"))
    assert program.back_end == "numpy"
    assert program.size < 10
    for back_end in BACK_ENDS:
        program = record(np.mean((np.tanh(of_X @ nodes) - of_y) ** 2), [nodes], back_end, data=(of_X, of_y))
        other, targets = generator.normal(size=(40, 3)), generator.normal(size=40)
        value, [gradient] = program.value_and_grad(2.0 * w, other, targets)
        residuals = np.tanh(other @ (2.0 * w)) - targets
        np.testing.assert_allclose(value, np.mean(residuals**2), rtol=1e-12)
        slopes = 2.0 * residuals / np.cosh(other @ (2.0 * w)) ** 2 / 40.0
        np.testing.assert_allclose(gradient, other.T @ slopes, rtol=1e-10)
    with pytest.raises(TypeError, match="1 values and 2 of data, got 2"):
        program(w, X)


def test_a_program_of_an_unknown_row_is_not_loaded(tmp_path):
    row = ad.primitive("passing", lambda a: a, lambda y, a: 1.0, formula="a")
    x = ad.Value(1.0)
    path = record(row(x) * x, [x]).save(tmp_path / "program.npz")
    del ad.TABLE["passing"]
    with pytest.raises(KeyError, match="passing"):
        Program.load(path)


def test_numbers_about_a_program():
    x, y = ad.Value(3.0, name="x"), ad.Value(2.0, name="y")
    program = record(x * y + ad.exp(-x), [x, y])
    assert (len(program), program.size, program.back_end) == (6, 4, "python")
    assert program.cost == {"mul": 1, "neg": 1, "exp": 1, "add": 1}
    assert 1.0 < program.ratio < 5.0
    assert repr(program) == "Program(6 nodes, 2 inputs)"
    assert "def chunk0" in program.source


def test_long_programs_are_cut_into_chunks():
    x, a = ad.Value(0.5), ad.Value(0.999)
    y = x
    for _ in range(1500):
        y = y * a + x
    value, gradient = eager(y, [x, a])
    program = record(y, [x, a], "python")
    assert program.source.count("def chunk") > 1
    found = program.value_and_grad(0.5, 0.999)
    assert found[0] == value
    np.testing.assert_allclose(found[1], gradient, rtol=1e-12)


@pytest.mark.parametrize(("count", "back_end"), [(8, "python"), (60, "numpy")])
def test_lanes_of_a_small_program_pay_where_they_are_wide(count, back_end):
    x = ad.scalars(np.linspace(-1.0, 1.0, count))
    y = np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    assert record(y, list(x)).back_end == back_end


@pytest.mark.parametrize(("asked", "chosen"), [(None, "tape"), ("numpy", "numpy")])
def test_a_long_graph_without_repetition_runs_at_once(monkeypatch, asked, chosen):
    monkeypatch.setattr(machine, "serves", lambda tape: False)
    x, a = ad.Value(0.5), ad.Value(0.999)
    y = x
    for _ in range(6000):
        y = y * a + ad.tanh(x) / 3.0
    value, gradient = eager(y, [x, a])
    program = record(y, [x, a], asked)
    assert program.back_end == chosen
    assert program.on_tape is not None
    assert program.value_and_grad(0.5, 0.999) == (value, gradient)


def test_memory_of_a_tape():
    x = ad.Value(1.0)
    y = x
    for _ in range(10_000):
        y = y * 1.5
    tape = record(y, [x]).tape
    assert tape.nbytes / len(tape) < 30  # the goal is 60 per operation


def test_what_a_program_returns_belongs_to_the_caller():
    W = ad.scalars(np.ones(5))
    program = record(np.sum(ad.exp(W) * W), [W])
    [first] = program.grad(np.zeros(5))
    kept = first.copy()
    program.grad(np.ones(5))
    np.testing.assert_array_equal(first, kept)


def test_outputs_that_share_memory_with_buffers_are_copied():
    builder = Builder()
    x = builder.emit("input", (), 0, (3, 1))
    y = builder.row(ad.exp, x)
    compiled = Compiled(builder, [builder.reshape(y, (1, 3)), y])
    first = compiled([np.zeros((3, 1))])
    compiled([np.ones((3, 1))])
    np.testing.assert_array_equal(first[0], np.ones((1, 3)))
    np.testing.assert_array_equal(first[1], np.ones((3, 1)))
