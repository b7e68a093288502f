"""The files that a process has open for reading: few, its own, and the ones that were checked."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import h5py

from latentwrap.errors import DatasetError


class Stamp(NamedTuple):
    """Tells a file from another one that was put in its place."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Of a file that `os.stat` looked at."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


class _Descriptor:
    """An open file, closed when the last who reads from it lets go of it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class OpenFiles:
    """Opens files when they are read, and closes the one not read for longest.

    Each process has its own: HDF5 hands the position of an inherited file to all who share it,
    which gives wrong data. It may be pickled; the copy has nothing open.

    Args:
        limit: most files open at a time; systems allow a process a few hundred to a thousand.
    """

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._begin()

    def descriptor(self, path: Path, stamp: Stamp) -> _Descriptor:
        """The open file; hold on to it while reading from its `number`.

        Raises:
            DatasetError: it is gone, or another file than at first.
        """
        with self._own():
            found = self._plain.pop(path, None)
            if found is None:
                found = _Descriptor(_present(path))
                _check_same(path, stamp, os.fstat(found.number))
                while len(self._plain) >= self._limit:
                    self._plain.popitem(last=False)
            self._plain[path] = found
            return found

    def hdf5(self, path: Path, stamp: Stamp) -> h5py.File:
        """The file opened by the HDF5 library.

        Raises:
            DatasetError: as of `descriptor`.
        """
        with self._own():
            found = self._hdf5.pop(path, None)
            if found is None:
                _check_same(path, stamp, _present(path).stat())
                found = h5py.File(path, "r")
                while len(self._hdf5) >= self._limit:
                    self._hdf5.popitem(last=False)  # h5py closes it when nobody reads from it
            self._hdf5[path] = found
            return found

    def close(self) -> None:
        """Close all; they are opened again when they are read."""
        with self._own():
            for file in self._hdf5.values():
                file.close()
            self._hdf5.clear()
            self._plain.clear()

    def __getstate__(self) -> dict[str, int]:
        return {"_limit": self._limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self._limit = state["_limit"]
        self._begin()

    def _begin(self) -> None:
        self._plain: OrderedDict[Path, _Descriptor] = OrderedDict()
        self._hdf5: OrderedDict[Path, h5py.File] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _own(self) -> threading.Lock:
        """The lock, after leaving behind what came through a fork.

        An inherited HDF5 handle is closed in this process alone: as long as it is open, HDF5
        would hand it out again for the same file. The lock may have been held by a thread that
        does not exist here.
        """
        if self._process != os.getpid():
            inherited = self._hdf5
            self._begin()
            for file in inherited.values():
                file.close()
        return self._lock


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"The dataset {path} does not exist or is no file.")
    return path


def _check_same(path: Path, stamp: Stamp, found: os.stat_result) -> None:
    if Stamp.of(found) != stamp:
        raise DatasetError(
            f"{path} was changed or replaced while it was in use: open the dataset again."
        )
