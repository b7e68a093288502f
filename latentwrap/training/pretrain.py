"""Pretraining a latent model from a dataset, start to finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from latentwrap.datasets import Dataset, Source, find_files, mix_files
from latentwrap.errors import ConfigError, TrainingDiverged
from latentwrap.files import refuse_existing, refuse_output, remove
from latentwrap.interrupts import InterruptFlag
from latentwrap.models import save_model
from latentwrap.progress import bar
from latentwrap.runlog import MetricLog
from latentwrap.training.loop import Loop
from latentwrap.training.memory import MemoryEstimate
from latentwrap.training.processes import Processes, connected
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

    In processes that torchrun started, each computes its share of every batch; the first writes
    all files. A run may be resumed in another number of them.

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
        show_progress: draw a progress bar on standard error; the first process does.
        on_start: told before the first update how much memory the run will need, in the first
            process.

    Raises:
        LatentwrapError: bad data, options or files; one sentence each, `FailedElsewhere` where
            another process has it.
        TrainingDiverged: the loss became NaN before there was a good state to keep.

    Example:
        >>> from latentwrap.training import pretrain
        >>> pretrain("pendulum.h5", "pendulum.safetensors").heldout  # doctest: +SKIP
    """
    unlimited = {} if minutes is None else {"steps": None}
    output = Path(output)

    def begin(processes: Processes) -> Session:
        recipe = make_recipe(preset, {**unlimited, **(options or {})}, kind=kind, latent=latent)
        if recipe.training.steps is None and minutes is None:
            raise ConfigError(
                "Pretraining requires steps or minutes, got neither: give one of them."
            )
        paths = find_files(data)
        if processes.first:
            _check_output(output, paths, resume=resume, force=force)
        chosen = mix_files(paths, mix or {})
        return Session(
            Dataset(chosen.paths),
            recipe,
            seed=seed,
            device=device,
            init=init,
            loading=loading or Loading(),
            weights=chosen.weights,
            processes=processes,
        )

    with (
        connected(device) as processes,
        closing(processes.together(lambda: begin(processes))) as session,
    ):
        return _train(
            session,
            output,
            minutes=minutes,
            resume=resume,
            show=show_progress and processes.first,
            on_start=on_start,
        )


def _train(
    session: Session,
    output: Path,
    *,
    minutes: float | None,
    resume: bool,
    show: bool,
    on_start: Callable[[MemoryEstimate], None] | None,
) -> PretrainResult:
    processes = session.processes
    identity, folder = session.identity(), RunFolder.of(output, processes)
    first = processes.broadcast(identity)
    processes.together(lambda: _check_same(first, identity))
    if resume:
        folder.restore(session.trainer, identity)
    else:
        processes.from_first(lambda: remove(folder.path))
    if on_start is not None:
        processes.from_first(lambda: on_start(session.memory()))
    try:
        return _run(session, output, folder, identity, minutes=minutes, resume=resume, show=show)
    except TrainingDiverged as error:
        diverged = error
    return processes.from_first(lambda: _abandon(folder, diverged))


def _abandon(folder: RunFolder, error: TrainingDiverged) -> NoReturn:
    """Leave nothing of a run that there is nothing to go on from."""
    remove(folder.path)
    raise error


def _check_output(output: Path, data: Sequence[Path], *, resume: bool, force: bool) -> None:
    if output.suffix != ".safetensors":
        raise ConfigError(f"A checkpoint must end in .safetensors, got {output}.")
    for path in data:
        refuse_output(output, force=True, source=path)
    refuse_output(output, force=force or resume)
    if not resume:
        refuse_existing(RunFolder.of(output).path, force=force)


def _check_same(first: dict[str, Any], identity: dict[str, Any]) -> None:
    """Machines that hold other data would each learn something else."""
    others = [name for name, value in identity.items() if first[name] != value]
    if others:
        raise ConfigError(
            f"All processes of a run require the same data and options, got another {others[0]} in "
            "one of them: copy the data to every machine, and start the same command there."
        )


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
    trainer, processes = session.trainer, session.processes
    loop = Loop(session, folder, identity, minutes=minutes)
    begun_at = trainer.steps_done
    with _open_log(session, folder, resume=resume) as log, InterruptFlag() as interrupt:
        with bar(loop.title, loop.total, show=show) as progress:
            diverged = loop.run(log, interrupt, progress)
        # Saved first: a run that goes on from here must not know of this extra measurement.
        seconds = loop.seconds
        folder.save(trainer, identity, seconds=seconds, train=loop.train)
        heldout = trainer.measure_heldout()
        note = None if log is None else log.note
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
        interrupted=processes.any(interrupt.raised),
        diverged=diverged,
        skipped_episodes=session.sampler.skipped,
        rewards=session.dataset.rewards is not None,
        note=note,
    )


def _open_log(
    session: Session, folder: RunFolder, *, resume: bool
) -> AbstractContextManager[MetricLog | None]:
    """The record, which the first process keeps."""
    resume_at = session.trainer.steps_done if resume else None
    processes = session.processes
    log = processes.together(
        lambda: MetricLog(folder.path, resume_at=resume_at) if processes.first else None
    )
    return log or nullcontext()


def _write_checkpoints(
    session: Session, output: Path, folder: RunFolder, record: dict[str, Any], *, show: bool
) -> Path | None:
    """Write the last model and, if episodes were held out, the best beside it."""
    total = 1 if session.trainer.best_loss == float("inf") else 2
    with bar("Measuring latents", total, show=show) as progress:
        _write_checkpoint(session, output, record)
        progress.advance()
        if total == 1:
            return None
        session.trainer.load_best()
        best_record = {**record, "heldout": {"loss": session.trainer.best_loss}}
        _write_checkpoint(session, folder.best, best_record)
        progress.advance()
    return folder.best


def _write_checkpoint(session: Session, path: Path, record: dict[str, Any]) -> None:
    model, processes = session.model, session.processes
    model.normalizer = latent_statistics(model, session.dataset, session.split.train, processes)
    processes.from_first(lambda: save_model(path, model, training=record))
