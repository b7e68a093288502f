"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905) with the habits of SB3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from latentwrap import storage
from latentwrap.actions import space_from_json
from latentwrap.agents.callbacks import Callbacks
from latentwrap.agents.config import SACConfig
from latentwrap.agents.kinds import kind_of
from latentwrap.agents.learner import Learner, Sight
from latentwrap.agents.online import OnlineAgent
from latentwrap.agents.policy import FORMAT, Policy, agent_files_named
from latentwrap.agents.replay import Replay, flat
from latentwrap.agents.spaces import (
    check_fits,
    checked_actions,
    checked_observations,
    fingerprint_of,
)
from latentwrap.agents.stepping import Played, Stepper
from latentwrap.allocator import keep_freed_memory
from latentwrap.devices import resolve_device
from latentwrap.errors import CheckpointError, EnvironmentMismatch
from latentwrap.interrupts import InterruptFlag
from latentwrap.seeding import child_seeds
from latentwrap.types import AnyArray, FloatArray, IntArray
from latentwrap.wrappers.workers import Environment


class SAC(OnlineAgent):
    """Learns a policy from any Box observation: a squashed Gaussian one, or a categorical one.

    The former acts in a Box, the latter in a Discrete space (Christodoulou 2019,
    arXiv:1910.07207).

    Args:
        env: a single environment, or a `gymnasium.vector.VectorEnv` in any autoreset mode, with a
            Box observation and a Discrete or finite Box action.
        seed: of weights, noise, replay, random actions and the first reset; `None` draws one.
        device: `auto`, `cpu` or `cuda`.
        config: hyperparameters; `None` takes the defaults.
        overrides: fields of `SACConfig` by name.

    Attributes:
        num_timesteps: environment steps so far, those of all environments together.
        policy: chooses the actions.
        interrupted: whether Ctrl-C ended the latest `learn`.

    Raises:
        EnvironmentMismatch: other observation or action spaces.
        ConfigError: an unknown or invalid hyperparameter.

    Example:
        >>> import gymnasium, latentwrap
        >>> env = gymnasium.make("Pendulum-v1")
        >>> agent = latentwrap.SAC(env, seed=0, batch_size=32).learn(200)
        >>> observation, _ = env.reset(seed=0)
        >>> action, _ = agent.predict(observation, deterministic=True)
        >>> action.shape
        (1,)
        >>> many = gymnasium.make_vec("CartPole-v1", num_envs=4)
        >>> agent = latentwrap.SAC(many, seed=0, batch_size=32).learn(200)
        >>> agent.predict(observation=many.reset(seed=0)[0])[0].shape
        (4,)
    """

    def __init__(
        self,
        env: Environment,
        *,
        seed: int | None = None,
        device: str = "auto",
        config: SACConfig | None = None,
        **overrides: Any,
    ) -> None:
        self.env: Environment | None = env
        where = resolve_device(device)
        if where.type == "cpu":
            keep_freed_memory()
        self.observation_space = checked_observations(env)
        self.action_space = checked_actions(env)
        self.config = (config or SACConfig()).replace(**overrides)
        self.num_timesteps = 0
        self.interrupted = False
        learner_seed, replay_seed, space_seed, self._reset_seed = child_seeds(seed, 4)
        self._kind = kind_of(self.action_space)
        size = int(np.prod(self.observation_space.shape))
        sight = Sight.of_all(size)
        self.learner = Learner(self._kind, sight, self.config, device=where, seed=learner_seed)
        self.policy = Policy.of(self.learner, self._kind, self.observation_space, self.action_space)
        self.policy.model_fingerprint = fingerprint_of(env)
        self.replay = Replay(
            self.config.buffer_size,
            size,
            self._kind.size,
            seed=replay_seed,
            device=where,
        )
        self.action_space.seed(space_seed)

    def remember(
        self, observations: AnyArray, actions: AnyArray, rewards: AnyArray, *, terminated: bool
    ) -> None:
        """Put an episode that another policy played into the replay.

        Args:
            observations: (T+1, ...), as the observation space has them.
            actions: as the environment took them, (T, ...).
            rewards: (T,).
            terminated: whether the last transition truly ended the episode.
        """
        last = len(actions) - 1
        for t, (action, reward) in enumerate(zip(actions, rewards, strict=True)):
            self.replay.add(
                flat(observations[t]),
                self._kind.to_row(action),
                float(reward),
                flat(observations[t + 1]),
                terminated=terminated and t == last,
            )

    @property
    def model_fingerprint(self) -> str | None:
        """The latent model whose latents it learned from, where there is one."""
        return self.policy.model_fingerprint

    def save(self, path: str | Path, *, replay: bool = True) -> None:
        """Write everything needed to act and to go on learning into one safetensors file.

        Args:
            path: replaced if it exists.
            replay: keep the transitions too; without them learning starts from an empty replay.
        """
        tensors, document = self.learner.state(), self._document()
        if replay:
            stored, document["replay"] = self.replay.state()
            tensors |= {f"replay.{name}": column for name, column in stored.items()}
        storage.save(path, tensors, document)

    def save_policy(self, path: str | Path) -> None:
        """Save without the replay."""
        self.save(path, replay=False)

    @classmethod
    def load(cls, path: str | Path, env: Environment | None = None, *, device: str = "auto") -> SAC:
        """Load an agent that `save` wrote; nothing is unpickled.

        Args:
            path: the file.
            env: to act and learn in; `None` can only `predict`.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            CheckpointError: missing, foreign or damaged file; or the environment's spaces or
                latent model are not those that the agent was trained with.
        """
        stored = storage.load(path, file_format=FORMAT, what="agent")
        document = stored.document
        if document.get("joint"):
            raise CheckpointError(
                f"The agent {path} learned together with its model: take Policy.load to act, or "
                "SLAC.load of its folder to learn on."
            )
        with agent_files_named(path):
            observations = space_from_json(document["observation_space"])
            actions = space_from_json(document["action_space"])
            agent = cls(
                _Spaces(observations, actions),
                seed=0,
                device=device,
                config=SACConfig.parse(document["config"]),
            )
            agent._restore(stored)
        agent.policy.model_fingerprint = document["model_fingerprint"]
        agent.env = None
        if env is not None:
            agent.set_env(env, source=str(path))
        return agent

    def set_env(self, env: Environment, *, source: str = "the agent") -> None:
        """Act and learn in another environment of the same kind.

        Raises:
            CheckpointError: other spaces, or another latent model.
        """
        check_fits(self, env, source=source)
        self.env = env

    def _interact(
        self, goal: int, callbacks: Callbacks, interrupt: InterruptFlag, *, show: bool
    ) -> None:
        stepper = Stepper(self._require_env())
        stepper.begin(int(self._reset_seed) if self.num_timesteps == 0 else None)

        def see(numbers: IntArray) -> Tensor:
            return torch.from_numpy(stepper.observations[numbers])

        self._play(stepper, see, goal, callbacks, interrupt, show=show)

    def _keep(self, played: Played, row: FloatArray) -> None:
        self.replay.add(
            played.observation,
            row,
            played.reward,
            played.next_observation,
            terminated=played.terminated,
        )

    def _learn_after(
        self,
        step: int,
        callbacks: Callbacks,
        interrupt: InterruptFlag,  # noqa: ARG002 - it is over soon
        *,
        show: bool,  # noqa: ARG002 - there is nothing to show but steps
    ) -> None:
        if step <= self.config.learning_starts:
            return
        for _ in range(self.config.gradient_steps):
            metrics = self.learner.update(self.replay.sample(self.config.batch_size))
            callbacks.on_update(self, metrics)

    def _document(self) -> dict[str, Any]:
        return {**self.policy.describe(self.config), "num_timesteps": self.num_timesteps}

    def _restore(self, stored: storage.Stored) -> None:
        self.learner.restore(stored.tensors)
        self.num_timesteps = int(stored.document["num_timesteps"])
        if "replay" in stored.document:
            prefix = "replay."
            columns = {
                name.removeprefix(prefix): column
                for name, column in stored.tensors.items()
                if name.startswith(prefix)
            }
            self.replay.restore(columns, stored.document["replay"])

    def _require_env(self) -> Environment:
        if self.env is None:
            raise EnvironmentMismatch(
                "Learning requires an environment: pass env to SAC.load, or call set_env."
            )
        return self.env


class _Spaces(gym.Env[Any, Any]):
    """Stands for an environment where only its spaces matter."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions
