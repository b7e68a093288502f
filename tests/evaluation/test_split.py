"""Which episodes a report fits probes on and measures on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.dots import DotModel, write_dots

from latentwrap.datasets import Dataset
from latentwrap.evaluation.split import split_for_report
from latentwrap.models import LatentModel
from latentwrap.models.base import CheckpointInfo
from latentwrap.seeding import numpy_generator


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return write_dots(tmp_path / "dots.h5", [5, 6, 7, 8, 9])


def trained(data: Dataset, heldout: list[int]) -> LatentModel:
    model = DotModel()
    training = {"dataset": data.fingerprint(), "heldout_episodes": heldout}
    model.checkpoint = CheckpointInfo("m.safetensors", "0", {"training": training})
    return model


def test_heldout_episodes_of_the_training_data(data: Dataset) -> None:
    split = split_for_report(trained(data, [1, 3]), data, numpy_generator(0))
    assert split.test.tolist() == [1, 3]
    assert split.fit.tolist() == [0, 2, 4]
    assert split.trained_on
    assert split.unseen
    assert "2 episodes that were held out" in split.note


def test_halves_of_another_dataset(data: Dataset, tmp_path: Path) -> None:
    other = write_dots(tmp_path / "other.h5", [5, 6, 7, 8])
    split = split_for_report(trained(other, [1, 3]), data, numpy_generator(0))
    assert sorted([*split.fit, *split.test]) == [0, 1, 2, 3, 4]
    assert (len(split.fit), len(split.test)) == (2, 3)
    assert not split.trained_on
    assert split.unseen
    again = split_for_report(trained(other, [1, 3]), data, numpy_generator(0))
    np.testing.assert_array_equal(split.test, again.test)


@pytest.mark.parametrize("heldout", [[], [0, 1, 2, 3, 4], [17]])
def test_without_heldout_episodes_the_note_says_so(data: Dataset, heldout: list[int]) -> None:
    split = split_for_report(trained(data, heldout), data, numpy_generator(0))
    assert sorted([*split.fit, *split.test]) == [0, 1, 2, 3, 4]
    assert not split.unseen
    assert "none was held out" in split.note


def test_a_single_episode_is_tested_on(tmp_path: Path) -> None:
    data = write_dots(tmp_path / "one.h5", [9])
    split = split_for_report(DotModel(), data, numpy_generator(0))
    assert split.test.tolist() == [0]
    assert split.fit.tolist() == []
    assert "no probe" in split.note
