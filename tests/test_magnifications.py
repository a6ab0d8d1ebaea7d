"""One forward function at every magnification: plain numbers, one Tensor per array, one Value per element.

The forwards below are NumPy code as people write it; none of them knows what flows through it. Each is run at random
points on ndarrays, on Tensors and on arrays of scalars, and must give the same number and the same gradients; where a
formula was derived by hand, that is held against them too. The oracle from outside is HIPS autograd, which runs the
very same functions with its own module in the place of numpy.
"""

import itertools
import types

import autograd
import autograd.numpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
import nn
from autodiff import Scalars, Tensor, Value, operations, scalars

EPSILON = float(np.finfo(float).eps)
# Sums run in another order, and another library takes other steps. No sum below has more than 100 terms, and no path
# more than 50 operations: some thousand roundings of the largest entry, in numbers that the draws keep near 1.
ANOTHER_ORDER = 4000 * EPSILON
FLOOR = 1e-10  # keeps logarithms away from 0


# ---------------------------------------------------------------- forwards, as people write them
def logistic(z):
    return 1 / (1 + np.exp(-z.clip(-40, 40)))


def rectified(z):
    return np.maximum(0, z)


def soft_max(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def samples_in_rows(W1, b1, W2, b2, X, y):
    a = rectified(X @ W1 + b1)
    p = logistic(a @ W2 + b2)
    return np.sum(-y * np.log(p.clip(FLOOR, 1.0)) - (1 - y) * np.log((1 - p).clip(FLOOR, 1.0))) / y.shape[0]


def samples_in_columns(W1, b1, W2, b2, X, y):
    p = logistic(W2 @ rectified(W1 @ X + b1) + b2)
    hits, misses = np.log(np.maximum(p, FLOOR)) @ y.T, np.log(np.maximum(1 - p, FLOOR)) @ (1 - y.T)
    return np.squeeze(-(hits + misses) / y.shape[1])


def slopes_written_by_hand(yhat, y):
    return np.mean((np.divide(1 - y, (1 - yhat).clip(FLOOR, 1.0)) - np.divide(y, yhat.clip(FLOOR, 1.0))) ** 2)


def squared_error(W1, b1, W2, b2, X, y):
    return np.mean(np.square(np.dot(np.tanh(X @ W1 + b1), W2) + b2 - y))


def classes(W, b, X, labels):
    p = soft_max(X @ W + b)
    return -np.mean(np.log(p[np.arange(len(labels)), labels]))


def classes_by_log_sum_exp(W, b, X, labels):
    z = X @ W + b
    top = np.max(z, axis=1, keepdims=True)
    log_p = z - top - np.log(np.sum(np.exp(z - top), axis=1, keepdims=True))
    return -np.sum(np.eye(z.shape[1])[labels] * log_p) / len(z)


def standardised(X, w):
    return np.sum(np.tanh((X - X.mean(axis=0)) / X.std(axis=0)) @ w)


def batch_norm(X, gain, shift, w):
    centred = X - np.mean(X, axis=0)
    normed = centred / np.sqrt(np.var(X, axis=0) + 1e-3)
    return np.sum((gain * normed + shift) ** 3 * w)


def layer_norm(X, gain, w):
    return np.mean(gain * (X - X.mean(axis=1, keepdims=True)) / (X.std(axis=1, keepdims=True, ddof=1) + 0.1) * w)


def attention(X, Q, K, V):
    q, k, v = X @ Q, X @ K, X @ V
    mixed = soft_max(q @ k.T / np.sqrt(q.shape[1])) @ v
    return np.sum(mixed**2) / mixed.size


def attention_heads(X, Q, K, V):
    q, k, v = (X @ W for W in (Q, K, V))  # (heads, tokens, width)
    mixed = soft_max(q @ np.swapaxes(k, 1, 2)) @ v
    return np.mean(np.concatenate(list(mixed), axis=1) ** 2)


def recurrent(U, V, c, xs, w):
    h = np.zeros(len(c))
    for x in xs:
        h = np.tanh(x @ U + h @ V + c)
    return h @ w


def gated(W, h, xs):
    state = 0.0 * h
    for x in xs:
        z = np.concatenate([x, h]) @ W
        keep, let_in, out, new = np.split(z, 4)
        state = logistic(keep) * state + logistic(let_in) * np.tanh(new)
        h = logistic(out) * np.tanh(state)
    return np.sum(h * h)


def convolution(w, b, x, windows):
    return np.sum(np.maximum(0.0, x[windows] @ w + b) ** 2)


def image_filter(kernel, image):
    rows, columns = (n - k + 1 for n, k in zip(image.shape, kernel.shape, strict=True))
    found = 0.0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            found = found + kernel[i, j] * image[i : i + rows, j : j + columns]
    return np.mean(np.abs(found))


def pooled(image, w):
    blocks = image.reshape(2, image.shape[0] // 2, 2, image.shape[1] // 2)
    return np.sum(blocks.max(axis=(1, 3)).ravel() * w)


def logistic_regression(w, b, X, y):
    z = np.dot(X, w) + b
    return np.mean(np.logaddexp(0.0, z) - y * z) + 0.01 * np.sum(w * w)


def hinge(w, b, X, signs):
    return np.mean(np.maximum(0, 1 - signs * (X @ w + b))) + 1e-2 * (w**2).sum()


def kernel_ridge(X, Z, w):
    gaps = X[:, None, :] - Z[None, :, :]
    return np.sum((np.exp(-0.5 * np.sum(gaps**2, axis=2)) @ w) ** 2)


def embedded(E, W, tokens):
    return np.sum(np.tanh(E[tokens].mean(axis=1) @ W))


def leaky(z, w):
    return np.sum(np.where(z > 0, z, 0.1 * z) * w) + np.sum(np.minimum(z, w) * np.sqrt(np.abs(w)))


def walk(steps, w):
    return np.sum(np.cumsum(steps, axis=0) ** 2 * w) + np.prod(1.0 + 0.1 * steps)


def mixture(means, log_scales, weights, x):
    z = (x[:, None] - means) / np.exp(log_scales)
    terms = np.log(soft_max(weights)) - log_scales - z**2 / 2
    top = np.max(terms, axis=1)
    return -np.mean(top + np.log(np.sum(np.exp(terms - top[:, None]), axis=1)))


def residual(x, W, v):
    h = np.hstack([x, np.outer(x[:, 0], v)])
    return np.sum(np.vstack([h + np.sin(h) @ W, h])[::-1, 1:].T ** 2)


def bilinear(x, A, y):
    return np.sum(np.einsum("ni,ijk,nj->nk", x, A, y) ** 2)


def cosine(a, b):
    return (a @ b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)))


