"""grad, jvp, vjp, jacobian, hessian, hvp: right to any order and in any nesting, over any tree of numbers."""

import functools
import gc
import operator
import threading
import weakref
from collections import namedtuple

import autograd
import autograd.numpy
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

import autodiff as ad
import nn
from autodiff import (
    MixedNodes,
    Tensor,
    Value,
    check_grad,
    custom_vjp,
    elementwise_grad,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    scalars,
    stop_gradient,
    transforms,
    value_and_grad,
    vjp,
)

EPS = np.finfo(float).eps
v = np.array([0.3, 0.7, -1.2])
A = np.array([[1.0, 0.5, -2.0], [0.25, -1.0, 0.75]])


def forward(f):
    return lambda x: jvp(f, (x,), (1.0,))[1]


def reverse(f):
    return lambda x: vjp(f, x)[1](1.0)[0]


DERIVATIVES = {"grad": grad, "jvp": forward, "vjp": reverse, "jacobian": jacobian, "elementwise_grad": elementwise_grad}


# --- known derivatives ---------------------------------------------------------------------------------------------

t = sympy.Symbol("t")
KNOWN = [
    (sympy.tanh(t), np.tanh),
    (1 / (1 + sympy.exp(-t)), ad.sigmoid),
    (sympy.log(1 + sympy.exp(t)), ad.softplus),
    (t**5, lambda x: x**5),
    (t ** sympy.Rational(5, 2), lambda x: x**2.5),
    (t**t, lambda x: x**x),
    (3**t, lambda x: 3.0**x),
    (sympy.sin(t) * sympy.exp(t) * t, lambda x: np.sin(x) * np.exp(x) * x),
    (sympy.sqrt(t) / (1 + t**2), lambda x: np.sqrt(x) / (1 + x**2)),
    (sympy.atan(t * t), lambda x: np.arctan(x * x)),
    (sympy.log(t) ** 2 / t, lambda x: np.log(x) ** 2 / x),
    (sympy.erf(t), ad.erf),
    (sympy.cos(sympy.sin(t)), lambda x: np.cos(np.sin(x))),
    (sympy.asinh(t) * sympy.cosh(t), lambda x: np.arcsinh(x) * np.cosh(x)),
]


@pytest.mark.parametrize("kind", ["Value", "Tensor"])
@pytest.mark.parametrize(("formula", "f"), KNOWN, ids=[str(formula) for formula, _ in KNOWN])
def test_first_to_third_derivatives_are_those_of_sympy(formula, f, kind):
    where = 0.7
    expected = [float(sympy.diff(formula, t, n).evalf(30, {t: sympy.Rational(7, 10)})) for n in range(4)]
    run = f if kind == "Value" else lambda x: np.sum(f(x * np.array([1.0])))
    # some hundred operations, each with a rounding, and sums that cancel
    close = functools.partial(pytest.approx, rel=1e-12, abs=1e-13)
    assert run(where) == close(expected[0])
    assert grad(run)(where) == close(expected[1])
    for a, b in ((grad, grad), (forward, grad), (grad, forward), (forward, forward), (reverse, jacobian)):
        assert a(b(run))(where) == close(expected[2])
    for a, b, c in (
        (grad, grad, grad), (forward, forward, forward), (forward, grad, grad), (grad, forward, reverse),
        (reverse, grad, forward), (jacobian, forward, grad),
    ):  # fmt: skip
        assert a(b(c(run)))(where) == close(expected[3])


# --- random functions ----------------------------------------------------------------------------------------------


def random_function(seed):
    """f(np, x), from vectors of 3 to one number: a random program, written with whichever NumPy it is given."""
    numbers = np.random.default_rng(seed)
    steps = [
        lambda np, a, b: np.tanh(a) * b,
        lambda np, a, b: np.sin(a) + b * b,
        lambda np, a, b: np.exp(-a * a) - b,
        lambda np, a, b: a / (2.0 + b * b),
        lambda np, a, b: np.dot(square, a) * np.sum(b),
        lambda np, a, b: np.concatenate([a[1:], b[:1]]),
        lambda np, a, b: np.where(a > b, a * b, b),
        lambda np, a, b: np.outer(a, b)[:, 0] + np.reshape(a, (1, 3)).T[:, 0],
        lambda np, a, b: np.cumsum(a) * np.mean(b),
        lambda np, a, b: np.sqrt(1.0 + a * a) - np.log(2.0 + b * b),
    ]
    square = numbers.normal(size=(3, 3)) / 2
    program = [(steps[numbers.integers(len(steps))], *numbers.integers(0, 100, 2)) for _ in range(6)]

    def f(np, x):
        found = [x]
        for step, i, j in program:
            found.append(step(np, found[i % len(found)], found[j % len(found)]))
        return found

    return f


SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_functions_against_autograd_and_against_themselves(seed):
    program = random_function(seed)
    numbers = np.random.default_rng(1000 + seed)
    x, dx, g = numbers.normal(size=(3, 3))
    f = lambda x: np.sum(program(np, x)[-1] * g)  # noqa: E731
    peer = lambda x: autograd.numpy.sum(program(autograd.numpy, x)[-1] * g)  # noqa: E731
    every = lambda x: np.stack(program(np, x))  # noqa: E731

    gradient, matrix = grad(f)(x), hessian(f)(x)
    scale = 1.0 + np.max(np.abs(matrix))
    np.testing.assert_allclose(gradient, autograd.grad(peer)(x), rtol=1e-12, atol=1e-12 * scale)

    y, dy = jvp(every, (x,), (dx,))
    same, pullback = vjp(every, x)
    seed_of_rows = numbers.normal(size=y.shape)
    np.testing.assert_array_equal(y, same)
    assert np.sum(seed_of_rows * dy) == pytest.approx(
        np.sum(pullback(seed_of_rows)[0] * dx), rel=1e-12, abs=1e-12 * scale
    )

    close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11 * scale)
    close(matrix, matrix.T)
    close(matrix @ dx, hvp(f, x, dx))
    close(matrix @ dx, grad(lambda x: jvp(f, (x,), (dx,))[1])(x))  # reverse over forward
    close(matrix @ dx, grad(lambda x: np.sum(grad(f)(x) * dx))(x))  # reverse over reverse
    close(matrix, jacobian(grad(f))(x))
    step = 1e-5  # the error of a central difference is about step**2 and EPS / step, times higher derivatives
    differences = [(grad(f)(x + step * unit) - grad(f)(x - step * unit)) / (2 * step) for unit in np.eye(3)]
    np.testing.assert_allclose(matrix, differences, atol=1e-7 * scale**2)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4))
def test_jacobians_are_the_same_by_rows_and_by_columns(seed, n, m):
    numbers = np.random.default_rng(seed)
    W, x = numbers.normal(size=(m, n)), numbers.normal(size=n)
    f = lambda x: np.tanh(W @ x) * np.sum(x)  # noqa: E731
    y = np.tanh(W @ x)
    expected = (1 - y**2)[:, None] * W * np.sum(x) + y[:, None]
    np.testing.assert_allclose(jacobian(f)(x), expected, rtol=1e-12, atol=1e-12)
    by_columns = np.stack([jvp(f, (x,), (unit,))[1] for unit in np.eye(n)], axis=1)
    np.testing.assert_allclose(jacobian(f)(x), by_columns, rtol=1e-12, atol=1e-12)


def test_tall_jacobians_sweep_forwards(monkeypatch):
    sweeps = []
    for name in ("pulled", "pushed"):
        real = getattr(transforms.Run, name)
        monkeypatch.setattr(
            transforms.Run, name, lambda *args, _real=real, _name=name: sweeps.append(_name) or _real(*args)
        )
    jacobian(lambda x: x[0] * np.arange(5.0) + x[1])(np.ones(2))
    assert sweeps == ["pushed"] * 2
    sweeps.clear()
    jacobian(lambda x: np.stack([np.sum(x), x[0]]))(np.ones(5))
    assert sweeps == ["pulled"] * 2


def test_jacobians_over_trees():
    f = lambda p: {"y": np.outer(p["a"], p["b"]), "z": p["c"] * p["a"]}  # noqa: E731
    p = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0, 5.0]), "c": 2.0}
    found = jacobian(f)(p)
    np.testing.assert_array_equal(found["y"]["a"], np.einsum("ik,j->ijk", np.eye(2), p["b"]))
    np.testing.assert_array_equal(found["y"]["b"], np.einsum("i,jk->ijk", p["a"], np.eye(3)))
    np.testing.assert_array_equal(found["y"]["c"], np.zeros((2, 3)))
    np.testing.assert_array_equal(found["z"]["a"], 2.0 * np.eye(2))
    np.testing.assert_array_equal(found["z"]["c"], p["a"])
    second = hessian(lambda p: np.sum(f(p)["y"]) * p["c"])(p)
    np.testing.assert_array_equal(second["a"]["b"], np.full((2, 3), 2.0))
    np.testing.assert_array_equal(second["b"]["c"], np.full(3, 3.0))
    assert second["c"]["c"] == 0.0
    assert hessian(lambda x: x[0] ** 2 * x[1])([2.0, 3.0]) == [[6.0, 4.0], [4.0, 0.0]]
    assert hessian(lambda x: x[0] * x[1][0])((2.0, [3.0])) == ((0.0, [1.0]), [(1.0, [0.0])])


# --- perturbation confusion ----------------------------------------------------------------------------------------

x0 = 3.0
NESTED = {
    # d/dx (x * d/dy (x + y)) is 1, and 2 where the two are confused (Siskind and Pearlmutter, 2005)
    "x d(x + y)": (lambda D, E: D(lambda x: x * E(lambda y: x + y)(2.0)), 1.0),
    "x d(x y)": (lambda D, E: D(lambda x: x * E(lambda y: x * y)(2.0)), 2 * x0),
    "d(x y y)": (lambda D, E: D(lambda x: E(lambda y: x * y * y)(2.0)), 4.0),
    "at x": (lambda D, E: D(lambda x: E(lambda y: x * y * y)(x)), 4 * x0),
    "x not used": (lambda D, E: D(lambda x: E(lambda y: y * y)(2.0) * x), 4.0),
    "y not used": (lambda D, E: D(lambda x: E(lambda y: x * x)(2.0) + x), 1.0),
    "thrice": (lambda D, E: D(lambda x: x * E(lambda y: y * D(lambda z: x * y * z)(1.0))(x)), 6 * x0**2),
    "closure out of the inside": (
        lambda D, E: D(lambda x: (lambda g: g(lambda y: x * y)(2.0) + g(lambda y: y * y)(x))(E)),
        1.0 + 2.0,
    ),
    "curried": (lambda D, E: D(lambda x: E((lambda a: lambda y: a * y**3)(x))(x) * 1.0), 9 * x0**2),
}


