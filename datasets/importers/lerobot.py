"""LeRobot v3.0: Parquet files of rows and videos of frames, several episodes in each.

Row t holds what was observed, the action taken then, and as `next.…` what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import action_spec, stored_actions
from latentwrap.datasets.importers.bounds import BLOCK_ROWS, check_frames
from latentwrap.datasets.importers.identity import Identity, WholeSource
from latentwrap.datasets.importers.images import decode_image
from latentwrap.datasets.importers.lerobot_files import (
    INFO,
    EpisodeRow,
    Feature,
    Meta,
    Rows,
    numbers_in,
)
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.rows import episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.importers.video_files import Film
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.pixels import guess_layout, newest_shape
from latentwrap.types import AnyArray, Frames

_ACTION, _REWARD, _DONE, _TRUNCATED = "action", "next.reward", "next.done", "next.truncated"
_NUMBER, _TIME = "episode_index", "timestamp"
_PREFIXES = ("observation.images.", "observation.image.", "observation.")
_VIDEO_LOSS = "its frames went through a video codec, which changed their pixels"

_PICTURE_ROWS = 32
"""Rows in memory at a time where images lie in them."""

_PICTURES = ("video", "image")
_NUMBERS = frozenset(np.dtype(code).name for code in "?bBhHiIlLqQefd")
_PROPRIOCEPTION, _TRUTH = "state", "environment_state"


def recognises(source: str) -> bool:
    """Whether a source is a folder with LeRobot's `meta/info.json` and `data/`."""
    root = Path(source)
    return (root / INFO).is_file() and (root / "data").is_dir()


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a folder.

    Raises:
        DatasetError: of another version, damaged, or without images.
        EnvironmentMismatch: a key that is not there.
        MissingExtra: pyarrow, or what decodes videos, is not installed.
    """
    return _LeRobot(Path(source), options)


class _LeRobot:
    """An opened folder; one file of rows and one video for each camera are open at a time."""

    def __init__(self, root: Path, options: ImportOptions) -> None:
        self._meta = meta = Meta(root)
        self.identity: Identity = WholeSource(root)
        self._keys = _short_names(meta.features)
        options = _with_short_names(options, self._keys)
        space = _space(meta.features, self._keys)
        known = [_PROPRIOCEPTION] if _PROPRIOCEPTION in space.spaces else []
        self._seen = Observations(space, options, known_vectors=known, what=str(root))
        self._cameras = {name: meta.features[self._keys[name]] for name in self._seen.cameras}
        films = [self._keys[n] for n, each in self._cameras.items() if each.dtype == "video"]
        self.lossy = _VIDEO_LOSS if films else None
        self._episodes = meta.episodes(films)
        if not self._episodes:
            raise DatasetError(f"{root} holds no episodes: import another one.")
        self._rows: Rows | None = None
        self._films: dict[str, Film] = {}
        self._action = self._action_spec(options)
        self.info = DatasetInfo(
            env_id=options.env_id or f"lerobot/{root.resolve().name}",
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
            provenance={"fps": meta.fps, "robot": meta.robot},
            vectors=self._seen.vectors,
        )

    @property
    def count(self) -> int:
        """As many as `meta/` lists."""
        return len(self._episodes)

    def episodes(self, first: int = 0) -> Iterator[Episode]:
        """The episodes from number `first` on."""
        for row in self._episodes[first:]:
            yield self._episode(row)

    def close(self) -> None:
        """Close all files."""
        for film in self._films.values():
            film.close()
        self._films.clear()
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _episode(self, row: EpisodeRow) -> Episode:
        check_frames(row.length, math.prod(self._seen.frame.shape), self._meta.root)
        parts = [self._part(batch, row) for batch in self._batches(row)]
        if not parts:
            raise DatasetError(f"{row.data} has no rows of episode {row.number}: get it anew.")
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        ended = {n: bool(columns[n].reshape(-1)[-1]) for n in (_DONE, _TRUNCATED) if n in columns}
        vectors = {name: columns[self._keys[name]] for name in self._seen.vectors.names}
        truth = self._keys.get(_TRUTH)
        return episode_of_rows(
            columns["frames"],
            stored_actions(self._action, columns[_ACTION]),
            columns.get(_REWARD),
            terminated=ended.get(_DONE, False) and not ended.get(_TRUNCATED, False),
            states={_TRUTH: columns[truth]} if truth in columns else {},
            vectors=self._seen.vector_columns(vectors),
        )

    def _part(self, batch: Any, row: EpisodeRow) -> dict[str, AnyArray]:
        """The columns of some rows, with their frames, so that no more images than these wait."""
        columns = {
            name: numbers_in(batch.column(name), row.data)
            for name in self._names()
            if name not in self._pictured()
        }
        if (columns[_NUMBER] != row.number).any():
            raise DatasetError(
                f"{row.data} holds other rows where episode {row.number} should be: get it anew."
            )
        columns["frames"] = self._frames(batch, columns[_TIME], row)
        return columns

    def _frames(self, batch: Any, times: AnyArray, row: EpisodeRow) -> Frames:
        pictures = [self._images(name, batch, times, row) for name in self._cameras]
        return self._seen.frames_of_blocks(
            {name: image[None] for name, image in zip(self._cameras, images, strict=True)}
            for images in zip(*pictures, strict=True)
        )

    def _images(
        self, name: str, batch: Any, times: AnyArray, row: EpisodeRow
    ) -> Iterator[AnyArray]:
        key, feature = self._keys[name], self._cameras[name]
        if feature.dtype == "video":
            path, begin = row.films[key]
            yield from self._film(key, path, feature).at(begin + times.astype(float))
            return
        height, width = _size(feature)
        for value in batch.column(key):
            yield decode_image((value.as_py() or {}).get("bytes"), height, width, row.data)

    def _film(self, key: str, path: Path, feature: Feature) -> Film:
        """The video of a camera; the one that was open before is closed."""
        if key not in self._films or self._films[key].path != path:
            if key in self._films:
                self._films.pop(key).close()
            self._films[key] = film = Film(path, tolerance=0.5 / self._meta.fps)
            if film.shape[:2] != _size(feature):
                raise DatasetError(
                    f"{path} shows images of {film.shape[:2]}, but meta/ says {_size(feature)}: "
                    "get it anew."
                )
        return self._films[key]

    def _batches(self, row: EpisodeRow) -> Iterator[Any]:
        if self._rows is None or self._rows.path != row.data:
            if self._rows is not None:
                self._rows.close()
            batch_rows = _PICTURE_ROWS if self._pictured() else BLOCK_ROWS
            self._rows = Rows(row.data, self._names(), batch_rows)
        return self._rows.blocks(row.offset, row.length)

    def _names(self) -> list[str]:
        """Columns to read."""
        optional = [_REWARD, _DONE, _TRUNCATED, self._keys.get(_TRUTH)]
        wanted = [_NUMBER, _TIME, _ACTION, *(n for n in optional if n in self._meta.features)]
        wanted += [self._keys[name] for name in self._seen.vectors.names]
        return [name for name in dict.fromkeys([*wanted, *self._pictured()]) if name is not None]

    def _pictured(self) -> list[str]:
        """Those of them that hold images."""
        return [self._keys[name] for name, each in self._cameras.items() if each.dtype == "image"]

    def _action_spec(self, options: ImportOptions) -> ActionSpec:
        """The named environment's; else what LeRobot's statistics say, which its policies use."""
        feature, seen = self._meta.features.get(_ACTION), self._meta.action_range
        if feature is None or feature.dtype not in _NUMBERS:
            raise DatasetError(f"{self._meta.root} holds no actions: import another one.")
        if seen is None:
            return action_spec(options, self._all_actions(), str(self._meta.root))
        return action_spec(options, [seen.astype(feature.dtype)], str(self._meta.root))

    def _all_actions(self) -> Iterator[AnyArray]:
        for row in self._episodes:
            with closing(Rows(row.data, [_ACTION])) as rows:
                for batch in rows.blocks(row.offset, row.length):
                    yield numbers_in(batch.column(_ACTION), row.data)


def _short_names(features: Mapping[str, Feature]) -> dict[str, str]:
    """Names of what was observed as an environment would have them, and LeRobot's for each."""
    names: dict[str, str] = {}
    for key in features:
        for prefix in _PREFIXES:
            if key.startswith(prefix):
                short = key.removeprefix(prefix)
                names[key if short in names else short] = key
                break
    return names


