"""Writing a dataset anew, laid out for random windows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentwrap.datasets import layout
from latentwrap.datasets.guarding.opening import open_checked
from latentwrap.datasets.importers.importing import import_dataset
from latentwrap.datasets.joining import Source, find_files
from latentwrap.datasets.reader import Dataset
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.errors import DatasetError
from latentwrap.files import refuse_output
from latentwrap.progress import bar
from latentwrap.types import AnyArray


@dataclass(frozen=True)
class RechunkResult:
    """What was written.

    Attributes:
        path: the new file.
        episodes, transitions: in it, those before a resume included.
        bytes_before, bytes_after: size of the old files and of the new one.
        seconds: of this run.
    """

    path: Path
    episodes: int
    transitions: int
    bytes_before: int
    bytes_after: int
    seconds: float


def rechunk(
    source: Source,
    path: str | Path,
    *,
    codec: str = "lz4",
    force: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> RechunkResult:
    """Write the episodes of one or more files into one that is fast to read windows from.

    Frames become chunks of their own, so that a window decodes nothing else. A file of another
    project is imported, with the defaults of `import_dataset`. There is all of the source under
    the new name or nothing: what an exception or Ctrl-C cuts short stays in `<path>.partial`.

    Args:
        source: a file, a pattern such as `shards/*.h5`, or several of either.
        path: the file to write; never one of those that are read.
        codec: `lz4`; `zstd`, which is smaller and slower; or `none`.
        force: replace an existing file, once the new one is whole.
        resume: go on with an interrupted run, or with a file that holds the first episodes of the
            source.
        show_progress: draw a progress bar on standard error.

    Raises:
        DatasetError: the source cannot be read, or does not begin with the episodes that are
            there; or an unknown codec.
        OutputExists: the file exists, or is what is read.

    Example:
        >>> import tempfile
        >>> from latentwrap.datasets import Dataset, collect, rechunk
        >>> folder = tempfile.mkdtemp()
        >>> _ = collect("latentwrap/PixelPendulum-v0", folder + "/old.h5", steps=250)
        >>> rechunk(folder + "/old.h5", folder + "/new.h5", codec="zstd").transitions
        250
    """
    started = time.monotonic()
    path, files = Path(path), find_files(source)
    for file in files:
        refuse_output(path, force=True, source=file)
    refuse_output(path, force=force or resume)
    try:
        dataset = Dataset(files)
    except DatasetError:
        # Files of others may hold what ours may not, so it is asked what they are only now.
        if len(files) > 1 or not _is_foreign(files[0]):
            raise
        import_dataset(
            files[0],
            path,
            codec=codec,
            force=force,
            resume=resume,
            all_or_nothing=True,
            show_progress=show_progress,
        )
    else:
        _copy(dataset, path, codec=codec, force=force, resume=resume, show=show_progress)
    written = Dataset(path)
    return RechunkResult(
        path=path,
        episodes=written.num_episodes,
        transitions=written.num_transitions,
        bytes_before=sum(file.stat().st_size for file in files),
        bytes_after=path.stat().st_size,
        seconds=time.monotonic() - started,
    )


def _is_foreign(path: Path) -> bool:
    """Whether a file that is no dataset of ours is HDF5 of another project.

    Raises:
        DatasetError: it cannot be read safely.
    """
    with open_checked(path, rules="foreign") as file:
        said = file.attrs.get("format")
    return not (isinstance(said, str) and said.startswith(layout.FORMAT))


def _copy(
    dataset: Dataset, path: Path, *, codec: str, force: bool, resume: bool, show: bool
) -> None:
    """Copy the episodes that are not there yet."""
    with (
        DatasetWriter(
            path, dataset.info, codec=codec, force=force, resume=resume, ordered=True
        ) as writer,
        bar("Rechunking", dataset.num_episodes, show=show) as progress,
    ):
        _check_begun(writer, dataset)
        progress.move_to(writer.episodes)
        for number in range(writer.episodes, dataset.num_episodes):
            writer.add(dataset.episode(number))
            progress.advance()


def _check_begun(writer: DatasetWriter, dataset: Dataset) -> None:
    """Refuse to go on with episodes of another source, which would be mixed with this one's."""
    same = writer.episodes <= dataset.num_episodes and all(
        _is_copy(stored, dataset, number) for number, stored in enumerate(writer.stored(frames=1))
    )
    if not same:
        raise DatasetError(
            f"{writer.path} was begun with other episodes than the first of {dataset.name}: "
            "repeat the first command line or pass --force."
        )


def _is_copy(stored: Mapping[str, AnyArray], dataset: Dataset, number: int) -> bool:
    """Whether stored columns are those of an episode; of its frames, the first is enough."""
    start, length = int(dataset.starts[number]), int(dataset.lengths[number])
    steps = slice(start, start + length - 1)
    known = {
        layout.ACTIONS: dataset.actions,
        layout.REWARDS: dataset.rewards,
        layout.TERMINATIONS: dataset.terminations,
        layout.TRUNCATIONS: dataset.truncations,
        **{layout.vector_path(name): column for name, column in dataset.vectors.items()},
    }
    frames = layout.split_frames(dataset.frames(slice(start, start + 1)), dataset.info.frame)
    same_steps = all(
        name not in stored if column is None else np.array_equal(stored[name][:-1], column[steps])
        for name, column in known.items()
    )
    return same_steps and all(np.array_equal(stored[name], frames[name]) for name in frames)
