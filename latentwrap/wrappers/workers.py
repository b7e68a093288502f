"""What a wrapper must know of environments, also of those that run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, VectorEnv, VectorWrapper

from latentwrap.envs.frames import FRAME_SKIP
from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import FrameSpec
from latentwrap.vectors import VectorSpec

Environment: TypeAlias = gym.Env[Any, Any] | VectorEnv[Any, Any, Any]
"""A single environment, or a vector of them."""


def single_space(env: Environment, name: str) -> gym.Space[Any]:
    """The space of one environment, `observation_space` or `action_space`."""
    prefix = "single_" if isinstance(env, VectorEnv) else ""
    found: gym.Space[Any] = getattr(env, f"{prefix}{name}")
    return found


def outermost(envs: VectorEnv[Any, Any, Any], name: str) -> VectorEnv[Any, Any, Any] | None:
    """The outermost of a vector environment's wrappers, or itself, that has an attribute."""
    while not hasattr(envs, name) and isinstance(envs, VectorWrapper):
        envs = envs.env
    return envs if hasattr(envs, name) else None


def overlaps(env: Environment) -> bool:
    """Whether it steps in processes of its own between `step_async` and `step_wait`.

    A wrapper that says nothing of it is asked in one call, for it may have something to do there.
    """
    if isinstance(env, AsyncVectorEnv):
        return True
    return hasattr(type(env), "overlaps") and bool(env.overlaps)  # type: ignore[union-attr]


class Workers(Protocol):
    """Asks every environment."""

    def attributes(self, name: str) -> Sequence[Any] | None:
        """The attribute of each environment; `None` where they have none or cannot be asked."""


class OneEnvironment:
    """A single environment.

    Args:
        env: it.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env

    def attributes(self, name: str) -> Sequence[Any] | None:
        """Its own."""
        return [self._env.get_wrapper_attr(name)] if self._env.has_wrapper_attr(name) else None


class GymnasiumWorkers:
    """The environments of a Gymnasium vector environment.

    Args:
        envs: any; only those with `call` can be asked.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        self._envs = envs.unwrapped

    def attributes(self, name: str) -> Sequence[Any] | None:
        """Ask first whether there is one: a worker that fails to answer is closed for good."""
        call = getattr(self._envs, "call", None)
        if call is None or not all(call("has_wrapper_attr", name)):
            return None
        values: Sequence[Any] = call(name)
        return values


@dataclass(frozen=True)
class MadeFrames:
    """What `latentwrap.RenderFrame` observes."""

    frames: FrameSpec
    vectors: VectorSpec


def made_frames(workers: Workers) -> MadeFrames | None:
    """What `latentwrap.RenderFrame` observes in the environments; `None` if it is not there."""
    frames, vectors = workers.attributes("frame_spec"), workers.attributes("vector_spec")
    if not frames or not vectors or not isinstance(frames[0], FrameSpec):
        return None
    return MadeFrames(frames[0], vectors[0])


def refuse_latents(workers: Workers) -> None:
    """Refuse environments that observe latents already.

    Raises:
        EnvironmentMismatch: they do.
    """
    if workers.attributes("model_fingerprint") is not None:
        raise EnvironmentMismatch(
            "The environment observes the latents of a model already, and would be filtered "
            "twice: use it as it is, or wrap the environment inside."
        )


def repeated(workers: Workers) -> Sequence[int]:
    """How often each environment repeats an action by `latentwrap.FrameSkip`."""
    return workers.attributes(FRAME_SKIP) or [1]


def check_frame_skip(workers: Workers, trained: int, *, declared: int | None) -> None:
    """Refuse workers that repeat actions otherwise than the pretraining data did.

    Args:
        workers: the environments.
        trained: how often an action was repeated in the data.
        declared: what the user says that they do; `None` asks them.

    Raises:
        EnvironmentMismatch: they do otherwise, or cannot be asked.
    """
    if declared is not None:
        return
    found = repeated(workers)
    if any(skip != trained for skip in found):
        raise EnvironmentMismatch(
            f"The checkpoint expects every action to be taken {trained} times, the environments "
            f"take it {found[0]} times: wrap each in latentwrap.FrameSkip(env, {trained}) where "
            "it runs, or pass frame_skip to say what they do."
        )
