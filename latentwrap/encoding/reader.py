"""Reading a file of latents, after checking that it is one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.columns import Columns, read_columns
from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.shard import damage_named
from latentwrap.encoding.episodes import LatentEpisode
from latentwrap.encoding.info import LATENTS, LatentInfo, read_latent_info
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray


def read_beside_latents(file: h5py.File, info: LatentInfo, path: Path) -> Columns:
    """Read all columns but the latents, after checking that they are what the layout says.

    Raises:
        DatasetError: as of `latentwrap.datasets.columns.read_columns`.
    """
    seen = {LATENTS: ((info.size,), np.float32)}
    return read_columns(file, info.data, path, seen=seen)


class LatentDataset:
    """A file that `latentwrap encode` wrote.

    The latents are read into memory when they are first asked for, everything else at once.

    Args:
        path: the file.

    Attributes:
        path: the file.
        info: what it is of.
        starts, lengths: first row and number of rows of each episode, int64 (E,).
        actions: as the environment took them, (N, A).
        rewards: float32 (N,), or `None`.
        terminations, truncations: bool (N,).
        states: physical truth by name, float32 (N, k).
        vectors: what was observed beside the frames by name, float32 (N, k).

    Raises:
        DatasetError: missing, not HDF5, foreign, damaged, or without episodes.

    Example:
        >>> from latentwrap.encoding import LatentDataset
        >>> data = LatentDataset("latent.h5")  # doctest: +SKIP
        >>> data.episode(0).latents.shape  # doctest: +SKIP
        (201, 160)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with open_checked(self.path) as file, damage_named(self.path):
            self.info: LatentInfo = read_latent_info(file, self.path)
            columns = read_beside_latents(file, self.info, self.path)
        self.starts, self.lengths = columns.starts, columns.lengths
        self.actions, self.rewards = columns.actions, columns.rewards
        self.terminations, self.truncations = columns.terminations, columns.truncations
        self.states, joined = dict(columns.states), columns.vectors
        slices = self.info.data.vectors.slices
        self.vectors = {} if joined is None else {n: joined[:, part] for n, part in slices.items()}

    @cached_property
    def latents(self) -> FloatArray:
        """What `LatentObservation` observes, float32 (N, d + V).

        Raises:
            DatasetError: the file is damaged there.
        """
        with open_checked(self.path) as file, damage_named(self.path):
            latents: FloatArray = file[LATENTS][:]
        if not np.isfinite(latents).all():
            raise DatasetError(f"{self.path} has latents that are NaN or infinite: encode it anew.")
        return latents

    @property
    def num_episodes(self) -> int:
        """Episodes, E."""
        return len(self.lengths)

    @property
    def num_transitions(self) -> int:
        """Transitions: every episode has one fewer than rows."""
        return len(self.actions) - self.num_episodes

    def episode(self, number: int) -> LatentEpisode:
        """One whole episode, without the padding; views."""
        start = int(self.starts[number])
        rows = slice(start, start + int(self.lengths[number]))
        return LatentEpisode.of({name: values[rows] for name, values in self._columns().items()})

    def episodes(self) -> Iterator[LatentEpisode]:
        """All of them, in order."""
        return (self.episode(number) for number in range(self.num_episodes))

    def _columns(self) -> dict[str, AnyArray]:
        rewards = {} if self.rewards is None else {layout.REWARDS: self.rewards}
        return {
            LATENTS: self.latents,
            layout.ACTIONS: self.actions,
            layout.TERMINATIONS: self.terminations,
            layout.TRUNCATIONS: self.truncations,
            **rewards,
            **{layout.state_path(name): values for name, values in self.states.items()},
            **{layout.vector_path(name): values for name, values in self.vectors.items()},
        }
