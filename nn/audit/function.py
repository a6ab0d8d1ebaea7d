"""The doctor for a function: probes on which mistakes cannot hide, foreign code in a child, and one report for all.

Glossary: W b X y, n, m, k, L as in nn.by_hand.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import inspect
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nn.audit.child import run
from nn.audit.claims import claim_name
from nn.audit.diagnosis import audit_claims
from nn.audit.report import Cause, Report, merged
from nn.by_hand import ACTIVATIONS, MLP, REDUCTIONS

__all__ = ["Probe", "agreed", "audit_function", "probe"]

SAMPLES = (7, 11, 13, 17, 19, 23, 29, 31)  # batch sizes: primes, so that no width, square or product is taken for n
KINKED = ("relu", "leaky_relu")


@dataclass(frozen=True)
class Probe:
    """A network and a batch, in its layout; W and b are lists for the layers 1..L."""

    W: list[Any]
    b: list[Any]
    X: Any
    y: Any
    z: tuple[Any, ...] = ()
    a: tuple[Any, ...] = ()

    def given(self, leading: bool = False) -> dict[str, Any]:
        """What a backward function may ask for, by role; leading: W and b have a None at [0]."""
        first: list[Any] = [None] if leading else []
        layers = range(1, len(self.W) + 1)
        parameters = {f"W{k}": self.W[k - 1] for k in layers} | {f"b{k}": self.b[k - 1] for k in layers}
        before = (self.X, *self.a)
        cache = {"A0": self.X, "X": self.X} | parameters
        for k in layers if self.z else ():
            cache |= {f"Z{k}": self.z[k - 1], f"A{k}": self.a[k - 1], f"z{k}": self.z[k - 1], f"a{k}": self.a[k - 1]}
        stacks = [((before[k - 1], self.W[k - 1], self.b[k - 1]), self.z[k - 1]) for k in layers if self.z]
        return {
            "W": first + list(self.W), "b": first + list(self.b), "X": self.X, "y": self.y, "yhat": before[-1],
            "parameters": parameters, "cache": cache, "caches": stacks,
        }  # fmt: skip


ROLES = {  # what a parameter of a backward function is called, by what it is given
    "W": ("w", "ws", "weights"),
    "b": ("b", "bs", "biases", "bias"),
    "X": ("x", "a0", "inputs", "input", "data"),
    "y": ("y", "t", "y_true", "target", "targets", "labels", "label"),
    "yhat": ("yhat", "y_hat", "y_pred", "al", "output", "outputs", "prediction", "predictions"),
    "parameters": ("parameters", "params"),
    "cache": ("cache", "memory"),
    "caches": ("caches",),
}


def roles(backward: Callable[..., Any]) -> tuple[str, ...]:
    """What backward is to be given, by the names of its parameters; W, b, X, y where they say nothing.

    ValueError where it asks for what is not known.
    """
    expected = ("W", "b", "X", "y")
    try:
        declared = list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError):
        return expected
    if any(p.kind is p.VAR_POSITIONAL for p in declared):
        return expected
    positional = [p for p in declared if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in positional if p.default is p.empty]
    known = {spelling: role for role, spellings in ROLES.items() for spelling in spellings}
    found = [known.get(p.name.lower()) for p in needed]
    named = tuple(role for role in found if role is not None)
    if len(named) == len(needed) and len(set(named)) == len(named) and needed:
        return named
    if len(needed) <= 4 <= len(positional):
        return expected
    strange = [p.name for p, role in zip(needed, found, strict=True) if role is None]
    raise ValueError(
        f"backward takes ({', '.join(p.name for p in positional)}), expected (W, b, X, y)"
        + (f"; what {', '.join(strange)} should be is not known" if strange else "")
        + "; wrap it: def backward(W, b, X, y) that calls yours and returns {'dW1': ..., 'db1': ..., ...}"
    )


def probe(
    sizes: Sequence[int], activations: Sequence[str], loss: str, layout: str = "row", samples: int = 7, seed: int = 0
) -> Probe:
    """A random network and batch on which a mistake shows.

    Biases are not zero, no square W is symmetric, and every unit of a relu is on for some samples and off for others,
    far from its kink. Targets are labels of 0 and 1 for "bce", one of the classes for "ce".

    >>> example = probe([2, 3, 1], ["relu", "sigmoid"], "bce", samples=7)
    >>> on = example.X @ example.W[0] + example.b[0] > 0
    >>> bool(on.any(axis=0).all()), bool(on.all(axis=0).any())
    (True, False)
    """
    random = np.random.default_rng([seed, samples])
    X = random.standard_normal((samples, sizes[0]))
    W, b, a = [], [], X
    zs: list[Any] = []
    outputs: list[Any] = []
    for inputs, units, name in zip(sizes, sizes[1:], activations, strict=False):
        weights = random.standard_normal((inputs, units)) * 1.2 / np.sqrt(inputs)
        biases = random.uniform(0.2, 0.6, (1, units)) * random.choice([-1.0, 1.0], (1, units))
        if name in KINKED:
            biases = -_thresholds(a @ weights)
        W.append(weights)
        b.append(biases)
        zs.append(a @ weights + biases)
        a = ACTIVATIONS[name].value(zs[-1], 1)
        outputs.append(a)
    y = _targets(random, loss, samples, sizes[-1])
    if layout == "column":
        turned = ([array.T.copy() for array in arrays] for arrays in (W, b, zs, outputs))
        W, b, zs, outputs = turned
        X, y = X.T.copy(), y.T.copy()
    return Probe(W, b, X, y, tuple(zs), tuple(outputs))


def _thresholds(z: Any) -> Any:
    """(1, units): per unit the middle of the widest gap between its values, the outermost left alone if possible."""
    ordered = np.sort(z, axis=0)
    gaps = np.diff(ordered, axis=0)
    inner = slice(len(gaps) // 4, len(gaps) - len(gaps) // 4)
    found = []
    for unit in range(z.shape[1]):
        middle = gaps[inner, unit]
        at = int(np.argmax(middle)) + (inner.start or 0) if middle.max() > 1e-3 else int(np.argmax(gaps[:, unit]))
        found.append((ordered[at, unit] + ordered[at + 1, unit]) / 2.0)
    return np.array([found])


def _targets(random: np.random.Generator, loss: str, samples: int, outputs: int) -> Any:
    if loss == "bce":  # both labels for every output
        return np.stack([random.permutation(np.arange(samples) % 2) for _ in range(outputs)], axis=1).astype(float)
    if loss == "ce":  # every class, if there are samples enough
        return np.eye(outputs)[random.permutation(np.arange(samples) % outputs)]
    return random.standard_normal((samples, outputs))


def batch_sizes(sizes: Sequence[int]) -> list[int]:
    """Three numbers of samples that are no width of the network: 7, 11 and 13 unless they are."""
    return [samples for samples in SAMPLES if samples not in sizes][:3]


# ---------------------------------------------------------------- the audit
def audit_function(
    backward: Callable[..., Any],
    *,
    sizes: Sequence[int],
    activations: Sequence[str] | str,
    loss: str,
    reduction: str | None = "mean",
    layout: str = "row",
    timeout: float = 10.0,
    direction: str = "ascent",
    placeholder: bool | None = None,
    seed: int = 0,
) -> Report:
    """The Report on backward(W, b, X, y) -> {"dW1": array, "db1": array, ..., and dz1, da1, ... if it likes}.

    The doctor draws the networks and the batches, calls backward in a child process of `timeout` seconds per call, and
    keeps the causes on which its probes agree. sizes, activations, loss, reduction, layout, direction: what backward
    claims to differentiate, as for `audit_claims`. W and b come as lists of the layers 1..L; where that fails and a
    None at [0] helps, it is given (placeholder=True or False decides beforehand). What backward does beside: kinds
    "raises", "timeout", "exits", "missing", "dtype", "shape", "non-finite", "changes-inputs", "random", "accumulates";
    that it prints or returns lists is a note. A backward of other parameters is given what their names say:
    parameters or params {"W1": ...}, cache {"A0": X, "Z1": ..., "A1": ..., ...}, caches [((a, W, b), z), ...], yhat.
    ValueError for declarations that do not fit.

    >>> def backward(W, b, X, y):
    ...     dz = 2 * (y - (X @ W[0] + b[0])) / len(X)
    ...     return {"dz1": dz, "dW1": X.T @ dz, "db1": dz.sum(axis=0, keepdims=True)}
    >>> report = audit_function(backward, sizes=[2, 3], activations="identity", loss="sse")
    >>> [(cause.quantity, cause.factor) for cause in report.causes]
    [('dz1', '-1')]
    """
    names = (activations,) * (len(sizes) - 1) if isinstance(activations, str) else tuple(activations)
    MLP(sizes, names, loss, layout=layout)  # complains of what does not fit
    if reduction is not None and reduction not in REDUCTIONS:
        raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, or None for any; came {reduction!r}")
    if not callable(backward):
        raise TypeError(f"backward is a function of (W, b, X, y); came {type(backward).__name__}")
    asked = roles(backward)
    reports: list[Report] = []
    for samples in batch_sizes(sizes):
        drawn = probe(sizes, names, loss, layout, samples, seed)
        answer = _call(backward, drawn, timeout, placeholder, asked)
        if isinstance(answer, Cause):
            reports.append(Report(False, (answer,)))
            break  # as it did not come back once, nothing is gained by waiting for it again
        if placeholder is None:
            placeholder = answer.placeholder
        rest = finite(answer.claims, len(names))
        report = audit_claims(
            sizes=sizes, activations=names, loss=loss, reduction=reduction, layout=layout, W=drawn.W, b=drawn.b,
            X=drawn.X, y=drawn.y, claims=rest.claims, loss_value=answer.loss_value, direction=direction,
        )  # fmt: skip
        report = with_findings(report, (*answer.causes, *rest.causes), (*answer.notes, *rest.notes))
        reports.append(replace(report, inherited=(*report.inherited, *rest.inherited)))
        if len(reports) == 2 and _keys(reports[0]) == _keys(reports[1]):
            break  # a third probe is for those on which two differ
    return agreed(reports)


@dataclass
class Answer:
    """What a call brought: claims as arrays of real numbers, and what is to be said beside them."""

    claims: dict[str, Any]
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    loss_value: float | None = None
    placeholder: bool | None = None


def _call(
    backward: Callable[..., Any], drawn: Probe, timeout: float, placeholder: bool | None, asked: Sequence[str]
) -> Answer | Cause:
    """backward on a probe, with and without a placeholder at [0] of W and b, whichever it was written for."""
    answers: list[Answer | Cause] = []
    if placeholder is None and not {"W", "b"} & set(asked):
        placeholder = False
    for leading in (False, True) if placeholder is None else (placeholder,):
        outcome = run(_in_child, backward, drawn, leading, asked, timeout, timeout=timeout)
        if outcome.problem:
            answers.append(process_cause("backward", outcome.problem, outcome.message))
            if outcome.problem == "timeout":
                break
            continue
        answer: Answer = outcome.value
        answer.placeholder = leading
        if outcome.printed:
            answer.notes += (printed_note("backward", outcome.printed),)
        answers.append(answer)
        if not _misfits(answer, drawn):
            break
    best = min(answers, key=lambda answer: _misfits(answer, drawn))
    if isinstance(best, Answer) and best is not answers[0]:
        best.notes += ("backward was given W and b with a None at [0], so that W[1] is the first layer's",)
    return best


def _misfits(answer: Answer | Cause, drawn: Probe) -> float:
    """How many gradients of parameters are missing or have another size: many where layers are numbered otherwise."""
    if isinstance(answer, Cause):
        return math.inf
    sizes = {f"dW{k}": W.size for k, W in enumerate(drawn.W, start=1)}
    sizes |= {f"db{k}": b.size for k, b in enumerate(drawn.b, start=1)}
    return float(sum(np.size(answer.claims.get(name, ())) != size for name, size in sizes.items()))


def _in_child(backward: Callable[..., Any], drawn: Probe, leading: bool, roles: Sequence[str], limit: float) -> Answer:
    """Calls backward and reads what it returns; in the child, so that only plain numbers come back."""
    given = drawn.given(leading)
    values = [copy.deepcopy(given[role]) for role in roles]
    started = time.monotonic()
    answer = read(backward(*values), len(drawn.W))
    changed = [role for role, value in zip(roles, values, strict=True) if not _same(given[role], value)]
    if changed:
        answer.causes += (changes_inputs("backward", changed),)
    if time.monotonic() - started < limit / 8:  # three more calls must not run into the limit
        extra = repeated(
            answer.claims, lambda: read(backward(*(copy.deepcopy(given[role]) for role in roles)), len(drawn.W)).claims
        )
        answer.claims = extra.claims
        answer.causes += extra.causes
    return answer


def repeated(
    claims: dict[str, Any], again: Callable[[], dict[str, Any]], reset: Callable[[], Any] | None = None
) -> Answer:
    """The claims, and a cause where another call on the same numbers brings others.

    Where every call adds the same to what stood there before, that is the gradient which is judged: a cause of kind
    "accumulates", unless `reset` sets it to zero. Otherwise the cause is "random", and what varies is not judged.
    """
    try:
        second = again()
        varying = [name for name in claims if _is_gradient(name) and not _alike(claims[name], second.get(name))]
        if not varying:
            return Answer(claims)
        if reset is not None:
            reset()
            fresh = again()
            if all(_alike(fresh.get(name), second[name] - claims[name]) for name in varying if name in second):
                return Answer(claims | {name: fresh[name] for name in varying})
        third = again()
    except (Exception, SystemExit):
        return Answer(claims)  # many take apart what the forward pass had kept, and cannot be called again
    if any(name not in third or np.shape(third[name]) != np.shape(claims[name]) for name in varying):
        return Answer(claims)
    added = {name: third[name] - second[name] for name in varying if name in second}
    told = ", ".join(varying)
    if len(added) == len(varying) and all(
        _alike(added[name], second[name] - claims[name]) and np.isfinite(added[name]).all() for name in varying
    ):
        message = f"every call adds to what the calls before it left in {told} (+= without a reset)"
        fix = "set the gradients to zero at the start of backward, or assign with ="
        return Answer(claims | added, (Cause("backward", None, (), "accumulates", message, fix=fix),))
    message = f"another call on the same numbers brings another {told}: it draws random numbers or keeps old values"
    fix = "let the gradients depend on the arguments and the last forward pass alone; draw masks in forward"
    kept = {name: claim for name, claim in claims.items() if name not in varying}
    return Answer(kept, (Cause("backward", None, (), "random", message, fix=fix),))


def _is_gradient(name: str) -> bool:
    return name.startswith(("dW", "db"))


def _alike(one: Any, other: Any) -> bool:
    if one is None or other is None or np.shape(one) != np.shape(other):
        return False
    size = float(np.max(np.abs(one), initial=0.0))  # sums may run in another order from call to call
    return bool(np.allclose(one, other, rtol=0.0, atol=1e-6 * size if math.isfinite(size) else 0.0, equal_nan=True))


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, list | tuple):
        return type(after) is type(before) and len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, dict):
        return (
            isinstance(after, dict)
            and before.keys() == after.keys()
            and all(_same(before[k], after[k]) for k in before)
        )
    if before is None:
        return after is None
    return isinstance(after, np.ndarray) and before.dtype == after.dtype and np.array_equal(before, after)


# ---------------------------------------------------------------- reading what came back
def read(returned: Any, L: int) -> Answer:
    """The claims in what a backward returned, with a cause for each that is none.

    Accepts {"dW1": ...} and, as many write it, {"dW": [one per layer]} with or without a None at [0].
    """
    if not hasattr(returned, "items") or not hasattr(returned, "keys"):
        came = "nothing" if returned is None else f"a {type(returned).__name__}"
        sentence = f"backward returned {came}, expected a dict such as {{'dW1': array, 'db1': array, ...}}"
        return Answer({}, (Cause("backward", None, (), "missing", sentence, fix="return the gradients by name"),))
    answer = Answer({})
    lists: list[str] = []
    for key, value in one_per_layer(returned, L):
        if key in ("loss", "L", "loss_value"):
            number = _as_array(value)
            if isinstance(number, np.ndarray) and number.size == 1:
                answer.loss_value = float(number.reshape(-1)[0])
            continue
        try:
            name = "{}{}".format(*claim_name(_spelled(key), L))
        except ValueError:
            answer.notes += (_unknown(key, L),)
            continue
        if value is None:
            continue
        array = _as_array(value)
        if isinstance(array, str):
            kind = "shape" if "rectangular" in array else "dtype"
            answer.causes += (_cause(name, kind, f"it {array}, expected an array of real numbers"),)
            continue
        if not isinstance(value, np.ndarray | np.generic):
            lists.append(f"{name} ({type(value).__name__})")
        elif value.dtype == object:
            answer.notes += (f"{name} has the dtype object; its numbers were read as float64",)
        elif value.dtype.kind in "iu":
            answer.notes += (f"{name} has the dtype {value.dtype}: an array of integers cuts off fractions",)
        answer.claims[name] = array
    if lists:
        answer.notes += (f"no arrays, but read as such: {', '.join(lists)}",)
    spoilt = {cause.quantity for cause in answer.causes}
    absent = [
        _cause(name, "missing", f"there is no {name} in what came back", f"return {name} as well")
        for k in range(L, 0, -1)
        for name in (f"dW{k}", f"db{k}")
        if name not in answer.claims and name not in spoilt
    ]
    answer.causes = merged((*answer.causes, *(replace(c, message=_of_family(c), fix=None) for c in absent)))
    return answer


def _spelled(key: Any) -> Any:
    """dz1 for dZ1, z1 for Z1: the capitals that many write for matrices."""
    return re.sub(r"^(d?)([ZA])(?=_?\d+$)", lambda m: m[1] + m[2].lower(), key) if isinstance(key, str) else key


def _of_family(cause: Cause) -> str:
    return f"it is missing: every layer needs its own {cause.quantity.rstrip('0123456789')}, and none came back for it"


def one_per_layer(returned: Any, L: int) -> Iterable[tuple[Any, Any]]:
    """(key, array) of a dict, its lists {"dW": [one per layer]} taken apart."""
    for key, value in list(returned.items()):
        if isinstance(key, str) and key in ("z", "a", "da", "dz", "dW", "db") and isinstance(value, list | tuple):
            first = 0 if len(value) == L + 1 else 1
            for k, item in enumerate(value, start=first):
                if k > 0 or (item is not None and key in ("a", "da")):
                    yield f"{key}{k}", item
        else:
            yield key, value


def _as_array(value: Any) -> Any:
    """A plain array of real numbers, its precision kept; or why there is none, in words."""
    try:
        array = np.array(value)
    except Exception as error:  # foreign objects may raise anything
        return f"is a {type(value).__name__} that makes no rectangular array ({type(error).__name__})"
    if array.dtype.kind in "fiub":
        return array
    if array.dtype == object:
        odd = [item for item in array.reshape(-1) if not isinstance(item, int | float | np.number | np.bool_)]
        if not odd:
            with contextlib.suppress(Exception):
                return array.astype(float)
        came = type(odd[0]).__name__ if odd else "what is too large"
        return f"has the dtype object and holds {'None' if came == 'NoneType' else f'a {came}'}"
    return f"has the dtype {array.dtype}"


def _unknown(key: Any, L: int) -> str:
    names = [f"{letter}{k}" for k in range(1, L + 1) for letter in ("z", "a", "da", "dz", "dW", "db")]
    bare = {name.lower(): name for name in names}
    near = [bare[word] for word in difflib.get_close_matches(re.sub(r"\W|_", "", str(key)).lower(), bare, n=1)]
    return f"the key {key!r} is no quantity of this network and was not looked at" + (
        f"; is {near[0]!r} meant?" if near else ""
    )


@dataclass
class Finite:
    """The claims that are finite, and what is to be said of the others."""

    claims: dict[str, Any]
    causes: tuple[Cause, ...] = ()
    inherited: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def finite(claims: dict[str, Any], L: int) -> Finite:
    """The claims without those that hold nan or inf, and a cause for the first of those on every way down.

    nan spreads to all that is computed from it, so the later ones only inherit. Where dW_k and db_k are both not
    finite and dz_k is not claimed, it is dz_k that is named.
    """
    bad = {name for name, claim in claims.items() if not np.isfinite(claim).all()}
    kept = {name: claim for name, claim in claims.items() if name not in bad}
    causes: list[Cause] = []
    inherited: list[str] = []
    notes: list[str] = []
    spread = False  # to dz of the layer below
    for k in range(L, -1, -1):
        if f"da{k}" in bad:
            if spread:
                inherited.append(f"da{k}")
            elif k == L and f"dz{k}" in kept:
                notes.append(f"da{k} is not finite, which is harmless: dz{k} is")
            else:
                causes.append(_not_finite(f"da{k}", claims[f"da{k}"]))
                spread = True
        elif f"da{k}" in kept:
            spread = False
        parameters = [name for name in (f"dW{k}", f"db{k}") if name in bad]
        if f"dz{k}" in bad:
            inherited += [f"dz{k}"] if spread else []
            causes += [] if spread else [_not_finite(f"dz{k}", claims[f"dz{k}"])]
            spread = True
        elif f"dz{k}" in kept:
            spread = False
        elif len(parameters) == 2 and not spread:
            message = f"dW{k} and db{k} are not finite (nan or inf), so dz{k}, which is not claimed, cannot be"
            causes.append(_cause(f"dz{k}", "non-finite", message))
            spread = True
        for name in parameters:
            inherited += [name] if spread else []
            causes += [] if spread else [_not_finite(name, claims[name])]
    return Finite(kept, merged(causes), tuple(inherited), tuple(notes))


def _not_finite(name: str, claim: Any) -> Cause:
    where = np.argwhere(~np.isfinite(claim))
    at = tuple(int(i) for i in where[0])
    place = f" at [{', '.join(map(str, at))}]" if at else ""
    message = f"{len(where)} of its {np.size(claim)} elements are nan or inf, the first {claim[at]}{place}"
    return _cause(name, "non-finite", message, "look for log(0), 0/0 or an overflowing exp in its formula")


# ---------------------------------------------------------------- causes that are no formulas
def _cause(name: str, kind: str, message: str, fix: str | None = None) -> Cause:
    layer = int(re.sub(r"\D", "", name))
    return Cause(name, layer, (layer,), kind, message, fix=fix)


def process_cause(what: str, problem: str, message: str) -> Cause:
    """A cause for a call that did not come back with a value."""
    fix = {
        "raises": "make it run through without an error first",
        "timeout": "end its loops, or allow more time with timeout",
        "exits": "leave out what ends the program (sys.exit, quit, os._exit), and return instead",
    }.get(problem)
    return Cause(what, None, (), problem, f"it {message}", fix=fix)


def changes_inputs(what: str, changed: Sequence[str]) -> Cause:
    """A cause for a call that wrote into its arguments."""
    names = " and ".join([", ".join(changed[:-1]), changed[-1]] if len(changed) > 1 else changed)
    sentence = f"it changes {names}, which are inputs: whoever calls it goes on with other numbers"
    return Cause(what, None, (), "changes-inputs", sentence, fix=f"work on copies, and leave {names} as they came")


def printed_note(what: str, printed: str) -> str:
    """A note on what a call printed."""
    lines = printed.strip().splitlines() or [""]
    more = f" and {len(lines) - 1} more lines" if len(lines) > 1 else ""
    return f"{what} prints: {lines[0][:100]!r}{more}"


def with_findings(report: Report, causes: Sequence[Cause], notes: Sequence[str]) -> Report:
    """The report with causes and notes that were found before the claims were judged; any cause makes it wrong."""
    # an absent claim may have been noticed by both; ours comes first, as it says what came back instead
    taken = {(cause.quantity, cause.kind) for cause in causes}
    rest = tuple(cause for cause in report.causes if (cause.quantity, cause.kind) not in taken)
    every = (*causes, *rest)
    notes = tuple(dict.fromkeys((*report.notes, *notes)))
    return replace(report, ok=False if every else report.ok, causes=every, notes=notes)


# ---------------------------------------------------------------- one report for all probes
Key = tuple[str, tuple[int, ...], str, str | None]


def _keys(report: Report) -> dict[Key, Cause]:
    return {(cause.quantity, cause.layers, cause.kind, cause.factor): cause for cause in report.causes}


def agreed(reports: Sequence[Report]) -> Report:
    """One report for several probes of one thing: the causes on which most agree, from the last that shows them.

    A coincidence of one probe (7 samples, so that n could be 7 of anything) does not repeat in another. Where no two
    agree, the last probe's causes stand, with a note.
    """
    last = reports[-1]
    if len(reports) == 1:
        return last
    tables = [_keys(report) for report in reports]
    every = {key: cause for table in tables for key, cause in table.items()}
    count = {key: sum(key in table for table in tables) for key in every}
    kept = [key for key in every if 2 * count[key] > len(tables)]
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    if every and not kept:
        kept = list(tables[-1] or every)
        notes["the causes differ from probe to probe: what is wrong depends on the batch"] = None
    oks = {report.ok for report in reports}
    inherited = dict.fromkeys(name for report in reports for name in report.inherited)
    return replace(
        last,
        ok=False if False in oks else None if None in oks else True,
        causes=tuple(every[key] for key in kept),
        inherited=tuple(inherited),
        right=tuple(name for name in last.right if all(name in report.right for report in reports)),
        notes=tuple(notes),
    )
