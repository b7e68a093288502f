"""What a model sees, expects and imagines of an episode, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from latentwrap.datasets import Dataset
from latentwrap.devices import to_device
from latentwrap.evaluation.stretches import read_stretches
from latentwrap.models import LatentModel
from latentwrap.pixels import tile
from latentwrap.seeding import torch_generator
from latentwrap.training.statistics import check_dataset, filter_beliefs
from latentwrap.types import Frame, Frames, IntArray

STEPS = 48
"""Transitions shown of an episode."""

CONTEXT = 8
"""Frame from which on the open-loop prediction sees no more frames."""

_SAMPLES = 2
_COLUMNS = 12
_LARGEST = 96


@dataclass(frozen=True)
class Film:
    """The beginning of one episode; each row of pictures is uint8 (T+1, H, W, C).

    Frames larger than 96 pixels are shrunk, so that a page full of them stays small.

    Attributes:
        episode: its number.
        context: frame after which `predicted` sees actions alone.
        frames: what happened.
        filtered: what the filtered belief expects to see, after having seen the frame.
        predicted: the same up to frame `context`, from then on what the mean prior expects.
        samples: what samples of the prior look like, from the first frame's belief on with the
            same actions. One without noise for kinds that have none.
    """

    episode: int
    context: int
    frames: Frames
    filtered: Frames
    predicted: Frames
    samples: tuple[Frames, ...]

    @property
    def shown(self) -> IntArray:
        """Evenly spaced steps for a strip, at most 12."""
        return np.unique(np.linspace(0, len(self.frames) - 1, _COLUMNS).astype(np.int64))

    @property
    def rows(self) -> dict[str, Frames]:
        """The rows of a strip by name."""
        first = {
            "frames": self.frames,
            "filtered reconstruction": self.filtered,
            "open-loop prediction": self.predicted,
        }
        names = [f"prior sample {number}" for number in range(1, len(self.samples) + 1)]
        return {**first, **dict(zip(names, self.samples, strict=True))}

    def strip(self, name: str) -> Frame:
        """The shown steps of one row beside each other."""
        return tile(self.rows[name][self.shown], columns=len(self.shown))

    def pictures(self) -> list[Frame]:
        """Frame, reconstruction, prediction and first sample side by side, step by step."""
        columns = [self.frames, self.filtered, self.predicted, self.samples[0]]
        return [tile(np.stack(four), columns=4) for four in zip(*columns, strict=True)]


@torch.inference_mode()
def make_film(model: LatentModel, dataset: Dataset, episode: int, *, seed: int) -> Film:
    """Run the filter, the open-loop prediction and prior samples over an episode's beginning.

    Args:
        model: any kind.
        dataset: that fits the model.
        episode: its number.
        seed: of the noise of the samples.

    Raises:
        DatasetError: the dataset does not fit the model.
    """
    check_dataset(model, dataset)
    numbers = np.array([episode])
    (stretch,) = read_stretches(model, dataset, numbers, longest=STEPS + 1)
    actions = to_device(stretch.actions, model.device)
    beliefs = list(filter_beliefs(model, stretch.frames, stretch.actions, stretch.vectors))
    context = min(CONTEXT, actions.shape[1] // 2)
    filtered = [model.decode(belief) for belief in beliefs]
    ahead = _roll(model, beliefs[context], actions[:, context:], lambda: None)
    samples = []
    generator = torch_generator(seed)
    for _ in range(_SAMPLES if model.noise_size else 1):
        rolled = _roll(model, beliefs[0], actions, _noise(model, generator))
        samples.append(_join([filtered[0], *rolled]))
    return Film(
        episode=episode,
        context=context,
        frames=shrunk(stretch.frames[0].numpy()),
        filtered=_join(filtered),
        predicted=_join([*filtered[: context + 1], *ahead]),
        samples=tuple(samples),
    )


def shrunk(frames: Frames) -> Frames:
    """Frames (N, H, W, C) made to fit into 96 × 96 pixels; smaller ones are left alone."""
    height, width = frames.shape[1:3]
    factor = _LARGEST / max(height, width)
    if factor >= 1:
        return frames
    size = max(1, round(width * factor)), max(1, round(height * factor))
    smaller = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(smaller).reshape(len(frames), size[1], size[0], frames.shape[3])


def _roll(
    model: LatentModel, belief: Any, actions: Tensor, noise: Callable[[], Tensor | None]
) -> list[Tensor]:
    """Decoded prior steps along actions (1, T, A)."""
    decoded = []
    for t in range(actions.shape[1]):
        belief = model.predict(belief, actions[:, t], noise())
        decoded.append(model.decode(belief))
    return decoded


def _noise(model: LatentModel, generator: torch.Generator) -> Callable[[], Tensor | None]:
    if not model.noise_size:
        return lambda: None
    shape = (1, model.noise_size)
    return lambda: to_device(torch.randn(shape, generator=generator), model.device)


def _join(frames: list[Tensor]) -> Frames:
    return shrunk(torch.cat(frames).cpu().numpy())
