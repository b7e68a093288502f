"""The conformance suite: everything that must hold of a latent environment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from latentwrap.errors import LatentwrapError
from latentwrap.models import LatentModel
from latentwrap.testing.behaviour import (
    CLONES,
    check_copies,
    check_leakage,
    check_process,
    check_seeding,
    check_spec,
)
from latentwrap.testing.forms import FORMS, Failed, check_aliasing, check_form, check_offline
from latentwrap.testing.plans import Plan
from latentwrap.testing.references import Wrapper
from latentwrap.testing.report import CheckResult, ConformanceError, Outcome, Report
from latentwrap.testing.subjects import LatentSubject, MakeEnv, NotRun, Subject, WrapperSubject

METHODS = ("fork", "spawn", "forkserver")
"""Ways to start a process; not every system has all."""

Check = Callable[[Sequence[Subject], Plan], str]
"""Returns what it found; raises `NotRun`, or whatever else fails it."""


def check_latent_env(
    make_env: MakeEnv,
    ckpt: str | Path | LatentModel | None = None,
    *,
    wrapper: Wrapper | None = None,
    steps: int = 60,
    num_envs: int = 3,
    seed: int = 0,
    processes: Sequence[str] = ("fork", "spawn"),
    **options: Any,
) -> Report:
    """Check that an environment observes the same, whichever way it is run.

    With `ckpt`, `make_env` makes a pixel environment, and every form of latent environment around
    it is checked: what it hands out must be what the model gives, called step by step on the
    frames that the environment inside gave and the actions that it received. The environment need
    not repeat itself.

    With `wrapper`, any stateful observation wrapper is checked around the environment that
    `make_env` makes: what it hands out must be what a new wrapper gives for each episode alone.

    With neither, `make_env` makes the whole environment, which must repeat itself under a seed:
    copies of it in every form must observe the same as a single one.

    Episodes are ended in all ways, some after one step, and some are left before their end.
    Call it under `if __name__ == "__main__":`, for spawned processes import the script.

    Args:
        make_env: makes an environment, a new one at each call; pickled to other processes.
        ckpt: path of a checkpoint, or a loaded model.
        wrapper: puts the wrapper around an environment.
        steps: how often each form is stepped.
        num_envs: environments of vector forms.
        seed: of environments, actions and ends of episodes.
        processes: ways to start processes, of `fork`, `spawn` and `forkserver`; those that this
            system lacks are left out.
        options: of `LatentObservation`, with `ckpt`.

    Returns:
        What each check found. Checks that could not be run say why.

    Raises:
        ConformanceError: a check failed; it names every one that did, with what was found.
        LatentwrapError: arguments that do not go together.

    Example:
        >>> import gymnasium
        >>> from gymnasium.wrappers import FrameStackObservation
        >>> from latentwrap.testing import check_latent_env
        >>> report = check_latent_env(
        ...     lambda: gymnasium.make("Pendulum-v1"),
        ...     wrapper=lambda env: FrameStackObservation(env, 3),
        ...     processes=(),
        ... )
        >>> report.failed
        ()
    """
    _check_methods(processes)
    if steps < 1 or num_envs < 1:
        raise LatentwrapError(
            f"check_latent_env requires steps and num_envs of at least 1, got {steps}, {num_envs}."
        )
    plan = Plan.draw(seed, num_envs=num_envs, steps=steps)
    subjects = _subjects(make_env, ckpt, wrapper, options)
    subjects[0].single(plan.ends[0]).close()  # what cannot be made fails once, not in every check
    report = Report(tuple(_results(_checks(processes), subjects, plan)))
    if report.failed:
        raise ConformanceError(report)
    return report


def _subjects(
    make_env: MakeEnv,
    ckpt: str | Path | LatentModel | None,
    wrapper: Wrapper | None,
    options: dict[str, Any],
) -> list[Subject]:
    """Variants of what is checked; the first one is that which most users have."""
    if ckpt is None:
        if options:
            raise LatentwrapError(
                f"check_latent_env requires ckpt for the options {', '.join(options)}: they are "
                "those of LatentObservation."
            )
        return [WrapperSubject(make_env, wrapper)]
    if wrapper is not None:
        raise LatentwrapError("check_latent_env requires either ckpt or wrapper, got both.")
    make = partial(LatentSubject, make_env, ckpt, options=options)
    return [
        make(normalize=True, deterministic=True),
        make(normalize=False, deterministic=True),
        make(normalize=False, deterministic=False),
    ]


def _check_methods(processes: Sequence[str]) -> None:
    unknown = set(processes) - set(METHODS)
    if unknown:
        raise LatentwrapError(
            f"check_latent_env requires processes of {', '.join(METHODS)}, "
            f"got {', '.join(sorted(unknown))}."
        )


def _checks(processes: Sequence[str]) -> dict[str, Check]:
    """All checks by name, in order."""
    known = multiprocessing.get_all_start_methods()
    checks: dict[str, Check] = {"seeding": check_seeding, "leakage": check_leakage}
    checks |= {form: partial(check_form, form=form) for form in FORMS}
    checks |= {"offline": check_offline, "aliasing": check_aliasing}
    checks |= {name: partial(check_copies, clone=clone) for name, clone in CLONES.items()}
    checks["spec"] = check_spec
    here = [method for method in processes if method in known]
    return checks | {method: partial(check_process, method=method) for method in here}


def _results(
    checks: dict[str, Check], subjects: Sequence[Subject], plan: Plan
) -> Iterator[CheckResult]:
    pointless = False
    for name, check in checks.items():
        if pointless:
            why = "it requires an environment that repeats itself under its seed"
            yield CheckResult(name, Outcome.SKIPPED, why)
            continue
        result = _result(name, partial(check, subjects, plan))
        yield result
        pointless = name == "seeding" and subjects[0].repeats and result.outcome is Outcome.FAILED


def _result(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, Outcome.PASSED, check())
    except NotRun as reason:
        return CheckResult(name, Outcome.SKIPPED, str(reason))
    except Failed as failure:
        return CheckResult(name, Outcome.FAILED, str(failure))
    except Exception as error:  # noqa: BLE001 - what is checked may do anything
        return CheckResult(name, Outcome.FAILED, f"raised {type(error).__name__}: {error}")
