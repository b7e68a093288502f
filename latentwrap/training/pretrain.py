"""Pretraining a latent model from a dataset, start to finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentwrap.datasets import Dataset, EpisodeSplit
from latentwrap.errors import ConfigError, TrainingDiverged
from latentwrap.files import refuse_existing, refuse_output, remove
from latentwrap.interrupts import InterruptFlag
from latentwrap.models import LatentModel, save_model
from latentwrap.progress import Bar, bar
from latentwrap.runlog import MetricLog
from latentwrap.training.memory import MemoryEstimate
from latentwrap.training.recipes import make_recipe
from latentwrap.training.run_folder import RunFolder
from latentwrap.training.session import Session
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
    data: str | Path,
    output: str | Path,
    *,
    preset: str = "fast",
    kind: str | None = None,
    latent: int | None = None,
    options: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    init: str | Path | None = None,
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
        data: a dataset of layout version 1.
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
    _check_output(output, Path(data), force=force or resume)
    folder = RunFolder.of(output)
    if not resume:
        refuse_existing(folder.path, force=force)
    dataset = Dataset(data)
    session = Session(dataset, recipe, seed=seed, device=device, init=init)
    identity = session.identity()
    if resume:
        folder.restore(session.trainer, identity)
    else:
        remove(folder.path)
    if on_start is not None:
        on_start(session.memory())
    try:
        return _run(
            session, output, folder, identity, minutes=minutes, resume=resume, show=show_progress
        )
    except TrainingDiverged:
        remove(folder.path)  # there is nothing in it to go on from
        raise


def _check_output(output: Path, data: Path, *, force: bool) -> None:
    if output.suffix != ".safetensors":
        raise ConfigError(f"A checkpoint must end in .safetensors, got {output}.")
    refuse_output(output, force=force, source=data)


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
    loop = _Loop(session, folder, identity, minutes=minutes)
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


class _Loop:
    """Runs updates until steps, minutes, Ctrl-C or NaN end them."""

    def __init__(
        self,
        session: Session,
        folder: RunFolder,
        identity: dict[str, Any],
        *,
        minutes: float | None,
    ) -> None:
        self._session, self._folder, self._identity = session, folder, identity
        self._earlier = folder.seconds
        self._started = time.monotonic()
        self._resumed_at = session.trainer.steps_done
        self._limit = None if minutes is None else 60 * minutes
        self._recent: list[dict[str, float]] = []
        self.train = folder.train

    @property
    def seconds(self) -> float:
        """Training time, that before a resume included; unchanged if there was no update."""
        if self._session.trainer.steps_done == self._resumed_at:
            return self._earlier
        return self._elapsed

    @property
    def title(self) -> str:
        """What the progress bar counts."""
        return "Pretraining" if self._steps is not None else "Pretraining (seconds)"

    @property
    def total(self) -> float:
        """Where the progress bar ends."""
        return float(self._limit or 0) if self._steps is None else self._steps

    @property
    def _steps(self) -> int | None:
        return self._session.recipe.training.steps

    @property
    def _elapsed(self) -> float:
        return self._earlier + time.monotonic() - self._started

    @property
    def _done(self) -> bool:
        if self._limit is not None and self._elapsed >= self._limit:
            return True
        return self._steps is not None and self._session.trainer.steps_done >= self._steps

    def run(self, log: MetricLog, interrupt: InterruptFlag, progress: Bar) -> str | None:
        """Train; returns the sentence of a divergence, if there was one."""
        trainer, training = self._session.trainer, self._session.recipe.training
        self._move(progress)
        while not self._done and not interrupt.raised:
            try:
                self._recent.append(trainer.step())
            except TrainingDiverged as error:
                return self._fall_back(error)
            self._move(progress)
            if trainer.steps_done % training.log_every == 0:
                self._log(log)
            if trainer.steps_done % training.evaluate_every == 0:
                self._evaluate(log)
        self._summarize()
        return None

    def _move(self, progress: Bar) -> None:
        note = _note(self._recent[-1]) if self._recent else None
        if self._steps is None:
            progress.move_to(round(min(self._elapsed, self.total)), note)
        else:
            progress.move_to(self._session.trainer.steps_done, note)

    def _log(self, log: MetricLog) -> None:
        self._summarize()
        log.write(
            self._session.trainer.steps_done,
            {f"train/{name}": value for name, value in self.train.items()},
        )

    def _evaluate(self, log: MetricLog) -> None:
        trainer = self._session.trainer
        heldout = trainer.measure_heldout()
        if heldout:
            log.write(trainer.steps_done, {f"heldout/{name}": v for name, v in heldout.items()})
        self._summarize()
        self._folder.save(trainer, self._identity, seconds=self.seconds, train=self.train)

    def _summarize(self) -> None:
        if self._recent:
            names = self._recent[0]
            self.train = {n: float(np.mean([r[n] for r in self._recent])) for n in names}
            self._recent = []

    def _fall_back(self, error: TrainingDiverged) -> str:
        """Return to the last saved state, whose loss was finite."""
        if not self._folder.has_state:
            raise error
        self._folder.restore(self._session.trainer, self._identity)
        kept = self._session.trainer.steps_done
        return f"{str(error).rstrip('.')}; the checkpoint holds the model of update {kept}."


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


def _note(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "loss")
