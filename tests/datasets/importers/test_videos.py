"""Videos with a file of actions, in every container and every kind of table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_counter import assert_aligned, counting_episode
from latentwrap_test_sources import FPS, write_video

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, LossySource, find_format, import_dataset
from latentwrap.datasets.importers.source import Source
from latentwrap.datasets.importers.video_files import Film, Video
from latentwrap.errors import DatasetError, MissingExtra

pytestmark = pytest.mark.filterwarnings("ignore::latentwrap.datasets.importers.LostEnds")

CONTAINERS = {
    "mp4": "libx264",
    "mkv": "ffv1",
    "webm": "libvpx-vp9",
    "avi": "mpeg4",
    "gif": "gif",
}


def opened(path: Path, **options: Any) -> Source:
    found = find_format(str(path))
    assert found.name == "video"
    return found.open(str(path), ImportOptions(**options))


def write(folder: Path, name: str, episode: Episode, codec: str = "libx264") -> Path:
    path = folder / name
    write_video(path, episode.frames, codec)
    np.save(path.with_suffix(".npy"), episode.actions)
    return path


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_frames_and_actions_stay_together(tmp_path: Path, suffix: str) -> None:
    wanted = [counting_episode(steps, steps) for steps in (12, 40)]
    for number, episode in enumerate(wanted):
        write(tmp_path, f"{number}.{suffix}", episode, CONTAINERS[suffix])
    source = opened(tmp_path)
    for episode, expected in zip(source.episodes(), wanted, strict=True):
        assert_aligned(episode)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        assert episode.rewards is None
        assert (episode.terminated, episode.truncated) == (False, True)
    assert source.count == 2
    assert (source.lossy is None) == (suffix == "mkv")
    assert_aligned(next(source.episodes(first=1)))


def test_a_lossless_video_gives_the_very_frames(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(5, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", noise, "ffv1")
    np.save(tmp_path / "a.npy", np.zeros((4, 1)))
    np.testing.assert_array_equal(next(opened(tmp_path).episodes()).frames, noise)


def test_as_many_frames_as_actions_drop_the_last_action(tmp_path: Path) -> None:
    whole = counting_episode(9, 0)
    write_video(tmp_path / "a.mp4", whole.frames[:-1])
    np.save(tmp_path / "a.npy", whole.actions)
    episode = next(opened(tmp_path).episodes())
    assert_aligned(episode)
    assert len(episode.actions) == 8


def test_a_table_with_names_has_rewards_and_ends(tmp_path: Path) -> None:
    whole = counting_episode(6, 0)
    write_video(tmp_path / "a.mp4", whole.frames)
    rows = [f"{t},{a},{r},{int(t == 5)}" for t, (a, r) in enumerate(
        zip(whole.actions[:, 0], whole.rewards, strict=True))]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(["Time, action_x, Reward, done", *rows]))
    episode = next(opened(tmp_path).episodes())
    assert_aligned(episode)
    np.testing.assert_allclose(episode.rewards, whole.rewards)
    assert (episode.terminated, episode.truncated) == (True, False)


def test_a_table_without_names_is_all_actions(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", counting_episode(3, 0).frames)
    (tmp_path / "a.csv").write_text("0.5,-1\n0.25,1\n0,0\n")
    episode = next(opened(tmp_path).episodes())
    np.testing.assert_array_equal(episode.actions, [[0.5, -1], [0.25, 1], [0, 0]])


def test_whole_numbers_in_a_table_are_choices(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", counting_episode(3, 0).frames)
    (tmp_path / "a.csv").write_text("action,reward\n0,0.5\n2,1.5\n1,0\n")
    source = opened(tmp_path)
    assert source.info.action.matches(spaces.Discrete(3))
    np.testing.assert_array_equal(next(source.episodes()).actions, [[0], [2], [1]])


def test_npz_beside_a_video(tmp_path: Path) -> None:
    whole = counting_episode(5, 0)
    write_video(tmp_path / "a.mp4", whole.frames)
    np.savez(tmp_path / "a.npz", action=whole.actions, reward=whole.rewards)
    assert_aligned(next(opened(tmp_path).episodes()))


def test_the_whole_way_into_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "robot"
    folder.mkdir()
    write(folder, "a.mp4", counting_episode(8, 0, size=96))
    with pytest.warns(LossySource, match="h264"):
        result = import_dataset(folder, tmp_path / "robot.h5")
    data = Dataset(tmp_path / "robot.h5")
    assert (result.format, result.episodes, result.transitions) == ("video", 1, 8)
    assert data.info.env_id == "robot"
    assert (data.info.frame.source_height, data.info.frame.source_width) == (96, 96)
    assert_aligned(data.episode(0))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4", counting_episode(8, 0))
    for actions, reason in (
        (np.zeros((4, 1)), "9 frames and 4 actions"),
        (np.zeros((0, 1)), "0 actions"),
        (np.array(["left"]), "holds <U4"),
        (np.array([{}], object), "no whole table"),
    ):
        np.save(path.with_suffix(".npy"), actions)
        with pytest.raises(DatasetError, match=rf"a\.(mp4|npy).*{reason}"):
            next(opened(tmp_path).episodes())
    path.with_suffix(".npy").unlink()
    with pytest.raises(DatasetError, match=r"a\.mp4 requires its actions .* a\.csv, \.npy or"):
        opened(tmp_path)
    for table in ("x,y\n1,2\n", "action\n1\nleft\n", "1,2\n3\n", ""):
        path.with_suffix(".csv").write_text(table)
        with pytest.raises(DatasetError, match=r"a\.csv"):
            opened(tmp_path)


def test_videos_of_other_sizes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", counting_episode(3, 0))
    write(tmp_path, "b.mp4", counting_episode(3, 0, size=32))
    episodes = opened(tmp_path).episodes()
    next(episodes)
    with pytest.raises(DatasetError, match=r"b\.mp4.*import them apart"):
        next(episodes)


def test_damaged_videos_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4", counting_episode(200, 0))
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(DatasetError, match=r"a\.mp4 is no whole video"):
        opened(tmp_path)
    half = bytearray(whole)
    half[len(half) // 4 : len(half) // 2] = bytes(len(half) // 2 - len(half) // 4)
    path.write_bytes(half)
    with pytest.raises(DatasetError, match=r"a\.mp4"):
        list(opened(tmp_path).episodes())


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4", counting_episode(3, 0))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xxxx"))
    with pytest.raises(DatasetError, match=r"a\.mp4 holds no pictures that PyAV can decode"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
    ],
)
def test_what_only_is_named_a_video_is_never_decoded(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.mp4 does not begin as a \.mp4 file does"):
        opened(tmp_path)


def test_a_film_gives_the_image_of_each_time(tmp_path: Path) -> None:
    episode = counting_episode(300, 0)
    path = tmp_path / "a.mp4"
    write_video(path, episode.frames)
    film = Film(path, tolerance=0.5 / FPS)
    # Forwards, far on, backwards, and the same again.
    for steps in (range(0, 30, 3), range(250, 260), range(5, 8), [7, 7]):
        shown = list(film.at([step / FPS for step in steps]))
        for step, image in zip(steps, shown, strict=True):
            difference = image.astype(int) - episode.frames[step]
            assert abs(difference[16:48, 8:24]).max() < 8
    with pytest.raises(DatasetError, match=r"no image at 31\.000 s"):
        list(film.at([31.0]))
    film.close()


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.mp4", counting_episode(3, 0))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtra, match=r"latentwrap\[import\]"):
        Video(tmp_path / "a.mp4")
