"""Rules of the user's own: right ones to any order, in both modes; wrong ones named."""

import functools
import gc
import weakref

import numpy as np
import pytest

from autodiff import (
    Tensor,
    Value,
    check_grad,
    custom_jvp,
    custom_vjp,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    scalars,
    stop_gradient,
    value_and_grad,
    vjp,
)

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])
W = np.array([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0]])
v = np.array([0.3, 0.7, -1.2])


# --- functions with a rule, and the same without ----------------------------------------------------------------


@custom_jvp
def sine(x):
    return np.sin(x)


@sine.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return sine(x), np.cos(x) * dx


@custom_vjp
def product(x, w):
    return x @ w


product.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))


@custom_jvp
def moments(x, p):
    """Two outputs, a dict and a number in it; nested arguments."""
    return {"power": x ** p["n"], "sum": np.sum(x * p["a"])}


@moments.defjvp
def _(primals, tangents):
    (x, p), (dx, dp) = primals, tangents
    n = p["n"]
    dpower = n * x ** (n - 1.0) * dx + x**n * np.log(x) * dp["n"]
    return moments(x, p), {"sum": np.sum(dx * p["a"] + x * dp["a"]), "power": dpower}


@custom_vjp
def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


softmax.defvjp(lambda x: (softmax(x), softmax(x)), lambda y, g: (y * (g - np.sum(g * y)),))


def plain_softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def both_moments(f):
    def both(x):
        found = f(np.exp(x), {"n": x[0] + 2.0, "a": x[::-1]})
        return np.sum(found["power"]) * found["sum"]

    return both


PAIRS = {
    "custom_jvp": (lambda x: np.sum(sine(x) ** 2 * x), lambda x: np.sum(np.sin(x) ** 2 * x)),
    "custom_jvp of a float": (lambda x: sine(x[0] * x[1]) * sine(x[2]), lambda x: np.sin(x[0] * x[1]) * np.sin(x[2])),
    "custom_jvp, trees": (both_moments(moments), both_moments(moments.function)),
    "custom_vjp": (lambda x: np.sum(product(X * x, W) ** 3), lambda x: np.sum(((X * x) @ W) ** 3)),
    "custom_vjp of one node twice": (
        lambda x: np.sum(product(np.outer(x, x), np.outer(x, v))),
        lambda x: np.sum(np.outer(x, x) @ np.outer(x, v)),
    ),
    "custom_vjp that calls itself": (
        lambda x: np.sum(softmax(x * v) * np.array([1.0, -2.0, 3.0])),
        lambda x: np.sum(plain_softmax(x * v) * np.array([1.0, -2.0, 3.0])),
    ),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_rule_is_what_is_differentiated_to_third_order(pair):
    ours, plain = pair
    x = np.array([0.4, -0.8, 1.1])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    close(ours(x), plain(x))
    close(grad(ours)(x), grad(plain)(x))
    close(hessian(ours)(x), hessian(plain)(x))
    close(hvp(ours, x, v), hvp(plain, x, v))
    close(grad(lambda x: np.sum(hessian(ours)(x) @ v))(x), grad(lambda x: np.sum(hessian(plain)(x) @ v))(x))


def test_a_forward_rule_serves_both_modes_mixed_to_third_order():
    expected = -np.cos(0.3)
    forward = lambda f: lambda x: jvp(f, (x,), (1.0,))[1]  # noqa: E731
    reverse = lambda f: lambda x: vjp(f, x)[1](1.0)[0]  # noqa: E731
    for a in (grad, forward, reverse):
        for b in (grad, forward, reverse):
            for c in (grad, forward, reverse):
                assert a(b(c(sine)))(0.3) == pytest.approx(expected, rel=1e-14)


def test_forward_and_reverse_mode_are_dual():
    f = lambda x: moments(x, {"n": 2.5, "a": x * 2.0})  # noqa: E731
    x, dx = np.array([0.5, 1.5]), np.array([1.0, -0.3])
    _, dy = jvp(f, (x,), (dx,))
    g = {"power": np.array([0.2, 0.9]), "sum": -1.7}
    (pulled,) = vjp(f, x)[1](g)
    assert np.sum(pulled * dx) == pytest.approx(np.sum(g["power"] * dy["power"]) + g["sum"] * dy["sum"], rel=1e-13)


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.5])
def test_a_wrong_factor_in_a_rule_is_found(factor):
    wrong = custom_jvp(np.sin)
    wrong.defjvps(lambda t, y, x: factor * np.cos(x) * t)
    f = lambda x: np.sum(wrong(x))  # noqa: E731
    assert check_grad(np.sin, 0.4, claimed=grad(sine)(0.4)).verdict == "agree"
    assert check_grad(f, v, claimed=grad(f)(v)).verdict == "differ"


