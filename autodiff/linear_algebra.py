"""Linear algebra on Tensors: numpy.linalg, with the conditions under which its functions have derivatives.

As in operations.py, an operation has a pull (reverse rule) and a push (forward rule), written in NumPy's functions,
so that derivatives of any order follow; what can be written with others is. All of them take stacks of matrices
where NumPy does, keep float32, and raise NumPy's LinAlgError for what NumPy cannot do.

    inv, solve            regular matrices
    det                   all matrices: the gradient is the matrix of cofactors, singular or not
    slogdet               regular matrices; the sign is plain data
    cholesky, eigh,       read one triangle only, lower or upper, and so the other has the gradient 0, on whatever
    eigvalsh              is in it; (G + G^T) / 2 is the gradient G for changes that keep the matrix symmetric
    eigh                  eigenvalues always. Eigenvectors where eigenvalues are distinct: eigenvectors of equal ones
                          jump, and the derivative is nan or inf. Their signs are NumPy's and stay as they are
    svd                   singular values always, and the slope of one that is 0 is 0, as that of |x|. The matrices
                          where singular values are distinct, and not 0 unless the matrix is square; else nan or inf
    qr                    reduced, columns linearly independent
    pinv, lstsq           changes that keep the rank: at others they jump
    norm, cond            as abs, max and sqrt: at ties the slope is shared, and at 0 the Euclidean norm gives nan

Eigenvalues closer than rounding can tell, size times epsilon times the largest, count as equal; so no derivative is
the quotient of two roundings.

Notation in the rules, as in operations.py: y is the result, g its adjoint, a, b the operands, t a tangent.

>>> A = Tensor([[2.0, 1.0], [1.0, 3.0]])
>>> np.linalg.slogdet(A).logabsdet.backward()
>>> A.grad.round(3)  # the inverse, transposed
array([[ 0.6, -0.2],
       [-0.2,  0.4]])
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff import operations
from autodiff import tensor as tensors
from autodiff.array_functions import array_like, by_numbers, on
from autodiff.operations import Operation, axes_of, unbroadcast
from autodiff.tensor import Tensor, apply, plain

LinAlgError = np.linalg.LinAlgError
SlogdetResult: Any = type(np.linalg.slogdet(np.eye(1)))
EighResult: Any = type(np.linalg.eigh(np.eye(1)))
SVDResult: Any = type(np.linalg.svd(np.eye(1)))
QRResult: Any = type(np.linalg.qr(np.eye(1)))


# --- what the rules share -----------------------------------------------------------------------------------------


def mT(x: Any) -> Any:
    """The transposes of a stack of matrices."""
    if type(x) is not Tensor:
        return x.swapaxes(-1, -2)
    n = x.ndim  # np.swapaxes of a node takes longer: it asks NumPy which axis goes where
    return apply(operations.transpose, (x,), {"axes": (*range(n - 2), n - 1, n - 2)})


def _skew(x: Any) -> Any:
    return (x - mT(x)) / 2.0


def _halved(x: Any) -> Any:
    """The lower triangle of x, with half of its diagonal."""
    n = x.shape[-1]
    return x * (np.tri(n, dtype=x.dtype) - np.eye(n, dtype=x.dtype) / 2.0)


def _below(x: Any) -> Any:
    """The triangle of x below the diagonal."""
    return x * np.tri(x.shape[-2], x.shape[-1], -1, dtype=x.dtype)


def _on_diagonal(x: Any) -> Any:
    """The diagonal matrices of a stack of vectors."""
    return x[..., None] * np.eye(x.shape[-1], dtype=x.dtype)


def _diagonal(x: Any) -> Any:
    return np.diagonal(x, axis1=-2, axis2=-1)


def _inverse_gaps(values: Any, tolerance: Any) -> Any:
    """1 / (v_j - v_i) at [i, j], 0 on the diagonal; inf where the two differ by no more than the tolerance."""
    gaps = values[..., None, :] - values[..., :, None]
    equal = np.abs(plain(gaps)) <= tolerance[..., None]
    one = np.eye(values.shape[-1], dtype=bool)
    return np.where(one, 0.0, 1.0 / np.where(one, 1.0, np.where(equal, 0.0, gaps)))


def _rounding(values: Any, n: int) -> Any:
    """How much eigenvalues or singular values of n by n matrices change by rounding, at most; of shape (..., 1)."""
    data = plain(values)
    return n * np.finfo(data.dtype).eps * np.max(np.abs(data), axis=-1, keepdims=True, initial=0.0)


def _checked_square(x: Any, what: str) -> None:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise LinAlgError(f"{what} takes a square matrix or a stack of them, got an array of shape {x.shape}")


def _symmetric(a: Any, what: str, upper: bool) -> Any:
    """The symmetric matrix that NumPy makes of one triangle of a."""
    _checked_square(a, what)
    lower = np.tri(a.shape[-1], dtype=bool)
    return np.where(lower.T if upper else lower, a, mT(a))


# --- inverses and equations ---------------------------------------------------------------------------------------

inverse = Operation("inv", np.linalg.inv, [lambda g, y, a: -(mT(y) @ g @ mT(y))], pushes=[lambda t, y, a: -(y @ t @ y)])
solution = Operation(  # of matrices b
    "solve",
    np.linalg.solve,
    [
        lambda g, y, a, b: unbroadcast(-(np.linalg.solve(mT(a), g) @ mT(y)), a.shape),
        lambda g, y, a, b: unbroadcast(np.linalg.solve(mT(a), g), b.shape),
    ],
    pushes=[
        lambda t, y, a, b: -np.linalg.solve(a, t @ y),
        lambda t, y, a, b: np.linalg.solve(a, t),
    ],
)


def _pinv_pull(g: Any, y: Any, a: Any, **parameters: Any) -> Any:
    left, right = mT(g) @ y @ mT(y), mT(y) @ y @ mT(g)
    return left - a @ (y @ left) + right - right @ y @ a - mT(y) @ g @ mT(y)


def _pinv_push(t: Any, y: Any, a: Any, **parameters: Any) -> Any:
    left, right = y @ mT(y) @ mT(t), mT(t) @ mT(y) @ y
    return left - left @ a @ y + right - y @ (a @ right) - y @ t @ y


# G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
# separate", SIAM J. Numer. Anal. 10(2) (1973)
pseudoinverse = Operation("pinv", np.linalg.pinv, [_pinv_pull], pushes=[_pinv_push])


def _least_squares_pull(position: int, g: Any, y: Any, a: Any, b: Any, rcond: Any) -> Any:
    inverted = np.linalg.pinv(a, **_rtol(a, rcond))
    if position:
        return mT(inverted) @ g
    inner = mT(inverted) @ g
    return (b - a @ y) @ mT(inverted @ inner) + mT(inverted) @ y @ mT(g - inverted @ (a @ g)) - inner @ mT(y)


def _least_squares_push(t: Any, y: Any, a: Any, b: Any, rcond: Any) -> Any:
    inverted = np.linalg.pinv(a, **_rtol(a, rcond))
    back = mT(t) @ (mT(inverted) @ y)
    return inverted @ (mT(inverted) @ (mT(t) @ (b - a @ y))) + back - inverted @ (a @ back) - inverted @ (t @ y)


def _rtol(a: Any, rcond: Any) -> dict[str, Any]:
    """The cutoff of lstsq, for pinv."""
    smallest = np.finfo(a.dtype).eps
    return {"rcond": max(a.shape) * smallest if rcond is None else smallest if rcond < 0 else rcond}


least_squares = Operation(  # of a matrix b
    "lstsq",
    lambda a, b, rcond: np.linalg.lstsq(a, b, rcond)[0],
    _least_squares_pull,
    pushes=[
        _least_squares_push,
        lambda t, y, a, b, rcond: np.linalg.pinv(a, **_rtol(a, rcond)) @ t,
    ],
)


@on(np.linalg.inv)
def _inv(a: Any) -> Any:
    return apply(inverse, (array_like(a),), {})


@on(np.linalg.solve)
def _solve(a: Any, b: Any) -> Any:
    """The x of a x = b: b is a vector if it has one dimension, and matrices otherwise."""
    a, b = array_like(a), array_like(b)
    if b.ndim != 1:
        return apply(solution, (a, b), {})
    x = apply(solution, (a, b.reshape((b.shape[0], 1))), {})
    return x.reshape(x.shape[:-1])


@on(np.linalg.tensorsolve)
def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = array_like(a), array_like(b)
    if axes is not None:
        a = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
    shape = a.shape[b.ndim :]
    n = math.prod(shape)
    if a.size != n**2:
        raise LinAlgError(
            f"tensorsolve takes an a whose first {b.ndim} axes hold as many elements as the rest, got {a.shape}"
        )
    return np.linalg.solve(a.reshape((n, n)), b.reshape(-1)).reshape(shape)


@on(np.linalg.tensorinv)
def _tensorinv(a: Any, ind: int = 2) -> Any:
    a = array_like(a)
    if ind <= 0:
        raise ValueError(f"tensorinv takes an ind of 1 at least, got {ind}")
    flat = a.reshape((math.prod(a.shape[:ind]), math.prod(a.shape[ind:])))
    return np.linalg.inv(flat).reshape(a.shape[ind:] + a.shape[:ind])


@on(np.linalg.pinv)
def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, **options: Any) -> Any:
    """The pseudoinverse, differentiated by changes that keep the rank. hermitian: the lower triangle is read."""
    a = array_like(a)
    if rcond is not None:
        options["rcond"] = rcond
    if hermitian:
        a, options["hermitian"] = _symmetric(a, "pinv with hermitian=True", upper=False), True
    return apply(pseudoinverse, (a,), options)


@on(np.linalg.lstsq)
def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """(x, residuals, rank, singular values): all nodes but the rank; derivatives by changes that keep the rank."""
    a, b = array_like(a), array_like(b)
    found = np.linalg.lstsq(plain(a), plain(b), rcond)  # raises for other shapes
    rank = found[2]
    columns = b.reshape((b.shape[0], 1)) if b.ndim == 1 else b
    y = apply(least_squares, (a, columns), {"rcond": rcond})
    residuals: Any = Tensor(found[1])
    if found[1].size:
        residuals = np.sum((columns - a @ y) ** 2, axis=0)
    return y.reshape(y.shape[:-1]) if b.ndim == 1 else y, residuals, rank, np.linalg.svdvals(a)


# --- determinants -------------------------------------------------------------------------------------------------

# The k-th derivative of det loses a factor of condition**(k - 1) by inv, which nodes may be differentiated for further.
# In the first the errors of det and inv cancel: G. W. Stewart, "On the adjugate matrix", Linear Algebra Appl. 283
# (1998).
WELL_CONDITIONED = 1e4
WELL_CONDITIONED_FOR_ONE = 1e8


def _cofactors(a: Any, y: Any) -> Any:
    """The matrices of cofactors of a stack of matrices, d det(a)/da; for singular ones too. y is det(a)."""
    if not a.size:
        return np.zeros(a.shape, a.dtype)
    try:
        inverted = np.linalg.inv(a)
    except LinAlgError:
        inverted = None
    if inverted is not None:
        with np.errstate(over="ignore"):
            largest = [np.max(np.abs(plain(x)), axis=(-2, -1)) for x in (a, inverted)]
            limit = WELL_CONDITIONED if type(a) is Tensor else WELL_CONDITIONED_FOR_ONE
            poor = largest[0] * largest[1] * a.shape[-1] > limit
        if not poor.any():
            return y.reshape((*y.shape, 1, 1)) * mT(inverted)
    if a.ndim == 2:
        return _cofactors_by_border(a)
    matrices = zip(a.reshape((-1, *a.shape[-2:])), y.reshape(-1), strict=True)
    return np.stack([_cofactors(one, det) for one, det in matrices]).reshape(a.shape)


def _cofactors_by_border(a: Any) -> Any:
    """The cofactors of a matrix that is singular, or nearly so.

    Its few small singular values, of the vectors u, v, are made large: b = a + s u v^T. Then det(a) = det(b) det(k)
    with k = 1 - s v^T b^-1 u, and k is as small as a matrix as the singular values are. With constant u and v this
    is an identity in a, so that derivatives of any order are right; det(k) and its cofactors need no division.
    """
    u, values, vh = np.linalg.svd(plain(a))
    few = values * WELL_CONDITIONED <= values[0]
    few[-1] = True
    s = values[0] if values[0] else values.dtype.type(1)
    u, v = u[:, few], vh[few].T
    b = a + s * (u @ v.T)
    inverted = np.linalg.inv(b)
    small, cofactors = _polynomial_det(np.eye(u.shape[1], dtype=u.dtype) - s * (v.T @ inverted @ u))
    border = s * (inverted.T @ v @ cofactors @ u.T @ inverted.T)
    return np.linalg.det(b) * (small * inverted.T + border)


def _polynomial_det(k: Any) -> tuple[Any, Any]:
    """(det(k), the cofactors of k) of one matrix, by the coefficients of its characteristic polynomial.

    The recursion of Leverrier and Faddeev: products and sums only, so singular matrices are no exception. Its error
    is one of rounding relative to |k|**n, which is small where k is.
    """
    n = k.shape[-1]
    one = np.eye(n, dtype=k.dtype)
    adjugate: Any = one
    for i in range(1, n):
        product = k @ adjugate
        adjugate = product - np.trace(product) / i * one
    sign = -1.0 if n % 2 == 0 else 1.0
    return sign * np.trace(k @ adjugate) / n, sign * adjugate.T


determinant = Operation(
    "det",
    np.linalg.det,
    [lambda g, y, a: g.reshape((*y.shape, 1, 1)) * _cofactors(a, y)],
    pushes=[lambda t, y, a: np.sum(_cofactors(a, y) * t, axis=(-2, -1))],
)
log_determinant = Operation(
    "slogdet",
    lambda a: np.linalg.slogdet(a)[1],
    [lambda g, y, a: g.reshape((*y.shape, 1, 1)) * mT(np.linalg.inv(a))],
    pushes=[lambda t, y, a: np.trace(np.linalg.solve(a, t), axis1=-2, axis2=-1)],
)


@on(np.linalg.det)
def _det(a: Any) -> Any:
    """The determinant; its gradient is the matrix of cofactors, of singular matrices too, and so in any order."""
    return apply(determinant, (array_like(a),), {})


@on(np.linalg.slogdet)
def _slogdet(a: Any) -> Any:
    """(sign, log |det|): the sign changes by jumps only and is plain data. The gradient needs a regular matrix."""
    a = array_like(a)
    sign, logabsdet = by_numbers(np.linalg.slogdet, (a,), {})
    if tensors.watcher is not None:
        return SlogdetResult(sign, apply(log_determinant, (a,), {}))
    return SlogdetResult(sign, tensors.recorded(logabsdet, log_determinant, (a,), (a,), {}))


# --- factors of symmetric matrices --------------------------------------------------------------------------------


def _cholesky_pull(g: Any, y: Any, a: Any, upper: bool) -> Any:
    lower, g = (mT(y), mT(g)) if upper else (y, g)
    inner = _halved(mT(lower) @ (g * np.tri(g.shape[-1], dtype=g.dtype)))
    return np.linalg.solve(mT(lower), mT(np.linalg.solve(mT(lower), inner + mT(inner)))) / 2.0


def _cholesky_push(t: Any, y: Any, a: Any, upper: bool) -> Any:
    lower = mT(y) if upper else y
    inner = np.linalg.solve(lower, mT(np.linalg.solve(lower, (t + mT(t)) / 2.0)))
    found = lower @ _halved(inner)
    return mT(found) if upper else found


cholesky = Operation(  # of a symmetric matrix
    "cholesky",
    lambda a, upper: np.linalg.cholesky(a, upper=True) if upper else np.linalg.cholesky(a),
    [_cholesky_pull],
    pushes=[_cholesky_push],
)


def _joined_eigh(a: Any, UPLO: Any) -> Any:
    values, vectors = np.linalg.eigh(a, UPLO)
    return np.concatenate([values[..., None], vectors], axis=-1)


def _eigenvalues(a: Any, y: Any) -> Any:
    """The eigenvalues in the result y of eigh_; the adjoint of a node of them goes to a, and not to the vectors."""
    return apply(eigenvalues, (a, y), {}) if type(y) is Tensor else y[..., 0]


def _eigh_pull(g: Any, y: Any, a: Any, UPLO: Any) -> Any:
    values, vectors = _eigenvalues(a, y), y[..., 1:]
    inner = _inverse_gaps(values, _rounding(values, a.shape[-1])) * (mT(vectors) @ g[..., 1:])
    return vectors @ (inner + _on_diagonal(g[..., 0])) @ mT(vectors)


def _eigh_push(t: Any, y: Any, a: Any, UPLO: Any) -> Any:
    values, vectors = _eigenvalues(a, y), y[..., 1:]
    inner = mT(vectors) @ t @ vectors
    # without a warning: perhaps only the eigenvalues are wanted, which are operations of their own
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = vectors @ (inner * _inverse_gaps(values, _rounding(values, a.shape[-1])))
    return np.concatenate([_diagonal(inner)[..., None], moved], axis=-1)


eigh_ = Operation(  # of a symmetric matrix: a column of eigenvalues, and the eigenvectors in the further columns
    "eigh", _joined_eigh, [_eigh_pull], pushes=[_eigh_push]
)
# The eigenvalues of a, read off the result y of eigh_. They have derivatives where the vectors have none, so their
# adjoint must not run through the vectors.
eigenvalues = Operation(
    "eigenvalues",
    lambda a, y: y[..., 0],
    [
        lambda g, w, a, y: y[..., 1:] @ (g[..., :, None] * mT(y[..., 1:])),
        lambda g, w, a, y: None,
    ],
    pushes=[
        lambda t, w, a, y: np.sum(y[..., 1:] * (t @ y[..., 1:]), axis=-2),
        lambda t, w, a, y: np.zeros(w.shape, w.dtype),
    ],
)


def _eigvalsh_pull(g: Any, y: Any, a: Any, UPLO: Any) -> Any:
    vectors = np.linalg.eigh(a, UPLO)[1]
    return vectors @ (g[..., :, None] * mT(vectors))


def _eigvalsh_push(t: Any, y: Any, a: Any, UPLO: Any) -> Any:
    vectors = np.linalg.eigh(a, UPLO)[1]
    return np.sum(vectors * (t @ vectors), axis=-2)


eigvalsh = Operation("eigvalsh", np.linalg.eigvalsh, [_eigvalsh_pull], pushes=[_eigvalsh_push])


@on(np.linalg.cholesky)
def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The triangular factor of the symmetric matrix whose lower (upper) triangle is that of a."""
    return apply(cholesky, (_symmetric(array_like(a), "cholesky", bool(upper)),), {"upper": bool(upper)})


