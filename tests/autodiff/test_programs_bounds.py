"""The estimate of whether a graph repeats: it finds lanes wherever they are, and gives up where there are none."""

import random

import pytest

import autodiff as ad
from autodiff.programs.bounds import seems_to_repeat
from autodiff.programs.lanes import SHORT
from autodiff.programs.raising import Raising
from autodiff.programs.recording import taped


def formula(length, seed):
    """A formula of so many operations that nobody would write: of the parameters p and a sample x."""
    plan = random.Random(seed)
    steps = [(plan.randrange(8), plan.random(), plan.random()) for _ in range(length)]

    def f(p, x):
        nodes = [p[i] * x[i % len(x)] for i in range(len(p))]
        for kind, u, v in steps:
            a, b = nodes[-1 - int(u * min(len(nodes), 6))], nodes[int(v * len(nodes))]
            made = [
                lambda a, b: a + b, lambda a, b: a * b, lambda a, b: ad.tanh(a), lambda a, b: a * 0.7,
                lambda a, b: ad.sin(a), lambda a, b: a - b, lambda a, b: ad.exp(-a * a), lambda a, b: ad.relu(a),
            ]  # fmt: skip
            nodes.append(made[kind](a, b))
        return nodes[-1]

    return f


def total(terms):
    """Their sum, as a loop adds it up."""
    found = terms[0]
    for term in terms[1:]:
        found = found + term
    return found


def samples(length, count, seed=0):
    """A formula of that length, over so many samples."""
    generator = random.Random(seed)
    p, f = [ad.Value(generator.random()) for _ in range(4)], formula(length, length)
    return total([f(p, [generator.random() for _ in range(3)]) * 0.5 for _ in range(count)]), p


def shuffled(length, count):
    """The same, in no order: the terms are added in a tree that chance grows, and products are turned around."""
    generator = random.Random(1)
    p, f = [ad.Value(generator.random()) for _ in range(4)], formula(length, length)
    terms = [f(p, [generator.random() for _ in range(3)]) for _ in range(count)]
    terms = [term * p[0] if generator.random() < 0.5 else p[0] * term for term in terms]
    while len(terms) > 1:
        a, b = terms.pop(generator.randrange(len(terms))), terms.pop(generator.randrange(len(terms)))
        terms.append(a + b if generator.random() < 0.5 else b + a)
    return terms[0], p


def dag(operations, seed=3):
    """A random graph, in which hardly anything repeats."""
    generator = random.Random(seed)
    p = [ad.Value(generator.random()) for _ in range(50)]
    nodes = list(p)
    for _ in range(operations):
        a, b = nodes[-generator.randrange(1, 30)], generator.choice(nodes)
        nodes.append(generator.choice([a + b, a * b, ad.tanh(a), ad.exp(-a * a), a / (2.0 + b * b), ad.relu(a) - 0.3]))
    return total(nodes[-40:]), p


def chain(steps):
    """One recurrence, which goes on."""
    x, a = ad.Value(0.5), ad.Value(0.99)
    y = x
    for _ in range(steps):
        y = y * a + 0.1
    return y, [x, a]


def recurrences(steps, count):
    """A recurrence for every sample."""
    generator = random.Random(2)
    w = [ad.Value(0.3), ad.Value(0.2)]
    ends = []
    for _ in range(count):
        h = ad.Value(generator.random())
        for _ in range(steps):
            h = ad.tanh(w[0] * h + w[1] * generator.random())
        ends.append(h * h)
    return total(ends), w


def together(*graphs):
    return total([output for output, _ in graphs]), [p for _, inputs in graphs for p in inputs]


@pytest.mark.parametrize(
    "graph",
    [
        lambda: samples(20, 200),
        lambda: samples(400, 20),
        lambda: samples(3000, 4),  # longer than any window
        lambda: shuffled(40, 100),
        lambda: recurrences(30, 40),
        lambda: recurrences(60, 60),
        lambda: together(samples(20, 300), dag(2000)),
        lambda: together(dag(2000), samples(20, 300)),
        lambda: together(chain(1500), samples(20, 300)),
        lambda: together(samples(20, 150), dag(1000), chain(500), shuffled(30, 150)),
    ],
)
def test_lanes_are_found_wherever_they_are(graph):
    tape = taped(*(part if isinstance(part, list) else [part] for part in graph()))
    assert len(tape) > SHORT
    assert seems_to_repeat(tape)
    assert Raising.if_it_repeats(tape) is not None


@pytest.mark.parametrize(
    "graph",
    [
        lambda: dag(6000),
        lambda: chain(5000),
        lambda: together(samples(20, 60), dag(6000)),
        lambda: together(dag(6000), samples(20, 60)),
        lambda: together(samples(20, 60), chain(5000)),
        lambda: together(dag(3000), samples(30, 60), dag(1500, 4)),
    ],
)
def test_it_gives_up_where_less_than_half_repeats(graph):
    output, inputs = graph()
    tape = taped([output], inputs)
    assert len(tape) > SHORT
    assert not seems_to_repeat(tape)
    assert Raising.if_it_repeats(tape) is None
