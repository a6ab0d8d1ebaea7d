"""What the tests of exported programs share: rows at their corners, networks, functions of every signature."""

import functools
import math

import numpy as np

import autodiff as ad
from autodiff.programs import record, replay

CORNERS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 5.5, -26.0, 700.0, -700.0, 1e-9, 1e5, math.inf, -math.inf, math.nan]
CLOSE = {"rtol": 1e-9, "atol": 1e-12}  # composed functions, and slopes where they cancel


def corners(row):
    """The operands of a row, an array each: all corners, or all pairs of them."""
    if row.arity == 1:
        return [np.array(CORNERS)]
    return [grid.ravel() for grid in np.meshgrid(CORNERS, CORNERS)]


@functools.cache
def expected(row):
    """(values, slopes by each operand) of the nodes at the corners."""
    values, slopes = [], []
    with np.errstate(all="ignore"):
        for point in zip(*corners(row), strict=True):
            nodes = [ad.Value(x) for x in point]
            output = row(*nodes)
            output.backward()
            values.append(output.data)
            slopes.append([node.grad for node in nodes])
    return np.array(values), np.array(slopes).T


def of_each_sample(row):
    """The program of row(x) + 0 w or row(x, y) + 0 w for every sample of a batch, a function of w, x and perhaps y."""
    with np.errstate(all="ignore"):
        replayed = replay(
            (lambda w, x: row(x) + 0.0 * w) if row.arity == 1 else lambda w, x, y: row(x, y) + 0.0 * w,
            over=corners(row),
            reduction=None,
        )
        replayed(0.0)
    return replayed.program


def of_arrays(row):
    """The program of the sum of row(x) over arrays x, whose gradient holds a slope for each element."""
    with np.errstate(all="ignore"):
        nodes = [ad.scalars(x) for x in corners(row)]
        return record(sum(row(*point) for point in zip(*nodes, strict=True)), nodes)


def same(found, wanted, scale=1.0):
    """Equal to rounding errors, inf and nan included."""
    np.testing.assert_allclose(found, wanted, rtol=CLOSE["rtol"], atol=CLOSE["atol"] * scale)


def same_trees(found, wanted, scale=1.0):
    """The same of two trees."""
    (found, structure), (wanted, other) = ad.trees.flatten(found), ad.trees.flatten(wanted)
    assert str(structure) == str(other)
    for a, b in zip(found, wanted, strict=True):
        assert np.shape(a) == np.shape(b)
        same(a, b, scale)


# --- functions of every signature, with arguments ---

GENERATOR = np.random.default_rng(7)
X, Y = GENERATOR.normal(size=(6, 3)), GENERATOR.choice([-1.0, 1.0], 6)
PARAMETERS = {"W": GENERATOR.normal(size=(3, 4)), "rest": [GENERATOR.normal(size=4), 0.3, None]}
ELSEWHERE = ad.Value(1.25)


def hinge(parameters, x, y):
    """Of a sample: a layer of relu, the hinge loss, and the squares of the weights."""
    hidden = ad.relu(x @ parameters["W"] + parameters["rest"][0])
    squares = np.sum(parameters["W"] ** 2)
    return ad.relu(1.0 - y * (np.sum(hidden) - parameters["rest"][1])) + 1e-3 * squares


def cross_entropy(parameters, scale, x, y):
    """Of a sample, with a number that all samples share."""
    z = np.sum(np.tanh(x @ parameters["W"] * scale)) + parameters["rest"][1] * ELSEWHERE
    return ad.softplus(z) - z * (y > 0.0)


def scalars_only(a, b):
    """Of two numbers, with a comparison."""
    return ad.exp(a) * b**3 if a < b else a / b


def fixed_parts(a, mode, pair):
    """With an argument that is fixed, and a part that is."""
    assert mode == "up"
    return np.sum(a ** pair["power"]) * pair["scale"]


FUNCTIONS = {
    "hinge": (hinge, {"over": (X, Y)}, (PARAMETERS,)),
    "the sum": (hinge, {"over": (X, Y), "reduction": "sum"}, (PARAMETERS,)),
    "shared data": (cross_entropy, {"over": (X, np.ones(6))}, (PARAMETERS, 0.7)),
    "one number of a sample": (lambda w, x: ad.tanh(w * x) + w * w, {"over": (Y,)}, (0.4,)),
    "what no sample moves": (lambda w, x: w * w, {"over": (Y,)}, (3.0,)),
    "two numbers": (scalars_only, {"argnums": (0, 1)}, (0.3, 0.9)),
    "the second": (scalars_only, {"argnums": 1}, (0.3, 0.9)),
    "in another order": (scalars_only, {"argnums": (1, 0)}, (0.3, 0.9)),
    "fixed": (fixed_parts, {}, (X, "up", {"power": 2, "scale": 0.5})),
    "elsewhere": (lambda x: x * ELSEWHERE + x, {}, (2.0,)),
    "names of Python's": (lambda value, n, k0: value * n + k0, {"argnums": (0, 1, 2)}, (2.0, 3.0, 4.0)),
    "names of the file's": (
        lambda each, len, sinc, relu_array: ad.erf(each) * len + np.sum(ad.gelu(sinc * relu_array)),
        {"argnums": (3, 0)},
        (0.5, 1.5, 0.7, np.array([1.0, -2.0])),
    ),
    "a tree": (lambda p: p[0] * p[1][0] - p[1][1]["z"], {}, ((2.0, [3.0, {"z": 1.0}]),)),
    "any number of arguments": (lambda *xs: xs[0] * xs[1] - xs[2], {"argnums": (0, 2)}, (2.0, 3.0, 4.0)),
    "lanes": (lambda w: np.sum(np.tanh(X @ w) ** 2), {}, (np.array([0.1, -0.4, 0.8]),)),
    "pairs of lanes": (lambda w: np.sum(np.outer(w, w[::-1]) @ w) + w[1], {}, (np.array([0.1, -0.4, 0.8]),)),
    "a constant": (lambda w: ad.Value(2.0), {}, (1.0,)),
    "itself": (lambda w: w, {}, (1.0,)),
    "one element of many": (lambda w: w[1, 2], {}, (X,)),
}


def recorded(name):
    """(program, its arguments for an export, what the replayed function answers: (value, gradient))."""
    f, options, args = FUNCTIONS[name]
    replayed = replay(f, **options)
    wanted = replayed.value_and_grad(*args)
    plain = [without_fixed(arg) for arg in args if not isinstance(arg, str)]
    return replayed.program, [*plain, *options.get("over", ())], wanted


def without_fixed(arg):
    return {**arg, "power": None} if isinstance(arg, dict) and "power" in arg else arg
