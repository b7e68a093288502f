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
from latentwrap.datasets.layout import FORMAT
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray

_BLOCK_BYTES = 16 * 2**20

BLOCK_ROWS = 256
"""Rows read at a time: an episode may be long and its images large."""


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


def _block_rows(data: h5py.Dataset) -> int:
    """At most `BLOCK_ROWS`; of large images fewer, but no chunk is decoded for each of its rows."""
    row = math.prod(data.shape[1:]) * data.dtype.itemsize
    chunk: int = data.chunks[0] if data.chunks else 1
    return int(min(BLOCK_ROWS, max(1, chunk, _BLOCK_BYTES // max(row, 1))))
