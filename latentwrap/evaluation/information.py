"""The loss on episodes, and how many latent dimensions carry information."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from latentwrap.datasets import Dataset, WindowSampler
from latentwrap.models import LatentModel
from latentwrap.seeding import numpy_generator, torch_generator
from latentwrap.training.statistics import check_dataset
from latentwrap.training.updater import draw_noise, to_tensors
from latentwrap.types import IntArray

ACTIVE = 0.01
"""Nats a step above which a dimension counts as carrying information."""

_WINDOW = 8
_WINDOWS = 64
_BATCH = 8
_NOISE_SEED = 0


@dataclass(frozen=True)
class LossResult:
    """Loss terms, averaged over windows.

    Attributes:
        terms: by name, and `loss`, their weighted sum.
        window: actions in a window, as in training where episodes are long enough.
        windows: how many.
    """

    terms: dict[str, float]
    window: int
    windows: int


@dataclass(frozen=True)
class InformationResult:
    """How much each stochastic dimension learns from a frame, beyond what was predicted.

    Attributes:
        kl: nats a step by dimension, as the model has them; empty for kinds without a KL.
        total: their sum.
        active: dimensions above `ACTIVE`.
    """

    kl: list[float]
    total: float
    active: int


@dataclass(frozen=True)
class WindowMeasures:
    """What is measured on training windows."""

    loss: LossResult
    information: InformationResult


@torch.inference_mode()
def measure_windows(model: LatentModel, dataset: Dataset, episodes: IntArray) -> WindowMeasures:
    """Loss terms and KL per dimension on evenly spaced windows, always with the same noise.

    Args:
        model: any kind.
        dataset: that fits the model.
        episodes: their numbers, int64.

    Raises:
        DatasetError: the dataset does not fit the model.
    """
    check_dataset(model, dataset)
    length = min(_trained_window(model), int(dataset.lengths[episodes].max()) - 1)
    sampler = WindowSampler(
        dataset, episodes, length=length, batch_size=_BATCH, generator=numpy_generator(0)
    )
    generator = torch_generator(_NOISE_SEED)
    sums: dict[str, float] = {}
    kl, count = np.zeros(0), 0
    for batch in sampler.fixed(_WINDOWS):
        windows = to_tensors(batch, model)
        noise = draw_noise(model, windows.frames.shape[:2], generator)
        loss = model.loss(windows, noise)
        size = len(windows.frames)
        for name, term in {**loss.terms, "loss": loss.total}.items():
            sums[name] = sums.get(name, 0.0) + float(term) * size
        nats = model.kl_per_dimension(windows, noise).double().cpu().numpy() * size
        kl = nats + kl if count else nats
        count += size
    terms = {name: total / count for name, total in sums.items()}
    return WindowMeasures(LossResult(terms, length, count), information_of(kl / count))


def information_of(kl: np.ndarray[tuple[int], np.dtype[np.float64]]) -> InformationResult:
    """Sum and count the nats of each dimension, (k,)."""
    return InformationResult(kl.tolist(), float(kl.sum()), int((kl > ACTIVE).sum()))


def _trained_window(model: LatentModel) -> int:
    record = {} if model.checkpoint is None else model.checkpoint.document.get("training", {})
    return int(record.get("recipe", {}).get("training", {}).get("window", _WINDOW))
