"""Copies and files: a graph comes back as it was, shared nodes shared, however deep it is."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest

import autodiff as ad
import nn
from autodiff import Tensor, Value, copies, value


def through_a_file(thing):
    return pickle.loads(pickle.dumps(thing))


WAYS = pytest.mark.parametrize("way", [through_a_file, copy.deepcopy], ids=["pickle", "deepcopy"])


def small():
    x, w = Value(3.0, name="x"), Value(-0.5, name="w")
    with ad.scope("layer"):
        h = (w * x).tanh()
    h.name = "h"
    return h * h + 2.0 / x, h, x


@WAYS
def test_a_graph_comes_back_as_it_was(way):
    before = small()
    y, h, x = way(before)
    assert all(ours is not theirs for ours, theirs in zip(before, (y, h, x), strict=True))
    assert (y.data, h.name, h.scope, x.name) == (before[0].data, "h", ("layer",), "x")
    assert [ad.Graph(y).label(n) for n in ad.Graph(y).nodes] == [
        ad.Graph(before[0]).label(n) for n in ad.Graph(before[0]).nodes
    ]
    y.backward()
    before[0].backward()
    assert (x.grad, h.grad) == (before[2].grad, before[1].grad)


@WAYS
@pytest.mark.parametrize("pick", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_what_is_shared_stays_shared_in_any_order(way, pick):
    nodes = small()
    found = dict(zip(pick, way([nodes[i] for i in pick]), strict=True))
    graph = {id(node) for node in ad.Graph(found[0]).nodes}
    assert {id(found[1]), id(found[2])} <= graph
    assert not copies._handed  # nothing is left behind


@WAYS
def test_deep_graphs(way):
    x = Value(1.0, name="x")
    y = x
    for _ in range(20_000):  # far beyond the recursion limit
        y = y * 0.999 + x
    twin = way(y)
    twin.backward()
    y.backward()
    (twin_x,) = [node for node in ad.Graph(twin).nodes if node.name == "x"]
    assert (twin.data, twin_x.grad) == (y.data, x.grad)
    assert not copies._handed


@WAYS
def test_whether_there_is_a_gradient_survives(way):
    fresh, reached = Value(1.0), Value(2.0)
    (reached * reached).backward()
    again, there = way((fresh, reached))
    assert repr(again) == "Value(1.0)"
    assert repr(there) == "Value(2.0, grad=4.0)"
    assert not ad.Graph(again).has_grad(again)


def test_a_shallow_copy_shares_its_parents():
    y, h, _ = small()
    twin = copy.copy(y)
    assert twin is not y
    assert [a is b for a, b in zip(twin.parents, y.parents, strict=True)] == [True, True]
    assert copy.copy(h).name == "h"
    assert not copies._handed


@WAYS
def test_arrays_and_models(way):
    W = way(ad.scalars(np.array([[1.0, 2.0]]), name="W"))
    assert type(W) is ad.Scalars
    assert W[0, 1].name == "W[0,1]"
    model = nn.MLP(2, [3, 1], activations=["tanh", "sigmoid"], seed=0)
    twin = way(model)
    assert twin([0.1, 0.2]).data == model([0.1, 0.2]).data
    assert {id(p) for p in twin.parameters()}.isdisjoint({id(p) for p in model.parameters()})


def test_an_interrupted_pickle_is_forgiven():
    y, _, x = small()
    x.label = value.Label("x", (lambda: None,))  # cannot be pickled
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(y)
    x.name = "x"
    x.label = value.Label("x", ())
    twin = through_a_file(y)
    assert twin.data == y.data


class Full:
    """A disk without room."""

    def write(self, data):
        raise OSError("no space left")


def test_a_file_that_cannot_be_written_leaves_nothing_behind():
    x = Value(1.0, name="x")
    nodes = [x]
    for _ in range(20_000):
        nodes.append(nodes[-1] * 0.999 + x)
    with pytest.raises(OSError, match="no space"):
        pickle.dump(nodes[-1], Full())
    assert not copies._handed
    assert through_a_file(nodes[15_000]).data == nodes[15_000].data  # it would recurse, had it been remembered


def test_a_list_of_all_nodes_is_copied_once():
    x = Value(1.0, name="x")
    nodes = [x]
    for _ in range(3_000):
        nodes.append(nodes[-1] + x)
    memo = {}
    twins = copy.deepcopy(nodes, memo)
    assert sum(type(twin) is Value for twin in memo.values()) == len(nodes)
    assert all(twin.parents == () or twin.parents[0] is before for before, twin in pairwise(twins))


# ---------------------------------------------------------------- array nodes
def small_of_arrays():
    x = Tensor(np.arange(6.0).reshape(2, 3), name="x")
    w = Tensor(np.full((3, 2), 0.25, dtype=np.float32), name="w")
    with ad.scope("layer"):
        h = np.tanh(x @ w + np.ones(2))
    h.name = "h"
    rows = np.concatenate([h[[0, 0]], np.where(h.data > 0.9, h, 2.0)])
    return np.sum(rows.T * rows.T) / np.max(h), h, x


@WAYS
@pytest.mark.parametrize("pick", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_graph_of_arrays_comes_back_as_it_was(way, pick):
    before = small_of_arrays()
    found = dict(zip(pick, way([before[i] for i in pick]), strict=True))
    y, h, x = (found[i] for i in range(3))
    ours, theirs = ad.Graph(before[0]), ad.Graph(y)
    assert all(one is not other for one, other in zip(before, (y, h, x), strict=True))
    assert (h in theirs, x in theirs, len(theirs)) == (True, True, len(ours))
    for one, other in zip(ours.nodes, theirs.nodes, strict=True):  # in the same order: numbered alike
        assert (one.name, one.scope, one.op, one.dtype) == (other.name, other.scope, other.op, other.dtype)
        assert np.array_equal(one.data, other.data)
        assert all(parent.number < other.number for parent in other.parents)
        assert one.number != other.number
    before[0].backward()
    y.backward()
    assert np.allclose(x.grad, before[2].grad, rtol=1e-14)  # BLAS may add in another order for another layout
    assert x.grad.dtype == before[2].grad.dtype
    assert not copies._handed


@WAYS
def test_new_nodes_come_after_what_was_read(way):
    x = way(Tensor([1.0, 2.0], "x"))
    y = way(x * 2.0)
    z = np.sum(y * x)
    assert z.number > y.number
    z.backward()
    assert np.array_equal(x.grad, y.data)


@WAYS
def test_the_gradient_of_an_array_survives(way):
    x, fresh = Tensor([1.0, 2.0], "x"), Tensor([3.0])
    np.sum(x**2).backward()
    x2, fresh2 = way((x, fresh))
    assert np.array_equal(x2.grad, [2.0, 4.0])
    assert (x2.has_grad, fresh2.has_grad) == (True, False)
    x2.grad = np.zeros(2)
    assert np.array_equal(x.grad, [2.0, 4.0])


@WAYS
def test_deep_graphs_of_arrays(way):
    x = Tensor(1.0, name="x")
    y = x
    for _ in range(5_000):
        y = y * 0.999 + x
    twin = way(y)
    twin.backward()
    y.backward()
    assert (twin.data, ad.Graph(twin).named("x").grad) == (y.data, x.grad)
    assert not copies._handed


def test_a_deep_copy_has_arrays_of_its_own():
    data, factor = np.ones(3), np.full(3, 2.0)
    x = Tensor(data, "x")
    y = x * factor
    twin, array = copy.deepcopy((y, data))
    data[:] = 7.0
    factor[:] = 7.0
    (twin_x,) = ad.Graph(twin).leaves
    assert np.array_equal(twin_x.data, np.ones(3))
    assert np.array_equal(twin.operands[1], np.full(3, 2.0))
    assert twin_x.data is array  # what is shared stays shared


def test_a_shallow_copy_of_an_array_shares_its_parents_and_numbers():
    y, h, _ = small_of_arrays()
    twin = copy.copy(y)
    assert [a is b for a, b in zip(twin.parents, y.parents, strict=True)] == [True, True]
    assert twin.data is y.data
    assert twin.number > y.number
    assert copy.copy(h).name == "h"
    twin.backward()
    assert not y.has_grad


def test_a_list_of_all_arrays_is_copied_once():
    x = Tensor(1.0, name="x")
    nodes = [x]
    for _ in range(3_000):
        nodes.append(nodes[-1] + x)
    memo = {}
    twins = copy.deepcopy(nodes, memo)
    assert sum(type(twin) is Tensor for twin in memo.values()) == len(nodes)
    assert all(twin.parents == () or twin.parents[0] is before for before, twin in pairwise(twins))
    assert all(before.number < twin.number for before, twin in pairwise(twins))


def test_a_rule_of_the_users_own_is_copied_and_goes_into_no_file():
    cube = ad.custom.custom_jvp(lambda x: x**3)
    cube.defjvps(lambda t, y, x: 3.0 * x**2 * t)
    x = Tensor([2.0], "x")
    y = np.sum(cube(x))
    twin = copy.deepcopy(y)
    twin.backward()
    assert np.array_equal(ad.Graph(twin).named("x").grad, [12.0])
    with pytest.raises(pickle.PicklingError, match="operation of your own"):
        pickle.dumps(y)
    assert copy.deepcopy(cube) is cube
