"""Programs of Tensor graphs: their numbers are those of the graphs, and a call allocates nothing but its gradients."""

import copy
import itertools
import math
import pickle
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff import TABLE, ReplayError, Tensor, operations, record
from autodiff.programs.arrays import files
from autodiff.programs.arrays.adjoints import SYMBOLIC, Pulled
from autodiff.programs.arrays.graph import Graph, Symbol, question
from autodiff.programs.arrays.lowering import Statements
from autodiff.tensor import order
from tests.autodiff.test_operations import BINARY, STRUCTURAL, UNARY, fitted, inputs, matrix, vector
from tests.autodiff.test_operations import program as random_function

RNG = np.random.default_rng(3)
CORNERS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-300, 1e300, np.inf, -np.inf, np.nan, 30.0])
# A sum over an array that lies otherwise in memory than in the graph is taken in another order.
CLOSE = 1e-13


def total(x):
    return np.sum(x) if np.ndim(x) else x


def recorded(f, at):
    """(program of the sum of f, the nodes)."""
    nodes = [Tensor(x) for x in at]
    return record(total(f(*nodes)), nodes), nodes


def assert_same(found, expected, close=CLOSE):
    for a, b in zip(found, expected, strict=True):
        assert np.shape(a) == np.shape(b)
        if not np.array_equal(a, b, equal_nan=True):
            np.testing.assert_allclose(a, b, rtol=close, atol=close * max(1.0, float(np.max(np.abs(b)))))


def check(f, at, other=None):
    """Value, gradient, jvp and hvp of the program are those of the transforms, twice, and at other numbers."""
    program, _ = recorded(f, at)
    summed = lambda *x: total(f(*x))  # noqa: E731
    every = tuple(range(len(at)))
    for here in (at, at) if other is None else (at, other, at):
        value, gradient = ad.value_and_grad(summed, every)(*here)
        found = program.value_and_grad(*here)
        assert_same([found[0], *found[1]], [value, *gradient])
        assert_same([program(*here)], [value])
    along = [np.cos(x) for x in at]
    assert_same([program.jvp(at, along)[1]], [ad.jvp(summed, tuple(at), tuple(along))[1]], 1e-12)
    assert_same(program.hvp(at, along), ad.hvp(summed, tuple(at), tuple(along)), 1e-10)


# --- every row and every operation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", UNARY + BINARY, ids=lambda row: row.name)
def test_a_row(row):
    """At plain numbers, broadcast, and without a graph of their own for the second time."""
    if row.arity == 1:
        check(lambda x, y: row(fitted(row, x)) * vector(y), inputs(1), inputs(2))
    else:
        check(lambda x, y: row(fitted(row, matrix(x)), fitted(row, vector(y))), inputs(1), inputs(2))


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_row_at_the_corners_and_in_single_precision(row, dtype):
    """Bit by bit, in value and gradient, with the warnings of the graph: here the same kernels run."""
    with np.errstate(over="ignore"):
        a = CORNERS.astype(dtype)
    at = [a] if row.arity == 1 else [a[:, None] + np.zeros(len(a), dtype), a + np.zeros((len(a), 1), dtype)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        nodes = [Tensor(x) for x in at]
        output = row(*nodes)
        seeds = np.linspace(0.5, 2.0, output.size).reshape(output.shape).astype(dtype)
        program = record(np.sum(output * seeds), nodes)
        _, gradient = program.value_and_grad(*at)
        (output * seeds).sum().backward()
    assert program.recorded.outputs[0].dtype == dtype
    for found, node in zip(gradient, nodes, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, node.grad)


@pytest.mark.parametrize("f", STRUCTURAL)
def test_a_structural_operation(f):
    check(f, inputs(4))


MORE = {
    "inv": lambda a, b: np.linalg.inv(a @ a.T + np.eye(3)) @ b,
    "solve": lambda a, b: np.linalg.solve(a @ a.T + np.eye(3), b),
    "det": lambda a, b: np.linalg.det(a) * b,
    "slogdet": lambda a, b: np.linalg.slogdet(a @ a.T + np.eye(3))[1] * b,
    "cholesky": lambda a, b: np.linalg.cholesky(a @ a.T + np.eye(3)) @ b,
    "eigh": lambda a, b: np.linalg.eigh(a + a.T)[0] * b,
    "svd": lambda a, b: np.linalg.svd(a)[1] * b,
    "qr": lambda a, b: np.linalg.qr(a)[1] @ b,
    "pinv": lambda a, b: np.linalg.pinv(a) @ b,
    "norm": lambda a, b: np.linalg.norm(a, axis=1) * b,
    "einsum of three": lambda a, b: np.einsum("ij,jk,k->ik", a, a, b),
    "einsum of a diagonal": lambda a, b: np.einsum("ii,i->i", a, b),
    "stack": lambda a, b: np.stack([a, a * b])[:, ::-1, None, 1:],
    "a loop over rows": lambda a, b: sum(np.tanh(row @ b) * row[i] for i, row in enumerate(a)),
    "cumprod": lambda a, b: np.cumprod(a, axis=1) * b,
    "ties": lambda a, b: np.max(np.round(a), axis=0) * b + np.min(a * 0.0),
    "to single precision and back": lambda a, b: a.astype(np.float32).astype(float) * b,
    "an operand twice": lambda a, b: (a * a) @ b + b @ b,
    "bias of many rows": lambda a, b: np.tanh(np.resize(a, (100, 3)) + b) ** 2,
    "numbers": lambda a, b: a[0, 0] * b[1] ** a[1, 1] / 3.0,
}


@pytest.mark.parametrize("name", MORE)
def test_more_operations(name):
    a, b = RNG.normal(size=(3, 3)), RNG.normal(size=3) + 2.0
    check(MORE[name], (a + 2.0 * np.eye(3), b), (a + 3.0 * np.eye(3), b * 1.5))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14))
