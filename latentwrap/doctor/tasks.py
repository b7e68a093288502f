"""What is tried in a process of its own. Heavy packages load inside, so that each can fail."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.doctor.child import Facts
from latentwrap.doctor.findings import first_line

if TYPE_CHECKING:
    from latentwrap.pixels import FrameSpec
    from latentwrap.types import Frame

_GRAPHICS = ("mujoco", "OpenGL", "pyglet", "moderngl", "sapien", "pybullet")
_STEPS = 10
_TIMED_STEPS = 30
_TIMED_SECONDS = 3.0


def packages(facts: Facts, *, modules: list[str]) -> None:
    """Import each; says which are `broken`, with the reason."""
    broken: dict[str, str] = {}
    for name in modules:
        facts.say(stage=f"import {name}")
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            broken[name] = first_line(error)
    facts.say(broken=broken)


def machine(facts: Facts) -> None:
    """Says threads, start method of processes, and the CUDA devices that compute."""
    import multiprocessing

    facts.say(start_method=multiprocessing.get_start_method(), stage="import torch")
    import torch

    facts.say(
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        cuda_build=torch.version.cuda,
        stage="ask for CUDA",
    )
    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        devices.append({"name": properties.name, "memory": properties.total_memory})
    facts.say(cuda=devices)
    if devices:
        facts.say(stage="compute on CUDA")
        ones = torch.ones(8, 8, device="cuda")
        facts.say(computes=float((ones @ ones).sum()) == 512)


def hdf5(facts: Facts, *, folder: str) -> None:
    """Write frames as a dataset has them to a file in `folder` and read them back."""
    import h5py
    import hdf5plugin

    path = Path(folder) / f".doctor-{time.time_ns()}.h5"
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    try:
        facts.say(stage="write")
        with h5py.File(path, "w") as file:
            file.create_dataset("frames", data=frames, chunks=frames.shape, **hdf5plugin.LZ4())
        facts.say(stage="read")
        with h5py.File(path, "r") as file:
            facts.say(same=bool(np.array_equal(file["frames"][:], frames)))
    finally:
        path.unlink(missing_ok=True)
    facts.say(h5py=h5py.version.version, hdf5=h5py.version.hdf5_version)


def look(
    facts: Facts, *, env_id: str, seed: int, options: dict[str, Any], ckpt: str | None = None
) -> None:
    """Make an environment and look at a few of its frames.

    Says by and by: `stage`, `mujoco` (whether it draws with it), `action_space`, `shapes` of its
    images, `low` and `high` of all bytes, `rate` in steps a second, and `graphics`, what it draws
    with; leaves the last frame.

    Args:
        facts: takes what is found.
        env_id, seed: of the environment.
        options: of `RenderFrame`.
        ckpt: tells those that are not given.
    """
    from latentwrap.actions import ActionSpec, describe
    from latentwrap.envs.frames import RenderFrame
    from latentwrap.envs.making import find_spec, make_env

    facts.say(stage="find")
    spec = find_spec(env_id)
    installed = importlib.util.find_spec("mujoco") is not None
    facts.say(stage="make", mujoco=installed and _names_mujoco(spec.entry_point))
    env = _Witness(make_env(spec), facts)
    facts.say(stage="actions", mujoco="mujoco" in sys.modules)
    ActionSpec(env.action_space)
    facts.say(stage="source", action_space=describe(env.action_space))
    options = {**_recorded(ckpt), **options}
    frames = RenderFrame(env, **options)
    shapes = [_source_shape(panel) for panel in frames.frame_spec.panels]
    if len(shapes) == 1:  # several cameras stand side by side only when equally large
        height, width, _ = shapes[0]
        frames = RenderFrame(env, height=height, width=width, **options)
    facts.say(shapes=shapes)
    env.action_space.seed(seed)
    _look_at_frames(facts, frames, seed)
    facts.say(graphics=_graphics())


def _recorded(ckpt: str | None) -> dict[str, Any]:
    """Where a checkpoint says that images and vectors are; nothing where it cannot be read."""
    from latentwrap.envs.frames import frame_options
    from latentwrap.errors import LatentwrapError
    from latentwrap.models import load_model

    if ckpt is None:
        return {}
    try:
        model = load_model(ckpt)
    except (LatentwrapError, OSError):
        return {}  # said by the check of the checkpoint itself
    made = frame_options(model.frame_spec)
    found = {
        **{name: made[name] for name in ("image_keys", "layout", "rendering", "cameras")},
        "vector_keys": model.vector_spec.names,
    }
    return {name: value for name, value in found.items() if value}


def vector(facts: Facts, *, env_id: str) -> None:
    """Says the autoreset modes that this Gymnasium has, and that of `gymnasium.make_vec`."""
    from latentwrap.envs.making import find_spec

    modes = getattr(gym.vector, "AutoresetMode", None)
    facts.say(gymnasium=gym.__version__, offered=[mode.name for mode in modes or ()])
    envs = gym.make_vec(find_spec(env_id), num_envs=2)
    mode = envs.metadata.get("autoreset_mode")
    facts.say(mode=None if mode is None else getattr(mode, "name", str(mode)))
    facts.say(kind=type(envs.unwrapped).__name__)
    envs.close()


def fit(
    facts: Facts,
    *,
    ckpt: str,
    device: str,
    env_id: str | None,
    seed: int,
    options: dict[str, Any],
) -> None:
    """Load a checkpoint, wrap an environment in it and time the filter.

    Says by and by: `stage`, `kind`, `frame`, `device`, `size` of the observation, `finite` (of
    the latents), and the median `seconds` of a filter step.

    Args:
        facts: takes what is found.
        ckpt, device: of the model.
        env_id, seed: of the environment; without an id it ends when the checkpoint is loaded.
        options: of `LatentObservation`.
    """
    from latentwrap.models import load_model

    facts.say(stage="load")
    model = load_model(ckpt, device=device)
    facts.say(
        kind=model.kind,
        size=model.latent_size,
        frame=model.frame_spec.shape,
        device=str(model.device),
    )
    if env_id is None:
        return
    from latentwrap.envs.making import make_env
    from latentwrap.wrappers import LatentObservation

    facts.say(stage="fit")
    watch = _Stopwatch(make_env(env_id))
    env = LatentObservation(watch, model, **options)
    facts.say(size=spaces.flatdim(env.observation_space))
    env.action_space.seed(seed)
    env.reset(seed=seed)
    facts.say(stage="filter")
    _time_filter(facts, env, watch)


def _names_mujoco(entry_point: Any) -> bool:
    return any(name in str(entry_point).lower() for name in ("mujoco", "dm_control"))


def _graphics() -> list[str]:
    return [name for name in _GRAPHICS if name in sys.modules]


def _source_shape(spec: FrameSpec) -> tuple[int, int, int]:
    """Of the environment's own image, (H, W, C)."""
    height, width = spec.source_height or spec.height, spec.source_width or spec.width
    return height, width, spec.source_channels or spec.channels


