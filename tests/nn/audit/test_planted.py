"""A table of planted mistakes, each named alone: those with a number of their own, and those with odd operands."""

import numpy as np
import pytest

from nn.audit import audit_claims
from tests.nn.audit.test_diagnosis import NAMES, found, network, only, wrong

BACKWARD = ("da", "dz", "dW", "db")
EVERY = (NAMES, BACKWARD, ("dz", "dW", "db"), ("dW", "db"))
TOLD = EVERY[:2]  # where da is claimed


def replaced(x, rows, value):
    x = x.copy()
    x[rows] = value
    return x


def rescaled(x, norm):
    return x * norm / np.linalg.norm(x)


# what is changed, with the network at hand; the quantity and kind expected; what the message says; for which claims
PLANTED = {
    "clipped elements": ("dW2", lambda net, x: np.clip(x, -0.01, 0.01), "dW2", "clipped", "at 0.01", EVERY),
    "one side clipped": ("dW2", lambda net, x: np.maximum(x, 0.0), "dW2", "clipped", "negative", EVERY),
    "a norm": ("dW1", lambda net, x: rescaled(x, 0.5), "dW1", "clipped", "norm is brought to 0.5", EVERY),
    "clipped dz": ("dz2", lambda net, x: np.clip(x, -0.005, 0.005), "dz2", "clipped", "at 0.005", EVERY),
    "each sample's norm": (
        "dz2", lambda net, x: x * np.minimum(1, 0.01 / np.linalg.norm(x, axis=1, keepdims=True)),
        "dz2", "clipped", "each sample is clipped at 0.01", EVERY[:3]),
    "a sample left out": ("dW2", lambda net, x: x - net.a[1][3:4].T @ net.dz[2][3:4], "dW2", "batch-sum",
                          "sample 4 of 7 is left out", EVERY),
    "a sample twice": ("dW1", lambda net, x: x + net.a[0][6:].T @ net.dz[1][6:], "dW1", "batch-sum",
                       "sample 7 of 7 counts twice", EVERY),
    "a sample of dz lost": ("dz3", lambda net, x: replaced(x, 2, 0.0), "dz3", "batch-sum", "sample 3", EVERY),
    "a child left out": ("da1", lambda net, x: net.dz[2][:, [0, 2]] @ net.W[2][:, [0, 2]].T, "da1", "child-sum",
                         "child 2 of 3 is left out", TOLD),
    "a child's sign": ("da1", lambda net, x: (net.dz[2] * [1, 1, -1]) @ net.W[2].T, "da1", "child-sum",
                       "child 3 of 3 enters with the wrong sign", TOLD),
    "shares": ("da2", lambda net, x: net.dz[3] @ (net.W[3] / net.W[3].sum(axis=0)).T, "da2", "child-sum", "shares",
               TOLD),
    "positive weights": ("da1", lambda net, x: net.dz[2] @ np.maximum(net.W[2], 0).T, "da1", "child-sum", "positive",
                         TOLD),
    "decay": ("dW1", lambda net, x: x - 0.05 * net.W[1], "dW1", "extra-term", "-0.05 W1", EVERY),
    "activity penalty": ("da2", lambda net, x: x + 0.1 * net.a[2], "da2", "extra-term", "0.1 a2", TOLD),
    "momentum": ("dW2", lambda net, x: 0.1 * x + 0.9 * PREVIOUS.dW[2], "dW2", "extra-term", "0.9 times the gradient",
                 EVERY),
    "updated weights": ("da1", lambda net, x: net.dz[2] @ (net.W[2] - 0.3 * net.dW[2]).T, "da1", "operand",
                        "learning rate of 0.3", TOLD),
    "guided": ("dz1", lambda net, x: np.where(net.da[1] > 0, x, 0.0), "dz1", "activation-derivative",
               "negative elements of da1", TOLD),
    "divided": ("dz2", lambda net, x: net.da[2] / (1 - net.a[2] ** 2), "dz2", "activation-derivative", "divided",
                EVERY[:3]),
    "without the bias": ("dz2", lambda net, x: net.da[2] / np.cosh(net.z[2] - net.b[2]) ** 2, "dz2",
                         "activation-derivative", "without the bias", EVERY[:3]),
    "yhat clipped": ("da3", lambda net, x: by_loss(net, np.clip(net.a[3], 0.2, 0.8)), "da3", "loss-derivative",
                     "clipped to 0.2", TOLD),
    "the loss itself": ("da3", lambda net, x: -(Y * np.log(net.a[3]) + (1 - Y) * np.log(1 - net.a[3])) / 7, "da3",
                        "loss-derivative", "the loss itself", TOLD),
    "another row": ("db2", lambda net, x: net.dW[2][:1], "db2", "axis", "first row", EVERY),
    "activations in db": ("db1", lambda net, x: net.a[1].sum(axis=0, keepdims=True), "db1", "operand", "a1 stands",
                          EVERY),
    "transposed": ("dW2", lambda net, x: x.T, "dW2", "transposed", "dW2 is transposed", EVERY),
}  # fmt: skip

NET, DESCRIPTION, CLAIMS = network(seed=8)
Y = DESCRIPTION["y"]
PREVIOUS, BEFORE, _ = network(seed=5)
PREVIOUS.W, PREVIOUS.b = NET.W, NET.b
PREVIOUS.backward(BEFORE["y"], PREVIOUS.forward(BEFORE["X"]))


