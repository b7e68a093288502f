"""The quality report: everything that can be measured of a model on a dataset."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latentwrap.datasets import Dataset
from latentwrap.evaluation.comparison import LINEAR, MLP
from latentwrap.evaluation.films import Film, make_film
from latentwrap.evaluation.information import InformationResult, LossResult, measure_windows
from latentwrap.evaluation.openloop import OpenLoopResult, open_loop
from latentwrap.evaluation.representations import LATENT, PCA_STACK, SINGLE
from latentwrap.evaluation.split import ReportSplit, split_for_report
from latentwrap.evaluation.states import StateReport, report_states
from latentwrap.evaluation.throughput import ThroughputResult, measure_throughput
from latentwrap.evaluation.verdict import (
    Verdict,
    judge_data,
    judge_drift,
    judge_information,
    judge_memory,
    judge_moving_object,
    judge_plainness,
    judge_prediction,
    judge_states,
    sum_up,
)
from latentwrap.models import LatentModel
from latentwrap.progress import Bar, bar
from latentwrap.seeding import child_seeds, numpy_generator
from latentwrap.training.statistics import check_dataset
from latentwrap.types import IntArray

_FILMS = 3
_STAGES = 6


@dataclass(frozen=True)
class QualityReport:
    """All measurements of one model on one dataset.

    Attributes:
        model, dataset: what they are, JSON-serialisable.
        split: which episodes were used for what.
        loss, information: on windows of the test episodes.
        open_loop: on the test episodes.
        open_loop_trained: on episodes that the model was trained on; `None` if none are known.
        states: probes, drift and the map of the latents.
        films: beginnings of test episodes.
        throughput: on this machine.
        verdict: in words.
        notes: what was left out, and why.
        seed: that decides samples, splits and starting points.
        seconds: that it took.
    """

    model: dict[str, Any]
    dataset: dict[str, Any]
    split: ReportSplit
    loss: LossResult
    information: InformationResult
    open_loop: OpenLoopResult
    open_loop_trained: OpenLoopResult | None
    states: StateReport
    films: list[Film]
    throughput: ThroughputResult
    verdict: Verdict
    notes: list[str]
    seed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All numbers, without pictures; NaN where something has no value."""
        trained = self.open_loop_trained
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": _split_json(self.split),
            "loss": asdict(self.loss),
            "information": asdict(self.information),
            "open_loop": asdict(self.open_loop),
            "open_loop_trained": None if trained is None else asdict(trained),
            "probe": self.states.probe_json(),
            "drift": {method: asdict(drift) for method, drift in self.states.drift.items()},
            "throughput": asdict(self.throughput),
            "verdict": asdict(self.verdict),
            "notes": self.notes,
            "seed": self.seed,
            "seconds": self.seconds,
        }


def evaluate_model(
    model: LatentModel, dataset: Dataset, *, seed: int = 0, show_progress: bool = False
) -> QualityReport:
    """Measure a model on episodes that it has not seen.

    Memory does not grow with the dataset: at most 30,000 frames are filtered, some hundred MiB of
    them at once.

    Args:
        model: any kind, in evaluation mode.
        dataset: that fits the model, with one episode or more.
        seed: of samples, splits and starting points.
        show_progress: draw a progress bar on standard error.

    Raises:
        DatasetError: the dataset does not fit the model.

    Example:
        >>> from latentwrap import load_model
        >>> from latentwrap.datasets import Dataset
        >>> model, data = load_model("car.safetensors"), Dataset("car.h5")  # doctest: +SKIP
        >>> print(evaluate_model(model, data).verdict.headline)  # doctest: +SKIP
        Good: nothing stands out.
    """
    check_dataset(model, dataset)
    with bar("Evaluating", _STAGES, show=show_progress) as progress:
        return _Evaluation(model, dataset, seed, progress).run()


