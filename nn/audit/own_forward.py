"""The doctor for a model whose network has no name: the truth comes from running its own forward pass and loss.

They run on Tensors, so that any residual connection, mask or activation written with NumPy is differentiated as it
stands; the gradient is checked against differences of the same forward pass on plain numbers. Where the code leaves
the graph, differences alone are the truth, and less can be named. Glossary as in nn.by_hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from autodiff import Tensor
from autodiff.graph import order
from nn.audit import walk
from nn.audit.chain import Chain, NoChain, chain, layout_of, other_factor
from nn.audit.child import described
from nn.audit.claims import Case, Precision
from nn.audit.diagnosis import diagnosed
from nn.audit.graphs import audit_graph
from nn.audit.own_functions import follows
from nn.audit.own_model import Loss, Own, Runs
from nn.audit.protocol import Unknown, copied, forward, initialized, slots
from nn.audit.report import Cause, Report, merged
from nn.audit.rules import SAFETY

__all__ = ["Own", "audited", "cost", "gradient", "layout_of", "recognised"]

DETACHED = "part of it leaves the graph: its gradient differs from differences"
ROUNDING = 1e4  # times eps: what a gradient written in another form may differ by, relative to its largest element


def _weighted_log(y: Any, yhat: Any) -> Any:
    """The sum of y log yhat, where a y of 0 means that its term is absent."""
    return np.sum(y * np.log(np.where(y == 0, 1.0, yhat)))


TERMS: dict[str, Loss] = {  # in functions that run on Tensors
    "sse": lambda y, yhat: np.sum((yhat - y) ** 2),
    "half_sse": lambda y, yhat: 0.5 * np.sum((yhat - y) ** 2),
    "bce": lambda y, yhat: -(_weighted_log(y, yhat) + _weighted_log(1.0 - y, 1.0 - yhat)),
    "ce": lambda y, yhat: -_weighted_log(y, yhat),
}


def audited(own: Own, claims: Mapping[str, Any]) -> Report:
    """The Report on the claims dW1, db1, ... (and dz1, ... where their nodes are found), in the shapes of the model.

    Unknown where the loss is no differentiable function of the parameters that are found.
    """
    with np.errstate(all="ignore"):
        return _audited(own, claims)


def _audited(own: Own, claims: Mapping[str, Any]) -> Report:
    try:
        loss = _recorded(own)
        try:
            return _by_chain(own, chain(own), loss, claims)
        except NoChain:
            _checked_by_differences(own, {node.name: node.grad for node in order(loss) if node.name})
            return _by_graph(own, loss, claims)
    except _Leaves as left:
        gradients, off = _differences(own)
        if not all(np.isfinite(found).all() for found in gradients.values()):
            raise Unknown("its loss is not finite nearby") from None
        return _by_numbers(own, gradients, off, claims, f"its forward pass cannot be recorded ({left})")


def gradient(own: Own) -> dict[str, Any] | None:
    """{"dW1": array, ...} of the model's own forward pass; None where it cannot be recorded."""
    try:
        with np.errstate(all="ignore"):
            loss = _recorded(own)
    except _Leaves:
        return None
    return {f"d{node.name}": node.grad for node in order(loss) if node.name}


def recognised(own: Own) -> tuple[Any, ...] | None:
    """The names of the activations, None where one has none, of a chain of layers; None where it is no chain."""
    try:
        with np.errstate(all="ignore"):
            functions = chain(own).functions
    except NoChain:
        return None
    return tuple(f if isinstance(f, str) else None for f in functions)


class _Leaves(Exception):
    """Why the forward pass does not run on Tensors."""


