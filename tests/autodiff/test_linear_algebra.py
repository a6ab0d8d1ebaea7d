"""Linear algebra on Tensors, against NumPy's values, central differences, closed forms and itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import autograd
import autograd.numpy as anp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autodiff as ad
from autodiff import linear_algebra
from autodiff.operations import Operation
from autodiff.tensor import FUNCTIONS, Tensor, apply

EPS = np.finfo(float).eps
la = np.linalg

# --- inputs: eigenvalues and singular values lie well apart, so that differences are accurate -----------------------


def general(m: int, n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng([m, n, seed])
    u, _ = la.qr(rng.standard_normal((m, m)))
    v, _ = la.qr(rng.standard_normal((n, n)))
    k = min(m, n)
    return (u[:, :k] * (1.0 + 0.7 * np.arange(k))) @ v[:, :k].T


def positive(n: int, seed: int = 0) -> Any:
    u, _ = la.qr(np.random.default_rng([n, seed]).standard_normal((n, n)))
    return (u * (1.0 + 0.7 * np.arange(n))) @ u.T


def of_rank(m: int, n: int, rank: int) -> Any:
    return general(m, rank) @ general(rank, n, 1)


def vector(n: int, seed: int = 0) -> Any:
    return np.random.default_rng([n, seed]).standard_normal(n)


def signed(v: Any) -> Any:
    """Vectors in columns, each with the sign that gives it a positive product with a fixed one.

    NumPy's own choice of signs jumps between neighbouring matrices, which would spoil the differences.
    """
    fixed = np.array([1.0, -0.6, 0.8, 0.4], dtype=v.dtype)[: v.shape[-2], None]
    return v * np.sign(np.sum(fixed * v, axis=-2, keepdims=True))


def eigh(a: Any, *options: Any) -> Any:
    w, v = la.eigh(a, *options)
    return w, signed(v)


def svd(a: Any, **options: Any) -> Any:
    u, s, vh = la.svd(a, **options)
    return signed(u), s, signed(vh.swapaxes(-1, -2))


@dataclass(frozen=True)
class Case:
    name: str
    f: Callable[..., Any]
    inputs: tuple[Any, ...]
    stacks: bool = True  # whether f takes stacks of its inputs

    def __repr__(self) -> str:
        return self.name


CASES = [
    Case("inv", la.inv, (general(3, 3),)),
    Case("inv of 1 x 1", la.inv, (general(1, 1),)),
    Case("solve", la.solve, (general(3, 3), general(3, 2))),
    Case("solve of a vector", la.solve, (general(3, 3), vector(3)), stacks=False),
    Case(
        "solve of a stack and a vector",
        la.solve,
        (np.stack([general(2, 2), general(2, 2, 1)]), vector(2)),
        stacks=False,
    ),
    Case("solve, broadcast", la.solve, (general(2, 2), np.stack([general(2, 3), general(2, 3, 1)])), stacks=False),
    Case("solve, broadcast a", la.solve, (np.stack([general(2, 2), general(2, 2, 1)]), general(2, 1)), stacks=False),
    Case("det", la.det, (general(4, 4),)),
    Case("det of 1 x 1", la.det, (general(1, 1),)),
    Case("det, nearly singular", la.det, (of_rank(3, 3, 2) + 1e-6 * general(3, 3),)),
    Case("det of rank n - 1", la.det, (of_rank(4, 4, 3),)),
    Case("det of rank n - 2", la.det, (of_rank(4, 4, 2),)),
    Case("det of 0", la.det, (np.zeros((3, 3)),)),
    Case("logabsdet", lambda a: la.slogdet(a).logabsdet, (general(3, 3),)),
    Case("logabsdet, det < 0", lambda a: la.slogdet(-a)[1], (positive(3),)),
    Case("cholesky", la.cholesky, (positive(3),)),
    Case("cholesky, upper", lambda a: la.cholesky(a, upper=True), (positive(3),)),
    Case("cholesky of one triangle", la.cholesky, (positive(3) + np.triu(general(3, 3), 1),)),
    Case("eigh", eigh, (positive(3),)),
    Case("eigh of one triangle", eigh, (positive(3) + np.triu(general(3, 3), 1),)),
    Case("eigh, upper", lambda a: eigh(a, "U"), (general(3, 3),)),
    Case("eigenvalues of eigh", lambda a: la.eigh(a).eigenvalues, (positive(3),)),
    Case("eigvalsh", la.eigvalsh, (positive(3),)),
    Case("eigvalsh, upper", lambda a: la.eigvalsh(a, UPLO="U"), (general(3, 3),)),
    Case("svd, square", svd, (general(3, 3),)),
    Case("svd, wide", lambda a: svd(a, full_matrices=False), (general(2, 4),)),
    Case("svd, tall", lambda a: svd(a, full_matrices=False), (general(4, 2),)),
    Case("svd, hermitian", lambda a: svd(a, hermitian=True), (general(3, 3),)),
    Case("svd without vectors", lambda a: la.svd(a, compute_uv=False), (general(3, 2),)),
    Case("svd without vectors, hermitian", lambda a: la.svd(a, compute_uv=False, hermitian=True), (general(3, 3),)),
    Case("singular values of svd", lambda a: la.svd(a, full_matrices=False).S, (general(2, 3),)),
    Case("svdvals", la.svdvals, (general(3, 2),)),
    Case("pinv, tall", la.pinv, (general(3, 2),)),
    Case("pinv, wide", la.pinv, (general(2, 3),)),
    Case("pinv with rtol", lambda a: la.pinv(a, rtol=1e-9), (general(2, 2),)),
    Case("pinv, hermitian", lambda a: la.pinv(a, hermitian=True), (positive(3) + np.triu(general(3, 3), 1),)),
    Case("pinv, low rank", lambda a, b: la.pinv(a @ b), (general(3, 2), general(2, 3, 1))),
    Case("lstsq, tall", lambda a, b: la.lstsq(a, b)[0], (general(4, 2), general(4, 3)), stacks=False),
    Case(
        "lstsq, all", lambda a, b: tuple(la.lstsq(a, b)[i] for i in (0, 1, 3)), (general(4, 2), vector(4)), stacks=False
    ),
    Case("lstsq, wide", lambda a, b: la.lstsq(a, b, rcond=1e-9)[0], (general(2, 3), vector(2)), stacks=False),
    Case("qr, tall", la.qr, (general(4, 2),)),
    Case("qr, square", la.qr, (general(3, 3),)),
    Case("qr, wide", la.qr, (general(2, 4),)),
    Case("qr, R", lambda a: la.qr(a, mode="r"), (general(3, 2),)),
    Case("matrix_power 0", lambda a: la.matrix_power(a, 0), (general(3, 3),)),
    Case("matrix_power 1", lambda a: la.matrix_power(a, 1), (general(3, 3),)),
    Case("matrix_power 3", lambda a: la.matrix_power(a, 3), (general(3, 3),)),
    Case("matrix_power 7", lambda a: la.matrix_power(a, 7), (0.3 * general(3, 3),)),
    Case("matrix_power -2", lambda a: la.matrix_power(a, -2), (general(3, 3),)),
    Case("multi_dot of 2", lambda *xs: la.multi_dot(xs), (general(2, 3), general(3, 4)), stacks=False),
    Case("multi_dot", lambda *xs: la.multi_dot(xs), (general(2, 3), general(3, 4), general(4, 1)), stacks=False),
    Case(
        "multi_dot of 4",
        lambda *xs: la.multi_dot(xs),
        (vector(3), general(3, 4), general(4, 1), general(1, 2)),
        stacks=False,
    ),
    Case("multi_dot of vectors", lambda *xs: la.multi_dot(xs), (vector(2), general(2, 3), vector(3)), stacks=False),
    Case("tensorsolve", la.tensorsolve, (general(6, 6).reshape(2, 3, 6), general(2, 3)), stacks=False),
    Case(
        "tensorsolve, axes",
        lambda a, b: la.tensorsolve(a, b, axes=(0,)),
        (general(6, 6).reshape(6, 2, 3), general(2, 3)),
        stacks=False,
    ),
    Case("tensorinv", lambda a: la.tensorinv(a, ind=1), (general(6, 6).reshape(6, 2, 3),), stacks=False),
    Case("cond", la.cond, (general(3, 2),)),
    Case("cond -2", lambda a: la.cond(a, -2), (general(3, 3),)),
    Case("cond 1", lambda a: la.cond(a, 1), (general(3, 3),)),
    Case("matmul", la.matmul, (general(2, 3), general(3, 2))),
    Case("vecdot", la.vecdot, (general(3, 2), general(3, 2, 1))),
    Case("vecdot, axis", lambda a, b: la.vecdot(a, b, axis=0), (general(3, 2), general(3, 2, 1)), stacks=False),
    Case("trace", lambda a: la.trace(a), (general(3, 3),)),
    Case("trace, offset", lambda a: la.trace(a, offset=1), (general(2, 3),)),
    Case("diagonal", lambda a: la.diagonal(a), (general(3, 3),)),
    Case("matrix_transpose", lambda a: la.matrix_transpose(a), (general(2, 3),)),
    Case("outer", la.outer, (vector(2), vector(3)), stacks=False),
    Case("tensordot", lambda a, b: la.tensordot(a, b, axes=1), (general(2, 3), general(3, 2)), stacks=False),
    Case("cross", la.cross, (vector(3), vector(3, 1))),
    Case("norm", la.norm, (general(2, 3),), stacks=False),
    Case("norm of a vector, kept", lambda a: la.norm(a, keepdims=True), (vector(3),), stacks=False),
    Case("vector_norm of all", la.vector_norm, (general(2, 3),), stacks=False),
    Case("vector_norm of all, kept", lambda a: la.vector_norm(a, keepdims=True, ord=3), (general(2, 3),), stacks=False),
    Case("vector_norm of all, inf", lambda a: la.vector_norm(a, ord=np.inf), (general(2, 3),), stacks=False),
    Case("vector_norm over axes", lambda a: la.vector_norm(a, axis=(-2, -1), ord=3), (general(2, 3),)),
    Case("Gram-Schmidt of A^T A", lambda a: la.inv(la.cholesky(a.swapaxes(-1, -2) @ a)), (general(3, 2),)),
    *(
        Case(f"norm {order} of vectors", lambda a, order=order: la.norm(a, order, axis=-1), (vector(4) + 0.1,))
        for order in (None, 2, 1, np.inf, -np.inf, 0, 3, 4, 2.5, -1, -2)
    ),
    *(
        Case(f"norm {order} of matrices", lambda a, order=order: la.norm(a, order, axis=(-2, -1)), (general(3, 2),))
        for order in (None, "fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf)
    ),
    *(
        Case(
            f"matrix_norm {order}, kept",
            lambda a, order=order: la.matrix_norm(a, ord=order, keepdims=True),
            (general(2, 3),),
        )
        for order in ("fro", "nuc", 2, 1, np.inf)
    ),
    *(
        Case(
            f"norm {order}, axes",
            lambda a, order=order: la.norm(a, order, axis=(2, 0)),
            (general(2, 6, 2).reshape(2, 2, 3),),
            stacks=False,
        )
        for order in (None, "nuc", -2, 1, -1, np.inf, -np.inf)
    ),
]
CASES_BY_NAME = {case.name: case for case in CASES}
table = pytest.mark.parametrize("case", CASES, ids=repr)


# --- the checker ----------------------------------------------------------------------------------------------------


def listed(y: Any) -> list[Any]:
    return list(y) if isinstance(y, (tuple, list)) else [y]


def like(arrays: Any, seed: int) -> list[Any]:
    """Random numbers of the shapes of these arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(np.shape(x)) for x in arrays]


