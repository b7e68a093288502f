"""Frames of any environment: where they come from, and wrappers that observe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from latentwrap.envs.mujoco import Rendering, camera_number, find_scene, prepare
from latentwrap.envs.observing import ObservationReader
from latentwrap.envs.states import with_states
from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import DEFAULT_SIZE, FrameSpec, fit_images
from latentwrap.pixels.frames import source_spec
from latentwrap.types import FloatArray, Frame
from latentwrap.vectors import VectorSpec

FRAME = "frame"
VECTORS = "vectors"
"""Keys of what `RenderFrame` observes where there are vectors."""

FRAME_SKIP = "latentwrap_frame_skip"
"""An attribute of our own: environments have an `action_repeat` or `frame_skip` of theirs."""


class Renderer:
    """Renders the current images of an environment.

    Args:
        env: the environment.
        rendering: how MuJoCo is to draw them, where it does; else nothing is changed.
    """

    def __init__(self, env: gym.Env[Any, Any], rendering: Rendering | None = None) -> None:
        self._env = env
        self._rendering = rendering or Rendering()

    @property
    def drawn(self) -> bool:
        """Whether MuJoCo draws the images."""
        return find_scene(self._env) is not None

    def check(self) -> None:
        """Refuse an environment that renders no images.

        Raises:
            EnvironmentMismatch: its render mode is not `rgb_array`, or it has not the cameras.
        """
        env = self._env
        if env.render_mode != "rgb_array":
            raise EnvironmentMismatch(
                f"{name_of(env)} gives no image: its observation is {env.observation_space} and "
                f"its render_mode {env.render_mode!r}, but one must be a uint8 image or "
                "'rgb_array' (the layout of another image must be named, such as HWC)."
            )
        scene, cameras = find_scene(env), self._rendering.cameras
        if scene is not None:
            for camera in cameras:
                camera_number(scene, camera)
        elif cameras:
            raise EnvironmentMismatch(
                f"{name_of(env)} is no MuJoCo environment that latentwrap knows, so it has no "
                f"camera {cameras[0]!r}: leave the cameras out, or name the images "
                "in its observation as image_keys."
            )

    def __call__(self) -> tuple[Any, ...]:
        """The image of each camera, (H, W) or (H, W, C); one where none is named.

        Raises:
            EnvironmentMismatch: it cannot be rendered.
        """
        scene = find_scene(self._env)
        if scene is None:
            return (self._render(),)
        prepare(scene, self._rendering)
        images = []
        for camera in self._rendering.cameras:
            scene.look_through(camera_number(scene, camera))
            images.append(self._render())
        return tuple(images) or (self._render(),)

    def close(self) -> None:
        """Give back what was made for drawing, before the environment is closed."""
        scene = find_scene(self._env)
        if scene is not None:
            scene.release()

    def _render(self) -> Any:
        try:
            image = self._env.render()
        except (gym.error.Error, ImportError) as error:
            raise self._failure(error, "") from error
        except Exception as error:
            if not self.drawn:
                raise
            # Without a display or its libraries MuJoCo fails in many ways.
            hint = f", and latentwrap doctor {name_of(self._env)} says what would mend it"
            raise self._failure(error, hint) from error
        if image is None:
            raise EnvironmentMismatch(f"{name_of(self._env)} rendered no image.")
        return image

    def _failure(self, error: Exception, hint: str) -> EnvironmentMismatch:
        reason = first_line(error)
        return EnvironmentMismatch(f"{name_of(self._env)} cannot be rendered: {reason}{hint}.")


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
        rendering: where MuJoCo renders the frame: `fast` draws it without multisampling, shadows
            and reflections at twice the size of the frame, `full` leaves it as it is.
        cameras: names or numbers of the cameras that MuJoCo renders, several side by side; none
            takes the environment's own.
        states: put physical truth into `info["state"]` where the environment gives none, as
            `latentwrap.envs.states.with_states` says.

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
        rendering: str = "fast",
        cameras: Sequence[str] = (),
        states: bool = False,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            height=height,
            width=width,
            grey=grey,
            image_keys=image_keys,
            vector_keys=vector_keys,
            layout=layout,
            rendering=rendering,
            cameras=cameras,
            states=states,
        )
        super().__init__(env)
        if cameras and image_keys is None:
            image_keys = ()  # the picture is the cameras', also where the observation holds images
        self._reader = reader = ObservationReader(
            env.observation_space, image_keys=image_keys, vector_keys=vector_keys, layout=layout
        )
        if cameras and reader.shapes:
            raise EnvironmentMismatch(
                "cameras are rendered and image_keys observed: name one or the other."
            )
        self._states = states
        asked = Rendering.for_frames(rendering, height, width, cameras)
        self._renderer = Renderer(env, asked)
        if not reader.shapes:
            self._renderer.check()
        self.vector_spec: VectorSpec = reader.vector_spec
        self.frame_spec = source_spec(
            reader.shapes or self._rendered_shapes(),
            height=height,
            width=width,
            grey=grey,
            cameras=reader.cameras or asked.cameras,
            layout=layout if reader.shapes else None,
            rendering=None if reader.shapes or not self._renderer.drawn else asked.recorded_as,
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
        return self._observe(observation), self._informed(observation, info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and observe the frame."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = self._informed(observation, info)
        return self._observe(observation), float(reward), terminated, truncated, info

    def close(self) -> None:
        """Close the environment."""
        self._renderer.close()
        super().close()

    def _observe(self, observation: Any) -> Frame | dict[str, Any]:
        images = self._reader.images(observation) if self._reader.shapes else self._renderer()
        if images is None:
            raise EnvironmentMismatch(
                f"{name_of(self.env)} dropped a frame, which RenderFrame cannot pass on: wrap the "
                "environment in LatentObservation, which bridges it."
            )
        frame = fit_images(images, self.frame_spec)
        if not self.vector_spec.names:
            return frame
        vectors: FloatArray = self._reader.vectors(observation)
        return {FRAME: frame, VECTORS: vectors}

    def _informed(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        if not self._states:
            return info
        return with_states(
            self.env, observation, info,
            rendered=not self._reader.shapes, vectors=self.vector_spec.names,
        )  # fmt: skip

    def _rendered_shapes(self) -> list[tuple[int, ...]]:
        self.env.reset()  # only a started environment can render
        return [np.shape(image) for image in self._renderer()]


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


def frame_options(spec: FrameSpec) -> dict[str, Any]:
    """Arguments of `RenderFrame` that make frames as those of a dataset or model were made."""
    rendered = spec.rendering is not None
    return {
        "height": spec.height,
        "width": spec.width // len(spec.panels),
        "grey": spec.source_channels is not None,
        "image_keys": None if rendered else spec.names or None,
        "layout": spec.layout,
        "rendering": spec.rendering or "full",
        "cameras": spec.names if rendered else (),
    }


def first_line(error: Exception) -> str:
    """What an error says, for a sentence of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def name_of(env: gym.Env[Any, Any]) -> str:
    """What messages call an environment."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
