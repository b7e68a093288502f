"""SLAC on a task of dm_control, under the conditions in which its authors measured theirs.

    python benchmarks/dmc.py cartpole_swingup --steps 100000 -o runs/cartpole
    python benchmarks/dmc.py cheetah_run --preset paper --device cuda --minutes 9 -o runs/cheetah \\
        --authors dm_control_cheetah_run_slac.csv

Action repeat as theirs; 10,000 environment steps with random actions first; after every 10,000
environment steps the mean return of 10 episodes with sampled actions. Environment steps are those
of the agent times the action repeat, random ones included. `paper` is the published model with the
decoder variance of theirs that did best on the task, `fast` that of latentwrap with its own.

The folder holds `returns.csv` in the form of the authors' files, `curve.png`, and the agent, which
is saved every `--save-every` environment steps, when `--minutes` are up (at the end of an episode,
or a minute later wherever it is) and after Ctrl-C. The same command goes on from there. `--authors`
names their file of the task, from `data/slac` of github.com/alexlee-gk/slac, to be drawn whole.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from dmc_curve import Evaluation, compare, draw_curve, write_curve
from dmc_env import EPISODE_STEPS, TASKS, Task, make_frames
from dmc_run import Clock, Progress, RunFolder, Tell

from latentwrap.agents import evaluate_policy
from latentwrap.cli.common import parse_settings
from latentwrap.training.recipes import make_recipe

if TYPE_CHECKING:
    from latentwrap import SLAC

EVALUATE_EVERY = 10_000  # environment steps
EVALUATION_SEED = 100_000
PUBLISHED = {"actor_input": "history", "fresh": True, "initial_model_updates": 100_000}
"""How the authors' agent differs from the defaults, but for the random steps."""


def main() -> None:
    """Begin or go on, until the steps are done or the minutes are up."""
    arguments = _arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    task = TASKS[arguments.task]
    folder = RunFolder(arguments.output or Path("runs") / f"{arguments.task}-{arguments.seed}")
    folder.check_settings(_settings(arguments))
    with (
        closing(make_frames(task, rendering=arguments.rendering)) as env,
        closing(make_frames(task, rendering=arguments.rendering)) as other,
    ):
        agent = _make_agent(arguments, task, folder, env)
        rows = _learn(arguments, agent, agent.watch(other), folder)
    label = f"latentwrap, {arguments.preset}"
    picture = folder.path / "curve.png"
    draw_curve(picture, arguments.task, rows, label=label, authors=arguments.authors)
    print("\n".join([*compare(task, rows), f"{folder.returns} and {picture} are written."]))


