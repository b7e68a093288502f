"""Random windows: training subsequences inside one episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentwrap.datasets.loading.mixing import FileMix
from latentwrap.datasets.reader import Dataset
from latentwrap.errors import DatasetError
from latentwrap.seeding import numpy_state, restore_numpy_state
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames, IntArray


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
        weights: of the dataset's files, by how often a window comes from each, float64 (F,);
            `None` draws every window equally often, from a larger file more.
        share: the windows of each batch that are handed out, where other processes work on the
            rest; `None` for all.

    Attributes:
        dataset, length, batch_size: as given.
        starts: first rows of all windows, ascending, int64 (W,).
        skipped: how many episodes were too short.

    Raises:
        DatasetError: all are too short, or those of a file with a weight.

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
        weights: AnyArray | None = None,
        share: slice | None = None,
    ) -> None:
        fits = dataset.lengths[episodes] > length
        self.skipped = int((~fits).sum())
        self.starts = window_starts(dataset, episodes[fits], length)
        if not len(self.starts):
            longest = dataset.lengths[episodes].max(initial=1) - 1
            raise DatasetError(
                f"{dataset.name} requires an episode of at least {length} transitions for windows "
                f"of that length, the longest of the {len(episodes)} to use has {longest}: "
                "use a smaller window (pretrain --window) or longer episodes."
            )
        self.dataset, self.length, self.batch_size = dataset, length, batch_size
        self._generator = generator
        self._share = share or slice(None)
        self._actions = dataset.info.action.encode(dataset.actions)
        self._mix = None if weights is None else FileMix.of(dataset, self.starts, weights)

    @property
    def num_windows(self) -> int:
        """How many different windows there are."""
        return len(self.starts)

    @property
    def share_size(self) -> int:
        """Windows of each batch that are handed out."""
        return len(range(*self._share.indices(self.batch_size)))

    def sample(self) -> Windows:
        """A random batch, or the share of it."""
        return self.gather(self.draw())

    def draw(self) -> IntArray:
        """First rows of a random batch, or of the share of it, int64 (B,), for `gather`.

        The generator goes on by a whole batch, so that with any number of processes a seed gives
        the same batches.
        """
        if self._mix is None:
            chosen = self._generator.integers(len(self.starts), size=self.batch_size)
        else:
            chosen = self._mix.draw(self._generator, self.batch_size)
        return self.starts[chosen][self._share]

    def fixed(self, count: int) -> Iterator[Windows]:
        """Batches of at most `count` windows together, evenly spaced and always the same."""
        return map(self.gather, self.fixed_starts(count))

    def fixed_starts(self, count: int) -> Iterator[IntArray]:
        """First rows of the batches of `fixed`, whole ones, int64 (B,)."""
        places = np.linspace(0, len(self.starts) - 1, min(count, len(self.starts)))
        starts = self.starts[places.astype(np.int64)]
        for first in range(0, len(starts), self.batch_size):
            yield starts[first : first + self.batch_size]

    def gather(self, starts: IntArray, frames: Frames | None = None) -> Windows:
        """The windows that begin in some rows, int64 (B,).

        Args:
            starts: the rows, at least L before their episode's last.
            frames: those of the windows where they were read already, uint8 (B, L+1, H, W, C).
        """
        data, rows = self.dataset, starts[:, None] + np.arange(self.length)
        seen = starts[:, None] + np.arange(self.length + 1)
        return Windows(
            frames=data.windows(starts, self.length + 1) if frames is None else frames,
            actions=self._actions[rows],
            rewards=None if data.rewards is None else data.rewards[rows],
            terminations=data.terminations[rows],
            vectors=None if data.joined_vectors is None else data.joined_vectors[seen],
        )

    def state(self) -> dict[str, Any]:
        """The generator's state, JSON-serialisable."""
        return numpy_state(self._generator)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        restore_numpy_state(self._generator, state)


def window_starts(dataset: Dataset, episodes: IntArray, length: int) -> IntArray:
    """First rows of all windows: L+1 rows that end within their episode."""
    if not len(episodes):
        return np.empty(0, np.int64)
    ranges = [
        np.arange(dataset.starts[e], dataset.starts[e] + dataset.lengths[e] - length)
        for e in episodes
    ]
    return np.concatenate(ranges)
