"""A stranger's environment from random steps to another library's agent, without a special case."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest
import stable_baselines3
from click.testing import CliRunner

from latentwrap import LatentObservation
from latentwrap.cli.main import main


def command(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Box2D's own, when it is imported
def test_car_racing_reaches_stable_baselines3(tmp_path: Path) -> None:
    data, model = tmp_path / "car.h5", tmp_path / "car.safetensors"
    command("collect", "CarRacing-v3", "-o", data, "--steps", 60)
    said = command("pretrain", data, "-o", model, "--steps", 2)
    assert "latentwrap train CarRacing-v3" in said
    env = LatentObservation(gym.make("CarRacing-v3"), model)
    agent = stable_baselines3.SAC("MlpPolicy", env, learning_starts=10, batch_size=8, seed=0)
    assert agent.learn(20).num_timesteps == 20
    env.close()
