"""why_zero names what blocks a gradient: every cause planted, in scalar and in array graphs."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings

import autodiff as ad
from autodiff import Tensor, Value, adjoints, scalars, why_zero
from tests.random_graphs import all_paths, graphs

RANDOM = settings(deadline=None, derandomize=True, max_examples=150)
BOTH = pytest.mark.parametrize("kind", [Value, Tensor])

# One number in, one out: the cause, what is done with x, at which x, and words of the message
CAUSES = [
    ("off", lambda x: 3.0 * ad.relu(x) + 1.0, -1.5, ["relu(x) is off", "x = -1.5 is not above 0"]),
    ("off", lambda x: np.maximum(0, x - 2.0), 2.0, ["relu(x - 2) is off", "x - 2 = 0 is not above 0"]),
    ("saturated", lambda x: ad.sigmoid(x), 40.0, ["σ(x) is saturated", "x = 40", "4.24835e-18"]),
    ("saturated", lambda x: ad.sigmoid(x) + 1.0, -900.0, ["derivative is 0"]),
    ("saturated", lambda x: np.tanh(50.0 * x), -1.0, ["tanh(50 · x) is saturated"]),
    ("saturated", lambda x: ad.softplus(x), -50.0, ["softplus(x) is saturated"]),
    ("saturated", lambda x: np.exp(x), -800.0, ["exp(x) is saturated", "derivative is 0"]),
    ("bounded", lambda x: np.maximum(x, 2.0) * 5.0, 0.5, ["max(x, 2) is bounded", "0.5 is at most 2"]),
    ("bounded", lambda x: np.minimum(1.0, x), 3.0, ["min(1, x) is bounded", "3 is at least 1"]),
    ("bounded", lambda x: ad.clip(x, -1.0, 1.0), -7.0, ["max(x, -1) is bounded", "-7 is at most -1"]),
    ("multiplied by zero", lambda x: (x * 0.0).tanh(), 2.0, ["x · 0 multiplies x by 0"]),
    ("multiplied by zero", lambda x: 0.0 / x, 2.0, ["0 / x divides 0"]),
    ("multiplied by zero", lambda x: x / 1e300, 2.0, ["divides x by 1e+300"]),
    ("piecewise constant", lambda x: np.floor(x) * 2.0, 1.5, ["⌊x⌋ is piecewise constant"]),
    ("piecewise constant", lambda x: np.sign(x), 1.5, ["sign(x) is piecewise constant"]),
    ("piecewise constant", lambda x: np.rint(x * 3.0), 1.5, ["round(x · 3) is piecewise constant"]),
    ("piecewise constant", lambda x: x // 2.0, 1.5, ["⌊x / 2⌋ is piecewise constant"]),
    ("flat", lambda x: x**2, 0.0, ["x² is flat", "at x = 0 its derivative is 0"]),
    ("flat", lambda x: abs(x), 0.0, ["|x| is flat"]),
    ("flat", lambda x: np.cos(x), 0.0, ["cos(x) is flat"]),
    ("cancel", lambda x: 3.0 * x - 3.0 * x, 1.5, ["the contributions to x cancel: "]),
    ("cancel", lambda x: x * 2.0 - (x + x).tanh() * 0.0 - 2.0 * x, 1.5, ["to x cancel"]),
    ("fades", lambda x: sigmoids(x, 40), 1.5, ["the gradient fades step by step"]),
    ("detached", lambda x: ad.stop_gradient(x) ** 2, 1.5, ["does not depend on x", "cut off by stop_gradient"]),
    ("detached", lambda x: type(x)(x.data, "y") ** 2, 1.5, ["a leaf with its numbers stands in its place"]),
    ("detached", lambda x: type(x)(2.0) * x.data, 1.5, ["has the numbers of x as a constant: .data or .item()"]),
    ("detached", lambda x: type(x)(2.0) * (1.0 if x > 0.0 else 0.0), 1.5, ["no path leads there", "a comparison"]),
]


def sigmoids(x, count):
    for _ in range(count):
        x = ad.sigmoid(x)
    return x


def made(f, x):
    with np.errstate(all="ignore"):
        return f(x)


@BOTH
@pytest.mark.parametrize(("cause", "f", "at", "words"), CAUSES)
def test_a_planted_cause_is_named(kind, cause, f, at, words):
    x = kind(at, "x")
    found = why_zero(made(f, x), x)
    assert cause in [reason.kind for reason in found.reasons]
    lines = [str(reason) for reason in found.reasons if reason.kind == cause]
    if cause == "cancel" and kind is Tensor:
        words = [words[0].rstrip(": ")]
    assert any(all(word in line for word in words) for line in lines), lines
    assert str(found).startswith(("the gradient by x is zero", "the gradient by x is tiny"))
    assert all(line in str(found) for line in lines)
    assert (found.count, found.size) == (1, 1)


@BOTH
@pytest.mark.parametrize(("cause", "f", "at", "words"), CAUSES)
def test_only_the_cause_is_named(kind, cause, f, at, words):
    """A healthy path beside the blocked one: then the gradient is not zero, and nothing is named."""
    x = kind(at, "x")
    found = why_zero(made(f, x) + 0.25 * x, x)
    if cause == "fades" or abs(float(found.gradient)) > 1e-8:
        assert found.reasons == ()
        assert "is not zero: 0.25" in str(found)


@BOTH
def test_a_node_made_from_the_output(kind):
    x = kind(1.5, "x")
    y = x * 2.0
    assert "y was made from the output" in str(why_zero(x, named(y, "y")))
    assert [reason.kind for reason in why_zero(x, y).reasons] == ["downstream"]
    assert "no path leads there" in str(why_zero(kind(3.0), x))


def named(node, name):
    node.name = name
    return node


@BOTH
def test_all_blocked_paths_are_listed_and_what_lies_behind_them(kind):
    x = kind(-1.0, "x")
    first, second = named(ad.relu(x), "first"), named(np.floor(x), "second")
    gate = named((first + second * 2.0) * 0.0, "gate")
    found = why_zero(gate + 1.0, x)
    assert [(reason.kind, reason.node.name, reason.parent.name) for reason in found.reasons] == [
        ("off", "first", "x"),
        ("piecewise constant", "second", "x"),
        ("multiplied by zero", "gate", None),
    ]


def unexplained(output, wrt, reasons):
    """The paths, found by recursion straight from the definition, on which no reason lies."""
    blocked = {(id(reason.parent), id(reason.node)) for reason in reasons}
    sums = {id(reason.node) for reason in reasons if reason.kind == "cancel"}
    return [
        nodes
        for nodes, _ in all_paths(output, wrt)
        if not blocked & {(id(a), id(b)) for a, b in pairwise(nodes)} and not sums & {id(node) for node in nodes}
    ]


@RANDOM
@given(graphs(max_operations=9))
def test_every_path_of_a_zero_gradient_meets_a_reason(example):
    adjoint = adjoints(example.output)
    for leaf in example.leaves:
        found = why_zero(example.output, leaf)
        if leaf not in adjoint:
            assert {reason.kind for reason in found.reasons} <= {"detached", "downstream"}
            continue
        assert (found.count == 1) == bool(found.reasons) == (abs(adjoint[leaf]) <= 1e-8)
        if found.reasons and all(reason.kind != "fades" for reason in found.reasons):
            assert unexplained(example.output, leaf, found.reasons) == []


def test_a_forgotten_reason_leaves_a_path_unexplained():
    x = Value(-1.0, "x")
    y = ad.relu(x) + np.floor(x)
    found = why_zero(y, x)
    assert unexplained(y, x, found.reasons) == []
    assert len(unexplained(y, x, found.reasons[1:])) == 1


@RANDOM
@given(graphs(max_operations=9))
def test_an_edge_that_blocks_lets_nothing_through(example):
    for leaf in example.leaves:
        for reason in why_zero(example.output, leaf).reasons:
            if reason.kind not in ("detached", "cancel", "fades"):
                locals_ = [local for parent, local in reason.node.edges() if parent is reason.parent]
                assert min(map(abs, locals_)) <= 1e-3
                assert reason.numbers[-1] in locals_


# ---------------------------------------------------------------- arrays
rng = np.random.default_rng(5)
X = rng.normal(size=(5, 8))
W = rng.normal(size=(8, 3))

# The cause, f, and which elements of X are blocked by it, counted where it blocks (of how many)
COUNTS = [
    ("off", lambda x: np.sum(ad.relu(x)), (X <= 0).sum(), 40),
    ("off", lambda x: np.sum(np.maximum(0, x - 100.0)), 40, 40),
    ("bounded", lambda x: np.sum(np.clip(x, None, 0.5)), (X >= 0.5).sum(), 40),
    ("unchosen", lambda x: np.sum(np.where(X > 0.3, x, 1.0)), (X <= 0.3).sum(), 40),
    ("unchosen", lambda x: np.sum(np.where(X > 0.3, 2.0, x)), (X > 0.3).sum(), 40),
    ("unchosen", lambda x: np.sum(np.max(x, axis=1) ** 2), 35, 40),
    ("unchosen", lambda x: np.min(x), 39, 40),
    ("unused", lambda x: np.sum(x[1:3, ::2]), 32, 40),
    ("unused", lambda x: np.sum(x[X > 0.0]), (X <= 0).sum(), 40),
    ("unused", lambda x: np.sum(x[[0, 0, 1], [2, 2, 3]]), 38, 40),
    ("saturated", lambda x: np.sum(np.exp(-1e6 * x**2)), 40, 40),
    ("saturated", lambda x: np.sum(ad.sigmoid(1e6 * x.T)), 40, 40),
    ("piecewise constant", lambda x: np.sum(np.rint(x)), 40, 40),
    ("multiplied by zero", lambda x: np.sum(x * (X > 0)), (X <= 0).sum(), 40),
    ("multiplied by zero", lambda x: np.sum(x @ np.diag([1.0, 2, 0, 0, 3, 4, 5, 0])), 15, 40),
    ("multiplied by zero", lambda x: np.sum(np.einsum("ij,j->i", x, [1.0, 2, 0, 0, 3, 4, 5, 0])), 15, 40),
    ("multiplied by zero", lambda x: np.prod(np.concatenate([[0.0, 0.0], x[0]])), 8, 10),
    ("cancel", lambda x: np.sum(x - np.mean(x)), 40, 40),
    ("cancel", lambda x: np.sum(np.concatenate([x, x]) * np.repeat([[1.0], [-1.0]], 5, axis=0)), 40, 40),
    ("cancel", lambda x: np.sum(x @ np.tile([[1.0, -1.0]], (8, 1))), 40, 40),
    ("cancel", lambda x: np.sum(np.sort(x, axis=1)[:, ::-1] - np.sort(x, axis=1)), 40, 40),
    ("detached", lambda x: np.sum(ad.stop_gradient(x) * Tensor(2.0)), 40, 40),
    ("detached", lambda x: np.sum(x.data * Tensor(2.0)), 40, 40),
]


@pytest.mark.parametrize(("cause", "f", "count", "size"), COUNTS)
def test_elements_are_counted(cause, f, count, size):
    x = Tensor(X, "x")
    found = why_zero(f(x), x)
    (reason,) = [reason for reason in found.reasons if reason.kind == cause]
    assert (reason.count, reason.size) == (count, size)
    assert str(reason) in str(found)
    if count < size:
        assert f"{count} of {size} elements" in str(reason)
        assert "the first at" in str(reason)


@pytest.mark.parametrize(("cause", "f", "count", "size"), COUNTS)
def test_an_element_of_interest(cause, f, count, size):
    """For each element alone: reasons where its gradient is zero, and nowhere else."""
    x = Tensor(X, "x")
    y = f(x)
    gradient = adjoints(y).get(x, np.zeros(X.shape))
    for index in [(0, 0), (1, 2), (3, 7), (4, 4)]:
        found = why_zero(y, x, index=index)
        assert found.size == 1
        assert bool(found.reasons) == (abs(gradient[index]) <= 1e-8) == bool(found.count)
        if found.reasons and size == 40:
            assert cause in [reason.kind for reason in found.reasons]


def test_the_message_of_a_layer():
    x, w, b = Tensor(X, "X"), Tensor(W, "W"), Tensor([50.0, -50.0, 50.0], "b")
    loss = np.mean(ad.relu(x @ w + b))
    found = why_zero(loss, b)
    assert str(found).splitlines()[0] == "the gradient by b is zero at 1 of 3 elements:"
    (reason,) = found.reasons
    assert reason.index == (0, 1)
    assert "relu(X @ W + b) is off at 5 of 15 elements, the first at [0, 1]" in str(reason)
    assert why_zero(loss, b, index=0).reasons == ()
    assert "is not zero" in str(why_zero(loss, b, index=0))


@pytest.mark.parametrize("activation", [ad.relu, lambda z: ad.sigmoid(30.0 * z), lambda z: np.clip(z, -0.2, 0.2)])
@pytest.mark.parametrize("second", [np.diag([1.0, 0.0, 2.0]), np.zeros((3, 2)), np.array([[1.0], [0.0], [-2.0]])])
def test_the_magnifications_give_the_same_reasons(activation, second):
    """The array graph asked element by element, against the scalar graph of the same code."""

    def network(w):
        return np.sum(activation(np.asarray(X[:1]) @ w) @ second)

    array, single = Tensor(W, "w"), scalars(W, "w")
    y, z = network(array), network(single)
    for index in np.ndindex(W.shape):
        ours, theirs = why_zero(y, array, index=index), why_zero(z, single[index])
        assert abs(ours.gradient[index] - theirs.gradient) <= 1e-12  # the same sums in another order
        assert {reason.kind for reason in ours.reasons} == {reason.kind for reason in theirs.reasons}


def test_an_unknown_operation_is_named():
    square = ad.custom.custom_jvp(lambda x: x**2)
    square.defjvps(lambda t, y, x: 2.0 * x * t)
    x = Tensor([0.0, 1.0], "x")
    (reason,) = why_zero(np.sum(square(x)), x).reasons
    assert (reason.kind, reason.count, reason.index) == ("flat", 1, (0,))
    assert "is 0 at 1 of 2 elements" in str(reason)


@BOTH
def test_a_long_chain(kind):
    x = y = kind(-1.0, "x")
    y = ad.relu(x)
    for _ in range(50_000):  # 10^5 nodes
        y = y * 0.9999 + 0.001
    (reason,) = why_zero(y, x).reasons
    assert reason.kind == "off"


@BOTH
def test_a_million_million_paths(kind):
    x = y = kind(-1.0, "x")
    for _ in range(40):
        y = ad.relu(y) + ad.relu(y) - 1.0
    found = why_zero(y, x)
    assert len(found.reasons) == 80
    assert "and 68 more off" in str(found)


@BOTH
def test_nothing_is_changed(kind):
    x = kind(-1.0, "x")
    y = ad.relu(x) * 2.0
    before = copy.copy(x)
    why_zero(y, x)
    assert (x.name, x.data, ad.Graph(y).has_grad(x)) == (before.name, before.data, False)


def test_below_sets_what_counts_as_zero():
    x = Value(3.0, "x")
    assert why_zero(1e-4 * x, x).reasons == ()
    assert [reason.kind for reason in why_zero(1e-4 * x, x, below=1e-3).reasons] == ["multiplied by zero"]
    assert why_zero(1e-12 * x, x, below=0.0).count == 0
    with pytest.raises(ValueError, match="from 0 on, got -1"):
        why_zero(x * 0.0, x, below=-1.0)


def test_what_is_no_node_is_refused():
    x = Tensor([1.0, 2.0], "x")
    with pytest.raises(TypeError, match=r"why_zero\(\.\.\., wrt\) takes a node \(Value or Tensor\), got float"):
        why_zero(np.sum(x), 3.0)
    with pytest.raises(ValueError, match=r"output has the shape \(2,\)"):
        why_zero(x * 2.0, x)
    with pytest.raises(TypeError, match=r"got Scalars of shape \(2,\); take one"):
        why_zero(Value(1.0), scalars([1.0, 2.0]))
