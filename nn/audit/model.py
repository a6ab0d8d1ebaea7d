"""The doctor for a model in the tutorial's protocol: what its forward pass does is recognised, its backward judged.

The protocol: forward(X), backward(y, yhat) and lists W b z a dz dW db da, one entry per layer after a placeholder at
[0]. Nobody has to describe the network: the layout follows from shapes and numbers, activations from a_k against z_k,
the loss from its values. Glossary as in nn.by_hand.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nn.audit.child import described
from nn.audit.diagnosis import audit_claims
from nn.audit.function import Answer, agreed, batch_sizes, changes_inputs, finite, probe, read, with_findings
from nn.audit.report import Cause, Report
from nn.by_hand import ACTIVATIONS, LOSSES, REDUCTIONS

__all__ = ["audit_model", "audit_model_on_probes", "is_model", "recognised_loss"]

GRADIENTS = ("dz", "dW", "db", "da")
CLOSE = 1e-5  # a function is recognised to what float32 and a clipped argument leave of it
SIZES = ("layersizes", "layer_sizes", "sizes", "layers", "dims", "layer_dims")
ROLES = {  # what a parameter of backward is called, by what it is given
    "X": ("x", "inputs", "input", "data"),
    "y": ("y", "y_true", "target", "targets", "labels", "label", "t", "ytrue"),
    "yhat": ("yhat", "y_hat", "y_pred", "ypred", "output", "outputs", "pred", "preds", "prediction", "predictions"),
}


class Unknown(Exception):
    """What keeps the doctor from a verdict, in a sentence."""

    stage = 2  # how far it got: of several ways to lay out a batch, the one that got furthest is told of


class Failed(Unknown):
    """The same: the forward pass raised."""

    stage = 1


class Misfit(Unknown):
    """The same: shapes or numbers are not those of this layout."""

    stage = 0


def is_model(candidate: Any) -> bool:
    """Whether an object, or a class, has the methods of the protocol."""
    return all(callable(getattr(candidate, name, None)) for name in ("forward", "backward"))


def audit_model(
    model: Any,
    X: Any,
    y: Any,
    loss: str | Callable[..., Any],
    *,
    reduction: str | None = None,
    layout: str | None = None,
) -> Report:
    """The Report on model.backward at the model's own parameters, on the batch X, y.

    loss: a name out of nn.by_hand.LOSSES, or a function (y, yhat), whose values tell which it is and how it is reduced
    over the batch. reduction: by default that of the function, or "mean" for a name. layout: "row" or "column", by
    default whichever fits. The model is copied first and stays as it is. What was recognised stands in the notes; what
    cannot be makes the report undecidable. Runs in this process, without a time limit.

    >>> from nn.by_hand import MLP
    >>> model = MLP([2, 3, 1], ["tanh", "sigmoid"], "bce").initialize()
    >>> X, y = np.array([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]]), np.array([[1.0], [0.0], [1.0]])
    >>> audit_model(model, X, y, "bce").verdict
    'right'
    >>> audit_model(model, X, y, "half_sse").verdict
    'wrong'
    """
    try:
        twin = _copied(model)
        description = _described(twin, np.array(X), np.array(y), layout)
        name, found, notes = _loss(loss, description)
        return _judged(twin, description, name, reduction or found, notes)
    except Unknown as unknown:
        return Report(None, notes=(str(unknown),))


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
    try:
        widths = _widths(_initialized(_copied(model)), layout)
        reports = []
        for samples in (*batch_sizes([])[:2],) if not widths else batch_sizes(widths[0][1]):
            reports.append(_on_probe(model, widths, loss, reduction, samples, seed))
            if len(reports) == 2 and _causes(reports[0]) == _causes(reports[1]):
                break
        return agreed(reports)
    except Unknown as unknown:
        return Report(None, notes=(str(unknown),))


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
            twin = _initialized(_copied(model))
            smooth = probe(sizes, ["identity"] * L, "sse", layout, samples, seed)
            _install(twin, smooth.W, smooth.b, turned)
            description = _described(twin, smooth.X, smooth.y, layout)
            name, found, notes = _loss(loss, description)
            drawn = probe(sizes, description.activations, name, layout, samples, seed)
            twin = _initialized(_copied(model))
            _install(twin, drawn.W, drawn.b, turned)
            description = _described(twin, drawn.X, drawn.y, layout, description.activations)
        except Unknown as unknown:
            reasons.append(unknown)
            continue
        return _judged(twin, description, name, reduction or found, notes)
    raise _telling(reasons) if reasons else Unknown("the shapes of W do not fit together, layer by layer")


def _telling(reasons: Sequence[Unknown]) -> Unknown:
    """The reason that got furthest."""
    return max(reasons, key=lambda reason: reason.stage)


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


def _copied(model: Any) -> Any:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise Unknown(
            f"the model cannot be copied, and is not run lest it change: copying {described(error)}"
        ) from None


def _initialized(model: Any) -> Any:
    """The model, its parameters drawn by its own method where it has none yet."""
    if not any(_is_matrix(item) for item in getattr(model, "W", None) or []):
        for name in ("initialize", "init", "initialise", "init_weights"):
            method = getattr(model, name, None)
            if callable(method):
                try:
                    method()
                except Exception as error:
                    raise Unknown(f"the model has no W yet, and {name}() {described(error)}") from None
                break
    return model


def _is_matrix(item: Any) -> bool:
    return item is not None and np.ndim(item) == 2


def _layers(model: Any, name: str) -> list[Any]:
    """The entries of a list of the model for the layers 1..L, without the placeholder; [] where there is none."""
    listed = getattr(model, name, None)
    if isinstance(listed, dict):
        listed = [listed.get(k) for k in range(max((k for k in listed if isinstance(k, int)), default=0) + 1)]
    if not isinstance(listed, list | tuple | np.ndarray):
        return []
    found = list(listed)
    return found[1:] if found and found[0] is None else found


def _parameters(model: Any) -> tuple[list[Any], list[Any]]:
    W = _layers(model, "W")
    if not W or not all(_is_matrix(item) for item in W):
        raise Unknown(
            "the model has no list W with one matrix per layer (and a placeholder at [0]); the protocol is forward, "
            "backward and lists W b z a dz dW db da"
        )
    b = _layers(model, "b")
    return [np.array(w) for w in W], [np.array(bias) for bias in b] if len(b) == len(W) else []


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
    return _ways(_parameters(model)[0], layout)


def _install(model: Any, W: Sequence[Any], b: Sequence[Any], turned: bool) -> None:
    """Writes parameters into a model; in place where it can, since others may hold the same arrays."""
    for name, arrays in (("W", W), ("b", b)):
        listed = getattr(model, name, None)
        if listed is None or not _layers(model, name):
            continue
        first = len(listed) - len(_layers(model, name))
        for k, array in enumerate(arrays, start=first):
            new, old = (array.T if turned and name == "W" else array), listed[k]
            if old is not None and np.ndim(old) == 1:
                new = new.reshape(-1)
            if old is not None and np.shape(old) != new.shape:
                raise Misfit(f"{name}{k} has the shape {np.shape(old)}, expected {new.shape}")
            if isinstance(old, np.ndarray) and old.dtype.kind == "f":
                old[...] = new
            else:
                listed[k] = new.copy()


def _called(model: Any, name: str, *arguments: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return getattr(model, name)(*arguments)
    except (Exception, SystemExit) as error:
        raise Failed(f"{name} {described(error)}") from None


def _described(model: Any, X: Any, y: Any, layout: str | None, activations: Sequence[str] | None = None) -> Description:
    """What the model's own forward pass on X shows; fills its z and a. Unknown where that is not enough."""
    model = _initialized(model)
    W, b = _parameters(model)
    if X.ndim != 2:
        raise Unknown(f"X has the shape {X.shape}, expected a matrix with one sample per row, or per column")
    fitting = [way for way in _ways(W, layout) if X.shape[way[0] == "row"] == way[1][0]]
    if not fitting:
        raise Misfit(f"X has the shape {X.shape}, which does not fit to W1 of shape {W[0].shape}")
    output = _called(model, "forward", X.copy())
    a = _layers(model, "a")
    if len(a) == len(W) + 1:
        a = a[1:]
    yhat = output if output is not None else a[-1] if a else None
    if yhat is None or np.ndim(yhat) != 2:
        raise Unknown("forward returned no matrix yhat, and left none in a[-1]")
    yhat = np.array(yhat)
    z = _layers(model, "z")[-len(W) :]
    reasons: list[Unknown] = []
    for way, sizes, turned in fitting:
        turn = W if not turned else [w.T for w in W]
        try:
            names = _activations(way, turn, b, X, z, a, yhat, activations)
        except Unknown as unknown:
            reasons.append(unknown)
            continue
        target = y if y.ndim == 2 else y.reshape((-1, 1) if way == "row" else (1, -1))
        if target.shape != yhat.shape:
            raise Unknown(f"y has the shape {y.shape}, the model's output {yhat.shape}")
        biases = b or [np.zeros((1, units) if way == "row" else (units, 1)) for units in sizes[1:]]
        return Description(way, turned, sizes, names, turn, biases, X, target, yhat, target)
    raise _telling(reasons)


