"""The doctor: what this machine, an environment and a checkpoint have and lack."""

from latentwrap.doctor.examination import Examination, Question
from latentwrap.doctor.findings import Finding, Status

__all__ = ["Examination", "Finding", "Question", "Status"]
