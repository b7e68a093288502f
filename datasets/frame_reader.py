"""Frames of one or more files, read when asked for or held in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latentwrap.datasets.open_files import OpenFiles
from latentwrap.datasets.shard import FrameStore
from latentwrap.types import AnyArray, Frames, IntArray


class FrameReader:
    """Reads frames out of files that follow each other.

    It may be used after a fork, by several threads, and pickled to a worker: each process opens
    the files for itself, few at a time, and reads from them what another holds in memory.

    Args:
        stores: the files, of frames of one shape.

    Attributes:
        first_rows: row with which each file begins, int64 (F,).
        shape: of a frame, (H, W, C).
        num_frames: rows of all, N.
    """

    def __init__(self, stores: Sequence[FrameStore]) -> None:
        self._stores = tuple(stores)
        self._files = OpenFiles()
        self._memory: Frames | None = None
        ends = np.cumsum([store.rows for store in stores], dtype=np.int64)
        self.first_rows: IntArray = ends - np.array([store.rows for store in stores], np.int64)
        self.shape = stores[0].spec.shape
        self.num_frames = int(ends[-1])

    @property
    def in_memory(self) -> bool:
        """Whether all frames are held."""
        return self._memory is not None

    def preload(self) -> None:
        """Hold all frames in memory."""
        if self._memory is None:
            self._memory = self.read(slice(0, self.num_frames))

    def read(self, rows: slice) -> Frames:
        """Frames of some rows, uint8 (n, H, W, C).

        Raises:
            DatasetError: a file is damaged there, or was replaced.
        """
        if self._memory is not None:
            return self._memory[rows]
        start, stop, _ = rows.indices(self.num_frames)
        out = np.empty((max(stop - start, 0), *self.shape), np.uint8)
        for store, first in zip(self._stores, self.first_rows.tolist(), strict=True):
            begin, end = max(start, first), min(stop, first + store.rows)
            if begin < end:
                part = out[None, begin - start : end - start]
                store.read(self._files, np.array([begin - first]), part)
        return out

    def fill_windows(self, starts: IntArray, out: AnyArray) -> None:
        """Fill `out`, uint8 (B, n, H, W, C), with n frames from each of some rows on.

        Args:
            starts: the first rows, int64 (B,); no window may reach into another file.
            out: contiguous.

        Raises:
            DatasetError: as of `read`.
        """
        if self._memory is not None:
            length = out.shape[1]
            for start, window in zip(starts.tolist(), out, strict=True):
                window[:] = self._memory[start : start + length]
            return
        if len(self._stores) == 1:
            self._stores[0].read(self._files, starts, out)
            return
        numbers = np.searchsorted(self.first_rows, starts, side="right") - 1
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            part = np.empty((len(chosen), *out.shape[1:]), np.uint8)
            self._stores[number].read(self._files, starts[chosen] - self.first_rows[number], part)
            out[chosen] = part

    def close(self) -> None:
        """Close the files; they are opened again when frames are read."""
        self._files.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_memory": None}
