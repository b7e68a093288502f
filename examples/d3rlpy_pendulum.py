"""d3rlpy's SAC, online, on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/d3rlpy_pendulum.py`.
"""

from __future__ import annotations

import argparse

import d3rlpy
import gymnasium as gym

import latentwrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    env = gym.make("latentwrap/PixelPendulum-v0")
    env = latentwrap.LatentObservation(env, arguments.model)
    d3rlpy.seed(arguments.seed)
    d3rlpy.envs.seed_env(env, arguments.seed)

    # d3rlpy's actors act in [-1, 1]; the scaler stretches that to the action space.
    scaler = d3rlpy.preprocessing.MinMaxActionScaler()
    sac = d3rlpy.algos.SACConfig(action_scaler=scaler).create(device="cpu:0")
    buffer = d3rlpy.dataset.create_fifo_replay_buffer(limit=arguments.steps, env=env)
    sac.fit_online(
        env,
        buffer,
        n_steps=arguments.steps,
        random_steps=500,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),  # else a folder of logs
        show_progress=False,
    )

    evaluate = d3rlpy.metrics.EnvironmentEvaluator(env, n_trials=arguments.episodes)
    print(
        f"Return {evaluate(sac, buffer):.0f} over {arguments.episodes} episodes "
        f"after {arguments.steps} steps."
    )


if __name__ == "__main__":
    main()
