"""`latentwrap train`."""

from __future__ import annotations

from pathlib import Path

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    Report,
    Verb,
    device_option,
    output_option,
    parse_settings,
    run_options,
    seed_option,
    settings_options,
    verb_options,
)


@click.command("train", cls=Verb)
@click.argument("env_id")
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="The latent model, a .safetensors file that pretrain wrote.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A dataset with rewards: its transitions are the agent's first memories.",
)
@output_option("Folder of the run.  [default: runs/MODEL]", required=False)
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
    model: Path,
    data: Path | None,
    output: Path | None,
    steps: int,
    evaluate_every: int,
    evaluation_episodes: int,
    final_episodes: int,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Train SAC in ENV_ID on the latents of a pretrained model.

    Actions may be Box or Discrete.

    \b
    Example:
      latentwrap train CarRacing-v3 --model car.safetensors --data car.h5 -o runs/car
    """
    from latentwrap.agents.runs import train_agent

    report = Report(as_json=as_json)
    folder = output or Path("runs") / model.stem
    result = train_agent(
        env_id,
        model,
        folder,
        steps=steps,
        data=data,
        options=parse_settings(config, settings),
        seed=seed,
        device=device,
        evaluate_every=evaluate_every,
        evaluation_episodes=evaluation_episodes,
        final_episodes=final_episodes,
        resume=resume,
        force=force,
        show_progress=True,
    )
    if result.note:
        report.say(result.note)
    if result.interrupted:
        report.say("Interrupted: the agent holds what it learned; --resume goes on.")
    elif result.steps == result.begun_at:
        report.say("Nothing was left to learn: --steps counts those before --resume too.")
    evaluation = result.evaluation
    returns = [] if evaluation is None else list(evaluation.returns)
    report.say(f"{folder}: {result.steps} steps.")
    if evaluation is not None:
        report.say(
            f"Return {evaluation.mean:.1f} ± {evaluation.std:.1f} over {len(returns)} new episodes."
        )
    report.next(["latentwrap", "play", folder], ["tensorboard", "--logdir", folder])
    report.result(
        run=folder,
        steps=result.steps,
        return_mean=None if evaluation is None else evaluation.mean,
        return_std=None if evaluation is None else evaluation.std,
        returns=returns,
    )
    if result.interrupted:
        ctx.exit(INTERRUPTED)
