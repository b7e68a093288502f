"""Random windows: training subsequences inside one episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentwrap.datasets.reader import Dataset
from latentwrap.errors import DatasetError
from latentwrap.seeding import numpy_state, restore_numpy_state
from latentwrap.types import BoolArray, FloatArray, Frames, IntArray


@dataclass(frozen=True)
class Windows:
    """A batch of windows of L actions.

    Attributes:
        frames: uint8 (B, L+1, H, W, C).
        actions: encoded for the model, float32 (B, L, A).
        rewards: float32 (B, L), or `None`.
        terminations: bool (B, L).
        vectors: as observed, joined, float32 (B, L+1, V), or `None`.
    """

    frames: Frames
    actions: FloatArray
    rewards: FloatArray | None
    terminations: BoolArray
    vectors: FloatArray | None = None


@dataclass(frozen=True)
class EpisodeSplit:
    """Episode numbers for training and for measuring, ascending, int64."""

    train: IntArray
    heldout: IntArray


def split_episodes(
    dataset: Dataset, fraction: float, generator: np.random.Generator, *, shortest: int = 1
) -> EpisodeSplit:
    """Hold out a random share of the episodes.

    Args:
        dataset: with E episodes.
        fraction: share to hold out, in [0, 1); if it is above zero and two episodes are usable,
            one usable episode or more is held out, and one or more is left to train on.
        generator: draws which.
        shortest: transitions that make an episode usable, the length of a window; others all
            go to `train`, where a sampler skips and counts them.

    Raises:
        DatasetError: `fraction` is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise DatasetError(f"The held-out fraction must be in [0, 1), got {fraction}.")
    usable = np.flatnonzero(dataset.lengths > shortest)
    wanted = max(round(fraction * len(usable)), 1 if fraction else 0)
    held = max(min(wanted, len(usable) - 1), 0)
    heldout = np.sort(generator.permutation(usable)[:held])
    return EpisodeSplit(np.setdiff1d(np.arange(dataset.num_episodes), heldout), heldout)


class WindowSampler:
    """Draws windows uniformly over all places in some episodes where one fits.

    Args:
        dataset: where the episodes are.
        episodes: their numbers; those shorter than a window are skipped.
        length: actions in a window, L.
        batch_size: windows in a batch, B.
        generator: draws the windows.

    Attributes:
        skipped: how many episodes were too short.

    Raises:
        DatasetError: all are too short.

    Example:
        >>> import tempfile
        >>> from latentwrap.datasets import Dataset, WindowSampler, collect, split_episodes
        >>> from latentwrap.seeding import numpy_generator
        >>> path = tempfile.mkdtemp() + "/pendulum.h5"
        >>> _ = collect("latentwrap/PixelPendulum-v0", path, steps=450)
        >>> data, generator = Dataset(path), numpy_generator(0)
        >>> split = split_episodes(data, 0.1, generator, shortest=8)
        >>> sampler = WindowSampler(
        ...     data, split.train, length=8, batch_size=32, generator=generator
        ... )
        >>> sampler.sample().frames.shape
        (32, 9, 64, 64, 3)
    """

    def __init__(
        self,
        dataset: Dataset,
        episodes: IntArray,
        *,
        length: int,
        batch_size: int,
        generator: np.random.Generator,
    ) -> None:
        fits = dataset.lengths[episodes] > length
        self.skipped = int((~fits).sum())
        self._starts = _window_starts(dataset, episodes[fits], length)
        if not len(self._starts):
            longest = dataset.lengths[episodes].max(initial=1) - 1
            raise DatasetError(
                f"{dataset.path} requires an episode of at least {length} transitions for windows "
                f"of that length, the longest of the {len(episodes)} to use has {longest}: "
                "use a smaller window or collect longer episodes."
            )
        self._dataset = dataset
        self._length, self._batch_size = length, batch_size
        self._generator = generator
        self._actions = dataset.info.action.encode(dataset.actions)

    @property
    def num_windows(self) -> int:
        """How many different windows there are."""
        return len(self._starts)

    def sample(self) -> Windows:
        """A random batch."""
        chosen = self._generator.integers(len(self._starts), size=self._batch_size)
        return self._gather(self._starts[chosen])

    def fixed(self, count: int) -> Iterator[Windows]:
        """Batches of at most `count` windows together, evenly spaced and always the same."""
        places = np.linspace(0, len(self._starts) - 1, min(count, len(self._starts)))
        starts = self._starts[places.astype(np.int64)]
        for first in range(0, len(starts), self._batch_size):
            yield self._gather(starts[first : first + self._batch_size])

    def state(self) -> dict[str, Any]:
        """The generator's state, JSON-serialisable."""
        return numpy_state(self._generator)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        restore_numpy_state(self._generator, state)

    def _gather(self, starts: IntArray) -> Windows:
        length, data = self._length, self._dataset
        frames = np.stack([data.frames(slice(s, s + length + 1)) for s in starts])
        rows = starts[:, None] + np.arange(length)
        seen = starts[:, None] + np.arange(length + 1)
        return Windows(
            frames=frames,
            actions=self._actions[rows],
            rewards=None if data.rewards is None else data.rewards[rows],
            terminations=data.terminations[rows],
            vectors=None if data.joined_vectors is None else data.joined_vectors[seen],
        )


def _window_starts(dataset: Dataset, episodes: IntArray, length: int) -> IntArray:
    """First rows of all windows: L+1 rows that end within their episode."""
    if not len(episodes):
        return np.empty(0, np.int64)
    ranges = [
        np.arange(dataset.starts[e], dataset.starts[e] + dataset.lengths[e] - length)
        for e in episodes
    ]
    return np.concatenate(ranges)
