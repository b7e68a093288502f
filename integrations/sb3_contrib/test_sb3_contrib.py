"""sb3-contrib: an off-policy algorithm, and one whose policy has a memory of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("algorithm", ["TQC", "RecurrentPPO"])
def test_a_latent_environment_trains(algorithm: str, train_example: Callable[..., None]) -> None:
    train_example(algorithm, "sb3_contrib_pendulum", "--algorithm", algorithm)
