"""Hyperparameters of soft actor-critic."""

from __future__ import annotations

from pydantic import Field

from latentwrap.config import Config


class SACConfig(Config):
    """Hyperparameters; but for `entropy_share`, by Haarnoja et al. 2018 and Stable-Baselines3.

    Attributes:
        learning_rate: of actor, critics and temperature.
        buffer_size: transitions that the replay holds before it overwrites the oldest.
        learning_starts: random actions before the first update.
        batch_size: transitions in one update.
        gamma: discount of future rewards.
        tau: share of the critics that their targets take over at each update.
        gradient_steps: updates for each environment step.
        hidden: sizes of the hidden layers of actor and critics.
        target_entropy: of the policy, in nats; `None` is minus the number of dimensions of a Box
            action, and `entropy_share` of log n for n discrete ones.
        entropy_share: how much of the largest possible entropy a policy over discrete actions
            keeps. Christodoulou 2019 has 0.98, close to uniform: where each step survived brings
            more entropy, that may never be reached and the temperature grows without end (on
            CartPole-v1 past 60,000 in 15,000 steps). From 0.2 to 0.7 it learned there, and seeds
            differed more than shares.
        initial_temperature: weight of the entropy before it is learned.
        log_std_min, log_std_max: bounds of the actor's log standard deviation.
    """

    learning_rate: float = Field(3e-4, gt=0)
    buffer_size: int = Field(1_000_000, ge=1)
    learning_starts: int = Field(100, ge=0)
    batch_size: int = Field(256, ge=1)
    gamma: float = Field(0.99, ge=0, le=1)
    tau: float = Field(0.005, gt=0, le=1)
    gradient_steps: int = Field(1, ge=1)
    hidden: tuple[int, ...] = (256, 256)
    target_entropy: float | None = None
    entropy_share: float = Field(0.5, ge=0, le=1)
    initial_temperature: float = Field(1.0, gt=0)
    log_std_min: float = -20.0
    log_std_max: float = 2.0
