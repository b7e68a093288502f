"""What the comparison measures: returns over the seconds that a method has learned for."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from latentwrap.agents import EvaluationResult
from latentwrap.files import written_whole


@dataclass(frozen=True)
class Row:
    """One evaluation of one run.

    Attributes:
        task, method, seed: which run.
        threads: of torch.
        learning_seconds: wall-clock time before it, without that of evaluations.
        env_steps: steps of the environment before it, collected data included.
        agent_steps: those of the agent, which repeats its actions.
        return_mean, return_std: over the episodes of the evaluation.
    """

    task: str
    method: str
    seed: int
    threads: int
    learning_seconds: float
    env_steps: int
    agent_steps: int
    return_mean: float
    return_std: float

    @property
    def run(self) -> tuple[str, str, int]:
        """Which run it is of."""
        return self.task, self.method, self.seed


COLUMNS = [field.name for field in fields(Row)]


class Stopwatch:
    """Counts the seconds since `start` that are not spent inside `paused`."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Counted so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._before + running

    def start(self) -> None:
        """Count from now on."""
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing inside counts."""
        self._before, self._since = self.seconds, None
        try:
            yield
        finally:
            self.start()


class Watch:
    """Evaluates a run at fixed intervals of its learning time, and ends it when that is up.

    Args:
        path: the CSV file that its rows are added to.
        run: task, method and seed.
        threads: of torch, for the rows.
        action_repeat: environment steps in a step of the agent.
        minutes: of learning in all.
        every: minutes between two evaluations.

    Attributes:
        clock: of the learning time; a method starts it when its environments are made.
    """

    def __init__(
        self,
        path: Path,
        run: tuple[str, str, int],
        *,
        threads: int,
        action_repeat: int,
        minutes: float,
        every: float,
    ) -> None:
        self._path, self._run, self._threads = path, run, threads
        self._action_repeat = action_repeat
        self._limit, self._every = 60 * minutes, 60 * every
        self._due = 0.0
        self.clock = Stopwatch()

    @property
    def minutes_left(self) -> float:
        """Of the budget."""
        return max(0.0, self._limit - self.clock.seconds) / 60

    def step(self, agent_steps: int, evaluate: Callable[[], EvaluationResult]) -> bool:
        """To be called after every step, and once before the first.

        Args:
            agent_steps: taken so far, those of collected data included.
            evaluate: called when it is time.

        Returns:
            Whether there is time for another step.
        """
        seconds = self.clock.seconds
        if seconds < self._due:
            return True
        with self.clock.paused():
            self._record(seconds, agent_steps, evaluate())
        following = self._every * (seconds // self._every + 1)
        self._due = min(following, self._limit)
        return seconds < self._limit

    def _record(self, seconds: float, agent_steps: int, result: EvaluationResult) -> None:
        row = Row(
            *self._run,
            self._threads,
            round(seconds, 2),
            agent_steps * self._action_repeat,
            agent_steps,
            round(result.mean, 3),
            round(result.std, 3),
        )
        append_row(self._path, row)
        print(
            f"{row.task} {row.method} seed {row.seed}: {seconds / 60:.2f} min, "
            f"{row.env_steps} steps, return {row.return_mean:.1f} ± {row.return_std:.1f}",
            flush=True,
        )


def read_rows(path: Path) -> list[Row]:
    """All rows of a file; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [_parsed(document) for document in csv.DictReader(file)]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace a file."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def append_row(path: Path, row: Row) -> None:
    """Add a row, to a new file if there is none."""
    write_rows(path, [*read_rows(path), row])


def forget_run(path: Path, run: tuple[str, str, int]) -> None:
    """Leave out the rows of a run, which is done anew."""
    rows = read_rows(path)
    kept = [row for row in rows if row.run != run]
    if len(kept) < len(rows):
        write_rows(path, kept)


def is_done(rows: Iterable[Row], run: tuple[str, str, int], minutes: float) -> bool:
    """Whether a run has used its minutes of learning."""
    return any(row.run == run and row.learning_seconds >= 60 * minutes - 0.01 for row in rows)


def merge(path: Path, part: Path) -> None:
    """Put the rows of a part, if there is one, into a file in place of those of the same runs."""
    news = read_rows(part)
    runs = {row.run for row in news}
    kept = [row for row in read_rows(path) if row.run not in runs]
    write_rows(path, sorted([*kept, *news], key=lambda row: (row.run, row.learning_seconds)))


def _parsed(document: dict[str, Any]) -> Row:
    return Row(
        document["task"],
        document["method"],
        int(document["seed"]),
        int(document["threads"]),
        float(document["learning_seconds"]),
        int(document["env_steps"]),
        int(document["agent_steps"]),
        float(document["return_mean"]),
        float(document["return_std"]),
    )
