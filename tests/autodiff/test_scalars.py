"""Arrays of nodes: NumPy code written for floats, run on `scalars`, against NumPy on floats and HIPS autograd."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import math
import pickle
import warnings
from fractions import Fraction

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import autodiff as ad
from autodiff.primitives import TABLE, UFUNCS
from autodiff.scalars import Scalars, scalars, stop_gradient
from autodiff.value import Value, order

RNG = np.random.RandomState(7)  # our own, so that the numbers below are the same in every run
W0 = RNG.randn(2, 3)  # of both signs, no two alike
X0 = RNG.randn(4, 2)
Y0 = RNG.randn(2, 3)
MASK = np.array([[True, False, True], [False, True, True]])

# --- NumPy functions: name -> function of (np, W), with the constants above -----------------------------------------

FUNCTIONS = {
    # products
    "X @ W": lambda np, W: X0 @ W,
    "W.T @ X.T": lambda np, W: W.T @ X0.T,
    "W @ W.T": lambda np, W: W @ W.T,
    "W @ vector": lambda np, W: W @ Y0[0],
    "vector @ W": lambda np, W: X0[0] @ W,
    "vector @ vector": lambda np, W: W[0] @ W[1],
    "np.dot": lambda np, W: np.dot(X0, W),
    "np.matmul": lambda np, W: np.matmul(X0, W),
    "np.outer": lambda np, W: np.outer(W[0], W[1]),
    "np.inner": lambda np, W: np.inner(W, W),
    "np.tensordot": lambda np, W: np.tensordot(X0, W, 1),
    "np.einsum": lambda np, W: np.einsum("ij,jk->ik", X0, W),
    "np.trace": lambda np, W: np.trace(W @ Y0.T),
    # parts
    "W.T": lambda np, W: W.T,
    "np.transpose": lambda np, W: np.transpose(W),
    "row": lambda np, W: W[1],
    "column": lambda np, W: W[:, 1],
    "slice": lambda np, W: W[:, ::2],
    "negative index": lambda np, W: W[-1, -2:],
    "newaxis": lambda np, W: W[:, None, :],
    "boolean mask": lambda np, W: W[MASK],
    "integer index": lambda np, W: W[[0, 1, 0], [2, 0, 2]],
    "element": lambda np, W: W[1, 2],
    "mask by comparison": lambda np, W: W[W0 > 0],
    "np.diag": lambda np, W: np.diag(W[:, :2]),
    "np.split": lambda np, W: np.split(W, 3, axis=1)[1],
    # shapes
    "reshape": lambda np, W: W.reshape(3, 2),
    "reshape(-1)": lambda np, W: np.reshape(W, -1),
    "ravel": lambda np, W: W.ravel(),
    "np.ravel": lambda np, W: np.ravel(W),
    "flatten": lambda np, W: W.flatten(),
    "np.expand_dims": lambda np, W: np.expand_dims(W, 0),
    "np.squeeze": lambda np, W: np.squeeze(W[:1]),
    "np.concatenate": lambda np, W: np.concatenate([W, Y0, W]),
    "np.concatenate axis": lambda np, W: np.concatenate([W, X0[:2]], axis=1),
    "np.stack": lambda np, W: np.stack([W, Y0], axis=1),
    "np.vstack": lambda np, W: np.vstack([W, Y0]),
    "np.hstack": lambda np, W: np.hstack([Y0, W]),
    "np.append": lambda np, W: np.append(W, 1.0),
    "np.tile": lambda np, W: np.tile(W, (2, 1)),
    "np.repeat": lambda np, W: np.repeat(W, 2, axis=0),
    "np.roll": lambda np, W: np.roll(W, 1, axis=1),
    "np.swapaxes": lambda np, W: np.swapaxes(W, 0, 1),
    # reductions
    "np.sum": lambda np, W: np.sum(W),
    "sum": lambda np, W: W.sum(),
    "sum axis 0": lambda np, W: np.sum(W, axis=0),
    "sum axis -1": lambda np, W: W.sum(axis=-1),
    "sum keepdims": lambda np, W: np.sum(W, axis=1, keepdims=True),
    "sum of two axes": lambda np, W: np.sum(W[:, None, :], axis=(0, 2)),
    "np.mean": lambda np, W: np.mean(W),
    "mean axis": lambda np, W: W.mean(axis=0),
    "mean keepdims": lambda np, W: np.mean(W, axis=1, keepdims=True),
    "np.var": lambda np, W: np.var(W),
    "var axis": lambda np, W: np.var(W, axis=0),
    "var ddof keepdims": lambda np, W: np.var(W, axis=1, ddof=1, keepdims=True),
    "np.std": lambda np, W: np.std(W),
    "std axis": lambda np, W: np.std(W, axis=0),
    "std ddof keepdims": lambda np, W: np.std(W, axis=1, ddof=1, keepdims=True),
    "np.max": lambda np, W: np.max(W),
    "max axis": lambda np, W: np.max(W, axis=0),
    "max keepdims": lambda np, W: np.max(W, axis=1, keepdims=True),
    "max of two axes": lambda np, W: np.max(W, axis=(0, 1)),
    "np.prod": lambda np, W: np.prod(W, axis=1),
    "np.cumsum": lambda np, W: np.cumsum(W, axis=1),
    "np.diff": lambda np, W: np.diff(W, axis=1),
    # elementwise
    "np.maximum(0, W)": lambda np, W: np.maximum(0, W),
    "np.maximum(W, 0.0)": lambda np, W: np.maximum(W, 0.0),
    "np.maximum(W, array)": lambda np, W: np.maximum(W, Y0),
    "np.maximum(W, W * 2)": lambda np, W: np.maximum(W, W * 2.0),
    "np.exp": lambda np, W: np.exp(W),
    "np.log": lambda np, W: np.log(np.abs(W)),
    "np.sqrt": lambda np, W: np.sqrt(W**2 + 1.0),
    "np.tanh": lambda np, W: np.tanh(W),
    "np.square": lambda np, W: np.square(W),
    "np.absolute": lambda np, W: np.absolute(W),
    "np.negative": lambda np, W: np.negative(W),
    "np.power": lambda np, W: np.power(np.exp(W), 1.5),
    "np.add": lambda np, W: np.add(W, 1),
    "np.subtract": lambda np, W: np.subtract(1, W),
    "np.multiply": lambda np, W: np.multiply(W, Y0),
    "np.divide": lambda np, W: np.divide(Y0, W),
    "np.sign": lambda np, W: np.sign(W) * W,
    "unary": lambda np, W: -W + abs(W),
    "power": lambda np, W: W**3 - 2.0**W,
    "power of arrays": lambda np, W: np.exp(W) ** Y0,
    "np.where": lambda np, W: np.where(MASK, W, 0.0),
    "np.where of two": lambda np, W: np.where(W0 > 0.0, W, np.exp(W)),
    # broadcasting
    "matrix + row": lambda np, W: X0 @ W + W[:1],
    "matrix * column": lambda np, W: W * W[:, :1],
    "row + column": lambda np, W: W[:1] + W[:, 1:2],
    "vector to three axes": lambda np, W: W[0] * np.ones((2, 2, 3)),
    "scalar": lambda np, W: W[0, 0] * W,
    "integers": lambda np, W: W * np.arange(3),
    # what people write
    "softmax": lambda np, W: (
        np.exp(W - np.max(W, axis=1, keepdims=True))
        / np.sum(np.exp(W - np.max(W, axis=1, keepdims=True)), axis=1, keepdims=True)
    ),
    "sigmoid": lambda np, W: 1 / (1 + np.exp(-W)),
    "layer": lambda np, W: np.maximum(0, X0 @ W + W[0]),
    "standardize": lambda np, W: (W - np.mean(W, axis=0)) / np.std(W, axis=0),
    "cross entropy": lambda np, W: -np.mean(np.log(1 / (1 + np.exp(-(X0 @ W))))),
    "mean squared error": lambda np, W: np.mean((X0 @ W - X0[:, :1]) ** 2),
    "frobenius": lambda np, W: np.sqrt(np.sum(W**2)),
    "list of rows": lambda np, W: np.stack([row * 2.0 for row in W]),
}


def weights(shape):
    """Fixed numbers that tell the elements of a result apart."""
    return np.random.RandomState(11).randn(*shape)


def on_nodes(function):
    """(result, the gradient in W of its weighted sum)."""
    W = scalars(W0, name="W")
    result = function(np, W)
    loss = (weights(np.shape(result)) * result).sum() if np.ndim(result) else result * 1.0
    loss.backward()
    return result, W.grad


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_numpy_functions(function):
    result, gradient = on_nodes(function)
    expected = function(np, W0)
    assert_nodes(result)
    # Sums of at most a dozen numbers of order one, added in another order: a few ulps of the largest
    np.testing.assert_allclose(data(result), expected, rtol=1e-14, atol=1e-14)
    assert np.shape(result) == np.shape(expected)

    def weighted(W):
        value = function(anp, W)
        return anp.sum(weights(anp.shape(value)) * value) if anp.ndim(value) else value

    # The same derivatives in another order of summation, and kernels that differ by an ulp: as above, times the
    # condition numbers of divisions by numbers down to 0.04
    np.testing.assert_allclose(gradient, autograd.grad(weighted)(W0), rtol=1e-12, atol=1e-13)


def data(result):
    return result.data if isinstance(result, (Value, Scalars)) else result


def assert_nodes(result):
    """Nothing was lost on the way: a Value, or Scalars with Values in every place that depends on a node."""
    assert type(result) in (Value, Scalars)
    if type(result) is Scalars:
        assert result.dtype == object
        for element in result.ravel():
            assert isinstance(element, (Value, float, int)), element


def test_the_comparison_finds_a_planted_error():
    _, gradient = on_nodes(FUNCTIONS["X @ W"])
    _, wrong = on_nodes(lambda np, W: X0 @ stop_gradient(W) + 1e-3 * (X0 @ W))
    assert abs(gradient - wrong).max() > 0.1


def test_every_ufunc_of_the_table():
    for ufunc, row in UFUNCS.items():
        arrays = [np.abs(W0) + 0.1, np.abs(Y0) + 0.1][: row.arity]
        expected = ufunc(*arrays)
        result = ufunc(scalars(arrays[0]), *arrays[1:])
        assert type(result) is Scalars
        assert all(node.op.source is row for node in result.ravel())
        np.testing.assert_allclose(result.data, expected, rtol=4 * np.finfo(float).eps)  # two kernels, 1 ulp each
        if row.arity == 2:
            left = ufunc(arrays[0], scalars(arrays[1]))
            assert all(node.op.source is row for node in left.ravel())
            both = ufunc(scalars(arrays[0]), scalars(arrays[1]))
            assert all(node.op is row and len(node.parents) == 2 for node in both.ravel())


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_every_row_on_arrays(row):
    arrays = [np.abs(W0) + 0.1, np.abs(Y0) + 0.1][: row.arity]
    expected = row.array(*arrays)
    W = scalars(arrays[0])
    for result in (row(W, *arrays[1:]), row(W, *map(scalars, arrays[1:])), row(W, *(a.tolist() for a in arrays[1:]))):
        assert type(result) is Scalars
        assert result.shape == expected.shape
        np.testing.assert_allclose(result.data, expected, rtol=4 * np.finfo(float).eps)
        assert all(node.parents[0] is leaf for node, leaf in zip(result.ravel(), W.ravel(), strict=True))
    if row.arity == 2:
        one_node = row(Value(0.5), arrays[1])
        np.testing.assert_allclose(one_node.data, row.array(0.5, arrays[1]), rtol=4 * np.finfo(float).eps)
        assert type(one_node) is Scalars


# --- relu and ties ------------------------------------------------------------------------------------------


def test_maximum_with_zero_is_relu_in_every_element():
    z = scalars([[-1.0, 0.0, -0.0, 2.0]])
    for result in (np.maximum(0, z), np.maximum(z, 0), np.maximum(0.0, z), np.maximum(np.zeros(4), z), z.clip(0)):
        assert all(node.op is ad.relu and len(node.parents) == 1 for node in result.ravel())
        np.testing.assert_array_equal(result.data, [[0.0, 0.0, 0.0, 2.0]])
    np.sum(np.maximum(0, z)).backward()
    np.testing.assert_array_equal(z.grad, [[0.0, 0.0, 0.0, 1.0]])


def test_ties_of_max_share_the_gradient():
    W = scalars([2.0, 2.0, 1.0])
    np.max(W).backward()
    np.testing.assert_array_equal(W.grad, [0.5, 0.5, 0.0])


# --- making ---------------------------------------------------------------------------------------------------


def test_leaves_and_their_names():
    W = scalars([[1.0, 2.0], [3.0, 4.0]], name="W")
    assert type(W) is Scalars
    assert W.dtype == object
    assert [node.name for node in W.ravel()] == ["W[0,0]", "W[0,1]", "W[1,0]", "W[1,1]"]
    assert [node.name for node in scalars([1.0, 2.0], name="b")] == ["b[0]", "b[1]"]
    assert scalars(1.0, name="s").item().name == "s"
    assert all(node.name is None and node.op is None for node in scalars([1.0, 2.0]))
    assert len(set(scalars(np.zeros(5)))) == 5  # five leaves, not one leaf five times


@pytest.mark.parametrize(
    "array",
    [
        [1, 2], (1.0, 2.0), np.array([1, 2], dtype=np.int8), np.array([1.5], dtype=np.float32), [True, False],
        [Fraction(1, 2)], [[1.0], [2.0]], np.float64(1.0), 3, np.zeros((0, 3)), [], np.array([1.0, 2.0], dtype=object),
        np.arange(6.0).reshape(2, 3).T, np.arange(6.0)[::-2], np.broadcast_to(1.0, (2, 2)),
    ],
    ids=repr,
)  # fmt: skip
def test_whatever_makes_an_array_of_numbers(array):
    made = scalars(array)
    assert type(made) is Scalars
    assert made.shape == np.shape(array)
    np.testing.assert_array_equal(made.data, np.asarray(array, dtype=float))
    assert made.data.dtype == made.grad.dtype == float
    assert made.grad.shape == made.shape
    assert all(type(node) is Value and type(node.data) is float for node in made.ravel())


def test_nodes_are_kept():
    v = Value(2.0, name="v")
    y = v * v
    mixed = scalars([v, 1.0, y], name="m")
    assert mixed[0] is v
    assert mixed[2] is y
    assert [node.name for node in mixed] == ["v", "m[1]", None]
    again = scalars(mixed)
    assert again is not mixed
    assert all(a is b for a, b in zip(again, mixed, strict=True))
    rows = scalars([scalars([1.0, 2.0], name="r"), scalars([3.0, 4.0])])
    assert rows.shape == (2, 2)
    assert rows[0, 1].name == "r[1]"
    assert scalars(v).item() is v
    assert scalars(v).shape == ()
    assert scalars(np.array([v, y]))[1] is y
    mixed.sum().backward()
    assert v.grad == 1.0 + 4.0


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (["a"], "<U1"), ("text", "<U4"), ([1j], "complex128"), (1j, "complex128"), ([None], "NoneType"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"), ({}, "dict"), ([object()], "object"),
        (np.array(["a", 1.0], dtype=object), "str"), (np.array([1j, 1.0], dtype=object), "complex"),
        (np.zeros(2, dtype=[("x", float)]), "x"), (None, "NoneType"), ([b"x"], "S1"), (iter([1.0]), "iterator"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)  # fmt: skip
def test_what_is_no_number_is_refused(array, kind):
    with pytest.raises(TypeError, match=r"scalars takes (a real number|real numbers), got") as caught:
        scalars(array)
    assert kind in str(caught.value)


def test_other_refusals():
    with pytest.raises(OverflowError, match="too large for a float"):
        scalars([10**400])
    with pytest.raises(ValueError, match="inhomogeneous"):
        scalars([[1.0, 2.0], [3.0]])


def test_names_are_strings():
    with pytest.raises(TypeError, match="a name is a string, got int 3"):
        scalars([1.0], name=3)


# --- data, grad, shapes -----------------------------------------------------------------------------------------


def test_data_and_grad():
    W = scalars(W0)
    np.testing.assert_array_equal(W.data, W0)
    np.testing.assert_array_equal(W.grad, np.zeros((2, 3)))
    np.sum(W * Y0).backward()
    np.testing.assert_array_equal(W.grad, Y0)
    np.testing.assert_array_equal(W.T.grad, Y0.T)
    W.data[0, 0] = 99.0  # a copy
    assert W[0, 0].data == W0[0, 0]
    np.testing.assert_array_equal(np.where(MASK, W, 5.0).data, np.where(MASK, W0, 5.0))  # numbers among the nodes


def test_no_dimensions():
    s = scalars(2.0, name="s")
    assert s.shape == ()
    assert s.data.shape == ()
    assert type(s[()]) is Value
    for y in (s + 1.0, np.exp(s), s * s, s.sum(), np.maximum(0, s), s**2):
        assert type(y) in (Value, Scalars)
    y = np.exp(s) * s
    y.backward()
    assert s.grad == pytest.approx(3.0 * math.exp(2.0), rel=1e-15)
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        float(s)


def test_empty_arrays():
    E = scalars(np.zeros((0, 3)))
    assert E.data.shape == E.grad.shape == (0, 3)
    assert np.exp(E).shape == (0, 3)
    assert type(np.maximum(0, E)) is Scalars
    assert E.sum() == 0
    np.testing.assert_array_equal(E.sum(axis=0).data, np.zeros(3))
    np.testing.assert_array_equal((np.zeros((2, 0)) @ E).data, np.zeros((2, 3)))
    assert (E @ np.zeros((3, 4))).shape == (0, 4)
    assert np.concatenate([E, scalars(W0)]).shape == (2, 3)
    with pytest.raises(ValueError, match="zero-size array"):
        E.max()
    with pytest.warns(RuntimeWarning) as record, pytest.raises(AttributeError):
        E.mean().backward()  # nan, as NumPy has it, of no nodes
    assert "Mean of empty slice" in {str(warning.message) for warning in record}


def test_backward_of_an_array():
    scalars([[1.0]]).backward()
    for shape in ((2,), (0,), (2, 2)):
        with pytest.raises(ValueError, match=r"backward starts from one number.*np\.sum"):
            scalars(np.ones(shape)).backward()


def test_views_share_their_nodes():
    W = scalars(W0, name="W")
    assert W.T[2, 1] is W[1, 2]
    assert W.reshape(-1)[4] is W[1, 1]
    assert W[:, 1:][0, 0] is W[0, 1]
    assert np.ravel(W)[0] is W[0, 0]
    assert W.copy()[0, 0] is W[0, 0]


def test_copies():
    W = scalars(W0, name="W")
    for twin in (copy.deepcopy(W), pickle.loads(pickle.dumps(W))):
        assert type(twin) is Scalars
        assert twin[0, 0] is not W[0, 0]
        assert twin[1, 2].name == "W[1,2]"
        np.testing.assert_array_equal(twin.data, W0)


def test_stop_gradient():
    W = scalars(W0, name="W")
    cut = stop_gradient(W * 2.0)
    assert type(cut) is Scalars
    assert all(node.op is None for node in cut.ravel())
    np.sum(W * cut).backward()
    np.testing.assert_array_equal(W.grad, 2.0 * W0)
    assert stop_gradient(W0) is W0


# --- comparisons ------------------------------------------------------------------------------------------------


def test_comparisons_give_arrays_of_bool():
    W, other = scalars(W0), scalars(Y0)
    for comparison in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
        for found, expected in [
            (comparison(W, 0.0), comparison(W0, 0.0)),
            (comparison(0.0, W), comparison(0.0, W0)),
            (comparison(W, other), comparison(W0, Y0)),
            (comparison(W, W), comparison(W0, W0)),
            (comparison(W, W[0, 0]), comparison(W0, W0[0, 0])),
        ]:
            assert found.dtype == bool
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, expected)
    assert (W == None).tolist() == [[False] * 3] * 2  # noqa: E711
    special = scalars([0.0, math.nan, math.inf, -math.inf])
    for test in (np.isnan, np.isinf, np.isfinite):
        np.testing.assert_array_equal(test(special), test(special.data))


def test_comparing_with_text_answers_as_numpy():
    assert not np.any(scalars([1.0, 2.0]) == "x")
    assert np.all(scalars([1.0, 2.0]) != "x")


def test_comparisons_into_an_array_of_bool():
    found = np.zeros((2, 3), dtype=bool)
    np.less(scalars(W0), 0.0, out=found)
    np.testing.assert_array_equal(found, W0 < 0.0)


@pytest.mark.parametrize("call", [np.argmax, np.argsort, lambda W: np.argmax(W, axis=1), lambda W: np.nonzero(W)[0]])
def test_indices_are_plain_numbers(call):
    found, expected = call(scalars(W0)), call(W0)
    np.testing.assert_array_equal(found, expected)
    assert type(found) is type(expected)


def test_sorting_moves_nodes():
    W = scalars(W0)
    ordered = np.sort(W, axis=1)
    np.testing.assert_array_equal(ordered.data, np.sort(W0, axis=1))
    assert set(ordered.ravel()) == set(W.ravel())
    np.testing.assert_array_equal(W[np.arange(2), np.argmax(W, axis=1)].data, W0.max(axis=1))
    assert np.median(W[0]) is W[0, np.argsort(W0[0])[1]] or np.median(W[0]).data == np.median(W0[0])


# --- assignment and out= ----------------------------------------------------------------------------------------

IN_PLACE = {
    "+=": lambda z, other: z.__iadd__(other),
    "-=": lambda z, other: z.__isub__(other),
    "*=": lambda z, other: z.__imul__(other),
    "/=": lambda z, other: z.__itruediv__(other),
}
PURE = {
    "+=": lambda z, other: z + other,
    "-=": lambda z, other: z - other,
    "*=": lambda z, other: z * other,
    "/=": lambda z, other: z / other,
}


@pytest.mark.parametrize("kind", ["number", "array", "node", "nodes", "row"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_operators_record(name, kind):
    def other(W):
        return {"number": 2.5, "array": Y0, "node": W[0, 1], "nodes": W * 3.0, "row": W[:1]}[kind]

    W = scalars(W0)
    z = kept = W * 1.0
    z = IN_PLACE[name](z, other(W))
    assert z is kept
    assert_nodes(z)
    np.testing.assert_allclose(z.data, PURE[name](W0 * 1.0, other(W0)), rtol=1e-15)
    np.sum(z * Y0).backward()
    expected = autograd.grad(lambda W: anp.sum(PURE[name](W * 1.0, other(W)) * Y0))(W0)
    # one operation each, then sums of contributions up to Y / W, which is a few hundred, and may cancel
    np.testing.assert_allclose(W.grad, expected, rtol=1e-13, atol=1e-12)


def test_in_place_operators_on_leaves_keep_the_leaves_in_the_graph():
    W = scalars(W0)
    leaves = W.copy()
    W *= 2.0
    W **= 2
    assert all(node.op is not None for node in W.ravel())
    W.sum().backward()
    np.testing.assert_allclose(leaves.grad, 8.0 * W0, rtol=1e-15)  # (2 w)**2


def test_matrix_product_in_place():
    W, square = scalars(W0[:, :2]), scalars(Y0[:, :2])
    expected = W.data @ square.data
    W @= square
    np.testing.assert_allclose(W.data, expected, rtol=1e-14)  # two products, one sum
    assert_nodes(W)


def test_assigning_elements():
    z = scalars(np.zeros((2, 3)))
    v = Value(2.0)
    z[0, 0] = v * 3.0
    z[1] = scalars(W0[0]) * v
    z[0, 1:] = 7.0
    total = np.sum(z)
    assert total.data == pytest.approx(6.0 + 2.0 * W0[0].sum() + 14.0, rel=1e-15)
    total.backward()
    assert v.grad == pytest.approx(3.0 + W0[0].sum(), rel=1e-15)


def test_out_into_an_array_of_nodes():
    W = scalars(W0)
    target = scalars(np.zeros((2, 3)))
    result = np.exp(W, out=target)
    assert result is target
    np.sum(np.multiply(target, 2.0, out=target)).backward()
    np.testing.assert_allclose(W.grad, 2.0 * np.exp(W0), rtol=1e-15)
    plain = np.zeros((2, 3), dtype=object)
    np.add(W, 1.0, out=plain)
    assert all(isinstance(node, Value) for node in plain.ravel())


FLOAT_TARGETS = {
    "buffer += W": lambda W, buffer: buffer.__iadd__(W),
    "buffer *= W": lambda W, buffer: buffer.__imul__(W),
    "buffer[...] = W": lambda W, buffer: buffer.__setitem__(..., W),
    "buffer[0] = W[0]": lambda W, buffer: buffer.__setitem__(0, W[0]),
    "buffer[0, 1] = W[0, 1]": lambda W, buffer: buffer.__setitem__((0, 1), W[0, 1]),
    "buffer[mask] = W[mask]": lambda W, buffer: buffer.__setitem__(MASK, W[MASK]),
    "buffer.flat = W": lambda W, buffer: buffer.flat.__setitem__(slice(None), W.ravel()),
    "np.exp(W, out=buffer)": lambda W, buffer: np.exp(W, out=buffer),
    "np.add(W, 1, out=buffer)": lambda W, buffer: np.add(W, 1.0, out=buffer),
    "np.matmul(out=buffer)": lambda W, buffer: np.matmul(np.eye(2), W, out=buffer),
    "np.copyto(buffer, W)": lambda W, buffer: np.copyto(buffer, W),
    "np.copyto(unsafe)": lambda W, buffer: np.copyto(buffer, W, casting="unsafe"),
    "np.put(buffer, 0, W)": lambda W, buffer: np.put(buffer, [0], W[0, :1]),
    "np.putmask": lambda W, buffer: np.putmask(buffer, MASK, W),
    "np.place": lambda W, buffer: np.place(buffer, MASK, W[MASK]),
    "np.fill_diagonal": lambda W, buffer: np.fill_diagonal(buffer, W[0, 0]),
    "W.sum(out=buffer)": lambda W, buffer: W.sum(axis=0, out=buffer[0]),
    "W.mean(out=buffer)": lambda W, buffer: W.mean(axis=0, out=buffer[0]),
    "np.max(out=buffer)": lambda W, buffer: np.max(W, axis=0, out=buffer[0]),
    "np.std(out=buffer)": lambda W, buffer: np.std(W, axis=0, out=buffer[0]),
    "np.cumsum(out=buffer)": lambda W, buffer: np.cumsum(W[0], out=buffer[0]),
    "np.take(out=buffer)": lambda W, buffer: np.take(W[0], [0, 1, 2], out=buffer[0]),
    "np.concatenate(out=buffer)": lambda W, buffer: np.concatenate([W[:1], W[:1]], out=buffer),
    "np.einsum(out=buffer)": lambda W, buffer: np.einsum("ij->ij", W, out=buffer),
    "W.astype(float)": lambda W, buffer: W.astype(float),
    "W.astype(int)": lambda W, buffer: W.astype(int),
    "np.asarray(W, dtype=float)": lambda W, buffer: np.asarray(W, dtype=float),
    "np.float32(W)": lambda W, buffer: np.float32(W),
    "np.sum(W, dtype=float)": lambda W, buffer: np.sum(W, dtype=float),
    "np.mean(W, dtype=float)": lambda W, buffer: np.mean(W, dtype=float),
    "np.add(dtype=float)": lambda W, buffer: np.add(W, 1.0, dtype=float),
    "np.add(dtype=float, unsafe)": lambda W, buffer: np.add(W, 1.0, dtype=float, casting="unsafe"),
    "np.stack(dtype=float)": lambda W, buffer: np.stack([W, W], dtype=float, casting="unsafe"),
    "np.fromiter": lambda W, buffer: np.fromiter(W.ravel(), float),
    "np.interp": lambda W, buffer: np.interp(W[0], [0.0, 1.0], [0.0, 1.0]),
    "np.linalg.inv": lambda W, buffer: np.linalg.inv(W[:, :2]),
    "np.linalg.solve": lambda W, buffer: np.linalg.solve(W[:, :2], np.eye(2)),
    "np.fft.fft": lambda W, buffer: np.fft.fft(W),
    "np.bincount": lambda W, buffer: np.bincount([0, 1, 1], weights=W[0]),
    "float(element)": lambda W, buffer: float(W[0, 0]),
    "math.exp(element)": lambda W, buffer: math.exp(W[0, 0]),
}


@pytest.mark.parametrize("call", FLOAT_TARGETS.values(), ids=FLOAT_TARGETS.keys())
def test_nothing_goes_into_floats(call):
    buffer = np.full((2, 3), 7.0)
    with pytest.raises(TypeError):
        call(scalars(W0), buffer)
    np.testing.assert_array_equal(buffer, np.full((2, 3), 7.0))


def test_refusal_of_a_float_target_says_what_to_do():
    W = scalars(W0)
    buffer = np.zeros((2, 3))
    with pytest.raises(TypeError, match=r"np\.exp into an array of float64 would drop the gradient.*scalars"):
        np.exp(W, out=buffer)
    with pytest.raises(TypeError, match=r"np\.add into .*would drop the gradient"):
        buffer += W
    with pytest.raises(TypeError, match=r"\.item\(\)"):
        buffer[0] = W[0]


def test_add_at_into_floats():
    with pytest.raises(TypeError):
        np.add.at(np.zeros(6), [0, 1], scalars([1.0, 2.0]))


def test_add_at():
    z, W = scalars(np.zeros(3)), scalars([1.0, 2.0, 4.0])
    np.add.at(z, [0, 2, 0], W)
    np.testing.assert_array_equal(z.data, [5.0, 0.0, 2.0])
    z[0].backward()
    np.testing.assert_array_equal(W.grad, [1.0, 0.0, 1.0])


WITH_WHERE = {
    "np.add": lambda W, out: np.add(W, 1.0, out=out, where=MASK),
    "np.exp": lambda W, out: np.exp(W, out=out, where=MASK),
    "np.divide": lambda W, out: np.divide(W, 2.0, out=out, where=MASK),
    "np.maximum": lambda W, out: np.maximum(W, 0.5, out=out, where=MASK),
}


@pytest.mark.parametrize("call", WITH_WHERE.values(), ids=WITH_WHERE.keys())
def test_out_with_where_leaves_the_rest_alone(call):
    W, out = scalars(W0), scalars(Y0)
    before = out.copy()
    assert call(W, out) is out
    np.testing.assert_allclose(out.data, call(W0, Y0.copy()), rtol=4 * np.finfo(float).eps)
    assert all(out[index] is before[index] for index in np.ndindex(2, 3) if not MASK[index])


def test_division_into_zeros_where_possible():
    W = scalars(W0)
    found = np.divide(1.0, W, out=np.zeros_like(W), where=W > 0.0)
    np.testing.assert_array_equal(found.data, np.divide(1.0, W0, out=np.zeros_like(W0), where=W0 > 0.0))


@pytest.mark.parametrize("q", [0.3, 0.5, 0.8])
def test_quantiles_are_right_or_refused(q):
    W = scalars(W0)
    try:
        found = np.quantile(W, q, axis=0)
    except (TypeError, AttributeError):
        return
    np.testing.assert_allclose(found.data, np.quantile(W0, q, axis=0), rtol=1e-14)


@pytest.mark.parametrize("call", [np.nansum, np.nanmean, np.nanvar, np.nanstd, np.nanmax], ids=lambda f: f.__name__)
def test_functions_that_leave_out_nan(call):
    holed = np.where(MASK, W0, math.nan)
    W = scalars(holed)
    try:
        found = call(W, axis=1)
    except TypeError:
        return  # a refusal is an answer
    np.testing.assert_allclose(found.data, call(holed, axis=1), rtol=1e-14)


def test_reductions_with_options():
    W = scalars(W0)
    assert np.sum(W, initial=2.0).data == pytest.approx(W0.sum() + 2.0, rel=1e-14)
    assert np.sum(W, where=MASK, initial=0.0).data == pytest.approx(W0[MASK].sum(), rel=1e-14)
    assert np.max(W, initial=100.0).data == 100.0
    assert np.max(W, where=MASK, initial=-9.0).data == W0[MASK].max()
    np.testing.assert_array_equal(np.add.accumulate(W[0]).data, np.add.accumulate(W0[0]))
    np.testing.assert_array_equal(np.add.reduceat(W[0], [0, 1]).data, np.add.reduceat(W0[0], [0, 1]))
    np.testing.assert_array_equal(np.multiply.outer(W[0], W[1]).data, np.multiply.outer(W0[0], W0[1]))
    np.testing.assert_array_equal(np.maximum.outer(W[0], W0[1]).data, np.maximum.outer(W0[0], W0[1]))
    np.testing.assert_array_equal(np.maximum.accumulate(W, axis=1).data, np.maximum.accumulate(W0, axis=1))


# --- functions without a row ------------------------------------------------------------------------------------

UFUNCS_WITHOUT_A_ROW = [
    np.cos, np.sin, np.tan, np.arctan, np.arcsin, np.sinh, np.cosh, np.log1p, np.expm1, np.exp2, np.log2, np.log10,
    np.floor, np.ceil, np.rint, np.trunc, np.cbrt, np.reciprocal, np.degrees, np.deg2rad, np.spacing,
    np.logical_not, np.invert, np.modf, np.frexp,
    np.arctan2, np.hypot, np.minimum, np.fmax, np.fmin, np.fmod, np.remainder, np.floor_divide, np.divmod,
    np.copysign, np.nextafter, np.ldexp, np.heaviside, np.logaddexp, np.float_power, np.logical_and, np.logical_or,
    np.left_shift, np.vecdot, np.clip,
]  # fmt: skip


@pytest.mark.parametrize("ufunc", UFUNCS_WITHOUT_A_ROW, ids=lambda f: f.__name__)
@pytest.mark.parametrize("operand", [scalars([0.3, 0.7]), Value(0.3)], ids=["array", "node"])
def test_functions_without_a_row_are_refused(ufunc, operand):
    arguments = {np.clip: (operand, 0.0, 1.0)}.get(ufunc) or (operand, 1.0)[: getattr(ufunc, "nin", 1)]
    with pytest.raises(TypeError, match=rf"np\.{ufunc.__name__} cannot be applied to nodes.*no row.*\.data"):
        ufunc(*arguments)


THROUGH_WRAPPERS = {
    "np.clip(W, 0, 1)": ("clip", lambda W: np.clip(W, 0, 1)),
    "W.clip(0, 1)": ("clip", lambda W: W.clip(0, 1)),
    "np.clip(out=)": ("clip", lambda W: np.clip(W, 0, 1, out=W)),
    "np.clip(array, W, 3)": ("clip", lambda W: np.clip(W0, W, 3)),
    "W.clip(max=0)": ("minimum", lambda W: W.clip(max=0)),
    "np.round(W)": ("rint", lambda W: np.round(W)),
    "np.round(W, 1)": ("rint", lambda W: np.round(W, 1)),
    "W.round()": ("rint", lambda W: W.round()),
    "np.around(W)": ("rint", lambda W: np.around(W)),
    "np.fix(W)": ("trunc", lambda W: np.fix(W)),
    "np.min(W)": ("minimum", lambda W: np.min(W)),
    "W.min(axis=0)": ("minimum", lambda W: W.min(axis=0)),
    "np.ptp(W)": ("minimum", lambda W: np.ptp(W)),
    "np.any(W)": ("logical_or", lambda W: np.any(W)),
    "W.all()": ("logical_and", lambda W: W.all()),
    "np.angle(W)": ("arctan2", lambda W: np.angle(W)),
    "np.sinc(W)": ("sin", lambda W: np.sinc(W)),
    "W % 2": ("remainder", lambda W: W % 2),
    "W // 2": ("floor_divide", lambda W: W // 2),
    "divmod(W, 2)": ("divmod", lambda W: divmod(W, 2)),
    "~W": ("invert", lambda W: ~W),
    "np.cos.at": ("cos", lambda W: np.cos.at(W, [0])),
    "np.minimum.reduce": ("minimum", lambda W: np.minimum.reduce(W)),
}


@pytest.mark.parametrize(("name", "call"), THROUGH_WRAPPERS.values(), ids=THROUGH_WRAPPERS.keys())
def test_refusals_come_through_numpys_wrappers(name, call):
    # the second: NumPy rounds to decimals by way of a plain array, and looks for a method of its elements
    with pytest.raises(TypeError, match=rf"np\.{name} cannot be applied to nodes|no callable {name} method"):
        call(scalars(W0))


def test_a_refusal_is_forgotten_afterwards():
    W = scalars(W0)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"np\.clip"):
            np.clip(W, 0, 1)
        assert_nodes(np.sum(W, axis=0))
        with pytest.raises(TypeError, match=r"np\.cos"):
            np.cos(W)
        assert_nodes(np.concatenate([W, W]))
        assert_nodes(np.mean(W))


def test_a_refusal_keeps_no_graph_alive():
    def refused(call):
        W = scalars(W0) * 2.0
        with contextlib.suppress(TypeError):
            call(np.exp(W))

    gc.collect()
    before = sum(type(thing) is Value for thing in gc.get_objects())
    for call in (np.cos, lambda W: np.clip(W, 0, 1), lambda W: np.exp(W, out=np.zeros((2, 3))), np.round):
        refused(call)
        gc.collect()
        assert sum(type(thing) is Value for thing in gc.get_objects()) == before


def test_a_refusal_that_user_code_handles_does_not_come_back():
    W = scalars(W0)

    def squash(row):
        try:
            return np.cos(row)
        except TypeError:
            return np.tanh(row)

    found = np.stack([squash(row) for row in W])
    np.testing.assert_allclose(found.data, np.tanh(W0), rtol=1e-15)


# --- not finite -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call", "kind"),
    [
        ("log", lambda W: np.log(W), "divide by zero"),
        ("exp", lambda W: np.exp(1000.0 - W), "overflow"),
        ("sqrt", lambda W: np.sqrt(W - 1.0), "invalid value"),
        ("div", lambda W: 1.0 / W, "divide by zero"),
        ("pow", lambda W: W**-1.0, "divide by zero"),
    ],
)
def test_numpys_warnings(name, call, kind):
    array = np.array([0.0, 1.0, 2.0])
    with np.errstate(all="ignore"):
        expected = call(array)
        np.testing.assert_array_equal(call(scalars(array)).data, expected)
    with pytest.warns(RuntimeWarning, match=kind):
        np.testing.assert_array_equal(call(scalars(array)).data, expected)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=rf"{name}\(.*{kind}"):
        call(scalars(array))


@pytest.mark.parametrize("call", [lambda x: np.log(x), lambda x: np.sqrt(x - 1.0), lambda x: np.exp(1000.0 - x)])
def test_one_warning_per_element_and_none_of_our_making(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(scalars([0.0, 1000.0]))
    assert [str(warning.message) for warning in caught if "vectorized" in str(warning.message)] == []
    assert len(caught) == 1


def test_underflow_is_no_error_in_arrays_as_in_nodes():
    with np.errstate(all="raise"):
        assert Value(-1000.0).exp().data == 0.0
        assert np.exp(Value(-1000.0)).data == 0.0
        np.testing.assert_array_equal(np.exp(scalars([-1000.0])).data, [0.0])
        np.testing.assert_array_equal(ad.sigmoid(scalars([-1000.0, 1000.0])).data, [0.0, 1.0])


def test_nan_passes_through():
    W = scalars([math.nan, 1.0])
    for result in (np.maximum(0, W), np.exp(W), W * 2.0, np.tanh(W), abs(W), W**2):
        assert math.isnan(result.data[0])
        assert not math.isnan(result.data[1])
    assert math.isnan(np.max(W).data)
    assert math.isnan(np.sum(W).data)


# --- other arrays ---------------------------------------------------------------------------------------------


def test_with_plain_object_arrays():
    v = Value(2.0)
    plain = np.array([v, v * 2.0])
    assert type(plain) is np.ndarray
    for result in (plain * scalars([1.0, 2.0]), scalars([1.0, 2.0]) + plain, np.maximum(scalars([0.0, 9.0]), plain)):
        assert type(result) is Scalars
        assert all(type(node) is Value for node in result)
    assert type(plain.sum()) is Value
    assert type(np.exp(plain)[0]) is Value


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int64, bool])
def test_with_arrays_of_every_number(dtype):
    array = np.array([[1, 0, 1], [0, 1, 1]], dtype=dtype)
    W = scalars(W0)
    for result in (W * array, array * W, W + array, array - W, array @ W.T, np.maximum(array, W)):
        assert type(result) is Scalars
    np.testing.assert_allclose((W * array).data, W0 * array.astype(float), rtol=0)
    np.testing.assert_allclose((array - W).data, array.astype(float) - W0, rtol=0)


def test_lists_and_tuples_on_the_other_side():
    W = scalars(W0)
    for other in ([1.0, 2.0, 3.0], (1.0, 2.0, 3.0), [[1.0], [2.0]]):
        np.testing.assert_array_equal((W + other).data, W0 + np.array(other))
        np.testing.assert_array_equal((other * W).data, W0 * np.array(other))


@pytest.mark.parametrize(
    "bad", ["x", 1j, None, np.array([1j]), np.array(["x"]), {}, object()], ids=lambda bad: type(bad).__name__
)
def test_operators_refuse(bad):
    W = scalars(W0)
    before = W.copy()
    for call in (lambda: W + bad, lambda: bad * W, lambda: np.maximum(W, bad), lambda: W.__iadd__(bad)):
        with pytest.raises(TypeError):
            call()
    assert all(a is b for a, b in zip(W.ravel(), before.ravel(), strict=True))


def test_shapes_that_do_not_fit():
    W = scalars(W0)
    for call in (lambda: W + np.ones(4), lambda: W @ np.ones(2), lambda: np.maximum(W, np.ones((3, 3)))):
        with pytest.raises(ValueError, match=r"shape|mismatch|dimension"):
            call()


# --- the graph below is the one that the formulas say -------------------------------------------------------------


def test_every_scalar_operation_is_a_node():
    X, W, b = X0, scalars(W0, name="W"), scalars(np.zeros((1, 3)), name="b")
    loss = np.sum(np.maximum(0, X @ W + b))
    operations = [node.op.name for node in order(loss) if node.op is not None]
    assert operations.count("mul") == 4 * 3 * 2
    assert operations.count("relu") == 4 * 3
    # each product's sum, the bias, and the sum over all; NumPy may start a sum at its first term or at 0
    assert 4 * 3 * (1 + 1) + 11 <= operations.count("add") <= 4 * 3 * (2 + 1) + 12
    leaves = {node.name for node in order(loss) if node.op is None}
    assert leaves >= {f"W[{i},{j}]" for i, j in itertools.product(range(2), range(3))} | {"b[0,0]", "b[0,1]", "b[0,2]"}
