"""Evaluating a policy over whole episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from latentwrap.progress import bar


class Predictor(Protocol):
    """Anything with the `predict` of Stable-Baselines3."""

    def predict(self, observation: Any, *, deterministic: bool = ...) -> tuple[Any, Any]:
        """An action for an observation, and the policy's state."""


@dataclass(frozen=True)
class EvaluationResult:
    """Returns and lengths of some episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns."""
        return float(np.std(self.returns))


class RandomAgent:
    """Actions drawn uniformly from a space.

    Args:
        space: of the actions; it is seeded.
        seed: of the draws.
    """

    def __init__(self, space: gym.Space[Any], seed: int) -> None:
        self._space = space
        self._space.seed(seed)

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, None]:  # noqa: ARG002
        """A random action."""
        return self._space.sample(), None


def evaluate_policy(
    policy: Predictor,
    env: gym.Env[Any, Any],
    episodes: int,
    *,
    seed: int | None = None,
    deterministic: bool = True,
    show_progress: bool = False,
) -> EvaluationResult:
    """Play whole episodes and add up their rewards.

    Args:
        policy: an agent, ours or Stable-Baselines3's.
        env: a single environment.
        episodes: how many.
        seed: the first episode starts from it, the next ones from those that follow.
        deterministic: act with the mean.
        show_progress: draw a progress bar on standard error.

    Example:
        >>> import gymnasium
        >>> env = gymnasium.make("CartPole-v1")
        >>> len(evaluate_policy(RandomAgent(env.action_space, 0), env, 3, seed=0).returns)
        3
    """
    returns, lengths = [], []
    with bar("Evaluating episodes", episodes, show=show_progress) as progress:
        for episode in range(episodes):
            total, length, done = 0.0, 0, False
            observation, _ = env.reset(seed=None if seed is None else seed + episode)
            while not done:
                action, _ = policy.predict(observation, deterministic=deterministic)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, length = total + float(reward), length + 1
                done = terminated or truncated
            returns.append(total)
            lengths.append(length)
            progress.advance(note=f"return {total:.1f}")
    return EvaluationResult(tuple(returns), tuple(lengths))
