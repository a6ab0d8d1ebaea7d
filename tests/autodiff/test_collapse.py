"""Collapsed graphs: their edges are total derivatives, so that their sums are the adjoints of the full graph."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from autodiff import Graph, Tensor, Value, adjoints, scope
from autodiff.collapse import BodyEdge, BodyMap, Collapsed, Group, outputs_of
from autodiff.value import Label
from tests.random_graphs import chain, graphs, magnitudes

SEEDS = st.integers(0, 2**32)


def network(samples, sizes=(2, 4, 3, 1), seed=3):
    """(network, loss) of Values on a batch, with the gradients of one backward pass."""
    net = nn.MLP(sizes[0], list(sizes[1:]), activations=["tanh"] * (len(sizes) - 1), seed=seed)
    X = np.random.RandomState(seed).randn(samples, sizes[0])
    _, a = net.trace(X)
    loss = np.sum((a[-1] - np.sign(X[:, :1])) ** 2) / samples
    loss.name = "L"
    loss.backward()
    return net, loss


BLOCKS = ("block", "layer", "neuron")


def with_scopes(graph, seed):
    """The graph, its nodes in scopes drawn at random: up to three deep, with circles between them."""
    draw = random.Random(seed)
    for node in graph.nodes:
        depth = draw.randint(0, 3)
        node.label = Label(node.name, tuple([f"{name} {draw.randint(1, 2)}" for name in BLOCKS[:depth]]))
    graph.nodes[0].label = Label(graph.nodes[0].name, ("block 1",))
    return graph


# ------------------------------------------------------------------------------------------- the checker


def wrong_sums(collapsed, tolerance=1e-12):
    """Boxes whose adjoint is not what their child edges add up to, nor that of the full graph; [] for none.

    What a box of several outputs owes to the other boxes is taken edge by edge from the full graph. The tolerance is
    relative to the sum of the absolute values of all terms: paths may cancel, and then only that is known.
    """
    graph = collapsed.graph
    full, size = adjoints(graph.output), magnitudes(graph.nodes)
    found, box_of = collapsed.adjoints(), collapsed._owner
    owed = dict.fromkeys(graph.nodes, 0.0)
    owed[graph.output] = 1.0
    for edge in graph.edges:
        if box_of.get(edge.parent) is not box_of.get(edge.child) or edge.child not in box_of:
            owed[edge.parent] += full[edge.child] * edge.local
    wrong, children = [], collapsed.children()
    for box in collapsed.nodes:
        outputs = outputs_of(box)
        expected = np.array([owed[o] if isinstance(box, Group) else full[o] for o in outputs])
        scale = tolerance * np.array([1.0 + size[o] for o in outputs])
        summed = np.zeros(len(outputs))
        for edge in children[box]:
            upstream = found[edge.child]
            part = upstream * edge.local if isinstance(edge.local, float) else edge.local.pull(upstream)
            summed = summed + np.reshape(part, -1)
        if box is collapsed.output:
            summed[outputs.index(graph.output) if len(outputs) == 1 else -1] += 1.0
        for numbers in (summed, np.reshape(found[box], -1)):
            if not np.all(np.abs(numbers - expected) <= scale):
                wrong.append((collapsed.label(box), numbers, expected))
    return wrong


def wrong_shape(collapsed):
    """What is wrong with the boxes as a partition in order; [] for nothing."""
    wrong = []
    place = {box: number for number, box in enumerate(collapsed.nodes)}
    if collapsed.nodes[-1] is not collapsed.output:
        wrong.append("the output is not the last box")
    pairs = [(place[edge.parent], place[edge.child]) for edge in collapsed.edges]
    if any(parent >= child for parent, child in pairs):
        wrong.append("a box comes before one that it reads from")
    if len(set(pairs)) != len(pairs):
        wrong.append("two edges join the same boxes")
    return wrong


@settings(deadline=None, max_examples=120)
@given(graphs(max_operations=16), SEEDS)
def test_kept_nodes_have_the_adjoints_of_the_full_graph(random_graph, seed):
    graph = Graph(random_graph.output)
    draw = random.Random(seed)
    for keep in ([node for node in graph.nodes if draw.random() < 0.4], graph.leaves, "names"):
        collapsed = graph.collapse(keep)
        assert wrong_shape(collapsed) == []
        kept = {node for node in graph.nodes if node in collapsed}
        reach = {node: full_path_sum(collapsed, node) for node in kept}
        for edge in collapsed.edges:
            total, scale = reach[edge.child][edge.parent]
            assert abs(edge.local - total) <= 1e-12 * (1.0 + scale)
        wanted = {(p, c) for c in kept for p in reach[c] if p is not c}
        assert {(edge.parent, edge.child) for edge in collapsed.edges} == wanted
        if not isinstance(keep, str) and keep is graph.leaves:
            assert len(collapsed) == len(graph.leaves) + (graph.output.op is not None)
        assert wrong_kept(collapsed) == []


def full_path_sum(collapsed, child):
    """{kept node: (sum over the paths to child without another kept node between, the same of absolute values)}."""
    found = {}

    def walk(node, product):
        for parent, local in node.edges():
            if parent in collapsed:
                total, scale = found.get(parent, (0.0, 0.0))
                found[parent] = total + product * local, scale + abs(product * local)
            else:
                walk(parent, product * local)

    walk(child, 1.0)
    return found


def wrong_kept(collapsed):
    """Kept nodes whose adjoint in the full graph is one that others can reach only through kept nodes, and differs."""
    full, size = adjoints(collapsed.graph.output), magnitudes(collapsed.graph.nodes)
    children = collapsed.children()
    wrong = []
    for node in collapsed.nodes[:-1]:
        total = sum([full[edge.child] * edge.local for edge in children[node]])
        if abs(total - full[node]) > 1e-12 * (1.0 + size[node]):
            wrong.append(node)
    return wrong


@settings(deadline=None, max_examples=150)
@given(graphs(max_operations=20), SEEDS)
def test_groups_have_the_adjoints_of_the_full_graph(random_graph, seed):
    graph = Graph(with_scopes(random_graph, seed).output)
    if not any(node.scope for node in graph.nodes):
        return
    for to in ("neurons", "layers", "matrices", 1, 2):
        for parameters in (False, True):
            collapsed = graph.collapse(to, parameters=parameters)
            assert wrong_shape(collapsed) == []
            assert wrong_sums(collapsed) == []
            members = [node for box in collapsed.nodes for node in (box.members if isinstance(box, Group) else (box,))]
            assert len(members) == len(set(members)) == len(graph)
            if parameters:
                assert all(leaf in collapsed for leaf in graph.leaves if graph.is_parameter(leaf))


def test_the_checkers_find_planted_errors():
    _, loss = network(3)
    collapsed = Graph(loss).collapse("neurons", parameters=True)
    assert wrong_sums(collapsed) == wrong_shape(collapsed) == []
    *rest, last = collapsed.edges
    collapsed.edges = tuple(rest)
    assert wrong_sums(collapsed)
    collapsed.edges = (*rest, last, last)
    assert "two edges join the same boxes" in wrong_shape(collapsed)
    collapsed.edges = (*rest, BodyEdge(last.child, last.parent, 1.0, 0))
    assert "a box comes before one that it reads from" in wrong_shape(collapsed)
    x = Value(0.5, "x")
    kept = Graph((x * x).exp()).collapse("names")
    kept.edges = (BodyEdge(x, kept.output, kept.edges[0].local * (1 + 1e-11), 0),)
    assert wrong_kept(kept) == [x]


# ------------------------------------------------------------------------------------------- what an edge carries


@settings(deadline=None, max_examples=60)
@given(graphs(max_operations=20), SEEDS)
def test_the_map_on_an_edge_is_one_matrix_however_it_is_asked(random_graph, seed):
    graph = Graph(with_scopes(random_graph, seed).output)
    if not any(node.scope for node in graph.nodes):
        return
    for edge in graph.collapse("layers").edges:
        local = edge.local
        if isinstance(local, float):
            continue
        matrix = local.matrix()
        assert local.shape == matrix.shape == (edge.child.size, edge.parent.size)
        scale = 1e-12 * (1.0 + np.abs(matrix).max())
        pulls = [np.reshape(local.pull(row.reshape(edge.child.shape)), -1) for row in np.eye(edge.child.size)]
        pushes = [np.reshape(local.push(row.reshape(edge.parent.shape)), -1) for row in np.eye(edge.parent.size)]
        assert np.allclose(matrix, np.array(pulls), rtol=0, atol=scale)
        assert np.allclose(matrix, np.array(pushes).T, rtol=0, atol=scale)
        entries = local.entries()
        assert all(abs(matrix[place] - number) <= scale for place, number in entries.items())
        assert {(int(i), int(j)) for i, j in np.argwhere(matrix)} <= set(entries)


def test_the_samples_of_a_batch_do_not_meet_in_a_neuron():
    net, loss = network(5)
    collapsed = Graph(loss).collapse("neurons")
    below, above = collapsed.named("layer 1 · neuron 2"), collapsed.named("layer 2 · neuron 3")
    edge = next(e for e in collapsed.edges if e.parent is below and e.child is above)
    weight = net.layers[1].W[1, 2].data
    diagonal = weight * (1.0 - above.data**2)  # tanh
    assert np.allclose(edge.local.matrix(), np.diag(diagonal), rtol=1e-12)
    assert set(edge.local.entries()) == {(i, i) for i in range(5)}


def test_the_maps_of_array_graphs():
    net = nn.MLP(2, [4, 1], activations=["tanh", "identity"], seed=0, magnification="array")
    X = np.random.RandomState(0).randn(6, 2)
    z, a = net.trace(X)
    loss = np.sum(a[-1] ** 2)
    loss.backward()
    collapsed = Graph(loss).collapse("layers")
    assert [collapsed.label(box) for box in collapsed.nodes] == ["X", "layer 1", "layer 2", "output"]
    for edge in collapsed.edges:
        assert edge.local.matrix().shape == (edge.child.size, edge.parent.size)
    assert np.allclose(collapsed.adjoints()[collapsed.named("layer 1")], a[1].grad, rtol=1e-12)
    kept = Graph(loss).collapse([z[1], net.layers[0].W])
    assert {kept.label(box) for box in kept.nodes} >= {"W1", "z1"}
    assert np.allclose(kept.adjoints()[z[1]], z[1].grad, rtol=1e-12)
    W1, first = net.layers[0].W, kept.edges[0]
    assert (first.parent, first.child) == (W1, z[1])
    assert np.allclose(first.local.pull(z[1].grad), W1.grad, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(graphs(max_operations=20), SEEDS)
def test_contributions_add_up_to_the_stored_grads(random_graph, seed):
    graph = Graph(with_scopes(random_graph, seed).output)
    if not any(node.scope for node in graph.nodes):
        return
    collapsed = graph.collapse("layers")
    assert all(collapsed.contribution(edge) is None for edge in collapsed.edges)
    graph.output.backward()
    size, found = magnitudes(graph.nodes), collapsed.adjoints()
    for box, edges in collapsed.children().items():
        total = sum([np.reshape(collapsed.contribution(edge), -1) for edge in edges])
        scale = 1e-12 * sum(1.0 + size[output] for output in outputs_of(box))
        if box is not collapsed.output:
            assert np.allclose(total, np.reshape(found[box], -1), rtol=0, atol=scale)


# ------------------------------------------------------------------------------------------- which boxes


def test_a_recorded_network_collapses_to_a_box_for_every_neuron():
    net, loss = network(90)
    graph = Graph(loss, parameters=net)
    assert len(graph) > 5_000
    collapsed = graph.collapse("neurons")
    labels = [collapsed.label(box) for box in collapsed.nodes]
    neurons = [f"layer {k} · neuron {i}" for k, n in ((1, 4), (2, 3), (3, 1)) for i in range(1, n + 1)]
    assert labels == ["inputs", *neurons, "L"]
    for k, layer in enumerate(net.layers, 1):
        for neuron, i in zip(layer.neurons, range(1, 9), strict=False):
            group = collapsed.named(f"layer {k} · neuron {i}")
            assert len(group.outputs) == 90
            assert set(group.leaves) == set(neuron.parameters())
    layers = graph.collapse("layers")
    assert [layers.label(box) for box in layers.nodes] == ["inputs", "layer 1", "layer 2", "layer 3", "L"]
    matrices = graph.collapse("matrices")
    names = [name for k in (1, 2, 3) for name in (f"W{k}", f"b{k}", f"z{k}", f"a{k}")]
    assert sorted(box.name for box in matrices.nodes) == sorted(["x", *names, "L"])
    for collapsed in (layers, matrices):
        assert wrong_sums(collapsed) == []


def test_one_sample_through_lists_collapses_the_same_way():
    """As micrograd's users call it, with lists, node by node."""
    net = nn.MLP(3, [4, 1], seed=1)
    x = [Value(v, f"x_{i}") for i, v in enumerate((1.0, -2.0, 0.5), 1)]
    collapsed = Graph((net(x) - 1.0) ** 2).collapse("neurons")
    expected = ["x_1", "x_2", "x_3", *[f"layer 1 · neuron {i}" for i in range(1, 5)], "layer 2 · neuron 1", "output"]
    assert sorted(collapsed.label(box) for box in collapsed.nodes) == sorted(expected)
    output = nn.Neuron(2, seed=0)([1.0, x[0]])
    alone = Graph(output).collapse("neurons")
    assert [alone.label(box) for box in alone.nodes] == ["x_1", "layer 2→1 · neuron 1"]