# ---------------------------------------------------------------- two ways to the truth
def _recorded(own: Own) -> Any:
    """The loss as a Tensor, its parameters named W1, b1, ..."""
    runs = Runs(own)
    given = {name: Tensor(array, name=name) for name, array in runs.stored.items()}
    try:
        yhat = runs(given)
        loss = own.loss(own.y.copy(), yhat)
    except Unknown as unknown:
        raise _Leaves(str(unknown)) from None
    except Exception as error:  # a foreign loss
        raise _Leaves(f"the loss {described(error)}") from None
    if not runs.holds(given):
        raise _Leaves("its parameters cannot be replaced")
    if not isinstance(loss, Tensor) or loss.size != 1:
        raise _Leaves("it turns nodes into plain numbers")
    try:
        loss.backward()
    except Exception as error:
        raise _Leaves(described(error)) from None
    return loss


def _checked_by_differences(own: Own, gradients: Mapping[str, Any]) -> None:
    """_Leaves where the loss does not change as the gradients tell."""
    generator = np.random.default_rng(own.samples)
    steps = {name: generator.standard_normal(np.shape(array)) for name, array in own.parameters.items()}
    slope = sum(float(np.sum(gradient * steps[name])) for name, gradient in gradients.items())
    if not follows(lambda h: _at(own, steps, h), slope):
        raise _Leaves(DETACHED)


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


# ---------------------------------------------------------------- judged as a described network
def _by_chain(own: Own, network: Chain, loss: Any, claims: Mapping[str, Any]) -> Report:
    """The Report on a chain of layers; NoChain where its gradient is not that of the graph."""
    recorded = {node.name: node.grad for node in order(loss) if node.name}
    given = {name: np.asarray(claim) for name, claim in claims.items() if name[0] == "d"}
    _checked(network, next(network.cases(given)), recorded)
    # a model may call dL/da_k what is that before a mask, or after: then the rest of its claims tell more
    chosen = [given, {name: claim for name, claim in given.items() if not name.startswith("da")}]
    best: Report | None = None
    for some in chosen if len(chosen[1]) < len(given) else chosen[:1]:
        for case in network.cases(some):
            report = diagnosed(case)
            if best is None or cost(report.causes) < cost(best.causes):
                best = report
        if best is not None and len(best.causes) < 2:
            break
    assert best is not None  # a loss has one reduction at least
    return replace(best, context={})


def _checked(network: Chain, case: Case, recorded: Mapping[str, Any]) -> None:
    """NoChain where the gradient of the described network is not the recorded one; _Leaves where that is none."""
    facts = walk.truth(case, case.reduction or "sum")
    for name, gradient in recorded.items():
        known = facts[f"d{name}"]
        value, bound = (network.as_stored(name, x) for x in (known.value, SAFETY * known.bound))
        size = float(np.max(np.abs(gradient), initial=0.0, where=np.isfinite(gradient)))
        near = np.abs(value - gradient) <= bound + 1e-9 * size
        # where the model's own formula overflows, that of the known function may be finite
        if not (near | ~np.isfinite(gradient) | ~np.isfinite(bound)).all():
            raise NoChain(f"dL/d{name} comes out otherwise")
    if not network.is_recorded():
        raise _Leaves(DETACHED)


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
    for name, node in _outputs(nodes, leaves).items():
        if not node.name:  # a_k is z_k where there is no activation
            node.name, steps[name] = name, node
    notes = [f"{name} is not used in the forward pass" for name in unused]
    given = {name[1:]: claim for name, claim in _as_precise_as(own, claims).items() if name[0] == "d"}
    parameters = {name: _shaped(given[name], np.shape(truth[name]), name[0] == "b") for name in truth if name in given}
    right = {name: _agrees(claim, truth[name]) for name, claim in parameters.items()}
    if all(right.values()):
        return Report(True, right=tuple(f"d{name}" for name in right), notes=tuple(notes))
    # what is right but for rounding is handed on as it should be, so that no bound on rounding makes a cause of it
    held = {name: truth[name] if right[name] else claim for name, claim in parameters.items() if name in leaves}
    upstream = {name: claim for name, claim in given.items() if name in steps and claim.shape == steps[name].shape}
    readings = []
    # what a model calls dL/da_k may be another node's: then the rest of its claims tell more
    for some in (upstream, {name: claim for name, claim in upstream.items() if name[0] != "a"}):
        for scale in dict.fromkeys((1.0, 1.0 / own.samples, 1.0 / (own.samples * own.outputs))):
            report = audit_graph(loss, held | {name: scale * claim for name, claim in some.items()})
            readings.append(_gathered(own, loss, report, held, leaves, steps, parameters, truth))
        if len(some) == len(upstream) and min(len(reading.causes) for reading in readings) < 2:
            break
    best = min(readings, key=lambda reading: cost(reading.causes))
    return replace(best, ok=False if best.causes else best.ok, notes=tuple(dict.fromkeys((*notes, *best.notes))))


