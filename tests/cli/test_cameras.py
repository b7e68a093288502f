"""Cameras and vectors on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.conftest import TINY

import latentwrap
from latentwrap.cli.main import main

ENV = "latentwrap_test_envs:latentwrap-test/Cameras-v0"
KEYS = ("--image-key", "front", "--image-key", "robot.wrist", "--vector-key", "joints")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "arm.h5"
    result = run("collect", ENV, "-o", path, "--steps", 60, "--size", 16, *KEYS)
    assert result.exit_code == 0, result.output
    return path


def test_from_keys_to_a_model_that_sees_vectors(data: Path) -> None:
    shown = json.loads(run("inspect", data, "--json").stdout)
    assert shown["cameras"] == ["front", "robot.wrist"]
    assert shown["vectors"] == {"joints": 2}
    assert shown["frame"] == [16, 32, 3]
    model = data.with_suffix(".safetensors")
    tiny = {**TINY["rssm"], "batch_size": 2, "window": 2, "steps": 2, "vectors": True}
    settings = [word for name, value in tiny.items() for word in ("--set", f"{name}={value}")]
    settings = [word.replace("(", "[").replace(")", "]") for word in settings]
    result = run("pretrain", data, "-o", model, *settings, "--json")
    assert result.exit_code == 0, result.output
    assert "vectors" in json.loads(result.stdout)["train"]
    loaded = latentwrap.load_model(model)
    assert loaded.sees_vectors
    assert loaded.vector_spec.names == ("joints",)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name one or several as image_keys"),
        (("--image-key", "side"), "holds no 'side'"),
        (("--image-key", "front", "--vector-key", "force"), "holds no 'force'"),
        (("--image-key", "front", "--layout", "WHC"), "no image layout 'WHC'"),
    ],
)
def test_a_wrong_key_is_one_sentence(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    result = run("collect", ENV, "-o", tmp_path / "x.h5", "--steps", 5, *words)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_vectors_that_the_data_lacks_are_one_sentence(tmp_path: Path) -> None:
    data, model = tmp_path / "p.h5", tmp_path / "p.safetensors"
    run("collect", "latentwrap/PixelPendulum-v0", "-o", data, "--steps", 20, "--size", 8)
    result = run("pretrain", data, "-o", model, "--set", "vectors=true")
    assert result.exit_code == 2
    assert "collect it with --vector-key" in result.stderr
