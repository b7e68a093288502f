"""Environments: the bundled pixel task, and how any environment's frames are taken."""

from gymnasium.envs.registration import register, registry

PIXEL_PENDULUM = "latentwrap/PixelPendulum-v0"


def register_environments() -> None:
    """Make the bundled environments known to `gymnasium.make`; called on import."""
    if PIXEL_PENDULUM not in registry:
        register(
            PIXEL_PENDULUM,
            entry_point="latentwrap.envs.pendulum:PixelPendulum",
            max_episode_steps=200,
        )