@pytest.mark.parametrize("kind", ["Value", "Tensor", "Tensor outside", "Tensor inside"])
@pytest.mark.parametrize("inner", [grad, forward, reverse])
@pytest.mark.parametrize("outer", [grad, forward, reverse])
@pytest.mark.parametrize(("nested", "expected"), NESTED.values(), ids=NESTED)
def test_nested_differentiation_confuses_no_variables(nested, expected, outer, inner, kind):
    def of_arrays(transform):
        return lambda f: transform(lambda x: np.sum(f(x) * np.array([1.0])))

    D = of_arrays(outer) if kind in ("Tensor", "Tensor outside") else outer
    E = of_arrays(inner) if kind in ("Tensor", "Tensor inside") else inner
    assert nested(D, E)(x0) == pytest.approx(expected, rel=4 * EPS)


def test_an_inner_derivative_of_arrays_inside_one_of_floats():
    f = lambda x: np.sum(grad(lambda a: np.sum(x * a**3))(v) * v)  # noqa: E731
    assert grad(f)(2.0) == pytest.approx(np.sum(3 * v**3), rel=1e-15)
    assert grad(grad(lambda x: x * f(x)))(2.0) == pytest.approx(2 * np.sum(3 * v**3), rel=1e-15)
    g = lambda a: grad(lambda x: x**2 * np.sum(a))(3.0) * a[0]  # noqa: E731
    np.testing.assert_allclose(grad(g)(v), 6 * np.array([np.sum(v) + v[0], v[0], v[0]]), rtol=1e-14)


def test_a_gradient_step_inside_is_differentiated():
    """The derivative of where gradient descent ends by where it begins, and by the step."""

    def after(x, rate):
        for _ in range(5):
            x = x - rate * grad(lambda y: (y * y - 2.0) ** 2)(x)
        return x

    assert check_grad(lambda x: after(x, 0.05), 1.3, claimed=grad(after)(1.3, 0.05))
    assert check_grad(lambda rate: after(1.3, rate), 0.05, claimed=grad(after, 1)(1.3, 0.05))


def test_the_inner_result_is_a_number_where_nothing_outside_depends_on_it():
    seen = []

    def f(x):
        seen.append(grad(lambda y: y * y)(3.0))
        seen.append(value_and_grad(lambda y: np.sum(y * A), has_aux=False)(2.0)[1])
        return x * seen[0]

    assert grad(f)(2.0) == 6.0
    assert [type(found) for found in seen] == [float, float]


def test_arguments_without_leaves_keep_what_f_depends_on():
    assert grad(lambda x: value_and_grad(lambda p: np.sum(x * x))({})[0] * 1.0)(v).tolist() == (2 * v).tolist()
    assert grad(lambda x: vjp(lambda: x * x)[0])(3.0) == 6.0
    assert grad(lambda x: jvp(lambda: x * x, (), ())[0])(3.0) == 6.0


def test_a_pullback_is_linear_inside_another_transform_and_called_later():
    _, pullback = vjp(lambda x: x**3, 2.0)
    assert grad(lambda g: pullback(g)[0] * g)(5.0) == 2 * 12.0 * 5.0
    _, pullback = vjp(lambda x: np.sin(x), v)
    np.testing.assert_allclose(jacobian(lambda g: pullback(g)[0])(np.ones(3)), np.diag(np.cos(v)), rtol=1e-15)
    assert type(pullback(Tensor(v))[0]) is Tensor
    first, second = pullback(np.ones(3))[0], pullback(np.ones(3))[0]
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, second)


def test_a_tangent_may_be_a_node():
    assert grad(lambda dx: jvp(lambda x: x**3, (2.0,), (dx,))[1] ** 2)(3.0) == 2 * 12.0 * 12.0 * 3.0
    found = grad(lambda dx: np.sum(jvp(np.sin, (v,), (dx,))[1]))(np.ones(3))
    np.testing.assert_array_equal(found, np.cos(v))
    assert type(jvp(lambda x: 2.0 * x, (1.0,), (Value(3.0),))[1]) is Value


def test_a_node_in_two_arguments_is_two_variables():
    assert grad(lambda x: grad(lambda a, b: a * b * b, (0, 1))(x, x)[1])(3.0) == 12.0
    x = Tensor(v)
    first, second = grad(lambda a, b: np.sum(a * b * b), (0, 1))(x, x)
    np.testing.assert_array_equal(first.data, v * v)
    np.testing.assert_array_equal(second.data, 2 * v * v)


# --- arguments and results -----------------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")


def test_gradients_have_the_tree_the_shapes_and_the_precision_of_the_arguments():
    tree = {"a": [1.0, (np.float32(2.0), None)], "b": Point(v, np.ones((2, 2), np.float32)), "c": np.array(3.0), "n": 2}

    def f(p, scale=1.0):
        return scale * (p["a"][0] * p["a"][1][0] + np.sum(p["b"].x) * p["n"] + np.sum(p["b"].y) * p["c"])

    found = grad(f)(tree, scale=2.0)
    assert trees_of(found) == trees_of(tree)
    assert (found["a"][0], found["a"][1], found["n"]) == (4.0, (2.0, None), 2 * np.sum(v))
    assert [type(x) for x in (found["a"][0], found["a"][1][0], found["n"])] == [float, np.float32, float]
    assert type(found["b"]) is Point
    assert found["b"].y.dtype == np.float32
    np.testing.assert_array_equal(found["b"].x, [4.0, 4.0, 4.0])
    assert type(found["c"]) is np.ndarray
    assert found["c"] == 8.0


