"""SBX, the JAX edition of Stable-Baselines3, on latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/sbx_pendulum.py`.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import sbx

import latentwrap
from latentwrap.agents import evaluate_policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    env = gym.make("latentwrap/PixelPendulum-v0")
    env = latentwrap.LatentObservation(env, arguments.model)
    model = sbx.SAC("MlpPolicy", env, seed=arguments.seed)
    model.learn(arguments.steps, progress_bar=False)

    result = evaluate_policy(model, env, episodes=arguments.episodes, seed=1000)
    print(
        f"Return {result.mean:.0f} ± {result.std:.0f} over {arguments.episodes} episodes "
        f"after {model.num_timesteps} steps."
    )


if __name__ == "__main__":
    main()
