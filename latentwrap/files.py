"""Files that appear under their name only when whole, and are never overwritten unasked."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentwrap.errors import OutputExists


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `OutputExists` if something is at `path` and `force` is off."""
    if path.exists() and not force:
        raise OutputExists(f"{path} exists already: choose another name or pass --force.")


def refuse_output(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Raise `OutputExists` unless a file may be written to `path`.

    Args:
        path: where a file is to be.
        force: a file that is there may be replaced; a folder never.
        source: the file that the output is made from; it is never replaced.
    """
    if path.is_dir():
        raise OutputExists(f"{path} is a folder: choose another name for the file.")
    if source is not None and path.resolve() == source.resolve():
        raise OutputExists(f"{path} is what is read: choose another name for what is written.")
    refuse_existing(path, force=force)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it when the block ends well.

    If the block raises, `path` is as it was before and the temporary file is gone.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with written_whole(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Any value as JSON; `null` for NaN and infinity, which JSON does not have.

    Args:
        value: of mappings, lists, tuples, numbers and text; anything else is written as `str`.
        indent: spaces by level; `None` for one line.

    >>> to_json({"psnr": float("nan"), "path": Path("a.h5")})
    '{"psnr": null, "path": "a.h5"}'
    """
    return json.dumps(_without_nan(value), default=str, allow_nan=False, indent=indent)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value
