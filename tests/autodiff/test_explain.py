"""Receipts, paths and total differentials against the definition: paths by recursion, products, sums."""

import functools
import math
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from autodiff import (
    TABLE,
    Graph,
    Value,
    absolute,
    adjoints,
    count_paths,
    heaviest_paths,
    log,
    paths,
    primitive,
    relu,
    sigmoid,
    softplus,
    stop_gradient,
    tanh,
    total_derivative,
    total_differential,
)
from tests.random_graphs import EIGHTHS, ROWS, all_paths, ancestors, chain, graphs, ladder, magnitudes

RANDOM = settings(deadline=None, derandomize=True, max_examples=150)
# Chains of up to 12 operations, each with a rounding error or two per factor and term: under 100 epsilon, relative
# to the sum of |products of paths|, where no cancellation can hide them.
ROUNDING = 1e-12
SUBNORMAL = 1e-310  # products that underflow keep only some of their digits
LONG = 20_000  # twenty times the depth to which Python recurses


def sizes_of(example):
    """{node: sum of |path products|} below the output, in the order of the graph."""
    return magnitudes(Graph(example.output).nodes)


# ---------------------------------------------------------------- receipts
def assert_receipt_adds_up(receipt, adjoint, size):
    summed = math.fsum(term.upstream * term.local for term in receipt.terms)
    assert abs(receipt.total - adjoint) <= ROUNDING * size
    assert abs(summed - adjoint) <= ROUNDING * size


@RANDOM
@given(graphs())
def test_terms_sum_to_the_adjoint_at_every_node(example):
    adjoint, size = adjoints(example.output), sizes_of(example)
    for node in adjoint:
        if node is not example.output:
            assert_receipt_adds_up(total_derivative(example.output, node), adjoint[node], size[node])
    example.output.backward()
    for node in adjoint:
        if node is not example.output:
            assert_receipt_adds_up(total_derivative(example.output, node), node.grad, size[node])


@RANDOM
@given(graphs())
def test_one_term_per_child_edge(example):
    adjoint = adjoints(example.output)
    below = Graph(example.output).nodes
    for node in below:
        terms = total_derivative(example.output, node).terms
        expected = [
            (id(child), adjoint[child], local) for child in below for parent, local in child.edges() if parent is node
        ]
        assert [(id(term.child), term.upstream, term.local) for term in terms] == expected
        assert [term.contribution for term in terms] == [term.upstream * term.local for term in terms]


@RANDOM
@given(graphs())
def test_a_receipt_neither_needs_nor_changes_a_grad(example):
    odd = [0.1 + number for number in range(len(example.nodes))]
    for node, grad in zip(example.nodes, odd, strict=True):
        node.grad = grad
    nodes = Graph(example.output).nodes
    before = total_derivative(example.output, nodes[0])
    for node in nodes:
        receipt = total_derivative(example.output, node)
        str(receipt), receipt.latex(), receipt.total
        total_derivative(example.output, node, through=nodes)
        if count_paths(example.output, node) <= 100:
            paths(example.output, node)
    assert [node.grad for node in example.nodes] == odd
    assert [node.uses for node in example.nodes] == [0] * len(example.nodes)
    example.output.backward()
    after = total_derivative(example.output, nodes[0])
    assert [term.contribution for term in after.terms] == [term.contribution for term in before.terms]


def test_the_check_of_receipts_can_fail():
    x = Value(3.0, "x")
    y = x * x + x
    receipt = total_derivative(y, x)
    assert_receipt_adds_up(receipt, 7.0, 7.0)
    object.__setattr__(receipt, "terms", receipt.terms[1:])
    with pytest.raises(AssertionError):
        assert_receipt_adds_up(receipt, 7.0, 7.0)


def test_a_repeated_operand_has_two_terms_and_two_paths():
    x = Value(3.0, "x")
    y = x * x
    receipt = total_derivative(y, x)
    assert [(term.child is y, term.upstream, term.local) for term in receipt.terms] == [(True, 1.0, 3.0)] * 2
    assert receipt.total == 6.0
    assert [path.product for path in paths(y, x)] == [3.0, 3.0]
    assert count_paths(y, x) == 2


