"""The structural operations: their rules on random programs, forward against reverse mode, and what they keep alive.

The value and the first two derivatives of every operation are held against NumPy and differences in
test_array_functions.py, through the functions that use them.
"""

import gc
import random
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autodiff as ad
from autodiff import TABLE, Tensor, operations, sweeps
from autodiff.operations import Operation, add_at, axes_of, expanded, picks_once, unbroadcast
from autodiff.tensor import apply, order

# --- random programs ----------------------------------------------------------------------------------------------

UNARY = [row for row in TABLE.values() if row.arity == 1]
BINARY = [row for row in TABLE.values() if row.arity == 2]
ABOVE_0 = {
    "log",
    "log2",
    "log10",
    "sqrt",
    "cbrt",
    "reciprocal",
    "pow",
    "div",
    "mod",
    "floordiv",
    "sinc",
    "sinc_slope",
    "arctan2",
}
WITHIN_1 = {"arcsin", "arccos", "arctanh", "log1p"}


def fitted(row, x):
    """x, moved to where the row has finite numbers and slopes."""
    if row.name in ABOVE_0:
        return ad.softplus(x) + 0.5
    if row.name in WITHIN_1:
        return 0.9 * np.tanh(x)
    return ad.softplus(x) + 1.5 if row.name == "arccosh" else 2.0 * np.tanh(x)


def matrix(x):
    return np.resize(x, (2, 3))


def vector(x):
    return np.resize(x, 3)


STRUCTURAL = [
    lambda x, y: matrix(x) @ matrix(y).T,
    lambda x, y: np.stack([matrix(x), matrix(y)]) @ vector(x),
    lambda x, y: vector(x) @ np.stack([matrix(x).T, matrix(y).T]),
    lambda x, y: np.einsum("ij,kj,j->ik", matrix(x), matrix(y), vector(y)),
    lambda x, y: np.tensordot(matrix(x), matrix(y), axes=([0, 1], [0, 1])),
    lambda x, y: np.kron(vector(x), vector(y)),
    lambda x, y: np.outer(x, vector(y)),
    lambda x, y: matrix(x) * vector(y) - np.sum(x),
    lambda x, y: matrix(x) + np.mean(matrix(y), axis=1, keepdims=True),
    lambda x, y: np.max(matrix(x), axis=1) * np.min(y),
    lambda x, y: np.prod(matrix(x), axis=0) + vector(y),
    lambda x, y: np.cumsum(matrix(x), axis=1) * np.cumprod(vector(y)),
    lambda x, y: np.sort(vector(x)) - np.median(y),
    lambda x, y: np.where(matrix(x) > vector(y), matrix(x), vector(y)),
    lambda x, y: np.clip(matrix(x), -0.5, vector(y) + 1.0),
    lambda x, y: np.concatenate([vector(x), np.ravel(y)]),
    lambda x, y: matrix(x)[[0, 1, 1, 0]][:, ::-1] + vector(y),
    lambda x, y: matrix(x)[np.array([[0], [1]]), [2, 2]] * vector(y)[1],
    lambda x, y: np.pad(vector(x), 1) * np.roll(np.resize(y, 5), 2),
    lambda x, y: np.diag(vector(x)) @ np.tril(np.outer(vector(y), vector(y))),
    lambda x, y: np.var(matrix(x), axis=0, ddof=1) + np.trace(np.resize(y, (2, 2))),
    lambda x, y: np.transpose(np.reshape(np.resize(x, 6), (3, 2), order="F")) * vector(y),
    lambda x, y: np.broadcast_to(np.expand_dims(vector(x), 0), (2, 3)) / (2.0 + np.square(matrix(y))),
    lambda x, y: np.convolve(vector(x), vector(y)),
    lambda x, y: np.interp(vector(x), [-1.0, 0.0, 2.0], vector(y)),
    lambda x, y: np.quantile(x, 0.4) * np.logaddexp.reduce(np.resize(y, 4)),
]  # fmt: skip


def program(seed, steps):
    """A function of two arrays, of random steps over the rows and the structural operations; the same on every call."""
    choices = []
    draw = random.Random(seed)
    for _ in range(steps):
        kind = draw.random()
        table = STRUCTURAL if kind < 0.5 else UNARY if kind < 0.75 else BINARY
        choices.append((draw.choice(table), draw.random(), draw.random()))

    def f(x, y):
        made = [x, y]
        for step, first, second in choices:
            a, b = (made[-1 - int(min(4, len(made)) * place)] for place in (first, second))
            if step in UNARY:
                z = step(fitted(step, a))
            elif step in BINARY:
                z = step(fitted(step, matrix(a)), fitted(step, vector(b)))
            else:
                z = step(a, b)
            size = z.data if type(z) is Tensor else z
            made.append(np.tanh(z) if np.max(np.abs(size)) > 30.0 else z)  # far from overflow
        return np.sum(made[-1]) + np.sum(np.sin(made[-2]))

    return f


def inputs(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, 3)), rng.normal(size=3)


