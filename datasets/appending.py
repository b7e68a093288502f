"""How columns grow in a file: their chunks, codecs and checksums."""

from __future__ import annotations

from collections.abc import Iterable

import h5py
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.codecs import Codec
from latentwrap.datasets.wholeness.steady import NewFile
from latentwrap.types import AnyArray

SMALL_FRAME = 16 * 1024
"""Bytes up to which two frames share a chunk, see `_chunk_frames`."""

CHUNK_BYTES = 16 * 1024
"""Size of a chunk of any other column: an episode's own file has one chunk of each."""


def write_episodes(file: NewFile, episodes: Iterable[dict[str, AnyArray]], codec: Codec) -> None:
    """Append episodes, one at a time in memory, and write their index last."""
    lengths: list[int] = []
    for columns in episodes:
        for name, values in columns.items():
            append_rows(file.h5, name, values, codec)
        lengths.append(len(columns[layout.ACTIONS]))
        file.check()
    ends = np.cumsum(lengths, dtype=np.int64)
    index = {
        layout.EPISODE_START: ends - np.array(lengths),
        layout.EPISODE_LENGTH: np.array(lengths, np.int64),
    }
    for name, numbers in index.items():
        rows = min(len(numbers), CHUNK_BYTES // numbers.itemsize)
        file.h5.create_dataset(name, data=numbers, chunks=(rows,), fletcher32=True)


def append_rows(file: h5py.File, name: str, values: AnyArray, codec: Codec | None = None) -> None:
    """Add rows (n, ...) to the column `name`, which is made if it is not there yet.

    Args:
        file: open for writing.
        name: of the column.
        values: its rows.
        codec: of frames; no other column is compressed.
    """
    if name not in file:
        _create(file, name, values, codec)
    column = file[name]
    column.resize(len(column) + len(values), axis=0)
    column[-len(values) :] = values


def _create(file: h5py.File, name: str, values: AnyArray, codec: Codec | None) -> None:
    rest = values.shape[1:]
    if codec is not None and layout.is_frames(name):
        options = {"chunks": (_chunk_frames(values[0].nbytes), *rest), **codec.options()}
    else:
        rows = CHUNK_BYTES // max(values[0].nbytes, 1)
        options = {"chunks": (max(rows, 1), *rest)}
    # The checksum comes after the codec: a flipped bit never reaches it.
    file.create_dataset(
        name,
        (0, *rest),
        dtype=values.dtype,
        maxshape=(None, *rest),
        fletcher32=True,
        **options,
    )


def _chunk_frames(size: int) -> int:
    """Whole frames of `size` bytes in a chunk: a window decodes little that it does not need.

    Measured on windows of 9 frames 64×64×3: chunks of 8 frames, of which such a window touches two
    or three, are half as fast. Chunks of two are up to a fifth faster than of one, because there
    are fewer of them and the second frame of two is decoded quickly; where frames are large, the
    one more that is decoded costs more than that.
    """
    return 2 if size <= SMALL_FRAME else 1