# --- who calls it, and how ---------------------------------------------------------------------------------------


def test_on_plain_numbers_the_function_just_runs():
    seen = []
    f = custom_jvp(lambda x: seen.append(x) or x)
    assert f("anything") == "anything"
    assert seen == ["anything"]
    assert sine.__name__ == "sine"


def test_a_tensor_by_hand_records_one_node():
    x = Tensor(v)
    y = sine(x)
    assert y.op is sine
    assert y.parents == (x,)
    np.sum(y).backward()
    np.testing.assert_array_equal(x.grad, np.cos(v))
    mixed = np.empty(2, dtype=object)
    mixed[:] = [Tensor(1.0), Tensor(2.0)]
    np.testing.assert_array_equal(sine(mixed).data, np.sin([1.0, 2.0]))


def test_arguments_come_by_position_or_keyword_and_methods_bind():
    power = custom_jvp(lambda x, n=2.0: x**n)
    power.defjvps(lambda t, y, x, n: n * x ** (n - 1.0) * t, None)
    assert grad(lambda x: power(x, n=3.0))(2.0) == 12.0
    assert grad(power)(2.0) == 4.0
    assert grad(grad(lambda x: power(n=3.0, x=x)))(2.0) == 12.0

    class Scale:
        factor = 3.0

        @functools.partial(custom_jvp, nondiff_argnums=(0,))
        def times(self, x):
            return self.factor * x

        @times.defjvp
        def rule(self, primals, tangents):
            return self.times(*primals), self.factor * tangents[0]

    assert grad(Scale().times)(2.0) == 3.0
    assert type(Scale.times) is custom_jvp


def test_arguments_that_are_no_numbers_go_into_nondiff_argnums():
    @functools.partial(custom_vjp, nondiff_argnums=(0, 2))
    def apply(f, x, name):
        return f(x)

    apply.defvjp(
        lambda f, x, name: (f(x), x),
        lambda f, name, x, g: (vjp(f, x)[1](g)[0] * (10.0 if name == "ten" else 1.0),),
    )
    assert grad(lambda x: apply(np.sin, x, "one"))(0.3) == np.cos(0.3)
    assert grad(grad(lambda x: apply(np.sin, x, "ten")))(0.3) == pytest.approx(-10.0 * np.sin(0.3), rel=1e-15)
    forward = custom_jvp(lambda x, f: f(x), nondiff_argnums=-1)
    forward.defjvp(lambda f, primals, tangents: jvp(f, primals, tangents))
    assert grad(grad(lambda x: forward(x, np.sin)))(0.3) == pytest.approx(-np.sin(0.3), rel=1e-15)


def test_a_float_in_a_transform_becomes_a_tensor_for_it():
    assert value_and_grad(lambda x: x * sine(x))(0.5) == pytest.approx(
        (0.5 * np.sin(0.5), np.sin(0.5) + 0.5 * np.cos(0.5))
    )
    assert type(grad(sine)(0.5)) is float
    assert grad(sine)(np.float32(0.5)).dtype == np.float32
    assert grad(lambda x: np.sum(sine(x)))(v.astype(np.float32)).dtype == np.float32


def test_integers_and_constants_have_no_cotangent():
    seen = []
    f = custom_vjp(lambda x, n, c: x**n + c)
    f.defvjp(
        lambda x, n, c: (x**n + c, (x, n)), lambda kept, g: (seen.append(kept[1]) or kept[1] * kept[0] * g, None, None)
    )
    np.testing.assert_array_equal(grad(lambda x: np.sum(f(x, 2, v)))(v), 2 * v)
    assert seen == [2]
    assert grad(f, argnums=2)(1.0, 2, 3.0) == 0.0  # None is a zero


