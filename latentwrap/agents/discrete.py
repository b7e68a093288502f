"""Discrete actions (Christodoulou 2019, arXiv:1910.07207): expectations are sums over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional as F

from latentwrap.actions import describe
from latentwrap.agents.config import SACConfig
from latentwrap.agents.networks import Actor, Critics, Expectation, mlp
from latentwrap.errors import EnvironmentMismatch
from latentwrap.types import AnyArray, FloatArray


class CategoricalActor(Actor):
    """A probability for each of n actions.

    Args:
        inputs: size of the observation.
        actions: how many there are, n.
        hidden: sizes of the hidden layers, ReLU after each.
    """

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = mlp(inputs, actions, hidden)

    def forward(self, observation: Tensor) -> Tensor:
        """log π(a|s) = f_a(s) − log Σ_b exp f_b(s), (B, n)."""
        return F.log_softmax(self.net(observation), dim=-1)

    def expect(
        self,
        observation: Tensor,
        state: Tensor,
        critics: Critics,
        generator: torch.Generator,  # noqa: ARG002 - a sum has no noise
    ) -> Expectation:
        """The exact expectations under π(·|s)."""
        assert isinstance(critics, AllActionCritics)  # noqa: S101 - DiscreteActions makes both
        log_prob = self(observation)
        prob = log_prob.exp()
        # E_π[min_i Q_i(s, a)] = Σ_a π(a|s) min_i Q_i(s, a)
        value = (prob * critics.all_values(state).amin(dim=0)).sum(dim=-1)
        # H(π(·|s)) = −Σ_a π(a|s) log π(a|s)
        entropy = -(prob * log_prob).sum(dim=-1)
        return Expectation(value, entropy)

    def draw(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """a ~ π(·|s), an index, (B, 1)."""
        log_prob = self(observation)
        uniform = torch.rand(log_prob.shape, generator=generator).to(log_prob.device)
        # argmax_a (log π(a|s) + g_a) ~ π(·|s), g = −log(−log u) ~ Gumbel(0, 1)
        gumbel = -(-uniform.log()).log()
        drawn: Tensor = (log_prob + gumbel).argmax(dim=-1, keepdim=True)
        return drawn

    def best(self, observation: Tensor) -> Tensor:
        """argmax_a π(a|s), (B, 1)."""
        log_prob: Tensor = self(observation)
        return log_prob.argmax(dim=-1, keepdim=True)


class AllActionCritics(Critics):
    """Twin critics that give the value of every action at once.

    Args:
        inputs: size of the observation.
        actions: how many there are, n.
        hidden: sizes of the hidden layers, ReLU after each.
    """

    def __init__(self, inputs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__([inputs, *hidden, actions])

    def all_values(self, observation: Tensor) -> Tensor:
        """Q_1(s, ·) and Q_2(s, ·), (2, B, n)."""
        return self._outputs(observation)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) and Q_2(s, a), (2, B), of indices a, (B, 1)."""
        index = action.long().expand(2, -1, -1)
        return self.all_values(observation).gather(-1, index).squeeze(-1)


class DiscreteActions:
    """What soft actor-critic needs to know about a Discrete space.

    Args:
        space: of the environment's actions.

    Attributes:
        size: columns of an action in the replay: one, its index counted from zero.

    Example:
        >>> DiscreteActions(spaces.Discrete(3, start=-1)).to_row(1)
        array([2.], dtype=float32)
    """

    def __init__(self, space: spaces.Discrete) -> None:
        self._space = space
        self.size = 1

    def target_entropy(self, config: SACConfig) -> float:
        """A share of log n, the largest possible, unless the configuration names a number."""
        if config.target_entropy is not None:
            return config.target_entropy
        return config.entropy_share * math.log(self._space.n)

    def make_actor(self, inputs: int, config: SACConfig) -> CategoricalActor:
        """A policy on observations of `inputs` columns."""
        return CategoricalActor(inputs, int(self._space.n), config.hidden)

    def make_critics(self, inputs: int, config: SACConfig) -> AllActionCritics:
        """Critics of observations of `inputs` columns."""
        return AllActionCritics(inputs, int(self._space.n), config.hidden)

    def to_row(self, action: Any) -> FloatArray:
        """An action of the environment as the replay stores it.

        Raises:
            EnvironmentMismatch: the space has no such action.
        """
        index = np.reshape(action, -1) - self._space.start
        if len(index) != 1 or not 0 <= index[0] < self._space.n:
            raise EnvironmentMismatch(
                f"The agent acts in {describe(self._space)}, got the action {action!r}: pass "
                "actions as the environment takes them."
            )
        return index.astype(np.float32)

    def to_actions(self, rows: FloatArray) -> AnyArray:
        """Rows (B, 1) as the environment takes them, (B,)."""
        index = rows[:, 0].astype(self._space.dtype)
        actions: AnyArray = index + self._space.start
        return actions
