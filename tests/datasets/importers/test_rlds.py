"""RLDS as far as it goes without TensorFlow; integrations/rlds reads what TensorFlow wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_counter import assert_aligned, counting_episode

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Episode
from latentwrap.datasets.importers import ImportOptions, find_format
from latentwrap.datasets.importers.observing import Observations, box_of
from latentwrap.datasets.importers.rlds import open_source, version_folder
from latentwrap.datasets.importers.rlds_features import read_features
from latentwrap.datasets.importers.rlds_steps import episode_of_steps
from latentwrap.errors import DatasetError, MissingExtra

ACTION = ActionSpec(spaces.Box(-1, 1, (1,)))


def steps_of(episode: Episode, **change: Any) -> Iterator[dict[str, Any]]:
    """RLDS steps, with nonsense where RLDS leaves values undefined."""
    for t, frame in enumerate(episode.frames):
        last = t == len(episode.actions)
        yield {
            "observation": frame,
            "action": np.float32([np.nan]) if last else episode.actions[t],
            "reward": np.float32(np.nan) if last else episode.rewards[t],
            "is_first": t == 0,
            "is_last": last,
            "is_terminal": last and episode.terminated,
        } | change


@pytest.mark.parametrize("steps", [1, 255, 256, 600])
@pytest.mark.parametrize("terminated", [True, False])
def test_the_last_step_is_an_observation_only(steps: int, terminated: bool) -> None:
    seen = Observations(box_of((64, 64, 3), np.uint8), ImportOptions(), what="mine")
    wanted = counting_episode(steps, 0, terminated=terminated)
    episode = episode_of_steps(steps_of(wanted), seen, ACTION, (), "mine")
    assert_aligned(episode)
    np.testing.assert_array_equal(episode.actions, wanted.actions)
    np.testing.assert_array_equal(episode.rewards, wanted.rewards)
    assert (episode.terminated, episode.truncated) == (terminated, not terminated)
    assert (episode.lost_reward, episode.moved_end) == (False, False)  # of a padding, nothing


def test_an_episode_without_rewards_has_none() -> None:
    seen = Observations(box_of((64, 64, 3), np.uint8), ImportOptions(), what="mine")
    steps = [{k: v for k, v in step.items() if k in ("observation", "action")}
             for step in steps_of(counting_episode(3, 0))]  # fmt: skip
    episode = episode_of_steps(steps, seen, ACTION, (), "mine")
    assert episode.rewards is None
    assert episode.truncated


def test_an_episode_without_steps_is_refused() -> None:
    seen = Observations(box_of((64, 64, 3), np.uint8), ImportOptions(), what="mine")
    with pytest.raises(DatasetError, match="mine holds an episode without steps"):
        episode_of_steps([], seen, ACTION, (), "mine")


def write_meta(folder: Path, *, name: str = "tensorflow_datasets.core.features.X") -> None:
    (folder / "dataset_info.json").write_text("{}")
    inner = {"steps": {"pythonClassName": name}}
    (folder / "features.json").write_text(
        json.dumps({"pythonClassName": name, "featuresDict": {"features": inner}})
    )


def test_a_folder_of_episodes_is_recognised(tmp_path: Path) -> None:
    write_meta(tmp_path)
    assert find_format(str(tmp_path)).name == "rlds"


def test_of_several_versions_the_newest_is_meant(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0"):
        (tmp_path / version).mkdir()
        write_meta(tmp_path / version)
    assert find_format(str(tmp_path)).name == "rlds"
    assert version_folder(str(tmp_path)) == tmp_path / "1.10.0"
    assert version_folder(str(tmp_path / "1.9.0")) == tmp_path / "1.9.0"


def test_a_folder_of_other_examples_is_not(tmp_path: Path) -> None:
    write_meta(tmp_path)
    (tmp_path / "features.json").write_text('{"featuresDict": {"features": {"image": {}}}}')
    with pytest.raises(DatasetError, match="no format"):
        find_format(str(tmp_path))


def test_without_tensorflow_the_pip_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_meta(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingExtra, match=r"latentwrap\[rlds\]"):
        find_format(str(tmp_path)).open(str(tmp_path), ImportOptions())


def test_features_of_strangers_are_refused_before_they_are_imported(tmp_path: Path) -> None:
    write_meta(tmp_path, name="antigravity.Fly")
    with pytest.raises(DatasetError, match=r"antigravity\.Fly"):
        find_format(str(tmp_path)).open(str(tmp_path), ImportOptions())


@pytest.mark.parametrize("content", ["", "[", "3", '{"featuresDict": 3'])
def test_damaged_features_are_named(tmp_path: Path, content: str) -> None:
    write_meta(tmp_path)
    (tmp_path / "features.json").write_text(content)
    with pytest.raises(DatasetError, match=r"features\.json is damaged"):
        find_format(str(tmp_path)).open(str(tmp_path), ImportOptions())


EVIL = "latentwrap_test_evil.Feature"
OWN = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
HOSTILE = {
    "new": {"pythonClassName": EVIL},
    "snake": {"python_class_name": EVIL},
    "old": {"type": EVIL, "content": {}},
    "inside old": {"type": OWN, "content": {"steps": {"type": EVIL, "content": {}}}},
    "inside snake": {
        "python_class_name": OWN,
        "features_dict": {"features": {"steps": {"python_class_name": EVIL}}},
    },
    "text": {"type": OWN, "content": json.dumps({"pythonClassName": EVIL})},
    "text inside": {
        "pythonClassName": OWN,
        "jsonFeature": {"json": json.dumps({"feature": {"type": EVIL, "content": {}}})},
    },
    "near": {"pythonClassName": "tensorflow_datasets_evil.core.features.Image"},
    "scripts": {"pythonClassName": "tensorflow_datasets.scripts.cli.main.X"},
    "unknown": {"feature_class": EVIL},
    "list": {"any": [{"type": EVIL}]},
}


@pytest.mark.parametrize("form", HOSTILE)
def test_no_spelling_names_code_of_strangers(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    write_meta(tmp_path)
    (tmp_path / "features.json").write_text(json.dumps(HOSTILE[form]))
    with pytest.raises(DatasetError, match=r"names the feature '.*features of tensorflow_datasets"):
        open_source(str(tmp_path), ImportOptions())


def test_features_of_tensorflow_datasets_pass_in_every_form(tmp_path: Path) -> None:
    text = "tensorflow_datasets.core.features.text_feature.Text"
    label = {
        "type": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
        "proto_cls": "tensorflow_datasets.ClassLabel",
        "content": {"numClasses": "2"},
    }
    for document in (
        {"pythonClassName": OWN, "featuresDict": {"features": {"type": {"pythonClassName": text}}}},
        {"type": OWN, "content": {"type": {"type": text, "content": {}}, "label": label}},
    ):
        (tmp_path / "features.json").write_text(json.dumps(document))
        assert read_features(tmp_path) == document


def test_features_without_end_are_named(tmp_path: Path) -> None:
    write_meta(tmp_path)
    (tmp_path / "features.json").write_text('{"a":' * 100_000)
    with pytest.raises(DatasetError, match=r"features\.json is damaged"):
        open_source(str(tmp_path), ImportOptions())