def _triangle(UPLO: Any) -> bool:
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise ValueError(f"UPLO is 'L' or 'U', got {UPLO!r}")
    return UPLO.upper() == "U"


@on(np.linalg.eigh)
def _eigh(a: Any, UPLO: Any = "L") -> Any:
    """(eigenvalues, eigenvectors) of the symmetric matrix whose triangle UPLO is that of a."""
    a = _symmetric(array_like(a), "eigh", _triangle(UPLO))
    y = apply(eigh_, (a,), {"UPLO": UPLO})
    return EighResult(_eigenvalues(a, y), y[..., 1:])


@on(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: Any = "L") -> Any:
    """The eigenvalues of the symmetric matrix whose triangle UPLO is that of a."""
    return apply(eigvalsh, (_symmetric(array_like(a), "eigvalsh", _triangle(UPLO)),), {"UPLO": UPLO})


@on(np.linalg.eig, np.linalg.eigvals)
def _eig(a: Any) -> Any:
    raise TypeError(
        "the eigenvalues of a matrix that is not symmetric are complex, and a graph holds real numbers only; for a "
        "symmetric matrix use np.linalg.eigh or np.linalg.eigvalsh"
    )


# --- singular values ----------------------------------------------------------------------------------------------
# A = U S V^T is kept in one array of k = min(m, n) rows: U^T, a column of singular values, V^T.


