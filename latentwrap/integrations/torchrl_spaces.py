"""TorchRL's specs of actions as Gymnasium's spaces."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from torchrl.data import (
    Binary,
    Categorical,
    MultiCategorical,
    MultiOneHot,
    OneHot,
    TensorSpec,
    Unbounded,
)


def space_of(spec: TensorSpec) -> gym.Space[Any]:
    """The space whose actions a spec encodes.

    Args:
        spec: of one environment, without batch dimensions; one-hot and categorical encodings
            stand for the same space.

    Example:
        >>> from torchrl.data import OneHot
        >>> space_of(OneHot(3))
        Discrete(3)
    """
    if isinstance(spec, MultiOneHot | MultiCategorical):
        return gym.spaces.MultiDiscrete([int(box.n) for box in spec.space])
    if isinstance(spec, Binary):
        return gym.spaces.MultiBinary(tuple(spec.shape))
    if isinstance(spec, OneHot | Categorical):
        shape = spec.shape[:-1] if isinstance(spec, OneHot) else spec.shape
        size = int(spec.space.n)
        return (
            gym.spaces.MultiDiscrete(np.full(shape, size)) if shape else gym.spaces.Discrete(size)
        )
    if isinstance(spec, Unbounded):  # its bounds are the largest finite numbers
        return gym.spaces.Box(-np.inf, np.inf, tuple(spec.shape), np.float32)
    low, high = spec.space.low.cpu().numpy(), spec.space.high.cpu().numpy()
    return gym.spaces.Box(low, high, tuple(spec.shape), low.dtype)
