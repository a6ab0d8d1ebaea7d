"""Is this backward formula right? Parsed by a small grammar, tried on random networks, diagnosed and corrected.

The truth is `nn.by_hand`. A formula is one equation for a quantity of layer k, in NumPy's notation or the tutorial's:

    formula   = name "=" sum
    sum       = pair { ("+" | "-") pair }
    pair      = product { ("o" | "#" | "\\odot") product }             elementwise
    product   = chain { ("@" | "\\cdot" | "*") chain | "/" power { power } }    "*" elementwise, "@" the matrix product
    chain     = signed { power }                                       side by side: the matrix product
    signed    = "-" signed | power
    power     = primary { ".T" | "^T" | "'" } [ ("**" | "^") number ]
    primary   = number | "n" | "m" | name | function | "(" sum ")"
    name      = ("dz" | "dL/dz" | "z" | "W" | "b" | "a" | "x" | "y" | "yhat" | ...) [ "[k-1]" | "_k" | "_{k-1}" | "3" ]
    function  = "transpose" | "outer" | "sum" | "mean" | "diag" | "f" | "f'" "(" arguments ")"

n is the number of samples, m that of outputs; a name without an index is that of layer k.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nn.audit.report import HINTS, Cause, Report
from nn.by_hand import ACTIVATIONS, LAYOUTS, LOSSES, MLP, REDUCTIONS, Elementwise

__all__ = ["FormulaError", "FormulaReport", "add_command", "check_formula"]

Array = NDArray[np.float64]

DIGITS = 1e-8  # relative to the largest element; the networks are ours and well conditioned
PATIENCE = 6000  # trials of changes: a formula that none of them mends is not explained
DEEPEST = 40  # parentheses inside each other
LARGEST = 10**6  # elements of an outer product


class FormulaError(ValueError):
    """A formula that the grammar does not know: .position in the text, and what was expected there."""

    def __init__(self, text: str, position: int, expected: str, found: str) -> None:
        self.position, self.expected = position, expected
        super().__init__(f"position {position + 1}: expected {expected}, found {found}\n  {text}\n  {' ' * position}^")


# ---------------------------------------------------------------- the tree
@dataclass(frozen=True)
class Node:
    """A part of a formula. kind: number, size, name, and the operations; value: the number, name or axis."""

    kind: str
    parts: tuple[Node, ...] = ()
    value: Any = None
    base: str = "k"  # of a name: the layer is base + shift; base "" for a number alone
    shift: int = 0


GRADIENTS = ("dz", "da", "dW", "db")
VALUES = ("z", "a", "W", "b")
FUNCTIONS = {"transpose": 1, "outer": 2, "sum": 1, "mean": 1, "diag": 1, "dot": 2, "matmul": 2, "multiply": 2}
INFIX = {"add": "+", "sub": "-", "times": "*", "matmul": "@", "div": "/"}
LEVEL = {"add": 1, "sub": 1, "times": 2, "matmul": 2, "div": 2, "neg": 3, "pow": 4}


def text_of(node: Node, tutorial: bool = False) -> str:
    """The formula as it is written, in brackets or in the tutorial's notation with subscripts."""

    def inner(part: Node, level: float) -> str:
        written = text_of(part, tutorial)
        return f"({written})" if level_of(part) < level else written

    def level_of(part: Node) -> float:
        # \odot binds less than factors that stand side by side
        weak = tutorial and part.kind == "times" and not any(map(_is_scalar, part.parts))
        return 1.5 if weak else LEVEL.get(part.kind, 9)

    if node.kind == "number":
        return f"{node.value:g}"
    if node.kind == "size":
        return str(node.value)
    if node.kind == "name":
        return _name_text(node, tutorial)
    if node.kind in INFIX:
        level, sign = level_of(node), INFIX[node.kind]
        if tutorial and sign in "*@":
            scalar = any(_is_scalar(part) for part in node.parts)
            sign = "" if scalar else {"*": "\\odot", "@": ""}[sign]
        left, right = inner(node.parts[0], level), inner(node.parts[1], 4 if level == 2 else 2)
        return f"{left} {sign} {right}" if sign else f"{left} {right}"
    if node.kind == "neg":
        return f"-{inner(node.parts[0], 3)}"
    if node.kind == "pow":
        return f"{inner(node.parts[0], 5)}**{node.value:g}"
    if node.kind == "transpose":
        part = node.parts[0]
        written = inner(part, 5)
        if tutorial and part.kind == "name" and part.value in GRADIENTS:
            written = f"({written})"
        return f"{written}^T" if tutorial else f"{written}.T"
    arguments = ", ".join(text_of(part, tutorial) for part in node.parts)
    if node.kind in ("f", "f'"):
        prime = node.kind[1:]
        return f"f_{_index_text(node)}{prime}({arguments})" if tutorial else f"{node.kind}({arguments})"
    return f"{node.kind}({arguments}{', ' + node.value if node.value else ''})"


def _index_text(node: Node) -> str:
    if not node.base:
        return str(node.shift)
    return node.base + (f"{node.shift:+d}" if node.shift else "")


def _name_text(node: Node, tutorial: bool) -> str:
    if node.value in ("x", "y", "yhat"):
        return str(node.value)
    index = _index_text(node)
    if node.value == "da" and node.base == "L" and not node.shift:
        return "dL/dyhat"
    if not tutorial:
        return f"{node.value}[{index}]"
    subscript = index if len(index) == 1 else f"{{{index}}}"
    return f"dL/d{node.value[1:]}_{subscript}" if node.value in GRADIENTS else f"{node.value}_{subscript}"


def _is_scalar(node: Node) -> bool:
    if node.kind in ("number", "size"):
        return True
    return node.kind in (*INFIX, "neg", "pow") and all(map(_is_scalar, node.parts))


# ---------------------------------------------------------------- reading
# LaTeX and typographic signs, and what they stand for here; "\1" keeps what is inside.
SPELLINGS: tuple[tuple[str, str], ...] = (
    (r"\\(?:left|right|displaystyle|big|Big|quad|,|;|!|:)|[&$]", ""),
    (r"\\(?:hat|widehat)\s*\{\s*(?:\\mathbf\s*\{\s*y\s*\}|\\mathbf\s*y|y)\s*\}|\\hat\s*y|ŷ|y_hat", "yhat"),
    (r"\\(?:mathbf|boldsymbol|bm|mathrm|vec|mathit|operatorname)\s*\{([^{}]*)\}", r"\1"),
    (r"\\(?:hat|widehat)\s*\{\s*y\s*\}", "yhat"),
    (r"\\partial\s*|∂", "d"),
    (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"(\1)/(\2) "),
    (r"\(\s*(d\s*L)\s*\)\s*/\s*\(\s*(d[^()]*)\)", r"\1/\2 "),
    (r"\^\s*\{\s*(?:\\top|\\intercal|\\mathsf\s*T|T)\s*\}|\^\s*(?:\\top|\\intercal|⊤)|ᵀ", "^T"),
    (r"\\odot|\\circ|⊙|∘|\\ast", "#"),
    (r"\\cdot|·|\\times", "·"),
    (r"\^\s*\{?\s*\\prime\s*\}?|’|′", "'"),
    (r"−|–", "-"),
)  # fmt: skip
DERIVATIVE = re.compile(r"d\s*L\s*/\s*d\s*(yhat|[zaWbxh])")
TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.(?!T))?\d*(?:[eE][-+]?\d+)?|\.\d+)|(?P<word>(?:np\.)?[A-Za-z]+)|(?P<sign>\*\*|\^T(?![a-z])|\.T(?![a-z])"
    r"|[-+*/@#·()=,\[\]{}_'^]))"
)


