"""The command `chainrule` (= `python -m nn`): the doctor for files of other people's code, and the explorer.

`chainrule audit FILE[:OBJECT]` and `chainrule formula "dW[k] = ..."` exit with 0 for right, 1 for wrong, 2 for usage, 3
for undecidable. `chainrule explore FILE` writes a page and exits with 0, or with 2.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any

import numpy as np

from nn import explore_command
from nn.audit import formula
from nn.audit.child import begin, described, run
from nn.audit.function import audit_function, printed_note, process_cause
from nn.audit.model import SIZES, audit_model, audit_model_on_probes, recognised_loss
from nn.audit.protocol import Unknown, copied, initialized, is_model, method, parameters
from nn.audit.report import HINTS, Report
from nn.by_hand import ACTIVATIONS, LOSSES, REDUCTIONS

__all__ = ["main"]

RIGHT, WRONG, USAGE, UNDECIDABLE = 0, 1, 2, 3
LOADING = "loading the file"
DEFAULT_SIZES = (3, 5, 2)  # of a network whose class asks for its widths
CALLS = 12  # calls of foreign code that one audit of a function may need, at most


class Usage(Exception):
    """What was asked for cannot be done, in a sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line; prints the report."""
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _audit_and_print(options: argparse.Namespace) -> int:
    try:
        report = _audit(options)
    except (Usage, ValueError, TypeError, OSError) as error:
        print(f"chainrule: {error}", file=sys.stderr)
        return USAGE
    print(json.dumps(_plain(report.to_dict()), indent=2) if options.json else report.text(options.hint))
    return {True: RIGHT, False: WRONG, None: UNDECIDABLE}[report.ok]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="chainrule", description="See and check backpropagation.")
    commands = parser.add_subparsers(dest="command", required=True)
    audit = commands.add_parser(
        "audit",
        help="name the mistake in a hand-written backward pass",
        description="Names the mistakes in the backward pass of a Python file. The file runs in a child process.",
        epilog="Exit codes: 0 right, 1 wrong, 2 usage, 3 undecidable.",
    )
    audit.add_argument(
        "file",
        metavar="FILE[:OBJECT]",
        help="a Python file with a model (forward, backward, lists W b z a dz dW db da) or a function "
        "backward(W, b, X, y) -> {'dW1': ...}; OBJECT names it where there are several",
    )
    audit.add_argument("--data", metavar="FILE", help="npz with X and y, or csv with y last; default: random data")
    audit.add_argument(
        "--loss", help=f"{', '.join(LOSSES)}, or a function of the file; default: looked for in the file"
    )
    audit.add_argument("--sizes", type=_sizes, help="units of the layers from the input on: 2,4,3,1")
    audit.add_argument("--activations", type=_names, help="one per layer: relu,relu,sigmoid")
    audit.add_argument("--reduction", choices=[*REDUCTIONS, "any"], help="default: that of the loss function, or mean")
    audit.add_argument(
        "--layout", choices=["row", "column"], help="samples in rows or columns; default: whichever fits"
    )
    audit.add_argument("--hint", choices=HINTS, default="fix", help="how much is given away (default: fix)")
    audit.add_argument("--json", action="store_true", help="print one JSON object")
    audit.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="for loading, and for each call (default: 30)"
    )
    audit.set_defaults(run=_audit_and_print)
    formula.add_command(commands)
    explore_command.add_command(commands)
    return parser


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        sizes = []
    if len(sizes) < 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected at least two positive numbers such as 2,4,3,1; came {text!r}")
    return sizes


def _names(text: str) -> list[str]:
    names = text.replace(",", " ").split()
    for name in names:
        if name not in ACTIVATIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is not known; known are {', '.join(ACTIVATIONS)}")
    return names


def _plain(value: Any) -> Any:
    """Plain data for JSON, which knows neither nan nor inf nor NumPy's numbers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# ---------------------------------------------------------------- the parent
