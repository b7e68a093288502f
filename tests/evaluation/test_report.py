"""The whole report: its numbers, its page, and what it leaves out."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence
from tests.conftest import make_tiny_model
from tests.evaluation.dots import DotModel, write_dots

from latentwrap.datasets import Dataset
from latentwrap.errors import DatasetError, OutputExists
from latentwrap.evaluation.films import make_film, shrunk
from latentwrap.evaluation.page import format_number, render_page
from latentwrap.evaluation.report import QualityReport, evaluate_model
from latentwrap.evaluation.report_folder import ReportFolder
from latentwrap.evaluation.verdict import Level

VOID = {"meta", "img", "source", "br"}


@pytest.fixture(scope="module")
def quick() -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latentwrap.evaluation.comparison._MLP_UPDATES", 50)
        patch.setattr("latentwrap.evaluation.throughput._SECONDS", 0.01)
        yield patch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dots(tmp_path_factory.mktemp("dots") / "dots.h5", [40] * 12)


@pytest.fixture(scope="module")
def report(data: Dataset, quick: pytest.MonkeyPatch) -> QualityReport:
    return evaluate_model(DotModel(), data, seed=3)


@pytest.fixture(scope="module")
def page(report: QualityReport) -> str:
    return render_page(report)


def levels(report: QualityReport) -> dict[str, Level]:
    return {finding.topic: finding.level for finding in report.verdict.findings}


def test_a_perfect_model_is_good_at_everything(report: QualityReport) -> None:
    found = levels(report)
    assert set(found) == {"moving objects", "prediction", "states", "memory", "plainness", "drift"}
    assert {topic for topic, level in found.items() if level is not Level.GOOD} == set()
    assert report.states.r2("latent", "linear")["move[0]"] > 0.999
    assert report.states.r2("single frame", "linear")["move[0]"] < 0.1
    assert report.notes == ["The kind dot has no KL: there is nothing to collapse."]


def test_each_failure_is_named(data: Dataset, quick: pytest.MonkeyPatch) -> None:
    blind = levels(evaluate_model(DotModel(sees=False), data))
    assert blind["moving objects"] is Level.POOR
    assert blind["prediction"] is Level.POOR
    forgetful = levels(evaluate_model(DotModel(forgets=True), data))
    assert forgetful["memory"] is Level.POOR
    assert forgetful["states"] is Level.POOR
    assert forgetful["moving objects"] is Level.GOOD


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages take a second to draw, and not every test looks at them."""
    monkeypatch.setattr("latentwrap.evaluation.report_folder.render_page", lambda _: "a page")


@pytest.mark.usefixtures("undrawn")
def test_numbers_are_json(report: QualityReport, tmp_path: Path) -> None:
    written = ReportFolder(tmp_path / "report").write(report)
    document = json.loads(written.numbers.read_text(encoding="utf-8"))
    keys = {"probe", "open_loop", "drift", "verdict", "loss", "information", "throughput"}
    assert keys | {"model", "dataset", "split", "notes", "seed"} <= document.keys()
    assert document["open_loop"]["whole"]["model"] == [100.0] * 16
    assert document["verdict"]["level"] == "good"
    assert document["probe"]["r2"]["latent"]["linear"]["move[0]"] > 0.999
    assert document["drift"]["mlp"]["r2"].keys() == document["drift"]["linear"]["drop"].keys()
    assert document["open_loop_trained"] is None
    fit, test = document["split"]["fit_episodes"], document["split"]["test_episodes"]
    assert sorted(fit + test) == list(range(12))


