"""Training: gradient descent on a whole batch, on nodes at every epoch or on nodes once and a program from then on."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import autodiff
from autodiff import NO_GRAD, Tensor, Value, scalars, updates
from nn import losses
from nn.layers import Module
from nn.optim import Optimiser

# What two orders of summation leave between two gradients, with room for a sample whose terms nearly cancel.
ROUNDING = 1e-9

Loss = str | Callable[[Any, Any], Any]


def fit(
    model: Module,
    X: Any,
    y: Any,
    loss: Loss = "mse",
    epochs: int = 100,
    learning_rate: float | None = None,
    replay: bool = False,
    show: int | None = None,
    optimiser: Any = "sgd",
) -> list[float]:
    """[the loss before every update] of gradient descent on all samples at once.

    X, y: arrays with one sample per row. loss: a name of nn.LOSSES, as the mean over the samples, or a function
    (y, yhat) that returns a node. optimiser: "sgd", p <- p - learning_rate dL/dp, "momentum" (of 0.9) or "adam", with
    a learning_rate of 0.1, for Adam 0.001, where none is given; an update rule with numbers of its own, such as
    autodiff.updates.SGD(0.1, momentum=0.5); or nn.SGD or nn.Adam of the model's parameters, which go on from the state
    that they have. show=10 prints a line at every tenth epoch. The parameters keep their last gradient.

    replay: the network and its loss are recorded on one sample, and a program of loss, gradient and update runs the
    batch from then on: a scalar network trains on a thousand samples some hundred times as fast, and ends with the same
    weights up to rounding. The loss must then be a mean over samples; whether it is one is seen on two of them. A
    network of Tensors is refused: it computes whole batches as arrays as it is.

    Raises TypeError and ValueError for what does not fit together, and where a gradient is not finite; ReplayError
    where a number leaves the graph.

    >>> from nn import MLP
    >>> X, y = np.array([[0.0, 1.0], [1.0, 0.5], [1.0, -1.0]]), np.array([1.0, 0.0, 0.0])
    >>> model, twin = (MLP(2, [3, 1], ["tanh", "sigmoid"], seed=0) for _ in range(2))
    >>> history = fit(model, X, y, "bce", epochs=20, learning_rate=1.0)
    >>> replayed = fit(twin, X, y, "bce", epochs=20, learning_rate=1.0, replay=True, show=10)
    epoch 0: loss 0.728841
    epoch 10: loss 0.170748
    >>> bool(np.allclose(history, replayed, rtol=1e-12)), history[-1] < 0.1
    (True, True)
    """
    parameters = _parameters(model)
    X, y = _batch(X, y)
    of_batch = _loss(loss)
    moving = _optimiser(optimiser, parameters, learning_rate)
    epochs, show = operator.index(epochs), None if show is None else operator.index(show)
    if epochs < 0 or (show is not None and show < 1):
        raise ValueError(f"epochs is 0 or more and show at least 1, got epochs={epochs} and show={show}")
    if replay:
        recorded = replayed(model, X, y, loss)
        _check_two(model, X, y, loss)
        return _replay(recorded, parameters, moving, epochs, show)
    history = []
    for epoch in range(epochs):
        history.append(_backward(model, of_batch, X, y))
        _show(history, show)
        try:
            moving.step()
        except updates.NotFiniteError as error:
            rate = moving.learning_rate
            error.add_note(f"(epoch {epoch}, loss {history[-1]:.6g}; a smaller learning_rate than {rate} may help)")
            raise
    return history


def _show(history: Sequence[float], show: int | None) -> None:
    """Prints the last loss, if it is one of those that are shown."""
    epoch = len(history) - 1
    if show is not None and epoch % show == 0:
        print(f"epoch {epoch}: loss {history[-1]:.6g}")


def replayed(model: Module, X: Any, y: Any, loss: Loss = "mse") -> Any:
    """p -> the mean loss of a scalar network over the batch (X, y), recorded on one sample: what `fit` replays.

    p holds the numbers of model.parameters(), which stay as they are; see autodiff.replay for what can be asked.

    >>> from nn import MLP
    >>> loss = replayed(MLP(1, [1], seed=0).assign([[[2.0]]], [[1.0]]), [[1.0], [3.0]], [3.0, 5.0])
    >>> loss.value_and_grad(np.array([2.0, 1.0]))
    (2.0, array([6., 2.]))
    """
    parameters = _parameters(model)
    if any(isinstance(parameter, Tensor) for parameter in parameters):
        raise TypeError(
            "replay records graphs of Values, and this network has Tensors, which compute a whole batch as arrays as "
            "they are: train it with replay=False, or build it with magnification='scalar'"
        )
    X, y = _batch(X, y)
    of_batch, rows = _loss(loss), [(1, *array.shape[1:]) for array in (X, y)]

    def of_sample(p: Any, x: Any, label: Any) -> Any:
        nodes = p.tolist()
        for node, parameter in zip(nodes, parameters, strict=True):
            node.label = parameter.label
        # a copy of the model in which every parameter, wherever the model keeps it, is its node
        twin = copy.deepcopy(model, dict(zip(map(id, parameters), nodes, strict=True)))
        return of_batch(label.reshape(rows[1]), twin(x.reshape(rows[0])))  # type: ignore[operator]

    return autodiff.replay(of_sample, over=(X.reshape(len(X), -1), y.reshape(len(y), -1)))


def _check_two(model: Module, X: Any, y: Any, loss: Loss) -> None:
    """ValueError where the loss of the first and last sample, or its gradient, is not the mean of those of each.

    And where it depends on parameters past the network, as a penalty does: the replay would not differentiate it by
    them. The parameters are left without a gradient.
    """
    parameters, two = _parameters(model), slice(None, None, max(len(X) - 1, 1))
    p = scalars(np.array([parameter.data for parameter in parameters]))
    with np.errstate(all="ignore"):  # what is wrong with the numbers is for the training to say
        together = _backward(model, _loss(loss), X[two], y[two])
        gradient = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = NO_GRAD
        each = replayed(model, X[two], y[two], loss)(p)  # given nodes, it computes with them
        each.backward()
        past = [parameter for parameter in parameters if parameter.grad is not NO_GRAD]
    if past:
        raise ValueError(
            f"replay: the loss reaches for {past[0].name or 'a parameter'} past the network, which is replayed with "
            "numbers of its own; train with replay=False"
        )
    found = np.array([each.data, *p.grad])
    right = np.array([together, *gradient])
    near = ROUNDING * np.max(np.abs(right), initial=0.0, where=np.isfinite(right))
    if not np.allclose(found, right, rtol=0.0, atol=near, equal_nan=True):
        raise ValueError(
            f"replay: the loss of two samples together is {together:.6g}, and the mean of their losses "
            f"{each.data:.6g}, or the gradients differ. A loss that is replayed is a mean over the samples; train with "
            "replay=False"
        )


def _backward(model: Module, of_batch: Callable[[Any, Any], Any], X: Any, y: Any) -> float:
    """The loss, after its backward pass from grads of 0."""
    output = of_batch(y, model(X))  # type: ignore[operator]
    if not isinstance(output, (Value, Tensor)):
        raise TypeError(f"the loss returns {type(output).__name__}, expected a node that was computed from yhat")
    model.zero_grad()
    output.backward()
    return float(output.item())


def _replay(recorded: Any, parameters: Sequence[Any], moving: Optimiser, epochs: int, show: int | None) -> list[float]:
    """The history of so many epochs, after which parameters and optimiser are where the eager training leaves them."""
    order = {id(parameter): i for i, parameter in enumerate(parameters)}
    places = [order[id(parameter)] for parameter in moving.values]  # of the optimiser's list in the model's
    inverse = np.argsort(places)
    start = [x[inverse] if np.ndim(x) else x for x in moving.state]
    course = recorded.course([np.array([parameter.data for parameter in parameters])], moving.rule, start)
    history: list[float] = course.history
    try:
        if show is None:
            course.advance(epochs)
        while show is not None and len(history) < epochs:
            course.advance(1)
            _show(history, show)
            course.advance(min(show - 1, epochs - len(history)))
    except autodiff.ReplayError as error:
        error.add_note("(with replay=False the network trains on nodes, where this is no obstacle)")
        raise
    except updates.NotFiniteError as error:
        _show(history, show)
        error.add_note(course.advice("epoch", "loss"))
        raise
    finally:
        moving.put(course.column[places], [x[places] if np.ndim(x) else x for x in course.state])
        if course.gradient is not None:
            for parameter, slope in zip(parameters, (course.gradient + 0.0).ravel().tolist(), strict=True):
                parameter.grad = slope
    return history


def _optimiser(optimiser: Any, parameters: Sequence[Any], learning_rate: float | None) -> Optimiser:
    """The optimiser of these parameters that was asked for."""
    if not isinstance(optimiser, Optimiser):
        return Optimiser(parameters, updates.rule_of(optimiser, learning_rate))
    if learning_rate is not None:
        raise ValueError(f"the optimiser has the learning rate {optimiser.learning_rate}: leave learning_rate out")
    if set(map(id, optimiser.parameters)) != set(map(id, parameters)):
        raise ValueError(
            f"the optimiser moves {len(optimiser.parameters)} parameters, and they are not the {len(parameters)} of "
            "the model: make it of model.parameters()"
        )
    return optimiser


def _parameters(model: Any) -> Sequence[Any]:
    if not isinstance(model, Module) or not callable(model):
        raise TypeError(f"fit trains a Module that can be called, such as nn.MLP, got {type(model).__name__}")
    parameters = list(dict.fromkeys(model.parameters()))  # a tied weight is one number
    if not parameters:
        raise ValueError(f"{type(model).__name__}.parameters() is empty: there is nothing to train")
    return parameters


def _batch(X: Any, y: Any) -> tuple[Any, Any]:
    X, y = np.asarray(X), np.asarray(y)
    for name, array in (("X", X), ("y", y)):
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} holds {array.dtype}, expected real numbers")
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y) or X.size == 0 or y.size == 0:
        raise ValueError(f"X and y have one sample per row, and at least one: got the shapes {X.shape} and {y.shape}")
    return X.astype(float), y.astype(float)


def _loss(loss: Loss) -> Callable[[Any, Any], Any]:
    return loss if callable(loss) else losses.loss(loss)