def test_random_functions(seed, steps):
    """1e-11: what sums in another order have in common with those of the graph after ten steps."""
    at = inputs(seed)
    f = random_function(seed, steps)
    program, _ = recorded(f, at)
    value, gradient = ad.value_and_grad(f, (0, 1))(*at)
    for _ in range(2):
        found = program.value_and_grad(*at)
        assert_same([found[0], *found[1]], [value, *gradient], 1e-11)


def test_every_operation_is_met():
    """Of operations.py, by the tests above; a new one shows here."""
    seen = set()
    for f in (*STRUCTURAL, *MORE.values()):
        at = inputs(4) if f in STRUCTURAL else (np.eye(3) + 0.1, np.ones(3))
        seen |= {node.op for node in order(total(f(*map(Tensor, at)))) if node.op is not None}
    everything = {op for op in vars(operations).values() if isinstance(op, operations.Operation)}
    assert everything - seen == {operations.scatter}  # recorded in a sweep only


@pytest.mark.parametrize("name", ["sum", "cumsum", "matmul", "index"])
def test_a_wrong_rule_is_found(name, monkeypatch):
    """The checker sees a factor of 1 + 1e-9 in any rule that it takes from elsewhere."""
    op = {"sum": operations.sum_}.get(name) or getattr(operations, name)
    right = op.pulls

    def wrong(rule):
        return lambda g, *given, **parameters: rule(g, *given, **parameters) * (1.0 + 1e-9)

    at = inputs(4)
    f = {"sum": STRUCTURAL[7], "cumsum": STRUCTURAL[11], "matmul": STRUCTURAL[0], "index": STRUCTURAL[16]}[name]
    nodes = [Tensor(x) for x in at]
    program = record(total(f(*nodes)), nodes)
    expected = ad.value_and_grad(lambda *x: total(f(*x)), (0, 1))(*at)
    monkeypatch.setattr(op, "pulls", [wrong(rule) for rule in right])
    found = program.value_and_grad(*at)
    with pytest.raises(AssertionError):
        assert_same(found[1], expected[1])


# --- memory -------------------------------------------------------------------------------------------------------


def network(parameters, X, y):
    a = X
    for k in range(0, len(parameters) - 2, 2):
        z = a @ parameters[k] + parameters[k + 1]
        a = np.maximum(0.0, z) if k else np.tanh(z)
    z = a @ parameters[-2] + parameters[-1]
    return np.mean(np.log(1.0 + np.exp(-(2.0 * y - 1.0) * z))) + 0.01 * np.sum(parameters[0] ** 2)


def weights(*sizes):
    rng = np.random.default_rng(0)
    found = []
    for n, m in itertools.pairwise(sizes):
        found += [rng.normal(size=(n, m)) / np.sqrt(n), rng.normal(size=(1, m))]
    return found