def _activations(
    layout: str,
    W: Sequence[Any],
    b: Sequence[Any],
    X: Any,
    z: Sequence[Any],
    a: Sequence[Any],
    yhat: Any,
    known: Sequence[str] | None,
) -> tuple[str, ...]:
    """The names of the activations, from z_k and a_k; where a list is missing it is worked out from what is there."""
    names: list[str] = []
    before = X
    for k, weights in enumerate(W, start=1):
        affine = before @ weights if layout == "row" else weights @ before
        with_bias = affine
        if b:
            bias = np.asarray(b[k - 1])
            with_bias = affine + (bias if bias.ndim == 2 else bias.reshape((1, -1) if layout == "row" else (-1, 1)))
        own = np.array(z[k - 1], dtype=float) if len(z) == len(W) and z[k - 1] is not None else with_bias
        if own.shape != affine.shape:
            raise Misfit(f"z{k} has the shape {own.shape}, expected {affine.shape} in the {layout} layout")
        if k == 1 and not any(np.allclose(own, maybe, rtol=CLOSE, atol=CLOSE) for maybe in (with_bias, affine)):
            raise Misfit(f"z1 is not X and W1 multiplied, plus b1, in the {layout} layout")
        after = yhat if k == len(W) else np.array(a[k - 1], dtype=float) if len(a) >= k else None
        if after is None:
            raise Unknown(f"the model keeps no a{k}, so that its activation cannot be recognised")
        fitting = [name for name in ACTIVATIONS if _matches(name, own, after, layout)]
        if known is not None and known[k - 1] in fitting:
            fitting = [known[k - 1]]
        if not fitting:
            raise Unknown(f"a{k} is none of {', '.join(ACTIVATIONS)} of z{k}: the activation of layer {k} is not known")
        names.append(fitting[0])
        before = after
    return tuple(names)


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
        raise Unknown(notes[0])
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
        total = loss.terms(y, yhat).sum()
        if returned.size == 1:
            for reduction, count in REDUCTIONS.items():
                if np.isclose(returned.item(), total / count(samples, outputs), rtol=CLOSE):
                    fits.add((name, reduction, swapped))
        elif returned.size in (samples, y.size) and np.isclose(returned.sum(), total, rtol=CLOSE):
            fits.add((name, None, swapped))
    return fits


