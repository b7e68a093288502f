"""What folders of npz files have in common, one file an episode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.identity import EpisodeFiles, Identity
from latentwrap.datasets.importers.npz_files import NpzFile, npz_paths
from latentwrap.errors import DatasetError


class NpzEpisodes(ABC):
    """An opened folder; every file is opened when its turn comes.

    Args:
        source: the folder.

    Raises:
        DatasetError: it holds no npz files.
    """

    lossy: str | None = None

    def __init__(self, source: str) -> None:
        self._paths = npz_paths(source)
        if not self._paths:
            raise DatasetError(f"{source} holds no npz files: name a folder with one an episode.")
        self.identity: Identity = EpisodeFiles([(path,) for path in self._paths])

    @property
    def count(self) -> int:
        """One for each file."""
        return len(self._paths)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on, in the order of the numbers in their names."""
        for path in self._paths[first:]:
            with NpzFile(path) as file:
                yield self._episode(file, path)

    def close(self) -> None:  # noqa: B027 - no subclass needs another
        """Nothing is open between episodes."""

    @abstractmethod
    def _episode(self, file: NpzFile, path: Path) -> Episode:
        """The episode in a file."""
