"""What a wrapper must know of environments that run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gymnasium.vector import VectorEnv

from latentwrap.errors import EnvironmentMismatch
from latentwrap.pixels import FrameSpec


class Workers(Protocol):
    """Asks every environment of a vector."""

    def attributes(self, name: str) -> Sequence[Any] | None:
        """The attribute of each environment; `None` where they have none or cannot be asked."""


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


def worker_frames(workers: Workers) -> FrameSpec | None:
    """The frames that `latentwrap.RenderFrame` makes in the workers; `None` if it is not there."""
    specs = workers.attributes("frame_spec")
    found = specs[0] if specs else None
    return found if isinstance(found, FrameSpec) else None


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
    found = workers.attributes("action_repeat") or [1]
    if any(repeat != trained for repeat in found):
        raise EnvironmentMismatch(
            f"The checkpoint expects every action to be taken {trained} times, the environments "
            f"take it {found[0]} times: wrap each in latentwrap.FrameSkip(env, {trained}) where "
            "it runs, or pass frame_skip to say what they do."
        )
