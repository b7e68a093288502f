"""RLDS: episodes that TensorFlow Datasets wrote itself become datasets of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from latentwrap_test_counter import assert_aligned, counting_episode

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, LossySource, find_format, import_dataset
from latentwrap.datasets.importers.source import Source
from latentwrap.errors import DatasetError

LENGTHS = (5, 300, 1)
"""Steps of the episodes; one is longer than a block."""


class Counting(tfds.core.GeneratorBasedBuilder):
    """Counting episodes in RLDS."""

    VERSION = tfds.core.Version("1.0.0")
    observation: Any
    action: Any
    encode: Any

    def _info(self) -> tfds.core.DatasetInfo:
        config = tfds.rlds.rlds_base.DatasetConfig(
            name="counting",
            observation_info=self.observation,
            action_info=self.action,
            reward_info=np.float32,
            discount_info=np.float32,
        )
        return tfds.rlds.rlds_base.build_info(config, self)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[Any]:
        for number, steps in enumerate(LENGTHS):
            episode = counting_episode(steps, number, terminated=number == 1)
            yield number, {"steps": [self._step(episode, t) for t in range(steps + 1)]}

    def _step(self, episode: Episode, t: int) -> dict[str, Any]:
        last = t == len(episode.actions)
        # What RLDS leaves undefined in the last step is filled with what would do harm.
        action = np.float32([99.0]) if last else episode.actions[t]
        observation, action = self.encode(episode.frames[t], t, action)
        return {
            "observation": observation,
            "action": action,
            "reward": np.float32(-77) if last else episode.rewards[t],
            "discount": np.float32(1),
            "is_first": t == 0,
            "is_last": last,
            "is_terminal": last and episode.terminated,
        }


class Plain(Counting):
    """The observation is the image."""

    observation = tfds.features.Image(shape=(64, 64, 3))
    action = tfds.features.Tensor(shape=(1,), dtype=np.float32)
    encode = staticmethod(lambda frame, t, action: (frame, action))


class Nested(Counting):
    """A JPEG, proprioception and words; the action is a Dict."""

    observation = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
            "robot": {"joints": tfds.features.Tensor(shape=(2,), dtype=np.float32)},
            "words": tfds.features.Text(),
        }
    )
    action = tfds.features.FeaturesDict(
        {"turn": tfds.features.Tensor(shape=(1,), dtype=np.float32)}
    )
    encode = staticmethod(
        lambda frame, t, action: (
            {"image": frame, "robot": {"joints": np.float32([t, -t])}, "words": "turn"},
            {"turn": action},
        )
    )


def written(builder: type[Counting], folder: Path) -> Path:
    made = builder(data_dir=str(folder))
    made.download_and_prepare()
    return Path(made.data_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(Plain, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(Nested, tmp_path_factory.mktemp("nested"))


def opened(folder: Path, **options: Any) -> Source:
    found = find_format(str(folder))
    assert found.name == "rlds"
    return found.open(str(folder), ImportOptions(**options))


def by_length(source: Source) -> list[Episode]:
    """TensorFlow Datasets shuffles examples when it writes them."""
    return sorted(source.episodes(), key=lambda episode: len(episode.actions))


def test_frames_and_actions_stay_together(plain: Path) -> None:
    source = opened(plain)
    episodes = by_length(source)
    assert [len(episode.actions) for episode in episodes] == sorted(LENGTHS)
    assert source.count == 3
    assert source.lossy is None
    for episode in episodes:
        assert_aligned(episode)
        assert (episode.terminated, episode.truncated) == (
            len(episode.actions) == 300,
            len(episode.actions) != 300,
        )


def test_last_actions_do_not_widen_the_action_space(plain: Path) -> None:
    space = opened(plain).info.action.space
    assert (float(space.low[0]), float(space.high[0])) == (-1, 1)


def test_an_import_goes_on_where_it_stopped(plain: Path) -> None:
    source = opened(plain)
    everything = list(source.episodes())
    rest = list(source.episodes(first=1))
    assert [len(e.actions) for e in rest] == [len(e.actions) for e in everything[1:]]
    np.testing.assert_array_equal(rest[0].frames, everything[1].frames)


def test_dicts_give_cameras_vectors_and_one_action(nested: Path) -> None:
    source = opened(nested, image_keys=("image",), vector_keys=("robot.joints",))
    assert "JPEG" in (source.lossy or "")
    for episode in by_length(source):
        assert_aligned(episode)
        steps = np.arange(len(episode.frames), dtype=np.float32)
        np.testing.assert_array_equal(
            episode.vectors["robot.joints"], np.stack([steps, -steps], axis=1)
        )


def test_the_whole_way_into_a_file(nested: Path, tmp_path: Path) -> None:
    with pytest.warns(LossySource, match="JPEG"):
        result = import_dataset(nested, tmp_path / "data.h5")
    assert (result.format, result.episodes, result.transitions) == ("rlds", 3, sum(LENGTHS))
    assert Dataset(tmp_path / "data.h5").info.env_id == "rlds/nested"


def test_a_damaged_file_is_refused(plain: Path, tmp_path: Path) -> None:
    copy = tmp_path / "plain"
    copy.mkdir()
    for path in plain.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    record = next(copy.glob("*.tfrecord*"))
    record.write_bytes(record.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="damaged"):
        list(opened(copy).episodes())


def test_features_of_strangers_are_not_imported(plain: Path, tmp_path: Path) -> None:
    for path in plain.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    features = tmp_path / "features.json"
    document = json.loads(features.read_text())
    document["pythonClassName"] = "antigravity.Fly"
    features.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"antigravity\.Fly"):
        opened(tmp_path)
