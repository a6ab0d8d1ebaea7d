"""Receipts of array nodes: sums against adjoints, cuts several layers down, what is printed and what is refused."""

import itertools
import math
import random
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from autodiff import Graph, Tensor, Value, adjoints, count_paths, total_derivative
from autodiff.array_receipts import PathsMap, array_text

# Sums of products of a few dozen numbers of size 1, compared with other orders of adding: far under 1e-12 of their size
ROUNDING = 1e-12
rng = np.random.default_rng(5)


# ---------------------------------------------------------------- sums
def layered(seed=0, sizes=(3, 4, 4, 2)):
    """A network with a skip connection: (loss, all nodes with a name)."""
    draw = np.random.default_rng(seed)
    X = Tensor(draw.normal(size=(5, sizes[0])), name="X")
    nodes, h = {"X": X}, X
    for layer, (m, n) in enumerate(itertools.pairwise(sizes), 1):
        W = Tensor(draw.normal(size=(m, n)), name=f"W{layer}")
        b = Tensor(draw.normal(size=n), name=f"b{layer}")
        z = h @ W + b
        z.name = f"z{layer}"
        a = np.tanh(z) + (h if m == n else 0.0)
        a.name = f"a{layer}"
        nodes |= {x.name: x for x in (W, b, z, a)}
        h = a
    loss = np.sum((h - 0.5) ** 2)
    loss.name = "L"
    return loss, nodes


def random_arrays(seed, operations=8):
    """(loss, all its nodes, each named): 3×3 matrices made of one another at random, with reuse."""
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    made = [Tensor(numbers.normal(size=(3, 3)) / 2, name=name) for name in "AB"]
    for step in range(operations):
        a, b = draw.choice(made[-4:]), draw.choice(made)
        node = draw.choice(
            [a @ b, a * b, a + b, a - b.T, np.tanh(a), a[::-1], a + np.sum(b, axis=0), np.where(a.data > 0, a, b)]
        )
        node.name = f"m{step}"
        made.append(node)
    loss = np.sum(np.tanh(made[-1] + made[-2]))
    return loss, [node for node in Graph(loss).nodes if node is not loss]


def assert_adds_up(receipt, adjoint):
    contributions = [term.local.pull(term.upstream) for term in receipt.terms]
    size = sum((np.abs(x) for x in contributions), np.zeros(receipt.wrt.shape))
    assert receipt.total.shape == receipt.wrt.shape == np.shape(adjoint)
    bound = ROUNDING * (1.0 + np.max(size, initial=0.0))
    assert np.all(np.abs(sum(contributions, 0.0) - adjoint) <= bound)
    assert np.all(np.abs(receipt.total - adjoint) <= bound)


@pytest.mark.parametrize("seed", range(25))
def test_terms_of_arrays_sum_to_the_adjoint_at_every_node(seed):
    loss, nodes = random_arrays(seed)
    adjoint = adjoints(loss)
    for node in nodes:
        receipt = total_derivative(loss, node)
        assert_adds_up(receipt, adjoint[node])
        edges = [edge for edge in Graph(loss).edges if edge.parent is node]
        assert [term.child for term in receipt.terms] == [edge.child for edge in edges]
        for term in receipt.terms:
            assert np.shape(term.upstream) == term.child.shape
            assert term.contribution.shape == node.shape
            assert term.label in str(receipt)
        ElementTree.fromstring(receipt.mathml())


def test_a_receipt_of_arrays_that_lacks_a_term_is_noticed():
    loss, nodes = layered()
    receipt = total_derivative(loss, nodes["a1"])
    assert len(receipt.terms) == 2  # the skip connection
    receipt.terms = receipt.terms[1:]
    with pytest.raises(AssertionError):
        assert_adds_up(receipt, adjoints(loss)[nodes["a1"]])


