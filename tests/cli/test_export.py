"""`latentwrap export` as a user types it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.conftest import make_tiny_model

from latentwrap.cli.main import main
from latentwrap.models import save_model


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["export", *(str(word) for word in words)])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "it's mine.safetensors"
    save_model(path, make_tiny_model(), training={})
    return path


def test_what_it_says_to_people_and_to_scripts(checkpoint: Path) -> None:
    folder = checkpoint.with_suffix(".onnx")
    said = run(checkpoint, "--onnx")
    assert said.exit_code == 0, said.output
    assert f"{folder}: encoder.onnx, filter.json" in said.output
    assert "opset 18" in said.output
    command = shlex.split(said.output.splitlines()[-1])
    assert command[:2] == ["python", "-c"]
    shown = subprocess.run(
        [sys.executable, *command[1:]], capture_output=True, text=True, check=True
    ).stdout
    assert "kind='rssm'" in shown
    told = run(checkpoint, "--onnx", "--force", "--json")
    result = json.loads(told.stdout)
    keys = "output model kind opset belief latent_size bytes difference seconds"
    assert list(result) == keys.split()
    assert (result["output"], result["opset"]) == (str(folder), 18)
    assert result["bytes"]["step.onnx"] == (folder / "step.onnx").stat().st_size


def test_mistakes_end_in_a_sentence(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for words, message in (
        ((checkpoint,), "Missing option '--onnx'"),
        ((tmp_path / "none.safetensors", "--onnx"), "does not exist"),
        ((checkpoint, "--onnx", "-o", tmp_path / "there"), "exists already"),
        ((checkpoint, "--onnx", "-o", tmp_path / "there", "--force"), "no folder of exported"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert message in result.stderr
        assert "Traceback" not in result.output


def test_help_has_an_example() -> None:
    assert "latentwrap export car.safetensors --onnx" in run("--help").output
