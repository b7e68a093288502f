"""Writing a dataset, one whole episode after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import h5py
import hdf5plugin
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.layout import DatasetInfo, write_info
from latentwrap.datasets.reader import Dataset
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.files import refuse_existing, remove, written_whole
from latentwrap.types import AnyArray

CHUNK_FRAMES = 8
"""Whole frames per chunk: small enough that a window decodes little it does not need."""


class DatasetWriter:
    """Collects episodes into one file that appears only when it is whole.

    Every episode becomes a file of its own in the folder `<path>.partial` as soon as it is
    added, so that even a killed process loses no finished episode; `finish` joins them. If the
    block ends with an exception the folder stays, and `resume=True` goes on with it.

    Args:
        path: the file to write.
        info: what the dataset is of.
        force: replace an existing file (only when the new one is whole) and an old folder.
        resume: keep the episodes of an interrupted run.

    Attributes:
        episodes, transitions: how many were added, those of the interrupted run included.

    Raises:
        OutputExists: there is a file or a folder, and neither `force` nor `resume`.
        DatasetError: the interrupted run was of something else.

    Example:
        >>> with DatasetWriter("data.h5", info) as writer:  # doctest: +SKIP
        ...     writer.add(episode)
    """

    def __init__(
        self, path: str | Path, info: DatasetInfo, *, force: bool = False, resume: bool = False
    ) -> None:
        self.path = Path(path)
        self.parts = partial_folder(self.path)
        self._info = info
        self.episodes = 0
        self.transitions = 0
        refuse_existing(self.path, force=force)
        if resume:
            self._take_over()
        elif self.parts.exists() and not force:
            raise OutputExists(
                f"{self.parts} holds the episodes of an interrupted run: pass --resume to go on "
                "with them or --force to drop them."
            )
        else:
            remove(self.parts)
        self.parts.mkdir(parents=True, exist_ok=True)

    def add(self, episode: Episode) -> None:
        """Keep a whole episode for good.

        Raises:
            DatasetError: its arrays do not fit each other or the dataset.
        """
        _check_episode(episode, self._info)
        with written_whole(self._part(self.episodes)) as temporary:
            with h5py.File(temporary, "w") as file:
                _write_episodes(file, self._info, [_rows(episode)])
        self.episodes += 1
        self.transitions += len(episode.actions)

    def finish(self) -> None:
        """Join the episodes into the file.

        Raises:
            DatasetError: there are none.
        """
        if not self.episodes:
            raise DatasetError(f"{self.path} was not written: there is no whole episode.")
        with written_whole(self.path) as temporary, h5py.File(temporary, "w") as file:
            _write_episodes(file, self._info, self._stored())
        remove(self.parts)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        elif not self.episodes:
            remove(self.parts)

    def _part(self, number: int) -> Path:
        return self.parts / f"{number:08d}.h5"

    def _stored(self) -> Iterator[dict[str, AnyArray]]:
        for number in range(self.episodes):
            with h5py.File(self._part(number)) as file:
                yield {name: file[name][:] for name in _columns(file)}

    def _take_over(self) -> None:
        """Count the episodes of the interrupted run and close the gaps between them."""
        for path in sorted(self.parts.glob("*.h5")):
            if path.name.startswith("."):
                path.unlink()  # was being written when the run ended
                continue
            part = Dataset(path)
            part.info.check_same(self._info, self.parts)
            path.rename(self._part(self.episodes))
            self.episodes += part.num_episodes
            self.transitions += part.num_transitions


def partial_folder(path: Path) -> Path:
    """Where the episodes of an unfinished dataset lie."""
    return path.with_name(path.name + ".partial")


def _check_episode(episode: Episode, info: DatasetInfo) -> None:
    steps = len(episode.actions)
    expected = {
        "frames": (episode.frames, (steps + 1, *info.frame.shape)),
        "actions": (episode.actions, (steps, info.action.stored_size)),
    }
    if episode.rewards is not None:
        expected["rewards"] = (episode.rewards, (steps,))
    for name, (array, shape) in expected.items():
        if array.shape != shape or not steps:
            raise DatasetError(
                f"An episode of {steps} transitions requires {name} of shape {shape} and at least "
                f"one transition, got {array.shape}."
            )
    for name, array in {**expected, "rewards": (episode.rewards, ())}.items():
        values = array[0]
        if name != "frames" and values is not None and not np.isfinite(values).all():
            raise DatasetError(f"An episode requires finite {name}, got NaN or infinity.")


def _rows(episode: Episode) -> dict[str, AnyArray]:
    """The columns of one episode, padded to as many rows as it has frames."""
    steps = len(episode.actions)
    ends = np.zeros((2, steps), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    columns: dict[str, AnyArray] = {
        layout.FRAMES: episode.frames,
        layout.ACTIONS: _padded(episode.actions),
        layout.TERMINATIONS: _padded(ends[0]),
        layout.TRUNCATIONS: _padded(ends[1]),
    }
    if episode.rewards is not None:
        columns[layout.REWARDS] = _padded(episode.rewards.astype(np.float32))
    for name, values in episode.states.items():
        columns[f"{layout.STATE}/{name}"] = values.astype(np.float32)
    return columns


def _padded(column: AnyArray) -> AnyArray:
    return np.concatenate([column, np.zeros_like(column[:1])])


def _columns(file: h5py.File) -> list[str]:
    states = [f"{layout.STATE}/{name}" for name in file.get(layout.STATE, ())]
    plain = [name for name in file if isinstance(file[name], h5py.Dataset)]
    return plain + states


def _write_episodes(
    file: h5py.File,
    info: DatasetInfo,
    episodes: Iterator[dict[str, AnyArray]] | list[dict[str, AnyArray]],
) -> None:
    """Append episodes, one at a time in memory, and write their index last."""
    write_info(file, info)
    lengths: list[int] = []
    for columns in episodes:
        for name, values in columns.items():
            _append(file, name, values)
        lengths.append(len(columns[layout.FRAMES]))
    ends = np.cumsum(lengths, dtype=np.int64)
    file[layout.EPISODE_START] = ends - np.array(lengths)
    file[layout.EPISODE_LENGTH] = np.array(lengths, np.int64)


def _append(file: h5py.File, name: str, values: AnyArray) -> None:
    if name not in file:
        _create(file, name, values)
    column = file[name]
    column.resize(len(column) + len(values), axis=0)
    column[-len(values) :] = values


def _create(file: h5py.File, name: str, values: AnyArray) -> None:
    rest = values.shape[1:]
    if name == layout.FRAMES:
        options = {"chunks": (CHUNK_FRAMES, *rest), **hdf5plugin.LZ4()}
    else:
        options = {"chunks": (4096, *rest)}
    file.create_dataset(name, (0, *rest), dtype=values.dtype, maxshape=(None, *rest), **options)
