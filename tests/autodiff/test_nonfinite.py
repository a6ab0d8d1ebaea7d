"""first_nonfinite names the operation at which a computation leaves the finite numbers."""

import inspect
import math
import random
import warnings

import numpy as np
import pytest

import autodiff as ad
from autodiff import Scalars, Tensor, Value, first_nonfinite, scalars, tensor


@pytest.mark.parametrize(
    ("f", "args", "kind", "number", "parts"),
    [
        (lambda x: 2.0 * ad.log(x), (0.0,), "value", -np.inf, ["log(x) is -inf", "log of 0", "x = 0"]),
        (lambda x: ad.exp(x) * ad.exp(x), (400.0,), "value", np.inf, ["exp(x) · exp(x) is inf", "x = 400"]),
        (lambda x, y: x / (y - y) + x, (1.0, 2.0), "value", np.inf, ["x / (y - y) is inf", "div of 1, 0"]),
        (lambda x: ad.sqrt(x - 2.0), (1.0,), "value", np.nan, ["√(x - 2) is nan", "sqrt of -1"]),
        (lambda x: x * 2.0, (np.inf,), "value", np.inf, ["x is inf from the start"]),
        (lambda x: ad.sqrt(x), (0.0,), "derivative", np.inf, ["the derivative of √(x) by x is inf"]),
        (lambda x: (x * 1e200) * 1e200, (1e-300,), "gradient", np.inf, ["the gradient by x is inf"]),
    ],
)
def test_where_it_comes_from(f, args, kind, number, parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = first_nonfinite(f, *args)
    assert found.kind == kind
    assert found.number == number or (np.isnan(number) and np.isnan(found.number))
    assert all(part in str(found) for part in parts), str(found)


def test_it_is_the_first_and_not_one_of_its_heirs():
    found = first_nonfinite(lambda x: ad.tanh(ad.log(x) + 1.0) * ad.exp(-ad.log(x)), 0.0)
    assert found.node.op.name == "log"


def test_arrays_name_their_element():
    found = first_nonfinite(lambda W: np.sum(np.sqrt(W)), np.array([[1.0, 4.0], [-1.0, 9.0]]))
    assert "W[1,0] = -1" in str(found)
    found = first_nonfinite(lambda W: np.log(W), np.array([1.0, 0.0]))  # an array of outputs
    assert "W[1] = 0" in str(found)


@pytest.mark.parametrize("f", [lambda x: x * x, lambda x: ad.relu(x), lambda x: ad.log(x)])
def test_none_where_all_is_finite(f):
    assert first_nonfinite(f, 2.0) is None


def test_a_function_without_nodes_is_refused():
    with pytest.raises(TypeError, match="must return nodes"):
        first_nonfinite(lambda x: 3.0, 1.0)
    with pytest.raises(RuntimeError, match="mine"):  # an error of the function is its own
        first_nonfinite(lambda x: (_ for _ in ()).throw(RuntimeError("mine")), 1.0)


def test_the_error_state_is_as_before():
    before = np.geterr()
    first_nonfinite(lambda x: ad.log(x), 0.0)
    assert np.geterr() == before


def test_numbers_among_the_outputs():
    assert first_nonfinite(lambda x: [x * 2.0, 3.0], 1.0) is None
    found = first_nonfinite(lambda x, y: [x * y, math.nan], 1.0, 2.0)
    assert "an output is nan, and no node" in str(found)
    found = first_nonfinite(lambda X: [np.sum(X), X.data / 0.0], np.array([1.0, -1.0]))
    assert "an output is inf, and no node" in str(found)
    found = first_nonfinite(lambda W: np.where(W > 0, W, np.nan), scalars([1.0, -1.0]))
    assert "an output is nan, and no node" in str(found)


def test_nodes_as_arguments_are_taken_by_their_data():
    x = Value(0.0, "mine")
    assert "log of 0" in str(first_nonfinite(ad.log, x))
    assert x.grad == 0.0
    assert first_nonfinite(lambda W: np.sum(W), scalars(np.ones(3))) is None


# ---------------------------------------------------------------- arrays, numbers, arrays of Values
def at_one(x):
    """x, an array with one bad element among good ones, or that element as a number."""
    return {"float": x, "array": np.array([[0.75, 0.5], [x, 0.25]]), "scalars": scalars([0.75, x])}


FORMS = pytest.mark.parametrize("form", ["float", "array", "scalars"])

# f, where it goes wrong, the kind, the operation, its arguments there, words of the mend
CORNERS = [
    (lambda x: np.log(x), 0.0, "value", "log", (0.0,), ["np.log(x + eps)", "logits"]),
    (lambda x: np.log(x), -2.0, "value", "log", (-2.0,), ["not be negative"]),
    (lambda x: np.log1p(x) * 2.0, -1.0, "value", "log1p", (-1.0,), ["eps"]),
    (lambda x: np.sqrt(x - 0.125), -2.0, "value", "sqrt", (-2.125,), ["np.maximum(x, 0.0)"]),
    (lambda x: np.exp(x), 800.0, "value", "exp", (800.0,), ["subtract the maximum", "logaddexp", "softplus"]),
    (lambda x: 1.0 / (1.0 + np.exp(-x)), -800.0, "value", "exp", (800.0,), ["sigmoid"]),
    (lambda x: 3.0 / x, 0.0, "value", "div", (3.0, 0.0), ["x / (d + eps)", "np.where(d == 0, 1.0, d)"]),
    (lambda x: x / x, 0.0, "value", "div", (0.0, 0.0), ["divisor"]),
    (lambda x: np.reciprocal(x), 0.0, "value", "reciprocal", (0.0,), ["divisor"]),
    (lambda x: x**-2.0, 0.0, "value", "pow", (0.0, -2.0), ["divisor"]),
    (lambda x: x**0.3, -2.0, "value", "pow", (-2.0, 0.3), ["np.abs(x)"]),
    (lambda x: np.arcsin(x), 1.5, "value", "arcsin", (1.5,), ["np.clip(x, -1 + eps, 1 - eps)"]),
    (lambda x: np.arccosh(x + 1.0), -1.5, "value", "arccosh", (-0.5,), ["np.maximum(x, 1.0 + eps)"]),
    (lambda x: (x * 1e154) * (x * 1e154), 4.0, "value", "mul", (4e154, 4e154), ["keep the numbers smaller"]),
    (lambda x: np.sqrt(x), 0.0, "derivative", "sqrt", (0.0,), ["np.sqrt(x + eps)"]),
    (lambda x: np.cbrt(x), 0.0, "derivative", "cbrt", (0.0,), ["np.cbrt(x + eps)"]),
    (lambda x: x**0.5, 0.0, "derivative", "pow", (0.0, 0.5), ["(x + eps) ** p"]),
    (lambda x: np.arcsin(x), 1.0, "derivative", "arcsin", (1.0,), ["np.clip"]),
    (lambda x: np.sqrt(x) * 0.0, 0.0, "derivative", "sqrt", (0.0,), ["np.where(c, f(np.where(c, x, 1.0)), 0.0)"]),
]


@FORMS
@pytest.mark.parametrize(("f", "at", "kind", "operation", "arguments", "mends"), CORNERS)
def test_corners(form, f, at, kind, operation, arguments, mends):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = first_nonfinite(f, at_one(at)[form])
    assert (found.kind, found.operation) == (kind, operation)
    assert found.arguments == pytest.approx(arguments, rel=1e-15)
    assert type(found.node) is (Tensor if form == "array" else Value)
    assert found.index == ((1, 0) if form == "array" else ())
    assert not np.isfinite(found.number)
    assert all(word in found.mend for word in mends), found.mend
    assert str(found).splitlines()[-1] == f"  mend: {found.mend}"
    if form == "array":
        assert "at [1, 0], 1 of 4 elements" in found.message
        assert f"x[1,0] = {at:g}" in found.message


NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 1e-320, 1e-200, -1e200, 1e308, 800.0, -800.0, 1e5]


