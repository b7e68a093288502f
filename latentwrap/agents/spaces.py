"""Which environments an agent can act in."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.actions import describe
from latentwrap.errors import CheckpointError, EnvironmentMismatch


class HasSpaces(Protocol):
    """What an agent remembers of the environment that it learned in."""

    observation_space: spaces.Box
    action_space: spaces.Box
    model_fingerprint: str | None


def checked_observations(env: gym.Env[Any, Any]) -> spaces.Box:
    """The observation space, if the agent can learn from it.

    Raises:
        EnvironmentMismatch: it is not a Box.
    """
    space = env.observation_space
    if not isinstance(space, spaces.Box):
        raise EnvironmentMismatch(
            f"SAC requires a Box observation, got {space}: wrap the environment in "
            "latentwrap.LatentObservation or gymnasium.wrappers.FlattenObservation."
        )
    return space


def checked_actions(env: gym.Env[Any, Any]) -> spaces.Box:
    """The action space, if the agent can act in it.

    Raises:
        EnvironmentMismatch: it is not a Box with finite bounds.
    """
    space = env.action_space
    if not isinstance(space, spaces.Box) or not space.is_bounded("both"):
        raise EnvironmentMismatch(
            f"SAC requires a Box action with finite bounds, got {space}: bound the actions in a "
            "wrapper, or use LatentObservation with a library that takes such actions."
        )
    return space


def fingerprint_of(env: gym.Env[Any, Any]) -> str | None:
    """Which latent model the observations come from, if from one."""
    if not env.has_wrapper_attr("model_fingerprint"):
        return None
    fingerprint: str | None = env.get_wrapper_attr("model_fingerprint")
    return fingerprint


def check_fits(agent: HasSpaces, env: gym.Env[Any, Any], *, source: str) -> None:
    """Refuse an environment unlike the one that the agent learned in.

    Args:
        agent: what it learned with.
        env: where it is to act.
        source: how to name the agent in the message.

    Raises:
        CheckpointError: other spaces, or another latent model.
    """
    for name in ("observation_space", "action_space"):
        mine, theirs = getattr(agent, name), getattr(env, name)
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


def _alike(mine: spaces.Box, theirs: spaces.Space[Any]) -> bool:
    if not isinstance(theirs, spaces.Box) or mine.shape != theirs.shape:
        return False
    return np.allclose(mine.low, theirs.low) and np.allclose(mine.high, theirs.high)
