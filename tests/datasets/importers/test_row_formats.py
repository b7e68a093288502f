"""D4RL, robomimic and OGBench: what lies where, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium import spaces
from latentwrap_test_counter import assert_aligned, step_in
from latentwrap_test_data import assert_same_episode
from latentwrap_test_foreign import (
    ENDS,
    LENGTHS,
    counted,
    write_columns,
    write_d4rl,
    write_d4rl_with_next,
    write_ogbench,
    write_robomimic,
)

from latentwrap.datasets import Dataset, Episode
from latentwrap.datasets.importers import ImportOptions, import_dataset
from latentwrap.errors import DatasetError, EnvironmentMismatch, LatentwrapError

pytestmark = pytest.mark.filterwarnings("ignore::latentwrap.datasets.importers.LostEnds")

EEF, GRIPPER = "robot0_eef_pos", "robot0_gripper_qpos"


def imported(source: Path, **options: Any) -> Dataset:
    target = source.parent / "imported.h5"
    import_dataset(source, target, options=ImportOptions(**options), force=True)
    return Dataset(target)


def all_episodes(data: Dataset) -> list[Episode]:
    return [data.episode(number) for number in range(data.num_episodes)]


def assert_counted(data: Dataset, lengths: Any = LENGTHS, *, rewards: bool = True) -> None:
    """The very frames, actions, rewards and ends of `counted`, and aligned by what they show."""
    found, expected = all_episodes(data), counted(lengths)
    assert len(found) == len(expected)
    for episode, want in zip(found, expected, strict=True):
        assert_aligned(episode)
        np.testing.assert_array_equal(episode.frames, want.frames)
        np.testing.assert_array_equal(episode.actions, want.actions)
        assert (episode.rewards is not None) == rewards
        if rewards:
            np.testing.assert_array_equal(episode.rewards, want.rewards)


def test_d4rl_drops_the_last_action_and_keeps_the_termination(tmp_path: Path) -> None:
    data = imported(write_d4rl(tmp_path / "lane.hdf5", counted()))
    assert_counted(data)
    assert [(e.terminated, e.truncated) for e in all_episodes(data)] == [(e, not e) for e in ENDS]
    assert (data.info.env_id, data.info.provenance["format"]) == ("lane", "d4rl")
    assert list(data.states) == ["qpos"]
    for episode in all_episodes(data):
        shown = [step_in(frame) for frame in episode.frames]
        np.testing.assert_array_equal(episode.states["qpos"][:, 0], shown)


def test_d4rl_with_next_observations_keeps_every_action(tmp_path: Path) -> None:
    data = imported(write_d4rl_with_next(tmp_path / "lane.hdf5", counted()))
    assert_counted(data)
    assert [e.terminated for e in all_episodes(data)] == list(ENDS)
    for episode in all_episodes(data):
        known = episode.states["qpos"][:-1, 0]
        np.testing.assert_array_equal(known, [step_in(frame) for frame in episode.frames[:-1]])
        assert np.isnan(episode.states["qpos"][-1])


@pytest.mark.parametrize(("limit", "size"), [("BLOCK_ROWS", 3), ("BLOCK_BYTES", 30_000)])
def test_hdf5_episodes_that_do_not_fit_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, size: int
) -> None:
    monkeypatch.setattr(f"latentwrap.datasets.importers.bounds.{limit}", size)
    lengths = (4, 1, 8, 11)
    assert_counted(imported(write_d4rl(tmp_path / "lane.hdf5", counted(lengths))), lengths)


def test_d4rl_without_timeouts_ends_at_terminals_and_at_the_end(tmp_path: Path) -> None:
    episodes = counted((4, 6))
    source = write_d4rl(tmp_path / "lane.hdf5", episodes, timeouts=None)
    data = imported(source)
    assert_counted(data, (4, 6))
    assert [e.truncated for e in all_episodes(data)] == [False, True]


def test_d4rl_chunks_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    episodes = counted([3] * 11)
    columns: dict[str, Any] = {}
    for number, episode in enumerate(episodes):
        write_d4rl(tmp_path / "chunk.h5", [episode])
        with h5py.File(tmp_path / "chunk.h5") as chunk:
            for name in ("observations", "actions", "rewards", "terminals"):
                columns[f"virtual/{number}/{name}"] = chunk[name][:]
    assert_counted(imported(write_columns(tmp_path / "chunked.hdf5", columns)), [3] * 11)


def test_d4rl_images_whose_pixels_lie_in_one_row_are_unfolded(tmp_path: Path) -> None:
    """CARLA's observations are flat floats in [0, 1]."""
    source = write_d4rl(tmp_path / "carla.hdf5", counted())
    with h5py.File(source, "r+") as file:
        flat = file["observations"][:].reshape(-1, 64 * 64 * 3).astype(np.float32) / 255
        del file["observations"]
        file["observations"] = flat
    assert_counted(imported(source))