@pytest.mark.parametrize("row", ad.TABLE.values(), ids=str)
def test_it_answers_none_exactly_where_value_and_derivatives_are_finite(row):
    for a, b in zip(NUMBERS, [*NUMBERS[3:], *NUMBERS[:3]], strict=True):
        numbers = (a, b)[: row.arity]
        with np.errstate(all="ignore"):
            nodes = [Value(x) for x in numbers]
            y = row(*nodes)
            finite = all(map(math.isfinite, [y.data, *ad.adjoints(y).values()]))
        assert (first_nonfinite(row, *numbers) is None) == finite, numbers
        assert (first_nonfinite(row, *(np.array([0.5, x]) for x in numbers)) is None) <= finite, numbers


def test_the_branch_that_was_not_chosen():
    def f(X):
        return np.sum(np.where(X > 0.0, np.sqrt(X), 0.0))

    found = first_nonfinite(f, np.array([4.0, 0.0, 1.0]))
    assert (found.kind, found.operation, found.index) == ("derivative", "sqrt", (1,))
    assert "its upstream is 0, and 0 · inf is nan" in found.message
    assert "put a safe value inside" in found.mend
    with np.errstate(all="ignore"):
        assert np.isnan(ad.grad(f)(np.array([4.0, 0.0, 1.0]))[1])

    def mended(X):
        return np.sum(np.where(X > 0.0, np.sqrt(np.where(X > 0.0, X, 1.0)), 0.0))

    assert first_nonfinite(mended, np.array([4.0, 0.0, 1.0])) is None