def inner(xs: Any, ys: Any) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(listed(xs), listed(ys), strict=True)))


def measured(f: Callable[[Any], Any], h: float = 3e-3) -> Any:
    """df/dt at 0 by central differences, of the error h**6 f^(7) / 140 + 2 eps |f| / h."""

    def odd(step: float) -> Any:
        return (f(step) - f(-step)) / (2.0 * step)

    return (64.0 * odd(h / 2.0) - 20.0 * odd(h) + odd(2.0 * h)) / 45.0


# 1e-12 of truncation for inputs of size 1 whose spectra lie 0.7 apart, eps / h of rounding, and the size of the seventh
# derivatives of the worst (an inverse of an eigenvalue 0.1): together below this, relative to the largest term.
CLOSE = 2e-7


def apart(a: Any, b: Any, tolerance: float) -> bool:
    return bool(abs(a - b) > tolerance * (1.0 + abs(a) + abs(b))) or bool(np.isnan(a - b))


def problems(f: Callable[..., Any], inputs: tuple[Any, ...], third: bool = False) -> list[str]:
    """What is wrong with the derivatives of f at these inputs."""
    found = []
    values = listed(f(*inputs))
    weights, u, v, w = like(values, 1), like(inputs, 2), like(inputs, 3), like(inputs, 4)

    def total(*xs: Any) -> Any:
        return sum(np.sum(k * y) for k, y in zip(weights, listed(f(*xs)), strict=True))

    def moved(function: Callable[..., Any], direction: list[Any]) -> Callable[[float], Any]:
        return lambda t: function(*(x + t * d for x, d in zip(inputs, direction, strict=True)))

    def gradient(*xs: Any) -> Any:
        return ad.grad(total, tuple(range(len(inputs))))(*xs)

    def slope(*xs: Any) -> Any:  # forward mode, along u
        return ad.jvp(total, xs, tuple(u))[1]

    def curvature(*xs: Any) -> Any:  # forward over reverse, along u and v
        return inner(ad.hvp(total, xs, tuple(u)), v)

    reverse, forward = inner(gradient(*inputs), u), slope(*inputs)
    # both rules are products of the same matrices, in another order: 1e-12 of rounding
    if apart(reverse, forward, 1e-12):
        found.append(f"duality: {reverse} in reverse, {forward} in forward mode")
    truth = measured(moved(total, u))
    if apart(reverse, truth, CLOSE):
        found.append(f"first derivative: {reverse}, by differences {truth}")
    second = curvature(*inputs)
    mirrored = inner(ad.hvp(total, inputs, tuple(v)), u)
    if apart(second, mirrored, 1e-10):
        found.append(f"the second derivative is not symmetric: {second}, {mirrored}")
    for name, over in (
        ("reverse over forward", ad.grad(slope, tuple(range(len(inputs))))(*inputs)),
        (
            "reverse over reverse",
            ad.grad(
                lambda *xs: sum(np.sum(g * d) for g, d in zip(gradient(*xs), u, strict=True)), tuple(range(len(inputs)))
            )(*inputs),
        ),
    ):
        if apart(second, inner(over, v), 1e-10):
            found.append(f"second derivative: {second} forward over reverse, {inner(over, v)} {name}")
    truth = measured(moved(lambda *xs: inner(gradient(*xs), u), v))
    if apart(second, truth, CLOSE):
        found.append(f"second derivative: {second}, by differences {truth}")
    if third:
        number = ad.jvp(curvature_node(total, u, v), inputs, tuple(w))[1]
        truth = measured(moved(curvature, w))
        if apart(number, truth, CLOSE):
            found.append(f"third derivative: {number}, by differences {truth}")
    return found


