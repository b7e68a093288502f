"""Layout version 1: which columns a file has, and the attributes that describe it.

Row t holds frame t, the action taken after it, and that transition's reward and end flags. An
episode of T transitions has T+1 rows; its last row's action, reward and flags are padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import h5py
import numpy as np

from latentwrap.actions import ActionSpec
from latentwrap.errors import DatasetError, LatentwrapError
from latentwrap.pixels import FrameSpec
from latentwrap.types import AnyArray, Frames
from latentwrap.vectors import VectorSpec

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
VECTORS = "vectors"

MOST_FRAME_SKIP = 10_000
"""Repetitions of an action; more are a damaged number."""

REQUIRED = (ACTIONS, TERMINATIONS, TRUNCATIONS, EPISODE_START, EPISODE_LENGTH)
"""Columns that every file has beside its frames; rewards, states and vectors may be absent."""


def state_path(name: str) -> str:
    """Where the state called `name` lies."""
    return f"{STATE}/{name}"


def vector_path(name: str) -> str:
    """Where the vector called `name` lies."""
    return f"{VECTORS}/{name}"


def frame_paths(frame: FrameSpec) -> tuple[str, ...]:
    """Where the frames lie: one column, or one for each of several cameras, from left to right."""
    if len(frame.cameras) < 2:
        return (FRAMES,)
    return tuple(f"{FRAMES}/{camera.name}" for camera in frame.cameras)


def is_frames(path: str) -> bool:
    """Whether a column holds images."""
    return path.partition("/")[0] == FRAMES


def split_frames(frames: Frames, spec: FrameSpec) -> dict[str, AnyArray]:
    """The columns of frames (n, H, W, C), each camera's apart."""
    panels = np.split(frames, len(spec.panels), axis=2)
    return dict(zip(frame_paths(spec), panels, strict=True))


def read_frames(file: h5py.File, rows: slice, spec: FrameSpec) -> Frames:
    """Frames of some rows as they are in memory, all cameras side by side."""
    panels = [file[path][rows] for path in frame_paths(spec)]
    frames: Frames = panels[0] if len(panels) == 1 else np.concatenate(panels, axis=2)
    return frames


