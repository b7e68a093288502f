"""Reading a dataset, after checking that it is one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.columns import read_columns
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.layout import DatasetInfo, read_info
from latentwrap.errors import DatasetError, LatentwrapError
from latentwrap.types import FloatArray, Frames, IntArray

_FILTERS = {"32004": "LZ4", "32015": "Zstd", "32001": "Blosc", "32026": "Blosc2"}


class Dataset:
    """A file of layout version 1, open for reading.

    All columns but the frames are held in memory. Frames are read when asked for; `preload`
    takes them into memory too. A dataset may be used after a fork: each process opens the file
    for itself, because a shared handle gives wrong data. It may be pickled too; the copy reads
    frames from the file, also where the original had preloaded them.

    Args:
        path: the file.

    Attributes:
        path: the file.
        info: what it is of.
        starts, lengths: first row and number of rows of each episode, int64 (E,).
        actions: as the environment took them, (N, A); `info.action.encode` gives the model's.
        rewards: float32 (N,), or `None`.
        terminations, truncations: bool (N,).
        states: physical truth by name, float32 (N, k).
        joined_vectors: what was observed beside the frames, float32 (N, V), or `None`.

    Raises:
        DatasetError: missing, not HDF5, foreign, damaged, or without episodes.

    Example:
        >>> import tempfile
        >>> from latentwrap.datasets import Dataset, collect
        >>> path = tempfile.mkdtemp() + "/pendulum.h5"
        >>> _ = collect("latentwrap/PixelPendulum-v0", path, steps=250)
        >>> data = Dataset(path)
        >>> data.lengths
        array([201,  51])
        >>> data.frames(slice(0, 9)).shape
        (9, 64, 64, 3)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._owner = 0
        self._memory: Frames | None = None
        try:
            self._read(self._handle())
        except BaseException:
            self.close()
            raise

    def _read(self, file: h5py.File) -> None:
        with _damage_named(self.path):
            self.info: DatasetInfo = read_info(file, self.path)
            columns = read_columns(file, self.info, self.path)
        self.starts, self.lengths = columns.starts, columns.lengths
        self.actions, self.rewards = columns.actions, columns.rewards
        self.terminations, self.truncations = columns.terminations, columns.truncations
        self.states = dict(columns.states)
        self.joined_vectors = columns.vectors

    @property
    def vectors(self) -> dict[str, FloatArray]:
        """What was observed beside the frames by name, float32 (N, k); views."""
        joined = self.joined_vectors
        if joined is None:
            return {}
        return {name: joined[:, part] for name, part in self.info.vectors.slices.items()}

    @property
    def num_episodes(self) -> int:
        """Episodes, E."""
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """Rows, N."""
        return len(self.actions)

    @property
    def num_transitions(self) -> int:
        """Transitions: every episode has one fewer than rows."""
        return self.num_frames - self.num_episodes

    @property
    def frame_bytes(self) -> int:
        """Size of all frames in memory."""
        return self.num_frames * int(np.prod(self.info.frame.shape))

    def frames(self, rows: slice) -> Frames:
        """Frames of some rows, uint8 (n, H, W, C), several cameras side by side.

        Raises:
            DatasetError: the file is damaged there.
        """
        if self._memory is not None:
            return self._memory[rows]
        with _damage_named(self.path):
            return layout.read_frames(self._handle(), rows, self.info.frame)

    def preload(self) -> None:
        """Hold all frames in memory, `frame_bytes` of it."""
        if self._memory is None:
            self._memory = self.frames(slice(0, self.num_frames))

    def rows(self, episodes: IntArray) -> IntArray:
        """Numbers of all rows of episodes, one after the other; int64."""
        ends = self.starts + self.lengths
        return np.concatenate([np.arange(self.starts[e], ends[e]) for e in episodes])

    def spread_frames(self, episodes: IntArray, count: int) -> Frames:
        """At most `count` frames, evenly spaced over episodes; uint8 (n, H, W, C)."""
        rows = self.rows(episodes)
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))]
        return np.concatenate([self.frames(slice(row, row + 1)) for row in chosen.tolist()])

    def episode(self, number: int) -> Episode:
        """One whole episode, without the padding."""
        start, length = int(self.starts[number]), int(self.lengths[number])
        rows, steps = slice(start, start + length), slice(start, start + length - 1)
        return Episode(
            frames=self.frames(rows),
            actions=self.actions[steps],
            rewards=None if self.rewards is None else self.rewards[steps],
            terminated=bool(self.terminations[steps].any()),
            truncated=bool(self.truncations[steps].any()),
            states={name: column[rows] for name, column in self.states.items()},
            vectors={name: column[rows] for name, column in self.vectors.items()},
        )

    def returns(self) -> FloatArray | None:
        """Sum of rewards of each episode, float32 (E,); `None` without rewards."""
        if self.rewards is None:
            return None
        # The padding of each episode's last row is zero.
        sums = np.add.reduceat(self.rewards.astype(np.float64), self.starts)
        return sums.astype(np.float32)

    def fingerprint(self) -> str:
        """Identifies the experience: SHA-256 over info and all columns but frames and states.

        Frames, states and provenance are left out, so that asking costs milliseconds: two files
        that differ in their pictures alone have the same fingerprint.
        """
        info = [self.info.env_id, self.info.action.to_json(), layout.frame_json(self.info.frame)]
        digest = hashlib.sha256(json.dumps([*info, self.info.frame_skip]).encode())
        columns = {
            layout.EPISODE_LENGTH: self.lengths,
            layout.ACTIONS: self.actions,
            layout.REWARDS: self.rewards,
            layout.TERMINATIONS: self.terminations,
            layout.TRUNCATIONS: self.truncations,
            **{layout.vector_path(name): column for name, column in self.vectors.items()},
        }
        for name, column in columns.items():
            digest.update(name.encode())
            if column is not None:
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def storage(self) -> dict[str, Any]:
        """How the frames lie on disk: `chunks` (of one camera), `codec`, `bytes` compressed."""
        columns = [self._handle()[path] for path in layout.frame_paths(self.info.frame)]
        filters = list(columns[0]._filters) or ["none"]
        return {
            "chunks": columns[0].chunks,
            "codec": ", ".join(_FILTERS.get(name, name) for name in filters),
            "bytes": sum(int(column.id.get_storage_size()) for column in columns),
        }

    def close(self) -> None:
        """Close the file; it is opened again when frames are read."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_memory": None}

    def _handle(self) -> h5py.File:
        """This process's own handle.

        One that came through a fork is closed first, in this process alone: as long as it is
        open, HDF5 would hand out its file descriptor, whose position all processes share.
        """
        if self._file is not None and self._owner != os.getpid():
            self.close()
        if self._file is None:
            self._file = _open(self.path)
            self._owner = os.getpid()
        return self._file


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise DatasetError(f"The dataset {path} does not exist or is no file.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} is no whole HDF5 file ({error}): get it anew.") from None


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Say which file is damaged: HDF5 raises whatever its inner layers happen to raise."""
    try:
        yield
    except LatentwrapError:
        raise
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DatasetError(f"{path} is damaged ({reason}): get it anew.") from None
