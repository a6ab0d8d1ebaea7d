"""The doctor for a model in the tutorial's protocol: what its forward pass does is recognised, its backward judged.

The protocol: forward(X), backward(y, yhat) and lists W b z a dz dW db da, one entry per layer after a placeholder at
[0]; nn.audit.protocol knows other spellings. Nobody has to describe the network: the layout follows from shapes and
numbers, activations from a_k against z_k or from the output alone, the loss from its values. A network that is none of
the known ones is judged by its own forward pass, see nn.audit.own_forward. Glossary as in nn.by_hand.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nn.audit import own_forward, protocol
from nn.audit.child import described, run
from nn.audit.claims import claim_name
from nn.audit.diagnosis import audit_claims
from nn.audit.function import (
    Answer,
    agreed,
    batch_sizes,
    changes_inputs,
    finite,
    one_per_layer,
    printed_note,
    probe,
    process_cause,
    read,
    repeated,
    with_findings,
)
from nn.audit.own_model import Loss, Own
from nn.audit.protocol import Misfit, Unknown, copied, initialized, is_model, parameters, telling
from nn.audit.report import Cause, Report
from nn.by_hand import ACTIVATIONS, LOSSES, REDUCTIONS

__all__ = ["audit_model", "audit_model_on_probes", "is_model", "recognised_loss"]

CLOSE = 1e-5  # a function is recognised to what float32 and a clipped argument leave of it
SIZES = ("layersizes", "layer_sizes", "sizes", "layers", "dims", "layer_dims", "layers_dims", "architecture", "shape")
SEARCHED = 4  # layers whose activations are tried one by one where the model keeps no a; beyond, all hidden ones alike


def audit_model(
    model: Any,
    X: Any,
    y: Any,
    loss: str | Callable[..., Any],
    *,
    reduction: str | None = None,
    layout: str | None = None,
    timeout: float | None = None,
) -> Report:
    """The Report on model.backward at the model's own parameters, on the batch X, y.

    loss: a name out of nn.by_hand.LOSSES, or a function (y, yhat), whose values tell which it is and how it is reduced
    over the batch. reduction: by default that of the function, or "mean" for a name. layout: "row" or "column", by
    default whichever fits. The model is copied first and stays as it is. What was recognised stands in the notes; a
    network or a loss that is not recognised is judged by running the model's own forward pass on Tensors. timeout: with
    it all that runs in a child process, which is ended after so many seconds; without, in this process.

    >>> from nn.by_hand import MLP
    >>> model = MLP([2, 3, 1], ["tanh", "sigmoid"], "bce").initialize()
    >>> X, y = np.array([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]]), np.array([[1.0], [0.0], [1.0]])
    >>> audit_model(model, X, y, "bce").verdict
    'right'
    >>> audit_model(model, X, y, "half_sse").verdict
    'wrong'
    """
    if timeout is not None:
        outcome = run(lambda: audit_model(model, X, y, loss, reduction=reduction, layout=layout), timeout=timeout)
        if outcome.problem:
            return Report(False, (process_cause("model", outcome.problem, outcome.message),))
        report: Report = outcome.value
        return report
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        report = _undecided(lambda: _on_batch(model, np.array(X), np.array(y), loss, reduction, layout))
    if printed.getvalue():
        report = replace(report, notes=(*report.notes, printed_note("the model", printed.getvalue())))
    return report


def _undecided(audit: Callable[[], Report]) -> Report:
    try:
        return audit()
    except Unknown as unknown:
        return Report(None, notes=(str(unknown),))


def _on_batch(
    model: Any, X: Any, y: Any, loss: str | Callable[..., Any], reduction: str | None, layout: str | None
) -> Report:
    twin = initialized(copied(model))
    W, b = parameters(twin)
    try:
        description = _described(twin, X, y, layout)
        name, found, notes = _loss(loss, description)
    except Unrecognised as unknown:
        twin = initialized(copied(model))
        return _by_own_forward(twin, W, b, X, y, loss, reduction, layout, unknown)
    return _judged(twin, description, loss, name, reduction or found, notes)


def audit_model_on_probes(
    model: Any,
    loss: str | Callable[..., Any],
    *,
    reduction: str | None = None,
    layout: str | None = None,
    seed: int = 0,
) -> Report:
    """The Report on model.backward on parameters and batches of our own, on which mistakes cannot hide.

    As `audit_model` otherwise: dead units, as training leaves them, would hide what is wrong with them.
    """

    def audit() -> Report:
        ways = _widths(initialized(copied(model)), layout)
        reports: list[Report] = []
        for samples in (*batch_sizes([])[:2],) if not ways else batch_sizes(ways[0][1]):
            reports.append(_on_probe(model, ways, loss, reduction, samples, seed))
            if len(reports) == 2 and _causes(reports[0]) == _causes(reports[1]):
                break
        return agreed(reports)

    return _undecided(audit)


def _causes(report: Report) -> set[tuple[Any, ...]]:
    return {(cause.quantity, cause.layers, cause.kind, cause.factor) for cause in report.causes}


def _on_probe(
    model: Any,
    widths: Sequence[tuple[str, tuple[int, ...], bool]],
    loss: str | Callable[..., Any],
    reduction: str | None,
    samples: int,
    seed: int,
) -> Report:
    reasons: list[Unknown] = []
    for layout, sizes, turned in widths:  # the first way to lay out a batch that the forward pass takes
        try:
            L = len(sizes) - 1
            twin = initialized(copied(model))
            smooth = probe(sizes, ["identity"] * L, "sse", layout, samples, seed)
            protocol.install(twin, smooth.W, smooth.b, turned)
            description = _described(twin, smooth.X, smooth.y, layout)
            name, found, notes = _loss(loss, description)
            drawn = probe(sizes, description.activations, name, layout, samples, seed)
            twin = initialized(copied(model))
            protocol.install(twin, drawn.W, drawn.b, turned)
            description = _described(twin, drawn.X, drawn.y, layout, description.activations)
        except Unknown as unknown:
            reasons.append(unknown)
            continue
        return _judged(twin, description, loss, name, reduction or found, notes)
    if reasons and isinstance(telling(reasons), Unrecognised):
        for (layout, sizes, turned), reason in zip(widths, reasons, strict=True):
            if isinstance(reason, Unrecognised):
                twin = initialized(copied(model))
                drawn = probe(sizes, ["identity"] * (len(sizes) - 1), "sse", layout, samples, seed)
                protocol.install(twin, drawn.W, drawn.b, turned)
                W, b = parameters(twin)
                return _by_own_forward(twin, W, b, drawn.X, None, loss, reduction, layout, reason)
    raise telling(reasons) if reasons else Unknown("the shapes of W do not fit together, layer by layer")


class Unrecognised(Unknown):
    """The same: the forward pass runs, but is none of the networks that have a name."""

    stage = 3


# ---------------------------------------------------------------- the network
@dataclass
class Description:
    """What was recognised of a model: the arrays of the layers 1..L, W as the layout has it."""

    layout: str
    turned: bool  # W is stored the other way round than the layout has it
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    W: list[Any]
    b: list[Any]
    X: Any
    y: Any
    yhat: Any
    given_y: Any  # as the model is handed it


def _ways(W: Sequence[Any], layout: str | None) -> list[tuple[str, tuple[int, ...], bool]]:
    """(layout, sizes, whether W is stored the other way round) for every way in which the shapes of W form a chain."""
    shapes = [w.shape for w in W]
    ways = []
    for way, turned in (("row", False), ("column", False), ("row", True), ("column", True)):
        into = [shape if (way == "row") != turned else shape[::-1] for shape in shapes]  # (n_{k-1}, n_k)
        if layout in (None, way) and all(a[1] == b[0] for a, b in itertools.pairwise(into)):
            ways.append((way, (into[0][0], *(pair[1] for pair in into)), turned))
    return ways


def _widths(model: Any, layout: str | None) -> list[tuple[str, tuple[int, ...], bool]]:
    return _ways(parameters(model)[0], layout)


def _described(model: Any, X: Any, y: Any, layout: str | None, activations: Sequence[str] | None = None) -> Description:
    """What the model's own forward pass on X shows; fills its z and a. Unknown where that is not enough."""
    W, b = parameters(model)
    if X.ndim != 2:
        raise Unknown(f"X has the shape {X.shape}, expected a matrix with one sample per row, or per column")
    fitting = [way for way in _ways(W, layout) if X.shape[way[0] == "row"] == way[1][0]]
    if not fitting:
        raise Misfit(f"X has the shape {X.shape}, which does not fit to W1 of shape {W[0].shape}")
    yhat = protocol.forward(model, X.copy())
    if yhat is None or np.ndim(yhat) != 2:
        raise Unknown("forward returned no matrix yhat, and left none in a[-1]: let it return the network's output")
    yhat = np.array(yhat)
    z, a = (protocol.kept(model, letter, len(W)) for letter in ("z", "a"))
    reasons: list[Unknown] = []
    for way, sizes, turned in fitting:
        turn = W if not turned else [w.T for w in W]
        target = y if y.ndim == 2 else y.reshape((-1, 1) if way == "row" else (1, -1))
        names: tuple[str, ...] | None = None
        # what a model keeps under the names z and a may be something else: then the output alone tells
        for z_kept, a_kept in ((z, a), ({}, {})):
            try:
                names = _activations(way, turn, b, X, z_kept, a_kept, yhat, activations)
                break
            except Unknown as unknown:
                reasons.append(unknown)
        if names is None:
            continue
        if target.shape != yhat.shape:
            raise Unknown(f"y has the shape {y.shape}, the model's output {yhat.shape}")
        shapes = [(1, units) if way == "row" else (units, 1) for units in sizes[1:]]
        biases = b or [np.zeros(shape) for shape in shapes]
        for k, (bias, shape) in enumerate(zip(biases, shapes, strict=True), start=1):
            if bias.ndim > 1 and bias.shape != shape:
                raise Unrecognised(f"b{k} has the shape {bias.shape}, and {shape} is usual in the {way} layout")
        return Description(way, turned, sizes, names, turn, biases, X, target, yhat, target)
    raise telling(reasons)


