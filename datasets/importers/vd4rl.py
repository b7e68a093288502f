"""V-D4RL, 64 px: a folder of npz files, one an episode, as DreamerV2 stores what it saw.

Row t holds the action that led to its image, its reward, and whether the episode is over; the
action and reward of row 0 are padding. Replay folders of DreamerV2 itself have this layout as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from latentwrap.actions import ActionSpec
from latentwrap.datasets.episodes import Episode
from latentwrap.datasets.importers.acting import stored_actions
from latentwrap.datasets.importers.npz_episodes import NpzEpisodes
from latentwrap.datasets.importers.npz_files import ArrayHeader, NpzFile, npz_headers, npz_paths
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.rows import ended, episode_of_rows
from latentwrap.datasets.importers.source import ImportOptions, Source
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.errors import DatasetError
from latentwrap.types import AnyArray, Frames

FRAME_SKIP = 2
"""How often V-D4RL repeated each action."""

_IMAGE, _ACTION, _REWARD, _DISCOUNT, _TERMINAL = (
    "image", "action", "reward", "discount", "is_terminal")  # fmt: skip
_NO_STATES = frozenset({_ACTION, _REWARD, _DISCOUNT, _TERMINAL, "is_first", "is_last"})
_NAME = re.compile(r"\d{8}T\d{6}.*-[0-9a-f]{32}-\d+\.npz")


def recognises(source: str) -> bool:
    """Whether a source is a folder of npz files with the keys of V-D4RL, or with its names."""
    paths = npz_paths(source)
    if not paths:
        return False
    try:
        found = npz_headers(paths[0]).keys()
    except DatasetError:
        return bool(_NAME.fullmatch(paths[0].name))
    return {_IMAGE, _ACTION, _REWARD} <= found and bool({_DISCOUNT, _TERMINAL, "is_first"} & found)


def open_source(source: str, options: ImportOptions) -> Source:
    """Open a folder.

    Raises:
        DatasetError: it has no npz files, or the first is damaged or of another layout.
        EnvironmentMismatch: a key that is not there.
    """
    return _Folder(source, options)


class _Folder(NpzEpisodes):
    """An opened folder; the numbers in the names of its files are the time at which they began."""

    def __init__(self, source: str, options: ImportOptions) -> None:
        super().__init__(source)
        with NpzFile(self._paths[0]) as file:
            image, action = file.require(_IMAGE), file.require(_ACTION)
            self._states = tuple(_state_names(file.headers))
            self._seen = Observations(_space(file.headers, options), options, what=source)
        self._image = (image.shape[1:], image.dtype)
        bounds = spaces.Box(-1, 1, action.shape[1:], np.float32)
        self._action = ActionSpec(bounds)
        self.info = DatasetInfo(
            env_id=options.env_id or env_id_of(source),
            action=self._action,
            frame=self._seen.frame,
            frame_skip=options.frame_skip or FRAME_SKIP,
            vectors=self._seen.vectors,
        )

    def _episode(self, file: NpzFile, path: Path) -> Episode:
        self._check(file, path)
        actions = stored_actions(self._action, file.read(_ACTION))
        return episode_of_rows(
            self._frames(file),
            actions[1:],
            file.read(_REWARD).reshape(-1)[1:],
            terminated=_terminated(file, path),
            states={name: file.read(name) for name in self._states},
            vectors=self._vectors(file),
        )

    def _frames(self, file: NpzFile) -> Frames:
        blocks, rows = file.blocks(_IMAGE), file.headers[_IMAGE].rows
        if not self._seen.cameras:
            return self._seen.frames_of_blocks(blocks, rows)
        return self._seen.frames_of_blocks(({_IMAGE: block} for block in blocks), rows)

    def _vectors(self, file: NpzFile) -> Mapping[str, AnyArray]:
        return self._seen.vector_columns({n: file.read(n) for n in self._seen.vectors.names})

    def _check(self, file: NpzFile, path: Path) -> None:
        image = file.require(_IMAGE)
        if (image.shape[1:], image.dtype) != self._image:
            raise DatasetError(
                f"{path} holds images of {image.dtype} {image.shape[1:]}, the first file of its "
                f"folder of {self._image[1]} {self._image[0]}: import them apart."
            )
        names = (_ACTION, _REWARD, *self._states, *self._seen.vectors.names)
        for name in names:
            check_rows(path, name, file.require(name).rows, image.rows)
        if not image.rows:
            raise DatasetError(f"{path} holds no rows: leave it out or get it anew.")


def check_rows(path: Path, name: str, found: int, rows: int) -> None:
    """Refuse a column whose length is not that of the images.

    Raises:
        DatasetError: it is not.
    """
    if found != rows:
        raise DatasetError(
            f"{path} has {rows} images but {found} rows of {name!r}: leave it out or get it anew."
        )


def env_id_of(source: str) -> str:
    """A name for what a folder of V-D4RL holds, from its path `task/level/64px`.

    >>> env_id_of("main/walker_walk/random/64px")
    'vd4rl/walker_walk_random'
    """
    parts = [part for part in Path(source).resolve().parts if not re.fullmatch(r"\d+px", part)]
    named = len(parts) < len(Path(source).resolve().parts) and len(parts) > 2
    return f"vd4rl/{'_'.join(parts[-2:])}" if named else f"vd4rl/{parts[-1]}"


def _terminated(file: NpzFile, path: Path) -> bool:
    """Whether the last row says that nothing follows; older files say so by a discount of 0."""
    name = _TERMINAL if _TERMINAL in file.headers else _DISCOUNT
    flags = file.read(name).reshape(-1)
    check_rows(path, name, file.headers[name].rows, file.headers[_IMAGE].rows)
    return ended(flags, path) if name == _TERMINAL else bool(flags[-1] == 0)


def _space(headers: Mapping[str, ArrayHeader], options: ImportOptions) -> spaces.Space[Any]:
    boxes = {name: box_of(header.shape[1:], header.dtype) for name, header in headers.items()}
    if options.image_keys is None and not options.vector_keys:
        return boxes[_IMAGE]
    return spaces.Dict({name: boxes[name] for name in (_IMAGE, *_state_names(headers))})


def _state_names(headers: Mapping[str, ArrayHeader]) -> Iterator[str]:
    """Physical state beside the image, such as the height and velocity of a walker."""
    for name, header in headers.items():
        named = name not in _NO_STATES and not name.startswith("log_")
        if named and header.dtype.kind == "f" and len(header.shape) in (1, 2):
            yield name