def test_a_layer_used_twice_is_two_boxes():
    """Else it would read from itself through the other, and nothing could be drawn from left to right."""
    net = nn.MLP(2, [2, 2], seed=1)
    once = net([Value(0.5, "p"), Value(-1.0, "q")])
    loss = sum(net(once))
    collapsed = Graph(loss).collapse("layers")
    assert wrong_shape(collapsed) == wrong_sums(collapsed) == []
    labels = [collapsed.label(box) for box in collapsed.nodes]
    assert {"layer 1", "layer 1 (2)", "layer 2", "layer 2 (2)"} <= set(labels)


def test_own_scopes_and_depths():
    x = Value(2.0, "x")
    with scope("encoder"):
        with scope("first"):
            h = x.tanh()
        h = h * h
    with scope("decoder"):
        y = h + 1.0
    graph = Graph(y)
    names = {to: [graph.collapse(to).label(box) for box in graph.collapse(to).nodes] for to in (1, 2)}
    assert names[1] == ["x", "encoder", "decoder"]
    assert len(names[2]) == 4
    assert graph.collapse(1).collapse(2).to == 2


def test_names_keep_the_named_nodes():
    x, w = Value(2.0, "x"), Value(3.0, "w")
    h = (w * x + 1.0).tanh()
    h.name = "h"
    collapsed = Graph((h - 1.0) ** 2).collapse("names")
    assert [node.name for node in collapsed.nodes] == ["w", "x", "h", None]
    nameless = Graph(Value(1.0) * Value(2.0) + 3.0).collapse("names")
    assert len(nameless) == 3  # both leaves and the output: without them nothing would be left
    assert "2 boxes" in repr(Graph(x * x + 1.0).collapse())  # what there is without scopes
    assert Graph(network(1)[1]).collapse().to == "neurons"


