"""The methods that are compared: five ways to learn a task, and a random policy.

Each makes its environments, starts the clock of its watch, and learns until the watch says stop.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from comparison_rows import Watch
from dmc_env import TASKS as SUITE
from dmc_env import Task, make_frames, make_states

import latentwrap  # noqa: F401 - registers PixelPendulum
from latentwrap.agents import (
    SAC,
    Callback,
    EvaluationResult,
    Predictor,
    RandomAgent,
    evaluate_policy,
)
from latentwrap.agents.experience import remember_dataset
from latentwrap.agents.online import OnlineAgent
from latentwrap.datasets import Dataset, collect
from latentwrap.envs.making import find_spec, make_env
from latentwrap.training import pretrain
from latentwrap.wrappers import LatentObservation

if TYPE_CHECKING:
    from latentwrap import SLAC

TASKS = {
    "pendulum": Task("latentwrap/PixelPendulum-v0", 1, state_id="Pendulum-v1"),
    "cartpole": SUITE["cartpole_swingup"],
}
EVALUATION_SEED = 20_000  # of the first episode of every evaluation, whatever method and seed
RANDOM_EPISODES = 50
STACKED = 3
PRETRAINED: Mapping[str, Any] = {"learning_starts": 100, "initial_model_updates": 0}
"""Of SLAC where the model has learned from random steps before; as many as SAC starts with."""

FOREVER = 10**9  # steps; the watch ends learning


@dataclass(frozen=True)
class Plan:
    """What a method is given.

    Attributes:
        task: what to learn.
        seed: of the run.
        watch: evaluates, and says when to stop.
        episodes: in an evaluation.
        frames: agent steps of random experience for the methods that pretrain.
        updates: of the model before the agent starts, for the same.
    """

    task: Task
    seed: int
    watch: Watch
    episodes: int
    frames: int
    updates: int

    def evaluate(self, policy: Predictor, env: gym.Env[Any, Any]) -> EvaluationResult:
        """The mean action on the episodes that every method is evaluated on."""
        return evaluate_policy(policy, env, self.episodes, seed=EVALUATION_SEED)


def play_random(plan: Plan) -> None:
    """Random actions: one row, for a line in the picture."""
    plan = replace(plan, episodes=max(plan.episodes, RANDOM_EPISODES))
    with closing(make_states(plan.task)) as env:
        policy = RandomAgent(env.action_space, plan.seed)
        plan.watch.step(0, lambda: plan.evaluate(policy, env))


def learn_state(plan: Plan) -> None:
    """Stable-Baselines3's SAC on the true state."""
    _learn_sb3(plan, "MlpPolicy", make_states)


def learn_cnn(plan: Plan) -> None:
    """Stable-Baselines3's SAC with its convolutional network on three stacked frames."""
    # With `optimize_memory_usage`, SB3 takes the end of time for the end of the task, so both
    # frames of a transition are kept; 50,000 are more than any run here fills.
    _learn_sb3(plan, "CnnPolicy", _stacked_frames, buffer_size=50_000)


def learn_frozen(plan: Plan) -> None:
    """Random experience, a model of it, and SAC on its latents, which it starts with too."""
    plan.watch.clock.start()
    with tempfile.TemporaryDirectory() as folder:
        data, model = _pretrained(plan, Path(folder))
        with plan.watch.clock.paused():
            env, watched = (_latents(plan.task, model) for _ in range(2))
            agent = SAC(env, seed=plan.seed, device="cpu")
        with closing(env), closing(watched):
            remember_dataset(agent, env, data)
            _learn_ours(plan, agent, lambda: plan.evaluate(agent, watched), before=plan.frames)


def learn_finetuned(plan: Plan) -> None:
    """The same pretraining; then model and agent learn together, from that experience on."""
    plan.watch.clock.start()
    with tempfile.TemporaryDirectory() as folder:
        data, model = _pretrained(plan, Path(folder))
        _learn_joint(plan, data=data, model=model)


def learn_joint(plan: Plan) -> None:
    """Model and agent learn together, from nothing."""
    _learn_joint(plan)


