r"""Walking along the tokens of a formula, and what stands behind a name: its layer and the letters of its units.

index = "[k-1]" | "_k" | "_{k-1}" | "^l" | "^{(l)}" | "^{[l]}" | "3" | "_{ij}" | "^{(l)}_{ij}" | "_{2j}"
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NoReturn

from nn.audit.formulas.tree import DATA, UNITS, Node
from nn.audit.formulas.words import FormulaError, Token, tokens

DEEPEST = 40  # parentheses inside each other
LAYER = "a layer: k, k-1, k+1, L or a number"


class Indices:
    """The tokens from `at` on. seen, marks: how the writer spells the quantities and everything else, for Style.

    above: whether a number above a name is its layer. A base of the grammar's reader.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain, self.tokens = tokens(text)
        self.at = self.depth = 0
        self.seen: dict[str, tuple[str, str]] = {}
        self.marks: dict[str, Any] = {}
        self.above = bool(
            re.match(r"\s*(?:÷\{\s*d\w+\s*\}\{|d\w+\s*/)?\s*[A-Za-z]+\s*\^", self.plain)
        )  # a^2 is a layer

    @property
    def kind(self) -> str:
        return self.tokens[self.at].kind

    @property
    def word(self) -> str:
        return self.tokens[self.at].text

    def ahead(self, count: int = 1) -> Token:
        return self.tokens[min(self.at + count, len(self.tokens) - 1)]

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        token = self.tokens[self.at if at is None else at]
        raise FormulaError(self.text, token.at, expected, "the end" if token.kind == "end" else repr(token.text))

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1].text

    def accept(self, *words: str) -> str:
        return self.take() if self.kind != "end" and self.word in words else ""

    def need(self, word: str, expected: str = "") -> None:
        if not self.accept(word):
            self.fail(expected or repr(word))

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"at most {DEEPEST} parentheses and signs inside each other", self.at - 1)

    def mark(self, what: str, how: Any) -> None:
        self.marks.setdefault(what, how)

    # ------------------------------------------------------------ indices
    flagged = False  # whether the last index held a T or a prime

    def with_index(self, node: Node, once: bool = False) -> Node:
        """The name with the layer and the units that stand behind it."""
        before = self.tokens[self.at - 1]
        if self.kind == "number" and before.kind == "word" and self.tokens[self.at].start == before.end:
            self.mark("index", "{}")
            node = replace(node, base="", shift=self.whole())
        flag = self.flagged = False
        below: list[tuple[str, int] | str] = []
        above: list[tuple[str, int] | str] = []
        sample = False
        while self.kind == "sign" and self.word in ("[", "_", "^"):
            if self.word == "^" and above:
                break  # the layer is known: an exponent
            opened = self.take()
            if opened == "[":
                self.mark("index", "[{}]")
                above.append(self.layer(simple=False))
                self.need("]")
            elif opened == "_":
                braced = self.accept("{")
                below += self.subscript(bool(braced))
                if braced:
                    self.need("}")
            else:
                found = self.superscript(node)
                if found is None:
                    self.at -= 1
                    break
                layers, flag, marked = found
                above += layers
                sample |= marked
                self.flagged |= flag
            if once or flag:
                break
        # one letter alone below is the layer, unless that stands above
        units = "".join(item for item in below if isinstance(item, str))
        layer = next((item for item in [*above, *below] if not isinstance(item, str)), None)
        if layer is None and len(units) == 1 and node.value not in DATA and units in "kl" and node.base == "?":
            layer, units = ("k", 0), ""
            self.mark("letter", self.tokens[self.at - 1].text if self.tokens[self.at - 1].text in "kl" else "l")
        if not above and layer is not None and self.marks.get("index") is None:
            self.mark("index", "_{}")
        if node.value == "x" and layer == ("", 0):
            layer = None
        if layer is not None:
            node = replace(node, base=layer[0], shift=layer[1])
        node = replace(node, units=units)
        return Node("transpose", (node,)) if flag and node.value != "f" else node

    def subscript(self, braced: bool) -> list[tuple[str, int] | str]:
        """What stands below: a layer, letters of units, or both: 2j."""
        found: list[tuple[str, int] | str] = []
        if self.kind == "number":
            found.append(("", self.whole()))
        while (braced and self.kind == "word") or (not braced and not found and self.kind == "word"):
            word = self.word
            nearby = self.ahead().text
            if (word in ("k", "l", "L", "i", "j") and braced and nearby in "+-" and nearby) or word == "L":
                found.append(self.layer(simple=not braced))
            elif all(letter in UNITS for letter in word) and (braced or len(word) <= 2):
                self.take()
                found.append(word)
            else:
                break
            if not (braced and self.accept(",")):
                break
        if not found:
            self.fail(LAYER)
        return found

    def superscript(self, node: Node) -> tuple[list[tuple[str, int] | str], bool, bool] | None:
        """(layers, whether a T or a prime is in it, whether it is the number of a sample); None for an exponent."""
        start = self.at
        braced = self.accept("{")
        opened = self.accept("(", "[")
        if not opened and self.kind == "number" and not (self.above and node.base == "?" and node.value != "f"):
            self.at = start
            return None
        if self.kind == "sign" and self.word == "-":
            self.at = start
            return None
        flag = False
        if opened == "(" and self.word in ("i", "j") and self.ahead().text == ")":
            self.at += 2
            layers: list[tuple[str, int] | str] = []
            sample = True
        else:
            layers, sample = [self.layer(simple=not braced and not opened)], False
            if opened:
                self.need(")" if opened == "(" else "]")
            if braced and self.accept("("):  # ^{[l](i)}: of one sample
                self.take()
                self.need(")")
            self.mark("index", "^{{({})}}" if opened == "(" else "^{{[{}]}}" if opened else "^{}")
            self.above = True
        if braced:
            flag = bool(self.accept("T", "'", "^T") or (self.accept("^") and self.accept("T")))
            if flag and self.tokens[self.at - 1].text != "'":
                self.mark("transpose", "^T")
            self.accept(",")
            self.need("}")
        return layers, flag, sample

    def layer(self, simple: bool) -> tuple[str, int]:
        """(base, shift) of k-1, L, 3, or -1 for the last."""
        if self.kind == "number":
            return "", self.whole()
        if self.accept("-"):
            return "L", 1 - self.whole()
        word = self.word if self.kind == "word" else ""
        if word not in ("k", "l", "L", "i", "j"):
            self.fail(LAYER)
        base = "L" if self.take() == "L" else "k"
        if base == "k":
            self.mark("letter", word)
        sign = "" if simple else self.accept("+", "-")
        return base, (self.whole() if sign == "+" else -self.whole() if sign else 0)

    def whole(self) -> int:
        if not self.word.isdigit():
            self.fail("a whole number" if self.kind == "number" else "a number")
        return int(self.take())
