"""Tasks of dm_control under the conditions in which SLAC's authors measured theirs.

    MUJOCO_GL=egl python benchmarks/dmc_env.py cartpole_swingup

Plays two episodes with random actions and says how they end and how fast they go. dm_control comes
through shimmy: `pip install -c constraints.txt dm_control==1.0.50 shimmy==2.0.1 'mujoco<4'`.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

# dm_control chooses its backend when it is imported.
os.environ.setdefault("MUJOCO_GL", "egl" if ctypes.util.find_library("EGL") else "osmesa")

import gymnasium as gym

from latentwrap.envs.frames import FrameSkip, RenderFrame
from latentwrap.envs.making import make_env

SIDE = 64
EPISODE_STEPS = 1000  # of the environment, whatever the action repeat
PUBLISHED_AT = (100_000, 500_000, 1_000_000)

Figure: TypeAlias = tuple[float, float]
"""Mean and standard deviation of a sample."""


@dataclass(frozen=True)
class Task:
    """A task, and what is published of it.

    Attributes:
        env_id: the environment, as `make_env` takes it.
        action_repeat: environment steps in one step of the agent.
        state_id: the same task observed as true state; `None` if that is what `env_id` observes.
        cameras: through which MuJoCo is seen; none for an environment that observes its frame.
        decoder_var: with which the authors' SLAC did best.
        published: mean and standard deviation of their 10 seeds' returns, by environment steps.
        published_at_01: likewise with the decoder variance 0.1, where that differs.
    """

    env_id: str
    action_repeat: int
    state_id: str | None = None
    cameras: tuple[str, ...] = ()
    decoder_var: float | None = None
    published: Mapping[int, Figure] = field(default_factory=dict)
    published_at_01: Mapping[int, Figure] = field(default_factory=dict)


def _suite(
    name: str,
    action_repeat: int,
    decoder_var: float,
    *figures: Figure,
    at_01: tuple[Figure, ...] = (),
) -> Task:
    return Task(
        f"shimmy:dm_control/{name}-v0",
        action_repeat,
        cameras=("0",),
        decoder_var=decoder_var,
        published=dict(zip(PUBLISHED_AT, figures, strict=True)),
        published_at_01=dict(zip(PUBLISHED_AT, at_01, strict=bool(at_01))),
    )


# Lee et al. 2020, from the data in the authors' repository: 10 seeds, stochastic policy.
TASKS: Mapping[str, Task] = {
    "cheetah_run": _suite("cheetah-run", 4, 0.1, (413, 71), (707, 48), (815, 78)),
    "walker_walk": _suite(
        "walker-walk", 2, 0.4, (529, 44), (952, 10), (939, 36),
        at_01=((471, 66), (885, 85), (934, 40)),
    ),
    "ball_in_cup_catch": _suite(
        "ball_in_cup-catch", 4, 0.04, (918, 23), (967, 4), (970, 8),
        at_01=((783, 290), (960, 14), (964, 14)),
    ),
    "finger_spin": _suite("finger-spin", 1, 0.1, (951, 34), (983, 2), (982, 4)),
    "cartpole_swingup": _suite("cartpole-swingup", 4, 0.1, (328, 46), (793, 46), (818, 69)),
    "reacher_easy": _suite(
        "reacher-easy", 4, 0.01, (342, 102), (795, 138), (905, 67),
        at_01=((308, 135), (799, 127), (899, 61)),
    ),
}  # fmt: skip
"""By the names that the authors' files have."""


def make_frames(task: Task, *, rendering: str = "fast") -> RenderFrame:
    """An environment that observes frames, uint8 (64, 64, 3), and repeats each action.

    Args:
        task: which.
        rendering: `fast` leaves out shadows and reflections; `full` draws 64 × 64 pixels as
            dm_control does by itself, which is what the authors did, at a fifth of the speed.
    """
    if rendering == "full" and task.cameras:
        view = {"height": SIDE, "width": SIDE, "camera_id": int(task.cameras[0])}
        env = make_env(task.env_id, render_kwargs=view)
        return RenderFrame(_repeated(env, task), rendering=rendering)
    return RenderFrame(_repeated(make_env(task.env_id), task), cameras=task.cameras)


def make_states(task: Task) -> gym.Env[Any, Any]:
    """The same physics and action repeat, observed as true state, a flat float vector."""
    env = make_env(task.state_id or task.env_id)
    return gym.wrappers.FlattenObservation(_repeated(env, task))


def _repeated(env: gym.Env[Any, Any], task: Task) -> gym.Env[Any, Any]:
    return FrameSkip(env, task.action_repeat) if task.action_repeat > 1 else env


def main() -> None:
    """Play two episodes of frames and of states, from the same seed."""
    task = TASKS[sys.argv[1]]
    for make in (make_frames, make_states):
        env = make(task)
        env.action_space.seed(0)
        for episode in range(2):
            print(f"{make.__name__} episode {episode}: {_play(env, seed=episode)}")
        env.close()


def _play(env: gym.Env[Any, Any], seed: int) -> str:
    observation, _ = env.reset(seed=seed)
    steps, total, over, started = 0, 0.0, False, time.perf_counter()
    while not over:
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        steps, total, over = steps + 1, total + float(reward), terminated or truncated
    rate = steps / (time.perf_counter() - started)
    end = "terminated" if terminated else "truncated"
    return f"{observation.shape}, {steps} steps, return {total:.4f}, {end}, {rate:.0f} steps/s"


if __name__ == "__main__":
    main()
