"""The picture of the comparison: return over minutes of learning, a panel for each task.

    python benchmarks/comparison_plot.py rows.csv -o docs/images/comparison.png

Lines are means over seeds, shades reach from the worst to the best of them. A line begins where the
agent does: what is left of it is collecting data and pretraining the model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from comparison_rows import Row, read_rows

from latentwrap.types import FloatArray

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True)
class Style:
    """How a method is drawn; shades of grey and dashes tell them apart without colours too."""

    label: str
    colour: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"


STYLES: Mapping[str, Style] = {
    "frozen": Style("latentwrap: pretrained, frozen", "#0072b2"),
    "finetuned": Style("latentwrap: pretrained, fine-tuned", "#56b4e9", (0, (5, 1.5))),
    "joint": Style("latentwrap: SLAC from nothing", "#e69f00", (0, (3, 1, 1, 1))),
    "cnn": Style("SB3 SAC, CnnPolicy, 3 frames", "#d55e00", (0, (1.5, 1))),
    "state": Style("SB3 SAC on the true state", "#000000", (0, (7, 2))),
}
TITLES = {
    "pendulum": "PixelPendulum",
    "cartpole": "dm_control cartpole swingup, action repeat 4",
}
GOALS = {
    "pendulum": (-200.0, "solved"),
    "cartpole": (818.0, "SLAC as published, after 1 million steps"),
}
POINTS = 200


@dataclass(frozen=True)
class Band:
    """A method's returns over time: minutes, and mean, lowest and highest over seeds."""

    minutes: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def main() -> None:
    """Read the rows, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("rows", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("comparison.png"))
    parser.add_argument("--minutes", type=float, help="where the picture ends")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    tasks = [task for task in TITLES if any(row.task == task for row in rows)]
    if not tasks:
        parser.error(f"{arguments.rows} has no rows of a task that can be drawn.")
    figure = draw({task: [r for r in rows if r.task == task] for task in tasks}, arguments.minutes)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=150)


def draw(rows: Mapping[str, Sequence[Row]], end: float | None) -> Any:
    """A figure with a panel for each task."""
    size = (5.6 * len(rows) + 0.4, 4.4)
    figure, axes = plt.subplots(1, len(rows), figsize=size, squeeze=False)
    drawn: dict[str, Any] = {}
    for axis, (task, some) in zip(axes[0], rows.items(), strict=True):
        drawn |= _draw_panel(axis, task, some, end)
    axes[0][0].set_ylabel("return of the mean action")
    ordered = [name for name in STYLES if name in drawn]
    columns = min(len(ordered), 3 if len(rows) > 1 else 2)
    figure.legend(
        [drawn[name] for name in ordered],
        [STYLES[name].label for name in ordered],
        loc="lower center",
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        handlelength=3,
        columnspacing=1.5,
    )
    lines = -(-len(ordered) // columns)
    figure.tight_layout(rect=(0, 0.02 + 0.055 * lines, 1, 1))
    return figure


def _draw_panel(axis: Any, task: str, rows: Sequence[Row], end: float | None) -> dict[str, Any]:
    """Draw what there is; returns a line for each method."""
    lines = {}
    for name, style in STYLES.items():
        band = _band([row for row in rows if row.method == name])
        if band is None:
            continue
        (lines[name],) = axis.plot(
            band.minutes, band.mean, color=style.colour, linestyle=style.dashes, linewidth=1.8
        )
        axis.fill_between(
            band.minutes, band.low, band.high, color=style.colour, alpha=0.15, linewidth=0
        )
    _draw_level(axis, *GOALS[task], above=False)  # where good curves leave room
    chance = [row.return_mean for row in rows if row.method == "random"]
    if chance:
        _draw_level(axis, float(np.mean(chance)), "random policy", above=True)
    seeds = {row.seed for row in rows if row.method in STYLES}
    threads = sorted({row.threads for row in rows})
    cores = " or ".join(map(str, threads)) + (" thread" if threads == [1] else " threads")
    axis.set_title(f"{TITLES[task]}\n", fontsize=11)
    words = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}, {cores} each"
    axis.text(0.5, 1.02, words, transform=axis.transAxes, ha="center", fontsize=9, color="0.35")
    axis.set_xlabel("minutes of learning, on the same machine")
    axis.set_xlim(0, end)
    axis.margins(x=0)
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
    return lines


def _draw_level(axis: Any, value: float, label: str, *, above: bool) -> None:
    axis.axhline(value, color="0.55", linewidth=0.9, linestyle=":", zorder=0)
    axis.annotate(
        label,
        (0.99, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2 if above else -3),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=8,
        color="0.35",
    )


def _band(rows: Sequence[Row]) -> Band | None:
    """Seeds on common times, from where all of them have begun to where one of them ends."""
    curves = []
    for seed in sorted({row.seed for row in rows}):
        ours = sorted((r for r in rows if r.seed == seed), key=lambda r: r.learning_seconds)
        curves.append(np.array([(r.learning_seconds / 60, r.return_mean) for r in ours]))
    if not curves:
        return None
    begin, end = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    minutes = np.linspace(begin, end, POINTS)
    values = np.stack([np.interp(minutes, curve[:, 0], curve[:, 1]) for curve in curves])
    return Band(minutes, values.mean(axis=0), values.min(axis=0), values.max(axis=0))


if __name__ == "__main__":
    main()
