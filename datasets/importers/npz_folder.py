"""A folder of npz files, one an episode: frames, actions, and what else there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gymnasium import spaces

from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers import named_columns as columns
from latentwrap.datasets.importers import vd4rl
from latentwrap.datasets.importers.acting import action_spec, stored_actions
from latentwrap.datasets.importers.npz_episodes import NpzEpisodes
from latentwrap.datasets.importers.npz_files import ArrayHeader, NpzFile, npz_headers, npz_paths
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.rows import ended, episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, Frames


def recognises(source: str) -> bool:
    """Whether a source is a folder of npz files that hold frames and actions."""
    paths = npz_paths(source)
    if not paths or vd4rl.recognises(source):
        return False
    try:
        found = npz_headers(paths[0])
    except DatasetError:
        return True  # so that it is refused in a sentence about this file
    images = [header for header in found.values() if len(header.shape) >= 3]
    return bool(images) and columns.find(found, columns.ACTIONS) is not None


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a folder.

    Raises:
        DatasetError: it has no npz files, the first lacks frames or actions, or one is damaged.
        EnvironmentMismatch: a key that is not there.
    """
    return _Folder(source, options)


class _Folder(NpzEpisodes):
    """An opened folder."""

    def __init__(self, source: str, options: ImportOptions) -> None:
        super().__init__(source)
        self._headers = npz_headers(self._paths[0])
        self._only = self._only_image(options)
        self._seen = Observations(self._space(), options, what=source)
        self._action = action_spec(options, self._all_actions(), source)
        self.info = DatasetInfo(
            env_id=options.env_id or Path(source).resolve().name,
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or 1,
            vectors=self._seen.vectors,
        )

    def _episode(self, file: NpzFile, path: Path) -> Episode:
        found = file.headers
        rows = self._check_images(file, path)
        actions = stored_actions(self._action, _actions(file, path))
        rewards = columns.find(found, columns.REWARDS)
        ends = columns.find(found, columns.TERMINATIONS)
        for name in (rewards, ends):
            if name is not None and found[name].rows != len(actions):
                raise DatasetError(
                    f"{path} has {len(actions)} actions but {found[name].rows} rows of {name!r}: "
                    "leave it out or mend it."
                )
        check_counts(path, rows, len(actions))
        return episode_of_rows(
            self._frames(file, rows),
            actions,
            None if rewards is None else file.read(rewards),
            terminated=ends is not None and ended(file.read(ends), path),
            states={name: file.read(name) for name in self._states()},
            vectors=self._seen.vector_columns(
                {name: file.read(name)[:rows] for name in self._seen.vectors.names}
            ),
        )

    def _frames(self, file: NpzFile, rows: int) -> Frames:
        if self._only is not None:
            return self._seen.frames_of_blocks(file.blocks(self._only), rows)
        step = min(file.headers[name].block_rows for name in self._seen.cameras)
        parts = zip(*(file.blocks(name, step) for name in self._seen.cameras), strict=True)
        return self._seen.frames_of_blocks(
            (dict(zip(self._seen.cameras, part, strict=True)) for part in parts), rows
        )

    def _check_images(self, file: NpzFile, path: Path) -> int:
        """How many frames an episode has, if its images are like those of the first one."""
        names = self._seen.cameras if self._only is None else (self._only,)
        for name in names:
            header, first = file.require(name), self._headers[name]
            if (header.shape[1:], header.dtype) != (first.shape[1:], first.dtype):
                raise DatasetError(
                    f"{path} holds images of {header.dtype} {header.shape[1:]}, the first file of "
                    f"its folder of {first.dtype} {first.shape[1:]}: import them apart."
                )
        lengths = {file.headers[name].rows for name in (*names, *self._seen.vectors.names)}
        if len(lengths) > 1 or 0 in lengths:
            raise DatasetError(
                f"{path} has images or vectors of {sorted(lengths)} rows, but requires equally "
                "many, and some: leave it out or mend it."
            )
        return lengths.pop()

    def _only_image(self, options: ImportOptions) -> str | None:
        """The array that is the frames, where the user named none and no vectors beside it."""
        if options.image_keys is not None or options.vector_keys:
            return None
        images = {name for name, header in self._headers.items() if len(header.shape) >= 3}
        if len(images) == 1:
            return images.pop()
        return columns.find(images, columns.FRAMES)

    def _space(self) -> spaces.Space[Any]:
        boxes: dict[str, spaces.Space[Any]] = {
            name: box_of(each.shape[1:], each.dtype) for name, each in self._headers.items()
        }
        return spaces.Dict(boxes) if self._only is None else boxes[self._only]

    def _states(self) -> Iterator[str]:
        for name in columns.STATES:
            header: ArrayHeader | None = self._headers.get(name)
            if header is not None and len(header.shape) <= 2:
                yield name

    def _all_actions(self) -> Iterator[AnyArray]:
        for path in self._paths:
            with NpzFile(path) as file:
                yield _actions(file, path)


def check_counts(path: Path, frames: int, actions: int) -> None:
    """Refuse an episode whose frames cannot be matched with its actions.

    Raises:
        DatasetError: there are neither as many as actions, nor one more.
    """
    if frames not in (actions, actions + 1):
        raise DatasetError(
            f"{path} has {frames} frames and {actions} actions, but requires {actions + 1} frames, "
            f"or {actions} where the last one was not kept: leave it out or mend it."
        )


def _actions(file: NpzFile, path: Path) -> AnyArray:
    return file.read(columns.require(file.headers, columns.ACTIONS, "actions", path))


def columns_of(file: NpzFile, path: Path) -> Mapping[str, AnyArray]:
    """Actions, rewards and terminations of a file without frames, each under its first name.

    Raises:
        DatasetError: it is damaged or holds no actions.
    """
    found = {columns.ACTIONS[0]: _actions(file, path)}
    for names in (columns.REWARDS, columns.TERMINATIONS):
        name = columns.find(file.headers, names)
        if name is not None:
            found[names[0]] = file.read(name)
    return found
