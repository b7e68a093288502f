"""skrl's SAC on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/skrl_pendulum.py`.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import torch
from skrl.agents.torch.sac import SAC
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.model_instantiators.torch import deterministic_model, gaussian_model

import latentwrap
from latentwrap.agents import evaluate_policy

PENDULUM = "latentwrap/PixelPendulum-v0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--envs", type=int, default=1, help="environments in one batch")
    arguments = parser.parse_args()

    set_seed(arguments.seed)
    single = latentwrap.LatentObservation(gym.make(PENDULUM), arguments.model)
    if arguments.envs == 1:
        env = wrap_env(single)
    else:  # one model for all of them
        latents = {"env_id": PENDULUM, "ckpt": arguments.model}
        env = wrap_env(gym.make_vec("latentwrap/Latent-v0", num_envs=arguments.envs, **latents))
    agent, steps = make_sac(env, arguments.steps), arguments.steps // env.num_envs
    # Without `headless` skrl renders a picture of every step, which nobody sees.
    cfg = {"timesteps": steps, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=env, agents=agent, cfg=cfg).train()

    result = evaluate_policy(MeanActions(agent), single, episodes=arguments.episodes, seed=1000)
    print(
        f"Return {result.mean:.0f} ± {result.std:.0f} over {arguments.episodes} episodes "
        f"after {steps * env.num_envs} steps."
    )


def make_sac(env: Any, steps: int) -> SAC:
    """SAC that updates once for every step of every environment."""
    start = min(500, steps // 2) // env.num_envs
    cfg = {
        "batch_size": 256,
        "learning_rate": 3e-4,
        "initial_entropy_value": 1.0,
        "gradient_steps": env.num_envs,
        "random_timesteps": start,
        "learning_starts": start,
        "experiment": {"write_interval": 0, "checkpoint_interval": 0},
    }
    return SAC(
        models=make_models(env),
        memory=RandomMemory(memory_size=steps // env.num_envs, num_envs=env.num_envs),
        observation_space=env.observation_space,
        action_space=env.action_space,
        device=env.device,
        cfg=cfg,
    )


def make_models(env: Any) -> dict[str, Any]:
    """A policy, two critics and their targets, each with two layers of 256 units."""
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}

    def layers(inputs: str) -> list[dict[str, Any]]:
        return [{"name": "net", "input": inputs, "layers": [256, 256], "activations": "relu"}]

    bound = float(env.action_space.high[0])
    policy = gaussian_model(
        **spaces,
        clip_actions=True,
        network=layers("OBSERVATIONS"),
        output=f"{bound} * tanh(ACTIONS)",
    )
    critics = {
        name: deterministic_model(
            **spaces, network=layers("concatenate([OBSERVATIONS, ACTIONS])"), output="ONE"
        )
        for name in ("critic_1", "critic_2", "target_critic_1", "target_critic_2")
    }
    models = {"policy": policy, **critics}
    for name, model in models.items():
        model.init_state_dict(role=name)
    return models


class MeanActions:
    """A trained agent as something with `predict`."""

    def __init__(self, agent: SAC) -> None:
        self.agent = agent

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        """The mean action, or a drawn one, for one latent."""
        inputs = {"observations": torch.as_tensor(observation, device=self.agent.device)[None]}
        with torch.no_grad():
            action, outputs = self.agent.policy.act(inputs, role="policy")
        return (outputs["mean_actions"] if deterministic else action)[0].cpu().numpy(), None


if __name__ == "__main__":
    main()
