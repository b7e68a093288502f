"""What is checked: it makes its environments in every form, each with a recorder inside."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from latentwrap.envs.autoreset import Autoreset
from latentwrap.envs.frames import FrameSkip, RenderFrame, frame_options
from latentwrap.models import LatentModel, load_model
from latentwrap.testing.plans import Plan
from latentwrap.testing.recording import End, Recorder
from latentwrap.testing.references import (
    FreshReference,
    ModelReference,
    Reference,
    SeededReference,
    Wrapper,
)
from latentwrap.wrappers import LatentObservation, VectorLatentObservation
from latentwrap.wrappers.choosing import choose_inputs
from latentwrap.wrappers.workers import OneEnvironment, made_frames

_TOLD = {"image_keys", "vector_keys", "layout"}

MakeEnv = Callable[[], gym.Env[Any, Any]]


class NotRun(Exception):
    """A check that does not make sense for this environment, or needs what is not installed."""


class Subject(ABC):
    """What is checked.

    Attributes:
        name: of this variant; empty where there is one only.
        relative: its observations are raw: differences count as shares of max(1, |z|).
        repeats: it must repeat itself under a seed, or it cannot be checked.
        without_spec: why it needs no spec; empty where it must have one.
    """

    name: str
    relative: bool
    repeats: bool
    without_spec: str = ""

    @abstractmethod
    def bare(self) -> gym.Env[Any, Any]:
        """The environment without what is checked."""

    @abstractmethod
    def single(self, ends: Sequence[End]) -> gym.Env[Any, Any]:
        """A single environment."""

    @abstractmethod
    def vector(self, plan: Plan, mode: Autoreset) -> VectorEnv[Any, Any, Any]:
        """Several of them, in this process."""

    @abstractmethod
    def workers(self, plan: Plan, method: str) -> VectorEnv[Any, Any, Any]:
        """Several of them, in processes of their own."""

    @abstractmethod
    def vec_env(self, plan: Plan) -> Any:
        """Several of them, as Stable-Baselines3 has them."""

    def torchrl(self, plan: Plan) -> tuple[Any, gym.Space[Any]]:  # noqa: ARG002
        """Several of them, as TorchRL has them, and the space of one observation."""
        raise NotRun("only latents come as a transform of TorchRL")

    @abstractmethod
    def reference(self) -> Reference:
        """What they should have observed."""


@dataclass(frozen=True)
class PixelMaker:
    """Makes one recorded pixel environment, where a vector environment runs it.

    Attributes:
        make_env: makes the pixel environment.
        ends: of its episodes.
        skip: how often each action is repeated.
        frames: arguments of `RenderFrame`; `None` leaves observations as they are.
    """

    make_env: MakeEnv
    ends: Sequence[End] = ()
    skip: int = 1
    frames: dict[str, Any] | None = None

    def __call__(self) -> gym.Env[Any, Any]:
        """Make it."""
        env: gym.Env[Any, Any] = Recorder(self.make_env(), self.ends)
        env = FrameSkip(env, self.skip) if self.skip > 1 else env
        return env if self.frames is None else RenderFrame(env, **self.frames)


@dataclass
class LatentSubject(Subject):
    """Our own wrappers around a pixel environment.

    Attributes:
        make_env: makes the pixel environment.
        ckpt: path of a checkpoint, or a loaded model.
        normalize, deterministic: as of `LatentObservation`.
        options: further ones of `LatentObservation`.
    """

    make_env: MakeEnv
    ckpt: str | Path | LatentModel
    normalize: bool = True
    deterministic: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = self.ckpt if isinstance(self.ckpt, LatentModel) else None
        device = self.options.get("device", "cpu")
        self.model = load_model(str(self.ckpt), device=device) if given is None else given
        noise = "" if self.deterministic else " samples"
        self.name = ("standardised" if self.normalize else "raw") + noise
        self.relative, self.repeats = not self.normalize, False
        self.without_spec = "" if given is None else "a loaded model has no spec: pass the path"

    def bare(self) -> gym.Env[Any, Any]:
        return self.make_env()

    def single(self, ends: Sequence[End]) -> gym.Env[Any, Any]:
        return LatentObservation(Recorder(self.make_env(), ends), self.ckpt, **self._arguments)

    def vector(self, plan: Plan, mode: Autoreset) -> VectorEnv[Any, Any, Any]:
        makers = self.makers(plan)
        envs = SyncVectorEnv(makers, **_autoreset(mode))
        return VectorLatentObservation(envs, self.model, **self._vector_arguments(makers))

    def workers(self, plan: Plan, method: str) -> VectorEnv[Any, Any, Any]:
        # What they send is small, as `gymnasium.make_vec` has it.
        makers = self.makers(plan, render=True)
        envs = AsyncVectorEnv(makers, context=method)
        return VectorLatentObservation(envs, self.model, **self._vector_arguments(makers))

    def vec_env(self, plan: Plan) -> Any:
        _require("stable_baselines3")
        from stable_baselines3.common.vec_env import DummyVecEnv

        from latentwrap.integrations.sb3 import VecLatentObservation

        # SB3 takes no Dict inside a Dict; RenderFrame joins what is in it.
        makers = self.makers(plan, render=self._is_nested())
        venv = DummyVecEnv([*makers])
        return VecLatentObservation(venv, self.model, **self._vector_arguments(makers))

    def torchrl(self, plan: Plan) -> tuple[Any, gym.Space[Any]]:
        _require("torchrl")
        from latentwrap.testing.torchrl import make_torchrl

        makers = self.makers(plan)
        with closing(makers[0]()) as inside:
            if isinstance(inside.observation_space, spaces.Dict):
                raise NotRun("TorchRL is played with one image as the observation only")
        with closing(self.single(())) as env:
            space = env.observation_space
        given = self._vector_arguments(makers)
        options = {name: value for name, value in given.items() if not name.endswith("_keys")}
        skip = makers[0].skip
        return make_torchrl(makers, self.model, **{**options, "frame_skip": skip}), space

    def reference(self) -> ModelReference:
        env = self.make_env()
        named = {
            name: self.options.get(name)
            for name in ("image_keys", "vector_keys", "layout", "frame_skip")
        }
        compose = None
        if self.normalize:
            # Made once more, so that no environment that is checked has a part in it.
            compose = LatentObservation(env, self.model, **self._arguments).compose
        reference = ModelReference(
            self.model, env, deterministic=self.deterministic, compose=compose, **named
        )
        env.close()  # only its spaces were needed
        return reference

    def makers(self, plan: Plan, *, render: bool = False) -> list[PixelMaker]:
        """Of each pixel environment of a plan, in `RenderFrame` where it is asked for or needed."""
        env, skip = self.make_env(), self.options.get("frame_skip") or self.model.frame_skip
        frames = self._render_arguments(env, render=render)
        env.close()
        return [PixelMaker(self.make_env, ends, skip, frames) for ends in plan.ends]

    def _is_nested(self) -> bool:
        with closing(self.make_env()) as env:
            space = env.observation_space
        inner = space.spaces.values() if isinstance(space, spaces.Dict) else ()
        return any(isinstance(entry, spaces.Dict) for entry in inner)

    def _render_arguments(self, env: gym.Env[Any, Any], *, render: bool) -> dict[str, Any] | None:
        options, frame = self.options, self.model.frame_spec
        given = choose_inputs(
            self.model,
            env.observation_space,
            image_keys=options.get("image_keys"),
            vector_keys=options.get("vector_keys"),
            layout=options.get("layout"),
            made=made_frames(OneEnvironment(env)),
        )
        if (given.reader.shapes and not render) or given.fitted:
            return None
        return {
            **frame_options(frame),
            "image_keys": given.reader.cameras or None,
            "vector_keys": given.vector_spec.names,
            "layout": options.get("layout"),
        }

    @property
    def _arguments(self) -> dict[str, Any]:
        chosen = {"normalize": self.normalize, "deterministic": self.deterministic}
        return {**self.options, **chosen}

    def _vector_arguments(self, makers: Sequence[PixelMaker]) -> dict[str, Any]:
        # The model is loaded, and RenderFrame was told where the images are.
        told = {"device"} | (set() if makers[0].frames is None else _TOLD)
        return {name: value for name, value in self._arguments.items() if name not in told}


@dataclass
class WrapperSubject(Subject):
    """Any stateful observation wrapper.

    Attributes:
        make_env: makes the environment inside; where `wrapper` is `None`, the wrapped one.
        wrapper: puts the wrapper around it.
    """

    make_env: MakeEnv
    wrapper: Wrapper | None = None

    def __post_init__(self) -> None:
        self.name, self.relative, self.repeats = "", True, self.wrapper is None

    def bare(self) -> gym.Env[Any, Any]:
        return self.make_env()

    def single(self, ends: Sequence[End]) -> gym.Env[Any, Any]:
        env = Recorder(self.make_env(), ends)
        return env if self.wrapper is None else self.wrapper(env)

    def vector(self, plan: Plan, mode: Autoreset) -> VectorEnv[Any, Any, Any]:
        return SyncVectorEnv(self._makers(plan), **_autoreset(mode))

    def workers(self, plan: Plan, method: str) -> VectorEnv[Any, Any, Any]:
        return AsyncVectorEnv(self._makers(plan), context=method)

    def vec_env(self, plan: Plan) -> Any:
        _require("stable_baselines3")
        from stable_baselines3.common.vec_env import DummyVecEnv

        makers = self._makers(plan)
        if isinstance(makers[0]().action_space, (spaces.Dict, spaces.Tuple)):
            raise NotRun("Stable-Baselines3 knows no such action space")
        return DummyVecEnv(makers)

    def reference(self) -> Reference:
        if self.wrapper is None:
            return SeededReference(self.make_env)
        return FreshReference(self.wrapper, self.make_env())

    def _makers(self, plan: Plan) -> list[Callable[[], gym.Env[Any, Any]]]:
        return [partial(self.single, ends) for ends in plan.ends]


def _autoreset(mode: Autoreset) -> dict[str, Any]:
    """Arguments for a mode; Gymnasium 1.0 has but one, without a name."""
    try:
        from gymnasium.vector import AutoresetMode
    except ImportError:
        if mode is Autoreset.NEXT_STEP:
            return {}
        raise NotRun("this Gymnasium has no autoreset modes") from None
    return {"autoreset_mode": AutoresetMode(mode.value)}


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise NotRun(f"{module} is not installed")