def by_loss(net, yhat):
    return (yhat - Y) / (yhat * (1 - yhat)) / 7


@pytest.mark.parametrize("layout", ["row", "column"])
@pytest.mark.parametrize(("name", "names"), [(name, names) for name, row in PLANTED.items() for names in row[-1]])
def test_a_planted_mistake_is_the_one_cause(name, names, layout):
    changed, change, quantity, kind, said, _ = PLANTED[name]
    claims = only(wrong(NET, CLAIMS, **{changed: lambda x: change(NET, x)}), *names)
    given = {**DESCRIPTION, "previous": (BEFORE["X"], BEFORE["y"])}
    if layout == "column":
        turn = lambda x: None if x is None else x.T  # noqa: E731
        claims = {key: value.T for key, value in claims.items()}
        given |= {key: [turn(x) for x in given[key]] for key in ("W", "b")}
        given |= {"X": given["X"].T, "y": Y.T, "previous": (BEFORE["X"].T, BEFORE["y"].T), "layout": "column"}
        said = said.replace("row", "column")
    report = audit_claims(**given, claims=claims)
    assert [(cause.quantity, cause.kind) for cause in report.causes] == [(quantity, kind)], str(report)
    assert said in report.causes[0].message


# ---------------------------------------------------------------- one rule, one cause
def test_one_rule_in_several_layers_is_told_layer_by_layer_where_the_numbers_differ():
    claims = {key: rescaled(x, 0.1 * int(key[-1])) if key[:2] == "dW" else x for key, x in CLAIMS.items()}
    (cause,) = audit_claims(**DESCRIPTION, claims=claims).causes
    assert (cause.quantity, cause.layers, cause.kind) == ("dW", (1, 2, 3), "clipped")
    assert "0.1 (layer 1)" in cause.message
    assert "0.3 (layer 3)" in cause.message


def test_a_clip_of_all_gradients_is_one_cause():
    claims = {key: np.clip(x, -0.02, 0.02) if key[0:2] in ("dW", "db") else x for key, x in CLAIMS.items()}
    (cause,) = audit_claims(**DESCRIPTION, claims=claims).causes
    assert (cause.quantity, cause.layer, cause.kind, cause.factor) == ("dW", None, "clipped", "0.02")


def test_a_common_norm_of_all_gradients_is_one_cause():
    parameters = only(CLAIMS, "dW", "db")
    norm = np.sqrt(sum((x**2).sum() for x in parameters.values()))
    (cause,) = audit_claims(**DESCRIPTION, claims={k: 0.25 / norm * x for k, x in parameters.items()}).causes
    assert (cause.layers, cause.kind, cause.factor) == ((1, 2, 3), "clipped", "0.25")
    assert "all gradients together" in cause.message


def test_a_rule_in_da_is_one_cause_though_only_some_da_are_claimed():
    claims = wrong(NET, CLAIMS, da1=lambda x: 1.5 * x, da2=lambda x: 1.5 * x)
    del claims["da1"]
    assert found(audit_claims(**DESCRIPTION, claims=claims)) == [("da", (1, 2), "factor", "1.5")]


@pytest.mark.parametrize("names", [("dz", "dW", "db"), ("dW", "db")], ids=" ".join)
def test_two_mistakes_in_one_layer_are_both_named(names):
    claims = wrong(NET, CLAIMS, da2=lambda x: NET.dz[3] @ np.abs(NET.W[3]).T, dz2=lambda x: -x)
    causes = audit_claims(**DESCRIPTION, claims=only(claims, *names)).causes
    assert [(cause.quantity, cause.kind) for cause in causes] == [("dz2", "child-sum"), ("dz2", "factor")]


@pytest.mark.parametrize("names", [BACKWARD, ("dz", "dW", "db"), ("dW", "db")], ids=" ".join)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_mistake_of_the_forward_pass_is_found_where_1_over_n_enters_anywhere(place, names):
    net, description, _ = network(seed=8)
    net.b[2] = 0.0 * net.b[2]
    net.forward(description["X"])
    net.backward(Y, net.a[3])
    description["b"] = NET.b
    claims = {f"{q}{k}": getattr(net, q)[k] for k in (1, 2, 3) for q in BACKWARD}
    for key in claims:
        later = {"da": 0 if key == "da3" else 1, "dz": 1, "dW": 2, "db": 2}[key[:2]]
        claims[key] = claims[key] * (7 if later < place else 1)
    (cause,) = audit_claims(**description, claims=only(claims, *names)).causes
    assert (cause.quantity, cause.kind) == ("z2", "forward")


# ---------------------------------------------------------------- what is shown
def test_a_report_is_shown_in_notebooks_and_names_run_no_markup():
    report = audit_claims(**DESCRIPTION, claims={**CLAIMS, "dW2": 2.0 * CLAIMS["dW2"], "db1": CLAIMS["db1"][:, :2]})
    html, markdown = report._repr_html_(), report._repr_markdown_()
    for text in (html, markdown):
        assert "dW2" in text
        assert "factor 2" in text
        assert "inherits" not in text or report.inherited
    assert html.count("<li") == markdown.count("- **") == len(report.causes) == 2
    assert "<" not in markdown.replace("\\<", "")
    assert "a1^T dz2" in html
