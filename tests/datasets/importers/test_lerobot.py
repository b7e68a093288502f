"""LeRobot v3.0: rows and images of several episodes in one file come together again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from latentwrap_test_counter import assert_aligned, counting_episode
from latentwrap_test_sources import CAMERA, write_lerobot

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, LossySource, find_format, import_dataset
from latentwrap.datasets.importers.images import decode_image, size_of
from latentwrap.datasets.importers.source import Source
from latentwrap.errors import DatasetError, EnvironmentMismatch

pytestmark = pytest.mark.filterwarnings("ignore::latentwrap.datasets.importers.LostEnds")

STEPS, COUNT = 29, 5
WRIST = "observation.images.wrist"


def made(root: Path, **how: Any) -> list[Episode]:
    episodes = [counting_episode(STEPS, n, size=96, terminated=n == 2) for n in range(COUNT)]
    write_lerobot(root, episodes, **how)
    return episodes


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filmed")
    made(root)
    return root


@pytest.fixture
def copied(filmed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filmed, tmp_path / "copied"))


def opened(path: Path, **options: Any) -> Source:
    found = find_format(str(path))
    assert found.name == "lerobot"
    return found.open(str(path), ImportOptions(**options))


def assert_counted(episode: Episode, number: int) -> None:
    assert_aligned(episode)
    expected = counting_episode(STEPS, number)
    np.testing.assert_array_equal(episode.actions, expected.actions)
    assert (episode.terminated, episode.truncated) == (number == 2, number != 2)
    steps = np.arange(STEPS + 1, dtype=np.float32)
    np.testing.assert_array_equal(episode.vectors["state"], np.stack([steps, -steps], axis=1))
    np.testing.assert_array_equal(episode.states["environment_state"], steps[:, None])


def test_episodes_of_one_film_come_apart_again(filmed: Path) -> None:
    source = opened(filmed)
    found = list(source.episodes())
    assert source.count == len(found) == COUNT
    for number, episode in enumerate(found):
        assert_counted(episode, number)
    info = source.info
    assert (info.provenance["fps"], info.provenance["robot"]) == (10, "toy")
    assert info.frame.names == ("top",)
    assert "video" in (source.lossy or "")
    source.close()
    source.close()


@pytest.mark.parametrize("first", range(COUNT))
def test_an_import_goes_on_anywhere(filmed: Path, first: int) -> None:
    source = opened(filmed)
    for number, episode in enumerate(source.episodes(first=first), first):
        assert_counted(episode, number)
    # And back: the files are opened anew.
    assert_counted(next(source.episodes()), 0)


def test_images_in_the_rows_are_lossless(tmp_path: Path) -> None:
    episodes = made(tmp_path, images=True)
    source = opened(tmp_path, height=96, width=96)
    assert source.lossy is None
    for number, episode in enumerate(source.episodes()):
        assert_counted(episode, number)
        np.testing.assert_array_equal(episode.frames, episodes[number].frames)


def test_cameras_are_chosen_by_either_name(tmp_path: Path) -> None:
    made(tmp_path, cameras=(CAMERA, WRIST), per_file=3)
    with pytest.raises(EnvironmentMismatch, match="top, wrist"):
        opened(tmp_path)
    source = opened(tmp_path, image_keys=(WRIST, "top"), vector_keys=())
    assert source.info.frame.names == ("wrist", "top")
    for episode in source.episodes():
        assert episode.frames.shape == (STEPS + 1, 64, 128, 3)
        assert not episode.vectors
        for half in np.split(episode.frames, 2, axis=2):
            assert_aligned(replace(episode, frames=half))


def test_the_whole_way_into_a_file(filmed: Path, tmp_path: Path) -> None:
    with pytest.warns(LossySource, match="video"):
        result = import_dataset(filmed, tmp_path / "robot.h5", limit=3)
    assert (result.format, result.episodes, result.transitions) == ("lerobot", 3, 3 * STEPS)
    with pytest.warns(LossySource, match="video"):
        import_dataset(filmed, tmp_path / "robot.h5", resume=True)
    data = Dataset(tmp_path / "robot.h5")
    assert data.num_episodes == COUNT
    for number in range(COUNT):
        assert_counted(data.episode(number), number)


def change_json(path: Path, **change: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_actions_reach_as_far_as_the_statistics_say(copied: Path) -> None:
    assert opened(copied).info.action.space.high[0] == 1
    change_json(copied / "meta/stats.json", action={"min": [-40.5], "max": [90]})
    space = opened(copied).info.action.space
    assert (space.low[0], space.high[0]) == (-40.5, 90)
    (copied / "meta/stats.json").unlink()
    assert opened(copied).info.action.space.high[0] == 1


def test_an_older_version_is_told_how_to_convert(copied: Path) -> None:
    change_json(copied / "meta/info.json", codebase_version="v2.1")
    with pytest.raises(DatasetError, match=r"v2\.1.*convert"):
        opened(copied)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fps": 0}, "frames a second"),
        ({"features": {}}, "no images"),
        ({"features": None}, r"info\.json is damaged"),
        ({"data_path": "../{chunk_index}/{file_index}.parquet"}, "not inside"),
        ({"video_path": "/other/{video_key}.mp4"}, "not inside"),
        ({"data_path": "data/{chunk_index.__class__}"}, "damaged"),
    ],
)
def test_hostile_or_broken_descriptions_are_refused(
    copied: Path, change: dict[str, Any], reason: str
) -> None:
    change_json(copied / "meta/info.json", **change)
    with pytest.raises(DatasetError, match=reason):
        list(opened(copied).episodes())


@pytest.mark.parametrize("kept", [0, 100, 3000])
@pytest.mark.parametrize(
    "name",
    [
        "meta/info.json",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-001.parquet",
        f"videos/{CAMERA}/chunk-000/file-001.mp4",
    ],
)
def test_truncated_files_are_named(copied: Path, name: str, kept: int) -> None:
    path = copied / name
    whole = path.read_bytes()
    path.write_bytes(whole[: min(kept, len(whole) - 1)])
    with pytest.raises(DatasetError, match=path.name.replace(".", r"\.")):
        list(opened(copied).episodes())


def test_missing_files_are_named(copied: Path) -> None:
    film = copied / f"videos/{CAMERA}/chunk-000/file-001.mp4"
    film.unlink()
    with pytest.raises(DatasetError, match=r"file-001\.mp4 does not exist"):
        list(opened(copied).episodes())
    (copied / "data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(DatasetError, match=r"file-000\.parquet"):
        list(opened(copied).episodes())


def rewrite(path: Path, change: Any) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def test_rows_of_another_episode_are_refused(copied: Path) -> None:
    path = copied / "data/chunk-000/file-000.parquet"
    rewrite(path, lambda table: table.slice(1))
    with pytest.raises(DatasetError, match="other rows"):
        list(opened(copied).episodes())
    rewrite(path, lambda table: table.drop_columns(["action"]))
    with pytest.raises(DatasetError, match="lacks the columns action"):
        list(opened(copied).episodes())


@pytest.mark.parametrize("column", ["dataset_from_index", "dataset_to_index"])
@pytest.mark.parametrize("value", [-5, 10**6, 2**62])
def test_impossible_places_are_refused(copied: Path, column: str, value: int) -> None:
    path = copied / "meta/episodes/chunk-000/file-000.parquet"
    rewrite(path, lambda table: table.set_column(
        table.schema.get_field_index(column), column, pa.array([value] * len(table))))  # fmt: skip
    with pytest.raises(DatasetError, match=r"is damaged|fewer rows|other rows|holds an episode of"):
        list(opened(copied).episodes())


def test_ragged_or_missing_actions_are_refused(copied: Path) -> None:
    path = copied / "data/chunk-000/file-000.parquet"
    rows = len(pq.read_table(path))
    for actions in ([[1.0], [1.0, 2.0, 3.0]] * (rows // 2), [None] * rows, ["left"] * rows):
        rewrite(path, lambda table, a=actions: table.drop_columns("action").append_column(
            "action", pa.array(a)))  # fmt: skip
        with pytest.raises(DatasetError, match=r"file-000\.parquet is damaged"):
            list(opened(copied).episodes())


def test_actions_that_are_no_numbers_are_refused(copied: Path) -> None:
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    for said in ({"dtype": "string", "shape": [1]}, None):
        features["action"] = said
        change_json(copied / "meta/info.json", features={k: v for k, v in features.items() if v})
        with pytest.raises(DatasetError, match="holds no actions"):
            opened(copied)


def test_features_that_the_rows_lack_are_named(copied: Path) -> None:
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    features["next.truncated"] = features.pop("next.done")
    del features["episode_index"]  # every dataset has it, whether it says so or not
    change_json(copied / "meta/info.json", features=features)
    with pytest.raises(DatasetError, match=r"lacks the columns next\.truncated"):
        list(opened(copied).episodes())


def test_depth_is_no_picture(copied: Path) -> None:
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    features[CAMERA]["info"] = {"is_depth_map": True}
    change_json(copied / "meta/info.json", features=features)
    with pytest.raises(DatasetError, match="no images"):
        opened(copied)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_of_another_size_is_never_unpacked(suffix: str, tmp_path: Path) -> None:
    import cv2

    shown = np.full((40, 30, 3), (10, 100, 200), np.uint8)
    data = cv2.imencode(suffix, shown[:, :, ::-1])[1].tobytes()
    assert size_of(data) == (40, 30)
    found = decode_image(data, 40, 30, tmp_path)
    assert abs(found.astype(int) - shown).max() < 4
    with pytest.raises(DatasetError, match="got one of 30×40 pixels"):
        decode_image(data, 64, 64, tmp_path)
    for broken in (b"", b"GIF89a", None, data[:20]):
        with pytest.raises(DatasetError, match="got no PNG or JPEG"):
            decode_image(broken, 40, 30, tmp_path)
    with pytest.raises(DatasetError, match="damaged image"):
        decode_image(data[: data.index(b"IDAT") if suffix == ".png" else 200], 40, 30, tmp_path)
