"""Trees of numbers: taken apart and put together again, and matched with one another."""

import gc
import weakref
from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodiff import trees

Point = namedtuple("Point", "x y")
TREES = st.recursive(
    st.none() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=8,
)


@given(TREES)
def test_unflatten_undoes_flatten(tree):
    leaves, structure = trees.flatten(tree)
    again = trees.unflatten(structure, leaves)
    assert again == tree
    assert type(again) is type(tree)
    assert trees.count(structure) == len(leaves) == len(list(trees.places(structure, "x")))
    assert [leaf for leaf, _ in trees.matched(tree, structure, "tree", "x")] == leaves


@given(TREES)
def test_a_place_leads_to_its_leaf(tree):
    leaves, structure = trees.flatten(tree)
    assert [eval(place, {"x": tree}) for place in trees.places(structure, "x")] == leaves


@pytest.mark.parametrize(
    "tree", [Point(1.0, [2.0]), OrderedDict(b=1.0, a=2.0), (), [], {}, None, [None], 3.0, {"a": ()}], ids=repr
)
def test_kinds_of_containers_are_kept(tree):
    leaves, structure = trees.flatten(tree)
    again = trees.unflatten(structure, leaves)
    assert type(again) is type(tree)
    assert again == tree


def test_a_defaultdict_comes_back_as_a_dict():
    tree = defaultdict(list, a=1.0)
    assert trees.tree_map(lambda x: x + 1.0, tree) == {"a": 2.0}


def test_arrays_are_leaves():
    array = np.ones(2)
    assert trees.flatten([array])[0][0] is array


def test_dicts_are_matched_by_key():
    structure = trees.flatten({"a": 0.0, "b": [0.0]})[1]
    assert [leaf for leaf, _ in trees.matched({"b": [2.0], "a": 1.0}, structure, "tangent", "x")] == [1.0, 2.0]


def test_none_stands_for_a_subtree():
    structure = trees.flatten({"a": [0.0, 0.0], "b": 0.0})[1]
    assert trees.matched({"a": None, "b": 1.0}, structure, "tangent", "x") == [
        (None, "x['a'][0]"), (None, "x['a'][1]"), (1.0, "x['b']"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tree", "like", "message"),
    [
        (
            {"a": 1.0},
            {"b": 1.0},
            r"tangent of the x has not its structure: expected a dict with the keys 'b', got .*'a'",
        ),
        ([1.0], [1.0, 2.0], r"expected a list of 2, got list \[1.0\]"),
        ([[1.0], 2.0], [[1.0, 2.0], 2.0], r"the x\[0\] .*expected a list of 2"),
        ({"a": 1.0}, 1.0, "expected one number or array, got a dict"),
        ([1.0], [None], r"x\[0\].*expected None, got float 1.0"),
        (1.0, (1.0,), "expected a tuple of 1, got float 1.0"),
    ],
)
def test_what_does_not_match_is_named(tree, like, message):
    with pytest.raises(TypeError, match=message):
        trees.matched(tree, trees.flatten(like)[1], "tangent", "x")


def test_nothing_keeps_the_leaves():
    class Leaf:
        pass

    gc.disable()
    try:
        leaf = Leaf()
        watched = weakref.ref(leaf)
        tree = [{"a": (leaf, None)}]
        leaves, structure = trees.flatten(tree)
        trees.matched(trees.unflatten(structure, leaves), structure, "tree", "x")
        del leaf, tree, leaves
        assert watched() is None
    finally:
        gc.enable()
