"""All checks in their order, each asking no more than the one before it left possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from latentwrap.doctor import fitting, machine, rendering, versions
from latentwrap.doctor.cores import find_cores, find_memory, find_processor
from latentwrap.doctor.findings import Finding, Status, guarded
from latentwrap.doctor.fitting import ReplaySize
from latentwrap.doctor.isolated import Answer, ask
from latentwrap.doctor.rendering import Sight, see
from latentwrap.types import Frame


@dataclass(frozen=True)
class Question:
    """What is to be examined.

    Attributes:
        env_id: the environment, also `module:id`.
        ckpt: a checkpoint, if there is one.
        device: `cpu`, `cuda` or `auto`.
        seed: of the environment and of the actions it is looked at with.
        limit: seconds that each process may take.
        image_keys, vector_keys, layout: as of `LatentObservation`.
    """

    env_id: str
    ckpt: Path | None = None
    device: str = "auto"
    seed: int = 0
    limit: float = 60.0
    image_keys: tuple[str, ...] = ()
    vector_keys: tuple[str, ...] = ()
    layout: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Those that say where images and vectors are in an observation."""
        given = {
            "image_keys": self.image_keys,
            "vector_keys": self.vector_keys,
            "layout": self.layout,
        }
        return {name: value for name, value in given.items() if value}


class Examination:
    """Examines this machine, an environment and a checkpoint.

    Everything that can crash or hang runs in a process of its own, with a time limit.

    Args:
        question: what is to be examined.

    Example:
        >>> from latentwrap.envs import PIXEL_PENDULUM
        >>> for finding in Examination(Question(PIXEL_PENDULUM)):  # doctest: +SKIP
        ...     print(finding.status.value, finding.name, finding.finding)
    """

    def __init__(self, question: Question) -> None:
        self._question = question

    @cached_property
    def _checks(self) -> dict[str, Callable[[], Finding]]:
        return {
            "python": versions.check_python,
            "packages": self._check_packages,
            "extras": lambda: versions.check_extras(versions.find_requirements()),
            "RL libraries": versions.check_libraries,
            "device": self._check_device,
            "threads": self._check_threads,
            "disk": lambda: machine.check_disk(Path.cwd()),
            "HDF5": self._check_hdf5,
            "environment": self._check_environment,
            "frame": self._check_frame,
            "autoreset": self._check_autoreset,
            "fork": self._check_fork,
            "checkpoint": self._check_checkpoint,
            "replay": self._check_replay,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the checks in their order."""
        return tuple(self._checks)

    def __iter__(self) -> Iterator[Finding]:
        for name, check in self._checks.items():
            yield guarded(name, check)

    @property
    def image(self) -> Frame | None:
        """A frame of the environment, uint8 (H, W, C); `None` where there is none to see."""
        return self._sight.image

    @cached_property
    def _machine(self) -> Answer:
        return ask("machine", limit=self._question.limit)

    @cached_property
    def _sight(self) -> Sight:
        question = self._question

        def look(environment: Mapping[str, str | None]) -> Answer:
            return ask(
                "look",
                limit=question.limit,
                environment=environment,
                env_id=question.env_id,
                seed=question.seed,
                options=question.options,
                ckpt=None if question.ckpt is None else str(question.ckpt),
            )

        return see(look)

    @cached_property
    def _fit(self) -> Answer | None:
        question, working = self._question, self._sight.working
        if question.ckpt is None:
            return None
        return ask(
            "fit",
            limit=question.limit,
            environment=None if working is None else working.environment,
            ckpt=str(question.ckpt),
            device=question.device,
            env_id=None if working is None else question.env_id,
            seed=question.seed,
            options=question.options,
        )

    def _check_packages(self) -> Finding:
        modules = list(versions.MODULES.values())
        answer = ask("packages", limit=self._question.limit, modules=modules)
        return versions.check_packages(versions.find_requirements(), answer)

    def _check_device(self) -> Finding:
        return machine.check_device(
            self._machine,
            asked=self._question.device,
            processor=find_processor(),
            memory=find_memory(),
            driver=machine.has_nvidia_driver(),
        )

    def _check_threads(self) -> Finding:
        return machine.check_threads(self._machine, find_cores(), os.environ)

    def _check_hdf5(self) -> Finding:
        # Where the datasets will be: a network disk may lack the locks that HDF5 needs.
        return machine.check_hdf5(ask("hdf5", limit=self._question.limit, folder=str(Path.cwd())))

    def _check_environment(self) -> Finding:
        return rendering.check_environment(self._question.env_id, self._sight)

    def _check_frame(self) -> Finding:
        return rendering.check_frame(self._sight)

    def _check_autoreset(self) -> Finding:
        trial = self._sight.furthest
        if not trial.made:
            return Finding("autoreset", Status.SKIPPED, "there is no environment to ask")
        return fitting.check_autoreset(
            ask(
                "vector",
                limit=self._question.limit,
                environment=trial.environment,
                env_id=self._question.env_id,
            )
        )

    def _check_fork(self) -> Finding:
        graphics = self._sight.furthest.answer.facts.get("graphics", ())
        return machine.check_fork(self._machine, graphics)

    def _check_checkpoint(self) -> Finding:
        return fitting.check_fit(
            self._fit,
            with_environment=self._sight.working is not None,
            env_id=self._question.env_id,
        )

    def _check_replay(self) -> Finding:
        working = self._sight.working
        if working is None:
            return Finding("replay", Status.SKIPPED, "there is no frame to count with")
        known = {} if self._fit is None else self._fit.facts
        size = known.get("size", fitting.DEFAULT_LATENT)
        replay = ReplaySize(working.answer.facts["shapes"], size)
        return fitting.check_replay(replay, find_memory())
