"""Backward passes with one mistake each, as data: what the doctor is developed and judged against.

A pass of its own in plain NumPy, sharing nothing with nn.by_hand, has a hook at every step; a mistake is a row of
MISTAKES that replaces the rule of one step. Everything is computed in the row layout and transposed at the end.

Glossary (k is the layer, 1..L; lists have None at [0] unless it means something):
    n, m             samples, outputs
    z, a, W, b, X, y as in nn.by_hand; a[0] is X
    da, dz, dW, db   the claimed gradients; da[L] is dL/dyhat
    step             which rule: "z", "a", "dyhat", "da", "dz", "dW", "db", or "parameters" (dW and db of all layers)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

LEAKY = 0.01
MODES = ("all", "backward", "parameters")  # which families are claimed: see claimed_names
STEPS = ("z", "a", "dyhat", "da", "dz", "dW", "db")


# ---------------------------------------------------------------- functions and derivatives
def sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e)).astype(z.dtype)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


FUNCTIONS = {
    "relu": lambda z: z * (z > 0),
    "leaky_relu": lambda z: np.where(z > 0, z, z.dtype.type(LEAKY) * z),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": lambda z: np.logaddexp(z.dtype.type(0), z),
    "identity": lambda z: +z,
    "softmax": softmax,
}
AT_Z = {
    "relu": lambda z: (z > 0).astype(z.dtype),
    "leaky_relu": lambda z: np.where(z > 0, 1, LEAKY).astype(z.dtype),
    "tanh": lambda z: (1 / np.cosh(np.clip(z, -40, 40))) ** 2,
    "sigmoid": lambda z: sigmoid(z) * sigmoid(-z),
    "softplus": sigmoid,
    "identity": np.ones_like,
}
# the same derivatives written with a; softplus' = 1 - exp(-a)
AT_A = AT_Z | {
    "tanh": lambda a: 1 - a * a,
    "sigmoid": lambda a: a * (1 - a),
    "softplus": lambda a: -np.expm1(-a),
}
LOSS_DERIVATIVES = {
    "sse": lambda y, yhat: 2 * (yhat - y),
    "mse": lambda y, yhat: 2 * (yhat - y),
    "half_sse": lambda y, yhat: yhat - y,
    "bce": lambda y, yhat: (1 - y) / (1 - yhat) - y / yhat,
    "ce": lambda y, yhat: -y / yhat,
}
LOSS_TERMS = {
    "sse": lambda y, yhat: (yhat - y) ** 2,
    "mse": lambda y, yhat: (yhat - y) ** 2,
    "half_sse": lambda y, yhat: (yhat - y) ** 2 / 2,
    "bce": lambda y, yhat: -y * np.log(yhat) - (1 - y) * np.log1p(-yhat),
    "ce": lambda y, yhat: -y * np.log(yhat),
}


# ---------------------------------------------------------------- problems
@dataclass(frozen=True)
class Problem:
    """A network, a batch, and how somebody writes its backward pass: all the choices that are legal."""

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    loss: str
    reduction: str
    layout: str
    W: list[Any]
    b: list[Any]
    X: Any
    y: Any
    previous: tuple[Any, Any] | None = None
    learning_rate: float | None = None
    scaled_at: str = "dyhat"  # where 1/n enters: "dyhat", "dz" (of the last layer), "parameters"
    combined: bool = False  # dz_L = yhat - y in one step, da_L is never computed
    with_a: bool = False  # derivatives written with a, as s(1 - s)
    looped: bool = False  # dW and db are added up sample by sample
    number: float = 3.0  # what the mistakes draw from: a factor, a weight decay, an epsilon, a slope
    decay: float = 0.01
    epsilon: float = 0.01
    slope: float = 0.2
    seed: int = 0

    @property
    def L(self) -> int:
        return len(self.activations)

    @property
    def n(self) -> int:
        return len(self.X)

    @property
    def m(self) -> int:
        return self.sizes[-1]

    @property
    def count(self) -> int:
        """What the sum over samples and outputs is divided by."""
        mean_elements = self.reduction == "mean_elements" or self.loss == "mse"
        return 1 if self.reduction == "sum" and not mean_elements else self.n * self.m if mean_elements else self.n

    @property
    def can_combine(self) -> bool:
        return (self.activations[-1], self.loss) in {("sigmoid", "bce"), ("softmax", "ce")}

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of audit_claims, but for the claims, in the layout of the problem."""
        turn = np.transpose if self.layout == "column" else np.asarray
        return {
            "sizes": list(self.sizes), "activations": list(self.activations), "loss": self.loss,
            "reduction": self.reduction, "layout": self.layout,
            "W": [None, *map(turn, self.W[1:])], "b": [None, *map(turn, self.b[1:])],
            "X": turn(self.X), "y": turn(self.y),
            "previous": None if self.previous is None else tuple(map(turn, self.previous)),
            "learning_rate": self.learning_rate,
        }  # fmt: skip

    def conventions(self) -> list[Problem]:
        """The same problem with 1/n at every legal place, with and without the combined step."""
        places = ("dyhat", "dz", "parameters") if self.count > 1 else ("dyhat",)
        ways = (False, True) if self.can_combine else (False,)
        return [
            replace(self, scaled_at=place, combined=way)
            for way in ways
            for place in places
            if not (way and place == "dyhat" and self.count > 1)  # without da_L the first place is dz_L
        ]


HIDDEN = ("relu", "relu", "tanh", "sigmoid", "leaky_relu", "softplus", "identity", "softmax")