class Outline(HTMLParser):
    """Checks that tags close in order; keeps images and references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.references: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        self.references += [v for k, v in attrs if k in ("src", "srcset", "href") and v]
        self.ids += [v for k, v in attrs if k == "id" and v]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_else(page: str) -> None:
    found = outline(page)
    assert page.lstrip().startswith("<!DOCTYPE html>")
    assert not re.search(r"https?://|@import|<script|<link", page)
    assert found.references
    assert all(reference.startswith("data:image/") for reference in found.references)
    assert all(image["alt"] for image in found.images)
    assert len(set(found.ids)) == len(found.ids)
    assert len(page) < 5e6
    for reference in found.references:
        content = base64.b64decode(reference.partition("base64,")[2], validate=True)
        # Links inside a picture are names of formats, which nothing loads.
        assert not re.search(rb'href="(?!#|data:)', content)


def test_the_page_says_what_was_found(page: str, report: QualityReport) -> None:
    for finding in report.verdict.findings:
        assert finding.rule.replace("<", "&lt;") in page
        assert finding.sentence in page
    assert page.count("How to read it:") == 7
    for name in ("open-loop", "probes", "drift", "map", "loss", "throughput", "pictures"):
        assert f'id="{name}"' in page
    assert 'id="information"' not in page


def test_the_animation_is_the_film(report: QualityReport, page: str) -> None:
    uri = re.search(r"data:image/webp;base64,([^\"]+)", page)
    assert uri is not None
    film = report.films[0]
    shown: list[np.ndarray] = []
    with Image.open(io.BytesIO(base64.b64decode(uri[1]))) as moving:
        for picture in ImageSequence.Iterator(moving):
            picture.load()
            # Equal pictures in a row are one that is shown for longer.
            shown += [np.asarray(picture.convert("L"), float)] * (picture.info["duration"] // 100)
    assert len(shown) == len(film.frames) == 41
    for step in (0, 20, 40):
        expected = film.pictures()[step][..., 0].astype(float)
        assert np.abs(shown[step] - expected).mean() < 6  # the codec is lossy


def test_films_show_what_they_say(data: Dataset) -> None:
    film = make_film(DotModel(), data, 2, seed=0)
    frames = data.episode(2).frames
    for name in ("frames", "filtered reconstruction", "open-loop prediction", "prior sample 1"):
        np.testing.assert_array_equal(film.rows[name], frames)
    assert film.context == 8
    assert film.strip("frames").shape == (8, 12 * 24 + 11 * 2, 1)
    assert list(film.rows)[-1] == "prior sample 1"  # without noise there is one


def test_films_of_a_noisy_model_differ_where_they_should(
    tmp_path: Path, quick: pytest.MonkeyPatch
) -> None:
    from latentwrap.datasets import collect
    from latentwrap.envs import PIXEL_PENDULUM
    from latentwrap.evaluation.pictures import reconstruct_episode

    collect(PIXEL_PENDULUM, tmp_path / "p.h5", steps=200, height=16, width=16)
    data, model = Dataset(tmp_path / "p.h5"), make_tiny_model()
    film = make_film(model, data, 0, seed=0)
    filtered = reconstruct_episode(model, data.episode(0))[:49]
    np.testing.assert_array_equal(film.filtered, filtered)
    np.testing.assert_array_equal(film.predicted[:9], filtered[:9])
    assert (film.predicted[9:] != filtered[9:]).any()
    first, second = film.samples
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1:] != second[1:]).any()
    again = make_film(model, data, 0, seed=0)
    np.testing.assert_array_equal(again.samples[1], second)


def test_without_states_probes_are_left_out(tmp_path: Path, quick: pytest.MonkeyPatch) -> None:
    data = write_dots(tmp_path / "plain.h5", [20] * 4, states=False)
    report = evaluate_model(DotModel(), data)
    assert report.states.probes == []
    assert report.to_json()["drift"] == {}
    page = render_page(report)
    outline(page)
    assert 'id="probes"' not in page
    assert 'id="drift"' not in page
    assert "no /state columns" in page
    assert set(levels(report)) == {"moving objects", "prediction"}


@pytest.mark.parametrize("lengths", [[1], [5], [40], [1, 1], [2, 3, 2]])
def test_tiny_datasets_are_no_reason_to_fail(
    tmp_path: Path, lengths: list[int], quick: pytest.MonkeyPatch
) -> None:
    report = evaluate_model(DotModel(), write_dots(tmp_path / "tiny.h5", lengths))
    outline(render_page(report))
    json.dumps(report.to_json(), default=str)
    if len(lengths) == 1:
        assert any("a single episode" in note for note in report.notes)


def test_a_misfit_is_refused(data: Dataset) -> None:
    with pytest.raises(DatasetError, match="frames of shape"):
        evaluate_model(make_tiny_model(), data)


def test_a_missing_extra_leaves_the_numbers(
    report: QualityReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("jinja2", "matplotlib", "imageio.v3"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            written = ReportFolder(tmp_path / module).write(report)
        assert written.page is None
        assert written.note is not None
        assert "pip install 'latentwrap[report]'" in written.note
        assert json.loads(written.numbers.read_text(encoding="utf-8"))["seed"] == 3
    written = ReportFolder(tmp_path / "jinja2").write(report)
    assert written.page is not None
    assert written.page.stat().st_size > 10_000


@pytest.mark.usefixtures("undrawn")
def test_only_a_report_is_replaced(report: QualityReport, tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path / "report")
    folder.prepare(force=False)
    folder.write(report)
    with pytest.raises(OutputExists, match="exists already"):
        folder.prepare(force=False)
    folder.prepare(force=True)
    for content in ("{}", "no JSON"):
        folder.numbers.write_text(content, encoding="utf-8")
        with pytest.raises(OutputExists, match="did not write it"):
            folder.prepare(force=True)
    with pytest.raises(OutputExists, match="did not write it"):
        ReportFolder(folder.page).prepare(force=True)


def test_numbers_for_people() -> None:
    assert format_number(1234567) == "1,234,567"
    assert format_number(None) == "–"
    assert format_number(-0.0004) == "0.000"
    assert format_number(np.float64(-1.5), 1) == "-1.5"


def test_large_frames_are_shrunk_for_the_page() -> None:
    frames = np.arange(3 * 200 * 150 * 3).reshape(3, 200, 150, 3).astype(np.uint8)
    assert shrunk(frames).shape == (3, 96, 72, 3)
    grey = np.full((2, 192, 96, 1), 7, np.uint8)
    np.testing.assert_array_equal(shrunk(grey), np.full((2, 96, 48, 1), 7))
    np.testing.assert_array_equal(shrunk(frames[:, :96, :96]), frames[:, :96, :96])


def test_strips_are_pictures(page: str) -> None:
    uri = re.search(r'class="row" src="data:image/png;base64,([^"]+)', page)
    assert uri is not None
    content = np.frombuffer(base64.b64decode(uri[1]), np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_UNCHANGED).shape == (8, 12 * 24 + 11 * 2)
