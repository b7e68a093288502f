"""SBX: the learner is JAX, the model in the environment torch."""

from __future__ import annotations

from collections.abc import Callable


def test_a_latent_environment_trains(train_example: Callable[..., None]) -> None:
    train_example("SAC", "sbx_pendulum")
