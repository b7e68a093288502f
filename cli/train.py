"""`latentwrap train`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    F,
    Report,
    Verb,
    device_option,
    making_options,
    output_option,
    parse_making,
    parse_settings,
    run_options,
    seed_option,
    settings_options,
    verb_options,
)
from latentwrap.errors import ConfigError

if TYPE_CHECKING:
    from latentwrap.agents.runs import TrainResult
    from latentwrap.training.memory import MemoryEstimate

_OF_NEW = {
    "preset", "kind", "frame_skip", "size", "grey", "image_keys", "vector_keys", "layout",
    "rendering", "cameras",
}  # fmt: skip
"""Options that only a new model needs."""

_OF_MODEL = "model."
"""What the names of the model's hyperparameters begin with."""


def overlap_option(function: F) -> F:
    """Add --overlap."""
    return click.option(
        "--overlap",
        is_flag=True,
        help="Step the environment in a process of its own while the agent learns.",
    )(function)


@click.command("train", cls=Verb)
@click.argument("env_id")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The latent model, a .safetensors file that pretrain wrote; with --joint it goes on "
    "learning, and without one a new model does.",
)
@click.option("--joint", is_flag=True, help="Model and agent learn together: SLAC.")
@click.option("--frozen", is_flag=True, help="With --joint and --model: the model does not learn.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A dataset with rewards: its transitions are the agent's first memories.",
)
@output_option("Folder of the run.  [default: runs/MODEL, or runs/joint]", required=False)
@click.option("--steps", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option(
    "--evaluate-every",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Steps between evaluations, and between saves.",
)
@click.option(
    "--evaluation-episodes",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="In each evaluation during the run.",
)
@click.option(
    "--final-episodes",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="In the evaluation at the end.",
)
@click.option("--preset", default="fast", show_default=True, help="Of a new model: fast, paper.")
@click.option("--kind", help="Of a new model: rssm, slac, deterministic.  [default: preset's]")
@click.option(
    "--num-envs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="With --joint: environments side by side.",
)
@overlap_option
@making_options
@settings_options
@seed_option
@device_option
@run_options
@verb_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    env_id: str,
    model: Path | None,
    joint: bool,
    data: Path | None,
    output: Path | None,
    steps: int,
    evaluate_every: int,
    evaluation_episodes: int,
    final_episodes: int,
    overlap: bool,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
    **of_joint: Any,
) -> None:
    """Train SAC in ENV_ID on the latents of a pretrained model, or SLAC on its pixels.

    Actions may be Box or Discrete. With --joint, what concerns frames counts where no --model says
    what they look like, and --set model.NAME=VALUE changes how the model learns.

    \b
    Example:
      latentwrap train CarRacing-v3 --model car.safetensors --data car.h5 -o runs/car
      latentwrap train CarRacing-v3 --joint --steps 50000 -o runs/car-joint
    """
    report = Report(as_json=as_json)
    folder = output or Path("runs") / ("joint" if model is None else model.stem)
    options = parse_settings(config, settings)
    common: dict[str, Any] = {
        "steps": steps,
        "resume": resume,
        "force": force,
        "show_progress": True,
    }
    if joint:
        from latentwrap.agents.runs import Watching
        from latentwrap.joint.runs import JointOptions, train_joint

        if model is not None:
            _refuse_options(ctx, _OF_NEW, "--model says what the model is and what it sees")
        of_model, of_agent = split_settings(options)
        making = parse_making(of_joint)
        result = train_joint(
            env_id,
            folder,
            options=JointOptions(
                model=model,
                frozen=of_joint["frozen"],
                data=data,
                preset=of_joint["preset"],
                kind=of_joint["kind"],
                model_options=of_model,
                agent_options=of_agent,
                making={} if model is not None else making,
                num_envs=of_joint["num_envs"],
                overlap=overlap,
                seed=seed,
                device=device,
            ),
            watching=Watching(evaluate_every, evaluation_episodes, final_episodes),
            on_start=lambda memory: tell_memory(report, memory),
            **common,
        )
    else:
        from latentwrap.agents.runs import train_agent

        _refuse_options(
            ctx,
            {*_OF_NEW, "frozen", "num_envs"},
            "it is for --joint, and a pretrained model says itself what it sees",
        )
        if model is None:
            raise ConfigError(
                "Training SAC requires a latent model: name it with --model, or pass --joint to "
                "let a new one learn together with the agent."
            )
        result = train_agent(
            env_id,
            model,
            folder,
            data=data,
            options=options,
            seed=seed,
            device=device,
            evaluate_every=evaluate_every,
            evaluation_episodes=evaluation_episodes,
            final_episodes=final_episodes,
            overlap=overlap,
            **common,
        )
    _tell(report, result)
    if result.interrupted:
        ctx.exit(INTERRUPTED)


def split_settings(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Hyperparameters of the model, whose names begin with `model.`, and those of the agent."""
    of_model = {
        name.removeprefix(_OF_MODEL): value
        for name, value in options.items()
        if name.startswith(_OF_MODEL)
    }
    of_agent = {name: v for name, v in options.items() if not name.startswith(_OF_MODEL)}
    return of_model, of_agent


def tell_memory(report: Report, memory: MemoryEstimate) -> None:
    """Say what a run will need before it starts."""
    report.say(
        f"Memory: up to {memory.frames / 1e6:.0f} MB for the replay, "
        f"{(memory.weights + memory.batch) / 1e6:.0f} MB for the model."
    )


def _refuse_options(ctx: click.Context, unheard: Collection[str], why: str) -> None:
    """An option that would not be heard is a mistake.

    Raises:
        ConfigError: one of them was given.
    """
    for parameter in ctx.command.params:
        name = str(parameter.name)
        given = ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        if name in unheard and given:
            raise ConfigError(f"{parameter.opts[0]} would not be heard, for {why}: leave it out.")


def _tell(report: Report, result: TrainResult) -> None:
    if result.note:
        report.say(result.note)
    if result.interrupted:
        report.say("Interrupted: the agent holds what it learned; --resume goes on.")
    elif result.steps == result.begun_at:
        report.say("Nothing was left to learn: --steps counts those before --resume too.")
    evaluation = result.evaluation
    returns = [] if evaluation is None else list(evaluation.returns)
    report.say(f"{result.folder}: {result.steps} steps.")
    if evaluation is not None:
        report.say(
            f"Return {evaluation.mean:.1f} ± {evaluation.std:.1f} over {len(returns)} new episodes."
        )
    report.next(["latentwrap", "play", result.folder], ["tensorboard", "--logdir", result.folder])
    report.result(
        run=result.folder,
        steps=result.steps,
        return_mean=None if evaluation is None else evaluation.mean,
        return_std=None if evaluation is None else evaluation.std,
        returns=returns,
    )
