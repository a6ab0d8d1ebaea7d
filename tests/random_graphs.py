"""Random graphs over every row of the table, and two oracles on them that share nothing with autodiff.graph.

A graph has fan-out, repeated operands (x * x), constants on either side, interior names and dead branches. Its
numbers stay finite: an operation that would leave them, or whose local derivative would, becomes a tanh.
"""

import operator
import random
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from autodiff import TABLE, Value

ROWS = [TABLE[name] for name in sorted(TABLE)]
UNARY = [row for row in ROWS if row.arity == 1]
BINARY = [row for row in ROWS if row.arity == 2]
JOINS = [TABLE[name] for name in ("add", "add", "mul", "sub")]
LARGEST = 1e3  # of data and local derivatives: a product of 12 of them is far from overflow
NAMES = "xyzw"
# Of few binary digits, so that a formula prints every constant in full
CONSTANTS = [-4.0, -2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0]
EIGHTHS = st.integers(-24, 24).map(lambda eighths: eighths / 8)


@dataclass
class RandomGraph:
    leaves: list[Value]
    nodes: list[Value]  # all that was made, dead branches included; leaves first
    output: Value

    def __repr__(self):  # what Hypothesis prints of a failing example
        number = {node: f"n{place}" for place, node in enumerate(self.nodes)}
        lines = [
            f"{number[node]} = "
            + (repr(node.data) if node.op is None else f"{node.op.name}({', '.join(names(node, number))})")
            + (f"  # named {node.name}" if node.name else "")
            for node in self.nodes
        ]
        return "\n".join(["", *lines, f"output {number[self.output]}"])


def names(node, number):
    return [number[operand] if isinstance(operand, Value) else repr(operand) for operand in node.operands]


def applied(row, *operands):
    """row(*operands), or the tanh of an operand where that is not harmless."""
    with np.errstate(all="ignore"):
        node = row(*operands)
        numbers = [node.data, *(local for _, local in node.edges())]
    # A tie of `exceeds` is 1/2, which its printed form [a > b] does not say
    tie = row.name == "exceeds" and node.data == 0.5
    if not tie and all(abs(number) <= LARGEST for number in numbers):  # False for nan
        return node
    return TABLE["tanh"](next(operand for operand in operands if isinstance(operand, Value)))


def build(seed, operations, name_interior):
    """The graph of a seed: drawn by a generator of its own, for Hypothesis would draw mostly chains of two."""
    draw = random.Random(seed)
    made = [Value(draw.randint(-24, 24) / 8, name) for name in NAMES[: draw.randint(1, len(NAMES))]]
    count = len(made)
    loose = list(made)  # what nothing was made from yet

    def add(row, *operands):
        node = applied(row, *operands)
        if name_interior and draw.random() < 0.3:
            node.name = f"n_{len(made)}"
        for parent in node.parents:
            loose[:] = [other for other in loose if other is not parent]
        made.append(node)
        loose.append(node)

    for _ in range(operations):
        row = draw.choice(UNARY if draw.random() < 0.4 else BINARY)
        a, b = (draw.choice(loose if draw.random() < 0.3 else made[-5:]) for _ in range(2))
        if row.arity == 1:
            add(row, a)
            continue
        form = draw.choice(["nodes", "nodes", "nodes", "same", "left", "right"])
        constant = draw.choice(CONSTANTS)
        add(row, *{"nodes": (a, b), "same": (a, a), "left": (constant, b), "right": (a, constant)}[form])
    while len(loose) > 1 and draw.random() < 0.9:  # else the other ends stay dead branches
        add(draw.choice(JOINS), loose[0], loose[-1])
    return RandomGraph(made[:count], made, made[-1])


def graphs(max_operations=12, name_interior=True):
    """RandomGraphs of 1 to 4 leaves named x, y, z, w, up to max_operations operations, and what joins them."""
    return st.builds(build, st.integers(0, 2**64), st.integers(1, max_operations), st.just(name_interior))


def all_paths(output, wrt):
    """[(nodes from wrt to output, local derivatives)], by recursion straight from the definition."""
    found = [([wrt], [])] if output is wrt else []
    for parent, local in output.edges():
        found += [([*nodes, output], [*locals_, local]) for nodes, locals_ in all_paths(parent, wrt)]
    return found


def magnitudes(nodes):
    """{node: sum over its paths to the last one of |product of local derivatives|}: what rounding is relative to.

    nodes: in the order they were made, so that children come after parents.
    """
    size = dict.fromkeys(nodes, 0.0)
    size[nodes[-1]] = 1.0
    for node in reversed(nodes):
        for parent, local in node.edges():
            size[parent] += size[node] * abs(local)
    return size


def ancestors(output):
    """The set of nodes the output was computed from, and itself."""
    seen, open_ends = {output}, [output]
    for node in open_ends:
        for parent in node.parents:
            if parent not in seen:
                seen.add(parent)
                open_ends.append(parent)
    return seen


def ladder(height, x):
    """A node with 2**height paths to x: height times y = y + y."""
    for _ in range(height):
        x = operator.add(x, x)
    return x


def chain(length, x):
    """A node with one path of `length` edges to x; its data and every derivative stay those of x."""
    for _ in range(length):
        x = x + 0.0
    return x