def powers(a, b):
    return np.sum(a**3 / (1.0 + b**2) + a**-1.5 * np.power(b, 0.5) + a**b + 2.0**b)


# what is drawn for each: the arrays to differentiate by, and the constants; n samples of k features
def layers(r, n, k, column=False, outputs=1):
    shapes = [(k, 4), (1, 4), (4, outputs), (1, outputs), (n, k)]
    *parameters, X = (r.randn(*(shape[::-1] if column else shape)) for shape in shapes)
    y = r.randint(0, 2, (outputs, n) if column else (n, outputs)).astype(float)
    return parameters, [X, y]


def labelled(r, n, k):
    return [r.randn(k, 3), r.randn(3)], [r.randn(n, k), r.randint(0, 3, n)]


FORWARDS = {
    samples_in_rows: layers,
    samples_in_columns: lambda r, n, k: layers(r, n, k, column=True),
    slopes_written_by_hand: lambda r, n, k: ([r.uniform(0.1, 0.9, (n, k))], [r.randint(0, 2, (n, k)).astype(float)]),
    squared_error: lambda r, n, k: layers(r, n, k, outputs=2),
    classes: labelled,
    classes_by_log_sum_exp: labelled,
    standardised: lambda r, n, k: ([r.randn(n + 2, k), r.randn(k)], []),
    batch_norm: lambda r, n, k: ([r.randn(n + 2, k), r.randn(k), r.randn(k)], [r.randn(n + 2, k)]),
    layer_norm: lambda r, n, k: ([r.randn(n, k + 2), r.randn(k + 2)], [r.randn(n, k + 2)]),
    attention: lambda r, n, k: ([r.randn(n, k), r.randn(k, 3), r.randn(k, 3), r.randn(k, 2)], []),
    attention_heads: lambda r, n, k: ([r.randn(n, k), *(r.randn(2, k, 2) for _ in range(3))], []),
    recurrent: lambda r, n, k: ([r.randn(k, 3), r.randn(3, 3), r.randn(3)], [r.randn(n, k), r.randn(3)]),
    gated: lambda r, n, k: ([r.randn(k + 2, 8), r.randn(2)], [r.randn(n, k)]),
    convolution: lambda r, n, k: ([r.randn(k), r.randn()], [r.randn(n + k), np.add.outer(range(n), range(k))]),
    image_filter: lambda r, n, k: ([r.randn(2, 2), r.randn(n + 1, k + 2)], []),
    pooled: lambda r, n, k: ([r.randn(2 * n, 2 * k), r.randn(4)], []),
    logistic_regression: lambda r, n, k: ([r.randn(k), r.randn()], [r.randn(n, k), r.randint(0, 2, n)]),
    hinge: lambda r, n, k: ([r.randn(k), r.randn()], [r.randn(n, k), r.choice([-1, 1], n)]),
    kernel_ridge: lambda r, n, k: ([r.randn(n, k), r.randn(3, k), r.randn(3)], []),
    embedded: lambda r, n, k: ([r.randn(4, k), r.randn(k, 2)], [r.randint(0, 4, (n, 3))]),
    leaky: lambda r, n, k: ([r.randn(n, k), r.randn(n, k)], []),
    walk: lambda r, n, k: ([r.randn(n, k)], [r.randn(n, k)]),
    mixture: lambda r, n, k: ([r.randn(k), 0.3 * r.randn(k), r.randn(k)], [r.randn(n)]),
    residual: lambda r, n, k: ([r.randn(n, k), r.randn(k + 2, k + 2), r.randn(2)], []),
    bilinear: lambda r, n, k: ([r.randn(n, k), r.randn(k, 2, 2), r.randn(n, 2)], []),
    cosine: lambda r, n, k: ([r.randn(k + 1), r.randn(k + 1)], []),
    powers: lambda r, n, k: ([r.uniform(0.5, 2.0, (n, k)), r.uniform(0.5, 2.0, (n, k))], []),
}


