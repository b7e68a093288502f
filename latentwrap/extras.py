"""Optional dependencies: imported when used, and named in one sentence when missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from latentwrap.errors import MissingExtra


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, which belongs to the optional dependencies `extra`.

    Raises:
        MissingExtra: it is not installed; the message gives the pip line.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(
            f"{purpose} requires {module.partition('.')[0]}, which is not installed: "
            f"pip install 'latentwrap[{extra}]'."
        ) from None
