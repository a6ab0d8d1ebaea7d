"""The back end "numba": interpreters, compiled once, that run any program: a tape as it stands, and lanes in blocks."""

from __future__ import annotations

from typing import Any

from autodiff.programs.machine.loading import MachineError, is_installed, keeps, machine, why_not
from autodiff.programs.machine.rows import opcode

__all__ = ["MachineError", "check", "machine", "serves", "why_not"]


def serves(tape: Any) -> bool:
    """Whether the compiled code is to be had here, for good, and knows all rows of the tape."""
    return is_installed() and _unknown_row(tape) is None and keeps() and why_not() is None


def check(tape: Any) -> None:
    """MachineError where there is no compiled code here, ValueError where it does not know a row of the tape."""
    machine()
    row = _unknown_row(tape)
    if row is not None:
        raise ValueError(
            f"the back end 'numba' knows the rows of the package's own table, and {row.name!r} is not one of them; "
            "use another, or None to choose"
        )


def _unknown_row(tape: Any) -> Any:
    return next((row for row in tape.rows if row is not None and opcode(row) is None), None)