def test_of_the_output_itself_it_is_one():
    x = Value(3.0, "x")
    y = x * x
    for output in (x, y):
        receipt = total_derivative(output, output)
        assert (receipt.total, receipt.terms) == (1.0, ())
        assert "= 1: the output itself" in str(receipt)
        assert receipt.latex().endswith("= 1")


@pytest.mark.parametrize("through", [None, [], [Value(2.0)]])
def test_what_the_output_does_not_depend_on_is_refused(through):
    x, other = Value(3.0, "x"), Value(3.0, "q")  # equal data must not make them one
    with pytest.raises(ValueError, match="f does not depend on q: no path leads from there to the output"):
        total_derivative(x * x, other, through)


def test_a_child_of_the_output_is_refused():
    x = Value(3.0, "x")
    y = x * x
    with pytest.raises(ValueError, match="does not depend on"):
        total_derivative(y, y * x)


def test_a_long_chain_has_a_receipt_and_one_path():
    x = Value(2.0, "x")
    middle = chain(LONG // 2, x)
    y = chain(LONG // 2, middle)
    assert total_derivative(y, x).total == 1.0
    receipt = total_derivative(y, x, through=[middle])
    assert [(term.child is middle, term.contribution) for term in receipt.terms] == [(True, 1.0)]
    [path] = paths(y, x)
    assert len(path.nodes) == LONG + 1
    assert path.nodes[0] is x
    assert path.nodes[-1] is y
    assert path.product == 1.0
    assert count_paths(y, x) == 1
    with pytest.raises(ValueError, match="do not cut every path"):
        total_derivative(y, x, through=[])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: total_derivative(3.0, x), r"total_derivative\(output, \.\.\.\) takes a node .* got float"),
        (lambda x: total_derivative(x * x, 3.0), r"total_derivative\(\.\.\., wrt\) takes a node .* got float"),
        (lambda x: total_derivative(x * x, x, through=[3.0]), r"through\) takes a node .* got float"),
        (lambda x: count_paths(3.0, x), r"count_paths\(output, \.\.\.\) takes a node"),
        (lambda x: count_paths(x * x, "x"), r"count_paths\(\.\.\., wrt\) takes a node .* got str"),
        (lambda x: paths(np.zeros(3), x), r"paths\(output, \.\.\.\) takes a node .* of shape \(3,\)"),
        (lambda x: paths(x * x, None), r"paths\(\.\.\., wrt\) takes a node .* got NoneType"),
    ],
)
def test_what_is_no_node_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call(Value(3.0, "x"))


# ---------------------------------------------------------------- nan and inf
CORNERS = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e308, 5e-324, -1.0]


