"""One episode of experience, and one in the making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frame, Frames

_LARGEST = float(np.finfo(np.float32).max)


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
            DatasetError: the reward is not finite, or the states changed their names or sizes.
        """
        if not abs(reward) <= _LARGEST:  # also true for NaN
            raise DatasetError(
                f"The environment gave the reward {reward} at step {len(self) + 1} of an episode, "
                "but rewards must be finite in float32: mend or wrap the environment."
            )
        before = {name: len(values[0]) for name, values in self._states.items()}
        now = {name: len(value) for name, value in states.items()}
        if now != before:
            raise DatasetError(
                f"info['state'] must always hold the same names and sizes, "
                f"got {now} after {before}."
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
    """The physical state in an environment's info, by column name, each float32 (k,).

    An array `info["state"]` becomes one column named `state`, a dict one column per key.

    Raises:
        DatasetError: a state that is not numeric, or a name that cannot be a column's.

    >>> states_of({"state": [1, 2]})
    {'state': array([1., 2.], dtype=float32)}
    """
    state = info.get("state")
    if state is None:
        return {}
    columns = state if isinstance(state, Mapping) else {"state": state}
    return {_column_name(name): _numbers(name, value) for name, value in columns.items()}


def columns_of(episode: Episode, info: DatasetInfo) -> dict[str, AnyArray]:
    """The columns of one episode as the layout has them, padded to one row for each frame.

    Raises:
        DatasetError: its arrays do not fit each other or the dataset, or hold NaN or infinity.
    """
    steps = len(episode.actions)
    if steps < 1:
        raise DatasetError("An episode requires at least one transition, got none.")
    actions, rewards = episode.actions, episode.rewards
    _require("frames", episode.frames, (steps + 1, *info.frame.shape), np.uint8)
    _require("actions", actions, (steps, info.action.stored_size), info.action.stored_dtype)
    ends = np.zeros((2, steps), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    columns: dict[str, AnyArray] = {
        layout.FRAMES: episode.frames,
        layout.ACTIONS: _padded(actions),
        layout.TERMINATIONS: _padded(ends[0]),
        layout.TRUNCATIONS: _padded(ends[1]),
    }
    if rewards is not None:
        _require("rewards", rewards, (steps,), np.float32)
        columns[layout.REWARDS] = _padded(rewards)
    for name, values in episode.states.items():
        size = values.shape[1] if values.ndim == 2 else 1
        _require(f"state {name!r}", values, (steps + 1, size), np.float32)
        columns[layout.state_path(_column_name(name))] = values
    return columns


def _require(what: str, array: AnyArray, shape: tuple[int, ...], dtype: Any) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise DatasetError(
            f"An episode of {shape[0]} rows requires {what} to be {np.dtype(dtype)} {shape}, "
            f"got {array.dtype} {array.shape}."
        )
    if what in ("actions", "rewards") and not np.isfinite(array).all():
        raise DatasetError(f"An episode requires finite {what}, got NaN or infinity.")


def _padded(column: AnyArray) -> AnyArray:
    return np.concatenate([column, np.zeros_like(column[:1])])


def _column_name(name: Any) -> str:
    if not isinstance(name, str) or "/" in name or name in ("", "."):
        raise DatasetError(
            f"A state requires a name that is a non-empty text without '/', got {name!r}."
        )
    return name


def _numbers(name: Any, value: Any) -> FloatArray:
    try:
        numbers = np.array(value, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0, np.float32)
    if not numbers.size:
        raise DatasetError(
            f"info['state'] requires numbers or non-empty arrays of numbers, got {value!r} "
            f"for {name!r}."
        )
    return numbers
