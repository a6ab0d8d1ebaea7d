"""Pulls in symbols: every printed formula, evaluated on random numbers, is what the edge does.

The reader of formulas knows NumPy and the words in which pulls are told; it shares nothing with the rules.
"""

import re

import numpy as np
import pytest

from autodiff import Graph, Tensor, custom_vjp, linear_algebra, operations
from autodiff.notation import Expression
from autodiff.operations import Operation
from autodiff.primitives import Primitive
from autodiff.pulls import pull_formula

rng = np.random.default_rng(5)


def T(name, *shape):
    return Tensor(rng.normal(size=shape) + 0.1, name=name)


def definite(name, n):
    """A symmetric matrix with eigenvalues well above 0."""
    a = rng.normal(size=(n, n))
    return Tensor(a @ a.T + n * np.eye(n), name=name)


# ---------------------------------------------------------------- every formula is what the edge does
CONDITION = rng.normal(size=(5, 3)) > 0
CASES = {
    "matrix matrix": lambda: T("A", 5, 3) @ T("B", 3, 2),
    "matrix vector": lambda: T("A", 5, 3) @ T("v", 3),
    "vector matrix": lambda: T("v", 3) @ T("B", 3, 2),
    "vector vector": lambda: T("u", 3) @ T("v", 3),
    "stack stack": lambda: T("A", 4, 5, 3) @ T("B", 4, 3, 2),
    "stack matrix": lambda: T("A", 4, 5, 3) @ T("B", 3, 2),
    "matrix stack": lambda: T("A", 5, 3) @ T("B", 4, 3, 2),
    "stack of one": lambda: T("A", 1, 5, 3) @ T("B", 4, 3, 2),
    "stack vector": lambda: T("A", 4, 5, 3) @ T("v", 3),
    "vector stack": lambda: T("v", 3) @ T("B", 4, 3, 2),
    "two axes of stacks, vector": lambda: T("A", 2, 4, 5, 3) @ T("v", 3),
    "square": lambda: T("A", 3, 3) @ T("B", 3, 3),
    "add": lambda: T("A", 5, 3) + T("b", 3),
    "sub of a column": lambda: T("A", 5, 3) - T("b", 5, 1),
    "mul": lambda: T("A", 5, 3) * T("b", 3),
    "mul of a number": lambda: T("A", 5, 3) * T("b"),
    "div": lambda: T("A", 5, 3) / (T("b", 1, 3) + 5.0),
    "mul twice": lambda: (lambda a: a * a)(T("A", 3)),
    "tanh": lambda: np.tanh(T("A", 5, 3)),
    "sum": lambda: np.sum(T("A", 5, 3)),
    "sum over axis": lambda: np.sum(T("A", 5, 3), axis=0),
    "sum, kept": lambda: np.sum(T("A", 5, 3), axis=1, keepdims=True),
    "sum over axes": lambda: np.sum(T("A", 5, 3, 2), axis=(0, 2)),
    "mean": lambda: np.mean(T("A", 5, 3)),
    "mean over axis": lambda: np.mean(T("A", 5, 3), axis=1),
    "transpose": lambda: T("A", 5, 3).T,
    "axes": lambda: np.transpose(T("A", 5, 3, 2), (2, 0, 1)),
    "reshape": lambda: T("A", 5, 3).reshape(15),
    "slice": lambda: T("A", 5, 3)[1:3, ::-1],
    "element": lambda: T("A", 5, 3)[2, 1],
    "integers": lambda: T("A", 5, 3)[[0, 0, 2]],
    "mask": lambda: T("A", 5, 3)[[True, False, True, True, False]],
    "concatenate": lambda: np.concatenate([T("A", 5, 3), T("B", 2, 3)]),
    "concatenate along the second axis": lambda: np.concatenate([T("A", 5, 3), T("B", 5, 1)], axis=1),
    "stacked": lambda: np.stack([T("A", 5), T("B", 5)]),
    "einsum": lambda: np.einsum("ij,kj->ik", T("A", 5, 3), T("B", 4, 3)),
    "einsum of a diagonal": lambda: np.einsum("ii->i", T("A", 3, 3)),
    "einsum of a sum": lambda: np.einsum("ij->", T("A", 3, 2)),
    "einsum of three": lambda: np.einsum("i,ij,j->", T("u", 3), T("A", 3, 2), T("v", 2)),
    "where": lambda: np.where(CONDITION, T("A", 5, 3), T("b", 3)),
    "where, a number": lambda: np.where(CONDITION, T("A", 5, 3), 0.0),
    "max": lambda: np.max(T("A", 5, 3), axis=1),
    "max of ties": lambda: np.max(Tensor([1.0, 2.0, 2.0], name="A")),
    "min": lambda: np.min(T("A", 5, 3), axis=(0, 1), keepdims=True),
    "prod": lambda: np.prod(T("A", 2, 3), axis=0),
    "cumsum": lambda: np.cumsum(T("A", 5, 3), axis=0),
    "cumprod": lambda: np.cumprod(T("A", 5)),
    "broadcast_to": lambda: np.broadcast_to(T("A", 3), (5, 3)),
    "astype": lambda: T("A", 5, 3).astype(np.float32),
    "scatter": lambda: operations.scattered(T("A", 2), slice(1, 3), (5,)),
    "inv": lambda: np.linalg.inv(definite("A", 3)),
    "solve": lambda: np.linalg.solve(definite("A", 3), T("B", 3, 2)),
    "solve for a vector": lambda: np.linalg.solve(definite("A", 3), T("b", 3)),
    "det": lambda: np.linalg.det(definite("A", 3)),
    "slogdet": lambda: np.linalg.slogdet(definite("A", 3))[1],
    "cholesky": lambda: np.linalg.cholesky(definite("A", 3)),
    "eigh": lambda: np.linalg.eigh(definite("A", 3))[1],
    "eigenvalues": lambda: np.linalg.eigh(definite("A", 3))[0],
    "eigvalsh": lambda: np.linalg.eigvalsh(definite("A", 3)),
    "svdvals": lambda: np.linalg.svd(T("A", 4, 3), compute_uv=False),
    "pinv": lambda: np.linalg.pinv(T("A", 4, 3)),
    "lstsq": lambda: np.linalg.lstsq(T("A", 4, 3), T("B", 4, 2), rcond=None)[0],
    "qr": lambda: np.linalg.qr(T("A", 4, 3))[1],
    "svd": lambda: np.linalg.svd(T("A", 4, 3), full_matrices=False)[1],
    "norm": lambda: np.linalg.norm(T("A", 3)),
    "trace": lambda: np.trace(T("A", 3, 3)),
    "roll": lambda: np.roll(T("A", 4), 1),
    "pad": lambda: np.pad(T("A", 4), 1),
    "softmax": lambda: (lambda e: e / np.sum(e, axis=1, keepdims=True))(np.exp(T("A", 4, 3))),
}
IN_WORDS = "pulled back through"  # the one phrase that claims nothing


