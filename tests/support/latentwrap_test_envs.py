"""Environments whose frames and rewards say where they belong; spawned workers import them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, register

SIZE = 8
SEED = 7


class CountingEnv(gym.Env):
    """Frames hold (step, episode, seed); the reward is the first number of the action.

    Args:
        lengths: steps of each episode, in turn.
        end: `terminated`, `truncated`, `both`, or `turns` for one after the other.
        state: form of `info["state"]`: `none`, `array`, `dict`, `late` (missing after reset).
        space: of the actions.
        fail_at: total step at which to misbehave.
        failure: `raise`, `nan` or `die`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        lengths: Sequence[int] = (5, 3, 8),
        end: str = "truncated",
        state: str = "array",
        space: spaces.Space | None = None,
        fail_at: int | None = None,
        failure: str = "raise",
    ) -> None:
        self.lengths, self.end, self.state = tuple(lengths), end, state
        self.fail_at, self.failure = fail_at, failure
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = space or spaces.Box(-1, 1, (2,), np.float32)
        self.episode, self.seed, self.total = -1, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.seed = self.seed if seed is None else seed
        self.steps = 0
        self.episode += 1
        return self.frame(), {} if self.state == "late" else self.info()

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.total += 1
        reward = float(np.reshape(action, -1)[0])
        if self.total == self.fail_at:
            if self.failure == "raise":
                raise RuntimeError("the simulator broke")
            if self.failure == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            reward = float("nan")
        over = self.steps >= self.lengths[self.episode % len(self.lengths)]
        kind = ("terminated", "truncated")[self.episode % 2] if self.end == "turns" else self.end
        return (
            self.frame(),
            reward,
            over and kind in ("terminated", "both"),
            over and kind in ("truncated", "both"),
            self.info(),
        )

    def has_loaded(self, module: str) -> bool:
        """Whether the process that the environment runs in has imported a module."""
        return module in sys.modules

    def frame(self) -> np.ndarray:
        return np.full((SIZE, SIZE, 3), (self.steps, self.episode, self.seed), np.uint8)

    def info(self) -> dict[str, Any]:
        where = np.array([self.steps, self.episode], np.float64)
        if self.state in ("array", "late"):
            return {"state": where}
        if self.state == "dict":
            return {"state": {"where": where, "step": self.steps}}
        return {}


class RenderedEnv(CountingEnv):
    """The same, but what it observes is a number; the picture is in `render`."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, np.inf, (1,), np.float32)

    def reset(self, **kwargs: Any) -> Any:
        return np.zeros(1, np.float32), super().reset(**kwargs)[1]

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), *super().step(action)[1:]

    def render(self) -> np.ndarray:
        return self.frame()


class ObservingEnv(RenderedEnv):
    """The same, but it observes a Dict: `where.step` is the step, `mode` the step modulo 3."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        where = spaces.Dict({"step": spaces.Box(0, np.inf, (), np.float32)})
        # More numbers than a state has.
        cloud = spaces.Box(0, 1, (2000,), np.float32)
        self.observation_space = spaces.Dict(
            {"where": where, "mode": spaces.Discrete(3), "cloud": cloud}
        )

    def reset(self, **kwargs: Any) -> Any:
        _, info = super().reset(**kwargs)
        return self.observe(), info

    def step(self, action: Any) -> Any:
        return self.observe(1), *super().step(action)[1:]

    def observe(self, ahead: int = 0) -> dict[str, Any]:
        step = self.steps + ahead
        return {
            "where": {"step": np.asarray(step, np.float32)},
            "mode": np.int64(step % 3),
            "cloud": np.zeros(2000, np.float32),
        }


class CamerasEnv(CountingEnv):
    """The same frame beside a second camera and vectors, in a Dict.

    Frames of the camera `robot.wrist` hold (255 − step, episode, seed); the vector `joints` holds
    the step and the first number of the last action, NaN at the step `nan_at`; `robot.mode` is the
    step modulo 3, which no picture need show.
    """

    MODES = 3

    def __init__(self, nan_at: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nan_at, self.last = nan_at, 0.0
        wrist = spaces.Box(0, 255, (2 * SIZE, SIZE, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "front": self.observation_space,
                "joints": spaces.Box(-np.inf, np.inf, (2,), np.float64),
                "robot": spaces.Dict({"wrist": wrist, "mode": spaces.Discrete(self.MODES)}),
            }
        )

    def reset(self, **kwargs: Any) -> Any:
        self.last = 0.0
        _, info = super().reset(**kwargs)
        return self.observe(), info

    def step(self, action: Any) -> Any:
        self.last = float(np.reshape(action, -1)[0])
        _, *outcome = super().step(action)
        return self.observe(), *outcome

    def observe(self) -> dict[str, Any]:
        wrist = (255 - self.steps, self.episode, self.seed)
        step = np.nan if self.steps == self.nan_at else self.steps
        return {
            "front": self.frame(),
            "joints": np.array([step, self.last]),
            "robot": {
                "wrist": np.full((2 * SIZE, SIZE, 3), wrist, np.uint8),
                "mode": np.int64(self.steps % self.MODES),
            },
        }


class UnmakeableEnv(CountingEnv):
    """Fails in a way of its own."""

    def __init__(self) -> None:
        raise KeyError("nothing there")


class BlindEnv(CountingEnv):
    """Has no image at all."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)


def counting(kind: str = "CountingEnv", **kwargs: Any) -> EnvSpec:
    """A specification that nobody registered."""
    return EnvSpec(f"{kind}-v0", entry_point=f"latentwrap_test_envs:{kind}", kwargs=kwargs)


register("latentwrap-test/Counting-v0", entry_point="latentwrap_test_envs:CountingEnv")
register("latentwrap-test/Cameras-v0", entry_point="latentwrap_test_envs:CamerasEnv")
register(
    "latentwrap-test/Broken-v0",
    entry_point="latentwrap_test_envs:CountingEnv",
    kwargs={"fail_at": 14},
)
