"""Rules of the user's own for a function of arrays: custom_jvp and custom_vjp, with JAX's signatures.

A decorated function that meets a Tensor, given by hand or by a transform, records one node and not what happens
inside it; the rule says how that node is differentiated. Rules are written in NumPy's functions, as those of
operations.py are: they run on arrays, and on nodes where a higher derivative is wanted.

custom_jvp takes a forward rule, which serves both modes: it is linear in the tangents, so it is run on a tangent that
is a node, and what it drew is swept downwards. custom_vjp takes a reverse rule only.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autodiff import sweeps, tensor, trees
from autodiff.operations import NoForwardRule, Operation
from autodiff.scalars import meets_array
from autodiff.tensor import Tensor, restacked
from autodiff.value import REAL, Value

Rule = Callable[..., Any]


class Call:
    """One call of a custom function on nodes: all that is needed to call its rules, but for the operands."""

    __slots__ = ("dtypes", "moving", "nondiff", "outputs", "residuals", "shapes", "structure")

    def __init__(self, structure: Any, nondiff: dict[int, Any], moving: tuple[bool, ...]) -> None:
        self.moving = moving  # per operand, whether it is a node
        self.structure = structure  # of the list of differentiable arguments, whose leaves are the operands
        self.nondiff = nondiff  # {position: argument}
        self.outputs: Any = None  # the structure of what the function returned, and its leaves' shapes and types
        self.shapes: list[tuple[int, ...]] = []
        self.dtypes: list[Any] = []
        self.residuals: Any = None  # what fwd of a custom_vjp kept

    def arguments(self, leaves: Sequence[Any]) -> list[Any]:
        """The differentiable arguments with these leaves."""
        arguments: list[Any] = trees.unflatten(self.structure, leaves)
        return arguments

    def all_arguments(self, leaves: Sequence[Any]) -> list[Any]:
        """All arguments, in the order of the function's signature; arrays as views that cannot be written into."""
        rest = iter(self.arguments([_locked(leaf) for leaf in leaves]))
        count = len(self.structure[1]) + len(self.nondiff)
        return [self.nondiff[i] if i in self.nondiff else next(rest) for i in range(count)]

    def packed(self, leaves: Sequence[Any]) -> Any:
        """The leaves of an output, or of its tangent, as the one array that the node holds."""
        if len(self.shapes) == 1:
            return leaves[0]
        return np.concatenate([leaf.reshape(-1) for leaf in leaves])

    def unpacked(self, array: Any) -> list[Any]:
        """The leaves of an output, or of its cotangent, from the one array that the node holds."""
        if len(self.shapes) == 1:
            return [array]
        leaves, start = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            size = int(np.prod(shape))
            leaf = array[start : start + size].reshape(shape)
            leaves.append(leaf if leaf.dtype == dtype else leaf.astype(dtype))
            start += size
        return leaves


