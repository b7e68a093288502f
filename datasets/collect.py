"""Running a policy in environments and writing what it saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from latentwrap._version import __version__
from latentwrap.actions import ActionSpec
from latentwrap.datasets.episodes import EpisodeBuilder, Moment, states_of
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import NoisePolicy, Policy, RandomPolicy
from latentwrap.datasets.workers import running, spec_json
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.envs.frames import FRAME, VECTORS
from latentwrap.envs.making import find_spec
from latentwrap.envs.workers import FrameEnvMaker
from latentwrap.errors import ConfigError, did_you_mean
from latentwrap.interrupts import InterruptFlag
from latentwrap.pixels import DEFAULT_SIZE
from latentwrap.progress import Bar, bar
from latentwrap.seeding import child_seeds
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames

PolicyMaker: TypeAlias = Callable[[gym.Space[Any], int], Policy]
"""Makes a policy from the action space of one environment and a seed."""

POLICIES: dict[str, PolicyMaker] = {"random": RandomPolicy, "noise": NoisePolicy}


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
    policy: str | PolicyMaker = "random",
    frame_skip: int = 1,
    seed: int = 0,
    height: int = DEFAULT_SIZE,
    width: int = DEFAULT_SIZE,
    grey: bool = False,
    image_keys: Sequence[str] | None = None,
    vector_keys: Sequence[str] = (),
    layout: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    force: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> CollectResult:
    """Run a policy in an environment and write a dataset of layout version 1.

    Every finished episode is safe at once: if the process dies, `resume=True` goes on with
    all of them. Ctrl-C ends the collection and keeps what there is.

    With several environments each runs in a spawned process, so a script needs Python's
    `if __name__ == "__main__":` around the call, and a policy of its own stays here.

    Args:
        env_id: a Gymnasium id, `module:id`, or a specification; its observation or render must
            be an image, or its observation a Dict that holds some.
        path: the HDF5 file to write.
        steps: agent transitions in total, over all environments; the file holds exactly these.
        num_envs: environments that run at a time, each in a process of its own if above one.
        policy: `random`, `noise`, or a function of an action space and a seed that makes one,
            which sees frames alone.
        frame_skip: how often each action is repeated, rewards summed.
        seed: of the environments (`seed + i`) and of the policy.
        height: of the frames; of several cameras, of each.
        width: likewise.
        grey: make grey frames of coloured images.
        image_keys: entries of a Dict observation that are images, several side by side; `None`
            takes the only one. `outer.inner` is an entry of a Dict inside.
        vector_keys: entries that are vectors, kept beside the frames.
        layout: of the images, one of `latentwrap.pixels.LAYOUTS`; `None` tells it by the shape.
        env_kwargs: passed on to the environment.
        force: replace an existing file.
        resume: keep the episodes of an interrupted collection.
        show_progress: draw a progress bar on standard error.

    Raises:
        ConfigError: an argument that is out of its range, or an unknown policy.
        EnvironmentMismatch: no such environment, it gives no image, or a key is wrong.
        PixelError: a layout that does not exist or fit.
        OutputExists: the file exists, or an interrupted collection of it.
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
    make_policy = _policy_maker(policy)
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
        env_kwargs=dict(env_kwargs or {}),
    )
    name = env_id if isinstance(env_id, str) else spec.id
    policy_name = policy if isinstance(policy, str) else getattr(policy, "__name__", "custom")
    info = _describe(make, name, seed=seed, policy=policy_name)
    with (
        DatasetWriter(path, info, force=force, resume=resume) as writer,
        running(make, num_envs) as envs,
        bar("Collecting", steps, show=show_progress) as progress,
        InterruptFlag() as interrupt,
    ):
        seeds = _Seeds.of(seed, episodes=writer.episodes)
        collector = _Collector(make_policy(info.action.space, seeds.policy), info, writer)
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
        run, policy = child_seeds(seed + episodes, 2)
        return cls(run % 2**31 if episodes else seed, policy)


class _Seen(NamedTuple):
    """What K environments observe.

    Attributes:
        frames: uint8 (K, H, W, C).
        vectors: joined, float32 (K, V), or `None`.
        infos: Gymnasium's, of all environments.
    """

    frames: Frames
    vectors: FloatArray | None
    infos: Mapping[str, Any]

    @classmethod
    def of(cls, observations: Any, infos: Mapping[str, Any]) -> _Seen:
        """Part what `RenderFrame` observes."""
        if isinstance(observations, Mapping):
            return cls(observations[FRAME], observations[VECTORS], infos)
        return cls(observations, None, infos)


