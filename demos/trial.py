"""The document on trial: the doctor is given the tutorial's own formulas and code, and names each mistake once.

Nothing here computes a gradient to compare with: formulas go to `nn.audit.check_formula` as they are printed,
functions to `check_derivative`, and what the published code computes on its own data at its first step to
`audit_claims` and `audit_model`. Ids as in the list of errata. What the tutorial has right, and what is mended, goes
through the same doctor and must come out free.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import nn.losses as losses
from demos.circles import ACTIVATIONS, SIZES, data
from demos.stage import Stage, main
from nn.audit import Report, audit_claims, audit_model, check_derivative, check_formula
from nn.by_hand import MLP, PUBLISHED_ACTIVATIONS, PUBLISHED_LOSS

ELEMENTWISE = "f acts elementwise (not softmax)"
MATRIX = "f gives an array of the shape (3, 3) for 3 outputs: no loss"  # one output would hide it


def average_cross_entropy(y: Any, yhat: Any) -> Any:
    """What the published code returns for the average of the cross entropy."""
    return PUBLISHED_LOSS.terms(y, yhat)


def mean_loss(y: Any, yhat: Any) -> Any:
    """The average of the cross entropy over the samples, as it was meant."""
    return losses.bce(y, yhat, "mean")


def sum_loss(y: Any, yhat: Any) -> Any:
    """Its sum over the samples, which is what the code trains on."""
    return losses.bce(y, yhat, "sum")


def claims_of(net: MLP) -> dict[str, Any]:
    """{"z1": array, ...}: all that a forward and a backward pass leave behind."""
    lists = {"z": net.z, "a": net.a, "da": net.da, "dz": net.dz, "dW": net.dW, "db": net.db}
    return {f"{name}{k}": arrays[k] for name, arrays in lists.items() for k in range(1, len(SIZES))}


def named(report: Report) -> list[str]:
    """The causes in short: quantity, layers where there are several, kind, factor."""
    return [
        " ".join(filter(None, (c.quantity, ",".join(map(str, c.layers)) if c.layer is None else "", c.kind, c.factor)))
        for c in report.causes
    ]


def show(stage: Stage, ids: str, claim: str, report: Report) -> None:
    """The claim, and what the doctor says of it."""
    stage.say(f"{ids}  {claim}")
    stage.say("".join(f"    {line}\n" for line in str(report).splitlines()))


def run(stage: Stage) -> None:
    formulas(stage)
    functions(stage)
    code(stage)


def formulas(stage: Stage) -> None:
    stage.say("Formulas, as they are printed\n")
    claim = "dL/dyhat = 2 (y - yhat)"
    report = check_formula(claim, loss="sse")
    show(stage, "A1", f"{claim}, for the squared error", report)
    stage.equal("A1", named(report), ["da factor -1"])
    mended = [check_formula("dL/dyhat = 2 (yhat - y)", loss="sse")]

    claim = "dL/dW_k = (dL/dz_k)^T a_k"
    for layout, expected in (("column", "dL/dW_k = dL/dz_k a_{k-1}^T"), ("row", "dL/dW_k = a_{k-1}^T dL/dz_k")):
        report = check_formula(claim, layout=layout)
        show(stage, "\nA2", f"{claim}, with samples in {layout}s", report)
        stage.equal(f"A2-{layout}", named(report), ["dW operand", "dW transposed"])
        stage.equal(f"A2-{layout}-mended", sorted({str(cause.expected) for cause in report.causes}), [expected])
        mended.append(check_formula(expected, layout=layout))

    claim = "dL/dz_k = dL/da_k * f'(z_k)"
    report = check_formula(claim)
    show(stage, "\nB5", claim, report)
    stage.equal("B5", [report.answer, report.context["condition"]], ["conditional", ELEMENTWISE])
    softmax = check_formula(claim, activation="softmax")
    stage.equal("B5-softmax", [*named(report), softmax.verdict], ["dz softmax-jacobian", "wrong"])
    mended.append(check_formula(claim, activation="sigmoid"))
    mended.append(check_formula("dL/da_{k-1} = W_k^T dL/dz_k"))  # never was wrong
    stage.equal("formulas-mended", [report.verdict for report in mended], ["right"] * len(mended))


def functions(stage: Stage) -> None:
    stage.say("\nFunctions of the code, each alone\n")
    sigmoid = PUBLISHED_ACTIVATIONS["sigmoid"]
    report = check_derivative(sigmoid.derivative, sigmoid.f)
    show(stage, "A3", "the derivative of the sigmoid, against the sigmoid of the same code", report)
    stage.equal("A3", named(report), ["derivative factor 2"])

    report = check_derivative(PUBLISHED_LOSS.derivative, mean_loss)
    show(stage, "\nA6", "dL/dyhat of the average of the cross entropy", report)
    stage.equal("A6", named(report), ["derivative factor n"])
    free = check_derivative(PUBLISHED_LOSS.derivative, sum_loss)  # the same function, for the sum
    stage.equal("A6-sum", [free.verdict, *(note for note in free.notes if "shape" in note)], ["right"])

    report = check_derivative(PUBLISHED_LOSS.derivative, average_cross_entropy)
    show(stage, "\nA7", "dL/dyhat of the loss of the same code", report)
    stage.equal("A7", [note for note in report.notes if "shape" in note], [MATRIX])

    relu = PUBLISHED_ACTIVATIONS["relu"]
    mended = [
        check_derivative(lambda z: sigmoid.derivative(z) / 2, sigmoid.f),
        check_derivative(lambda y, yhat: PUBLISHED_LOSS.derivative(y, yhat) / len(y), mean_loss),
        check_derivative(relu.derivative, relu.f),  # never was wrong: relu'(0) = 0 is a convention
    ]
    stage.equal("functions-mended", [report.verdict for report in mended], ["right"] * len(mended))


def code(stage: Stage) -> None:
    stage.say("\nThe code, on its own 1000 samples, at its first step\n")
    X, y = data()
    net = MLP(SIZES, ACTIVATIONS, "bce", as_published=True).initialize("document", seed=42)
    yhat = net.forward(X)
    net.backward(y)
    described: dict[str, Any] = {"sizes": SIZES, "activations": ACTIVATIONS, "loss": "bce", "X": X, "y": y}
    report = audit_claims(**described, W=net.W, b=net.b, reduction="sum", claims=claims_of(net))
    show(stage, "A3, A4", "z, a, da, dz, dW, db of all layers, for the sum of the cross entropy", report)
    expected = ["dz3 factor 2", "db 1,2,3 factor 1/n"]
    stage.equal("A4", named(report), expected)
    stage.equal("A4-inherited", sorted(report.inherited), ["dW1", "dW2", "dW3", "da1", "da2", "dz1", "dz2"])
    own = sorted(set(claims_of(net)) - set(report.right))
    stage.equal("A4-rest", own, ["db1", "db2", "db3", "dz3"])

    report = audit_model(net, X, y, average_cross_entropy)
    stage.equal("A5-model", named(report), expected)
    claimed, meant = np.asarray(average_cross_entropy(y, yhat)).item(), float(mean_loss(y, yhat))
    stage.say(f"\nA5  the loss that calls itself an average: {claimed:.8g}, the average is {meant:.8g}")
    stage.say("".join(f"    note: {note}\n" for note in report.notes))
    note = "the loss average_cross_entropy is called an average, but it is a sum over the samples, not divided by"
    stage.equal("A5", [found for found in report.notes if "average" in found], [f"{note} their number"])
    stage.close("A5-loss", claimed / meant, len(X), 1e-12, "sums of 1000 terms, in another order")

    right = MLP(SIZES, ACTIVATIONS, "bce").initialize("document", seed=42)
    right.forward(X)
    right.backward(y)
    report = audit_claims(**described, W=right.W, b=right.b, reduction="mean", claims=claims_of(right))
    stage.equal("code-mended", [report.verdict, *named(report)], ["right"])
    report = audit_model(right, X, y, mean_loss)
    stage.equal("model-mended", [report.verdict, *named(report)], ["right"])


if __name__ == "__main__":
    raise SystemExit(main(["trial"]))