def _activations(
    layout: str,
    W: Sequence[Any],
    b: Sequence[Any],
    X: Any,
    z: dict[int, Any],
    a: dict[int, Any],
    yhat: Any,
    known: Sequence[str] | None,
) -> tuple[str, ...]:
    """The names of the activations: from z_k and a_k where they are kept, else those that lead to yhat."""
    L = len(W)
    hidden = [k for k in range(1, L) if k not in a]
    missing: list[str] = []
    choices: Iterator[tuple[str, ...]] = iter([()])
    if hidden:
        alike = ((name,) * len(hidden) for name in ACTIVATIONS)
        every = itertools.product(ACTIVATIONS, repeat=len(hidden)) if len(hidden) <= SEARCHED else iter(())
        # those found before come first, as a unit may do the same on one batch for two activations
        first = [tuple(known[k - 1] for k in hidden)] if known is not None else []
        choices = itertools.chain(first, alike, every)
    for choice in choices:
        supposed = dict(zip(hidden, choice, strict=True))
        names: list[str] = []
        before = X
        for k, weights in enumerate(W, start=1):
            own = _affine(layout, weights, b[k - 1] if b else None, before, k, z, a)
            after = yhat if k == L else None if k in supposed else np.array(a[k], dtype=float)
            if after is None:
                names.append(supposed[k])
                with np.errstate(all="ignore"):
                    before = ACTIVATIONS[supposed[k]].value(own, 1 if layout == "row" else 0)
                continue
            fitting = [name for name in ACTIVATIONS if _matches(name, own, after, layout)]
            if known is not None and known[k - 1] in fitting:
                fitting = [known[k - 1]]
            if not fitting:
                missing.append(
                    f"a{k} is none of {', '.join(ACTIVATIONS)} of z{k}: the activation of layer {k} is not known"
                )
                break
            names.append(fitting[0])
            before = after
        else:
            return tuple(names)
    if hidden:
        raise Unrecognised(
            f"the output follows from no choice of {', '.join(ACTIVATIONS)} for the layers, and the model keeps no "
            f"a{hidden[0]} that would tell more"
        )
    raise Unrecognised(missing[0])


