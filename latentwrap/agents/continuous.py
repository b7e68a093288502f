"""Box actions: a squashed Gaussian policy, and critics that are told the action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from latentwrap.actions import UnitScale
from latentwrap.agents.config import SACConfig
from latentwrap.agents.networks import Actor, Critics, Expectation, mlp
from latentwrap.types import AnyArray, FloatArray

_LOG_2PI = math.log(2 * math.pi)
_LOG_2 = math.log(2)


class PolicySample(NamedTuple):
    """Actions in [-1, 1], (B, A), and the logarithm of their density, (B,)."""

    action: Tensor
    log_prob: Tensor


class GaussianActor(Actor):
    """A squashed Gaussian policy: a = tanh(u), u ~ N(μ(s), σ(s)²).

    Args:
        inputs: size of the observation.
        actions: size of the action.
        hidden: sizes of the hidden layers, ReLU after each.
        log_std_min, log_std_max: log σ is clamped to them.
    """

    def __init__(
        self,
        inputs: int,
        actions: int,
        hidden: Sequence[int],
        *,
        log_std_min: float,
        log_std_max: float,
    ) -> None:
        super().__init__()
        self.net = mlp(inputs, 2 * actions, hidden)
        self._bounds = log_std_min, log_std_max
        self._actions = actions

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, each (B, A)."""
        mean, log_std = self.net(observation).chunk(2, dim=-1)
        return mean, log_std.clamp(*self._bounds)

    def sample(self, observation: Tensor, noise: Tensor) -> PolicySample:
        """a = tanh(μ + σ ε) and log π(a|s), differentiable in the weights.

        Args:
            observation: (B, inputs).
            noise: ε, standard normal, (B, A).
        """
        mean, log_std = self(observation)
        raw = mean + log_std.exp() * noise
        # log π(a|s) = Σ_i log N(u_i; μ_i, σ_i²) − log(1 − tanh²(u_i))
        gaussian = -0.5 * noise.square() - log_std - 0.5 * _LOG_2PI
        log_prob = (gaussian - log_tanh_slope(raw)).sum(dim=-1)
        return PolicySample(raw.tanh(), log_prob)

    def expect(
        self, observation: Tensor, state: Tensor, critics: Critics, generator: torch.Generator
    ) -> Expectation:
        """From one action a ~ π(·|s): min_i Q_i(s, a) and −log π(a|s)."""
        action, log_prob = self.sample(observation, self._noise(observation, generator))
        return Expectation(critics(state, action).amin(dim=0), -log_prob)

    def draw(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """a ~ π(·|s), (B, A)."""
        return self.sample(observation, self._noise(observation, generator)).action

    def best(self, observation: Tensor) -> Tensor:
        """tanh(μ), (B, A)."""
        mean: Tensor = self(observation)[0]
        return mean.tanh()

    def _noise(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(observation), self._actions)
        return torch.randn(shape, generator=generator).to(observation.device)


class ActionCritics(Critics):
    """Twin critics whose input is observation and action.

    Args:
        inputs: size of the observation.
        actions: size of the action.
        hidden: sizes of the hidden layers, ReLU after each.
    """

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__([inputs + actions, *hidden, 1])

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) and Q_2(s, a), (2, B)."""
        return self._outputs(torch.cat([observation, action], dim=-1)).squeeze(-1)


class ContinuousActions:
    """What soft actor-critic needs to know about a Box of finite bounds.

    Args:
        space: of the environment's actions.

    Attributes:
        size: columns of an action in the replay, scaled to [-1, 1].

    Example:
        >>> ContinuousActions(spaces.Box(0, 4, (2,))).to_row([1, 5])
        array([-0.5,  1. ], dtype=float32)
    """

    def __init__(self, space: spaces.Box) -> None:
        self._space, self._to_unit = space, UnitScale(space)
        self.size = int(np.prod(space.shape))

    def target_entropy(self, config: SACConfig) -> float:
        """Minus the number of dimensions, unless the configuration says otherwise."""
        return -float(self.size) if config.target_entropy is None else config.target_entropy

    def make_actor(self, inputs: int, config: SACConfig) -> GaussianActor:
        """A policy on observations of `inputs` columns."""
        bounds = {"log_std_min": config.log_std_min, "log_std_max": config.log_std_max}
        return GaussianActor(inputs, self.size, config.hidden, **bounds)

    def make_critics(self, inputs: int, config: SACConfig) -> ActionCritics:
        """Critics of observations of `inputs` columns."""
        return ActionCritics(inputs, self.size, config.hidden)

    def to_row(self, action: Any) -> FloatArray:
        """An action of the environment as the replay stores it; clipped to the bounds."""
        return self._to_unit(np.reshape(action, -1))

    def to_actions(self, rows: FloatArray) -> AnyArray:
        """Rows (B, A) as the environment takes them, (B, ...)."""
        space = self._space
        shaped = rows.reshape(len(rows), *space.shape)
        actions = space.low + (shaped + 1) / 2 * (space.high - space.low)
        return np.clip(actions, space.low, space.high).astype(space.dtype)


def log_tanh_slope(raw: Tensor) -> Tensor:
    """log(1 − tanh²(u)) = 2 (log 2 − u − softplus(−2u)), exact for large |u| too."""
    return 2 * (_LOG_2 - raw - F.softplus(-2 * raw))
