"""Foreign code runs elsewhere: one call in a child process, with limits on its time, its memory and what it prints.

The child is forked where the platform can fork, so that functions of a notebook, of __main__ and lambdas work, and
nothing they do to modules, to the random generators or to their arguments reaches us. Elsewhere it is spawned, and
the function must be one that pickle can name.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import linecache
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np

__all__ = ["Outcome", "begin", "described", "run"]

PRINTED = 20_000  # characters of what a child prints that are kept
RETURNED = 1 << 28  # bytes of what a child returns that are taken
MEMORY = 4 << 30  # bytes a child may allocate beside what it has from its parent
DEPTH = 3  # foreign code may call the doctor itself, but a file that audits itself would never end

_depth = 0  # how many children deep this process is
_sender: Connection | None = None  # the way to the parent, in a child
_sending = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What became of a call: its value, or the problem that kept it from one.

    problem: None, "raises", "timeout", "exits" (the process ended in the call) or "too-large" (more came back than can
    be taken). message: the problem in words. printed: the beginning of what it printed, to stdout and stderr alike.
    during: what it had begun last, see `begin`.
    """

    value: Any = None
    problem: str | None = None
    message: str = ""
    printed: str = ""
    during: str = ""


def run(function: Callable[..., Any], *arguments: Any, timeout: float = 10.0, start: str | None = None) -> Outcome:
    """function(*arguments), called in a child process that has `timeout` seconds.

    The value must be one that pickle can carry. start: "fork" or "spawn", by default the first that the platform has.
    Raises ValueError for a timeout that is no positive number, TypeError where a spawned child cannot be handed the
    function, RuntimeError where children have begot children too often.

    >>> run(divmod, 7, 3).value
    (2, 1)
    >>> run(divmod, 7, 0).problem
    'raises'
    """
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout is a positive number of seconds; came {timeout!r}")
    if _depth >= DEPTH:
        raise RuntimeError("the audited code audits itself again and again; call the doctor outside of what it audits")
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child: _Forked | _Spawned
    if (start or ("fork" if hasattr(os, "fork") else "spawn")) == "fork":
        child = _Forked(receiver, sender, function, arguments)
    else:
        child = _Spawned(sender, function, arguments)
    try:
        sender.close()
        return _listen(receiver, child, timeout)
    finally:
        child.end()
        receiver.close()


def begin(what: str, timeout: float) -> None:
    """Gives the child that calls it `timeout` seconds from now on, for what it names; nothing outside of a child."""
    if _sender is not None:
        _send(_sender, ("begin", (what, timeout)))


def _listen(receiver: Connection, child: _Forked | _Spawned, timeout: float) -> Outcome:
    """The outcome that the child sends, or that follows from its silence."""
    deadline, what, printed = time.monotonic() + timeout, "", ""
    while True:
        try:
            if not receiver.poll(max(0.0, deadline - time.monotonic())):
                during = f" {what}" if what else ""
                sentence = f"did not finish{during} within {timeout:g} seconds: is there an endless loop?"
                return Outcome(None, "timeout", sentence, printed, what)
            kind, content = pickle.loads(receiver.recv_bytes())
        except EOFError:
            return Outcome(None, "exits", child.end(), printed, what)
        if kind == "printed":
            printed += content
        elif kind == "begin":
            what, timeout = content
            deadline = time.monotonic() + timeout
        elif kind == "value":
            return Outcome(content, None, "", printed, what)
        else:
            return Outcome(None, kind, content, printed, what)


# ---------------------------------------------------------------- two ways to have a child
class _Forked:
    """A forked child. Not multiprocessing's: a worker of a pool, which a grader may well be, is not allowed one."""

    def __init__(
        self, receiver: Connection, sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self.status: str | None = None
        with warnings.catch_warnings():
            # later Pythons warn of a fork beside threads; this child takes none of our locks
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                receiver.close()
                if _depth == 0:
                    os.setsid()  # a group of its own, so that all it starts ends with it
                _limit_memory()
                _answer(sender, function, arguments, _depth + 1)
            finally:
                os._exit(0)  # never back into the caller's stack, and past what it has to clean up

    def end(self) -> str:
        """How it ended; it is ended where it had not."""
        if self.status is None:
            # Not waited for yet, so that the number is still its own. One that ended by itself keeps its exit code.
            # Deeper children share the group of the first, and must not end their own parents.
            for kill in (os.killpg, os.kill) if _depth == 0 else (os.kill,):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.status = _ending(os.waitstatus_to_exitcode(status))
        return self.status


class _Spawned:
    """A child that starts from nothing and is handed the function by pickle."""

    def __init__(self, sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            pickle.dumps((function, arguments))
        except Exception as error:
            raise TypeError(
                f"{_name(function)} cannot be handed to another process here ({error}); define it at the top level of "
                "a file that can be imported"
            ) from error
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_answer, args=(sender, function, arguments, _depth + 1), daemon=True)
        self.process.start()
        self.status: str | None = None

    def end(self) -> str:
        """How it ended; it is ended where it had not."""
        if self.status is None:
            self.process.join(0.2)  # where it only had yet to say with what code
            self.process.kill()
            self.process.join()
            self.status = _ending(self.process.exitcode or 0)
        return self.status


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code} instead of returning"
    try:
        return f"ended its process by {signal.Signals(-code).name} instead of returning"
    except ValueError:
        return f"ended its process by signal {-code} instead of returning"