def curvature_node(total: Callable[..., Any], u: list[Any], v: list[Any]) -> Callable[..., Any]:
    def curvature(*xs: Any) -> Any:
        products = listed(ad.hvp(total, xs, tuple(u)))
        return sum(np.sum(p * d) for p, d in zip(products, v, strict=True))

    return curvature


@table
def test_values_are_those_of_numpy(case: Case) -> None:
    expected, found = listed(case.f(*case.inputs)), listed(case.f(*map(Tensor, case.inputs)))
    for one, other in zip(expected, found, strict=True):
        assert type(other) is Tensor
        assert np.shape(one) == other.shape
        # composites round as NumPy does, but for some that sum in another order: two roundings per addition
        np.testing.assert_allclose(other.data, one, rtol=0, atol=16 * EPS * np.max(np.abs(one), initial=0.0))


EXACT = (
    "inv",
    "solve",
    "solve of a vector",
    "solve of a stack and a vector",
    "det",
    "logabsdet",
    "cholesky",
    "cholesky, upper",
    "eigh",
    "eigh, upper",
    "eigvalsh",
    "svd, square",
    "svd, wide",
    "svd, tall",
    "svdvals",
    "svd, hermitian",
    "pinv, wide",
    "lstsq, tall",
    "qr, tall",
    "matrix_power 7",
    "matrix_power -2",
    "multi_dot of 4",
    "norm",
    "norm 2 of vectors",
    "norm nuc of matrices",
    "cond",
)


