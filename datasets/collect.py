"""Running a policy in environments and writing what it saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from latentwrap._version import __version__
from latentwrap.actions import ActionSpec
from latentwrap.datasets.episodes import EpisodeBuilder, states_of
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import NoisePolicy, Policy, RandomPolicy
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.envs.making import FrameSkip, RenderFrame, find_spec, make_env
from latentwrap.errors import ConfigError, did_you_mean
from latentwrap.interrupts import InterruptFlag
from latentwrap.pixels import DEFAULT_SIZE
from latentwrap.progress import Bar, bar
from latentwrap.seeding import child_seeds
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames

POLICIES: dict[str, Callable[[gym.Space[Any], int], Policy]] = {
    "random": RandomPolicy,
    "noise": NoisePolicy,
}


@dataclass(frozen=True)
class CollectResult:
    """What was collected.

    Attributes:
        path: the dataset.
        episodes, transitions: in the file, those before a resume included.
        return_mean: mean return of the episodes of this run that ended by themselves; NaN if
            none did.
        seconds: of this run.
        interrupted: Ctrl-C ended it.
    """

    path: Path
    episodes: int
    transitions: int
    return_mean: float
    seconds: float
    interrupted: bool


def collect(
    env_id: str | EnvSpec,
    path: str | Path,
    *,
    steps: int,
    num_envs: int = 1,
    policy: str | Callable[[gym.Space[Any], int], Policy] = "random",
    frame_skip: int = 1,
    seed: int = 0,
    height: int = DEFAULT_SIZE,
    width: int = DEFAULT_SIZE,
    force: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> CollectResult:
    """Run a policy in an environment and write a dataset of layout version 1.

    Every finished episode is safe at once: if the process dies, `resume=True` goes on with
    all of them. Ctrl-C ends the collection and keeps what there is.

    Args:
        env_id: a Gymnasium id, `module:id`, or a specification; its observation or render must
            be an image.
        path: the HDF5 file to write.
        steps: agent transitions in total, over all environments.
        num_envs: environments that run at a time, each in a process of its own if above one.
        policy: `random`, `noise`, or a function of an action space and a seed that makes one.
        frame_skip: how often each action is repeated, rewards summed.
        seed: of the environments (`seed + i`) and of the policy.
        height, width: of the frames.
        force: replace an existing file.
        resume: keep the episodes of an interrupted collection.
        show_progress: draw a progress bar on standard error.

    Raises:
        EnvironmentMismatch: no such environment, or it gives no image.
        OutputExists: the file exists, or an interrupted collection of it.
        DatasetError: a reward that is not finite, or no whole episode.

    Example:
        >>> from latentwrap.datasets import collect
        >>> collect("CarRacing-v3", "car.h5", steps=20_000, num_envs=2)  # doctest: +SKIP
    """
    started = time.monotonic()
    make_policy = _policy_maker(policy)
    spec = find_spec(env_id) if isinstance(env_id, str) else env_id
    name = env_id if isinstance(env_id, str) else spec.id
    probe = _make_one(spec, frame_skip, height, width)
    info = _describe(probe, name, frame_skip, seed=seed, policy=str(policy))
    probe.close()
    with DatasetWriter(path, info, force=force, resume=resume) as writer:
        run_seed, policy_seed = child_seeds(seed + writer.episodes, 2)
        envs = _make_envs(spec, num_envs, frame_skip, height, width)
        first_seed = seed if not writer.episodes else run_seed % 2**31
        collector = _Collector(envs, make_policy(probe.action_space, policy_seed), info, writer)
        with bar("Collecting", steps, show=show_progress) as progress, InterruptFlag() as interrupt:
            try:
                collector.run(steps, first_seed, interrupt, progress)
            finally:
                envs.close()
    return CollectResult(
        path=writer.path,
        episodes=writer.episodes,
        transitions=writer.transitions,
        return_mean=float(np.mean(collector.returns)) if collector.returns else float("nan"),
        seconds=time.monotonic() - started,
        interrupted=interrupt.raised,
    )


class _Collector:
    """Steps a vector environment and cuts its stream into episodes."""

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        policy: Policy,
        info: DatasetInfo,
        writer: DatasetWriter,
    ) -> None:
        self._envs, self._policy, self._writer = envs, policy, writer
        self._flatten = info.action.flatten
        self._builders: list[EpisodeBuilder | None] = [None] * envs.num_envs
        self.returns: list[float] = []

    def run(self, steps: int, seed: int, interrupt: InterruptFlag, progress: Bar) -> None:
        """Step until the file holds `steps` transitions, or Ctrl-C."""
        taken = self._writer.transitions
        progress.move_to(taken)
        frames, infos = self._envs.reset(seed=seed)
        self._begin(np.ones(self._envs.num_envs, bool), frames, infos)
        started = np.ones(self._envs.num_envs, bool)
        while taken < steps and not interrupt.raised:
            actions = self._policy(frames, started)
            frames, rewards, terminated, truncated, infos = self._envs.step(actions)
            # Under NEXT_STEP, an environment that ended before now is reset instead of stepped:
            # it has no builder, its action was ignored and this frame is its first.
            started = np.array([builder is None for builder in self._builders])
            room = steps - taken
            stepped = np.flatnonzero(~started)[:room]
            for index in stepped:
                self._add(int(index), actions[index], float(rewards[index]), frames, infos)
            self._end(stepped, terminated, truncated)
            self._begin(started, frames, infos)
            taken += len(stepped)
            progress.move_to(taken)
        self._cut()

    def _begin(self, mask: BoolArray, frames: Frames, infos: Mapping[str, Any]) -> None:
        for index in np.flatnonzero(mask):
            states = _states(infos, int(index))
            self._builders[index] = EpisodeBuilder(frames[index].copy(), states)

    def _add(
        self,
        index: int,
        action: AnyArray,
        reward: float,
        frames: Frames,
        infos: Mapping[str, Any],
    ) -> None:
        builder = self._builders[index]
        if builder is not None:
            states = _states(infos, index)
            builder.add(self._flatten(action), reward, frames[index].copy(), states)

    def _end(self, stepped: AnyArray, terminated: BoolArray, truncated: BoolArray) -> None:
        for index in stepped:
            builder = self._builders[index]
            if builder is None or not (terminated[index] or truncated[index]):
                continue
            episode = builder.build(
                terminated=bool(terminated[index]), truncated=bool(truncated[index])
            )
            self._writer.add(episode)
            self._builders[index] = None
            if episode.rewards is not None:
                self.returns.append(float(episode.rewards.sum()))

    def _cut(self) -> None:
        """Keep the episodes in progress, as truncated."""
        for builder in self._builders:
            if builder is not None and len(builder):
                self._writer.add(builder.build(terminated=False, truncated=True))


def _policy_maker(
    policy: str | Callable[[gym.Space[Any], int], Policy],
) -> Callable[[gym.Space[Any], int], Policy]:
    if not isinstance(policy, str):
        return policy
    if policy not in POLICIES:
        raise ConfigError(f"There is no policy {policy!r}: {did_you_mean(policy, POLICIES)}.")
    return POLICIES[policy]


def _make_one(spec: EnvSpec, frame_skip: int, height: int, width: int) -> RenderFrame:
    env = make_env(spec)
    if frame_skip > 1:
        env = FrameSkip(env, frame_skip)
    return RenderFrame(env, height=height, width=width)


def _make_envs(
    spec: EnvSpec, count: int, frame_skip: int, height: int, width: int
) -> VectorEnv[Any, Any, Any]:
    makers = [lambda: _make_one(spec, frame_skip, height, width)] * count
    if count == 1:
        return SyncVectorEnv(makers, **_next_step())
    # spawn: a fork would copy threads and rendering contexts that do not survive it.
    return AsyncVectorEnv(makers, context="spawn", **_next_step())


def _next_step() -> dict[str, Any]:
    """Name the autoreset mode where Gymnasium has a name for it (1.1); 1.0 has no other."""
    mode = getattr(gym.vector, "AutoresetMode", None)
    return {} if mode is None else {"autoreset_mode": mode.NEXT_STEP}


def _describe(
    env: RenderFrame, env_id: str, frame_skip: int, *, seed: int, policy: str
) -> DatasetInfo:
    return DatasetInfo(
        env_id=env_id,
        action=ActionSpec(env.action_space),
        frame=env.frame_spec,
        frame_skip=frame_skip,
        env_spec=_spec_json(env),
        provenance={"latentwrap": __version__, "policy": policy, "seed": seed},
    )


def _spec_json(env: gym.Env[Any, Any]) -> str | None:
    spec = env.unwrapped.spec
    if spec is None:
        return None
    try:
        return spec.to_json()
    except (TypeError, ValueError, AttributeError):
        return None  # an entry point that is no importable name cannot be written down


def _states(infos: Mapping[str, Any], index: int) -> dict[str, FloatArray]:
    """One environment's `info["state"]` out of a vector environment's infos."""
    state = infos.get("state")
    if state is None or not infos["_state"][index]:
        return {}
    if isinstance(state, Mapping):
        names = [name for name in state if not name.startswith("_")]
        return states_of({"state": {name: state[name][index] for name in names}})
    return states_of({"state": state[index]})
