"""Physical truth beside the frames, where an environment lets it be seen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.envs.mujoco import find_scene, physical_state
from latentwrap.types import FloatArray

_MOST_NUMBERS = 1024
"""An observation with more is no low-dimensional state."""


def with_states(
    env: gym.Env[Any, Any],
    observation: Any,
    info: dict[str, Any],
    *,
    rendered: bool,
    vectors: Collection[str] = (),
) -> dict[str, Any]:
    """The info with an entry `state`; the environment's own stays as it is.

    Args:
        env: the environment; of MuJoCo's, `qpos` and `qvel` are taken.
        observation: what it observes. Where the picture is rendered, this is the truth: a Box
            of a few numbers becomes `observation`, entries of a Dict are named by their keys.
        info: of the environment.
        rendered: whether the picture is rendered instead of observed.
        vectors: entries that the model may see; no truth to be probed.

    Returns:
        A new dict, or `info` where there is nothing to add.

    Example:
        >>> env = gym.make("CartPole-v1")
        >>> observation, info = env.reset(seed=0)
        >>> with_states(env, observation, info, rendered=True)["state"]["observation"].shape
        (4,)
    """
    if info.get("state") is not None:
        return info
    found = dict(_observed(env.observation_space, observation, "")) if rendered else {}
    scene = find_scene(env)
    states = {name: numbers for name, numbers in found.items() if name not in vectors}
    if scene is not None:
        states |= physical_state(scene)
    # A column of a file cannot have a slash in its name.
    columns = {name.replace("/", "."): numbers for name, numbers in states.items()}
    return {**info, "state": columns} if columns else info


def _observed(
    space: gym.Space[Any], observation: Any, name: str
) -> Iterator[tuple[str, FloatArray]]:
    """The parts of an observation that are a few numbers, by name."""
    if isinstance(space, spaces.Dict):
        for key, entry in space.spaces.items():
            part = observation[key] if isinstance(observation, Mapping) else None
            yield from _observed(entry, part, f"{name}.{key}" if name else key)
        return
    if observation is None or not space.is_np_flattenable:
        return
    if 0 < spaces.flatdim(space) <= _MOST_NUMBERS:
        flat = np.asarray(spaces.flatten(space, observation), np.float32)
        yield name or "observation", flat.reshape(-1)