def test_an_array_receipt_in_full():
    a, W = Tensor([[1.0, 2.0]], name="a1"), Tensor([[0.5, 1.0, 0.0], [1.0, -1.0, 0.25]], name="W2")
    z = a @ W
    z.name = "z2"
    loss = np.sum(z * z)
    loss.name = "L"
    assert str(total_derivative(loss, W)).splitlines() == [
        "dL/dW2 = a1.T @ dL/dz2: (2×1)(1×3) → 2×3",
        "  z2   upstream      [[5  -2  1]]",
        "       contribution  [[ 5  -2  1]",
        "                      [10  -4  2]]",
    ]
    assert str(total_derivative(loss, z)).splitlines()[0] == "dL/dz2 = dL/d(z2 · z2) · z2 + dL/d(z2 · z2) · z2: 1×3"
    assert (
        total_derivative(loss, W)
        .latex()
        .splitlines()[1]
        .startswith(r"\frac{\partial L}{\partial W_{2}} &= {a_{1}}^{\top} \frac{\partial L}{\partial z_{2}}")
    )


def test_many_numbers_are_told_by_their_norm_and_the_largest():
    X = Tensor(np.arange(30.0).reshape(6, 5), name="X")
    text = str(total_derivative(np.sum(X * X), X))
    assert f"6×5: norm {2 * math.sqrt(sum(i * i for i in range(30))):.6g}, largest 58 at [5, 4]" in text
    assert r"bmatrix" not in total_derivative(np.sum(X * X), X).latex()


@pytest.mark.parametrize(
    "array", [np.zeros((0, 3)), np.full((5, 6), np.nan), np.full((5, 6), 1e308), np.zeros((5, 6)), np.ones((2, 2, 2))]
)
def test_odd_arrays_print(array):
    assert array_text(array)


def test_of_the_output_and_of_what_it_does_not_depend_on():
    loss, _ = layered()
    itself = total_derivative(loss, loss)
    assert (float(itself.total), itself.terms, str(itself)) == (1.0, (), "dL/dL = 1: the output itself")
    ElementTree.fromstring(itself.mathml())
    with pytest.raises(ValueError, match="L does not depend on q"):
        total_derivative(loss, Tensor(np.ones(2), name="q"))


# ---------------------------------------------------------------- through
@pytest.mark.parametrize("seed", range(25))
def test_through_random_cuts_of_arrays_the_total_is_the_adjoint(seed):
    """Either end of every edge that crosses a line through the graph, several layers down, and some nodes more."""
    draw = random.Random(seed)
    loss, nodes = random_arrays(seed, operations=10)
    graph = Graph(loss)
    adjoint = adjoints(loss)
    for wrt in nodes[:4]:
        number = {node: place for place, node in enumerate(graph.nodes)}
        line = draw.randint(number[wrt], len(graph.nodes) - 2)
        crossing = [edge for edge in graph.edges if number[edge.parent] <= line < number[edge.child]]
        cut = [draw.choice([edge.parent, edge.child]) for edge in crossing] + draw.sample(nodes, 2)
        draw.shuffle(cut)
        receipt = total_derivative(loss, wrt, through=cut)
        assert_adds_up(receipt, adjoint[wrt])
        assert len({id(term.child) for term in receipt.terms}) == len(receipt.terms)
        assert all(term.label in str(receipt) for term in receipt.terms)
        ElementTree.fromstring(receipt.mathml())


@pytest.mark.parametrize("layer", ["z1", "a1", "z2", "a2", "z3", "a3"])
def test_through_a_layer_of_arrays(layer):
    loss, nodes = layered()
    if layer == "z2":  # the skip connection goes around it
        with pytest.raises(
            ValueError, match=r"do not cut every path from W1 to L; W1 -> .* -> a1 -> a2 -> .*avoids them all"
        ):
            total_derivative(loss, nodes["W1"], through=nodes[layer])
        return
    receipt = total_derivative(loss, nodes["W1"], through=nodes[layer])
    assert_adds_up(receipt, adjoints(loss)[nodes["W1"]])
    [term] = receipt.terms
    assert term.local.shape == (nodes[layer].size, nodes["W1"].size)


