"""`latentwrap evaluate` as a user types it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.conftest import TINY, make_tiny_model

from latentwrap.cli.evaluate import _frame_words
from latentwrap.cli.main import main
from latentwrap.datasets import Dataset, collect
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.evaluation.verdict import Finding, Level, sum_up
from latentwrap.models import save_model
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.training import make_recipe
from latentwrap.vectors import VectorSpec


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentwrap.evaluation.comparison._MLP_UPDATES", 5)
    monkeypatch.setattr("latentwrap.evaluation.throughput._SECONDS", 0.01)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluate") / "pendulum.h5"
    collect(PIXEL_PENDULUM, path, steps=600, seed=0, height=16, width=16)
    return path


@pytest.fixture
def model(tmp_path: Path, data: Path) -> Path:
    """A checkpoint that says it was trained on the data, episode 1 held out."""
    path = tmp_path / "m.safetensors"
    recipe = make_recipe("fast", TINY["rssm"], kind="rssm").model_dump(mode="json")
    record = {"dataset": Dataset(data).fingerprint(), "heldout_episodes": [1], "steps": 7}
    record |= {"recipe": recipe, "seed": 3}
    save_model(path, make_tiny_model(), training=record)
    return path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages take a second to draw, and not every test looks at them."""
    monkeypatch.setattr("latentwrap.evaluation.report_folder.render_page", lambda _: "a page")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *(str(word) for word in words)])


def test_the_report_lies_in_the_folder_of_the_run(model: Path, data: Path) -> None:
    result = run(model, data)
    assert result.exit_code == 0, result.output
    folder = model.with_suffix(".run") / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "report.json"]
    assert "the 1 episode that was held out" in result.output
    assert "Verdict: " in result.output
    assert f"The page: {folder / 'index.html'}" in result.output
    # An untrained model should be trained for longer.
    (again,) = [line for line in result.output.splitlines() if " pretrain " in line]
    words = shlex.split(again)
    assert words[:6] == ["latentwrap", "pretrain", str(data), "-o", str(model), "--preset"]
    assert words[-5:] == ["--seed", "3", "--resume", "--steps", "14"]
    assert "memory=5" in words
    assert f"latentwrap train {PIXEL_PENDULUM} --model {model} --data {data}" in result.output


@pytest.mark.usefixtures("undrawn")
def test_json_is_the_only_thing_on_standard_output(tmp_path: Path, model: Path, data: Path) -> None:
    result = run(model, data, "-o", tmp_path / "report", "--json", "--seed", 4)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.strip().splitlines()
    document = json.loads(line)
    assert document["split"]["test_episodes"] == [1]
    assert document["report"] == str(tmp_path / "report" / "index.html")
    assert document["seed"] == 4
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert written["open_loop"] == document["open_loop"]
    assert written["verdict"] == document["verdict"]


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_overwritten_unasked(tmp_path: Path, model: Path, data: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    for words, said in (([], "did not write it"), (["--force"], "did not write it")):
        result = run(model, data, "-o", folder, *words)
        assert result.exit_code == 2
        assert said in result.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    assert run(model, data).exit_code == 0
    assert "exists already" in run(model, data).stderr
    assert run(model, data, "--force").exit_code == 0


def test_a_missing_extra_leaves_the_numbers(
    tmp_path: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run(model, data, "-o", tmp_path / "report", "--json")
    assert result.exit_code == 0, result.output
    assert "pip install 'latentwrap[report]'" in result.stderr
    assert json.loads(result.stdout)["report"] is None
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["report.json"]


def test_a_misfit_is_one_sentence(tmp_path: Path, model: Path) -> None:
    other = tmp_path / "other.h5"
    collect(PIXEL_PENDULUM, other, steps=20, seed=0, height=8, width=8)
    result = run(model, other, "-o", tmp_path / "report")
    assert result.exit_code == 2
    assert "frames of shape (8, 8, 3), the model requires (16, 16, 3)" in result.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("topics", "verbs"),
    [
        ([], ["train"]),
        (["drift"], ["pretrain", "train"]),
        (["drift", "amount of data"], ["pretrain", "collect", "train"]),
        (["amount of data"], ["collect", "train"]),
    ],
)
def test_what_to_do_next_follows_from_the_verdict(
    model: Path, data: Path, topics: list[str], verbs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding(topic, Level.FAIR, "Found.", "Mend it.", "") for topic in topics]
    monkeypatch.setattr("latentwrap.evaluation.report._judge", lambda *_: sum_up(findings))
    lines = run(model, data).output.partition("\nNext:\n")[2].splitlines()
    assert [line.split()[:2] for line in lines] == [["latentwrap", verb] for verb in verbs]
    if "collect" in verbs:
        assert lines[-2].endswith("pendulum-more.h5 --steps 1200 --size 16x16")


def test_more_data_is_collected_as_the_first_was() -> None:
    cameras = (Camera(name="front"), Camera(name="wrist"))
    frame = FrameSpec(height=16, width=32, cameras=cameras, layout="CHW")
    vectors = VectorSpec(names=("joints",), sizes=(2,))
    model = make_tiny_model(frame=frame, vectors=vectors, frame_skip=4)
    words = "--size 16x16 --frame-skip 4 --image-key front --image-key wrist --vector-key joints"
    assert [str(word) for word in _frame_words(model)] == [*words.split(), "--layout", "CHW"]
