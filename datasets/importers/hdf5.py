"""Opening the HDF5 files of others, in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs
import numpy as np

from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.importers import bounds
from latentwrap.datasets.layout import FORMAT
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray

_CHUNK_BYTES = 64 * 2**20
"""Up to which a chunk is read at once; of a larger one a part is, and it is decoded for each."""


def is_hdf5(source: str) -> bool:
    """Whether a source is a file that begins as HDF5 does."""
    return Path(source).is_file() and bool(h5py.is_hdf5(source))


def open_foreign(source: str | Path) -> h5py.File:
    """Open the file of a stranger for reading.

    Raises:
        DatasetError: missing, no whole HDF5, or with anything that leads out of it.
    """
    return open_checked(source, rules="foreign")


def names_in(source: str) -> frozenset[str]:
    """Names at the root of an HDF5 file; none of what is no HDF5.

    Raises:
        DatasetError: as of `open_foreign`.
    """
    if not is_hdf5(source):
        return frozenset()
    with open_foreign(source) as file:
        return frozenset(file)


def is_dataset_of_ours(source: str) -> bool:
    """Whether a file says of itself that it is a dataset of layout version 1 or later."""
    if not is_hdf5(source):
        return False
    with open_foreign(source) as file:
        found = file.attrs.get("format")
        return isinstance(found, str) and found == FORMAT


def column(group: h5py.Group, name: str, what: Any) -> h5py.Dataset:
    """A column of numbers that must be there.

    Args:
        group: where it lies.
        name: its path in the group.
        what: the source, for the message.

    Raises:
        DatasetError: it is not.
    """
    found = group.get(name)
    path = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(found, h5py.Dataset) or not found.shape:
        raise DatasetError(f"{what} lacks the column {path}: get it anew.")
    if found.dtype.kind not in "biuf":
        raise DatasetError(f"{what} requires numbers in {path}, got {found.dtype}: get it anew.")
    return found


def blocks(data: h5py.Dataset, start: int, stop: int) -> Iterator[AnyArray]:
    """Rows from `start` to `stop` of a column, as many at a time as memory is no matter."""
    rows = _block_rows(data)
    for first in range(start, stop, rows):
        yield np.asarray(data[first : min(first + rows, stop)])


def read_rows(data: h5py.Dataset, start: int, stop: int) -> AnyArray:
    """Rows from `start` to `stop` of a column in one array.

    Raises:
        DatasetError: they are too large for that.
    """
    bounds.check_bytes((stop - start) * _row_bytes(data), f"{data.name} in {data.file.filename}")
    return np.asarray(data[start:stop])


def _block_rows(data: h5py.Dataset) -> int:
    """Rows to read at a time; no chunk of a usual size is decoded for each of its rows."""
    row = _row_bytes(data)
    chunk: int = data.chunks[0] if data.chunks else 1
    usual = chunk if chunk * row <= _CHUNK_BYTES else 1
    return int(min(bounds.BLOCK_ROWS, max(usual, bounds.block_rows(row))))


def _row_bytes(data: h5py.Dataset) -> int:
    return int(math.prod(data.shape[1:]) * data.dtype.itemsize)
