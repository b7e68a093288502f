"""Environments of noise that remember their actions, and wrappers that remember and forget."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register
from gymnasium.utils import RecordConstructorArgs

SIDE = 16
BOX = spaces.Box(-2, 2, (1,))


class NoiseEnv(gym.Env):
    """Frames of noise, shifted by the actions so far; never ends by itself.

    Args:
        space: of the actions.
        repeats: draws from the seed of reset; else anew each time.
    """

    def __init__(self, space: spaces.Space = BOX, *, repeats: bool = True) -> None:
        self.action_space, self.repeats = space, repeats
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed if self.repeats else None)
        self.shift = 0.0
        return self.frame(), {}

    def step(self, action: Any) -> Any:
        assert np.isfinite(action).all()
        self.shift += 20 * float(np.sum(action))
        return self.frame(), 0.0, False, False, {}

    def frame(self) -> np.ndarray:
        noise = self.np_random.integers(0, 100, (SIDE, SIDE, 3))
        return ((noise + int(self.shift)) % 256).astype(np.uint8)


class RenderedNoise(NoiseEnv):
    """The same, seen only in `render`, whose pictures differ each time."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode: str | None = "rgb_array", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.render_mode, self.observation_space = render_mode, spaces.Box(-1, 1, (2,))

    def reset(self, **arguments: Any) -> Any:
        return np.zeros(2, np.float32), super().reset(**arguments)[1]

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), *super().step(action)[1:]

    def render(self) -> np.ndarray:
        return self.frame()


class CameraNoise(NoiseEnv):
    """Two cameras and a vector."""

    def __init__(self) -> None:
        super().__init__()
        image = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.observation_space = spaces.Dict(
            left=image, right=image, joints=spaces.Box(-9, 9, (3,), np.float32)
        )

    def frame(self) -> Any:
        joints = self.np_random.uniform(-9, 9, 3).astype(np.float32)
        return {"left": super().frame(), "right": super().frame(), "joints": joints}


class Memory(gym.Wrapper, RecordConstructorArgs):
    """m_t = m_{t-1} / 2 + mean of x_t + a_{t-1}: the smallest observation with a state."""

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.memory = np.zeros(1, np.float32)

    def reset(self, **arguments: Any) -> Any:
        observation, info = self.env.reset(**arguments)
        self.memory = np.zeros(1, np.float32)
        return self.remember(observation, 0.0), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return self.remember(observation, float(np.sum(action))), *rest

    def remember(self, observation: Any, action: float) -> np.ndarray:
        mean = float(np.mean(observation))
        self.memory = np.float32(self.memory / 2 + mean + action)
        return self.memory.copy()


register("latentwrap-test/Noise-v0", entry_point="latentwrap_test_noise:NoiseEnv")
