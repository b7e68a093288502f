"""`latentwrap encode`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentwrap.cli.common import (
    INTERRUPTED,
    Report,
    Verb,
    device_option,
    path_argument,
    run_options,
    verb_options,
)

if TYPE_CHECKING:
    from latentwrap.encoding import EncodeResult


@click.command("encode", cls=Verb)
@path_argument("model", "MODEL.safetensors")
@click.argument("data", metavar="DATA.h5...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    help="An HDF5 file; of --as minari a folder, or minari:NAME.",
)
@click.option(
    "--as",
    "form",
    metavar="FORM",
    default="latentwrap",
    show_default=True,
    help="latentwrap, our own layout; or what offline learners read: minari, d4rl or lompo.",
)
@click.option("--raw", is_flag=True, help="Neither standardise nor clip.")
@click.option(
    "--vector-key",
    "vector_keys",
    multiple=True,
    metavar="KEY",
    help="Vector that follows the latent; may be repeated.  [default: those of the model's data]",
)
@device_option
@run_options
@verb_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    model: Path,
    data: tuple[str, ...],
    output: str,
    form: str,
    raw: bool,
    vector_keys: tuple[str, ...],
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Filter every episode of DATA.h5 once and write its latents, for offline RL.

    They are what the wrapper observes, so that an agent that was trained on them plays in the
    pixel environment.

    \b
    Example:
      latentwrap encode car.safetensors car.h5 -o car-latent.hdf5 --as d4rl
    """
    from latentwrap.encoding import encode

    report = Report(as_json=as_json)
    try:
        result = encode(
            model,
            data,
            output,
            form=form,
            normalize=not raw,
            vector_keys=vector_keys or None,
            device=device,
            resume=resume,
            force=force,
            show_progress=True,
        )
    except KeyboardInterrupt:
        report.say("Interrupted: every finished episode is kept; --resume goes on.")
        unknown = dict.fromkeys(("transitions", "episodes", "size", "seconds"))
        report.result(output=output, form=form, **unknown, interrupted=True)
        ctx.exit(INTERRUPTED)
    report.say(
        f"{result.path}: {result.transitions} transitions in {result.episodes} episodes, "
        f"{result.size} numbers each, in {result.seconds:.0f} s."
    )
    report.next(_next_step(result, output))
    report.result(
        output=result.path,
        form=result.form,
        transitions=result.transitions,
        episodes=result.episodes,
        size=result.size,
        seconds=result.seconds,
        interrupted=False,
    )


def show_latents(path: Path) -> list[object]:
    """A command that shows the size of a file of latents."""
    code = (
        "from latentwrap.encoding import LatentDataset; "
        f"print(LatentDataset({str(path)!r}).latents.shape)"
    )
    return ["python", "-c", code]


def _next_step(result: EncodeResult, output: str) -> list[object]:
    """A command that shows what was written, with the program that reads it."""
    if result.form == "minari" and output.startswith("minari:"):
        return ["minari", "show", output.removeprefix("minari:")]
    if result.form == "minari":
        code = f"import minari; print(minari.MinariDataset({str(result.path / 'data')!r}).spec)"
    elif result.form == "latentwrap":
        return show_latents(result.path)
    else:
        code = f"import h5py; print(*h5py.File({str(result.path)!r}).values(), sep='\\n')"
    return ["python", "-c", code]