def _plain(text: str) -> tuple[str, list[int]]:
    """The text with the spellings of LaTeX replaced, and the position in the original of every character."""
    where = list(range(len(text) + 1))
    for pattern, becomes in SPELLINGS:
        pieces: list[str] = []
        places: list[int] = []
        last = 0
        for match in re.finditer(pattern, text):
            pieces.append(text[last : match.start()])
            places += where[last : match.start()]
            for piece in re.split(r"(\\\d)", becomes):
                if re.fullmatch(r"\\\d", piece):
                    group = int(piece[1])
                    pieces.append(match.group(group))
                    places += where[match.start(group) : match.end(group)]
                else:
                    pieces.append(piece)
                    places += [where[match.start()]] * len(piece)
            last = match.end()
        text, where = "".join(pieces) + text[last:], places + where[last:]
    return text, where


class _Reader:
    """Recursive descent over the tokens (kind, text, position)."""

    def __init__(self, text: str) -> None:
        self.text = text
        plain, where = _plain(text)
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while plain[at:].strip():
            start = at + len(plain[at:]) - len(plain[at:].lstrip())
            derivative = DERIVATIVE.match(plain, start)
            match = TOKEN.match(plain, at)
            if derivative and not plain[derivative.end() : derivative.end() + 1].isalpha():
                self.tokens.append(("word", "d" + derivative.group(1), where[start]))
                at = derivative.end()
            elif match and match.lastgroup:
                self.tokens.append((match.lastgroup, match.group(match.lastgroup), where[start]))
                at = match.end()
            else:
                raise FormulaError(text, where[start], "a name, a number or an operator", repr(plain[start]))
        self.tokens.append(("end", "", len(text)))
        self.at = self.depth = 0
        self.tutorial = bool(re.search(r"dL|d\s*L\s*/|_|\\", plain)) and "[" not in plain

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    @property
    def word(self) -> str:
        return self.tokens[self.at][1]

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        kind, word, position = self.tokens[self.at if at is None else at]
        raise FormulaError(self.text, position, expected, "the end" if kind == "end" else repr(word))

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def accept(self, *words: str) -> str:
        return self.take() if self.kind != "end" and self.word in words else ""

    def need(self, word: str, expected: str = "") -> None:
        if not self.accept(word):
            self.fail(expected or repr(word))

    def formula(self) -> tuple[Node, Node]:
        if len(self.tokens) == 1:
            self.fail("a formula such as dW[k] = dz[k] @ a[k-1].T")
        start = self.at
        left = self.power()
        if left.kind != "name":
            self.fail("a quantity on the left, such as dW[k] or dL/dz_k", start)
        self.need("=", "'=' after the quantity")
        right = self.sum()
        if self.kind != "end":
            self.fail("an operator or the end")
        return left, right

    def sum(self) -> Node:
        node = self.pair()
        while sign := self.accept("+", "-"):
            node = Node("add" if sign == "+" else "sub", (node, self.pair()))
        return node

    def pair(self) -> Node:
        node = self.product()
        while self.accept("#", "o"):
            node = Node("times", (node, self.product()))
        return node

    def product(self) -> Node:
        node = self.chain()
        while sign := self.accept("*", "@", "·", "/"):
            if sign == "/":  # 1/n dz is (1/n) dz
                node = self.beside(Node("div", (node, self.power())))
            else:
                node = _product(node, self.chain(), sign)
        return node

    def chain(self) -> Node:
        return self.beside(self.signed())

    def beside(self, node: Node) -> Node:
        """node times all that stands beside it without a sign."""
        while (self.kind in ("number", "word") and self.word != "o") or (self.kind == "sign" and self.word == "("):
            node = _product(node, self.power(), "·")
        return node

    def signed(self) -> Node:
        if not self.accept("-"):
            return self.power()
        self.deeper()
        node = Node("neg", (self.signed(),))
        self.depth -= 1
        return node

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"at most {DEEPEST} parentheses and signs inside each other", self.at - 1)

    def power(self) -> Node:
        node = self.primary()
        while True:
            if self.accept(".T", "^T"):
                node = Node("transpose", (node,))
            elif self.accept("**", "^"):
                brace = self.accept("{")
                negative = self.accept("-")
                if self.kind != "number":
                    self.fail("a number as the exponent, or T")
                exponent = float(self.take()) * (-1 if negative else 1)
                if brace:
                    self.need("}")
                node = Node("pow", (node,), exponent)
            else:
                return node

    def primary(self) -> Node:
        if self.kind == "number":
            return Node("number", (), float(self.take()))
        if self.accept("("):
            self.deeper()
            node = self.sum()
            self.depth -= 1
            self.need(")", "')' or an operator")
            return node
        if self.kind != "word":
            self.fail("a name, a number or '('")
        start, word = self.at, self.take().removeprefix("np.")
        if word in ("n", "m"):
            return Node("size", (), word)
        if word in FUNCTIONS or word == "f":
            return self.function(word, start)
        word = {"dyhat": "yhat!", "dx": "x!", "h": "a", "dh": "da"}.get(word, word)
        if word in ("x", "y", "yhat"):
            return Node("name", (), word)
        if word == "yhat!":
            return Node("name", (), "da", "L")
        if word == "x!":
            return Node("name", (), "da", "", 0)
        if word not in GRADIENTS + VALUES:
            self.fail("one of dz da dW db z a W b x y yhat n m, or transpose outer sum mean diag f f'", start)
        return Node("name", (), word, *self.index())

    def index(self) -> tuple[str, int]:
        """(base, shift) of [k-1], _k, _{k-1}, 3; layer k where there is none."""
        if self.kind == "number" and self.tokens[self.at - 1][0] == "word":
            return "", self.whole()
        closing = ""
        if self.accept("["):
            closing = "]"
        elif self.accept("_"):
            closing = "}" if self.accept("{") else ""
            if not closing:
                return self.layer(simple=True)
        else:
            return "k", 0
        found = self.layer(simple=False)
        self.need(closing)
        return found

    def layer(self, simple: bool) -> tuple[str, int]:
        expected = "a layer: k, k-1, k+1, L or a number"
        if self.kind == "number":
            return "", self.whole()
        word = self.word if self.kind == "word" else ""
        if word not in ("k", "l", "L"):
            self.fail(expected)
        base = "L" if self.take() == "L" else "k"
        sign = "" if simple else self.accept("+", "-")
        if not sign:
            return base, 0
        if self.kind != "number":
            self.fail("a number")
        return base, self.whole() * (1 if sign == "+" else -1)

    def whole(self) -> int:
        if not self.word.isdigit():
            self.fail("a whole number")
        return int(self.take())

    def function(self, word: str, start: int) -> Node:
        base, shift = "", 0
        given = False
        if word == "f":
            prime = self.accept("'")
            if self.word in ("_", "["):
                (base, shift), given = self.index(), True
            word = "f'" if prime or self.accept("'") else "f"
        self.need("(", f"'(' after {word}")
        self.deeper()
        parts = [self.sum()]
        axis = None
        while self.accept(","):
            if word in ("sum", "mean") and self.kind in ("word", "number"):
                found = self.option()
                axis = found if found is not None else axis
            else:
                parts.append(self.sum())
        self.depth -= 1
        self.need(")", "',' or ')'")
        count = FUNCTIONS.get(word, 1)
        if len(parts) != count:
            self.fail(f"{count} argument{'s' * (count > 1)} for {word}", start)
        if word in ("f", "f'"):
            if not given:
                found_name = next((p for p in _walk(parts[0]) if p.kind == "name" and p.value not in "xy"), None)
                base, shift = (found_name.base, found_name.shift) if found_name else ("k", 0)
            return Node(word, tuple(parts), None, base, shift)
        if word in ("dot", "matmul"):
            return Node("matmul", tuple(parts))
        if word == "multiply":
            return Node("times", tuple(parts))
        return Node(word, tuple(parts), axis)

    def option(self) -> str | None:
        if self.accept("keepdims"):
            self.need("=")
            if not self.accept("True"):
                self.fail("True: all quantities here are matrices")
            return None
        if self.accept("axis"):
            self.need("=")
        if found := self.accept("samples", "units", "0", "1"):
            return "axis=" + found if found in "01" else found
        self.fail("samples, units, axis=0 or axis=1")