# ---------------------------------------------------------------- the same function, three times and once outside
def at_magnification(make, forward, arrays, constants):
    """(value, gradients) from a graph of the nodes that `make` makes."""
    nodes = [make(array) for array in arrays]
    output = forward(*nodes, *constants)
    assert isinstance(output, (Tensor, Value, Scalars))
    output.backward()
    return float(output.item() if isinstance(output, Tensor) else np.ravel(output.data)[0]), [x.grad for x in nodes]


def with_numpy_from(module):
    """The functions of this file once more, in a world where np is another module."""
    world = {**globals(), "np": module}
    for name, function in globals().items():
        if type(function) is types.FunctionType:
            world[name] = types.FunctionType(function.__code__, world, name, function.__defaults__)
    return world


OUTSIDE = with_numpy_from(autograd.numpy)


def assert_near(found, expected, within=ANOTHER_ORDER):
    """Equal shapes, and entries that differ by `within` of the largest at most."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.all(np.isfinite(expected))
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=within * np.max(np.abs(expected), initial=1.0))


def assert_agreement(forward, arrays, constants):
    """The number and the gradients of all magnifications, and those from outside."""
    number = float(forward(*arrays, *constants))
    of_tensors, gradients = at_magnification(Tensor, forward, arrays, constants)
    of_scalars, one_by_one = at_magnification(scalars, forward, arrays, constants)
    # Tensors call the same functions of NumPy on the same arrays; powers and clips go through rows of the table
    assert_near(of_tensors, number, 16 * EPSILON)
    assert_near(of_scalars, number)
    argnums = tuple(range(len(arrays)))
    outside = autograd.grad(OUTSIDE[forward.__name__], argnum=argnums)(*arrays, *constants)
    transformed = ad.grad(forward, argnums)(*arrays, *constants)
    for found, single, again, expected in zip(gradients, one_by_one, transformed, outside, strict=True):
        assert_near(found, expected)
        assert_near(single, expected)
        np.testing.assert_array_equal(again, found)  # the same graph and the same sweep
    directions = [np.cos(np.arange(1.0, np.size(array) + 1.0)).reshape(np.shape(array)) for array in arrays]
    slope = ad.jvp(lambda *moving: forward(*moving, *constants), tuple(arrays), tuple(directions))[1]
    parts = np.concatenate([np.ravel(g * t) for g, t in zip(gradients, directions, strict=True)])
    np.testing.assert_allclose(np.ravel(slope)[0], parts.sum(), rtol=0.0, atol=ANOTHER_ORDER * np.abs(parts).sum())


def drawn(forward, seed):
    r = np.random.RandomState(seed)
    arrays, constants = FORWARDS[forward](r, r.randint(2, 6), r.randint(1, 5))
    return arrays, constants


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda forward: forward.__name__)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_all_magnifications_agree(forward, seed):
    assert_agreement(forward, *drawn(forward, seed))


@pytest.mark.parametrize("position", [0, 1])
def test_a_rule_that_is_off_by_a_billionth_is_noticed(monkeypatch, position):
    rules = list(operations.matmul.pulls)
    right = rules[position]
    rules[position] = lambda *given: right(*given) * (1.0 + 1e-9)
    monkeypatch.setattr(operations.matmul, "pulls", rules)
    with pytest.raises(AssertionError):
        assert_agreement(attention, *drawn(attention, 0))


def test_a_local_derivative_that_is_off_by_a_billionth_is_noticed(monkeypatch):
    right = ad.tanh.da
    monkeypatch.setattr(ad.tanh, "da", lambda y, a: right(y, a) * (1.0 + 1e-9))
    with pytest.raises(AssertionError):
        assert_agreement(recurrent, *drawn(recurrent, 0))


# ---------------------------------------------------------------- exact where the arithmetic is the same
ARITHMETIC = {  # every node is used twice at most: two contributions have one sum, whatever their order
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / b,
    "chain": lambda a, b: (2.0 * a - b / 3.0) * (1.0 - a) / (b + 0.1),
    "choice": lambda a, b: np.where(a > b, a * b, -a) + np.maximum(0.0, b),
    "pieces": lambda a, b: np.concatenate([a[::2] * 3.0, b[1:] / a[1:]])[::-1],
    "transposed": lambda a, b: (a.T - 1.0).T * b.reshape(a.shape),
}


@pytest.mark.parametrize("name", ARITHMETIC)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_arithmetic_agrees_to_the_last_bit(name, seed):
    r = np.random.RandomState(seed)
    a, b = r.randn(4, 3) * 10.0 ** r.randint(-8, 9, (4, 3)), r.randn(4, 3)
    plain = ARITHMETIC[name](a, b)
    upstream = r.randn(*plain.shape)
    seen = []
    for make in (Tensor, scalars):
        nodes = [make(a), make(b)]
        out = ARITHMETIC[name](*nodes)
        np.testing.assert_array_equal(out.data, plain)
        np.sum(upstream * out).backward()
        seen.append([node.grad for node in nodes])
    np.testing.assert_array_equal(*seen)


ELEMENTARY = [row for row in ad.TABLE.values() if row.arity == 1 and row.name in vars(ad)]


@pytest.mark.parametrize("row", ELEMENTARY, ids=lambda row: row.name)
def test_elementary_functions_agree_to_4_ulp(row):
    low, high = {"arcsin": (-0.9, 0.9), "arccos": (-0.9, 0.9), "arctanh": (-0.9, 0.9), "arccosh": (1.1, 9.0)}.get(
        row.name, (0.1, 5.0)
    )
    x = np.random.RandomState(1).uniform(low, high, (5, 3))
    seen = []
    for make in (Tensor, scalars):
        node = make(x)
        out = row(node)
        np.testing.assert_allclose(out.data, row(x), rtol=4 * EPSILON, atol=0.0)
        np.sum(out).backward()
        seen.append(node.grad)
    # a rule calls up to three functions of the table, each of which is right to 4 ulp on either side
    np.testing.assert_allclose(*seen, rtol=24 * EPSILON, atol=0.0)


# ---------------------------------------------------------------- networks: by hand, as arrays, as scalars
OUTPUTS = {  # losses that are finite for what an activation can put out
    "sse": list(nn.ACTIVATIONS),
    "half_sse": list(nn.ACTIVATIONS),
    "mse": list(nn.ACTIVATIONS),
    "bce": ["sigmoid", "softmax"],
    "ce": ["sigmoid", "softmax", "softplus"],
}
NETWORKS = [
    (hidden, last, loss, reduction, layout)
    for number, (loss, last) in enumerate((loss, last) for loss, lasts in OUTPUTS.items() for last in lasts)
    for reduction in (["mean_elements"] if loss == "mse" else nn.losses.REDUCTIONS)
    for layout in nn.by_hand.LAYOUTS
    for hidden in [list(nn.ACTIVATIONS)[number % len(nn.ACTIVATIONS)]]
]


def network_loss(names, loss, reduction, layout, W, b, X, y):
    """The loss of a network in either layout, whatever W, b, X and y are made of."""
    a = X
    for name, W_k, b_k in zip(names, W, b, strict=True):
        f = nn.ACTIVATIONS[name]
        a = f(a @ W_k + b_k) if layout == "row" else f((W_k @ a + b_k).T).T  # softmax is over the last axis
    y, yhat = (y, a) if layout == "row" else (y.T, a.T)
    return nn.LOSSES[loss](y, yhat) if loss == "mse" else nn.LOSSES[loss](y, yhat, reduction)


@pytest.mark.parametrize(("hidden", "last", "loss", "reduction", "layout"), NETWORKS)
def test_networks_agree_with_the_formulas_derived_by_hand(hidden, last, loss, reduction, layout):
    names, sizes = [hidden, last], [2, 3, 2]
    r = np.random.RandomState(5)
    turned = (lambda array: array) if layout == "row" else (lambda array: np.ascontiguousarray(array.T))
    W = [turned(r.randn(n_in, n_out)) for n_in, n_out in itertools.pairwise(sizes)]
    b = [turned(r.randn(1, n_out)) for n_out in sizes[1:]]
    X, y = turned(r.randn(4, 2)), turned(r.dirichlet([1.0, 1.0], size=4))
    net = nn.by_hand.MLP(sizes, names, loss, reduction, layout)
    net.W, net.b = [None, *W], [None, *b]
    net.backward(y, net.forward(X))
    claims = [*net.dW[1:], *net.db[1:], net.da[0]]
    number = network_loss(names, loss, reduction, layout, W, b, X, y)
    assert type(number) is float
    assert_near(number, net.loss_value(y))
    for make, kind in ((Tensor, Tensor), (scalars, Value)):
        nodes = [*map(make, W)], [*map(make, b)], make(X)
        output = network_loss(names, loss, reduction, layout, *nodes, y)
        assert type(output) is kind
        assert_near(output.item(), number)
        output.backward()
        for node, claim in zip([*nodes[0], *nodes[1], nodes[2]], claims, strict=True):
            assert_near(node.grad, claim)


def test_a_factor_in_a_formula_is_noticed(monkeypatch):
    layout = nn.by_hand.LAYOUTS["row"]
    wrong = type(layout)(layout.shape, layout.units, layout.z, lambda a, dz: 2.0 * (a.T @ dz), layout.db, layout.da)
    monkeypatch.setitem(nn.by_hand.LAYOUTS, "row", wrong)
    with pytest.raises(AssertionError):
        test_networks_agree_with_the_formulas_derived_by_hand("tanh", "identity", "sse", "mean", "row")


@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse", "bce", "bce_with_logits", "ce"])
@pytest.mark.parametrize("where", ["y", "yhat", "both"])
def test_losses_agree_with_nodes_on_either_side(loss, where):
    f = getattr(nn.losses, loss)
    r = np.random.RandomState(2)
    y, yhat = r.uniform(0.1, 0.9, (3, 2)), r.uniform(0.1, 0.9, (3, 2))
    y[0] = 0.0, 1.0
    seen = []
    for make in (Tensor, scalars):
        target, guess = (make(y) if where != "yhat" else y), (make(yhat) if where != "y" else yhat)
        output = f(target, guess)
        assert_near(output.item(), f(y, yhat))
        output.backward()
        seen.append(
            np.concatenate([x.grad for x in (target, guess) if not isinstance(x, np.ndarray) or x.dtype == object])
        )
    assert_near(*seen)
