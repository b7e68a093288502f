"""Scaling vectors that are appended to latents."""

from __future__ import annotations

import numpy as np

from latentwrap.errors import EnvironmentMismatch
from latentwrap.models import LatentModel
from latentwrap.normalizer import LatentNormalizer
from latentwrap.wrappers.choosing import Inputs


def vector_scale(model: LatentModel, inputs: Inputs) -> LatentNormalizer:
    """Mean and scale of the vectors that are used.

    The statistics are those of the pretraining data. A vector that the data did not have is
    scaled by its bounds to [-1, 1].

    Args:
        model: trained on some vectors, perhaps none.
        inputs: says which are used.

    Raises:
        EnvironmentMismatch: a vector has another size than in the data, or neither statistics nor
            finite bounds; or the model sees vectors that are not used.
    """
    known, used = model.vector_spec, inputs.vector_spec
    if model.sees_vectors and used.names != known.names:
        raise EnvironmentMismatch(
            f"The model sees the vectors {', '.join(known.names)}, got vector_keys "
            f"{used.names}: name those, in this order."
        )
    low, high = (bound.astype(np.float64) for bound in inputs.bounds())
    bounded = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(bounded, low, 0), np.where(bounded, high, 0)
    mean, std = (low + high) / 2, (high - low) / 2
    for name, where in used.slices.items():
        if name in known.names and model.vector_normalizer is not None:
            there = known.slices[name]
            if there.stop - there.start != where.stop - where.start:
                raise EnvironmentMismatch(
                    f"The checkpoint expects {there.stop - there.start} numbers in {name!r}, the "
                    f"environment gives {where.stop - where.start}: pretrain on its own data."
                )
            mean[where] = model.vector_normalizer.mean[there]
            std[where] = model.vector_normalizer.std[there]
        elif not bounded[where].all():
            raise EnvironmentMismatch(
                f"The vector {name!r} has no finite bounds, and the pretraining data did not hold "
                f"it: collect with --vector-key {name}, or bound it in a wrapper."
            )
    return LatentNormalizer(mean.astype(np.float32), std.astype(np.float32))
