"""Whether an environment gives a picture, and with which of MuJoCo's backends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from latentwrap.doctor.findings import Finding, Status
from latentwrap.doctor.isolated import Answer
from latentwrap.types import Frame

BACKENDS = ("egl", "osmesa", "glfw")
_BACKEND = "MUJOCO_GL"
_PLATFORM = "PYOPENGL_PLATFORM"
_INSTALL = "apt-get install libegl1 libosmesa6"

_STAGES = {
    "find": "while it was looked up",
    "make": "while it was made",
    "actions": "at its actions",
    "source": "at its observation",
    "reset": "at reset",
    "step": "at a step",
    "draw": "while it was drawn",
}
_MENDS = {
    "find": "name an id that gymnasium.pprint_registry() lists, or module:id",
    "make": "install what it asks for, or name another id",
    "actions": "wrap it so that its actions are Box, Discrete, MultiDiscrete or MultiBinary",
    "source": "name its images by --image-key and --layout, or wrap it so that it observes one or "
    "renders with render_mode='rgb_array'",
    "reset": "mend the environment, or name another id",
    "step": "mend the environment, or name another id",
}
_MEND_DRAWING = (
    "where no screen is: export SDL_VIDEODRIVER=dummy (pygame), or apt-get install xvfb and "
    "xvfb-run -a latentwrap doctor … (OpenGL)"
)


@dataclass(frozen=True)
class Trial:
    """One attempt to see an environment.

    Attributes:
        answer: of the task `look`.
        backend: the value of MUJOCO_GL; `None` leaves the variables as they are.
    """

    answer: Answer
    backend: str | None = None

    @property
    def trouble(self) -> str:
        """Why there is no picture, in a few words; empty where there is one."""
        trouble = self.answer.trouble
        stage = _STAGES.get(self.answer.facts.get("stage", ""), "")
        if trouble:
            # A whole sentence was written for users and says where.
            sentence = trouble.endswith(".")
            return trouble.rstrip(".") if sentence or not stage else f"{trouble} ({stage})"
        return "every pixel of 11 frames is black" if self.answer.facts["high"] == 0 else ""

    @property
    def made(self) -> bool:
        """Whether the environment was made and gives images in principle."""
        return self.answer.facts.get("stage") in ("reset", "step", "draw")

    @property
    def environment(self) -> dict[str, str | None]:
        """The variables to set for it; `None` for one to be removed."""
        return {} if self.backend is None else {_BACKEND: self.backend, _PLATFORM: None}


@dataclass(frozen=True)
class Sight:
    """All attempts to see an environment; the first with the variables as they are.

    Attributes:
        trials: ending with the one that worked, if one did.
        variables: MUJOCO_GL and PYOPENGL_PLATFORM as they are set.
    """

    trials: tuple[Trial, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def working(self) -> Trial | None:
        """The attempt that gave a picture."""
        return None if self.trials[-1].trouble else self.trials[-1]

    @property
    def furthest(self) -> Trial:
        """The attempt that tells most of the environment: the first where all fail alike."""
        return self.working or next((trial for trial in self.trials if trial.made), self.trials[0])

    @property
    def image(self) -> Frame | None:
        """The picture, if there is one."""
        return self.working.answer.image if self.working else None


def see(look: Callable[[Mapping[str, str | None]], Answer]) -> Sight:
    """Try to see an environment; one that draws with MuJoCo with other backends too.

    Args:
        look: runs the task `look` with these variables changed.
    """
    variables = {name: os.environ[name] for name in (_BACKEND, _PLATFORM) if name in os.environ}
    trials: list[Trial] = []
    for backend in _candidates(variables):
        trial = Trial(Answer({}), backend)
        trial = Trial(look(trial.environment), backend)
        trials.append(trial)
        if not trial.trouble or not trials[0].answer.facts.get("mujoco"):
            break
    return Sight(tuple(trials), variables)


def _candidates(variables: Mapping[str, str]) -> Iterator[str | None]:
    yield None
    tried = variables.get(_BACKEND, "").lower()
    # With PYOPENGL_PLATFORM set, the current backend alone may work once that is unset.
    yield from (each for each in BACKENDS if each != tried or _PLATFORM in variables)


def check_environment(env_id: str, sight: Sight) -> Finding:
    """Whether the environment can be made and gives images."""
    trial = sight.furthest
    facts = trial.answer.facts
    if not trial.made:
        mend = _MENDS.get(facts.get("stage", ""), "pip install --force-reinstall gymnasium")
        return Finding("environment", Status.ERROR, f"{env_id}: {trial.trouble}", mend=mend)
    drawn = facts["stage"] == "draw" or "shapes" not in facts  # observed images have them at once
    where = "its render" if drawn else "its observation"
    said = f"{env_id}: actions {facts['action_space']}, the image is {where}"
    return Finding("environment", Status.OK, said)


def check_frame(sight: Sight) -> Finding:
    """What the frames look like, and which backend draws them."""
    if not sight.furthest.made:
        return Finding("frame", Status.SKIPPED, "there is no environment to look at")
    working, first = sight.working, sight.trials[0]
    if working is None:
        return _no_frame(sight)
    said = _described(working.answer)
    if working is not first:
        failures = "; ".join(_failures(sight))
        return Finding(
            "frame",
            Status.ERROR,
            f"{failures}; {_BACKEND}={working.backend} works: {said}",
            mend=_export(working.backend or "", sight.variables),
        )
    if first.answer.facts.get("mujoco"):
        said += f", {_setting(sight.variables)}"
    if first.answer.facts["low"] == first.answer.facts["high"]:
        return Finding(
            "frame", Status.WARNING, f"{said}: one colour everywhere",
            mend="look at it: latentwrap doctor … -o frame.png",
        )  # fmt: skip
    return Finding("frame", Status.OK, said)


def _no_frame(sight: Sight) -> Finding:
    if len(sight.trials) == 1:
        return Finding(
            "frame", Status.ERROR, sight.trials[0].trouble,
            mend=_MENDS.get(sight.trials[0].answer.facts["stage"], _MEND_DRAWING),
        )  # fmt: skip
    return Finding(
        "frame",
        Status.ERROR,
        "; ".join(_failures(sight)),
        mend=f"{_INSTALL}, then {_export('egl', sight.variables)} (or osmesa)",
    )


def _failures(sight: Sight) -> Iterator[str]:
    for trial in sight.trials:
        if trial.trouble:
            setting = trial.backend and f"{_BACKEND}={trial.backend}"
            yield f"{setting or _setting(sight.variables)} fails: {trial.trouble}"


def _setting(variables: Mapping[str, str]) -> str:
    return f"{_BACKEND}={variables[_BACKEND]}" if _BACKEND in variables else f"{_BACKEND} unset"


def _export(backend: str, variables: Mapping[str, str]) -> str:
    unset = f"unset {_PLATFORM}; " if _PLATFORM in variables else ""
    return f"{unset}export {_BACKEND}={backend}"


def _described(answer: Answer) -> str:
    facts = answer.facts
    shapes = " and ".join("×".join(map(str, shape)) for shape in facts["shapes"])
    return f"{shapes}, bytes from {facts['low']} to {facts['high']}, {facts['rate']:.0f} a second"