def trees_of(tree):
    leaves, structure = ad.trees.flatten(tree)
    return structure, [np.shape(leaf) for leaf in leaves]


@pytest.mark.parametrize(
    ("x", "expected", "kind"),
    [
        (3.0, 6.0, float), (3, 6.0, float), (np.float64(3.0), 6.0, float), (np.float32(3.0), 6.0, np.float32),
        (np.array(3.0), 6.0, np.ndarray), (np.array([3, 4]), [6.0, 8.0], np.ndarray), (Value(3.0), 6.0, Value),
        (Tensor([3.0]), [6.0], Tensor), (np.zeros((0, 2)), np.zeros((0, 2)), np.ndarray), (np.int64(3), 6.0, float),
        (np.array([3.0, 4.0], dtype=object), [6.0, 8.0], np.ndarray), (scalars([3.0]), [6.0], type(scalars([1.0]))),
        (np.float16(3.0), 6.0, np.float16), (np.broadcast_to(3.0, (2, 2)), np.full((2, 2), 6.0), np.ndarray),
        (np.asfortranarray(np.ones((2, 2)) * 3.0)[:, ::-1], np.full((2, 2), 6.0), np.ndarray),
    ],
)  # fmt: skip
def test_results_are_of_the_kind_that_came(x, expected, kind):
    found = grad(lambda x: np.sum(x * x))(x)
    assert type(found) is kind
    np.testing.assert_array_equal(getattr(found, "data", found) if kind is not np.ndarray else found, expected)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: x, 2.0, 1.0),
        (lambda x: 3.0, 2.0, 0.0),
        (lambda x: 3, v, np.zeros(3)),
        (lambda x: np.sum(v), v, np.zeros(3)),
        (lambda x: stop_gradient(x) * x, 2.0, 2.0),
        (lambda x: sum(i * x for i in range(4)), 2.0, 6.0),
        (lambda x: x[0] * x[1], [2.0, 3.0], [3.0, 2.0]),
        (lambda x: np.array([x, x * x])[1], 2.0, 4.0),
        (lambda x: np.sum(np.array([[x[0], 1.0], [x[1], x[0]]]) @ np.ones(2)), v, np.array([2.0, 1.0, 0.0])),
        (lambda x: np.sum(np.array([x, x * x]) * np.array([1.0, 2.0])), 2.0, 9.0),
        (lambda x: scalars([x, 2.0 * x]).sum(), 2.0, 3.0),
        (lambda x: x * np.ones((1, 1)), 2.0, 1.0),
        (functools.partial(lambda a, x: a * x, 5.0), 2.0, 5.0),
        (np.tanh, 0.0, 1.0),
        (lambda x: x * x if x > 1.0 else x, 2.0, 4.0),
        (lambda x: x * Value(4.0), 2.0, 4.0),
        (lambda x: x.sum() * x.reshape(1)[0], np.float64(2.0), 4.0),
        (lambda x: x * np.sum(Value(4.0) * v), 2.0, np.sum(4.0 * v)),
        (lambda x: np.sum(x * Tensor(v)), 2.0, np.sum(v)),
        (lambda xs: (xs.append(5.0), xs[0] * xs[1])[1], [2.0, 3.0], [3.0, 2.0]),
    ],
)
def test_functions_of_many_kinds(f, x, expected):
    found = grad(f)(x)
    assert trees_of(found) == trees_of(expected)
    np.testing.assert_allclose(found, expected, rtol=4 * EPS)


def test_a_model_of_values_inside():
    model = nn.MLP(2, [4, 1], seed=3)
    parameters = [p.grad for p in model.parameters()]
    f = lambda x: model([x, 0.5])  # noqa: E731
    assert check_grad(lambda x: f(x).data, 0.7, claimed=grad(f)(0.7))
    assert check_grad(lambda x: grad(f)(x), 0.7, claimed=grad(grad(f))(0.7))
    assert [p.grad for p in model.parameters()] == parameters  # a transform writes no grad


def test_methods_callable_objects_and_names():
    class Quadratic:
        def __init__(self, a):
            self.a = a

        def __call__(self, x):
            return self.a * x * x

        def value(self, x):
            return self(x)

    assert grad(Quadratic(3.0))(2.0) == grad(Quadratic(3.0).value)(2.0) == 12.0
    assert grad(Quadratic(3.0).value).__name__ == "grad_of_value"
    assert grad(functools.partial(np.sum)).__name__ == "grad_of_sum"


def test_argnums():
    f = lambda a, b, c=1.0: a * b * b * c  # noqa: E731
    assert grad(f, 1)(2.0, 3.0) == 12.0
    assert grad(f, (0,))(2.0, 3.0) == (9.0,)
    assert grad(f, (1, 0))(2.0, 3.0, c=2.0) == (24.0, 18.0)
    assert grad(f, [0, -1])(2.0, 3.0) == (9.0, 12.0)
    assert grad(f, np.int64(-1))(2.0, 3.0) == 12.0
    assert grad(f, ())(2.0, 3.0) == ()
    assert hessian(f, (0, 1))(2.0, 3.0) == ((0.0, 6.0), (6.0, 4.0))