def _audit(options: argparse.Namespace) -> Report:
    path, name = _target(options.file)
    data = None if options.data is None else _data(options.data, options.sizes)
    if not 0 < options.timeout < math.inf:
        raise Usage(f"--timeout is a positive number of seconds; came {options.timeout:g}")
    outcome = run(_in_child, path, name, data, options, timeout=options.timeout)
    if outcome.problem == "raises":  # what foreign code raises was told of where it was called
        return Report(None, notes=(f"the audit itself failed: it {outcome.message}",))
    if outcome.problem:
        # what a file does before its backward pass runs says nothing about the gradients
        loading = outcome.during == LOADING
        if loading and outcome.problem == "timeout":
            raise Usage(
                f"{os.path.basename(path)} did not finish loading within {options.timeout:g} seconds; put what trains, "
                'asks or loops under if __name__ == "__main__":, or allow more time with --timeout SECONDS'
            )
        cause = process_cause("file" if loading else "model", outcome.problem, outcome.message)
        return Report(None if loading else False, (cause,))
    found = outcome.value
    if isinstance(found, str):
        raise Usage(found)
    assert isinstance(found, Report)
    if outcome.printed:
        found = replace(found, notes=(*found.notes, printed_note("the file", outcome.printed)))
    return found


def _target(text: str) -> tuple[str, str | None]:
    """(path, object or None) of FILE[:OBJECT]."""
    path, name = text, None
    if not os.path.exists(path) and ":" in text:
        path, _, name = text.rpartition(":")
    if not os.path.isfile(path):
        raise Usage(f"there is no file {path}")
    return os.path.abspath(path), name or None


def _data(path: str, sizes: Sequence[int] | None) -> tuple[Any, Any]:
    """(X, y) of an npz file with these names, or of a csv file whose last columns are y."""
    if not os.path.isfile(path):
        raise Usage(f"there is no file {path}")
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as archive:
            names = {name.lower(): name for name in archive.files}
            if not {"x", "y"} <= set(names):
                raise Usage(f"{path} holds {', '.join(archive.files) or 'nothing'}, expected X and y")
            return archive[names["x"]], archive[names["y"]]
    try:
        table = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError:
        try:
            table = np.loadtxt(path, delimiter=",", ndmin=2, skiprows=1)  # names of the columns come first
        except ValueError as error:
            raise Usage(f"{path} is no table of numbers separated by commas: {error}") from None
    outputs = sizes[-1] if sizes else 1
    if table.shape[1] <= outputs:
        raise Usage(f"{path} has {table.shape[1]} columns; {outputs} of them are y, and none is left for X")
    return table[:, :-outputs], table[:, -outputs:]


# ---------------------------------------------------------------- the child
@dataclass
class File:
    """A file that was run: what it defines, and what stopped it."""

    path: str
    module: ModuleType
    notes: list[str] = field(default_factory=list)

    def own(self) -> dict[str, Any]:
        """What the file defines and has not imported, the objects it made included."""
        return {
            name: value
            for name, value in vars(self.module).items()
            if not name.startswith("__")
            and not inspect.ismodule(value)
            and getattr(value, "__module__", self.module.__name__) == self.module.__name__
        }


def _in_child(path: str, name: str | None, data: tuple[Any, Any] | None, options: argparse.Namespace) -> Report | str:
    """The Report on a file, or a sentence on wrong usage; runs foreign code, so only in a child."""
    begin(LOADING, options.timeout)
    try:
        file = _loaded(path)
        target = _named(file, name) if name else _found(file, options)
        # the calls of a function have children of their own, each with its own limit
        begin("the audit", options.timeout * (1 if is_model(target) else CALLS))
        report = (
            _of_model(file, target, data, options)
            if is_model(target)
            else _of_function(file, target, data, options)
        )  # fmt: skip
    except Usage as usage:
        return str(usage)
    return replace(report, notes=(*report.notes, *file.notes))