def _learn(
    arguments: argparse.Namespace, agent: SLAC, watched: Any, folder: RunFolder
) -> list[Evaluation]:
    """Learn, save and evaluate in turn; returns all evaluations so far."""
    progress, repeat = folder.progress(), TASKS[arguments.task].action_repeat
    clock = Clock(progress.seconds, arguments.minutes)
    tell = Tell(repeat, clock, progress.episodes)
    steps = agent.num_timesteps * repeat
    rows = folder.evaluations(up_to=steps)
    for goal in _stops(arguments, begin=steps):
        if goal > steps:
            if clock.is_up:
                break
            with clock.interrupting():
                agent.learn(goal // repeat - agent.num_timesteps, callback=tell)
            steps = agent.num_timesteps * repeat
            folder.save(agent, Progress(tell.episodes, clock.seconds))
            clock.say(steps, "saved")
            if steps < goal:
                break
        if goal % EVALUATE_EVERY == 0 and not any(r.OriginalEnvironmentSteps == goal for r in rows):
            rows.append(_evaluate(arguments, agent, watched, goal, tell.episodes))
            write_curve(folder.returns, rows)
            clock.say(goal, f"evaluation {rows[-1].AverageReturnEvalPolicy:.1f}")
    if steps < arguments.steps:
        print("Not all steps are done; the same command goes on.")
    return rows


def _stops(arguments: argparse.Namespace, *, begin: int) -> Iterator[int]:
    """Environment steps at which learning pauses, from where it stands on."""
    for steps in range(0, arguments.steps + 1, EPISODE_STEPS):
        due = steps % EVALUATE_EVERY == 0 or steps % arguments.save_every == 0
        if steps >= begin and (due or steps == arguments.steps):
            yield steps


def _evaluate(
    arguments: argparse.Namespace, agent: SLAC, watched: Any, steps: int, episodes: int
) -> Evaluation:
    # Other episodes every time, as theirs.
    seed = EVALUATION_SEED + steps // EVALUATE_EVERY * arguments.episodes
    result = evaluate_policy(
        agent.policy,
        watched,
        arguments.episodes,
        seed=seed,
        deterministic=arguments.deterministic,
    )
    domain, _, name = arguments.task.rpartition("_")
    return Evaluation(
        domain,
        name,
        float(TASKS[arguments.task].action_repeat),
        _recipe(arguments).model.decoder_var,
        arguments.seed,
        result.mean,
        steps,
        float(episodes),
    )


def _make_agent(arguments: argparse.Namespace, task: Task, folder: RunFolder, env: Any) -> SLAC:
    from latentwrap import SLAC

    if folder.has_agent:
        agent = SLAC.load(folder.agent, env, device=arguments.device)
        print(f"Goes on from step {agent.num_timesteps * task.action_repeat}.")
        return agent
    options = _agent_options(arguments)
    print(f"{arguments.task}: {arguments.preset}, {options}, {_model_options(arguments)}")
    return SLAC(
        env,
        preset=arguments.preset,
        kind=arguments.kind,
        model_options=_model_options(arguments),
        seed=arguments.seed,
        device=arguments.device,
        learning_starts=arguments.initial_steps // task.action_repeat,
        **options,
    )


def _agent_options(arguments: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = dict(PUBLISHED) if arguments.preset == "paper" else {}
    if arguments.actor_input is not None:
        options["actor_input"] = arguments.actor_input
    return options | parse_settings(None, tuple(arguments.set))


def _model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    options = parse_settings(None, tuple(arguments.model_set))
    if arguments.decoder_var is not None:
        options["decoder_var"] = arguments.decoder_var
    elif arguments.preset == "paper":
        options.setdefault("decoder_var", TASKS[arguments.task].decoder_var)
    return options


def _recipe(arguments: argparse.Namespace) -> Any:
    return make_recipe(arguments.preset, _model_options(arguments), kind=arguments.kind)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a run that goes on must have in common with its beginning."""
    names = "task", "seed", "preset", "kind", "rendering", "episodes", "deterministic"
    return {
        **{name: getattr(arguments, name) for name in names},
        "initial_steps": arguments.initial_steps,
        "agent": _agent_options(arguments),
        "model": _recipe(arguments).model_dump(mode="json"),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--steps", type=int, default=100_000, help="of the environment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="folder  [runs/TASK-SEED]")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--kind")
    parser.add_argument("--decoder-var", type=float)
    parser.add_argument("--actor-input", choices=["latent", "history"])
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of the agent"
    )
    parser.add_argument(
        "--model-set", action="append", default=[], metavar="NAME=VALUE", help="of the model"
    )
    parser.add_argument(
        "--initial-steps", type=int, default=10_000, help="of the environment, random"
    )
    parser.add_argument("--episodes", type=int, default=10, help="in an evaluation")
    parser.add_argument("--deterministic", action="store_true", help="evaluate the mean action")
    parser.add_argument("--rendering", choices=["fast", "full"], default="fast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of this piece")
    parser.add_argument("--save-every", type=int, default=10_000, help="environment steps")
    parser.add_argument("--authors", type=Path, help="their file of the task")
    arguments = parser.parse_args()
    for name in ("steps", "save_every"):
        if getattr(arguments, name) % EPISODE_STEPS:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be a multiple of an episode's {EPISODE_STEPS} steps.")
    return arguments


if __name__ == "__main__":
    main()
