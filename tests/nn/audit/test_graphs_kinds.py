"""audit_graph names what stands in the place of what: other arrays of the graph, the Jacobians that are no products."""

import numpy as np
import pytest

import autodiff
from autodiff import Tensor
from nn.audit import audit_graph
from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.places import follow, ways
from nn.audit.adjoints.probe import Probe
from nn.audit.adjoints.recorded import Recorded
from nn.audit.adjoints.region import Region
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import targets


def named(node, name):
    node.name = name
    return node


def values(output):
    """{name: numbers} of the nodes with a name."""
    return {node.name: node.data for node in autodiff.Graph(output).nodes if node.name}


# Each example: the output and the right adjoints, from the nodes' values; square shapes, so that shapes tell nothing.


def gated(r):
    x, up = r.normal(size=(4, 4)), r.normal(size=(4, 4))
    X, W, V = Tensor(x, name="x"), Tensor(r.normal(size=(4, 4)), name="W"), Tensor(r.normal(size=(4, 4)), name="V")
    p, q = named(X @ W, "p"), named(X @ V, "q")
    s = named(autodiff.sigmoid(p), "s")
    m = named(s * q, "m")
    v = values(np.sum(m * up))
    g = {"m": up, "s": up * v["q"], "q": up * v["s"]}
    g["p"] = g["s"] * v["s"] * (1 - v["s"])
    g["W"], g["V"] = x.T @ g["p"], x.T @ g["q"]
    g["x"] = g["p"] @ v["W"].T + g["q"] @ v["V"].T
    return np.sum(m * up), v, g


def softmax(r):
    up = r.normal(size=(4, 4))
    z = Tensor(r.normal(size=(4, 4)), name="z")
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    p = named(e / np.sum(e, axis=1, keepdims=True), "p")
    g = p.data * (up - (p.data * up).sum(1, keepdims=True))
    return np.sum(p * up), values(np.sum(p * up)) | {"up": up}, {"p": up, "z": g}


def log_softmax(r):
    up = r.normal(size=(4, 4))
    z = Tensor(r.normal(size=(4, 4)), name="z")
    y = named(z - np.log(np.sum(np.exp(z), axis=1, keepdims=True)), "y")
    output = np.sum(y * up)
    return output, values(output), {"y": up, "z": up - np.exp(y.data) * up.sum(1, keepdims=True)}


def normalised(r):
    up = r.normal(size=(4, 4))
    x = Tensor(r.normal(size=(4, 4)), name="x")
    d = x - np.mean(x, axis=1, keepdims=True)
    y = named(d / np.sqrt(np.mean(d * d, axis=1, keepdims=True) + 1e-5), "y")
    output = np.sum(y * up)
    r_ = 1 / np.sqrt(x.data.var(axis=1, keepdims=True) + 1e-5)
    mean = up.mean(1, keepdims=True)
    g = r_ * (up - mean - y.data * (up * y.data).mean(1, keepdims=True))
    return output, values(output) | {"r": r_}, {"y": up, "x": g}


def looped(r, steps=3):
    xs, up = r.normal(size=(steps, 4, 4)), r.normal(size=(4, 4))
    W, U, h = Tensor(r.normal(size=(4, 4)), name="W"), Tensor(r.normal(size=(4, 4)), name="U"), r.normal(size=(4, 4))
    v = {"h0": h, "xs": xs}
    for t in range(1, steps + 1):
        h = named(np.tanh(named(xs[t - 1] @ W + h @ U, f"z{t}")), f"h{t}")
    output = np.sum(h * up)
    v |= values(output)
    g = {f"h{steps}": up}
    for t in range(steps, 0, -1):
        g[f"z{t}"] = g[f"h{t}"] * (1 - v[f"h{t}"] ** 2)
        if t > 1:
            g[f"h{t - 1}"] = g[f"z{t}"] @ v["U"].T
    every = range(1, steps + 1)
    g["W"] = sum(xs[t - 1].T @ g[f"z{t}"] for t in every)
    g["U"] = sum(v[f"h{t - 1}"].T @ g[f"z{t}"] for t in every)
    return output, v, g


def fitted(r):
    """A residual whose square is averaged."""
    x, y = r.normal(size=(4, 4)), r.normal(size=(4, 4))
    W = Tensor(r.normal(size=(4, 4)), name="W")
    z = named(x @ W, "z")
    output = np.sum((z - y) ** 2) / 4
    dz = 2 * (z.data - y) / 4
    return output, values(output) | {"x": x, "y": y}, {"z": dz, "W": x.T @ dz}


def over(g, v, axis):
    return (v * g).sum(axis, keepdims=True)


