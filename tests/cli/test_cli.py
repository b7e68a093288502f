"""The command line as a user types it, and what it says to mistakes."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from gymnasium import spaces
from tests.conftest import TINY, make_tiny_model

from latentwrap.agents.replay import Replay
from latentwrap.cli.main import main
from latentwrap.datasets import collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.models import save_model
from latentwrap.training.trainer import Trainer

SMALL = {**TINY["rssm"], "widths": [4, 8], "hidden": [16, 16], "batch_size": 4, "window": 4}


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def good(*words: object) -> Result:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result


def mistake(*words: object) -> str:
    """The one sentence of a mistake."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    message = result.stderr.strip()
    assert message.startswith("Error: ")
    assert "\n" not in message
    assert "Traceback" not in result.output
    return message


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "pendulum.h5"
    collect(PIXEL_PENDULUM, path, steps=600, seed=0, height=16, width=16)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return path


def test_the_whole_path_from_nothing_to_a_video(tmp_path: Path, config: Path) -> None:
    data, model, folder = tmp_path / "p.h5", tmp_path / "p.safetensors", tmp_path / "run"
    said = good("collect", PIXEL_PENDULUM, "-o", data, "--steps", 400, "--seed", 1).output
    assert f"latentwrap pretrain {data}" in said
    said = good("inspect", data, "-o", tmp_path / "p.png").output
    assert "Box(-2.0, 2.0" in said
    assert (tmp_path / "p.png").stat().st_size > 1000
    said = good("pretrain", data, "-o", model, "--steps", 4, "--config", config).output
    assert "held-out loss" in said
    assert f"latentwrap train {PIXEL_PENDULUM} --model {model} --data {data}" in said
    said = good(
        "train", PIXEL_PENDULUM, "--model", model, "--data", data, "-o", folder, "--steps", 220,
        "--evaluate-every", 200, "--set", "batch_size=8", "--set", "learning_starts=200",
    ).output  # fmt: skip
    assert f"latentwrap play {folder}" in said
    said = good("play", folder, "--episodes", 2).output
    assert "Return -" in said
    assert (folder / "play.mp4").stat().st_size > 1000


def last_json(result: Result) -> dict[str, object]:
    document = json.loads(result.stdout.strip().splitlines()[-1])
    assert isinstance(document, dict)
    return document


def test_json_is_the_only_thing_on_standard_output(
    tmp_path: Path, data: Path, config: Path
) -> None:
    model = tmp_path / "m.safetensors"
    result = good("pretrain", data, "-o", model, "--steps", 2, "--config", config, "--json")
    assert len(result.stdout.strip().splitlines()) == 1
    document = last_json(result)
    assert {"checkpoint", "steps", "seconds", "train", "heldout"} <= document.keys()
    assert document["checkpoint"] == str(model)
    assert last_json(good("inspect", data, "--json"))["transitions"] == 600


def test_a_small_demo_leaves_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    words = ["demo", "-o", folder, "--frames", 4000, "--updates", 3, "--steps", 1100, "--json"]
    document = last_json(good(*words, "--seed", 3))
    wanted = {
        "return_mean", "return_std", "random_return_mean", "env_steps", "seconds", "checkpoint",
    }  # fmt: skip
    assert wanted <= document.keys()
    assert document["env_steps"] == 5100
    for name in ("return_curve.png", "reconstruction.png", "play.mp4"):
        assert (folder / name).stat().st_size > 1000
    assert Path(str(document["checkpoint"])).exists()


