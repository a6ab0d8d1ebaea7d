"""grad, jvp, vjp and their like: functions from functions to their derivatives, with JAX's signatures.

All of them run f once on nodes and then sweep over the graph that f has drawn: upwards with tangents (jvp), or
downwards with adjoints (vjp, grad, jacobian). They keep adjoints of their own and never write a grad.

An argument that is a float becomes a Value as long as f does arithmetic of numbers with it; where it meets an array
or an array function of NumPy, f is started again with a Tensor of no dimensions instead (so f may run twice; and once
more where that in turn meets a Value of the user's own). Arrays become Tensors. What is a node already gets an alias,
a new node for the same number: a transform differentiates by its aliases and by nothing else, so transforms nest in
any order without mistaking one another's variables. Inside another transform, and where an argument is a node,
derivatives are nodes themselves; elsewhere they are plain numbers, and arrays that belong to the caller alone.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from autodiff import sweeps, tensor, trees, value
from autodiff.operations import NoForwardRule
from autodiff.primitives import alias
from autodiff.scalars import ON_ARRAY, Scalars, scalars
from autodiff.tensor import MixedNodes, Tensor, restacked
from autodiff.value import REAL, Value

Function = Callable[..., Any]


class _StartAgain(BaseException):
    """A float of this run met an array: the run starts again with Tensors."""

    def __init__(self, run: Run) -> None:
        self.run = run


class _Active(threading.local):
    """The runs of this thread that are under way, outermost first."""

    def __init__(self) -> None:
        self.runs: list[Run] = []


_active = _Active()
_everywhere: dict[Run, None] = {}  # the runs of all threads: f may hand its nodes to a thread that differentiates too


def _start_again() -> None:
    """Starts the innermost run again whose floats are Values and could be Tensors."""
    for run in reversed(_active.runs):
        if run.may_start_again:
            raise _StartAgain(run)


ON_ARRAY.append(_start_again)
tensor.ON_MIXED.append(_start_again)


class Run:
    """One run of f on nodes: the inputs, the outputs, and the two sweeps between them.

    recording: whether derivatives are nodes, because an argument was one, or f used one of a transform around this.
    """

    __slots__ = (
        "argnums", "f", "floats_are_tensors", "from_nodes", "inputs", "kinds", "may_start_again", "numbers",
        "recording", "result", "structure", "transform",
    )  # fmt: skip

    def __init__(self, f: Function, transform: str, args: Sequence[Any], argnums: Sequence[int], options: Any) -> None:
        self.f, self.transform, self.argnums = f, transform, argnums
        # the leaves of the chosen arguments, as they came
        self.numbers, self.structure = trees.flatten([args[position] for position in argnums])
        self.kinds = [self._kind(i) for i in range(len(self.numbers))]
        has_values = VALUE in self.kinds or VALUES in self.kinds
        has_arrays = ARRAY in self.kinds or TENSOR in self.kinds
        runs = _active.runs
        beside = [
            x for i, x in enumerate(args) if i not in argnums and not (type(x) is np.ndarray and x.dtype != object)
        ]
        self.from_nodes = has_values or TENSOR in self.kinds or _hold_nodes([*beside, *options.values()])
        self.floats_are_tensors: bool = has_arrays or (not has_values and any(run.floats_are_tensors for run in runs))
        self.may_start_again = not has_values and not self.floats_are_tensors and FLOAT in self.kinds
        self.inputs: list[Any] = []
        try:
            runs.append(self)
            _everywhere[self] = None
            self.result = self._called(args, options)
        finally:
            if runs and runs[-1] is self:
                runs.pop()
            _everywhere.pop(self, None)
        self.may_start_again = False
        self.recording = (
            self.from_nodes
            or (bool(_everywhere) and self._reaches_outside())
            or (value.watcher is not None and self._meets_values())
        )

    def _called(self, args: Sequence[Any], options: Any) -> Any:
        """What f returns for nodes in the place of the chosen arguments; errors of NumPy's about them get advice."""
        try:
            return self._called_as_needed(args, options)
        except (TypeError, ValueError, AttributeError) as error:
            if any(words in str(error) for words in OBJECT_TROUBLE) or isinstance(
                getattr(error, "obj", None), (Value, Tensor)
            ):
                error.add_note(
                    f"{self.where}: f runs on nodes here, and np.array([node, node]) is a plain array of objects. Put "
                    "nodes together with np.stack(list) or np.block(rows), which NumPy's functions know; collect rows "
                    "in a list rather than writing them into an array"
                )
            raise

    def _called_as_needed(self, args: Sequence[Any], options: Any) -> Any:
        """`_called`, with floats as Values or, where these do not do, as Tensors."""
        if not self.may_start_again:
            return self._called_once(args, options)
        try:
            return self._called_once(args, options)
        except _StartAgain as again:
            if again.run is not self:
                raise
        except AttributeError as error:  # x.sum(), which a NumPy float has too
            if type(error.obj) is not Value or not hasattr(Tensor, str(error.name)):
                raise
        self.may_start_again, self.floats_are_tensors = False, True
        try:
            return self._called_once(args, options)
        except MixedNodes:  # f brings Values of its own: those of this run will have to do with arrays of Values
            self.floats_are_tensors = False
        return self._called_once(args, options)

    def _called_once(self, args: Sequence[Any], options: Any) -> Any:
        self.inputs = [self._lifted(x, kind) for x, kind in zip(self.numbers, self.kinds, strict=True)]
        given = list(args)
        for position, lifted in zip(self.argnums, trees.unflatten(self.structure, self.inputs), strict=True):
            given[position] = lifted
        return self.f(*given, **options)

    @property
    def where(self) -> str:
        """How errors name the run: grad of loss."""
        return f"{self.transform} of {_name(self.f)}"

    def place(self, i: int) -> str:
        """How to write the i-th leaf down: argument 0['W'][1]."""
        parts = [trees.places(one, f"argument {n}") for n, one in zip(self.argnums, self.structure[1], strict=True)]
        return [place for part in parts for place in part][i]

    def _kind(self, i: int) -> str:
        """What the i-th leaf is: FLOAT for what becomes a Value or a Tensor, ARRAY for what becomes a Tensor, ..."""
        x = self.numbers[i]
        if type(x) is float:
            return FLOAT
        if type(x) is np.ndarray and x.dtype.kind == "f":
            return ARRAY
        if isinstance(x, np.ndarray):
            if x.dtype.kind in "fiub":
                return ARRAY
            if x.dtype == object:
                if any(type(element) is Tensor for element in x.flat):
                    self.numbers[i] = restacked(x)
                    return TENSOR
                if all(isinstance(element, (Value, *REAL)) for element in x.flat):
                    if any(isinstance(element, Value) for element in x.flat):
                        return VALUES
                    self.numbers[i] = x.astype(float)
                    return ARRAY
        elif type(x) is Value:
            return VALUE
        elif type(x) is Tensor:
            return TENSOR
        elif isinstance(x, np.generic) and type(x) is not np.float64:
            if x.dtype.kind in "fiub":
                return ARRAY  # of no dimensions, and of this precision
        elif isinstance(x, REAL):
            return FLOAT
        kind = f"an array of {x.dtype}" if isinstance(x, (np.ndarray, np.generic)) else f"{type(x).__name__} {x!r:.40}"
        raise TypeError(
            f"{self.where}: {self.place(i)} is {kind}; derivatives are taken by real numbers, arrays of them, nodes, "
            "and lists, tuples and dicts of these. Name the arguments to differentiate by with argnums"
        )

    def _lifted(self, x: Any, kind: str) -> Any:
        """A node of this run's own for a leaf."""
        if kind is FLOAT and not self.floats_are_tensors:
            return Value(x)
        if kind is ARRAY or kind is FLOAT:
            # The pullback of a vjp reads the arrays long after they came, when the caller may have changed them.
            return Tensor(np.array(x) if self.transform == "vjp" else x)
        if kind is VALUES:
            twins = [self._lifted(element, VALUE if isinstance(element, Value) else FLOAT) for element in x.flat]
            return scalars(twins).reshape(x.shape)
        twin = alias(x)
        twin.name = x.name
        return twin

    # --- the result ---

    def outputs(self, result: Any) -> tuple[list[Any], Any]:
        """The leaves and the structure of what f returned; object arrays of array nodes are stacked."""
        if type(result) is Tensor or type(result) is Value:
            return [result], trees.LEAF
        leaves, structure = trees.flatten(result)
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, np.ndarray) and leaf.dtype == object:
                leaves[i] = restacked(leaf) if any(type(x) is Tensor for x in leaf.flat) else scalars(leaf)
            elif type(leaf) is not Tensor and type(leaf) is not Value and not _is_real(leaf):
                place = list(trees.places(structure, "result"))[i]
                raise TypeError(
                    f"{self.where}: the {place} is {type(leaf).__name__} {leaf!r:.40}, and has no derivative; f "
                    "returns real numbers, arrays of them, and lists, tuples and dicts of these"
                )
        return leaves, structure

    def given_back(self, outputs: Sequence[Any]) -> list[Any]:
        """The outputs as the caller gets them: nodes where these are wanted, or else plain numbers and fresh arrays."""
        if self.recording:
            return list(outputs)
        return [
            np.array(y) if isinstance(y, np.ndarray) and not isinstance(y, Scalars) else _detached(y) for y in outputs
        ]

    def aux_given_back(self, aux: Any) -> Any:
        """What f returned besides: as it is, but for nodes where nobody wants these."""
        return aux if self.recording else trees.tree_map(_detached, aux)

    # --- the sweeps ---

    def pulled(self, seeds: list[tuple[Any, Any]]) -> list[Any]:
        """The adjoints of the inputs, from [(output, its adjoint)], which is used up."""
        by_kind: dict[type, dict[Any, Any]] = {}
        while seeds:
            for node, part in _elements(*seeds.pop()):
                wanted = by_kind.setdefault(type(node), {})
                wanted[node] = wanted[node] + part if node in wanted else part
        adjoints: dict[Any, Any] = {}
        for kind, wanted in by_kind.items():
            inputs = self.inputs_of(kind)
            if inputs:
                nodes = _order(kind, wanted, inputs)
                node = None  # the sweep alone holds the graph now
                adjoints |= sweeps.pulled(nodes, wanted, inputs, self.recording)
        found = []
        for x, came in zip(self.inputs, self.numbers, strict=True):
            adjoint = adjoints.get(x) if type(x) is Tensor else None
            plain = type(adjoint) is np.ndarray and adjoint.ndim  # as it mostly is
            found.append(adjoint if plain else self._derivative(x, came, adjoints))
        return found

    def pushed(self, seeds: Sequence[tuple[Any, Any]], outputs: Sequence[Any], orders: Any = None) -> list[Any]:
        """The tangents of the outputs, from [(input, its tangent)]; zeros where nothing moves.

        orders: a dict in which the order of the graph is kept from one sweep to the next.
        """
        found: dict[Any, Any] = {}
        orders = {} if orders is None else orders
        moving: dict[type, dict[Any, Any]] = {}
        for x, seed in seeds:
            for node, tangent in _elements(x, seed):
                moving.setdefault(type(node), {})[node] = tangent
        for kind, tangents in moving.items():
            if kind not in orders:
                wanted = [node for y in outputs for node in _nodes(y) if type(node) is kind]
                orders[kind] = _order(kind, wanted, self.inputs_of(kind)) if wanted else []
            found |= sweeps.pushed(orders[kind], tangents, recording=self.recording)
        taken = {id(tangent) for _, tangent in seeds}  # arrays that somebody has, and that are not given out again
        given = []
        for y in outputs:
            if isinstance(y, Scalars):
                tangent = _gathered(
                    [found.get(node, 0.0) if type(node) is Value else 0.0 for node in _elements_of(y)], y.shape
                )
            elif type(y) is Tensor or type(y) is Value:
                tangent = found.get(y)
                if tangent is None:
                    tangent = 0.0 if type(y) is Value else np.zeros(y.shape, y.dtype)
            else:
                tangent = np.zeros(_shape(y), _float_type(y))
            if type(tangent) is np.ndarray and tangent.ndim:
                if tangent.base is not None or id(tangent) in taken:
                    tangent = np.array(tangent)
                taken.add(id(tangent))
            given.append(tangent if isinstance(y, np.ndarray) and y.ndim == 0 else _plain(tangent))
        return given

    def inputs_of(self, kind: type) -> list[Any]:
        """The nodes of one kind that the inputs consist of."""
        if all(type(x) is kind for x in self.inputs):  # as they mostly are
            return self.inputs
        return [node for x in self.inputs for node in _nodes(x) if type(node) is kind]

    def _reaches_outside(self) -> bool:
        """Whether what f returned depends on the inputs of a transform around this one, and not on ours alone.

        Derivatives are nodes then, so that the transform outside can differentiate them again.
        """
        results = [node for y in trees.flatten(self.result)[0] for node in _nodes(y, mixed=True)]
        tensors = [node for node in results if type(node) is Tensor]
        values = [node for node in results if type(node) is Value]
        outer = {node: None for run in list(_everywhere) for x in run.inputs for node in _nodes(x)}
        if tensors:  # what was made before our inputs may depend on those of another transform
            since = min((node.number for node in self.inputs_of(Tensor)), default=sys.maxsize)
            reached = dict.fromkeys(tensors)
            for node in tensor.order(*tensors, since=since):
                reached.update(dict.fromkeys(node.parents))
            if any(node.number < since and (node.op is not None or node in outer) for node in reached):
                return True
        return any(node in outer for node in (_order(Value, values, self.inputs_of(Value)) if values else ()))

    def _meets_values(self) -> bool:
        """Whether what f returned depends on Values that are not ours: a program is being recorded, and has to know."""
        values = [node for y in trees.flatten(self.result)[0] for node in _nodes(y, mixed=True) if type(node) is Value]
        own = dict.fromkeys(self.inputs_of(Value))
        return any(node.op is None and node not in own for node in (_order(Value, values, [*own]) if values else ()))

    def _derivative(self, x: Any, came: Any, adjoints: dict[Any, Any]) -> Any:
        """The adjoint of an input, as an object of the kind that came."""
        if isinstance(x, Scalars):
            return _gathered([adjoints.get(node, 0.0) for node in _elements_of(x)], x.shape)
        adjoint = adjoints.get(x)
        if adjoint is None:
            adjoint = 0.0 if type(x) is Value else np.zeros(x.shape, x.dtype)
        if isinstance(came, np.ndarray):
            return adjoint if type(adjoint) is Tensor else np.asarray(adjoint)
        return _plain(adjoint)


