"""Reverse-mode differentiation that shows its work: graphs, receipts, checks and pictures.

>>> import autodiff as ad
>>> x = ad.Value(3.0, name="x")
>>> y = x * x + ad.tanh(x)
>>> y.backward()
>>> round(x.grad, 6)
6.009866
>>> print(ad.total_derivative(y, x))
df/dx = 6.00987
  = df/d(x · x) · x + df/d(x · x) · x + df/dtanh(x) · (4 · σ(2 · x) · σ(-2 · x))
  child    upstream  local                                 contribution
  x · x           1  x                                  3             3
  x · x           1  x                                  3             3
  tanh(x)         1  4 · σ(2 · x) · σ(-2 · x)  0.00986604    0.00986604
  sum                                                           6.00987
"""

from autodiff.check import check_grad
from autodiff.explain import (
    Path,
    Receipt,
    TotalDifferential,
    count_paths,
    paths,
    total_derivative,
    total_differential,
)
from autodiff.graph import Edge, Graph, adjoints
from autodiff.primitives import (
    TABLE,
    Primitive,
    absolute,
    exp,
    leaky_relu,
    log,
    maximum,
    power,
    primitive,
    relu,
    sigmoid,
    sign,
    softplus,
    sqrt,
    square,
    step,
    tanh,
)
from autodiff.scalars import Scalars, scalars, stop_gradient
from autodiff.value import Value, scope

__all__ = [
    "TABLE",
    "Edge",
    "Graph",
    "Path",
    "Primitive",
    "Receipt",
    "Scalars",
    "TotalDifferential",
    "Value",
    "absolute",
    "adjoints",
    "check_grad",
    "count_paths",
    "exp",
    "leaky_relu",
    "log",
    "maximum",
    "paths",
    "power",
    "primitive",
    "relu",
    "scalars",
    "scope",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "square",
    "step",
    "stop_gradient",
    "tanh",
    "total_derivative",
    "total_differential",
]
