"""Minari datasets, read through the `minari` package: HDF5 and Arrow alike.

An episode has one observation more than actions, as ours have frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import stored_actions
from latentwrap.datasets.importers.hdf5 import open_foreign
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.meta_files import read_json
from latentwrap.datasets.importers.observing import Observations, numbers
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.extras import require
from latentwrap.types import AnyArray, FloatArray

PREFIX = "minari:"
_PURPOSE = "Reading a Minari dataset"
_METADATA, _HDF5 = "metadata.json", "main_data.hdf5"
_WIDEST_STATE = 1024
"""Numbers in an info that is taken for a state; more of them are an image or a map."""


def recognises(source: str) -> bool:
    """Whether a source is `minari:NAME`, or the folder of a Minari dataset."""
    if source.startswith(PREFIX):
        return True
    return any("minari_version" in _metadata(folder) for folder in _folders(source))


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a Minari dataset of this machine.

    Raises:
        MissingExtra: `minari` is not installed.
        DatasetError: there is no such dataset, it is damaged, or holds no images.
        EnvironmentMismatch: a key that is not there, or actions that cannot be stored.
    """
    minari = require("minari", extra="import", purpose=_PURPOSE)
    folder = _find(source)
    _check_metadata(folder, source)
    try:
        dataset = minari.MinariDataset(folder)
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{source} cannot be read by minari: {_first_line(error)}.") from None
    return _Minari(dataset, source, options, WholeSource(folder))


class _Minari:
    """An opened dataset; `minari` opens its files for each episode anew."""

    def __init__(
        self, dataset: Any, source: str, options: ImportOptions, identity: Identity
    ) -> None:
        self._dataset, self._source = dataset, source
        self.identity = identity
        self._space = dataset.observation_space
        self._seen = Observations(self._space, options, what=source)
        self._action = ActionSpec(dataset.action_space)
        self._states: dict[str, int] | None = None
        spec = dataset.env_spec
        self.info = DatasetInfo(
            env_id=options.env_id or (dataset.id if spec is None else spec.id),
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
            provenance={"dataset": dataset.id},
            vectors=self._seen.vectors,
        )

    @property
    def count(self) -> int:
        """Episodes in the dataset."""
        return int(self._dataset.total_episodes)

    @property
    def lossy(self) -> str | None:
        """JPEG, unless the dataset says that it stores pixels as they are."""
        storage = self._dataset.storage
        entries = _flat(self._space)
        keys = self._seen.cameras or ("",)
        if getattr(storage, "jpeg_encoding", True) and any(_is_jpeg(entries[k]) for k in keys):
            return "its images went through JPEG, which blurs small objects and edges."
        return None

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on, one at a time in memory."""
        self._states = self._states or self._known_states()
        for number in self._dataset.episode_indices[first:].tolist():
            yield self._episode(self._read(number))

    def close(self) -> None:
        """Nothing is open."""

    def _read(self, number: int) -> Any:
        try:
            return next(iter(self._dataset.iterate_episodes([number])))
        except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise DatasetError(
                f"Episode {number} of {self._source} is damaged ({_first_line(error)}): get it "
                "anew."
            ) from None

    def _episode(self, data: Any) -> Episode:
        seen = _flat(data.observations)
        columns: Any = seen if isinstance(self._space, spaces.Dict) else seen[""]
        terminated = bool(len(data.terminations) and data.terminations[-1])
        truncated = bool(len(data.truncations) and data.truncations[-1])
        return Episode(
            frames=self._seen.frames(columns),
            actions=stored_actions(self._action, data.actions),
            rewards=np.asarray(data.rewards, np.float32).reshape(-1),
            terminated=terminated,
            truncated=truncated or not terminated,
            states=self._states_of(data),
            vectors=self._seen.vector_columns(columns),
        )

    def _known_states(self) -> dict[str, int]:
        """The infos of the first episode that are numbers beside every frame, and their sizes."""
        data = self._read(int(self._dataset.episode_indices[0])) if self.count else None
        infos = {} if data is None else _flat(data.infos or {})
        rows = 0 if data is None else len(data.rewards) + 1
        found = {name: numbers(v) for name, v in infos.items() if _is_state(name, v, rows)}
        return {name: values.shape[1] for name, values in found.items()}

    def _states_of(self, data: Any) -> dict[str, FloatArray]:
        infos, rows = _flat(data.infos or {}), len(data.rewards) + 1
        columns = {}
        for name, size in (self._states or {}).items():
            values: Any = infos.get(name)
            known = _is_state(name, values, rows) and numbers(values).shape[1] == size
            columns[name] = numbers(values) if known else np.full((rows, size), np.nan, np.float32)
        return columns


def _find(source: str) -> Path:
    """The folder that holds the data."""
    found = _folders(source)
    if found:
        return found[0]
    if source.startswith(PREFIX):
        name = source.removeprefix(PREFIX)
        raise DatasetError(
            f"There is no Minari dataset {name!r} on this machine: get it by minari download "
            f"{name}, or name a folder."
        )
    raise DatasetError(f"{source} is no folder of a Minari dataset: name one, or minari:NAME.")


def _folders(source: str) -> list[Path]:
    """Folders that may hold the metadata: the dataset's own, or the one inside it."""
    path = Path(source)
    if source.startswith(PREFIX):
        minari = require("minari", extra="import", purpose=_PURPOSE)
        name = source.removeprefix(PREFIX)
        try:
            minari.dataset.minari_dataset.parse_dataset_id(name)
        except (TypeError, ValueError):
            raise DatasetError(
                f"{name!r} is no name of a Minari dataset: write minari:NAMESPACE/NAME-vN."
            ) from None
        path = minari.storage.get_dataset_path(name)
    return [folder for folder in (path, path / "data") if (folder / _METADATA).is_file()]


def _metadata(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / _METADATA)
    except DatasetError:
        return {}


def _check_metadata(folder: Path, source: str) -> None:
    """Refuse what would make `minari` run code that the dataset names.

    Where a space is missing, `minari` makes the environment of the specification in the file, and
    that may name any function of any module.
    """
    missing = {"observation_space", "action_space"} - _metadata(folder).keys()
    if missing:
        raise DatasetError(
            f"{source} lacks the {' and '.join(sorted(missing))} in its metadata: write it anew "
            "with a newer minari."
        )
    if (folder / _HDF5).is_file():
        open_foreign(folder / _HDF5).close()


def _flat(columns: Any, prefix: str = "") -> dict[str, Any]:
    """Columns by key, those of a mapping inside as `outer.inner`; a lone column has the key ''."""
    columns = _by_key(columns)
    if not isinstance(columns, Mapping):
        return {prefix: columns}
    found: dict[str, Any] = {}
    for key, value in columns.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _by_key(values: Any) -> Any:
    """The Arrow backend gives the dicts inside an info as a column of dicts."""
    rows = isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1
    if not rows or not len(values) or not all(isinstance(row, Mapping) for row in values):
        return values
    return {key: np.array([row.get(key) for row in values]) for key in values[0]}


def _is_jpeg(space: gym.Space[Any]) -> bool:
    """Whether `minari` stores a space as JPEG, where it does so at all."""
    storage = require("minari.dataset.minari_storage", extra="import", purpose=_PURPOSE)
    return bool(storage.is_image_space(space))


def _is_state(name: str, values: Any, rows: int) -> bool:
    array: AnyArray = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or "/" in name:
        return False
    return len(array) == rows and 0 < array[:1].size <= _WIDEST_STATE


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
