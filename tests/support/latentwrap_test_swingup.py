"""A pixel pendulum that hangs down when an episode begins: random actions hardly move it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.registration import register

from latentwrap.envs.pendulum import PixelPendulum

SWINGUP = "latentwrap_test_swingup:HangingPendulum-v0"
_NOISE = 0.1


class HangingPendulum(PixelPendulum):
    """`PixelPendulum` that begins at rest, hanging down, give or take 0.1 rad and rad/s."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.state = np.array([np.pi, 0.0]) + self.np_random.uniform(-_NOISE, _NOISE, 2)
        angle, speed = self.state
        state = np.array([np.cos(angle), np.sin(angle), speed], np.float32)
        return self.render(), {"state": state}


register(
    "HangingPendulum-v0",
    entry_point="latentwrap_test_swingup:HangingPendulum",
    max_episode_steps=200,
)