def test_a_demo_replaces_only_a_demo(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    assert "exists already" in mistake("demo", "-o", folder)
    assert "was not made by latentwrap demo" in mistake("demo", "-o", folder, "--force")
    assert (folder / "thesis.tex").exists()


@pytest.mark.parametrize(
    "verb", ["collect", "inspect", "pretrain", "evaluate", "train", "play", "demo"]
)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    said = good(verb, "--help").output
    assert "Example:" in said
    assert f"latentwrap {verb}" in said
    assert "--json" in said


def test_bad_datasets_are_named(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "m.safetensors"
    text, foreign = tmp_path / "text.h5", tmp_path / "foreign.h5"
    text.write_text("no HDF5", encoding="utf-8")
    with h5py.File(foreign, "w") as file:
        file["observations"] = np.zeros(3)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(data.read_bytes()[:-2000])
    cases = {
        tmp_path / "none.h5": "does not exist",
        text: "HDF5",
        foreign: "no latentwrap dataset",
        cut: "HDF5",
    }
    for path, words in cases.items():
        for verb in (["inspect", path], ["pretrain", path, "-o", out]):
            message = mistake(*verb)
            assert str(path) in message
            assert words in message
    assert not out.exists()


def damaged(path: Path, source: Path, damage: Callable[[h5py.File], None]) -> Path:
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        damage(file)
    return path


def test_damaged_datasets_are_named(tmp_path: Path, data: Path) -> None:
    def nan_action(file: h5py.File) -> None:
        file["actions"][7] = np.nan

    def no_actions(file: h5py.File) -> None:
        del file["actions"]

    def no_episodes(file: h5py.File) -> None:
        for name in ("episodes/start", "episodes/length"):
            del file[name]
            file[name] = np.zeros(0, np.int64)

    def newer(file: h5py.File) -> None:
        file.attrs["version"] = 9

    cases = {
        nan_action: "row 7",
        no_actions: "/actions",
        no_episodes: "no episodes",
        newer: "version 9",
    }
    for index, (damage, words) in enumerate(cases.items()):
        path = damaged(tmp_path / f"{index}.h5", data, damage)
        message = mistake("pretrain", path, "-o", tmp_path / "m.safetensors")
        assert str(path) in message
        assert words in message


def test_bad_arguments_are_named(tmp_path: Path, data: Path, config: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert "did you mean 'fast'" in mistake("pretrain", data, "-o", out, "--preset", "fats")
    assert "did you mean 'window'" in mistake("pretrain", data, "-o", out, "--set", "windows=3")
    assert "invalid memory" in mistake("pretrain", data, "-o", out, "--set", "memory=0")
    assert "cuda" in mistake("pretrain", data, "-o", out, "--device", "cuda", "--config", config)
    assert "auto, cpu, cuda or cuda:N" in mistake("pretrain", data, "-o", out, "--device", "gpu")
    assert "none.yaml" in mistake("pretrain", data, "-o", out, "--config", tmp_path / "none.yaml")
    assert "'cpu:1'" in mistake("pretrain", data, "-o", out, "--device", "cpu:1")
    assert run("pretrain", data, "-o", out, "--set", "memory").exit_code == 2
    assert run("pretrain", data, "-o", out, "--set", "memory=[1").exit_code == 2
    numbers = tmp_path / "numbers.yaml"
    numbers.write_text("1: 2", encoding="utf-8")
    assert "no option '1'" in mistake("pretrain", data, "-o", out, "--config", numbers)
    assert run("pretrain", data, "-o", out, "--steps", "0").exit_code == 2
    assert not out.exists()


BLIND = """
import gymnasium

gymnasium.register("Blind-v0", "gymnasium.envs.toy_text.taxi:TaxiEnv", kwargs={"render_mode": None})
"""


def test_bad_environments_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "data" / "d.h5"
    (tmp_path / "blind_envs.py").write_text(BLIND, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert "NoSuchEnv-v0" in mistake("collect", "NoSuchEnv-v0", "-o", out)
    assert "no_such_module" in mistake("collect", "no_such_module:Env-v0", "-o", out)
    assert "gives no image" in mistake("collect", "blind_envs:Blind-v0", "-o", out)
    assert not out.parent.exists()


def test_existing_outputs_stay(tmp_path: Path, data: Path, config: Path) -> None:
    outputs = {
        "kept.h5": ["collect", PIXEL_PENDULUM, "--steps", 5],
        "kept.png": ["inspect", data],
        "kept.safetensors": ["pretrain", data, "--steps", 1, "--config", config],
    }
    for name, words in outputs.items():
        kept, folder = tmp_path / name, tmp_path / "folder" / name
        kept.write_text("mine", encoding="utf-8")
        folder.mkdir(parents=True)
        assert f"{kept} exists already" in mistake(*words, "-o", kept)
        assert kept.read_text(encoding="utf-8") == "mine"
        assert f"{folder} is a folder" in mistake(*words, "-o", folder, "--force")
        assert folder.is_dir()


def test_what_is_read_is_never_written(tmp_path: Path, data: Path, config: Path) -> None:
    copy = tmp_path / "data.h5"
    copy.write_bytes(data.read_bytes())
    message = mistake("inspect", copy, "-o", copy, "--force")
    assert "is what is read" in message
    assert "must end in .safetensors" in mistake("pretrain", copy, "-o", copy, "--force")
    assert copy.read_bytes() == data.read_bytes()


def test_force_deletes_no_folder_but_a_run(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    words = ["train", PIXEL_PENDULUM, "--model", tiny_checkpoint, "--steps", 5, "--force"]
    assert "latentwrap train did not write it" in mistake(*words, "-o", folder)
    (folder / "run.json").write_text("{}", encoding="utf-8")
    assert "did not write it" in mistake(*words, "-o", folder)
    assert (folder / "thesis.tex").exists()
    assert "is not replaced" in mistake(*words, "-o", tmp_path)
    assert tiny_checkpoint.exists()


def test_a_run_that_holds_its_own_model_is_not_replaced(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    folder = tmp_path / "run"
    words = ["train", PIXEL_PENDULUM, "-o", folder, "--steps", 5, "--final-episodes", 1]
    good(*words, "--model", tiny_checkpoint)
    inside = tiny_checkpoint.rename(folder / "m.safetensors")
    assert f"it holds {inside}" in mistake(*words, "--model", inside, "--force")
    assert inside.exists()


def test_a_video_is_refused_before_time_is_spent(tmp_path: Path, tiny_checkpoint: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", PIXEL_PENDULUM, "-o", folder, "--steps", 5, "--final-episodes", 1]
    good(*words, "--model", tiny_checkpoint)
    assert "must end in .mp4 or .gif" in mistake("play", folder, "-o", tmp_path / "play.avi")
    (folder / "play.mp4").touch()
    assert "exists already" in mistake("play", folder)
    moved = tiny_checkpoint.rename(tmp_path / "moved.safetensors")
    assert "name the file by model" in mistake("play", folder, "--video-episodes", 0)
    words = ["play", folder, "--video-episodes", 0, "--episodes", 1, "--model", moved]
    assert "Return -" in good(*words).output


def test_help_can_be_copied() -> None:
    for verb in (
        [],
        ["collect"],
        ["pretrain"],
        ["evaluate"],
        ["train"],
        ["play"],
        ["demo"],
        ["inspect"],
    ):
        lines = good(*verb, "--help").output.splitlines()
        assert not any("\\b" in line for line in lines)
        assert any(line.strip().startswith("latentwrap ") for line in lines)


def test_what_has_no_value_is_null(tmp_path: Path) -> None:
    words = ["collect", PIXEL_PENDULUM, "-o", tmp_path / "d.h5", "--steps", 10]
    result = good(*words, "--json")
    assert last_json(result)["return_mean"] is None
    assert "none of them ended by itself" in result.stderr


def test_odd_names_are_shown_as_they_are(tmp_path: Path, data: Path) -> None:
    odd = tmp_path / "my [b]data.h5"
    odd.write_bytes(data.read_bytes())
    said = good("inspect", odd).output
    assert str(odd) in said.replace("\n", "")
    assert f"latentwrap pretrain '{odd}'" in said


def test_a_module_in_this_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "latentwrap.envs.pendulum:PixelPendulum"
    text = f"import gymnasium\ngymnasium.register('Mine-v0', '{entry}', max_episode_steps=5)\n"
    (tmp_path / "my_own_module.py").write_text(text, encoding="utf-8")
    (tmp_path / "my_broken_module.py").write_text("broken", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    good("collect", "my_own_module:Mine-v0", "-o", "d.h5", "--steps", 7)
    broken = mistake("collect", "my_broken_module:Mine-v0", "-o", "e.h5")
    assert "cannot be imported: name 'broken' is not defined" in broken
    unknown = mistake("collect", "my_own_module:Your-v0", "-o", "e.h5")
    assert "knows no environment" in unknown


def test_bad_checkpoints_are_named(tmp_path: Path, tiny_checkpoint: Path) -> None:
    short, foreign = tmp_path / "short.safetensors", tmp_path / "foreign.safetensors"
    short.write_bytes(tiny_checkpoint.read_bytes()[:500])
    foreign.write_bytes(b"\x80\x04K\x01.")
    other = tmp_path / "other.safetensors"
    save_model(other, make_tiny_model(action_space=spaces.Discrete(3)), training={})
    cases = {
        tmp_path / "none.safetensors": "does not exist",
        short: "no whole safetensors file",
        foreign: "no whole safetensors file",
        other: "expects the action space Discrete(3)",
    }
    run_folder = tmp_path / "run"
    for path, words in cases.items():
        message = mistake("train", PIXEL_PENDULUM, "--model", path, "-o", run_folder)
        assert words in message
        assert path == other or str(path) in message
    assert not run_folder.exists()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    assert "no folder that latentwrap train wrote" in mistake("play", tmp_path)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("inspect", tmp_path / "none.h5", "--debug")
    assert result.exception is not None
    assert type(result.exception).__name__ == "DatasetError"


def test_ctrl_c_ends_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Trainer.step

    def pressed(self: Trainer) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(Trainer, "step", pressed)
    folder = tmp_path / "demo"
    result = run("demo", "-o", folder, "--frames", 400, "--updates", 50)
    assert result.exit_code == 130
    assert f"Interrupted: {folder} holds what was done so far" in result.output.replace("\n", " ")
    assert "random policy" not in result.output


def test_ctrl_c_ends_a_run_without_the_long_evaluation(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Replay.add

    def pressed(self: Replay, *args: object, **kwargs: object) -> None:
        signal.raise_signal(signal.SIGINT)
        plain(self, *args, **kwargs)

    monkeypatch.setattr(Replay, "add", pressed)
    words = ["train", PIXEL_PENDULUM, "--model", tiny_checkpoint, "-o", tmp_path / "run"]
    result = run(*words, "--steps", 500, "--json")
    assert result.exit_code == 130
    assert "--resume goes on" in result.stderr
    assert last_json(result)["return_mean"] is None
    assert last_json(result)["steps"] == 1


def test_documented_keys_are_those_that_come(
    tmp_path: Path, data: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentwrap.evaluation.comparison._MLP_UPDATES", 5)
    model, folder = tmp_path / "m.safetensors", tmp_path / "run"
    short = ["--steps", 5, "--final-episodes", 1]
    commands = {
        "collect": [PIXEL_PENDULUM, "-o", tmp_path / "d.h5", "--steps", 5],
        "inspect": [data],
        "pretrain": [data, "-o", model, "--steps", 1, "--config", config],
        "evaluate": [model, data],
        "train": [PIXEL_PENDULUM, "--model", model, "-o", folder, *short],
        "play": [folder, "--episodes", 1, "--video-episodes", 0],
    }
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    for verb, words in commands.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{verb}`"))
        documented = set(re.findall(r"`(\w+)`", row)) - {verb}
        found = last_json(good(verb, *words, "--json")).keys()
        assert documented <= found if "…" in row else documented == found, verb
