"""`latentwrap import`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from latentwrap_test_data import write_dataset
from latentwrap_test_foreign import LENGTHS, counted, write_d4rl, write_robomimic

from latentwrap.cli.main import main
from latentwrap.datasets import Dataset
from latentwrap.datasets.importers import FORMATS


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, words)])


def test_it_says_what_it_wrote_and_what_is_next(tmp_path: Path) -> None:
    source = write_robomimic(tmp_path / "lift.hdf5", counted(), next_obs=True)
    target = tmp_path / "out/lift.h5"
    result = run(
        source, "-o", target, "--image-key", "agentview_image", "--size", "32x48", "--grey",
        "--vector-key", "robot0_gripper_qpos", "--frame-skip", 3, "--limit", 2, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"{target}: 6 transitions in 2 episodes, read as robomimic" in result.stderr
    assert f"latentwrap inspect {target}" in result.stderr
    assert f"latentwrap pretrain {target} -o {target.with_suffix('.safetensors')}" in result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    del told["seconds"]
    assert told == {
        "dataset": str(target),
        "format": "robomimic",
        "transitions": 6,
        "episodes": 2,
        "skipped": {},
        "lossy": None,
        "lost_rewards": 0,
        "moved_ends": 0,
    }
    data = Dataset(target)
    assert data.info.frame.shape == (32, 48, 1)
    assert (data.info.frame_skip, data.info.vectors.names) == (3, ("robot0_gripper_qpos",))
    assert run(source, "-o", target, "--image-key", "agentview_image").exit_code == 2


def test_a_limited_import_goes_on(tmp_path: Path) -> None:
    source, target = write_d4rl(tmp_path / "lane.hdf5", counted()), tmp_path / "lane.h5"
    assert run(source, "-o", target, "--limit", 1).exit_code == 0
    assert run(source, "-o", target).exit_code == 2
    assert run(source, "-o", target, "--resume").exit_code == 0
    assert (Dataset(target).lengths - 1).tolist() == list(LENGTHS)


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    episodes = counted((3, 4, 5))
    rewards = np.concatenate([[np.nan] * 4, np.zeros(5), np.zeros(6)])
    source = write_d4rl(tmp_path / "lane.hdf5", episodes, rewards=rewards)
    result = run(source, "-o", tmp_path / "lane.h5")
    assert "Left out: 1 episode with NaN or infinite rewards." in result.output
    assert "9 transitions in 2 episodes" in result.output


def test_a_lossy_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentwrap.datasets.importers.d4rl import _D4RL

    monkeypatch.setattr(_D4RL, "lossy", "its images went through a sieve.")
    source = write_d4rl(tmp_path / "lane.hdf5", counted())
    result = run(source, "-o", tmp_path / "lane.h5")
    assert result.exit_code == 0, result.output
    assert f"Warning: {source} is lossy: its images went through a sieve." in result.output


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    ours = tmp_path / "ours.h5"
    write_dataset(ours, [3])
    for source, words, sentence in (
        (tmp_path / "none.hdf5", [], "none.hdf5 does not exist"),
        (ours, [], "is a latentwrap dataset already"),
        (ours, ["--format", "d4r1"], "did you mean 'd4rl'?"),
        (ours, ["--format", "d4rl"], "lacks /observations: it is no D4RL file."),
        (ours, ["--format", "robomimic"], "lacks /data/demo_0: it is no robomimic file."),
    ):
        result = run(source, "-o", target, *words)
        assert result.exit_code == 2
        assert sentence in result.output
        assert len(result.output.strip().splitlines()) == 1
        assert not target.exists()


def test_help_names_every_format() -> None:
    text = " ".join(run("--help").output.split())
    assert all(f"{each.name}" in text for each in FORMATS)
