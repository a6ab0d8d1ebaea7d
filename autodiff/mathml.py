r"""MathML Core from the LaTeX that this package writes: one reader, so that brackets and names are decided once.

It reads the LaTeX of names.py, of the rows of the table and of receipts: fractions, roots, scripts, accents, upright
text, brackets that grow, tables. A command that it does not know (a row of one's own may have any) is shown by its
name; what is not closed is closed at the end. The result is well-formed whatever came in, and nothing recurses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# fmt: off
LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "zeta": "ζ", "eta": "η", "theta": "θ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "upsilon": "υ", "phi": "ϕ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ",
    "Omega": "Ω", "partial": "∂", "infty": "∞", "ell": "ℓ", "nabla": "∇",
}
OPERATORS = {
    "cdot": "⋅", "times": "×", "div": "÷", "pm": "±", "bmod": "mod", "to": "→", "odot": "⊙", "le": "≤", "leq": "≤",
    "ge": "≥", "geq": "≥", "neq": "≠", "approx": "≈", "in": "∈", "cdots": "⋯", "ldots": "…", "dots": "…", "wedge": "∧",
    "sim": "∼", "backslash": "\\", "top": "⊤", "sum": "∑", "prod": "∏", "int": "∫", "lfloor": "⌊", "rfloor": "⌋",
    "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "mid": "|", "vert": "|", "lVert": "‖", "rVert": "‖",
    "Vert": "‖", "|": "‖", "{": "{", "}": "}", "%": "%", "#": "#", "&": "&", "$": "$", "_": "_", "circ": "∘",
}
# fmt: on
ACCENTS = {"hat": "^", "widehat": "^", "bar": "¯", "overline": "¯", "tilde": "~", "dot": "˙", "vec": "→"}
UPRIGHT = frozenset(("mathrm", "operatorname", "text", "mathbf", "mathit", "mathsf", "mathtt", "textrm", "mathcal"))
SPACES = {" ": "0.25em", ",": "0.17em", ";": "0.28em", ":": "0.22em", "quad": "1em", "qquad": "2em"}
TABLES = {"aligned": "", "align": "", "matrix": "", "array": "", "bmatrix": "[]", "pmatrix": "()", "cases": "{"}

TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|[0-9]+(?:\.[0-9]+)?|\s+|.", re.DOTALL)
TEXT_SIGNS = {"textbackslash": "\\", "backslash": "\\", "wedge": "^", "sim": "~", "to": "→", "ldots": "…"}

# An element is a tuple of strings and of elements, joined at the end; a script is kept open until no more can follow.
Element = tuple[Any, ...]


class Script:
    """A base with what stands above and below its line."""

    __slots__ = ("above", "base", "below")

    def __init__(self, base: Any, below: Any, above: Any) -> None:
        self.base, self.below, self.above = base, below, above


class Frame:
    """What has been read of something that is not closed yet, and what waits for an argument in it."""

    __slots__ = ("items", "kind", "left", "rows", "waiting")

    def __init__(self, kind: str, left: str = "") -> None:
        self.kind, self.left = kind, left
        self.items: list[Any] = []
        self.rows: list[list[Element]] = [[]]  # of a table: cells that are full
        self.waiting: list[tuple[str, int, list[Any]]] = []  # (what for, how many arguments, those that came)

    def put(self, item: Any) -> None:
        """Adds an element, or hands it to what waits for one."""
        while self.waiting:
            what, count, got = self.waiting[-1]
            got.append(item)
            if len(got) < count:
                return
            self.waiting.pop()
            item = _built(what, got)
        if isinstance(item, Script) and isinstance(item.base, Script):  # w^{(1)}_{21}: both on one base
            inner = item.base
            if (inner.below is None or item.below is None) and (inner.above is None or item.above is None):
                below = inner.below if item.below is None else item.below
                item = Script(inner.base, below, inner.above if item.above is None else item.above)
        self.items.append(item)

    def script(self, what: str) -> None:
        """A script follows: it takes what came before for its base."""
        self.finish()
        base = self.items.pop() if self.items else ROW_OF_NOTHING
        self.waiting.append((what, 2, [base]))

    def finish(self) -> None:
        """Gives what still waits for arguments empty ones."""
        while self.waiting:
            self.put(ROW_OF_NOTHING)

    def row(self) -> Element:
        """All that has been read as one element."""
        self.finish()
        items, self.items = [_closed(item) for item in self.items], []
        return items[0] if len(items) == 1 else ("<mrow>", *items, "</mrow>")


ROW_OF_NOTHING: Element = ("<mrow></mrow>",)


def mathml(latex: str) -> str:
    r"""LaTeX as a <math> element for a web page: well-formed XML without anything from outside.

    >>> print(mathml(r"-x_{1}"))
    <math display="block"><mrow><mo>−</mo><msub><mi>x</mi><mn>1</mn></msub></mrow></math>
    """
    tokens = TOKEN.findall(latex)
    frames = [Frame("")]
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        top = frames[-1]
        if token.isspace():
            continue
        if token == "{":
            frames.append(Frame("{"))
        elif token == "}":
            if top.kind == "{":
                _close(frames)
        elif token in ("^", "_"):
            top.script(token)
        elif token == "'":
            primes = 1
            while at < len(tokens) and tokens[at] == "'":
                primes, at = primes + 1, at + 1
            top.script("^")
            top.put(_tagged("mo", "′" * primes))
        elif token == "&" and top.kind in TABLES:
            top.rows[-1].append(top.row())
        elif token == "\\\\" and top.kind in TABLES:
            top.rows[-1].append(top.row())
            top.rows.append([])
        elif token.startswith("\\") and len(token) > 1:
            at = _command(token[1:].rstrip("*") or "*", tokens, at, frames)
        elif token == "]" and top.kind == "root":
            index = top.row()
            frames.pop()
            frames[-1].waiting.append(("root", 2, [index]))
        elif token in "+-" and top.items and _is_operator(top.items[-1]):  # a sign, not a sum: it stands close
            top.put(('<mo form="prefix">', "−" if token == "-" else token, "</mo>"))
        else:
            top.put(_sign(token))
    while len(frames) > 1:
        _close(frames)
    return "".join(_flat(('<math display="block">', frames[0].row(), "</math>")))


def _command(name: str, tokens: Sequence[str], at: int, frames: list[Frame]) -> int:
    """Carries out a command; the place in tokens where reading goes on."""
    top = frames[-1]
    following = tokens[at] if at < len(tokens) else ""
    if name in ("left", "right"):
        sign = OPERATORS.get(following[1:], following[1:]) if following.startswith("\\") else following
        sign = "" if sign == "." else sign
        if name == "left":
            frames.append(Frame("left", sign))
        elif top.kind == "left":
            _close(frames, sign)
        return at + 1
    if name == "begin" or name == "end":
        kind, at = _raw(tokens, at)
        if name == "begin":
            frames.append(Frame(kind if kind in TABLES else "aligned"))
            if kind == "array":
                _, at = _raw(tokens, at)
        elif top.kind in TABLES:
            _close(frames)
        return at
    if name in UPRIGHT:
        text, at = _raw(tokens, at)
        top.put(_upright(_plain(text), name == "text"))
    elif name == "frac":
        top.waiting.append(("frac", 2, []))
    elif name == "sqrt" and following == "[":
        frames.append(Frame("root"))
        return at + 1
    elif name == "sqrt":
        top.waiting.append(("sqrt", 1, []))
    elif name in ACCENTS:
        top.waiting.append((name, 1, []))
    elif name in SPACES:
        top.put((f'<mspace width="{SPACES[name]}"/>',))
    elif name in LETTERS:
        top.put(_tagged("mi", LETTERS[name]))
    elif name in OPERATORS:
        top.put(_tagged("mo", OPERATORS[name]))
    elif name.isalpha():  # \tanh, \max, and what is not known
        top.put(_upright(name, False))
    elif name != "!":  # a negative space
        top.put(_sign(name))
    return at


def _close(frames: list[Frame], right: str = "") -> None:
    """Closes the innermost frame and puts it into the one around it."""
    frame = frames.pop()
    if frame.kind in TABLES:
        if frame.items or frame.waiting or frame.rows[-1]:
            frame.rows[-1].append(frame.row())
        element = _table(frame)
    elif frame.kind == "left":
        element = ("<mrow>", _fence(frame.left, "prefix"), frame.row(), _fence(right, "postfix"), "</mrow>")
    else:
        element = frame.row()
    frames[-1].put(element)


# Chromium sets a cell by justify-items, Firefox and Safari by text-align
LEFT, RIGHT = "text-align: left; justify-items: start", "text-align: right; justify-items: end"


def _table(frame: Frame) -> Element:
    aligned = frame.kind in ("aligned", "align")
    style = ' displaystyle="true"' if aligned else ""
    rows: list[Any] = [f"<mtable{style}>"]
    for cells in frame.rows:
        rows.append("<mtr>")
        for number, cell in enumerate(cells):
            side = LEFT if aligned and number % 2 else RIGHT
            rows += [f'<mtd style="{side}; padding: 0.3em {0 if aligned else 0.4}em">', cell, "</mtd>"]
        rows.append("</mtr>")
    table = (*rows, "</mtable>")
    brackets = TABLES[frame.kind]
    if not brackets:
        return table
    return ("<mrow>", _fence(brackets[0], "prefix"), table, _fence(brackets[1:], "postfix"), "</mrow>")


def _fence(sign: str, form: str) -> Element:
    """A bracket that grows with what it holds; | needs to be told on which side it stands."""
    return (f'<mo form="{form}" stretchy="true" symmetric="true">', xml(sign), "</mo>") if sign else ()


def _built(what: str, got: list[Any]) -> Any:
    """The element that was waiting for these arguments."""
    if what in ("^", "_"):
        base, script = got
        return Script(base, _closed(script) if what == "_" else None, _closed(script) if what == "^" else None)
    parts = [_closed(item) for item in got]
    if what == "frac":
        return ("<mfrac>", *parts, "</mfrac>")
    if what == "sqrt":
        return ("<msqrt>", *parts, "</msqrt>")
    if what == "root":  # MathML names the base first
        return ("<mroot>", parts[1], parts[0], "</mroot>")
    return ('<mover accent="true">', parts[0], _tagged("mo", ACCENTS[what]), "</mover>")


def _closed(item: Any) -> Element:
    """A script as an element; every other element as it is."""
    scripts = []
    while isinstance(item, Script):
        scripts.append(item)
        item = item.base
    for script in reversed(scripts):
        parts = [part for part in (script.below, script.above) if part is not None]
        tag = "msubsup" if len(parts) == 2 else "msub" if script.above is None else "msup"
        item = (f"<{tag}>", item, *parts, f"</{tag}>")
    return item  # type: ignore[no-any-return]


def _sign(token: str) -> Element:
    """A letter, a number or a sign."""
    if token[0] in "0123456789":
        return _tagged("mn", token)
    if token.isalpha():
        return _tagged("mi", token)
    if token in "()[]":  # written out, brackets keep their size
        return ('<mo stretchy="false">', token, "</mo>")
    return _tagged("mo", {"-": "−", "*": "∗"}.get(token, token))


def _is_operator(item: Any) -> bool:
    """Whether an operand must follow: after +, = or an opening bracket, not after a closing one."""
    return isinstance(item, tuple) and str(item[0]).startswith("<mo") and item[1] not in (")", "]")


def _upright(text: str, is_text: bool) -> Element:
    """A word: upright, as MathML sets an identifier of several letters."""
    if is_text or not text.strip():
        return _tagged("mtext", re.sub("^ | $", "\N{NO-BREAK SPACE}", text))
    return ('<mi mathvariant="normal">', xml(text), "</mi>") if len(text) == 1 else _tagged("mi", text)


def _tagged(tag: str, text: str) -> Element:
    return (f"<{tag}>", xml(text), f"</{tag}>")


def _raw(tokens: Sequence[str], at: int) -> tuple[str, int]:
    """(what stands in the braces that open at this token, as it is; the place behind them)."""
    while at < len(tokens) and tokens[at].isspace():
        at += 1
    if at < len(tokens) and tokens[at] != "{":
        return tokens[at], at + 1
    depth, start = 0, at + 1
    while at < len(tokens):
        depth += (tokens[at] == "{") - (tokens[at] == "}")
        at += 1
        if not depth:
            return "".join(tokens[start : at - 1]), at
    return "".join(tokens[start:]), at


def _plain(text: str) -> str:
    r"""Upright LaTeX as plain text: a\_b as a_b.

    >>> print(_plain(r"a\_b{\wedge}2\%"))
    a_b^2%
    """
    tokens = (token for token in TOKEN.findall(text) if token not in ("{", "}"))
    return "".join(
        TEXT_SIGNS.get(token[1:], token[1:]) if token.startswith("\\") and len(token) > 1 else token for token in tokens
    )


FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(text: str) -> str:
    """text as XML: what would be markup escaped, what XML forbids as �.

    >>> xml('<a & "b">\\x00')
    '&lt;a &amp; &quot;b&quot;&gt;�'
    """
    text = FORBIDDEN.sub("�", text).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace(">", "&gt;").replace('"', "&quot;")


def _flat(element: Element) -> list[str]:
    found: list[str] = []
    rest: list[Any] = [element]
    while rest:
        piece = rest.pop()
        if isinstance(piece, str):
            found.append(piece)
        else:
            rest.extend(reversed(piece))
    return found
