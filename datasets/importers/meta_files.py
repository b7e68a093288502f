"""JSON that describes a source; a stranger wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentwrap.errors import DatasetError

_MOST_BYTES = 64 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DatasetError: the file is missing, too large, damaged, or holds no object.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"{size} bytes are too many")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it holds no JSON object")
        return found
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged ({error}): get it anew.") from None
