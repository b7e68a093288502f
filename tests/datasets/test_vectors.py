"""Cameras and vectors of a dataset: in their places, from the environment to the windows."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the codec, all that a plain reader needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentwrap_test_data import (
    assert_same_episode,
    edit,
    make_episode,
    make_info,
    names_in,
    replace_column,
    write_dataset,
)
from latentwrap_test_envs import SEED, SIZE, CamerasEnv, counting

from latentwrap.datasets import (
    Dataset,
    DatasetWriter,
    Episode,
    WindowSampler,
    collect,
    summarize,
)
from latentwrap.errors import DatasetError, EnvironmentMismatch, PixelError
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.seeding import numpy_generator
from latentwrap.vectors import VectorSpec

LENGTHS = (5, 3, 8)
CAMERAS = ("robot.wrist", "front")
VECTORS = ("robot.mode", "joints")


def run(path: Path, steps: int, **kwargs: Any) -> Dataset:
    options = {"image_keys": CAMERAS, "vector_keys": VECTORS, "height": SIZE, "width": SIZE}
    env = kwargs.pop("env", {})
    spec = counting("CamerasEnv", lengths=LENGTHS, **env)
    collect(spec, path, steps=steps, seed=SEED, **{**options, **kwargs})
    return Dataset(path)


def check_episode(episode: Episode, skip: int) -> None:
    """Prove from the vector `joints` alone that all else belongs to the same step."""
    step, last = episode.vectors["joints"].T
    wrist, front = np.split(episode.frames, 2, axis=2)
    for panel in (wrist, front):
        assert (panel == panel[:, :1, :1]).all()
    np.testing.assert_array_equal(front[:, 0, 0, 0], step)
    np.testing.assert_array_equal(wrist[:, 0, 0, 0], 255 - step)
    np.testing.assert_array_equal(wrist[:, 0, 0, 1:], front[:, 0, 0, 1:])
    assert step[0] == last[0] == 0
    np.testing.assert_array_equal(last[1:], episode.actions[:, 0])
    np.testing.assert_array_equal(np.diff(step)[:-1], skip)
    modes = np.eye(CamerasEnv.MODES, dtype=np.float32)[step.astype(int) % CamerasEnv.MODES]
    np.testing.assert_array_equal(episode.vectors["robot.mode"], modes)


@pytest.mark.parametrize(("num_envs", "skip"), [(1, 1), (1, 2), (2, 1)])
def test_every_camera_and_vector_is_in_its_place(path: Path, num_envs: int, skip: int) -> None:
    data = run(path, 30, num_envs=num_envs, frame_skip=skip)
    assert data.info.frame.cameras == (
        Camera(name="robot.wrist", source_height=2 * SIZE, source_width=SIZE),
        Camera(name="front", source_height=SIZE, source_width=SIZE),
    )
    assert data.info.frame.shape == (SIZE, 2 * SIZE, 3)
    assert data.info.vectors == VectorSpec(names=VECTORS, sizes=(3, 2))
    assert data.num_transitions == 30
    for number in range(data.num_episodes):
        check_episode(data.episode(number), skip)
    seeds = {int(data.episode(number).frames[0, 0, 0, 2]) for number in range(data.num_episodes)}
    assert seeds == {SEED + env for env in range(num_envs)}


def test_a_file_is_readable_with_plain_h5py(path: Path) -> None:
    data = run(path, 16)
    data.close()
    with h5py.File(path) as file:
        assert sorted(file["frames"]) == ["front", "robot.wrist"]
        assert sorted(file["vectors"]) == ["joints", "robot.mode"]
        front, wrist = file["frames/front"], file["frames/robot.wrist"]
        assert front.shape == wrist.shape == (19, SIZE, SIZE, 3)
        assert front.chunks == (2, SIZE, SIZE, 3)
        joints = file["vectors/joints"]
        assert (joints.dtype, joints.shape) == (np.float32, (19, 2))
        steps = [*range(6), *range(4), *range(9)]
        np.testing.assert_array_equal(joints[:, 0], steps)
        np.testing.assert_array_equal(front[:, 3, 4, 0], steps)
        np.testing.assert_array_equal(wrist[:, 3, 4, 0], 255 - np.array(steps))


def test_one_camera_of_a_dict_is_one_column(path: Path) -> None:
    data = run(path, 16, image_keys=["front"], vector_keys=())
    assert [camera.name for camera in data.info.frame.cameras] == ["front"]
    assert data.vectors == {}
    assert data.joined_vectors is None
    data.close()
    with h5py.File(path) as file:
        assert file["frames"].shape == (19, SIZE, SIZE, 3)
        assert "vectors" not in file


def test_frames_are_the_same_from_file_memory_and_copy(path: Path) -> None:
    data = run(path, 16)
    slices = [slice(0, 4), slice(7, 19), slice(18, 19)]
    read = [data.frames(rows) for rows in slices]
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own
    data.preload()
    for rows, frames in zip(slices, read, strict=True):
        np.testing.assert_array_equal(data.frames(rows), frames)
        np.testing.assert_array_equal(copy.frames(rows), frames)
    np.testing.assert_array_equal(copy.joined_vectors, data.joined_vectors)


def test_windows_hold_the_vectors_of_their_frames(path: Path) -> None:
    data = run(path, 60)
    episodes = np.arange(data.num_episodes)
    sampler = WindowSampler(data, episodes, length=3, batch_size=16, generator=numpy_generator(0))
    windows = sampler.sample()
    assert windows.vectors is not None
    assert (windows.vectors.dtype, windows.vectors.shape) == (np.float32, (16, 4, 5))
    steps = windows.vectors[:, :, 3]  # joints come after the three modes
    np.testing.assert_array_equal(windows.frames[:, :, 0, -1, 0], steps)
    np.testing.assert_array_equal(windows.vectors[:, 1:, 4], windows.actions[:, :, 0])
    assert len(np.unique(steps[:, 0])) > 2


def test_an_interrupted_collection_goes_on_with_the_same_keys_alone(path: Path) -> None:
    run(path, 8)
    longer = run(path, 24, resume=True)
    assert longer.num_transitions == 24
    for number in range(longer.num_episodes):
        check_episode(longer.episode(number), 1)
    with pytest.raises(DatasetError, match=r"begun with vectors .*'robot\.mode', 'joints'"):
        run(path, 40, resume=True, vector_keys=VECTORS[::-1])
    with pytest.raises(DatasetError, match=r"cameras robot\.wrist, front, now it is front, robot"):
        run(path, 40, resume=True, image_keys=CAMERAS[::-1])
    with pytest.raises(DatasetError, match="begun with layout None, now it is HWC"):
        run(path, 40, resume=True, layout="HWC")


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"image_keys": None}, EnvironmentMismatch, "the images front, robot.wrist: name one"),
        ({"image_keys": ["side"]}, EnvironmentMismatch, "holds no 'side'"),
        ({"vector_keys": ["force"]}, EnvironmentMismatch, "holds no 'force'"),
        ({"layout": "WHC"}, PixelError, "no image layout 'WHC'"),
        ({"vector_keys": ["joints", "joints"]}, EnvironmentMismatch, "list of different names"),
        ({"image_keys": ["front", "front"]}, EnvironmentMismatch, "list of different names"),
    ],
)
def test_keys_that_cannot_be_are_refused_before_anything_is_written(
    path: Path, changes: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        run(path, 10, **changes)
    assert names_in(path.parent) == []


@pytest.mark.parametrize(("nan_at", "when"), [(0, "at a reset"), (2, "at step 2 of an episode")])
@pytest.mark.filterwarnings("ignore:.*obs returned by the .*:UserWarning")
def test_a_vector_that_is_not_finite_stops_the_collection(
    path: Path, nan_at: int, when: str
) -> None:
    with pytest.raises(DatasetError, match=rf"vector 'joints' \[nan, .*{when}, but .* finite"):
        run(path, 10, env={"nan_at": nan_at})


TWO = FrameSpec(height=4, width=12, cameras=(Camera(name="left.eye"), Camera(name="right.eye")))
HAND = VectorSpec(names=("hand", "arm"), sizes=(1, 2))


def seen_episode(steps: int) -> Episode:
    """An episode of two cameras, 6 pixels wide each, and two vectors."""
    plain, rng = make_episode(steps), np.random.default_rng(steps)
    vectors = {
        name: rng.normal(size=(steps + 1, size)).astype(np.float32)
        for name, size in zip(HAND.names, HAND.sizes, strict=True)
    }
    frames = np.concatenate([plain.frames, 255 - plain.frames], axis=2)
    return dataclasses.replace(plain, frames=frames, vectors=vectors)


def write_seen(path: Path, lengths: list[int]) -> list[Episode]:
    episodes = [seen_episode(steps) for steps in lengths]
    with DatasetWriter(path, make_info(frame=TWO, vectors=HAND)) as writer:
        for episode in episodes:
            writer.add(episode)
    return episodes


def test_an_episode_comes_back_as_it_was(path: Path) -> None:
    episodes = write_seen(path, [3, 12, 1])
    data = Dataset(path)
    for number, expected in enumerate(episodes):
        assert_same_episode(data.episode(number), expected)
    assert list(data.vectors) == ["hand", "arm"]
    assert data.joined_vectors is not None
    np.testing.assert_array_equal(data.joined_vectors[:4, 1:], episodes[0].vectors["arm"])


@given(
    widths=st.integers(1, 5),
    count=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 4), max_size=3),
    lengths=st.lists(st.integers(1, 10), min_size=1, max_size=4),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    widths: int,
    count: int,
    sizes: list[int],
    lengths: list[int],
) -> None:
    path = tmp_path_factory.mktemp("any") / "data.h5"
    cameras = tuple(Camera(name=f"camera {i}") for i in range(count))
    frame = FrameSpec(height=2, width=widths * count, cameras=cameras)
    spec = VectorSpec(names=tuple(f"v.{i}" for i in range(len(sizes))), sizes=tuple(sizes))
    rng = np.random.default_rng(0)
    with DatasetWriter(path, make_info(frame=frame, vectors=spec)) as writer:
        episodes = []
        for steps in lengths:
            frames = rng.integers(0, 256, (steps + 1, *frame.shape), np.uint8)
            vectors = {
                name: rng.normal(size=(steps + 1, size)).astype(np.float32)
                for name, size in zip(spec.names, spec.sizes, strict=True)
            }
            plain = make_episode(steps)
            episodes.append(dataclasses.replace(plain, frames=frames, vectors=vectors))
            writer.add(episodes[-1])
    data = Dataset(path)
    assert data.info == make_info(frame=frame, vectors=spec)
    for number, expected in enumerate(episodes):
        assert_same_episode(data.episode(number), expected)
    data.close()


def wrong(name: str, values: Any) -> Episode:
    episode = seen_episode(3)
    return dataclasses.replace(episode, vectors={**episode.vectors, name: values})


@pytest.mark.parametrize(
    ("episode", "sentence"),
    [
        (wrong("hand", np.zeros((3, 1), np.float32)), r"'hand' to be float32 \(4, 1\)"),
        (wrong("hand", np.zeros((4, 1))), "'hand' to be float32 .* got float64"),
        (wrong("arm", np.full((4, 2), np.nan, np.float32)), "finite vectors, 'arm' is not"),
        (wrong("leg", np.zeros((4, 1), np.float32)), "the vectors hand, arm, got hand, arm, leg"),
        (dataclasses.replace(seen_episode(3), vectors={}), "the vectors hand, arm, got none"),
        (dataclasses.replace(seen_episode(3), frames=make_episode(3).frames), "frames to be"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(
    path: Path, episode: Episode, sentence: str
) -> None:
    with DatasetWriter(path, make_info(frame=TWO, vectors=HAND)) as writer:
        writer.add(seen_episode(2))
        with pytest.raises(DatasetError, match=sentence):
            writer.add(episode)


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ({"vectors": VectorSpec(names=("a/b",), sizes=(1,))}, "vector .* without '/', got 'a/b'"),
        ({"vectors": VectorSpec(names=("a",), sizes=(0,))}, "at least one number, 'a' has none"),
        ({"frame": FrameSpec(cameras=(Camera(name="a/b"),))}, "camera .* without '/', got 'a/b'"),
        ({"frame": FrameSpec(cameras=(Camera(name=""),))}, "camera requires a name"),
    ],
)
def test_a_name_that_no_column_can_have_is_refused(
    path: Path, info: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DatasetError, match=sentence):
        DatasetWriter(path, make_info(**info))
    assert names_in(path.parent) == []


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("vectors/hand", np.zeros((19, 1)), r"/vectors/hand to be float32 \(19, 1\), got float64"),
        ("vectors/hand", np.zeros((18, 1), np.float32), r"/vectors/hand to be float32 \(19, 1\)"),
        ("vectors/hand", np.zeros(19, np.float32), "/vectors/hand to be a column of vectors"),
        ("vectors/arm", np.full((19, 2), np.nan, np.float32), "vectors that are NaN .* row 0"),
        ("frames/left.eye", np.zeros((19, 4, 5, 3), np.uint8), r"left.eye to be uint8 \(19, 4, 6"),
        ("frames/right.eye", np.zeros((9, 4, 6, 3), np.uint8), r"right.eye to be uint8 \(19"),
        ("frames", np.zeros((19, 4, 12, 3), np.uint8), "lacks the column /frames/left.eye"),
    ],
)
def test_a_wrong_column_is_refused(path: Path, name: str, values: Any, sentence: str) -> None:
    write_seen(path, [3, 12, 1])
    replace_column(path, name, values)
    with pytest.raises(DatasetError, match=sentence):
        Dataset(path)


@pytest.mark.parametrize("name", ["vectors/hand", "vectors", "frames/right.eye", "frames"])
def test_a_missing_column_is_named(path: Path, name: str) -> None:
    write_seen(path, [3, 12, 1])
    edit(path, lambda file: file.__delitem__(name))
    with pytest.raises(DatasetError, match=name):
        Dataset(path)


def test_a_vector_that_somebody_added_comes_last(path: Path) -> None:
    write_seen(path, [3, 12, 1])
    added = np.arange(19, dtype=np.float32)[:, None]
    edit(path, lambda file: file.__setitem__("vectors/added", added))
    data = Dataset(path)
    assert data.info.vectors == VectorSpec(names=("hand", "arm", "added"), sizes=(1, 2, 1))
    np.testing.assert_array_equal(data.vectors["added"], added)


def test_a_file_that_names_no_vectors_may_have_some(path: Path) -> None:
    write_seen(path, [3, 12, 1])
    edit(path, lambda file: file.attrs.__delitem__("vectors"))
    assert Dataset(path).info.vectors == VectorSpec(names=("arm", "hand"), sizes=(2, 1))


def test_vectors_belong_to_what_a_fingerprint_identifies(tmp_path: Path) -> None:
    one, other, plain = (tmp_path / f"{name}.h5" for name in ("one", "other", "plain"))
    write_seen(one, [3, 12])
    write_seen(other, [3, 12])
    assert Dataset(one).fingerprint() == Dataset(other).fingerprint()
    column = np.zeros((17, 1), np.float32)
    replace_column(other, "vectors/hand", column)
    assert Dataset(one).fingerprint() != Dataset(other).fingerprint()
    # That of a dataset without them is what it was before there were any: checkpoints hold it.
    write_dataset(plain, [3, 12, 1])
    assert Dataset(plain).fingerprint().startswith("62f679cb8f2ecf14")


def test_a_summary_names_cameras_and_vectors(path: Path) -> None:
    summary = summarize(run(path, 16))
    assert summary.cameras == CAMERAS
    assert summary.vectors == {"robot.mode": 3, "joints": 2}
    assert summary.source == "16×8 and 8×8"
    words = summary.described()
    assert words["cameras"] == "robot.wrist, front"
    assert words["vectors"] == "robot.mode (3), joints (2)"
    assert words["frames"] == "8×16×3, from 16×8 and 8×8"
    assert summary.frame_bytes == 19 * SIZE * 2 * SIZE * 3
    assert summary.chunks == (2, SIZE, SIZE, 3)