def _limit_memory() -> None:
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as statm:
            taken = int(statm.read().split()[5]) * resource.getpagesize()  # what it has from its parent
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = taken + MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard < 0 else min(allowed, hard), hard))
    except (ImportError, ValueError, OSError):
        pass  # not every platform limits; the time limit stands


# ---------------------------------------------------------------- inside the child
class _Printed(io.TextIOBase):
    """Takes what is printed and hands the beginning of it to the parent."""

    def __init__(self, sender: Connection) -> None:
        self.sender, self.left = sender, PRINTED

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """The number of characters taken: all, though only the first are kept."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        kept, self.left = text[: self.left], self.left - len(text[: self.left])
        if kept:
            _send(self.sender, ("printed", kept))
        return len(text)


def _send(sender: Connection, message: tuple[str, Any]) -> None:
    payload = pickle.dumps(message)
    if len(payload) > RETURNED:
        payload = pickle.dumps(("too-large", f"returned {len(payload)} bytes; at most {RETURNED} can be taken"))
    with _sending:  # threads of the foreign code may print too
        sender.send_bytes(payload)


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...], depth: int) -> None:
    """Sends function(*arguments), or what it raised."""
    global _depth, _sender
    _depth, _sender = depth, sender
    faulthandler.disable()  # where it crashes, our own output stays clean
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # what compiled code prints must not reach our own output
        os.dup2(nothing, descriptor)
    sys.stdin = io.StringIO()  # input() finds an end, and no person
    sys.stdout = sys.stderr = _Printed(sender)
    try:
        # our own settings, such as warnings that are errors, are not the foreign code's
        with warnings.catch_warnings(), np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            warnings.simplefilter("default")
            for category in (ResourceWarning, DeprecationWarning, PendingDeprecationWarning, ImportWarning):
                warnings.simplefilter("ignore", category)  # as in a script
            value = function(*arguments)
    except SystemExit as error:
        code = "" if error.code is None else repr(error.code)
        place = _place(error.__traceback__)
        _send(sender, ("exits", f"ended the program with exit({code}) instead of returning{place}"))
        return
    except BaseException as error:
        _send(sender, ("raises", described(error)))
        return
    try:
        _send(sender, ("value", value))
    except Exception as error:
        _send(sender, ("raises", f"returned what cannot be handed back: {described(error)}"))


def described(error: BaseException, raised: str = "raised ") -> str:
    """What was raised, and where in foreign code: raised ValueError: ... (line 12 of f.py, in backward: the line)."""
    try:
        text = str(error)
    except Exception:  # its __str__ is foreign as well
        text = ""
    text = text if len(text) <= 500 else text[:500] + " ..."
    if isinstance(error, EOFError) and "reading a line" in text:
        text = "input() was called, and nobody is there to answer"
    return f"{raised}{type(error).__name__}{': ' * bool(text)}{text}{_place(error.__traceback__)}"


def _place(trace: TracebackType | None) -> str:
    """Where the outermost foreign file was when it happened: its deepest line, not that of a library it called."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)]
    foreign = [
        (code, line)
        for code, line in frames
        if not code.co_filename.startswith(("<frozen", ours + os.sep)) and "importlib" not in code.co_filename
    ]
    if not foreign:
        return ""
    code, line = [(code, line) for code, line in foreign if code.co_filename == foreign[0][0].co_filename][-1]
    source = linecache.getline(code.co_filename, line).strip()
    inside = "" if code.co_name == "<module>" else f", in {code.co_name}"
    return f" (line {line} of {os.path.basename(code.co_filename)}{inside}{f': {source}' if source else ''})"


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__