def test_the_map_between_two_layers_pushes_pulls_and_multiplies_alike():
    _, nodes = layered()
    a, z, W = nodes["a3"], nodes["z1"], nodes["W1"]
    whole = PathsMap(a, W)
    matrix = whole.matrix()
    assert matrix.shape == whole.shape == (a.size, W.size)
    tangent, upstream = rng.normal(size=W.shape), rng.normal(size=a.shape)
    assert np.allclose(matrix @ tangent.ravel(), whole.push(tangent).ravel(), rtol=ROUNDING, atol=ROUNDING)
    assert np.allclose(upstream.ravel() @ matrix, whole.pull(upstream).ravel(), rtol=ROUNDING, atol=ROUNDING)
    assert np.allclose(PathsMap(a, z).matrix() @ PathsMap(z, W).matrix(), matrix, rtol=ROUNDING, atol=ROUNDING)
    # Without the paths that meet a1 there is none; of a node to itself there is the empty one
    assert not PathsMap(a, W, [nodes["a1"]]).matrix().any()
    assert np.array_equal(PathsMap(z, z).matrix(), np.eye(z.size))
    with pytest.raises(ValueError, match=r"the upstream has the shape \(5, 2\) of its node, got \(2,\)"):
        whole.pull(np.ones(2))


def test_paths_of_arrays_are_counted():
    loss, nodes = layered()
    assert count_paths(loss, nodes["X"]) == 2  # over the skip connection and over W2
    assert count_paths(loss, nodes["z2"]) == 1


# ---------------------------------------------------------------- errors
W, OTHER = Tensor(rng.normal(size=(2, 2)), name="W"), Tensor(np.ones((2, 2)), name="V")
LOSS = np.sum(np.tanh(W @ W))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: total_derivative(LOSS, W[0, 1]), ValueError, r"is a part of W .* of its \.total; .*scalars\(array\)"),
        (lambda: total_derivative(LOSS, W.T), ValueError, "is a part of W"),
        (lambda: total_derivative(W @ W, W), ValueError, r"the output has the shape \(2, 2\); take np\.sum"),
        (lambda: total_derivative(LOSS, Value(1.0)), TypeError, "the output is a Tensor and wrt a Value"),
        (
            lambda: total_derivative(LOSS, np.ones(2)),
            TypeError,
            r"got ndarray of shape \(2,\); a plain array remembers",
        ),
        (lambda: total_derivative(LOSS, W, through=3.0), TypeError, r"through\) takes a node .* got float"),
        (lambda: total_derivative(LOSS, W, through=[OTHER]), ValueError, "is not below the output"),
        (lambda: total_derivative(LOSS, W, through=[]), ValueError, r"W -> W @ W -> .* avoids them all"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_long_chain_of_arrays_has_a_receipt():
    x = Tensor([0.5, 1.0], name="x")
    y, middle = x, x
    for step in range(20_000):
        y = y + 0.0
        middle = y if step == 10_000 else middle
    loss = np.sum(y)
    assert total_derivative(loss, x).total.tolist() == [1.0, 1.0]
    assert total_derivative(loss, x, through=middle).total.tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="do not cut every path"):
        total_derivative(loss, x, through=[])


def test_a_notebook_is_shown_the_equation_and_never_an_error():
    loss, nodes = layered()
    bundle = total_derivative(loss, nodes["W1"])._repr_mimebundle_()
    assert bundle["text/plain"].startswith("dL/dW1 = X.T @ ")
    assert bundle["text/latex"].startswith("$$\n")
    broken = total_derivative(loss, nodes["W1"])
    broken.terms = (object(),)
    assert broken._repr_mimebundle_() == {"text/plain": "<receipt of dL/dW1: 1 terms>"}
