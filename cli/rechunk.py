"""`latentwrap rechunk`."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    Report,
    Verb,
    output_option,
    run_options,
    verb_options,
)


@click.command("rechunk", cls=Verb)
@click.argument("data", metavar="DATA.h5...", nargs=-1, required=True)
@output_option("The dataset to write, an HDF5 file.")
@click.option(
    "--codec",
    default="lz4",
    show_default=True,
    help="lz4; zstd, which is smaller and slower; or none.",
)
@run_options
@verb_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    data: tuple[str, ...],
    output: Path,
    codec: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write DATA.h5 anew, laid out for speed; several files become one.

    After Ctrl-C there is no new file, only its folder OUTPUT.partial, and --resume goes on.

    \b
    Example:
      latentwrap rechunk old.h5 -o fast.h5
      latentwrap rechunk 'shards/*.h5' -o one.h5
    """
    from latentwrap.datasets import RechunkResult, rechunk

    report = Report(as_json=as_json)
    try:
        with warnings.catch_warnings(record=True) as heard:  # of a source that is imported
            warnings.simplefilter("always")
            result = rechunk(
                data, output, codec=codec, force=force, resume=resume, show_progress=True
            )
    except KeyboardInterrupt:
        report.say(f"Interrupted: {output} is as it was before; --resume goes on.")
        unknown = dict.fromkeys(field.name for field in dataclasses.fields(RechunkResult))
        report.result(**{**unknown, "path": output, "interrupted": True})
        ctx.exit(INTERRUPTED)
    for warning in heard:
        report.say(f"Warning: {warning.message}")
    report.say(
        f"{result.path}: {result.transitions} transitions in {result.episodes} episodes, "
        f"{_mebibytes(result.bytes_before)} before and {_mebibytes(result.bytes_after)} now, in "
        f"{result.seconds:.0f} s."
    )
    report.next(
        ["latentwrap", "inspect", output, "--bench"],
        ["latentwrap", "pretrain", output, "-o", output.with_suffix(".safetensors")],
    )
    report.result(**dataclasses.asdict(result), interrupted=False)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
