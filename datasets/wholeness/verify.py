"""Saying whether a dataset is whole, and which of its episodes are sound."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from latentwrap.datasets.guarding.probe import Limits, start_child
from latentwrap.datasets.wholeness.parts import SUFFIX, PartialRun
from latentwrap.errors import DatasetError
from latentwrap.progress import bar


@dataclass(frozen=True)
class FileReport:
    """What was found in one file.

    Attributes:
        path: the file.
        problems: of the file as a whole.
        episodes: in its index; `None` if that cannot be read.
        transitions: of the sound ones.
        sound: numbers of the sound ones, in order.
        unsound: what is wrong with each of the others, by number.
        checksums: whether every chunk has one. Older files have none; what a flipped
            bit made of them may go unseen.
        file_format: `latentwrap`, or `latentwrap-latents` of a file of latents; else empty.
    """

    path: Path
    problems: tuple[str, ...]
    episodes: int | None
    transitions: int
    sound: tuple[int, ...]
    unsound: Mapping[int, str]
    checksums: bool
    file_format: str

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems and not self.unsound


@dataclass(frozen=True)
class PartialReport:
    """What was found of an unfinished file.

    Attributes:
        run: what lies in the folder.
        pieces: of it, each with one episode or more; all in one where they were joined already.
    """

    run: PartialRun
    pieces: tuple[FileReport, ...]

    @property
    def episodes(self) -> int:
        """Whole ones."""
        return sum(len(piece.sound) for piece in self.pieces)

    @property
    def transitions(self) -> int:
        """Of the whole ones."""
        return sum(piece.transitions for piece in self.pieces)

    @property
    def damaged(self) -> tuple[FileReport, ...]:
        """Pieces that are not whole; a power cut can leave such, a killed process cannot."""
        return tuple(piece for piece in self.pieces if not piece.whole)


@dataclass(frozen=True)
class Verification:
    """Whether a dataset is whole.

    Attributes:
        path: of the dataset.
        file: what is there; `None` if there is only an unfinished one.
        partial: what there is of an unfinished one; `None` if there is none.
    """

    path: Path
    file: FileReport | None
    partial: PartialReport | None

    @property
    def whole(self) -> bool:
        """Whether there is a finished file with nothing wrong, and no unfinished one."""
        return self.file is not None and self.file.whole and self.partial is None

    @property
    def sources(self) -> tuple[FileReport, ...]:
        """Where the episodes lie, in order: those of the unfinished file follow what it continues.

        An unfinished file that is to replace the finished one counts only where there is no other.
        """
        if self.partial is None:
            return () if self.file is None else (self.file,)
        pieces = self.partial.pieces
        if self.partial.run.whole is not None or self.file is None:
            return pieces
        continues = self.partial.run.continues is not None
        return (self.file, *pieces) if continues else (self.file,)


def verify(path: str | Path, *, show_progress: bool = False) -> Verification:
    """Read every chunk of a dataset and say what is sound.

    Another process does the reading, under limits, so that a damaged or hostile file can do no
    harm; nothing outside of the file is opened.

    Args:
        path: the dataset, finished or not; or the folder of an unfinished one.
        show_progress: draw a progress bar on standard error.

    Raises:
        DatasetError: there is neither.

    Example:
        >>> import tempfile
        >>> from latentwrap.datasets import collect
        >>> path = tempfile.mkdtemp() + "/pendulum.h5"
        >>> _ = collect("latentwrap/PixelPendulum-v0", path, steps=250)
        >>> found = verify(path)
        >>> found.whole, found.file.sound, found.file.transitions
        (True, (0, 1), 250)
    """
    path = _file_of(Path(path))
    run = PartialRun.of(path)
    partial = run if run.worth_keeping else None
    if partial is None and not path.is_file():
        raise DatasetError(f"The dataset {path} does not exist or is no file.")
    pieces = () if partial is None else partial.pieces if run.whole is None else (run.whole,)
    finished = (path,) if path.is_file() else ()
    reports = examine((*finished, *pieces), show_progress=show_progress)
    return Verification(
        path=path,
        file=reports[0] if finished else None,
        partial=None if partial is None else PartialReport(run, reports[len(finished) :]),
    )


def examine(paths: Sequence[Path], *, show_progress: bool = False) -> tuple[FileReport, ...]:
    """Read every chunk of some files, each of which must exist."""
    with _Reader() as reader:
        return reader.read(paths, show_progress=show_progress)


def _file_of(path: Path) -> Path:
    """The dataset, where the folder of an unfinished one was named."""
    if path.is_dir() and path.name.endswith(SUFFIX):
        return path.with_name(path.name.removesuffix(SUFFIX))
    return path


class _Reader:
    """The process that reads; one that died is replaced."""

    def __init__(self) -> None:
        self._process = start_child("latentwrap.datasets.wholeness.verify_child")

    def __enter__(self) -> _Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def read(self, paths: Sequence[Path], *, show_progress: bool) -> tuple[FileReport, ...]:
        """Examine files one after the other."""
        sizes = [path.stat().st_size / 2**20 for path in paths]
        reports = []
        with bar("Verifying (MiB)", sum(sizes), show=show_progress) as progress:
            for number, path in enumerate(paths):
                before, size = sum(sizes[:number]), sizes[number]

                def moved(share: float, before: float = before, size: float = size) -> None:
                    progress.move_to(before + share * size)

                reports.append(self._read(path, moved))
                moved(1)
        return tuple(reports)

    def _read(self, path: Path, moved: Callable[[float], None]) -> FileReport:
        limits = Limits.of(path.stat().st_size).of_all()
        found: dict[str, Any] = {}
        code = 1
        for message in self._ask(
            {"name": str(path), "path": str(path.resolve()), "limits": asdict(limits)}
        ):
            if "exit" in message:
                code = message["exit"]
                break
            found = message.get("found", found)
            if message.get("total"):
                moved(message["done"] / message["total"])
        if code or not found:
            return _died(path, code)
        return FileReport(
            path=path,
            problems=tuple(found["problems"]),
            episodes=found["episodes"],
            transitions=found["rows"] - len(found["sound"]),
            sound=tuple(found["sound"]),
            unsound={int(number): flaw for number, flaw in found["unsound"].items()},
            checksums=found["checksums"],
            file_format=found["file_format"],
        )

    def _ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers, line by line; they end early if the process died."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            yield json.loads(line)
        self.__exit__(None, None, None)
        self._process = start_child("latentwrap.datasets.wholeness.verify_child")


def _died(path: Path, code: int) -> FileReport:
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    problem = f"it crashed the process that reads it ({cause}), so it is damaged or made to harm"
    return FileReport(path, (problem,), None, 0, (), {}, checksums=False, file_format="")