def test_long_chains_collapse_without_recursion_or_delay():
    x = Value(1.0, "x")
    middle = chain(50_000, x)
    middle.name = "middle"
    collapsed = Graph(chain(50_000, middle)).collapse("names")
    assert [edge.local for edge in collapsed.edges] == [1.0, 1.0]
    with scope("long"):
        y = chain(50_000, x)
    assert len(Graph(y + 1.0).collapse("layers")) == 3


def test_collapse_takes_linear_time(monkeypatch):
    """Counted in nodes swept, not in seconds."""
    swept = []
    original = Collapsed._swept

    def counting(self, body, seeds):
        swept.append(len(body))
        return original(self, body, seeds)

    monkeypatch.setattr(Collapsed, "_swept", counting)
    for samples in (4, 16):
        swept.clear()
        _, loss = network(samples)
        graph = Graph(loss)
        collapsed = graph.collapse("neurons")
        for edge in collapsed.edges:
            if isinstance(edge.local, BodyMap):
                edge.local.entries()
        boxes = len(collapsed)
        assert sum(swept) < 2 * boxes * len(graph), "one sweep per edge, over one body"


@pytest.mark.parametrize(
    ("to", "error", "words"),
    [
        ("units", ValueError, "'names', 'neurons', 'layers', 'matrices', a depth of scopes such as 1, or a list"),
        (0, ValueError, "counts from 1"),
        (True, TypeError, "got True"),
        ([Value(1.0, "stranger")], ValueError, "not a node of this graph.*stranger"),
        ([3.0], ValueError, "3.0, which is no node"),
        (Value(1.0, "one"), TypeError, "a list of nodes to keep, got Value"),
        (7.5, TypeError, "a list of nodes to keep, got 7.5"),
    ],
)  # fmt: skip
def test_refusals_say_what_to_ask_for(to, error, words):
    with scope("layer 1"):
        y = Value(1.0, "x") * 2.0
    with pytest.raises(error, match=words):
        Graph(y).collapse(to)