def _product(left: Node, right: Node, sign: str) -> Node:
    scalar = _is_scalar(left) or _is_scalar(right)
    return Node("times" if sign == "*" or (sign == "·" and scalar) else "matmul", (left, right))


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts:
        yield from _walk(part)


# ---------------------------------------------------------------- networks to try it on
@dataclass(frozen=True)
class Case:
    """A layer of a network with all its true quantities, and what is special about it."""

    net: MLP
    y: Array
    k: int
    facts: frozenset[str]

    @property
    def n(self) -> int:
        return int(self.y.shape[0 if self.net.layout == "row" else 1])

    def layer(self, node: Node) -> int:
        return {"k": self.k, "L": len(self.net.sizes) - 1, "": 0}[node.base] + node.shift


SHAPES = (((4, 5, 3, 2), 7), ((5, 2, 4, 3), 1), ((3, 3, 3, 3), 6), ((4, 4, 4, 4), 1), ((1, 1, 1, 1), 5))
MIXES = (
    ("tanh", "softplus", "sigmoid"), ("relu", "leaky_relu", "identity"), ("softmax", "tanh", "softmax"),
    ("softplus", "softmax", "tanh"), ("identity", "identity", "identity"), ("sigmoid", "sigmoid", "softplus"),
)  # fmt: skip
# what a condition may be about, in the order of preference
CONDITIONS = {
    "n = 1": "n = 1 (one sample)",
    "elementwise": "f acts elementwise (not softmax)",
    "equal": "equal widths n_{k-1} = n_k",
    "ones": "all widths are 1",
    "last": "k = L, the last layer",
    "softmax + ce": "softmax with ce at the last layer",
    "sigmoid + bce": "sigmoid with bce at the last layer",
    "identity + half_sse": "identity with half_sse at the last layer",
    "identity + sse": "identity with sse at the last layer",
    **{f"f = {name}": f"f is {name}" for name in ACTIVATIONS},
    **{f"loss = {name}": f"the loss is {name}" for name in LOSSES if name != "mse"},
    "reduction = sum": "the loss is a sum over the batch",
    "reduction = mean": "the loss is a mean over the samples",
    "reduction = mean_elements": "the loss is a mean over samples and outputs",
}


@cache
def _cases(
    layout: str,
    losses: tuple[str, ...],
    reductions: tuple[str, ...],
    with_loss: bool,
    last: str,
    layer: int,
    seed: int,
) -> tuple[tuple[Case, ...], ...]:
    """Groups of cases that differ only in what they are about: shapes within a group, activations and losses across."""
    rng = np.random.default_rng(seed)
    settings: list[tuple[tuple[str, ...], str, str]] = []
    if with_loss:
        outputs = {"sse": ("identity", "tanh", "sigmoid"), "half_sse": ("identity", "tanh"),
                   "bce": ("sigmoid",), "ce": ("softmax", "sigmoid")}  # fmt: skip
        for loss, reduction in itertools.product(losses, reductions):
            for f in (last,) if last else outputs[loss]:
                settings.append((("tanh", "softplus", f), loss, reduction))
    else:
        mixes = ((last, last, last),) if last else MIXES
        settings = [(mix, losses[0] if losses[0] in ("sse", "half_sse") else "sse", reductions[0]) for mix in mixes]
    groups = []
    for mix, loss, reduction in settings:
        group = []
        for sizes, n in SHAPES:
            net = MLP(sizes, mix, loss, reduction, layout)
            shape = LAYOUTS[layout].shape
            for k in (1, 2, 3):
                net.W[k] = rng.uniform(0.3, 1.2, shape(sizes[k - 1], sizes[k])) * rng.choice([-1.0, 1.0])
                net.W[k] *= rng.choice([-1.0, 1.0], net.W[k].shape)
                net.b[k] = rng.uniform(-0.5, 0.5, shape(1, sizes[k]))
            X = rng.normal(size=(n, sizes[0]))
            y = rng.uniform(0.1, 0.9, (n, sizes[-1]))
            if loss == "ce":
                y /= y.sum(axis=1, keepdims=True)
            X, y = (X, y) if layout == "row" else (X.T.copy(), y.T.copy())
            net.forward(X)
            net.backward(y)
            for k in (layer,) if layer else (1, 2, 3):
                group.append(Case(net, y, k, _facts(net, n, k)))
        groups.append(tuple(group))
    return tuple(groups)


def _facts(net: MLP, n: int, k: int) -> frozenset[str]:
    f, last, sizes = net.activations[k - 1], k == len(net.sizes) - 1, net.sizes
    facts = {
        "n = 1": n == 1,
        "elementwise": f != "softmax",
        "equal": sizes[k] == sizes[k - 1],
        "ones": sizes[k] == sizes[k - 1] == 1,
        "last": last,
        f"{f} + {net.loss}": last,
        f"f = {f}": True,
        f"loss = {net.loss}": True,
        f"reduction = {net.reduction}": True,
    }
    return frozenset(name for name, holds in facts.items() if holds and name in CONDITIONS)


