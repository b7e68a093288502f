"""`latentwrap evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentwrap.cli.common import (
    Report,
    Verb,
    device_option,
    observation_words,
    output_option,
    path_argument,
    seed_option,
    verb_options,
)

if TYPE_CHECKING:
    from latentwrap.evaluation.report import QualityReport
    from latentwrap.evaluation.report_folder import WrittenReport
    from latentwrap.models import LatentModel


@click.command("evaluate", cls=Verb)
@path_argument("model", "MODEL.safetensors")
@path_argument("data", "DATA.h5")
@output_option("Folder for the report.  [default: MODEL.run/report]", required=False)
@click.option("--force", is_flag=True, help="Replace an earlier report.")
@seed_option
@device_option
@verb_options
def command(
    *,
    model: Path,
    data: Path,
    output: Path | None,
    force: bool,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure MODEL on DATA.h5: the quality report, as an HTML page and as JSON.

    If DATA.h5 is what the model was trained on, the episodes that were held out are used,
    otherwise a half of them.

    \b
    Example:
      latentwrap evaluate car.safetensors car.h5
    """
    from latentwrap.datasets import Dataset
    from latentwrap.evaluation.report import evaluate_model
    from latentwrap.evaluation.report_folder import ReportFolder
    from latentwrap.models import load_model
    from latentwrap.training.statistics import check_dataset

    folder = ReportFolder.of(model) if output is None else ReportFolder(output)
    loaded, dataset = load_model(model, device=device), Dataset(data)
    check_dataset(loaded, dataset)
    folder.prepare(force=force)
    quality = evaluate_model(loaded, dataset, seed=seed, show_progress=True)
    written = folder.write(quality)
    report = Report(as_json=as_json)
    _tell(report, quality, written)
    report.next(*_next_steps(quality, loaded, model, data))
    report.result(**quality.to_json(), report=written.page, json=written.numbers)


def _tell(report: Report, quality: QualityReport, written: WrittenReport) -> None:
    report.say(quality.split.note)
    for note in quality.notes:
        report.say(note)
    report.table(f"\n{quality.model['path']}", _main_figures(quality))
    report.say("")
    for finding in quality.verdict.findings:
        report.say(f"  {finding.level.value}  {finding.sentence}")
        if finding.advice:
            report.say(f"        Try: {finding.advice}")
    report.say(f"\nVerdict: {quality.verdict.headline}")
    report.say(written.note or f"The page: {written.page}")


def _main_figures(quality: QualityReport) -> dict[str, Any]:
    from latentwrap.evaluation.comparison import LINEAR, MLP
    from latentwrap.evaluation.representations import LATENT, SINGLE
    from latentwrap.evaluation.verdict import steps_foreseen

    loop, speed, kl = quality.open_loop, quality.throughput, quality.information
    curves = {name: f"{values[-1]:.1f} {name}" for name, values in loop.moving.items()}
    rows: dict[str, Any] = {
        "loss": "  ".join(f"{name} {value:.5g}" for name, value in quality.loss.terms.items()),
        "PSNR of reconstruction": f"{loop.whole['model'][0]:.1f} dB, moving region "
        f"{loop.moving['model'][0]:.1f} dB",
        f"PSNR {loop.horizon} steps ahead": f"{', '.join(curves.values())} (dB, moving region)",
        "steps foreseen": f"{steps_foreseen(loop)} of {loop.horizon}",
    }
    for name, method in ((LATENT, LINEAR), (LATENT, MLP), (SINGLE, MLP)):
        scores = quality.states.r2(name, method)
        if scores:
            shown = ", ".join(f"{state} {r2:.3f}" for state, r2 in scores.items())
            rows[f"R² from {name}, {method}"] = shown
    if kl.kl:
        rows["information"] = (
            f"{kl.total:.2f} nats a step in {kl.active} of {len(kl.kl)} dimensions"
        )
    rows["filter"] = f"{speed.filter_ms:.2f} ms a step, {speed.filter_fps:,.0f} frames/s in batches"
    return rows


def _frame_words(loaded: LatentModel) -> list[object]:
    """What makes `collect` write frames as the model has them."""
    spec = loaded.frame_spec
    size: list[object] = ["--size", f"{spec.height}x{spec.panels[0].width}"]
    grey = ["--grey"] if spec.source_channels else []
    skip = ["--frame-skip", loaded.frame_skip] if loaded.frame_skip > 1 else []
    drawn, observed = ((), spec.names) if spec.rendering is None else (spec.names, ())
    found = observation_words(observed, loaded.vector_spec.names, spec.layout)
    cameras = [word for name in drawn for word in ("--camera", name)]
    return [*size, *grey, *skip, *found, *cameras]


def _record(loaded: LatentModel) -> Mapping[str, Any]:
    """How the model was trained."""
    checkpoint = loaded.checkpoint
    record: Mapping[str, Any] = {} if checkpoint is None else checkpoint.document["training"]
    return record


def _longer(loaded: LatentModel, model: Path, data: Path, updates: int) -> list[object]:
    """The run that made the model, gone on with."""
    from latentwrap.training import recipe_words

    trained = _record(loaded)
    words = recipe_words(trained["recipe"]) if "recipe" in trained else []
    seed = ["--seed", trained["seed"]] if trained.get("seed") else []
    command: list[object] = ["latentwrap", "pretrain", data, "-o", model, *words, *seed]
    return [*command, "--resume", "--steps", updates]


def _next_steps(
    quality: QualityReport, loaded: LatentModel, model: Path, data: Path
) -> list[list[object]]:
    """More training or more data, where that is what the verdict asks for; then an agent."""
    from latentwrap.evaluation.verdict import DATA, Level

    env_id, updates = quality.dataset["env_id"], quality.model["training_steps"]
    amiss = [f.topic for f in quality.verdict.findings if f.level is not Level.GOOD]
    steps: list[list[object]] = []
    alone = not _record(loaded).get("joint")  # else pretrain has nothing to go on with
    if set(amiss) - {DATA} and updates and quality.split.trained_on and alone:
        steps.append(_longer(loaded, model, data, 2 * updates))
    if DATA in amiss:
        more = data.with_stem(f"{data.stem}-more")
        count = 2 * (quality.dataset["frames"] - quality.dataset["episodes"])
        collect: list[object] = ["latentwrap", "collect", env_id, "-o", more, "--steps", count]
        steps.append([*collect, *_frame_words(loaded)])
    train: list[object] = ["latentwrap", "train", env_id, "--model", model]
    return [*steps, [*train, "--data", data] if quality.dataset["rewards"] else train]
