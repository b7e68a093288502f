"""RLlib's PPO with many environment runners, on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/rllib_runners.py --runners 4 --envs 8`. With
`--address auto` the runners are spread over the machines of a Ray cluster, each of which must have
the checkpoint under the same path.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ray
from ray.rllib.algorithms.ppo import PPOConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--runners", type=int, default=2)
    parser.add_argument("--envs", type=int, default=4, help="in each runner")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--address", help="of a Ray cluster, or auto; else one is started here")
    arguments = parser.parse_args()

    ckpt = str(Path(arguments.model).resolve())
    latents = {"env_id": "latentwrap/PixelPendulum-v0", "ckpt": ckpt}
    config = (
        PPOConfig()
        .environment("latentwrap:latentwrap/Latent-v0", env_config=latents)
        # One model in each runner filters the frames of all its environments in one call. Ray
        # gives a runner one CPU, and torch in it one thread.
        .env_runners(
            num_env_runners=arguments.runners,
            num_envs_per_env_runner=arguments.envs,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .training(
            train_batch_size_per_learner=256 * arguments.runners * arguments.envs,
            minibatch_size=256,
            num_epochs=10,
            lr=1e-3,
            gamma=0.9,
        )
        # The interval lies far beyond the end: evaluate only when asked to.
        .evaluation(evaluation_interval=1_000_000, evaluation_duration=arguments.episodes)
        .evaluation(evaluation_config={"explore": False})
        .debugging(seed=arguments.seed)
    )
    if arguments.address:
        ray.init(address=arguments.address)
    else:
        ray.init(num_cpus=arguments.runners + 1, include_dashboard=False)
    ppo, steps, started = config.build_algo(), 0, time.monotonic()
    while steps < arguments.steps:
        steps = int(ppo.train()["env_runners"]["num_env_steps_sampled_lifetime"])
    rate = steps / (time.monotonic() - started)
    print(f"{rate:.0f} steps a second in {arguments.runners} runners, learning included.")

    result = ppo.evaluate()["env_runners"]["episode_return_mean"]
    ppo.stop()
    print(f"Return {result:.0f} over {arguments.episodes} episodes after {steps} steps.")


if __name__ == "__main__":
    main()