def peak(call):
    """The bytes that a call allocates at most, when it has run before."""
    kept = call()
    kept = call()
    tracemalloc.start()
    try:
        call()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        kept = call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        del kept


def test_a_call_allocates_nothing_but_the_gradient():
    """Layers are arrays of 1 MB; NumPy's loops take up to 64 KiB for themselves where they broadcast."""
    parameters = weights(20, 32, 32, 32, 1)
    X, y = RNG.normal(size=(4000, 20)), (RNG.random((4000, 1)) < 0.5) * 1.0
    nodes = [Tensor(x) for x in parameters]
    program = record(network(nodes, X, y), nodes)
    assert 4000 * 32 * 8 == 1_024_000
    out = [np.empty_like(x) for x in parameters]
    assert peak(lambda: program(*parameters)) < 80_000
    assert peak(lambda: program.value_and_grad(*parameters, out=out)) < 80_000
    assert peak(lambda: program.value_and_grad(*parameters)) < 80_000 + 2 * sum(x.nbytes for x in parameters)
    replayed = ad.replay(network, magnification="array")
    assert peak(lambda: replayed.value_and_grad(parameters, X, y, out=out)) < 80_000
    eager = ad.value_and_grad(network)
    assert peak(lambda: eager(parameters, X, y)) > 3_000_000  # the checker sees what the graph allocates


def test_memory_is_used_again_when_its_last_reader_is_done():
    x = Tensor(np.ones(10_000))
    y = x
    for _ in range(50):
        y = np.sin(y) + 1.0
    program = record(np.sum(y), x)
    assert program.memory("value") < 3 * x.data.nbytes
    assert program.memory("gradient") < 105 * x.data.nbytes  # sin's slopes need what came in


def test_gradients_belong_to_the_caller():
    W = Tensor(np.ones((2, 2)))
    program = record(np.sum(W @ W), W)
    first = program.grad(np.ones((2, 2)))
    kept = first.copy()
    second = program.grad(5.0 * np.ones((2, 2)))
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)
    value = Tensor(np.ones(3))
    whole = record(value * 2.0, value)
    y = whole(np.ones(3))
    whole(np.zeros(3))
    np.testing.assert_array_equal(y, [2.0, 2.0, 2.0])


def test_arguments_are_not_written_to_and_may_be_the_output():
    x = Tensor([1.0, 2.0])
    given_array = np.array([3.0, 4.0])
    program = record(np.sum(x), x)
    assert program.value_and_grad(given_array)[0] == 7.0
    np.testing.assert_array_equal(given_array, [3.0, 4.0])
    same = record(x, x)
    found = same(given_array)
    assert found is not given_array
    np.testing.assert_array_equal(found, given_array)


def test_out_takes_the_gradient():
    parameters = {"W": np.ones((2, 3)), "b": np.zeros(3)}
    nodes = {name: Tensor(x) for name, x in parameters.items()}
    program = record(np.sum(np.tanh(nodes["W"] + nodes["b"])), nodes)
    out = {name: np.empty_like(x) for name, x in parameters.items()}
    value, gradient = program.value_and_grad(parameters, out=out)
    assert gradient["W"] is out["W"]
    assert gradient["b"] is out["b"]
    expected = ad.value_and_grad(lambda p: np.sum(np.tanh(p["W"] + p["b"])))(parameters)
    assert value == expected[0]
    for name in out:
        np.testing.assert_array_equal(out[name], expected[1][name])
    with pytest.raises(TypeError, match="out takes arrays that fit"):
        program.value_and_grad(parameters, out={"W": np.empty((3, 2)), "b": np.empty(3)})
    assert program.value_and_grad(parameters, out={"W": None, "b": out["b"]})[1]["b"] is out["b"]


def test_one_gradient_twice_and_none_at_all():
    x, y, z = Tensor([1.0, 2.0]), Tensor([3.0, 4.0]), Tensor(5.0)
    program = record(np.sum(x + y), [x, y, z])
    gradient = program.grad([1.0, 2.0], [3.0, 4.0], 5.0)
    np.testing.assert_array_equal(gradient[0], [1.0, 1.0])
    assert not np.shares_memory(gradient[0], gradient[1])
    assert gradient[2] == 0.0
    constant = record(Tensor(3.0), [x])
    assert constant.value_and_grad([1.0, 2.0])[0] == 3.0
    np.testing.assert_array_equal(constant.grad([1.0, 2.0])[0], [0.0, 0.0])