def test_bwd_is_called_once_for_all_arguments():
    calls = []
    f = custom_vjp(lambda a, b, c: a * b * c)
    f.defvjp(
        lambda a, b, c: (a * b * c, (a, b, c)),
        lambda r, g: calls.append(0) or (g * r[1] * r[2], g * r[0] * r[2], g * r[0] * r[1]),
    )
    assert grad(f, (0, 1, 2))(2.0, 3.0, 5.0) == (15.0, 10.0, 6.0)
    assert len(calls) == 1


def test_arrays_that_a_rule_keeps_are_not_written_to():
    kept = np.ones(3)
    f = custom_vjp(lambda x: x)
    f.defvjp(lambda x: (kept, None), lambda residuals, g: (kept,))
    gradient = grad(lambda x: np.sum(f(x) * 2.0) + np.sum(x * 3.0))(v)
    np.testing.assert_array_equal(gradient, 4.0)
    np.testing.assert_array_equal(kept, 1.0)
    y, pullback = vjp(f, v)
    y += 1.0
    pullback(v)[0][...] = 7.0
    np.testing.assert_array_equal(kept, 1.0)


def test_a_zero_in_the_domain_brings_no_nan_into_the_transposition():
    root = custom_jvp(lambda x: np.sqrt(x))
    root.defjvps(lambda t, y, x: t / (2.0 * y))
    with np.errstate(divide="ignore"):
        assert grad(root)(0.0) == np.inf
        assert jvp(root, (0.0,), (1.0,))[1] == np.inf


def test_a_rule_that_says_nothing_moves_gives_zero():
    step = custom_jvp(lambda x: np.sign(x))
    step.defjvp(lambda primals, tangents: (step(*primals), 0.0 * primals[0]))
    np.testing.assert_array_equal(grad(lambda x: np.sum(step(x)))(v), 0.0)
    np.testing.assert_array_equal(jvp(step, (v,), (v,))[1], 0.0)


def test_dropping_the_output_frees_everything():
    gc.collect()
    gc.disable()
    try:
        x, w = Tensor(X), Tensor(W)
        y = np.sum(moments(np.exp(product(sine(x), w)), {"n": 2.0, "a": 1.0})["power"])
        y.backward()
        hessian(lambda x: np.sum(softmax(sine(x)) ** 2))(v)
        watched = []
        pending = [y]
        while pending:
            node = pending.pop()
            watched.append(weakref.ref(node))
            pending += node.parents
        del y, node
        assert sum(ref() is not None for ref in watched) == sum(ref() is x or ref() is w for ref in watched)
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- errors ------------------------------------------------------------------------------------------------------


def made(fwd, bwd):
    f = custom_vjp(lambda a, b: a * b)
    f.defvjp(fwd, bwd)
    return lambda: grad(lambda x: np.sum(f(x, 2.0)))(v)


def ruled(rule):
    f = custom_jvp(lambda a, b: a * b)
    f.defjvp(rule)
    return lambda: grad(lambda x: np.sum(f(x, 2.0)))(v)