# ---------------------------------------------------------------- the backward pass
def _judged(model: Any, given: Description, loss: str, reduction: str | None, notes: Sequence[str]) -> Report:
    """The Report on the backward pass after the forward pass that was described."""
    L = len(given.W)
    held = {"X": given.X.copy(), "y": given.given_y.copy(), "yhat": given.yhat.copy()}
    try:
        with np.errstate(all="ignore"):
            model.backward(*_arguments(model.backward, {name: array.copy() for name, array in held.items()}))
    except (Exception, SystemExit) as error:
        cause = Cause("backward", None, (), "raises", f"it {described(error)}", fix="make it run through first")
        return Report(False, (cause,), notes=tuple(notes))
    claims: dict[str, Any] = {}
    for name in ("z", "a", *GRADIENTS):
        listed = getattr(model, name, None)
        layers = _layers(model, name)
        first = 0 if name in ("a", "da") and len(layers) == L + 1 else 1
        if listed is not None and len(layers) == L + 1 and first == 1:
            layers = layers[1:]
        for k, item in enumerate(layers, start=first):
            if item is not None and k <= L and not (name == "a" and k == 0):
                claims[f"{name}{k}"] = np.array(item).T if name == "dW" and given.turned else item
    answer: Answer = read(claims, L)
    if not any(_layers(model, "b")[k] is not None for k in range(len(_layers(model, "b")))):
        answer.causes = tuple(cause for cause in answer.causes if cause.quantity.rstrip("0123456789") != "db")
    after = _parameters(model)
    changed = [
        name
        for name, old, new in (("W", given.W, after[0]), ("b", given.b, after[1]))
        if len(old) == len(new)
        and not all(
            np.array_equal(was, now.T if given.turned and name == "W" else now)
            for was, now in zip(old, new, strict=True)
        )
    ]
    causes = (*answer.causes, *([changes_inputs("backward", changed)] if changed else []))
    rest = finite(answer.claims, L)
    report = audit_claims(
        sizes=given.sizes, activations=given.activations, loss=loss, reduction=reduction, layout=given.layout,
        W=given.W, b=given.b, X=given.X, y=given.y, claims=rest.claims,
    )  # fmt: skip
    recognised = (
        f"recognised: widths {', '.join(map(str, given.sizes))}; activations {', '.join(given.activations)}; "
        f"loss {loss}, reduction {reduction or 'any'}; {given.layout} layout"
        + (", W stored the other way round" if given.turned else "")
    )
    report = with_findings(report, (*causes, *rest.causes), (*answer.notes, *rest.notes))
    ways = dict.fromkeys((*notes, *report.notes, recognised))
    return replace(report, inherited=(*report.inherited, *rest.inherited), notes=tuple(ways))


def _arguments(backward: Callable[..., Any], held: dict[str, Any]) -> list[Any]:
    """The arguments of backward by the names of its parameters; (y, yhat) where they say nothing."""
    try:
        parameters = list(inspect.signature(backward).parameters.values())
    except (TypeError, ValueError):
        return [held["y"], held["yhat"]]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    found = []
    for parameter in positional:
        role = next((role for role, names in ROLES.items() if parameter.name.lower() in names), None)
        if role is None:
            break
        found.append(held[role])
    needed = [p for p in positional if p.default is p.empty]
    if len(found) >= len(needed):
        return found
    return [held["y"], held["yhat"]] if len(positional) == 2 or not positional else [*held.values()][: len(positional)]
