"""Scenes whose frames hide what matters: small objects that pass behind a wall.

`Occlusion-v0`: one ball, pushed by the action, bounces in a box with a wall across it.
`Crowd-v0`: the same, with two free balls of other colours that pass through each other.
`Hover-v0`: the frames of `Occlusion-v0`, and a reward for keeping the ball in their middle, behind
the wall.

Positions are in units of the frame's width, in [0, 1]; velocities in units per step. A ball is
hidden when not one pixel of it shows, `info["state"]` says for how many frames, and shown when the
wall covers none of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register

OCCLUSION = "latentwrap_test_scenes:Occlusion-v0"
CROWD = "latentwrap_test_scenes:Crowd-v0"
HOVER = "latentwrap_test_scenes:Hover-v0"

_BACKGROUND, _WALL = (235, 235, 225), (120, 120, 125)
_COLOURS = ((40, 70, 200), (30, 150, 70), (210, 60, 50))
_RADIUS = 0.04  # about 5 pixels of 64 across
_WALL_LEFT, _WALL_RIGHT = 0.33, 0.67  # wide enough to hide a ball for several frames
_PUSH = 0.004
_SLOWEST, _FASTEST = 0.015, 0.045  # of a free ball's and of the start's speed
_BITS = 4


class HiddenBalls(gym.Env):
    """Balls that bounce in a box and pass behind a wall.

    Args:
        balls: how many; the action pushes the first.
        size: height and width of the frame in pixels.
        hover: reward minus the distance of the first ball from the middle of the wall; without,
            nothing, since a reward would tell a model where a hidden ball is.
        render_mode: `None` or `"rgb_array"`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        balls: int = 1,
        size: int = 64,
        *,
        hover: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.balls, self.size, self.hover, self.render_mode = balls, size, hover, render_mode
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        rng = self.np_random
        # In front of the wall, on its left or right.
        left = rng.random(self.balls) < 0.5
        near, far = _RADIUS, _WALL_LEFT - _RADIUS
        x = np.where(left, rng.uniform(near, far, self.balls), 1 - rng.uniform(near, far))
        y = rng.uniform(_RADIUS, 1 - _RADIUS, self.balls)
        angle, speed = (
            rng.uniform(0, 2 * np.pi, self.balls),
            rng.uniform(_SLOWEST, _FASTEST, self.balls),
        )
        self.position = np.stack([x, y], axis=1)
        self.velocity = (speed * np.stack([np.cos(angle), np.sin(angle)])).T
        self.hidden = np.zeros(self.balls, np.int64)
        return self._see()

    def step(self, action: Any) -> Any:
        self.velocity[0] += _PUSH * np.clip(action, -1, 1)
        speed = np.linalg.norm(self.velocity[0])
        self.velocity[0] *= min(1.0, _FASTEST / max(speed, 1e-9))
        self.position += self.velocity
        low, high = _RADIUS, 1 - _RADIUS
        under, over = self.position < low, self.position > high
        self.position = np.where(under, 2 * low - self.position, self.position)
        self.position = np.where(over, 2 * high - self.position, self.position)
        self.velocity = np.where(under | over, -self.velocity, self.velocity)
        frame, info = self._see()
        reward = -float(np.linalg.norm(self.position[0] - 0.5)) if self.hover else 0.0
        return frame, reward, False, False, info

    def render(self) -> Any:
        return self._draw()

    def _see(self) -> Any:
        # Whole pixels, and two for what anti-aliasing adds to a ball.
        margin = _RADIUS + 2 / self.size
        left, right = round(_WALL_LEFT * self.size), round(_WALL_RIGHT * self.size)
        x = self.position[:, 0]
        covered = (x - margin >= left / self.size) & (x + margin <= right / self.size)
        self.hidden = np.where(covered, self.hidden + 1, 0)
        shown = (x + margin <= left / self.size) | (x - margin >= right / self.size)
        state = {
            "position": np.float32(self.position.reshape(-1)),
            "velocity": np.float32(self.velocity.reshape(-1)),
            "hidden": np.float32(self.hidden),
            "shown": np.float32(shown),
        }
        return self._draw(), {"state": state}

    def _draw(self) -> Any:
        image = np.full((self.size, self.size, 3), _BACKGROUND, np.uint8)
        scale = self.size * (1 << _BITS)
        for colour, (x, y) in zip(_COLOURS, self.position, strict=False):
            centre = (round(x * scale) - (1 << _BITS) // 2, round(y * scale) - (1 << _BITS) // 2)
            radius = round(_RADIUS * scale)
            cv2.circle(image, centre, radius, colour, cv2.FILLED, cv2.LINE_AA, _BITS)
        left, right = round(_WALL_LEFT * self.size), round(_WALL_RIGHT * self.size)
        image[:, left:right] = _WALL
        return image


register("Occlusion-v0", HiddenBalls, max_episode_steps=200)
register("Crowd-v0", HiddenBalls, max_episode_steps=200, kwargs={"balls": 3})
register("Hover-v0", HiddenBalls, max_episode_steps=200, kwargs={"hover": True})
