"""RL Baselines3 Zoo: nothing but its own command line, a YAML file and the id of an environment."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PENDULUM = "latentwrap/PixelPendulum-v0"


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Path) -> Path:
    """Where the zoo runs: the model lies where `latentwrap demo` puts it."""
    demo = tmp_path / "runs" / "demo"
    demo.mkdir(parents=True)
    (demo / "pendulum.safetensors").symlink_to(checkpoint)
    return tmp_path


@pytest.fixture
def zoo(
    folder: Path, run_python: Callable[..., str], record: Callable[..., None]
) -> Callable[..., None]:
    """`zoo(algo, env, module, …)` trains and evaluates with the zoo, plays, and records the row."""

    def run(algo: str, env: str, module: str, *options: str, note: str) -> None:
        task = ("--algo", algo, "--env", env, "--gym-packages", module, "--device", "cpu")
        # Its evaluation makes another environment than its training.
        evaluation = ("--eval-freq", 500, "--eval-episodes", 1)
        run_python("-m", "rl_zoo3.train", *task, "-n", 1000, "--seed", 0, *evaluation, *options)
        steps = trained_steps(folder / "logs" / algo, env)
        assert steps >= 1000
        play = ("-f", "logs", "-n", 600, "--no-render")
        told = run_python("-m", "rl_zoo3.enjoy", *task, *play)
        mean = re.search(r"Mean reward: (\S+) \+/- (\S+)", told)
        assert mean is not None, told
        result = f"return {float(mean[1]):.0f} ± {float(mean[2]):.0f} over 3 episodes"
        record(algorithm=f"{algo.upper()}, {note}", steps=steps, result=result)

    return run


def trained_steps(logs: Path, env: str) -> int:
    """Steps that the zoo's saved agent counted."""
    name = env.replace("/", "-")
    with ZipFile(logs / f"{name}_1" / f"{name}.zip") as saved:
        return int(json.loads(saved.read("data"))["num_timesteps"])


def test_env_wrapper_of_a_pixel_environment(zoo: Callable[..., None]) -> None:
    config = EXAMPLES / "zoo_pendulum.yml"
    zoo("sac", PENDULUM, "latentwrap", "--conf-file", str(config), note="env_wrapper")


def test_vec_env_wrapper_of_a_pixel_environment(folder: Path, zoo: Callable[..., None]) -> None:
    config = f"""
        {PENDULUM}:
          n_envs: 2
          n_steps: 256
          n_timesteps: 10000
          policy: MlpPolicy
          vec_env_wrapper:
            - latentwrap.integrations.sb3.VecLatentObservation:
                ckpt: runs/demo/pendulum.safetensors
    """
    (folder / "config.yml").write_text(textwrap.dedent(config), encoding="utf-8")
    options = ("--conf-file", "config.yml", "--vec-env", "subproc")
    zoo("ppo", PENDULUM, "latentwrap", *options, note="vec_env_wrapper")


def test_an_id_of_ones_own(folder: Path, zoo: Callable[..., None]) -> None:
    code = f"""
        import latentwrap

        ckpt = "runs/demo/pendulum.safetensors"
        latentwrap.register_latent("LatentPendulum-v0", env_id="{PENDULUM}", ckpt=ckpt)
    """
    (folder / "my_envs.py").write_text(textwrap.dedent(code), encoding="utf-8")
    # Its own hyperparameters for environments that it does not know.
    options = ("--vec-env", "subproc", "-params", "n_envs:2", "n_steps:256")
    zoo("ppo", "LatentPendulum-v0", "my_envs", *options, note="register_latent")


def test_the_latent_id_with_arguments(zoo: Callable[..., None]) -> None:
    # On the command line: env_kwargs of a YAML file would not reach its evaluation.
    arguments = (f"env_id:'{PENDULUM}'", "ckpt:'runs/demo/pendulum.safetensors'")
    options = ("--env-kwargs", *arguments, "-params", "n_steps:256")
    zoo("ppo", "latentwrap/Latent-v0", "latentwrap", *options, note="latentwrap/Latent-v0")
