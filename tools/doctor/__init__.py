"""`avem doctor`: what a machine can do for avem, tried and not guessed."""

from avem.tools.doctor.findings import Finding, Report
from avem.tools.doctor.run import DoctorOptions, examine

__all__ = ["DoctorOptions", "Finding", "Report", "examine"]
