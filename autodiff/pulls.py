"""The pull of an edge between arrays in symbols: what its contribution is, as a formula in the upstream.

dL/dW = X.T @ dL/dz is not written down here: the rule of the operation (operations.py, linear_algebra.py) is run on
array nodes that stand for the upstream G, the result and the operands, and what it records is the formula. So the
formula is the rule. Of an elementwise operation it is the row's rule on symbols, as it is printed (textbook.py), summed
where the operand was repeated. A few rules say less in symbols than in words; they have words, below. A rule that
records too much to read, or works with numbers that have no name, is told in words too: "pulled back through cholesky".
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodiff import operations, tensor
from autodiff.forms import Form, form, key_text, times
from autodiff.names import escaped
from autodiff.notation import Expression, constant, formula
from autodiff.operations import Operation
from autodiff.primitives import ATOM, POWER, PRODUCT, SUM, Primitive
from autodiff.tensor import LinearMap, Tensor
from autodiff.textbook import printed_rule

MOST = 8  # operations of a rule that are printed
ANGLES = str.maketrans("<>", "‹›")  # <0> is the place of an operand
PHRASE = 0.5 * SUM  # words behind a formula reach back to its beginning
Symbol = Callable[[Any], Expression]


@dataclass(frozen=True, slots=True)
class Pull:
    """A contribution in symbols: the formula, and the shapes that go into it and come out."""

    formula: Expression
    shapes: str

    def __str__(self) -> str:
        return f"{self.formula}: {self.shapes}"


def pull_formula(local: LinearMap, upstream: Expression, symbol: Symbol) -> Pull:
    """local.pull(upstream) in symbols; symbol: what nodes are called.

    >>> X, W = Tensor(np.ones((5, 3)), name="X"), Tensor(np.ones((3, 2)), name="W")
    >>> b = Tensor(np.ones(2), name="b")
    >>> call = lambda node: Expression(node.name or "z")
    >>> z = X @ W + b
    >>> (of_product, _), (_, of_W) = z.edges(), z.parents[0].edges()
    >>> print(pull_formula(of_W[1], Expression("G"), call))
    X.T @ G: (3×5)(5×2) → 3×2
    >>> print(pull_formula(z.edges()[1][1], Expression("G"), call))
    G summed over axis 0: 5×2 → 2
    """
    child, parent = local.child, local.parent
    shapes = f"{shape_text(child.shape)} → {shape_text(parent.shape)}"
    if isinstance(child.op, Primitive):
        return Pull(_elementwise(local, upstream, symbol), shapes)
    op: Any = child.op
    if op in WORDS:
        words = WORDS[op](child, local.operand)
        return Pull(Expression(words, (upstream, symbol_of(child.operands[0], symbol))), shapes)
    if op is operations.matmul and min(np.ndim(x) for x in child.operands) == 1:
        return Pull(_with_a_vector(local, upstream, symbol), shapes)
    recorded = _recorded(local, upstream, symbol)
    if recorded is None:
        return Pull(back_through(op.name, upstream, symbol(child), symbol(parent)), shapes)
    found, called = recorded
    if found.op is operations.matmul:
        factors = "".join(f"({shape_text(x.shape)})" for x in found.operands)
        shapes = f"{factors} → {shape_text(parent.shape)}"
    return Pull(formula(found, depth=MOST, label=lambda node: called.get(node), top=False, printed=_printed), shapes)


def shape_text(shape: tuple[int, ...]) -> str:
    """5×3; number where there are no dimensions."""
    return "×".join(map(str, shape)) or "number"


def symbol_of(x: Any, symbol: Symbol) -> Expression:
    """What an operand is called: a node by `symbol`, a constant by its number or its shape."""
    return symbol(x) if type(x) is Tensor else constant(x)


def back_through(name: str, upstream: Expression, child: Expression, parent: Expression) -> Expression:
    r"""A pull that has no formula: in words, and in LaTeX the transpose of the derivative.

    >>> print(back_through("cholesky", Expression("G"), Expression("C"), Expression("A")))
    G pulled back through cholesky
    """
    latex = r"{\left(\frac{\partial <1>}{\partial <2>}\right)}^{\top} <0>"
    words = Form(f"<0> pulled back through {name.translate(ANGLES)}", latex, PHRASE, (PRODUCT,), PRODUCT, (ATOM,) * 3)
    return Expression(words, (upstream, child, parent))


# --- elementwise ----------------------------------------------------------------------------------------------


def _elementwise(local: LinearMap, upstream: Expression, symbol: Symbol) -> Expression:
    """upstream · the row's rule on symbols, summed over the axes along which the operand was repeated."""
    child = local.child
    row: Any = child.op
    slope = printed_rule(row, local.operand)(symbol(child), *(symbol_of(x, symbol) for x in child.operands))
    product = upstream * slope
    axes = _repeated(local.parent.shape, child.shape)
    return Expression(_summed(axes), (product,)) if axes and product.head != 0.0 else product