class Custom(Operation):
    """A function with a rule of its own: called on nodes it is the operation that made the result."""

    at_once = True

    def __init__(self, f: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        kind = type(self).__name__
        if not callable(f):
            raise TypeError(
                f"{kind} takes a function, got {type(f).__name__} {f!r:.60}; with options write "
                f"@functools.partial({kind}, nondiff_argnums=(0,))"
            )
        given = nondiff_argnums if isinstance(nondiff_argnums, (tuple, list)) else (nondiff_argnums,)
        for one in given:
            if not isinstance(one, (int, np.integer)) or isinstance(one, bool):
                raise TypeError(f"{kind}: nondiff_argnums is an integer or a tuple of them, got {nondiff_argnums!r}")
        self.nondiff_argnums = tuple(map(int, given))
        self.function = f
        self.name = str(getattr(f, "__name__", type(f).__name__))
        self.linear, self.pulls, self.pushes = None, (), None  # what other operations have instead of methods
        try:
            self.signature = None if isinstance(f, np.ufunc) else inspect.signature(f)
        except (TypeError, ValueError):
            self.signature = None  # as of some functions written in C
        functools.update_wrapper(self, f, updated=())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def _has_rule(self) -> bool:
        raise NotImplementedError

    def _first_run(self, call: Call, leaves: list[Any]) -> Any:
        """What the function returns for these plain operands."""
        return self.function(*call.all_arguments(leaves))

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = self._positional(args, options)
        positions = {one % len(given) for one in self.nondiff_argnums if -len(given) <= one < len(given)}
        operands, structure = trees.flatten([x for i, x in enumerate(given) if i not in positions])
        recording = False
        for i, x in enumerate(operands):
            if isinstance(x, np.ndarray) and x.dtype == object and any(type(e) is Tensor for e in x.flat):
                operands[i] = x = restacked(x)
            if type(x) is Tensor:
                recording = True
            elif isinstance(x, Value) or (isinstance(x, np.ndarray) and any(isinstance(e, Value) for e in _objects(x))):
                meets_array()  # a transform starts again with Tensors
                raise TypeError(
                    f"{self!r} was called with a Value: its rule is one for arrays. Give it autodiff.Tensor(number), "
                    "or make a rule for Values with autodiff.primitive"
                )
        nondiff = {i: given[i] for i in sorted(positions)}
        for i, x in nondiff.items():
            if any(isinstance(leaf, (Value, Tensor)) for leaf in trees.flatten(x)[0]):
                raise TypeError(
                    f"{self!r}: argument {i} is among nondiff_argnums, and is a node: its derivative would be lost "
                    "without a word. Take it out of nondiff_argnums, or give it .data"
                )
        if not recording:
            return self.function(*given)
        if not self._has_rule():
            method = "defjvp(rule)" if isinstance(self, custom_jvp) else "defvjp(fwd, bwd)"
            raise TypeError(f"{self!r} was called with a node and has no rule yet: give it one by {self.name}.{method}")
        for x, place in zip(operands, trees.places(structure, "argument"), strict=True):
            if type(x) is not Tensor and not _is_number(x):
                raise TypeError(
                    f"{self!r}: {place} is {type(x).__name__} {x!r:.40}; arguments that are no real numbers, arrays of "
                    "them or nodes go into nondiff_argnums"
                )
        call = Call(structure, nondiff, tuple(type(x) is Tensor for x in operands))
        result = self._first_run(call, [x.data if type(x) is Tensor else x for x in operands])
        arrays, call.outputs = self._arrays(result)
        call.shapes, call.dtypes = [x.shape for x in arrays], [x.dtype for x in arrays]
        # A view, for the function may keep the array itself.
        data = call.packed(arrays)[...]
        parents = tuple(x for x in operands if type(x) is Tensor)
        node = tensor.recorded(data, self, tuple(operands), parents, {"call": call})
        return trees.unflatten(call.outputs, call.unpacked(node))

    def _positional(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments by position, defaults included."""
        if self.signature is None:
            if options:
                raise TypeError(f"{self!r} takes positional arguments only, got {', '.join(options)}")
            return args
        bound = self.signature.bind(*args, **options)
        if bound.kwargs:
            raise TypeError(
                f"{self!r}: {', '.join(bound.kwargs)} can be given by keyword only, and a rule takes its arguments by "
                "position; make it an ordinary parameter, and name it in nondiff_argnums if it is no number"
            )
        bound.apply_defaults()
        return bound.args

    def _arrays(self, result: Any) -> tuple[list[Any], Any]:
        """The leaves of what the function returned, as arrays of floats, and their structure."""
        leaves, structure = trees.flatten(result)
        if not leaves:
            raise TypeError(f"{self!r} returned {result!r:.60}, and has no derivative: return numbers or arrays")
        arrays = []
        for leaf, place in zip(leaves, trees.places(structure, "result"), strict=True):
            if isinstance(leaf, (Value, Tensor)) or (isinstance(leaf, np.ndarray) and leaf.dtype == object):
                raise TypeError(
                    f"{self!r} was run on plain arrays and its {place} is a node: it uses a node that is not among its "
                    "arguments, whose derivative would be lost. Pass that node as an argument"
                )
            if not _is_number(leaf):
                raise TypeError(f"{self!r}: its {place} is {type(leaf).__name__} {leaf!r:.40}, expected real numbers")
            array = np.asarray(leaf)
            arrays.append(array if array.dtype.kind == "f" else array.astype(float))
        return arrays, structure

    def forward(self, *operands: Any, call: Call) -> Any:
        """The data of the node for these plain operands."""
        return call.packed(self._arrays(self.function(*call.all_arguments(operands)))[0])

    def pull(self, position: int, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """The contribution of y's adjoint g to the operand at that position."""
        return self.pull_all(g, y, operands, parameters)[position]

    def pull_all(self, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The contributions to all operands: a rule of the user's gives them in one call."""
        raise NotImplementedError

    def _fitted(self, tree: Any, structure: Any, likes: Sequence[Any], what: str, root: str) -> list[Any]:
        """The leaves of what a rule returned, of the shapes and precisions of others; None where it has None."""
        fitted: list[Any] = []
        for (leaf, place), like in zip(trees.matched(tree, structure, what, root), likes, strict=True):
            if isinstance(leaf, np.ndarray) and leaf.dtype == object:
                leaf = restacked(leaf) if leaf.size and all(type(x) is Tensor for x in leaf.flat) else leaf
            if leaf is not None and type(leaf) is not Tensor:
                if not _is_number(leaf):
                    raise TypeError(
                        f"{what} of the {place} is {type(leaf).__name__} {leaf!r:.40}, expected real numbers"
                    )
                kind = getattr(like, "dtype", np.dtype(float))
                # A view: the rule may keep the array itself, and sweeps add to arrays that nobody else has.
                leaf = np.asarray(leaf, kind if kind.kind == "f" else float)[...]
            if leaf is not None and leaf.shape != np.shape(_data(like)):
                raise ValueError(f"{what} of the {place} has the shape {np.shape(_data(like))}, got {leaf.shape}")
            fitted.append(leaf)
        return fitted


class custom_jvp(Custom):
    """f with a forward rule of its own, which serves reverse mode and higher derivatives too.

    The rule takes the arguments and their tangents as two tuples and returns (y, dy); dy is linear in the tangents.
    It runs on arrays and, for reverse mode and higher derivatives, on Tensors. nondiff_argnums: positions of arguments
    that are no numbers; the rule takes them first. On plain numbers f just runs; on Values it raises TypeError (see
    autodiff.primitive). f returns a number, an array, or a nested list, tuple or dict of these.

    >>> @custom_jvp
    ... def log1pexp(x):
    ...     return np.log1p(np.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (dx,) = primals, tangents
    ...     return log1pexp(x), (1 - 1 / (1 + np.exp(x))) * dx
    >>> x = Tensor([0.0, 100.0])
    >>> np.sum(log1pexp(x)).backward()
    >>> x.grad
    array([0.5, 1. ])
    """

    rule: Rule | None = None

    def defjvp(self, rule: Rule) -> Rule:
        """Sets the rule, rule(primals, tangents) -> (y, dy), and returns it: to be used as a decorator."""
        if not callable(rule):
            raise TypeError(f"{self!r}: defjvp takes a function (primals, tangents) -> (y, dy), got {rule!r:.60}")
        self.rule = rule
        return rule

    def defjvps(self, *rules: Rule | None) -> None:
        """Sets one rule per argument, rule(tangent, y, *arguments) -> its part of dy; None for an argument without.

        >>> area = custom_jvp(lambda a, b: a * b)
        >>> area.defjvps(lambda da, y, a, b: da * b, lambda db, y, a, b: a * db)
        >>> a = Tensor(2.0)
        >>> area(a, 3.0).backward()
        >>> float(a.grad)
        3.0
        """
        if self.nondiff_argnums:
            raise TypeError(f"{self!r}: defjvps has no place for nondiff_argnums; use defjvp")

        def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
            if len(rules) != len(primals):
                raise TypeError(
                    f"{self!r} has {len(rules)} rules by defjvps and was called with {len(primals)} arguments"
                )
            y = self(*primals)
            parts = [one(t, y, *primals) for one, t in zip(rules, tangents, strict=True) if one is not None]
            total: Any = np.zeros(np.shape(_data(y))) if not parts else parts[0]
            for part in parts[1:]:
                total = total + part
            return y, total

        self.defjvp(rule)

    def _has_rule(self) -> bool:
        return self.rule is not None

    def _tangent(self, call: Call, operands: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """The leaves of dy, as the rule gives them."""
        assert self.rule is not None
        primals, moved = (call.arguments([_locked(leaf) for leaf in leaves]) for leaves in (operands, tangents))
        result = self.rule(*call.nondiff.values(), tuple(primals), tuple(moved))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"the rule of {self!r} returns a pair (y, dy), got {type(result).__name__} {result!r:.60}")
        likes = [
            np.broadcast_to(np.zeros((), dtype), shape) for shape, dtype in zip(call.shapes, call.dtypes, strict=True)
        ]
        return [
            np.zeros(like.shape, like.dtype) if leaf is None else leaf
            for leaf, like in zip(
                self._fitted(result[1], call.outputs, likes, f"the rule of {self!r}: the tangent", "result"),
                likes,
                strict=True,
            )
        ]

    def push(self, tangents: Sequence[Any], y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """The tangent of y: one tangent per operand, None where it is zero."""
        call = parameters["call"]
        filled = [_zeros(x) if t is None else t for x, t in zip(operands, tangents, strict=True)]
        return call.packed(self._tangent(call, operands, filled))

    def pull_all(self, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The transpose of the push: the rule is run on tangents that are nodes, and g sent down what it drew."""
        call = parameters["call"]
        # The rule is linear in the tangents, so their numbers do not matter: 1, that no 0 * inf turns up.
        zeros = [_zeros(x) for x in operands]
        given = [Tensor(x + 1.0) if moves else x for x, moves in zip(zeros, call.moving, strict=True)]
        with np.errstate(all="ignore"):  # what is wrong with the numbers comes to light when g arrives
            outputs = self._tangent(call, operands, given)
        tangents = [t for t in given if type(t) is Tensor]
        since = tangents[0].number
        seeds: dict[Tensor, Any] = {}
        for leaf, part in zip(outputs, call.unpacked(g), strict=True):
            if type(leaf) is Tensor and leaf.number >= since:
                seeds[leaf] = seeds[leaf] + part if leaf in seeds else part
        recording = any(type(x) is Tensor for x in operands)
        found: dict[Any, Any] = sweeps.pulled(tensor.order(*seeds, since=since), seeds, tangents, recording)
        return [found.get(t, zero) if type(t) is Tensor else zero for t, zero in zip(given, zeros, strict=True)]


class custom_vjp(Custom):
    """f with a reverse rule of its own, for grad, vjp and backward.

    fwd(*args) returns (y, residuals), where residuals is anything that bwd needs; bwd(residuals, g) returns a tuple
    of cotangents, one per argument, None for a zero. Both run on arrays and, for higher derivatives, on Tensors.
    nondiff_argnums: positions of arguments that are no numbers; bwd takes them first. There is no forward rule: jvp
    raises TypeError. On plain numbers f just runs; on Values it raises TypeError (see autodiff.primitive).

    >>> @custom_vjp
    ... def clipped(x):  # as the identity, but no gradient above 1
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda residuals, g: (np.clip(g, -1.0, 1.0),))
    >>> x = Tensor([3.0, 0.1])
    >>> np.sum(clipped(x) ** 2).backward()
    >>> x.grad
    array([1. , 0.2])
    """

    fwd: Rule | None = None
    bwd: Rule | None = None

    def defvjp(self, fwd: Rule, bwd: Rule) -> None:
        """Sets the rules fwd(*args) -> (y, residuals) and bwd(residuals, g) -> tuple of cotangents."""
        for rule, what in ((fwd, "fwd(*args) -> (y, residuals)"), (bwd, "bwd(residuals, g) -> tuple of cotangents")):
            if not callable(rule):
                raise TypeError(f"{self!r}: defvjp takes two functions, and {what} is {rule!r:.60}")
        self.fwd, self.bwd = fwd, bwd

    def _has_rule(self) -> bool:
        return self.fwd is not None

    def _forward(self, call: Call, leaves: Sequence[Any]) -> tuple[Any, Any]:
        assert self.fwd is not None
        result = self.fwd(*call.all_arguments(leaves))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"fwd of {self!r} returns a pair (y, residuals), got {type(result).__name__} {result!r:.60}"
            )
        return result[0], result[1]

    def _first_run(self, call: Call, leaves: list[Any]) -> Any:
        y, call.residuals = self._forward(call, leaves)
        return y

    def push(self, tangents: Sequence[Any], y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        """Raises NoForwardRule (a TypeError)."""
        raise NoForwardRule(
            f"forward mode through {self!r}: it has a reverse rule only. Give it a forward rule with "
            "autodiff.custom_jvp, which serves both modes; or use grad, vjp or jacobian"
        )

    def pull_all(self, g: Any, y: Any, operands: Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
        """What bwd returns, for every operand."""
        call = parameters["call"]
        assert self.bwd is not None
        recording = any(type(x) is Tensor for x in operands)
        residuals = self._forward(call, operands)[1] if recording else call.residuals
        cotangent = trees.unflatten(call.outputs, [_locked(part) for part in call.unpacked(g)])
        result = self.bwd(*call.nondiff.values(), residuals, cotangent)
        count = len(call.structure[1])
        if not isinstance(result, (tuple, list)) or len(result) != count:
            came = (
                f"{len(result)} of them"
                if isinstance(result, (tuple, list))
                else f"{type(result).__name__} {result!r:.40}"
            )
            raise TypeError(f"bwd of {self!r} returns a tuple of {count} cotangent(s), one per argument, got {came}")
        found = self._fitted(list(result), call.structure, operands, f"bwd of {self!r}: the cotangent", "argument")
        if not recording and type(g) is not Tensor and any(type(leaf) is Tensor for leaf in found):
            raise TypeError(
                f"bwd of {self!r} returned a node for plain arrays: it uses a node that is not among its arguments, "
                "whose derivative would be lost. Pass that node as an argument"
            )
        return [_zeros(x) if leaf is None else leaf for x, leaf in zip(operands, found, strict=True)]


def _objects(array: Any) -> Any:
    return array.flat if array.dtype == object else ()


def _data(x: Any) -> Any:
    return x.data if type(x) is Tensor else x


def _zeros(x: Any) -> Any:
    """A zero tangent or cotangent of an operand."""
    kind = getattr(x, "dtype", np.dtype(float))
    return np.zeros(np.shape(_data(x)), kind if kind.kind == "f" else float)


def _is_number(x: Any) -> bool:
    return isinstance(x, (REAL, np.generic)) or (isinstance(x, np.ndarray) and x.dtype.kind in "fiub")


def _locked(array: Any) -> Any:
    """A view that a rule cannot write into: others hold the array too."""
    if type(array) is np.ndarray:
        array = array.view()
        array.flags.writeable = False
    return array
