"""Tensor: the rows of the table on arrays, what NumPy and Python make of a node, and the backward pass."""

import builtins
import copy
import gc
import math
import operator
import weakref
from fractions import Fraction

import numpy as np
import pytest

import autodiff as ad
from autodiff import TABLE, MixedNodes, Tensor, Value, scalars
from autodiff.operations import Operation
from autodiff.tensor import apply, order

A = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.5]])

# --- the rows of the table ----------------------------------------------------------------------------------------

CORNERS = np.array([
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, 0.3, -0.7, 20.0, -20.0, 700.0, -745.0, 1e-8, -1e-8, 1e-300, 5e-324,
    1e300, -1e300, math.inf, -math.inf, math.nan,
])  # fmt: skip


def operands_of(row):
    return (CORNERS,) if row.arity == 1 else tuple(x.ravel() for x in np.meshgrid(CORNERS, CORNERS))


def same(x, y):
    return np.array_equal(x, y, equal_nan=True) and np.array_equal(np.signbit(x), np.signbit(y))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_a_row_on_tensors_is_its_kernel_and_its_slopes_are_those_of_values(row):
    operands = operands_of(row)
    nodes = [Tensor(x) for x in operands]
    y = row(*nodes)
    assert same(y.data, row.array(*operands))
    np.sum(y).backward()
    slopes = []
    for numbers in zip(*operands, strict=True):
        values = [Value(float(number)) for number in numbers]
        row(*values).backward()
        slopes.append([value.grad for value in values])
    for node, expected in zip(nodes, np.transpose(slopes), strict=True):
        found = node.grad
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        finite = np.isfinite(found) & np.isfinite(expected)
        assert np.array_equal(found[~finite & ~np.isnan(found)], expected[~finite & ~np.isnan(found)])
        # 4 ulp: the same rule, over NumPy's functions instead of Python's math
        off = np.abs(found[finite] - expected[finite])
        assert np.all(off <= 4 * np.maximum(np.spacing(np.abs(expected[finite])), 5e-324))


@pytest.mark.parametrize("row", [row for row in TABLE.values() if row.arity == 2], ids=lambda row: row.name)
def test_broadcasting_is_undone_and_constants_fold(row):
    a, b = np.abs(A) + 0.5, np.array([[1.25], [0.75]])
    for left, right in ((a, b), (b, a), (a, b[0]), (b[0], a), (a, np.float64(0.75)), (a, 0.75)):
        x, y = Tensor(left), Tensor(right)
        both = row(x, y)
        np.sum(both).backward()
        for kept, folded in ((x, lambda row, v, r=right: row(v, r)), (y, lambda row, v, r=left: row(r, v))):
            alone = Tensor(kept.data)
            result = folded(row, alone)
            assert same(result.data, both.data)
            np.sum(result).backward()
            assert alone.grad.shape == alone.shape
            np.testing.assert_allclose(alone.grad, kept.grad, rtol=1e-14)
        assert type(row(x, right).parents[0]) is Tensor
        assert len(row(x, right).parents) == 1


@pytest.mark.parametrize("row", [row for row in TABLE.values() if row.arity == 1], ids=lambda row: row.name)
def test_a_row_is_a_method_and_keeps_the_precision(row):
    with np.errstate(all="ignore"):
        for dtype in (np.float16, np.float32, np.float64, np.longdouble):
            x = Tensor(np.array([0.25, 0.75], dtype))
            y = getattr(x, row.name)()
            assert y.dtype == row(x).dtype == dtype
            np.sum(y).backward()
            assert x.grad.dtype == dtype


def test_a_row_of_a_new_primitive_works_on_tensors():
    ad.primitive("test_cube", lambda a: a * a * a, lambda y, a: 3.0 * a * a)
    try:
        x = Tensor([1.0, 2.0])
        np.sum(x.test_cube()).backward()
        assert x.grad.tolist() == [3.0, 12.0]
    finally:
        del TABLE["test_cube"]
        del Tensor.test_cube
        del Value.test_cube


