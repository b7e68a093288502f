"""Pretraining a latent model from a dataset, start to finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentwrap.datasets import Dataset, EpisodeSplit, Source, find_files, mix_files
from latentwrap.errors import ConfigError, TrainingDiverged
from latentwrap.files import refuse_existing, refuse_output, remove
from latentwrap.interrupts import InterruptFlag
from latentwrap.models import LatentModel, save_model
from latentwrap.progress import bar
from latentwrap.runlog import MetricLog
from latentwrap.training.loop import Loop
from latentwrap.training.memory import MemoryEstimate
from latentwrap.training.recipes import make_recipe
from latentwrap.training.run_folder import RunFolder
from latentwrap.training.session import Loading, Session
from latentwrap.training.statistics import latent_statistics


@dataclass(frozen=True)
class PretrainResult:
    """What a pretraining run left behind.

    Attributes:
        env_id: what the dataset is of.
        checkpoint: the model after the last update.
        best: the model with the lowest held-out loss; `None` if nothing was held out.
        steps: updates in total, those before a resume included.
        begun_at: how many those were.
        seconds: training time in total.
        train: loss terms averaged over the last logged updates.
        heldout: loss terms on held-out windows at the end; empty if nothing was held out.
        interrupted: Ctrl-C ended it.
        diverged: the sentence that says so if the loss became NaN, else `None`.
        skipped_episodes: training episodes shorter than a window.
        rewards: the dataset has them.
        note: what else the user should know, such as a missing TensorBoard.
    """

    env_id: str
    checkpoint: Path
    best: Path | None
    steps: int
    begun_at: int
    seconds: float
    train: dict[str, float]
    heldout: dict[str, float]
    interrupted: bool
    diverged: str | None
    skipped_episodes: int
    rewards: bool
    note: str | None


def pretrain(
    data: Source,
    output: str | Path,
    *,
    mix: Mapping[str, float] | None = None,
    preset: str = "fast",
    kind: str | None = None,
    latent: int | None = None,
    options: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    init: str | Path | None = None,
    loading: Loading | None = None,
    resume: bool = False,
    force: bool = False,
    show_progress: bool = False,
    on_start: Callable[[MemoryEstimate], None] | None = None,
) -> PretrainResult:
    """Train a latent model and write its checkpoint.

    The folder `<output without suffix>.run/` holds metrics, the trainer's state for `resume`,
    and `best.safetensors`. Ctrl-C, and a loss that becomes NaN, end the training early and
    still leave a checkpoint.

    Args:
        data: a dataset of layout version 1; a pattern such as `shards/*.h5`, or several files,
            are one dataset.
        mix: how often to learn from each file, weights by name or pattern; a file without one is
            left out. `None` takes all windows equally often.
        output: the checkpoint, a `.safetensors` file.
        preset: `fast` or `paper`.
        kind: `rssm`, `slac` or `deterministic`; `None` takes the preset's own.
        latent: dimensions of the latent to hand out; `None` leaves the preset's.
        options: hyperparameters that differ from the preset, by name.
        minutes: stop after this much training time, even if `steps` says more; without `steps`
            among the options, time alone decides.
        seed: of weights, windows, noise and held-out episodes.
        device: `auto`, `cpu` or `cuda`.
        init: a checkpoint whose weights to start from.
        loading: how much of the data to hold in memory, and who reads the rest; it changes no
            result.
        resume: go on with an earlier run of the same arguments.
        force: replace an earlier run.
        show_progress: draw a progress bar on standard error.
        on_start: told before the first update how much memory the run will need.

    Raises:
        LatentwrapError: bad data, options or files; one sentence each.
        TrainingDiverged: the loss became NaN before there was a good state to keep.

    Example:
        >>> from latentwrap.training import pretrain
        >>> pretrain("pendulum.h5", "pendulum.safetensors").heldout  # doctest: +SKIP
    """
    output = Path(output)
    unlimited = {} if minutes is None else {"steps": None}
    recipe = make_recipe(preset, {**unlimited, **(options or {})}, kind=kind, latent=latent)
    if recipe.training.steps is None and minutes is None:
        raise ConfigError("Pretraining requires steps or minutes, got neither: give one of them.")
    paths = find_files(data)
    _check_output(output, paths, force=force or resume)
    folder = RunFolder.of(output)
    if not resume:
        refuse_existing(folder.path, force=force)
    chosen = mix_files(paths, mix or {})
    session = Session(
        Dataset(chosen.paths),
        recipe,
        seed=seed,
        device=device,
        init=init,
        loading=loading or Loading(),
        weights=chosen.weights,
    )
    with closing(session):
        return _train(
            session,
            output,
            folder,
            minutes=minutes,
            resume=resume,
            show=show_progress,
            on_start=on_start,
        )


def _train(
    session: Session,
    output: Path,
    folder: RunFolder,
    *,
    minutes: float | None,
    resume: bool,
    show: bool,
    on_start: Callable[[MemoryEstimate], None] | None,
) -> PretrainResult:
    identity = session.identity()
    if resume:
        folder.restore(session.trainer, identity)
    else:
        remove(folder.path)
    if on_start is not None:
        on_start(session.memory())
    try:
        return _run(session, output, folder, identity, minutes=minutes, resume=resume, show=show)
    except TrainingDiverged:
        remove(folder.path)  # there is nothing in it to go on from
        raise


def _check_output(output: Path, data: Sequence[Path], *, force: bool) -> None:
    if output.suffix != ".safetensors":
        raise ConfigError(f"A checkpoint must end in .safetensors, got {output}.")
    for path in data:
        refuse_output(output, force=True, source=path)
    refuse_output(output, force=force)


def _run(
    session: Session,
    output: Path,
    folder: RunFolder,
    identity: dict[str, Any],
    *,
    minutes: float | None,
    resume: bool,
    show: bool,
) -> PretrainResult:
    trainer = session.trainer
    loop = Loop(session, folder, identity, minutes=minutes)
    begun_at = trainer.steps_done
    resume_at = begun_at if resume else None
    with MetricLog(folder.path, resume_at=resume_at) as log, InterruptFlag() as interrupt:
        with bar(loop.title, loop.total, show=show) as progress:
            diverged = loop.run(log, interrupt, progress)
        # Saved first: a run that goes on from here must not know of this extra measurement.
        seconds = loop.seconds
        folder.save(trainer, identity, seconds=seconds, train=loop.train)
        heldout = trainer.measure_heldout()
        note = log.note
    record = {**identity, "steps": trainer.steps_done, "seconds": seconds}
    record |= {"train": loop.train, "heldout": heldout}
    record["heldout_episodes"] = session.split.heldout.tolist()
    best = _write_checkpoints(session, output, folder, record, show=show)
    return PretrainResult(
        env_id=session.dataset.info.env_id,
        checkpoint=output,
        best=best,
        steps=trainer.steps_done,
        begun_at=begun_at,
        seconds=seconds,
        train=loop.train,
        heldout=heldout,
        interrupted=interrupt.raised,
        diverged=diverged,
        skipped_episodes=session.sampler.skipped,
        rewards=session.dataset.rewards is not None,
        note=note,
    )


def _write_checkpoints(
    session: Session, output: Path, folder: RunFolder, record: dict[str, Any], *, show: bool
) -> Path | None:
    """Write the last model and, if episodes were held out, the best beside it."""
    model, split = session.model, session.split
    total = 1 if session.trainer.best_loss == float("inf") else 2
    with bar("Measuring latents", total, show=show) as progress:
        _finish(model, session.dataset, split)
        save_model(output, model, training=record)
        progress.advance()
        if total == 1:
            return None
        session.trainer.load_best()
        _finish(model, session.dataset, split)
        best_record = {**record, "heldout": {"loss": session.trainer.best_loss}}
        save_model(folder.best, model, training=best_record)
        progress.advance()
    return folder.best


def _finish(model: LatentModel, dataset: Dataset, split: EpisodeSplit) -> None:
    model.normalizer = latent_statistics(model, dataset, split.train)
