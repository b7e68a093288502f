"""What is in a dataset, in numbers and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from latentwrap.actions import describe
from latentwrap.datasets.reader import Dataset
from latentwrap.pixels import FrameSpec, tile
from latentwrap.types import AnyArray, Frame


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation, smallest and largest of some numbers."""

    mean: float
    std: float
    min: float
    max: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.std:.3g} (from {self.min:.4g} to {self.max:.4g})"


@dataclass(frozen=True)
class DatasetSummary:
    """What is in a dataset.

    Attributes:
        env_id: of the environment.
        action_space: in words.
        frame: height, width, channels.
        source: the size of the environment's own images, in words.
        cameras: names of those whose images lie side by side in a frame; empty for one image
            that is the whole observation or rendered.
        frame_skip: how often each action was repeated.
        episodes, transitions, frames: counts.
        lengths: transitions by episode.
        returns: by episode; `None` without rewards.
        terminated, truncated: episodes that ended so.
        states: names and sizes of the `/state` columns.
        vectors: names and sizes of the `/vectors` columns.
        file_bytes: size of the file.
        frame_bytes, stored_frame_bytes: size of the frames in memory and on disk.
        compression: how many times smaller the frames are on disk.
        codec, chunks: how the frames lie on disk.
        fast: they lie so that windows are read quickly.
    """

    env_id: str
    action_space: str
    frame: tuple[int, int, int]
    source: str
    cameras: tuple[str, ...]
    frame_skip: int
    episodes: int
    transitions: int
    frames: int
    lengths: Spread
    returns: Spread | None
    terminated: int
    truncated: int
    states: dict[str, int]
    vectors: dict[str, int]
    file_bytes: int
    frame_bytes: int
    stored_frame_bytes: int
    compression: float
    codec: str
    chunks: tuple[int, ...] | None
    fast: bool

    def described(self) -> dict[str, str]:
        """The summary in words, line by line."""
        height, width, channels = self.frame
        return {
            "environment": self.env_id,
            "actions": self.action_space,
            "frames": f"{height}×{width}×{channels}, from {self.source}",
            "frame skip": str(self.frame_skip),
            "episodes": (
                f"{self.episodes} ({self.terminated} terminated, {self.truncated} truncated)"
            ),
            "transitions": str(self.transitions),
            "episode length": str(self.lengths),
            "return": "no rewards" if self.returns is None else str(self.returns),
            "cameras": ", ".join(self.cameras) or "one image",
            "vectors": _columns(self.vectors),
            "state": _columns(self.states),
            "size on disk": _megabytes(self.file_bytes),
            "frames on disk": (
                f"{_megabytes(self.stored_frame_bytes)} ({self.codec}, {self.compression:.1f} "
                f"times smaller than the {_megabytes(self.frame_bytes)} in memory)"
            ),
            "chunks": f"{self.chunks}{'' if self.fast else ', slow to read windows from'}",
        }


def summarize(dataset: Dataset) -> DatasetSummary:
    """Count and measure a dataset."""
    info, returns, storage = dataset.info, dataset.returns(), dataset.storage()
    spec = info.frame
    return DatasetSummary(
        env_id=info.env_id,
        action_space=describe(info.action.space),
        frame=spec.shape,
        source=" and ".join(_size(panel) for panel in spec.panels),
        cameras=spec.names,
        frame_skip=info.frame_skip,
        episodes=dataset.num_episodes,
        transitions=dataset.num_transitions,
        frames=dataset.num_frames,
        lengths=_spread(dataset.lengths - 1),
        returns=None if returns is None else _spread(returns),
        terminated=int(dataset.terminations.sum()),
        truncated=int(dataset.truncations.sum()),
        states={name: int(np.prod(c.shape[1:])) for name, c in dataset.states.items()},
        vectors=dict(zip(info.vectors.names, info.vectors.sizes, strict=True)),
        file_bytes=sum(path.stat().st_size for path in dataset.paths),
        frame_bytes=dataset.frame_bytes,
        stored_frame_bytes=storage.bytes,
        compression=dataset.frame_bytes / max(storage.bytes, 1),
        codec=storage.codec,
        chunks=storage.chunks,
        fast=storage.fast,
    )


def contact_sheet(dataset: Dataset, *, rows: int = 6, columns: int = 10) -> Frame:
    """Evenly spaced frames of evenly spaced episodes, one episode a row.

    Returns:
        One picture, uint8 (height, width, C).
    """
    episodes = np.unique(np.linspace(0, dataset.num_episodes - 1, rows).astype(int))
    firsts, lasts = dataset.starts[episodes], (dataset.starts + dataset.lengths)[episodes] - 1
    shown = np.linspace(firsts, lasts, columns, axis=1).astype(int).reshape(-1)
    frames = [dataset.frames(slice(int(row), int(row) + 1)) for row in shown]
    return tile(np.concatenate(frames), columns=columns)


def _size(panel: FrameSpec) -> str:
    known = panel.source_height is not None
    return f"{panel.source_height}×{panel.source_width}" if known else "unknown"


def _columns(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} ({size})" for name, size in sizes.items()) or "none"


def _spread(values: AnyArray) -> Spread:
    numbers: Any = values.astype(np.float64)
    return Spread(*(float(f(numbers)) for f in (np.mean, np.std, np.min, np.max)))


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
