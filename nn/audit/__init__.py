"""The doctor: given what somebody computed by hand, the first wrong step, and what is wrong with it."""

from nn.audit.derivative import check_derivative
from nn.audit.diagnosis import audit_claims
from nn.audit.formula import check_formula
from nn.audit.function import audit_function
from nn.audit.graphs import audit_graph
from nn.audit.model import audit_model
from nn.audit.report import Cause, Report

__all__ = [
    "Cause",
    "Report",
    "audit_claims",
    "audit_function",
    "audit_graph",
    "audit_model",
    "check_derivative",
    "check_formula",
]
