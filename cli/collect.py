"""`latentwrap collect`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentwrap.cli.common import (
    DEBUG,
    INTERRUPTED,
    Report,
    Verb,
    device_option,
    making_options,
    output_option,
    parse_making,
    run_options,
    seed_option,
    verb_options,
)

if TYPE_CHECKING:
    from latentwrap.datasets.policies import FittedMaker


@click.command("collect", cls=Verb)
@click.argument("env_id")
@output_option("The dataset to write, an HDF5 file.")
@click.option("--steps", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--num-envs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--policy",
    metavar="NAME",
    default="random",
    show_default=True,
    help="random; noise (random actions that stay similar for a while); agent:RUN, of latentwrap "
    "train; or sb3:FILE, of Stable-Baselines3.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The latent model of sb3:FILE, or of agent:RUN if it has moved.",
)
@click.option(
    "--epsilon",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the actions of agent:RUN or sb3:FILE that are replaced by random ones.",
)
@click.option(
    "--deterministic", is_flag=True, help="agent:RUN and sb3:FILE act with the mean, no sample."
)
@making_options
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
    output: Path,
    steps: int,
    num_envs: int,
    policy: str,
    model: Path | None,
    epsilon: float,
    deterministic: bool,
    seed: int,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
    **making: Any,
) -> None:
    """Run a policy in ENV_ID and write what it saw as a dataset.

    ENV_ID is any Gymnasium id, also module:id, whose observation or render is an image, or whose
    observation is a Dict with images.

    \b
    Example:
      latentwrap collect CarRacing-v3 -o car.h5 --steps 20000 --num-envs 2
      latentwrap collect HalfCheetah-v5 -o more.h5 --policy agent:runs/cheetah --epsilon 0.1
    """
    from latentwrap.datasets import collect

    report = Report(as_json=as_json)
    if not ctx.meta.get(DEBUG):
        # Gymnasium repeats as a warning what the process of an environment raised.
        warnings.filterwarnings("ignore", message=r"(?s).*ERROR: ", category=UserWarning)
    result = collect(
        env_id,
        output,
        steps=steps,
        num_envs=num_envs,
        policy=_policy(policy, model, epsilon=epsilon, deterministic=deterministic, device=device),
        seed=seed,
        resume=resume,
        force=force,
        show_progress=True,
        **parse_making(making),
    )
    if result.interrupted:
        report.say("Interrupted: the file holds everything so far; --resume goes on.")
    ended = not math.isnan(result.return_mean)
    returns = f"mean return {result.return_mean:.1f}" if ended else "none of them ended by itself"
    report.say(
        f"{result.path}: {result.transitions} transitions in {result.episodes} episodes, "
        f"{returns}, in {result.seconds:.0f} s."
    )
    report.next(
        ["latentwrap", "inspect", output],
        ["latentwrap", "pretrain", output, "-o", output.with_suffix(".safetensors")],
    )
    report.result(
        dataset=output,
        transitions=result.transitions,
        episodes=result.episodes,
        return_mean=result.return_mean,
        seconds=result.seconds,
    )
    if result.interrupted:
        ctx.exit(INTERRUPTED)


def _policy(
    name: str, model: Path | None, *, epsilon: float, deterministic: bool, device: str
) -> str | FittedMaker:
    """What to collect with; the name itself for a policy that needs no training.

    Raises:
        ConfigError: an option that the policy has not.
    """
    from latentwrap.errors import ConfigError

    kind, colon, source = name.partition(":")
    if not colon:
        given = {"--model": model, "--epsilon": epsilon, "--deterministic": deterministic}
        unfit = [option for option, value in given.items() if value]
        if unfit:
            raise ConfigError(
                f"{unfit[0]} belongs to the policies agent:RUN and sb3:FILE, got {name}: leave it "
                "out."
            )
        return name
    return _trained(kind)(
        source, model=model, epsilon=epsilon, deterministic=deterministic, device=device
    )


def _trained(kind: str) -> Callable[..., FittedMaker]:
    from latentwrap.errors import ConfigError, did_you_mean

    if kind == "agent":
        from latentwrap.agents.collecting import AgentPolicy

        return AgentPolicy
    if kind == "sb3":
        from latentwrap.integrations.sb3_policy import SB3Policy

        return SB3Policy
    raise ConfigError(f"There is no policy {kind}:…: {did_you_mean(kind, ['agent', 'sb3'])}")
