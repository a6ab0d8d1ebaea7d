"""audit_claims: the document's mistakes named, correct work left alone, and what cannot be judged said."""

import json

import numpy as np
import pytest

import nn
from nn.audit import audit_claims

NAMES = ("z", "a", "da", "dz", "dW", "db")


def network(sizes=(3, 4, 3, 2), activations=("relu", "tanh", "sigmoid"), loss="bce", seed=1, n=7, **options):
    """(a network after its backward pass, the description, all claims)."""
    draw = np.random.RandomState(seed)
    net = nn.by_hand.MLP(sizes, activations, loss, **options)
    row = options.get("layout", "row") == "row"
    net.initialize("he", seed=seed)
    for k in range(1, len(sizes)):
        b = draw.randn(1, sizes[k]) * 0.3
        net.b[k] = b if row else b.T
    X = draw.randn(n, sizes[0])
    y = (draw.rand(n, sizes[-1]) > 0.5) * 1.0
    X, y = (X, y) if row else (X.T, y.T)
    net.backward(y, net.forward(X))
    description = {"sizes": sizes, "activations": activations, "loss": loss, "W": net.W, "b": net.b, "X": X, "y": y}
    options.pop("as_published", None)
    return net, {**description, **options}, claims_of(net)


def claims_of(net):
    return {f"{name}{k}": getattr(net, name)[k].copy() for k in range(1, len(net.sizes)) for name in NAMES}


def only(claims, *names):
    return {key: value for key, value in claims.items() if key.rstrip("0123456789") in names}


def found(report):
    return [(cause.quantity, cause.layers, cause.kind, cause.factor) for cause in report.causes]


@pytest.mark.parametrize("names", [NAMES, ("dz", "dW", "db"), ("dW", "db")], ids=" ".join)
@pytest.mark.parametrize("layout", ["row", "column"])
def test_correct_work_is_right(names, layout):
    _, description, claims = network(layout=layout)
    report = audit_claims(**description, claims=only(claims, *names))
    assert report.ok is True
    assert report.causes == ()
    assert len(report.right) == len(only(claims, *names))


@pytest.mark.parametrize("names", [NAMES, ("dz", "dW", "db"), ("dW", "db")], ids=" ".join)
def test_the_document_has_two_causes(names):
    sizes, activations = (2, 4, 3, 1), ("relu", "relu", "sigmoid")
    _, description, claims = network(sizes, activations, n=50, as_published=True)
    report = audit_claims(**description, reduction="sum", claims=only(claims, *names))
    assert found(report) == [("dz3", (3,), "factor", "2"), ("db", (1, 2, 3), "factor", "1/n")]
    assert report.causes[1].layer is None
    assert "dW1" in report.inherited


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("reduction", ["mean", "mean_elements"])
def test_one_over_n_may_enter_anywhere_legal(place, reduction):
    _, description, claims = network(reduction=reduction)
    n = 7 if reduction == "mean" else 14
    for key, value in claims.items():
        name = key.rstrip("0123456789")
        later = {"da": 0 if key == "da3" else 1, "dz": 1, "dW": 2, "db": 2}.get(name)
        if later is not None and later < place:
            claims[key] = value * n
    report = audit_claims(**description, claims=claims)
    assert report.ok is True
    assert report.causes == ()


def wrong(net, claims, **changes):
    """The claims with some changed, and everything after them worked out from what was changed, by right rules."""
    claims = dict(claims)
    dz = None
    for k in range(len(net.sizes) - 1, 0, -1):
        da = claims[f"da{k}"] if dz is None else dz @ net.W[k + 1].T
        da = changes.get(f"da{k}", lambda x: x)(da)
        slope = {"relu": (net.z[k] > 0) * 1.0, "tanh": 1 - net.a[k] ** 2, "sigmoid": net.a[k] * (1 - net.a[k])}
        dz = changes.get(f"dz{k}", lambda x: x)(da * slope[net.activations[k - 1]])
        claims |= {f"da{k}": da, f"dz{k}": dz}
        claims[f"dW{k}"] = changes.get(f"dW{k}", lambda x: x)(net.a[k - 1].T @ dz)
        claims[f"db{k}"] = changes.get(f"db{k}", lambda x: x)(dz.sum(axis=0, keepdims=True))
    return claims


