"""How columns grow in a file: their chunks and checksums."""

from __future__ import annotations

from collections.abc import Iterable

import h5py
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.codecs import Codec
from latentwrap.datasets.frame_column import FrameColumn
from latentwrap.datasets.wholeness.steady import NewFile
from latentwrap.types import AnyArray

CHUNK_BYTES = 16 * 1024
"""Size of a chunk of any other column: an episode's own file has one chunk of each."""


def write_episodes(
    file: NewFile, episodes: Iterable[dict[str, AnyArray]], codec: Codec, *, thorough: bool
) -> None:
    """Append episodes, one at a time in memory, and write their index last.

    Args:
        file: to write into.
        episodes: the columns of each, as the layout has them.
        codec: of the frames; no other column is compressed.
        thorough: take the time to make frames small.
    """
    lengths: list[int] = []
    pictures: dict[str, FrameColumn] = {}
    for columns in episodes:
        for name, values in columns.items():
            if not layout.is_frames(name):
                append_rows(file.h5, name, values)
                continue
            if name not in pictures:
                shape = values.shape[1:]
                pictures[name] = FrameColumn(file.h5, name, shape, codec, thorough=thorough)
            pictures[name].add(values)
        lengths.append(len(columns[layout.ACTIONS]))
        file.check()
    for column in pictures.values():
        column.finish()
    ends = np.cumsum(lengths, dtype=np.int64)
    index = {
        layout.EPISODE_START: ends - np.array(lengths),
        layout.EPISODE_LENGTH: np.array(lengths, np.int64),
    }
    for name, numbers in index.items():
        rows = min(len(numbers), CHUNK_BYTES // numbers.itemsize)
        file.h5.create_dataset(name, data=numbers, chunks=(rows,), fletcher32=True)


def append_rows(file: h5py.File, name: str, values: AnyArray) -> None:
    """Add rows (n, ...) to the column `name`, which is made if it is not there yet."""
    if name not in file:
        _create(file, name, values)
    column = file[name]
    column.resize(len(column) + len(values), axis=0)
    column[-len(values) :] = values


def _create(file: h5py.File, name: str, values: AnyArray) -> None:
    rest = values.shape[1:]
    rows = max(CHUNK_BYTES // max(values[0].nbytes, 1), 1)
    file.create_dataset(
        name,
        (0, *rest),
        dtype=values.dtype,
        chunks=(rows, *rest),
        maxshape=(None, *rest),
        fletcher32=True,
    )
