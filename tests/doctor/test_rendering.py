"""Which backend draws, and what is said where none does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.doctor.inside import answer_inside

from latentwrap.doctor import Status
from latentwrap.doctor.isolated import Answer, ask
from latentwrap.doctor.rendering import Sight, check_environment, check_frame, see


def seen_inside(env_id: str, folder: Path) -> Sight:
    return see(lambda _: answer_inside(folder, "look", env_id=env_id, seed=0, options={}))


def examined(env_id: str) -> Sight:
    def look(environment: Mapping[str, str | None]) -> Answer:
        return ask("look", limit=60, environment=environment, env_id=env_id, seed=0, options={})

    return see(look)


def answering(**answers: Answer) -> Sight:
    """A sight of a MuJoCo environment whose backends answer so."""
    return see(lambda environment: answers[environment.get("MUJOCO_GL") or "unset"])


def drawn(high: int = 255, low: int = 0, **facts: Any) -> Answer:
    shown = {"shapes": [(480, 480, 3)], "low": low, "high": high, "rate": 9.6}
    return Answer({"stage": "draw", "action_space": "Discrete(2)", **shown, **facts})


def failing(reason: str, stage: str = "draw") -> Answer:
    facts = {"stage": stage, "mujoco": True, "action_space": "Discrete(2)"}
    return Answer(facts, reason)


def test_every_backend_is_tried_until_one_draws() -> None:
    """Against a module that stands for MuJoCo: black, crash, import error, picture."""
    sight = examined("patients:Arm-v0")
    assert [trial.backend for trial in sight.trials] == [None, "egl", "osmesa", "glfw"]
    unset, egl, osmesa, glfw = sight.trials
    assert "black" in unset.trouble
    assert "SIGABRT" in egl.trouble
    assert "AttributeError: 'NoneType' object has no attribute 'glGetError'" in osmesa.trouble
    assert glfw.trouble == ""
    assert sight.working is glfw
    assert sight.image is not None
    assert (sight.image[:6] == 200).all()
    frame = check_frame(sight)
    assert frame.status is Status.ERROR
    assert frame.mend == "export MUJOCO_GL=glfw"
    assert "MUJOCO_GL unset fails: every pixel" in frame.finding
    assert check_environment("patients:Arm-v0", sight).status is Status.OK


def test_an_import_that_fails_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    sight = examined("patients:MujocoArm-v0")
    assert [trial.backend for trial in sight.trials] == [None, "egl", "glfw"]
    assert not sight.trials[0].made
    assert check_environment("patients:MujocoArm-v0", sight).status is Status.OK
    assert check_frame(sight).finding.startswith("MUJOCO_GL=osmesa fails: AttributeError")


def test_the_setting_that_works_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    frame = check_frame(examined("patients:Arm-v0"))
    assert frame.status is Status.OK
    assert frame.finding.endswith("MUJOCO_GL=glfw")
    assert frame.mend == ""


def test_other_environments_are_tried_once() -> None:
    sight = examined("patients:Crashing-v0")
    assert len(sight.trials) == 1
    frame = check_frame(sight)
    assert frame.status is Status.ERROR
    assert frame.finding == "crashed (SIGSEGV) (while it was drawn)"
    assert "xvfb-run" in frame.mend


@pytest.mark.parametrize(
    ("patient", "status", "words"),
    [
        ("Black", Status.ERROR, "every pixel of 11 frames is black"),
        ("White", Status.WARNING, "12×20×3, bytes from 255 to 255"),
        ("Healthy", Status.OK, "12×20×3, bytes from 0 to 10"),
    ],
)
def test_a_frame_must_show_something(
    patient: str, status: Status, words: str, tmp_path: Path
) -> None:
    frame = check_frame(seen_inside(f"patients:{patient}-v0", tmp_path))
    assert frame.status is status
    assert words in frame.finding
    assert bool(frame.mend) == (status is not Status.OK)


def test_where_nothing_draws_all_reasons_are_given() -> None:
    sight = answering(
        unset=failing("FatalError: gladLoadGL error"),
        egl=failing("EGL has no device.", "make"),
        osmesa=failing("no OSMesa", "make"),
        glfw=failing("gave no answer within 60 s"),
    )
    frame = check_frame(sight)
    assert frame.status is Status.ERROR
    for words in (
        "MUJOCO_GL unset fails: FatalError: gladLoadGL error (while it was drawn)",
        "MUJOCO_GL=egl fails: EGL has no device;",
        "MUJOCO_GL=osmesa fails: no OSMesa (while it was made)",
        "MUJOCO_GL=glfw fails: gave no answer within 60 s",
    ):
        assert words in frame.finding
    assert "libegl1 libosmesa6" in frame.mend
    assert sight.image is None


def test_a_platform_of_opengl_that_contradicts_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    asked: list[Mapping[str, str | None]] = []

    def look(environment: Mapping[str, str | None]) -> Answer:
        asked.append(environment)
        return drawn() if environment else failing("PYOPENGL_PLATFORM is set to 'osmesa'")

    frame = check_frame(see(look))
    assert asked == [{}, {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": None}]
    assert frame.mend == "unset PYOPENGL_PLATFORM; export MUJOCO_GL=egl"


@pytest.mark.parametrize(
    ("patient", "words", "mend"),
    [
        ("Missing", "knows no environment", "pprint_registry"),
        ("Failing", "KeyError: 'no such robot' (while it was made)", "install what it asks for"),
        ("Strange", "Actions must be Box", "wrap it"),
        ("Blind", "gives no image", "rgb_array"),
    ],
)
def test_an_environment_that_cannot_be_used_is_red(
    patient: str, words: str, mend: str, tmp_path: Path
) -> None:
    sight = seen_inside(f"patients:{patient}-v0", tmp_path)
    finding = check_environment(f"patients:{patient}-v0", sight)
    assert finding.status is Status.ERROR
    assert words in finding.finding
    assert mend in finding.mend
    assert check_frame(sight).status is Status.SKIPPED


def test_where_the_picture_comes_from_is_said() -> None:
    observed = see(lambda _: drawn(stage="step"))
    assert "the image is its observation" in check_environment("Any-v0", observed).finding
    rendered = see(lambda _: drawn())
    assert "the image is its render" in check_environment("Any-v0", rendered).finding