@pytest.mark.parametrize("data", CORNERS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_corners_do_not_break_a_receipt(row, data):
    with np.errstate(all="ignore"):
        x, w = Value(data, "x"), Value(2.0, "w")
        y = row(x) if row.arity == 1 else row(x, x)
        output = y * w  # one product: 0 * inf is nan in both
        receipt, other = total_derivative(output, x), total_derivative(output, w)
        total_derivative(output, x, through=[y])
        for text in (str(receipt), receipt.latex(), str(other), other.latex()):
            assert isinstance(text, str)
        output.backward()
    assert np.array_equal(receipt.total, x.grad, equal_nan=True)
    assert np.array_equal(sum(path.product for path in paths_quietly(output, x)), x.grad, equal_nan=True)


def paths_quietly(output, wrt):
    with np.errstate(all="ignore"):
        return paths(output, wrt)


@RANDOM
@given(graphs(), st.lists(st.sampled_from(CORNERS), min_size=4, max_size=4))
def test_corners_do_not_break_a_receipt_of_a_random_graph(example, data):
    with np.errstate(all="ignore"):
        for leaf, number in zip(example.leaves, data, strict=False):
            leaf.data = number
        for node in ancestors(example.output):
            receipt = total_derivative(example.output, node)
            assert str(receipt)
            assert receipt.latex()


# ---------------------------------------------------------------- printing
def balanced(text):
    """Whether (), [], {} nest properly; an escaped brace is a sign like any other."""
    closing = {")": "(", "]": "[", "}": "{"}
    open_ones = []
    for sign in re.sub(r"\\[{}]", "", text):
        if sign in closing.values():
            open_ones.append(sign)
        elif sign in closing and (not open_ones or open_ones.pop() != closing[sign]):
            return False
    return not open_ones


@RANDOM
@given(graphs())
def test_every_child_is_printed_in_text_and_in_latex(example):
    graph = Graph(example.output)
    for node in graph.nodes:
        receipt = total_derivative(example.output, node)
        text, latex = str(receipt), receipt.latex()
        assert balanced(text)
        assert balanced(latex)
        assert latex.count(r"\left") == latex.count(r"\right")
        assert latex.count(r"\begin") == latex.count(r"\end") == bool(receipt.terms)
        for term in receipt.terms:
            assert term.label == graph.label(term.child)
            assert term.label in text
            assert term.symbol.latex() in latex
        rows = text.splitlines()[3:]
        assert len(rows) == (len(receipt.terms) + 1 if receipt.terms else 0)


def test_brackets_can_be_out_of_balance():
    assert balanced(r"\frac{a}{b} (x_{1}) \{")
    assert not balanced(r"\frac{a}{b (x_{1})")
    assert not balanced("(a]")
    assert not balanced("a)")


def test_a_receipt_in_full():
    w, h, b = Value(2.0, "w"), Value(-0.5, "h"), Value(0.25, "b")
    z = w * h + b
    z.name = "z"
    loss = z * z
    loss.name = "L"
    assert str(total_derivative(loss, z)).splitlines() == [
        "dL/dz = -1.5",
        "  = dL/dL · z + dL/dL · z",
        "  child  upstream  local         contribution",
        "  L             1  z      -0.75         -0.75",
        "  L             1  z      -0.75         -0.75",
        "  sum                                    -1.5",
    ]
    assert total_derivative(loss, h).latex() == "\n".join(
        [
            r"\begin{aligned}",
            r"\frac{\partial L}{\partial h} &= "
            r"\frac{\partial L}{\partial \left(w \cdot h\right)} \cdot w \\",
            r"&= -1.5 \cdot 2 = -3",
            r"\end{aligned}",
        ]
    )


def test_negative_factors_stand_in_brackets():
    x, y = Value(-1.0, "x"), Value(-2.0, "y")
    output = -(x * y) - x * 3.0
    assert r"(-1) \cdot 3" in total_derivative(output, x).latex().splitlines()[2]
    assert r"\cdot (-2)" in total_derivative(output, x).latex().splitlines()[2]


def test_a_compound_label_keeps_its_brackets_inside_a_local_derivative():
    x, y = Value(3.0, "x"), Value(2.0, "y")
    [term] = total_derivative(y / (x + 1.0), y).terms
    assert term.local == 0.25
    assert str(term.formula) == "1 / (x + 1)"
    assert term.formula.latex() == r"\frac{1}{x + 1}"


@pytest.mark.parametrize("base", [0.0, -2.0, math.inf])
def test_symbols_neither_warn_nor_raise_where_their_numbers_have_a_corner(base):
    x = Value(2.0, "x")
    with np.errstate(all="ignore"):
        y = base**x
        [(_, local)] = y.edges()
    if not math.isnan(local):  # for -2 the number itself is a corner, and warns
        with np.errstate(all="raise"):
            receipt = total_derivative(y, x)
        assert receipt.total == local
        assert "inf · " not in str(receipt)
        assert "· -inf" not in str(receipt)


def test_the_output_and_a_node_called_f_are_told_apart():
    f = Value(1.0, "f")
    assert "df/df = 2" not in str(total_derivative(f * f, f))


# ---------------------------------------------------------------- paths
@RANDOM
@given(graphs(max_operations=9))
def test_paths_are_those_of_the_definition(example):
    for node in Graph(example.output).nodes:
        found = paths(example.output, node)
        expected = all_paths(example.output, node)
        assert count_paths(example.output, node) == len(found) == len(expected)
        assert sorted(([id(n) for n in path.nodes], [*path.locals]) for path in found) == sorted(
            ([id(n) for n in nodes], locals_) for nodes, locals_ in expected
        )


@RANDOM
@given(graphs())
def test_path_products_sum_to_the_adjoint(example):
    adjoint, size = adjoints(example.output), sizes_of(example)
    for node in adjoint:
        if count_paths(example.output, node) <= 2000:
            products = [path.product for path in paths(example.output, node)]
            assert abs(math.fsum(products) - adjoint[node]) <= ROUNDING * size[node] + SUBNORMAL
            assert size[node] == pytest.approx(sum(map(abs, products)), rel=ROUNDING)


@RANDOM
@given(graphs())
def test_what_the_output_does_not_depend_on_has_no_path(example):
    below = ancestors(example.output)
    for node in example.nodes:
        if node not in below:
            assert count_paths(example.output, node) == 0
            assert paths(example.output, node) == []


def test_the_output_has_one_path_to_itself_of_no_edges():
    x = Value(3.0, "x")
    [path] = paths(x, x)
    assert (path.nodes, path.locals, path.product) == ((x,), (), 1.0)
    assert count_paths(x, x) == 1


@pytest.mark.parametrize("height", [1, 10, 100])
def test_ladders_are_counted_exactly(height):
    x = Value(1.0, "x")
    assert count_paths(ladder(height, x), x) == 2**height


def test_too_many_paths_are_refused_with_their_number():
    x = Value(1.0, "x")
    with pytest.raises(ValueError, match=rf"^{2**100} paths lead from x to .*limit=10000; .*count_paths"):
        paths(ladder(100, x), x)


def test_the_limit_is_the_largest_number_that_is_walked():
    x = Value(1.0, "x")
    y = ladder(5, x)
    assert len(paths(y, x, limit=32)) == 32
    with pytest.raises(ValueError, match="32 paths"):
        paths(y, x, limit=31)


def test_a_wide_dead_end_costs_nothing():
    x, w = Value(1.0, "x"), Value(1.0, "w")
    y = ladder(18, w) * x  # 2**18 paths lead to w, and none of them is walked
    tracemalloc.start()
    found = paths(y, x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1
    assert peak < 1_000_000  # bytes; the graph has 20 nodes, and a walk of 2**18 trails takes over 30 million


# ---------------------------------------------------------------- the heaviest paths
@RANDOM
@given(graphs(max_operations=9), st.integers(1, 12))
def test_the_heaviest_paths_are_those_of_all(example, k):
    for node in Graph(example.output).nodes:
        everything = all_paths(example.output, node)
        weights = sorted((abs(math.prod(locals_)) for _, locals_ in everything), reverse=True)
        found = heaviest_paths(example.output, node, k)
        # another order of multiplication: up to 12 factors, each rounded once
        assert [abs(path.product) for path in found] == pytest.approx(weights[:k], rel=1e-14, abs=SUBNORMAL)
        keys = [([id(n) for n in nodes], [*locals_]) for nodes, locals_ in everything]
        for path in found:
            keys.remove(([id(n) for n in path.nodes], [*path.locals]))  # each one once


def test_the_check_of_heaviest_paths_can_fail():
    x = Value(3.0, "x")
    y = x * x + 2.0 * x + x
    assert [path.product for path in heaviest_paths(y, x)] == [3.0, 3.0, 2.0, 1.0]
    assert [path.product for path in heaviest_paths(y, x, k=2)] != [path.product for path in paths(y, x)][:2]


def test_the_heaviest_of_2_to_the_100_paths_and_of_a_long_chain():
    x = Value(1.0, "x")
    y = x
    for step in range(100):
        y = y * 2.0 + y * (-3.0 if step == 50 else 1.0)
    found = heaviest_paths(y, x, k=3)
    assert [path.product for path in found] == [-3.0 * 2.0**99, 2.0**100, -3.0 * 2.0**98]
    [path] = heaviest_paths(chain(LONG, x), x)
    assert len(path.nodes) == LONG + 1


def test_paths_are_compared_where_their_products_leave_the_floats():
    x = Value(1.0, "x")
    small, large = x, x
    for step in range(600):
        small = small * (0.125 if step else 0.25)  # 2**-1799: the product is 0
        large = large * 0.125
    found = heaviest_paths(large + small, x, k=2)
    assert [path.locals[0] for path in found] == [0.25, 0.125]
    assert [path.product for path in found] == [0.0, 0.0]


def test_paths_of_weight_zero_are_paths():
    x = Value(-1.0, "x")
    y = relu(x) + x * 0.0
    assert [path.product for path in heaviest_paths(y, x)] == [0.0, 0.0]
    assert heaviest_paths(y, Value(1.0)) == []
    assert [path.nodes for path in heaviest_paths(x, x)] == [(x,)]


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_a_number_of_paths_is_one_or_more(k):
    x = Value(1.0, "x")
    with pytest.raises(ValueError, match="k is how many paths are wanted, 1 or more"):
        heaviest_paths(x * x, x, k)
    assert len(heaviest_paths(x * x, x, np.int64(2))) == 2


def test_more_paths_than_python_prints_digits_for_are_counted():
    x = Value(1.0, "x")
    with pytest.raises(ValueError, match=r"about 10\^6020 paths lead from x"):
        paths(ladder(20_000, x), x)


# ---------------------------------------------------------------- through
@st.composite
def cut_graphs(draw):
    """(graph, wrt, nodes that cut every path from wrt to output, and some more)."""
    example = draw(graphs())
    nodes = Graph(example.output).nodes
    wrt = nodes[draw(st.integers(0, max(0, len(nodes) - 2)))]
    first = next(number for number, node in enumerate(nodes) if node is wrt)
    last_before = draw(st.integers(first, max(first, len(nodes) - 2)))
    before = set(nodes[: last_before + 1])
    crossing = [(parent, child) for child in nodes[last_before + 1 :] for parent in child.parents if parent in before]
    cut = [pair[draw(st.integers(0, 1))] for pair in crossing]  # either end of an edge cuts it
    more = draw(st.lists(st.sampled_from(nodes), max_size=3))  # so some nodes stand in series
    return example, wrt, draw(st.permutations(cut + more))


@settings(RANDOM, max_examples=200)
@given(cut_graphs())
def test_through_any_cut_the_total_is_the_adjoint(case):
    example, wrt, cut = case
    if wrt is example.output:
        return
    receipt = total_derivative(example.output, wrt, through=cut)
    assert_receipt_adds_up(receipt, adjoints(example.output)[wrt], sizes_of(example)[wrt])
    assert len({id(term.child) for term in receipt.terms}) == len(receipt.terms)  # each node once
    assert {id(term.child) for term in receipt.terms} <= set(map(id, cut))
    text, latex = str(receipt), receipt.latex()
    assert balanced(text)
    assert balanced(latex)
    assert all(term.label in text and term.symbol.latex() in latex for term in receipt.terms)


@settings(RANDOM, max_examples=200)
@given(cut_graphs())
def test_the_local_derivative_of_a_cut_runs_over_paths_that_meet_no_other_node_of_it(case):
    example, wrt, cut = case
    if wrt is example.output or count_paths(example.output, wrt) > 200:
        return
    adjoint = adjoints(example.output)
    chosen = set(cut)
    for term in total_derivative(example.output, wrt, through=cut).terms:
        direct = [
            math.prod(locals_)
            for nodes, locals_ in all_paths(term.child, wrt)
            if not chosen & set(nodes[:-1])  # nodes hash by identity
        ]
        assert term.upstream == adjoint[term.child]
        assert abs(term.local - math.fsum(direct)) <= ROUNDING * sum(map(abs, direct))


@settings(RANDOM, max_examples=200)
@given(graphs(max_operations=9, name_interior=False), st.data())
def test_an_incomplete_cut_is_refused_with_a_path_that_escapes(example, data):
    for number, node in enumerate(example.nodes):
        node.name = f"m{number}"  # so that the path can be read back
    nodes = Graph(example.output).nodes
    wrt = data.draw(st.sampled_from(nodes))
    chosen = set(data.draw(st.lists(st.sampled_from(nodes), max_size=4)))
    escaping = [trail for trail, _ in all_paths(example.output, wrt) if not chosen & set(trail)]
    if wrt is example.output:
        return
    if not escaping:
        total_derivative(example.output, wrt, through=list(chosen))
        return
    with pytest.raises(ValueError, match="do not cut every path") as caught:
        total_derivative(example.output, wrt, through=list(chosen))
    named = re.search(r"; (\S+(?: -> \S+)*) avoids them all", str(caught.value))[1].split(" -> ")
    assert named in [[node.name for node in trail] for trail in escaping]


def test_nodes_in_series_are_counted_once():
    x = Value(3.0, "x")
    h = x * 2.0
    k = h * 5.0
    y = k * k
    receipt = total_derivative(y, x, through=[h, k])
    assert [(term.child is h, term.upstream, term.local) for term in receipt.terms] == [(True, 300.0, 2.0)]
    first = total_derivative(y, x, through=[y, k, h, x])
    assert [(term.child is x, term.upstream, term.local) for term in first.terms] == [(True, 600.0, 1.0)]


def test_a_skip_connection_past_the_first_of_two_in_series():
    x = Value(3.0, "x")
    h = x * 2.0
    k = h + x * 5.0  # two ways into k: over h, which is counted at h, and past it
    y = k * k
    receipt = total_derivative(y, x, through=[h, k])
    assert {term.child: (term.upstream, term.local) for term in receipt.terms} == {h: (42.0, 2.0), k: (42.0, 5.0)}
    assert receipt.total == 2.0 * 21.0 * 7.0


@pytest.mark.parametrize("end", ["wrt", "output"])
def test_either_end_alone_cuts_everything(end):
    x = Value(3.0, "x")
    y = x * x + x.tanh()
    receipt = total_derivative(y, x, through=[x if end == "wrt" else y])
    assert len(receipt.terms) == 1
    assert receipt.total == adjoints(y)[x]
    assert total_derivative(y, y, through=[y]).total == 1.0


def test_a_single_node_is_a_cut_of_one():
    x = Value(3.0, "x")
    h = x * 2.0
    y = h * h
    [term] = total_derivative(y, x, through=h).terms
    assert (term.child is h, term.upstream, term.local) == (True, 12.0, 2.0)
    past = y + x
    past.name = "past"
    with pytest.raises(ValueError, match=r"from x to past; x -> past avoids them all"):
        total_derivative(past, x, through=h)


def test_nodes_that_wrt_does_not_lead_to_have_no_term():
    x, w = Value(3.0, "x"), Value(2.0, "w")
    h, g = x * 2.0, w * 2.0
    receipt = total_derivative(h * g, x, through=[h, g, w])
    assert [term.child is h for term in receipt.terms] == [True]


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_through_a_layer_of_a_network(layer):
    net = nn.MLP(3, [4, 3, 2], activations=["tanh", "sigmoid", "softplus"], seed=3)
    _, a = net.trace(np.array([[0.5, -1.0, 2.0]]))
    loss = nn.losses.sse([[0.1, 0.2]], a[-1])
    loss.backward()
    for x in a[0].flat:
        receipt = total_derivative(loss, x, through=list(a[layer].flat))
        assert len(receipt.terms) == a[layer].size
        assert_receipt_adds_up(receipt, x.grad, math.fsum(abs(term.contribution) for term in receipt.terms))
    if layer > 1:
        with pytest.raises(ValueError, match="avoids them all"):
            total_derivative(loss, a[0][0, 0], through=list(a[layer].flat)[1:])


def test_a_node_of_another_graph_is_refused():
    x = Value(3.0, "x")
    y = x * x
    twin = x * x
    twin.name = "p"
    with pytest.raises(ValueError, match=r"through: Value\(9\.0, name='p'\) is not below the output"):
        total_derivative(y, x, through=[twin])


# ---------------------------------------------------------------- total differential
numbers = st.integers(-1000, 1000).map(lambda hundredths: hundredths / 100)
steps = st.integers(1, 100).map(lambda thousandths: thousandths / 1000)


@RANDOM
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4))
def test_a_linear_function_leaves_only_rounding(rows):
    coefficients, at, step = (list(column) for column in zip(*rows, strict=True))
    result = total_differential(
        lambda *x: sum((c * node for c, node in zip(coefficients, x, strict=True)), 0.0), tuple(at), tuple(step)
    )
    assert [(t.partial, t.step) for t in result.terms] == list(zip(coefficients, step, strict=True))
    # f is evaluated twice, with 2 roundings a term, at arguments of which one was rounded
    size = sum(abs(c) * (abs(a) + abs(s)) for c, a, s in rows)
    assert abs(result.remainder) <= 4 * len(rows) * np.finfo(float).eps * size
    assert result.predicted == pytest.approx(sum(c * s for c, s in zip(coefficients, step, strict=True)), abs=1e-12)
    assert math.isnan(result.order)


