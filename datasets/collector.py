"""Stepping environments and cutting what they give into episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from latentwrap.datasets.episodes import EpisodeBuilder, Moment, states_of
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import Policy, VectorPolicy
from latentwrap.datasets.writer import DatasetWriter
from latentwrap.envs.frames import FRAME, VECTORS, first_line
from latentwrap.errors import EnvironmentFailed, LatentwrapError
from latentwrap.interrupts import InterruptFlag
from latentwrap.progress import Bar
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames


class Seen(NamedTuple):
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
    def of(cls, observations: Any, infos: Mapping[str, Any]) -> Seen:
        """Part what `RenderFrame` observes."""
        if isinstance(observations, Mapping):
            return cls(observations[FRAME], observations[VECTORS], infos)
        return cls(observations, None, infos)


@contextmanager
def environment_errors(env_id: str, writer: DatasetWriter | None = None) -> Iterator[None]:
    """Say in a sentence what an environment raised, and what is kept.

    Raises:
        EnvironmentFailed: it raised an error of its own.
    """
    try:
        yield
    except (LatentwrapError, EOFError, ConnectionError):
        raise  # a sentence already, or the process of an environment that is gone
    except Exception as error:
        kept = ""
        if writer is not None and writer.episodes:
            kept = (
                f" ({writer.transitions} transitions in {writer.episodes} whole episodes are kept)"
            )
        mend = "mend or wrap it, and pass --resume to go on" if kept else "mend or wrap it"
        raise EnvironmentFailed(
            f"The environment {env_id} raised {type(error).__name__}: {first_line(error)}{kept}: "
            f"{mend}."
        ) from error


class Collector:
    """Steps a vector environment under NEXT_STEP and cuts its stream into episodes.

    Args:
        policy: chooses the actions.
        info: of the dataset.
        writer: takes the episodes.

    Attributes:
        returns: of the episodes that ended by themselves.
    """

    def __init__(
        self, policy: Policy | VectorPolicy, info: DatasetInfo, writer: DatasetWriter
    ) -> None:
        self._policy, self._writer, self._env_id = policy, writer, info.env_id
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
        """Step until the file holds `steps` transitions, or until interrupted.

        Raises:
            EnvironmentFailed: an environment raised an error.
        """
        try:
            self._run(envs, steps, seed, interrupt, progress)
        except (EOFError, ConnectionError):
            # A signal to all processes may end those of the environments first.
            if not interrupt.raised:
                raise
        self._cut()

    def _run(
        self,
        envs: VectorEnv[Any, Any, Any],
        steps: int,
        seed: int,
        interrupt: InterruptFlag,
        progress: Bar,
    ) -> None:
        taken = self._writer.transitions
        progress.move_to(taken)
        self._builders = [None] * envs.num_envs
        with environment_errors(self._env_id, self._writer):
            seen = Seen.of(*envs.reset(seed=seed))
        started = np.ones(envs.num_envs, bool)
        self._begin(started, seen)
        while taken < steps and not interrupt.raised:
            actions = self._act(seen, started)
            with environment_errors(self._env_id, self._writer):
                observations, rewards, terminated, truncated, infos = envs.step(actions)
            seen = Seen.of(observations, infos)
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

    def _act(self, seen: Seen, started: BoolArray) -> AnyArray:
        if isinstance(self._policy, VectorPolicy):
            chosen = self._policy.act_with_vectors(seen.frames, started, seen.vectors)
        else:
            chosen = self._policy(seen.frames, started)
        # A copy (a policy may reuse its buffer) in the precision that the environment takes.
        return np.array(chosen, self._action.space.dtype)

    def _begin(self, mask: BoolArray, seen: Seen) -> None:
        for index in np.flatnonzero(mask):
            self._builders[index] = EpisodeBuilder(self._moment(seen, int(index)))

    def _add(self, index: int, action: AnyArray, reward: float, seen: Seen) -> None:
        builder = self._builders[index]
        if builder is not None:
            builder.add(self._action.flatten(action), reward, self._moment(seen, index))

    def _moment(self, seen: Seen, index: int) -> Moment:
        """What one environment observes now, in arrays of its own."""
        vectors = {}
        if seen.vectors is not None:
            row = seen.vectors[index].copy()
            vectors = {name: row[part] for name, part in self._slices.items()}
        return Moment(seen.frames[index].copy(), vectors, states_at(seen.infos, index))

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


def states_at(infos: Mapping[str, Any], index: int) -> dict[str, FloatArray]:
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
