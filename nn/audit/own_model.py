"""A model's own forward pass and loss, run with arrays or nodes of ours in the place of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nn.audit.protocol import copied, forward, initialized, install, slots

Loss = Callable[[Any, Any], Any]  # of (y, yhat), one number


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
    named: tuple[str, str] | None = None  # what the loss seems to be: a name of nn.by_hand.LOSSES, and a reduction

    @property
    def parameters(self) -> dict[str, Any]:
        """{"W1": array, "b1": array, ...}."""
        named = {f"W{k}": w for k, w in enumerate(self.W, start=1)}
        return named | {f"b{k}": bias for k, bias in enumerate(self.b, start=1)}


class Runs:
    """The forward pass of one copy of the model: runs({"b1": array, ...}) is yhat with these for its parameters.

    A parameter that is not given is what the model has, in float64. Unknown where the forward pass raises.
    """

    def __init__(self, own: Own) -> None:
        self.own = own
        self.twin = initialized(copied(own.model))
        install(self.twin, own.W, own.b)
        self.slots = {
            f"{letter}{k}": slot
            for letter in ("W", "b")
            for k, slot in enumerate(slots(self.twin, letter), start=1)
            if f"{letter}{k}" in own.parameters
        }
        self.stored = {name: np.array(slot.get(), dtype=float) for name, slot in self.slots.items()}

    def __call__(self, given: Mapping[str, Any], X: Any = None) -> Any:
        for name, slot in self.slots.items():
            slot.set(given.get(name, self.stored[name]))
        return forward(self.twin, self.own.X.copy() if X is None else X)

    def holds(self, given: Mapping[str, Any]) -> bool:
        """Whether the model has taken what it was given: a property may hand out copies."""
        return all(self.slots[name].get() is value for name, value in given.items())