def _joined_svd(a: Any) -> Any:
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    return np.concatenate([mT(u), s[..., None], vh], axis=-1)


def _singular_values(a: Any, y: Any) -> Any:
    return apply(singular_values, (a, y), {}) if type(y) is Tensor else y[..., a.shape[-2]]


def _svd_parts(y: Any, a: Any) -> tuple[Any, Any, Any, Any, Any]:
    """(U, s, V, 1 / (s_j - s_i), 1 / (s_j + s_i)), the latter two 0 on the diagonal."""
    m = a.shape[-2]
    u, s, v = mT(y[..., :m]), _singular_values(a, y), mT(y[..., m + 1 :])
    tolerance = _rounding(s, max(a.shape[-2:]))
    s = np.where(plain(s) <= tolerance, 0.0, s)  # rounding is no singular value
    one = np.eye(s.shape[-1], dtype=bool)
    sums = np.where(one, 0.0, 1.0 / np.where(one, 1.0, s[..., None, :] + s[..., :, None]))
    return u, s, v, _inverse_gaps(s, tolerance), sums


def _svd_pull(g: Any, y: Any, a: Any) -> Any:
    m, n = a.shape[-2:]
    u, s, v, by_gaps, by_sums = _svd_parts(y, a)
    gu, gv = mT(g[..., :m]), mT(g[..., m + 1 :])
    ku, kv = mT(u) @ gu, mT(v) @ gv
    inner = by_gaps * _skew(ku + kv) + by_sums * _skew(ku - kv) + _on_diagonal(g[..., m])
    found = u @ inner @ mT(v)
    if m > n:
        found = found + (gu - u @ ku) / s[..., None, :] @ mT(v)
    if n > m:
        found = found + u @ mT((gv - v @ kv) / s[..., None, :])
    return found


