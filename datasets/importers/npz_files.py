"""Reading npz files of strangers: headers first, large arrays block by block."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from latentwrap.datasets.importers import bounds
from latentwrap.datasets.importers.ordering import in_order
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray

MOST_BYTES = 4 * 2**30
"""Of one array of an episode, unpacked; a few bytes of a zip may unpack to any number."""

_BROKEN = (OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError,
           zipfile.BadZipFile, zlib.error, tokenize.TokenError)  # fmt: skip


@dataclass(frozen=True)
class ArrayHeader:
    """What an array in a file says of itself.

    Attributes:
        shape: of the whole array.
        dtype: booleans, integers or floats.
        by_columns: whether the first index runs fastest in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool = False

    @property
    def rows(self) -> int:
        """Length of the first axis; 0 for a single number."""
        return self.shape[0] if self.shape else 0

    @property
    def block_rows(self) -> int:
        """Rows to read at a time, so that large images are few."""
        return bounds.block_rows(self.row_bytes)

    @property
    def row_bytes(self) -> int:
        """Size of one row in memory."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def bytes(self) -> int:
        """Size of the whole array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """An npz file whose arrays are known before any of them is unpacked.

    Args:
        path: the file.
        most_bytes: of one array, unpacked; who reads `blocks` alone may allow more.

    Attributes:
        headers: of its arrays, by name.

    Raises:
        DatasetError: it is missing or no whole npz file, or holds what is no array of numbers, or
            one that is too large.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, actions=np.zeros((5, 2)))
        >>> with NpzFile(path) as file:
        ...     file.headers["actions"].shape, file.read("actions").sum()
        ((5, 2), np.float64(0.0))
    """

    def __init__(self, path: Path, *, most_bytes: float = MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        with self._refusing():
            self._zip = zipfile.ZipFile(path)
        try:
            with self._refusing():
                self.headers: dict[str, ArrayHeader] = dict(self._read_headers())
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._zip.close()

    def require(self, name: str) -> ArrayHeader:
        """The header of an array that must be there.

        Raises:
            DatasetError: it is not; the message says what is.
        """
        if name not in self.headers:
            raise DatasetError(
                f"{self._path} lacks {name!r}, it holds {', '.join(self.headers) or 'nothing'}: "
                "leave this file out or get it anew."
            )
        return self.headers[name]

    def read(self, name: str) -> AnyArray:
        """A whole array.

        Raises:
            DatasetError: it is not there, damaged, or too large to be in memory as a whole.
        """
        header = self.require(name)
        bounds.check_bytes(header.bytes, f"{name!r} in {self._path}")
        with self._refusing(), self._open(name) as stream:
            _read_header(stream)
            flat = np.frombuffer(_read_exactly(stream, header.bytes), header.dtype)
            return flat.reshape(header.shape, order="F" if header.by_columns else "C")

    def blocks(self, name: str, rows: int | None = None) -> Iterator[AnyArray]:
        """The rows of an array, some at a time.

        Args:
            name: of the array.
            rows: how many; `None` takes its `block_rows`. An array that is stored column by column
                is read as a whole.

        Raises:
            DatasetError: it is not there or damaged.
        """
        header = self.require(name)
        step = rows or header.block_rows
        if header.by_columns and len(header.shape) > 1:
            whole = self.read(name)
            yield from (whole[start : start + step] for start in range(0, len(whole), step))
            return
        with self._refusing(), self._open(name) as stream:
            _read_header(stream)
            for start in range(0, header.rows, step):
                count = min(step, header.rows - start)
                flat = np.frombuffer(_read_exactly(stream, count * header.row_bytes), header.dtype)
                yield flat.reshape(count, *header.shape[1:])

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(f"{name}.npy")

    def _read_headers(self) -> Iterator[tuple[str, ArrayHeader]]:
        for member in self._zip.infolist():
            if not member.filename.endswith(".npy"):
                raise ValueError(f"{member.filename} in it is no array")
            name = member.filename.removesuffix(".npy")
            with self._zip.open(member) as stream:
                header = _read_header(stream)
            _check(name, header, member.file_size, self._most_bytes)
            yield name, header

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except DatasetError:
            raise
        except _BROKEN as error:
            reason = str(error).strip(".") or type(error).__name__
            raise DatasetError(
                f"{self._path} is no whole npz file of numbers ({reason}): get it anew or leave "
                "it out."
            ) from None


def _read_header(stream: IO[bytes]) -> ArrayHeader:
    readers = {(1, 0): np.lib.format.read_array_header_1_0,
               (2, 0): np.lib.format.read_array_header_2_0}  # fmt: skip
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"an array in version {version} of the npy format")
    shape, by_columns, dtype = readers[version](stream)
    return ArrayHeader(tuple(shape), dtype, by_columns)


def _check(name: str, header: ArrayHeader, size: int, most_bytes: float) -> None:
    if header.dtype.kind not in "biuf":
        raise ValueError(f"{name!r} holds {header.dtype}, no numbers")
    if min(header.shape, default=0) < 0 or header.bytes > size:
        raise ValueError(f"{name!r} says that its shape is {header.shape}, which is not there")
    if header.bytes > most_bytes:
        raise ValueError(
            f"{name!r} unpacks to {header.bytes / 2**30:.3g} GiB, more than "
            f"{most_bytes / 2**30:.3g} GiB"
        )


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("an array ends early")
    return data


def npz_paths(source: str) -> list[Path]:
    """The npz files in a folder in the order of the numbers in their names."""
    folder = Path(source)
    return in_order(folder.glob("*.npz")) if folder.is_dir() else []


def npz_headers(path: Path) -> dict[str, ArrayHeader]:
    """What an npz file holds.

    Raises:
        DatasetError: as of `NpzFile`.
    """
    with NpzFile(path) as file:
        return file.headers