def test_aux_is_handed_through():
    word = object()
    f = lambda x: (x * x, {"word": word, "y": x + 1.0, "array": v})  # noqa: E731
    gradient, aux = grad(f, has_aux=True)(3.0)
    assert (gradient, aux["y"], aux["word"]) == (6.0, 4.0, word)
    assert aux["array"] is v
    assert value_and_grad(f, has_aux=True)(3.0)[0][0] == 9.0
    assert jvp(f, (3.0,), (1.0,), has_aux=True)[2]["y"] == 4.0
    assert vjp(f, 3.0, has_aux=True)[2]["y"] == 4.0
    assert jacobian(f, has_aux=True)(3.0)[1]["y"] == 4.0
    assert hessian(f, has_aux=True)(3.0)[0] == 2.0
    assert grad(lambda x: grad(f, has_aux=True)(x)[1]["y"] * x)(3.0) == 7.0  # a node inside
    assert grad(lambda x: grad(lambda y: (y, x * x), has_aux=True)(1.0)[1])(3.0) == 6.0


def arrays_in(tree):
    return [leaf for leaf in ad.trees.flatten(tree)[0] if isinstance(leaf, np.ndarray)]


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: x,
        lambda x, w: (x, x),
        lambda x, w: {"a": x[::-1], "b": x.reshape(3, 1), "c": x},
        lambda x, w: (np.sin(x), x + w, w),
        lambda x, w: (CONSTANT, x),
        lambda x, w: np.broadcast_to(np.sum(x), (2, 2)),
        lambda x, w: x + 0.0 * w,
        lambda x, w: (x.T, np.exp(x), np.exp(x)),
    ],
)
def test_results_are_fresh_arrays_that_share_nothing(f):
    x, w, dx, dw = (np.array(v) for _ in range(4))
    y, pullback = vjp(f, x, w)
    seed = ad.trees.tree_map(np.ones_like, y)
    moved = jvp(f, (x, w), (dx, dw))
    pulled = pullback(seed), pullback(seed)
    summed = value_and_grad(lambda x, w: sum(np.sum(leaf) for leaf in ad.trees.flatten(f(x, w))[0]), (0, 1))(x, w)
    results = arrays_in([y, moved, pulled, summed])
    others = [x, w, dx, dw, CONSTANT, *arrays_in(seed)]
    for i, result in enumerate(results):
        assert result.flags.writeable
        assert not any(np.shares_memory(result, other) for other in (*others, *results[:i]))
        result += 1.0
    np.testing.assert_array_equal(x, v)
    np.testing.assert_allclose(arrays_in(pullback(seed))[0], arrays_in(pulled)[0] - 1.0, atol=4 * EPS)


CONSTANT = np.ones(3)


def test_a_pullback_does_not_mind_what_becomes_of_the_arguments():
    x = np.array(v)
    _, pullback = vjp(lambda x: np.sum(x * x), x)
    x[...] = 0.0
    np.testing.assert_array_equal(pullback(1.0)[0], 2 * v)


def test_dicts_of_tangents_are_matched_by_key():
    f = lambda p: 10.0 * p["a"] + p["b"]  # noqa: E731
    assert jvp(f, ({"a": 1.0, "b": 2.0},), ({"b": 1.0, "a": 0.0},))[1] == 1.0
    (pulled,) = vjp(lambda x: {"a": 10.0 * x, "b": x}, 1.0)[1]({"b": 1.0, "a": 0.0})
    assert pulled == 1.0


def test_comparisons_are_constants():
    y, pullback = vjp(lambda x: x > 0.5, v)
    assert y.tolist() == [False, True, False]
    np.testing.assert_array_equal(pullback(np.ones(3))[0], np.zeros(3))
    assert jvp(lambda x: (x > 0.5, x), (0.7,), (1.0,)) == ((True, 0.7), (0.0, 1.0))


def test_no_grad_is_written():
    x, w = Tensor(v), Value(2.0)
    grad(lambda x: np.sum(x * x))(x)
    hessian(lambda w: w * w)(w)
    grad(lambda y: np.sum(x * y))(v)
    assert not x.has_grad
    assert w.grad is ad.NO_GRAD


# --- errors --------------------------------------------------------------------------------------------------------


def loss(x, y=1.0):
    return np.sum(x * y)