captured = Tensor(3.0)
ERRORS = {
    "no rule, jvp": (lambda: custom_jvp(np.sin)(Tensor(1.0)), TypeError, r"custom_jvp\('sin'\).*no rule yet.*defjvp"),
    "no rule, vjp": (lambda: custom_vjp(np.sin)(Tensor(1.0)), TypeError, r"no rule yet.*defvjp\(fwd, bwd\)"),
    "forward": (
        lambda: jvp(product, (X, W), (X, W)),
        TypeError,
        r"custom_vjp\('product'\).*reverse rule only.*custom_jvp",
    ),
    "too few": (made(lambda a, b: (a * b, 0), lambda r, g: (g,)), TypeError, r"tuple of 2 cotangent.*got 1 of them"),
    "no tuple": (made(lambda a, b: (a * b, 0), lambda r, g: g), TypeError, "tuple of 2 cotangent.*got ndarray"),
    "shape": (
        made(lambda a, b: (a * b, 0), lambda r, g: (g[:2], None)),
        ValueError,
        r"cotangent of the argument\[0\] has the shape \(3,\), got \(2,\)",
    ),
    "kind": (made(lambda a, b: (a * b, 0), lambda r, g: ("g", None)), TypeError, "is str 'g', expected real"),
    "fwd": (made(lambda a, b: a * b, lambda r, g: (g, g)), TypeError, r"fwd.*pair \(y, residuals\)"),
    "node in residuals": (
        made(lambda a, b: (a * b, captured), lambda r, g: (g * r, None)),
        TypeError,
        "not among its arguments",
    ),
    "rule": (ruled(lambda p, t: t[0]), TypeError, r"pair \(y, dy\)"),
    "rule's shape": (
        ruled(lambda p, t: (0.0, np.sum(t[0]))),
        ValueError,
        r"tangent of the result has the shape \(3,\), got \(\)",
    ),
    "rule's tree": (ruled(lambda p, t: (0.0, {"a": t[0]})), TypeError, "tangent of the result.*expected one number"),
    "closure": (lambda: custom_jvp(lambda x: x * captured)(1.0) is None, None, ""),
    "value": (lambda: sine(Value(1.0)), TypeError, r"Value.*autodiff.Tensor.*autodiff.primitive"),
    "scalars": (lambda: sine(scalars([1.0])), TypeError, "Value"),
    "own Value in a transform": (lambda: grad(lambda x: x * sine(Value(1.0)))(2.0), TypeError, "autodiff.primitive"),
    "string": (lambda: product(Tensor(X), "W"), TypeError, r"argument\[1\] is str 'W'.*nondiff_argnums"),
    "nondiff node": (
        lambda: custom_jvp(lambda x, y: x, nondiff_argnums=1)(1.0, Tensor(2.0)),
        TypeError,
        "argument 1 is among nondiff_argnums, and is a node",
    ),
    "no function": (lambda: custom_jvp(3.0), TypeError, "takes a function, got float"),
    "no rule function": (lambda: sine.defjvp(3.0), TypeError, "takes a function"),
    "no bwd function": (lambda: product.defvjp(np.sin, None), TypeError, "takes two functions, and bwd"),
    "argnums": (lambda: custom_jvp(np.sin, nondiff_argnums="x"), TypeError, "integer or a tuple"),
    "rules": (lambda: custom_jvp(lambda x, y: x, nondiff_argnums=1).defjvps(None), TypeError, "use defjvp"),
    "keyword only": (lambda: custom_jvp(lambda x, *, n=1: x)(1.0, n=2), TypeError, "n can be given by keyword only"),
    "returns a string": (lambda: with_rule(lambda x: "y")(Tensor(1.0)), TypeError, "result is str 'y'"),
    "returns nothing": (lambda: with_rule(lambda x: None)(Tensor(1.0)), TypeError, "returned None"),
    "uses a node": (lambda: with_rule(lambda x: x * captured)(Tensor(1.0)), TypeError, "Pass that node as an argument"),
}


def with_rule(f):
    f = custom_jvp(f)
    f.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    return f


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_came_and_what_to_do(call, error, message):
    if error is None:
        call()
        return
    with pytest.raises(error, match=message):
        call()


def test_jacobian_falls_back_to_reverse_mode_where_there_is_no_forward_rule():
    found = jacobian(lambda t: product(t * X, W))(2.0)  # one input and four outputs
    np.testing.assert_allclose(found, X @ W, rtol=1e-15)


def test_stop_gradient_cuts_what_goes_into_a_rule():
    assert grad(lambda x: sine(stop_gradient(x)) * x)(0.5) == np.sin(0.5)


def test_rules_cannot_write_into_what_others_hold():
    @custom_vjp
    def double(x):
        return 2.0 * x

    def in_place(res, g):
        g *= 2.0
        return (g,)

    double.defvjp(lambda x: (2.0 * x, None), in_place)
    seed = np.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        vjp(double, np.array([1.0, 2.0, 3.0]))[1](seed)
    assert np.array_equal(seed, np.ones(3))

    @custom_jvp
    def spoils(x):
        x *= 2.0
        return x

    spoils.defjvp(lambda primals, tangents: (spoils(*primals), 2.0 * tangents[0]))
    x = np.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        grad(lambda x: np.sum(spoils(x)))(x)
    assert np.array_equal(x, np.ones(3))
