"""Frames of any environment: where they come from, and wrappers that observe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from latentwrap.envs.observing import ObservationReader
from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import DEFAULT_SIZE, fit_images
from latentwrap.pixels.frames import source_spec
from latentwrap.types import FloatArray, Frame
from latentwrap.vectors import VectorSpec

FRAME = "frame"
VECTORS = "vectors"
"""Keys of what `RenderFrame` observes where there are vectors."""

FRAME_SKIP = "latentwrap_frame_skip"
"""An attribute of our own: environments have an `action_repeat` or `frame_skip` of theirs."""


class Renderer:
    """Renders the current image of an environment.

    Args:
        env: the environment.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env

    def check(self) -> None:
        """Refuse an environment that renders no images.

        Raises:
            EnvironmentMismatch: its render mode is not `rgb_array`.
        """
        env = self._env
        if env.render_mode != "rgb_array":
            raise EnvironmentMismatch(
                f"{_name(env)} gives no image: its observation is {env.observation_space} and its "
                f"render_mode {env.render_mode!r}, but one must be a uint8 image or "
                "'rgb_array' (the layout of another image must be named, such as HWC)."
            )

    def __call__(self) -> Any:
        """The image, (H, W) or (H, W, C).

        Raises:
            EnvironmentMismatch: it cannot be rendered.
        """
        try:
            image = self._env.render()
        except (gym.error.Error, ImportError) as error:
            raise EnvironmentMismatch(
                f"{_name(self._env)} cannot be rendered: {first_line(error)}."
            ) from error
        if image is None:
            raise EnvironmentMismatch(f"{_name(self._env)} rendered no image.")
        return image


class RenderFrame(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Observes the frame, resized, whatever the environment observes.

    The frame is the environment's observation where that holds an image, else what it renders.
    Inside the workers of a vector environment this keeps the last frame of an episode, which
    after an automatic reset cannot be rendered any more, and sends small frames only.

    The observation is the frame, uint8 (H, W, C); with `vector_keys` it is a Dict of `frame` and
    `vectors`, float32 (V,).

    Args:
        env: the environment.
        height, width: size of the frames; of several cameras, of each.
        grey: make grey frames of coloured images.
        image_keys: entries of a Dict observation that are images, several side by side; `None`
            takes the only one.
        vector_keys: entries of a Dict observation that are vectors.
        layout: of the images, one of `latentwrap.pixels.LAYOUTS`; `None` tells it by the shape.

    Attributes:
        frame_spec: the frames, with the sizes of the environment's own images.
        vector_spec: names and sizes of the vectors.

    Raises:
        EnvironmentMismatch: the environment gives no image, or a key is wrong.

    Example:
        >>> import gymnasium, latentwrap
        >>> env = RenderFrame(gymnasium.make("latentwrap/PixelPendulum-v0"), height=32, width=32)
        >>> env.reset(seed=0)[0].shape
        (32, 32, 3)
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        height: int = DEFAULT_SIZE,
        width: int = DEFAULT_SIZE,
        grey: bool = False,
        image_keys: Sequence[str] | None = None,
        vector_keys: Sequence[str] = (),
        layout: str | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            height=height,
            width=width,
            grey=grey,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
        )
        super().__init__(env)
        self._reader = reader = ObservationReader(
            env.observation_space, image_keys=image_keys, vector_keys=vector_keys, layout=layout
        )
        self._renderer = Renderer(env)
        if not reader.shapes:
            self._renderer.check()
        self.vector_spec: VectorSpec = reader.vector_spec
        self.frame_spec = source_spec(
            reader.shapes or self._rendered_shapes(),
            height=height,
            width=width,
            grey=grey,
            cameras=reader.cameras,
            layout=layout if reader.shapes else None,
        )
        frames = spaces.Box(0, 255, self.frame_spec.shape, np.uint8)
        self.observation_space = frames
        if vector_keys:
            vectors = spaces.Box(*reader.bounds(), dtype=np.float32)
            self.observation_space = spaces.Dict({FRAME: frames, VECTORS: vectors})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and observe its first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and observe the frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._observe(observation), float(reward), terminated, truncated, info

    def _observe(self, observation: Any) -> Frame | dict[str, Any]:
        images = self._reader.images(observation) if self._reader.shapes else (self._renderer(),)
        if images is None:
            raise EnvironmentMismatch(
                f"{_name(self.env)} dropped a frame, which RenderFrame cannot pass on: wrap the "
                "environment in LatentObservation, which bridges it."
            )
        frame = fit_images(images, self.frame_spec)
        if not self.vector_spec.names:
            return frame
        vectors: FloatArray = self._reader.vectors(observation)
        return {FRAME: frame, VECTORS: vectors}

    def _rendered_shapes(self) -> list[tuple[int, ...]]:
        self.env.reset()  # only a started environment can render
        return [np.shape(self._renderer())]


class FrameSkip(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Repeats each action, sums the rewards and gives the last observation.

    Args:
        env: the environment.
        skip: how often an action is taken; fewer times when the episode ends.

    Attributes:
        latentwrap_frame_skip: how often in all, with those inside; wrappers ask for it.

    Raises:
        EnvironmentMismatch: a skip below 1.
    """

    def __init__(self, env: gym.Env[Any, Any], skip: int) -> None:
        if skip < 1:
            raise EnvironmentMismatch(f"FrameSkip requires a skip of at least 1, got {skip}.")
        RecordConstructorArgs.__init__(self, skip=skip)
        super().__init__(env)
        self.skip = skip
        inside = env.get_wrapper_attr(FRAME_SKIP) if env.has_wrapper_attr(FRAME_SKIP) else 1
        self.latentwrap_frame_skip = skip * int(inside)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take `action` up to `skip` times."""
        total = 0.0
        for _ in range(self.skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def first_line(error: Exception) -> str:
    """What an error says, for a sentence of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _name(env: gym.Env[Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