def test_threads_have_memory_of_their_own():
    parameters = weights(5, 8, 1)
    X, y = RNG.normal(size=(300, 5)), np.ones((300, 1))
    nodes = [Tensor(x) for x in parameters]
    program = record(network(nodes, X, y), nodes)
    scales = np.linspace(0.1, 2.0, 4)
    expected = [program.value_and_grad(*(s * x for x in parameters)) for s in scales]
    wrong = []

    def work(k):
        mine = [scales[k] * x for x in parameters]
        for _ in range(50):
            value, gradient = program.value_and_grad(*mine)
            if value != expected[k][0] or not all(map(np.array_equal, gradient, expected[k][1])):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_answer_of_numpy_that_is_a_view_keeps_its_memory():
    """np.broadcast_to as a question returns a view of its operand, whose buffer must not be used again too early."""
    graph = Graph()
    x = graph.input(0, (3,), np.dtype(float), None)
    mask = graph.question(np.isnan, (x,), (3,), np.dtype(bool))
    turned = graph.question(np.invert, (mask,), (3,), np.dtype(bool))
    parameters = {"function": np.broadcast_to, "args": (question_place(0), (3,)), "options": {}, "item": None}
    wide = graph.append(question, (turned,), parameters, (3,), bool)
    chosen = np.where(wide, x * 2.0, 0.0)
    from autodiff.programs.arrays.buffers import Executable

    run = Executable(Statements(graph, [np.add.reduce(chosen, axis=None)]), 1, 1).run
    assert run([np.array([1.0, np.nan, 2.0])], []) == (6.0,)


def question_place(number):
    from autodiff.programs.arrays.graph import Place

    return Place(number)


# --- warnings -----------------------------------------------------------------------------------------------------