def _loaded(path: str) -> File:
    """The file, run as a module; what it had defined before it raised is kept."""
    name = os.path.splitext(os.path.basename(path))[0]
    name = name if name.isidentifier() and name not in sys.modules else "audited_file"
    loader = SourceFileLoader(name, path)  # whatever the file's name ends with
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [path]
    sys.dont_write_bytecode = True
    file = File(path, module)
    try:
        loader.exec_module(module)
    except BaseException as error:  # SystemExit too: a script may end itself
        if isinstance(error, SyntaxError) or not file.own():
            raise Usage(f"{os.path.basename(path)} cannot be run: it {described(error)}") from None
        file.notes.append(f"the file {described(error)}; what it had defined by then was audited")
    return file


def _has_weights(model: Any) -> bool:
    try:
        parameters(model)
    except Unknown:
        return False
    return True


def _named(file: File, name: str) -> Any:
    value: Any = file.module
    for part in name.split("."):
        if not hasattr(value, part):
            known = ", ".join(key for key, item in file.own().items() if callable(item) or is_model(item))
            raise Usage(f"there is no {name} in {file.path}; it defines {known or 'nothing that can be called'}")
        value = getattr(value, part)
    if not is_model(value) and not callable(value):
        raise Usage(f"{name} is a {type(value).__name__}, expected a model with forward and backward, or a function")
    return value


def _found(file: File, options: argparse.Namespace) -> Any:
    """The model or the backward function of a file: an object before a function before a class."""
    own = file.own()
    objects = {name: value for name, value in own.items() if is_model(value) and not inspect.isclass(value)}
    whole = {name: value for name, value in objects.items() if _has_weights(value)}
    objects = whole or objects  # layers have a forward and a backward too
    distinct = {id(value): name for name, value in objects.items()}
    if len(distinct) > 1:
        raise Usage(f"{file.path} has several models, {', '.join(objects)}: choose one with FILE:OBJECT")
    if objects:
        return next(iter(objects.values()))
    functions = {name: value for name, value in own.items() if inspect.isfunction(value)}
    for fits in (lambda name: name == "backward", lambda name: "backward" in name or "backprop" in name):
        named = [value for name, value in functions.items() if fits(name)]
        if len(named) == 1:
            return named[0]
    taking = [
        value for value in functions.values() if list(inspect.signature(value).parameters) == ["W", "b", "X", "y"]
    ]
    if len(taking) == 1:
        return taking[0]
    classes = {name: value for name, value in own.items() if inspect.isclass(value) and is_model(value)}
    if classes:
        return _chosen(file, classes, options)
    defined = ", ".join(own) or "nothing"
    raise Usage(
        f"{file.path} defines neither a model (an object or class with forward and backward) nor a function "
        f"backward(W, b, X, y); it defines {defined}"
    )


def _chosen(file: File, classes: dict[str, Any], options: argparse.Namespace) -> Any:
    """The one class of these that makes a network; layers and bases that leave backward open do not."""
    whole = {}
    refusals: list[Usage] = []
    for name, value in classes.items():
        written = [method(value, which) for which in ("forward", "backward")]
        if inspect.isabstract(value) or any("NotImplementedError" in _names_in(found) for found in written):
            continue
        try:
            whole[name] = initialized(_made(value, options))
            parameters(whole[name])
        except Usage as usage:
            refusals.append(usage)
        except Unknown:
            whole.pop(name, None)
    parts = {type(part) for model in whole.values() for part in _parts(model)}
    whole = {name: classes[name] for name in whole if classes[name] not in parts}
    if len(whole) > 1:
        first = next(iter(whole))
        raise Usage(
            f"{file.path} has several models, {', '.join(whole)}: choose one with FILE:OBJECT, as in "
            f"{os.path.basename(file.path)}:{first}"
        )
    if whole:
        return next(iter(whole.values()))
    if refusals:
        raise refusals[-1]
    return list(classes.values())[-1]


def _parts(model: Any) -> list[Any]:
    """The objects that a model is made of: its layers."""
    held: list[Any] = []
    for value in vars(model).values() if hasattr(model, "__dict__") else ():
        held += list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else [value]
    return held


def _names_in(function: Any) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    return code.co_names if code is not None else ()


