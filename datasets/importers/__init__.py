"""Readers of the datasets of others."""

from latentwrap.datasets.importers.importing import (
    ImportResult,
    LossySource,
    LostEnds,
    import_dataset,
)
from latentwrap.datasets.importers.registry import FORMATS, Format, find_format
from latentwrap.datasets.importers.source import ImportOptions, Source

__all__ = [
    "FORMATS",
    "Format",
    "ImportOptions",
    "ImportResult",
    "LossySource",
    "LostEnds",
    "Source",
    "find_format",
    "import_dataset",
]