def _as_precise_as(own: Own, claims: Mapping[str, Any]) -> dict[str, Any]:
    """The claims in the lowest precision that the model, the batch and they have."""
    precision = Precision()
    arrays = {name: np.asarray(claim) for name, claim in claims.items()}
    for array in (*own.parameters.values(), own.X):
        precision.meets(array)
    for array in arrays.values():
        precision.meets(array, claimed=True)
    if precision.kind.eps <= np.finfo(float).eps:
        return arrays
    return {name: array.astype(np.float32) if array.dtype == float else array for name, array in arrays.items()}


def cost(causes: Sequence[Cause]) -> float:
    """What a reading costs: its causes, those without an explanation more."""
    return sum(1.5 if cause.kind == "unexplained" else 1.0 for cause in causes)


def _shaped(claim: Any, shape: tuple[int, ...], bias: bool) -> Any:
    """The claim in the shape of the parameter, where one of the two is flat or they are rows and columns of a bias."""
    squeezed = [n for n in claim.shape if n != 1] == [n for n in shape if n != 1]
    flat = claim.ndim < 2 or len(shape) < 2 or bias
    return claim.reshape(shape) if squeezed and flat and claim.size == np.prod(shape) else claim


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


def _outputs(nodes: Sequence[Any], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """{"a1": node, ...}: what W_{k+1} is multiplied with."""
    found: dict[str, Any] = {}
    for name, leaf in leaves.items():
        factor = other_factor(nodes, leaf) if name[0] == "W" else None
        if isinstance(factor, Tensor):
            found[f"a{int(name[1:]) - 1}"] = factor
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
    order_ = {"a": 0, "z": 1, "W": 2, "b": 3}
    causes.sort(key=lambda cause: (-(cause.layer or 0), order_.get(cause.quantity[1], 4)))
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
    if name[0] in "za":
        return found if name[0] == "a" else _of_activation(found)
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
        claim = _shaped(np.asarray(claims[f"d{name}"]), truth.shape, name[0] == "b")
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
    told = _symbol(factor, own.samples, own.outputs, claim.size > 1) if factor else None
    if told is not None and close(claim, factor * truth):
        flipped = told == "-1"
        words = "its sign is flipped" if flipped else f"it carries a factor {told} (n = {own.samples})"
        fix = "change its sign" if flipped else f"multiply by {told[2:].strip('()')}" if told[:2] == "1/" else None
        return replace(_cause(name, "factor", words, fix or f"divide by {told}"), factor=told)
    array = np.asarray(own.parameters[name])
    rest = claim - truth
    for words, term in (("", array), ("the sign of ", np.sign(array))) if claim.size > 1 else ():
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


def _symbol(factor: float, n: int, m: int, any_number: bool) -> str | None:
    """A factor in the numbers that it is likely made of; of a single number, which is a multiple of any, only these."""
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
    if not any_number or np.isclose(factor, 1.0, rtol=1e-5):
        return None
    simple = Fraction(factor).limit_denominator(12)
    return str(simple) if np.isclose(float(simple), factor, rtol=1e-6) else f"{factor:.6g}"