@pytest.mark.parametrize("name", EXACT)
def test_values_are_those_of_numpy_to_the_bit(name: str) -> None:
    case = CASES_BY_NAME[name]
    for one, other in zip(listed(case.f(*case.inputs)), listed(case.f(*map(Tensor, case.inputs))), strict=True):
        assert np.array_equal(one, other.data)


THIRD = (
    "inv",
    "solve",
    "det",
    "det of rank n - 1",
    "det of rank n - 2",
    "det of 0",
    "logabsdet",
    "cholesky",
    "eigh",
    "svd, tall",
    "svd, wide",
    "svdvals",
    "pinv, tall",
    "qr, tall",
    "lstsq, all",
    "norm 3 of vectors",
)


@table
def test_derivatives(case: Case) -> None:
    assert problems(case.f, case.inputs, third=case.name in THIRD) == []


@table
def test_a_stack_is_the_loop_over_its_matrices(case: Case) -> None:
    if not case.stacks:
        return
    stacks = [np.stack([x, 0.9 * x, 1.1 * x]) for x in case.inputs]
    found, pullback = ad.vjp(case.f, *stacks)
    weights = like(listed(found), 5)
    gradients = pullback(tuple(weights) if isinstance(found, tuple) else weights[0])
    for i in range(3):
        one, of_one = ad.vjp(case.f, *(x[i] for x in stacks))
        parts = tuple(w[i] for w in weights)
        for y, stacked in zip(listed(one), listed(found), strict=True):
            np.testing.assert_allclose(stacked[i], y, rtol=1e-13, atol=1e-13)
        for g, stacked in zip(of_one(parts if isinstance(one, tuple) else parts[0]), gradients, strict=True):
            # BLAS adds in another order for stacks; the inverses of gaps of 0.06 (rank 2, scaled) magnify it
            np.testing.assert_allclose(stacked[i], g, rtol=1e-10, atol=1e-11)


@table
def test_float32_stays(case: Case) -> None:
    inputs = [Tensor(x.astype(np.float32)) for x in case.inputs]
    outputs = listed(case.f(*inputs))
    assert {y.dtype for y in outputs} == {np.dtype(np.float32)}
    seen: list[Any] = []
    for y in outputs:
        seen.extend(_dtypes_of_adjoints(y))
    assert set(seen) <= {np.dtype(np.float32)}


def _dtypes_of_adjoints(y: Tensor) -> list[Any]:
    """What the rules compute in, before Tensor.pull rounds it."""
    found = []
    for made in ad.tensor.order(y):
        if any(made.op is op for op in vars(linear_algebra).values()):
            given = [x.data if type(x) is Tensor else x for x in made.operands]
            g = np.ones(made.shape, made.dtype)
            with np.errstate(all="ignore"):
                pulled = made.op.pull(0, g, made.data, given, made.parameters)
                tangents = [np.ones_like(given[0]), *(None for _ in given[1:])]
                found += [pulled.dtype, np.asarray(made.op.push(tangents, made.data, given, made.parameters)).dtype]
    return found


# --- the checker finds what is wrong --------------------------------------------------------------------------------


