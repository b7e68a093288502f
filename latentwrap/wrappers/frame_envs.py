"""Environments that observe frames, for whoever filters or keeps those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from latentwrap.envs.frames import FRAME, VECTORS, FrameSkip, RenderFrame, frame_options
from latentwrap.envs.making import find_spec
from latentwrap.envs.workers import FrameEnvMaker
from latentwrap.errors import EnvironmentMismatch
from latentwrap.filtering.fitting import FrameFitter, check_made
from latentwrap.models import LatentModel
from latentwrap.pixels import FrameSpec
from latentwrap.training.statistics import vector_words
from latentwrap.types import AnyArray
from latentwrap.vectors import VectorSpec
from latentwrap.wrappers.workers import (
    Environment,
    GymnasiumWorkers,
    MadeFrames,
    OneEnvironment,
    Workers,
    made_frames,
    outermost,
    refuse_latents,
    repeated,
    single_space,
)


@dataclass(frozen=True)
class FrameEnvironment:
    """An environment, single or a vector, that observes frames.

    Attributes:
        env: it.
        frame, vectors: what it observes.
        frame_skip: how often it repeats an action.
    """

    env: Environment
    frame: FrameSpec
    vectors: VectorSpec
    frame_skip: int

    @property
    def num(self) -> int:
        """How many environments there are."""
        return self.env.num_envs if isinstance(self.env, VectorEnv) else 1

    @property
    def action_space(self) -> gym.Space[Any]:
        """Of one environment."""
        return single_space(self.env, "action_space")

    def rows(self, observations: Any) -> AnyArray:
        """Observations as a structured array (num,) of `frame` and `vectors`."""
        batched = observations if isinstance(observations, dict) else {FRAME: observations}
        if self.vectors.names and isinstance(observations, list):
            names = (FRAME, VECTORS)
            batched = {name: [each[name] for each in observations] for name in names}
        rows = np.zeros(len(batched[FRAME]), self.dtype)
        for name, column in batched.items():
            rows[name] = column
        return rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a row."""
        vectors = (VECTORS, np.float32, (self.vectors.size,))
        return np.dtype([(FRAME, np.uint8, self.frame.shape), vectors])


def frame_maker(
    env_id: str, model: LatentModel | None, making: Mapping[str, Any] | None = None
) -> FrameEnvMaker:
    """Makes environments that observe frames: those of a model, where there is one.

    Args:
        env_id: id of the environment, or `module:id`.
        model: says what its frames look like; `None` leaves that to `making`.
        making: arguments of `FrameEnvMaker` that differ from its defaults.
    """
    if model is None:
        return FrameEnvMaker(find_spec(env_id), **(making or {}))
    known = {**frame_options(model.frame_spec), "vector_keys": model.vector_spec.names}
    keys = known["image_keys"]
    return FrameEnvMaker(
        find_spec(env_id),
        **{**known, "image_keys": None if keys is None else tuple(keys)},
        frame_skip=model.frame_skip,
    )


def observe_frames(env: Environment, model: LatentModel | None) -> FrameEnvironment:
    """See that an environment observes frames, those of a model if there is one.

    Args:
        env: a single environment is wrapped in `RenderFrame` (and `FrameSkip`), unless it is
            already; the workers of a vector must be.
        model: says what frames it was trained on; `None` takes frames of the usual size.

    Raises:
        EnvironmentMismatch: it observes no frames, or others than the model was trained on.
    """
    workers: Workers
    if isinstance(env, VectorEnv):
        workers = GymnasiumWorkers(env)
        _refuse_vector_of_latents(env)
    else:
        refuse_latents(OneEnvironment(env))
        if made_frames(OneEnvironment(env)) is None:
            env = _rendered(env, model)
        workers = OneEnvironment(env)
    refuse_latents(workers)
    made = made_frames(workers)
    if made is None:
        raise EnvironmentMismatch(
            "SLAC requires environments that observe frames: wrap each of the vector in "
            "latentwrap.RenderFrame where it runs, as with make_vec(..., wrappers=[RenderFrame])."
        )
    skip = repeated(workers)[0]
    if model is not None:
        _check_fits(model, made, skip, env)
    return FrameEnvironment(env, made.frames, made.vectors, skip)


def _refuse_vector_of_latents(env: VectorEnv[Any, Any, Any]) -> None:
    if outermost(env, "model_fingerprint") is not None:
        raise EnvironmentMismatch(
            "The environments observe the latents of a model already: pass those inside."
        )


def _rendered(env: gym.Env[Any, Any], model: LatentModel | None) -> RenderFrame:
    if model is None:
        return RenderFrame(env)
    (inside,) = repeated(OneEnvironment(env))
    if inside == 1 < model.frame_skip:
        env = FrameSkip(env, model.frame_skip)
    options = frame_options(model.frame_spec)
    return RenderFrame(env, **options, vector_keys=model.vector_spec.names)


def _check_fits(model: LatentModel, made: MadeFrames, skip: int, env: Environment) -> None:
    def require(name: str, expected: Any, found: Any) -> None:
        if expected != found:
            raise EnvironmentMismatch(
                f"The model expects {name} {expected}, the environment gives {found}: make it "
                "give those, or begin with another model."
            )

    require("frames of shape", model.frame_spec.shape, made.frames.shape)
    if len(model.frame_spec.names) > 1:  # the name of a single one does not matter
        require("cameras", model.frame_spec.names, made.frames.names)
    check_made(made.frames, model.frame_spec, FrameFitter(model.frame_spec, 1, stretch=False))
    require("the vectors", vector_words(model.vector_spec), vector_words(made.vectors))
    require("actions that are repeated so often:", model.frame_skip, skip)
    model.action_spec.check_environment(single_space(env, "action_space"))
