"""grad, jvp, vjp and their like: functions from functions to their derivatives, with JAX's signatures.

All of them run f once on nodes and then sweep over the graph that f has drawn: upwards with tangents (jvp), or
downwards with adjoints (vjp, grad, jacobian). They keep adjoints of their own and never write a grad.

An argument that is a float becomes a Value as long as f does arithmetic of numbers with it; where it meets an array
or an array function of NumPy, f is started again with a Tensor of no dimensions instead. Arrays become Tensors. What
is a node already gets an alias, a new node for the same number: a transform differentiates by its aliases and by
nothing else, so transforms nest in any order without mistaking one another's variables. Inside another transform,
and where an argument is a node, derivatives are nodes themselves; elsewhere they are plain numbers and arrays.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from autodiff import sweeps, tensor, trees, value
from autodiff.primitives import alias
from autodiff.scalars import ON_ARRAY, Scalars, scalars
from autodiff.tensor import Tensor, restacked
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


def _start_again() -> None:
    """Starts the innermost run again whose floats are Values and could be Tensors."""
    for run in reversed(_active.runs):
        if run.may_start_again:
            raise _StartAgain(run)


ON_ARRAY.append(_start_again)
tensor.ON_MIXED.append(_start_again)


class Run:
    """One run of f on nodes: the inputs, the outputs, and the two sweeps between them."""

    def __init__(self, f: Function, transform: str, args: Sequence[Any], argnums: Sequence[int], options: Any) -> None:
        self.where = f"{transform} of {getattr(f, '__name__', type(f).__name__)}"
        self.argnums = argnums
        # the leaves of the chosen arguments, as they came
        self.numbers, self.structure = trees.flatten([args[position] for position in argnums])
        kinds = [self._kind(x, i) for i, x in enumerate(self.numbers)]
        self.from_nodes = "Value" in kinds or "Tensor" in kinds or "Values" in kinds
        floats = "float" in kinds and "array" not in kinds and "Tensor" not in kinds
        scalar = floats and not any(run.floats_are_tensors for run in _active.runs)
        self.may_start_again = scalar and not self.from_nodes
        self.floats_are_tensors = not scalar and ("array" in kinds or "Tensor" in kinds or "float" in kinds)
        _active.runs.append(self)
        try:
            try:
                result = self._called(f, args, options, kinds)
            except _StartAgain as again:
                if again.run is not self:
                    raise
                self.may_start_again, self.floats_are_tensors = False, True
                result = self._called(f, args, options, kinds)
        finally:
            _active.runs.pop()
        self.may_start_again = False
        self.result = result
        self.recording = self.from_nodes or (bool(_active.runs) and self._reaches_outside())

    def _called(self, f: Function, args: Sequence[Any], options: Any, kinds: list[str]) -> Any:
        self.inputs = [self._lifted(x, kind) for x, kind in zip(self.numbers, kinds, strict=True)]
        given = list(args)
        for position, lifted in zip(self.argnums, trees.unflatten(self.structure, self.inputs), strict=True):
            given[position] = lifted
        return f(*given, **options)

    def place(self, i: int) -> str:
        """How to write the i-th leaf down: argument 0['W'][1]."""
        parts = [trees.places(one, f"argument {n}") for n, one in zip(self.argnums, self.structure[1], strict=True)]
        return [place for part in parts for place in part][i]

    def _kind(self, x: Any, i: int) -> str:
        if type(x) is np.ndarray and x.dtype.kind == "f":
            return "array"
        if isinstance(x, Value):
            return "Value"
        if type(x) is Tensor:
            return "Tensor"
        if isinstance(x, np.ndarray) and x.dtype == object:
            return "Values"
        if type(x) in (float, int, bool, np.float64) or (isinstance(x, REAL) and not isinstance(x, np.generic)):
            return "float"
        if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "fiub":
            return "array"
        kind = f"an array of {x.dtype}" if isinstance(x, (np.ndarray, np.generic)) else f"{type(x).__name__} {x!r:.40}"
        raise TypeError(
            f"{self.where}: {self.place(i)} is {kind}; derivatives are taken by real numbers, arrays of them, nodes, and "
            "lists, tuples and dicts of these. Name the arguments to differentiate by with argnums"
        )

    def _lifted(self, x: Any, kind: str) -> Any:
        if kind == "Values":
            return scalars([self._lifted(element, "Value" if isinstance(element, Value) else "float")
                            for element in x.flat]).reshape(x.shape)  # fmt: skip
        if kind in ("Value", "Tensor"):
            twin = alias(x)
            twin.name = x.name
            return twin
        if kind == "float" and not self.floats_are_tensors:
            return Value(x)
        return Tensor(x)

    # --- the result ---

    def outputs(self, result: Any) -> tuple[list[Any], Any]:
        """The leaves and the structure of what f returned; object arrays of array nodes are stacked."""
        leaves, structure = trees.flatten(result)
        for i, (leaf, place) in enumerate(zip(leaves, trees.places(structure, "result"), strict=True)):
            if isinstance(leaf, np.ndarray) and leaf.dtype == object:
                leaves[i] = restacked(leaf) if any(type(x) is Tensor for x in leaf.flat) else scalars(leaf)
            elif not isinstance(leaf, (Value, Tensor)) and not _is_real(leaf):
                raise TypeError(
                    f"{self.where}: the {place} is {type(leaf).__name__} {leaf!r:.40}, and has no derivative; f "
                    "returns real numbers, arrays of them, and lists, tuples and dicts of these"
                )
        return leaves, structure

    def given_back(self, y: Any) -> Any:
        """An output as the caller gets it: plain numbers, or nodes where these are wanted."""
        if self.recording:
            return y
        if isinstance(y, (Value, Scalars)):
            return np.array(y.data) if isinstance(y, Scalars) else y.data
        return _plain(y.data) if type(y) is Tensor else y

    # --- the sweeps ---

    def pulled(self, seeds: list[tuple[Any, Any]]) -> list[Any]:
        """The adjoints of the inputs, from [(output, its adjoint)], which is used up."""
        by_kind: dict[type, dict[Any, Any]] = {Value: {}, Tensor: {}}
        while seeds:
            for node, part in _elements(*seeds.pop()):
                present = by_kind[type(node)].get(node)
                by_kind[type(node)][node] = part if present is None else present + part
        adjoints: dict[Any, Any] = {}
        for kind, wanted in by_kind.items():
            inputs = [node for x in self.inputs for node in _nodes(x) if type(node) is kind]
            if wanted and inputs:
                nodes = _order(kind, wanted, inputs)
                node = None  # the sweep alone holds the graph now
                adjoints |= sweeps.pulled(nodes, wanted, inputs, self.recording)
        return [
            self._derivative(x, came, adjoints) for x, came in zip(self.inputs, self.numbers, strict=True)
        ]

    def pushed(self, seeds: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """The tangents of the outputs, from those of the inputs; zeros where nothing moves."""
        found: dict[Any, Any] = {}
        for kind in (Value, Tensor):
            moving = {node: t for x, seed in zip(self.inputs, seeds, strict=True) for node, t in _elements(x, seed)
                      if type(node) is kind}  # fmt: skip
            wanted = [node for y in outputs for node in _nodes(y) if type(node) is kind]
            if moving and wanted:
                nodes = _order(kind, wanted, list(moving))
                found |= sweeps.pushed(nodes, moving, recording=self.recording)
        tangents = []
        for y in outputs:
            if isinstance(y, Scalars):
                parts = [found.get(node, 0.0) if isinstance(node, Value) else 0.0 for node in y.flat]
                tangents.append(_gathered(parts, y.shape))
            elif isinstance(y, (Value, Tensor)):
                zero: Any = 0.0 if isinstance(y, Value) else np.zeros(y.shape, y.dtype)
                tangents.append(_plain(found.get(y, zero)))
            else:
                tangents.append(_plain(np.zeros(np.shape(y), _float_type(y))))
        return tangents

    def _reaches_outside(self) -> bool:
        """Whether what f returned depends on the inputs of a transform around this one, and not on ours alone.

        Derivatives are nodes then, so that the transform outside can differentiate them again.
        """
        results = [node for y in trees.flatten(self.result)[0] for node in _nodes(y, mixed=True)]
        tensors = [node for node in results if type(node) is Tensor]
        values = [node for node in results if type(node) is Value]
        if tensors:  # what was made before our inputs may depend on those of another transform
            since = min((node.number for x in self.inputs for node in _nodes(x) if type(node) is Tensor), default=0)
            nodes = tensor.order(*tensors, since=since)
            if any(node.number < since for node in tensors):
                return True
            if any(parent.number < since for node in nodes for parent in node.parents):
                return True
        outer = {node: None for run in _active.runs for x in run.inputs for node in _nodes(x)}
        return any(node in outer for node in (value.order(*values) if values else ()))

    def _derivative(self, x: Any, came: Any, adjoints: dict[Any, Any]) -> Any:
        """The adjoint of an input, as an object of the kind that came."""
        if isinstance(x, Scalars):
            return _gathered([adjoints.get(node, 0.0) for node in _nodes(x)], x.shape)
        if isinstance(x, Value):
            return adjoints.get(x, 0.0)
        adjoint = adjoints.get(x)
        if adjoint is None:
            adjoint = np.zeros(x.shape, x.dtype)
        if isinstance(came, np.ndarray):
            return adjoint if type(adjoint) is Tensor else np.asarray(adjoint)
        return _plain(adjoint)


def _is_real(x: Any) -> bool:
    if isinstance(x, (bool, np.bool_)):
        return False
    return isinstance(x, REAL) or (isinstance(x, np.ndarray) and x.dtype.kind in "fiu") or isinstance(x, np.floating)


def _float_type(x: Any) -> Any:
    kind = getattr(x, "dtype", np.dtype(float))
    return kind if kind.kind == "f" else np.dtype(float)


def _plain(x: Any) -> Any:
    """An array of no dimensions as a number: a float, or NumPy's own for other precisions."""
    if isinstance(x, (np.ndarray, np.generic)) and x.ndim == 0:
        return float(x) if x.dtype == np.float64 else x[()]
    return x


