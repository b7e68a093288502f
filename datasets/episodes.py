"""One episode of experience, and one in the making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frame, Frames
from latentwrap.vectors import VectorSpec

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
        vectors: what was observed beside the frames by name, likewise.
    """

    frames: Frames
    actions: AnyArray
    rewards: FloatArray | None
    terminated: bool
    truncated: bool
    states: Mapping[str, FloatArray] = field(default_factory=dict)
    vectors: Mapping[str, FloatArray] = field(default_factory=dict)


def join_vectors(episode: Episode, spec: VectorSpec) -> FloatArray | None:
    """The vectors of an episode in the order of `spec`, float32 (T+1, V); `None` if one is missing.

    >>> import numpy as np
    >>> frames, actions = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 1), np.int64)
    >>> vectors = {"b": np.float32([[1], [2]]), "a": np.float32([[3], [4]])}
    >>> episode = Episode(frames, actions, None, True, False, vectors=vectors)
    >>> join_vectors(episode, VectorSpec(names=("a", "b"), sizes=(1, 1))).tolist()
    [[3.0, 1.0], [4.0, 2.0]]
    """
    found = [episode.vectors[name] for name in spec.names if name in episode.vectors]
    return np.concatenate(found, axis=1) if found and len(found) == len(spec.names) else None


class Moment(NamedTuple):
    """What belongs to one frame of an episode.

    Attributes:
        frame: uint8 (H, W, C).
        vectors: observed beside it by name, float32 (k,).
        states: what `states_of` found in the environment's info.
    """

    frame: Frame
    vectors: Mapping[str, FloatArray]
    states: Mapping[str, FloatArray]


class EpisodeBuilder:
    """Grows an episode step by step.

    Args:
        first: what the reset gave.

    Raises:
        DatasetError: a vector is not finite.
    """

    def __init__(self, first: Moment) -> None:
        _check_vectors(first.vectors, "at a reset")
        self._frames = [first.frame]
        self._vectors = {name: [value] for name, value in first.vectors.items()}
        self._states = {name: [value] for name, value in first.states.items()}
        self._actions: list[AnyArray] = []
        self._rewards: list[float] = []

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, action: AnyArray, reward: float, moment: Moment) -> None:
        """Append a transition and what it led to.

        Raises:
            DatasetError: the reward or a vector is not finite, or the states changed their names
                or sizes.
        """
        when = f"at step {len(self) + 1} of an episode"
        if not abs(reward) <= _LARGEST:  # also true for NaN
            raise DatasetError(
                f"The environment gave the reward {reward} {when}, "
                "but rewards must be finite in float32: mend or wrap the environment."
            )
        _check_vectors(moment.vectors, when)
        before = {name: len(values[0]) for name, values in self._states.items()}
        now = {name: len(value) for name, value in moment.states.items()}
        if now != before:
            raise DatasetError(
                f"info['state'] must always hold the same names and sizes, "
                f"got {now} after {before}."
            )
        self._actions.append(action)
        self._rewards.append(reward)
        self._frames.append(moment.frame)
        for name, value in moment.vectors.items():
            self._vectors[name].append(value)
        for name, value in moment.states.items():
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
            vectors={name: np.stack(values) for name, values in self._vectors.items()},
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
    return {
        layout.column_name(name, "state"): _numbers(name, value) for name, value in columns.items()
    }


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
        **layout.split_frames(episode.frames, info.frame),
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
        columns[layout.state_path(layout.column_name(name, "state"))] = values
    return columns | _vector_columns(episode, info)


def _vector_columns(episode: Episode, info: DatasetInfo) -> dict[str, AnyArray]:
    names, rows = info.vectors.names, len(episode.actions) + 1
    if set(episode.vectors) != set(names):
        raise DatasetError(
            f"An episode of this dataset requires the vectors {', '.join(names) or 'of no name'}, "
            f"got {', '.join(episode.vectors) or 'none'}."
        )
    columns = {}
    for name, size in zip(names, info.vectors.sizes, strict=True):
        values = episode.vectors[name]
        _require(f"vector {name!r}", values, (rows, size), np.float32)
        if not np.isfinite(values).all():
            raise DatasetError(f"An episode requires finite vectors, {name!r} is not.")
        columns[layout.vector_path(name)] = values
    return columns


def _check_vectors(vectors: Mapping[str, FloatArray], when: str) -> None:
    for name, values in vectors.items():
        if not np.isfinite(values).all():
            raise DatasetError(
                f"The environment gave the vector {name!r} {values.tolist()} {when}, "
                "but vectors must be finite in float32: mend or wrap the environment."
            )


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
