"""Episodes of sources whose last action leads to a frame that was not stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.observing import numbers
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frames


@dataclass(frozen=True)
class CutEpisode(Episode):
    """An episode that may lack its last transition, because nobody stored where that led.

    Attributes:
        lost_reward: that transition had a reward other than 0.
        moved_end: it terminated the episode, which now ends with the transition before.
    """

    lost_reward: bool = False
    moved_end: bool = False


def episode_of_rows(
    frames: Frames,
    actions: AnyArray,
    rewards: AnyArray | None,
    *,
    terminated: bool,
    states: Mapping[str, AnyArray] | None = None,
    vectors: Mapping[str, FloatArray] | None = None,
) -> CutEpisode:
    """An episode of rows "frame t, action t, what came of it".

    With one frame more than actions, the last one is where the last action led. With equally many
    that frame is unknown, so the last action and its reward are dropped, and the end moves to the
    transition before: it says that nothing follows the last frame that is known. To repeat that
    frame instead would teach a model that the last action changes nothing.

    Args:
        frames: uint8 (T+1, H, W, C) or (T, H, W, C).
        actions: stored form, (T, A).
        rewards: (T,) or (T, 1), or `None`.
        terminated: how it ended; what did not terminate was cut.
        states: physical truth by name, (n, ...); rows beyond n are not known, and become NaN.
        vectors: observed beside the frames, float32 (rows of frames, k).

    Raises:
        DatasetError: several rewards in a row.
    """
    steps = len(frames) - 1
    earned = None if rewards is None else _rewards(rewards)
    return CutEpisode(
        frames=frames,
        actions=actions[:steps],
        rewards=None if earned is None else earned[:steps],
        terminated=terminated,
        truncated=not terminated,
        states={
            name: _known(column, steps + 1)
            for name, column in (states or {}).items()
            if math.prod(column.shape[1:])
        },
        vectors=dict(vectors or {}),
        lost_reward=earned is not None and bool(np.any(earned[steps : len(actions)] != 0)),
        moved_end=terminated and len(actions) > steps,
    )


def ended(flags: AnyArray, path: Path) -> bool:
    """Whether an episode terminated, from a flag for each of its rows.

    Raises:
        DatasetError: it went on afterwards, so that there are several.

    >>> ended(np.array([0, 0, 1]), Path("a.npz"))
    True
    """
    found = np.asarray(flags).reshape(-1).astype(bool)
    if found[:-1].any():
        raise DatasetError(
            f"{path} requires one episode, but one is over in row {int(found.argmax())} of "
            f"{len(found)}: write every episode to a file of its own."
        )
    return bool(found[-1:].any())


def _rewards(rewards: AnyArray) -> FloatArray:
    columns = numbers(rewards)
    if columns.shape[1] != 1:
        raise DatasetError(
            f"A step requires one reward, got {columns.shape[1]}: choose one in the source."
        )
    return columns[:, 0]


def _known(column: AnyArray, rows: int) -> FloatArray:
    values = numbers(column)[:rows]
    unknown = np.full((rows - len(values), values.shape[1]), np.nan, np.float32)
    return np.concatenate([values, unknown])