# ---------------------------------------------------------------- evaluating
class _Misfit(Exception):
    """Shapes that do not go together, in words."""


class _NoLayer(Exception):
    """An index outside of the network: another k will do."""


def _look(case: Case, name: str, layer: int) -> Array:
    net, last = case.net, len(case.net.sizes) - 1
    lowest = 0 if name in ("a", "da") else 1
    if not lowest <= layer <= last:
        raise _NoLayer
    return np.asarray(getattr(net, name)[layer])


def _value(node: Node, case: Case) -> Any:
    """The number or matrix that a part of a formula stands for."""
    if node.kind == "number":
        return node.value
    if node.kind == "size":
        return float(case.n if node.value == "n" else case.net.sizes[-1])
    if node.kind == "name":
        if node.value == "y":
            return case.y
        if node.value == "yhat":
            return case.net.a[-1]
        if node.value == "x":
            return case.net.a[0]
        return _look(case, node.value, case.layer(node))
    parts = [_value(part, case) for part in node.parts]
    return _OPERATIONS[node.kind](node, case, *parts)


def _shape_text(x: Any, case: Case) -> str:
    if not np.ndim(x):
        return "a number"
    net, k = case.net, case.k
    names = {case.n: "n", net.sizes[k]: f"n_{k}"}
    for layer, size in enumerate(net.sizes):
        names.setdefault(size, f"n_{layer}")
    names = {size: name.replace(f"n_{k - 1}", "n_{k-1}").replace(f"n_{k}", "n_k") for size, name in names.items()}
    for one, other in itertools.combinations_with_replacement(list(names), 2):
        names.setdefault(one * other, f"{names[one]}*{names[other]}")
    return " x ".join(names.get(size, str(size)) if size != 1 else "1" for size in np.shape(x))


def _binary(operation: Callable[[Any, Any], Any], words: str) -> Callable[..., Any]:
    def run(node: Node, case: Case, left: Any, right: Any) -> Any:
        if words == "multiplies" and (not np.ndim(left) or not np.ndim(right)):
            raise _Misfit(f"{text_of(node)}: the matrix product needs two matrices; for a number write *")
        try:
            return operation(left, right)
        except ValueError:
            shapes = f"{_shape_text(left, case)} and {_shape_text(right, case)}"
            raise _Misfit(f"{text_of(node)} {words} {shapes}, which do not go together") from None

    return run


def _reduce(operation: Callable[..., Any]) -> Callable[..., Any]:
    def run(node: Node, case: Case, x: Any) -> Any:
        if not np.ndim(x):
            raise _Misfit(f"{text_of(node)}: there is no axis in a number")
        units = LAYOUTS[case.net.layout].units
        axis = {None: None, "samples": 1 - units, "units": units}[node.value]
        return operation(x, axis=axis, keepdims=True)

    return run


def _apply(node: Node, case: Case, x: Any) -> Any:
    layer = case.layer(node)
    if not 1 <= layer < len(case.net.sizes):
        raise _NoLayer
    f, units, x = ACTIVATIONS[case.net.activations[layer - 1]], LAYOUTS[case.net.layout].units, np.atleast_2d(x)
    if node.kind == "f":
        return f.value(x, units)
    if isinstance(f, Elementwise):
        return f.derivative(x)
    p = f.value(x, units)
    return p * (1.0 - p)  # the diagonal of the Jacobian: all that an elementwise f' can be


def _diagonal(node: Node, case: Case, x: Any) -> Any:
    if np.ndim(x) and case.n != 1 and max(np.shape(x)) > 1 and min(np.shape(x)) > 1:
        raise _Misfit(f"{text_of(node)}: diag makes a matrix of one sample, here are {case.n}")
    return np.diag(np.ravel(x))


def _outer(node: Node, case: Case, x: Any, y: Any) -> Any:
    if np.size(x) * np.size(y) > LARGEST:
        raise _Misfit(f"{text_of(node)} is too large: outer takes two vectors")
    return np.outer(x, y)


def _raised(node: Node, case: Case, x: Any) -> Any:
    with np.errstate(all="ignore"):
        return x**node.value


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _binary(lambda a, b: a + b, "adds"),
    "sub": _binary(lambda a, b: a - b, "subtracts"),
    "times": _binary(lambda a, b: a * b, "pairs the elements of"),
    "div": _binary(lambda a, b: a / b, "divides"),
    "matmul": _binary(lambda a, b: a @ b, "multiplies"),
    "neg": lambda node, case, x: -x,
    "pow": _raised,
    "transpose": lambda node, case, x: np.transpose(x),
    "outer": _outer,
    "sum": _reduce(np.sum),
    "mean": _reduce(np.mean),
    "diag": _diagonal,
    "f": _apply,
    "f'": _apply,
}


def _truth(left: Node, case: Case) -> Array:
    if left.value == "yhat":
        return np.asarray(case.net.a[-1])
    if left.value in ("x", "y"):
        raise ValueError(f"{left.value} is given with the data: there is no formula for it")
    return _look(case, left.value, case.layer(left))


def _is_right(left: Node, right: Node, case: Case) -> bool | None:
    """Whether the formula gives the truth here; None where an index points outside of the network."""
    try:
        true = _truth(left, case)
        found = _value(right, case)
    except _NoLayer:
        return None
    except _Misfit:
        return False
    return bool(np.shape(found) == true.shape and np.max(abs(found - true)) <= DIGITS * np.max(abs(true)))


