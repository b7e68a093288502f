"""Writing a dataset, one whole episode after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import h5py
import hdf5plugin
import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.episodes import Episode, columns_of
from latentwrap.datasets.layout import DatasetInfo, write_info
from latentwrap.datasets.reader import Dataset
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.files import refuse_output, remove, written_whole
from latentwrap.types import AnyArray

CHUNK_FRAMES = 8
"""Whole frames per chunk: small enough that a window decodes little it does not need."""

CHUNK_BYTES = 16 * 1024
"""Size of a chunk of any other column: an episode's own file has one chunk of each."""


class DatasetWriter:
    """Collects episodes into one file that appears only when it is whole.

    Every episode becomes a file of its own in the folder `<path>.partial` as soon as it is
    added, so that even a killed process loses no finished episode; `finish` joins them. If the
    block ends with an exception the folder stays, and `resume=True` goes on with it.

    Args:
        path: the file to write.
        info: what the dataset is of.
        force: replace an existing file (only when the new one is whole) and an old folder.
        resume: keep the episodes of an interrupted run, or of a finished file to be continued.

    Attributes:
        episodes, transitions: how many were added, those of the interrupted run included.

    Raises:
        OutputExists: there is a file or a folder, and neither `force` nor `resume`.
        DatasetError: the interrupted run was of something else, the name does not end in .h5, or
            a camera or vector has a name that no column can have.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gymnasium import spaces
        >>> from latentwrap.actions import ActionSpec
        >>> from latentwrap.datasets import DatasetInfo, DatasetWriter, Episode
        >>> from latentwrap.pixels import FrameSpec
        >>> info = DatasetInfo("my robot", ActionSpec(spaces.Discrete(2)), FrameSpec())
        >>> episode = Episode(
        ...     frames=np.zeros((4, 64, 64, 3), np.uint8),
        ...     actions=np.array([[0], [1], [1]]),
        ...     rewards=None,
        ...     terminated=True,
        ...     truncated=False,
        ... )
        >>> with DatasetWriter(tempfile.mkdtemp() + "/robot.h5", info) as writer:
        ...     writer.add(episode)
        >>> writer.transitions
        3
    """

    def __init__(
        self, path: str | Path, info: DatasetInfo, *, force: bool = False, resume: bool = False
    ) -> None:
        self.path = Path(path)
        self.parts = partial_folder(self.path)
        self.episodes = 0
        self.transitions = 0
        self._info = info
        self._form: dict[str, tuple[int, ...]] = {}
        self._finished = False
        if self.path.suffix not in (".h5", ".hdf5"):
            raise DatasetError(f"A dataset must end in .h5 or .hdf5, got {self.path}.")
        info.check_names()
        refuse_output(self.path, force=force or resume)
        if resume:
            self._reopen()
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
        columns = columns_of(episode, self._info)
        self._check_form({name: values.shape[1:] for name, values in columns.items()})
        with written_whole(self._part(self.episodes)) as part, layout.create_file(part) as file:
            _write_episodes(file, self._info, [columns])
        self.episodes += 1
        self.transitions += len(episode.actions)

    def finish(self) -> None:
        """Join the episodes into the file; a second call does nothing.

        Raises:
            DatasetError: there are none.
        """
        if self._finished:
            return
        if not self.episodes:
            remove(self.parts)
            raise DatasetError(f"{self.path} was not written: there is no whole episode.")
        with written_whole(self.path) as whole, layout.create_file(whole) as file:
            _write_episodes(file, self._info, self._stored())
        self._finished = True
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
        for path in self._all_parts():
            with h5py.File(path, "r") as file:
                starts, lengths = file[layout.EPISODE_START][:], file[layout.EPISODE_LENGTH][:]
                for start, length in zip(starts, lengths, strict=True):
                    yield {name: file[name][start : start + length] for name in self._form}

    def _all_parts(self) -> list[Path]:
        return sorted(self.parts.glob("[0-9]*.h5"))

    def _check_form(self, form: dict[str, tuple[int, ...]]) -> None:
        """Refuse an episode with other columns than the first, which could not be joined."""
        self._form = self._form or form
        if form != self._form:
            raise DatasetError(
                f"{self.path} requires the same columns of every episode, got "
                f"{_described(form)} after {_described(self._form)}."
            )

    def _reopen(self) -> None:
        """Make a finished file the first part of the one that continues it."""
        if not self.path.exists():
            return
        if self.parts.exists():
            raise OutputExists(
                f"{self.path} is finished, but {self.parts} holds an interrupted run: "
                "move one of them away."
            )
        finished = Dataset(self.path)
        finished.close()
        finished.info.check_same(self._info, self.path)
        self.parts.mkdir()
        self.path.replace(self._part(0))

    def _take_over(self) -> None:
        """Count the whole episodes of the interrupted run and close the gaps between them."""
        for path in self._all_parts():
            try:
                part = Dataset(path)
            except DatasetError:
                path.unlink()
                continue
            part.close()
            part.info.check_same(self._info, self.parts)
            self._check_form(_form_of(path))
            path.replace(self._part(self.episodes))
            self.episodes += part.num_episodes
            self.transitions += part.num_transitions


def partial_folder(path: Path) -> Path:
    """Where the episodes of an unfinished dataset lie."""
    return path.with_name(path.name + ".partial")


def _form_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The columns of a part and the shape of one row of each."""
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visit(names.append)
        index = (layout.EPISODE_START, layout.EPISODE_LENGTH)
        columns = [n for n in names if isinstance(file[n], h5py.Dataset) and n not in index]
        return {name: file[name].shape[1:] for name in columns}


def _described(form: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"/{name} {shape}" for name, shape in sorted(form.items()))


def _write_episodes(
    file: h5py.File, info: DatasetInfo, episodes: Iterable[dict[str, AnyArray]]
) -> None:
    """Append episodes, one at a time in memory, and write their index last."""
    write_info(file, info)
    lengths: list[int] = []
    for columns in episodes:
        for name, values in columns.items():
            _append(file, name, values)
        lengths.append(len(columns[layout.ACTIONS]))
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
    if layout.is_frames(name):
        options = {"chunks": (CHUNK_FRAMES, *rest), **hdf5plugin.LZ4()}
    else:
        rows = CHUNK_BYTES // max(values[0].nbytes, 1)
        options = {"chunks": (max(rows, 1), *rest)}
    file.create_dataset(name, (0, *rest), dtype=values.dtype, maxshape=(None, *rest), **options)