def _affine(layout: str, weights: Any, bias: Any, before: Any, k: int, z: dict[int, Any], a: dict[int, Any]) -> Any:
    """z_k as the model keeps it, or as it should be."""
    with np.errstate(all="ignore"):
        affine = before @ weights if layout == "row" else weights @ before
    with_bias = affine
    if bias is not None:
        shape = (1, affine.shape[1]) if layout == "row" else (affine.shape[0], 1)
        if bias.size != max(shape):
            raise Misfit(f"b{k} has the shape {bias.shape}, expected {shape} in the {layout} layout")
        with_bias = affine + bias.reshape(shape)
    own = np.array(z[k], dtype=float) if k in z else with_bias
    if own.shape != affine.shape:
        raise Misfit(f"z{k} has the shape {own.shape}, expected {affine.shape} in the {layout} layout")
    if k == 1 and not any(np.allclose(own, maybe, rtol=CLOSE, atol=CLOSE) for maybe in (with_bias, affine)):
        raise Misfit(f"z1 is not X and W1 multiplied, plus b1, in the {layout} layout")
    return own


def _matches(name: str, z: Any, a: Any, layout: str) -> bool:
    with np.errstate(all="ignore"):
        value = ACTIVATIONS[name].value(z, 1 if layout == "row" else 0)
    return value.shape == a.shape and np.allclose(a, value, rtol=CLOSE, atol=CLOSE * 1e-3)