def _widths_for(name: str, options: argparse.Namespace) -> list[Any]:
    """What a constructor's parameter of this name may be given: widths, a rate, a seed; [] where it is not known."""
    sizes = list(options.sizes or DEFAULT_SIZES)
    word = name.lower()
    if word in SIZES:
        return [sizes]
    for pattern, values in (
        (r"hidden_?(layers|sizes|dims|units|layer_sizes)|n_hiddens", [sizes[1:-1], sizes[1]]),
        (r"(n|num|d|dim)?_?(in|x|i|input|inputs|features|n_in|d_in)(_?(size|dim|dims|nodes|units|neurons|features|n|s))?",
         [sizes[0]]),
        (r"(n|num|d|dim)?_?(h|hid|hidden|hidden\d|h\d|n_h)(_?(size|dim|nodes|units|neurons|layer|layer_size|n|s))?",
         [sizes[1], sizes[1:-1]]),
        (r"(n|num|d|dim)?_?(out|y|o|output|outputs|classes|labels|n_out|d_out)(_?(size|dim|dims|nodes|units|neurons|n|s))?",
         [sizes[-1]]),
        (r"lr|alpha|eta|learning_?rate|step_?size|rate", [0.1]),
        (r"seed|random_?(state|seed)", [0]),
        (r"rng|generator|random", [np.random.default_rng(0)]),
        (r"(n_?|num_?|max_?)?(epochs?|iter|iterations|steps)", [1]),
        (r"batch_?size", [7]),
    ):  # fmt: skip
        if re.fullmatch(pattern, word):
            return values
    return []


def _made(target: Any, options: argparse.Namespace) -> Any:
    """An object of a class, built without arguments or with those that its parameters ask for by name."""
    if not inspect.isclass(target):
        return target
    known: dict[str, Any] = dict.fromkeys(SIZES, options.sizes) | {
        "activations": options.activations,
        "loss": options.loss,
        "reduction": options.reduction,
        "layout": options.layout,
    }
    declared = inspect.signature(target).parameters.values()
    given = {p.name: [known[p.name]] for p in declared if known.get(p.name) is not None}
    missing = []
    for p in declared:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or p.name in given:
            continue
        values = _widths_for(p.name, options)
        if values and (p.default is p.empty or (options.sizes and isinstance(p.default, int | list | tuple))):
            given[p.name] = values if p.default is p.empty else values[:1]
        elif p.default is p.empty:
            missing.append(p.name)
    if missing:
        raise Usage(f"{target.__name__} is a class and needs {', '.join(missing)}: make a model of it in the file")
    problem = ""
    for chosen in itertools.islice(itertools.product(*given.values()), 8):
        try:
            return target(**dict(zip(given, chosen, strict=True)))
        except Exception as error:
            problem = problem or described(error)
    tried = ", ".join(f"{name}={values[0]!r}" for name, values in given.items())
    told = f" with {tried}" if tried else " without arguments"
    raise Usage(f"{target.__name__} cannot be made{told}: it {problem}; make a model of it in the file")


def _losses(file: File, options: argparse.Namespace, outputs: int, layout: str, model: Any = None) -> list[Any]:
    """The losses that may be meant: that of the option, or the functions and methods that are losses."""
    if options.loss is not None:
        if options.loss in LOSSES:
            return [options.loss]
        function = getattr(file.module, options.loss, getattr(model, options.loss, None))
        if not callable(function):
            raise Usage(f"--loss {options.loss} is neither one of {', '.join(LOSSES)} nor a function of the file")
        return [function]
    functions: list[Any] = [value for value in file.own().values() if inspect.isfunction(value)]
    methods = [getattr(model, name, None) for name in dir(model) if LOSS_NAMES.search(name)]  # of None there are none
    functions += [found for found in methods if inspect.ismethod(found) or inspect.isfunction(found)]
    known = [value for value in functions if recognised_loss(value, outputs, layout)[0] is not None]
    if not known:
        raise Usage(NO_LOSS)
    return known


