"""What NumPy's functions do on Tensors, held against NumPy itself, differences, and forward against reverse mode.

One table of expressions serves every check. The arrays are tiny and their elements differ, so that no expression
stands at a kink.
"""

import inspect
import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import special

import autodiff as ad
from autodiff import Tensor, Value, array_functions, check_grad, grad, operations, scalars, tensor
from autodiff.operations import Operation
from autodiff.primitives import SPECIAL
from autodiff.tensor import FUNCTIONS, apply

# Letters are arrays of these shapes; in every expression one at least is a node.
SHAPES = {
    "a": (3, 4),
    "b": (4,),
    "c": (3, 1),
    "d": (2, 3, 4),
    "e": (4, 3),
    "f": (4, 4),
    "g": (5,),
    "s": (),
    "t": (2, 1, 4, 2),
    "u": (3,),
    "z": (0, 3),
}
CASES = {
    "reductions": [
        "np.sum(a)", "np.sum(a, 0)", "np.sum(a, axis=(0, -1))", "np.sum(a, axis=())",
        "np.sum(a, 1, keepdims=True)", "np.sum(d, axis=(0, 2), keepdims=True)", "np.sum(a, initial=2.0)",
        "np.sum(a, axis=0, where=a > 0)", "np.sum(a, -1, None, None, True)", "a.sum(0)",
        "a.sum(axis=-1, keepdims=True)", "np.add.reduce(a)", "np.add.reduce(a, axis=None)",
        "np.add.reduce(d, axis=(0, 1), keepdims=True)", "np.sum(s)", "np.sum(z, axis=0)", "np.mean(a)",
        "np.mean(a, 1)", "np.mean(d, axis=(0, -1), keepdims=True)", "np.mean(a, axis=1, where=a > -1.5)",
        "a.mean(0)", "np.mean(a, axis=())", "np.var(a)", "np.var(a, 0, ddof=1)",
        "np.var(d, axis=(1, 2), keepdims=True)", "np.var(a, axis=0, correction=1)",
        "np.var(a, 1, mean=np.mean(a, 1, keepdims=True))", "a.var(ddof=2)", "np.var(a, axis=1, where=a > -1.5)",
        "np.std(a)", "np.std(a, 0)", "np.std(a, axis=1, ddof=1, keepdims=True)",
        "np.std(a, axis=1, where=a > -1.5)", "a.std(-1)", "np.prod(a)", "np.prod(a, 0)", "np.prod(d, axis=(0, 2))",
        "np.prod(a, axis=1, keepdims=True)", "np.prod(a, initial=3.0)", "np.prod(a, axis=0, where=a > 0)",
        "np.prod(z, axis=0)", "np.prod(a, axis=())", "a.prod()", "np.multiply.reduce(a, axis=1)", "np.prod(g)",
        "np.max(a)", "np.max(a, 0)", "np.max(d, axis=(0, 2), keepdims=True)", "np.amax(a, 1)", "a.max(1)",
        "np.max(a, axis=0, initial=0.1)", "np.max(a, axis=0, initial=-9.0, where=a > 0)",
        "np.maximum.reduce(a, axis=1)", "np.min(a)", "np.min(a, 0)", "np.min(d, axis=(0, 2), keepdims=True)",
        "np.amin(a, 1)", "a.min(-1)", "np.min(a, axis=0, initial=0.1)", "np.minimum.reduce(a)",
        "np.max(z, axis=0, initial=1.0)", "np.ptp(a)", "np.ptp(a, axis=1, keepdims=True)", "np.cumsum(a)",
        "np.cumsum(a, 0)", "np.cumsum(a, axis=-1)", "a.cumsum(1)", "np.add.accumulate(a, axis=1)", "np.cumprod(a)",
        "np.cumprod(a, axis=1)", "a.cumprod(0)", "np.cumsum(s)", "np.cumulative_sum(g)",
        "np.cumulative_sum(a, axis=1, include_initial=True)", "np.cumulative_prod(a, axis=0)",
        "np.multiply.accumulate(g)", "np.maximum.accumulate(a, axis=1)", "np.logaddexp.reduce(a, axis=1)",
        "np.logaddexp.reduce(a, axis=None)", "np.hypot.reduce(a)", "np.subtract.reduce(a, axis=1)",
        "np.logaddexp.accumulate(g)", "np.add.reduceat(g, [0, 3, 1])", "np.maximum.reduceat(a, [0, 2], axis=1)",
        "np.trace(a)", "np.trace(d, 1, 1, 2)", "a.trace(offset=-1)", "np.linalg.trace(d)", "np.average(a)",
        "np.average(a, axis=1, weights=np.exp(b))", "np.average(a, weights=np.exp(a))",
        "np.average(a, 0, np.exp(u), returned=True)",
        "np.average(d, axis=(2, 0), weights=np.exp(np.arange(8.0)).reshape(4, 2))", "np.median(a)",
        "np.median(a, axis=1)", "np.median(d, axis=(0, 1), keepdims=True)", "np.median(g)", "np.quantile(a, 0.3)",
        "np.quantile(a, [0.1, 0.5, 1.0], axis=1)", "np.percentile(a, 40, axis=0, keepdims=True)",
        "np.quantile(d, [[0.2], [0.9]], axis=(0, 2), keepdims=True)", "np.quantile(a, 0.35, method='hazen')",
        "np.quantile(g, 0.35, method='nearest')", "np.quantile(g, [0.35, 0.8], method='median_unbiased')",
        "np.quantile(g, 0.6, method='lower')", "np.cov(a)", "np.cov(a, rowvar=False)", "np.cov(g)",
        "np.cov(a, e.T)", "np.cov(a, bias=True)", "np.cov(a, ddof=0, aweights=np.exp(b))",
        "np.cov(a, fweights=np.array([1, 3, 2, 1]))", "np.corrcoef(a)", "np.corrcoef(a, b)",
        "np.corrcoef(a, rowvar=False)", "np.nansum(a, axis=0)", "np.nanmean(a, 1)", "np.nanvar(a, 0, ddof=1)",
        "np.nanstd(a)", "np.nanprod(a, axis=1)", "np.nanmax(a, axis=0)", "np.nanmin(a)", "np.nancumsum(a, axis=0)",
        "np.nancumprod(a, axis=1)", "np.nanmedian(a, axis=1)", "np.nanquantile(a, 0.3, axis=0)",
        "np.nanpercentile(a, [30, 60], axis=1, keepdims=True)", "np.bincount([0, 2, 2, 0, 1], weights=g)",
        "np.bincount([0, 2, 2], weights=u, minlength=5)", "np.trapezoid(a)", "np.trapezoid(a, dx=0.5, axis=0)",
        "np.trapezoid(a, b)", "np.trapezoid(a, np.exp(c), axis=0)", "np.trapezoid(b, [0.0, 1.0, 3.0, 4.0])",
    ],
    "shapes": [
        "np.reshape(a, (2, 6))", "np.reshape(a, -1)", "np.reshape(a, (4, -1), order='F')", "a.reshape(6, 2)",
        "a.reshape((6, -1))", "a.reshape(4, 3, order='F')", "a.T.reshape((2, 6), order='A')", "np.ravel(a)",
        "np.ravel(a, 'F')", "a.T.ravel(order='K')", "d.transpose(1, 2, 0).ravel('K')", "a.ravel()",
        "a.flatten('F')", "np.transpose(a)", "np.transpose(d, (1, 2, 0))", "np.permute_dims(d, (0, -1, 1))", "a.T",
        "d.mT", "d.transpose(2, 0, 1)", "d.transpose((1, 0, 2))", "d.transpose()", "np.swapaxes(d, 0, -1)",
        "d.swapaxes(1, 2)", "np.moveaxis(d, 0, -1)", "np.moveaxis(d, [0, 1], [-1, -2])", "np.rollaxis(d, 2)",
        "np.rollaxis(d, 0, 3)", "np.matrix_transpose(d)", "np.squeeze(t)", "np.squeeze(t, axis=1)", "t.squeeze()",
        "np.expand_dims(a, 0)", "np.expand_dims(a, (0, -1))", "a[:, None]", "np.atleast_1d(s)", "np.atleast_2d(b)",
        "np.atleast_3d(b)", "np.atleast_3d(a)", "np.atleast_2d(s, a)", "np.broadcast_to(b, (3, 4))",
        "np.broadcast_to(c, (2, 3, 4))", "np.broadcast_to(s, 3)", "np.broadcast_arrays(b, c)", "np.meshgrid(b, u)",
        "np.meshgrid(b, u, g, indexing='ij', sparse=True)", "np.meshgrid(b, u, indexing='ij')", "np.copy(a)",
        "a.copy()", "a.real", "np.real(a)", "a.conj()", "np.positive(a)", "+a", "np.unstack(d, axis=1)", "list(a)",
        "[*a.flat]", "np.full_like(a, s)", "np.full_like(b, a[0])",
    ],
    "joins": [
        "np.concatenate([a, a])", "np.concatenate((a, c), axis=1)", "np.concatenate([a, b], axis=None)",
        "np.concatenate([d, d[:1]], -3)", "np.stack([a, 2.0 * a])", "np.stack([a, a], axis=-1)",
        "np.stack([s, s])", "np.vstack([a, b])", "np.hstack([a, c])", "np.hstack([b, g])", "np.dstack([a, a])",
        "np.column_stack([u, a])", "np.append(a, b)", "np.append(a, c, axis=1)", "np.block([[a, c], [a, c]])",
        "np.block([b, s])", "np.split(b, 2)", "np.split(a, [1, 3], axis=1)", "np.array_split(g, 3)",
        "np.hsplit(a, 2)", "np.vsplit(e, 2)", "np.dsplit(d, [1])", "np.insert(b, 1, s)",
        "np.insert(a, [0, 2], b, axis=0)", "np.insert(g, [1, 1, 4], u)", "np.concatenate([z, a[:, 1:]])",
        "np.concatenate([np.ones(2), b])", "np.stack([b, np.zeros(4)])", "np.concatenate([b, [1, 2]])",
    ],
    "rearrangements": [
        "np.repeat(a, 2)", "np.repeat(a, [1, 0, 2], axis=0)", "a.repeat(3, 1)", "np.tile(a, 2)",
        "np.tile(b, (2, 3))", "np.tile(a, (2, 1, 2))", "np.roll(a, 1)", "np.roll(a, (1, -1), axis=(0, 1))",
        "np.roll(a, shift=2, axis=-1)", "np.flip(a)", "np.flip(a, 0)", "np.flip(d, axis=(0, -1))", "np.fliplr(a)",
        "np.flipud(a)", "np.rot90(a)", "np.rot90(a, 2)", "np.rot90(a, -1)", "np.rot90(d, 1, axes=(2, 0))",
        "np.split(g, [3, 1, 4])", "np.array_split(a, 3, axis=-1)", "np.split(a, [1], -1)", "np.hsplit(g, [2])",
        "np.tril(b)", "np.triu(t, -1)", "np.rot90(d, 3, axes=(1, 2))", "np.pad(a, 1)",
        "np.pad(a, ((0, 1), (2, 0)), constant_values=3.0)", "np.pad(b, (1, 2), 'edge')",
        "np.pad(a, 2, mode='reflect')", "np.pad(a, 3, 'wrap')", "np.pad(a, 2, 'symmetric')",
        "np.pad(a, 1, constant_values=((1.0, 2.0), (3.0, 4.0)))", "np.diag(b)", "np.diag(a)", "np.diag(a, 1)",
        "np.diag(b, k=-2)", "np.diagflat(a, 1)", "np.diagonal(a)", "np.diagonal(d, 1, 0, 2)", "a.diagonal(-1)",
        "np.linalg.diagonal(d)", "np.tril(a)", "np.tril(d, -1)", "np.triu(a, 1)", "np.triu(d)",
        "np.resize(a, (2, 3))", "np.resize(b, 7)", "np.take(a, [0, 5, 5])", "np.take(a, [2, 2, 0], axis=0)",
        "a.take(1, axis=-1)", "np.take(a, -1)", "np.take(b, [[0, 6], [-1, 2]], mode='wrap')",
        "np.delete(a, 1, axis=0)", "np.delete(b, [0, -1])", "np.take_along_axis(a, np.array([[0, 0, 3]]), axis=1)",
        "np.compress([True, False, True], a, axis=0)", "a.compress([0, 1, 1, 0])", "np.extract(a > 0, a)",
        "np.sort(a)", "np.sort(a, axis=0)", "np.sort(a, axis=None)", "np.sort(g)[::-1]", "np.partition(g, 2)[2]",
        "np.unique(g)", "np.unique(np.stack([g, g]), axis=0)", "np.unwrap(3.0 * g)",
        "np.unwrap(4.0 * a, axis=0, period=5.0)",
    ],
    "indices": [
        "a[0]", "a[-1, 2]", "a[1:]", "a[::-1, ::2]", "a[..., 0]", "a[None]", "a[:, None, 1:3]", "a[[0, 0, 2]]",
        "a[[0, 1, 0], [3, 3, 3]]", "a[[[0], [2]], [1, 1]]", "a[a > 0]", "a[:, [True, False, False, True]]",
        "a[np.array([2, 0])]", "a[1:, [0, 0, -1]]", "d[0, :, [1, 1, 2]]", "d[:, [0, 2], [1, 1]]",
        "d[[1, 1], ..., 0]", "s[()]", "s[None]", "s[...]", "a[np.int64(1)]", "a[True]", "s[True]", "a[False]",
        "a[[]]", "b[2:2]", "a[np.ix_([0, 2], [1, 1])]", "a[range(2)]", "d[np.ones((2, 3), dtype=bool)]", "d[(0,)]",
        "a[np.array([[True] * 4, [False] * 4, [True] * 4])]",
    ],
    "choices": [
        "np.where(a > 0, a, b)", "np.where(a > 0, a, 0.0)", "np.where(b > 0, 0, a)", "np.where(a > 0, c, b)",
        "np.where(True, s, a)", "np.where([True, False, True, False], b, 2.0 * s)", "np.clip(a, -1.0, 1.0)",
        "np.clip(a, b, None)", "np.clip(a, a_min=None, a_max=0.5)", "a.clip(0.1)", "a.clip(max=0.3)",
        "np.clip(a, min=-0.5, max=c + 3.0)", "np.clip(np.ones(4), b, None)",
        "np.select([a > 1, a < 0], [a, 2.0 * b], default=s)", "np.select([a > 1], [a * a])",
        "np.choose([0, 2, 1, 0], [b, 2.0 * b, s])", "np.choose([[5], [-1], [1]], [a, b], mode='clip')",
        "np.choose([5, -1, 0, 1], [b, s], mode='wrap')", "np.nan_to_num(a)",
        "np.piecewise(a, [a < 0, a > 1], [np.exp, 2.0, np.sin])",
        "np.piecewise(b, b < 0, [lambda x: x * x, lambda x: -x])", "np.maximum(a, b)", "np.minimum(c, b)",
        "np.fmax(a, 0.1)", "np.fmin(a, c)", "np.heaviside(a, 0.5)",
        "np.interp(a, [-1.0, 0.0, 1.5], [2.0, 3.0, -1.0])",
        "np.interp([0.1, 0.45, 3.0, -1.0], [0.0, 0.4, 1.0, 2.0], b)",
        "np.interp(a, np.cumsum(np.exp(g)), g, left=9.0, right=s)", "np.interp(a, [0.3, 0.8, 1.9], u, period=2.0)",
        "np.interp(s, [1.0], [2.0])",
    ],
    "products": [
        "a @ e", "a @ b", "b @ e", "b @ b", "d @ e", "d @ b", "u @ d", "a @ t", "t.swapaxes(-1, -2) @ e",
        "np.matmul(a, e)", "np.ones((2, 3)) @ a", "a @ np.ones((4, 2))", "z.T @ z", "z @ a", "[1.0, 2.0, 3.0] @ a",
        "np.dot(a, e)", "np.dot(s, a)", "np.dot(a, b)", "np.dot(b, e)", "np.dot(d, e)", "np.dot(b, t)",
        "np.dot(d, t)", "a.dot(e)", "np.dot(a, 2.0)", "np.dot(2, a)", "np.inner(b, b)", "np.inner(a, b)",
        "np.inner(d, a)", "np.inner(s, a)", "np.outer(a, g)", "np.outer(b, s)", "np.vdot(a, e)",
        "np.linalg.outer(b, g)", "np.multiply.outer(a, g)", "np.subtract.outer(b, np.ones(2))",
        "np.tensordot(a, e, 1)", "np.tensordot(a, d, axes=([0, 1], [1, 2]))", "np.tensordot(d, a, axes=(-1, 1))",
        "np.tensordot(b, g, 0)", "np.tensordot(a, a)", "np.linalg.tensordot(d, e, axes=((2,), (0,)))",
        "np.kron(a, b)", "np.kron(b, a)", "np.kron(b, g)", "np.kron(d, a)", "np.kron(s, a)",
        "np.cross(u, u[::-1])", "np.cross(e, u)", "np.cross(a, c, axis=0)", "np.cross(a, e, axisa=0, axisc=0)",
        "np.linalg.cross(e, u)", "np.vecdot(a, b)", "np.vecdot(a, c, axis=0)", "np.linalg.vecdot(d, b)",
        "np.matvec(d, b)", "np.vecmat(u, d)", "np.linalg.matmul(a, e)", "np.einsum('ij,jk->ik', a, e)",
        "np.einsum('ij,j', a, b)", "np.einsum('ij->ji', a)", "np.einsum('ij->', a)", "np.einsum('ij', e)",
        "np.einsum('ji', a)", "np.einsum('ii', f)", "np.einsum('ii->i', f)", "np.einsum('ii,i->i', f, b)",
        "np.einsum('i,i,i', b, b, b)", "np.einsum('...j,j', d, b)", "np.einsum('...ij,...jk', d, e)",
        "np.einsum('i...->...', d)", "np.einsum('i...,i...->...', a, c)", "np.einsum('ij,kj->ijk', a, a)",
        "np.einsum('i,j', b, g)", "np.einsum(a, [0, 1], e, [1, 2], [0, 2])", "np.einsum(a, [0, 1], b, [1])",
        "np.einsum('ij,ij->j', a, c)", "np.einsum('iij->j', np.ones((4, 4, 1)) * b)", "np.einsum('ij,k->k', a, g)",
        "np.einsum('B A , A', a, b)", "np.einsum('zij,zkj,k->zi', d, d, u, optimize='greedy')",
        "np.einsum('ijij->', np.multiply.outer(f, f))",
    ],
    "sequences": [
        "np.diff(a)", "np.diff(a, axis=0)", "np.diff(g, n=2)", "np.diff(g, 0)", "np.diff(a, prepend=c)",
        "np.diff(a, append=1.0)", "np.diff(g, prepend=s)", "np.diff(a, axis=0, prepend=b[None], append=0.0)",
        "np.ediff1d(a)", "np.ediff1d(b, to_begin=s, to_end=[1.0, 2.0])", "np.gradient(g)", "np.gradient(a)",
        "np.gradient(a, 0.5)", "np.gradient(a, 2.0, [0.0, 1.0, 3.0, 4.0])", "np.gradient(a, axis=0)",
        "np.gradient(g, edge_order=2)", "np.gradient(d, axis=(1, 2))",
        "np.gradient(g, [0.0, 0.5, 2.0, 2.5, 4.0], edge_order=2)", "np.gradient(g[:2])", "np.linspace(s, 2.0, 5)",
        "np.linspace(b, 1.0, 3, endpoint=False)", "np.linspace(0.0, s, 4, retstep=True)",
        "np.linspace(c, b, 3, axis=-1)", "np.linspace(s, 1.0, 1)", "np.linspace(s, 1.0, 0)",
        "np.logspace(s, 1.0, 4)", "np.logspace(s, b, 3, base=2.0, axis=1)", "np.geomspace(np.exp(s), 100.0, 4)",
        "np.geomspace(np.exp(b), 2.0, 4, endpoint=False)", "np.vander(u)", "np.vander(b, 3, increasing=True)",
        "np.vander(b, 1)", "np.polyval(u, a)", "np.polyval([1.0, 2.0, 3.0], b)", "np.polyval(u, 2.0)",
        "np.convolve(b, g)", "np.convolve(g, u, 'same')", "np.convolve(u, g, 'valid')",
        "np.convolve(g, b, mode='same')", "np.convolve(np.ones(3), g)", "np.correlate(g, u)",
        "np.correlate(u, g, 'full')", "np.correlate(b, g, 'same')", "np.correlate(g, b, 'full')",
        "np.apply_along_axis(np.sum, 0, a)", "np.apply_along_axis(lambda x: x * x.sum(), 1, d)",
        "np.apply_along_axis(np.outer, 1, a, np.ones(2))",
    ],
    "elementwise": [
        "np.exp(a) + np.sin(b)", "a / np.exp(b)", "np.exp(a) ** b", "a ** 2", "a ** 3 - c", "2.0 ** a",
        "np.abs(a)", "-a", "a % 0.7", "a // 0.7", "divmod(a, 0.7)", "np.round(a, 1)", "np.round(a)", "a.round(2)",
        "np.around(a, -1)", "np.fix(a)", "np.trunc(a)", "np.sinc(a)", "np.angle(a)", "np.deg2rad(a)",
        "np.degrees(a)", "np.fmod(a, 0.7)", "np.fmod(3.0, b)", "np.copysign(a, b)", "np.float_power(np.exp(a), b)",
        "np.logaddexp2(a, b)", "np.hypot(a, b)", "np.arctan2(a, b)",
        "np.add(a, b, dtype=np.float64)", "np.array([1, 2, 3, 4]) * a", "a / np.array([1, 2, 4, 8])",
        "np.array([True, False, True, True]) * a", "np.float64(2.0) * a", "a + np.float32(1.0)", "np.square(a)",
        "np.reciprocal(np.exp(a))", "np.sign(a) * a", "np.where(np.isnan(a), 0.0, a)", "a * [1.0, 2.0, 3.0, 4.0]",
    ],
}  # fmt: skip
TABLE = [pytest.param(expression, id=expression) for group in CASES.values() for expression in group]

