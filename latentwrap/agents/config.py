"""Hyperparameters of soft actor-critic."""

from __future__ import annotations

from pydantic import Field

from latentwrap.config import Config


class SACConfig(Config):
    """Hyperparameters; the defaults are those of Haarnoja et al. 2018 and Stable-Baselines3.

    Attributes:
        learning_rate: of actor, critics and temperature.
        buffer_size: transitions that the replay holds before it overwrites the oldest.
        learning_starts: random actions before the first update.
        batch_size: transitions in one update.
        gamma: discount of future rewards.
        tau: share of the critics that their targets take over at each update.
        gradient_steps: updates for each environment step.
        hidden: sizes of the hidden layers of actor and critics.
        target_entropy: of the policy, in nats; `None` is minus the number of action dimensions.
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
    initial_temperature: float = Field(1.0, gt=0)
    log_std_min: float = -20.0
    log_std_max: float = 2.0