def summed(x, axes):
    return np.sum(x, axis=tuple(int(axis) for axis in re.findall(r"\d+", axes)), keepdims=True)


def key_of(text):
    return eval(f"KEYS[{text}]", {"KEYS": type("", (), {"__getitem__": lambda self, key: key})()})


def spread(x, a, axis):
    """x, which a reduction of a along these axes has, over the whole of a."""
    axes = tuple(map(int, re.findall(r"\d+", axis))) or tuple(range(a.ndim))
    return np.broadcast_to(np.reshape(x, [1 if i in axes else n for i, n in enumerate(a.shape)]), a.shape), axes


def extremal(choose, x, a, axis):
    g, axes = spread(x, a, axis)
    chosen = a == choose(a, axis=axes, keepdims=True)
    return g * chosen / chosen.sum(axis=axes, keepdims=True)


def others(x, a, axis):
    g, axes = spread(x, a, axis)
    return g * np.prod(a, axis=axes, keepdims=True) / a


def put(x, key, local, add):
    found = np.zeros(local.parent.shape)
    place = local.child.parameters["key"] if re.search("mask|indices", key) else key_of(key)
    if add:
        np.add.at(found, place, x)
    else:
        found[place] = x
    return found


# words -> what they say: of the upstream, the first operand, the pattern's groups and the local map
READINGS = [
    (r"<0> summed over ax[ie]s (.*)", lambda x, a, m, local: summed(x, m[1])),
    (r"<0> broadcast to (.*)", lambda x, a, m, local: np.broadcast_to(x, tuple(map(int, m[1].split("×"))))),
    (r"<0> put back at \[(.*)\], zeros elsewhere", lambda x, a, m, local: put(x, m[1], local, False)),
    (r"<0> added up at \[(.*)\], zeros elsewhere", lambda x, a, m, local: put(x, m[1], local, True)),
    (
        "<0> where <1> is (largest|smallest)(.*), shared by ties, zeros elsewhere",
        lambda x, a, m, local: extremal({"largest": np.max, "smallest": np.min}[m[1]], x, a, m[2]),
    ),
    (r"<0> times the product of all other elements of <1>(.*)", lambda x, a, m, local: others(x, a, m[1])),
    (
        r"<0> where the condition (holds|does not hold), zeros elsewhere(?:, summed over ax[ie]s (.*))?",
        lambda x, a, m, local: summed(
            np.where(local.child.parameters["condition"] == (m[1] == "holds"), x, 0.0), m[2] or ""
        ) if m[2] else np.where(local.child.parameters["condition"] == (m[1] == "holds"), x, 0.0),
    ),
]  # fmt: skip
NAMES = {name: getattr(np, name) for name in ("outer", "einsum", "transpose", "cumsum", "concatenate", "astype", "sum")}
NAMES |= {name: getattr(np.linalg, name) for name in ("inv", "solve", "det", "pinv")}


