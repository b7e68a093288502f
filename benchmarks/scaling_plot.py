"""The picture of `scaling.py`: a panel for each thing that costs grow with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from scaling import HELD, Row

mpl.use("Agg")
from matplotlib import pyplot as plt

_WINDOW = 32  # frames, of the preset


@dataclass(frozen=True)
class Panel:
    """What is drawn over what; `doubling` spreads the axis by powers of two."""

    axis: str
    x: Callable[[Row], float]
    label: str
    doubling: bool = False


PANELS = (
    Panel("episode", lambda row: row.case.episode, "frames in an episode", doubling=True),
    Panel("size", lambda row: row.case.side**2 / 1000, "thousand pixels in a frame"),
    Panel("latent", lambda row: row.case.latent or 0, "dimensions of the latent", doubling=True),
    Panel("batch", lambda row: row.case.batch, "windows in a batch"),
)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw what there is, and save."""
    figure, axes = plt.subplots(2, 3, figsize=(12.6, 7.2))
    total, memory, *others = axes.flat
    _draw_frames(total, rows, lambda row: row.cpu * _passes(row))
    _style(total, "seconds of a core to see every frame once", "thousand frames in the dataset")
    _draw_frames(memory, rows, lambda row: row.megabytes)
    _style(memory, "megabytes of memory", "thousand frames in the dataset")
    for axis, panel in zip(others, PANELS, strict=True):
        ours = [row for row in rows if row.case.axis == panel.axis]
        _line(axis, _of(ours, "update"), panel.x, lambda row: 1e3 * row.cpu, "an update", "o-")
        _line(axis, _of(ours, "filter"), panel.x, _hundred, "filtering 100 frames", "s--")
        if panel.doubling:
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
        _style(axis, "milliseconds of a core", panel.label)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _draw_frames(axis: Any, rows: Sequence[Row], value: Callable[[Row], float]) -> None:
    ours = [row for row in rows if row.case.axis == "frames"]
    updates, filtered = _of(ours, "update"), _of(ours, "filter")
    held = [row for row in updates if row.case.memory == HELD]
    streamed = [row for row in updates if row.case.memory != HELD]
    _line(axis, held, _thousands, value, "pretraining, frames held", "^:")
    _line(axis, streamed, _thousands, value, "pretraining, frames streamed", "o-")
    _line(axis, filtered, _thousands, value, "filtering", "s--")


def _line(
    axis: Any,
    rows: Sequence[Row],
    x: Callable[[Row], float],
    value: Callable[[Row], float],
    label: str,
    marker: str,
) -> None:
    if rows:
        ordered = sorted(rows, key=x)
        xs, ys = [x(row) for row in ordered], [value(row) for row in ordered]
        axis.plot(xs, ys, marker, label=label, markersize=4, linewidth=1.6)


def _thousands(row: Row) -> float:
    return row.case.frames / 1000


def _of(rows: Sequence[Row], work: str) -> list[Row]:
    return [row for row in rows if row.case.work == work]


def _passes(row: Row) -> float:
    """How often the measured work is done until every frame was seen once."""
    return 1 if row.case.work == "filter" else row.case.frames / (row.case.batch * _WINDOW)


def _hundred(row: Row) -> float:
    """Milliseconds of a core for 100 frames."""
    return 100 * 1e3 * row.cpu / row.case.frames


def _style(axis: Any, title: str, label: str) -> None:
    axis.set_title(title, fontsize=11)
    axis.set_xlabel(label)
    axis.set_ylim(bottom=0)
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
