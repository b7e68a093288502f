"""The README's code and commands work as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from latentwrap.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)
    (found,) = [code for code in blocks if containing in code]
    return found


def test_the_stable_baselines3_example_runs(tiny_checkpoint: Path) -> None:
    code = block("python", "import stable_baselines3")
    code = code.replace("runs/demo/pendulum.safetensors", str(tiny_checkpoint))
    assert "learn(10_000)" in code
    names: dict[str, object] = {}
    exec(code.replace("learn(10_000)", "learn(200)"), names)  # noqa: S102
    assert names["model"].num_timesteps == 200


def commands() -> list[list[str]]:
    lines = re.findall(r"^latentwrap .*$", TEXT, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_only_options_that_exist(words: list[str]) -> None:
    _, verb, *arguments = words
    command = main.get_command(None, verb)
    assert command is not None
    command.make_parser(
        command.make_context(verb, [*arguments], resilient_parsing=True)
    ).parse_args(arguments)


def test_the_table_of_verbs_is_complete() -> None:
    listed = re.findall(r"^\| `latentwrap (\w+)", TEXT, flags=re.MULTILINE)
    assert listed == main.list_commands(None)


def test_the_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", TEXT, flags=re.MULTILINE):
        assert f"\n{target}:" in makefile