@pytest.mark.parametrize(
    ("f", "at", "step"),
    [
        (lambda u: u * 1e6 - 1e6, (1.0,), (1e-10,)),
        (lambda u, v: 3.0 * u - 2.999 * v, (0.3, 0.3), (1e-6, 1e-6)),
    ],
)
def test_a_linear_function_that_cancels_has_no_order(f, at, step):
    assert math.isnan(total_differential(f, at, step).order)


SMOOTH = [tanh, sigmoid, softplus, lambda u: u.exp(), lambda u: u * u * u]


@RANDOM
@given(
    st.integers(10, 30).map(lambda tenths: tenths / 10),
    st.lists(st.tuples(st.sampled_from(SMOOTH), EIGHTHS, EIGHTHS), max_size=3),
    st.tuples(EIGHTHS, EIGHTHS),
    st.tuples(steps, steps),
)
def test_a_smooth_function_has_order_two(curvature, bumps, at, step):
    def f(u, v):
        # Steps up to 0.1 and bumps of slope 1/50: the quadratic part rules the remainder (|third| step << second).
        bent = sum((0.002 * g((a * u + b * v) / 8.0) for g, a, b in bumps), 0.0)
        return curvature * (u * u + v * v) + bent + 3.0 * u - v

    result = total_differential(f, at, step)
    assert result.order == pytest.approx(2.0, abs=0.05)
    expected = curvature * (step[0] ** 2 + step[1] ** 2)
    assert result.remainder == pytest.approx(expected, rel=0.05)
    assert result.actual == pytest.approx(result.predicted + result.remainder, abs=1e-13 * (1 + abs(result.actual)))