def _planted(**changes: Any) -> Callable[[Any], Any]:
    right = linear_algebra.inverse
    wrong = Operation(
        "inv", np.linalg.inv, changes.get("pulls", right.pulls), pushes=changes.get("pushes", right.pushes)
    )
    return lambda a: apply(wrong, (a,), {}) if type(a) is Tensor else np.linalg.inv(a)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pulls": [lambda g, y, a: -(y @ g @ y)]}, "duality"),
        ({"pushes": [lambda t, y, a: y @ t @ y]}, "duality"),
        (
            {"pulls": [lambda g, y, a: -2.0 * (y.T @ g @ y.T)], "pushes": [lambda t, y, a: -2.0 * (y @ t @ y)]},
            "first derivative",
        ),
        (
            {
                "pulls": [lambda g, y, a: -(plain(y).T @ g @ plain(y).T)],
                "pushes": [lambda t, y, a: -(plain(y) @ t @ plain(y))],
            },
            "second derivative",
        ),
    ],
)
def test_the_checker_finds_a_wrong_rule(changes: dict[str, Any], complaint: str) -> None:
    assert problems(_planted(), (general(3, 3),)) == []
    assert any(complaint in problem for problem in problems(_planted(**changes), (general(3, 3),)))


def plain(y: Any) -> Any:
    return y.data if type(y) is Tensor else y


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_gradient_of_logdet_is_the_inverse_to_the_last_digits() -> None:
    a = general(4, 4)
    with mpmath.workdps(40):
        exact = np.array((mpmath.matrix(a.tolist()) ** -1).T.tolist(), dtype=float)
    found = ad.grad(lambda a: la.slogdet(a).logabsdet)(a)
    np.testing.assert_allclose(found, exact, rtol=0, atol=16 * EPS * la.cond(a) * np.abs(exact).max())


def minors(a: Any) -> Any:
    """The cofactors of a by its definition, with 60 digits."""
    n = len(a)
    with mpmath.workdps(60):
        exact = [
            [
                (-1) ** (i + j)
                * mpmath.det(mpmath.matrix([[a[p][q] for q in range(n) if q != j] for p in range(n) if p != i]))
                for j in range(n)
            ]
            for i in range(n)
        ]
        return np.array([[float(x) for x in row] for row in exact])


@pytest.mark.parametrize("small", [1.0, 1e-3, 1e-5, 1e-10, 1e-17, 0.0])
@pytest.mark.parametrize("rank", [2, 3])
def test_gradient_of_det_is_the_matrix_of_cofactors(small: float, rank: int) -> None:
    u, s, vh = la.svd(general(4, 4))
    s[rank:] *= small
    a = (u * s) @ vh
    # a itself is known to eps, and the cofactors are no more than the square of its norm per entry of a
    np.testing.assert_allclose(ad.grad(la.det)(a), minors(a), rtol=0, atol=256 * EPS * s[0] ** 3)


