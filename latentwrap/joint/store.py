"""The frames of a replay on disk, as datasets that grow by a file at every save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap.datasets import Dataset, DatasetInfo, DatasetWriter, Episode, join_vectors
from latentwrap.datasets.wholeness.parts import SUFFIX
from latentwrap.errors import CheckpointError, DatasetError
from latentwrap.files import remove
from latentwrap.joint.sequences import SequenceReplay, Stretch
from latentwrap.pixels import FrameSpec
from latentwrap.training.statistics import vector_words
from latentwrap.types import FloatArray, IntArray
from latentwrap.vectors import VectorSpec
from latentwrap.wrappers.frame_envs import FrameEnvironment

_ENDED, _OPEN = _KINDS = "ended", "open"
"""Files whose episodes are over, and those whose episodes go on."""


class ReplayStore:
    """Writes the episodes of a replay, each once, into a folder of datasets.

    What was written stays as it is; a save adds a file with the episodes that ended since, and one
    with those that go on. What counts is what the list of `save` names; once that list is safe,
    `tidy` removes what it does not name.

    Args:
        folder: made by the first save.
        info: what the episodes are of.

    Attributes:
        folder: as given.
    """

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self.folder, self._info = folder, info
        # No file that a state may name, of whatever run, is written over.
        self._saves = max((_number(path) for path in self._files()), default=0)
        self._listed: list[dict[str, Any]] = []
        self._marks: IntArray | None = None

    def save(self, replay: SequenceReplay) -> list[dict[str, Any]]:
        """Write what is new; returns names and transitions of all files that matter, in order."""
        if self._marks is None:
            self._marks = np.zeros(replay.lanes, int)
        self._saves += 1
        episodes = replay.episodes()
        ended = [e for e in episodes if not e.open and e.begun >= self._marks[e.lane]]
        if ended:
            self._listed.append(self._write(_ENDED, replay, ended))
            for each in ended:
                self._marks[each.lane] = each.begun + len(each.rows)
        self._forget(replay.capacity)
        going_on = [each for each in episodes if each.open]
        return [*self._listed, *([self._write(_OPEN, replay, going_on)] if going_on else [])]

    def tidy(self, listed: Sequence[Mapping[str, Any]]) -> None:
        """Remove files of earlier saves that a list does not name."""
        names = {each["name"] for each in listed}
        for path in self._files():
            if path.name not in names:
                remove(path)

    def load(self, replay: SequenceReplay, listed: Sequence[Mapping[str, Any]]) -> None:
        """Put the episodes of the files that `save` named into a replay.

        Raises:
            CheckpointError: one of them is gone or damaged.
        """
        for each in listed:
            self._saves = max(self._saves, int(each["number"]))
            if each["kind"] == _OPEN:
                self._marks = replay.kept.copy()  # these are yet to be written for good
            else:
                self._listed.append(dict(each))
            path = self.folder / str(each["name"])
            try:
                lanes = each["lanes"] if each.get("num_lanes") == replay.lanes else None
                add_episodes(replay, Dataset(path), lanes)
            except (DatasetError, OSError) as error:
                raise CheckpointError(
                    f"The replay cannot be read ({str(error).rstrip('.')}): put the file back, or "
                    "begin the run anew."
                ) from None
        if self._marks is None:
            self._marks = replay.kept.copy()

    def _files(self) -> list[Path]:
        """Of saves, those that were cut off included."""
        return [
            path
            for kind in _KINDS
            for ending in (".h5", f".h5{SUFFIX}")
            for path in self.folder.glob(f"{kind}-{'[0-9]' * 6}{ending}")
        ]

    def _write(
        self, kind: str, replay: SequenceReplay, episodes: Sequence[Stretch]
    ) -> dict[str, Any]:
        name = f"{kind}-{self._saves:06}.h5"
        with DatasetWriter(self.folder / name, self._info, force=True) as writer:
            for each in episodes:
                writer.add(read_episode(replay, each.rows, self._info.vectors))
        return {
            "name": name,
            "kind": kind,
            "number": self._saves,
            "transitions": sum(len(each.rows) - 1 for each in episodes),
            "lanes": [each.lane for each in episodes],
            "num_lanes": replay.lanes,
        }

    def _forget(self, capacity: int) -> None:
        """Name no file any more whose every transition the replay has overwritten."""
        total = sum(int(each["transitions"]) for each in self._listed)
        while self._listed and total - int(self._listed[0]["transitions"]) >= capacity:
            total -= int(self._listed.pop(0)["transitions"])


def _number(path: Path) -> int:
    return int(path.name.partition("-")[2].partition(".")[0])


def read_episode(replay: SequenceReplay, rows: IntArray, vectors: VectorSpec) -> Episode:
    """Rows of the replay as an episode."""
    joined, taken = replay.vectors(rows), rows[:-1]
    terminated = bool(replay.terminated(taken)[-1])
    return Episode(
        frames=replay.frames(rows),
        actions=replay.stored_actions(taken),
        rewards=replay.rewards(taken),
        terminated=terminated,
        truncated=not terminated,
        vectors={name: joined[:, where] for name, where in vectors.slices.items()},
    )


def add_episodes(
    replay: SequenceReplay, dataset: Dataset, lanes: Sequence[int] | None = None
) -> None:
    """Put the episodes of a dataset into a replay.

    Args:
        replay: what to fill.
        dataset: with rewards.
        lanes: of each episode; `None` takes the one that has kept the least.

    Raises:
        DatasetError: there are no rewards.
    """
    for number in range(dataset.num_episodes):
        episode = dataset.episode(number)
        if episode.rewards is None:
            raise DatasetError(
                f"An agent learns from rewards, {dataset.name} has none: leave it out."
            )
        vectors = _vectors(episode, dataset.info.vectors)
        lane = replay.emptiest_lane() if lanes is None else lanes[number]
        replay.begin(lane, episode.frames[0], vectors[0])
        last = len(episode.actions) - 1
        for t, action in enumerate(episode.actions):
            replay.step(
                lane,
                action,
                float(episode.rewards[t]),
                episode.frames[t + 1],
                vectors[t + 1],
                terminated=episode.terminated and t == last,
                ended=t == last,
            )


def check_memories(dataset: Dataset, frames: FrameEnvironment, replay: SequenceReplay) -> None:
    """Refuse a dataset that is unlike what an agent sees, or finds no room.

    Raises:
        DatasetError: frames drawn otherwise, other vectors, or more than the replay has room for.
    """
    _check_rendering(frames.frame, dataset)
    _check_vectors(frames.vectors, dataset)
    _check_room(replay, dataset)


def _check_room(replay: SequenceReplay, dataset: Dataset) -> None:
    """None of it may be overwritten at once."""
    kept = replay.kept.copy()
    for length in dataset.lengths:  # of frames; as `add_episodes` spreads them
        kept[kept.argmin()] += length
    if kept.max() > replay.lane_rows:
        raise DatasetError(
            f"{dataset.name} has {dataset.num_frames} frames in {dataset.num_episodes} episodes, "
            f"more than fit whole into a replay of {replay.lanes} × {replay.lane_rows} beside what "
            "it holds: set a larger buffer_size."
        )


def _check_rendering(expected: FrameSpec, dataset: Dataset) -> None:
    """With other shadows and edges the world looks otherwise."""
    # What an environment draws by itself is drawn in full.
    wanted, found = expected.rendering or "full", dataset.info.frame.rendering or "full"
    if wanted != found:
        raise DatasetError(
            f"The agent sees frames of {wanted} rendering, {dataset.name} holds those of {found}: "
            f"collect it with --rendering {wanted}, or let the environment draw {found}."
        )


def _check_vectors(expected: VectorSpec, dataset: Dataset) -> None:
    """They have the same names, sizes and order."""
    found = dataset.info.vectors
    if found != expected:
        raise DatasetError(
            f"The agent sees the vectors {vector_words(expected)} beside each frame, "
            f"{dataset.name} has {vector_words(found)}: collect it with the same --vector-key, in "
            "the same order."
        )


def _vectors(episode: Episode, spec: VectorSpec) -> FloatArray:
    joined = join_vectors(episode, spec)
    return np.zeros((len(episode.frames), 0), np.float32) if joined is None else joined