@pytest.mark.parametrize("seed", range(60))
def test_modes_are_dual_on_random_programs(seed):
    """<adjoint, tangent> is one number at the output and at the inputs; its rounding is relative to all on the way."""
    f, at, along = program(seed, 20), inputs(seed), inputs(seed + 1000)
    x, y = map(Tensor, at)
    output = f(x, y)
    np.testing.assert_allclose(output.data, f(*at), rtol=1e-12)
    nodes = order(output)
    tangents = sweeps.pushed(nodes, {x: along[0], y: along[1]})
    adjoints = sweeps.pulled(list(nodes), {output: np.ones(())}, keep=True)
    moved = [node for node in nodes if node in tangents and node in adjoints]
    size = sum(np.sum(np.abs(adjoints[node] * tangents[node])) for node in moved)
    assert np.isfinite(size)
    forward = float(tangents.get(output, 0.0))
    backward = sum(float(np.sum(adjoints[node] * t)) for node, t in ((x, along[0]), (y, along[1])) if node in adjoints)
    assert abs(forward - backward) <= 1e-12 * size


@pytest.mark.parametrize("seed", range(15))
def test_second_derivatives_are_symmetric_on_random_programs(seed):
    """u H t = t H u, once by forward over reverse, once by reverse over forward.

    1e-9: some thousand roundings, magnified by the curvature of ten steps that are not scaled here.
    """
    f, at, t, u = program(seed, 8), inputs(seed), inputs(seed + 1), inputs(seed + 2)
    gradient = ad.grad(f, argnums=(0, 1))
    _, along_t = ad.jvp(gradient, at, t)
    _, pullback = ad.vjp(lambda *x: ad.jvp(f, x, u)[1], *at)
    first = sum(float(np.sum(a * b)) for a, b in zip(along_t, u, strict=True))
    second = sum(float(np.sum(a * b)) for a, b in zip(pullback(1.0), t, strict=True))
    scale = sum(float(np.sum(np.abs(a * b))) for a, b in zip((*along_t, *pullback(1.0)), (*u, *t), strict=True))
    assert abs(first - second) <= 1e-9 * (1.0 + scale)


@pytest.mark.parametrize("mode", ["pull", "push"])
def test_duality_finds_a_planted_error(mode, monkeypatch):
    wrong = Operation(
        "cumsum",
        operations.cumsum.forward,
        [lambda g, y, a, axis: np.cumsum(g, axis=axis)] if mode == "pull" else operations.cumsum.pulls,
        pushes=[lambda t, y, a, axis: np.cumsum(t, axis=axis) * (1.0 + 1e-9 * (mode == "push"))],
    )
    monkeypatch.setattr(operations, "cumsum", wrong)
    used = [seed for seed in range(60) if "cumsum" in operations_of(program(seed, 20)(*map(Tensor, inputs(seed))))]
    assert used
    found = 0
    for seed in used:
        try:
            test_modes_are_dual_on_random_programs(seed)
        except AssertionError:
            found += 1
    assert found


def operations_of(output):
    return {node.op.name for node in order(output) if node.op is not None}


def test_the_random_programs_use_every_row_and_operation():
    seen = set()
    for seed in range(60):
        seen |= operations_of(program(seed, 20)(*map(Tensor, inputs(seed))))
    everything = {op.name for op in vars(operations).values() if isinstance(op, Operation)}
    assert everything - seen == {"astype", "scatter"}  # of one precision; recorded in a sweep only
    missing = {row.name for row in TABLE.values()} - seen
    assert len(missing) < 12, missing  # of 60, with 60 programs


# --- what the rules share -----------------------------------------------------------------------------------------

SIDES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(SIDES, st.data())
def test_unbroadcast_is_the_transpose_of_broadcasting(shape, data):
    small = tuple(1 if data.draw(st.booleans()) else n for n in shape)[data.draw(st.integers(0, len(shape))) :]
    g = np.arange(float(np.prod(shape, dtype=int))).reshape(shape)
    found = unbroadcast(g, small)
    assert found.shape == small
    x = np.ones(small)
    assert np.sum(found * x) == np.sum(g * np.broadcast_to(x, shape))  # whole numbers: exact
    if small == shape:
        assert found is g


@pytest.mark.parametrize("rows", [63, 64, 65, 200])
def test_unbroadcast_of_many_rows(rows):
    g = np.random.default_rng(0).integers(-9, 9, (rows, 3)).astype(np.float32)
    for shape in ((3,), (1, 3), (rows, 1), (1, 1), ()):
        found = unbroadcast(g, shape)
        assert (found.shape, found.dtype) == (shape, np.float32)
        np.testing.assert_array_equal(
            found, np.sum(g, axis=tuple(i for i in (0, 1) if (1, 1, *shape)[-2:][i] == 1)).reshape(shape)
        )


def test_axes():
    assert axes_of(None, 3) is None
    assert axes_of(-1, 3) == (2,)
    assert axes_of((0, -1), 3) == (0, 2)
    assert axes_of([1], 3) == (1,)
    for axis, error in ((3, np.exceptions.AxisError), ((0, 0), ValueError), (0.5, TypeError), ("a", TypeError)):
        with pytest.raises(error):
            axes_of(axis, 3)
    assert expanded(np.ones(3), (2, 3), (0,), False).shape == (1, 3)
    assert expanded(np.ones(()), (2, 3), None, False).shape == (1, 1)


