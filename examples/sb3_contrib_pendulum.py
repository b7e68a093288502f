"""sb3-contrib on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/sb3_contrib_pendulum.py`.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from sb3_contrib import TQC, RecurrentPPO
from stable_baselines3.common.evaluation import evaluate_policy

import latentwrap

ALGORITHMS = {"TQC": (TQC, "MlpPolicy"), "RecurrentPPO": (RecurrentPPO, "MlpLstmPolicy")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--algorithm", default="TQC", choices=ALGORITHMS)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    env = gym.make("latentwrap/PixelPendulum-v0")
    env = latentwrap.LatentObservation(env, arguments.model)
    algorithm, policy = ALGORITHMS[arguments.algorithm]
    model = algorithm(policy, env, seed=arguments.seed, device="cpu")
    model.learn(arguments.steps, progress_bar=False)

    # SB3's evaluation carries the memory of a recurrent policy along.
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=arguments.episodes)
    print(
        f"Return {mean:.0f} ± {std:.0f} over {arguments.episodes} episodes "
        f"after {model.num_timesteps} steps."
    )


if __name__ == "__main__":
    main()
