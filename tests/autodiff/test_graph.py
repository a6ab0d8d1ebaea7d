"""Graph: order, edges, names, labels; adjoints and tangents over it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings

import autodiff as ad
from autodiff import Graph, Tensor, Value, adjoints, scalars, scope, sqrt
from autodiff.graph import checked_value, tangents
from tests.random_graphs import RandomGraph, all_paths, ancestors, chain, graphs, magnitudes

RANDOM = settings(deadline=None, derandomize=True, max_examples=150)
ROUNDING = 1e-12  # 12 operations of a few ulp each, relative to the sum of |contributions|: thousandfold room
SUBNORMAL = 1e-310  # products that underflow keep only some of their digits
LONG = 20_000  # twenty times the depth to which Python recurses


# ---------------------------------------------------------------- nodes and edges
@RANDOM
@given(graphs())
def test_nodes_are_the_ancestors_once_each_parents_first_output_last(example):
    graph = Graph(example.output)
    assert set(graph.nodes) == ancestors(example.output)  # nodes hash by identity
    assert len(set(graph.nodes)) == len(graph.nodes) == len(graph)
    assert graph.nodes[-1] is graph.output is example.output
    place = {node: number for number, node in enumerate(graph.nodes)}
    assert all(place[edge.parent] < place[edge.child] for edge in graph.edges)
    assert [id(leaf) for leaf in graph.leaves] == [id(node) for node in graph.nodes if not node.parents]


@RANDOM
@given(graphs())
def test_edges_are_those_of_the_nodes_in_order(example):
    graph = Graph(example.output)
    expected = [
        (id(parent), id(node), local, position)
        for node in graph.nodes
        for position, (parent, local) in enumerate(node.edges())
    ]
    assert [(id(e.parent), id(e.child), e.local, e.position) for e in graph.edges] == expected


@RANDOM
@given(graphs())
def test_children_hold_every_edge_once_under_its_parent(example):
    graph = Graph(example.output)
    children = graph.children()
    assert [id(node) for node in children] == [id(node) for node in graph.nodes]
    assert children[graph.output] == []
    assert sum(map(len, children.values())) == len(graph.edges)
    place = {id(edge): number for number, edge in enumerate(graph.edges)}
    for node, edges in children.items():
        assert all(edge.parent is node for edge in edges)
        places = [place[id(edge)] for edge in edges]
        assert places == sorted(places)
        assert edges or node is graph.output  # no dead ends: everything leads to the output


@RANDOM
@given(graphs())
def test_reading_a_graph_changes_nothing_in_it(example):
    for number, node in enumerate(example.nodes):
        node.grad = 0.5 + number
    before = [(node.data, node.grad, node.name, node.scope) for node in example.nodes]
    graph = Graph(example.output)
    graph.children(), graph.leaves, repr(graph), [graph.label(node) for node in graph.nodes]
    adjoints(example.output), tangents(example.output, example.leaves[0])
    assert [(node.data, node.grad, node.name, node.scope) for node in example.nodes] == before
    assert [node.uses for node in example.nodes] == [0] * len(example.nodes)


def test_a_repeated_operand_has_two_edges():
    x = Value(3.0, "x")
    y = x * x
    assert [(e.parent is x, e.child is y, e.local, e.position) for e in Graph(y).edges] == [
        (True, True, 3.0, 0),
        (True, True, 3.0, 1),
    ]


def test_each_operand_has_its_own_local_derivative():
    a, b = Value(6.0, "a"), Value(2.0, "b")
    assert [(e.parent.name, e.local, e.position) for e in Graph(a / b).edges] == [("a", 0.5, 0), ("b", -1.5, 1)]


def test_a_constant_is_no_node():
    x = Value(3.0)
    graph = Graph(1.0 - x * 2.0)
    assert len(graph) == 3
    assert graph.nodes[0] is x
    assert [(edge.local, edge.position) for edge in graph.edges] == [(2.0, 0), (-1.0, 0)]


def test_a_leaf_is_a_graph_of_one_node():
    x = Value(3.0, "x")
    graph = Graph(x)
    assert graph.nodes == graph.leaves == (x,)
    assert graph.edges == ()
    assert graph.children() == {x: []}


def test_a_long_chain_needs_no_recursion():
    x = Value(2.0, "x")
    y = chain(LONG, x)
    graph = Graph(y)
    assert len(graph) == LONG + 1
    assert len(graph.edges) == LONG
    assert graph.nodes[0] is x
    assert graph.label(y) == f"v{LONG}"
    assert adjoints(y)[x] == tangents(y, x)[y] == 1.0


# ---------------------------------------------------------------- membership
def test_in_asks_for_the_node_not_for_its_data():
    x, twin = Value(3.0, "x"), Value(3.0, "x")
    y = x * x
    graph = Graph(y)
    assert x in graph
    assert y in graph
    assert twin == x  # by data
    assert twin not in graph
    assert 3.0 not in graph
    assert "x" not in graph
    assert None not in graph
    assert [] not in graph  # unhashable


def test_what_was_made_from_the_output_is_not_below_it():
    x = Value(3.0)
    y = x * x
    assert y + 1.0 not in Graph(y)


# ---------------------------------------------------------------- names and labels
def test_named_finds_the_one_node_of_that_name():
    x, w = Value(2.0, "x"), Value(3.0, "w")
    y = w * x
    y.name = "y"
    graph = Graph(y)
    assert graph.named("w") is w
    assert graph.named("y") is y


def test_named_says_which_names_there_are():
    x, w = Value(2.0, "x"), Value(3.0, "w")
    with pytest.raises(KeyError, match=r"0 nodes are named 'q'; names in this graph: w, x"):
        Graph(w * x).named("q")
    with pytest.raises(KeyError, match=r"2 nodes are named 'x'"):
        Graph(x * Value(5.0, "x")).named("x")
    with pytest.raises(KeyError, match=r"names in this graph: none"):
        Graph(Value(1.0) + 1.0).named("x")


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda x, w: x, "x"),
        (lambda x, w: w * x, "w · x"),
        (lambda x, w: x**2 - w, "v3"),  # x**2 has no name, so its formula is not in names
        (lambda x, w: x.leaky_relu(), "leaky_relu(x)"),
        (lambda x, w: Value(7.0), "v0"),
    ],
)
def test_a_label_is_a_name_or_a_short_formula_in_names_or_a_number(make, label):
    output = make(Value(2.0, "x"), Value(3.0, "w"))
    assert Graph(output).label(output) == label


def test_a_name_beats_a_formula_and_a_long_formula_gives_way_to_a_number():
    x = Value(2.0, "x")
    y = x * x
    y.name = "square of x"
    assert Graph(y).label(y) == "square of x"
    long = Value(2.0, "a rather long name") * Value(2.0, "another")
    assert Graph(long).label(long) == "v2"


def shared_labels(graph):
    """[(label, node, node)] for pairs of nodes with one label, unless a person gave both of them their name."""
    pairs = itertools.combinations(graph.nodes, 2)
    return [
        (graph.label(one), one, other)
        for one, other in pairs
        if graph.label(one) == graph.label(other) and not (one.name and other.name)
    ]


@RANDOM
@given(graphs())
def test_labels_are_unambiguous(example):
    assert shared_labels(Graph(sum(example.nodes))) == []  # of all of them at once: nothing is dead here


def test_two_equal_products_have_two_labels():
    x = Value(3.0, "x")
    assert shared_labels(Graph(x * x + x * x)) == []


def test_constants_that_print_alike_do_not_make_labels_alike():
    x = Value(3.0, "x")
    assert shared_labels(Graph(x * 1.0000001 + x * 1.0000002)) == []


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "x · x", "tanh(x)"])
def test_a_leaf_called_like_a_made_up_label_is_told_apart(name):
    x, odd = Value(3.0, "x"), Value(1.0, name)
    output = (x * x).tanh() * odd + x.tanh()
    assert shared_labels(Graph(output)) == []


def test_the_check_of_labels_can_fail():
    class Careless(Graph):
        def label(self, node):
            return "v"

    x = Value(3.0, "x")
    assert len(shared_labels(Careless(x * 2.0 + 1.0))) == 3


def test_repr_counts():
    x = Value(3.0, "x")
    assert repr(Graph(x * x)) == "Graph(x · x: 2 nodes, 2 edges)"


# ---------------------------------------------------------------- scopes
def test_scopes_are_recorded_on_the_nodes_and_nest():
    x = Value(2.0, "x")
    with scope("layer 1"):
        h = x * 2.0
        with scope("neuron 3"):
            inner = h + 1.0
        after = inner.tanh()
    output = after * 2.0
    found = {node: node.scope for node in Graph(output).nodes}
    assert found == {
        x: (),
        h: ("layer 1",),
        inner: ("layer 1", "neuron 3"),
        after: ("layer 1",),
        output: (),
    }


def test_a_name_keeps_the_scope_and_an_error_closes_it():
    with pytest.raises(ZeroDivisionError), scope("broken"):
        raise ZeroDivisionError
    with scope("s"):
        h = Value(1.0) + 1.0
    h.name = "h"
    assert (h.name, h.scope) == ("h", ("s",))
    assert Value(1.0).scope == ()


# ---------------------------------------------------------------- has_grad
def test_has_grad_only_where_a_backward_pass_has_been():
    x, y = Value(2.0, "x"), Value(3.0, "y")
    product = x * y
    dead = x + 1.0
    graph = Graph(product + dead)
    assert not any(graph.has_grad(node) for node in graph.nodes)
    product.backward()
    assert [graph.has_grad(node) for node in (x, y, product)] == [True, True, True]
    assert not graph.has_grad(dead)
    assert not graph.has_grad(graph.output)


def test_a_grad_of_zero_is_told_from_none():
    x = Value(-2.0, "x")
    y = x.relu()
    y.backward()
    assert x.grad == 0.0
    assert Graph(y).has_grad(x)


def test_reading_adjoints_is_no_backward_pass():
    x = Value(-2.0, "x")
    y = x * x
    adjoints(y)
    assert not Graph(y).has_grad(x)


# ---------------------------------------------------------------- adjoints and tangents
@RANDOM
@given(graphs())
def test_adjoints_are_the_grads_of_a_backward_pass(example):
    adjoint = adjoints(example.output)
    assert next(iter(adjoint)) is example.output
    assert set(adjoint) == ancestors(example.output)
    example.output.backward()
    assert {node: node.grad for node in adjoint} == adjoint  # the same sums in the same order: exact


def assert_adjoints_sum_over_paths(output, adjoint):
    """Against the definition: paths by recursion, their products summed."""
    nodes = list(adjoint)[::-1]
    size = magnitudes(nodes)
    for node in nodes:
        expected = math.fsum(math.prod(locals_) for _, locals_ in all_paths(output, node))
        assert abs(adjoint[node] - expected) <= ROUNDING * size[node] + SUBNORMAL


SMALL = graphs(max_operations=9)  # at most 2**9 paths to a node


@RANDOM
@given(SMALL)
def test_adjoints_are_sums_over_paths(example):
    assert_adjoints_sum_over_paths(example.output, adjoints(example.output))


@RANDOM
@given(SMALL)
def test_forward_and_reverse_mode_agree_from_every_node(example):
    adjoint = adjoints(example.output)
    size = magnitudes([*adjoint][::-1])
    for node in adjoint:
        tangent = tangents(example.output, node)
        assert abs(tangent[example.output] - adjoint[node]) <= ROUNDING * size[node] + SUBNORMAL


def test_the_oracle_of_paths_can_reject():
    x = Value(3.0, "x")
    example = RandomGraph([x], [x], x * x + x)
    adjoint = adjoints(example.output)
    assert_adjoints_sum_over_paths(example.output, adjoint)
    adjoint[x] -= 3.0  # one use of x forgotten
    with pytest.raises(AssertionError):
        assert_adjoints_sum_over_paths(example.output, adjoint)


def test_tangents_end_at_a_stop():
    x = Value(3.0, "x")
    h = x * 2.0
    y = h * h
    tangent = tangents(y, x, stops=[h])
    assert tangent == {x: 1.0, h: 2.0}
    assert tangents(y, h) == {h: 1.0, y: 12.0}


def test_tangents_of_what_the_output_does_not_depend_on():
    x = Value(3.0, "x")
    assert Value(3.0) * 1.0 not in tangents(x * x, Value(3.0))
    y = x * x
    assert y not in tangents(y, Value(3.0))


def test_adjoints_at_a_corner_are_those_of_ieee():
    x = Value(0.0, "x")
    with np.errstate(all="ignore"):
        assert adjoints(sqrt(x))[x] == math.inf


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            3.0,
            r"Graph takes a node \(Value or Tensor\), got float; a plain number remembers nothing: .*\.item\(\)",
        ),
        (3, r"got int; a plain number"),
        (np.float64(3.0), r"got float64; a plain number"),
        (
            np.zeros((2, 3)),
            r"got ndarray of shape \(2, 3\); a plain array remembers nothing: was it",
        ),
        (scalars([1.0, 2.0]), r"got Scalars of shape \(2,\); take one"),
        (None, r"got NoneType"),
        ("y", r"got str"),
        ([Value(1.0)], r"got list"),
    ],
)
def test_what_is_no_node_is_refused_with_a_way_out(output, message):
    with pytest.raises(TypeError, match=message):
        Graph(output)


# ---------------------------------------------------------------- array nodes
rng = np.random.default_rng(11)


def layer():
    """A named layer, its loss, and the leaves: every kind of edge but for those of linear algebra."""
    x, w, b = (Tensor(rng.normal(size=shape), name) for shape, name in (((5, 3), "X"), ((3, 2), "W"), ((1, 2), "b")))
    with scope("layer"):
        z = x @ w + b
        z.name = "z"
        h = np.tanh(z) * z
    rows = np.concatenate([h[[0, 0, 2]], np.where(h.data > 0, h, 0.0)])
    return np.sum(rows.T.reshape(-1) ** 2) / np.max(h), (x, w, b, z, h)


def test_a_graph_of_arrays_reads_like_one_of_numbers():
    loss, (x, w, _, z, _) = layer()
    graph = Graph(loss)
    assert graph.output is graph.nodes[-1] is loss
    place = {node: number for number, node in enumerate(graph.nodes)}
    assert len(place) == len(graph) == len(graph.nodes)
    assert all(place[edge.parent] < place[edge.child] for edge in graph.edges)
    assert [node.name for node in graph.leaves] == ["X", "W", "b"]
    assert graph.named("z") is z
    assert (x in graph, Tensor(1.0) in graph, 3.0 in graph) == (True, False, False)
    assert [len(nodes) for scope_, nodes in graph.scopes().items() if scope_ == ("layer",)] == [4]
    assert [graph.label(edge.child) for edge in graph.children()[w]] == ["X @ W"]
    assert [graph.operation(edge.child) for edge in graph.children()[z]] == ["tanh", "·"]
    assert repr(graph).endswith(f"{len(graph.nodes)} nodes, {len(graph.edges)} edges)")
    assert len({graph.label(node) for node in graph.nodes}) == len(graph)
    assert [(edge.position, edge.parent.name) for edge in graph.edges if edge.child is z] == [(0, None), (1, "b")]


def test_adjoints_of_arrays_are_the_grads_of_a_backward_pass():
    loss, _ = layer()
    adjoint = adjoints(loss)
    graph = Graph(loss)
    assert not any(graph.has_grad(node) for node in graph.nodes)
    assert [id(node) for node in adjoint] == [id(node) for node in reversed(graph.nodes)]
    loss.backward()
    for node, array in adjoint.items():
        assert type(array) is np.ndarray
        assert array.shape == node.shape
        assert np.array_equal(array, node.grad)
        assert graph.has_grad(node)


def test_every_edge_is_one_linear_map_in_both_directions():
    """pull and push of each edge are transposes, and the maps of all edges compose to the adjoints."""
    loss, _ = layer()
    graph = Graph(loss)
    found = {node: np.zeros(node.size) for node in graph.nodes}
    found[loss] = np.ones(1)
    for edge in reversed(graph.edges):
        upstream, tangent = rng.normal(size=edge.child.shape), rng.normal(size=edge.parent.shape)
        matrix = edge.local.matrix()
        assert matrix.shape == edge.local.shape == (edge.child.size, edge.parent.size)
        # sums of at most 20 products of numbers near 1
        assert np.allclose(edge.local.push(tangent).ravel(), matrix @ tangent.ravel(), rtol=0, atol=1e-12)
        assert np.allclose(edge.local.pull(upstream).ravel(), matrix.T @ upstream.ravel(), rtol=0, atol=1e-12)
        assert edge.local.pull(upstream).shape == edge.parent.shape
        assert edge.local.push(tangent).shape == edge.child.shape
        found[edge.parent] = found[edge.parent] + matrix.T @ found[edge.child]
    for node, array in adjoints(loss).items():
        assert np.allclose(found[node], array.ravel(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x @ np.ones((3, 2)),
        lambda x: np.sum(x * np.arange(3.0), axis=1),
        lambda x: x[[0, 0, 4], [1, 1, 2]],
        lambda x: x + Tensor(np.ones((7, 1, 1))),
        lambda x: np.linalg.inv(x.T @ x),
        lambda x: np.cumsum(x, axis=0),
    ],
)
def test_a_matrix_is_the_jacobian(f):
    """Of the last operation alone: against forward differences of it, which are exact to 1e-6 of numbers near 1."""
    x = Tensor(rng.normal(size=(5, 3)), "x")
    y = f(x)
    for parent, local in y.edges():
        step = 1e-7
        columns = []
        for i in range(parent.size):
            moved = parent.data.copy()
            moved.flat[i] += step
            data = [moved if operand is parent else getattr(operand, "data", operand) for operand in y.operands]
            if isinstance(y.op, ad.Primitive):
                result = y.op(*data)
            else:
                result = y.op.forward(*(np.asarray(array) for array in data), **y.parameters)
            columns.append((result - y.data).ravel() / step)
        assert np.allclose(local.matrix(), np.array(columns).T, atol=1e-4)


def test_a_repeated_array_has_two_edges():
    x = Tensor([1.0, 2.0], "x")
    y = Tensor([3.0, 5.0], "y")
    first, second = Graph(x / x).edges
    assert np.array_equal(first.local.matrix(), np.diag([1.0, 0.5]))
    assert np.array_equal(second.local.matrix(), np.diag([-1.0, -0.5]))
    assert (first.position, second.position) == (0, 1)
    left, right = Graph(x @ x).edges
    assert np.array_equal(left.local.matrix(), [[1.0, 2.0]])
    assert np.array_equal(right.local.pull(np.array(3.0)), [3.0, 6.0])
    assert str(left.local) == "∂matmul/∂x (2 → number)"
    (only,) = Graph(y * 2.0).edges
    assert str(only.local) == "∂mul/∂y (2 → 2)"
    assert str((np.exp(y) + 1.0).edges()[0][1]) == "∂add/∂a (2 → 2)"


def test_what_does_not_fit_a_linear_map():
    ((_, local),) = (Tensor(np.ones((2, 3))) * 2.0).edges()
    with pytest.raises(ValueError, match=r"the upstream has the shape \(2, 3\) of its node, got \(3,\)"):
        local.pull(np.ones(3))
    with pytest.raises(ValueError, match=r"the tangent has the shape"):
        local.push(1.0)
    ((_, large),) = (Tensor(np.ones(4000)) * 2.0).edges()
    with pytest.raises(ValueError, match=r"4000 x 4000 entries; use its pull and push"):
        large.matrix()


def test_tangents_of_arrays_meet_the_adjoints():
    loss, (x, w, _, z, h) = layer()
    adjoint = adjoints(loss)
    for node in (x, w, z):
        direction = rng.normal(size=node.shape)
        tangent = tangents(loss, node, direction=direction)
        assert np.allclose(tangent[loss], np.sum(adjoint[node] * direction), rtol=1e-11)
        assert all(array.shape == each.shape for each, array in tangent.items())
    assert set(tangents(loss, x, stops=[z, h], direction=direction_of(x))) >= {x, z}
    assert loss not in tangents(loss, x, stops=[z], direction=direction_of(x))
    one = Tensor(2.0, "one")
    assert tangents(one * 3.0, one)[one] == 1.0
    with pytest.raises(ValueError, match=r"a node of shape \(5, 3\) need a direction="):
        tangents(loss, x)
    with pytest.raises(ValueError, match=r"the direction has the shape \(5, 3\) of its node, got \(2,\)"):
        tangents(loss, x, direction=np.ones(2))


def direction_of(node):
    return np.ones(node.shape)


def test_an_output_of_one_number_may_have_any_shape():
    x = Tensor([[1.0, 2.0]], "x")
    y = np.sum(x**2, keepdims=True)
    assert np.array_equal(adjoints(y)[x], [[2.0, 4.0]])
    assert adjoints(y)[y].shape == (1, 1)
    with pytest.raises(ValueError, match=r"the output has the shape \(1, 2\); take np.sum"):
        adjoints(x)


def test_a_long_chain_of_arrays():
    x = Tensor(np.ones(2), "x")
    y = chain(20_000, x)
    graph = Graph(np.sum(y))
    assert len(graph) == 20_002
    assert np.array_equal(adjoints(np.sum(y))[x], [1.0, 1.0])


def test_what_is_for_numbers_alone_says_what_there_is_for_arrays():
    x = Tensor([1.0, 2.0], "x")
    with pytest.raises(TypeError, match=r"Graph\(output\).*adjoints\(output\).*first_nonfinite.*scalars"):
        checked_value(np.sum(x * x), "paths(output, ...)")


@pytest.mark.parametrize("stranger", [Value(2.0, "z"), 2.0, "x"])
def test_what_is_no_node_of_the_graph_has_no_symbol(stranger):
    x = Value(2.0, "x")
    with pytest.raises(KeyError, match="is no node of this graph, which holds the 2 ancestors"):
        Graph(x * x).label(stranger)
