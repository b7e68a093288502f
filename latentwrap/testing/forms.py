"""Checks that every form of an environment observes the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from latentwrap.envs.autoreset import Autoreset
from latentwrap.errors import LatentwrapError
from latentwrap.testing.comparing import Comparison, compare
from latentwrap.testing.notes import Played, PlayedEpisode
from latentwrap.testing.plans import Plan
from latentwrap.testing.playing import play_sb3, play_single, play_vector
from latentwrap.testing.references import ModelReference
from latentwrap.testing.subjects import NotRun, Subject

Play = Callable[[Subject, Plan], Played]


class Failed(LatentwrapError):
    """What is checked does not hold; the message says what was found."""


def play_alone(subject: Subject, plan: Plan) -> Played:
    """As a single environment."""
    with closing(subject.single(plan.ends[0])) as env:
        return play_single(env, plan)


def play_next_step(subject: Subject, plan: Plan) -> Played:
    """As a vector environment that resets at the step after an end."""
    return _play_vector(subject, plan, Autoreset.NEXT_STEP)


def play_same_step(subject: Subject, plan: Plan) -> Played:
    """As a vector environment that resets at once."""
    return _play_vector(subject, plan, Autoreset.SAME_STEP)


def play_disabled(subject: Subject, plan: Plan) -> Played:
    """As a vector environment that is reset by masks."""
    return _play_vector(subject, plan, Autoreset.DISABLED)


def play_vec_env(subject: Subject, plan: Plan) -> Played:
    """As a `VecEnv` of Stable-Baselines3."""
    with closing(subject.vec_env(plan)) as venv:
        return play_sb3(venv, plan)


def play_transform(subject: Subject, plan: Plan) -> Played:
    """As a transform of TorchRL."""
    env, space = subject.torchrl(plan)
    from latentwrap.testing.torchrl import play_torchrl

    try:
        return play_torchrl(env, space, plan)
    finally:
        env.close(raise_if_closed=False)


FORMS: dict[str, Play] = {
    "single": play_alone,
    "next_step": play_next_step,
    "same_step": play_same_step,
    "disabled": play_disabled,
    "sb3": play_vec_env,
    "torchrl": play_transform,
}
"""Every form by name."""


def check_form(subjects: Sequence[Subject], plan: Plan, *, form: str) -> str:
    """One form, in every variant, against the reference."""
    return passed({s.name: compared(s, FORMS[form](s, plan)) for s in subjects})


def check_offline(subjects: Sequence[Subject], plan: Plan) -> str:
    """The episodes of a single environment, filtered as datasets are."""
    found = {}
    for subject in subjects:
        reference = subject.reference()
        if isinstance(reference, ModelReference) and reference.deterministic:
            found[subject.name] = compare_offline(subject, reference, play_alone(subject, plan))
    if not found:
        raise NotRun("only models filter offline")
    return passed(found)


def compare_offline(subject: Subject, reference: ModelReference, played: Played) -> Comparison:
    """What the offline filter makes of recorded episodes, against the reference.

    Raises:
        NotRun: a frame was dropped, which no dataset holds.
    """
    if reference.drops(played.recorded):
        raise NotRun("frames were dropped, which no dataset holds")
    episodes = tuple(
        tuple(PlayedEpisode(None, latents) for latents in reference.offline(recorded))
        for recorded in played.recorded
    )
    offline = replace(played, episodes=episodes)
    return compare(offline, reference.expected(offline), relative=subject.relative)


def check_aliasing(subjects: Sequence[Subject], plan: Plan) -> str:
    """Writing into arrays that were handed out must change nothing that follows."""
    plan = replace(plan, scribble=True)
    played = {form: _compared_if_run(subjects, play, plan) for form, play in FORMS.items()}
    passed({f"{form} {name}".strip(): c for form, by in played.items() for name, c in by.items()})
    forms = [form for form, comparisons in played.items() if comparisons]
    return f"arrays that {', '.join(forms)} handed out are never used again"


def compared(subject: Subject, played: Played) -> Comparison:
    """What was played against the reference."""
    return compare(played, subject.reference().expected(played), relative=subject.relative)


def passed(found: dict[str, Comparison]) -> str:
    """What comparisons found, by name.

    Raises:
        Failed: one of them did not pass.
    """
    wrong = {name: each for name, each in found.items() if not each.passed}
    chosen = (wrong or found).items()
    said = "; ".join(f"{name}: {each}" if name else str(each) for name, each in chosen)
    if wrong:
        raise Failed(said)
    return said


def _play_vector(subject: Subject, plan: Plan, mode: Autoreset) -> Played:
    with closing(subject.vector(plan, mode)) as envs:
        return play_vector(envs, plan)


def _compared_if_run(subjects: Sequence[Subject], play: Play, plan: Plan) -> dict[str, Comparison]:
    try:
        return {subject.name: compared(subject, play(subject, plan)) for subject in subjects}
    except NotRun:
        return {}