# ---------------------------------------------------------------- the loss
def _loss(loss: str | Callable[..., Any], description: Description) -> tuple[str, str | None, list[str]]:
    """(name, reduction, notes) of a loss."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise Unknown(f"unknown loss {loss!r}; known: {', '.join(LOSSES)}")
        return loss, "mean_elements" if loss == "mse" else "mean", []
    name, reduction, notes = recognised_loss(loss, description.sizes[-1], description.layout)
    if name is None:
        raise Unrecognised(notes[0])
    return name, reduction, notes


def recognised_loss(
    function: Callable[..., Any], outputs: int, layout: str = "row"
) -> tuple[str | None, str | None, list[str]]:
    """(name, reduction, notes) of a function (y, yhat), from its values on batches of 5 and 8 samples.

    The name is None where it is none that is known, and the note says so; the reduction is None where the function
    returns a number per sample or output.

    >>> recognised_loss(lambda y, yhat: ((yhat - y) ** 2).sum() / len(y), outputs=3)
    ('sse', 'mean', [])
    """
    called = getattr(function, "__name__", None) or type(function).__name__
    found: list[set[tuple[str, str | None, bool]]] = []
    for samples in (5, 8):
        random = np.random.default_rng([outputs, samples])
        yhat = random.uniform(0.1, 0.9, (samples, outputs))
        hot = np.arange(samples) % outputs if outputs > 1 else None
        y = np.eye(outputs)[hot] if hot is not None else (np.arange(samples) % 2).reshape(-1, 1).astype(float)
        pair = (y, yhat) if layout == "row" else (y.T.copy(), yhat.T.copy())
        fits: set[tuple[str, str | None, bool]] = set()
        for swapped in (False, True):
            fits = _fitting(function, pair[::-1] if swapped else pair, y, yhat, swapped)
            if fits:
                break
        found.append(fits)
    common = found[0] & found[1]
    if any(name in ("sse", "half_sse") for name, _, _ in common):  # a loss may be quadratic for small errors alone
        random = np.random.default_rng(outputs)
        y, yhat = 9.0 * random.standard_normal((2, 5, outputs))
        pair = (y, yhat) if layout == "row" else (y.T.copy(), yhat.T.copy())
        both = [_fitting(function, pair[::-1] if swapped else pair, y, yhat, swapped) for swapped in (False, True)]
        common = {fit for fit in common if fit[0] not in ("sse", "half_sse") or fit in both[fit[2]]}
    if not common:
        return None, None, [f"the loss {called} is none of {', '.join(LOSSES)} under any of {', '.join(REDUCTIONS)}"]
    order = {name: place for place, name in enumerate([*LOSSES, *REDUCTIONS])}
    name, reduction, swapped = min(common, key=lambda fit: (order[fit[0]], order.get(fit[1] or "", -1)))
    notes = []
    words = " ".join(re.split(r"[_\W]+", f"{called} {inspect.getdoc(function) or ''}")).lower()
    if reduction == "sum" and re.search(r"\b(averag\w*|mean|mse)\b", words):
        notes.append(
            f"the loss {called} is called an average, but it is a sum over the samples, not divided by their number"
        )
    if swapped:
        notes.append(f"the loss {called} takes (yhat, y), expected (y, yhat)")
    if reduction is None:
        notes.append(f"the loss {called} is not reduced to one number, so that any reduction is accepted")
    return name, reduction, notes


def _fitting(
    function: Callable[..., Any], pair: Sequence[Any], y: Any, yhat: Any, swapped: bool
) -> set[tuple[str, str | None, bool]]:
    try:
        with np.errstate(all="ignore"):
            returned = np.array(function(*(array.copy() for array in pair)), dtype=float)
    except Exception:  # a foreign function on arguments it was not written for
        return set()
    samples, outputs = y.shape
    fits: set[tuple[str, str | None, bool]] = set()
    for name, loss in LOSSES.items():
        if name == "mse":
            continue  # sse under another name
        with np.errstate(all="ignore"):
            total = loss.terms(y, yhat).sum()
        if returned.size == 1:
            for reduction, count in REDUCTIONS.items():
                if np.isclose(returned.item(), total / count(samples, outputs), rtol=CLOSE):
                    fits.add((name, reduction, swapped))
        elif returned.size in (samples, y.size) and np.isclose(returned.sum(), total, rtol=CLOSE):
            fits.add((name, None, swapped))
    return fits


# ---------------------------------------------------------------- the backward pass
def _claimed(model: Any, W: Sequence[Any], b: Sequence[Any], held: dict[str, Any]) -> tuple[Answer, dict[str, Any]]:
    """(what else is to be said, the claims) of a backward pass after a forward pass; as the model stores them."""
    L = len(W)

    seeds = itertools.count(1)  # another one for each call: a backward pass must draw nothing

    def call() -> dict[str, Any]:
        backward = protocol.method(model, "backward")
        assert backward is not None
        with protocol.repeatable(next(seeds)):
            returned = backward(*protocol.arguments(backward, {name: array.copy() for name, array in held.items()}))
        found: dict[str, Any] = {}
        for letter in ("z", "a", "dz", "dW", "db", "da"):
            for k, item in protocol.kept(model, letter, L).items():
                if not (letter == "a" and k == 0):
                    found[f"{letter}{k}"] = item
        if isinstance(returned, dict):
            for key, item in one_per_layer(returned, L):
                with contextlib.suppress(ValueError):
                    found["{}{}".format(*claim_name(key, L))] = item
        return found | protocol.returned_gradients(returned, W, b)

    answer = read(call(), L)
    extra = repeated(answer.claims, lambda: read(call(), L).claims, _reset(model))
    answer.claims = extra.claims
    answer.causes = (*answer.causes, *extra.causes)
    answer.notes = (*answer.notes, *extra.notes)
    if not b:
        answer.causes = tuple(cause for cause in answer.causes if cause.quantity.rstrip("0123456789") != "db")
    return answer, answer.claims


def _reset(model: Any) -> Callable[[], None] | None:
    """The model's own way to set its gradients to zero, if it has one that needs no arguments."""
    for name in ("zero_grad", "zero_grads", "zero_gradients", "reset_gradients", "reset_grads", "zero", "reset"):
        found = getattr(model, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def _raised(error: BaseException, notes: Sequence[str]) -> Report:
    kind = "exits" if isinstance(error, SystemExit) else "raises"
    return Report(False, (process_cause("backward", kind, described(error)),), notes=tuple(notes))


def _changes(model: Any, W: Sequence[Any], b: Sequence[Any]) -> tuple[Cause, ...]:
    """The finding that backward wrote into the parameters, if it did."""
    after = parameters(model)
    changed = [
        name
        for name, old, new in (("W", W, after[0]), ("b", b, after[1]))
        if len(old) == len(new) and not all(map(np.array_equal, old, new))
    ]
    return (changes_inputs("backward", changed),) if changed else ()


def _judged(
    model: Any,
    given: Description,
    loss: str | Callable[..., Any],
    name: str,
    reduction: str | None,
    notes: Sequence[str],
) -> Report:
    """The Report on the backward pass, by the description, or by the forward pass where that is another network.

    On a batch where units are saturated or dead, many networks have the same output.
    """
    report = _by_description(model, given, name, reduction, notes)
    if report.ok is not False or not callable(getattr(model, "forward", None)):
        return report
    W, b = parameters(model)
    try:
        own, _ = _own(copied(model), W, b, given.X, given.y, loss, reduction, given.layout)
        if _is_its_own(own, given, name, reduction):
            return report
        reason = Unrecognised(f"{', '.join(given.activations)} are not what it runs, though they have the same output")
        other = _by_own_forward(model, W, b, given.X, given.y, loss, reduction, given.layout, reason)
    except Unknown:
        return report
    return min((other, report), key=lambda one: own_forward.cost(one.causes))


def _is_its_own(own: Own, given: Description, loss: str, reduction: str | None) -> bool:
    """Whether the described network is the one that the forward pass runs, and not another with the same output."""
    names = own_forward.recognised(own)
    if names is not None:
        return names == given.activations
    gradient = own_forward.gradient(own)
    return gradient is None or _declared(given, loss, reduction, gradient).ok is not False


def _by_description(model: Any, given: Description, loss: str, reduction: str | None, notes: Sequence[str]) -> Report:
    """The Report on the backward pass after the forward pass that was described."""
    L = len(given.W)
    W, b = parameters(model)
    held = {"X": given.X.copy(), "y": given.given_y.copy(), "yhat": given.yhat.copy()}
    try:
        answer, claims = _claimed(model, W, b, held)
    except (Exception, SystemExit) as error:
        return _raised(error, notes)
    causes = (*answer.causes, *_changes(model, W, b))
    rest = finite(claims, L)
    report = _declared(given, loss, reduction, rest.claims)
    recognised = (
        f"recognised: widths {', '.join(map(str, given.sizes))}; activations {', '.join(given.activations)}; "
        f"loss {loss}, reduction {reduction or 'any'}; {given.layout} layout"
        + (", W stored the other way round" if given.turned else "")
    )
    report = with_findings(report, (*causes, *rest.causes), (*answer.notes, *rest.notes))
    ways = dict.fromkeys((*notes, *report.notes, recognised))
    return replace(report, inherited=(*report.inherited, *rest.inherited), notes=tuple(ways))


def _declared(given: Description, loss: str, reduction: str | None, claims: dict[str, Any]) -> Report:
    """The Report on claims, in the shapes of the model, for the network that was described."""
    if given.turned:
        claims = {name: claim.T if name.startswith("dW") else claim for name, claim in claims.items()}
    return audit_claims(
        sizes=given.sizes, activations=given.activations, loss=loss, reduction=reduction, layout=given.layout,
        W=given.W, b=given.b, X=given.X, y=given.y, claims=claims,
    )  # fmt: skip


def _by_own_forward(
    model: Any,
    W: Sequence[Any],
    b: Sequence[Any],
    X: Any,
    y: Any,
    loss: str | Callable[..., Any],
    reduction: str | None,
    layout: str | None,
    reason: Unknown,
) -> Report:
    """The Report by the model's own forward pass; y None: drawn so that it suits the output."""
    plain = copied(model)
    try:
        own, yhat = _own(plain, W, b, X, y, loss, reduction, layout)
    except NoMatrix:
        raise reason from None
    try:
        answer, claims = _claimed(plain, W, b, {"X": X, "y": own.y, "yhat": yhat})
    except (Exception, SystemExit) as error:
        return _raised(error, [])
    rest = finite(claims, len(W))
    try:
        report = own_forward.audited(replace(own, model=model), rest.claims)
    except Unknown as unknown:
        raise Unknown(f"{reason}; and its own forward pass gave no gradient to compare with: {unknown}") from None
    report = with_findings(report, (*answer.causes, *_changes(plain, W, b), *rest.causes), (*answer.notes, *rest.notes))
    note = f"judged by running the model's own forward pass, as {reason}"
    return replace(report, inherited=(*report.inherited, *rest.inherited), notes=(*report.notes, note))


class NoMatrix(Unknown):
    """The same: the forward pass returns no matrix."""


def _own(
    model: Any,
    W: Sequence[Any],
    b: Sequence[Any],
    X: Any,
    y: Any,
    loss: str | Callable[..., Any],
    reduction: str | None,
    layout: str | None,
) -> tuple[Own, Any]:
    """(the model with the loss that it is judged by, yhat); the model's forward pass is run."""
    unchanged = copied(model)
    yhat = protocol.forward(model, X.copy())
    if yhat is None or np.ndim(yhat) != 2:
        raise NoMatrix("forward returned no matrix yhat")
    yhat = np.array(yhat)
    own = Own(unchanged, W, b, X, y, 0, 0, lambda y, yhat: yhat)
    if layout is None:
        both = [way for way, sizes, _ in _ways(W, None) if _fits(way, sizes, X, yhat)]
        layout = (own_forward.layout_of(own) if len(set(both)) != 1 else None) or (both[0] if both else "row")
    units = 1 if layout == "row" else 0
    if y is None:
        y = _suiting(yhat, loss, units)
    elif y.shape != yhat.shape and y.size == yhat.size:
        y = y.reshape(yhat.shape)
    samples, outputs = yhat.shape[1 - units], yhat.shape[units]
    named: tuple[str, str] | None = None
    if isinstance(loss, str):
        if y.shape != yhat.shape:
            raise Unknown(f"y has the shape {y.shape}, the model's output {yhat.shape}")
        named = (loss, "mean_elements" if loss == "mse" else reduction or "mean")
        counted = REDUCTIONS[named[1]](samples, outputs)
        terms = own_forward.TERMS["sse" if loss == "mse" else loss]
        function: Loss = lambda y, yhat: terms(y, yhat) / counted  # noqa: E731
    else:
        given = loss
        function = (lambda y, yhat: given(yhat, y)) if _takes_prediction_first(given) else given
        name, found, _ = recognised_loss(function, outputs, layout)
        named = (name, found) if name is not None and found is not None else None
    return replace(own, y=y, samples=samples, outputs=outputs, loss=function, named=named), yhat


def _fits(layout: str, sizes: Sequence[int], X: Any, yhat: Any) -> bool:
    """Whether X and yhat are laid out so, for as many samples each."""
    units = 1 if layout == "row" else 0
    widths = (X.shape[units], yhat.shape[units]) == (sizes[0], sizes[-1])
    return widths and X.shape[1 - units] == yhat.shape[1 - units]


def _takes_prediction_first(loss: Callable[..., Any]) -> bool:
    try:
        names = [name.lower() for name in inspect.signature(loss).parameters]
    except (TypeError, ValueError):
        return False
    return len(names) > 1 and names[0] in protocol.ROLES["yhat"] and names[1] in protocol.ROLES["y"]


def _suiting(yhat: Any, loss: str | Callable[..., Any], units: int) -> Any:
    """Targets for an output: one class per sample for "ce" and probabilities that sum to 1, 0 and 1 within (0, 1)."""
    samples, outputs = yhat.shape[1 - units], yhat.shape[units]
    generator = np.random.default_rng(samples)
    named = isinstance(loss, str)
    inside = bool(((yhat > 0) & (yhat < 1)).all())
    sums = outputs > 1 and np.allclose(yhat.sum(axis=units), 1.0)
    if loss == "ce" or (not named and inside and sums):
        y = np.eye(outputs)[generator.permutation(np.arange(samples) % outputs)]
    elif loss == "bce" or (not named and inside):
        y = np.stack([generator.permutation(np.arange(samples) % 2) for _ in range(outputs)], axis=1).astype(float)
    else:
        y = generator.standard_normal((samples, outputs))
    return y if units == 1 else y.T.copy()
