"""What `gymnasium.make` and `gymnasium.make_vec` call for a registered latent environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from latentwrap.envs.frames import frame_options
from latentwrap.envs.making import find_spec, make_env
from latentwrap.envs.workers import FrameEnvMaker
from latentwrap.errors import ConfigError
from latentwrap.models import load_model
from latentwrap.wrappers.observation import LatentObservation
from latentwrap.wrappers.vector import VectorLatentObservation


def make_latent(
    env_id: str,
    ckpt: str | Path,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    render_mode: str | None = None,
    **options: Any,
) -> LatentObservation:
    """One latent environment: `gymnasium.make("latentwrap/Latent-v0", env_id=…, ckpt=…)`.

    Args:
        env_id: id of the environment inside, also `module:id`.
        ckpt: path of a checkpoint.
        env_kwargs: passed on to the environment inside.
        render_mode: likewise; `None` takes `rgb_array` where it is offered.
        options: as of `LatentObservation`.

    Raises:
        LatentwrapError: no such environment or checkpoint, or they do not fit.
    """
    vectorized = {"workers", "autoreset_mode"} & set(options)
    if vectorized:
        raise ConfigError(
            f"{vectorized.pop()} belongs to many environments with one model: call "
            "gymnasium.make_vec without vectorization_mode, which would make a model for each."
        )
    chosen = {} if render_mode is None else {"render_mode": render_mode}
    return LatentObservation(make_env(env_id, **chosen, **(env_kwargs or {})), ckpt, **options)


def make_latent_vec(
    env_id: str,
    ckpt: str | Path,
    *,
    num_envs: int = 1,
    workers: str = "sync",
    autoreset_mode: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    **options: Any,
) -> VectorLatentObservation:
    """Several of them, with one call of the model: `gymnasium.make_vec("latentwrap/Latent-v0", …)`.

    Args:
        env_id: id of the environments inside, also `module:id`.
        ckpt: path of a checkpoint.
        num_envs: how many.
        workers: `sync` steps them here in turn, `async` each in a spawned process, which never
            loads the model.
        autoreset_mode: Gymnasium's; `None` is its NEXT_STEP.
        env_kwargs: passed on to the environments inside.
        render_mode: likewise; `None` takes `rgb_array` where it is offered.
        max_episode_steps: likewise; `None` takes the environment's own.
        options: as of `LatentObservation`.

    Raises:
        LatentwrapError: no such environment or checkpoint, or they do not fit.
    """
    if num_envs < 1:
        raise ConfigError(f"make_vec requires num_envs of at least 1, got {num_envs}.")
    if workers not in ("sync", "async"):
        raise ConfigError(f"make_vec requires workers of sync or async, got {workers!r}.")
    model = load_model(ckpt, device=options.pop("device", "cpu"))
    frames = frame_options(model.frame_spec)
    frames |= {name: options.pop(name) for name in ("image_keys", "layout") if options.get(name)}
    vector_keys = options.pop("vector_keys", None)
    skip = options.pop("frame_skip", None)
    limits = {"render_mode": render_mode, "max_episode_steps": max_episode_steps}
    chosen = {name: value for name, value in limits.items() if value is not None}
    make = FrameEnvMaker(
        find_spec(env_id),
        model.frame_skip if skip is None else skip,
        **frames,
        vector_keys=model.vector_spec.names if vector_keys is None else tuple(vector_keys),
        env_kwargs={**chosen, **(env_kwargs or {})},
    )
    mode = {} if autoreset_mode is None else {"autoreset_mode": autoreset_mode}
    makers = [make] * num_envs
    envs: VectorEnv[Any, Any, Any] = (
        # A fork would copy threads and rendering contexts that do not survive it.
        AsyncVectorEnv(makers, context="spawn", **mode)
        if workers == "async"
        else SyncVectorEnv(makers, **mode)
    )
    return VectorLatentObservation(envs, model, frame_skip=make.frame_skip, **options)
