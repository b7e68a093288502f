"""Reading a dataset, after checking that it is one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.frame_reader import FrameReader
from latentwrap.datasets.joining import (
    Source,
    check_alike,
    find_files,
    join_columns,
    unshared_states,
)
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.shard import Storage, open_shard
from latentwrap.types import FloatArray, Frames, IntArray


class Dataset:
    """One or more files of layout version 1, open for reading.

    All columns but the frames are held in memory. Frames are read when asked for; `preload`
    takes them into memory too. A dataset may be used after a fork and by several threads: each
    process opens the files for itself, few at a time. It may be pickled too; the copy reads
    frames from the files, also where the original had preloaded them.

    Args:
        source: a file, a pattern such as `shards/*.h5`, or several of either, which are read as
            one dataset.

    Attributes:
        paths: the files.
        info: what the first is of; the others fit it.
        frame_reader: reads the frames; workers need no more of a dataset.
        starts, lengths: first row and number of rows of each episode, int64 (E,).
        actions: as the environment took them, (N, A); `info.action.encode` gives the model's.
        rewards: float32 (N,), or `None`.
        terminations, truncations: bool (N,).
        states: physical truth by name, float32 (N, k).
        unshared_states: names of states that are left out, because not all files have them.
        joined_vectors: what was observed beside the frames, float32 (N, V), or `None`.

    Raises:
        DatasetError: missing, not HDF5, foreign, damaged, without episodes, or files that do not
            fit each other.

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
        >>> data.windows(data.starts, 9).shape
        (2, 9, 64, 64, 3)
    """

    def __init__(self, source: Source) -> None:
        self.paths = find_files(source)
        shards = [open_shard(path) for path in self.paths]
        check_alike(shards)
        self.frame_reader = FrameReader([shard.frames for shard in shards])
        self._storage = [shard.frames.storage for shard in shards]
        self.info: DatasetInfo = shards[0].info
        parts = [shard.columns for shard in shards]
        columns = join_columns(parts)
        self.unshared_states = unshared_states(parts)
        self.starts, self.lengths = columns.starts, columns.lengths
        self.actions, self.rewards = columns.actions, columns.rewards
        self.terminations, self.truncations = columns.terminations, columns.truncations
        self.states = dict(columns.states)
        self.joined_vectors = columns.vectors

    @property
    def path(self) -> Path:
        """The file, or the first of several."""
        return self.paths[0]

    @property
    def name(self) -> str:
        """The file, or the first and how many more there are, for messages."""
        more = len(self.paths) - 1
        return f"{self.path} and {more} more" if more else str(self.path)

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
            DatasetError: a file is damaged there.
        """
        return self.frame_reader.read(rows)

    def windows(self, starts: IntArray, length: int) -> Frames:
        """Frames from each of some rows on, uint8 (B, `length`, H, W, C).

        Args:
            starts: rows with which the windows begin, int64 (B,); no window may reach into
                another file, as none does that lies within an episode.
            length: frames in a window.

        Raises:
            DatasetError: a file is damaged there.
        """
        out = np.empty((len(starts), length, *self.info.frame.shape), np.uint8)
        self.frame_reader.fill_windows(starts, out)
        return out

    def preload(self) -> None:
        """Hold all frames in memory, `frame_bytes` of it."""
        self.frame_reader.preload()

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

        It is the same however the episodes are divided into files. Frames, states and provenance
        are left out, so that asking costs milliseconds: two files that differ in their pictures
        alone have the same fingerprint.
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

    def storage(self) -> Storage:
        """How the frames of the first file lie on disk, and how large those of all are."""
        parts, first = self._storage, self._storage[0]
        return Storage(
            first.chunks,
            first.codec,
            bytes=sum(part.bytes for part in parts),
            fast=all(part.fast for part in parts),
        )

    def close(self) -> None:
        """Close the files; they are opened again when frames are read."""
        self.frame_reader.close()