# in NumPy's errors about arrays of objects
OBJECT_TROUBLE = ("dtype('O')", "not supported for the input types", "has no callable", "setting an array element")

# what the leaf of an argument is: a number, an array of numbers, a node, an array of Values
FLOAT, ARRAY, VALUE, TENSOR, VALUES = "float", "array", "Value", "Tensor", "Values"


def _name(f: Function) -> str:
    if isinstance(f, functools.partial):
        return _name(f.func)
    return str(getattr(f, "__name__", type(f).__name__))


def _shape(x: Any) -> tuple[int, ...]:
    """np.shape, which would take a Value for an array."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return shape


def _is_real(x: Any) -> bool:
    return isinstance(x, (*REAL, np.floating)) or (isinstance(x, np.ndarray) and x.dtype.kind in "fiub")


def _float_type(x: Any) -> Any:
    kind = getattr(x, "dtype", None)
    return kind if kind is not None and kind.kind == "f" else np.dtype(float)


def _plain(x: Any) -> Any:
    """An array of no dimensions as a number: a float, or NumPy's own for other precisions."""
    if not isinstance(x, (np.ndarray, np.generic)) or x.ndim:
        return x
    return float(x) if x.dtype == np.float64 else x.dtype.type(x)


def _detached(x: Any) -> Any:
    """A node as a number or a fresh array; anything else as it is."""
    if type(x) is Value:
        return x.data
    if type(x) is Tensor:
        return np.array(x.data) if x.data.ndim else _plain(x.data)
    return np.array(x.data) if isinstance(x, Scalars) else x


