"""`chainrule explore FILE`: the page of a graph that a Python file builds.

The file is run as a script is, with the interpreter that runs the command; it defines `output`, the node whose
gradients are asked for. Exit codes: 0 for a page, 2 for what cannot be explored.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import runpy
import sys
import traceback
from typing import Any

import numpy as np

from autodiff import Graph, Tensor, Value

__all__ = ["add_command"]

DONE, USAGE = 0, 2


def add_command(subparsers: Any) -> argparse.ArgumentParser:
    """The subcommand `explore`, added to what `add_subparsers()` gave; its `run(arguments)` returns the exit code."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explore",
        help="write a page in which backpropagation is stepped through",
        description="Writes one HTML page, which works offline, about the graph that a Python file builds. "
        "The file is run: explore only files that you would run.",
        epilog="Exit codes: 0 a page was written, 2 usage.",
    )
    parser.add_argument(
        "file", metavar="FILE[:NAME]", help="a Python file that defines `output`, a node; NAME is another name for it"
    )
    parser.add_argument(
        "-o", "--out", metavar="PAGE", help="where to write; default: the name of FILE with .html, in this folder"
    )
    parser.add_argument("--title", help="the heading of the page; default: the name of the output")
    parser.set_defaults(run=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    path, name = arguments.file, "output"
    if not os.path.exists(path) and ":" in path:
        path, _, name = path.rpartition(":")
    try:
        output = _built(path, name)
        page = arguments.out or pathlib.Path(path).with_suffix(".html").name
        written = Graph(output).explore(page, title=arguments.title)
    except (_Refused, ValueError, OSError) as error:
        print(f"chainrule: {error}", file=sys.stderr)
        return USAGE
    print(written)
    return DONE


class _Refused(Exception):
    """Why there is no page, in a sentence."""


def _built(path: str, name: str) -> Any:
    """The node that a file defines under that name."""
    if not os.path.isfile(path):
        raise _Refused(f"{path}: there is no such file")
    before = sys.argv, sys.path[:]
    sys.argv = [path]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        made = runpy.run_path(path, run_name="__main__")
    except BaseException as error:  # SystemExit too: a script may end itself
        if isinstance(error, KeyboardInterrupt):
            raise
        own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = getattr(error, "lineno", None) or (own[-1] if own else None)
        where = f", line {line}" if line else ""
        raise _Refused(f"{path}{where}: it raises {type(error).__name__}: {error}") from None
    finally:
        sys.argv, sys.path[:] = before
    if name not in made:
        nodes = sorted(key for key, value in made.items() if isinstance(value, Value | Tensor))
        there = f"; it defines the nodes {', '.join(nodes[:12])}: explore {path}:{nodes[-1]}" if nodes else ""
        raise _Refused(f"{path} defines no {name!r}, the node to explore{there}")
    output = made[name]
    if isinstance(output, np.ndarray) and output.dtype == object and output.size == 1:
        output = output.item()
    if not isinstance(output, Value | Tensor):
        raise _Refused(f"{path}: {name} is a node (a Value or a Tensor), got {type(output).__name__} {output!r:.60}")
    return output