@pytest.mark.parametrize("a", [[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
def test_second_derivatives_of_det_of_a_singular_matrix(a: Any) -> None:
    exact = np.zeros((2, 2, 2, 2))
    exact[0, 0, 1, 1] = exact[1, 1, 0, 0] = 1.0
    exact[0, 1, 1, 0] = exact[1, 0, 0, 1] = -1.0
    np.testing.assert_allclose(ad.hessian(la.det)(np.array(a)), exact, rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("rank", [1, 3, 4, 5])
def test_second_derivatives_of_det_whatever_the_rank(rank: int) -> None:
    a, (u, v) = of_rank(5, 5, rank), like([np.zeros((5, 5))] * 2, 7)
    with mpmath.workdps(80):
        h, (at, first, second) = mpmath.mpf(10) ** -20, (mpmath.matrix(x.tolist()) for x in (a, u, v))
        corners = [p * q * mpmath.det(at + h * (p * first + q * second)) for p in (1, -1) for q in (1, -1)]
        exact = float(sum(corners) / (4 * h * h))  # det is a polynomial of degree 5: the error is of size h**2
    # a is known to eps, and third derivatives are products of the two largest values, 3.8 and 3.1, and 25 terms of u, v
    np.testing.assert_allclose(inner(ad.hvp(la.det, a, u), v), exact, rtol=1e-12, atol=1e-12)


def test_det_of_a_stack_of_regular_and_singular_matrices() -> None:
    stack = np.stack([general(3, 3), of_rank(3, 3, 2), np.zeros((3, 3)), of_rank(3, 3, 1)])
    found = ad.grad(lambda a: np.sum(la.det(a)))(stack)
    np.testing.assert_allclose(found, [minors(a) for a in stack], rtol=0, atol=1e-13)


def test_gradient_of_the_nuclear_norm_is_the_orthogonal_factor() -> None:
    a = general(4, 3)
    u, _, vh = la.svd(a, full_matrices=False)
    np.testing.assert_allclose(ad.grad(lambda a: la.norm(a, "nuc"))(a), u @ vh, rtol=0, atol=16 * EPS)


PEERS = {
    "inv": (lambda np, a: np.linalg.inv(a), general(3, 3)),
    "solve": (lambda np, a: np.linalg.solve(a, general(3, 2)), general(3, 3)),
    "det": (lambda np, a: np.linalg.det(a), general(3, 3)),
    "slogdet": (lambda np, a: np.linalg.slogdet(a)[1], general(3, 3)),
    "cholesky": (lambda np, a: np.linalg.cholesky(a), positive(3)),
    "eigenvalues": (lambda np, a: np.linalg.eigh(a)[0], positive(3)),
    "eigenvectors": (lambda np, a: np.linalg.eigh(a)[1], positive(3)),
    "U of svd": (lambda np, a: np.linalg.svd(a, full_matrices=False)[0], general(4, 3)),
    "V of svd": (lambda np, a: np.linalg.svd(a, full_matrices=False)[2], general(2, 3)),
    "pinv": (lambda np, a: np.linalg.pinv(a), general(3, 2)),
    "nuclear norm": (lambda np, a: np.linalg.norm(a, "nuc"), general(3, 2)),
}


@pytest.mark.parametrize("name", PEERS)
def test_gradients_are_those_of_hips_autograd(name: str) -> None:
    f, a = PEERS[name]
    (weights,) = like([f(np, a)], 6)
    ours = ad.grad(lambda a: np.sum(weights * f(np, a)))(a)
    theirs = autograd.grad(lambda a: anp.sum(weights * f(anp, a)))(a)
    if name in ("cholesky", "eigenvalues", "eigenvectors"):  # theirs may be spread over both triangles
        ours, theirs = ours + ours.T, theirs + theirs.T
    # both are products of at most eight matrices of size 3
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=256 * EPS * (1.0 + np.abs(theirs).max()))


def test_a_function_of_a_symmetric_matrix_does_not_feel_the_signs_of_its_eigenvectors() -> None:
    a = positive(3)

    def squared(a: Any) -> Any:
        w, v = la.eigh(a)
        return (v * w**2) @ v.T

    t = general(3, 3) + general(3, 3).T
    np.testing.assert_allclose(ad.jvp(squared, (a,), (t,))[1], a @ t + t @ a, rtol=0, atol=1e-13)


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_first_derivatives_at_random_matrices(n: int, seed: int) -> None:
    a, t = np.random.default_rng(seed).standard_normal((2, n, n))
    a = a + 2.0 * n * np.eye(n)
    y = la.inv(a)
    np.testing.assert_allclose(ad.jvp(la.inv, (a,), (t,))[1], -y @ t @ y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ad.jvp(lambda a: la.slogdet(a)[1], (a,), (t,))[1], np.trace(y @ t), rtol=0, atol=1e-13)
    s = a @ a.T
    v = la.eigh(s)[1]
    np.testing.assert_allclose(ad.jvp(la.eigvalsh, (s,), (t + t.T,))[1], np.diag(v.T @ (t + t.T) @ v), atol=1e-11)
    d_lower = ad.jvp(la.cholesky, (s,), (t + t.T,))[1]
    lower = la.cholesky(s)
    np.testing.assert_allclose(d_lower @ lower.T + lower @ d_lower.T, t + t.T, rtol=0, atol=1e-12)
    assert np.array_equal(np.triu(d_lower, 1), np.zeros((n, n)))


# --- conditions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [la.cholesky, la.eigvalsh, lambda a: la.eigh(a)[1], lambda a: la.pinv(a, hermitian=True)])
def test_what_is_not_read_has_gradient_0_whatever_it_is(f: Any) -> None:
    a = positive(3)
    a[np.triu_indices(3, 1)] = np.nan
    gradient = ad.grad(lambda a: np.sum(general(3, 3) * f(a)))(a)
    assert np.isfinite(gradient).all()
    assert np.array_equal(np.triu(gradient, 1), np.zeros((3, 3)))


EQUAL = [np.eye(3), np.zeros((3, 3)), np.ones((3, 3)), np.ones((3, 3)) + np.eye(3), np.diag([1.0, 1.0, 2.0])]


@pytest.mark.parametrize("a", EQUAL, ids=["one", "0", "ones", "ones + one", "diagonal"])
def test_eigenvalues_have_derivatives_where_eigenvectors_jump(a: Any) -> None:
    exact = 3.0 * a @ a  # of the trace of a**3
    for f in (la.eigvalsh, lambda a: la.eigh(a)[0], lambda a: la.eigh(a).eigenvalues):
        gradient = ad.grad(lambda a, f=f: np.sum(f(a) ** 3))(a)
        np.testing.assert_allclose((gradient + gradient.T) / 2.0, exact, rtol=0, atol=256 * EPS)
        np.testing.assert_allclose(
            ad.jvp(lambda a, f=f: np.sum(f(a) ** 3), (a,), (np.eye(3),))[1], np.trace(exact), atol=256 * EPS
        )
    for f in (la.svdvals, lambda a: la.svd(a)[1]):
        np.testing.assert_allclose(ad.grad(lambda a, f=f: np.sum(f(a) ** 3))(a), exact, rtol=0, atol=256 * EPS)


@pytest.mark.parametrize("a", EQUAL, ids=["one", "0", "ones", "ones + one", "diagonal"])
@pytest.mark.parametrize("f", [lambda a: la.eigh(a)[1], lambda a: la.svd(a)[0], lambda a: la.svd(a)[2]])
def test_vectors_of_equal_values_have_no_derivative(f: Any, a: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not np.isfinite(ad.grad(lambda a: np.sum(general(3, 3) * f(a)))(a)).all()
        assert any("divide by zero" in str(warning.message) for warning in caught)
        assert not np.isfinite(ad.jvp(f, (a,), (general(3, 3),))[1]).all()
    with np.errstate(all="raise"), pytest.raises(FloatingPointError, match="derivative of"):
        ad.grad(lambda a: np.sum(general(3, 3) * f(a)))(a)


def test_functions_through_equal_eigenvalues_are_not_wrong_in_silence() -> None:
    c = general(3, 3)

    def logarithm(a: Any) -> Any:  # its gradient at 1 is c, but by eigenvectors it is 0 / 0
        w, v = la.eigh(a)
        return np.sum(c * ((v * np.log(w)) @ v.T))

    with np.errstate(all="ignore"):
        assert not np.isfinite(ad.grad(logarithm)(np.eye(3))).all()


def test_singular_values_that_are_0() -> None:
    for a in (np.zeros((3, 2)), np.array([[2.0, 0.0], [0.0, 0.0]])):
        exact = np.sign(a)
        for f in (la.svdvals, lambda a: la.svd(a, full_matrices=False)[1]):
            assert np.array_equal(ad.grad(lambda a, f=f: np.sum(f(a)))(a), exact)
            assert np.array_equal(ad.jvp(lambda a, f=f: np.sum(f(a)), (a,), (a,))[1], np.sum(a))
    with np.errstate(all="ignore"):  # rounding instead of 0
        assert not np.isfinite(ad.grad(lambda a: np.sum(la.svd(a, full_matrices=False)[0]))(of_rank(4, 3, 2))).all()


@pytest.mark.parametrize("f", [la.inv, la.slogdet, la.cholesky, lambda a: la.solve(a, np.ones(2))])
def test_singular_matrices_raise_the_error_of_numpy(f: Any) -> None:
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    with pytest.raises(la.LinAlgError):
        ad.grad(lambda a: np.sum(listed(f(a))[-1]))(a)


def test_rank_deficient_columns_have_no_qr_derivative() -> None:
    with pytest.raises(la.LinAlgError):
        ad.grad(lambda a: np.sum(la.qr(a)[1]))(np.zeros((3, 2)))


def test_norm_at_0_is_nan_and_at_ties_shared() -> None:
    with np.errstate(all="ignore"):
        assert np.isnan(ad.grad(la.norm)(np.zeros(3))).all()
        assert np.isnan(ad.grad(lambda a: la.norm(a, axis=1).sum())(np.array([[0.0, 0.0], [3.0, 4.0]]))[0]).all()
    assert np.array_equal(ad.grad(lambda x: la.norm(x, np.inf))(np.array([2.0, -2.0, 1.0])), [0.5, -0.5, 0.0])
    assert np.array_equal(ad.grad(lambda x: la.norm(x, 1))(np.array([2.0, -2.0, 0.0])), [1.0, -1.0, 0.0])
    assert np.array_equal(ad.grad(lambda x: la.norm(x, 4))(np.array([2.0, 0.0])), [1.0, 0.0])
    assert np.array_equal(ad.grad(lambda x: la.norm(x, 0))(np.array([2.0, 0.0])), [0.0, 0.0])
    np.testing.assert_allclose(ad.grad(lambda a: la.norm(a, 2))(np.eye(3)), np.eye(3) / 3.0, atol=4 * EPS)


# --- kinds of arrays ------------------------------------------------------------------------------------------------

SHAPES = [(0, 3, 3), (2, 0, 3, 3), (0, 0), (2, 0, 0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "inv",
        "det",
        "logabsdet",
        "cholesky",
        "eigh",
        "eigenvalues of eigh",
        "eigvalsh",
        "svd, square",
        "svdvals",
        "pinv, wide",
        "qr, tall",
        "matrix_power 7",
        "norm fro of matrices",
        "norm nuc of matrices",
        "norm 2 of matrices",
        "norm 1 of matrices",
    ],
)
def test_no_matrices_and_matrices_of_no_rows(name: str, shape: tuple[int, ...]) -> None:
    f, a = CASES_BY_NAME[name].f, np.zeros(shape)
    expected = listed(f(a))
    found, pullback = ad.vjp(f, a)
    assert [np.shape(y) for y in listed(found)] == [np.shape(y) for y in expected]
    assert all(np.array_equal(y, x) for y, x in zip(listed(found), expected, strict=True))
    ones = tuple(np.ones(np.shape(y)) for y in expected)
    with np.errstate(all="ignore"):  # the norm of a matrix of no rows is 0
        (gradient,) = pullback(ones if isinstance(found, tuple) else ones[0])
        tangents = listed(ad.jvp(f, (a,), (a,))[1])
    assert gradient.shape == shape
    assert [np.shape(t) for t in tangents] == [np.shape(y) for y in expected]


def test_solve_of_nothing() -> None:
    for a, b in ((np.zeros((0, 0)), np.zeros((0, 2))), (np.eye(2), np.zeros((2, 0))), (np.zeros((0, 0)), np.zeros(0))):
        y, pullback = ad.vjp(la.solve, a, b)
        assert y.shape == la.solve(a, b).shape
        assert [g.shape for g in pullback(y)] == [a.shape, b.shape]


@pytest.mark.parametrize(
    "name", ["inv", "solve", "det", "cholesky", "eigh", "svd, tall", "qr, tall", "pinv, tall", "norm"]
)
def test_orders_strides_and_read_only_arrays(name: str) -> None:
    case = CASES_BY_NAME[name]
    expected = listed(ad.grad(lambda *xs: sum(np.sum(y) for y in listed(case.f(*xs))), 0)(*case.inputs))[0]
    for arrange in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=-1)[..., ::2], lambda x: x[::-1].copy()[::-1]):
        inputs = [arrange(x) for x in case.inputs]
        for x in inputs:
            x.setflags(write=False)
        found = ad.grad(lambda *xs: sum(np.sum(y) for y in listed(case.f(*xs))), 0)(*inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_constants_beside_nodes() -> None:
    a, b = general(3, 3), general(3, 2)
    ours = ad.grad(lambda b: np.sum(la.solve(a, b)))(b)
    np.testing.assert_allclose(ours, la.inv(a).T @ np.ones((3, 2)), rtol=1e-13)
    ours = ad.grad(lambda a: np.sum(la.solve(a, b.tolist())))(a)
    np.testing.assert_allclose(ours, -la.inv(a).T @ np.ones((3, 2)) @ la.solve(a, b).T, rtol=1e-12)
    assert la.solve([[2, 0], [0, 4]], Tensor([2.0, 4.0])).data.tolist() == [1.0, 1.0]


def test_results_are_named_as_those_of_numpy() -> None:
    a = Tensor(positive(3))
    sign, logabsdet = la.slogdet(-a)
    assert type(sign) is not Tensor
    assert sign == -1.0
    assert la.slogdet(-a).logabsdet.data == logabsdet.data
    assert la.eigh(a).eigenvectors.shape == (3, 3)
    assert la.svd(a).Vh.shape == la.svd(a).U.shape == (3, 3)
    assert la.qr(a).Q.shape == la.qr(a).R.shape == (3, 3)
    assert la.lstsq(a, np.ones(3))[2] == 3


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: la.svd(a), TypeError, "full_matrices=False"),
        (lambda a: la.qr(a, mode="complete"), TypeError, "mode='reduced'"),
        (lambda a: la.qr(a, mode="raw"), TypeError, "mode='reduced'"),
        (lambda a: la.eig(a), TypeError, "eigh"),
        (lambda a: la.eigvals(a), TypeError, "eigvalsh"),
        (lambda a: la.eigh(a), la.LinAlgError, r"square.*\(3, 2\)"),
        (lambda a: la.cholesky(a), la.LinAlgError, r"square.*\(3, 2\)"),
        (lambda a: la.eigvalsh(a[0]), la.LinAlgError, r"square.*\(2,\)"),
        (lambda a: la.matrix_power(a, 2), la.LinAlgError, r"square.*\(3, 2\)"),
        (lambda a: la.matrix_power(a @ a.T, 0.5), TypeError, "integer"),
        (lambda a: la.eigh(a @ a.T, "X"), ValueError, "'X'"),
        (lambda a: la.inv(a), la.LinAlgError, "square"),
        (lambda a: la.svdvals(a[0]), la.LinAlgError, "dimension"),
        (lambda a: la.svd(a[0]), la.LinAlgError, "dimension"),
        (lambda a: la.qr(a[0]), la.LinAlgError, r"\(2,\)"),
        (lambda a: la.norm(a, "fro", axis=0), ValueError, "fro"),
        (lambda a: la.norm(a, 3), ValueError, "3"),
        (lambda a: la.norm(a, axis=(0, 0)), ValueError, "two different axes"),
        (lambda a: la.norm(a[None], 2), ValueError, "two of matrices"),
        (lambda a: la.norm(a, axis=()), ValueError, "axes"),
        (lambda a: la.norm(a, axis=2), ValueError, "axis 2"),
        (lambda a: la.norm(a, axis=[0, 1]), TypeError, "int"),
        (lambda a: la.matrix_norm(a[0]), ValueError, r"\(2,\)"),
        (lambda a: la.cond(a[:0]), la.LinAlgError, r"\(0, 2\)"),
        (lambda a: la.multi_dot([a]), ValueError, "two"),
        (lambda a: la.multi_dot([a, a[None], a]), la.LinAlgError, r"\(1, 3, 2\)"),
        (lambda a: la.multi_dot([a, a.T], out=np.zeros((3, 3))), TypeError, "out="),
        (lambda a: la.tensorsolve(a, np.ones(2)), la.LinAlgError, r"\(3, 2\)"),
        (lambda a: la.tensorinv(a, ind=0), ValueError, "ind"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Tensor(general(3, 2)))


def test_every_function_of_numpy_linalg_is_known() -> None:
    functions = [getattr(la, name) for name in la.__all__ if hasattr(getattr(la, name), "_implementation")]
    assert [f.__name__ for f in functions if f not in FUNCTIONS] == []


def test_the_graph_is_freed_by_reference_counting() -> None:
    import gc
    import weakref

    gc.disable()
    try:
        a = Tensor(positive(3))
        w, v = la.eigh(a)
        y = np.sum(w) + np.sum(v) + np.sum(la.svd(a)[0]) + la.norm(a, "nuc") + la.det(a)
        y.backward()
        seen = weakref.ref(w.operands[1])
        del w, v, y
        assert seen() is None
    finally:
        gc.enable()
