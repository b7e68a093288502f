"""Layout version 1: which columns a file has, and the attributes that describe it.

Row t holds frame t, the action taken after it, and that transition's reward and end flags. An
episode of T transitions has T+1 rows; its last row's action, reward and flags are padding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import h5py
import numpy as np

from latentwrap.actions import ActionSpec
from latentwrap.errors import DatasetError, LatentwrapError
from latentwrap.pixels import FrameSpec

FORMAT = "latentwrap"
VERSION = 1
FRAMES = "frames"
ACTIONS = "actions"
REWARDS = "rewards"
TERMINATIONS = "terminations"
TRUNCATIONS = "truncations"
EPISODE_START = "episodes/start"
EPISODE_LENGTH = "episodes/length"
STATE = "state"

REQUIRED = (FRAMES, ACTIONS, TERMINATIONS, TRUNCATIONS, EPISODE_START, EPISODE_LENGTH)
"""Columns that every file has; rewards and states may be absent."""


def state_path(name: str) -> str:
    """Where the state called `name` lies."""
    return f"{STATE}/{name}"


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset is of.

    Attributes:
        env_id: id of the environment, or of the source.
        action: the action space.
        frame: what the frames look like and were made from.
        frame_skip: how often each action was repeated.
        env_spec: Gymnasium's specification as JSON, where there is one.
        provenance: who made the file, and how; JSON-serialisable.
    """

    env_id: str
    action: ActionSpec
    frame: FrameSpec
    frame_skip: int = 1
    env_spec: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def check_same(self, other: DatasetInfo, path: Path) -> None:
        """Refuse to mix episodes of different sources in one file.

        Raises:
            DatasetError: `other` is of another environment, action space, frame, policy or seed.
        """
        for name in ("env_id", "frame", "frame_skip", "env_spec"):
            _check_equal(name, getattr(self, name), getattr(other, name), path)
        _check_equal("action space", self.action.to_json(), other.action.to_json(), path)
        for name in ("policy", "seed"):
            _check_equal(name, self.provenance.get(name), other.provenance.get(name), path)


def create_file(path: Path) -> h5py.File:
    """Create an HDF5 file to write a dataset into.

    The format of HDF5 1.10 has checksums over the metadata that say where things are. Without
    them a damaged file can send the HDF5 library into an endless loop or out of its memory.
    """
    return h5py.File(path, "w", libver=("v110", "v110"))


def write_info(file: h5py.File, info: DatasetInfo) -> None:
    """Write the attributes of a file."""
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "env_id": info.env_id,
        "env_spec": info.env_spec or "",
        "action_space": info.action.to_json(),
        "frame": info.frame.model_dump_json(),
        "frame_skip": info.frame_skip,
        "provenance": json.dumps(info.provenance),
    }
    for name, value in attributes.items():
        file.attrs[name] = value


def read_info(file: h5py.File, path: Path) -> DatasetInfo:
    """Read the attributes of a file.

    Raises:
        DatasetError: not ours, of a newer version, or damaged.
    """
    attributes = dict(file.attrs)
    if not _is_ours(attributes.get("format")):
        raise DatasetError(
            f"{path} is HDF5 but no latentwrap dataset (its attribute 'format' is "
            f"{attributes.get('format')!r}): write one with latentwrap collect."
        )
    _check_version(attributes.get("version"), path)
    try:
        return DatasetInfo(
            env_id=str(attributes["env_id"]),
            action=ActionSpec.from_json(attributes["action_space"]),
            frame=FrameSpec.parse(json.loads(attributes["frame"])),
            frame_skip=int(attributes["frame_skip"]),
            env_spec=attributes["env_spec"] or None,
            provenance=json.loads(attributes["provenance"]),
        )
    except (AssertionError, KeyError, TypeError, ValueError, LatentwrapError) as error:
        reason = str(error).rstrip(".")
        raise DatasetError(f"{path} has damaged attributes ({reason}): get it anew.") from None


def _is_ours(found: Any) -> bool:
    return isinstance(found, str) and found == FORMAT


def _check_version(found: Any, path: Path) -> None:
    if not isinstance(found, int | np.integer) or found < 1:
        raise DatasetError(f"{path} has no valid layout version, got {found!r}: get it anew.")
    if found > VERSION:
        raise DatasetError(
            f"{path} has layout version {found}, this latentwrap reads version {VERSION}: "
            "upgrade latentwrap."
        )


def _check_equal(name: str, begun: Any, now: Any, path: Path) -> None:
    if begun != now:
        begun, now = shorten(str(begun), 100), shorten(str(now), 100)
        raise DatasetError(
            f"{path} was begun with {name} {begun}, now it is {now}: "
            "repeat the first command line or pass --force."
        )