def _with_short_names(options: ImportOptions, keys: Mapping[str, str]) -> ImportOptions:
    """LeRobot's own names are understood as well."""
    short = {key: name for name, key in keys.items()}

    def shortened(given: Sequence[str] | None) -> tuple[str, ...] | None:
        return None if given is None else tuple(short.get(name, name) for name in given)

    return replace(
        options,
        image_keys=shortened(options.image_keys),
        vector_keys=shortened(options.vector_keys),
    )


def _space(features: Mapping[str, Feature], keys: Mapping[str, str]) -> spaces.Dict:
    """Of one observation; depth is no colour, and words are no numbers."""
    boxes: dict[str, spaces.Space[Any]] = {}
    for name, key in keys.items():
        feature = features[key]
        if feature.dtype in _PICTURES and not feature.depth:
            boxes[name] = box_of((*_size(feature), 3), np.uint8)
        elif feature.dtype in _NUMBERS:
            boxes[name] = box_of(feature.shape, np.float32)
    return spaces.Dict(boxes)


def _size(feature: Feature) -> tuple[int, int]:
    """Height and width of an image; some datasets give its shape with the colours first."""
    shape = feature.shape
    if len(shape) == 3 and guess_layout(shape) is not None:
        height, width = newest_shape(shape, guess_layout(shape) or "")[:2]
        return height, width
    raise DatasetError(f"{INFO} says that images have the shape {shape}: get it anew.")
