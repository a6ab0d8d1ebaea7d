r"""A formula read: recursive descent from the tokens to the tree, and the notation it is written in.

    formula   = name "=" sum { "=" sum }
    sum       = pair { ("+" | "-") pair }
    pair      = product { ("o" | "#" | "\\odot") product }             elementwise
    product   = chain { ("@" | "\\cdot" | "*" | "\\otimes") chain | "/" power { power } }
                                                                       "*" elementwise, "@" the matrix product
    chain     = signed { power }                                       side by side: the matrix product
    signed    = "-" signed | "\\sum_i" chain { "*" chain } | power
    power     = primary { ".T" | "^T" | ".dot(" sum ")" | ... } [ ("**" | "^") number ]
    primary   = number | size | name | function "(" sums ")" | "(" sum ")" | "\\frac{" sum "}{" sum "}"
    name      = quantity { "[k-1]" | "_k" | "_{k-1}" | "^l" | "^{(l)}" | "^{[l]}" | "3" | "_{ij}" }

Which names, sizes and functions there are stands in `words`; what LaTeX becomes, too. A name without a layer is
that of the layer in question. Letters of units (w_{ij}) make an index formula, which is about one sample.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nn.audit.formulas.indices import Indices
from nn.audit.formulas.layers import settled
from nn.audit.formulas.text import Style, style_of
from nn.audit.formulas.tree import BESIDE, DATA, GRADIENTS, VALUES, Node, is_scalar, layer_of, name, walk
from nn.audit.formulas.words import EPSILON, LOSS, Meaning, gradient_of, word_meaning

# How many arguments, and the node that it becomes; "" keeps the first argument
FUNCTIONS: dict[str, tuple[int, str]] = {
    "transpose": (1, "transpose"), "outer": (2, "outer"), "sum": (1, "sum"), "mean": (1, "mean"), "diag": (1, "diag"),
    "dot": (2, "matmul"), "matmul": (2, "matmul"), "mm": (2, "matmul"), "multiply": (2, "times"), "mul": (2, "times"),
    "divide": (2, "div"), "add": (2, "add"), "subtract": (2, "sub"), "negative": (1, "neg"), "power": (2, "pow"),
    "square": (1, "pow"), "where": (3, "where"), "len": (1, "extent"), "ones": (1, "ones"), "clip": (1, ""),
    "exp": (1, "call"), "log": (1, "call"), "sqrt": (1, "call"), "abs": (1, "call"),
    "cosh": (1, "call"), "sinh": (1, "call"), "sign": (1, "call"), "maximum": (2, "maximum"), "max": (2, "maximum"),
}  # fmt: skip
# Words that stand for signs of the text
SIGNS = {"delta": ("\\delta", "δ"), "Theta": ("\\Theta", "Θ"), "yhat": ("\\hat{y}", "ŷ", "y_hat", "\\hat y"),
         "sigma": ("\\sigma", "σ"), "phi": ("\\varphi", "\\phi", "φ")}  # fmt: skip
KNOWN = "one of dz da dW db z a W b x y yhat n m, or transpose outer sum mean diag f f'"


@dataclass(frozen=True)
class Formula:
    """A formula as it was read. rights: what stands behind each "=". samples_mean: the notation in which dZ is the
    gradient of the sum over the m samples, and the 1/m of a mean enters at dW and db."""

    text: str
    left: Node
    rights: tuple[Node, ...]
    style: Style
    samples_mean: bool = False

    @property
    def indexed(self) -> bool:
        """Whether it is about single units: w_{ij}."""
        return any(node.units for tree in (self.left, *self.rights) for node in walk(tree))


def read(text: str) -> Formula:
    """The formula that a text is; FormulaError with the place where it is none."""
    return _Reader(text).formula()


class _Reader(Indices):
    """Recursive descent over the tokens.

    capital: A, Z, X are used, as where m counts the samples; affine: a layer is an affine map alone, from x to out.
    """

    capital = affine = False

    # ------------------------------------------------------------ the whole
    def formula(self) -> Formula:
        if len(self.tokens) == 1:
            self.fail("a formula such as dW[k] = dz[k] @ a[k-1].T")
        start = self.at
        left = self.power()
        if left.kind != "name":
            self.fail("a quantity on the left, such as dW[k] or dL/dz_k", start)
        self.need("=", "'=' after the quantity")
        rights = [self.sum()]
        while self.accept("="):
            rights.append(self.sum())
        if self.kind != "end":
            self.fail("an operator or the end")
        trees, bare = settled([left, *rights], self.capital, self.affine)
        if bare is not None:
            self.mark("bare", bare)
        if self.capital and "n" not in (token.text for token in self.tokens):
            self.mark("samples", "m")
        style = style_of(self.text, self.plain, self.seen, self.marks)
        samples_mean = self.seen.get("dz", ("", ""))[1].lstrip("d").startswith("Z")
        return Formula(self.text, trees[0], tuple(trees[1:]), style, samples_mean)

    # ------------------------------------------------------------ operators
    def sum(self) -> Node:
        node = self.pair()
        while sign := self.accept("+", "-", ">", "<"):
            kind = {"+": "add", "-": "sub", ">": "greater", "<": "less"}[sign]
            node = Node(kind, (node, self.pair() if sign in "+-" else self.sum()))
        return node

    def pair(self) -> Node:
        node = self.product()
        while self.word in ("#", "o") and self.kind != "end":
            self.mark("times", self.source() if self.word == "#" else "o")
            self.take()
            node = Node("times", (node, self.product()))
        return node

    def source(self) -> str:
        """The sign as it stands in the text."""
        sign = self.text[self.tokens[self.at].at :]
        found = re.match(r"\\[a-z]+|.\*?", sign)
        return found[0] if found and found[0] != ".*" else "*"

    def product(self) -> Node:
        node = self.chain()
        while sign := self.accept("*", "@", "·", "/", "⊗"):
            if sign == "/":  # 1/n dz is (1/n) dz
                node = self.beside(Node("div", (node, self.power())))
                continue
            if sign == "⊗":
                node = Node("outer", (node, self.chain()))
                continue
            node = multiplied(node, self.chain(), sign)
            if node.kind == "matmul":
                self.mark("matmul", "@" if sign == "@" else "\\cdot")
            elif not any(map(is_scalar, node.parts)):
                self.mark("times", "*")
        return node

    def chain(self) -> Node:
        return self.beside(self.signed())

    def beside(self, node: Node) -> Node:
        """node times all that stands beside it without a sign."""
        while (self.kind in ("number", "word") and self.word != "o") or (
            self.kind == "sign" and self.word in ("(", "{", "÷")
        ):
            factor = self.over() if self.word == "Σ" else self.power()
            node = multiplied(node, factor, "·")
            if node.kind == "matmul":
                self.mark("matmul", "")
        return node

    def signed(self) -> Node:
        if self.kind == "word" and self.word == "Σ":
            return self.over()
        if not self.accept("-"):
            return self.power()
        self.deeper()
        node = Node("neg", (self.signed(),))
        self.depth -= 1
        return node

    def over(self) -> Node:
        r"""\sum_{i=1}^{n} and all factors behind it."""
        self.need("Σ")
        letter = "i"
        if self.accept("_"):
            braced = self.accept("{")
            if self.kind != "word":
                self.fail("what the sum runs over, such as i")
            letter = self.take()
            while braced and not self.accept("}"):
                if self.kind == "end":
                    self.fail("'}'")
                self.take()
        if self.accept("^"):
            if self.accept("{"):
                while not self.accept("}"):
                    if self.kind == "end":
                        self.fail("'}'")
                    inside = self.take()
                    if inside == "{":
                        self.fail("a bound without braces", self.at - 1)
                    if inside == "_" and self.accept("{"):
                        while not self.accept("}"):
                            if self.kind == "end":
                                self.fail("'}'")
                            self.take()
            else:
                self.take()
        self.deeper()
        node = self.chain()
        while sign := self.accept("*", "·", "#"):
            node = multiplied(node, self.chain(), sign.replace("#", "*"))
        self.depth -= 1
        return Node("over", (node,), letter)

    def power(self) -> Node:
        node = self.primary()
        while True:
            if self.word in (".T", "^T") and self.kind != "end":
                self.mark("transpose", ".T" if self.word == ".T" else self.transpose_sign())
                self.take()
                node = self.placed(Node("transpose", (node,)))
            elif self.kind == "sign" and self.word == "." and self.ahead().kind == "word":
                self.take()
                node = self.method(node)
            elif self.accept("**", "^"):
                brace = self.accept("{", "(")
                negative = self.accept("-")
                if self.kind != "number":
                    self.fail("a number as the exponent, or T")
                exponent = float(self.take()) * (-1 if negative else 1)
                if brace:
                    self.need("}" if brace == "{" else ")")
                node = Node("pow", (node,), exponent)
            else:
                return node

    def transpose_sign(self) -> str:
        sign = self.text[self.tokens[self.at].at :]
        found = re.match(r"ᵀ|\^\s*\{?\s*\\?[A-Za-z]+\s*\}?", sign)
        return found[0].replace(" ", "") if found else "^T"

    def placed(self, node: Node) -> Node:
        """W^T_k: the layer may stand behind the T."""
        inside = node.parts[0]
        if inside.kind == "name" and inside.base == "?" and self.word == "_" and self.kind == "sign":
            return Node("transpose", (self.with_index(inside),))
        return node

    def method(self, node: Node) -> Node:
        """x.dot(y), x.sum(axis=0), W.grad, y.shape[0], y.size: what stands behind the point."""
        start, word = self.at, self.take()
        if word == "grad" and node.kind == "name" and node.value in VALUES:
            self.seen.setdefault(f"d{node.value}", ("{}.grad", self.seen.get(node.value, ("", node.value))[1]))
            return replace(node, value=f"d{node.value}")
        if word == "size":
            return Node("times", (Node("extent", (node,), 0), Node("extent", (node,), 1)))
        if word == "shape":
            self.need("[")
            if self.word not in ("0", "1"):
                self.fail("the axis 0 or 1")
            axis = int(self.take())
            self.need("]")
            return Node("extent", (node,), axis)
        if word not in FUNCTIONS or word in ("len", "ones", "where"):
            self.fail("dot, sum, mean, T, grad, shape or size behind the point", start)
        return self.function(word, start, node)

    # ------------------------------------------------------------ what stands alone
    def primary(self) -> Node:
        start = self.at
        if self.kind == "number":
            return Node("number", (), float(self.take()))
        if opened := self.accept("(", "{"):
            self.deeper()
            node = self.sum()
            self.depth -= 1
            self.need(")" if opened == "(" else "}", "')' or an operator" if opened == "(" else "'}' or an operator")
            if opened == "{" and node.kind == "name" and node.base == "?":
                return self.with_index(node)
            return node
        if self.accept("÷"):
            return self.fraction()
        if self.kind != "word":
            self.fail("a name, a number or '('")
        word = self.take()
        if word in EPSILON:
            return Node("number", (), 2.0**-52)
        if word == "nabla":
            return self.nabla()
        if word in FUNCTIONS:
            return self.function(word, start)
        if word == "einsum":
            self.fail("the product written out, such as dz[k] @ a[k-1].T", start)
        meaning = word_meaning(word)
        if meaning is None:
            self.fail(KNOWN, start)
        if meaning.kind == "size":
            if meaning.value == "n":
                self.mark("samples", word)
            return Node("size", (), meaning.value, "L" if word == "n_L" else "k")
        if meaning.kind in ("f", "named"):
            return self.activation(meaning, word)
        if meaning.kind == "loss":
            self.need("/", "'/' and what the loss is derived by, such as dL/dW_k")
            return self.by(f"over {word.removeprefix('d')}")
        seen = dict(self.seen)
        node = self.quantity(meaning, word, start)
        if node.value in GRADIENTS and self.word == "/" and self.ahead().kind == "word":
            below = word_meaning(self.ahead().text)
            if below and below.kind == "name" and below.value in GRADIENTS and word[0] == "d" and word != "delta":
                self.take()
                node = self.slope(node, self.primary())
                self.seen = seen  # dz_k/da_{k-1} is no way to write dL/dz_k
        return node

    def by(self, template: str) -> Node:
        """The gradient behind dL/."""
        start = self.at
        if self.kind != "word":
            self.fail("what the loss is derived by, such as dW_k")
        word = self.take()
        meaning = word_meaning(word)
        if meaning is None or meaning.kind != "name" or meaning.value not in GRADIENTS or word == "delta":
            self.fail("what the loss is derived by, such as dW_k", start)
        return self.quantity(meaning, word, start, template)

    def fraction(self) -> Node:
        r"""\frac{}{}: a gradient where the loss stands above."""
        start = self.at
        self.need("{")
        above = word_meaning(self.word) if self.kind == "word" else None
        if above and above.kind == "loss" and self.ahead().text == "}":
            word = self.take()
            self.need("}")
            self.need("{")
            node = self.by(f"frac {word.removeprefix('d')}")
            self.need("}")
            return node
        self.deeper()
        seen = dict(self.seen)
        top = self.sum()
        self.need("}", "'}' or an operator")
        self.need("{")
        bottom = self.sum()
        self.depth -= 1
        self.need("}", "'}' or an operator")
        gradients = all(node.kind == "name" and node.value in GRADIENTS for node in (top, bottom))
        if gradients:
            self.seen = seen
        return self.slope(top, bottom, start) if gradients else Node("div", (top, bottom))

    def nabla(self) -> Node:
        r"""\nabla_W L, \nabla_{W_k} L, \nabla W."""
        below = self.accept("_")
        braced = below and self.accept("{")
        start = self.at
        word = self.take() if self.kind == "word" else ""
        inside = word_meaning(word) if word else None
        meaning = gradient_of(inside) if inside and inside.kind == "name" else None
        if meaning is None:
            self.fail("what the gradient is taken by, such as W_k", start)
        node = self.quantity(meaning, word, start, "nabla" if below else "")
        if braced:
            self.need("}")
        if below and self.word in LOSS:
            self.take()
        return node

    def quantity(self, meaning: Meaning, word: str, start: int, template: str = "") -> Node:
        """The name, with the index that stands behind it, its spelling remembered."""
        self.capital |= word.lstrip("d")[:1] in ("A", "Z", "X", "Y")
        self.affine |= word in ("dout", "grad_output")
        key = "dyhat" if meaning.base == "L" and meaning.value == "da" and "yhat" in word else meaning.value
        written, how = word.removesuffix("_prev").removesuffix("prev"), template or "{}"
        if meaning.base in ("L", "k") and word[-1] in "Lkl" and word[:-1] not in ("", "d"):
            written = written[:-1] if len(written) > 1 and key != "dyhat" else written
        if how == "nabla":
            how = "\\nabla_{{{}}} L" if "\\" in self.text else "∇_{}"
        elif template:
            written = written.removeprefix("d")
        elsewhere = meaning.base in ("", "?") and meaning.shift and not word.endswith("prev")  # input, hidden
        if meaning.value in GRADIENTS + VALUES + DATA and not elsewhere and word not in ("dx", "dX"):
            self.seen.setdefault(key, (how, self.as_written(written)))
        return self.with_index(name(meaning.value, meaning.base, meaning.shift))

    def as_written(self, word: str) -> str:
        """A word of the plain alphabet as the text has it: delta for \\delta or δ."""
        return next((sign for sign in SIGNS.get(word, ()) if sign in self.text), word)

    def activation(self, meaning: Meaning, word: str) -> Node:
        """f(z), f_k'(z), sigmoid'(z)."""
        where, prime = name("f", "?"), meaning.prime
        while True:
            if self.accept("'"):
                prime = True
            elif self.word in ("_", "[", "^") or (self.kind == "number" and where.base == "?"):
                start = self.at
                where = self.with_index(where, once=True)
                if self.at == start:
                    break  # no layer: what follows is no index
                self.mark("f_index", True)
                prime |= self.flagged
            else:
                break
        if meaning.kind == "f":
            written = self.as_written(word.removesuffix("_prime").removesuffix("_derivative"))
            self.mark("f", written.removeprefix("d") if meaning.prime else written)
            if meaning.prime and word.endswith("_prime"):
                self.mark("prime", "_prime")
            self.marks.setdefault("f_index", False)
        self.need("(", f"'(' after {word}{chr(39) if prime and not meaning.prime else ''}")
        self.deeper()
        inside = self.sum()
        self.depth -= 1
        self.need(")", "',' or ')'")
        if meaning.kind == "named":
            return Node("call", (inside,), meaning.value + ("'" if prime else ""))
        if where.base == "?":
            base, shift = layer_of(inside, ("?", 0))
            where = replace(where, base=base, shift=shift)
        return Node("f'" if prime else "f", (inside,), None, where.base, where.shift)

    def function(self, word: str, start: int, first: Node | None = None) -> Node:
        count, kind = FUNCTIONS[word]
        self.need("(", f"'(' after {word}")
        self.deeper()
        parts = [] if first is None else [first]
        axis: str | None = None
        while not (first is not None and self.word == ")"):
            if kind in ("sum", "mean") and parts:
                found = self.option()
                axis = found if found is not None else axis
            elif kind == "ones" and self.word == "(":
                self.take()
                parts.append(self.sum())
                self.need(",")
                self.need("1")
                self.need(")")
            else:
                parts.append(self.sum())
            if not self.accept(","):
                break
        self.depth -= 1
        self.need(")", "',' or ')'")
        if word == "square":
            parts.append(Node("number", (), 2.0))
            count = 2
        if kind == "":
            return parts[0]  # the numbers of the networks lie inside of any sensible bounds
        if kind == "ones" and len(parts) == 2 and parts[1] == Node("number", (), 1.0):
            parts.pop()
        if len(parts) != count:
            self.fail(f"{count} argument{'s' * (count > 1)} for {word}", start)
        if kind == "pow":
            if parts[1].kind != "number":
                self.fail("a number as the exponent", start)
            return Node("pow", (parts[0],), parts[1].value)
        if kind == "extent":
            return Node("extent", tuple(parts), 0)
        if kind == "matmul":
            self.mark("matmul", "np.dot" if word == "dot" and first is None else "@")
        if kind == "times" and not any(map(is_scalar, parts)):
            self.mark("times", "np.multiply")
        return Node(kind, tuple(parts), word if kind == "call" else axis)

    def option(self) -> str | None:
        """Which axis a sum runs over; None for keepdims, which makes no difference here."""
        if word := self.accept("keepdims", "keepdim"):
            self.need("=")
            if not self.accept("True", "False"):
                self.fail("True or False")
            self.mark("keepdims", f", {word}=True")
            return None
        if word := self.accept("axis", "dim"):
            self.need("=")
            self.mark("axis", f"{word}=")
        if self.word in ("0", "1"):
            self.mark("axis", "")
            self.mark("module", next((module for module in ("np.", "torch.") if f"{module}sum" in self.text), ""))
        if found := self.accept("samples", "units", "0", "1"):
            return "axis=" + found if found in "01" else found
        if self.word == "-" and self.ahead().text == "1":
            self.at += 2
            return "axis=1"
        self.fail("samples, units, axis=0 or axis=1")

    def slope(self, above: Node, below: Node, at: int | None = None) -> Node:
        """d above / d below for two quantities of the network."""
        if below.kind != "name" or below.value not in GRADIENTS:
            self.fail("a quantity under the derivative", self.at - 1)
        if above.value not in ("dz", "da"):
            self.fail("the derivative of z, a or yhat", at)
        return Node("slope", tuple(replace(node, value=node.value[1:]) for node in (above, below)))


def multiplied(left: Node, right: Node, sign: str) -> Node:
    """The product that a sign means: "*" elementwise, "@" of matrices, "·" whichever fits."""
    scalar = is_scalar(left) or is_scalar(right)
    if sign == "*" or (sign == "·" and scalar):
        return Node("times", (left, right))
    return Node("matmul", (left, right), BESIDE if sign == "·" else None)