ERRORS = {
    "vector": (
        lambda: grad(lambda x: 2.0 * x)(v),
        TypeError,
        r"grad of <lambda>: f returned an array of shape \(3,\).*np.sum",
    ),
    "tuple": (lambda: grad(lambda x: (x, v))(1.0), TypeError, r"returned tuple of shapes \(\(\), \(3,\)\)"),
    "None": (lambda: grad(lambda x: None)(1.0), TypeError, "returned None"),
    "string out": (lambda: grad(lambda x: "y")(1.0), TypeError, "the result is str 'y', and has no derivative"),
    "nested out": (lambda: jvp(lambda x: {"a": [x, "y"]}, (1.0,), (1.0,)), TypeError, r"result\['a'\]\[1\] is str"),
    "bool out": (lambda: grad(lambda x: x > 1.0)(2.0), TypeError, "grad of <lambda>: f returned True"),
    "generator": (lambda: grad(lambda x: (x for _ in range(3)))(1.0), TypeError, "generator"),
    "string in": (lambda: grad(loss)("x"), TypeError, "grad of loss: argument 0 is str 'x'.*argnums"),
    "complex": (lambda: grad(loss)(1j), TypeError, "argument 0 is complex 1j"),
    "complex array": (
        lambda: jvp(loss, (v * 1j,), (v,)),
        TypeError,
        "jvp of loss: argument 0 is an array of complex128",
    ),
    "nested in": (
        lambda: vjp(loss, 1.0, {"W": [1.0, "b"]}),
        TypeError,
        r"vjp of loss: argument 1\['W'\]\[1\] is str 'b'",
    ),
    "None elements": (lambda: grad(loss)(np.array([1.0, None])), TypeError, "argument 0 is an array of object"),
    "argnums": (lambda: grad(loss, 2)(1.0, 2.0), TypeError, "grad of loss by argument 2, .* 2 positional argument"),
    "keyword": (lambda: grad(loss)(x=1.0), TypeError, "0 positional argument.*by keyword is not differentiated"),
    "argnums twice": (lambda: grad(loss, (0, -2))(1.0, 2.0), ValueError, r"names an argument twice: \(0, -2\)"),
    "argnums word": (lambda: grad(loss, "x")(1.0), TypeError, "argnums is an integer or a tuple of them, got 'x'"),
    "no function": (lambda: hessian(3.0), TypeError, "hessian takes a function, got float 3.0"),
    "no pair": (lambda: grad(loss, has_aux=True)(1.0), TypeError, "with has_aux=True f returns a pair"),
    "primals": (lambda: jvp(loss, v, v), TypeError, r"jvp takes primals as a tuple.*got ndarray: write \(x,\)"),
    "tangents": (lambda: jvp(loss, (v,), (v, v)), TypeError, "one tangent per primal, got 2 for 1"),
    "tangent shape": (
        lambda: jvp(loss, (v, 1.0), (v[:2], 1.0)),
        ValueError,
        r"jvp of loss: the tangent of the argument 0 has the shape \(3,\), got \(2,\)",
    ),
    "tangent tree": (
        lambda: jvp(lambda p: loss(p["a"]), ({"a": v},), (v,)),
        TypeError,
        "tangent of the argument 0.*keys 'a', got ndarray",
    ),
    "tangent None": (lambda: jvp(loss, (v,), (None,)), TypeError, "tangent of the argument 0 is NoneType"),
    "tangent complex": (lambda: jvp(loss, (v,), (v * 1j,)), TypeError, "is an array of complex128"),
    "cotangent": (
        lambda: vjp(np.sin, v)[1](1.0),
        ValueError,
        r"the cotangent of the result has the shape \(3,\), got \(\)",
    ),
    "cotangent tree": (lambda: vjp(lambda x: (x, x), 1.0)[1]((1.0,)), TypeError, "expected a tuple of 2, got tuple"),
    "cotangent Value": (lambda: vjp(np.sin, v)[1](scalars(v)), MixedNodes, "do not mix"),
    "mixed": (lambda: grad(lambda x: np.sum(x * Value(1.0)))(v), MixedNodes, "do not mix"),
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_name_the_function_the_argument_and_what_came(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert caught.value.__context__ is None or caught.value.__suppress_context__ or error is not TypeError
    assert transforms._active.runs == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_in_f_leaves_nothing_behind(error):
    def f(x):
        if isinstance(x, Tensor):
            grad(g)(x)
        return np.sum(x * v)

    def g(y):
        raise error("from inside")

    for transform in (grad, jacobian, hessian, lambda f: lambda x: jvp(f, (x,), (1.0,)), lambda f: lambda x: vjp(f, x)):
        with pytest.raises(error, match="from inside") as caught:
            transform(f)(2.0)
        assert caught.value.__context__ is None  # the run that began with Values is not in sight
        assert transforms._active.runs == []
    assert type(grad(lambda x: x * x)(2.0)) is float


def test_a_float_that_meets_an_array_starts_again_once():
    kinds = []

    def f(x):
        kinds.append(type(x))
        return np.sum(x * x * v)

    assert grad(f)(2.0) == pytest.approx(4.0 * np.sum(v), rel=1e-15)
    assert kinds == [Value, Tensor]
    kinds.clear()
    grad(grad(grad(f)))(2.0)
    assert kinds == [Value, Tensor]  # the outermost starts again, and the others with it
    kinds.clear()
    grad(grad(lambda x: (kinds.append(type(x)), x * x)[1]))(2.0)
    assert kinds == [Value]


def test_threads_do_not_see_one_another():
    wrong = []
    started = threading.Barrier(4)

    def work(a):
        started.wait()
        for _ in range(15):
            f = lambda x: a * x * grad(lambda y: np.sum(x * y * y * CONSTANT))(x)  # noqa: E731
            found = grad(f)(2.0)  # 6 a x^3
            if abs(found - 18.0 * a * 4.0) > 1e-9:
                wrong.append((a, found))

    threads = [threading.Thread(target=work, args=(float(a),)) for a in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_inside_a_transform_have_transforms_of_their_own():
    found = []

    def f(x):
        thread = threading.Thread(target=lambda: found.append(grad(lambda y: y * y)(3.0)))
        thread.start()
        thread.join()
        return x

    grad(f)(1.0)
    assert found == [6.0]


@pytest.mark.parametrize("x", [2.0, np.array([2.0])], ids=["Value", "Tensor"])
def test_a_thread_may_differentiate_with_nodes_of_a_transform_around_it(x):
    def f(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(grad(lambda y: np.sum(x * y * y))(3.0)))
        thread.start()
        thread.join()
        return np.sum(x * found[0])  # 6 x^2

    assert grad(f)(x) == 24.0
    assert not transforms._everywhere


# --- large and deep ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Value", "Tensor"])
def test_deep_graphs(kind):
    n = 100_000 if kind == "Value" else 20_000

    def f(x):
        x = x * (1.0 if kind == "Value" else CONSTANT[0:1])
        for _ in range(n):
            x = x + 1e-3
        return np.sum(x * x) if kind == "Tensor" else x * x

    expected = 2 * (2.0 + n * 1e-3)
    assert grad(f)(2.0) == pytest.approx(expected, rel=1e-9)
    assert jvp(f, (2.0,), (1.0,))[1] == pytest.approx(expected, rel=1e-9)
    if kind == "Value":
        n //= 5
        assert grad(grad(f))(2.0) == pytest.approx(2.0, rel=1e-9)


def test_an_inner_transform_does_not_walk_the_graph_outside(monkeypatch):
    walked = []
    order = ad.value.order
    monkeypatch.setattr(ad.value, "order", lambda *outputs: walked.append(len(found := order(*outputs))) or found)

    def f(x):
        for _ in range(50):
            x = x - 0.01 * grad(lambda y: y * y * y)(x)
        return x

    grad(f)(1.0)
    assert max(walked[:-1]) < 10  # by the alias of x, and no further
    assert walked[-1] > 300


def test_dropping_the_results_frees_everything():
    gc.collect()
    gc.disable()
    try:
        watched = []

        def f(p):
            y = np.tanh(p["W"] @ p["x"])
            watched.append(weakref.ref(y))
            return np.sum(y * y) * p["c"]

        p = {"W": A, "x": v, "c": 2.0}
        value_and_grad(f)(p)
        hessian(f)(p)
        jvp(f, (p,), (p,))
        kept = vjp(f, p)
        assert watched[-1]() is not None
        del kept
        grad(lambda x: f({"W": x * np.ones((2, 3)), "x": v, "c": x}))(2.0)
        assert [ref() for ref in watched] == [None] * len(watched)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_the_reverse_sweep_frees_the_graph_as_it_goes_down():
    """A gradient's peak of memory: the graph, and not its adjoints besides."""
    alive, most = [], []

    @custom_vjp
    def watch(x):
        return x

    def back(_, g):
        most.append(sum(ref() is not None for ref in alive))
        return (g,)

    watch.defvjp(lambda x: (x, None), back)

    def f(x):
        for _ in range(10):
            x = watch(np.sin(x))
            alive.append(weakref.ref(x))
        return np.sum(x)

    grad(f)(v)
    assert most == sorted(most, reverse=True)
    assert most[-1] <= 2


# --- stop_gradient and hvp -----------------------------------------------------------------------------------------


def test_stop_gradient_on_trees_nodes_and_numbers():
    x = Value(2.0, "x")
    cut = stop_gradient({"a": [x * x, 3.0], "b": Tensor(v) * 2.0, "c": scalars([1.0]) * x, "d": None})
    assert (cut["a"][0].op, cut["a"][0].data, cut["a"][1]) == (None, 4.0, 3.0)
    assert cut["b"].op is None
    assert cut["c"][0].op is None
    assert grad(grad(lambda x: x * stop_gradient(x * x)))(3.0) == 0.0
    assert stop_gradient(x).name == "x"


def test_hvp_over_trees():
    f = lambda p, c: p["a"] ** 2 * p["b"] * c  # noqa: E731
    p, dp = {"a": 2.0, "b": 3.0}, {"b": 0.0, "a": 1.0}
    assert hvp(f, (p, 5.0), (dp, 0.0)) == ({"a": 30.0, "b": 20.0}, 12.0)
    assert hvp(lambda p: f(p, 5.0), p, dp) == {"a": 30.0, "b": 20.0}


def test_a_planted_error_is_found_by_the_duality_of_the_two_modes():
    """What the tests above stand on: a sweep that loses a contribution does not go unnoticed."""
    _, dy = jvp(lambda x: x * np.sin(x), (v,), (CONSTANT,))
    (pulled,) = vjp(lambda x: x * np.sin(x), v)[1](CONSTANT)
    (lossy,) = vjp(lambda x: x * np.sin(stop_gradient(x)), v)[1](CONSTANT)
    assert np.sum(pulled) == pytest.approx(np.sum(dy), rel=1e-14)
    assert np.sum(lossy) != pytest.approx(np.sum(dy), rel=1e-2)


# --- what others hold stays as it is, and what others may want stays a node -----------------------------------------


def test_a_recorded_rule_may_keep_the_upstream_as_its_constant():
    row = ad.primitive(
        "_square_and_more", lambda a, b: a + b * b, lambda y, a, b: 1.0, lambda y, a, b: 2.0 * b,
        array=lambda a, b: a + b * b, formula="a + b * b",
    )  # fmt: skip
    try:
        c, x = np.array([5.0, 7.0, 11.0]), np.array([1.0, 2.0, 3.0])
        slope = grad(lambda x: np.sum(row(c * x, x)))
        assert np.array_equal(grad(lambda x: np.sum(slope(x)))(x), [2.0, 2.0, 2.0])
    finally:
        del ad.TABLE["_square_and_more"]


@pytest.mark.parametrize("keyword", [False, True])
def test_a_node_beside_the_chosen_argument_keeps_its_gradient(keyword):
    W = Tensor([1.0, 2.0, 3.0])
    slope = grad(lambda x, w: np.sum(x**2 * w**2))
    x = np.array([1.0, 1.0, 2.0])
    found = slope(x, w=W) if keyword else slope(x, W)
    (np.sum(found**2) + np.sum(W)).backward()
    assert np.array_equal(W.grad, [17.0, 129.0, 1729.0])


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_refused_as_an_argument():
    with pytest.raises(TypeError, match=r"np\.asarray"):
        grad(lambda x: np.sum(x * x))(np.matrix([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    "zero",
    [0, 0.0, np.float64(0), np.float32(0), np.array(0.0), np.zeros(3), np.zeros((3,), np.float32), [0.0, 0.0, 0.0]],
)
def test_a_maximum_with_zeros_of_any_kind_is_relu(zero):
    for f in (lambda z: np.sum(np.maximum(zero, z)), lambda z: np.sum(np.maximum(z, zero))):
        assert np.array_equal(grad(f)(np.array([-1.0, 0.0, 2.0])), [0.0, 0.0, 1.0])
    wider = grad(lambda z: np.sum(np.maximum(np.zeros((2, 3)), z)))(np.array([-1.0, 0.0, 2.0]))
    assert np.array_equal(wider, [0.0, 1.0, 2.0])  # zeros that make the result larger are another operand: ties split


# --- code that writes in place --------------------------------------------------------------------------------------


def reused_buffer(w):
    buffer, total = np.zeros(3), 0.0
    for t in range(4):
        buffer[:] = np.sin(np.arange(3) + t)
        total = total + np.tanh(w @ buffer)
    return total


def reused_index(w):
    at, total = np.array([0, 1]), 0.0
    for _ in range(2):
        total = total + np.sum(w[at] ** 2)
        at += 1
    return total


def reused_mask(w):
    mask, total = np.zeros(3, bool), 0.0
    for t in range(3):
        mask[t] = True
        total = total + np.sum(w[mask] * w[0])
    return total


def scaled_afterwards(w):
    c = np.array([1.0, 2.0, 3.0])
    y = np.sum(w**2 * c)
    c *= 100.0
    return y


@pytest.mark.parametrize("f", [reused_buffer, reused_index, reused_mask, scaled_afterwards])
def test_a_constant_may_be_written_into_once_it_was_used(f):
    w = np.array([0.1, 0.2, 0.3])
    assert check_grad(f, w, claimed=grad(f)).verdict == "agree"
    direction = np.array([1.0, -2.0, 0.5])
    assert jvp(f, (w,), (direction,))[1] == pytest.approx(grad(f)(w) @ direction, rel=1e-12)


IN_PLACE = {
    "rows of a loop": lambda A: [operator.itruediv(row, row.sum()) for row in np.exp(A)],
    "a transpose": lambda A: operator.iadd(A.T, 1.0).sum(),
    "a row": lambda A: operator.imul(A[0], 2.0).sum(),
    "a slice": lambda A: operator.isub(A[:, 1:], 2.0).sum(),
    "another shape": lambda A: operator.itruediv(A.reshape(-1), 2.0).sum(),
    "a power": lambda A: operator.ipow(A.T, 2.0).sum(),
}


@pytest.mark.parametrize("f", IN_PLACE.values(), ids=IN_PLACE.keys())
def test_an_in_place_operator_on_a_view_is_refused(f):
    with pytest.raises(TypeError, match=r"on a view: NumPy would change the array .* Write t = t"):
        grad(f)(np.ones((2, 3)))


def test_an_in_place_operator_names_a_new_node_elsewhere():
    def f(A):
        h = A[A > 0]  # a copy in NumPy too
        h *= 2.0
        total = 0.0
        total += h[0]  # a number
        A = A * 1.0
        A -= 1.0
        return total + np.sum(A * h.sum())

    assert check_grad(f, np.array([1.5, -0.5, 2.0]), claimed=grad(f)).verdict == "agree"


def test_a_parameter_that_has_a_grad_is_not_moved_by_an_operator():
    W = Tensor([1.0, 2.0])
    np.sum(W**2).backward()
    with pytest.raises(TypeError, match=r"W\.data = W\.data - step"):
        W -= 0.1 * W.grad
    assert np.array_equal(W.data, [1.0, 2.0])


def into_an_array(x):
    out = np.zeros(2)
    out[0] = x[0]
    return np.sum(out)


OBJECT_ARRAYS = {
    "written into an array": into_an_array,
    "inverse": lambda x: np.linalg.inv(np.array([[x[0], x[1]], [1.0, 2.0]]))[0, 0],
    "a function without a method": lambda x: np.sum(np.isfinite(np.array([x[0], x[1]])) * x),
    "a function that no node has": lambda x: np.sum(np.logaddexp2(np.array([x[0], x[1]]), 1.0)),
    "numbers among nodes": lambda x: np.sum(np.exp(np.array([x[0], 1.0]))),
}


@pytest.mark.parametrize("f", OBJECT_ARRAYS.values(), ids=OBJECT_ARRAYS.keys())
def test_numpys_errors_about_object_arrays_come_with_the_way_out(f):
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        grad(f)(np.array([2.0, 3.0]))
    assert any("np.stack(list) or np.block(rows)" in note for note in caught.value.__notes__)


def test_the_way_out_works():
    def f(x):
        inverse = np.linalg.inv(np.block([[x[0], x[1]], [1.0, 2.0]]))
        return inverse[0, 0] + np.sum(np.exp(np.stack([x[0], x[1] * 0.5])) + np.arctan2(np.array([x[1], x[0]]), 2.0))

    assert check_grad(f, np.array([2.0, 3.0]), claimed=grad(f)).verdict == "agree"


def test_a_large_node_taken_apart_warns():
    W = Tensor(np.ones((40, 30)))
    with pytest.warns(UserWarning, match=r"X @ W or np\.dot\(X, W\) for X\.dot\(W\)"):
        np.asarray(W)
