"""Stable-Baselines3's SAC on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/sb3_pendulum.py`.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import stable_baselines3

import latentwrap
from latentwrap.agents import evaluate_policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    env = gym.make("latentwrap/PixelPendulum-v0")
    env = latentwrap.LatentObservation(env, arguments.model)
    model = stable_baselines3.SAC("MlpPolicy", env, seed=arguments.seed, device="cpu")
    model.learn(arguments.steps, progress_bar=False)

    result = evaluate_policy(model, env, episodes=20, seed=1000)
    print(f"Return {result.mean:.0f} ± {result.std:.0f} over 20 episodes.")


if __name__ == "__main__":
    main()
