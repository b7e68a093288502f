"""Latent environments by an id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import latentwrap
from latentwrap import LatentObservation
from latentwrap.envs import LATENT, PIXEL_PENDULUM
from latentwrap.errors import ConfigError, EnvironmentMismatch


def make(path: Path | str) -> gym.Env:
    return gym.make(LATENT, env_id=PIXEL_PENDULUM, ckpt=str(path))


def play(env: gym.Env) -> np.ndarray:
    latents = [env.reset(seed=3)[0]]
    env.action_space.seed(3)
    latents += [env.step(env.action_space.sample())[0] for _ in range(5)]
    return np.stack(latents)


def test_it_gives_the_latents_of_the_wrapper(tiny_checkpoint: Path) -> None:
    env = make(tiny_checkpoint)
    assert isinstance(env, LatentObservation)
    plain = LatentObservation(gym.make(PIXEL_PENDULUM), tiny_checkpoint)
    np.testing.assert_array_equal(play(env), play(plain))


def test_its_spec_rebuilds_it_from_anywhere(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    env = make(tiny_checkpoint.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for rebuilt in (gym.make(env.spec), gym.make(EnvSpec.from_json(env.spec.to_json()))):
        np.testing.assert_array_equal(play(rebuilt), play(env))
        assert str(rebuilt).count("OrderEnforcing") == str(rebuilt).count("PassiveEnvChecker") == 1


def test_an_unknown_environment_inside_is_one_sentence(tiny_checkpoint: Path) -> None:
    with pytest.raises(EnvironmentMismatch, match="Gymnasium knows no environment 'Non-v0'"):
        gym.make(LATENT, env_id="Non-v0", ckpt=str(tiny_checkpoint))


def test_what_belongs_to_many_environments_is_refused_of_one(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"workers belongs to many .* without vectorization_mode"):
        gym.make(LATENT, env_id=PIXEL_PENDULUM, ckpt=str(tiny_checkpoint), workers="async")
    with pytest.raises(ConfigError, match="num_envs of at least 1, got 0"):
        gym.make_vec(LATENT, num_envs=0, env_id=PIXEL_PENDULUM, ckpt=str(tiny_checkpoint))


def test_an_id_of_ones_own_works_by_module(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text(
        "import latentwrap\n"
        f"latentwrap.register_latent('Mine-v0', env_id={PIXEL_PENDULUM!r}, "
        f"ckpt={str(tiny_checkpoint)!r}, normalize=False)\n"
    )
    code = (
        "import gymnasium as gym\n"
        "env = gym.make('my_envs:Mine-v0')\n"
        "envs = gym.make_vec('my_envs:Mine-v0', num_envs=2)\n"
        "print(env.reset(seed=0)[0].shape, envs.reset(seed=0)[0].shape)\n"
        "print(env.observation_space.is_bounded())"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": path}
    shown = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    size = latentwrap.load_model(tiny_checkpoint).latent_size
    assert shown.splitlines() == [f"({size},) (2, {size})", "False"]
