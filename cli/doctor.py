"""`latentwrap doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from latentwrap.cli.common import (
    INTERRUPTED,
    MISTAKE,
    Report,
    Verb,
    device_option,
    observation_options,
    observation_words,
    seed_option,
    verb_options,
)
from latentwrap.envs import PIXEL_PENDULUM

if TYPE_CHECKING:
    from latentwrap.doctor import Examination, Finding, Question

_MARKS = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "error": ("✗", "bold red"),
    "skipped": ("-", "dim"),
}


@click.command("doctor", cls=Verb)
@click.argument("env_id", default=PIXEL_PENDULUM)
@click.option("--ckpt", type=click.Path(path_type=Path), help="A checkpoint that should fit.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write a frame of the environment to this PNG file.",
)
@click.option("--force", is_flag=True, help="Replace the PNG file.")
@observation_options
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds after which something that hangs is given up.",
)
@seed_option
@device_option
@verb_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    env_id: str,
    ckpt: Path | None,
    output: Path | None,
    force: bool,
    image_keys: tuple[str, ...],
    vector_keys: tuple[str, ...],
    layout: str | None,
    time_limit: float,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Say what this machine, ENV_ID and a checkpoint have and lack.

    ENV_ID is any Gymnasium id, also module:id; the bundled PixelPendulum if left out. One line
    for each check; what is marked ✗ will not work, and the line says how to mend it. The exit
    code is then 2.

    \b
    Example:
      latentwrap doctor CarRacing-v3 --ckpt car.safetensors
    """
    from latentwrap.doctor import Examination, Question
    from latentwrap.files import refuse_output
    from latentwrap.progress import bar

    if output is not None:
        refuse_output(output, force=force, source=ckpt)
    report = Report(as_json=as_json)
    question = Question(env_id, ckpt, device, seed, time_limit, image_keys, vector_keys, layout)
    examination = Examination(question)
    findings: list[Finding] = []
    interrupted = False
    try:
        with bar("Checking", len(examination.names)) as progress:
            for finding in examination:
                findings.append(finding)
                progress.advance(note=finding.name)
            if output is not None:
                findings.append(_save(examination, output))
    except KeyboardInterrupt:
        interrupted = True
    for finding in findings:
        report.print(_line(finding))
    ok = not interrupted and all(finding.status.value != "error" for finding in findings)
    report.next(_next(question, ok=ok))
    report.result(checks=[finding.document() for finding in findings], ok=ok)
    if not ok:
        ctx.exit(INTERRUPTED if interrupted else MISTAKE)


def _save(examination: Examination, output: Path) -> Finding:
    from latentwrap.doctor.findings import Finding, Status, guarded

    def save() -> Finding:
        from latentwrap.pixels import save_png

        if examination.image is None:
            return Finding("picture", Status.SKIPPED, "there is no frame to save")
        save_png(output, examination.image)
        return Finding("picture", Status.OK, str(output))

    return guarded("picture", save)


def _line(finding: Finding) -> Text:
    mark, colour = _MARKS[finding.status.value]
    mend = f"  → {finding.mend}" if finding.mend else ""
    return Text.assemble(
        (f"{mark} ", colour), (f"{finding.name:<13}", "bold"), finding.finding, (mend, colour)
    )


def _next(question: Question, *, ok: bool) -> list[object]:
    """After mending, the same again; else the way to a trained agent."""
    env_id, ckpt = question.env_id, question.ckpt
    if not ok:
        words = ["latentwrap", "doctor", env_id, *_options(question)]
        return [*words, *([] if ckpt is None else ["--ckpt", ckpt])]
    if ckpt is not None:
        return ["latentwrap", "train", env_id, "--model", ckpt]
    if env_id == PIXEL_PENDULUM:
        return ["latentwrap", "demo"]
    return ["latentwrap", "collect", env_id, "-o", "data.h5", *_options(question)]


def _options(question: Question) -> list[str]:
    return observation_words(question.image_keys, question.vector_keys, question.layout)