# ---------------------------------------------------------------- the verdict
@dataclass(frozen=True)
class FormulaReport(Report):
    """A Report on one formula. answer: "right", "wrong" or "conditional"; ok is None for the last.

    context: the formula as it was read, the layout, the corrected formula, and the conditions under which it is right:
    a list of alternatives, each a list of conditions that must hold together.
    """

    @property
    def answer(self) -> str:
        """right, wrong or conditional."""
        return {True: "right", False: "wrong", None: "conditional"}[self.ok]

    def text(self, hint: str = "fix") -> str:
        """The report in words, headed by the answer; hint as in Report."""
        lines = super().text(hint).split("\n")
        if self.ok is None:
            lines[0] = f"right only under conditions: {self.context['condition']}"
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, with the answer."""
        return {**super().to_dict(), "answer": self.answer}


# Where the same formula would merely happen to be right: no reason to write it.
ACCIDENTS = ("ones", "f = relu", "f = leaky_relu", "f = identity")
COINCIDENCES = (*ACCIDENTS, "equal", "n = 1")


def check_formula(
    formula: str,
    *,
    layout: str = "column",
    loss: str | None = None,
    reduction: str | None = None,
    activation: str | None = None,
    seed: int = 0,
) -> FormulaReport:
    """FormulaReport: right, wrong with the diagnosis and the corrected formula, or right only under conditions.

    formula: an equation for dz, da, dW, db, z or a of layer k, read as the module's grammar says: "dW[k] = dz[k] @
    a[k-1].T" or "dL/dW_k = dL/dz_k a_{k-1}^T". Every name stands for the true quantity, the gradients of one loss.
    layout: "column" (the tutorial's text) or "row" (its code). loss, reduction: for formulas with y; None tries all.
    activation: the one f to judge by (at the last layer if the formula has y); None tries all. Tried on three-layer
    networks with distinct and equal widths and several batch sizes. Raises FormulaError with the position where the
    formula cannot be read, ValueError for unknown names.

    >>> print(check_formula("dW[k] = dz[k] @ a[k].T"))
    wrong: 1 cause
    dW: a[k] stands where a[k-1] belongs (the formula gives n_k x n_k, dW[k] is n_k x n_{k-1})
      claimed: dW[k] = dz[k] @ a[k].T
      right:   dW[k] = dz[k] @ a[k-1].T
      to do:   write a[k-1] for a[k]
    >>> check_formula("dz = da * f'(z)").context["condition"]
    'f acts elementwise (not softmax)'
    """
    for argument, name, table in (("layout", layout, LAYOUTS), ("loss", loss, LOSSES),
                                  ("reduction", reduction, REDUCTIONS),
                                  ("activation", activation, ACTIVATIONS)):  # fmt: skip
        if name is not None and name not in table:
            raise ValueError(f"{argument}: {name!r} is not known; known are {', '.join(table)}")
    reader = _Reader(formula)
    left, right = reader.formula()
    right = _by_name(right, layout)
    if left.kind != "name" or left.value in ("x", "y", "W", "b"):
        raise ValueError(f"{text_of(left)} is given: formulas are for dz, da, dW, db, z, a and yhat")
    for node in _walk(right):
        if node.kind == "name" and node.value == left.value and (node.base != left.base or node.shift == left.shift):
            raise ValueError(f"{text_of(left)} stands on both sides ({text_of(node)}): this says nothing about it")
    if loss == "mse":
        loss, reduction = "sse", "mean_elements"
    last = Node("name", (), "da", "L")
    with_loss = left == last or any(node.value == "y" for node in _walk(right))
    losses = (loss,) if loss else ("sse", "half_sse", "bce", "ce")
    reductions = (reduction,) if reduction else ("sum", "mean", "mean_elements")
    if activation == "softmax" and loss is None and with_loss:
        losses = ("ce",)
    with np.errstate(all="ignore"):
        layer = {"k": 0, "L": 3, "": max(left.shift, 1)}[left.base] + (left.shift if left.base == "L" else 0)
        if left.value == "yhat":
            layer = 3
        if not 0 <= layer <= 3:
            raise ValueError(f"{text_of(left)} is outside of the networks of three layers that formulas are tried on")
        groups = _cases(layout, losses, reductions, with_loss, activation or "", layer, seed)
        return _judged(_Question(formula, left, right, layout, reader.tutorial, with_loss), groups)


def _by_name(node: Node, layout: str) -> Node:
    """The same with samples and units for the numbers of axes."""
    axes = ("samples", "units") if layout == "row" else ("units", "samples")
    value = (
        axes[int(node.value[-1])] if node.kind in ("sum", "mean") and node.value in ("axis=0", "axis=1") else node.value
    )
    return replace(node, value=value, parts=tuple(_by_name(part, layout) for part in node.parts))


@dataclass(frozen=True)
class _Question:
    formula: str
    left: Node
    right: Node
    layout: str
    tutorial: bool
    with_loss: bool

    def telling(self) -> list[str]:
        """The conditions that can matter to this formula."""
        about_loss = [name for name in CONDITIONS if "+" in name or name.startswith(("loss", "reduction"))]
        if not self.with_loss:
            return [name for name in CONDITIONS if name not in about_loss and name != "last"]
        if self.left.value == "da":
            about_f = [name for name in CONDITIONS if "+" in name or name.startswith("f =")]
            return [name for name in CONDITIONS if name not in about_f and name not in ("elementwise", "last")]
        return list(CONDITIONS)

    def write(self, node: Node) -> str:
        return text_of(node, self.tutorial)

    def equation(self, right: Node) -> str:
        return f"{self.write(self.left)} = {self.write(right)}"


def _judged(question: _Question, groups: tuple[tuple[Case, ...], ...]) -> FormulaReport:
    tried = [(case, answer) for group in groups for case in group
             if (answer := _right_if_telling(question, case)) is not None]  # fmt: skip
    if not tried:
        raise ValueError(f"{question.formula!r} points outside of a network of three layers at every layer k")
    context: dict[str, Any] = {
        "formula": question.equation(question.right), "layout": question.layout,
        "cases": len(tried), "conditions": [],
    }  # fmt: skip
    if all(answer for _, answer in tried):
        return FormulaReport(True, context=context)
    conditions = _conditions(tried, question.telling()) if any(answer for _, answer in tried) else []
    words = _in_words(conditions)
    context.update(conditions=[[CONDITIONS[name] for name in names] for names in conditions], condition=words)
    accident = all(any(name in ACCIDENTS or name.startswith("identity +") for name in names) for names in conditions)
    by_choice = all(name.startswith(("loss", "reduction")) for names in conditions for name in names)
    if conditions and by_choice and question.with_loss:
        return FormulaReport(True, notes=(f"right where {words}",), context=context)

    only_one = bool(conditions) and all("n = 1" in names for names in conditions)
    found = None
    if not conditions or accident or only_one:
        found = _diagnosed(question, groups)
        if only_one and not accident and (found is None or not found[0].factor):
            found = None  # a formula for one sample, not a wrong scale
        elif found is None:
            found = [_unexplained(question, groups)]
    if found is None:
        cause = _conditional(question, groups, conditions, words)
        context["corrected"] = cause.expected
        return FormulaReport(None, (cause,), context=context)
    notes = []
    if words:
        notes.append(f"it happens to be right where {words}")
    if found[0].factor == "1/n" and len(found) == 1 and question.left.value in ("dW", "db"):
        notes.append("for a mean over the samples 1/n may enter here, if it does in dW and db alike and nowhere "
                     "before; with dz = dL/dz it is already there")  # fmt: skip
    context["corrected"] = found[0].expected
    return FormulaReport(False, tuple(found), notes=tuple(notes), context=context)


def _right_if_telling(question: _Question, case: Case) -> bool | None:
    try:
        if not np.any(_truth(question.left, case)):
            return None  # a dead unit: anything times 0 is right
    except _NoLayer:
        return None
    return _is_right(question.left, question.right, case)


def _conditions(tried: list[tuple[Case, bool]], telling: list[str]) -> list[tuple[str, ...]]:
    """The alternatives of few facts that make the formula right, without coincidences where there are others."""
    varying = [name for name in telling if 0 < sum(name in case.facts for case, _ in tried) < len(tried)]
    honest = [name for name in varying if name not in COINCIDENCES]
    for names in (honest, varying):
        found: list[tuple[str, ...]] = []
        covered: set[int] = set()
        for size in (1, 2, 3):
            for chosen in itertools.combinations(names, size):
                if any(set(other) <= set(chosen) for other in found):
                    continue
                mine = [i for i, (case, _) in enumerate(tried) if case.facts.issuperset(chosen)]
                if len(mine) >= 2 and all(tried[i][1] for i in mine) and not covered.issuperset(mine):
                    found.append(chosen)
                    covered.update(mine)
            if found and size >= 2:
                break
        if found:
            # one fact that covers all says more than many that cover it in parts
            return [
                names for names in found
                if not any(
                    other != names and _covered(tried, names) < _covered(tried, other) for other in found
                )
            ]  # fmt: skip
    return []


def _in_words(conditions: list[tuple[str, ...]]) -> str:
    """A or B or C, and D: what all alternatives share is said once."""
    if not conditions:
        return ""
    shared = [name for name in conditions[0] if len(conditions) > 1 and all(name in names for names in conditions)]
    alternatives = [" and ".join(CONDITIONS[name] for name in names if name not in shared) for names in conditions]
    words = " or ".join(alternative for alternative in alternatives if alternative)
    return ", and ".join([words, *(CONDITIONS[name] for name in shared)])


def _covered(tried: list[tuple[Case, bool]], names: tuple[str, ...]) -> set[int]:
    return {i for i, (case, _) in enumerate(tried) if case.facts.issuperset(names)}


# ---------------------------------------------------------------- the right formulas
RULES = {
    "row": {"dW": "dW[k] = a[k-1].T @ dz[k]", "db": "db[k] = sum(dz[k], samples)", "da": "da[k-1] = dz[k] @ W[k].T",
            "z": "z[k] = a[k-1] @ W[k] + b[k]"},
    "column": {"dW": "dW[k] = dz[k] @ a[k-1].T", "db": "db[k] = sum(dz[k], samples)", "da": "da[k-1] = W[k].T @ dz[k]",
               "z": "z[k] = W[k] @ a[k-1] + b[k]"},
}  # fmt: skip
ANYWHERE = {"dz": "dz[k] = da[k] * f'(z[k])", "a": "a[k] = f(z[k])"}
OUTPUT = {"sse": "2 * (yhat - y)", "half_sse": "yhat - y", "bce": "(yhat - y) / (yhat * (1 - yhat))", "ce": "-y / yhat"}
DIVISORS = {"sum": "", "mean": " / n", "mean_elements": " / (n*m)"}
SOFTMAX = {
    "row": "dz[k] = a[k] * (da[k] - sum(a[k] * da[k], units))",
    "column": "dz[k] = a[k] * (da[k] - sum(a[k] * da[k], units))",
}


def _canonical(question: _Question, net: MLP | None = None) -> str:
    """The right formula for the quantity on the left, in the notation of the claim."""
    left = question.left
    if left.value == "yhat":
        return "yhat = a[L]"
    if left == Node("name", (), "da", "L") and net is not None:
        wanted = _Reader(f"da[L] = ({OUTPUT[net.loss]}){DIVISORS[net.reduction]}").formula()
    else:
        wanted = _Reader({**ANYWHERE, **RULES[question.layout]}[left.value]).formula()
    move = left.shift - wanted[0].shift
    return " = ".join(question.write(_moved(side, left.base, move, wanted[0])) for side in wanted)


def _moved(node: Node, base: str, move: int, left: Node) -> Node:
    parts = tuple(_moved(part, base, move, left) for part in node.parts)
    if node.kind in ("f", "f'") or (node.kind == "name" and node.base == left.base):
        return replace(node, parts=parts, base=base, shift=node.shift + move)
    return replace(node, parts=parts)


def _cause(question: _Question, kind: str, message: str, **rest: Any) -> Cause:
    left = question.left
    layer = left.shift if not left.base and left.value not in ("yhat",) else None
    quantity = f"{left.value}{layer if layer is not None else ''}"
    found = question.equation(question.right)
    return Cause(quantity, layer, () if layer is None else (layer,), kind, message, found=found, **rest)


def _conditional(
    question: _Question, groups: tuple[tuple[Case, ...], ...], conditions: list[tuple[str, ...]], words: str
) -> Cause:
    expected = _canonical(question, groups[0][0].net)
    kind, fix = "condition", None
    if any("elementwise" in names for names in conditions) and question.left.value == "dz":
        kind = "softmax-jacobian"
        fix = f"for softmax: {SOFTMAX[question.layout]}"
        expected += " for elementwise f"
    elif all("n = 1" in names for names in conditions):
        kind = "batch-sum"
        trouble = _misfit(question, groups)
        words += f" ({trouble})" if trouble else ""
        fix = "for a batch, sum over the samples; the formula above does"
    return _cause(question, kind, f"right only where {words}", expected=expected, fix=fix)


def _misfit(question: _Question, groups: tuple[tuple[Case, ...], ...]) -> str:
    """What is wrong with the shapes in general, or ""."""
    for case in groups[0]:
        try:
            true, found = _truth(question.left, case), _value(question.right, case)
        except _Misfit as misfit:
            return str(misfit)
        except _NoLayer:
            continue
        if np.shape(found) != true.shape:
            left = f"{question.write(question.left)} is {_shape_text(true, case)}"
            return f"the formula gives {_shape_text(found, case)}, {left}"
    return ""


def _unexplained(question: _Question, groups: tuple[tuple[Case, ...], ...]) -> Cause:
    trouble = _misfit(question, groups)
    message = f"the shapes are wrong: {trouble}" if trouble else "the numbers are wrong, the shapes are right"
    kind = "shape" if trouble else "unexplained"
    softmax = all(case.net.activations[case.k - 1] == "softmax" for case in groups[0])
    if not trouble and softmax and any(node.kind == "f'" for node in _walk(question.right)):
        message = "a softmax mixes the units of a sample: it has no elementwise f'"
        return _cause(question, "softmax-jacobian", message, expected=SOFTMAX[question.layout])
    return _cause(question, kind, message, expected=_canonical(question, groups[0][0].net))


# ---------------------------------------------------------------- the diagnosis
@dataclass(frozen=True)
class _Edit:
    """A change that would mend the formula: the mistake that it takes back."""

    right: Node
    kind: str
    message: str
    fix: str


def _diagnosed(question: _Question, groups: tuple[tuple[Case, ...], ...]) -> list[Cause] | None:
    """The causes by the fewest changes that make the formula right, up to a factor; None if there are none."""
    best: tuple[Any, ...] | None = None
    edits = list(_edits(question, question.right))
    all_probes = []
    for group in groups if question.with_loss else (sum(groups, ()),):
        core = [case for case in group if case.n > 1 and ("elementwise" in case.facts or question.with_loss)
                and "ones" not in case.facts]  # fmt: skip
        answers = [(case, answer) for case in core if (answer := _right_if_telling(question, case)) is not None]
        if not all(answer for _, answer in answers):  # else there is nothing to mend for this loss
            all_probes.append([case for case, _ in answers])
    tries = itertools.islice(
        ((count, chain, order) for chains in _chains(question, edits) for count, chain in chains
         for order in range(len(all_probes))), PATIENCE,
    )  # fmt: skip
    for count, chain, order in tries:
        if best is not None and count > best[0][0]:
            break
        if chain and question.left in _walk(chain[-1].right):
            continue  # da[k] = da[k] is true, and no formula
        factor = _factor(question.left, chain[-1].right if chain else question.right, all_probes[order])
        if factor is None:
            continue
        badness = (count + (factor != "1"), 0 if factor in ("1", "-1") else len(factor), order)
        if best is None or badness < best[0]:
            best = badness, chain, factor, all_probes[order][0].net
        if badness[:2] <= (1, 0) and order == 0:
            break
    if best is None:
        return None
    _, chain, factor, net = best
    expected = _canonical(question, net)
    trouble = _misfit(question, groups)
    causes_found: list[Cause] = []
    for edit in chain:
        message = f"{edit.message} ({trouble})" if trouble and not causes_found else edit.message
        causes_found.append(_cause(question, edit.kind, message, expected=expected, fix=edit.fix))
    if factor != "1":
        what = f"{factor} times the {'right formula' if not chain else 'rest'}"
        if factor == "-1":
            what = "the sign is flipped: a step of descent would go up"
        if question.with_loss and question.left.value == "da":
            what += f" (for the loss {net.loss}, reduction {net.reduction})"
        fix = f"divide by {factor}" if factor != "-1" else "multiply by -1"
        causes_found.append(_cause(question, "factor", what, factor=factor, expected=expected, fix=fix))
    return causes_found


def _chains(question: _Question, edits: list[_Edit]) -> Iterator[Iterator[tuple[int, tuple[_Edit, ...]]]]:
    """Chains of no, one and two changes, with their number."""
    yield iter([(0, ())])
    yield ((1, (edit,)) for edit in edits)
    yield ((2, (first, second)) for first in edits for second in _edits(question, first.right))


def _factor(left: Node, right: Node, probes: list[Case]) -> str | None:
    """The factor between the formula and the truth, "1" if it is right; None if there is none."""
    ratios, seen = [], []
    for case in probes:
        try:
            true, found = _truth(left, case), _value(right, case)
        except _NoLayer:
            continue
        except _Misfit:
            return None
        if np.shape(found) != true.shape:
            return None
        largest = np.unravel_index(np.argmax(abs(true)), true.shape)
        ratio = float(found[largest] / true[largest])
        if not np.isfinite(ratio) or not ratio:
            return None
        if np.max(abs(found - ratio * true)) > DIGITS * np.max(abs(found)):
            return None
        ratios.append(ratio)
        seen.append(case)
    return _monomial(np.array(ratios), seen) if seen else None


def _monomial(ratios: Array, probes: list[Case]) -> str | None:
    sizes = {
        "n": np.array([case.n for case in probes], dtype=float),
        "m": np.array([case.net.sizes[-1] for case in probes], dtype=float),
        "n_k": np.array([case.net.sizes[case.k] for case in probes], dtype=float),
        "n_{k-1}": np.array([case.net.sizes[case.k - 1] for case in probes], dtype=float),
    }
    best = None
    for powers in itertools.product((0, 1, -1, 2, -2), (0, 1, -1), (0, 1, -1), (0, 1, -1)):
        c = ratios / np.prod([size**p for size, p in zip(sizes.values(), powers, strict=True)], axis=0)
        if np.ptp(c) <= 1e-6 * np.max(abs(c)):
            written = _written(float(np.median(c)), dict(zip(sizes, powers, strict=True)))
            key = (sum(map(abs, powers)), len(written), written)
            best = key if best is None or key < best else best
    return best[2] if best else None


def _written(c: float, powers: dict[str, int]) -> str:
    simple = Fraction(c).limit_denominator(16)
    exact = abs(float(simple) - c) <= 1e-7 * abs(c)
    number = str(simple.numerator) if exact else f"{c:.6g}"
    above = [size if p == 1 else f"{size}**{p}" for size, p in powers.items() if p > 0]
    below = [size if p == -1 else f"{size}**{-p}" for size, p in powers.items() if p < 0]
    if exact and simple.denominator != 1:
        below.insert(0, str(simple.denominator))
    top = "*".join(([] if number == "1" and above else [number]) + above)
    return top + (f"/{below[0]}" if len(below) == 1 else f"/({'*'.join(below)})" if below else "")


def _edits(question: _Question, tree: Node) -> Iterator[_Edit]:
    """Every single change of a formula that takes back a common mistake, the likeliest first."""
    w = question.write
    left = question.left
    below = replace(left, value="z")
    if left.value == "dz":
        prime = Node("f'", (below,), None, left.base, left.shift)
        missing = f"the derivative of the activation, {w(prime)}, is missing"
        yield _Edit(Node("times", (tree, prime)), "activation-derivative", missing, f"multiply by {w(prime)}")
    if left.value == "a":
        applied = Node("f", (tree,), None, left.base, left.shift)
        yield _Edit(applied, "forward", "the activation is left out", f"write {w(applied)}")
    for shift in (-1, 1):
        moved = _moved(tree, left.base, shift, left)
        if moved != tree:
            message = f"all of it is that of another layer than {w(left)}"
            yield _Edit(moved, "operand", message, f"write {w(moved)}")
    for put, node in _places(tree):
        if node.kind == "name":
            for other in _other_names(node):
                kind = "operand"
                yield _Edit(
                    put(other), kind, f"{w(node)} stands where {w(other)} belongs", f"write {w(other)} for {w(node)}"
                )
        if node.kind in ("f", "f'"):
            for other in _other_arguments(node):
                message = f"the derivative is taken at {w(node.parts[0])} instead of {w(other.parts[0])}"
                yield _Edit(put(other), "activation-derivative", message, f"write {w(other)} for {w(node)}")
            other = replace(node, kind="f" if node.kind == "f'" else "f'")
            yield _Edit(
                put(other), "activation-derivative", f"{w(node)} stands where {w(other)} belongs", f"write {w(other)}"
            )
            for shift in (-1, 1):
                other = replace(node, shift=node.shift + shift)
                yield _Edit(put(other), "activation-derivative", "f' is that of another layer", f"write {w(other)}")
        if node.kind == "pow":
            kind = "activation-derivative" if any(p.kind == "f'" for p in _walk(node)) else "operand"
            yield _Edit(put(node.parts[0]), kind, f"{w(node.parts[0])} is raised to a power", "take the power off")
    for put, node in _places(tree):
        if node.kind == "matmul":
            x, y = node.parts
            swapped = put(Node("matmul", (y, x)))
            yield _Edit(swapped, "transposed", "the product is the wrong way round", f"swap the factors of {w(node)}")
            if x.kind == "transpose" and y.kind != "transpose":
                moved = Node("matmul", (x.parts[0], Node("transpose", (y,))))
                message = "the product is the wrong way round: the other factor is the transposed one"
                yield _Edit(put(moved), "transposed", message, f"write {w(moved)} for {w(node)}")
            if y.kind == "transpose" and x.kind != "transpose":
                moved = Node("matmul", (Node("transpose", (x,)), y.parts[0]))
                message = "the product is the wrong way round: the other factor is the transposed one"
                yield _Edit(put(moved), "transposed", message, f"write {w(moved)} for {w(node)}")
            times = Node("times", node.parts)
            yield _Edit(put(times), "product", f"{w(node)} must be elementwise", f"write {w(times)}")
        if node.kind == "times" and not any(map(_is_scalar, node.parts)):
            matmul = Node("matmul", node.parts)
            message = f"{w(node)} pairs elements where the matrix product belongs"
            yield _Edit(put(matmul), "product", message, f"write {w(matmul)}")
        if node.kind == "outer":
            for x, y in (node.parts, node.parts[::-1]):
                for product in (
                    Node("matmul", (x, Node("transpose", (y,)))),
                    Node("matmul", (Node("transpose", (x,)), y)),
                ):
                    yield _Edit(put(product), "product", "outer is for one sample", f"write {w(product)}")
        if node.kind in ("name", "matmul", "outer") or put(node) is tree or node is tree:
            whole = _transposed(node)
            kind = "operand" if node.value == "W" else "transposed"
            yield _Edit(put(whole), kind, f"{w(node)} must be transposed", f"write {w(whole)} for {w(node)}")
        if node.kind == "transpose":
            kind = "operand" if node.parts[0].value == "W" else "transposed"
            yield _Edit(put(node.parts[0]), kind, f"{w(node)} must not be transposed", f"write {w(node.parts[0])}")
        if node.kind in ("sum", "mean"):
            for value in ("samples", "units"):
                if value != node.value:
                    other = replace(node, value=value)
                    message = f"the {node.kind} runs over {node.value or 'everything'} instead of the {value}"
                    yield _Edit(put(other), "axis", message, f"write {w(other)}")
            yield _Edit(put(node.parts[0]), "extra-term", f"the {node.kind} does not belong here", "take it off")
        if node.kind in ("add", "sub"):
            kind = "loss-derivative" if left.value == "da" and question.with_loss else "sign"
            flipped = replace(node, kind="sub" if node.kind == "add" else "add")
            first = Node("neg", (node.parts[0],)) if node.parts[0].kind != "neg" else node.parts[0].parts[0]
            for other in (flipped, replace(node, parts=(first, node.parts[1]))):
                yield _Edit(put(other), kind, f"a term of {w(node)} has the wrong sign", f"write {w(other)}")
            yield _Edit(put(node.parts[0]), "extra-term", f"{w(node.parts[1])} is a term too many", "take it off")
            yield _Edit(put(node.parts[1]), "extra-term", f"{w(node.parts[0])} is a term too many", "take it off")
        if node.kind in ("times", "matmul"):
            for keep, drop in (node.parts, node.parts[::-1]):
                if _is_scalar(drop):
                    continue  # that is a factor
                kind = "activation-derivative" if drop.kind == "f'" else "extra-term"
                yield _Edit(put(keep), kind, f"the factor {w(drop)} does not belong here", "take it off")
        if node.kind == "neg":
            yield _Edit(put(node.parts[0]), "sign", f"{w(node)} has the wrong sign", "take the minus off")
    for value in ("samples", "units"):
        summed = Node("sum", (tree,), value)
        yield _Edit(summed, "batch-sum", f"the sum over the {value} is missing", f"write {w(summed)}")
    if left.value in ("z",):
        bias = Node("add", (tree, replace(left, value="b")))
        yield _Edit(bias, "forward", "the bias is left out", "add it")


def _transposed(node: Node) -> Node:
    """The transpose, written without needless ones: (x y)^T = y^T x^T."""
    if node.kind == "transpose":
        return node.parts[0]
    if node.kind == "matmul":
        return Node("matmul", tuple(_transposed(part) for part in node.parts[::-1]))
    return Node("transpose", (node,))


def _places(tree: Node) -> Iterator[tuple[Callable[[Node], Node], Node]]:
    """(put, node) for every part: put(other) is the tree with other in the place of node."""
    yield (lambda other: other), tree
    for i, part in enumerate(tree.parts):
        for put, node in _places(part):
            yield _inside(tree, i, put), node


def _inside(tree: Node, i: int, put: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda other: replace(tree, parts=(*tree.parts[:i], put(other), *tree.parts[i + 1 :]))


def _other_names(node: Node) -> Iterator[Node]:
    if node.value in ("y", "yhat"):
        yield replace(node, value="yhat" if node.value == "y" else "y")
        return
    if node.value == "x":
        yield Node("name", (), "a", "k", -1)
        return
    for shift in (-1, 1):
        yield replace(node, shift=node.shift + shift)
    swaps = {"a": ("z",), "z": ("a",), "da": ("dz",), "dz": ("da",), "W": ("dW",), "dW": ("W",), "db": ("dz",), "b": ()}
    for value in swaps[node.value]:
        for shift in (0, -1, 1):
            yield replace(node, value=value, shift=node.shift + shift)


def _other_arguments(node: Node) -> Iterator[Node]:
    wanted = Node("name", (), "z", node.base, node.shift)
    for base, shift in ((node.base, node.shift), (node.base, node.shift - 1), (node.base, node.shift + 1)):
        other = replace(node, parts=(replace(wanted, base=base, shift=shift),), base=base, shift=shift)
        if other != node:
            yield other


# ---------------------------------------------------------------- the command
def add_command(subparsers: Any) -> argparse.ArgumentParser:
    """The subcommand `formula`, added to what `add_subparsers()` gave; its `run(arguments)` returns the exit code.

    Exit codes: 0 right, 1 wrong, 2 the formula cannot be read, 3 right only under conditions.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "formula",
        help="check one backward formula",
        description="Is this formula right? If not, what is wrong with it?",
    )
    parser.add_argument("formula", help='such as "dW[k] = dz[k] @ a[k-1].T" or "dL/dW_k = dL/dz_k a_{k-1}^T"')
    parser.add_argument(
        "--layout", choices=tuple(LAYOUTS), default="column", help="samples in columns (default) or rows"
    )
    parser.add_argument("--loss", choices=tuple(LOSSES), help="for formulas with y; otherwise all are tried")
    parser.add_argument("--reduction", choices=tuple(REDUCTIONS), help="of the loss over the batch")
    parser.add_argument("--activation", choices=tuple(ACTIVATIONS), help="the one f to judge by")
    parser.add_argument("--hint", choices=HINTS, default="fix", help="how much to give away")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        report = check_formula(arguments.formula, layout=arguments.layout, loss=arguments.loss,
                               reduction=arguments.reduction, activation=arguments.activation)  # fmt: skip
    except ValueError as error:
        print(json.dumps({"error": str(error)}) if arguments.json else f"error: {error}")
        return 2
    print(json.dumps(report.to_dict()) if arguments.json else report.text(arguments.hint))
    return {True: 0, False: 1, None: 3}[report.ok]
