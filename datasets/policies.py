"""Policies to collect with, for a batch of environments."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from latentwrap.seeding import child_seeds, numpy_generator
from latentwrap.types import AnyArray, BoolArray, Frames

_CORRELATION = 0.9
_STICKINESS = 0.8


class Policy(Protocol):
    """Chooses actions for a batch of environments; a trained agent can be one."""

    def __call__(self, frames: Frames, started: BoolArray) -> AnyArray:
        """Actions for the environments.

        Args:
            frames: uint8 (K, H, W, C).
            started: bool (K,), true where an episode has just begun.

        Returns:
            Actions as the environments take them, (K, ...).
        """


class RandomPolicy:
    """Actions drawn uniformly from the space, each independent of the last.

    Args:
        space: of one environment.
        seed: of the draws.
    """

    def __init__(self, space: spaces.Space[Any], seed: int) -> None:
        self._space = _seeded(space, seed)

    def __call__(self, frames: Frames, started: BoolArray) -> AnyArray:  # noqa: ARG002
        """One action for each environment."""
        return np.stack([self._space.sample() for _ in started])


class NoisePolicy:
    """Random actions that stay similar for a while, so that the environment is moved about.

    In a bounded Box, x' = 0.9 x + √(1 − 0.9²) ε in units of half the Box: successive x correlate
    by 0.9, and the action is x clipped to the bounds. In other spaces, a Box without bounds
    included, an action is kept with probability 0.8 and otherwise drawn from the space.

    Args:
        space: of one environment.
        seed: of the draws.
    """

    def __init__(self, space: spaces.Space[Any], seed: int) -> None:
        # Two streams: one seed for both would tie which action is drawn to when it is kept.
        space_seed, noise_seed = child_seeds(seed, 2)
        self._space = _seeded(space, space_seed)
        self._generator = numpy_generator(noise_seed)
        self._last: AnyArray | None = None

    def __call__(self, frames: Frames, started: BoolArray) -> AnyArray:  # noqa: ARG002
        """One action for each environment; those that just began start afresh."""
        if isinstance(self._space, spaces.Box) and self._space.is_bounded("both"):
            return self._correlated(self._space, started)
        return self._sticky(started)

    def _correlated(self, space: spaces.Box, started: BoolArray) -> AnyArray:
        noise = self._generator.standard_normal((len(started), *space.shape))
        if self._last is None:
            self._last = noise
        fresh = started.reshape(-1, *[1] * len(space.shape))
        carried = _CORRELATION * self._last + np.sqrt(1 - _CORRELATION**2) * noise
        self._last = np.where(fresh, noise, carried)
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        action = (high + low) / 2 + (high - low) / 2 * self._last
        return np.clip(action, low, high).astype(space.dtype)

    def _sticky(self, started: BoolArray) -> AnyArray:
        drawn = np.stack([self._space.sample() for _ in started])
        keep = (self._generator.random(len(started)) < _STICKINESS) & ~started
        if self._last is not None:
            drawn[keep] = self._last[keep]
        self._last = drawn.copy()
        return drawn


def _seeded(space: spaces.Space[Any], seed: int) -> spaces.Space[Any]:
    """A copy with its own generator: the caller's space draws as it did before."""
    own = copy.deepcopy(space)
    own.seed(seed)
    return own