KEYS = [0, -1, slice(None), slice(2, None, -1), None, ..., np.int64(1), (0, ...), (slice(1), None)]
TWICE = [np.array([0, 0]), [1], (0, np.array([1, 1])), True, np.True_, (np.array([True, False, True]), 0), ([0], [1])]


@pytest.mark.parametrize("key", [*KEYS, np.array([True, False, True])], ids=repr)
def test_keys_that_pick_once(key):
    assert picks_once(key)
    counts = np.zeros((3, 2))
    add_at(counts, key, 1.0)
    assert counts.max() == 1.0


@pytest.mark.parametrize("key", TWICE, ids=repr)
def test_keys_that_may_pick_twice_add_up(key):
    array, expected = np.zeros((3, 2)), np.zeros(6)
    if isinstance(key, (bool, np.bool_)):
        add_at(array, key, np.ones((1, 3, 2)))  # a bool is an int to Python, and a mask of no dimensions to NumPy
    else:
        add_at(array, key, 1.0)
    np.add.at(expected, np.arange(6).reshape(3, 2)[key].ravel(), 1.0)
    np.testing.assert_array_equal(array.ravel(), expected)


def test_an_operation_is_linear_or_has_pushes():
    with pytest.raises(ValueError, match=r"'odd'.*not both"):
        Operation("odd", np.negative, [lambda g, y, a: -g])
    with pytest.raises(ValueError, match="not both"):
        Operation("odd", np.negative, [lambda g, y, a: -g], linear="each", pushes=[lambda t, y, a: -t])
    assert repr(operations.matmul) == "Operation('matmul')"


def test_einsum_of_one_label_twice_and_of_lengths_one():
    f, b = np.arange(9.0).reshape(3, 3), np.ones((1, 3))
    for expression, operands in (
        ("ii->i", (f,)),
        ("ij,kj->ik", (f, b)),
        ("iji->j", (np.ones((3, 2, 3)),)),
        ("ij->", (f,)),
        ("ij,j->i", (b.T, b[0])),
        ("ij,j,k->k", (b.T, b[0], b[0, :2])),
    ):
        nodes = [Tensor(x) for x in operands]
        y = np.einsum(expression, *nodes)
        np.testing.assert_array_equal(y.data, np.einsum(expression, *operands))
        np.sum(y * y).backward()
        for place, node in enumerate(nodes):
            h = 1e-6
            for index in np.ndindex(node.shape):
                up, down = (list(operands), list(operands))
                up[place], down[place] = (operands[place].copy() for _ in range(2))
                up[place][index] += h
                down[place][index] -= h
                slope = (np.sum(np.einsum(expression, *up) ** 2) - np.sum(np.einsum(expression, *down) ** 2)) / (2 * h)
                assert node.grad[index] == pytest.approx(slope, rel=1e-6, abs=1e-6)


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_dropping_the_output_frees_every_array(seed):
    f, at = program(seed, 20), inputs(seed)
    gc.collect()
    gc.disable()
    try:
        x, y = map(Tensor, at)
        output = f(x, y)
        watched = [weakref.ref(node) for node in order(output) if node is not x and node is not y]
        owners = [weakref.ref(r().data) for r in watched]
        output.backward()
        del output
        assert [r() for r in watched if r() is not None] == []
        assert [r() for r in owners if r() is not None] == []
        assert gc.collect() == 0
    finally:
        gc.enable()


VIEWS = {
    "reshape": lambda t: t.reshape(6),
    "transpose": lambda t: t.T,
    "slice": lambda t: t[1:, ::2],
    "ravel": np.ravel,
    "expand_dims": lambda t: np.expand_dims(t, 0),
    "broadcast_to": lambda t: np.broadcast_to(t, (4, 2, 3)),
    "moveaxis": lambda t: np.moveaxis(t, 0, 1),
    "flip": np.flip,
    "squeeze": np.squeeze,
    "split": lambda t: np.split(t, [1])[1],
    "hsplit": lambda t: np.hsplit(t, 3)[2],
    "rot90": np.rot90,
    "flipud": np.flipud,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_views_copy_nothing(view):
    array = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(view(Tensor(array)).data, array)


def test_the_sweep_shares_no_array_between_grads_and_the_users():
    array = np.arange(3.0)
    x, y = Tensor(array), Tensor(np.ones(3))
    g = np.ones(3)
    _, pullback = ad.vjp(lambda x, y: x + y, array, y.data)
    one, other = pullback(g)
    assert not np.shares_memory(one, other)
    assert not np.shares_memory(one, g)
    z = x + y
    np.sum(z).backward()
    x.grad[0] = 7.0
    assert y.grad[0] == z.grad[0] == 1.0
    assert array[0] == 0.0


def test_constants_alone_record_nothing():
    assert type(apply(operations.matmul, (np.eye(2), np.eye(2)), {})) is np.ndarray
