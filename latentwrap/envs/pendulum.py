"""A pixel task that needs neither screen nor GPU."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from latentwrap.errors import EnvironmentMismatch
from latentwrap.types import FloatArray, Frame

_WHITE = (255, 255, 255)
_ROD_RED = (204, 77, 77)
_AXLE_BLACK = (0, 0, 0)
_SUBPIXEL_BITS = 4
_ROD_LENGTH = 0.40
_ROD_WIDTH = 0.09
_AXLE_RADIUS = 0.02


class PixelPendulum(PendulumEnv):
    """Swings up a pendulum seen only as an image.

    Physics, reward and start are Gymnasium's own `Pendulum-v1`; the registered id
    `latentwrap/PixelPendulum-v0` has its limit of 200 steps. One frame shows where the rod is
    but not how it moves: a policy on single frames cannot balance it.

    Observations are uint8 (size, size, 3). `info["state"]`, float32 (3,), holds what
    `Pendulum-v1` would have observed: cos θ, sin θ and the angular velocity in rad/s.

    Args:
        render_mode: `None` or `"rgb_array"`, whose image is the observation.
        size: height and width of the image in pixels.
        g: gravity in m/s².

    Raises:
        EnvironmentMismatch: size is smaller than 8.

    Example:
        >>> import gymnasium, latentwrap
        >>> env = gymnasium.make("latentwrap/PixelPendulum-v0")
        >>> frame, info = env.reset(seed=0)
        >>> frame.shape, info["state"].shape
        ((64, 64, 3), (3,))
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc] # gymnasium declares it on instances
        "render_modes": ["rgb_array"],
        "render_fps": 30,
    }

    def __init__(self, render_mode: str | None = None, size: int = 64, g: float = 10.0) -> None:
        if size < 8:
            raise EnvironmentMismatch(f"PixelPendulum requires a size of at least 8, got {size}.")
        super().__init__(render_mode=render_mode, g=g)
        self.size = size
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Start an episode; returns the first frame and its state."""
        state, info = super().reset(seed=seed, options=options)
        return self._draw(), {**info, "state": state}

    def step(self, u: FloatArray) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Apply the torque `u`, float (1,) in N·m, for 0.05 s."""
        state, reward, terminated, truncated, info = super().step(u)  # type: ignore[no-untyped-call]
        return self._draw(), float(reward), terminated, truncated, {**info, "state": state}

    def render(self) -> Frame:
        """The current frame, uint8 (size, size, 3)."""
        return self._draw()

    def _draw(self) -> Frame:
        angle = self.state[0]
        image = np.full((self.size, self.size, 3), _WHITE, np.uint8)
        centre = (self.size - 1) / 2
        length = _ROD_LENGTH * self.size
        # θ = 0 is upright and grows counter-clockwise, as Pendulum-v1 draws it.
        tip = (centre - length * np.sin(angle), centre - length * np.cos(angle))
        width = max(1, round(_ROD_WIDTH * self.size))
        _line(image, (centre, centre), tip, width)
        cv2.circle(
            image,
            _fixed_point((centre, centre)),
            round(_AXLE_RADIUS * self.size * (1 << _SUBPIXEL_BITS)),
            _AXLE_BLACK,
            cv2.FILLED,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )
        return image


def _line(image: Frame, start: tuple[float, float], end: tuple[float, float], width: int) -> None:
    cv2.line(
        image,
        _fixed_point(start),
        _fixed_point(end),
        _ROD_RED,
        width,
        cv2.LINE_AA,
        _SUBPIXEL_BITS,
    )


def _fixed_point(point: tuple[float, float]) -> tuple[int, int]:
    """Pixel coordinates with OpenCV's fractional bits, so that small motions show."""
    return round(point[0] * (1 << _SUBPIXEL_BITS)), round(point[1] * (1 << _SUBPIXEL_BITS))
