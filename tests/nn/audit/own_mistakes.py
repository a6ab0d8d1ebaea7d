"""Models whose activations and losses the doctor has no name for, with one mistake each in their backward pass.

The pass, its hooks and the mistakes are those of tests.nn.audit.mistakes; here are functions without a name with
their derivatives, mistakes within these, and a model in the tutorial's protocol around them. What the model's forward
pass runs is written for arrays and nodes alike. Two halves: one to develop on, one to report on.

`python -m tests.nn.audit.own_mistakes --half report --seeds 40 --correct 1000` prints a confusion matrix.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nn.audit.model import audit_model
from tests.nn.audit import mistakes
from tests.nn.audit.confusion import matrix, outcome_of
from tests.nn.audit.mistakes import MISTAKES, Bench, Instance, Mistake, Pass, Problem, claimed_names

HALVES = ("develop", "report")


def logistic(z):
    return 1 / (1 + np.exp(-z))


def half_dropped(z):
    """A mask as of dropout: a third of the elements 0, the others 3/2."""
    return np.where(np.arange(z.size).reshape(z.shape) % 3 == 1, 0.0, 1.5)


def gelu_inner(z):
    return 0.7978845608 * (z + 0.044715 * z**3)


def gelu_slope(z):
    t = np.tanh(gelu_inner(z))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * 0.7978845608 * (1 + 3 * 0.044715 * z**2)


ACTIVATIONS = {  # half: {name: (f, f', {a wrong f': its rule of z and a})}
    "develop": {
        "swish": (
            lambda z: z * logistic(z),
            lambda z: logistic(z) * (1 + z * (1 - logistic(z))),
            {"only the first term": lambda z, a: logistic(z), "only the second": lambda z, a: a * (1 - logistic(z))},
        ),
        "elu": (
            lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
            lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
            {"a below 0": lambda z, a: np.where(z > 0, 1, a)},
        ),
        "leaky": (
            lambda z: np.where(z > 0, z, 0.2 * z),
            lambda z: np.where(z > 0, 1, 0.2),
            {
                "another slope": lambda z, a: np.where(z > 0, 1, 0.05),
                "mask inverted": lambda z, a: np.where(z > 0, 0.2, 1),
            },
        ),
        "arctan": (np.arctan, lambda z: 1 / (1 + z * z), {"square missing": lambda z, a: 1 / (1 + abs(z))}),
        "dropped tanh": (
            lambda z: np.tanh(z) * half_dropped(z),
            lambda z: half_dropped(z) / np.cosh(z) ** 2,
            {"mask left out": lambda z, a: 1 / np.cosh(z) ** 2},
        ),
        "sine": (np.sin, np.cos, {"sign": lambda z, a: -np.cos(z)}),
    },
    "report": {
        "gelu": (
            lambda z: 0.5 * z * (1 + np.tanh(gelu_inner(z))),
            gelu_slope,
            {"only the first term": lambda z, a: 0.5 * (1 + np.tanh(gelu_inner(z)))},
        ),
        "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2,
                     {"square missing": lambda z, a: 1 / (1 + np.abs(z))}),
        "mish": (
            lambda z: z * np.tanh(np.log1p(np.exp(z))),
            lambda z: np.tanh(np.log1p(np.exp(z))) + z * logistic(z) / np.cosh(np.log1p(np.exp(z))) ** 2,
            {"only the first term": lambda z, a: np.tanh(np.log1p(np.exp(z)))},
        ),
        "scaled tanh": (
            lambda z: 1.7159 * np.tanh(2 / 3 * z),
            lambda z: 1.7159 * 2 / 3 / np.cosh(2 / 3 * z) ** 2,
            {"inner factor missing": lambda z, a: 1.7159 / np.cosh(2 / 3 * z) ** 2,
             "outer factor missing": lambda z, a: 2 / 3 / np.cosh(2 / 3 * z) ** 2},
        ),
        "gauss": (lambda z: np.exp(-(z**2)), lambda z: -2 * z * np.exp(-(z**2)),
                  {"sign missing": lambda z, a: 2 * z * a, "-2 z missing": lambda z, a: a}),
        "bent": (lambda z: (np.sqrt(z**2 + 1) - 1) / 2 + z, lambda z: z / (2 * np.sqrt(z**2 + 1)) + 1,
                 {"1 missing": lambda z, a: z / (2 * np.sqrt(z**2 + 1)),
                  "2 missing": lambda z, a: z / np.sqrt(z**2 + 1) + 1}),
        "prelu 0.3": (lambda z: np.maximum(0, z) + 0.3 * np.minimum(0, z), lambda z: np.where(z > 0, 1, 0.3),
                      {"relu's": lambda z, a: 1.0 * (z > 0), "mask inverted": lambda z, a: np.where(z > 0, 0.3, 1)}),
        "dropped relu": (lambda z: np.maximum(0, z) * half_dropped(z), lambda z: (z > 0) * half_dropped(z),
                         {"mask left out": lambda z, a: 1.0 * (z > 0)}),
    },
}  # fmt: skip

LOSSES = {  # half: {name: (terms, derivative, {a wrong derivative: its rule of y and yhat})}
    "develop": {
        "huber": (
            lambda y, p: np.where(np.abs(p - y) < 1, 0.5 * (p - y) ** 2, np.abs(p - y) - 0.5),
            lambda y, p: np.clip(p - y, -1, 1),
            {"not clipped": lambda y, p: p - y, "clipped at 1/2": lambda y, p: np.clip(p - y, -0.5, 0.5)},
        ),
        "logcosh": (lambda y, p: np.logaddexp(p - y, y - p) - np.log(2.0), lambda y, p: np.tanh(p - y),
                    {"not bent": lambda y, p: p - y}),
        "weighted": (lambda y, p: (1 + y**2) * (p - y) ** 2, lambda y, p: 2 * (1 + y**2) * (p - y),
                     {"weights left out": lambda y, p: 2 * (p - y)}),
    },
    "report": {
        "quartic": (lambda y, p: (p - y) ** 4, lambda y, p: 4 * (p - y) ** 3,
                    {"a square": lambda y, p: 4 * (p - y) ** 2}),
        "poisson": (lambda y, p: np.exp(p) - y * p, lambda y, p: np.exp(p) - y, {"p for exp(p)": lambda y, p: p - y}),
        "pinball": (lambda y, p: np.maximum(0.3 * (y - p), -0.7 * (y - p)), lambda y, p: np.where(y > p, -0.3, 0.7),
                    {"sides exchanged": lambda y, p: np.where(y > p, 0.7, -0.3)}),
        "pseudo huber": (lambda y, p: 4 * (np.sqrt(1 + ((p - y) / 2) ** 2) - 1),
                         lambda y, p: (p - y) / np.sqrt(1 + ((p - y) / 2) ** 2), {"not bent": lambda y, p: p - y}),
    },
}  # fmt: skip

OWN: dict[str, list[Mistake]] = {}
for _half in HALVES:
    OWN[_half] = []
    for _name, (_f, _slope, _wrong) in ACTIVATIONS[_half].items():
        mistakes.FUNCTIONS[_name] = lambda z, f=_f: f(z).astype(z.dtype)
        mistakes.AT_Z[_name] = lambda z, f=_slope: f(z).astype(z.dtype)
        for _what, _rule in _wrong.items():
            OWN[_half].append(Mistake(
                f"{_what} ({_name})", "dz", "activation-derivative", None,
                lambda s, k, right, rule=_rule: (s.da[k] * rule(s.z[k], s.a[k])).astype(right.dtype),
                lambda s, k, name=_name: s.name(k) == name,
            ))  # fmt: skip
    for _name, (_terms, _slope, _wrong) in LOSSES[_half].items():
        mistakes.LOSS_TERMS[_name], mistakes.LOSS_DERIVATIVES[_name] = _terms, _slope
        for _what, _rule in _wrong.items():
            OWN[_half].append(Mistake(
                f"{_what} ({_name})", "dyhat", "loss-derivative", None,
                lambda s, k, right, rule=_rule: rule(s.y, s.a[k]).astype(right.dtype),
                lambda s, k, name=_name: s.p.loss == name, also=("clipped",),
            ))  # fmt: skip
    # a wrong rule for f that many write: the function for its derivative
    OWN[_half].append(Mistake(
        "the function for its derivative", "dz", "activation-derivative", None,
        lambda s, k, right: (s.da[k] * s.a[k]).astype(right.dtype),
        lambda s, k, half=_half: s.name(k) in ACTIVATIONS[half],
    ))  # fmt: skip
    OWN[_half].append(Mistake(
        "absolute value", "dyhat", "loss-derivative", None, lambda s, k, right: np.abs(right),
        lambda s, k, half=_half: s.p.loss in LOSSES[half], also=("operand",),
    ))  # fmt: skip


class Model:
    """A network in the protocol whose backward pass returns claims that were made before."""

    def __init__(self, problem: Problem, claims: dict[str, Any]) -> None:
        turn = np.transpose if problem.layout == "column" else np.asarray
        self.W = [None, *(np.array(turn(w)) for w in problem.W[1:])]
        self.b = [None, *(np.array(turn(bias)) for bias in problem.b[1:])]
        self.kinds = [_forward(name) for name in problem.activations]
        self.columns, self.claims = problem.layout == "column", claims

    def forward(self, X):
        a = X
        for W, b, f in zip(self.W[1:], self.b[1:], self.kinds, strict=True):
            a = f((W @ a + b).T).T if self.columns else f(a @ W + b)
        return a

    def backward(self, y, yhat):
        return self.claims


def _forward(name: str) -> Callable[[Any], Any]:
    for half in HALVES:
        if name in ACTIVATIONS[half]:
            return ACTIVATIONS[half][name][0]
    return {
        "relu": lambda z: np.maximum(0, z), "tanh": np.tanh, "sigmoid": logistic, "identity": lambda z: z,
        "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z), "softplus": lambda z: np.logaddexp(0, z),
        "softmax": lambda z: np.exp(z - z.max(axis=1, keepdims=True))
        / np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True),
    }[name]  # fmt: skip


def problem_of(seed: int, half: str, regime: str = "plain") -> Problem:
    """A random problem with an activation or a loss that has no name, or both."""
    rng = np.random.default_rng([30, seed])
    problem = mistakes.random_problem(seed, regime)
    names, losses = list(ACTIVATIONS[half]), list(LOSSES[half])
    own = [name if rng.random() < 0.4 else str(rng.choice(names)) for name in problem.activations[:-1]]
    last, loss, y, reduction = problem.activations[-1], problem.loss, problem.y, problem.reduction
    if all(name not in names for name in own) or rng.random() < 0.5:
        loss = str(rng.choice(losses))
        last = str(rng.choice(["identity", "tanh", *names]))
        y = rng.standard_normal(y.shape).astype(y.dtype)
        reduction = str(rng.choice(["sum", "mean", "mean_elements"]))
    if loss == "mse":
        reduction = "mean_elements"
    problem = replace(
        problem, activations=(*own, last), loss=loss, y=y, reduction=reduction, with_a=False, previous=None,
        learning_rate=None, combined=False, scaled_at="dyhat",
    )  # fmt: skip
    ways = problem.conventions()
    return ways[int(rng.integers(len(ways)))]


def audited(problem: Problem, claims: dict[str, Any]) -> Any:
    """The Report of audit_model on a model with these claims."""
    terms, units = mistakes.LOSS_TERMS[problem.loss], (0 if problem.layout == "column" else 1)
    count = problem.count

    def loss(y, yhat):
        return terms(y, yhat).sum() / count

    if problem.loss in ("bce", "ce"):  # log1p of nodes is as good, but for 0 * log(0)
        loss = problem.loss
    elif problem.reduction != "sum":

        def loss(y, yhat):
            found = terms(y, yhat)
            return found.mean() if problem.count != problem.n else found.sum() / y.shape[1 - units]

    given = problem.arguments()
    return audit_model(Model(problem, claims), given["X"], given["y"], loss,
                       reduction=problem.reduction if isinstance(loss, str) else None)  # fmt: skip


def outcome(instance: Instance) -> tuple[str, str]:
    """As tests.nn.audit.confusion.outcome_of."""
    return outcome_of(instance, lambda claims, **_: audited(instance.problem, claims))


def singles(half: str, seeds: Sequence[int], mode: str, per_seed: int) -> list[Instance]:
    """Single mistakes on random models."""
    table = [m for m in MISTAKES if m.step not in ("z", "a") and "previous" not in m.name] + 6 * OWN[half]
    found = []
    for seed in seeds:
        rng = np.random.default_rng([31, seed])
        bench = Bench(problem_of(seed, half, "tiny" if seed % 10 == 9 else "plain"), table)
        seen = set()
        for instance in bench.instances(rng, 2 * per_seed, mode):
            key = instance.mistakes[0].name, instance.layers
            if key not in seen and len(seen) < per_seed:
                seen.add(key)
                found.append(instance)
    return found


def correct(seed: int, half: str) -> Instance | None:
    """A model without a mistake; None where its numbers overflow."""
    rng = np.random.default_rng([32, seed])
    problem = problem_of(seed, half, str(rng.choice(mistakes.REGIMES)))
    mode = str(rng.choice(["backward", "parameters"]))
    with np.errstate(all="ignore"):
        claims = Pass(problem).claims()
    if not all(np.isfinite(claim).all() for claim in claims.values()):
        return None
    names = claimed_names(list(claims), mode)
    return Instance(problem, (), (), mode, {name: claims[name] for name in names})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, default="develop")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--per-seed", type=int, default=8)
    parser.add_argument("--correct", type=int, default=200)
    parser.add_argument("--list", type=int, default=0)
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    for mode in ("backward", "parameters"):
        instances = singles(options.half, seeds, mode, options.per_seed)
        print(matrix(f"{options.half}, {mode}", instances, options.list, outcome), flush=True)
    counts: dict[str, int] = {}
    for seed in range(options.first, options.first + options.correct):
        instance = correct(seed, options.half)
        came, said = ("skipped", "") if instance is None else outcome(instance)
        counts[came] = counts.get(came, 0) + 1
        if came not in ("right", "skipped"):
            print(f"    {came}: {instance} -> {said}")
    print(f"correct models: {counts}", flush=True)


if __name__ == "__main__":
    main()