class _Collector:
    """Steps a vector environment and cuts its stream into episodes."""

    def __init__(self, policy: Policy, info: DatasetInfo, writer: DatasetWriter) -> None:
        self._policy, self._writer = policy, writer
        self._action, self._slices = info.action, info.vectors.slices
        self._builders: list[EpisodeBuilder | None] = []
        self.returns: list[float] = []

    def run(
        self,
        envs: VectorEnv[Any, Any, Any],
        steps: int,
        seed: int,
        interrupt: InterruptFlag,
        progress: Bar,
    ) -> None:
        """Step until the file holds `steps` transitions, or Ctrl-C."""
        taken = self._writer.transitions
        progress.move_to(taken)
        self._builders = [None] * envs.num_envs
        seen = _Seen.of(*envs.reset(seed=seed))
        started = np.ones(envs.num_envs, bool)
        self._begin(started, seen)
        while taken < steps and not interrupt.raised:
            # A copy (a policy may reuse its buffer) in the precision that the environment takes.
            actions = np.array(self._policy(seen.frames, started), self._action.space.dtype)
            observations, rewards, terminated, truncated, infos = envs.step(actions)
            seen = _Seen.of(observations, infos)
            # Under NEXT_STEP, an environment that ended before now is reset instead of stepped:
            # it has no builder, its action was ignored and this frame is its first.
            started = np.array([builder is None for builder in self._builders])
            stepped = np.flatnonzero(~started)[: steps - taken]
            for index in stepped:
                self._add(int(index), actions[index], float(rewards[index]), seen)
            self._end(stepped, terminated, truncated)
            self._begin(started, seen)
            taken += len(stepped)
            progress.move_to(taken)
        self._cut()

    def _begin(self, mask: BoolArray, seen: _Seen) -> None:
        for index in np.flatnonzero(mask):
            self._builders[index] = EpisodeBuilder(self._moment(seen, int(index)))

    def _add(self, index: int, action: AnyArray, reward: float, seen: _Seen) -> None:
        builder = self._builders[index]
        if builder is not None:
            builder.add(self._action.flatten(action), reward, self._moment(seen, index))

    def _moment(self, seen: _Seen, index: int) -> Moment:
        """What one environment observes now, in arrays of its own."""
        vectors = {}
        if seen.vectors is not None:
            row = seen.vectors[index].copy()
            vectors = {name: row[part] for name, part in self._slices.items()}
        return Moment(seen.frames[index].copy(), vectors, _states(seen.infos, index))

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


def _require_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"collect requires {name} of at least 1, got {count}.")


def _policy_maker(policy: str | PolicyMaker) -> PolicyMaker:
    if not isinstance(policy, str):
        return policy
    if policy not in POLICIES:
        raise ConfigError(f"There is no policy {policy!r}: {did_you_mean(policy, POLICIES)}")
    return POLICIES[policy]


def _describe(make: FrameEnvMaker, env_id: str, *, seed: int, policy: str) -> DatasetInfo:
    env = make()
    try:
        return DatasetInfo(
            env_id=env_id,
            action=ActionSpec(env.action_space),
            frame=env.frame_spec,
            frame_skip=make.frame_skip,
            env_spec=spec_json(env),
            provenance=_provenance(seed, policy),
            vectors=env.vector_spec,
        )
    finally:
        env.close()


def _provenance(seed: int, policy: str) -> dict[str, Any]:
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"latentwrap": __version__, "policy": policy, "seed": seed, "created": created}


def _states(infos: Mapping[str, Any], index: int) -> dict[str, FloatArray]:
    """One environment's `info["state"]` out of a vector environment's infos.

    Gymnasium merges the infos key by key, inside dicts too, and says in a mask named `_key`
    which environments gave the key.
    """
    state = infos.get("state")
    if state is None or not infos["_state"][index]:
        return {}
    if not isinstance(state, Mapping):
        return states_of({"state": state[index]})
    given = [name for name in state if f"_{name}" in state and state[f"_{name}"][index]]
    return states_of({"state": {name: state[name][index] for name in given}})
