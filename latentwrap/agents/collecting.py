"""A trained agent as the policy of a collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from latentwrap.agents.policy import Policy
from latentwrap.agents.run_folder import AgentRun
from latentwrap.agents.spaces import check_fits
from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import Explorer, check_epsilon
from latentwrap.models import LatentModel
from latentwrap.seeding import child_seeds
from latentwrap.types import AnyArray, FloatArray
from latentwrap.wrappers.acting import (
    CollectedHistory,
    CollectionObserver,
    ObservingPolicy,
    latent_observer,
)
from latentwrap.wrappers.observer import LatentObserver


class AgentPolicy:
    """The agent of a run of `latentwrap train`, to collect a dataset with.

    It filters the frames of all environments in one batch and samples its actions, as it does
    while it learns.

    Args:
        run: folder of the run.
        model: its latent model, if that has moved.
        epsilon: share of actions that are replaced by random ones, for a wider dataset.
        deterministic: act with the mean instead of a sample.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: epsilon is no share.

    Example:
        >>> from latentwrap.datasets import collect
        >>> policy = AgentPolicy("runs/car", epsilon=0.1)
        >>> collect("CarRacing-v3", "car.h5", steps=20_000, policy=policy)  # doctest: +SKIP
    """

    def __init__(
        self,
        run: str | Path,
        *,
        model: str | Path | None = None,
        epsilon: float = 0.0,
        deterministic: bool = False,
        device: str = "cpu",
    ) -> None:
        check_epsilon(epsilon)
        self._run, self._model, self._device = AgentRun(run), model, device
        self._epsilon, self._deterministic = epsilon, deterministic

    @property
    def name(self) -> str:
        """What the dataset calls the policy."""
        return f"agent:{self._run.folder}"

    @property
    def options(self) -> Mapping[str, Any]:
        """How it acts, as the dataset remembers it."""
        return {
            "model": self._run.load_model(self._model).fingerprint,
            "epsilon": self._epsilon,
            "deterministic": self._deterministic,
        }

    def fit(self, info: DatasetInfo) -> Callable[[int], ObservingPolicy]:
        """Load agent and model, and see that they fit the dataset.

        Raises:
            CheckpointError: one of them is missing, damaged or does not fit.
            EnvironmentMismatch: the model does not fit the environment.
        """
        model = self._run.load_model(self._model, device=self._device)
        observer = self._observer(model, info)
        policy = Policy.load(self._run.agent_path, device=self._device)
        stand_in = _Environment(observer(1).space, info.action.space, model.fingerprint)
        check_fits(policy, stand_in, source=str(self._run.agent_path))
        return lambda seed: self._policy(policy, observer, info, seed)

    def _observer(
        self, model: LatentModel, info: DatasetInfo
    ) -> Callable[[int], LatentObserver | CollectedHistory]:
        joint = self._run.read_card().joint
        if joint is None or joint.history is None:
            return partial(latent_observer, model, info)
        length = joint.history
        return lambda _: CollectedHistory(model, info, length)

    def _policy(
        self,
        policy: Policy,
        observer: Callable[[int], CollectionObserver],
        info: DatasetInfo,
        seed: int,
    ) -> ObservingPolicy:
        noise, exploring = child_seeds(seed, 2)
        policy.noise.manual_seed(noise)

        def act(observed: FloatArray) -> AnyArray:
            return policy.predict(observed, deterministic=self._deterministic)[0]

        explorer = Explorer(info.action.space, self._epsilon, exploring)
        return ObservingPolicy(observer, act, explorer)


@dataclass
class _Environment(gym.Env[Any, Any]):
    """Stands for an environment where only its spaces and its model matter."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    model_fingerprint: str | None
