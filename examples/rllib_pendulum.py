"""RLlib's SAC, with two environment runners, on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/rllib_pendulum.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ray
from ray.rllib.algorithms.sac import SACConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    # Each runner is a process of its own: it imports what stands before the colon, and finds
    # the checkpoint by its absolute path.
    ckpt = str(Path(arguments.model).resolve())
    latents = {"env_id": "latentwrap/PixelPendulum-v0", "ckpt": ckpt}
    config = (
        SACConfig()
        .environment("latentwrap:latentwrap/Latent-v0", env_config=latents)
        .env_runners(num_env_runners=2)
        .training(num_steps_sampled_before_learning_starts=500, actor_lr=3e-4)
        # The interval lies far beyond the end: evaluate only when asked to.
        .evaluation(evaluation_interval=1_000_000, evaluation_duration=arguments.episodes)
        .evaluation(evaluation_config={"explore": False})
        .debugging(seed=arguments.seed)
    )
    ray.init(include_dashboard=False)
    sac, steps = config.build_algo(), 0
    while steps < arguments.steps:
        steps = int(sac.train()["env_runners"]["num_env_steps_sampled_lifetime"])

    result = sac.evaluate()["env_runners"]["episode_return_mean"]
    sac.stop()
    print(f"Return {result:.0f} over {arguments.episodes} episodes after {steps} steps.")


if __name__ == "__main__":
    main()
