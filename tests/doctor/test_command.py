"""`latentwrap doctor` as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner, Result
from tests.conftest import make_tiny_model

from latentwrap.cli.main import main
from latentwrap.doctor import Examination, Finding, Question, Status
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.models import save_model

DOCS = Path(__file__).parents[2] / "docs"
CHECKS = (
    "python", "packages", "extras", "RL libraries", "device", "threads", "disk", "HDF5",
    "environment", "frame", "autoreset", "fork", "checkpoint", "replay",
)  # fmt: skip


def doctor(*words: object) -> Result:
    result = CliRunner().invoke(main, ["doctor", *map(str, words)])
    assert "Traceback" not in result.output
    return result


def document(result: Result) -> dict[str, Any]:
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 1
    found: dict[str, Any] = json.loads(lines[0])
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in found["checks"]}


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """Findings to be filled in by a test, instead of an examination."""
    findings: list[Finding] = []
    monkeypatch.setattr(Examination, "__iter__", lambda _: iter(findings))
    return findings


def test_a_sound_machine_environment_and_checkpoint(tmp_path: Path) -> None:
    ckpt, picture = tmp_path / "m.safetensors", tmp_path / "frame.png"
    save_model(ckpt, make_tiny_model(), training={})
    result = doctor("--ckpt", ckpt, "-o", picture, "--json")
    found = document(result)
    checks = by_name(found)
    assert tuple(checks) == (*CHECKS, "picture")
    assert all(check.keys() == {"name", "status", "finding", "mend"} for check in checks.values())
    for name in ("python", "packages", "HDF5", "environment", "frame", "checkpoint", "picture"):
        assert checks[name]["status"] == "ok", checks[name]
    assert "(8 × 4 bytes × 2)" in checks["replay"]["finding"]  # of this checkpoint's latents
    assert cv2.imread(str(picture)).shape == (64, 64, 3)
    red = any(check["status"] == "error" for check in checks.values())
    assert found["ok"] is not red
    assert result.exit_code == (2 if red else 0)
    if not red:
        assert f"latentwrap train {PIXEL_PENDULUM} --model {ckpt}" in result.stderr


def test_what_is_not_there_is_red_and_the_rest_goes_on(tmp_path: Path) -> None:
    ckpt, picture = tmp_path / "none.safetensors", tmp_path / "frame.png"
    result = doctor("NoSuch-v0", "--ckpt", ckpt, "-o", picture, "--json")
    assert result.exit_code == 2
    found = document(result)
    checks = by_name(found)
    assert found["ok"] is False
    assert checks["environment"]["status"] == checks["checkpoint"]["status"] == "error"
    assert checks["environment"]["mend"]
    for name in ("frame", "autoreset", "replay", "picture"):
        assert checks[name]["status"] == "skipped"
    assert checks["HDF5"]["status"] == "ok"
    assert not picture.exists()
    assert f"latentwrap doctor NoSuch-v0 --ckpt {ckpt}" in result.stderr


def test_exit_codes_follow_the_colours(fast: list[Finding]) -> None:
    fast += [Finding("a", Status.OK, "good"), Finding("b", Status.SKIPPED, "unasked")]
    fast += [Finding("c", Status.WARNING, "slow", mend="export X=1")]
    result = doctor()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"✓ a +good", lines[0])
    assert re.fullmatch(r"- b +unasked", lines[1])
    assert re.fullmatch(r"! c +slow  → export X=1", lines[2])
    assert lines[-1].strip() == "latentwrap demo"
    fast += [Finding("d [bold]", Status.ERROR, "broken", mend="buy another")]
    result = doctor("Car-v0", "--image-key", "left eye", "--layout", "CHW")
    assert result.exit_code == 2
    assert "✗ d [bold]     broken  → buy another" in result.stdout
    last = result.stdout.splitlines()[-1].strip()
    assert last == "latentwrap doctor Car-v0 --image-key 'left eye' --layout CHW"


def test_after_a_sound_environment_comes_its_data(fast: list[Finding]) -> None:
    fast += [Finding("a", Status.OK, "good")]
    assert "latentwrap collect Car-v0 -o data.h5" in doctor("Car-v0").stdout


def test_a_check_that_raises_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Finding:
        raise RuntimeError("out of paper\nand ink")

    monkeypatch.setattr("latentwrap.doctor.examination.ask", broken)
    findings = {finding.name: finding for finding in Examination(Question(PIXEL_PENDULUM))}
    assert tuple(findings) == CHECKS
    for name in ("packages", "device", "HDF5", "environment", "replay"):
        assert findings[name].status is Status.ERROR
        assert findings[name].finding == "The check itself failed: RuntimeError: out of paper"
    assert findings["python"].status is Status.OK


def test_ctrl_c_shows_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Examination) -> Any:
        yield Finding("a", Status.OK, "good")
        raise KeyboardInterrupt

    monkeypatch.setattr(Examination, "__iter__", interrupted)
    result = doctor("--json")
    assert result.exit_code == 130
    assert [check["name"] for check in document(result)["checks"]] == ["a"]
    assert document(result)["ok"] is False


def test_a_picture_replaces_nothing_unasked(tmp_path: Path, fast: list[Finding]) -> None:
    kept = tmp_path / "kept.png"
    kept.write_text("mine", encoding="utf-8")
    result = doctor("-o", kept)
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert kept.read_text(encoding="utf-8") == "mine"


def test_a_picture_that_cannot_be_written_is_red(tmp_path: Path, fast: list[Finding]) -> None:
    (tmp_path / "file").touch()
    result = doctor("-o", tmp_path / "file" / "frame.png", "--json")
    assert result.exit_code == 2
    assert by_name(document(result))["picture"]["status"] == "error"


def test_several_cameras_are_seen(fast: list[Finding]) -> None:
    question = Question("E-v0", image_keys=("left", "right"), layout="CHW")
    assert question.options == {"image_keys": ("left", "right"), "layout": "CHW"}
    assert Question("E-v0").options == {}


def test_help_and_documents_are_complete() -> None:
    said = doctor("--help").output
    assert "Example:" in said
    assert "latentwrap doctor CarRacing-v3 --ckpt" in said
    row = next(
        line
        for line in (DOCS / "commands.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `doctor`")
    )
    assert set(re.findall(r"`(\w+)`", row)) == {"doctor", "checks", "ok"}
    page = (DOCS / "doctor.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `([\w ]+)` \|", page, flags=re.MULTILINE)) == (*CHECKS, "picture")
