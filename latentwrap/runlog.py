"""The record of a run: metrics as CSV and, where TensorBoard is installed, as its events."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from latentwrap.errors import CheckpointError, MissingExtra
from latentwrap.extras import require
from latentwrap.files import written_whole


class MetricLog:
    """Writes named numbers by step into `folder/metrics.csv` and `folder/tensorboard/`.

    Args:
        folder: made if missing.
        resume_at: continue an earlier log and drop its rows after this step; `None` starts anew.

    Attributes:
        note: a sentence for the user if TensorBoard is missing, else `None`.
    """

    def __init__(self, folder: Path, *, resume_at: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "metrics.csv"
        self._rows = [] if resume_at is None else _rows_until(self._path, resume_at)
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row)) or ["step"]
        self.note: str | None = None
        self._events = self._open_events(folder / "tensorboard", resume_at)
        self._file = self._rewritten()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record `metrics` at `step`; names may differ from call to call."""
        row = {"step": str(step), **{name: repr(float(v)) for name, v in metrics.items()}}
        self._rows.append(row)
        fresh = [name for name in row if name not in self._columns]
        if fresh:
            self._columns += fresh
            self._file.close()
            self._file = self._rewritten()
        else:
            csv.DictWriter(self._file, self._columns).writerow(row)
            self._file.flush()
        if self._events is not None:
            for name, value in metrics.items():
                self._events.add_scalar(name, float(value), step)

    def values(self, name: str) -> list[float]:
        """A metric over all rows that have it, those before a resume included."""
        return [float(row[name]) for row in self._rows if name in row]

    def close(self) -> None:
        """Flush and close the files."""
        self._file.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rewritten(self) -> TextIO:
        """The file anew, with all columns that are known by now; open to go on."""
        with (
            written_whole(self._path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        return self._path.open("a", newline="", encoding="utf-8")

    def _open_events(self, folder: Path, resume_at: int | None) -> Any:
        try:
            require("tensorboard", extra="train", purpose="The TensorBoard log")
        except MissingExtra as error:
            self.note = str(error)
            return None
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_at is None else resume_at + 1
        return SummaryWriter(str(folder), purge_step=purge)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.csv`; a metric that a row does not have is absent from it."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    try:
        return [row for row in rows if int(row["step"]) <= step]
    except (KeyError, ValueError):
        raise CheckpointError(
            f"The log {path} has rows without a step: move it away to go on without it."
        ) from None
