"""The total derivative and the total differential of f(t(x), u(x), v(x)).

f depends on x in three ways, so df/dx is the sum of three terms. The total differential turns the partial
derivatives into a prediction: how much f changes for small steps in t, u and v, with an error of second order.
"""

from __future__ import annotations

import cmath

import autodiff as ad
from demos.stage import Stage, main

X = 0.7  # where we look
STEP = (0.02, -0.01, 0.03)  # small changes of t, u, v


def f(t, u, v):
    return t * u + ad.exp(-u) * v**2


def run(stage: Stage) -> None:
    x = ad.Value(X, name="x")
    t, u, v = x**2, ad.exp(-x), ad.tanh(x)
    t.name, u.name, v.name = "t", "u", "v"
    y = f(t, u, v)
    y.name = "f"
    y.backward()

    stage.say("f(t, u, v) = t u + exp(-u) v^2 with t = x^2, u = exp(-x), v = tanh(x), at x = 0.7\n")
    receipt = ad.total_derivative(y, x, through=[t, u, v])
    stage.say(str(receipt))
    stage.say("\nWhy dt/dx is what it is, and where u enters f (twice):\n")
    stage.say(str(ad.total_derivative(t, x)))
    stage.say(str(ad.total_derivative(y, u)))

    # Outside the engine: f again in complex numbers, and the imaginary part of a step of 1e-30 i (Squire and Trapp).
    z = complex(X, 1e-30)
    u_z = cmath.exp(-z)
    by_complex_step = (z**2 * u_z + cmath.exp(-u_z) * cmath.tanh(z) ** 2).imag / 1e-30
    ways = ad.paths(y, x)
    stage.table(
        ["df/dx", "value"],
        [
            ("sum over t, u, v", receipt.total),
            ("sum over the child edges of x", ad.total_derivative(y, x).total),
            (f"sum over all {len(ways)} paths", sum(path.product for path in ways)),
            ("backward pass, x.grad", x.grad),
            ("complex step, without the engine", by_complex_step),
        ],
    )
    rounding = "a few roundings"
    stage.close("terms", receipt.total, by_complex_step, 1e-14, rounding)
    stage.close("child-edges", ad.total_derivative(y, x).total, by_complex_step, 1e-14, rounding)
    stage.close("paths", sum(path.product for path in ways), by_complex_step, 1e-14, rounding)
    stage.close("backward", x.grad, by_complex_step, 1e-14, rounding)

    differential = ad.total_differential(f, at=(t.item(), u.item(), v.item()), step=STEP)
    stage.say(f"\n{differential}\n")
    rows = [
        (f"1/{2**k}", abs(remainder), "" if k == 0 else abs(differential.remainders[k - 1] / remainder))
        for k, remainder in enumerate(differential.remainders)
    ]
    stage.table(
        ["step", "|remainder|", "shrinks by"], rows, caption="Half the step, a quarter of the remainder: second order"
    )
    predicted, actual = differential.predicted, differential.actual
    stage.close("prediction", predicted, actual, 0.05, "first order, for steps of a few percent")
    stage.close("order", differential.order, 2.0, 0.05, "what comes after second order is of the size of the step")
    ad.Graph(y).save(stage.path("total_derivative.svg"), title="f(t(x), u(x), v(x))")


if __name__ == "__main__":
    raise SystemExit(main(["total_derivative"]))
