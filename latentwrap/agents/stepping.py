"""One environment or many side by side, seen as a stream of transitions that truly happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from latentwrap.agents.callbacks import EpisodeStats
from latentwrap.envs.autoreset import Autoreset, autoreset_of
from latentwrap.errors import EnvironmentFailed, EnvironmentMismatch
from latentwrap.types import AnyArray, BoolArray, FloatArray
from latentwrap.wrappers.workers import Environment, overlaps

ToRows: TypeAlias = Callable[[Any], AnyArray]
"""Copies a batch or a list of observations, since vectors may reuse their buffers."""


@dataclass(frozen=True)
class Played:
    """A transition that truly happened; what an autoreset shows is none.

    Attributes:
        number: of the environment, from 0.
        observation, next_observation: rows, float32 (d,) unless `Stepper` was told otherwise; the
            latter is the last of its episode where that has ended, never the first of the next
            one.
        reward: of the transition.
        terminated: whether the episode truly ended with it.
        ended: the episode that it completed, terminated or truncated; else `None`.
    """

    number: int
    observation: AnyArray
    reward: float
    next_observation: AnyArray
    terminated: bool
    ended: EpisodeStats | None


class Stepper:
    """Steps environments and tells real transitions from resets.

    Args:
        env: a single environment, or a vector of them in any autoreset mode.
        to_rows: makes new rows (num, ...) of batched or listed observations.

    Attributes:
        num: how many environments there are.
        overlaps: whether they step between `send` and `receive`, in processes of their own.
        observations: what to act on, rows (num, ...).
        acting: where the next `step` really takes its action, bool (num,); elsewhere a NEXT_STEP
            environment ignores it and resets.
        begun: where `observations` are the first of an episode, bool (num,).

    Raises:
        EnvironmentMismatch: the vector names an autoreset mode that does not exist.

    Example:
        >>> stepper = Stepper(gym.make("CartPole-v1"))
        >>> stepper.begin(seed=0)
        >>> [played] = stepper.step(np.array([1]))
        >>> played.reward, played.ended
        (1.0, None)
        >>> stepper.restart()
    """

    def __init__(self, env: Environment, to_rows: ToRows | None = None) -> None:
        self._to_rows = to_rows or flat_rows
        self._env: VectorEnv[Any, Any, Any] | _VectorOfOne
        if isinstance(env, VectorEnv):
            self._env, self._mode = env, autoreset_of(env)
        else:
            self._env, self._mode = _VectorOfOne(env), Autoreset.DISABLED
        self.num = self._env.num_envs
        self.overlaps = overlaps(env)
        self._sent: AnyArray | None = None

    def begin(self, seed: int | None) -> None:
        """Reset every environment; from a seed, the i-th starts from seed + i."""
        observations, _ = self._env.reset(seed=seed)
        self.observations = self._to_rows(observations)
        self.acting: BoolArray = np.ones(self.num, bool)
        self.begun: BoolArray = np.ones(self.num, bool)
        self._over: BoolArray = np.zeros(self.num, bool)
        self._totals = np.zeros(self.num)
        self._lengths = np.zeros(self.num, int)

    def step(self, actions: AnyArray) -> list[Played]:
        """Take an action in every environment, (num, ...): `send` and `receive`."""
        self.send(actions)
        return self.receive()

    def send(self, actions: AnyArray) -> None:
        """Let every environment take an action, (num, ...)."""
        self._sent = actions
        if self.overlaps:
            self._env.step_async(actions)  # type: ignore[union-attr] # as `overlaps` saw

    def receive(self) -> list[Played]:
        """What came of the actions that were sent.

        Returns:
            One transition for each environment that acted.

        Raises:
            EnvironmentMismatch: a SAME_STEP vector lacks the last observation of an episode.
            EnvironmentFailed: a reward is not finite.
        """
        observations, rewards, terminated, truncated, infos = self._answer()
        following, acted = self._to_rows(observations), self.acting
        _check_rewards(np.asarray(rewards, float)[acted])
        self._over = acted & (np.asarray(terminated, bool) | np.asarray(truncated, bool))
        self._totals += np.where(acted, rewards, 0)
        self._lengths += acted
        reached = self._reached(following, infos)
        played = [
            Played(
                number=int(i),
                observation=self.observations[i],
                reward=float(rewards[i]),
                next_observation=reached[i],
                terminated=bool(terminated[i]),
                ended=self._stats(int(i)) if self._over[i] else None,
            )
            for i in np.flatnonzero(acted)
        ]
        self._totals[self._over] = self._lengths[self._over] = 0
        self.observations = following
        self.begun = self._over.copy() if self._mode is Autoreset.SAME_STEP else ~acted
        self.acting = ~self._over if self._mode is Autoreset.NEXT_STEP else np.ones(self.num, bool)
        return played

    def drop(self) -> None:
        """Wait for what came of the actions that were sent, and forget it."""
        with suppress(Exception):
            self._answer()

    def _answer(self) -> Any:
        if self.overlaps:
            return self._env.step_wait()  # type: ignore[union-attr] # as `overlaps` saw
        assert self._sent is not None  # noqa: S101 - send comes first
        return self._env.step(self._sent)

    def restart(self) -> None:
        """Reset what has ended, where nobody else does."""
        if self._mode is not Autoreset.DISABLED or not self._over.any():
            return
        observations, _ = self._env.reset(options={"reset_mask": self._over.copy()})
        self.observations = self.observations.copy()
        self.observations[self._over] = self._to_rows(observations)[self._over]
        self.begun = self._over
        self._over = np.zeros(self.num, bool)

    def _reached(self, following: AnyArray, infos: Mapping[str, Any]) -> AnyArray:
        """What each transition led to, (num, ...)."""
        if self._mode is not Autoreset.SAME_STEP or not self._over.any():
            return following
        reached = following.copy()
        for i in map(int, np.flatnonzero(self._over)):
            reached[i] = self._to_rows([_final_observation(infos, i)])[0]
        return reached

    def _stats(self, i: int) -> EpisodeStats:
        return EpisodeStats(float(self._totals[i]), int(self._lengths[i]))


class _VectorOfOne:
    """A single environment as a vector that resets nothing by itself."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self.num_envs = 1

    def reset(
        self,
        *,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,  # noqa: ARG002 - masks the only one
    ) -> tuple[list[Any], dict[str, Any]]:
        observation, _ = self._env.reset(seed=seed)
        return [observation], {}

    def step(
        self, actions: AnyArray
    ) -> tuple[list[Any], AnyArray, BoolArray, BoolArray, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = self._env.step(actions[0])
        flags = np.array([[terminated], [truncated]], bool)
        return [observation], np.array([float(reward)]), flags[0], flags[1], {}


def _check_rewards(rewards: FloatArray) -> None:
    wrong = rewards[~np.isfinite(rewards)]
    if len(wrong):
        raise EnvironmentFailed(
            f"An agent requires finite rewards, the environment gave {wrong[0]}: mend or wrap it."
        )


def _final_observation(infos: Mapping[str, Any], i: int) -> Any:
    """The last observation of the episode that ended in environment `i`."""
    final = infos.get("final_obs")
    if final is None or final[i] is None:
        raise EnvironmentMismatch(
            "A SAME_STEP vector environment requires infos['final_obs'] when an episode ends, got "
            "none: use the autoreset mode NEXT_STEP."
        )
    return final[i]


def flat_rows(observations: Any) -> FloatArray:
    """Observations (num, ...) as float32 (num, d), a copy: vectors may reuse their buffers."""
    rows = np.array(observations, np.float32)
    return rows.reshape(len(rows), -1)
