"""TorchRL's SAC on the latents of a pendulum seen only as pixels.

Run `latentwrap demo` first, then `python examples/torchrl_sac.py`.
"""

from __future__ import annotations

import argparse

import torch
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer
from torchrl.envs import EnvBase, GymEnv, TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate

import latentwrap  # noqa: F401 - registers the pendulum
from latentwrap.integrations.torchrl import LatentTransform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo/pendulum.safetensors")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    env = TransformedEnv(GymEnv("latentwrap/PixelPendulum-v0"), LatentTransform(arguments.model))
    env.set_seed(arguments.seed)
    actor = make_actor(env)
    train(env, actor, arguments.steps)
    returns = evaluate(env, actor, episodes=5)
    print(f"Return {returns.mean():.0f} ± {returns.std():.0f} over {len(returns)} episodes.")


def make_actor(env: EnvBase) -> ProbabilisticActor:
    sizes = env.observation_spec["observation"].shape[-1], 2 * env.action_spec.shape[-1]
    network = torch.nn.Sequential(MLP(*sizes, num_cells=[256, 256]), NormalParamExtractor())
    return ProbabilisticActor(
        TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=env.action_spec,
        distribution_class=TanhNormal,
        distribution_kwargs={"low": env.action_spec.space.low, "high": env.action_spec.space.high},
        return_log_prob=True,
    )


def train(env: EnvBase, actor: ProbabilisticActor, steps: int) -> None:
    inputs = env.observation_spec["observation"].shape[-1] + env.action_spec.shape[-1]
    critic = ValueOperator(MLP(inputs, 1, num_cells=[256, 256]), in_keys=["observation", "action"])
    loss = SACLoss(actor, critic, action_spec=env.action_spec)
    loss.make_value_estimator(gamma=0.99)
    targets, optimizer = SoftUpdate(loss, tau=0.005), torch.optim.Adam(loss.parameters(), lr=1e-3)
    buffer = ReplayBuffer(storage=LazyTensorStorage(steps), batch_size=256)
    collector = Collector(
        env,
        actor,
        frames_per_batch=50,
        total_frames=steps,
        init_random_frames=500,
        auto_register_policy_transforms=False,
    )
    for collected in collector:
        buffer.extend(collected.exclude("belief", ("next", "belief")))
        for _ in range(len(collected) if len(buffer) > 500 else 0):
            terms = loss(buffer.sample())
            sum(term for name, term in terms.items() if name.startswith("loss_")).backward()
            optimizer.step()
            optimizer.zero_grad()
            targets.step()
    collector.shutdown(close_env=False)


def evaluate(env: EnvBase, actor: ProbabilisticActor, episodes: int) -> torch.Tensor:
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        runs = [env.rollout(200, actor) for _ in range(episodes)]
    return torch.stack([run["next", "reward"].sum() for run in runs])


if __name__ == "__main__":
    main()
