"""Episodes of sources whose last action leads to a frame that was not stored."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.observing import numbers
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, FloatArray, Frames


def episode_of_rows(
    frames: Frames,
    actions: AnyArray,
    rewards: AnyArray | None,
    *,
    terminated: bool,
    states: Mapping[str, AnyArray] | None = None,
    vectors: Mapping[str, FloatArray] | None = None,
) -> Episode:
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
    return Episode(
        frames=frames,
        actions=actions[:steps],
        rewards=None if rewards is None else _rewards(rewards)[:steps],
        terminated=terminated,
        truncated=not terminated,
        states={
            name: _known(column, steps + 1)
            for name, column in (states or {}).items()
            if math.prod(column.shape[1:])
        },
        vectors=dict(vectors or {}),
    )


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