def _svd_push(t: Any, y: Any, a: Any) -> Any:
    m, n = a.shape[-2:]
    with np.errstate(divide="ignore", invalid="ignore"):  # as in _eigh_push
        u, s, v, by_gaps, by_sums = _svd_parts(y, a)
        inner = mT(u) @ t @ v
        even, odd = by_gaps * (inner + mT(inner)) / 2.0, by_sums * _skew(inner)
        du, dv = u @ (even + odd), v @ (even - odd)
        if m > n:
            du = du + (t @ v - u @ inner) / s[..., None, :]
        if n > m:
            dv = dv + (mT(t) @ u - v @ mT(inner)) / s[..., None, :]
    return np.concatenate([mT(du), _diagonal(inner)[..., None], mT(dv)], axis=-1)


def _values_pull(g: Any, u: Any, s: Any, vh: Any) -> Any:
    return u @ ((g * np.sign(s))[..., :, None] * vh)  # a value that is 0 is at the tip of |x|


def _values_push(t: Any, u: Any, s: Any, vh: Any) -> Any:
    return np.sign(s) * np.sum(u * (t @ mT(vh)), axis=-2)


svd_ = Operation("svd", _joined_svd, [_svd_pull], pushes=[_svd_push])
singular_values = Operation(  # of a, read off the result y of svd_; see eigenvalues
    "singular_values",
    lambda a, y: y[..., a.shape[-2]],
    [
        lambda g, s, a, y: _values_pull(g, mT(y[..., : a.shape[-2]]), s, y[..., a.shape[-2] + 1 :]),
        lambda g, s, a, y: None,
    ],
    pushes=[
        lambda t, s, a, y: _values_push(t, mT(y[..., : a.shape[-2]]), s, y[..., a.shape[-2] + 1 :]),
        lambda t, s, a, y: np.zeros(s.shape, s.dtype),
    ],
)
svdvals = Operation(
    "svdvals",
    lambda a: np.linalg.svd(a, compute_uv=False),
    [lambda g, y, a: _values_pull(g, *np.linalg.svd(a, full_matrices=False))],
    pushes=[lambda t, y, a: _values_push(t, *np.linalg.svd(a, full_matrices=False))],
)