def array_of(expression, data, local):
    """The array that a formula stands for; data: {name: array}."""
    head = expression.head
    if isinstance(head, str):
        return data[head]
    if isinstance(head, float):
        return np.float64(head)
    operands = [np.asarray(array_of(operand, data, local)) for operand in expression.operands]
    if isinstance(head, Primitive):
        return head(*operands) if any(x.ndim for x in operands) else head(*map(float, operands))
    for pattern, reading in READINGS:
        match = re.fullmatch(pattern, head.text)
        if match:
            return reading(operands[0], operands[1] if len(operands) > 1 else None, match, local)
    source = head.text.replace("·", "*").replace(".mT", ".swapaxes(-1, -2)")
    source = re.sub(r"<(\d+)>", r"x\1", source)
    names = {f"x{number}": x for number, x in enumerate(operands)}
    return eval(source, {"__builtins__": {}}, NAMES | names | {"float64": np.float64})


NAMES["astype"] = lambda x, dtype: x.astype(dtype)


def named(output):
    """The nodes of a graph, each with a name of its own."""
    graph = Graph(output)
    for number, node in enumerate(graph.nodes):
        node.name = node.name or f"n{number}"
    return graph


def formulas_of(make):
    """[(edge, the formula of its pull)] of all edges of a case."""
    graph = named(make())
    return [(edge, pull_formula(edge.local, Expression("G"), graph.symbol)) for edge in graph.edges]


def claims_hold(edge, pull):
    """Whether the formula, evaluated on random numbers, is what the edge does; None where it claims nothing."""
    if IN_WORDS in str(pull.formula):
        return None
    data = {node.name: node.data for node in (edge.child, *edge.child.parents)}
    data["G"] = rng.normal(size=edge.child.shape)
    found = array_of(pull.formula, data, edge.local)
    expected = edge.local.pull(data["G"])
    # A sum over repeated axes may keep them as 1; float32 has 7 digits
    tolerance = 1e-6 if np.float32 in (edge.child.dtype, edge.parent.dtype) else 1e-9
    same_size = np.size(found) == expected.size or np.ndim(found) == 0
    found = np.reshape(found, expected.shape) if np.size(found) == expected.size else found
    return same_size and np.allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_the_formula_of_a_pull_is_what_the_edge_does(name):
    for edge, pull in formulas_of(CASES[name]):
        assert claims_hold(edge, pull) is not False, f"{edge.child.op.name}, operand {edge.position}: {pull}"
        assert pull.formula.latex().count("{") == pull.formula.latex().count("}")


def test_every_structural_operation_has_a_case_and_most_have_a_formula():
    told: dict[str, set[bool]] = {}
    for make in CASES.values():
        for edge, pull in formulas_of(make):
            told.setdefault(edge.child.op.name, set()).add(IN_WORDS not in str(pull.formula))
    every = {
        x.name for module in (operations, linear_algebra) for x in vars(module).values() if isinstance(x, Operation)
    }
    assert every <= set(told), "an operation has no case"
    decompositions = {"cholesky", "eigh", "eigvalsh", "qr", "svd", "svdvals", "pinv"}
    assert {name for name in every if told[name] == {False}} <= {"cumprod"} | decompositions


def test_a_wrong_formula_is_noticed(monkeypatch):
    found = formulas_of(CASES["matrix matrix"])
    assert all(claims_hold(*case) for case in found)
    monkeypatch.setattr(operations.matmul, "pulls", [rule_off_by_a_sign(rule) for rule in operations.matmul.pulls])
    assert not any(claims_hold(*case) for case in found)  # the formulas are those of the rules before


def rule_off_by_a_sign(rule):
    return lambda *arguments: -rule(*arguments)


@pytest.mark.parametrize(
    ("name", "position", "wrong"),
    [
        ("square", 0, lambda A, B, G: G @ B),  # the transpose forgotten
        ("square", 1, lambda A, B, G: G @ A),
        ("square", 1, lambda A, B, G: A @ G),
    ],
)
def test_the_random_numbers_tell_a_matrix_from_its_transpose(name, position, wrong):
    edge, _ = formulas_of(CASES[name])[position]
    a, b = (node.data for node in edge.child.parents)
    g = rng.normal(size=edge.child.shape)
    assert not np.allclose(wrong(a, b, g), edge.local.pull(g))


def test_a_rule_of_the_user_is_told_in_words_not_guessed():
    triple = custom_vjp(lambda x: x * 3.0)
    triple.defvjp(lambda x: (x * 3.0, None), lambda residuals, g: (g * 3.0,))
    x = T("x", 3)
    [(_, local)] = triple(x).edges()
    assert IN_WORDS in str(pull_formula(local, Expression("G"), lambda node: Expression(node.name or "y")))


def test_an_operation_that_is_only_called_max_is_not_taken_for_it():
    called_max = Operation("max", lambda a: a * 3.0, [lambda g, y, a: g * 3.0], linear="each")
    [(_, local)] = Tensor.apply_operation(called_max, (T("x", 3),), {}).edges()
    assert str(pull_formula(local, Expression("G"), lambda node: Expression(node.name or "y"))) == "G · 3: 3 → 3"
