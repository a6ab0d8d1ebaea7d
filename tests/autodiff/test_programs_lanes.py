"""What repeats in a graph is found, whoever wrote it and in whatever order, and runs as arrays."""

import random
from itertools import pairwise

import numpy as np
import pytest

import autodiff as ad
from autodiff.programs import labels, record, replay
from autodiff.programs.instructions import Builder
from autodiff.programs.labels import SUM
from autodiff.programs.lanes import grouped
from autodiff.programs.raising import Raising
from autodiff.programs.recording import taped
from autodiff.programs.sums import Sums


def eager(output, inputs):
    for node in inputs:
        node.grad = ad.NO_GRAD
    output.backward()
    return output.data, [node.grad for node in inputs]


def checked(output, inputs, tolerance=1e-12):
    """The program of NumPy, after its value and gradient were held against the graph's."""
    value, gradient = eager(output, inputs)
    program = record(output, inputs, "numpy")
    found = program.value_and_grad(*[node.data for node in inputs])
    np.testing.assert_allclose(found[0], value, rtol=tolerance)
    np.testing.assert_allclose(found[1], gradient, rtol=tolerance, atol=tolerance)
    assert Raising.if_it_repeats(program.tape) is not None
    return program


def kinds(program):
    builder, slot = program._builder(), program._slot("value")
    return [builder.kinds[i] for i in builder.needed([slot])]


def network(parameters, sizes, x, activation=ad.relu):
    rest, h = iter(parameters), list(x)
    for n_in, n_out in pairwise(sizes):
        z = []
        for _ in range(n_out):
            weights = [next(rest) for _ in range(n_in)]
            z.append(sum((w * unit for w, unit in zip(weights, h, strict=True)), next(rest)))
        h = [activation(unit) for unit in z] if n_out > 1 else z
    return h[0]


def parameters(count, seed=1):
    generator = random.Random(seed)
    return [ad.Value(generator.gauss(0.0, 1.0)) for _ in range(count)]


def test_a_network_of_scalars_becomes_products_of_matrices():
    generator, p = random.Random(0), parameters(31)
    losses = []
    for _ in range(20):
        x, y = [generator.gauss(0, 1), generator.gauss(0, 1)], float(generator.random() < 0.5)
        yhat = ad.sigmoid(network(p, (2, 4, 3, 1), x))
        losses.append(-(y * ad.log(yhat) + (1.0 - y) * ad.log(1.0 - yhat)))
    program = checked(sum(losses) / 20.0, p)
    assert program.size < 30
    assert kinds(program).count("matmul") == 5  # three layers, two sums of targets times logarithms


def odd_formula(w, x):
    """A formula that nobody tuned for: parameters inside powers, quotients and hyperbolic functions."""
    inner = ad.sinh(w[0] * x[0]) / (1.5 + ad.absolute(w[1] - x[1])) + ad.arctan2(w[2], x[2] + 3.0)
    return ad.logaddexp(inner * inner, w[3] * x[0] ** 2) - ad.maximum(inner, w[0]) / (2.0 + ad.cos(x[1] * w[1]))


@pytest.mark.parametrize("order", range(4))
def test_lanes_in_a_shuffled_loop_with_a_formula_nobody_tuned_for(order):
    generator, w = random.Random(order), parameters(4)
    X = [[generator.uniform(0.1, 2.0) for _ in range(3)] for _ in range(50)]
    losses = [odd_formula(w, x) for x in X]
    generator.shuffle(losses)
    total = losses[0]
    for loss in losses[1:]:  # summed up by chance as one likes
        total = total + loss if generator.random() < 0.5 else loss + total
    program = checked(total, w, 1e-10)
    assert program.size < 30
    assert len(program) > 50 * 15


