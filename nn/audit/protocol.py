"""Where a model keeps its parameters and gradients, under whichever of the usual spellings.

Known are lists W, b, dW, ... (with or without a placeholder at [0]), dicts of such, numbered attributes W1, W2, ...,
dicts {"W1": array, ...}, and objects per layer that hold a W and a b each; gradients may also be what backward returns.
Glossary as in nn.by_hand.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.child import described

__all__ = ["Failed", "Misfit", "Slot", "Unknown", "is_model"]

SPELLINGS = {
    "W": ("W", "weights", "w", "Ws", "weight", "weight_matrices", "Theta", "theta"),
    "b": ("b", "biases", "bias", "bs", "B"),
    "dW": ("dW", "dw", "dWs", "dweights", "d_weights", "grad_W", "grads_W", "weight_grads", "grad_weights", "nabla_w"),
    "db": ("db", "dB", "dbs", "dbiases", "d_biases", "dbias", "grad_b", "grads_b", "bias_grads", "nabla_b"),
    "z": ("z", "Z", "zs"),
    "a": ("a", "A"),
    "dz": ("dz", "dZ"),
    "da": ("da", "dA"),
}  # fmt: skip
METHODS = {
    "forward": (
        "forward", "forward_pass", "forward_propagation", "forward_prop", "forwardprop", "feedforward", "feed_forward",
    ),
    "backward": (
        "backward", "backward_pass", "backward_propagation", "backward_prop", "backprop", "backpropagation",
        "back_propagation", "back_prop", "backpropagate",
    ),
}  # fmt: skip
STARTS = ("initialize", "init", "initialise", "init_weights", "initialize_weights", "initialize_parameters", "build")
ROLES = {  # what a parameter of a method is called, by what it is given
    "X": ("x", "inputs", "input", "data", "x_train", "batch", "features"),
    "y": ("y", "y_true", "target", "targets", "labels", "label", "t", "ytrue", "y_train", "truth", "expected"),
    "yhat": (
        "yhat", "y_hat", "y_pred", "ypred", "output", "outputs", "pred", "preds", "prediction", "predictions", "out",
    ),
}  # fmt: skip


class Unknown(Exception):
    """What keeps the doctor from a verdict, in a sentence."""

    stage = 2  # how far it got: of several ways to lay out a batch, the one that got furthest is told of


class Failed(Unknown):
    """The same: the forward pass raised."""

    stage = 1


class Misfit(Unknown):
    """The same: shapes or numbers are not those of this layout."""

    stage = 0


def telling(reasons: Sequence[Unknown]) -> Unknown:
    """The reason that got furthest."""
    return max(reasons, key=lambda reason: reason.stage)


def is_model(candidate: Any) -> bool:
    """Whether an object, or a class, has a forward and a backward method."""
    return method(candidate, "forward") is not None and method(candidate, "backward") is not None


def method(model: Any, which: str) -> Callable[..., Any] | None:
    """The method of a model, or of a class, for "forward" or "backward", by its usual names; None where it has none."""
    found = (getattr(model, name, None) for name in METHODS[which])
    return next((candidate for candidate in found if callable(candidate)), None)


# ---------------------------------------------------------------- places
@dataclass(frozen=True)
class Slot:
    """A place that holds one array: an attribute of an object, or an entry of a list or dict."""

    holder: Any
    key: Any
    attribute: bool = False

    def get(self) -> Any:
        """What stands there."""
        return getattr(self.holder, self.key) if self.attribute else self.holder[self.key]

    def set(self, value: Any) -> None:
        """Puts a value there."""
        if self.attribute:
            setattr(self.holder, self.key, value)
        else:
            self.holder[self.key] = value


def slots(model: Any, letter: str) -> list[Slot]:
    """The places of W, b, dW, ... for the layers 1..L, the placeholder left out; [] where there are none."""
    return [slot for _, slot in sorted(_numbered_slots(model, letter).items())]


def kept(model: Any, letter: str, L: int) -> dict[int, Any]:
    """{layer: array} of a quantity; a and da may have a layer 0. {} where the numbers of entries do not fit."""
    found = {k: slot.get() for k, slot in _numbered_slots(model, letter, L).items()}
    return {k: value for k, value in found.items() if value is not None}


def _numbered_slots(model: Any, letter: str, L: int | None = None) -> dict[int, Slot]:
    ways = (_of_a_list, _of_names, _of_layers)
    for way in ways:
        found = way(model, letter, L)
        if found:
            return found
    return {}


def _of_a_list(model: Any, letter: str, L: int | None) -> dict[int, Slot]:
    for name in SPELLINGS[letter]:
        listed = getattr(model, name, None)
        if listed is None or callable(listed):
            continue
        if listed is not getattr(model, name):
            continue  # a property that makes a new list each time: nothing can be put into it
        found = _entries(model, name, listed, letter, L)
        if found:
            return found
    # properties are read where nothing else is there
    for name in SPELLINGS[letter]:
        listed = getattr(model, name, None)
        if isinstance(listed, list | tuple) and listed:
            return _entries(model, name, listed, letter, L)
    return {}


def _entries(model: Any, name: str, listed: Any, letter: str, L: int | None) -> dict[int, Slot]:
    """{layer: slot} of an attribute that is a list, a dict with numbers for keys, or the array of a single layer."""
    if isinstance(listed, dict):
        if not listed or not all(isinstance(key, int) for key in listed):
            return {}
        keys = sorted(key for key in listed if not _is_placeholder(listed[key]) or key > 0)
    elif isinstance(listed, np.ndarray) and listed.dtype != object and listed.ndim < 3:
        return {1: Slot(model, name, attribute=True)} if L in (None, 1) and listed.size else {}
    elif isinstance(listed, list | tuple | np.ndarray):
        keys = list(range(len(listed)))
        if letter in ("W", "b") and keys and _is_placeholder(listed[0]):
            keys = keys[1:]
    else:
        return {}
    holder: Any = listed
    if isinstance(listed, tuple):
        holder = list(listed)
        with contextlib.suppress(AttributeError):
            setattr(model, name, holder)  # what is asked for is a copy of a model, and a list serves it as well
    if L is None:
        return {k: Slot(holder, key) for k, key in enumerate(keys, start=1)}
    if len(keys) == L + 1:
        keys, first = (keys, 0) if letter in ("a", "da") else (keys[1:], 1)
    elif len(keys) == L:
        first = 1
    else:
        return {}
    return {k: Slot(holder, key) for k, key in enumerate(keys, start=first)}


def _is_placeholder(item: Any) -> bool:
    return item is None or (np.ndim(item) <= 1 and np.size(item) == 0) or (isinstance(item, int) and item == 0)


def _of_names(model: Any, letter: str, L: int | None) -> dict[int, Slot]:
    """{layer: slot} of what is called W1, W2, ... among the attributes, or the keys of a dict that is an attribute."""
    try:
        attributes = vars(model)
    except TypeError:
        return {}
    dicts = [value for value in attributes.values() if isinstance(value, dict)]
    for spelling in SPELLINGS[letter]:
        name = re.compile(rf"{re.escape(spelling)}_?(\d+)")
        for holder in (attributes, *dicts):
            matches = {key: name.fullmatch(key) for key in holder if isinstance(key, str)}
            found = {int(match[1]): key for key, match in matches.items() if match}
            own = holder is attributes
            slots = {k: Slot(model if own else holder, key, attribute=own) for k, key in found.items()}
            if letter not in ("a", "da") and 0 in slots:  # numbered from 0 on
                slots = {k + 1: slot for k, slot in slots.items()}
            if L is None and sorted(slots) != [*range(1, len(slots) + 1)]:
                continue
            if slots and (L is None or max(slots) <= L):
                return slots
    return {}


def _of_layers(model: Any, letter: str, L: int | None) -> dict[int, Slot]:
    """{layer: slot} of objects that hold one W, one b each: in a list of the model, or among its attributes."""
    if letter not in ("W", "b", "dW", "db"):
        return {}
    try:
        attributes = list(vars(model).values())
    except TypeError:
        return {}
    lists = [value for value in attributes if isinstance(value, list | tuple)]
    for objects in (*lists, attributes):
        holders = [item for item in objects if _own(item, "W") is not None]
        found = [_own(item, letter) for item in holders]
        if holders and all(slot is not None for slot in found):
            return {k: slot for k, slot in enumerate(found, start=1) if slot is not None}
    return {}


def _own(layer: Any, letter: str) -> Slot | None:
    """The place of the one array of this kind in an object for a layer."""
    if isinstance(layer, np.ndarray | list | tuple | dict | str | int | float | type(None)):
        return None
    for name in SPELLINGS[letter]:
        value = getattr(layer, name, None)
        if isinstance(value, np.ndarray) and value.dtype != object:
            return Slot(layer, name, attribute=True)
    return None


def is_matrix(item: Any) -> bool:
    """Whether this is an array with two axes."""
    return item is not None and np.ndim(item) == 2


# ---------------------------------------------------------------- parameters
def copied(model: Any) -> Any:
    """A deep copy; Unknown where it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise Unknown(
            f"the model cannot be copied, and is not run lest it change: copying {described(error)}"
        ) from None


