"""Environments of noise whose episodes end at random, and the latents that they must give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, OneHot, TensorSpec, Unbounded
from torchrl.envs import EnvBase, GymWrapper, TransformedEnv

from latentwrap import LatentFilter
from latentwrap.actions import ActionSpec
from latentwrap.integrations.torchrl import LatentTransform
from latentwrap.models import LatentModel, build_model
from latentwrap.normalizer import LatentNormalizer
from latentwrap.pixels import FrameSpec

SIZE = 32
TINY = {"network": "patch", "patch": 8, "widths": (4, 8), "features": 12, "hidden": (16, 16)}
KINDS = {
    "rssm": {**TINY, "memory": 5, "stochastic": 3},
    "slac": {**TINY, "z1": 3, "z2": 5},
    "deterministic": {**TINY, "z": 8},
}
BOX = spaces.Box(-2, 2, (1,), np.float32)
LONGEST = 5
NEVER_USED = 7
"""What the frames of environments that neither reset nor step are filled with."""


def tiny_model(kind: str = "rssm", space: spaces.Space = BOX, **options: Any) -> LatentModel:
    """An untrained model with statistics: it filters, quickly, whatever it sees."""
    model = build_model(
        kind,
        KINDS[kind],
        frame_spec=FrameSpec(height=16, width=16, source_height=SIZE, source_width=SIZE),
        action_spec=ActionSpec(space),
        generator=torch.Generator().manual_seed(1),
        **options,
    )
    rng, size = np.random.default_rng(1), model.latent_size
    mean, std = rng.normal(size=size), rng.uniform(0.2, 1, size)
    model.normalizer = LatentNormalizer(np.float32(mean), np.float32(std))
    return model.eval()


class NoiseEnv(gym.Env):
    """One environment: noise as frames, episodes of random lengths, both from `seed`.

    Attributes:
        log: what happened: a first frame, or an action and its frame.
    """

    def __init__(self, seed: int, space: spaces.Space = BOX) -> None:
        self.observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = space
        self.noise, self.log = np.random.default_rng(seed), []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.left = int(self.noise.integers(1, LONGEST + 1))
        return self._look(None), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        over, kind = self.left == 0, int(self.noise.integers(3))
        return self._look(np.array(action)), 1.0, over and kind != 0, over and kind != 1, {}

    def _look(self, action: Any) -> np.ndarray:
        frame = noise(self.noise)
        self.log.append((action, frame))
        return frame


class NoiseBatch(EnvBase):
    """Several of them as one batch-locked TorchRL environment, which keeps a log of each.

    Attributes:
        log: for each environment what happened: a first frame, or an action and its frame.
    """

    def __init__(self, seed: int, batch: Sequence[int], encoding: str = "box") -> None:
        super().__init__(device="cpu", batch_size=torch.Size(batch))
        self.observation_spec = Composite(
            pixels=Unbounded((*batch, SIZE, SIZE, 3), dtype=torch.uint8), shape=batch
        )
        self.action_spec = action_spec(encoding, batch)
        self.reward_spec = Unbounded((*batch, 1))
        self.noise, self.encoding = np.random.default_rng(seed), encoding
        self.log: list[list[Any]] = [[] for _ in range(self.batch_size.numel())]
        self.left = np.zeros(len(self.log), int)

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        chosen = self._chosen(tensordict, "_reset")
        self.left[chosen] = self.noise.integers(1, LONGEST + 1, len(chosen))
        frames = self._frames(chosen)
        for i in chosen:
            self.log[i].append((None, frames[i]))
        return self._tensordict(pixels=frames, done=np.zeros(len(self.log), bool))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        chosen = self._chosen(tensordict, "_step")
        self.left[chosen] -= 1
        actions, frames = self._taken(tensordict["action"]), self._frames(chosen)
        for i in chosen:
            self.log[i].append((actions[i], frames[i]))
        over = np.isin(np.arange(len(self.log)), chosen) & (self.left <= 0)
        rewards = np.ones(len(self.log), np.float32)
        return self._tensordict(pixels=frames, done=over, terminated=over, reward=rewards)

    def _set_seed(self, seed: int | None) -> None:
        """Everything is drawn from the generator made at the start."""

    def _chosen(self, tensordict: TensorDictBase | None, key: str) -> np.ndarray:
        mask = None if tensordict is None else tensordict.get(key, None)
        count = len(self.log)
        return np.arange(count) if mask is None else np.flatnonzero(mask.reshape(count).numpy())

    def _frames(self, chosen: np.ndarray) -> np.ndarray:
        frames = np.full((len(self.log), SIZE, SIZE, 3), NEVER_USED, np.uint8)
        for i in chosen:
            frames[i] = noise(self.noise)
        return frames

    def _taken(self, action: torch.Tensor) -> np.ndarray:
        # Written out, for the spec's own `to_numpy` is what the transform decodes with.
        if self.encoding == "onehot":
            return (action.reshape(len(self.log), -1) * torch.arange(3)).sum(1).numpy()
        shape = (len(self.log), -1) if self.encoding == "box" else (len(self.log),)
        return action.reshape(shape).numpy()

    def _tensordict(self, **values: np.ndarray) -> TensorDictBase:
        values.setdefault("terminated", values["done"])
        shaped = {
            key: torch.as_tensor(value).reshape(
                *self.batch_size, *(value.shape[1:] if key == "pixels" else (1,))
            )
            for key, value in values.items()
        }
        return TensorDict(shaped, batch_size=self.batch_size)


def noise(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def noisy(seed: int, **options: Any) -> EnvBase:
    """One environment, with the transform where there are options of it."""
    env = GymWrapper(NoiseEnv(seed))
    return TransformedEnv(env, LatentTransform(**options)) if options else env


def action_spec(encoding: str, batch: Sequence[int]) -> TensorSpec:
    if encoding == "onehot":
        return OneHot(3, shape=(*batch, 3))
    if encoding == "categorical":
        return Categorical(3, shape=tuple(batch))
    return Bounded(-2, 2, (*batch, 1))


def filtered(log: list[Any], model: LatentModel, **options: Any) -> list[np.ndarray]:
    """The latents of one environment, by the filter without an environment, one at a time."""
    filter_ = LatentFilter(model, **options)
    return [
        filter_.reset(frame) if action is None else filter_.step(action, frame)
        for action, frame in log
    ]
