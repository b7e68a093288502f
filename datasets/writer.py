"""Writing a dataset, one whole episode after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs

from latentwrap.datasets import layout
from latentwrap.datasets.appending import write_episodes
from latentwrap.datasets.codecs import find_codec
from latentwrap.datasets.columns import read_columns
from latentwrap.datasets.episodes import Episode, columns_of
from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.layout import DatasetInfo, read_info, write_info
from latentwrap.datasets.shard import damage_named
from latentwrap.datasets.wholeness.parts import PartFolder
from latentwrap.datasets.wholeness.steady import NewFile, new_file
from latentwrap.errors import DatasetError, OutputFailed
from latentwrap.files import failures_named, refuse_output
from latentwrap.types import AnyArray

if TYPE_CHECKING:
    from typing_extensions import Self

EpisodeT = TypeVar("EpisodeT")


class Info(Protocol):
    """What an episode writer asks of the description of what it writes."""

    def check_same(self, other: Any, path: Path) -> None:
        """Refuse to mix episodes of different sources in one file."""


InfoT = TypeVar("InfoT", bound=Info)


@dataclass(frozen=True)
class Part(Generic[InfoT]):
    """What a file of whole episodes holds.

    Attributes:
        info: what it is of.
        episodes, transitions: how many there are.
    """

    info: InfoT
    episodes: int
    transitions: int


class EpisodeWriter(ABC, Generic[EpisodeT, InfoT]):
    """Keeps every episode as a file of its own until all of them are joined.

    Args:
        path: what to write.
        info: what it is of.
        codec: of frames: `lz4`, `zstd` or `none`.
        force: replace what is there (only when the new one is whole) and an old folder.
        resume: keep the episodes of an interrupted run, or of a finished file, which stays as it
            is until it can be replaced by the one that continues it.
        ordered: `episodes` is to be a position in what is read: where an episode of the
            interrupted run is damaged or missing, those after it are dropped too.

    Attributes:
        path: what is written.
        episodes, transitions: how many were added, those of the interrupted run included.
    """

    def __init__(
        self,
        path: str | Path,
        info: InfoT,
        *,
        codec: str = "lz4",
        force: bool = False,
        resume: bool = False,
        ordered: bool = False,
    ) -> None:
        self.path = Path(path)
        self.episodes = 0
        self.transitions = 0
        self._info = info
        self._ordered = ordered
        self._form: dict[str, tuple[int, ...]] = {}
        self._codec = find_codec(codec)
        with failures_named(self.path):
            self._check_output(force=force or resume)
        self._parts = PartFolder(self.path, force=force, resume=resume)
        try:
            self._take_over()
        except BaseException:
            self.close()
            raise

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files that hold the episodes so far, in order; a finished one that is continued first."""
        return self._parts.sources()

    def add(self, episode: EpisodeT) -> None:
        """Keep a whole episode for good.

        Raises:
            DatasetError: its arrays do not fit each other or the dataset.
            OutputFailed: it could not be written; the episodes before it are safe.
        """
        columns = self._columns(episode)
        self._check_form({name: values.shape[1:] for name, values in columns.items()})
        with self._hopefully(), self._parts.add() as piece, new_file(piece) as file:
            self._write(file, [columns], thorough=False)  # it is soon written anew
        self.episodes += 1
        self.transitions += len(columns[layout.ACTIONS]) - 1

    def finish(self) -> None:
        """Join the episodes into the file; a second call does nothing.

        Raises:
            DatasetError: there are none, or one of them is damaged.
            OutputFailed: the file could not be written; the episodes are safe.
        """
        if self._parts.closed:
            return
        if not self.episodes:
            self.close()
            raise DatasetError(f"{self.path} was not written: there is no whole episode.")
        if self._parts.pieces():
            with self._hopefully(), self._parts.publish() as whole:
                self._join(whole)
        self.close()

    def close(self) -> None:
        """Let other processes go on with what there is; the episodes so far stay."""
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.close()

    def stored(self, *, frames: int | None = None) -> Iterator[dict[str, AnyArray]]:
        """The columns of every episode so far, one at a time in memory.

        Args:
            frames: how many of each episode; `None` for all.

        Raises:
            DatasetError: one is damaged.
        """
        for path in self.sources:
            with damage_named(path), h5py.File(path, "r") as file:
                starts, lengths = file[layout.EPISODE_START][:], file[layout.EPISODE_LENGTH][:]
                for start, length in zip(starts, lengths, strict=True):
                    rows = slice(start, start + length)
                    some = rows if frames is None else slice(start, start + min(length, frames))
                    yield {
                        name: file[name][some if layout.is_frames(name) else rows]
                        for name in self._form
                    }

    @abstractmethod
    def _columns(self, episode: EpisodeT) -> dict[str, AnyArray]:
        """The columns of one episode, padded to the same number of rows."""

    @abstractmethod
    def _describe(self, file: h5py.File) -> None:
        """Write the attributes of a file."""

    @abstractmethod
    def _open(self, path: Path) -> Part[InfoT]:
        """Read a file of whole episodes, all of it checked, and close it."""

    def _check_output(self, *, force: bool) -> None:
        """Refuse what cannot be written, or is there already."""
        if self.path.suffix not in (".h5", ".hdf5"):
            raise DatasetError(f"A dataset must end in .h5 or .hdf5, got {self.path}.")
        refuse_output(self.path, force=force)

    def _join(self, whole: Path) -> None:
        """Write all that is stored to a new file (or folder), which becomes the result."""
        with new_file(whole) as file:
            self._write(file, self.stored(), thorough=True)

    def _write(
        self, file: NewFile, episodes: Iterable[dict[str, AnyArray]], *, thorough: bool
    ) -> None:
        self._describe(file.h5)
        write_episodes(file, episodes, self._codec, thorough=thorough)

    def _check_form(self, form: dict[str, tuple[int, ...]]) -> None:
        """Refuse an episode with other columns than the first, which could not be joined."""
        self._form = self._form or form
        if form != self._form:
            raise DatasetError(
                f"{self.path} requires the same columns of every episode, got "
                f"{_described(form)} after {_described(self._form)}."
            )

    def _take_over(self) -> None:
        """Count the whole episodes of what is continued."""
        base = self._parts.base
        if base is not None:
            self._count(base, self._open(base))
        for number, piece in enumerate(self._parts.pieces()):
            part = self._opened(piece)
            if self._ordered and (part is None or int(piece.stem) != number):
                self._parts.set_aside_from(number)
                return
            if part is None:
                self._parts.set_aside(piece)
            else:
                self._count(piece, part)

    def _opened(self, piece: Path) -> Part[InfoT] | None:
        """What a piece holds; `None` if it is damaged: a power cut leaves such, a kill none."""
        try:
            return self._open(piece)
        except DatasetError:
            return None

    def _count(self, path: Path, part: Part[InfoT]) -> None:
        part.info.check_same(self._info, path if path == self.path else self._parts.folder)
        self._check_form(self._form_of(path))
        self.episodes += part.episodes
        self.transitions += part.transitions

    def _form_of(self, path: Path) -> dict[str, tuple[int, ...]]:
        """The columns of a file of whole episodes and the shape of one row of each."""
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visit(names.append)
            index = (layout.EPISODE_START, layout.EPISODE_LENGTH)
            columns = [n for n in names if isinstance(file[n], h5py.Dataset) and n not in index]
            return {name: file[name].shape[1:] for name in columns}

    @contextmanager
    def _hopefully(self) -> Iterator[None]:
        """Say how to go on after the mending, if something is there to go on with."""
        try:
            yield
        except OutputFailed as error:
            if not self.episodes:
                raise
            raise OutputFailed(f"{str(error).rstrip('.')}, then go on with --resume.") from error


