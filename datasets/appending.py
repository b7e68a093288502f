"""How columns grow in a file: their chunks, codecs and checksums."""

from __future__ import annotations

from collections.abc import Iterable

import h5py
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.codecs import Codec
from latentwrap.datasets.wholeness.steady import NewFile
from latentwrap.types import AnyArray

CHUNK_FRAMES = 1
"""Whole frames per chunk: a window decodes nothing that it does not need.

Measured on PixelPendulum and CarRacing-v3: chunks of 8 frames are a quarter smaller, and half as
fast, because a window of 9 lies in two or three of them.
"""

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
        options = {"chunks": (CHUNK_FRAMES, *rest), **codec.options()}
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
