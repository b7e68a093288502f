"""`latentwrap pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    MISTAKE,
    Report,
    SharedVerb,
    device_option,
    output_option,
    parse_settings,
    run_options,
    seed_option,
    settings_options,
    verb_options,
)
from latentwrap.launch import Launch

if TYPE_CHECKING:
    from latentwrap.training import MemoryEstimate, PretrainResult


@click.command("pretrain", cls=SharedVerb)
@click.argument("data", metavar="DATA.h5...", nargs=-1, required=True)
@output_option("The checkpoint to write, a .safetensors file.")
@click.option(
    "--mix",
    multiple=True,
    metavar="FILE=WEIGHT",
    help="How often to learn from a file, or from the files of a pattern; may be repeated.",
)
@click.option("--preset", help="fast, or paper as published.  [default: fast]")
@click.option("--kind", help="rssm, slac or deterministic.  [default: the preset's]")
@click.option(
    "--latent",
    type=click.IntRange(min=1),
    help="Dimensions of the latent; below 16 the kind is slac unless --kind says otherwise.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Updates in total.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Training time, instead of steps.",
)
@click.option("--decoder-var", type=float, help="Variance of the pixels given the latent.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Windows in one update.")
@click.option("--window", type=click.IntRange(min=1), help="Actions in one window.")
@click.option("--learning-rate", type=float, help="Of Adam.")
@settings_options
@click.option(
    "--init", type=click.Path(path_type=Path), help="A checkpoint whose weights to start from."
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    default=2048,
    show_default=True,
    metavar="MIB",
    help="Most MiB of frames to hold on this machine; more are read from the files while the "
    "model learns.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that read frames; 0 leaves it to a thread.",
)
@seed_option
@device_option
@run_options
@verb_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    data: tuple[str, ...],
    output: Path,
    mix: tuple[str, ...],
    preset: str | None,
    kind: str | None,
    latent: int | None,
    minutes: float | None,
    config: Path | None,
    settings: tuple[str, ...],
    init: Path | None,
    memory: float,
    workers: int,
    seed: int,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
    **named: float | None,
) -> None:
    """Train a latent model on DATA.h5; several files, or 'shards/*.h5', are one dataset.

    Ctrl-C stops early and still leaves a checkpoint; --resume goes on.

    \b
    Example:
      latentwrap pretrain car.h5 -o car.safetensors --minutes 10
      latentwrap pretrain old.h5 new.h5 -o car.safetensors --mix old.h5=1 --mix new.h5=3
      torchrun --nproc-per-node 4 -m latentwrap.cli pretrain car.h5 -o car.safetensors
    """
    from latentwrap.training import Loading, pretrain

    launch, weights = Launch.from_environment(), _weights(mix)
    report = Report(as_json=as_json, silent=not launch.first)
    given = {name: value for name, value in named.items() if value is not None}
    options = parse_settings(config, settings) | given
    result = pretrain(
        data,
        output,
        mix=weights,
        preset=preset or options.pop("preset", "fast"),
        kind=kind or options.pop("kind", None),
        latent=latent or options.pop("latent", None),
        options=options,
        minutes=minutes,
        seed=seed,
        device=device,
        init=init,
        loading=Loading(memory=round(memory * 2**20), workers=workers),
        resume=resume,
        force=force,
        show_progress=True,
        on_start=lambda estimate: _tell_start(report, estimate, data, weights, launch.count),
    )
    _tell(report, result, data)
    if not launch.first:
        return  # torchrun would end the first, which may still speak
    if result.interrupted:
        ctx.exit(INTERRUPTED)
    if result.diverged:
        ctx.exit(MISTAKE)


def _weights(mix: tuple[str, ...]) -> dict[str, float]:
    weights = {}
    for given in mix:
        name, _, weight = given.rpartition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter(f"expected FILE=WEIGHT, got {given!r}", param_hint="--mix")
    return weights


def _tell_start(
    report: Report,
    estimate: MemoryEstimate,
    data: tuple[str, ...],
    mix: dict[str, float],
    processes: int,
) -> None:
    left_out = _left_out(data, mix)
    if left_out:
        report.say(left_out)
    parts = {"frames": estimate.frames, "a batch": estimate.batch, "weights": estimate.weights}
    listed = ", ".join(f"{name} {_mebibytes(count)}" for name, count in parts.items() if count)
    where = f" in each of {processes} processes" if processes > 1 else ""
    report.say(f"Needs about {_mebibytes(estimate.total)} of memory{where}: {listed}.")


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def _tell(report: Report, result: PretrainResult, data: tuple[str, ...]) -> None:
    for line in (result.note, result.diverged):
        if line:
            report.say(line)
    if result.interrupted:
        report.say("Interrupted: the checkpoint holds what was learned; --resume goes on.")
    elif result.steps == result.begun_at:
        report.say("Nothing was left to learn: --steps and --minutes count what was done before.")
    if result.skipped_episodes:
        report.say(
            f"{result.skipped_episodes} episodes are shorter than a window: not used "
            "(--set window=N)."
        )
    report.say(f"{result.checkpoint}: {result.steps} updates in {result.seconds:.0f} s.")
    report.say(f"  training loss  {_terms(result.train)}")
    if result.heldout:
        report.say(f"  held-out loss  {_terms(result.heldout)}")
        report.say(f"  lowest held-out loss: {result.best}")
    else:
        report.say("  no held-out loss: the dataset has too few episodes to hold one out.")
    evaluate = ["latentwrap", "evaluate", result.checkpoint, data[0]]
    report.next(evaluate, _use(result, data[0]))
    report.result(
        checkpoint=result.checkpoint,
        best=result.best,
        steps=result.steps,
        seconds=result.seconds,
        train=result.train,
        heldout=result.heldout,
        data=data[0] if len(data) == 1 else data,
    )


def _use(result: PretrainResult, data: str) -> list[object]:
    """What to do with the model: an agent where there is an environment, else latents."""
    from latentwrap.envs.making import find_spec
    from latentwrap.errors import EnvironmentMismatch

    try:
        find_spec(result.env_id)
    except EnvironmentMismatch:
        latents = Path(data).with_name(f"{result.checkpoint.stem}_latents.h5")
        return ["latentwrap", "encode", result.checkpoint, data, "-o", latents]
    words = ["latentwrap", "train", result.env_id, "--model", result.checkpoint]
    return [*words, "--data", data] if result.rewards else words


def _left_out(data: tuple[str, ...], mix: dict[str, float]) -> str | None:
    """Says so if files have no weight."""
    from latentwrap.datasets import find_files, mix_files

    paths = find_files(data)
    kept = mix_files(paths, mix).paths
    names = ", ".join(str(path) for path in paths if path not in kept)
    return f"No --mix names {names}: left out." if names else None


def _terms(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.5g}" for name, value in losses.items())
