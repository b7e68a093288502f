"""Reading a dataset, after checking that it is one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.layout import DatasetInfo, read_info
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames, IntArray


class Dataset:
    """A file of layout version 1, open for reading.

    All columns but the frames are held in memory. Frames are read when asked for; `preload`
    takes them into memory too. A dataset may be pickled and used after a fork: each process
    opens the file for itself, because a shared handle gives wrong data.

    Args:
        path: the file.

    Attributes:
        info: what it is of.
        starts, lengths: first row and number of rows of each episode, int64 (E,).
        actions: as the environment took them, (N, A); `info.action.encode` gives the model's.
        rewards: float32 (N,), or `None`.
        terminations, truncations: bool (N,).
        states: physical truth by name, float32 (N, k).

    Raises:
        DatasetError: missing, not HDF5, foreign, damaged, or without episodes.

    Example:
        >>> data = Dataset("pendulum.h5")  # doctest: +SKIP
        >>> data.frames(slice(0, 9)).shape  # doctest: +SKIP
        (9, 64, 64, 3)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._owner = 0
        self._memory: Frames | None = None
        file = self._open()
        try:
            self.info: DatasetInfo = read_info(file, self.path)
            self._require_columns(file)
            self._read_columns(file)
        except OSError as error:
            raise DatasetError(f"{self.path} is damaged ({error}): get it anew.") from None
        self._check()

    def _read_columns(self, file: h5py.File) -> None:
        self.starts: IntArray = file[layout.EPISODE_START][:]
        self.lengths: IntArray = file[layout.EPISODE_LENGTH][:]
        self.actions: AnyArray = file[layout.ACTIONS][:]
        self.rewards: FloatArray | None = (
            file[layout.REWARDS][:] if layout.REWARDS in file else None
        )
        self.terminations: BoolArray = file[layout.TERMINATIONS][:]
        self.truncations: BoolArray = file[layout.TRUNCATIONS][:]
        states = file.get(layout.STATE, {})
        self.states: dict[str, FloatArray] = {name: states[name][:] for name in states}
        self._frames_shape: tuple[int, ...] = file[layout.FRAMES].shape
        self._frames_dtype: Any = file[layout.FRAMES].dtype

    @property
    def num_episodes(self) -> int:
        """Episodes, E."""
        return len(self.lengths)

    @property
    def num_frames(self) -> int:
        """Rows, N."""
        return int(self._frames_shape[0])

    @property
    def num_transitions(self) -> int:
        """Transitions: every episode has one fewer than rows."""
        return self.num_frames - self.num_episodes

    @property
    def frame_bytes(self) -> int:
        """Size of all frames in memory."""
        return int(np.prod(self._frames_shape))

    def frames(self, rows: slice) -> Frames:
        """Frames of some rows, uint8 (n, H, W, C).

        Raises:
            DatasetError: the file is damaged there.
        """
        if self._memory is not None:
            return self._memory[rows]
        try:
            frames: Frames = self._handle()[layout.FRAMES][rows]
        except OSError as error:
            raise DatasetError(
                f"{self.path} is damaged in the frames of rows {rows.start} to {rows.stop} "
                f"({error}): get it anew."
            ) from None
        return frames

    def preload(self) -> None:
        """Hold all frames in memory, `frame_bytes` of it."""
        if self._memory is None:
            self._memory = self.frames(slice(0, self.num_frames))

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
        )

    def returns(self) -> FloatArray | None:
        """Sum of rewards of each episode, float32 (E,); `None` without rewards."""
        if self.rewards is None:
            return None
        # The padding of each episode's last row is zero.
        sums: FloatArray = np.add.reduceat(self.rewards, self.starts)
        return sums

    def fingerprint(self) -> str:
        """Identifies the experience: SHA-256 over what it is of, its index, actions, rewards.

        Frames are left out, so that asking is cheap; the same actions in the same environment
        with the same rewards show the same frames.
        """
        info = [self.info.env_id, self.info.action.to_json(), self.info.frame.model_dump_json()]
        digest = hashlib.sha256(json.dumps([*info, self.info.frame_skip]).encode())
        rewards = np.empty(0, np.float32) if self.rewards is None else self.rewards
        for column in (self.lengths, self.actions, rewards):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def storage(self) -> dict[str, Any]:
        """How the frames lie on disk: `chunks`, `codec` and `bytes` after compression."""
        frames = self._handle()[layout.FRAMES]
        filters = list(frames._filters) or ["none"]
        names = {"32004": "LZ4", "32015": "Zstd", "32001": "Blosc", "32026": "Blosc2"}
        return {
            "chunks": frames.chunks,
            "codec": ", ".join(names.get(name, name) for name in filters),
            "bytes": int(frames.id.get_storage_size()),
        }

    def close(self) -> None:
        """Close the file; it is opened again when frames are read."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _open(self) -> h5py.File:
        if not self.path.is_file():
            raise DatasetError(f"The dataset {self.path} does not exist.")
        try:
            self._file = h5py.File(self.path)
        except OSError as error:
            raise DatasetError(
                f"{self.path} is no whole HDF5 file ({error}): get it anew."
            ) from None
        self._owner = os.getpid()
        return self._file

    def _handle(self) -> h5py.File:
        """This process's own handle; one inherited through a fork is left alone."""
        if self._file is None or self._owner != os.getpid():
            return self._open()
        return self._file

    def _require_columns(self, file: h5py.File) -> None:
        missing = [name for name in layout.REQUIRED if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise DatasetError(
                f"{self.path} lacks /{missing[0]}, which layout version {layout.VERSION} requires."
            )

    def _check(self) -> None:
        self._check_index()
        self._check_shapes()
        self._check_finite()

    def _check_index(self) -> None:
        if not self.num_episodes:
            raise DatasetError(f"{self.path} holds no episodes: collect some first.")
        ends = np.cumsum(self.lengths)
        contiguous = (
            self.starts.shape == self.lengths.shape
            and bool((self.lengths >= 2).all())
            and np.array_equal(self.starts, ends - self.lengths)
            and int(ends[-1]) == self.num_frames
        )
        if not contiguous:
            raise DatasetError(
                f"{self.path} has an episode index that does not cover its {self.num_frames} rows "
                "one episode after the other: get it anew."
            )

    def _check_shapes(self) -> None:
        rows, action = self.num_frames, self.info.action
        expected: dict[str, tuple[tuple[int, ...], Any]] = {
            layout.FRAMES: ((rows, *self.info.frame.shape), np.uint8),
            layout.ACTIONS: ((rows, action.stored_size), action.stored_dtype),
            layout.TERMINATIONS: ((rows,), np.bool_),
            layout.TRUNCATIONS: ((rows,), np.bool_),
            layout.REWARDS: ((rows,), np.float32),
        }
        found: dict[str, tuple[tuple[int, ...], Any]] = {
            layout.FRAMES: (self._frames_shape, self._frames_dtype),
            layout.ACTIONS: (self.actions.shape, self.actions.dtype),
            layout.TERMINATIONS: (self.terminations.shape, self.terminations.dtype),
            layout.TRUNCATIONS: (self.truncations.shape, self.truncations.dtype),
        }
        if self.rewards is not None:
            found[layout.REWARDS] = (self.rewards.shape, self.rewards.dtype)
        for name, column in self.states.items():
            expected[f"state/{name}"] = ((rows, *column.shape[1:]), np.float32)
            found[f"state/{name}"] = (column.shape, column.dtype)
        for name, (shape, dtype) in found.items():
            if (shape, np.dtype(dtype)) != (expected[name][0], np.dtype(expected[name][1])):
                raise DatasetError(
                    f"{self.path} requires /{name} to be {np.dtype(expected[name][1])} "
                    f"{expected[name][0]}, got {dtype} {shape}."
                )

    def _check_finite(self) -> None:
        for name, column in (("actions", self.actions), ("rewards", self.rewards)):
            if column is None or np.isfinite(column).all():
                continue
            row = int(np.argwhere(~np.isfinite(column))[0, 0])
            raise DatasetError(
                f"{self.path} has {name} that are NaN or infinite, first in row {row}: "
                "leave such episodes out."
            )
