"""Making any Gymnasium environment so that a frame can be taken from it."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from latentwrap.errors import EnvironmentMismatch, LatentwrapError
from latentwrap.pixels import DEFAULT_SIZE, fit_frame, is_image_space
from latentwrap.pixels.frames import source_spec
from latentwrap.types import Frame


def find_spec(env_id: str) -> EnvSpec:
    """The registered specification of `env_id`, which may be `module:id`.

    Raises:
        EnvironmentMismatch: no such id, or its module cannot be imported.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        _import(module, env_id)
    try:
        return gym.spec(name)
    except gym.error.Error as error:
        hint = "" if module else "; the package of another environment is imported by module:id"
        raise EnvironmentMismatch(
            f"Gymnasium knows no environment {env_id!r}: {_first_line(error)}{hint}."
        ) from None


def make_env(env_id: str | EnvSpec, **kwargs: Any) -> gym.Env[Any, Any]:
    """`gymnasium.make`, with `render_mode="rgb_array"` where the environment offers it.

    Args:
        env_id: an id, `module:id`, or a specification.
        kwargs: passed on to the environment.

    Raises:
        EnvironmentMismatch: no such environment, or it cannot be made.
    """
    spec = find_spec(env_id) if isinstance(env_id, str) else env_id
    chosen = "render_mode" in {**spec.kwargs, **kwargs}
    try:
        offered = None if chosen else _offers_images(spec)
        if offered:
            return gym.make(spec, render_mode="rgb_array", **kwargs)
        env = gym.make(spec, **kwargs)
        # Only an instance tells what the function that makes it offers.
        unasked = not chosen and offered is None and _renders_images(env)
        return gym.make(spec, render_mode="rgb_array", **kwargs) if unasked else env
    except LatentwrapError:
        raise
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        raise EnvironmentMismatch(
            f"The environment {spec.id} cannot be made: {_first_line(error)}."
        ) from error


class FrameSource:
    """Takes the current image of an environment: its observation or else its render.

    Args:
        env: an environment whose observation is an image, or that renders `rgb_array`.

    Raises:
        EnvironmentMismatch: it has neither.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self.from_observation = is_image_space(env.observation_space)
        if not self.from_observation and env.render_mode != "rgb_array":
            raise EnvironmentMismatch(
                f"{_name(env)} gives no image: its observation is {env.observation_space} and its "
                f"render_mode {env.render_mode!r}, but one must be a uint8 image or 'rgb_array'."
            )

    def image(self, observation: Any) -> Any:
        """The image that belongs to `observation`, the latest that the environment gave."""
        if self.from_observation:
            return observation
        try:
            image = self._env.render()
        except (gym.error.Error, ImportError) as error:
            raise EnvironmentMismatch(
                f"{_name(self._env)} cannot be rendered: {_first_line(error)}."
            ) from error
        if image is None:
            raise EnvironmentMismatch(f"{_name(self._env)} rendered no image.")
        return image


class RenderFrame(gym.Wrapper[Any, Any, Any, Any]):
    """Observes the frame, resized, whatever the environment observes.

    The frame is the environment's observation where that is an image, else what it renders.
    Inside the workers of a vector environment this keeps the last frame of an episode, which
    after an automatic reset cannot be rendered any more, and sends small frames only.

    Args:
        env: the environment.
        height, width: size of the frames.
        grey: make grey frames of coloured images.

    Attributes:
        frame_spec: the frames, with the size of the environment's own image.

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
    ) -> None:
        super().__init__(env)
        self._source = FrameSource(env)
        self.frame_spec = source_spec(self._image_shape(), height=height, width=width, grey=grey)
        self.observation_space = gym.spaces.Box(0, 255, self.frame_spec.shape, np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """Start an episode and observe its first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._frame(observation), info

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """Step the environment and observe the frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._frame(observation), float(reward), terminated, truncated, info

    def _frame(self, observation: Any) -> Frame:
        return fit_frame(self._source.image(observation), self.frame_spec)

    def _image_shape(self) -> tuple[int, ...]:
        if self._source.from_observation:
            return tuple(self.env.observation_space.shape or ())
        observation, _ = self.env.reset()  # only a started environment can render
        return tuple(self._source.image(observation).shape)


class FrameSkip(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats each action, sums the rewards and gives the last observation.

    Args:
        env: the environment.
        skip: how often an action is taken; fewer times when the episode ends.
    """

    def __init__(self, env: gym.Env[Any, Any], skip: int) -> None:
        super().__init__(env)
        self.skip = skip

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take `action` up to `skip` times."""
        total = 0.0
        for _ in range(self.skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


def _import(module: str, env_id: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise EnvironmentMismatch(
            f"The module of {env_id!r} cannot be imported: {_first_line(error)}."
        ) from error


def _offers_images(spec: EnvSpec) -> bool | None:
    """Whether the environment's class renders images; `None` if a function makes it."""
    entry = spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return _renders_images(creator) if hasattr(creator, "metadata") else None


def _renders_images(env: Any) -> bool:
    return "rgb_array" in env.metadata.get("render_modes", [])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _name(env: gym.Env[Any, Any]) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