class _Evaluation:
    """The stages of a report and what they share."""

    def __init__(self, model: LatentModel, dataset: Dataset, seed: int, progress: Bar) -> None:
        self._model, self._dataset, self._seed, self._progress = model, dataset, seed, progress
        split, loop, trained, probe, film = child_seeds(seed, 5)
        self._split = split_for_report(model, dataset, numpy_generator(split))
        self._loop_seed, self._trained_seed = loop, trained
        self._probe_seed, self._film_seed = probe, film
        self._notes: list[str] = []

    def run(self) -> QualityReport:
        """Measure everything."""
        started = time.monotonic()
        model, dataset, split = self._model, self._dataset, self._split
        self._stage("loss")
        measures = measure_windows(model, dataset, split.test)
        self._stage("prediction", done=1)
        loop = self._open_loop(split.test, self._loop_seed)
        trained = self._open_loop(split.fit, self._trained_seed) if split.trained_on else None
        self._stage("probes", done=1)
        states = report_states(model, dataset, split, seed=self._probe_seed)
        self._notes += states.notes
        self._stage("pictures", done=1)
        films = self._films()
        self._stage("speed", done=1)
        throughput = measure_throughput(model)
        self._stage("verdict", done=1)
        if not measures.information.kl:
            self._notes.append(f"The kind {model.kind} has no KL: there is nothing to collapse.")
        verdict = _judge(loop, trained, states, measures.information)
        self._stage("", done=1)
        return QualityReport(
            model=_describe_model(model),
            dataset=_describe_dataset(dataset),
            split=split,
            loss=measures.loss,
            information=measures.information,
            open_loop=loop,
            open_loop_trained=trained,
            states=states,
            films=films,
            throughput=throughput,
            verdict=verdict,
            notes=self._notes,
            seed=self._seed,
            seconds=time.monotonic() - started,
        )

    def _stage(self, name: str, *, done: int = 0) -> None:
        self._progress.advance(done, name)

    def _open_loop(self, episodes: IntArray, seed: int) -> OpenLoopResult:
        return open_loop(self._model, self._dataset, episodes, generator=numpy_generator(seed))

    def _films(self) -> list[Film]:
        """The beginnings of the longest test episodes."""
        test = self._split.test
        order = np.argsort(-self._dataset.lengths[test], kind="stable")
        chosen = np.sort(test[order[:_FILMS]]).tolist()
        return [make_film(self._model, self._dataset, e, seed=self._film_seed) for e in chosen]


def _judge(
    loop: OpenLoopResult,
    trained: OpenLoopResult | None,
    states: StateReport,
    information: InformationResult,
) -> Verdict:
    linear, mlp = states.r2(LATENT, LINEAR), states.r2(LATENT, MLP)
    return sum_up(
        [
            judge_moving_object(loop),
            judge_prediction(loop),
            judge_states(linear, mlp),
            judge_memory(mlp, states.r2(SINGLE, MLP), states.r2(PCA_STACK, MLP)),
            judge_plainness(linear, mlp),
            judge_drift(states.drift.get(MLP)),
            judge_information(information),
            judge_data(loop, trained),
        ]
    )


def _describe_model(model: LatentModel) -> dict[str, Any]:
    info = model.checkpoint
    training = {} if info is None else info.document.get("training", {})
    return {
        "path": None if info is None else info.path,
        "fingerprint": None if info is None else info.fingerprint,
        "kind": model.kind,
        "latent_size": model.latent_size,
        "noise_size": model.noise_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_steps": training.get("steps"),
        "training_seconds": training.get("seconds"),
    }


def _describe_dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "path": str(dataset.path),
        "env_id": dataset.info.env_id,
        "episodes": dataset.num_episodes,
        "frames": dataset.num_frames,
        "rewards": dataset.rewards is not None,
        "frame_shape": list(dataset.info.frame.shape),
        "states": {name: column.shape[1] for name, column in dataset.states.items()},
    }


def _split_json(split: ReportSplit) -> dict[str, Any]:
    return {
        "fit_episodes": split.fit.tolist(),
        "test_episodes": split.test.tolist(),
        "unseen": split.unseen,
        "note": split.note,
    }