def test_sums_in_every_order_are_sums_over_lanes():
    w = parameters(2)
    terms = [ad.tanh(w[0] * c) * w[1] for c in np.linspace(0.1, 2.0, 32).tolist()]

    def tree(terms):
        return terms[0] if len(terms) == 1 else tree(terms[: len(terms) // 2]) + tree(terms[len(terms) // 2 :])

    down = w[0]
    for term in terms:
        down = down - term
    for total in (sum(terms), tree(terms), np.sum(ad.scalars(terms)), np.mean(ad.scalars(terms)), down):
        assert checked(total, w).size < 8


def test_the_scalar_part_of_amixed_graph_runs_in_the_same_program():
    generator, p = random.Random(0), parameters(337)
    losses = []
    for _ in range(10):
        x, y = [generator.gauss(0, 1), generator.gauss(0, 1)], generator.choice([-1, 1])
        losses.append(ad.relu(1 + -y * network(p, (2, 16, 16, 1), x)))
    output = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(w * w for w in p)
    assert checked(output, p).size < 30


def test_several_widths_in_one_graph():
    w = parameters(3)
    wide = sum(ad.exp(w[0] * c) for c in np.linspace(0, 1, 20).tolist())
    narrow = sum(ad.sin(w[1] * c) for c in np.linspace(0, 1, 5).tolist())
    single = ad.log(w[2] ** 2 + wide)
    program = checked(single * narrow + wide, w)
    widths = {shape[1] for shape in program._builder().shapes}
    assert {1, 5, 20} <= widths


def test_lanes_that_feed_one_another():
    """A batch normalised by its own mean: every lane depends on all."""
    w = parameters(2)
    z = [ad.tanh(w[0] * c) for c in np.linspace(-1, 1, 12).tolist()]
    mean = sum(z) / 12.0
    output = sum(((a - mean) * w[1]) ** 2 for a in z)
    assert checked(output, w).size < 20


def test_pairs_of_lanes():
    """Every sample against its neighbour: elements are picked from other places of the same vector."""
    w = parameters(2)
    z = [ad.exp(w[0] * c) for c in np.linspace(-1, 1, 12).tolist()]
    checked(sum((a - b) ** 2 * w[1] for a, b in zip(z, z[1:] + z[:1], strict=True)), w)
    checked(sum(a * b for i, a in enumerate(z) for b in z[:i]), w)


def test_a_recurrent_network():
    generator, w = random.Random(2), parameters(3)
    losses = []
    for _ in range(15):
        h = w[2]
        for _ in range(4):
            h = ad.tanh(w[0] * h + w[1] * generator.gauss(0, 1))
        losses.append(h * h)
    assert checked(sum(losses), w).size < 40


def test_softmax_over_classes():
    generator, p = random.Random(2), parameters(9)
    W = np.array(p, dtype=object).reshape(3, 3).view(ad.Scalars)
    X = np.array([[generator.gauss(0, 1) for _ in range(3)] for _ in range(10)])
    scores = np.exp(X @ W)
    output = np.sum(-np.log(scores[np.arange(10), np.arange(10) % 3] / np.sum(scores, axis=1)))
    checked(output, p, 1e-10)


def test_equal_samples_and_equal_data():
    w = parameters(3)
    X = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]] * 5
    losses = [ad.softplus(w[0] * a + w[1] * b + w[2]) for a, b in X]
    assert checked(sum(losses), w).size < 12


def test_terms_used_twice_count_twice():
    w = parameters(2)
    z = [ad.exp(w[0] * c) for c in (0.1, 0.2, 0.3)]
    checked(z[0] + z[1] + z[1] + z[1] + w[1], w)
    x = parameters(1)[0]
    assert record(x - x - x - x, [x], "numpy")(2.0) == -4.0


def test_a_graph_without_repetition_runs_one_by_one():
    generator, w = random.Random(7), parameters(5)
    rows = [ad.exp, ad.sin, ad.tanh, ad.sqrt, ad.log1p, ad.arctan, ad.cosh, ad.erf]
    for k in range(40):
        a, b = generator.sample(w, 2)
        w.append(ad.tanh(rows[k % 8](ad.absolute(a) + 0.1) * (b + float(k)) / (a * a + 1.0)))
    assert record(w[-1] + w[-2], w[:5]).back_end == "python"


def test_many_inputs_and_few_operations():
    x = [ad.Value(1.0) for _ in range(700)]
    assert record(x[3], x).value_and_grad(*[2.0] * 700)[0] == 2.0
    assert record(x[3] * x[4] + x[5], x).value_and_grad(*[2.0] * 700)[0] == 6.0