KINDS = [  # example, the claim that goes wrong, what stands there, its kind, what is found there, words
    (gated, "s", lambda v, g: g["m"] * v["p"], "operand", "p", "'p' stands in the place of 'q'"),
    (gated, "W", lambda v, g: v["x"].T @ g["s"], "operand", None, "the derivative with respect to 's'"),
    (gated, "V", lambda v, g: v["s"].T @ g["q"], "operand", "s", "'s' stands in the place of 'x'"),
    (gated, "x", lambda v, g: g["p"] @ v["V"].T + g["q"] @ v["W"].T, "operand", None, "in each other's place"),
    (gated, "p", lambda v, g: g["s"] * v["s"] * (1 - v["q"]), "operand", "q", "'q' stands in the place of 's'"),
    (gated, "q", lambda v, g: g["m"] * (1 - v["s"]), "operand", "1 - 's'", "stands in the place of 's'"),
    (gated, "W", lambda v, g: g["p"].T @ v["x"], "transposed", None, "transposed"),
    (gated, "W", lambda v, g: v["x"][:1].T @ g["p"][:1], "batch-sum", None, "only the first"),
    (gated, "W", lambda v, g: g["W"] + 0.01 * v["W"], "extra-term", None, "0.01 times its own value"),
    (softmax, "z", lambda v, g: g["p"] * v["p"] * (1 - v["p"]), "softmax-jacobian", None, "elementwise"),
    (softmax, "z", lambda v, g: v["p"] * g["p"], "softmax-jacobian", None, "missing"),
    (softmax, "z", lambda v, g: g["p"], "softmax-jacobian", None, "the derivative of the softmax is missing"),
    (softmax, "z", lambda v, g: v["p"] * (g["p"] - over(g["p"], v["p"], 0)), "axis", None, "runs over axis 0"),
    (softmax, "z", lambda v, g: v["p"] * (g["p"] - over(g["p"], v["z"], 1)), "operand", "z", "the softmax in the sum"),
    (log_softmax, "z", lambda v, g: g["y"] - g["y"].sum(1, keepdims=True), "softmax-jacobian", None, "is missing"),
    (log_softmax, "z", lambda v, g: g["y"] - np.exp(v["y"]) * g["y"].sum(0), "axis", None, "runs over axis 0"),
    (normalised, "x", lambda v, g: v["r"] * (g["y"] - g["y"].mean(1, keepdims=True)), "child-sum", None, "missing"),
    (
        normalised, "x",
        lambda v, g: v["r"] * (g["y"] - g["y"].mean(0) - v["y"] * (g["y"] * v["y"]).mean(0)), "axis", None, "axis 0",
    ),
    (looped, "U", lambda v, g: sum(v[f"h{t}"].T @ g[f"z{t}"] for t in (1, 2, 3)), "operand", "h1", "in 3 places"),
    (looped, "W", lambda v, g: sum(v["xs"][t].T @ g[f"h{t + 1}"] for t in range(3)), "operand", None, "in 3 places"),
    (looped, "W", lambda v, g: sum(v["xs"][t].T @ g[f"z{3 - t}"] for t in range(3)), "operand", None, "each other's"),
    (looped, "z2", lambda v, g: g["h2"] * (1 - v["h1"] ** 2), "operand", None, "stands in the place"),
    (fitted, "z", lambda v, g: 2 * (v["z"] + v["y"]) / 4, "operand", None, "with the other sign"),
    (fitted, "z", lambda v, g: 2 * (v["x"] - v["y"]) / 4, "operand", None, "stands in the place of 'z'"),
    (fitted, "z", lambda v, g: 2 * v["z"] / 4, "operand", "z", "'z' stands in the place of"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("example", "name", "wrong", "kind", "found", "words"),
    KINDS,
    ids=[f"{m[0].__name__}-{k}" for k, m in enumerate(KINDS)],
)
@pytest.mark.parametrize("alone", [False, True])
def test_what_stands_there_is_named(example, name, wrong, kind, found, words, alone):
    output, v, g = example(np.random.default_rng(3))
    claims = {name: wrong(v, g)} if alone else g | {name: wrong(v, g)}
    if not alone:
        assert audit_graph(output, g).ok
    report = audit_graph(output, claims)
    [cause] = report.causes
    assert (cause.quantity, cause.kind) == (name, kind), str(report)
    assert alone or words in cause.message
    assert alone or found is None or cause.found == found


@pytest.mark.parametrize("seed", range(2))
def test_a_verdict_of_wrong_has_a_cause(seed):
    """Claims at random, of any shape and size: whatever is wrong is said to be wrong somewhere."""
    r = np.random.default_rng(seed)
    for example in (gated, softmax, looped, fitted):
        output, _, g = example(r)
        for name in list(g)[:3]:
            for claim in (r.normal(size=g[name].shape), g[name][:2], np.float64(1.0), g[name][None], g[name] * np.inf):
                with np.errstate(invalid="ignore"):
                    report = audit_graph(output, g | {name: claim})
                assert (report.verdict == "wrong") == bool(report.causes)


# ---------------------------------------------------------------- two mistakes, and numbers that say little
def test_two_mistakes_at_one_claim_are_both_told():
    output, v, g = gated(np.random.default_rng(0))
    claim = 2 * g["s"].T @ v["x"]  # the upstream is another, it is transposed, and twice
    report = audit_graph(output, g | {"W": 2 * v["x"].T @ g["s"]})
    assert sorted(cause.kind for cause in report.causes) == ["factor", "operand"], str(report)
    assert {cause.quantity for cause in report.causes} == {"W"}
    assert audit_graph(output, g | {"W": claim}).ok is False


def test_a_number_that_always_fits_explains_nothing():
    a = Tensor(np.array(1.7), name="a")
    output = np.sum(np.sin(a) * 3.0)
    [cause] = audit_graph(output, {"a": 0.123456}).causes
    assert cause.kind == "unexplained"
    assert audit_graph(output, {"a": 6.0 * np.cos(1.7)}).causes[0].factor == "2"
    up = Tensor(np.random.default_rng(0).normal(size=5), name="x")
    [cause] = audit_graph(np.sum(up), {"x": np.full(5, 0.123456)}).causes
    assert cause.kind == "unexplained"


# ---------------------------------------------------------------- shapes that go on
def test_a_sum_that_was_left_out_is_carried_on():
    r = np.random.default_rng(0)
    z, up = r.normal(size=(5, 3)), r.normal(size=(5, 3))
    Z = Tensor(z, name="z")
    total = named(np.sum(np.exp(Z), axis=1, keepdims=True), "total")
    inverse = named(total**-1.0, "inverse")
    output = np.sum(named(np.exp(Z) * inverse, "p") * up)
    dinverse = up * np.exp(z)  # not summed
    dtotal = -dinverse * total.data**-2.0
    dz = up * np.exp(z) * inverse.data + dtotal * np.exp(z)
    report = audit_graph(output, {"p": up, "inverse": dinverse, "total": dtotal, "z": dz})
    [cause] = report.causes
    assert (cause.quantity, cause.kind) == ("inverse", "axis")
    assert set(report.inherited) == {"total", "z"}
    again = audit_graph(output, {"p": up, "inverse": dinverse, "total": 2 * dtotal, "z": dz})
    assert [c.quantity for c in again.causes][:2] == ["inverse", "total"], str(again)


# ---------------------------------------------------------------- the precision of the claims
@pytest.mark.parametrize("example", [gated, softmax, log_softmax, normalised, looped, fitted])
def test_claims_in_float32_that_came_as_float64_are_right(example):
    for seed in range(2):
        output, _, g = example(np.random.default_rng(seed))
        report = audit_graph(output, {name: claim.astype(np.float32).astype(float) for name, claim in g.items()})
        assert report.ok, str(report)
        if not any((claim.astype(np.float32) == claim).all() for claim in g.values()):
            assert "float32" in " ".join(report.notes)
        name = list(g)[-1]
        assert audit_graph(output, {name: (2 * g[name]).astype(np.float32).astype(float)}).causes[0].factor == "2"


def test_a_small_mistake_in_float64_is_not_taken_for_rounding():
    output, _, g = gated(np.random.default_rng(0))
    report = audit_graph(output, g | {"W": g["W"] * (1 + 1e-6)})
    assert [cause.quantity for cause in report.causes] == ["W"]
    noise = 1 + 1e-7 * np.random.default_rng(1).normal(size=(4, 4))
    assert audit_graph(output, g | {"W": g["W"] * noise}).ok is False  # all others are exact


def test_a_constant_of_float64_has_no_error_in_float32():
    x = Tensor(np.array([-1.5, 2.25, -0.3]), name="x")
    output = np.sum(x**3)
    assert audit_graph(output, {"x": (3 * x.data**2).astype(np.float32)}).ok


# ---------------------------------------------------------------- how they are found
def test_a_probe_sees_what_a_sweep_makes_of_a_change():
    """Along its directions, for a change of any adjoint of the region: what the sweep itself makes of it."""
    for example, name in ((gated, "x"), (softmax, "z"), (normalised, "x"), (looped, "U")):
        output, _, g = example(np.random.default_rng(5))
        nodes = autodiff.graph.order(output)
        [target], _ = targets(nodes, {name: g[name]})
        region = Region(Sweep(output, nodes, Recorded(nodes, 2.2e-16, 1e-300), {}), target)
        probe, before = Probe(region), target.adjoint(region.sweep.expected).value
        for node in region.inside:
            change = np.random.default_rng(6).normal(size=np.shape(node.data))
            mistake = _added(node, change)
            seen, _ = probe.sees([(node, change)])
            np.testing.assert_allclose(seen, probe.along(region.after(mistake) - before), rtol=1e-9, atol=1e-10)


def _added(node, change):
    return Mistake("", "", totals={node: lambda adjoint: adjoint + change})


def test_a_way_leads_to_what_stands_in_the_same_relation():
    output, _, _ = looped(np.random.default_rng(0))
    nodes = autodiff.graph.order(output)
    sweep = Sweep(output, nodes, Recorded(nodes, 2.2e-16, 1e-300), {})
    graph = autodiff.Graph(output)
    start = {t: next(node for node in graph.named(f"z{t}").operands if node.operands[1].name == "U") for t in (1, 2, 3)}
    way = next(way for way, end in ways(sweep, start[1]) if end is graph.named("h1"))
    for t in (2, 3):
        assert follow(sweep, start[t], way, (4, 4)) is graph.named(f"h{t}")
    assert follow(sweep, graph.named("h3"), way, (4, 4)) is None
