"""How far an import has come, kept in the file itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.reader import Dataset
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.errors import DatasetError

_KEY = "import"


class Position:
    """How many episodes of the source were read, and which of them were left out.

    Episodes that are left out make the number of written ones fall behind, so that a resumed
    import would take some twice. The position therefore stands in the provenance of every episode
    that is stored, together with the episode: no crash can part them.

    Attributes:
        info: what the writer writes; its provenance is kept up to date.
        read: episodes of the source that are done with.
        skipped: how many of them were left out, by reason.
    """

    def __init__(self, info: DatasetInfo, read: int, skipped: Counter[str]) -> None:
        self.read = read
        self.skipped = skipped
        self.info = info
        self._note()

    @classmethod
    def of(cls, writer: DatasetWriter, info: DatasetInfo) -> Position:
        """Where a new import begins, or a resumed one goes on.

        Args:
            writer: just opened.
            info: the very one that it writes.

        Raises:
            DatasetError: what the writer holds is of another source, or no import.
        """
        if not writer.episodes:
            return cls(info, 0, Counter())
        stored = _provenance(writer.sources[-1])
        _check_same_source(stored, info.provenance, writer.path)
        before = stored[_KEY]
        position = cls(info, int(before["read"]), Counter(before["skipped"]))
        if position.read - position.skipped.total() != writer.episodes:
            raise DatasetError(
                f"{writer.path} has lost an episode of the interrupted import: pass --force to "
                "begin anew."
            )
        return position

    def take(self) -> None:
        """The next episode will be written."""
        self.read += 1
        self._note()

    def skip(self, reason: str) -> None:
        """The next episode is left out."""
        self.read += 1
        self.skipped[reason] += 1
        self._note()

    def _note(self) -> None:
        # The writer stores the provenance beside each episode, and at last in the whole file.
        self.info.provenance[_KEY] = {"read": self.read, "skipped": dict(self.skipped)}


def _provenance(path: Path) -> dict[str, Any]:
    stored = Dataset(path)
    stored.close()
    return stored.info.provenance


def _check_same_source(stored: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    if _KEY not in stored:
        raise DatasetError(
            f"{path} holds episodes that were not imported: choose another name or pass --force."
        )
    for name in ("format", "source"):
        if stored.get(name) != now[name]:
            raise DatasetError(
                f"{path} was begun with the {name} {stored.get(name)}, now it is {now[name]}: "
                "repeat the first command line or pass --force."
            )
