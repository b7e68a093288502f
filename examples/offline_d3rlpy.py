"""Offline RL on latents with d3rlpy: IQL or TD3+BC on a pendulum that was recorded as pixels.

Run `pip install d3rlpy` and `latentwrap demo` first, then `python examples/offline_d3rlpy.py`. It
records the demo's agent with noise of several levels as pixels, writes them as latents, trains on
those alone, and plays the result in the pixel environment. A step whose file is there already is
not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import d3rlpy
import gymnasium as gym
import h5py
import numpy as np
from gymnasium import spaces

import latentwrap
from latentwrap.agents import SAC
from latentwrap.datasets import Dataset, NoisePolicy, collect
from latentwrap.encoding import encode

PENDULUM = "latentwrap/PixelPendulum-v0"
NOISE = (0.2, 0.4, 0.6, 1.0)
ALGORITHMS = {
    "IQL": d3rlpy.algos.IQLConfig,
    "TD3+BC": d3rlpy.algos.TD3PlusBCConfig,
}


class NoisyAgent:
    """A policy of mixed quality: each episode blends the agent's actions with noise of its own."""

    def __init__(self, model: Path, agent: Path, space: spaces.Box, seed: int) -> None:
        self._latents = latentwrap.LatentFilter(model)
        self._agent = SAC.load(agent / "best.safetensors", device="cpu")
        self._noise = NoisePolicy(space, seed)
        self._generator = np.random.default_rng(seed)
        self._share = 0.0
        self._action: Any = None

    def __call__(self, frames: np.ndarray, started: np.ndarray) -> np.ndarray:
        """One action for each environment."""
        latents = self._latents.step(self._action, frames, first=started)
        if started.any():
            self._share = self._generator.choice(NOISE)
        best, _ = self._agent.predict(latents, deterministic=True)
        self._action = (1 - self._share) * best + self._share * self._noise(frames, started)
        return self._action


def record(data: Path, arguments: argparse.Namespace) -> None:
    """Pixels, as a robot or a game would have recorded them."""

    def noisy_agent(space: spaces.Box, seed: int) -> NoisyAgent:
        return NoisyAgent(arguments.model, arguments.agent, space, seed)

    steps, seed = arguments.transitions, arguments.data_seed
    collect(PENDULUM, data, steps=steps, policy=noisy_agent, seed=seed, show_progress=True)


def read(latent: Path) -> d3rlpy.dataset.MDPDataset:
    """The flat file that `latentwrap encode --as d4rl` writes."""
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    with h5py.File(latent) as file:
        return d3rlpy.dataset.MDPDataset(**{name: file[name][:] for name in names})


def train(algorithm: str, dataset: d3rlpy.dataset.MDPDataset, steps: int, seed: int) -> Any:
    """A policy that has never seen the environment."""
    d3rlpy.seed(seed)
    # d3rlpy's actors act in [-1, 1]; the scaler stretches that to the action space.
    scaler = d3rlpy.preprocessing.MinMaxActionScaler(minimum=[-2.0], maximum=[2.0])
    learner = ALGORITHMS[algorithm](
        action_scaler=scaler, reward_scaler=d3rlpy.preprocessing.StandardRewardScaler()
    ).create(device="cpu:0")
    learner.fit(
        dataset,
        n_steps=steps,
        n_steps_per_epoch=min(steps, 1000),
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),  # else a folder of logs
        show_progress=False,
    )
    return learner


def play(learner: Any, model: Path, episodes: int, seed: int) -> list[float]:
    """Returns of whole episodes in the pixel environment, seen through the same model."""
    env = latentwrap.LatentObservation(gym.make(PENDULUM), model)
    returns = []
    for episode in range(episodes):
        latent, _ = env.reset(seed=seed + episode)
        total, over = 0.0, False
        while not over:
            action = learner.predict(latent[None])[0]
            latent, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/pendulum.safetensors"))
    parser.add_argument("--agent", type=Path, default=Path("runs/demo/agent"))
    parser.add_argument("--output", type=Path, default=Path("runs/offline"))
    parser.add_argument("--transitions", type=int, default=20_000)
    parser.add_argument("--data-seed", type=int, default=1)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=["IQL"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=20)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    arguments.output.mkdir(parents=True, exist_ok=True)
    data, latent = arguments.output / "mixed.h5", arguments.output / "mixed-d4rl.hdf5"
    if not data.exists():
        record(data, arguments)
    if not latent.exists():
        encode(arguments.model, data, latent, form="d4rl", resume=True, show_progress=True)
    returns, dataset = Dataset(data).returns(), read(latent)
    behaviour, best = float(np.mean(returns)), float(np.max(returns))
    print(f"Behaviour {behaviour:.0f}, its best episode {best:.0f}, {len(returns)} episodes.")
    for algorithm in arguments.algorithms:
        means = []
        for seed in arguments.seeds:
            learner = train(algorithm, dataset, arguments.steps, seed)
            scores = play(learner, arguments.model, arguments.episodes, 10_000 + 100 * seed)
            means.append(float(np.mean(scores)))
            print(
                f"{algorithm}, seed {seed}: {means[-1]:.0f} ± {np.std(scores):.0f}, "
                f"{means[-1] - behaviour:+.0f} on the behaviour."
            )
        print(
            f"Return {np.mean(means):.0f} with {algorithm}, {np.mean(means) - behaviour:+.0f} on "
            f"the behaviour, after {arguments.steps} steps."
        )


if __name__ == "__main__":
    main()
