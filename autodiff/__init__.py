"""Reverse-mode differentiation that shows its work: graphs, receipts, checks and pictures.

>>> import autodiff as ad
>>> x = ad.Value(3.0, name="x")
>>> y = x * x + ad.tanh(x)
>>> y.backward()
>>> round(x.grad, 6)
6.009866
>>> print(ad.total_derivative(y, x))
df/dx = 6.00987
  = df/d(x · x) · x + df/d(x · x) · x + df/dtanh(x) · (1 - tanh(x)²)
  child    upstream  local                     contribution
  x · x           1  x                      3             3
  x · x           1  x                      3             3
  tanh(x)         1  1 - tanh(x)²  0.00986604    0.00986604
  sum                                               6.00987
"""

from typing import TYPE_CHECKING, Any

from autodiff import array_compositions as array_compositions  # so that NumPy's functions know array nodes
from autodiff import copies as copies  # so that pickle and copy know nodes
from autodiff import linear_algebra as linear_algebra  # so that numpy.linalg knows them
from autodiff.check import check_grad, check_primitive
from autodiff.custom import custom_jvp, custom_vjp
from autodiff.differential import TotalDifferential, total_differential
from autodiff.explain import total_derivative
from autodiff.graph import Edge, Graph, adjoints
from autodiff.nonfinite import NonFinite, first_nonfinite
from autodiff.paths import Path, count_paths, heaviest_paths, paths
from autodiff.primitives import (
    TABLE,
    Primitive,
    absolute,
    add,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cbrt,
    ceil,
    clip,
    cos,
    cosh,
    div,
    elu,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    gelu,
    hypot,
    leaky_relu,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logsigmoid,
    maximum,
    minimum,
    mod,
    mul,
    neg,
    power,
    primitive,
    reciprocal,
    relu,
    rint,
    selu,
    sigmoid,
    sign,
    silu,
    sin,
    sinc,
    sinh,
    softplus,
    sqrt,
    square,
    step,
    sub,
    tan,
    tanh,
    where,
)
from autodiff.receipts import Receipt
from autodiff.scalars import Scalars, scalars
from autodiff.symbolic import derivative_formula
from autodiff.tensor import MixedNodes, Tensor
from autodiff.transforms import (
    elementwise_grad,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)
from autodiff.value import NO_GRAD, Value, scope
from autodiff.zeros import Reason, ZeroGradient, why_zero

if TYPE_CHECKING:
    from autodiff.programs import Program, ReplayError, record, replay


def __getattr__(name: str) -> Any:
    if name in ("Program", "ReplayError", "programs", "record", "replay"):  # imported when somebody asks for them
        import autodiff.programs as programs

        return programs if name == "programs" else getattr(programs, name)
    raise AttributeError(f"module 'autodiff' has no attribute {name!r}")


# fmt: off
__all__ = [
    "NO_GRAD",
    "TABLE",
    "Edge",
    "Graph",
    "MixedNodes",
    "NonFinite",
    "Path",
    "Primitive",
    "Program",
    "Reason",
    "Receipt",
    "ReplayError",
    "Scalars",
    "Tensor",
    "TotalDifferential",
    "Value",
    "ZeroGradient",
    "absolute",
    "add",
    "adjoints",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "cbrt",
    "ceil",
    "check_grad",
    "check_primitive",
    "clip",
    "cos",
    "cosh",
    "count_paths",
    "custom_jvp",
    "custom_vjp",
    "derivative_formula",
    "div",
    "elementwise_grad",
    "elu",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "first_nonfinite",
    "floor",
    "floor_divide",
    "gelu",
    "grad",
    "heaviest_paths",
    "hessian",
    "hvp",
    "hypot",
    "jacobian",
    "jvp",
    "leaky_relu",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logsigmoid",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "neg",
    "paths",
    "power",
    "primitive",
    "reciprocal",
    "record",
    "relu",
    "replay",
    "rint",
    "scalars",
    "scope",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinc",
    "sinh",
    "softplus",
    "sqrt",
    "square",
    "step",
    "stop_gradient",
    "sub",
    "tan",
    "tanh",
    "total_derivative",
    "total_differential",
    "value_and_grad",
    "vjp",
    "where",
    "why_zero",
]
# fmt: on
