"""Policies to collect with, for a batch of environments."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium import spaces

from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import ConfigError
from latentwrap.seeding import child_seeds, numpy_generator
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames

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


@runtime_checkable
class VectorPolicy(Protocol):
    """Likewise, one that may also want the vectors beside the frames."""

    def act_with_vectors(
        self, frames: Frames, started: BoolArray, vectors: FloatArray | None
    ) -> AnyArray:
        """Actions for the environments, (K, ...); vectors are float32 (K, V) where kept."""


PolicyMaker: TypeAlias = Callable[[spaces.Space[Any], int], Policy]
"""Makes a policy from the action space of one environment and a seed."""


@runtime_checkable
class FittedMaker(Protocol):
    """Makes a policy that was trained on something, and so must fit what is collected.

    Attributes:
        options: what the dataset remembers of it beside its name, JSON-serialisable.
    """

    @property
    def name(self) -> str:
        """What the dataset calls the policy."""

    @property
    def options(self) -> Mapping[str, Any]:
        """How it acts; a collection is only resumed with the same."""

    def fit(self, info: DatasetInfo) -> Callable[[int], Policy | VectorPolicy]:
        """What makes the policy from a seed.

        Raises:
            LatentwrapError: it does not fit the frames, actions or vectors of the dataset.
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
        return self.draw(len(started))

    def draw(self, count: int) -> AnyArray:
        """So many actions, (count, ...)."""
        return np.stack([self._space.sample() for _ in range(count)])


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


class Explorer:
    """Replaces some actions of a trained policy by random ones.

    Args:
        space: of one environment.
        epsilon: share of the actions that are replaced, each by itself.
        seed: of the draws.

    Raises:
        ConfigError: a share that is none.

    Example:
        >>> explorer = Explorer(spaces.Discrete(3), 0.0, seed=0)
        >>> explorer(np.array([2, 2])).tolist()
        [2, 2]
    """

    def __init__(self, space: spaces.Space[Any], epsilon: float, seed: int) -> None:
        check_epsilon(epsilon)
        draws, choices = child_seeds(seed, 2)
        self._epsilon = epsilon
        self._random = RandomPolicy(space, draws)
        self._generator = numpy_generator(choices)

    def __call__(self, actions: AnyArray) -> AnyArray:
        """What is done instead of `actions`, (K, ...); a new array where anything changes."""
        if not self._epsilon:
            return actions
        changed = self._generator.random(len(actions)) < self._epsilon
        drawn = self._random.draw(len(actions))
        return np.where(changed.reshape(-1, *[1] * (actions.ndim - 1)), drawn, actions)


def check_epsilon(epsilon: float) -> None:
    """Refuse what is no share.

    Raises:
        ConfigError: it is below 0 or above 1.
    """
    if not 0 <= epsilon <= 1:
        raise ConfigError(f"epsilon requires a share from 0 to 1, got {epsilon}.")


def _seeded(space: spaces.Space[Any], seed: int) -> spaces.Space[Any]:
    """A copy with its own generator: the caller's space draws as it did before."""
    own = copy.deepcopy(space)
    own.seed(seed)
    return own


POLICIES: dict[str, PolicyMaker] = {"random": RandomPolicy, "noise": NoisePolicy}
"""Those that need no training, by name."""
