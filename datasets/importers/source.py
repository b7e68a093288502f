"""What every importer gives: a description of the data, then its episodes one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.identity import Identity
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.pixels import DEFAULT_SIZE


@dataclass(frozen=True)
class ImportOptions:
    """What the user may say about a source.

    Attributes:
        height, width, grey: of the frames to write; of several cameras, of each.
        image_keys: which images, several side by side; `None` takes the only one.
        vector_keys: what to keep beside the frames under `/vectors`; `None` takes what the format
            is known to have.
        layout: of the images, one of `latentwrap.pixels.LAYOUTS`; `None` tells it by the format.
        frame_skip: how often each action was repeated; `None` where the source knows.
        env_id: what the data is of; `None` where the source knows.
    """

    height: int = DEFAULT_SIZE
    width: int = DEFAULT_SIZE
    grey: bool = False
    image_keys: tuple[str, ...] | None = None
    vector_keys: tuple[str, ...] | None = None
    layout: str | None = None
    frame_skip: int | None = None
    env_id: str | None = None


class Source(Protocol):
    """An opened source; holds no more than an episode or so in memory."""

    @property
    def info(self) -> DatasetInfo:
        """What the written dataset is of; `provenance` names format and source."""

    @property
    def count(self) -> int | None:
        """How many episodes there are, as far as is known before reading them."""

    @property
    def lossy(self) -> str | None:
        """What spoiled the pixels before they came here, such as JPEG; `None` if nothing did."""

    @property
    def identity(self) -> Identity:
        """What tells that the source has changed since an import of it began."""

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on, always in the same order.

        Raises:
            DatasetError: the source is damaged or does not fit itself.
        """

    def close(self) -> None:
        """Close its files; a second call does nothing."""
