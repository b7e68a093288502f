"""Turning the data of others into a dataset, episode after episode."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap._version import __version__
from latentwrap.actions import choices
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.position import Position
from latentwrap.datasets.importers.registry import find_format
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.wholeness.parts import PartialRun
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.errors import ConfigError, DatasetError, LatentwrapError
from latentwrap.files import refuse_output
from latentwrap.interrupts import InterruptFlag
from latentwrap.progress import Bar, bar


class LostEnds(UserWarning):
    """Rewards or terminations of last actions, of which it is not known where they led."""


class LossySource(UserWarning):
    """A source whose pixels were spoiled by JPEG or video before they came here."""


@dataclass(frozen=True)
class ImportResult:
    """What was imported.

    Attributes:
        path: the dataset.
        format: of the source.
        episodes, transitions: in the file, those before a resume included.
        skipped: how many episodes were left out, by reason.
        lossy: what spoiled the pixels before they came here; `None` if nothing did.
        seconds: of this run.
        interrupted: Ctrl-C ended it.
        lost_rewards: how many episodes lost the reward of their last action, which was not 0,
            because the source does not tell where that action led.
        moved_ends: how many terminate one transition earlier, for the same reason.
        kept_in: where the episodes so far lie if Ctrl-C ended what was to replace a finished
            file, which stays as it was; else `None`.
    """

    path: Path
    format: str
    episodes: int
    transitions: int
    skipped: Mapping[str, int]
    lossy: str | None
    seconds: float
    interrupted: bool
    lost_rewards: int
    moved_ends: int
    kept_in: Path | None


def import_dataset(
    source: str | Path,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - what the command line calls it
    options: ImportOptions | None = None,
    limit: int | None = None,
    codec: str = "lz4",
    force: bool = False,
    resume: bool = False,
    all_or_nothing: bool = False,
    show_progress: bool = False,
) -> ImportResult:
    """Read the data of others and write a dataset of layout version 1.

    Episodes are read one by one, whatever the size of the source. Each is safe at once: if the
    process dies, `resume=True` goes on after all of them. Ctrl-C ends the import and keeps what
    there is. Episodes without a transition, or with numbers that are NaN or infinite, are left
    out and counted. Where `force` is to replace a finished file, Ctrl-C leaves that as it is, and
    `resume=True` goes on.

    Args:
        source: a file, a folder, or `minari:NAME`.
        path: the HDF5 file to write.
        format: one of the names in `latentwrap.datasets.importers.FORMATS`; `None` recognises it.
        options: what to take of each episode, and how.
        limit: episodes that the file shall hold at most.
        codec: of the frames: `lz4`; `zstd`, which is smaller and slower; or `none`.
        force: replace an existing file, and drop an interrupted import.
        resume: go on with an interrupted import, or with a file that holds a part of the source.
        all_or_nothing: write no file after Ctrl-C, which is raised; what there is waits for
            `resume`.
        show_progress: show a bar on standard error.

    Raises:
        ConfigError: a format that does not exist, or a limit below 1.
        DatasetError: the source is of no known format or damaged, holds no images, or nothing was
            left of it; or the interrupted import was of another source.
        EnvironmentMismatch: a key that the source does not have.
        OutputExists: the file exists, or an interrupted import of it.

    Warns:
        LossySource: the pixels are not what the environment showed.
        LostEnds: rewards of last actions are lost, or terminations have moved.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = {
        ...     "observations": np.zeros((6, 64, 64, 3), np.uint8),
        ...     "actions": np.zeros((6, 2), np.float32),
        ...     "terminals": np.array([0, 0, 1, 0, 0, 1], bool),
        ... }
        >>> np.savez_compressed(folder / "visual-cube-play-v0.npz", **rows)
        >>> result = import_dataset(folder / "visual-cube-play-v0.npz", folder / "cube.h5")
        >>> result.format, result.episodes, result.transitions
        ('ogbench', 2, 4)
    """
    started = time.monotonic()
    if limit is not None and limit < 1:
        raise ConfigError(f"import requires a limit of at least 1 episode, got {limit}.")
    refuse_output(Path(path), force=force or resume, source=Path(source))
    chosen = find_format(str(source), format)
    with _damage_named(source):
        opened = chosen.open(str(source), options or ImportOptions())
    with closing(opened):
        info = _described(opened, chosen.name, str(source))
        lossy = opened.lossy
        if lossy is not None:
            warnings.warn(f"{source}: {lossy}", LossySource, stacklevel=2)
        with (
            DatasetWriter(path, info, codec=codec, force=force, resume=resume) as writer,
            bar("Importing", _total(opened.count, limit), show=show_progress) as progress,
            InterruptFlag() as interrupt,
        ):
            position = Position.of(writer, info, opened.identity)
            progress.move_to(position.read)
            episodes = _read(opened, source, position.read)
            _copy(episodes, writer, position, limit, interrupt, progress)
            if interrupt.raised and all_or_nothing:
                raise KeyboardInterrupt
            _require_some(writer, position, str(source), interrupt)
            kept_in = _keep_apart(writer) if interrupt.raised else None
    if position.lost_rewards or position.moved_ends:
        warnings.warn(f"{source}: {_lost(position)}", LostEnds, stacklevel=2)
    return ImportResult(
        path=writer.path,
        format=chosen.name,
        episodes=writer.episodes,
        transitions=writer.transitions,
        skipped=dict(position.skipped),
        lossy=lossy,
        seconds=time.monotonic() - started,
        interrupted=interrupt.raised,
        lost_rewards=position.lost_rewards,
        moved_ends=position.moved_ends,
        kept_in=kept_in,
    )


def _keep_apart(writer: DatasetWriter) -> Path | None:
    """Leave a finished file as it is, rather than replace it by a part; where that part lies."""
    run = PartialRun.of(writer.path)
    if not (run.replaces and writer.path.exists()):
        return None
    writer.close()
    return run.folder


def _lost(position: Position) -> str:
    return (
        f"{position.lost_rewards} episodes lost a reward with their last action, since it is not "
        f"known where that led, and {position.moved_ends} terminate one transition earlier."
    )


@contextmanager
def _damage_named(source: str | Path) -> Iterator[None]:
    """Say which source is damaged: no format can foresee all that a file may hold."""
    try:
        yield
    except LatentwrapError:
        raise
    except OSError as error:
        if error.errno is not None:  # what the system says of its own needs no other words
            raise
        raise _damaged(source, error) from error
    except MemoryError as error:
        raise DatasetError(
            f"{source} asks for more memory than there is: cut its episodes, or choose a smaller "
            "--size."
        ) from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(source, error) from error


def _damaged(source: str | Path, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return DatasetError(f"{source} is damaged ({reason}): get it anew.")


def _described(source: Source, name: str, given: str) -> DatasetInfo:
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    said = {"latentwrap": __version__, "format": name, "source": given, "created": created}
    if source.lossy is not None:
        said["lossy"] = source.lossy
    provenance: dict[str, Any] = {**source.info.provenance, **said}
    return replace(source.info, provenance=provenance)


def _total(count: int | None, limit: int | None) -> int | None:
    known = [number for number in (count, limit) if number is not None]
    return min(known, default=None)


def _read(opened: Source, source: str | Path, first: int) -> Iterator[Episode]:
    with _damage_named(source):
        yield from opened.episodes(first)


def _copy(
    episodes: Iterator[Episode],
    writer: DatasetWriter,
    position: Position,
    limit: int | None,
    interrupt: InterruptFlag,
    progress: Bar,
) -> None:
    """Write the episodes that are not there yet, until the limit or Ctrl-C."""
    while not interrupt.raised and (limit is None or writer.episodes < limit):
        episode = next(episodes, None)
        if episode is None:
            return
        reason = _flaw(episode, position.info)
        if reason is None:
            position.take(episode)
            writer.add(episode)
        else:
            position.skip(reason)
        progress.move_to(position.read, f"{writer.transitions} transitions")


def _flaw(episode: Episode, info: DatasetInfo) -> str | None:
    """Why an episode must be left out; `None` if it need not."""
    if not len(episode.actions):
        return "no transition"
    first, count = choices(info.action.space)
    if count is not None:
        known = (episode.actions >= first) & (episode.actions < first + count)
        if not known.all():
            return "actions that the action space does not have"
    numbers = {"actions": episode.actions, "rewards": episode.rewards}
    numbers |= {f"vector {name!r}": values for name, values in episode.vectors.items()}
    for name, values in numbers.items():
        if values is not None and not np.isfinite(values).all():
            return f"NaN or infinite {name}"
    return None


def _require_some(
    writer: DatasetWriter, position: Position, source: str, interrupt: InterruptFlag
) -> None:
    """Say why nothing is left, better than the writer can."""
    if writer.episodes or interrupt.raised:
        return
    reasons = "; ".join(f"{count} with {reason}" for reason, count in position.skipped.items())
    raise DatasetError(
        f"{source} holds no episode that can be used ({reasons or 'it has none'}): "
        "import another source."
    )