def random_problem(seed: int, regime: str = "plain") -> Problem:
    """A problem drawn from the seed; regime: "plain", "tiny" (gradients near 1e-12), "saturated", "dead" units."""
    rng = np.random.default_rng([20, seed])
    L = int(rng.integers(2, 5))
    sizes = rng.integers(1, 7, L + 1)
    if rng.random() < 0.4:  # equal widths: square matrices hide a transposition's shape
        sizes[:] = rng.integers(2, 6)
    elif rng.random() < 0.3:
        sizes = rng.permutation(6)[: L + 1] + 1
    activations = [str(rng.choice(HIDDEN)) for _ in range(L)]
    head = rng.random()
    if head < 0.3:
        activations[-1], loss = "sigmoid", "bce"
    elif head < 0.6:
        activations[-1], loss = "softmax", "ce"
    else:
        activations[-1] = str(rng.choice(["identity", "identity", *HIDDEN]))
        loss = str(rng.choice(["sse", "half_sse", "mse"]))
    if regime == "dead":
        activations[0] = "relu"
    for k in range(1, L + 1):
        if activations[k - 1] == "softmax":
            sizes[k] = max(2, sizes[k])
    n = int(rng.integers(1, 13)) if rng.random() < 0.85 else int(sizes[rng.integers(1, L + 1)])
    reduction = str(rng.choice(["sum", "mean", "mean", "mean_elements"]))
    if loss == "mse":
        reduction = "mean_elements"
    dtype = np.float32 if rng.random() < 0.25 else np.float64
    gain = {"plain": 1.0, "tiny": 1.0, "saturated": 12.0, "dead": 1.0}[regime]

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    for _ in range(50):  # until relu units are both on and off
        W = [None] + [
            draw(fan_in, fan_out) * dtype(gain * 1.4 / np.sqrt(fan_in)) for fan_in, fan_out in pairwise(sizes)
        ]
        b = [None] + [dtype(0.4) * draw(1, width) + dtype(0.1) for width in sizes[1:]]
        X = draw(n, sizes[0])
        if regime == "dead":
            b[1][:, : max(1, sizes[1] // 2)] = -50
        if regime == "tiny":
            W[L] = W[L] * dtype(1e-6)
            W[max(1, L - 1)] = W[max(1, L - 1)] * dtype(1e-6)
        if n == 1 or regime != "plain" or _both_sides(activations, W, b, X):
            break
    y, y_before = (_targets(rng, loss, n, int(sizes[-1]), dtype) for _ in range(2))
    given = rng.random() < 0.5
    problem = Problem(
        tuple(map(int, sizes)), tuple(activations), loss, reduction, str(rng.choice(["row", "column"])), W, b, X, y,
        previous=(draw(n, sizes[0]), y_before) if given else None,
        learning_rate=float(rng.choice([0.01, 0.1, 0.5])) if given else None,
        with_a=bool(rng.random() < 0.5), looped=bool(rng.random() < 0.2),
        number=float(rng.choice([3.0, 10.0, 0.1, 1 / 3, -2.0, 0.37, 4.0])),
        decay=float(rng.choice([0.001, 0.01, 0.1, 0.5])), epsilon=float(rng.choice([1e-3, 1e-2, 0.1])),
        slope=float(rng.choice([0.1, 0.2, 0.3, 0.05])), seed=seed,
    )  # fmt: skip
    ways = problem.conventions()
    return ways[int(rng.integers(len(ways)))]


def _both_sides(activations, W, b, X) -> bool:
    a = X
    for k, name in enumerate(activations, start=1):
        z = a @ W[k] + b[k]
        if name in ("relu", "leaky_relu") and not ((z > 0).any() and (z < 0).any()):
            return False
        a = FUNCTIONS[name](z)
    return True


def _targets(rng, loss, n, m, dtype):
    soft = rng.random() < 0.3
    if loss == "bce":
        y = rng.random((n, m)) * 0.9 + 0.05 if soft else rng.integers(0, 2, (n, m))
    elif loss == "ce":
        y = rng.dirichlet(np.ones(m) * 2, n) if soft else np.eye(m)[rng.integers(0, m, n)]
    else:
        y = rng.standard_normal((n, m))
    return np.asarray(y).astype(dtype)


# ---------------------------------------------------------------- the pass with its hooks
Rule = Callable[["Pass", int, Any], Any]


class Pass:
    """Forward and backward on a problem; wrong {(step, k): [(rule, after)]} replaces what a step gives.

    A rule gets the pass, k and the right value of the step, given everything computed before. It works before the
    division by n if that stands at this step, unless it is marked `after`.
    """

    def __init__(self, problem: Problem, wrong: dict[tuple[str, int], list[tuple[Rule, bool]]] | None = None) -> None:
        self.p, self.wrong = problem, wrong or {}
        self.L, self.n, self.m, self.W, self.b, self.y = (
            problem.L, problem.n, problem.m, problem.W, problem.b, problem.y,
        )  # fmt: skip
        empty = [None] * (self.L + 1)
        self.z, self.a, self.da, self.dz, self.dW, self.db = (list(empty) for _ in range(6))
        with np.errstate(all="ignore"):
            self._forward()
            self._backward()

    def _step(self, step: str, k: int, value: Any) -> Any:
        p, rules = self.p, self.wrong.get((step, k), ())
        for rule, after in rules:
            if not after:
                value = rule(self, k, value)
        at = "parameters" if step in ("dW", "db") else step
        if p.scaled_at == at and (at != "dz" or k == self.L):
            value = value / p.X.dtype.type(p.count)
        for rule, after in rules:
            if after:
                value = rule(self, k, value)
        return value

    def _forward(self) -> None:
        self.a[0] = self.p.X
        for k in range(1, self.L + 1):
            self.z[k] = self._step("z", k, self.a[k - 1] @ self.W[k] + self.b[k])
            self.a[k] = self._step("a", k, FUNCTIONS[self.name(k)](self.z[k]))

    def _backward(self) -> None:
        L = self.L
        if not self.p.combined:
            self.da[L] = self._step("dyhat", L, LOSS_DERIVATIVES[self.p.loss](self.y, self.a[L]))
        for k in range(L, 0, -1):
            if k < L:
                self.da[k] = self._step("da", k, self.dz[k + 1] @ self.W[k + 1].T)
            self.dz[k] = self._step("dz", k, self.combined() if self.da[k] is None else self.through(k))
            self.dW[k] = self._step("dW", k, self.product(self.a[k - 1], self.dz[k]))
            self.db[k] = self._step("db", k, self.product(np.ones_like(self.dz[k][:, :1]), self.dz[k]))

    # what rules are written with
    def name(self, k: int) -> str:
        return self.p.activations[k - 1]

    def is_elementwise(self, k: int) -> bool:
        return self.name(k) != "softmax"

    def slope(self, k: int) -> Any:
        """f_k', written with z or with a."""
        return (AT_A if self.p.with_a else AT_Z)[self.name(k)](self.a[k] if self.p.with_a else self.z[k])

    def through(self, k: int) -> Any:
        """dz_k from da_k."""
        if self.is_elementwise(k):
            return self.da[k] * self.slope(k)
        a, da = self.a[k], self.da[k]
        return a * (da - (a * da).sum(axis=1, keepdims=True))

    def combined(self) -> Any:
        a, y = self.a[self.L], self.y
        return a - y if self.name(self.L) == "sigmoid" else a * y.sum(axis=1, keepdims=True) - y

    def product(self, a: Any, dz: Any) -> Any:
        """a^T dz, the sum over the samples."""
        if not self.p.looped:
            return a.T @ dz
        total = np.zeros((a.shape[1], dz.shape[1]), dz.dtype)
        for row, slope in zip(a, dz, strict=True):
            total = total + np.outer(row, slope)
        return total

    @cached_property
    def before(self) -> Pass | None:
        """The pass on the batch before, without mistakes."""
        p = self.p
        return None if p.previous is None else Pass(replace(p, X=p.previous[0], y=p.previous[1], previous=None))

    def claims(self) -> dict[str, Any]:
        """{"dz1": array, ...} for everything computed, in the layout of the problem."""
        families = {"z": self.z, "a": self.a, "da": self.da, "dz": self.dz, "dW": self.dW, "db": self.db}
        turn = np.transpose if self.p.layout == "column" else np.asarray
        return {
            f"{family}{k}": turn(values[k])
            for family, values in families.items()
            for k in range(1, self.L + 1)
            if values[k] is not None
        }


def loss_value(problem: Problem) -> float:
    """L, for finite differences."""
    return float(LOSS_TERMS[problem.loss](problem.y, Pass(problem).a[problem.L]).sum() / problem.count)


def claimed_names(names: Sequence[str], mode: str) -> list[str]:
    """Those of the names that a mode claims: "all"; "backward": da, dz, dW, db; "parameters": dW, db."""
    families = {"all": "z a da dz dW db", "backward": "da dz dW db", "parameters": "dW db"}[mode].split()
    return [name for name in names if name.rstrip("0123456789") in families]


# ---------------------------------------------------------------- mistakes
def always(s: Pass, k: int) -> bool:
    return True


@dataclass(frozen=True)
class Mistake:
    """One wrong rule: where it stands, what the doctor should call it, and the rule.

    needs(s, k): whether it makes sense in layer k of the right pass s. also: kinds that say the same in other words.
    """

    name: str
    step: str
    kind: str
    factor: str | None
    rule: Rule
    needs: Callable[[Pass, int], bool] = always
    after: bool = False
    also: tuple[str, ...] = ()
    alone: bool = False  # makes no sense in all layers at once

    def layers(self, s: Pass) -> list[int]:
        """The layers of the right pass s in which it can be made."""
        L = s.L
        candidates = {
            "dyhat": [] if s.p.combined else [L], "da": range(1, L), "parameters": [L],
        }.get(self.step, range(1, L + 1))  # fmt: skip
        return [k for k in candidates if self.needs(s, k)]

    def wrong(self, layers: Sequence[int], L: int) -> dict[tuple[str, int], list[tuple[Rule, bool]]]:
        """The hooks that make this mistake in the layers."""
        if self.step == "parameters":
            return {(step, k): [(self.rule, True)] for step in ("dW", "db") for k in range(1, L + 1)}
        return {(self.step, k): [(self.rule, self.after)] for k in layers}


MISTAKES: list[Mistake] = []


def add(name: str, step: str, kind: str, rule: Rule, factor: str | None = None, **more: Any) -> None:
    MISTAKES.append(Mistake(f"{step}: {name}", step, kind, factor, rule, **more))


# -- factors
FACTORS: dict[str, Callable[[Pass], float]] = {
    "2": lambda s: 2, "-1": lambda s: -1, "1/2": lambda s: 0.5, "n": lambda s: s.n, "1/n": lambda s: 1 / s.n,
    "2/n": lambda s: 2 / s.n, "m": lambda s: s.m, "1/m": lambda s: 1 / s.m, "1/(nm)": lambda s: 1 / (s.n * s.m),
    "n^2": lambda s: s.n**2, "number": lambda s: s.p.number,
}  # fmt: skip
for _factor, _value in FACTORS.items():
    for _step in ("dyhat", "da", "dz", "dW", "db", "parameters"):
        add(
            f"times {_factor}", _step, "factor",
            lambda s, k, right, value=_value: right * right.dtype.type(value(s)), _factor, after=True,
        )  # fmt: skip


# -- operands
def same_width(i: int, j: int) -> Callable[[Pass, int], bool]:
    """Layers k + i and k + j both exist and are equally wide."""

    def holds(s: Pass, k: int) -> bool:
        return k + min(i, j) >= 0 and k + max(i, j) <= s.L and s.p.sizes[k + i] == s.p.sizes[k + j]

    return holds


def has_da(s: Pass, k: int) -> bool:
    return s.da[k] is not None


def has_before(s: Pass, k: int) -> bool:
    return s.before is not None


add("a_k for a_{k-1}", "dW", "operand", lambda s, k, _: s.product(s.a[k], s.dz[k]), needs=same_width(0, -1))
add("a_{k-2} for a_{k-1}", "dW", "operand", lambda s, k, _: s.product(s.a[k - 2], s.dz[k]), needs=same_width(-1, -2))
add(
    "X for a_{k-1}", "dW", "operand", lambda s, k, _: s.product(s.a[0], s.dz[k]),
    needs=lambda s, k: k >= 2 and s.p.sizes[0] == s.p.sizes[k - 1],
)  # fmt: skip
add("z_{k-1} for a_{k-1}", "dW", "operand", lambda s, k, _: s.product(s.z[k - 1], s.dz[k]), needs=lambda s, k: k >= 2)
add("da_k for dz_k", "dW", "operand", lambda s, k, _: s.product(s.a[k - 1], s.da[k]), needs=has_da)
add("da_k for dz_k", "db", "operand", lambda s, k, _: s.da[k].sum(axis=0, keepdims=True), needs=has_da)
add(
    "da_{k+1} for dz_{k+1}", "da", "operand", lambda s, k, _: s.da[k + 1] @ s.W[k + 1].T,
    needs=lambda s, k: has_da(s, k + 1),
)  # fmt: skip
add("dz_{k+1} for dz_k", "dW", "operand", lambda s, k, _: s.product(s.a[k - 1], s.dz[k + 1]), needs=same_width(0, 1))
add("dz_{k+1} for dz_k", "db", "operand", lambda s, k, _: s.dz[k + 1].sum(axis=0, keepdims=True),
    needs=same_width(0, 1))  # fmt: skip
add("dz_L for dz_k", "dW", "operand", lambda s, k, _: s.product(s.a[k - 1], s.dz[s.L]),
    needs=lambda s, k: k < s.L and s.p.sizes[k] == s.m)  # fmt: skip
add("dz_{k+2} for dz_{k+1}", "da", "operand", lambda s, k, _: s.dz[k + 2] @ s.W[k + 1].T, needs=same_width(1, 2))
add("dz_{k+1} for da_k, not through W", "da", "operand", lambda s, k, _: +s.dz[k + 1], needs=same_width(0, 1),
    also=("child-sum",))  # fmt: skip
add("W not transposed", "da", "operand", lambda s, k, _: s.dz[k + 1] @ s.W[k + 1], needs=same_width(0, 1),
    also=("transposed",))  # fmt: skip
add("W_k for W_{k+1}", "da", "operand", lambda s, k, _: s.dz[k + 1] @ s.W[k].T,
    needs=lambda s, k: s.W[k].shape == s.W[k + 1].shape)  # fmt: skip
add(
    "W already updated", "da", "operand",
    lambda s, k, _: s.dz[k + 1] @ (s.W[k + 1] - s.W[1].dtype.type(s.p.learning_rate) * s.dW[k + 1]).T,
    needs=lambda s, k: s.p.learning_rate is not None,
)  # fmt: skip
add("a of the previous batch", "dW", "operand", lambda s, k, _: s.product(s.before.a[k - 1], s.dz[k]), needs=has_before)
add("dz of the previous batch", "dW", "operand", lambda s, k, _: s.product(s.a[k - 1], s.before.dz[k]),
    needs=has_before)  # fmt: skip
add("dz of the previous batch", "db", "operand", lambda s, k, _: s.before.dz[k].sum(axis=0, keepdims=True),
    needs=has_before)  # fmt: skip
add(
    "z of the previous batch", "dz", "operand", lambda s, k, _: s.da[k] * AT_Z[s.name(k)](s.before.z[k]),
    needs=lambda s, k: has_before(s, k) and has_da(s, k) and s.is_elementwise(k), also=("activation-derivative",),
)  # fmt: skip
add("y of the previous batch", "dyhat", "operand",
    lambda s, k, _: LOSS_DERIVATIVES[s.p.loss](s.p.previous[1], s.a[k]), needs=has_before,
    also=("loss-derivative",))  # fmt: skip
add("y of the previous batch (combined)", "dz", "operand", lambda s, k, _: s.a[k] - s.p.previous[1],
    needs=lambda s, k: has_before(s, k) and not has_da(s, k), also=("loss-derivative",))  # fmt: skip


# -- derivatives of activations
def bent(*names: str) -> Callable[[Pass, int], bool]:
    """An elementwise layer, one of the names if there are any, whose da was computed."""
    return lambda s, k: has_da(s, k) and (s.name(k) in names if names else s.is_elementwise(k))


def derivative(name: str, rule: Callable[[Pass, int], Any], *of: str, **more: Any) -> None:
    add(name, "dz", "activation-derivative", lambda s, k, _: (s.da[k] * rule(s, k)).astype(s.da[k].dtype),
        **({"needs": bent(*of)} | more))  # fmt: skip


derivative("derivative missing", lambda s, k: 1)
derivative("derivative missing (softmax)", lambda s, k: 1, needs=lambda s, k: has_da(s, k) and not s.is_elementwise(k),
           also=("softmax-jacobian",))  # fmt: skip
derivative("taken at a", lambda s, k: AT_Z[s.name(k)](s.a[k]))
derivative("taken at a_{k-1}", lambda s, k: AT_Z[s.name(k)](s.a[k - 1]), also=("operand",),
           needs=lambda s, k: bent()(s, k) and same_width(0, -1)(s, k))  # fmt: skip
derivative("taken at z_{k-1}", lambda s, k: AT_Z[s.name(k)](s.z[k - 1]), also=("operand",),
           needs=lambda s, k: k > 1 and bent()(s, k) and same_width(0, -1)(s, k))  # fmt: skip
derivative("the a-form applied to z", lambda s, k: AT_A[s.name(k)](s.z[k]), "sigmoid", "tanh", "softplus")
for _name, _derivative in AT_Z.items():
    derivative(f"that of {_name}", lambda s, k, f=_derivative: f(s.z[k]))
derivative("mask inverted", lambda s, k: s.z[k] <= 0, "relu")
derivative("slopes exchanged", lambda s, k: np.where(s.z[k] > 0, LEAKY, 1), "leaky_relu")
derivative("another slope", lambda s, k: np.where(s.z[k] > 0, 1, s.p.slope), "leaky_relu", "relu")
derivative("slope -0.01", lambda s, k: np.where(s.z[k] > 0, 1, -LEAKY), "leaky_relu")
derivative("squared", lambda s, k: s.slope(k) ** 2)
derivative("the function for its derivative", lambda s, k: s.a[k], "sigmoid", "tanh", "softplus", "relu", "leaky_relu")
derivative("z for the derivative", lambda s, k: s.z[k])
derivative("only s of s(1-s)", lambda s, k: s.a[k], "sigmoid")
derivative("only 1-s of s(1-s)", lambda s, k: 1 - s.a[k], "sigmoid")
derivative("s(1+s)", lambda s, k: s.a[k] * (1 + s.a[k]), "sigmoid")
derivative("1 - s^2", lambda s, k: 1 - s.a[k] ** 2, "sigmoid")
derivative("1 - a", lambda s, k: 1 - s.a[k], "tanh")
derivative("1 + a^2", lambda s, k: 1 + s.a[k] ** 2, "tanh")
derivative("a^2", lambda s, k: s.a[k] ** 2, "tanh")
derivative("a(1-a)", lambda s, k: s.a[k] * (1 - s.a[k]), "tanh", "softplus")
derivative("tanh twice", lambda s, k: 1 - np.tanh(s.a[k]) ** 2, "tanh")
derivative("mask of da", lambda s, k: s.da[k] > 0, "relu")


# -- derivatives of losses: dL/dyhat, or dz_L where that is computed in one step
def loss(name: str, rule: Callable[[Pass, Any, Any], Any], *of: str, **more: Any) -> None:
    add(f"{name} ({' '.join(of) or 'any loss'})", "dyhat", "loss-derivative",
        lambda s, k, right: rule(s, s.y, s.a[k]).astype(right.dtype),
        needs=lambda s, k: (not of or s.p.loss in of) and more.get("where", always)(s, k),
        also=more.get("also", ()))  # fmt: skip


def combined(name: str, rule: Callable[[Pass, Any, Any], Any], kind: str = "loss-derivative", **more: Any) -> None:
    add(f"{name} (combined)", "dz", kind, lambda s, k, right: rule(s, s.y, s.a[k]).astype(right.dtype),
        needs=lambda s, k: not has_da(s, k) and more.get("where", always)(s, k), also=more.get("also", ()))  # fmt: skip


SQUARED = ("sse", "half_sse", "mse")
_scale = {"sse": 2, "mse": 2, "half_sse": 1}


def soft(s: Pass, k: int) -> bool:
    return bool(((s.y > 0) & (s.y < 1)).all())


loss("yhat + y", lambda s, y, p: _scale[s.p.loss] * (p + y), *SQUARED)
loss("y missing", lambda s, y, p: _scale[s.p.loss] * p, *SQUARED)
loss("yhat missing", lambda s, y, p: -_scale[s.p.loss] * y, *SQUARED)
loss("epsilon added", lambda s, y, p: _scale[s.p.loss] * (p - y + s.p.epsilon), *SQUARED)
loss("absolute value", lambda s, y, p: _scale[s.p.loss] * np.abs(p - y), *SQUARED)
loss("of the absolute error", lambda s, y, p: np.sign(p - y), *SQUARED)
loss("of the error squared", lambda s, y, p: (p - y) ** 2, *SQUARED)
loss("sign of y/yhat", lambda s, y, p: y / p + (1 - y) / (1 - p), "bce")
loss("sign of (1-y)/(1-yhat)", lambda s, y, p: -y / p - (1 - y) / (1 - p), "bce")
loss("only y/yhat", lambda s, y, p: -y / p, "bce")
loss("only (1-y)/(1-yhat)", lambda s, y, p: (1 - y) / (1 - p), "bce")
loss("epsilon added", lambda s, y, p: (1 - y) / (1 - p + s.p.epsilon) - y / (p + s.p.epsilon), "bce")
loss("epsilon added in one term", lambda s, y, p: (1 - y) / (1 - p) - y / (p + s.p.epsilon), "bce")
loss("yhat - y", lambda s, y, p: p - y, "bce", "ce")
loss("2(yhat - y)", lambda s, y, p: 2 * (p - y), "bce", "ce")
loss("swapped", lambda s, y, p: (1 - p) / (1 - y) - p / y, "bce", where=soft)
loss("epsilon added", lambda s, y, p: -y / (p + s.p.epsilon), "ce")
loss("1 - y for y", lambda s, y, p: -(1 - y) / p, "ce")
loss("of the binary one", lambda s, y, p: (1 - y) / (1 - p) - y / p, "ce")
loss("1/yhat", lambda s, y, p: -1 / p, "ce")
loss("-y", lambda s, y, p: -y, "ce")
loss("swapped", lambda s, y, p: -p / y, "ce", where=soft)
loss("labels shifted by a sample", lambda s, y, p: LOSS_DERIVATIVES[s.p.loss](np.roll(y, 1, axis=0), p))
loss("labels shifted by a unit", lambda s, y, p: LOSS_DERIVATIVES[s.p.loss](np.roll(y, 1, axis=1), p))
combined("labels shifted by a sample", lambda s, y, p: p - np.roll(y, 1, axis=0))
combined("labels shifted by a unit", lambda s, y, p: p - np.roll(y, 1, axis=1))
combined("y missing", lambda s, y, p: p)
combined("yhat missing", lambda s, y, p: -y)
combined("yhat + y", lambda s, y, p: p + y)
combined("times s(1-s) again", lambda s, y, p: (p - y) * p * (1 - p), also=("activation-derivative",))
combined("epsilon added", lambda s, y, p: p - y + s.p.epsilon)

# -- softmax
_is_softmax = {"needs": lambda s, k: has_da(s, k) and not s.is_elementwise(k)}
add("p(1-p) elementwise", "dz", "softmax-jacobian", lambda s, k, _: s.da[k] * s.a[k] * (1 - s.a[k]), **_is_softmax,
    also=("activation-derivative",))  # fmt: skip
add("p elementwise", "dz", "softmax-jacobian", lambda s, k, _: s.da[k] * s.a[k], **_is_softmax,
    also=("activation-derivative",))  # fmt: skip
add("sum added", "dz", "softmax-jacobian",
    lambda s, k, _: s.a[k] * (s.da[k] + (s.a[k] * s.da[k]).sum(axis=1, keepdims=True)), **_is_softmax)  # fmt: skip
add("sum without p", "dz", "softmax-jacobian",
    lambda s, k, _: s.a[k] * (s.da[k] - s.da[k].sum(axis=1, keepdims=True)), **_is_softmax)  # fmt: skip
add("sum over the batch", "dz", "softmax-jacobian",
    lambda s, k, _: s.a[k] * (s.da[k] - (s.a[k] * s.da[k]).sum(axis=0, keepdims=True)), **_is_softmax,
    also=("axis",))  # fmt: skip


# -- sums over children, over the batch, over the wrong axis
def children(name: str, rule: Callable[[Any, Any], Any], **more: Any) -> None:
    add(name, "da", "child-sum", lambda s, k, _: rule(s.dz[k + 1], s.W[k + 1]), **more)


children("first child only", lambda dz, W: dz[:, :1] @ W[:, :1].T)
children("last child only", lambda dz, W: dz[:, -1:] @ W[:, -1:].T)
children("last child left out", lambda dz, W: dz[:, :-1] @ W[:, :-1].T, needs=lambda s, k: s.p.sizes[k + 1] > 1)
children("first child left out", lambda dz, W: dz[:, 1:] @ W[:, 1:].T, needs=lambda s, k: s.p.sizes[k + 1] > 1)
children("averaged over the children", lambda dz, W: dz @ W.T / dz.dtype.type(W.shape[1]), also=("factor",))
children("absolute weights", lambda dz, W: dz @ np.abs(W).T)
children("weights left out", lambda dz, W: dz.sum(axis=1, keepdims=True) * np.ones_like(W[:, 0]), also=("operand",))
children("absolute upstream", lambda dz, W: np.abs(dz) @ W.T)
children("largest child only", lambda dz, W: dz[:, [j := int(np.abs(dz).sum(axis=0).argmax())]] @ W[:, [j]].T)


def over_samples(name: str, part: Callable[[Any], Any]) -> None:
    several: dict[str, Any] = {"needs": lambda s, k: s.n > 1}
    add(name, "dW", "batch-sum", lambda s, k, _: s.product(part(s.a[k - 1]), part(s.dz[k])), **several)
    add(name, "db", "batch-sum", lambda s, k, _: part(s.dz[k]).sum(axis=0, keepdims=True), **several)


over_samples("first sample only", lambda rows: rows[:1])
over_samples("last sample only", lambda rows: rows[-1:])
over_samples("last sample left out", lambda rows: rows[:-1])
over_samples("first sample left out", lambda rows: rows[1:])
over_samples("half of the samples", lambda rows: rows[: (len(rows) + 1) // 2])
add("sum of a times sum of dz", "dW", "batch-sum",
    lambda s, k, _: s.a[k - 1].sum(axis=0)[:, None] * s.dz[k].sum(axis=0), needs=lambda s, k: s.n > 1)  # fmt: skip

add("summed over units", "db", "axis", lambda s, k, _: s.dz[k].sum(axis=1)[None, :],
    needs=lambda s, k: s.n == s.p.sizes[k] > 1)  # fmt: skip
add("summed over both axes", "db", "axis", lambda s, k, right: s.dz[k].sum() + 0 * right,
    needs=lambda s, k: s.p.sizes[k] > 1)  # fmt: skip
add("sum of dW over the units before", "db", "axis", lambda s, k, _: s.product(s.a[k - 1], s.dz[k]).sum(axis=0)[None])
add("sum of dW over its own units", "db", "axis", lambda s, k, _: s.product(s.a[k - 1], s.dz[k]).sum(axis=1)[None],
    needs=same_width(0, -1))  # fmt: skip
add("transposed", "dW", "transposed", lambda s, k, right: right.T, needs=same_width(0, -1))
add("transposed", "da", "transposed", lambda s, k, right: right.T, needs=lambda s, k: s.n == s.p.sizes[k] > 1)
add("transposed", "dz", "transposed", lambda s, k, right: right.T, needs=lambda s, k: s.n == s.p.sizes[k] > 1)

# -- terms, clipping, zeros
after: dict[str, Any] = {"after": True}
add("weight decay", "dW", "extra-term", lambda s, k, right: right + right.dtype.type(s.p.decay) * s.W[k], **after)
add("weight decay of b", "db", "extra-term", lambda s, k, right: right + right.dtype.type(s.p.decay) * s.b[k], **after)
add("decay by the sign", "dW", "extra-term", lambda s, k, right: right + right.dtype.type(s.p.decay) * np.sign(s.W[k]),
    **after)  # fmt: skip
add("weight decay subtracted", "dW", "extra-term", lambda s, k, right: right - right.dtype.type(s.p.decay) * s.W[k],
    **after)  # fmt: skip
add("constant added", "db", "extra-term", lambda s, k, right: right + right.dtype.type(s.p.decay), **after)


def bound(right: Any) -> Any:
    """The round number below the largest element: 10^j, 2 10^j or 5 10^j."""
    largest = float(np.abs(right).max())
    if not largest > 0 or not np.isfinite(largest):
        return right.dtype.type(1.0)
    power = 10.0 ** np.floor(np.log10(largest))
    return right.dtype.type(max(c * power for c in (0.5, 1.0, 2.0, 5.0) if c * power < largest))


def shortened(right: Any) -> Any:
    length = right.dtype.type(np.sqrt((right * right).sum()))
    return right * (bound(length) / length) if length > 0 else right


for _step in ("dW", "db", "dz", "da"):
    add("elements clipped", _step, "clipped", lambda s, k, right: np.clip(right, -bound(right), bound(right)), **after)
for _step in ("dW", "db"):
    add("norm clipped", _step, "clipped", lambda s, k, right: shortened(right), **after)
for _step in ("dyhat", "dW", "db", "dz", "da"):
    add("zero", _step, "zero", lambda s, k, right: np.zeros_like(right))

# -- the forward pass
add("bias left out", "z", "forward", lambda s, k, right: s.a[k - 1] @ s.W[k])
add("bias subtracted", "z", "forward", lambda s, k, right: s.a[k - 1] @ s.W[k] - s.b[k])
add("bias twice", "z", "forward", lambda s, k, right: right + s.b[k])
add("W transposed", "z", "forward", lambda s, k, right: s.a[k - 1] @ s.W[k].T + s.b[k], needs=same_width(0, -1))
add("z_{k-1} for a_{k-1}", "z", "forward", lambda s, k, right: s.z[k - 1] @ s.W[k] + s.b[k],
    needs=lambda s, k: k > 1)  # fmt: skip
add("activation left out", "a", "forward", lambda s, k, right: +s.z[k], needs=lambda s, k: k < s.L)
for _name in ("relu", "tanh", "sigmoid", "leaky_relu"):
    add(f"{_name} for the activation", "a", "forward", lambda s, k, right, f=FUNCTIONS[_name]: f(s.z[k]),
        needs=lambda s, k: k < s.L)  # fmt: skip
add("activation twice", "a", "forward", lambda s, k, right: FUNCTIONS[s.name(k)](right), needs=lambda s, k: k < s.L)

# -- shapes and numbers that are none; they stay at the parameters, from which nothing else is computed
add("transposed, not square", "dW", "shape", lambda s, k, right: right.T, also=("transposed",),
    needs=lambda s, k: s.p.sizes[k] != s.p.sizes[k - 1])  # fmt: skip
add("not summed over the samples", "db", "shape", lambda s, k, _: +s.dz[k], needs=lambda s, k: s.n > 1,
    also=("batch-sum", "axis"))  # fmt: skip
add("summed over units, not n", "db", "shape", lambda s, k, _: s.dz[k].sum(axis=1, keepdims=True),
    needs=lambda s, k: s.n != s.p.sizes[k], also=("axis",))  # fmt: skip
add("first row only", "dW", "shape", lambda s, k, right: right[:1], needs=lambda s, k: s.p.sizes[k - 1] > 1)
add("a number", "db", "shape", lambda s, k, right: np.float64(right.sum()), needs=lambda s, k: s.p.sizes[k] > 1,
    also=("axis",))  # fmt: skip


def spoiled(right: Any, number: float) -> Any:
    right = np.array(right)
    right.flat[right.size // 2] = number
    return right


for _step in ("dW", "db", "dz", "da"):
    add(
        "one nan", _step, "non-finite", lambda s, k, right: spoiled(right, np.nan), **after, alone=_step in ("dz", "da")
    )
    add(
        "one inf", _step, "non-finite", lambda s, k, right: spoiled(right, np.inf), **after, alone=_step in ("dz", "da")
    )
add("all nan", "dW", "non-finite", lambda s, k, right: np.full_like(right, np.nan), **after)

KINDS = (
    "factor", "operand", "activation-derivative", "loss-derivative", "softmax-jacobian", "child-sum", "batch-sum",
    "axis", "transposed", "extra-term", "clipped", "zero", "forward", "shape", "non-finite",
)  # fmt: skip


def split(name: str) -> list[Mistake]:
    """The mistakes of "dev", of "held-out" (every third of each kind, in the order of the table), or of "all"."""
    if name not in ("dev", "held-out", "all"):
        raise ValueError(f"the splits are dev, held-out and all, got {name!r}")
    place: dict[str, int] = {}
    chosen = []
    for mistake in MISTAKES:
        place[mistake.kind] = place.get(mistake.kind, -1) + 1
        is_held_out = place[mistake.kind] % 3 == 1
        if name == "all" or is_held_out == (name == "held-out"):
            chosen.append(mistake)
    return chosen


# ---------------------------------------------------------------- instances: what to claim, and what may be answered
@dataclass(frozen=True)
class Answer:
    """A cause that is right: the family of the quantity, its layers, the kind, the factor as a number if it has one."""

    family: str
    layers: tuple[int, ...]
    kind: str
    factor: float | None = None


@dataclass(frozen=True)
class Instance:
    """Claims with known mistakes; answers[i] are the causes that name the i-th, in words that say the same."""

    problem: Problem
    mistakes: tuple[Mistake, ...]
    layers: tuple[tuple[int, ...], ...]
    mode: str
    claims: dict[str, Any] = field(repr=False)
    answers: tuple[tuple[Answer, ...], ...] = ()

    def __str__(self) -> str:
        p = self.problem
        what = " + ".join(f"{m.name} @{list(at)}" for m, at in zip(self.mistakes, self.layers, strict=True))
        return (
            f"seed {p.seed} {self.mode} | {what or 'correct'} | {list(p.sizes)} {' '.join(p.activations)} {p.loss} "
            f"{p.reduction} {p.layout} n={p.n} {p.X.dtype} 1/n at {p.scaled_at}{' combined' if p.combined else ''}"
        )


def factor_value(text: str | None, n: int, m: int) -> float | None:
    """The number that a factor such as "2/n", "-1", "1/(nm)", "n^2" or "0.37" stands for; None if it is none."""
    if text is None:
        return None
    value, parts = 1.0, re.sub(r"[\s()*·]", "", str(text)).replace("²", "^2").partition("/")
    for part, sign in ((parts[0], 1), (parts[2], -1)):
        for number, letter, power in re.findall(r"(-?\d+\.?\d*(?:e[-+]?\d+)?)|([nm])(?:\^(\d))?", part):
            value *= float(number) ** sign if number else {"n": n, "m": m}[letter] ** (sign * int(power or 1))
        if part.startswith("-") and not part[1:2].isdigit():
            value = -value
    return value


def answers_of(mistake: Mistake, layers: tuple[int, ...], s: Pass, names: Sequence[str]) -> Iterator[Answer]:
    """The causes that name this mistake, given the names that are claimed."""
    family = {"dyhat": "da"}.get(mistake.step, mistake.step)
    factor = float(FACTORS[mistake.factor](s)) if mistake.factor else None
    places = [(family, layers)]
    if family == "parameters":  # one cause wherever it is put
        every = tuple(range(1, s.L + 1))
        places = [("dW", every), ("db", every), ("dz", (s.L,)), ("da", (s.L,)), ("parameters", every)]
    if family == "da" and not all(f"da{k}" in names for k in layers):
        places.append(("dz", layers))  # what is not claimed shows at dz_k
    if family in "za" and not all(f"{family}{k}" in names for k in layers):
        places.append(("z" if family == "a" else "a", layers))
    for place in places:
        for kind in (mistake.kind, *mistake.also):
            yield Answer(*place, kind, factor if kind == "factor" == mistake.kind else None)


class Bench:
    """A problem, and the claims of every mistake on it in every convention, so that what looks alike is known."""

    def __init__(self, problem: Problem, tables: Sequence[Mistake] | None = None) -> None:
        self.problem, self.right = problem, Pass(problem)
        self.mistakes = MISTAKES if tables is None else tables
        is_single = problem.X.dtype == np.float32
        self.visible, self.alike = (3e-3, 2e-4) if is_single else (1e-6, 1e-9)
        self.conventions = [Pass(way) for way in problem.conventions()]

    @cached_property
    def passes(self) -> list[tuple[Mistake, tuple[int, ...], dict[str, Any]]]:
        """Every mistake at every place in every convention, with its claims."""
        return [
            (mistake, layers, Pass(right.p, mistake.wrong(layers, right.L)).claims())
            for right in self.conventions
            for mistake in MISTAKES
            if mistake.kind not in ("shape", "non-finite")
            for layers in self.places(mistake, right)
        ]

    @cached_property
    def gradients(self) -> Any:
        """dW and db of every pass: claims that agree do so in every number, and one stroke leaves few to look at."""
        return np.stack([_gradient(made) for _, _, made in self.passes])

    @staticmethod
    def places(mistake: Mistake, right: Pass) -> list[tuple[int, ...]]:
        """Each layer alone, and all of them at once."""
        layers = mistake.layers(right)
        places: list[tuple[int, ...]] = [(k,) for k in layers]
        return places if len(layers) < 2 or mistake.alone else [*places, tuple(layers)]

    def differs(self, one: dict[str, Any], other: dict[str, Any], names: Sequence[str], tolerance: float) -> bool:
        """Whether some claim differs by more than the tolerance, relative to the largest element of the claim."""
        with np.errstate(all="ignore"):
            for name in names:
                if name not in other:
                    continue
                mine, its = one[name], other[name]
                if mine.shape != its.shape:
                    return True
                if not np.array_equal(np.isfinite(mine), np.isfinite(its)):
                    return True
                size = max(np.abs(mine).max(), np.abs(its).max())
                if not (np.abs(mine - its).max() <= tolerance * size):
                    return True
        return False

    def similar(self, claims: dict[str, Any], mistake: Mistake) -> Iterator[tuple[Mistake, tuple[int, ...], Any]]:
        """The passes whose dW and db are near these."""
        if mistake.kind in ("shape", "non-finite"):
            return
        mine = _gradient(claims)
        with np.errstate(all="ignore"):
            near = np.abs(self.gradients - mine).max(axis=1) <= 2 * self.alike * np.abs(mine).max()
        for place in np.flatnonzero(near):
            yield self.passes[place]

    def instances(self, rng: np.random.Generator, count: int, mode: str) -> Iterator[Instance]:
        """Up to `count` visible single mistakes of the table."""
        done = 0
        # the many factors count for a third each: they would drown the rest
        weights = np.array([1 / 3 if mistake.kind == "factor" else 1.0 for mistake in self.mistakes])
        for place in rng.choice(len(weights), len(weights), replace=False, p=weights / weights.sum()):
            mistake = self.mistakes[place]
            places = self.places(mistake, self.right)
            if not places or done == count:
                continue
            # all layers at once is one choice in four
            several = len(places) > 1 and len(places[-1]) > 1
            layers = places[-1] if several and rng.random() < 0.25 else places[rng.integers(len(places) - several)]
            instance = self.instance(mistake, layers, mode)
            if instance is not None:
                done += 1
                yield instance

    def instance(self, mistake: Mistake, layers: tuple[int, ...], mode: str) -> Instance | None:
        """The claims of the mistake with every answer that fits them; None where nothing can be seen."""
        p, right = self.problem, self.right
        claims = Pass(p, mistake.wrong(layers, p.L)).claims()
        names = claimed_names(list(claims), mode)
        if not _stays_finite(claims, right.claims(), mistake):
            return None
        # the verdict is on the parameters' gradients: what does not reach them is no mistake
        reached = claimed_names(names, "parameters")
        if not all(self.differs(claims, way.claims(), reached, self.visible) for way in self.conventions):
            return None
        answers = dict.fromkeys(answers_of(mistake, layers, right, names))
        if len(layers) > 1:  # a layer where the wrong rule gives the right numbers may be left out of the answer
            needed = tuple(k for k in layers if self._matters(mistake, layers, k, claims, reached))
            answers |= dict.fromkeys(answers_of(mistake, needed, right, names))
        for other, at, made in self.similar(claims, mistake):
            if not self.differs(claims, made, names, self.alike):
                answers |= dict.fromkeys(answers_of(other, at, right, names))
        return Instance(p, (mistake,), (layers,), mode, {name: claims[name] for name in names}, (tuple(answers),))

    def _matters(self, mistake: Mistake, layers: tuple[int, ...], k: int, claims: Any, names: Sequence[str]) -> bool:
        without = tuple(j for j in layers if j != k)
        rest = Pass(self.problem, mistake.wrong(without, self.problem.L)).claims()
        return self.differs(claims, rest, names, self.alike)

    def pair(self, rng: np.random.Generator, mode: str) -> Instance | None:
        """Two visible mistakes at different steps, each visible beside the other."""
        chosen = []
        for place in rng.permutation(len(self.mistakes))[:2]:
            mistake = self.mistakes[place]
            layers = mistake.layers(self.right)
            if layers and mistake.kind not in ("shape", "non-finite") and mistake.step != "parameters":
                chosen.append((mistake, (int(rng.choice(layers)),)))
        if len(chosen) < 2 or (chosen[0][0].step, chosen[0][1]) == (chosen[1][0].step, chosen[1][1]):
            return None
        p = self.problem
        alone = [self.instance(mistake, layers, mode) for mistake, layers in chosen]
        both = Pass(p, chosen[0][0].wrong(chosen[0][1], p.L) | chosen[1][0].wrong(chosen[1][1], p.L)).claims()
        names = claimed_names(list(both), mode)
        if any(one is None or not self.differs(both, one.claims, names, self.visible) for one in alone):
            return None
        if not all(np.isfinite(both[name]).all() for name in names):
            return None
        return Instance(
            p, tuple(m for m, _ in chosen), tuple(at for _, at in chosen), mode, {name: both[name] for name in names},
            tuple(one.answers[0] for one in alone if one is not None),
        )  # fmt: skip


def _gradient(claims: dict[str, Any]) -> Any:
    """All of dW and db in one vector."""
    return np.concatenate([claims[name].ravel() for name in claimed_names(list(claims), "parameters")])


def _stays_finite(claims: dict[str, Any], right: dict[str, Any], mistake: Mistake) -> bool:
    """A mistake of another kind that happens to overflow is a matter of numbers, not of the rule."""
    return mistake.kind == "non-finite" or all(
        np.isfinite(claim).all() for claim in (*claims.values(), *right.values())
    )


REGIMES = ("plain", "plain", "plain", "tiny", "saturated", "dead")


def correct_submission(seed: int) -> Instance | None:
    """Claims without a mistake, in some legal convention and form; None where the plain formula overflows."""
    rng = np.random.default_rng([21, seed])
    problem = random_problem(seed, str(rng.choice(REGIMES)))
    mode = str(rng.choice(MODES))
    claims = Pass(problem).claims()
    names = claimed_names(list(claims), mode)
    if mode == "backward" and rng.random() < 0.5:  # some intermediates are often not handed in
        names = [name for name in names if name.startswith(("dW", "db")) or rng.random() < 0.6]
    if not all(np.isfinite(claim).all() for claim in claims.values()):
        return None
    return Instance(problem, (), (), mode, {name: claims[name] for name in names})