@pytest.mark.parametrize("f", [tanh, sigmoid, softplus, lambda u: u.exp(), lambda u: 1.0 / u, lambda u: u**3])
@pytest.mark.parametrize("at", [0.7, 1.3, 2.1])
def test_every_smooth_row_has_order_two(f, at):
    # The third derivative is at most 20 times the second here: a step of 1e-3 changes slopes by less than 0.03
    assert total_differential(f, (at,), (1e-3,)).order == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("f", [absolute, relu, lambda u: u.leaky_relu()])
@pytest.mark.parametrize("step", [0.5, -0.5, 1e-6])
def test_at_a_kink_the_order_is_one(f, step):
    result = total_differential(f, (0.0,), (step,))
    if result.remainder == 0.0:  # the side whose slope is the convention
        assert f is not absolute
        assert math.isnan(result.order)
    else:
        assert result.order == 1.0  # halving the step halves the remainder, exactly


def test_a_wrong_local_derivative_shows_as_order_one():
    wrong = primitive("wrong", lambda a: a * a, lambda y, a: 2.1 * a, formula="a * a")
    try:
        assert total_differential(wrong, (1.5,), (1e-3,)).order == pytest.approx(1.0, abs=0.05)
    finally:
        del TABLE["wrong"]


def test_the_document_s_example_in_full():
    result = total_differential(lambda u, v: u * v, at=(3.0, 2.0), step=(0.5, -0.25))
    assert [(t.name, t.partial, t.step, t.contribution) for t in result.terms] == [
        ("u", 2.0, 0.5, 1.0),
        ("v", 3.0, -0.25, -0.75),
    ]
    assert (result.predicted, result.actual, result.remainder) == (0.25, 0.125, -0.125)
    assert result.order == 2.0
    assert str(result).splitlines() == [
        "total differential",
        "  ∂f/∂u · du = 2 · 0.5 = 1",
        "  ∂f/∂v · dv = 3 · -0.25 = -0.75",
        "  predicted 0.25, actual 0.125, remainder -0.125 of order 2",
    ]


