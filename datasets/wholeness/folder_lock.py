"""One process at a time in a folder."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from latentwrap.errors import OutputExists
from latentwrap.files import failures_named

if sys.platform != "win32":
    import fcntl

_LOCK = ".lock"

_HELD: dict[tuple[int, str], object] = {}
"""Who in this process holds which folder: a lock of POSIX excludes other processes alone.

The number of the process is part of the key, because a fork copies this and not the locks.
"""


class FolderLock:
    """Makes a folder and holds it against everybody else, until it is released or the process ends.

    Other processes are kept out by a lock of POSIX, which children made by a fork do not inherit:
    they may outlive a killed parent. It is left out on Windows and on file systems that know none.

    Args:
        folder: made if it is not there.

    Raises:
        OutputExists: another process has it, or another of these in this process.
        OutputFailed: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LOCK
        self._handle: int | None = None
        self._holder = object()
        self._key = (os.getpid(), os.path.realpath(folder))
        self._claim()
        try:
            self._handle = self._first_taken()
        except BaseException:
            self._let_go()
            raise

    @property
    def held(self) -> bool:
        """Whether it is still ours; what came through a fork is not."""
        return self._handle is not None and self._key[0] == os.getpid()

    def release(self) -> None:
        """Remove the lock, and the folder with it if nothing else is there."""
        if not self.held:
            return
        # While it is ours: others must not take a lock that is about to go.
        with suppress(OSError):  # Windows removes no open file
            self._path.unlink(missing_ok=True)
        self._let_go()
        with suppress(OSError):  # a piece is there, or another process has come
            if sys.platform == "win32":
                self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        # Not before: whoever closes the file of a lock drops all locks of this process on it.
        if _HELD.get(self._key) is self._holder:
            del _HELD[self._key]

    def _claim(self) -> None:
        """Keep others in this process out, before they touch the file of the lock."""
        if _HELD.setdefault(self._key, self._holder) is not self._holder:
            raise OutputExists(
                f"{self._path.parent} is being written by this process already: finish or close "
                "that writer first."
            )

    def _first_taken(self) -> int:
        while True:
            with failures_named(self._path.parent):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                handle = self._taken()
            if handle is not None:
                return handle

    def _taken(self) -> int | None:
        """The file of the lock, ours; `None` if another process has just removed it."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None
        try:
            _lock(handle)
            if os.path.samestat(os.fstat(handle), self._path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(handle)
            raise OutputExists(
                f"{self._path.parent} is being written by another process: wait until it ends."
            ) from None
        os.close(handle)
        return None


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError from None
        # This file system knows no locks.
