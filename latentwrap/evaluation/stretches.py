"""Beginnings of episodes in batches, so that no dataset is too large to be measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentwrap.datasets import Dataset
from latentwrap.models import LatentModel
from latentwrap.types import IntArray

_BYTES_AT_ONCE = 100 * 1024**2


@dataclass(frozen=True)
class Stretches:
    """The beginnings of B episodes, padded with zeros to the longest.

    Attributes:
        starts: row of each first frame in the dataset, int64 (B,).
        lengths: frames of each, int64 (B,).
        frames: uint8 (B, T+1, H, W, C).
        actions: encoded, float32 (B, T, A).
        vectors: as `LatentModel.prepare_vectors` gives them, float32 (B, T+1, V); `None` for a
            model that sees none.
    """

    starts: IntArray
    lengths: IntArray
    frames: Tensor
    actions: Tensor
    vectors: Tensor | None


def choose_episodes(
    dataset: Dataset, episodes: IntArray, *, rows: int, longest: int, generator: np.random.Generator
) -> IntArray:
    """Random episodes whose beginnings together have about `rows` frames, one or more.

    Args:
        dataset: where the episodes are.
        episodes: those to choose from, int64.
        rows: frames that are enough.
        longest: frames of an episode that count.
        generator: draws the episodes.

    Returns:
        Ascending, int64.
    """
    shuffled = generator.permutation(episodes)
    before = np.cumsum(np.minimum(dataset.lengths[shuffled], longest))
    return np.sort(shuffled[: 1 + int(np.searchsorted(before, rows))])


def read_stretches(
    model: LatentModel, dataset: Dataset, episodes: IntArray, *, longest: int
) -> Iterator[Stretches]:
    """The first `longest` frames of episodes, as many at once as memory allows.

    Args:
        model: its action specification encodes the actions.
        dataset: that fits the model.
        episodes: their numbers, int64.
        longest: frames of an episode that are read.
    """
    lengths = np.minimum(dataset.lengths[episodes], longest)
    at_once = max(1, _BYTES_AT_ONCE // int(np.prod(dataset.info.frame.shape)))
    batch: list[int] = []
    for index in range(len(episodes)):
        grown = [*batch, index]
        if batch and int(lengths[grown].max()) * len(grown) > at_once:
            yield _read(model, dataset, episodes[batch], lengths[batch])
            grown = [index]
        batch = grown
    if batch:
        yield _read(model, dataset, episodes[batch], lengths[batch])


def _read(model: LatentModel, dataset: Dataset, episodes: IntArray, lengths: IntArray) -> Stretches:
    starts = dataset.starts[episodes]
    frames, actions, vectors = [], [], []
    joined = dataset.joined_vectors
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        rows = slice(start, start + length)
        frames.append(torch.from_numpy(dataset.frames(rows)))
        stored = dataset.actions[start : start + length - 1]
        actions.append(torch.from_numpy(model.action_spec.encode(stored)))
        seen = model.prepare_vectors(None if joined is None else joined[rows])
        vectors += [] if seen is None else [seen]
    return Stretches(
        starts, lengths, _padded(frames), _padded(actions), _padded(vectors) if vectors else None
    )


def _padded(sequences: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
