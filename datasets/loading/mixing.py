"""How often windows come from each of several files."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentwrap.datasets.reader import Dataset
from latentwrap.errors import ConfigError, DatasetError
from latentwrap.types import AnyArray, IntArray


@dataclass(frozen=True)
class FileMix:
    """Draws a file by weight, then one of its windows uniformly.

    Attributes:
        shares: probability of each file, float64 (F,); they sum to 1.
        firsts, counts: where the windows of each file begin among all, and how many there are,
            int64 (F,).
    """

    shares: AnyArray
    firsts: IntArray
    counts: IntArray

    @classmethod
    def of(cls, dataset: Dataset, starts: IntArray, weights: AnyArray) -> FileMix:
        """Of the windows that begin in the rows `starts`, ascending.

        Raises:
            DatasetError: a file with a weight has no window.
        """
        bounds = np.searchsorted(starts, [*dataset.frame_reader.first_rows, dataset.num_frames])
        counts = np.diff(bounds)
        for path, weight, count in zip(dataset.paths, weights, counts, strict=True):
            if weight and not count:
                raise DatasetError(
                    f"{path} requires an episode as long as a window to be mixed in, and has none "
                    "to train on: leave it out, or use a smaller window."
                )
        return cls(weights / weights.sum(), bounds[:-1], counts)

    def draw(self, generator: np.random.Generator, size: int) -> IntArray:
        """Numbers of random windows, int64 (`size`,)."""
        files = generator.choice(len(self.shares), size=size, p=self.shares)
        chosen: IntArray = self.firsts[files] + generator.integers(self.counts[files])
        return chosen


@dataclass(frozen=True)
class Mix:
    """Files to learn from, and how often.

    Attributes:
        paths: the files.
        weights: of each, above 0, float64 (F,); `None` where all windows are equally likely.
    """

    paths: tuple[Path, ...]
    weights: AnyArray | None


def mix_files(paths: Sequence[Path], mix: Mapping[str, float]) -> Mix:
    """Weigh files, and leave out those without a weight.

    Args:
        paths: the files.
        mix: weights by name or pattern of files. Those that one pattern fits share its weight;
            a file that none fits is left out. Empty, all files are as they come.

    Raises:
        ConfigError: a weight that is none, a pattern that fits no file, or two that fit one.
    """
    if not mix:
        return Mix(tuple(paths), None)
    weights = np.zeros(len(paths))
    for pattern, weight in mix.items():
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"A weight must be a number of at least 0, got {pattern}={weight}.")
        fits = np.array([_fits(str(path), pattern) for path in paths])
        if not fits.any():
            raise ConfigError(
                f"The mix names {pattern}, which fits none of the {len(paths)} files of the data: "
                "name them as they are given."
            )
        if weights[fits].any():
            raise ConfigError(f"The mix gives two weights to a file that {pattern} names too.")
        weights[fits] = weight / fits.sum()
    if not weights.any():
        raise ConfigError("A mix requires a weight above 0, got none.")
    kept = [path for path, weight in zip(paths, weights, strict=True) if weight]
    return Mix(tuple(kept), weights[weights > 0])


def _fits(path: str, pattern: str) -> bool:
    return path == pattern or fnmatch.fnmatchcase(path, pattern)
