"""Writing a column of frames, its chunks encoded here."""

from __future__ import annotations

import h5py
import numpy as np

from latentwrap.datasets.checksums import fletcher32
from latentwrap.datasets.codecs import Codec
from latentwrap.types import Frames

SMALL_FRAME = 16 * 1024
"""Bytes up to which two frames share a chunk, see `_chunk_frames`."""


class FrameColumn:
    """A column of frames that grows by episodes, whose chunks may hold the end of one and the next.

    Args:
        file: to write into.
        name: of the column, which is made.
        shape: of a frame, (H, W, C).
        codec: of the chunks.
        thorough: take the time to make them small.
    """

    def __init__(
        self, file: h5py.File, name: str, shape: tuple[int, ...], codec: Codec, *, thorough: bool
    ) -> None:
        self._encode = codec.encode if thorough else codec.draft
        self._rows = _chunk_frames(int(np.prod(shape)))
        # The checksum comes after the codec: a flipped bit never reaches it.
        self._column = file.create_dataset(
            name,
            (0, *shape),
            dtype=np.uint8,
            chunks=(self._rows, *shape),
            maxshape=(None, *shape),
            fletcher32=True,
            **codec.options(),
        )
        self._written = 0
        self._waiting: Frames = np.empty((0, *shape), np.uint8)

    def add(self, frames: Frames) -> None:
        """Append frames, uint8 (n, H, W, C); those that fill no chunk wait for the next."""
        frames = np.concatenate([self._waiting, frames])
        whole = len(frames) // self._rows * self._rows
        self._write(frames[:whole])
        self._waiting = frames[whole:]

    def finish(self) -> None:
        """Write what waits; nothing can be added any more."""
        count = len(self._waiting)
        if count:
            padded = np.zeros((self._rows, *self._waiting.shape[1:]), np.uint8)
            padded[:count] = self._waiting
            self._write(padded)
            self._column.resize(self._written - self._rows + count, axis=0)

    def _write(self, frames: Frames) -> None:
        """Write whole chunks."""
        self._column.resize(self._written + len(frames), axis=0)
        corner = (0,) * (frames.ndim - 1)
        for first in range(0, len(frames), self._rows):
            data = self._encode(frames[first : first + self._rows].tobytes())
            encoded = data + fletcher32(data)
            self._column.id.write_direct_chunk((self._written + first, *corner), encoded)
        self._written += len(frames)


def _chunk_frames(size: int) -> int:
    """Whole frames of `size` bytes in a chunk: a window decodes little that it does not need.

    Measured on windows of 9 frames 64×64×3: chunks of 8 frames, of which such a window touches two
    or three, are half as fast. Chunks of two are up to a fifth faster than of one, because there
    are fewer of them and the second frame of two is decoded quickly; where frames are large, the
    one more that is decoded costs more than that.
    """
    return 2 if size <= SMALL_FRAME else 1
