"""Filtering whole episodes offline, and the statistics of their latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentwrap.actions import describe
from latentwrap.datasets import Dataset, Episode, join_vectors
from latentwrap.devices import to_device
from latentwrap.errors import DatasetError
from latentwrap.models import LatentModel
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec
from latentwrap.training.processes import ALONE, Processes
from latentwrap.types import AnyArray, FloatArray, IntArray
from latentwrap.vectors import VectorSpec

_BYTES_AT_ONCE = 64 * 1024**2


def check_dataset(model: LatentModel, dataset: Dataset) -> None:
    """Refuse a dataset whose frames, actions or vectors are not those of the model.

    Raises:
        DatasetError: another size or number of channels, other cameras, another action space or
            frame skip, or other vectors than those that the model sees.
    """
    info = dataset.info

    def require(name: str, expected: Any, found: Any, *, fits: bool) -> None:
        if not fits:
            raise DatasetError(
                f"{dataset.name} has {name} {found}, the model requires {expected}: "
                "use a dataset like the one that it was trained on."
            )

    size, found_size = model.frame_spec.shape, info.frame.shape
    require("frames of shape", size, found_size, fits=size == found_size)
    cameras, found_cameras = _cameras(model.frame_spec), _cameras(info.frame)
    require("frames of", cameras, found_cameras, fits=cameras == found_cameras)
    skip, found_skip = model.frame_skip, info.frame_skip
    require("frame skip", skip, found_skip, fits=skip == found_skip)
    space, found_space = model.action_spec.space, info.action.space
    fits = model.action_spec.matches(found_space)
    require("the action space", describe(space), describe(found_space), fits=fits)
    if model.sees_vectors:
        vectors, found_vectors = vector_words(model.vector_spec), vector_words(info.vectors)
        require("vectors", vectors, found_vectors, fits=vectors == found_vectors)


@torch.inference_mode()
def filter_episodes(
    model: LatentModel, dataset: Dataset, episodes: IntArray
) -> Iterator[FloatArray]:
    """Raw mean latents of every frame, filtered from the first frame of each episode.

    Args:
        model: with frames and actions as the dataset has them.
        dataset: where the episodes are.
        episodes: their numbers, int64 (E,).

    Yields:
        For each episode, in order, float32 (T+1, d).

    Raises:
        DatasetError: the dataset does not fit the model.
    """
    check_dataset(model, dataset)
    for batch in _batches(dataset, episodes):
        loaded = [dataset.episode(int(number)) for number in batch]
        lengths = [len(episode.frames) for episode in loaded]
        encode = model.action_spec.encode
        frames = _padded([torch.from_numpy(e.frames) for e in loaded])
        actions = _padded([torch.from_numpy(encode(e.actions)) for e in loaded])
        vectors = _vectors_of(model, loaded)
        latents = filter_sequences(model, frames, actions, vectors).cpu().numpy()
        for series, length in zip(latents, lengths, strict=True):
            yield series[:length].copy()


@torch.inference_mode()
def filter_sequences(
    model: LatentModel, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
) -> Tensor:
    """Raw mean latents along sequences.

    Args:
        model: the model.
        frames: uint8 (B, T+1, H, W, C).
        actions: encoded, float32 (B, T, A).
        vectors: as `LatentModel.prepare_vectors` gives them, float32 (B, T+1, V), or `None`.

    Returns:
        float32 (B, T+1, d).
    """
    beliefs = filter_beliefs(model, frames, actions, vectors)
    return torch.stack([model.latent(belief) for belief in beliefs], dim=1)


@torch.inference_mode()
def filter_beliefs(
    model: LatentModel, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
) -> Iterator[Any]:
    """The mean belief after each frame of sequences.

    Args:
        model: the model.
        frames: uint8 (B, T+1, H, W, C).
        actions: encoded, float32 (B, T, A).
        vectors: as `LatentModel.prepare_vectors` gives them, float32 (B, T+1, V), or `None`.

    Yields:
        T+1 beliefs of B.
    """
    device = model.device
    seen = [None] * frames.shape[1] if vectors is None else to_device(vectors, device).unbind(dim=1)
    belief = model.initial(to_device(frames[:, 0], device), vectors=seen[0])
    yield belief
    for t in range(actions.shape[1]):
        frame, action = to_device(frames[:, t + 1], device), to_device(actions[:, t], device)
        belief = model.filter(belief, action, frame, vectors=seen[t + 1])
        yield belief


def latent_statistics(
    model: LatentModel, dataset: Dataset, episodes: IntArray, processes: Processes = ALONE
) -> LatentNormalizer:
    """Mean and standard deviation of the latents over all frames of the episodes.

    Args:
        model: with frames and actions as the dataset has them.
        dataset: where the episodes are.
        episodes: their numbers, int64 (E,).
        processes: that share the work.
    """
    ours = episodes[processes.rank :: processes.count]
    latents = filter_episodes(model, dataset, ours)
    sums = processes.together(lambda: _sums_of(latents, model.latent_size))
    return _from_sums(processes.sum(sums))


def vector_statistics(dataset: Dataset, episodes: IntArray) -> LatentNormalizer | None:
    """Mean and standard deviation of the joined vectors likewise; `None` without vectors."""
    joined = dataset.joined_vectors
    if joined is None:
        return None
    ends = dataset.starts + dataset.lengths
    pieces = (joined[dataset.starts[e] : ends[e]] for e in episodes)
    return statistics_of(pieces, joined.shape[1])


def statistics_of(pieces: Iterable[FloatArray], size: int) -> LatentNormalizer:
    """Mean and standard deviation over the rows of all pieces, each (n, `size`)."""
    return _from_sums(_sums_of(pieces, size))


def _sums_of(pieces: Iterable[FloatArray], size: int) -> AnyArray:
    """Count, sum and sum of squares in each of the columns, float64 (3, `size`)."""
    sums = np.zeros((3, size))
    for piece in pieces:
        wide = piece.astype(np.float64)
        sums[0] += len(wide)
        sums[1] += wide.sum(axis=0)
        sums[2] += np.square(wide).sum(axis=0)
    return sums


def _from_sums(sums: AnyArray) -> LatentNormalizer:
    count, total, squares = sums
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return LatentNormalizer(mean.astype(np.float32), std.astype(np.float32))


def vector_words(spec: VectorSpec) -> str:
    """Names and sizes, as in `joints (7), gripper (1)`."""
    sizes = zip(spec.names, spec.sizes, strict=True)
    return ", ".join(f"{name} ({size})" for name, size in sizes) or "none"


def _cameras(frame: FrameSpec) -> str:
    """Whose images they show; the name of a single one does not matter."""
    names = frame.names
    return f"the cameras {', '.join(names)}" if len(names) > 1 else "one image"


def _vectors_of(model: LatentModel, episodes: list[Episode]) -> Tensor | None:
    """Vectors as the model takes them, padded; `None` for a model that sees none."""
    prepared = [model.prepare_vectors(join_vectors(e, model.vector_spec)) for e in episodes]
    found = [vectors for vectors in prepared if vectors is not None]
    return _padded(found) if found else None


def _batches(dataset: Dataset, episodes: IntArray) -> Iterator[IntArray]:
    """Consecutive episodes whose padded frames together stay below a bound."""
    rows_at_once = _BYTES_AT_ONCE // int(np.prod(dataset.info.frame.shape))
    batch: list[int] = []
    longest = 0
    for number in episodes:
        longest = max(longest, int(dataset.lengths[number]))
        if batch and longest * (len(batch) + 1) > rows_at_once:
            yield np.array(batch)
            batch, longest = [], int(dataset.lengths[number])
        batch.append(int(number))
    if batch:
        yield np.array(batch)


def _padded(sequences: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
