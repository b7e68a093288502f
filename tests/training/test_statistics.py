"""Offline filtering is what the wrapper computes online."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from latentwrap import LatentFilter, LatentObservation
from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.models import LatentModel
from latentwrap.training.statistics import filter_episodes


@pytest.mark.parametrize("normalize", [False, True])
def test_a_stored_episode_has_the_latents_of_the_same_episode_in_the_wrapper(
    tmp_path: Path, tiny_model: LatentModel, normalize: bool
) -> None:
    path = tmp_path / "one.h5"
    collect(PIXEL_PENDULUM, path, steps=200, seed=11, height=16, width=16)
    dataset = Dataset(path)
    (offline,) = filter_episodes(tiny_model, dataset, np.array([0]))
    env = LatentObservation(gym.make(PIXEL_PENDULUM), tiny_model, normalize=normalize)
    latent, _ = env.reset(seed=11)
    online = [latent, *(env.step(action)[0] for action in dataset.episode(0).actions)]
    if normalize:
        assert tiny_model.normalizer is not None
        np.testing.assert_allclose(online, tiny_model.normalizer.normalize(offline), atol=1e-4)
    else:
        scale = np.maximum(1, np.abs(offline))
        assert (np.abs(np.stack(online) - offline) / scale).max() <= 1e-5


def test_episodes_of_different_lengths_do_not_disturb_each_other(
    data: Path, tmp_path: Path, tiny_model: LatentModel
) -> None:
    path = tmp_path / "uneven.h5"
    collect(PIXEL_PENDULUM, path, steps=450, seed=3, height=16, width=16)  # 200, 200, 50
    dataset = Dataset(path)
    together = list(filter_episodes(tiny_model, dataset, np.arange(3)))
    assert [len(latents) for latents in together] == [201, 201, 51]
    for number, latents in enumerate(together):
        episode, single = dataset.episode(number), LatentFilter(tiny_model, normalize=False)
        alone = [single.reset(episode.frames[0])]
        for action, frame in zip(episode.actions, episode.frames[1:], strict=True):
            alone.append(single.step(action, frame))
        np.testing.assert_allclose(latents, alone, atol=1e-5)
