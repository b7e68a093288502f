"""Tianshou's SAC on the latents of a pendulum seen only as pixels, two environments at a time.

Run `latentwrap demo` first, then `python examples/tianshou_pendulum.py`.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import torch
from tianshou.algorithm import SAC
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, SubprocVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic

import latentwrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", action="store_true", help="one process per environment")
    arguments = parser.parse_args()

    def make_env() -> gym.Env:
        env = gym.make("latentwrap/PixelPendulum-v0")
        return latentwrap.LatentObservation(env, arguments.model)

    torch.manual_seed(arguments.seed)
    envs = (SubprocVectorEnv if arguments.workers else DummyVectorEnv)([make_env, make_env])
    envs.seed(arguments.seed)
    # Ask a single environment for its spaces: a DummyVectorEnv tells those of the pixels.
    env = make_env()
    algorithm = make_sac(env.observation_space.shape, env.action_space)

    collector = Collector(algorithm, envs, VectorReplayBuffer(arguments.steps, len(envs)))
    collector.reset()
    start = collector.collect(n_step=min(500, arguments.steps // 2), random=True)
    training = algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=arguments.steps - start.n_collected_steps,
            collection_step_num_env_steps=len(envs),
            batch_size=256,
            verbose=False,
        )
    )
    steps = start.n_collected_steps + training.train_step

    envs.seed(1000)
    evaluation = Collector(algorithm, envs)
    evaluation.reset()
    returns = evaluation.collect(n_episode=arguments.episodes).returns
    envs.close()
    print(
        f"Return {returns.mean():.0f} ± {returns.std():.0f} over {arguments.episodes} episodes "
        f"after {steps} steps."
    )


def make_sac(state: tuple[int, ...], actions: gym.spaces.Box) -> SAC:
    """SAC with the usual two layers of 256 units and a tuned temperature."""
    hidden = (256, 256)
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(state_shape=state, hidden_sizes=hidden),
        action_shape=actions.shape,
        unbounded=True,
        conditioned_sigma=True,
    )
    critics = [
        ContinuousCritic(
            preprocess_net=Net(
                state_shape=state, action_shape=actions.shape, hidden_sizes=hidden, concat=True
            )
        )
        for _ in range(2)
    ]
    adam = AdamOptimizerFactory(lr=3e-4)
    return SAC(
        policy=SACPolicy(actor=actor, action_space=actions),
        policy_optim=adam,
        critic=critics[0],
        critic_optim=adam,
        critic2=critics[1],
        critic2_optim=adam,
        alpha=AutoAlpha(target_entropy=-float(actions.shape[0]), log_alpha=0.0, optim=adam),
    )


if __name__ == "__main__":
    main()
