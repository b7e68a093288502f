"""Environments: the bundled pixel task, latents as environments, and how frames are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gymnasium.envs.registration import register, registry

PIXEL_PENDULUM = "latentwrap/PixelPendulum-v0"
LATENT = "latentwrap/Latent-v0"

MAKE_LATENT = "latentwrap.wrappers.registered:make_latent"
MAKE_LATENT_VEC = "latentwrap.wrappers.registered:make_latent_vec"


def register_environments() -> None:
    """Make the bundled environments known to `gymnasium.make`; called on import."""
    if PIXEL_PENDULUM not in registry:
        register(
            PIXEL_PENDULUM,
            entry_point="latentwrap.envs.pendulum:PixelPendulum",
            max_episode_steps=200,
        )
    if LATENT not in registry:
        _register_latent(LATENT, {})


def register_latent(name: str, *, env_id: str, ckpt: str | Path, **options: Any) -> None:
    """Give a latent environment an id of its own, for tools that take nothing but an id.

    Put the call into a module `my_envs.py`; then `my_envs:LatentCar-v0` works wherever an id does,
    in other processes too, with `gymnasium.make` and `gymnasium.make_vec`.

    Args:
        name: the id.
        env_id: id of the environment inside, also `module:id`.
        ckpt: path of the checkpoint, recorded absolute.
        options: as of `LatentObservation`, and `env_kwargs` for the environment inside.

    Example:
        >>> import latentwrap
        >>> latentwrap.register_latent(
        ...     "LatentCar-v0", env_id="CarRacing-v3", ckpt="car.safetensors"
        ... )
    """
    kwargs = {"env_id": env_id, "ckpt": str(Path(ckpt).resolve()), **options}
    _register_latent(name, kwargs)


def _register_latent(name: str, kwargs: dict[str, Any]) -> None:
    register(
        name,
        entry_point=MAKE_LATENT,
        vector_entry_point=MAKE_LATENT_VEC,
        kwargs=kwargs,
        order_enforce=False,  # the environment inside is checked and its order enforced already
        disable_env_checker=True,
    )
