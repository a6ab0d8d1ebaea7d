"""Programs: a scalar graph is recorded once, what repeats in it is recognised, and it runs at array speed."""

from autodiff.programs.guards import ReplayError
from autodiff.programs.program import Program, record
from autodiff.programs.replaying import replay

__all__ = ["Program", "ReplayError", "record", "replay"]
