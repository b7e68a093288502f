"""A conformance suite for latent environments and any other stateful observation wrapper.

Names are loaded when used, so that workers which only record need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentwrap.testing.checks import check_latent_env
    from latentwrap.testing.plans import Plan
    from latentwrap.testing.recording import End, Recorder
    from latentwrap.testing.report import CheckResult, ConformanceError, Report

_HOME = {
    "CheckResult": "report",
    "ConformanceError": "report",
    "End": "recording",
    "Plan": "plans",
    "Recorder": "recording",
    "Report": "report",
    "check_latent_env": "checks",
}

__all__ = [
    "CheckResult",
    "ConformanceError",
    "End",
    "Plan",
    "Recorder",
    "Report",
    "check_latent_env",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"latentwrap.testing.{_HOME[name]}"), name)
    raise AttributeError(f"module 'latentwrap.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
