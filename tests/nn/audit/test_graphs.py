"""audit_graph: on graphs that are no networks, right claims stay right and a planted mistake is named where it is."""

import numpy as np
import pytest

import autodiff
from autodiff import Tensor, Value, scalars
from demos import explorers, network
from nn.audit import audit_graph


def named(node, name):
    node.name = name
    return node


# Each example: the output, and the claims worked out by hand in plain NumPy.


def batch_norm(r, kind=float):
    n, d = 8, 5
    x, gain, bias = r.normal(2, 3, (n, d)), r.normal(size=(1, d)), r.normal(size=(1, d))
    up = r.normal(size=(n, d))
    X, G, B = Tensor(x, name="x"), Tensor(gain, name="gain"), Tensor(bias, name="bias")
    mean = named(np.sum(X, axis=0, keepdims=True) / n, "mean")
    diff = named(X - mean, "diff")
    squares = named(diff**2, "squares")
    var = named(np.sum(squares, axis=0, keepdims=True) / (n - 1), "var")
    inverse = named((var + 1e-5) ** -0.5, "inverse")
    raw = named(diff * inverse, "raw")
    out = named(G * raw + B, "out")
    x, gain, bias, up = (a.astype(kind) for a in (x, gain, bias, up))
    c = {"out": up * np.ones((n, d), kind)}
    u_diff = x - x.mean(0, keepdims=True)
    u_inverse = ((u_diff**2).sum(0, keepdims=True) / (n - 1) + kind(1e-5)) ** -0.5
    u_raw = u_diff * u_inverse
    c["gain"], c["bias"] = (up * u_raw).sum(0, keepdims=True), up.sum(0, keepdims=True)
    c["raw"] = up * gain
    c["inverse"] = (c["raw"] * u_diff).sum(0, keepdims=True)
    c["var"] = -c["inverse"] * u_inverse**3 / 2
    c["squares"] = c["var"] / (n - 1) * np.ones((n, d), kind)
    c["diff"] = c["raw"] * u_inverse + 2 * u_diff * c["squares"]
    c["mean"] = -c["diff"].sum(0, keepdims=True)
    c["x"] = c["diff"] + c["mean"] / n
    return np.sum(out * up.astype(float)), c


def fused_batch_norm(r, kind=float):
    """The whole in one line, as in the last of the well-known exercises; nothing in between is claimed."""
    output, c = batch_norm(r, kind)
    g = autodiff.Graph(output)
    n = 8
    raw, inverse, gain = (g.named(name).data.astype(kind) for name in ("raw", "inverse", "gain"))
    up = c["out"]
    x = gain * inverse / n * (n * up - up.sum(0) - n / (n - 1) * raw * (up * raw).sum(0))
    return output, {"x": x.astype(kind)}


def embedding(r, kind=float):
    n, vocabulary, d = 9, 5, 4
    table, up = r.normal(size=(vocabulary, d)), r.normal(size=(n, 3))
    ids = r.integers(vocabulary - 1, size=n)
    ids[1] = ids[0]
    w = r.normal(size=(d, 3))
    C, W = Tensor(table, name="C"), Tensor(w, name="W")
    rows = named(C[ids], "rows")
    table, up, w = (a.astype(kind) for a in (table, up, w))
    out = rows @ W
    drows = up @ w.T
    dC = np.zeros_like(table)
    np.add.at(dC, ids, drows)
    return np.sum(out * up.astype(float)), {"rows": drows, "C": dC, "W": table[ids].T @ up}


def cross_entropy(r, kind=float):
    n, m = 6, 4
    z, labels = r.normal(0, 3, (n, m)), r.integers(m, size=n)
    Z = Tensor(z, name="z")
    shifted = named(Z - named(Z.max(axis=1, keepdims=True), "top"), "shifted")
    counts = named(np.exp(shifted), "counts")
    total = named(np.sum(counts, axis=1, keepdims=True), "total")
    p = named(counts / total, "p")
    logp = named(np.log(p), "logp")
    loss = -np.mean(logp[np.arange(n), labels])
    z = z.astype(kind)
    u_counts = np.exp(z - z.max(1, keepdims=True))
    u_total = u_counts.sum(1, keepdims=True)
    u_p = u_counts / u_total
    c = {"logp": np.zeros((n, m), kind)}
    c["logp"][np.arange(n), labels] = -1 / n
    c["p"] = c["logp"] / u_p
    c["total"] = -(c["p"] * u_counts / u_total**2).sum(1, keepdims=True)
    c["counts"] = c["p"] / u_total + c["total"]
    c["shifted"] = c["counts"] * u_counts
    c["top"] = -c["shifted"].sum(1, keepdims=True)
    c["z"] = ((u_p - np.eye(m)[labels]) / n).astype(kind)
    return loss, c


