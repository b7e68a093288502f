"""Charts of the report as SVG pictures that follow the reader's light or dark theme."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from latentwrap.evaluation.comparison import States
from latentwrap.evaluation.drift import DriftResult
from latentwrap.evaluation.openloop import NO_ERROR, OpenLoopResult
from latentwrap.extras import require
from latentwrap.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A colour that nothing else has; the theme's text colour takes its place.
_INK = "#123454"
_THEME = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d0d7de}}</style>"
_COLOURS = {
    "model": "#2f81f7",
    "copy": "#e36209",
    "mean": "#8b949e",
}
_CYCLE = ("#2f81f7", "#e36209", "#2da44e", "#bf4b8a", "#8250df", "#b08800", "#1b7c83", "#8b949e")
_NAMES = {"model": "model", "copy": "copy the last frame", "mean": "the mean frame"}
_PANELS = 6
_POINTS = 3000
_HIGH, _LOWEST = 0.8, -0.5


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        svg: UTF-8, without anything outside of it.
        alt: what it shows, for those who cannot see it.
    """

    svg: bytes
    alt: str


def draw_open_loop(result: OpenLoopResult) -> Chart:
    """PSNR against horizon, of the whole frame and of the moving region.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with _figure(9, 3.6) as page:
        left, right = page.figure.subplots(1, 2, sharey=False)
        _lines_of_psnr(left, result.whole, "whole frame")
        _lines_of_psnr(right, result.moving, "moving region alone")
        left.set_ylabel("PSNR in dB (more is better)")
        left.legend(frameon=False, fontsize="small")
        end = {name: values[-1] for name, values in result.moving.items()}
        words = ", ".join(f"{_NAMES[name]} {value:.1f} dB" for name, value in end.items())
        page.alt = (
            f"Prediction error against horizon up to {result.horizon} steps. In the moving "
            f"region at the last step: {words}."
        )
    return page.chart()


def draw_drift(result: DriftResult, method: str) -> Chart:
    """R² of a probe by step of the episode.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with _figure(7, 3.4) as page:
        axes = page.figure.subplots()
        centres = (np.array(result.edges[:-1]) + np.array(result.edges[1:]) - 1) / 2
        for colour, (name, scores) in zip(_cycle(), result.r2.items(), strict=False):
            shown = np.maximum(scores, _LOWEST)
            axes.plot(centres, shown, marker="o", markersize=4, color=colour, label=name)
        axes.set_xlabel("step of the episode")
        axes.set_ylabel(f"R² of the {method} probe")
        lowest = min((s for line in result.r2.values() for s in line if s > _LOWEST), default=0)
        axes.set_ylim(min(_HIGH, lowest - 0.05), 1.02)
        _legend(axes, len(result.r2))
        worst = max(result.drop.values(), default=0.0)
        page.alt = f"R² of the {method} probe by step; the largest loss is {worst:.3f}."
    return page.chart()


def draw_information(kl: Sequence[float], threshold: float) -> Chart:
    """KL of each stochastic dimension, sorted.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with _figure(7, 3) as page:
        axes = page.figure.subplots()
        ordered = np.sort(np.asarray(kl))[::-1]
        axes.bar(np.arange(1, len(ordered) + 1), ordered, color=_COLOURS["model"])
        axes.axhline(threshold, linestyle="--", color=_INK, linewidth=1)
        axes.set_yscale("symlog", linthresh=threshold)
        axes.set_xlim(0.4, len(ordered) + 0.6)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("stochastic dimension, sorted")
        axes.set_ylabel("KL, nats a step")
        page.alt = (
            f"KL of {len(ordered)} dimensions, from {ordered[0]:.3g} down to {ordered[-1]:.3g} "
            "nats a step."
        )
    return page.chart()


def draw_map(points: FloatArray, states: States) -> Chart:
    """Latents on their first two principal components, one panel for each state.

    Args:
        points: float32 (N, 2).
        states: of the same frames; the first 6 that are known anywhere get a panel each, and
            without any there is one without colour.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    known = np.flatnonzero(np.isfinite(states.values).any(axis=0))[:_PANELS]
    names = [states.names[column] for column in known]
    panels = max(1, len(names))
    columns = min(3, panels)
    rows = -(-panels // columns)
    shown = np.unique(np.linspace(0, len(points) - 1, _POINTS).astype(int))
    x, y = points[shown].T
    with _figure(3.2 * columns + 0.4, 2.7 * rows) as page:
        grid = page.figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid[panels:]:
            axes.set_visible(False)
        for index, axes in enumerate(grid[:panels]):
            colours = states.values[shown, known[index]] if names else None
            _scatter(page.figure, axes, (x, y), colours, names[index] if names else "")
        page.alt = f"{len(shown)} latents on their first two principal components" + (
            f", coloured by {', '.join(names)}." if names else "."
        )
    return page.chart()


class _Page:
    """A figure being drawn."""

    def __init__(self, figure: Figure) -> None:
        self.figure, self.alt, self._svg = figure, "", b""

    def save(self) -> None:
        """Write the SVG; called with the settings of the report in force."""
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
        text = stream.getvalue().replace(_INK, "currentColor")
        head = text.index(">", text.index("<svg")) + 1
        self._svg = (text[:head] + _THEME + text[head:]).encode()

    def chart(self) -> Chart:
        """What was drawn."""
        return Chart(self._svg, self.alt)


@contextmanager
def _figure(width: float, height: float) -> Iterator[_Page]:
    """A figure in the colours of the theme, saved when the block ends well."""
    matplotlib = require("matplotlib", extra="report", purpose="The report page")
    from matplotlib.figure import Figure

    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[str, Any] = dict.fromkeys(ink, _INK)
    settings |= {"svg.hashsalt": "latentwrap", "font.size": 9, "axes.grid": True}
    settings |= {
        "axes.axisbelow": True,
        "grid.alpha": 0.25,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        page = _Page(Figure(figsize=(width, height), layout="constrained"))
        yield page
        page.save()


def _lines_of_psnr(axes: Axes, curves: Mapping[str, Sequence[float]], title: str) -> None:
    for name, values in curves.items():
        known = [k for k, value in enumerate(values) if value < NO_ERROR]
        style = "-" if name == "model" else "--"
        axes.plot(
            known, [values[k] for k in known], style, marker="o", markersize=3,
            color=_COLOURS[name], label=_NAMES[name],
        )  # fmt: skip
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("steps ahead (0: the frame is seen)")


def _scatter(
    figure: Figure,
    axes: Axes,
    points: tuple[AnyArray, AnyArray],
    colours: AnyArray | None,
    title: str,
) -> None:
    dots: dict[str, Any] = {"s": 3, "linewidths": 0, "rasterized": True}
    if colours is None:
        axes.scatter(*points, color=_COLOURS["model"], **dots)
    else:
        figure.colorbar(axes.scatter(*points, c=colours, cmap="viridis", **dots), ax=axes)
    axes.set_title(title, fontsize="medium")
    axes.set_xticks([])
    axes.set_yticks([])


def _cycle() -> Iterator[str]:
    while True:
        yield from _CYCLE


def _legend(axes: Axes, count: int) -> None:
    axes.legend(frameon=False, fontsize="small", ncols=1 + (count - 1) // 6, loc="lower right")
