"""What a receipt is, and how one of numbers prints: the itemised sum behind one adjoint.

A receipt is a sum of terms, one per child edge or per chosen node. It prints as plain text, LaTeX and MathML; the
terms in symbols are expressions, so brackets are set where all formulas have them set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autodiff.forms import Form
from autodiff.mathml import mathml
from autodiff.names import latex_number, number_text
from autodiff.notation import Expression
from autodiff.primitives import ATOM, POWER, PRODUCT
from autodiff.value import Value

QUOTIENT = 0.5 * (POWER + ATOM)  # dL/dz is a factor as it stands, but dL/dz.T is not its transpose
DERIVATIVE = Form("d<0>/d<1>", r"\frac{\partial <0>}{\partial <1>}", QUOTIENT, (ATOM, ATOM), QUOTIENT, (ATOM, ATOM))
TERM = Form("<0> · <1>", r"<0> \cdot <1>", PRODUCT, (QUOTIENT, QUOTIENT), PRODUCT, (QUOTIENT, QUOTIENT))
SHOWN = 20  # terms of a longer sum that are printed: half from its beginning, half from its end


def derivative(above: Expression, below: Expression) -> Expression:
    """d(above)/d(below), as a symbol.

    >>> print(derivative(Expression("L"), Expression("x") + 1))
    dL/d(x + 1)
    """
    return Expression(DERIVATIVE, (above, below))


def shortened(items: Sequence[Any], gap: Any) -> list[Any]:
    """The items, of many only the first and the last with a gap between."""
    return list(items) if len(items) <= SHOWN else [*items[: SHOWN // 2], gap, *items[-SHOWN // 2 :]]


class Receipt:
    """The itemised sum behind d(output)/d(wrt): terms and their total; str(), latex() and mathml() print it.

    terms: each with its child, upstream d(output)/d(child), local d(child)/d(wrt) and contribution. total: the sum of
    the contributions, which is the adjoint of wrt.
    """

    __slots__ = ("output", "symbols", "terms", "wrt")

    def __init__(self, output: Any, wrt: Any, terms: Sequence[Any], symbols: tuple[Expression, Expression]) -> None:
        self.output, self.wrt, self.terms = output, wrt, tuple(terms)
        self.symbols = symbols  # of output and wrt

    @property
    def total(self) -> Any:
        """The sum of the contributions, which is the adjoint; 1 for the output itself."""
        raise NotImplementedError

    def latex(self) -> str:
        """The sum in LaTeX."""
        raise NotImplementedError

    def mathml(self) -> str:
        """The sum as a <math> element: what `latex` says, for a web page.

        >>> from autodiff.explain import total_derivative
        >>> x = Value(3.0, name="x")
        >>> total_derivative(x, x).mathml()[-34:]
        '<mo>=</mo><mn>1</mn></mrow></math>'
        """
        return mathml(self.latex())

    @property
    def name(self) -> Expression:
        """d(output)/d(wrt), as a symbol."""
        return derivative(*self.symbols)

    def __repr__(self) -> str:
        return f"<receipt of {_quietly(lambda: str(self.name))}: {len(self.terms)} terms>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: the equation, or else the text; never raises."""
        bundle = {"text/plain": _quietly(lambda: str(self)) or repr(self)}
        equation = _quietly(self.latex)
        if equation:
            bundle["text/latex"] = f"$$\n{equation}\n$$"
        return bundle


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """What one child edge, or one node on the way, adds to an adjoint: contribution = upstream * local."""

    child: Value
    upstream: float
    local: float
    symbol: Expression  # the child, as formulas call it
    formula: Expression | None  # the local derivative in symbols; None where it is itself a sum over paths

    @property
    def label(self) -> str:
        """The child in plain text."""
        return str(self.symbol)

    @property
    def contribution(self) -> float:
        """upstream * local."""
        return self.upstream * self.local

    @property
    def figures(self) -> tuple[float, float, float]:
        """(upstream, local, contribution) as they are printed: a zero has no sign for people."""
        return self.upstream + 0.0, self.local + 0.0, self.contribution + 0.0


class ScalarReceipt(Receipt):
    """The receipt of a scalar node: a table of numbers beside their symbols."""

    __slots__ = ()

    @property
    def total(self) -> float:
        """The sum of the contributions, which is the adjoint; 1 for the output itself."""
        return 1.0 if self.wrt is self.output else sum((term.contribution for term in self.terms), 0.0)

    def _in_symbols(self, term: Term) -> tuple[Expression, Expression]:
        """(upstream, local) of a term."""
        local = derivative(term.symbol, self.symbols[1]) if term.formula is None else term.formula
        return derivative(self.symbols[0], term.symbol), local

    def __str__(self) -> str:
        title = f"{self.name} = {number_text(self.total + 0.0)}"
        if self.wrt is self.output:
            return f"{title}: the output itself"
        symbols, rows = [], []
        for term in shortened(self.terms, None):
            if term is None:
                symbols.append("...")
                rows.append(("...", "", f"({len(self.terms) - SHOWN} more)", "", ""))
                continue
            upstream, local = self._in_symbols(term)
            symbols.append(str(Expression(TERM, (upstream, local))))
            above, number, contribution = map(number_text, term.figures)
            rows.append((term.label, above, str(local), number, contribution))
        rows = [
            ("child", "upstream", "local", "", "contribution"),
            *rows,
            ("sum", "", "", "", number_text(self.total + 0.0)),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2])]
                + [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
            )
            for row in rows
        ]
        return "\n".join([title, f"  = {' + '.join(symbols)}", *(f"  {line.rstrip()}" for line in lines)])

    def latex(self) -> str:
        r"""The sum in symbols and in numbers, as an `aligned` environment.

        >>> from autodiff.explain import total_derivative
        >>> x, w = Value(3.0, name="x"), Value(0.5, name="w1_12")
        >>> y = w * x
        >>> y.name = "h_1"
        >>> print(total_derivative(y, w).latex())
        \begin{aligned}
        \frac{\partial h_{1}}{\partial w^{(1)}_{12}} &= \frac{\partial h_{1}}{\partial h_{1}} \cdot x \\
        &= 1 \cdot 3 = 3
        \end{aligned}
        """
        left = self.name.latex()
        if not self.terms:
            return f"{left} = {latex_number(self.total + 0.0)}"
        symbols, figures = [], []
        for term in shortened(self.terms, None):
            if term is None:
                symbols.append(r"\cdots")
                figures.append(r"\cdots")
                continue
            symbols.append(Expression(TERM, self._in_symbols(term)).latex())
            upstream, local = _figure(term.figures[0], bracket=bool(figures)), _figure(term.figures[1], bracket=True)
            figures.append(rf"{upstream} \cdot {local}")
        return aligned(
            rf"{left} &= {' + '.join(symbols)}", f"&= {' + '.join(figures)} = {latex_number(self.total + 0.0)}"
        )


def aligned(*lines: str) -> str:
    """Lines under each other in LaTeX, aligned at their &."""
    return "\n".join([r"\begin{aligned}", *(line + r" \\" for line in lines[:-1]), lines[-1], r"\end{aligned}"])


def _figure(number: float, bracket: bool = False) -> str:
    text = latex_number(number)
    return f"({text})" if bracket and text.startswith("-") else text


def _quietly(text: Any) -> str:
    """text(), or nothing where that fails: a notebook must not stop at what it only shows."""
    try:
        return str(text())
    except Exception:
        return ""