def attention(r, kind=float):
    n, d = 5, 4
    x = r.normal(size=(n, d))
    wq, wk, wv = (r.normal(size=(d, 3)) for _ in range(3))
    up = r.normal(size=(n, 3))
    X, Wq, Wk, Wv = Tensor(x, name="x"), Tensor(wq, name="Wq"), Tensor(wk, name="Wk"), Tensor(wv, name="Wv")
    q, k, v = named(X @ Wq, "q"), named(X @ Wk, "k"), named(X @ Wv, "v")
    scores = named(q @ k.T / np.sqrt(3), "scores")
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = named(e / e.sum(axis=1, keepdims=True), "p")
    out = named(p @ v, "out")
    x, wq, wk, wv, up = (a.astype(kind) for a in (x, wq, wk, wv, up))
    a, b, h = x @ wq, x @ wk, x @ wv
    s = a @ b.T / kind(np.sqrt(3))
    u = np.exp(s - s.max(1, keepdims=True))
    u = u / u.sum(1, keepdims=True)
    c = {"out": up, "p": up @ h.T, "v": u.T @ up}
    c["scores"] = u * (c["p"] - (u * c["p"]).sum(1, keepdims=True))
    c["q"], c["k"] = c["scores"] @ b / kind(np.sqrt(3)), c["scores"].T @ a / kind(np.sqrt(3))
    c["Wq"], c["Wk"], c["Wv"] = x.T @ c["q"], x.T @ c["k"], x.T @ c["v"]
    c["x"] = c["q"] @ wq.T + c["k"] @ wk.T + c["v"] @ wv.T
    return np.sum(out * up.astype(float)), c


def recurrent(r, kind=float, scale=1.0):
    n, d, m, steps = 5, 3, 4, 4
    xs = r.normal(size=(steps, n, d))
    wx, wh, b, up = r.normal(size=(d, m)), scale * r.normal(size=(m, m)), r.normal(size=m), r.normal(size=(n, m))
    Wx, Wh, B = Tensor(wx, name="Wx"), Tensor(wh, name="Wh"), Tensor(b, name="b")
    h = Tensor(np.zeros((n, m)))
    for t in range(steps):
        z = named(xs[t] @ Wx + h @ Wh + B, f"z{t + 1}")
        h = named(np.tanh(z), f"h{t + 1}")
    xs, wx, wh, b, up = (a.astype(kind) for a in (xs, wx, wh, b, up))
    hs = [np.zeros((n, m), kind)]
    for t in range(steps):
        hs.append(np.tanh(xs[t] @ wx + hs[-1] @ wh + b))
    c = {f"h{steps}": up}
    dWx, dWh, db = np.zeros_like(wx), np.zeros_like(wh), np.zeros_like(b)
    for t in range(steps, 0, -1):
        dz = c[f"z{t}"] = c[f"h{t}"] * (1 - hs[t] ** 2)
        dWx += xs[t - 1].T @ dz
        dWh += hs[t - 1].T @ dz
        db += dz.sum(0)
        if t > 1:
            c[f"h{t - 1}"] = dz @ wh.T
    return np.sum(h * up.astype(float)), c | {"Wx": dWx, "Wh": dWh, "b": db}


def layer_norm(r, kind=float):
    n, d = 4, 6
    x, gain, up = r.normal(size=(n, d)), r.normal(size=d), r.normal(size=(n, d))
    X, G = Tensor(x, name="x"), Tensor(gain, name="gain")
    deviation = named(np.std(X, axis=1, keepdims=True), "deviation")
    raw = named((X - np.mean(X, axis=1, keepdims=True)) / deviation, "raw")
    x, gain, up = (a.astype(kind) for a in (x, gain, up))
    u = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    draw = up * gain
    dx = (draw - draw.mean(1, keepdims=True) - u * (draw * u).mean(1, keepdims=True)) / x.std(1, keepdims=True)
    ddev = -(draw * u).sum(1, keepdims=True) / x.std(1, keepdims=True)
    return np.sum(G * raw * up.astype(float)), {
        "gain": (up * u).sum(0), "raw": draw, "deviation": ddev, "x": dx.astype(kind)
    }  # fmt: skip


