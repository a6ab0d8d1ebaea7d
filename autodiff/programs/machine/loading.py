"""The compiled interpreters: written, compiled by numba and kept on disk when they are first asked for."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


class MachineError(RuntimeError):
    """The compiled back end cannot be had here; the message says why, and what to do."""


_lock = threading.RLock()
_loaded: list[Machine | MachineError] = []  # once it was tried


class Machine:
    """The compiled functions, and which of the processor's flags say that a number left the finite ones."""

    def __init__(self, module: ModuleType, where: Path, kept: bool) -> None:
        self.module, self.where, self.kept = module, where, kept
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            divide, invalid, over, inexact, _ = module.flags_of(1.0, 0.0)
        _call_once(module)
        if not (divide & ~inexact and invalid & ~inexact and over & ~inexact):
            raise MachineError(
                "this platform does not tell compiled code where a number became inf or nan, and results would lack "
                "their warnings; use another back end"
            )
        self.flags = (divide | invalid | over) & ~inexact

    @staticmethod
    def threads() -> int:
        """How many threads may be used."""
        import numba

        return int(numba.get_num_threads())


def _call_once(module: Any) -> None:
    """Compiles what is there, or reads it from the disk: on a program of one number, so that nothing fails later."""
    none, column = np.empty(0, np.int32), np.empty((0, 1))
    tape = np.empty(0, np.uint8), np.empty((4, 0), np.int32), np.zeros(2), 1, 0, np.empty((0, 4), np.int64)
    module.value(*tape, none, column)
    module.value_and_grad(*tape, none, column, column)
    module.schedule(tape[0], np.empty(0, np.int64), none, none, np.empty(0, bool), 0)
    module.run(
        np.empty((0, 9), np.int64), np.empty((0, 16), np.int64), np.zeros(1, np.int64), np.zeros(1), 1,
        np.empty((0, 3), np.int64), np.array([0, -1, 0]), np.empty(1),
    )  # fmt: skip


def is_installed() -> bool:
    """Whether numba is there; it is not imported for that."""
    try:
        return importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):
        return False


def machine() -> Machine:
    """The compiled functions; MachineError where there are none.

    The first time on a computer they are compiled, which takes some 20 seconds, and kept in the folder that the
    environment variable CHAINRULE_CACHE names, else in the user's folder for such things.
    """
    with _lock:
        if not _loaded:
            try:
                _loaded.append(_load())
            except MachineError as error:
                _loaded.append(error)
        if isinstance(_loaded[0], MachineError):
            raise MachineError(str(_loaded[0]))
        found: Machine = _loaded[0]
        return found


def why_not() -> str | None:
    """What keeps the compiled back end from working here; None if nothing does."""
    try:
        machine()
    except MachineError as error:
        return str(error)
    return None


def _load() -> Machine:
    if not is_installed():
        raise MachineError("the back end 'numba' needs numba: pip install 'chainrule[fast]'")
    try:
        import numba
        from numba.core.errors import NumbaError
    except Exception as error:  # a numba that does not fit to this NumPy raises whatever it likes
        raise MachineError(f"numba is installed but fails to import ({type(error).__name__}: {error})") from error
    from autodiff.programs.machine import writing

    name = f"machine_{writing.digest()}_{numba.__version__.replace('.', '_')}"
    where, kept = _folder()
    path = where / f"{name}.py"
    if not path.exists():
        _write(path, writing.source())
        if kept:
            print(f"chainrule: compiling its interpreter once, some 20 seconds, into {where}", file=sys.stderr)
    if not kept:
        warnings.warn(
            f"chainrule compiles its interpreter anew in this process, some 20 seconds: no folder can be written to "
            f"in which it could be kept. Set CHAINRULE_CACHE to one that can ({where} will be removed)",
            RuntimeWarning,
            stacklevel=4,
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # numba looks there for what it kept
    try:
        spec.loader.exec_module(module)
        return Machine(module, where, kept)
    except (NumbaError, OSError, ImportError, AttributeError) as error:
        raise MachineError(f"numba fails to compile the interpreter ({type(error).__name__}: {error})") from error


def _write(path: Path, text: str) -> None:
    """Written under another name first: another process may be reading."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)


@cache
def _folder() -> tuple[Path, bool]:
    """(the folder for the compiled code, whether it stays)."""
    for folder in _candidates():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder, True
        except OSError:
            continue
    folder = Path(tempfile.mkdtemp(prefix="chainrule-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, False


def keeps() -> bool:
    """Whether there is a folder in which compiled code stays."""
    return _folder()[1]


def _candidates() -> list[Path]:
    """Where the code may be kept, the best place first."""
    asked = os.environ.get("CHAINRULE_CACHE")
    if asked:
        return [Path(asked)]
    try:
        home = Path.home()
    except RuntimeError:  # nobody's
        return []
    if sys.platform == "win32":
        return [Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "chainrule"]
    if sys.platform == "darwin":
        return [home / "Library" / "Caches" / "chainrule"]
    return [Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "chainrule"]
