"""Checks of seeds, copies, specifications and processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import cloudpickle  # type: ignore[import-untyped] # Gymnasium requires it
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence

from latentwrap.testing.comparing import RAW, STANDARDISED, difference
from latentwrap.testing.forms import Failed, compared, passed
from latentwrap.testing.notes import Flat
from latentwrap.testing.plans import Plan
from latentwrap.testing.playing import play_single, play_vector
from latentwrap.testing.processes import play_elsewhere
from latentwrap.testing.recording import End, RecordedEpisode
from latentwrap.testing.subjects import NotRun, Subject

_SEED, _OTHER_SEED = 11, 12


def check_seeding(subjects: Sequence[Subject], plan: Plan) -> str:
    """Two new environments with one seed observe the same."""
    return _repeated(subjects, plan, lambda make: (_walk(make(), _SEED), _walk(make(), _SEED)))


def check_leakage(subjects: Sequence[Subject], plan: Plan) -> str:
    """One environment observes the same with one seed, whatever it saw in between.

    It is left in the middle of an episode and after the end of one.
    """

    def walks(make: Callable[[], gym.Env[Any, Any]]) -> tuple[_Walk, ...]:
        env = make()
        first = _walk(env, _SEED)
        _walk(env, _OTHER_SEED)
        second = _walk(env, _SEED)
        _walk(env, _OTHER_SEED, leave=True)
        return first, second, _walk(env, _SEED)

    return _repeated(subjects, plan, walks)


def check_copies(subjects: Sequence[Subject], plan: Plan, *, clone: Callable[[Any], Any]) -> str:
    """A copy made in the middle of an episode goes on alone as the original would have."""
    try:
        with closing(subjects[0].bare()) as env:
            env.reset(seed=_SEED)
            if env.render_mode == "rgb_array":
                env.render()  # many can be copied only until they opened their window
            clone(env)
    except Exception as error:  # noqa: BLE001 - whatever keeps an environment from being copied
        raise NotRun(f"the environment inside cannot be copied: {_said(error)}") from None

    def midway(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        twin = clone(env)
        env.step(env.action_space.sample())
        env.reset(seed=_OTHER_SEED)
        env.step(env.action_space.sample())
        return twin  # type: ignore[no-any-return]

    return passed(
        {
            s.name: compared(s, play_single(s.single(plan.ends[0]), plan, midway=midway))
            for s in subjects
        }
    )


def check_spec(subjects: Sequence[Subject], plan: Plan) -> str:
    """`gymnasium.make(env.spec)` makes the same environment again."""
    subject = subjects[0]
    _require_spec(subject)
    with closing(subject.single(plan.ends[0])) as env:
        spec = env.spec
    if spec is None:
        raise Failed("env.spec is None: record the constructor's arguments (RecordConstructorArgs)")
    with closing(gym.make(spec)) as rebuilt:
        return passed({"": compared(subject, play_single(rebuilt, plan))})


def check_process(subjects: Sequence[Subject], plan: Plan, *, method: str) -> str:
    """A single environment in a process of its own, and a vector of workers."""
    subject = subjects[0]
    make = partial(subject.single, plan.ends[0])
    found = {"a single environment there": compared(subject, play_elsewhere(make, plan, method))}
    with closing(subject.workers(plan, method)) as envs:
        found["workers"] = compared(subject, play_vector(envs, plan))
    return passed(found)


class _Walk:
    """What was observed from one reset, and what the environment inside gave."""

    def __init__(self, observations: list[Flat], inside: RecordedEpisode) -> None:
        self.observations, self.inside = observations, inside


def _walk(env: gym.Env[Any, Any], seed: int, *, leave: bool = False) -> _Walk:
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    observations = [env.reset(seed=seed)[0]]
    ended = False
    while not ended and not (leave and len(observations) == 3):
        observation, _, terminated, truncated, _ = env.step(space.sample())
        observations.append(observation)
        ended = terminated or truncated
    flat = [np.array(spaces.flatten(env.observation_space, o), float) for o in observations]
    recorded = env.get_wrapper_attr("recorded")[-1]
    return _Walk([each.reshape(-1) for each in flat], recorded)


def _repeated(
    subjects: Sequence[Subject],
    plan: Plan,
    walks: Callable[[Callable[[], gym.Env[Any, Any]]], Sequence[_Walk]],
) -> str:
    """Compare walks that must be the same with the first one."""
    largest = 0.0
    for subject in subjects:
        # Long enough to be left in the middle.
        first, *others = walks(partial(subject.single, [End(max(5, plan.steps // 3))]))
        for other in others:
            if not subject.repeats and not _same_inside(first, other):
                raise NotRun("the environment inside does not repeat itself under its seed")
            largest = max(largest, _compare_walks(subject, first, other))
    return f"largest difference {largest:.1e}"


def _compare_walks(subject: Subject, first: _Walk, other: _Walk) -> float:
    pairs = list(zip(first.observations, other.observations, strict=False))
    gaps = [difference(b, a, relative=subject.relative) for a, b in pairs]
    allowed = RAW if subject.relative else STANDARDISED
    wrong = [step for step, gap in enumerate(gaps) if gap > allowed]
    if wrong or len(first.observations) != len(other.observations):
        where = f"first at step {wrong[0]}" if wrong else "in how long the episode is"
        name = f"{subject.name}: " if subject.name else ""
        raise Failed(f"{name}differs by up to {max(gaps):.2g} under the same seed, {where}")
    return max(gaps)


def _same_inside(first: _Walk, other: _Walk) -> bool:
    given, again = first.inside, other.inside
    pairs = [(given.observations, again.observations), (given.images, again.images)]
    return all(data_equivalence(*pair) for pair in pairs)


def _require_spec(subject: Subject) -> None:
    """Whether there must be one: the environment inside can be made again."""
    if subject.without_spec:
        raise NotRun(subject.without_spec)
    with closing(subject.bare()) as env:
        spec = env.spec
    if spec is None:
        raise NotRun("the environment inside has no spec")
    try:
        gym.make(spec).close()
    except Exception as error:  # noqa: BLE001 - its own fault, whatever it is
        raise NotRun(f"the environment inside cannot be made again: {_said(error)}") from None


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


CLONES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.deepcopy,
    "pickle": lambda env: cloudpickle.loads(cloudpickle.dumps(env)),
}
"""Ways to copy an environment."""