@pytest.mark.parametrize("names", [NAMES, ("dW", "db")], ids=" ".join)
@pytest.mark.parametrize(("factor", "number"), [("2", 2.0), ("-1", -1.0), ("1/2", 0.5), ("n", 7.0), ("1/n", 1 / 7)])
@pytest.mark.parametrize("quantity", ["dz3", "dz2", "dz1", "dW2", "db1"])
def test_a_factor_is_named_where_it_enters(quantity, factor, number, names):
    net, description, claims = network(reduction="sum")
    claims = wrong(net, claims, **{quantity: lambda x: number * x})
    report = audit_claims(**description, claims=only(claims, *names))
    assert found(report) == [(quantity, (int(quantity[-1]),), "factor", factor)]


def test_a_factor_is_found_on_gradients_of_1e_12_and_correct_ones_of_that_size_are_right():
    net, description, claims = network(reduction="sum")
    description["y"] = description["y"] * 0.0 + net.a[3] * (1 + 1e-12)
    net.backward(description["y"], net.a[3])
    claims = claims_of(net)
    assert 0 < np.abs(net.dz[3]).max() < 1e-11
    assert audit_claims(**description, claims=only(claims, "dz", "dW", "db")).ok is True
    claims["dW2"] = 2.0 * claims["dW2"]
    assert found(audit_claims(**description, claims=only(claims, "dz", "dW", "db"))) == [("dW2", (2,), "factor", "2")]


def test_float32_work_is_right_and_its_mistakes_are_found():
    _, description, claims = network()
    single = {key: value.astype(np.float32) for key, value in claims.items()}
    assert audit_claims(**description, claims=single).ok is True
    single["dW3"] = single["dW3"] * np.float32(2)
    assert found(audit_claims(**description, claims=single)) == [("dW3", (3,), "factor", "2")]


def test_what_is_odd_and_harmless_is_a_note():
    _, description, claims = network()
    claims["dz2"] = 2.0 * claims["dz2"]  # but dW2, db2 and what follows were made from the right one
    report = audit_claims(**description, claims=claims)
    assert report.ok is True
    assert any("harmless" in note for note in report.notes)


def test_weight_decay_is_an_extra_term_with_its_coefficient():
    net, description, claims = network()
    for k in (1, 2, 3):
        claims[f"dW{k}"] = claims[f"dW{k}"] + 0.01 * net.W[k]
    (cause,) = audit_claims(**description, claims=claims).causes
    assert (cause.quantity, cause.layers, cause.kind, cause.factor) == ("dW", (1, 2, 3), "extra-term", "0.01")


def test_a_wrong_shape_is_a_finding_and_the_rest_is_judged():
    _, description, claims = network()
    claims["dW2"] = claims["dW2"][:2]
    claims["db1"] = 2.0 * claims["db1"]
    report = audit_claims(**description, claims=claims)
    assert {(cause.quantity, cause.kind) for cause in report.causes} == {("dW2", "shape"), ("db1", "factor")}
    assert "expected (4, 3)" in next(c.message for c in report.causes if c.kind == "shape")


def test_a_nan_is_a_finding():
    _, description, claims = network()
    claims["dW2"][0, 0] = np.nan
    assert found(audit_claims(**description, claims=claims)) == [("dW2", (2,), "non-finite", None)]


