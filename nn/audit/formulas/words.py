r"""The words of a formula: what signs, LaTeX commands and names stand for, and the tokens they are cut into.

SPELLINGS rewrites signs and LaTeX into one plain alphabet; `word_meaning` knows the names that people give to the
quantities: W, w, Theta, weight; A, h; delta; dL/dW, dLdW, grad_W, W.grad; a_prev; AL. A word that is not in these
tables is unknown to the grammar: a new spelling is a row here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nn.by_hand import ACTIVATIONS


class FormulaError(ValueError):
    """A formula that the grammar does not know: .position in the text, and what was expected there."""

    def __init__(self, text: str, position: int, expected: str, found: str) -> None:
        self.position, self.expected = position, expected
        super().__init__(f"position {position + 1}: expected {expected}, found {found}\n  {text}\n  {' ' * position}^")


# ---------------------------------------------------------------- signs
FONTS = "mathbf|boldsymbol|bm|mathrm|vec|mathit|operatorname|mathcal|mathsf|text|mathbb"
INDICES = dict(zip("₀₁₂₃₄₅₆₇₈₉ₖₗ", "0123456789kl", strict=True))
# What stands on the left is read as what stands on the right; "\1" keeps what is inside.
SPELLINGS: tuple[tuple[str, str], ...] = (
    (r"(?:&|\\q?quad)\s*(?:\\text\s*\{[^{}]*\}\s*)?[ijkl]\s*&?\s*=.*$", ""),  # for i = 1, ..., n_k
    (r"\\(?:begin|end)\s*\{[^{}]*\}|\$", ""),
    (r"\\\\\s*$|[\s;,.]+$", ""),
    (r"\\(?:left|right|displaystyle|[bB]igg?[lr]?|q?quad)(?![A-Za-z])|\\[,;!: ]|&", ""),
    (rf"\\(?:wide)?hat\s*\{{\s*(?:\\(?:{FONTS})\s*(?:\{{\s*y\s*\}}|y)|[yY])\s*\}}", " yhat"),
    (r"\\hat\s*[yY]|ŷ|[yY]_hat(?![A-Za-z])", " yhat"),
    (rf"\\(?:{FONTS})\s*\{{\s*\\hat\s*\{{?\s*[yY]\s*\}}?\s*\}}", " yhat"),
    (r"\\(?:top|intercal)(?![A-Za-z])|⊤|\\mathsf\s*\{\s*T\s*\}", "T"),
    (rf"\\(?:{FONTS})\s*\{{([^{{}}]*)\}}", r" \1"),
    (rf"\\(?:{FONTS})(?![A-Za-z])", ""),
    (r"\b(?:self|np|numpy|jnp|torch|math|F)\.(?=[A-Za-z])", ""),
    # the same numbers
    (r"\.(?:astype\([\w.]*\)|(?:copy|clone|detach|float)\(\))|\b(?:int|float)(?:32|64)?(?=\s*\()", ""),
    (r"\be\s*\^\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"exp(\1)"),
    (r"\\partial\s*|∂", "d"),
    (r"\\[dt]?frac(?![A-Za-z])", "÷"),
    (r"\\(delta|sigma|varphi|phi|psi|theta|Theta|ell|epsilon|varepsilon|log|exp|tanh)(?![A-Za-z])", r" \1 "),
    (r"\\nabla|∇|(?<![.\w])grad(?=\s+[A-Za-z])", " nabla "),
    ("δ", " delta "), ("σ", " sigma "), ("[φϕ]", " phi "), ("Θ", " Theta "), ("ℓ", " ell "),
    (r"\\sum(?:\\limits)?|∑|\bsum(?=_)", " Σ "),
    (r"\^\s*\{\s*T\s*\}|\^\s*T(?![a-z])|ᵀ|\.t(?:ranspose)?\(\)|\.mT(?![a-z])", "^T"),
    (r"\^\s*\{?\s*\\prime\s*\}?|\\prime|’|′", "'"),
    (r"([₀-₉ₖₗ])₋₁", r"_{\1-1}"), (r"([₀-₉ₖₗ])₊₁", r"_{\1+1}"), (r"([₀-₉ₖₗ])(?!-1|\+1)", r"_\1"),
    *((sign, plain) for sign, plain in INDICES.items()),
    (r"([ˡᵏᴸ])⁺¹", r"^{\1+1}"), (r"([ˡᵏᴸ])⁻¹", r"^{\1-1}"), (r"([ˡᵏᴸ])(?![-+]1)", r"^\1"),
    ("ˡ", "l"), ("ᵏ", "k"), ("ᴸ", "L"), ("²", "^2"),
    (r"\\odot|\\circ(?![A-Za-z])|⊙|∘|\\ast|\.\*(?!\*)", "#"),
    (r"\\otimes|⊗", "⊗"),
    (r"\\cdot|·|\\times|×", "·"),
    (r"\./", "/"), (r"\.\^", "^"), (r"\bodot\b", "#"),
    (r":=|\+=|==|←|\\leftarrow|\\gets|\\coloneqq", "="),
    (r">=|≥|\\geq?(?![A-Za-z])", ">"), (r"<=|≤|\\leq?(?![A-Za-z])", "<"),
    (r"[−–—]", "-"),
)  # fmt: skip


def plain(text: str) -> tuple[str, list[int]]:
    """The text with the spellings replaced, and the position in the original of every character."""
    where = list(range(len(text) + 1))
    for pattern, becomes in SPELLINGS:
        pieces: list[str] = []
        places: list[int] = []
        last = 0
        for match in re.finditer(pattern, text):
            pieces.append(text[last : match.start()])
            places += where[last : match.start()]
            for piece in re.split(r"(\\1)", becomes):
                if piece == r"\1":
                    pieces.append(match.group(1))
                    places += where[match.start(1) : match.end(1)]
                else:
                    pieces.append(piece)
                    places += [where[match.start()]] * len(piece)
            last = match.end()
        text, where = "".join(pieces) + text[last:], places + where[last:]
    return text, where


# ---------------------------------------------------------------- names
NAMES = {
    **dict.fromkeys(("z", "Z"), "z"), **dict.fromkeys(("a", "A", "h", "H"), "a"),
    **dict.fromkeys(("W", "w", "Theta", "weight", "weights"), "W"), **dict.fromkeys(("b", "bias"), "b"),
    **dict.fromkeys(("x", "X"), "x"), **dict.fromkeys(("y", "Y", "t", "target", "targets", "y_true"), "y"),
    **dict.fromkeys(("yhat", "Yhat", "y_pred", "pred", "preds", "probs", "prediction", "p"), "yhat"),
}  # fmt: skip
LAYERED = {  # names that have their layer in them; "?" is the layer that the formula is about
    **dict.fromkeys(("scores", "logits"), ("z", "L", 0)),
    **dict.fromkeys(("input", "inputs"), ("a", "?", -1)),
    **dict.fromkeys(("hidden", "hidden_layer"), ("a", "", 1)),
    **dict.fromkeys(("output", "outputs"), ("a", "?", 0)),
    # what comes back into a layer that is an affine map alone
    **dict.fromkeys(("dout", "grad_output"), ("dz", "?", 0)),
}
SIZES = {**dict.fromkeys(("n", "N", "batch_size", "num_examples", "num_samples"), "n"), "m": "m", "n_L": "m"}
LOSS = ("L", "C", "J", "E", "l", "ell", "loss", "Loss", "cost", "Cost")
GENERIC = ("f", "g", "sigma", "phi", "varphi", "psi", "act", "activation", "func")
NAMED = {**{name: name for name in ACTIVATIONS}, "ReLU": "relu", "logistic": "sigmoid"}
EPSILON = ("eps", "epsilon", "varepsilon")


@dataclass(frozen=True)
class Meaning:
    """What a word stands for. kind: name, size, f, named, loss; value as in a node; prime for a derivative."""

    kind: str
    value: str = ""
    base: str = "?"
    shift: int = 0
    prime: bool = False


def word_meaning(word: str) -> Meaning | None:
    """What a word is known as; None for words that are none of these."""
    if not word:
        return None
    if word in NAMES:
        return Meaning("name", NAMES[word])
    if word in LAYERED:
        return Meaning("name", *LAYERED[word])
    if word in SIZES:
        return Meaning("size", SIZES[word])
    if word == "delta":
        return Meaning("name", "dz")
    if word in GENERIC:
        return Meaning("f", "f")
    if word in NAMED:
        return Meaning("named", NAMED[word])
    for ending in ("_prev", "prev"):
        inside = word_meaning(word.removesuffix(ending)) if word.endswith(ending) else None
        if inside and inside.kind == "name" and inside.base == "?" and not inside.shift:
            return Meaning("name", inside.value, "?", -1)
    for ending in ("_prime", "prime", "_derivative", "_deriv"):
        inside = word_meaning(word.removesuffix(ending)) if word.endswith(ending) else None
        if inside and inside.kind in ("f", "named"):
            return Meaning(inside.kind, inside.value, prime=True)
    if word[-1] in "Lkl" and NAMES.get(word[:-1]) in ("z", "a", "W", "b"):
        return Meaning("name", NAMES[word[:-1]], "L" if word[-1] == "L" else "k")
    return _gradient_meaning(word)


def _gradient_meaning(word: str) -> Meaning | None:
    for loss in LOSS:
        if word == f"d{loss}":
            return Meaning("loss")
    starts = [*(f"d{loss}{joint}d" for loss in LOSS for joint in ("_", "")), "grad_", "d_", "d"]
    for start in starts:
        if word.startswith(start) and len(word) > len(start):
            inside = word_meaning(word.removeprefix(start))
            if inside and inside.kind in ("f", "named") and not inside.prime:
                return Meaning(inside.kind, inside.value, prime=True)
            if inside and inside.kind == "name" and (found := gradient_of(inside)):
                return found
    if word.endswith("_grad"):
        inside = word_meaning(word.removesuffix("_grad"))
        return gradient_of(inside) if inside and inside.kind == "name" else None
    return None


def gradient_of(of: Meaning) -> Meaning | None:
    """What the gradient with respect to a name stands for; None for y and for gradients."""
    if of.value == "yhat":
        return Meaning("name", "da", "L")
    if of.value == "x":
        return Meaning("name", "da", "", 0)
    return Meaning("name", f"d{of.value}", of.base, of.shift) if of.value in ("z", "a", "W", "b") else None


# ---------------------------------------------------------------- tokens
@dataclass(frozen=True)
class Token:
    """A number, word, sign or the end. at: the position in the text as given; start, end: in the plain text."""

    kind: str
    text: str
    at: int
    start: int
    end: int


TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.(?![A-Za-z]))?\d*(?:[eE][-+]?\d+)?|\.\d+)|(?P<word>[A-Za-z]+(?:_[A-Za-z]+)*|Σ)"
    r"|(?P<sign>\*\*|\^T(?![a-z])|\.T(?![a-z])|[-+*/@#·⊗÷()=,.\[\]{}_'^<>:]))"
)


def tokens(text: str) -> tuple[str, list[Token]]:
    """The text in the plain alphabet, and its tokens, the last of the kind "end". Raises FormulaError."""
    written, where = plain(text)
    found: list[Token] = []
    at = 0
    while written[at:].strip():
        start = at + len(written[at:]) - len(written[at:].lstrip())
        match = TOKEN.match(written, at)
        if not match or not match.lastgroup:
            raise FormulaError(text, where[start], "a name, a number or an operator", repr(written[start]))
        word, end = match.group(match.lastgroup), match.end()
        if match.lastgroup == "word":
            word, end = _longest_word(written, start, word)
        found.append(Token(match.lastgroup, word, where[start], start, end))
        at = end
    found.append(Token("end", "", len(text), len(written), len(written)))
    return written, found


def _longest_word(written: str, start: int, word: str) -> tuple[str, int]:
    """The longest known word at start, and where it ends: a_prev is one, dz_k is dz."""
    if spread := re.compile(r"d\s+([A-Za-z]+)").match(written, start):  # "\partial \mathbf{z}" leaves "d z"
        joined = "d" + spread[1]
        if word_meaning(joined):
            return joined, spread.end()
    pieces = word.split("_")
    for count in range(len(pieces), 1, -1):
        joined = "_".join(pieces[:count])
        if word_meaning(joined) or joined in EPSILON:
            return joined, start + len(joined)
    return pieces[0], start + len(pieces[0])
