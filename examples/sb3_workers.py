"""Stable-Baselines3's SAC on pixels from several processes, and one model for all of them.

The workers send frames; the latents are computed here, in one batched call. Run `latentwrap demo`
first, then `python examples/sb3_workers.py`.
"""

from __future__ import annotations

import argparse

from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import latentwrap
from latentwrap.integrations.sb3 import VecLatentObservation

WORKERS = {
    "SubprocVecEnv": (SubprocVecEnv, {"start_method": "spawn"}),
    "DummyVecEnv": (DummyVecEnv, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--envs", type=int, default=2)
    parser.add_argument("--workers", default="SubprocVecEnv", choices=WORKERS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    vec_env_cls, vec_env_kwargs = WORKERS[arguments.workers]
    frames = make_vec_env(
        "latentwrap/PixelPendulum-v0",
        n_envs=arguments.envs,
        seed=arguments.seed,
        wrapper_class=latentwrap.RenderFrame,
        vec_env_cls=vec_env_cls,
        vec_env_kwargs=vec_env_kwargs,
    )
    env = VecLatentObservation(frames, arguments.model)
    model = SAC("MlpPolicy", env, gradient_steps=-1, seed=arguments.seed, device="cpu")
    model.learn(arguments.steps, progress_bar=False)

    mean, std = evaluate_policy(model, env, n_eval_episodes=arguments.episodes)
    env.close()
    print(
        f"Return {mean:.0f} ± {std:.0f} over {arguments.episodes} episodes "
        f"after {model.num_timesteps} steps."
    )


if __name__ == "__main__":
    main()
