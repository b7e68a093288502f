"""The columns of a file other than its frames: checked, then held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from latentwrap.actions import choices
from latentwrap.datasets import layout
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Columns:
    """What a file holds beside frames, for N rows in E episodes.

    Attributes:
        starts, lengths: first row and number of rows of each episode, int64 (E,).
        actions: stored form, (N, A).
        rewards: float32 (N,), or `None`.
        terminations, truncations: bool (N,).
        states: physical truth by name, float32 (N, k).
        vectors: all vectors joined, float32 (N, V), or `None` where there are none.
    """

    starts: IntArray
    lengths: IntArray
    actions: AnyArray
    rewards: FloatArray | None
    terminations: BoolArray
    truncations: BoolArray
    states: Mapping[str, FloatArray]
    vectors: FloatArray | None


Seen = Mapping[str, tuple[tuple[int, ...], Any]]
"""Columns of what was seen: the shape of a row and the dtype of each."""


def read_columns(
    file: h5py.File, info: DatasetInfo, path: Path, *, seen: Seen | None = None
) -> Columns:
    """Read all columns but the frames, after checking that they are what the layout says.

    Args:
        file: open.
        info: what it is of.
        path: of the file, for messages.
        seen: the columns that are there instead of frames, such as latents.

    Raises:
        DatasetError: a column is missing or has another shape or dtype, the index does not
            cover the rows, there is no episode, or values cannot be actions, rewards or vectors.
    """
    check_layout(file, info, path, frame_columns(info) if seen is None else seen)
    columns = Columns(
        starts=file[layout.EPISODE_START][:],
        lengths=file[layout.EPISODE_LENGTH][:],
        actions=file[layout.ACTIONS][:],
        rewards=file[layout.REWARDS][:] if layout.REWARDS in file else None,
        terminations=file[layout.TERMINATIONS][:],
        truncations=file[layout.TRUNCATIONS][:],
        states={name: file[layout.state_path(name)][:] for name in _state_names(file)},
        vectors=_read_vectors(file, info),
    )
    _check_index(columns, len(columns.actions), path)
    check_values(columns, info, path)
    return columns


def check_values(columns: Columns, info: DatasetInfo, path: Path) -> None:
    """Refuse actions, rewards, vectors and flags that cannot be what they say.

    Args:
        columns: with an index that covers them.
        info: what they are of.
        path: where they are from, for messages.

    Raises:
        DatasetError: there is such a value.
    """
    _check_flags(columns, path)
    _check_finite(columns, path)
    _check_padding(columns, path)
    _check_discrete(columns, info, path)


def check_layout(file: h5py.File, info: DatasetInfo, path: Path, seen: Seen) -> None:
    """Compare shapes and dtypes before anything is read: a foreign column may be huge.

    Raises:
        DatasetError: a column is missing or has another shape or dtype.
    """
    for name in (*seen, *layout.REQUIRED):
        if not isinstance(file.get(name), h5py.Dataset):
            raise DatasetError(
                f"{path} lacks the column /{name}, which layout version {layout.VERSION} requires: "
                "get it anew."
            )
    rows, episodes = _length(file[next(iter(seen))]), _length(file[layout.EPISODE_LENGTH])
    expected: dict[str, tuple[tuple[int | None, ...], Any]] = {
        **{name: ((rows, *shape), dtype) for name, (shape, dtype) in seen.items()},
        layout.ACTIONS: ((rows, info.action.stored_size), info.action.stored_dtype),
        layout.TERMINATIONS: ((rows,), np.bool_),
        layout.TRUNCATIONS: ((rows,), np.bool_),
        layout.EPISODE_START: ((episodes,), np.int64),
        layout.EPISODE_LENGTH: ((episodes,), np.int64),
    }
    for name, size in zip(info.vectors.names, info.vectors.sizes, strict=True):
        expected[layout.vector_path(name)] = ((rows, size), np.float32)
    if layout.REWARDS in file:
        expected[layout.REWARDS] = ((rows,), np.float32)
    for name in _state_names(file):
        expected[layout.state_path(name)] = ((rows, None), np.float32)
    for name, (shape, dtype) in expected.items():
        _check_column(file[name], name, shape, np.dtype(dtype), path)


def frame_columns(info: DatasetInfo) -> Seen:
    """The columns of the frames: the shape of a row and the dtype of each."""
    paths, panels = layout.frame_paths(info.frame), info.frame.panels
    return {path: (panel.shape, np.uint8) for path, panel in zip(paths, panels, strict=True)}


def _check_column(
    column: Any, name: str, shape: tuple[int | None, ...], dtype: np.dtype[Any], path: Path
) -> None:
    """Refuse a column of another shape (`None`: any size) or dtype."""
    found = column.shape if isinstance(column, h5py.Dataset) else None
    fits = (
        found is not None
        and len(found) == len(shape)
        and all(want in (None, have) for have, want in zip(found, shape, strict=True))
        and column.dtype == dtype
    )
    if not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        got = "a group" if found is None else f"{column.dtype} {found}"
        raise DatasetError(f"{path} requires /{name} to be {dtype} ({sizes}), got {got}.")


def _length(column: h5py.Dataset) -> int:
    return int(column.shape[0]) if column.shape else 0


def _state_names(file: h5py.File) -> list[str]:
    states = file.get(layout.STATE)
    return sorted(states) if isinstance(states, h5py.Group) else []


def _read_vectors(file: h5py.File, info: DatasetInfo) -> FloatArray | None:
    columns = [file[layout.vector_path(name)][:] for name in info.vectors.names]
    return np.concatenate(columns, axis=1) if columns else None


def _check_index(columns: Columns, rows: int, path: Path) -> None:
    starts, lengths = columns.starts, columns.lengths
    if not len(lengths):
        raise DatasetError(f"{path} holds no episodes: collect some first.")
    ends = np.cumsum(np.clip(lengths, 0, rows))  # an absurd length must not wrap the sum around
    contiguous = (
        bool(((lengths >= 2) & (lengths <= rows)).all())
        and np.array_equal(starts, ends - lengths)
        and int(ends[-1]) == rows
    )
    if not contiguous:
        raise DatasetError(
            f"{path} has an episode index that does not cover its {rows} rows "
            "one episode after the other: get it anew."
        )


def _check_flags(columns: Columns, path: Path) -> None:
    """Refuse truths whose byte is neither 0 nor 1: NumPy counts those as more than one."""
    for flags in (columns.terminations, columns.truncations):
        if (flags.view(np.uint8) > 1).any():
            raise DatasetError(
                f"{path} has a termination or truncation that is neither true nor false: "
                "get it anew."
            )


def _check_finite(columns: Columns, path: Path) -> None:
    checked = {
        "actions": columns.actions,
        "rewards": columns.rewards,
        "vectors": columns.vectors,
    }
    for name, column in checked.items():
        if column is None or np.isfinite(column).all():
            continue
        row = int(np.argwhere(~np.isfinite(column))[0, 0])
        raise DatasetError(
            f"{path} has {name} that are NaN or infinite, first in row {row}: "
            "leave such episodes out."
        )


def _check_padding(columns: Columns, path: Path) -> None:
    """Padding is zero (returns are sums over rows) and no episode goes on after its end."""
    last = columns.starts + columns.lengths - 1
    padding = [columns.actions[last], columns.terminations[last], columns.truncations[last]]
    if columns.rewards is not None:
        padding.append(columns.rewards[last])
    if any(values.any() for values in padding):
        raise DatasetError(
            f"{path} has an action, reward or flag in the last row of an episode, which the layout "
            "requires to be zero: get it anew."
        )
    for flags in (columns.terminations, columns.truncations):
        if flags.sum() != flags[last - 1].sum():
            raise DatasetError(
                f"{path} has an episode that goes on after its termination or truncation: "
                "get it anew."
            )


def _check_discrete(columns: Columns, info: DatasetInfo, path: Path) -> None:
    """Refuse choices that the action space does not have; a Box is clipped by the model."""
    low, count = choices(info.action.space)
    if count is None:
        return
    known = (columns.actions >= low) & (columns.actions < low + count)
    known[columns.starts + columns.lengths - 1] = True  # padding is zero, also where zero is none
    if not known.all():
        row = int(np.argwhere(~known)[0, 0])
        raise DatasetError(
            f"{path} has an action {columns.actions[row].tolist()} in row {row} that its action "
            f"space {info.action.space} does not have: leave such episodes out."
        )
