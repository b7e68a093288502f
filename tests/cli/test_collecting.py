"""`latentwrap collect` with trained policies, and what it says where something fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3 as sb3
from click.testing import CliRunner, Result
from tests.agents.test_runs import train
from tests.conftest import make_tiny_model

import latentwrap
from latentwrap.cli.main import main
from latentwrap.datasets import Dataset
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.models import save_model

BROKEN = "latentwrap_test_envs:latentwrap-test/Broken-v0"


def run(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def said(*words: Any) -> str:
    """The one sentence of a mistake."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("Error: ")
    assert "Traceback" not in result.output
    return error


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, make_tiny_model(), training={})
    return path


def test_an_agent_collects_and_goes_on(tmp_path: Path, model: Path) -> None:
    folder, data = tmp_path / "run", tmp_path / "a.h5"
    train(model, folder, steps=30)
    policy = f"agent:{folder}"
    words = ["collect", PIXEL_PENDULUM, "-o", data, "--policy", policy, "--device", "abacus"]
    assert "device must be auto, cpu" in said(*words)
    words = [
        "collect", PIXEL_PENDULUM, "-o", data, "--policy", f"agent:{folder}", "--size", 16,
        "--epsilon", 0.1, "--num-envs", 2, "--json",
    ]  # fmt: skip
    result = run(*words, "--steps", 30)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["transitions"] == 30
    assert run(*words, "--steps", 50, "--resume").exit_code == 0
    info = Dataset(data).info
    assert info.provenance["policy"] == f"agent:{folder}"
    assert info.provenance["policy_options"]["epsilon"] == 0.1


def test_a_policy_of_stable_baselines_collects(tmp_path: Path, model: Path) -> None:
    env = latentwrap.LatentObservation(gym.make(PIXEL_PENDULUM), model)
    sb3.SAC("MlpPolicy", env, device="cpu", policy_kwargs={"net_arch": [8]}).save(tmp_path / "sac")
    words = ["collect", PIXEL_PENDULUM, "-o", tmp_path / "a.h5", "--steps", 20, "--size", 16]
    acting = ["--policy", f"sb3:{tmp_path / 'sac.zip'}", "--model", model]
    assert "device must be auto, cpu" in said(*words, *acting, "--device", "abacus")
    policy = f"sb3:{tmp_path / 'sac.zip'}"
    assert "name its checkpoint by model (--model)" in said(*words, "--policy", policy)
    result = run(*words, "--policy", policy, "--model", model, "--deterministic")
    assert result.exit_code == 0, result.output
    assert Dataset(tmp_path / "a.h5").info.provenance["policy"] == policy


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--policy", "nois"], "did you mean 'noise'?"),
        (["--policy", "agnt:x"], "There is no policy agnt:…: did you mean 'agent'?"),
        (["--policy", "noise", "--epsilon", 0.5], "--epsilon belongs to the policies agent:RUN"),
        (["--deterministic"], "--deterministic belongs to"),
        (["--policy", "agent:nowhere"], "nowhere is no folder that latentwrap train wrote"),
        (["--policy", "sb3:nowhere.zip"], "There is no file nowhere.zip"),
        (["--camera", "front"], "is no MuJoCo environment that latentwrap knows"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, words: list[Any], sentence: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    env_id = "CartPole-v1" if "--camera" in words else PIXEL_PENDULUM
    assert sentence in said("collect", env_id, "-o", folder / "a.h5", "--steps", 5, *words)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_environment_that_breaks_is_one_sentence_and_what_was_whole_is_kept(
    tmp_path: Path, num_envs: int
) -> None:
    path = tmp_path / "a.h5"
    words = ["collect", BROKEN, "-o", path, "--size", 8, "--num-envs", num_envs]
    result = run(*words, "--steps", 60)
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == 2
    assert lines[-1].startswith(f"Error: The environment {BROKEN} raised RuntimeError: the sim")
    assert "are kept): mend or wrap it, and pass --resume to go on." in lines[-1]
    assert "Traceback" not in result.output
    assert run(*words, "--steps", 20, "--resume").exit_code == 0
    data = Dataset(path)
    assert data.num_transitions == 20
    assert data.lengths[0] == 6


def test_debug_shows_where_it_broke(tmp_path: Path) -> None:
    words = ["collect", BROKEN, "-o", tmp_path / "a.h5", "--size", 8, "--steps", 60, "--debug"]
    result = run(*words)
    assert isinstance(result.exception.__cause__, RuntimeError)