# Their arithmetic is NumPy's in another order, or a kernel of another kind: equal to some ulps of the largest element.
ROUNDED = (
    "einsum", "dot", "inner", "tensordot", "kron", "quantile", "percentile", "cov", "corrcoef", "where=",
    "average", "gradient", "convolve", "correlate", "interp", "geomspace", "logspace", "logaddexp2", "float_power",
    "unwrap", "vander", "matvec", "vecmat", "nan", "reduceat", "@", "hypot.reduce", "initial=3.0", "median",
    "polyval", "vdot", "sinc", "logaddexp", "divmod", "matmul", "**",
)  # fmt: skip


def case(expression):
    """(the function, the letters that it takes)."""
    names = [
        name for name in SHAPES if name in set(compile(expression, "", "eval").co_names) | letters_inside(expression)
    ]
    return eval(f"lambda {', '.join(names)}: {expression}", {"np": np}), names


def letters_inside(expression):
    code = compile(f"lambda: ({expression})", "", "eval").co_consts[0]
    return set(code.co_names)


def arrays(names, dtype=float, seed=0):
    found = []
    for name in names:
        rng = np.random.default_rng([seed, ord(name)])
        n = math.prod(SHAPES[name])
        # every element has a place of its own between -2 and 2, half of a grid's width from its neighbours
        places = (rng.permutation(n) + rng.uniform(0.25, 0.75, n)) / max(n, 1) * 4.0 - 2.0
        found.append(places.reshape(SHAPES[name]).astype(dtype))
    return found