def test_the_norm_at_zero():
    found = first_nonfinite(lambda X: np.sqrt(np.sum(X**2)), np.zeros(3))
    assert (found.kind, found.operation, found.arguments) == ("derivative", "sqrt", (0.0,))
    assert first_nonfinite(lambda X: np.sqrt(np.sum(X**2) + 1e-12), np.zeros(3)) is None


@pytest.mark.parametrize(
    ("f", "kind", "operation"),
    [
        (lambda X: np.sum(X @ X), "value", "matmul"),
        (lambda X: np.prod(X), "value", "prod"),
        (lambda X: np.sum(X) * 1e-300, "value", "sum"),
        (lambda X: np.sum((X * 1e-300) * 1e150) * 1e250, "gradient", "mul"),
        (lambda X: np.sum((X * 1e-300) @ np.full((2, 2), 1e200)) * 1e200, "gradient", "matmul"),
    ],
)
def test_whole_arrays_that_overflow(f, kind, operation):
    X = np.full((2, 2), 1e308 if operation == "sum" else 1e200)
    found = first_nonfinite(f, X)
    assert (found.kind, found.operation) == (kind, operation)
    assert "keep the numbers smaller" in found.mend


def test_a_sum_of_contributions_that_overflows():
    for x in (1e-3, np.array([1e-3])):
        found = first_nonfinite(lambda x: np.sum(x * 1e308 + x * 1e308), x)
        assert (found.kind, found.number) == ("gradient", np.inf)
        assert "sum is too large" in found.message


def test_derivatives_of_a_whole_matrix():
    found = first_nonfinite(lambda X: np.linalg.eigh(X)[1][0, 0], np.eye(2))
    assert (found.kind, found.operation) == ("derivative", "eigh")
    assert "equal" in found.mend


# ---------------------------------------------------------------- lines
def several_lines(x, y):
    first = x * y
    second = np.tanh(first)
    third = np.log(second - second)  # the line to be named
    return third + y


@pytest.mark.parametrize("args", [(0.5, 2.0), (np.ones(3), np.ones(3)), (scalars(np.ones(3)), 2.0)])
def test_the_line_of_the_user(args):
    found = first_nonfinite(lambda x, y: np.sum(several_lines(x, y)), *args)
    source, first = inspect.getsourcelines(several_lines)
    number = next(i for i, text in enumerate(source) if "to be named" in text)
    assert found.line == f"{__file__}:{first + number}"
    assert found.source == source[number].strip()
    assert f"at {found.line}: third = np.log" in str(found)


def test_the_line_of_a_derivative():
    def f(X):
        root = np.sqrt(X)
        return np.sum(root * 2.0)

    assert first_nonfinite(f, np.array([0.0])).source == "root = np.sqrt(X)"
    assert first_nonfinite(lambda x: f(x) * 1.0, 0.0).source == "root = np.sqrt(X)"


def test_an_argument_has_no_line():
    found = first_nonfinite(lambda x: x * 2.0, np.array([1.0, np.nan]))
    assert (found.line, found.source, found.index) == ("", "", (1,))
    assert "x is nan at [1], 1 of 2 elements from the start" in str(found)


def test_nothing_is_remembered_afterwards():
    numbers, init = tensor._numbers, Value.__init__
    for args in ((0.0,), (np.zeros(2),), (1.0,)):
        first_nonfinite(lambda x: np.sum(np.log(x)), *args)
    with pytest.raises(ZeroDivisionError):
        first_nonfinite(lambda x: 1 / 0, 1.0)
    assert tensor._numbers is numbers
    assert Value.__init__ is init


# ---------------------------------------------------------------- what f takes and gives
def test_nested_arguments_are_named_by_their_place():
    def loss(params, X):
        return np.sum(np.log(X @ params["W"][0] + params["b"]))

    found = first_nonfinite(loss, {"W": [np.zeros((2, 2))], "b": np.zeros(2)}, np.ones((3, 2)))
    assert "params['b'][0] = 0" in found.message
    found = first_nonfinite(lambda p: p["x"] / p["y"][1], {"x": 1.0, "y": (2.0, 0.0)})
    assert "p['x'] / p['y'][1] is inf" in found.message