def _repeated(own: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of shape along which an operand of its own shape was repeated."""
    extra = len(shape) - len(own)
    return tuple(i for i, n in enumerate(shape) if i < extra or (own[i - extra] == 1 and n != 1))


def _axes_text(axes: tuple[int, ...]) -> str:
    return f"{'axes' if len(axes) > 1 else 'axis'} {', '.join(map(str, axes))}"


def _summed(axes: tuple[int, ...]) -> Form:
    latex = rf"\sum_{{\text{{{_axes_text(axes)}}}}} <0>"
    return Form(f"<0> summed over {_axes_text(axes)}", latex, PHRASE, (PRODUCT,), PRODUCT, (PRODUCT,))


# --- in words ---------------------------------------------------------------------------------------------------
# operation -> the form of its pull with <0> for the upstream and <1> for its first operand


def _words(text: str, latex: str = "") -> Form:
    r"""<0> and words behind it, as they stand in LaTeX too where nothing else is given.

    >>> _words("<0> at the top of <1>").latex
    '<0> \\text{ at the top of } <1>'
    """
    if not latex:
        pieces = re.split(r"(<\d>)", text)
        latex = " ".join(part if part[:1] == "<" else rf"\text{{{part}}}" for part in pieces if part)
    return Form(text, latex, PHRASE, (PRODUCT, ATOM), PHRASE, (PRODUCT, ATOM))


def _along(axis: Any) -> str:
    return f" along {_axes_text(axis)}" if axis else ""


def _extremum(child: Tensor, position: int) -> Form:
    which = "largest" if child.op is operations.max_ else "smallest"
    return _words(f"<0> where <1> is {which}{_along(child.parameters['axis'])}, shared by ties, zeros elsewhere")


def _product(child: Tensor, position: int) -> Form:
    return _words(f"<0> times the product of all other elements of <1>{_along(child.parameters['axis'])}")


def _chosen(child: Tensor, position: int) -> Form:
    """np.where: the operand receives what was chosen of it."""
    holds = "holds" if position == 0 else "does not hold"
    axes = _repeated(np.shape(child.operands[position]), child.shape)
    summed = f", summed over {_axes_text(axes)}" if axes else ""
    return _words(f"<0> where the condition {holds}, zeros elsewhere{summed}")


WORDS: dict[Any, Callable[[Tensor, int], Form]] = {
    operations.max_: _extremum,
    operations.min_: _extremum,
    operations.prod: _product,
    operations.where: _chosen,
}


def broadcast(shape: tuple[int, ...]) -> Form:
    """<0> repeated until it has a shape."""
    return _words(f"<0> broadcast to {shape_text(shape)}", rf"<0> \text{{ broadcast to }} {times(shape)}")


def _printed(node: Tensor, count: int) -> Form:
    """How an operation of a rule prints: broadcasting, sums and what is put back in words."""
    given = node.parameters
    if node.op is operations.broadcast_to:
        return broadcast(given["shape"])
    if node.op is operations.sum_ and node.ndim and given["axis"] is not None:
        return _summed(given["axis"])
    if node.op is operations.scatter:
        key = key_text(given["key"])
        put = "put back at" if operations.picks_once(given["key"]) else "added up at"  # an element picked twice
        where = rf"\text{{ {put} }} \left[\mathrm{{{escaped(key)}}}\right]\text{{, zeros elsewhere}}"
        return _words(f"<0> {put} [{key}], zeros elsewhere", f"<0> {where}")
    return form(node, count)


# --- what a rule records ----------------------------------------------------------------------------------------


def _with_a_vector(local: LinearMap, upstream: Expression, symbol: Symbol) -> Expression:
    """The pull of a product with a vector: the rule reshapes it to a matrix and back."""
    a, b = local.child.operands
    first, second = symbol_of(a, symbol), symbol_of(b, symbol)
    if a.ndim == b.ndim == 1:
        return upstream * (first if local.operand else second)
    matrix_first = a.ndim > 1
    vector = second if matrix_first else first
    stacked = max(a.ndim, b.ndim) > 2
    if (local.operand == 0) == matrix_first:  # to the matrix: row by column, or column by row
        if stacked:
            pair = "<0>[..., :, None] · <1>" if matrix_first else "<1>[:, None] · <0>[..., None, :]"
            latex = r"{<0>} {<1>}^{\top}" if matrix_first else r"{<1>} {<0>}^{\top}"
            tight = (ATOM, ATOM)
            return Expression(Form(pair, latex, PRODUCT, tight, PRODUCT, tight), (upstream, vector))
        outer = Form("outer(<0>, <1>)", r"{<0>} {<1>}^{\top}", ATOM, (SUM, SUM), PRODUCT, (POWER, ATOM))
        return Expression(outer, (upstream, vector) if matrix_first else (vector, upstream))
    matrix = first if matrix_first else second
    if stacked:
        axes = tuple(range(max(a.ndim, b.ndim) - 2))
        turned = ".mT" if matrix_first else ""
        text = f"(<1>{turned} @ <0>[..., None])[..., 0]"
        latex = r"{<1>}^{\top} <0>" if matrix_first else "<1> <0>"
        product = Expression(Form(text, latex, ATOM, (ATOM, ATOM), PRODUCT, (ATOM, ATOM)), (upstream, matrix))
        return Expression(_summed(axes), (product,))
    turn = Form("<1>.T @ <0>", r"{<1>}^{\top} <0>", PRODUCT, (POWER, ATOM), PRODUCT, (POWER, ATOM))
    keep = Form("<1> @ <0>", "<1> <0>", PRODUCT, (POWER, PRODUCT), PRODUCT, (POWER, POWER))
    return Expression(turn if matrix_first else keep, (upstream, matrix))


def _recorded(local: LinearMap, upstream: Expression, symbol: Symbol) -> tuple[Tensor, dict[Any, Expression]] | None:
    """(the node that the rule makes, what its leaves are called); None where it is not to be read as a formula."""
    child = local.child
    op: Any = child.op
    if op.at_once or not isinstance(op, Operation):
        return None
    called: dict[Any, Expression] = {}

    def stand_in(array: Any, name: Expression) -> Any:
        if np.ndim(array) == 0 and not isinstance(array, (Tensor, np.ndarray)):
            return array
        node = Tensor(array.data if type(array) is Tensor else array)
        called[node] = name
        return node

    g = stand_in(np.ones(child.shape, child.dtype), upstream)
    y = stand_in(child.data, symbol(child))
    operands = [stand_in(x, symbol_of(x, symbol)) for x in child.operands]
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = op.pull(local.operand, g, y, operands, child.parameters)
    except Exception:  # a rule for arrays only; the pull itself works or raises on its own
        return None
    if type(found) is not Tensor or found.shape != local.parent.shape:
        return None
    if found.op is operations.reshape and op is not operations.reshape:
        before = found.operands[0]  # a sum over broadcast axes of length 1 has the shape but for these
        if type(before) is Tensor and before.op is operations.sum_:
            found = before
    nodes = [node for node in tensor.order(found) if node not in called]
    if len(nodes) > MOST:
        return None
    for node in nodes:
        if node.op is None or (node.op is operations.where and op is not operations.where):
            return None
        if any(type(x) is not Tensor and np.ndim(x) > 0 for x in node.operands):
            return None
    return found, called
