"""Box actions: a squashed Gaussian policy, and critics that are told the action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from latentwrap.actions import UnitScale
from latentwrap.agents.config import SACConfig
from latentwrap.agents.layers import Pass, backward, grad_of_first, run
from latentwrap.agents.networks import Actor, Critics, Decision, Expectation
from latentwrap.devices import to_device
from latentwrap.types import AnyArray, FloatArray

_LOG_2PI = math.log(2 * math.pi)
_LOG_2 = math.log(2)


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
        super().__init__([inputs, *hidden, 2 * actions])
        self._bounds = log_std_min, log_std_max
        self._actions = actions

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, each (B, A)."""
        return self._split(self.net(observation))

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """ε, standard normal, (count, A)."""
        return torch.randn(count, self._actions, generator=generator)

    def decide(self, observation: Tensor, noise: Tensor | None) -> Decision:
        """a = tanh(u), u = μ + σ ε, and log π(a|s)."""
        assert noise is not None  # noqa: S101 - it is of `noise`
        passed = run(self.stack, observation)
        mean, log_std = self._split(passed.output)
        spread = log_std.exp() * noise
        raw = mean + spread
        # log π(a|s) = Σ_i log N(u_i; μ_i, σ_i²) − log(1 − tanh²(u_i))
        gaussian = -0.5 * noise.square() - log_std - 0.5 * _LOG_2PI
        log_prob = (gaussian - log_tanh_slope(raw)).sum(dim=-1)
        return Decision(passed, log_prob, raw.tanh(), spread)

    def expect(self, decision: Decision, state: Tensor, critics: Critics) -> Expectation:
        """From the one action a ~ π(·|s): min_i Q_i(s, a) and −log π(a|s)."""
        return Expectation(critics(state, decision.action).amin(dim=0), -decision.log_prob)

    def backward(
        self, decision: Decision, state: Tensor, critics: Critics, temperature: Tensor
    ) -> Expectation:
        """Write the gradient of L = mean(α log π(a|s) − min_i Q_i(s, a)), a = tanh(μ + σ ε)."""
        passed, log_prob, action, spread = decision
        assert action is not None  # noqa: S101 - it is of `decide`
        assert spread is not None  # noqa: S101
        assert isinstance(critics, ActionCritics)  # noqa: S101 - ContinuousActions makes both
        judged = critics.judge(state, action)
        value, smaller = critics.pick(judged.output, action).min(dim=0)
        share = 1 / len(value)
        # ∂L/∂Q_i = −1/B for the smaller of both
        by_value = torch.zeros_like(judged.output[..., 0]).scatter_(0, smaller[None], -share)
        # ∂L/∂u = ∂L/∂a (1 − a²) + 2 α a / B, for log π(a|s) has − log(1 − tanh²(u))
        by_action, weight = critics.action_grad(judged, by_value), temperature * share
        by_raw = by_action - action * (action * by_action - 2 * weight)
        # ∂L/∂log σ = ∂L/∂u σ ε − α / B, unless it was clamped
        by_log_std = by_raw * spread - weight
        low, high = self._bounds
        free = passed.output[:, self._actions :]
        by_log_std.masked_fill_((free < low) | (free > high), 0)
        backward(self.stack, passed, torch.cat([by_raw, by_log_std], dim=-1))
        return Expectation(value, -log_prob)

    def draw(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """a ~ π(·|s), (B, A)."""
        mean, log_std = self(observation)
        noise = to_device(self.noise(len(observation), generator), observation.device)
        return torch.addcmul(mean, log_std.exp(), noise).tanh()

    def best(self, observation: Tensor) -> Tensor:
        """tanh(μ), (B, A)."""
        mean: Tensor = self(observation)[0]
        return mean.tanh()

    def _split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = output.chunk(2, dim=-1)
        return mean, log_std.clamp(*self._bounds)


class ActionCritics(Critics):
    """Twin critics whose input is observation and action.

    Args:
        inputs: size of the observation.
        actions: size of the action.
        hidden: sizes of the hidden layers, ReLU after each.
    """

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__([inputs + actions, *hidden, 1])
        self._actions = actions

    def pick(self, output: Tensor, action: Tensor) -> Tensor:  # noqa: ARG002 - the only one
        """Q_1(s, a) and Q_2(s, a), (2, B)."""
        return output.squeeze(-1)

    def action_grad(self, judged: Pass, grad: Tensor) -> Tensor:
        """∂L/∂a, (B, A), given ∂L/∂Q_i(s, a), (2, B)."""
        first = grad_of_first(self.stack, judged, grad.unsqueeze(-1))
        return self.first.grad_input(first, slice(-self._actions, None)).sum(dim=0)

    def _inputs(self, observation: Tensor, action: Tensor) -> Tensor:
        return torch.cat([observation, action], dim=-1)

    def _spread(self, grad: Tensor, action: Tensor) -> Tensor:  # noqa: ARG002 - the only one
        return grad.unsqueeze(-1)


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
