"""What tells whether a source is still what it was when its first episodes were read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from latentwrap.datasets.importers.ordering import in_order


class Identity(Protocol):
    """Of a source."""

    def at(self, read: int) -> str:
        """A short text that differs if anything changed that the first episodes came from.

        Args:
            read: how many episodes were read.
        """


class WholeSource:
    """A file, by its size and time; or a folder, by the names and sizes of all files in it.

    Args:
        path: of the source.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> _ = path.write_bytes(b"some")
        >>> before = WholeSource(path).at(3)
        >>> _ = path.write_bytes(b"more of it")
        >>> WholeSource(path).at(3) == before
        False
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            self._found = _digest(in_order(each for each in path.rglob("*") if each.is_file()))
        else:
            status = path.stat()
            self._found = f"{status.st_size} bytes of {status.st_mtime_ns}"

    def at(self, read: int) -> str:  # noqa: ARG002 - a whole source is one thing
        """The same at every episode."""
        return self._found


class EpisodeFiles:
    """Files that hold one episode each, so that later ones may be added.

    Args:
        files: of each episode, in order.
    """

    def __init__(self, files: Sequence[Sequence[Path]]) -> None:
        self._files = files
        self._hash, self._done = hashlib.sha256(), 0

    def at(self, read: int) -> str:
        """Of the names and sizes of the first files; best asked for in rising order."""
        if read < self._done:
            self._hash, self._done = hashlib.sha256(), 0
        for files in self._files[self._done : read]:
            for path in files:
                self._hash.update(_line(path))
        self._done = read
        return self._hash.hexdigest()


def _digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(_line(path))
    return found.hexdigest()


def _line(path: Path) -> bytes:
    return f"{path.name}\0{path.stat().st_size}\n".encode(errors="surrogateescape")