def test_groups_of_a_small_graph():
    """z_j = b_j + sum_i w_ji x_i for two units and three samples, spelled out."""
    b, w = ad.scalars([0.1, 0.2], "b"), ad.scalars([[1.0, 2.0], [3.0, 4.0]], "w")
    X = [[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]]
    units = [ad.tanh(b[j] + w[j, 0] * x[0] + w[j, 1] * x[1]) for x in X for j in range(2)]
    tape = taped([sum(units[1:], units[0])], [*b, *w.flat])
    groups, tape, _ = grouped(tape)
    found = [("sum" if g.code == SUM else getattr(tape.rows[g.code], "name", "input"), g.members.shape) for g in groups]
    assert found == [("input", (6, 1)), ("mul", (4, 3)), ("sum", (2, 3)), ("tanh", (2, 3)), ("sum", (1, 1))]


def test_numbers_of_lanes_that_are_alike_are_one_instruction():
    builder = Builder()
    assert builder.kinds[builder.data(np.full((2, 3), 5.0))] == "number"
    assert builder.shapes[builder.data(np.array([[1.0, 1.0], [2.0, 2.0]]))] == (2, 1)
    assert builder.shapes[builder.data(np.array([[1.0, 2.0], [1.0, 2.0]]))] == (1, 2)
    zeros = builder.data(np.array([[0.0, -0.0]]))
    assert builder.kinds[zeros] == "data"
    nans = builder.data(np.array([[np.nan, np.nan]]))
    assert builder.kinds[nans] == "number"


def labelled(output, inputs):
    tape = taped([output], inputs)
    return labels.labels_of(tape, Sums(tape), False)


@pytest.mark.parametrize("seed", range(8))
def test_labels_layer_by_layer_are_those_of_one_pass(seed, monkeypatch):
    generator, w = random.Random(seed), parameters(4, seed)
    nodes = list(w)
    for _ in range(150):
        a, b = generator.choice(nodes[-20:]), generator.choice(nodes)
        data = generator.random()
        made = [a + b, a * b, a - b, a * data, ad.tanh(a) - data, -a, ad.sigmoid(-a), ad.Value(data) * a, data - a * b]
        nodes.append(generator.choice([*made, -a + b + data]))
        nodes[-1] = ad.tanh(nodes[-1])
    losses = [odd_formula(w, [generator.random() for _ in range(3)]) for _ in range(5)]
    output = sum(nodes) - sum(losses) - nodes[-1] * losses[0]
    by_dict = labelled(output, w)  # too few for layers
    monkeypatch.setattr(labels, "PER_LAYER", 0)
    by_layers = labelled(output, w)
    assert by_dict[1] == by_layers[1]
    np.testing.assert_array_equal(by_dict[0], by_layers[0])


def test_a_collision_of_hashes_is_seen(monkeypatch):
    w = parameters(2)
    output = sum(ad.tanh(w[0] * c) + ad.exp(w[1] * c) for c in np.linspace(0.1, 1.0, 10).tolist())
    monkeypatch.setattr(labels, "PER_LAYER", 0)
    expected = labelled(output, w)[0]
    called = []

    def hashed(x):  # everything collides
        called.append(len(x))
        return x * np.uint64(0) + np.uint64(7)

    monkeypatch.setattr(labels, "mixed", hashed)
    np.testing.assert_array_equal(labelled(output, w)[0], expected)
    assert called


def test_the_listing_tells_rows_and_elements_apart():
    def loss(p, x, y):
        h = ad.tanh(p[0] * x[0] + p[1] * x[1] + p[2] * x[2])
        return (h * p[3] - y) ** 2 + (x[0] - x[1]) * p[0]

    over = replay(loss, over=(np.ones((5, 3)), np.ones(5)))
    over(np.arange(4) * 0.1)
    lines = [line.partition(" = ")[2] for line in str(over.programs[0]).splitlines() if " = " in line]
    assert len(set(lines)) == len(lines)
    assert {"batch0[0]", "batch0[1]", "batch0[3]", "p[0], p[1], p[2]"} <= set(lines)
