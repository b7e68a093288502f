"""What stands for a frame: latents, and the plainer things that they have to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentwrap.datasets import Dataset
from latentwrap.devices import to_device
from latentwrap.evaluation.pca import PCA, pca_fit
from latentwrap.evaluation.stretches import read_stretches
from latentwrap.models import LatentModel
from latentwrap.training.statistics import check_dataset, filter_sequences
from latentwrap.types import AnyArray, FloatArray, Frames, IntArray

LATENT = "latent"
"""The filtered mean latent, which the wrapper hands out."""

SINGLE = "single frame"
"""The model's latent of a frame as if an episode began with it."""

STACK = 3
"""Frames in a stack, as pixel agents take them."""

PCA_ONE = "PCA of one frame"
PCA_STACK = f"PCA of {STACK} frames"

REPRESENTATIONS = (LATENT, SINGLE, PCA_ONE, PCA_STACK)
"""All of them, in the order of the page."""

LONGEST = 2000
"""Frames of an episode that are used."""

_PCA_ROWS = 1000
_PCA_BYTES = 256 * 1024**2
_AT_ONCE = 256


@dataclass(frozen=True)
class Representations:
    """The frames of some episodes in several representations; row i is the same frame in all.

    Attributes:
        values: by representation, float32 (N, d).
        rows: where the frames lie in the dataset, int64 (N,).
        steps: of each frame within its episode, int64 (N,).
    """

    values: dict[str, FloatArray]
    rows: IntArray
    steps: IntArray


@dataclass(frozen=True)
class FramePCA:
    """Principal components of single frames and of stacks of frames."""

    one: PCA
    stack: PCA


def fit_frame_pca(
    dataset: Dataset, episodes: IntArray, *, count: int, generator: np.random.Generator
) -> FramePCA:
    """Principal components of the pixels of random frames.

    Args:
        dataset: where the episodes are.
        episodes: their numbers, int64, one or more.
        count: components, as many as the latent has dimensions for a fair comparison.
        generator: draws the frames, 1000 or as many as fit into 256 MiB.
    """
    pixels = STACK * int(np.prod(dataset.info.frame.shape))
    affordable = max(2 * count, _PCA_BYTES // (4 * pixels))
    chosen = generator.permutation(dataset.rows(episodes))[: min(_PCA_ROWS, affordable)]
    first = dataset.starts[np.searchsorted(dataset.starts, chosen, side="right") - 1]
    stacks = np.stack(
        [_stack_ending_at(dataset, row, start) for row, start in zip(chosen, first, strict=True)]
    )
    return FramePCA(
        pca_fit(_flat(stacks[:, -1:]), count),
        pca_fit(_flat(stacks), count),
    )


@torch.inference_mode()
def represent(
    model: LatentModel, dataset: Dataset, episodes: IntArray, pca: FramePCA | None
) -> Representations:
    """Every frame of some episodes in every representation.

    Args:
        model: filters each episode from its first frame.
        dataset: that fits the model.
        episodes: their numbers, int64; of each the first `LONGEST` frames are used.
        pca: of the pixels; `None` leaves everything but the latents out.

    Raises:
        DatasetError: the dataset does not fit the model.
    """
    check_dataset(model, dataset)
    pieces: dict[str, list[FloatArray]] = {
        name: [] for name in ((LATENT,) if pca is None else REPRESENTATIONS)
    }
    rows, steps = [], []
    for stretches in read_stretches(model, dataset, episodes, longest=LONGEST):
        filtered = filter_sequences(model, stretches.frames, stretches.actions, stretches.vectors)
        latents = filtered.cpu().numpy()
        for index, (start, length) in enumerate(
            zip(stretches.starts.tolist(), stretches.lengths.tolist(), strict=True)
        ):
            frames = stretches.frames[index, :length]
            pieces[LATENT].append(latents[index, :length])
            if pca is not None:
                vectors = None if stretches.vectors is None else stretches.vectors[index, :length]
                pieces[SINGLE].append(single_frame_latents(model, frames, vectors))
                pieces[PCA_ONE].append(_components(pca.one, frames.numpy()))
                pieces[PCA_STACK].append(_stack_components(pca.stack, frames.numpy()))
            steps.append(np.arange(length))
            rows.append(start + steps[-1])
    values = {name: np.concatenate(parts) for name, parts in pieces.items()}
    return Representations(values, np.concatenate(rows), np.concatenate(steps))


def single_frame_latents(
    model: LatentModel, frames: Tensor, vectors: Tensor | None = None
) -> FloatArray:
    """The latent of each frame (N, H, W, C) on its own, with its vectors; float32 (N, d)."""
    chunks = []
    for start in range(0, len(frames), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        seen = None if vectors is None else to_device(vectors[rows], model.device)
        belief = model.initial(to_device(frames[rows], model.device), vectors=seen)
        chunks.append(model.latent(belief))
    latents: FloatArray = torch.cat(chunks).cpu().numpy()
    return latents


def stacked(frames: Frames) -> Frames:
    """Each frame of an episode with those before it; the first stands in for what is missing.

    Args:
        frames: uint8 (N, H, W, C).

    Returns:
        uint8 (N, `STACK`, H, W, C), the newest last.
    """
    offsets = np.arange(1 - STACK, 1)
    stacks: Frames = frames[np.maximum(np.arange(len(frames))[:, None] + offsets, 0)]
    return stacks


def _stack_ending_at(dataset: Dataset, row: int, first: int) -> Frames:
    begin = max(row - STACK + 1, first)
    newest: Frames = stacked(dataset.frames(slice(begin, row + 1)))[-1]
    return newest


def _components(pca: PCA, frames: Frames) -> FloatArray:
    """Principal components of single frames, without a float copy of all of them."""
    starts = range(0, len(frames), _AT_ONCE)
    return np.concatenate([pca.apply(_flat(frames[a : a + _AT_ONCE])) for a in starts])


def _stack_components(pca: PCA, frames: Frames) -> FloatArray:
    """Principal components of stacks of an episode's frames, likewise."""
    pieces = []
    for start in range(0, len(frames), _AT_ONCE):
        begin = max(start - STACK + 1, 0)
        stacks = stacked(frames[begin : start + _AT_ONCE])[start - begin :]
        pieces.append(pca.apply(_flat(stacks)))
    return np.concatenate(pieces)


def _flat(frames: Frames) -> AnyArray:
    return frames.reshape(len(frames), -1)
