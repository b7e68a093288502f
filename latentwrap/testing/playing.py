"""Playing environments of every interface, so that each of their rules is put to the test."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array

from latentwrap.envs.autoreset import Autoreset, autoreset_of
from latentwrap.seeding import numpy_generator
from latentwrap.testing.notes import Notes, Played, rows_of
from latentwrap.testing.plans import Plan
from latentwrap.testing.recording import RecordedEpisode
from latentwrap.types import AnyArray, BoolArray

Midway = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]
"""Puts another environment in the place of one in the middle of an episode."""


def play_single(env: gym.Env[Any, Any], plan: Plan, *, midway: Midway | None = None) -> Played:
    """Play an environment that has a `Recorder` inside.

    Args:
        env: plays as the first of the plan's.
        plan: how.
        midway: called in the middle of an episode in the middle of the play.
    """
    rng, space = numpy_generator(plan.seed), _seeded(env.action_space, plan.seed)
    notes = Notes(env.observation_space, 1, scribble=plan.scribble)
    before = len(_recorded(env))
    observation, _ = env.reset(seed=plan.seed)
    notes.begin(0, observation, plan.seed)
    notes.keep(observation)
    ended = False
    for step in range(plan.steps):
        if ended or rng.random() < plan.leave:
            observation, _ = env.reset()
            notes.begin(0, observation)
            notes.keep(observation)
        action = space.sample()
        observation, _, terminated, truncated, _ = env.step(action)
        notes.go_on(0, action, observation)
        notes.keep(observation)
        ended = terminated or truncated
        if midway is not None and step >= plan.steps // 2 and not ended:
            env, midway = midway(env), None
    return notes.close([_recorded(env)[before:]])


def play_vector(envs: VectorEnv[Any, Any, Any], plan: Plan) -> Played:
    """Play a vector environment in its autoreset mode, with a `Recorder` in each environment.

    * NEXT_STEP: environments that are about to be reset get nonsense as their actions, NaN where
      the actions are floats.
    * DISABLED: masks reset those that ended and some that did not; all others must stay bit for
      bit what they were.
    * Sometimes all are reset at once.
    """
    return _VectorGame(envs, plan).play()


class _VectorGame:
    def __init__(self, envs: VectorEnv[Any, Any, Any], plan: Plan) -> None:
        self._envs, self._plan, self._num = envs, plan, envs.num_envs
        self._mode = autoreset_of(envs)
        self._rng = numpy_generator(plan.seed)
        self._space = _seeded(envs.single_action_space, plan.seed)
        self._notes = Notes(envs.single_observation_space, self._num, scribble=plan.scribble)
        self._ended = np.zeros(self._num, bool)
        self._latest: list[Any] = []

    def play(self) -> Played:
        before = [len(episodes) for episodes in self._recorded()]
        self._reset_all(seed=self._plan.seed)
        for _ in range(self._plan.steps):
            if self._rng.random() < self._plan.leave:
                self._reset_all(seed=int(self._rng.integers(1000)) if self._coin() else None)
            elif self._mode is Autoreset.DISABLED:
                self._reset_some()
            self._step()
        recorded = zip(self._recorded(), before, strict=True)
        return self._notes.close([episodes[count:] for episodes, count in recorded])

    def _step(self) -> None:
        actions = [self._space.sample() for _ in range(self._num)]
        batch = _batched(self._envs.single_action_space, actions)
        resets = self._ended if self._mode is Autoreset.NEXT_STEP else np.zeros(self._num, bool)
        observations, _, terminated, truncated, infos = self._envs.step(_spoiled(batch, resets))
        rows, self._ended = self._rows(observations), np.logical_or(terminated, truncated)
        handed = [observations]
        for env, action in enumerate(actions):
            if resets[env]:
                self._notes.begin(env, rows[env])
            elif self._ended[env] and self._mode is Autoreset.SAME_STEP:
                last = self._last(infos, env)
                handed.append(last)
                self._notes.go_on(env, action, last)
                self._notes.begin(env, rows[env])
            else:
                self._notes.go_on(env, action, rows[env])
        self._notes.keep(handed)

    def _reset_all(self, *, seed: int | None) -> None:
        observations, _ = self._envs.reset(seed=seed)
        for env, row in enumerate(self._rows(observations)):
            self._notes.begin(env, row, None if seed is None else seed + env)
        self._notes.keep(observations)
        self._ended = np.zeros(self._num, bool)

    def _reset_some(self) -> None:
        mask = self._ended | (self._rng.random(self._num) < self._plan.leave)
        if not mask.any():
            return
        seeds = [int(self._rng.integers(1000)) if self._coin() else None for _ in mask]
        latest, beliefs = self._latest, _beliefs(self._envs)
        # A seed outside of the mask must not count either.
        options = {"reset_mask": mask.copy()}
        observations, _ = self._envs.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        rows = self._rows(observations)
        self._check_kept(latest, rows, beliefs, ~mask)
        for env in np.flatnonzero(mask):
            self._notes.begin(int(env), rows[env], seeds[env])
        self._notes.keep(observations)
        self._ended &= ~mask

    def _check_kept(
        self, old: list[Any], new: list[Any], beliefs: AnyArray | None, kept: BoolArray
    ) -> None:
        """Outside of a mask nothing may move, not even in the last bit."""
        for env in np.flatnonzero(kept):
            if _bytes(old[env]) != _bytes(new[env]):
                self._notes.faults.append("reset_mask changes observations outside of the mask")
        after = _beliefs(self._envs)
        if beliefs is not None and after is not None and not _same(beliefs, after, kept):
            self._notes.faults.append("reset_mask changes beliefs outside of the mask")

    def _rows(self, observations: Any) -> list[Any]:
        rows = rows_of(self._envs.single_observation_space, observations, self._num)
        self._latest = [copy.deepcopy(row) for row in rows]
        return rows

    def _last(self, infos: dict[str, Any], env: int) -> Any:
        final = infos.get("final_obs")
        if final is None or final[env] is None:
            self._notes.faults.append("an episode ended without infos['final_obs']")
            return None
        return final[env]

    def _recorded(self) -> list[list[RecordedEpisode]]:
        return list(self._envs.unwrapped.call("recorded"))  # type: ignore[attr-defined]

    def _coin(self) -> bool:
        return bool(self._rng.random() < 1 / 2)


def play_sb3(venv: Any, plan: Plan) -> Played:
    """Play a `VecEnv` of Stable-Baselines3, with a `Recorder` in each environment."""
    rng, space = numpy_generator(plan.seed), _seeded(venv.action_space, plan.seed)
    notes = Notes(venv.observation_space, venv.num_envs, scribble=plan.scribble)
    before = [len(episodes) for episodes in venv.get_attr("recorded")]

    def rows(observations: Any) -> list[Any]:
        return rows_of(venv.observation_space, observations, venv.num_envs)

    def reset_all(seeds: list[int | None]) -> None:
        observations = venv.reset()
        for env, (row, seed) in enumerate(zip(rows(observations), seeds, strict=True)):
            notes.begin(env, row, seed)
        notes.keep(observations)

    reset_all(list(venv.seed(plan.seed)))
    for _ in range(plan.steps):
        if rng.random() < plan.leave:
            reset_all([None] * venv.num_envs)
        actions = [space.sample() for _ in range(venv.num_envs)]
        observations, _, dones, infos = venv.step(np.stack(actions))
        handed = [observations]
        for env, (action, row) in enumerate(zip(actions, rows(observations), strict=True)):
            if dones[env]:
                last = infos[env].get("terminal_observation")
                handed.append(last)
                notes.go_on(env, action, last)
                notes.begin(env, row)
            else:
                notes.go_on(env, action, row)
        notes.keep(handed)
    recorded = zip(venv.get_attr("recorded"), before, strict=True)
    return notes.close([episodes[count:] for episodes, count in recorded])


def _recorded(env: gym.Env[Any, Any]) -> list[RecordedEpisode]:
    found: list[RecordedEpisode] = env.get_wrapper_attr("recorded")
    return found


def _seeded(space: gym.Space[Any], seed: int) -> gym.Space[Any]:
    """A space of its own to draw actions from."""
    own = copy.deepcopy(space)
    own.seed(seed)
    return own


def _batched(space: gym.Space[Any], actions: list[Any]) -> Any:
    empty: Any = create_empty_array(space, len(actions))
    return concatenate(space, actions, empty)


def _spoiled(batch: Any, mask: BoolArray) -> Any:
    """Nonsense in place of some actions."""
    if isinstance(batch, dict):
        return {name: _spoiled(part, mask) for name, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_spoiled(part, mask) for part in batch)
    nonsense = np.nan if batch.dtype.kind == "f" else np.iinfo(batch.dtype).max
    batch[mask] = nonsense
    return batch


def _beliefs(envs: Any) -> AnyArray | None:
    """The beliefs of a `VectorLatentObservation`, (num_envs, k)."""
    latents = getattr(envs, "filter", None)
    belief = getattr(latents, "belief", None)
    if belief is None:
        return None
    return np.concatenate([part.cpu().numpy().reshape(envs.num_envs, -1) for part in belief], 1)


def _same(old: AnyArray, new: AnyArray, kept: BoolArray) -> bool:
    return old[kept].tobytes() == new[kept].tobytes()


def _bytes(row: Any) -> bytes:
    if isinstance(row, dict):
        return b"".join(_bytes(part) for part in row.values())
    if isinstance(row, tuple):
        return b"".join(_bytes(part) for part in row)
    return np.asarray(row).tobytes()