def test_warnings_come_as_from_the_graph():
    x = Tensor([1.0, 2.0])
    program = record(np.sum(np.log(x)), x)
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in log"):
        assert program(np.array([0.0, 1.0])) == -np.inf
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        _value, gradient = program.value_and_grad(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(gradient, [np.inf, 1.0])
    with np.errstate(all="ignore"):
        assert np.isnan(program(np.array([-1.0, 1.0])))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        program(np.array([0.0, 1.0]))


# --- what it says -------------------------------------------------------------------------------------------------


def test_the_listing():
    W, b = Tensor(np.ones((2, 1)), name="W"), Tensor(np.ones(1), name="b")
    hidden = np.tanh(np.ones((3, 2)) @ W + b)
    hidden.name = "h"
    program = record(np.sum(hidden[1:]), [W, b])
    assert str(program).splitlines() == [
        "program of W 2×1, b 1: 5 operations on arrays",
        "  v0 3×1 = matmul(array 3×2, W)",
        "  v1 3×1 = add(v0, b)",
        "  h 3×1 = tanh(v1)",
        "  v3 2×1 = index(h, key=1:)",
        "  v4 = sum(v3)",
        "  return v4",
    ]
    assert len(program) == 5
    assert program.size == 5
    assert program.cost == {"matmul": 12, "add": 3, "tanh": 3, "sum": 2}
    assert program.gradient_cost["matmul"] == 12 + 12
    assert "dot" in program.source or "matmul" in program.source
    assert program.listing("gradient").count("\n") > 6
    assert repr(program) == "ArrayProgram(5 nodes, 2 inputs)"


def test_what_is_computed_twice_is_computed_once():
    """Of the gradient; the graph itself stays as it was drawn, and with it its numbers."""
    x = Tensor([0.3, 0.4])
    program = record(np.sum(np.tanh(x) + 2.0 * np.tanh(x)), x)
    text = program.listing("gradient")
    assert text.count("sigmoid") <= 4
    assert program.source.count("tanh") == 1


def test_data_come_after_the_inputs():
    w, X, y = Tensor(np.ones(2), name="w"), Tensor(np.eye(2), name="X"), Tensor(np.ones(2), name="y")
    program = record(np.sum((X @ w - y) ** 2), [w], data=[X, y])
    value, gradient = program.value_and_grad(np.array([1.0, 2.0]), np.eye(2), np.zeros(2))
    assert value == 5.0
    np.testing.assert_array_equal(gradient, [[2.0, 4.0]])
    assert program.jvp([np.array([1.0, 2.0]), np.eye(2), np.zeros(2)], [np.array([1.0, 0.0])]) == (5.0, 2.0)
    np.testing.assert_array_equal(
        program.hvp([np.ones(2), np.eye(2), np.zeros(2)], [np.array([1.0, 0.0])]), [[2.0, 0.0]]
    )
    with pytest.raises(TypeError, match="1 values and 2 of data, got 2"):
        program(np.ones(2), np.eye(2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, p: record(np.sum(x), [3.0]), TypeError, "record takes Tensors as inputs beside a Tensor, got float"),
        (lambda x, p: record(np.sum(x), [x, x]), ValueError, "stands twice"),
        (lambda x, p: record(np.sum(x), [x], back_end="numpy"), ValueError, "takes no back end; got 'numpy'"),
        (lambda x, p: record(x, [x]).grad([1.0, 2.0]), ValueError, "record one number, np.sum"),
        (lambda x, p: p([1.0]), ValueError, r"of inputs\[0\] has the shape \(1,\), and its input \(2,\)"),
        (lambda x, p: p([1.0, 2.0], 3.0), TypeError, "takes 1 values, got 2"),
        (lambda x, p: p(x), TypeError, "takes plain numbers and arrays of them: pass .data"),
        (lambda x, p: p(["a", "b"]), TypeError, "plain numbers"),
        (lambda x, p: p.jvp([[1.0, 2.0]], []), TypeError, "takes 1 tangents, got 0"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    x = Tensor([1.0, 2.0])
    with pytest.raises(error, match=message):
        call(x, record(np.sum(x * x), [x]))


def test_constants_are_the_programs_own():
    X, w = np.ones((2, 2)), Tensor(np.ones(2))
    leaf = Tensor(np.ones(2))
    program = record(np.sum(X @ w * leaf), w)
    X[:] = 7.0
    leaf.data[:] = 7.0
    assert program(np.ones(2)) == 4.0


def test_rules_of_the_users_own():
    @ad.custom_vjp
    def clipped(x):
        return x**2

    clipped.defvjp(lambda x: (x**2, x), lambda x, g: (np.clip(2.0 * x * g, -1.0, 1.0),))

    @ad.custom_jvp
    def log1pexp(x):
        return np.log1p(np.exp(x))

    @log1pexp.defjvp
    def _(primals, tangents):
        return log1pexp(*primals), tangents[0] / (1.0 + np.exp(-primals[0]))

    x = Tensor([0.1, 3.0])
    program = record(np.sum(clipped(x) * log1pexp(x)), x)
    for at in (np.array([0.1, 3.0]), np.array([-2.0, 0.2])):  # what bwd keeps is of this call, not of the recorded one
        value, gradient = program.value_and_grad(at)
        expected = ad.value_and_grad(lambda x: np.sum(clipped(x) * log1pexp(x)))(at)
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])
    with pytest.raises(TypeError, match="reverse rule only"):
        program.jvp([at], [at])
    forwards = record(np.sum(log1pexp(x)), x)
    assert forwards.jvp([at], [at]) == ad.jvp(lambda x: np.sum(log1pexp(x)), (at,), (at,))


def test_a_new_row_runs_as_it_stands():
    row = ad.primitive("cubed", lambda a: a**3, lambda y, a: 3.0 * a * a, formula="a ** 3")
    try:
        x = Tensor([1.0, 2.0])
        program = record(np.sum(row(x)), x)
        assert program.value_and_grad([2.0, 3.0])[0] == 35.0
        np.testing.assert_array_equal(program.grad([2.0, 3.0]), [12.0, 27.0])
    finally:
        del TABLE["cubed"]


def test_symbols_refuse_what_needs_numbers():
    x = Symbol(Graph(), 0)
    for use in (bool, np.asarray):
        with pytest.raises(TypeError):
            use(x)
    assert Pulled(operations.prod, 0).name == "pull of prod"
    assert operations.prod not in SYMBOLIC
    assert issubclass(ReplayError, TypeError)


def test_out_may_be_the_arguments():
    """W is read after its gradient is known in part."""
    W = np.array([[1.0, 2.0], [3.0, 4.0]])
    node = Tensor(W)
    program = record(np.sum(np.tanh(node @ node) * node), [node])
    expected = program.grad(W)[0]
    into = W.copy()
    assert program.grad(into, out=[into])[0] is into
    np.testing.assert_array_equal(into, expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (0,), (1,)])