def _nodes(x: Any, mixed: bool = False) -> list[Any]:
    """The nodes that an input or output consists of; mixed: also those of object arrays that f put together."""
    if isinstance(x, Scalars) or (mixed and isinstance(x, np.ndarray) and x.dtype == object):
        return [node for node in x.flat if isinstance(node, (Value, Tensor))]
    return [x] if isinstance(x, (Value, Tensor)) else []


def _elements(x: Any, part: Any) -> list[tuple[Any, Any]]:
    """[(node, its share)] of an input or output and an array of the same shape."""
    if isinstance(x, Scalars):
        shares = part.flat if isinstance(part, np.ndarray) else np.asarray(part).flat
        return [(node, share) for node, share in zip(x.flat, shares, strict=True) if isinstance(node, Value)]
    return [(x, part)] if isinstance(x, (Value, Tensor)) else []


def _gathered(parts: list[Any], shape: tuple[int, ...]) -> Any:
    """Numbers or nodes as an array of that shape."""
    if any(isinstance(part, Value) for part in parts):
        return scalars(np.array(parts, dtype=object).reshape(shape))
    return np.array([float(part) for part in parts]).reshape(shape)


def _order(kind: type, outputs: Any, inputs: Sequence[Any]) -> list[Any]:
    if kind is Tensor:
        return tensor.order(*outputs, since=min(node.number for node in inputs))
    return value.order(*outputs)


