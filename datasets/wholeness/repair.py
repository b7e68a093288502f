"""Writing the sound episodes of a damaged or unfinished dataset to a new file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the codecs

from latentwrap.datasets import layout
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.layout import DatasetInfo, read_info
from latentwrap.datasets.wholeness.verify import FileReport, Verification, verify
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.files import refuse_output
from latentwrap.progress import bar


@dataclass(frozen=True)
class RepairResult:
    """What was rescued.

    Attributes:
        path: the new file.
        episodes, transitions: in it.
        lost: episodes that were left out, of those that could be counted.
    """

    path: Path
    episodes: int
    transitions: int
    lost: int


def repair(
    path: str | Path,
    output: str | Path,
    *,
    force: bool = False,
    found: Verification | None = None,
    show_progress: bool = False,
) -> RepairResult:
    """Write the sound episodes of a dataset to a new file; what is read stays as it is.

    Args:
        path: the dataset, finished or not; or the folder of an unfinished one.
        output: the file to write.
        force: replace an existing file.
        found: what `verify` said, if it was asked just before.
        show_progress: draw a progress bar on standard error.

    Raises:
        DatasetError: no episode is sound, or there is nothing at `path`.
        OutputExists: `output` is there, or is what is read.

    Example:
        >>> import tempfile
        >>> from latentwrap.datasets import collect
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = collect("latentwrap/PixelPendulum-v0", folder / "a.h5", steps=250)
        >>> with h5py.File(folder / "a.h5", "r+") as file:
        ...     file["rewards"][3] = float("nan")
        >>> repair(folder / "a.h5", folder / "b.h5").transitions
        50
    """
    output = Path(output)
    refuse_output(output, force=force, source=Path(path))
    found = verify(path, show_progress=show_progress) if found is None else found
    if output.resolve() in {report.path.resolve() for report in found.sources}:
        raise OutputExists(f"{output} is what is read: choose another name for what is written.")
    sound = [report for report in found.sources if report.sound]
    if not sound:
        raise DatasetError(f"{path} has no sound episode, so that nothing can be rescued.")
    with (
        DatasetWriter(output, _info(sound[0], Path(path)), force=force) as writer,
        bar("Rescuing", sum(len(r.sound) for r in sound), show=show_progress) as progress,
    ):
        for report in sound:
            for episode in _episodes(report):
                writer.add(episode)
                progress.advance()
    counted = sum(report.episodes or 0 for report in found.sources)
    return RepairResult(output, writer.episodes, writer.transitions, counted - writer.episodes)


def _info(report: FileReport, path: Path) -> DatasetInfo:
    if report.file_format != layout.FORMAT:
        raise DatasetError(f"{path} holds latents, which are not repaired: encode them again.")
    with h5py.File(report.path, "r") as file:
        info = read_info(file, report.path)
    return dataclasses.replace(info, provenance={**info.provenance, "rescued_from": str(path)})


def _episodes(report: FileReport) -> Iterator[Episode]:
    """The sound episodes of a file, which another process has read without harm."""
    with h5py.File(report.path, "r") as file:
        info = read_info(file, report.path)
        starts, lengths = file[layout.EPISODE_START][:], file[layout.EPISODE_LENGTH][:]
        for number in report.sound:
            start = int(starts[number])
            yield _episode(file, info, start, start + int(lengths[number]))


def _episode(file: h5py.File, info: DatasetInfo, start: int, end: int) -> Episode:
    rows, steps = slice(start, end), slice(start, end - 1)
    states = file.get(layout.STATE, {})
    return Episode(
        frames=layout.read_frames(file, rows, info.frame),
        actions=file[layout.ACTIONS][steps],
        rewards=file[layout.REWARDS][steps] if layout.REWARDS in file else None,
        terminated=bool(file[layout.TERMINATIONS][rows].any()),
        truncated=bool(file[layout.TRUNCATIONS][rows].any()),
        states={name: states[name][rows] for name in states},
        vectors={name: file[layout.vector_path(name)][rows] for name in info.vectors.names},
    )