def test_d4rl_observations_may_be_a_group(tmp_path: Path) -> None:
    source = write_d4rl(tmp_path / "lane.hdf5", counted())
    with h5py.File(source, "r+") as file:
        file.move("observations", "pixels")
        file.move("pixels", "observations/pixels")
        file["observations/speed"] = file["infos/qpos"][:]
    data = imported(source, vector_keys=("speed",))
    assert_counted(data)
    assert data.info.frame.names == ("pixels",)
    np.testing.assert_array_equal(data.vectors["speed"], data.states["qpos"])


@pytest.mark.parametrize("next_obs", [True, False])
def test_robomimic_cameras_proprioception_and_states(tmp_path: Path, *, next_obs: bool) -> None:
    cameras = ("robot0_eye_in_hand_image", "agentview_image")
    episodes = counted((6, 3, 12))
    source = write_robomimic(tmp_path / "lift.hdf5", episodes, next_obs=next_obs)
    data = imported(source, image_keys=cameras)
    assert data.info.env_id == "Lift"
    assert data.info.frame.names == cameras
    assert data.info.vectors.names == (EEF, GRIPPER)
    assert data.info.action.space == spaces.Box(-1, 1, (1,))
    assert set(data.states) == {"object", "states"}
    kept = 0 if next_obs else 1
    for episode, want in zip(all_episodes(data), episodes, strict=True):
        steps = len(want.actions) - kept
        inverted, frames = np.split(episode.frames, 2, axis=2)
        np.testing.assert_array_equal(frames, 255 - inverted)
        np.testing.assert_array_equal(frames, want.frames[: steps + 1])
        np.testing.assert_array_equal(episode.actions, want.actions[:steps])
        np.testing.assert_array_equal(episode.rewards, want.rewards[:steps])
        assert episode.terminated == want.terminated
        step = np.arange(steps + 1)
        np.testing.assert_array_equal(episode.vectors[EEF], np.repeat(step[:, None], 3, axis=1))
        np.testing.assert_array_equal(episode.states["object"][:, 0], 10 * step)
        known = episode.states["states"][: len(want.actions), 0]
        np.testing.assert_array_equal(known, step[: len(want.actions)])