class DatasetWriter(EpisodeWriter[Episode, DatasetInfo]):
    """Collects episodes into one file that appears only when it is whole.

    Every episode becomes a file of its own in the folder `<path>.partial` as soon as it is
    added, so that even a killed process loses no finished episode; `finish` joins them. If the
    block ends with an exception the folder stays, and `resume=True` goes on with it.

    Args:
        path: the file to write.
        info: what the dataset is of.
        codec: of the frames: `lz4`; `zstd`, which is smaller and slower; or `none`.
        force: replace an existing file (only when the new one is whole) and an old folder.
        resume: keep the episodes of an interrupted run, or of a finished file to be continued.
        ordered: `episodes` is to be a position in what is read: where an episode of the
            interrupted run is damaged or missing, those after it are dropped too.

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

    def _check_output(self, *, force: bool) -> None:
        super()._check_output(force=force)
        self._info.check_names()

    def _columns(self, episode: Episode) -> dict[str, AnyArray]:
        return columns_of(episode, self._info)

    def _describe(self, file: h5py.File) -> None:
        write_info(file, self._info)

    def _open(self, path: Path) -> Part[DatasetInfo]:
        # A finished file may be a stranger's; the pieces are our own.
        with open_checked(path, trusted=path != self.path) as file, damage_named(path):
            info = read_info(file, path)
            columns = read_columns(file, info, path)
        episodes = len(columns.lengths)
        return Part(info, episodes, len(columns.actions) - episodes)


def _described(form: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"/{name} {shape}" for name, shape in sorted(form.items()))