def _nodes(x: Any, mixed: bool = False) -> list[Any]:
    """The nodes that an input or output consists of; mixed: also those of object arrays that f put together."""
    if type(x) is Tensor or type(x) is Value:
        return [x]
    if isinstance(x, Scalars) or (mixed and isinstance(x, np.ndarray) and x.dtype == object):
        return [node for node in _elements_of(x) if isinstance(node, (Value, Tensor))]
    return []


def _hold_nodes(arguments: list[Any]) -> bool:
    """Whether there are nodes among arguments."""
    return bool(arguments) and any(_nodes(x, mixed=True) for x in trees.leaves(arguments))


def _elements_of(array: Any) -> Any:
    """The elements of an array of objects, nodes and numbers."""
    return array.view(np.ndarray).reshape(-1).tolist()


def _elements(x: Any, part: Any) -> list[tuple[Any, Any]]:
    """[(node, its share)] of an input or output and an array of the same shape."""
    if type(x) is Tensor or type(x) is Value:
        return [(x, part)]
    if isinstance(x, Scalars):
        shares = np.asarray(part).reshape(-1).tolist()
        return [(node, share) for node, share in zip(_elements_of(x), shares, strict=True) if type(node) is Value]
    return []


def _gathered(parts: list[Any], shape: tuple[int, ...]) -> Any:
    """Numbers or nodes as an array of that shape."""
    if any(type(part) is Tensor for part in parts):
        return np.stack([np.reshape(part, ()) for part in parts]).reshape(shape)
    if any(type(part) is Value for part in parts):
        return scalars(np.array(parts, dtype=object).reshape(shape))
    return np.array(parts, dtype=float).reshape(shape)