def test_robomimic_asks_for_a_camera(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5", counted(), next_obs=True)
    with pytest.raises(EnvironmentMismatch, match=r"agentview_image, robot0_eye_in_hand_image"):
        imported(source)


def test_robomimic_demos_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    lengths = list(range(2, 14))
    source = write_robomimic(tmp_path / "lift.hdf5", counted(lengths), next_obs=True)
    data = imported(source, image_keys=("agentview_image",), vector_keys=())
    assert_counted(data, lengths)
    assert data.vectors == {}


def test_ogbench_ends_are_cuts_and_states_stay(tmp_path: Path) -> None:
    source = write_ogbench(tmp_path / "visual-cube-single-play-v0-val.npz", counted())
    data = imported(source)
    assert_counted(data, rewards=False)
    assert (data.info.env_id, data.rewards) == ("visual-cube-single-v0", None)
    for episode in all_episodes(data):
        assert (episode.terminated, episode.truncated) == (False, True)
        for name in ("qpos", "button_states"):
            shown = [step_in(frame) for frame in episode.frames]
            np.testing.assert_array_equal(episode.states[name][:, 0], shown)


def test_ogbench_episodes_that_do_not_fit_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentwrap.datasets.importers.bounds.BLOCK_ROWS", 7)
    lengths = (6, 1, 20, 7, 13)
    source = write_ogbench(tmp_path / "visual-cube-play-v0.npz", counted(lengths))
    assert_counted(imported(source), lengths, rewards=False)


def test_images_are_resized_where_all_images_are(tmp_path: Path) -> None:
    source = write_ogbench(tmp_path / "visual-cube-play-v0.npz", counted(size=96))
    data = imported(source, height=32, width=48, grey=True)
    assert data.info.frame.shape == (32, 48, 1)
    assert (data.info.frame.source_height, data.info.frame.source_width) == (96, 96)
    for episode in all_episodes(data):
        assert_aligned(episode)


def test_actions_beyond_one_get_the_bounds_of_a_named_environment(tmp_path: Path) -> None:
    episodes = counted()
    actions = 2 * np.concatenate([np.concatenate([e.actions, [[0]]]) for e in episodes])
    source = write_d4rl(tmp_path / "p.hdf5", episodes, actions=actions)
    seen = imported(source).info.action.space
    assert isinstance(seen, spaces.Box)
    np.testing.assert_array_equal([seen.low, seen.high], [[actions.min()], [actions.max()]])
    data = imported(source, env_id="Pendulum-v1", frame_skip=2)
    env = gym.make("Pendulum-v1")
    assert data.info.action.matches(env.action_space)
    assert (data.info.env_id, data.info.frame_skip) == ("Pendulum-v1", 2)
    other = "latentwrap_test_envs:latentwrap-test/Counting-v0"
    with pytest.raises(DatasetError, match=f"actions of 1 numbers, but {other} takes 2"):
        imported(source, env_id=other)


def test_whole_numbers_are_choices(tmp_path: Path) -> None:
    rows = sum(LENGTHS) + len(LENGTHS)
    actions = np.arange(rows) % 4
    source = write_d4rl(tmp_path / "p.hdf5", counted(), actions=actions)
    data = imported(source)
    assert data.info.action.space == spaces.Discrete(4)
    assert data.actions[: LENGTHS[0], 0].tolist() == actions[: LENGTHS[0]].tolist()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"observations": np.zeros((18, 17))}, r"holds no images, only numbers of shape \(17,\)"),
        ({"actions": np.zeros((3, 1))}, "3 rows of actions but 18 of terminals"),
        ({"rewards": np.zeros(4)}, "4 rows of rewards but 18 of terminals"),
        ({"timeouts": np.zeros(5, bool)}, "5 rows of timeouts but 18 of terminals"),
        ({"infos/qpos": np.zeros((7, 1))}, "7 rows of infos/qpos but 18 of terminals"),
        ({"actions": np.float32(1)}, "lacks the column /actions"),
        ({"actions": np.array([b"left"] * 18)}, r"requires numbers in /actions, got \|S4"),
        ({"rewards": np.zeros((18, 2))}, "requires one reward, got 2"),
    ],
)
def test_d4rl_that_does_not_fit_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    source = write_d4rl(tmp_path / "lane.hdf5", counted(), **changes)
    with pytest.raises(DatasetError, match=sentence):
        imported(source)
    assert not (tmp_path / "imported.h5").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"observations": np.zeros((18, 28))}, "holds no images, only numbers"),
        ({"qpos": np.zeros((2, 1))}, "2 rows of qpos but 18 of terminals"),
        ({"terminals": np.zeros(18)}, "marks no end of an episode"),
        ({"actions": np.array([{}], object)}, "no whole npz file of numbers"),
    ],
)
def test_ogbench_that_does_not_fit_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    source = write_ogbench(tmp_path / "visual-cube-play-v0.npz", counted(), **changes)
    with pytest.raises(LatentwrapError, match=sentence):
        imported(source)