LOSS_NAMES = re.compile("loss|cost|error|objective|criterion|mse|entropy", re.IGNORECASE)
NO_LOSS = (
    "the loss is not known: none of the functions in the file is one. Say which loss backward differentiates, with "
    f"--loss {'|'.join(LOSSES)}, or --loss and the name of a function (y, yhat) of the file"
)


def _best(reports: Sequence[Report], names: Sequence[str]) -> Report:
    """The report with the fewest causes, where the file has several losses and does not say which it means."""
    judged = [pair for pair in zip(reports, names, strict=True) if pair[0].ok is not None] or [(reports[0], names[0])]
    report, name = min(judged, key=lambda pair: len(pair[0].causes))
    if len(reports) > 1:
        others = ", ".join(other for other in names if other != name)
        return replace(report, notes=(*report.notes, f"taken for the loss: {name}, which fits best; not {others}"))
    return report


def _called(loss: Any) -> str:
    return loss if isinstance(loss, str) else str(getattr(loss, "__name__", loss))


def _of_model(file: File, target: Any, data: tuple[Any, Any] | None, options: argparse.Namespace) -> Report:
    model = _made(target, options)
    outputs = _outputs(model, data, options)
    losses = _losses(file, options, outputs, options.layout or "row", model)
    reduction = None if options.reduction == "any" else options.reduction

    def audited(loss: Any) -> Report:
        if data is None:
            return audit_model_on_probes(model, loss, reduction=reduction, layout=options.layout)
        return audit_model(model, *data, loss, reduction=reduction, layout=options.layout)

    return _best([audited(loss) for loss in losses], [_called(loss) for loss in losses])


def _outputs(model: Any, data: tuple[Any, Any] | None, options: argparse.Namespace) -> int:
    """n_L, as far as it can be seen without a forward pass; 1 otherwise."""
    if options.sizes:
        return int(options.sizes[-1])
    for name in SIZES:
        widths = getattr(model, name, None)
        if isinstance(widths, list | tuple) and widths and isinstance(widths[-1], int):
            return widths[-1]
    with contextlib.suppress(Unknown):
        biases = parameters(initialized(copied(model)))[1]
        if biases:
            return int(np.size(biases[-1]))
    return 1 if data is None or np.ndim(data[1]) < 2 else int(np.shape(data[1])[0 if options.layout == "column" else 1])


def _of_function(
    file: File, backward: Callable[..., Any], data: tuple[Any, Any] | None, options: argparse.Namespace
) -> Report:
    if data is not None:
        raise Usage("--data is for models; for a function the doctor chooses W, b, X and y itself")
    own = {name.lower(): value for name, value in vars(file.module).items()}
    sizes = options.sizes or next((own[name] for name in SIZES if name in own), None)
    activations: Any = options.activations or own.get("activations")
    named = isinstance(activations, list | tuple) and all(isinstance(name, str) for name in activations)
    if sizes is None or not (named or isinstance(activations, str)):
        raise Usage("for a function, give --sizes 2,4,3,1 and --activations relu,relu,sigmoid (and --loss)")
    layout = options.layout or "row"
    if isinstance(own.get("loss"), str) and options.loss is None:
        options.loss = own["loss"]
    losses = _losses(file, options, int(sizes[-1]), layout)
    reports = []
    for loss in losses:
        name, reduction, notes = (
            (loss, "mean", []) if isinstance(loss, str) else recognised_loss(loss, int(sizes[-1]), layout)
        )
        if name is None:
            return Report(None, notes=tuple(notes))
        if options.reduction is not None:
            reduction = None if options.reduction == "any" else options.reduction
        try:
            report = audit_function(
                backward, sizes=sizes, activations=activations, loss=name, reduction=reduction, layout=layout,
                timeout=options.timeout,
            )  # fmt: skip
        except (ValueError, TypeError) as error:  # what was declared does not fit together
            raise Usage(str(error)) from None
        reports.append(replace(report, notes=(*notes, *report.notes)))
    return _best(reports, [_called(loss) for loss in losses])


if __name__ == "__main__":
    raise SystemExit(main())
