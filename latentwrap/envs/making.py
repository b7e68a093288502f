"""Making any Gymnasium environment so that a frame can be taken from it."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from latentwrap.envs.frames import first_line
from latentwrap.errors import EnvironmentMismatch, LatentwrapError


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
            f"Gymnasium knows no environment {env_id!r}: {first_line(error)}{hint}."
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
        return _made_anew(env, spec, kwargs) if unasked else env
    except LatentwrapError:
        raise
    except (gym.error.Error, ImportError, TypeError, ValueError) as error:
        raise EnvironmentMismatch(
            f"The environment {spec.id} cannot be made: {first_line(error)}."
        ) from error


def _made_anew(env: gym.Env[Any, Any], spec: EnvSpec, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    """With a render mode; as it was where the function that makes it takes none."""
    try:
        again = gym.make(spec, render_mode="rgb_array", **kwargs)
    except TypeError:
        return env
    env.close()
    return again


def _import(module: str, env_id: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise EnvironmentMismatch(
            f"The module of {env_id!r} cannot be imported: {first_line(error)}."
        ) from error


def _offers_images(spec: EnvSpec) -> bool | None:
    """Whether the environment's class renders images; `None` if a function makes it."""
    entry = spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return _renders_images(creator) if hasattr(creator, "metadata") else None


def _renders_images(env: Any) -> bool:
    return "rgb_array" in env.metadata.get("render_modes", [])