@on(np.linalg.svd)
def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """(U, s, V^T) or s. hermitian: of the symmetric matrix whose lower triangle is that of a."""
    a = array_like(a)
    if hermitian:
        return _svd_of_symmetric(a, compute_uv)
    if not compute_uv:
        return apply(svdvals, (a,), {})
    if full_matrices and a.ndim >= 2 and a.shape[-1] != a.shape[-2]:
        raise TypeError(
            f"np.linalg.svd of matrices of shape {a.shape[-2:]} makes up the rest of a basis, which has no derivative; "
            "use full_matrices=False"
        )
    m = a.shape[-2] if a.ndim >= 2 else 0  # NumPy refuses the latter
    y = apply(svd_, (a,), {})
    return SVDResult(mT(y[..., :m]), _singular_values(a, y), y[..., m + 1 :])


def _svd_of_symmetric(a: Any, compute_uv: bool) -> Any:
    if not compute_uv:
        return np.sort(np.abs(np.linalg.eigvalsh(a)))[..., ::-1]
    values, vectors = np.linalg.eigh(a)
    order = np.argsort(np.abs(values.data))[..., ::-1]
    values = np.take_along_axis(values, order, axis=-1)
    u = np.take_along_axis(vectors, order[..., None, :], axis=-1)
    return SVDResult(u, np.abs(values), mT(u * np.sign(values)[..., None, :]))


