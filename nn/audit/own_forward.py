"""The doctor for a model whose network has no name: the truth comes from running its own forward pass and loss.

They run on Tensors, so that any residual connection, mask or activation written with NumPy is differentiated as it
stands; the gradient is checked against differences of the same forward pass on plain numbers. Where the code leaves
the graph, differences alone are the truth, and less can be named. Glossary as in nn.by_hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from autodiff import Tensor
from autodiff.graph import order
from nn.audit.child import described
from nn.audit.graphs import audit_graph
from nn.audit.protocol import Unknown, copied, forward, initialized, install, slots
from nn.audit.report import Cause, Report, merged

__all__ = ["Own", "audited"]

Loss = Callable[[Any, Any], Any]  # of (y, yhat), one number
ROUNDING = 1e4  # times eps: what a gradient written in another form may differ by, relative to its largest element
TERMS: dict[str, Loss] = {  # in functions that run on Tensors
    "sse": lambda y, yhat: np.sum((yhat - y) ** 2),
    "half_sse": lambda y, yhat: 0.5 * np.sum((yhat - y) ** 2),
    "bce": lambda y, yhat: -np.sum(y * np.log(yhat) + (1.0 - y) * np.log(1.0 - yhat)),
    "ce": lambda y, yhat: -np.sum(y * np.log(yhat)),
}


@dataclass
class Own:
    """A model with its parameters as they are at this batch, and the loss that it is judged by."""

    model: Any
    W: Sequence[Any]  # as the model stores them
    b: Sequence[Any]
    X: Any
    y: Any
    samples: int
    outputs: int
    loss: Loss

    @property
    def parameters(self) -> dict[str, Any]:
        """{"W1": array, "b1": array, ...}."""
        named = {f"W{k}": w for k, w in enumerate(self.W, start=1)}
        return named | {f"b{k}": bias for k, bias in enumerate(self.b, start=1)}


def audited(own: Own, claims: Mapping[str, Any]) -> Report:
    """The Report on the claims dW1, db1, ... (and dz1, ... where their nodes are found), in the shapes of the model.

    Unknown where the loss is no differentiable function of the parameters that are found.
    """
    try:
        graph = _recorded(own)
    except _Leaves as left:
        graph = None
        reason = str(left)
    if graph is not None:
        return _by_graph(own, graph, claims)
    gradients, off = _differences(own)
    return _by_numbers(own, gradients, off, claims, f"its forward pass cannot be recorded ({reason})")


class _Leaves(Exception):
    """Why the forward pass does not run on Tensors."""


# ---------------------------------------------------------------- two ways to the truth
def _recorded(own: Own) -> Any:
    """The loss as a Tensor, its parameters named W1, b1, ..."""
    twin = initialized(copied(own.model))
    install(twin, own.W, own.b)
    for letter in ("W", "b"):
        for k, slot in enumerate(slots(twin, letter), start=1):
            slot.set(Tensor(np.array(slot.get(), dtype=float), name=f"{letter}{k}"))
        if any(not isinstance(slot.get(), Tensor) for slot in slots(twin, letter)):
            raise _Leaves(f"{letter} cannot be replaced")
    try:
        yhat = forward(twin, own.X.copy())
        loss = own.loss(own.y.copy(), yhat)
    except Unknown as unknown:
        raise _Leaves(str(unknown)) from None
    except Exception as error:  # a foreign loss
        raise _Leaves(f"the loss {described(error)}") from None
    if not isinstance(loss, Tensor) or loss.size != 1:
        raise _Leaves("it turns nodes into plain numbers")
    try:
        loss.backward()
    except Exception as error:
        raise _Leaves(described(error)) from None
    leaves = {node.name: node for node in order(loss) if node.name}
    value, slope = loss.item(), 0.0
    generator = np.random.default_rng(own.samples)
    steps = {name: generator.standard_normal(np.shape(array)) for name, array in own.parameters.items()}
    for name, step in steps.items():
        if name in leaves:
            slope += float(np.sum(leaves[name].grad * step))
    measured = [(_at(own, steps, h) - _at(own, steps, -h)) / (2 * h) for h in (1e-4, 1e-6)]
    if not any(np.isclose(slope, one, rtol=1e-4, atol=1e-7 * (1 + abs(value))) for one in measured):
        raise _Leaves("part of it leaves the graph: its gradient differs from differences")
    return loss


def _at(own: Own, steps: Mapping[str, Any], h: float) -> float:
    """The loss at the parameters plus h times the steps, on a copy."""
    moved = {name: array + h * steps[name] if name in steps else array for name, array in own.parameters.items()}
    twin = initialized(copied(own.model))
    for letter in ("W", "b"):
        for k, slot in enumerate(slots(twin, letter), start=1):
            if f"{letter}{k}" not in moved:
                continue
            new, old = np.array(moved[f"{letter}{k}"], dtype=float).reshape(np.shape(slot.get())), slot.get()
            slot.set(new)
            if slot.get() is not new and isinstance(old, np.ndarray):
                old[...] = new
    try:
        return float(np.asarray(own.loss(own.y.copy(), forward(twin, own.X.copy()))).item())
    except Unknown:
        raise
    except Exception as error:  # a foreign loss
        raise Unknown(f"the loss {described(error)}") from None


def _differences(own: Own) -> tuple[dict[str, Any], dict[str, Any]]:
    """({"W1": dL/dW1, ...}, {"W1": how far it may be off}) by central differences of two steps, extrapolated."""
    gradients: dict[str, Any] = {}
    off: dict[str, Any] = {}
    for name, array in own.parameters.items():
        found, error = np.zeros(np.shape(array)), np.zeros(np.shape(array))
        for index in np.ndindex(np.shape(array)):
            step = np.zeros(np.shape(array))
            step[index] = 1.0
            wide, narrow = ((_at(own, {name: step}, h) - _at(own, {name: step}, -h)) / (2 * h) for h in (2e-3, 1e-3))
            found[index] = (4.0 * narrow - wide) / 3.0
            error[index] = abs(narrow - wide)
        gradients[name], off[name] = found, error + 1e-9
    return gradients, off


# ---------------------------------------------------------------- judged on the graph
def _by_graph(own: Own, loss: Any, claims: Mapping[str, Any]) -> Report:
    nodes = order(loss)
    leaves = {node.name: node for node in nodes if node.name}
    unused = sorted(set(own.parameters) - set(leaves))
    truth = {name: node.grad for name, node in leaves.items()}
    truth |= {name: np.zeros(np.shape(own.parameters[name])) for name in unused}
    steps = _affine(nodes, leaves)
    for name, node in steps.items():
        node.name = name
    notes = [f"{name} is not used in the forward pass" for name in unused]
    given = {name[1:]: np.asarray(claim) for name, claim in claims.items() if name[0] == "d"}
    parameters = {name: _shaped(given[name], np.shape(truth[name])) for name in truth if name in given}
    right = {name: _agrees(claim, truth[name]) for name, claim in parameters.items()}
    if all(right.values()):
        return Report(True, right=tuple(f"d{name}" for name in right), notes=tuple(notes))
    # what is right but for rounding is handed on as it should be, so that no bound on rounding makes a cause of it
    held = {name: truth[name] if right[name] else claim for name, claim in parameters.items() if name in leaves}
    upstream = {name: claim for name, claim in given.items() if name in steps and claim.shape == steps[name].shape}
    readings = []
    for scale in dict.fromkeys((1.0, 1.0 / own.samples, 1.0 / (own.samples * own.outputs))):
        report = audit_graph(loss, held | {name: scale * claim for name, claim in upstream.items()})
        readings.append(_gathered(own, loss, report, held, leaves, steps, parameters, truth))
    best = min(readings, key=lambda reading: _cost(reading.causes))
    return replace(best, ok=False, notes=tuple(dict.fromkeys((*notes, *best.notes))))


def _cost(causes: Sequence[Cause]) -> float:
    return sum(1.5 if cause.kind == "unexplained" else 1.0 for cause in causes)


def _shaped(claim: Any, shape: tuple[int, ...]) -> Any:
    """The claim in the shape of the parameter, where they differ by axes of length 1 only."""
    squeezed = [n for n in claim.shape if n != 1] == [n for n in shape if n != 1]
    return claim.reshape(shape) if squeezed and claim.size == np.prod(shape) else claim


def _agrees(claim: Any, truth: Any) -> bool:
    if claim.shape != np.shape(truth):
        return False
    eps = np.finfo(claim.dtype if claim.dtype.kind == "f" else float).eps
    return bool((np.abs(claim - truth) <= ROUNDING * eps * np.max(np.abs(truth), initial=0.0)).all())


def _affine(nodes: Sequence[Any], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """{"z1": node, ...}: what is made from b_k and has the size of a batch."""
    found: dict[str, Any] = {}
    for node in reversed(nodes):  # from the leaves on
        for operand in node.operands if node.op is not None else ():
            name = getattr(operand, "name", None) or ""
            if isinstance(operand, Tensor) and name in leaves and name[0] == "b" and node.size > operand.size:
                found.setdefault(f"z{name[1:]}", node)
    return found


def _gathered(
    own: Own,
    loss: Any,
    report: Report,
    held: Mapping[str, Any],
    leaves: Mapping[str, Any],
    steps: Mapping[str, Any],
    claims: Mapping[str, Any],
    truth: Mapping[str, Any],
) -> Report:
    """The report on nodes as one on dW, db and dz of layers; what dW_k and db_k share is told of dz_k, once."""
    inherited = [f"d{name}" for name in report.inherited]
    causes = []
    for cause, places in zip(report.causes, report.context["places"], strict=True):
        for name, words in places.items():
            found = _of_layer(own, replace(cause, quantity=name, message=words), claims, truth)
            pair = {f"dW{found.layer}", f"db{found.layer}"} & {f"d{other}" for other in claims}
            follow = {other for other in pair if other[1:] not in report.right}
            if cause.origin and follow == pair and f"z{found.layer}" not in places:
                found = _of_step(found)
                inherited += sorted(pair)
            causes.append(replace(found, origin=""))
    # an unused parameter has no node, and its gradient is zero
    for name in sorted(set(truth) - set(leaves)):
        if name in claims and not _agrees(claims[name], truth[name]):
            causes.append(_cause(name, "unexplained", "it is not zero, though the loss does not depend on it"))
    order_ = {"z": 0, "W": 1, "b": 2}
    causes.sort(key=lambda cause: (-(cause.layer or 0), order_.get(cause.quantity[1], 3)))
    told = {cause.quantity for cause in causes}
    right = tuple(f"d{name}" for name in report.right)
    follows = tuple(name for name in dict.fromkeys(inherited) if name not in told)
    return replace(report, causes=merged(causes), inherited=follows, right=right, context={})


def _shared(causes: list[Cause], claimed: set[str], steps: set[str]) -> tuple[list[Cause], list[str]]:
    """(causes, what inherits): dW_k and db_k that are wrong alike are one cause at dz_k, with the layers below it."""
    table = {cause.quantity: cause for cause in causes}
    kept, inherited = [cause for cause in causes if cause.quantity[1] not in "Wb"], list[str]()
    before: tuple[str, str | None] | None = None  # how the layer above is wrong
    for layer in sorted({cause.layer for cause in causes if cause.layer}, reverse=True):
        pair = [table[name] for name in (f"dW{layer}", f"db{layer}") if name in table]
        both = len(pair) == 2 or (len(pair) == 1 and f"db{layer}" not in claimed)
        alike = both and len({(cause.kind, cause.factor) for cause in pair}) == 1 and pair[0].kind != "shape"
        if not pair or not alike or f"dz{layer}" in claimed:
            kept += pair
            before = None
            continue
        first = pair[0]
        if before is not None and (before == (first.kind, first.factor) or before[0] == first.kind == "unexplained"):
            inherited += [cause.quantity for cause in pair]
            continue
        kept.append(_of_step(first))
        inherited += [cause.quantity for cause in pair]
        before = (first.kind, first.factor)
    return kept, inherited


def _of_step(cause: Cause) -> Cause:
    """The cause that dW_k and db_k share, told of dz_k."""
    layer = cause.layer
    words = cause.message
    if cause.kind == "unexplained":
        words = f"dW{layer} and db{layer} are both wrong, so that dz{layer}, which is not claimed, is"
    expected = f"dz{layer} = da{layer} * f'(z{layer})"
    return _of_activation(
        replace(cause, quantity=f"dz{layer}", message=words, found=None, expected=expected, index=None)
    )


def _of_activation(cause: Cause) -> Cause:
    """A cause at dz_k, of an operation between z_k and the next layer, in the words of a layer."""
    if cause.kind != "operand" or "matmul" in cause.message:
        return cause
    if cause.rule == "as it came":
        words = f"the derivative of the activation is missing: dz{cause.layer} is dL/da{cause.layer} as it came"
        mend = f"multiply by f'(z{cause.layer})"
    elif cause.message.startswith("the local derivative of mul is missing"):
        words = "a factor of the forward pass, such as a dropout mask, is left out"
        mend = "multiply by what the forward pass multiplied with"
    else:
        words = f"the derivative of what makes a{cause.layer} from z{cause.layer} is wrong: {cause.message}"
        mend = f"work out f'(z{cause.layer}) again, term by term"
    expected = f"dz{cause.layer} = da{cause.layer} * f'(z{cause.layer})"
    return replace(cause, kind="activation-derivative", message=words, found=None, expected=expected, fix=mend)


def _of_layer(own: Own, cause: Cause, claims: Mapping[str, Any], truth: Mapping[str, Any]) -> Cause:
    """The cause at a node W1 as one at dW1."""
    name = cause.quantity
    layer = int(name[1:])
    rule = cause.rule.partition(": ")[2] or cause.rule
    found = replace(cause, quantity=f"d{name}", layer=layer, layers=(layer,), rule=rule)
    if name[0] == "z":
        return _of_activation(found)
    if cause.kind in ("shape", "transposed", "axis"):
        return found
    named = _of_numbers(own, name, claims[name], truth[name], 1e-9 * np.max(np.abs(truth[name]), initial=0.0))
    if cause.kind == "unexplained" or named.kind in ("factor", "extra-term", "zero"):
        return replace(named, index=cause.index, claimed=cause.claimed, right=cause.right)
    return found


# ---------------------------------------------------------------- judged on numbers alone
def _by_numbers(
    own: Own, gradients: Mapping[str, Any], off: Mapping[str, Any], claims: Mapping[str, Any], why: str
) -> Report:
    """The Report where nothing but dL/dW and dL/db is known, and these to a few digits."""
    causes, right = [], []
    for name, truth in gradients.items():
        if f"d{name}" not in claims:
            continue
        claim = _shaped(np.asarray(claims[f"d{name}"]), truth.shape)
        bound = 4 * off[name] + 1e-6 * np.max(np.abs(truth), initial=0.0)
        if claim.shape == truth.shape and (np.abs(claim - truth) <= bound).all():
            right.append(f"d{name}")
        else:
            causes.append(_of_numbers(own, name, claim, truth, bound))
    kept, inherited = _shared(causes, {name for name in claims if name[1] in "Wb"}, set())
    note = f"{why}, and its gradients were compared with differences of the loss, to about six digits"
    return Report(not causes, merged(kept), tuple(inherited), tuple(right), (note,))


def _of_numbers(own: Own, name: str, claim: Any, truth: Any, bound: Any) -> Cause:
    """What a wrong claim is of the right gradient."""
    if claim.shape != np.shape(truth):
        if claim.shape == np.shape(truth)[::-1]:
            return _cause(name, "transposed", f"it is transposed: {claim.shape} for {np.shape(truth)}")
        return _cause(name, "shape", f"it has the shape {claim.shape}, expected {np.shape(truth)}")
    at = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(claim - truth)), claim.shape))
    return replace(
        _of_values(own, name, claim, truth, bound), index=at, claimed=float(claim[at]), right=float(truth[at])
    )


def _of_values(own: Own, name: str, claim: Any, truth: Any, bound: Any) -> Cause:
    def close(one: Any, other: Any) -> bool:  # the claim and what is fitted to it are both off a little
        return bool((np.abs(one - other) <= 4 * bound + 1e-6 * np.abs(other).max()).all())

    if not claim.any():
        return _cause(name, "zero", "it is zero")
    if claim.shape[0] == claim.shape[-1] and close(claim, truth.T):
        return _cause(name, "transposed", "it is transposed", f"take d{name}^T")
    size = float(np.sum(truth * truth))
    factor = float(np.sum(claim * truth)) / size if size else 0.0
    if factor and close(claim, factor * truth):
        told = _symbol(factor, own.samples, own.outputs)
        flipped = told == "-1"
        words = "its sign is flipped" if flipped else f"it carries a factor {told} (n = {own.samples})"
        fix = "change its sign" if flipped else f"multiply by {told[2:].strip('()')}" if told[:2] == "1/" else None
        return replace(_cause(name, "factor", words, fix or f"divide by {told}"), factor=told)
    array = np.asarray(own.parameters[name])
    rest = claim - truth
    for words, term in (("", array), ("the sign of ", np.sign(array))):
        weight = float(np.sum(rest * term)) / (float(np.sum(term * term)) or 1.0)
        if weight and close(rest, weight * term):
            told = f"{weight:.6g}"
            sentence = f"a term is added: {told} times {words}{name}, as of a penalty that the loss does not have"
            return replace(
                _cause(name, "extra-term", sentence, "leave it out, or add the penalty to the loss"), factor=told
            )
    return _cause(name, "unexplained", "it differs from the gradient, in a way not known here")


def _cause(name: str, kind: str, message: str, fix: str | None = None) -> Cause:
    layer = int(name[1:])
    return Cause(f"d{name}", layer, (layer,), kind, message, expected=f"d{name} = dL/d{name}", fix=fix, rule=message)


def _symbol(factor: float, n: int, m: int) -> str:
    """A factor in the numbers that it is likely made of."""
    sizes = {"n": n, "m": m, "n*m": n * m}
    candidates = {"-1": -1.0, "2": 2.0, "1/2": 0.5, "-2": -2.0, "-1/2": -0.5}
    candidates |= {name: float(size) for name, size in sizes.items() if size != 1}
    for name, size in sizes.items():
        below = f"({name})" if "*" in name else name
        for sign in ("", "-") if size != 1 else ():
            candidates |= {f"{sign}{name}": float(f"{sign}{size}"), f"{sign}1/{below}": float(f"{sign}1") / size}
    candidates |= {"2/n": 2.0 / n, "n/2": n / 2.0, "n^2": float(n * n), "1/n^2": 1.0 / (n * n)}
    for told, value in candidates.items():
        if np.isclose(factor, value, rtol=1e-5):
            return told
    simple = Fraction(factor).limit_denominator(12)
    return str(simple) if np.isclose(float(simple), factor, rtol=1e-6) else f"{factor:.6g}"