class _Witness(gym.Wrapper[Any, Any, Any, Any]):
    """Says when the environment is started and drawn, so that a crash has a place."""

    drawn = _stepped = False

    def __init__(self, env: gym.Env[Any, Any], facts: Facts) -> None:
        super().__init__(env)
        self._facts = facts

    def reset(self, **kwargs: Any) -> Any:
        """Start an episode."""
        if not self.drawn:
            self._facts.say(stage="reset")
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """Step the environment."""
        if not self._stepped:
            self._stepped = True
            self._facts.say(stage="draw" if self.drawn else "step")
        return self.env.step(action)

    def render(self) -> Any:
        """Draw the environment."""
        if not self.drawn:
            self.drawn = True
            self._facts.say(stage="draw", graphics=_graphics())
        return self.env.render()


def _look_at_frames(facts: Facts, env: gym.Env[Any, Any], seed: int) -> None:
    """The first frame may well be black (a game fades in), so some steps are taken."""
    frame = _frame(env.reset(seed=seed)[0])
    low, high = int(frame.min()), int(frame.max())
    started = time.perf_counter()
    for _ in range(_STEPS):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            observation, _ = env.reset()
        frame = _frame(observation)
        low, high = min(low, int(frame.min())), max(high, int(frame.max()))
    facts.show(frame)
    facts.say(low=low, high=high, rate=_STEPS / (time.perf_counter() - started))


def _frame(observation: Any) -> Frame:
    """The frame; where there are vectors too it is an entry of a Dict."""
    frame: Frame = observation["frame"] if isinstance(observation, dict) else observation
    return frame


class _Stopwatch(gym.Wrapper[Any, Any, Any, Any]):
    """Adds up the seconds that the environment itself takes, to step and to draw."""

    seconds = 0.0

    def step(self, action: Any) -> Any:
        """Step the environment."""
        return self._timed(self.env.step, action)

    def render(self) -> Any:
        """Draw the environment."""
        return self._timed(self.env.render)

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        self.seconds += time.perf_counter() - started
        return result


def _time_filter(facts: Facts, env: gym.Env[Any, Any], watch: _Stopwatch) -> None:
    """Time what the wrapper adds to each step: to resize the frame and to filter."""
    seconds: list[float] = []
    finite = True
    while len(seconds) < _TIMED_STEPS and sum(seconds) < _TIMED_SECONDS:
        before, started = watch.seconds, time.perf_counter()
        latent, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seconds.append(time.perf_counter() - started - (watch.seconds - before))
        finite = finite and bool(np.isfinite(latent).all())
        if terminated or truncated:
            env.reset()
    facts.say(finite=finite, seconds=float(np.median(seconds)))
