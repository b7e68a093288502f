"""Writing a dataset anew, laid out for random windows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentwrap.datasets.importers.importing import import_dataset
from latentwrap.datasets.joining import Source, find_files
from latentwrap.datasets.layout import ForeignFile
from latentwrap.datasets.reader import Dataset
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.files import refuse_output
from latentwrap.interrupts import InterruptFlag
from latentwrap.progress import bar


@dataclass(frozen=True)
class RechunkResult:
    """What was written.

    Attributes:
        path: the new file.
        episodes, transitions: in it, those before a resume included.
        bytes_before, bytes_after: size of the old files and of the new one.
        seconds: of this run.
        interrupted: Ctrl-C ended it; the file holds the episodes so far.
    """

    path: Path
    episodes: int
    transitions: int
    bytes_before: int
    bytes_after: int
    seconds: float
    interrupted: bool


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
    project is imported, with the defaults of `import_dataset`.

    Args:
        source: a file, a pattern such as `shards/*.h5`, or several of either.
        path: the file to write; never one of those that are read.
        codec: `lz4`; `zstd`, which is smaller and slower; or `none`.
        force: replace an existing file, once the new one is whole.
        resume: go on with an interrupted run.
        show_progress: draw a progress bar on standard error.

    Raises:
        DatasetError: the source cannot be read, or an unknown codec.
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
        interrupted = _copy(
            files, path, codec=codec, force=force, resume=resume, show=show_progress
        )
    except ForeignFile:
        if len(files) > 1:
            raise
        interrupted = import_dataset(
            files[0], path, force=force, resume=resume, show_progress=show_progress
        ).interrupted
    written = Dataset(path)
    return RechunkResult(
        path=path,
        episodes=written.num_episodes,
        transitions=written.num_transitions,
        bytes_before=sum(file.stat().st_size for file in files),
        bytes_after=path.stat().st_size,
        seconds=time.monotonic() - started,
        interrupted=interrupted,
    )


def _copy(
    files: Sequence[Path], path: Path, *, codec: str, force: bool, resume: bool, show: bool
) -> bool:
    """Copy episode by episode; returns whether Ctrl-C ended it."""
    dataset = Dataset(files)
    with (
        DatasetWriter(path, dataset.info, codec=codec, force=force, resume=resume) as writer,
        bar("Rechunking", dataset.num_episodes, show=show) as progress,
        InterruptFlag() as interrupt,
    ):
        progress.move_to(writer.episodes)
        for number in range(writer.episodes, dataset.num_episodes):
            if interrupt.raised and writer.episodes:
                break
            writer.add(dataset.episode(number))
            progress.advance()
    return interrupt.raised