def _order(kind: type, outputs: Any, inputs: Sequence[Any]) -> list[Any]:
    """The nodes between the inputs of a run and its outputs, each after all of its children."""
    if kind is Tensor:
        return tensor.order(*outputs, since=inputs[0].number if inputs else 0)  # the first was made first
    rows = [node.op for node in inputs]
    try:
        for node in inputs:  # the aliases count as leaves: what they are made from lies outside, and may be large
            node.op = None
        return value.order(*outputs)
    finally:
        for node, row in zip(inputs, rows, strict=True):
            node.op = row


def _positions(f: Function, transform: str, argnums: Any, args: Sequence[Any]) -> list[int]:
    if type(argnums) is int and 0 <= argnums < len(args):
        return [argnums]
    wanted = list(argnums) if isinstance(argnums, (tuple, list)) else [argnums]
    found = []
    for one in wanted:
        if not isinstance(one, (int, np.integer)) or isinstance(one, bool):
            raise TypeError(f"{transform}: argnums is an integer or a tuple of them, got {argnums!r}")
        if not -len(args) <= one < len(args):
            raise TypeError(
                f"{transform} of {_name(f)} by argument {one}, but it was called with {len(args)} positional "
                "argument(s); what is given by keyword is not differentiated"
            )
        found.append(int(one) % len(args))
    if len(set(found)) != len(found):
        raise ValueError(f"{transform}: argnums names an argument twice: {argnums!r}")
    return found