@on(np.linalg.svdvals)
def _svdvals(x: Any, /) -> Any:
    return apply(svdvals, (array_like(x),), {})


# --- orthogonal and triangular factors ----------------------------------------------------------------------------
# A = Q R with m >= n is kept in one array of n rows: Q^T, R.


def _joined_qr(a: Any) -> Any:
    q, r = np.linalg.qr(a)
    return np.concatenate([mT(q), r], axis=-1)


def _right_divided(x: Any, r: Any) -> Any:
    """x r^-1."""
    return mT(np.linalg.solve(mT(r), mT(x)))


def _qr_pull(g: Any, y: Any, a: Any) -> Any:
    m = a.shape[-2]
    q, r, gq, gr = mT(y[..., :m]), y[..., m:], mT(g[..., :m]), g[..., m:]
    gr = gr - _below(gr)  # what is below the diagonal is 0, whatever a is
    inner = r @ mT(gr) - mT(gq) @ q
    inner = inner - mT(_below(mT(inner))) + mT(_below(inner))  # the lower triangle, mirrored
    return mT(np.linalg.solve(r, mT(gq + q @ inner)))


def _qr_push(t: Any, y: Any, a: Any) -> Any:
    m = a.shape[-2]
    q, r = mT(y[..., :m]), y[..., m:]
    inner = mT(q) @ t
    turned = _below(_right_divided(inner, r))
    turned = turned - mT(turned)
    dq = q @ turned + _right_divided(t - q @ inner, r)
    dr = inner - turned @ r
    return np.concatenate([mT(dq), dr - _below(dr)], axis=-1)


