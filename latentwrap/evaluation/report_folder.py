"""The folder of a quality report: the numbers as JSON, and the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from latentwrap.errors import MissingExtra, OutputExists
from latentwrap.evaluation.page import render_page
from latentwrap.evaluation.report import QualityReport
from latentwrap.files import refuse_existing, to_json, written_whole
from latentwrap.training.run_folder import RunFolder

_FORMAT = "latentwrap-report"


@dataclass(frozen=True)
class WrittenReport:
    """Where a report lies.

    Attributes:
        numbers: the JSON file.
        page: the HTML page; `None` if it could not be drawn.
        note: why it could not be drawn, in a sentence.
    """

    numbers: Path
    page: Path | None
    note: str | None


class ReportFolder:
    """A folder with `report.json` and `index.html`.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = path / "report.json"
        self.page = path / "index.html"

    @classmethod
    def of(cls, checkpoint: Path) -> ReportFolder:
        """The folder that belongs to a checkpoint: `model.run/report`."""
        return cls(RunFolder.of(checkpoint).path / "report")

    def prepare(self, *, force: bool) -> None:
        """Make the folder, before time is spent; an earlier report is replaced with `force`.

        Raises:
            OutputExists: there is something else, or a report and no `force`.
            OSError: it cannot be made.
        """
        if self.path.exists() and not self._is_empty():
            if not self._holds_report():
                raise OutputExists(
                    f"{self.path} exists and latentwrap evaluate did not write it: choose another "
                    "folder with -o."
                )
            refuse_existing(self.path, force=force)
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, report: QualityReport) -> WrittenReport:
        """Write both files, each whole; the page is left out where an extra is missing."""
        self.page.unlink(missing_ok=True)  # the page of other numbers
        with written_whole(self.numbers) as temporary:
            document = {"format": _FORMAT, **report.to_json()}
            temporary.write_text(to_json(document, indent=2), encoding="utf-8")
        try:
            page = render_page(report)
        except MissingExtra as error:
            return WrittenReport(self.numbers, None, str(error))
        with written_whole(self.page) as temporary:
            temporary.write_text(page, encoding="utf-8")
        return WrittenReport(self.numbers, self.page, None)

    def _is_empty(self) -> bool:
        return self.path.is_dir() and not any(self.path.iterdir())

    def _holds_report(self) -> bool:
        try:
            document = json.loads(self.numbers.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(document, dict) and document.get("format") == _FORMAT
