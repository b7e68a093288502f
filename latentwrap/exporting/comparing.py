"""Whether exported graphs filter as the model does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap.filtering import OnnxFilter
from latentwrap.models import LatentModel
from latentwrap.seeding import numpy_generator
from latentwrap.types import FloatArray
from latentwrap.wrappers import LatentFilter

TOLERANCE = 1e-4
"""Of a raw latent z, times max(1, |z|)."""

_STREAMS, _STEPS, _DROPPED = 3, 20, 7


def largest_difference(model: LatentModel, folder: Path) -> float:
    """The largest difference between the latents of the graphs and of torch.

    Both filter the same noise, with a frame dropped now and then.

    Args:
        model: that was exported.
        folder: with its graphs.

    Returns:
        max |z − z'| / max(1, |z|) over all steps and dimensions of raw latents.
    """
    filters = (
        LatentFilter(model, _STREAMS, normalize=False),
        OnnxFilter(folder, _STREAMS, normalize=False),
    )
    rng = numpy_generator(0)
    actions = copy.deepcopy(model.action_spec.space)
    actions.seed(0)
    differences = []
    for t in range(_STEPS):
        frames, vectors = _frames(model, rng, dropped=t % _DROPPED == 1), _vectors(model, rng)
        action = [actions.sample() for _ in range(_STREAMS)]
        expected, found = (
            each.step(action, frames, vectors=vectors) if t else each.reset(frames, vectors=vectors)
            for each in filters
        )
        differences.append(np.abs(found - expected) / np.maximum(1, np.abs(expected)))
    return float(np.max(differences))


def _frames(model: LatentModel, rng: np.random.Generator, *, dropped: bool) -> list[Any]:
    shape = (_STREAMS, *model.frame_spec.shape)
    frames: list[Any] = list(rng.integers(0, 256, shape, np.uint8))
    return [None, *frames[1:]] if dropped else frames


def _vectors(model: LatentModel, rng: np.random.Generator) -> FloatArray | None:
    scale = model.vector_normalizer
    if not model.sees_vectors or scale is None:
        return None
    drawn = rng.normal(size=(_STREAMS, model.vector_spec.size)) * scale.std + scale.mean
    return drawn.astype(np.float32)