def test_integers_where_f_needs_them():
    X, labels = np.array([[0.5, 0.0], [1.0, 2.0]]), np.array([1, 0])
    found = first_nonfinite(lambda X, labels: -np.mean(np.log(X[np.arange(2), labels])), X, labels)
    assert (found.operation, found.index) == ("log", (0,))
    found = first_nonfinite(lambda X, axis, name: np.log(np.sum(X, axis=axis) - 2.0), X, 1, "a name")
    assert "sum(X, axis=1)" in found.message
    assert first_nonfinite(lambda x, n: sum(x / (k + 1) for k in range(n)), 1.0, 3) is None
    found = first_nonfinite(lambda x, n: x**n, 0, -1)  # integers alone are numbers like others
    assert found.arguments == (0.0, -1.0)


def test_a_float_that_meets_an_array_becomes_a_tensor():
    found = first_nonfinite(lambda x: np.sum(np.exp(x * np.array([1.0, 1000.0]))), 2.0)
    assert type(found.node) is Tensor
    assert "exp of 2000" in found.message
    assert "x = 2" in found.message


def test_outputs_in_containers():
    found = first_nonfinite(lambda x: {"a": x * 2.0, "b": [np.log(x - x)]}, np.ones(2))
    assert (found.operation, found.count) == ("log", 2)
    with pytest.raises(TypeError, match=r"must return nodes; it takes a node \(Value or Tensor\), got str"):
        first_nonfinite(lambda x: [x, "text"], 1.0)


def test_an_infinite_constant_may_be_meant():
    def attention(S):
        masked = np.where(S > 0.5, S, -np.inf)
        e = np.exp(masked - np.max(masked, axis=1, keepdims=True))
        return np.sum(e / np.sum(e, axis=1, keepdims=True))

    found = first_nonfinite(attention, np.array([[0.4, 0.9], [0.2, 0.3]]))
    assert (found.operation, found.arguments, found.index) == ("sub", (-np.inf, -np.inf), (1, 0))
    assert "-inf came in by where" in found.message
    found = first_nonfinite(attention, np.array([[0.4, 0.9], [0.2, 0.7]]))
    assert "where was given the constant -inf" in found.message
    found = first_nonfinite(lambda S: np.sum(np.sqrt(attention(S) * S)), np.array([[0.0, 0.9], [0.2, 0.7]]))
    assert (found.kind, found.operation) == ("derivative", "sqrt")
    found = first_nonfinite(lambda S: np.sum(np.where(S > 0.5, S, np.nan)), np.array([0.4, 0.9]))
    assert "where was given the constant nan" in found.message


def test_nodes_and_arrays_of_nodes_as_arguments():
    X = Tensor([0.0, 1.0], "mine")
    found = first_nonfinite(lambda X: np.sum(np.log(X)), X)
    assert "X[0] = 0" in found.message
    assert not X.has_grad
    assert X.name == "mine"
    W = scalars([0.0, 1.0])
    found = first_nonfinite(lambda W, X: np.sum(np.log(W) * X), W, np.ones(2))
    assert type(found.node) is Value
    assert type(W) is Scalars
    assert W[0].name is None


def test_a_rule_of_the_users_own():
    cubic = ad.custom.custom_jvp(lambda x: x**3)
    cubic.defjvps(lambda t, y, x: t / x)  # wrong, and inf at 0
    found = first_nonfinite(lambda X: np.sum(cubic(X)), np.array([1.0, 0.0]))
    assert found.kind == "derivative"


# ---------------------------------------------------------------- planted anywhere
SAFE = [np.tanh, np.sin, lambda z: z * 0.5 + 0.25, ad.sigmoid, lambda z: z * z, lambda z: z[::-1] if z.ndim else z]
PLANTS = [
    ("log", lambda z: np.log(z - z), "value"),
    ("exp", lambda z: np.exp(z * z + 1e3), "value"),
    ("div", lambda z: z / (z - z), "value"),
    ("sqrt", lambda z: np.sqrt((z - z) * z), "derivative"),
]


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("seed", range(12))
def test_a_planted_operation_is_found_wherever_it_stands(seed, shape):
    draw = random.Random(seed)
    name, plant, kind = draw.choice(PLANTS)
    steps = [draw.choice(SAFE) for _ in range(8)]
    steps.insert(draw.randrange(9), plant)

    def f(x):
        for step in steps:
            x = step(x)
        return np.sum(x)

    found = first_nonfinite(f, np.full(shape, 0.7) if shape else 0.7)
    assert (found.operation, found.kind) == (name, kind)
    steps = [step for step in steps if step is not plant]
    assert first_nonfinite(f, np.full(shape, 0.7) if shape else 0.7) is None


def test_a_long_computation():
    def f(x):
        y = x
        for _ in range(10_000):
            y = y * 0.999 + x
        return np.sum(np.log(y - y))

    for x in (1.0, np.ones(2)):
        assert first_nonfinite(f, x).operation == "log"