def test_a_unit_at_its_kink_is_no_mistake():
    net = nn.by_hand.MLP([1, 1], ["relu"], "half_sse")
    W, b, X, y = [np.array([[1.0]])], [np.array([[0.0]])], np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]])
    net.W[1], net.b[1] = W[0], b[0]
    net.backward(y, net.forward(X))
    description = {"sizes": [1, 1], "activations": "relu", "loss": "half_sse", "W": W, "b": b, "X": X, "y": y}
    for slope in (0.0, 0.5, 1.0):
        dz = np.array([[slope * -0.5], [-1.0]])
        report = audit_claims(**description, claims={"dz1": dz, "dW1": X.T @ dz, "db1": dz.sum(axis=0)})
        assert report.ok is True
        assert any(note.startswith("kink: 1 unit") for note in report.notes)


def test_minus_the_gradient_is_right_for_descent_and_a_factor_otherwise():
    _, description, claims = network()
    claims = {key: -value for key, value in only(claims, "dW", "db").items()}
    assert audit_claims(**description, claims=claims, direction="descent").ok is True
    assert found(audit_claims(**description, claims=claims)) == [("dz3", (3,), "factor", "-1")]


def test_any_reduction_will_do_where_none_is_declared():
    _, description, claims = network(reduction="sum")
    description["reduction"] = None
    assert audit_claims(**description, claims=claims).ok is True


def test_nothing_claimed_is_undecidable():
    _, description, _ = network()
    report = audit_claims(**description, claims={})
    assert report.ok is None
    assert report.verdict == "undecidable"


def test_the_report_prints_by_hint_and_goes_to_json():
    net, description, claims = network(reduction="sum")
    report = audit_claims(**description, claims=wrong(net, claims, dz2=lambda x: 2 * x))
    where, what, fix = (report.text(hint) for hint in ("where", "what", "fix"))
    assert "dz2" in where
    assert "factor" not in where
    assert "carries a factor 2" in what
    assert "f'(z2)" not in what
    assert "dz2 = da2 * f'(z2)" in fix
    assert str(report) == fix
    plain = json.loads(json.dumps(report.to_dict()))
    assert (plain["ok"], plain["verdict"], plain["causes"][0]["factor"]) == (False, "wrong", "2")
    with pytest.raises(ValueError, match="hint is one of"):
        report.text("all")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"activations": ["relu"]}, ValueError, "1 names for 3 layers"),
        ({"activations": "swish"}, ValueError, "unknown activation 'swish'"),
        ({"loss": "hinge"}, ValueError, "unknown loss 'hinge'"),
        ({"reduction": "average"}, ValueError, "unknown reduction"),
        ({"layout": "rows"}, ValueError, "unknown layout"),
        ({"X": np.ones((7, 2))}, ValueError, r"X has the shape \(7, 2\), expected \(n, 3\)"),
        ({"y": np.ones((6, 2))}, ValueError, r"y has the shape \(6, 2\), expected \(7, 2\)"),
        ({"W": [np.ones((3, 4))]}, ValueError, "W is a list of 3 arrays"),
        ({"X": [["a"] * 3] * 7}, TypeError, "X holds"),
        ({"claims": {"dW4": 1.0}}, ValueError, "layers 1 to 3"),
        ({"claims": {"gradient": 1.0}}, ValueError, "'gradient' is no claim"),
        ({"direction": "up"}, ValueError, "unknown direction"),
    ],
)
def test_a_description_that_does_not_fit_is_an_error(change, error, match):
    _, description, claims = network()
    with pytest.raises(error, match=match):
        audit_claims(**{**description, "claims": claims, **change})


@pytest.mark.parametrize("names", [("dz", "dW", "db"), ("dW", "db")], ids=" ".join)
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_called_unexplained(seed, names):
    draw = np.random.RandomState(seed)
    net, description, claims = network((6, 9, 5, 3), n=20, seed=seed)
    claims = wrong(net, claims, dz2=lambda x: x * draw.rand(*x.shape))
    report = audit_claims(**description, claims=only(claims, *names))
    assert report.ok is False
    assert {cause.kind for cause in report.causes} == {"unexplained"}
