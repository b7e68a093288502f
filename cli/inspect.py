"""`latentwrap inspect`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from latentwrap.cli.common import Report, Verb, output_option, path_argument, verb_options


@click.command("inspect", cls=Verb)
@path_argument("data", "DATA.h5")
@output_option("Write a contact sheet of frames to this PNG file.", required=False)
@click.option("--force", is_flag=True, help="Replace the PNG file.")
@verb_options
def command(*, data: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Show what is in DATA.h5: shapes, episodes, returns, size on disk.

    \b
    Example:
      latentwrap inspect car.h5 -o car.png
    """
    from latentwrap.datasets import Dataset, contact_sheet, summarize
    from latentwrap.files import refuse_output
    from latentwrap.pixels import save_png

    report = Report(as_json=as_json)
    if output is not None:
        refuse_output(output, force=force, source=data)
    dataset = Dataset(data)
    summary = summarize(dataset)
    report.table(str(data), summary.described())
    if output is not None:
        save_png(output, contact_sheet(dataset))
        report.say(f"\nFrames of several episodes, one a row: {output}")
    report.next(["latentwrap", "pretrain", data, "-o", data.with_suffix(".safetensors")])
    report.result(dataset=data, contact_sheet=output, **dataclasses.asdict(summary))
