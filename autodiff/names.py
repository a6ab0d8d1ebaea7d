r"""Names and numbers as people read them: plain text and LaTeX.

A name is read as a symbol with what belongs to it: w1_21 is the letter w of layer 1 with the index 21, yhat_2 is y
with a hat, delta2 a Greek letter, dz3 a differential, x' has a prime. Whatever cannot be read so is set upright, and
made harmless first: no name is bad LaTeX or bad XML. MathML is made from the LaTeX (mathml.py), and so needs no
reading of its own.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

# fmt: off
GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
))
CAPITALS = frozenset(("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"))
# fmt: on
UNICODE_GREEK = {unicodedata.lookup(f"GREEK SMALL LETTER {name.replace('lambda', 'lamda')}"): name for name in GREEK}
UNICODE_GREEK |= {unicodedata.lookup(f"GREEK CAPITAL LETTER {n.replace('Lambda', 'Lamda')}"): n for n in CAPITALS}

SYMBOL = re.compile(
    r"(?P<d>d(?=[A-Za-z](?![A-Za-z])|(?:delta|theta)(?![A-Za-z])|[A-Za-z]hat(?![A-Za-z])))?"
    r"(?P<base>[A-Za-z]+?)(?P<hat>_?hat(?![A-Za-z]))?(?P<primes>'*)(?P<layer>[0-9]*)(?P<late>'*)"
    r"(?:_(?P<lower>[A-Za-z0-9_,]*[A-Za-z0-9])|\[(?P<bracket>[A-Za-z0-9_, ]+)\])?"
)


def latex_name(name: str) -> str:
    r"""A name as an indexed symbol: w1_21 is w^(1)_21, yhat_2 is y hat with index 2, W[0,1] has the index 0,1.

    >>> latex_name("w1_21"), latex_name("yhat_2"), latex_name("W[0,1]"), latex_name("eta")
    ('w^{(1)}_{21}', '\\hat{y}_{2}', 'W_{0,1}', '\\eta')
    >>> latex_name("dz3"), latex_name("h_2j"), latex_name("y_pred"), latex_name("50% off")
    ('\\mathrm{d}z_{3}', 'h_{2j}', 'y_{\\mathrm{pred}}', '\\mathrm{50\\%\\ off}')
    """
    greek = UNICODE_GREEK.get(name[:1], "") if not name[1:2].isalpha() else ""
    match = SYMBOL.fullmatch(greek + name[1:] if greek else name)
    if not match:
        return upright(name)
    base, layer, primes = match["base"], match["layer"], match["primes"] + match["late"]
    symbol = base if len(base) == 1 else rf"\{base}" if base in GREEK | CAPITALS else rf"\mathrm{{{base}}}"
    symbol = rf"\hat{{{symbol}}}" if match["hat"] else symbol
    index = _index(match["lower"] or match["bracket"] or "")
    raised = f"^{{({layer})}}" if layer and index else ""
    lowered = f"_{{{index or layer}}}" if index or layer else ""
    if primes:  # a second exponent of one base would stop LaTeX
        symbol = f"{{{symbol}{primes}}}" if raised else symbol + primes
    return (r"\mathrm{d}" if match["d"] else "") + symbol + raised + lowered


def _index(text: str) -> str:
    """The index with commas between its parts, words upright: 2j and ij are letters, pred is a word."""
    parts = [part.strip() for part in re.split("[_,]", text)]
    return ",".join(rf"\mathrm{{{part}}}" if re.fullmatch("[A-Za-z]{3,}", part) else part for part in parts)


def upright(text: str) -> str:
    r"""text set upright in mathematics; letters that LaTeX's mathematics does not have, in a box of text.

    >>> print(upright("a_b^2"), upright("Größe"))
    \mathrm{a\_b{\wedge}2} \text{Größe}
    """
    return rf"\mathrm{{{escaped(text)}}}" if text.isascii() or text == "…" else rf"\text{{{escaped_text(text)}}}"


def printable(text: str) -> str:
    r"""text in one line, with what no printer or XML parser takes (control characters, half characters) as �.

    >>> printable("a\nb\x00")
    'a b�'
    """
    line = " ".join(text.split()) if text != " " else text
    return "".join("�" if unicodedata.category(sign) in ("Cc", "Cs", "Cn") else sign for sign in line)


def escaped(text: str) -> str:
    r"""text with what LaTeX's mathematics would take as a command written as a sign.

    >>> print(escaped("a_b^2"))
    a\_b{\wedge}2
    """
    signs = {"\\": r"{\backslash}", "^": r"{\wedge}", "~": r"{\sim}"}
    return re.sub(r"[\\^~_%&#$ {}]", lambda sign: signs.get(sign[0], "\\" + sign[0]), printable(text))


def escaped_text(text: str) -> str:
    r"""text with what LaTeX would take as a command outside of mathematics written as a sign.

    >>> print(escaped_text("50% of a_b"))
    50\% of a\_b
    """
    signs = {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"}
    return re.sub(r"[\\^~_%&#${}]", lambda sign: signs.get(sign[0], "\\" + sign[0]), printable(text))


def number_text(number: float, digits: int = 6) -> str:
    """A number for people: at most `digits` significant digits, whole numbers without a point.

    >>> number_text(2.0), number_text(-0.1234567), number_text(1e-9), number_text(float("nan"))
    ('2', '-0.123457', '1e-09', 'nan')
    """
    return f"{number:.{digits}g}"


def counted(number: int) -> str:
    """A count in full; of more than 100 digits, which Python may refuse to print, by its power of ten.

    >>> counted(2**20), counted(2**100_000)
    ('1048576', 'about 10^30102')
    """
    return str(number) if number < 10**100 else f"about 10^{int((number.bit_length() - 1) * math.log10(2.0))}"


def latex_number(number: float) -> str:
    r"""number_text in LaTeX: 10 to a power, infinity.

    >>> latex_number(1e-9), latex_number(float("-inf"))
    ('10^{-9}', '-\\infty')
    """
    mantissa, _, exponent = number_text(number).partition("e")
    if exponent:
        power_of_ten = f"10^{{{int(exponent)}}}"
        return {"1": power_of_ten, "-1": f"-{power_of_ten}"}.get(mantissa, rf"{mantissa} \cdot {power_of_ten}")
    return mantissa.replace("inf", r"\infty").replace("nan", r"\mathrm{nan}")


def argument_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its first `count` positional arguments; x1, x2, ... where it does not tell.

    >>> argument_names(lambda u, v: u, 2), argument_names(max, 2)
    (['u', 'v'], ['x1', 'x2'])
    """
    import inspect  # slow to import, and only needed here

    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # built-in functions may not tell
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return names[:count] if len(names) >= count else [f"x{number}" for number in range(1, count + 1)]
