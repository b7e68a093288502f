"""A process of its own: whatever it does, an answer comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.doctor.inside import answer_inside

from latentwrap.doctor.isolated import Answer, ask
from latentwrap.envs import PIXEL_PENDULUM

PATIENT = 60.0


def look(env_id: str, *, limit: float = PATIENT) -> Answer:
    return ask("look", limit=limit, env_id=env_id, seed=0, options={})


def test_a_healthy_environment_is_seen() -> None:
    answer = look("patients:Healthy-v0")
    assert answer.trouble == ""
    assert answer.facts["shapes"] == [[12, 20, 3]]
    assert (answer.facts["low"], answer.facts["high"]) == (0, 10)  # black, then ten steps
    assert answer.image is not None
    assert answer.image.shape == (12, 20, 3)
    assert (answer.image == 10).all()


@pytest.mark.parametrize(
    ("patient", "stage", "trouble"),
    [
        ("Crashing", "draw", "crashed (SIGSEGV)"),
        ("Leaving", "draw", "SystemExit: no licence"),
        ("Failing", "make", "KeyError: 'no such robot'"),
        ("Strange", "actions", "Actions must be Box"),
        ("Blind", "source", "gives no image"),
        ("Missing", "find", "Gymnasium knows no environment 'patients:Missing-v0'"),
    ],
)
def test_trouble_has_a_reason_and_a_place(patient: str, stage: str, trouble: str) -> None:
    answer = look(f"patients:{patient}-v0")
    assert trouble in answer.trouble
    assert "\n" not in answer.trouble
    assert answer.facts["stage"] == stage
    assert answer.image is None


def test_what_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("DOCTOR_TEST_PID_FILE", str(pid_file))
    for limit in (4, 16, 64):  # a busy machine may take longer to come as far as to hang
        answer = look("patients:Hanging-v0", limit=limit)
        assert answer.trouble == f"gave no answer within {limit} s"
        if pid_file.exists():
            break
    assert answer.facts["stage"] == "reset"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text(encoding="utf-8")), 0)


def test_a_process_that_cannot_start_says_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "gymnasium"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('half installed')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    answer = ask("packages", limit=PATIENT, modules=[])
    assert answer.trouble == "ended with exit code 1: RuntimeError: half installed"


def test_variables_are_set_and_removed_there_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; raise ValueError(os.environ.get('KEPT'), os.environ.get('REMOVED'))"
    (tmp_path / "telling.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("REMOVED", "here")
    changed = {"KEPT": "there", "REMOVED": None}
    answer = ask("packages", limit=PATIENT, environment=changed, modules=["telling"])
    assert answer.facts["broken"] == {"telling": "ValueError: ('there', None)"}
    assert os.environ["REMOVED"] == "here"
    assert "KEPT" not in os.environ


def test_imports_are_tried_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_driver.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    answer = ask("packages", limit=PATIENT, modules=["json", "broken_driver", "no_such_module"])
    assert answer.facts["broken"] == {
        "broken_driver": "ImportError: libGL.so.1: cannot open shared object file",
        "no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    }


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    answer = ask("hdf5", limit=PATIENT, folder=str(work))
    assert answer.trouble == ""
    assert answer.facts["same"] is True
    assert list(work.iterdir()) == list(temporary.iterdir()) == []


def test_the_folder_that_one_is_in_hides_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not this one')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert look(PIXEL_PENDULUM).trouble == ""


def test_the_autoreset_mode_is_gymnasiums_own(tmp_path: Path) -> None:
    answer = answer_inside(tmp_path, "vector", env_id="patients:Healthy-v0")
    assert answer.facts["mode"] == "NEXT_STEP"
    assert answer.facts["kind"] == "SyncVectorEnv"
