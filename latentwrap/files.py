"""Files that appear under their name only when whole, and are never overwritten unasked."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from latentwrap.errors import OutputExists, OutputFailed

_MENDING = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or take another disk",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "choose a path whose folders are folders",
    errno.EEXIST: "choose a path whose folders are folders",
}

_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG})
"""What the reading of something else does not run into."""


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
def written_whole(path: str | Path, *, settle: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it when the block ends well.

    If the block raises, `path` is as it was before and the temporary file is gone. What was
    written is on the disk before it gets its name, so that a power cut leaves one or the other.

    Args:
        path: of a file, or of a folder if a folder is made at the temporary path. An old folder
            cannot be replaced at one stroke: it steps aside, as `.<stem>.<pid>.old<suffix>`, for
            the moment until the new one has its name, and is back should that fail.
        settle: wait until the name is on the disk too; else a power cut may leave the old file
            although the block has ended.

    Raises:
        OutputFailed: the disk is full, the folder cannot be written or the name is impossible.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with written_whole(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = Path(path)
    with failures_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with failures_named(path, only=_OF_WRITING):
            yield temporary
        with failures_named(path):
            sync(temporary)
            if temporary.is_dir() and path.is_dir():
                _replace_folder(temporary, path)
            else:
                temporary.replace(path)
            if settle:
                sync_folder(path.parent)
    finally:
        with suppress(OSError):  # there is none, or it could not even be named
            remove(temporary)


def _replace_folder(new: Path, path: Path) -> None:
    old = path.with_name(f".{path.stem}.{os.getpid()}.old{path.suffix}")
    try:
        path.replace(old)
        new.replace(path)
        sync_folder(path.parent)
    finally:
        if path.exists():
            remove(old)
        else:
            old.replace(path)


@contextmanager
def failures_named(path: Path, *, only: Collection[int] | None = None) -> Iterator[None]:
    """Say in a sentence why `path` could not be written, and how to mend it.

    Args:
        path: what is written.
        only: numbers of the errors that are meant; `None` for all.

    Raises:
        OutputFailed: an `OSError` came out of the block.

    Example:
        >>> with failures_named(Path("data.h5")):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        latentwrap.errors.OutputFailed: data.h5 could not be written (No space left on device): \
make room on that disk.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputFailed) or (only is not None and error.errno not in only):
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        mending = _MENDING.get(error.errno or 0, "choose another place")
        raise OutputFailed(f"{path} could not be written ({reason}): {mending}.") from error


def sync(path: Path) -> None:
    """Wait until the content of a file, or of the files in a folder, is on the disk."""
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
        sync_folder(path)
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