qr_ = Operation("qr", _joined_qr, [_qr_pull], pushes=[_qr_push])


@on(np.linalg.qr)
def _qr(a: Any, mode: str = "reduced") -> Any:
    """(Q, R), or R for mode "r", of a matrix whose first columns, as many as it has rows, are independent."""
    a = array_like(a)
    if a.ndim < 2:
        raise LinAlgError(f"qr takes a matrix or a stack of them, got an array of shape {a.shape}")
    m, n = a.shape[-2:]
    if mode not in ("reduced", "r") and not (mode == "complete" and m <= n):
        raise TypeError(
            f"np.linalg.qr of a {m} by {n} matrix with mode {mode!r} cannot be applied to array nodes: there is no "
            "rule for it; use mode='reduced'"
        )
    y = apply(qr_, (a if n <= m else a[..., :m],), {})
    q, r = mT(y[..., :m]), y[..., m:]
    if n > m:
        r = np.concatenate([r, mT(q) @ a[..., m:]], axis=-1)
    return r if mode == "r" else QRResult(q, r)


# --- norms --------------------------------------------------------------------------------------------------------


def _largest(x: Any, axis: Any, keepdims: bool = False) -> Any:
    return np.max(x, axis=axis, keepdims=keepdims) if x.size else np.max(x, axis=axis, keepdims=keepdims, initial=0.0)


def _vector_norm(x: Any, order: Any, axis: Any, keepdims: bool) -> Any:
    """(sum of |x|**order)**(1/order), and its limits for 0, inf and -inf."""
    if isinstance(order, str):
        raise ValueError(f"Invalid norm order {order!r} for vectors")
    if order is None or order == 2:
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))
    if order == 0:  # it counts, and so it changes by jumps only
        return Tensor(np.sum(x.data != 0, axis=axis, keepdims=keepdims).astype(x.dtype))
    if order == math.inf:
        return _largest(np.abs(x), axis, keepdims)
    if order == -math.inf:
        return np.min(np.abs(x), axis=axis, keepdims=keepdims)
    if order == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    # an even power of a negative number is that of its absolute value, and is smooth at 0
    base = x if order > 0 and order % 2 == 0 else np.abs(x)
    return np.sum(base ** float(order), axis=axis, keepdims=keepdims) ** (1.0 / order)


def _matrix_norm(x: Any, order: Any, axes: tuple[int, int], keepdims: bool) -> Any:
    rows, columns = axes
    if order in (None, "fro", "f"):
        return np.sqrt(np.sum(x * x, axis=axes, keepdims=keepdims))
    if order in (2, -2, "nuc"):
        last = (x.ndim - 2, x.ndim - 1)
        values = np.linalg.svdvals(x if axes == last else np.moveaxis(x, axes, last))
        found = np.sum(values, axis=-1) if order == "nuc" else np.min(values, axis=-1) if order == -2 else None
        found = _largest(values, -1) if found is None else found
    elif order in (1, -1):
        sums = np.sum(np.abs(x), axis=rows, keepdims=True)
        found = _largest(sums, axes) if order == 1 else np.min(sums, axis=axes)
    elif order in (math.inf, -math.inf):
        sums = np.sum(np.abs(x), axis=columns, keepdims=True)
        found = _largest(sums, axes) if order == math.inf else np.min(sums, axis=axes)
    else:
        raise ValueError(f"Invalid norm order {order!r} for matrices")
    return found.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else found


