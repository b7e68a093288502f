"""Which formats can be imported, and which of them a source is of."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from latentwrap.datasets.importers.hdf5 import is_dataset_of_ours
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.errors import ConfigError, DatasetError, did_you_mean


class _Module(Protocol):
    """What the module of a format must hold."""

    recognises: Callable[[str], bool]
    open_source: Callable[[str, ImportOptions], Source]


@dataclass(frozen=True)
class Format:
    """A format; its module is loaded when asked for.

    Attributes:
        name: what `--format` takes.
        module: in this package.
        about: one line that says what the format is.
    """

    name: str
    module: str
    about: str

    def recognises(self, source: str) -> bool:
        """Whether a source, a path or a name, is of this format.

        Raises:
            DatasetError: a file that cannot be read at all.
        """
        return self._load().recognises(source)

    def open(self, source: str, options: ImportOptions) -> Source:
        """Open a source of this format.

        Raises:
            LatentwrapError: it is not, or does not fit the options.
        """
        return self._load().open_source(source, options)

    def _load(self) -> _Module:
        return cast(
            _Module, importlib.import_module(f"latentwrap.datasets.importers.{self.module}")
        )


FORMATS = (
    Format("minari", "minari", "Minari datasets: minari:NAME or a folder"),
    Format("lerobot", "lerobot", "LeRobot v3.0 folders with videos"),
    Format("rlds", "rlds", "RLDS folders of TensorFlow Datasets"),
    Format("vd4rl", "vd4rl", "V-D4RL 64 px, a folder of npz episodes"),
    Format("vd4rl_shards", "vd4rl_shards", "V-D4RL 84 px, HDF5 shards"),
    Format("robomimic", "robomimic", "robomimic HDF5 with images"),
    Format("d4rl", "d4rl", "D4RL HDF5 with images"),
    Format("ogbench", "ogbench", "OGBench visual npz"),
    Format("npz", "npz_folder", "a folder of npz files, one an episode"),
    Format("video", "videos", "videos with a file of actions"),
)
"""All formats; where two would recognise a source, the first one is meant."""


def find_format(source: str, name: str | None = None) -> Format:
    """The format of a source.

    Args:
        source: a path or a name.
        name: the format, where it is known.

    Raises:
        ConfigError: there is no format of that name.
        DatasetError: the source does not exist, is a dataset of ours, or is of no known format.
    """
    if name is not None:
        return _named(name)
    for each in FORMATS:
        if each.recognises(source):
            return each
    raise DatasetError(_why_unknown(source))


def _named(name: str) -> Format:
    for each in FORMATS:
        if each.name == name:
            return each
    known = [each.name for each in FORMATS]
    raise ConfigError(f"There is no format {name!r} to import: {did_you_mean(name, known)}")


def _why_unknown(source: str) -> str:
    if not Path(source).exists():
        return (
            f"{source} does not exist: name a file or a folder, or a local Minari dataset as "
            "minari:NAME."
        )
    if is_dataset_of_ours(source):
        return (
            f"{source} is a latentwrap dataset already: pretrain on it, or lay it out anew with "
            "latentwrap rechunk."
        )
    names = ", ".join(each.name for each in FORMATS)
    return (
        f"{source} is of no format that latentwrap recognises: name one with --format, of {names}."
    )