# --- which arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(2.0),
        np.float32([1, 2]),
        np.float16([1]),
        np.longdouble([1]),
        np.asfortranarray(A),
        A[:, ::-2],
        A[::-1].T,
        np.broadcast_to(1.0, (2, 2)),
        A.astype(">f8"),
        np.lib.stride_tricks.as_strided(A, (2, 2), (8, 8)),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}{a.strides}",
)
def test_every_layout_and_precision_works_and_is_not_copied(array):
    t = Tensor(array)
    assert t.data is array or np.shares_memory(t.data, array) or not array.size
    assert (t.shape, t.ndim, t.size, t.dtype) == (array.shape, array.ndim, array.size, array.dtype)
    y = np.sum(np.exp(t) * t + t[...])
    y.backward()
    expected = np.exp(array) * (1 + array) + 1
    assert (t.grad.shape, t.grad.dtype) == (array.shape, array.dtype)
    np.testing.assert_allclose(t.grad, expected, rtol=4 * np.finfo(array.dtype).eps)


def test_read_only_arrays_work_and_stay():
    array = A.copy()
    array.flags.writeable = False
    t = Tensor(array)
    np.sum(t * t).backward()
    t.grad[0, 0] = 0.0  # the grad is an array of its own
    np.testing.assert_array_equal(array, A)


@pytest.mark.parametrize(
    "array", [[1, 2], 3, True, np.arange(2), np.array([True]), np.uint8([1]), [[1.0], [2]], 2.5, np.float64(1)]
)
def test_integers_and_bools_become_floats(array):
    t = Tensor(array)
    assert t.dtype == np.float64
    assert t.data.tolist() == np.asarray(array, float).tolist()


REFUSED = {
    "complex": ([1j], "real numbers.*complex128.*\\.real and \\.imag"),
    "strings": (["a"], "real numbers"),
    "None": (None, "real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], "lengths differ"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[D]"), "real numbers"),
    "objects": (np.array([object()]), "real numbers"),
    "nodes": ([Value(1.0)], "real numbers.*np.stack.*scalars"),
    "tensors": ([Tensor(1.0)], "real numbers.*np.stack"),
    "a node": (Value(1.0), "takes numbers, got the node"),
    "a tensor": (Tensor(1.0), "takes numbers, got the node"),
    "a mask": (np.ma.masked_array([1.0, 2.0], [0, 1]), "mask.*filled"),
}


