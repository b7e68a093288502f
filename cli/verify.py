"""`latentwrap verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentwrap.cli.common import Report, Verb, path_argument, verb_options
from latentwrap.cli.encode import show_latents

if TYPE_CHECKING:
    from latentwrap.datasets.wholeness.repair import RepairResult
    from latentwrap.datasets.wholeness.verify import FileReport, PartialReport, Verification

DAMAGED = 1
"""Exit code where something is not whole; a mistake of the user's is another."""

_SHOWN = 10
"""Episodes that are named one by one."""


@click.command("verify", cls=Verb)
@path_argument("data", "DATA.h5")
@click.option(
    "--repair",
    "output",
    type=click.Path(path_type=Path),
    metavar="NEW.h5",
    help="Write the sound episodes to this file.",
)
@click.option("--force", is_flag=True, help="Replace NEW.h5.")
@verb_options
@click.pass_context
def command(
    ctx: click.Context, /, *, data: Path, output: Path | None, force: bool, as_json: bool
) -> None:
    """Say whether DATA.h5 is whole, and which of its episodes are sound.

    Every chunk is read and compared with its checksum. DATA.h5 may be an unfinished file too,
    of which there is only the folder DATA.h5.partial. Exit code 1: something is not whole.

    \b
    Example:
      latentwrap verify car.h5 --repair car-sound.h5
    """
    from latentwrap.datasets.wholeness.repair import repair
    from latentwrap.datasets.wholeness.verify import verify
    from latentwrap.files import refuse_output

    report = Report(as_json=as_json)
    if output is not None:
        refuse_output(output, force=force, source=data)
    found = verify(data, show_progress=True)
    if found.file is not None:
        _say_file(report, found.file)
    if found.partial is not None:
        _say_partial(report, found.partial)
    rescued = None
    if output is not None:
        rescued = repair(data, output, force=force, found=found, show_progress=True)
        report.say(
            f"\n{output}: {rescued.episodes} sound episodes, {rescued.transitions} transitions; "
            f"{rescued.lost} left out."
        )
    _say_next(report, found, rescued)
    report.result(**_result(found, rescued))
    if not found.whole:
        ctx.exit(DAMAGED)


def _say_file(report: Report, file: FileReport) -> None:
    if file.whole:
        checked = "every chunk fits its checksum" if file.checksums else "every chunk was decoded"
        report.say(
            f"{file.path} is whole: {len(file.sound)} episodes, {file.transitions} transitions, "
            f"{checked}."
        )
        if not file.checksums:
            report.say(
                "It has no checksums, so that a flipped bit may go unseen; "
                "latentwrap rechunk adds them."
            )
        return
    report.say(f"{file.path} is damaged.")
    for problem in file.problems:
        report.say(f"  {problem}")
    for number, flaw in list(file.unsound.items())[:_SHOWN]:
        report.say(f"  episode {number}: {flaw}")
    if len(file.unsound) > _SHOWN:
        report.say(f"  … and {len(file.unsound) - _SHOWN} more")
    if file.episodes:
        report.say(
            f"{len(file.sound)} of {file.episodes} episodes are sound, "
            f"{file.transitions} transitions."
        )


def _say_partial(report: Report, partial: PartialReport) -> None:
    run = partial.run
    report.say(
        f"{run.folder} holds {partial.episodes} whole episodes, {partial.transitions} transitions, "
        f"of a run that was not finished{_purpose(partial)}."
    )
    for piece in partial.damaged[:_SHOWN]:
        flaws = [*piece.problems, *piece.unsound.values()]
        report.say(f"  {piece.path.name} is damaged: {'; '.join(flaws)}")
    report.say("Its command goes on with them if it is repeated with --resume.")


def _purpose(partial: PartialReport) -> str:
    run = partial.run
    if run.whole is not None:
        return "; all of them are joined, only the last step is missing"
    if run.continues is not None:
        return f"; they follow those of {run.path}"
    return f"; they are to replace {run.path}" if run.replaces else ""


def _say_next(report: Report, found: Verification, rescued: RepairResult | None) -> None:
    best = found.path if rescued is None else rescued.path
    if rescued is None and _holds_latents(found):
        if found.whole:
            report.next(show_latents(best))
        elif found.partial is None:
            report.say("Latents are not repaired: write them anew with latentwrap encode.")
    elif rescued is not None or found.whole:
        report.next(
            ["latentwrap", "inspect", best],
            ["latentwrap", "pretrain", best, "-o", best.with_suffix(".safetensors")],
        )
    elif any(file.sound for file in found.sources):
        sound = found.path.with_name(f"{found.path.stem}-sound{found.path.suffix}")
        report.next(["latentwrap", "verify", found.path, "--repair", sound])


def _holds_latents(found: Verification) -> bool:
    from latentwrap.datasets.layout import FORMAT

    return any(file.file_format not in ("", FORMAT) for file in found.sources)


def _result(found: Verification, rescued: RepairResult | None) -> dict[str, Any]:
    file, partial = found.file, found.partial
    return {
        "dataset": found.path,
        "whole": found.whole,
        "episodes": None if file is None else file.episodes,
        "transitions": None if file is None else file.transitions,
        "sound": [] if file is None else list(file.sound),
        "unsound": {} if file is None else {str(n): why for n, why in file.unsound.items()},
        "problems": [] if file is None else list(file.problems),
        "checksums": None if file is None else file.checksums,
        "partial": None
        if partial is None
        else {
            "folder": partial.run.folder,
            "episodes": partial.episodes,
            "transitions": partial.transitions,
            "damaged": [piece.path for piece in partial.damaged],
            "continues": partial.run.continues is not None,
        },
        "repaired": None
        if rescued is None
        else {
            "dataset": rescued.path,
            "episodes": rescued.episodes,
            "transitions": rescued.transitions,
            "lost": rescued.lost,
        },
    }
