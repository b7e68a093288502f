"""rechunk, inspect --bench, and pretrain on several files, as a user types them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from latentwrap_test_data import edit, write_dataset
from tests.cli.test_cli import SMALL, good, mistake, run

from latentwrap.datasets import Dataset, DatasetWriter, collect
from latentwrap.envs import PIXEL_PENDULUM


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for seed in range(2):
        collect(PIXEL_PENDULUM, folder / f"{seed}.h5", steps=300, seed=seed, height=16, width=16)
    return folder


def settings() -> list[str]:
    return [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


def test_rechunk_writes_anew_and_says_what_next(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [9])
    result = good(
        "rechunk", tmp_path / "a.h5", "-o", tmp_path / "b.h5", "--codec", "zstd", "--json"
    )
    found = json.loads(result.stdout.splitlines()[-1])
    assert (found["transitions"], found["interrupted"]) == (9, False)
    assert f"latentwrap inspect {tmp_path}/b.h5 --bench" in result.stderr
    assert "Zstd" in Dataset(tmp_path / "b.h5").storage().codec


def test_rechunk_says_how_to_go_on_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "a.h5", [9, 4])
    write_dataset(tmp_path / "b.h5", [2])
    before = (tmp_path / "b.h5").read_bytes()
    add = DatasetWriter.add

    def pressed(writer: DatasetWriter, episode: Any) -> None:
        add(writer, episode)
        os.kill(os.getpid(), signal.SIGINT)

    words = ("rechunk", tmp_path / "a.h5", "-o", tmp_path / "b.h5")
    with monkeypatch.context() as patch:
        patch.setattr(DatasetWriter, "add", pressed)
        result = run(*words, "--force", "--json")
    assert result.exit_code == 130
    assert "--resume goes on" in result.stderr
    found = json.loads(result.stdout)
    assert (found["path"], found["interrupted"]) == (str(tmp_path / "b.h5"), True)
    assert found["episodes"] is None
    assert (tmp_path / "b.h5").read_bytes() == before
    good(*words, "--resume")
    assert Dataset(tmp_path / "b.h5").num_transitions == 13


def test_rechunk_refuses_what_it_reads_and_what_is_no_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [9])
    assert "is what is read" in mistake(
        "rechunk", tmp_path / "a.h5", "-o", tmp_path / "a.h5", "--force"
    )
    (tmp_path / "text.h5").write_text("no HDF5")
    assert "text.h5" in mistake("rechunk", tmp_path / "text.h5", "-o", tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_inspect_measures_and_names_a_slow_file(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [20, 20])
    shown = good("inspect", tmp_path / "a.h5", "--bench", "--window", "4")
    assert "Random windows of 5 frames in a second" in shown.output
    assert "rechunk" not in shown.output
    found = json.loads(
        good("inspect", tmp_path / "a.h5", "--bench", "--json").stdout.splitlines()[-1]
    )
    assert found["bench"]["length"] == 9
    assert found["fast"]
    assert "windows of that length" in mistake(
        "inspect", tmp_path / "a.h5", "--bench", "--window", "99"
    )


def test_pretrain_takes_a_pattern_and_a_mix(shards: Path, tmp_path: Path) -> None:
    words = ["pretrain", shards / "*.h5", "-o", tmp_path / "m.safetensors", "--steps", "3"]
    mix = ["--mix", f"{shards}/0.h5=1", "--mix", "*1.h5=2.5"]
    result = good(*words, *settings(), *mix, "--memory", "0", "--workers", "1", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["steps"] == 3
    assert "frames" not in next(line for line in result.stderr.splitlines() if "Needs" in line)


def test_pretrain_says_what_is_wrong_with_a_mix(shards: Path, tmp_path: Path) -> None:
    words = ["pretrain", shards / "0.h5", shards / "1.h5", "-o", tmp_path / "m.safetensors"]
    assert "The mix names x.h5" in mistake(*words, "--mix", "x.h5=1")
    wrong = run(*words, "--mix", "0.h5")
    assert wrong.exit_code == 2
    assert "expected FILE=WEIGHT, got '0.h5'" in wrong.output
    assert "No file has a name like" in mistake(
        "pretrain", shards / "x*.h5", "-o", tmp_path / "m.safetensors"
    )


def test_a_mix_says_what_it_leaves_out(shards: Path, tmp_path: Path) -> None:
    words = ["pretrain", shards / "*.h5", "-o", tmp_path / "m.safetensors", "--steps", "1"]
    result = good(*words, *settings(), "--mix", "*0.h5=1")
    assert f"No --mix names {shards / '1.h5'}: left out." in result.output


def test_a_model_of_an_unknown_environment_is_for_latents(shards: Path, tmp_path: Path) -> None:
    robot = tmp_path / "robot.h5"
    robot.write_bytes((shards / "0.h5").read_bytes())
    edit(robot, lambda file: file.attrs.__setitem__("env_id", "robot"))
    words = ["pretrain", robot, "-o", tmp_path / "m.safetensors", "--steps", "1"]
    output = good(*words, *settings()).output
    assert "latentwrap encode" in output
    assert "latentwrap train" not in output


def test_states_that_not_all_files_have_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.h5", [3], states=["pole", "cart"])
    write_dataset(tmp_path / "b.h5", [4], states=["cart"])
    assert "not all files have are left out: pole." in good("inspect", tmp_path / "*.h5").output


def test_an_unfinished_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.h5.partial").mkdir()
    sentence = mistake("inspect", tmp_path / "a.h5")
    assert "a.h5 is not finished" in sentence
    assert "--resume" in sentence


def test_ctrl_c_before_anything_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("latentwrap.datasets.Dataset", interrupt)
    result = run("inspect", tmp_path / "a.h5")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert "Traceback" not in result.output
