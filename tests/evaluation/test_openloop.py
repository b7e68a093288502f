"""Open-loop prediction against a world that is known exactly, and errors by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.dots import BRIGHT, DARK, DotModel, write_dots

from latentwrap.datasets import Dataset
from latentwrap.errors import DatasetError
from latentwrap.evaluation.openloop import NO_ERROR, Reference, moving_region, open_loop, psnr
from latentwrap.evaluation.stretches import read_stretches
from latentwrap.models import LatentModel, map_belief
from latentwrap.seeding import numpy_generator
from latentwrap.training.statistics import filter_beliefs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dots(tmp_path_factory.mktemp("dots") / "dots.h5", [30] * 8)


def test_a_perfect_model_makes_no_error(data: Dataset) -> None:
    result = open_loop(
        DotModel(), data, np.arange(8), generator=numpy_generator(0), horizon=10, windows=40
    )
    assert (result.horizon, result.windows) == (10, 40)
    assert result.whole["model"] == [NO_ERROR] * 11
    assert result.moving["model"] == [NO_ERROR] * 11
    assert result.whole["copy"][0] == NO_ERROR
    assert max(result.whole["copy"][1:] + result.whole["mean"]) < 25
    # The bar is small: what moves is a harder measure than the whole frame.
    assert max(result.moving["copy"][1:] + result.moving["mean"]) < 15
    assert 0 < result.moving_share < 0.5


def test_a_model_that_misses_the_bar_is_no_better_than_the_background(data: Dataset) -> None:
    result = open_loop(DotModel(sees=False), data, np.arange(8), generator=numpy_generator(0))
    assert result.moving["model"][0] < result.moving["mean"][0]
    # An empty background is right about most pixels.
    assert result.whole["model"][0] > result.moving["model"][0] + 5


def test_errors_by_hand(tmp_path: Path) -> None:
    """One episode of two frames: one window, one step."""
    data = write_dots(tmp_path / "dots.h5", [1])
    before, after = data.frames(slice(0, 2)).astype(float)
    result = open_loop(DotModel(sees=False), data, np.array([0]), generator=numpy_generator(0))
    assert (result.horizon, result.windows) == (1, 1)
    mean = np.rint((before + after) / 2)
    for name, guess in {"copy": before, "mean": mean, "model": np.full_like(after, DARK)}.items():
        error = np.mean((guess - after) ** 2)
        assert result.whole[name][1] == pytest.approx(10 * np.log10(255**2 / error))
    median = np.median([before, after], axis=0)
    moved = (np.abs(after - before) > 20) | (np.abs(after - median) > 20)
    region = np.zeros(moved.shape[:2], bool)
    for row, column in zip(*np.nonzero(moved[..., 0]), strict=True):
        region[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    error = np.mean((before - after)[region] ** 2)
    assert result.moving["copy"][1] == pytest.approx(10 * np.log10(255**2 / error))


def test_beliefs_come_from_the_beginning_and_actions_from_the_right_place(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows from the middle of episodes equal a filter and a prediction written out."""
    model = DotModel()
    seen: list[torch.Tensor] = []
    plain = DotModel.predict

    def spy(self: DotModel, belief: object, action: torch.Tensor, noise: object = None) -> object:
        after = plain(self, belief, action)
        seen.append(self.decode(after))
        return after

    monkeypatch.setattr(DotModel, "predict", spy)
    open_loop(model, data, np.array([3]), generator=numpy_generator(0), horizon=5, windows=4)
    episode = data.episode(3)
    found = torch.stack(seen, dim=1).numpy()  # windows, steps
    assert found.shape[:2] == (4, 5)
    for window in found:
        # A perfect prediction is a run of frames of the episode, after 8 frames or more.
        runs = [np.array_equal(window, episode.frames[t + 1 : t + 6]) for t in range(26)]
        assert any(runs[8:])


def test_nothing_that_moves_has_no_error_in_it() -> None:
    still = np.full((4, 4, 3), 7, np.uint8)
    moved = still.copy()
    moved[1, 1, 2] += 20
    assert not moving_region(moved, still).any()
    moved[1, 1, 2] += 1
    expected = np.zeros((4, 4), bool)
    expected[:3, :3] = True
    np.testing.assert_array_equal(moving_region(moved, still), expected)


def test_psnr() -> None:
    assert psnr(255.0**2) == 0
    assert psnr(0.0) == NO_ERROR
    assert np.isnan(psnr(float("nan")))


def test_the_horizon_is_shorter_where_half_of_the_episodes_are(tmp_path: Path) -> None:
    data = write_dots(tmp_path / "short.h5", [3, 6, 6, 40])
    result = open_loop(DotModel(), data, np.arange(4), generator=numpy_generator(0))
    assert result.horizon == 6
    assert result.whole["model"] == [NO_ERROR] * 7


def test_the_median_is_the_background(data: Dataset) -> None:
    reference = Reference.of(data)
    assert (reference.median == DARK).all()
    assert DARK < reference.mean.max() < BRIGHT


def test_misfits_are_refused(data: Dataset, tiny_model: LatentModel) -> None:
    with pytest.raises(DatasetError, match="frames of shape"):
        open_loop(tiny_model, data, np.arange(2), generator=numpy_generator(0))
    with pytest.raises(DatasetError, match="at least one episode"):
        open_loop(DotModel(), data, np.array([], int), generator=numpy_generator(0))


def test_the_same_seed_gives_the_same_numbers(data: Dataset) -> None:
    first, second, other = (
        open_loop(DotModel(), data, np.arange(8), generator=numpy_generator(seed), windows=9)
        for seed in (1, 1, 2)
    )
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert first.whole != other.whole


def test_stretches_are_beginnings_of_episodes(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "latentwrap.evaluation.stretches._BYTES_AT_ONCE", 25 * int(np.prod(data.info.frame.shape))
    )
    batches = list(read_stretches(DotModel(), data, np.array([1, 4, 7]), longest=12))
    assert [len(batch.lengths) for batch in batches] == [2, 1]
    np.testing.assert_array_equal(batches[1].frames[0].numpy(), data.episode(7).frames[:12])
    np.testing.assert_allclose(batches[0].actions[1, :, 0], data.episode(4).actions[:11, 0] / 2)
    beliefs = list(filter_beliefs(DotModel(), batches[1].frames, batches[1].actions))
    places = map_belief(lambda *each: torch.cat(each), *beliefs).place
    assert len(places) == 12
