"""Pictures that MuJoCo draws: fast, of the size that is needed, from the cameras that are named."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import gymnasium as gym
import numpy as np

from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import FrameSpec
from latentwrap.types import FloatArray

Quality: TypeAlias = Literal["fast", "full"]

QUALITIES = ("fast", "full")
"""`fast`: no multisampling, shadows and reflections, and no more pixels than are of use."""

_OVERSAMPLING = 2
"""How many times the size of a frame is drawn and then averaged, which smooths edges: without
multisampling, four samples for each pixel cost a fifth of the speed."""


@dataclass(frozen=True)
class Rendering:
    """How the pictures of an environment are drawn, if MuJoCo draws them.

    Attributes:
        quality: `fast`, or `full` for the environment's own picture.
        height, width: of the picture in pixels; only `fast` changes them.
        cameras: names or numbers of MuJoCo's cameras; none for that of the environment.
    """

    quality: Quality = "full"
    height: int = 0
    width: int = 0
    cameras: tuple[str, ...] = ()

    @classmethod
    def for_frames(cls, quality: str, height: int, width: int, cameras: Sequence[str]) -> Rendering:
        """For frames of a size that are made from now on.

        Raises:
            EnvironmentMismatch: a quality that does not exist.
        """
        if quality not in QUALITIES:
            raise EnvironmentMismatch(
                f"rendering requires one of {' or '.join(QUALITIES)}, got {quality!r}."
            )
        known: Quality = "fast" if quality == "fast" else "full"
        return cls(known, _OVERSAMPLING * height, _OVERSAMPLING * width, tuple(cameras))

    @property
    def recorded_as(self) -> Quality | None:
        """What the frames say of it; nothing where the picture is the environment's own."""
        return self.quality if self.quality == "fast" or self.cameras else None

    @classmethod
    def recorded(cls, spec: FrameSpec) -> Rendering:
        """As the frames of a dataset or model were made."""
        if spec.rendering is None:
            return cls()
        panel = spec.panels[0]
        height, width = panel.source_height or panel.height, panel.source_width or panel.width
        return cls(spec.rendering, height, width, spec.names)


class Scene(Protocol):
    """A MuJoCo environment; the model may be another one after every reset."""

    @property
    def model(self) -> Any:
        """MuJoCo's `MjModel`."""

    @property
    def data(self) -> Any:
        """MuJoCo's `MjData`."""

    def focus(self) -> None:
        """Have its own context drawn into, not that of another environment of this process."""

    def resize(self, height: int, width: int) -> None:
        """Draw pictures of this size from now on, without multisampling."""

    def look_through(self, camera: int) -> None:
        """Draw what the camera of this number sees from now on."""

    def release(self) -> None:
        """Give back what was made for drawing, before the environment is closed."""


def find_scene(env: gym.Env[Any, Any]) -> Scene | None:
    """The MuJoCo environment inside all wrappers; `None` if it is none, or of an unknown make.

    Gymnasium's own and what is built on its `MujocoEnv` are known, and dm_control's through
    `shimmy`.
    """
    if "mujoco" not in sys.modules:
        return None
    base = env.unwrapped
    if hasattr(base, "mujoco_renderer") and hasattr(base, "model"):
        return _GymnasiumScene(base)
    if hasattr(base, "render_kwargs") and hasattr(base, "physics"):
        return _DmControlScene(base)
    return None


def prepare(scene: Scene, rendering: Rendering) -> None:
    """Have the next picture of a scene drawn as it is asked for; costs nothing where it is so.

    The settings are those of the model, which every renderer reads; physics does not.
    """
    if rendering.quality == "fast":
        _make_fast(scene, rendering)
    scene.focus()


def _make_fast(scene: Scene, rendering: Rendering) -> None:
    model = scene.model
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    drawn = model.vis.global_
    drawn.offheight = max(drawn.offheight, rendering.height)
    drawn.offwidth = max(drawn.offwidth, rendering.width)
    scene.resize(rendering.height, rendering.width)


def camera_number(scene: Scene, name: str) -> int:
    """Number of the camera of this name, or of this number.

    Raises:
        EnvironmentMismatch: there is no such camera.
    """
    model = scene.model
    names = [model.camera(number).name for number in range(model.ncam)]
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < model.ncam:
        return int(name)
    found = ", ".join(each or str(number) for number, each in enumerate(names)) or "none"
    raise EnvironmentMismatch(
        f"MuJoCo's scene has no camera {name!r}, but {found}: name one of those."
    )


def physical_state(scene: Scene) -> dict[str, FloatArray]:
    """Positions `qpos` and velocities `qvel` of all joints, float32; those that there are."""
    columns = {"qpos": scene.data.qpos, "qvel": scene.data.qvel}
    return {name: np.array(column, np.float32) for name, column in columns.items() if len(column)}


class _GymnasiumScene:
    """An environment with Gymnasium's `MujocoRenderer`."""

    def __init__(self, env: Any) -> None:
        self._env = env

    @property
    def model(self) -> Any:
        return self._env.model

    @property
    def data(self) -> Any:
        return self._env.data

    def focus(self) -> None:
        # Gymnasium does it only among the render modes of one environment: of two environments in
        # a process the older one would draw into the context of the newer, and give black frames.
        viewer = self._env.mujoco_renderer.viewer
        if viewer is None:
            # A viewer that was dropped frees its buffers whenever it is collected, in the context
            # that is current then: rather now than in the one that is made next.
            gc.collect()
        else:
            viewer.make_context_current()

    def resize(self, height: int, width: int) -> None:
        renderer = self._env.mujoco_renderer
        viewer = renderer.viewer
        if viewer is not None and not _draws(viewer, height, width):
            # It was drawn before: the context keeps its samples and size, a new one is made.
            self.release()
        renderer.height, renderer.width = height, width

    def look_through(self, camera: int) -> None:
        self._env.mujoco_renderer.camera_id = camera

    def release(self) -> None:
        renderer = self._env.mujoco_renderer
        if renderer.viewer is not None and "human" not in renderer._viewers:
            renderer.viewer.make_context_current()
            renderer.viewer.con.free()
            renderer._viewers.clear()
            renderer.viewer = None


def _draws(viewer: Any, height: int, width: int) -> bool:
    size = (viewer.viewport.height, viewer.viewport.width)
    return not viewer.con.offSamples and size == (height, width)


class _DmControlScene:
    """An environment of dm_control in shimmy's `DmControlCompatibilityV0`."""

    def __init__(self, env: Any) -> None:
        self._env = env

    @property
    def model(self) -> Any:
        return self._env.physics.model.ptr

    @property
    def data(self) -> Any:
        return self._env.physics.data.ptr

    def focus(self) -> None:
        """dm_control does it at every picture."""

    def resize(self, height: int, width: int) -> None:
        physics = self._env.physics
        if physics._contexts and _outdated(physics._contexts.mujoco.ptr, height, width):
            physics._free_rendering_contexts()  # made anew, as it is asked for, at the next render
        self._env.render_kwargs = {**self._env.render_kwargs, "height": height, "width": width}

    def look_through(self, camera: int) -> None:
        self._env.render_kwargs = {**self._env.render_kwargs, "camera_id": camera}

    def release(self) -> None:
        """dm_control does it when it is closed."""


def _outdated(context: Any, height: int, width: int) -> bool:
    return bool(context.offSamples or context.offHeight < height or context.offWidth < width)
