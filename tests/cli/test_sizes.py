"""Every size of frame, grey and RGB, from collection to report."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import pytest
from click.testing import CliRunner

import latentwrap
from latentwrap.cli.main import main
from latentwrap.datasets import Dataset
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.evaluation import comparison
from latentwrap.evaluation.pictures import reconstruct_episode


def run(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("size", "shape", "page"),
    [
        (("--size", "16"), (16, 16, 3), False),
        (("--size", "48x48", "--grey"), (48, 48, 1), False),
        (("--size", "84"), (84, 84, 3), False),
        (("--size", "84x84", "--grey"), (84, 84, 1), True),
        (("--size", "96x128"), (96, 128, 3), True),
        (("--size", "128"), (128, 128, 3), False),
    ],
)
def test_a_size_goes_all_the_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[str, ...],
    shape: tuple[int, int, int],
    page: bool,
) -> None:
    monkeypatch.setattr(comparison, "_MLP_UPDATES", 5)
    data, model = tmp_path / "data.h5", tmp_path / "model.safetensors"
    run("collect", PIXEL_PENDULUM, "-o", data, "--steps", 250, *size)
    assert Dataset(data).info.frame.shape == shape
    small = ["--batch-size", 2, "--window", 4, "--set", "heldout_windows=2"]
    said = run("pretrain", data, "-o", model, "--steps", 2, *small)
    assert "MiB of memory" in said
    env = latentwrap.LatentObservation(gym.make(PIXEL_PENDULUM), model)
    latent, _ = env.reset(seed=0)
    assert env.observation_space.contains(latent)
    assert env.frame.shape == shape
    filtered = reconstruct_episode(env.model, Dataset(data).episode(0))
    assert filtered.shape == (201, *shape)
    if page:  # drawing takes seconds
        report = json.loads(run("evaluate", model, data, "--json").splitlines()[-1])
        assert Path(report["report"]).stat().st_size > 100_000
        assert len(report["open_loop"]["moving"]["model"]) == 16


@pytest.mark.parametrize("size", ["0", "64x", "64x64x3", "big", "-4", "7x64"])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str) -> None:
    words = ["collect", PIXEL_PENDULUM, "-o", str(tmp_path / "x.h5"), "--size", size]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "expected HxW" in result.output