METHODS: Mapping[str, Callable[[Plan], None]] = {
    "random": play_random,
    "frozen": learn_frozen,
    "finetuned": learn_finetuned,
    "joint": learn_joint,
    "cnn": learn_cnn,
    "state": learn_state,
}


def _pretrained(plan: Plan, folder: Path) -> tuple[Dataset, Path]:
    task, data = plan.task, folder / "data.h5"
    collected = collect(
        find_spec(task.env_id),
        data,
        steps=plan.frames,
        frame_skip=task.action_repeat,
        cameras=task.cameras,
        seed=plan.seed,
    )
    _go_on(interrupted=collected.interrupted)
    result = pretrain(
        data,
        folder / "model.safetensors",
        options={"steps": plan.updates},
        minutes=max(plan.watch.minutes_left, 0.01),
        seed=plan.seed,
        device="cpu",
    )
    _go_on(interrupted=result.interrupted)
    print(f"{result.steps} updates of the model in {result.seconds:.0f} s", flush=True)
    return Dataset(data), result.checkpoint


def _go_on(*, interrupted: bool) -> None:
    if interrupted:
        sys.exit("Interrupted: the run begins anew next time.")


def _latents(task: Task, model: Path) -> LatentObservation:
    """The checkpoint knows camera and action repeat."""
    return LatentObservation(make_env(task.env_id), model, device="cpu")


def _learn_joint(plan: Plan, *, data: Dataset | None = None, model: Path | None = None) -> None:
    from latentwrap import SLAC

    clock = plan.watch.clock
    with clock.paused():  # which starts it where nothing was done before
        env, other = make_frames(plan.task), make_frames(plan.task)
        options: Mapping[str, Any] = {} if model is None else PRETRAINED
        agent = SLAC(env, model=model, seed=plan.seed, device="cpu", **options)
        watched = agent.watch(other)
    with closing(env), closing(other):
        if data is not None:
            agent.remember(data)
        before = 0 if data is None else plan.frames
        _learn_ours(plan, agent, lambda: plan.evaluate(agent.policy, watched), before=before)


class _Ask(Callback):
    """Asks the watch after every step."""

    def __init__(
        self, watch: Watch, evaluate: Callable[[], EvaluationResult], *, offset: int
    ) -> None:
        self._watch, self._evaluate, self._offset = watch, evaluate, offset

    def on_step(self, agent: OnlineAgent) -> bool:
        """Evaluate when it is time."""
        return self._watch.step(self._offset + agent.num_timesteps, self._evaluate)


def _learn_ours(
    plan: Plan, agent: SAC | SLAC, evaluate: Callable[[], EvaluationResult], *, before: int
) -> None:
    """Let one of our agents learn that has already seen so many steps of data."""
    ask = _Ask(plan.watch, evaluate, offset=before - agent.num_timesteps)
    if plan.watch.step(before, evaluate):
        agent.learn(FOREVER, callback=ask)
        _go_on(interrupted=agent.interrupted)


def _stacked_frames(task: Task) -> gym.Env[Any, Any]:
    """The latest frames side by side in the channels, uint8 (64, 64, 9)."""
    stacked = gym.wrappers.FrameStackObservation(make_frames(task), STACKED, padding_type="reset")
    *_, height, width, channels = stacked.observation_space.shape or ()
    space = gym.spaces.Box(0, 255, (height, width, STACKED * channels), np.uint8)
    return gym.wrappers.TransformObservation(
        stacked, lambda frames: np.concatenate(frames, axis=-1), space
    )


def _learn_sb3(
    plan: Plan, policy: str, make: Callable[[Task], gym.Env[Any, Any]], **options: Any
) -> None:
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback

    class Ask(BaseCallback):
        """Asks the watch before every step."""

        def _on_step(self) -> bool:
            return plan.watch.step(self.num_timesteps, lambda: plan.evaluate(agent, watched))

    with closing(make(plan.task)) as env, closing(make(plan.task)) as watched:
        agent = stable_baselines3.SAC(policy, env, seed=plan.seed, device="cpu", **options)
        plan.watch.clock.start()
        if plan.watch.step(0, lambda: plan.evaluate(agent, watched)):
            agent.learn(FOREVER, callback=Ask())