def _positions(f: Function, transform: str, argnums: Any, args: Sequence[Any]) -> list[int]:
    wanted = list(argnums) if isinstance(argnums, (tuple, list)) else [argnums]
    found = []
    for one in wanted:
        if not isinstance(one, (int, np.integer)) or isinstance(one, bool):
            raise TypeError(f"{transform}: argnums is an integer or a tuple of them, got {argnums!r}")
        if not -len(args) <= one < len(args):
            name = getattr(f, "__name__", type(f).__name__)
            raise TypeError(
                f"{transform} of {name} by argument {one}, but it was called with {len(args)} positional argument(s)"
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
    return tuple(found) if isinstance(argnums, (tuple, list)) else found[0]


def _transform(f: Function, name: str) -> Callable[[Function], Function]:
    _checked(f, name)

    def named(ours: Function) -> Function:
        try:
            wrapped = functools.wraps(f)(ours)
        except (AttributeError, TypeError):
            wrapped = ours
        wrapped.__name__ = f"{name}_of_{getattr(f, '__name__', type(f).__name__)}"
        return wrapped

    return named


# --- reverse mode -------------------------------------------------------------------------------------------------


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The function that gives (f(...), grad f(...)).

    f returns one real number; with has_aux=True a pair of it and anything else, and the result is
    ((value, anything else), gradient). argnums: by which arguments; a tuple of them gives a tuple of gradients. An
    argument is a number, an array, or a nested list, tuple or dict of these, and so is its gradient, of the same
    shapes and precision; integers count as floats.

    Raises TypeError where f returns anything else, naming f and the shape that came.

    >>> value_and_grad(lambda x, p: np.sum(p["w"] * x**2), argnums=1)(np.array([1.0, 2.0]), {"w": 3.0})
    (15.0, {'w': 5.0})
    """

    @_transform(f, "value_and_grad")
    def transformed(*args: Any, **options: Any) -> Any:
        run = Run(f, "grad", args, _positions(f, "grad", argnums, args), options)
        result, aux = _split_aux(run, has_aux)
        leaves, structure = run.outputs(result)
        shapes = [np.shape(leaf) for leaf in leaves]
        if structure is not trees.LEAF or np.size(leaves[0]) != 1:
            what = f"an array of shape {shapes[0]}" if structure is trees.LEAF else f"{type(result).__name__} {shapes}"
            raise TypeError(
                f"{run.where}: f returned {what}, and a gradient is that of one number; reduce it with np.sum or "
                "np.mean, or use jacobian, elementwise_grad or vjp"
            )
        output = leaves[0]
        y, aux = run.given_back(output), run_aux(run, aux)
        seeds = [(output, _ones(output))]
        run.result = result = output = leaves = None  # type: ignore[assignment] # the sweep alone holds the graph now
        found = run.pulled(seeds)
        return (y, aux) if has_aux else y, _by_argument(run, argnums, found)

    return transformed


def run_aux(run: Run, aux: Any) -> Any:
    """What f returned besides, with plain numbers for nodes where nobody wants these."""
    return trees.tree_map(run.given_back, aux)


def _split_aux(run: Run, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return run.result, None
    if not isinstance(run.result, tuple) or len(run.result) != 2:
        raise TypeError(f"{run.where}: with has_aux=True f returns a pair (value, anything else), got {run.result!r:.60}")
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
    (value, pullback, the pair's second). Raises TypeError or ValueError, naming the place, where g does not fit.

    >>> y, pullback = vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> y, pullback(np.array([1.0, 10.0]))
    (array([1., 4.]), (array([ 2., 40.]),))
    """
    _checked(f, "vjp")
    positions = tuple(range(len(primals)))
    run = Run(f, "vjp", primals, positions, {})
    result, aux = _split_aux(run, has_aux)
    leaves, structure = run.outputs(result)

    def pullback(cotangent: Any) -> Any:
        given = _fitted(cotangent, leaves, structure, f"{run.where}: the cotangent", "result")
        return _by_argument(run, positions, run.pulled(list(zip(leaves, given, strict=True))))

    y = trees.unflatten(structure, [run.given_back(leaf) for leaf in leaves])
    return (y, pullback, run_aux(run, aux)) if has_aux else (y, pullback)


# --- forward mode -------------------------------------------------------------------------------------------------


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(f(*primals), the rate of change of it along the tangents): the Jacobian times the tangents, in one sweep.

    primals, tangents: tuples of the same structure and shapes. Raises TypeError or ValueError, naming the argument,
    where they do not fit.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (6.0, 23.0)
    """
    _checked(f, "jvp")
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(f"jvp takes {what} as a tuple, one per argument of f, got {type(given).__name__}: write (x,)")
    if len(primals) != len(tangents):
        raise TypeError(f"jvp takes one tangent per primal, got {len(tangents)} for {len(primals)}")
    run = Run(f, "jvp", tuple(primals), range(len(primals)), {})
    given: list[Any] = []
    for i, (structure, tangent) in enumerate(zip(run.structure[1], tangents, strict=True)):
        own = run.inputs[len(given) :][: trees.count(structure)]
        given += _fitted(tangent, own, structure, f"{run.where}: the tangent", f"argument {i}")
    leaves, structure = run.outputs(run.result)
    moved = run.pushed(given, leaves)
    y = [run.given_back(leaf) for leaf in leaves]
    return trees.unflatten(structure, y), trees.unflatten(structure, moved)


def _fitted(tree: Any, nodes: Sequence[Any], structure: Any, what: str, root: str) -> list[Any]:
    """The leaves of a tangent or cotangent, one per node, in its precision; an error where they do not fit."""
    leaves, own = trees.flatten(tree)
    if structure is trees.LEAF and own is not trees.LEAF:  # a list of numbers for an array
        leaves, own = [np.asarray(tree)], trees.LEAF
    if not trees.same_structure(own, structure):
        raise TypeError(f"{what} has not the structure of the {root}: got {type(tree).__name__} {tree!r:.60}")
    fitted = []
    for leaf, node, place in zip(leaves, nodes, trees.places(structure, root), strict=True):
        if np.shape(leaf) != np.shape(node):
            raise ValueError(f"{what} of the {place} has the shape {np.shape(node)}, got {np.shape(leaf)}")
        if isinstance(leaf, (Value, Tensor)) or (isinstance(leaf, np.ndarray) and leaf.dtype == object):
            fitted.append(leaf)
        elif not _is_real(leaf) and not isinstance(leaf, (bool, np.ndarray)):
            raise TypeError(f"{what} of the {place} is {type(leaf).__name__} {leaf!r:.40}, expected real numbers")
        elif type(node) is Tensor:
            fitted.append(np.asarray(leaf, node.dtype))
        else:
            fitted.append(float(leaf) if isinstance(node, Value) else np.asarray(leaf, float))
    return fitted


def hvp(f: Function, primals: Any, tangents: Any) -> Any:
    """The Hessian of f times the tangents, forward over reverse: jvp of grad, at the cost of a few gradients.

    primals, tangents: tuples, one entry per argument of f, or the bare entry of a function of one; the result is a
    tuple like primals, or a bare entry.

    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    _checked(f, "hvp")
    if not isinstance(primals, tuple):
        return jvp(grad(f), (primals,), (tangents,))[1]
    return jvp(grad(f, tuple(range(len(primals)))), primals, tangents)[1]


# --- matrices of derivatives --------------------------------------------------------------------------------------


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The Jacobian of f: for an output of shape m and an input of shape n, an array of shape m + n.

    For nested outputs and inputs, a tree of outputs whose leaves are trees of inputs. A list of numbers counts as an
    array. One reverse sweep per element of the output.

    >>> jacobian(lambda x: np.array([x[0] * x[1], x[1]]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [0., 1.]])
    """

    @_transform(f, "jacobian")
    def transformed(*args: Any, **options: Any) -> Any:
        run = Run(f, "jacobian", args, _positions(f, "jacobian", argnums, args), options)
        leaves, structure = run.outputs(_as_array(run.result))
        found = []
        for leaf in leaves:
            rows = [run.pulled([(leaf, seed)]) for seed in _basis(leaf)]
            columns = [
                _stacked([row[i] for row in rows], np.shape(leaf), np.shape(x), _float_type(x))
                for i, x in enumerate(run.inputs)
            ]
            found.append(_by_argument(run, argnums, columns))
        return trees.unflatten(structure, found)

    return transformed


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The matrix of second derivatives of f, of shape n + n for an input of shape n: the Jacobian of the Jacobian.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([2.0, 3.0]))
    array([[6., 4.],
           [4., 0.]])
    """
    return jacobian(jacobian(f, argnums), argnums)


def _as_array(result: Any) -> Any:
    """A list of nodes of no dimensions (or of such lists) as one array; anything else as it is."""
    if not isinstance(result, list) or not result:
        return result
    leaves, _ = trees.flatten(result)
    if not all(np.shape(leaf) == () for leaf in leaves):
        return result
    try:
        array = np.array(result, dtype=object)
    except ValueError:  # lists of different lengths
        return result
    return array if array.size == len(leaves) else result


def _ones(x: Any) -> Any:
    return 1.0 if isinstance(x, Value) else np.ones(np.shape(x), _float_type(x))


def _basis(x: Any) -> Iterator[Any]:
    """The unit vectors of the space that x lives in."""
    if isinstance(x, Value):
        yield 1.0
        return
    for i in range(np.size(x)):
        unit = np.zeros(np.size(x), _float_type(x))
        unit[i] = 1.0
        yield unit.reshape(np.shape(x))


def _stacked(rows: list[Any], outer: tuple[int, ...], inner: tuple[int, ...], dtype: Any) -> Any:
    """The derivatives of all elements of an output by one input, as one array of shape outer + inner."""
    if not rows:
        return np.zeros((*outer, *inner), dtype)
    if outer == () and len(rows) == 1:
        return rows[0]
    if any(type(row) is Tensor for row in rows):
        return np.stack(rows).reshape((*outer, *inner))
    if any(isinstance(x, Value) for row in rows for x in (row.flat if isinstance(row, np.ndarray) else [row])):
        flat = [x for row in rows for x in (row.flat if isinstance(row, np.ndarray) else [row])]
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
            return Value(leaf.data, leaf.name)
        if type(leaf) is Tensor:
            return Tensor(leaf.data, leaf.name)
        if isinstance(leaf, np.ndarray) and leaf.dtype == object:
            cut_off = np.empty(leaf.shape, dtype=object)
            for at in np.ndindex(leaf.shape):
                cut_off[at] = cut(leaf.view(np.ndarray)[at])
            return cut_off.view(type(leaf))
        return leaf

    return trees.tree_map(cut, x)
