"""The kinds of action that the agent takes; everything else in it is the same for all."""

from __future__ import annotations

from typing import Any, Protocol

from gymnasium import spaces

from latentwrap.agents.config import SACConfig
from latentwrap.agents.continuous import ContinuousActions
from latentwrap.agents.discrete import DiscreteActions
from latentwrap.agents.networks import Actor, Critics
from latentwrap.types import AnyArray, FloatArray


class ActionKind(Protocol):
    """What differs between kinds of action.

    Attributes:
        size: columns of an action in the replay.
    """

    size: int

    def target_entropy(self, config: SACConfig) -> float:
        """The entropy that the temperature steers to, in nats."""

    def make_actor(self, inputs: int, config: SACConfig) -> Actor:
        """A policy on observations of `inputs` columns, not yet initialised."""

    def make_critics(self, inputs: int, config: SACConfig) -> Critics:
        """Critics of observations of `inputs` columns, not yet initialised."""

    def to_row(self, action: Any) -> FloatArray:
        """An action of the environment as the replay stores it, (size,)."""

    def to_actions(self, rows: FloatArray) -> AnyArray:
        """Stored actions (B, size) as the environment takes them, (B, ...)."""


def kind_of(space: spaces.Box | spaces.Discrete) -> ActionKind:
    """How the agent acts in a space.

    Example:
        >>> type(kind_of(spaces.Discrete(2))).__name__
        'DiscreteActions'
    """
    return ContinuousActions(space) if isinstance(space, spaces.Box) else DiscreteActions(space)
