"""Seconds of one SAC update, ours and Stable-Baselines3's in turn, on vectors.

    python benchmarks/sac_vs_sb3.py

Batch 256, 6 actions, hidden layers 256 and 256; medians over updates of each, taking turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.logger import Logger

from latentwrap import SAC

ACTIONS, TRANSITIONS = 6, 2000


class Vectors(gym.Env[np.ndarray, np.ndarray]):
    """Random observations that mean nothing."""

    def __init__(self, size: int) -> None:
        self.observation_space = spaces.Box(-10, 10, (size,))
        self.action_space = spaces.Box(-1, 1, (ACTIONS,))

    def reset(self, **arguments: Any) -> Any:
        """Begin; it never ends."""
        super().reset(**arguments)
        return self._draw(), {}

    def step(self, _action: np.ndarray) -> Any:
        """A random observation."""
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> np.ndarray:
        return self.np_random.normal(size=self.observation_space.shape).astype(np.float32)


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--updates", type=int, default=20, help="of each in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for size in (64, 288):
        seconds = race(size, arguments.rounds, arguments.updates)
        ratio = seconds["stable-baselines3"] / seconds["latentwrap"]
        results[size] = {**seconds, "ratio": ratio}
        print(
            f"{size}-d: latentwrap {1000 * seconds['latentwrap']:.2f} ms, "
            f"stable-baselines3 {1000 * seconds['stable-baselines3']:.2f} ms, ratio {ratio:.2f}"
        )
    if arguments.json:
        print(json.dumps(results))


def race(size: int, rounds: int, updates: int) -> dict[str, float]:
    """Median seconds of one update of each."""
    updaters = {"latentwrap": our_updater(size), "stable-baselines3": peer_updater(size)}
    times: dict[str, list[float]] = {name: [] for name in updaters}
    for turn in range(rounds + 1):
        for name, update in updaters.items():
            start = time.perf_counter()
            update(updates)
            if turn:  # the first turn warms up
                times[name].append((time.perf_counter() - start) / updates)
    return {name: statistics.median(values) for name, values in times.items()}


def our_updater(size: int) -> Callable[[int], None]:
    """A function that makes so many of our updates."""
    agent = SAC(Vectors(size), seed=0, device="cpu", learning_starts=TRANSITIONS)
    agent.learn(TRANSITIONS)

    def update(count: int) -> None:
        for _ in range(count):
            agent.learner.update(agent.replay.sample(256, agent.learner.device))

    return update


def peer_updater(size: int) -> Callable[[int], None]:
    """A function that makes so many of Stable-Baselines3's updates."""
    peer = SB3SAC("MlpPolicy", Vectors(size), seed=0, device="cpu", learning_starts=TRANSITIONS)
    peer.learn(TRANSITIONS)
    peer.set_logger(Logger(folder=None, output_formats=[]))

    def update(count: int) -> None:
        for _ in range(count):
            peer.train(gradient_steps=1, batch_size=256)

    return update


if __name__ == "__main__":
    main()
