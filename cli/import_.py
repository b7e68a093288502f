"""`latentwrap import`."""

from __future__ import annotations

import warnings
from pathlib import Path

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    Report,
    Verb,
    frame_options,
    observation_options,
    output_option,
    run_options,
    verb_options,
)


class _FormatOption(click.Option):
    """Names the formats there are when help is asked for, since loading them takes a while."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from latentwrap.datasets.importers import FORMATS

        *names, last = (each.name for each in FORMATS)
        self.help = f"{', '.join(names)} or {last}.  [default: recognised]"
        return super().get_help_record(ctx)


@click.command("import", cls=Verb)
@click.argument("source")
@output_option("The dataset to write, an HDF5 file.")
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    cls=_FormatOption,
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Write no more than N episodes."
)
@click.option(
    "--frame-skip",
    type=click.IntRange(min=1),
    help="How often each action was repeated.  [default: as the source says, else 1]",
)
@click.option(
    "--env-id",
    help="What the data is of; of an environment that Gymnasium knows, its action space is taken "
    "where the source has none.",
)
@frame_options
@observation_options
@run_options
@verb_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    source: str,
    output: Path,
    format_name: str | None,
    limit: int | None,
    frame_skip: int | None,
    env_id: str | None,
    size: tuple[int, int],
    grey: bool,
    image_keys: tuple[str, ...],
    vector_keys: tuple[str, ...],
    layout: str | None,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Turn the pixel data of others into a dataset.

    SOURCE is a file, a folder, or minari:NAME for a Minari dataset of this machine. What is taken
    from each format stands in docs/importing.md.

    \b
    Example:
      latentwrap import lift/ph/image.hdf5 -o lift.h5 --image-key agentview_image
    """
    from latentwrap.datasets.importers import (
        ImportOptions,
        LossySource,
        LostEnds,
        import_dataset,
    )

    report = Report(as_json=as_json)
    options = ImportOptions(
        height=size[0],
        width=size[1],
        grey=grey,
        image_keys=image_keys or None,
        vector_keys=vector_keys or None,
        layout=layout,
        frame_skip=frame_skip,
        env_id=env_id,
    )
    with warnings.catch_warnings():
        for said_below in (LossySource, LostEnds):
            warnings.simplefilter("ignore", said_below)
        result = import_dataset(
            source,
            output,
            format=format_name,
            options=options,
            limit=limit,
            force=force,
            resume=resume,
            show_progress=True,
        )
    if result.lossy is not None:
        report.say(f"Warning: {source} is lossy: {result.lossy}")
    for reason, count in result.skipped.items():
        report.say(f"Left out: {count} episode{'s' * (count > 1)} with {reason}.")
    if result.lost_rewards or result.moved_ends:
        report.say(
            f"Lost with the last action, of which it is not known where it led: rewards of "
            f"{result.lost_rewards} episodes; {result.moved_ends} terminate one transition earlier."
        )
    if result.kept_in is not None:
        report.say(
            f"Interrupted: {output} stays as it was, and {result.kept_in} holds everything so far; "
            "--resume instead of --force goes on."
        )
    elif result.interrupted:
        report.say("Interrupted: the file holds everything so far; --resume goes on.")
    report.say(
        f"{result.kept_in or result.path}: {result.transitions} transitions in {result.episodes} "
        f"episodes, read as {result.format}, in {result.seconds:.0f} s."
    )
    if result.kept_in is None:
        report.next(
            ["latentwrap", "inspect", output],
            ["latentwrap", "pretrain", output, "-o", output.with_suffix(".safetensors")],
        )
    report.result(
        dataset=output,
        format=result.format,
        transitions=result.transitions,
        episodes=result.episodes,
        skipped=dict(result.skipped),
        lossy=result.lossy,
        lost_rewards=result.lost_rewards,
        moved_ends=result.moved_ends,
        seconds=result.seconds,
    )
    if result.interrupted:
        ctx.exit(INTERRUPTED)
