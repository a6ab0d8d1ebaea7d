"""The doctor: given what somebody computed by hand, the first wrong step, and what is wrong with it."""

from nn.audit.diagnosis import audit_claims
from nn.audit.report import Cause, Report

__all__ = ["Cause", "Report", "audit_claims"]