def test_an_argument_that_f_does_not_use_adds_nothing():
    result = total_differential(lambda u, v: u * 2.0, (1.0, 1.0), (0.5, 0.5))
    assert [term.contribution for term in result.terms] == [1.0, 0.0]


def test_a_step_of_nothing_changes_nothing():
    result = total_differential(lambda u: u * u, (3.0,), (0.0,))
    assert (result.predicted, result.actual, result.remainder) == (0.0, 0.0, 0.0)
    assert math.isnan(result.order)


def product(u, v):
    return u * v


class Model:
    def product(self, u, v):
        return u * v

    def call(self, u, *rest):
        return u * rest[0]


@pytest.mark.parametrize(
    ("f", "names"),
    [
        (product, ["u", "v"]),
        (lambda p, q: p * q, ["p", "q"]),
        (lambda *x: x[0] * x[1], ["x1", "x2"]),
        (Model().product, ["u", "v"]),
        (Model().call, ["u", "x2"]),
        (lambda u, v, scale=2.0: u * v * scale, ["u", "v"]),
        (functools.partial(lambda scale, u, v: u * v * scale, 2.0), ["u", "v"]),
    ],
    ids=["function", "lambda", "star", "method", "method and star", "default", "partial"],
)
def test_terms_bear_the_names_of_the_arguments(f, names):
    found = [term.name for term in total_differential(f, (1.0, 2.0), (0.1, 0.1)).terms]
    assert "self" not in found
    assert found in (names, ["x1", "x2"])  # numbered names are honest where none can be had


