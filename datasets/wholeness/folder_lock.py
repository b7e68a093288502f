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


class FolderLock:
    """Makes a folder and holds it against other processes, until this one ends.

    The lock is one of POSIX, which children made by a fork do not inherit: they may outlive a
    killed parent. It is left out on Windows and on file systems that know none.

    Args:
        folder: made if it is not there.

    Raises:
        OutputExists: another process has it.
        OutputFailed: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LOCK
        self._handle: int | None = None
        while self._handle is None:
            with failures_named(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._handle = self._taken()

    @property
    def held(self) -> bool:
        """Whether it is still ours."""
        return self._handle is not None

    def release(self) -> None:
        """Remove the lock, and the folder with it if nothing else is there."""
        if self._handle is None:
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