@pytest.mark.parametrize(("array", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_array_of_real_numbers_is_refused(array, message):
    with pytest.raises(TypeError, match=message):
        Tensor(array)


MIXED_PRECISION = {
    "python float": (lambda x: x * 2.0, np.float32),
    "python int": (lambda x: 2 + x, np.float32),
    "python bool": (lambda x: x * True, np.float32),
    "fraction": (lambda x: x * Fraction(1, 2), np.float32),
    "numpy float64": (lambda x: x * np.float64(2.0), np.float64),
    "float64 array": (lambda x: x + np.ones(2), np.float64),
    "0-d float64 array": (lambda x: x + np.array(1.0), np.float64),
    "float16 array": (lambda x: x + np.ones(2, np.float16), np.float32),
    "bool array": (lambda x: x * np.array([True, False]), np.float32),
    "bool array, divided": (lambda x: x / np.array([True, True]), np.float32),
    "int8 array": (lambda x: x / np.int8([1, 2]), np.float32),
    "int64 array": (lambda x: x / np.array([1, 2]), np.float64),
    "int64 array, added": (lambda x: x + np.array([1, 2]), np.float64),
    "where": (lambda x: np.where(x > 1, x, 0), np.float32),
    "maximum": (lambda x: np.maximum(0, x), np.float32),
    "clip": (lambda x: x.clip(0, 1), np.float32),
    "power": (lambda x: x**2, np.float32),
    "mean": (np.mean, np.float32),
    "std": (np.std, np.float32),
    "sum with dtype": (lambda x: np.sum(x, dtype=float), np.float64),
    "matmul": (lambda x: x @ np.ones((2, 2), np.float32), np.float32),
    "astype": (lambda x: x.astype(np.float64), np.float64),
    "fix": (np.fix, np.float32),
    "fmod": (lambda x: np.fmod(x, 0.75), np.float32),
    "sigmoid": (ad.sigmoid, np.float32),
    "gelu": (ad.gelu, np.float32),
}


@pytest.mark.parametrize(("f", "expected"), MIXED_PRECISION.values(), ids=MIXED_PRECISION.keys())
def test_precisions_mix_as_in_numpy_and_gradients_keep_that_of_their_node(f, expected):
    x = Tensor(np.float32([1.5, 2.5]))
    y = f(x)
    assert y.dtype == expected
    np.sum(y).backward()
    assert x.grad.dtype == np.float32
    _, dy = ad.jvp(f, (x.data,), (np.ones(2, np.float32),))
    assert np.asarray(dy).dtype == expected


# --- what Python and NumPy make of a node -------------------------------------------------------------------------


def test_as_an_object_array_and_back():
    t = Tensor(A)
    array = np.asarray(t)
    assert (array.dtype, array.shape) == (object, A.shape)
    assert all(type(x) is Tensor and x.ndim == 0 for x in array.flat)
    back = np.stack([np.stack(list(row)) for row in array])
    np.sum(back * back).backward()
    np.testing.assert_array_equal(t.grad, 2 * A)
    gradient = ad.grad(lambda a: np.sum(np.asarray(a) ** 2))(A)  # object arrays record all the way
    np.testing.assert_array_equal(gradient, 2 * A)
    _, pullback = ad.vjp(lambda a: np.array([a[0, 0], a[1, 1] * 2.0]), A)  # and transforms restack them
    np.testing.assert_array_equal(pullback(np.ones(2))[0], [[1, 0, 0], [0, 2, 0]])


def test_to_integers_and_bools_a_node_goes_by_data():
    t = Tensor([1.75, 0.0])
    assert t.astype(int).tolist() == [1, 0]
    assert np.asarray(t, dtype=int).tolist() == [1, 0]
    assert np.asarray(t, dtype=bool).tolist() == [True, False]


def put(array, key, new):
    array[key] = new


def inplace(function, array, other):
    return function(array, other)


Z, T = Tensor(2.0), Tensor([1.0, 2.0, 3.0])
LOSING = {
    "float": lambda: float(Z),
    "int": lambda: int(Z),
    "complex": lambda: complex(Z),
    "math.exp": lambda: math.exp(Z),
    "math.isnan": lambda: math.isnan(Z),
    "math.fsum": lambda: math.fsum(T),
    "index": lambda: [1, 2, 3][Z],
    "range": lambda: range(Z),
    "np.float64": lambda: np.float64(Z),
    "np.float32 of an array": lambda: np.float32(T),
    "np.asarray(float)": lambda: np.asarray(T, dtype=float),
    "np.array(float)": lambda: np.array([Z, Z], dtype=float),
    "np.asarray(complex)": lambda: np.asarray(T, dtype=complex),
    "astype": lambda: np.asarray(T).astype(float),
    "np.fromiter": lambda: np.fromiter(T, float),
    "np.vectorize": lambda: np.vectorize(lambda x: x * 2.0, otypes=[float])(T),
    "np.full": lambda: np.full(3, Z, dtype=float),
    "np.full_like": lambda: np.full_like(np.zeros(2), Z),
    "np.arange": lambda: np.arange(0.0, Z),
    "np.nditer": lambda: list(np.nditer(T)),
    "element": lambda: put(np.zeros(3), 0, Z),
    "slice": lambda: put(np.zeros(3), slice(None), T),
    "mask": lambda: put(np.zeros(3), [True] * 3, T),
    "element of integers": lambda: put(np.zeros(3, int), 0, Z),
    "fill": lambda: np.zeros(3).fill(Z),
    "put": lambda: np.zeros(3).put([0], Z),
    "+=": lambda: inplace(operator.iadd, np.zeros(3), T),
    "*= of integers": lambda: inplace(operator.imul, np.zeros(3, int), T),
    "@=": lambda: inplace(operator.imatmul, np.eye(3), np.eye(3) * T),
    "np.add(out)": lambda: np.add(np.ones(3), T, np.zeros(3)),
    "np.add.at": lambda: np.add.at(np.zeros(3), [0, 0, 1], T),
    "np.sum(initial)": lambda: np.sum(np.ones(3), initial=Z),
    "ndarray.sum(initial)": lambda: np.ones(3).sum(initial=Z),
    "random": lambda: np.random.default_rng(0).normal(T, 1.0),
    "array module": lambda: __import__("array").array("d", [Z]),
    "node[key] = new": lambda: put(T, 0, 1.0),
    "node.fill": lambda: T.fill(0.0),
    "node.sort": lambda: T.sort(),
    "node.put": lambda: T.put([0], 1.0),
    "node.partition": lambda: T.partition(1),
    "node.resize": lambda: T.resize(2),
}


@pytest.mark.parametrize("lose", LOSING.values(), ids=LOSING.keys())
def test_nothing_drops_the_gradient_silently(lose):
    with pytest.raises(
        (TypeError, ValueError)
    ) as caught:  # NumPy wraps ours: "setting an array element with a sequence"
        lose()
    said = str(caught.value) + str(caught.value.__cause__)
    if type(caught.value) is TypeError:
        assert any(words in said for words in ("gradient", "no index", "in place", "REFS_OK"))


KEEPING = {
    "list": lambda t: np.stack(list(t)),
    "sorted": lambda t: np.stack(sorted(t, reverse=True)),
    "builtin max": lambda t: builtins.max(t) * np.ones(3),
    "builtin min": lambda t: builtins.min(list(t)) * np.ones(3),
    "builtin sum": lambda t: builtins.sum(t) * np.ones(3),
    "reversed": lambda t: np.stack([t[i] for i in reversed(range(3))]),
    "zip": lambda t: np.stack([x * y for x, y in zip(t, t, strict=True)]),
    "unpacking": lambda t: np.stack([*t][::-1]),
    "map": lambda t: np.stack(list(map(np.exp, t))),
    "list of a list": lambda t: np.concatenate([[t[0], t[1]], t[2:]]),
    "operand in a list": lambda t: t * [t[0], 1.0, t[2]],
    "np.array": lambda t: np.stack([*np.array([t[0], t[1] * 2.0, 1.0])]),
    "np.vectorize": lambda t: np.stack(list(np.vectorize(lambda x: x * x)(t))),
    "flat": lambda t: np.stack(list(t.flat)),
    "tolist": lambda t: np.stack(t.tolist()),
    "accumulate": lambda t: t + np.ones(3) * 2.0,
    "abs": abs,
    "round": lambda t: t * round(t[0], 1),
    "divmod": lambda t: divmod(t, 0.7)[1],
    "math.floor": lambda t: t * math.floor(t[2]),
    "math.ceil": lambda t: t * math.ceil(t[0]),
    "pow": lambda t: pow(t, 2),
    "np.sum of a list": lambda t: np.sum([t, t], axis=0) * np.ones(3),
    "np.exp of a list": lambda t: np.stack([*np.exp([t[0], t[1], t[2]])]),
    "ndarray.dot": lambda t: np.ones((3, 3)).dot(t),
    "ndarray.clip": lambda t: np.ones(3).clip(t, None),
    "conditional": lambda t: t if t[0] < 10.0 else -t,
}


@pytest.mark.parametrize("f", KEEPING.values(), ids=KEEPING.keys())
def test_the_gradient_goes_through(f):
    at = np.array([0.3, 1.6, 2.2])

    def total(x):
        return np.sum(f(x) * np.array([1.0, 2.0, 3.0]))

    found = ad.grad(total)(at)
    h = 1e-6
    expected = [(total(at + h * e) - total(at - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert np.any(found)


def test_in_place_operators_make_new_nodes():
    t = x = Tensor([1.0, 2.0])
    x += 1.0
    x *= x
    assert x is not t
    assert t.data.tolist() == [1.0, 2.0]
    np.sum(x).backward()
    assert t.grad.tolist() == [4.0, 6.0]
    m = Tensor(np.eye(2))
    m @= np.ones((2, 2))
    assert m.op.name == "matmul"


def test_truth():
    assert Tensor(1.0)
    assert not Tensor([[0.0]])
    for array in (T, Tensor(np.zeros(0))):
        with pytest.raises(ValueError, match=r"neither true nor false; ask np\.any"):
            bool(array)
    assert 2.0 in T
    assert 5.0 not in T


def test_comparisons_are_by_data_and_the_hash_by_identity():
    t, u = Tensor([1.0, 2.0]), Tensor([1.0, 3.0])
    for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        for other in (u, u.data, [1.0, 3.0], 1.5):
            plain = other.data if type(other) is Tensor else np.asarray(other)
            assert type(compare(t, other)) is np.ndarray
            assert compare(t, other).tolist() == compare(t.data, plain).tolist()
            assert compare(other, t).tolist() == compare(plain, t.data).tolist()
    assert (t == None) is False  # noqa: E711
    assert (t != "a") is True
    assert len({t, u, t}) == 2
    with pytest.raises(TypeError):
        _ = t < "a"


def test_attributes_and_protocols():
    t = Tensor(A, name="W")
    assert (len(t), t.T.shape, t.mT.shape, t.real is t, t.imag.tolist()) == (
        2,
        (3, 2),
        (3, 2),
        True,
        np.zeros((2, 3)).tolist(),
    )
    assert t.item(0) == 1.0
    assert type(t.item(1, 2)) is float
    with pytest.raises(ValueError, match=r"one|size 1|scalar"):
        t.item()
    for call in (len, iter):
        with pytest.raises(TypeError, match="no dimensions"):
            call(Z)
    assert repr(t) == "Tensor([[ 1.  , -2.  ,  0.5 ],\n        [ 3.  ,  0.25, -1.5 ]], name='W')"
    assert repr(Tensor(np.float32([1]))) == "Tensor([1.], dtype=float32)"
    assert f"{Z:.2f}" == "2.00"
    assert f"{T}" == str(T) == repr(T)
    assert t.name == "W"
    t.name = None
    assert t.name is None
    with pytest.raises(TypeError, match="name is a string"):
        t.name = 3
    with ad.scope("layer 1"):
        assert (t * 2.0).scope == ("layer 1",)
    with pytest.raises(TypeError, match="Tensor is final"):
        type("Other", (Tensor,), {})
    with pytest.raises(AttributeError):
        t.other = 1


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "mean",
        "var",
        "std",
        "prod",
        "max",
        "min",
        "cumsum",
        "cumprod",
        "trace",
        "dot",
        "ravel",
        "reshape",
        "transpose",
        "swapaxes",
        "squeeze",
        "repeat",
        "take",
        "diagonal",
        "round",
        "argmax",
        "argmin",
        "argsort",
        "nonzero",
        "any",
        "all",
        "clip",
        "searchsorted",
        "copy",
        "astype",
        "flatten",
        "conj",
        "conjugate",
        "choose",
        "compress",
        "item",
        "tolist",
        "fill",
        "sort",
        "put",
        "partition",
        "resize",
    ],
)
def test_methods_are_those_of_arrays(name):
    assert callable(getattr(np.ndarray, name))
    assert callable(getattr(Tensor, name))


def test_methods_take_arguments_as_those_of_arrays():
    t = Tensor(A)
    for call in (
        lambda x: x.sum(0),
        lambda x: x.sum(axis=1, keepdims=True),
        lambda x: x.max(1),
        lambda x: x.take([0, 1], 1),
        lambda x: x.repeat(2, 0),
        lambda x: x.reshape(3, -1),
        lambda x: x.reshape((3, 2), order="F"),
        lambda x: x.transpose(1, 0),
        lambda x: x.transpose((1, 0)),
        lambda x: x.swapaxes(0, 1),
        lambda x: x.round(1),
        lambda x: x.clip(0, 1),
        lambda x: x.clip(max=1.0),
        lambda x: x.flatten("F"),
        lambda x: x.astype(np.float32, copy=False),
        lambda x: x.astype("f4", "C"),
        lambda x: x.compress([1, 0], 0),
        lambda x: x.var(0, ddof=1),
        lambda x: x.cumsum(1),
        lambda x: x.diagonal(1),
        lambda x: x.dot(A.T),
        lambda x: x.argmax(1),
        lambda x: x.all(),
    ):
        found, expected = call(t), call(A)
        data = found.data if type(found) is Tensor else found
        assert np.asarray(data).dtype == expected.dtype
        np.testing.assert_array_equal(data, expected)


# --- two magnifications do not mix --------------------------------------------------------------------------------

V, S = Value(2.0), scalars([1.0, 2.0, 3.0])
MIXES = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "%": operator.mod,
    "//": operator.floordiv,
    "==": operator.eq,
    "<": operator.lt,
    ">=": operator.ge,
    "divmod": divmod,
    "np.add": np.add,
    "np.maximum": np.maximum,
    "np.greater": np.greater,
    "np.hypot": np.hypot,
    "ad.maximum": ad.maximum,
    "ad.hypot": ad.hypot,
    "np.where": lambda x, y: np.where([True, False, True], x, y),
    "np.append": np.append,
    "np.fmax": np.fmax,
    "np.clip": lambda x, y: np.clip(x, y, None),
    "np.outer": np.outer,
    "np.kron": np.kron,
    "np.dot": np.dot,
}


@pytest.mark.parametrize("other", [V, S, np.array([V, V, V])], ids=["Value", "Scalars", "object array"])
@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES.keys())
def test_a_tensor_and_values_do_not_mix(mix, other):
    for x, y in ((T, other), (other, T)):
        with pytest.raises(MixedNodes, match=r"a Tensor and a Value.*Make both\s+Tensors.*scalars"):
            mix(x, y)


@pytest.mark.parametrize(
    "mix", [np.concatenate, np.stack, np.vstack, np.hstack, np.column_stack], ids=lambda f: f.__name__
)
def test_joins_do_not_mix_them_either(mix):
    for parts in ([T, S], [S, T]):
        with pytest.raises(MixedNodes):
            mix(parts)
    for parts in ([Z, V], [V, Z]):
        with pytest.raises(MixedNodes):
            np.stack(parts)
    for x, y in ((T, S), (S, T)):
        with pytest.raises(MixedNodes):
            x @ y
        with pytest.raises(MixedNodes):
            np.einsum("i,i", x, y)


def test_a_float_that_meets_a_tensor_in_a_transform_becomes_one():
    t = np.array([1.0, 2.0])
    assert ad.grad(lambda w: np.sum(np.maximum(w, Tensor(t))))(1.5) == 1.0
    assert ad.grad(lambda w: np.sum(ad.hypot(w, Tensor(t) * 0.0)))(1.5) == 2.0


# --- the backward pass --------------------------------------------------------------------------------------------


def test_backward_twice_accumulates_at_leaves_and_not_in_between():
    x = Tensor([2.0, 3.0])
    between = x * x
    y = np.sum(between * x)
    y.backward()
    assert (x.grad.tolist(), between.grad.tolist(), y.grad.tolist()) == ([12.0, 27.0], [2.0, 3.0], 1.0)
    y.backward()
    assert (x.grad.tolist(), between.grad.tolist(), y.grad.tolist()) == ([24.0, 54.0], [2.0, 3.0], 1.0)
    leaf = Tensor([[5.0]])
    leaf.backward()
    leaf.backward()
    assert leaf.grad.tolist() == [[2.0]]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)])