@pytest.mark.parametrize("f", [product, lambda p, q: p * q, lambda u, v, scale=2.0: u * v * scale])
def test_plain_arguments_keep_their_names(f):
    names = list(f.__code__.co_varnames[:2])
    assert [term.name for term in total_differential(f, (1.0, 2.0), (0.1, 0.1)).terms] == names


@pytest.mark.parametrize(
    ("at", "step"),
    [((1.0, 2.0), (0.1,)), ((1.0,), (0.1, 0.1)), (1.0, 0.1), ((1.0,), 0.1), (np.ones(2), (0.1, 0.1))],
)
def test_at_and_step_must_match(at, step):
    with pytest.raises(ValueError, match="at and step are tuples of one number per argument"):
        total_differential(product, at, step)


@pytest.mark.parametrize(("at", "step"), [(("1", 2.0), (0.1, 0.1)), ((1.0, 2.0), (0.1, 1j)), ((None, 1.0), (0.1, 0.1))])
def test_at_and_step_hold_numbers(at, step):
    with pytest.raises(TypeError, match=r"total_differential\((at|step)\) takes a real number"):
        total_differential(product, at, step)


@pytest.mark.parametrize("result", [2.0, None, [1.0]])
def test_f_must_return_a_node(result):
    with pytest.raises(TypeError, match="f must return a node"):
        total_differential(lambda u: result, (1.0,), (0.1,))


