"""An HDF5 file to write into, on a disk that may fill up at any moment."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from latentwrap.interrupts import DeferredInterrupt


class SteadyFile(io.RawIOBase):
    """A file whose writes never fail, as far as HDF5 can tell.

    Where a write of its own fails, HDF5 cannot close the file any more, and the process dies of it
    at its end (segmentation fault, HDF5 2.0). So the first failure is kept here, and what comes
    after it goes to memory, until `check` tells those who can stop.

    Args:
        path: created, or emptied.
    """

    def __init__(self, path: Path) -> None:
        self._raw = path.open("w+b", buffering=0)
        self._at = 0
        self._failure: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the first `OSError` that a write met, if there was one."""
        if self._failure is not None:
            raise self._failure

    def readable(self) -> bool:
        """HDF5 reads back what it wrote."""
        return True

    def writable(self) -> bool:
        """Always, see above."""
        return True

    def seekable(self) -> bool:
        """As any file."""
        return True

    def tell(self) -> int:
        """Where the next bytes are read or written."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, see `io.IOBase.seek`."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size()}[whence]
        self._at = start + offset
        return self._at

    def write(self, data: Any) -> int:
        """Write all bytes."""
        view = memoryview(data).cast("B")
        try:
            if self._failure is None:
                self._write(view)
        except OSError as error:
            self._failure = error
        if self._failure is not None:
            self._unwritten.append((self._at, bytes(view)))
        self._at += len(view)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of the file."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size() - self._at))
        found = bytearray(count)
        os.lseek(self._raw.fileno(), self._at, os.SEEK_SET)
        read = self._raw.read(count) or b""
        found[: len(read)] = read
        for start, data in self._unwritten:
            first, last = max(start, self._at), min(start + len(data), self._at + count)
            if first < last:
                found[first - self._at : last - self._at] = data[first - start : last - start]
        view[:count] = found
        self._at += count
        return count

    def truncate(self, size: int | None = None) -> int:
        """Make the file longer or shorter."""
        size = self._at if size is None else size
        try:
            if self._failure is None:
                self._raw.truncate(size)
        except OSError as error:
            self._failure = error
        return size

    def close(self) -> None:
        """Give the file back to the system."""
        self._raw.close()
        super().close()

    def _write(self, view: memoryview) -> None:
        os.lseek(self._raw.fileno(), self._at, os.SEEK_SET)
        while view:
            view = view[self._raw.write(view) or 0 :]

    def _size(self) -> int:
        ends = [start + len(data) for start, data in self._unwritten]
        return max([os.fstat(self._raw.fileno()).st_size, *ends])


class NewFile:
    """An HDF5 file in the making.

    Attributes:
        h5: to write into.
    """

    def __init__(self, h5: h5py.File, steady: SteadyFile, interrupt: DeferredInterrupt) -> None:
        self.h5 = h5
        self._steady, self._interrupt = steady, interrupt

    def check(self) -> None:
        """Stop here if the disk is full or Ctrl-C was pressed; call it between two episodes.

        Raises:
            OSError: a write failed.
            KeyboardInterrupt: Ctrl-C, unless somebody else handles that.
        """
        self._steady.check()
        self._interrupt.deliver()


@contextmanager
def new_file(path: Path) -> Iterator[NewFile]:
    """Create an HDF5 file to write into.

    The format of HDF5 1.10 has checksums over the metadata that say where things are. Without
    them a damaged file can send the HDF5 library into an endless loop or out of its memory.

    Args:
        path: usually one that `latentwrap.files.written_whole` gives.

    Raises:
        OSError: a write failed, at the latest when the block ends.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.h5"
        >>> with new_file(path) as file:
        ...     file.h5["number"] = 3
        ...     file.check()
        >>> with h5py.File(path) as written:
        ...     int(written["number"][()])
        3
    """
    with DeferredInterrupt() as interrupt, SteadyFile(path) as steady:
        with h5py.File(steady, "w", libver=("v110", "v110")) as h5:
            yield NewFile(h5, steady, interrupt)
        steady.check()
