"""robomimic: HDF5 with a group for each demonstration.

Row t holds the observation before action t; `next_obs`, where it was stored, the one after.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import action_spec, stored_actions
from latentwrap.datasets.importers.hdf5 import blocks, column, names_in, open_foreign, read_rows
from latentwrap.datasets.importers.hdf5_rows import ObservedRows, observed
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.observing import Observations
from latentwrap.datasets.importers.ordering import natural
from latentwrap.datasets.importers.rows import episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray

_DEMO = "demo_"
_PROPRIOCEPTION = "robot"
"""Begin of the keys that a robot measures about itself, such as `robot0_eef_pos`."""

_TRUTH = ("object", "object-state")
"""Keys that only a simulator knows."""


def recognises(source: str) -> bool:
    """Whether a source is HDF5 with demonstrations."""
    if "data" not in names_in(source):
        return False
    with open_foreign(source) as file:
        data = file["data"]
        return isinstance(data, h5py.Group) and any(name.startswith(_DEMO) for name in data)


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a robomimic file.

    Raises:
        DatasetError: it is none, or holds no images.
        EnvironmentMismatch: a key that is not there, or several cameras and none named.
    """
    file = open_foreign(source)
    try:
        return _Robomimic(file, source, options)
    except BaseException:
        file.close()
        raise


class _Robomimic:
    """An opened file."""

    lossy: str | None = None

    def __init__(self, file: h5py.File, source: str, options: ImportOptions) -> None:
        self._file, self._source = file, source
        self.identity: Identity = WholeSource(Path(source))
        self._needed: dict[str, tuple[int, ...]] = {}
        self._demos = _demos(file, source)
        rows = self._rows(self._demos[0], "obs")
        self._seen = Observations(
            rows.space, options, known_vectors=_proprioception(rows), what=source
        )
        self._truths = tuple(
            key for key in _TRUTH if key in rows.sizes and key not in self._seen.vectors.names
        )
        needed = {*self._seen.cameras, *self._seen.vectors.names, *self._truths}
        self._needed = {key: rows.sizes[key] for key in needed}
        self._action = action_spec(options, self._all_actions(), source)
        self.info = DatasetInfo(
            env_id=options.env_id or _env_name(file["data"]) or Path(source).stem,
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
            vectors=self._seen.vectors,
        )

    @property
    def count(self) -> int:
        """Demonstrations."""
        return len(self._demos)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The demonstrations from the one in place `first` on, in the order of their numbers."""
        for demo in self._demos[first:]:
            yield self._episode(demo)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _episode(self, demo: h5py.Group) -> Episode:
        rows = self._rows(demo, "obs")
        after = self._rows(demo, "next_obs") if "next_obs" in demo else None
        steps = len(column(demo, "actions", self._source))
        found = observed(self._seen, rows, after, 0, steps, self._truths)
        states = {"states": self._whole(demo, "states")} if "states" in demo else {}
        return episode_of_rows(
            found.frames,
            stored_actions(self._action, self._whole(demo, "actions")),
            self._whole(demo, "rewards") if "rewards" in demo else None,
            terminated=_done(demo),
            states={**found.others, **states},
            vectors=found.vectors,
        )

    def _whole(self, demo: h5py.Group, name: str) -> AnyArray:
        data = column(demo, name, self._source)
        return read_rows(data, 0, len(data))

    def _rows(self, demo: h5py.Group, name: str) -> ObservedRows:
        rows = ObservedRows(demo.get(name), f"{demo.name} in {self._source}")
        steps = len(column(demo, "actions", self._source))
        if len(rows) != steps:
            raise DatasetError(
                f"{self._source} has {len(rows)} rows of {demo.name}/{name} but {steps} actions: "
                "get it anew."
            )
        rows.require(self._needed)
        return rows

    def _all_actions(self) -> Iterator[AnyArray]:
        for demo in self._demos:
            data = column(demo, "actions", self._source)
            yield from blocks(data, 0, len(data))


def _demos(file: h5py.File, source: str) -> list[h5py.Group]:
    data = file.get("data")
    names = [name for name in data if name.startswith(_DEMO)] if data is not None else []
    found = [data[name] for name in sorted(names, key=natural)]
    if not found or not all(isinstance(demo, h5py.Group) for demo in found):
        raise DatasetError(f"{source} lacks /data/{_DEMO}0: it is no robomimic file.")
    return found


def _proprioception(rows: ObservedRows) -> tuple[str, ...]:
    return tuple(
        key
        for key, shape in sorted(rows.sizes.items())
        if key.startswith(_PROPRIOCEPTION) and len(shape) < 2
    )


def _env_name(data: h5py.Group) -> str | None:
    """The environment that the file says its data is of."""
    try:
        told: Any = json.loads(data.attrs["env_args"])
        name = told["env_name"]
    except (KeyError, TypeError, ValueError):
        return None
    return name if isinstance(name, str) else None


def _done(demo: h5py.Group) -> bool:
    flags = demo.get("dones")
    return isinstance(flags, h5py.Dataset) and flags.ndim == 1 and bool(len(flags) and flags[-1])