def _checked(f: Any, transform: str) -> None:
    if not callable(f):
        raise TypeError(f"{transform} takes a function, got {type(f).__name__} {f!r:.60}")


def _by_argument(run: Run, argnums: Any, derivatives: Sequence[Any]) -> Any:
    """Derivatives of all leaves as the trees of the chosen arguments: one, or a tuple for a tuple of argnums."""
    found = trees.unflatten(run.structure, derivatives)
    return tuple(found) if isinstance(argnums, (tuple, list, range)) else found[0]


def _transform(f: Function, name: str) -> Callable[[Function], Function]:
    _checked(f, name)

    def named(ours: Function) -> Function:
        wrapped = functools.update_wrapper(ours, f, updated=())
        wrapped.__name__ = f"{name}_of_{_name(f)}"
        return wrapped

    return named


# --- reverse mode -------------------------------------------------------------------------------------------------


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The function that gives (f(...), grad f(...)).

    f returns one real number; with has_aux=True a pair of it and anything else, and the result is
    ((value, anything else), gradient). argnums: by which arguments; a tuple of them gives a tuple of gradients. An
    argument is a number, an array, or a nested list, tuple or dict of these, and so is its gradient, of the same
    shapes and precision; integers count as floats.

    f may run twice: once more from the beginning where a float argument turns out to meet an array.

    Raises TypeError where f returns anything else, naming f and the shape that came.

    >>> value_and_grad(lambda x, p: np.sum(p["w"] * x**2), argnums=1)(np.array([1.0, 2.0]), {"w": 3.0})
    (15.0, {'w': 5.0})
    """

    @_transform(f, "value_and_grad")
    def transformed(*args: Any, **options: Any) -> Any:
        run = Run(f, "grad", args, _positions(f, "grad", argnums, args), options)
        result, aux = _split_aux(run, has_aux)
        leaves, structure = run.outputs(result)
        if structure is not trees.LEAF or _size(leaves[0]) != 1 or isinstance(result, (bool, np.bool_)):
            raise TypeError(
                f"{run.where}: f returned {_described(result)}, and a gradient is that of one number; reduce it with "
                "np.sum or np.mean, or use jacobian, elementwise_grad or vjp"
            )
        (y,) = run.given_back(leaves)
        aux = run.aux_given_back(aux) if has_aux else None
        seeds = [(leaves[0], _ones(leaves[0]))]
        run.result = result = leaves = None  # type: ignore[assignment] # the sweep alone holds the graph now
        found = run.pulled(seeds)
        return (y, aux) if has_aux else y, _by_argument(run, argnums, found)

    return transformed


def _described(result: Any) -> str:
    """What f returned, and of which shapes, for an error."""
    if isinstance(result, (list, tuple, dict)):
        return f"{type(result).__name__} of shapes {trees.tree_map(_shape, result)}"
    return f"an array of shape {_shape(result)}" if _shape(result) else repr(result)


def _split_aux(run: Run, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return run.result, None
    if not isinstance(run.result, tuple) or len(run.result) != 2:
        raise TypeError(
            f"{run.where}: with has_aux=True f returns a pair (value, anything else), got {run.result!r:.60}"
        )
    return run.result


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of f, a function that returns one real number; arguments and errors as in value_and_grad.

    With has_aux=True f returns a pair, and the result is (gradient, the pair's second).

    >>> grad(lambda x: x**3)(2.0), grad(grad(lambda x: x**3))(2.0)
    (12.0, 12.0)
    """
    both = value_and_grad(f, argnums, has_aux)

    @_transform(f, "grad")
    def transformed(*args: Any, **options: Any) -> Any:
        y, gradient = both(*args, **options)
        return (gradient, y[1]) if has_aux else gradient

    return transformed


