"""`latentwrap improve`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

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
from latentwrap.cli.train import overlap_option, split_settings, tell_memory

if TYPE_CHECKING:
    from latentwrap.joint.improving import ImproveResult, Round, Rounds


@click.command("improve", cls=Verb)
@click.argument("env_id")
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="The latent model to begin with, a .safetensors file that pretrain wrote.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The dataset that it was pretrained on, so that the model does not forget it.",
)
@output_option("Folder of the run.  [default: runs/MODEL-improved]", required=False)
@click.option("--rounds", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Of the agent in each round.",
)
@click.option(
    "--model-updates",
    type=click.IntRange(min=1),
    default=1500,
    show_default=True,
    help="Of the model between two rounds.",
)
@click.option(
    "--settling",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Updates of the agent on new latents before it acts on them.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Rounds without a gain before it stops.",
)
@click.option(
    "--evaluation-episodes",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="In each evaluation.",
)
@click.option(
    "--num-envs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Environments side by side.",
)
@overlap_option
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
    rounds: int,
    steps: int,
    model_updates: int,
    settling: int,
    patience: int,
    evaluation_episodes: int,
    num_envs: int,
    overlap: bool,
    config: Path | None,
    settings: tuple[str, ...],
    seed: int,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Let agent and model teach each other in ENV_ID, where random data shows too little.

    In each round the agent learns on the latents of a frozen model, then the model from all frames,
    until rounds bring no more. --set model.NAME=VALUE changes how the model learns.

    \b
    Example:
      latentwrap improve CarRacing-v3 --model car.safetensors --data car.h5 --rounds 5
    """
    from latentwrap.joint.improving import Rounds, improve
    from latentwrap.joint.runs import JointOptions

    report = Report(as_json=as_json)
    of_model, of_agent = split_settings(parse_settings(config, settings))
    how = Rounds(rounds, steps, model_updates, settling, patience, evaluation_episodes)
    result = improve(
        env_id,
        output or Path("runs") / f"{model.stem}-improved",
        JointOptions(
            model=model,
            data=data,
            model_options=of_model,
            agent_options=of_agent,
            num_envs=num_envs,
            overlap=overlap,
            seed=seed,
            device=device,
        ),
        rounds=how,
        resume=resume,
        force=force,
        show_progress=True,
        on_start=lambda memory: tell_memory(report, memory),
        on_round=lambda each: report.say(_words(each)),
    )
    _tell(report, result, how, data)
    if result.interrupted:
        ctx.exit(INTERRUPTED)


_ENDINGS = {
    "rounds": "All rounds are done",
    "patience": "The latest rounds gained no more than chance",
}


def _ending(result: ImproveResult, rounds: Rounds) -> str:
    from latentwrap.joint.improving import one_more

    more = one_more(result.rounds, rounds)
    words = [f"--rounds {more.most}"] if more.most > rounds.most else []
    words += [f"--patience {more.patience}"] if more.patience > rounds.patience else []
    return f"{_ENDINGS[str(result.ended)]}; --resume {' '.join(words)} goes on."


def _words(each: Round) -> str:
    return (
        f"Round {each.number}: return {each.learned:.1f} ± {each.error:.1f} after "
        f"{each.env_steps} steps of the agent and {each.model_updates} updates of the model."
    )


def _tell(report: Report, result: ImproveResult, rounds: Rounds, data: Path | None) -> None:
    if result.note:
        report.say(result.note)
    if result.interrupted:
        report.say("Interrupted: --resume goes on.")
    if result.ended is not None:
        report.say(_ending(result, rounds))
    if result.rounds:
        report.say(f"{result.folder}: best was round {result.best.number}.")
    evaluation = result.evaluation
    if evaluation is not None:
        report.say(f"The last agent: return {evaluation.mean:.1f} ± {evaluation.std:.1f}.")
    model = result.folder / "best-model.safetensors"
    commands: list[list[object]] = [["latentwrap", "play", result.folder, "--best"]]
    if data is not None:
        commands.append(["latentwrap", "evaluate", model, data])
    if result.rounds:
        report.next(*commands)
    report.result(
        run=result.folder,
        rounds=[asdict(each) for each in result.rounds],
        ended=result.ended,
        return_mean=None if evaluation is None else evaluation.mean,
        return_std=None if evaluation is None else evaluation.std,
    )
