"""`latentwrap collect`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    Report,
    Verb,
    observation_options,
    output_option,
    run_options,
    seed_option,
    verb_options,
)


def _parse_size(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[int, int]:
    from latentwrap.pixels.frames import SMALLEST_SIDE

    numbers = text.lower().split("x")
    sides = [int(number) for number in numbers if number.isdecimal()]
    if len(sides) < len(numbers) or len(sides) > 2 or min(sides) < SMALLEST_SIDE:
        raise click.BadParameter(
            f"expected HxW such as 96x128, no side below {SMALLEST_SIDE}, got {text!r}"
        )
    return sides[0], sides[-1]


@click.command("collect", cls=Verb)
@click.argument("env_id")
@output_option("The dataset to write, an HDF5 file.")
@click.option("--steps", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--num-envs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--policy",
    type=click.Choice(["random", "noise"]),
    default="random",
    show_default=True,
    help="noise: random actions that stay similar for a while.",
)
@click.option(
    "--frame-skip",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How often each action is repeated.",
)
@click.option(
    "--size",
    metavar="HxW",
    callback=_parse_size,
    default="64x64",
    show_default=True,
    help="Height and width of the frames; one number for a square.",
)
@click.option("--grey", is_flag=True, help="Store grey frames of coloured images.")
@observation_options
@seed_option
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
    frame_skip: int,
    size: tuple[int, int],
    grey: bool,
    image_keys: tuple[str, ...],
    vector_keys: tuple[str, ...],
    layout: str | None,
    seed: int,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run a policy in ENV_ID and write what it saw as a dataset.

    ENV_ID is any Gymnasium id, also module:id, whose observation or render is an image, or whose
    observation is a Dict with images.

    \b
    Example:
      latentwrap collect CarRacing-v3 -o car.h5 --steps 20000 --num-envs 2
    """
    from latentwrap.datasets import collect

    report = Report(as_json=as_json)
    result = collect(
        env_id,
        output,
        steps=steps,
        num_envs=num_envs,
        policy=policy,
        frame_skip=frame_skip,
        height=size[0],
        width=size[1],
        grey=grey,
        image_keys=image_keys or None,
        vector_keys=vector_keys,
        layout=layout,
        seed=seed,
        resume=resume,
        force=force,
        show_progress=True,
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