EXAMPLES = [batch_norm, fused_batch_norm, embedding, cross_entropy, attention, recurrent, layer_norm]


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("example", EXAMPLES)
def test_right_claims_are_right(example, kind):
    for seed in range(12):
        r = np.random.default_rng(seed)
        output, claims = example(r, kind)
        chosen = {name: claim for name, claim in claims.items() if seed % 3 == 0 or r.random() < 0.6}
        report = audit_graph(output, chosen)
        assert report.ok is (True if chosen else None), f"seed {seed}\n{report}"
        assert set(report.right) == set(chosen)


def test_other_operations_have_bounds_too():
    for seed in range(8):
        r = np.random.default_rng(seed)
        a, up = r.normal(size=(4, 4)), r.normal(size=(4, 4))
        A = Tensor(a, name="A")
        inverse = np.linalg.inv(a)
        assert audit_graph(np.sum(np.linalg.inv(A) * up), {"A": -inverse.T @ up @ inverse.T}).ok
        report = audit_graph(np.sum(np.linalg.inv(A) * up), {"A": inverse.T @ up @ inverse.T})
        assert report.causes[0].factor == "-1"
        assert audit_graph(np.prod(A), {"A": np.prod(a) / a}).ok
        assert audit_graph(np.sum(np.cumsum(A, axis=0) ** 2), {"A": 2 * a.cumsum(0)[::-1].cumsum(0)[::-1]}).ok
        assert audit_graph(np.sum(np.einsum("ij,kj->ik", A, up) * up), {"A": up @ up}).ok


def test_a_graph_in_float32_is_judged_by_its_precision():
    for seed in range(8):
        r = np.random.default_rng(seed)
        x, up = r.normal(size=(6, 3)).astype(np.float32), r.normal(size=(6, 2)).astype(np.float32)
        w = r.normal(size=(3, 2)).astype(np.float32)
        W = Tensor(w, name="W")
        output = np.sum(np.tanh(x @ W) * up)
        claim = x.T.astype(float) @ (up * (1 - np.tanh(x.astype(float) @ w) ** 2))
        assert audit_graph(output, {"W": claim}).ok
        assert audit_graph(output, {"W": 1.001 * claim}).ok is False


def test_saturated_units_are_right():
    for seed in range(6):
        output, claims = recurrent(np.random.default_rng(seed), scale=12.0)
        assert audit_graph(output, claims).ok, seed


# ---------------------------------------------------------------- one mistake
def scaled(factor):
    return lambda claim, c: factor * claim


MISTAKES = [
    (batch_norm, "raw", scaled(2.0), "factor", "2"),
    (batch_norm, "diff", scaled(-1.0), "factor", "-1"),
    (batch_norm, "bias", scaled(1 / 8), "factor", "1/n"),
    (batch_norm, "squares", scaled(7 / 8), "factor", "(n-1)/n"),
    (batch_norm, "gain", scaled(1.37), "factor", "1.37"),
    (batch_norm, "diff", lambda claim, c: claim - c["part"], "child-sum", None),
    (batch_norm, "x", lambda claim, c: c["diff"], "child-sum", None),
    (batch_norm, "x", lambda claim, c: c["diff"] + c["mean"], "factor", "n"),
    (batch_norm, "gain", lambda claim, c: c["out"] * c["raw_value"], "axis", None),
    (batch_norm, "gain", lambda claim, c: c["out"].sum(0, keepdims=True), "operand", None),
    (batch_norm, "bias", lambda claim, c: c["out"][:1], "batch-sum", None),
    (batch_norm, "raw", lambda claim, c: claim * (np.arange(8) == 0)[:, None], "batch-sum", None),
    (batch_norm, "inverse", lambda claim, c: 0 * claim, "zero", None),
    (batch_norm, "mean", lambda claim, c: claim * np.nan, "non-finite", None),
    (batch_norm, "mean", lambda claim, c: np.ones((2, 7)), "shape", None),
    (batch_norm, "raw", lambda claim, c: np.random.default_rng(5).normal(size=claim.shape), "unexplained", None),
    (embedding, "C", lambda claim, c: c["assigned"], "child-sum", None),
    (embedding, "W", lambda claim, c: claim.T, "transposed", None),
    (cross_entropy, "counts", lambda claim, c: claim - c["total"], "child-sum", None),
    (cross_entropy, "counts", lambda claim, c: c["total"] + 0 * claim, "child-sum", None),
    (cross_entropy, "p", lambda claim, c: c["logp"], "operand", None),
    (attention, "x", lambda claim, c: claim - c["k"] @ c["Wk_value"].T, "child-sum", None),
    (recurrent, "Wh", lambda claim, c: claim.T, "transposed", None),
    (recurrent, "h2", lambda claim, c: c["z3"] @ c["Wh_value"], "operand", None),
    (recurrent, "z2", lambda claim, c: c["h2"], "operand", None),
    (recurrent, "z3", lambda claim, c: c["h3"] * (1 - c["h3_value"]), "operand", None),
]


