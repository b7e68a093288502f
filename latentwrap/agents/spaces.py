"""Which environments an agent can act in, single ones and vectors alike."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from latentwrap.actions import describe
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.wrappers.workers import Environment, outermost, single_space

ActionSpace: TypeAlias = spaces.Box | spaces.Discrete
"""What an agent can act in."""


class HasSpaces(Protocol):
    """What an agent remembers of the environment that it learned in."""

    observation_space: spaces.Box
    action_space: ActionSpace

    @property
    def model_fingerprint(self) -> str | None:
        """The latent model whose latents it learned from, where there is one."""


def checked_observations(env: Environment) -> spaces.Box:
    """The observation space of one environment, if the agent can learn from it.

    Raises:
        EnvironmentMismatch: it is not a Box.
    """
    space = single_space(env, "observation_space")
    if not isinstance(space, spaces.Box):
        raise EnvironmentMismatch(
            f"SAC requires a Box observation, got {space}: wrap the environment in "
            "latentwrap.LatentObservation or gymnasium.wrappers.FlattenObservation."
        )
    return space


def checked_actions(env: Environment) -> ActionSpace:
    """The action space of one environment, if the agent can act in it.

    Raises:
        EnvironmentMismatch: it is neither Discrete nor a Box with finite bounds.
    """
    space = single_space(env, "action_space")
    if isinstance(space, spaces.Box) and not space.is_bounded("both"):
        raise EnvironmentMismatch(
            f"SAC requires a Box action with finite bounds, got {space}: bound the actions in a "
            "wrapper, or use LatentObservation with a library that takes such actions."
        )
    if not isinstance(space, spaces.Box | spaces.Discrete):
        raise EnvironmentMismatch(
            f"SAC requires a Box or Discrete action, got {space}: map a Discrete action onto it "
            "with gymnasium.wrappers.TransformAction, or use LatentObservation with an agent that "
            "takes MultiDiscrete and MultiBinary, such as PPO of Stable-Baselines3."
        )
    return space


def fingerprint_of(env: Environment) -> str | None:
    """Which latent model the observations come from, if from one.

    Raises:
        EnvironmentMismatch: the environments of a vector use different models.
    """
    if isinstance(env, VectorEnv):
        return _vector_fingerprint(env)
    if not env.has_wrapper_attr("model_fingerprint"):
        return None
    fingerprint: str | None = env.get_wrapper_attr("model_fingerprint")
    return fingerprint


def check_fits(agent: HasSpaces, env: Environment, *, source: str) -> None:
    """Refuse an environment unlike the one that the agent learned in.

    Args:
        agent: what it learned with.
        env: where it is to act.
        source: how to name the agent in the message.

    Raises:
        CheckpointError: other spaces, or another latent model.
    """
    for name in ("observation_space", "action_space"):
        mine, theirs = getattr(agent, name), single_space(env, name)
        if not _alike(mine, theirs):
            raise CheckpointError(
                f"{source} expects the {name.replace('_', ' ')} {describe(mine)}, the "
                f"environment has {describe(theirs)}."
            )
    if agent.model_fingerprint != fingerprint_of(env):
        raise CheckpointError(
            f"{source} was trained on the latents of another model than this environment's: "
            "wrap the environment with the model it was trained with."
        )


def _vector_fingerprint(env: VectorEnv[Any, Any, Any]) -> str | None:
    filtered: Any = outermost(env, "model_fingerprint")
    if filtered is not None:
        fingerprint: str | None = filtered.model_fingerprint
        return fingerprint
    # Each environment inside may have a model of its own.
    env = env.unwrapped
    if not isinstance(env, SyncVectorEnv | AsyncVectorEnv):
        return None
    if not all(env.call("has_wrapper_attr", "model_fingerprint")):
        return None
    found = set(env.get_attr("model_fingerprint"))
    if len(found) > 1:
        raise EnvironmentMismatch(
            f"The {env.num_envs} environments of a vector must use one latent model, got "
            f"{len(found)}: make them all with the same checkpoint."
        )
    return str(found.pop()) if found != {None} else None


def _alike(mine: ActionSpace, theirs: spaces.Space[Any]) -> bool:
    if isinstance(mine, spaces.Discrete):
        return isinstance(theirs, spaces.Discrete) and (mine.n, mine.start) == (
            theirs.n,
            theirs.start,
        )
    if not isinstance(theirs, spaces.Box) or mine.shape != theirs.shape:
        return False
    return np.allclose(mine.low, theirs.low) and np.allclose(mine.high, theirs.high)