def test_episodes_of_one_row_or_none_are_left_out(tmp_path: Path) -> None:
    flags = np.arange(18) == 0
    source = write_d4rl(tmp_path / "lane.hdf5", counted(), terminals=flags, timeouts=None)
    assert (imported(source).lengths - 1).tolist() == [16]
    source = write_robomimic(tmp_path / "lift.hdf5", counted((3, 4)), next_obs=True)
    with h5py.File(source, "r+") as file:
        for name in ("actions", "rewards", "dones", "states"):
            _shorten(file["data/demo_0"], name)
        for group in ("obs", "next_obs"):
            for name in file[f"data/demo_0/{group}"]:
                _shorten(file[f"data/demo_0/{group}"], name)
    data = imported(source, image_keys=("agentview_image",))
    assert (data.lengths - 1).tolist() == [4]
    said = data.info.provenance["import"]
    assert (said["read"], said["skipped"]) == (2, {"no transition": 1})


def _shorten(group: h5py.Group, name: str) -> None:
    values = group[name][:0]
    del group[name]
    group[name] = values


def test_robomimic_that_does_not_fit_itself_is_refused(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5", counted(), next_obs=True)
    with h5py.File(source, "r+") as file:
        del file["data/demo_2/actions"]
        file["data/demo_2/actions"] = np.zeros((2, 1))
    with pytest.raises(DatasetError, match="9 rows of /data/demo_2/obs but 2 actions"):
        imported(source, image_keys=("agentview_image",))


def test_demos_that_differ_are_refused(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5", counted(), next_obs=True)
    for key, found in (("object", "none"), (EEF, r"\(2,\)")):
        with h5py.File(source, "r+") as file:
            old = file[f"data/demo_1/obs/{key}"]
            narrow = np.zeros((len(old), 2))
            del file[f"data/demo_1/obs/{key}"]
            if key == EEF:
                file["data/demo_1/obs/object"] = np.zeros((len(narrow), 1))
                file[f"data/demo_1/obs/{key}"] = narrow
        with pytest.raises(DatasetError, match=rf"requires {key} of shape .* got {found}: leave"):
            imported(source, image_keys=("agentview_image",))


def test_d4rl_chunks_that_differ_are_refused(tmp_path: Path) -> None:
    columns: dict[str, Any] = {}
    for number, episode in enumerate(counted((3, 4))):
        columns[f"virtual/{number}/observations"] = episode.frames
        columns[f"virtual/{number}/actions"] = np.zeros((len(episode.frames), 1))
        columns[f"virtual/{number}/terminals"] = np.zeros(len(episode.frames), bool)
    columns["virtual/0/rewards"] = np.zeros(4)
    with pytest.raises(DatasetError, match="same columns in every chunk"):
        imported(write_columns(tmp_path / "chunked.hdf5", columns))


def test_what_no_format_foresees_is_still_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("by  zero.")

    source = write_d4rl(tmp_path / "lane.hdf5", counted())
    for name in ("_episode", "__init__"):
        monkeypatch.setattr(f"latentwrap.datasets.importers.d4rl._D4RL.{name}", fail)
        with pytest.raises(DatasetError, match=r"lane\.hdf5 is damaged \(by zero\): get it anew"):
            imported(source)


def test_the_same_episodes_come_out_of_every_format(tmp_path: Path) -> None:
    episodes = counted()
    first = all_episodes(imported(write_d4rl(tmp_path / "a.hdf5", episodes)))
    second = all_episodes(imported(write_d4rl_with_next(tmp_path / "b.hdf5", episodes)))
    for one, other in zip(first, second, strict=True):
        one.states["qpos"][-1] = other.states["qpos"][-1] = 0  # unknown where it was not stored
        assert_same_episode(one, other)


def test_actions_that_float32_cannot_hold_are_refused(tmp_path: Path) -> None:
    huge = np.full((sum(LENGTHS) + len(LENGTHS), 1), 1e300)
    source = write_d4rl(tmp_path / "huge.hdf5", counted(LENGTHS), actions=huge)
    with pytest.raises(DatasetError, match="holds no finite actions"):
        imported(source)