def around(output, claims):
    """The claims, and what the mistakes above are made from."""
    graph = autodiff.Graph(output)
    c = dict(claims)
    for node in graph.nodes:
        if node.name:
            c[f"{node.name}_value"] = node.data
    if "inverse" in claims:
        c["part"] = 2 * c["diff_value"] * c["squares"]
    if "rows" in claims:
        c["assigned"] = np.zeros_like(claims["C"])
        [rows] = [node for node in graph.nodes if node.name == "rows"]
        c["assigned"][rows.parameters["key"]] = claims["rows"]
    return c


@pytest.mark.parametrize(
    ("example", "name", "change", "kind", "factor"), MISTAKES, ids=[f"{m[0].__name__}-{m[1]}-{m[3]}" for m in MISTAKES]
)
def test_a_mistake_is_named_where_it_is(example, name, change, kind, factor):
    for seed in range(3):
        output, claims = example(np.random.default_rng(seed))
        wrong = change(claims[name], around(output, claims))
        report = audit_graph(output, claims | {name: wrong})
        # the other claims are right, and right claims are never flagged, whatever they were worked out from
        assert [(c.quantity, c.kind, c.factor) for c in report.causes] == [(name, kind, factor)], str(report)
        assert report.ok is False
        assert str(report).startswith("wrong: 1 cause\n" + name)
        assert report.to_dict()["causes"][0]["layers"] == []


@pytest.mark.parametrize("seed", range(4))
def test_what_follows_from_a_mistake_inherits(seed):
    r = np.random.default_rng(seed)
    output, c = batch_norm(r)
    value = around(output, c)
    c["var"] = c["var"] * 2
    c["squares"] = c["var"] / 7 * np.ones((8, 5))
    c["diff"] = c["raw"] * value["inverse_value"] + 2 * value["diff_value"] * c["squares"]
    c["mean"] = -c["diff"].sum(0, keepdims=True) / 8  # a second one, behind the first
    c["x"] = c["diff"] + c["mean"] / 8
    report = audit_graph(output, c)
    assert [(cause.quantity, cause.factor) for cause in report.causes] == [("var", "2"), ("mean", "1/n")], str(report)
    assert set(report.inherited) == {"squares", "diff", "x"}
    assert "inherits: " in str(report)
    assert "diff" in report.text("what").split("inherits: ")[1]


def test_a_mistake_of_what_nobody_claimed_is_named_at_the_next_claim():
    output, c = batch_norm(np.random.default_rng(3))
    value = around(output, c)
    claim = c["raw"] * value["inverse_value"]  # the way through the variance is missing
    report = audit_graph(output, {"diff": claim})
    [cause] = report.causes
    assert (cause.quantity, cause.kind) == ("diff", "child-sum")
    assert "'squares'" in cause.message


def test_what_is_zero_but_for_rounding_is_a_note():
    output, claims = cross_entropy(np.random.default_rng(0))
    report = audit_graph(output, {"top": 2 * claims["top"]})
    assert report.ok
    assert "zero but for rounding" in report.notes[0]


def test_tiny_gradients_are_judged_too():
    x = Tensor(np.random.default_rng(0).normal(size=(4, 3)), name="x")
    output = np.sum(np.sin(x)) * 1e-12
    assert audit_graph(output, {"x": 1e-12 * np.cos(x.data)}).ok
    assert audit_graph(output, {"x": 2e-12 * np.cos(x.data)}).causes[0].factor == "2"


