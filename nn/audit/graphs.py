"""Claims about any recorded graph: the first wrong adjoint, given the claimed adjoints of what was made from it.

One reverse sweep, in which a claim takes the place of the adjoint that the sweep worked out, after it was judged, and
which goes on with the mistakes that are made where nothing is claimed: each is reported once, at the first claim that
shows it, and what follows from it only inherits. Beside every number runs a
bound on its rounding, of the forward pass (what the recorded numbers may be off) and of the sweep (the same rules on
absolute values); a claim is compared with that, never with a fixed tolerance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from autodiff.graph import checked_node, order
from nn.audit.adjoints.adjoint import Adjoint
from nn.audit.adjoints.precision import COARSE, is_float32
from nn.audit.adjoints.readings import Claims, read
from nn.audit.adjoints.recorded import Recorded, floats
from nn.audit.adjoints.shapes import misshapen
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import Target, targets
from nn.audit.adjoints.telling import cause_of
from nn.audit.report import Cause, Report
from nn.audit.rules import SAFETY

__all__ = ["audit_graph"]


def audit_graph(output: Any, claims: Mapping[str, Any]) -> Report:
    """The Report on adjoints worked out by hand: which of the claims go wrong first, and how.

    output: the node of one number that is differentiated, a Value or a Tensor. claims: {name: d(output)/d(the node of
    that name)}, for any of the nodes; where the elements of an array of Values are called W[0,0], W[0,1], ... a claim
    "W" is one for all of them. A claim that differs from its node's shape by axes of length 1 only is accepted where
    it broadcasts to it. Cause.quantity is the name of the node; of a mistake made where nothing is claimed, that of the
    first claim that shows it: the sweep goes on with the mistake, and what follows from it inherits. One wrong rule in
    several places is one cause; context["places"] has, for each cause, {claim that shows it: what is said of it there}.
    Cause.found is the name of what stands in the place of something else, where the graph has it. A claim of another
    shape than its node's is a cause, and is carried on as NumPy does. Claims of float64 with the digits or the rounding
    of float32 are judged by that, and a note says so.

    Raises TypeError for an output that is no node, ValueError for one of several numbers, KeyError for a name that no
    node or more than one has.

    >>> from autodiff import Tensor
    >>> x, W = Tensor(np.array([[1.0, 2.0], [3.0, -1.0]])), Tensor(np.array([[0.5], [1.0]]), name="W")
    >>> h = np.tanh(x @ W)
    >>> h.name = "h"
    >>> loss = np.sum(h**2)
    >>> dh = 2 * h.data
    >>> audit_graph(loss, {"h": dh, "W": x.data.T @ (dh * (1 - h.data**2))}).verdict
    'right'
    >>> print(audit_graph(loss, {"h": dh, "W": x.data.T @ dh}).text("what"))
    wrong: 1 cause
    W: the local derivative of tanh is missing, on the way to 'h'
      worst at [1, 0]: claimed 3.02222, right -0.621917
    right, given what came before: h
    """
    output = checked_node(output, "audit_graph(output, ...)")
    if output.size != 1:
        raise ValueError(
            f"audit_graph judges derivatives of one number, and the output has the shape {output.shape}; give it the "
            "loss, or the sum of the node times an upstream of your own"
        )
    arrays = {name: np.asarray(claim) for name, claim in claims.items()}
    for name, claim in arrays.items():
        if claim.dtype.kind not in "fiub":
            raise TypeError(f"the claim {name!r} is an array of real numbers, got one of {claim.dtype}")
    with np.errstate(all="ignore"):
        return _report(output, arrays)


def _report(output: Any, arrays: Mapping[str, Any]) -> Report:
    nodes = order(output)
    eps, tiny = _precision([*arrays.values(), *(node.data for node in nodes)])
    recorded = Recorded(nodes, eps, tiny)
    claimed, notes = targets(nodes, {name: floats(claim) for name, claim in arrays.items()})
    number = {node: k for k, node in enumerate(nodes)}
    claimed.sort(key=lambda target: min(number[node] for node in target.nodes))
    stands = {
        node: floats(target.claim[index])
        for target in claimed
        if target.claim is not None
        for index, node in target.members
    }
    misshaped = {target.nodes[0]: target for target in claimed if target.claim is None and target.whole}
    stands |= {node: target.carried for node, target in misshaped.items()}
    sweep = Sweep(output, nodes, recorded, stands)
    if is_float32(sweep, claimed):
        eps, tiny = float(COARSE.eps), float(COARSE.tiny)
        recorded = Recorded(nodes, eps, tiny)
        sweep = Sweep(output, nodes, recorded, stands)
        notes.append("the claims are of float64, and have the precision of float32: they are judged by that")
    truth = Sweep(output, nodes, recorded, {}).expected
    reading = read(Claims(sweep, claimed), sweep, truth)
    causes: list[Cause] = []
    places: list[dict[str, str]] = []  # for each cause, what is said of it at the claims that show it
    said: dict[str, list[str]] = {"right": [], "inherited": [], "undecided": []}
    explained = {step.target.name for step in reading.steps}
    for target in claimed:
        expected = target.adjoint(reading.sweep.expected)
        if target.claim is None and _follows(target, expected, misshaped, sweep):
            said["inherited"].append(target.name)
            continue
        if target.claim is None:
            expected = target.adjoint(truth) if np.shape(expected.value) != target.shape else expected
            causes.append(misshapen(target.name, target.given, target.shape, expected, eps, tiny))
            places.append({target.name: causes[-1].message})
            continue
        for told in reading.told:
            if told.steps[0].target is target:
                causes.append(cause_of(told, sweep))
                places.append(told.places)
        if target.name in explained:
            if not any(told.steps[0].target is target for told in reading.told):
                said["inherited"].append(target.name)
            continue
        verdict, note = _verdict(target.claim, expected, target.adjoint(truth), tiny)
        notes += [f"{target.name}: {note}"] if note else []
        said[verdict].append(target.name)
    ok: bool | None = not causes
    if not claimed:
        notes.append("nothing was claimed")
    if not claimed or (said["undecided"] and not causes):
        ok = None
    context = {"nodes": len(nodes), "precision": eps, "places": places}
    return Report(ok, tuple(causes), tuple(said["inherited"]), tuple(said["right"]), tuple(notes), context)


def _follows(target: Target, expected: Adjoint, misshaped: Mapping[Any, Target], sweep: Sweep) -> bool:
    """Whether a claim has the wrong shape since one before it has."""
    pending = list(target.nodes)
    seen = set(pending)
    for x in pending:
        for child, _ in sweep.children[x]:
            if child not in seen:
                seen.add(child)
                pending.append(child)
    if not any(node in misshaped for node in seen.difference(target.nodes)):
        return False
    given = floats(target.given)
    if np.shape(expected.value) == given.shape:
        return bool(expected.agrees(given, sweep.recorded.tiny).all())
    if np.shape(expected.value) != target.shape or not np.isfinite(expected.value).all():
        return True
    recorded = sweep.recorded
    own = misshapen(target.name, given, target.shape, expected, recorded.eps, recorded.tiny)
    return own.kind == "shape"  # and no mistake of its own is seen


def _precision(arrays: Iterable[Any]) -> tuple[float, float]:
    """(eps, tiny) of the lowest precision among the arrays."""
    kinds = [np.asarray(x).dtype for x in arrays]
    floating = [np.finfo(kind) for kind in kinds if kind.kind == "f"] or [np.finfo(float)]
    eps = max(float(np.finfo(float).eps), *(float(info.eps) for info in floating))
    return eps, max(float(info.tiny) for info in floating)


def _verdict(claim: Any, expected: Adjoint, truth: Adjoint, tiny: float) -> tuple[str, str]:
    """("right", "inherited" or "undecided", a note or "") of a claim that no mistake is made at.

    In a sweep from claims that are not finite nothing can be judged, and a right claim is right anyway.
    """
    is_true = truth.agrees(claim, tiny).all()
    if not expected.agrees(claim, tiny).all():
        return "right", ""  # whatever came before it
    blind = not expected.judged.any() and expected.judged.size
    if blind and not is_true and np.isfinite(truth.bound).all():
        return "inherited", ""
    if blind and not np.isfinite(truth.bound).any():
        return "undecided", "its right value is not finite, and the claim cannot be judged"
    blurred = np.abs(expected.value) <= SAFETY * expected.bound
    only_rounding = claim.size and claim.any() and (blurred & (expected.size > 0)).all()
    note = "zero but for rounding, where a factor cannot be told" if only_rounding else ""
    return ("right" if is_true else "inherited"), note
