"""The training loop: updates until something ends them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from latentwrap.errors import TrainingDiverged
from latentwrap.interrupts import InterruptFlag
from latentwrap.progress import Bar
from latentwrap.runlog import MetricLog
from latentwrap.training.run_folder import RunFolder
from latentwrap.training.session import Session


class Loop:
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

    def run(self, log: MetricLog | None, interrupt: InterruptFlag, progress: Bar) -> str | None:
        """Train; returns the sentence of a divergence, if there was one."""
        any_process = self._session.processes.any
        trainer, training = self._session.trainer, self._session.recipe.training
        self._move(progress)
        while not any_process(self._done or interrupt.raised):
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

    def _log(self, log: MetricLog | None) -> None:
        self._summarize()
        if log is not None:
            log.write(
                self._session.trainer.steps_done,
                {f"train/{name}": value for name, value in self.train.items()},
            )

    def _evaluate(self, log: MetricLog | None) -> None:
        trainer = self._session.trainer
        heldout = trainer.measure_heldout()
        if heldout and log is not None:
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


def _note(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items() if name != "loss")
