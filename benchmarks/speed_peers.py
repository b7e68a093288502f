"""What others do in the races of `speed.py`."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

ACTION_SIZE, TRANSITIONS, BATCH, SIZE = 6, 2000, 256, 64


class Observations(gym.Env[Any, Any]):
    """Random observations that mean nothing."""

    def __init__(self, space: spaces.Box) -> None:
        self.observation_space = space
        self.action_space = spaces.Box(-1, 1, (ACTION_SIZE,))

    def reset(self, **arguments: Any) -> Any:
        """Begin; it never ends."""
        super().reset(**arguments)
        return self._draw(), {}

    def step(self, _action: Any) -> Any:
        """A random observation."""
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> Any:
        shape, dtype = self.observation_space.shape, self.observation_space.dtype
        if dtype == np.uint8:
            return self.np_random.integers(0, 256, shape, np.uint8)
        return self.np_random.normal(size=shape).astype(np.float32)


def vectors(size: int) -> Observations:
    """Of so many numbers."""
    return Observations(spaces.Box(-10, 10, (size,)))


def pixels() -> Observations:
    """Three frames of 64×64×3, channels first."""
    return Observations(spaces.Box(0, 255, (9, SIZE, SIZE), np.uint8))


def sb3_update(env: str, size: int = 0, updates: int = 1) -> Callable[[], object]:
    """Stable-Baselines3's SAC."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    made = pixels() if env == "pixels" else vectors(size)
    policy = "CnnPolicy" if env == "pixels" else "MlpPolicy"
    steps = 300 if env == "pixels" else TRANSITIONS
    agent = SAC(policy, made, seed=0, device="cpu", learning_starts=steps, buffer_size=steps)
    agent.learn(steps)
    agent.set_logger(Logger(folder=None, output_formats=[]))
    return lambda: agent.train(gradient_steps=updates, batch_size=BATCH)


def sbx_update(size: int, updates: int) -> Callable[[], object]:
    """SBX's SAC."""
    from sbx import SAC
    from stable_baselines3.common.logger import Logger

    agent = SAC("MlpPolicy", vectors(size), seed=0, learning_starts=TRANSITIONS)
    agent.learn(TRANSITIONS)
    agent.set_logger(Logger(folder=None, output_formats=[]))
    return lambda: agent.train(gradient_steps=updates, batch_size=BATCH)


def slac_pytorch(path: Path, work: str) -> Callable[[], object]:
    """slac.pytorch: `explore`, `update_latent`, `update_sac`, or both updates in turn."""
    sys.path.insert(0, str(path))
    warnings.simplefilter("ignore")  # it uses deprecated TorchScript classes
    algo, trainer = (importlib.import_module(f"slac.{name}") for name in ("algo", "trainer"))
    where = torch.device("cpu")
    agent = algo.SlacAlgorithm((3, SIZE, SIZE), (ACTION_SIZE,), 1, where, 0, buffer_size=1000)
    observed = _fill(agent, trainer.SlacObservation((3, SIZE, SIZE), (ACTION_SIZE,), 8))
    if work == "explore":
        return lambda: agent.explore(observed)
    names = {"model": ["update_latent"], "agent": ["update_sac"]}
    updates = [getattr(agent, name) for name in names.get(work, ["update_latent", "update_sac"])]

    def update() -> None:
        for each in updates:
            each(_Nobody())

    return update


class _Nobody:
    def add_scalar(self, *_told: object) -> None:
        """Nobody listens."""


def _fill(agent: Any, observed: Any) -> Any:
    rng = np.random.default_rng(0)

    def draw() -> Any:
        return rng.integers(0, 256, (3, SIZE, SIZE), np.uint8)

    for _ in range(10):
        state = draw()
        observed.reset_episode(state)
        agent.buffer.reset_episode(state)
        for t in range(50):
            action, state = rng.uniform(-1, 1, ACTION_SIZE).astype(np.float32), draw()
            observed.append(state, action)
            agent.buffer.append(action, 0.0, False, state, t == 49)
    return observed