def test_an_output_of_one_number_has_any_shape(shape):
    x = Tensor(np.full(shape, 3.0))
    (x * x).backward()
    assert x.grad.shape == shape
    assert x.grad.item() == 6.0


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_backward_of_several_numbers_is_refused(shape):
    with pytest.raises(ValueError, match=r"backward starts from one number.*np\.sum\(node\).*vjp"):
        (Tensor(np.ones(shape)) * 2.0).backward()


def test_a_rule_that_raises_leaves_every_grad_as_it_was():
    def fails(g, y, a):
        raise RuntimeError("this rule fails")

    broken = Operation("broken", lambda a: a * 1.0, [fails], linear="each")
    x = Tensor([1.0, 2.0])
    z = np.sum(x * 3.0)
    z.backward()
    below = apply(broken, (x * 2.0,), {})
    y = np.sum(below * x)
    with pytest.raises(RuntimeError, match="this rule fails"):
        y.backward()
    assert x.grad.tolist() == [3.0, 3.0]
    assert not y.has_grad
    assert not below.has_grad


def test_grad_before_and_after():
    x = Tensor(np.ones((2, 2), np.float32))
    assert not x.has_grad
    assert x.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert not x.grad.flags.writeable  # a write would be lost
    x.grad = 1
    assert x.grad.dtype == np.float32
    np.sum(x).backward()
    assert x.grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    x.grad = None
    assert not x.has_grad
    x.grad = [[1.0], [2.0]]
    assert x.grad.tolist() == [[1.0, 1.0], [2.0, 2.0]]
    for wrong in (np.ones(3), "a", np.ones((1, 2, 2)), 1j):
        with pytest.raises(ValueError, match=r"grad has the shape \(2, 2\)|broadcast"):
            x.grad = wrong


