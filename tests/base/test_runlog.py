"""The metrics of a run: CSV, TensorBoard, and going on after a resume."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from latentwrap.errors import CheckpointError
from latentwrap.runlog import MetricLog, read_metrics


def test_rows_come_back_with_the_names_they_had(tmp_path: Path) -> None:
    with MetricLog(tmp_path) as log:
        log.write(1, {"loss": 0.5})
        log.write(2, {"loss": 0.25, "heldout": 1.0})
        log.write(3, {"heldout": 2.0})
    assert read_metrics(tmp_path / "metrics.csv") == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25, "heldout": 1.0},
        {"step": 3, "heldout": 2.0},
    ]


def test_a_resumed_log_drops_rows_after_the_state(tmp_path: Path) -> None:
    with MetricLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
    with MetricLog(tmp_path, resume_at=2) as log:
        log.write(3, {"loss": 30.0})
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.csv")] == [1.0, 2.0, 30.0]


def test_a_new_log_starts_anew(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        with MetricLog(tmp_path) as log:
            log.write(1, {"loss": value})
    assert read_metrics(tmp_path / "metrics.csv") == [{"step": 1, "loss": 2.0}]


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    with MetricLog(tmp_path) as log:
        log.write(5, {"loss": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 0.5)]


def test_without_tensorboard_there_is_a_note_and_a_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with MetricLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
        assert log.note is not None
        assert "pip install 'latentwrap[train]'" in log.note
    assert len(read_metrics(tmp_path / "metrics.csv")) == 1


def test_a_foreign_log_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="rows without a step"):
        MetricLog(tmp_path, resume_at=3)
    assert path.read_text(encoding="utf-8") == "x,y\n1,2\n"
