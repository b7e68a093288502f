"""Environments that are ill; the doctor's processes import them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SHAPE = (12, 20, 3)
PID_FILE = "DOCTOR_TEST_PID_FILE"


class Healthy(gym.Env):
    """Its picture is in `render`: black at first, then grey of brightness 1, 2, 3 …"""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, False, False, {}

    def render(self) -> np.ndarray:
        return np.full(SHAPE, self.steps, np.uint8)


class Black(Healthy):
    def render(self) -> np.ndarray:
        return np.zeros(SHAPE, np.uint8)


class White(Healthy):
    def render(self) -> np.ndarray:
        return np.full(SHAPE, 255, np.uint8)


class Crashing(Healthy):
    def render(self) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class Hanging(Healthy):
    def reset(self, **kwargs: Any) -> Any:
        Path(os.environ[PID_FILE]).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(600)


class Leaving(Healthy):
    def step(self, action: Any) -> Any:
        sys.exit("no licence")


class Failing(Healthy):
    def __init__(self, render_mode: str | None = None) -> None:
        raise KeyError("no such robot")


class Strange(Healthy):
    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.action_space = spaces.Text(5)


class Blind(Healthy):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}


class Arm(Healthy):
    """Draws with the fake MuJoCo: black by default, crashes with egl, works with glfw."""

    def __init__(self, render_mode: str | None = None) -> None:
        import mujoco

        super().__init__(render_mode)
        self.backend = mujoco.BACKEND

    def render(self) -> np.ndarray:
        if self.backend == "egl":
            os.kill(os.getpid(), signal.SIGABRT)
        image = np.zeros(SHAPE, np.uint8)
        image[:6] = 200 if self.backend == "glfw" else 0
        return image


class MujocoArm(Arm):
    """Its name gives away what it draws with before anything is imported."""


for name in (
    "Healthy", "Black", "White", "Crashing", "Hanging", "Leaving", "Failing", "Strange", "Blind",
    "Arm", "MujocoArm",
):  # fmt: skip
    if f"{name}-v0" not in gym.registry:  # a test that takes modules away imports it twice
        gym.register(f"{name}-v0", entry_point=f"patients:{name}")
