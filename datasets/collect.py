"""Running a policy in environments and writing what it saw."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from latentwrap._version import __version__
from latentwrap.actions import ActionSpec
from latentwrap.datasets.collector import Collector, environment_errors
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import (
    POLICIES,
    FittedMaker,
    Policy,
    PolicyMaker,
    VectorPolicy,
)
from latentwrap.datasets.workers import running, spec_json
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.envs.making import find_spec
from latentwrap.envs.workers import FrameEnvMaker
from latentwrap.errors import ConfigError, did_you_mean
from latentwrap.interrupts import InterruptFlag
from latentwrap.pixels import DEFAULT_SIZE
from latentwrap.progress import bar
from latentwrap.seeding import child_seeds


@dataclass(frozen=True)
class CollectResult:
    """What was collected.

    Attributes:
        path: the dataset.
        episodes, transitions: in the file, those before a resume included.
        return_mean: mean return of the episodes of this run that ended by themselves; NaN if
            none did.
        seconds: of this run.
        interrupted: Ctrl-C or SIGTERM ended it.
    """

    path: Path
    episodes: int
    transitions: int
    return_mean: float
    seconds: float
    interrupted: bool

    @property
    def frames(self) -> int:
        """Rows in the file: every episode has one frame more than transitions."""
        return self.transitions + self.episodes


def collect(
    env_id: str | EnvSpec,
    path: str | Path,
    *,
    steps: int,
    num_envs: int = 1,
    policy: str | PolicyMaker | FittedMaker = "random",
    frame_skip: int = 1,
    seed: int = 0,
    height: int = DEFAULT_SIZE,
    width: int = DEFAULT_SIZE,
    grey: bool = False,
    image_keys: Sequence[str] | None = None,
    vector_keys: Sequence[str] = (),
    layout: str | None = None,
    rendering: str = "fast",
    cameras: Sequence[str] = (),
    env_kwargs: Mapping[str, Any] | None = None,
    force: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> CollectResult:
    """Run a policy in an environment and write a dataset of layout version 1.

    Every finished episode is safe at once: if the process dies, or an environment raises an
    error, `resume=True` goes on with all of them. Ctrl-C and SIGTERM end the collection and keep
    what there is.

    Where the environment gives no `info["state"]`, its truth is taken from where it lies: `qpos`
    and `qvel` of MuJoCo, and a low-dimensional observation where the picture is rendered.

    With several environments each runs in a spawned process, so a script needs Python's
    `if __name__ == "__main__":` around the call, and a policy of its own stays here.

    Args:
        env_id: a Gymnasium id, `module:id`, or a specification; its observation or render must
            be an image, or its observation a Dict that holds some.
        path: the HDF5 file to write.
        steps: agent transitions in total, over all environments; the file holds exactly these.
        num_envs: environments that run at a time, each in a process of its own if above one.
        policy: `random`, `noise`, or a function of an action space and a seed that makes one,
            which sees frames alone; or a trained one, `latentwrap.agents.AgentPolicy` or
            `latentwrap.integrations.sb3_policy.SB3Policy`.
        frame_skip: how often each action is repeated, rewards summed.
        seed: of the environments (`seed + i`) and of the policy.
        height: of the frames; of several cameras, of each.
        width: likewise.
        grey: make grey frames of coloured images.
        image_keys: entries of a Dict observation that are images, several side by side; `None`
            takes the only one. `outer.inner` is an entry of a Dict inside.
        vector_keys: entries that are vectors, kept beside the frames.
        layout: of the images, one of `latentwrap.pixels.LAYOUTS`; `None` tells it by the shape.
        rendering: where MuJoCo renders the frames, `fast` draws them without multisampling,
            shadows and reflections at twice their size; `full` takes the environment's picture.
        cameras: names or numbers of the cameras that MuJoCo renders, several side by side.
        env_kwargs: passed on to the environment.
        force: replace an existing file.
        resume: keep the episodes of an interrupted collection.
        show_progress: draw a progress bar on standard error.

    Raises:
        ConfigError: an argument that is out of its range, or an unknown policy.
        EnvironmentMismatch: no such environment, it gives no image, or a key is wrong.
        PixelError: a layout that does not exist or fit.
        OutputExists: the file exists, or an interrupted collection of it.
        EnvironmentFailed: the environment raised an error.
        CheckpointError: a trained policy that does not fit.
        DatasetError: a reward or vector that is not finite, or no whole episode, or the process
            of an environment ended.

    Example:
        >>> import tempfile
        >>> from latentwrap.datasets import collect
        >>> path = tempfile.mkdtemp() + "/pendulum.h5"
        >>> result = collect("latentwrap/PixelPendulum-v0", path, steps=250)
        >>> result.transitions, result.episodes
        (250, 2)
    """
    started = time.monotonic()
    _require_positive(
        steps=steps, num_envs=num_envs, frame_skip=frame_skip, height=height, width=width
    )
    maker = _policy_maker(policy)
    spec = find_spec(env_id) if isinstance(env_id, str) else env_id
    make = FrameEnvMaker(
        spec,
        frame_skip,
        height,
        width,
        grey,
        image_keys=None if image_keys is None else tuple(image_keys),
        vector_keys=tuple(vector_keys),
        layout=layout,
        rendering=rendering,
        cameras=tuple(cameras),
        states=True,
        env_kwargs=dict(env_kwargs or {}),
    )
    name = env_id if isinstance(env_id, str) else spec.id
    info = _describe(make, name, _provenance(seed, policy))
    make_policy = _fitted(maker, info)
    with (
        DatasetWriter(path, info, force=force, resume=resume) as writer,
        running(make, num_envs, name) as envs,
        bar("Collecting", steps, show=show_progress) as progress,
        InterruptFlag(signal.SIGINT, signal.SIGTERM) as interrupt,
    ):
        seeds = _Seeds.of(seed, episodes=writer.episodes)
        collector = Collector(make_policy(seeds.policy), info, writer)
        collector.run(envs, steps, seeds.environments, interrupt, progress)
    return CollectResult(
        path=writer.path,
        episodes=writer.episodes,
        transitions=writer.transitions,
        return_mean=float(np.mean(collector.returns)) if collector.returns else float("nan"),
        seconds=time.monotonic() - started,
        interrupted=interrupt.raised,
    )


@dataclass(frozen=True)
class _Seeds:
    """Seed of the first environment, and of the policy."""

    environments: int
    policy: int

    @classmethod
    def of(cls, seed: int, *, episodes: int) -> _Seeds:
        """A run that goes on after some episodes must not repeat them."""
        run, policy = child_seeds(seed, 2, key=(episodes,) if episodes else ())
        return cls(run % 2**31 if episodes else seed, policy)


def _require_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"collect requires {name} of at least 1, got {count}.")


def _policy_maker(policy: str | PolicyMaker | FittedMaker) -> PolicyMaker | FittedMaker:
    if not isinstance(policy, str):
        return policy
    if policy not in POLICIES:
        raise ConfigError(f"There is no policy {policy!r}: {did_you_mean(policy, POLICIES)}")
    return POLICIES[policy]


def _fitted(
    maker: PolicyMaker | FittedMaker, info: DatasetInfo
) -> Callable[[int], Policy | VectorPolicy]:
    """Makes the policy from a seed; one that does not fit is refused before anything runs."""
    if isinstance(maker, FittedMaker):
        return maker.fit(info)
    return lambda seed: maker(info.action.space, seed)


def _describe(make: FrameEnvMaker, env_id: str, provenance: dict[str, Any]) -> DatasetInfo:
    with environment_errors(env_id):
        env = make()
    try:
        return DatasetInfo(
            env_id=env_id,
            action=ActionSpec(env.action_space),
            frame=env.frame_spec,
            frame_skip=make.frame_skip,
            env_spec=spec_json(env),
            provenance=provenance,
            vectors=env.vector_spec,
        )
    finally:
        env.close()


def _provenance(seed: int, policy: str | PolicyMaker | FittedMaker) -> dict[str, Any]:
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    made = {"latentwrap": __version__, "policy": policy, "seed": seed, "created": created}
    if isinstance(policy, FittedMaker):
        return {**made, "policy": policy.name, "policy_options": dict(policy.options)}
    if not isinstance(policy, str):
        made["policy"] = getattr(policy, "__name__", "custom")
    return made
