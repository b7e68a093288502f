"""A policy of Stable-Baselines3, to collect a dataset with; its file is never unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from latentwrap.datasets.layout import DatasetInfo
from latentwrap.datasets.policies import Explorer, VectorPolicy, check_epsilon
from latentwrap.errors import CheckpointError
from latentwrap.integrations.sb3_files import load_policy
from latentwrap.models import LatentModel, load_model
from latentwrap.seeding import child_seeds
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames
from latentwrap.wrappers.acting import ObservingPolicy, latent_observer


class SB3Policy:
    """A policy of Stable-Baselines3 that saw latents, or frames, while it was trained.

    The file is read without `load`, which would run code that the file holds: SAC, TD3, DDPG, PPO,
    A2C and DQN with the `MlpPolicy` or `CnnPolicy` are rebuilt from their settings and weights. A
    model with parts of your own is loaded by yourself and passed instead of a path.

    Args:
        source: the .zip file that `save` wrote, or a loaded model.
        model: checkpoint of the latent model, if it saw latents; standardised ones, of means.
        epsilon: share of actions that are replaced by random ones, for a wider dataset.
        deterministic: act with the mean instead of a sample.
        device: of the latent model: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: epsilon is no share.

    Example:
        >>> from latentwrap.datasets import collect
        >>> policy = SB3Policy("car_sac.zip", model="car.safetensors")
        >>> collect("CarRacing-v3", "car.h5", steps=20_000, policy=policy)  # doctest: +SKIP
    """

    def __init__(
        self,
        source: Any,
        *,
        model: str | Path | None = None,
        epsilon: float = 0.0,
        deterministic: bool = False,
        device: str = "cpu",
    ) -> None:
        check_epsilon(epsilon)
        self._source, self._model, self._device = source, model, device
        self._epsilon, self._deterministic = epsilon, deterministic

    @property
    def name(self) -> str:
        """What the dataset calls the policy."""
        source = self._source
        return f"sb3:{source if isinstance(source, str | Path) else type(source).__name__}"

    @property
    def options(self) -> Mapping[str, Any]:
        """How it acts, as the dataset remembers it."""
        model = None if self._model is None else str(self._model)
        return {"model": model, "epsilon": self._epsilon, "deterministic": self._deterministic}

    def fit(self, info: DatasetInfo) -> Callable[[int], VectorPolicy]:
        """Load the policy, and see that it fits the dataset.

        Raises:
            CheckpointError: a file is missing, damaged or does not fit.
            EnvironmentMismatch: the latent model does not fit the environment.
        """
        policy = self._load(info.action.space)
        space = policy.observation_space
        if _is_image(space):
            order = _order(space, info)
            return lambda seed: self._on_frames(policy, order, info, seed)
        model = self._latents(space, info)
        return lambda seed: self._on_latents(policy, model, info, seed)

    def _load(self, actions: spaces.Space[Any]) -> Any:
        source = self._source
        policy = load_policy(source, actions) if isinstance(source, str | Path) else source.policy
        if policy.action_space != actions:
            raise CheckpointError(
                f"{self.name} acts in {policy.action_space}, the environment takes {actions}: "
                "train it on such an environment."
            )
        return policy

    def _latents(self, space: spaces.Space[Any], info: DatasetInfo) -> LatentModel:
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise CheckpointError(
                f"{self.name} observes {space}, but a policy to collect with sees latents, or one "
                "frame of the dataset."
            )
        if self._model is None:
            raise CheckpointError(
                f"{self.name} observes {space.shape[0]} numbers, latents that only their model can "
                "make: name its checkpoint by model (--model)."
            )
        model = load_model(self._model, device=self._device)
        found = latent_observer(model, info, num=1).space.shape
        if found != space.shape:
            raise CheckpointError(
                f"{self.name} observes {space.shape[0]} numbers, {self._model} gives {found[0]}: "
                "name the model that it was trained with."
            )
        return model

    def _on_latents(
        self, policy: Any, model: LatentModel, info: DatasetInfo, seed: int
    ) -> ObservingPolicy:
        noise, exploring = child_seeds(seed, 2)
        sampler = _Sampler(policy, noise, deterministic=self._deterministic)
        explorer = Explorer(info.action.space, self._epsilon, exploring)
        return ObservingPolicy(partial(latent_observer, model, info), sampler, explorer)

    def _on_frames(
        self, policy: Any, order: tuple[int, ...], info: DatasetInfo, seed: int
    ) -> VectorPolicy:
        noise, exploring = child_seeds(seed, 2)
        sampler = _Sampler(policy, noise, deterministic=self._deterministic)
        explorer = Explorer(info.action.space, self._epsilon, exploring)
        return _FramePolicy(lambda frames: explorer(sampler(frames.transpose(order))))


class _Sampler:
    """Actions for a batch of observations, drawn from a stream of random numbers of its own.

    Stable-Baselines3 draws from torch's global generator; that is put back as it was.
    """

    def __init__(self, policy: Any, seed: int, *, deterministic: bool) -> None:
        self._policy, self._deterministic = policy, deterministic
        self._state = torch.Generator().manual_seed(seed).get_state()

    def __call__(self, observations: AnyArray) -> AnyArray:
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._state)
            if getattr(self._policy, "use_sde", False):
                self._policy.reset_noise(len(observations))
            actions, _ = self._policy.predict(observations, deterministic=self._deterministic)
            self._state = torch.get_rng_state()
        found: AnyArray = actions
        return found


class _FramePolicy:
    def __init__(self, act: Callable[[Frames], AnyArray]) -> None:
        self._act = act

    def act_with_vectors(
        self,
        frames: Frames,
        started: BoolArray,  # noqa: ARG002 - it has no memory
        vectors: FloatArray | None,  # noqa: ARG002 - it sees none
    ) -> AnyArray:
        return self._act(frames)


def _is_image(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _order(space: spaces.Space[Any], info: DatasetInfo) -> tuple[int, ...]:
    """Axes of a batch of frames as the policy has them: (K, H, W, C) or (K, C, H, W)."""
    height, width, channels = info.frame.shape
    for order in ((0, 3, 1, 2), (0, 1, 2, 3)):
        if space.shape == tuple(info.frame.shape[axis - 1] for axis in order[1:]):
            return order
    raise CheckpointError(
        f"The policy observes images {space.shape}, the dataset would hold frames {height}×{width} "
        f"of {channels} channels: name their size by --size; stacked frames are not offered."
    )