def test_at_a_kink_either_slope_is_accepted():
    x = Tensor([0.0, 1.0, -1.0], name="x")
    output = np.sum(np.maximum(0, x) * 3.0)
    assert audit_graph(output, {"x": [0.0, 3.0, 0.0]}).ok
    assert audit_graph(output, {"x": [3.0, 3.0, 0.0]}).ok
    assert not audit_graph(output, {"x": [0.0, 3.0, 3.0]}).ok


# ---------------------------------------------------------------- shapes, names, arguments
def test_axes_of_length_one_are_free_where_they_broadcast():
    output, c = batch_norm(np.random.default_rng(0))
    report = audit_graph(output, c | {"bias": c["bias"][0]})
    assert report.ok
    assert "bias" in report.notes[0]
    assert audit_graph(output, {"bias": c["bias"].T}).causes[0].kind == "transposed"


@pytest.mark.parametrize("name", ["weights", "W"])
def test_a_wrong_name_lists_the_names(name):
    output, _ = attention(np.random.default_rng(0))
    with pytest.raises(KeyError, match="names in it: Wk, Wq, Wv, k, out, p"):
        audit_graph(output, {name: np.zeros(3)})


def test_arguments_are_checked():
    x = Tensor([1.0, 2.0], name="x")
    with pytest.raises(ValueError, match="one number"):
        audit_graph(x * 2.0, {})
    with pytest.raises(TypeError, match="node"):
        audit_graph(3.0, {})
    with pytest.raises(TypeError, match="real numbers"):
        audit_graph(np.sum(x), {"x": ["a", "b"]})
    assert audit_graph(np.sum(x), {}).ok is None


# ---------------------------------------------------------------- scalar graphs
def scalar_network(seed):
    r = np.random.default_rng(seed)
    x, w, up = r.normal(size=(5, 3)), r.normal(size=(3, 2)), r.normal(size=(5, 2))
    W = scalars(w, name="W")
    output = np.sum(np.tanh(x @ W) * up)
    dz = up * (1 - np.tanh(x @ w) ** 2)
    return output, x, dz, up


@pytest.mark.parametrize("seed", range(5))
def test_arrays_of_values_have_one_claim(seed):
    output, x, dz, up = scalar_network(seed)
    right = x.T @ dz
    assert audit_graph(output, {"W": right}).ok
    assert audit_graph(output, {"W": right.astype(np.float32)}).ok
    assert audit_graph(output, {"W[0,1]": right[0, 1]}).ok
    for claim, kind, factor in [
        (2 * right, "factor", "2"), (right.T, "transposed", None), (0 * right, "zero", None),
        (x.T @ up, "operand", None), (right / 5, "factor", "1/n"), (right - np.outer(x[0], dz[0]), "child-sum", None),
        (np.sin(right), "unexplained", None),
    ]:  # fmt: skip
        report = audit_graph(output, {"W": claim})
        assert [(c.quantity, c.kind, c.factor) for c in report.causes] == [("W", kind, factor)], str(report)
    assert audit_graph(output, {"W[2,1]": -right[2, 1]}).causes[0].factor == "-1"


@pytest.mark.parametrize(
    ("da", "kind", "words"),
    [
        (2.0 * 3.3 + 2.0 * 1.7, None, None),
        (2.0 * 3.3, "child-sum", "'d'"),
        (2.0 * 1.7, "child-sum", "'c'"),
        (2.0 * 1.7 + 2.0 * 1.7, "operand", "own value"),
        (2.0 * 3.3 - 2.0 * 1.7, "factor", "'d'"),
        (3.0, "unexplained", "not known"),
    ],
)
def test_scalar_nodes(da, kind, words):
    a, b = Value(1.7, name="a"), Value(3.3, name="b")
    c = named(a * b, "c")
    d = named(a**2, "d")
    output = c * 2.0 + d
    report = audit_graph(output, {"a": da, "b": 3.4, "c": 2.0, "d": 1.0})
    if kind is None:
        assert report.ok
    else:
        [cause] = report.causes
        assert (cause.quantity, cause.kind) == ("a", kind)
        assert words in cause.message


def test_one_mistake_in_every_step_of_a_loop():
    r = np.random.default_rng(1)
    output, claims = recurrent(r)
    values = around(output, claims)
    dh, dWh = claims["h4"], 0.0
    hs = [values.get(f"h{t}_value", np.zeros((5, 4))) for t in range(5)]
    for t in range(4, 0, -1):
        dz = dh * (1 - hs[t])  # of the square nothing is left
        dWh = dWh + hs[t - 1].T @ dz
        dh = dz @ values["Wh_value"].T
    [cause] = audit_graph(output, {"h4": claims["h4"], "Wh": dWh}).causes
    assert (cause.quantity, cause.kind) == ("Wh", "operand")
    assert cause.message == "1 - y stands in the place of the derivative of tanh, in all 4 places"


def test_a_sum_over_the_wrong_axis_is_named_where_shapes_do_not_tell():
    r = np.random.default_rng(0)
    x, up = r.normal(size=(4, 4)), r.normal(size=(4, 4))
    X, b = Tensor(x, name="x"), Tensor(r.normal(size=4), name="b")
    assert audit_graph(np.sum((X + b) * up), {"b": up.sum(0)}).ok
    [cause] = audit_graph(np.sum((X + b) * up), {"b": up.sum(1)}).causes
    assert cause.kind == "axis"
    assert cause.message.startswith("the sum runs over axis 1, in 'x + b' on the way to the output (or: ")
    assert "is transposed" in cause.message
    up = r.normal(size=4)
    output = np.sum(np.sum(X * 3.0, axis=0) * up)
    assert audit_graph(output, {"x": np.broadcast_to(3.0 * up, (4, 4))}).ok
    assert audit_graph(output, {"x": np.broadcast_to(3.0 * up[:, None], (4, 4))}).causes[0].kind == "transposed"


@pytest.mark.parametrize("seed", range(3))
def test_claims_that_only_inherit_are_no_causes(seed):
    """Every claim of an example in turn is made wrong, and all after it follow from the wrong one."""
    for example in EXAMPLES:
        output, claims = example(np.random.default_rng(seed))
        graph = autodiff.Graph(output)
        for name in claims:
            if name == "top":  # zero but for rounding
                continue
            adjoints = {output: np.ones(())}
            for node in reversed(graph.nodes):
                upstream = adjoints[node] = adjoints.get(node, np.zeros(node.shape)) * (3.0 if node.name == name else 1)
                for parent, local in node.edges():
                    adjoints[parent] = adjoints.get(parent, 0.0) + local.pull(upstream)
            report = audit_graph(output, {other: adjoints[graph.named(other)] for other in claims})
            assert [cause.quantity for cause in report.causes] == [name], str(report)


# ---------------------------------------------------------------- mistakes where nothing is claimed
def swept(output, totals=(), edges=()):
    """{name: adjoint} by a sweep with other adjoints, {name: change}, and edges, {(child, parent): wrong rule}."""
    graph, totals, edges = autodiff.Graph(output), dict(totals), dict(edges)
    adjoints = {output: np.ones(())}
    for node in reversed(graph.nodes):
        upstream = adjoints.setdefault(node, np.zeros(node.shape))
        if node.name in totals:
            upstream = adjoints[node] = totals[node.name](upstream)
        for parent, local in node.edges():
            rule = edges.get((node.name, parent.name), local.pull)
            adjoints[parent] = adjoints.get(parent, 0.0) + rule(upstream)
    return {node.name: adjoint for node, adjoint in adjoints.items() if node.name}


def layers(seed, widths=(3, 4, 5, 2), n=6):
    """The loss of a network of tanh with everything named."""
    r = np.random.default_rng(seed)
    a, y = r.normal(size=(n, widths[0])), r.normal(size=(n, widths[-1]))
    for k in range(1, len(widths)):
        W = Tensor(r.normal(size=widths[k - 1 : k + 1]), name=f"W{k}")
        z = named(a @ W + Tensor(r.normal(size=(1, widths[k])), name=f"b{k}"), f"z{k}")
        a = named(np.tanh(z), f"a{k}")
    return np.sum((a - y) ** 2)


def first(g):
    return g * (np.arange(len(g)) == 0)[:, None]


def as_it_is(g):
    return g