def initialized(model: Any) -> Any:
    """The model, its parameters drawn by its own method where it has none yet."""
    if not any(is_matrix(slot.get()) for slot in slots(model, "W")):
        for name in STARTS:
            method = getattr(model, name, None)
            if callable(method):
                try:
                    method()
                except Exception as error:
                    raise Unknown(f"the model has no W yet, and {name}() {described(error)}") from None
                break
    return model


def parameters(model: Any) -> tuple[list[Any], list[Any]]:
    """(W, b) of the layers 1..L, copied; b is [] where the model has none. Unknown where there is no W."""
    W = [slot.get() for slot in slots(model, "W")]
    if not W or not all(is_matrix(item) for item in W):
        raise Unknown(
            "the model's weights were not found: keep one matrix per layer in a list W (a placeholder None at [0] is "
            "welcome), or in attributes W1, W2, ..., and the biases and gradients likewise in b, dW and db"
        )
    b = [slot.get() for slot in slots(model, "b")]
    fits = len(b) == len(W) and not any(item is None for item in b)
    return [np.array(w) for w in W], [np.array(bias) for bias in b] if fits else []


def install(model: Any, W: Sequence[Any], b: Sequence[Any], turned: bool = False) -> None:
    """Writes parameters into a model; in place where it can, since others may hold the same arrays."""
    for name, arrays in (("W", W), ("b", b)):
        places = slots(model, name)
        if len(places) != len(arrays):
            continue
        for k, (slot, array) in enumerate(zip(places, arrays, strict=True), start=1):
            new, old = (array.T if turned and name == "W" else array), slot.get()
            if old is not None and np.size(old) == new.size and np.ndim(old) < 2:
                new = new.reshape(np.shape(old))
            if old is not None and np.shape(old) != new.shape:
                raise Misfit(f"{name}{k} has the shape {np.shape(old)}, expected {new.shape}")
            if isinstance(old, np.ndarray) and old.dtype.kind == "f":
                old[...] = new
            else:
                slot.set(new.copy())