def test_f_with_the_wrong_number_of_arguments_raises():
    with pytest.raises(TypeError, match="argument"):
        total_differential(product, (1.0,), (0.1,))


def test_a_constant_has_no_order():
    result = total_differential(lambda u: stop_gradient(u) * 0.0, (1.0,), (0.1,))
    assert (result.predicted, result.remainder) == (0.0, 0.0)
    assert math.isnan(result.order)


def test_a_detached_part_is_seen_as_order_one():
    assert total_differential(lambda u: u * stop_gradient(u), (1.0,), (1e-3,)).order == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("f", "at", "step"),
    [
        (lambda u: 1.0 / u, (0.0,), (1.0,)),
        (lambda u: 1.0 / (u - 0.5), (0.0,), (1.0,)),  # finite at the step, infinite at half of it
        (lambda u, v: log(u) - log(v), (0.0, 0.0), (1.0, 1.0)),  # inf - inf among the partials
        (log, (-1.0,), (0.5,)),
        (lambda u: u * 1.0, (math.inf,), (1.0,)),
        (lambda u: u * 1.0, (1.0,), (math.nan,)),
        (lambda u: u.exp(), (700.0,), (100.0,)),
    ],
)
def test_corners_do_not_break_a_total_differential(f, at, step):
    with np.errstate(all="ignore"):
        result = total_differential(f, at, step)
        assert str(result).startswith("total differential\n")
        assert isinstance(result.order, float)


def test_a_long_receipt_shows_both_ends_and_sums_all():
    w = Value(0.5, "w")
    total = w * 1.0
    for k in range(2, 1001):
        total = total + w * float(k)
    receipt = total_derivative(total, w)
    assert len(receipt.terms) == 1000
    assert receipt.total == 500500.0
    text = str(receipt)
    assert len(text.splitlines()) == 2 + 1 + 20 + 1 + 1
    assert "(980 more)" in text
    assert "500500" in text
    assert max(map(len, text.splitlines())) < 1000
    assert receipt.latex().count(r"\cdots") == 2


def test_a_zero_of_a_receipt_has_no_sign():
    x = Value(-1.0, "x")
    receipt = total_derivative(-x.relu() * 1.0, x)
    assert math.copysign(1.0, receipt.terms[0].contribution) == -1.0
    assert "-0" not in str(receipt)
    assert "-0" not in receipt.latex()