def test_empty_and_single_arrays(shape):
    at = np.ones(shape)
    check(lambda x: np.sum(np.tanh(x) * x) + np.sum(x.T @ x) + np.sum(np.concatenate([x, x]) ** 2), (at,))


@pytest.mark.parametrize("order", ["C", "F", "strided", "read-only"])
def test_arguments_in_every_layout(order):
    at = np.random.default_rng(0).normal(size=(6, 4))
    program, _ = recorded(lambda x: np.tanh(x @ x.T) @ x, (at,))
    given_array = {
        "C": at.copy(),
        "F": np.asfortranarray(at),
        "strided": np.repeat(at, 2, axis=1)[:, ::2],
        "read-only": at,
    }[order]
    given_array.flags.writeable = order != "read-only"
    found, expected = program.value_and_grad(given_array), program.value_and_grad(at)
    assert_same([found[0], *found[1]], [expected[0], *expected[1]])


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "pickle", "deepcopy"])
def test_a_program_comes_back(how, tmp_path):
    W, b, X = (
        Tensor(np.ones((3, 2)), name="W"),
        Tensor(np.zeros(2), name="b"),
        Tensor(RNG.normal(size=(4, 3)), name="X"),
    )
    z = np.tanh(X @ W + b)[:, ::-1]
    loss = (
        np.sum(np.where(RNG.random((4, 2)) < 0.5, z, 2.0 * z)) + np.max(z[[0, 1]]) + np.linalg.det(z[:2]) * math.inf**0
    )
    program = record(loss, {"W": W, "b": [b]}, data=[X])
    at = ({"W": RNG.normal(size=(3, 2)), "b": [np.ones(2)]}, RNG.normal(size=(4, 3)))
    expected = program.value_and_grad(*at)
    if how == "file":
        path = program.save(tmp_path / "program")
        assert path.suffix == ".npz"
        twin = ad.Program.load(path)
    else:
        twin = pickle.loads(pickle.dumps(program)) if how == "pickle" else copy.deepcopy(program)
    found = twin.value_and_grad(*at)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1]["W"], expected[1]["W"])
    np.testing.assert_array_equal(found[1]["b"][0], expected[1]["b"][0])
    assert str(twin) == str(program)


def test_a_replayed_program_with_guards_comes_back():
    f = ad.replay(
        lambda x: np.sum(x[x > 0.0]) * x[np.argmax(x)] if (x > 0.0).sum(axis=0) > 1 else np.sum(np.sort(x)),
        magnification="array",
    )
    x = np.array([1.0, 2.0, -3.0])
    value, _ = f.value_and_grad(x)
    twin = pickle.loads(pickle.dumps(f.programs[0]))
    assert twin(x) == value
    assert twin([0.5, -1.0, 4.0]) == 18.0
    with pytest.raises(ReplayError, match="comes out differently"):
        twin([1.0, 2.0, 3.0])


def test_what_cannot_be_saved(tmp_path):
    square = ad.custom_jvp(lambda x: x**2)
    square.defjvps(lambda t, y, x: 2.0 * x * t)
    x = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match="an operation of your own and cannot be saved"):
        record(np.sum(square(x)), x).save(tmp_path / "mine")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    program = record(np.sum(x), x)
    with pytest.raises(ValueError, match="holds no program of arrays"):
        type(program).load(tmp_path / "other.npz")
    row = ad.primitive("cubed", lambda a: a**3, lambda y, a: 3.0 * a * a, formula="a ** 3")
    path = record(np.sum(row(x)), x).save(tmp_path / "cubed")
    del TABLE["cubed"]
    with pytest.raises(KeyError, match="no row 'cubed'"):
        type(program).load(path)
    for path in (["os", "system"], ["numpy", "load"], ["numpy", "ndarray.tofile"], ["numpy", "lib.npyio.os.system"]):
        with pytest.raises(ValueError, match="calls NumPy's functions of arrays, not"):
            files._named(path)