def test_a_node_that_the_output_does_not_depend_on_has_no_grad():
    x, other = Tensor([1.0]), Tensor([1.0])
    side = other * x
    (x * 2.0).backward()
    assert not other.has_grad
    assert not side.has_grad


def test_an_operand_twice_counts_twice():
    x = Tensor([3.0, 4.0])
    for y in (
        x * x,
        np.multiply(x, x),
        x @ x,
        np.dot(x, x),
        np.einsum("i,i", x, x),
        np.sum(np.concatenate([x, x]) ** 2) / 2.0,
    ):
        x.grad = None
        np.sum(y).backward()
        assert x.grad.tolist() == [6.0, 8.0]


def test_shared_paths_add_up():
    x = Tensor(0.5)
    y = x
    for _ in range(60):
        y = y + y  # 2**60 paths
    y.backward()
    assert x.grad == 2.0**60


def test_a_long_chain_neither_recurses_nor_keeps_anything():
    x = Tensor([1.0])
    y = x
    for _ in range(20_000):
        y = y + 0.0
    y.backward()
    assert x.grad.tolist() == [1.0]
    last = weakref.ref(y.parents[0])
    gc.disable()
    try:
        del y
        assert last() is None
    finally:
        gc.enable()


def test_order_puts_children_first():
    x = Tensor([1.0])
    y = np.exp(x) * x + x
    nodes = order(y)
    place = {node: i for i, node in enumerate(nodes)}
    assert nodes[0] is y
    assert nodes[-1] is x
    assert all(place[node] < place[parent] for node in nodes for parent in node.parents)