def column_name(name: Any, what: str) -> str:
    """The name itself, if a column can have it.

    Raises:
        DatasetError: it cannot.
    """
    if not isinstance(name, str) or "/" in name or name in ("", "."):
        raise DatasetError(
            f"A {what} requires a name that is a non-empty text without '/', got {name!r}."
        )
    return name


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
        vectors: names and sizes of the vectors beside each frame, in the order in which they are
            joined.
    """

    env_id: str
    action: ActionSpec
    frame: FrameSpec
    frame_skip: int = 1
    env_spec: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    vectors: VectorSpec = field(default_factory=VectorSpec)

    def check_names(self) -> None:
        """Refuse cameras and vectors that cannot have a column of their own.

        Raises:
            DatasetError: an impossible name, the same name twice, or a vector of no numbers.
        """
        _check_names(self.frame.names, "camera")
        _check_names(self.vectors.names, "vector")
        for name, size in zip(self.vectors.names, self.vectors.sizes, strict=True):
            if size < 1:
                raise DatasetError(
                    f"A vector requires at least one number, {name!r} has none: leave it out."
                )

    def check_same(self, other: DatasetInfo, path: Path) -> None:
        """Refuse to mix episodes of different sources in one file.

        Raises:
            DatasetError: `other` is of another environment, action space, frame, vectors, policy
                or seed.
        """
        cameras, others = self.frame.names, other.frame.names
        _check_equal("cameras", ", ".join(cameras), ", ".join(others), path)
        _check_equal("layout", self.frame.layout, other.frame.layout, path)
        for name in ("env_id", "frame", "vectors", "frame_skip", "env_spec"):
            _check_equal(name, getattr(self, name), getattr(other, name), path)
        _check_equal("action space", self.action.to_json(), other.action.to_json(), path)
        for name in ("policy", "policy_options", "seed"):
            _check_equal(name, self.provenance.get(name), other.provenance.get(name), path)


def frame_json(frame: FrameSpec) -> str:
    """The frame as a JSON document, the same as ever where nothing that came later is named."""
    unnamed = {name for name in ("cameras", "layout", "rendering") if not getattr(frame, name)}
    return frame.model_dump_json(exclude=unnamed)


def write_info(file: h5py.File, info: DatasetInfo, *, file_format: str = FORMAT) -> None:
    """Write the attributes of a file."""
    attributes = {
        "format": file_format,
        "version": VERSION,
        "env_id": info.env_id,
        "env_spec": info.env_spec or "",
        "action_space": info.action.to_json(),
        "frame": frame_json(info.frame),
        "vectors": json.dumps(info.vectors.names),
        "frame_skip": info.frame_skip,
        "provenance": json.dumps(info.provenance),
    }
    for name, value in attributes.items():
        file.attrs[name] = value


def read_info(file: h5py.File, path: Path, *, file_format: str = FORMAT) -> DatasetInfo:
    """Read the attributes of a file.

    Args:
        file: open.
        path: of the file, for messages.
        file_format: the value that its attribute `format` must have.

    Raises:
        DatasetError: not ours, of a newer version, or damaged.
    """
    attributes = dict(file.attrs)
    _check_format(attributes.get("format"), file_format, path)
    _check_version(attributes.get("version"), path)
    try:
        info = DatasetInfo(
            env_id=_text(attributes, "env_id"),
            action=ActionSpec.from_json(_text(attributes, "action_space")),
            frame=FrameSpec.parse(json.loads(_text(attributes, "frame"))),
            frame_skip=_frame_skip(attributes["frame_skip"]),
            env_spec=_text(attributes, "env_spec") or None,
            provenance=_provenance(_text(attributes, "provenance")),
            vectors=_vector_spec(file, json.loads(attributes.get("vectors", "[]")), path),
        )
        info.check_names()
    except (*_DAMAGE, LatentwrapError) as error:
        reason = shorten(str(error), 300).rstrip(".")
        raise DatasetError(f"{path} has damaged attributes ({reason}): get it anew.") from None
    return info


_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What comes of a document whose parts are of other types, sizes or depth than they should be."""


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes[name]
    if not isinstance(value, str):
        raise TypeError(f"{name!r} is no text")
    return value


def _frame_skip(value: Any) -> int:
    if not isinstance(value, int | np.integer) or not 1 <= value <= MOST_FRAME_SKIP:
        raise ValueError(f"'frame_skip' must be a number from 1 to {MOST_FRAME_SKIP}")
    return int(value)


def _provenance(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError("'provenance' is no JSON object")
    return found


def _vector_spec(file: h5py.File, names: list[str], path: Path) -> VectorSpec:
    """The vectors of a file in the order in which they are joined; unnamed ones come last."""
    group = file.get(VECTORS)
    stored = sorted(group) if isinstance(group, h5py.Group) else []
    _check_names(names, "vector")
    names = [*names, *(name for name in stored if name not in names)]
    sizes = []
    for name in names:
        column = group[name] if name in stored else None
        if not isinstance(column, h5py.Dataset) or column.ndim != 2:
            raise DatasetError(
                f"{path} requires /{vector_path(name)} to be a column of vectors: get it anew."
            )
        sizes.append(int(column.shape[1]))
    return VectorSpec(names=tuple(names), sizes=tuple(sizes))


def _check_names(names: Sequence[str], what: str) -> None:
    known: set[str] = set()
    for name in names:
        if column_name(name, what) in known:
            raise DatasetError(f"Every {what} requires a name of its own, got {name!r} twice.")
        known.add(name)


class ForeignFile(DatasetError):
    """An HDF5 file of another project."""


def _check_format(found: Any, expected: str, path: Path) -> None:
    if not isinstance(found, str) or found != expected:
        verb = "collect or import" if expected == FORMAT else "encode"
        raise ForeignFile(
            f"{path} is HDF5 but no {expected} dataset (its attribute 'format' is {found!r}): "
            f"write one with latentwrap {verb}."
        )


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
