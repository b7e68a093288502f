"""How far an import has come, kept in the file itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.identity import Identity
from latentwrap.datasets.importers.rows import CutEpisode
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.reader import Dataset
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.errors import DatasetError

_KEY = "import"
_READ, _SKIPPED, _REWARDS, _ENDS, _IDENTITY = (
    "read", "skipped", "lost_rewards", "moved_ends", "identity")  # fmt: skip


class Position:
    """How many episodes of the source were read, and which of them were left out.

    Episodes that are left out make the number of written ones fall behind, so that a resumed
    import would take some twice. The position therefore stands in the provenance of every episode
    that is stored, together with the episode: no crash can part them.

    Attributes:
        info: what the writer writes; its provenance is kept up to date.
        read: episodes of the source that are done with.
        skipped: how many of them were left out, by reason.
        lost_rewards: how many of the written ones lost a last reward other than 0.
        moved_ends: how many terminate one transition before they did.
    """

    def __init__(self, info: DatasetInfo, identity: Identity, before: Mapping[str, Any]) -> None:
        self.info = info
        self.read = int(before.get(_READ, 0))
        self.skipped: Counter[str] = Counter(before.get(_SKIPPED, {}))
        self.lost_rewards = int(before.get(_REWARDS, 0))
        self.moved_ends = int(before.get(_ENDS, 0))
        self._identity = identity
        self._note()

    @classmethod
    def of(cls, writer: DatasetWriter, info: DatasetInfo, identity: Identity) -> Position:
        """Where a new import begins, or a resumed one goes on.

        Args:
            writer: just opened.
            info: the very one that it writes.
            identity: of the source.

        Raises:
            DatasetError: what the writer holds is of another source, of one that has changed, or
                no import.
        """
        if not writer.episodes:
            return cls(info, identity, {})
        stored = _provenance(writer.sources[-1])
        _check_same_source(stored, info.provenance, writer.path)
        before = stored[_KEY]
        position = cls(info, identity, before)
        _check_unchanged(before.get(_IDENTITY), info.provenance, writer.path)
        if position.read - position.skipped.total() != writer.episodes:
            raise DatasetError(
                f"{writer.path} has lost an episode of the interrupted import: pass --force to "
                "begin anew."
            )
        return position

    def take(self, episode: Episode) -> None:
        """The next episode will be written."""
        self.read += 1
        if isinstance(episode, CutEpisode):
            self.lost_rewards += episode.lost_reward
            self.moved_ends += episode.moved_end
        self._note()

    def skip(self, reason: str) -> None:
        """The next episode is left out."""
        self.read += 1
        self.skipped[reason] += 1
        self._note()

    def _note(self) -> None:
        # The writer stores the provenance beside each episode, and at last in the whole file.
        self.info.provenance[_KEY] = {
            _READ: self.read,
            _SKIPPED: dict(self.skipped),
            _REWARDS: self.lost_rewards,
            _ENDS: self.moved_ends,
            _IDENTITY: self._identity.at(self.read),
        }


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


def _check_unchanged(stored: Any, now: dict[str, Any], path: Path) -> None:
    if stored != now[_KEY][_IDENTITY]:
        raise DatasetError(
            f"{now['source']} has changed since episodes of it were read for {path}: bring it back "
            "as it was, or pass --force to begin anew."
        )