def test_without_scopes_the_way_out_is_named():
    with pytest.raises(ValueError, match=r"goes by scopes.*autodiff\.scope.*collapse\('names'\)"):
        Graph(Value(1.0, "x") * 2.0).collapse("layers")
    _, loss = network(2)
    collapsed = Graph(loss).collapse("neurons")
    with pytest.raises(KeyError, match=r"0 boxes are called 'layer 9'.*layer 1 · neuron 1"):
        collapsed.named("layer 9")
    assert loss not in collapsed
    assert collapsed.output in collapsed
    with pytest.raises(ValueError, match="has the shape"):
        next(e.local for e in collapsed.edges if isinstance(e.local, BodyMap)).pull(np.zeros(99))


def test_parameters_are_told_from_inputs():
    net, _ = network(1)
    X = Tensor(np.ones((2, 3)), "X")
    for leaf, expected in [
        (net.layers[0].W[0, 0], True), (net.layers[0].b[0, 0], True), (X, False), (Value(1.0, "x_1"), False),
        (Value(1.0, "w1_21"), True), (Tensor(np.ones(2), "W2"), True), (Value(1.0, "b_1"), True),
        (Value(1.0, "b"), False), (Value(1.0, "weather"), False), (Value(1.0), False), (Value(1.0, "theta"), True),
    ]:  # fmt: skip
        assert Graph(leaf * 1.0).is_parameter(leaf) is expected, leaf
    for name, expected in [
        ("inputs", False),
        ("Data", False),
        ("loss", False),
        ("encoder", True),
        ("input layer", True),
    ]:
        with scope(name), scope("part"):
            leaf = Value(1.0)
        assert Graph(leaf * 1.0).is_parameter(leaf) is expected, name
    b = Value(1.0, "b")
    assert Graph(b * 2.0, parameters=[b]).is_parameter(b)
    assert Graph(b * 2.0, parameters=b).is_parameter(b)
    for wrong in (3, ["b"]):
        with pytest.raises(TypeError, match=r"parameters\), or each one of them, takes a node"):
            Graph(b * 2.0, parameters=wrong)
    assert not Graph(net.layers[0].W[0, 0] * 2.0, parameters=[b]).is_parameter(net.layers[0].W[0, 0])


def test_a_layer_called_inside_a_scope_of_its_own_name_and_a_loss_in_one():
    net = nn.MLP(2, [2, 1], activations=["tanh", "sigmoid"], seed=0)
    units = [Value(0.5, "x_1"), Value(-1.0, "x_2")]
    for number, layer in enumerate(net.layers, 1):
        with scope(f"layer {number}"):
            units = layer(units)
    with scope("loss"):
        loss = (units[0] if isinstance(units, list) else units) ** 2 - 0.5
        loss = loss * loss
    graph = Graph(loss)
    assert [graph.collapse("layers").label(box) for box in graph.collapse("layers").nodes[2:]] == [
        "layer 1", "layer 2", "loss"
    ]  # fmt: skip
    assert [box.name for box in graph.collapse("matrices").nodes][-1] == "loss"