@on(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """The norm of vectors or matrices; at 0 the Euclidean one has no slope and gives nan."""
    x = array_like(x)
    if axis is None and (ord is None or (ord == 2 and x.ndim == 1) or (ord in ("f", "fro") and x.ndim == 2)):
        flat = x if x.ndim == 1 else apply(operations.reshape, (x,), {"shape": (x.size,)})
        length = np.sqrt(flat @ flat)
        return length.reshape((1,) * x.ndim) if keepdims else length
    if isinstance(axis, tuple) and len(axis) == 2 and axis[0] == axis[1]:
        raise ValueError(f"norm takes two different axes, got {axis}")
    axes = axes_of(axis if axis is None or isinstance(axis, tuple) else int(axis), x.ndim)
    axes = tuple(range(x.ndim)) if axes is None else axes
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, bool(keepdims))
    if len(axes) != 2:
        raise ValueError(f"norm takes one axis of vectors or two of matrices, got the axes {axes} of {x.shape}")
    return _matrix_norm(x, ord, axes, bool(keepdims))


@on(np.linalg.vector_norm)
def _norm_of_vectors(x: Any, /, *, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Any:
    x = array_like(x)
    axes = axes_of(axis, x.ndim)
    if axes is None and not keepdims:
        return _norm(x.reshape(-1), ord, 0 if ord not in (None, 2) else None)
    return _vector_norm(x, ord, tuple(range(x.ndim)) if axes is None else axes, bool(keepdims))


@on(np.linalg.matrix_norm)
def _norm_of_matrices(x: Any, /, *, keepdims: Any = False, ord: Any = "fro") -> Any:
    x = array_like(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_norm takes a matrix or a stack of them, got an array of shape {x.shape}")
    return _matrix_norm(x, ord, (x.ndim - 2, x.ndim - 1), bool(keepdims))


@on(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    """The condition number |x| |x^-1|; LinAlgError for singular matrices but in the Euclidean norm, where it is inf."""
    x = array_like(x)
    if 0 in x.shape[-2:]:
        raise LinAlgError(f"cond takes matrices that are not empty, got an array of shape {x.shape}")
    if p is None or p in (2, -2):
        values = np.linalg.svdvals(x)
        with np.errstate(divide="ignore"):
            return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    return np.linalg.norm(x, p, axis=(-2, -1)) * np.linalg.norm(np.linalg.inv(x), p, axis=(-2, -1))


# --- products -----------------------------------------------------------------------------------------------------


@on(np.linalg.trace)
def _trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return np.trace(x, offset, axis1=-2, axis2=-1, dtype=dtype)


@on(np.linalg.matrix_power)
def _matrix_power(a: Any, n: Any) -> Any:
    """a @ a @ ... @ a by squaring, in NumPy's order; of the inverse for n < 0."""
    a = array_like(a)
    _checked_square(a, "matrix_power")
    n = operator.index(n)
    if n == 0:
        return Tensor(np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape))
    if n < 0:
        a, n = np.linalg.inv(a), -n
    if n == 3:
        return (a @ a) @ a
    square = found = None
    while n:
        square = a if square is None else square @ square
        n, odd = divmod(n, 2)
        if odd:
            found = square if found is None else found @ square
    return found


@on(np.linalg.multi_dot)
def _multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """The product of matrices, in the order of the fewest multiplications; the first and last may be vectors."""
    nodes = [array_like(x) for x in arrays]
    if len(nodes) < 2:
        raise ValueError("multi_dot takes two arrays at least")
    first, last = nodes[0].ndim, nodes[-1].ndim
    if first == 1:
        nodes[0] = nodes[0].reshape((1, -1))
    if last == 1:
        nodes[-1] = nodes[-1].reshape((-1, 1))
    for x in nodes:
        if x.ndim != 2:
            raise LinAlgError(f"multi_dot takes matrices, and vectors at the ends, got {[np.shape(x) for x in arrays]}")
    product = _chain(nodes)
    return product.reshape(product.shape[first == 1 : 2 - (last == 1)])


def _chain(matrices: list[Any]) -> Any:
    sizes = [matrices[0].shape[0], *(x.shape[1] for x in matrices)]
    n = len(matrices)
    best = {(i, i): (0, i) for i in range(n)}  # (first, last) of a part of the chain -> (multiplications, where to cut)
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )
    return _multiplied(matrices, best, 0, n - 1)


def _multiplied(matrices: list[Any], best: dict[tuple[int, int], tuple[int, int]], i: int, j: int) -> Any:
    if i == j:
        return matrices[i]
    cut = best[i, j][1]
    left, right = _multiplied(matrices, best, i, cut), _multiplied(matrices, best, cut + 1, j)
    return apply(operations.matmul, (left, right), {})
