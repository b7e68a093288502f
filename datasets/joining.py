"""Several files as one dataset: which they are, whether they fit, and their columns joined."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from latentwrap.actions import describe
from latentwrap.datasets.columns import Columns
from latentwrap.datasets.shard import Shard
from latentwrap.errors import DatasetError
from latentwrap.pixels import FrameSpec
from latentwrap.types import FloatArray

Source: TypeAlias = "str | Path | Sequence[str | Path]"
"""A file, a pattern such as `shards/*.h5`, or several of either."""


def find_files(source: Source) -> tuple[Path, ...]:
    """The files that a source names, each pattern's in the order of their names.

    Raises:
        DatasetError: a pattern that fits no file, no file at all, or one named twice.

    >>> find_files(["a.h5", "b.h5"])
    (PosixPath('a.h5'), PosixPath('b.h5'))
    """
    named = [source] if isinstance(source, str | Path) else list(source)
    files = [path for each in named for path in _expanded(str(each))]
    if not files:
        raise DatasetError("A dataset requires at least one file, got none.")
    real = [path.resolve() for path in files]
    for path, same in zip(files, real, strict=True):
        if real.count(same) > 1:
            raise DatasetError(f"A dataset requires different files, got {path} twice.")
    return tuple(files)


def _expanded(name: str) -> list[Path]:
    if Path(name).exists() or not glob.has_magic(name):
        return [Path(name)]
    found = [Path(each) for each in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
    if not found:
        raise DatasetError(f"No file has a name like {name}.")
    return found


def check_alike(shards: Sequence[Shard]) -> None:
    """Refuse files that cannot be one dataset.

    Environment, policy and seed may differ; the first file's stand for all.

    Raises:
        DatasetError: other frames, actions, frame skip or vectors, or rewards in some only.
    """
    first = shards[0]
    for other in shards[1:]:
        for name, expected, found in _compared(first, other):
            if expected != found:
                raise DatasetError(
                    f"{other.frames.path} has {name} {found}, {first.frames.path} has {expected}: "
                    "files of one dataset must agree in it, leave one of them out."
                )


def _compared(first: Shard, other: Shard) -> list[tuple[str, Any, Any]]:
    one, two = first.info, other.info
    return [
        ("frames of", _pictured(one.frame), _pictured(two.frame)),
        ("frames", one.frame, two.frame),
        ("the actions", describe(one.action.space), describe(two.action.space)),
        ("the action space", one.action.to_json(), two.action.to_json()),
        ("the frame skip", one.frame_skip, two.frame_skip),
        ("the vectors", _listed(one.vectors.names), _listed(two.vectors.names)),
        ("vectors of the sizes", one.vectors.sizes, two.vectors.sizes),
        ("rewards:", _yes(first.columns.rewards), _yes(other.columns.rewards)),
    ]


def _pictured(frame: FrameSpec) -> str:
    """Size, cameras and sources in words, as in `64×64×3 from 84×84 (front)`."""
    sizes = [f"{p.source_height}×{p.source_width}" for p in frame.panels if p.source_height]
    made_of = f" from {', '.join(sizes)}" if sizes else ""
    cameras = f" ({_listed(frame.names)})" if frame.names else ""
    return f"{'×'.join(map(str, frame.shape))}{made_of}{cameras}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _yes(column: FloatArray | None) -> str:
    return "none" if column is None else "some"


def join_columns(parts: Sequence[Columns]) -> Columns:
    """The columns of all files, one after the other; of the states those that all have."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0] + [len(part.actions) for part in parts[:-1]])
    return Columns(
        starts=np.concatenate([p.starts + b for p, b in zip(parts, begins, strict=True)]),
        lengths=np.concatenate([part.lengths for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        rewards=_join([part.rewards for part in parts]),
        terminations=np.concatenate([part.terminations for part in parts]),
        truncations=np.concatenate([part.truncations for part in parts]),
        states=_shared_states(parts),
        vectors=_join([part.vectors for part in parts]),
    )


def _join(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def unshared_states(parts: Sequence[Columns]) -> tuple[str, ...]:
    """Names of states that some files have and others have not, or in another size."""
    every = {name for part in parts for name in part.states}
    return tuple(sorted(every - set(_shared_states(parts))))


def _shared_states(parts: Sequence[Columns]) -> dict[str, FloatArray]:
    first = parts[0].states
    return {
        name: np.concatenate([part.states[name] for part in parts])
        for name, column in first.items()
        if all(name in p.states and p.states[name].shape[1:] == column.shape[1:] for p in parts)
    }
