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
from latentwrap.agents.layers import backward, run
from latentwrap.agents.networks import Actor, Critics, Decision, Expectation
from latentwrap.devices import to_device
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
        super().__init__([inputs, *hidden, actions])

    def forward(self, observation: Tensor) -> Tensor:
        """log π(a|s) = f_a(s) − log Σ_b exp f_b(s), (B, n)."""
        return F.log_softmax(self.net(observation), dim=-1)

    def decide(
        self,
        observation: Tensor,
        noise: Tensor | None,  # noqa: ARG002 - a sum has no noise
    ) -> Decision:
        """log π(·|s)."""
        passed = run(self.stack, observation)
        return Decision(passed, F.log_softmax(passed.output, dim=-1))

    def expect(self, decision: Decision, state: Tensor, critics: Critics) -> Expectation:
        """The exact expectations under π(·|s)."""
        return _sums(decision.log_prob, _smaller(critics, state))

    def backward(
        self, decision: Decision, state: Tensor, critics: Critics, temperature: Tensor
    ) -> Expectation:
        """Write the gradient of L = mean Σ_a π(a|s) (α log π(a|s) − min_i Q_i(s, a))."""
        log_prob, smaller = decision.log_prob, _smaller(critics, state)
        # With c_a = α log π_a − Q_a and J = Σ_a π_a c_a: ∂J/∂f_a = π_a (c_a − J)
        prob, cost = log_prob.exp(), temperature * log_prob - smaller
        expected = (prob * cost).sum(dim=-1, keepdim=True)
        backward(self.stack, decision.passed, prob * (cost - expected) / len(log_prob))
        return _sums(log_prob, smaller)

    def draw(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """a ~ π(·|s), an index, (B, 1)."""
        log_prob = self(observation)
        uniform = to_device(torch.rand(log_prob.shape, generator=generator), log_prob.device)
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

        self._actions = actions

    def all_values(self, observation: Tensor) -> Tensor:
        """Q_1(s, ·) and Q_2(s, ·), (2, B, n)."""
        return run(self.stack, observation.expand(2, -1, -1)).output

    def pick(self, output: Tensor, action: Tensor) -> Tensor:
        """Q_1(s, a) and Q_2(s, a), (2, B), of indices a, (B, 1)."""
        return output.gather(-1, _both(action)).squeeze(-1)

    def _inputs(self, observation: Tensor, action: Tensor) -> Tensor:  # noqa: ARG002 - of all
        return observation

    def _spread(self, grad: Tensor, action: Tensor) -> Tensor:
        zeros = grad.new_zeros(*grad.shape, self._actions)
        return zeros.scatter_(-1, _both(action), grad.unsqueeze(-1))


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


def _both(action: Tensor) -> Tensor:
    """Indices for both critics, int64 (2, B, 1)."""
    return action.long().expand(2, -1, -1)


def _smaller(critics: Critics, state: Tensor) -> Tensor:
    """min_i Q_i(s, ·), (B, n)."""
    assert isinstance(critics, AllActionCritics)  # noqa: S101 - DiscreteActions makes both
    return critics.all_values(state).amin(dim=0)


def _sums(log_prob: Tensor, values: Tensor) -> Expectation:
    """The exact expectations, from log π(·|s) and min_i Q_i(s, ·), (B, n)."""
    prob = log_prob.exp()
    # E_π[min_i Q_i(s, a)] = Σ_a π(a|s) min_i Q_i(s, a), H(π(·|s)) = −Σ_a π(a|s) log π(a|s)
    return Expectation((prob * values).sum(dim=-1), -(prob * log_prob).sum(dim=-1))
