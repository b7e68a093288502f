"""What other programs read is what was recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium import spaces
from tests.encoding.conftest import ENDS, noise_model, write_noise

from latentwrap.datasets import Dataset
from latentwrap.encoding import LatentDataset, LatentEpisode, encode
from latentwrap.errors import DatasetError, MissingExtra, OutputExists

DISCRETE = spaces.Discrete(3, start=1)


def written(folder: Path, form: str, **options: Any) -> dict[str, np.ndarray]:
    """The columns of a flat file made of `write_noise`."""
    pixels = write_noise(folder / "pixels.h5", **options)
    path = folder / "z.hdf5"
    encode(noise_model(pixels.info.action.space), pixels, path, form=form)
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def expected(folder: Path, **options: Any) -> list[LatentEpisode]:
    """The same episodes in our layout, which is tested against the wrapper."""
    pixels = Dataset(folder / "pixels.h5")
    path = folder / "ours.h5"
    encode(noise_model(pixels.info.action.space), pixels, path, **options)
    return list(LatentDataset(path).episodes())


def test_d4rl_has_its_columns(tmp_path: Path) -> None:
    columns = written(tmp_path, "d4rl")
    episodes = expected(tmp_path)
    count = sum(len(episode.actions) for episode in episodes)
    forms = {name: (values.shape, values.dtype.name) for name, values in columns.items()}
    size = noise_model().latent_size
    assert forms == {
        "observations": ((count, size), "float32"),
        "actions": ((count, 2), "float32"),
        "rewards": ((count,), "float32"),
        "terminals": ((count,), "bool"),
        "timeouts": ((count,), "bool"),
        "next_observations": ((count, size), "float32"),
    }


def test_a_reader_of_d4rl_finds_the_transitions_that_were_recorded(tmp_path: Path) -> None:
    columns = written(tmp_path, "d4rl")
    # As its documentation says: a flag ends an episode, and the row below is the next state
    # unless the episode timed out, whose last next state is unknown.
    found = []
    for t in range(len(columns["rewards"])):
        terminal, timeout = columns["terminals"][t], columns["timeouts"][t]
        assert not (terminal and timeout)
        after = None if terminal else columns["observations"][t + 1] if not timeout else "unknown"
        found.append((columns["observations"][t], columns["actions"][t], after))
    rows = iter(found)
    for episode, (terminated, _) in zip(expected(tmp_path), ENDS, strict=True):
        last = len(episode.actions) - 1
        for t, action in enumerate(episode.actions):
            observation, taken, after = next(rows)
            np.testing.assert_allclose(observation, episode.latents[t], atol=1e-4)
            np.testing.assert_array_equal(taken, action)
            if t < last:
                np.testing.assert_allclose(after, episode.latents[t + 1], atol=1e-4)
            else:
                assert after is None if terminated else str(after) == "unknown"
    assert next(rows, None) is None
    nexts = np.concatenate([episode.latents[1:] for episode in expected(tmp_path, force=True)])
    np.testing.assert_allclose(columns["next_observations"], nexts, atol=1e-4)


def test_d4rl_keeps_discrete_actions(tmp_path: Path) -> None:
    columns = written(tmp_path, "d4rl", space=DISCRETE)
    assert columns["actions"].dtype == np.int64
    actions = np.concatenate([episode.actions for episode in expected(tmp_path)])
    np.testing.assert_array_equal(columns["actions"], actions)
    assert set(np.unique(actions)) <= {1, 2, 3}


def test_lompo_fits_its_replay_buffer(tmp_path: Path) -> None:
    columns, episodes = written(tmp_path, "lompo"), expected(tmp_path)
    size, count = noise_model().latent_size, sum(len(e.actions) for e in episodes)
    # The arrays that its buffer assigns to.
    widths = {"obs": size, "actions": 2, "rewards": 1, "next_obs": size, "terminals": 1}
    assert {name: values.shape for name, values in columns.items()} == {
        name: (count, width) for name, width in widths.items()
    }
    assert {values.dtype for values in columns.values()} == {np.dtype(np.float32)}
    parts = {
        "obs": [e.latents[:-1] for e in episodes],
        "next_obs": [e.latents[1:] for e in episodes],
        "actions": [e.actions for e in episodes],
        "rewards": [e.rewards[:, None] for e in episodes if e.rewards is not None],
    }
    for name, values in parts.items():
        np.testing.assert_allclose(columns[name], np.concatenate(values), atol=1e-4)
    lasts = np.cumsum([len(e.actions) for e in episodes]) - 1
    terminated = [last for last, (terminated, _) in zip(lasts, ENDS, strict=True) if terminated]
    np.testing.assert_array_equal(np.flatnonzero(columns["terminals"]), terminated)


def test_lompo_refuses_discrete_actions(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="--as lompo requires continuous actions"):
        written(tmp_path, "lompo", space=DISCRETE)


@pytest.fixture
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Minari, with a place for its datasets that is gone afterwards."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


@pytest.mark.parametrize("space", [spaces.Box(-2, 2, (2,)), DISCRETE], ids=["box", "discrete"])
def test_minari_reads_every_episode(tmp_path: Path, minari: Any, space: spaces.Space) -> None:
    pixels = write_noise(tmp_path / "pixels.h5", space=space)
    result = encode(noise_model(space), pixels, "minari:toys/noise/z-v2", form="minari")
    assert result.path == tmp_path / "minari" / "toys" / "noise" / "z-v2"
    dataset = minari.load_dataset("toys/noise/z-v2")
    assert (dataset.total_episodes, dataset.total_steps) == (4, pixels.num_transitions)
    for found, wanted in zip(dataset.iterate_episodes(), expected(tmp_path), strict=True):
        np.testing.assert_allclose(found.observations, wanted.latents, atol=1e-4)
        assert found.observations.dtype == np.float32
        np.testing.assert_array_equal(
            found.actions, wanted.actions.reshape(len(wanted.actions), *(space.shape or ()))
        )
        np.testing.assert_array_equal(found.rewards, wanted.rewards)
        assert not found.terminations[:-1].any()
        assert not found.truncations[:-1].any()
        ends = bool(found.terminations[-1]), bool(found.truncations[-1])
        assert ends == (wanted.terminated, wanted.truncated)
        np.testing.assert_array_equal(found.infos["state_angle"], wanted.states["angle"])
        assert all(found.observations[t] in dataset.observation_space for t in range(3))
        assert all(action in dataset.action_space for action in found.actions)
    assert "toys/noise/z-v2" in minari.list_local_datasets()


def test_a_minari_folder_may_be_named_from_here(
    tmp_path: Path, minari: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = write_noise(Path("pixels.h5"))
    encode(noise_model(), pixels, "folder", form="minari")
    dataset = minari.MinariDataset("folder/data")
    assert dataset.total_steps == pixels.num_transitions


def test_minari_makes_the_latent_environment_again(
    tmp_path: Path, minari: Any, pendulum_data: Path, model: Path
) -> None:
    folder = tmp_path / "my latents"
    encode(model, pendulum_data, folder, form="minari")
    dataset = minari.MinariDataset(folder / "data")
    assert dataset.spec.dataset_id == "my-latents-v0"
    env = dataset.recover_environment()
    assert env.observation_space == dataset.observation_space
    assert env.action_space == dataset.action_space
    episode = next(iter(dataset.iterate_episodes()))
    played = [env.reset(seed=3)[0], *(env.step(action)[0] for action in episode.actions)]
    np.testing.assert_allclose(played, episode.observations, atol=1e-4)


def test_minari_replaces_nothing_but_a_minari_dataset(tmp_path: Path, minari: Any) -> None:
    pixels, folder = write_noise(tmp_path / "pixels.h5"), tmp_path / "mine"
    folder.mkdir()
    (folder / "diary.txt").write_text("precious")
    for force in (False, True):
        with pytest.raises(OutputExists):
            encode(noise_model(), pixels, folder, form="minari", force=force)
    (folder / "data").mkdir()
    (folder / "data" / "metadata.json").write_text("{}")
    with pytest.raises(DatasetError, match="was not written by latentwrap encode"):
        encode(noise_model(), pixels, folder, form="minari", resume=True)
    assert (folder / "diary.txt").read_text() == "precious"
    encode(noise_model(), pixels, tmp_path / "z", form="minari")
    before = (tmp_path / "z" / "data" / "metadata.json").read_text()
    encode(noise_model(), pixels, tmp_path / "z", form="minari", force=True, normalize=False)
    assert (tmp_path / "z" / "data" / "metadata.json").read_text() != before
    assert minari.MinariDataset(tmp_path / "z" / "data").total_episodes == 4
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine", "pixels.h5", "z"]


@pytest.mark.parametrize("name", ["latent", "latent v0-v0", "../latent-v0", "z-v0/"])
def test_a_name_that_minari_does_not_take_is_refused(
    tmp_path: Path, minari: Any, name: str
) -> None:
    pixels = write_noise(tmp_path / "pixels.h5")
    with pytest.raises(DatasetError, match="a name such as pendulum/latent-v0"):
        encode(noise_model(), pixels, f"minari:{name}", form="minari")


def test_without_minari_the_pip_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = write_noise(tmp_path / "pixels.h5")
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingExtra, match="pip install"):
        encode(noise_model(), pixels, tmp_path / "z", form="minari")