PLANTED = [  # changes of adjoints, of edges; kinds of the causes, layer where they show, words
    ({"z2": lambda g: 2 * g}, {}, ["factor"], 2, "'z2'"),
    ({"a1": lambda g: g / 6}, {}, ["factor"], 1, "1/n"),
    ({}, {("a3", "z3"): as_it_is}, ["operand"], 3, "the local derivative of tanh is missing, on the way to 'a3'"),
    ({}, {(f"a{k}", f"z{k}"): as_it_is for k in (1, 2, 3)}, ["operand"], 3, "the same at"),
    ({"z2": first}, {}, ["batch-sum"], 2, "only the first sample is there, in the derivative with respect to 'z2'"),
    ({"z2": lambda g: g * np.cos(np.arange(30)).reshape(6, 5)}, {}, ["unexplained"], 2, "'z2'"),
    ({"z3": lambda g: -g}, {("a1", "z1"): as_it_is}, ["factor", "operand"], 3, "-1"),
    ({"z3": lambda g: -g, "b1": np.zeros_like}, {}, ["factor", "zero"], 3, "-1"),
    ({}, {}, [], None, ""),
]


@pytest.mark.parametrize(("totals", "edges", "kinds", "layer", "words"), PLANTED)
@pytest.mark.parametrize("claimed", ["W b", "W b a", "b", "W2 b2 b3 b1"])
def test_a_mistake_where_nothing_is_claimed_is_told_once(totals, edges, kinds, layer, words, claimed):
    output = layers(len(kinds))
    claims = {name: g for name, g in swept(output, totals, edges).items() if {name, name[0]} & set(claimed.split())}
    report = audit_graph(output, claims)
    if kinds == ["unexplained"] and claimed == "b":
        assert report.ok is False  # of a sum of what is not known nothing is known
        return
    assert [cause.kind for cause in report.causes] == kinds, str(report)
    assert report.ok is (not kinds)
    if kinds:
        assert report.causes[0].quantity[1] == str(layer) or report.causes[0].quantity in totals
        assert words in report.text("what") or "W" not in claimed.split()
    else:
        assert set(report.right) == set(claims)


def test_a_rule_forgotten_at_an_unclaimed_layer_is_one_cause():
    output = layers(1, (3, 4, 2))
    claims = swept(output, {}, {("a2", "z2"): as_it_is})
    report = audit_graph(output, {name: claims[name] for name in ("W1", "b1", "W2", "b2")})
    [cause] = report.causes
    assert (cause.kind, cause.quantity[1]) == ("operand", "2")
    assert cause.message == "the local derivative of tanh is missing, on the way to 'a2'"
    assert len(report.inherited) == 3


def test_a_rule_forgotten_in_two_units_of_a_scalar_network_is_one_cause():
    _, loss, nodes = network.build()
    report = audit_graph(loss, explorers.wrong_claims(loss, nodes))
    [cause] = report.causes
    assert cause.message.startswith("the local derivative of sigmoid is missing, on the way to 'h_2")
    [places] = report.context["places"]
    assert len(places) == 2
    assert not any(name.startswith(("w3", "b3")) for name in (*places, *report.inherited))


@pytest.mark.parametrize("by_element", [False, True])
@pytest.mark.parametrize("units", [(0,), (0, 1, 2)])
def test_a_rule_forgotten_in_units_of_an_array_of_values_is_one_cause(by_element, units):
    r = np.random.default_rng(0)
    x, w, b, up = r.normal(size=(2, 3)), r.normal(size=(3, 3)), r.normal(size=3), r.normal(size=(2, 3))
    output = np.sum(np.tanh(x @ scalars(w, name="W") + scalars(b, name="b")) * up)
    slope = 1 - np.tanh(x @ w + b) ** 2
    slope[:, list(units)] = 1.0
    claims = {"W": x.T @ (up * slope), "b": (up * slope).sum(0)}
    if by_element:
        claims = {
            f"{name}[{','.join(map(str, index))}]": value
            for name, array in claims.items()
            for index, value in np.ndenumerate(array)
        }
    [cause] = audit_graph(output, claims).causes
    assert cause.message.startswith("the local derivative of tanh is missing")


def test_two_mistakes_at_one_claim_are_both_named():
    output = layers(4)
    claims = swept(output, {"W2": lambda g: 2 * g}, {("a2", "z2"): as_it_is})
    report = audit_graph(output, {name: claims[name] for name in ("W3", "W2")})
    assert sorted(cause.kind for cause in report.causes) == ["factor", "operand"], str(report)