def leaves(y):
    return list(y) if isinstance(y, (list, tuple)) else [y]


def dot(xs, ys):
    """<xs, ys>, and the sum of absolute contributions, which rounding is relative to."""
    products = [
        np.ravel(np.asarray(x, float) * np.asarray(y, float)) for x, y in zip(leaves(xs), leaves(ys), strict=True)
    ]
    together = np.concatenate([np.zeros(1), *products])
    return together.sum(), np.abs(together).sum()


def drawn_like(ys, seed=1):
    rng = np.random.default_rng(seed)
    found = [rng.uniform(0.5, 1.5, np.shape(y)) * rng.choice([-1.0, 1.0], np.shape(y)) for y in leaves(ys)]
    return type(ys)(found) if isinstance(ys, (list, tuple)) else found[0]


def differences(f, at, along, h=1e-5):
    """The derivative of f along a direction, by central differences of two widths: their error is O(h^4)."""

    def central(width):
        up = leaves(f(*(np.asarray(x + width * t) for x, t in zip(at, along, strict=True))))
        down = leaves(f(*(np.asarray(x - width * t) for x, t in zip(at, along, strict=True))))
        return [(np.asarray(u) - np.asarray(d)) / (2.0 * width) for u, d in zip(up, down, strict=True)]

    return [(4.0 * fine - coarse) / 3.0 for fine, coarse in zip(central(h), central(2.0 * h), strict=True)]