# ---------------------------------------------------------------- calls
@contextlib.contextmanager
def repeatable(seed: int = 0) -> Iterator[None]:
    """Global random numbers begin anew inside, so that a forward pass that draws some draws the same each time."""
    state, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)  # noqa: NPY002


def forward(model: Any, X: Any) -> Any:
    """yhat of the model's forward pass, or None where it neither returns nor keeps it. Failed where it raises."""
    try:
        with repeatable():
            run = method(model, "forward")
            assert run is not None
            output = run(X)
    except (Exception, SystemExit) as error:
        raise Failed(f"forward {described(error)}") from None
    if isinstance(output, tuple) and output:  # (yhat, cache)
        output = output[0]
    if isinstance(output, list) and output and np.ndim(output[-1]) == 2:
        output = output[-1]
    if output is None:
        a = getattr(model, "a", None)
        output = a[-1] if isinstance(a, list) and a else None
    return output


def arguments(method: Callable[..., Any], held: dict[str, Any]) -> list[Any]:
    """The arguments of backward by the names of its parameters; (y, yhat) where they say nothing."""
    try:
        declared = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        return [held["y"], held["yhat"]]
    positional = [p for p in declared if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
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


def returned_gradients(returned: Any, W: Sequence[Any], b: Sequence[Any]) -> dict[str, Any]:
    """{"dW1": array, ...} of what backward returned: lists of layers, or arrays in a row, told apart by shape."""
    if not isinstance(returned, list | tuple):
        return {}
    shapes = {f"dW{k}": np.shape(w) for k, w in enumerate(W, start=1)}
    shapes |= {f"db{k}": np.shape(bias) for k, bias in enumerate(b, start=1)}
    found: dict[str, Any] = {}
    groups = [list(item) for item in returned if isinstance(item, list | tuple) and len(item) == len(W)]
    if len(groups) == len(returned) == 2:  # a list of dW and one of db, in either order
        first = [np.shape(array) == np.shape(w) for array, w in zip(groups[0], W, strict=True)]
        for letter, group in zip(("dW", "db"), groups if all(first) else groups[::-1], strict=True):
            found |= {f"{letter}{k}": array for k, array in enumerate(group, start=1)}
        return found
    flat: list[Any] = []
    for item in returned:
        flat += list(item) if isinstance(item, list | tuple) else [item]
    for array in flat:
        free = [name for name in shapes if name not in found and np.shape(array) == shapes[name]]
        if free and array is not None:
            found[free[0]] = array
    return found if len(found) >= len(W) else {}
