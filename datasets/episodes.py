"""One episode of experience, and one in the making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frame, Frames


@dataclass(frozen=True)
class Episode:
    """T transitions between T+1 frames.

    Attributes:
        frames: uint8 (T+1, H, W, C).
        actions: stored form, (T, A); action t was taken after frame t.
        rewards: float32 (T,), or `None` where there are none.
        terminated, truncated: how the episode ended.
        states: physical truth by name, float32 (T+1, k); row t belongs to frame t.
    """

    frames: Frames
    actions: AnyArray
    rewards: FloatArray | None
    terminated: bool
    truncated: bool
    states: Mapping[str, FloatArray] = field(default_factory=dict)


class EpisodeBuilder:
    """Grows an episode step by step.

    Args:
        frame: the first frame.
        states: what `states_of` found in the info of the reset.
    """

    def __init__(self, frame: Frame, states: Mapping[str, FloatArray]) -> None:
        self._frames = [frame]
        self._states = {name: [value] for name, value in states.items()}
        self._actions: list[AnyArray] = []
        self._rewards: list[float] = []

    def __len__(self) -> int:
        return len(self._actions)

    def add(
        self, action: AnyArray, reward: float, frame: Frame, states: Mapping[str, FloatArray]
    ) -> None:
        """Append a transition and the frame that it led to.

        Raises:
            DatasetError: the reward is not finite, or the states changed their names.
        """
        if not np.isfinite(reward):
            raise DatasetError(
                f"The environment gave the reward {reward} at step {len(self) + 1} of an episode: "
                "rewards must be finite."
            )
        if states.keys() != self._states.keys():
            raise DatasetError(
                f"info['state'] must always hold the same names, got {sorted(states)} after "
                f"{sorted(self._states)}."
            )
        self._actions.append(action)
        self._rewards.append(reward)
        self._frames.append(frame)
        for name, value in states.items():
            self._states[name].append(value)

    def build(self, *, terminated: bool, truncated: bool) -> Episode:
        """The episode so far."""
        return Episode(
            frames=np.stack(self._frames),
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            states={name: np.stack(values) for name, values in self._states.items()},
        )


def states_of(info: Mapping[str, Any]) -> dict[str, FloatArray]:
    """The physical state in an environment's info, by column name.

    An array `info["state"]` becomes one column named `state`, a dict one column per key.

    >>> states_of({"state": [1, 2]})
    {'state': array([1., 2.], dtype=float32)}
    """
    state = info.get("state")
    if state is None:
        return {}
    columns = state if isinstance(state, Mapping) else {"state": state}
    return {str(name): np.float32(value).reshape(-1) for name, value in columns.items()}
