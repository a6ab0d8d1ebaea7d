"""micrograd's users feel at home: programs written for it run with another import line, and give its numbers.

The numbers were printed by micrograd 0.1.0 and are frozen here. Source of the programs' form: micrograd's README.
"""

import random

import pytest

from autodiff import Graph, Value
from nn import MLP


def test_one_variable():
    x = Value(-4.0)
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    y = h + q + q * x
    y.backward()
    assert (y.data, x.grad) == (-20.0, 46.0)


def test_two_variables_and_more_operations():
    a, b = Value(-4.0), Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert g.data == pytest.approx(24.70408163265306, rel=1e-15)
    assert a.grad == pytest.approx(138.83381924198252, rel=1e-14)
    assert b.grad == pytest.approx(645.5772594752186, rel=1e-14)


def test_a_training_loop_as_in_the_demo():
    random.seed(1337)
    model = MLP(2, [4, 4, 1])
    points = [((i * 7 % 11) / 5 - 1, (i * 5 % 13) / 6 - 1) for i in range(20)]
    targets = [1 if x * x + y > 0.3 else -1 for x, y in points]
    losses = []
    for k in range(8):
        inputs = [list(map(Value, point)) for point in points]
        scores = list(map(model, inputs))
        hinge = [(1 + -yi * scorei).relu() for yi, scorei in zip(targets, scores, strict=True)]
        data_loss = sum(hinge) * (1.0 / len(hinge))
        reg_loss = 1e-4 * sum(p * p for p in model.parameters())
        total_loss = data_loss + reg_loss
        accuracy = [(yi > 0) == (scorei.data > 0) for yi, scorei in zip(targets, scores, strict=True)]
        model.zero_grad()
        total_loss.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * 0.1 * p.grad
        losses.append(total_loss.data)
    frozen = [
        0.7218292693308683, 0.6659168733207912, 0.6508066489306777, 0.6348407906640507,
        0.6169228603064715, 0.598229102285666, 0.5787012085349897, 0.5600757798158607,
    ]  # fmt: skip
    assert sum(accuracy) == 14
    assert losses == pytest.approx(frozen, rel=1e-12)  # 8 steps of some 2000 roundings


def test_a_picture_by_parents_and_operations():
    """What micrograd's pictures read from _prev and _op, a Graph has by name."""
    a, b = Value(2.0), Value(-3.0)
    d = a * b + a
    graph = Graph(d)
    assert len(graph.nodes) == 4
    assert {(id(e.parent), id(e.child)) for e in graph.edges} >= {(id(a), id(d))}
    assert [graph.operation(node) for node in graph.nodes if node.op] == ["·", "+"]
    assert "digraph" in graph.to_dot()
