"""`latentwrap inspect`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentwrap.cli.common import Report, Verb, output_option, path_argument, verb_options

if TYPE_CHECKING:
    from latentwrap.datasets import LoadingSpeed


@click.command("inspect", cls=Verb)
@path_argument("data", "DATA.h5")
@output_option("Write a contact sheet of frames to this PNG file.", required=False)
@click.option("--bench", is_flag=True, help="Measure how fast windows come out of this file.")
@click.option(
    "--window",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Actions in a window of --bench.",
)
@click.option("--force", is_flag=True, help="Replace the PNG file.")
@verb_options
def command(
    *,
    data: Path,
    output: Path | None,
    bench: bool,
    window: int,
    force: bool,
    as_json: bool,
) -> None:
    """Show what is in DATA.h5: shapes, episodes, returns, size on disk.

    \b
    Example:
      latentwrap inspect car.h5 -o car.png
      latentwrap inspect car.h5 --bench
    """
    from latentwrap.datasets import Dataset, contact_sheet, measure_loading, summarize
    from latentwrap.files import refuse_output
    from latentwrap.pixels import save_png

    report = Report(as_json=as_json)
    if output is not None:
        refuse_output(output, force=force, source=data)
    dataset = Dataset(data)
    summary = summarize(dataset)
    report.table(str(data), summary.described())
    speed = measure_loading(dataset, length=window) if bench else None
    if speed is not None:
        report.table(f"Random windows of {speed.length} frames in a second", _described(speed))
    if output is not None:
        save_png(output, contact_sheet(dataset))
        report.say(f"\nFrames of several episodes, one a row: {output}")
    if dataset.unshared_states:
        states = ", ".join(dataset.unshared_states)
        report.say(f"\nStates that not all files have are left out: {states}.")
    model = dataset.path.with_suffix(".safetensors")
    words = ["latentwrap", "pretrain", data, "-o", model]
    if summary.fast:
        report.next(words)
    else:
        report.next(
            [
                "latentwrap",
                "rechunk",
                data,
                "-o",
                dataset.path.with_name(f"{dataset.path.stem}_fast.h5"),
            ],
            words,
        )
    report.result(
        dataset=data,
        contact_sheet=output,
        bench=None if speed is None else dataclasses.asdict(speed),
        **dataclasses.asdict(summary),
    )


def _described(speed: LoadingSpeed) -> dict[str, str]:
    rows = {"from the file": speed.file, f"by {speed.workers} workers": speed.ahead}
    rows["from memory"] = speed.memory
    return {name: f"{rate:,.0f}" for name, rate in rows.items() if rate is not None}
