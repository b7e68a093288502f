"""`latentwrap encode`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from latentwrap.cli.main import main
from latentwrap.encoding import FORMS, LatentDataset
from latentwrap.encoding.filtering import EpisodeEncoder


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["encode", *(str(word) for word in words)])


@pytest.mark.parametrize("form", FORMS)
def test_it_tells_what_it_wrote_and_what_to_type_next(
    tmp_path: Path, pendulum_data: Path, model: Path, form: str
) -> None:
    if form == "minari":
        pytest.importorskip("minari")
    path = tmp_path / ("z" if form == "minari" else "z.hdf5")
    result = run(model, pendulum_data, "-o", path, "--as", form, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told.pop("seconds") >= 0
    assert told == {
        "output": str(path), "form": form, "transitions": 450, "episodes": 3, "size": 8,
        "interrupted": False,
    }  # fmt: skip
    words = shlex.split(result.stderr.partition("Next:")[2])
    assert words[0] == "python"
    shown = subprocess.run([sys.executable, *words[1:]], capture_output=True, check=True, text=True)
    assert "450" in shown.stdout or "453, 8" in shown.stdout


def test_the_help_names_every_form() -> None:
    shown = run("--help").output
    assert all(form in shown for form in FORMS)


def verify(*words: object) -> Result:
    return CliRunner().invoke(main, ["verify", *(str(word) for word in words)])


def test_verify_suggests_what_takes_latents(
    tmp_path: Path, pendulum_data: Path, model: Path
) -> None:
    path = tmp_path / "z.h5"
    run(model, pendulum_data, "-o", path)
    result = verify(path)
    assert result.exit_code == 0
    words = shlex.split(result.stdout.partition("Next:")[2])
    assert words[0] == "python"
    shown = subprocess.run([sys.executable, *words[1:]], capture_output=True, check=True, text=True)
    assert "453, 8" in shown.stdout
    with h5py.File(path, "r+") as file:
        file["rewards"][3] = np.nan
    result = verify(path)
    assert result.exit_code == 1
    assert "--repair" not in result.stdout
    assert "anew with latentwrap encode" in result.stdout


def test_raw_latents(tmp_path: Path, pendulum_data: Path, model: Path) -> None:
    assert run(model, pendulum_data, "-o", tmp_path / "z.h5", "--raw").exit_code == 0
    assert not LatentDataset(tmp_path / "z.h5").info.normalized


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gone.h5", "-o", "z.h5"), "does not exist"),
        (("DATA", "-o", "z.txt"), "must end in .h5 or .hdf5"),
        (("DATA", "-o", "DATA"), "is what is read"),
        (("DATA", "-o", "DATA", "--force"), "is what is read"),
        (("DATA", "-o", "minari:z-v0"), "pass --as minari"),
        (("DATA", "-o", "z.h5", "--as", "minary"), "did you mean 'minari'"),
        (("DATA", "-o", "z.h5", "--vector-key", "force"), "lacks the vector 'force'"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, pendulum_data: Path, model: Path, words: tuple[str, ...], sentence: str
) -> None:
    put = {"DATA": str(pendulum_data), "z.h5": str(tmp_path / "z.h5")}
    result = run(model, *(put.get(word, word) for word in words))
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, pendulum_data: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = EpisodeEncoder.episodes

    def interrupted(self: EpisodeEncoder, first: int = 0) -> Iterator[object]:
        yield next(iter(episodes(self, first)))
        raise KeyboardInterrupt

    monkeypatch.setattr(EpisodeEncoder, "episodes", interrupted)
    result = run(model, pendulum_data, "-o", tmp_path / "z.h5", "--json")
    assert result.exit_code == 130
    assert "--resume goes on" in result.stderr
    told = json.loads(result.stdout)
    assert told.pop("output") == str(tmp_path / "z.h5")
    assert told == {
        "form": "latentwrap", "interrupted": True,
        "transitions": None, "episodes": None, "size": None, "seconds": None,
    }  # fmt: skip
    monkeypatch.undo()
    assert run(model, pendulum_data, "-o", tmp_path / "z.h5", "--resume").exit_code == 0
    assert LatentDataset(tmp_path / "z.h5").num_episodes == 3