def elementwise_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The derivative of each element of f by the same element of its argument, for f that works element by element.

    What it computes is the gradient of the sum of all that f returns: the same where elements do not mix.

    >>> elementwise_grad(np.tanh)(np.array([0.0, 1.0])).round(6)
    array([1.      , 0.419974])
    """

    @_transform(f, "elementwise_grad")
    def transformed(*args: Any, **options: Any) -> Any:
        run = Run(f, "elementwise_grad", args, _positions(f, "elementwise_grad", argnums, args), options)
        leaves, _ = run.outputs(run.result)
        return _by_argument(run, argnums, run.pulled([(leaf, _ones(leaf)) for leaf in leaves]))

    return transformed


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """(f(*primals), pullback): pullback(g) gives, per primal, the sum over outputs of g times the Jacobian.

    g has the structure and shapes of what f returns. With has_aux=True f returns a pair, and the result is
    (value, pullback, the pair's second). The pullback may be called any number of times, until it is dropped: it holds
    the graph. Raises TypeError or ValueError, naming the place, where g does not fit.

    >>> y, pullback = vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> y, pullback(np.array([1.0, 10.0]))
    (array([1., 4.]), (array([ 2., 40.]),))
    """
    _checked(f, "vjp")
    positions = range(len(primals))
    run = Run(f, "vjp", primals, positions, {})
    result, aux = _split_aux(run, has_aux)
    leaves, structure = run.outputs(result)
    aux = run.aux_given_back(aux)
    run.result = result = None

    def pullback(cotangent: Any) -> Any:
        given = _fitted(cotangent, leaves, structure, f"{run.where}: the cotangent", "result")
        return _by_argument(run, positions, run.pulled(list(zip(leaves, given, strict=True))))

    y = trees.unflatten(structure, run.given_back(leaves))
    return (y, pullback, aux) if has_aux else (y, pullback)


# --- forward mode -------------------------------------------------------------------------------------------------


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """(f(*primals), the rate of change of it along the tangents): the Jacobian times the tangents, in one sweep.

    primals, tangents: tuples of the same structure and shapes. With has_aux=True f returns a pair, and the result is
    (value, rate of change, the pair's second). Raises TypeError or ValueError, naming the argument, where they do not
    fit.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (6.0, 23.0)
    """
    _checked(f, "jvp")
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"jvp takes {what} as a tuple, one per argument of f, got {type(given).__name__}: write (x,)"
            )
    if len(primals) != len(tangents):
        raise TypeError(f"jvp takes one tangent per primal, got {len(tangents)} for {len(primals)}")
    run = Run(f, "jvp", tuple(primals), range(len(primals)), {})
    result, aux = _split_aux(run, has_aux)
    leaves, structure = run.outputs(result)
    seeds: list[Any] = []
    for i, (one, tangent) in enumerate(zip(run.structure[1], tangents, strict=True)):
        own = run.inputs[len(seeds) :][: trees.count(one)]
        fitted = _fitted(tangent, own, one, f"{run.where}: the tangent", f"argument {i}")
        seeds += zip(own, fitted, strict=True)
    moved = trees.unflatten(structure, run.pushed(seeds, leaves))
    y = trees.unflatten(structure, run.given_back(leaves))
    return (y, moved, run.aux_given_back(aux)) if has_aux else (y, moved)


def _fitted(tree: Any, nodes: Sequence[Any], structure: Any, what: str, root: str) -> list[Any]:
    """The leaves of a tangent or cotangent, one per node, in its precision; an error where they do not fit."""
    fitted: list[Any] = []
    for node, (leaf, place) in zip(nodes, trees.matched(tree, structure, what, root), strict=True):
        if isinstance(leaf, (list, tuple)):  # a list of numbers for an array
            leaf = np.asarray(leaf)
        if isinstance(leaf, np.ndarray) and leaf.dtype == object:
            if any(type(x) is Tensor for x in leaf.flat):
                leaf = restacked(leaf)
            elif any(type(x) is Value for x in leaf.flat):
                leaf = scalars(leaf)
            elif all(isinstance(x, REAL) for x in leaf.flat):
                leaf = leaf.astype(float)
        if leaf is None or not (isinstance(leaf, (Value, Tensor, np.ndarray)) or _is_real(leaf)):
            raise TypeError(f"{what} of the {place} is {type(leaf).__name__} {leaf!r:.40}, expected real numbers")
        if _shape(leaf) != _shape(node):
            raise ValueError(f"{what} of the {place} has the shape {_shape(node)}, got {_shape(leaf)}")
        if type(node) is Tensor and isinstance(leaf, (Value, Scalars)):
            tensor.raise_mixed(what)
        if isinstance(leaf, (Value, Tensor, Scalars)):
            fitted.append(leaf)
            continue
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "fiub":
            raise TypeError(f"{what} of the {place} is an array of {leaf.dtype}, expected real numbers")
        fitted.append(float(leaf) if type(node) is Value else np.asarray(leaf, _float_type(node)))
    return fitted


def hvp(f: Function, primals: Any, tangents: Any) -> Any:
    """The Hessian of f times the tangents, forward over reverse: jvp of grad, at the cost of a few gradients.

    primals, tangents: tuples, one entry per argument of f, or the bare entry of a function of one; the result is a
    tuple like primals, or a bare entry. Where f has a rule by custom_vjp, which cannot run forwards, reverse over
    reverse.

    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    _checked(f, "hvp")
    if not isinstance(primals, tuple):
        return hvp(f, (primals,), (tangents,))[0]
    gradient = grad(f, tuple(range(len(primals))))
    try:
        return jvp(gradient, primals, tangents)[1]
    except NoForwardRule:
        pass
    return vjp(gradient, *primals)[1](tangents)  # the Hessian is its own transpose


# --- matrices of derivatives --------------------------------------------------------------------------------------


def jacobian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The Jacobian of f: for an output of shape m and an input of shape n, an array of shape m + n.

    For nested outputs and inputs, a tree of outputs whose leaves are trees of inputs. A list of numbers counts as an
    array. One reverse sweep per element of the output, or, where these are more than the elements of the input, one
    forward sweep per element of the input. With has_aux=True f returns a pair, and the result is (Jacobian, the pair's
    second).

    >>> jacobian(lambda x: np.array([x[0] * x[1], x[1]]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [0., 1.]])
    """

    return _jacobian(f, "jacobian", argnums, has_aux, _as_array)


def _jacobian(f: Function, name: str, argnums: Any, has_aux: bool, outputs: Callable[[Any], Any]) -> Function:
    """The Jacobian of outputs(f)."""

    @_transform(f, name)
    def transformed(*args: Any, **options: Any) -> Any:
        run = Run(f, name, args, _positions(f, name, argnums, args), options)
        result, aux = _split_aux(run, has_aux)
        leaves, structure = run.outputs(outputs(result))
        blocks = None
        if sum(map(_size, run.inputs)) < sum(map(_size, leaves)):
            with contextlib.suppress(NoForwardRule):
                blocks = _blocks_by_columns(run, leaves)
        if blocks is None:
            blocks = _blocks_by_rows(run, leaves)
        found = trees.unflatten(structure, [_by_argument(run, argnums, row) for row in blocks])
        return (found, run.aux_given_back(aux)) if has_aux else found

    return transformed


def _blocks_by_rows(run: Run, outputs: Sequence[Any]) -> list[list[Any]]:
    """[[d(output)/d(input) for each input] for each output], by reverse sweeps."""
    blocks = []
    for y in outputs:
        rows = [run.pulled([(y, unit)]) for unit in _basis(y)]
        blocks.append([
            _stacked([row[i] for row in rows], _shape(y), _shape(x), _float_type(x)) for i, x in enumerate(run.inputs)
        ])  # fmt: skip
    return blocks


def _blocks_by_columns(run: Run, outputs: Sequence[Any]) -> list[list[Any]]:
    """The same by forward sweeps."""
    blocks: list[list[Any]] = [[] for _ in outputs]
    orders: dict[Any, Any] = {}
    for x in run.inputs:
        columns = [run.pushed([(x, unit)], outputs, orders) for unit in _basis(x)]
        inner = len(_shape(x))
        for j, y in enumerate(outputs):
            block = _stacked([column[j] for column in columns], _shape(x), _shape(y), _float_type(x))
            if inner and _shape(y):
                block = block.transpose((*range(inner, block.ndim), *range(inner)))
                block = np.ascontiguousarray(block) if type(block) is np.ndarray else block
            if type(block) is np.ndarray and block.dtype != _float_type(x):
                block = block.astype(_float_type(x))  # as reverse sweeps have it
            blocks[j].append(block)
    return blocks


def hessian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The matrix of second derivatives of f, of shape n + n for an input of shape n: the Jacobian of the Jacobian.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([2.0, 3.0]))
    array([[6., 4.],
           [4., 0.]])
    """
    _checked(f, "hessian")
    # The first derivatives by a list of numbers are a list, and so are the second by it and by it.
    return _jacobian(jacobian(f, argnums, has_aux), "hessian", argnums, has_aux, lambda gradient: gradient)


def _as_array(result: Any) -> Any:
    """A list of nodes of no dimensions (or of such lists) as one array; anything else as it is."""
    if not isinstance(result, list) or not result:
        return result
    leaves, _ = trees.flatten(result)
    if not all(_shape(leaf) == () for leaf in leaves):
        return result
    try:
        array = np.array(result, dtype=object)
    except ValueError:  # lists of different lengths
        return result
    return array if array.size == len(leaves) else result


def _size(x: Any) -> int:
    size: int = getattr(x, "size", 1)
    return size


def _ones(x: Any) -> Any:
    return 1.0 if type(x) is Value else np.ones(_shape(x), _float_type(x))


def _basis(x: Any) -> Iterator[Any]:
    """The unit vectors of the space that x lives in."""
    if type(x) is Value:
        yield 1.0
        return
    for i in range(_size(x)):
        unit = np.zeros(_size(x), _float_type(x))
        unit[i] = 1.0
        yield unit.reshape(_shape(x))


def _stacked(rows: list[Any], outer: tuple[int, ...], inner: tuple[int, ...], dtype: Any) -> Any:
    """The derivatives of all elements of an output by one input, as one array of shape outer + inner."""
    if not rows:
        return np.zeros((*outer, *inner), dtype)
    if outer == () and len(rows) == 1:
        return rows[0]
    if any(type(row) is Tensor for row in rows):
        return np.stack(rows).reshape((*outer, *inner))
    flat = [x for row in rows for x in (_elements_of(row) if isinstance(row, Scalars) else [row])]
    if any(type(x) is Value for x in flat):
        flat = [x for row in rows for x in (_elements_of(row) if isinstance(row, np.ndarray) else [row])]
        return scalars(np.array(flat, dtype=object).reshape((*outer, *inner)))
    return np.array(rows).reshape((*outer, *inner))


# --- out of the graph ---------------------------------------------------------------------------------------------


def stop_gradient(x: Any) -> Any:
    """x cut off from its graph: a new leaf for a node, and so for every leaf of a nested x; numbers as they are.

    >>> grad(lambda x: x * stop_gradient(x))(2.0)
    2.0
    """

    def cut(leaf: Any) -> Any:
        if isinstance(leaf, Value):
            if value.watcher is not None:
                value.watcher("stop_gradient", leaf, None, None)
            return Value(leaf.data, leaf.name)
        if type(leaf) is Tensor:
            return Tensor(leaf.data, leaf.name) if tensor.watcher is None else tensor.watcher.stopped(leaf)
        if isinstance(leaf, np.ndarray) and leaf.dtype == object:
            cut_off = np.empty(leaf.shape, dtype=object)
            for at in np.ndindex(leaf.shape):
                cut_off[at] = cut(leaf.view(np.ndarray)[at])
            return cut_off.view(type(leaf))
        return leaf

    return trees.tree_map(cut, x)
