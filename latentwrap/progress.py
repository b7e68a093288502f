"""Progress bars on standard error, for what takes longer than a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """One bar; `advance` moves it and may change the words behind it."""

    def __init__(self, progress: Progress, title: str, total: float | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` is shown behind the bar until the next one."""
        self._progress.update(self._task, advance=steps)
        self._annotate(note)

    def move_to(self, completed: float, note: str | None = None) -> None:
        """Move to an absolute position."""
        self._progress.update(self._task, completed=completed)
        self._annotate(note)

    def _annotate(self, note: str | None) -> None:
        if note is not None:
            self._progress.update(self._task, note=note)


@contextmanager
def bar(title: str, total: float | None, *, show: bool = True) -> Iterator[Bar]:
    """Show a bar while the block runs.

    Args:
        title: a verb in -ing and its object.
        total: steps to go; `None` if unknown.
        show: off for library use and tests.
    """
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True),
        disable=not show,
    )
    with progress:
        yield Bar(progress, title, total)