def close(found, expected, tolerance=1e-8):
    for x, y in zip(leaves(found), leaves(expected), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape
        scale = 1.0 + np.max(np.abs(y), initial=0.0)
        np.testing.assert_allclose(x, y, rtol=0.0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("expression", TABLE)
def test_value_shape_and_dtype_are_those_of_numpy(expression, dtype):
    f, names = case(expression)
    given = arrays(names, dtype)
    copies = [np.array(x) for x in given]
    expected, found = f(*given), f(*map(Tensor, given))
    assert type(found) in (type(expected), Tensor, np.ndarray)
    assert len(leaves(found)) == len(leaves(expected))
    for x, y in zip(leaves(found), leaves(expected), strict=True):
        data = x.data if type(x) is Tensor else x
        y = np.asarray(y)
        assert (data.shape, data.dtype) == (y.shape, y.dtype)
        if any(word in expression for word in ROUNDED) or dtype is np.float32:
            scale = np.max(np.abs(y), initial=0.0)
            np.testing.assert_allclose(data, y, rtol=0, atol=40 * np.finfo(y.dtype).eps * scale)
        else:
            np.testing.assert_array_equal(data, y)
    for x, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(x, copy)  # nobody wrote into the operands


def check_derivatives(f, at):
    """Forward against differences, reverse against forward, and the same one order higher."""
    along = drawn_like(tuple(at), seed=2)
    y, dy = ad.jvp(f, tuple(at), along)
    close(dy, differences(f, at, along))
    g = drawn_like(y)
    y, pullback = ad.vjp(f, *at)
    contributions = pullback(g)
    forward, size = dot(g, dy)
    backward, other = dot(contributions, along)
    assert abs(forward - backward) <= 1e-12 * (size + other)

    def adjoint(*x):
        return ad.vjp(f, *x)[1](g)

    _, second = ad.jvp(adjoint, tuple(at), along)
    close(second, differences(adjoint, at, along), 1e-7)


@pytest.mark.parametrize("expression", TABLE)
def test_derivatives_of_first_and_second_order(expression):
    f, names = case(expression)
    check_derivatives(f, arrays(names))


# --- the checks find planted errors -------------------------------------------------------------------------------


def operation(pull, push):
    """A scratch operation y = a * a with the rules that are given."""
    return Operation("scratch", lambda a: a * a, [pull], pushes=[push])


RIGHT = (lambda g, y, a: 2.0 * a * g), (lambda t, y, a: 2.0 * a * t)
PLANTED = {
    "pull off by a factor": ((lambda g, y, a: 3.0 * a * g), RIGHT[1]),
    "push off by a factor": (RIGHT[0], (lambda t, y, a: 3.0 * a * t)),
    "both off by a factor": ((lambda g, y, a: 3.0 * a * g), (lambda t, y, a: 3.0 * a * t)),
    "pull to the wrong element": ((lambda g, y, a: 2.0 * a * g[::-1]), RIGHT[1]),
    "pull that forgets the graph": ((lambda g, y, a: 2.0 * np.asarray(getattr(a, "data", a)) * g), RIGHT[1]),
}


@pytest.mark.parametrize(
    "rules", [pytest.param(RIGHT, id="right"), *(pytest.param(r, id=n) for n, r in PLANTED.items())]
)
def test_a_planted_error_is_found(rules):
    scratch = operation(*rules)
    at = arrays("a")
    if rules is RIGHT:
        check_derivatives(lambda a: apply(scratch, (a,), {}), at)
        return
    with pytest.raises(AssertionError):
        check_derivatives(lambda a: apply(scratch, (a,), {}) if type(a) is Tensor else a * a, at)


# --- what stands at a corner --------------------------------------------------------------------------------------


def gradient(f, *at):
    y, pullback = ad.vjp(f, *at)
    return pullback(np.ones(np.shape(y)))[0]


CORNERS = {
    "ties of max share": (np.max, [2.0, 1.0, 2.0, 2.0], [1 / 3, 0, 1 / 3, 1 / 3]),
    "ties of min share": (np.min, [2.0, 1.0, 1.0], [0, 0.5, 0.5]),
    "max of inf": (np.max, [np.inf, 1.0, np.inf], [0.5, 0, 0.5]),
    "max with nan": (np.max, [np.nan, 1.0], [np.nan, np.nan]),
    "max against initial": (lambda x: np.max(x, initial=2.0), [2.0, 1.0], [0.5, 0.0]),
    "prod with a zero": (np.prod, [2.0, 0.0, 3.0], [0, 6, 0]),
    "prod with two zeros": (np.prod, [0.0, 5.0, 0.0], [0, 0, 0]),
    "cumprod with a zero": (np.cumprod, [2.0, 0.0, 3.0], [1, 8, 0]),
    "cumprod of extremes": (np.cumprod, [1e-200, 1e200, 1e100], [1e300, 1e-100, 1.0]),
    "interp beside inf": (lambda x: np.interp([np.inf, 0.5], [0.0, 1.0], x), [1.0, 2.0], [0.5, 1.5]),
    "sort of ties": (lambda x: np.sort(x)[0], [1.0, 1.0], [1, 0]),
    "std of one number": (np.std, [3.0], [0]),
    "nanstd of one number": (np.nanstd, [np.nan, 3.0], [0, 0]),
    "nanvar": (np.nanvar, [np.nan, 1.0, 3.0], [0, -1, 1]),
    "nanstd": (np.nanstd, [1.0, np.nan, 3.0], [-0.5, 0, 0.5]),
    "std of one number among others": (
        lambda x: np.std(x.reshape(2, 2), axis=1, where=[[True, False], [True, True]]),
        [3.0, 1.0, 1.0, 2.0],
        [0, 0, -0.5, 0.5],
    ),
    "nansum": (np.nansum, [np.nan, 1.0, 2.0], [0, 1, 1]),
    "nanmean": (np.nanmean, [np.nan, 1.0, 2.0], [0, 0.5, 0.5]),
    "nanprod": (np.nanprod, [np.nan, 3.0, 2.0], [0, 2, 3]),
    "nanmax": (np.nanmax, [np.nan, 1.0, 2.0, 2.0], [0, 0, 0.5, 0.5]),
    "nanmin": (lambda x: np.nanmin(x, initial=1.5), [np.nan, 1.0, 2.0], [0, 1, 0]),
    "nanmedian": (np.nanmedian, [np.nan, 1.0, 2.0], [0, 0.5, 0.5]),
    "nancumsum": (np.nancumsum, [1.0, np.nan, 2.0], [3, 0, 1]),
    "median with nan": (np.median, [1.0, np.nan, 2.0], [0, 1, 0]),
    "where drops nan": (lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0), [-1.0, 2.0], [0, 0.5]),
    "relu at 0": (lambda x: np.maximum(x, 0), [0.0, 1.0, -1.0], [0, 1, 0]),
    "clip at its bounds": (lambda x: np.clip(x, -1.0, 1.0), [-1.0, 1.0, 0.5, 3.0], [0.5, 0.5, 1, 0]),
    "nan_to_num": (lambda x: np.nan_to_num(x, nan=7.0), [np.nan, np.inf, 1.0], [0, 0, 1]),
    "fmax of nan": (lambda x: np.fmax(x, 1.0), [np.nan, 2.0, 0.0], [0, 1, 0]),
    "repeated index": (lambda x: x[[0, 0, 1]] * np.array([1.0, 2.0, 4.0]), [1.0, 1.0], [3, 4]),
    "unique": (np.unique, [2.0, 1.0, 2.0], [1, 1, 0]),
    "gradient beside inf": (lambda x: np.gradient(x)[:2], [1.0, 2.0, 5.0, np.inf], [-1.5, 1, 0.5, 0]),
    "interp outside": (lambda x: np.interp(x, [0.0, 1.0], [0.0, 3.0]), [-1.0, 0.5, 2.0, 0.0], [0, 3, 0, 3]),
}  # fmt: skip


@pytest.mark.parametrize(("f", "at", "expected"), CORNERS.values(), ids=CORNERS.keys())
def test_corners(f, at, expected):
    at = np.array(at)
    np.testing.assert_array_equal(np.asarray(f(Tensor(at)).data), f(at))
    np.testing.assert_allclose(gradient(f, at), expected, rtol=1e-15)


def test_a_slice_of_nothing_but_nan_warns_as_in_numpy():
    for function in (np.nanmax, np.nanmin):
        with pytest.warns(RuntimeWarning, match="All-NaN"):
            found = function(Tensor([[np.nan, np.nan], [1.0, np.nan]]), axis=1)
        np.testing.assert_array_equal(found.data, [np.nan, 1.0])


@pytest.mark.parametrize("count", range(8))
def test_products_of_others_against_the_definition(count):
    a = np.random.default_rng(count).uniform(-2, 2, (2, count))
    expected = [[np.prod(np.delete(row, i)) for i in range(count)] for row in a]
    np.testing.assert_allclose(operations.products_of_others(a, (1,)), np.reshape(expected, (2, count)), rtol=1e-14)


# --- signatures, refusals, messages ---------------------------------------------------------------------------------

# np.linalg's products take fewer arguments than NumPy's own of the same name, and share their rules
SHARED = {np.linalg.outer, np.linalg.tensordot, np.linalg.cross, np.linalg.trace, np.linalg.matrix_transpose}


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f not in SHARED], ids=tensor.full_name)
def test_parameters_are_those_of_numpy(function):
    ours = inspect.signature(FUNCTIONS[function])
    theirs = inspect.signature(function)
    positional = [
        name for name, p in theirs.parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    variadic = any(p.kind is p.VAR_KEYWORD for p in ours.parameters.values())
    if variadic or function is np.where:
        return  # handed on to NumPy's own, or to a function that is compared itself
    extra = {"like", "kwargs"}  # not ours: arrays made from scratch
    assert set(theirs.parameters) - set(ours.parameters) <= extra
    assert list(ours.parameters)[: len(positional)] == positional


T = Tensor([[1.0, 2.0], [3.0, 4.0]])
REFUSED = {
    "np.histogram(T)": (TypeError, r"np\.histogram cannot be applied to array nodes.*no rule.*\.data"),
    "np.fft.fft(T)": (TypeError, r"np\.fft\.fft cannot be applied to array nodes"),
    "np.roots(T[0])": (TypeError, r"np\.roots cannot"),
    "np.nextafter(T, 1.0)": (TypeError, r"np\.nextafter cannot be applied to array nodes: the table has no row"),
    "np.gcd(T, 2)": (TypeError, r"np\.gcd cannot"),
    "np.frexp(T)": (TypeError, r"np\.frexp cannot"),
    "np.add.at(np.zeros(2), [0], T[0, 0])": (TypeError, r"np\.add\.at would change an array in place"),
    "np.exp(T, where=T > 1)": (TypeError, r"where= would leave holes"),
    "np.exp(T, dtype=int)": (TypeError, r"holds floats, not int64"),
    "np.exp(T, out=np.zeros((2, 2)))": (TypeError, r"np\.exp into an existing array would drop the gradient"),
    "np.sum(T, out=np.zeros(()))": (TypeError, r"np\.sum into an existing array would drop the gradient"),
    "np.mean(T, 0, None, np.zeros(2))": (TypeError, r"np\.mean into an existing array"),
    "np.take(T, [0], 0, np.zeros((1, 2)))": (TypeError, r"np\.take into an existing array"),
    "np.einsum('ij->', T, out=np.zeros(()))": (TypeError, r"np\.einsum into an existing array"),
    "np.add.reduce(T, out=np.zeros(2))": (TypeError, r"np\.add into an existing array"),
    "np.sum(T, dtype=int)": (TypeError, r"holds floats, not int64"),
    "np.copyto(np.zeros(2), T[0])": (TypeError, r"np\.copyto cannot .*: it changes an array in place"),
    "np.put(np.zeros(2), [0], T[0, 0])": (TypeError, r"np\.put cannot .* in place"),
    "np.place(np.zeros(2), [True, True], T[0])": (TypeError, r"np\.place cannot .* in place"),
    "np.putmask(np.zeros(2), [True, True], T[0])": (TypeError, r"np\.putmask cannot .* in place"),
    "np.fill_diagonal(T, 0.0)": (TypeError, r"np\.fill_diagonal cannot .* in place"),
    "np.fill_diagonal(np.eye(2), T[0])": (TypeError, r"gradient would be lost"),
    "np.take(T, T)": (TypeError, r"np\.take: indices says where elements go.* got a node"),
    "np.repeat(T, T[0, 0])": (TypeError, r"np\.repeat: repeats says where"),
    "np.roll(T, T[0, 0])": (TypeError, r"np\.roll: shift says where"),
    "np.tile([1.0], T[0, 0])": (TypeError, r"np\.tile: reps says where"),
    "np.tile(T, [T[0, 0], 2])": (TypeError, r"np\.tile: reps says where"),
    "np.pad(T, 1, 'mean')": (TypeError, r"np\.pad with mode 'mean'"),
    "np.pad(T, 1, constant_values=T[0, 0])": (TypeError, r"constant_values, not nodes"),
    "np.quantile(T, T[0, 0])": (TypeError, r"numbers as q, not nodes"),
    "np.gradient(T, T[0, 0])": (TypeError, r"spacing, not nodes"),
    "np.matmul(T, T, axes=[(0, 1), (0, 1), (0, 1)])": (TypeError, r"takes no axes; use np\.swapaxes"),
    "np.matmul(T, 2.0)": (ValueError, r"enough dimensions"),
    "np.choose([0, 5], [T, T])": (ValueError, None),
    "np.select([T > 1, T], [T, T])": (TypeError, r"arrays of bools"),
    "np.select([], [])": (ValueError, None),
    "np.sum(T, axis=2)": (np.exceptions.AxisError, None),
    "np.sum(T, axis=(0, 0))": (ValueError, r"repeated"),
    "np.reshape(T, (3, -1))": (ValueError, None),
    "np.reshape(T, 4, order='K')": (ValueError, r"'C', 'F' or 'A'"),
    "np.transpose(T, (0, 0))": (ValueError, r"repeated"),
    "np.concatenate([T, T[0]])": (ValueError, None),
    "np.concatenate([])": (ValueError, None),
    "np.concatenate([T[0, 0], 1.0])": (ValueError, r"np\.stack puts numbers together"),
    "np.stack([T, T[0]])": (ValueError, r"one shape"),
    "np.squeeze(T, axis=0)": (ValueError, None),
    "np.max(T[:0])": (ValueError, None),
    "np.max(T, where=T > 1)": (ValueError, r"initial"),
    "np.sum(T[0], where=T > 1)": (ValueError, None),
    "np.average(T, weights=[1.0, -1.0], axis=0)": (ZeroDivisionError, None),
    "np.average(T, weights=[1.0, 2.0])": (TypeError, None),
    "np.average(T, weights=[1.0, 2.0, 3.0], axis=0)": (ValueError, None),
    "np.tensordot(T, T[:1], axes=1)": (ValueError, None),
    "np.cross(T, T)": (ValueError, r"three components"),
    "np.einsum('ij,jk', T)": (ValueError, r"2 terms for 1 operands"),
    "np.einsum('ijk', T)": (ValueError, r"2 axes has the labels"),
    "np.diff(T, -1)": (ValueError, None),
    "np.convolve(T[0], [])": (ValueError, None),
    "np.convolve(T[0], T[1], 'other')": (ValueError, None),
    "np.interp(T, [1.0, 2.0], [1.0])": (ValueError, None),
    "np.geomspace(T, -1.0)": (ValueError, r"same sign"),
    "np.asarray([1.0, 2.0]).sum(initial=T[0, 0])": ((TypeError, ValueError), None),
    "T[T]": (TypeError, r"a node is no index"),
    "T[T[0, 0]:]": (TypeError, r"is no index"),
    "T[[T[0, 0]]]": ((TypeError, IndexError), None),
    "np.ones(2)[T]": ((TypeError, IndexError), None),
    "T['a']": (IndexError, None),
    "T[5]": (IndexError, None),
    "T * np.ones(3)": (ValueError, r"broadcast"),
    "T + 1j": (TypeError, r"complex"),
    "T + 'a'": (TypeError, r"str"),
    "T + None": (TypeError, r"NoneType"),
    "T * np.array(['a', 'b'])": (TypeError, r"real numbers"),
    "T * np.array([1j, 2.0])": (TypeError, r"real numbers only"),
    "T @ 'a'": (TypeError, None),
    "T * np.ma.masked_array([1.0, 2.0], [0, 1])": (TypeError, r"mask"),
    "np.concatenate([T, np.ma.masked_array([[1.0, 2.0]])])": (TypeError, r"mask"),
    "T * np.matrix([[1.0, 2.0]])": (TypeError, r"np\.matrix.*np\.asarray"),
    "np.matrix([[1.0], [2.0]]) * T": (TypeError, r"np\.matrix"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix
@pytest.mark.parametrize(
    ("expression", "error", "message"), [(e, *how) for e, how in REFUSED.items()], ids=REFUSED.keys()
)
def test_refused(expression, error, message):
    with pytest.raises(error, match=message):
        eval(expression, {"np": np, "T": T})


def test_every_function_that_is_missing_is_named():
    refused = [
        f
        for f in vars(np).values()
        if hasattr(f, "_implementation") and f not in FUNCTIONS and f not in tensor.IN_PLACE
    ]
    assert np.histogram in refused
    assert np.sum not in refused
    for function in refused:
        with pytest.raises(TypeError, match=rf"np\.{function.__name__} cannot be applied to array nodes"):
            T.__array_function__(function, (Tensor,), (T,), {})


def test_by_data():
    x = Tensor([3.0, 1.0, 2.0])
    assert np.argmax(x) == 0
    assert x.argsort().tolist() == [1, 2, 0]
    assert np.searchsorted(np.array([0.0, 2.0]), x).tolist() == [2, 1, 1]
    assert [type(y) for y in (np.zeros_like(x), np.isnan(x), x > 1, np.isclose(x, 1.0), np.angle(x))] == [
        np.ndarray
    ] * 5
    assert np.allclose(x, [3.0, 1.0, 2.0])
    assert np.array_equal(x, x)
    assert np.logical_and.reduce(x > 0)
    assert np.logical_and(x, [0, 1, 1]).tolist() == [False, True, True]
    assert np.where(x > 1.5)[0].tolist() == [0, 2]
    assert np.where(x > 1.5, 1.0, 0.0).dtype == float
    for i, j in itertools.combinations(range(3), 2):
        assert bool(x[i] > x[j]) == (x.data[i] > x.data[j])


def test_float16_means_are_added_up_in_float32():
    x = np.full(4096, 60.0, np.float16)
    assert np.mean(Tensor(x)).data == np.mean(x) == 60.0
    assert np.mean(Tensor(x), keepdims=True).dtype == np.float16
    assert gradient(lambda x: np.mean(x), x).dtype == np.float16


def test_a_universal_function_computes_in_the_precision_that_is_asked_for():
    x = np.float32([0.1, 0.7])
    np.testing.assert_array_equal(np.exp(Tensor(x), dtype=np.float64).data, np.exp(x, dtype=np.float64))
    np.testing.assert_array_equal(np.add(x, Tensor(x), dtype=np.float64).data, np.add(x, x, dtype=np.float64))
    assert np.float_power(Tensor(x), 2.0).dtype == np.float64


def test_the_index_of_an_object_array_is_not_mistaken():
    found = np.vectorize(lambda x: x * x)(Tensor([1.0, 2.0]))
    assert found.dtype == object
    total = np.stack(list(found))
    assert type(total) is Tensor


def test_array_functions_are_read_in_one_place():
    assert array_functions.array_like([Tensor(1.0), 2.0]).shape == (2,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert type(np.sum(np.array([Tensor(1.0), Tensor(2.0)]))) is Tensor


def test_scipys_functions_are_known_by_name():
    x = np.array([-1.5, 0.3, 2.0])
    for name, row in SPECIAL.items():
        function = getattr(special, name)
        np.testing.assert_allclose(function(Tensor(x)).data, function(x), rtol=1e-14)
        np.testing.assert_allclose(function(scalars(x)).data, function(x), rtol=1e-14)
        assert function(Value(0.3)).op is row
        assert check_grad(
            lambda x, f=function: np.sum(f(x)), x, claimed=grad(lambda x, f=function: np.sum(f(x)))
        ).verdict


def test_windows_slide_over_nodes():
    def f(x):
        windows = np.lib.stride_tricks.sliding_window_view(x, 3)
        return np.sum(windows @ np.array([1.0, 2.0, 4.0]) * np.arange(5.0))

    assert check_grad(f, np.arange(7.0), claimed=grad(f)).verdict == "agree"
