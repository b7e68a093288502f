"""How vector environments begin the next episode."""

from __future__ import annotations

import warnings
from enum import Enum
from typing import Any

from gymnasium.vector import VectorEnv

from latentwrap.errors import EnvironmentMismatch


class Autoreset(Enum):
    """Gymnasium's modes, which its version 1.0 has no names for.

    Attributes:
        NEXT_STEP: the step after an end is the reset, and ignores its action.
        SAME_STEP: the step that ends an episode also resets; the last observation is in the infos.
        DISABLED: nothing is reset unless asked for.
    """

    NEXT_STEP = "NextStep"
    SAME_STEP = "SameStep"
    DISABLED = "Disabled"


def autoreset_of(envs: VectorEnv[Any, Any, Any]) -> Autoreset:
    """The mode of a vector environment; NEXT_STEP, with a warning, where it names none.

    Raises:
        EnvironmentMismatch: a mode that does not exist.

    Example:
        >>> import gymnasium
        >>> autoreset_of(gymnasium.make_vec("CartPole-v1", num_envs=2))
        <Autoreset.NEXT_STEP: 'NextStep'>
    """
    named = envs.metadata.get("autoreset_mode")
    if named is None:
        warnings.warn(
            f"{type(envs).__name__} names no autoreset mode in its metadata and is taken for "
            "NEXT_STEP: set metadata['autoreset_mode'] if it has another.",
            stacklevel=3,
        )
        return Autoreset.NEXT_STEP
    try:
        return Autoreset(getattr(named, "value", named))
    except ValueError:
        known = ", ".join(mode.name for mode in Autoreset)
        raise EnvironmentMismatch(
            f"A vector environment requires an autoreset mode of {known}, got {named!r}."
        ) from None