def test_a_floating_point_error_names_operation_and_node():
    x = Tensor([0.0, 1.0], name="x")
    with np.errstate(all="raise"):
        with pytest.raises(FloatingPointError, match=r"log: divide by zero.*node 'x'"):
            np.log(x)
        with pytest.raises(FloatingPointError, match="mul"):
            Tensor([1e300]) * 1e300
        with pytest.raises(FloatingPointError, match="matmul"):
            Tensor([1e300]) @ [1e300]
        y = np.sqrt(x)
        with pytest.raises(FloatingPointError, match=r"the derivative of sqrt.*node 'x'"):
            np.sum(y).backward()
    assert not x.has_grad


def test_the_users_array_is_not_written():
    array = A.copy()
    x = Tensor(array)
    y = x + array
    np.sum(y * y).backward()
    np.testing.assert_array_equal(array, A)
    seed = np.ones((2, 3))
    _, pullback = ad.vjp(lambda a: a * 1.0 + a, A)
    pullback(seed)
    assert seed.tolist() == np.ones((2, 3)).tolist()


def test_copies_are_independent():
    x = Tensor(A)
    y = x.copy()
    np.sum(y * y).backward()
    np.testing.assert_array_equal(x.grad, 2 * A)
    twin = copy.deepcopy(x)
    np.testing.assert_array_equal(twin.data, A)
    assert twin is not x


def test_a_sum_of_grads_that_overflows_changes_no_grad():
    x = Tensor([1e-300, 1.0])
    np.sum(x * 1e308).backward()
    before = x.grad.copy()
    z = np.sum(x * 1.7e308)
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        z.backward()
    assert np.array_equal(x.grad, before)
    assert not z.has_grad


def test_the_grad_of_a_node_of_no_dimensions_is_an_array():
    x = Tensor(2.0)
    (x * x).backward()
    assert type(x.grad) is np.ndarray
    assert x.grad.shape == ()
