"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import importlib.resources
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from latentwrap.evaluation.charts import (
    Chart,
    draw_drift,
    draw_information,
    draw_map,
    draw_open_loop,
)
from latentwrap.evaluation.comparison import LINEAR, MLP
from latentwrap.evaluation.films import Film
from latentwrap.evaluation.information import ACTIVE
from latentwrap.evaluation.openloop import MOVED, NO_ERROR, PREDICTORS
from latentwrap.evaluation.report import QualityReport
from latentwrap.evaluation.representations import REPRESENTATIONS, STACK
from latentwrap.extras import require
from latentwrap.types import Frame

_TEMPLATE = "report.html"
_FRAME_MS = 100
_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """An image for the page: a data URI, and its words for those who cannot see it."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Strip:
    """A film as the page shows it: its rows of pictures, and all of it moving."""

    film: Film
    rows: dict[str, Picture]
    moving: Picture
    still: Picture


def render_page(report: QualityReport) -> str:
    """The whole page, with all pictures in it and no reference to anything outside.

    Raises:
        MissingExtra: jinja2, matplotlib or imageio is not installed.
    """
    jinja2 = require("jinja2", extra="report", purpose="The report page")
    source = importlib.resources.files("latentwrap.evaluation").joinpath(_TEMPLATE)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = format_number
    template = environment.from_string(source.read_text(encoding="utf-8"))
    page: str = template.render(
        report=report,
        strips=[_strip(film) for film in report.films],
        charts=_charts(report),
        predictors=PREDICTORS,
        horizons=_some_horizons(report.open_loop.horizon),
        representations=REPRESENTATIONS,
        methods=(LINEAR, MLP),
        active=ACTIVE,
        moved=MOVED,
        no_error=NO_ERROR,
        stack=STACK,
    )
    return page


def format_number(value: Any, digits: int = 3) -> str:
    """A number for people; a dash for what has no value.

    >>> format_number(0.98765), format_number(12345.6, 1), format_number(float("nan"))
    ('0.988', '12,345.6', '–')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    # Adding zero turns −0 into 0.
    return f"{value:,d}" if isinstance(value, int) else f"{round(value, digits) + 0.0:,.{digits}f}"


def _charts(report: QualityReport) -> dict[str, Picture]:
    states = report.states
    charts: dict[str, Chart] = {"open_loop": draw_open_loop(report.open_loop)}
    for method, drift in states.drift.items():
        charts[f"drift_{method}"] = draw_drift(drift, method)
    if report.information.kl:
        charts["information"] = draw_information(report.information.kl, ACTIVE)
    charts["map"] = draw_map(states.map, states.states)
    return {
        name: Picture(_data_uri("svg+xml", chart.svg), chart.alt) for name, chart in charts.items()
    }


def _strip(film: Film) -> Strip:
    steps = ", ".join(str(step) for step in film.shown)
    rows = {
        name: Picture(
            _data_uri("png", _png(film.strip(name))),
            f"Episode {film.episode}, {name}, at steps {steps}.",
        )
        for name in film.rows
    }
    pictures = film.pictures()
    words = (
        f"Episode {film.episode}: frame, filtered reconstruction, open-loop prediction from frame "
        f"{film.context} on, and a prior sample"
    )
    moving = Picture(_data_uri("webp", _webp(pictures)), f"{words}, as an animation.")
    still = Picture(_data_uri("png", _png(pictures[-1])), f"{words}, at the last step shown.")
    return Strip(film, rows, moving, still)


def _png(picture: Frame) -> bytes:
    pixels = picture if picture.shape[2] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded: bytes = cv2.imencode(".png", pixels)[1].tobytes()
    return encoded


def _webp(pictures: Sequence[Frame]) -> bytes:
    imageio = require("imageio.v3", extra="report", purpose="The report page")
    colour = [np.repeat(p, 3, axis=2) if p.shape[2] == 1 else p for p in pictures]
    encoded: bytes = imageio.imwrite(
        "<bytes>", np.stack(colour), extension=".webp", plugin="pillow",
        duration=_FRAME_MS, loop=0, quality=_QUALITY,
    )  # fmt: skip
    return encoded


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _some_horizons(horizon: int) -> list[int]:
    """Few enough columns for a narrow screen, the first and last among them."""
    wanted = [0, 1, 2, 3, 5, 8, 10, horizon]
    return sorted({k for k in wanted if k <= horizon})
