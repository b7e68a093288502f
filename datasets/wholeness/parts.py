"""The folder in which the pieces of an unfinished file lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from latentwrap.datasets.wholeness.folder_lock import FolderLock
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.files import failures_named, remove, sync_folder, written_whole

_BEGUN, _WHOLE, _OLD, _JOINED = "begun.json", "whole.h5", "old", "joined"
_DAMAGED = "damaged-"

SUFFIX = ".partial"
"""What follows the name of a file in that of the folder of its pieces."""


def partial_folder(path: Path) -> Path:
    """Where the pieces of an unfinished file lie."""
    return path.with_name(path.name + SUFFIX)


@dataclass(frozen=True)
class PartialRun:
    """What lies in the folder of an unfinished file.

    Attributes:
        path: the file.
        folder: `<path>.partial`.
        pieces: whole ones, in order.
        whole: all of them joined, where the process ended before it could be moved to `path`.
        joined: the pieces are in `whole`, or in the file at `path`: they are left over.
        continues: size of the finished file at `path` that comes before the pieces, or `None`.
        replaces: the finished file at `path` may be replaced.
        rests: half-written files of a process that ended.
    """

    path: Path
    folder: Path
    pieces: tuple[Path, ...]
    whole: Path | None
    joined: bool
    continues: int | None
    replaces: bool
    rests: tuple[Path, ...]

    @classmethod
    def of(cls, path: Path) -> PartialRun:
        """Look at the folder, which need not exist."""
        folder = partial_folder(path)
        begun = _read_json(folder / _BEGUN)
        continues = begun.get("continues")
        whole = folder / _WHOLE
        return cls(
            path=path,
            folder=folder,
            pieces=tuple(sorted(folder.glob("[0-9]*.h5"))),
            whole=whole if whole.exists() else None,
            joined=whole.exists() or (folder / _JOINED).exists(),
            continues=continues if isinstance(continues, int) else None,
            replaces=begun.get("replaces") is True,
            rests=tuple(sorted(folder.glob(".*.tmp.*"))),
        )

    @property
    def worth_keeping(self) -> bool:
        """Whether something in the folder is nowhere else."""
        return self.whole is not None or bool(self.pieces and not self.joined)

    def check_base(self) -> None:
        """Refuse pieces that do not belong to what is at `path`.

        Raises:
            OutputExists: there is a finished file that they neither continue nor replace.
            DatasetError: the file that they continue is gone or another one.
        """
        size = self.path.stat().st_size if self.path.exists() else None
        if self.continues is not None and size != self.continues:
            raise DatasetError(
                f"{self.folder} continues a file of {self.continues} bytes, but {self.path} "
                f"{'is gone' if size is None else f'has {size}'}: put it back, or rescue the "
                f"episodes with latentwrap verify {self.folder} --repair."
            )
        if self.continues is None and size is not None and not self.replaces:
            raise OutputExists(
                f"{self.path} is finished, but {self.folder} holds an interrupted run: "
                "move one of them away."
            )


class PartFolder:
    """Keeps whole pieces of a file until they can be joined.

    A piece is a file of its own as soon as it is added. Whenever the process is killed, the
    finished file at `path` is the old one or the new one, or the folder holds every piece, and
    `resume=True` goes on with them. The lock on the folder dies with the process.

    Args:
        path: the file in the making, or the folder; whether there may be one already is checked by
            who calls this.
        force: drop the pieces of an interrupted run; a finished file stays until the new one is
            whole.
        resume: keep them, or continue a finished file.

    Raises:
        OutputExists: there is an interrupted run, and neither `force` nor `resume`; or another
            process is writing.
        OutputFailed: the folder cannot be made.
        DatasetError: the file that the pieces continue is gone.

    Example:
        >>> import tempfile
        >>> parts = PartFolder(Path(tempfile.mkdtemp()) / "a.h5")
        >>> with parts.add() as piece:
        ...     _ = piece.write_text("one")
        >>> with parts.publish() as whole:
        ...     _ = whole.write_text("".join(p.read_text() for p in parts.sources()))
        >>> parts.path.read_text(), parts.folder.exists()
        ('one', False)
    """

    def __init__(self, path: Path, *, force: bool = False, resume: bool = False) -> None:
        self.path, self.folder = path, partial_folder(path)
        self._lock = FolderLock(self.folder)
        try:
            self._begin(force=force, resume=resume)
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether the folder was let go."""
        return not self._lock.held

    @property
    def base(self) -> Path | None:
        """The finished file that comes before the pieces, if they continue one."""
        return None if self._run.continues is None else self.path

    def pieces(self) -> tuple[Path, ...]:
        """The pieces in order."""
        return PartialRun.of(self.path).pieces

    def sources(self) -> tuple[Path, ...]:
        """All that the finished file will hold, in order."""
        return (*(() if self.base is None else (self.base,)), *self.pieces())

    @contextmanager
    def add(self) -> Iterator[Path]:
        """Give a path to write a piece to; it counts once the block ends well."""
        with written_whole(self.folder / f"{self._next:08d}.h5", settle=False) as temporary:
            yield temporary
        self._next += 1

    def set_aside(self, piece: Path) -> None:
        """Count a damaged piece no more; it goes when the file is whole."""
        piece.replace(piece.with_name(_DAMAGED + piece.name))

    def set_aside_from(self, number: int) -> None:
        """Count no piece from a number on, which the next one gets."""
        for piece in reversed(self.pieces()):
            if int(piece.stem) >= number:
                self.set_aside(piece)
        self._next = number

    @contextmanager
    def publish(self) -> Iterator[Path]:
        """Give a path to join all `sources` in; it becomes the file once the block ends well.

        The folder is gone afterwards.
        """
        with written_whole(self.folder / _WHOLE, settle=False) as temporary:
            yield temporary
        self._move_whole()
        self.close()

    def close(self) -> None:
        """Let others have the folder; it stays if it holds a piece."""
        if self._lock.held:
            if not PartialRun.of(self.path).worth_keeping:
                self._clear()
            self._lock.release()

    def _begin(self, *, force: bool, resume: bool) -> None:
        run = PartialRun.of(self.path)
        if not resume and not force and run.worth_keeping:
            raise OutputExists(
                f"{self.folder} holds the episodes of an interrupted run: pass --resume to go on "
                "with them or --force to drop them."
            )
        if resume and run.whole is not None:
            self._move_whole()
        if run.joined or not resume:
            self._clear()
        self._remove(run.rests)
        with failures_named(self.folder):
            self._run = self._go_on(resume=resume)
        self._next = 1 + max((int(piece.stem) for piece in self._run.pieces), default=-1)

    def _go_on(self, *, resume: bool) -> PartialRun:
        run = PartialRun.of(self.path)
        if run.pieces:
            run.check_base()
            return run
        there = self.path.exists()
        begun = {
            "continues": self.path.stat().st_size if there and resume else None,
            "replaces": there and not resume,
        }
        # Before the first piece: what that belongs to must be known.
        with written_whole(self.folder / _BEGUN, settle=False) as temporary:
            temporary.write_text(json.dumps(begun), encoding="utf-8")
        return PartialRun.of(self.path)

    def _move_whole(self) -> None:
        run = PartialRun.of(self.path)
        if self.path.exists() and run.continues is None and not run.replaces:
            raise OutputExists(
                f"{self.path} appeared while {self.folder / _WHOLE} was written: "
                "move one of them away and pass --resume."
            )
        with failures_named(self.path):
            (self.folder / _JOINED).touch()
            sync_folder(self.folder)
            if self.path.is_dir():  # cannot be replaced at one stroke
                self.path.replace(self.folder / _OLD)
            (self.folder / _WHOLE).replace(self.path)
            sync_folder(self.path.parent)

    def _clear(self) -> None:
        """Empty the folder of all but the lock.

        Whenever this is cut short, what is left still says of itself what it is: pieces that are
        joined go before the mark of it, and pieces that are to be dropped from the last to the
        first.
        """
        run = PartialRun.of(self.path)
        whole = () if run.whole is None else (run.whole,)
        marks = (self.folder / _JOINED, self.folder / _BEGUN)
        others = (*run.rests, *self.folder.glob(f"{_DAMAGED}*"), self.folder / _OLD)
        self._remove((*others, *reversed(run.pieces), *whole, *marks))

    def _remove(self, files: tuple[Path, ...]) -> None:
        with failures_named(self.folder):
            for file in files:
                remove(file)


def _read_json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
