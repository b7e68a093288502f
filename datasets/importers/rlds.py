"""RLDS: folders of TensorFlow Datasets whose examples are episodes of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import action_spec
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.meta_files import read_json
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.ordering import natural
from latentwrap.datasets.importers.rlds_features import FEATURES, read_features
from latentwrap.datasets.importers.rlds_steps import action_of, episode_of_steps
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.extras import require
from latentwrap.types import AnyArray

_INFO = "dataset_info.json"
_STEPS, _OBSERVATION, _ACTION = "steps", "observation", "action"
_BLOCK = 64
"""Actions that are looked at together."""


def recognises(source: str) -> bool:
    """Whether a source is a folder of TensorFlow Datasets with the feature `steps`."""
    folder = version_folder(source)
    if folder is None:
        return False
    try:
        return _STEPS in _feature_names(read_json(folder / FEATURES))
    except DatasetError:
        return True  # so that it is refused in a sentence about this file


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a folder.

    Raises:
        DatasetError: it is damaged, holds no episodes, or no images.
        EnvironmentMismatch: a key that is not there.
        MissingExtra: tensorflow_datasets is not installed.
    """
    folder = version_folder(source)
    if folder is None:
        raise DatasetError(
            f"{source} holds no {_INFO} and {FEATURES}: name a folder of TensorFlow Datasets, "
            "such as my_data/1.0.0."
        )
    return _RLDS(folder, options)


def version_folder(source: str) -> Path | None:
    """A folder that TensorFlow Datasets wrote: the source, or the newest version in it."""
    folder = Path(source)
    inside = sorted(folder.glob("*.*.*/"), key=lambda each: natural(each.name), reverse=True)
    for each in (folder, *inside):
        if (each / _INFO).is_file() and (each / FEATURES).is_file():
            return each
    return None


class _RLDS:
    """An opened folder; TensorFlow reads the episodes one by one."""

    def __init__(self, folder: Path, options: ImportOptions) -> None:
        read_features(folder)
        self.identity: Identity = WholeSource(folder)
        self._tfds = _tfds()
        self._folder = folder
        self._builder = self._tfds.builder_from_directory(str(folder))
        self._splits = sorted(self._builder.info.splits)
        steps = self._builder.info.features[_STEPS]
        observation = steps[_OBSERVATION]
        self._seen = Observations(_space(observation), options, what=str(folder))
        self._action_keys = tuple(_number_names(steps[_ACTION]))
        self._action = action_spec(options, self._all_actions(), str(folder))
        self.lossy = _loss(observation, self._seen.cameras)
        self.info = DatasetInfo(
            env_id=options.env_id or f"rlds/{self._builder.name}",
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
            provenance={"splits": self._splits},
            vectors=self._seen.vectors,
        )

    @property
    def count(self) -> int:
        """Episodes of all splits."""
        return sum(self._builder.info.splits[name].num_examples for name in self._splits)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on, split after split in the order of their names."""
        for name in self._splits:
            size = self._builder.info.splits[name].num_examples
            if first < size:
                for example in self._read(f"{name}[{first}:]", None):
                    yield self._episode(example)
            first = max(first - size, 0)

    def close(self) -> None:
        """Nothing is open between episodes."""

    def _episode(self, example: Mapping[str, Any]) -> Episode:
        return episode_of_steps(
            self._flat(example[_STEPS]),
            self._seen,
            self._action,
            self._action_keys,
            str(self._folder),
        )

    def _flat(self, steps: Any) -> Iterator[Mapping[str, Any]]:
        for step in steps:
            yield {**step, _OBSERVATION: _flattened(step[_OBSERVATION])}

    def _all_actions(self) -> Iterator[AnyArray]:
        """All actions, without decoding images; those of last steps mean nothing."""
        observation = self._builder.info.features[_STEPS][_OBSERVATION]
        undecoded = {_STEPS: {_OBSERVATION: _skipping(observation)}}
        block: list[AnyArray] = []
        for name in self._splits:
            for example in self._read(name, undecoded):
                taken = [action_of(step[_ACTION], self._action_keys) for step in example[_STEPS]]
                block += taken[:-1]
                if len(block) > _BLOCK:
                    yield np.stack(block)
                    block = []
        if block:
            yield np.stack(block)

    def _read(self, split: str, decoders: Any) -> Iterator[Mapping[str, Any]]:
        """Examples in the order in which they are stored, always the same."""
        order = self._tfds.ReadConfig(
            interleave_cycle_length=1, num_parallel_calls_for_interleave_files=1,
            num_parallel_calls_for_decode=1, try_autocache=False,
        )  # fmt: skip
        tensorflow = _tensorflow()
        try:
            data = self._builder.as_dataset(
                split=split, decoders=decoders, read_config=order, shuffle_files=False
            )
            yield from self._tfds.as_numpy(data)
        except (tensorflow.errors.OpError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise DatasetError(f"{self._folder} is damaged ({reason}): get it anew.") from None


def _tfds() -> Any:
    return require("tensorflow_datasets", extra="rlds", purpose="Importing RLDS datasets")


def _tensorflow() -> Any:
    return require("tensorflow", extra="rlds", purpose="Importing RLDS datasets")


def _feature_names(document: Mapping[str, Any]) -> set[str]:
    entry = document.get("featuresDict", {})
    found = entry.get("features", {}) if isinstance(entry, dict) else {}
    return set(found)


def _space(feature: Any) -> spaces.Space[Any]:
    """Of one observation; entries of Dicts inside are named `outer.inner`."""
    leaves = _leaves(feature)
    if "" in leaves:
        return box_of(leaves[""].shape, leaves[""].np_dtype)
    boxes: dict[str, spaces.Space[Any]] = {
        name: box_of(leaf.shape, leaf.np_dtype)
        for name, leaf in leaves.items()
        if None not in leaf.shape and np.dtype(leaf.np_dtype).kind in "biuf"
    }
    return spaces.Dict(boxes)


def _leaves(feature: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(feature, _tfds().features.FeaturesDict):
        return {prefix: feature}
    found: dict[str, Any] = {}
    for key, inner in feature.items():
        found |= _leaves(inner, f"{prefix}.{key}" if prefix else key)
    return found


def _skipping(feature: Any) -> Any:
    """Decoders that leave images as they are stored."""
    if isinstance(feature, _tfds().features.FeaturesDict):
        found = {key: _skipping(inner) for key, inner in feature.items()}
        return {key: decoder for key, decoder in found.items() if decoder is not None}
    is_image = isinstance(feature, _tfds().features.Image)
    return _tfds().decode.SkipDecoding() if is_image else None


def _flattened(observation: Any, prefix: str = "") -> Any:
    if not isinstance(observation, Mapping):
        return observation
    found: dict[str, Any] = {}
    for key, inner in observation.items():
        name = f"{prefix}.{key}" if prefix else key
        found |= _flattened(inner, name) if isinstance(inner, Mapping) else {name: inner}
    return found


def _number_names(action: Any) -> Iterator[str]:
    """Entries of a Dict action that are numbers, in the order of their names; none of an array."""
    if isinstance(action, _tfds().features.FeaturesDict):
        for key in sorted(action.keys()):
            if np.dtype(action[key].np_dtype).kind in "biuf":
                yield key


def _loss(observation: Any, cameras: tuple[str, ...]) -> str | None:
    leaves = _leaves(observation)
    chosen = [leaves[name] for name in cameras] or [leaves[""]]
    if all("png" in str(getattr(each, "encoding_format", None) or "png") for each in chosen):
        return None
    return "its frames went through JPEG, which changed their pixels"
